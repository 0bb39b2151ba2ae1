//! What the fuzz targets are kept with, replayed: each input of `fuzz/corpus/` and of `fuzz/regressions/` goes through its
//! target's body. No libFuzzer, no nightly toolchain.
//!
//! `FUZZ_INPUT=target:path cargo test -p jlog-tests --test corpus one_input` replays one file.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use jlog_tests::fuzzing::seeds::{self, corpus, regressions};
use jlog_tests::fuzzing::{TARGETS, Target};

fn target(name: &str) -> Target {
    *TARGETS.iter().find(|(other, _)| *other == name).unwrap_or_else(|| panic!("no target is called {name}"))
}

/// The files of a directory, by name; none if it is not there.
fn inputs(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn replay(name: &str) {
    let (_, body) = target(name);
    let kept = [inputs(&corpus(name)), inputs(&regressions(name))].concat();
    assert!(kept.len() >= 3, "{name}: {} inputs are kept", kept.len());
    let mut failed = Vec::new();
    for path in &kept {
        let bytes = fs::read(path).unwrap();
        if catch_unwind(AssertUnwindSafe(|| body(&bytes))).is_err() {
            failed.push(path);
        }
    }
    assert!(failed.is_empty(), "{name}: of {} inputs these fail: {failed:#?}", kept.len());
}

macro_rules! replays {
    ($($name:ident)*) => {
        const REPLAYED: &[&str] = &[$(stringify!($name)),*];
        mod what_is_kept_holds_of {
            $(#[test] fn $name() { super::replay(stringify!($name)); })*
        }
    };
}

replays! {
    segment index checkpoint metastore pre_commit blocks inspect repair directory checked operations crash spool_records
    spool_recovery spool_history names mail_names c_calls
}

#[test]
fn every_target_is_built_replayed_and_has_a_corpus_and_nothing_else_is_kept() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let names: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names, REPLAYED.iter().map(|name| (*name).to_owned()).collect());
    let stem = |path: &PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    assert_eq!(names, inputs(&fuzz.join("fuzz_targets")).iter().map(stem).collect());
    assert_eq!(names, inputs(&fuzz.join("corpus")).iter().map(stem).collect());
    let with_regressions: BTreeSet<String> = inputs(&fuzz.join("regressions")).iter().map(stem).collect();
    assert!(with_regressions.is_subset(&names), "{with_regressions:?}");
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    for (name, _) in TARGETS {
        assert!(
            manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")),
            "{name} is not in Cargo.toml"
        );
    }
}

#[test]
fn what_is_kept_is_small() {
    let all =
        TARGETS.iter().flat_map(|(name, _)| [inputs(&corpus(name)), inputs(&regressions(name))].concat());
    let sizes: Vec<u64> = all.map(|path| fs::metadata(path).unwrap().len()).collect();
    let bytes: u64 = sizes.iter().sum();
    assert!(sizes.len() <= 350 && bytes < 1 << 20, "{} files, {bytes} bytes", sizes.len());
}

#[test]
fn the_seeds_are_those_that_the_golden_logs_make() {
    for (target, name, bytes) in seeds::all() {
        let kept = fs::read(corpus(target).join(&name));
        assert!(kept.ok() == Some(bytes), "{target}/{name}: cargo run -p jlog-tests --bin fuzz-seeds");
    }
}

#[test]
fn one_input() {
    let Ok(which) = std::env::var("FUZZ_INPUT") else { return };
    let (name, path) = which.split_once(':').expect("target:path");
    target(name).1(&fs::read(path).unwrap());
}
