//! The checksummed format on a disk that fails: no acknowledgement after a failed sync, nothing half written after a
//! full disk, and nothing acknowledged that a power cut takes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use jlog::io::sim::{Op, Profile, SimDisk, Times};
use jlog::io::{File, Open};
use jlog::{CreateOptions, Durability, ErrorKind, Format, Log, Start, Subscriber};
use jlog_tests::crash::message;
use jlog_tests::play::Play;
use jlog_tests::{SIM_LOG, at, get, open_sim, put, read_all, sim_files};
use nix::libc::{EDQUOT, EFBIG, EIO, ENOSPC};

const SEGMENT: u32 = 1024;

fn begin(disk: &SimDisk, durability: Durability) -> Play {
    Play::begin(disk.clone(), Format::Checksummed, durability, SEGMENT)
}

fn subscriber(name: &str) -> Subscriber {
    Subscriber::new(name).unwrap()
}

/// Something to do to a log that may refuse it.
type Scenario = (Durability, fn(&mut Play));

const SCENARIOS: [Scenario; 3] =
    [(Durability::Sync, steady), (Durability::Sync, restless), (Durability::Process, eager)];

/// Opens the log again, where something has ended the writer.
fn go_on(play: &mut Play) {
    let ended = play.errors.iter().any(|kind| *kind != ErrorKind::NoSpace);
    if !play.is_open() || ended {
        let _ = play.open() || play.open();
    }
}

/// Appends, one at a time and several at once, across segments.
fn steady(play: &mut Play) {
    for len in [40, 300, 200, 700, 60] {
        play.append(len, Durability::Sync);
        go_on(play);
    }
    play.batch(&[100, 300, 200]);
    go_on(play);
    play.append(900, Durability::Sync);
    go_on(play);
}

/// Subscribers come, read, commit and go; segments are removed and used again.
fn restless(play: &mut Play) {
    play.add("a");
    play.add("b");
    for round in 0..4 {
        play.append(500, Durability::Process);
        go_on(play);
        play.append(600, Durability::Sync);
        go_on(play);
        play.commit("a", 10);
        play.commit("b", 1 + round);
    }
    play.remove("b");
    play.commit("a", 10);
    play.close();
    go_on(play);
    play.append(50, Durability::Sync);
    go_on(play);
}

/// Nothing is synced unless it is asked for.
fn eager(play: &mut Play) {
    play.add("a");
    for _ in 0..3 {
        play.append(200, Durability::Process);
        go_on(play);
        play.batch(&[90, 400]);
        go_on(play);
        play.commit("a", 2);
    }
    play.sync();
    go_on(play);
    play.append(300, Durability::Process);
    go_on(play);
}

/// Runs a scenario once for each operation it makes, and lets that operation fail.
fn at_every_operation(errno: i32, times: Times, every: usize) {
    for (durability, scenario) in SCENARIOS {
        let calm = SimDisk::new(1);
        let mut play = begin(&calm, durability);
        let first = calm.operations();
        scenario(&mut play);
        assert_eq!(play.errors, []);
        for n in (first..calm.operations()).step_by(every) {
            let disk = SimDisk::new(1);
            let mut play = begin(&disk, durability);
            play.fail_at(n, errno, times);
            scenario(&mut play);
            disk.heal();
            let op = format!("{errno} {times:?} at {n}: {:?}", disk.trace()[n as usize]);
            finish(play, n, &op);
        }
    }
}

/// The disk is sound again: the log goes on, and a power cut takes nothing that was acknowledged.
fn finish(mut play: Play, n: u64, what: &str) {
    if play.errors.iter().any(|kind| *kind != ErrorKind::NoSpace) || !play.is_open() {
        play.die();
        assert!(play.open(), "{what}: {:?}", play.errors);
    }
    play.check();
    assert!(play.append(70, Durability::Sync), "{what}: {:?}", play.errors);
    play.check();
    play.check_subscribers();
    play.power_cut(Some(n));
    assert!(play.open(), "{what}: {:?}", play.errors);
    play.check();
    play.check_subscribers();
    assert!(play.append(80, Durability::Sync), "{what}");
    play.check();
}

#[test]
fn a_full_disk_at_any_operation_refuses_whole_records_and_takes_them_when_there_is_space() {
    at_every_operation(ENOSPC, Times::Once, 1);
    at_every_operation(ENOSPC, Times::Sticky, 1);
    at_every_operation(EDQUOT, Times::Once, 3);
    at_every_operation(EFBIG, Times::Once, 3);
}

#[test]
fn a_broken_disk_at_any_operation_costs_no_acknowledged_record() {
    at_every_operation(EIO, Times::Once, 1);
    at_every_operation(EIO, Times::Sticky, 1);
}

#[test]
fn short_transfers_and_interruptions_leave_the_same_files() {
    for (durability, scenario) in SCENARIOS {
        let calm = SimDisk::new(1);
        scenario(&mut begin(&calm, durability));
        for storm in [None, Some(2), Some(3), Some(7)] {
            // Its seed is the log's identity too.
            let disk = SimDisk::new(1);
            disk.short_transfers(true);
            disk.interrupt_every(storm);
            let mut play = begin(&disk, durability);
            scenario(&mut play);
            assert_eq!(play.errors, [], "storm {storm:?}");
            disk.heal();
            assert!(sim_files(&disk) == sim_files(&calm), "storm {storm:?}");
        }
    }
}

#[test]
fn a_sync_that_failed_is_never_followed_by_an_acknowledgement() {
    for profile in [Profile::Posix, Profile::ZeroTail] {
        for k in 0.. {
            let disk = SimDisk::new(1);
            disk.profile(profile);
            let log =
                Log::create_on(Arc::new(disk.clone()), SIM_LOG, &CreateOptions::new().segment_size(SEGMENT));
            let log = log.unwrap();
            let writer = log.writer().unwrap();
            disk.fail_call(Op::Sync, disk.calls(Op::Sync) + k, EIO, Times::Once);
            let mut acknowledged = Vec::new();
            let failed = (0..12u32).find(|n| {
                let outcome = writer.append(&message::of(*n, 150 + *n as usize), at(*n));
                outcome.map(|id| acknowledged.push((id, *n))).is_err()
            });
            let Some(failed) = failed else {
                assert!(k > 12);
                break;
            };
            // The kernel says that all is well from now on.
            for _ in 0..3 {
                let outcomes = [
                    writer.append(b"more", at(0)).map(drop),
                    writer.append_as(b"more", at(0), Durability::Process).map(drop),
                    writer.append_batch([(&b"more"[..], at(0))]).map(drop),
                    writer.sync(),
                ];
                assert!(outcomes.iter().all(Result::is_err), "sync {k}: {outcomes:?}");
            }
            let durable = writer.durable_id();
            let last = acknowledged.last().map(|(id, _)| *id).unwrap_or_default();
            assert!(durable <= last || durable.marker.0 == 0, "sync {k}: {durable}");

            // Another process's reader, and the next writer, see what the disk has, not what the kernel remembers.
            let on_disk = |disk: &SimDisk| {
                let seen = read_all(&open_sim(&disk.power_cut()));
                assert_eq!(seen.gaps, [], "sync {k}");
                let one = |record: &jlog_tests::Seen| (record.id, message::number(&record.payload).unwrap());
                seen.records.iter().map(one).collect::<Vec<_>>()
            };
            let in_view = read_all(&open_sim(&disk));
            assert_eq!(in_view.gaps, [], "sync {k}");
            assert!(in_view.records.len() <= on_disk(&disk).len(), "sync {k}");
            assert!(on_disk(&disk).starts_with(&acknowledged), "sync {k}");
            drop(writer);
            let writer = log.writer().unwrap();
            let seen = read_all(&log);
            let there = on_disk(&disk);
            assert_eq!(seen.records.len(), there.len(), "sync {k}: what a reader sees is on the disk");
            assert!(there.starts_with(&acknowledged), "sync {k}");

            let id = writer.append(&message::of(failed, 99), at(failed)).unwrap();
            let before = acknowledged.last().map_or(0, |(id, _)| id.segment.0);
            assert!(id.segment.0 > before || there.is_empty(), "sync {k}: {id} is in blocks that failed");
            let after = on_disk(&disk);
            assert!(after.starts_with(&there) && after.last() == Some(&(id, failed)), "sync {k}: {after:?}");
        }
    }
}

#[test]
fn a_checkpoint_whose_sync_failed_lets_nothing_be_removed() {
    for durability in [Durability::Sync, Durability::Process] {
        let disk = SimDisk::new(1);
        let mut play = begin(&disk, durability);
        play.add("a");
        play.add("b");
        for _ in 0..4 {
            assert!(play.append(600, Durability::Sync));
        }
        disk.fail_next(Op::Sync, EIO, Times::Once);
        play.commit("a", 10);
        assert_eq!(play.errors, [ErrorKind::Io]);
        play.commit("b", 10);
        play.power_cut(None);
        assert!(play.open());
        play.check();
        // Whatever it has got twice: there is no gap.
        play.check_subscribers();
    }
}

#[test]
fn a_full_disk_lets_subscribers_read_on_and_free_space_and_the_writer_goes_on_by_itself() {
    let disk = SimDisk::new(1);
    let mut play = begin(&disk, Durability::Sync);
    play.add("a");
    play.add("b");
    let used: usize = sim_files(&disk).values().map(Vec::len).sum();
    disk.limit(Some(used as u64 + 8 * 1024));
    let mut refused = 0;
    for round in 0..200 {
        if !play.append(100 + round % 300, Durability::Sync) {
            refused += 1;
            let left = disk.torn_power_cut(round as u64);
            assert_eq!(read_all(&open_sim(&left)).gaps, [], "round {round}");
            play.check();
            // Not a byte is free, and yet it is read, committed and removed.
            play.commit("a", 100);
            play.commit("b", 100);
            if refused == 3 {
                play.remove("b");
            }
        }
    }
    assert!(refused > 3, "it was full {refused} times");
    assert!(play.errors.iter().all(|kind| *kind == ErrorKind::NoSpace), "{:?}", play.errors);
    play.check();
    play.power_cut(None);
    assert!(play.open());
    play.check();
    play.check_subscribers();
}

#[test]
fn everybody_is_acknowledged_by_a_sync_that_began_after_his_write() {
    for failing in [None, Some(0), Some(3), Some(9), Some(20)] {
        let disk = SimDisk::new(1);
        let log =
            Log::create_on(Arc::new(disk.clone()), SIM_LOG, &CreateOptions::new().segment_size(SEGMENT))
                .unwrap();
        let writer = log.writer().unwrap();
        // While one syncs the others get to write.
        disk.observe(|_, traced| {
            if traced.op == Op::Sync {
                (0..50).for_each(|_| std::thread::yield_now());
            }
        });
        if let Some(k) = failing {
            disk.fail_call(Op::Sync, disk.calls(Op::Sync) + k, EIO, Times::Once);
        }
        let told = AtomicU32::new(0);
        let acknowledged = std::thread::scope(|scope| {
            let work = |thread: u32| {
                let (disk, writer, told) = (disk.clone(), &writer, &told);
                move || {
                    let mut mine = Vec::new();
                    for n in 0..15 {
                        let n = thread * 100 + n;
                        match writer.append(&message::of(n, 60), at(n)) {
                            Ok(id) => {
                                mine.push((id, n));
                                let there = holds(&disk.power_cut(), &mine);
                                assert!(there, "{n} was acknowledged and is not on the disk");
                            }
                            Err(_) => {
                                told.fetch_add(1, Ordering::Relaxed);
                                assert!(writer.append(b"more", at(0)).is_err());
                                break;
                            }
                        }
                    }
                    mine
                }
            };
            let threads: Vec<_> = (0..4).map(|thread| scope.spawn(work(thread))).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        disk.unobserve();
        match failing {
            None => assert_eq!(acknowledged.len(), 60),
            Some(_) => assert_eq!(told.load(Ordering::Relaxed), 4, "all who wait are told"),
        }
        assert!(holds(&disk.power_cut(), &acknowledged));
    }
}

fn holds(disk: &SimDisk, records: &[(jlog::RecordId, u32)]) -> bool {
    let seen = read_all(&open_sim(disk));
    records.iter().all(|(id, n)| {
        seen.records.iter().any(|there| there.id == *id && message::number(&there.payload) == Some(*n))
    })
}

#[test]
fn no_flipped_bit_of_a_durable_record_is_ever_delivered() {
    let disk = SimDisk::new(1);
    disk.keep_trace(false);
    let mut play = begin(&disk, Durability::Sync);
    assert!(play.append(40, Durability::Sync) && play.batch(&[20, 30]) && play.append(10, Durability::Sync));
    assert!(play.close());
    let whole: Vec<_> = read_all(&open_sim(&disk)).records;
    let sound = get(&disk, "00000000").unwrap();
    // The header of the segment stands apart: what it says is not handed to anybody.
    for bit in 128 * 8..(whole.last().unwrap().offset + whole.last().unwrap().stored_len) * 8 {
        let mut bytes = sound.clone();
        bytes[bit as usize / 8] ^= 1 << (bit % 8);
        put(&disk, "00000000", &bytes);
        let seen = read_all(&open_sim(&disk));
        let wrong = seen.records.iter().find(|record| !whole.contains(record));
        assert!(wrong.is_none(), "bit {bit}: {wrong:?}");
        // Of the bytes that only fill up to the next multiple of 8, nobody is told.
        assert_eq!(seen.gaps.is_empty(), seen.records.len() == whole.len(), "bit {bit}: {seen:?}");
    }
}

#[test]
fn nothing_is_removed_before_the_checkpoints_that_allow_it_are_on_the_disk() {
    for format in [Format::Checksummed, Format::Classic] {
        let disk = SimDisk::new(1);
        let options = CreateOptions::new().format(format).segment_size(300).durability(Durability::Process);
        let log = Log::create_on(Arc::new(disk.clone()), SIM_LOG, &options).unwrap();
        let (a, b) = (subscriber("a"), subscriber("b"));
        log.add_subscriber(&a, Start::Begin).unwrap();
        log.add_subscriber(&b, Start::Begin).unwrap();
        let writer = log.writer().unwrap();
        for n in 0..6 {
            writer.append(&message::of(n, 250), at(n)).unwrap();
        }
        writer.sync().unwrap();

        // Another process moves its checkpoint, and dies before it is synced: what it has written, and no more.
        let moved = {
            let twin = disk.power_cut();
            let log = open_sim(&twin);
            let mut reader = log.reader(&a).unwrap();
            while reader.next_record().unwrap().is_some() {}
            reader.commit().unwrap();
            get(&twin, "cp.61").unwrap()
        };
        let file = File::open(&disk, &Path::new(SIM_LOG).join("cp.61"), Open::ReadWrite).unwrap();
        file.pwrite(&moved, 0).unwrap();
        drop(file);

        let mut reader = log.reader(&b).unwrap();
        while reader.next_record().unwrap().is_some() {}
        assert!(!reader.commit().unwrap().is_empty(), "all have read the first segments");
        for seed in 0..32 {
            let log = open_sim(&disk.torn_power_cut(seed));
            let mut reader = log.reader(&a).unwrap();
            while reader.next_record().unwrap_or_else(|error| panic!("{format}: {error}")).is_some() {}
        }
    }
}
