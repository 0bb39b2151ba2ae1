//! What the spool holds goes into a Maildir.
//!
//! A message is removed from the spool when it is on the disk in the Maildir. Whatever ends the process between the two, the
//! message is delivered again under the same name, which [`Maildir::deliver`] takes for the same message.

use std::time::Duration;

use spool::mailbox::Maildir;
use spool::{Jitter, MessageId, NextAttempt, RetryPolicy};

use crate::sink::{Sink, now};

/// Messages that are handed out at once.
const BATCH: usize = 256;

/// How often is looked for messages whose next attempt is due.
const TICK: Duration = Duration::from_secs(1);

/// Delivers until it is time to end.
pub(crate) fn drain(sink: &Sink, mut maildir: Maildir) {
    let policy = RetryPolicy::default();
    let jitter = Jitter::new(u64::from(std::process::id()), 60);
    while !sink.is_stopping() {
        let due = match sink.spool.due(now(), BATCH) {
            Ok(due) => due,
            Err(error) => {
                eprintln!("the spool cannot be drained: {error}");
                return sink.stop();
            }
        };
        if due.is_empty() {
            sink.stop_if_done();
            sink.wait_for_messages(TICK);
        }
        for id in due {
            // Those that are left are due again at the next start.
            if sink.is_stopping() {
                return;
            }
            match deliver(sink, &mut maildir, id) {
                Ok(()) => sink.delivered(),
                Err(error) => retry(sink, id, &*error, &policy, &jitter),
            }
        }
    }
}

fn deliver(sink: &Sink, maildir: &mut Maildir, id: MessageId) -> Result<(), Box<dyn std::error::Error>> {
    let mut body = sink.spool.get(id)?.body()?;
    let _ = maildir.deliver(&mut body, &id.to_string())?;
    sink.spool.remove(id)?;
    Ok(())
}

/// Puts a message off; one that has failed for good is kept for somebody to look at.
fn retry(sink: &Sink, id: MessageId, error: &dyn std::error::Error, policy: &RetryPolicy, jitter: &Jitter) {
    eprintln!("message {id} was not delivered: {error}");
    let put_off = sink.spool.get(id).and_then(|message| {
        let spread = jitter.spread(message.queue().domain.as_bytes(), id.to_u64());
        match sink.spool.retry(&message, error.to_string().as_bytes(), policy, spread, now())? {
            NextAttempt::At(_) => Ok(()),
            NextAttempt::Expired(reason) => {
                eprintln!("message {id} is held: {reason}");
                sink.spool.hold(id, now())
            }
        }
    });
    if let Err(error) = put_off {
        eprintln!("message {id} was not put off, and stays active until the next start: {error}");
    }
}
