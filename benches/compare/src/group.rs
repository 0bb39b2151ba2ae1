//! Group commit as one writes it in an hour: whoever finds nobody leading commits all that has been gathered, and wakes
//! the others.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use jlog_benches::Outcome;

/// Senders that share commits of batches.
#[derive(Debug, Default)]
pub(crate) struct Group<B> {
    turn: Mutex<Turn<B>>,
    turned: Condvar,
}

#[derive(Debug, Default)]
struct Turn<B> {
    gathered: B,
    joined: u64,
    done: u64,
    leading: bool,
}

impl<B: Default> Group<B> {
    fn turn(&self) -> MutexGuard<'_, Turn<B>> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds to the batch that is being gathered, and returns when it is committed. A failure is told to the leader
    /// alone: it ends the bench.
    pub(crate) fn join(
        &self,
        add: impl FnOnce(&mut B),
        commit: impl FnOnce(B) -> Outcome<()>,
    ) -> Outcome<()> {
        let mut turn = self.turn();
        add(&mut turn.gathered);
        turn.joined += 1;
        let mine = turn.joined;
        while turn.leading && turn.done < mine {
            turn = self.turned.wait(turn).unwrap_or_else(PoisonError::into_inner);
        }
        if turn.done >= mine {
            return Ok(());
        }
        turn.leading = true;
        let (batch, upto) = (std::mem::take(&mut turn.gathered), turn.joined);
        drop(turn);

        let outcome = commit(batch);
        let mut turn = self.turn();
        (turn.leading, turn.done) = (false, upto);
        drop(turn);
        self.turned.notify_all();
        outcome
    }
}
