//! Which messages stay in memory: those used last, within the limits of messages, bytes, and messages a queue.

use std::collections::HashMap;
use std::sync::Arc;

use lru::LruCache;

use crate::id::MessageId;
use crate::index::QueueKey;
use crate::message::Message;

/// The messages that the spool itself keeps in memory.
#[derive(Debug)]
pub(crate) struct Residents {
    used: LruCache<MessageId, Resident>,
    bytes: u64,
    per_queue: HashMap<Arc<QueueKey>, usize>,
    limits: Limits,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) messages: usize,
    pub(crate) bytes: u64,
    pub(crate) per_queue: Option<usize>,
}

#[derive(Debug)]
struct Resident {
    message: Message,
    bytes: u64,
    queue: Arc<QueueKey>,
}

impl Residents {
    pub(crate) fn new(limits: Limits) -> Residents {
        Residents { used: LruCache::unbounded(), bytes: 0, per_queue: HashMap::new(), limits }
    }

    /// Whether so many messages are in memory that others should go (`ec_message_should_reduce_resources`).
    pub(crate) fn is_full(&self) -> bool {
        self.used.len() >= self.limits.messages || self.bytes >= self.limits.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.used.len()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Keeps a message, which was used just now, and returns those that have to go instead: perhaps this one.
    pub(crate) fn keep(&mut self, message: &Message, bytes: u64, queue: Arc<QueueKey>) -> Vec<Message> {
        // Perhaps another handle, of a message that had the same id: not to be dropped here, with a lock in hand.
        let mut gone: Vec<Message> = self.forget(message.id()).into_iter().collect();
        gone.retain(|before| !Arc::ptr_eq(&before.inner, &message.inner));
        let in_queue = self.per_queue.get(&queue).copied().unwrap_or(0);
        if self.limits.per_queue.is_some_and(|most| in_queue >= most) {
            gone.push(message.clone());
            return gone;
        }
        *self.per_queue.entry(Arc::clone(&queue)).or_default() += 1;
        self.bytes += bytes;
        self.used.put(message.id(), Resident { message: message.clone(), bytes, queue });
        while self.used.len() > self.limits.messages || self.bytes > self.limits.bytes {
            let Some((id, _)) = self.used.peek_lru() else { break };
            let id = *id;
            gone.extend(self.forget(id));
        }
        gone
    }

    /// Does not keep a message any more.
    pub(crate) fn forget(&mut self, id: MessageId) -> Option<Message> {
        let resident = self.used.pop(&id)?;
        self.bytes -= resident.bytes;
        if let Some(count) = self.per_queue.get_mut(&resident.queue) {
            *count -= 1;
            if *count == 0 {
                self.per_queue.remove(&resident.queue);
            }
        }
        Some(resident.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(domain: &str) -> Arc<QueueKey> {
        Arc::new(QueueKey { domain: domain.to_owned(), ..QueueKey::default() })
    }

    fn message(n: u64) -> Message {
        Message::new(MessageId::from_u64(n))
    }

    fn ids(messages: &[Message]) -> Vec<u64> {
        messages.iter().map(|message| message.id().to_u64()).collect()
    }

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let mut kept = Residents::new(Limits { messages: 2, bytes: 100, per_queue: None });
        let first = message(1);
        assert_eq!(ids(&kept.keep(&first, 10, queue("a"))), []);
        assert_eq!(ids(&kept.keep(&message(2), 10, queue("a"))), []);
        assert_eq!(ids(&kept.keep(&first, 10, queue("a"))), []);
        assert_eq!(ids(&kept.keep(&message(3), 10, queue("a"))), [2]);
        assert_eq!(ids(&kept.keep(&message(4), 95, queue("a"))), [1, 3]);
        assert_eq!((kept.len(), kept.bytes()), (1, 95));
    }

    #[test]
    fn a_message_larger_than_the_limit_does_not_stay_and_one_queue_does_not_fill_memory() {
        let mut kept = Residents::new(Limits { messages: 9, bytes: 100, per_queue: Some(1) });
        assert_eq!(ids(&kept.keep(&message(1), 101, queue("a"))), [1]);
        assert_eq!(ids(&kept.keep(&message(2), 1, queue("a"))), []);
        assert_eq!(ids(&kept.keep(&message(3), 1, queue("a"))), [3]);
        assert_eq!(ids(&kept.keep(&message(4), 1, queue("b"))), []);
        kept.forget(MessageId::from_u64(2));
        assert_eq!(ids(&kept.keep(&message(3), 1, queue("a"))), []);
        assert_eq!(kept.bytes(), 2);
    }
}
