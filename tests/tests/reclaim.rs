//! Giving back the space of finished segments, in any order.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::sync::{Arc, Mutex};

use jlog::io::sim::{Limits, Profile, SimDisk, Times};
use jlog::{
    CreateOptions, Durability, Entry, ErrorKind, GapKind, IndexState, Kind, Log, Place, RecordId, SegmentId,
    Start, Subscriber, inspect, repair,
};
use jlog_tests::{Passed, SIM_LOG, at, get, open_sim, put, read_all, sim_files};
use nix::libc::{EIO, ENOSPC};

const NOTE: Kind = Kind::application(20).unwrap();

/// A log of several finished segments of four records each, and where these stand: record `n` holds the byte `n`.
fn log_on(disk: &SimDisk, segments: u8) -> (Log, Vec<Place>) {
    let log = Log::create_on(Arc::new(disk.clone()), SIM_LOG, &CreateOptions::new()).unwrap();
    for name in ["all", "half"] {
        log.add_subscriber(&subscriber(name), Start::Begin).unwrap();
    }
    let writer = log.writer().unwrap();
    let mut places = Vec::new();
    for segment in 0..segments {
        let payloads: Vec<_> = (0..4).map(|n| [segment * 4 + n; 100]).collect();
        let entries: Vec<_> =
            payloads.iter().map(|payload| Entry { kind: NOTE, time: at(1), payload }).collect();
        places.extend(writer.append_entries(&entries, Durability::Sync).unwrap());
        writer.rotate().unwrap();
    }
    writer.append(&[255; 10], at(2)).unwrap();
    writer.close().unwrap();
    (log, places)
}

fn subscriber(name: &str) -> Subscriber {
    Subscriber::new(name).unwrap()
}

fn plan(log: &Log) -> repair::RepairPlan {
    repair::plan(log, &inspect::inspect(log).unwrap(), &repair::Options::default()).unwrap()
}

fn bytes_of(passed: &Passed) -> Vec<u8> {
    passed.payloads().iter().map(|payload| payload[0]).collect()
}

/// What a gap tells.
type Told = (GapKind, SegmentId, Option<u64>);

/// What a subscriber reads from its checkpoint on, and what it is told of.
fn read_on(log: &Log, name: &str) -> (Vec<u8>, Vec<Told>) {
    let mut reader = log.reader(&subscriber(name)).unwrap();
    let (mut read, mut gaps) = (Vec::new(), Vec::new());
    loop {
        match reader.next_record() {
            Ok(Some(record)) => read.push(record.payload[0]),
            Ok(None) => return (read, gaps),
            Err(error) => {
                let gap = error.gap_met().unwrap();
                assert!(gap.to_string().contains("given back"), "{gap}");
                gaps.push((gap.kind, gap.segment, gap.lost));
                reader.skip_gap();
            }
        }
    }
}

#[test]
fn a_reclaimed_segment_is_a_stub_and_all_others_are_what_they_were() {
    let disk = SimDisk::new(1);
    let (log, places) = log_on(&disk, 5);
    let before = sim_files(&disk);
    let segment = SegmentId(2);
    assert!(!log.is_reclaimed(segment).unwrap());
    let mut payload = Vec::new();
    log.read_at(segment, places[8].offset, 100, &mut payload).unwrap();
    log.reclaim(segment).unwrap();

    assert!(log.is_reclaimed(segment).unwrap());
    assert!(get(&disk, "00000002").unwrap().len() < 200);
    let after = sim_files(&disk);
    let changed = |name: &String| before.get(name) != after.get(name);
    let changed: Vec<_> = before.keys().chain(after.keys()).filter(|name| changed(name)).collect();
    assert!(changed.iter().all(|name| name.starts_with("00000002")), "{changed:?}");
    for log in [&log, &open_sim(&disk.power_cut()), &open_sim(&disk)] {
        let passed = read_all(log);
        assert_eq!(passed.gaps, [], "nobody's loss");
        assert_eq!(
            bytes_of(&passed),
            [&(0..8).collect::<Vec<_>>()[..], &(12..20).collect::<Vec<_>>(), &[255]].concat()
        );
        for (n, place) in places.iter().enumerate() {
            let found = log.read_at(place.id.segment, place.offset, 100, &mut payload);
            match found {
                Ok(_) => assert_eq!(payload, [n as u8; 100]),
                Err(error) => {
                    assert_eq!((place.id.segment, error.kind()), (segment, ErrorKind::NoSuchRecord));
                }
            }
        }
        let behind = log.cursor_after(RecordId::new(2, 2)).next_record().unwrap().map(|record| record.id);
        assert_eq!(behind, Some(RecordId::new(3, 1)));
    }
}

#[test]
fn a_power_cut_at_any_moment_leaves_the_segment_or_the_stub_and_no_index_that_leads_astray() {
    for profile in [Profile::Posix, Profile::GarbageTail] {
        let disk = SimDisk::new(1);
        let log = Log::create_on(Arc::new(disk.clone()), SIM_LOG, &CreateOptions::new()).unwrap();
        let writer = log.writer().unwrap();
        // Long enough for an index of several entries.
        for n in 0..90u8 {
            writer.append_as(&[n; 300], at(u32::from(n)), Durability::Process).unwrap();
            if n % 30 == 29 {
                writer.rotate().unwrap();
            }
        }
        writer.close().unwrap();
        disk.profile(profile);
        let states = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&states);
        let limits = Limits { exhaustive_atoms: 8, exhaustive_images: 32, samples: 8 };
        disk.observe(move |disk, _| noted.lock().unwrap().push(disk.crash_states(limits, 1)));
        log.reclaim(SegmentId(1)).unwrap();
        disk.unobserve();
        let states = std::mem::take(&mut *states.lock().unwrap());

        let (mut stubs, mut whole) = (0, 0);
        for image in states.into_iter().flatten() {
            let log = open_sim(&image);
            let is_stub = log.is_reclaimed(SegmentId(1)).unwrap();
            if is_stub {
                stubs += 1;
            } else {
                whole += 1;
            }
            let there: Vec<u8> = (0..90).filter(|n| !is_stub || !(30..60).contains(n)).collect();
            for after in [0, 1, 15, 29, 30] {
                let mut cursor = log.cursor_after(RecordId::new(1, after));
                let passed = jlog_tests::read_on(&mut cursor);
                assert_eq!(passed.gaps, [], "behind {after}");
                let wanted: Vec<_> = there.iter().copied().filter(|n| *n >= 30 + after as u8).collect();
                assert_eq!(bytes_of(&passed), wanted, "behind {after}");
            }
            assert_eq!(bytes_of(&read_all(&log)), there);
            assert_eq!(inspect::inspect(&log).unwrap().problems().count(), 0);
            log.reclaim(SegmentId(1)).unwrap();
            let cut = open_sim(&image.power_cut());
            assert!(cut.is_reclaimed(SegmentId(1)).unwrap(), "it was durable, whoever had begun it");
        }
        let cut = open_sim(&disk.power_cut());
        assert!(cut.is_reclaimed(SegmentId(1)).unwrap(), "it is durable");
        assert!(stubs > 0 && whole > 0, "{profile:?}: {stubs}, {whole}");
    }
}

#[test]
fn a_reclaim_that_fails_anywhere_takes_nothing_else_and_can_be_made_again() {
    for errno in [EIO, ENOSPC] {
        let mut failed = 0;
        loop {
            let disk = SimDisk::new(1);
            let (log, _) = log_on(&disk, 3);
            let fault = disk.operations() + failed;
            disk.fail_at(fault, errno, Times::Once);
            let outcome = log.reclaim(SegmentId(1));
            disk.heal();
            if disk.operations() <= fault {
                assert!(outcome.is_ok() && failed > 10);
                break;
            }
            let read = bytes_of(&read_all(&log));
            let whole = (0..4).all(|n| read.contains(&(4 + n)));
            assert!(whole || log.is_reclaimed(SegmentId(1)).unwrap(), "call {failed}: {read:?}");
            assert_eq!(read.len(), if whole { 13 } else { 9 }, "call {failed}");
            log.reclaim(SegmentId(1)).unwrap();
            let cut = open_sim(&disk.power_cut());
            assert!(cut.is_reclaimed(SegmentId(1)).unwrap(), "call {failed}: it is durable");
            assert_eq!(inspect::inspect(&cut).unwrap().problems().count(), 0, "call {failed}");
            failed += 1;
        }
    }
}

#[test]
fn an_inspection_counts_what_was_reclaimed_and_finds_nothing_wrong() {
    let disk = SimDisk::new(1);
    let (log, _) = log_on(&disk, 5);
    log.reclaim(SegmentId(1)).unwrap();
    log.reclaim(SegmentId(3)).unwrap();
    let seen = inspect::inspect(&log).unwrap();
    assert_eq!(seen.findings, []);
    let counted: Vec<_> = seen.segments.iter().map(|one| (one.messages, one.reclaimed, one.sound)).collect();
    let (whole, stub) = ((4, 0, true), (0, 4, true));
    assert_eq!(counted, [whole, stub, whole, stub, whole, (1, 0, true)]);
    assert!(seen.segments.iter().all(|one| one.last_marker.0 == if one.id.0 == 5 { 1 } else { 4 }));
    assert_eq!(seen.messages, 13);

    // An index that somebody makes of it holds as well.
    assert_eq!(log.build_index(SegmentId(3)).unwrap().state, IndexState::Complete);
    assert_eq!(inspect::inspect(&log).unwrap().findings, []);
    let behind = log.cursor_after(RecordId::new(3, 3)).next_record().unwrap().map(|record| record.id);
    assert_eq!(behind, Some(RecordId::new(4, 1)));

    assert!(plan(&log).is_empty(), "nothing is to be mended");
}

#[test]
fn a_subscriber_is_told_of_what_it_had_not_read_and_of_nothing_else() {
    let disk = SimDisk::new(1);
    let (log, _) = log_on(&disk, 4);
    log.set_checkpoint(&subscriber("half"), RecordId::new(1, 3)).unwrap();
    log.reclaim(SegmentId(0)).unwrap();
    log.reclaim(SegmentId(1)).unwrap();
    log.reclaim(SegmentId(2)).unwrap();
    let told = |segment: u32, lost: u64| (GapKind::Reclaimed, SegmentId(segment), Some(lost));
    assert_eq!(read_on(&log, "half"), (vec![12, 13, 14, 15, 255], vec![told(1, 1), told(2, 4)]));
    let all = vec![told(0, 4), told(1, 4), told(2, 4)];
    assert_eq!(read_on(&log, "all"), (vec![12, 13, 14, 15, 255], all));
    // A cursor is told if it is a subscriber's.
    let met = log.cursor_behind(RecordId::new(1, 3)).next_record().unwrap_err().gap_met().cloned().unwrap();
    assert_eq!((met.kind, met.segment, met.lost), told(1, 1));
    let next = log.cursor_after(RecordId::new(1, 3)).next_record().unwrap().map(|record| record.id);
    assert_eq!(next, Some(RecordId::new(3, 1)));
    log.set_checkpoint(&subscriber("half"), RecordId::new(2, 4)).unwrap();
    assert_eq!(read_on(&log, "half"), (vec![12, 13, 14, 15, 255], vec![]));
    let lag = log.lag(&subscriber("half")).unwrap();
    assert_eq!(lag.records, 5);
}

#[test]
fn only_a_finished_segment_that_is_there_can_be_reclaimed_and_again_changes_nothing() {
    let disk = SimDisk::new(1);
    let (log, _) = log_on(&disk, 3);
    assert_eq!(log.reclaim(SegmentId(3)).unwrap_err().kind(), ErrorKind::Invalid, "it is the active one");
    assert_eq!(log.reclaim(SegmentId(4)).unwrap_err().kind(), ErrorKind::NoSuchRecord);
    assert_eq!(log.is_reclaimed(SegmentId(4)).unwrap_err().kind(), ErrorKind::NoSuchRecord);
    assert!(!log.is_reclaimed(SegmentId(3)).unwrap());
    log.reclaim(SegmentId(1)).unwrap();
    let once = sim_files(&disk);
    log.reclaim(SegmentId(1)).unwrap();
    assert!(once == sim_files(&disk));

    log.reclaim(SegmentId(0)).unwrap();
    log.drop_before(SegmentId(2)).unwrap();
    assert_eq!(get(&disk, ".spare"), None, "a stub has no room for another segment");
    assert_eq!(log.reclaim(SegmentId(1)).unwrap_err().kind(), ErrorKind::NoSuchRecord);
    let passed = read_all(&log);
    assert_eq!((passed.gaps.len(), bytes_of(&passed)), (0, vec![8, 9, 10, 11, 255]));
    let writer = log.writer().unwrap();
    for _ in 0..3 {
        writer.append(&[7; 10], at(2)).unwrap();
        writer.rotate().unwrap();
    }
    assert_eq!(inspect::inspect(&log).unwrap().findings, []);
}

#[test]
fn a_segment_whose_length_nobody_knows_is_reclaimed_with_the_records_it_has() {
    let disk = SimDisk::new(1);
    let (_, _) = log_on(&disk, 3);
    // The next header is damaged: it says nothing any more of the one before.
    let mut bytes = get(&disk, "00000002").unwrap();
    bytes[70] ^= 1;
    put(&disk, "00000002", &bytes);
    let log = open_sim(&disk);
    assert_eq!(log.reclaim(SegmentId(2)).unwrap_err().kind(), ErrorKind::Damaged, "its header is damaged");
    log.reclaim(SegmentId(1)).unwrap();
    let seen = inspect::inspect(&log).unwrap();
    assert_eq!((seen.segments[1].reclaimed, seen.segments[1].sound), (4, true));
}

#[test]
fn a_damaged_stub_is_told_of_and_mended() {
    let disk = SimDisk::new(1);
    let (log, _) = log_on(&disk, 3);
    log.reclaim(SegmentId(1)).unwrap();
    let stub = get(&disk, "00000001").unwrap();
    for at in [130, 150, 170] {
        let disk = disk.power_cut();
        let mut bytes = stub.clone();
        bytes[at] ^= 4;
        put(&disk, "00000001", &bytes);
        let log = open_sim(&disk);
        let passed = read_all(&log);
        assert_eq!(passed.gaps.iter().map(|gap| gap.lost).collect::<Vec<_>>(), [Some(4)], "byte {at}");
        assert_eq!(bytes_of(&passed).len(), 9);
        repair::apply(&log, &plan(&log), "now").unwrap();
        assert!(inspect::inspect(&open_sim(&disk)).unwrap().is_sound(), "byte {at}");
    }
}
