//! The queues that messages wait in: their keys, their numbers, and what each of them holds.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::schedule::{Line, Order, Tree};
use super::slab::{Slab, Slot, State};

/// What a message is queued by.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueKey {
    /// Where the messages go.
    pub domain: String,
    /// What they are sent from.
    pub binding: String,
    /// The group of the binding; may be empty.
    pub group: String,
}

impl fmt::Display for QueueKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.domain, self.binding)?;
        if !self.group.is_empty() {
            write!(f, "/{}", self.group)?;
        }
        Ok(())
    }
}

/// A queue's number. It is good as long as the queue holds a message, or has not held one yet. A call with one that is
/// not is the caller's mistake: it panics, or means the queue that has the number now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct QueueRef(u32);

impl QueueRef {
    /// The queue of a message that is in none.
    pub(crate) const NONE: QueueRef = QueueRef(u32::MAX);
}

/// What a queue holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct QueueCounts {
    /// All its messages: delayed, active and idle.
    pub(crate) messages: u32,
    /// Those that wait for their time.
    pub(crate) delayed: u32,
    /// Those that were handed out.
    pub(crate) active: u32,
    /// The sizes of all its messages together.
    pub(crate) bytes: u64,
}

impl QueueCounts {
    /// Counts a message in.
    pub(super) fn arrive(&mut self, size: u32) {
        self.messages += 1;
        self.bytes += u64::from(size);
    }

    /// Counts a message out.
    pub(super) fn depart(&mut self, size: u32) {
        self.messages -= 1;
        self.bytes -= u64::from(size);
    }
}

/// A queue.
pub(super) struct Queue {
    pub(super) key: Arc<QueueKey>,
    pub(super) delayed: Tree,
    /// The order of the first message in `delayed`, kept here so that most insertions need not look for it.
    pub(super) first: Option<Order>,
    pub(super) active: Line,
    pub(super) counts: QueueCounts,
}

impl Queue {
    /// Makes a message of this queue, which is in neither list, active.
    pub(super) fn enlist_active(&mut self, slab: &mut Slab, slot: Slot) {
        slab.at_mut(slot).state = State::Active;
        self.active.push(slab, slot);
        self.counts.active += 1;
    }
}

/// The queues there are. A number that is free holds `None`, and is in `free`.
#[derive(Default)]
pub(super) struct Queues {
    queues: Vec<Option<Queue>>,
    free: Vec<QueueRef>,
    by_key: HashMap<Arc<QueueKey>, QueueRef>,
    /// Bytes of the strings in the keys of `by_key`.
    strings: usize,
}

impl Queues {
    pub(super) fn intern(&mut self, key: &QueueKey) -> QueueRef {
        if let Some(queue) = self.find(key) {
            return queue;
        }

        let queue = self.free.pop().unwrap_or_else(|| {
            self.queues.push(None);
            QueueRef(
                u32::try_from(self.queues.len() - 1).expect("memory ends before the numbers of queues do"),
            )
        });
        self.strings += strings(key);
        let key = Arc::new(key.clone());
        self.by_key.insert(Arc::clone(&key), queue);
        self.queues[queue.0 as usize] = Some(Queue {
            key,
            delayed: Tree::EMPTY,
            first: None,
            active: Line::EMPTY,
            counts: QueueCounts::default(),
        });
        queue
    }

    pub(super) fn find(&self, key: &QueueKey) -> Option<QueueRef> {
        self.by_key.get(key).copied()
    }

    pub(super) fn at(&self, queue: QueueRef) -> &Queue {
        self.queues[queue.0 as usize].as_ref().expect("a queue in use is not forgotten")
    }

    pub(super) fn at_mut(&mut self, queue: QueueRef) -> &mut Queue {
        self.queues[queue.0 as usize].as_mut().expect("a queue in use is not forgotten")
    }

    /// Forgets a queue if it is empty.
    pub(super) fn release(&mut self, queue: QueueRef) {
        let place = &mut self.queues[queue.0 as usize];
        if let Some(empty) = place.take_if(|queue| queue.counts.messages == 0) {
            self.by_key.remove(&empty.key);
            self.strings -= strings(&empty.key);
            self.free.push(queue);
        }
    }

    /// In the order of their keys: sorted now, as it is asked for rarely.
    pub(super) fn iter(&self) -> impl Iterator<Item = (QueueRef, &QueueKey)> + '_ {
        let mut queues: Vec<(QueueRef, &QueueKey)> =
            self.by_key.iter().map(|(key, queue)| (*queue, &**key)).collect();
        queues.sort_unstable_by_key(|(_, key)| *key);
        queues.into_iter()
    }

    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Bytes allocated.
    pub(super) fn memory(&self) -> usize {
        let key = 2 * size_of::<usize>() + size_of::<QueueKey>();
        self.strings
            + self.by_key.len() * key
            + self.by_key.capacity() * (size_of::<(Arc<QueueKey>, QueueRef)>() + 1)
            + self.queues.capacity() * size_of::<Option<Queue>>()
            + self.free.capacity() * size_of::<QueueRef>()
    }
}

fn strings(key: &QueueKey) -> usize {
    key.domain.len() + key.binding.len() + key.group.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_as_domain_binding_and_group() {
        let mut key = QueueKey { domain: "example.com".into(), binding: "out".into(), group: String::new() };
        assert_eq!(key.to_string(), "example.com@out");
        key.group = "bulk".into();
        assert_eq!(key.to_string(), "example.com@out/bulk");
    }
}
