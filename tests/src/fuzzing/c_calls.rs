//! The C interface: any sequence of its calls, in any state of up to three contexts on one log, with names and numbers
//! that make no sense among them.

// What is tested here is called by C programs, which promise what Rust cannot check.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;
use std::ptr::{null, null_mut};

use arbitrary::{Arbitrary, Unstructured};
// Links the functions that are declared below.
use jlog_calls as _;

#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Id {
    log: u32,
    marker: u32,
}

#[repr(C)]
struct Message {
    header: *const u32,
    mess_len: u32,
    mess: *const u8,
    aligned_header: [u32; 5],
}

type Ctx = *mut c_void;

unsafe extern "C" {
    fn jlog_new(path: *const c_char) -> Ctx;
    fn jlog_ctx_close(ctx: Ctx) -> c_int;
    fn jlog_ctx_init(ctx: Ctx) -> c_int;
    fn jlog_ctx_open_writer(ctx: Ctx) -> c_int;
    fn jlog_ctx_open_reader(ctx: Ctx, name: *const c_char) -> c_int;
    fn jlog_ctx_write(ctx: Ctx, data: *const u8, len: usize) -> c_int;
    fn jlog_ctx_read_interval(ctx: Ctx, start: *mut Id, finish: *mut Id) -> c_int;
    fn jlog_ctx_read_message(ctx: Ctx, id: *const Id, message: *mut Message) -> c_int;
    fn jlog_ctx_bulk_read_messages(ctx: Ctx, id: *const Id, count: c_int, messages: *mut Message) -> c_int;
    fn jlog_ctx_read_checkpoint(ctx: Ctx, id: *const Id) -> c_int;
    fn jlog_get_checkpoint(ctx: Ctx, name: *const c_char, id: *mut Id) -> c_int;
    fn jlog_ctx_add_subscriber(ctx: Ctx, name: *const c_char, whence: c_int) -> c_int;
    fn jlog_ctx_remove_subscriber(ctx: Ctx, name: *const c_char) -> c_int;
    fn jlog_ctx_set_subscriber_checkpoint(ctx: Ctx, name: *const c_char, id: *const Id) -> c_int;
    fn jlog_ctx_list_subscribers(ctx: Ctx, list: *mut *mut *mut c_char) -> c_int;
    fn jlog_ctx_list_subscribers_dispose(ctx: Ctx, list: *mut *mut c_char) -> c_int;
    fn jlog_ctx_alter_journal_size(ctx: Ctx, size: usize) -> c_int;
    fn jlog_ctx_alter_safety(ctx: Ctx, safety: c_int) -> c_int;
    fn jlog_ctx_alter_read_method(ctx: Ctx, method: c_int) -> c_int;
    fn jlog_ctx_set_use_compression(ctx: Ctx, compressed: u8) -> c_int;
    fn jlog_ctx_set_compression_provider(ctx: Ctx, provider: c_int) -> c_int;
    fn jlog_ctx_set_pre_commit_buffer_size(ctx: Ctx, size: usize) -> c_int;
    fn jlog_ctx_set_format(ctx: Ctx, format: c_int) -> c_int;
    fn jlog_ctx_set_durability(ctx: Ctx, level: c_int, millis: u32) -> c_int;
    fn jlog_ctx_flush_pre_commit_buffer(ctx: Ctx) -> c_int;
    fn jlog_ctx_first_log_id(ctx: Ctx, id: *mut Id) -> c_int;
    fn jlog_ctx_last_log_id(ctx: Ctx, id: *mut Id) -> c_int;
    fn jlog_ctx_advance_id(ctx: Ctx, current: *mut Id, start: *mut Id, finish: *mut Id) -> c_int;
    fn jlog_pending_readers(ctx: Ctx, log: u32, earliest: *mut u32) -> c_int;
    fn jlog_idx_details(ctx: Ctx, log: u32, marker: *mut u32, closed: *mut c_int) -> c_int;
    fn jlog_repair_datafile(ctx: Ctx, log: u32) -> c_int;
    fn jlog_ctx_repair(ctx: Ctx, aggressive: c_int) -> c_int;
    fn jlog_clean(path: *const c_char) -> c_int;
    fn jlog_raw_size(ctx: Ctx) -> usize;
    fn jlog_ctx_err(ctx: Ctx) -> c_int;
    fn jlog_ctx_err_string(ctx: Ctx) -> *const c_char;
    fn jlog_ctx_err_detail(ctx: Ctx) -> *const c_char;
}

/// A call, on the context of this number.
#[derive(Debug, Arbitrary)]
enum Call {
    Renew,
    Init,
    OpenWriter,
    OpenReader(Name),
    Write(u16),
    Drain(bool),
    Interval,
    Read(u8, u8),
    Bulk(u8, u8, i8),
    Checkpoint(u8, u8),
    GetCheckpoint(Name),
    Add(Name, i8),
    Remove(Name),
    Set(Name, u8, u8),
    List,
    Size(u16),
    Safety(i8),
    Method(i8),
    Compression(u8, i8),
    Buffer(u16),
    Format(i8),
    Durability(i8),
    Flush,
    Ids(u8, u8),
    Pending(u8),
    Index(u8),
    RepairSegment(u8),
    Repair(bool),
    Clean,
}

/// The name of a subscriber: mostly one of two.
#[derive(Debug, Arbitrary)]
enum Name {
    A,
    B,
    Null,
    Long(u8),
    Any([u8; 3]),
}

impl Name {
    fn text(&self) -> Option<CString> {
        let bytes = match self {
            Name::A => b"a".to_vec(),
            Name::B => b"b".to_vec(),
            Name::Null => return None,
            Name::Long(len) => vec![b'x'; usize::from(*len) * 8],
            Name::Any(bytes) => bytes.iter().copied().take_while(|byte| *byte != 0).collect(),
        };
        CString::new(bytes).ok()
    }
}

/// The most calls, and contexts, of one input.
const MOST_CALLS: usize = 64;
const CONTEXTS: usize = 3;

/// What is written, so that what is read can be recognised: a number, and bytes that follow from it.
fn payload(number: u32, len: u16) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(4 + usize::from(len) % 600, number as u8 ^ 0x5a);
    bytes
}

/// Calls in any order end, with one of the codes there are; what is read was written.
pub fn c_calls(data: &[u8]) {
    let dir = tempfile::tempdir().unwrap();
    let path = CString::new(dir.path().join("log").to_str().unwrap()).unwrap();
    let mut input = Unstructured::new(data);
    let mut run = Run { written: 0, scratch: dir.path(), path: &path, contexts: [null_mut(); CONTEXTS] };
    // SAFETY: all pointers handed over are null or to values of this frame; a context is closed once, and not used then.
    unsafe {
        run.renew_all();
        for _ in 0..MOST_CALLS {
            if input.is_empty() {
                break;
            }
            let (Ok(number), Ok(call)) = (u8::arbitrary(&mut input), Call::arbitrary(&mut input)) else {
                break;
            };
            run.call(usize::from(number) % CONTEXTS, &call);
        }
        for ctx in run.contexts {
            assert_eq!(jlog_ctx_close(ctx), 0);
        }
    }
}

struct Run<'a> {
    /// How many messages were handed over, whatever became of them.
    written: u32,
    scratch: &'a Path,
    path: &'a CStr,
    contexts: [Ctx; CONTEXTS],
}

impl Run<'_> {
    /// # Safety
    /// The contexts are null.
    unsafe fn renew_all(&mut self) {
        for ctx in &mut self.contexts {
            // SAFETY: a path that lives as long as this.
            *ctx = unsafe { jlog_new(self.path.as_ptr()) };
            assert!(!ctx.is_null());
        }
    }

    /// # Safety
    /// The contexts are open.
    unsafe fn call(&mut self, number: usize, call: &Call) {
        let ctx = self.contexts[number];
        let id = |log: u8, marker: u8| Id { log: u32::from(log) % 8, marker: u32::from(marker) };
        let (mut start, mut finish, mut word, mut flag) = (Id::default(), Id::default(), 0, 0);
        let name = |name: &Name| name.text();
        let at = |text: &Option<CString>| text.as_ref().map_or(null(), |text| text.as_ptr());
        // SAFETY: as `c_calls` says.
        let answer = unsafe {
            match call {
                Call::Renew => {
                    assert_eq!(jlog_ctx_close(ctx), 0);
                    self.contexts[number] = jlog_new(self.path.as_ptr());
                    return;
                }
                Call::Init => jlog_ctx_init(ctx),
                Call::OpenWriter => jlog_ctx_open_writer(ctx),
                Call::OpenReader(who) => jlog_ctx_open_reader(ctx, at(&name(who))),
                Call::Write(len) => {
                    let bytes = payload(self.written, *len);
                    self.written += 1;
                    jlog_ctx_write(ctx, bytes.as_ptr(), bytes.len())
                }
                Call::Drain(bulk) => self.drain(ctx, *bulk),
                Call::Interval => jlog_ctx_read_interval(ctx, &raw mut start, &raw mut finish),
                Call::Read(log, marker) => {
                    let mut message = std::mem::zeroed();
                    let answer = jlog_ctx_read_message(ctx, &id(*log, *marker), &raw mut message);
                    if answer == 0 {
                        self.recognise(&message);
                    }
                    answer
                }
                Call::Bulk(log, marker, count) => {
                    let mut messages: Vec<Message> =
                        (0..i32::from(*count).max(1)).map(|_| std::mem::zeroed()).collect();
                    let first = id(*log, *marker);
                    let answer = jlog_ctx_bulk_read_messages(
                        ctx,
                        &raw const first,
                        c_int::from(*count),
                        messages.as_mut_ptr(),
                    );
                    if answer == 0 && *count > 0 {
                        messages.iter().for_each(|message| {
                            self.recognise(message);
                        });
                    }
                    answer
                }
                Call::Checkpoint(log, marker) => jlog_ctx_read_checkpoint(ctx, &id(*log, *marker)),
                Call::GetCheckpoint(who) => jlog_get_checkpoint(ctx, at(&name(who)), &raw mut start),
                Call::Add(who, whence) => jlog_ctx_add_subscriber(ctx, at(&name(who)), c_int::from(*whence)),
                Call::Remove(who) => jlog_ctx_remove_subscriber(ctx, at(&name(who))),
                Call::Set(who, log, marker) => {
                    jlog_ctx_set_subscriber_checkpoint(ctx, at(&name(who)), &id(*log, *marker))
                }
                Call::List => {
                    let mut list = null_mut();
                    let count = jlog_ctx_list_subscribers(ctx, &raw mut list);
                    if count >= 0 {
                        let counted = (0..).take_while(|n| !(*list.add(*n)).is_null()).count();
                        assert_eq!(counted, count as usize);
                        assert_eq!(jlog_ctx_list_subscribers_dispose(ctx, list), 0);
                    }
                    count
                }
                Call::Size(size) => jlog_ctx_alter_journal_size(ctx, usize::from(*size)),
                Call::Safety(level) => jlog_ctx_alter_safety(ctx, c_int::from(*level)),
                Call::Method(method) => jlog_ctx_alter_read_method(ctx, c_int::from(*method)),
                Call::Compression(compressed, provider) => {
                    jlog_ctx_set_use_compression(ctx, *compressed);
                    jlog_ctx_set_compression_provider(ctx, c_int::from(*provider))
                }
                Call::Buffer(size) => jlog_ctx_set_pre_commit_buffer_size(ctx, usize::from(*size)),
                Call::Format(format) => jlog_ctx_set_format(ctx, c_int::from(*format)),
                // Of those that sync the process level alone: what is looked for here is not on the disk.
                Call::Durability(level) => jlog_ctx_set_durability(ctx, c_int::from(*level).min(1), 1),
                Call::Flush => jlog_ctx_flush_pre_commit_buffer(ctx),
                Call::Ids(log, marker) => {
                    jlog_ctx_first_log_id(ctx, &raw mut start);
                    jlog_ctx_last_log_id(ctx, &raw mut finish);
                    let mut current = id(*log, *marker);
                    jlog_ctx_advance_id(ctx, &raw mut current, &raw mut start, &raw mut finish)
                }
                Call::Pending(log) => jlog_pending_readers(ctx, u32::from(*log), &raw mut word),
                Call::Index(log) => jlog_idx_details(ctx, u32::from(*log) % 8, &raw mut word, &raw mut flag),
                Call::RepairSegment(log) => jlog_repair_datafile(ctx, u32::from(*log) % 8),
                Call::Repair(aggressive) => jlog_ctx_repair(ctx, c_int::from(*aggressive)),
                Call::Clean => jlog_clean(self.path.as_ptr()),
            }
        };
        assert!(answer >= -1, "{call:?}: {answer}");
        // SAFETY: as above; the strings are read before the next call.
        unsafe {
            let code = jlog_ctx_err(self.contexts[number]);
            assert!((0..=30).contains(&code), "{call:?}: error {code}");
            assert!(!CStr::from_ptr(jlog_ctx_err_string(ctx)).is_empty());
            let words = CStr::from_ptr(jlog_ctx_err_detail(ctx)).to_string_lossy().into_owned();
            assert!(!words.contains("panicked"), "{call:?}: {words}");
            // Nothing is written outside of the log.
            assert!(jlog_raw_size(ctx) < 1 << 22, "{call:?}");
        }
        let strays = std::fs::read_dir(self.scratch).unwrap().count();
        assert!(strays <= 1, "{call:?}: {strays} things beside the log");
    }

    /// Reads what a reader has not read, with a checkpoint behind it.
    ///
    /// # Safety
    /// `ctx` is open.
    unsafe fn drain(&self, ctx: Ctx, bulk: bool) -> c_int {
        let (mut start, mut finish) = (Id::default(), Id::default());
        // SAFETY: as `c_calls` says.
        unsafe {
            let count = jlog_ctx_read_interval(ctx, &raw mut start, &raw mut finish);
            if count <= 0 {
                return count;
            }
            assert_eq!((start.log, finish.marker - start.marker + 1), (finish.log, count as u32));
            let mut messages: Vec<Message> = (0..count).map(|_| std::mem::zeroed()).collect();
            if bulk {
                let read = jlog_ctx_bulk_read_messages(ctx, &raw const start, count, messages.as_mut_ptr());
                assert_eq!(read, 0, "an interval of {count} from {start:?} cannot be read");
            } else {
                for (n, message) in messages.iter_mut().enumerate() {
                    let id = Id { marker: start.marker + n as u32, ..start };
                    assert_eq!(jlog_ctx_read_message(ctx, &raw const id, message), 0, "{id:?}");
                }
            }
            // All of an interval's messages hold until the next one is asked for.
            messages.iter().for_each(|message| self.recognise(message));
            jlog_ctx_read_checkpoint(ctx, &raw const finish)
        }
    }

    /// # Safety
    /// The message was read, and no interval asked for since.
    unsafe fn recognise(&self, message: &Message) {
        // SAFETY: as this call.
        let bytes = unsafe { std::slice::from_raw_parts(message.mess, message.mess_len as usize) };
        let number = bytes.first_chunk::<4>().map(|number| u32::from_le_bytes(*number));
        let is_written = number.is_some_and(|number| {
            number < self.written && bytes == payload(number, (bytes.len() - 4) as u16)
        });
        assert!(is_written, "a message that nobody wrote: {bytes:?}");
    }
}
