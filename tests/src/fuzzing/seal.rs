//! Makes the checksums of changed bytes hold: a checksum would end most inputs before they reach what is behind it.
//!
//! The layout is `docs/format-checksummed.md`'s, written down here once more.

const SEGMENT_HEADER: usize = 128;
const COMMIT_HEADER: usize = 32;
const RECORD_HEADER: usize = 24;
const SLOT: usize = 512;
const COMMIT_MAGIC: [u8; 4] = [0x6a, 0x63, 2, 0x0a];

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

fn put(bytes: &mut [u8], at: usize, crc: u32) {
    bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
}

/// The checksum of bytes that belong to an offset of a segment of a log.
fn placed(header: &[u8], offset: usize, bytes: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&header[16..36]);
    crc.update(&(offset as u64).to_le_bytes());
    crc.update(bytes);
    crc.finalize()
}

/// A segment: its header, and the commits and records that begin where one is looked for.
pub fn segment(bytes: &mut [u8]) {
    if bytes.len() < SEGMENT_HEADER {
        return;
    }
    let crc = crc32fast::hash(&bytes[..SEGMENT_HEADER - 4]);
    put(bytes, SEGMENT_HEADER - 4, crc);
    let header = bytes[..SEGMENT_HEADER].to_vec();
    let mut at = SEGMENT_HEADER;
    while at + COMMIT_HEADER <= bytes.len() {
        if bytes[at..at + 4] != COMMIT_MAGIC {
            at += 8;
            continue;
        }
        let crc = placed(&header, at, &bytes[at..at + 28]);
        put(bytes, at + 28, crc);
        let records = at + COMMIT_HEADER;
        let end = records.saturating_add(u32_at(bytes, at + 4));
        self::records(bytes, &header, records, end);
        at = if end <= bytes.len() { end.next_multiple_of(8) } else { records };
    }
}

/// The records of a commit, from one offset to another.
pub fn records(bytes: &mut [u8], header: &[u8], from: usize, to: usize) {
    let (mut at, to) = (from, to.min(bytes.len()));
    while at + RECORD_HEADER <= to {
        let payload = at + RECORD_HEADER;
        let end = payload.saturating_add(u32_at(bytes, at));
        if end > to {
            return;
        }
        let crc = crc32fast::hash(&bytes[payload..end]);
        put(bytes, at + 16, crc);
        let crc = placed(header, at, &bytes[at..at + 20]);
        put(bytes, at + 20, crc);
        at = end.next_multiple_of(8);
    }
}

/// An index: the header that it keeps a copy of, and all of it.
pub fn index(bytes: &mut [u8]) {
    if bytes.len() < SEGMENT_HEADER + 4 {
        return;
    }
    let crc = crc32fast::hash(&bytes[..SEGMENT_HEADER - 4]);
    put(bytes, SEGMENT_HEADER - 4, crc);
    let end = bytes.len() - 4;
    let crc = crc32fast::hash(&bytes[..end]);
    put(bytes, end, crc);
}

/// The slots of the small file of this name.
pub fn slots(name: &str, bytes: &mut [u8]) {
    for (number, slot) in bytes.chunks_exact_mut(SLOT).enumerate().filter(|(_, slot)| slot[0] != 0) {
        let mut crc = crc32fast::Hasher::new();
        crc.update(name.as_bytes());
        crc.update(&(number as u64).to_le_bytes());
        crc.update(&slot[..SLOT - 4]);
        put(slot, SLOT - 4, crc.finalize());
    }
}

/// A file of a log, by its name.
pub fn file(name: &str, bytes: &mut [u8]) {
    match name {
        "metastore" | "control" => slots(name, bytes),
        _ if name.starts_with("cp.") => slots(name, bytes),
        _ if name.ends_with(".idx") => index(bytes),
        _ => segment(bytes),
    }
}
