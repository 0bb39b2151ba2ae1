//! Watches over the directories of the simulated disk.

use std::io;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::SimDisk;
use crate::io::RawWatch;

/// A watch: it has heard the directory's news up to this number.
#[derive(Debug)]
pub(super) struct SimWatch {
    disk: SimDisk,
    dir: usize,
    heard: AtomicU64,
}

impl SimWatch {
    pub(super) fn begin(disk: &SimDisk, dir: usize, news: u64) -> SimWatch {
        SimWatch { disk: disk.clone(), dir, heard: AtomicU64::new(news) }
    }
}

impl RawWatch for SimWatch {
    fn wait(&self, at_most: Duration) -> io::Result<bool> {
        let heard = self.heard.load(Ordering::Relaxed);
        let mut state = self.disk.state();
        state.waiting += 1;
        let nothing_new = |state: &mut super::state::State| state.news(self.dir) == heard;
        let woken = self.disk.shared.woken.wait_timeout_while(state, at_most, nothing_new);
        let (mut state, _) = woken.unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
        self.heard.store(state.news(self.dir), Ordering::Relaxed);
        Ok(state.news(self.dir) != heard)
    }
}
