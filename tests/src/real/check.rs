//! What has to hold of a log or a spool after trouble, by the notes of those who worked on it.
//!
//! Acknowledged records are there; nothing is there that was not written, nor twice, nor in another order; subscribers
//! read on where they were; nothing is called damaged. Then it goes on: it is opened for writing twice, takes more, and
//! has the same and that.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

use jlog::inspect::inspect;
use jlog::{ErrorKind, Format, GapKind, Log, Subscriber};
use spool::SpoolError;

use super::notes::{Known, Notes};
use super::parts::{len, options, when};
use crate::crash::message;
use crate::{read_all, read_unread};

/// Looks, writes on, looks again. Panics with what is wrong.
pub fn check(kind: &str, dir: &Path, notes: &Path) {
    let known = Known::read(notes);
    match kind {
        // A write was lost that was reported done: it is told of, or nothing is missing.
        "lied" => assert_told(dir, &known),
        "spool" => check_spool(dir, &known),
        // After a power cut: what was removed and not synced may be there again.
        "cut-spool" => check_spool(dir, &Known { removed: known.gone.clone(), ..known }),
        // The machine runs on: a reader may wait for the next writer to tell what is on the disk.
        "remounted" => {
            Log::open(dir).unwrap().writer().unwrap().close().unwrap();
            check_log(dir, &known, notes);
        }
        _ => check_log(dir, &known, notes),
    }
}

/// Reads all of a log, which may be damaged, or of a spool, and writes nothing: it tells how much of it there is.
pub fn look(kind: &str, dir: &Path) {
    if kind == "spool" {
        return println!("messages {}", found(dir, true).unwrap().len());
    }
    let log = Log::open(dir).unwrap();
    let passed = read_all(&log);
    let wrong = passed.payloads().into_iter().find(|payload| message::number(payload).is_none());
    // A classic log has no checksums: what changes within a message is not noticed.
    assert!(wrong.is_none() || log.format() == Format::Classic, "a record that nobody wrote");
    let mut reader = log.reader(&Subscriber::new("a").unwrap()).unwrap();
    let unread = read_unread(&mut reader).len();
    let problems = inspect(&log).unwrap().problems().count();
    println!(
        "records {} gaps {} unread {unread} problems {problems}",
        passed.records.len(),
        passed.gaps.len()
    );
}

fn check_log(dir: &Path, known: &Known, notes: &Path) {
    let log = match Log::open(dir) {
        Ok(log) => log,
        Err(error) => {
            // It was never there: nothing was promised.
            assert!(known.written.is_empty() && !known.subscribed, "{error}");
            assert!(matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotALog), "{error}");
            return;
        }
    };
    let name = Subscriber::new("a").unwrap();
    if !known.subscribed && log.reader(&name).is_err_and(|error| error.kind() == ErrorKind::Damaged) {
        // The subscriber was being added to a classic log, whose checkpoints are made in two calls.
        return assert!(known.written.is_empty());
    }
    let before = look_at_log(&log, known);
    match log.writer() {
        // It was being made: nothing was promised.
        Err(error) if error.kind() == ErrorKind::Damaged && !known.subscribed && before.is_empty() => return,
        writer => writer.unwrap().close().unwrap(),
    }
    let opened = look_at_log(&log, known);
    assert!(before.iter().all(|n| opened.contains(n)), "opening to write has taken records away");

    let next = known.tried.last().map_or(0, |n| n + 1);
    let writer = log.writer().unwrap();
    Notes::open(notes).note(format_args!("T {next} {}", next + 1));
    writer.append(&message::of(next, len(next)), when(next)).unwrap();
    writer.append(&message::of(next + 1, len(next + 1)), when(next + 1)).unwrap();
    writer.close().unwrap();
    Notes::open(notes).note(format_args!("W {next} {}", next + 1));
    let after = look_at_log(&log, &Known::read(notes));
    let wanted: Vec<u32> = opened.iter().copied().chain([next, next + 1]).collect();
    assert_eq!(after, wanted, "what is there after two more");
    let seen = inspect(&log).unwrap();
    let empty = read_all(&log).gaps.iter().any(|gap| gap.kind == GapKind::Empty);
    assert!(empty || seen.problems().next().is_none(), "an inspection calls it damaged: {:?}", seen.findings);
}

/// Whether such a gap is none of the disk's: a reclaim's; or, in a classic log, a segment that was begun when calls
/// failed, and gone on from when nothing could be written to it.
fn may_be(log: &Log, known: &Known, gap: GapKind) -> bool {
    let failed = !known.errors.is_empty() || !known.refused.is_empty();
    gap == GapKind::Reclaimed || gap == GapKind::Empty && log.format() == Format::Classic && failed
}

fn look_at_log(log: &Log, known: &Known) -> Vec<u32> {
    let passed = read_all(log);
    let gap = passed.gaps.iter().find(|gap| !may_be(log, known, gap.kind));
    assert_eq!(gap, None, "damage is told of");
    let found: Vec<u32> = passed
        .payloads()
        .into_iter()
        .map(|payload| {
            let n = message::number(payload).expect("a record that nobody wrote");
            assert!(
                payload.len() == len(n) && known.tried.contains(&n),
                "record {n} was not written like this"
            );
            n
        })
        .collect();
    assert!(found.is_sorted_by(|a, b| a < b), "twice, or in another order: {found:?}");
    let there: BTreeSet<u32> = found.iter().copied().collect();
    let wanted = |n: &&u32| known.free().is_none_or(|free| **n > free) && !known.given_back.contains(n);
    let lost: Vec<_> = known.written.iter().filter(wanted).filter(|n| !there.contains(n)).collect();
    assert!(
        lost.is_empty(),
        "acknowledged and lost: {lost:?}; there are {:?} to {:?}, up to {:?} may be pruned, the last acknowledged is {:?}",
        found.first(),
        found.last(),
        known.free(),
        known.written.last()
    );
    for (n, kind) in &known.refused {
        // Nothing of a record stays that there was no room for.
        assert!(kind != "NoSpace" || !there.contains(n), "{n} was refused and is there");
    }

    let name = Subscriber::new("a").unwrap();
    let mut reader = match log.reader(&name) {
        Err(error) if error.kind() == ErrorKind::UnknownSubscriber && !known.subscribed => return found,
        reader => reader.unwrap(),
    };
    let mut unread = Vec::new();
    loop {
        match reader.next_record() {
            Ok(Some(record)) => unread.push(message::number(record.payload).unwrap()),
            Ok(None) => break,
            Err(error) => {
                let fine = error.gap_met().is_some_and(|gap| may_be(log, known, gap.kind));
                assert!(fine, "the subscriber: {error}");
                reader.skip_gap();
            }
        }
    }
    assert!(found.ends_with(&unread), "the subscriber gets {unread:?} of {found:?}");
    let skipped = |n: &&u32| known.free().is_none_or(|free| **n > free) && !unread.contains(n);
    assert_eq!(found.iter().find(skipped), None, "the subscriber never gets it");
    let again = |n: &&u32| known.committed.is_some_and(|committed| **n <= committed);
    assert_eq!(unread.iter().find(again), None, "the subscriber gets it twice");
    found
}

/// A write was reported done and was not: whatever is missing of what was acknowledged is told of; nothing wrong is read.
fn assert_told(dir: &Path, known: &Known) {
    let log = match Log::open(dir) {
        Ok(log) => log,
        Err(error) => {
            return assert!(
                matches!(error.kind(), ErrorKind::Damaged | ErrorKind::NotALog | ErrorKind::NotFound),
                "{error}"
            );
        }
    };
    let passed = read_all(&log);
    let found: Vec<u32> = passed
        .payloads()
        .into_iter()
        .map(|p| message::number(p).expect("a record that nobody wrote"))
        .collect();
    assert!(found.is_sorted_by(|a, b| a < b), "twice, or in another order: {found:?}");
    let problems = inspect(&log).unwrap().problems().count();
    let wanted = |n: &&u32| known.free().is_none_or(|free| **n > free) && !known.given_back.contains(n);
    let lost: Vec<_> = known.written.iter().filter(wanted).filter(|n| !found.contains(n)).collect();
    assert!(lost.is_empty() || problems > 0, "lost, and nobody is told: {lost:?}");
    println!("lost {} told {problems}", lost.len());
}

/// What a spool holds: the numbers of its messages. `None` if there is none.
fn found(dir: &Path, read_only: bool) -> Option<BTreeMap<u32, spool::MessageId>> {
    let spool = if read_only { options().open_read_only(dir) } else { options().open(dir) };
    let spool = match spool {
        Err(SpoolError::NotASpool { .. }) => return None,
        spool => spool.unwrap(),
    };
    let report = spool.wait_recovered().unwrap();
    assert_eq!(report.findings, [], "the spool calls itself damaged");
    let mut there = BTreeMap::new();
    for listed in spool.entries().unwrap() {
        let mut body = Vec::new();
        spool.get(listed.id).unwrap().body().unwrap().read_to_end(&mut body).unwrap();
        let n = message::number(&body).expect("a message that nobody accepted");
        assert_eq!(body.len(), len(n));
        assert_eq!(there.insert(n, listed.id), None, "message {n} twice");
    }
    if !read_only {
        spool.close().unwrap();
    }
    Some(there)
}

fn check_spool(dir: &Path, known: &Known) {
    let there = found(dir, false).expect("an open makes it");
    let holds = |there: &BTreeMap<u32, spool::MessageId>| {
        let lost = |n: &&u32| !there.contains_key(n) && !known.given_back.contains(n);
        assert_eq!(known.written.iter().find(lost), None, "accepted and lost");
        assert_eq!(known.removed.iter().find(|n| there.contains_key(n)), None, "removed and back");
        for (n, kind) in &known.refused {
            assert!(kind != "NoSpace" || !there.contains_key(n), "{n} was refused and is there");
        }
        assert_eq!(there.keys().find(|n| !known.tried.contains(n)), None, "never accepted");
    };
    holds(&there);
    let again = found(dir, false).unwrap();
    assert_eq!(again, there, "opened twice");
    let next = known.tried.last().map_or(0, |n| n + 1);
    let spool = options().open(dir).unwrap();
    spool.wait_recovered().unwrap();
    let one = spool::Message::from_bytes(spool.new_id(when(next)), message::of(next, len(next)));
    assert!(!there.values().any(|id| *id == one.id()), "an id twice");
    spool.accept(&one, when(next)).unwrap();
    spool.remove_durable(one.id()).unwrap();
    while spool.maintain(u64::MAX).unwrap().more {}
    spool.close().unwrap();
    assert_eq!(found(dir, false).unwrap(), there, "after one more, and all space given back");
}
