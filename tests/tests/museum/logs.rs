//! Other logs.

use std::path::Path;
use std::sync::Arc;

use jlog::inspect::inspect;
use jlog::io::Disk;
use jlog::io::sim::{Op, SimDisk, Times};
use jlog::repair::{self, Options};
use jlog::{CreateOptions, Durability, ErrorKind, Format, Log, WriterOptions};
use jlog_tests::{SIM_LOG, at, get, on_sim, open_sim, put, read_all};

const FORMATS: [Format; 2] = [Format::Checksummed, Format::Classic];

/// A log of five durable records in a segment with room for more.
fn five(format: Format) -> SimDisk {
    let disk = SimDisk::new(1);
    let options = CreateOptions::new().format(format).durability(Durability::Process).segment_size(100_000);
    let log = Log::create_on(Arc::new(disk.clone()), SIM_LOG, &options).unwrap();
    append(&log, 0..5);
    disk
}

fn append(log: &Log, range: std::ops::Range<u32>) {
    let writer = log.writer().unwrap();
    for n in range {
        writer.append(&message(n), at(n)).unwrap();
    }
    writer.sync().unwrap();
}

fn message(n: u32) -> Vec<u8> {
    format!("message {n:020}").into_bytes()
}

fn messages(range: std::ops::Range<u32>) -> Vec<Vec<u8>> {
    range.map(message).collect()
}

/// Half of a further commit behind the last record.
fn tear(disk: &SimDisk, segment: &str) {
    let before = get(disk, segment).unwrap();
    let used = before.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let log = open_sim(disk);
    append(&log, 99..100);
    drop(log);
    let after = get(disk, segment).unwrap();
    // Its beginning: enough to be torn, too little to be a record.
    let torn =
        [&after[..used], &after[used..used + 30], &vec![0; before.len().saturating_sub(used + 30)]].concat();
    put(disk, segment, &torn);
}

/// cqlite (pmcfadin/cqlite#1390) and amelie (amelielabs/amelie#17) appended behind a torn tail that nobody had cut: what
/// was acknowledged after that was not found again.
#[test]
fn what_is_appended_after_a_torn_end_is_found_again() {
    for format in FORMATS {
        let disk = five(format);
        tear(&disk, "00000000");
        append(&open_sim(&disk), 5..10);
        assert_eq!(read_all(&open_sim(&disk)).payloads(), messages(0..10), "{format}");
    }
}

/// acoustid-index (#157) went on in a new file after a crash; the torn end of the old one ended the replay next time, and
/// what the new file held was lost.
#[test]
fn a_torn_end_in_an_earlier_segment_ends_nothing() {
    let disk = five(Format::Checksummed);
    let torn = {
        let copy = five(Format::Checksummed);
        tear(&copy, "00000000");
        get(&copy, "00000000").unwrap()
    };
    let log = open_sim(&disk);
    let writer = log.writer().unwrap();
    writer.rotate().unwrap();
    drop(writer);
    append(&log, 5..10);
    drop(log);
    // The power cut brought back the end that was torn then.
    put(&disk, "00000000", &torn);
    for round in 0..3 {
        let seen = read_all(&open_sim(&disk));
        let payloads = seen.payloads();
        assert!(
            messages(0..10).iter().all(|message| payloads.contains(&&message[..])),
            "round {round}: {seen:?}"
        );
        append(&open_sim(&disk), 20 + round..21 + round);
    }
}

/// databend (#17042) did not accept the zeros that ext4 leaves where a file has grown and its data was not written.
#[test]
fn zeros_behind_the_last_record_are_its_end() {
    for format in FORMATS {
        for zeros in [1, 7, 16, 4096, 70_000] {
            let disk = five(format);
            let mut bytes = get(&disk, "00000000").unwrap();
            bytes.resize(bytes.len() + zeros, 0);
            put(&disk, "00000000", &bytes);
            assert_eq!(read_all(&open_sim(&disk)).payloads(), messages(0..5), "{format}, {zeros}");
            append(&open_sim(&disk), 5..6);
            assert_eq!(read_all(&open_sim(&disk)).payloads(), messages(0..6), "{format}, {zeros}");
        }
    }
}

/// A torn tail was a panic in mysticeti (#219), and ended the whole replay in samyama (#1335).
#[test]
fn wherever_the_last_record_is_cut_all_before_it_are_there() {
    for format in FORMATS {
        let sound = five(format);
        let whole = get(&sound, "00000000").unwrap();
        let used = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        for end in used - 60..used {
            let disk = five(format);
            put(&disk, "00000000", &whole[..end]);
            let seen = read_all(&open_sim(&disk));
            let payloads = seen.payloads();
            assert!(
                messages(0..5).iter().map(Vec::as_slice).take(payloads.len()).eq(payloads),
                "{format}, cut at {end}"
            );
            append(&open_sim(&disk), 5..6);
            let seen = read_all(&open_sim(&disk));
            assert_eq!(*seen.payloads().last().unwrap(), message(5), "{format}, cut at {end}");
            assert!(seen.records.len() >= 4, "{format}, cut at {end}: {}", seen.records.len());
        }
    }
}

/// frostdb (#313): the repair deleted the last file of the log, records and all.
#[test]
fn a_repair_of_a_torn_last_segment_keeps_it_and_its_records() {
    for format in FORMATS {
        let disk = five(format);
        tear(&disk, "00000000");
        let log = open_sim(&disk);
        let plan = repair::plan(&log, &inspect(&log).unwrap(), &Options::default()).unwrap();
        let _ = repair::apply(&log, &plan, "now").unwrap();
        assert!(disk.names(Path::new(SIM_LOG)).unwrap().iter().any(|name| name == "00000000"));
        assert_eq!(read_all(&open_sim(&disk)).payloads(), messages(0..5), "{format}");
    }
    // Not even where there is nothing in it.
    let disk = on_sim(jlog_tests::case("all-zero-segment"), 1);
    let before = open_sim(&disk).segments().unwrap();
    let log = open_sim(&disk);
    let plan = repair::plan(&log, &inspect(&log).unwrap(), &Options::default()).unwrap();
    let _ = repair::apply(&log, &plan, "now").unwrap();
    assert_eq!(open_sim(&disk).segments().unwrap(), before);
}

/// okaywal (#14) skipped the first entry after one that was rolled back.
#[test]
fn the_first_record_after_one_that_was_refused_is_delivered() {
    for format in FORMATS {
        let disk = five(format);
        let log = open_sim(&disk);
        let writer = log.writer_with(&WriterOptions::new().durability(Durability::Sync)).unwrap();
        writer.append(&message(5), at(5)).unwrap();
        for op in [Op::Pwrite, Op::Pwritev] {
            disk.fail_call(op, disk.calls(op), nix::libc::ENOSPC, Times::Once);
        }
        assert_eq!(
            writer.append(&vec![b'x'; 40_000], at(98)).unwrap_err().kind(),
            ErrorKind::NoSpace,
            "{format}"
        );
        disk.heal();
        writer.append(&message(6), at(6)).unwrap();
        drop(writer);
        assert_eq!(read_all(&open_sim(&disk)).payloads(), messages(0..7), "{format}");
    }
}

/// NATS JetStream 2.12.1 (jepsen.io/analyses/nats-2.12.1) acknowledged before it synced, and synced every two minutes: a
/// power failure took half of what it had acknowledged.
#[test]
fn by_default_an_acknowledgement_is_a_sync() {
    let disk = SimDisk::new(1);
    let log = Log::create_on(Arc::new(disk.clone()), SIM_LOG, &CreateOptions::new()).unwrap();
    let writer = log.writer().unwrap();
    for n in 0..20 {
        writer.append(&message(n), at(n)).unwrap();
        let cut = disk.power_cut();
        assert_eq!(read_all(&open_sim(&cut)).payloads(), messages(0..n + 1));
    }
}
