//! Who is between writing a record and entering it in the books.
//!
//! Such a record is on the disk, and the books do not know of it. Whoever wants to know that nothing of a finished segment is
//! needed first waits for all who were under way: they keep nobody from setting out meanwhile.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Those under way, counted by turns: one turn empties while the other one fills.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    turn: AtomicUsize,
    aboard: [AtomicUsize; 2],
}

/// Somebody is under way until this is dropped.
#[derive(Debug)]
pub(crate) struct Flight<'a> {
    flights: &'a Flights,
    turn: usize,
}

impl Flights {
    /// Sets out: before the record is written.
    pub(crate) fn board(&self) -> Flight<'_> {
        loop {
            let turn = self.turn.load(Ordering::SeqCst);
            self.aboard[turn % 2].fetch_add(1, Ordering::SeqCst);
            if self.turn.load(Ordering::SeqCst) == turn {
                return Flight { flights: self, turn };
            }
            // The turn has ended: perhaps somebody waits for it to be empty already.
            self.aboard[turn % 2].fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Waits until all have landed who had set out. One at a time may wait.
    pub(crate) fn wait(&self) {
        let turn = self.turn.fetch_add(1, Ordering::SeqCst);
        while self.aboard[turn % 2].load(Ordering::SeqCst) > 0 {
            std::thread::sleep(Duration::from_micros(50));
        }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.flights.aboard[self.turn % 2].fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn a_wait_ends_when_those_before_it_have_landed_and_those_behind_it_do_not_matter() {
        let flights = Arc::new(Flights::default());
        let before = flights.board();
        let waited = Arc::new(AtomicBool::new(false));
        let waiting = std::thread::spawn({
            let (flights, waited) = (Arc::clone(&flights), Arc::clone(&waited));
            move || {
                flights.wait();
                waited.store(true, Ordering::SeqCst);
            }
        });
        while flights.turn.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        let _behind = flights.board();
        assert!(!waited.load(Ordering::SeqCst));
        drop(before);
        waiting.join().unwrap();
        assert!(waited.load(Ordering::SeqCst));
    }
}
