//! `libjlog.so`: the C library's interface, so that programs written for it run on this engine without a change.
//!
//! - `codes`: error codes, their names, and what of the engine becomes which
//! - `context`: `jlog_ctx`: its layout, its state, and the frame that every call on it runs in
//! - `place`: a log's directory, as far as calls go that libjlog answers without opening the log
//! - `open`: new, settings, init, open, close
//! - `write`: write, flush, sync
//! - `reading`: what a reader has at hand; `read`: intervals, messages, checkpoints
//! - `subscribers`: add, copy, set, remove, list
//! - `upkeep`: sizes, indexes, inspect, repair, clean
//! - `file`: the file primitives, `jlog_file_*`
//!
//! Every call runs in a frame (`context::call`) that refuses what cannot be a context, lets no panic out, and leaves the
//! error where `jlog_ctx_err` finds it. What differs from libjlog, and why, is listed in `docs/migration.md`; what the
//! calls do is said in `include/jlog.h`.
//!
//! `unsafe` here means the promises that a C caller makes: a pointer he hands over is null, or points to what its type
//! says for as long as the call runs, and a context is closed once.

// What C callers promise is the same for all functions and is said above; their documentation is the header's.
#![allow(clippy::missing_safety_doc)]
// Exported functions are reached by C's linker.
#![allow(unreachable_pub)]

mod codes;
mod context;
mod file;
mod open;
mod place;
mod read;
mod reading;
mod subscribers;
mod upkeep;
mod write;
