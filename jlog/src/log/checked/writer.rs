//! Appending to a checksummed log: one commit, one write; the sync is the group's.

use std::borrow::Cow;
use std::io::IoSlice;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::control::{Control, ControlFile, Mark};
use super::group::Group;
use super::make::Ahead;
use super::recover::{Walked, take_over, walk_through};
use super::retention::{Room, require_room};
use super::settings::Settings;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{Marker, RecordId, SegmentId, Timestamp};
use crate::io::{File, LockGuard, Open};
use crate::log::checkpoints;
use crate::log::durability::Durability;
use crate::log::shared::Shared;
use crate::log::writer::{Entry, Place as Stands, Recovery, WriterOptions, data_mode};
use crate::record::CheckedWalk;
use crate::record::checked::{
    COMMIT_HEADER, CommitHeader, Kind, Payload, Place, SEGMENT_HEADER, kind, record_span,
};
use crate::record::compress::MAX_MESSAGE;
use crate::record::index::Index;
use crate::record::walk::{Ending, Extent};
use crate::segment::SegmentSource;
use crate::sync::{Mutex, MutexGuard, thread};

/// Up to this size a payload is copied behind its header; above, it is written from where it is.
const COPY_LIMIT: usize = 16 * 1024;

/// Room that is not used and smaller than this stays where it is.
const ROOM_GIVEN_BACK: u64 = 4096;

/// How long a writer that waits for subscribers sleeps before it looks again.
const BLOCKED: Duration = Duration::from_millis(5);
/// How often an owner asks for a log that others share before he gives up.
const PATIENCE: u32 = 200;

/// The writer of a checksummed log.
#[derive(Debug)]
pub(crate) struct CheckedWriter {
    log: Arc<Shared>,
    state: Mutex<State>,
    group: Group,
    control: ControlFile,
    pid: u32,
    durability: Durability,
    shared: bool,
    /// Segments are made with room for all they will hold, so that a sync changes no size.
    room: bool,
}

#[derive(Debug)]
struct State {
    active: Active,
    control: Control,
    settings: Settings,
    scratch: Vec<u8>,
    payload: Payload,
    recovery: Recovery,
    failed: bool,
    /// Something was appended since this was opened, or since the last mark was set at the end.
    appended: bool,
    /// Up to where this writer has appended.
    last_written: Mark,
}

/// The active segment. Its index knows where it ends.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) id: SegmentId,
    pub(crate) data: Arc<File>,
    pub(super) place: Place,
    pub(crate) index: Index,
    /// It ends with the commit that closes it: nothing is appended to it any more.
    closed: bool,
}

impl Active {
    pub(crate) fn new(id: SegmentId, data: Arc<File>, index: Index) -> Active {
        Active { id, data, place: Place::new(index.header.log, id.0), index, closed: false }
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark { segment: self.id, end: self.index.end, marker: self.index.last_marker }
    }

    fn next_marker(&self) -> u32 {
        self.index.last_marker.saturating_add(1)
    }

    /// Writes a commit without records.
    fn mark_end(&self, durable: u64, closing: bool) -> Result<u64> {
        let at = self.index.end;
        let commit = CommitHeader { len: 0, records: 0, first_marker: self.next_marker(), durable, closing };
        self.data.pwrite(&commit.encode(self.place, at), at)?;
        Ok(at + commit.span())
    }

    /// Gives back what of its room a closed segment has not used. It stays where that cannot be done: it does no harm.
    fn give_back_room(&self) {
        let end = self.index.end + COMMIT_HEADER as u64;
        if self.data.size().is_ok_and(|size| size >= end + ROOM_GIVEN_BACK) {
            let _ = self.data.truncate(end);
        }
    }

    /// Writes the commit that closes the segment. It is no part of what its successor says of it: it may be missing.
    pub(crate) fn close(&self, durable: u64) -> Result<()> {
        self.mark_end(durable, true).map(drop)
    }
}

impl CheckedWriter {
    pub(crate) fn open(log: Arc<Shared>, options: &WriterOptions) -> Result<CheckedWriter> {
        log.require_writable()?;
        let settings = log.current_settings()?;
        let durability = options.durability.unwrap_or(settings.durability);
        let control = ControlFile::open(&**log.disk(), log.dir(), settings.log, data_mode(&log)?)?;
        let shared = !options.exclusive.unwrap_or(true);
        let lock = if shared { control.file.lock()? } else { own(&control)? };
        if !shared {
            Ahead::clear(&**log.disk(), log.dir());
        }
        let mut recovery = Recovery::default();
        let room = durability.is_synced();
        let (active, now) = join(&log, &control, shared, durability, room, &mut recovery)?;
        if shared {
            drop(lock);
        } else {
            lock.keep();
        }
        let state = State {
            active,
            control: now,
            settings,
            scratch: Vec::new(),
            payload: Payload::default(),
            recovery,
            failed: false,
            appended: false,
            last_written: Mark::default(),
        };
        let group = Group::starting_at(now.durable);
        Ok(CheckedWriter {
            log,
            state: Mutex::new(state),
            group,
            control,
            pid: std::process::id(),
            durability,
            shared,
            room,
        })
    }

    pub(crate) fn recovery(&self) -> Recovery {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).recovery.clone()
    }

    pub(crate) fn durability(&self) -> Durability {
        self.durability
    }

    pub(crate) fn is_exclusive(&self) -> bool {
        !self.shared
    }

    /// Appends all of them as one commit, tells where each stands, and returns the id of the last; `None` for none.
    pub(crate) fn append<'a>(
        &self,
        entries: &mut dyn Iterator<Item = Entry<'a>>,
        durability: Durability,
        placed: &mut dyn FnMut(Stands),
    ) -> Result<Option<RecordId>> {
        self.tell_all(self.append_all(entries, durability, placed))
    }

    fn append_all<'a>(
        &self,
        entries: &mut dyn Iterator<Item = Entry<'a>>,
        durability: Durability,
        placed: &mut dyn FnMut(Stands),
    ) -> Result<Option<RecordId>> {
        let (mut state, lock) = self.enter_with_room(State::is_full)?;
        let durable = self.durable_in(&state);
        let Some((id, records, bytes)) = state.append(&self.log, entries, durable, placed)? else {
            return Ok(None);
        };
        self.tell(&mut state)?;
        drop(lock);
        self.log.metrics().appended(u64::from(records), bytes);
        self.acknowledge(state, id, durability).map(Some)
    }

    /// Tells those who asked to be called, now that no lock is held; and all who wait, where this writer is at its end.
    fn tell_all<T>(&self, outcome: Result<T>) -> Result<T> {
        if let Err(error) = &outcome
            && self.state.lock().unwrap_or_else(PoisonError::into_inner).failed
        {
            self.group.fail(&error.to_string());
        }
        self.group.deliver();
        outcome
    }

    /// Goes on in the next segment, unless the active one holds no record. All that was appended is durable then.
    pub(crate) fn rotate(&self) -> Result<SegmentId> {
        self.tell_all(self.enter_with_room(State::is_used).map(|(state, _)| state.active.id))
    }

    /// Makes the space of the next segment ready.
    pub(crate) fn make_ahead(&self) -> Result<bool> {
        let Some(checked) = self.log.checked().filter(|_| self.room && !self.shared) else {
            return Ok(false);
        };
        let room = u64::from(self.log.current_settings()?.segment_size);
        checked.ahead.make(&**self.log.disk(), self.log.dir(), room, data_mode(&self.log)?)
    }

    /// Makes all that was appended durable.
    pub(crate) fn sync(&self) -> Result<()> {
        self.tell_all(self.sync_all())
    }

    fn sync_all(&self) -> Result<()> {
        let written = self.state()?.active.mark();
        if self.group.durable() >= written {
            return Ok(());
        }
        self.group.sync_now(|| self.sync_written())
    }

    /// Syncs, and leaves the log so that the next open finds nothing to put right.
    pub(crate) fn close(&self) -> Result<()> {
        self.tell_all(self.sync_all().and_then(|()| self.leave()))
    }

    fn leave(&self) -> Result<()> {
        let mut state = self.state()?;
        let _lock = self.enter(&mut state)?;
        if state.appended && !self.shared && !state.active.closed {
            // What says that the last records were durable, to whoever finds one of them damaged.
            let end = state.active.mark_end(state.active.index.end, false)?;
            let (latest, marker) = (state.active.index.latest, state.active.index.last_marker);
            state.active.index.commit(latest, end, marker);
            state.active.data.sync()?;
            state.appended = false;
            state.control.durable = state.active.mark();
        }
        state.control.written = state.active.mark();
        state.control.clean = !self.shared;
        self.control.write(&state.control)
    }

    pub(crate) fn last_id(&self) -> Result<RecordId> {
        Ok(self.state()?.active.mark().id())
    }

    pub(crate) fn durable_id(&self) -> RecordId {
        self.group.durable().id()
    }

    pub(crate) fn wait_durable(&self, id: RecordId) -> Result<()> {
        let last = self.tell_all(self.last_id())?;
        let unknown = || {
            let what = format!("{id} was not appended yet; the last record is {last}");
            Err(Error::new(ErrorKind::Invalid, "wait for a record", what).at(self.log.dir()))
        };
        // Where others write too, the sync finds out what they have appended.
        if id > last && !self.shared {
            return unknown();
        }
        self.tell_all(self.group.wait(id, Duration::ZERO, || self.sync_written()))?;
        if self.group.durable().id() < id { unknown() } else { Ok(()) }
    }

    pub(crate) fn on_durable(&self, id: RecordId, call: Box<dyn FnOnce(Result<RecordId>) + Send>) {
        self.group.call(id, call);
    }

    #[cfg(feature = "async")]
    pub(crate) fn poll_durable(&self, id: RecordId, waker: &std::task::Waker) -> Option<Result<()>> {
        self.group.poll(id, waker)
    }

    fn state(&self) -> Result<MutexGuard<'_, State>> {
        // A thread that panicked while it appended has left the state it was about to change.
        let mut state = self.state.lock().unwrap_or_else(|poisoned| {
            let mut state = PoisonError::into_inner(poisoned);
            state.failed = true;
            state
        });
        if state.failed {
            return Err(Error::poisoned(state.active.data.path()));
        }
        state.scratch.clear();
        Ok(state)
    }

    /// The state, and the log for one append: in a segment that is not done with yet, once the log's policies allow one
    /// more where one is needed. Nobody is kept out while it waits for that.
    fn enter_with_room(
        &self,
        is_done: fn(&State) -> bool,
    ) -> Result<(MutexGuard<'_, State>, Option<LockGuard<'_>>)> {
        loop {
            let mut state = self.state()?;
            let lock = self.enter(&mut state)?;
            if !is_done(&state) {
                return Ok((state, lock));
            }
            let settings = self.log.current_settings()?;
            if settings.retention.expire_after.is_some() {
                // Where nobody reads, nobody else does it. That it cannot be done is no reason not to append.
                let _ = checkpoints::prune(&self.log, SegmentId(0), SegmentId(u32::MAX));
            }
            if require_room(&self.log, &settings)? == Room::Enough {
                self.make_room(&mut state)?;
                return Ok((state, lock));
            }
            drop(lock);
            drop(state);
            self.group.deliver();
            thread::sleep(BLOCKED);
        }
    }

    /// Takes the log for one append where others write too, and takes in what they have appended.
    fn enter(&self, state: &mut State) -> Result<Option<LockGuard<'_>>> {
        if !self.shared {
            return Ok(None);
        }
        let lock = self.control.file.lock()?;
        let now = self.control.read()?.filter(|now| self.log.is_of_now(now));
        let ours = now.filter(|now| now.term == state.control.term && !now.is_doubted() && !now.clean);
        let same = ours.filter(|now| now.written.segment == state.active.id);
        match same {
            Some(now) if self.catch_up(state, &now)? => state.control = now,
            _ => {
                let (active, control) =
                    join(&self.log, &self.control, true, self.durability, self.room, &mut state.recovery)?;
                if control.term != state.control.term {
                    self.refuse_if_lost(state, &active)?;
                }
                state.active = active;
                state.control = control;
            }
        }
        self.group.reached(state.control.durable);
        Ok(Some(lock))
    }

    /// Somebody has taken the log over since this writer looked at it last, perhaps after a sync that failed: what he found on
    /// the disk is where the log goes on. If a record of this writer that was not synced by then is not among it, this
    /// writer is at its end, and all who wait for it are told, whatever the watermark says of others' records.
    fn refuse_if_lost(&self, state: &mut State, active: &Active) -> Result<()> {
        let ours = state.last_written;
        if ours <= self.group.durable() || self.is_among(ours, active)? {
            return Ok(());
        }
        state.failed = true;
        let why = "a sync of another process has failed, and what was written here and not synced is lost";
        self.group.fail(why);
        Err(Error::new(ErrorKind::Poisoned, "go on writing", why).at(self.log.dir()))
    }

    /// Whether the log that goes on in `active` has all up to this mark.
    fn is_among(&self, mark: Mark, active: &Active) -> Result<bool> {
        if mark.segment == active.id {
            return Ok(mark <= active.mark());
        }
        let Some(next) = mark.segment.next().filter(|next| *next <= active.id) else { return Ok(false) };
        let told = self.log.header(next)?;
        Ok(told
            .is_some_and(|header| header.previous_end >= mark.end && header.previous_marker >= mark.marker))
    }

    /// Goes on behind what others have appended to the same segment; false if it is not fit for that.
    fn catch_up(&self, state: &mut State, now: &Control) -> Result<bool> {
        let end = state.active.index.end;
        let Some(seen) = state.active.walk_on(&self.log, now)? else { return Ok(false) };
        if seen.end > end {
            // Its notes begin where ours end.
            state.active.index.absorb(&seen, end);
        }
        Ok(true)
    }

    /// Tells the other processes how far the log is written.
    fn tell(&self, state: &mut State) -> Result<()> {
        state.appended = true;
        state.last_written = state.active.mark();
        if !self.shared {
            return Ok(());
        }
        state.control.written = state.active.mark();
        state.control.pid = self.pid;
        self.say(state)
    }

    /// Says in the control file what others go by. The record is written: "no space" would say that nothing of it is.
    fn say(&self, state: &mut State) -> Result<()> {
        self.control.write(&state.control).map_err(|error| {
            state.failed = true;
            error.of_kind(ErrorKind::Io)
        })
    }

    /// Goes on in the next segment.
    fn make_room(&self, state: &mut State) -> Result<()> {
        let durable = self.durable_in(state);
        // It has to stand before the segment that lies behind it is there; what it says is said by that one as well.
        self.settle(state, |state| {
            state.active.close(durable)?;
            state.active.closed = true;
            state.active.data.sync()
        })?;
        state.active.give_back_room();
        if self.shared && state.control.durable < state.active.mark() {
            // Whether there is space for the next segment or not: who waits for a record of this one need wait no more.
            state.control.durable = state.active.mark();
            self.say(state)?;
            self.group.reached(state.control.durable);
        }
        let next = self.log.next_segment(state.active.id)?;
        state.settings = self.log.current_settings()?;
        // Where there is no space for a new segment this one stays the last, closed, and the next append tries again.
        let made = match state.active.successor(&self.log, next, self.room, state.active.mark()) {
            Err(error) if error.kind() != ErrorKind::NoSpace => {
                state.failed = true;
                return Err(error);
            }
            outcome => outcome?,
        };
        state.active = made;
        state.appended = false;
        state.control.durable = state.active.mark();
        state.control.written = state.active.mark();
        self.say(state)?;
        self.group.reached(state.control.durable);
        self.log.metrics().rotated();
        Ok(())
    }

    /// Something that must reach the disk: if it does not, this writer is at its end, and everybody is told.
    fn settle(&self, state: &mut State, deed: impl FnOnce(&mut State) -> Result<()>) -> Result<()> {
        deed(state).inspect_err(|error| {
            if error.kind() != ErrorKind::NoSpace {
                self.poison(state, error);
            }
        })
    }

    fn poison(&self, state: &mut State, error: &Error) {
        state.failed = true;
        state.control.poisoned = true;
        // If even this cannot be written, the mark of the sync under way says the same.
        let _ = self.control.write(&state.control);
        self.group.fail(&error.to_string());
    }

    /// Up to where the active segment is known to be on the disk.
    fn durable_in(&self, state: &State) -> u64 {
        let durable = self.group.durable();
        if durable.segment == state.active.id { durable.end } else { 0 }
    }

    fn acknowledge(
        &self,
        state: MutexGuard<'_, State>,
        id: RecordId,
        durability: Durability,
    ) -> Result<RecordId> {
        drop(state);
        let company = match durability {
            Durability::Process | Durability::Interval(_) => return Ok(id),
            Durability::Sync => Duration::ZERO,
            Durability::Group(company) => company,
        };
        if crate::planted("ack_before_sync") {
            return Ok(id);
        }
        self.group.arrive();
        // The record is written: "no space" would say that nothing of it is.
        let waited = self.group.wait(id, company, || self.sync_written());
        waited.map_err(|error| match error.kind() {
            ErrorKind::NoSpace => error.of_kind(ErrorKind::Io),
            _ => error,
        })?;
        Ok(id)
    }

    /// Syncs what is written at this moment, and says how far that was.
    fn sync_written(&self) -> Result<Mark> {
        if self.shared {
            return self.sync_in_turn();
        }
        let (data, mark) = {
            let mut state = self.state()?;
            state.control.syncing = true;
            self.say(&mut state)?;
            (Arc::clone(&state.active.data), state.active.mark())
        };
        let outcome = sync_data(&data);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.synced(&mut state, mark, outcome)
    }

    /// Where others write too, nobody writes while one syncs: so the sync covers what everybody has written.
    fn sync_in_turn(&self) -> Result<Mark> {
        let mut state = self.state()?;
        // Another process may have synced it, or closed the segment behind it, and said so.
        let written = state.active.mark();
        let now = self.control.read()?.filter(|now| self.log.is_of_now(now));
        let same = now.filter(|now| now.term == state.control.term && !now.is_doubted());
        if same.is_some_and(|now| now.durable >= written) {
            return Ok(written);
        }
        let _lock = self.enter(&mut state)?;
        let mark = state.active.mark();
        if state.control.durable >= mark {
            return Ok(mark);
        }
        state.control.syncing = true;
        state.control.pid = self.pid;
        self.say(&mut state)?;
        let outcome = sync_data(&state.active.data);
        self.synced(&mut state, mark, outcome)
    }

    fn synced(&self, state: &mut State, mark: Mark, outcome: Result<()>) -> Result<Mark> {
        state.control.syncing = false;
        if let Err(error) = outcome {
            self.poison(state, &error);
            return Err(error);
        }
        self.log.metrics().synced(1);
        state.control.durable = state.control.durable.max(mark);
        self.say(state)?;
        Ok(mark)
    }
}

/// Takes the log for as long as the lock is held. Those who share it hold it for one append; an owner does not let go.
fn own(control: &ControlFile) -> Result<LockGuard<'_>> {
    for _ in 0..PATIENCE {
        if let Some(lock) = control.file.try_lock()? {
            return Ok(lock);
        }
        if !control.read()?.is_some_and(|now| now.shared) {
            break;
        }
        thread::sleep(BLOCKED);
    }
    Err(control.busy())
}

fn sync_data(data: &File) -> Result<()> {
    #[cfg(planted_bugs)]
    if crate::planted("retried_sync") {
        return data.sync().or_else(|_| data.sync_again());
    }
    data.sync()
}

/// Takes part in a log: beside those who write to it now, or, where nobody does, after putting right what they left.
fn join(
    log: &Shared,
    control: &ControlFile,
    shared: bool,
    durability: Durability,
    room: bool,
    recovery: &mut Recovery,
) -> Result<(Active, Control)> {
    let before = control.read()?;
    let eager = !durability.is_synced();
    let live = before.filter(|now| shared && log.is_of_now(now) && now.shared && !now.is_doubted());
    if let Some(now) = live
        && let Some(active) = take_part(log, &now)?
    {
        let now = Control { eager: now.eager || eager, clean: false, ..now };
        control.write(&now)?;
        return Ok((active, now));
    }

    let taken = take_over(log, before.as_ref(), room, recovery)?;
    taken.data.sync()?;
    let mark = taken.mark();
    let now = Control {
        boot: log.boot(),
        term: before.map_or(1, |before| before.term.wrapping_add(1)),
        pid: std::process::id(),
        written: mark,
        durable: mark,
        shared,
        eager,
        syncing: false,
        poisoned: false,
        clean: false,
    };
    control.write(&now)?;
    log.saw(taken.id);
    Ok((taken, now))
}

/// Opens the segment that others write to; `None` if it is not fit to go on in.
fn take_part(log: &Shared, now: &Control) -> Result<Option<Active>> {
    let mut active = match Active::reopen(log, now.written.segment) {
        Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::NotFound) => return Ok(None),
        outcome => outcome?,
    };
    let walked = active.walk_on(log, now)?;
    let Some(index) = walked else { return Ok(None) };
    active.index = index;
    Ok(Some(active))
}

impl Active {
    /// Opens the segment that others write to.
    fn reopen(log: &Shared, id: SegmentId) -> Result<Active> {
        let path = log.data_path(id);
        let data = Arc::new(File::open(&**log.disk(), &path, Open::ReadWrite)?);
        let index = Index::new(log.require_header(id)?);
        Ok(Active::new(id, data, index))
    }

    /// Walks on from this segment's end as far as others have written, and cuts off the half of a commit that one who died
    /// has left. `None` if the segment is damaged, or closed by somebody who could not say that there is another one.
    fn walk_on(&self, log: &Shared, now: &Control) -> Result<Option<Index>> {
        let size = self.data.size()?;
        // What the control file says was written is there, whole: the machine has not been down since.
        let written = Some(now.written).filter(|written| written.segment == self.id).unwrap_or_default();
        // Behind that nothing stands, nearly always, and a walk would read far ahead to see it.
        let known = written.end >= SEGMENT_HEADER as u64 && self.is_free(written.end)?;
        let extent = Extent {
            end: if known { written.end } else { size.max(written.end) },
            sealed: false,
            proven: written.end,
            proven_marker: written.marker,
            last: None,
            settled: true,
        };
        let source =
            SegmentSource::new(log.disk(), Arc::clone(&self.data), log.index_path(self.id), log.codec());
        let mut walk = CheckedWalk::new(source, log.identity(), self.id.0, extent);
        if self.index.last_marker > 0 {
            walk.resume(self.index.end, self.index.last_marker);
        }
        let Walked { index, damaged, ending, .. } = walk_through(&mut walk, log, self.id)?;
        if damaged || walk.is_closed() {
            return Ok(None);
        }
        if matches!(ending, Ending::Torn { .. }) {
            self.data.truncate(index.end)?;
        }
        Ok(Some(index))
    }

    /// Whether neither a commit stands at `at` nor the first bytes of one, left by somebody who died before he could tell.
    fn is_free(&self, at: u64) -> Result<bool> {
        let mut bytes = [0; COMMIT_HEADER];
        let got = self.data.pread_up_to(&mut bytes, at)?;
        let cut_short = (1..COMMIT_HEADER).contains(&got);
        Ok(!cut_short && CommitHeader::decode(&bytes[..got], self.place, at).is_none())
    }
}

impl State {
    fn is_full(&self) -> bool {
        self.active.closed || self.active.index.end >= u64::from(self.settings.segment_size)
    }

    fn is_used(&self) -> bool {
        self.active.closed || self.active.index.last_marker > 0
    }

    /// One commit for all of them. The last id, how many there are, and how many bytes their messages have.
    fn append<'a>(
        &mut self,
        log: &Shared,
        entries: &mut dyn Iterator<Item = Entry<'a>>,
        durable: u64,
        placed: &mut dyn FnMut(Stands),
    ) -> Result<Option<(RecordId, u32, u64)>> {
        let mut gathered = Gathered { bytes: std::mem::take(&mut self.scratch), ..Gathered::default() };
        let mut payload = std::mem::take(&mut self.payload);
        let outcome = self.gather(log, entries, &mut gathered, &mut payload, placed).and_then(|()| {
            if gathered.records == 0 {
                return Ok(None);
            }
            self.write(&mut gathered, durable).map(|id| Some((id, gathered.records, gathered.total)))
        });
        self.scratch = gathered.bytes;
        self.payload = payload;
        outcome
    }

    /// The records of a commit that will stand at the segment's end.
    fn gather<'a>(
        &self,
        log: &Shared,
        entries: &mut dyn Iterator<Item = Entry<'a>>,
        into: &mut Gathered<'a>,
        payload: &mut Payload,
        placed: &mut dyn FnMut(Stands),
    ) -> Result<()> {
        let (place, end) = (self.active.place, self.active.index.end);
        into.bytes.resize(COMMIT_HEADER, 0);
        for Entry { kind, time, payload: message } in entries {
            check_entry(log, kind, message)?;
            let all = into.len() + record_span(message.len() as u64 + 64);
            if all > u64::from(u32::MAX) || into.records == u32::MAX {
                return Err(too_large(log, "a batch of 4 GiB or more"));
            }
            let offset = end + into.len();
            let (header, stored) = payload.of(message, time, kind.number(), self.settings.compression);
            into.bytes.extend_from_slice(&header.encode(place, offset));
            if stored.len() <= COPY_LIMIT {
                into.bytes.extend_from_slice(stored);
            } else {
                let lent = match header.compressed {
                    true => Cow::Owned(payload.take()),
                    false => Cow::Borrowed(message),
                };
                into.lent_bytes += lent.len() as u64;
                into.lent.push((into.bytes.len(), lent));
            }
            into.fill(offset + header.span() - end);
            let marker = Marker(self.active.next_marker().saturating_add(into.records));
            let id = RecordId { segment: self.active.id, marker };
            placed(Stands { id, offset, stored_len: header.span() });
            into.records += 1;
            into.total += message.len() as u64;
            into.latest = into.latest.max(time);
        }
        Ok(())
    }

    fn commit(&self, len: u32, records: u32, durable: u64) -> CommitHeader {
        CommitHeader { len, records, first_marker: self.active.next_marker(), durable, closing: false }
    }

    /// Puts the commit's header in front of its records, and writes it.
    fn write(&mut self, gathered: &mut Gathered<'_>, durable: u64) -> Result<RecordId> {
        let (at, len) = (self.active.index.end, gathered.len());
        let body = u32::try_from(len - COMMIT_HEADER as u64).expect("checked when the records were gathered");
        let commit = self.commit(body, gathered.records, durable);
        let active = &mut self.active;
        let last = active.index.last_marker.checked_add(gathered.records);
        let Some(marker) = last else {
            let what = "a segment can hold 4,294,967,295 records; make its segments smaller";
            return Err(Error::new(ErrorKind::TooLarge, "append a record", what).at(active.data.path()));
        };
        gathered.bytes[..COMMIT_HEADER].copy_from_slice(&commit.encode(active.place, at));
        if let Err(error) = gathered.write(&active.data, at) {
            // Nothing of it may stay. Where that cannot be had either, this writer is at its end, and says so.
            let clear = error.kind() == ErrorKind::NoSpace && active.data.truncate(at).is_ok();
            self.failed |= !clear;
            let error = if clear { error } else { error.of_kind(ErrorKind::Io) };
            return Err(error);
        }
        active.index.commit(gathered.latest, at + len, marker);
        Ok(RecordId { segment: active.id, marker: Marker(marker) })
    }
}

/// The bytes of a commit on their way to the segment: small payloads are copied behind their headers, large ones are
/// written from where they are.
#[derive(Default)]
struct Gathered<'a> {
    /// Headers, small payloads, and what fills them up.
    bytes: Vec<u8>,
    /// The large payloads, and in front of which of these bytes each stands.
    lent: Vec<(usize, Cow<'a, [u8]>)>,
    lent_bytes: u64,
    records: u32,
    /// The bytes of all messages.
    total: u64,
    latest: Timestamp,
}

impl Gathered<'_> {
    fn len(&self) -> u64 {
        self.bytes.len() as u64 + self.lent_bytes
    }

    /// Fills it with zeros up to so many bytes: fewer than 8.
    fn fill(&mut self, len: u64) {
        let missing = usize::try_from(len - self.len()).expect("less than a multiple of 8 away");
        self.bytes.resize(self.bytes.len() + missing, 0);
    }

    fn write(&self, data: &File, at: u64) -> Result<()> {
        if self.lent.is_empty() {
            return data.pwrite(&self.bytes, at);
        }
        let mut pieces = Vec::with_capacity(2 * self.lent.len() + 1);
        let mut from = 0;
        for (to, lent) in &self.lent {
            pieces.extend([IoSlice::new(&self.bytes[from..*to]), IoSlice::new(lent)]);
            from = *to;
        }
        pieces.push(IoSlice::new(&self.bytes[from..]));
        data.pwritev(&mut pieces, at)
    }
}

fn check_entry(log: &Shared, kind: Kind, message: &[u8]) -> Result<()> {
    if !kind::is_delivered(kind.number()) {
        let what = format!("{} is no message's kind, and no application's", kind.number());
        return Err(Error::new(ErrorKind::Invalid, "append a record", what).at(log.dir()));
    }
    if message.len() <= MAX_MESSAGE {
        return Ok(());
    }
    Err(too_large(log, &format!("a message of {} bytes is above the limit of {MAX_MESSAGE}", message.len())))
}

fn too_large(log: &Shared, what: &str) -> Error {
    Error::new(ErrorKind::TooLarge, "append a message", what).at(log.dir())
}
