//! The index of a sealed segment in the checksummed format: where commits begin, by marker and by time.
//!
//! ```text
//!   0                    128            160                                            -4
//!   | the segment's      | footer of    | one entry for about every 4 KiB of the      | crc |
//!   | header, once more  | the segment  | segment: offset, marker, latest time before |     |
//! ```
//!
//! It is derived data: it can be made again from the segment, and is never the reason to believe that a record exists.
//! It does bring back the header of a segment that has lost its own.

use super::checked::{Beginning, SEGMENT_HEADER, SegmentHeader, put_time, time_at, u32_at, u64_at};
use crate::id::Timestamp;

const FOOTER: usize = 32;
const ENTRY: usize = 24;
/// So many bytes of a segment lie between two entries, or one commit.
const STRIDE: u64 = 4096;
/// An index with more entries than this is not consulted: 96 MiB.
const MOST_ENTRIES: usize = 4 << 20;
/// The most bytes an index can have.
pub(crate) const MOST_BYTES: u64 = (SEGMENT_HEADER + FOOTER + MOST_ENTRIES * ENTRY + 4) as u64;

/// A place where a commit begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) offset: u64,
    /// The marker of the last record before it.
    pub(crate) marker: u32,
    /// The latest time of any record of the log before it.
    pub(crate) latest: Timestamp,
}

/// The index of one segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Index {
    pub(crate) header: SegmentHeader,
    pub(crate) end: u64,
    pub(crate) last_marker: u32,
    /// The latest time of any record up to its end.
    pub(crate) latest: Timestamp,
    pub(crate) entries: Vec<Entry>,
}

impl Index {
    /// Of a segment that has no records yet.
    pub(crate) fn new(header: SegmentHeader) -> Index {
        let latest = header.latest_before;
        Index { header, end: SEGMENT_HEADER as u64, last_marker: 0, latest, entries: Vec::new() }
    }

    /// Takes note of a commit that stands at the segment's end: its records' latest time, where it ends, its last marker.
    pub(crate) fn commit(&mut self, latest: Timestamp, end: u64, last_marker: u32) {
        let far = self.entries.last().is_none_or(|last| self.end >= last.offset.saturating_add(STRIDE));
        // Nobody looks for a commit without records.
        if far && last_marker > self.last_marker && self.entries.len() < MOST_ENTRIES {
            let (offset, marker, latest) = (self.end, self.last_marker, self.latest);
            self.entries.push(Entry { offset, marker, latest });
        }
        self.latest = self.latest.max(latest);
        self.end = end;
        self.last_marker = last_marker;
    }

    /// Takes in what another process has noted of the commits from `from` on.
    pub(crate) fn absorb(&mut self, other: &Index, from: u64) {
        for entry in other.entries.iter().filter(|entry| entry.offset >= from) {
            if self.entries.last().is_none_or(|last| entry.offset >= last.offset + STRIDE) {
                self.entries.push(Entry { latest: entry.latest.max(self.latest), ..*entry });
            }
        }
        self.latest = self.latest.max(other.latest);
        self.end = other.end;
        self.last_marker = other.last_marker;
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SEGMENT_HEADER + FOOTER + self.entries.len() * ENTRY + 4);
        out.extend_from_slice(&self.header.encode());
        let mut footer = [0; FOOTER];
        footer[..8].copy_from_slice(&self.end.to_le_bytes());
        footer[8..12].copy_from_slice(&self.last_marker.to_le_bytes());
        put_time(&mut footer, 16, self.latest);
        out.extend_from_slice(&footer);
        for entry in &self.entries {
            let mut bytes = [0; ENTRY];
            bytes[..8].copy_from_slice(&entry.offset.to_le_bytes());
            bytes[8..12].copy_from_slice(&entry.marker.to_le_bytes());
            put_time(&mut bytes, 16, entry.latest);
            out.extend_from_slice(&bytes);
        }
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// `None` unless every byte is as it was written.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Index> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        let rest = body.get(SEGMENT_HEADER + FOOTER..)?;
        if crc32fast::hash(body) != u32::from_le_bytes(*crc) || !rest.len().is_multiple_of(ENTRY) {
            return None;
        }
        let Beginning::Sound(header) = SegmentHeader::decode(body) else { return None };
        let footer = &body[SEGMENT_HEADER..SEGMENT_HEADER + FOOTER];
        let entries = rest.chunks_exact(ENTRY).map(|entry| Entry {
            offset: u64_at(entry, 0),
            marker: u32_at(entry, 8),
            latest: time_at(entry, 16),
        });
        Some(Index {
            header,
            end: u64_at(footer, 0),
            last_marker: u32_at(footer, 8),
            latest: time_at(footer, 16),
            entries: entries.collect(),
        })
    }

    /// The last entry before the record of this marker.
    pub(crate) fn before(&self, marker: u32) -> Option<Entry> {
        let n = self.entries.partition_point(|entry| entry.marker < marker);
        self.entries.get(n.checked_sub(1)?).copied()
    }

    /// The last entry before which every record is earlier than `time`.
    pub(crate) fn before_time(&self, time: Timestamp) -> Option<Entry> {
        let n = self.entries.partition_point(|entry| entry.latest < time);
        self.entries.get(n.checked_sub(1)?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::super::checked::LogIdentity;
    use super::*;

    fn index() -> Index {
        let mut index = Index::new(SegmentHeader {
            log: LogIdentity([1; 16]),
            segment: 3,
            created: Timestamp::default(),
            records_before: 0,
            bytes_before: 0,
            latest_before: Timestamp::new(5, 0),
            previous_end: 0,
            previous_marker: 0,
            recycled: false,
        });
        for n in 1..=100 {
            index.commit(Timestamp::new(10 + n, 0), 128 + u64::from(n) * 1000, n);
        }
        index
    }

    #[test]
    fn it_reads_back_and_any_flipped_byte_of_it_is_noticed() {
        let bytes = index().encode();
        assert_eq!(Index::decode(&bytes), Some(index()));
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x40;
            assert_eq!(Index::decode(&bytes), None, "byte {at}");
        }
        for len in 0..bytes.len() {
            assert_eq!(Index::decode(&bytes[..len]), None, "{len} bytes");
        }
    }

    #[test]
    fn the_entry_before_a_record_never_lies_behind_it() {
        let index = index();
        assert!(index.entries.len() < 30, "one entry for every four KiB");
        for marker in 1..=100 {
            let entry = index.before(marker).expect("the first entry is before all records");
            assert!(entry.marker < marker);
            assert!(entry.offset <= 128 + u64::from(marker - 1) * 1000);
            let by_time =
                index.before_time(Timestamp::new(10 + marker, 0)).expect("the first is early enough");
            assert!(by_time.marker < marker);
        }
    }
}
