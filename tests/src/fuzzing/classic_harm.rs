//! A sound classic log that harm comes to: opened, read, inspected, repaired, repaired again, appended to.

use std::sync::Arc;

use arbitrary::{Arbitrary, Unstructured};
use jlog::io::sim::SimDisk;
use jlog::{
    Compression, CreateOptions, Log, OnDamage, Order, RecordId, Start, Timestamp, WriterOptions, inspect,
    repair,
};

use super::base::{copy_of, subscriber};
use super::harm::{Harm, in_log};
use crate::SIM_LOG;

/// A sound log, and what happens to it.
#[derive(Debug, Arbitrary)]
struct Input {
    big_endian: bool,
    compression: u8,
    buffered: bool,
    /// The lengths of its messages.
    messages: Vec<u8>,
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
    "pre_commit",
    "00000003",
];

/// A repair keeps what could be read, and makes nothing up; a second repair finds nothing; a writer goes on.
pub fn directory(data: &[u8]) {
    let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(data)) else { return };
    let disk = build(&input);
    for harm in input.harm.iter().filter(|harm| !harm.renames()) {
        harm.inflict(&disk, &in_log(&FILES));
    }

    let Ok(log) = Log::open_on(Arc::new(disk.clone()), SIM_LOG) else { return };
    let seen = inspect::inspect(&log).expect("a healthy disk");
    let mut cursor = log.cursor().expect("the directory can be listed");
    cursor.on_damage(OnDamage::Skip);
    let mut records = 0u64;
    while cursor.next_record().expect("a healthy disk").is_some() {
        records += 1;
    }
    assert_eq!(seen.messages, records);
    drop(cursor);

    let plan =
        repair::plan(&log, &seen, &repair::Options::default()).expect("a plan for what was just inspected");
    repair::apply(&log, &plan, "now").expect("nobody else is here");
    let log = Log::open_on(Arc::new(disk.clone()), SIM_LOG).expect("a repaired log");
    let again = inspect::inspect(&log).expect("a repaired log");
    assert_eq!(again.messages, records, "a repair keeps what could be read, and makes nothing up");
    let plan = repair::plan(&log, &again, &repair::Options::default()).expect("a plan");
    assert!(plan.is_empty(), "a second repair found {:?}", plan.steps);

    let writer = log.writer().expect("a repaired log can be written");
    let id = writer.append(b"one more", Timestamp::new(1, 1)).expect("a healthy disk");
    let mut cursor = log.cursor_after(RecordId::new(id.segment.0, id.marker.0 - 1));
    cursor.on_damage(OnDamage::Skip);
    let record = cursor.next_record().expect("a healthy disk").expect("what was just appended");
    assert_eq!((record.id, record.payload), (id, &b"one more"[..]));
}

/// A log as a killed process leaves it: what was gathered in the pre_commit is still there.
fn build(input: &Input) -> SimDisk {
    let disk = SimDisk::new(1);
    disk.keep_trace(false);
    let order = if input.big_endian { Order::Big } else { Order::Little };
    let compression =
        [Compression::None, Compression::Null, Compression::Lz4][usize::from(input.compression) % 3];
    let options = CreateOptions::classic().segment_size(200).order(order).compression(compression);
    let log = Log::create_on(Arc::new(disk.clone()), SIM_LOG, &options).expect("a new log");
    log.add_subscriber(&subscriber(), Start::Begin).expect("a new subscriber");

    let buffer = if input.buffered { WriterOptions::new().buffer(300) } else { WriterOptions::new() };
    let writer = log.writer_with(&buffer).expect("a writer");
    for (n, len) in input.messages.iter().take(24).enumerate() {
        let message: Vec<u8> = (0..*len).map(|b| b'a' + (b ^ n as u8) % 26).collect();
        writer.append(&message, Timestamp::new(1_700_000_000, n as u32)).expect("a healthy disk");
    }
    for segment in log.segments().expect("a healthy disk") {
        let _ = log.build_index(segment);
    }
    let (segment, marker) = input.checkpoint;
    let _ = log.set_checkpoint(&subscriber(), RecordId::new(u32::from(segment), u32::from(marker)));
    let copy = copy_of(&disk);
    drop(writer);
    copy
}
