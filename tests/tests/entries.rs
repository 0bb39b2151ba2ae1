//! What a store builds upon: records of its own kinds, commits of several of them, and reading one by its place.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::sync::Arc;

use jlog::io::sim::SimDisk;
use jlog::{
    Compression, CreateOptions, Durability, Entry, ErrorKind, Kind, Log, Place, RecordId, SegmentId,
    Timestamp, inspect, repair,
};
use jlog_tests::{SIM_LOG, Scratch, at, get, open_sim, put, read_all};

const NOTE: Kind = Kind::application(16).unwrap();
const LAST: Kind = Kind::application(255).unwrap();

fn log_of(scratch: &Scratch, segment: u32, compression: Compression) -> Log {
    let options = CreateOptions::new().segment_size(segment).compression(compression);
    Log::create_with(scratch.path(), &options).unwrap()
}

fn sim_log(disk: &SimDisk) -> Log {
    let options = CreateOptions::new().segment_size(1 << 20);
    Log::create_on(Arc::new(disk.clone()), SIM_LOG, &options).unwrap()
}

fn entry(kind: Kind, n: u32, payload: &[u8]) -> Entry<'_> {
    Entry { kind, time: at(n), payload }
}

/// The kind, the time and the message at a place.
fn read(log: &Log, place: Place, expected: usize) -> jlog::Result<(Kind, Timestamp, Vec<u8>)> {
    let mut payload = b"what was in it before".to_vec();
    let found = log.read_at(place.id.segment, place.offset, expected, &mut payload);
    assert!(found.is_ok() || payload.is_empty(), "after an error it is empty");
    found.map(|(kind, time)| (kind, time, payload))
}

#[test]
fn the_numbers_below_16_are_no_applications_kinds() {
    assert!((0..16).all(|n| Kind::application(n).is_none()));
    assert!((16..=255).all(|n| Kind::application(n).is_some_and(|kind| kind.number() == n)));
    assert_eq!(Kind::MESSAGE.number(), 1);
}

#[test]
fn records_of_all_kinds_are_delivered_counted_and_found_again_by_their_place() {
    for compression in [Compression::None, Compression::Lz4] {
        let scratch = Scratch::new();
        let log = log_of(&scratch, 1 << 20, compression);
        let writer = log.writer().unwrap();
        assert_eq!(writer.append_entries(&[], Durability::Sync).unwrap(), []);
        // On both sides of the size from which on payloads are not copied, and of a multiple of 8.
        let lens = [0, 1, 7, 8, 100, 16_384, 16_385, 70_001, 200_000, 3];
        let payloads: Vec<Vec<u8>> = (0u8..).zip(lens).map(|(n, len)| vec![n; len]).collect();
        let kinds = [Kind::MESSAGE, NOTE, LAST];
        let entries: Vec<_> =
            (0u32..).zip(&payloads).map(|(n, payload)| entry(kinds[n as usize % 3], n, payload)).collect();
        writer.append(b"before", at(9)).unwrap();
        let mut places = writer.append_entries(&entries[..6], Durability::Sync).unwrap();
        for one in &entries[6..] {
            places.extend(writer.append_entries(&[*one], Durability::Process).unwrap());
        }
        writer.append(b"behind", at(9)).unwrap();

        let passed = read_all(&log);
        let seen = &passed.records[1..passed.records.len() - 1];
        assert_eq!((passed.gaps.len(), seen.len()), (0, entries.len()));
        for ((seen, entry), place) in seen.iter().zip(&entries).zip(&places) {
            assert_eq!((seen.kind, seen.time, &seen.payload[..]), (entry.kind, entry.time, entry.payload));
            assert_eq!((seen.id, seen.offset, seen.stored_len), (place.id, place.offset, place.stored_len));
            for expected in [0, 5, entry.payload.len(), entry.payload.len() + 100, usize::MAX] {
                let wanted = (entry.kind, entry.time, entry.payload.to_vec());
                assert_eq!(read(&log, *place, expected).unwrap(), wanted, "expecting {expected}");
            }
        }
        let seen = inspect::inspect(&log).unwrap();
        assert_eq!((seen.problems().count(), seen.messages), (0, entries.len() as u64 + 2));
    }
}

#[test]
fn entries_appended_together_are_there_together_or_not_at_all() {
    let payloads: Vec<Vec<u8>> = (1..=5u8).map(|n| vec![n; n as usize * 300]).collect();
    let entries: Vec<_> = (0..).zip(&payloads).map(|(n, payload)| entry(NOTE, n, payload)).collect();
    let (mut whole, mut none) = (0, 0);
    for seed in 0..60 {
        let disk = SimDisk::new(seed);
        let log = sim_log(&disk);
        let writer = log.writer().unwrap();
        writer.append(b"before", at(0)).unwrap();
        writer.append_entries(&entries, Durability::Process).unwrap();
        let cut = open_sim(&disk.torn_power_cut(seed));
        cut.writer().unwrap();
        let there = read_all(&cut);
        assert_eq!(there.gaps, []);
        match there.records.len() - 1 {
            0 => none += 1,
            5 => whole += 1,
            some => panic!("{some} of them are there"),
        }
    }
    assert!(whole > 0 && none > 0, "both were met: {whole}, {none}");

    let disk = SimDisk::new(1);
    let writer = sim_log(&disk).writer().unwrap();
    writer.append_entries(&entries, Durability::Sync).unwrap();
    let cut = open_sim(&disk.torn_power_cut(1));
    assert_eq!(read_all(&cut).records.len(), 5, "what was synced is there");
}

#[test]
fn a_kind_of_the_formats_own_is_delivered_and_not_appended() {
    let disk = SimDisk::new(1);
    let log = sim_log(&disk);
    let place = log.writer().unwrap().append_entries(&[entry(NOTE, 1, b"x")], Durability::Sync).unwrap()[0];
    // Of a later version: its number changed, and its checksum made anew.
    let mut bytes = get(&disk, "00000000").unwrap();
    let from = place.offset as usize;
    bytes[from + 12] = 9;
    let mut placed = log.identity().unwrap().0.to_vec();
    placed.extend([0; 4]);
    placed.extend(place.offset.to_le_bytes());
    placed.extend(&bytes[from..from + 20]);
    bytes[from + 20..from + 24].copy_from_slice(&crc32fast::hash(&placed).to_le_bytes());
    put(&disk, "00000000", &bytes);

    let log = open_sim(&disk);
    let seen = read_all(&log).records;
    assert_eq!((seen.len(), seen[0].kind.number(), &seen[0].payload[..]), (1, 9, &b"x"[..]));
    let again = log.writer().unwrap().append_entries(&[entry(seen[0].kind, 1, b"x")], Durability::Sync);
    assert_eq!(again.unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn what_stands_elsewhere_is_no_record_of_this_place() {
    let scratch = Scratch::new();
    let log = log_of(&scratch, 1 << 20, Compression::None);
    let places = log
        .writer()
        .unwrap()
        .append_entries(&[entry(NOTE, 1, &[7; 200]), entry(NOTE, 2, &[8; 200])], Durability::Sync)
        .unwrap();
    let kind_at = |segment: u32, offset: u64| {
        let id = RecordId::new(segment, 1);
        read(&log, Place { id, offset, stored_len: 0 }, 200).unwrap_err()
    };
    for offset in [0, 128, places[0].offset + 8, places[0].offset - 8, 1 << 19, 1 << 40, 1 << 63, u64::MAX] {
        let error = kind_at(0, offset);
        assert_eq!((error.kind(), error.offset()), (ErrorKind::Damaged, Some(offset)), "{error}");
        assert_eq!(error.path(), Some(&*scratch.path().join("00000000")));
    }
    assert_eq!(kind_at(1, places[0].offset).kind(), ErrorKind::NoSuchRecord);

    // Every bit of the second one, held open or not.
    let path = scratch.path().join("00000000");
    let sound = std::fs::read(&path).unwrap();
    let from = places[1].offset as usize;
    for bit in (from * 8..(from + 24 + 200) * 8).step_by(7) {
        let mut bytes = sound.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&path, &bytes).unwrap();
        let error = read(&log, places[1], 200).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "bit {bit}: {error}");
        assert!(read(&log, places[0], 200).is_ok());
    }
    std::fs::write(&path, &sound[..from + 100]).unwrap();
    assert_eq!(read(&log, places[1], 200).unwrap_err().kind(), ErrorKind::Damaged, "cut short");
}

#[test]
fn a_record_of_an_open_segment_is_read_with_one_call() {
    let disk = SimDisk::new(1);
    let log = sim_log(&disk);
    let payload = [7; 4096];
    let place =
        log.writer().unwrap().append_entries(&[entry(NOTE, 1, &payload)], Durability::Sync).unwrap()[0];
    read(&log, place, 4096).unwrap();
    for (expected, calls) in [(4096, 1), (5000, 1), (100, 3)] {
        let before = disk.operations();
        read(&log, place, expected).unwrap();
        assert!(disk.operations() - before <= calls, "expecting {expected}");
    }
}

#[test]
fn a_segment_that_is_gone_holds_no_record_whoever_removed_it() {
    let scratch = Scratch::new();
    let log = log_of(&scratch, 400, Compression::None);
    let other = Log::open(scratch.path()).unwrap();
    let writer = log.writer().unwrap();
    let mut places = Vec::new();
    for n in 0..200 {
        places
            .extend(writer.append_entries(&[entry(NOTE, n, &[n as u8; 150])], Durability::Process).unwrap());
    }
    let active = log.active_segment().unwrap();
    let first_kept = SegmentId(active.0 - 1);
    for log in [&log, &other] {
        // More than are held open, forth and back.
        for n in (0..200u8).chain((0..200).rev()) {
            assert_eq!(read(log, places[usize::from(n)], 150).unwrap().2, vec![n; 150]);
        }
    }
    log.drop_before(first_kept).unwrap();
    // The space of one of them is used again.
    for n in 0..10 {
        writer.append(&[n; 150], at(0)).unwrap();
    }
    for (n, place) in (0u8..).zip(&places) {
        for log in [&log, &other] {
            let found = read(log, *place, 150);
            match place.id.segment >= first_kept {
                true => assert_eq!(found.unwrap().2, vec![n; 150]),
                // Who has it open from before may still read it where no other process tells him.
                false if std::ptr::eq(log, &other) && found.is_ok() => {
                    assert_eq!(found.unwrap().2, vec![n; 150]);
                }
                false => assert_eq!(found.unwrap_err().kind(), ErrorKind::NoSuchRecord, "{place:?}"),
            }
        }
    }
}

#[test]
fn many_threads_read_by_place_beside_a_writer_and_a_pruner() {
    let scratch = Scratch::new();
    let log = log_of(&scratch, 4000, Compression::None);
    let writer = log.writer().unwrap();
    let mut places = Vec::new();
    let append = |places: &mut Vec<Place>| {
        let n = places.len() as u32;
        places
            .extend(writer.append_entries(&[entry(NOTE, n, &n.to_le_bytes())], Durability::Process).unwrap());
    };
    (0..2000).for_each(|_| append(&mut places));
    let half = places[1000].id.segment;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (log, places) = (&log, places.clone());
            scope.spawn(move || {
                for (n, place) in places.iter().enumerate() {
                    match read(log, *place, 4) {
                        Ok((kind, _, payload)) => {
                            assert_eq!((kind, payload), (NOTE, (n as u32).to_le_bytes().to_vec()));
                        }
                        Err(error) => {
                            assert!(place.id.segment < half, "{error}");
                            assert_eq!(error.kind(), ErrorKind::NoSuchRecord, "{error}");
                        }
                    }
                }
            });
        }
        log.drop_before(half).unwrap();
        (0..500).for_each(|_| append(&mut places));
    });
}

#[test]
fn a_rotation_goes_on_in_the_next_segment_and_leaves_an_empty_one_alone() {
    let disk = SimDisk::new(1);
    let log = sim_log(&disk);
    let writer = log.writer().unwrap();
    assert_eq!(writer.rotate().unwrap(), SegmentId(0), "it holds no record");
    let places = writer.append_entries(&[entry(NOTE, 1, b"one")], Durability::Process).unwrap();
    assert_eq!(writer.rotate().unwrap(), SegmentId(1));
    assert_eq!(writer.rotate().unwrap(), SegmentId(1));
    assert_eq!(log.active_segment().unwrap(), SegmentId(1));
    let cut = open_sim(&disk.power_cut());
    assert_eq!(read(&cut, places[0], 3).unwrap().2, b"one", "it was durable");
    assert_eq!(cut.segments().unwrap(), [SegmentId(0), SegmentId(1)]);

    assert_eq!(writer.append(b"two", at(2)).unwrap(), RecordId::new(1, 1));
    writer.close().unwrap();
    assert_eq!(read_all(&log).payloads(), [b"one", b"two"]);
    let seen = inspect::inspect(&log).unwrap();
    assert_eq!(seen.findings, []);
    assert!(seen.segments.iter().all(|segment| segment.sound));
}

#[test]
fn a_repair_keeps_records_of_all_kinds() {
    let disk = SimDisk::new(1);
    let log = sim_log(&disk);
    let writer = log.writer().unwrap();
    let mut places = Vec::new();
    for n in 0..5 {
        places.extend(writer.append_entries(&[entry(LAST, n, &[n as u8; 40])], Durability::Sync).unwrap());
    }
    writer.close().unwrap();
    let mut bytes = get(&disk, "00000000").unwrap();
    bytes[places[2].offset as usize + 30] ^= 1;
    put(&disk, "00000000", &bytes);
    let log = open_sim(&disk);
    let seen = inspect::inspect(&log).unwrap();
    let plan = repair::plan(&log, &seen, &repair::Options::default()).unwrap();
    repair::apply(&log, &plan, "now").unwrap();
    let log = open_sim(&disk);
    let kept: Vec<_> = read_all(&log).records;
    assert_eq!(kept.iter().map(|seen| seen.payload[0]).collect::<Vec<_>>(), [0, 1, 3, 4]);
    assert!(kept.iter().all(|seen| seen.kind == LAST));
    assert_eq!(read(&log, places[2], 40).unwrap_err().kind(), ErrorKind::Damaged);
}

#[test]
fn a_classic_log_has_none_of_it() {
    let scratch = Scratch::new();
    let log = Log::create_with(scratch.path(), &CreateOptions::classic()).unwrap();
    let writer = log.writer().unwrap();
    let id = writer.append(b"x", at(1)).unwrap();
    let unsupported =
        |outcome: jlog::Result<()>| assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Unsupported);
    unsupported(writer.append_entries(&[entry(Kind::MESSAGE, 1, b"x")], Durability::Sync).map(drop));
    unsupported(writer.rotate().map(drop));
    unsupported(log.read_at(id.segment, 0, 1, &mut Vec::new()).map(drop));
    unsupported(log.reclaim(id.segment));
    unsupported(log.is_reclaimed(id.segment).map(drop));
    assert_eq!(log.cursor().unwrap().next_record().unwrap().unwrap().kind, Kind::MESSAGE);
}
