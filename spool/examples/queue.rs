//! A mail queue in one file: several recipients with one body, attempts with back-off, expiry, and what the queues hold.
//!
//! `cargo run -p spool --example queue [directory]`; without one, in a temporary directory.

use spool::{EnvelopeEnd, Message, NextAttempt, QueueKey, RetryPolicy, Spool, SpoolOptions, Timestamp};

/// Times are arguments: here time goes from one attempt to the next.
const START: u32 = 1_700_000_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let temporary = tempfile::tempdir()?;
    let path = std::env::args_os().nth(1).unwrap_or_else(|| temporary.path().join("spool").into());
    let spool = SpoolOptions::new().segment_size(1 << 20).reserve(0).open(&path)?;
    let mut now = Timestamp::new(START, 0);

    // One body for three recipients: accepted together, all or none, with one sync.
    let first = Message::from_bytes(spool.new_id(now), *b"Subject: hello\r\n\r\nOne body for all.\r\n");
    first.set_sender(Some("news@sender.example".parse()?));
    let mut batch = vec![first];
    for _ in 1..3 {
        batch.push(batch[0].share(spool.new_id(now))?);
    }
    for (message, to) in batch.iter().zip(["a@fast.example", "b@slow.example", "c@gone.example"]) {
        message.set_recipient(Some(to.parse()?));
        message.set_queue(QueueKey { domain: to[2..].to_owned(), ..QueueKey::default() });
    }
    spool.accept_batch(&batch, now)?;
    show(&spool, now)?;

    let policy = RetryPolicy { retry_interval: 600, message_expiration: 7200, ..RetryPolicy::default() };
    while let Some(due) = spool.next_due()? {
        now = Timestamp::new(due.max(now.seconds), 0);
        for id in spool.due(now, 100)? {
            let message = spool.get(id)?;
            let to = message.envelope().complete(EnvelopeEnd::Recipient);
            let minute = (now.seconds - START) / 60;
            match deliver(&to, message.attempts()) {
                Ok(()) => {
                    println!("{minute:3} min  {id}  delivered to {to}");
                    spool.remove(id)?;
                }
                Err(reply) => match spool.retry(&message, reply.as_bytes(), &policy, 0, now)? {
                    NextAttempt::At(at) => {
                        println!(
                            "{minute:3} min  {id}  {to}: {reply}; again in {} min",
                            (at - now.seconds) / 60
                        );
                    }
                    NextAttempt::Expired(reason) => {
                        println!("{minute:3} min  {id}  {to}: given up, {reason}");
                        spool.remove(id)?;
                    }
                },
            }
        }
    }
    show(&spool, now)?;
    Ok(spool.close()?)
}

/// What a mail client would do: one host takes it, one takes it the third time, one never answers.
fn deliver(to: &str, attempts: u32) -> Result<(), &'static str> {
    match to.rsplit('@').next() {
        Some("fast.example") => Ok(()),
        Some("slow.example") if attempts >= 2 => Ok(()),
        _ => Err("451 4.7.1 later"),
    }
}

fn show(spool: &Spool, now: Timestamp) -> spool::Result<()> {
    println!("{} messages in {} queues", spool.len()?, spool.queues()?.len());
    for queue in spool.queues()? {
        let next = queue.next_due.map_or(0, |at| at.saturating_sub(now.seconds));
        println!("  {:14} {} waiting, next in {next} s", queue.key.domain, queue.delayed);
        for listed in spool.list(&queue.key, None, 10)? {
            println!("    {}  {} bytes, {} attempts", listed.id, listed.size, listed.attempts);
        }
    }
    Ok(())
}
