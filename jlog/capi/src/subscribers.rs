//! Subscribers: added, copied, set, removed, listed.

use std::ffi::{c_char, c_int};
use std::fs;

use jlog_core::{ErrorKind, Log, RecordId, Start, Subscriber};

use crate::codes::{self, Coded, Failure, Outcome, errno_of};
use crate::context::{Context, State, call, id_at, string_at};
use crate::place::{self, Place, checkpoint_path, first_segment, segment_size};
use crate::read::make_index;

/// `JLOG_BEGIN`, `JLOG_END`.
const BEGIN: c_int = 0;
const END: c_int = 1;

/// The subscriber of a name that a program hands over; libjlog finds out that a name is too long when it makes its file.
fn subscriber(name: &[u8]) -> Outcome<Subscriber> {
    Subscriber::existing(name)
        .map_err(|error| Failure::new(codes::OPEN, libc::ENAMETOOLONG).because(error.to_string()))
}

fn add(log: &Log, name: &[u8], start: Start) -> Outcome<()> {
    let subscriber = subscriber(name)?;
    log.add_subscriber(&subscriber, start).map_err(|error| {
        let code = match error.kind() {
            ErrorKind::SubscriberExists => codes::SUBSCRIBER_EXISTS,
            _ => codes::OPEN,
        };
        Failure::new(code, errno_of(&error)).because(error.to_string())
    })
}

/// Adds a subscriber before everything that is there.
fn add_at_begin(context: &Context, state: &State, name: &[u8]) -> Outcome<()> {
    match Place::of(context, state)? {
        Place::Log(log) => add(&log, name, Start::Begin),
        Place::Bare(dir) => {
            subscriber(name)?;
            let first = first_segment(&dir).ok().flatten().unwrap_or(0);
            Place::create_bare(&dir, name, state.settings.mode(), RecordId::new(first, 0))
        }
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_ctx_add_subscriber(
    ctx: *mut Context,
    name: *const c_char,
    whence: c_int,
) -> c_int {
    call(ctx, -1, |context| {
        context.begin();
        let name = string_at(name, codes::INVALID_SUBSCRIBER)?;
        let state = context.state();
        match (whence, Place::of(context, &state)?) {
            (BEGIN, _) => add_at_begin(context, &state, name)?,
            (END, Place::Log(log)) => {
                fs::symlink_metadata(context.dir().join("metastore")).code(codes::META_OPEN)?;
                add(&log, name, Start::End)?;
                let active = log.active_segment().code(codes::META_OPEN)?;
                if segment_size(context.dir(), active.0).is_ok() {
                    make_index(&log, active);
                }
            }
            // Refused before anything is made; libjlog leaves a checkpoint that is none.
            (_, Place::Bare(dir)) if !dir.is_dir() => {
                let error = fs::read_dir(&dir).err();
                let error = error.unwrap_or_else(|| std::io::Error::from_raw_os_error(libc::ENOENT));
                return Err(Failure::of_system(codes::OPEN, &error));
            }
            (END, Place::Bare(_)) => {
                let what = "the directory is not a log";
                return Err(Failure::new(codes::META_OPEN, libc::ENOENT).because(what));
            }
            (_, _) => {
                let what = format!("a subscriber starts at the beginning or the end, not at {whence}");
                return Err(Failure::new(codes::NOT_SUPPORTED, context.last_errno()).because(what));
            }
        }
        Ok(0)
    })
}

/// Makes the subscriber if there is none, and moves it to any place at all.
fn put(context: &Context, state: &State, name: &[u8], to: RecordId, code: i32) -> Outcome<()> {
    match add_at_begin(context, state, name) {
        Err(failure) if failure.told.is_none_or(|(code, _)| code != codes::SUBSCRIBER_EXISTS) => {
            return Err(failure);
        }
        _ => {}
    }
    match Place::of(context, state)? {
        Place::Log(log) => {
            log.open_checkpoint(&subscriber(name)?).and_then(|at| at.force(to)).map(drop).code(code)
        }
        Place::Bare(dir) => {
            fs::remove_file(checkpoint_path(&dir, name)).code(code)?;
            Place::create_bare(&dir, name, state.settings.mode(), to)
        }
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_ctx_set_subscriber_checkpoint(
    ctx: *mut Context,
    name: *const c_char,
    checkpoint: *const crate::context::Id,
) -> c_int {
    call(ctx, -1, |context| {
        context.begin();
        let name = string_at(name, codes::INVALID_SUBSCRIBER)?;
        let to = id_at(checkpoint)?;
        put(context, &context.state(), name, to, codes::CHECKPOINT).map(|()| 0)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_ctx_add_subscriber_copy_checkpoint(
    ctx: *mut Context,
    new: *const c_char,
    old: *const c_char,
) -> c_int {
    call(ctx, -1, |context| {
        let untold = |failure: Failure| Failure { told: None, ..failure };
        let new = string_at(new, codes::INVALID_SUBSCRIBER)?;
        let old = string_at(old, codes::INVALID_SUBSCRIBER)?;
        let state = context.state();
        let at = Place::of(context, &state).map_err(untold)?.checkpoint(old)?;
        put(context, &state, new, at, codes::CHECKPOINT).map_err(untold)?;
        Ok(0)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_ctx_remove_subscriber(ctx: *mut Context, name: *const c_char) -> c_int {
    call(ctx, -1, |context| {
        let name = string_at(name, codes::INVALID_SUBSCRIBER)?;
        let state = context.state();
        let removed = match (Subscriber::existing(name), Place::of(context, &state)?) {
            (Ok(subscriber), Place::Log(log)) => log.remove_subscriber(&subscriber).untold()?,
            (_, _) => match fs::remove_file(checkpoint_path(context.dir(), name)) {
                Ok(()) => true,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
                Err(error) => return Err(Failure::untold().because(error.to_string())),
            },
        };
        if removed {
            context.begin();
            return Ok(1);
        }
        context.miss(codes::INVALID_SUBSCRIBER);
        Ok(0)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_ctx_list_subscribers(ctx: *mut Context, list: *mut *mut *mut c_char) -> c_int {
    call(ctx, -1, |context| {
        if list.is_null() {
            return Err(Failure::new(codes::INVALID_SUBSCRIBER, libc::EINVAL).because("the list is null"));
        }
        let names = place::subscribers(context.dir()).untold()?;
        let count = c_int::try_from(names.len()).unwrap_or(c_int::MAX);
        let array = allocate((names.len() + 1) * size_of::<*mut c_char>())?.cast::<*mut c_char>();
        // SAFETY: `array` has room for one pointer more than there are names, `text` for its name and a zero byte; and the
        // caller hands over a place for the list.
        unsafe {
            for (slot, name) in names.iter().enumerate() {
                // A name ends for a C program where it holds a zero byte.
                let len = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
                let text = allocate(len + 1)?;
                std::ptr::copy_nonoverlapping(name.as_ptr(), text.cast(), len);
                text.add(len).write(0);
                array.add(slot).write(text);
            }
            array.add(names.len()).write(std::ptr::null_mut());
            list.write(array);
        }
        Ok(count)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_ctx_list_subscribers_dispose(
    ctx: *mut Context,
    list: *mut *mut c_char,
) -> c_int {
    call(ctx, -1, |_| {
        if list.is_null() {
            return Ok(0);
        }
        // SAFETY: the caller hands over a list that `jlog_ctx_list_subscribers` made, and uses it no more. It ends with a
        // null pointer; what is in it was allocated one by one.
        unsafe {
            let mut name = list;
            while !(*name).is_null() {
                libc::free((*name).cast());
                name = name.add(1);
            }
            libc::free(list.cast());
        }
        Ok(0)
    })
}

/// Memory that a C program may free.
fn allocate(bytes: usize) -> Outcome<*mut c_char> {
    // SAFETY: asks for memory, and touches none.
    let memory = unsafe { libc::malloc(bytes) };
    if memory.is_null() {
        return Err(Failure::untold().because("there is no memory for the list"));
    }
    Ok(memory.cast())
}
