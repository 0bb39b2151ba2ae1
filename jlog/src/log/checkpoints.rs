//! Checkpoints: where each subscriber is, and what may be deleted therefore.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use super::checked::retention::{self, Limits};
use super::checked::settings::Retention;
use super::checked::unmake;
use super::kept;
use super::names::{Listing, METASTORE, Subscriber, checkpoint_path};
use super::shared::Shared;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{Marker, RecordId, SegmentId};
use crate::io::{File, Open};
use crate::record::checked::{Features, u32_at};
use crate::record::classic::{CHECKPOINT_LEN, Safety, decode_checkpoint, encode_checkpoint};
use crate::record::slots::{self, Fill, Held, SLOT, Slot};

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

/// A checkpoint file of a checksummed log has three slots: two that are written in turn and synced, and one for moves
/// that need not be on the disk at once, which is never the only one to hold a value.
const SYNCED_SLOTS: usize = 2;
const UNSYNCED_SLOT: usize = 2;
pub(crate) const CHECKED_LEN: usize = 3 * SLOT;

/// A checkpoint that is being made.
const NEW_CHECKPOINT: &str = ".cp.new";

/// The value of a slot: a segment, a marker.
fn value(id: RecordId) -> [u8; 8] {
    let mut value = [0; 8];
    value[..4].copy_from_slice(&id.segment.0.to_le_bytes());
    value[4..].copy_from_slice(&id.marker.0.to_le_bytes());
    value
}

fn of_value(value: &[u8]) -> RecordId {
    RecordId::new(u32_at(value, 0), u32_at(value, 4))
}

/// The name of a checkpoint's file, which its slots' checksums begin with.
fn name_of(path: &Path) -> &[u8] {
    path.file_name().map(OsStrExt::as_bytes).unwrap_or_default()
}

/// What the slots of a checkpoint's file hold.
pub(crate) fn decode_slots(path: &Path, bytes: &[u8]) -> Held {
    slots::decode(slots::Kind::Checkpoint, name_of(path), bytes)
}

fn slot_of(log: &Shared, path: &Path, number: usize, generation: u64, id: RecordId) -> [u8; SLOT] {
    let fill = Fill { log: log.identity(), generation, features: Features::default(), value: &value(id) };
    slots::encode(slots::Kind::Checkpoint, name_of(path), number, fill)
}

/// The newest sound slot of a checkpoint file of this log.
fn newest(log: &Shared, bytes: &[u8], path: &Path) -> Result<Option<Slot>> {
    match decode_slots(path, bytes) {
        Held::Newest(slot, _) if slot.log == log.identity() => Ok(Some(slot)),
        Held::Newest(..) | Held::Nothing => Ok(None),
        Held::Newer(why) => Err(Error::new(ErrorKind::Unsupported, "read the checkpoint", why).at(path)),
    }
}

fn read_checked(log: &Shared, file: &File, path: &Path) -> Result<Stored> {
    let mut got = 0;
    // A slot may be written at this moment: what is not whole is looked at again.
    for _ in 0..8 {
        let mut bytes = [0; CHECKED_LEN];
        got = file.pread_up_to(&mut bytes, 0)?;
        if let Some(slot) = newest(log, &bytes[..got], path)? {
            return Ok(Stored::At(of_value(&slot.value), file.size()?));
        }
    }
    Ok(Stored::Short(got as u64))
}

/// The whole file of a new checkpoint of a checksummed log, for this path.
pub(crate) fn checked_file(log: &Shared, path: &Path, id: RecordId, generation: u64) -> Vec<u8> {
    let mut bytes = vec![0; CHECKED_LEN];
    bytes[..SLOT].copy_from_slice(&slot_of(log, path, 0, generation, id));
    bytes
}

/// Reads a checkpoint without a lock: see [`read_file`].
pub(crate) fn read(log: &Shared, path: &Path) -> Result<Stored> {
    let file = File::open_existing(&**log.disk(), path, Open::Read)?;
    file.map_or(Ok(Stored::Nobody), |file| read_file(log, &file))
}

/// Reads a checkpoint without a lock: it may change at any time, so it is read until it reads the same twice.
fn read_file(log: &Shared, file: &File) -> Result<Stored> {
    if log.checked().is_some() {
        return read_checked(log, file, file.path());
    }
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
        Stored::Short(len) => Err(Error::damaged("read the checkpoint", &path, 0, unreadable(log, len))),
    }
}

/// The bytes that a checkpoint's file has.
pub(crate) fn file_len(log: &Shared) -> u64 {
    (if log.checked().is_some() { CHECKED_LEN } else { CHECKPOINT_LEN }) as u64
}

/// What is wrong with a checkpoint file of so many bytes that holds none.
pub(crate) fn unreadable(log: &Shared, len: u64) -> String {
    if log.checked().is_some() {
        return "none of its slots holds a sound checkpoint of this log".to_owned();
    }
    format!("it has {len} bytes, a checkpoint has {CHECKPOINT_LEN}")
}

pub(crate) fn unknown(log: &Shared, subscriber: &Subscriber) -> Error {
    let what = format!("the log has no subscriber \"{subscriber}\"; `jlog-inspect subscribers` lists them");
    Error::new(ErrorKind::UnknownSubscriber, "find the subscriber", what).at(log.dir())
}

/// Makes a checkpoint that must not exist. Durable when it returns, name and all. The caller has the metastore's lock.
pub(crate) fn create(log: &Shared, subscriber: &Subscriber, at: RecordId, mode: u32) -> Result<()> {
    log.require_writable()?;
    let path = checkpoint_path(log.dir(), subscriber);
    if log.disk().info(&path, false).is_ok() {
        return Err(exists(log, subscriber));
    }
    if log.checked().is_some() {
        return create_checked(log, &path, at, mode);
    }
    // libjlog's processes ask nobody before they make one.
    let file = match File::open(&**log.disk(), &path, Open::CreateNew(mode)) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(exists(log, subscriber)),
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

fn exists(log: &Shared, subscriber: &Subscriber) -> Error {
    let what = format!("the log has a subscriber \"{subscriber}\" already");
    Error::new(ErrorKind::SubscriberExists, "add the subscriber", what).at(log.dir())
}

/// Gives a checkpoint of a checksummed log its name once it is on the disk: a power cut leaves a whole one or none.
fn create_checked(log: &Shared, path: &Path, at: RecordId, mode: u32) -> Result<()> {
    let disk = &**log.disk();
    let new = log.dir().join(NEW_CHECKPOINT);
    // What a crash has left of another one.
    let _ = disk.remove(&new);
    let made = (|| {
        let file = File::open(disk, &new, Open::CreateNew(mode))?;
        file.pwrite(&checked_file(log, path, at, 1), 0)?;
        file.sync()?;
        disk.rename(&new, path).map_err(|e| Error::io("give the checkpoint its name", path, e))?;
        sync_names(log)
    })();
    if made.is_err() {
        let _ = disk.remove(&new);
        let _ = disk.remove(path);
    }
    made
}

/// Moves a checkpoint, and returns where it was. It is on disk when this returns if it leaves a segment behind, because
/// what is deleted must never outlive the checkpoint that allowed it; and at safety level safe.
fn set(log: &Shared, subscriber: &Subscriber, to: RecordId) -> Result<Option<RecordId>> {
    log.require_writable()?;
    let path = checkpoint_path(log.dir(), subscriber);
    let Some(file) = File::open_existing(&**log.disk(), &path, Open::ReadWrite)? else {
        return Err(unknown(log, subscriber));
    };
    set_file(log, &file, to)
}

fn set_file(log: &Shared, file: &File, to: RecordId) -> Result<Option<RecordId>> {
    let _lock = file.lock()?;
    if log.checked().is_some() {
        return set_checked(log, file, to);
    }
    let order = log.codec().order;
    let mut bytes = [0; CHECKPOINT_LEN];
    let got = file.pread_up_to(&mut bytes, 0)?;
    let from = decode_checkpoint(&bytes[..got], order);

    // Eight bytes in place, as libjlog writes them: no other process may find the file missing or short.
    file.pwrite(&encode_checkpoint(to, order), 0)?;
    let leaves = from.is_some_and(|from| from.segment < to.segment);
    if leaves || log.metastore()?.safety == Safety::Safe {
        sync_or_forget(log, file)?;
    }
    Ok(from)
}

/// Syncs a checkpoint. Where that fails the kernel shows the new value and will never write it: whoever asks what may be
/// removed is to see the disk's.
fn sync_or_forget(log: &Shared, file: &File) -> Result<()> {
    file.sync().inspect_err(|_| {
        let again = File::open(&**log.disk(), file.path(), Open::ReadWrite);
        let _ = again.and_then(|again| again.drop_cache());
    })
}

/// The same in a checksummed log, under the checkpoint's lock. Works on a full disk: the file has all its bytes.
fn set_checked(log: &Shared, file: &File, to: RecordId) -> Result<Option<RecordId>> {
    let mut bytes = [0; CHECKED_LEN];
    let got = file.pread_up_to(&mut bytes, 0)?;
    let now = newest(log, &bytes[..got], file.path())?;
    let from = now.as_ref().map(|slot| of_value(&slot.value));
    let generation = now.as_ref().map_or(1, |slot| slot.generation.saturating_add(1));

    let leaves = from.is_none_or(|from| from.segment != to.segment);
    let durability = log.current_settings().map(|settings| settings.durability);
    let synced = leaves || durability.unwrap_or(log.settings().durability).is_synced();
    // Not over the newest of the two that were synced; what stands in the third may never have reached the disk.
    let slot = if synced {
        match decode_slots(file.path(), &bytes[..got.min(SYNCED_SLOTS * SLOT)]) {
            Held::Newest(slot, _) => (slot.number + 1) % SYNCED_SLOTS,
            _ => 0,
        }
    } else {
        UNSYNCED_SLOT
    };
    file.pwrite(&slot_of(log, file.path(), slot, generation, to), (slot * SLOT) as u64)?;
    if synced {
        sync_or_forget(log, file)?;
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

/// Removes the segments before `to` that no subscriber wants any more, and says which: none, if somebody is seen to be in
/// `left` still, the segment that somebody has just left, or before it.
///
/// The caller has made the checkpoints durable that allow it. Subscribers added by this engine meanwhile wait for
/// the metastore's lock. The active segment stays, and so does everything where nobody subscribes, unless the log's
/// retention says otherwise; what that keeps longer stays too.
pub(crate) fn prune(log: &Shared, left: SegmentId, to: SegmentId) -> Result<Vec<SegmentId>> {
    prune_as(log, left, to, Keep::AsRetentionSays)
}

/// Removes everything that all have read, though the log's retention would keep some of it.
pub(crate) fn prune_read(log: &Shared) -> Result<Vec<SegmentId>> {
    prune_as(log, SegmentId(0), SegmentId(u32::MAX), Keep::Nothing)
}

/// Removes everything before `first`, read or not, but for the active segment; what is unread is noted as dropped.
pub(crate) fn drop_before(log: &Shared, first: SegmentId) -> Result<Vec<SegmentId>> {
    let metastore = File::open(&**log.disk(), &log.dir().join(METASTORE), Open::ReadWrite)?;
    let _lock = metastore.lock()?;
    let listing = log.listing()?;
    let first = first.min(log.active()?);
    retention::note_dropped(&metastore, first)?;
    let unwanted: Vec<_> = listing.segments.iter().copied().filter(|id| *id < first).collect();
    remove(log, &listing, unwanted)
}

/// What is kept of what all have read.
#[derive(PartialEq)]
enum Keep {
    AsRetentionSays,
    Nothing,
}

fn prune_as(log: &Shared, left: SegmentId, to: SegmentId, keep: Keep) -> Result<Vec<SegmentId>> {
    log.require_writable()?;
    let metastore = File::open(&**log.disk(), &log.dir().join(METASTORE), Open::ReadWrite)?;
    let _lock = metastore.lock()?;
    let listing = log.listing()?;
    let settings = log.current_settings()?;
    let kept = settings.retention != Retention::default();
    // Of many subscribers each leaves a segment behind at some time, and only the last one lets it go.
    if !kept && is_held(log, &listing, left)? {
        return Ok(Vec::new());
    }
    let wanted = earliest_wanted(log, &listing)?;
    let active = log.active()?;
    let mut limits = Limits { read: wanted.unwrap_or_default().min(active), dropped: SegmentId(0) };
    // A policy looks at the whole log, not at what one checkpoint has left behind.
    let to = if kept { SegmentId(u32::MAX) } else { to };
    if kept && keep == Keep::AsRetentionSays {
        limits = retention::limits(log, &listing, wanted, &settings.retention, active)?;
    }
    let unread = |id: &SegmentId| wanted.is_none_or(|wanted| *id >= wanted);
    // Where a removal has failed, what it left goes first: a segment that is gone before an older one is a hole.
    let going = |id: &SegmentId| *id < limits.dropped.max(limits.read.min(to));
    let unwanted: Vec<_> = listing.segments.iter().copied().filter(going).collect();
    if unwanted.iter().any(unread) {
        retention::note_dropped(&metastore, limits.dropped)?;
    }
    remove(log, &listing, unwanted)
}

/// Whether any subscriber is known to be in this segment or before it: then nothing from it on can go. Who was found there
/// last is asked first: most often he still is.
fn is_held(log: &Shared, listing: &Listing, segment: SegmentId) -> Result<bool> {
    let (behind, before) =
        listing.subscribers.split_at(log.holder().load(Ordering::Relaxed).min(listing.subscribers.len()));
    for (n, subscriber) in before.iter().chain(behind).enumerate() {
        if let Stored::At(id, _) = read(log, &checkpoint_path(log.dir(), subscriber))?
            && id.segment <= segment
        {
            log.holder().store((behind.len() + n) % listing.subscribers.len(), Ordering::Relaxed);
            return Ok(true);
        }
    }
    Ok(false)
}

fn remove(log: &Shared, listing: &Listing, unwanted: Vec<SegmentId>) -> Result<Vec<SegmentId>> {
    if !unwanted.is_empty() && !crate::planted("remove_before_checkpoint") {
        sync_checkpoints(log, listing)?;
    }

    let keep_spare = log.settings().durability.is_synced();
    let mut removed = Vec::new();
    for id in unwanted {
        // The index first: without its data it would be a stray that nothing explains.
        for (path, is_data) in [(log.index_path(id), false), (log.data_path(id), true)] {
            let outcome = match log.checked() {
                Some(_) if is_data => unmake(&**log.disk(), log.dir(), &path, keep_spare),
                _ => log.disk().remove(&path),
            };
            match outcome {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io("remove a segment that all have read", &path, error));
                }
                _ => {}
            }
        }
        log.files().forget(id);
        removed.push(id);
        if log.checked().is_some() {
            // A power cut must not bring back this one without the next: what is left would have a hole.
            sync_names(log)?;
        }
    }
    log.metrics().removed(removed.len() as u64);
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
    let allowed = |first: Option<&SegmentId>| match first {
        Some(first) if to.segment < *first => {
            let what = format!("segment {} was removed", to.segment);
            Err(Error::new(ErrorKind::Invalid, "move the checkpoint back", what).at(log.dir()))
        }
        _ => Ok(()),
    };
    advance_where(log, to, of(log, subscriber).ok(), allowed, || set(log, subscriber, to))
}

/// A subscriber's checkpoint, held open: it stays this subscriber's when its name is removed, as libjlog's readers have it.
#[derive(Debug)]
pub struct Checkpoint {
    log: Arc<Shared>,
    file: File,
    /// What it was when it was last asked for, as bytes and as an id.
    known: Mutex<Option<([u8; CHECKPOINT_LEN], RecordId)>>,
}

impl Checkpoint {
    pub(crate) fn open(log: &Arc<Shared>, subscriber: &Subscriber) -> Result<Checkpoint> {
        let path = checkpoint_path(log.dir(), subscriber);
        match File::open_existing(&**log.disk(), &path, Open::ReadWrite)? {
            Some(file) => Ok(Checkpoint { log: Arc::clone(log), file, known: Mutex::default() }),
            None => Err(unknown(log, subscriber)),
        }
    }

    /// Where it is now.
    pub fn get(&self) -> Result<RecordId> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // What reads as it did before was not being changed: readers that wait ask all the time.
        if let (Some((bytes, id)), None) = (&*known, self.log.checked()) {
            let mut now = [0; CHECKPOINT_LEN];
            if self.file.pread_up_to(&mut now, 0)? == CHECKPOINT_LEN && now == *bytes {
                return Ok(*id);
            }
        }
        match read_file(&self.log, &self.file)? {
            Stored::At(id, _) => {
                *known = Some((encode_checkpoint(id, self.log.codec().order), id));
                Ok(id)
            }
            Stored::Short(_) | Stored::Nobody => {
                let what = unreadable(&self.log, self.file.size()?);
                Err(Error::damaged("read the checkpoint", self.file.path(), 0, what))
            }
        }
    }

    /// Moves it to any place, whether the log has it or not, and removes the segments that nobody wants any more because of
    /// it. Durable as [`Log::set_checkpoint`](crate::Log::set_checkpoint) says. Reading from a place that the log does not
    /// have is an error, until it has.
    pub fn force(&self, to: RecordId) -> Result<Vec<SegmentId>> {
        self.log.require_writable()?;
        let set = || set_file(&self.log, &self.file, to);
        advance_where(&self.log, to, self.get().ok(), |_| Ok(()), set)
    }
}

/// Moves a checkpoint that was at `now`, by `set`; back only if `allowed` says so of the first segment that is there.
fn advance_where(
    log: &Shared,
    to: RecordId,
    now: Option<RecordId>,
    allowed: impl FnOnce(Option<&SegmentId>) -> Result<()>,
    set: impl FnOnce() -> Result<Option<RecordId>>,
) -> Result<Vec<SegmentId>> {
    // Who goes back must not meet somebody who is about to remove what he wants.
    let back = now.is_some_and(|now| to.segment < now.segment);
    let open = || File::open(&**log.disk(), &log.dir().join(METASTORE), Open::ReadWrite);
    let metastore = if back { Some(open()?) } else { None };
    let _lock = metastore.as_ref().map(File::lock).transpose()?;
    if back {
        allowed(log.listing()?.segments.first())?;
    }
    match set()? {
        // With a metastore that cannot be believed nothing is deleted.
        Some(from) if from.segment < to.segment && log.metastore_problem().is_none() => {
            prune(log, from.segment, to.segment)
        }
        _ => Ok(Vec::new()),
    }
}

pub(crate) fn sync_names(log: &Shared) -> Result<()> {
    kept::sync_names(&**log.disk(), log.dir())
}

/// The start of a segment, as a checkpoint.
pub(crate) fn start_of(segment: SegmentId) -> RecordId {
    RecordId { segment, marker: Marker(0) }
}
