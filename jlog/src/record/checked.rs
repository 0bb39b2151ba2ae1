//! The checksummed format's segment: header, commits, records, as bytes. `docs/format-checksummed.md` draws them.
//!
//! All numbers are little-endian. Every checksum is a CRC-32 that begins with the place the bytes belong to: the
//! identity of the log, the number of the segment, the offset in it. What belongs elsewhere does not pass for what
//! belongs here, however sound it is there.

use crc32fast::Hasher;

use super::compress::{Compression, MAX_MESSAGE};
use crate::id::Timestamp;

/// Which log it is: 16 random bytes, given when it is made.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogIdentity(pub [u8; 16]);

impl std::fmt::Display for LogIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for LogIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// The first bytes of a segment.
pub(crate) const SEGMENT_MAGIC: [u8; 8] = *b"jlogsg\x02\n";
/// The first bytes of a commit.
const COMMIT_MAGIC: [u8; 4] = *b"jc\x02\n";
/// The version of the format that this engine writes.
pub(crate) const VERSION: u16 = 1;

pub(crate) const SEGMENT_HEADER: usize = 128;
pub(crate) const COMMIT_HEADER: usize = 32;
pub(crate) const RECORD_HEADER: usize = 24;
/// Commits and records begin at multiples of this.
pub(crate) const ALIGN: usize = 8;
/// In front of compressed bytes stands the length of what they hold.
pub(crate) const RAW_LENGTH: usize = 4;

/// What a record is: the number in its header.
pub(crate) mod kind {
    /// A message.
    pub(crate) const MESSAGE: u8 = 1;
    /// What repair puts in the place of damage: its seconds say how many records were lost there.
    pub(crate) const LOST: u8 = 2;
    /// What stands in the place of all records of a segment whose space was given back: its seconds say how many.
    pub(crate) const RECLAIMED: u8 = 3;
    /// From here on the numbers are the applications'. Those below are the format's.
    pub(crate) const APPLICATION: u8 = 16;

    /// Whether it is delivered as it comes.
    pub(crate) fn is_delivered(kind: u8) -> bool {
        kind == MESSAGE || kind >= APPLICATION
    }
}

/// What a record is, as its header says: a message, or whatever an application means by one of the numbers that are
/// the applications' own.
///
/// All kinds are delivered, counted and kept alike. A classic log has messages alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(pub(crate) u8);

impl Kind {
    /// A message.
    pub const MESSAGE: Kind = Kind(kind::MESSAGE);

    /// A kind of the application's own, 16 to 255; `None` for the numbers below, which are the format's.
    pub const fn application(number: u8) -> Option<Kind> {
        if number >= kind::APPLICATION { Some(Kind(number)) } else { None }
    }

    /// The number in the record's header.
    pub const fn number(self) -> u8 {
        self.0
    }
}

const COMPRESSED: u8 = 1;

/// This commit ends the segment: what follows lies in the next one.
const CLOSING: u32 = 1;

/// The bytes that a record of so many payload bytes takes.
pub(crate) fn record_span(payload: u64) -> u64 {
    (RECORD_HEADER as u64 + payload).next_multiple_of(ALIGN as u64)
}

/// A segment of a log, as what checksums begin with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place(Seed);

/// The state of a checksum after the log's identity and the segment's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seed(u32);

impl Place {
    pub(crate) fn new(log: LogIdentity, segment: u32) -> Place {
        let mut crc = Hasher::new();
        crc.update(&log.0);
        crc.update(&segment.to_le_bytes());
        Place(Seed(crc.finalize()))
    }

    /// The checksum of bytes that stand at `offset`.
    fn checksum(self, offset: u64, bytes: &[u8]) -> u32 {
        let Seed(seed) = self.0;
        let mut crc = Hasher::new_with_initial(seed);
        crc.update(&offset.to_le_bytes());
        crc.update(bytes);
        crc.finalize()
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

pub(crate) fn time_at(bytes: &[u8], at: usize) -> Timestamp {
    Timestamp { seconds: u32_at(bytes, at), micros: u32_at(bytes, at + 4) }
}

pub(crate) fn put_time(out: &mut [u8], at: usize, time: Timestamp) {
    out[at..at + 4].copy_from_slice(&time.seconds.to_le_bytes());
    out[at + 4..at + 8].copy_from_slice(&time.micros.to_le_bytes());
}

/// What a reader has to know to understand a log, as bits in three words, as ext4 has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Features {
    /// Whoever does not know these can read and write all the same.
    pub(crate) compatible: u16,
    /// Whoever does not know these can read, and must not write.
    pub(crate) read_compatible: u16,
    /// Whoever does not know these must not even read.
    pub(crate) incompatible: u16,
}

/// The features this engine knows: none so far.
const KNOWN: Features = Features { compatible: 0, read_compatible: 0, incompatible: 0 };

impl Features {
    pub(crate) fn at(bytes: &[u8], at: usize) -> Features {
        Features {
            compatible: u16_at(bytes, at),
            read_compatible: u16_at(bytes, at + 2),
            incompatible: u16_at(bytes, at + 4),
        }
    }

    pub(crate) fn put(self, out: &mut [u8], at: usize) {
        let words = [self.compatible, self.read_compatible, self.incompatible];
        for (n, word) in words.into_iter().enumerate() {
            out[at + 2 * n..at + 2 * n + 2].copy_from_slice(&word.to_le_bytes());
        }
    }

    /// Why this engine must not read it, if it must not.
    pub(crate) fn unreadable(self, version: u16) -> Option<String> {
        if version != VERSION {
            return Some(format!(
                "it is of format version {version}, and this engine knows version {VERSION}"
            ));
        }
        let unknown = self.incompatible & !KNOWN.incompatible;
        (unknown != 0)
            .then(|| format!("it uses features this engine does not know (incompatible {unknown:#06x})"))
    }

    /// Why this engine must not write it, if it must not.
    pub(crate) fn unwritable(self) -> Option<String> {
        let unknown = self.read_compatible & !KNOWN.read_compatible;
        (unknown != 0)
            .then(|| format!("it uses features this engine may only read (read-compatible {unknown:#06x})"))
    }
}

/// How a segment begins: enough to understand it without the metastore, and what it knows of those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) log: LogIdentity,
    pub(crate) segment: u32,
    pub(crate) created: Timestamp,
    /// How many records were ever appended to the segments before it, and how many bytes they took.
    pub(crate) records_before: u64,
    pub(crate) bytes_before: u64,
    /// The latest time of any record before it.
    pub(crate) latest_before: Timestamp,
    /// Where the segment before it ended, and the marker of its last record; zeros in the first one.
    pub(crate) previous_end: u64,
    pub(crate) previous_marker: u32,
    /// Its file was another segment before: what no commit has overwritten is that one's.
    pub(crate) recycled: bool,
}

/// What the first bytes of a segment turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Beginning {
    Sound(SegmentHeader),
    /// The checksum does not hold.
    Damaged,
    /// It is sound, and this engine must not read what follows: why.
    Newer(String),
}

impl SegmentHeader {
    /// A header that knows nothing of the segments before it.
    pub(crate) fn new(log: LogIdentity, segment: u32) -> SegmentHeader {
        SegmentHeader {
            log,
            segment,
            created: Timestamp::default(),
            records_before: 0,
            bytes_before: 0,
            latest_before: Timestamp::default(),
            previous_end: 0,
            previous_marker: 0,
            recycled: false,
        }
    }

    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER] {
        let mut out = [0; SEGMENT_HEADER];
        out[..8].copy_from_slice(&SEGMENT_MAGIC);
        out[8..10].copy_from_slice(&VERSION.to_le_bytes());
        KNOWN.put(&mut out, 10);
        out[16..32].copy_from_slice(&self.log.0);
        out[32..36].copy_from_slice(&self.segment.to_le_bytes());
        out[36..40].copy_from_slice(&self.previous_marker.to_le_bytes());
        put_time(&mut out, 40, self.created);
        out[48..56].copy_from_slice(&self.records_before.to_le_bytes());
        out[56..64].copy_from_slice(&self.bytes_before.to_le_bytes());
        put_time(&mut out, 64, self.latest_before);
        out[72..80].copy_from_slice(&self.previous_end.to_le_bytes());
        out[80] = u8::from(self.recycled);
        let crc = crc32fast::hash(&out[..SEGMENT_HEADER - 4]);
        out[SEGMENT_HEADER - 4..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Why a segment that begins with these bytes may be read but not written, if that is so.
    pub(crate) fn unwritable(bytes: &[u8]) -> Option<String> {
        let sound = matches!(SegmentHeader::decode(bytes), Beginning::Sound(_));
        if sound { Features::at(bytes, 10).unwritable() } else { None }
    }

    /// Its checksum begins with no place: a header tells of itself which one it belongs to.
    pub(crate) fn decode(bytes: &[u8]) -> Beginning {
        let Some(bytes) = bytes.get(..SEGMENT_HEADER).filter(|bytes| bytes[..8] == SEGMENT_MAGIC) else {
            return Beginning::Damaged;
        };
        if crc32fast::hash(&bytes[..SEGMENT_HEADER - 4]) != u32_at(bytes, SEGMENT_HEADER - 4) {
            return Beginning::Damaged;
        }
        if let Some(why) = Features::at(bytes, 10).unreadable(u16_at(bytes, 8)) {
            return Beginning::Newer(why);
        }
        Beginning::Sound(SegmentHeader {
            log: LogIdentity(bytes[16..32].try_into().expect("sixteen bytes")),
            segment: u32_at(bytes, 32),
            previous_marker: u32_at(bytes, 36),
            created: time_at(bytes, 40),
            records_before: u64_at(bytes, 48),
            bytes_before: u64_at(bytes, 56),
            latest_before: time_at(bytes, 64),
            previous_end: u64_at(bytes, 72),
            recycled: bytes[80] != 0,
        })
    }
}

/// What stands in front of the records that were written together, and are visible together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CommitHeader {
    /// The bytes behind this header that belong to the commit: a multiple of 8.
    pub(crate) len: u32,
    pub(crate) records: u32,
    /// The marker of its first record, or of the next one if it holds none.
    pub(crate) first_marker: u32,
    /// Up to where the segment was known to be on the disk when this was written.
    pub(crate) durable: u64,
    pub(crate) closing: bool,
}

impl CommitHeader {
    pub(crate) fn encode(&self, place: Place, offset: u64) -> [u8; COMMIT_HEADER] {
        let mut out = [0; COMMIT_HEADER];
        out[..4].copy_from_slice(&COMMIT_MAGIC);
        out[4..8].copy_from_slice(&self.len.to_le_bytes());
        out[8..12].copy_from_slice(&self.records.to_le_bytes());
        out[12..16].copy_from_slice(&self.first_marker.to_le_bytes());
        out[16..24].copy_from_slice(&self.durable.to_le_bytes());
        let flags = if self.closing { CLOSING } else { 0 };
        out[24..28].copy_from_slice(&flags.to_le_bytes());
        let crc = place.checksum(offset, &out[..28]);
        out[28..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// `None` unless these bytes are the header of a commit of this very place.
    pub(crate) fn decode(bytes: &[u8], place: Place, offset: u64) -> Option<CommitHeader> {
        let bytes = bytes.get(..COMMIT_HEADER).filter(|bytes| bytes[..4] == COMMIT_MAGIC)?;
        if place.checksum(offset, &bytes[..28]) != u32_at(bytes, 28) {
            return None;
        }
        Some(CommitHeader {
            len: u32_at(bytes, 4),
            records: u32_at(bytes, 8),
            first_marker: u32_at(bytes, 12),
            durable: u64_at(bytes, 16),
            closing: u32_at(bytes, 24) & CLOSING != 0,
        })
    }

    /// Whether a commit could begin with these bytes: what a search looks for before it computes a checksum.
    pub(crate) fn could_begin(bytes: &[u8]) -> bool {
        bytes.starts_with(&COMMIT_MAGIC)
    }

    /// The bytes of the whole commit.
    pub(crate) fn span(&self) -> u64 {
        COMMIT_HEADER as u64 + u64::from(self.len)
    }
}

/// What stands in front of a record's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    /// The bytes of the payload as it is stored.
    pub(crate) len: u32,
    pub(crate) time: Timestamp,
    pub(crate) kind: u8,
    pub(crate) compressed: bool,
    pub(crate) payload_crc: u32,
}

impl RecordHeader {
    pub(crate) fn encode(&self, place: Place, offset: u64) -> [u8; RECORD_HEADER] {
        let mut out = [0; RECORD_HEADER];
        out[..4].copy_from_slice(&self.len.to_le_bytes());
        put_time(&mut out, 4, self.time);
        out[12] = self.kind;
        out[13] = if self.compressed { COMPRESSED } else { 0 };
        out[16..20].copy_from_slice(&self.payload_crc.to_le_bytes());
        let crc = place.checksum(offset, &out[..20]);
        out[20..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// `None` unless these bytes are the header of a record of this very place.
    pub(crate) fn decode(bytes: &[u8], place: Place, offset: u64) -> Option<RecordHeader> {
        let bytes = bytes.get(..RECORD_HEADER).filter(|bytes| bytes[12] != 0)?;
        if place.checksum(offset, &bytes[..20]) != u32_at(bytes, 20) && !crate::planted("unprotected_length")
        {
            return None;
        }
        Some(RecordHeader {
            len: u32_at(bytes, 0),
            time: time_at(bytes, 4),
            kind: bytes[12],
            compressed: bytes[13] & COMPRESSED != 0,
            payload_crc: u32_at(bytes, 16),
        })
    }

    /// The bytes of the whole record, with what fills it up to the next multiple of 8.
    pub(crate) fn span(&self) -> u64 {
        record_span(u64::from(self.len))
    }

    pub(crate) fn holds(&self, payload: &[u8]) -> bool {
        payload.len() == self.len as usize && crc32fast::hash(payload) == self.payload_crc
    }
}

/// A message as it will be stored: compressed where that makes it shorter.
#[derive(Debug, Default)]
pub(crate) struct Payload {
    compressed: Vec<u8>,
}

impl Payload {
    /// The header of the record, and its payload.
    pub(crate) fn of<'a>(
        &'a mut self,
        message: &'a [u8],
        time: Timestamp,
        kind: u8,
        compression: Compression,
    ) -> (RecordHeader, &'a [u8]) {
        self.compressed.clear();
        let mut stored = message;
        if compression == Compression::Lz4 && message.len() <= MAX_MESSAGE {
            let raw = u32::try_from(message.len()).unwrap_or(u32::MAX);
            self.compressed.extend_from_slice(&raw.to_le_bytes());
            compression.compress(message, &mut self.compressed);
            if self.compressed.len() < message.len() {
                stored = &self.compressed;
            }
        }
        let compressed = !std::ptr::eq(stored, message);
        let len = u32::try_from(stored.len()).expect("a message is at most MAX_MESSAGE bytes, which fits");
        let payload_crc = crc32fast::hash(stored);
        (RecordHeader { len, time, kind, compressed, payload_crc }, stored)
    }

    /// The compressed bytes of the last message, to keep.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.compressed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn log() -> LogIdentity {
        LogIdentity(*b"0123456789abcdef")
    }

    fn header() -> SegmentHeader {
        SegmentHeader {
            log: log(),
            segment: 7,
            created: Timestamp::new(1_700_000_000, 5),
            records_before: 70,
            bytes_before: 7000,
            latest_before: Timestamp::new(1_600_000_000, 1),
            previous_end: 4096,
            previous_marker: 31,
            recycled: true,
        }
    }

    #[test]
    fn a_segment_header_reads_back_and_any_flipped_bit_of_it_is_noticed() {
        let bytes = header().encode();
        assert_eq!(SegmentHeader::decode(&bytes), Beginning::Sound(header()));
        for bit in 0..SEGMENT_HEADER * 8 {
            let mut bytes = bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&bytes), Beginning::Damaged, "bit {bit}");
        }
    }

    #[test]
    fn a_newer_segment_says_why_it_is_not_read() {
        for (at, version) in [(8, true), (14, false)] {
            let mut bytes = header().encode();
            bytes[at] = 2;
            let crc = crc32fast::hash(&bytes[..SEGMENT_HEADER - 4]);
            bytes[SEGMENT_HEADER - 4..].copy_from_slice(&crc.to_le_bytes());
            let Beginning::Newer(why) = SegmentHeader::decode(&bytes) else { panic!("it was read") };
            assert_eq!(why.contains("version 2"), version, "{why}");
        }
    }

    #[test]
    fn headers_of_zeros_are_never_valid() {
        for offset in (0..100_000).step_by(if cfg!(miri) { 997 } else { 1 }) {
            assert_eq!(CommitHeader::decode(&[0; COMMIT_HEADER], Place::new(log(), 7), offset), None);
            assert_eq!(RecordHeader::decode(&[0; RECORD_HEADER], Place::new(log(), 7), offset), None);
        }
    }

    proptest! {
        #[test]
        fn a_commit_header_holds_in_its_own_place_alone(len in any::<u32>(), records in any::<u32>(), first_marker in any::<u32>(), durable in any::<u64>(), closing in any::<bool>(), offset in 0u64..1 << 40, bit in 0usize..COMMIT_HEADER * 8) {
            let commit = CommitHeader { len, records, first_marker, durable, closing };
            let bytes = commit.encode(Place::new(log(), 7), offset);
            prop_assert_eq!(CommitHeader::decode(&bytes, Place::new(log(), 7), offset), Some(commit));
            prop_assert_eq!(CommitHeader::decode(&bytes, Place::new(log(), 7), offset + 8), None);
            prop_assert_eq!(CommitHeader::decode(&bytes, Place::new(log(), 8), offset), None);
            prop_assert_eq!(CommitHeader::decode(&bytes, Place::new(LogIdentity([7; 16]), 7), offset), None);
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(CommitHeader::decode(&flipped, Place::new(log(), 7), offset), None);
        }

        #[test]
        fn a_record_header_holds_in_its_own_place_alone(len in any::<u32>(), seconds in any::<u32>(), micros in any::<u32>(), kind in 1u8.., compressed in any::<bool>(), payload_crc in any::<u32>(), offset in 0u64..1 << 40, bit in 0usize..RECORD_HEADER * 8) {
            let record = RecordHeader { len, time: Timestamp { seconds, micros }, kind, compressed, payload_crc };
            let bytes = record.encode(Place::new(log(), 7), offset);
            prop_assert_eq!(RecordHeader::decode(&bytes, Place::new(log(), 7), offset), Some(record));
            prop_assert_eq!(RecordHeader::decode(&bytes, Place::new(log(), 7), offset + 8), None);
            prop_assert_eq!(RecordHeader::decode(&bytes, Place::new(log(), 8), offset), None);
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(RecordHeader::decode(&flipped, Place::new(log(), 7), offset), None);
        }

        #[test]
        fn what_does_not_shrink_is_stored_as_it_is(message in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut payload = Payload::default();
            let (header, stored) = payload.of(&message, Timestamp::default(), kind::MESSAGE, Compression::Lz4);
            prop_assert!(stored.len() <= message.len());
            prop_assert!(header.holds(stored));
            prop_assert_eq!(header.compressed, stored.len() < message.len());
        }
    }
}
