//! The summary of a segment: its notes, in a file of their own, so that opening a spool reads no bodies.
//!
//! ```text
//!   0       8         12    14      16         32        36       40    48      56      64
//!   +-------+---------+-----+-------+----------+---------+--------+-----+-------+-------+-------+-------+-----+
//!   | magic | version | log | whole | identity | segment | marker | end | notes | texts | texts | notes | crc |
//!   +-------+---------+-----+-------+----------+---------+--------+-----+-------+-------+-------+-------+-----+
//! ```
//!
//! It is derived data: never synced, believed when its checksum holds and it names this very segment, made again from
//! the segment otherwise. `marker` and `end` say up to which record, and byte, of the segment it goes: behind that the
//! segment itself is read.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jlog::io::{Disk, File, Open};
use jlog::{LogIdentity, Marker};

use crate::error::Result;
use crate::index::QueueKey;
use crate::note::{Note, Stands, What};
use crate::record::{BodyPlace, Home, LogNo, kind};
use crate::wire::{Taken, put_sized, put_u16, put_u32, put_u64};

const MAGIC: [u8; 8] = *b"spoolsm\n";
const VERSION: u32 = 1;
const HEAD: usize = 64;
const ROW: usize = 64;
/// A larger file is not looked at: reading the segment costs no more.
const MOST: u64 = 256 << 20;

/// Where summaries are.
pub(crate) const DIR: &str = "summaries";

/// What is to be known of the records of a segment, up to one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Summary {
    /// The last record it knows of.
    pub(crate) marker: Marker,
    /// Where that one ends.
    pub(crate) end: u64,
    /// The segment is finished, and this is all of it.
    pub(crate) whole: bool,
    pub(crate) notes: Vec<Note>,
}

/// The file's name: the log's letter, and the segment's number.
pub(crate) fn path(dir: &Path, home: Home) -> PathBuf {
    let letter = match home.log {
        LogNo::Arrivals => 'a',
        LogNo::Survivors => 's',
    };
    dir.join(DIR).join(format!("{letter}{:08x}", home.segment))
}

/// The segment a summary is of, by its name.
pub(crate) fn named(name: &std::ffi::OsStr) -> Option<Home> {
    let (letter, number) = name.to_str()?.split_at_checked(1)?;
    let log = match letter {
        "a" => LogNo::Arrivals,
        "s" => LogNo::Survivors,
        _ => return None,
    };
    Some(Home { log, segment: jlog::SegmentId::from_file_name(number.as_bytes())?.0 })
}

/// Writes a summary: in the kernel when it returns.
pub(crate) fn write(
    disk: &dyn Disk,
    dir: &Path,
    identity: LogIdentity,
    home: Home,
    summary: &Summary,
    mode: u32,
) -> Result<()> {
    let file = File::open(disk, &path(dir, home), Open::Create(mode))?;
    file.truncate(0)?;
    file.pwrite(&encode(identity, home, summary), 0)?;
    Ok(())
}

/// The summary of a segment, if there is one that can be believed.
pub(crate) fn read(
    disk: &dyn Disk,
    dir: &Path,
    identity: LogIdentity,
    home: Home,
) -> Result<Option<Summary>> {
    let Some(file) = File::open_existing(disk, &path(dir, home), Open::Read)? else { return Ok(None) };
    let size = file.size()?;
    if size > MOST {
        return Ok(None);
    }
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
    let got = file.pread_up_to(&mut bytes, 0)?;
    Ok(decode(&bytes[..got], identity, home))
}

pub(crate) fn encode(identity: LogIdentity, home: Home, summary: &Summary) -> Vec<u8> {
    let mut texts = Texts::default();
    let mut rows = Vec::with_capacity(summary.notes.len() * ROW);
    for note in &summary.notes {
        put_row(&mut rows, note, &mut texts);
    }
    let mut out = MAGIC.to_vec();
    put_u32(&mut out, VERSION);
    put_u16(&mut out, home.log as u16);
    put_u16(&mut out, u16::from(summary.whole));
    out.extend_from_slice(&identity.0);
    put_u32(&mut out, home.segment);
    put_u32(&mut out, summary.marker.0);
    put_u64(&mut out, summary.end);
    put_u64(&mut out, summary.notes.len() as u64);
    put_u64(&mut out, texts.bytes.len() as u64);
    debug_assert_eq!(out.len(), HEAD);
    out.extend_from_slice(&texts.bytes);
    out.extend_from_slice(&rows);
    let crc = crc32fast::hash(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

pub(crate) fn decode(bytes: &[u8], identity: LogIdentity, home: Home) -> Option<Summary> {
    let (body, crc) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    if crc32fast::hash(body) != u32::from_le_bytes(crc.try_into().ok()?) {
        return None;
    }
    let mut taken = Taken(body);
    let ours = taken.bytes(8)? == MAGIC && taken.u32()? == VERSION && taken.u16()? == home.log as u16;
    let whole = taken.u16()? != 0;
    let known = taken.bytes(16)? == identity.0 || crate::planted("summary_of_another");
    let ours = ours && known && taken.u32()? == home.segment;
    if !ours {
        return None;
    }
    let marker = Marker(taken.u32()?);
    let end = taken.u64()?;
    let (notes, texts) = (taken.u64()?, usize::try_from(taken.u64()?).ok()?);
    let texts = Texts::decode(taken.bytes(texts)?)?;
    if notes.checked_mul(ROW as u64)? != taken.0.len() as u64 {
        return None;
    }
    let notes = taken.0.chunks_exact(ROW).map(|row| take_row(row, &texts)).collect::<Option<_>>()?;
    Some(Summary { marker, end, whole, notes })
}

/// The queues and names of a summary, each once.
#[derive(Default)]
struct Texts {
    bytes: Vec<u8>,
    known: HashMap<Arc<QueueKey>, u32>,
    count: u32,
}

enum Text {
    Queue(Arc<QueueKey>),
    Name(String),
}

const QUEUE: u16 = 1;
const NAME: u16 = 2;

impl Texts {
    fn queue(&mut self, queue: &Arc<QueueKey>) -> u32 {
        if let Some(number) = self.known.get(queue) {
            return *number;
        }
        put_u16(&mut self.bytes, QUEUE);
        for text in [&queue.domain, &queue.binding, &queue.group] {
            put_sized(&mut self.bytes, text.as_bytes());
        }
        self.known.insert(Arc::clone(queue), self.count);
        self.count += 1;
        self.count - 1
    }

    fn name(&mut self, name: &str) -> u32 {
        put_u16(&mut self.bytes, NAME);
        put_sized(&mut self.bytes, name.as_bytes());
        self.count += 1;
        self.count - 1
    }

    fn decode(bytes: &[u8]) -> Option<Vec<Text>> {
        let mut taken = Taken(bytes);
        let mut texts = Vec::new();
        while !taken.0.is_empty() {
            let sort = taken.u16()?;
            let mut text = || taken.text().map(str::to_owned);
            texts.push(match sort {
                QUEUE => {
                    let key = QueueKey { domain: text()?, binding: text()?, group: text()? };
                    Text::Queue(Arc::new(key))
                }
                NAME => Text::Name(text()?),
                _ => return None,
            });
        }
        Some(texts)
    }
}

const PIECES: u8 = 1;
const GONE: u8 = 2;
const BASED: u8 = 4;
const SURVIVOR: u8 = 8;
const HELD: u8 = 16;

/// The fields of a row, whatever it is of.
#[derive(Default)]
struct Row {
    kind: u8,
    flags: u8,
    priority: u8,
    text: u32,
    id: u64,
    change: u64,
    size: u64,
    body: u64,
    next_attempt: u32,
    attempts: u32,
    base: u32,
}

impl Row {
    fn stand(&mut self, stands: &Stands, texts: &mut Texts) {
        self.priority = stands.priority;
        self.flags |= if stands.held { HELD } else { 0 };
        self.next_attempt = stands.next_attempt;
        self.attempts = stands.attempts;
        self.text = texts.queue(&stands.queue);
    }

    fn stands(&self, texts: &[Text]) -> Option<Stands> {
        let Text::Queue(queue) = texts.get(usize::try_from(self.text).ok()?)? else { return None };
        Some(Stands {
            next_attempt: self.next_attempt,
            attempts: self.attempts,
            priority: self.priority,
            held: self.flags & HELD != 0,
            queue: Arc::clone(queue),
        })
    }

    fn set_base(&mut self, home: Home) {
        self.flags |= BASED | if home.log == LogNo::Survivors { SURVIVOR } else { 0 };
        self.base = home.segment;
    }

    fn home(&self) -> Home {
        let log = if self.flags & SURVIVOR == 0 { LogNo::Arrivals } else { LogNo::Survivors };
        Home { log, segment: self.base }
    }
}

fn put_row(out: &mut Vec<u8>, note: &Note, texts: &mut Texts) {
    let mut row = Row::default();
    match &note.what {
        What::Accept { id, change, place, size, standing } => {
            (row.kind, row.id, row.change, row.size) = (kind::ACCEPT, *id, *change, *size);
            if let BodyPlace::Pieces(body) = place {
                row.flags |= PIECES;
                row.body = *body;
            }
            row.stand(standing, texts);
        }
        What::Chunk { body, at, len } => {
            (row.kind, row.body, row.size, row.next_attempt) = (kind::CHUNK, *body, *at, *len);
        }
        What::Meta { id, change, base, standing } | What::Standing { id, change, base, standing } => {
            let meta = matches!(note.what, What::Meta { .. });
            row.kind = if meta { kind::META } else { kind::STANDING };
            (row.id, row.change) = (*id, *change);
            row.set_base(*base);
            row.stand(standing, texts);
        }
        What::Resource { id, change, base, name, gone } => {
            (row.kind, row.id, row.change) = (kind::RESOURCE, *id, *change);
            if let Some(base) = base {
                row.set_base(*base);
            }
            row.flags |= if *gone { GONE } else { 0 };
            row.text = texts.name(name);
        }
        What::Remove { id, change, home } => {
            (row.kind, row.id, row.change) = (kind::REMOVE, *id, *change);
            row.set_base(*home);
        }
    }
    out.extend_from_slice(&[row.kind, row.flags, row.priority, 0]);
    put_u32(out, row.text);
    for number in [row.id, row.change, row.size, row.body] {
        put_u64(out, number);
    }
    for number in [row.next_attempt, row.attempts, row.base] {
        put_u32(out, number);
    }
    put_u32(out, u32::try_from(note.offset / 8).expect("a segment has at most 4 GiB"));
    put_u32(out, note.span);
    put_u32(out, 0);
}

fn take_row(bytes: &[u8], texts: &[Text]) -> Option<Note> {
    let mut taken = Taken(bytes);
    let head = taken.bytes(4)?;
    let mut row = Row { kind: head[0], flags: head[1], priority: head[2], ..Row::default() };
    row.text = taken.u32()?;
    (row.id, row.change) = (taken.u64()?, taken.u64()?);
    (row.size, row.body) = (taken.u64()?, taken.u64()?);
    (row.next_attempt, row.attempts, row.base) = (taken.u32()?, taken.u32()?, taken.u32()?);
    let offset = u64::from(taken.u32()?) * 8;
    let span = taken.u32()?;
    let (id, change) = (row.id, row.change);
    let what = match row.kind {
        kind::ACCEPT => {
            let pieces = row.flags & PIECES != 0;
            let place = if pieces { BodyPlace::Pieces(row.body) } else { BodyPlace::Inline };
            What::Accept { id, change, place, size: row.size, standing: row.stands(texts)? }
        }
        kind::CHUNK => What::Chunk { body: row.body, at: row.size, len: row.next_attempt },
        kind::META => What::Meta { id, change, base: row.home(), standing: row.stands(texts)? },
        kind::STANDING => What::Standing { id, change, base: row.home(), standing: row.stands(texts)? },
        kind::RESOURCE => {
            let Text::Name(name) = texts.get(usize::try_from(row.text).ok()?)? else { return None };
            let base = (row.flags & BASED != 0).then(|| row.home());
            What::Resource { id, change, base, name: name.clone(), gone: row.flags & GONE != 0 }
        }
        kind::REMOVE => What::Remove { id, change, home: row.home() },
        _ => return None,
    };
    Some(Note { offset, span, what }).filter(Note::is_possible)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> Summary {
        let home = Home { log: LogNo::Survivors, segment: 9 };
        let queue = |domain: &str| {
            Arc::new(QueueKey { domain: domain.into(), binding: "out".into(), group: "g".into() })
        };
        let standing = |n| Stands {
            next_attempt: n,
            attempts: n + 1,
            priority: 3,
            held: n % 3 == 0,
            queue: queue(if n % 2 == 0 { "a.example" } else { "b.example" }),
        };
        let whats = vec![
            What::Accept { id: 1, change: 2, place: BodyPlace::Inline, size: 3, standing: standing(4) },
            What::Accept {
                id: 5,
                change: 6,
                place: BodyPlace::Pieces(7),
                size: 1 << 40,
                standing: standing(9),
            },
            What::Chunk { body: 7, at: 1 << 33, len: 262_144 },
            What::Meta { id: 5, change: 11, base: home, standing: standing(10) },
            What::Standing { id: 5, change: 12, base: home, standing: standing(11) },
            What::Resource { id: 5, change: 13, base: Some(home), name: "dsn".into(), gone: false },
            What::Resource { id: 5, change: 14, base: None, name: "x".into(), gone: true },
            What::Remove { id: 1, change: 15, home },
        ];
        let note = |(n, what)| Note { offset: 128 + 8 * n as u64, span: n as u32, what };
        Summary {
            marker: Marker(8),
            end: 4096,
            whole: true,
            notes: whats.into_iter().enumerate().map(note).collect(),
        }
    }

    #[test]
    fn a_summary_reads_back_and_no_flipped_bit_of_it_is_believed() {
        let (identity, home) = (LogIdentity([7; 16]), Home { log: LogNo::Arrivals, segment: 3 });
        let bytes = encode(identity, home, &summary());
        assert_eq!(decode(&bytes, identity, home), Some(summary()));
        for bit in (0..bytes.len() * 8).step_by(if cfg!(miri) { 61 } else { 1 }) {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&bytes, identity, home), None, "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert_eq!(decode(&bytes[..len], identity, home), None, "{len} bytes");
        }
    }

    #[test]
    fn a_summary_of_another_segment_or_log_is_not_believed() {
        let (identity, home) = (LogIdentity([7; 16]), Home { log: LogNo::Arrivals, segment: 3 });
        let bytes = encode(identity, home, &summary());
        assert_eq!(decode(&bytes, LogIdentity([8; 16]), home), None);
        assert_eq!(decode(&bytes, identity, Home { segment: 4, ..home }), None);
        assert_eq!(decode(&bytes, identity, Home { log: LogNo::Survivors, ..home }), None);
    }

    #[test]
    fn a_summary_is_found_by_its_name() {
        for home in [Home { log: LogNo::Arrivals, segment: 10 }, Home { log: LogNo::Survivors, segment: 0 }] {
            let path = path(Path::new("x"), home);
            assert_eq!(named(path.file_name().expect("a name")), Some(home));
        }
        assert_eq!(named("q00000000".as_ref()), None);
        assert_eq!(named("a0000000".as_ref()), None);
    }
}
