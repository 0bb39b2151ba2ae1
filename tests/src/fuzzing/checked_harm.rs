//! A sound checksummed log that harm comes to: opened, read, inspected, repaired, repaired again, appended to.

use std::collections::BTreeMap;
use std::sync::Arc;

use arbitrary::{Arbitrary, Unstructured};
use jlog::io::sim::SimDisk;
use jlog::{
    Compression, CreateOptions, Durability, ErrorKind, Log, OnDamage, RecordId, Start, Timestamp,
    WriterOptions, inspect, repair,
};

use super::base::{copy_of, subscriber};
use super::harm::{Harm, in_log};
use crate::SIM_LOG;

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

type Records = BTreeMap<RecordId, Vec<u8>>;

/// What is delivered was written; what can be read can be read after a repair, under the same ids; repairs come to an end.
pub fn checked(data: &[u8]) {
    let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(data)) else { return };
    let (disk, written) = build(&input);
    for harm in &input.harm {
        harm.inflict(&disk, &in_log(&FILES));
    }

    let Ok(log) = Log::open_on(Arc::new(disk.clone()), SIM_LOG) else { return };
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
    // What one repair has to leave, or what a segment that it makes again tells of the one before it, may be mended once the rest is:
    // it must come to an end.
    for round in 0..4 {
        let makes = plan.steps.iter().any(|step| step.what == "the segment is missing");
        let left = makes || !plan.left.is_empty();
        repair::apply(&log, &plan, "now").expect("nobody else is here");
        log = Log::open_on(Arc::new(disk.clone()), SIM_LOG).expect("a repaired log");
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
}

fn assert_all_in(some: &Records, all: &Records, otherwise: &str) {
    for (id, payload) in some {
        assert_eq!(all.get(id), Some(payload), "{id}: {otherwise}");
    }
}

fn read(log: &Log) -> Records {
    let mut cursor = log.cursor().expect("the directory can be listed");
    cursor.on_damage(OnDamage::Skip);
    cursor.see_unsynced(true);
    let mut records = BTreeMap::new();
    while let Some(record) = cursor.next_record().expect("a healthy disk") {
        assert!(records.insert(record.id, record.payload.to_vec()).is_none(), "an id was given twice");
    }
    records
}

fn build(input: &Input) -> (SimDisk, Records) {
    let disk = SimDisk::new(1);
    disk.keep_trace(false);
    let compression = if input.lz4 { Compression::Lz4 } else { Compression::None };
    let options = CreateOptions::new().segment_size(600).compression(compression);
    let log = Log::create_on(Arc::new(disk.clone()), SIM_LOG, &options).expect("a new log");
    log.add_subscriber(&subscriber(), Start::Begin).expect("a new subscriber");

    let durability = if input.process { Durability::Process } else { Durability::Sync };
    let writer = log.writer_with(&WriterOptions::new().durability(durability)).expect("a writer");
    let messages: Vec<Vec<u8>> = input.messages.iter().take(24).enumerate().map(message).collect();
    for batch in messages.chunks(usize::from(input.batch % 4) + 1) {
        let time = Timestamp::new(1_700_000_000, 0);
        writer.append_batch(batch.iter().map(|message| (&message[..], time))).expect("a healthy disk");
    }
    let (segment, marker) = input.checkpoint;
    let _ = log.set_checkpoint(&subscriber(), RecordId::new(u32::from(segment), u32::from(marker)));
    let written = read(&log);
    assert!(written.len() <= messages.len());

    let mut writer = Some(writer);
    if let Some(writer) = writer.take_if(|_| input.close) {
        writer.close().expect("a healthy disk");
    }
    let copy = copy_of(&disk);
    // One that was not closed is as good as killed.
    drop(writer);
    (copy, written)
}

fn message((n, len): (usize, &u8)) -> Vec<u8> {
    let mut message = format!("{n}:").into_bytes();
    message.extend((0..*len).map(|b| b'a' + ((b / 8) ^ n as u8) % 26));
    message
}
