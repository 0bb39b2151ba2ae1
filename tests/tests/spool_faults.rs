//! A spool on a disk that is full, fails, or is damaged, and one that many threads use at once.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use jlog::io::sim::{Limits, Op, SimDisk, Times};
use jlog::io::{Disk, File, Open};
use jlog_tests::crash::{Dice, message};
use jlog_tests::spool_harm::{begin, copy, files, look, play, small};
use jlog_tests::spool_model::{Model, PATH, Step, World, found, open, options, queue};
use nix::libc::{EIO, ENOSPC};
use spool::{Message, MessageId, RetryPolicy, SpoolError, SpoolOptions, Timestamp};

/// Lets each operation of a history fail once.
fn at_every_operation(errno: i32, times: Times, check: impl Fn(&mut World, Vec<(usize, SpoolError)>, &str)) {
    let calm = SimDisk::new(1);
    let mut world = begin(&calm);
    let first = calm.operations();
    let errors = play(&mut world, 0);
    assert!(errors.is_empty(), "{errors:?}");
    for n in first..calm.operations() {
        let disk = SimDisk::new(1);
        let mut world = begin(&disk);
        disk.fail_at(n, errno, times);
        let errors = play(&mut world, 0);
        disk.heal();
        let what = format!("errno {errno} {times:?} at {n}, {:?}: {errors:?}", disk.trace()[n as usize]);
        check(&mut world, errors, &what);
    }
}

/// The disk is sound again: whoever opens the spool finds all that was promised, also behind a power cut.
fn finish(world: &mut World, what: &str) {
    let model = world.told(|model| model.clone());
    let left = world.disk.power_cut();
    let spool = open(&left);
    let there = found(&spool).unwrap();
    assert_eq!(model.differs(&there), None, "{what}: behind a power cut");
    drop(spool);
    drop(world.spool.take());
    world.reopen().unwrap_or_else(|error| panic!("{what}: {error}"));
    for step in [Step::Accept, Step::Remove, Step::MaintainAll, Step::Sync] {
        world.take(step).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    let model = world.told(|model| model.clone());
    let there = found(&open(&world.disk.power_cut())).unwrap();
    assert_eq!(model.differs(&there), None, "{what}: in the end");
}

#[test]
fn a_full_disk_at_any_operation_refuses_whole_messages_and_takes_them_when_there_is_space() {
    for times in [Times::Once, Times::Sticky] {
        at_every_operation(ENOSPC, times, |world, errors, what| {
            let full = |error: &SpoolError| matches!(error, SpoolError::Full { .. });
            // Without a failed sync it goes on by itself.
            if world.spool.is_some() && errors.iter().all(|(_, error)| full(error)) {
                world.take(Step::Accept).unwrap_or_else(|error| panic!("{what}: {error}"));
            }
            finish(world, what);
        });
    }
}

#[test]
fn a_broken_disk_at_any_operation_costs_nothing_that_was_acknowledged() {
    for times in [Times::Once, Times::Sticky] {
        at_every_operation(EIO, times, |world, _, what| finish(world, what));
    }
}

#[test]
fn a_spool_whose_making_or_opening_fails_anywhere_is_made_or_opened_later() {
    for errno in [EIO, ENOSPC] {
        for used in [false, true] {
            for n in 0.. {
                let disk = SimDisk::new(1);
                let mut model = Model::default();
                if used {
                    let mut world = begin(&disk);
                    play(&mut world, 0);
                    model = world.told(|model| model.clone());
                    world.spool.take().unwrap().close().unwrap();
                }
                disk.fail_at(disk.operations() + n, errno, Times::Once);
                let first = options().open_on(Arc::new(disk.clone()), PATH);
                let failed = first.is_err();
                drop(first);
                disk.heal();
                let spool = open(&disk);
                assert_eq!(spool.wait_recovered().unwrap().findings, []);
                assert_eq!(model.differs(&found(&spool).unwrap()), None, "operation {n}");
                if n > 60 && !failed {
                    break;
                }
            }
        }
    }
}

/// After a sync that failed, the kernel shows a count that is not on the disk: the next one went over the last that was.
#[test]
fn a_run_whose_count_was_not_durable_is_not_followed_by_one_with_the_ids_of_an_earlier_one() {
    for n in 0..8 {
        let disk = SimDisk::new(1);
        let now = Timestamp::new(1, 0);
        // It was given out, and nothing on the disk tells of it.
        let id = open(&disk).new_id(now);
        disk.fail_call(Op::Sync, disk.calls(Op::Sync) + n, EIO, Times::Once);
        drop(options().open_on(Arc::new(disk.clone()), PATH));
        disk.heal();
        let images = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&images);
        disk.observe(move |disk, _| {
            let limits = Limits { exhaustive_atoms: 4, exhaustive_images: 64, samples: 64 };
            noted.lock().unwrap().extend(disk.crash_states(limits, n));
        });
        drop(open(&disk));
        disk.unobserve();
        for image in images.lock().unwrap().drain(..) {
            assert_ne!(open(&image).new_id(now), id, "sync {n}");
        }
    }
}

#[test]
fn on_a_full_disk_mail_is_delivered_and_then_accepted_again() {
    let disk = SimDisk::new(1);
    let options = || options().reserve(64 << 10);
    let spool = options().open_on(Arc::new(disk.clone()), PATH).unwrap();
    let used: u64 = files(&disk).iter().map(|(_, len)| len).sum();
    disk.limit(Some(used + (200 << 10)));
    let now = Timestamp::new(1_700_000_000, 0);
    for round in 0..4u32 {
        let mut held = Vec::new();
        let mut refused = 0;
        while refused < 3 {
            let one = Message::from_bytes(spool.new_id(now), message::of(held.len() as u32, 1500));
            match spool.accept(&one, now) {
                Ok(()) => held.push(one.id()),
                Err(SpoolError::Full { .. }) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(held.len() > 40, "round {round}: {}", held.len());
        assert_eq!(spool.len().unwrap(), held.len() as u64);
        for (n, id) in held.iter().enumerate() {
            let one = spool.get(*id).unwrap();
            assert_eq!(message::number(&one.prefetch().unwrap()), Some(n as u32));
            if n % 3 == 0 {
                spool.retry(&one, b"4", &RetryPolicy::default(), 0, now).unwrap();
            }
            spool.remove(*id).unwrap();
        }
        for _ in 0..50 {
            if !spool.maintain(1 << 20).unwrap().more {
                break;
            }
        }
    }
    drop(spool);
    assert!(options().open_on(Arc::new(disk), PATH).unwrap().is_empty().unwrap());
}

fn flip(disk: &SimDisk, path: &Path, at: u64, bits: u8) {
    let file = File::open(disk, path, Open::ReadWrite).unwrap();
    let mut byte = [0];
    file.pread_up_to(&mut byte, at).unwrap();
    file.pwrite(&[byte[0] ^ bits], at).unwrap();
}

#[test]
fn no_flipped_bit_of_any_file_makes_a_wrong_message_or_loses_one_silently() {
    let mut wide: BTreeMap<String, usize> = BTreeMap::new();
    for close in [true, false] {
        let (disk, model) = small(close);
        let sound = look(&copy(&disk), &model).unwrap();
        let there = model.there().len();
        assert!(sound.right == there && there > 6 && sound.findings == 0, "{sound:?}");
        let mut dice = Dice(5);
        for (path, len) in files(&disk) {
            let mut at = dice.below(7) as u64;
            while at < len {
                let image = copy(&disk);
                flip(&image, &path, at, 1 << dice.below(8));
                let what = format!("{} byte {at}, closed {close}", path.display());
                match look(&image, &model) {
                    Ok(outcome) => {
                        let silent = outcome.lost + outcome.back + outcome.old;
                        assert!(outcome.findings > 0 || silent == 0, "{what}: {outcome:?}");
                        let hurt = there - outcome.right;
                        let most = wide.entry(path.display().to_string()).or_default();
                        *most = (*most).max(hurt);
                        assert!(at < 200 || hurt <= 4, "{what}: {outcome:?}");
                    }
                    Err(SpoolError::Newer { .. }) => panic!("{what}: taken to be newer"),
                    Err(error) => {
                        assert!(!path.starts_with("/spool/summaries"), "{what}: {error}");
                        let name = path.file_name().unwrap().to_str().unwrap();
                        assert!(name.len() != 8 || at < 200, "{what}: {error}");
                    }
                }
                at += 1 + dice.below(23) as u64;
            }
        }
    }
    println!("{wide:?}");
}

#[test]
fn a_segment_that_is_missing_is_found_and_the_rest_is_delivered() {
    for close in [true, false] {
        let (disk, model) = small(close);
        let mut seen = 0;
        for (path, len) in files(&disk) {
            let name = path.file_name().unwrap().to_str().unwrap();
            if name.len() != 8 || !name.chars().all(|c| c.is_ascii_hexdigit()) || len < 200 {
                continue;
            }
            let image = copy(&disk);
            image.remove(&path).unwrap();
            image.sync_dir(path.parent().unwrap()).unwrap();
            match look(&image, &model) {
                Ok(outcome) => {
                    assert!(outcome.findings > 0, "{} closed {close}: {outcome:?}", path.display());
                    assert!(outcome.right > 0 || model.there().len() < 4, "{}: {outcome:?}", path.display());
                }
                Err(error) => panic!("{} closed {close}: {error}", path.display()),
            }
            seen += 1;
        }
        assert!(seen > 2, "{seen}");
    }
}

/// A summary knew of records that the last segment had lost, and nothing else told of them: the spool could not be opened, not even to
/// look at it; and what came to stand in their place was taken for what the summary knew already.
#[test]
fn a_spool_that_lost_the_end_that_a_summary_knows_of_opens_and_loses_nothing_more() {
    for log in ["arrivals", "survivors"] {
        for left in [0, 60, 128, 300] {
            let what = format!("{log}, {left} bytes left");
            let (disk, model) = small(true);
            let dir = Path::new(PATH).join(log);
            let is_segment =
                |path: &Path| path.extension().is_none() && path.to_string_lossy().contains("/0000");
            let mut segments =
                files(&disk).into_iter().filter(|(path, _)| path.starts_with(&dir) && is_segment(path));
            let (last, _) = segments.next_back().unwrap();
            disk.remove(&dir.join("control")).unwrap();
            File::open(&disk, &last, Open::ReadWrite).unwrap().truncate(left).unwrap();

            let looked_at = options().open_read_only_on(Arc::new(disk.clone()), PATH).unwrap();
            looked_at.wait_recovered().unwrap();
            let listed = looked_at.len().unwrap();
            drop(looked_at);
            look(&disk, &model).unwrap_or_else(|error| panic!("{what}: {error}"));

            let mut later = Vec::new();
            let mut disk = copy(&disk);
            for n in 0..4 {
                let spool = open(&disk);
                assert_eq!(spool.len().unwrap(), listed + later.len() as u64, "{what}");
                let now = Timestamp::new(1_800_000_000 + n, 0);
                let message = Message::from_bytes(spool.new_id(now), *b"one more");
                spool.accept(&message, now).unwrap();
                later.push(message.id());
                disk = disk.power_cut();
                assert!(later.iter().all(|id| open(&copy(&disk)).contains(*id).unwrap()), "{what}: {n}");
            }
        }
    }
}

#[test]
fn a_summary_of_another_spool_is_not_believed() {
    let (disk, model) = small(true);
    let other = SimDisk::new(2);
    let mut world = World::on(&other, Model::default(), 9);
    (0..12).for_each(|_| world.take(Step::Accept).unwrap());
    world.spool.take().unwrap().close().unwrap();
    let mut copied = 0;
    for (path, len) in files(&other) {
        if path.starts_with("/spool/summaries") {
            let mut bytes = vec![0; len as usize];
            File::open(&other, &path, Open::Read).unwrap().pread_up_to(&mut bytes, 0).unwrap();
            let file = File::open(&disk, &path, Open::Create(0o600)).unwrap();
            file.truncate(0).unwrap();
            file.pwrite(&bytes, 0).unwrap();
            copied += 1;
        }
    }
    let outcome = look(&disk, &model).unwrap();
    assert!(
        copied > 1 && outcome.right == model.there().len() && outcome.findings == 0,
        "{copied} {outcome:?}"
    );
}

#[test]
fn a_clock_that_steps_back_gives_no_id_twice_and_loses_nothing() {
    let disk = SimDisk::new(1);
    let mut ids = std::collections::BTreeSet::new();
    for seconds in [2_000_000_000, 1_000_000, 1_999_990_000, 5, 0] {
        let spool = open(&disk);
        for _ in 0..5 {
            let now = Timestamp::new(seconds, 0);
            let one = Message::from_bytes(spool.new_id(now), message::of(1, 1000));
            assert!(ids.insert(one.id()));
            spool.accept(&one, now).unwrap();
        }
        assert_eq!(spool.len().unwrap(), ids.len() as u64);
    }
    let spool = open(&disk);
    assert_eq!(
        spool.entries().unwrap().map(|listed| listed.id).collect::<std::collections::BTreeSet<_>>(),
        ids
    );
}

/// Accepts, delivers and updates with many threads, while space is given back all the time.
#[test]
fn many_threads_deliver_each_message_once_while_space_is_given_back() {
    const THREADS: usize = 8;
    const EACH: usize = 400;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool");
    let options = || {
        SpoolOptions::new()
            .segment_size(16 << 10)
            .reserve(0)
            .large_message_threshold(6000)
            .max_resident_messages(8)
            .max_resident_bytes(20_000)
            .reclaim_below(0.95)
    };
    let spool = options().open(&path).unwrap();
    let delivered: Mutex<BTreeMap<MessageId, u32>> = Mutex::default();
    let (coming, done) = (AtomicUsize::new(THREADS), AtomicUsize::new(0));
    let now = |n: usize| Timestamp::new(1_700_000_000 + n as u32, 0);
    let policy = RetryPolicy { retry_interval: 1, fixed: true, ..RetryPolicy::default() };
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (spool, delivered, coming, done, policy) = (&spool, &delivered, &coming, &done, &policy);
            scope.spawn(move || {
                let mut dice = Dice(thread as u64);
                let mut left = EACH;
                while left > 0 || done.load(Ordering::SeqCst) < THREADS * EACH {
                    if left > 0 {
                        let n = (thread * EACH + left) as u32;
                        let len = [30, 700, 2500, 7000][dice.below(4)];
                        let id = spool.new_id(now(0));
                        let one = Message::from_bytes(id, message::of(n, len));
                        one.set_queue(queue(n % 5));
                        spool.accept(&one, now(0)).unwrap();
                        left -= 1;
                        if left == 0 {
                            coming.fetch_sub(1, Ordering::SeqCst);
                        }
                    }
                    for id in spool.due(now(1_000_000), dice.below(4)).unwrap() {
                        let one = spool.get(id).unwrap();
                        let mut body = Vec::new();
                        one.body().unwrap().read_to_end(&mut body).unwrap();
                        assert!(message::number(&body).is_some(), "a genuine body");
                        if one.attempts() < 2 && dice.below(3) == 0 {
                            one.context_set(spool::Scope::Message, "n", "1").unwrap();
                            spool.retry(&one, b"4", policy, 0, now(0)).unwrap();
                        } else {
                            spool.remove(id).unwrap();
                            *delivered.lock().unwrap().entry(id).or_default() += 1;
                            done.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                }
            });
        }
    });
    let check = |spool: &spool::Spool| {
        assert_eq!(spool.wait_recovered().unwrap().findings, []);
        let held: Vec<_> = spool.entries().unwrap().map(|listed| listed.id).collect();
        assert_eq!(held, []);
    };
    check(&spool);
    let delivered = delivered.into_inner().unwrap();
    assert_eq!(delivered.len(), THREADS * EACH);
    assert!(delivered.values().all(|times| *times == 1));
    assert!(spool.stats().reclaimed_segments > 20, "{:?}", spool.stats());
    drop(spool);
    check(&options().background(false).open(&path).unwrap());
}
