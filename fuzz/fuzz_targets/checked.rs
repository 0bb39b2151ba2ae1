//! A sound checksummed log that harm comes to: opened, read, inspected, repaired, repaired again, appended to.
//!
//! What is delivered was written; what can be read can be read after a repair, under the same ids; a second repair
//! finds nothing.

#![no_main]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use jlog::io::sim::SimDisk;
use jlog::io::{Disk, File, Open};
use jlog::{
    Compression, CreateOptions, Durability, ErrorKind, Log, OnDamage, RecordId, Start, Subscriber, Timestamp,
    WriterOptions, inspect, repair,
};
use libfuzzer_sys::arbitrary::Arbitrary;
use libfuzzer_sys::{arbitrary, fuzz_target};

#[derive(Debug, Arbitrary)]
struct Input {
    lz4: bool,
    process: bool,
    close: bool,
    /// The lengths of its messages; every so many are a batch.
    messages: Vec<u8>,
    batch: u8,
    checkpoint: (u8, u8),
    harm: Vec<Harm>,
}

#[derive(Debug, Arbitrary)]
struct Harm {
    file: u8,
    at: u16,
    kind: Kind,
}

#[derive(Debug, Arbitrary)]
enum Kind {
    Overwrite(Vec<u8>),
    Flip(u8),
    Truncate,
    Extend(u8),
    Remove,
    /// Copies bytes from `at` to the end of the file over those at another place.
    CopyTo(u16),
    /// Puts the file in the place of another one.
    RenameTo(u8),
}

const FILES: [&str; 9] = [
    "metastore",
    "00000000",
    "00000001",
    "00000002",
    "00000000.idx",
    "00000001.idx",
    "cp.73",
    "control",
    "00000003",
];

fuzz_target!(|input: Input| {
    let dir = Path::new("/log");
    let (disk, written) = build(dir, &input);
    for harm in &input.harm {
        inflict(&*disk, dir, harm);
    }

    let Ok(log) = Log::open_on(Arc::clone(&disk), dir) else { return };
    if log.identity().is_none() {
        // Nothing is left by which it could be told from a classic log.
        return;
    }
    let seen = match inspect::inspect(&log) {
        Err(error) if error.kind() == ErrorKind::Unsupported => return,
        outcome => outcome.expect("a healthy disk"),
    };
    let mut records = read(&log);
    assert_all_in(&records, &written, "it was never written like this");
    // An inspection takes what subscribers have read for evidence of what was on the disk; a reader does not.
    assert!(seen.messages >= records.len() as u64);

    let mut plan =
        repair::plan(&log, &seen, &repair::Options::default()).expect("a plan for what was just inspected");
    let mut log = log;
    // What one repair has to leave may be mended once the rest is: it must come to an end.
    for round in 0..4 {
        let left = !plan.left.is_empty();
        repair::apply(&log, &plan, "now").expect("nobody else is here");
        log = Log::open_on(Arc::clone(&disk), dir).expect("a repaired log");
        let again = inspect::inspect(&log).expect("a repaired log");
        // It may bring back more, where it tells how far a segment goes.
        let now = read(&log);
        assert_all_in(&records, &now, "a repair has lost it");
        assert_all_in(&now, &written, "a repair has made it up");
        records = now;
        plan = repair::plan(&log, &again, &repair::Options::default()).expect("a plan");
        if plan.is_empty() {
            break;
        }
        assert!(left && round < 3, "repair number {} found {:?}", round + 2, plan.steps);
    }

    let writer = match log.writer() {
        Err(error) if error.kind() == ErrorKind::TooLarge => return,
        outcome => outcome.expect("a repaired log can be written"),
    };
    let id = writer.append(b"one more", Timestamp::new(1, 1)).expect("a healthy disk");
    let mut with_one_more = records;
    with_one_more.insert(id, b"one more".to_vec());
    assert_eq!(read(&log), with_one_more);
});

fn assert_all_in(some: &BTreeMap<RecordId, Vec<u8>>, all: &BTreeMap<RecordId, Vec<u8>>, otherwise: &str) {
    for (id, payload) in some {
        assert_eq!(all.get(id), Some(payload), "{id}: {otherwise}");
    }
}

fn read(log: &Log) -> BTreeMap<RecordId, Vec<u8>> {
    let mut cursor = log.cursor().expect("the directory can be listed");
    cursor.on_damage(OnDamage::Skip);
    cursor.see_unsynced(true);
    let mut records = BTreeMap::new();
    while let Some(record) = cursor.next_record().expect("a healthy disk") {
        assert!(records.insert(record.id, record.payload.to_vec()).is_none(), "an id was given twice");
    }
    records
}

fn build(dir: &Path, input: &Input) -> (Arc<dyn Disk>, BTreeMap<RecordId, Vec<u8>>) {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
    let compression = if input.lz4 { Compression::Lz4 } else { Compression::None };
    let options = CreateOptions::new().segment_size(600).compression(compression);
    let log = Log::create_on(Arc::clone(&disk), dir, &options).expect("a new log");
    let subscriber = Subscriber::new("s").expect("a name");
    log.add_subscriber(&subscriber, Start::Begin).expect("a new subscriber");

    let durability = if input.process { Durability::Process } else { Durability::Sync };
    let writer = log.writer_with(&WriterOptions::new().durability(durability)).expect("a writer");
    let messages: Vec<Vec<u8>> = input.messages.iter().take(24).enumerate().map(message).collect();
    for batch in messages.chunks(usize::from(input.batch % 4) + 1) {
        let time = Timestamp::new(1_700_000_000, 0);
        writer.append_batch(batch.iter().map(|message| (&message[..], time))).expect("a healthy disk");
    }
    let (segment, marker) = input.checkpoint;
    let _ = log.set_checkpoint(&subscriber, RecordId::new(u32::from(segment), u32::from(marker)));
    let written = read(&log);
    assert!(written.len() <= messages.len());

    let mut writer = Some(writer);
    if let Some(writer) = writer.take_if(|_| input.close) {
        writer.close().expect("a healthy disk");
    }
    let copy: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
    copy.create_dir(dir, 0o750).expect("a healthy disk");
    for name in disk.names(dir).expect("a healthy disk") {
        let file = File::open(&*disk, &dir.join(&name), Open::Read).expect("a file of the log");
        let mut bytes = vec![0; file.size().expect("a healthy disk") as usize];
        file.pread(&mut bytes, 0).expect("a healthy disk");
        let file = File::open(&*copy, &dir.join(&name), Open::Create(0o640)).expect("a new file");
        file.pwrite(&bytes, 0).expect("a healthy disk");
    }
    // One that was not closed is as good as killed.
    drop(writer);
    (copy, written)
}

fn message((n, len): (usize, &u8)) -> Vec<u8> {
    let mut message = format!("{n}:").into_bytes();
    message.extend((0..*len).map(|b| b'a' + (b / 8 ^ n as u8) % 26));
    message
}

fn inflict(disk: &dyn Disk, dir: &Path, harm: &Harm) {
    let path = dir.join(FILES[usize::from(harm.file) % FILES.len()]);
    let Ok(file) = File::open(disk, &path, Open::ReadWrite) else { return };
    let size = file.size().expect("a healthy disk");
    let at = u64::from(harm.at) % (size + 1);
    match &harm.kind {
        Kind::Overwrite(bytes) => file.pwrite(&bytes[..bytes.len().min(64)], at),
        Kind::Flip(bit) if at < size => {
            let mut byte = [0];
            file.pread(&mut byte, at).expect("a healthy disk");
            file.pwrite(&[byte[0] ^ (1 << (bit % 8))], at)
        }
        Kind::Flip(_) => Ok(()),
        Kind::Truncate => file.truncate(at),
        Kind::Extend(by) => file.truncate(size + u64::from(*by)),
        Kind::Remove => {
            drop(file);
            return disk.remove(&path).expect("a healthy disk");
        }
        Kind::RenameTo(other) => {
            drop(file);
            let other = dir.join(FILES[usize::from(*other) % FILES.len()]);
            return disk.rename(&path, &other).expect("a healthy disk");
        }
        Kind::CopyTo(to) => {
            let mut bytes = vec![0; (size - at) as usize];
            file.pread(&mut bytes, at).expect("a healthy disk");
            file.pwrite(&bytes, u64::from(*to) % (size + 1))
        }
    }
    .expect("a healthy disk");
}
