//! `jlog`: create, write, read, subscribers, clean, demo.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};

use crate::common::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

#[test]
fn what_is_written_is_read_once_by_each_subscriber() {
    let scratch = Scratch::with(&["one", "two", "three"]);
    let log = &scratch.log;
    assert_eq!(run(JLOG, &["subs", log, "add", "t"]).code, 0);
    assert_eq!(run(JLOG, &["read", log, "-S", "s", "-n", "2"]).out, "one\ntwo\n");
    assert_eq!(run(JLOG, &["read", log, "-S", "s", "--no-commit"]).out, "three\n");
    assert_eq!(run(JLOG, &["read", log, "-S", "s"]).out, "three\n");
    assert_eq!(run(JLOG, &["read", log, "-S", "s"]).out, "");
    assert_eq!(run(JLOG, &["read", log, "-S", "t"]).out, "one\ntwo\nthree\n");
}

/// Makes a log, and says what the inspection sees of it.
fn created(options: &str) -> Value {
    let scratch = Scratch::empty();
    let mut args = vec!["create", &scratch.log];
    args.extend(options.split_whitespace());
    let made = run(JLOG, &args);
    assert_eq!(made.code, 0, "{options}: {}", made.err);
    assert_eq!(run(JLOG, &args).code, 8, "it is there already");
    run(INSPECT, &["--json", &scratch.log]).json()
}

#[test]
fn every_option_of_create_is_what_a_classic_log_becomes() {
    let seen = created(
        "--format classic --segment-size 64k --safety full --compress lz4 --precommit 2k --subscriber a --subscriber b",
    );
    assert_eq!(seen["format"], "classic");
    assert_eq!(seen["segment_size"], 65536);
    assert_eq!(seen["safety"], "safe");
    assert_eq!(seen["compression"], "lz4");
    assert_eq!(seen["pre_commit"]["capacity"], 2048);
    assert_eq!(seen["subscribers"].as_array().unwrap().len(), 2);
    assert_eq!(created("--format classic")["safety"], "almost safe");
    assert_eq!(created("--format classic --durability sync")["safety"], "safe");
    assert_eq!(created("--format classic --durability process")["safety"], "unsafe");
}

#[test]
fn a_log_is_checksummed_and_syncs_unless_something_else_is_asked_for() {
    let seen = created("");
    assert_eq!(seen["format"], "checksummed");
    assert_eq!(seen["durability"], "sync");
    assert_eq!(seen["segment_size"], 4 << 20);
    assert_eq!(seen["identity"].as_str().unwrap().len(), 32);
    assert!(seen["safety"].is_null() && seen["owner"].is_null(), "{seen}");
    for (typed, kept) in
        [("sync", "sync"), ("group:2ms", "group 2ms"), ("interval:1s", "interval 1s"), ("process", "process")]
    {
        assert_eq!(created(&format!("--durability {typed}"))["durability"], kept);
    }
    assert_eq!(created("--format checksummed --compress lz4")["compression"], "lz4");
}

#[test]
fn a_retention_is_kept_as_it_was_given() {
    let seen = created(
        "--quota 1GiB --when-full drop-oldest --keep-bytes 100MiB --keep-for 1h --min-free 1MiB --expire-after 7d",
    );
    let retention = &seen["retention"];
    assert_eq!(retention["quota"], 1 << 30);
    assert_eq!(retention["when_full"], "drop-oldest");
    assert_eq!(retention["keep_bytes"], 100 << 20);
    assert_eq!(retention["keep_seconds"], 3600.0);
    assert_eq!(retention["min_free"], 1 << 20);
    assert_eq!(retention["expire_seconds"], 7.0 * 86400.0);
    let nothing = created("");
    assert!(nothing["retention"]["quota"].is_null(), "{nothing}");
}

#[test]
fn options_that_make_no_sense_together_are_refused_before_a_log_is_made() {
    for (options, says) in [
        ("--safety full", "--durability"),
        ("--precommit 2k", "--format classic"),
        ("--compress null", "--format classic"),
        ("--format classic --durability group:2ms", "no place for group"),
        ("--format classic --durability interval:1s", "no place for group and interval"),
        ("--format classic --quota 1GiB", "no place for a retention"),
        ("--format classic --safety full --durability sync", "cannot be used with"),
        ("--when-full block", "--quota"),
        ("--quota 1MiB", "more than two segments"),
        ("--quota 1GiB --keep-bytes 2GiB", "more than the quota"),
        ("--expire-after 0s", "keep nothing"),
        ("--durability group", "say how long"),
        ("--durability fsync", "is no durability"),
        ("--durability group:0s", "say sync"),
    ] {
        let scratch = Scratch::empty();
        let mut args = vec!["create", &scratch.log];
        args.extend(options.split_whitespace());
        let run = run(JLOG, &args);
        assert_eq!(run.code, 16, "{options}: {}", run.err);
        assert!(run.err.contains(says), "{options}: {}", run.err);
        assert!(!std::path::Path::new(&scratch.log).exists(), "{options}");
    }
}

#[test]
fn settings_are_changed_and_what_makes_no_sense_changes_nothing() {
    let scratch = Scratch::with(&["one"]);
    let log = &scratch.log;
    let alter = |command: &str, options: &str| {
        let mut args = vec![command, log];
        args.extend(options.split_whitespace());
        run(JLOG, &args)
    };
    let all = "--durability group:5ms --segment-size 8k --quota 1MiB --when-full block --keep-for 1h";
    assert_eq!(alter("alter", all).code, 0);
    let field = |field: &str| run(INSPECT, &["meta", "--field", field, log]).out;
    assert_eq!(field("durability"), "group 5ms\n");
    assert_eq!(field("unit_limit"), "8192\n");
    assert_eq!(field("quota"), "1048576\n");
    assert_eq!(field("when_full"), "block\n");
    assert_eq!(field("keep_for"), "60 minutes\n");
    let before = files(log);
    for (options, says) in [
        ("", "nothing to change"),
        ("--safety full", "--durability"),
        ("--keep-bytes 2MiB", "more than the quota"),
        ("--quota off --when-full block", "--quota"),
        ("--segment-size 1MiB --quota 1MiB", "two segments"),
    ] {
        let run = alter("alter", options);
        assert_eq!(run.code, 16, "{options}: {}", run.err);
        assert!(run.err.contains(says), "{options}: {}", run.err);
    }
    assert_eq!(files(log), before);
    assert_eq!(alter("set", "--quota off --keep-for off").code, 0, "it has two names");
    assert_eq!((field("quota").as_str(), field("keep_for").as_str()), ("-\n", "-\n"));
    assert_eq!(run(JLOG, &["read", log, "-S", "s"]).out, "one\n");

    let classic = Scratch::classic(&["one"]);
    assert_eq!(run(JLOG, &["alter", &classic.log, "--safety", "full", "--segment-size", "8k"]).code, 0);
    let seen = run(INSPECT, &["--json", &classic.log]).json();
    assert_eq!((seen["safety"].as_str(), seen["segment_size"].as_u64()), (Some("safe"), Some(8192)));
    assert_eq!(run(JLOG, &["alter", &classic.log, "--quota", "1GiB"]).code, 16);
    assert_eq!(run(JLOG, &["alter", &classic.log, "--durability", "interval:1s"]).code, 16);
}

#[test]
fn a_log_drops_the_oldest_when_its_quota_says_so_and_readers_are_told() {
    let scratch = Scratch::empty();
    let log = &scratch.log;
    let options =
        ["--segment-size", "4k", "--quota", "20k", "--when-full", "drop-oldest", "--subscriber", "s"];
    assert_eq!(run(JLOG, &[&["create", log.as_str()][..], &options].concat()).code, 0);
    for n in 0..40 {
        let line = format!("{n} {}\n", "x".repeat(1000));
        assert_eq!(run_with(JLOG, &["write", log], line.as_bytes()).code, 0);
    }
    let read = run(JLOG, &["read", log, "-S", "s"]);
    assert!(read.err.contains("retention policy"), "{}", read.err);
    assert!(read.lines().last().unwrap().starts_with("39 "), "{}", read.out.len());
    assert!(read.lines().len() < 25, "the oldest are gone");
    assert_eq!(read.code, 0, "it was decided on before: {}", read.err);
}

#[test]
fn a_full_log_refuses_messages_until_they_are_read() {
    let scratch = Scratch::empty();
    let log = &scratch.log;
    let options = ["--segment-size", "4k", "--quota", "16k", "--subscriber", "s"];
    assert_eq!(run(JLOG, &[&["create", log.as_str()][..], &options].concat()).code, 0);
    let line = format!("{}\n", "x".repeat(1000));
    let refused = (0..40).map(|_| run_with(JLOG, &["write", log], line.as_bytes())).find(|run| run.code != 0);
    let refused = refused.unwrap();
    assert_eq!(refused.code, 8);
    assert!(refused.err.contains("quota") && refused.err.contains("0 messages written"), "{}", refused.err);
    assert_eq!(run(JLOG, &["read", log, "-S", "s"]).code, 0);
    assert_eq!(run_with(JLOG, &["write", log], line.as_bytes()).code, 0);
    assert_eq!(run(INSPECT, &["check", log]).code, 0);
}

#[test]
fn a_second_writer_is_told_who_owns_the_log() {
    let scratch = Scratch::with(&["one"]);
    let log = jlog::Log::open(&scratch.log).unwrap();
    let owner = log.writer().unwrap();
    let pid = format!("process {} (", std::process::id());
    for args in [vec!["write", &scratch.log], vec!["write", &scratch.log, "--exclusive"]] {
        let refused = run_with(JLOG, &args, b"two\n");
        assert_eq!(refused.code, 8, "{}", refused.err);
        assert!(refused.err.contains(&pid) && refused.err.contains("--shared"), "{}", refused.err);
    }
    let seen = run(INSPECT, &["--json", &scratch.log]).json();
    assert_eq!(seen["owner"]["pid"], std::process::id());
    assert!(run(INSPECT, &[&scratch.log]).out.contains(&pid));
    assert!(run(INSPECT, &["meta", "--field", "owner", &scratch.log]).out.starts_with(&pid));
    owner.close().unwrap();
    assert_eq!(run_with(JLOG, &["write", &scratch.log], b"two\n").code, 0);
    assert!(!run(INSPECT, &[&scratch.log]).out.contains("owner"));
}

#[test]
fn writers_that_share_write_at_the_same_time() {
    let scratch = Scratch::with(&[]);
    let start = || {
        Command::new(JLOG).args(["write", "--shared", &scratch.log]).stdin(Stdio::piped()).spawn().unwrap()
    };
    let (mut one, mut two) = (start(), start());
    for round in 0..20 {
        for (writer, name) in [(&mut one, "one"), (&mut two, "two")] {
            writeln!(writer.stdin.as_mut().unwrap(), "{name} {round}").unwrap();
        }
    }
    for mut writer in [one, two] {
        drop(writer.stdin.take());
        assert_eq!(writer.wait().unwrap().code(), Some(0));
    }
    let read = run(JLOG, &["read", &scratch.log, "-S", "s"]);
    for name in ["one", "two"] {
        let expected: Vec<_> = (0..20).map(|round| format!("{name} {round}")).collect();
        let found: Vec<_> = read.lines().into_iter().filter(|line| line.starts_with(name)).collect();
        assert_eq!(found, expected);
    }
    assert_eq!(run(INSPECT, &["check", &scratch.log]).code, 0);
}

#[test]
fn what_is_not_yet_on_the_disk_is_seen_by_who_asks_for_it() {
    let scratch = Scratch::with(&["one"]);
    let log = jlog::Log::open(&scratch.log).unwrap();
    let writer = log.writer().unwrap();
    writer.append_as(b"two", jlog::Timestamp::new(7, 0), jlog::Durability::Process).unwrap();
    let read = |more: &[&str]| {
        run(JLOG, &[&["read", scratch.log.as_str(), "-S", "s", "--no-commit"], more].concat()).out
    };
    let dump = |more: &[&str]| {
        run(INSPECT, &[&["dump", scratch.log.as_str(), "--format", "raw"], more].concat()).out
    };
    assert_eq!((read(&[]).as_str(), dump(&[]).as_str()), ("one\n", "one\n"));
    assert_eq!(
        (read(&["--unsynced"]).as_str(), dump(&["--unsynced"]).as_str()),
        ("one\ntwo\n", "one\ntwo\n")
    );
    writer.sync().unwrap();
    assert_eq!((read(&[]).as_str(), dump(&[]).as_str()), ("one\ntwo\n", "one\ntwo\n"));
}

#[test]
fn a_message_is_as_durable_as_was_asked_for() {
    for durability in ["sync", "group:1ms", "interval:10ms", "process"] {
        for scratch in [Scratch::with(&[]), Scratch::classic(&[])] {
            let written = run_with(JLOG, &["write", &scratch.log, "--durability", durability], b"one\ntwo\n");
            assert_eq!(written.code, 0, "{durability}: {}", written.err);
            assert_eq!(run(JLOG, &["read", &scratch.log, "-S", "s"]).out, "one\ntwo\n", "{durability}");
        }
    }
    let scratch = Scratch::with(&[]);
    for args in [["--durability", "often"], ["--durability", "group"]] {
        assert_eq!(run(JLOG, &[&["write", &scratch.log][..], &args].concat()).code, 16);
    }
    assert_eq!(run(JLOG, &["write", &scratch.log, "--shared", "--exclusive"]).code, 16);
    assert_eq!(run(JLOG, &["write", &scratch.log, "--sync", "each", "--durability", "sync"]).code, 16);
}

#[test]
fn the_list_of_subscribers_tells_how_far_they_are_behind() {
    for scratch in [Scratch::with(&["1", "22", "333"]), Scratch::classic(&["1", "22", "333"])] {
        let log = &scratch.log;
        run(JLOG, &["subs", log, "add", "done", "--at", "end"]);
        run(JLOG, &["read", log, "-S", "s", "-n", "1"]);
        let lines: Vec<Value> = run(JLOG, &["subs", log, "--json"])
            .lines()
            .iter()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(
            (lines[0]["name"].as_str(), lines[0]["behind_messages"].as_u64()),
            (Some("done"), Some(0))
        );
        assert_eq!((lines[1]["name"].as_str(), lines[1]["behind_messages"].as_u64()), (Some("s"), Some(2)));
        let seen = run(INSPECT, &["subs", "--json", log]).json();
        assert_eq!(seen["subscribers"][1]["behind_messages"], 2);
    }
}

#[test]
fn a_subscriber_may_start_at_a_time() {
    for scratch in [Scratch::with(&[]), Scratch::classic(&[])] {
        let lines: String =
            (0..5).map(|n| format!("{{\"data\":\"{n}\",\"time\":\"2026-11-22T10:0{n}:00Z\"}}\n")).collect();
        assert_eq!(run_with(JLOG, &["write", "--jsonl", &scratch.log], lines.as_bytes()).code, 0);
        let log = &scratch.log;
        assert_eq!(run(JLOG, &["subs", log, "add", "late", "--at", "2026-11-22T10:03:00Z"]).code, 0);
        assert_eq!(run(JLOG, &["read", log, "-S", "late"]).out, "3\n4\n");
        assert_eq!(run(JLOG, &["subs", log, "set", "late", "2026-11-22T10:01:30Z"]).code, 0);
        assert_eq!(run(JLOG, &["read", log, "-S", "late"]).out, "2\n3\n4\n");
        assert_eq!(run(JLOG, &["subs", log, "set", "late", "2027-01-01"]).code, 0);
        assert_eq!(run(JLOG, &["read", log, "-S", "late"]).out, "");
        assert_eq!(run(JLOG, &["subs", log, "add", "x", "--at", "end-3"]).code, 16);
    }
}

#[test]
fn bad_names_are_refused_before_a_log_is_made() {
    for name in ["".to_owned(), "x".repeat(127)] {
        let scratch = Scratch::empty();
        assert_eq!(run(JLOG, &["create", &scratch.log, "--subscriber", &name]).code, 8);
        assert!(!std::path::Path::new(&scratch.log).exists());
    }
}

#[test]
fn a_name_that_is_not_text_is_a_name() {
    let scratch = Scratch::with(&["one"]);
    let name = std::ffi::OsStr::from_bytes(b"\xff/\n");
    let log = std::ffi::OsStr::new(&scratch.log);
    let word = std::ffi::OsStr::new;
    assert_eq!(run(JLOG, &[word("subs"), log, word("add"), name]).code, 0);
    assert_eq!(run(JLOG, &[word("read"), log, word("-S"), name]).out, "one\n");
    assert!(run(JLOG, &[word("subs"), log]).lines()[2].starts_with("\\xff/\\n  "));
    assert_eq!(run(JLOG, &[word("subs"), log, word("remove"), name]).code, 0);
}

#[test]
fn messages_end_where_they_are_said_to() {
    let payloads = |scratch: &Scratch| run(INSPECT, &["dump", "--format", "raw", &scratch.log]).bytes;
    let lines = Scratch::with(&[]);
    run_with(JLOG, &["write", &lines.log], b"a\r\n\nlast without an end");
    assert_eq!(payloads(&lines), b"a\r\n\nlast without an end\n");

    let zeros = Scratch::with(&[]);
    run_with(JLOG, &["write", "--null", &zeros.log], b"a\nb\0\0c");
    assert_eq!(payloads(&zeros), b"a\nb\n\nc\n");

    let lengths = Scratch::with(&[]);
    run_with(JLOG, &["write", "--length-prefixed", &lengths.log], b"\0\0\0\x02a\n\0\0\0\0\0\0\0\x01b");
    assert_eq!(payloads(&lengths), b"a\n\n\nb\n");
}

#[test]
fn input_that_ends_in_the_middle_keeps_what_came_before_and_says_so() {
    let scratch = Scratch::with(&[]);
    let cut = run_with(JLOG, &["write", "--length-prefixed", &scratch.log], b"\0\0\0\x01a\0\0\0\x09b");
    assert_eq!(cut.code, 8);
    assert!(cut.err.contains("cut short") && cut.err.contains("1 message written"), "{}", cut.err);
    let huge = run_with(JLOG, &["write", "--length-prefixed", &scratch.log], b"\xff\xff\xff\xff");
    assert_eq!(huge.code, 8);
    assert!(huge.err.contains("longer than"), "{}", huge.err);
    let json = run_with(JLOG, &["write", "--jsonl", &scratch.log], b"{\"data\":\"b\"}\n{\"dat\":\"\"}\n");
    assert_eq!(json.code, 8);
    assert!(json.err.contains("line 2: neither data nor data_b64"), "{}", json.err);
    assert_eq!(run(JLOG, &["read", &scratch.log, "-S", "s"]).out, "a\nb\n");
}

#[test]
fn a_dump_written_again_is_the_same_log() {
    for case in ["few-long", "lz4", "be-segments", "zero-length-mixed"] {
        let scratch = Scratch::with(&[]);
        let dump = run(INSPECT, &["dump", "--format", "jsonl", &golden(case)]);
        assert_eq!(run_with(JLOG, &["write", "--jsonl", &scratch.log], &dump.bytes).code, 0);
        assert_eq!(dumped(&scratch.log).0, dumped(&golden(case)).0, "{case}");
    }
}

#[test]
fn files_are_written_one_behind_the_other() {
    let scratch = Scratch::with(&[]);
    let (one, two) = (scratch.path("one"), scratch.path("two"));
    fs::write(&one, "1\n2\n").unwrap();
    fs::write(&two, "3\n").unwrap();
    for sync in ["each", "batch", "never"] {
        assert_eq!(run(JLOG, &["write", &scratch.log, &one, &two, "--sync", sync]).code, 0);
        assert_eq!(run(JLOG, &["read", &scratch.log, "-S", "s"]).out, "1\n2\n3\n", "{sync}");
    }
    let missing = run(JLOG, &["write", &scratch.log, &one, &scratch.path("nowhere")]);
    assert_eq!(missing.code, 8);
    assert!(missing.err.contains("nowhere") && missing.err.contains("2 messages written"), "{}", missing.err);
}

#[test]
fn a_line_is_in_the_log_before_the_next_one_is_waited_for() {
    let scratch = Scratch::with(&[]);
    let mut writer = Command::new(JLOG).args(["write", &scratch.log]).stdin(Stdio::piped()).spawn().unwrap();
    let mut follower = Command::new(JLOG)
        .args(["read", &scratch.log, "-S", "s", "-f", "-n", "2"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let stdin = writer.stdin.as_mut().unwrap();
    for word in ["first", "second"] {
        writeln!(stdin, "{word}").unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), word, "while the writer is still open");
    }
    assert_eq!(follower.wait().unwrap().code(), Some(0));
    drop(writer.stdin.take());
    assert_eq!(writer.wait().unwrap().code(), Some(0));
}

#[test]
fn an_interrupt_ends_following_with_32_and_keeps_the_checkpoint() {
    let scratch = Scratch::with(&["one"]);
    let mut follower = Command::new(JLOG)
        .args(["read", &scratch.log, "-S", "s", "-f"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "one");
    kill(Pid::from_raw(follower.id() as i32), Signal::SIGINT).unwrap();
    assert_eq!(follower.wait().unwrap().code(), Some(32));
    assert_eq!(run(JLOG, &["read", &scratch.log, "-S", "s"]).out, "", "it was printed, so it is read");
}

#[test]
fn a_command_is_run_for_each_message_until_it_fails() {
    let scratch = Scratch::with(&["1", "2", "3", "4"]);
    let read = |command: &str| run(JLOG, &["read", &scratch.log, "-S", "s", "--exec", command]);
    let stopped = read("read x; echo \"$JLOG_ID:$x\"; test $x != 3");
    assert_eq!(stopped.code, 8);
    assert!(stopped.err.contains("message 00000000:00000003"), "{}", stopped.err);
    assert_eq!(stopped.lines().len(), 3);
    assert_eq!(read("true").code, 0, "a command need not read the message");
    assert_eq!(run(JLOG, &["read", &scratch.log, "-S", "s"]).out, "");
    assert_eq!(run(JLOG, &["subs", &scratch.log, "set", "s", "0:2"]).code, 0);
    assert_eq!(run(JLOG, &["read", &scratch.log, "-S", "s"]).out, "3\n4\n");
}

#[test]
fn reading_stops_at_damage_unless_it_is_told_to_go_on() {
    let scratch = Scratch::of("garbage-middle-closed");
    let stopped = run(JLOG, &["read", &scratch.log, "-S", "s"]);
    assert_eq!((stopped.code, stopped.lines().len()), (4, 12), "{}", stopped.err);
    assert!(stopped.err.contains("bytes 464..580"), "{}", stopped.err);
    let went_on = run(JLOG, &["read", &scratch.log, "-S", "s", "--skip-damage", "--format", "jsonl"]);
    assert_eq!((went_on.code, went_on.lines().len()), (4, 17));
    assert!(went_on.err.contains("gap: "), "{}", went_on.err);
}

#[test]
fn what_was_not_printed_is_not_read() {
    let scratch = Scratch::with(&["x".repeat(1000).as_str(); 3000]);
    let mut reader = Command::new(JLOG)
        .args(["read", &scratch.log, "-S", "s"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 1001];
    reader.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = reader.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let left = run(JLOG, &["read", &scratch.log, "-S", "s"]).lines().len();
    assert!(left > 2000, "{left} messages are left, though most were never printed");
}

#[test]
fn subscribers_are_added_moved_copied_renamed_and_removed() {
    let scratch = Scratch::with(&["1", "2", "3"]);
    let log = &scratch.log;
    let subs = |args: &[&str]| {
        let mut all = vec!["subs", log];
        all.extend(args);
        run(JLOG, &all)
    };
    assert_eq!(subs(&["add", "end", "--at", "end"]).code, 0);
    assert_eq!(subs(&["add", "two", "--at", "0:2"]).code, 0);
    assert_eq!(subs(&["add", "same", "--copy", "two"]).code, 0);
    assert_eq!(subs(&["copy", "end", "other"]).code, 0);
    assert_eq!(subs(&["rename", "other", "another"]).code, 0);
    assert_eq!(subs(&["set", "s", "end"]).code, 0);
    let listed = subs(&["list"]);
    let listed: Vec<_> =
        listed.lines().iter().map(|l| l.split_whitespace().take(3).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        listed[1..],
        [
            "another 00000000:00000003 0",
            "end 00000000:00000003 0",
            "s 00000000:00000003 0",
            "same 00000000:00000002 1",
            "two 00000000:00000002 1"
        ]
    );
    assert_eq!(subs(&["remove", "two"]).code, 0);
    for (args, says) in [
        (&["remove", "two"][..], "no subscriber \"two\""),
        (&["set", "two", "begin"], "no subscriber \"two\""),
        (&["copy", "two", "three"], "no subscriber \"two\""),
        (&["add", "s"], "has a subscriber \"s\" already"),
        (&["set", "s", "9:9"], "outside the log"),
        (&["set", "s", "0:4"], "beyond the segment's last message"),
        (&["add", "x", "--at", "0:4"], "beyond the segment's last message"),
        (&["add", ""], "the name is empty"),
    ] {
        let run = subs(args);
        assert_eq!(run.code, 8, "{args:?}");
        assert!(run.err.contains(says), "{args:?}: {}", run.err);
    }
    assert_eq!(subs(&["set", "s", "last"]).code, 16);
    assert_eq!(subs(&["list"]).lines().len(), 5, "nothing was changed by what was refused");
}

#[test]
fn clean_removes_what_nobody_wants_and_says_who_holds_the_rest() {
    let line = "x".repeat(500);
    let scratch = Scratch::with(&[line.as_str(); 40]);
    let log = &scratch.log;
    run(JLOG, &["subs", log, "add", "slow"]);
    run(JLOG, &["read", log, "-S", "s"]);
    let held = run(JLOG, &["clean", log]);
    assert_eq!((held.code, held.out.as_str()), (0, ""));
    assert!(held.err.contains("held by slow"), "{}", held.err);
    run(JLOG, &["subs", log, "remove", "slow"]);
    let before = files(log);
    let planned = run(JLOG, &["clean", "-n", log]);
    assert!(planned.out.starts_with("would remove 00000000\n"), "{}", planned.out);
    assert_eq!(files(log), before);
    let done = run(JLOG, &["clean", log]);
    assert_eq!(done.out, planned.out.replace("would remove", "removed"));
    assert_eq!(run(INSPECT, &["check", log]).code, 0);
}

#[test]
fn wrong_usage_exits_with_16() {
    for args in [
        vec![],
        vec!["nonsense"],
        vec!["create"],
        vec!["create", "log", "--segment-size", "big"],
        vec!["create", "log", "--segment-size", "5GiB"],
        vec!["write"],
        vec!["write", "log", "--null", "--jsonl"],
        vec!["read", "log"],
        vec!["read", "log", "-S", "s", "-n", "some"],
        vec!["subs"],
        vec!["subs", "log", "add"],
        vec!["inspect", "--nope"],
        vec!["repair"],
    ] {
        let run = run(JLOG, &args);
        assert_eq!(run.code, 16, "{args:?}: {}", run.err);
        assert!(run.out.is_empty(), "{args:?}");
    }
}

#[test]
fn what_cannot_be_exits_with_8_and_loses_nothing() {
    let scratch = Scratch::with(&["one"]);
    let (nowhere, file) = (scratch.path("nowhere"), scratch.path("file"));
    fs::write(&file, "a file").unwrap();
    let before = files(&scratch.log);
    for path in [&nowhere, &file] {
        for args in [
            vec!["write", path],
            vec!["read", path, "-S", "s"],
            vec!["subs", path],
            vec!["clean", path],
            vec!["inspect", path],
            vec!["repair", "-y", path],
        ] {
            let run = run(JLOG, &args);
            assert_eq!(run.code, 8, "{args:?}: {}", run.err);
            assert!(run.err.starts_with("jlog: "), "{args:?}: {}", run.err);
        }
    }
    let unknown = run(JLOG, &["read", &scratch.log, "-S", "nobody"]);
    assert_eq!(unknown.code, 8);
    assert!(unknown.err.contains("no subscriber \"nobody\"") && unknown.err.contains("lists them"));
    assert_eq!(run(JLOG, &["create", &scratch.path("no/where")]).code, 8);
    assert_eq!(run(JLOG, &["create", &nowhere, "--segment-size", "0"]).code, 8);
    assert_eq!(files(&scratch.log), before);
    assert_eq!(fs::read(&file).unwrap(), b"a file");
}

#[test]
fn every_command_has_help_with_an_example() {
    for command in
        ["create", "write", "read", "subs", "clean", "alter", "spool", "metrics", "inspect", "repair", "demo"]
    {
        let run = run(JLOG, &[command, "--help"]);
        assert_eq!(run.code, 0);
        assert!(run.out.contains("Example"), "{command}");
    }
}

#[test]
fn the_spool_at_work_loses_the_one_message_that_was_damaged() {
    let temporary = tempfile::tempdir().unwrap();
    let output =
        Command::new(JLOG).args(["demo", "--fast"]).env("TMPDIR", temporary.path()).output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    for line in out.lines().filter(|line| line.ends_with("byte for byte")) {
        let words: Vec<_> = line.split_whitespace().collect();
        assert_eq!(words[0], words[2], "{line}");
    }
    assert_eq!(out.matches("byte for byte").count(), 2, "{out}");
    let damaged = out.lines().find_map(|line| line.strip_prefix("MESSAGE ")).unwrap();
    let lost: Vec<_> = out.lines().filter_map(|line| line.strip_prefix("lost     ")).collect();
    assert_eq!(lost.len(), 1, "{out}");
    assert_eq!(lost[0][..20], damaged[..20], "the one whose bit was flipped");
    assert!(out.contains("the spool holds 0"), "{out}");
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
}

#[test]
fn the_demo_keeps_every_acknowledged_message_and_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let output = Command::new(JLOG)
        .args(["demo", "--log", "--fast"])
        .env("TMPDIR", temporary.path())
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let kept = out.lines().find(|line| line.contains("acknowledged messages are there")).unwrap();
    let words: Vec<_> = kept.split_whitespace().collect();
    assert_eq!(words[0], words[2], "{kept}");
    assert!(out.contains("DAMAGE ") && out.contains("TORN ") && out.contains("\nrepaired: "), "{out}");
    assert!(out.contains("nothing is wrong") && out.contains("repair -n YOUR-LOG"), "{out}");
    let flipped = out.lines().find_map(|line| line.split_once("flipped, in message ")).unwrap().1;
    let lost: Vec<_> = out.lines().filter_map(|line| line.trim().strip_prefix("lost: ")).collect();
    assert_eq!(lost, [flipped], "the one message whose bit was flipped");
    assert!(out.contains("1 message lost, undo: "), "{out}");
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
}
