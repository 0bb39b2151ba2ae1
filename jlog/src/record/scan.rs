//! The walk through a classic segment: from its bytes to its records, its damage and its end.
//!
//! Classic records carry no checksum: a header is its magic, and a length is proved by what stands behind it. So the
//! walk looks one record ahead, and where it does not find a header there, it weighs the evidence:
//!
//! ```text
//!        a          f                   p
//!        |--record--|???????????????????|--record--|--record--   a: a record that looks sound, f: where it ends
//!
//!   the index lists a and another follower     the record at a is damaged             hole a..follower
//!   the length at f leads to a sound record    only the header at f is damaged        hole f..there, one record
//!   a chain from inside a runs over f          the record at a was torn, then more    hole a..chain
//!                                              was appended
//!   f..p are the first bytes of a magic        a record was torn at f, then more      hole f..p, a is doubtful
//!                                              was appended
//!   p - f is too short for a record            the length at a is wrong               hole a..p
//!   a..p, and not a..f, is as long as p is     the length at a is wrong               hole a..p
//!   anything else                              the record at a is kept, as doubtful   hole f..p
//! ```
//!
//! A header inside the payload of another record is therefore not believed while the walk from a sound record leads
//! past it. At the end of the active segment, what is left without any sound record behind it is torn, not damaged.

use std::collections::HashSet;

use super::classic::{COMPRESSED_HEADER, Codec, Header};
use super::compress::Compression;
use super::walk::{BLOCK, Block, Ending, Found, Hole, HoleKind, Listed, Source, Step};
use crate::error::Result;

/// How many offsets a search through one stretch of damage may remember: 16 MiB of them.
const MEMORY: usize = 1 << 20;
/// So many entries of an index in a row may be wrong before it is given up.
const WRONG_ENTRIES: usize = 1024;
/// A chain of this many records is enough where the magic (0) proves nothing.
const WEAK_CHAIN: u32 = 4;

/// A walk through the records of one segment.
#[derive(Debug)]
pub(crate) struct ClassicWalk<S> {
    source: S,
    codec: Codec,
    compression: Compression,
    magic: [u8; 4],
    /// How many bytes of the segment to believe in.
    end: u64,
    sealed: bool,
    /// Where the next step starts, and the marker of the last record (or lost record) before that.
    pos: u64,
    marker: u32,
    /// A hole found while the record before it was judged.
    pending: Option<Hole>,
    /// The block that the walk is in, and the one that a search through damage is in.
    here: Block,
    ahead: Block,
    index: Option<Listed>,
    /// What [`ClassicWalk::chain_to_the_end`] has found.
    last_chain: Option<Option<u64>>,
}

/// What to think of a record whose follower is not there: is it sound, and which hole begins in it or behind it.
struct Judgement {
    keep: Option<Doubt>,
    hole: Option<Hole>,
}

#[derive(PartialEq)]
enum Doubt {
    No,
    Yes,
}

/// Where a chain of records must lead to be believed.
#[derive(Clone, Copy)]
enum Goal {
    /// Over this offset, and to a record behind it.
    Over(u64),
    /// Exactly to the end.
    End,
}

impl<S: Source> ClassicWalk<S> {
    /// A walk from the start of a segment that has `end` bytes. In a `sealed` segment every byte has to belong to a
    /// record; in the active one the end may be torn.
    pub(crate) fn new(source: S, codec: Codec, end: u64, sealed: bool) -> ClassicWalk<S> {
        ClassicWalk {
            source,
            codec,
            compression: codec.compression(),
            magic: codec.magic_bytes(),
            end,
            sealed,
            pos: 0,
            marker: 0,
            pending: None,
            here: Block::default(),
            ahead: Block::default(),
            index: None,
            last_chain: None,
        }
    }

    pub(crate) fn source(&self) -> &S {
        &self.source
    }

    /// How many bytes of the segment it knows of.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    pub(crate) fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// Where the next step starts: the end of the last record, or of the last hole.
    pub(crate) fn position(&self) -> u64 {
        self.pos
    }

    /// The marker of the last record so far.
    pub(crate) fn marker(&self) -> u32 {
        self.marker
    }

    /// Goes on from a place known from an earlier walk: `marker` records end at `pos`.
    pub(crate) fn resume(&mut self, pos: u64, marker: u32) {
        self.pos = pos;
        self.marker = marker;
        self.pending = None;
    }

    /// Takes note of how the segment stands now. What was read ahead is forgotten: a torn end may have been replaced.
    pub(crate) fn refresh(&mut self, end: u64, sealed: bool) {
        self.end = end;
        self.sealed = sealed;
        self.index = None;
        self.last_chain = None;
        self.pending = None;
        self.ahead = Block::default();
        let known = self.pos.saturating_sub(self.here.at);
        self.here.bytes.truncate(usize::try_from(known).unwrap_or(usize::MAX));
    }

    /// The next record, hole, or the end. At the end it stays there until [`ClassicWalk::refresh`].
    pub(crate) fn step(&mut self) -> Result<Step> {
        if let Some(found) = self.quick_step() {
            return Ok(Step::Record(found));
        }
        if let Some(hole) = self.pending.take() {
            return Ok(self.pass(hole));
        }
        let at = self.pos;
        if at >= self.end {
            return Ok(Step::End(Ending::Clean));
        }

        let Some((header, next)) = self.record_at(at)? else {
            return self.step_over_damage(at);
        };
        let judgement = if self.follows(next)? {
            Judgement { keep: Some(Doubt::No), hole: None }
        } else {
            self.judge(at, next)?
        };

        match judgement {
            Judgement { keep: Some(doubt), hole } => {
                self.pos = next;
                self.marker = self.marker.saturating_add(1);
                self.pending = hole.map(|hole| Hole { after: self.marker, ..hole });
                let doubtful = doubt == Doubt::Yes;
                Ok(Step::Record(self.found(at, header, doubtful)))
            }
            Judgement { keep: None, hole: Some(hole) } => Ok(self.pass(hole)),
            Judgement { keep: None, hole: None } => Ok(Step::End(Ending::Torn { from: at })),
        }
    }

    /// The next record, if it and the magic behind it lie in the block at hand: nearly always, and nothing else then
    /// needs to be asked.
    // Inlined: what it returns, copied from callee to caller, takes as long as the work.
    #[inline(always)]
    pub(crate) fn quick_step(&mut self) -> Option<Found> {
        let codec = self.codec;
        if self.pending.is_some() || codec.magic_is_weak() {
            return None;
        }
        let at = usize::try_from(self.pos.checked_sub(self.here.at)?).ok()?;
        let bytes = self.here.bytes.get(at..)?;
        let header = codec.decode(bytes)?;
        let next = codec.header_len() + header.stored as usize;
        if bytes.get(next..next + 4)? != self.magic {
            return None;
        }
        let offset = self.pos;
        self.pos += next as u64;
        self.marker = self.marker.saturating_add(1);
        Some(self.found(offset, header, false))
    }

    /// The record that `marker` now counts.
    fn found(&self, offset: u64, header: Header, doubtful: bool) -> Found {
        let head = self.codec.header_len() as u64;
        Found {
            offset,
            marker: self.marker,
            header,
            doubtful,
            body: offset + head,
            span: head + u64::from(header.stored),
            compression: self.compression,
            kind: super::checked::kind::MESSAGE,
        }
    }

    /// The stored bytes of a record that the walk has found.
    pub(crate) fn stored(&mut self, found: &Found) -> Result<&[u8]> {
        let start = self.codec.header_len();
        let len = start + found.header.stored as usize;
        let bytes = self.here.fill(&self.source, found.offset, len, self.end)?;
        // A file that was cut since the walk saw it gives less: then there is no such record any more.
        Ok(bytes.get(start..len).unwrap_or_default())
    }

    /// As [`ClassicWalk::stored`], of a record that lies in the block at hand.
    pub(crate) fn at_hand(&self, found: &Found) -> &[u8] {
        let body = found.offset + self.codec.header_len() as u64;
        self.here.get(body, found.header.stored as usize).unwrap_or_default()
    }

    fn pass(&mut self, hole: Hole) -> Step {
        self.pos = hole.to;
        self.marker = hole.after.saturating_add(hole.lost.unwrap_or(1));
        Step::Hole(hole)
    }

    /// There is no record at `at`: over to the next one, or to the end.
    fn step_over_damage(&mut self, at: u64) -> Result<Step> {
        let torn_record = self.header_at(at)?.is_some();
        if torn_record && !self.sealed {
            // The last record runs past the end. More may have been appended behind the torn bytes; a payload that
            // happens to hold records does not prove that unless they end exactly where the segment does.
            let inside = at + self.magic.len() as u64;
            let Some(chain) = self.chain_to_the_end(inside)? else {
                return Ok(Step::End(Ending::Torn { from: at }));
            };
            // So it is no write under way; then what is believed is what will be once the segment is sealed.
            let to = self.search(inside)?.unwrap_or(chain);
            let hole = self.hole(at, to, (to == chain).then_some(1), true)?;
            return Ok(self.pass(hole));
        }
        Ok(match self.hole_from(at)? {
            Some(hole) => self.pass(Hole { starts_with_header: torn_record, ..hole }),
            None => Step::End(Ending::Torn { from: at }),
        })
    }

    /// The record at `at` looks sound, but at `next`, where it ends, there is none.
    fn judge(&mut self, at: u64, next: u64) -> Result<Judgement> {
        if let Some(listed) = self.listed_follower(at)? {
            if listed == next {
                return Ok(Judgement { keep: Some(Doubt::No), hole: self.hole_from(next)? });
            }
            if self.believable(listed)? {
                return Ok(Judgement { keep: None, hole: Some(self.hole(at, listed, Some(1), true)?) });
            }
        }
        if let Some(to) = self.length_leads_to(next)? {
            return Ok(Judgement { keep: Some(Doubt::No), hole: Some(self.hole(next, to, Some(1), false)?) });
        }
        // Not only in its message: it may have been torn in its header.
        let inside = at + self.magic.len() as u64;
        if let Some(to) = self.chain(inside, next, Goal::Over(next))? {
            return Ok(Judgement { keep: None, hole: Some(self.hole(at, to, Some(1), true)?) });
        }
        match self.search(next + 1)? {
            Some(to) if self.begins_like_a_header(next, to)? => {
                Ok(Judgement { keep: Some(Doubt::No), hole: Some(self.hole(next, to, Some(1), false)?) })
            }
            Some(to)
                if to - next < self.codec.header_len() as u64 || self.is_one_of_many(at, next, to)? =>
            {
                Ok(Judgement { keep: None, hole: Some(self.hole(at, to, Some(1), true)?) })
            }
            Some(to) => {
                Ok(Judgement { keep: Some(Doubt::Yes), hole: Some(self.hole(next, to, None, false)?) })
            }
            None => {
                let hole = self.hole_to_the_end(next)?;
                let doubt = if hole.is_some() { Doubt::Yes } else { Doubt::No };
                Ok(Judgement { keep: Some(doubt), hole })
            }
        }
    }

    /// Whether `from..to` are the first bytes of a magic, and no more: a record torn there, and then more appended.
    fn begins_like_a_header(&mut self, from: u64, to: u64) -> Result<bool> {
        let magic = self.magic;
        let (bytes, got) = self.probe(from)?;
        let len = usize::try_from(to - from).unwrap_or(usize::MAX);
        Ok(len < magic.len() && len <= got && bytes[..len] == magic[..len])
    }

    /// Whether the record at `at` would be just as long as the sound ones from `to` on if it reached to there, and is not
    /// as it stands, ending at `next`: in a log of equal records it is its length that is damaged, and nothing else.
    fn is_one_of_many(&mut self, at: u64, next: u64, to: u64) -> Result<bool> {
        let len = to - at;
        let first = self.record_at(to)?.map(|(_, end)| end);
        let second = self.record_at(to + len)?.map(|(_, end)| end);
        let equal = first == Some(to + len) && (first == Some(self.end) || second == Some(to + 2 * len));
        Ok(equal && len != next - at)
    }

    /// The hole that begins at `at`, where no record is; `None` if it is the torn end of the active segment.
    fn hole_from(&mut self, at: u64) -> Result<Option<Hole>> {
        if let Some(to) = self.listed_after(at)? {
            return self.hole(at, to, None, false).map(Some);
        }
        if let Some(to) = self.length_leads_to(at)? {
            return self.hole(at, to, Some(1), false).map(Some);
        }
        match self.search(at + 1)? {
            Some(to) => self.hole(at, to, None, false).map(Some),
            None => self.hole_to_the_end(at),
        }
    }

    fn hole_to_the_end(&mut self, at: u64) -> Result<Option<Hole>> {
        if self.sealed { self.hole(at, self.end, None, false).map(Some) } else { Ok(None) }
    }

    /// A hole with the number of lost records, which the index may know better.
    fn hole(&mut self, from: u64, to: u64, lost: Option<u32>, starts_with_header: bool) -> Result<Hole> {
        let before = self.marker + u32::from(from > self.pos);
        let room = (to - from) / self.codec.header_len() as u64;
        let end = self.end;
        let index = self.index()?;
        // The index is right about this place if it lists the record behind the hole, or is complete and it is the last.
        let last = (to == end && index.closed).then_some(index.offsets.len());
        let slot = last.or_else(|| index.offsets.binary_search(&to).ok());
        let counted =
            slot.and_then(|slot| u32::try_from(slot).ok()).and_then(|slot| slot.checked_sub(before));
        let counted = counted.filter(|lost| *lost > 0 && u64::from(*lost) <= room);
        let kind = HoleKind::Bytes;
        Ok(Hole { from, to, lost: counted.or(lost), after: before, starts_with_header, kind, inside: false })
    }

    /// The follower that the index gives the record at `at`, if it lists that.
    fn listed_follower(&mut self, at: u64) -> Result<Option<u64>> {
        let offsets = &self.index()?.offsets;
        Ok(offsets.binary_search(&at).ok().and_then(|slot| offsets.get(slot + 1).copied()))
    }

    /// The first record behind `at` that the index lists and that is really there, if the index lists `at` as well.
    /// One that is wrong too often in a row is no evidence, and is not asked again.
    fn listed_after(&mut self, at: u64) -> Result<Option<u64>> {
        let Ok(slot) = self.index()?.offsets.binary_search(&at) else { return Ok(None) };
        for slot in slot + 1..slot + 1 + WRONG_ENTRIES {
            match self.index()?.offsets.get(slot).copied() {
                Some(offset) if self.believable(offset)? && self.index_fits(slot)? => {
                    return Ok(Some(offset));
                }
                Some(_) => {}
                None => return Ok(None),
            }
        }
        self.index = Some(Listed::default());
        Ok(None)
    }

    /// Whether the record that the index lists at `slot` leads to the next one it lists. An index that is not of this
    /// segment as it is now may still hit one of its records.
    fn index_fits(&mut self, slot: usize) -> Result<bool> {
        let offsets = &self.index()?.offsets;
        let (at, listed) = (offsets.get(slot).copied(), offsets.get(slot + 1).copied());
        let (Some(at), Some(listed)) = (at, listed) else { return Ok(at.is_some()) };
        Ok(self.record_at(at)?.is_some_and(|(_, next)| next == listed))
    }

    /// The index as a sorted list; a damaged one counts as far as it ascends. Read when first needed.
    fn index(&mut self) -> Result<&Listed> {
        if self.index.is_none() {
            let mut listed = self.source.index()?;
            let ascending = listed.offsets.windows(2).take_while(|pair| pair[0] < pair[1]).count() + 1;
            listed.closed &= listed.offsets.len() <= ascending;
            listed.offsets.truncate(ascending);
            self.index = Some(listed);
        }
        Ok(self.index.get_or_insert_default())
    }

    /// If the header at `at` is damaged but its length still leads to a sound record or to the end: there.
    fn length_leads_to(&mut self, at: u64) -> Result<Option<u64>> {
        let len = self.codec.header_len();
        let (bytes, got) = self.probe(at)?;
        if got < len || bytes[..len].iter().all(|b| *b == 0) {
            return Ok(None);
        }
        let next = at + len as u64 + u64::from(self.codec.decode_fields(&bytes).stored);
        Ok(if next == self.end || self.believable(next)? { Some(next) } else { None })
    }

    /// The first offset from `from` on where a record stands that can be believed.
    fn search(&mut self, from: u64) -> Result<Option<u64>> {
        let mut at = from;
        while let Some(hit) = self.next_magic(at, self.end)? {
            if self.believable(hit)? {
                return Ok(Some(hit));
            }
            at = hit + 1;
        }
        Ok(None)
    }

    /// An offset from `from` on where a chain of records starts that ends exactly where the segment does. Found once:
    /// it stays right until the walk has come to it.
    fn chain_to_the_end(&mut self, from: u64) -> Result<Option<u64>> {
        match self.last_chain {
            Some(None) => Ok(None),
            Some(Some(start)) if start >= from => Ok(Some(start)),
            _ => {
                let found = self.chain(from, self.end, Goal::End)?;
                self.last_chain = Some(found);
                Ok(found)
            }
        }
    }

    /// The first offset in `from..to` where a chain of records starts that reaches the goal.
    fn chain(&mut self, from: u64, to: u64, goal: Goal) -> Result<Option<u64>> {
        // Chains merge, and one that has failed fails again: each record is walked once.
        let mut failed = HashSet::new();
        let mut at = from;
        while let Some(hit) = self.next_magic(at, to)? {
            let mut link = hit;
            while failed.len() < MEMORY && failed.insert(link) {
                let Some((_, next)) = self.record_at(link)? else { break };
                match goal {
                    Goal::End if next == self.end => return Ok(Some(hit)),
                    Goal::Over(limit) if next == limit => break,
                    Goal::Over(limit) if next > limit => {
                        if self.follows(next)? {
                            return Ok(Some(hit));
                        }
                        break;
                    }
                    _ => link = next,
                }
            }
            at = hit + 1;
        }
        Ok(None)
    }

    /// Whether a record stands at `at` that has a follower, or ends with the segment.
    fn believable(&mut self, at: u64) -> Result<bool> {
        let mut at = at;
        for _ in 0..if self.codec.magic_is_weak() { WEAK_CHAIN } else { 1 } {
            let Some((header, next)) = self.record_at(at)? else { return Ok(false) };
            if self.codec.magic_is_weak() && (header.time.seconds == 0 || header.time.micros >= 1_000_000) {
                return Ok(false);
            }
            if next == self.end {
                return Ok(true);
            }
            if !self.follows(next)? {
                return Ok(false);
            }
            at = next;
        }
        Ok(true)
    }

    /// Whether what stands at `next` can follow a record: a header, the start of one that the end cuts off, or the end.
    fn follows(&mut self, next: u64) -> Result<bool> {
        let (bytes, got) = self.probe(next)?;
        let magic = self.magic;
        let seen = got.min(magic.len());
        if self.codec.magic_is_weak() && got >= self.codec.header_len() {
            return Ok(self.codec.decode(&bytes[..got]).is_some());
        }
        // Too short for a header in a sealed segment is damage, whatever it begins with.
        Ok(bytes[..seen] == magic[..seen] && (got == 0 || got >= magic.len() || !self.sealed))
    }

    /// The record at `at` and where it ends, if it carries the magic and ends within the segment.
    fn record_at(&mut self, at: u64) -> Result<Option<(Header, u64)>> {
        let Some(header) = self.header_at(at)? else { return Ok(None) };
        let next = at + self.codec.header_len() as u64 + u64::from(header.stored);
        Ok((next <= self.end).then_some((header, next)))
    }

    fn header_at(&mut self, at: u64) -> Result<Option<Header>> {
        let codec = self.codec;
        // The walk goes forward: read a block here, so that what follows costs no system call.
        if at == self.pos {
            return Ok(codec.decode(self.here.fill(&self.source, at, codec.header_len(), self.end)?));
        }
        let (bytes, got) = self.probe(at)?;
        Ok(codec.decode(&bytes[..got]))
    }

    /// Up to a header's bytes at `at`, without moving the blocks.
    fn probe(&mut self, at: u64) -> Result<([u8; COMPRESSED_HEADER], usize)> {
        let mut bytes = [0; COMPRESSED_HEADER];
        let left = self.end.saturating_sub(at);
        let want = usize::try_from(left).unwrap_or(usize::MAX).min(self.codec.header_len());
        if let Some(known) = self.here.get(at, want).or_else(|| self.ahead.get(at, want)) {
            bytes[..want].copy_from_slice(known);
            return Ok((bytes, want));
        }
        let got = self.source.read_at(&mut bytes[..want], at)?;
        Ok((bytes, got))
    }

    /// The first offset in `from..to` where the bytes of the magic stand.
    fn next_magic(&mut self, from: u64, to: u64) -> Result<Option<u64>> {
        let magic = self.magic;
        let mut at = from;
        while at < to {
            // What is left of the block that an earlier call read, or a new one.
            let rest = self.ahead.at + self.ahead.bytes.len() as u64;
            let len = if at >= self.ahead.at && at + (magic.len() as u64) <= rest {
                (rest - at) as usize
            } else {
                BLOCK
            };
            let bytes = self.ahead.fill(&self.source, at, len, self.end)?;
            if let Some(hit) = bytes.windows(magic.len()).position(|word| word == magic) {
                let hit = at + hit as u64;
                return Ok((hit < to).then_some(hit));
            }
            let got = bytes.len() as u64;
            if at + got >= self.end || got < magic.len() as u64 {
                return Ok(None);
            }
            at += got - (magic.len() as u64 - 1);
        }
        Ok(None)
    }
}
