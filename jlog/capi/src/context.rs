//! `jlog_ctx`: what programs see of it, what is behind it, and the frame that every call runs in.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU8, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use jlog_core::io::forks;
use jlog_core::{Log, Metastore, RecordId, SegmentId, Writer};

use crate::codes::{self, Failure, Outcome};
use crate::open::Settings;
use crate::reading::Reading;

/// `jlog_id`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Id {
    pub(crate) log: u32,
    pub(crate) marker: u32,
}

impl From<RecordId> for Id {
    fn from(id: RecordId) -> Id {
        Id { log: id.segment.0, marker: id.marker.0 }
    }
}

impl From<Id> for RecordId {
    fn from(id: Id) -> RecordId {
        RecordId::new(id.log, id.marker)
    }
}

/// `jlog_error_func`.
pub(crate) type Callback = Option<unsafe extern "C" fn(*mut c_void, *const c_char, ...)>;

/// What a context is for, in libjlog's numbers.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Mode {
    New = 0,
    /// After `jlog_ctx_init`, whether it succeeded or not: all that is left is to close it.
    Init = 1,
    Read = 2,
    Append = 3,
    /// After an open that failed.
    Invalid = 4,
}

/// What the metastore says, where programs look for it: `struct _jlog_meta_info`. A copy; brought up to date by the
/// calls on the context, and by nobody else.
#[repr(C)]
pub(crate) struct Meta {
    pub(crate) storage_log: AtomicU32,
    pub(crate) unit_limit: AtomicU32,
    pub(crate) safety: AtomicU32,
    pub(crate) hdr_magic: AtomicU32,
}

/// The magic of a log that is not compressed, and the default; of a checksummed one, for programs that ask.
pub(crate) const MAGIC_PLAIN: u32 = 0x663A_7318;
/// The magic of a compressed log, plus the number of its provider.
pub(crate) const MAGIC_COMPRESSED: u32 = 0x1510_6A00;

/// A context. The fields up to `path` stand where libjlog's stand, for the programs that look inside; those of them that
/// mean nothing here stay zero.
#[repr(C)]
pub struct Context {
    meta: AtomicPtr<Meta>,
    write_lock: [u64; 5],
    pub(crate) read_method: AtomicU32,
    meta_is_mapped: c_int,
    pre_commit_is_mapped: c_int,
    pub(crate) multi_process: AtomicU8,
    pub(crate) pre_commit_size_specified: AtomicU8,
    pre_commit_buffer: usize,
    pre_commit_pos: usize,
    pre_commit_end: usize,
    /// The length of the pre_commit file, its pointer included; 0 where none is used.
    pub(crate) pre_commit_buffer_len: AtomicUsize,
    pub(crate) desired_pre_commit_buffer_len: AtomicUsize,
    pre_commit_pointer: usize,
    /// `meta` points here, always.
    pub(crate) known: Meta,
    mode: AtomicU32,
    path: *mut c_char,

    // What follows is the engine's own.
    seal: AtomicU32,
    last_error: AtomicI32,
    last_errno: AtomicI32,
    callback: Mutex<(Callback, AtomicPtr<c_void>)>,
    /// The words for the last error.
    detail: Mutex<CString>,
    has_detail: AtomicBool,
    /// What is to be told to the callback when the call is over.
    notes: Mutex<Vec<String>>,
    has_notes: AtomicBool,
    dir: PathBuf,
    /// The forks at which the state was opened.
    forks: AtomicU32,
    state: RwLock<State>,
}

/// What a context has open. A writer is used by many threads at a time, and everything else by one.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) settings: Settings,
    pub(crate) log: Option<Log>,
    pub(crate) writer: Option<Writer>,
    pub(crate) reading: Option<Box<Reading>>,
}

/// What tells a context from other memory, and an open one from one that was closed.
const SEAL: u32 = 0x6A6C_6F67;

// SAFETY: `path` points to a string that nobody changes between `new` and the drop; all else is shared as its types say.
unsafe impl Sync for Context {}

impl Context {
    pub(crate) fn new(path: &CStr) -> Box<Context> {
        use std::os::unix::ffi::OsStrExt;
        let dir = PathBuf::from(std::ffi::OsStr::from_bytes(path.to_bytes()));
        let context = Box::new(Context {
            meta: AtomicPtr::default(),
            write_lock: [0; 5],
            read_method: AtomicU32::new(0),
            meta_is_mapped: 0,
            pre_commit_is_mapped: 0,
            multi_process: AtomicU8::new(1),
            pre_commit_size_specified: AtomicU8::new(0),
            pre_commit_buffer: 0,
            pre_commit_pos: 0,
            pre_commit_end: 0,
            pre_commit_buffer_len: AtomicUsize::new(0),
            desired_pre_commit_buffer_len: AtomicUsize::new(0),
            pre_commit_pointer: 0,
            known: Meta {
                storage_log: AtomicU32::new(0),
                unit_limit: AtomicU32::new(4 * 1024 * 1024),
                safety: AtomicU32::new(1),
                hdr_magic: AtomicU32::new(MAGIC_PLAIN),
            },
            mode: AtomicU32::new(Mode::New as u32),
            path: path.to_owned().into_raw(),
            seal: AtomicU32::new(SEAL),
            last_error: AtomicI32::new(codes::SUCCESS),
            last_errno: AtomicI32::new(0),
            callback: Mutex::default(),
            detail: Mutex::default(),
            has_detail: AtomicBool::new(false),
            notes: Mutex::default(),
            has_notes: AtomicBool::new(false),
            dir,
            forks: AtomicU32::new(forks()),
            state: RwLock::default(),
        });
        context.meta.store((&raw const context.known).cast_mut(), Ordering::Relaxed);
        context
    }

    pub(crate) fn dir(&self) -> &std::path::Path {
        &self.dir
    }

    pub(crate) fn mode(&self) -> Mode {
        match self.mode.load(Ordering::Acquire) {
            0 => Mode::New,
            1 => Mode::Init,
            2 => Mode::Read,
            3 => Mode::Append,
            _ => Mode::Invalid,
        }
    }

    pub(crate) fn become_mode(&self, mode: Mode) {
        self.mode.store(mode as u32, Ordering::Release);
    }

    /// Refuses a call that belongs to another mode, with the code that libjlog has for that.
    pub(crate) fn require(&self, mode: Mode, code: i32) -> Outcome<()> {
        if self.mode() == mode {
            return Ok(());
        }
        Err(Failure::new(code, libc::EPERM).because("the context is not open for that"))
    }

    /// Whether this process opened the state, and not one that it was forked from.
    pub(crate) fn is_of_this_process(&self) -> bool {
        self.forks.load(Ordering::Acquire) == forks()
    }

    /// The state belongs to this process from here on.
    pub(crate) fn belongs_here(&self) {
        self.forks.store(forks(), Ordering::Release);
    }

    /// The state, for calls that go on beside each other: writes.
    pub(crate) fn shared(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, for all other calls.
    pub(crate) fn state(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the last error, as most of libjlog's calls do when they begin.
    pub(crate) fn begin(&self) {
        self.last_error.store(codes::SUCCESS, Ordering::Relaxed);
        // Looked at before it is changed: it is false nearly always.
        if self.has_detail.load(Ordering::Acquire) && self.has_detail.swap(false, Ordering::AcqRel) {
            *lock(&self.detail) = CString::default();
        }
    }

    pub(crate) fn last_error(&self) -> i32 {
        self.last_error.load(Ordering::Relaxed)
    }

    pub(crate) fn last_errno(&self) -> i32 {
        self.last_errno.load(Ordering::Relaxed)
    }

    /// A call that returns no failure leaves an error all the same, as some of libjlog's do.
    pub(crate) fn miss(&self, code: i32) {
        self.last_error.store(code, Ordering::Relaxed);
    }

    /// As [`Context::miss`], with an errno.
    pub(crate) fn miss_with(&self, code: i32, errno: i32) {
        self.miss(code);
        self.learn_errno(errno);
    }

    /// What libjlog has as errno after a call that has found something missing and gone on.
    pub(crate) fn learn_errno(&self, errno: i32) {
        self.last_errno.store(errno, Ordering::Relaxed);
    }

    pub(crate) fn on_error(&self, callback: Callback, with: *mut c_void) {
        *lock(&self.callback) = (callback, AtomicPtr::new(with));
    }

    /// Tells the callback of something that is no error, once the call is over.
    pub(crate) fn note(&self, text: String) {
        lock(&self.notes).push(text);
        self.has_notes.store(true, Ordering::Release);
    }

    /// The words for the last error, lent to this thread until it asks this context again: another thread's calls replace
    /// the words of a writer at any time.
    pub(crate) fn detail(&self) -> *const c_char {
        thread_local! {
            static LENT: RefCell<HashMap<usize, CString>> = RefCell::default();
        }
        let words = lock(&self.detail).clone();
        let lend = |lent: &RefCell<HashMap<usize, CString>>| {
            lent.borrow_mut().entry(std::ptr::from_ref(self).addr()).insert_entry(words).get().as_ptr()
        };
        // A thread that is ending has no room for them.
        LENT.try_with(lend).unwrap_or(c"".as_ptr())
    }

    /// Brings what programs see of the metastore up to date, and returns the active segment.
    pub(crate) fn learn(&self, log: &Log) -> jlog_core::Result<SegmentId> {
        let meta = log.metastore()?;
        // After a power cut the metastore may lag behind the segments.
        let active = if meta.active < log.seen_segment() { log.active_segment()? } else { meta.active };
        self.known.storage_log.store(active.0, Ordering::Relaxed);
        self.known.unit_limit.store(meta.unit_limit, Ordering::Relaxed);
        self.known.safety.store(meta.safety as u32, Ordering::Relaxed);
        self.known.hdr_magic.store(magic_of(log, &meta), Ordering::Relaxed);
        Ok(active)
    }

    fn fail(&self, failure: &Failure) {
        if let Some((code, errno)) = failure.told {
            self.last_error.store(code, Ordering::Relaxed);
            self.last_errno.store(errno, Ordering::Relaxed);
        }
        let dir = self.dir.to_string_lossy();
        let words = match failure.detail.as_str() {
            "" => String::new(),
            words if words.contains(&*dir) => words.to_owned(),
            words => format!("{dir}: {words}"),
        };
        // A zero byte does not come out of the engine's messages.
        *lock(&self.detail) = CString::new(words).unwrap_or_default();
        self.has_detail.store(true, Ordering::Release);
    }

    /// Calls back for all that was noted, and for a failure; without a lock, because the callback may ask the context.
    fn call_back(&self, failure: Option<&Failure>) {
        self.has_notes.store(false, Ordering::Release);
        let notes = std::mem::take(&mut *lock(&self.notes));
        let (callback, with) = {
            let held = lock(&self.callback);
            (held.0, held.1.load(Ordering::Relaxed))
        };
        let Some(callback) = callback else { return };
        let say = |text: &str| {
            let Ok(text) = CString::new(text) else { return };
            // SAFETY: the program gave this function and its first argument for this; "%s" takes one string, which lives
            // until the call is over.
            unsafe { callback(with, c"%s\n".as_ptr(), text.as_ptr()) };
        };
        notes.iter().for_each(|note| say(note));
        if let Some(Failure { told: Some((code, errno)), line, .. }) = failure {
            let words = CString::new(nix::errno::Errno::from_raw(*errno).desc()).unwrap_or_default();
            // SAFETY: as above; the format, which is libjlog's, takes two ints, a string, an int and a string.
            unsafe {
                callback(
                    with,
                    c"JLOG-%d error: %d (%s) errno: %d (%s)\n".as_ptr(),
                    *line,
                    *code,
                    codes::name(*code).as_ptr(),
                    *errno,
                    words.as_ptr(),
                );
            }
        }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        self.seal.store(0, Ordering::Relaxed);
        // SAFETY: made by `CString::into_raw` in `new`, and given back here alone.
        drop(unsafe { CString::from_raw(self.path) });
    }
}

/// The magic of a log's records, as `jlog_message_header.reserved` has it.
pub(crate) fn magic_of(log: &Log, meta: &Metastore) -> u32 {
    match log.format() {
        jlog_core::Format::Checksummed => MAGIC_PLAIN,
        jlog_core::Format::Classic => meta.magic,
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The context that a pointer points to, if it can be one.
pub(crate) fn context_at<'a>(ctx: *const Context) -> Option<&'a Context> {
    if ctx.is_null() || !ctx.is_aligned() {
        return None;
    }
    // SAFETY: the caller hands over what `jlog_new` gave him, or null. Only the seal is looked at, to tell a context that
    // was closed from one that was not as far as that can be told.
    let seal = unsafe { &(*ctx).seal };
    if seal.load(Ordering::Relaxed) != SEAL {
        return None;
    }
    // SAFETY: a sealed context is one that `new` has made, and is not dropped before its owner closes it.
    Some(unsafe { &*ctx })
}

/// The frame of a call: what `run` returns, or `refused` where it fails, panics, or `ctx` is no context. The reason of a
/// failure is left in the context and in errno, and the callback is told.
pub(crate) fn call<T>(ctx: *const Context, refused: T, run: impl FnOnce(&Context) -> Outcome<T>) -> T {
    let Some(context) = context_at(ctx) else {
        set_errno(libc::EINVAL);
        return refused;
    };
    let run = || {
        if !context.is_of_this_process() {
            crate::open::again(context)?;
        }
        run(context)
    };
    let outcome = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let what = panic.downcast_ref::<String>().map(String::as_str);
        let what = what.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no words");
        Err(Failure::new(codes::NOT_SUPPORTED, libc::EIO).because(format!("the engine panicked: {what}")))
    });
    match outcome {
        Ok(value) => {
            if context.has_notes.load(Ordering::Acquire) {
                context.call_back(None);
            }
            value
        }
        Err(failure) => {
            context.fail(&failure);
            context.call_back(Some(&failure));
            if let Some((_, errno)) = failure.told {
                set_errno(errno);
            }
            refused
        }
    }
}

/// The frame of a call that belongs to no context.
pub(crate) fn guarded<T>(refused: T, run: impl FnOnce() -> Option<T>) -> T {
    catch_unwind(AssertUnwindSafe(run)).ok().flatten().unwrap_or(refused)
}

pub(crate) fn set_errno(errno: i32) {
    nix::errno::Errno::from_raw(errno).set();
}

/// The bytes of a C string; an error where there is none.
pub(crate) fn string_at<'a>(text: *const c_char, code: i32) -> Outcome<&'a [u8]> {
    if text.is_null() {
        return Err(Failure::new(code, libc::EINVAL).because("the name is null"));
    }
    // SAFETY: not null, and the caller hands over a string that ends with a zero byte and stays during the call.
    Ok(unsafe { CStr::from_ptr(text) }.to_bytes())
}

/// Stores a result where the caller wants it; nowhere, if he does not.
pub(crate) fn give<T>(place: *mut T, value: T) {
    if !place.is_null() {
        // SAFETY: not null, and the caller hands over a place for one `T` that nobody else uses during the call.
        unsafe { place.write(value) };
    }
}

/// Refuses a place for an answer that is none.
pub(crate) fn require_place<T>(place: *mut T) -> Outcome<()> {
    if place.is_null() {
        return Err(
            Failure::new(codes::NOT_SUPPORTED, libc::EINVAL).because("there is no place for the answer")
        );
    }
    Ok(())
}

/// An id that the caller hands over.
pub(crate) fn id_at(id: *const Id) -> Outcome<RecordId> {
    if id.is_null() {
        return Err(Failure::new(codes::ILLEGAL_LOGID, libc::EINVAL).because("the id is null"));
    }
    // SAFETY: not null, and the caller hands over an id that stays during the call.
    Ok(RecordId::from(unsafe { id.read() }))
}

const _: () = {
    assert!(std::mem::offset_of!(Context, read_method) == 48);
    assert!(std::mem::offset_of!(Context, pre_commit_buffer_len) == 88);
    assert!(std::mem::offset_of!(Context, known) == 112);
    assert!(std::mem::offset_of!(Context, mode) == 128);
    assert!(std::mem::offset_of!(Context, path) == 136);
    assert!(std::mem::offset_of!(Context, seal) == 144);
};
