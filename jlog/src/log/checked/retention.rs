//! What goes, beside what all have read: quotas, ages, and what is dropped unread because a policy says so.

use std::time::Duration;

use super::settings::{Retention, Settings, WhenFull};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{SegmentId, Timestamp};
use crate::io::File;
use crate::log::checkpoints;
use crate::log::names::Listing;
use crate::log::shared::Shared;

/// What may be removed: everything before `read` that all have read, and everything before `dropped`, read or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) read: SegmentId,
    pub(crate) dropped: SegmentId,
}

/// What may be removed now. `wanted` is the first segment that anybody wants; `None` where nobody subscribes.
pub(crate) fn limits(
    log: &Shared,
    listing: &Listing,
    wanted: Option<SegmentId>,
    retention: &Retention,
    active: SegmentId,
) -> Result<Limits> {
    let read = wanted.unwrap_or_default().min(active);
    let mut limits = Limits { read, dropped: SegmentId(0) };
    let newest = newest_time(log, active)?;
    if retention.keep_bytes.is_some() || retention.keep_for.is_some() {
        limits.read = held_back(log, listing, read, retention, newest)?;
    }
    if let Some(most) = retention.expire_after {
        for id in listing.segments.iter().copied().filter(|id| *id < active) {
            if !is_older(log, id, newest, most)? {
                break;
            }
            limits.dropped = SegmentId(id.0 + 1);
        }
    }
    Ok(limits)
}

/// The first segment that stays because the log is to keep so much, or for so long.
fn held_back(
    log: &Shared,
    listing: &Listing,
    read: SegmentId,
    retention: &Retention,
    newest: Timestamp,
) -> Result<SegmentId> {
    let mut total = bytes_of(log, listing);
    for id in listing.segments.iter().copied().filter(|id| *id < read) {
        let size = size_of(log, id);
        let enough = retention.keep_bytes.is_none_or(|keep| total.saturating_sub(size) >= keep);
        let old = match retention.keep_for {
            Some(keep) => is_older(log, id, newest, keep)?,
            None => true,
        };
        if !enough || !old {
            return Ok(id);
        }
        total -= size;
    }
    Ok(read)
}

/// The latest time of any record, as the active segment's header knows it.
fn newest_time(log: &Shared, active: SegmentId) -> Result<Timestamp> {
    // What another log's header says is no time of this one: then nothing is old.
    Ok(log.require_header(active).map(|header| header.latest_before).unwrap_or_default())
}

/// Whether all records of a finished segment are older than the newest of the log by so much.
fn is_older(log: &Shared, id: SegmentId, newest: Timestamp, than: Duration) -> Result<bool> {
    let Some(next) = id.next().and_then(|next| log.require_header(next).ok()) else { return Ok(false) };
    let age = newest.as_micros().saturating_sub(next.latest_before.as_micros());
    Ok(u128::from(age) > than.as_micros())
}

fn size_of(log: &Shared, id: SegmentId) -> u64 {
    log.disk().info(&log.data_path(id), false).map_or(0, |info| info.len)
}

fn bytes_of(log: &Shared, listing: &Listing) -> u64 {
    listing.segments.iter().map(|id| size_of(log, *id)).sum()
}

/// Whether there is room for one more segment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Room {
    Enough,
    /// Not before subscribers have moved on: ask again.
    Wait,
}

/// Sees to it that one more segment may be made: as the policy says, by an error, by waiting, or by dropping the oldest.
pub(crate) fn require_room(log: &Shared, settings: &Settings) -> Result<Room> {
    let retention = &settings.retention;
    if retention.quota.is_none() && retention.min_free.is_none() {
        return Ok(Room::Enough);
    }
    let need = u64::from(settings.segment_size);
    loop {
        let listing = log.listing()?;
        let Some(why) = full(log, &listing, retention, need) else { return Ok(Room::Enough) };
        // What all have read goes first, though it was to be kept for a while.
        if !checkpoints::prune_read(log)?.is_empty() {
            continue;
        }
        match retention.when_full {
            WhenFull::Block => return Ok(Room::Wait),
            WhenFull::DropOldest if listing.segments.len() > 1 => {
                checkpoints::drop_before(log, SegmentId(listing.segments[0].0 + 1))?;
            }
            WhenFull::Error | WhenFull::DropOldest => {
                return Err(Error::new(ErrorKind::NoSpace, "make the next segment", why).at(log.dir()));
            }
        }
    }
}

/// Why there is no room for so many bytes more, if there is none.
fn full(log: &Shared, listing: &Listing, retention: &Retention, need: u64) -> Option<String> {
    let used = bytes_of(log, listing);
    if let Some(quota) = retention.quota
        && used.saturating_add(need) > quota
    {
        return Some(format!(
            "the log has {used} bytes, and with {need} more its quota of {quota} is passed"
        ));
    }
    let least = retention.min_free?;
    // A file system that cannot say how much is free will say so when it is full.
    let free = log.disk().free_space(log.dir()).ok()?;
    // What the next segment will take is free, though the file system does not know that.
    let free = free.saturating_add(super::spare_bytes(&**log.disk(), log.dir()));
    (free < least.saturating_add(need))
        .then(|| format!("{free} bytes are free, and {least} have to stay free"))
}

/// Remembers, on the disk, that segments before `first` may be removed unread. The caller holds the metastore's lock.
pub(crate) fn note_dropped(metastore: &File, first: SegmentId) -> Result<()> {
    Settings::change_locked(metastore, |settings| {
        settings.dropped_before = settings.dropped_before.max(first);
    })
    .map(drop)
}
