//! `OpenFiles`: a few segments that are held open, so that a point read is one system call.

use std::sync::{Arc, PoisonError};

use crate::id::SegmentId;
use crate::io::File;
use crate::sync::{Mutex, MutexGuard};

/// So many segments are held open; of more, the one that was used least recently goes.
const MOST: usize = 64;

/// The segments that are held open. No lock is held while a file is opened, read or closed.
#[derive(Debug, Default)]
pub(crate) struct OpenFiles(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    files: Vec<Used>,
    /// Counts uses, to tell which was the last.
    uses: u64,
    /// Counts the files that were forgotten: who opened one before that may hold what is not there any more.
    forgotten: u64,
}

#[derive(Debug)]
struct Used {
    id: SegmentId,
    file: Arc<File>,
    last: u64,
}

/// What was forgotten when somebody began to open a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Since(u64);

impl OpenFiles {
    /// The file of a segment, if it is held open; else what to give back to [`OpenFiles::keep`] with it.
    pub(crate) fn find(&self, id: SegmentId) -> Result<Arc<File>, Since> {
        let mut held = self.held();
        held.uses += 1;
        let now = held.uses;
        match held.files.iter_mut().find(|used| used.id == id) {
            Some(used) => {
                used.last = now;
                Ok(Arc::clone(&used.file))
            }
            None => Err(Since(held.forgotten)),
        }
    }

    /// Holds a file open, unless it may have been replaced or removed since.
    pub(crate) fn keep(&self, id: SegmentId, file: &Arc<File>, since: Since) {
        let mut held = self.held();
        if since != Since(held.forgotten) || held.files.iter().any(|used| used.id == id) {
            return;
        }
        held.uses += 1;
        let used = Used { id, file: Arc::clone(file), last: held.uses };
        let oldest = held.files.iter().enumerate().min_by_key(|(_, used)| used.last).map(|(n, _)| n);
        let gone = match oldest.filter(|_| held.files.len() >= MOST) {
            Some(oldest) => Some(std::mem::replace(&mut held.files[oldest], used)),
            None => {
                held.files.push(used);
                None
            }
        };
        drop(held);
        // Closed where nobody waits for it.
        drop(gone);
    }

    /// Lets go of a segment whose file was replaced or removed.
    pub(crate) fn forget(&self, id: SegmentId) -> Since {
        let mut held = self.held();
        held.forgotten += 1;
        let at = held.files.iter().position(|used| used.id == id);
        let gone = at.map(|at| held.files.swap_remove(at));
        let since = Since(held.forgotten);
        drop(held);
        drop(gone);
        since
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // Each change is whole before anything could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, feature = "sim"))]
mod tests {
    use super::*;
    use crate::io::Open;
    use crate::io::sim::SimDisk;
    use std::path::Path;

    fn file(disk: &SimDisk) -> crate::error::Result<Arc<File>> {
        File::open(disk, Path::new("/x"), Open::Create(0o600)).map(Arc::new)
    }

    #[test]
    fn the_one_used_least_recently_leaves() {
        let (disk, files) = (SimDisk::new(1), OpenFiles::default());
        let open = |id: u32| {
            let since = files.find(SegmentId(id)).unwrap_err();
            files.keep(SegmentId(id), &file(&disk).unwrap(), since);
        };
        (0..MOST as u32).for_each(open);
        files.find(SegmentId(0)).unwrap();
        open(1000);
        assert!(files.find(SegmentId(0)).is_ok() && files.find(SegmentId(1000)).is_ok());
        assert!(files.find(SegmentId(1)).is_err(), "it was the least recently used one");
        assert_eq!(files.held().files.len(), MOST);
    }

    #[test]
    fn a_file_opened_before_it_was_replaced_is_not_kept() {
        let (disk, files) = (SimDisk::new(1), OpenFiles::default());
        let id = SegmentId(7);
        let since = files.find(id).unwrap_err();
        let old = file(&disk).unwrap();
        files.forget(id);
        files.keep(id, &old, since);
        assert!(files.find(id).is_err());
    }
}
