//! The classic record header and the small files of a classic log: encode and decode side by side.
//!
//! The layouts are libjlog's; `docs/format-classic.md` describes them. All numbers stand in the log's byte order.

use super::compress::Compression;
use crate::id::{Marker, RecordId, SegmentId, Timestamp};
use crate::order::Order;

/// The first word of a plain record in logs made by libjlog 2.0 or later. Those begun by 1.x carry 0.
pub(crate) const MAGIC_PLAIN: u32 = 0x663A_7318;
/// The first word of a compressed record, plus the number of the compression.
pub(crate) const MAGIC_COMPRESSED: u32 = 0x1510_6A00;

/// Word positions in a record header: magic, seconds, microseconds, length of the message, and, in a compressed
/// record, the length it is stored in.
const SECONDS: usize = 4;
const MICROS: usize = 8;
const LENGTH: usize = 12;
const STORED_LENGTH: usize = 16;
/// The header of a plain record.
pub(crate) const PLAIN_HEADER: usize = 16;
/// The header of a compressed record.
pub(crate) const COMPRESSED_HEADER: usize = 20;

/// How the records of one log are laid out: its byte order and the first word of every record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Codec {
    pub(crate) order: Order,
    pub(crate) magic: u32,
}

/// What a record header says. `stored` is the number of bytes behind the header, `len` the length of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) time: Timestamp,
    pub(crate) len: u32,
    pub(crate) stored: u32,
}

impl Codec {
    pub(crate) fn compression(self) -> Compression {
        Compression::of_magic(self.magic)
    }

    /// Magic 0 proves nothing: zeros are everywhere.
    pub(crate) fn magic_is_weak(self) -> bool {
        self.magic == 0
    }

    /// The length of a record header.
    pub(crate) fn header_len(self) -> usize {
        if self.compression() == Compression::None { PLAIN_HEADER } else { COMPRESSED_HEADER }
    }

    /// The bytes of the magic, as they stand at the start of every record.
    pub(crate) fn magic_bytes(self) -> [u8; 4] {
        let mut bytes = [0; 4];
        self.order.put_u32(&mut bytes, self.magic);
        bytes
    }

    /// Writes a header; returns how many bytes of `out` it took.
    pub(crate) fn encode(self, header: Header, out: &mut [u8; COMPRESSED_HEADER]) -> usize {
        self.order.put_u32(&mut out[0..], self.magic);
        self.order.put_u32(&mut out[SECONDS..], header.time.seconds);
        self.order.put_u32(&mut out[MICROS..], header.time.micros);
        self.order.put_u32(&mut out[LENGTH..], header.len);
        self.order.put_u32(&mut out[STORED_LENGTH..], header.stored);
        self.header_len()
    }

    /// Reads a header, if `bytes` hold a whole one that carries the magic.
    ///
    /// Sixteen zero bytes are no record: they are what a file system leaves where data never arrived. That matters
    /// for logs with magic 0 only.
    pub(crate) fn decode(self, bytes: &[u8]) -> Option<Header> {
        if bytes.len() < self.header_len() || self.order.u32(bytes) != self.magic {
            return None;
        }
        if self.magic_is_weak() && bytes[..PLAIN_HEADER].iter().all(|b| *b == 0) {
            return None;
        }
        Some(self.decode_fields(bytes))
    }

    /// The fields of a header, whatever its magic. `bytes` must hold a whole one.
    pub(crate) fn decode_fields(self, bytes: &[u8]) -> Header {
        let time = Timestamp::new(self.order.u32(&bytes[SECONDS..]), self.order.u32(&bytes[MICROS..]));
        let len = self.order.u32(&bytes[LENGTH..]);
        let stored = if self.compression() == Compression::None {
            len
        } else {
            self.order.u32(&bytes[STORED_LENGTH..])
        };
        Header { time, len, stored }
    }
}

/// How far the log's own state is written to the disk: libjlog's three levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Safety {
    /// Nothing is synced but finished segments.
    Unsafe,
    /// Finished segments, and the names and the metastore when a segment is finished. libjlog's default.
    AlmostSafe,
    /// Every acknowledged append and every checkpoint as well. (libjlog itself does not sync appends at any level.)
    Safe,
}

impl Safety {
    pub(crate) fn of_number(number: u32) -> Option<Safety> {
        [Safety::Unsafe, Safety::AlmostSafe, Safety::Safe].into_iter().find(|s| s.number() == number)
    }

    pub(crate) fn number(self) -> u32 {
        match self {
            Safety::Unsafe => 0,
            Safety::AlmostSafe => 1,
            Safety::Safe => 2,
        }
    }
}

impl std::fmt::Display for Safety {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Safety::Unsafe => "unsafe",
            Safety::AlmostSafe => "almost safe",
            Safety::Safe => "safe",
        })
    }
}

/// The segment size of a log that is made without naming one, and what libjlog replaces a bad one by: 4 MiB.
pub(crate) const DEFAULT_UNIT_LIMIT: u32 = 4 * 1024 * 1024;

const META_ACTIVE: usize = 0;
const META_UNIT_LIMIT: usize = 4;
const META_SAFETY: usize = 8;
const META_MAGIC: usize = 12;
/// A metastore since libjlog 2.0.
pub(crate) const META_LEN: usize = 16;
/// A metastore of libjlog 1.x: no magic, which means magic 0.
pub(crate) const META_LEN_1X: usize = 12;

/// The contents of a classic metastore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metastore {
    /// The active segment (libjlog: storage_log).
    pub active: SegmentId,
    /// The size in bytes at which a segment is finished (libjlog: unit_limit). At least 1.
    pub unit_limit: u32,
    /// How much is synced when.
    pub safety: Safety,
    /// The first word of every record.
    pub magic: u32,
    /// The byte order of the whole log.
    pub order: Order,
    /// The length of the file: 16, or 12 in a log of libjlog 1.x.
    pub len: usize,
}

/// Why a metastore cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadMetastore {
    /// Neither 12 nor 16 bytes.
    Length(usize),
    /// In neither byte order do the fields make sense.
    Fields,
}

impl std::fmt::Display for BadMetastore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BadMetastore::Length(len) => write!(f, "it has {len} bytes; a metastore has 16 (12 before libjlog 2.0)"),
            BadMetastore::Fields => {
                f.write_str("in neither byte order do its fields make sense (segment size above 0, safety 0 to 2, a record magic)")
            }
        }
    }
}

impl Metastore {
    pub(crate) fn codec(&self) -> Codec {
        Codec { order: self.order, magic: self.magic }
    }

    /// The bytes of the file.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; META_LEN];
        self.order.put_u32(&mut bytes[META_ACTIVE..], self.active.0);
        self.order.put_u32(&mut bytes[META_UNIT_LIMIT..], self.unit_limit);
        self.order.put_u32(&mut bytes[META_SAFETY..], self.safety.number());
        self.order.put_u32(&mut bytes[META_MAGIC..], self.magic);
        bytes.truncate(self.len);
        bytes
    }

    /// What the file means in one byte order, if it can mean anything.
    pub(crate) fn decode(bytes: &[u8], order: Order) -> Result<Metastore, BadMetastore> {
        let magic = match bytes.len() {
            META_LEN => order.u32(&bytes[META_MAGIC..]),
            META_LEN_1X => 0,
            len => return Err(BadMetastore::Length(len)),
        };
        let unit_limit = order.u32(&bytes[META_UNIT_LIMIT..]);
        let safety = Safety::of_number(order.u32(&bytes[META_SAFETY..])).ok_or(BadMetastore::Fields)?;
        let known = magic == 0 || magic == MAGIC_PLAIN || Compression::of_magic(magic) != Compression::None;
        if unit_limit == 0 || !known {
            return Err(BadMetastore::Fields);
        }
        let active = SegmentId(order.u32(&bytes[META_ACTIVE..]));
        Ok(Metastore { active, unit_limit, safety, magic, order, len: bytes.len() })
    }

    /// Every meaning the file can have: none, one, or (with magic 0, which reads alike in both orders) two.
    pub(crate) fn candidates(bytes: &[u8]) -> Result<Vec<Metastore>, BadMetastore> {
        let read: Vec<_> = Order::both().into_iter().map(|order| Metastore::decode(bytes, order)).collect();
        let good: Vec<_> = read.iter().filter_map(|meta| meta.ok()).collect();
        match (good.is_empty(), read.first()) {
            (true, Some(Err(reason))) => Err(*reason),
            _ => Ok(good),
        }
    }
}

/// A checkpoint file.
pub(crate) const CHECKPOINT_LEN: usize = 8;

pub(crate) fn encode_checkpoint(id: RecordId, order: Order) -> [u8; CHECKPOINT_LEN] {
    let mut bytes = [0; CHECKPOINT_LEN];
    order.put_u32(&mut bytes, id.segment.0);
    order.put_u32(&mut bytes[4..], id.marker.0);
    bytes
}

/// The checkpoint in the first eight bytes, if there are eight. libjlog ignores what follows them.
pub(crate) fn decode_checkpoint(bytes: &[u8], order: Order) -> Option<RecordId> {
    let bytes = bytes.get(..CHECKPOINT_LEN)?;
    Some(RecordId { segment: SegmentId(order.u32(bytes)), marker: Marker(order.u32(&bytes[4..])) })
}

/// One entry of an index: the offset of a record, or, as the last one, 0 for "the segment is finished and complete here".
pub(crate) const INDEX_ENTRY: usize = 8;

pub(crate) fn encode_index(offsets: &[u64], closed: bool, order: Order) -> Vec<u8> {
    // A segment without records gets no closing entry: eight zero bytes would mean one record at offset 0.
    let entries = offsets.len() + usize::from(closed && !offsets.is_empty());
    let mut bytes = vec![0; entries * INDEX_ENTRY];
    for (entry, offset) in bytes.chunks_exact_mut(INDEX_ENTRY).zip(offsets) {
        order.put_u64(entry, *offset);
    }
    bytes
}

/// The pointer at the start of a pre_commit file.
pub(crate) const PRE_COMMIT_POINTER: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const LITTLE: Codec = Codec { order: Order::Little, magic: MAGIC_PLAIN };

    #[test]
    fn a_header_reads_back_as_it_was_written_in_both_orders_with_and_without_compression() {
        for order in Order::both() {
            for magic in [0, MAGIC_PLAIN, MAGIC_COMPRESSED, MAGIC_COMPRESSED + 1] {
                let codec = Codec { order, magic };
                let stored = if codec.compression() == Compression::None { 5 } else { 77 };
                let header = Header { time: Timestamp::new(7, 9_999_999), len: 5, stored };
                let mut bytes = [0xee; COMPRESSED_HEADER];
                let len = codec.encode(header, &mut bytes);
                assert_eq!(codec.decode(&bytes[..len]), Some(header));
                assert_eq!(codec.decode(&bytes[..len - 1]), None, "a torn header is not a record");
            }
        }
    }

    #[test]
    fn zeros_are_no_record_even_where_the_magic_is_zero() {
        assert_eq!(Codec { order: Order::Little, magic: 0 }.decode(&[0; 20]), None);
        assert_eq!(LITTLE.decode(&[0; 20]), None);
    }

    #[test]
    fn a_metastore_tells_its_own_byte_order() {
        for order in Order::both() {
            let meta = Metastore {
                active: SegmentId(3),
                unit_limit: 1000,
                safety: Safety::AlmostSafe,
                magic: MAGIC_PLAIN,
                order,
                len: META_LEN,
            };
            assert_eq!(Metastore::candidates(&meta.encode()), Ok(vec![meta]));
        }
    }

    #[test]
    fn a_metastore_of_another_length_or_without_sense_is_refused() {
        for len in [0, 1, 8, 11, 13, 15, 17, 20] {
            assert_eq!(Metastore::candidates(&vec![1; len]), Err(BadMetastore::Length(len)));
        }
        assert_eq!(Metastore::candidates(&[0xff; 16]), Err(BadMetastore::Fields));
        assert_eq!(
            Metastore::candidates(&[0; 16]),
            Err(BadMetastore::Fields),
            "a segment size of 0 would loop"
        );
    }

    #[test]
    fn an_index_without_records_has_no_closing_entry() {
        assert!(encode_index(&[], true, Order::Little).is_empty());
        assert_eq!(encode_index(&[0, 116], true, Order::Big).len(), 24);
        assert_eq!(encode_index(&[0], false, Order::Big), [0; 8]);
    }
}
