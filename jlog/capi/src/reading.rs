//! What a reader has at hand: the unread records of one segment, in memory, and the walk that goes on behind them.
//!
//! libjlog lends pointers into a mapped segment, and a file that is cut meanwhile kills the process. Here records are
//! copied once, while they are walked and checked, into pages that stay where they are until the next interval is asked
//! for: as long as libjlog's pointers hold.

use std::collections::HashMap;

use jlog_core::{
    Checkpoint, Cursor, ErrorKind, Gap, GapKind, Index, Log, Marker, RecordId, SegmentId, Subscriber,
    Timestamp,
};

use crate::codes::{self, Coded, Failure, Outcome, errno_of};
use crate::read::make_index;

/// A reader's place, and the records it has at hand.
pub(crate) struct Reading {
    log: Log,
    /// Open, so that it is this reader's although the subscriber is removed, as jlogtail does.
    checkpoint: Checkpoint,
    subscriber: Subscriber,
    /// Behind the last record at hand.
    cursor: Cursor,
    /// The segment that `held` lies in; the marker of its first record.
    segment: SegmentId,
    base: u32,
    held: Vec<Held>,
    pages: Pages,
    index: IndexUpkeep,
    /// For records that are not at hand: where random access last was.
    near: Option<Cursor>,
    /// What random access has found of one segment since the last interval: lent as long as what is at hand.
    looked_up: Pages,
    found: HashMap<u32, Held>,
    found_in: SegmentId,
    has_read: bool,
}

/// A record at hand.
#[derive(Clone, Copy)]
pub(crate) struct Held {
    pub(crate) time: Timestamp,
    /// The bytes it takes in the file behind its header, where it is stored compressed.
    pub(crate) stored: u32,
    message: Span,
}

/// What an interval is: see `jlog_ctx_read_interval`.
pub(crate) struct Interval {
    pub(crate) start: RecordId,
    pub(crate) finish: RecordId,
    pub(crate) count: u32,
}

/// So many bytes of messages are at hand at most, and one message: an interval ends there. So many that were looked up are
/// kept where they need not be.
const MOST_BYTES: usize = 64 << 20;
/// And so many records.
const MOST_RECORDS: usize = 1 << 21;

impl Reading {
    pub(crate) fn new(log: Log, subscriber: Subscriber) -> Outcome<Reading> {
        let checkpoint = log.open_checkpoint(&subscriber).code(codes::INVALID_SUBSCRIBER)?;
        let at = checkpoint.get().code(codes::INVALID_SUBSCRIBER)?;
        Ok(Reading {
            cursor: log.cursor_behind(at),
            log,
            checkpoint,
            subscriber,
            segment: at.segment,
            base: at.marker.0.saturating_add(1),
            held: Vec::new(),
            pages: Pages::default(),
            index: IndexUpkeep::default(),
            near: None,
            looked_up: Pages::default(),
            found: HashMap::new(),
            found_in: at.segment,
            has_read: false,
        })
    }

    /// Opens in this process what another one had opened.
    pub(crate) fn open_again(&mut self, log: &Log) -> Outcome<()> {
        self.checkpoint = log.open_checkpoint(&self.subscriber).code(codes::INVALID_SUBSCRIBER)?;
        self.log = log.clone();
        self.let_go();
        Ok(())
    }

    /// Whether anything was read: then the way of reading may not be changed any more.
    pub(crate) fn has_read(&self) -> bool {
        self.has_read
    }

    /// The checkpoint now: another process may have moved it.
    pub(crate) fn checkpoint(&self) -> Outcome<RecordId> {
        self.checkpoint.get().code(codes::INVALID_SUBSCRIBER)
    }

    /// Moves the checkpoint, and removes what nobody wants any more because of it.
    pub(crate) fn move_to(&mut self, to: RecordId) -> Outcome<()> {
        self.checkpoint.force(to).map(drop).code(codes::CHECKPOINT)
    }

    /// What is unread of the next segment that has any of it. What was passed over is told to `note`.
    pub(crate) fn interval(&mut self, active: SegmentId, note: &mut dyn FnMut(String)) -> Outcome<Interval> {
        self.forget_found();
        let mut at = self.checkpoint()?;
        if at.segment > active {
            // A checkpoint of a log that had more segments: nothing, until the writer gets there.
            return Ok(Interval { start: at, finish: at, count: 0 });
        }
        self.go_to(at);
        loop {
            let more = self.load(at, note)?;
            let last = self.last();
            if last > at.marker.0 && !self.held.is_empty() {
                let first = self.base.max(at.marker.0.saturating_add(1));
                let id = |marker| RecordId { segment: self.segment, marker: Marker(marker) };
                return Ok(Interval { start: id(first), finish: id(last), count: last - first + 1 });
            }
            match more {
                More::Later => {
                    // All of this segment is read: what nobody wants of it may go.
                    at = RecordId { segment: self.cursor.segment(), marker: Marker(0) };
                    self.move_to(at)?;
                    self.start(at);
                }
                More::None => {
                    let end = self.settle_beyond(at, note)?;
                    return Ok(Interval { start: at, finish: end, count: 0 });
                }
            }
        }
    }

    /// Takes back what single reads have lent, where it takes much room. For a program that was told that it may.
    pub(crate) fn take_back(&mut self) {
        if self.looked_up.used() >= MOST_BYTES {
            self.forget_found();
        }
    }

    fn forget_found(&mut self) {
        self.looked_up.clear();
        self.found.clear();
    }

    /// A record by its id. The bytes stay where they are until the next interval, or until one of another segment is asked
    /// for that is not at hand.
    #[inline]
    pub(crate) fn look_up(&mut self, id: RecordId) -> Outcome<(Held, &[u8])> {
        self.has_read = true;
        let slot = id.marker.0.checked_sub(self.base).filter(|_| id.segment == self.segment);
        if let Some(held) = slot.and_then(|slot| self.held.get(slot as usize).copied()) {
            return Ok((held, self.pages.at(held.message)));
        }
        let held = self.find(id)?;
        Ok((held, self.looked_up.at(held.message)))
    }

    fn find(&mut self, id: RecordId) -> Outcome<Held> {
        if id.marker == Marker(0) {
            return Err(
                Failure::new(codes::ILLEGAL_LOGID, libc::ENOENT).because("messages are counted from 1")
            );
        }
        if self.found_in != id.segment {
            self.forget_found();
            self.found_in = id.segment;
        }
        if let Some(held) = self.found.get(&id.marker.0) {
            return Ok(*held);
        }
        if let Err(error) = crate::place::segment_size(self.log.path(), id.segment.0) {
            return Err(Failure::of_system(codes::FILE_OPEN, &error));
        }
        let before = RecordId { segment: id.segment, marker: Marker(id.marker.0 - 1) };
        let goes_on = |near: &Cursor| near.last_id() == Some(before);
        let near = self.near.take().filter(goes_on).unwrap_or_else(|| {
            make_index(&self.log, id.segment);
            self.log.cursor_after(before)
        });
        let near = self.near.insert(near);
        let mut passed = None;
        let found = loop {
            match near.next_up_to(id).map(|found| found.filter(|record| record.id == id)) {
                Ok(Some(record)) => {
                    let stored = u32::try_from(record.stored_len).unwrap_or(u32::MAX);
                    let message = self.looked_up.push(record.payload);
                    break Ok(Some(Held { time: record.time, stored, message }));
                }
                Ok(None) => break Ok(None),
                // Ids behind damage are what they were when an interval told of them.
                Err(error) if error.gap_met().is_some_and(|gap| gap.segment == id.segment) => {
                    passed = near.skip_gap().map(|_| error);
                }
                Err(error) => break Err(error),
            }
        };
        match (found, passed) {
            (Ok(Some(held)), _) => {
                self.found.insert(id.marker.0, held);
                Ok(held)
            }
            (Ok(None), None) => Err(self.no_such(id)),
            (Err(error), _) if error.kind() == ErrorKind::Damaged && error.gap_met().is_none() => {
                // The cursor was to start behind the end.
                Err(self.no_such(id))
            }
            (Ok(None), Some(error)) | (Err(error), _) => Err(error).code(codes::FILE_CORRUPT),
        }
    }

    /// Why there is no such record: the id is the one behind the last of a finished segment, or none at all.
    fn no_such(&self, id: RecordId) -> Failure {
        let sealed = self.log.active_segment().is_ok_and(|active| id.segment < active);
        let mut cursor = self.log.cursor_after(RecordId { segment: id.segment, marker: Marker(0) });
        let end = RecordId { segment: id.segment, marker: Marker(u32::MAX) };
        let mut last = 0;
        while let Ok(Some(record)) = cursor.next_up_to(end) {
            last = record.id.marker.0;
        }
        if sealed && id.marker.0 == last.saturating_add(1) {
            return Failure::new(codes::CLOSE_LOGID, 0).because(format!("{id} is the end of its segment"));
        }
        Failure::new(codes::ILLEGAL_LOGID, libc::ENOENT).because(format!("the log has no message {id}"))
    }

    /// Makes sure that what is at hand is of the checkpoint's segment, and goes on from it without a gap.
    fn go_to(&mut self, at: RecordId) {
        let before = self.base.saturating_sub(1);
        let covers = at.segment == self.segment && at.marker.0 >= before && at.marker.0 <= self.last();
        if !covers {
            self.start(at);
            return;
        }
        // What lies behind the checkpoint is not asked for again, or only by its id.
        let read = (at.marker.0 - before) as usize;
        if read == self.held.len() || read > MOST_RECORDS / 2 {
            self.held.drain(..read);
            self.base = at.marker.0.saturating_add(1);
            if self.held.is_empty() {
                self.pages.clear();
            }
        }
    }

    /// Closes what is open of the log's segments, and forgets which records were read. Their bytes stay lent.
    pub(crate) fn let_go(&mut self) {
        self.near = None;
        self.found.clear();
        self.begin_behind(RecordId { segment: self.segment, marker: Marker(self.last()) });
    }

    fn start(&mut self, at: RecordId) {
        self.begin_behind(at);
        self.pages.clear();
    }

    fn begin_behind(&mut self, at: RecordId) {
        self.cursor = self.log.cursor_behind(at);
        self.segment = at.segment;
        self.base = at.marker.0.saturating_add(1);
        self.held.clear();
        self.index.forget();
    }

    /// The marker of the last record at hand, or the one before the first that could be.
    fn last(&self) -> u32 {
        self.base.saturating_sub(1).saturating_add(u32::try_from(self.held.len()).unwrap_or(u32::MAX))
    }

    /// Walks on to the end of the segment, or as far as records follow each other without a gap. Damage in a finished
    /// segment is passed over, once nothing before it is unread: it is told of, and its bytes are kept.
    fn load(&mut self, at: RecordId, note: &mut dyn FnMut(String)) -> Outcome<More> {
        let mut offsets = Vec::new();
        let known = self.last();
        let more = loop {
            if self.pages.used() >= MOST_BYTES || self.held.len() >= MOST_RECORDS {
                break More::None;
            }
            // Behind a gap that was told of before the doubtful record in front of it, markers go on with a jump: what lies
            // there is at hand once that record is read.
            let next = if self.held.is_empty() { u32::MAX } else { self.last().saturating_add(1) };
            let end = RecordId { segment: self.segment, marker: Marker(next) };
            let error = match self.cursor.next_up_to(end) {
                Ok(Some(record)) => {
                    if self.held.is_empty() {
                        self.base = record.id.marker.0;
                    }
                    offsets.push(record.offset);
                    let stored = u32::try_from(record.stored_len).unwrap_or(u32::MAX);
                    let message = self.pages.push(record.payload);
                    self.held.push(Held { time: record.time, stored, message });
                    continue;
                }
                Ok(None) => None,
                Err(error) => Some(error),
            };
            let Some(error) = error else {
                break if self.cursor.segment() > self.segment { More::Later } else { More::None };
            };
            match error.gap_met().cloned() {
                _ if self.last() > at.marker.0 && !self.held.is_empty() => break More::None,
                // The checkpoint lies beyond the end.
                None if error.kind() == ErrorKind::Damaged && self.cursor.last_id().is_none() => {
                    break More::None;
                }
                None => return Err(error).code(codes::FILE_READ),
                Some(gap) => {
                    self.pass(&gap, &error, note)?;
                    self.held.clear();
                    self.pages.clear();
                    self.index.broken = true;
                }
            }
        };
        self.index.extend(&self.log, self.segment, known, &offsets, matches!(more, More::Later));
        Ok(more)
    }

    fn pass(&mut self, gap: &Gap, error: &jlog_core::Error, note: &mut dyn FnMut(String)) -> Outcome<()> {
        let active = self.log.active_segment().code(codes::META_OPEN)?;
        match gap.kind {
            // There are no bytes to keep any more.
            GapKind::Repaired | GapKind::Reclaimed => self.cursor.skip_gap(),
            _ if gap.segment >= active => {
                return Err(Failure::new(codes::FILE_CORRUPT, errno_of(error)).because(error.to_string()));
            }
            _ => self.cursor.quarantine_gap().code(codes::FILE_WRITE)?,
        };
        note(format!("JLOG passed over damage: {error}"));
        Ok(())
    }

    /// A checkpoint beyond the last record of the active segment is moved back to it: what comes next would be skipped.
    fn settle_beyond(&mut self, at: RecordId, note: &mut dyn FnMut(String)) -> Outcome<RecordId> {
        if at.segment != self.segment || at.marker == Marker(0) || self.last() > at.marker.0 {
            return Ok(at);
        }
        // Only where the walk itself has not delivered what the checkpoint names.
        if self.cursor.last_id().is_some_and(|last| last >= at) {
            return Ok(at);
        }
        let end = self.log.last_id().code(codes::FILE_READ)?;
        if end >= at {
            return Ok(at);
        }
        self.move_to(end)?;
        self.start(end);
        note(format!("JLOG checkpoint {at} is beyond the end of the log; it was moved to {end}"));
        Ok(end)
    }
}

/// What lies behind the records at hand.
enum More {
    /// Nothing that could be read now.
    None,
    /// A later segment: this one is finished, and all of it is at hand or read.
    Later,
}

/// Keeps the index of a classic segment as libjlog's readers keep it, who need it.
#[derive(Default)]
struct IndexUpkeep {
    /// The segment's, once something was listed.
    open: Option<Index>,
    closed: bool,
    /// The segment is damaged: its markers here are not what libjlog would number them; or nothing can be written.
    broken: bool,
}

impl IndexUpkeep {
    fn forget(&mut self) {
        *self = IndexUpkeep::default();
    }

    /// Lists what was read. It is a cache: where it cannot be written, reading goes on without.
    fn extend(&mut self, log: &Log, segment: SegmentId, known: u32, offsets: &[u64], close: bool) {
        let nothing_new = offsets.is_empty() && (!close || self.closed);
        if self.broken || nothing_new {
            return;
        }
        if self.open.is_none() {
            self.open = log.open_index(segment).ok();
        }
        let listed = self.open.as_ref().map(|index| index.extend(known, offsets, close));
        let listed = match listed {
            Some(Ok(false)) => log.build_index(segment).is_ok(),
            Some(Ok(true)) => true,
            Some(Err(_)) | None => false,
        };
        self.broken = !listed;
        self.closed = close;
    }
}

/// Bytes that stay where they are until all are forgotten. Their memory is used again: to have it anew from the system costs
/// more than to fill it.
#[derive(Default)]
struct Pages {
    pages: Vec<Vec<u8>>,
    /// The page that is being filled; those behind it are empty.
    filling: usize,
    used: usize,
}

/// Where bytes lie in the pages.
#[derive(Clone, Copy)]
struct Span {
    page: u32,
    from: u32,
    len: u32,
}

const PAGE: usize = 256 << 10;

impl Pages {
    #[inline]
    fn push(&mut self, bytes: &[u8]) -> Span {
        if self.pages.get(self.filling).is_none_or(|page| page.capacity() - page.len() < bytes.len()) {
            self.turn(bytes.len());
        }
        let filled = &mut self.pages[self.filling];
        let from = filled.len();
        // Within its capacity: what lies in the page does not move.
        filled.extend_from_slice(bytes);
        self.used += bytes.len();
        // A page is as long as a message at most, and 32 bits say how long that is.
        Span { page: self.filling as u32, from: from as u32, len: bytes.len() as u32 }
    }

    /// Goes on in a page that has room for so many bytes.
    fn turn(&mut self, room: usize) {
        self.filling = if self.pages.is_empty() { 0 } else { self.filling + 1 };
        match self.pages.get_mut(self.filling) {
            Some(page) if page.capacity() >= room => {}
            Some(page) => *page = Vec::with_capacity(PAGE.max(room)),
            None => self.pages.push(Vec::with_capacity(PAGE.max(room))),
        }
    }

    fn at(&self, span: Span) -> &[u8] {
        let from = span.from as usize;
        self.pages
            .get(span.page as usize)
            .and_then(|page| page.get(from..from + span.len as usize))
            .unwrap_or_default()
    }

    fn used(&self) -> usize {
        self.used
    }

    /// Forgets all. Pages of the usual size are kept for what comes next.
    fn clear(&mut self) {
        for page in &mut self.pages {
            if page.capacity() > PAGE {
                *page = Vec::with_capacity(PAGE);
            }
            page.clear();
        }
        self.filling = 0;
        self.used = 0;
    }
}
