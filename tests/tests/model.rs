//! Random histories of a log, against a plain list of what it has to hold: see `jlog_tests::play`.
//!
//! `PROPTEST_CASES=100000 cargo test --release -p jlog-tests --test model` for more of them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use jlog::io::sim::{Profile, SimDisk};
use jlog::{Durability, Format};
use jlog_tests::play::{Action, Play};
use nix::libc::{EDQUOT, EIO, ENOSPC};
use proptest::prelude::*;
use proptest::sample::select;

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
            play.take(action);
        }
        play.finish();
        play.power_cut(Some(seed));
        play.finish();
    }

    #[test]
    fn a_classic_log_is_a_list_on_a_sound_disk(
        actions in prop::collection::vec(anything(), 1..60),
        durability in select(&[Durability::Sync, Durability::Process]),
    ) {
        let mut play = Play::begin(SimDisk::new(1), Format::Classic, durability, 1024);
        for action in &actions {
            play.take(action);
        }
        prop_assert_eq!(&play.errors, &[]);
        play.finish();
    }
}
