//! What goes wrong when it can: reclaim beside removals, memory that is short, clocks that step back, hooks that refuse.
//! Each of these was found by a close reading once, and failed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use jlog::io::sim::{Op, SimDisk};
use spool::{
    Durability, Finding, ListedState, Message, MessageId, MetaEdit, OnCorrupt, QueueKey, RetryPolicy, Scope,
    Spool, SpoolError, SpoolHooks, SpoolOptions, Timestamp,
};

fn now(seconds: u32) -> Timestamp {
    Timestamp::new(1_700_000_000 + seconds, 0)
}

fn options() -> SpoolOptions {
    SpoolOptions::new().background(false).segment_size(64 << 10).reserve(0)
}

fn message(spool: &Spool, size: usize, at: u32) -> Message {
    let message = Message::from_bytes(spool.new_id(now(at)), vec![b'x'; size]);
    message.set_queue(QueueKey { domain: "d.example".into(), ..QueueKey::default() });
    message.context_set(Scope::Message, "color", "green").unwrap();
    message
}

fn accepted(spool: &Spool, size: usize, at: u32) -> Message {
    let message = message(spool, size, at);
    spool.accept(&message, now(at)).unwrap();
    message
}

/// Fills segments with what is gone at once.
fn garbage(spool: &Spool, times: usize) {
    for _ in 0..times {
        let message = accepted(spool, 30_000, 0);
        spool.remove(message.id()).unwrap();
    }
}

/// A segment with two messages that stay, and garbage.
fn mixed(spool: &Spool, size: usize) -> Vec<Message> {
    let live = vec![accepted(spool, size, 0), accepted(spool, size, 0)];
    let dead: Vec<_> = (0..3).map(|_| accepted(spool, 22_000, 0)).collect();
    dead.iter().for_each(|message| spool.remove(message.id()).unwrap());
    live
}

/// Maintains until there is nothing to do; fails if that never comes.
fn maintain(spool: &Spool) {
    for _ in 0..200 {
        let done = spool.maintain(1 << 20).unwrap();
        if done.moved == 0 && done.freed == 0 {
            return;
        }
    }
    panic!("there is always something to do: {:?}", spool.stats());
}

#[test]
fn reclaim_comes_to_an_end() {
    let dir = tempfile::tempdir().unwrap();
    // Removals of messages whose segment stays.
    let spool = options().open(dir.path().join("a")).unwrap();
    let _stays = accepted(&spool, 40_000, 0);
    let victim = accepted(&spool, 100, 0);
    let _stays_too = accepted(&spool, 40_000, 0);
    let dead: Vec<_> = (0..3).map(|_| accepted(&spool, 20_000, 0)).collect();
    spool.remove(victim.id()).unwrap();
    dead.iter().for_each(|message| spool.remove(message.id()).unwrap());
    garbage(&spool, 5);
    maintain(&spool);
    // Replies, and contexts, that are larger than most.
    let spool = options().open(dir.path().join("b")).unwrap();
    let live: Vec<_> = (0..600).map(|_| accepted(&spool, 10, 0)).collect();
    for message in &live {
        spool.retry(message, &[b'r'; 500], &RetryPolicy::default(), 0, now(0)).unwrap();
    }
    maintain(&spool);
    let spool = options().segment_size(1 << 20).open(dir.path().join("c")).unwrap();
    for _ in 0..40 {
        let message = message(&spool, 100, 0);
        message.context_set(Scope::Message, "big", vec![b'a'; 100_000]).unwrap();
        spool.accept(&message, now(0)).unwrap();
    }
    maintain(&spool);
}

#[test]
fn what_compression_makes_small_counts_as_small() {
    let dir = tempfile::tempdir().unwrap();
    let spool = options().compress(true).open(dir.path().join("spool")).unwrap();
    let all: Vec<_> = (0..2000).map(|_| accepted(&spool, 20_000, 0)).collect();
    for message in all.iter().enumerate().filter(|(n, _)| n % 20 != 0).map(|(_, message)| message) {
        spool.remove(message.id()).unwrap();
    }
    let before = spool.stats();
    maintain(&spool);
    let after = spool.stats();
    assert!(after.disk_bytes * 2 < before.disk_bytes, "{before:?} {after:?}");
}

#[test]
fn a_message_removed_while_reclaim_copies_it_does_not_come_back() {
    let disk = SimDisk::new(1);
    let open = || options().open_on(Arc::new(disk.clone()), "/spool").unwrap();
    let spool = Arc::new(open());
    let mut live = mixed(&spool, 1000);
    let (kept, gone) = (live[0].id(), live[1].id());
    live.extend((0..3).map(|_| accepted(&spool, 22_000, 0)));
    // The survivors' segment is there, so that the sync is that of the copies.
    let remover = Arc::new(Mutex::new(Some(Arc::clone(&spool))));
    disk.observe({
        let remover = Arc::clone(&remover);
        move |_, traced| {
            if traced.op == Op::Sync
                && traced.path.starts_with("/spool/survivors/")
                && let Some(spool) = remover.lock().unwrap().take()
            {
                spool.remove(gone).unwrap();
            }
        }
    });
    spool.maintain(1 << 20).unwrap();
    disk.unobserve();
    assert!(remover.lock().unwrap().is_none(), "nothing was copied");
    assert!(!spool.contains(gone).unwrap());
    garbage(&spool, 8);
    maintain(&spool);
    drop(live);
    Arc::into_inner(spool).unwrap().close().unwrap();
    let spool = open();
    assert!(spool.contains(kept).unwrap());
    assert!(!spool.contains(gone).unwrap());
}

#[test]
fn a_damaged_record_does_not_bring_back_what_was_moved_from_beside_it() {
    use std::os::unix::fs::FileExt;

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool");
    let spool = options().open(&path).unwrap();
    let bad = Message::from_bytes(spool.new_id(now(0)), vec![b'Z'; 3000]);
    spool.accept(&bad, now(0)).unwrap();
    let mut live = mixed(&spool, 1000);
    let mate = live[1].id();
    live.extend((0..3).map(|_| accepted(&spool, 22_000, 0)));
    let segment = path.join("arrivals/00000000");
    let bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(100).position(|window| window == [b'Z'; 100]).unwrap() + 50;
    let file = std::fs::OpenOptions::new().write(true).open(&segment).unwrap();
    file.write_at(&[bytes[at] ^ 1], at as u64).unwrap();
    maintain(&spool);
    spool.remove_durable(mate).unwrap();
    for _ in 0..4 {
        live.extend(mixed(&spool, 12_000));
        live.extend(mixed(&spool, 12_000));
        garbage(&spool, 4);
        maintain(&spool);
    }
    for message in live.drain(1..) {
        let _ = spool.remove(message.id());
    }
    garbage(&spool, 12);
    maintain(&spool);
    assert!(bad.release_body());
    assert!(matches!(bad.body(), Err(SpoolError::Corrupt { quarantined: Some(_), .. })));
    assert_eq!(spool.entry(bad.id()).unwrap().state, ListedState::Corrupt);
    drop((bad, live));
    spool.close().unwrap();
    let spool = options().open(&path).unwrap();
    assert!(!spool.contains(mate).unwrap());
    let found = spool.wait_recovered().unwrap().findings;
    assert!(matches!(&found[..], [Finding::Gap { .. }]), "{found:?}");
}

#[test]
fn a_message_that_does_not_stay_in_memory_is_shared_and_pictured_whole() {
    let dir = tempfile::tempdir().unwrap();
    let spool = options().max_resident_per_queue(Some(0)).open(dir.path().join("spool")).unwrap();
    let message = accepted(&spool, 100, 0);
    assert!(!message.is_resident() && !message.has_contexts());
    let mut picture = message.snapshot().unwrap();
    assert_eq!(picture.contexts[1].get("color"), Some(&b"green"[..]));
    assert_eq!(picture.read_body().unwrap(), [b'x'; 100]);
    let shared = message.share(spool.new_id(now(0))).unwrap();
    spool.accept(&shared, now(0)).unwrap();
    assert_eq!(shared.context_get(Scope::Message, "color").unwrap(), b"green");
}

#[test]
fn a_message_to_be_removed_with_its_last_handle_is() {
    let dir = tempfile::tempdir().unwrap();
    let spool = options().open(dir.path().join("spool")).unwrap();
    let message = accepted(&spool, 100, 0);
    let id = message.id();
    message.remove_on_drop(true);
    let other = spool.get(id).unwrap();
    drop(message);
    assert!(spool.contains(id).unwrap());
    drop(other);
    assert!(!spool.contains(id).unwrap());
    // And one that somebody else removes first is no trouble.
    let message = accepted(&spool, 100, 0);
    message.remove_on_drop(true);
    spool.remove(message.id()).unwrap();
    drop(message);
    assert!(spool.is_empty().unwrap());
}

#[test]
fn a_resource_that_was_removed_stays_so_though_reclaim_has_been_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool");
    let spool = options().open(&path).unwrap();
    let kept = message(&spool, 40_000, 0);
    kept.put_resource("dsn", vec![1; 10]).unwrap();
    spool.accept(&kept, now(0)).unwrap();
    let filler = accepted(&spool, 40_000, 0);
    kept.remove_resource("dsn");
    spool.update(&kept, now(0)).unwrap();
    garbage(&spool, 3);
    spool.update_all(&kept, now(0)).unwrap();
    garbage(&spool, 3);
    maintain(&spool);
    let id = kept.id();
    drop((kept, filler));
    spool.close().unwrap();
    let spool = options().open(&path).unwrap();
    assert_eq!(spool.get(id).unwrap().resources().unwrap(), Vec::<String>::new());
}

#[test]
fn messages_in_memory_alone_are_written_when_memory_is_short_and_accepted_once() {
    let dir = tempfile::tempdir().unwrap();
    let deferred = Durability::Deferred { after_attempts: 3 };
    let spool =
        options().max_resident_messages(10).durability(deferred).open(dir.path().join("spool")).unwrap();
    let first = accepted(&spool, 10_000, 0);
    assert!(matches!(spool.accept(&first, now(0)), Err(SpoolError::Exists(_))));
    assert_eq!(spool.len().unwrap(), 1);
    for _ in 0..100 {
        accepted(&spool, 10_000, 0);
    }
    let unwritten = spool.entries().unwrap().filter(|listed| listed.unwritten).count();
    assert_eq!((unwritten, spool.len().unwrap()), (10, 101));
}

/// Refuses to have one message written.
#[derive(Debug)]
struct Refuses(MessageId);

impl SpoolHooks for Refuses {
    fn before_update(&self, edit: &mut MetaEdit<'_>) -> Result<(), String> {
        if edit.id == self.0 { Err("no".to_owned()) } else { Ok(()) }
    }
}

#[test]
fn one_message_that_cannot_be_written_at_close_does_not_cost_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool");
    let bad = MessageId { slot: 1_700_000_000, pid: 7, counter: 7 };
    let options_ = || options().durability(Durability::Deferred { after_attempts: 3 });
    let spool = options_().hook(Arc::new(Refuses(bad))).open(&path).unwrap();
    for _ in 0..20 {
        accepted(&spool, 10, 0);
    }
    spool.accept(&Message::from_bytes(bad, vec![1]), now(0)).unwrap();
    assert!(matches!(spool.close(), Err(SpoolError::Refused { .. })));
    assert_eq!(options_().open(&path).unwrap().len().unwrap(), 20);
}

#[test]
fn mail_is_due_at_once_though_the_clock_has_stepped_back() {
    let dir = tempfile::tempdir().unwrap();
    let spool = options().open(dir.path().join("spool")).unwrap();
    let first = accepted(&spool, 10, 7200);
    let message = accepted(&spool, 10, 0);
    assert!(message.id() > first.id());
    assert_eq!(spool.due(now(0), 9).unwrap(), [message.id()]);
}

#[test]
fn a_turn_moved_in_memory_is_not_moved_back_by_a_change_of_something_else() {
    let dir = tempfile::tempdir().unwrap();
    let spool = options().open(dir.path().join("spool")).unwrap();
    let message = accepted(&spool, 10, 0);
    spool.due(now(0), 1).unwrap();
    spool.retry(&message, b"450", &RetryPolicy::default(), 0, now(0)).unwrap();
    spool.reschedule(message.id(), now(5).seconds).unwrap();
    message.context_set(Scope::Message, "a", "b").unwrap();
    spool.update(&message, now(1)).unwrap();
    assert_eq!(spool.next_due().unwrap(), Some(now(5).seconds));
}

#[test]
fn of_two_messages_of_one_id_accepted_at_once_one_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let wait = Duration::from_millis(5);
    let spool = options().commit_delay(wait).open(dir.path().join("spool")).unwrap();
    for round in 0..20 {
        let id = spool.new_id(now(round));
        let together = Barrier::new(2);
        let accepted: Vec<bool> = std::thread::scope(|scope| {
            let accept = |n: u8| {
                let (spool, together) = (&spool, &together);
                scope.spawn(move || {
                    let message = Message::from_bytes(id, vec![n; 10]);
                    together.wait();
                    spool.accept(&message, now(round)).is_ok()
                })
            };
            [accept(0), accept(1)].map(|thread| thread.join().unwrap()).to_vec()
        });
        assert_eq!(accepted.iter().filter(|accepted| **accepted).count(), 1, "round {round}");
        spool.remove(id).unwrap();
    }
    assert_eq!(spool.stats().live_bytes, 0);
}

#[test]
fn a_queue_whose_messages_are_in_memory_alone_does_not_grow_without_end() {
    let dir = tempfile::tempdir().unwrap();
    let deferred = Durability::Deferred { after_attempts: 3 };
    let spool = options()
        .max_resident_per_queue(Some(5))
        .durability(deferred)
        .open(dir.path().join("spool"))
        .unwrap();
    for _ in 0..50 {
        accepted(&spool, 10, 0);
    }
    assert_eq!(spool.entries().unwrap().filter(|listed| listed.unwritten).count(), 5);
}

#[test]
fn a_damaged_message_that_is_to_be_removed_is_and_whoever_asks_for_it_is_told() {
    use std::os::unix::fs::FileExt;

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool");
    let open = || options().max_resident_messages(0).on_corrupt(OnCorrupt::Remove).open(&path).unwrap();
    let spool = open();
    let bad = spool.new_id(now(0));
    spool.accept(&Message::from_bytes(bad, vec![b'Z'; 3000]), now(0)).unwrap();
    let good = accepted(&spool, 10, 0).id();
    let segment = path.join("arrivals/00000000");
    let bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(100).position(|window| window == [b'Z'; 100]).unwrap() + 50;
    let file = std::fs::OpenOptions::new().write(true).open(&segment).unwrap();
    file.write_at(&[bytes[at] ^ 1], at as u64).unwrap();
    let told = spool.get(bad);
    assert!(matches!(told, Err(SpoolError::Corrupt { quarantined: Some(_), .. })), "{told:?}");
    assert!(matches!(spool.get(bad), Err(SpoolError::NotFound(_))));
    assert_eq!(spool.get(good).unwrap().size(), 10);
    drop(spool);
    assert_eq!(open().len().unwrap(), 1);
}

/// The number of the next change came after the greatest one there is: adding one more overflowed.
#[test]
fn a_record_of_a_change_that_no_spool_comes_to_is_not_a_spools() {
    let disk = SimDisk::new(1);
    let open = || options().open_on(Arc::new(disk.clone()), "/spool").unwrap();
    let spool = open();
    let kept = accepted(&spool, 100, 0).id();
    spool.close().unwrap();
    let log = jlog::Log::open_on(Arc::new(disk.clone()), "/spool/arrivals").unwrap();
    for change in [u64::MAX, u64::MAX - 1, 1 << 63] {
        // A removal: version and flags, the change, and of each message its id and where it was.
        let mut payload = vec![1, 0, 0, 0];
        payload.extend_from_slice(&change.to_le_bytes());
        payload.extend_from_slice(&kept.to_u64().to_le_bytes());
        payload.extend_from_slice(&[0; 8]);
        let kind = jlog::Kind::application(21).unwrap();
        let entry = jlog::Entry { kind, time: now(1), payload: &payload };
        let writer = log.writer().unwrap();
        writer.append_entries(&[entry], jlog::Durability::Sync).unwrap();
        writer.close().unwrap();
    }
    let spool = open();
    let findings = spool.wait_recovered().unwrap().findings;
    assert!(findings.iter().all(|found| matches!(found, Finding::UnknownRecord { .. })), "{findings:?}");
    assert_eq!(findings.len(), 3);
    assert!(spool.contains(kept).unwrap());
    spool.remove(kept).unwrap();
    let later = accepted(&spool, 100, 2).id();
    drop(spool);
    let spool = open();
    assert!(spool.contains(later).unwrap() && !spool.contains(kept).unwrap());
}
