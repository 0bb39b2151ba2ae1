//! Sound logs to put a file into, logs on simulated disks, and a whole directory as one input.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use jlog::io::sim::SimDisk;
use jlog::io::{Disk, File, Open};
use jlog::{
    Compression, CreateOptions, Cursor, Format, Log, Order, RecordId, Start, Subscriber, Timestamp,
    WriterOptions,
};

use crate::{Passed, SIM_LOG, at, open_sim, read_within, sim_files};

/// The files of a log, by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// A sound log of three segments, with indexes, and a subscriber that has read two records.
pub struct Base {
    pub files: Files,
    pub records: Vec<(RecordId, Timestamp, Vec<u8>)>,
}

/// The subscriber of these logs.
pub fn subscriber() -> Subscriber {
    Subscriber::new("s").unwrap()
}

/// Sound logs: classic ones in both orders, one of them compressed, then checksummed ones, one of them compressed.
pub fn bases() -> &'static [Base; 5] {
    static BASES: OnceLock<[Base; 5]> = OnceLock::new();
    BASES.get_or_init(|| {
        let classic = |order, compression| {
            CreateOptions::classic().segment_size(250).order(order).compression(compression)
        };
        let checked = |compression| CreateOptions::new().segment_size(500).compression(compression);
        [
            make(&classic(Order::Little, Compression::None)),
            make(&classic(Order::Big, Compression::None)),
            make(&classic(Order::Little, Compression::Lz4)),
            make(&checked(Compression::None)),
            make(&checked(Compression::Lz4)),
        ]
    })
}

/// Those of them that are classic come first.
pub const CLASSIC_BASES: usize = 3;

fn make(options: &CreateOptions) -> Base {
    let disk = SimDisk::new(1);
    let log = Log::create_on(Arc::new(disk.clone()), SIM_LOG, options).unwrap();
    log.add_subscriber(&subscriber(), Start::Begin).unwrap();
    let writer = log.writer_with(&WriterOptions::new()).unwrap();
    for n in 0..11u8 {
        let len = [20, 70, 0, 45, 110][usize::from(n) % 5];
        // Every other one can be compressed.
        let steps = [8, 1][usize::from(n) % 2];
        let message: Vec<u8> = (0..len).map(|b: u8| b'a' + ((b / steps).wrapping_mul(7) ^ n) % 26).collect();
        writer.append(&message, at(u32::from(n))).unwrap();
    }
    writer.close().unwrap();
    if log.format() == Format::Classic {
        for segment in log.segments().unwrap() {
            log.build_index(segment).unwrap();
        }
    }
    log.set_checkpoint(&subscriber(), RecordId::new(0, 2)).unwrap();
    let records = crate::read_all(&log).records;
    assert_eq!((records.len(), log.segments().unwrap().len() > 2), (11, true), "{options:?}");
    let records = records.into_iter().map(|record| (record.id, record.time, record.payload)).collect();
    let mut files = without_kept(sim_files(&disk));
    if let Some(control) = files.get_mut("control") {
        forget_process(control);
    }
    Base { files, records }
}

/// Takes the number of this process out of a control file: the same log is to be made every time.
fn forget_process(control: &mut [u8]) {
    const PID: std::ops::Range<usize> = 48 + 24..48 + 28;
    control.chunks_exact_mut(512).for_each(|slot| slot[PID].fill(0));
    super::seal::slots("control", control);
}

/// Without what repairs and writers keep aside.
pub fn without_kept(mut files: Files) -> Files {
    files.retain(|name, _| !name.contains('/'));
    files
}

/// A disk with these files of a log.
pub fn disk_of(files: &Files) -> SimDisk {
    let disk = SimDisk::new(1);
    disk.keep_trace(false);
    disk.create_dir(Path::new(SIM_LOG), 0o750).unwrap();
    for (name, bytes) in files {
        let file = File::open(&disk, &Path::new(SIM_LOG).join(name), Open::Create(0o640)).unwrap();
        file.pwrite(bytes, 0).unwrap();
    }
    disk
}

/// The files of another disk's log, as they are seen there now: what is open stays behind.
pub fn copy_of(disk: &SimDisk) -> SimDisk {
    disk_of(&without_kept(sim_files(disk)))
}

/// The sizes of a log's files, all together.
pub fn bytes_of(files: &Files) -> usize {
    files.values().map(Vec::len).sum()
}

/// All that a log gives, within as many steps as it has bytes.
pub fn read(log: &Log, bytes: usize) -> Passed {
    let mut cursor = log.cursor().unwrap();
    read_cursor(&mut cursor, bytes)
}

/// All that a cursor gives.
pub fn read_cursor(cursor: &mut Cursor, bytes: usize) -> Passed {
    cursor.see_unsynced(true);
    read_within(cursor, bytes + 100)
}

/// Reads the log of a disk again, as a new process does.
pub fn read_again(disk: &SimDisk, bytes: usize) -> Passed {
    read(&open_sim(disk), bytes)
}

/// Records without the places where they stand: a repair may move them.
pub fn contents(passed: &Passed) -> Vec<(Timestamp, &[u8])> {
    passed.records.iter().map(|record| (record.time, &record.payload[..])).collect()
}

/// Asserts that all of `some` are in `all`, in the same order.
pub fn assert_within<T: PartialEq + std::fmt::Debug>(some: &[T], all: &[T], otherwise: &str) {
    let mut ahead = all.iter();
    for one in some {
        assert!(ahead.any(|other| other == one), "{otherwise}: {one:?} of {some:?} in {all:?}");
    }
}

/// A directory as one input: of each file the length of its name and its name, the length of its bytes (two bytes, least
/// significant first) and its bytes. The first byte of the input says whether checksums are made to hold.
pub fn pack(sealed: bool, files: &Files) -> Vec<u8> {
    let mut out = vec![u8::from(sealed)];
    for (name, bytes) in files {
        out.push(u8::try_from(name.len()).unwrap());
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(&u16::try_from(bytes.len()).unwrap().to_le_bytes());
        out.extend_from_slice(bytes);
    }
    out
}

/// The directory of an input. Names that no file can have are left out.
pub fn unpack(input: &[u8]) -> Files {
    let mut files = Files::new();
    let Some((sealed, mut rest)) = input.split_first() else { return files };
    while let Some((name, behind)) =
        rest.split_first().and_then(|(len, rest)| rest.split_at_checked((*len).into()))
        && let Some((len, behind)) = behind.split_first_chunk()
    {
        let len = usize::from(u16::from_le_bytes(*len)).min(behind.len());
        let (bytes, behind) = behind.split_at(len);
        rest = behind;
        let name = String::from_utf8_lossy(name).into_owned();
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
            continue;
        }
        let mut bytes = bytes.to_vec();
        if sealed & 1 == 1 {
            super::seal::file(&name, &mut bytes);
        }
        files.insert(name, bytes);
    }
    files
}
