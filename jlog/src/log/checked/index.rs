//! The index of a checksummed segment: made from its records, and compared with what is there.

use super::recover::{Walked, walk_through};
use crate::error::{Error, ErrorKind, Result};
use crate::id::SegmentId;
use crate::io::{File, Open};
use crate::log::shared::{Shared, Sight};
use crate::log::writer::data_mode;
use crate::record::index::Index;
use crate::record::walk::Walk;
use crate::segment::{IndexDetails, IndexState};

/// What a segment's own bytes say of it.
pub(crate) struct Made {
    pub(crate) index: Index,
    pub(crate) damaged: bool,
    pub(crate) sealed: bool,
}

/// Makes the index of a segment; `None` if it is not there.
pub(crate) fn of(log: &Shared, id: SegmentId) -> Result<Option<Made>> {
    let Some(Walk::Checked(mut walk)) = log.walk(id, Sight::Acknowledged)? else { return Ok(None) };
    let Walked { index, damaged, .. } = walk_through(&mut walk, log, id)?;
    Ok(Some(Made { index, damaged, sealed: walk.extent().sealed }))
}

/// How the index on the disk stands to the one the records make.
pub(crate) fn compare(log: &Shared, id: SegmentId, made: &Made) -> Result<IndexDetails> {
    // An empty file says no more than none: a repair leaves that where there is nothing to say.
    let there = log.disk().info(&log.index_path(id), false).is_ok_and(|info| info.len > 0);
    let found = log.read_index(id)?;
    let state = match &found {
        None if there => IndexState::Damaged,
        None => IndexState::Missing,
        Some(_) if !made.sealed => IndexState::Stale,
        Some(found) if fits(found, &made.index) => IndexState::Complete,
        Some(_) => IndexState::Stale,
    };
    let entries = found.as_ref().map_or(0, |found| u64::from(found.last_marker));
    Ok(IndexDetails { entries, closed: found.is_some(), state })
}

/// Whether all that an index says is so. It may have more or fewer entries than another of the same segment.
fn fits(found: &Index, made: &Index) -> bool {
    // The commit that closes the segment may or may not be counted.
    let ends = found.last_marker == made.last_marker && found.end <= made.end;
    let known = |entry: &crate::record::index::Entry| {
        made.before(entry.marker.saturating_add(1))
            .is_some_and(|near| near.offset <= entry.offset && near.marker <= entry.marker)
    };
    ends && found.entries.iter().all(known)
}

/// Writes the index of a finished segment anew.
pub(crate) fn build(log: &Shared, id: SegmentId) -> Result<()> {
    log.require_writable()?;
    let refused = |kind, what: &str| Err(Error::new(kind, "index a segment", what).at(&log.data_path(id)));
    let Some(made) = of(log, id)? else {
        return refused(ErrorKind::NoSuchRecord, "the log has no such segment");
    };
    if made.damaged {
        return refused(ErrorKind::Damaged, "it is damaged, and an index would hide that");
    }
    if !made.sealed {
        return refused(
            ErrorKind::Invalid,
            "it is being written; its writer makes the index when it is finished",
        );
    }
    let file = File::open(&**log.disk(), &log.index_path(id), Open::Create(data_mode(log)?))?;
    file.truncate(0)?;
    file.pwrite(&made.index.encode(), 0)
}
