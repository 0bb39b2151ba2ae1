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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use spool::{Message, SpoolOptions};

    /// A sink that ends when nothing is left, with one message.
    fn with_one(dir: &std::path::Path) -> (Sink, Message) {
        let args = crate::Args::parse_from(["x", "--spool", "x", "--maildir", "x", "--exit-after", "1"]);
        let spool = SpoolOptions::new().background(false).reserve(0).open(dir.join("spool")).unwrap();
        let message = Message::from_bytes(spool.new_id(now()), b"Subject: x\r\n".to_vec());
        spool.accept(&message, now()).unwrap();
        (Sink::new(spool, &args), message)
    }

    #[test]
    fn what_was_delivered_and_not_removed_is_not_delivered_again() {
        let dir = tempfile::tempdir().unwrap();
        let (sink, message) = with_one(dir.path());
        let mut maildir = Maildir::create(dir.path().join("maildir")).unwrap();
        let _ = maildir.deliver(&mut message.body().unwrap(), &message.id().to_string()).unwrap();
        drain(&sink, maildir);
        assert!(sink.spool.is_empty().unwrap());
        assert_eq!(Maildir::open(dir.path().join("maildir")).unwrap().messages().unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_delivered_is_put_off() {
        let dir = tempfile::tempdir().unwrap();
        let (sink, message) = with_one(dir.path());
        let mut maildir = Maildir::create(dir.path().join("maildir")).unwrap();
        std::fs::remove_dir_all(dir.path().join("maildir")).unwrap();
        let [id] = sink.spool.due(now(), 9).unwrap()[..] else { panic!("it is due") };
        let error = deliver(&sink, &mut maildir, id).unwrap_err();
        retry(&sink, id, &*error, &RetryPolicy::default(), &Jitter::new(1, 60));
        let entry = sink.spool.entry(message.id()).unwrap();
        assert_eq!((entry.attempts, entry.state), (1, spool::ListedState::Delayed));
        assert!(entry.next_attempt >= message.created() + 1200);
    }
}
