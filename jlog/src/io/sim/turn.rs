//! A turn: what one operation does to the simulated disk, which nobody can see half done.

use std::ffi::OsStr;
use std::io;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::thread;

use super::SimDisk;
use super::op::{Op, Traced};
use super::state::{Entry, Node, State, errno};
use crate::sync::MutexGuard;

/// The state of the disk, for as long as an operation takes.
pub(super) struct Turn<'a> {
    disk: &'a SimDisk,
    state: MutexGuard<'a, State>,
    // While there is an observer, changes are made one at a time: no other comes between what it is shown and the
    // change it is shown it before.
    order: Option<MutexGuard<'a, ()>>,
}

impl SimDisk {
    /// Counts and traces an operation, and lets it fail if it is its turn.
    pub(super) fn begin(
        &self,
        op: Op,
        path: impl Into<Arc<Path>>,
        offset: Option<u64>,
        len: Option<u64>,
    ) -> io::Result<Turn<'_>> {
        self.begin_with(op.changes_the_disk(), op, path, offset, len)
    }

    /// As [`SimDisk::begin`], of an operation that changes the disk or does not.
    pub(super) fn begin_with(
        &self,
        changes: bool,
        op: Op,
        path: impl Into<Arc<Path>>,
        offset: Option<u64>,
        len: Option<u64>,
    ) -> io::Result<Turn<'_>> {
        let mut turn = if changes { self.turn_to_change() } else { Turn::at_once(self) };
        let observed = turn.order.is_some();
        let (number, nth) = (turn.operations, turn.calls[op as usize]);
        turn.operations += 1;
        turn.calls[op as usize] += 1;
        if observed || !turn.no_trace {
            let traced = Traced { op, path: path.into(), offset, len };
            if observed {
                turn = turn.observe(&traced);
            }
            if !turn.no_trace {
                turn.trace.push(traced);
            }
        }
        match turn.faults.strike(op, number, nth) {
            Some(error) => errno(error),
            None => Ok(turn),
        }
    }

    fn turn_to_change(&self) -> Turn<'_> {
        let turn = Turn::at_once(self);
        let observed = turn.observer.is_some() || turn.observing.is_some();
        if !observed || turn.observing == Some(thread::current().id()) {
            return turn;
        }
        drop(turn);
        let order = self.shared.order.lock().unwrap_or_else(PoisonError::into_inner);
        Turn { order: Some(order), ..Turn::at_once(self) }
    }
}

impl<'a> Turn<'a> {
    fn at_once(disk: &'a SimDisk) -> Turn<'a> {
        Turn { disk, state: disk.state(), order: None }
    }

    /// Shows the disk to the observer, who may look at it: meanwhile the state is not locked.
    fn observe(mut self, traced: &Traced) -> Turn<'a> {
        let Some(mut observer) = self.observer.take() else { return self };
        let number = self.observers;
        self.observing = Some(thread::current().id());
        let Turn { disk, state, order } = self;
        drop(state);
        observer(disk, traced);

        let mut state = disk.state();
        state.observing = None;
        if state.observers == number {
            state.observer = Some(observer);
            return Turn { disk, state, order };
        }
        // It was replaced. Dropping it may close files of this disk.
        drop(state);
        drop(observer);
        Turn { disk, state: disk.state(), order }
    }

    /// Makes a file or directory, and returns its number.
    pub(super) fn make(&mut self, dir: usize, name: Arc<OsStr>, node: Node) -> usize {
        let number = self.nodes.len();
        self.nodes.push(node);
        self.rename(vec![Entry { dir, name, node: Some(number) }]);
        number
    }

    /// Changes names, as one step that a power cut keeps or loses whole.
    pub(super) fn rename(&mut self, entries: Vec<Entry>) {
        self.put(entries);
        self.disk.wake(self);
    }

    /// Whoever watches the directory of this file hears of it.
    pub(super) fn changed(&mut self, node: usize) {
        self.announce(node);
        self.disk.wake(self);
    }

    /// Lets the others go on until one of them has released a lock.
    pub(super) fn wait(self) -> Turn<'a> {
        let Turn { disk, mut state, order } = self;
        state.waiting += 1;
        let mut state = disk.shared.woken.wait(state).unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
        Turn { disk, state, order }
    }
}

impl Deref for Turn<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Turn<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}
