//! What goes and what stays, by policy: checksummed logs.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;
use std::time::Duration;

use jlog::io::sim::SimDisk;
use jlog::{
    CreateOptions, ErrorKind, Format, GapKind, Lag, Log, OnDamage, Retention, Start, Subscriber, WhenFull,
    inspect,
};
use jlog_tests::{Scratch, at};

const SEGMENT: u32 = 1000;

fn log_with(scratch: &Scratch, retention: Retention) -> Log {
    let options = CreateOptions::new().segment_size(SEGMENT).retention(retention);
    Log::create_with(scratch.path(), &options).unwrap()
}

fn subscriber(name: &str) -> Subscriber {
    Subscriber::new(name).unwrap()
}

fn append(log: &Log, from: u32, to: u32) -> jlog::Result<()> {
    let writer = log.writer()?;
    for n in from..to {
        writer.append(&[n as u8; 150], at(n))?;
    }
    writer.close()
}

/// What a subscriber reads, and the gaps it meets.
fn drain(log: &Log, name: &str) -> (Vec<u8>, Vec<GapKind>) {
    let mut reader = log.reader(&subscriber(name)).unwrap();
    reader.on_damage(OnDamage::Stop);
    let (mut read, mut gaps) = (Vec::new(), Vec::new());
    loop {
        match reader.next_record() {
            Ok(Some(record)) => read.push(record.payload[0]),
            Ok(None) => break,
            Err(error) => {
                gaps.push(error.gap_met().unwrap_or_else(|| panic!("{error}")).kind);
                reader.skip_gap();
            }
        }
    }
    reader.commit().unwrap();
    (read, gaps)
}

#[test]
fn without_a_policy_nothing_unread_goes_and_all_that_is_read_does() {
    let scratch = Scratch::new();
    let log = log_with(&scratch, Retention::default());
    append(&log, 0, 50).unwrap();
    assert_eq!(log.clean().unwrap(), [], "nobody subscribes");
    for name in ["a", "b"] {
        log.add_subscriber(&subscriber(name), Start::Begin).unwrap();
    }
    let before = log.segments().unwrap().len();
    assert_eq!(drain(&log, "a").0.len(), 50);
    assert_eq!(log.segments().unwrap().len(), before, "b has read nothing");
    assert_eq!(drain(&log, "b").0.len(), 50);
    assert_eq!(log.segments().unwrap().len(), 1);
}

#[test]
fn what_all_have_read_stays_as_long_as_the_policy_says() {
    for (retention, stays) in [
        (Retention { keep_bytes: Some(4000), ..Retention::default() }, 4..8),
        (Retention { keep_for: Some(Duration::from_secs(20)), ..Retention::default() }, 4..8),
        (Retention { keep_for: Some(Duration::from_secs(2000)), ..Retention::default() }, 9..12),
    ] {
        let scratch = Scratch::new();
        let log = log_with(&scratch, retention);
        log.add_subscriber(&subscriber("s"), Start::Begin).unwrap();
        append(&log, 0, 50).unwrap();
        drain(&log, "s");
        log.clean().unwrap();
        let left = log.segments().unwrap().len();
        assert!(stays.contains(&left), "{retention:?} left {left} segments");
    }
}

#[test]
fn a_quota_that_is_reached_is_an_error_and_appending_goes_on_when_subscribers_have() {
    let scratch = Scratch::new();
    let log = log_with(&scratch, Retention { quota: Some(4 * u64::from(SEGMENT)), ..Retention::default() });
    log.add_subscriber(&subscriber("s"), Start::Begin).unwrap();
    let writer = log.writer().unwrap();
    let mut n = 0;
    let error = loop {
        match writer.append(&[n; 150], at(0)) {
            Ok(_) => n += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    assert!(error.to_string().contains("quota"), "{error}");
    assert!(n > 5 && n < 30, "{n} records fitted");
    assert_eq!(drain(&log, "s").0, (0..n).collect::<Vec<_>>());
    writer.append(&[n; 150], at(0)).unwrap();
    assert_eq!(drain(&log, "s").0, [n]);
}

#[test]
fn a_quota_may_make_writers_wait_for_subscribers() {
    let scratch = Scratch::new();
    let quota = Some(4 * u64::from(SEGMENT));
    let log = log_with(&scratch, Retention { quota, when_full: WhenFull::Block, ..Retention::default() });
    log.add_subscriber(&subscriber("s"), Start::Begin).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| append(&log, 0, 100).unwrap());
        let mut read = Vec::new();
        while read.len() < 100 {
            read.extend(drain(&log, "s").0);
        }
        assert_eq!(read, (0..100).collect::<Vec<_>>());
    });
}

#[test]
fn a_quota_may_drop_the_oldest_and_whoever_missed_them_is_told() {
    let scratch = Scratch::new();
    let quota = Some(4 * u64::from(SEGMENT));
    let log =
        log_with(&scratch, Retention { quota, when_full: WhenFull::DropOldest, ..Retention::default() });
    log.add_subscriber(&subscriber("s"), Start::Begin).unwrap();
    append(&log, 0, 100).unwrap();
    assert!(log.segments().unwrap().len() <= 4);
    let seen = inspect::inspect(&log).unwrap();
    assert_eq!(seen.problems().collect::<Vec<_>>(), Vec::<&inspect::Finding>::new());

    let (read, gaps) = drain(&log, "s");
    assert_eq!(gaps, [GapKind::Dropped]);
    assert_eq!(*read.last().unwrap(), 99);
    assert!(read.len() < 30);
}

#[test]
fn a_subscriber_that_stays_away_too_long_keeps_nothing_and_is_told() {
    let scratch = Scratch::new();
    let expire_after = Some(Duration::from_secs(30));
    let log = log_with(&scratch, Retention { expire_after, ..Retention::default() });
    for name in ["dead", "alive"] {
        log.add_subscriber(&subscriber(name), Start::Begin).unwrap();
    }
    append(&log, 0, 20).unwrap();
    drain(&log, "alive");
    assert_eq!(log.clean().unwrap(), [], "it is not away for long enough yet");
    for n in (20..100).step_by(10) {
        append(&log, n, n + 10).unwrap();
        assert_eq!(drain(&log, "alive"), ((n as u8..n as u8 + 10).collect(), vec![]));
    }
    let (read, gaps) = drain(&log, "dead");
    assert_eq!(gaps, [GapKind::Dropped]);
    assert!(read.len() < 60 && *read.last().unwrap() == 99);
}

#[test]
fn a_clock_that_jumps_ahead_and_back_drops_nothing_that_is_unread_without_a_policy() {
    let scratch = Scratch::new();
    let log = log_with(&scratch, Retention::default());
    log.add_subscriber(&subscriber("s"), Start::Begin).unwrap();
    let writer = log.writer().unwrap();
    for n in 0..40u8 {
        writer.append(&[n; 150], at(if n == 20 { 2_000_000_000 } else { 5 })).unwrap();
    }
    log.clean().unwrap();
    assert_eq!(drain(&log, "s").0, (0..40).collect::<Vec<_>>());
}

#[test]
fn a_classic_log_has_no_place_for_a_policy() {
    let scratch = Scratch::new();
    let retention = Retention { quota: Some(1), ..Retention::default() };
    let options = CreateOptions::classic().retention(retention);
    assert_eq!(Log::create_with(scratch.path(), &options).unwrap_err().kind(), ErrorKind::Unsupported);
    let log = Log::create_with(scratch.path(), &CreateOptions::classic()).unwrap();
    assert_eq!(log.format(), Format::Classic);
    assert_eq!(log.set_retention(retention).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn settings_change_for_who_opens_the_log_next() {
    let scratch = Scratch::new();
    let log = log_with(&scratch, Retention::default());
    let retention = Retention { keep_bytes: Some(9), ..Retention::default() };
    log.set_retention(retention).unwrap();
    log.set_segment_size(4000).unwrap();
    let again = Log::open(scratch.path()).unwrap();
    assert_eq!(again.retention().unwrap(), retention);
    assert_eq!(again.metastore().unwrap().unit_limit, 4000);
}

#[test]
fn a_thousand_subscribers_each_get_everything_and_the_last_one_lets_go() {
    let disk = Arc::new(SimDisk::new(1));
    disk.keep_trace(false);
    let options = CreateOptions::new().segment_size(600);
    let log = Log::create_on(disk, "/log", &options).unwrap();
    let names: Vec<_> = (0..1000).map(|n| subscriber(&format!("subscriber {n}"))).collect();
    for name in &names {
        log.add_subscriber(name, Start::Begin).unwrap();
    }
    append(&log, 0, 6).unwrap();
    let segments = log.segments().unwrap().len();
    assert!(segments > 1);
    assert_eq!(inspect::inspect(&log).unwrap().subscribers.len(), 1000);

    for (n, name) in names.iter().enumerate() {
        if n % 100 == 0 {
            assert_eq!(log.lag(name).unwrap().records, 6);
        }
        let mut reader = log.reader(name).unwrap();
        for wanted in 0..6u8 {
            assert_eq!(reader.next_record().unwrap().unwrap().payload, [wanted; 150]);
        }
        let removed = reader.commit().unwrap();
        assert_eq!(removed.len(), if n == 999 { segments - 1 } else { 0 }, "after {} of 1000", n + 1);
        if n % 100 == 0 {
            assert_eq!(log.lag(name).unwrap(), Lag::default());
        }
    }
}

#[test]
fn damage_that_is_passed_over_may_be_kept_first() {
    let scratch = Scratch::new();
    let log = log_with(&scratch, Retention::default());
    append(&log, 0, 4).unwrap();
    let mut bytes = scratch.read("00000000");
    let at = bytes.windows(150).position(|window| window == [2; 150]).unwrap();
    bytes[at] = 77;
    scratch.write("00000000", &bytes);
    for _ in 0..2 {
        let mut cursor = log.cursor().unwrap();
        cursor.on_damage(OnDamage::Quarantine);
        let mut read = Vec::new();
        while let Some(record) = cursor.next_record().unwrap() {
            read.push(record.payload[0]);
        }
        assert_eq!((read, cursor.gaps()), (vec![0, 1, 3], 1));
    }
    let kept: Vec<_> = std::fs::read_dir(scratch.file(".repair/damaged")).unwrap().collect();
    assert_eq!(kept.len(), 1, "once, however often it is met");
    let kept = std::fs::read(kept[0].as_ref().unwrap().path()).unwrap();
    assert!(kept.windows(149).any(|window| window == [2; 149]));
}

#[test]
fn what_has_expired_goes_though_nobody_reads() {
    let scratch = Scratch::new();
    let expire_after = Some(Duration::from_secs(30));
    let log = log_with(&scratch, Retention { expire_after, ..Retention::default() });
    log.add_subscriber(&subscriber("dead"), Start::Begin).unwrap();
    append(&log, 0, 200).unwrap();
    let kept = log.segments().unwrap().len();
    assert!(kept < 12, "{kept} segments of 5 s each are kept");
}
