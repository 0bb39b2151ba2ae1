//! The file primitives, over the seam between the engine and the disk it stands on.
//!
//! [`File`] is what the engine uses: whole transfers or an error, interrupted calls retried, a handle that a failed
//! write or sync ends. Below it lies the seam, [`Disk`] and [`RawFile`]: one system call each, short transfers and
//! interruptions included. [`OsDisk`] is the operating system; the feature `sim` adds a simulated one. The loops
//! live above the seam, so that the simulated disk exercises them.
//!
//! This module knows no records.

mod file;
mod os;
#[cfg(feature = "sim")]
pub mod sim;

use std::ffi::OsString;
use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::path::Path;
use std::time::Duration;

pub use file::{File, LockGuard, Map};
pub(crate) use file::{OwnedLock, require_process};
pub use os::{OsDisk, forks};

/// How to open a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// An existing file, to read only. Needs no write permission and can take no lock.
    Read,
    /// An existing file, to read and write.
    ReadWrite,
    /// To read and write; made with this mode (less the umask) if it is not there.
    Create(u32),
    /// To read and write; made with this mode (less the umask), an error if it is there.
    CreateNew(u32),
}

/// What lies at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// Anything else: a device, a socket, a FIFO, or a symbolic link where links are not followed.
    Other,
}

/// What is known of a path without opening it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathInfo {
    /// What it is.
    pub kind: PathKind,
    /// Its length in bytes (of a file).
    pub len: u64,
    /// Its permission bits.
    pub mode: u32,
    /// The user and the group it belongs to.
    pub owner: (u32, u32),
}

/// The disk a log lies on: names. One system call a method; failures are the operating system's.
pub trait Disk: Debug + Send + Sync {
    /// Opens a file. A symbolic link in the last place of the path is refused, and so is all but a regular file.
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn RawFile>>;
    /// The names in a directory, without `.` and `..`, in no order.
    fn names(&self, dir: &Path) -> io::Result<Vec<OsString>>;
    /// What lies at a path. With `follow`, at the end of symbolic links.
    fn info(&self, path: &Path, follow: bool) -> io::Result<PathInfo>;
    /// Makes a directory with exactly this mode, whatever the umask (as libjlog does).
    fn create_dir(&self, path: &Path, mode: u32) -> io::Result<()>;
    /// Removes a file's name.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Renames, replacing what is there. Durable after [`Disk::sync_dir`].
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes the names of a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// The bytes that may still be written on the file system of this path.
    fn free_space(&self, path: &Path) -> io::Result<u64>;
    /// Which run of the machine this is: another one after every boot. What was in memory then is gone.
    fn boot(&self) -> io::Result<[u8; 16]>;
    /// Sixteen random bytes: the identity of a new log.
    fn random(&self) -> io::Result<[u8; 16]>;
    /// Watches the files of a directory; `None` where that cannot be done, and one has to look from time to time.
    fn watch(&self, dir: &Path) -> io::Result<Option<Box<dyn RawWatch>>>;
}

/// A watch over a directory: see [`Disk::watch`].
pub trait RawWatch: Debug + Send + Sync {
    /// Waits until a file in the directory was written, made, renamed or removed since the watch began or the last
    /// wait ended, at most for this long. False if nothing was.
    fn wait(&self, at_most: Duration) -> io::Result<bool>;
}

/// An open file: one system call a method, with all that a system call may do: transfer less than asked, be interrupted.
pub trait RawFile: Debug + Send + Sync {
    /// Reads at an offset; 0 bytes at the end of the file.
    fn pread(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes at an offset.
    fn pwrite(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Writes several pieces, one behind the other, at an offset.
    fn pwritev(&self, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;
    /// Makes the data durable, and the size where it changed (fdatasync).
    fn sync(&self) -> io::Result<()>;
    /// Forgets what the kernel keeps in memory of this file and has written, or believes it has: the next read shows
    /// what is on the disk. Call it after a sync.
    fn drop_cache(&self) -> io::Result<()>;
    /// The size in bytes.
    fn size(&self) -> io::Result<u64>;
    /// Cuts or extends with zeros.
    fn truncate(&self, size: u64) -> io::Result<()>;
    /// Locks the whole file, exclusively, against every other open file description in this and every other process.
    /// `Ok(false)`: somebody holds it and `wait` is false.
    fn lock(&self, wait: bool) -> io::Result<bool>;
    /// Releases the lock.
    fn unlock(&self) -> io::Result<()>;
    /// The process that holds a conflicting lock: `None` if nobody does, `Some(None)` if it cannot be named.
    fn lock_holder(&self) -> io::Result<Option<Option<u32>>>;
    /// Whether any other open file description of this file exists, in any process: `None` if it cannot be told.
    fn opened_elsewhere(&self) -> io::Result<Option<bool>>;
    /// Maps the first `len` bytes to read.
    fn map_read(&self, len: usize) -> io::Result<Box<dyn RawMap>>;
    /// Maps the first `len` bytes to read and write, shared with every other mapping of the file.
    fn map_rdwr(&self, len: usize) -> io::Result<Box<dyn RawMap>>;
}

/// A mapped file: copied in and out, never lent, because others may change it or cut the file at any time.
///
/// A file cut below the mapping kills the process that touches what was cut (SIGBUS). Map only files of fixed size
/// that nobody cuts; the engine maps nothing but the pre_commit buffer of a classic log it writes.
pub trait RawMap: Debug + Send + Sync {
    /// Its length in bytes.
    fn len(&self) -> usize;
    /// Whether it maps nothing.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Copies bytes out. Past the end is an `InvalidInput` error.
    fn read(&self, at: usize, into: &mut [u8]) -> io::Result<()>;
    /// Copies bytes in. Past the end, or into a mapping made to read, is an `InvalidInput` error.
    fn write(&self, at: usize, bytes: &[u8]) -> io::Result<()>;
    /// Stores four bytes, aligned to 4, at once, and after all that was written before.
    fn publish(&self, at: usize, word: [u8; 4]) -> io::Result<()>;
    /// Writes the mapped pages to the disk (msync) and waits for it.
    fn sync(&self) -> io::Result<()>;
}
