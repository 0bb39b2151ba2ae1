//! Writers that share a log or own it in turn, callbacks, policies and slow readers: what a close reading has found.
//!
//! Two handles of a log on one simulated disk play two processes: they share nothing but the files.

#![allow(clippy::unwrap_used, clippy::panic)]
use jlog::inspect::inspect;
use jlog::io::sim::{Op, SimDisk, Times};
use jlog::io::{File, Open};
use jlog::repair;
use jlog::{
    CreateOptions, Durability, ErrorKind, GapKind, Log, Retention, Start, Subscriber, WhenFull, Writer,
    WriterOptions,
};
use jlog_tests::{Scratch, at, read_all};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

fn shared() -> WriterOptions {
    WriterOptions::new().exclusive(false)
}
fn sub(n: &str) -> Subscriber {
    Subscriber::new(n).unwrap()
}
fn log(disk: &SimDisk, o: &CreateOptions) -> Log {
    Log::create_on(Arc::new(disk.clone()), "/log", o).unwrap()
}
fn open(disk: &SimDisk) -> Log {
    Log::open_on(Arc::new(disk.clone()), "/log").unwrap()
}
fn all(log: &Log) -> Vec<Result<u8, GapKind>> {
    let mut c = log.cursor().unwrap();
    let mut out = vec![];
    loop {
        match c.next_record() {
            Ok(Some(r)) => out.push(Ok(r.payload[0])),
            Ok(None) => return out,
            Err(e) => {
                out.push(Err(e.gap_met().unwrap_or_else(|| panic!("{e}")).kind));
                c.skip_gap();
            }
        }
    }
}
/// Runs it in a thread; panics if it hangs.
fn ends(f: impl FnOnce() + Send + 'static) {
    let (s, r) = mpsc::channel();
    let t = std::thread::spawn(move || {
        f();
        s.send(()).unwrap();
    });
    match r.recv_timeout(Duration::from_secs(60)) {
        Ok(()) => t.join().unwrap(),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            t.join().unwrap();
        }
        Err(_) => panic!("it hangs"),
    }
}

#[test]
fn what_anothers_failed_sync_may_have_taken_is_not_acknowledged() {
    let disk = SimDisk::new(1);
    let la = log(&disk, &CreateOptions::new());
    let lb = open(&disk);
    let a = la.writer_with(&shared()).unwrap();
    let b = lb.writer_with(&shared()).unwrap();
    a.append(&[1; 50], at(1)).unwrap();
    let x = a.append_as(&[2; 50], at(2), Durability::Process).unwrap();
    disk.fail_next(Op::Sync, EIO, Times::Once);
    assert!(b.append(&[3; 50], at(3)).is_err());
    let acked = a.wait_durable(x);
    let after = all(&open(&disk.power_cut()));
    assert!(acked.is_err() || after.contains(&Ok(2)), "acknowledged, and lost: {after:?}");
}

#[test]
fn a_callback_at_a_rotation_may_use_the_writer() {
    ends(|| {
        let disk = SimDisk::new(1);
        let l = log(&disk, &CreateOptions::new().segment_size(400).durability(Durability::Process));
        let w = Arc::new(l.writer().unwrap());
        let (me, (s, _r)) = (w.clone(), mpsc::channel());
        let id = w.append(&[1; 200], at(1)).unwrap();
        w.on_durable(id, move |_| {
            let _ = s.send(me.last_id().unwrap());
        });
        for n in 2..6 {
            w.append(&[n; 200], at(1)).unwrap();
        }
    });
}

#[test]
fn a_callback_of_a_sharer_may_append() {
    ends(|| {
        let disk = SimDisk::new(1);
        let la = log(&disk, &CreateOptions::new());
        let lb = open(&disk);
        let a = Arc::new(la.writer_with(&shared()).unwrap());
        let b = lb.writer_with(&shared()).unwrap();
        let id = a.append_as(&[1; 200], at(1), Durability::Process).unwrap();
        let me = a.clone();
        a.on_durable(id, move |_| {
            me.append(&[9; 10], at(1)).unwrap();
        });
        b.append(&[2; 20], at(2)).unwrap();
        a.append(&[3; 20], at(2)).unwrap();
    });
}

#[test]
fn a_quota_holds_sharers_back_too() {
    let disk = SimDisk::new(1);
    let quota = Retention { quota: Some(3000), ..Retention::default() };
    let la = log(&disk, &CreateOptions::new().segment_size(1000).retention(quota));
    la.add_subscriber(&sub("s"), Start::Begin).unwrap();
    let lb = open(&disk);
    let a = la.writer_with(&shared()).unwrap();
    let b = lb.writer_with(&shared()).unwrap();
    let mut refused = false;
    for n in 0..100 {
        let w = if n % 2 == 0 { &a } else { &b };
        if let Err(e) = w.append(&[n; 150], at(1)) {
            assert_eq!(e.kind(), ErrorKind::NoSpace);
            refused = true;
            break;
        }
    }
    assert!(refused, "the quota holds nobody back: {:?}", la.segments().unwrap().len());
}

#[test]
fn nothing_is_dropped_for_a_segment_that_another_has_made() {
    let disk = SimDisk::new(1);
    let quota = Retention { quota: Some(3400), when_full: WhenFull::DropOldest, ..Retention::default() };
    let la = log(&disk, &CreateOptions::new().segment_size(1000).retention(quota));
    la.add_subscriber(&sub("s"), Start::Begin).unwrap();
    let lb = open(&disk);
    let a = la.writer_with(&shared()).unwrap();
    let b = lb.writer_with(&shared()).unwrap();
    // A fills segment after segment; B goes on in the third
    let mut n = 0;
    while la.segments().unwrap().len() < 2 {
        a.append(&[n; 150], at(1)).unwrap();
        n += 1;
    }
    // fill the 2nd up to the limit by A
    for _ in 0..4 {
        a.append(&[n; 150], at(1)).unwrap();
        n += 1;
    }
    b.append(&[100; 150], at(1)).unwrap();
    assert_eq!(la.segments().unwrap().len(), 3, "set-up");
    a.append(&[101; 150], at(1)).unwrap();
    assert_eq!(la.segments().unwrap().len(), 3, "the oldest was dropped though no segment was needed");
}

#[test]
fn a_spare_segment_is_free_space() {
    ends(|| {
        let disk = SimDisk::new(1);
        let l = log(&disk, &CreateOptions::new().segment_size(10_000).retention(Retention::default()));
        l.add_subscriber(&sub("s"), Start::Begin).unwrap();
        let w = l.writer().unwrap();
        let mut n = 0u32;
        while l.segments().unwrap().len() < 2 {
            w.append(&[1; 900], at(n)).unwrap();
            n += 1;
        }
        // fill the second
        for _ in 0..9 {
            w.append(&[1; 900], at(n)).unwrap();
            n += 1;
        }
        let mut r = l.reader(&sub("s")).unwrap();
        while r.next_record().unwrap().is_some() {}
        // now there is room for less than a segment more, and one can be had from what all have read
        use jlog::io::Disk;
        let used = 100_000_000u64;
        disk.limit(Some(used));
        let free = disk.free_space(std::path::Path::new("/log")).unwrap();
        l.set_retention(Retention {
            min_free: Some(free - 5_000),
            when_full: WhenFull::Block,
            ..Retention::default()
        })
        .unwrap();
        r.commit().unwrap();
        for _ in 0..3 {
            w.append(&[1; 900], at(n)).unwrap();
            n += 1;
        }
    });
}

#[test]
fn a_closed_segment_is_never_written_to_again() {
    let disk = SimDisk::new(1);
    let l = log(&disk, &CreateOptions::new().segment_size(400).durability(Durability::Process));
    let reader_log = open(&disk);
    let mut c = reader_log.cursor().unwrap();
    let w = l.writer().unwrap();
    w.append(&[1; 200], at(1)).unwrap();
    w.append(&[2; 200], at(1)).unwrap();
    disk.fail_next(Op::Rename, ENOSPC, Times::Once);
    assert_eq!(w.append(&[3; 200], at(1)).unwrap_err().kind(), ErrorKind::NoSpace);
    let mut seen = vec![];
    while let Some(r) = c.next_record().unwrap() {
        seen.push(r.payload[0]);
    }
    w.close().unwrap();
    l.set_segment_size(1000).unwrap();
    let w = l.writer().unwrap();
    for n in 4..12 {
        w.append(&[n; 200], at(1)).unwrap();
    }
    while let Some(r) = c.next_record().unwrap() {
        seen.push(r.payload[0]);
    }
    assert_eq!(seen, [1, 2, 4, 5, 6, 7, 8, 9, 10, 11]);
}

#[test]
fn a_segment_that_is_recycled_under_a_slow_reader_is_dropped_and_not_damaged() {
    let disk = SimDisk::new(1);
    let quota = Retention { quota: Some(300_000), when_full: WhenFull::DropOldest, ..Retention::default() };
    let l = log(&disk, &CreateOptions::new().segment_size(100_000).retention(quota));
    l.add_subscriber(&sub("s"), Start::Begin).unwrap();
    let w = l.writer().unwrap();
    w.append(&[0; 50_000], at(1)).unwrap();
    w.append(&[1; 50_000], at(1)).unwrap();
    w.append(&[2; 50_000], at(1)).unwrap();
    let mut r = l.reader(&sub("s")).unwrap();
    assert_eq!(r.next_record().unwrap().unwrap().payload[0], 0);
    for n in 3..12 {
        w.append(&[n; 50_000], at(1)).unwrap();
    }
    let mut out = vec![];
    loop {
        match r.next_record() {
            Ok(Some(x)) => out.push(Ok(x.payload[0])),
            Ok(None) => break,
            Err(e) => {
                out.push(Err(e.gap_met().unwrap_or_else(|| panic!("{e}")).kind));
                r.skip_gap();
            }
        }
    }
    assert!(!out.contains(&Err(GapKind::Damage)), "{out:?}");
}

#[test]
fn a_write_that_ends_the_writer_is_told_to_who_waits_for_earlier_records() {
    let disk = SimDisk::new(1);
    let l = log(&disk, &CreateOptions::new());
    let w = l.writer().unwrap();
    let id = w.append_as(&[1; 50], at(1), Durability::Process).unwrap();
    let (s, r) = mpsc::channel();
    w.on_durable(id, move |o| s.send(o.is_ok()).unwrap());
    disk.fail_next(Op::Pwrite, EIO, Times::Once);
    assert!(w.append(&[2; 50], at(1)).is_err());
    assert!(w.wait_durable(id).is_err());
    assert!(w.sync().is_err());
    drop(w);
    assert_eq!(r.try_recv(), Ok(false));
}

#[test]
fn sharers_go_on_in_a_new_segment_where_the_header_is_damaged() {
    let disk = SimDisk::new(1);
    let l = log(&disk, &CreateOptions::new());
    let w = l.writer_with(&shared()).unwrap();
    w.append(&[1; 50], at(1)).unwrap();
    drop(w);
    let f = jlog::io::File::open(&disk, std::path::Path::new("/log/00000000"), jlog::io::Open::ReadWrite)
        .unwrap();
    f.pwrite(&[0xff; 8], 40).unwrap();
    l.writer_with(&shared()).unwrap().append(&[2; 50], at(1)).unwrap();
}

#[test]
fn a_callback_may_drop_the_last_handle_of_an_interval_writer() {
    ends(|| {
        let disk = SimDisk::new(1);
        let l = log(&disk, &CreateOptions::new().durability(Durability::Interval(Duration::from_millis(50))));
        let w = Arc::new(l.writer().unwrap());
        let id = w.append(&[1; 50], at(1)).unwrap();
        let (s, r) = mpsc::channel();
        let me = w.clone();
        w.on_durable(id, move |_| {
            std::thread::sleep(Duration::from_millis(100));
            let r = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(me)));
            s.send(r.is_ok()).unwrap();
        });
        drop(w);
        assert_eq!(r.recv_timeout(Duration::from_secs(60)), Ok(true));
    });
}

#[test]
fn a_checkpoint_on_what_is_not_on_the_disk_yet_is_no_damage() {
    let disk = SimDisk::new(1);
    let l = log(&disk, &CreateOptions::new());
    l.add_subscriber(&sub("s"), Start::Begin).unwrap();
    let w = l.writer().unwrap();
    w.append_as(&[1; 50], at(1), Durability::Process).unwrap();
    let mut r = l.reader(&sub("s")).unwrap();
    r.see_unsynced(true);
    r.next_record().unwrap().unwrap();
    r.commit().unwrap();
    let mut r = l.reader(&sub("s")).unwrap();
    assert!(r.next_record().unwrap().is_none());
}

#[test]
fn no_space_met_by_another_ends_nobody() {
    let disk = SimDisk::new(1);
    let la = log(&disk, &CreateOptions::new().segment_size(600));
    let lb = open(&disk);
    let a = la.writer_with(&shared()).unwrap();
    let b = lb.writer_with(&shared()).unwrap();
    let x = a.append_as(&[1; 500], at(1), Durability::Process).unwrap();
    disk.fail_next(Op::Rename, ENOSPC, Times::Sticky);
    assert_eq!(b.append(&[2; 50], at(1)).unwrap_err().kind(), ErrorKind::NoSpace);
    // What is written may be on the disk already; if not, it can wait.
    let _ = a.wait_durable(x);
    disk.heal();
    a.append(&[3; 50], at(1)).unwrap();
    a.wait_durable(x).unwrap();
    assert_eq!(all(&la), [Ok(1), Ok(3)]);
}

#[test]
fn another_logs_header_expires_nothing() {
    let disk = SimDisk::new(1);
    let policy = Retention { expire_after: Some(Duration::from_secs(1000)), ..Retention::default() };
    let l = log(&disk, &CreateOptions::new().segment_size(1000).retention(policy));
    l.add_subscriber(&sub("s"), Start::Begin).unwrap();
    let w = l.writer().unwrap();
    for n in 0..20 {
        w.append(&[1; 150], at(n)).unwrap();
    }
    w.close().unwrap();
    let other =
        Log::create_on(Arc::new(disk.clone()), "/other", &CreateOptions::new().segment_size(1000)).unwrap();
    let w = other.writer().unwrap();
    for n in 0..20 {
        w.append(&[1; 150], at(1_000_000 + n)).unwrap();
    }
    w.close().unwrap();
    use jlog::io::{File, Open};
    use std::path::Path;
    let last = l.segments().unwrap().last().unwrap().0;
    let name = format!("{last:08x}");
    let from = File::open(&disk, Path::new(&format!("/other/{name}")), Open::Read).unwrap();
    let mut bytes = [0; 128];
    from.pread(&mut bytes, 0).unwrap();
    let to = File::open(&disk, Path::new(&format!("/log/{name}")), Open::ReadWrite).unwrap();
    to.pwrite(&bytes, 0).unwrap();
    let l = open(&disk);
    l.clean().unwrap();
    assert_eq!(l.segments().unwrap()[0].0, 0, "unread segments are gone because of another log's times");
}

#[test]
fn who_goes_back_while_another_prunes_keeps_what_he_wants_or_is_told() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let disk = SimDisk::new(1);
    let l = log(&disk, &CreateOptions::new().segment_size(1000));
    l.add_subscriber(&sub("a"), Start::Begin).unwrap();
    l.add_subscriber(&sub("b"), Start::Begin).unwrap();
    let w = l.writer().unwrap();
    for n in 0..20 {
        w.append(&[1; 150], at(n)).unwrap();
    }
    let last = l.last_id().unwrap();
    l.set_checkpoint(&sub("a"), last).unwrap();
    // b goes on, and prunes; at the first removal a goes back
    let done = Arc::new(AtomicBool::new(false));
    let flag = done.clone();
    let other = Arc::new(open(&disk));
    let (go, wait) = mpsc::channel::<()>();
    let (s, r) = mpsc::channel();
    let o2 = other.clone();
    let t = std::thread::spawn(move || {
        wait.recv().unwrap();
        let out =
            o2.set_checkpoint(&sub("a"), jlog::RecordId::new(0, 1)).map(drop).map_err(|e| e.to_string());
        s.send(out).unwrap();
    });
    disk.observe(move |_, traced| {
        // after b's checkpoint was read, before anything is removed
        if format!("{traced:?}").contains(".idx")
            && format!("{traced:?}").contains("Remove")
            && !flag.swap(true, Ordering::SeqCst)
        {
            go.send(()).unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    l.set_checkpoint(&sub("b"), last).unwrap();
    disk.unobserve();
    drop(disk.clone());
    let out = r.recv_timeout(Duration::from_secs(60));
    if out.as_ref().is_ok_and(Result::is_err) {
        t.join().unwrap();
        return;
    }
    t.join().unwrap();
    assert!(
        l.checkpoint(&sub("a")).unwrap().segment >= l.segments().unwrap()[0],
        "what a subscriber wants is gone"
    );
}

// Classic logs: a burst of appends keeps the lock of the segment.

/// A writer that takes the lock for each append, and one that keeps it once it has appended twice, until it is told.
fn each() -> WriterOptions {
    shared().linger(Duration::ZERO)
}
fn lingering() -> WriterOptions {
    shared().linger(Duration::from_secs(3600))
}
fn classic(disk: &SimDisk, segment_size: u32) -> Log {
    log(disk, &CreateOptions::classic().segment_size(segment_size))
}
/// Whether anybody could append to this segment now.
fn is_free(disk: &SimDisk, segment: &str) -> bool {
    let file = File::open(disk, &Path::new("/log").join(segment), Open::ReadWrite).unwrap();
    file.try_lock().unwrap().is_some()
}
/// Appends until the lock is kept: the first append finds no thread that would give it back.
fn burst(w: &Writer, from: u8) -> u8 {
    for n in from..from + 3 {
        w.append(&[n; 10], at(1)).unwrap();
    }
    from + 3
}

#[test]
fn a_burst_keeps_the_lock_until_the_writer_flushes_syncs_or_goes() {
    let disk = SimDisk::new(1);
    let l = classic(&disk, 100_000);
    let w = l.writer_with(&lingering()).unwrap();
    w.append(&[0; 10], at(1)).unwrap();
    assert!(is_free(&disk, "00000000"), "after one append");
    let other = open(&disk).writer_with(&each()).unwrap();
    let mut n = burst(&w, 1);
    for release in [Writer::flush as fn(&Writer) -> jlog::Result<()>, Writer::sync] {
        assert!(!is_free(&disk, "00000000"), "the lock is not kept: nothing is tested here");
        release(&w).unwrap();
        assert!(is_free(&disk, "00000000"));
        other.append(&[n; 10], at(1)).unwrap();
        n = burst(&w, n + 1);
    }
    assert!(!is_free(&disk, "00000000"));
    w.close().unwrap();
    assert!(is_free(&disk, "00000000"));
    let w = l.writer_with(&lingering()).unwrap();
    n = burst(&w, n);
    assert!(!is_free(&disk, "00000000"));
    drop(w);
    assert!(is_free(&disk, "00000000"));
    assert_eq!(all(&l), (0..n).map(Ok).collect::<Vec<_>>());
}

#[test]
fn a_segment_that_is_finished_while_its_lock_is_kept_is_free_and_so_is_the_next() {
    let disk = SimDisk::new(1);
    let l = classic(&disk, 200);
    let other = open(&disk).writer_with(&each()).unwrap();
    let w = l.writer_with(&lingering()).unwrap();
    let mut kept = 0;
    for n in 0..40 {
        let before = l.active_segment().unwrap();
        kept += usize::from(!is_free(&disk, &before.to_string()));
        w.append(&[n; 10], at(1)).unwrap();
        if l.active_segment().unwrap() > before {
            assert!(is_free(&disk, &before.to_string()));
            assert!(is_free(&disk, &l.active_segment().unwrap().to_string()));
            other.append(&[100 + n; 10], at(1)).unwrap();
        }
    }
    assert!(kept > 20, "the lock was kept before {kept} appends");
    assert!(l.segments().unwrap().len() > 4);
    let seen = read_all(&l);
    assert_eq!(seen.records.len(), 40 + l.segments().unwrap().len() - 1);
    let of_one: Vec<_> = seen.records.iter().map(|r| r.payload[0]).filter(|n| *n < 100).collect();
    assert_eq!(of_one, (0..40).collect::<Vec<_>>());
    drop((w, other));
    assert!(inspect(&l).unwrap().problems().next().is_none());
}

#[test]
fn what_others_append_between_two_bursts_is_known_before_the_next_append() {
    let disk = SimDisk::new(1);
    let l = classic(&disk, 400);
    let other = open(&disk).writer_with(&each()).unwrap();
    let w = l.writer_with(&lingering()).unwrap();
    let mut ids = Vec::new();
    for n in 0..60 {
        ids.push(w.append(&[n; 10], at(1)).unwrap());
        if n % 7 == 6 {
            w.flush().unwrap();
            ids.push(other.append(&[n; 10], at(1)).unwrap());
        }
    }
    let there: Vec<_> = read_all(&l).records.iter().map(|record| record.id).collect();
    assert_eq!(ids, there, "the ids that appending returned");
}

#[test]
fn a_write_that_fails_gives_the_lock_back() {
    for (errno, goes_on) in [(EIO, false), (ENOSPC, true)] {
        let disk = SimDisk::new(1);
        let l = classic(&disk, 100_000);
        let w = l.writer_with(&lingering()).unwrap();
        burst(&w, 0);
        assert!(!is_free(&disk, "00000000"));
        disk.fail_next(Op::Pwrite, errno, Times::Once);
        assert!(w.append(&[9; 10], at(1)).is_err());
        assert!(is_free(&disk, "00000000"));
        open(&disk).writer_with(&each()).unwrap().append(&[3; 10], at(1)).unwrap();
        assert_eq!(w.append(&[4; 10], at(1)).is_ok(), goes_on);
    }
}

#[test]
fn a_thread_that_panics_in_a_batch_leaves_the_lock_to_others() {
    let disk = SimDisk::new(1);
    let l = classic(&disk, 100_000);
    let w = l.writer_with(&lingering()).unwrap();
    burst(&w, 0);
    let batch = std::iter::from_fn(|| -> Option<(&[u8], jlog::Timestamp)> { panic!("in the application") });
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| w.append_batch(batch))).is_err());
    assert!(!is_free(&disk, "00000000"));
    assert_eq!(w.append(&[9; 10], at(1)).unwrap_err().kind(), ErrorKind::Poisoned);
    assert!(is_free(&disk, "00000000"));
}

#[test]
fn writers_that_sync_each_append_or_own_the_log_never_keep_the_lock_of_a_burst() {
    for options in [lingering().durability(Durability::Sync), lingering().exclusive(true)] {
        let disk = SimDisk::new(1);
        let l = classic(&disk, 100_000);
        let w = l.writer_with(&options).unwrap();
        let before = disk.calls(Op::Lock);
        burst(&w, 0);
        assert_eq!(disk.calls(Op::Lock) - before, if w.is_exclusive() { 0 } else { 3 });
        if !w.is_exclusive() {
            for n in 3..6 {
                w.append_as(&[n; 10], at(1), Durability::Process).unwrap();
            }
            assert!(is_free(&disk, "00000000"));
        }
    }
    let disk = SimDisk::new(1);
    let l = classic(&disk, 100_000);
    let w = l.writer_with(&lingering()).unwrap();
    burst(&w, 0);
    w.append_as(&[1; 10], at(1), Durability::Sync).unwrap();
    assert!(is_free(&disk, "00000000"), "a record that is synced ends the burst");
}

#[test]
fn in_a_segment_whose_limit_was_raised_each_append_looks_whether_it_is_finished() {
    let disk = SimDisk::new(1);
    let l = classic(&disk, 1000);
    let w = l.writer_with(&lingering()).unwrap();
    let n = burst(&w, 0);
    // Meanwhile a process of libjlog's may have found the segment full, and be about to finish it.
    l.set_segment_size(2000).unwrap();
    w.flush().unwrap();
    let mut n = burst(&w, n);
    assert!(is_free(&disk, "00000000"));
    while l.active_segment().unwrap().0 == 0 {
        w.append(&[n; 200], at(1)).unwrap();
        n += 1;
    }
    assert_eq!(l.metastore().unwrap().unit_limit, 2000);
    burst(&w, n);
    assert!(!is_free(&disk, "00000001"), "in the next segment it is as ever");
    // A lower one is noticed when the lock is taken the next time.
    l.set_segment_size(10).unwrap();
    w.append(&[n + 3; 10], at(1)).unwrap();
    assert_eq!(l.active_segment().unwrap().0, 1);
    w.flush().unwrap();
    w.append(&[n + 4; 10], at(1)).unwrap();
    assert!(l.active_segment().unwrap().0 > 1);
}

#[test]
fn beside_a_lock_that_is_kept_the_log_can_be_looked_at_and_not_repaired() {
    let disk = SimDisk::new(1);
    let l = classic(&disk, 100_000);
    let w = l.writer_with(&lingering()).unwrap();
    burst(&w, 0);
    assert!(!is_free(&disk, "00000000"));
    assert_eq!(inspect(&l).unwrap().problems().next(), None);
    assert_eq!(all(&l), [Ok(0), Ok(1), Ok(2)]);

    let file = File::open(&disk, Path::new("/log/00000000"), Open::ReadWrite).unwrap();
    file.pwrite(&[0xff; 16], file.size().unwrap()).unwrap();
    let plan = repair::plan(&l, &inspect(&l).unwrap(), &repair::Options::default()).unwrap();
    assert!(!plan.is_empty());
    assert_eq!(repair::apply(&l, &plan, "now").unwrap_err().kind(), ErrorKind::Busy);
}

/// On the system's disk, with locks that are kept for long enough to be seen.
#[test]
fn a_writer_that_appends_no_more_leaves_the_lock_to_others() {
    let scratch = Scratch::new();
    let l = Log::create_with(scratch.path(), &CreateOptions::classic()).unwrap();
    let w = l.writer_with(&shared().linger(Duration::from_secs(2))).unwrap();
    let file = File::open(&jlog::io::OsDisk, &scratch.file("00000000"), Open::ReadWrite).unwrap();
    let mut n = 0;
    let mut records = 0;
    for _ in 0..2 {
        // On a busy machine some bursts are none.
        while file.try_lock().unwrap().is_some() {
            burst(&w, 0);
            records += 3;
            n += 1;
            assert!(n < 1000, "the lock is never kept");
        }
        let began = Instant::now();
        while file.try_lock().unwrap().is_none() {
            assert!(began.elapsed() < Duration::from_secs(60), "the lock is never given back");
            std::thread::yield_now();
        }
        scratch.open().writer().unwrap().append(b"another", at(1)).unwrap();
        records += 1;
    }
    assert_eq!(read_all(&l).records.len(), records);
}

// Classic logs: a pre_commit buffer that keeps nobody else from appending.

fn buffering() -> WriterOptions {
    shared().buffer(200)
}

#[test]
fn between_what_a_shared_buffer_gathers_others_append() {
    let disk = SimDisk::new(1);
    let l = classic(&disk, 100_000);
    let buffered = l.writer_with(&buffering()).unwrap();
    assert!(!buffered.is_exclusive());
    let other = open(&disk).writer_with(&each()).unwrap();
    for n in 0..20 {
        buffered.append(&[n; 30], at(1)).unwrap();
        other.append(&[100 + n; 30], at(1)).unwrap();
        assert!(is_free(&disk, "00000000"));
    }
    buffered.close().unwrap();
    // Records of 46 bytes: four fill the buffer, and are moved when the fifth comes.
    let expected: Vec<_> = (0..5)
        .flat_map(|round| {
            let direct = |from: u8, to: u8| (from..to).map(|n| Ok(100 + n));
            let before = direct(if round == 0 { 0 } else { 4 * round }, 4 * round + 4);
            before.chain((4 * round..4 * round + 4).map(Ok)).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(all(&l), expected);
    assert!(inspect(&l).unwrap().problems().next().is_none());
}

#[test]
fn the_id_of_a_record_in_a_shared_buffer_holds_if_nobody_else_appends() {
    let disk = SimDisk::new(1);
    let l = classic(&disk, 500);
    let other = open(&disk).writer_with(&each()).unwrap();
    other.append(&[9; 30], at(1)).unwrap();
    let w = l.writer_with(&buffering()).unwrap();
    let ids: Vec<_> = (0..30).map(|n| w.append(&[n; 30], at(1)).unwrap()).collect();
    w.flush().unwrap();
    let there: Vec<_> = read_all(&l).records.iter().skip(1).map(|record| record.id).collect();
    assert_eq!(ids, there);
    let promised = w.append(&[1; 30], at(1)).unwrap();
    let direct = other.append(&[2; 30], at(1)).unwrap();
    assert_eq!(promised, direct, "it was not there yet, and so another has its place");
    w.flush().unwrap();
    assert_eq!(read_all(&l).payloads().last().unwrap()[0], 1);
}

#[test]
fn a_segment_that_others_have_finished_meanwhile_gets_nothing_of_the_buffer() {
    let disk = SimDisk::new(1);
    let l = classic(&disk, 400);
    let w = l.writer_with(&buffering()).unwrap();
    let other = open(&disk).writer_with(&each()).unwrap();
    w.append(&[1; 30], at(1)).unwrap();
    while l.active_segment().unwrap().0 < 3 {
        other.append(&[2; 30], at(1)).unwrap();
    }
    w.flush().unwrap();
    let last = read_all(&l).records.pop().unwrap();
    assert_eq!((last.payload[0], last.id.segment.0), (1, 3));
    assert!(inspect(&l).unwrap().problems().next().is_none());
}

#[test]
fn a_shared_buffer_has_one_owner_and_is_taken_over_from_a_dead_one() {
    let disk = SimDisk::new(1);
    let l = classic(&disk, 100_000);
    let w = l.writer_with(&buffering()).unwrap();
    w.append(&[1; 30], at(1)).unwrap();
    w.append(&[2; 30], at(1)).unwrap();
    assert_eq!(open(&disk).writer_with(&buffering()).unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(
        open(&disk).writer_with(&WriterOptions::new().buffer(200)).unwrap_err().kind(),
        ErrorKind::Busy
    );
    let other = open(&disk).writer_with(&each()).unwrap();
    assert!(other.recovery().pre_commit_in_use);
    assert_eq!(other.recovery().flushed, 0);

    // The process dies: nothing that it does on the way out arrives.
    disk.fail_at(disk.operations(), EIO, Times::Sticky);
    drop(w);
    disk.heal();
    let next = open(&disk).writer_with(&buffering()).unwrap();
    assert_eq!(next.recovery().flushed, 2);
    next.append(&[3; 30], at(1)).unwrap();
    next.close().unwrap();
    other.append(&[4; 30], at(1)).unwrap();
    assert_eq!(all(&l), [Ok(1), Ok(2), Ok(3), Ok(4)]);
}
