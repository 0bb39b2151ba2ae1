//! What libjlog's interface asks of a log beyond the rest: its ways, where this engine's own are stricter.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::checked::control::ControlFile;
use super::checkpoints::Checkpoint;
use super::{Cursor, Log, writer};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{RecordId, SegmentId};
use crate::io::{File, Open};
use crate::log::names::Subscriber;
use crate::order::Order;
use crate::record::classic::INDEX_ENTRY;

impl Log {
    /// Opens a subscriber's checkpoint, to move it as libjlog's readers do: anywhere, and whether or not the subscriber is
    /// removed meanwhile.
    ///
    /// # Errors
    /// [`UnknownSubscriber`](ErrorKind::UnknownSubscriber).
    pub fn open_checkpoint(&self, subscriber: &Subscriber) -> Result<Checkpoint> {
        Checkpoint::open(&self.shared, subscriber)
    }

    /// A cursor behind a subscriber's checkpoint: it is told of what was given back before he had read it.
    pub fn cursor_behind(&self, checkpoint: RecordId) -> Cursor {
        Cursor::of_subscriber(Arc::clone(&self.shared), checkpoint)
    }

    /// Refuses where a writer owns this checksummed log: one that shares it would wait until the owner has closed, in the
    /// owner's own thread for ever.
    ///
    /// # Errors
    /// [`Busy`](ErrorKind::Busy).
    pub fn require_no_owner(&self) -> Result<()> {
        let log = &self.shared;
        if log.checked().is_none() {
            return Ok(());
        }
        let control = ControlFile::open(&**log.disk(), log.dir(), log.identity(), writer::data_mode(log)?)?;
        // Who shares the log has it locked for a moment.
        if control.file.try_lock()?.is_some() || control.read()?.is_none_or(|now| now.shared) {
            return Ok(());
        }
        Err(control.busy())
    }

    /// Chooses the permission bits (less the umask) of the files that this handle, and its writers and readers, make from now
    /// on. Otherwise they are those of the metastore.
    pub fn set_file_mode(&self, mode: u32) {
        self.shared.mode().store(mode & 0o666, Ordering::Relaxed);
    }

    /// The highest segment that this handle, its writers and its readers have seen to exist; no system call.
    pub fn seen_segment(&self) -> SegmentId {
        self.shared.seen()
    }

    /// Opens the index of a classic segment, to add what is read of it; made empty where there is none.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) for a checksummed log, whose indexes its writer makes.
    pub fn open_index(&self, segment: SegmentId) -> Result<Index> {
        if self.shared.checked().is_some() {
            let what = "the writer of a checksummed log makes its indexes";
            return Err(Error::new(ErrorKind::Unsupported, "extend the index", what).at(self.path()));
        }
        let (path, mode) = (self.shared.index_path(segment), writer::data_mode(&self.shared)?);
        Ok(Index { file: File::open(&**self.shared.disk(), &path, Open::Create(mode))?, order: self.order() })
    }
}

/// The index of a classic segment, which libjlog's readers extend as they read on, and cannot do without.
#[derive(Debug)]
pub struct Index {
    file: File,
    order: Order,
}

impl Index {
    /// Adds what was read: `offsets` are those of the records behind the first `known` ones, one after another; `close`
    /// says that they are the last ones of a finished segment. False if the index does not list those first ones, and has to
    /// be made anew by [`Log::build_index`]. In the kernel when it returns.
    pub fn extend(&self, known: u32, offsets: &[u64], close: bool) -> Result<bool> {
        let _lock = self.file.lock()?;
        let size = self.file.size()?;
        let listed = (size / INDEX_ENTRY as u64).checked_sub(u64::from(known));
        let Some(listed) = listed.filter(|_| size.is_multiple_of(INDEX_ENTRY as u64)) else {
            return Ok(false);
        };
        // Another reader may have come as far, or further: what it has listed stays.
        let Some(new) = usize::try_from(listed).ok().and_then(|listed| offsets.get(listed..)) else {
            return Ok(true);
        };
        let mut bytes = vec![0; new.len() * INDEX_ENTRY];
        for (entry, offset) in bytes.chunks_exact_mut(INDEX_ENTRY).zip(new) {
            self.order.put_u64(entry, *offset);
        }
        // An index that lists nothing is never closed.
        if close && u64::from(known) + offsets.len() as u64 > 0 {
            bytes.extend_from_slice(&[0; INDEX_ENTRY]);
        }
        self.file.pwrite(&bytes, size)?;
        Ok(true)
    }
}
