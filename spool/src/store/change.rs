//! Changing: what of a stored message is new is written, and messages are removed.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use jlog::{ErrorKind, Place, Timestamp};

use super::Store;
use super::accept::{Draft, require_standing};
use crate::books::{Books, ResourceSpot, UNWRITTEN};
use crate::error::{Result, SpoolError};
use crate::id::MessageId;
use crate::index::{self, Slot};
use crate::message::{Dirty, Held, Message, State};
use crate::note::Stands;
use crate::options::Durability;
use crate::record::{LogNo, Remove, Update, kind};

/// How many messages one record of removals names at most.
const REMOVES: usize = 1 << 16;
/// How many are taken out of the books at a time: in between, others may take them.
const AT_A_TIME: usize = 1024;

/// How a message is updated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change {
    /// All of it, changed or not.
    pub(crate) force: bool,
    /// It goes into the schedule, wherever it was.
    pub(crate) schedule: bool,
    /// It is on the disk when the call returns, where the spool's durability says so.
    pub(crate) wait: bool,
}

impl Default for Change {
    fn default() -> Change {
        Change { force: false, schedule: false, wait: true }
    }
}

/// What [`Spool::update`](crate::Spool::update) wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Written {
    /// Nothing: the disk has it as it is.
    None,
    /// How the message stands: some hundred bytes.
    Standing,
    /// All its metadata, and how it stands.
    Full,
}

impl Store {
    /// Writes what of a message is not on the disk as it is.
    pub(crate) fn update(&self, message: &Message, now: Timestamp, how: Change) -> Result<Written> {
        let id = message.id();
        self.writer(LogNo::Arrivals)?;
        self.wait_loaded()?;
        let mut state = message.state();
        if self.is_unwritten(id) {
            return self.update_unwritten(message, state, now, how);
        }
        let dirty = state.dirty;
        if !how.force && dirty == Dirty::default() && state.resources.is_empty() {
            if how.schedule {
                // Whoever wrote the change, because memory was short, has left the message with who has it in hand.
                let mut books = self.books();
                let slot = books.find(id.to_u64()).ok_or(SpoolError::NotFound(id))?;
                self.restand(&mut books, slot, &state, true);
            }
            return Ok(Written::None);
        }
        require_standing(&state.standing)?;
        let full = how.force || dirty.meta;
        if full && state.contexts.is_none() {
            state.contexts = Some(self.read_contexts(id)?);
        }
        let meta = if full { Some(self.encode_meta(id, &mut state)?) } else { None };

        let turn = self.take_turn(id);
        let base = {
            let books = self.books();
            let slot = books.find(id.to_u64()).ok_or(SpoolError::NotFound(id))?;
            books.home(books.base(slot)).ok_or(SpoolError::NotFound(id))?
        };
        let mut draft = Draft::default();
        let update = Update {
            id: id.to_u64(),
            change: self.next_change(),
            base,
            standing: state.standing.clone(),
            meta: meta.as_deref(),
        };
        let record = draft.put(update.kind(), |out| update.encode(out));
        let resources = self.draft_resources(&mut draft, id, &state, Some(base));
        let flight = self.flights.board();
        let places = self.append_needed(&draft, now)?;
        {
            let mut books = self.books();
            let slot = books.find(id.to_u64()).ok_or(SpoolError::NotFound(id))?;
            let (spot, span) = self.book(&mut books, &places[record])?;
            if full {
                books.set_meta(slot, spot, span, false);
            } else {
                books.set_standing(slot, spot, span);
            }
            for (name, record) in &resources {
                let (spot, span) = self.book(&mut books, &places[*record])?;
                let gone = matches!(state.resources.get(name), Some(Held::Deleted));
                let span = u32::try_from(span).unwrap_or(u32::MAX);
                books.set_resource(slot, ResourceSpot { name: name.clone(), spot, span, gone });
            }
            self.restand(&mut books, slot, &state, how.schedule);
        }
        drop(flight);
        state.dirty = Dirty::default();
        state.resources.clear();
        drop(turn);
        drop(state);
        self.counts.updated.fetch_add(1, Ordering::Relaxed);
        let wait = how.wait && self.options.durability == Durability::Power;
        if let Some(last) = places.last().filter(|_| wait) {
            self.writer(LogNo::Arrivals)?.wait_durable(last.id)?;
        }
        Ok(if full { Written::Full } else { Written::Standing })
    }

    /// The schedule follows what a message's record says, where that has changed; a message that was handed out stays so
    /// unless it is to be `schedule`d.
    fn restand(&self, books: &mut Books, slot: Slot, state: &State, schedule: bool) {
        let (was, at) = (books.index.get(slot).state(), books.index.get(slot).next_attempt());
        let stands = Stands::from(state.standing.clone());
        // Somebody may have moved its turn in memory alone.
        let at = if state.dirty.next { stands.next_attempt } else { at };
        books.stand(slot, &Stands { next_attempt: at, ..stands });
        match was {
            _ if schedule => books.schedule(slot, at),
            index::State::Delayed | index::State::Idle => books.schedule(slot, at),
            index::State::Active => books.activate(slot),
            index::State::Free => {}
        }
    }

    pub(crate) fn is_unwritten(&self, id: MessageId) -> bool {
        let books = self.books();
        books.find(id.to_u64()).is_some_and(|slot| books.index.get(slot).flags & UNWRITTEN != 0)
    }

    /// A message that is in memory alone is written once it has failed often enough, or memory is short.
    fn update_unwritten(
        &self,
        message: &Message,
        state: MutexGuard<'_, State>,
        now: Timestamp,
        how: Change,
    ) -> Result<Written> {
        let due = match self.options.durability {
            Durability::Deferred { after_attempts } => state.standing.attempts >= after_attempts,
            _ => true,
        };
        {
            let mut books = self.books();
            let slot = books.find(message.id().to_u64()).ok_or(SpoolError::NotFound(message.id()))?;
            self.restand(&mut books, slot, &state, how.schedule);
        }
        drop(state);
        if !due && !how.force {
            return Ok(Written::None);
        }
        match self.write_new(std::slice::from_ref(message), now, Durability::Power, true) {
            // Somebody else writes it just now.
            Err(SpoolError::Exists(_)) => return Ok(Written::None),
            other => other?,
        }
        self.forget_unwritten(message.id());
        Ok(Written::Full)
    }

    /// Appends what must be written on a full disk as well: room is kept for it.
    fn append_needed(&self, draft: &Draft, now: Timestamp) -> Result<Vec<Place>> {
        let writer = self.writer(LogNo::Arrivals)?;
        let entries = draft.entries(now);
        match writer.append_entries(&entries, jlog::Durability::Process) {
            // Somebody else may have given the room up just now.
            Err(error) if error.kind() == ErrorKind::NoSpace => {
                self.reserve.release(&*self.disk);
                Ok(writer.append_entries(&entries, jlog::Durability::Process)?)
            }
            other => Ok(other?),
        }
    }

    /// Removes messages, and returns how many there were. In the kernel when it returns: see
    /// [`Store::sync`](Store::sync).
    pub(crate) fn remove(&self, ids: &[MessageId]) -> Result<usize> {
        self.writer(LogNo::Arrivals)?;
        self.wait_loaded()?;
        let mut turns: Vec<usize> = ids.iter().map(|id| self.turn(*id)).collect();
        turns.sort_unstable();
        turns.dedup();
        let turns: Vec<MutexGuard<'_, ()>> = turns
            .iter()
            .map(|turn| self.turns[*turn].lock().unwrap_or_else(PoisonError::into_inner))
            .collect();

        let mut gone = Vec::with_capacity(ids.len());
        let mut unwritten = Vec::new();
        {
            let books = self.books();
            for id in ids {
                let Some(slot) = books.find(id.to_u64()) else { continue };
                match books.home(books.base(slot)) {
                    Some(home) => gone.push((id.to_u64(), home)),
                    None => unwritten.push(*id),
                }
            }
        }
        let mut draft = Draft::default();
        for gone in gone.chunks(REMOVES) {
            let remove = Remove { change: self.next_change(), gone: gone.to_vec() };
            draft.put(kind::REMOVE, |out| remove.encode(out));
        }
        let flight = self.flights.board();
        let places =
            if gone.is_empty() { Vec::new() } else { self.append_needed(&draft, Timestamp::default())? };

        let mut removed = 0;
        for (gone, place) in gone.chunks(REMOVES).zip(&places) {
            for gone in gone.chunks(AT_A_TIME) {
                let mut books = self.books();
                let (spot, _) = self.book(&mut books, place)?;
                let holder = books.home(spot);
                for (id, home) in gone {
                    let Some(slot) = books.find(*id) else { continue };
                    books.remove(slot);
                    removed += 1;
                    if let Some(holder) = holder {
                        books.note_removal(holder, *home);
                    }
                }
            }
        }
        for id in &unwritten {
            let mut books = self.books();
            if let Some(slot) = books.find(id.to_u64()) {
                books.remove(slot);
                removed += 1;
            }
        }
        drop(flight);
        drop(turns);
        for id in ids {
            self.forget_resident(*id);
            self.forget_unwritten(*id);
        }
        self.counts.removed.fetch_add(removed as u64, Ordering::Relaxed);
        self.removed(u32::try_from(gone.len()).unwrap_or(u32::MAX))?;
        Ok(removed)
    }

    /// Writes a removal of messages that are in no books.
    pub(super) fn write_removal(&self, remove: &Remove) -> Result<()> {
        let mut draft = Draft::default();
        draft.put(kind::REMOVE, |out| remove.encode(out));
        let places = self.append_needed(&draft, Timestamp::default())?;
        let mut books = self.books();
        for place in &places {
            let (spot, _) = self.book(&mut books, place)?;
            books.note_removals(spot, remove);
        }
        Ok(())
    }

    /// Keeps to how many removals may not be on the disk.
    fn removed(&self, removals: u32) -> Result<()> {
        if removals == 0 {
            return Ok(());
        }
        let before = self.undurable.fetch_add(removals, Ordering::AcqRel);
        if before.saturating_add(removals) > self.options.max_undurable_removes.0 {
            return self.sync();
        }
        if before == 0 {
            self.keeper.ring();
        }
        Ok(())
    }

    /// Makes all that was written durable.
    pub(crate) fn sync(&self) -> Result<()> {
        let removals = self.undurable.load(Ordering::Acquire);
        for log in LogNo::ALL {
            self.writer(log)?.sync()?;
        }
        let _ = self
            .undurable
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| Some(now.saturating_sub(removals)));
        Ok(())
    }

    /// Writes what is in memory alone: all that can be. The first error of those that could not is returned.
    pub(crate) fn write_all(&self, now: Timestamp) -> Result<()> {
        let unwritten: Vec<Message> = {
            let held = self.unwritten.lock().unwrap_or_else(PoisonError::into_inner);
            held.values().cloned().collect()
        };
        let mut first = Ok(());
        for message in unwritten {
            match self.update(&message, now, Change { force: true, ..Change::default() }) {
                // It was removed meanwhile.
                Ok(_) | Err(SpoolError::NotFound(_)) => {}
                Err(error) => first = first.and(Err(error)),
            }
        }
        first
    }

    /// Leaves the logs so that the next open finds nothing to put right.
    pub(crate) fn close_logs(&self) -> Result<()> {
        let writers = self.writers.write().unwrap_or_else(PoisonError::into_inner).take();
        // Who is still writing closes them by dropping them.
        let Some(writers) = writers.and_then(Arc::into_inner) else { return Ok(()) };
        writers.into_iter().try_for_each(|writer| Ok(writer.close()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Spool, SpoolOptions};

    /// Threads that deliver, with few messages in memory: a message that had failed was written by whoever needed its room,
    /// between the moment it was noted and the moment it was put back, and so was never put back.
    #[test]
    fn a_message_whose_failure_somebody_else_has_written_is_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let spool: Spool = SpoolOptions::new().background(false).open(dir.path().join("spool")).unwrap();
        let now = Timestamp::new(1_700_000_000, 0);
        let message = Message::from_bytes(spool.new_id(now), *b"hello");
        spool.accept(&message, now).unwrap();
        let later = Timestamp::new(1_800_000_000, 0);
        assert_eq!(spool.due(later, 9).unwrap(), [message.id()]);

        message.attempted(1, b"4", Some(1_700_000_100));
        // Memory is short.
        spool.store.update(&message, now, Change::default()).unwrap();
        assert_eq!(spool.due(later, 9).unwrap(), [], "it is in somebody's hands still");
        spool.store.update(&message, now, Change { schedule: true, ..Change::default() }).unwrap();
        assert_eq!(spool.due(Timestamp::new(1_700_000_099, 0), 9).unwrap(), []);
        assert_eq!(spool.due(later, 9).unwrap(), [message.id()]);
    }
}
