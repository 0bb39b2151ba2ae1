//! Writers that share a log or own it in turn, callbacks, policies and slow readers: what a close reading has found.
//!
//! Two handles of a log on one simulated disk play two processes: they share nothing but the files.

#![allow(clippy::unwrap_used, clippy::panic)]
use jlog::io::sim::{Op, SimDisk, Times};
use jlog::{
    CreateOptions, Durability, ErrorKind, GapKind, Log, Retention, Start, Subscriber, WhenFull, WriterOptions,
};
use jlog_tests::at;
use std::sync::{Arc, mpsc};
use std::time::Duration;

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
