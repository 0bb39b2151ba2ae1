#![no_main]

use std::path::Path;
use std::sync::Arc;

use jlog::io::sim::SimDisk;
use jlog::io::{Disk, File, Open};
use jlog::{
    Compression, CreateOptions, Log, OnDamage, Order, RecordId, Start, Subscriber, Timestamp, WriterOptions,
    inspect, repair,
};
use libfuzzer_sys::arbitrary::Arbitrary;
use libfuzzer_sys::{arbitrary, fuzz_target};

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

fuzz_target!(|input: Input| {
    let dir = Path::new("/log");
    let disk = build(dir, &input);
    for harm in &input.harm {
        inflict(&*disk, dir, harm);
    }

    let Ok(log) = Log::open_on(Arc::clone(&disk), dir) else { return };
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
    let log = Log::open_on(Arc::clone(&disk), dir).expect("a repaired log");
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
});

/// A log as a killed process leaves it: what was gathered in the pre_commit is still there.
fn build(dir: &Path, input: &Input) -> Arc<dyn Disk> {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
    let order = if input.big_endian { Order::Big } else { Order::Little };
    let compression =
        [Compression::None, Compression::Null, Compression::Lz4][usize::from(input.compression) % 3];
    let options = CreateOptions::classic().segment_size(200).order(order).compression(compression);
    let log = Log::create_on(Arc::clone(&disk), dir, &options).expect("a new log");
    let subscriber = Subscriber::new("s").expect("a name");
    log.add_subscriber(&subscriber, Start::Begin).expect("a new subscriber");

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
    let _ = log.set_checkpoint(&subscriber, RecordId::new(u32::from(segment), u32::from(marker)));

    let copy: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
    copy.create_dir(dir, 0o750).expect("a healthy disk");
    for name in disk.names(dir).expect("a healthy disk") {
        let file = File::open(&*disk, &dir.join(&name), Open::Read).expect("a file of the log");
        let mut bytes = vec![0; file.size().expect("a healthy disk") as usize];
        file.pread(&mut bytes, 0).expect("a healthy disk");
        let file = File::open(&*copy, &dir.join(&name), Open::Create(0o640)).expect("a new file");
        file.pwrite(&bytes, 0).expect("a healthy disk");
    }
    drop(writer);
    copy
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
        Kind::CopyTo(to) => {
            let mut bytes = vec![0; (size - at) as usize];
            file.pread(&mut bytes, at).expect("a healthy disk");
            file.pwrite(&bytes, u64::from(*to) % (size + 1))
        }
    }
    .expect("a healthy disk");
}
