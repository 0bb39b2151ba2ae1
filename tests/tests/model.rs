//! Random histories of a log, against a plain list of what it has to hold: see `jlog_tests::play`.
//!
//! `PROPTEST_CASES=100000 cargo test --release -p jlog-tests --test model` for more of them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use jlog::io::sim::{Profile, SimDisk, Times};
use jlog::{Durability, Format};
use jlog_tests::play::Play;
use nix::libc::{EDQUOT, EIO, ENOSPC};
use proptest::prelude::*;
use proptest::sample::select;

/// Something that is done to a log.
#[derive(Debug, Clone)]
enum Action {
    Append(usize, bool),
    Batch(Vec<usize>),
    Sync,
    Check,
    Commit(&'static str, usize),
    Subscribe(&'static str),
    SegmentSize(u32),
    Close,
    Die,
    PowerCut(Option<u64>),
    /// So many operations later, one fails.
    Fault(u64, i32),
}

fn anything() -> impl Strategy<Value = Action> {
    let len = prop_oneof![4 => 4..200usize, 1 => 200..1500usize];
    let name = select(&["a", "b"]);
    prop_oneof![
        8 => (len.clone(), any::<bool>()).prop_map(|(len, synced)| Action::Append(len, synced)),
        3 => prop::collection::vec(len, 1..5).prop_map(Action::Batch),
        1 => Just(Action::Sync),
        2 => Just(Action::Check),
        3 => (name.clone(), 1..20usize).prop_map(|(name, count)| Action::Commit(name, count)),
        2 => name.prop_map(Action::Subscribe),
        1 => (200..3000u32).prop_map(Action::SegmentSize),
        1 => Just(Action::Close),
        1 => Just(Action::Die),
    ]
}

/// What a disk does to a log.
fn trouble() -> impl Strategy<Value = Action> {
    prop_oneof![
        2 => any::<u64>().prop_map(|seed| Action::PowerCut(Some(seed))),
        1 => Just(Action::PowerCut(None)),
        2 => (0..30u64, select(&[EIO, ENOSPC, EDQUOT])).prop_map(|(after, errno)| Action::Fault(after, errno)),
    ]
}

fn take(play: &mut Play, action: &Action) {
    match action {
        Action::Append(len, synced) => {
            let durability = if *synced { Durability::Sync } else { Durability::Process };
            play.append(*len, durability);
        }
        Action::Batch(lens) => {
            play.batch(lens);
        }
        Action::Sync => {
            play.sync();
        }
        Action::Check => play.check(),
        Action::Commit(name, count) => play.commit(name, *count),
        Action::Subscribe(name) if play.has(name) => play.remove(name),
        Action::Subscribe(name) => play.add(name),
        Action::SegmentSize(bytes) => play.set_segment_size(*bytes),
        Action::Close => {
            play.close();
        }
        Action::Die => play.die(),
        Action::PowerCut(seed) => play.power_cut(*seed),
        Action::Fault(after, errno) => {
            play.disk.heal();
            play.fail_at(play.disk.operations() + after, *errno, Times::Once);
        }
    }
    // Nobody works with a writer that has failed.
    if play.has_failed() || !play.is_open() {
        assert!(play.open() || play.open(), "{:?}", play.errors);
    }
}

fn finish(play: &mut Play) {
    play.disk.heal();
    if play.has_failed() || !play.is_open() {
        assert!(play.open(), "{:?}", play.errors);
    }
    play.check();
    play.check_subscribers();
    assert!(play.append(100, Durability::Sync), "{:?}", play.errors);
    play.check();
}

fn cases() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig { cases: cases.unwrap_or(150), failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_checksummed_log_is_a_list_whatever_the_disk_does(
        actions in prop::collection::vec(prop_oneof![6 => anything().boxed(), 1 => trouble().boxed()], 1..60),
        durability in select(&[Durability::Sync, Durability::Process]),
        profile in select(&[Profile::Posix, Profile::Ext4Ordered, Profile::ZeroTail, Profile::GarbageTail]),
        seed in any::<u64>(),
    ) {
        let disk = SimDisk::new(seed);
        disk.keep_trace(false);
        disk.profile(profile);
        let mut play = Play::begin(disk, Format::Checksummed, durability, 1024);
        for action in &actions {
            take(&mut play, action);
        }
        finish(&mut play);
        play.power_cut(Some(seed));
        finish(&mut play);
    }

    #[test]
    fn a_classic_log_is_a_list_on_a_sound_disk(
        actions in prop::collection::vec(anything(), 1..60),
        durability in select(&[Durability::Sync, Durability::Process]),
    ) {
        let mut play = Play::begin(SimDisk::new(1), Format::Classic, durability, 1024);
        for action in &actions {
            take(&mut play, action);
        }
        prop_assert_eq!(&play.errors, &[]);
        finish(&mut play);
    }
}
