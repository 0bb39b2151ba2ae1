//! One segment file by itself, of either format.

use std::path::Path;
use std::sync::Arc;

use jlog::inspect::{FindingKind, inspect};
use jlog::io::sim::SimDisk;
use jlog::io::{File, Open};
use jlog::{Compression, Format, Log, Order};

use super::base::read;
use super::{assert_bounded, seal};

/// A byte that says how (1: checksums are made to hold; 2 and 4: the byte order is given), and the bytes of a segment.
///
/// It opens or is refused. Reading ends, and what it delivers lies in the file, in order; an inspection says the same.
pub fn segment(data: &[u8]) {
    let Some((how, bytes)) = data.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if how & 1 != 0 {
        seal::segment(&mut bytes);
    }
    let order = [None, Some(Order::Little), Some(Order::Big), None][usize::from(how >> 1 & 3)];
    let disk = SimDisk::new(1);
    disk.keep_trace(false);
    let path = Path::new("/00000000");
    File::open(&disk, path, Open::Create(0o640)).unwrap().pwrite(&bytes, 0).unwrap();

    let start = disk.operations();
    let Ok(log) = Log::open_segment(Arc::new(disk.clone()), path, order) else { return };
    let passed = read(&log, bytes.len());
    let (mut end, mut marker) = (0, 0);
    for record in &passed.records {
        assert!(end <= record.offset && marker < record.id.marker.0, "{record:?} behind {end}, {marker}");
        (end, marker) = (record.offset + record.stored_len, record.id.marker.0);
        assert!(end <= bytes.len() as u64, "{record:?}");
        // An LZ4 block does not expand more than 255 times.
        assert!(record.payload.len() as u64 <= 255 * record.stored_len, "{} bytes", record.payload.len());
        if log.format() == Format::Classic && log.compression() == Compression::None {
            assert_eq!(bytes[record.offset as usize + 16..end as usize], record.payload);
        }
    }
    let seen = inspect(&log).unwrap();
    assert_eq!(seen.messages, passed.records.len() as u64);
    assert_eq!(seen.tail, passed.tail);
    // A hole with which nothing is lost is not told of at the start of a segment.
    let told = seen.findings.iter().filter(|finding| {
        matches!(finding.kind, FindingKind::Damage | FindingKind::Repaired) && finding.lost != Some(0)
    });
    let told: Vec<_> = told.map(|finding| (finding.from, finding.to)).collect();
    let mut met: Vec<_> =
        passed.gaps.iter().filter(|gap| gap.lost != Some(0)).map(|gap| (gap.from, gap.to)).collect();
    // Where a hole makes the record before it doubtful, the hole is told of first.
    met.sort_unstable();
    assert_eq!(told, met, "what is found damaged, and the gaps of a reader");
    assert_bounded(&disk, start, bytes.len());
}
