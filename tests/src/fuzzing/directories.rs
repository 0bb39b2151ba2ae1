//! Whole directories of any files: see `base::pack` for how one is an input.

use std::sync::Arc;

use jlog::inspect::{Inspection, inspect as look_at};
use jlog::io::sim::SimDisk;
use jlog::repair::{Options, apply, plan, undo_on};
use jlog::{ErrorKind, Format, Log, OnDamage};

use super::assert_bounded;
use super::base::{assert_within, bytes_of, contents, disk_of, read, read_again, unpack, without_kept};
use crate::looking::{assert_there, look_everywhere};
use crate::{Passed, SIM_LOG, at, sim_files};

/// Opens the log of a disk, and looks at it; `None` where it is refused.
fn looked_at(disk: &SimDisk) -> Option<(Log, Inspection)> {
    let refused = |error: jlog::Error| {
        assert!(
            matches!(error.kind(), ErrorKind::NotALog | ErrorKind::Damaged | ErrorKind::Unsupported),
            "{error}"
        );
    };
    let log = Log::open_on(Arc::new(disk.clone()), SIM_LOG).map_err(refused).ok()?;
    let seen = look_at(&log).map_err(refused).ok()?;
    Some((log, seen))
}

/// A directory is opened or refused. An inspection counts what readers get, for all subscribers; what is delivered stands in
/// the files; looking changes nothing, and ends.
///
/// Where checksums were made to hold, an index may lead readers past records: one whose checksum holds is believed.
pub fn inspect(data: &[u8]) {
    let is_sealed = data.first().is_some_and(|how| how & 1 == 1);
    let files = unpack(data);
    let disk = disk_of(&files);
    let (start, bytes) = (disk.operations(), bytes_of(&files));
    let Some((log, seen)) = looked_at(&disk) else { return };
    let passed = read(&log, bytes);
    assert_there(&log, &files, &passed.records);
    assert_counted(&seen, &passed, log.format());
    // What subscribers have read it takes for evidence, and then it says damaged where a reader says torn.
    let damaged = log.format() == Format::Checksummed && !seen.is_sound();
    assert!(damaged || seen.tail == passed.tail, "{:?}, {:?}", seen.tail, passed.tail);
    for segment in &seen.segments {
        let mut there = passed.records.iter().filter(|record| record.id.segment == segment.id);
        assert_eq!(segment.messages, there.clone().count() as u64, "{segment:?}");
        assert!(there.next_back().is_none_or(|last| last.id.marker <= segment.last_marker), "{segment:?}");
    }
    let unseen = Passed { records: Vec::new(), ..passed.clone() };
    for one in &seen.subscribers {
        let Ok(mut reader) = log.reader(&one.name) else { continue };
        reader.see_unsynced(true);
        reader.on_damage(OnDamage::Skip);
        let mut unread = 0;
        while let Ok(Some(record)) = reader.next_record() {
            assert!(passed.records.iter().any(|other| other.id == record.id));
            unread += 1;
        }
        assert!(is_sealed || one.behind_messages == unread, "{unread} unread of {one:?}");
    }
    look_everywhere(&log, if is_sealed { &unseen } else { &passed });
    assert!(sim_files(&disk) == files, "looking has changed something");
    assert_bounded(&disk, start, bytes);
}

/// An inspection counts what a reader gets.
fn assert_counted(seen: &Inspection, passed: &Passed, format: Format) {
    match format {
        Format::Classic => assert_eq!(seen.messages, passed.records.len() as u64),
        // It takes what subscribers have read for evidence of what was on the disk; a reader does not.
        Format::Checksummed => assert!(seen.messages >= passed.records.len() as u64),
    }
}

/// What can be read of a directory can be read when it is repaired, and nothing else; the repair can be taken back, and comes to
/// an end; a writer goes on behind it.
///
/// Where checksums were made to hold, a repair may lose records: a commit may say then that it stands for more of them than are in
/// it, which no writer writes and no damage makes.
pub fn repair(data: &[u8]) {
    let is_sealed = data.first().is_some_and(|how| how & 1 == 1);
    let files = unpack(data);
    let disk = disk_of(&files);
    let bytes = bytes_of(&files);
    let Some((log, seen)) = looked_at(&disk) else { return };
    let mut passed = read(&log, bytes);
    assert_counted(&seen, &passed, log.format());
    let start = disk.operations();
    let steps = plan(&log, &seen, &Options::default()).unwrap();
    if !steps.is_empty() {
        match apply(&log, &steps, "first") {
            // A commit that somebody has forged may say that it ends where no disk reaches.
            Err(error) if is_sealed && error.kind() == ErrorKind::NoSpace => return,
            outcome => drop(outcome.unwrap()),
        }
        assert!(undo_on(Arc::new(disk.clone()), SIM_LOG.as_ref()).unwrap().is_some());
        assert!(without_kept(sim_files(&disk)) == files, "it was not taken back");
    }
    drop(log);

    let Some((mut log, mut seen)) = looked_at(&disk) else { panic!("it was not taken back") };
    for round in 0..4 {
        let steps = plan(&log, &seen, &Options::default()).unwrap();
        if steps.is_empty() {
            break;
        }
        // What one repair has to leave may be mended once the rest is.
        assert!(round < 3, "repair number {} found {:?}", round + 1, steps.steps);
        apply(&log, &steps, "now").unwrap();
        drop(log);
        (log, seen) = looked_at(&disk).expect("a repaired log");
        let now = read(&log, bytes);
        assert_counted(&seen, &now, log.format());
        if !is_sealed || log.format() == Format::Classic {
            assert_kept(&passed, &now, log.format());
        }
        passed = now;
    }
    assert_bounded(&disk, start, 20 * bytes);

    match log.writer() {
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::TooLarge | ErrorKind::Unsupported), "{error}");
        }
        Ok(writer) => {
            let id = writer.append(b"one more", at(99)).unwrap();
            drop(writer);
            let after = read_again(&disk, bytes + 1000);
            let last = after.records.last().unwrap();
            assert_eq!((last.id, &last.payload[..]), (id, &b"one more"[..]));
            assert_within(&contents(&passed), &contents(&after), "writing has cost");
        }
    }
}

/// A repair loses nothing that was delivered. A checksummed log's records keep their ids.
fn assert_kept(before: &Passed, now: &Passed, format: Format) {
    if format == Format::Checksummed {
        let known = |passed: &Passed| -> Vec<_> {
            passed.records.iter().map(|record| (record.id, record.payload.clone())).collect()
        };
        assert_within(&known(before), &known(now), "a repair has lost");
    } else {
        assert_eq!(
            contents(before),
            contents(now),
            "a repair keeps what could be read, and makes nothing up"
        );
    }
}
