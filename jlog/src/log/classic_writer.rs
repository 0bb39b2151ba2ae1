//! Appending to a classic log: appends records, finishes segments, cuts what a crash left torn.
//!
//! The protocol is libjlog's, so that C processes may write beside it: whoever holds the lock of the active data
//! file appends at its end; whoever fills a segment moves the metastore on, under the metastore's lock. Whatever
//! another process has appended is walked before the next append, so a torn record is never built upon and every
//! append knows its id.
//!
//! A burst of appends keeps the lock from one to the next for a moment (`linger`). Whatever may happen to the end of a
//! segment needs this lock: appending, cutting, and finding or making the segment full, which is what lets anybody
//! finish it. So while the lock is kept, neither the end nor the metastore is looked at again. One thing can be
//! decided under the lock and done after it: a libjlog process that has filled the segment lets go, syncs, and only
//! then moves the metastore on. Whoever comes in between finds the segment full himself, unless the limit was raised
//! meanwhile; a writer that sees a limit raised looks at the metastore before each append to that segment, as libjlog's
//! do. That a limit was lowered is noticed when the lock is taken the next time.

use std::io::IoSlice;
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;

use super::checkpoints::sync_names;
use super::durability::Durability;
use super::kept;
use super::linger::{Kept, LINGER, Linger, Unlocker};
use super::names::METASTORE;
use super::pre_commit::{PATIENCE, PreCommit, Taken};
use super::shared::Shared;
use super::writer::{Recovery, WriterOptions, data_mode};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{Marker, RecordId, SegmentId, Timestamp};
use crate::io::{File, Open, OwnedLock, forks};
use crate::record::classic::{COMPRESSED_HEADER, Codec, Header, Metastore, Safety};
use crate::record::compress::MAX_MESSAGE;
use crate::record::scan::ClassicWalk;
use crate::record::walk::{Ending, Step};
use crate::segment::SegmentSource;
use crate::sync::{Mutex, MutexGuard};

/// The writer of a classic log.
#[derive(Debug)]
pub(crate) struct ClassicWriter {
    // Ends before the state goes.
    unlocker: OnceLock<Option<Unlocker>>,
    log: Arc<Shared>,
    state: Arc<Mutex<State>>,
    durability: Durability,
    exclusive: bool,
    /// The [`forks`] at which it was opened.
    forks: u32,
}

#[derive(Debug)]
pub(crate) struct State {
    metastore: File,
    active: Active,
    /// The lock of the active data file, while a burst of appends keeps it.
    pub(super) linger: Linger,
    wants_unlocker: bool,
    pre_commit: Option<PreCommit>,
    /// The record that is being written, and the batch of them.
    scratch: Vec<u8>,
    compressed: Vec<u8>,
    recovery: Recovery,
    failed: bool,
}

/// The active segment, as far as this writer knows it: `end` bytes hold `marker` records.
#[derive(Debug)]
struct Active {
    id: SegmentId,
    data: Arc<File>,
    end: u64,
    marker: u32,
    unit_limit: u64,
    safety: Safety,
    /// The data file's lock, in exclusive mode.
    held: Option<OwnedLock>,
    /// The limit was raised while this segment was active: somebody may have found it full before.
    raised: bool,
    /// Whether the name of the data file is known to be on the disk.
    named: bool,
}

/// Whether the active segment stays locked while it is open.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hold {
    No,
    /// Yes; an error if somebody else has it locked.
    OrFail,
    /// Yes, once whoever has it locked is done.
    AndWait,
}

/// Up to this size a record is copied behind its header and written in one piece; above, in two.
const COPY_LIMIT: usize = 16 * 1024;
/// Batches are written in pieces of about this size.
const BATCH: usize = 256 * 1024;

impl ClassicWriter {
    pub(crate) fn open(log: Arc<Shared>, options: &WriterOptions) -> Result<ClassicWriter> {
        let exclusive = options.exclusive.unwrap_or(options.buffer.is_some());
        let metastore = File::open(&**log.disk(), &log.dir().join(METASTORE), Open::ReadWrite)?;
        let mut recovery = Recovery::default();
        let hold = match options.buffer {
            _ if exclusive => Hold::OrFail,
            // Nobody else makes a buffer, or takes one over to gather in, at the same time.
            Some(_) => Hold::AndWait,
            None => Hold::No,
        };
        let active = Active::open(&log, &metastore, hold, &mut recovery)?;
        let durability = options.durability.unwrap_or(match active.safety {
            Safety::Safe => Durability::Sync,
            Safety::Unsafe | Safety::AlmostSafe => Durability::Process,
        });

        // A sync takes many times as long as a lock does, and keeps others waiting long enough without it.
        let linger = match options.linger {
            _ if exclusive || durability.is_synced() || options.buffer.is_some() => Duration::ZERO,
            asked => asked.unwrap_or(LINGER),
        };

        let mut state = State {
            metastore,
            active,
            linger: Linger::new(linger),
            wants_unlocker: false,
            pre_commit: None,
            scratch: Vec::new(),
            compressed: Vec::new(),
            recovery,
            failed: false,
        };
        state.take_over_pre_commit(&log, options.buffer, PATIENCE)?;
        if !exclusive {
            state.active.held = None;
        }
        let state = Arc::new(Mutex::new(state));
        Ok(ClassicWriter { unlocker: OnceLock::new(), log, state, durability, exclusive, forks: forks() })
    }

    /// What was put right when this writer was opened, and since: another writer's death may leave a torn record too.
    pub(crate) fn recovery(&self) -> Recovery {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).recovery.clone()
    }

    /// When appends are acknowledged.
    pub(crate) fn durability(&self) -> Durability {
        self.durability
    }

    /// Whether other writers are kept out.
    pub(crate) fn is_exclusive(&self) -> bool {
        self.exclusive
    }

    /// Appends a record and returns its id.
    ///
    /// When it returns, the record is in the kernel ([`Durability::Process`]) or on the disk ([`Durability::Sync`]), and
    /// readers see it; in buffered mode it is in the pre_commit buffer, and readers see it after a flush.
    ///
    /// # Errors
    /// [`TooLarge`](ErrorKind::TooLarge) above [`MAX_MESSAGE`] bytes. [`NoSpace`](ErrorKind::NoSpace): nothing of the record stays, and
    /// appending goes on when there is space again. After any other failed write, or a failed sync, this writer
    /// answers [`Poisoned`](ErrorKind::Poisoned); the record may or may not be in the log.
    pub(crate) fn append(&self, message: &[u8], time: Timestamp, durability: Durability) -> Result<RecordId> {
        let mut state = self.state()?;
        let id = state.append(&self.log, message, time)?;
        self.log.metrics().appended(1, message.len() as u64);
        self.acknowledge(state, durability)?;
        Ok(id)
    }

    /// Appends several records, one behind the other where no other writer comes between, and returns the id of the
    /// last; `None` for none. One lock, one write and, if appends are synced, one sync serve many of them.
    ///
    /// A batch is not atomic in the classic format: after an error, or a crash, some of the first may be there.
    ///
    /// # Errors
    /// As [`Writer::append`].
    pub(crate) fn append_batch(
        &self,
        messages: &mut dyn Iterator<Item = (&[u8], Timestamp)>,
    ) -> Result<Option<RecordId>> {
        let mut state = self.state()?;
        let last = state.append_batch(&self.log, messages)?;
        self.acknowledge(state, self.durability)?;
        Ok(last)
    }

    /// Moves buffered records to the segment, so that readers see them. In the kernel when it returns.
    pub(crate) fn flush(&self) -> Result<()> {
        let mut state = self.state()?;
        state.linger.release();
        state.flush(&self.log)
    }

    /// Flushes, and makes all that was appended durable: on disk when it returns.
    pub(crate) fn sync(&self) -> Result<()> {
        let mut state = self.state()?;
        state.flush(&self.log)?;
        state.ask_for_pre_commit_again(&self.log)?;
        state.sync(&self.log)
    }

    /// The id of the last record of the active segment that this writer knows of; marker 0 if it knows of none.
    pub(crate) fn last_id(&self) -> Result<RecordId> {
        Ok(self.state()?.active.last_id())
    }

    fn state(&self) -> Result<MutexGuard<'_, State>> {
        // A thread that panicked while it appended has left the state it was about to change.
        let mut state = self.state.lock().unwrap_or_else(|poisoned| {
            let mut state = PoisonError::into_inner(poisoned);
            state.failed = true;
            state
        });
        if state.failed {
            state.linger.release();
            return Err(Error::poisoned(state.active.data.path()));
        }
        state.scratch.clear();
        Ok(state)
    }

    fn acknowledge(&self, mut state: MutexGuard<'_, State>, durability: Durability) -> Result<()> {
        match durability {
            Durability::Process | Durability::Interval(_) => {
                let wanted = std::mem::take(&mut state.wants_unlocker);
                drop(state);
                if wanted {
                    self.unlocker.get_or_init(|| Unlocker::start(&self.state));
                }
                Ok(())
            }
            Durability::Sync | Durability::Group(_) => {
                state.flush(&self.log)?;
                state.sync(&self.log)
            }
        }
    }
}

impl Drop for ClassicWriter {
    fn drop(&mut self) {
        // What is buffered is flushed by the process that opened this, not by its forks as well.
        if self.forks == forks()
            && let Ok(mut state) = self.state()
        {
            let _ = state.flush(&self.log);
        }
    }
}

impl State {
    fn append(&mut self, log: &Shared, message: &[u8], time: Timestamp) -> Result<RecordId> {
        let (header, len) = self.header(log.codec(), message, time)?;
        let plain = self.compressed.is_empty();
        if self.pre_commit.is_some() {
            self.scratch.extend_from_slice(&header[..len]);
            self.scratch.extend_from_slice(if plain { message } else { &self.compressed });
            return self.append_buffered(log);
        }

        // One record in one write: copied together where that is cheaper than a second piece.
        let body = if plain { message } else { &self.compressed };
        if body.len() <= COPY_LIMIT {
            self.scratch.extend_from_slice(&header[..len]);
            self.scratch.extend_from_slice(body);
            let scratch = std::mem::take(&mut self.scratch);
            let outcome = self.write(log, 1, scratch.len(), &mut |data, at| data.pwrite(&scratch, at));
            self.scratch = scratch;
            return outcome;
        }
        let compressed = std::mem::take(&mut self.compressed);
        let body = if plain { message } else { &compressed };
        let outcome = self.write(log, 1, len + body.len(), &mut |data, at| {
            data.pwritev(&mut [IoSlice::new(&header[..len]), IoSlice::new(body)], at)
        });
        self.compressed = compressed;
        outcome
    }

    fn append_batch(
        &mut self,
        log: &Shared,
        messages: &mut dyn Iterator<Item = (&[u8], Timestamp)>,
    ) -> Result<Option<RecordId>> {
        let mut last = None;
        if self.pre_commit.is_some() {
            for (message, time) in messages {
                self.scratch.clear();
                last = Some(self.append(log, message, time)?);
            }
            return Ok(last);
        }

        let mut batch = std::mem::take(&mut self.scratch);
        let mut records = 0;
        // A segment is finished by the record that reaches its limit: no piece goes on behind that.
        let mut room = self.active.unit_limit.saturating_sub(self.active.end);
        for (message, time) in messages {
            let (header, len) = self.header(log.codec(), message, time)?;
            batch.extend_from_slice(&header[..len]);
            batch.extend_from_slice(if self.compressed.is_empty() { message } else { &self.compressed });
            records += 1;
            if batch.len() >= BATCH || batch.len() as u64 >= room {
                last = Some(self.write(log, records, batch.len(), &mut |data, at| data.pwrite(&batch, at))?);
                batch.clear();
                records = 0;
                room = self.active.unit_limit.saturating_sub(self.active.end);
            }
        }
        if records > 0 {
            last = Some(self.write(log, records, batch.len(), &mut |data, at| data.pwrite(&batch, at))?);
        }
        self.scratch = batch;
        Ok(last)
    }

    /// The header of a record; what it holds is left in `compressed`, or is the message itself where that is empty.
    fn header(
        &mut self,
        codec: Codec,
        message: &[u8],
        time: Timestamp,
    ) -> Result<([u8; COMPRESSED_HEADER], usize)> {
        if message.len() > MAX_MESSAGE {
            let what = format!("a message of {} bytes is above the limit of {MAX_MESSAGE}", message.len());
            return Err(Error::new(ErrorKind::TooLarge, "append a message", what));
        }
        self.compressed.clear();
        if codec.compression() == crate::record::Compression::Lz4 {
            codec.compression().compress(message, &mut self.compressed);
        }
        let stored = if self.compressed.is_empty() { message.len() } else { self.compressed.len() };
        let narrow =
            |len: usize| u32::try_from(len).expect("a message of at most MAX_MESSAGE grows by less than 1 %");
        let header = Header { time, len: narrow(message.len()), stored: narrow(stored) };
        let mut bytes = [0; COMPRESSED_HEADER];
        let len = codec.encode(header, &mut bytes);
        Ok((bytes, len))
    }

    /// Writes `len` bytes that hold `records` records at the end of the active segment, and finishes it if they fill it.
    fn write(
        &mut self,
        log: &Shared,
        records: u32,
        len: usize,
        put: &mut dyn FnMut(&File, u64) -> Result<()>,
    ) -> Result<RecordId> {
        let began = self.linger.begin();
        loop {
            let kept = self.linger.take();
            let nobody_came = kept.is_some() || self.active.held.is_some();
            let lock = match kept {
                None if !nobody_came => Some(Kept::new(self.active.data.lock_owned()?)),
                kept => kept,
            };
            // Another writer may have come first, and may have finished this segment.
            if !nobody_came && !self.catch_up(log)? || self.active.is_full() {
                self.rotate(log, lock)?;
                continue;
            }

            let at = self.active.end;
            if let Err(error) = put(&self.active.data, at) {
                return Err(self.take_back(at, error));
            }
            self.active.end = at + len as u64;
            self.active.marker = self.active.marker.saturating_add(records);
            let id = self.active.last_id();
            if self.active.is_full() {
                // The record is in the log, whatever becomes of this. Where it fails the segment stays full, and the
                // next append meets the same obstacle and reports it.
                let _ = self.rotate(log, lock);
            } else if let (Some(lock), Some(began), false) = (lock, began, self.active.raised) {
                self.wants_unlocker |= self.linger.leave(lock, began);
            }
            return Ok(id);
        }
    }

    /// A write failed: nothing of it may stay. Where that cannot be had either, this writer is at its end.
    fn take_back(&mut self, to: u64, error: Error) -> Error {
        if error.kind() != ErrorKind::NoSpace || self.active.data.truncate(to).is_err() {
            self.failed = true;
        }
        error
    }

    /// Takes in what other writers have appended, under the data file's lock. False if this segment is finished.
    fn catch_up(&mut self, log: &Shared) -> Result<bool> {
        let meta = log.decode(&self.metastore)?;
        self.active.raised |= u64::from(meta.unit_limit) > self.active.unit_limit;
        self.active.unit_limit = u64::from(meta.unit_limit);
        self.active.safety = meta.safety;
        if meta.active > self.active.id {
            return Ok(false);
        }
        let size = self.active.data.size()?;
        if size == self.active.end {
            return Ok(true);
        }
        let from = if size > self.active.end { (self.active.end, self.active.marker) } else { (0, 0) };
        self.active.survey(log, from, &mut self.recovery)?;
        Ok(true)
    }

    /// Finishes the active segment, if nobody else has, and goes on in the one that is active then.
    ///
    /// Its lock is kept until the metastore has moved on: nobody appends to it in between, and whoever waited for it
    /// finds it finished. (libjlog lets go before, and may then append to a segment that its readers have closed.)
    fn rotate(&mut self, log: &Shared, lock: Option<Kept>) -> Result<()> {
        let finished = &self.active;
        finished.data.sync()?;
        let next = log.next_segment(finished.id)?;
        let held = finished.held.is_some();
        let made = {
            let _lock = self.metastore.lock()?;
            let meta = log.decode(&self.metastore)?;
            if meta.active <= finished.id {
                Some(advance(log, &self.metastore, &Metastore { active: next, ..meta }, held)?)
            } else {
                None
            }
        };
        drop(lock);
        // Kept from others since before anybody could know of it, the new segment only needs its end to be found.
        if let Some(mut active) = made.filter(|made| made.held.is_some()) {
            active.survey(log, (0, 0), &mut self.recovery)?;
            self.active = active;
            return Ok(());
        }
        let hold = if held { Hold::AndWait } else { Hold::No };
        self.active = Active::open(log, &self.metastore, hold, &mut self.recovery)?;
        Ok(())
    }

    /// Nobody waits for the disk because of a lock that is kept: it is given back first.
    fn sync(&mut self, log: &Shared) -> Result<()> {
        self.linger.release();
        let outcome = self.active.data.sync();
        // Whoever made the segment may not have synced its name. What was finished before is in the same directory.
        let outcome = match outcome {
            Ok(()) if !self.active.named => sync_names(log).inspect(|()| self.active.named = true),
            outcome => outcome,
        };
        if outcome.is_err() {
            self.failed = true;
        }
        outcome
    }

    /// Gathers the record in `scratch`. In exclusive mode nobody else moves the end of the segment, so its id is known.
    fn append_buffered(&mut self, log: &Shared) -> Result<RecordId> {
        let record = std::mem::take(&mut self.scratch);
        let outcome = self.gather(log, &record);
        self.scratch = record;
        outcome
    }

    fn gather(&mut self, log: &Shared, record: &[u8]) -> Result<RecordId> {
        for _ in 0..2 {
            // A flush goes to the segment that is active now, unless others who share the log finish it before.
            if self.active.is_full() {
                let lock = match self.active.held {
                    Some(_) => None,
                    None => Some(Kept::new(self.active.data.lock_owned()?)),
                };
                self.rotate(log, lock)?;
            }
            let Some(buffer) = &mut self.pre_commit else { break };
            if buffer.push(record)? {
                let marker = self.active.marker.saturating_add(buffer.records());
                return Ok(RecordId { segment: self.active.id, marker: Marker(marker) });
            }
            // What was gathered before goes first, so that the order is kept.
            self.flush(log)?;
        }
        self.write(log, 1, record.len(), &mut |data, at| data.pwrite(record, at))
    }

    /// Moves what the buffer holds to the segment in one write; it may grow beyond its limit by that much, as
    /// libjlog's do.
    fn flush(&mut self, log: &Shared) -> Result<()> {
        let Some(mut buffer) = self.pre_commit.take() else { return Ok(()) };
        let outcome = self.flush_from(log, &mut buffer, false);
        self.pre_commit = Some(buffer);
        outcome
    }

    /// If `durable`, the records are on disk in the segment before the buffer lets go of them.
    fn flush_from(&mut self, log: &Shared, buffer: &mut PreCommit, durable: bool) -> Result<()> {
        if buffer.is_empty() {
            return Ok(());
        }
        let bytes = buffer.contents()?;
        if bytes.is_empty() {
            return buffer.clear();
        }
        let (records, mut cleared) = (buffer.records(), Ok(()));
        self.write(log, records, bytes.len(), &mut |data, at| {
            data.pwrite(&bytes, at)?;
            if durable {
                data.sync()?;
                sync_names(log)?;
            }
            // A kill between these two leaves the records in both places: delivered twice, never lost.
            cleared = buffer.clear();
            Ok(())
        })?;
        cleared.inspect_err(|_| self.failed = true)
    }

    /// What somebody else had open when this writer was opened may be nobody's by now.
    fn ask_for_pre_commit_again(&mut self, log: &Shared) -> Result<()> {
        if std::mem::take(&mut self.recovery.pre_commit_in_use) {
            // Asked once: a sync does not wait for somebody who uses the buffer all the time.
            self.take_over_pre_commit(log, None, 1)
        } else {
            Ok(())
        }
    }

    /// Moves what a dead writer has left in the pre_commit file to the segment, and makes the buffer that was asked for.
    fn take_over_pre_commit(&mut self, log: &Shared, size: Option<u32>, tries: u32) -> Result<()> {
        let left = match PreCommit::open(log, size.is_some(), tries)? {
            Taken::Ours(left) => Some(left),
            Taken::InUse => {
                self.recovery.pre_commit_in_use = true;
                None
            }
            Taken::Nothing => None,
        };
        if let Some(mut left) = left {
            self.recovery.flushed = left.records();
            self.recovery.pre_commit_torn = left.keep_torn_bytes(log)?;
            self.flush_from(log, &mut left, true)?;
            if size == Some(left.capacity()) {
                self.pre_commit = Some(*left);
                return Ok(());
            }
        }
        if let Some(size) = size {
            self.pre_commit = Some(PreCommit::create(log, size, data_mode(log)?)?);
        }
        Ok(())
    }
}

impl Active {
    /// Opens the segment that is active now, and brings its end in order.
    fn open(log: &Shared, metastore: &File, hold: Hold, recovery: &mut Recovery) -> Result<Active> {
        loop {
            let (meta, made) = settle_active(log, metastore, recovery)?;
            let data = Arc::new(made);
            let mut active = Active::new(&meta, Arc::clone(&data));

            let lock = if hold == Hold::OrFail { lock_or_say_who(&data)? } else { data.lock_owned()? };
            // Somebody may have finished it before the lock was ours.
            if log.decode(metastore)?.active > active.id {
                continue;
            }
            active.survey(log, (0, 0), recovery)?;
            active.held = Some(lock).filter(|_| hold != Hold::No);
            return Ok(active);
        }
    }

    fn new(meta: &Metastore, data: Arc<File>) -> Active {
        let (unit_limit, safety) = (u64::from(meta.unit_limit), meta.safety);
        let (held, raised, named) = (None, false, false);
        Active { id: meta.active, data, end: 0, marker: 0, unit_limit, safety, held, raised, named }
    }

    fn is_full(&self) -> bool {
        self.end >= self.unit_limit
    }

    fn last_id(&self) -> RecordId {
        RecordId { segment: self.id, marker: Marker(self.marker) }
    }

    /// Walks to the end, under the data file's lock, from where `marker` records end. What is torn there is kept aside
    /// and cut. Damage before the end stays: a libjlog writer that has the segment open fills it, whatever the metastore
    /// says, so to finish it early would strand what that writer appends.
    fn survey(&mut self, log: &Shared, (pos, marker): (u64, u32), recovery: &mut Recovery) -> Result<()> {
        let source =
            SegmentSource::new(log.disk(), Arc::clone(&self.data), log.index_path(self.id), log.codec());
        let mut walk = source.classic_walk(false)?;
        walk.resume(pos, marker);
        let ending = loop {
            match walk.step()? {
                Step::Record(_) => {}
                Step::Hole(_) => recovery.damaged = Some(self.id),
                Step::End(ending) => break ending,
            }
        };
        self.end = walk.position();
        self.marker = walk.marker();
        if let Ending::Torn { from } = ending {
            recovery.torn = Some((self.last_id(), walk.end() - from));
            self.cut(log, &walk)?;
        }
        Ok(())
    }

    fn cut(&self, log: &Shared, walk: &ClassicWalk<SegmentSource>) -> Result<()> {
        if crate::planted("classic_uncut_tail") {
            return Ok(());
        }
        kept::keep_torn(log, &self.id.to_string(), &self.data, self.end, walk.end())?;
        self.data.truncate(self.end)?;
        self.data.sync()
    }
}

/// Takes the lock if it is free.
fn lock_or_say_who(data: &Arc<File>) -> Result<OwnedLock> {
    data.try_lock_owned()?.ok_or_else(|| {
        let who = match data.lock_holder() {
            Ok(Some(Some(pid))) => format!("process {pid} is writing to it"),
            _ => "another writer holds it".to_owned(),
        };
        Error::new(ErrorKind::Busy, "keep other writers out of the active segment", who).at(data.path())
    })
}

/// The active segment as the metastore has it, opened (and made, if it is not there yet). A metastore that a power
/// cut has left behind the segments is moved on to the last of them.
fn settle_active(log: &Shared, metastore: &File, recovery: &mut Recovery) -> Result<(Metastore, File)> {
    let _lock = metastore.lock()?;
    let mut meta = log.decode(metastore)?;
    let settled = log.caught_up(&meta, &log.listing()?);
    if settled > meta.active {
        recovery.metastore_behind = Some(meta.active);
        store_active(metastore, &meta, settled)?;
        metastore.sync()?;
        meta.active = settled;
    }
    let path = log.data_path(meta.active);
    let file = match File::open_existing(&**log.disk(), &path, Open::ReadWrite)? {
        Some(file) => file,
        None => {
            let file = File::open(&**log.disk(), &path, Open::Create(data_mode(log)?))?;
            sync_names(log)?;
            file
        }
    };
    log.saw(meta.active);
    Ok((meta, file))
}

/// Makes the segment that `meta` names as active, and moves the metastore on to it, under the metastore's lock.
fn advance(log: &Shared, metastore: &File, meta: &Metastore, hold: bool) -> Result<Active> {
    let path = log.data_path(meta.active);
    let data = Arc::new(File::open(&**log.disk(), &path, Open::Create(data_mode(log)?))?);
    // Nobody waits here for a segment while the metastore is locked; nobody else can have this one yet, either.
    let held = if hold { data.try_lock_owned()? } else { None };
    let synced = meta.safety != Safety::Unsafe;
    if synced {
        sync_names(log)?;
    }
    store_active(metastore, meta, meta.active)?;
    if synced {
        metastore.sync()?;
    }
    log.saw(meta.active);
    Ok(Active { held, named: synced, ..Active::new(meta, data) })
}

/// Moves the metastore on, under its lock: four bytes in place, which running libjlog processes have mapped.
fn store_active(metastore: &File, meta: &Metastore, to: SegmentId) -> Result<()> {
    let mut word = [0; 4];
    meta.order.put_u32(&mut word, to.0);
    metastore.pwrite(&word, 0)
}
