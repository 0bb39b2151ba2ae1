//! Reading a spool in: the books are made from the logs, through the summaries where there are any.
//!
//! The survivors are read before the arrivals, each log in order. What that order means for the records of one message:
//!
//! ```text
//!   met again with the same change number     a copy: reclaim was broken off, and finishes that segment first
//!   met with a smaller one                    what a later record has made meaningless
//!   a change before the message itself        put by until the message comes (it was moved, the change was not)
//!   a removal among the arrivals              all older records of that message have been met already
//!   a removal among the survivors             remembered to the end: the message may come yet
//! ```

use std::collections::HashMap;
use std::sync::PoisonError;

use jlog::{Gap, GapKind, LogIdentity, Marker, RecordId, SegmentId};

use crate::books::{Books, CORRUPT, Coming, Piece, ResourceSpot, SegmentSlot, Spot, home};
use crate::error::{Result, SpoolError};
use crate::id::MessageId;
use crate::index::Slot;
use crate::note::{NoNote, Note, What, of_record};
use crate::record::{BodyPlace, Home, LogNo};
use crate::store::Store;
use crate::summary::{self, Summary};

/// How far reading in has come.
#[derive(Debug, Default)]
pub(crate) struct Loading {
    pub(crate) total: u64,
    pub(crate) done: u64,
    pub(crate) ended: Option<std::result::Result<(), String>>,
    pub(crate) report: Report,
}

/// What was found while a spool was read in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Messages that are held.
    pub messages: u64,
    /// Records that were read from segments, because no summary had them.
    pub scanned: u64,
    /// Bodies, or pieces of them, without a message: their builder, or their batch, did not come to its end.
    pub bodies_without_message: u64,
    /// Records met twice: reclaiming was broken off, and goes on.
    pub half_moved: u64,
    /// Changes met before their message, which reclaiming has moved, or which is gone.
    pub early_changes: u64,
    /// Messages met after their removal, which reclaiming has moved.
    pub kept_out: u64,
    /// What does not add up. Nothing of it was deleted.
    pub findings: Vec<Finding>,
}

/// Something that does not add up in a spool.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// A stretch of a log that cannot be read: damage, or segments that are missing.
    Gap {
        /// Whose log: `arrivals` or `survivors`.
        log: &'static str,
        /// What, and where.
        gap: Box<Gap>,
    },
    /// A change of a message whose own record is not there, though its segment is: the record is damaged.
    MetadataWithoutBody {
        /// The message.
        id: MessageId,
        /// The change's place.
        at: String,
    },
    /// A message whose body is not whole. It is kept out of the schedule.
    BodyIncomplete {
        /// The message.
        id: MessageId,
    },
    /// A record that is none of the spool's.
    UnknownRecord {
        /// Its place.
        at: String,
    },
    /// Two records say that they are the message of one id; the newer one counts.
    DuplicateId {
        /// The id.
        id: MessageId,
    },
    /// The file `spool` is missing or damaged: the spool can be looked at, and owned after a [repair](crate::repair).
    SettingsLost,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Finding::Gap { log, gap } => write!(f, "{log}: {gap}"),
            Finding::MetadataWithoutBody { id, at } => {
                write!(f, "{at}: a change of message {id}, whose own record is not there")
            }
            Finding::BodyIncomplete { id } => write!(f, "the body of message {id} is not whole"),
            Finding::UnknownRecord { at } => write!(f, "{at}: a record that is none of a spool's"),
            Finding::SettingsLost => f.write_str("the file `spool` is missing or damaged"),
            Finding::DuplicateId { id } => write!(f, "two messages have the id {id}; the newer one counts"),
        }
    }
}

impl LogNo {
    /// The log's directory in the spool's.
    pub(crate) fn name(self) -> &'static str {
        match self {
            LogNo::Arrivals => "arrivals",
            LogNo::Survivors => "survivors",
        }
    }
}

/// The change numbers of a message's records, by which the newest are told.
#[derive(Debug, Clone, Copy, Default)]
struct Ages {
    base: u64,
    meta: u64,
    standing: u64,
}

/// What is remembered only while a spool is read in.
#[derive(Default)]
struct Memory {
    /// By the number of the message's slot.
    ages: Vec<Ages>,
    /// Removals that may have been met before what they remove: their change number, and where the message was then.
    removed: HashMap<u64, (u64, Home)>,
    /// Changes met before their message.
    early: HashMap<u64, Vec<(Home, Note)>>,
    resources: HashMap<u64, HashMap<String, u64>>,
    newest: u64,
    highest: u64,
    report: Report,
}

/// Notes are entered so many at a time: in between, others may take the books.
const AT_A_TIME: usize = 4096;

/// Whoever reads the spool in and does not come to an end leaves nobody waiting.
struct Reading<'a>(&'a Store);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let mut loading = self.0.loading.lock().unwrap_or_else(PoisonError::into_inner);
        loading.ended = Some(Err("the thread that read the spool in has panicked".to_owned()));
        drop(loading);
        self.0.loaded.notify_all();
    }
}

impl Store {
    /// Waits until the spool is read in.
    pub(crate) fn wait_loaded(&self) -> Result<()> {
        let mut loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match &loading.ended {
                Some(Ok(())) => return Ok(()),
                Some(Err(what)) => return Err(SpoolError::Invalid(what.clone())),
                None => {
                    loading = self.loaded.wait(loading).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// Reads the spool in: all that was in its logs at `ends`.
    pub(crate) fn load(&self, ends: [Option<RecordId>; 2]) -> Result<()> {
        let reading = Reading(self);
        let outcome = self.load_all(ends);
        std::mem::forget(reading);
        let mut loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        let (ended, result) = match outcome {
            Ok(report) => {
                loading.report = report;
                (Ok(()), Ok(()))
            }
            Err(error) => (Err(format!("the spool could not be read in: {error}")), Err(error)),
        };
        loading.ended = Some(ended);
        drop(loading);
        self.loaded.notify_all();
        result
    }

    fn load_all(&self, ends: [Option<RecordId>; 2]) -> Result<Report> {
        let mut memory = Memory::default();
        let mut todo = Vec::new();
        for log in [LogNo::Survivors, LogNo::Arrivals] {
            let Some(end) = ends[log as usize] else { continue };
            let segments = self.log(log).segments()?;
            self.find_missing(log, &segments, &mut memory.report)?;
            for segment in segments.into_iter().filter(|segment| *segment <= end.segment) {
                let sealed = segment < end.segment;
                if sealed && self.log(log).is_reclaimed(segment).unwrap_or(false) {
                    continue;
                }
                self.books().segment_slot(home(log, segment))?;
                todo.push((log, segment, sealed, end));
            }
        }
        self.loading.lock().unwrap_or_else(PoisonError::into_inner).total = todo.len() as u64;
        for (log, segment, sealed, end) in todo {
            self.load_segment(&mut memory, log, segment, sealed, end)?;
            self.loading.lock().unwrap_or_else(PoisonError::into_inner).done += 1;
        }
        self.finish_loading(memory)
    }

    /// Segments that should be there: whoever gives one back leaves a stub, or says that all before some place is gone.
    fn find_missing(&self, log: LogNo, segments: &[SegmentId], report: &mut Report) -> Result<()> {
        let mut found = |gap: Gap| report.findings.push(Finding::Gap { log: log.name(), gap: Box::new(gap) });
        let Some(first) = segments.first() else { return Ok(()) };
        if first.0 > 0 {
            let mut cursor =
                self.log(log).cursor_after(RecordId { segment: SegmentId(0), marker: Marker(0) });
            while let Err(error) = cursor.next_record() {
                let Some(gap) = error.gap_met().filter(|gap| gap.through < *first).cloned() else { break };
                if gap.kind == GapKind::Missing {
                    found(gap);
                }
                cursor.skip_gap();
            }
        }
        for pair in segments.windows(2).filter(|pair| pair[0].0 + 1 < pair[1].0) {
            let (segment, through) = (SegmentId(pair[0].0 + 1), SegmentId(pair[1].0 - 1));
            let gap = Gap {
                kind: GapKind::Missing,
                segment,
                through,
                from: 0,
                to: 0,
                after: None,
                lost: None,
                doubtful: None,
            };
            found(gap);
        }
        Ok(())
    }

    /// Which log it is; checksummed ones were all given an identity.
    pub(crate) fn identity(&self, log: LogNo) -> LogIdentity {
        self.log(log).identity().unwrap_or(LogIdentity([0; 16]))
    }

    /// The summary of a segment, if there is one that can be believed.
    pub(crate) fn read_summary(&self, home: Home) -> Result<Option<Summary>> {
        summary::read(&*self.disk, &self.dir, self.identity(home.log), home)
    }

    fn load_segment(
        &self,
        memory: &mut Memory,
        log: LogNo,
        segment: SegmentId,
        sealed: bool,
        end: RecordId,
    ) -> Result<()> {
        let home = home(log, segment);
        let known = self.read_summary(home)?;
        let mut marker = Marker(0);
        let mut whole = false;
        let mut notes_end = 0;
        if let Some(summary) = known {
            (marker, whole, notes_end) = (summary.marker, summary.whole, summary.end);
            self.enter(memory, home, summary.notes)?;
        }
        if !(whole && sealed) {
            let scanned = self.scan(log, segment, marker, end, &mut memory.report)?;
            memory.report.scanned += scanned.notes.len() as u64;
            notes_end = notes_end.max(scanned.end);
            self.enter(memory, home, scanned.notes)?;
        }
        if let Some(known) = self.books().segment_mut(home) {
            known.end = known.end.max(notes_end);
            known.summarized = whole && sealed;
        }
        Ok(())
    }

    /// The notes of the records of one segment behind `after`, up to `end`.
    pub(crate) fn scan(
        &self,
        log: LogNo,
        segment: SegmentId,
        after: Marker,
        end: RecordId,
        report: &mut Report,
    ) -> Result<Summary> {
        // Of the last segment a summary may know of more than is there: records are lost.
        let after = if segment == end.segment { after.min(end.marker) } else { after };
        let mut summary = Summary { marker: after, end: 0, whole: segment < end.segment, notes: Vec::new() };
        let mut cursor = self.log(log).cursor_after(RecordId { segment, marker: after });
        loop {
            let record = match cursor.next_record() {
                Ok(Some(record)) => record,
                Ok(None) => break,
                Err(error) => {
                    let Some(gap) = error.gap_met().cloned() else { return Err(error.into()) };
                    if gap.segment > segment {
                        break;
                    }
                    report.findings.push(Finding::Gap { log: log.name(), gap: Box::new(gap) });
                    cursor.skip_gap();
                    continue;
                }
            };
            if record.id.segment != segment || record.id > end {
                break;
            }
            let span = u32::try_from(record.stored_len).unwrap_or(u32::MAX);
            match of_record(record.kind, record.payload, record.offset, span) {
                Ok(mut notes) => summary.notes.append(&mut notes),
                Err(NoNote::Newer(version)) => {
                    let path = self.log(log).path().join(segment.to_string());
                    return Err(SpoolError::Newer { path, version: u16::from(version) });
                }
                Err(NoNote::Unknown) => {
                    let at = format!("{} {}", log.name(), record.id);
                    report.findings.push(Finding::UnknownRecord { at });
                }
            }
            summary.marker = record.id.marker;
            summary.end = record.offset + record.stored_len;
        }
        Ok(summary)
    }

    fn enter(&self, memory: &mut Memory, home: Home, notes: Vec<Note>) -> Result<()> {
        let mut notes = notes.into_iter().peekable();
        while notes.peek().is_some() {
            let mut books = self.books();
            let segment = books.segment_slot(home)?;
            for note in notes.by_ref().take(AT_A_TIME) {
                memory.enter(&mut books, home, segment, note)?;
            }
        }
        Ok(())
    }

    fn finish_loading(&self, mut memory: Memory) -> Result<Report> {
        let mut books = self.books();
        for (id, notes) in std::mem::take(&mut memory.early) {
            for (holder, note) in notes {
                let (What::Meta { base, .. } | What::Standing { base, .. }) = note.what else { continue };
                if books.segment(base).is_some() && !memory.removed.contains_key(&id) {
                    let at =
                        format!("{} {}, byte {}", holder.log.name(), SegmentId(holder.segment), note.offset);
                    let id = MessageId::from_u64(id);
                    memory.report.findings.push(Finding::MetadataWithoutBody { id, at });
                }
            }
        }
        let unwanted: Vec<u64> = books
            .bodies
            .iter()
            .filter(|(_, body)| body.messages == 0 && body.handles == 0)
            .map(|(number, _)| *number)
            .collect();
        memory.report.bodies_without_message = unwanted.len() as u64;
        for body in unwanted {
            books.drop_body(body, |_| {});
        }
        let broken = books.broken_bodies();
        books.finish_schedule();
        for slot in broken {
            let id = MessageId::from_u64(books.index.get(slot).id());
            memory.report.findings.push(Finding::BodyIncomplete { id });
            books.set_flag(slot, CORRUPT, true);
            books.index.idle(slot);
        }
        memory.report.messages = books.messages();
        drop(books);
        self.remove_stale_summaries();
        self.observe_change(memory.newest);
        if memory.highest > 0 {
            self.ids.observe(MessageId::from_u64(memory.highest));
        }
        Ok(memory.report)
    }
}

impl Store {
    /// Removes summaries of segments that are gone.
    fn remove_stale_summaries(&self) {
        let dir = self.dir.join(summary::DIR);
        let mut names =
            if self.is_read_only() { Vec::new() } else { self.disk.names(&dir).unwrap_or_default() };
        {
            let books = self.books();
            names.retain(|name| summary::named(name).is_some_and(|home| books.segment(home).is_none()));
        }
        for name in names {
            // One that stays is of no harm: it is not read.
            let _ = self.disk.remove(&dir.join(name));
        }
    }
}

impl Memory {
    /// Enters a note of a record in `home`, whose number in the books is `segment`.
    fn enter(&mut self, books: &mut Books, home: Home, segment: SegmentSlot, note: Note) -> Result<()> {
        let spot = Spot::at(segment, note.offset);
        let span = u64::from(note.span);
        match &note.what {
            What::Accept { id, change, place, size, standing } => {
                self.newest = self.newest.max(*change);
                self.highest = self.highest.max(*id);
                if let Some((_, of)) = self.removed.get(id).filter(|(removed, _)| removed > change) {
                    old_copy(books, home, *of);
                    self.report.kept_out += 1;
                    return Ok(());
                }
                if let Some(slot) = books.find(*id) {
                    let known = self.ages(slot).base;
                    if known == *change {
                        let from = books.base(slot);
                        self.report.half_moved += 1;
                        if met_again(books, home, from) {
                            books.move_base(slot, spot);
                        }
                        return Ok(());
                    }
                    // Nothing that removed the first one is left.
                    let id = MessageId::from_u64(*id);
                    self.report.findings.push(Finding::DuplicateId { id });
                    if known > *change {
                        return Ok(());
                    }
                    books.remove(slot);
                    *self.ages(slot) = Ages::default();
                }
                let coming = Coming {
                    id: *id,
                    spot,
                    span,
                    place: *place,
                    size: *size,
                    stands: standing.clone(),
                    flags: 0,
                };
                let slot = books.add(&coming);
                *self.ages(slot) = Ages { base: *change, meta: *change, standing: *change };
                if let BodyPlace::Pieces(body) = place {
                    self.newest = self.newest.max(*body);
                }
                for (home, note) in self.early.remove(id).unwrap_or_default() {
                    let segment = books.segment_slot(home)?;
                    self.enter(books, home, segment, note)?;
                }
            }
            What::Chunk { body, at, len } => {
                self.newest = self.newest.max(*body);
                let piece = Piece { at: *at, len: *len, spot };
                if let Some(from) = books.add_piece(*body, piece)
                    && met_again(books, home, from)
                {
                    books.move_piece(*body, from, spot);
                }
            }
            What::Meta { id, change, .. } | What::Standing { id, change, .. } => {
                self.newest = self.newest.max(*change);
                let Some(slot) = books.find(*id) else {
                    self.put_by(*id, home, note);
                    return Ok(());
                };
                self.change(books, slot, home, spot, &note);
            }
            What::Resource { id, change, name, gone, .. } => {
                self.newest = self.newest.max(*change);
                let Some(slot) = books.find(*id) else {
                    self.put_by(*id, home, note);
                    return Ok(());
                };
                let known = self.resources.entry(*id).or_default();
                match known.get(name) {
                    Some(known) if known == change => {
                        let from = books.resource(*id, name).map(|resource| resource.spot);
                        if let Some(from) = from
                            && met_again(books, home, from)
                        {
                            books.move_resource(*id, from, spot);
                        }
                    }
                    Some(known) if known > change => {}
                    _ => {
                        known.insert(name.clone(), *change);
                        let name = name.clone();
                        books.set_resource(slot, ResourceSpot { name, spot, span: note.span, gone: *gone });
                    }
                }
            }
            What::Remove { id, change, home: of } => {
                self.newest = self.newest.max(*change);
                self.highest = self.highest.max(*id);
                books.note_removal(home, *of);
                if home.log == LogNo::Survivors {
                    let known = self.removed.entry(*id).or_insert((*change, *of));
                    if known.0 < *change {
                        *known = (*change, *of);
                    }
                }
                if let Some(early) = self.early.get_mut(id) {
                    early.retain(|(_, note)| note.change() > *change);
                }
                if let Some(slot) = books.find(*id)
                    && self.ages(slot).base < *change
                {
                    let found = books.base(slot);
                    if let Some(found) = books.home(found) {
                        old_copy(books, found, *of);
                    }
                    books.remove(slot);
                    *self.ages(slot) = Ages::default();
                    self.resources.remove(id);
                }
            }
        }
        Ok(())
    }

    fn ages(&mut self, slot: Slot) -> &mut Ages {
        let at = slot.number();
        if at >= self.ages.len() {
            self.ages.resize(at + 1, Ages::default());
        }
        &mut self.ages[at]
    }

    fn put_by(&mut self, id: u64, home: Home, note: Note) {
        self.report.early_changes += 1;
        self.early.entry(id).or_default().push((home, note));
    }

    /// A change of a message that is there.
    fn change(&mut self, books: &mut Books, slot: Slot, home: Home, spot: Spot, note: &Note) {
        let (What::Meta { change, standing, .. } | What::Standing { change, standing, .. }) = &note.what
        else {
            return;
        };
        let meta = matches!(note.what, What::Meta { .. });
        let mut ages = *self.ages(slot);
        let known = if meta { ages.meta } else { ages.standing };
        let span = u64::from(note.span);
        if known == *change {
            let from = if meta { books.meta(slot) } else { books.standing(slot) };
            self.report.half_moved += 1;
            if met_again(books, home, from) {
                if meta {
                    books.set_meta(slot, spot, span, true);
                } else {
                    books.set_standing(slot, spot, span);
                }
            }
            return;
        }
        let stands = *change > ages.standing;
        if meta && *change > ages.meta {
            ages.meta = *change;
            books.set_meta(slot, spot, span, !stands);
        } else if !meta && stands {
            books.set_standing(slot, spot, span);
        }
        if stands {
            ages.standing = *change;
            books.stand(slot, standing);
        }
        *self.ages(slot) = ages;
    }
}

/// A record of `home` is a copy of the one at `known`, or that of it: the segment that was moved from is half moved. True if
/// the one met now is the copy: copies go to the end of the survivors, which are read first, and in order.
fn met_again(books: &mut Books, home: Home, known: Spot) -> bool {
    let copy = home.log == LogNo::Survivors;
    let moved = if copy { books.home(known) } else { Some(home) };
    if let Some(moved) = moved {
        books.mark(moved, true, false);
    }
    copy
}

/// A message was met in `home` that had been moved from there when it was removed: that segment is half moved.
fn old_copy(books: &mut Books, home: Home, removed_from: Home) {
    if home != removed_from {
        books.mark(home, true, false);
    }
}
