//! The steps that mend a checksummed log. Nothing moves: what is lost is replaced, in its place, by a note of how much
//! it was, so that every id stays what it is and readers are told.

use std::collections::{BTreeMap, BTreeSet};

use super::{Deed, Holes, Part, Step};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{SegmentId, Timestamp};
use crate::log::checked::index::of as make_index;
use crate::log::checkpoints::{self, Stored};
use crate::log::inspect::{Finding, FindingKind, SegmentReport, has_unsound_slot, misplaced};
use crate::log::names::{METASTORE, checkpoint_path};
use crate::log::repair::plan::{Planner, cutting_off, moving};
use crate::record::checked::{
    ALIGN, COMMIT_HEADER, CommitHeader, Place, RECORD_HEADER, RecordHeader, SEGMENT_HEADER, SegmentHeader,
    kind,
};
use crate::record::index::Index;
use crate::record::walk::{Hole, HoleKind, Step as Walked};
use crate::segment::IndexState;

impl Planner<'_> {
    pub(super) fn checked(&mut self) -> Result<()> {
        self.checked_checkpoints()?;
        let mut mended = BTreeMap::new();
        for segment in &self.seen.segments {
            self.checked_segment(segment, &mut mended)?;
        }
        for finding in self.seen.findings.iter().filter(|finding| finding.kind == FindingKind::Missing) {
            self.missing(finding, &mut mended)?;
        }
        self.checked_indexes(&mended)?;
        self.checked_metastore();
        match self.log.settings().features.unwritable() {
            Some(why) if !self.plan.steps.is_empty() => {
                Err(Error::new(ErrorKind::Unsupported, "repair the log", why).at(self.log.dir()))
            }
            _ => Ok(()),
        }
    }

    fn checked_checkpoints(&mut self) -> Result<()> {
        for subscriber in &self.seen.subscribers {
            let path = checkpoint_path(self.log.dir(), &subscriber.name);
            let (now, len) = match checkpoints::read(self.log, &path)? {
                Stored::At(id, len) => (Some(id), len),
                Stored::Short(len) => (None, len),
                Stored::Nobody => continue,
            };
            let right_length = len == checkpoints::file_len(self.log);
            let whole = right_length && !has_unsound_slot(self.log, &path)?;
            let (to, what) = match now {
                None => (self.lost_place(None)?, "unreadable checkpoint"),
                Some(id) if misplaced(id, &self.seen.segments, self.seen.active).is_some() => {
                    // Its segment's records may come back as a note of what is lost: the place stays.
                    // Or they were dropped by a policy, and its reader is to be told.
                    match self.will_be_made(id.segment) || id.segment < self.log.dropped_before() {
                        true => (id, "checkpoint of a wrong length, or with a damaged slot"),
                        false => (self.lost_place(Some(id))?, "checkpoint outside the log"),
                    }
                }
                Some(id) if !right_length => (id, "checkpoint of a wrong length"),
                Some(id) => (id, "checkpoint with a damaged slot"),
            };
            let fits = now == Some(to) && whole;
            if fits || !self.wants(Part::Checkpoints, Some(to.segment), true) {
                continue;
            }
            // Newer than whatever a slot of the old file may hold.
            let bytes = checkpoints::checked_file(self.log, &path, to, 1 << 32);
            self.step(moving(&subscriber.name, now, to, len, what), Deed::Replace(bytes));
        }
        Ok(())
    }

    fn will_be_made(&self, id: SegmentId) -> bool {
        let missing = self.seen.findings.iter().any(|finding| {
            finding.kind == FindingKind::Missing && finding.segment.is_some_and(|first| first <= id)
        });
        missing && self.seen.segments.last().is_some_and(|last| id < last.id)
    }

    /// Notes in the place of what is lost, a header in the place of a damaged one, and the torn end cut off.
    fn checked_segment(
        &mut self,
        segment: &SegmentReport,
        mended: &mut BTreeMap<SegmentId, Mended>,
    ) -> Result<()> {
        let id = segment.id;
        let findings =
            |kind: FindingKind| move |finding: &&Finding| finding.kind == kind && finding.segment == Some(id);
        let damaged = self.seen.findings.iter().any(|finding| findings(FindingKind::Damage)(&finding));
        let mut patches = Vec::new();
        let mut whole = Mended::default();
        if damaged && self.options.holes == Holes::Cut {
            let place = Place::new(self.log.identity(), id.0);
            let Some(mut walk) = self.walk(id)? else { return Ok(()) };
            loop {
                match walk.step()? {
                    Walked::Record(_) => {}
                    Walked::Hole(hole) if hole.kind == HoleKind::Foreign => {
                        self.replace_foreign(segment, mended)?;
                    }
                    Walked::Hole(hole) => {
                        let is_last = hole.to >= walk.end();
                        self.note(segment, place, &hole, is_last, &mut patches, &mut whole)?;
                    }
                    Walked::End(_) => break,
                }
            }
        }
        let torn = self.seen.findings.iter().find(findings(FindingKind::Torn));
        let torn = torn.filter(|_| self.wants(Part::Data, Some(id), true));
        let cut = torn.map(|finding| finding.from);
        if let Some(finding) = torn {
            let deed =
                if patches.is_empty() { Deed::Truncate(finding.from) } else { Deed::Patch(Vec::new(), None) };
            self.step(cutting_off(finding), deed);
        }
        if !patches.is_empty() {
            self.merge_patches(id, patches, cut);
            mended.insert(id, whole);
        }
        Ok(())
    }

    /// All of a file's changes are one deed, with its first step.
    fn merge_patches(&mut self, id: SegmentId, patches: Vec<(u64, Vec<u8>)>, cut: Option<u64>) {
        let file = id.to_string();
        let plan = &mut self.plan;
        let first = plan.steps.iter().position(|step| step.file == file);
        if let Some(first) = first {
            plan.deeds[first] = Deed::Patch(patches, cut);
        }
    }

    /// One hole: the step, and the bytes that go in its place.
    fn note(
        &mut self,
        segment: &SegmentReport,
        place: Place,
        hole: &Hole,
        is_last: bool,
        patches: &mut Vec<(u64, Vec<u8>)>,
        mended: &mut Mended,
    ) -> Result<()> {
        let id = segment.id;
        let mut closed_at = None;
        let (patch, deed) = match hole.kind {
            HoleKind::Repaired | HoleKind::Reclaimed | HoleKind::CutShort | HoleKind::Foreign => {
                return Ok(());
            }
            // With a sound header it would look like a segment that never had a record.
            HoleKind::Beginning if hole.lost.is_none() => return Ok(()),
            HoleKind::Beginning => {
                let Some(header) = self.rebuilt_header(id)? else { return Ok(()) };
                (Some((0, header.encode().to_vec())), "write the segment's header anew".to_owned())
            }
            HoleKind::Bytes | HoleKind::Payload => {
                let what = match hole.lost {
                    Some(1) => "note that 1 message is lost here".to_owned(),
                    Some(lost) => format!("note that {lost} messages are lost here"),
                    None => return Ok(()),
                };
                let note = lost_here(place, hole, segment.file_bytes, is_last);
                if let Some(note) = &note {
                    closed_at = note.closes.then_some(hole.from + note.bytes.len() as u64);
                }
                (note.map(|note| (hole.from, note.bytes)), what)
            }
        };
        let safe = hole.lost == Some(0);
        let Some(patch) = patch.filter(|_| self.wants(Part::Data, Some(id), safe)) else { return Ok(()) };
        let step = Step {
            part: Part::Data,
            file: id.to_string(),
            from: hole.from,
            to: hole.to,
            what: "damage".to_owned(),
            deed,
            lost: hole.lost.map(u64::from),
            safe,
            moves_ids_after: None,
        };
        mended.holes.push((hole.from, hole.to));
        mended.closed_at = closed_at;
        patches.push(patch);
        // The deed of the whole file comes with its first step.
        self.step(step, Deed::Patch(Vec::new(), None));
        Ok(())
    }

    /// The file of a segment is another one: a note of what is lost goes in its place. What it is stays, kept aside.
    fn replace_foreign(
        &mut self,
        segment: &SegmentReport,
        mended: &mut BTreeMap<SegmentId, Mended>,
    ) -> Result<()> {
        let Some((bytes, lost)) = self.stand_in(segment.id)? else { return Ok(()) };
        if !self.wants(Part::Data, Some(segment.id), false) {
            return Ok(());
        }
        let step = Step {
            part: Part::Data,
            file: segment.id.to_string(),
            from: 0,
            to: segment.file_bytes,
            what: "another segment's file".to_owned(),
            deed: note_of(lost),
            lost: Some(u64::from(lost)),
            safe: false,
            moves_ids_after: None,
        };
        mended.insert(segment.id, Mended::whole(bytes.len()));
        self.step(step, Deed::Replace(bytes));
        Ok(())
    }

    /// A missing segment: a note of what is lost, where it is known how much that is.
    fn missing(&mut self, finding: &Finding, mended: &mut BTreeMap<SegmentId, Mended>) -> Result<()> {
        let Some(first) = finding.segment else { return Ok(()) };
        let there = self.seen.segments.iter().map(|segment| segment.id).find(|id| *id > first);
        let durable = self.log.control()?.map(|control| control.durable.segment);
        // The last one may be missing too; then what is known of it is what the control file says.
        let last = first.max(durable.unwrap_or_default());
        let through = there.map_or(last, |next| SegmentId(next.0 - 1));
        // Of most of a long stretch nothing is known: a number may be nonsense, and there are four thousand million of them.
        let listing = self.log.listing()?;
        let behind = listing.segments.iter().chain(&listing.indexes);
        let told = behind.filter_map(|id| id.0.checked_sub(1).map(SegmentId)).chain(durable);
        let told: BTreeSet<SegmentId> = told.filter(|id| (first..=through).contains(id)).collect();
        for id in told {
            let Some((bytes, lost)) = self.stand_in(id)? else { continue };
            if !self.wants(Part::Data, Some(id), false) {
                continue;
            }
            let step = Step {
                part: Part::Data,
                file: id.to_string(),
                from: 0,
                to: 0,
                what: "the segment is missing".to_owned(),
                deed: note_of(lost),
                lost: Some(u64::from(lost)),
                safe: false,
                moves_ids_after: None,
            };
            mended.insert(id, Mended::whole(bytes.len()));
            self.step(step, Deed::Make(bytes));
        }
        Ok(())
    }

    /// A whole segment that says no more than how many records are lost with it, and that number.
    fn stand_in(&self, id: SegmentId) -> Result<Option<(Vec<u8>, u32)>> {
        let next = id.next().map_or(Ok(None), |next| self.known_header(next))?;
        let durable = self.log.control()?.map(|control| control.durable);
        let durable = durable.filter(|durable| durable.segment == id);
        let (end, lost) = match (next, durable) {
            (Some(next), _) => (next.previous_end, next.previous_marker),
            (None, Some(durable)) => (durable.end, durable.marker),
            (None, None) => return Ok(None),
        };
        if end < SEGMENT_HEADER as u64 {
            return Ok(None);
        }
        let Some(header) = self.rebuilt_header(id)? else { return Ok(None) };
        let mut bytes = header.encode().to_vec();
        let whole = Hole {
            from: SEGMENT_HEADER as u64,
            to: end,
            lost: Some(lost),
            after: 0,
            starts_with_header: false,
            kind: HoleKind::Bytes,
            inside: false,
        };
        if whole.to > whole.from {
            let place = Place::new(header.log, id.0);
            let Some(note) = lost_here(place, &whole, SEGMENT_HEADER as u64, true) else { return Ok(None) };
            bytes.extend_from_slice(&note.bytes);
        }
        Ok(Some((bytes, lost)))
    }

    /// The header that a segment has, or has had: its index keeps a copy.
    fn known_header(&self, id: SegmentId) -> Result<Option<SegmentHeader>> {
        match self.log.header(id)? {
            Some(header) => Ok(Some(header)),
            None => Ok(self.log.read_index(id)?.map(|index| index.header)),
        }
    }

    /// The header that a segment should have: from its index, or from what its neighbours say.
    fn rebuilt_header(&self, id: SegmentId) -> Result<Option<SegmentHeader>> {
        if let Some(index) = self.log.read_index(id)? {
            return Ok(Some(index.header));
        }
        let before = id.0.checked_sub(1).map(SegmentId);
        let previous = before.map_or(Ok(None), |before| self.log.header(before))?;
        let next = id.next().map_or(Ok(None), |next| self.log.header(next))?;
        let report = self.seen.segments.iter().find(|segment| Some(segment.id) == before);
        let mut header = SegmentHeader { recycled: true, ..SegmentHeader::new(self.log.identity(), id.0) };
        if let (Some(previous), Some(report)) = (previous, report) {
            // A finished segment ends with the commit that closes it, which its successor does not count.
            header.records_before = previous.records_before.saturating_add(u64::from(report.last_marker.0));
            let bytes = report.bytes.saturating_sub(SEGMENT_HEADER as u64);
            header.bytes_before = previous.bytes_before.saturating_add(bytes);
            let newest =
                report.times.map_or(previous.latest_before, |(_, to)| to.max(previous.latest_before));
            header.latest_before = newest;
            header.created = newest;
        } else if let Some(next) = next {
            header.records_before = next.records_before.saturating_sub(u64::from(next.previous_marker));
            header.bytes_before = next.bytes_before;
            header.created = next.created;
        }
        Ok(Some(header))
    }

    fn checked_indexes(&mut self, mended: &BTreeMap<SegmentId, Mended>) -> Result<()> {
        // Where records were lost, entries may point to what is none any more. That goes with the data.
        for (id, mended) in mended {
            if mended.is_whole() && self.log.read_index(*id)?.is_none() {
                // Of a segment that is a note now, and whose index says nothing: there is nothing to look for in it.
                if self.size_of(&format!("{id}.idx")) > 0 {
                    self.index_step(*id, "index of a missing segment".to_owned(), Vec::new());
                }
            } else if let Some(index) = self.index_of_mended(*id, mended)? {
                self.index_step(*id, "index of a mended segment".to_owned(), index.encode());
            }
        }
        for segment in &self.seen.segments {
            let wrong = matches!(segment.index.state, IndexState::Stale | IndexState::Damaged);
            let done = mended.contains_key(&segment.id);
            if done || !wrong || !self.wants(Part::Indexes, Some(segment.id), true) {
                continue;
            }
            // Over damage that stays, or in the active segment, none is right.
            let made = make_index(self.log, segment.id)?.filter(|made| made.sealed && !made.damaged);
            if let Some(mut made) = made {
                made.index.end = self.told_end(segment.id, made.index.end)?;
                self.index_step(segment.id, "index".to_owned(), made.index.encode());
            }
        }
        Ok(())
    }

    /// The index that a mended segment should have, if it has one and that must change.
    fn index_of_mended(&self, id: SegmentId, mended: &Mended) -> Result<Option<Index>> {
        let report = self.seen.segments.iter().find(|segment| segment.id == id);
        // One that says other than the segment did before is not to be mended: it would be made again by the next repair.
        let is_stale = report.is_some_and(|report| report.index.state == IndexState::Stale);
        let Some(mut index) = self.log.read_index(id)?.filter(|_| !is_stale) else {
            let (Some(report), Some(header)) = (report, self.rebuilt_header(id)?) else { return Ok(None) };
            if !self.has(&format!("{id}.idx")) || !report.sealed {
                return Ok(None);
            }
            // Without an entry: readers walk.
            let mut index = Index::new(header);
            index.end = match mended.closed_at {
                Some(end) => end,
                None => self.told_end(id, report.bytes)?,
            };
            index.last_marker = report.last_marker.0;
            index.latest = report.times.map_or(index.latest, |(_, to)| index.latest.max(to));
            return Ok(Some(index));
        };
        let before = index.clone();
        let gone = |offset: u64| mended.holes.iter().any(|(from, to)| *from < offset && offset < *to);
        index.entries.retain(|entry| !gone(entry.offset));
        index.end = mended.closed_at.unwrap_or(index.end);
        Ok((index != before).then_some(index))
    }

    /// Where a segment ends that has been walked to `end`: the commit that closes it does not count, as the header of the
    /// next one says, or will say again.
    fn told_end(&self, id: SegmentId, end: u64) -> Result<u64> {
        let next = id.next().map_or(Ok(None), |next| self.known_header(next))?;
        let told = next.map(|next| next.previous_end).filter(|told| *told >= SEGMENT_HEADER as u64);
        Ok(told.map_or(end, |told| end.min(told)))
    }

    fn checked_metastore(&mut self) {
        let problem = self.seen.findings.iter().find(|finding| {
            finding.kind == FindingKind::Metastore
                || finding.kind == FindingKind::Leftover && finding.file == METASTORE
        });
        let Some(finding) = problem.filter(|_| self.wants(Part::Metastore, None, true)) else { return };
        let mut settings = self.log.settings().clone();
        settings.generation = settings.generation.saturating_add(1 << 32);
        let step = Step {
            part: Part::Metastore,
            file: METASTORE.to_owned(),
            from: 0,
            to: finding.to,
            what: finding.detail.clone(),
            deed: format!(
                "write: log {}, segments of {} B, {}",
                settings.log, settings.segment_size, settings.durability
            ),
            lost: Some(0),
            safe: true,
            moves_ids_after: None,
        };
        let bytes = settings.encode_file();
        self.step(step, if self.has(METASTORE) { Deed::Replace(bytes) } else { Deed::Make(bytes) });
    }
}

/// What becomes of a segment's bytes: what its index must know.
#[derive(Default)]
struct Mended {
    /// Where no commit begins any more, but at the beginning.
    holes: Vec<(u64, u64)>,
    /// Where it ends, if a note closes it.
    closed_at: Option<u64>,
}

impl Mended {
    fn is_whole(&self) -> bool {
        self.holes == [(SEGMENT_HEADER as u64, u64::MAX)]
    }

    /// Nothing of it is left but a note.
    fn whole(len: usize) -> Mended {
        Mended { holes: vec![(SEGMENT_HEADER as u64, u64::MAX)], closed_at: Some(len as u64) }
    }
}

/// What stands in the place of a hole, and says how many records were lost there.
struct Note {
    bytes: Vec<u8>,
    /// The segment ends with it.
    closes: bool,
}

/// What is longer is not filled with zeros: what a long commit holds behind its records nobody reads.
const FILLED: u64 = 256 * 1024;

/// The note for a hole in a file of so many bytes; `None` where there is no room for one.
fn lost_here(place: Place, hole: &Hole, file: u64, is_last: bool) -> Option<Note> {
    let lost = hole.lost?;
    let commit = if hole.inside { 0 } else { COMMIT_HEADER };
    let record = if !hole.inside && lost == 0 { 0 } else { RECORD_HEADER };
    let room = hole.to.checked_sub(hole.from)?;
    // A segment that is cut short ends with the note; so nobody's word for how long it was makes it that long.
    let closes = is_last && !hole.inside && (hole.to > file || !room.is_multiple_of(ALIGN as u64));
    let span = if closes { (commit + record) as u64 } else { room };
    if !span.is_multiple_of(ALIGN as u64) || span < (commit + record) as u64 || span > room {
        return None;
    }
    let is_filled = span <= FILLED || hole.kind == HoleKind::Payload;
    if is_filled && span > FILLED && hole.to > file {
        return None;
    }
    let len = if is_filled { span } else { (commit + record) as u64 };
    let mut bytes = vec![0; usize::try_from(len).ok()?];
    if !hole.inside {
        let header = CommitHeader {
            len: u32::try_from(span - COMMIT_HEADER as u64).ok()?,
            records: lost,
            first_marker: hole.after.checked_add(1).filter(|first| first.checked_add(lost).is_some())?,
            durable: hole.from,
            closing: closes,
        };
        bytes[..COMMIT_HEADER].copy_from_slice(&header.encode(place, hole.from));
    }
    if record > 0 {
        let payload = &bytes[commit + record..];
        let header = RecordHeader {
            len: u32::try_from(payload.len()).ok()?,
            time: Timestamp { seconds: lost, micros: 0 },
            kind: kind::LOST,
            compressed: false,
            payload_crc: crc32fast::hash(payload),
        };
        let at = hole.from + commit as u64;
        bytes[commit..commit + record].copy_from_slice(&header.encode(place, at));
    }
    Some(Note { bytes, closes })
}

/// The steps of a plan that change one file several times are one deed: these files are done with once.
pub(super) fn is_told_with_another(deed: &Deed) -> bool {
    matches!(deed, Deed::Patch(patches, None) if patches.is_empty())
}

/// What is left when the plan is carried out, of the kinds that only a checksummed log has.
pub(super) fn mended(finding: &Finding, made: &BTreeSet<String>) -> bool {
    match (finding.kind, finding.segment) {
        (FindingKind::Missing, Some(id)) => made.contains(&id.to_string()),
        _ => false,
    }
}

fn note_of(lost: u32) -> String {
    let messages = if lost == 1 { "message" } else { "messages" };
    format!("put a note of {lost} lost {messages} in its place")
}
