//! What is asked of the simulated disk.

use std::path::Path;
use std::sync::Arc;

/// What an operation was: each method of [`Disk`](crate::io::Disk), [`RawFile`](crate::io::RawFile) and
/// [`RawMap`](crate::io::RawMap) that reaches the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "each is named after its method")]
pub enum Op {
    Open,
    Names,
    Info,
    CreateDir,
    Remove,
    RemoveDir,
    Rename,
    SyncDir,
    FreeSpace,
    Boot,
    Pread,
    Pwrite,
    Pwritev,
    Sync,
    DropCache,
    Size,
    Truncate,
    Lock,
    Unlock,
    LockHolder,
    OpenedElsewhere,
    MapRead,
    MapRdwr,
    /// A store into a mapping. On a real disk it cannot fail; here it can, so that a disk that died stays dead.
    MapWrite,
    MapSync,
}

impl Op {
    /// How many there are.
    pub(super) const COUNT: usize = Op::MapSync as usize + 1;

    /// Whether a signal may interrupt it: the calls that [`File`](crate::io::File) makes again.
    pub(super) fn is_interruptible(self) -> bool {
        matches!(self, Op::Open | Op::Pread | Op::Pwrite | Op::Pwritev | Op::Sync | Op::Truncate | Op::Lock)
    }

    /// Whether a power cut after it may leave something else than one before it. An [`Op::Open`] does if it makes the
    /// file.
    pub(super) fn changes_the_disk(self) -> bool {
        match self {
            Op::CreateDir | Op::Remove | Op::RemoveDir | Op::Rename | Op::SyncDir => true,
            Op::Pwrite | Op::Pwritev | Op::Sync | Op::Truncate | Op::MapWrite | Op::MapSync => true,
            Op::Open | Op::Names | Op::Info | Op::FreeSpace | Op::Boot | Op::Pread | Op::DropCache => false,
            Op::Size | Op::Lock | Op::Unlock | Op::LockHolder | Op::OpenedElsewhere => false,
            Op::MapRead | Op::MapRdwr => false,
        }
    }
}

/// An operation that was asked for, whether it succeeded or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traced {
    /// What it was.
    pub op: Op,
    /// The file or directory; of a rename, the old name.
    pub path: Arc<Path>,
    /// Where in the file, in bytes.
    pub offset: Option<u64>,
    /// How many bytes were asked for; of a truncation, the new size.
    pub len: Option<u64>,
}
