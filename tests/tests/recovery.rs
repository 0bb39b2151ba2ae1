//! What an open for writing makes of what it finds at the end of a checksummed log: what it tells, what it closes, what it
//! leaves alone, and where it goes on if nothing is left.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::sync::Arc;

use jlog::io::Disk;
use jlog::io::sim::{Op, SimDisk, Times};
use jlog::{CreateOptions, GapKind, Log, RecordId, SegmentId, Start, Subscriber, Writer};
use jlog_tests::{SIM_LOG, at, get, open_sim, put, read_on};
use nix::libc::EIO;

/// The header of a segment, of a commit, and a record with its header.
const SEGMENT_HEADER: usize = 128;
const COMMIT: usize = 32;
const RECORD: usize = 32;

/// A log with these many records in its only segment, all durable, whose writer has died.
fn with_records(records: u32) -> (SimDisk, Log) {
    let disk = SimDisk::new(1);
    let log = Log::create_on(Arc::new(disk.clone()), SIM_LOG, &CreateOptions::new()).unwrap();
    append(&log.writer().unwrap(), 0..records);
    (disk, log)
}

fn append(writer: &Writer, numbers: std::ops::Range<u32>) -> Vec<RecordId> {
    // No record ends with a zero: where one ends is seen.
    numbers.map(|n| writer.append(&[n as u8, 2, 3, 4, 5, 6, 7, 8], at(n)).unwrap()).collect()
}

fn remove(disk: &SimDisk, name: &str) {
    disk.remove(&Path::new(SIM_LOG).join(name)).unwrap();
}

fn segment(n: u32) -> String {
    format!("{n:08x}")
}

/// The bytes of a segment, without the room behind them that is not used yet.
fn used(disk: &SimDisk, n: u32) -> Vec<u8> {
    let mut bytes = get(disk, &segment(n)).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.truncate(end);
    bytes
}

/// Where the segment before this one ends, and with which record, as this one's header says.
fn told_of_the_one_before(disk: &SimDisk, n: u32) -> (usize, u32) {
    let header = get(disk, &segment(n)).unwrap();
    let end = u64::from_le_bytes(header[72..80].try_into().unwrap());
    (end as usize, u32::from_le_bytes(header[36..40].try_into().unwrap()))
}

#[test]
fn where_no_segment_is_left_the_ids_of_those_the_control_file_tells_of_are_not_given_again() {
    let (disk, log) = with_records(3);
    let sound = used(&disk, 0).len();
    remove(&disk, &segment(0));
    let ids = append(&log.writer().unwrap(), 3..4);
    assert_eq!(ids, [RecordId::new(1, 1)]);
    assert_eq!(told_of_the_one_before(&disk, 1), (sound, 3));
}

#[test]
fn where_no_segment_is_left_the_ids_of_those_a_subscriber_has_read_are_not_given_again() {
    let (disk, log) = with_records(3);
    let name = Subscriber::new("s").unwrap();
    log.add_subscriber(&name, Start::Begin).unwrap();
    let writer = log.writer().unwrap();
    writer.rotate().unwrap();
    append(&writer, 3..5);
    drop(writer);
    log.set_checkpoint(&name, RecordId::new(1, 2)).unwrap();
    for n in 0..2 {
        let _ = disk.remove(&Path::new(SIM_LOG).join(segment(n)));
    }
    remove(&disk, "control");
    assert_eq!(append(&open_sim(&disk).writer().unwrap(), 5..6), [RecordId::new(2, 1)]);
}

#[test]
fn a_log_that_has_lost_its_last_segment_goes_on_behind_it_and_says_how_many_it_had() {
    let (disk, log) = with_records(3);
    let writer = log.writer().unwrap();
    writer.rotate().unwrap();
    append(&writer, 3..5);
    drop(writer);
    remove(&disk, &segment(1));
    assert_eq!(append(&open_sim(&disk).writer().unwrap(), 5..6), [RecordId::new(2, 1)]);
    let seen = read_on(&mut open_sim(&disk).cursor_after(RecordId::new(0, 0)));
    let gaps: Vec<_> = seen.gaps.iter().map(|gap| (gap.kind, gap.segment, gap.lost)).collect();
    assert_eq!(gaps, [(GapKind::Missing, SegmentId(1), Some(2))]);
}

#[test]
fn of_a_torn_end_a_writer_tells_where_it_began_and_how_long_it_was() {
    let (disk, log) = with_records(3);
    let sound = used(&disk, 0);
    let mut torn = sound.clone();
    torn.extend_from_slice(&[7; 43]);
    put(&disk, &segment(0), &torn);
    let writer = log.writer().unwrap();
    assert_eq!(writer.recovery().torn, Some((RecordId::new(0, 3), 43)));
    assert_eq!(used(&disk, 0), sound);
}

#[test]
fn of_damage_before_its_end_a_writer_tells_and_leaves_it_as_it_is() {
    let (disk, log) = with_records(3);
    let mut bytes = used(&disk, 0);
    bytes[SEGMENT_HEADER + COMMIT + 4] ^= 1;
    put(&disk, &segment(0), &bytes);
    let writer = log.writer().unwrap();
    assert_eq!(writer.recovery().damaged, Some(SegmentId(0)));
    assert_eq!(append(&writer, 3..4), [RecordId::new(1, 1)]);
    assert_eq!(get(&disk, &segment(0)).unwrap(), bytes);
}

#[test]
fn after_a_sync_that_failed_the_segment_is_closed_with_what_the_disk_has() {
    let (disk, log) = with_records(3);
    let writer = log.writer().unwrap();
    let sound = used(&disk, 0);
    disk.fail_next(Op::Sync, EIO, Times::Once);
    writer.append(b"lost", at(3)).unwrap_err();
    drop(writer);

    let writer = log.writer().unwrap();
    assert_eq!(append(&writer, 4..5), [RecordId::new(1, 1)]);
    let closed = used(&disk, 0);
    assert_eq!(closed[..sound.len()], sound);
    assert_eq!(closed.len(), sound.len() + COMMIT);
    drop(writer);
    // Its successor says the same of it: what goes missing at its end is missed.
    assert_eq!(told_of_the_one_before(&disk, 1), (sound.len(), 3));
    put(&disk, &segment(0), &sound[..sound.len() - COMMIT]);
    let seen = read_on(&mut open_sim(&disk).cursor().unwrap());
    assert_eq!((seen.records.len(), seen.gaps.len()), (3, 1));
    assert_eq!(seen.gaps[0].lost, Some(1));
}

/// Its writer died, or had no space, between closing it and making the next one.
#[test]
fn a_segment_that_is_closed_is_not_closed_again() {
    let (disk, log) = with_records(3);
    log.writer().unwrap().rotate().unwrap();
    let closed = get(&disk, &segment(0)).unwrap();
    remove(&disk, &segment(1));
    remove(&disk, "control");
    let log = open_sim(&disk);
    assert_eq!(append(&log.writer().unwrap(), 3..4), [RecordId::new(1, 1)]);
    assert_eq!(get(&disk, &segment(0)).unwrap(), closed);
}

#[test]
fn a_sync_that_fails_while_a_writer_is_opened_costs_nothing_and_writing_goes_on_in_a_new_segment() {
    let (disk, log) = with_records(3);
    disk.fail_next(Op::Sync, EIO, Times::Once);
    let writer = log.writer().unwrap();
    assert_eq!(append(&writer, 3..4), [RecordId::new(1, 1)]);
    drop(writer);
    let seen = read_on(&mut open_sim(&disk).cursor_after(RecordId::new(0, 0)));
    assert_eq!((seen.records.len(), seen.gaps.len()), (4, 0));
}

#[test]
fn a_segment_that_has_lost_its_end_is_followed_by_one_that_says_how_many_it_had() {
    let (disk, log) = with_records(3);
    let sound = used(&disk, 0);
    put(&disk, &segment(0), &sound[..sound.len() - 2 * (COMMIT + RECORD)]);
    let writer = log.writer().unwrap();
    assert_eq!(writer.recovery().damaged, Some(SegmentId(0)));
    assert_eq!(append(&writer, 3..4), [RecordId::new(1, 1)]);
    drop(writer);
    assert_eq!(told_of_the_one_before(&disk, 1), (sound.len(), 3));
    let seen = read_on(&mut open_sim(&disk).cursor().unwrap());
    assert_eq!((seen.records.len(), seen.gaps.len()), (2, 1));
    assert_eq!(seen.gaps[0].lost, Some(2));
}

/// Not even that the segment before it is finished is to be seen any more.
#[test]
fn ids_of_a_segment_that_only_the_control_file_tells_of_are_not_given_again() {
    let (disk, log) = with_records(3);
    let unfinished = used(&disk, 0);
    let writer = log.writer().unwrap();
    writer.rotate().unwrap();
    append(&writer, 3..5);
    drop(writer);
    remove(&disk, &segment(1));
    put(&disk, &segment(0), &unfinished);
    assert_eq!(append(&open_sim(&disk).writer().unwrap(), 5..6), [RecordId::new(2, 1)]);
}
