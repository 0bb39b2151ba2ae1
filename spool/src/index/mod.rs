//! The messages of a spool, in memory: where the records of each lie, which queue it is in, and when its turn comes.
//!
//! Pure memory. Nothing here reads a disk or a clock, or locks: whoever owns the index holds one lock around it.
//!
//! ```text
//!   id ──── table ────► slot ────► slab: the entries, in chunks
//!                        ▲               │ left, right
//!   queue ── queues ─────┴─ schedule ◄───┘ a queue's delayed messages are a tree, its active ones a line
//!   next due of each queue: a set
//! ```
//!
//! A message costs 52 bytes of entry and at most 9.4 of table: the schedule runs through the entries themselves.

mod queues;
mod schedule;
mod slab;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

pub use queues::QueueKey;
pub(crate) use queues::{QueueCounts, QueueRef};
pub(crate) use slab::{Entry, Slot, State};

use queues::Queues;
use schedule::Order;
use slab::Slab;
use table::Table;

/// All messages of a spool, and the schedule of their attempts.
///
/// A [`Slot`] is good until its message is removed; then another message may get it. Whoever keeps one while the lock
/// is released keeps the id too, and compares. A call with the slot of no message panics or touches another message.
pub(crate) struct Index {
    slab: Slab,
    table: Table,
    queues: Queues,
    /// The first delayed message of every queue that has one: exactly what each queue's `first` says.
    dues: BTreeSet<(Order, QueueRef)>,
}

impl Index {
    /// An empty index. The seed should not be known to whoever chooses ids.
    pub(crate) fn new(seed: u64) -> Index {
        Index {
            slab: Slab::new(table::mix(seed, 1)),
            table: Table::new(seed),
            queues: Queues::default(),
            dues: BTreeSet::new(),
        }
    }

    /// Takes a message in, idle. Its id must not be there already; its queue, unless it is
    /// [`QueueRef::NONE`], must have been interned.
    pub(crate) fn insert(&mut self, entry: Entry) -> Slot {
        debug_assert!(self.find(entry.id()).is_none(), "an id is inserted once");

        if entry.queue != QueueRef::NONE {
            self.queues.at_mut(entry.queue).counts.arrive(entry.size);
        }
        let slot = self.slab.insert(entry);
        self.table.insert(&self.slab, slot);
        slot
    }

    /// The message with this id.
    pub(crate) fn find(&self, id: u64) -> Option<Slot> {
        self.table.find(&self.slab, id)
    }

    /// A message's entry.
    pub(crate) fn get(&self, slot: Slot) -> &Entry {
        self.slab.at(slot)
    }

    /// A message's entry, to change where its records lie, its attempts and flags. What the schedule and the counts
    /// stand on has calls of its own.
    pub(crate) fn get_mut(&mut self, slot: Slot) -> &mut Entry {
        self.slab.at_mut(slot)
    }

    /// Takes a message out of its queue and out of the index. A queue that this empties is forgotten.
    pub(crate) fn remove(&mut self, slot: Slot) -> Entry {
        self.unlist(slot);
        self.table.remove(&self.slab, slot);
        let entry = self.slab.remove(slot);
        self.leave(entry.queue, entry.size);
        entry
    }

    /// How many messages there are.
    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    /// The slots of all messages, in the slab's order.
    pub(crate) fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        self.slots_after(None)
    }

    /// The slots of all messages behind this one, whether or not it is still there. A walk that goes on where it
    /// stopped sees every message that was there all along once; of those that came or went meanwhile, some.
    pub(crate) fn slots_after(&self, after: Option<Slot>) -> impl Iterator<Item = Slot> + '_ {
        self.slab.slots_after(after)
    }

    /// Bytes allocated, those of queues included. What the B-trees take is estimated.
    pub(crate) fn memory(&self) -> usize {
        let due = size_of::<(Order, QueueRef)>() * 3 / 2;
        self.slab.memory() + self.table.memory() + self.queues.memory() + self.dues.len() * due
    }
}

/// Queues.
impl Index {
    /// The queue of this key, made if there is none. It is forgotten when its last message leaves, and its number may
    /// become another queue's: it is to be used before the lock is released.
    pub(crate) fn intern(&mut self, key: &QueueKey) -> QueueRef {
        self.queues.intern(key)
    }

    /// The queue of this key, if there is one.
    pub(crate) fn queue(&self, key: &QueueKey) -> Option<QueueRef> {
        self.queues.find(key)
    }

    /// A queue's key.
    pub(crate) fn key(&self, queue: QueueRef) -> &QueueKey {
        &self.queues.at(queue).key
    }

    /// All queues, in the order of their keys.
    pub(crate) fn queues(&self) -> impl Iterator<Item = (QueueRef, &QueueKey)> + '_ {
        self.queues.iter()
    }

    /// How many queues there are.
    pub(crate) fn queue_count(&self) -> usize {
        self.queues.len()
    }

    /// What a queue holds.
    pub(crate) fn counts(&self, queue: QueueRef) -> QueueCounts {
        self.queues.at(queue).counts
    }

    /// The delayed message of a queue whose turn comes first.
    pub(crate) fn first_delayed(&self, queue: QueueRef) -> Option<Slot> {
        self.queues.at(queue).delayed.first(&self.slab)
    }

    /// A page of a queue: its delayed messages in their order, then its active ones in the order they became so.
    /// Idle messages are not listed. The page begins behind `after`, wherever that now is in the list; when it has left
    /// the list, the page is empty.
    pub(crate) fn list(&self, queue: QueueRef, after: Option<Slot>, limit: usize) -> Vec<Slot> {
        let q = self.queues.at(queue);
        let mut page = Vec::new();
        let Some(slot) = after else {
            q.delayed.walk(&self.slab, None, limit, &mut page);
            q.active.walk(&self.slab, None, limit, &mut page);
            return page;
        };

        let entry = self.slab.at(slot);
        match entry.state {
            State::Delayed if entry.queue == queue => {
                q.delayed.walk(&self.slab, Some(entry.order()), limit, &mut page);
                q.active.walk(&self.slab, None, limit, &mut page);
            }
            State::Active if entry.queue == queue => q.active.walk(&self.slab, Some(slot), limit, &mut page),
            _ => {}
        }
        page
    }
}

/// The schedule.
impl Index {
    /// Puts a message among the delayed ones of a queue, from wherever it was. A queue that this empties is forgotten.
    pub(crate) fn delay(&mut self, slot: Slot, queue: QueueRef, next_attempt: u32) {
        let priority = self.slab.at(slot).priority;
        self.assign(slot, queue, next_attempt, priority);
        self.enlist_delayed(slot);
    }

    /// Changes a message's queue, next attempt and priority, and makes it idle. A queue that this empties is forgotten.
    pub(crate) fn assign(&mut self, slot: Slot, queue: QueueRef, next_attempt: u32, priority: u8) {
        self.unlist(slot);

        let entry = self.slab.at_mut(slot);
        let (old, size) = (std::mem::replace(&mut entry.queue, queue), entry.size);
        (entry.next_attempt, entry.priority) = (next_attempt, priority);
        if old != queue {
            self.queues.at_mut(queue).counts.arrive(size);
            self.leave(old, size);
        }
    }

    /// Puts a message at the end of its queue's active ones, from wherever it was. A message in no queue stays idle.
    pub(crate) fn activate(&mut self, slot: Slot) {
        self.unlist(slot);
        let queue = self.slab.at(slot).queue;
        if queue != QueueRef::NONE {
            self.queues.at_mut(queue).enlist_active(&mut self.slab, slot);
        }
    }

    /// Takes a message off its queue's lists. It goes on to count as the queue's.
    pub(crate) fn idle(&mut self, slot: Slot) {
        self.unlist(slot);
    }

    /// When the first delayed message of all is due.
    pub(crate) fn next_due(&self) -> Option<u32> {
        self.dues.first().map(|(order, _)| order.next_attempt)
    }

    /// Hands out up to `limit` messages whose next attempt is not after `now`, and makes them active. Over all queues
    /// the earliest come first, of those the ones of higher priority, of those the lower ids.
    pub(crate) fn due(&mut self, now: u32, limit: usize) -> Vec<Slot> {
        let mut due = Vec::new();
        while due.len() < limit
            && let Some(&(order, queue)) = self.dues.first()
            && order.next_attempt <= now
        {
            self.dues.pop_first();
            let others = self.dues.first().map(|(order, _)| *order);
            self.take(queue, now, others, limit, &mut due);
        }
        due
    }

    /// [`Index::due`], of one queue.
    pub(crate) fn due_in(&mut self, queue: QueueRef, now: u32, limit: usize) -> Vec<Slot> {
        let mut due = Vec::new();
        if let Some(first) = self.queues.at(queue).first {
            self.dues.remove(&(first, queue));
            self.take(queue, now, None, limit, &mut due);
        }
        due
    }

    /// Makes every idle message that is in a queue delayed, in time that is linear but for sorting: the end of a bulk
    /// load. Active messages stay so. While it runs it needs 24 bytes more for each message that is not active.
    pub(crate) fn build_schedule(&mut self) {
        let mut sorted: Vec<(QueueRef, Order, Slot)> = self
            .slab
            .slots_after(None)
            .map(|slot| (slot, self.slab.at(slot)))
            .filter(|(_, entry)| entry.queue != QueueRef::NONE && entry.state != State::Active)
            .map(|(slot, entry)| (entry.queue, entry.order(), slot))
            .collect();
        sorted.sort_unstable();

        for run in sorted.chunk_by(|a, b| a.0 == b.0) {
            let (queue, first, _) = run[0];
            let q = self.queues.at_mut(queue);
            if let Some(old) = q.first.replace(first) {
                self.dues.remove(&(old, queue));
            }
            q.delayed.build(&mut self.slab, run.iter().map(|(_, _, slot)| *slot));
            // Slots are u32, and so is how many there can be.
            q.counts.delayed = run.len() as u32;
            self.dues.insert((first, queue));
        }
    }

    /// Moves what is due from a queue's delayed messages to its active ones, as long as it comes before `others`, and
    /// puts the queue back into the set of dues, which it must have been taken out of.
    fn take(&mut self, queue: QueueRef, now: u32, others: Option<Order>, limit: usize, due: &mut Vec<Slot>) {
        let q = self.queues.at_mut(queue);
        while due.len() < limit
            && let Some(first) = q.first
            && first.next_attempt <= now
            && others.is_none_or(|others| first < others)
            && let Some((slot, next)) = q.delayed.pop_first(&mut self.slab)
        {
            q.first = next.map(|next| self.slab.at(next).order());
            q.counts.delayed -= 1;
            q.enlist_active(&mut self.slab, slot);
            due.push(slot);
        }
        if let Some(first) = q.first {
            self.dues.insert((first, queue));
        }
    }

    /// Makes an idle message of a queue delayed.
    fn enlist_delayed(&mut self, slot: Slot) {
        let entry = self.slab.at_mut(slot);
        let (queue, order) = (entry.queue, entry.order());
        entry.state = State::Delayed;

        let q = self.queues.at_mut(queue);
        q.delayed.insert(&mut self.slab, slot);
        q.counts.delayed += 1;
        if q.first.is_none_or(|first| order < first) {
            if let Some(old) = q.first.replace(order) {
                self.dues.remove(&(old, queue));
            }
            self.dues.insert((order, queue));
        }
    }

    /// Makes a message idle, whatever it was.
    fn unlist(&mut self, slot: Slot) {
        let entry = self.slab.at(slot);
        let (queue, order) = (entry.queue, entry.order());
        match entry.state {
            State::Idle | State::Free => return,
            State::Active => {
                let q = self.queues.at_mut(queue);
                q.active.remove(&mut self.slab, slot);
                q.counts.active -= 1;
            }
            State::Delayed => {
                let q = self.queues.at_mut(queue);
                q.delayed.remove(&mut self.slab, slot);
                q.counts.delayed -= 1;
                if q.first == Some(order) {
                    q.first = q.delayed.first(&self.slab).map(|first| self.slab.at(first).order());
                    self.dues.remove(&(order, queue));
                    self.dues.extend(q.first.map(|first| (first, queue)));
                }
            }
        }
        let entry = self.slab.at_mut(slot);
        entry.state = State::Idle;
        (entry.left, entry.right) = (Slot::NIL, Slot::NIL);
    }

    /// Counts an idle message out of a queue, and forgets the queue if it was the last.
    fn leave(&mut self, queue: QueueRef, size: u32) {
        if queue != QueueRef::NONE {
            self.queues.at_mut(queue).counts.depart(size);
            self.queues.release(queue);
        }
    }
}
