//! `Cursor`: through the records of a log, from segment to segment, past what is damaged only when told to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::gap::{Gap, GapKind};
use super::kept;
use super::shared::{Shared, Sight};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{Marker, RecordId, SegmentId, Timestamp};
use crate::io::RawWatch;
use crate::record::Compression;
use crate::record::checked::Kind;
use crate::record::walk::{Ending, Found, Hole, HoleKind, Step, Walk};
use crate::segment::SegmentSource;

/// A record, lent until the next one is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// What it is: a message, unless it was appended as something else.
    pub kind: Kind,
    /// Its id. Behind damage where it is not known how many records are lost, one is assumed.
    pub id: RecordId,
    /// The time its writer gave it.
    pub time: Timestamp,
    /// The message.
    pub payload: &'a [u8],
    /// What stands behind it is damaged, so that nothing proves its length: it may have been longer. It is delivered
    /// after the [`Gap`] that tells of the damage.
    pub doubtful: bool,
    /// The first byte of the record in its segment's file.
    pub offset: u64,
    /// The bytes it takes there, header and all.
    pub stored_len: u64,
}

/// What a cursor does where records cannot be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OnDamage {
    /// Stops: every read answers the same error, with the [`Gap`] in it, until [`Cursor::skip_gap`].
    #[default]
    Stop,
    /// Counts the gap and goes on behind it: see [`Cursor::gaps`].
    Skip,
    /// As `Skip`, after keeping a copy of the damaged bytes in the log's `.repair/damaged/`, durably and once. Needs write
    /// access; where the copy cannot be made the read says why, and the gap is then met as with `Stop`.
    Quarantine,
}

/// What lies at the end of the active segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// A whole record, or nothing yet.
    Clean,
    /// Bytes from here on that are no whole record: a write under way, or one that a crash cut short. The next
    /// writer cuts them off and keeps them aside.
    Torn {
        /// The first of these bytes.
        from: u64,
    },
}

/// A place in a log, and the way forward from there. It changes nothing on disk and takes no lock.
///
/// It belongs to no subscriber: nothing keeps the segments it has yet to read.
#[derive(Debug)]
pub struct Cursor {
    log: Arc<Shared>,
    segment: SegmentId,
    walk: Option<Walk<SegmentSource>>,
    sight: Sight,
    /// How many records the log had before this segment, and before the next one, where that is known.
    records_before: Option<u64>,
    records_passed: Option<u64>,
    watch: Option<Box<dyn RawWatch>>,
    /// The active segment that was missing, which was told of: the cursor waits for the one behind it, or, where there can
    /// be none, for nothing.
    passed_end: Option<SegmentId>,
    /// It reads for a subscriber, who is told what was given back unread.
    is_subscribers: bool,
    /// Whether messages are stored as they are, so that most can be lent as they come.
    plain: bool,
    /// Records up to this marker of the segment that the cursor starts in are passed over.
    skip: Marker,
    last: Option<RecordId>,
    tail: Tail,
    on_damage: OnDamage,
    met: Option<Gap>,
    /// A record that the walk has found and that is to be delivered next: a doubtful one, now that the damage behind
    /// it has been told of, or one beyond what was asked for.
    held: Option<Found>,
    told: Option<RecordId>,
    gaps: u64,
    /// Records, and the bytes of their messages, that the log's counters do not know of yet: one atomic addition for
    /// each record takes as long as half of finding it.
    delivered: (u64, u64),
    message: Vec<u8>,
}

/// Somebody on another machine may write where no watch tells of it.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// Where there is no watch, the log is looked at this often.
const POLL: Duration = Duration::from_millis(10);

/// What the next step along the log is.
enum Ahead {
    Record(Found),
    Gap(Gap),
    End,
}

impl Cursor {
    /// Starts behind `after`: the next record is the first one with a greater id.
    pub(crate) fn new(log: Arc<Shared>, after: RecordId) -> Cursor {
        let plain = log.checked().is_some() || log.codec().compression() == Compression::None;
        Cursor {
            log,
            sight: Sight::Acknowledged,
            records_before: None,
            records_passed: None,
            watch: None,
            passed_end: None,
            is_subscribers: false,
            plain,
            segment: after.segment,
            walk: None,
            skip: after.marker,
            last: None,
            tail: Tail::Clean,
            on_damage: OnDamage::Stop,
            met: None,
            held: None,
            told: None,
            gaps: 0,
            delivered: (0, 0),
            message: Vec::new(),
        }
    }

    /// Starts behind a subscriber's checkpoint.
    pub(crate) fn of_subscriber(log: Arc<Shared>, after: RecordId) -> Cursor {
        let mut cursor = Cursor::new(log, after);
        cursor.is_subscribers = true;
        cursor
    }

    /// Chooses what happens where records cannot be delivered. The default is [`OnDamage::Stop`].
    pub fn on_damage(&mut self, policy: OnDamage) {
        self.on_damage = policy;
    }

    /// The next record, or `None` where the log ends for now: later calls deliver what was written meanwhile.
    ///
    /// # Errors
    /// [`Damaged`](crate::ErrorKind::Damaged) with [`Error::gap_met`] where records are missing or damaged and the
    /// policy is to stop; and where the cursor starts beyond the end of the log (a checkpoint that is not of this
    /// log, or whose records were lost). Nothing is passed over silently.
    pub fn next_record(&mut self) -> Result<Option<Record<'_>>> {
        self.next_up_to(RecordId::new(u32::MAX, u32::MAX))
    }

    /// As [`Cursor::next_record`], but no record beyond `last`: `None` where the next one is, which later calls deliver.
    pub fn next_up_to(&mut self, last: RecordId) -> Result<Option<Record<'_>>> {
        if let Some(found) = self.quick(last) {
            return Ok(Some(self.lend(&found)));
        }
        self.tell();
        loop {
            if let Some(gap) = &self.met {
                return Err(Error::gap(&self.log.data_path(gap.segment), gap.clone()));
            }
            let ahead = match self.held.take() {
                Some(found) => Ahead::Record(found),
                None => self.ahead()?,
            };
            match ahead {
                Ahead::End => {
                    self.check_start()?;
                    return Ok(None);
                }
                Ahead::Gap(gap) => self.meet(gap)?,
                Ahead::Record(found) if found.marker <= self.skip.0 => {}
                Ahead::Record(found)
                    if (RecordId { segment: self.segment, marker: Marker(found.marker) }) > last =>
                {
                    self.held = Some(found);
                    return Ok(None);
                }
                Ahead::Record(found) => {
                    // Whatever fails now, it is the next one still.
                    self.held = Some(found);
                    if found.doubtful && !self.acknowledged(&found)? {
                        continue;
                    }
                    let gap = self.load(&found)?;
                    self.held = None;
                    match gap {
                        None => return Ok(Some(self.lend(&found))),
                        Some(gap) => self.meet(gap)?,
                    }
                }
            }
        }
    }

    /// The next record, where nothing about it needs a second look.
    // Inlined: what it returns, copied from callee to caller, takes as long as the work.
    #[inline(always)]
    fn quick(&mut self, last: RecordId) -> Option<Found> {
        let walk = self.walk.as_mut()?;
        // Where the segment's own end, or the start behind the checkpoint, is near, the long way is as good.
        let plain = self.met.is_none() && self.held.is_none() && self.plain;
        if !plain
            || self.log.is_without_writer(walk)
            || walk.marker() < self.skip.0
            || self.segment >= last.segment && walk.marker() >= last.marker.0
        {
            return None;
        }
        walk.quick_step()
    }

    /// Passes over records that are earlier than `time`, as far as the first one that is not. What is damaged on the way
    /// is told of by the next read.
    pub(crate) fn skip_to_time(&mut self, time: Timestamp) -> Result<()> {
        loop {
            match self.ahead()? {
                Ahead::Record(found) if found.header.time < time || found.marker <= self.skip.0 => {
                    self.last = Some(RecordId { segment: self.segment, marker: Marker(found.marker) });
                }
                Ahead::Record(found) => {
                    self.held = Some(found);
                    return Ok(());
                }
                Ahead::Gap(gap) => {
                    self.met = Some(gap);
                    return Ok(());
                }
                Ahead::End => return Ok(()),
            }
        }
    }

    /// Goes on from an entry of the index of its segment: all before it is known to be earlier.
    pub(crate) fn resume_at(&mut self, offset: u64, marker: u32) -> Result<()> {
        if self.enter()?
            && let Some(walk) = &mut self.walk
        {
            walk.resume(offset, marker);
        }
        Ok(())
    }

    /// Whether a record, or a gap to be told of, is ahead now.
    pub fn is_ready(&mut self) -> Result<bool> {
        // Asked for nothing, it finds out what comes next, and keeps it.
        self.next_up_to(RecordId::default()).map(drop).or_else(|error| match error.gap_met() {
            Some(_) => Ok(()),
            None => Err(error),
        })?;
        Ok(self.held.is_some() || self.met.is_some())
    }

    /// Waits until a record, or a gap to be told of, is ahead, at most so long; false if none is then. Writers of all
    /// processes wake it; where the system cannot tell of them it looks from time to time.
    pub fn wait(&mut self, at_most: Duration) -> Result<bool> {
        let end = Instant::now() + at_most;
        loop {
            if self.is_ready()? {
                return Ok(true);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            match &self.watch {
                Some(watch) => {
                    let waited = watch.wait(left.min(LONGEST_WAIT));
                    waited.map_err(|e| Error::io("wait for records", self.log.dir(), e))?;
                }
                // Looked at once more with the watch in place: what came before it is found then.
                None => match self.log.watch()? {
                    Some(watch) => self.watch = Some(watch),
                    None => std::thread::sleep(left.min(POLL)),
                },
            }
        }
    }

    /// Passes over the gap that the last error told of. `None` if there was none.
    pub fn skip_gap(&mut self) -> Option<Gap> {
        let gap = self.met.take()?;
        self.gaps += 1;
        Some(gap)
    }

    /// As [`Cursor::skip_gap`], after keeping a copy of the damaged bytes: see [`OnDamage::Quarantine`].
    ///
    /// # Errors
    /// Where the copy cannot be made; the gap is not passed over then.
    pub fn quarantine_gap(&mut self) -> Result<Option<Gap>> {
        if let Some(gap) = &self.met {
            self.quarantine((gap.segment, gap.from, gap.to))?;
        }
        Ok(self.skip_gap())
    }

    /// How many gaps were passed over so far.
    pub fn gaps(&self) -> u64 {
        self.gaps
    }

    /// The id of the last record delivered.
    pub fn last_id(&self) -> Option<RecordId> {
        self.last
    }

    /// What lay at the end of the log when the last call answered `None`.
    pub fn tail(&self) -> Tail {
        self.tail
    }

    /// A doubtful record is not handed out before the damage that makes it doubtful has been told of.
    fn acknowledged(&mut self, found: &Found) -> Result<bool> {
        match self.ahead()? {
            Ahead::Gap(gap) if gap.kind == GapKind::Damage => {
                let id = RecordId { segment: self.segment, marker: Marker(found.marker) };
                // No longer doubtful to this cursor: the next time round it is delivered.
                self.held = Some(Found { doubtful: false, ..*found });
                self.told = Some(id);
                self.meet(Gap { doubtful: Some(id), ..gap })?;
                Ok(false)
            }
            _ => Ok(true),
        }
    }

    /// The segment it is in: of the last record delivered, or, where that one's segment is finished and read, a later one.
    pub fn segment(&self) -> SegmentId {
        self.segment
    }

    pub(crate) fn policy(&self) -> OnDamage {
        self.on_damage
    }

    /// The record of exactly this id, which must lie ahead in the segment the cursor is in.
    pub(crate) fn read_at(&mut self, id: RecordId) -> Result<Record<'_>> {
        self.skip = Marker(id.marker.0.saturating_sub(1));
        // Unless it gives the record it stands nowhere: a later call must not go on from what it has passed over.
        self.last = None;
        loop {
            // Stop where the segment ends: the next one holds other ids.
            if self.segment != id.segment || self.met.is_some() {
                return Err(self.no_record(id));
            }
            match self.ahead()? {
                Ahead::Record(found) if found.marker < id.marker.0 => {}
                Ahead::Record(found) if found.marker > id.marker.0 => return Err(self.no_record(id)),
                Ahead::Record(found) => {
                    if let Some(gap) = self.load(&found)? {
                        return Err(Error::gap(&self.log.data_path(gap.segment), gap));
                    }
                    return Ok(self.lend(&found));
                }
                Ahead::Gap(gap) if gap.kind == GapKind::Damage => {
                    let passed = self.walk.as_ref().map_or(0, Walk::marker);
                    if passed >= id.marker.0 {
                        return Err(Error::gap(&self.log.data_path(gap.segment), gap));
                    }
                }
                Ahead::Gap(_) | Ahead::End => return Err(self.no_record(id)),
            }
        }
    }

    fn no_record(&self, id: RecordId) -> Error {
        Error::new(ErrorKind::NoSuchRecord, "read the record", format!("the log holds no message {id}"))
            .at(self.log.dir())
    }

    /// Tells the log's counters what was delivered.
    fn tell(&mut self) {
        let (records, bytes) = std::mem::take(&mut self.delivered);
        if records > 0 {
            self.log.metrics().delivered(records, bytes);
        }
    }

    fn meet(&mut self, gap: Gap) -> Result<()> {
        self.log.metrics().gap();
        let copy = (gap.segment, gap.from, gap.to);
        self.met = Some(gap);
        match self.on_damage {
            OnDamage::Stop if crate::planted("silent_gap") => {}
            OnDamage::Stop => return Ok(()),
            OnDamage::Skip => {}
            OnDamage::Quarantine => self.quarantine(copy)?,
        }
        self.skip_gap();
        Ok(())
    }

    fn quarantine(&self, (segment, from, to): (SegmentId, u64, u64)) -> Result<()> {
        match &self.walk {
            Some(walk) if to > from => {
                kept::keep_damaged(&self.log, &segment.to_string(), walk.source().data(), from, to)
            }
            _ => Ok(()),
        }
    }

    fn ahead(&mut self) -> Result<Ahead> {
        loop {
            if self.walk.is_none() && !self.enter()? {
                return self.over_missing();
            }
            let Some(walk) = &mut self.walk else { return Ok(Ahead::End) };
            let (position, marker, between) = (walk.position(), walk.marker(), walk.is_between_commits());
            let step = walk.step()?;
            // Nobody has written in this run of the machine, as far as the walk was told. If somebody does by now, what it
            // has found may be his, and not be acknowledged yet.
            if self.log.is_without_writer(walk) {
                let extent = self.log.extent(self.segment, walk.source().data(), self.sight)?;
                if extent.settled && between {
                    walk.resume(position, marker);
                    walk.refresh(extent);
                    continue;
                }
            }
            match step {
                Step::Record(found) => return Ok(Ahead::Record(found)),
                // What was given back is nobody's loss but a subscriber's who had not read it.
                Step::Hole(hole) if hole.kind == HoleKind::Reclaimed && !self.is_subscribers => {}
                Step::Hole(hole) => {
                    // A writer that put the end in order may have cut the file since the walk was told how long it is.
                    let extent = self.log.extent(self.segment, walk.source().data(), self.sight)?;
                    if extent.end < walk.end() && !hole.inside {
                        walk.resume(hole.from, hole.after);
                        walk.refresh(extent);
                        continue;
                    }
                    // Or the segment is gone, and its file is another one's by now.
                    if self.log.is_gone(self.segment)? {
                        self.records_passed =
                            self.records_before.and_then(|before| before.checked_add(u64::from(hole.after)));
                        self.walk = None;
                        self.skip = Marker(hole.after);
                        continue;
                    }
                    // What the checkpoint lies behind is the subscriber's past; but where it is not known how many
                    // records were lost, it is not known either which ones the checkpoint meant.
                    let past = hole.lost.is_some_and(|lost| hole.after.saturating_add(lost) <= self.skip.0);
                    if !past {
                        return Ok(Ahead::Gap(self.damage(&hole)));
                    }
                }
                Step::End(ending) => match self.at_end(ending)? {
                    Some(ahead) => return Ok(ahead),
                    None => continue,
                },
            }
        }
    }

    /// Opens the segment the cursor is in, if it is there.
    pub(crate) fn enter(&mut self) -> Result<bool> {
        let Some(mut walk) = self.log.walk(self.segment, self.sight)? else { return Ok(false) };
        // A finished checksummed segment has an index, whose checksum holds: not all of it need be walked.
        if self.skip > Marker(0)
            && self.log.checked().is_some()
            && walk.is_sealed()
            && let Some(entry) = self
                .log
                .read_index(self.segment)?
                .and_then(|index| index.before(self.skip.0.saturating_add(1)))
        {
            walk.resume(entry.offset, entry.marker);
        }
        if self.log.checked().is_some() {
            self.records_before = self.log.records_before(self.segment)?;
        }
        self.walk = Some(walk);
        Ok(true)
    }

    /// Whether records are seen that are written but not yet on the disk, in a log that syncs before it acknowledges.
    /// A power cut may take them back. The default is no.
    pub fn see_unsynced(&mut self, see: bool) {
        self.sight = if see { Sight::Written } else { Sight::Acknowledged };
    }

    /// The walk has come to the end of what it knew of: `None` if there is more to walk now.
    fn at_end(&mut self, ending: Ending) -> Result<Option<Ahead>> {
        let Some(walk) = &mut self.walk else { return Ok(None) };
        let extent = self.log.extent(self.segment, walk.source().data(), self.sight)?;
        if walk.extent() != extent {
            walk.refresh(extent);
            return Ok(None);
        }

        if !extent.sealed {
            self.tail = match ending {
                Ending::Clean => Tail::Clean,
                Ending::Torn { from } => Tail::Torn { from },
            };
            // A writer may put other bytes in the place of these: next time they are read again.
            if ending != Ending::Clean || self.log.checked().is_some() {
                walk.refresh(extent);
            }
            return Ok(Some(Ahead::End));
        }
        let empty = extent.end == 0;
        let gap = Gap {
            kind: GapKind::Empty,
            segment: self.segment,
            through: self.segment,
            from: 0,
            to: 0,
            after: self.last,
            lost: None,
            doubtful: None,
        };
        let records = u64::from(walk.marker());
        self.records_passed = self.records_before.and_then(|before| before.checked_add(records));
        self.walk = None;
        self.skip = Marker(0);
        self.segment = self.log.next_segment(self.segment)?;
        Ok(empty.then_some(Ahead::Gap(gap)))
    }

    /// The segment the cursor is in is not there: on to the next that is, or wait for it to be made.
    fn over_missing(&mut self) -> Result<Ahead> {
        let listing = self.log.listing()?;
        let there = listing.segments.iter().copied().find(|id| *id >= self.segment);
        // Only the active segment may not be there yet, unless it is known to have had records.
        let active = self.log.active()?;
        // One behind it was made ahead: nobody has gone on to it.
        let there = there.filter(|id| *id <= active || self.segment > active);
        let next = match there.or((self.segment < active).then_some(active)) {
            Some(next) if next > self.segment => next,
            // It was made since we looked.
            Some(_) => return self.ahead(),
            None if self.segment == active
                && self.passed_end != Some(active)
                && self.log.durable_in(active)? > 0 =>
            {
                self.passed_end = Some(active);
                active.next().unwrap_or(active)
            }
            None => return Ok(Ahead::End),
        };
        // The directory was listed before it was asked how far the log reaches: a segment may have been made in between.
        if self.log.is_there(self.segment)? {
            self.passed_end = None;
            return self.ahead();
        }
        let before = self.log.checked().map_or(Ok(None), |_| self.log.records_before(next))?;
        let lost = match (self.records_passed, before) {
            (Some(passed), Some(before)) => before.checked_sub(passed),
            _ if self.passed_end == Some(self.segment) => {
                Some(u64::from(self.log.durable_in(self.segment)?.saturating_sub(self.skip.0)))
            }
            _ => None,
        };
        // Behind the last number there is there is no next one.
        let through = if next > self.segment { SegmentId(next.0 - 1) } else { next };
        let gap = Gap {
            kind: if self.was_dropped(through) { GapKind::Dropped } else { GapKind::Missing },
            segment: self.segment,
            through,
            from: 0,
            to: 0,
            after: self.last,
            lost,
            doubtful: None,
        };
        self.segment = next;
        self.skip = Marker(0);
        Ok(Ahead::Gap(gap))
    }

    /// Whether the segments up to this one went because a policy says so, read or not.
    fn was_dropped(&self, through: SegmentId) -> bool {
        self.log.checked().is_some() && through < self.log.dropped_before()
    }

    /// The log ends here: is that a place where the cursor could have started?
    fn check_start(&self) -> Result<()> {
        let marker = self.walk.as_ref().map_or(0, Walk::marker);
        let behind_start = self.skip.0 > marker && self.last.is_none();
        if self.segment <= self.log.seen() && !behind_start {
            return Ok(());
        }
        let active = self.log.active()?;
        let beyond = self.segment > active && self.passed_end.is_none() || behind_start;
        if !beyond {
            return Ok(());
        }
        // A subscriber may have read what is written and not on the disk yet, having asked for it.
        if self.log.checked().is_some() && self.segment == active {
            let walk = self.log.walk(self.segment, Sight::Written)?;
            let mut written = 0;
            if let Some(mut walk) = walk {
                while !matches!(walk.step()?, Step::End(_)) {}
                written = walk.marker();
            }
            if self.skip.0 <= written {
                return Ok(());
            }
        }
        let start = RecordId { segment: self.segment, marker: self.skip };
        let what = format!(
            "the checkpoint {start} is beyond the end of the log (segment {} ends after {marker} messages), so what \
             comes next cannot be told from what was read; move it with `jlog subs set`",
            self.segment.min(active)
        );
        Err(Error::damaged("read the next record", &self.log.data_path(self.segment), 0, what))
    }

    fn damage(&self, hole: &Hole) -> Gap {
        let after =
            (hole.after > 0).then_some(RecordId { segment: self.segment, marker: Marker(hole.after) });
        // Of what was given back the subscriber may have read the first.
        let read = match hole.kind {
            HoleKind::Reclaimed => self.skip.0.saturating_sub(hole.after),
            _ => 0,
        };
        let lost = hole.lost.map(|lost| lost.saturating_sub(read));
        Gap {
            kind: match hole.kind {
                HoleKind::Bytes | HoleKind::Payload | HoleKind::Beginning => GapKind::Damage,
                HoleKind::Foreign => GapKind::Foreign,
                HoleKind::CutShort => GapKind::CutShort,
                HoleKind::Repaired => GapKind::Repaired,
                HoleKind::Reclaimed => GapKind::Reclaimed,
            },
            segment: self.segment,
            through: self.segment,
            from: hole.from,
            to: hole.to,
            after: after.or(self.last),
            lost: lost.map(u64::from),
            doubtful: None,
        }
    }

    /// Brings the message into memory; a gap if it cannot be decompressed.
    fn load(&mut self, found: &Found) -> Result<Option<Gap>> {
        let Some(walk) = &mut self.walk else { return Ok(None) };
        let stored = walk.stored(found)?;
        if stored.len() != found.header.stored as usize {
            let path = self.log.data_path(self.segment);
            return Err(Error::damaged(
                "read the next record",
                &path,
                found.offset,
                "the file was cut meanwhile",
            ));
        }
        let compression = found.compression;
        if compression == Compression::None {
            return Ok(None);
        }
        if compression.decompress(stored, found.header.len, &mut self.message).is_ok() {
            return Ok(None);
        }
        let to = found.offset + found.span;
        let before = RecordId { segment: self.segment, marker: Marker(found.marker - 1) };
        let after = if found.marker > 1 { Some(before) } else { self.last };
        Ok(Some(Gap {
            kind: GapKind::Undecodable,
            segment: self.segment,
            through: self.segment,
            from: found.offset,
            to,
            after,
            lost: Some(1),
            doubtful: None,
        }))
    }

    // Inlined: what it returns, copied from callee to caller, takes as long as the work.
    #[inline(always)]
    fn lend(&mut self, found: &Found) -> Record<'_> {
        let id = RecordId { segment: self.segment, marker: Marker(found.marker) };
        self.last = Some(id);
        self.delivered = (self.delivered.0 + 1, self.delivered.1 + u64::from(found.header.len));
        let payload = match (&self.walk, found.compression) {
            // `load`, or the quick step, has it in the block at hand.
            (Some(walk), Compression::None) => walk.at_hand(found),
            _ => &self.message,
        };
        Record {
            kind: Kind(found.kind),
            id,
            time: found.header.time,
            payload,
            doubtful: found.doubtful || self.told == Some(id),
            offset: found.offset,
            stored_len: found.span,
        }
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        self.tell();
    }
}
