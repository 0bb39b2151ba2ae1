//! `jlog-inspect` and `jlog-repair` on checksummed logs, damaged in every way there is.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::common::*;

/// A log of 40 messages, each with a commit of its own: nine in each of four sealed segments, and four in the active
/// one. Of its two subscribers, one has read nothing, and one all.
fn log() -> Scratch {
    let scratch = Scratch::with(&[]);
    let lines: String = (0..40).map(line).collect();
    assert_eq!(
        run_with(JLOG, &["write", "--jsonl", "--sync", "each", &scratch.log], lines.as_bytes()).code,
        0
    );
    assert_eq!(run(JLOG, &["subs", &scratch.log, "add", "done", "--at", "end"]).code, 0);
    scratch
}

fn line(n: usize) -> String {
    let data = format!("message {n} {}", "x".repeat(400));
    let time = format!("2026-11-22T10:{n:02}:00Z");
    format!("{}\n", json!({ "data": data, "time": time }))
}

fn file(log: &str, name: &str) -> String {
    format!("{log}/{name}")
}

fn change(log: &str, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let path = file(log, name);
    let mut bytes = fs::read(&path).unwrap();
    change(&mut bytes);
    fs::write(&path, bytes).unwrap();
}

/// Where a message lies in its segment's file.
fn place(log: &str, id: &str) -> (usize, usize) {
    let shown = run(INSPECT, &["show", "--json", id, log]).json();
    (shown["from"].as_u64().unwrap() as usize, shown["to"].as_u64().unwrap() as usize)
}

/// The messages by id.
fn messages(log: &str) -> BTreeMap<String, (String, String)> {
    let dump = run(INSPECT, &["dump", "--format", "jsonl", log]);
    let text = |line: &Value, member: &str| line[member].as_str().unwrap().to_owned();
    let lines = dump.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|line| (text(&line, "id"), (text(&line, "time"), text(&line, "data")))).collect()
}

fn bytes_in_use(log: &str, segment: usize) -> usize {
    let seen = run(INSPECT, &["--json", log]).json();
    seen["segments"][segment]["bytes"].as_u64().unwrap() as usize
}

/// A way to damage a log; what is found; and how many messages it costs.
type Case = (&'static str, fn(&str), &'static str, u64);

/// The middle of the message, away from its header and from what fills it up.
fn flip_in_message(log: &str, id: &str) {
    let (from, to) = place(log, id);
    change(log, &id[..8], |bytes| bytes[(from + to) / 2] ^= 0x10);
}

const CASES: [Case; 13] = [
    ("a bit of a message", |log| flip_in_message(log, "00000001:00000003"), "damage", 1),
    (
        "a bit of a message in the active segment",
        |log| flip_in_message(log, "00000004:00000002"),
        "damage",
        1,
    ),
    (
        "a bit of a record's header",
        |log| {
            let (from, _) = place(log, "00000002:00000004");
            change(log, "00000002", |bytes| bytes[from] ^= 1);
        },
        "damage",
        1,
    ),
    (
        "a stretch over several messages",
        |log| {
            let (from, _) = place(log, "00000001:00000002");
            let (_, to) = place(log, "00000001:00000004");
            change(log, "00000001", |bytes| bytes[from..to].fill(0xa5));
        },
        "damage",
        3,
    ),
    ("the header of a segment", |log| change(log, "00000002", |bytes| bytes[..64].fill(0)), "damage", 0),
    ("a segment that is gone", |log| fs::remove_file(file(log, "00000002")).unwrap(), "missing", 9),
    (
        "a segment in the place of another",
        |log| {
            fs::copy(file(log, "00000001"), file(log, "00000002")).unwrap();
        },
        "damage",
        9,
    ),
    (
        "half a write at the end",
        |log| {
            let end = bytes_in_use(log, 4);
            change(log, "00000004", |bytes| bytes[end..end + 100].fill(0x5a));
        },
        "torn",
        0,
    ),
    ("an index", |log| change(log, "00000001.idx", |bytes| bytes[20] ^= 1), "leftover", 0),
    ("a checkpoint", |log| change(log, "cp.73", |bytes| bytes.fill(0xff)), "checkpoint", 0),
    ("one slot of the metastore", |log| change(log, "metastore", |bytes| bytes[10] ^= 1), "leftover", 0),
    ("the metastore", |log| fs::write(file(log, "metastore"), b"nonsense").unwrap(), "metastore", 0),
    ("a metastore that is gone", |log| fs::remove_file(file(log, "metastore")).unwrap(), "metastore", 0),
];

#[test]
fn every_damage_is_named_mended_once_and_can_be_taken_back() {
    for (what, damage, kind, lost) in CASES {
        let scratch = log();
        let log = &scratch.log;
        let sound = messages(log);
        damage(log);
        let damaged = files(log);

        let found = run(INSPECT, &["check", "--json", log]);
        // What a crash may leave of a cache, or of one slot of two, is told of and no problem.
        let leftover = kind == "leftover";
        assert_eq!(found.code, if leftover { 0 } else { 4 }, "{what}: {}", found.out);
        let problems = found.json()[if leftover { "notes" } else { "problems" }].clone();
        assert!(problems.as_array().unwrap().iter().any(|p| p["kind"] == kind), "{what}: {problems}");
        let readable = messages(log);
        assert_eq!(readable.len() as u64, 40 - lost, "{what}: {problems}");
        assert!(readable.iter().all(|(id, message)| sound.get(id) == Some(message)), "{what}: ids moved");
        assert_eq!(files(log), damaged, "{what}: looking changed something");

        let plan = run(REPAIR, &["-n", "--json", log]).json();
        assert_eq!(plan["lost_messages"], lost, "{what}: {plan}");
        assert_eq!(plan["lost_is_certain"], true, "{what}: {plan}");
        let repaired = run(REPAIR, &["-y", log]);
        assert_eq!(repaired.code, 1, "{what}: {}{}", repaired.out, repaired.err);
        let after = run(INSPECT, &["check", "--json", log]);
        assert_eq!(after.code, 0, "{what}: {}", after.out);
        assert_eq!(messages(log), readable, "{what}: the repair changed a message or an id");
        let mended = files(log);
        let again = run(REPAIR, &["-y", log]);
        assert_eq!(again.code, 0, "{what}: a second repair found something to do: {}", again.out);
        assert_eq!(files(log), mended, "{what}");

        let undone = run(REPAIR, &["undo", log]);
        assert_eq!(undone.code, 0, "{what}: {}", undone.err);
        let back = files(log);
        for (name, bytes) in &damaged {
            assert!(back.get(name) == Some(bytes), "{what}: undo did not bring {name} back");
        }
        assert_eq!(back.len(), damaged.len(), "{what}: {:?}", back.keys());

        // And once repaired, it is a log as any other.
        assert_eq!(run(REPAIR, &["-y", "-q", log]).code, 1, "{what}");
        assert_eq!(run_with(JLOG, &["write", log], b"later\n").code, 0, "{what}");
        let read = run(JLOG, &["read", log, "-S", "s"]);
        assert_eq!((read.code, read.lines().len() as u64), (0, 41 - lost), "{what}: {}", read.err);
        assert_eq!(read.err.contains("lost"), lost > 0, "{what}: {}", read.err);
    }
}

#[test]
fn a_reader_stops_at_damage_and_is_told_of_what_a_repair_has_noted() {
    let scratch = log();
    let log = &scratch.log;
    flip_in_message(log, "00000001:00000003");
    let stopped = run(JLOG, &["read", log, "-S", "s", "--no-commit"]);
    assert_eq!((stopped.code, stopped.lines().len()), (4, 11), "{}", stopped.err);
    let passed = run(JLOG, &["read", log, "-S", "s", "--no-commit", "--skip-damage"]);
    assert_eq!((passed.code, passed.lines().len()), (4, 39), "{}", passed.err);
    assert_eq!(run(INSPECT, &["dump", log]).code, 4);
    assert_eq!(run(INSPECT, &["show", "1:3", log]).code, 4);

    assert_eq!(run(REPAIR, &["-y", "-q", log]).code, 1);
    let read = run(JLOG, &["read", log, "-S", "s", "--no-commit"]);
    assert_eq!((read.code, read.lines().len()), (0, 39), "{}", read.err);
    assert!(
        read.err.contains("mended by a repair") && read.err.contains("1 message is lost"),
        "{}",
        read.err
    );
    let dump = run(INSPECT, &["dump", log]);
    assert_eq!((dump.code, dump.lines().len()), (0, 39));
    assert!(dump.err.contains("gap: "), "{}", dump.err);
    assert_eq!(run(INSPECT, &["show", "1:3", log]).code, 4, "it is lost all the same");
    let check = run(INSPECT, &["check", log]);
    assert!(check.out.starts_with("REPAIRED 00000001 bytes "), "{}", check.out);
    assert!(check.out.ends_with("nothing is wrong\n"), "{}", check.out);
    let json = run(INSPECT, &["--json", log]).json();
    assert_eq!(
        (json["status"].as_str(), json["notes"][0]["kind"].as_str()),
        (Some("sound"), Some("repaired"))
    );
    assert_eq!(json["notes"][0]["lost_messages"], 1);
    let map = run(INSPECT, &["map", "--ascii", log]).out;
    assert!(map.lines().nth(2).unwrap().contains("#NN") && map.contains("N lost"), "{map}");
}

#[test]
fn each_lost_message_is_named_also_where_several_are_lost_beside_each_other() {
    let scratch = log();
    let log = &scratch.log;
    for id in ["00000001:00000003", "00000001:00000004", "00000001:00000006", "00000002:00000001"] {
        flip_in_message(log, id);
    }
    let (from, _) = place(log, "00000003:00000002");
    let (_, to) = place(log, "00000003:00000005");
    change(log, "00000003", |bytes| bytes[from..to].fill(0xa5));
    let named = |log: &str| -> Vec<String> {
        let check = run(INSPECT, &["check", log]);
        check
            .out
            .lines()
            .filter_map(|line| line.split_once(" lost: "))
            .map(|(_, ids)| ids.to_owned())
            .collect()
    };
    let ids = [
        "00000001:00000003",
        "00000001:00000004",
        "00000001:00000006",
        "00000002:00000001",
        "00000003:00000002",
        "00000003:00000003 to 00000003:00000005",
    ];
    assert_eq!(named(log), ids);
    assert_eq!(run(REPAIR, &["-y", "-q", log]).code, 1);
    assert_eq!(named(log), ids, "as the notes say");
}

#[test]
fn a_control_file_that_cannot_be_read_is_no_problem() {
    let scratch = log();
    fs::write(file(&scratch.log, "control"), b"nonsense").unwrap();
    let check = run(INSPECT, &["check", &scratch.log]);
    assert_eq!(check.code, 0, "{}", check.out);
    assert!(check.out.starts_with("CONTROL control: "), "{}", check.out);
    assert_eq!(run(REPAIR, &["-y", &scratch.log]).code, 0);
    assert_eq!(run_with(JLOG, &["write", &scratch.log], b"more\n").code, 0);
    assert_eq!(run(INSPECT, &["check", &scratch.log]).lines().len(), 1, "the writer made it anew");
}

#[test]
fn preening_mends_what_loses_nothing_and_leaves_the_rest() {
    let scratch = log();
    let log = &scratch.log;
    change(log, "00000001.idx", |bytes| bytes[20] ^= 1);
    change(log, "metastore", |bytes| bytes[10] ^= 1);
    assert_eq!(run(REPAIR, &["-p", log]).code, 1);
    assert_eq!(run(INSPECT, &["check", log]).code, 0);
    flip_in_message(log, "00000001:00000003");
    let before = files(log);
    assert_eq!(run(REPAIR, &["-p", log]).code, 4);
    assert_eq!(run(REPAIR, &["-y", "--holes", "leave", log]).code, 4);
    assert_eq!(files(log), before);
}

#[test]
fn a_log_that_somebody_owns_is_not_repaired() {
    let scratch = log();
    flip_in_message(&scratch.log, "00000001:00000003");
    let writer = jlog::Log::open(&scratch.log).unwrap().writer().unwrap();
    let before = files(&scratch.log);
    let refused = run(REPAIR, &["-y", &scratch.log]);
    assert_eq!(refused.code, 8, "{}{}", refused.out, refused.err);
    assert_eq!(files(&scratch.log), before);
    writer.close().unwrap();
    assert_eq!(run(REPAIR, &["-y", "--wait", "5s", &scratch.log]).code, 1);
}

#[test]
fn one_segment_file_by_itself_is_looked_at() {
    let scratch = log();
    let elsewhere = scratch.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let alone = file(&elsewhere, "00000001");
    fs::copy(file(&scratch.log, "00000001"), &alone).unwrap();
    let seen = run(INSPECT, &["check", "--json", &alone]);
    assert_eq!(seen.code, 0, "{}", seen.out);
    let seen = seen.json();
    assert_eq!((seen["format"].as_str(), seen["lone_segment"].as_bool()), (Some("checksummed"), Some(true)));
    assert_eq!(seen["messages"], 9);
    assert!(seen["segment_size"].is_null() && seen["owner"].is_null(), "{seen}");
    assert_eq!(run(INSPECT, &["dump", &alone]).lines().len(), 9);
    for command in ["summary", "segments", "map"] {
        assert_eq!(run(INSPECT, &[command, &alone]).code, 0, "{command}");
    }
    assert_eq!(run(INSPECT, &["meta", &alone]).code, 8);
    change(&elsewhere, "00000001", |bytes| bytes[700] ^= 1);
    let damaged = run(INSPECT, &["check", "--json", &alone]);
    assert_eq!((damaged.code, damaged.json()["messages"].as_u64()), (4, Some(8)));
    let saved = scratch.path("saved");
    assert_eq!(run(REPAIR, &["salvage", &alone, &saved]).code, 4);
    assert_eq!(messages(&saved).len(), 8);
}

#[test]
fn looking_changes_nothing_also_beside_a_writer() {
    let scratch = log();
    let writer = jlog::Log::open(&scratch.log).unwrap().writer().unwrap();
    writer.append(b"live", jlog::Timestamp::new(7, 0)).unwrap();
    let before = snapshot(&scratch.log);
    for command in [
        &["summary"][..],
        &["segments"],
        &["subs"],
        &["dump", "--unsynced"],
        &["check"],
        &["map"],
        &["meta"],
        &["metrics"],
        &["show", "1:1"],
        &["--json"],
    ] {
        let mut args = command.to_vec();
        args.push(&scratch.log);
        let run = run(INSPECT, &args);
        assert_eq!(run.code, 0, "{args:?}: {}{}", run.out, run.err);
        assert_eq!(snapshot(&scratch.log), before, "{args:?}");
    }
    drop(writer);
}

#[test]
fn each_field_of_the_metastore_is_for_the_format_that_has_it() {
    let (checked, classic) = (log(), Scratch::classic(&[]));
    let field = |log: &Scratch, field: &str| run(INSPECT, &["meta", "--field", field, &log.log]);
    for (name, of_checked, of_classic) in [
        ("format", 0, 0),
        ("identity", 0, 8),
        ("storage_log", 0, 0),
        ("unit_limit", 0, 0),
        ("safety", 8, 0),
        ("durability", 0, 8),
        ("hdr_magic", 8, 0),
        ("compression", 0, 0),
        ("quota", 0, 8),
        ("durable", 0, 8),
        ("owner", 0, 8),
    ] {
        assert_eq!(field(&checked, name).code, of_checked, "{name}");
        assert_eq!(field(&classic, name).code, of_classic, "{name}");
    }
    assert_eq!(field(&checked, "durable").out, "00000004:00000004\n");
    let json = run(INSPECT, &["meta", "--json", &checked.log]).json();
    assert_eq!((json["durability"].as_str(), json["unit_limit"].as_u64()), (Some("sync"), Some(4096)));
    assert_eq!(json["identity"], run(INSPECT, &["--json", &checked.log]).json()["identity"]);
}

#[test]
fn segments_tell_what_is_in_use_of_their_files() {
    let scratch = log();
    let seen = run(INSPECT, &["segments", "--json", &scratch.log]).json();
    let last = &seen["segments"][4];
    assert!(last["bytes"].as_u64() < last["file_bytes"].as_u64(), "{last}");
    assert!(run(INSPECT, &["segments", &scratch.log]).lines()[0].contains("file"));
    assert!(!run(INSPECT, &["segments", &golden("few")]).lines()[0].contains("file"));
}

#[test]
fn salvage_makes_a_log_like_the_old_one_and_keeps_times_and_subscribers() {
    let scratch = Scratch::empty();
    let log = &scratch.log;
    let options = "--segment-size 8k --durability group:2ms --compress lz4 --quota 1MiB --when-full block \
                   --subscriber s";
    let made: Vec<_> = ["create", log].into_iter().chain(options.split_whitespace()).collect();
    assert_eq!(run(JLOG, &made).code, 0);
    let lines: String = (0..40).map(line).collect();
    assert_eq!(run_with(JLOG, &["write", "--jsonl", log], lines.as_bytes()).code, 0);
    assert_eq!(run(JLOG, &["read", log, "-S", "s", "-n", "13"]).code, 0);
    let before = snapshot(log);

    let values = |log: &str| messages(log).into_values().collect::<Vec<_>>();
    for (format, name) in
        [(None, "checksummed"), (Some("classic"), "classic"), (Some("checksummed"), "checksummed")]
    {
        let to = scratch.path(&format!("{name}-{}", format.is_some()));
        let mut args = vec!["salvage", log, &to];
        args.extend(format.iter().flat_map(|format| ["--format", format]));
        let run = run(REPAIR, &args);
        assert_eq!(run.code, 0, "{}", run.err);
        assert_eq!(values(&to), values(log), "{name}");
        let (old, new) = (
            crate::common::run(INSPECT, &["--json", log]).json(),
            crate::common::run(INSPECT, &["check", "--json", &to]).json(),
        );
        assert_eq!(new["format"], name);
        assert!(new["problems"].as_array().unwrap().is_empty(), "{new}");
        assert_eq!(new["subscribers"][0]["behind_messages"], 27);
        for member in ["segment_size", "compression"] {
            assert_eq!(new[member], old[member], "{member}");
        }
        if name == "checksummed" {
            assert_eq!(new["durability"], "group 2ms");
            assert_eq!(new["retention"], old["retention"]);
            assert_ne!(new["identity"], old["identity"], "it is another log");
        } else {
            assert_eq!(new["safety"], "safe");
        }
    }
    assert_eq!(snapshot(log), before, "the source is only read");
}

#[test]
fn salvage_converts_every_golden_log() {
    for case in manifest() {
        let name = case["name"].as_str().unwrap();
        let scratch = Scratch::empty();
        let run = run(REPAIR, &["salvage", "--format", "checksummed", &golden(name), &scratch.log]);
        assert!([0, 4].contains(&run.code), "{name}: {}", run.err);
        let (source, buffered) = dumped(&golden(name));
        assert_eq!(dumped(&scratch.log).0, [source, buffered].concat(), "{name}");
        let seen = crate::common::run(INSPECT, &["check", "--json", &scratch.log]);
        assert_eq!(
            (seen.code, seen.json()["format"].as_str()),
            (0, Some("checksummed")),
            "{name}: {}",
            seen.out
        );
    }
}

#[test]
fn salvage_passes_what_a_repair_has_noted_and_does_not_call_it_a_problem() {
    let scratch = log();
    flip_in_message(&scratch.log, "00000001:00000003");
    assert_eq!(run(REPAIR, &["salvage", &scratch.log, &scratch.path("one")]).code, 4);
    assert_eq!(run(REPAIR, &["-y", "-q", &scratch.log]).code, 1);
    let saved = run(REPAIR, &["salvage", &scratch.log, &scratch.path("two")]);
    assert_eq!(saved.code, 0, "{}", saved.err);
    assert!(saved.out.contains("39 messages") && saved.out.contains("1 gap"), "{}", saved.out);
}

#[test]
fn metrics_are_prometheus_text_and_a_file_is_replaced_whole() {
    let scratch = log();
    let text = run(INSPECT, &["metrics", &scratch.log]);
    assert_eq!(text.code, 0);
    let log = &scratch.log;
    for line in [
        format!("jlog_messages{{log=\"{log}\"}} 40"),
        format!("jlog_segments{{log=\"{log}\"}} 5"),
        format!("jlog_sound{{log=\"{log}\"}} 1"),
        format!("jlog_problems{{log=\"{log}\",kind=\"damage\"}} 0"),
        format!("jlog_subscriber_behind_messages{{log=\"{log}\",subscriber=\"s\"}} 40"),
        format!("jlog_subscriber_behind_messages{{log=\"{log}\",subscriber=\"done\"}} 0"),
        "# TYPE jlog_subscriber_behind_seconds gauge".to_owned(),
    ] {
        assert!(text.lines().contains(&line.as_str()), "{line} is not in {}", text.out);
    }
    assert_eq!(run(JLOG, &["metrics", log]).out, text.out);
    let target = scratch.path("jlog.prom");
    fs::write(&target, "old").unwrap();
    assert_eq!(run(INSPECT, &["metrics", log, "--textfile", &target]).out, "");
    assert_eq!(fs::read_to_string(&target).unwrap(), text.out);
    let left: Vec<_> = fs::read_dir(scratch.dir()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
    assert_eq!(run(INSPECT, &["metrics", log, "--textfile", "/nowhere/at/all"]).code, 8);

    flip_in_message(log, "00000001:00000003");
    let text = run(INSPECT, &["metrics", log]);
    assert_eq!(text.code, 4);
    assert!(text.out.contains(",kind=\"damage\"} 1\n"), "{}", text.out);
}

#[test]
fn any_bytes_in_any_file_end_in_a_finding_or_an_error() {
    let pristine = log();
    for name in ["00000000", "00000001", "00000004", "00000001.idx", "metastore", "cp.73", "control"] {
        for len in [0, 1, 63, 64, 127, 128, 511, 512, 1024, 4096] {
            for byte in [0u8, 0x5a, 0xff] {
                let scratch = Scratch::empty();
                copy(Path::new(&pristine.log), Path::new(&scratch.log));
                fs::write(file(&scratch.log, name), vec![byte; len]).unwrap();
                for command in ["check", "dump", "map", "meta"] {
                    let run = run(INSPECT, &[command, &scratch.log]);
                    let what = format!("{command} with {len} bytes {byte:02x} in {name}");
                    assert!([0, 4, 8].contains(&run.code), "{what} ended with {}: {}", run.code, run.err);
                    assert!(!run.err.contains("panicked"), "{what}: {}", run.err);
                }
            }
        }
    }
}
