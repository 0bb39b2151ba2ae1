//! Any bytes as the index, the checkpoint, the metastore or the pre_commit of a log that is sound otherwise.
//!
//! The first byte of an input says which log (see `base`) and, with 0x80, that checksums are made to hold; the rest are the
//! bytes of the file. With 0x40 there is no such file.

use std::sync::Arc;

use jlog::inspect::{FindingKind, Inspection, buffered, inspect};
use jlog::io::sim::SimDisk;
use jlog::repair::{Options, apply, plan};
use jlog::{ErrorKind, Format, Log, OnDamage, RecordId};

use super::base::{
    Base, CLASSIC_BASES, assert_within, bases, bytes_of, contents, disk_of, read, read_again, subscriber,
};
use super::{assert_bounded, seal};
use crate::{Passed, SIM_LOG, Seen, at, open_sim, sim_files};

/// A log with one file in question.
struct Doubtful {
    base: &'static Base,
    sealed: bool,
    disk: SimDisk,
    bytes: usize,
    start: u64,
}

impl Doubtful {
    fn new(data: &[u8], name: &str, bases: &'static [Base]) -> Option<Doubtful> {
        let (how, bytes) = data.split_first()?;
        let base = &bases[usize::from(how & 0x3f) % bases.len()];
        let mut files = base.files.clone();
        let mut bytes = bytes.to_vec();
        let sealed = how & 0x80 != 0;
        if sealed {
            seal::file(name, &mut bytes);
        }
        if how & 0x40 != 0 {
            files.remove(name);
        } else {
            files.insert(name.to_owned(), bytes);
        }
        let disk = disk_of(&files);
        let start = disk.operations();
        Some(Doubtful { base, sealed, disk, bytes: bytes_of(&files), start })
    }

    fn open(&self) -> Log {
        open_sim(&self.disk)
    }

    /// The log delivers what was written, no more and no less.
    fn assert_whole(&self, passed: &Passed) {
        let got: Vec<_> =
            passed.records.iter().map(|seen| (seen.id, seen.time, seen.payload.clone())).collect();
        assert_eq!(got, self.base.records);
        assert_eq!(passed.gaps, []);
    }

    /// Looking has changed nothing. Then the log is repaired: what comes of that is sound, and a second repair has
    /// nothing to do.
    fn repaired(&self, seen: &Inspection) -> Inspection {
        assert_bounded(&self.disk, self.start, self.bytes);
        mend(&self.disk, seen)
    }

    /// A writer goes on behind it.
    fn goes_on(&self, before: &Passed) {
        let id = self.open().writer().unwrap().append(b"one more", at(99)).unwrap();
        let after = read_again(&self.disk, self.bytes + 1000);
        let (last, rest) = after.records.split_last().unwrap();
        assert_eq!((last.id, &last.payload[..]), (id, &b"one more"[..]));
        assert_within(
            &contents(before),
            &rest.iter().map(|r| (r.time, &r.payload[..])).collect::<Vec<_>>(),
            "writing has cost",
        );
    }
}

/// Repairs a log: once, and there is nothing left that could be mended.
fn mend(disk: &SimDisk, seen: &Inspection) -> Inspection {
    let log = open_sim(disk);
    let steps = plan(&log, seen, &Options::default()).unwrap();
    apply(&log, &steps, "now").unwrap();
    drop(log);
    let log = open_sim(disk);
    let again = inspect(&log).unwrap();
    let steps = plan(&log, &again, &Options::default()).unwrap();
    assert!(steps.is_empty(), "a second repair found {:?}", steps.steps);
    again
}

/// The index of a finished segment: whatever it holds, all records are delivered, by their order, id and time.
pub fn index(data: &[u8]) {
    let Some(log) = Doubtful::new(data, "00000000.idx", bases()) else { return };
    let look = |when: &str| {
        let opened = log.open();
        log.assert_whole(&read(&opened, log.bytes));
        let mut reader = opened.reader(&subscriber()).unwrap();
        for (id, time, payload) in &log.base.records {
            let record = reader.read(*id).unwrap_or_else(|error| panic!("{when}: {id}: {error}"));
            assert_eq!((record.time, record.payload), (*time, &payload[..]), "{when}: {id}");
            // Whoever makes a checksum hold may lie about times.
            if !log.sealed {
                let first = opened.cursor_from(*time).unwrap().next_record().unwrap().unwrap().id;
                assert_eq!(first, *id, "{when}: from {time:?}");
            }
        }
        let seen = inspect(&opened).unwrap();
        assert_eq!(seen.messages, log.base.records.len() as u64);
        seen
    };
    let seen = look("as it is");
    let again = log.repaired(&seen);
    assert!(!again.problems().any(|finding| finding.kind == FindingKind::Index), "{:?}", again.findings);
    look("repaired");
    log.goes_on(&read_again(&log.disk, log.bytes));
}

/// The checkpoint of a subscriber: it is read, or refused; behind it is delivered what was written behind it. After a
/// repair nothing is skipped that was delivered before.
pub fn checkpoint(data: &[u8]) {
    let Some(log) = Doubtful::new(data, "cp.73", bases()) else { return };
    let opened = log.open();
    log.assert_whole(&read(&opened, log.bytes));
    let before = unread(&log, &opened);
    let seen = inspect(&opened).unwrap();
    assert_eq!(seen.messages, log.base.records.len() as u64);
    if let Some((checkpoint, delivered)) = &before {
        let reported = seen.subscribers.iter().find(|one| one.name == subscriber()).unwrap();
        assert_eq!(reported.checkpoint, Some(*checkpoint));
        assert_eq!(reported.behind_messages, delivered.len() as u64, "{checkpoint}");
    }
    let again = log.repaired(&seen);
    assert!(!again.problems().any(|finding| finding.kind == FindingKind::Checkpoint), "{:?}", again.findings);
    let opened = log.open();
    log.assert_whole(&read(&opened, log.bytes));
    if opened.subscribers().unwrap().contains(&subscriber()) {
        let (_, after) = unread(&log, &opened).unwrap();
        let before = before.map_or(Vec::new(), |(_, delivered)| delivered);
        assert_within(&before, &after, "a repair skips");
    }
    log.goes_on(&read(&opened, log.bytes));
}

/// Where a subscriber is, and what it gets.
fn unread(log: &Doubtful, opened: &Log) -> Option<(RecordId, Vec<RecordId>)> {
    let mut reader = match opened.reader(&subscriber()) {
        Ok(reader) => reader,
        Err(error) => {
            assert!(
                matches!(
                    error.kind(),
                    ErrorKind::Damaged | ErrorKind::UnknownSubscriber | ErrorKind::Unsupported
                ),
                "{error}"
            );
            return None;
        }
    };
    let checkpoint = opened.checkpoint(&subscriber()).unwrap();
    reader.on_damage(OnDamage::Skip);
    let mut got = Vec::new();
    loop {
        match reader.next_record() {
            Ok(Some(record)) => got.push(Seen::from(record)),
            Ok(None) => break,
            // A place that is not in the log.
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
                assert!(got.is_empty());
                break;
            }
        }
    }
    let wanted: Vec<_> = log.base.records.iter().filter(|(id, ..)| *id > checkpoint).collect();
    assert_eq!(got.len(), wanted.len(), "{checkpoint}");
    for (got, (id, time, payload)) in got.iter().zip(wanted) {
        assert_eq!((got.id, got.time, &got.payload), (*id, *time, payload));
    }
    Some((checkpoint, got.into_iter().map(|seen| seen.id).collect()))
}

/// The metastore: the log opens or is refused; what is delivered was written, as long as the metastore says nothing else of how
/// records look; a repair keeps what could be read.
pub fn metastore(data: &[u8]) {
    let Some(log) = Doubtful::new(data, "metastore", bases()) else { return };
    let opened = match Log::open_on(Arc::new(log.disk.clone()), SIM_LOG) {
        Ok(opened) => opened,
        Err(error) => {
            assert!(
                matches!(error.kind(), ErrorKind::NotALog | ErrorKind::Damaged | ErrorKind::Unsupported),
                "{error}"
            );
            return;
        }
    };
    let passed = read(&opened, log.bytes);
    let sound = open_sim(&disk_of(&log.base.files));
    let alike = |one: &Log| (one.format(), one.order(), one.compression(), one.identity());
    if alike(&opened) == alike(&sound) {
        let written: Vec<_> =
            log.base.records.iter().map(|(_, time, payload)| (*time, &payload[..])).collect();
        assert_within(&contents(&passed), &written, "it was never written like this");
        if opened.format() == Format::Checksummed {
            log.assert_whole(&passed);
        }
    }
    let seen = match inspect(&opened) {
        Ok(seen) => seen,
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Unsupported), "{error}");
            return;
        }
    };
    assert_eq!(seen.messages, passed.records.len() as u64);
    drop(opened);
    log.repaired(&seen);
    let after = read_again(&log.disk, log.bytes);
    assert_within(&contents(&passed), &contents(&after), "a repair has lost");
    match log.open().writer().map(drop) {
        Ok(()) => log.goes_on(&after),
        Err(error) => assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}"),
    }
}

/// The pre_commit of a classic log: readers do not see it; a repair drops nothing sound of it; the next writer appends what is
/// whole of it, behind all else.
pub fn pre_commit(data: &[u8]) {
    let Some(log) = Doubtful::new(data, "pre_commit", &bases()[..CLASSIC_BASES]) else { return };
    let opened = log.open();
    log.assert_whole(&read(&opened, log.bytes));
    let waiting = buffered(&opened).unwrap();
    let seen = inspect(&opened).unwrap();
    assert_eq!(seen.messages, log.base.records.len() as u64);
    drop(opened);
    let again = log.repaired(&seen);
    assert!(!again.problems().any(|finding| finding.kind == FindingKind::PreCommit), "{:?}", again.findings);
    let opened = log.open();
    assert_eq!(buffered(&opened).unwrap(), waiting, "a repair changes what is waiting");
    log.assert_whole(&read(&opened, log.bytes));
    drop(opened);
    log.goes_on(&read_again(&log.disk, log.bytes));
    let after = read_again(&log.disk, log.bytes + 1000);
    let mut wanted: Vec<_> =
        log.base.records.iter().map(|(_, time, payload)| (*time, &payload[..])).collect();
    wanted.extend(waiting.iter().map(|waiting| (waiting.time, &waiting.payload[..])));
    wanted.push((at(99), b"one more"));
    assert_eq!(contents(&after), wanted);
    assert!(sim_files(&log.disk).len() < 100);
}
