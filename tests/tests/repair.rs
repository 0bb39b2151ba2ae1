//! Mending: what is sound stays, what is cut is kept, and all of it can be taken back, wherever it is broken off.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jlog::inspect::{FindingKind, Inspection, buffered, inspect};
use jlog::io::Disk;
use jlog::io::sim::{SimDisk, Times};
use jlog::repair::{
    Holes, LostPlace, Options, Part, RepairPlan, Repaired, apply, history, plan, undo, undo_on,
};
use jlog::{CreateOptions, ErrorKind, GapKind, Log, OnDamage, RecordId, Result, Subscriber};
use jlog_tests::{
    Case, MAGIC, SIM_LOG, Scratch, Written, at, case, cases, in_order, on_sim, open_sim, put, read_all,
    sim_files, snapshot,
};
use nix::libc::EIO;

const STAMP: &str = "2026-11-22T17:20:11Z";

fn damaged() -> impl Iterator<Item = &'static Case> {
    cases().iter().filter(|case| !case.is_sound())
}

fn planned(log: &Log) -> RepairPlan {
    plan(log, &inspect(log).unwrap(), &Options::default()).unwrap()
}

/// Repairs a log as it is opened anew.
fn mend(scratch: &Scratch) -> Repaired {
    let plan = planned(&scratch.open());
    apply(&scratch.open(), &plan, STAMP).unwrap()
}

/// The files of the log itself, without what is kept aside.
fn own_files(scratch: &Scratch) -> BTreeMap<PathBuf, Vec<u8>> {
    scratch.files().into_iter().filter(|(path, _)| !path.starts_with(".repair")).collect()
}

/// Each of these records is delivered, in order; what else is delivered is returned.
fn assert_kept(log: &Log, wanted: &[Written], what: &str) -> usize {
    let seen = read_all(log);
    let mut wanted = wanted.iter().peekable();
    let extras =
        seen.records.iter().filter(|r| wanted.next_if(|w| w.is(r.time, &r.payload)).is_none()).count();
    assert!(wanted.peek().is_none(), "{what}: lost {:?}", wanted.peek());
    extras
}

fn problems(seen: &Inspection) -> Vec<(FindingKind, String, u64, u64)> {
    seen.problems().map(|f| (f.kind, f.file.clone(), f.from, f.to)).collect()
}

#[test]
fn planning_changes_nothing() {
    for case in cases() {
        let scratch = case.copy();
        let before = snapshot(&scratch.path());
        planned(&scratch.open());
        assert!(snapshot(&scratch.path()) == before, "{}", case.name);
    }
}

#[test]
fn a_sound_log_needs_no_repair_and_none_is_made() {
    for case in cases().iter().filter(|case| case.is_sound()) {
        let scratch = case.copy();
        let before = snapshot(&scratch.path());
        let plan = planned(&scratch.open());
        assert!(plan.is_empty() && plan.left.is_empty(), "{}: {plan:?}", case.name);
        let done = apply(&scratch.open(), &plan, STAMP).unwrap();
        assert_eq!((done.steps, done.kept), (0, None));
        assert!(snapshot(&scratch.path()) == before, "{}", case.name);
    }
}

/// What no repair can bring back: these stay as they are, and are named again.
const LEFT: &[(&str, FindingKind, &str)] = &[
    ("missing-middle", FindingKind::Missing, "00000001"),
    ("zero-middle", FindingKind::Missing, "00000001"),
    ("all-zero-segment", FindingKind::Missing, "00000001"),
];

#[test]
fn after_a_repair_nothing_is_wrong_but_what_is_gone_for_good() {
    for case in damaged() {
        let scratch = case.copy();
        mend(&scratch);
        let seen = inspect(&scratch.open()).unwrap();
        let left: Vec<_> = seen.problems().map(|finding| (finding.kind, &finding.file[..])).collect();
        let expected: Vec<_> = LEFT
            .iter()
            .filter(|(name, ..)| *name == case.name)
            .map(|(_, kind, file)| (*kind, *file))
            .collect();
        assert_eq!(left, expected, "{}: {:#?}", case.name, seen.findings);
    }
}

#[test]
fn what_the_plan_leaves_is_what_is_found_afterwards() {
    for case in damaged().filter(|case| case.name != "all-zero-segment") {
        let scratch = case.copy();
        let plan = planned(&scratch.open());
        apply(&scratch.open(), &plan, STAMP).unwrap();
        let left: Vec<_> = plan.left.iter().map(|f| (f.kind, f.file.clone(), f.from, f.to)).collect();
        assert_eq!(problems(&inspect(&scratch.open()).unwrap()), left, "{}", case.name);
    }
}

#[test]
fn every_intact_record_is_kept_also_the_one_before_the_damage() {
    for case in damaged() {
        let scratch = case.copy();
        let extras_before = assert_kept(&scratch.open(), &case.intact(), &case.name);
        let waiting = buffered(&scratch.open()).unwrap();
        mend(&scratch);
        let extras = assert_kept(&scratch.open(), &case.intact(), &case.name);
        assert!(extras <= extras_before, "{}: a repair makes no records up", case.name);
        assert_eq!(buffered(&scratch.open()).unwrap(), waiting, "{}", case.name);
    }
}

#[test]
fn every_intact_record_that_libjlogs_repair_keeps_is_kept_here() {
    let mut more = 0;
    for case in cases().iter().filter(|case| case.kind != "sound") {
        let scratch = case.copy();
        mend(&scratch);
        let log = scratch.open();
        log.writer().unwrap().close().unwrap();
        let seen = read_all(&log).records;
        let buffered: Vec<_> =
            case.pre_commit.iter().flat_map(|pre_commit| pre_commit.records.clone()).collect();
        let real = case.intact().into_iter().chain(buffered);
        for written in real {
            let here = seen.iter().any(|record| written.is(record.time, &record.payload));
            let there = case
                .kept_by_libjlog_repair
                .iter()
                .any(|kept| kept.time() == written.time() && kept.payload_sha256 == written.payload_sha256);
            assert!(here || !there, "{}: libjlog keeps {written:?}", case.name);
            more += usize::from(here && !there);
        }
    }
    assert!(more > 100, "records kept here that libjlog's repair loses: {more}");
}

#[test]
fn a_second_repair_has_nothing_to_do() {
    for case in damaged() {
        let scratch = case.copy();
        mend(&scratch);
        let again = planned(&scratch.open());
        assert!(again.is_empty(), "{}: {:#?}", case.name, again.steps);
    }
}

#[test]
fn a_repair_can_be_taken_back_byte_for_byte() {
    for case in damaged() {
        let scratch = case.copy();
        let before = own_files(&scratch);
        let done = mend(&scratch);
        assert_eq!(done.steps > 0, done.kept.is_some());
        assert_eq!(own_files(&scratch) != before, done.steps > 0, "{}", case.name);
        let taken_back = undo(scratch.path()).unwrap();
        assert_eq!(taken_back.map(|past| past.dir), done.kept, "{}", case.name);
        assert!(own_files(&scratch) == before, "{}", case.name);
        assert_eq!(undo(scratch.path()).unwrap(), None, "{}: once", case.name);
    }
}

#[test]
fn the_originals_are_kept_whole_with_a_manifest_of_what_was_done() {
    for case in damaged() {
        let scratch = case.copy();
        let before = own_files(&scratch);
        let plan = planned(&scratch.open());
        let done = apply(&scratch.open(), &plan, STAMP).unwrap();
        let Some(kept) = done.kept else { continue };
        assert_eq!(kept, scratch.file(".repair").join(STAMP));
        let after = own_files(&scratch);
        for (path, bytes) in before.iter().filter(|(path, bytes)| after.get(*path) != Some(*bytes)) {
            assert_eq!(std::fs::read(kept.join(path)).unwrap(), *bytes, "{} {path:?}", case.name);
        }
        let past = history(scratch.path()).unwrap();
        assert_eq!(past.len(), 1);
        for step in &plan.steps {
            assert!(past[0].lines.iter().any(|line| line.contains(&step.deed)), "{}: {step:?}", case.name);
        }
    }
}

#[test]
fn a_repaired_log_is_written_and_read_like_any_other() {
    for case in damaged() {
        let scratch = case.copy();
        mend(&scratch);
        let writer = scratch.open().writer().unwrap();
        let id = writer.append(b"new", at(1)).unwrap();
        assert_eq!((writer.recovery().torn, writer.recovery().damaged), (None, None), "{}", case.name);
        drop(writer);
        let seen = read_all(&scratch.open());
        assert_eq!(
            (seen.records.last().unwrap().id, &seen.records.last().unwrap().payload[..]),
            (id, &b"new"[..])
        );
    }
}

// Checkpoints.

/// What a subscriber gets that is at `place` when the log is mended.
fn unread_after(case: &Case, place: RecordId, options: &Options) -> Vec<(jlog::Timestamp, Vec<u8>)> {
    let scratch = case.copy();
    scratch.write("cp.73", &in_order(case.order(), &[place.segment.0, place.marker.0]));
    let log = scratch.open();
    let plan = plan(&log, &inspect(&log).unwrap(), options).unwrap();
    drop(log);
    apply(&scratch.open(), &plan, STAMP).unwrap();
    let log = scratch.open();
    let mut reader = log.reader(&Subscriber::new("s").unwrap()).unwrap();
    reader.on_damage(OnDamage::Skip);
    let mut unread = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        unread.push((record.time, record.payload.to_vec()));
    }
    unread
}

#[test]
fn no_checkpoint_moves_over_an_unread_record_wherever_it_stood() {
    let hit = |case: &&Case| {
        case.kind == "damaged" && case.metastore.as_ref().is_some_and(|meta| meta.unit_limit == Some(1000))
    };
    let mut logs = 0;
    for case in damaged().filter(hit) {
        let written: Vec<_> = case.records_written.iter().map(Written::id).collect();
        let starts = written.iter().map(|id| RecordId::new(id.segment.0, 0));
        let mut places: Vec<_> = written.iter().copied().chain(starts).collect();
        places.sort();
        places.dedup();
        // Elsewhere the ids do not move.
        let touched: Vec<_> = case.not_intact().iter().map(|written| written.id().segment).collect();
        for place in places.into_iter().filter(|place| touched.contains(&place.segment)) {
            let unread = unread_after(case, place, &Options::default());
            for record in case.intact().iter().filter(|record| !record.has_id() || record.id() > place) {
                let there = unread.iter().any(|(time, payload)| record.is(*time, payload));
                assert!(there, "{}: at {place}, {record:?} is skipped", case.name);
            }
        }
        logs += 1;
    }
    assert!(logs > 40);
}

#[test]
fn no_checkpoint_moves_over_an_unread_record_where_it_is_not_known_how_many_are_lost() {
    // Whole records of segment 1 are overwritten, and there is no index that could say how many they were.
    let case = case("magic-middle");
    let sound = |log: &Written| log.id().segment.0 != 1;
    for (first, lost) in [(1, 2), (2, 3), (3, 4), (5, 2), (4, 5)] {
        for place in 0..=9 {
            let scratch = case.copy();
            let mut bytes = scratch.read("00000001");
            bytes[464..468].copy_from_slice(&MAGIC.to_le_bytes());
            bytes[(first - 1) * 116..(first - 1 + lost) * 116].fill(0xee);
            scratch.write("00000001", &bytes);
            scratch.write("cp.73", &in_order(case.order(), &[1, place]));
            mend(&scratch);
            let log = scratch.open();
            let unread = jlog_tests::read_unread(&mut log.reader(&Subscriber::new("s").unwrap()).unwrap());
            let hit = first as u32..(first + lost) as u32;
            let whole = case.records_written.iter().filter(|w| sound(w) || !hit.contains(&w.id().marker.0));
            for record in whole.filter(|written| written.id() > RecordId::new(1, place)) {
                let there = unread.iter().any(|seen| record.is(seen.time, &seen.payload));
                assert!(there, "{lost} lost from {first} on, checkpoint at {place}: {record:?} is skipped");
            }
        }
    }
}

#[test]
fn where_it_is_known_what_is_lost_nothing_is_read_twice() {
    let mut logs = 0;
    for case in
        damaged().filter(|case| case.metastore.as_ref().is_some_and(|meta| meta.unit_limit == Some(1000)))
    {
        let gaps = read_all(&Log::open(case.dir()).unwrap()).gaps;
        if gaps.is_empty() || gaps.iter().any(|gap| gap.kind != GapKind::Damage || gap.lost.is_none()) {
            continue;
        }
        logs += 1;
        for place in case.intact().iter().filter(|record| record.has_id()).map(Written::id) {
            let unread = unread_after(case, place, &Options::default());
            let again = case.intact().into_iter().filter(|record| record.has_id() && record.id() <= place);
            for record in again {
                let twice = unread.iter().any(|(time, payload)| record.is(*time, payload));
                assert!(!twice, "{}: at {place}, {record:?} is read again", case.name);
            }
        }
    }
    assert!(logs > 5, "{logs}");
}

#[test]
fn a_checkpoint_whose_place_is_lost_goes_where_the_options_say() {
    let (all, last_segment, end) = (30, 3, 0);
    for (name, lost_place, unread) in [
        ("cp-empty", LostPlace::Before, all),
        ("cp-empty", LostPlace::After, end),
        ("cp-empty", LostPlace::End, end),
        ("cp-past-marker", LostPlace::Before, last_segment),
        ("cp-past-marker", LostPlace::After, end),
        ("cp-past-log", LostPlace::Before, last_segment),
        ("cp-past-log", LostPlace::End, end),
    ] {
        let scratch = case(name).copy();
        let options = Options { lost_place, ..Options::default() };
        let log = scratch.open();
        let plan = plan(&log, &inspect(&log).unwrap(), &options).unwrap();
        apply(&log, &plan, STAMP).unwrap();
        let mut reader = log.reader(&Subscriber::new("s").unwrap()).unwrap();
        assert_eq!(jlog_tests::read_unread(&mut reader).len(), unread, "{name}, {lost_place:?}");
    }
}

// Options.

#[test]
fn a_repair_restricted_to_a_part_touches_no_other() {
    let scratch = everything_damaged();
    let parts = [Part::Metastore, Part::Checkpoints, Part::Indexes, Part::Data, Part::PreCommit];
    for part in parts {
        let log = scratch.open();
        let options = Options { only: vec![part], ..Options::default() };
        let plan = plan(&log, &inspect(&log).unwrap(), &options).unwrap();
        assert!(!plan.is_empty(), "{part:?}");
        for step in &plan.steps {
            // Cutting data takes the index and the checkpoints of that segment along.
            let along = part == Part::Data && matches!(step.part, Part::Indexes | Part::Checkpoints);
            assert!(step.part == part || along, "{part:?}: {step:?}");
        }
    }
}

#[test]
fn a_repair_of_what_is_safe_loses_no_whole_message() {
    for case in damaged() {
        let scratch = case.copy();
        let before = read_all(&scratch.open()).records;
        let log = scratch.open();
        let options = Options { safe_only: true, ..Options::default() };
        let plan = plan(&log, &inspect(&log).unwrap(), &options).unwrap();
        assert!(plan.steps.iter().all(|step| step.safe), "{}", case.name);
        apply(&log, &plan, STAMP).unwrap();
        let after = read_all(&scratch.open()).records;
        let bytes =
            |seen: &[jlog_tests::Seen]| seen.iter().map(|r| (r.id, r.payload.clone())).collect::<Vec<_>>();
        assert_eq!(bytes(&after), bytes(&before), "{}", case.name);
    }
}

#[test]
fn holes_that_are_left_stay_and_ids_stay_with_them() {
    for name in ["magic-middle", "garbage-middle-closed", "mlen-huge-closed"] {
        let scratch = case(name).copy();
        let before = own_files(&scratch);
        let log = scratch.open();
        let options = Options { holes: Holes::Leave, ..Options::default() };
        let plan = plan(&log, &inspect(&log).unwrap(), &options).unwrap();
        assert!(plan.is_empty() && plan.left.len() == 1, "{name}: {plan:?}");
        apply(&log, &plan, STAMP).unwrap();
        assert!(own_files(&scratch) == before);
    }
}

#[test]
fn without_copies_there_is_no_way_back_and_nothing_is_left_lying() {
    let scratch = case("magic-middle").copy();
    let log = scratch.open();
    let options = Options { no_undo: true, ..Options::default() };
    let plan = plan(&log, &inspect(&log).unwrap(), &options).unwrap();
    assert_eq!(plan.kept_bytes, 0);
    assert_eq!(apply(&log, &plan, STAMP).unwrap().kept, None);
    assert_eq!(undo(scratch.path()).unwrap(), None);
    assert!(scratch.files().keys().all(|path| !path.starts_with(".repair")));
    assert!(planned(&scratch.open()).is_empty());
}

// What stands in its way.

#[test]
fn a_log_that_has_changed_since_it_was_looked_at_is_not_repaired() {
    let scratch = case("magic-middle").copy();
    let plan = planned(&scratch.open());
    let mut bytes = scratch.read("00000001");
    bytes.extend_from_slice(b"more");
    scratch.write("00000001", &bytes);
    let before = own_files(&scratch);
    assert_eq!(apply(&scratch.open(), &plan, STAMP).unwrap_err().kind(), ErrorKind::Invalid);
    assert!(own_files(&scratch) == before);
}

#[test]
fn a_log_that_somebody_writes_to_is_busy_and_not_repaired() {
    let scratch = case("torn-payload-current").copy();
    let plan = planned(&scratch.open());
    let before = own_files(&scratch);
    for name in ["00000003", "metastore"] {
        let held =
            jlog::io::File::open(&jlog::io::OsDisk, &scratch.file(name), jlog::io::Open::ReadWrite).unwrap();
        let lock = held.lock().unwrap();
        assert_eq!(apply(&scratch.open(), &plan, STAMP).unwrap_err().kind(), ErrorKind::Busy, "{name}");
        drop(lock);
        assert!(own_files(&scratch) == before);
    }
    let writer = scratch.open().writer().unwrap();
    assert_eq!(planned(&scratch.open()).steps.len(), 0, "the writer has cut the torn end");
    drop(writer);
}

#[test]
fn a_segment_that_somebody_has_open_is_not_replaced() {
    let scratch = case("magic-middle").copy();
    let plan = planned(&scratch.open());
    let before = own_files(&scratch);
    let reading = std::fs::File::open(scratch.file("00000001")).unwrap();
    assert_eq!(apply(&scratch.open(), &plan, STAMP).unwrap_err().kind(), ErrorKind::Busy);
    assert!(own_files(&scratch) == before);
    drop(reading);
    apply(&scratch.open(), &plan, STAMP).unwrap();
}

#[test]
fn no_ids_are_moved_under_a_reader_that_has_not_read_yet() {
    let scratch = case("magic-middle").copy();
    scratch.open().set_checkpoint(&jlog::Subscriber::new("s").unwrap(), RecordId::new(1, 7)).unwrap();
    let plan = planned(&scratch.open());
    let reader = scratch.open().reader(&jlog::Subscriber::new("s").unwrap()).unwrap();
    assert_eq!(apply(&scratch.open(), &plan, STAMP).unwrap_err().kind(), ErrorKind::Busy);
    drop(reader);
    let plan = planned(&scratch.open());
    apply(&scratch.open(), &plan, STAMP).unwrap();
    let mut reader = scratch.open().reader(&jlog::Subscriber::new("s").unwrap()).unwrap();
    assert_eq!(
        reader.next_record().unwrap().unwrap().time.micros,
        16,
        "the eighth of that segment as it was"
    );
}

#[test]
fn a_repair_is_not_taken_back_over_what_was_written_since() {
    let scratch = case("torn-payload-current").copy();
    mend(&scratch);
    scratch.open().writer().unwrap().append(b"new", at(1)).unwrap();
    let after = own_files(&scratch);
    assert_eq!(undo(scratch.path()).unwrap_err().kind(), ErrorKind::Invalid);
    assert!(own_files(&scratch) == after);
}

#[test]
fn without_space_for_the_copies_nothing_is_changed() {
    let disk = on_sim(case("magic-middle"), 1);
    let before = sim_files(&disk);
    let bytes: usize = before.values().map(Vec::len).sum();
    let plan = planned(&open_sim(&disk));
    assert!(plan.kept_bytes >= 1044);
    for room in [0, 500, 1044, 2000] {
        disk.limit(Some(bytes as u64 + room));
        assert_eq!(apply(&open_sim(&disk), &plan, STAMP).unwrap_err().kind(), ErrorKind::NoSpace, "{room}");
        assert!(sim_files(&disk) == before, "{room}");
    }
}

// Broken off.

/// A log in which everything that can be mended is to be mended.
fn everything_damaged() -> Scratch {
    let scratch = case("idx-wrong-offset").copy();
    for (name, bytes) in everything() {
        scratch.write(name, &bytes);
    }
    scratch
}

/// The files that make it so, over `idx-wrong-offset`: damage in two segments and behind two checkpoints, a torn end.
fn everything() -> Vec<(&'static str, Vec<u8>)> {
    let file = |name: &str| std::fs::read(case("idx-wrong-offset").dir().join(name)).unwrap();
    let mut first = file("00000000");
    first[232..236].fill(0);
    first[700..760].fill(0xee);
    let mut third = file("00000002");
    third[12] = 0x66;
    let mut active = file("00000003");
    active.truncate(300);
    let buffer = std::fs::read(case("precommit-torn").dir().join("pre_commit")).unwrap();
    vec![
        ("00000000", first),
        ("00000002", third),
        ("00000003", active),
        ("cp.73", in_order(jlog::Order::Little, &[0, 7])),
        ("cp.6b656570", in_order(jlog::Order::Little, &[2, 5])),
        ("cp.7a", b"abc".to_vec()),
        ("metastore", in_order(jlog::Order::Little, &[1, 1000, 1, MAGIC])),
        ("pre_commit", buffer),
    ]
}

/// The logs on which a repair is broken off, on a simulated disk: one of each kind of step, and all of them at once.
fn broken_off() -> Vec<(String, SimDisk)> {
    let names = [
        "torn-payload-current",
        "magic-middle",
        "meta-missing",
        "meta-behind",
        "idx-shifted",
        "cp-empty",
        "precommit-torn",
        "missing-current",
    ];
    let mut all: Vec<_> = names.iter().map(|name| ((*name).to_owned(), on_sim(case(name), 1))).collect();
    let disk = on_sim(case("idx-wrong-offset"), 1);
    for (name, bytes) in everything() {
        put(&disk, name, &bytes);
    }
    all.push(("everything".to_owned(), disk));
    all
}

fn own(files: BTreeMap<String, Vec<u8>>) -> BTreeMap<String, Vec<u8>> {
    files.into_iter().filter(|(path, _)| !path.starts_with(".repair/")).collect()
}

fn repair_on(disk: &SimDisk) -> Result<Repaired> {
    let log = open_sim(disk);
    let plan = plan(&log, &inspect(&log)?, &Options::default())?;
    apply(&log, &plan, STAMP)
}

/// The messages that a log gives, and those that its subscribers have yet to read, by name.
type Readable = (Vec<Vec<u8>>, BTreeMap<String, Vec<Vec<u8>>>);

fn readable(disk: &SimDisk) -> Readable {
    let log = open_sim(disk);
    let all = read_all(&log).records.into_iter().map(|record| record.payload).collect();
    let mut unread = BTreeMap::new();
    for subscriber in log.subscribers().unwrap() {
        let Ok(mut reader) = log.reader(&subscriber) else { continue };
        let seen = jlog_tests::read_unread(&mut reader);
        unread.insert(subscriber.to_string(), seen.into_iter().map(|record| record.payload).collect());
    }
    (all, unread)
}

/// After a repair was broken off: no message is less than before, and a new repair finishes what is left to do.
fn assert_goes_on(disk: &SimDisk, before: &Readable, finished: &BTreeMap<String, Vec<u8>>, what: &str) {
    let kept = |now: &[Vec<u8>], before: &[Vec<u8>]| before.iter().all(|message| now.contains(message));
    for when in ["broken off", "finished"] {
        let (all, unread) = readable(disk);
        assert!(kept(&all, &before.0), "{what}, {when}: a message is gone");
        for (name, before) in &before.1 {
            if let Some(now) = unread.get(name) {
                assert!(kept(now, before), "{what}, {when}: \"{name}\" skips a message");
            }
        }
        if when == "broken off" {
            repair_on(disk).unwrap_or_else(|error| panic!("{what}: {error}"));
        }
    }
    let again = planned(&open_sim(disk));
    assert!(again.is_empty(), "{what}: {:#?}", again.steps);
    let segments = |files: &BTreeMap<String, Vec<u8>>| -> Vec<_> {
        files
            .iter()
            .filter(|(name, _)| name.len() == 8)
            .map(|(name, bytes)| (name.clone(), bytes.clone()))
            .collect()
    };
    assert!(segments(&own(sim_files(disk))) == segments(finished), "{what}: the segments are others");
}

/// How many operations a repair takes, and what it leaves.
fn repaired_undisturbed(whole: &SimDisk) -> (u64, BTreeMap<String, Vec<u8>>) {
    let disk = whole.power_cut();
    let plan = planned(&open_sim(&disk));
    let start = disk.operations();
    apply(&open_sim(&disk), &plan, STAMP).unwrap();
    (disk.operations() - start, own(sim_files(&disk)))
}

/// A repair that can do nothing more from its `n`-th operation on.
fn repaired_up_to(disk: &SimDisk, n: u64) {
    let plan = planned(&open_sim(disk));
    disk.fail_at(disk.operations() + n, EIO, Times::Sticky);
    let _ =
        Log::open_on(std::sync::Arc::new(disk.clone()), SIM_LOG).and_then(|log| apply(&log, &plan, STAMP));
}

#[test]
fn a_repair_that_is_killed_anywhere_is_finished_by_the_next_one_and_can_be_taken_back() {
    for (name, whole) in broken_off() {
        let before = readable(&whole);
        let (operations, finished) = repaired_undisturbed(&whole);
        for n in 0..operations {
            let disk = whole.power_cut();
            let originals = own(sim_files(&disk));
            repaired_up_to(&disk, n);
            disk.heal();
            assert_goes_on(&disk, &before, &finished, &format!("{name}, killed at {n}"));

            while undo_on(std::sync::Arc::new(disk.clone()), Path::new(SIM_LOG)).unwrap().is_some() {}
            assert!(
                own(sim_files(&disk)) == originals,
                "{name}, killed at {n}: taken back it is not what it was"
            );
        }
    }
}

#[test]
fn a_power_cut_anywhere_in_a_repair_loses_nothing_and_the_next_one_finishes_it() {
    for (name, whole) in broken_off() {
        let before = readable(&whole);
        let (operations, finished) = repaired_undisturbed(&whole);
        for n in 0..operations {
            let disk = whole.power_cut();
            repaired_up_to(&disk, n);
            for seed in 0..3 {
                let cut = if seed == 0 { disk.power_cut() } else { disk.torn_power_cut(seed) };
                assert_goes_on(&cut, &before, &finished, &format!("{name}, cut at {n}, seed {seed}"));
            }
        }
    }
}

#[test]
fn taking_back_can_be_broken_off_and_done_again() {
    for (name, whole) in broken_off() {
        let originals = own(sim_files(&whole));
        let mended = whole.power_cut();
        repair_on(&mended).unwrap();
        let back = |disk: &SimDisk| undo_on(std::sync::Arc::new(disk.clone()), Path::new(SIM_LOG));
        let operations = {
            let disk = mended.power_cut();
            back(&disk).unwrap();
            disk.operations()
        };
        for n in 0..operations {
            let disk = mended.power_cut();
            disk.fail_at(n, EIO, Times::Sticky);
            let _ = back(&disk);
            disk.heal();
            while back(&disk).unwrap_or_else(|error| panic!("{name}, killed at {n}: {error}")).is_some() {}
            assert!(own(sim_files(&disk)) == originals, "{name}, killed at {n}");
        }
    }
}

#[test]
fn metastore_and_active_segment_are_mended_together_unless_somebody_has_the_segment_open() {
    // The metastore names segment 1, which is damaged; later ones are there.
    let scratch = case("meta-behind").copy();
    let mut bytes = scratch.read("00000001");
    bytes[464..480].fill(0xee);
    scratch.write("00000001", &bytes);
    let plan = planned(&scratch.open());
    let metastore_alone = jlog::repair::plan(
        &scratch.open(),
        &inspect(&scratch.open()).unwrap(),
        &Options { only: vec![jlog::repair::Part::Metastore], ..Options::default() },
    );
    let before = own_files(&scratch);
    let writing = std::fs::File::open(scratch.file("00000001")).unwrap();
    for plan in [&plan, &metastore_alone.unwrap()] {
        assert_eq!(apply(&scratch.open(), plan, STAMP).unwrap_err().kind(), ErrorKind::Busy);
        assert!(own_files(&scratch) == before);
    }
    drop(writing);
    apply(&scratch.open(), &plan, STAMP).unwrap();
    assert!(inspect(&scratch.open()).unwrap().is_sound());
}

/// Each number of a long gap was looked for on the disk, one after the other: a repair did not come to an end.
#[test]
fn a_segment_of_a_great_number_does_not_make_a_repair_look_for_all_before_it() {
    let disk = SimDisk::new(1);
    let log =
        Log::create_on(Arc::new(disk.clone()), SIM_LOG, &CreateOptions::new().segment_size(600)).unwrap();
    let writer = log.writer().unwrap();
    for n in 0..20 {
        writer.append(&[b'x'; 90], at(n)).unwrap();
    }
    writer.close().unwrap();
    let before = read_all(&log).payloads().len();
    let last = Path::new(SIM_LOG).join(log.segments().unwrap().last().unwrap().to_string());
    disk.rename(&last, &Path::new(SIM_LOG).join("ff000002")).unwrap();

    let log = open_sim(&disk);
    disk.fail_at(disk.operations() + 3000, EIO, Times::Sticky);
    let plan = jlog::repair::plan(&log, &inspect(&log).unwrap(), &Options::default()).unwrap();
    apply(&log, &plan, STAMP).unwrap();
    disk.heal();
    let after = read_all(&open_sim(&disk)).records.len();
    assert!((1..before).contains(&after), "{after} of {before}");
}

/// Of the segments behind the last one that is there an inspection named the active one alone, so a first repair put a note in its
/// place, and only then was it seen that others before it were missing too.
#[test]
fn segments_that_are_missing_with_the_active_one_are_mended_with_it() {
    let disk = SimDisk::new(1);
    let log =
        Log::create_on(Arc::new(disk.clone()), SIM_LOG, &CreateOptions::new().segment_size(600)).unwrap();
    let writer = log.writer().unwrap();
    for n in 0..20 {
        writer.append(&[b'x'; 90], at(n)).unwrap();
    }
    writer.close().unwrap();
    let segments = log.segments().unwrap();
    for gone in &segments[1..] {
        disk.remove(&Path::new(SIM_LOG).join(gone.to_string())).unwrap();
    }
    let missing: Vec<_> =
        inspect(&open_sim(&disk)).unwrap().problems().map(|found| (found.kind, found.segment)).collect();
    assert_eq!(missing, [(FindingKind::Missing, Some(segments[1]))]);
    let first = planned(&open_sim(&disk));
    apply(&open_sim(&disk), &first, STAMP).unwrap();
    assert!(segments.len() > 3 && first.steps.len() > 1, "{:?}", first.steps);
    assert_eq!(planned(&open_sim(&disk)).steps, []);
}

/// What one repair had to leave the next one mended, but the index it kept: that said where the segment had ended before, and a third
/// repair made it again.
#[test]
fn the_index_of_a_segment_that_is_mended_twice_is_right_the_second_time() {
    let disk = SimDisk::new(1);
    let log =
        Log::create_on(Arc::new(disk.clone()), SIM_LOG, &CreateOptions::new().segment_size(600)).unwrap();
    let writer = log.writer().unwrap();
    for n in 0..12 {
        writer.append(&[b'x'; 90], at(n)).unwrap();
    }
    writer.close().unwrap();
    let file = |name: &str| Path::new(SIM_LOG).join(name);
    disk.rename(&file("control"), &file("00000000")).unwrap();
    disk.rename(&file("00000001"), &file("00000000.idx")).unwrap();
    for _ in 0..2 {
        apply(&open_sim(&disk), &planned(&open_sim(&disk)), STAMP).unwrap();
    }
    assert_eq!(planned(&open_sim(&disk)).steps, []);
    let seen = inspect(&open_sim(&disk)).unwrap();
    assert!(seen.findings.iter().all(|found| found.kind == FindingKind::Repaired), "{:?}", seen.findings);
}
