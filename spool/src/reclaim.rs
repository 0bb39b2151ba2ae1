//! Giving space back: a finished segment of which little is needed has that copied to the survivors, and goes.
//!
//! Records are copied as they are, change number and all. So it does not matter which of two copies is read, or in what
//! order a copy and a later change are met. The order of writes is:
//!
//! 1. the copies are written, and synced
//! 2. the books point to the copies
//! 3. the segment is given back, durably
//!
//! Broken off before 3, the segment is found to be half moved, and is finished before any other. That is why a removal may
//! be forgotten when the segment of what it removed is gone: no other copy can be left.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use jlog::{Entry, Marker, RecordId, SegmentId, Timestamp};

use crate::books::{Books, NOWHERE, Segment, Spot};
use crate::error::Result;
use crate::id::MessageId;
use crate::load::Report;
use crate::note::{Note, What};
use crate::record::{Home, LogNo, Remove, kind, log_kind};
use crate::store::Store;
use crate::summary::{self, Summary};

/// What was copied is synced and entered after so many bytes, or records.
const BATCH_BYTES: usize = 1 << 20;
const BATCH_RECORDS: usize = 512;
/// With a smaller budget records are looked at one by one: they may be all there is room for.
const SMALL: u64 = 16 << 10;
/// Below this share of garbage in all finished segments nothing is copied.
const GARBAGE: f64 = 0.3;

/// A segment that is being moved: what is left to look at.
#[derive(Debug)]
pub(crate) struct Moving {
    home: Home,
    notes: Vec<Note>,
    next: usize,
}

/// What one step of [`Spool::maintain`](crate::Spool::maintain) did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Maintained {
    /// Bytes of records that were copied.
    pub moved: u64,
    /// Segments that were given back.
    pub freed: u64,
    /// Summaries that were written.
    pub summaries: u64,
    /// There is more to do.
    pub more: bool,
}

/// Notes are looked at so many at a time, with the books in hand.
const LOOKED_AT: usize = 128;

/// What is copied at once.
#[derive(Default)]
struct Batch {
    copies: Vec<Copied>,
    removals: Vec<Remove>,
    bytes: usize,
    /// The note behind the last one that was looked at.
    next: usize,
}

impl Batch {
    /// A removal that has to stay, beside others of the same record.
    fn remove(&mut self, id: u64, change: u64, home: Home) {
        match self.removals.last_mut() {
            Some(last) if last.change == change => last.gone.push((id, home)),
            _ => self.removals.push(Remove { change, gone: vec![(id, home)] }),
        }
        self.bytes += 16;
    }
}

pub(crate) fn encode(removal: &Remove) -> Vec<u8> {
    let mut out = Vec::new();
    removal.encode(&mut out);
    out
}

pub(crate) fn removal_entry(payload: &[u8]) -> Entry<'_> {
    Entry { kind: log_kind(kind::REMOVE), time: Timestamp::default(), payload }
}

/// A record that is needed, read to be copied.
struct Copied {
    note: Note,
    kind: u8,
    time: Timestamp,
    payload: Vec<u8>,
}

impl Store {
    /// Copies at most about `budget` bytes, and gives back what can be.
    pub(crate) fn reclaim(&self, budget: u64) -> Result<Maintained> {
        self.wait_loaded()?;
        let mut moving = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
        let mut done = Maintained { freed: self.free_what_is_done_with()?, ..Maintained::default() };
        // Copies must not eat the room that is kept for removals.
        while done.moved < budget && !self.reserve.is_released() {
            if moving.is_none() {
                let Some(home) = self.choose() else { break };
                self.flights.wait();
                *moving = Some(Moving { home, notes: self.notes_of(home)?, next: 0 });
            }
            let Some(segment) = moving.as_mut() else { break };
            done.moved += self.move_batch(segment, budget - done.moved)?;
            if segment.next == segment.notes.len() {
                let home = segment.home;
                *moving = None;
                self.moved(home);
                done.freed += self.free_what_is_done_with()?;
            }
        }
        done.more = moving.is_some() || self.choose().is_some();
        self.counts.moved_bytes.fetch_add(done.moved, Ordering::Relaxed);
        Ok(done)
    }

    /// All of a segment was looked at. What still needs it could not be read, and it stays.
    fn moved(&self, home: Home) {
        let mut books = self.books();
        books.forget_removals(home);
        let stuck = books.segment(home).is_some_and(|segment| segment.live > 0);
        if stuck {
            books.mark(home, false, true);
        }
        // Else it stays half moved until it is gone: so long, what removes its old copies is needed.
    }

    /// Gives back every finished segment of which nothing is needed.
    fn free_what_is_done_with(&self) -> Result<u64> {
        let active = self.active();
        let find_dead = || -> Vec<Home> {
            let books = self.books();
            let dead = books.segments().filter(|segment| {
                segment.home.segment < active[segment.home.log as usize]
                    && segment.live == 0
                    && books.needed(segment) == 0
            });
            dead.map(|segment| segment.home).collect()
        };
        if find_dead().is_empty() {
            return Ok(0);
        }
        // Somebody may have written into one of them what the books are about to learn of.
        self.flights.wait();
        let dead = find_dead();
        // What made them useless has to be on the disk before they go.
        self.sync()?;
        for log in LogNo::ALL {
            let mut dead: Vec<u32> =
                dead.iter().filter(|home| home.log == log).map(|home| home.segment).collect();
            dead.sort_unstable();
            self.free(log, &dead, active[log as usize])?;
        }
        self.counts.reclaimed_segments.fetch_add(dead.len() as u64, Ordering::Relaxed);
        Ok(dead.len() as u64)
    }

    /// `dead` ascends. `active` is the segment that was written to before it was waited for those under way: all before it are in the
    /// books, or gone.
    fn free(&self, log: LogNo, dead: &[u32], active: u32) -> Result<()> {
        let oldest_needed = {
            let books = self.books();
            let needed = books.segments().filter(|segment| segment.home.log == log);
            needed.map(|segment| segment.home.segment).filter(|n| dead.binary_search(n).is_err()).min()
        };
        let first_kept = oldest_needed.map_or(active, |oldest| oldest.min(active));
        if dead.first().is_some_and(|first| *first < first_kept) {
            self.log(log).drop_before(SegmentId(first_kept))?;
        }
        for segment in dead.iter().copied().filter(|segment| *segment > first_kept) {
            match self.log(log).reclaim(SegmentId(segment)) {
                // It was lost before.
                Err(error) if error.kind() == jlog::ErrorKind::NoSuchRecord => {}
                other => other?,
            }
        }
        for segment in dead {
            let home = Home { log, segment: *segment };
            let _ = self.disk.remove(&summary::path(&self.dir, home));
            self.books().forget_segment(home);
        }
        Ok(())
    }

    /// The segments that are written to.
    pub(crate) fn active(&self) -> [u32; 2] {
        LogNo::ALL.map(|log| {
            let active = self.writer(log).and_then(|writer| Ok(writer.last_id()?));
            active.map_or(0, |id| id.segment.0)
        })
    }

    /// The segment that is best moved next, if any should be.
    fn choose(&self) -> Option<Home> {
        let active = self.active();
        let books = self.books();
        let finished = |segment: &&Segment| segment.home.segment < active[segment.home.log as usize];
        let half =
            books.segments().filter(finished).find(|segment| segment.half_moved && !segment.is_stuck());
        if let Some(half) = half {
            return Some(half.home);
        }
        let (mut total, mut sealed, mut needed) = (0, 0, 0);
        let mut best: Option<(f64, Home)> = None;
        for segment in books.segments() {
            total += segment.end;
            if segment.home.segment >= active[segment.home.log as usize] {
                // Its garbage is not to be had by moving others.
                continue;
            }
            let used = books.needed(segment).min(segment.end);
            (sealed, needed) = (sealed + segment.end, needed + used);
            if segment.is_stuck() || self.ends_soon(segment) {
                continue;
            }
            let used = used as f64 / segment.end.max(1) as f64;
            let age = f64::from(active[segment.home.log as usize] - segment.home.segment);
            let score = (1.0 - used) * age / (1.0 + used);
            if used < self.options().reclaim_below && best.is_none_or(|(known, _)| score > known) {
                best = Some((score, segment.home));
            }
        }
        let size = u64::from(self.options().segment_size);
        if total < 2 * size || ((sealed - needed) as f64) < GARBAGE * sealed as f64 {
            return None;
        }
        best.map(|(_, home)| home)
    }

    /// Whether all messages of an arrivals' segment will soon be gone by themselves: see `max_retention`.
    fn ends_soon(&self, segment: &Segment) -> bool {
        let Some(retention) = self.options().max_retention else { return false };
        let latest = u64::from(self.latest.load(Ordering::Relaxed));
        let born = u64::from(segment.newest);
        let left = (born + retention.as_secs()).saturating_sub(latest);
        segment.home.log == LogNo::Arrivals && born > 0 && left < retention.as_secs() / 8
    }

    /// The notes of a finished segment: from its summary, and of what that does not have from itself, as they were read in.
    fn notes_of(&self, home: Home) -> Result<Vec<Note>> {
        let (mut notes, mut after) = (Vec::new(), Marker(0));
        if let Some(summary) = self.read_summary(home)? {
            if summary.whole {
                return Ok(summary.notes);
            }
            (notes, after) = (summary.notes, summary.marker);
        }
        let end = RecordId { segment: SegmentId(self.active()[home.log as usize]), marker: Marker(0) };
        let mut report = Report::default();
        notes.append(&mut self.scan(home.log, SegmentId(home.segment), after, end, &mut report)?.notes);
        Ok(notes)
    }

    /// Copies some of what is needed of a segment, and returns how many bytes that were.
    fn move_batch(&self, moving: &mut Moving, budget: u64) -> Result<u64> {
        let Batch { copies, removals, bytes, next } = self.next_batch(moving, budget)?;
        if copies.is_empty() && removals.is_empty() {
            moving.next = next;
            return Ok(bytes as u64);
        }
        let encoded: Vec<Vec<u8>> = removals.iter().map(encode).collect();
        let moved = copies.iter().map(|copied| Entry {
            kind: log_kind(copied.kind),
            time: copied.time,
            payload: &copied.payload,
        });
        let removed = encoded.iter().map(|payload| removal_entry(payload));
        let entries: Vec<Entry<'_>> = moved.chain(removed).collect();
        self.books().mark(moving.home, true, false);
        let places = self.writer(LogNo::Survivors)?.append_entries(&entries, jlog::Durability::Sync)?;

        // Nobody changes or removes a message while the books learn where its copies are.
        let turns = self.take_all_turns();
        let mut books = self.books();
        let mut gone = Remove { change: 0, gone: Vec::new() };
        for (copied, place) in copies.iter().zip(&places) {
            let (to, _) = self.book_in(&mut books, LogNo::Survivors, place)?;
            let Some(from) = spot_in(&books, moving.home, copied.note.offset) else { continue };
            enter_move(&mut books, copied, from, to);
            if let (What::Accept { id, .. }, Some(home)) = (&copied.note.what, books.home(to))
                && books.find(*id).is_none()
            {
                gone.gone.push((*id, home));
            }
        }
        for (removal, place) in removals.iter().zip(&places[copies.len()..]) {
            let (to, _) = self.book_in(&mut books, LogNo::Survivors, place)?;
            books.note_removals(to, removal);
        }
        drop(books);
        if !gone.gone.is_empty() {
            // They were removed while they were copied: what was written of that names the segment they are copied from.
            gone.change = self.next_change();
            self.remove_copies(&gone)?;
        }
        drop(turns);
        moving.next = next;
        Ok(bytes as u64)
    }

    fn remove_copies(&self, gone: &Remove) -> Result<()> {
        let payload = encode(gone);
        let writer = self.writer(LogNo::Survivors)?;
        let places = writer.append_entries(&[removal_entry(&payload)], jlog::Durability::Process)?;
        let mut books = self.books();
        for place in &places {
            let (to, _) = self.book_in(&mut books, LogNo::Survivors, place)?;
            books.note_removals(to, gone);
        }
        Ok(())
    }

    /// What is needed of the next notes: read, or, of removals, put together.
    fn next_batch(&self, moving: &Moving, budget: u64) -> Result<Batch> {
        let at_most = usize::try_from(budget).unwrap_or(usize::MAX).min(BATCH_BYTES);
        let mut batch = Batch { next: moving.next, ..Batch::default() };
        while batch.next < moving.notes.len() && batch.bytes < at_most && batch.copies.len() < BATCH_RECORDS {
            let from = batch.next;
            let to = moving.notes.len().min(from + if budget < SMALL { 1 } else { LOOKED_AT });
            batch.next = to;
            let mut needed = Vec::new();
            {
                let books = self.books();
                for note in &moving.notes[from..to] {
                    match note.what {
                        What::Remove { .. } if crate::planted("removal_forgotten") => {}
                        What::Remove { id, change, home } if books.is_removal_needed(moving.home, home) => {
                            batch.remove(id, change, home);
                        }
                        _ if is_needed(&books, moving.home, note) => needed.push(note),
                        _ => {}
                    }
                }
            }
            for note in needed {
                if let Some(copied) = self.read_to_copy(moving.home, note)? {
                    batch.bytes += copied.payload.len();
                    batch.copies.push(copied);
                }
            }
        }
        Ok(batch)
    }

    /// A record, to be written again as it is. One that is damaged is left where it is, and so is its segment.
    fn read_to_copy(&self, home: Home, note: &Note) -> Result<Option<Copied>> {
        let mut payload = Vec::new();
        let log = self.log(home.log);
        match log.read_at(SegmentId(home.segment), note.offset, note.span as usize, &mut payload) {
            Ok((kind, time)) => Ok(Some(Copied { note: note.clone(), kind: kind.number(), time, payload })),
            Err(error)
                if matches!(error.kind(), jlog::ErrorKind::Damaged | jlog::ErrorKind::NoSuchRecord) =>
            {
                if let What::Accept { id, .. } | What::Meta { id, .. } | What::Standing { id, .. } = note.what
                {
                    // Whoever asks for the message meets the damage: it is set aside now already.
                    let _ = self.fetch(MessageId::from_u64(id));
                }
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Writes summaries of finished segments that have none, but for the newest ones, which may be gone before one is
    /// needed; at the end, `all` of them.
    pub(crate) fn summarize(&self, all: bool) -> Result<u64> {
        self.wait_loaded()?;
        let active = self.active();
        let wanted: Vec<Home> = {
            let books = self.books();
            let wanted = books.segments().filter(|segment| {
                let newest = active[segment.home.log as usize];
                let behind = newest.saturating_sub(segment.home.segment);
                !segment.summarized && if all { true } else { behind > 2 }
            });
            wanted.map(|segment| segment.home).collect()
        };
        let mut written = 0;
        for home in &wanted {
            written += u64::from(self.summarize_one(*home, active[home.log as usize])?);
        }
        Ok(written)
    }

    fn summarize_one(&self, home: Home, active: u32) -> Result<bool> {
        let segment = SegmentId(home.segment);
        let mut end = RecordId { segment: SegmentId(active), marker: Marker(u32::MAX) };
        if home.segment >= active {
            // What others are writing now may never reach the disk: its places would be used again.
            end = self.writer(home.log)?.durable_id();
        }
        let mut report = Report::default();
        let mut summary = self.scan(home.log, segment, Marker(0), end, &mut report)?;
        // Nor is a summary written over one that knows of records which the segment has lost.
        let is_less =
            |known: Option<Summary>| known.is_some_and(|known| !summary.notes.starts_with(&known.notes));
        if !report.findings.is_empty() || is_less(self.read_summary(home)?) {
            // Damage is to be found again, and told of, when the spool is opened next. Until then it is not looked for.
            if let Some(known) = self.books().segment_mut(home) {
                known.summarized = true;
            }
            return Ok(false);
        }
        summary.whole = home.segment < active;
        summary::write(&*self.disk, &self.dir, self.identity(home.log), home, &summary, self.options().mode)?;
        if let Some(known) = self.books().segment_mut(home) {
            known.summarized = summary.whole;
        }
        Ok(true)
    }
}

/// Whether a record is the one that the books name.
fn is_needed(books: &Books, home: Home, note: &Note) -> bool {
    let Some(spot) = spot_in(books, home, note.offset) else { return false };
    match &note.what {
        What::Accept { id, .. } => books.find(*id).is_some_and(|slot| books.base(slot) == spot),
        What::Meta { id, .. } => books.find(*id).is_some_and(|slot| books.meta(slot) == spot),
        What::Standing { id, .. } => books.find(*id).is_some_and(|slot| books.standing(slot) == spot),
        What::Chunk { body, .. } => {
            let pieces = books.bodies.get(body);
            pieces.is_some_and(|body| body.pieces.iter().any(|piece| piece.spot == spot))
        }
        What::Resource { id, .. } => {
            let held = books.resources.get(id);
            held.is_some_and(|held| held.iter().any(|resource| resource.spot == spot))
        }
        What::Remove { .. } => false,
    }
}

fn spot_in(books: &Books, home: Home, offset: u64) -> Option<Spot> {
    let at = u32::try_from(offset / 8).ok()?;
    Some(Spot { segment: books.slot_of(home)?, at })
}

/// The books point to the copy, if they still point to what was copied.
fn enter_move(books: &mut Books, copied: &Copied, from: Spot, to: Spot) {
    debug_assert!(from != NOWHERE);
    let span = u64::from(copied.note.span);
    match &copied.note.what {
        What::Accept { id, .. } => {
            if let Some(slot) = books.find(*id).filter(|slot| books.base(*slot) == from) {
                books.move_base(slot, to);
            }
        }
        What::Meta { id, .. } => {
            if let Some(slot) = books.find(*id).filter(|slot| books.meta(*slot) == from) {
                books.set_meta(slot, to, span, true);
            }
        }
        What::Standing { id, .. } => {
            if let Some(slot) = books.find(*id).filter(|slot| books.standing(*slot) == from) {
                books.set_standing(slot, to, span);
            }
        }
        What::Chunk { body, .. } => {
            books.move_piece(*body, from, to);
        }
        What::Resource { id, .. } => {
            books.move_resource(*id, from, to);
        }
        What::Remove { .. } => {}
    }
}
