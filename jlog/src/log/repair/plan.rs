//! From what an inspection found to the steps that mend it. Nothing is changed here.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::checked_plan;
use super::{Deed, Holes, LostPlace, Options, Part, RepairPlan, Step, changed, digest};
use crate::error::Result;
use crate::id::{Marker, RecordId, SegmentId};
use crate::io::{File, Open};
use crate::log::inspect::{Finding, FindingKind, Inspection, SegmentReport, misplaced, read_pre_commit};
use crate::log::names::{METASTORE, PRE_COMMIT, Subscriber, checkpoint_path};
use crate::log::shared::{Shared, Sight};
use crate::log::{Log, checkpoints};
use crate::record::classic::{
    CHECKPOINT_LEN, Metastore, PRE_COMMIT_POINTER, encode_checkpoint, encode_index,
};
use crate::record::walk::{Extent, Step as Walked, Walk};
use crate::segment::{IndexState, SegmentSource};

/// Plans the repair of a log that was inspected. It changes nothing.
pub fn plan(log: &Log, seen: &Inspection, options: &Options) -> Result<RepairPlan> {
    let mut planner =
        Planner { log: &log.shared, seen, options, plan: RepairPlan::default(), cuts: BTreeMap::new() };
    planner.plan.options = options.clone();
    // Segments decide where checkpoints and indexes go; checkpoints are moved first, so that a repair broken off
    // between the two delivers twice what it would otherwise skip.
    if log.shared.checked().is_some() {
        planner.checked()?;
    } else {
        planner.gather_cuts();
        planner.checkpoints()?;
        planner.data();
        planner.indexes()?;
        planner.metastore();
        planner.pre_commit()?;
    }
    planner.leave_the_rest();
    planner.note_files()?;
    Ok(planner.plan)
}

pub(super) struct Planner<'a> {
    pub(super) log: &'a Shared,
    pub(super) seen: &'a Inspection,
    pub(super) options: &'a Options,
    pub(super) plan: RepairPlan,
    /// The damaged bytes to be cut out of each segment.
    cuts: BTreeMap<SegmentId, Vec<(u64, u64)>>,
}

impl Planner<'_> {
    pub(super) fn wants(&self, part: Part, segment: Option<SegmentId>, safe: bool) -> bool {
        let part_asked = self.options.only.is_empty() || self.options.only.contains(&part);
        let segments = &self.options.segments;
        let segment_asked = segments.is_empty() || segment.is_none_or(|id| segments.contains(&id));
        part_asked && segment_asked && (safe || !self.options.safe_only)
    }

    pub(super) fn step(&mut self, step: Step, deed: Deed) {
        self.plan.steps.push(step);
        self.plan.deeds.push(deed);
    }

    /// Whether cutting these bytes loses no message: they are too few for one.
    fn is_scrap(&self, from: u64, to: u64) -> bool {
        to - from < self.log.codec().header_len() as u64
    }

    fn gather_cuts(&mut self) {
        if self.options.holes == Holes::Leave {
            return;
        }
        for finding in self.seen.findings.iter().filter(|finding| finding.kind == FindingKind::Damage) {
            let safe = self.is_scrap(finding.from, finding.to);
            if let Some(id) = finding.segment.filter(|id| self.wants(Part::Data, Some(*id), safe)) {
                self.cuts.entry(id).or_default().push((finding.from, finding.to));
            }
        }
    }

    fn checkpoints(&mut self) -> Result<()> {
        for subscriber in &self.seen.subscribers {
            let stored = checkpoints::read(self.log, &checkpoint_path(self.log.dir(), &subscriber.name))?;
            let (now, len) = match stored {
                checkpoints::Stored::At(id, len) => (Some(id), len),
                checkpoints::Stored::Short(len) => (None, len),
                checkpoints::Stored::Nobody => continue,
            };
            let (to, what) = match now {
                None => (self.lost_place(None)?, "unreadable checkpoint"),
                Some(id) if misplaced(id, &self.seen.segments, self.active()).is_some() => {
                    (self.lost_place(Some(id))?, "checkpoint outside the log")
                }
                Some(id) if self.cuts.contains_key(&id.segment) => {
                    (self.moved(id)?, "checkpoint behind damage")
                }
                Some(id) => (id, "checkpoint of a wrong length"),
            };
            // A checkpoint that follows the ids of its segment is part of cutting the data.
            let part = if what == "checkpoint behind damage" { Part::Data } else { Part::Checkpoints };
            if (now == Some(to) && len == CHECKPOINT_LEN as u64) || !self.wants(part, Some(to.segment), true)
            {
                continue;
            }
            let bytes = encode_checkpoint(to, self.log.codec().order).to_vec();
            self.step(moving(&subscriber.name, now, to, len, what), Deed::Overwrite(bytes));
        }
        Ok(())
    }

    /// The active segment as it will be: the one that is, or the one behind the last where the metastore names one
    /// further on.
    fn active(&self) -> SegmentId {
        let last = self.seen.segments.last().map(|segment| segment.id);
        match last.and_then(SegmentId::next) {
            Some(next) => self.seen.active.min(next),
            None => self.seen.active,
        }
    }

    /// Where a checkpoint goes that names no place in the log.
    pub(super) fn lost_place(&self, id: Option<RecordId>) -> Result<RecordId> {
        let first = self.seen.segments.first().map(|segment| segment.id).unwrap_or_else(|| self.active());
        let last = self.seen.segments.last();
        let end = match last {
            Some(segment) => self.moved(RecordId { segment: segment.id, marker: segment.last_marker })?,
            None => checkpoints::start_of(first),
        };
        Ok(match (self.options.lost_place, id) {
            (LostPlace::End, _) | (LostPlace::After, None) => end,
            (LostPlace::Before, None) => checkpoints::start_of(first),
            (place, Some(id)) => match self.seen.segments.iter().find(|segment| segment.id > id.segment) {
                // Its segment is gone: everything in the next one is unread.
                Some(next) => checkpoints::start_of(next.id),
                // It is beyond the end. What was lost there may have been replaced by what was written since.
                None if place == LostPlace::Before => checkpoints::start_of(end.segment),
                None => end,
            },
        })
    }

    /// Where a checkpoint goes when damage is cut out of its segment, and ids move down.
    fn moved(&self, id: RecordId) -> Result<RecordId> {
        let Some(cuts) = self.cuts.get(&id.segment) else { return Ok(id) };
        let Some(mut walk) = self.walk(id.segment)? else { return Ok(id) };
        let header = self.log.codec().header_len() as u64;
        // How many of the records up to `id` stay; and how many of these at least, if as many were lost as fit.
        let (mut kept, mut sure, mut slack, mut unknown) = (0u32, 0u32, 0u32, false);
        loop {
            match walk.step()? {
                Walked::Record(found) if found.marker > id.marker.0 => break,
                Walked::Record(found) => {
                    if cut_at(cuts, found.offset).is_none() {
                        kept += 1;
                        sure += u32::from(!unknown);
                    }
                }
                Walked::Hole(hole) if hole.after >= id.marker.0 => break,
                Walked::Hole(hole) => {
                    if hole.lost.is_none() {
                        unknown = true;
                        slack = slack.saturating_add(
                            u32::try_from((hole.to - hole.from) / header).unwrap_or(u32::MAX),
                        );
                    }
                }
                Walked::End(_) => break,
            }
        }
        let marker = match self.options.lost_place {
            LostPlace::Before if unknown => kept.saturating_sub(slack.saturating_sub(1)).max(sure),
            _ => kept,
        };
        Ok(RecordId { segment: id.segment, marker: Marker(marker) })
    }

    pub(super) fn walk(&self, id: SegmentId) -> Result<Option<Walk<SegmentSource>>> {
        let Some(mut walk) = self.log.walk(id, Sight::Written)? else { return Ok(None) };
        walk.refresh(Extent { sealed: id < self.active(), ..walk.extent() });
        Ok(Some(walk))
    }

    fn data(&mut self) {
        for (id, cuts) in &self.cuts {
            let findings: Vec<_> = self
                .seen
                .findings
                .iter()
                .filter(|finding| {
                    finding.kind == FindingKind::Damage
                        && finding.segment == Some(*id)
                        && cut_at(cuts, finding.from).is_some()
                })
                .collect();
            for (n, finding) in findings.iter().enumerate() {
                let segment = self.seen.segments.iter().find(|segment| segment.id == *id);
                let goes_on = segment.is_some_and(|segment| finding.to < segment.bytes);
                let step = Step {
                    part: Part::Data,
                    file: id.to_string(),
                    from: finding.from,
                    to: finding.to,
                    what: "damage".to_owned(),
                    deed: format!("cut {} B", finding.to - finding.from),
                    lost: if self.is_scrap(finding.from, finding.to) { Some(0) } else { finding.lost },
                    safe: self.is_scrap(finding.from, finding.to),
                    moves_ids_after: goes_on.then(|| match finding.after {
                        Some(after) if after.segment == *id => after,
                        _ => checkpoints::start_of(*id),
                    }),
                };
                // One deed for the whole file, with its first step; the others tell what it does.
                let deed = if n == 0 { cuts.clone() } else { Vec::new() };
                self.plan.steps.push(step);
                self.plan.deeds.push(Deed::Cut(deed));
            }
        }
        let torn = self.seen.findings.iter().find(|finding| finding.kind == FindingKind::Torn);
        let torn = torn.filter(|finding| self.wants(Part::Data, finding.segment, true)).cloned();
        if let Some(finding) = torn {
            let step = cutting_off(&finding);
            // Where the segment is written anew anyway, its end goes with the rest.
            let cut = finding.segment.and_then(|id| self.cuts.get_mut(&id));
            let deed = match cut {
                Some(cuts) => {
                    cuts.push((finding.from, finding.to));
                    let all = cuts.clone();
                    let whole = self.plan.deeds.iter_mut().zip(&self.plan.steps);
                    for (deed, _) in whole.filter(|(deed, other)| {
                        other.file == step.file && matches!(deed, Deed::Cut(cuts) if !cuts.is_empty())
                    }) {
                        *deed = Deed::Cut(all.clone());
                    }
                    Deed::Cut(Vec::new())
                }
                None => Deed::Truncate(finding.from),
            };
            self.step(step, deed);
        }
    }

    fn indexes(&mut self) -> Result<()> {
        let seen = self.seen;
        for segment in &seen.segments {
            let wrong = matches!(segment.index.state, IndexState::Stale | IndexState::Damaged);
            let moved = self.cuts.contains_key(&segment.id) && segment.index.state != IndexState::Missing;
            // An index must never outlive the bytes it was made from.
            let wanted = moved || (wrong && self.wants(Part::Indexes, Some(segment.id), true));
            if !wanted {
                continue;
            }
            // Over damage that stays no index is right: the one that is there counts what the damage hides.
            let Some(offsets) = self.offsets_after_repair(segment)? else { continue };
            let bytes = encode_index(&offsets, segment.sealed, self.log.codec().order);
            let what = format!("index {} → {}", segment.index.entries, offsets.len());
            self.index_step(segment.id, what, bytes);
        }
        Ok(())
    }

    pub(super) fn index_step(&mut self, id: SegmentId, what: String, bytes: Vec<u8>) {
        let file = format!("{id}.idx");
        let step = Step {
            part: Part::Indexes,
            from: 0,
            to: self.size_of(&file),
            file,
            what,
            deed: "rebuild".to_owned(),
            lost: Some(0),
            safe: true,
            moves_ids_after: None,
        };
        self.step(step, Deed::Replace(bytes));
    }

    /// The offsets of a segment's records as they will be; `None` if damage is left in it.
    fn offsets_after_repair(&self, segment: &SegmentReport) -> Result<Option<Vec<u64>>> {
        let Some(mut walk) = self.walk(segment.id)? else { return Ok(None) };
        let none = Vec::new();
        let cuts = self.cuts.get(&segment.id).unwrap_or(&none);
        let (mut offsets, mut removed) = (Vec::new(), 0);
        loop {
            match walk.step()? {
                Walked::Record(found) => match cut_at(cuts, found.offset) {
                    Some((from, to)) => removed += to - from,
                    None => offsets.push(found.offset - removed),
                },
                Walked::Hole(hole) if cut_at(cuts, hole.from).is_some() => removed += hole.to - hole.from,
                Walked::Hole(_) => return Ok(None),
                Walked::End(_) => return Ok(Some(offsets)),
            }
        }
    }

    fn metastore(&mut self) {
        let problem = self.seen.findings.iter().find(|finding| finding.kind == FindingKind::Metastore);
        if let Some(finding) = problem.filter(|_| self.wants(Part::Metastore, None, true)) {
            let meta = Metastore { active: self.active(), ..self.seen.metastore };
            let Metastore { active, unit_limit, safety, .. } = meta;
            let step = Step {
                part: Part::Metastore,
                file: METASTORE.to_owned(),
                from: 0,
                to: finding.to,
                what: finding.detail.clone(),
                deed: format!("write: active segment {active}, segments of {unit_limit} B, {safety}"),
                lost: Some(0),
                safe: true,
                moves_ids_after: None,
            };
            let bytes = meta.encode();
            self.step(step, if self.has(METASTORE) { Deed::Overwrite(bytes) } else { Deed::Make(bytes) });
        } else if problem.is_some() {
            return;
        }
        // An empty active segment says the same as none, and is what the next writer would make. Only in a log that
        // nobody has written to yet there is none.
        let id = self.active();
        let there = self.seen.segments.iter().any(|segment| segment.id == id);
        if there || id == SegmentId(0) || !self.wants(Part::Metastore, Some(id), true) {
            return;
        }
        let step = Step {
            part: Part::Metastore,
            file: id.to_string(),
            from: 0,
            to: 0,
            what: "the active segment is missing".to_owned(),
            deed: "make an empty one".to_owned(),
            lost: None,
            safe: true,
            moves_ids_after: None,
        };
        self.step(step, Deed::Make(Vec::new()));
        if self.has(&format!("{id}.idx")) {
            self.index_step(id, "index without its segment".to_owned(), Vec::new());
        }
    }

    fn pre_commit(&mut self) -> Result<()> {
        let problem = self.seen.findings.iter().find(|finding| finding.kind == FindingKind::PreCommit);
        let Some(finding) = problem.filter(|_| self.wants(Part::PreCommit, None, true)) else {
            return Ok(());
        };
        let Some((contents, size)) = read_pre_commit(self.log)? else { return Ok(()) };
        let size = usize::try_from(size).unwrap_or(usize::MAX).max(PRE_COMMIT_POINTER);
        let mut bytes = vec![0; PRE_COMMIT_POINTER];
        let used = u32::try_from(contents.bytes.len()).unwrap_or(u32::MAX);
        self.log.codec().order.put_u32(&mut bytes, used);
        bytes.extend_from_slice(&contents.bytes);
        bytes.resize(size, 0);
        let step = Step {
            part: Part::PreCommit,
            file: PRE_COMMIT.to_owned(),
            from: finding.from,
            to: finding.to,
            what: finding.detail.clone(),
            deed: format!("keep its {} whole messages", contents.records),
            lost: None,
            safe: true,
            moves_ids_after: None,
        };
        self.step(step, Deed::Replace(bytes));
        Ok(())
    }

    fn leave_the_rest(&mut self) {
        let steps = &self.plan.steps;
        let files: HashSet<_> = steps.iter().map(|step| step.file.as_str()).collect();
        let places: HashSet<_> = steps.iter().map(|step| (step.file.as_str(), step.from)).collect();
        let settled = steps.iter().any(|step| step.part == Part::Metastore);
        let made: BTreeSet<_> = steps.iter().map(|step| step.file.clone()).collect();
        let last = self.seen.segments.last().map(|segment| segment.id);
        let mended = |finding: &Finding| match finding.kind {
            // The active one is made, or the metastore names another.
            FindingKind::Missing if self.log.checked().is_some() => checked_plan::mended(finding, &made),
            FindingKind::Missing => finding.segment > last && settled,
            FindingKind::Damage => places.contains(&(finding.file.as_str(), finding.from)),
            _ => files.contains(finding.file.as_str()),
        };
        self.plan.left = self.seen.problems().filter(|finding| !mended(finding)).cloned().collect();
    }

    /// Notes what each file is now, so that nothing is done to one that has changed meanwhile.
    fn note_files(&mut self) -> Result<()> {
        for step in &self.plan.steps {
            if self.plan.planned_on.contains_key(&step.file) {
                continue;
            }
            let path = self.log.dir().join(&step.file);
            let file = File::open_existing(&**self.log.disk(), &path, Open::Read)?;
            let now = file.as_ref().map(digest).transpose()?;
            let segment = self.seen.segments.iter().find(|segment| segment.id.to_string() == step.file);
            if segment.is_some_and(|segment| now.is_none_or(|(len, _)| len != segment.file_bytes)) {
                return Err(changed(&path));
            }
            self.plan.planned_on.insert(step.file.clone(), now);
        }
        let kept = self.plan.planned_on.values().flatten().map(|(len, _)| len).sum();
        self.plan.kept_bytes = if self.options.no_undo { 0 } else { kept };
        Ok(())
    }

    pub(super) fn has(&self, file: &str) -> bool {
        self.log.disk().info(&self.log.dir().join(file), false).is_ok()
    }

    pub(super) fn size_of(&self, file: &str) -> u64 {
        self.log.disk().info(&self.log.dir().join(file), false).map_or(0, |info| info.len)
    }
}

/// The step that moves a subscriber's checkpoint, whose file has so many bytes.
pub(super) fn moving(name: &Subscriber, from: Option<RecordId>, to: RecordId, len: u64, what: &str) -> Step {
    let from = from.map_or_else(|| "nowhere".to_owned(), |id| id.to_string());
    Step {
        part: Part::Checkpoints,
        file: name.file_name().to_string_lossy().into_owned(),
        from: 0,
        to: len,
        what: what.to_owned(),
        deed: format!("move \"{name}\" from {from} to {to}"),
        lost: Some(0),
        safe: true,
        moves_ids_after: None,
    }
}

/// The step that cuts a torn end off.
pub(super) fn cutting_off(torn: &Finding) -> Step {
    Step {
        part: Part::Data,
        file: torn.file.clone(),
        from: torn.from,
        to: torn.to,
        what: "torn end".to_owned(),
        deed: format!("cut {} B", torn.to - torn.from),
        lost: None,
        safe: true,
        moves_ids_after: None,
    }
}

/// The cut that begins at this offset, if one does. Cuts ascend.
fn cut_at(cuts: &[(u64, u64)], offset: u64) -> Option<(u64, u64)> {
    cuts.binary_search_by_key(&offset, |(from, _)| *from).ok().map(|slot| cuts[slot])
}
