//! The two lists of a queue, which run through the entries of its messages: a tree of the delayed, a line of the active.
//!
//! The tree is a treap: in the order of the attempts from left to right, and no message above one of greater weight.
//! Weights are seeded hashes of the ids, so that the shape is that of a random tree whatever the order of insertion:
//! some 20 levels for a thousand messages, 50 for a million. It takes two links a message and nothing else; nothing
//! here recurses.

use std::cmp::Reverse;

use super::slab::{Slab, Slot, State};

/// The order of delayed messages: the earliest first, then the highest priority, then the lowest id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Order {
    pub(super) next_attempt: u32,
    pub(super) priority: Reverse<u8>,
    pub(super) id: u64,
}

/// The delayed messages of a queue.
pub(super) struct Tree {
    root: Slot,
}

/// A place that holds a link of the tree.
#[derive(Clone, Copy)]
enum Link {
    Root,
    Left(Slot),
    Right(Slot),
}

impl Tree {
    pub(super) const EMPTY: Tree = Tree { root: Slot::NIL };

    /// Takes a message in that is in no list.
    pub(super) fn insert(&mut self, slab: &mut Slab, slot: Slot) {
        let (order, weight) = (slab.at(slot).order(), slab.weight(slot));

        // Down to the first of less weight: that is the new one's place.
        let mut link = Link::Root;
        let mut node = self.root;
        while node != Slot::NIL && slab.weight(node) > weight {
            link = toward(slab, node, order);
            node = self.at(slab, link);
        }
        self.put(slab, link, slot);

        // What was below that place is split: the earlier go to the left of the new one, the later to the right.
        let (mut earlier, mut later) = (Link::Left(slot), Link::Right(slot));
        while node != Slot::NIL {
            let next = toward(slab, node, order);
            match next {
                Link::Left(_) => {
                    self.put(slab, later, node);
                    later = next;
                }
                _ => {
                    self.put(slab, earlier, node);
                    earlier = next;
                }
            }
            node = self.at(slab, next);
        }
        self.put(slab, earlier, Slot::NIL);
        self.put(slab, later, Slot::NIL);
    }

    /// Takes a message out that is in this tree.
    pub(super) fn remove(&mut self, slab: &mut Slab, slot: Slot) {
        let order = slab.at(slot).order();
        let mut link = Link::Root;
        let mut node = self.root;
        while node != slot {
            link = toward(slab, node, order);
            node = self.at(slab, link);
        }

        // Its two halves become one: at each step the root of greater weight is the upper one.
        let (mut earlier, mut later) = (slab.at(slot).left, slab.at(slot).right);
        while earlier != Slot::NIL && later != Slot::NIL {
            if slab.weight(earlier) > slab.weight(later) {
                self.put(slab, link, earlier);
                link = Link::Right(earlier);
                earlier = slab.at(earlier).right;
            } else {
                self.put(slab, link, later);
                link = Link::Left(later);
                later = slab.at(later).left;
            }
        }
        self.put(slab, link, if earlier == Slot::NIL { later } else { earlier });
    }

    /// The first message.
    pub(super) fn first(&self, slab: &Slab) -> Option<Slot> {
        leftmost(slab, self.root)
    }

    /// Takes the first message out; tells which one is first then.
    pub(super) fn pop_first(&mut self, slab: &mut Slab) -> Option<(Slot, Option<Slot>)> {
        let mut first = self.root.some()?;
        let mut above = None;
        while let Some(left) = slab.at(first).left.some() {
            above = Some(first);
            first = left;
        }
        let right = slab.at(first).right;
        self.put(slab, above.map_or(Link::Root, Link::Left), right);
        Some((first, leftmost(slab, right).or(above)))
    }

    /// Adds the messages behind `after`, or from the first, to a page, until that has `limit` of them.
    pub(super) fn walk(&self, slab: &Slab, after: Option<Order>, limit: usize, page: &mut Vec<Slot>) {
        // Those whose turn comes once what is left of them is through; the next of them is the last here.
        let mut path = Vec::new();
        let mut node = self.root;
        loop {
            while let Some(slot) = node.some() {
                let entry = slab.at(slot);
                if after.is_none_or(|after| after < entry.order()) {
                    path.push(slot);
                    node = entry.left;
                } else {
                    node = entry.right;
                }
            }
            if page.len() >= limit {
                return;
            }
            let Some(slot) = path.pop() else { return };
            page.push(slot);
            node = slab.at(slot).right;
        }
    }

    /// Becomes the tree of these messages, which are in order and in no other list, and makes them delayed: in linear
    /// time, because each goes to the right of the last, above those of less weight there.
    pub(super) fn build(&mut self, slab: &mut Slab, sorted: impl Iterator<Item = Slot>) {
        self.root = Slot::NIL;
        // The way from the root to the last message, to the right all along.
        let mut spine: Vec<(Slot, u64)> = Vec::new();
        for slot in sorted {
            let weight = slab.weight(slot);
            let mut below = Slot::NIL;
            while let Some((lighter, _)) = spine.pop_if(|(_, above)| *above < weight) {
                below = lighter;
            }
            let entry = slab.at_mut(slot);
            (entry.left, entry.right, entry.state) = (below, Slot::NIL, State::Delayed);
            self.put(slab, spine.last().map_or(Link::Root, |(above, _)| Link::Right(*above)), slot);
            spine.push((slot, weight));
        }
    }

    #[cfg(test)]
    pub(super) fn root(&self) -> Slot {
        self.root
    }

    fn at(&self, slab: &Slab, link: Link) -> Slot {
        match link {
            Link::Root => self.root,
            Link::Left(above) => slab.at(above).left,
            Link::Right(above) => slab.at(above).right,
        }
    }

    fn put(&mut self, slab: &mut Slab, link: Link, slot: Slot) {
        match link {
            Link::Root => self.root = slot,
            Link::Left(above) => slab.at_mut(above).left = slot,
            Link::Right(above) => slab.at_mut(above).right = slot,
        }
    }
}

/// On which side of a node the messages of this order are.
fn toward(slab: &Slab, node: Slot, order: Order) -> Link {
    if order < slab.at(node).order() { Link::Left(node) } else { Link::Right(node) }
}

/// The first message of a part of a tree.
fn leftmost(slab: &Slab, root: Slot) -> Option<Slot> {
    let mut first = root.some()?;
    while let Some(left) = slab.at(first).left.some() {
        first = left;
    }
    Some(first)
}

/// The active messages of a queue, in the order they became so.
pub(super) struct Line {
    head: Slot,
    tail: Slot,
}

impl Line {
    pub(super) const EMPTY: Line = Line { head: Slot::NIL, tail: Slot::NIL };

    /// Puts a message last that is in no list.
    pub(super) fn push(&mut self, slab: &mut Slab, slot: Slot) {
        let before = std::mem::replace(&mut self.tail, slot);
        let entry = slab.at_mut(slot);
        (entry.left, entry.right) = (before, Slot::NIL);
        match before.some() {
            Some(before) => slab.at_mut(before).right = slot,
            None => self.head = slot,
        }
    }

    /// Takes a message out that is in this line.
    pub(super) fn remove(&mut self, slab: &mut Slab, slot: Slot) {
        let entry = slab.at(slot);
        let (before, behind) = (entry.left, entry.right);
        match before.some() {
            Some(before) => slab.at_mut(before).right = behind,
            None => self.head = behind,
        }
        match behind.some() {
            Some(behind) => slab.at_mut(behind).left = before,
            None => self.tail = before,
        }
    }

    /// Adds the messages behind `after`, which is in this line, or from the first, to a page, until that has `limit`.
    pub(super) fn walk(&self, slab: &Slab, after: Option<Slot>, limit: usize, page: &mut Vec<Slot>) {
        let mut next = after.map_or(self.head, |after| slab.at(after).right);
        while page.len() < limit
            && let Some(slot) = next.some()
        {
            page.push(slot);
            next = slab.at(slot).right;
        }
    }
}
