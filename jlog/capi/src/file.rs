//! The file primitives, `jlog_file_*`: libjlog's own, for programs that use them for their own files.
//!
//! 1 is success and 0 failure, with errno. A file has one handle in a process, however often it is opened, and is closed
//! with the last close: so a lock on it keeps threads apart as well as processes.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};

use jlog_core::io::forks;
use nix::fcntl::{FcntlArg, fcntl};

use crate::context::{guarded, lock, set_errno};

/// `jlog_file`.
pub struct JlogFile {
    file: RwLock<Opened>,
    identity: (u64, u64),
    /// Whether other processes are to be kept apart too: as the first who opened it said.
    several: bool,
    locked: Mutex<bool>,
    unlocked: Condvar,
}

/// The file, and the forks at which it was opened: a child opens it anew, because it would share its parent's locks.
struct Opened {
    file: Arc<fs::File>,
    forks: u32,
}

/// The files that are open, each with the number of times it was opened.
static OPEN: Mutex<Vec<(Arc<JlogFile>, usize)>> = Mutex::new(Vec::new());

/// 1, or 0 with errno.
fn outcome(handle: *const JlogFile, run: impl FnOnce(&JlogFile, &fs::File) -> io::Result<()>) -> c_int {
    c_int::from(with(handle, run).is_some())
}

fn with<T>(handle: *const JlogFile, run: impl FnOnce(&JlogFile, &fs::File) -> io::Result<T>) -> Option<T> {
    guarded(None, || {
        // What was never opened, or is closed, is not in the list. The list holds it while the call runs.
        let known =
            lock(&OPEN).iter().map(|(file, _)| Arc::clone(file)).find(|file| Arc::as_ptr(file) == handle);
        let Some(file) = known else {
            set_errno(libc::EBADF);
            return None;
        };
        let result = file.of_this_process().and_then(|opened| run(&file, &opened));
        Some(result.map_err(|error| set_errno(error.raw_os_error().unwrap_or(libc::EIO))).ok())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_file_open(
    path: *const c_char,
    flags: c_int,
    mode: c_int,
    several: c_int,
) -> *mut JlogFile {
    guarded(std::ptr::null_mut(), || {
        if path.is_null() {
            set_errno(libc::EINVAL);
            return None;
        }
        // SAFETY: not null, and the caller hands over a string that ends with a zero byte.
        let path = Path::new(std::ffi::OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes()));
        match open(path, flags, mode.cast_unsigned(), several != 0) {
            Ok(handle) => Some(handle.cast_mut()),
            Err(error) => {
                set_errno(error.raw_os_error().unwrap_or(libc::EIO));
                None
            }
        }
    })
}

fn open(path: &Path, flags: c_int, mode: u32, several: bool) -> io::Result<*const JlogFile> {
    let mut options = fs::OpenOptions::new();
    // What would wait to be opened, a FIFO, is not waited for: it is refused.
    options.read(true).write(true).mode(mode).custom_flags(libc::O_NONBLOCK);
    if flags & libc::O_CREAT != 0 {
        options.create(true).create_new(flags & libc::O_EXCL != 0);
    }
    let mut all = lock(&OPEN);
    let file = options.open(path)?;
    let info = file.metadata()?;
    if !info.is_file() {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let identity = (info.dev(), info.ino());
    if let Some((file, times)) = all.iter_mut().find(|(file, _)| file.identity == identity) {
        *times += 1;
        return Ok(Arc::as_ptr(file));
    }
    let file = RwLock::new(Opened { file: Arc::new(file), forks: forks() });
    let file =
        Arc::new(JlogFile { file, identity, several, locked: Mutex::new(false), unlocked: Condvar::new() });
    let handle = Arc::as_ptr(&file);
    all.push((file, 1));
    Ok(handle)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_file_close(handle: *mut JlogFile) -> c_int {
    guarded(0, || {
        let mut all = lock(&OPEN);
        let Some(slot) = all.iter().position(|(file, _)| Arc::as_ptr(file) == handle.cast_const()) else {
            set_errno(libc::EBADF);
            return None;
        };
        all[slot].1 -= 1;
        if all[slot].1 == 0 {
            all.swap_remove(slot);
        }
        Some(1)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_file_lock(handle: *mut JlogFile) -> c_int {
    outcome(handle, |handle, file| {
        let mut locked = lock(&handle.locked);
        while *locked {
            locked = handle.unlocked.wait(locked).unwrap_or_else(PoisonError::into_inner);
        }
        // The thread's turn is its own from here on; whoever is next waits above while this one waits for processes.
        *locked = true;
        drop(locked);
        let taken = handle.fcntl(file, libc::F_WRLCK);
        if taken.is_err() {
            handle.let_go();
        }
        taken
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_file_unlock(handle: *mut JlogFile) -> c_int {
    outcome(handle, |handle, file| {
        if !*lock(&handle.locked) {
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
        let released = handle.fcntl(file, libc::F_UNLCK);
        handle.let_go();
        released
    })
}

impl JlogFile {
    /// The file as this process has it open.
    fn of_this_process(&self) -> io::Result<Arc<fs::File>> {
        {
            let opened = self.file.read().unwrap_or_else(PoisonError::into_inner);
            if opened.forks == forks() {
                return Ok(Arc::clone(&opened.file));
            }
        }
        let mut opened = self.file.write().unwrap_or_else(PoisonError::into_inner);
        if opened.forks != forks() {
            // The same file, whatever has become of its name.
            let again = format!("/proc/self/fd/{}", opened.file.as_raw_fd());
            opened.file = Arc::new(fs::OpenOptions::new().read(true).write(true).open(again)?);
            opened.forks = forks();
            *lock(&self.locked) = false;
        }
        Ok(Arc::clone(&opened.file))
    }

    /// The lock of the whole file, which libjlog's locks meet. It belongs to this open file: closing another one of the
    /// same file does not drop it, as it drops libjlog's.
    fn fcntl(&self, file: &fs::File, kind: c_int) -> io::Result<()> {
        if !self.several {
            return Ok(());
        }
        let lock = libc::flock {
            l_type: kind as i16,
            l_whence: libc::SEEK_SET as i16,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        loop {
            match fcntl(file, FcntlArg::F_OFD_SETLKW(&lock)) {
                Err(nix::Error::EINTR) => {}
                outcome => return Ok(outcome.map(drop)?),
            }
        }
    }

    fn let_go(&self) {
        *lock(&self.locked) = false;
        self.unlocked.notify_one();
    }
}

/// An offset that a file can have.
fn offset(offset: i64) -> io::Result<u64> {
    u64::try_from(offset).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

fn null() -> io::Error {
    io::Error::from_raw_os_error(libc::EFAULT)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_file_pread(
    handle: *mut JlogFile,
    buffer: *mut c_void,
    len: usize,
    at: i64,
) -> c_int {
    outcome(handle, |_, file| {
        if len == 0 {
            return Ok(());
        }
        if buffer.is_null() || isize::try_from(len).is_err() {
            return Err(null());
        }
        // SAFETY: not null, and the caller's buffer has `len` bytes that nobody else uses during the call. They are bytes
        // of any value; reading them before they are written is never done.
        let buffer = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), len) };
        file.read_exact_at(buffer, offset(at)?)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_file_pwrite(
    handle: *mut JlogFile,
    buffer: *const c_void,
    len: usize,
    at: i64,
) -> c_int {
    outcome(handle, |_, file| {
        // SAFETY: as this call's.
        let bytes = unsafe { bytes_at(buffer, len) }?;
        file.write_all_at(bytes, offset(at)?)
    })
}

/// The bytes that a caller hands over.
///
/// # Safety
/// Where `buffer` is not null, it points to `len` bytes that nobody changes during the call.
unsafe fn bytes_at<'a>(buffer: *const c_void, len: usize) -> io::Result<&'a [u8]> {
    if len == 0 {
        return Ok(&[]);
    }
    if buffer.is_null() || isize::try_from(len).is_err() {
        return Err(null());
    }
    // SAFETY: not null, not longer than memory can be, and as the caller promises.
    Ok(unsafe { std::slice::from_raw_parts(buffer.cast(), len) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_file_pwritev(
    handle: *mut JlogFile,
    pieces: *const libc::iovec,
    count: c_int,
    at: i64,
) -> c_int {
    outcome(handle, |_, file| write_pieces(file, pieces, count, at, None))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_file_pwritev_verify_return_value(
    handle: *mut JlogFile,
    pieces: *const libc::iovec,
    count: c_int,
    at: i64,
    expected: usize,
) -> c_int {
    outcome(handle, |_, file| write_pieces(file, pieces, count, at, Some(expected)))
}

/// Writes all pieces; an error if they are not as long as expected, which is found out before anything is written.
fn write_pieces(
    file: &fs::File,
    pieces: *const libc::iovec,
    count: c_int,
    at: i64,
    expected: Option<usize>,
) -> io::Result<()> {
    let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
    let count = usize::try_from(count).map_err(|_| invalid())?;
    if count > 0 && pieces.is_null() {
        return Err(null());
    }
    let mut parts = Vec::with_capacity(count.min(1024));
    for n in 0..count {
        // SAFETY: the caller hands over `count` pieces, and each of them is as long as it says.
        let part = unsafe {
            let piece = pieces.add(n).read();
            bytes_at(piece.iov_base, piece.iov_len)?
        };
        parts.push(io::IoSlice::new(part));
    }
    let total: usize = parts.iter().map(|part| part.len()).sum();
    if expected.is_some_and(|expected| expected != total) {
        return Err(invalid());
    }
    let mut at = offset(at)?;
    let mut left = &mut parts[..];
    io::IoSlice::advance_slices(&mut left, 0);
    while !left.is_empty() {
        let from = i64::try_from(at).map_err(|_| invalid())?;
        match nix::sys::uio::pwritev(file, &left[..left.len().min(1024)], from) {
            Ok(0) => return Err(io::Error::from_raw_os_error(libc::EIO)),
            Ok(written) => {
                at += written as u64;
                io::IoSlice::advance_slices(&mut left, written);
            }
            Err(nix::Error::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_file_sync(handle: *mut JlogFile) -> c_int {
    outcome(handle, |_, file| file.sync_data())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_file_map_rdwr(
    handle: *mut JlogFile,
    base: *mut *mut c_void,
    len: *mut usize,
) -> c_int {
    outcome(handle, |_, file| map(file, libc::PROT_READ | libc::PROT_WRITE, base, len))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_file_map_read(
    handle: *mut JlogFile,
    base: *mut *mut c_void,
    len: *mut usize,
) -> c_int {
    outcome(handle, |_, file| map(file, libc::PROT_READ, base, len))
}

/// Maps the whole file for the caller, who unmaps it.
fn map(file: &fs::File, protection: c_int, base: *mut *mut c_void, len: *mut usize) -> io::Result<()> {
    if base.is_null() || len.is_null() {
        return Err(null());
    }
    let size =
        usize::try_from(file.metadata()?.len()).map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))?;
    let fd = file.as_raw_fd();
    // SAFETY: a new shared mapping of an open file, at a place of the kernel's choice; it is the caller's.
    let mapped = unsafe { libc::mmap(std::ptr::null_mut(), size, protection, libc::MAP_SHARED, fd, 0) };
    if mapped == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    crate::context::give(base, mapped);
    crate::context::give(len, size);
    Ok(())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_file_size(handle: *mut JlogFile) -> i64 {
    let size = with(handle, |_, file| Ok(file.metadata()?.len()));
    size.and_then(|size| i64::try_from(size).ok()).unwrap_or(-1)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_file_truncate(handle: *mut JlogFile, len: i64) -> c_int {
    outcome(handle, |_, file| file.set_len(offset(len)?))
}
