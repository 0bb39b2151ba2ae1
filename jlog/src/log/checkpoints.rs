//! Checkpoints: where each subscriber is, and what may be deleted therefore.

use std::path::Path;

use super::names::{Listing, METASTORE, Subscriber, checkpoint_path};
use super::shared::Shared;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{Marker, RecordId, SegmentId};
use crate::io::{File, Open};
use crate::record::classic::{CHECKPOINT_LEN, Safety, decode_checkpoint, encode_checkpoint};

/// How many subscribers still want a segment: see [`Log::pending_readers`](crate::Log::pending_readers).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pending {
    /// The number of subscribers whose checkpoint lies in this segment or before it.
    pub readers: usize,
    /// The first segment that any subscriber still wants; `None` without subscribers.
    pub earliest: Option<SegmentId>,
}

/// What a checkpoint file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    /// There is no such file.
    Nobody,
    /// A checkpoint, and how long its file is (8 bytes).
    At(RecordId, u64),
    /// Fewer than 8 bytes: the file is being made at this moment, or is damaged.
    Short(u64),
}

/// Reads a checkpoint without a lock: it may change at any time, so it is read until it reads the same twice.
pub(crate) fn read(log: &Shared, path: &Path) -> Result<Stored> {
    let Some(file) = File::open_existing(&**log.disk(), path, Open::Read)? else { return Ok(Stored::Nobody) };
    let mut before = [0; CHECKPOINT_LEN];
    let mut got = file.pread_up_to(&mut before, 0)?;
    for _ in 0..8 {
        let mut again = [0; CHECKPOINT_LEN];
        let more = file.pread_up_to(&mut again, 0)?;
        if (got, before) == (more, again) {
            break;
        }
        (got, before) = (more, again);
    }
    Ok(match decode_checkpoint(&before[..got], log.codec().order) {
        Some(id) => Stored::At(id, file.size()?),
        None => Stored::Short(got as u64),
    })
}

/// The checkpoint of a subscriber, or the error that says why there is none.
pub(crate) fn of(log: &Shared, subscriber: &Subscriber) -> Result<RecordId> {
    let path = checkpoint_path(log.dir(), subscriber);
    match read(log, &path)? {
        Stored::At(id, _) => Ok(id),
        Stored::Nobody => Err(unknown(log, subscriber)),
        Stored::Short(len) => {
            let what = format!("it has {len} bytes, a checkpoint has {CHECKPOINT_LEN}");
            Err(Error::damaged("read the checkpoint", &path, 0, what))
        }
    }
}

pub(crate) fn unknown(log: &Shared, subscriber: &Subscriber) -> Error {
    let what = format!("the log has no subscriber \"{subscriber}\"; `jlog-inspect subscribers` lists them");
    Error::new(ErrorKind::UnknownSubscriber, "find the subscriber", what).at(log.dir())
}

/// Makes a checkpoint that must not exist. Durable when it returns, name and all.
pub(crate) fn create(log: &Shared, subscriber: &Subscriber, at: RecordId, mode: u32) -> Result<()> {
    let path = checkpoint_path(log.dir(), subscriber);
    let file = match File::open(&**log.disk(), &path, Open::CreateNew(mode)) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let what = format!("the log has a subscriber \"{subscriber}\" already");
            return Err(Error::new(ErrorKind::SubscriberExists, "add the subscriber", what).at(log.dir()));
        }
        outcome => outcome?,
    };
    let written = (|| {
        let _lock = file.lock()?;
        file.pwrite(&encode_checkpoint(at, log.codec().order), 0)?;
        file.sync()?;
        sync_names(log)
    })();
    if written.is_err() {
        // A checkpoint without its eight bytes would be damage: better none.
        let _ = log.disk().remove(&path);
    }
    written
}

/// Moves a checkpoint, and returns where it was. It is on disk when this returns if it leaves a segment behind, because
/// what is deleted must never outlive the checkpoint that allowed it; and at safety level safe.
fn set(log: &Shared, subscriber: &Subscriber, to: RecordId) -> Result<Option<RecordId>> {
    let path = checkpoint_path(log.dir(), subscriber);
    let Some(file) = File::open_existing(&**log.disk(), &path, Open::ReadWrite)? else {
        return Err(unknown(log, subscriber));
    };
    let order = log.codec().order;
    let _lock = file.lock()?;
    let mut bytes = [0; CHECKPOINT_LEN];
    let got = file.pread_up_to(&mut bytes, 0)?;
    let from = decode_checkpoint(&bytes[..got], order);

    // Eight bytes in place, as libjlog writes them: no other process may find the file missing or short.
    file.pwrite(&encode_checkpoint(to, order), 0)?;
    let leaves = from.is_some_and(|from| from.segment < to.segment);
    if leaves || log.metastore()?.safety == Safety::Safe {
        file.sync()?;
    }
    Ok(from)
}

/// The subscribers' checkpoints; `None` where the file is too short to hold one.
pub(crate) fn all(log: &Shared, listing: &Listing) -> Result<Vec<(Subscriber, Option<RecordId>)>> {
    let mut all = Vec::with_capacity(listing.subscribers.len());
    for subscriber in &listing.subscribers {
        match read(log, &checkpoint_path(log.dir(), subscriber))? {
            Stored::At(id, _) => all.push((subscriber.clone(), Some(id))),
            Stored::Short(_) => all.push((subscriber.clone(), None)),
            // Removed since the directory was listed.
            Stored::Nobody => {}
        }
    }
    Ok(all)
}

/// The first segment that anybody may still want: nothing before it is, everything from it on may be.
///
/// A checkpoint that cannot be read wants everything, whatever its name, and so does one beyond the active segment:
/// it is not of this log as it is now, and does not tell what was read of it.
pub(crate) fn earliest_wanted(log: &Shared, listing: &Listing) -> Result<Option<SegmentId>> {
    let mut found: Vec<_> = all(log, listing)?.into_iter().map(|(_, id)| id).collect();
    for name in &listing.odd_checkpoints {
        match read(log, &log.dir().join(name))? {
            Stored::At(id, _) => found.push(Some(id)),
            Stored::Short(_) => found.push(None),
            Stored::Nobody => {}
        }
    }
    // Asked last: a checkpoint may move on with the log at any time.
    let active = log.active()?;
    let wanted = |id: Option<RecordId>| id.filter(|id| id.segment <= active).unwrap_or_default().segment;
    Ok(found.into_iter().map(wanted).min())
}

pub(crate) fn pending(log: &Shared, segment: SegmentId) -> Result<Pending> {
    let listing = log.listing()?;
    let all = all(log, &listing)?;
    let active = log.active()?;
    let wanting = |id: &Option<RecordId>| id.is_none_or(|id| id.segment <= segment || id.segment > active);
    let readers = all.iter().filter(|(_, id)| wanting(id)).count();
    Ok(Pending { readers, earliest: earliest_wanted(log, &listing)? })
}

/// Removes the segments in `from..to` that no subscriber wants any more, and says which.
///
/// The caller has made the checkpoints durable that allow it. Subscribers added by this engine meanwhile wait for
/// the metastore's lock. The active segment stays, and so does everything where nobody subscribes.
pub(crate) fn prune(log: &Shared, from: SegmentId, to: SegmentId) -> Result<Vec<SegmentId>> {
    let metastore = File::open(&**log.disk(), &log.dir().join(METASTORE), Open::ReadWrite)?;
    let _lock = metastore.lock()?;
    let listing = log.listing()?;
    let Some(earliest) = earliest_wanted(log, &listing)? else { return Ok(Vec::new()) };
    let limit = earliest.min(to).min(log.active()?);
    let unwanted: Vec<_> = listing.segments.iter().copied().filter(|id| *id >= from && *id < limit).collect();
    if !unwanted.is_empty() {
        sync_checkpoints(log, &listing)?;
    }

    let mut removed = Vec::new();
    for id in unwanted {
        // The index first: without its data it would be a stray that nothing explains.
        for path in [log.index_path(id), log.data_path(id)] {
            match log.disk().remove(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io("remove a segment that all have read", &path, error));
                }
                _ => {}
            }
        }
        removed.push(id);
    }
    Ok(removed)
}

/// libjlog syncs its checkpoints at the highest safety level only.
fn sync_checkpoints(log: &Shared, listing: &Listing) -> Result<()> {
    for subscriber in &listing.subscribers {
        let path = checkpoint_path(log.dir(), subscriber);
        if let Some(file) = File::open_existing(&**log.disk(), &path, Open::Read)? {
            file.sync()?;
        }
    }
    Ok(())
}

/// Moves a subscriber's checkpoint and removes what nobody wants any more because of it.
pub(crate) fn advance(log: &Shared, subscriber: &Subscriber, to: RecordId) -> Result<Vec<SegmentId>> {
    let from = set(log, subscriber, to)?;
    match from {
        // With a metastore that cannot be believed nothing is deleted.
        Some(from) if from.segment < to.segment && log.metastore_problem().is_none() => {
            prune(log, from.segment, to.segment)
        }
        _ => Ok(Vec::new()),
    }
}

pub(crate) fn sync_names(log: &Shared) -> Result<()> {
    log.disk().sync_dir(log.dir()).map_err(|e| Error::io("sync the directory", log.dir(), e))
}

/// The start of a segment, as a checkpoint.
pub(crate) fn start_of(segment: SegmentId) -> RecordId {
    RecordId { segment, marker: Marker(0) }
}
