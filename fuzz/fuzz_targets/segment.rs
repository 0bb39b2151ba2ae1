#![no_main]

use std::path::Path;
use std::sync::Arc;

use jlog::io::sim::SimDisk;
use jlog::io::{Disk, File, Open};
use jlog::{Log, OnDamage, inspect};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
    let path = Path::new("/00000000");
    let file = File::open(&*disk, path, Open::Create(0o640)).expect("a new file");
    file.pwrite(bytes, 0).expect("a healthy disk");

    let Ok(log) = Log::open_segment(disk, path, None) else { return };
    let mut cursor = log.cursor().expect("the segment is there");
    cursor.on_damage(OnDamage::Skip);
    let mut records = 0u64;
    while let Some(record) = cursor.next_record().expect("a healthy disk") {
        assert!(record.offset + record.stored_len <= bytes.len() as u64);
        records += 1;
    }
    let seen = inspect::inspect(&log).expect("a healthy disk");
    assert_eq!(seen.messages, records);
});
