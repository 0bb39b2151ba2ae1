//! Contexts: made, set up, opened, closed.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::atomic::Ordering;
use std::time::Duration;

use jlog_core::io::PathKind;
use jlog_core::{
    Compression, CreateOptions, Durability, ErrorKind, Format, Log, Safety, SegmentId, Subscriber, Timestamp,
    Writer,
};

use crate::codes::{self, Coded, Failure, Outcome, errno_of};
use crate::context::{
    Callback, Context, MAGIC_COMPRESSED, MAGIC_PLAIN, Mode, call, context_at, guarded, string_at,
};
use crate::reading::Reading;
use crate::write;

/// What a program has asked for before it opened anything, where it has.
#[derive(Clone, Default)]
pub(crate) struct Settings {
    pub(crate) mode: Option<u32>,
    pub(crate) format: Option<Format>,
    pub(crate) durability: Option<Durability>,
    /// Whether a safety level was chosen. A checksummed log for which none was syncs what it acknowledges.
    safety_said: bool,
}

impl Settings {
    /// The permission bits of files that are made.
    pub(crate) fn mode(&self) -> u32 {
        self.mode.unwrap_or(0o640)
    }

    /// The format of new logs: as the program says, or the environment, or libjlog's.
    fn format(&self) -> Outcome<Format> {
        if let Some(format) = self.format {
            return Ok(format);
        }
        match std::env::var("JLOG_FORMAT").as_deref() {
            Err(_) | Ok("" | "classic") => Ok(Format::Classic),
            Ok("checksummed") => Ok(Format::Checksummed),
            Ok(other) => Err(Failure::new(codes::NOT_SUPPORTED, libc::EINVAL)
                .because(format!("JLOG_FORMAT is {other:?}; it may be classic or checksummed"))),
        }
    }

    /// What an acknowledgement promises: as the program says, or the environment; else as the log says.
    pub(crate) fn durability(&self) -> Outcome<Option<Durability>> {
        if self.durability.is_some() {
            return Ok(self.durability);
        }
        let Ok(said) = std::env::var("JLOG_DURABILITY") else { return Ok(None) };
        let millis = |text: &str| text.parse().ok().map(Duration::from_millis);
        let durability = match said.split_once(':') {
            None if said.is_empty() => return Ok(None),
            None if said == "process" => Some(Durability::Process),
            None if said == "sync" => Some(Durability::Sync),
            Some(("interval", time)) => millis(time).map(Durability::Interval),
            Some(("group", time)) => millis(time).map(Durability::Group),
            _ => None,
        };
        let wrong = || {
            Failure::new(codes::NOT_SUPPORTED, libc::EINVAL).because(format!(
                "JLOG_DURABILITY is {said:?}; it may be process, sync, interval:MILLISECONDS or group:MILLISECONDS"
            ))
        };
        durability.map(Some).ok_or_else(wrong)
    }
}

/// Paths above this length leave no room for a segment's name.
const LONGEST_PATH: usize = 4082;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_new(path: *const c_char) -> *mut Context {
    guarded(std::ptr::null_mut(), || {
        if path.is_null() {
            crate::context::set_errno(libc::EINVAL);
            return None;
        }
        // SAFETY: not null, and the caller hands over a string that ends with a zero byte.
        let path = unsafe { CStr::from_ptr(path) };
        Some(Box::into_raw(Context::new(path)))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_ctx_close(ctx: *mut Context) -> c_int {
    if context_at(ctx).is_none() {
        crate::context::set_errno(libc::EINVAL);
        return -1;
    }
    call(ctx, 0, |context| {
        let closed = if context.mode() == Mode::Append { write::close(context) } else { Ok(()) };
        let mut state = context.state();
        state.reading = None;
        state.log = None;
        closed.map(|()| 0)
    });
    // SAFETY: `jlog_new` made it by `Box::into_raw`, its seal is whole, and who closes a context uses it no more.
    drop(unsafe { Box::from_raw(ctx) });
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_set_error_func(ctx: *mut Context, callback: Callback, with: *mut c_void) {
    call(ctx, (), |context| {
        context.on_error(callback, with);
        Ok(())
    });
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_ctx_err(ctx: *mut Context) -> c_int {
    context_at(ctx).map_or(-1, Context::last_error)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_ctx_errno(ctx: *mut Context) -> c_int {
    context_at(ctx).map_or(libc::EINVAL, Context::last_errno)
}

#[unsafe(no_mangle)]
pub extern "C" fn jlog_err_string(code: c_int) -> *const c_char {
    codes::name(code).as_ptr()
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_ctx_err_string(ctx: *mut Context) -> *const c_char {
    codes::name(context_at(ctx).map_or(-1, Context::last_error)).as_ptr()
}

/// The engine's own words for the last error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_ctx_err_detail(ctx: *mut Context) -> *const c_char {
    context_at(ctx).map_or(c"".as_ptr(), Context::detail)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_ctx_alter_mode(ctx: *mut Context, mode: c_int) -> c_int {
    call(ctx, -1, |context| {
        let mut state = context.state();
        state.settings.mode = u32::try_from(mode).ok();
        if let (Some(mode), Some(log)) = (state.settings.mode, &state.log) {
            log.set_file_mode(mode);
        }
        Ok(0)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_ctx_set_multi_process(ctx: *mut Context, several: u8) -> c_int {
    call(ctx, -1, |context| {
        // Kept for programs that look. Locks are taken whatever it says: they cost little here, and a wrong promise would
        // cost the log.
        context.multi_process.store(several, Ordering::Relaxed);
        Ok(0)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_ctx_set_use_compression(ctx: *mut Context, compressed: u8) -> c_int {
    call(ctx, -1, |context| {
        let magic = if compressed == 0 { MAGIC_PLAIN } else { MAGIC_COMPRESSED + 1 };
        if context.mode() == Mode::New {
            context.known.hdr_magic.store(magic, Ordering::Relaxed);
        }
        Ok(0)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_ctx_set_compression_provider(ctx: *mut Context, provider: c_int) -> c_int {
    call(ctx, -1, |context| {
        let known = &context.known.hdr_magic;
        let is_compressed = known.load(Ordering::Relaxed) & MAGIC_COMPRESSED == MAGIC_COMPRESSED;
        if context.mode() == Mode::New && is_compressed {
            known.store(MAGIC_COMPRESSED | provider.cast_unsigned(), Ordering::Relaxed);
        }
        Ok(0)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_ctx_set_pre_commit_buffer_size(ctx: *mut Context, size: usize) -> c_int {
    call(ctx, -1, |context| {
        context.desired_pre_commit_buffer_len.store(size, Ordering::Relaxed);
        context.pre_commit_size_specified.store(1, Ordering::Relaxed);
        Ok(0)
    })
}

/// The format of the log that `jlog_ctx_init` makes: 0 libjlog's, 1 the checksummed one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_ctx_set_format(ctx: *mut Context, format: c_int) -> c_int {
    call(ctx, -1, |context| {
        context.begin();
        let format = match format {
            0 => Format::Classic,
            1 => Format::Checksummed,
            _ => return Err(unknown("format", format)),
        };
        context.require(Mode::New, codes::ILLEGAL_INIT)?;
        context.state().settings.format = Some(format);
        Ok(0)
    })
}

/// What `jlog_ctx_write` promises when it returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_ctx_set_durability(ctx: *mut Context, level: c_int, millis: u32) -> c_int {
    call(ctx, -1, |context| {
        context.begin();
        let time = Duration::from_millis(u64::from(millis));
        let durability = match level {
            0 => None,
            1 => Some(Durability::Process),
            2 => Some(Durability::Interval(time)),
            3 => Some(Durability::Group(time)),
            4 => Some(Durability::Sync),
            _ => return Err(unknown("durability", level)),
        };
        context.require(Mode::New, codes::ILLEGAL_OPEN)?;
        context.state().settings.durability = durability;
        Ok(0)
    })
}

fn unknown(what: &str, number: c_int) -> Failure {
    Failure::new(codes::NOT_SUPPORTED, libc::EINVAL).because(format!("there is no {what} {number}"))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_ctx_alter_journal_size(ctx: *mut Context, size: usize) -> c_int {
    call(ctx, -1, |context| {
        let state = context.state();
        // Another process may have changed it since.
        if let (Mode::Append, Some(log)) = (context.mode(), &state.log) {
            context.learn(log).code(codes::CREATE_META)?;
        }
        let known = &context.known.unit_limit;
        if usize::try_from(known.load(Ordering::Relaxed)) == Ok(size) {
            return Ok(0);
        }
        let size = u32::try_from(size).ok().filter(|size| *size > 0);
        let refused = || {
            Failure::new(codes::NOT_SUPPORTED, libc::EINVAL)
                .because("segments have 1 byte to 4 GiB: smaller ones would never fill")
        };
        match (context.mode(), &state.log) {
            (Mode::New, _) => known.store(size.ok_or_else(refused)?, Ordering::Relaxed),
            (Mode::Append, Some(log)) => {
                let size = size.ok_or_else(refused)?;
                log.set_segment_size(size).code(codes::CREATE_META)?;
                known.store(size, Ordering::Relaxed);
                // A writer in a burst keeps the lock for a moment, and looks at the size when it takes it anew: now. One
                // that gathers keeps none, and is not to move anything.
                let gathers = context.pre_commit_buffer_len.load(Ordering::Relaxed) > 4;
                if let Some(writer) = state.writer.as_ref().filter(|_| !gathers) {
                    writer.flush().code(codes::FILE_WRITE)?;
                }
            }
            _ => return Err(Failure::untold()),
        }
        Ok(0)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_ctx_alter_safety(ctx: *mut Context, safety: c_int) -> c_int {
    call(ctx, -1, |context| {
        let mut state = context.state();
        state.settings.safety_said |= context.mode() == Mode::New;
        // Another writer may have changed it since.
        if let (Mode::Append, Some(log)) = (context.mode(), &state.log) {
            context.learn(log).code(codes::CREATE_META)?;
        }
        let known = &context.known.safety;
        if known.load(Ordering::Relaxed) == safety.cast_unsigned() {
            return Ok(0);
        }
        // libjlog takes any number, and the next open makes of a silly one what it takes for the default.
        let level = match safety {
            0 => Safety::Unsafe,
            2 => Safety::Safe,
            _ => Safety::AlmostSafe,
        };
        match (context.mode(), &state.log) {
            (Mode::New, _) => {}
            (Mode::Append, Some(log)) => {
                log.set_safety(level).code(codes::CREATE_META)?;
                // What an append promises is settled when the writer is opened: the next one opens it anew.
                let writer = state.writer.take();
                writer.map_or(Ok(()), Writer::close).code(codes::FILE_WRITE)?;
            }
            _ => return Err(Failure::untold()),
        }
        known.store(level as u32, Ordering::Relaxed);
        Ok(0)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_ctx_alter_read_method(ctx: *mut Context, method: c_int) -> c_int {
    call(ctx, -1, |context| {
        if context.state().reading.as_ref().is_some_and(|reading| reading.has_read()) {
            return Err(Failure::untold());
        }
        context.read_method.store(method.cast_unsigned(), Ordering::Relaxed);
        Ok(0)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_ctx_init(ctx: *mut Context) -> c_int {
    call(ctx, -1, |context| {
        context.begin();
        context.multi_process.store(1, Ordering::Relaxed);
        if context.dir().as_os_str().len() > LONGEST_PATH {
            return Err(Failure::new(codes::CREATE_PATHLEN, 0).because("the path is too long"));
        }
        if context.mode() != Mode::New {
            let what = "the context was opened, or made a log, before";
            return Err(Failure::new(codes::ILLEGAL_INIT, context.last_errno()).because(what));
        }
        context.become_mode(Mode::Init);

        let settings = context.state().settings.clone();
        let known = &context.known;
        let mut options = match settings.format()? {
            Format::Classic => CreateOptions::classic(),
            Format::Checksummed => CreateOptions::new(),
        };
        options = options
            .segment_size(known.unit_limit.load(Ordering::Relaxed))
            .compression(compression(known.hdr_magic.load(Ordering::Relaxed))?)
            .mode(settings.mode())
            .created(Timestamp::from(std::time::SystemTime::now()));
        options = match known.safety.load(Ordering::Relaxed) {
            _ if settings.format()? == Format::Checksummed && !settings.safety_said => options,
            0 => options.safety(Safety::Unsafe),
            2 => options.safety(Safety::Safe),
            _ => options.safety(Safety::AlmostSafe),
        };
        if let (Format::Checksummed, Some(durability)) = (settings.format()?, settings.durability()?) {
            options = options.durability(durability);
        }
        match Log::create_with(context.dir(), &options) {
            Ok(_) => Ok(0),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                Err(Failure::new(codes::CREATE_EXISTS, 0).because(error.to_string()))
            }
            Err(error) => {
                let in_metastore = error
                    .path()
                    .is_some_and(|path| path.ends_with("metastore") || path.ends_with(".metastore.new"));
                let code = if in_metastore { codes::CREATE_META } else { codes::CREATE_MKDIR };
                Err(error).code(code)
            }
        }
    })
}

/// The compression that a magic stands for.
fn compression(magic: u32) -> Outcome<Compression> {
    match magic.wrapping_sub(MAGIC_COMPRESSED) {
        0 => Ok(Compression::Null),
        1 => Ok(Compression::Lz4),
        _ if magic == MAGIC_PLAIN => Ok(Compression::None),
        number => {
            let what = format!("there is no compression provider {number}");
            Err(Failure::new(codes::NOT_SUPPORTED, libc::EINVAL).because(what))
        }
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_ctx_open_writer(ctx: *mut Context) -> c_int {
    call(ctx, -1, |context| {
        begin_open(context)?;
        let opened = open_log(context).and_then(|log| write::open(context, log));
        ended_open(context, Mode::Append, opened)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_ctx_open_reader(ctx: *mut Context, subscriber: *const c_char) -> c_int {
    call(ctx, -1, |context| {
        begin_open(context)?;
        let opened = (|| {
            let log = open_log(context)?;
            let name = string_at(subscriber, codes::INVALID_SUBSCRIBER)?;
            let subscriber = Subscriber::existing(name).map_err(|error| {
                Failure::new(codes::INVALID_SUBSCRIBER, libc::ENAMETOOLONG).because(error.to_string())
            })?;
            let reading = Reading::new(log.clone(), subscriber)?;
            context.learn(&log).code(codes::META_OPEN)?;
            let mut state = context.state();
            state.reading = Some(Box::new(reading));
            state.log = Some(log);
            Ok(())
        })();
        ended_open(context, Mode::Read, opened)
    })
}

fn begin_open(context: &Context) -> Outcome<()> {
    context.begin();
    if context.mode() == Mode::New {
        return Ok(());
    }
    let what = "the context was opened, or made a log, before";
    Err(Failure::new(codes::ILLEGAL_OPEN, context.last_errno()).because(what))
}

/// A context whose open has failed is good for nothing but being closed.
fn ended_open(context: &Context, mode: Mode, opened: Outcome<()>) -> Outcome<c_int> {
    context.become_mode(if opened.is_ok() { mode } else { Mode::Invalid });
    opened.map(|()| 0)
}

/// The log at the context's path; not one whose metastore is gone, which libjlog takes for no log.
fn open_log(context: &Context) -> Outcome<Log> {
    let disk = jlog_core::io::OsDisk;
    let info = jlog_core::io::Disk::info(&disk, context.dir(), true).code(codes::OPEN)?;
    if info.kind != PathKind::Directory {
        return Err(Failure::new(codes::NOTDIR, 0).because("a log is a directory, and this is a file"));
    }
    let metastore = std::fs::symlink_metadata(context.dir().join("metastore")).code(codes::META_OPEN)?;
    if metastore.len() == 0 {
        return Err(Failure::new(codes::META_OPEN, libc::EINVAL).because("the metastore is empty"));
    }
    let log = Log::open(context.dir()).map_err(|error| {
        // A segment that cannot be opened is told of as such.
        let name = error.path().and_then(std::path::Path::file_name);
        let in_segment =
            name.is_some_and(|name| SegmentId::from_file_name(name.as_encoded_bytes()).is_some());
        let code = if in_segment { codes::FILE_OPEN } else { codes::META_OPEN };
        Failure::new(code, errno_of(&error)).because(error.to_string())
    })?;
    if let Some(mode) = context.state().settings.mode {
        log.set_file_mode(mode);
    }
    Ok(log)
}

/// Opens anew, in a child, what its parent had open: the two would share locks, and each would not know what the other has
/// written. What is gathered in a buffer is the parent's.
pub(crate) fn again(context: &Context) -> Outcome<()> {
    let mut state = context.state();
    // Another thread may have done it.
    if context.is_of_this_process() {
        return Ok(());
    }
    // A writer that another process opened does nothing when it is dropped.
    state.writer = None;
    if state.log.is_some() {
        let log = Log::open(context.dir()).code(codes::META_OPEN)?;
        if let Some(mode) = state.settings.mode {
            log.set_file_mode(mode);
        }
        if let Some(reading) = &mut state.reading {
            reading.open_again(&log)?;
        }
        state.log = Some(log);
    }
    // Where that failed, the next call tries again: what the parent has open is not for us.
    context.belongs_here();
    Ok(())
}
