//! What libjlog's interface asks of a log beyond the rest: its ways, where this engine's own are stricter.

use std::sync::atomic::Ordering;

use super::{Log, checkpoints, writer};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{RecordId, SegmentId};
use crate::io::{File, Open};
use crate::log::names::Subscriber;
use crate::record::classic::INDEX_ENTRY;

impl Log {
    /// As [`Log::set_checkpoint`], to any place, whether the log has it or not. Reading from one that it does not have is an
    /// error, until it has.
    pub fn force_checkpoint(&self, subscriber: &Subscriber, to: RecordId) -> Result<Vec<SegmentId>> {
        checkpoints::force(&self.shared, subscriber, to)
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

    /// Adds what was read of a classic segment to its index, as libjlog's readers do when they read on: `offsets` are those
    /// of the records behind the first `known` ones, one after another; `close` says that they are the last ones of a
    /// finished segment. False if the index does not list those first ones, and has to be made anew by
    /// [`Log::build_index`]. In the kernel when it returns.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) for a checksummed log, whose indexes its writer makes.
    pub fn extend_index(&self, segment: SegmentId, known: u32, offsets: &[u64], close: bool) -> Result<bool> {
        if self.shared.checked().is_some() {
            let what = "the writer of a checksummed log makes its indexes";
            return Err(Error::new(ErrorKind::Unsupported, "extend the index", what).at(self.path()));
        }
        let path = self.shared.index_path(segment);
        let file = File::open(&**self.shared.disk(), &path, Open::Create(writer::data_mode(&self.shared)?))?;
        let _lock = file.lock()?;
        let size = file.size()?;
        let Some(listed) = (size / INDEX_ENTRY as u64).checked_sub(u64::from(known)) else {
            return Ok(false);
        };
        if !size.is_multiple_of(INDEX_ENTRY as u64) {
            return Ok(false);
        }
        // Another reader may have come as far, or further: what it has listed stays.
        let Some(new) = usize::try_from(listed).ok().and_then(|listed| offsets.get(listed..)) else {
            return Ok(true);
        };
        let order = self.order();
        let mut bytes = vec![0; new.len() * INDEX_ENTRY];
        for (entry, offset) in bytes.chunks_exact_mut(INDEX_ENTRY).zip(new) {
            order.put_u64(entry, *offset);
        }
        // An index that lists nothing is never closed.
        if close && u64::from(known) + offsets.len() as u64 > 0 {
            bytes.extend_from_slice(&[0; INDEX_ENTRY]);
        }
        file.pwrite(&bytes, size)?;
        Ok(true)
    }
}
