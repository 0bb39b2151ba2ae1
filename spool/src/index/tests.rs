//! The index beside a model that is too simple to be wrong, and what it costs.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::slab::Slab;
use super::*;

const KEYS: usize = 4;

fn key(number: usize) -> QueueKey {
    QueueKey { domain: format!("{number}.example"), binding: "out".into(), group: String::new() }
}

fn spread(id: u64) -> u64 {
    id.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[derive(Clone, Debug)]
enum Op {
    Insert { id: u64, queue: Option<usize>, next: u32, size: u32, priority: u8 },
    Remove(u64),
    Delay { id: u64, queue: usize, next: u32 },
    Activate(u64),
    Idle(u64),
    Assign { id: u64, queue: usize, next: u32, priority: u8 },
    Due { now: u32, limit: usize },
    DueIn { queue: usize, now: u32, limit: usize },
    Build,
}

fn op() -> impl Strategy<Value = Op> {
    let (id, next) = (0..40u64, 0..12u32);
    prop_oneof![
        8 => (id.clone(), prop::option::weighted(0.9, 0..KEYS), next.clone(), 0..100u32, 0..3u8)
            .prop_map(|(id, queue, next, size, priority)| Op::Insert { id, queue, next, size, priority }),
        3 => id.clone().prop_map(Op::Remove),
        8 => (id.clone(), 0..KEYS, next.clone()).prop_map(|(id, queue, next)| Op::Delay { id, queue, next }),
        3 => id.clone().prop_map(Op::Activate),
        2 => id.clone().prop_map(Op::Idle),
        2 => (id, 0..KEYS, next.clone(), 0..3u8)
            .prop_map(|(id, queue, next, priority)| Op::Assign { id, queue, next, priority }),
        2 => (next.clone(), 0..9usize).prop_map(|(now, limit)| Op::Due { now, limit }),
        2 => (0..KEYS, next, 0..9usize).prop_map(|(queue, now, limit)| Op::DueIn { queue, now, limit }),
        1 => Just(Op::Build),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum List {
    None,
    Delayed,
    /// With the number of the hand-out.
    Active(u64),
}

#[derive(Clone, Debug)]
struct Message {
    queue: Option<usize>,
    next: u32,
    size: u32,
    priority: u8,
    list: List,
}

/// The messages by their ids, and how many were handed out.
#[derive(Default)]
struct Model {
    messages: BTreeMap<u64, Message>,
    handed: u64,
}

impl Model {
    fn delayed(&self, queue: Option<usize>) -> Vec<u64> {
        let mut ids: Vec<u64> = self.messages.keys().copied().collect();
        ids.retain(|id| {
            let message = &self.messages[id];
            message.list == List::Delayed && (queue.is_none() || message.queue == queue)
        });
        ids.sort_by_key(|id| (self.messages[id].next, Reverse(self.messages[id].priority), *id));
        ids
    }

    fn listed(&self, queue: usize) -> Vec<u64> {
        let mut ids = self.delayed(Some(queue));
        let active: BTreeMap<u64, u64> = self
            .messages
            .iter()
            .filter(|(_, message)| message.queue == Some(queue))
            .filter_map(|(id, message)| match message.list {
                List::Active(number) => Some((number, *id)),
                _ => None,
            })
            .collect();
        ids.extend(active.values());
        ids
    }

    fn due(&mut self, queue: Option<usize>, now: u32, limit: usize) -> Vec<u64> {
        let mut ids = self.delayed(queue);
        ids.retain(|id| self.messages[id].next <= now);
        ids.truncate(limit);
        ids.iter().for_each(|id| self.activate(*id));
        ids
    }

    fn activate(&mut self, id: u64) {
        let message = self.messages.get_mut(&id).unwrap();
        message.list = if message.queue.is_some() { List::Active(self.handed) } else { List::None };
        self.handed += 1;
    }

    fn counts(&self, queue: usize) -> QueueCounts {
        let mut counts = QueueCounts::default();
        for message in self.messages.values().filter(|message| message.queue == Some(queue)) {
            counts.messages += 1;
            counts.delayed += u32::from(message.list == List::Delayed);
            counts.active += u32::from(matches!(message.list, List::Active(_)));
            counts.bytes += u64::from(message.size);
        }
        counts
    }
}

/// Does the same to both; what they answer is the same.
fn apply(index: &mut Index, model: &mut Model, op: &Op) {
    match *op {
        Op::Insert { id, queue, next, size, priority } => {
            let id = spread(id);
            if model.messages.contains_key(&id) {
                assert!(index.find(id).is_some());
                return;
            }
            let at = queue.map_or(QueueRef::NONE, |queue| index.intern(&key(queue)));
            let slot = index.insert(Entry::new(id, at, next, size, priority));
            assert_eq!(index.find(id), Some(slot));
            model.messages.insert(id, Message { queue, next, size, priority, list: List::None });
        }
        Op::Remove(id) => {
            let removed = model.messages.remove(&spread(id));
            let slot = index.find(spread(id));
            assert_eq!(slot.is_some(), removed.is_some());
            if let (Some(slot), Some(removed)) = (slot, removed) {
                let entry = index.remove(slot);
                assert_eq!((entry.id(), entry.next_attempt()), (spread(id), removed.next));
                assert_eq!((entry.size(), entry.priority()), (removed.size, removed.priority));
            }
        }
        Op::Delay { id, queue, next } => {
            if let Some(slot) = index.find(spread(id)) {
                let at = index.intern(&key(queue));
                index.delay(slot, at, next);
                let message = model.messages.get_mut(&spread(id)).unwrap();
                (message.queue, message.next, message.list) = (Some(queue), next, List::Delayed);
            }
        }
        Op::Activate(id) => {
            if let Some(slot) = index.find(spread(id)) {
                index.activate(slot);
                model.activate(spread(id));
            }
        }
        Op::Idle(id) => {
            if let Some(slot) = index.find(spread(id)) {
                index.idle(slot);
                model.messages.get_mut(&spread(id)).unwrap().list = List::None;
            }
        }
        Op::Assign { id, queue, next, priority } => {
            if let Some(slot) = index.find(spread(id)) {
                let at = index.intern(&key(queue));
                index.assign(slot, at, next, priority);
                let message = model.messages.get_mut(&spread(id)).unwrap();
                (message.queue, message.next, message.priority) = (Some(queue), next, priority);
                message.list = List::None;
            }
        }
        Op::Due { now, limit } => {
            let due = index.due(now, limit);
            assert_eq!(ids(index, &due), model.due(None, now, limit));
        }
        Op::DueIn { queue, now, limit } => {
            let due = index.queue(&key(queue)).map(|at| index.due_in(at, now, limit)).unwrap_or_default();
            assert_eq!(ids(index, &due), model.due(Some(queue), now, limit));
        }
        Op::Build => {
            index.build_schedule();
            for message in model.messages.values_mut() {
                if message.list == List::None && message.queue.is_some() {
                    message.list = List::Delayed;
                }
            }
        }
    }
}

fn ids(index: &Index, slots: &[Slot]) -> Vec<u64> {
    slots.iter().map(|slot| index.get(*slot).id()).collect()
}

/// Everything the index says is what the model says.
fn compare(index: &Index, model: &Model) {
    assert_eq!(index.len(), model.messages.len());
    let slots: Vec<Slot> = index.slots().collect();
    assert!(slots.is_sorted());
    let there: BTreeSet<u64> = ids(index, &slots).into_iter().collect();
    assert_eq!(there, model.messages.keys().copied().collect());
    for id in 0..40 {
        let slot = index.find(spread(id));
        assert_eq!(slot.is_some(), model.messages.contains_key(&spread(id)));
        assert!(slot.is_none_or(|slot| index.get(slot).id() == spread(id)));
    }

    let next = model.delayed(None).first().map(|id| model.messages[id].next);
    assert_eq!(index.next_due(), next);

    let used: Vec<QueueKey> = (0..KEYS).filter(|q| model.counts(*q).messages > 0).map(key).collect();
    assert_eq!(index.queues().map(|(_, key)| key.clone()).collect::<Vec<_>>(), used);
    for queue in 0..KEYS {
        let Some(at) = index.queue(&key(queue)) else { continue };
        assert_eq!(index.key(at), &key(queue));
        assert_eq!(index.counts(at), model.counts(queue));
        assert_eq!(
            index.first_delayed(at).map(|slot| index.get(slot).id()),
            model.delayed(Some(queue)).first().copied()
        );

        let listed = index.list(at, None, usize::MAX);
        assert_eq!(ids(index, &listed), model.listed(queue));
        for (place, after) in listed.iter().enumerate() {
            let rest = &listed[place + 1..];
            assert_eq!(index.list(at, Some(*after), 3), rest[..rest.len().min(3)]);
        }
        assert_eq!(index.list(at, None, 2), listed[..listed.len().min(2)]);
    }
}

/// The lists hold together, and what is kept twice agrees.
fn check(index: &Index) {
    let mut dues = BTreeSet::new();
    for (at, _) in index.queues() {
        let queue = index.queues.at(at);
        let mut delayed = Vec::new();
        walk(&index.slab, queue.delayed.root(), 1, &mut delayed);
        assert_eq!(delayed.len(), queue.counts.delayed as usize);
        assert!(delayed.iter().map(|(slot, _)| index.get(*slot).order()).is_sorted());
        assert!(delayed.iter().all(|(slot, _)| index.get(*slot).state() == State::Delayed));
        assert!(delayed.iter().all(|(slot, _)| index.get(*slot).queue() == at));
        assert_eq!(queue.first, delayed.first().map(|(slot, _)| index.get(*slot).order()));
        dues.extend(queue.first.map(|first| (first, at)));

        let active = index.list(at, None, usize::MAX).split_off(delayed.len());
        assert!(active.iter().all(|slot| index.get(*slot).state() == State::Active));
        let ends = std::iter::once(Slot::NIL).chain(active.iter().copied());
        assert!(ends.zip(&active).all(|(before, slot)| index.get(*slot).left == before));
    }
    assert_eq!(index.dues, dues);
}

/// All of a tree in its order, each with its depth. None is above one of greater weight.
fn walk(slab: &Slab, root: Slot, depth: usize, all: &mut Vec<(Slot, usize)>) {
    if root == Slot::NIL {
        return;
    }
    let (left, right) = (slab.at(root).left, slab.at(root).right);
    for below in [left, right].into_iter().filter_map(Slot::some) {
        assert!(slab.weight(below) < slab.weight(root));
    }
    walk(slab, left, depth + 1, all);
    all.push((root, depth));
    walk(slab, right, depth + 1, all);
}

proptest! {
    #[test]
    fn the_index_does_what_the_model_does(
        seed in any::<u64>(), ops in prop::collection::vec(op(), 1..150),
    ) {
        let (mut index, mut model) = (Index::new(seed), Model::default());
        for op in &ops {
            apply(&mut index, &mut model, op);
            compare(&index, &model);
            check(&index);
        }
    }
}

/// `n` messages spread over `queues`, idle; ids and times rise together.
fn loaded(n: u32, queues: usize) -> Index {
    let mut index = Index::new(42);
    let at: Vec<QueueRef> = (0..queues).map(|queue| index.intern(&key(queue))).collect();
    for i in 0..n {
        index.insert(Entry::new(u64::from(i), at[i as usize % queues], i, 1, 0));
    }
    index
}

fn depth(index: &Index) -> usize {
    let (at, _) = index.queues().next().unwrap();
    let mut all = Vec::new();
    walk(&index.slab, index.queues.at(at).delayed.root(), 1, &mut all);
    assert_eq!(all.len(), index.len());
    all.iter().map(|(_, depth)| *depth).max().unwrap_or(0)
}

#[test]
fn messages_that_come_in_order_do_not_make_a_deep_tree() {
    let mut index = loaded(50_000, 1);
    let (at, _) = index.queues().next().unwrap();
    let slots: Vec<Slot> = index.slots().collect();

    slots.iter().enumerate().for_each(|(i, slot)| index.delay(*slot, at, i as u32));
    // A random tree of so many is about 40 deep.
    assert!(depth(&index) <= 60, "{}", depth(&index));

    slots.iter().enumerate().for_each(|(i, slot)| index.delay(*slot, at, 100_000 - i as u32));
    assert!(depth(&index) <= 60, "{}", depth(&index));
}

#[test]
fn a_schedule_built_at_once_is_the_one_built_message_by_message() {
    let mut index = loaded(5_000, 1);
    let (at, _) = index.queues().next().unwrap();
    index.build_schedule();
    check(&index);
    let links = |index: &Index| {
        let link = |slot| (index.get(slot).left, index.get(slot).right);
        index.slots().map(link).collect::<Vec<_>>()
    };
    let built = links(&index);

    for slot in index.slots().collect::<Vec<_>>() {
        index.delay(slot, at, index.get(slot).next_attempt());
    }
    assert_eq!(links(&index), built);
}

#[test]
fn a_million_messages_take_64_bytes_each_at_most() {
    let mut index = Index::new(42);
    let at = index.intern(&key(0));
    for i in 0..1_250_000u32 {
        index.insert(Entry::new(spread(u64::from(i)), at, i, 1, 0));
        // Tables grow one after the other, and never all at once.
        if i >= 800_000 && i % 10_000 == 0 {
            let each = index.memory() as f64 / f64::from(i + 1);
            assert!(each <= 64.0, "{each} bytes a message for {i}");
        }
    }
}

#[test]
fn memory_goes_by_the_messages_there_are_not_by_those_there_were() {
    let mut index = Index::new(42);
    let at = index.intern(&key(0));
    let mut slots: Vec<Slot> =
        (0..100_000u32).map(|i| index.insert(Entry::new(spread(u64::from(i)), at, i, 1, 0))).collect();
    let full = index.memory();

    // One goes, one comes: nothing is left behind.
    for i in 0..300_000u32 {
        let place = spread(u64::from(i)) as usize % slots.len();
        index.remove(slots[place]);
        slots[place] = index.insert(Entry::new(spread(u64::from(200_000 + i)), at, i, 1, 0));
    }
    assert!(index.memory() <= full + full / 20, "{} after {full}", index.memory());

    for slot in slots.drain(1_000..) {
        index.remove(slot);
    }
    let rest: BTreeSet<Slot> = slots.iter().copied().collect();
    assert_eq!(index.slots().collect::<BTreeSet<_>>(), rest);
    for slot in slots {
        index.remove(slot);
    }
    assert_eq!(index.len(), 0);
    assert_eq!(index.queues().count(), 0);
    assert!(index.memory() <= 600_000, "{} for none", index.memory());
}

#[test]
fn a_chunk_given_back_is_used_again() {
    let mut index = loaded(20_000, 1);
    let full = index.memory();
    for slot in index.slots().take(16_000).collect::<Vec<_>>() {
        index.remove(slot);
    }
    let (at, _) = index.queues().next().unwrap();
    // Of three chunks without messages one is kept.
    assert!(index.memory() < full * 3 / 4, "{} after {full}", index.memory());
    let rest: Vec<u64> = index.slots().map(|slot| index.get(slot).id()).collect();
    assert_eq!(rest, (16_000..20_000).collect::<Vec<_>>());

    for id in 0..16_000 {
        index.insert(Entry::new(id, at, 0, 1, 0));
    }
    assert_eq!(index.slots().count(), 20_000);
    assert!(index.memory() <= full + full / 10, "{} after {full}", index.memory());
    assert!((0..20_000).all(|id| index.find(id).is_some_and(|slot| index.get(slot).id() == id)));
}

#[test]
fn a_walk_over_the_slots_goes_on_where_it_stopped() {
    let mut index = loaded(10_000, 1);
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let part: Vec<Slot> = index.slots_after(after).take(1_000).collect();
        let Some(last) = part.last().copied() else { break };
        seen.extend(ids(&index, &part));
        // The very slot it stopped at goes meanwhile.
        index.remove(last);
        after = Some(last);
    }
    assert_eq!(seen, (0..10_000).collect::<Vec<_>>());
}

#[test]
fn an_empty_queue_gives_its_number_to_the_next() {
    let mut index = Index::new(1);
    let first = index.intern(&key(0));
    let slot = index.insert(Entry::new(1, first, 0, 1, 0));
    let second = index.intern(&key(1));
    assert_ne!(first, second);

    index.delay(slot, second, 5);
    assert_eq!(index.queue(&key(0)), None);
    assert_eq!(index.intern(&key(2)), first);
    assert_eq!(index.key(first), &key(2));
}

#[test]
fn a_message_in_no_queue_is_never_scheduled() {
    let mut index = Index::new(1);
    let slot = index.insert(Entry::new(1, QueueRef::NONE, 0, 1, 0));
    index.activate(slot);
    index.build_schedule();
    assert_eq!(index.get(slot).state(), State::Idle);
    assert_eq!(index.due(u32::MAX, 10), []);
}

#[test]
fn a_page_behind_a_message_that_left_the_list_is_empty() {
    let mut index = loaded(10, 1);
    let (at, _) = index.queues().next().unwrap();
    index.build_schedule();
    let first = index.first_delayed(at).unwrap();
    index.idle(first);
    assert_eq!(index.list(at, Some(first), 5), []);
    let gone = index.list(at, None, 1)[0];
    index.remove(gone);
    assert_eq!(index.list(at, Some(gone), 5), []);
}
