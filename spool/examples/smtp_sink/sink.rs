//! What all threads share: the spool, who is connected, what was counted, and when to end.

use std::collections::HashMap;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use spool::{Message, Spool, SpoolError, Timestamp};

use crate::Args;

/// The sink.
#[derive(Debug)]
pub(crate) struct Sink {
    pub(crate) spool: Spool,
    /// The largest message, in bytes.
    pub(crate) max_size: u64,
    max_clients: usize,
    /// Whether what is accepted is delivered.
    drains: bool,
    exit_after: Option<u64>,
    state: Mutex<State>,
    /// Something has changed: a message came, a client went, it is time to end.
    changed: Condvar,
    stopping: AtomicBool,
    bytes: AtomicU64,
    delivered: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    clients: HashMap<u64, TcpStream>,
    next_client: u64,
    /// Messages came that the drain has not looked for.
    came: bool,
    /// When the first message was accepted, and the last.
    first: Option<Instant>,
    last: Option<Instant>,
}

/// The time.
pub(crate) fn now() -> Timestamp {
    SystemTime::now().into()
}

impl Sink {
    pub(crate) fn new(spool: Spool, args: &Args) -> Sink {
        Sink {
            spool,
            max_size: args.max_size,
            max_clients: args.clients,
            drains: args.maildir.is_some(),
            exit_after: args.exit_after,
            state: Mutex::default(),
            changed: Condvar::new(),
            stopping: AtomicBool::new(false),
            bytes: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // Ending

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Ends: no new client, no new command. Messages that are being received may still come to their end.
    pub(crate) fn stop(&self) {
        let state = self.state();
        self.stopping.store(true, Ordering::Release);
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until it is time to end, at most so long, and tells whether it is.
    pub(crate) fn stops_within(&self, longest: Duration) -> bool {
        let waited = self.changed.wait_timeout_while(self.state(), longest, |_| !self.is_stopping());
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        self.is_stopping()
    }

    /// Ends once as many messages were accepted as were asked for, and none is left.
    pub(crate) fn stop_if_done(&self) {
        let Some(wanted) = self.exit_after else { return };
        let drained = !self.drains || self.spool.is_empty().unwrap_or(false);
        if drained && self.spool.stats().accepted >= wanted {
            self.stop();
        }
    }

    // Clients

    /// Notes a client for as long as what is returned is there; none if there are too many, or it is time to end.
    pub(crate) fn client(&self, stream: TcpStream) -> Option<Client<'_>> {
        let mut state = self.state();
        if state.clients.len() >= self.max_clients || self.is_stopping() {
            return None;
        }
        let number = state.next_client;
        state.next_client += 1;
        state.clients.insert(number, stream);
        Some(Client { sink: self, number })
    }

    /// Waits until all clients have gone, and after `grace` listens to nobody any more.
    pub(crate) fn send_clients_away(&self, grace: Duration) {
        let state = self.state();
        let waited = self.changed.wait_timeout_while(state, grace, |state| !state.clients.is_empty());
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        for stream in state.clients.values() {
            // It may have gone meanwhile.
            let _ = stream.shutdown(Shutdown::Read);
        }
    }

    // Messages

    /// Notes messages that were accepted.
    pub(crate) fn accepted(&self, messages: &[Message]) {
        self.bytes.fetch_add(messages.iter().map(Message::size).sum(), Ordering::Relaxed);
        let mut state = self.state();
        let time = Instant::now();
        state.first.get_or_insert(time);
        state.last = Some(time);
        state.came = true;
        drop(state);
        self.changed.notify_all();
        if !self.drains {
            self.stop_if_done();
        }
    }

    /// Notes a message that was delivered.
    pub(crate) fn delivered(&self) {
        self.delivered.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until messages come, or it is time to end, or so long.
    pub(crate) fn wait_for_messages(&self, longest: Duration) {
        let idle = |state: &mut State| !state.came && !self.is_stopping();
        let waited = self.changed.wait_timeout_while(self.state(), longest, idle);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.came = false;
    }

    /// What was done, in a line. The time is that between the first and the last message that was accepted.
    pub(crate) fn report(&self) -> String {
        let state = self.state();
        let time = state.first.zip(state.last).map(|(first, last)| last - first).unwrap_or_default();
        drop(state);
        let (accepted, seconds) = (self.spool.stats().accepted, time.as_secs_f64());
        let rate = if seconds > 0.0 { accepted as f64 / seconds } else { 0.0 };
        let bytes = self.bytes.load(Ordering::Relaxed);
        let delivered = self.delivered.load(Ordering::Relaxed);
        format!(
            "accepted {accepted} messages, {bytes} bytes, in {seconds:.3} s: {rate:.0} messages/s; delivered {delivered}"
        )
    }

    /// Closes the spool.
    pub(crate) fn close(self) -> Result<(), SpoolError> {
        self.spool.close()
    }
}

/// A client that is being served.
#[derive(Debug)]
pub(crate) struct Client<'a> {
    sink: &'a Sink,
    number: u64,
}

impl Drop for Client<'_> {
    fn drop(&mut self) {
        self.sink.state().clients.remove(&self.number);
        self.sink.changed.notify_all();
    }
}
