//! A file of the simulated disk: what is in memory of it, what is on the disk, and the changes in between.

use std::ops::Range;
use std::sync::Arc;

/// A file. `live` is `durable` with `unsynced` done to it, unless a sync failed or a write was misdirected: what the
/// disk did not get is then only in `live`, until [`Inode::drop_cache`].
///
/// The bytes are shared with the images of a power cut until somebody changes them.
#[derive(Clone, Default)]
pub(super) struct Inode {
    pub(super) live: Arc<Vec<u8>>,
    pub(super) durable: Arc<Vec<u8>>,
    pub(super) unsynced: Vec<Change>,
    pub(super) opens: u32,
    pub(super) locked_by: Option<u64>,
}

impl Inode {
    /// A file that is durable as it is.
    pub(super) fn durable(bytes: Arc<Vec<u8>>) -> Inode {
        Inode { live: Arc::clone(&bytes), durable: bytes, ..Inode::default() }
    }

    pub(super) fn change(&mut self, change: Change) {
        change.make(Arc::make_mut(&mut self.live));
        self.unsynced.push(change);
    }

    /// Changes what is in memory. The disk learns no more of it than the size.
    pub(super) fn change_in_memory_only(&mut self, change: &Change) {
        let before = self.live.len();
        change.make(Arc::make_mut(&mut self.live));
        if self.live.len() != before {
            self.unsynced.push(Change::Size(self.live.len()));
        }
    }

    /// What another file's write does here: it reaches the disk and not the memory, and no file grows by it.
    pub(super) fn hit(&mut self, at: usize, bytes: &[u8]) {
        let len = self.durable.len().saturating_sub(at).min(bytes.len());
        if len > 0 {
            Arc::make_mut(&mut self.durable)[at..at + len].copy_from_slice(&bytes[..len]);
        }
    }

    pub(super) fn sync(&mut self) {
        if self.unsynced.is_empty() {
            return;
        }
        let durable = Arc::make_mut(&mut self.durable);
        for change in self.unsynced.drain(..) {
            change.make(durable);
        }
    }

    /// A sync that failed: the kernel forgets that there was anything to write; where `the_size_stays`, not that.
    pub(super) fn fail_sync(&mut self, the_size_stays: bool) {
        self.unsynced.clear();
        if the_size_stays && self.live.len() != self.durable.len() {
            self.unsynced.push(Change::Size(self.live.len()));
        }
    }

    /// Memory shows the disk again, and what is still to be written.
    pub(super) fn drop_cache(&mut self) {
        self.live = Arc::clone(&self.durable);
        for change in &self.unsynced {
            change.make(Arc::make_mut(&mut self.live));
        }
    }
}

/// A change of a file that is not durable yet.
#[derive(Clone)]
pub(super) enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Size(usize),
}

impl Change {
    fn make(&self, file: &mut Vec<u8>) {
        file.resize(self.size_after(file.len()), 0);
        if let Change::Write { at, bytes } = self {
            file[*at..at + bytes.len()].copy_from_slice(bytes);
        }
    }

    pub(super) fn size_after(&self, size: usize) -> usize {
        match self {
            Change::Write { at, bytes } => size.max(at + bytes.len()),
            Change::Size(size) => *size,
        }
    }

    /// The bytes it changes: a cut zeroes all that lay behind it.
    pub(super) fn span(&self) -> Range<usize> {
        match self {
            Change::Write { at, bytes } => *at..at + bytes.len(),
            Change::Size(size) => *size..usize::MAX,
        }
    }

    /// The part of it that lies in this piece of the file, counted from the piece's beginning.
    pub(super) fn part_in(&self, start: usize, len: usize) -> Range<usize> {
        let span = self.span();
        span.start.clamp(start, start + len) - start..span.end.clamp(start, start + len) - start
    }

    /// Makes it in a piece of the file that begins at `start`.
    pub(super) fn make_in(&self, start: usize, piece: &mut [u8]) {
        let part = self.part_in(start, piece.len());
        match self {
            _ if part.is_empty() => {}
            Change::Write { at, bytes } => {
                let from = start + part.start - at;
                piece[part.clone()].copy_from_slice(&bytes[from..from + part.len()]);
            }
            Change::Size(_) => piece[part].fill(0),
        }
    }
}
