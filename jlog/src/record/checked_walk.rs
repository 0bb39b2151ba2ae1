//! The walk through a checksummed segment.
//!
//! A commit is believed when its header's checksum holds, in this place, and its records' do. Where one is not, the
//! question is whether it was ever on the disk:
//!
//! ```text
//!   a later segment exists, or the extent says so        it was: a hole, over to the next commit that proves itself
//!   a later commit knew the disk to reach beyond it      it was: a hole
//!   neither, and a writer is alive                       it is not written yet: the end
//!   neither, and sound commits stand behind it           the end: what was not synced reached the disk in any order
//!   neither, and nothing stands behind it                the end
//!
//!   in a commit that was on the disk, a record's payload alone is damaged     a hole of one record
//!   ... a record's header is                                                  a hole, to the end of the commit
//!   in a commit that need not have been there, anything is                    the end: all of a batch, or nothing
//! ```

use super::checked::{
    ALIGN, Beginning, COMMIT_HEADER, CommitHeader, LogIdentity, Place, RAW_LENGTH, RECORD_HEADER,
    RecordHeader, SEGMENT_HEADER, SegmentHeader, kind, u32_at,
};
use super::classic::Header;
use super::compress::Compression;
use super::walk::{BLOCK, Block, Ending, Extent, Found, Hole, HoleKind, Source, Step};
use crate::error::{Error, ErrorKind, Result};

/// A walk through the records of one segment.
#[derive(Debug)]
pub(crate) struct CheckedWalk<S> {
    source: S,
    log: LogIdentity,
    segment: u32,
    place: Place,
    extent: Extent,
    /// The segment's own header, once it was found to be sound.
    header: Option<SegmentHeader>,
    begun: bool,
    /// Where the next step starts, and the marker of the last record (or lost record) before that.
    pos: u64,
    marker: u32,
    /// The commit that `pos` is in.
    commit: Option<Commit>,
    /// The bytes at hand hold what was verified, up to here.
    verified_to: u64,
    /// The closing commit was passed.
    closed: bool,
    here: Block,
    ahead: Block,
    behind: Option<Behind>,
}

#[derive(Debug, Clone, Copy)]
struct Commit {
    end: u64,
    left: u32,
    closing: bool,
}

/// What stands behind a place where there is no sound commit.
#[derive(Debug, Clone, Copy)]
struct Behind {
    of: u64,
    /// The next commit that proves itself: where it is, and its first marker.
    next: Option<(u64, u32)>,
    /// The end of the last one that does.
    last_end: u64,
    /// Up to where any of them knew the segment to be on the disk.
    durable: u64,
}

/// What a commit's records turned out to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Body {
    /// All sound, and in the block at hand.
    AtHand,
    /// All sound, and too long to be kept at hand: each is verified again when its turn comes.
    Long,
    Damaged,
}

impl<S: Source> CheckedWalk<S> {
    pub(crate) fn new(source: S, log: LogIdentity, segment: u32, extent: Extent) -> CheckedWalk<S> {
        CheckedWalk {
            source,
            log,
            segment,
            place: Place::new(log, segment),
            extent,
            header: None,
            begun: false,
            pos: 0,
            marker: 0,
            commit: None,
            verified_to: 0,
            closed: false,
            here: Block::default(),
            ahead: Block::default(),
            behind: None,
        }
    }

    pub(crate) fn source(&self) -> &S {
        &self.source
    }

    pub(crate) fn extent(&self) -> Extent {
        self.extent
    }

    pub(crate) fn position(&self) -> u64 {
        match self.commit {
            Some(commit) if commit.left == 0 => commit.end,
            _ => self.pos,
        }
    }

    /// Whether the last record of a commit was the last step.
    pub(crate) fn is_between_commits(&self) -> bool {
        self.commit.is_none_or(|commit| commit.left == 0)
    }

    pub(crate) fn marker(&self) -> u32 {
        self.marker
    }

    /// The segment's header, if the walk began at it and it is sound.
    pub(crate) fn header(&self) -> Option<&SegmentHeader> {
        self.header.as_ref()
    }

    /// Whether the walk has passed the commit that closes the segment.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// The end of the last commit behind the walk's end that proves itself, though it does not count.
    pub(crate) fn stray_end(&self) -> Option<u64> {
        self.behind
            .filter(|behind| behind.of == self.pos && behind.next.is_some())
            .map(|behind| behind.last_end)
    }

    /// Goes on from a place where a commit begins.
    pub(crate) fn resume(&mut self, pos: u64, marker: u32) {
        self.begun = pos > 0;
        self.pos = pos;
        self.marker = marker;
        self.commit = None;
        self.verified_to = 0;
        self.closed = false;
    }

    pub(crate) fn refresh(&mut self, extent: Extent) {
        self.extent = extent;
        self.behind = None;
        self.verified_to = 0;
        self.ahead = Block::default();
        let known = self.pos.saturating_sub(self.here.at);
        self.here.bytes.truncate(usize::try_from(known).unwrap_or(usize::MAX));
    }

    // Inlined: what it returns, copied from callee to caller, takes as long as the work.
    #[inline(always)]
    pub(crate) fn quick_step(&mut self) -> Option<Found> {
        loop {
            let commit = self.commit.as_mut()?;
            if commit.left == 0 {
                // The next commit, if it is wholly at hand and holds one record: nearly always.
                if commit.closing {
                    return None;
                }
                let at = commit.end;
                let header = CommitHeader::decode(self.here.get(at, COMMIT_HEADER)?, self.place, at)?;
                let end = at.checked_add(header.span())?;
                let first = header.records == 1 && header.first_marker == self.marker.checked_add(1)?;
                if !first || end > self.extent.end {
                    return None;
                }
                let body = self.here.get(at + COMMIT_HEADER as u64, header.len as usize)?;
                if !is_sound(body, 1, self.place, at + COMMIT_HEADER as u64) {
                    return None;
                }
                self.pos = at + COMMIT_HEADER as u64;
                self.commit = Some(Commit { end, left: 1, closing: header.closing });
                self.verified_to = end;
                continue;
            }
            if self.pos >= self.verified_to {
                return None;
            }
            let bytes = self.here.get(self.pos, RECORD_HEADER)?;
            let kind = bytes[12];
            if !kind::is_delivered(kind) || bytes[13] != 0 {
                return None;
            }
            let len = u32_at(bytes, 0);
            let time = super::checked::time_at(bytes, 4);
            commit.left -= 1;
            self.marker += 1;
            let offset = self.pos;
            let span = super::checked::record_span(u64::from(len));
            self.pos += span;
            return Some(Found {
                offset,
                marker: self.marker,
                header: Header { time, len, stored: len },
                doubtful: false,
                body: offset + RECORD_HEADER as u64,
                span,
                compression: Compression::None,
                kind,
            });
        }
    }

    pub(crate) fn step(&mut self) -> Result<Step> {
        if let Some(found) = self.quick_step() {
            return Ok(Step::Record(found));
        }
        if !self.begun
            && let Some(hole) = self.begin()?
        {
            return Ok(Step::Hole(hole));
        }
        loop {
            match self.commit {
                Some(commit) if commit.left > 0 => return self.record(commit),
                Some(commit) => {
                    self.pos = commit.end;
                    self.closed |= commit.closing;
                    self.commit = None;
                }
                None if self.closed || self.pos >= self.extent.end => return Ok(self.end()),
                None => {
                    if let Some(step) = self.enter()? {
                        return Ok(step);
                    }
                }
            }
        }
    }

    pub(crate) fn stored(&mut self, found: &Found) -> Result<&[u8]> {
        let len = found.header.stored as usize;
        if self.here.get(found.body, len).is_none() {
            // What is read anew has to be verified anew.
            self.verified_to = 0;
        }
        self.here.fill(&self.source, found.body, len, self.extent.end)
    }

    pub(crate) fn at_hand(&self, found: &Found) -> &[u8] {
        self.here.get(found.body, found.header.stored as usize).unwrap_or_default()
    }

    /// Passes the segment's header.
    fn begin(&mut self) -> Result<Option<Hole>> {
        self.begun = true;
        let bytes = self.here.fill(&self.source, 0, SEGMENT_HEADER, self.extent.end)?;
        let (kind, to, lost) = match SegmentHeader::decode(bytes) {
            Beginning::Newer(why) => {
                return Err(Error::new(ErrorKind::Unsupported, "read the segment", why));
            }
            Beginning::Sound(header) if header.log == self.log && header.segment == self.segment => {
                self.header = Some(header);
                self.pos = SEGMENT_HEADER as u64;
                return Ok(None);
            }
            Beginning::Sound(_) => {
                let last = self.extent.last.or(self.proven_behind(0));
                (HoleKind::Foreign, self.extent.end, last)
            }
            Beginning::Damaged => {
                let lost = if self.goes_on_behind_header()? { Some(0) } else { None };
                (HoleKind::Beginning, self.extent.end.min(SEGMENT_HEADER as u64), lost)
            }
        };
        let hole = self.hole(0, to, lost, kind);
        self.pos = to.max(SEGMENT_HEADER as u64);
        self.marker = lost.unwrap_or(0);
        Ok(Some(hole))
    }

    /// Whether something tells how many records there are behind a damaged header: a commit, or another file.
    fn goes_on_behind_header(&mut self) -> Result<bool> {
        let at = SEGMENT_HEADER as u64;
        if self.extent.last.is_some()
            || self.extent.proven >= at
            || (self.extent.sealed && self.extent.end > at)
        {
            return Ok(true);
        }
        let bytes = self.here.fill(&self.source, at, COMMIT_HEADER, self.extent.end)?;
        Ok(CommitHeader::decode(bytes, self.place, at).is_some())
    }

    /// Enters the commit at `pos`, or says what is there instead.
    fn enter(&mut self) -> Result<Option<Step>> {
        let at = self.pos;
        let bytes = self.here.fill(&self.source, at, COMMIT_HEADER, self.extent.end)?;
        let commit =
            CommitHeader::decode(bytes, self.place, at).filter(|commit| self.is_possible(commit, at));
        let Some(commit) = commit else { return self.no_commit(at).map(Some) };

        let end = at + commit.span();
        let body = self.examine(&commit, at + COMMIT_HEADER as u64)?;
        if body == Body::Damaged && !self.was_on_disk(at, end)? {
            return Ok(Some(Step::End(Ending::Torn { from: at })));
        }
        let skipped = commit.first_marker - self.marker - 1;
        if skipped > 0 {
            let hole = self.hole(at, at, Some(skipped), HoleKind::Bytes);
            self.marker += skipped;
            return Ok(Some(Step::Hole(hole)));
        }
        self.verified_to = if body == Body::AtHand { end } else { 0 };
        self.pos = at + COMMIT_HEADER as u64;
        self.commit = Some(Commit { end, left: commit.records, closing: commit.closing });
        Ok(None)
    }

    /// A sound header may still promise what cannot be, if somebody has computed its checksum on purpose.
    fn is_possible(&self, commit: &CommitHeader, at: u64) -> bool {
        let fits = at.checked_add(commit.span()).is_some_and(|end| end <= self.extent.end);
        let room = u64::from(commit.records) * RECORD_HEADER as u64 <= u64::from(commit.len);
        let lost = commit.records > 0 && commit.len as usize >= RECORD_HEADER;
        let aligned = (commit.len as usize).is_multiple_of(ALIGN);
        let counts = commit.first_marker.checked_add(commit.records).is_some();
        fits && (room || lost) && aligned && counts && commit.first_marker > self.marker
    }

    fn examine(&mut self, commit: &CommitHeader, at: u64) -> Result<Body> {
        let len = commit.len as usize;
        if len <= BLOCK {
            let body = self.here.fill(&self.source, at, len, self.extent.end)?;
            let sound = body.len() == len && is_sound(body, commit.records, self.place, at);
            return Ok(if sound { Body::AtHand } else { Body::Damaged });
        }
        let (end, mut pos, mut left) = (at + u64::from(commit.len), at, commit.records);
        while left > 0 {
            let Some((_, span, records)) = self.verified(pos, end, left)? else { return Ok(Body::Damaged) };
            pos += span;
            left -= records;
        }
        Ok(Body::Long)
    }

    /// The record at `pos`, if header and payload are sound: its header, its bytes, and how many records it stands for.
    fn verified(&mut self, pos: u64, end: u64, left: u32) -> Result<Option<(RecordHeader, u64, u32)>> {
        let bytes = self.ahead.fill(&self.source, pos, RECORD_HEADER, end)?;
        let Some(header) = RecordHeader::decode(bytes, self.place, pos) else { return Ok(None) };
        let Some(records) = stands_for(&header, left) else { return Ok(None) };
        let body = pos + RECORD_HEADER as u64;
        if header.span() > end - pos {
            return Ok(None);
        }
        let payload = self.ahead.fill(&self.source, body, header.len as usize, end)?;
        Ok(header.holds(payload).then_some((header, header.span(), records)))
    }

    /// There is no commit at `at`: the end, or a hole.
    fn no_commit(&mut self, at: u64) -> Result<Step> {
        if !self.was_on_disk(at, at + 1)? {
            return self.unwritten(at).map(Step::End);
        }
        let behind = self.behind(at)?;
        // Without a commit behind it, all that is known to have been there is gone. A checkpoint knows of records, not
        // of bytes: then it is all there is.
        let known_end = match self.extent.proven {
            proven if !self.extent.sealed && proven > at => proven,
            _ => self.extent.end,
        };
        let (to, lost) = match behind.next {
            Some((next, first)) => (next, Some(first - self.marker - 1)),
            None => {
                let last = self.extent.last.or(self.proven_behind(at));
                (known_end.max(at + 1), last.map(|last| last.saturating_sub(self.marker)))
            }
        };
        let hole = self.hole(at, to, lost, HoleKind::Bytes);
        self.pos = to;
        self.marker = self.marker.saturating_add(lost.unwrap_or(1));
        Ok(Step::Hole(hole))
    }

    /// The marker of the last record in front of what is proven to have been on the disk, if that reaches beyond `at`.
    fn proven_behind(&self, at: u64) -> Option<u32> {
        (self.extent.proven > at).then_some(self.extent.proven_marker)
    }

    /// How a segment ends at bytes that need not have been on the disk.
    fn unwritten(&mut self, at: u64) -> Result<Ending> {
        let bytes = self.here.fill(&self.source, at, COMMIT_HEADER, self.extent.end)?;
        let half_a_commit = CommitHeader::decode(bytes, self.place, at).is_some();
        // A segment used before still holds what stood in it then: no news.
        let fresh = self.header.is_some_and(|header| !header.recycled);
        let touched = fresh && bytes.iter().any(|byte| *byte != 0);
        let stray = !self.extent.settled && self.behind(at)?.next.is_some();
        Ok(if half_a_commit || touched || stray { Ending::Torn { from: at } } else { Ending::Clean })
    }

    /// Whether the bytes `at..end`, which are not what they should be, were once on the disk: then they are damaged.
    fn was_on_disk(&mut self, at: u64, end: u64) -> Result<bool> {
        if self.extent.sealed || self.extent.proven >= end || self.extent.proven_marker > self.marker {
            return Ok(true);
        }
        if self.extent.settled {
            return Ok(false);
        }
        Ok(self.behind(at)?.durable >= end)
    }

    /// Looks at all that is behind `at`, once.
    fn behind(&mut self, at: u64) -> Result<Behind> {
        if let Some(behind) = self.behind.filter(|behind| behind.of == at) {
            return Ok(behind);
        }
        let mut behind = Behind { of: at, next: None, last_end: at, durable: 0 };
        // Nothing stands so far out that this would overflow; but a neighbour's word may lead there.
        let mut pos = (at | (ALIGN as u64 - 1)).saturating_add(1);
        while let Some(found) = self.search(pos)? {
            let (commit, offset) = found;
            if behind.next.is_none() {
                behind.next = Some((offset, commit.first_marker));
            }
            behind.durable = behind.durable.max(commit.durable.min(offset));
            pos = offset + commit.span();
            behind.last_end = pos;
        }
        self.behind = Some(behind);
        Ok(behind)
    }

    /// The next commit from `pos` on that proves itself.
    fn search(&mut self, mut pos: u64) -> Result<Option<(CommitHeader, u64)>> {
        while pos.saturating_add(COMMIT_HEADER as u64) <= self.extent.end {
            let bytes = self.ahead.fill(&self.source, pos, COMMIT_HEADER, self.extent.end)?;
            if bytes.len() < COMMIT_HEADER {
                // The file was cut meanwhile.
                return Ok(None);
            }
            // To the last place in the block where a whole header stands.
            let from = usize::try_from(pos - self.ahead.at).unwrap_or(usize::MAX);
            let block = self.ahead.bytes.get(from..).unwrap_or_default();
            let places = (block.len() - COMMIT_HEADER) / ALIGN + 1;
            let candidate = (0..places).find(|n| CommitHeader::could_begin(&block[n * ALIGN..]));
            let Some(n) = candidate else {
                pos += (places * ALIGN) as u64;
                continue;
            };
            let offset = pos + (n * ALIGN) as u64;
            let commit = CommitHeader::decode(&block[n * ALIGN..], self.place, offset);
            match commit.filter(|commit| self.is_possible(commit, offset)) {
                Some(commit) => return Ok(Some((commit, offset))),
                None => pos = offset + ALIGN as u64,
            }
        }
        Ok(None)
    }

    /// The record at `pos` in a commit.
    fn record(&mut self, commit: Commit) -> Result<Step> {
        let at = self.pos;
        let lost = |walk: &mut Self, to: u64, records: u32, kind: HoleKind| {
            let hole = walk.hole(at, to, Some(records), kind);
            walk.pos = to;
            walk.marker += records;
            walk.commit = Some(Commit { left: commit.left - records, ..commit });
            Ok(Step::Hole(hole))
        };

        let bytes = self.here.fill(&self.source, at, RECORD_HEADER, commit.end)?;
        let header = RecordHeader::decode(bytes, self.place, at);
        let header = header.filter(|header| header.span() <= commit.end - at);
        let stands = header.and_then(|header| stands_for(&header, commit.left));
        let (Some(header), Some(records)) = (header, stands) else {
            return lost(self, commit.end, commit.left, HoleKind::Bytes);
        };
        match header.kind {
            kind::LOST => return lost(self, at + header.span(), records, HoleKind::Repaired),
            kind::RECLAIMED => return lost(self, at + header.span(), records, HoleKind::Reclaimed),
            _ => {}
        }
        let body = at + RECORD_HEADER as u64;
        let payload = self.here.fill(&self.source, body, header.len as usize, commit.end)?;
        if !header.holds(payload) {
            return lost(self, at + header.span(), 1, HoleKind::Payload);
        }
        let Some((message, skip, compression)) = describe(&header, payload) else {
            return lost(self, at + header.span(), 1, HoleKind::Payload);
        };
        self.pos = at + header.span();
        self.marker += 1;
        self.commit = Some(Commit { left: commit.left - 1, ..commit });
        Ok(Step::Record(Found {
            offset: at,
            marker: self.marker,
            header: message,
            doubtful: false,
            body: body + skip,
            span: header.span(),
            compression,
            kind: header.kind,
        }))
    }

    /// All that is there has been walked. Whoever knows that there was more says so.
    fn end(&mut self) -> Step {
        match self.extent.last.filter(|last| self.extent.sealed && *last > self.marker) {
            Some(last) => {
                let hole = self.hole(self.pos, self.pos, Some(last - self.marker), HoleKind::CutShort);
                self.marker = last;
                Step::Hole(hole)
            }
            None => Step::End(Ending::Clean),
        }
    }

    fn hole(&self, from: u64, to: u64, lost: Option<u32>, kind: HoleKind) -> Hole {
        let inside = self.commit.is_some_and(|commit| commit.left > 0);
        Hole { from, to, lost, after: self.marker, starts_with_header: false, kind, inside }
    }
}

/// How many records of a commit with `left` more to come this one stands for; `None` if that cannot be.
fn stands_for(header: &RecordHeader, left: u32) -> Option<u32> {
    let is_note = matches!(header.kind, kind::LOST | kind::RECLAIMED);
    let records = if is_note { header.time.seconds } else { 1 };
    (1..=left).contains(&records).then_some(records)
}

/// What the record holds, how many bytes of its payload stand in front of that, and how it is compressed.
pub(crate) fn describe(header: &RecordHeader, payload: &[u8]) -> Option<(Header, u64, Compression)> {
    let (time, len) = (header.time, header.len);
    if !header.compressed {
        return Some((Header { time, len, stored: len }, 0, Compression::None));
    }
    let raw = payload.get(..RAW_LENGTH)?;
    let stored = len - RAW_LENGTH as u32;
    Some((Header { time, len: u32_at(raw, 0), stored }, RAW_LENGTH as u64, Compression::Lz4))
}

/// Whether these bytes are so many sound records, and nothing else.
fn is_sound(body: &[u8], records: u32, place: Place, at: u64) -> bool {
    let (mut pos, mut left) = (0usize, records);
    while left > 0 {
        let Some(header) =
            body.get(pos..).and_then(|rest| RecordHeader::decode(rest, place, at + pos as u64))
        else {
            return false;
        };
        let payload = pos + RECORD_HEADER;
        let Some(bytes) = body.get(payload..payload.saturating_add(header.len as usize)) else {
            return false;
        };
        let Some(counts) = stands_for(&header, left).filter(|_| header.holds(bytes)) else { return false };
        left -= counts;
        pos = usize::try_from(pos as u64 + header.span()).unwrap_or(usize::MAX);
    }
    pos <= body.len()
}
