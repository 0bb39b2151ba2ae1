//! Looking at a log whose files may hold anything.

use std::collections::BTreeMap;

use jlog::inspect::buffered;
use jlog::{Compression, Format, Log, OnDamage, RecordId};

use crate::{Passed, Seen};

/// Whatever is delivered stands in its file, in order, and no two records share a byte.
pub fn assert_there(log: &Log, files: &BTreeMap<String, Vec<u8>>, seen: &[Seen]) {
    let header = if log.compression() == Compression::None { 16 } else { 20 };
    let mut end = (RecordId::default(), 0);
    for record in seen {
        let bytes = &files[&record.id.segment.to_string()];
        let (from, to) = (record.offset as usize, (record.offset + record.stored_len) as usize);
        assert!(to <= bytes.len(), "{record:?} ends behind its file");
        assert!(end.0 < record.id, "{record:?} comes after {}", end.0);
        assert!(end.0.segment != record.id.segment || end.1 <= from, "{record:?} begins in another one");
        match log.compression() {
            _ if log.format() == Format::Checksummed => {}
            Compression::None => assert!(bytes[from + header..to] == record.payload),
            Compression::Null => assert!(bytes[from + header..to].starts_with(&record.payload)),
            Compression::Lz4 => {}
        }
        end = (record.id, to);
    }
}

/// Calls everything that looks. Errors are fine; a panic, or no end, is not.
pub fn look_everywhere(log: &Log, seen: &Passed) {
    let _ = (log.metastore(), log.first_id(), log.last_id(), log.cleanable(), log.size(), buffered(log));
    for segment in log.segments().unwrap() {
        let _ = (log.index_details(segment), log.pending_readers(segment));
    }
    for subscriber in log.subscribers().unwrap() {
        let Ok(mut reader) = log.reader(&subscriber) else { continue };
        reader.on_damage(OnDamage::Skip);
        let _ = reader.interval();
        while let Ok(Some(_)) = reader.next_record() {}
        for record in seen.records.iter().step_by(7) {
            let by_id = reader.read(record.id).map(Seen::from);
            assert_eq!(
                by_id.map(|by_id| by_id.payload).ok().as_ref(),
                Some(&record.payload),
                "{}",
                record.id
            );
        }
        let _ = reader.read_bulk(RecordId::new(0, 1), RecordId::new(0, 1000), |_| Ok(()));
    }
}
