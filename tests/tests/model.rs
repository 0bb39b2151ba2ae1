//! Random histories of a log, against a plain list of what it has to hold: see `jlog_tests::play`.
//!
//! `PROPTEST_CASES=100000 cargo test --release -p jlog-tests --test model` for more of them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use jlog::io::sim::{Profile, SimDisk};
use jlog::{Durability, Format};
use jlog_tests::play::{Play, anything, trouble};
use proptest::prelude::*;
use proptest::sample::select;

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
