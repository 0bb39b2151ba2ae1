//! The checksummed format against damage of every kind: what is delivered is what was written, what is not delivered
//! is told of, and what a writer or a repair does afterwards loses nothing that could be read before.
//!
//! `forge`, below, reads and writes the format by itself, from `docs/format-checksummed.md` alone. It makes what no
//! engine would write, and it proves the page.
//!
//! Every bit of every file is flipped where `JLOG_EVERY_BIT` is set, and in release builds. Otherwise it is one bit of
//! every byte, another one from byte to byte: a debug build takes eight times as long for all of them.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use jlog::inspect::{FindingKind, Inspection, inspect};
use jlog::io::sim::SimDisk;
use jlog::io::{Disk, File, Open};
use jlog::repair::{self, Options};
use jlog::{
    Compression, CreateOptions, Durability, ErrorKind, Gap, GapKind, Log, RecordId, Result, Start,
    Subscriber, Tail, Timestamp, Writer,
};
use jlog_tests::{SIM_LOG, at, get, open_sim, put, sim_files};

use forge::{Part, Place};

/// The format as its page has it, without a line of the engine.
mod forge {
    pub(crate) const HEADER: usize = 128;
    pub(crate) const COMMIT: usize = 32;
    pub(crate) const RECORD: usize = 24;
    pub(crate) const SLOT: usize = 512;

    /// CRC-32 (ISO-HDLC) over all of these, one after another.
    pub(crate) fn crc(parts: &[&[u8]]) -> u32 {
        const TABLE: [u32; 256] = {
            let mut table = [0; 256];
            let mut n = 0;
            while n < 256 {
                let (mut crc, mut bit) = (n as u32, 0);
                while bit < 8 {
                    crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
                    bit += 1;
                }
                table[n] = crc;
                n += 1;
            }
            table
        };
        let all = parts.iter().copied().flatten();
        !all.fold(!0, |crc: u32, byte| (crc >> 8) ^ TABLE[(crc as u8 ^ byte) as usize])
    }

    /// Whose bytes they are.
    #[derive(Clone, Copy)]
    pub(crate) struct Place {
        pub(crate) log: [u8; 16],
        pub(crate) segment: u32,
    }

    impl Place {
        pub(crate) fn crc(self, offset: u64, bytes: &[u8]) -> u32 {
            crc(&[&self.log, &self.segment.to_le_bytes(), &offset.to_le_bytes(), bytes])
        }
    }

    pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    }

    /// Puts a number where it belongs.
    pub(crate) fn set<const N: usize>(bytes: &mut [u8], at: usize, number: [u8; N]) {
        bytes[at..at + N].copy_from_slice(&number);
    }

    /// Makes the checksum at the end of a header or an index right again.
    pub(crate) fn seal(bytes: &mut [u8]) {
        let end = bytes.len() - 4;
        let sum = crc(&[&bytes[..end]]);
        set(bytes, end, sum.to_le_bytes());
    }

    pub(crate) fn header(place: Place, previous_end: u64, previous_marker: u32) -> Vec<u8> {
        let mut out = vec![0; HEADER];
        out[..8].copy_from_slice(b"jlogsg\x02\n");
        set(&mut out, 8, 1u16.to_le_bytes());
        out[16..32].copy_from_slice(&place.log);
        set(&mut out, 32, place.segment.to_le_bytes());
        set(&mut out, 36, previous_marker.to_le_bytes());
        set(&mut out, 72, previous_end.to_le_bytes());
        seal(&mut out);
        out
    }

    /// The header of a commit, whatever it promises.
    #[derive(Clone, Copy, Default)]
    pub(crate) struct Commit {
        pub(crate) len: u32,
        pub(crate) records: u32,
        pub(crate) first: u32,
        pub(crate) durable: u64,
        pub(crate) flags: u32,
    }

    pub(crate) fn commit(place: Place, at: u64, commit: Commit) -> Vec<u8> {
        let mut out = vec![0; COMMIT];
        out[..4].copy_from_slice(b"jc\x02\n");
        set(&mut out, 4, commit.len.to_le_bytes());
        set(&mut out, 8, commit.records.to_le_bytes());
        set(&mut out, 12, commit.first.to_le_bytes());
        set(&mut out, 16, commit.durable.to_le_bytes());
        set(&mut out, 24, commit.flags.to_le_bytes());
        let sum = place.crc(at, &out[..28]);
        set(&mut out, 28, sum.to_le_bytes());
        out
    }

    /// A record with its payload and what fills it up.
    pub(crate) fn record(
        place: Place,
        at: u64,
        kind: u8,
        compressed: bool,
        seconds: u32,
        payload: &[u8],
    ) -> Vec<u8> {
        let mut out = vec![0; RECORD];
        set(&mut out, 0, (payload.len() as u32).to_le_bytes());
        set(&mut out, 4, seconds.to_le_bytes());
        out[12] = kind;
        out[13] = u8::from(compressed);
        set(&mut out, 16, crc(&[payload]).to_le_bytes());
        let sum = place.crc(at, &out[..20]);
        set(&mut out, 20, sum.to_le_bytes());
        out.extend_from_slice(payload);
        out.resize(out.len().next_multiple_of(8), 0);
        out
    }

    /// A whole commit of one record.
    pub(crate) fn single(
        place: Place,
        at: u64,
        marker: u32,
        kind: u8,
        compressed: bool,
        payload: &[u8],
    ) -> Vec<u8> {
        let record = record(place, at + COMMIT as u64, kind, compressed, 1, payload);
        let header =
            Commit { len: record.len() as u32, records: 1, first: marker, durable: at, ..Commit::default() };
        [commit(place, at, header), record].concat()
    }

    /// Slot `number` of the file of this name.
    pub(crate) fn slot(file: &str, number: usize, log: [u8; 16], generation: u64, value: &[u8]) -> Vec<u8> {
        let kind = match file {
            "metastore" => "ms",
            "control" => "ct",
            _ => "cp",
        };
        let mut out = vec![0; SLOT];
        out[..8].copy_from_slice(format!("jlog{kind}\x02\n").as_bytes());
        set(&mut out, 8, 1u16.to_le_bytes());
        out[24..40].copy_from_slice(&log);
        set(&mut out, 40, generation.to_le_bytes());
        out[48..48 + value.len()].copy_from_slice(value);
        seal_slot(file, number, &mut out);
        out
    }

    /// Makes the checksum of a slot right again.
    pub(crate) fn seal_slot(file: &str, number: usize, bytes: &mut [u8]) {
        let sum = crc(&[file.as_bytes(), &(number as u64).to_le_bytes(), &bytes[..SLOT - 4]]);
        set(bytes, SLOT - 4, sum.to_le_bytes());
    }

    /// What a byte of a segment is.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Part {
        Header,
        /// The header of a commit: the marker of its first record, and how many it has.
        Commit(u32, u32),
        /// The header of the record with this marker, and how many of its commit are left with it.
        Record(u32, u32),
        Payload(u32),
        /// What fills a record up to a multiple of 8: no part of the record, and under no checksum.
        Filling,
        /// A commit without records, which says how far the disk was known to reach.
        Mark,
        /// The commit that closes a segment. The header of the next one says the same.
        Closing,
        /// Behind the last commit.
        Unused,
    }

    /// A sound segment taken apart.
    pub(crate) struct Parsed {
        pub(crate) place: Place,
        pub(crate) parts: Vec<Part>,
        /// Marker, seconds, micros, message.
        pub(crate) records: Vec<(u32, u32, u32, Vec<u8>)>,
        /// Where commits begin.
        pub(crate) commits: Vec<usize>,
        pub(crate) end: usize,
    }

    pub(crate) fn parse(bytes: &[u8]) -> Parsed {
        assert_eq!(&bytes[..8], b"jlogsg\x02\n");
        assert_eq!(crc(&[&bytes[..124]]), u32_at(bytes, 124));
        let place = Place { log: bytes[16..32].try_into().unwrap(), segment: u32_at(bytes, 32) };
        let mut parsed = Parsed {
            place,
            parts: vec![Part::Unused; bytes.len()],
            records: Vec::new(),
            commits: Vec::new(),
            end: HEADER,
        };
        parsed.parts[..HEADER].fill(Part::Header);
        loop {
            let at = parsed.end;
            let sound = bytes.len() >= at + COMMIT
                && bytes[at..].starts_with(b"jc\x02\n")
                && place.crc(at as u64, &bytes[at..at + 28]) == u32_at(bytes, at + 28);
            if !sound {
                return parsed;
            }
            let (len, count, first) = (u32_at(bytes, at + 4), u32_at(bytes, at + 8), u32_at(bytes, at + 12));
            let closing = u32_at(bytes, at + 24) & 1 != 0;
            let part = match (closing, count) {
                (true, _) => Part::Closing,
                (false, 0) => Part::Mark,
                _ => Part::Commit(first, count),
            };
            parsed.commits.push(at);
            parsed.parts[at..at + COMMIT].fill(part);
            let mut pos = at + COMMIT;
            for n in 0..count {
                assert_eq!(place.crc(pos as u64, &bytes[pos..pos + 20]), u32_at(bytes, pos + 20));
                let stored = u32_at(bytes, pos) as usize;
                let body = pos + RECORD;
                let payload = &bytes[body..body + stored];
                assert_eq!(crc(&[payload]), u32_at(bytes, pos + 16));
                let message = match bytes[pos + 13] & 1 {
                    0 => payload.to_vec(),
                    _ => lz4(&payload[4..], u32_at(payload, 0) as usize),
                };
                let (seconds, micros) = (u32_at(bytes, pos + 4), u32_at(bytes, pos + 8));
                parsed.records.push((first + n, seconds, micros, message));
                let next = body + stored.next_multiple_of(8);
                parsed.parts[pos..body].fill(Part::Record(first + n, count - n));
                parsed.parts[body..body + stored].fill(Part::Payload(first + n));
                parsed.parts[body + stored..next].fill(Part::Filling);
                pos = next;
            }
            parsed.end = at + COMMIT + len as usize;
            assert_eq!(pos, parsed.end);
            if closing {
                return parsed;
            }
        }
    }

    /// One LZ4 block that holds so many bytes.
    fn lz4(block: &[u8], len: usize) -> Vec<u8> {
        let (mut out, mut at) = (Vec::new(), 0);
        let length = |nibble: u8, at: &mut usize| {
            let mut length = usize::from(nibble);
            let mut more = nibble == 15;
            while more {
                length += usize::from(block[*at]);
                more = block[*at] == 255;
                *at += 1;
            }
            length
        };
        while at < block.len() {
            let token = block[at];
            at += 1;
            let literals = length(token >> 4, &mut at);
            out.extend_from_slice(&block[at..at + literals]);
            at += literals;
            if at == block.len() {
                break;
            }
            let back = usize::from(u16::from_le_bytes([block[at], block[at + 1]]));
            at += 2;
            for _ in 0..length(token & 15, &mut at) + 4 {
                out.push(out[out.len() - back]);
            }
        }
        assert_eq!(out.len(), len);
        out
    }
}

type Files = BTreeMap<String, Vec<u8>>;
type Written = BTreeMap<RecordId, (Timestamp, Vec<u8>)>;

/// A log that was written, closed, and left: its files, and its records.
#[derive(Clone)]
struct Sample {
    files: Files,
    written: Written,
}

/// The disk the sample was written on. The control file tells of this machine's run there, and of another one anywhere
/// else.
const HERE: u64 = 7;
const ELSEWHERE: u64 = 8;

/// Bytes that do not shrink.
fn noise(seed: u32, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let byte = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 11) as u8
    };
    (0..len).map(byte).collect()
}

fn message(n: u32) -> Vec<u8> {
    match n % 4 {
        0 => noise(n, 20 + n as usize % 60),
        1 => format!("message {n} {}", "again and ".repeat(20)).into_bytes(),
        2 => format!("message {n}").into_bytes(),
        _ => Vec::new(),
    }
}

fn names() -> [Subscriber; 2] {
    [Subscriber::new("a").unwrap(), Subscriber::new("b").unwrap()]
}

fn create(disk: &SimDisk, options: &CreateOptions) -> Log {
    Log::create_on(Arc::new(disk.clone()), SIM_LOG, options).unwrap()
}

fn append_batch(writer: &Writer, written: &mut Written, numbers: std::ops::Range<u32>) {
    let batch: Vec<_> = numbers.map(|n| (message(n), at(n))).collect();
    let last = writer.append_batch(batch.iter().map(|(m, t)| (&m[..], *t))).unwrap().unwrap();
    for (back, (message, time)) in batch.into_iter().rev().enumerate() {
        written.insert(RecordId::new(last.segment.0, last.marker.0 - back as u32), (time, message));
    }
}

/// Several segments and the one being written; single records and batches, compressed and not; two subscribers, one of
/// which has moved a few times. The beginning of the first segment is in it as a message, too.
fn sample(durability: Durability) -> Sample {
    let disk = SimDisk::new(HERE);
    let options = CreateOptions::new().segment_size(900).compression(Compression::Lz4).durability(durability);
    let log = create(&disk, &options);
    for name in names() {
        log.add_subscriber(&name, Start::Begin).unwrap();
    }
    let mut written = Written::new();
    let writer = log.writer().unwrap();
    let mut n = 0;
    while n < 70 {
        if n % 9 == 4 {
            append_batch(&writer, &mut written, n..n + 6);
            n += 6;
        } else {
            let payload = if n == 20 { get(&disk, "00000000").unwrap()[..300].to_vec() } else { message(n) };
            written.insert(writer.append(&payload, at(n)).unwrap(), (at(n), payload));
            n += 1;
        }
    }
    writer.close().unwrap();
    let ids: Vec<_> = written.keys().copied().collect();
    for to in [3, 9, 15] {
        log.set_checkpoint(&names()[0], ids[to]).unwrap();
    }
    Sample { files: sim_files(&disk), written }
}

fn disk_of(files: &Files, seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    disk.keep_trace(false);
    disk.create_dir(Path::new(SIM_LOG), 0o750).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    for (name, bytes) in files {
        put(&disk, name, bytes);
    }
    disk
}

/// The files of the log itself, without what is kept aside.
fn own_files(disk: &SimDisk) -> Files {
    sim_files(disk).into_iter().filter(|(name, _)| !name.starts_with(".repair")).collect()
}

fn segment_of(name: &str) -> Option<u32> {
    (name.len() == 8 && name.bytes().all(|b| b.is_ascii_hexdigit()))
        .then(|| u32::from_str_radix(name, 16).unwrap())
}

fn open(disk: &SimDisk) -> Result<Log> {
    Log::open_on(Arc::new(disk.clone()), SIM_LOG)
}

fn writer_on(disk: &SimDisk) -> Writer {
    open_sim(disk).writer().unwrap()
}

/// What a cursor or a reader gives, past every gap.
#[derive(Debug, Default)]
struct Got {
    records: Written,
    gaps: Vec<Gap>,
    torn: bool,
    /// It could not go on.
    error: Option<(ErrorKind, String)>,
}

/// More than this many steps is a walk that does not end.
const MOST_STEPS: usize = 10_000;

fn deliver(log: &Log, after: Option<RecordId>) -> Got {
    let mut got = Got::default();
    let mut cursor = match after {
        Some(after) => log.cursor_after(after),
        None => log.cursor().unwrap(),
    };
    let mut last = None;
    for _ in 0..MOST_STEPS {
        match cursor.next_record() {
            Ok(Some(record)) => {
                assert!(!record.doubtful, "nothing is doubtful in this format: {record:?}");
                assert!(last < Some(record.id), "{} comes after {last:?}", record.id);
                last = Some(record.id);
                got.records.insert(record.id, (record.time, record.payload.to_vec()));
            }
            Ok(None) => {
                got.torn = cursor.tail() != Tail::Clean;
                return got;
            }
            Err(error) => match cursor.skip_gap() {
                Some(gap) => got.gaps.push(gap),
                None => return got.stopped(&error),
            },
        }
    }
    panic!("the cursor does not come to an end: {:?}", got.gaps.first())
}

/// What a log gives that may be damaged beyond opening.
fn deliver_from(disk: &SimDisk) -> Got {
    match open(disk) {
        Ok(log) => deliver(&log, None),
        Err(error) => Got::default().stopped(&error),
    }
}

impl Got {
    fn stopped(mut self, error: &jlog::Error) -> Got {
        self.error = Some((error.kind(), error.to_string()));
        self
    }

    /// Nothing but what was written; and where every gap knows how much is lost, it adds up.
    fn assert_true(&self, written: &Written, what: &str) {
        for (id, record) in &self.records {
            assert_eq!(written.get(id), Some(record), "{what}: {id} is not what was written");
        }
        if self.gaps.iter().all(|gap| gap.lost.is_some()) && self.error.is_none() && !self.torn {
            let lost: u64 = self.gaps.iter().filter_map(|gap| gap.lost).sum();
            let there = self.records.len() as u64;
            // What was removed before the first segment there is a cursor does not know of.
            let first = self.records.keys().next().map(|id| id.segment).into_iter();
            let first = first.chain(self.gaps.first().map(|gap| gap.segment)).min();
            let all =
                written.keys().filter(|id| first.is_none_or(|first| id.segment >= first)).count() as u64;
            assert_eq!(there + lost, all, "{what}: {there} and {:?}", self.gaps);
        }
    }

    fn missing(&self, written: &Written) -> Vec<RecordId> {
        written.keys().filter(|id| !self.records.contains_key(id)).copied().collect()
    }

    /// Whether it told that something is not there.
    fn told(&self) -> bool {
        !self.gaps.is_empty() || self.torn || self.error.is_some()
    }
}

/// Calls `test` with every number below `count`, on all processors, and fails with what failed.
fn in_parallel<S>(count: usize, start: impl Fn() -> S + Sync, test: impl Fn(&S, usize) + Sync) {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut own = start();
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= count {
                        return;
                    }
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| test(&own, n))) {
                        let what = panic.downcast_ref::<String>().cloned();
                        let what = what.or(panic.downcast_ref::<&str>().map(|what| (*what).to_owned()));
                        failed.lock().unwrap().push(what.unwrap_or_default());
                        own = start();
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(
        failed.is_empty(),
        "{} of {count} failed; the first ones: {:#?}",
        failed.len(),
        &failed[..failed.len().min(9)]
    );
}

/// What may have been noticed.
fn problems(seen: &Inspection) -> Vec<FindingKind> {
    seen.problems().map(|finding| finding.kind).collect()
}

#[test]
fn the_page_is_enough_to_read_a_log() {
    for durability in [Durability::Sync, Durability::Process] {
        let sample = sample(durability);
        let mut read = Written::new();
        for (name, bytes) in &sample.files {
            let Some(segment) = segment_of(name) else { continue };
            let parsed = forge::parse(bytes);
            assert_eq!(parsed.place.segment, segment);
            for (marker, seconds, micros, message) in parsed.records {
                read.insert(RecordId::new(segment, marker), (Timestamp::new(seconds, micros), message));
            }
        }
        assert_eq!(read, sample.written);
        assert_eq!(deliver_from(&disk_of(&sample.files, HERE)).records, sample.written);
    }
}

#[test]
fn a_cursor_starts_anywhere_and_gives_the_rest() {
    for seed in [HERE, ELSEWHERE] {
        let sample = sample(Durability::Sync);
        assert_starts_anywhere(
            &open_sim(&disk_of(&sample.files, seed)),
            &sample.written,
            1,
            "as it was written",
        );
    }
}

/// From behind every id, all that a cursor from the beginning gives behind it.
fn assert_starts_anywhere(log: &Log, written: &Written, step: usize, what: &str) {
    // Of a long log not so many: each reads the rest of it.
    let step = step.max(step * written.len() / 80);
    let all = deliver(log, None).records;
    for id in written.keys().step_by(step) {
        let rest: Written =
            all.range(*id..).filter(|(at, _)| *at > id).map(|(k, v)| (*k, v.clone())).collect();
        let got = deliver(log, Some(*id)).records;
        assert!(
            got == rest,
            "{what}: behind {id} a cursor gives {:?}, not {:?}",
            got.keys().collect::<Vec<_>>(),
            rest.keys().collect::<Vec<_>>()
        );
    }
}

fn every_bit() -> bool {
    !cfg!(debug_assertions) || std::env::var_os("JLOG_EVERY_BIT").is_some()
}

fn ids_of(segment: u32, markers: std::ops::Range<u32>) -> Vec<RecordId> {
    markers.map(|marker| RecordId::new(segment, marker)).collect()
}

/// What a flipped bit may cost, and whether an inspection has to notice it.
fn cost(file: &str, part: Option<Part>) -> (Vec<RecordId>, bool) {
    let segment = segment_of(file).unwrap_or_default();
    match part {
        Some(Part::Payload(marker)) => (ids_of(segment, marker..marker + 1), true),
        Some(Part::Record(marker, left)) => (ids_of(segment, marker..marker + left), true),
        Some(Part::Commit(first, records)) => (ids_of(segment, first..first + records), true),
        // No record is lost with it, and yet it is noticed.
        Some(Part::Header | Part::Mark) | None => (Vec::new(), true),
        // Under no checksum, because nothing reads it: what fills up records, room for later ones, and the commit that
        // closes a segment once the next one is there and says where this one ended.
        Some(Part::Filling | Part::Unused | Part::Closing) => (Vec::new(), false),
    }
}

#[test]
fn every_flipped_bit_costs_what_it_must_and_is_noticed() {
    let sample = sample(Durability::Sync);
    let parts: BTreeMap<_, _> = sample
        .files
        .iter()
        .filter_map(|(name, bytes)| segment_of(name).map(|_| (name.clone(), forge::parse(bytes).parts)))
        .collect();
    let bytes: Vec<_> =
        sample.files.iter().flat_map(|(name, bytes)| (0..bytes.len()).map(move |at| (name, at))).collect();
    println!("{} bytes in {} files", bytes.len(), sample.files.len());
    let without_control: Files = sample
        .files
        .iter()
        .filter(|(name, _)| *name != "control")
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();

    let worlds = || {
        [
            disk_of(&sample.files, HERE),
            disk_of(&sample.files, ELSEWHERE),
            disk_of(&without_control, ELSEWHERE),
        ]
    };
    in_parallel(bytes.len(), worlds, |disks, n| {
        let (name, at) = bytes[n];
        let bits = if every_bit() { 0..8 } else { n % 8..n % 8 + 1 };
        for bit in bits {
            let disk = &disks[(n / 8 + bit) % if name == "control" { 2 } else { 3 }];
            let what = format!("{name} byte {at} bit {bit}, world {}", (n / 8 + bit) % 3);
            let file = File::open(disk, &Path::new(SIM_LOG).join(name), Open::ReadWrite).unwrap();
            let old = sample.files[name][at];
            file.pwrite(&[old ^ (1 << bit)], at as u64).unwrap();
            file.sync().unwrap();
            flipped(disk, &sample, (name, at), parts.get(name).map(|parts| parts[at]), &what);
            file.pwrite(&[old], at as u64).unwrap();
            file.sync().unwrap();
        }
    });
}

fn flipped(disk: &SimDisk, sample: &Sample, (name, at): (&str, usize), part: Option<Part>, what: &str) {
    let (lost, noticed) = cost(name, part);
    let log = open(disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    let got = deliver(&log, None);
    got.assert_true(&sample.written, what);
    assert_eq!(got.error, None, "{what}");
    assert_eq!(got.missing(&sample.written), lost, "{what}: {part:?} {:?}", got.gaps);
    if !lost.is_empty() {
        assert_eq!(got.gaps.len(), 1, "{what}: {:?}", got.gaps);
        let gap = &got.gaps[0];
        assert_eq!((gap.kind, gap.lost), (GapKind::Damage, Some(lost.len() as u64)), "{what}");
        let before = RecordId::new(lost[0].segment.0, lost[0].marker.0 - 1);
        assert!(before.marker.0 == 0 || gap.after == Some(before), "{what}: {gap}");
        assert!((gap.from..gap.to).contains(&(at as u64)), "{what}: {gap}");
    }

    // What is under no checksum in an unused slot of a checkpoint is noticed all the same: it was zeros.
    let seen = inspect(&log).unwrap_or_else(|error| panic!("{what}: {error}"));
    if noticed && name == "control" {
        // It is made anew by the next writer.
        assert!(seen.findings.iter().any(|finding| finding.kind == FindingKind::Control), "{what}");
    } else if noticed {
        let at_all = seen.findings.iter().any(|finding| finding.file == name);
        assert!(at_all, "{what}: {part:?} is not noticed: {:?}", seen.findings);
    }
    assert_eq!(seen.messages, got.records.len() as u64, "{what}");
    if name.starts_with("cp.") || at % 16 == 0 {
        nothing_is_skipped(&log, sample, what);
    }
}

/// A subscriber gets everything behind its checkpoint, or is told what it does not get, or gets an error.
fn nothing_is_skipped(log: &Log, sample: &Sample, what: &str) {
    let ids: Vec<_> = sample.written.keys().copied().collect();
    for (name, read) in names().into_iter().zip([Some(ids[15]), None]) {
        let Ok(mut reader) = log.reader(&name) else { continue };
        let mut got = Got::default();
        for _ in 0..MOST_STEPS {
            match reader.next_record() {
                Ok(Some(record)) => {
                    got.records.insert(record.id, (record.time, record.payload.to_vec()));
                }
                Ok(None) => break,
                Err(error) => match reader.skip_gap() {
                    Some(gap) => got.gaps.push(gap),
                    None => {
                        got = got.stopped(&error);
                        break;
                    }
                },
            }
        }
        for (id, record) in &got.records {
            assert_eq!(sample.written.get(id), Some(record), "{what}: {name}: {id}");
        }
        let unread = sample.written.keys().filter(|id| Some(**id) > read);
        let skipped: Vec<_> = unread.filter(|id| !got.records.contains_key(id)).collect();
        assert!(
            skipped.is_empty() || got.told() || reader.tail() != Tail::Clean,
            "{what}: {name} never got {skipped:?}"
        );
    }
}

/// A log after something happened to it.
struct State {
    what: String,
    files: Files,
    seed: u64,
}

impl Sample {
    fn segments(&self) -> Vec<String> {
        self.files.keys().filter(|name| segment_of(name).is_some()).cloned().collect()
    }

    fn state(&self, what: String, seed: u64, change: impl FnOnce(&mut Files)) -> State {
        let mut files = self.files.clone();
        change(&mut files);
        State { what: format!("{what}, on {seed}"), files, seed }
    }

    /// Every file deleted, cut, filled with zeros or noise in whole or in part, or extended.
    fn ruined(&self, step: usize) -> Vec<State> {
        let mut states = Vec::new();
        for (n, (name, bytes)) in self.files.iter().enumerate() {
            let seed = if n % 2 == 0 { HERE } else { ELSEWHERE };
            let mut put = |what: &str, new: Option<Vec<u8>>| {
                for seed in if new.is_none() { vec![HERE, ELSEWHERE] } else { vec![seed] } {
                    states.push(self.state(format!("{name} {what}"), seed, |files| match &new {
                        Some(new) => drop(files.insert(name.clone(), new.clone())),
                        None => drop(files.remove(name)),
                    }));
                }
            };
            // The last segment: see `the_last_segment_gone_is_told_of`.
            if Some(name) != self.segments().last() {
                put("deleted", None);
            }
            put("all zeros", Some(vec![0; bytes.len()]));
            put("all noise", Some(noise(5, bytes.len())));
            let mut cuts: BTreeSet<_> = (0..bytes.len()).step_by(step).collect();
            if segment_of(name).is_some() {
                // At and around the places where something begins.
                let commits = forge::parse(bytes).commits;
                cuts.extend(commits.iter().step_by(1 + step / 64).flat_map(|at| at - 1..=at + 1));
            }
            for cut in cuts {
                put(&format!("cut to {cut}"), Some(bytes[..cut].to_vec()));
                let zeros = [&bytes[..cut], &vec![0; bytes.len() - cut]].concat();
                put(&format!("zeros from {cut} on"), Some(zeros));
            }
            for at in (0..bytes.len()).step_by(128) {
                let mut noisy = bytes.clone();
                let end = bytes.len().min(at + 128);
                noisy[at..end].copy_from_slice(&noise(9, end - at));
                put(&format!("noise at {at}..{end}"), Some(noisy));
            }
            for len in [1, 7, 600] {
                put(&format!("and {len} more"), Some([&bytes[..], &noise(3, len)].concat()));
            }
        }
        states
    }

    /// Segments in the wrong places.
    fn shuffled(&self) -> Vec<State> {
        let segments = self.segments();
        let other = other_log();
        let mut states = Vec::new();
        for seed in [HERE, ELSEWHERE] {
            for a in 0..segments.len() {
                let (one, next) = (&segments[a], &segments[(a + 1) % segments.len()]);
                states.push(self.state(format!("{one} and {next} swapped"), seed, |files| {
                    let bytes = files[one].clone();
                    let moved = files.insert(next.clone(), bytes).unwrap();
                    files.insert(one.clone(), moved);
                }));
                states.push(self.state(format!("{one} of another log"), seed, |files| {
                    files.insert(one.clone(), other["00000001"].clone());
                }));
                for to in ["00000020", next] {
                    states.push(self.state(format!("{one} also as {to}"), seed, |files| {
                        files.insert(to.to_owned(), files[one].clone());
                    }));
                }
                states.push(self.state(format!("{one} renamed to 00000009"), seed, |files| {
                    let bytes = files.remove(one).unwrap();
                    files.insert("00000009".to_owned(), bytes);
                }));
            }
            states.push(self.state("the first two gone".to_owned(), seed, |files| {
                files.retain(|name, _| !name.starts_with("00000000") && !name.starts_with("00000001"));
            }));
            states.push(self.state("two in the middle gone".to_owned(), seed, |files| {
                files.retain(|name, _| !name.starts_with("00000002") && !name.starts_with("00000003"));
            }));
        }
        states
    }

    /// One flipped bit in every part of every file.
    fn flipped(&self) -> Vec<State> {
        let mut states = Vec::new();
        for (name, bytes) in &self.files {
            let mut places: Vec<_> = (0..bytes.len()).step_by(211).collect();
            if segment_of(name).is_some() {
                let parts = forge::parse(bytes).parts;
                places = (1..parts.len()).filter(|at| parts[*at] != parts[at - 1]).collect();
            }
            for (n, at) in places.into_iter().enumerate() {
                let seed = if n % 3 == 0 { HERE } else { ELSEWHERE };
                states.push(self.state(format!("{name} flipped at {at}"), seed, |files| {
                    files.get_mut(name).unwrap()[at] ^= 0x10;
                }));
            }
        }
        states
    }
}

/// Several damages at once, in any files.
impl Sample {
    fn scattered(&self, count: u32) -> Vec<State> {
        let names: Vec<_> = self.files.keys().collect();
        let state = |n: u32| {
            let dice = noise(n + 1000, 40);
            let mut what = String::from("scattered");
            self.state(format!("scattered {n}"), if n & 1 == 0 { HERE } else { ELSEWHERE }, |files| {
                for roll in dice.chunks_exact(8).take(2 + n as usize % 4) {
                    let name = names[usize::from(roll[0]) % names.len()];
                    let bytes = files.get_mut(name).unwrap();
                    let at = usize::from(u16::from_le_bytes([roll[1], roll[2]])) % bytes.len().max(1);
                    match roll[3] % 5 {
                        0 => bytes.truncate(at),
                        1 => bytes.iter_mut().skip(at).take(64).for_each(|byte| *byte = 0),
                        _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << (roll[4] % 8)),
                    }
                    what.push_str(&format!(", {name} at {at}"));
                }
            })
            .called(what)
        };
        (0..count).map(state).collect()
    }
}

impl State {
    fn called(self, what: String) -> State {
        State { what: format!("{what}, on {}", self.seed), ..self }
    }
}

/// A log with another identity.
fn other_log() -> Files {
    let disk = SimDisk::new(99);
    let log = create(&disk, &CreateOptions::new().segment_size(700));
    let writer = log.writer().unwrap();
    for n in 0..40 {
        writer.append(format!("of another log {n}").as_bytes(), at(n)).unwrap();
    }
    writer.close().unwrap();
    sim_files(&disk)
}

/// The answer is the truth, or an error; and whoever does not get all of it is told, by the reader and by the inspection.
fn assert_honest(state: &State, sample: &Sample) {
    let what = &state.what;
    let disk = disk_of(&state.files, state.seed);
    let got = deliver_from(&disk);
    got.assert_true(&sample.written, what);
    assert!(sim_files(&disk) == state.files, "{what}: reading has changed something");
    let log = match open(&disk) {
        Ok(log) => log,
        Err(error) => {
            let kinds = [ErrorKind::Damaged, ErrorKind::NotALog];
            return assert!(kinds.contains(&error.kind()), "{what}: {error}");
        }
    };
    nothing_is_skipped(&log, sample, what);
    let seen = inspect(&log).unwrap_or_else(|error| panic!("{what}: {error}"));
    let missing = got.missing(&sample.written);
    // Of what was removed before its first segment a cursor knows nothing; but a subscriber does.
    let first = got.records.keys().next().copied();
    let inside: Vec<_> = missing.iter().filter(|id| first.is_none_or(|first| **id > first)).collect();
    assert!(inside.is_empty() || got.told(), "{what}: a cursor says nothing of {inside:?}");
    assert!(missing.is_empty() || seen.problems().count() > 0, "{what}: nothing is noticed of {missing:?}");
}

#[test]
fn whatever_becomes_of_a_file_the_answer_is_the_truth_or_an_error() {
    let sample = sample(Durability::Sync);
    let mut states = sample.ruined(if every_bit() { 16 } else { 61 });
    states.extend(sample.scattered(if every_bit() { 5000 } else { 500 }));
    println!("{} states", states.len());
    in_parallel(states.len(), || (), |(), n| assert_honest(&states[n], &sample));
}

#[test]
fn a_segment_in_a_wrong_place_is_named_and_never_read_as_another() {
    let sample = sample(Durability::Sync);
    let states = sample.shuffled();
    in_parallel(
        states.len(),
        || (),
        |(), n| {
            assert_honest(&states[n], &sample);
            let disk = disk_of(&states[n].files, states[n].seed);
            let seen = inspect(&open_sim(&disk)).unwrap();
            assert!(!problems(&seen).is_empty(), "{}: not noticed", states[n].what);
            let foreign = deliver_from(&disk).gaps.iter().any(|gap| gap.kind == GapKind::Foreign);
            assert!(foreign || states[n].what.contains("gone"), "{}: not called what it is", states[n].what);
        },
    );
}

#[test]
fn the_last_segment_gone_is_told_of() {
    let sample = sample(Durability::Sync);
    let last = sample.segments().pop().unwrap();
    for seed in [HERE, ELSEWHERE] {
        let state = sample.state("the last segment gone".to_owned(), seed, |files| drop(files.remove(&last)));
        assert_honest(&state, &sample);
        let seen = inspect(&open_sim(&disk_of(&state.files, seed))).unwrap();
        assert_eq!(problems(&seen)[0], FindingKind::Missing);
    }
}

/// Appends to a log that may be damaged, and reads all of it again.
fn assert_goes_on(disk: &SimDisk, sample: &Sample, what: &str) {
    let before = deliver_from(disk);
    let files = own_files(disk);
    let writer = match open(disk).and_then(|log| log.writer()) {
        Ok(writer) => writer,
        Err(error) => {
            assert!([ErrorKind::Damaged, ErrorKind::NotALog].contains(&error.kind()), "{what}: {error}");
            let now = deliver_from(disk).records;
            return assert!(now == before.records, "{what}: a writer that was refused has lost something");
        }
    };
    let recovery = writer.recovery();
    let mut appended = Written::new();
    for n in 900..904 {
        appended.insert(writer.append(&message(n), at(n)).unwrap(), (at(n), message(n)));
    }
    append_batch(&writer, &mut appended, 904..910);
    writer.close().unwrap();
    let old: Vec<_> = appended.keys().filter(|id| sample.written.contains_key(id)).collect();
    // Of what is torn nothing proves that it was ever on the disk: these ids are free.
    let known = (files.contains_key("control") || before.told()) && recovery.torn.is_none();
    assert!(old.is_empty() || !known, "{what}: the ids {old:?} are given twice");

    let log = open_sim(disk);
    let mut all = sample.written.clone();
    all.extend(appended.clone());
    let after = deliver(&log, None);
    let mut wanted = before.records.clone();
    wanted.extend(appended);
    let lost: Vec<_> = wanted.keys().filter(|id| !after.records.contains_key(id)).collect();
    assert!(lost.is_empty(), "{what}: lost by a writer: {lost:?} {recovery:?} {:?}", after.gaps);
    if recovery.torn.is_none() {
        after.assert_true(&all, &format!("{what}, after a writer"));
    }
    // What was missing before is not forgotten.
    let missing = sample.written.keys().filter(|id| !after.records.contains_key(id)).count();
    assert!(
        missing == 0 || before.torn || !before.told() || !after.gaps.is_empty(),
        "{what}: {missing} forgotten"
    );
    assert_starts_anywhere(&log, &all, 5, &format!("{what}, after a writer"));
}

const STAMP: &str = "2026-11-22T17:20:11Z";

fn planned(disk: &SimDisk, what: &str) -> Option<repair::RepairPlan> {
    let log = open(disk).ok()?;
    let seen = inspect(&log).unwrap();
    Some(repair::plan(&log, &seen, &Options::default()).unwrap_or_else(|error| panic!("{what}: {error}")))
}

/// Repairs a log, looks whether that was all, and takes it back.
fn assert_repairs(disk: &SimDisk, sample: &Sample, what: &str) {
    let before = deliver_from(disk);
    let files = own_files(disk);
    let Some(plan) = planned(disk, what) else { return };
    assert!(own_files(disk) == files, "{what}: planning has changed something");
    repair::apply(&open_sim(disk), &plan, STAMP).unwrap_or_else(|error| panic!("{what}: {error}"));

    let log = open_sim(disk);
    let after = deliver(&log, None);
    let lost: Vec<_> = before.records.keys().filter(|id| !after.records.contains_key(id)).collect();
    assert!(lost.is_empty(), "{what}: lost by the repair: {lost:?}");
    if !before.torn {
        after.assert_true(&sample.written, &format!("{what}, repaired"));
    }
    assert_starts_anywhere(&log, &sample.written, 5, &format!("{what}, repaired"));
    let mut again = planned(disk, what).unwrap();
    // A header brought back may tell how much is lost of the segment before it, which was not known: that is one more
    // round, and no more.
    let mut rounds = 1;
    if !plan.left.is_empty() && !again.is_empty() {
        repair::apply(&open_sim(disk), &again, &format!("{STAMP}.again")).unwrap();
        again = planned(disk, what).unwrap();
        rounds = 2;
    }
    assert!(again.is_empty(), "{what}: the next plan has {:?} after {:?}", again.steps, plan.steps);
    let (log, after) = (open_sim(disk), deliver(&open_sim(disk), None));
    let seen = inspect(&log).unwrap();
    let left: Vec<_> = seen.problems().cloned().collect();
    assert_eq!(again.left, left, "{what}");
    if plan.left.is_empty() {
        assert!(left.is_empty(), "{what}: {left:?} is left, though the plan left nothing: {:?}", plan.steps);
        assert!(after.gaps.iter().all(|gap| gap.kind == GapKind::Repaired), "{what}: {:?}", after.gaps);
        // What was removed before the first segment there is only subscribers know of, and they are moved.
        let first = log.first_id().unwrap();
        let missing = after.missing(&sample.written).iter().filter(|id| **id > first).count() as u64;
        let told: u64 = after.gaps.iter().filter_map(|gap| gap.lost).sum();
        assert!(before.torn || missing == told, "{what}: {missing} are missing, {told} told of");
    }

    for _ in 0..if plan.is_empty() { 0 } else { rounds } {
        repair::undo_on(Arc::new(disk.clone()), Path::new(SIM_LOG)).unwrap().unwrap();
    }
    let now = own_files(disk);
    let changed: Vec<_> =
        files.keys().chain(now.keys()).filter(|name| files.get(*name) != now.get(*name)).collect();
    assert!(changed.is_empty(), "{what}: not as they were: {changed:?}");
}

fn damaged(sample: &Sample) -> Vec<State> {
    let mut states = sample.flipped();
    states.extend(sample.shuffled());
    states.extend(sample.ruined(if every_bit() { 37 } else { 151 }));
    states.extend(sample.scattered(if every_bit() { 3000 } else { 250 }));
    states
}

#[test]
fn a_writer_goes_on_after_every_damage_and_loses_nothing() {
    let sample = sample(Durability::Sync);
    let states = damaged(&sample);
    println!("{} states", states.len());
    in_parallel(
        states.len(),
        || (),
        |(), n| {
            assert_goes_on(&disk_of(&states[n].files, states[n].seed), &sample, &states[n].what);
        },
    );
}

#[test]
fn a_repair_keeps_what_is_sound_says_what_is_lost_and_can_be_taken_back() {
    let sample = sample(Durability::Sync);
    let states = damaged(&sample);
    in_parallel(
        states.len(),
        || (),
        |(), n| {
            assert_repairs(&disk_of(&states[n].files, states[n].seed), &sample, &states[n].what);
        },
    );
}

#[test]
fn a_writer_goes_on_after_every_repair() {
    let sample = sample(Durability::Sync);
    let states = damaged(&sample);
    in_parallel(
        states.len(),
        || (),
        |(), n| {
            let disk = disk_of(&states[n].files, states[n].seed);
            // Once a torn end is cut, nothing tells that its ids were ever given.
            let torn = deliver_from(&disk).torn;
            if let Some(plan) = planned(&disk, &states[n].what).filter(|_| !torn) {
                repair::apply(&open_sim(&disk), &plan, STAMP).unwrap();
                assert_goes_on(&disk, &sample, &format!("{}, repaired", states[n].what));
            }
        },
    );
}

/// A log of one segment, whose bytes from the first commit on the test makes itself. It was never closed, and there is no
/// control file, unless the test makes one.
struct Forged {
    place: Place,
    files: Files,
    segment: Vec<u8>,
}

impl Forged {
    fn new() -> Forged {
        let place = Place { log: [0xa5; 16], segment: 0 };
        let mut value = vec![0; 128];
        forge::set(&mut value, 0, 4096u32.to_le_bytes());
        for at in (32..72).step_by(8) {
            forge::set(&mut value, at, u64::MAX.to_le_bytes());
        }
        let slot = |number| forge::slot("metastore", number, place.log, 1, &value);
        let files = BTreeMap::from([("metastore".to_owned(), [slot(0), slot(1)].concat())]);
        Forged { place, files, segment: forge::header(place, 0, 0) }
    }

    fn end(&self) -> u64 {
        self.segment.len() as u64
    }

    fn push(&mut self, marker: u32, payload: &[u8]) -> &mut Forged {
        let bytes = forge::single(self.place, self.end(), marker, 1, false, payload);
        self.segment.extend(bytes);
        self
    }

    /// A commit of any numbers, with these bytes behind it.
    fn commit(&mut self, commit: forge::Commit, body: &[u8]) -> &mut Forged {
        self.segment.extend(forge::commit(self.place, self.segment.len() as u64, commit));
        self.segment.extend(body);
        self
    }

    /// A segment behind it, which says where this one ends: it is sealed.
    fn sealed_at(&mut self, end: u64, marker: u32) -> &mut Forged {
        let next = Place { segment: 1, ..self.place };
        self.files.insert("00000001".to_owned(), forge::header(next, end, marker));
        self
    }

    fn disk(&self) -> SimDisk {
        let mut files = self.files.clone();
        files.insert("00000000".to_owned(), self.segment.clone());
        disk_of(&files, ELSEWHERE)
    }
}

fn messages(got: &Got) -> Vec<&[u8]> {
    got.records.values().map(|(_, payload)| &payload[..]).collect()
}

#[test]
fn what_is_made_from_the_page_is_read() {
    let mut forged = Forged::new();
    forged.push(1, b"one").push(2, b"").push(3, b"three");
    let disk = forged.disk();
    let got = deliver_from(&disk);
    assert_eq!((messages(&got), got.told()), (vec![&b"one"[..], b"", b"three"], false));
    assert_eq!(problems(&inspect(&open_sim(&disk)).unwrap()), []);
    let writer = writer_on(&disk);
    assert_eq!(writer.append(b"four", at(4)).unwrap(), RecordId::new(0, 4));
}

/// Whatever a sound checksum covers: no panic, no hang, no wild allocation, and everything in front of it is delivered.
/// Then a writer goes on, or says why not; and a repair is planned, carried out, and has nothing more to do.
fn assert_survives(forged: &Forged, what: &str) {
    let disk = forged.disk();
    let sample = Sample { files: own_files(&disk), written: deliver_from(&disk).records };
    assert_eq!(messages(&deliver_from(&disk)).first(), Some(&&b"first"[..]), "{what}");
    inspect(&open_sim(&disk)).unwrap_or_else(|error| panic!("{what}: {error}"));
    let disk = forged.disk();
    match open_sim(&disk).writer() {
        Ok(writer) => {
            let id = writer.append(b"appended", at(9)).unwrap_or_else(|error| panic!("{what}: {error}"));
            writer.close().unwrap();
            let got = deliver_from(&disk);
            assert_eq!(got.records.get(&id), Some(&(at(9), b"appended".to_vec())), "{what}");
            assert!(sample.written.keys().all(|id| got.records.contains_key(id)), "{what}");
        }
        Err(error) => {
            assert!([ErrorKind::Damaged, ErrorKind::TooLarge].contains(&error.kind()), "{what}: {error}");
        }
    }
    let disk = forged.disk();
    let plan = planned(&disk, what).unwrap();
    if repair::apply(&open_sim(&disk), &plan, STAMP).is_ok() {
        let got = deliver_from(&disk);
        assert!(sample.written.keys().all(|id| got.records.contains_key(id)), "{what}");
        let again = planned(&disk, what).unwrap();
        assert!(again.is_empty(), "{what}: {:?} after {:?}", again.steps, plan.steps);
    }
}

#[test]
fn forged_commits_with_absurd_numbers_do_no_harm() {
    let numbers = [0, 1, 7, 8, 24, 32, 1 << 20, u32::MAX / 24, u32::MAX - 7, u32::MAX - 1, u32::MAX];
    let seals = [None, Some((u64::MAX, u32::MAX)), Some((300, 7))];
    let most = numbers.len().pow(3) * seals.len();
    in_parallel(
        most,
        || (),
        |(), n| {
            let pick = |at: usize| numbers[n / numbers.len().pow(at as u32) % numbers.len()];
            let (len, records, first) = (pick(0), pick(1), pick(2));
            let sealed = seals[n / numbers.len().pow(3)];
            let (flags, durable) = [(0, 0), (1, 0), (0, u64::MAX), (u32::MAX, 128)][n % 4];
            let mut forged = Forged::new();
            forged.push(1, b"first");
            let at = forged.end() + forge::COMMIT as u64;
            let body = forge::record(forged.place, at, 1 + (n % 3) as u8, false, records, b"12345678");
            forged.commit(forge::Commit { len, records, first, durable, flags }, &body);
            if let Some((end, marker)) = sealed {
                forged.sealed_at(end, marker);
            }
            let what =
                format!("{len} bytes, {records} from {first}, flags {flags}, durable {durable}, {sealed:?}");
            let got = deliver_from(&forged.disk());
            assert_eq!(messages(&got).first(), Some(&&b"first"[..]), "{what}");
            if n % 5 == 0 || every_bit() {
                assert_survives(&forged, &what);
            }
        },
    );
}

#[test]
fn a_bomb_allocates_no_more_than_its_bytes_could_hold_and_is_an_error() {
    for raw in [1 << 20, MAX_RAW, 1 << 31, u32::MAX] {
        for sealed in [false, true] {
            let mut forged = Forged::new();
            forged.push(1, b"first");
            let mut payload = raw.to_le_bytes().to_vec();
            payload.extend([0xff; 40]);
            let bomb = forge::single(forged.place, forged.end(), 2, 1, true, &payload);
            forged.segment.extend(bomb);
            forged.push(3, b"third");
            if sealed {
                forged.sealed_at(forged.end(), 3);
            }
            let disk = forged.disk();
            let before = peak_memory();
            let got = deliver_from(&disk);
            assert_eq!(messages(&got), [&b"first"[..], b"third"]);
            assert_eq!((got.gaps.len(), got.gaps[0].lost), (1, Some(1)), "{:?}", got.gaps);
            assert_eq!(problems(&inspect(&open_sim(&disk)).unwrap()), [FindingKind::Damage]);
            assert!(peak_memory() - before < 256 << 20, "{raw} bytes were believed");
            assert_survives(&forged, &format!("a bomb of {raw} bytes"));
        }
    }
    // Too short to say how much it holds.
    for len in 0..4 {
        let mut forged = Forged::new();
        forged.push(1, b"first");
        let bomb = forge::single(forged.place, forged.end(), 2, 1, true, &vec![0; len]);
        forged.segment.extend(bomb);
        assert_survives(&forged, &format!("a compressed record of {len} bytes"));
    }
}

const MAX_RAW: u32 = 0x7e00_0000;

/// The most memory this process ever had, in bytes.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Ends and markers that no segment has, each with each.
fn absurd(test: impl Fn(u64, u32) + Sync) {
    let ends = [0, 1, 127, 128, 129, 200, 1 << 20, 1 << 32, u64::MAX - 7, u64::MAX];
    let markers = [0, 1, 2, u32::MAX];
    in_parallel(
        ends.len() * markers.len(),
        || (),
        |(), n| test(ends[n % ends.len()], markers[n / ends.len()]),
    );
}

#[test]
fn a_forged_neighbour_does_no_harm() {
    absurd(|end, marker| {
        let what = format!("the next segment says {end} {marker}");
        let mut forged = Forged::new();
        forged.push(1, b"first");
        // Where it says that this one ended before its record, that is no record of it.
        if end < forge::HEADER as u64 || end >= forged.end() {
            assert_survives(forged.sealed_at(end, marker), &what);
        }
        forged.sealed_at(end, marker);
        deliver_from(&forged.disk());
        // And the segment that it tells of is not there.
        let disk = forged.disk();
        disk.remove(&Path::new(SIM_LOG).join("00000000")).unwrap();
        let plan = planned(&disk, &what).unwrap();
        if repair::apply(&open_sim(&disk), &plan, STAMP).is_ok() {
            assert!(planned(&disk, &what).unwrap().is_empty(), "{what}");
        }
    });
}

#[test]
fn a_forged_segment_header_does_no_harm() {
    absurd(|end, marker| {
        let mut forged = Forged::new();
        forge::set(&mut forged.segment, 36, marker.to_le_bytes());
        for at in [48, 56, 72] {
            forge::set(&mut forged.segment, at, end.to_le_bytes());
        }
        forge::seal(&mut forged.segment);
        forged.push(1, b"first");
        for sealed in [false, true] {
            if sealed {
                forged.sealed_at(forged.end(), 1);
            }
            assert_survives(&forged, &format!("the header says {end} {marker}"));
        }
    });
}

#[test]
fn a_forged_control_file_does_no_harm() {
    absurd(|end, marker| {
        for (term, segment) in [(1, 0u32), (u64::MAX, 0), (1, 7), (1, u32::MAX)] {
            let mut forged = Forged::new();
            forged.push(1, b"first");
            let mut value = vec![0; 96];
            value[0] = 1;
            forge::set(&mut value, 16, term.to_le_bytes());
            for at in [32, 48] {
                forge::set(&mut value, at, end.to_le_bytes());
                forge::set(&mut value, at + 8, segment.to_le_bytes());
                forge::set(&mut value, at + 12, marker.to_le_bytes());
            }
            forged
                .files
                .insert("control".to_owned(), forge::slot("control", 0, forged.place.log, term, &value));
            assert_survives(&forged, &format!("the control file says {term} {segment} {end} {marker}"));
        }
    });
}

/// Behind a missing active segment readers go on to the next number, and behind this one there is none: they failed for good,
/// with `TooLarge`, and could not be told to go on.
#[test]
fn the_last_segment_a_log_can_have_is_missing_like_any_other() {
    let mut forged = Forged::new();
    forged.push(1, b"first");
    let mut value = vec![0; 96];
    for at in [32, 48] {
        forge::set(&mut value, at, 1000u64.to_le_bytes());
        forge::set(&mut value, at + 8, u32::MAX.to_le_bytes());
        forge::set(&mut value, at + 12, 7u32.to_le_bytes());
    }
    forged.files.insert("control".to_owned(), forge::slot("control", 0, forged.place.log, 1, &value));
    let disk = forged.disk();
    let mut cursor = open_sim(&disk).cursor().unwrap();
    assert_eq!(cursor.next_record().unwrap().unwrap().payload, b"first");
    let mut missing = Vec::new();
    while let Err(error) = cursor.next_record() {
        let gap = error.gap_met().unwrap_or_else(|| panic!("{error}"));
        missing.push((gap.kind, gap.segment.0, gap.through.0, gap.lost));
        cursor.skip_gap();
    }
    let last = u32::MAX;
    assert_eq!(missing, [(GapKind::Missing, 1, last - 1, None), (GapKind::Missing, last, last, Some(7))]);
    for _ in 0..3 {
        assert!(cursor.next_record().unwrap().is_none(), "the gap is told of once");
    }

    // Of the segments before it nothing is known: they stay missing.
    let left: Vec<_> =
        planned(&disk, "").unwrap().left.iter().map(|left| (left.kind, left.detail.clone())).collect();
    let what = "the segments 00000001 to ffffffff are missing, the active one among them";
    assert_eq!(left, [(FindingKind::Missing, what.to_owned())]);
    repair::apply(&open_sim(&disk), &planned(&disk, "").unwrap(), STAMP).unwrap();
    assert!(planned(&disk, "").unwrap().is_empty());
    let lost: Vec<_> =
        deliver_from(&disk).gaps.iter().map(|gap| (gap.kind, gap.segment.0, gap.lost)).collect();
    assert_eq!(lost, [(GapKind::Missing, 1, None), (GapKind::Repaired, last, Some(7))]);
    assert_eq!(open_sim(&disk).writer().unwrap_err().kind(), ErrorKind::TooLarge);
}

#[test]
fn a_forged_index_does_no_harm() {
    absurd(|end, marker| {
        let mut forged = Forged::new();
        forged.push(1, b"first").push(2, b"second");
        forged.sealed_at(forged.end(), 2);
        let mut index = forge::header(forged.place, 0, 0);
        index.resize(160 + 24 + 4, 0);
        for at in [128, 160] {
            forge::set(&mut index, at, end.to_le_bytes());
            forge::set(&mut index, at + 8, marker.to_le_bytes());
        }
        forge::seal(&mut index);
        forged.files.insert("00000000.idx".to_owned(), index);
        assert_survives(&forged, &format!("the index says {end} {marker}"));
        for after in [0, 1, 2, u32::MAX - 1, u32::MAX] {
            deliver(&open_sim(&forged.disk()), Some(RecordId::new(0, after)));
        }
    });
}

#[test]
fn a_forged_generation_or_checkpoint_does_no_harm() {
    for generation in [u64::MAX - 1, u64::MAX] {
        for (segment, marker) in [(0u32, 0u32), (0, u32::MAX), (u32::MAX, u32::MAX)] {
            let mut forged = Forged::new();
            forged.push(1, b"first");
            let value = forged.files["metastore"][48..176].to_vec();
            let slot = forge::slot("metastore", 0, forged.place.log, generation, &value);
            forged.files.insert("metastore".to_owned(), [&slot[..], &[7; 512]].concat());
            let value = [segment.to_le_bytes(), marker.to_le_bytes()].concat();
            let slot = forge::slot("cp.61", 0, forged.place.log, generation, &value);
            forged.files.insert("cp.61".to_owned(), [&slot[..], &[0; 1024]].concat());
            assert_survives(&forged, &format!("generation {generation}, checkpoint {segment} {marker}"));
            let log = open_sim(&forged.disk());
            let _ = log.reader(&names()[0]).unwrap().next_record().map(drop);
            let _ = log.set_segment_size(5000);
            let _ = log.set_checkpoint(&names()[0], RecordId::new(0, 1));
        }
    }
}

#[test]
fn a_message_that_holds_a_segment_is_a_message_and_nothing_else() {
    // All that a log's own files hold, at every place a record can be, and what stood in this very segment elsewhere.
    let whole = sample(Durability::Sync);
    let mut forged = Forged::new();
    forged.push(1, b"first");
    let own = forged.segment.clone();
    let embedded =
        [&own[..], &forge::single(forged.place, 4096, 2, 1, false, b"never"), &whole.files["00000001"]]
            .concat();
    for shift in 0..16 {
        let mut forged = Forged::new();
        forged.push(1, b"first");
        let begins = forged.end() as usize;
        forged.push(2, &[&vec![b'.'; shift][..], &embedded].concat()).push(3, b"last");
        let sealed = forged.end();
        for sealed in [None, Some(sealed)] {
            if let Some(end) = sealed {
                forged.sealed_at(end, 3);
            }
            let sound = deliver_from(&forged.disk());
            assert_eq!(sound.records.len(), 3);
            // Damage in front of it: the walk looks for the next commit through all of it.
            for at in [begins, begins + 30, begins + 33, begins + 60, begins + 80] {
                let mut damaged =
                    Forged { segment: forged.segment.clone(), files: forged.files.clone(), ..forged };
                damaged.segment[at] ^= 1;
                let got = deliver_from(&damaged.disk());
                assert_eq!(messages(&got), [&b"first"[..], b"last"], "shift {shift}, byte {at}");
                assert_eq!((got.gaps.len(), got.gaps[0].lost), (1, Some(1)));
            }
        }
    }
}

#[test]
fn what_stood_in_a_recycled_segment_never_comes_back() {
    let disk = SimDisk::new(HERE);
    let log = create(&disk, &CreateOptions::new().segment_size(900));
    let [name, _] = names();
    log.add_subscriber(&name, Start::Begin).unwrap();
    let writer = log.writer().unwrap();
    let mut reader = log.reader(&name).unwrap();
    let (mut written, mut all) = (Written::new(), Written::new());
    let mut recycled = 0;
    for n in 0..160 {
        // All of the same size: what stood there before stands at the same places.
        let payload = format!("message {n:04}").into_bytes();
        let id = writer.append(&payload, at(n)).unwrap();
        written.insert(id, (at(n), payload));
        all.extend(written.clone());
        if n < 120 {
            while reader.next_record().unwrap().is_some() {}
            reader.commit().unwrap();
        }
        let first = log.first_id().unwrap();
        written.retain(|id, _| *id > first);
        let bytes = get(&disk, &id.segment.to_string()).unwrap();
        recycled += u32::from(bytes[80] != 0);
        // As a power cut may leave it: nothing of the end but what stood there before.
        for seed in 0..3 {
            let cut = disk.torn_power_cut(seed);
            let got = deliver_from(&cut);
            assert!(got.records.iter().all(|record| all.get(record.0) == Some(record.1)), "message {n}");
            assert_eq!(got.gaps, [], "message {n}");
            let now = got.records.into_iter().filter(|(id, _)| *id > first).collect::<Written>();
            assert_eq!(now, written, "message {n}");
            let writer = writer_on(&cut);
            assert_eq!(writer.recovery().damaged, None, "message {n}");
            let id = writer.append(b"after", at(n)).unwrap();
            writer.close().unwrap();
            let mut got = deliver_from(&cut).records;
            assert_eq!(got.remove(&id), Some((at(n), b"after".to_vec())));
            assert_eq!(got.into_iter().filter(|(id, _)| *id > first).collect::<Written>(), written);
        }
        let disk_later = disk_of(&own_files(&disk), ELSEWHERE);
        let kinds = problems(&inspect(&open_sim(&disk_later)).unwrap());
        assert_eq!(kinds, [], "message {n}: old bytes are taken for a torn end");
        // And where the same bytes are damaged that hide what is behind them.
        if n % 7 == 0 {
            let mut files = own_files(&disk);
            let segment = files.get_mut(&id.segment.to_string()).unwrap();
            let end = forge::parse(segment).end;
            segment[end - 30] ^= 1;
            for seed in [HERE, ELSEWHERE] {
                let got = deliver_from(&disk_of(&files, seed));
                got.assert_true(&written, "the last record damaged");
            }
        }
    }
    assert!(recycled > 50, "{recycled}");
}

/// Where the version and the words of features stand, in a segment's header and in a slot alike.
const VERSION: usize = 8;
const COMPATIBLE: usize = 10;
const READ_COMPATIBLE: usize = 12;
const INCOMPATIBLE: usize = 14;

/// The sample with another number in the header of a segment, or in each slot of a small file.
fn marked(sample: &Sample, name: &str, at: usize) -> SimDisk {
    let mut files = sample.files.clone();
    let bytes = files.get_mut(name).unwrap();
    let size = if segment_of(name).is_some() { forge::HEADER } else { forge::SLOT };
    let whole = if segment_of(name).is_some() { forge::HEADER } else { bytes.len() };
    for (number, unit) in bytes[..whole].chunks_mut(size).enumerate() {
        if unit.iter().any(|byte| *byte != 0) {
            unit[at] ^= 2;
            match segment_of(name) {
                Some(_) => forge::seal(unit),
                None => forge::seal_slot(name, number, unit),
            }
        }
    }
    disk_of(&files, HERE)
}

fn is_unsupported<T>(outcome: Result<T>) -> bool {
    outcome.is_err_and(|error| error.kind() == ErrorKind::Unsupported)
}

#[test]
fn what_is_newer_is_refused_and_not_touched() {
    let sample = sample(Durability::Sync);
    let [name, _] = names();
    for file in ["00000005", "metastore", "cp.61", "control"] {
        for at in [VERSION, INCOMPATIBLE] {
            let what = format!("{file}, a newer {}", if at == VERSION { "version" } else { "feature" });
            let disk = marked(&sample, file, at);
            let before = sim_files(&disk);
            assert!(is_unsupported(open(&disk).and_then(|log| log.writer())), "{what}: written");
            let reads = |log: Log| -> Result<()> {
                let mut reader = log.reader(&name)?;
                while reader.next_record()?.is_some() {}
                Ok(())
            };
            // Who only reads takes no advice from the control file, but what is on the disk.
            assert!(is_unsupported(open(&disk).and_then(reads)) || file == "control", "{what}: read");
            if let Ok(log) = open(&disk)
                && let Ok(seen) = inspect(&log)
            {
                assert_eq!(file, "control", "{what}: inspected");
                assert!(!seen.findings.is_empty());
            }
            assert!(sim_files(&disk) == before, "{what}: changed");
        }
    }
}

#[test]
fn a_feature_for_reading_is_read_and_not_written() {
    let sample = sample(Durability::Sync);
    for file in ["metastore", "00000005"] {
        let disk = marked(&sample, file, READ_COMPATIBLE);
        let before = sim_files(&disk);
        assert_eq!(deliver_from(&disk).records, sample.written, "{file}");
        assert_eq!(problems(&inspect(&open_sim(&disk)).unwrap()), [], "{file}");
        assert!(is_unsupported(open_sim(&disk).writer()), "{file}: written");
        assert!(file != "metastore" || is_unsupported(open_sim(&disk).set_segment_size(5000)), "{file}");
        assert!(sim_files(&disk) == before, "{file}: changed");
        if file == "metastore" {
            put(&disk, "00000001.idx", b"damaged");
            let log = open_sim(&disk);
            assert!(is_unsupported(repair::plan(&log, &inspect(&log).unwrap(), &Options::default())));
        }
    }
}

#[test]
fn a_compatible_feature_is_no_obstacle() {
    let sample = sample(Durability::Sync);
    for file in ["metastore", "00000005", "cp.61", "control"] {
        let disk = marked(&sample, file, COMPATIBLE);
        assert_goes_on(&disk, &sample, file);
    }
}

/// A log that was cut off while it wrote: some records that were synced, and then what `more` has written and not.
fn unsynced(more: impl FnOnce(&Writer, &mut Written)) -> (Files, Written, Written) {
    let disk = SimDisk::new(HERE);
    let log = create(&disk, &CreateOptions::new().durability(Durability::Process));
    let writer = log.writer().unwrap();
    let mut synced = Written::new();
    for n in 0..5 {
        synced.insert(writer.append(&message(n), at(n)).unwrap(), (at(n), message(n)));
    }
    writer.sync().unwrap();
    let mut all = synced.clone();
    more(&writer, &mut all);
    let files = sim_files(&disk);
    (files, synced, all)
}

#[test]
fn of_a_torn_batch_there_is_all_or_nothing() {
    let (files, synced, all) = unsynced(|writer, all| append_batch(writer, all, 100..200));
    let (begins, whole) = (forge::parse(&files["00000000"]).commits[5], files["00000000"].len());
    assert_eq!(all.len(), 105);
    in_parallel(
        whole + 1 - begins,
        || disk_of(&files, ELSEWHERE),
        |disk, n| {
            let cut = begins + n;
            let bytes = &files["00000000"];
            let zeros = [&bytes[..cut], &vec![0; whole - cut]].concat();
            let hole = [&bytes[..begins], &vec![0; cut - begins], &bytes[cut..]].concat();
            for (torn, how) in [(bytes[..cut].to_vec(), "cut"), (zeros, "zeros from"), (hole, "zeros up to")]
            {
                let what = format!("{how} {cut}");
                // Zeros where there were zeros, behind the last record.
                let complete = torn == *bytes;
                put(disk, "00000000", &torn);
                let got = deliver_from(disk);
                assert_eq!(got.records, if complete { all.clone() } else { synced.clone() }, "{what}");
                assert_eq!((got.gaps, got.error), (vec![], None), "{what}");
                if n % 97 == 0 {
                    assert!(inspect(&open_sim(disk)).unwrap().is_sound(), "{what}");
                    let disk = disk_of(&sim_files(disk), ELSEWHERE);
                    let writer = writer_on(&disk);
                    assert_eq!(writer.recovery().damaged, None, "{what}");
                    let id = writer.append(b"after", at(1)).unwrap();
                    writer.close().unwrap();
                    assert_eq!(deliver_from(&disk).records.len(), if complete { 106 } else { 6 }, "{what}");
                    assert!(complete || id == RecordId::new(0, 6), "{what}: {id}");
                }
            }
        },
    );
}

#[test]
fn torn_is_not_corrupt() {
    let (files, synced, all) = unsynced(|writer, all| {
        for n in 5..9 {
            all.insert(writer.append(&message(n), at(n)).unwrap(), (at(n), message(n)));
        }
    });
    let parts = forge::parse(&files["00000000"]).parts;
    // The payloads of 1 and 9 are of one kind, and so is the damage.
    let flip = |marker: u32| {
        let mut files = files.clone();
        let at = parts.iter().position(|part| *part == Part::Payload(marker)).unwrap();
        files.get_mut("00000000").unwrap()[at + 3] ^= 4;
        disk_of(&files, ELSEWHERE)
    };

    let disk = flip(7);
    let got = deliver_from(&disk);
    assert_eq!((got.gaps.len(), got.torn, got.records.len()), (0, true, 6));
    let seen = inspect(&open_sim(&disk)).unwrap();
    assert_eq!((problems(&seen), seen.is_sound()), (vec![FindingKind::Torn], true));
    let writer = writer_on(&disk);
    assert_eq!(writer.recovery().damaged, None);
    assert_eq!(writer.recovery().torn.map(|(id, _)| id), Some(RecordId::new(0, 6)));
    let kept: Vec<_> =
        sim_files(&disk).into_iter().filter(|(name, _)| name.starts_with(".repair/torn/")).collect();
    assert_eq!(
        kept.len(),
        1,
        "what is cut is kept: {:?}",
        kept.iter().map(|(name, _)| name).collect::<Vec<_>>()
    );
    assert_eq!(writer.append(b"after", at(1)).unwrap(), RecordId::new(0, 7));

    let disk = flip(3);
    let got = deliver_from(&disk);
    let gaps: Vec<_> = got.gaps.iter().map(|gap| (gap.kind, gap.lost, gap.after)).collect();
    assert_eq!(gaps, [(GapKind::Damage, Some(1), Some(RecordId::new(0, 2)))]);
    assert_eq!(got.missing(&all), [RecordId::new(0, 3)]);
    let seen = inspect(&open_sim(&disk)).unwrap();
    assert_eq!((problems(&seen), seen.is_sound()), (vec![FindingKind::Damage], false));
    let writer = writer_on(&disk);
    assert_eq!(writer.recovery().damaged.map(|id| id.0), Some(0));
    assert_eq!(writer.append(b"after", at(1)).unwrap(), RecordId::new(1, 1));
    assert_eq!(synced.len(), 5);
}

#[test]
fn a_writer_makes_no_evidence_of_what_it_does_not_know() {
    // The last segment is another one, or none, and nothing is left that tells how many records it held.
    let sample = sample(Durability::Sync);
    let last = sample.segments().pop().unwrap();
    let other = other_log();
    let noises = [
        Some(other["00000001"].clone()),
        Some(sample.files["00000001"].clone()),
        Some(vec![]),
        Some(vec![0; 3000]),
    ];
    for new in noises.into_iter().flatten() {
        let state = sample.state(format!("{last} of {} bytes", new.len()), ELSEWHERE, |files| {
            files.remove("control");
            files.insert(last.clone(), new);
        });
        let disk = disk_of(&state.files, state.seed);
        let writer = writer_on(&disk);
        writer.append(b"after", at(1)).unwrap();
        writer.close().unwrap();
        let got = deliver_from(&disk);
        assert!(!got.gaps.is_empty(), "{}: readers are told of nothing", state.what);
        assert!(got.gaps.iter().all(|gap| gap.lost != Some(0)), "{}: {:?}", state.what, got.gaps);
    }
}

#[test]
fn what_a_subscriber_has_read_was_there_and_its_loss_is_one_hole() {
    let mut sample = sample(Durability::Sync);
    let last = sample.segments().pop().unwrap();
    let disk = disk_of(&sample.files, HERE);
    let writer = writer_on(&disk);
    for n in 80..84 {
        sample.written.insert(writer.append(&message(n), at(n)).unwrap(), (at(n), message(n)));
    }
    writer.close().unwrap();
    let id = *sample.written.keys().last().unwrap();
    open_sim(&disk).set_checkpoint(&names()[0], id).unwrap();
    sample.files = sim_files(&disk);
    let commits = forge::parse(&sample.files[&last]).commits;
    for cut in commits[1] + 1..commits[2] {
        let state = sample.state(format!("cut to {cut}, no control file"), ELSEWHERE, |files| {
            files.remove("control");
            files.get_mut(&last).unwrap().truncate(cut);
        });
        let disk = disk_of(&state.files, state.seed);
        let seen = inspect(&open_sim(&disk)).unwrap();
        assert_eq!(problems(&seen), [FindingKind::Damage, FindingKind::Checkpoint], "{}", state.what);
        assert_goes_on(&disk, &sample, &state.what);
    }
}

/// Segments of several entries of an index, with batches that reach over more than one.
fn long_sample() -> Sample {
    let disk = SimDisk::new(HERE);
    let log = create(&disk, &CreateOptions::new().segment_size(24_000));
    for name in names() {
        log.add_subscriber(&name, Start::Begin).unwrap();
    }
    let mut written = Written::new();
    let writer = log.writer().unwrap();
    for n in 0..90 {
        if n % 6 == 0 {
            let batch: Vec<_> = (0..40).map(|k| (noise(n * 100 + k, 150), at(n))).collect();
            let last = writer.append_batch(batch.iter().map(|(m, t)| (&m[..], *t))).unwrap().unwrap();
            for (back, (message, time)) in batch.into_iter().rev().enumerate() {
                written.insert(RecordId::new(last.segment.0, last.marker.0 - back as u32), (time, message));
            }
        } else {
            written.insert(writer.append(&noise(n, 700), at(n)).unwrap(), (at(n), noise(n, 700)));
        }
    }
    writer.close().unwrap();
    Sample { files: sim_files(&disk), written }
}

#[test]
fn damage_between_the_entries_of_an_index_leads_nobody_astray() {
    let sample = long_sample();
    let states = damaged_long(&sample);
    assert!(states.len() > 12, "{}", states.len());
    in_parallel(
        states.len(),
        || (),
        |(), n| {
            let what = &states[n].what;
            let disk = || disk_of(&states[n].files, states[n].seed);
            assert_starts_anywhere(&open_sim(&disk()), &sample.written, 5, what);
            assert_goes_on(&disk(), &sample, what);
            assert_repairs(&disk(), &sample, what);
            let disk = disk();
            repair::apply(&open_sim(&disk), &planned(&disk, what).unwrap(), STAMP).unwrap();
            assert_only_notes(&open_sim(&disk), &sample, what);
        },
    );
}

#[test]
fn an_index_that_is_made_over_notes_leads_nobody_astray() {
    let sample = long_sample();
    let states = damaged_long(&sample);
    in_parallel(
        states.len(),
        || (),
        |(), n| {
            let what = format!("{}, indexed anew", states[n].what);
            let disk = disk_of(&states[n].files, states[n].seed);
            let log = open_sim(&disk);
            repair::apply(&log, &planned(&disk, &what).unwrap(), STAMP).unwrap();
            for segment in log.segments().unwrap() {
                let made = log.build_index(segment);
                assert!(made.is_ok() || segment == log.active_segment().unwrap(), "{what}: {made:?}");
            }
            assert_only_notes(&log, &sample, &what);
            assert_eq!(problems(&inspect(&log).unwrap()), [], "{what}");
        },
    );
}

/// Wherever one starts in a log that was repaired: all that is there, and no gap but what the repair has noted.
fn assert_only_notes(log: &Log, sample: &Sample, what: &str) {
    for id in sample.written.keys().step_by(67) {
        let gaps = deliver(log, Some(*id)).gaps;
        assert!(gaps.iter().all(|gap| gap.kind == GapKind::Repaired), "{what}: behind {id}: {gaps:?}");
    }
    assert_starts_anywhere(log, &sample.written, 5, what);
}

fn damaged_long(sample: &Sample) -> Vec<State> {
    let mut states = Vec::new();
    for name in sample.segments() {
        let parsed = forge::parse(&sample.files[&name]);
        let in_batch = parsed.parts.iter().enumerate().filter(|(_, part)| matches!(part, Part::Payload(_)));
        let payloads: Vec<_> =
            in_batch.map(|(at, _)| at).step_by(if every_bit() { 1777 } else { 6001 }).collect();
        for at in payloads {
            states.push(sample.state(format!("{name}, a payload at {at}"), ELSEWHERE, |files| {
                files.get_mut(&name).unwrap()[at] ^= 1;
            }));
        }
        // So many commits in a row that an entry points to one of them.
        for pair in parsed.commits.windows(8).step_by(if every_bit() { 3 } else { 9 }) {
            states.push(sample.state(format!("{name}, commits from {}", pair[0]), ELSEWHERE, |files| {
                for at in pair {
                    files.get_mut(&name).unwrap()[*at] ^= 1;
                }
            }));
        }
    }
    states
}

#[test]
fn a_checkpoint_of_another_subscriber_is_not_believed() {
    let sample = sample(Durability::Sync);
    let mut files = sample.files.clone();
    files.insert("cp.62".to_owned(), files["cp.61"].clone());
    let log = open_sim(&disk_of(&files, HERE));
    assert_eq!(log.reader(&names()[1]).unwrap_err().kind(), ErrorKind::Damaged);
    assert_eq!(problems(&inspect(&log).unwrap()), [FindingKind::Checkpoint]);
}
