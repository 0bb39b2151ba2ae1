//! Golden logs of the checksummed format, version 1: what is delivered from them is what it was when they were made, and
//! the page shows the bytes that the engine writes.
//!
//! They are made by `cargo test -p jlog-tests --test checked_golden -- --ignored make_them_anew`, which replaces all of
//! `golden-checked/`. That is right for a new version of the format, beside the old one, and wrong for anything else: a log
//! that lies on somebody's disk does not change either.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jlog::inspect::inspect;
use jlog::io::sim::SimDisk;
use jlog::repair::{self, Options};
use jlog::{
    Compression, CreateOptions, Durability, Format, Log, RecordId, Start, Subscriber, Timestamp, Writer,
};
use jlog_tests::{SIM_LOG, at, copy_dir, get, read_all, read_unread, sha256, sim_files, snapshot};
use serde::{Deserialize, Serialize};

/// A golden log, and all that it holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Case {
    name: String,
    /// What it is there for.
    what: String,
    identity: String,
    records: Vec<Kept>,
    gaps: Vec<Lost>,
    /// Where the active segment is torn, if it is.
    torn_from: Option<u64>,
    /// The kinds of all that an inspection finds.
    findings: Vec<String>,
    /// The checkpoints, by name.
    subscribers: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Kept {
    id: String,
    seconds: u32,
    micros: u32,
    len: usize,
    sha256: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Lost {
    kind: String,
    segment: u32,
    from: u64,
    to: u64,
    lost: Option<u64>,
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden-checked")
}

fn cases() -> Vec<Case> {
    serde_json::from_slice(&fs::read(golden().join("manifest.json")).unwrap()).unwrap()
}

/// All that is seen of a log.
fn seen(name: &str, what: &str, log: &Log) -> Case {
    assert_eq!(log.format(), Format::Checksummed);
    let passed = read_all(log);
    let records = passed.records.iter().map(|record| Kept {
        id: record.id.to_string(),
        seconds: record.time.seconds,
        micros: record.time.micros,
        len: record.payload.len(),
        sha256: sha256(&record.payload),
    });
    let gaps = passed.gaps.iter().map(|gap| Lost {
        kind: format!("{:?}", gap.kind),
        segment: gap.segment.0,
        from: gap.from,
        to: gap.to,
        lost: gap.lost,
    });
    let checkpoint = |name: Subscriber| (name.to_string(), log.checkpoint(&name).unwrap().to_string());
    Case {
        name: name.to_owned(),
        what: what.to_owned(),
        identity: log.identity().unwrap().to_string(),
        records: records.collect(),
        gaps: gaps.collect(),
        torn_from: match passed.tail {
            jlog::Tail::Clean => None,
            jlog::Tail::Torn { from } => Some(from),
        },
        findings: inspect(log).unwrap().findings.iter().map(|finding| finding.kind.to_string()).collect(),
        subscribers: log.subscribers().unwrap().into_iter().map(checkpoint).collect(),
    }
}

#[test]
fn todays_engine_reads_them_as_they_were_written_and_changes_nothing() {
    assert_eq!(cases().len(), 9);
    for case in cases() {
        let dir = golden().join(&case.name);
        let before = snapshot(&dir);
        let log = Log::open(&dir).unwrap();
        let got = seen(&case.name, &case.what, &log);
        // Who looks owns no file of the checkout; and who owns it differs.
        let findings =
            |case: &Case| case.findings.iter().filter(|kind| *kind != "owner").cloned().collect::<Vec<_>>();
        assert_eq!(findings(&got), findings(&case), "{}", case.name);
        assert_eq!(
            Case { findings: vec![], ..got },
            Case { findings: vec![], ..case.clone() },
            "{}",
            case.name
        );
        for name in log.subscribers().unwrap() {
            let unread = read_unread(&mut log.reader(&name).unwrap());
            let at: RecordId = case.subscribers[&name.to_string()].parse().unwrap();
            let wanted = case.records.iter().filter(|record| record.id.parse::<RecordId>().unwrap() > at);
            assert_eq!(unread.len(), wanted.count(), "{} {name}", case.name);
        }
        assert!(snapshot(&dir) == before, "{}: reading has changed it", case.name);
        let bytes: u64 =
            before.values().filter_map(|lying| lying.bytes.as_ref()).map(|b| b.len() as u64).sum();
        assert!(bytes < 20 << 10, "{}: {bytes} bytes", case.name);
    }
}

#[test]
fn todays_writer_goes_on_behind_all_of_them() {
    for case in cases() {
        let scratch = jlog_tests::Scratch::new();
        copy_dir(&golden().join(&case.name), &scratch.path());
        let writer = scratch.open().writer().unwrap();
        let id = writer.append(b"today", at(9)).unwrap();
        writer.close().unwrap();
        let passed = read_all(&scratch.open());
        let ids: Vec<_> = passed.records.iter().map(|record| record.id.to_string()).collect();
        let mut wanted: Vec<_> = case.records.iter().map(|record| record.id.clone()).collect();
        wanted.push(id.to_string());
        assert_eq!(ids, wanted, "{}", case.name);
    }
}

/// The hex dumps of the page, by the name of the file in front of each.
fn dumps() -> BTreeMap<String, BTreeMap<usize, Vec<u8>>> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/format-checksummed.md");
    let page = fs::read_to_string(page).unwrap();
    let mut dumps: BTreeMap<String, BTreeMap<usize, Vec<u8>>> = BTreeMap::new();
    let mut file = String::new();
    for line in page.lines() {
        if let Some(name) = line.strip_prefix("file ") {
            file = name.split_whitespace().next().unwrap().to_owned();
        }
        let Some((offset, rest)) = line.split_once(": ").filter(|(offset, _)| offset.len() == 8) else {
            continue;
        };
        let Ok(offset) = usize::from_str_radix(offset, 16) else { continue };
        // Two spaces end the bytes.
        let digits: String = rest.split("  ").next().unwrap().split_whitespace().collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        dumps
            .entry(file.clone())
            .or_default()
            .insert(offset, digits.as_bytes().chunks(2).map(byte).collect());
    }
    dumps
}

/// The log of the page's example: the disk's dice decide the identity, all else is given.
fn example() -> SimDisk {
    let disk = SimDisk::new(1);
    let options = CreateOptions::new()
        .segment_size(400)
        .durability(Durability::Process)
        .compression(Compression::Lz4)
        .created(Timestamp::new(1_700_000_000, 0));
    let log = Log::create_on(Arc::new(disk.clone()), SIM_LOG, &options).unwrap();
    log.add_subscriber(&Subscriber::new("s").unwrap(), Start::Begin).unwrap();
    let writer = log.writer().unwrap();
    writer.append(b"hello", Timestamp::new(1_700_000_001, 250_000)).unwrap();
    writer.sync().unwrap();
    let batch = [(&b"one"[..], at(2)), (b"two", at(3))];
    writer.append_batch(batch).unwrap();
    writer.append(&[b'x'; 100], at(4)).unwrap();
    writer.append(b"more than four hundred bytes", at(5)).unwrap();
    writer.append(b"in the next segment", at(6)).unwrap();
    writer.close().unwrap();
    log.set_checkpoint(&Subscriber::new("s").unwrap(), RecordId::new(0, 2)).unwrap();
    disk
}

#[test]
fn the_page_shows_what_the_engine_writes() {
    let disk = example();
    let dumps = dumps();
    assert_eq!(
        dumps.keys().collect::<Vec<_>>(),
        ["00000000", "00000000.idx", "00000001", "control", "cp.73", "metastore"]
    );
    for (name, lines) in dumps {
        let file = get(&disk, &name).unwrap();
        for (offset, bytes) in lines {
            let there = file.get(offset..offset + bytes.len());
            assert_eq!(there, Some(&bytes[..]), "{name} at {offset:08x}");
        }
    }
}

fn fresh(seed: u64, options: &CreateOptions) -> (SimDisk, Log, Writer) {
    let disk = SimDisk::new(seed);
    let log = Log::create_on(Arc::new(disk.clone()), SIM_LOG, options).unwrap();
    log.add_subscriber(&Subscriber::new("s").unwrap(), Start::Begin).unwrap();
    let writer = log.writer().unwrap();
    (disk, log, writer)
}

fn text(n: u32) -> Vec<u8> {
    format!("golden record {n}").into_bytes()
}

fn append(writer: &Writer, numbers: std::ops::Range<u32>) {
    for n in numbers {
        writer.append(&text(n), at(n)).unwrap();
    }
}

fn append_batch(writer: &Writer, numbers: std::ops::Range<u32>) {
    let batch: Vec<_> = numbers.map(|n| (text(n), at(n))).collect();
    writer.append_batch(batch.iter().map(|(text, time)| (&text[..], *time))).unwrap();
}

fn process() -> CreateOptions {
    CreateOptions::new().durability(Durability::Process)
}

/// The logs, with what they are there for.
fn made() -> Vec<(&'static str, &'static str, SimDisk)> {
    let mut made = Vec::new();

    let disk = SimDisk::new(21);
    Log::create_on(Arc::new(disk.clone()), SIM_LOG, &CreateOptions::new()).unwrap();
    made.push(("empty", "made, and never written to", disk));

    let (disk, log, writer) = fresh(22, &process());
    append(&writer, 0..10);
    writer.append(b"", at(10)).unwrap();
    writer.close().unwrap();
    log.set_checkpoint(&Subscriber::new("s").unwrap(), RecordId::new(0, 4)).unwrap();
    made.push(("few", "single records, one of them empty; closed; a subscriber that has read four", disk));

    let (disk, _, writer) = fresh(23, &process());
    append_batch(&writer, 0..7);
    append(&writer, 7..8);
    append_batch(&writer, 8..40);
    writer.close().unwrap();
    made.push(("batches", "batches of 7 and of 32 records", disk));

    let (disk, _, writer) = fresh(24, &process().compression(Compression::Lz4));
    for n in 0..8 {
        writer.append("all the same ".repeat(n as usize * 20).as_bytes(), at(n)).unwrap();
    }
    append(&writer, 8..12);
    writer.close().unwrap();
    made.push(("lz4", "compressed records, and some that would not become shorter", disk));

    let (disk, log, writer) = fresh(25, &CreateOptions::new().segment_size(1500));
    append(&writer, 0..30);
    append_batch(&writer, 30..60);
    append(&writer, 60..90);
    writer.close().unwrap();
    log.set_checkpoint(&Subscriber::new("s").unwrap(), RecordId::new(2, 1)).unwrap();
    made.push(("segments", "several segments, made with room in advance, with indexes", disk));

    let (disk, log, writer) = fresh(25, &CreateOptions::new().segment_size(1500));
    let mut reader = log.reader(&Subscriber::new("s").unwrap()).unwrap();
    for n in 0..60 {
        append(&writer, n..n + 1);
        while reader.next_record().unwrap().is_some() {}
        reader.commit().unwrap();
    }
    drop(writer);
    made.push(("recycled", "a segment whose file was another one before; not closed", disk));

    let (disk, _, writer) = fresh(26, &process());
    append(&writer, 0..5);
    writer.sync().unwrap();
    append(&writer, 5..8);
    append_batch(&writer, 8..20);
    drop(writer);
    let whole = get(&disk, "00000000").unwrap();
    jlog_tests::put(&disk, "00000000", &whole[..whole.len() - 100]);
    made.push(("torn", "cut off within a batch that was not synced", disk));

    let damaged = || {
        let (disk, _, writer) = fresh(27, &CreateOptions::new().segment_size(1500));
        append(&writer, 0..30);
        append_batch(&writer, 30..40);
        append(&writer, 40..60);
        writer.close().unwrap();
        for (name, at) in [("00000000", 190), ("00000000", 500), ("00000001", 20), ("00000002", 400)] {
            let mut bytes = get(&disk, name).unwrap();
            bytes[at] ^= 0x40;
            jlog_tests::put(&disk, name, &bytes);
        }
        disk
    };
    made.push(("damaged", "flipped bits in a payload, in headers of commits and of a segment", damaged()));

    let disk = damaged();
    let log = jlog_tests::open_sim(&disk);
    let plan = repair::plan(&log, &inspect(&log).unwrap(), &Options { no_undo: true, ..Options::default() })
        .unwrap();
    repair::apply(&log, &plan, "2026-11-22T17:20:11Z").unwrap();
    made.push(("repaired", "the damaged one, repaired: notes say what is lost", disk));
    made
}

#[test]
#[ignore = "replaces golden-checked/: see the top of this file"]
fn make_them_anew() {
    let _ = fs::remove_dir_all(golden());
    fs::create_dir(golden()).unwrap();
    let mut cases = Vec::new();
    for (name, what, disk) in made() {
        let dir = golden().join(name);
        fs::create_dir(&dir).unwrap();
        for (file, bytes) in sim_files(&disk) {
            if !file.contains('/') && !file.starts_with('.') {
                fs::write(dir.join(file), bytes).unwrap();
            }
        }
        cases.push(seen(name, what, &Log::open(&dir).unwrap()));
    }
    let manifest = serde_json::to_string_pretty(&cases).unwrap();
    fs::write(golden().join("manifest.json"), manifest + "\n").unwrap();
}

/// Prints the files of the page's example.
#[test]
#[ignore = "prints what the page shows"]
fn print_the_example() {
    for (name, bytes) in sim_files(&example()) {
        println!("file {name}  {} bytes", bytes.len());
        for (n, line) in bytes.chunks(16).enumerate().filter(|(_, line)| line.iter().any(|byte| *byte != 0)) {
            let hex: Vec<_> = line
                .chunks(2)
                .map(|pair| pair.iter().map(|b| format!("{b:02x}")).collect::<String>())
                .collect();
            println!("{:08x}: {}", n * 16, hex.join(" "));
        }
    }
}
