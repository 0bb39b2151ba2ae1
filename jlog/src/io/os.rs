//! The operating system's disk: all of the engine's `unsafe`, and its only system calls.

use std::ffi::OsString;
use std::fs;
use std::io::{self, IoSlice, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use memmap2::{MmapOptions, MmapRaw};
use nix::fcntl::{FcntlArg, PosixFadviseAdvice, fcntl, posix_fadvise};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::{Disk, Open, PathInfo, PathKind, RawFile, RawMap, RawWatch};

/// The disk of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsDisk;

/// How many forks lie between the program's start and this process.
static FORKS: AtomicU32 = AtomicU32::new(0);
static COUNTING: Once = Once::new();

/// How many forks lie between the program's start and this process: a handle that was opened at another count belongs to
/// the process that this one was forked from. Children of `clone` called by hand, and of `vfork`, are not counted.
pub fn forks() -> u32 {
    // From the first handle on: it asks when it is made.
    count_forks();
    FORKS.load(Ordering::Relaxed)
}

extern "C" fn count_fork() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

fn count_forks() {
    COUNTING.call_once(|| {
        // SAFETY: the function lives as long as the program, and touches one atomic: a child of any process may do that.
        unsafe { libc::pthread_atfork(None, None, Some(count_fork)) };
    });
}

impl Disk for OsDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn RawFile>> {
        let mut options = fs::OpenOptions::new();
        options.read(true);
        match how {
            Open::Read => {}
            Open::ReadWrite => drop(options.write(true)),
            Open::Create(mode) => drop(options.write(true).create(true).mode(mode)),
            Open::CreateNew(mode) => drop(options.write(true).create_new(true).mode(mode)),
        }
        // A FIFO planted under a segment's name must not make the open wait for ever.
        options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);

        let file = match options.open(path) {
            // Somebody asks `opened_elsewhere` at this moment. Only a regular file can be leased, so this wait ends:
            // the kernel takes a lease away from who does not give it up.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                options.custom_flags(libc::O_NOFOLLOW).open(path)?
            }
            outcome => outcome?,
        };
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(Box::new(OsFile(file)))
    }

    fn names(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name())).collect()
    }

    fn info(&self, path: &Path, follow: bool) -> io::Result<PathInfo> {
        let meta = if follow { fs::metadata(path)? } else { fs::symlink_metadata(path)? };
        let kind = match meta.file_type() {
            t if t.is_file() => PathKind::File,
            t if t.is_dir() => PathKind::Directory,
            _ => PathKind::Other,
        };
        Ok(PathInfo { kind, len: meta.len(), mode: meta.mode() & 0o7777, owner: (meta.uid(), meta.gid()) })
    }

    fn create_dir(&self, path: &Path, mode: u32) -> io::Result<()> {
        fs::DirBuilder::new().mode(mode).create(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn free_space(&self, path: &Path) -> io::Result<u64> {
        fs2::available_space(path)
    }

    fn boot(&self) -> io::Result<[u8; 16]> {
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
        let id = u128::from_str_radix(&digits, 16).map_err(io::Error::other)?;
        Ok(id.to_be_bytes())
    }

    fn random(&self) -> io::Result<[u8; 16]> {
        let mut bytes = [0; 16];
        fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn watch(&self, dir: &Path) -> io::Result<Option<Box<dyn RawWatch>>> {
        let inotify = match Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK) {
            Ok(inotify) => inotify,
            // A user may have a limited number of watches: whoever gets none looks from time to time.
            Err(nix::Error::EMFILE | nix::Error::ENOSPC | nix::Error::ENOSYS) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        let wanted = AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE;
        match inotify.add_watch(dir, wanted) {
            Ok(_) => Ok(Some(Box::new(OsWatch(inotify)))),
            Err(nix::Error::ENOSPC | nix::Error::ENOSYS) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

#[derive(Debug)]
struct OsWatch(Inotify);

impl RawWatch for OsWatch {
    fn wait(&self, at_most: Duration) -> io::Result<bool> {
        let mut ready = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        let at_most = PollTimeout::try_from(at_most).unwrap_or(PollTimeout::MAX);
        match poll(&mut ready, at_most) {
            Ok(0) | Err(nix::Error::EINTR) => return Ok(false),
            Ok(_) => {}
            Err(errno) => return Err(errno.into()),
        }
        // All that is there at once: one look at the log answers for many events.
        while !self.0.read_events().unwrap_or_default().is_empty() {}
        Ok(true)
    }
}

#[derive(Debug)]
struct OsFile(fs::File);

/// Which signal tells of a broken lease (`asm-generic/fcntl.h`; the libc crate does not have it for glibc).
const F_SETSIG: i32 = 10;

/// The whole file, as libjlog locks it: from 0, length 0.
fn whole_file(kind: i32) -> libc::flock {
    libc::flock { l_type: kind as i16, l_whence: libc::SEEK_SET as i16, l_start: 0, l_len: 0, l_pid: 0 }
}

impl RawFile for OsFile {
    fn pread(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn pwrite(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(bytes, offset)
    }

    fn pwritev(&self, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let offset = i64::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        Ok(nix::sys::uio::pwritev(&self.0, pieces, offset)?)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn drop_cache(&self) -> io::Result<()> {
        Ok(posix_fadvise(&self.0, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?)
    }

    fn size(&self) -> io::Result<u64> {
        // Not fstat: on kernels with multigrain timestamps it makes the next write several times as slow. Nobody uses
        // the file position that this moves.
        (&self.0).seek(SeekFrom::End(0))
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.0.set_len(size)
    }

    // Open-file-description locks: they exclude libjlog's process locks both ways, two handles of one process, and
    // they survive the closing of another descriptor of the file. flock(2) would be invisible to libjlog.
    fn lock(&self, wait: bool) -> io::Result<bool> {
        let lock = whole_file(libc::F_WRLCK);
        let command = if wait { FcntlArg::F_OFD_SETLKW(&lock) } else { FcntlArg::F_OFD_SETLK(&lock) };
        match fcntl(&self.0, command) {
            Ok(_) => Ok(true),
            Err(nix::Error::EAGAIN | nix::Error::EACCES) if !wait => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    fn unlock(&self) -> io::Result<()> {
        fcntl(&self.0, FcntlArg::F_OFD_SETLK(&whole_file(libc::F_UNLCK)))?;
        Ok(())
    }

    fn lock_holder(&self) -> io::Result<Option<Option<u32>>> {
        let mut lock = whole_file(libc::F_WRLCK);
        fcntl(&self.0, FcntlArg::F_OFD_GETLK(&mut lock))?;
        if i32::from(lock.l_type) == libc::F_UNLCK {
            return Ok(None);
        }
        Ok(Some(u32::try_from(lock.l_pid).ok().filter(|pid| *pid > 0)))
    }

    // A write lease is granted only while nobody else has the file open: the kernel's own answer to the question.
    // Who opens the file before the lease is given back makes the kernel send us a signal. SIGIO would end the
    // process; SIGURG is ignored unless a program asks for it.
    fn opened_elsewhere(&self) -> io::Result<Option<bool>> {
        let fd = self.0.as_raw_fd();
        // SAFETY: `fd` is open for as long as `self.0`; F_SETSIG takes an integer and touches no memory of ours.
        if unsafe { libc::fcntl(fd, F_SETSIG, libc::SIGURG) } != 0 {
            return Ok(None);
        }
        // SAFETY: as above, of F_SETLEASE.
        let granted = unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_WRLCK) };
        if granted == 0 {
            // SAFETY: as above.
            unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK) };
            return Ok(Some(false));
        }
        match io::Error::last_os_error().raw_os_error() {
            Some(libc::EAGAIN) => Ok(Some(true)),
            _ => Ok(None),
        }
    }

    fn map_read(&self, len: usize) -> io::Result<Box<dyn RawMap>> {
        let map = MmapOptions::new().len(len).map_raw_read_only(&self.0)?;
        Ok(Box::new(OsMap { map, writable: false }))
    }

    fn map_rdwr(&self, len: usize) -> io::Result<Box<dyn RawMap>> {
        let map = MmapOptions::new().len(len).map_raw(&self.0)?;
        Ok(Box::new(OsMap { map, writable: true }))
    }
}

#[derive(Debug)]
struct OsMap {
    map: MmapRaw,
    writable: bool,
}

impl OsMap {
    fn check(&self, at: usize, len: usize, write: bool) -> io::Result<()> {
        let fits = at.checked_add(len).is_some_and(|end| end <= self.map.len());
        if fits && (self.writable || !write) {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "outside the mapping, or a store into a read-only one",
        ))
    }
}

impl RawMap for OsMap {
    fn len(&self) -> usize {
        self.map.len()
    }

    fn read(&self, at: usize, into: &mut [u8]) -> io::Result<()> {
        self.check(at, into.len(), false)?;
        // SAFETY: `check` keeps the range inside the mapping, `into` is ours alone, and no reference to the mapped
        // bytes is ever made, so another process may change them meanwhile: the copy is then a mixture, as documented.
        unsafe { std::ptr::copy_nonoverlapping(self.map.as_ptr().add(at), into.as_mut_ptr(), into.len()) };
        Ok(())
    }

    fn write(&self, at: usize, bytes: &[u8]) -> io::Result<()> {
        self.check(at, bytes.len(), true)?;
        // SAFETY: `check` keeps the range inside a mapping made writable; nobody holds a reference to its bytes.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.map.as_mut_ptr().add(at), bytes.len()) };
        Ok(())
    }

    fn publish(&self, at: usize, word: [u8; 4]) -> io::Result<()> {
        self.check(at, word.len(), true)?;
        if !at.is_multiple_of(4) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a published word must be aligned to 4"));
        }
        // SAFETY: inside the writable mapping (`check`), aligned (mappings start on a page, `at` is a multiple of 4),
        // and only ever touched atomically or by copies.
        let shared = unsafe { AtomicU32::from_ptr(self.map.as_mut_ptr().add(at).cast()) };
        shared.store(u32::from_ne_bytes(word), Ordering::Release);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.map.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use crate::io::File;

    /// A lock, and with it the right to write, is shared by a process and its forks: nothing would keep their writes apart,
    /// and whoever releases it first releases it for both.
    #[test]
    fn a_fork_neither_writes_through_a_handle_nor_releases_its_lock() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        let file = File::open(&OsDisk, &path, Open::Create(0o600)).expect("made");
        file.pwrite(b"parent", 0).expect("written");
        let map = file.map_rdwr().expect("mapped");
        let guard = file.lock().expect("locked");

        // SAFETY: the child calls nothing but functions that may follow a fork (glibc's malloc is one), and ends by _exit.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let refused = |outcome: crate::Result<()>| {
                outcome.is_err_and(|error| {
                    error.kind() == ErrorKind::Poisoned && error.to_string().contains("fork")
                })
            };
            let all = refused(file.pwrite(b"child!", 0))
                && refused(file.truncate(0))
                && refused(file.sync())
                && refused(map.write(0, b"child!"))
                && refused(file.try_lock().map(drop))
                && file.pread(&mut [0; 6], 0).is_ok();
            drop(guard);
            // SAFETY: ends this process, and runs nothing of the test harness in it.
            unsafe { libc::_exit(i32::from(!all)) };
        }
        let mut status = 0;
        // SAFETY: `status` is ours.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0, "the child wrote, or could not read");

        let other = File::open(&OsDisk, &path, Open::ReadWrite).expect("opened");
        assert!(other.try_lock().expect("asked").is_none(), "the child has released its parent's lock");
        drop(guard);
        assert!(other.try_lock().expect("asked").is_some());
        file.pwrite(b"again!", 0).expect("the parent goes on");
    }
}
