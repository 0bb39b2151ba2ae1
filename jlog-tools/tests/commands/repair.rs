//! `jlog-repair` on copies of golden logs: plan, deed, the way back, salvage.

use std::fs::File;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::*;
use serde_json::Value;

#[test]
fn repair_loses_no_intact_message_of_any_golden_log_and_can_be_taken_back() {
    for case in manifest() {
        let name = case["name"].as_str().unwrap();
        let scratch = Scratch::of(name);
        let log = &scratch.log;
        let before = files(log);
        let looked = run(INSPECT, &["check", log]).code;

        let repaired = run(REPAIR, &["-y", log]);
        let left = run(INSPECT, &["check", "--json", log]);
        let changed = files(log) != before;
        match (looked, left.code) {
            (0, _) => assert_eq!((repaired.code, changed), (0, false), "{name}: {}", repaired.out),
            (_, 0) => assert_eq!(repaired.code, 1, "{name}: {}", repaired.out),
            (_, _) => assert_eq!(repaired.code, 4, "{name}: {}", repaired.out),
        }
        let (records, _) = dumped(log);
        for expected in intact(&case) {
            assert!(records.contains(&expected), "{name}: {expected:?} is lost");
        }

        let mended = files(log);
        let again = run(REPAIR, &["-y", log]);
        assert_eq!(again.code, if left.code == 0 { 0 } else { 4 }, "{name}: {}", again.out);
        assert_eq!(files(log), mended, "{name}: a second repair found something to do");

        let undone = run(REPAIR, &["undo", log]);
        assert_eq!(undone.code, if changed { 0 } else { 8 }, "{name}: {}", undone.err);
        assert_eq!(files(log), before, "{name}: undo did not bring everything back");
    }
}

#[test]
fn without_a_terminal_or_a_yes_nothing_is_changed() {
    let scratch = Scratch::of("garbage-middle-closed");
    let before = snapshot(&scratch.log);
    for args in [&[][..], &["-n"], &["-p"], &["--json"], &["-n", "--json"]] {
        let mut args = args.to_vec();
        args.push(&scratch.log);
        let run = run(REPAIR, &args);
        assert_eq!(run.code, 4, "{args:?}: {}{}", run.out, run.err);
        assert_eq!(snapshot(&scratch.log), before, "{args:?}");
    }
    let plan = run(REPAIR, &[&scratch.log]);
    assert!(plan.out.contains("00000001 bytes 464..580"), "{}", plan.out);
    assert!(plan.err.contains("nothing was changed"), "{}", plan.err);
}

#[test]
fn a_sound_log_is_left_alone() {
    let scratch = Scratch::of("segments");
    let before = snapshot(&scratch.log);
    let run = run(REPAIR, &["-y", &scratch.log]);
    assert_eq!((run.code, run.lines().len()), (0, 1));
    assert_eq!(snapshot(&scratch.log), before);
}

#[test]
fn the_first_line_after_a_repair_says_what_became_of_it() {
    let scratch = Scratch::of("torn-then-append");
    let repaired = run(REPAIR, &["-y", "-q", &scratch.log]);
    assert_eq!(repaired.code, 1);
    let undo = format!("undo: jlog-repair undo {}", scratch.log);
    assert_eq!(repaired.lines(), [format!("repaired: 1 place, 0 left, 1 message lost, {undo}")]);
    let history = run(REPAIR, &["history", &scratch.log]);
    assert!(history.out.contains("00000003 bytes 232..292: damage: cut 60 B"), "{}", history.out);
}

#[test]
fn preening_cuts_a_torn_end_and_leaves_damage_for_a_decision() {
    let torn = Scratch::of("torn-payload-current");
    assert_eq!(run(REPAIR, &["-p", &torn.log]).code, 1);
    assert_eq!(run(INSPECT, &["check", &torn.log]).code, 0);
    let damaged = Scratch::of("garbage-middle-closed");
    let run = run(REPAIR, &["-p", &damaged.log]);
    assert_eq!(run.code, 4);
    assert!(run.out.contains("left as it is"), "{}", run.out);
}

#[test]
fn a_repair_can_be_restricted_to_parts_and_segments() {
    let scratch = Scratch::of("garbage-middle-closed");
    for args in
        [["-y", "--only", "indexes,metastore"], ["-y", "--segment", "00000002"], ["-y", "--holes", "leave"]]
    {
        let mut args = args.to_vec();
        args.push(&scratch.log);
        let run = run(REPAIR, &args);
        assert_eq!(run.code, 4, "{args:?}");
        assert!(run.out.contains("left as it is"), "{args:?}: {}", run.out);
    }
    assert_eq!(run(REPAIR, &["-y", "--only", "data", "--segment", "1", &scratch.log]).code, 1);
}

#[test]
fn a_lost_checkpoint_goes_where_it_is_told_to() {
    for (place, expected) in [("before", "00000003:00000000"), ("end", "00000003:00000003")] {
        let scratch = Scratch::of("cp-past-log");
        assert_eq!(run(REPAIR, &["-y", "--checkpoints", place, &scratch.log]).code, 1);
        let seen = run(INSPECT, &["subs", "--json", &scratch.log]).json();
        assert_eq!(seen["subscribers"][1]["checkpoint"], expected, "{place}");
    }
}

#[test]
fn without_copies_there_is_no_way_back() {
    let scratch = Scratch::of("torn-then-append");
    let repaired = run(REPAIR, &["-y", "--no-undo", &scratch.log]);
    assert_eq!(repaired.code, 1);
    assert!(repaired.out.contains("undo: not possible"), "{}", repaired.out);
    let undone = run(REPAIR, &["undo", &scratch.log]);
    assert_eq!(undone.code, 8);
    assert!(undone.err.contains("no repair to take back"), "{}", undone.err);
}

#[test]
fn a_repair_is_not_taken_back_over_what_was_written_since() {
    let scratch = Scratch::of("torn-payload-current");
    assert_eq!(run(REPAIR, &["-y", &scratch.log]).code, 1);
    assert_eq!(run_with(JLOG, &["write", &scratch.log], b"new\n").code, 0);
    let before = files(&scratch.log);
    let undone = run(REPAIR, &["undo", &scratch.log]);
    assert_eq!(undone.code, 8);
    assert!(undone.err.contains("changed since"), "{}", undone.err);
    assert_eq!(files(&scratch.log), before);
}

#[test]
fn a_log_that_somebody_writes_to_is_not_repaired() {
    let scratch = Scratch::of("garbage-middle-current");
    let held = File::options().write(true).open(format!("{}/00000003", scratch.log)).unwrap();
    for wait in [&[][..], &["--wait", "300ms"]] {
        let mut args = vec!["-y"];
        args.extend(wait);
        args.push(&scratch.log);
        let run = run(REPAIR, &args);
        assert_eq!(run.code, 8, "{}{}", run.out, run.err);
        assert!(run.err.contains("open"), "{}", run.err);
    }
    drop(held);
    assert_eq!(run(REPAIR, &["-y", "--wait", "5s", &scratch.log]).code, 1);
}

#[test]
fn of_several_logs_the_worst_counts_and_each_is_tried() {
    let (sound, torn) = (Scratch::of("few"), Scratch::of("torn-payload-current"));
    assert_eq!(run(REPAIR, &["-y", &sound.log, &torn.log]).code, 1);
    let torn = Scratch::of("torn-payload-current");
    let nowhere = torn.path("nowhere");
    assert_eq!(run(REPAIR, &["-y", &nowhere, &torn.log]).code, 8);
    assert_eq!(run(INSPECT, &["check", &torn.log]).code, 0, "the second was repaired all the same");
}

#[test]
fn the_json_of_a_repair_tells_plan_and_outcome() {
    let scratch = Scratch::of("torn-then-append");
    let plan = run(REPAIR, &["-n", "--json", &scratch.log]).json();
    assert_eq!((plan["schema"].as_str(), plan["applied"].as_bool()), (Some("jlog-repair/1"), Some(false)));
    assert_eq!(plan["plan"]["steps"][0]["lost_messages"], 1);
    assert_eq!(plan["problems"].as_array().unwrap().len(), 1);
    let done = run(REPAIR, &["-y", "--json", &scratch.log]);
    assert_eq!(done.code, 1);
    assert_eq!(done.json()["plan"], plan["plan"], "what is done is what was planned");
    assert!(done.json()["kept"].as_str().unwrap().contains("/.repair/"));
    assert!(done.json()["problems"].as_array().unwrap().is_empty());
    let past = run(REPAIR, &["history", "--json", &scratch.log]).json();
    assert_eq!(past["repairs"][0]["undone"], false);
}

#[test]
fn salvage_copies_every_intact_message_and_changes_nothing() {
    for case in manifest() {
        let name = case["name"].as_str().unwrap();
        let scratch = Scratch::empty();
        let before = snapshot(&golden(name));
        let run = run(REPAIR, &["salvage", &golden(name), &scratch.log]);
        assert_eq!(snapshot(&golden(name)), before, "{name}");
        assert!([0, 4].contains(&run.code), "{name}: {}", run.err);
        let (source, buffered) = dumped(&golden(name));
        let (copied, none) = dumped(&scratch.log);
        assert_eq!(copied, [source, buffered].concat(), "{name}");
        assert!(none.is_empty(), "{name}: nothing stays in a buffer");
        assert_eq!(run.code == 4, run.err.contains("gap: "), "{name}: {}", run.err);
    }
}

#[test]
fn salvaged_subscribers_are_as_far_behind_as_they_were() {
    for case in ["two-subs", "segments", "be-segments"] {
        let scratch = Scratch::empty();
        assert_eq!(run(REPAIR, &["salvage", &golden(case), &scratch.log]).code, 0);
        let behind = |log: &str| -> Vec<(Value, Value)> {
            let seen = run(INSPECT, &["--json", log]).json();
            let all = seen["subscribers"].as_array().unwrap().clone();
            all.iter().map(|s| (s["name"].clone(), s["behind_messages"].clone())).collect()
        };
        assert_eq!(behind(&scratch.log), behind(&golden(case)), "{case}");
    }
}

#[test]
fn salvage_never_writes_into_what_is_there() {
    let scratch = Scratch::of("few");
    let before = snapshot(&scratch.log);
    assert_eq!(run(REPAIR, &["salvage", &golden("segments"), &scratch.log]).code, 8);
    assert_eq!(snapshot(&scratch.log), before);
}

#[test]
fn wrong_usage_exits_with_16() {
    for args in [
        vec![],
        vec!["-n", "-y", "log"],
        vec!["-p", "-y", "log"],
        vec!["--only", "everything", "log"],
        vec!["--segment", "xyz", "log"],
        vec!["--holes", "keep-ids", "log"],
        vec!["--wait", "forever", "log"],
        vec!["undo"],
        vec!["salvage", "one"],
    ] {
        let run = run(REPAIR, &args);
        assert_eq!(run.code, 16, "{args:?}: {}", run.err);
    }
}

#[test]
fn what_is_no_log_exits_with_8() {
    let scratch = Scratch::empty();
    let nowhere = scratch.path("nowhere");
    for args in [vec!["-y", &nowhere], vec!["undo", &nowhere], vec!["history", &nowhere]] {
        assert_eq!(run(REPAIR, &args).code, 8, "{args:?}");
    }
    assert_eq!(run(REPAIR, &["salvage", &nowhere, &scratch.log]).code, 8);
    assert!(!std::path::Path::new(&scratch.log).exists(), "nothing was made");
}

#[test]
fn jlog_repair_is_the_same_program() {
    let scratch = Scratch::of("torn-then-append");
    let own = run(REPAIR, &["-n", &scratch.log]);
    let within = run(JLOG, &["repair", "-n", &scratch.log]);
    assert_eq!((own.code, own.out), (within.code, within.out));
    let status = Command::new(JLOG).args(["repair", "--help"]).output().unwrap().status;
    assert!(status.success());
}

/// Every file of a directory, and the user it belongs to.
pub(crate) fn owners(dir: &Path) -> Vec<(PathBuf, u32)> {
    let mut all = vec![(dir.to_owned(), std::fs::symlink_metadata(dir).unwrap().uid())];
    if dir.is_dir() {
        for entry in std::fs::read_dir(dir).unwrap() {
            all.extend(owners(&entry.unwrap().path()));
        }
    }
    all
}

/// Only root can tell: for everybody else the files are their own anyway.
#[test]
fn what_root_does_to_the_log_of_another_user_leaves_no_file_of_roots_behind() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: not root");
        return;
    }
    let scratch = Scratch::of("garbage-middle-closed");
    let dir = Path::new(&scratch.log);
    std::fs::set_permissions(scratch.dir(), std::fs::Permissions::from_mode(0o755)).unwrap();
    for (path, _) in owners(dir) {
        std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
    }
    assert_eq!(run(REPAIR, &["-y", &scratch.log]).code, 1);
    assert_eq!(run(REPAIR, &["undo", &scratch.log]).code, 0);
    assert_eq!(run(REPAIR, &["-y", &scratch.log]).code, 1);
    assert_eq!(run_with(JLOG, &["write", &scratch.log], &b"a long line\n".repeat(200)).code, 0);
    assert_eq!(run(JLOG, &["subs", &scratch.log, "add", "new"]).code, 0);
    assert_eq!(run(JLOG, &["read", &scratch.log, "-S", "new"]).code, 0);
    assert_eq!(run(JLOG, &["clean", &scratch.log]).code, 0);
    for (path, user) in owners(dir) {
        assert_eq!(user, 65534, "{} is root's now", path.display());
    }
}
