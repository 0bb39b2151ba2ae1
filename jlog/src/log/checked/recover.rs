//! What an open for writing does with what it finds at the end of the log: a decision table, and its execution.
//!
//! It reads one segment, the last one, whatever the size of the log. It can be broken off at any instant and begun
//! again: each step leaves a log that says the same, or more clearly.

use std::sync::Arc;

use super::control::{Control, Mark};
use super::make::{self, Ahead};
use super::writer::Active;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{SegmentId, Timestamp};
use crate::io::{File, Open};
use crate::log::checkpoints;
use crate::log::kept;
use crate::log::shared::Shared;
use crate::log::writer::{Recovery, data_mode};
use crate::record::CheckedWalk;
use crate::record::checked::{SEGMENT_HEADER, SegmentHeader};
use crate::record::index::Index;
use crate::record::walk::{Ending, Extent, HoleKind, Source, Step};
use crate::segment::SegmentSource;

/// What was found of the last segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    /// Whether its own header can be used: it is sound, and this segment's.
    header: HeaderSeen,
    /// Bytes that were on the disk once are damaged.
    damaged: bool,
    /// It ends with the commit that closes it; its successor is not there.
    closed: bool,
    /// It ends with bytes that are not all zeros and no commit.
    torn: bool,
    /// A sync has failed, or was under way when its process died: the kernel's word for what is written is no good.
    doubted: bool,
    /// A subscriber has read beyond its end: ids behind it must not be given twice.
    read_beyond: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HeaderSeen {
    Sound,
    /// Damaged, or another segment's.
    Unusable,
}

/// Where writing goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GoOn {
    /// Behind the last record there is.
    Here,
    /// In a new segment; the last one is closed with what is sound in it.
    Next,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Decision {
    /// The torn end is kept aside and cut off first.
    cut: bool,
    go_on: GoOn,
}

/// The decision table. The first row that fits decides.
///
/// ```text
///   header      damaged  closed  doubted or read beyond     cut            go on
///   unusable                                                no             next: nothing in it can be placed
///   sound       yes                                         if torn        next: never build upon damage
///   sound       no       yes                                if torn        next: its writer was about to
///   sound       no       no      yes                        if torn        next: fresh blocks, fresh ids
///   sound       no       no      no                         if torn        here
/// ```
fn decide(seen: Seen) -> Decision {
    let go_on = match seen.header {
        HeaderSeen::Unusable => return Decision { cut: false, go_on: GoOn::Next },
        HeaderSeen::Sound if seen.damaged => GoOn::Next,
        HeaderSeen::Sound if seen.closed => GoOn::Next,
        HeaderSeen::Sound if seen.doubted || seen.read_beyond => GoOn::Next,
        HeaderSeen::Sound => GoOn::Here,
    };
    Decision { cut: seen.torn, go_on }
}

/// What else is known of where the log once reached: from its subscribers and the control file.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Reach {
    /// The last segment that anything tells of.
    segment: SegmentId,
    /// The last record of that segment that a subscriber is done with.
    read: u32,
}

impl Reach {
    fn of(log: &Shared, control: Option<&Control>) -> Result<Reach> {
        let mut reach = Reach::default();
        let mut tell = |segment: SegmentId, marker: u32| {
            let now = (segment, if segment == reach.segment { marker.max(reach.read) } else { marker });
            if segment >= reach.segment {
                (reach.segment, reach.read) = now;
            }
        };
        for (_, checkpoint) in checkpoints::all(log, &log.listing()?)? {
            if let Some(id) = checkpoint {
                tell(id.segment, id.marker.0);
            }
        }
        if let Some(control) = control {
            tell(control.durable.segment, 0);
        }
        Ok(reach)
    }
}

/// Brings the end of the log in order, and opens it there. The caller holds the lock of the control file.
pub(crate) fn take_over(
    log: &Shared,
    control: Option<&Control>,
    room: bool,
    recovery: &mut Recovery,
) -> Result<Active> {
    // Whoever made the last segment may have died before its name was on the disk; it is appended to from now on.
    checkpoints::sync_names(log)?;
    let listing = log.listing()?;
    let reach = Reach::of(log, control)?;
    let Some(last) = listing.last_segment() else {
        // A log that was written to has had segments: what they were called is not given again.
        let used = control.is_some_and(|control| control.term > 0) || reach.segment > SegmentId(0);
        let id = if used { log.next_segment(reach.segment)? } else { SegmentId(0) };
        return first(log, id, control, room);
    };
    // After a boot the kernel remembers nothing that could be doubted.
    let doubted = control.is_some_and(|control| log.is_of_now(control) && control.is_doubted());
    let (data, lost) = open_settled(log, last)?;
    let data = Arc::new(data);
    let survey = Survey::of(log, last, &data, control, reach)?;

    let seen = Seen { doubted: doubted || lost, ..survey.seen };
    let decision = decide(seen);
    if seen.damaged || seen.header == HeaderSeen::Unusable {
        recovery.damaged = Some(last);
    }
    if decision.cut {
        recovery.torn = Some((survey.mark.id(), survey.torn_end - survey.mark.end));
        cut(log, last, &data, survey.mark.end, survey.torn_end)?;
    }
    let active = Active::new(last, data, survey.index);
    match decision.go_on {
        GoOn::Here => Ok(active),
        GoOn::Next => {
            let id = log.next_segment(last.max(reach.segment))?;
            if seen.header == HeaderSeen::Sound && !seen.closed && !seen.damaged {
                // It explains itself, where that can be had; its successor says the same.
                let _ = active.close(0).and_then(|()| active.data.sync());
            }
            let told = match active.id.next() == Some(id) {
                true if survey.certain => active.mark(),
                true => Mark::default(),
                false => told_of_missing(control, id),
            };
            active.successor(log, id, room, told)
        }
    }
}

fn first(log: &Shared, id: SegmentId, control: Option<&Control>, room: bool) -> Result<Active> {
    let lost = told_of_missing(control, id);
    let header = SegmentHeader {
        created: log.settings().created,
        previous_end: lost.end,
        previous_marker: lost.marker,
        ..SegmentHeader::new(log.identity(), id.0)
    };
    make_segment(log, header, room)
}

/// What the control file knows of the segment before this one, which is not there any more.
fn told_of_missing(control: Option<&Control>, id: SegmentId) -> Mark {
    let durable = control.map(|control| control.durable).unwrap_or_default();
    if durable.segment.next() == Some(id) { durable } else { Mark::default() }
}

/// Makes the segment of this header, and opens it.
pub(crate) fn make_segment(log: &Shared, header: SegmentHeader, room: bool) -> Result<Active> {
    let room = room.then_some(u64::from(log.current_settings()?.segment_size));
    let none = Ahead::default();
    let ahead = log.checked().map_or(&none, |checked| &checked.ahead);
    let (file, header) = make::make(&**log.disk(), log.dir(), header, room, ahead, data_mode(log)?)?;
    log.saw(SegmentId(header.segment));
    Ok(Active::new(SegmentId(header.segment), Arc::new(file), Index::new(header)))
}

/// Opens the last segment, and makes the kernel show what the disk has of it: after a failed sync, which may have been
/// another process's, these differ. Also tells whether this very sync has failed.
fn open_settled(log: &Shared, id: SegmentId) -> Result<(File, bool)> {
    let path = log.data_path(id);
    let open = || File::open(&**log.disk(), &path, Open::ReadWrite);
    let file = open()?;
    let mut header = [0; SEGMENT_HEADER];
    let got = file.pread_up_to(&mut header, 0)?;
    if let Some(why) = SegmentHeader::unwritable(&header[..got]) {
        return Err(Error::new(ErrorKind::Unsupported, "write to the segment", why).at(&path));
    }
    match file.drop_cache() {
        Ok(()) => Ok((file, false)),
        Err(error) if error.kind() == ErrorKind::Io => {
            // What nobody had synced is lost, and still in memory: it must not be taken for what the disk has.
            let file = open()?;
            file.drop_cache()?;
            Ok((file, true))
        }
        Err(error) => Err(error),
    }
}

/// Keeps aside what was torn, and cuts it off: nothing is appended before that is on the disk.
fn cut(log: &Shared, id: SegmentId, data: &File, from: u64, to: u64) -> Result<()> {
    if crate::planted("uncut_tail") {
        return Ok(());
    }
    kept::keep_torn(log, &id.to_string(), data, from, to)?;
    data.truncate(from)?;
    data.sync()
}

/// What a walk through the last segment has found.
struct Survey {
    seen: Seen,
    mark: Mark,
    /// Where the bytes end that are to be kept aside.
    torn_end: u64,
    index: Index,
    /// Whether it is known how many records it has, or had.
    certain: bool,
}

impl Survey {
    fn of(
        log: &Shared,
        id: SegmentId,
        data: &Arc<File>,
        control: Option<&Control>,
        reach: Reach,
    ) -> Result<Survey> {
        let size = data.size()?;
        let durable = control.map(|control| control.durable).filter(|durable| durable.segment == id);
        let read = if reach.segment == id { reach.read } else { 0 };
        // In a log whose records are seen before they are durable, reading one does not prove that it was.
        let proven_marker = if log.settings().durability.is_synced() { read } else { 0 };
        let durable = durable.unwrap_or_default();
        let extent = Extent {
            end: size.max(durable.end),
            sealed: false,
            proven: durable.end,
            proven_marker: proven_marker.max(durable.marker),
            last: (durable.end > 0).then_some(durable.marker),
            settled: false,
        };
        let source = SegmentSource::new(log.disk(), Arc::clone(data), log.index_path(id), log.codec());
        let mut walk = CheckedWalk::new(source, log.identity(), id.0, extent);
        let Walked { index, damaged, unusable, certain, ending } = walk_through(&mut walk, log, id)?;
        let torn = matches!(ending, Ending::Torn { .. });
        let mark = Mark { segment: id, end: walk.position(), marker: walk.marker() };
        let torn_end = if torn { torn_end(&walk, data, mark.end, size)? } else { mark.end };
        let seen = Seen {
            header: if unusable { HeaderSeen::Unusable } else { HeaderSeen::Sound },
            damaged,
            closed: walk.is_closed(),
            torn,
            doubted: false,
            read_beyond: read > mark.marker || reach.segment > id,
        };
        Ok(Survey { seen, mark, torn_end, index, certain })
    }
}

/// What a walk from the start of a segment to its end has met.
pub(crate) struct Walked {
    pub(crate) index: Index,
    pub(crate) damaged: bool,
    /// Its header is damaged, or another segment's.
    unusable: bool,
    /// No number of records was assumed.
    certain: bool,
    pub(crate) ending: Ending,
}

/// Walks to the end, and takes notes for the index.
pub(crate) fn walk_through<S: Source>(
    walk: &mut CheckedWalk<S>,
    log: &Shared,
    id: SegmentId,
) -> Result<Walked> {
    // Where the segment has lost its own.
    let lost = SegmentHeader::new(log.identity(), id.0);
    let (mut damaged, mut unusable, mut certain) = (false, false, true);
    let mut index: Option<Index> = None;
    let mut latest = Timestamp::default();
    let ending = loop {
        let step = walk.step()?;
        let index = index.get_or_insert_with(|| Index::new(walk.header().copied().unwrap_or(lost)));
        match step {
            Step::Record(found) => {
                latest = latest.max(found.header.time);
                if walk.is_between_commits() {
                    index.commit(latest, walk.position(), walk.marker());
                }
            }
            Step::Hole(hole) => {
                unusable |= matches!(hole.kind, HoleKind::Foreign | HoleKind::Beginning);
                damaged |= !matches!(hole.kind, HoleKind::Repaired | HoleKind::Reclaimed);
                certain &= hole.lost.is_some();
                if walk.is_between_commits() {
                    index.commit(latest, walk.position(), walk.marker());
                }
            }
            Step::End(ending) => {
                index.commit(latest, walk.position(), walk.marker());
                break ending;
            }
        }
    };
    let index = index.unwrap_or_else(|| Index::new(lost));
    // A file that ends within its header may have had any number.
    let certain = certain && walk.extent().end > SEGMENT_HEADER as u64 - 1;
    Ok(Walked { index, damaged, unusable, certain, ending })
}

/// Where the bytes end that a crash has left torn: with the last commit that proves itself, or the last byte that is
/// not zero. In a segment used before, bytes that prove nothing are that life's.
fn torn_end<S: Source>(walk: &CheckedWalk<S>, data: &File, from: u64, size: u64) -> Result<u64> {
    let stray = walk.stray_end().unwrap_or(from);
    let recycled = walk.header().is_some_and(|header| header.recycled);
    if recycled {
        return Ok(stray.max(size.min(from + SEGMENT_HEADER as u64)));
    }
    Ok(kept::used_up_to(data, from, size)?.max(stray))
}

impl Active {
    /// A segment behind this one, durable and empty. The caller has made this one durable. What it says of the segment
    /// right before it is believed by all readers: so `told` is nothing where that is not certain. That segment is this one,
    /// unless some are missing between them.
    pub(crate) fn successor(&self, log: &Shared, id: SegmentId, room: bool, told: Mark) -> Result<Active> {
        let ours = &self.index;
        let between = if self.id.next() == Some(id) { 0 } else { u64::from(told.marker) };
        let records = u64::from(ours.last_marker).saturating_add(between);
        let header = SegmentHeader {
            created: ours.latest,
            records_before: ours.header.records_before.saturating_add(records),
            bytes_before: ours
                .header
                .bytes_before
                .saturating_add(ours.end.saturating_sub(SEGMENT_HEADER as u64)),
            latest_before: ours.latest,
            previous_end: told.end,
            previous_marker: told.marker,
            ..SegmentHeader::new(log.identity(), id.0)
        };
        if told == self.mark() {
            self.write_index(log)?;
        }
        make_segment(log, header, room)
    }

    /// An index is a cache: that it cannot be written is no reason to stop. On no account is it synced.
    fn write_index(&self, log: &Shared) -> Result<()> {
        let path = log.index_path(self.id);
        let written = File::open(&**log.disk(), &path, Open::Create(data_mode(log)?)).and_then(|file| {
            file.truncate(0)?;
            file.pwrite(&self.index.encode(), 0)
        });
        if written.is_err() {
            let _ = log.disk().remove(&path);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every combination, against the table written another way round: by what must never happen.
    #[test]
    fn every_combination_has_its_decision() {
        let flags = [false, true];
        let mut rows = 0;
        for header in [HeaderSeen::Sound, HeaderSeen::Unusable] {
            for n in 0..32 {
                let flag = |bit: usize| flags[(n >> bit) & 1];
                let seen = Seen {
                    header,
                    damaged: flag(0),
                    closed: flag(1),
                    torn: flag(2),
                    doubted: flag(3),
                    read_beyond: flag(4),
                };
                let decision = decide(seen);
                let sound = header == HeaderSeen::Sound;
                let untouched = !seen.damaged && !seen.closed && !seen.doubted && !seen.read_beyond;
                assert_eq!(decision.go_on == GoOn::Here, sound && untouched, "{seen:?}");
                assert_eq!(decision.cut, sound && seen.torn, "{seen:?}");
                rows += 1;
            }
        }
        assert_eq!(rows, 64);
    }
}
