//! Looking after a log: sizes, who still wants what, indexes, inspecting, repairing, cleaning.

use std::ffi::{CStr, c_char, c_int};
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::SystemTime;

use jlog_core::repair::{self, Part};
use jlog_core::{
    Compression, CreateOptions, Cursor, ErrorKind, Format, Log, Marker, Order, RecordId, SegmentId,
    Subscriber, Tail, inspect,
};

use crate::codes::{self, Coded, Failure, Outcome};
use crate::context::{Context, Mode, State, call, context_at, give, guarded, require_place, set_errno};
use crate::open::{jlog_ctx_close, jlog_ctx_open_writer, jlog_new};
use crate::place::{self, Place, first_segment, names, segment_path, segment_size};
use crate::read::make_index;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_raw_size(ctx: *mut Context) -> usize {
    call(ctx, 0, |context| {
        let names = names(context.dir()).unwrap_or_default();
        let files = names.iter().filter_map(|name| fs::metadata(context.dir().join(name)).ok());
        let bytes: u64 = files.filter(fs::Metadata::is_file).map(|info| info.len()).sum();
        Ok(usize::try_from(bytes).unwrap_or(usize::MAX))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_pending_readers(ctx: *mut Context, log: u32, earliest: *mut u32) -> c_int {
    call(ctx, -1, |context| {
        let state = context.state();
        let checkpoints = checkpoints(context, &state)?;
        give(earliest, checkpoints.iter().map(|at| at.segment.0).min().unwrap_or(0));
        let wanting = checkpoints.iter().filter(|at| at.segment.0 <= log).count();
        Ok(c_int::try_from(wanting).unwrap_or(c_int::MAX))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn __jlog_pending_readers(ctx: *mut Context, log: u32) -> c_int {
    // SAFETY: as this call.
    unsafe { jlog_pending_readers(ctx, log, std::ptr::null_mut()) }
}

/// All checkpoints. One that cannot be read wants everything.
fn checkpoints(context: &Context, state: &State) -> Outcome<Vec<RecordId>> {
    let names = place::subscribers(context.dir()).untold()?;
    let place = Place::of(context, state)?;
    Ok(names.iter().map(|name| place.checkpoint(name).unwrap_or_default()).collect())
}

/// How many records the index of a segment lists, and whether it is closed. Makes an empty one where there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_idx_details(
    ctx: *mut Context,
    segment: u32,
    marker: *mut u32,
    closed: *mut c_int,
) -> c_int {
    call(ctx, -1, |context| {
        require_place(marker)?;
        require_place(closed)?;
        let state = context.state();
        let place = Place::of(context, &state).unwrap_or_else(|_| Place::Bare(context.dir().to_path_buf()));
        let (entries, is_closed) = match &place {
            Place::Log(log) if log.format() == Format::Checksummed => {
                let details = log.index_details(SegmentId(segment)).code(codes::IDX_OPEN)?;
                (details.entries, details.closed)
            }
            _ => classic_index(context.dir(), segment, &state)?,
        };
        give(marker, u32::try_from(entries).unwrap_or(u32::MAX));
        give(closed, c_int::from(is_closed));
        Ok(0)
    })
}

fn classic_index(dir: &Path, segment: u32, state: &State) -> Outcome<(u64, bool)> {
    const ENTRY: u64 = 8;
    let path = dir.join(format!("{segment:08x}.idx"));
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(state.settings.mode());
    let file = options.open(path).code(codes::IDX_OPEN)?;
    let size = file.metadata().code(codes::IDX_SEEK)?.len();
    if size % ENTRY != 0 {
        let what = format!("it has {size} bytes, and an index is a whole number of 8-byte entries");
        return Err(Failure::new(codes::IDX_CORRUPT, libc::EIO).because(what));
    }
    if size <= ENTRY {
        return Ok((size / ENTRY, false));
    }
    let mut last = [0; ENTRY as usize];
    file.read_exact_at(&mut last, size - ENTRY).code(codes::IDX_READ)?;
    // Zero in either byte order.
    let is_closed = last == [0; ENTRY as usize];
    Ok((size / ENTRY - u64::from(is_closed), is_closed))
}

/// Refuses a segment that is not there, or empty: libjlog cannot map it.
fn require_bytes(context: &Context, segment: u32) -> Outcome<()> {
    if segment_size(context.dir(), segment).code(codes::FILE_OPEN)? == 0 {
        return Err(Failure::new(codes::FILE_READ, libc::EINVAL).because("the segment is empty"));
    }
    Ok(())
}

/// What a walk through one segment finds.
#[derive(Default)]
struct Walked {
    records: u32,
    /// Where it is damaged: the marker of the record that should be there, the first byte, and the engine's words.
    findings: Vec<(u32, u64, String)>,
}

fn walk(log: &Log, segment: u32, mut each: impl FnMut(&jlog_core::Record<'_>)) -> Outcome<Walked> {
    let start = RecordId { segment: SegmentId(segment), marker: Marker(0) };
    let end = RecordId { segment: SegmentId(segment), marker: Marker(u32::MAX) };
    let mut cursor: Cursor = log.cursor_after(start);
    let mut walked = Walked::default();
    loop {
        match cursor.next_up_to(end) {
            Ok(Some(record)) => {
                walked.records = record.id.marker.0;
                each(&record);
            }
            Ok(None) => break,
            Err(error) if error.gap_met().is_some() => {
                // The next segment's damage is not this one's.
                if let Some(gap) = cursor.skip_gap().filter(|gap| gap.segment.0 == segment) {
                    walked.findings.push((walked.records + 1, gap.from, error.to_string()));
                }
            }
            Err(error) => return Err(error).code(codes::FILE_READ),
        }
    }
    if let (Tail::Torn { from }, true) = (cursor.tail(), cursor.segment().0 == segment) {
        walked.findings.push((walked.records + 1, from, String::new()));
    }
    Ok(walked)
}

/// 0 sound, 1 damaged; what is wrong is printed on stderr, and with `verbose` every record.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_inspect_datafile(ctx: *mut Context, segment: u32, verbose: c_int) -> c_int {
    call(ctx, -1, |context| {
        require_bytes(context, segment)?;
        let state = context.state();
        let Place::Log(log) = Place::of(context, &state)? else {
            return Err(Failure::new(codes::FILE_OPEN, libc::ENOENT));
        };
        // Who listens on stderr may have gone: that is no reason to stop.
        let mut out = std::io::stderr().lock();
        let header = header_len(&log);
        let walked = walk(&log, segment, |record| {
            if verbose != 0 {
                let (marker, at, len) = (record.id.marker.0, record.offset, record.payload.len());
                let rest = record.stored_len - header.min(record.stored_len);
                let _ = writeln!(out, "Message {marker} at [{at}] of ({header}+{rest})");
                let _ = writeln!(out, "\ttime: {}\n\tmlen: {len}", local_time(record.time.seconds));
            }
        })?;
        for (marker, from, words) in &walked.findings {
            let what = describe(&log, segment, *marker, *from).code(codes::FILE_READ)?;
            let words = if words.is_empty() { String::new() } else { format!(" ({words})") };
            let _ = writeln!(out, "{what}{words}");
        }
        Ok(c_int::from(!walked.findings.is_empty()))
    })
}

/// The length of a record's header.
fn header_len(log: &Log) -> u64 {
    match (log.format(), log.compression()) {
        (Format::Checksummed, _) => 24,
        (Format::Classic, Compression::None) => 16,
        (Format::Classic, _) => 20,
    }
}

/// What stands where a record should, in the words that programs look for.
fn describe(log: &Log, segment: u32, marker: u32, from: u64) -> std::io::Result<String> {
    let file = fs::File::open(segment_path(log.path(), segment))?;
    let size = file.metadata()?.len();
    let header = header_len(log);
    if size.saturating_sub(from) < header {
        return Ok(format!("{} bytes of junk at the end", size.saturating_sub(from)));
    }
    let mut bytes = [0; 20];
    file.read_exact_at(&mut bytes[..header.min(20) as usize], from)?;
    let word = |at: usize| {
        let word = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        if log.order() == Order::Big { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
    };
    let magic = log.metastore().map_or(0, |meta| meta.magic);
    if log.format() == Format::Checksummed || word(0) != magic {
        return Ok(format!("Message {marker} at [{from}] has invalid reserved value {}", word(0)));
    }
    let len = if header == 16 { word(12) } else { word(16) };
    let end = if from + header + u64::from(len) > size { " OFF THE END!" } else { " is damaged" };
    Ok(format!("Message {marker} at [{from}] of ({header}+{len}){end}"))
}

/// A time as the locale writes it.
fn local_time(seconds: u32) -> String {
    let time = libc::time_t::from(seconds);
    let mut text = [0u8; 128];
    // SAFETY: all pointers are to places of ours that live during the calls; `strftime` writes at most as many bytes as it
    // is told, and says how many.
    let len = unsafe {
        let mut parts: libc::tm = std::mem::zeroed();
        libc::localtime_r(&raw const time, &raw mut parts);
        libc::strftime(text.as_mut_ptr().cast(), text.len(), c"%c".as_ptr(), &raw const parts)
    };
    String::from_utf8_lossy(&text[..len]).into_owned()
}

/// Cuts what is damaged or torn in one segment; what is cut is kept in the log's `.repair/`. The number of steps taken.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_repair_datafile(ctx: *mut Context, segment: u32) -> c_int {
    call(ctx, -1, |context| {
        require_bytes(context, segment)?;
        let mut state = context.state();
        let Place::Log(log) = Place::of(context, &state)? else {
            return Err(Failure::new(codes::FILE_OPEN, libc::ENOENT));
        };
        let options = repair::Options {
            only: vec![Part::Data, Part::Indexes],
            segments: vec![SegmentId(segment)],
            ..repair::Options::default()
        };
        let cut = mend(context, &mut state, &log, &options)?;
        Ok(c_int::try_from(cut).unwrap_or(c_int::MAX))
    })
}

/// Plans and applies a repair, and says how many steps were about data.
fn mend(context: &Context, state: &mut State, log: &Log, options: &repair::Options) -> Outcome<usize> {
    let seen = inspect::inspect(log).code(codes::FILE_READ)?;
    let plan = repair::plan(log, &seen, options).code(codes::FILE_CORRUPT)?;
    if plan.is_empty() {
        return Ok(0);
    }
    // A repair wants the files for itself. What this context has read is read again.
    forget(context, state)?;
    let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let stamp = format!("capi-{}-{}", seconds.as_micros(), std::process::id());
    repair::apply(log, &plan, &stamp).code(codes::FILE_WRITE)?;
    Ok(plan.steps.iter().filter(|step| step.part == Part::Data).count())
}

/// Closes what the context holds open of the log's segments.
fn forget(context: &Context, state: &mut State) -> Outcome<()> {
    if let Some(writer) = state.writer.take() {
        writer.close().code(codes::FILE_WRITE)?;
    }
    if let (Some(reading), Some(log)) = (&mut state.reading, &state.log) {
        reading.let_go();
        context.learn(log).code(codes::META_OPEN)?;
    }
    Ok(())
}

/// Mends metastore and checkpoints; if `aggressive`, segments too, and removes those that all have read. libjlog's odd
/// answers are kept: 1 with `JLOG_ERR_CHECKPOINT` unless exactly one checkpoint was good before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_ctx_repair(ctx: *mut Context, aggressive: c_int) -> c_int {
    if context_at(ctx).is_none() {
        set_errno(libc::EINVAL);
        return -1;
    }
    call(ctx, 0, |context| {
        context.begin();
        let mut state = context.state();
        if first_segment(context.dir()).is_err() {
            // No directory: libjlog calls that a success.
            return Ok(0);
        }
        let log = match Place::of(context, &state)? {
            Place::Log(log) => log,
            Place::Bare(dir) => {
                make_metastore(&dir, &state).code(codes::CREATE_META)?;
                context.miss(codes::CHECKPOINT);
                return Ok(1);
            }
        };
        let good = good_checkpoints(&log, context)?;
        let mut parts = vec![Part::Metastore, Part::Checkpoints];
        if aggressive != 0 && context.mode() == Mode::Read {
            context.miss_with(codes::ILLEGAL_WRITE, libc::EPERM);
            return Ok(1);
        }
        if aggressive != 0 {
            parts.extend([Part::Data, Part::Indexes]);
        }
        mend(context, &mut state, &log, &repair::Options { only: parts, ..repair::Options::default() })?;
        if aggressive != 0 {
            // Opened anew: its metastore may have been mended.
            let log = Log::open(context.dir()).code(codes::META_OPEN)?;
            log.clean().code(codes::FILE_WRITE)?;
        }
        if good == 1 {
            return Ok(0);
        }
        context.miss(codes::CHECKPOINT);
        Ok(1)
    })
}

/// How many checkpoints name a place that the log has. One beyond the end of its segment is moved to that end. Names that begin with "~" do not count, in libjlog.
fn good_checkpoints(log: &Log, context: &Context) -> Outcome<usize> {
    let mut good = 0;
    for name in place::subscribers(context.dir()).untold()? {
        if name.starts_with(b"~") {
            continue;
        }
        let Ok(subscriber) = Subscriber::existing(&name) else { continue };
        let Ok(at) = log.checkpoint(&subscriber) else { continue };
        let segments = log.segments().untold()?;
        let inside = segments.first().is_none_or(|first| *first <= at.segment)
            && segments.last().is_none_or(|last| at.segment <= *last);
        if !segment_path(context.dir(), at.segment.0).exists() {
            context.learn_errno(libc::ENOENT);
            good += usize::from(inside && at.marker == Marker(0));
            continue;
        }
        let records = walk(log, at.segment.0, |_| {})?.records;
        make_index(log, at.segment);
        if inside && at.marker.0 <= records {
            good += 1;
        } else if inside {
            // It has read all there was.
            let end = RecordId { marker: Marker(records), ..at };
            log.open_checkpoint(&subscriber).and_then(|at| at.force(end)).code(codes::CHECKPOINT)?;
        }
    }
    Ok(good)
}

/// The metastore of a log of libjlog's defaults, in a directory that has none.
fn make_metastore(dir: &Path, state: &State) -> std::io::Result<()> {
    let scratch = dir.join(format!(".new-{}", std::process::id()));
    let made = Log::create_with(&scratch, &CreateOptions::classic().mode(state.settings.mode()));
    let outcome = match made {
        Ok(_) => fs::rename(scratch.join("metastore"), dir.join("metastore")),
        Err(error) => Err(std::io::Error::from_raw_os_error(crate::codes::errno_of(&error))),
    };
    let _ = fs::remove_dir_all(&scratch);
    outcome
}

/// Removes every segment that all subscribers have read, and says how many that were; -1 where there is no such log.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jlog_clean(path: *const c_char) -> c_int {
    guarded(-1, || {
        if path.is_null() {
            return None;
        }
        // As libjlog: a writer is opened and closed, so that what is buffered is in the log.
        // SAFETY: the caller's string; the context is closed here and nowhere else.
        let path = unsafe {
            let ctx = jlog_new(path);
            jlog_ctx_open_writer(ctx);
            jlog_ctx_close(ctx);
            CStr::from_ptr(path)
        };
        let dir = Path::new(std::ffi::OsStr::from_bytes(path.to_bytes()));
        let log = match Log::open(dir) {
            Ok(log) => log,
            Err(error) if error.kind() == ErrorKind::NotALog && dir.is_dir() => return Some(0),
            Err(_) => return None,
        };
        let removed = log.clean().ok()?;
        c_int::try_from(removed.len()).ok()
    })
}
