//! `File`: the file primitives as the engine uses them.

use std::io::{self, ErrorKind as Os, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, TryLockError};

use super::{Disk, Open, RawFile, RawMap, forks};
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{Mutex, MutexGuard};

/// An open file. Transfers are whole or fail; interrupted calls are made again.
///
/// A failed write (but for want of space) or a failed sync ends the handle: what is on disk is no longer known, and
/// every later write, sync or truncation answers [`Poisoned`](crate::ErrorKind::Poisoned) until the file is opened again. After a write
/// that failed for want of space the file may be longer than before: cut it back with [`File::truncate`].
///
/// It belongs to the process that opened it: a fork of that process shares its locks, so nothing would keep the writes of
/// the two apart. There it answers [`Poisoned`](crate::ErrorKind::Poisoned) to all but reads.
///
/// Dropping the handle closes it, without a sync.
#[derive(Debug)]
pub struct File {
    raw: Box<dyn RawFile>,
    path: PathBuf,
    failed: AtomicBool,
    /// The [`forks`] at which it was opened.
    forks: u32,
    // Keeps the threads that share this handle apart; the file's lock keeps everybody else out.
    gate: Mutex<()>,
    // Of two syncs at once the kernel tells one that it has failed, and the other that all is well.
    syncing: Mutex<()>,
}

impl File {
    /// Opens a file. Nothing is synced: a new name is durable after [`Disk::sync_dir`].
    pub fn open(disk: &dyn Disk, path: &Path, how: Open) -> Result<File> {
        let raw = retry(|| disk.open(path, how)).map_err(|e| Error::io("open it", path, e))?;
        let path = path.to_path_buf();
        let (failed, forks) = (AtomicBool::new(false), forks());
        Ok(File { raw, path, failed, forks, gate: Mutex::new(()), syncing: Mutex::new(()) })
    }

    /// As [`File::open`], but `None` where there is no such file.
    pub fn open_existing(disk: &dyn Disk, path: &Path, how: Open) -> Result<Option<File>> {
        match File::open(disk, path, how) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == crate::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Syncs and closes. For a file that was only read, dropping it is enough.
    pub fn close(self) -> Result<()> {
        self.sync()
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the exclusive lock of the whole file and waits for it; released when the guard is dropped.
    ///
    /// It excludes other threads (through this handle or another), other processes, and libjlog, whose locks it
    /// meets both ways; it is lost neither by closing another descriptor of the file nor by the death of a thread, and the
    /// kernel releases it when the process dies. The file must be open for writing. Not reentrant.
    pub fn lock(&self) -> Result<LockGuard<'_>> {
        require_process(self.forks, &self.path)?;
        let gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        retry(|| self.raw.lock(true)).map_err(|e| Error::io("lock it", &self.path, e))?;
        Ok(LockGuard { file: self, _gate: gate })
    }

    /// As [`File::lock`], but `None` at once where somebody else holds it.
    pub fn try_lock(&self) -> Result<Option<LockGuard<'_>>> {
        require_process(self.forks, &self.path)?;
        let gate = match self.gate.try_lock() {
            Ok(gate) => gate,
            // A thread panicked with the lock; dropping its guard released it.
            Err(TryLockError::Poisoned(gate)) => gate.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(None),
        };
        let taken = retry(|| self.raw.lock(false)).map_err(|e| Error::io("lock it", &self.path, e))?;
        Ok(taken.then_some(LockGuard { file: self, _gate: gate }))
    }

    /// As [`File::lock`], for who keeps the lock beyond one call: it owns the file with it, and any thread may release it.
    /// It keeps out everybody else, but not the threads that share this handle: their owner sees to that.
    pub(crate) fn lock_owned(self: &Arc<File>) -> Result<OwnedLock> {
        require_process(self.forks, &self.path)?;
        retry(|| self.raw.lock(true)).map_err(|e| Error::io("lock it", &self.path, e))?;
        Ok(OwnedLock { file: Arc::clone(self) })
    }

    /// As [`File::lock_owned`], but `None` at once where somebody else holds it.
    pub(crate) fn try_lock_owned(self: &Arc<File>) -> Result<Option<OwnedLock>> {
        require_process(self.forks, &self.path)?;
        let taken = retry(|| self.raw.lock(false)).map_err(|e| Error::io("lock it", &self.path, e))?;
        Ok(taken.then(|| OwnedLock { file: Arc::clone(self) }))
    }

    /// The process that holds the lock: `None` if it is free, `Some(None)` if the holder cannot be named (only
    /// libjlog's locks carry a process number).
    pub fn lock_holder(&self) -> Result<Option<Option<u32>>> {
        self.raw.lock_holder().map_err(|e| Error::io("ask who holds the lock", &self.path, e))
    }

    /// Whether this file is open anywhere else, in this process or another; `None` where the system cannot tell.
    pub fn opened_elsewhere(&self) -> Result<Option<bool>> {
        self.raw.opened_elsewhere().map_err(|e| Error::io("ask who has it open", &self.path, e))
    }

    /// Reads exactly `buffer.len()` bytes at `offset`; the end of the file before that is an error.
    pub fn pread(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        let wanted = buffer.len();
        let got = self.pread_up_to(buffer, offset)?;
        if got == wanted {
            return Ok(());
        }
        let end = offset.saturating_add(got as u64);
        Err(Error::damaged(
            "read it",
            &self.path,
            end,
            format!("the file ends here, {} bytes too early", wanted - got),
        ))
    }

    /// Reads until `buffer` is full or the file ends, and returns how many bytes that were.
    pub fn pread_up_to(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let mut got = 0;
        while got < buffer.len() {
            let at = offset.saturating_add(got as u64);
            let step = retry(|| self.raw.pread(&mut buffer[got..], at))
                .map_err(|e| Error::io("read it", &self.path, e).byte(at))?;
            if step == 0 {
                break;
            }
            got += step;
        }
        Ok(got)
    }

    /// Writes all of `bytes` at `offset`, into the kernel: durable after [`File::sync`].
    pub fn pwrite(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.alive()?;
        let mut done = 0;
        while done < bytes.len() {
            let at = offset.saturating_add(done as u64);
            done += self.written(retry(|| self.raw.pwrite(&bytes[done..], at)), at)?;
        }
        Ok(())
    }

    /// Writes all the pieces, one behind the other, at `offset`, into the kernel: durable after [`File::sync`].
    pub fn pwritev(&self, pieces: &mut [IoSlice<'_>], offset: u64) -> Result<()> {
        self.alive()?;
        let mut left = pieces;
        let mut at = offset;
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            // The kernel takes at most 1024 pieces a call.
            let batch = &left[..left.len().min(1024)];
            let step = self.written(retry(|| self.raw.pwritev(batch, at)), at)?;
            at = at.saturating_add(step as u64);
            IoSlice::advance_slices(&mut left, step);
        }
        Ok(())
    }

    /// Makes what was written durable (fdatasync): on disk when it returns.
    pub fn sync(&self) -> Result<()> {
        require_process(self.forks, &self.path)?;
        let _turn = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        self.alive()?;
        retry(|| self.raw.sync()).map_err(|e| {
            self.failed.store(true, Ordering::Release);
            // Never "no space, try again": after a failed sync nobody knows what is on the disk.
            Error::io("sync it", &self.path, e).of_kind(ErrorKind::Io)
        })
    }

    /// What must never be done with a sync that failed.
    #[cfg(planted_bugs)]
    pub(crate) fn sync_again(&self) -> Result<()> {
        self.failed.store(false, Ordering::Release);
        self.sync()
    }

    /// Makes the next read show what is on the disk, not what the kernel remembers: after a sync that failed the two
    /// differ. What was written and not synced is synced first.
    pub fn drop_cache(&self) -> Result<()> {
        self.sync()?;
        self.raw.drop_cache().map_err(|e| Error::io("drop what is cached of it", &self.path, e))
    }

    /// The size in bytes.
    pub fn size(&self) -> Result<u64> {
        self.raw.size().map_err(|e| Error::io("ask for its size", &self.path, e))
    }

    /// Cuts the file, or extends it with zeros; durable after [`File::sync`].
    pub fn truncate(&self, size: u64) -> Result<()> {
        self.alive()?;
        retry(|| self.raw.truncate(size)).map_err(|e| {
            self.failed.store(true, Ordering::Release);
            Error::io("cut or extend it", &self.path, e).byte(size)
        })
    }

    /// Maps the file as it is now, to read.
    pub fn map_read(&self) -> Result<Map> {
        self.map(|len| self.raw.map_read(len))
    }

    /// Maps the file as it is now, to read and write. Stores are seen at once by every other mapping and by pread;
    /// they survive the death of the process, and a power cut after [`Map::sync`].
    pub fn map_rdwr(&self) -> Result<Map> {
        self.alive()?;
        self.map(|len| self.raw.map_rdwr(len))
    }

    fn map(&self, make: impl FnOnce(usize) -> io::Result<Box<dyn RawMap>>) -> Result<Map> {
        let failed = |e| Error::io("map it", &self.path, e);
        let len = usize::try_from(self.size()?).map_err(|_| failed(Os::FileTooLarge.into()))?;
        let raw = make(len).map_err(failed)?;
        Ok(Map { raw, path: self.path.clone(), failed: AtomicBool::new(false), forks: self.forks })
    }

    fn alive(&self) -> Result<()> {
        require_process(self.forks, &self.path)?;
        if self.failed.load(Ordering::Acquire) { Err(Error::poisoned(&self.path)) } else { Ok(()) }
    }

    /// The outcome of one write call: progress, or the end of the handle.
    fn written(&self, outcome: io::Result<usize>, at: u64) -> Result<usize> {
        let error = match outcome {
            // A device that takes nothing and reports nothing would make the loop above endless.
            Ok(0) => io::Error::new(Os::WriteZero, "the write was accepted but wrote nothing"),
            Ok(step) => return Ok(step),
            Err(error) => error,
        };
        if !matches!(error.kind(), Os::StorageFull | Os::QuotaExceeded | Os::FileTooLarge) {
            self.failed.store(true, Ordering::Release);
        }
        Err(Error::io("write it", &self.path, error).byte(at))
    }
}

/// The exclusive lock of a [`File`], released when dropped.
#[derive(Debug)]
pub struct LockGuard<'a> {
    file: &'a File,
    _gate: MutexGuard<'a, ()>,
}

impl LockGuard<'_> {
    /// Leaves the file locked until its handle is closed. The handle can take no other lock from then on.
    pub fn keep(self) {
        std::mem::forget(self);
    }

    /// Releases the lock. Dropping the guard does the same and ignores a failure, which no file system is known to give.
    pub fn unlock(self) -> Result<()> {
        require_process(self.file.forks, &self.file.path)?;
        self.file.raw.unlock().map_err(|e| Error::io("unlock it", &self.file.path, e))
    }
}

impl Drop for LockGuard<'_> {
    fn drop(&mut self) {
        // A fork's copy: the lock is its parent's.
        if self.file.forks == forks() {
            let _ = self.file.raw.unlock();
        }
    }
}

/// The exclusive lock of a [`File`] that it owns with others, released when dropped: see [`File::lock_owned`].
#[derive(Debug)]
pub(crate) struct OwnedLock {
    file: Arc<File>,
}

impl Drop for OwnedLock {
    fn drop(&mut self) {
        // A fork's copy: the lock is its parent's.
        if self.file.forks == forks() {
            let _ = self.file.raw.unlock();
        }
    }
}

/// A mapped file: see [`File::map_read`] and [`File::map_rdwr`]. A failed sync ends it, as it ends a [`File`].
#[derive(Debug)]
pub struct Map {
    raw: Box<dyn RawMap>,
    path: PathBuf,
    failed: AtomicBool,
    forks: u32,
}

impl Map {
    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.raw.len()
    }

    /// Whether it maps nothing.
    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// Copies bytes out; past the end is an error.
    pub fn read(&self, at: usize, into: &mut [u8]) -> Result<()> {
        self.raw.read(at, into).map_err(|e| Error::io("read the mapping", &self.path, e).byte(at as u64))
    }

    /// Copies bytes in; past the end is an error.
    pub fn write(&self, at: usize, bytes: &[u8]) -> Result<()> {
        self.alive()?;
        self.raw.write(at, bytes).map_err(|e| Error::io("write the mapping", &self.path, e).byte(at as u64))
    }

    /// Stores an aligned word at once, after all that was written before it.
    pub fn publish(&self, at: usize, word: [u8; 4]) -> Result<()> {
        self.alive()?;
        self.raw.publish(at, word).map_err(|e| Error::io("write the mapping", &self.path, e).byte(at as u64))
    }

    /// Makes the mapped bytes durable (msync): on disk when it returns.
    pub fn sync(&self) -> Result<()> {
        self.alive()?;
        self.raw.sync().map_err(|e| {
            self.failed.store(true, Ordering::Release);
            Error::io("sync the mapping", &self.path, e)
        })
    }

    fn alive(&self) -> Result<()> {
        require_process(self.forks, &self.path)?;
        if self.failed.load(Ordering::Acquire) { Err(Error::poisoned(&self.path)) } else { Ok(()) }
    }
}

/// Refuses a handle that was opened by the process that this one was forked from.
pub(crate) fn require_process(opened_at: u32, path: &Path) -> Result<()> {
    if opened_at == forks() {
        return Ok(());
    }
    let what = "it was opened before this process was forked from the one that has it; open it here";
    Err(Error::new(ErrorKind::Poisoned, "use a handle", what).at(path))
}

/// Makes a system call again for as long as signals interrupt it.
fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == Os::Interrupted => {}
            outcome => return outcome,
        }
    }
}
