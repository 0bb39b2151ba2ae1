//! The spool at its ordinary work.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::io::{Read, Write};

use spool::{
    Durability, Envelope, Listed, Message, NextAttempt, QueueKey, RetryPolicy, Scope, Spool, SpoolError,
    SpoolOptions, Timestamp, Written,
};

fn now(seconds: u32) -> Timestamp {
    Timestamp::new(1_700_000_000 + seconds, 0)
}

fn options() -> SpoolOptions {
    SpoolOptions::new().background(false).segment_size(1 << 20).reserve(0)
}

fn queue(domain: &str) -> QueueKey {
    QueueKey { domain: domain.to_owned(), ..QueueKey::default() }
}

/// A message to `to`, accepted.
fn accepted(spool: &Spool, to: &str, body: &[u8], at: u32) -> Message {
    let message = Message::from_bytes(spool.new_id(now(at)), body.to_vec());
    message.set_mail_from(b"MAIL FROM:<a@sender.example> SIZE=77\r\n").unwrap();
    message.set_recipient(Some(to.parse().unwrap()));
    message.set_queue(queue(to.split_once('@').unwrap().1));
    message.context_set(Scope::Message, "color", "green").unwrap();
    spool.accept(&message, now(at)).unwrap();
    message
}

fn body_of(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.body().unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn what_was_accepted_is_there_when_the_spool_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool");
    let id = {
        let spool = options().open(&path).unwrap();
        accepted(&spool, "b@one.example", b"Subject: x\r\n\r\nhello\r\n", 1).id()
    };
    let spool = options().open(&path).unwrap();
    assert_eq!(spool.len().unwrap(), 1);
    let message = spool.get(id).unwrap();
    assert_eq!(body_of(&message), b"Subject: x\r\n\r\nhello\r\n");
    assert_eq!(message.envelope().sender().unwrap().to_string(), "a@sender.example");
    assert_eq!(&*message.envelope().mail_from_line(), b"MAIL FROM:<a@sender.example> SIZE=77\r\n");
    assert_eq!(message.context_get(Scope::Message, "color").unwrap(), b"green");
    assert_eq!(message.queue(), queue("one.example"));
    assert_eq!(spool.due(now(1), 9).unwrap(), [id]);
    assert_eq!(spool.due(now(1), 9).unwrap(), []);
    spool.remove(id).unwrap();
    assert!(matches!(spool.get(id), Err(SpoolError::NotFound(_))));
    drop(spool);
    assert!(options().open(&path).unwrap().is_empty().unwrap());
}

#[test]
fn an_attempt_that_failed_is_counted_on_the_disk_and_the_body_is_not_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let spool = options().open(dir.path().join("spool")).unwrap();
    let message = accepted(&spool, "b@one.example", &[b'x'; 50_000], 0);
    let before = spool.stats().disk_bytes;
    assert_eq!(spool.due(now(0), 9).unwrap(), [message.id()]);
    let next = spool.retry(&message, b"451 later\r\n", &RetryPolicy::default(), 7, now(0)).unwrap();
    assert_eq!(next, NextAttempt::At(now(1207).seconds));
    assert!(spool.stats().disk_bytes - before < 300, "{}", spool.stats().disk_bytes - before);
    let id = message.id();
    drop((message, spool));

    let spool = options().open(dir.path().join("spool")).unwrap();
    assert_eq!(spool.due(now(1206), 9).unwrap(), []);
    assert_eq!(spool.next_due().unwrap(), Some(now(1207).seconds));
    assert_eq!(spool.due(now(1207), 9).unwrap(), [id]);
    let message = spool.get(id).unwrap();
    assert_eq!((message.attempts(), &message.last_reply()[..]), (1, &b"451 later\r\n"[..]));
    assert_eq!(spool.update(&message, now(1)).unwrap(), Written::None);
    message.context_set(Scope::Connection, "ip", "127.0.0.1").unwrap();
    assert_eq!(spool.update(&message, now(1)).unwrap(), Written::Full);
    assert!(message.release_contexts());
    assert!(message.release_body());
    assert_eq!(message.context_get(Scope::Connection, "ip").unwrap(), b"127.0.0.1");
    assert_eq!(message.context_get(Scope::Message, "color").unwrap(), b"green");
    assert_eq!(body_of(&message), [b'x'; 50_000]);
}

#[test]
fn one_body_serves_many_recipients_and_outlives_those_that_are_done() {
    let dir = tempfile::tempdir().unwrap();
    let spool = options().open(dir.path().join("spool")).unwrap();
    let first = Message::from_bytes(spool.new_id(now(0)), vec![b'y'; 40_000]);
    first.set_queue(queue("one.example"));
    let mut batch = vec![first];
    for _ in 1..50 {
        batch.push(batch[0].share(spool.new_id(now(0))).unwrap());
    }
    spool.accept_batch(&batch, now(0)).unwrap();
    assert!(spool.stats().disk_bytes < 60_000, "{}", spool.stats().disk_bytes);
    let ids: Vec<_> = batch.iter().map(Message::id).collect();
    drop((batch, spool));

    let spool = options().open(dir.path().join("spool")).unwrap();
    assert_eq!(spool.len().unwrap(), 50);
    assert_eq!(spool.remove_all(&ids[..49]).unwrap(), 49);
    assert_eq!(body_of(&spool.get(ids[49]).unwrap()), [b'y'; 40_000]);
    drop(spool);
    let spool = options().open(dir.path().join("spool")).unwrap();
    assert_eq!(spool.entries().unwrap().map(|listed: Listed| listed.id).collect::<Vec<_>>(), [ids[49]]);
    assert_eq!(body_of(&spool.get(ids[49]).unwrap()), [b'y'; 40_000]);
}

#[test]
fn a_large_message_is_written_while_it_comes_and_read_in_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let spool = options().large_message_threshold(100_000).open(dir.path().join("spool")).unwrap();
    let mut builder = spool.builder(now(0), 0);
    let line = [b'z'; 997];
    for n in 0..3000u32 {
        builder.write_all(&line).unwrap();
        builder.write_all(&n.to_be_bytes()[1..]).unwrap();
    }
    let message = builder.finish().unwrap();
    assert!(message.is_large() && !message.is_resident());
    spool.accept(&message, now(0)).unwrap();
    let id = message.id();
    drop((message, spool));

    let spool = options().large_message_threshold(100_000).open(dir.path().join("spool")).unwrap();
    let message = spool.get(id).unwrap();
    assert!(message.is_large());
    assert_eq!(message.size(), 3_000_000);
    let body = body_of(&message);
    for (n, record) in body.chunks(1000).enumerate() {
        assert!(record[..997] == line && record[997..] == (n as u32).to_be_bytes()[1..], "line {n}");
    }
    let discarded = spool.builder(now(0), 0);
    let mut discarded = discarded;
    discarded.write_all(&vec![1; 2_000_000]).unwrap();
    drop(discarded);
    drop((message, spool));
    let spool = options().open(dir.path().join("spool")).unwrap();
    assert_eq!(spool.len().unwrap(), 1);
    assert!(spool.wait_recovered().unwrap().findings.is_empty());
}

#[test]
fn reclaim_gives_back_what_is_done_with_and_keeps_what_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool");
    let mut kept = Vec::new();
    let spool = options().open(&path).unwrap();
    for n in 0..2000u32 {
        let body = format!("{n}-").repeat(800);
        let message = accepted(&spool, "b@one.example", body.as_bytes(), n);
        if n % 50 == 0 {
            spool.retry(&message, b"4", &RetryPolicy::default(), 0, now(n)).unwrap();
            message.context_set(Scope::Message, "n", n.to_string()).unwrap();
            if n % 100 == 0 {
                spool.update(&message, now(n)).unwrap();
            }
            kept.push((message.id(), body, n));
        } else {
            spool.remove(message.id()).unwrap();
        }
    }
    while spool.maintain(1 << 20).unwrap().more {}
    let stats = spool.stats();
    assert!(stats.disk_bytes < 3 << 20, "{stats:?}");
    let check = |spool: &Spool| {
        assert_eq!(spool.len().unwrap(), kept.len() as u64);
        for (id, body, n) in &kept {
            let message = spool.get(*id).unwrap();
            assert_eq!(body_of(&message), body.as_bytes(), "{n}");
            assert_eq!(message.attempts(), 1);
            let told = message.context_get(Scope::Message, "n").unwrap();
            if n % 100 == 0 {
                assert_eq!(told, n.to_string().as_bytes());
            }
        }
    };
    check(&spool);
    drop(spool);
    let spool = options().open(&path).unwrap();
    assert!(spool.wait_recovered().unwrap().findings.is_empty(), "{:?}", spool.wait_recovered());
    check(&spool);
    let all: Vec<_> = kept.iter().map(|(id, _, _)| *id).collect();
    spool.remove_all(&all).unwrap();
    while spool.maintain(1 << 20).unwrap().more {}
    assert!(spool.stats().disk_bytes < 3 << 20);
    drop(spool);
    assert!(options().open(&path).unwrap().is_empty().unwrap());
}

#[test]
fn a_second_owner_is_told_the_first_ones_pid() {
    let dir = tempfile::tempdir().unwrap();
    let _spool = options().open(dir.path().join("spool")).unwrap();
    match options().open(dir.path().join("spool")) {
        Err(SpoolError::Locked { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
        other => panic!("{other:?}"),
    }
    let looking = options().open_read_only(dir.path().join("spool")).unwrap();
    assert!(matches!(looking.remove(looking.new_id(now(0))), Err(SpoolError::ReadOnly)));
}

#[test]
fn a_deferred_message_is_written_when_it_has_failed_often_enough() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool");
    let open = || options().durability(Durability::Deferred { after_attempts: 2 }).open(&path).unwrap();
    let spool = open();
    let message = accepted(&spool, "b@one.example", b"x", 0);
    assert_eq!(spool.stats().disk_bytes, 0);
    spool.retry(&message, b"4", &RetryPolicy::default(), 0, now(0)).unwrap();
    assert_eq!(spool.stats().disk_bytes, 0);
    spool.retry(&message, b"4", &RetryPolicy::default(), 0, now(0)).unwrap();
    assert!(spool.stats().disk_bytes > 0);
    let other = accepted(&spool, "b@one.example", b"y", 0);
    let ids = [message.id(), other.id()];
    drop((message, other));
    spool.close().unwrap();
    let spool = open();
    assert_eq!(spool.get(ids[0]).unwrap().attempts(), 2);
    assert_eq!(body_of(&spool.get(ids[1]).unwrap()), b"y");
    let _ = Envelope::new();
}
