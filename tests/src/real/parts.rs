//! What the other processes do. A program whose first argument is `part` plays the part that is named next, and ends.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::exit;

use jlog::{
    CreateOptions, Durability, Error, ErrorKind, Format, GapKind, Log, Reader, RecordId, Start, Subscriber,
    Timestamp, Writer, WriterOptions,
};
use spool::{Message, SpoolError, SpoolOptions};

use super::check;
use super::notes::Notes;
use crate::crash::message;

/// The end of a part that could not go on, and says so: no fault of its own.
pub const GAVE_UP: i32 = 3;

/// Plays a part if the arguments say so.
pub fn play_if_told() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().map(String::as_str) != Some("part") {
        return;
    }
    let words: Vec<&str> = arguments[1..].iter().map(String::as_str).collect();
    let number = |at: usize| words[at].parse::<u32>().unwrap();
    match words[0] {
        "spool" => of_a_spool(Path::new(words[1]), &Notes::open(Path::new(words[2])), number(3), number(4)),
        "writer" => shared_writer(Path::new(words[1]), &Notes::open(Path::new(words[2])), number(3)),
        "subscriber" => subscriber(Path::new(words[1]), &Notes::open(Path::new(words[2])), words[3]),
        "mender" => mender(Path::new(words[1])),
        "check" => check::check(words[1], Path::new(words[2]), Path::new(words[3])),
        "look" => check::look(words[1], Path::new(words[2])),
        kind => {
            let notes = Notes::open(Path::new(words[2]));
            of_a_log(Path::new(words[1]), &notes, format(kind), number(3), number(4));
        }
    }
    exit(0);
}

pub fn format(kind: &str) -> Format {
    match kind {
        "checksummed" => Format::Checksummed,
        "classic" => Format::Classic,
        _ => panic!("{kind}: no such part"),
    }
}

/// A time for number `n`.
pub fn when(n: u32) -> Timestamp {
    Timestamp::new(1_700_000_000 + n / 1000, n % 1000)
}

fn name() -> Subscriber {
    Subscriber::new("a").unwrap()
}

/// How long message `n` is: most are short, some fill a block or two.
pub fn len(n: u32) -> usize {
    if n % 11 == 7 { 5000 } else { 4 + (n as usize * 37) % 400 }
}

/// Calls until it succeeds, some times; each error is noted.
fn insist<T>(notes: &Notes, what: &str, mut call: impl FnMut() -> Result<T, Error>) -> T {
    for _ in 0..8 {
        match call() {
            Ok(value) => return value,
            Err(error) => notes.note(format_args!("E {what} {:?}", error.kind())),
        }
    }
    exit(GAVE_UP)
}

/// The history of a log: records, batches, a subscriber that reads and commits, rotation, closing, reclaim.
fn of_a_log(dir: &Path, notes: &Notes, format: Format, from: u32, count: u32) {
    let options = CreateOptions::new().format(format).segment_size(6000).durability(Durability::Sync);
    let log = insist(notes, "open", || match Log::open(dir) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotALog) => {
            Log::create_with(dir, &options)
        }
        log => log,
    });
    insist(notes, "subscribe", || match log.add_subscriber(&name(), Start::Begin) {
        Err(error) if error.kind() == ErrorKind::SubscriberExists => Ok(()),
        outcome => outcome,
    });
    notes.note("S");
    let open = || insist(notes, "writer", || log.writer());
    let mut writer = open();
    let mut ids = BTreeMap::new();
    let mut n = from;
    for step in 1..=count {
        let last = if step % 5 == 0 { n + 2 } else { n };
        if !append(notes, &writer, n, last, &mut ids) {
            drop(writer);
            writer = open();
        }
        n = last + 1;
        if step % 8 == 0
            && let Err(error) = read_on(notes, &log, step as usize)
        {
            notes.note(format_args!("E read {:?}", error.kind()));
        }
        if step % 16 == 0
            && format == Format::Checksummed
            && let Err(error) = writer.rotate()
        {
            notes.note(format_args!("E rotate {:?}", error.kind()));
            drop(writer);
            writer = open();
        }
        if step % 20 == 0 && format == Format::Checksummed {
            give_back(notes, &log, &ids);
        }
        if step % 24 == 0 {
            if let Err(error) = writer.close() {
                notes.note(format_args!("E close {:?}", error.kind()));
            }
            writer = open();
        }
    }
    if let Err(error) = writer.close() {
        notes.note(format_args!("E close {:?}", error.kind()));
    }
}

/// Appends records `first` to `last`; whether the writer is good for more.
fn append(notes: &Notes, writer: &Writer, first: u32, last: u32, ids: &mut BTreeMap<RecordId, u32>) -> bool {
    notes.note(format_args!("T {first} {last}"));
    let batch: Vec<_> = (first..=last).map(|n| (message::of(n, len(n)), when(n))).collect();
    let outcome = match &batch[..] {
        [(only, time)] => writer.append(only, *time),
        _ => writer.append_batch(batch.iter().map(|(m, t)| (&m[..], *t))).map(|id| id.unwrap()),
    };
    match outcome {
        Ok(id) => {
            notes.note(format_args!("W {first} {last}"));
            ids.insert(id, last);
            true
        }
        Err(error) => {
            notes.note(format_args!("R {first} {last} {:?}", error.kind()));
            // Want of space ends nothing.
            error.kind() == ErrorKind::NoSpace
        }
    }
}

/// The next record for a subscriber, past what was given back by a reclaim.
fn next(reader: &mut Reader) -> Result<Option<u32>, Error> {
    loop {
        let error = match reader.next_record() {
            Ok(record) => {
                return Ok(
                    record.map(|record| message::number(record.payload).expect("a record that nobody wrote"))
                );
            }
            Err(error) => error,
        };
        match error.gap_met().map(|gap| gap.kind) {
            Some(GapKind::Reclaimed) => drop(reader.skip_gap()),
            Some(kind) => panic!("a gap: {kind:?}: {error}"),
            None => return Err(error),
        }
    }
}

/// The subscriber reads some, and commits.
fn read_on(notes: &Notes, log: &Log, most: usize) -> Result<(), Error> {
    let mut reader = log.reader(&name())?;
    let mut last = None;
    for _ in 0..most.min(20) {
        let Some(n) = next(&mut reader)? else { break };
        last = Some(n);
    }
    let Some(n) = last else { return Ok(()) };
    notes.note(format_args!("M {n}"));
    reader.commit()?;
    notes.note(format_args!("C {n}"));
    Ok(())
}

/// Gives back the segment before the last one, read or not.
fn give_back(notes: &Notes, log: &Log, ids: &BTreeMap<RecordId, u32>) {
    let Some(last) = ids.keys().last().map(|id| id.segment) else { return };
    let Some(before) = ids.keys().rev().map(|id| id.segment).find(|segment| *segment < last) else { return };
    // What was not acknowledged may lie in it too: from behind the last one before it, to before the first one behind.
    let first = ids.iter().rev().find(|(id, _)| id.segment < before).map_or(0, |(_, n)| n + 1);
    let end = ids.iter().find(|(id, _)| id.segment > before).map_or(u32::MAX - 1, |(_, n)| *n);
    notes.note(format_args!("G {first} {end}"));
    if let Err(error) = log.reclaim(before) {
        notes.note(format_args!("E reclaim {:?}", error.kind()));
    }
}

/// How the spools are opened.
pub fn options() -> SpoolOptions {
    SpoolOptions::new()
        .background(false)
        .segment_size(16_384)
        .large_message_threshold(4500)
        .reserve(0)
        .reclaim_below(0.9)
}

/// The history of a spool: messages come, change and go, space is given back, it is closed and opened.
fn of_a_spool(dir: &Path, notes: &Notes, from: u32, count: u32) {
    let fault = |what: &str, error: &SpoolError| {
        let error = format!("{error:?}");
        notes.note(format_args!("E {what} {}", error.split([' ', '{', '(']).next().unwrap_or_default()));
    };
    let open = || {
        for _ in 0..8 {
            match options().open(dir) {
                Ok(spool) => return spool,
                Err(error) => fault("open", &error),
            }
        }
        exit(GAVE_UP)
    };
    let mut spool = open();
    let mut there: BTreeMap<u32, spool::MessageId> = BTreeMap::new();
    for n in from..from + count {
        let now = when(n);
        let one = Message::from_bytes(spool.new_id(now), message::of(n, len(n)));
        notes.note(format_args!("T {n} {n}"));
        let mut outcome = spool.accept(&one, now);
        match &outcome {
            Ok(()) => {
                notes.note(format_args!("W {n} {n}"));
                there.insert(n, one.id());
            }
            Err(SpoolError::Full { .. }) => notes.note(format_args!("R {n} {n} NoSpace")),
            Err(_) => notes.note(format_args!("R {n} {n} Other")),
        }
        if n % 3 == 0 && outcome.is_ok() {
            outcome = spool.get(one.id()).and_then(|one| {
                one.set_last_reply(b"451 later");
                spool.update(&one, now).map(drop)
            });
        }
        if n % 4 > 0
            && outcome.is_ok()
            && let Some((old, id)) = there.pop_first()
        {
            notes.note(format_args!("D {old}"));
            outcome = spool.remove(id);
            if outcome.is_ok() {
                notes.note(format_args!("X {old}"));
            }
        }
        if n % 9 == 0 && outcome.is_ok() {
            outcome = spool.maintain(20_000).map(drop);
        }
        if n % 14 == 0 && outcome.is_ok() {
            outcome = spool.sync();
            if outcome.is_ok() {
                notes.note("Y");
            }
        }
        let failed = outcome.as_ref().is_err_and(|error| !matches!(error, SpoolError::Full { .. }));
        if let Err(error) = &outcome {
            fault("work", error);
        }
        if failed {
            drop(spool);
            spool = open();
        } else if n % 25 == 0 {
            match spool.close() {
                Ok(()) => notes.note("Y"),
                Err(error) => fault("close", &error),
            }
            spool = open();
        }
    }
    match spool.close() {
        Ok(()) => notes.note("Y"),
        Err(error) => fault("close", &error),
    }
}

// Several processes on one log.

/// Appends beside others, from number `from` on, until it is killed.
fn shared_writer(dir: &Path, notes: &Notes, from: u32) {
    let log = Log::open(dir).unwrap();
    let open = || log.writer_with(&WriterOptions::new().exclusive(false)).unwrap();
    let mut writer = open();
    for n in from.. {
        match writer.append(&message::of(n, len(n)), when(n)) {
            Ok(_) => notes.note(format_args!("W {n} {n}")),
            // Another one was killed in a sync: nobody knows what became of the bytes it was to cover.
            Err(error) if error.kind() == ErrorKind::Poisoned => {
                notes.note(format_args!("R {n} {n} Poisoned"));
                drop(writer);
                writer = open();
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Reads and commits as a subscriber, until it is killed; at `end`, until there is nothing more.
fn subscriber(dir: &Path, notes: &Notes, name: &str) {
    let (name, to_the_end) = name.strip_suffix("!").map_or((name, false), |name| (name, true));
    let log = Log::open(dir).unwrap();
    let mut reader = log.reader(&Subscriber::new(name).unwrap()).unwrap();
    let mut got = 0u32;
    loop {
        match reader.next_record().unwrap_or_else(|error| panic!("{name}: {error}")) {
            Some(record) => {
                let n = message::number(record.payload).expect("a record that nobody wrote");
                notes.note(format_args!("W {n} {n}"));
                got += 1;
            }
            None if to_the_end => break,
            None => drop(reader.wait(std::time::Duration::from_millis(50)).unwrap()),
        }
        if got % 7 == 6 {
            commit(notes, &mut reader);
        }
    }
    commit(notes, &mut reader);
}

/// `M` and `C` here are the number of lines read so far by this process: the place of a commit among them.
fn commit(notes: &Notes, reader: &mut Reader) {
    notes.note("M 0");
    reader.commit().unwrap();
    notes.note("C 0");
}

/// Inspects and repairs beside the others, again and again: it has nothing to repair, or is refused.
fn mender(dir: &Path) {
    for _ in 0..400 {
        let log = Log::open(dir).unwrap();
        let seen = jlog::inspect::inspect(&log).unwrap();
        let Ok(plan) = jlog::repair::plan(&log, &seen, &jlog::repair::Options::default()) else { continue };
        match jlog::repair::apply(&log, &plan, "beside") {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::Busy | ErrorKind::Invalid) => {}
            Err(error) => panic!("{error}"),
        }
    }
}
