//! Reading: intervals, messages, checkpoints, and the ids that walk along a log.

use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::Ordering;

use jlog_core::{Format, Log, Marker, RecordId, SegmentId};

use crate::codes::{self, Coded, Failure, Outcome};
use crate::context::{Context, Id, Mode, State, call, give, guarded, id_at, require_place, string_at};
use crate::place::{Place, first_segment, segment_size};
use crate::reading::{Held, Reading};
use crate::write::{Header, Message};

/// libjlog's ways of reading. Here they are one.
const READ_METHODS: u32 = 2;

fn reading(state: &mut State) -> Outcome<&mut Reading> {
    state.reading.as_deref_mut().ok_or_else(|| Failure::new(codes::ILLEGAL_WRITE, libc::EPERM))
}

fn log_of(state: &State) -> Outcome<&Log> {
    state.log.as_ref().ok_or_else(|| Failure::new(codes::ILLEGAL_WRITE, libc::EPERM))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_ctx_read_interval(ctx: *mut Context, start: *mut Id, finish: *mut Id) -> c_int {
    call(ctx, -1, |context| {
        context.begin();
        context.require(Mode::Read, codes::ILLEGAL_WRITE)?;
        require_place(start)?;
        require_place(finish)?;
        let mut state = context.state();
        let active = context.learn(log_of(&state)?).code(codes::META_OPEN)?;
        let interval = reading(&mut state)?.interval(active, &mut |note| context.note(note))?;
        if interval.finish.marker == Marker(0)
            && segment_size(context.dir(), interval.start.segment.0).is_err()
        {
            context.learn_errno(libc::ENOENT);
        }
        give(start, interval.start.into());
        give(finish, interval.finish.into());
        Ok(c_int::try_from(interval.count).unwrap_or(c_int::MAX))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_ctx_read_message(
    ctx: *mut Context,
    id: *const Id,
    message: *mut Message,
) -> c_int {
    call(ctx, -1, |context| {
        context.begin();
        let mut state = begin_read(context)?;
        let id = id_at(id)?;
        let magic = magic(context);
        let reading = reading(&mut state)?;
        if !lends_long(context) {
            reading.take_back();
        }
        let (held, bytes) = reading.look_up(id)?;
        let filled = lend(message, &held, bytes, magic);
        filled.map(|()| 0)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_ctx_bulk_read_messages(
    ctx: *mut Context,
    first: *const Id,
    count: c_int,
    messages: *mut Message,
) -> c_int {
    call(ctx, -1, |context| {
        context.begin();
        let mut state = begin_read(context)?;
        let first = id_at(first)?;
        let magic = magic(context);
        let reading = reading(&mut state)?;
        if !lends_long(context) {
            reading.take_back();
        }
        // Asked for none, libjlog still looks the first one up.
        let wanted = u32::try_from(count).unwrap_or(0);
        let last = first.marker.0.checked_add(wanted.max(1) - 1);
        let last = last.ok_or_else(|| Failure::new(codes::IDX_CORRUPT, libc::EINVAL))?;
        for marker in first.marker.0..=last {
            let id = RecordId { segment: first.segment, marker: Marker(marker) };
            let found = reading.look_up(id);
            if wanted == 0 {
                return found.map(|_| 0);
            }
            let (held, bytes) = found.map_err(|failure| match failure.told {
                // So many are not there.
                Some((codes::ILLEGAL_LOGID | codes::CLOSE_LOGID, errno)) if id != first => {
                    Failure::new(codes::IDX_CORRUPT, errno).because(failure.detail)
                }
                _ => failure,
            })?;
            let slot = (marker - first.marker.0) as usize;
            // The caller's array has room for `count` messages; where it is null, `lend` says so.
            lend(messages.wrapping_add(slot), &held, bytes, magic)?;
        }
        Ok(0)
    })
}

/// The mode, and the way of reading that was chosen.
fn begin_read(context: &Context) -> Outcome<std::sync::RwLockWriteGuard<'_, State>> {
    context.require(Mode::Read, codes::ILLEGAL_WRITE)?;
    let method = context.read_method.load(Ordering::Relaxed);
    if method >= READ_METHODS {
        let what = format!("there is no read method {method}");
        return Err(Failure::new(codes::NOT_SUPPORTED, libc::EINVAL).because(what));
    }
    Ok(context.state())
}

/// Whether messages are lent beyond the next read, as from a file that is mapped.
fn lends_long(context: &Context) -> bool {
    context.read_method.load(Ordering::Relaxed) == 0 && magic(context) == crate::context::MAGIC_PLAIN
}

fn magic(context: &Context) -> u32 {
    context.known.hdr_magic.load(Ordering::Relaxed)
}

/// Fills in a message of the caller's. Its bytes are lent until the next interval.
fn lend(message: *mut Message, held: &Held, bytes: &[u8], magic: u32) -> Outcome<()> {
    if message.is_null() {
        return Err(Failure::new(codes::ILLEGAL_LOGID, libc::EINVAL).because("the message is null"));
    }
    // What was read from a log is never longer than 32 bits can say.
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let is_compressed = magic != crate::context::MAGIC_PLAIN && magic != 0;
    let header = Header {
        reserved: magic,
        tv_sec: held.time.seconds,
        tv_usec: held.time.micros,
        mlen: len,
        compressed_len: if is_compressed { held.stored.saturating_sub(HEADER) } else { 0 },
    };
    // SAFETY: not null, and the caller hands over room for a message, which need hold nothing yet: its fields are
    // written, and none is read.
    unsafe {
        (&raw mut (*message).aligned_header).write(header);
        (&raw mut (*message).header).write(&raw mut (*message).aligned_header);
        (&raw mut (*message).mess_len).write(len);
        (&raw mut (*message).mess).write(bytes.as_ptr().cast_mut().cast::<c_void>());
    }
    Ok(())
}

/// The header of a compressed record.
const HEADER: u32 = 20;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_ctx_read_checkpoint(ctx: *mut Context, checkpoint: *const Id) -> c_int {
    call(ctx, -1, |context| {
        context.begin();
        context.require(Mode::Read, codes::ILLEGAL_CHECKPOINT)?;
        let to = id_at(checkpoint)?;
        reading(&mut context.state())?.move_to(to).map(|()| 0)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_get_checkpoint(ctx: *mut Context, name: *const c_char, id: *mut Id) -> c_int {
    call(ctx, -1, |context| {
        require_place(id)?;
        let state = context.state();
        let at = if name.is_null() {
            let own = state.reading.as_ref();
            let none = || {
                Failure::new(codes::INVALID_SUBSCRIBER, libc::ENOENT)
                    .because("the context reads for nobody, so a subscriber has to be named")
            };
            own.ok_or_else(none)?.checkpoint()?
        } else {
            let name = string_at(name, codes::INVALID_SUBSCRIBER)?;
            Place::of(context, &state)?.checkpoint(name)?
        };
        give(id, at.into());
        Ok(0)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_ctx_first_log_id(ctx: *mut Context, id: *mut Id) -> c_int {
    call(ctx, -1, |context| {
        context.begin();
        require_place(id)?;
        give(id, Id { log: u32::MAX, marker: 0 });
        let first = first_segment(context.dir()).untold()?;
        give(id, Id { log: first.unwrap_or(0), marker: 0 });
        Ok(0)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_ctx_last_log_id(ctx: *mut Context, id: *mut Id) -> c_int {
    call(ctx, -1, |context| {
        context.begin();
        context.require(Mode::Read, codes::ILLEGAL_WRITE)?;
        require_place(id)?;
        let state = context.state();
        let log = log_of(&state)?;
        let active = log.active_segment().code(codes::META_OPEN)?;
        segment_size(context.dir(), active.0).code(codes::FILE_OPEN)?;
        give(id, log.last_id().code(codes::FILE_READ)?.into());
        make_index(log, active);
        Ok(0)
    })
}

/// Makes an index where there is none, as libjlog does of what it reads; a cache, so failing is no matter.
pub(crate) fn make_index(log: &Log, segment: SegmentId) {
    let path = log.path().join(format!("{segment}.idx"));
    if log.format() == Format::Classic && std::fs::symlink_metadata(path).is_err() {
        let _ = log.build_index(segment);
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_ctx_last_storage_log(ctx: *mut Context, number: *mut u32) -> c_int {
    call(ctx, -1, |context| {
        context.begin();
        context.require(Mode::Read, codes::ILLEGAL_WRITE)?;
        require_place(number)?;
        let active = log_of(&context.state())?.active_segment().code(codes::META_OPEN)?;
        give(number, active.0);
        Ok(0)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_ctx_advance_id(
    ctx: *mut Context,
    current: *mut Id,
    start: *mut Id,
    finish: *mut Id,
) -> c_int {
    call(ctx, -1, |context| {
        let (at, from, to) = (id_at(current)?, id_at(start)?, id_at(finish)?);
        if at != to {
            give(start, Id { log: from.segment.0, marker: from.marker.0.wrapping_add(1) });
            return Ok(0);
        }
        context.begin();
        let state = context.state();
        let (from, to) = match Place::of(context, &state)? {
            Place::Log(log) => {
                // What libjlog has as errno where the segment is not there.
                if segment_size(context.dir(), at.segment.0).is_err() {
                    context.learn_errno(libc::ENOENT);
                }
                behind(&log, at)?
            }
            Place::Bare(dir) => match segment_size(&dir, at.segment.0) {
                Err(error) if error.raw_os_error() != Some(libc::ENOENT) => {
                    return Err(Failure::of_system(codes::FILE_OPEN, &error));
                }
                _ => {
                    context.learn_errno(libc::ENOENT);
                    (at, at)
                }
            },
        };
        give(start, from.into());
        give(finish, to.into());
        Ok(0)
    })
}

/// Where the walk goes on behind `at`, the last id of an interval: the first of the next segment that holds any, and the last
/// there; or `at` again, and the last that is behind it in its segment.
fn behind(log: &Log, at: RecordId) -> Outcome<(RecordId, RecordId)> {
    let active = log.active_segment().code(codes::META_OPEN)?;
    if segment_size(log.path(), at.segment.0).is_err() && at.segment >= active {
        return Ok((at, at));
    }
    let last_of = |segment: SegmentId| -> Outcome<RecordId> {
        let start = RecordId { segment, marker: Marker(0) };
        let mut cursor = log.cursor_after(start);
        cursor.on_damage(jlog_core::OnDamage::Skip);
        let end = RecordId { segment, marker: Marker(u32::MAX) };
        let mut last = start;
        while let Some(record) = cursor.next_up_to(end).code(codes::FILE_CORRUPT)? {
            last = record.id;
        }
        make_index(log, segment);
        Ok(last)
    };
    let mut segment = at.segment;
    let mut last = last_of(segment)?;
    while segment < active && (last.marker == Marker(0) || segment == at.segment && at.marker >= last.marker)
    {
        let there = log.segments().code(codes::FILE_OPEN)?;
        segment = there.into_iter().find(|id| *id > segment).unwrap_or(active).min(active);
        last = last_of(segment)?;
    }
    let from = if segment == at.segment { at } else { RecordId { segment, marker: Marker(1) } };
    Ok((from, last))
}

/// Prints an id as `0000000a:0000002f`, as `snprintf` does: at most `room` bytes, the zero byte included. Returns the length
/// of the whole text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_snprint_logid(buffer: *mut c_char, room: c_int, id: *const Id) -> c_int {
    guarded(-1, || {
        let id = id_at(id).ok()?;
        // Programs print ids in their inner loops.
        let mut text = [b':'; 17];
        hex(&mut text[..8], id.segment.0);
        hex(&mut text[9..], id.marker.0);
        let room = usize::try_from(room).ok()?;
        if room > 0 && !buffer.is_null() {
            let fits = text.len().min(room - 1);
            // SAFETY: the caller's buffer has `room` bytes; at most `room - 1` and a zero byte are written.
            unsafe {
                std::ptr::copy_nonoverlapping(text.as_ptr(), buffer.cast(), fits);
                buffer.add(fits).write(0);
            }
        }
        c_int::try_from(text.len()).ok()
    })
}

/// Eight hex digits of a number.
fn hex(digits: &mut [u8], number: u32) {
    for (place, digit) in digits.iter_mut().rev().enumerate() {
        *digit = b"0123456789abcdef"[(number >> (4 * place) & 15) as usize];
    }
}
