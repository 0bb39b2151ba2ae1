//! What the tests share: the golden logs, copies to work on, and all that a log holds as plain values.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what is here runs in tests only")]

mod coverage;
pub mod crash;
pub mod fuzzing;
pub mod images;
pub mod looking;
pub mod play;
pub mod real;
pub mod spool_harm;
pub mod spool_model;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use jlog::io::sim::SimDisk;
use jlog::io::{Disk, File, Open, PathKind};
use jlog::{Cursor, ErrorKind, Gap, Kind, Log, OnDamage, Order, Reader, Record, RecordId, Tail, Timestamp};
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// A record as libjlog wrote it.
#[derive(Debug, Clone, Deserialize)]
pub struct Written {
    /// Absent in a pre_commit buffer, where records have no id yet.
    log: Option<u32>,
    marker: Option<u32>,
    /// Absent where only a libjlog reader's word is known.
    pub offset: Option<u64>,
    pub disk_len: Option<u64>,
    tv_sec: u32,
    tv_usec: u32,
    pub len: usize,
    pub payload_sha256: String,
    pub record_sha256: Option<String>,
}

impl Written {
    pub fn id(&self) -> RecordId {
        RecordId::new(self.log.unwrap(), self.marker.unwrap())
    }

    /// Whether its id is known: of what was appended behind damage it is not.
    pub fn has_id(&self) -> bool {
        self.log.is_some() && self.marker.is_some()
    }

    pub fn time(&self) -> Timestamp {
        Timestamp::new(self.tv_sec, self.tv_usec)
    }

    /// Whether this is what a reader got: the same time, the same bytes.
    pub fn is(&self, time: Timestamp, payload: &[u8]) -> bool {
        self.time() == time && self.len == payload.len() && self.payload_sha256 == sha256(payload)
    }
}

#[derive(Debug, Clone, Deserialize)]
struct Place {
    log: u32,
    marker: u32,
}

/// The records of a pre_commit buffer.
#[derive(Debug, Clone, Deserialize)]
pub struct PreCommit {
    pub pointer: u32,
    pub file_size: u64,
    pub records: Vec<Written>,
}

/// What a metastore file holds; nothing where it is too short for it.
#[derive(Debug, Clone, Deserialize)]
pub struct Meta {
    pub size: usize,
    pub storage_log: Option<u32>,
    pub unit_limit: Option<u32>,
    pub safety: Option<u32>,
    pub hdr_magic: Option<u32>,
}

/// A subscriber's checkpoint file.
#[derive(Debug, Clone, Deserialize)]
pub struct Follower {
    pub file: String,
    pub size: u64,
    log: Option<u32>,
    marker: Option<u32>,
}

impl Follower {
    pub fn checkpoint(&self) -> Option<RecordId> {
        Some(RecordId::new(self.log?, self.marker?))
    }

    pub fn name(&self) -> jlog::Subscriber {
        let digits = self.file.strip_prefix("cp.").unwrap().as_bytes();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        jlog::Subscriber::existing(digits.chunks(2).map(byte).collect::<Vec<_>>()).unwrap()
    }
}

/// A golden log: see `golden/README.md`.
#[derive(Debug, Clone, Deserialize)]
pub struct Case {
    pub name: String,
    pub kind: String,
    endian: String,
    pub metastore: Option<Meta>,
    pub subscribers: Vec<Follower>,
    pub records_written: Vec<Written>,
    records_not_intact: Vec<Place>,
    pub records_appended: Vec<Written>,
    pub pre_commit: Option<PreCommit>,
    pub kept_by_libjlog_repair: Vec<Written>,
}

impl Case {
    /// Where it lies. Nothing may be changed there.
    pub fn dir(&self) -> PathBuf {
        golden().join(&self.name)
    }

    pub fn order(&self) -> Order {
        if self.endian == "be" { Order::Big } else { Order::Little }
    }

    /// Whether all of it is as a libjlog wrote it.
    pub fn is_sound(&self) -> bool {
        self.kind == "sound" || self.kind == "old"
    }

    /// The records in segments that the damage has not touched, in order.
    pub fn intact(&self) -> Vec<Written> {
        let lost = |record: &&Written| {
            let id = record.id();
            !self.records_not_intact.iter().any(|place| RecordId::new(place.log, place.marker) == id)
        };
        let mut intact: Vec<_> = self.records_written.iter().filter(lost).cloned().collect();
        // They were appended to the segment that was active, and so behind all others.
        intact.extend(self.records_appended.iter().cloned());
        intact
    }

    /// The records that the damage has touched or taken away.
    pub fn not_intact(&self) -> Vec<Written> {
        let intact: Vec<_> =
            self.intact().iter().filter_map(|record| record.log.zip(record.marker)).collect();
        let gone = |record: &&Written| !intact.contains(&(record.log.unwrap(), record.marker.unwrap()));
        self.records_written.iter().filter(gone).cloned().collect()
    }

    /// A copy to work on.
    pub fn copy(&self) -> Scratch {
        let scratch = Scratch::new();
        copy_dir(&self.dir(), &scratch.path());
        scratch
    }
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// All golden logs.
pub fn cases() -> &'static [Case] {
    #[derive(Deserialize)]
    struct Manifest {
        cases: Vec<Case>,
    }
    static CASES: OnceLock<Vec<Case>> = OnceLock::new();
    CASES.get_or_init(|| {
        let manifest = fs::read(golden().join("manifest.json")).unwrap();
        serde_json::from_slice::<Manifest>(&manifest).unwrap().cases
    })
}

/// The golden log of this name.
pub fn case(name: &str) -> &'static Case {
    cases().iter().find(|case| case.name == name).unwrap_or_else(|| panic!("there is no golden log {name}"))
}

/// A directory that is gone with this value, and the path of a log in it.
pub struct Scratch {
    dir: tempfile::TempDir,
}

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch::new()
    }
}

impl Scratch {
    pub fn new() -> Scratch {
        Scratch { dir: tempfile::tempdir().unwrap() }
    }

    /// The log. Its parent directory is this value's own.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.file(name)).unwrap()
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.file(name), bytes).unwrap();
    }

    pub fn has(&self, name: &str) -> bool {
        self.file(name).exists()
    }

    pub fn open(&self) -> Log {
        Log::open(self.path()).unwrap()
    }

    /// Everything in the log's directory, `.repair` included.
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        snapshot(&self.path()).into_iter().filter_map(|(path, seen)| Some((path, seen.bytes?))).collect()
    }
}

pub fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// What lies at a path: its size and time of change, and, of a file, its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lying {
    pub len: u64,
    pub changed: SystemTime,
    pub bytes: Option<Vec<u8>>,
}

/// Everything below a directory, and the directory itself, by relative path.
pub fn snapshot(dir: &Path) -> BTreeMap<PathBuf, Lying> {
    let mut all = BTreeMap::new();
    let mut open = vec![PathBuf::new()];
    while let Some(path) = open.pop() {
        let at = dir.join(&path);
        let info = fs::metadata(&at).unwrap();
        let bytes = info.is_file().then(|| fs::read(&at).unwrap());
        if info.is_dir() {
            open.extend(fs::read_dir(&at).unwrap().map(|entry| path.join(entry.unwrap().file_name())));
        }
        all.insert(path, Lying { len: info.len(), changed: info.modified().unwrap(), bytes });
    }
    all
}

/// The names in a directory, in order.
pub fn names(dir: &Path) -> Vec<OsString> {
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    names
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A record as a reader got it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub id: RecordId,
    pub time: Timestamp,
    pub payload: Vec<u8>,
    pub doubtful: bool,
    pub offset: u64,
    pub stored_len: u64,
    pub kind: Kind,
}

impl From<Record<'_>> for Seen {
    fn from(record: Record<'_>) -> Seen {
        let Record { kind, id, time, payload, doubtful, offset, stored_len } = record;
        Seen { id, time, payload: payload.to_vec(), doubtful, offset, stored_len, kind }
    }
}

/// All that a cursor gives on the way to the end, past every gap.
#[derive(Debug, Clone)]
pub struct Passed {
    pub records: Vec<Seen>,
    pub gaps: Vec<Gap>,
    pub tail: Tail,
}

impl Passed {
    pub fn payloads(&self) -> Vec<&[u8]> {
        self.records.iter().map(|record| &record.payload[..]).collect()
    }
}

/// Reads a log from its first record to its end. A cursor that goes on for longer than the log can be is a failure.
pub fn read_all(log: &Log) -> Passed {
    read_on(&mut log.cursor().unwrap())
}

/// Reads on from where a cursor stands, to the end.
pub fn read_on(cursor: &mut Cursor) -> Passed {
    read_within(cursor, MOST_STEPS)
}

/// Reads on to the end, which has to come within so many steps.
pub fn read_within(cursor: &mut Cursor, steps: usize) -> Passed {
    let mut passed = Passed { records: Vec::new(), gaps: Vec::new(), tail: Tail::Clean };
    for _ in 0..steps {
        match cursor.next_record() {
            Ok(Some(record)) => passed.records.push(record.into()),
            Ok(None) => {
                passed.tail = cursor.tail();
                return passed;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
                let gap = cursor.skip_gap().unwrap_or_else(|| panic!("no way past: {error}"));
                assert_eq!(error.gap_met(), Some(&gap));
                passed.gaps.push(gap);
            }
        }
    }
    panic!("the cursor does not come to an end within {steps} steps")
}

const MOST_STEPS: usize = 1_000_000;

/// What a subscriber's reader gives from its checkpoint on, past every gap, without a commit.
pub fn read_unread(reader: &mut Reader) -> Vec<Seen> {
    reader.on_damage(OnDamage::Skip);
    let mut records = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        records.push(record.into());
    }
    records
}

/// What a panic said.
pub fn said(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic")
}

/// The bytes of a plain record as libjlog writes it.
pub fn plain_record(order: Order, magic: u32, time: Timestamp, message: &[u8]) -> Vec<u8> {
    let words = [magic, time.seconds, time.micros, message.len() as u32];
    let mut bytes = in_order(order, &words);
    bytes.extend_from_slice(message);
    bytes
}

/// The bytes of a compressed record as libjlog writes it: `stored` stands behind its header.
pub fn compressed_record(order: Order, magic: u32, time: Timestamp, len: usize, stored: &[u8]) -> Vec<u8> {
    let words = [magic, time.seconds, time.micros, len as u32, stored.len() as u32];
    let mut bytes = in_order(order, &words);
    bytes.extend_from_slice(stored);
    bytes
}

/// Numbers as they stand in a file.
pub fn in_order(order: Order, words: &[u32]) -> Vec<u8> {
    let bytes = |word: &u32| match order {
        Order::Little => word.to_le_bytes(),
        Order::Big => word.to_be_bytes(),
    };
    words.iter().flat_map(bytes).collect()
}

/// The first word of a plain record.
pub const MAGIC: u32 = 0x663a_7318;

/// A time that differs from record to record.
pub fn at(n: u32) -> Timestamp {
    Timestamp::new(1_700_000_000 + n, n)
}

/// A golden log on a simulated disk, as `/log`, durable.
pub fn on_sim(case: &Case, seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    disk.create_dir(Path::new(SIM_LOG), 0o750).unwrap();
    for entry in fs::read_dir(case.dir()).unwrap() {
        let entry = entry.unwrap();
        put(&disk, &entry.file_name().into_string().unwrap(), &fs::read(entry.path()).unwrap());
    }
    disk.sync_dir(Path::new("/")).unwrap();
    disk
}

/// Where logs lie on simulated disks.
pub const SIM_LOG: &str = "/log";

/// Makes or replaces a file of the log on a simulated disk, durably.
pub fn put(disk: &SimDisk, name: &str, bytes: &[u8]) {
    let file = File::open(disk, &Path::new(SIM_LOG).join(name), Open::Create(0o640)).unwrap();
    file.truncate(0).unwrap();
    file.pwrite(bytes, 0).unwrap();
    file.sync().unwrap();
    disk.sync_dir(Path::new(SIM_LOG)).unwrap();
}

/// The bytes of a file of the log on a simulated disk; `None` if there is none.
pub fn get(disk: &SimDisk, name: &str) -> Option<Vec<u8>> {
    let file = File::open_existing(disk, &Path::new(SIM_LOG).join(name), Open::Read).unwrap()?;
    let mut bytes = vec![0; file.size().unwrap() as usize];
    file.pread(&mut bytes, 0).unwrap();
    Some(bytes)
}

/// Every file below the log's directory on a simulated disk, `.repair` included.
pub fn sim_files(disk: &SimDisk) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut open = vec![String::new()];
    while let Some(path) = open.pop() {
        let at = Path::new(SIM_LOG).join(&path);
        match disk.info(&at, false).unwrap().kind {
            PathKind::Directory => {
                let names = disk.names(&at).unwrap().into_iter().map(|name| name.into_string().unwrap());
                open.extend(names.map(|name| if path.is_empty() { name } else { format!("{path}/{name}") }));
            }
            _ => {
                let bytes = get(disk, &path).unwrap();
                files.insert(path, bytes);
            }
        }
    }
    files
}

pub fn open_sim(disk: &SimDisk) -> Log {
    Log::open_on(Arc::new(disk.clone()), SIM_LOG).unwrap()
}
