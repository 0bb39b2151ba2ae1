//! The power goes at every moment of short histories of a spool: see `jlog_tests::spool_model`.
//!
//! `SPOOL_CRASH=n` looks at n times as many random histories, `SPOOL_SEED` at others. A failure names its case and seed:
//! `SPOOL_CASE=used:posix:arM` runs that case alone.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::Path;
use std::sync::{Arc, Mutex};

use jlog::io::sim::{Op, SimDisk};
use jlog::io::{File, Open};
use jlog_tests::crash::{Dice, message};
use jlog_tests::spool_model::{
    Case, Coverage, Effort, Model, PATH, Phase, Step, World, cases_of, open, options, random_case, run_all,
};
use spool::{Message, MessageId, Spool, Timestamp};

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// Looks at histories, and has to have met everything.
fn look(short: &[Case], random: &[Case], effort: Effort) {
    let seed = number("SPOOL_SEED", 1);
    let (mut met, mut outcome) = run_all(short, seed, effort, false);
    if outcome.is_ok() {
        let more: Coverage;
        (more, outcome) = run_all(random, seed, effort, true);
        met.add(&more);
    }
    met.all().iter().for_each(|(what, count)| println!("{count:>10}  {what}"));
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    for (what, count) in met.all() {
        assert!(count > 0, "never met: {what}");
    }
}

#[test]
fn what_a_spool_has_promised_survives_a_power_cut_at_any_moment() {
    let one: Option<Case> = std::env::var("SPOOL_CASE").ok().map(|text| text.parse().unwrap());
    if let Some(one) = one {
        let effort = if number("SPOOL_CRASH", 1) > 1 { Effort::FULL } else { Effort::SHORT };
        let (met, outcome) = run_all(&[one], number("SPOOL_SEED", 1), effort, number("SPOOL_ALL", 1) == 1);
        println!("{met:?}");
        return outcome.unwrap();
    }
    let times = number("SPOOL_CRASH", 1);
    let mut dice = Dice(number("SPOOL_SEED", 1));
    let random: Vec<Case> = (0..40 * times).map(|_| random_case(&mut dice)).collect();
    let mut short = cases_of(1);
    short.extend(cases_of(2).into_iter().step_by(if times > 1 { 1 } else { 13 }));
    let effort = if times > 1 { Effort::FULL } else { Effort::SHORT };
    look(&short, &random, effort);
}

/// A spool on a disk, with small segments, and messages of 900 bytes in it.
fn filled(messages: usize) -> World {
    let disk = SimDisk::new(1);
    disk.keep_trace(false);
    let mut world = World::on(&disk, Model::default(), 1);
    (0..messages).for_each(|_| world.take(Step::Accept).unwrap());
    world
}

/// Copied removals were counted as needed where they had been copied from: that was copied again, and again.
#[test]
fn removals_that_are_still_needed_are_copied_once_and_not_for_ever() {
    let mut world = filled(0);
    // In each segment of the arrivals one message stays, and so the removals of the others are needed.
    for n in 0..200 {
        world.take(Step::Accept).unwrap();
        if n % 4 > 0 {
            world.remove(&[n]).unwrap();
        }
    }
    world.take(Step::MaintainAll).unwrap();
    let before = world.spool().stats();
    assert!(before.disk_bytes < 200_000, "{before:?}");
    world.take(Step::MaintainAll).unwrap();
    assert_eq!(world.spool().stats().moved_bytes, before.moved_bytes);
}

/// The record of its removal was dropped with its segment, and the older one, in another segment, counted again.
#[test]
fn a_resource_that_was_removed_does_not_come_back_when_its_removal_is_reclaimed() {
    let mut world = filled(3);
    assert_eq!(world.told(|model| model.messages[0].versions[0].resources.len()), 1);
    (0..10).for_each(|_| world.take(Step::Accept).unwrap());
    let (id, now) = world.told(|model| (model.messages[0].id, model.now()));
    let message = world.spool().get(id).unwrap();
    message.remove_resource("x0");
    world.spool().update(&message, now).unwrap();
    drop(message);
    (0..6).for_each(|_| world.take(Step::Accept).unwrap());
    // All but what lies beside the message in its own segment.
    let rest: Vec<usize> = (3..19).collect();
    world.remove(&rest).unwrap();
    (0..6).for_each(|_| world.take(Step::Accept).unwrap());
    world.take(Step::MaintainAll).unwrap();
    assert!(world.spool().stats().reclaimed_segments > 0);
    world.spool.take().unwrap().close().unwrap();
    let spool = open(&world.disk);
    assert_eq!(spool.get(id).unwrap().resources().unwrap(), [""; 0]);
    assert!(!spool.entry(id).unwrap().has_resources);
}

/// The copy was on its way when the message was removed: its removal named the segment that it came from alone, and was
/// forgotten when that was given back.
#[test]
fn a_message_that_is_removed_while_it_is_moved_does_not_come_back() {
    let mut world = filled(40);
    // One in four stays: they are moved.
    let gone: Vec<usize> = (0..40).filter(|n| n % 4 != 1).collect();
    world.remove(&gone).unwrap();
    world.take(Step::Sync).unwrap();
    let victim = world.told(|model| model.messages[1].id);
    let spool = Arc::new(world.spool.take().unwrap());
    let remover = Mutex::new(Some(Arc::clone(&spool)));
    world.disk.observe(move |_, traced| {
        if traced.op == Op::Sync
            && traced.path.starts_with("/spool/survivors/")
            && let Some(spool) = remover.lock().unwrap().take()
        {
            spool.remove(victim).unwrap();
        }
    });
    while spool.maintain(1 << 20).unwrap().more {}
    world.disk.unobserve();
    assert!(!spool.contains(victim).unwrap());
    world.spool = Arc::into_inner(spool);
    world.told(|model| model.messages[1].phase = Phase::Gone);
    // The segment with the removal goes too.
    (0..12).for_each(|_| world.take(Step::Accept).unwrap());
    let more: Vec<usize> = (40..52).collect();
    world.remove(&more).unwrap();
    (0..8).for_each(|_| world.take(Step::Accept).unwrap());
    world.take(Step::MaintainAll).unwrap();
    world.take(Step::Reopen).unwrap();
    world.take(Step::MaintainAll).unwrap();
    world.take(Step::Reopen).unwrap();
}

/// A record of a segment was damaged, the others were moved, and what they were moved to is gone: what is left in the segment
/// was not told from what was never moved, and its removals were given back before it.
#[test]
fn what_was_left_in_a_damaged_segment_is_kept_out_when_its_copies_are_gone() {
    let now = Timestamp::new(1_700_000_000, 0);
    let accept = |spool: &Spool, n: u32| {
        let id = spool.new_id(now);
        spool.accept(&Message::from_bytes(id, message::of(n, 200)), now).unwrap();
        id
    };
    let disk = SimDisk::new(1);
    let mut spool = open(&disk);
    let all: Vec<MessageId> = (0..60).map(|n| accept(&spool, n)).collect();
    let (kept, mut gone): (Vec<_>, Vec<_>) = all.chunks(2).map(|two| (two[0], two[1])).unzip();
    spool.remove_all(&gone).unwrap();
    spool.close().unwrap();
    let hurt = kept[7];
    // In the middle of the body of one that is kept, in the second segment.
    let path = Path::new("/spool/arrivals/00000001");
    let file = File::open(&disk, path, Open::ReadWrite).unwrap();
    let mut bytes = vec![0; file.size().unwrap() as usize];
    file.pread_up_to(&mut bytes, 0).unwrap();
    let body = message::of(14, 200);
    let at = bytes.windows(100).position(|window| *window == body[50..150]).unwrap();
    file.pwrite(&[bytes[at] ^ 1], at as u64).unwrap();
    let reopened = |below: f64| {
        let options = options().reclaim_below(below);
        options.open_on(Arc::new(disk.clone()), PATH).unwrap()
    };
    spool = reopened(0.95);
    for round in 0..6 {
        for _ in 0..100 {
            if !spool.maintain(1 << 20).unwrap().more {
                break;
            }
            assert!(spool.stats().moved_bytes < 200_000, "{:?}", spool.stats());
        }
        // All but the one that cannot be read is delivered.
        let there: Vec<MessageId> =
            spool.entries().unwrap().map(|one| one.id).filter(|id| *id != hurt).collect();
        let back: Vec<_> = there.iter().filter(|id| gone.contains(id)).collect();
        assert!(back.is_empty(), "round {round}: {back:?}");
        // Those beside it first, one by one, far enough from each other that no removal stands beside another one.
        for one in there.iter().filter(|id| kept[5..13].contains(id)) {
            spool.remove(*one).unwrap();
            let apart: Vec<MessageId> = (0..14).map(|n| accept(&spool, n)).collect();
            spool.remove_all(&apart).unwrap();
            (0..14).for_each(|n| spool.remove(accept(&spool, n)).unwrap());
            gone.extend(apart);
        }
        spool.remove_all(&there).unwrap();
        gone.extend(there);
        let later: Vec<MessageId> = (0..40).map(|n| accept(&spool, n)).collect();
        spool.remove_all(&later).unwrap();
        gone.extend(later);
        for n in 0..20 {
            accept(&spool, n);
        }
        spool.close().unwrap();
        // Later, nothing is moved that need not be.
        spool = reopened(0.0);
    }
    assert!(spool.contains(hurt).unwrap());
}
