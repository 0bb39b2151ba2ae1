//! Writing: messages, flush, sync, and what closing a writer leaves.

use std::ffi::{c_int, c_void};
use std::fs;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use jlog_core::{ErrorKind, Format, Log, Timestamp, Writer, WriterOptions};

use crate::codes::{self, Coded, Failure, Outcome};
use crate::context::{Context, Mode, State, call};

/// `jlog_message`.
#[repr(C)]
pub struct Message {
    pub(crate) header: *mut Header,
    pub(crate) mess_len: u32,
    pub(crate) mess: *mut c_void,
    pub(crate) aligned_header: Header,
}

/// `jlog_message_header_compressed`; of a log that is not compressed the first 16 bytes mean something.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Header {
    pub(crate) reserved: u32,
    pub(crate) tv_sec: u32,
    pub(crate) tv_usec: u32,
    pub(crate) mlen: u32,
    pub(crate) compressed_len: u32,
}

/// The words before the buffer in a pre_commit file.
const POINTER: u64 = 4;

/// What opening a writer does before the first message: the pre_commit file is there, the segment need not be.
pub(crate) fn open(context: &Context, log: Log) -> Outcome<()> {
    if let Some(problem) = log.metastore_problem() {
        let what = format!(
            "the metastore cannot be believed ({problem}); mend it with jlog-repair or jlog_ctx_repair"
        );
        return Err(Failure::new(codes::META_OPEN, libc::EIO).because(what));
    }
    let mut state = context.state();
    // A promise that is misspelt is found out now, not by the first message.
    state.settings.durability()?;
    let specified = context.pre_commit_size_specified.load(Ordering::Relaxed) != 0;
    match log.format() {
        // A checksummed log has an owner, or is shared: that is found out now.
        Format::Checksummed => start(context, &mut state, &log)?,
        Format::Classic => {
            let path = context.dir().join("pre_commit");
            let mut options = fs::OpenOptions::new();
            options.read(true).write(true).create(true).mode(state.settings.mode());
            let file = options.open(path).code(codes::PRE_COMMIT_OPEN)?;
            if file.metadata().code(codes::PRE_COMMIT_OPEN)?.len() == 0 && !specified {
                file.write_all_at(&[0; POINTER as usize], 0).code(codes::PRE_COMMIT_OPEN)?;
            }
            // Who has it open here would seem to be somebody who uses it.
            drop(file);
            if specified {
                start(context, &mut state, &log)?;
            }
        }
    }
    note_buffer(context, &log);
    context.learn(&log).code(codes::META_OPEN)?;
    state.log = Some(log);
    Ok(())
}

/// Opens the engine's writer.
fn start(context: &Context, state: &mut State, log: &Log) -> Outcome<()> {
    let specified = context.pre_commit_size_specified.load(Ordering::Relaxed) != 0;
    let desired = context.desired_pre_commit_buffer_len.load(Ordering::Relaxed);
    let mut options = WriterOptions::new();
    if let Some(durability) = state.settings.durability()? {
        options = options.durability(durability);
    }
    if log.format() == Format::Checksummed {
        // Who asks for a buffer says that he is the only writer; so does who says that he is the only process. An owner
        // is faster by more than a buffer gives.
        let alone = specified && desired > 0 || context.multi_process.load(Ordering::Relaxed) == 0;
        if !alone {
            log.require_no_owner().code(codes::LOCK)?;
        }
        state.writer = Some(log.writer_with(&options.exclusive(alone)).code(codes::FILE_OPEN)?);
        return Ok(());
    }
    let capacity = if specified { desired } else { buffer_len(context).saturating_sub(POINTER as usize) };
    let capacity = u32::try_from(capacity).map_err(|_| {
        Failure::new(codes::PRE_COMMIT_OPEN, libc::EINVAL).because("a pre_commit buffer has at most 4 GiB")
    })?;
    let buffered = options.clone().buffer(capacity).exclusive(false);
    let writer = match log.writer_with(&buffered) {
        // Somebody else gathers in the buffer. Direct appends are in nobody's way.
        Err(error) if error.kind() == ErrorKind::Busy && capacity > 0 => {
            log.writer_with(&options.exclusive(false))
        }
        outcome => outcome,
    };
    let writer = writer.code(codes::FILE_OPEN)?;
    if specified && capacity == 0 && !writer.recovery().pre_commit_in_use {
        // What was gathered in it is in the segment by now.
        let path = context.dir().join("pre_commit");
        let file = fs::OpenOptions::new().write(true).open(path).code(codes::PRE_COMMIT_OPEN)?;
        file.set_len(0).and_then(|()| file.set_len(POINTER)).code(codes::PRE_COMMIT_OPEN)?;
    }
    state.writer = Some(writer);
    Ok(())
}

fn buffer_len(context: &Context) -> usize {
    let info = fs::symlink_metadata(context.dir().join("pre_commit"));
    info.map_or(0, |info| usize::try_from(info.len()).unwrap_or(usize::MAX))
}

fn note_buffer(context: &Context, log: &Log) {
    let len = if log.format() == Format::Classic { buffer_len(context) } else { 0 };
    context.pre_commit_buffer_len.store(len, Ordering::Relaxed);
}

/// Runs `run` on the writer, which is opened by the first call that needs it.
fn with_writer<T>(context: &Context, run: impl FnOnce(&Writer, &Log) -> Outcome<T>) -> Outcome<T> {
    {
        let state = context.shared();
        if let (Some(writer), Some(log)) = (&state.writer, &state.log) {
            return run(writer, log);
        }
    }
    {
        let mut state = context.state();
        if let (None, Some(log)) = (&state.writer, state.log.clone()) {
            start(context, &mut state, &log)?;
        }
    }
    let state = context.shared();
    match (&state.writer, &state.log) {
        (Some(writer), Some(log)) => run(writer, log),
        _ => Err(Failure::new(codes::ILLEGAL_WRITE, libc::EPERM)),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_ctx_write(ctx: *mut Context, data: *const c_void, len: usize) -> c_int {
    call(ctx, -1, |context| append(context, data, len, None))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_ctx_write_message(
    ctx: *mut Context,
    message: *mut Message,
    when: *mut libc::timeval,
) -> c_int {
    call(ctx, -1, |context| {
        if message.is_null() {
            return Err(Failure::new(codes::FILE_WRITE, libc::EINVAL).because("the message is null"));
        }
        // SAFETY: not null, and the caller hands over a message; `mess` and `mess_len` are what he has to have filled.
        let (data, len) = unsafe { ((*message).mess, (*message).mess_len) };
        let time = if when.is_null() {
            None
        } else {
            // SAFETY: not null, and the caller hands over a time.
            let when = unsafe { when.read() };
            // Both are cut to 32 bits, as in libjlog.
            Some(Timestamp::new(when.tv_sec as u32, when.tv_usec as u32))
        };
        append(context, data, len as usize, time)
    })
}

fn append(context: &Context, data: *const c_void, len: usize, time: Option<Timestamp>) -> Outcome<c_int> {
    context.begin();
    context.require(Mode::Append, codes::ILLEGAL_WRITE)?;
    let message: &[u8] = if len == 0 {
        &[]
    } else if data.is_null() {
        return Err(Failure::new(codes::FILE_WRITE, libc::EINVAL).because("the message's bytes are null"));
    } else if len > jlog_core::MAX_MESSAGE {
        let what = format!("a message of {len} bytes is above the limit of {}", jlog_core::MAX_MESSAGE);
        return Err(Failure::new(codes::FILE_WRITE, libc::EFBIG).because(what));
    } else {
        // SAFETY: not null, `len` is below isize::MAX, and the caller hands over so many bytes that nobody changes
        // during the call.
        unsafe { std::slice::from_raw_parts(data.cast(), len) }
    };
    let time = time.unwrap_or_else(|| Timestamp::from(SystemTime::now()));
    with_writer(context, |writer, log| {
        writer.append(message, time).code(codes::FILE_WRITE)?;
        // Where the next one goes: a record that fills its segment finishes it.
        context.known.storage_log.store(log.seen_segment().0, Ordering::Relaxed);
        Ok(0)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_ctx_flush_pre_commit_buffer(ctx: *mut Context) -> c_int {
    call(ctx, -1, |context| {
        if context.mode() != Mode::Append {
            return Ok(0);
        }
        context.begin();
        with_writer(context, |writer, _| writer.flush().code(codes::FILE_WRITE)).map(|()| 0)
    })
}

/// All that was written is on the disk when it returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_ctx_sync(ctx: *mut Context) -> c_int {
    call(ctx, -1, |context| {
        context.begin();
        context.require(Mode::Append, codes::ILLEGAL_WRITE)?;
        with_writer(context, |writer, _| writer.sync().code(codes::FILE_WRITE)).map(|()| 0)
    })
}

/// Flushes and syncs. A writer that has written nothing leaves the segment that it would have written to, as libjlog's do.
pub(crate) fn close(context: &Context) -> Outcome<()> {
    let opened = with_writer(context, |_, _| Ok(()));
    let writer = context.state().writer.take();
    opened?;
    writer.map_or(Ok(()), |writer| writer.close().code(codes::FILE_WRITE))
}
