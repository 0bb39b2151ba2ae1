//! `jlog-inspect` on golden logs: what it prints, what it exits with, and that it changes nothing.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use crate::common::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Every command there is, with arguments that make it do something.
const COMMANDS: [&[&str]; 15] = [
    &[],
    &["--json"],
    &["summary"],
    &["segments"],
    &["segments", "--json"],
    &["subscribers"],
    &["subs", "--json"],
    &["dump"],
    &["dump", "--format", "jsonl", "--from", "end-3"],
    &["dump", "--format", "hex", "--from", "-15m"],
    &["check"],
    &["check", "--json"],
    &["map"],
    &["meta"],
    &["metrics"],
];

#[test]
fn no_command_changes_a_log() {
    for case in
        ["segments", "garbage-middle-closed", "torn-payload-current", "precommit-partial", "meta-missing"]
    {
        let scratch = Scratch::of(case);
        let before = snapshot(&scratch.log);
        for command in COMMANDS {
            let mut args = command.to_vec();
            args.push(&scratch.log);
            let run = run(INSPECT, &args);
            assert!([0, 4].contains(&run.code), "{args:?} ended with {}: {}", run.code, run.err);
            assert_eq!(snapshot(&scratch.log), before, "{args:?} changed {case}");
        }
        run(INSPECT, &["show", "0:1", &scratch.log]);
        run(INSPECT, &["dump", "-S", "s", &scratch.log]);
        assert_eq!(snapshot(&scratch.log), before);
    }
}

#[test]
fn a_log_that_may_only_be_read_is_looked_at_by_anybody() {
    let scratch = Scratch::of("garbage-middle-closed");
    // Where the other user can reach them.
    fs::set_permissions(scratch.dir(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = scratch.path("jlog-inspect");
    publish(INSPECT, &program);
    for name in files(&scratch.log).keys() {
        let path = format!("{}/{name}", scratch.log);
        fs::set_permissions(path, fs::Permissions::from_mode(0o444)).unwrap();
    }
    fs::set_permissions(&scratch.log, fs::Permissions::from_mode(0o555)).unwrap();

    for command in COMMANDS {
        let mut child = Command::new(&program);
        if nix::unistd::geteuid().is_root() {
            child.uid(65534).gid(65534);
        }
        let output = child.args(command).arg(&scratch.log).output().unwrap();
        let code = output.status.code().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert!([0, 4].contains(&code), "{command:?} ended with {code}: {err}");
    }
    fs::set_permissions(&scratch.log, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn files_that_may_not_be_read_are_an_error_that_names_them() {
    if !nix::unistd::geteuid().is_root() {
        // Only root can become somebody else; for all others the files below are unreadable as they are.
        let scratch = Scratch::of("few");
        fs::set_permissions(format!("{}/00000000", scratch.log), fs::Permissions::from_mode(0o000)).unwrap();
        let run = run(INSPECT, &[&scratch.log]);
        assert_eq!(run.code, 8);
        assert!(run.err.contains("00000000"), "{}", run.err);
        return;
    }
    let scratch = Scratch::of("few");
    fs::set_permissions(scratch.dir(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&scratch.log, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(format!("{}/00000000", scratch.log), fs::Permissions::from_mode(0o600)).unwrap();
    let program = scratch.path("jlog-inspect");
    publish(INSPECT, &program);
    let output = Command::new(&program).arg(&scratch.log).uid(65534).gid(65534).output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(8), "{err}");
    assert!(err.contains("00000000") && err.contains("owner and mode"), "{err}");
}

#[test]
fn the_exit_code_tells_sound_from_damaged_for_every_golden_log() {
    for case in manifest() {
        let name = case["name"].as_str().unwrap();
        let run = run(INSPECT, &["check", "--json", &golden(name)]);
        let seen = run.json();
        let problems = seen["problems"].as_array().unwrap();
        assert_eq!(run.code, if problems.is_empty() { 0 } else { 4 }, "{name}");
        let torn_alone = problems.iter().all(|problem| problem["kind"] == "torn");
        assert_eq!(seen["status"], if torn_alone { "sound" } else { "damaged" }, "{name}");
        if ["sound", "old"].contains(&case["kind"].as_str().unwrap()) {
            assert_eq!(run.code, 0, "{name}: {}", run.out);
        }
    }
}

#[test]
fn dump_prints_every_intact_message_of_every_golden_log_in_order() {
    for case in manifest() {
        let name = case["name"].as_str().unwrap();
        let (records, buffered) = dumped(&golden(name));
        let mut rest = records.iter();
        for expected in intact(&case) {
            assert!(rest.any(|found| *found == expected), "{name}: {expected:?} is missing or out of order");
        }
        if case["kind"] != "damaged" {
            assert_eq!(records, intact(&case), "{name}: something was made up");
            let gathered = case["pre_commit"]["records"].as_array().cloned().unwrap_or_default();
            assert_eq!(buffered, gathered.iter().map(mark).collect::<Vec<_>>(), "{name}");
        }
    }
}

#[test]
fn the_json_of_a_log_has_the_members_that_others_build_on() {
    let run = run(INSPECT, &["--json", &golden("garbage-middle-closed")]);
    let seen = run.json();
    assert_eq!(run.lines().len(), 1, "one object a line in a pipe");
    assert_eq!(seen["schema"], "jlog-inspect/1");
    assert_eq!(seen["log"], golden("garbage-middle-closed").as_str());
    assert_eq!(seen["format"], "classic");
    assert_eq!(seen["byte_order"], "little");
    assert_eq!(seen["compression"], "none");
    assert_eq!(seen["status"], "damaged");
    assert_eq!(seen["messages"], 29);
    assert_eq!(seen["bytes"], 3480);
    let segment = &seen["segments"][1];
    assert_eq!(segment["segment"], "00000001");
    assert_eq!(segment["bytes"], 1044);
    assert_eq!(segment["messages"], 8);
    assert_eq!(segment["sealed"], true);
    assert_eq!(segment["index"], "missing");
    assert_eq!(segment["status"], "damaged");
    let subscriber = &seen["subscribers"][0];
    assert_eq!(subscriber["name"], "s");
    assert_eq!(subscriber["checkpoint"], "00000000:00000000");
    assert_eq!(subscriber["behind_messages"], 29);
    assert!(subscriber["behind_bytes"].is_u64() && subscriber["behind_seconds"].is_number());
    let problem = &seen["problems"][0];
    assert_eq!(problem["kind"], "damage");
    assert_eq!(problem["segment"], "00000001");
    assert_eq!((problem["from"].as_u64(), problem["to"].as_u64()), (Some(464), Some(580)));
    assert_eq!(problem["after"], "00000001:00000004");
    assert!(problem.as_object().unwrap().contains_key("lost_messages"));
    assert!(problem["detail"].as_str().unwrap().contains("no valid record header"));
}

#[test]
fn every_command_answers_in_json_with_the_same_heading() {
    for command in ["summary", "segments", "subscribers", "check", "map", "meta"] {
        let run = run(INSPECT, &[command, "--json", &golden("be-lz4")]);
        let seen = run.json();
        assert_eq!(seen["schema"], "jlog-inspect/1", "{command}");
        assert_eq!(seen["byte_order"], "big", "{command}");
        assert_eq!(seen["compression"], "lz4", "{command}");
    }
    let shown = run(INSPECT, &["show", "--json", "0:2", &golden("few")]).json();
    assert_eq!((shown["id"].as_str(), shown["from"].as_u64()), (Some("00000000:00000002"), Some(17)));
}

#[test]
fn names_that_are_not_text_are_in_base64() {
    let seen = run(INSPECT, &["--json", &golden("names")]).json();
    let coded: Vec<&Value> =
        seen["subscribers"].as_array().unwrap().iter().filter(|s| s.get("name").is_none()).collect();
    assert_eq!(coded.len(), 1);
    assert_eq!(coded[0]["name_b64"], "//4=");
}

#[test]
fn strays_are_noted_and_are_no_problem() {
    let run = run(INSPECT, &["check", &golden("stray-files")]);
    assert_eq!(run.code, 0, "{}", run.out);
    assert!(run.out.contains("STRAY  README:"), "{}", run.out);
    assert!(run.out.ends_with("nothing is wrong\n"));
    let seen = crate::common::run(INSPECT, &["--json", &golden("stray-files")]).json();
    assert!(seen["problems"].as_array().unwrap().is_empty());
    assert!(seen["notes"].as_array().unwrap().iter().any(|note| note["file"] == "README"));
}

#[test]
fn each_kind_of_problem_has_a_line_with_its_place() {
    for (case, line) in [
        ("garbage-middle-closed", "DAMAGE 00000001 bytes 464..580 (116 B): no valid record header after"),
        ("torn-payload-current", "TORN   00000003 bytes 232..292 (60 B): "),
        ("idx-wrong-offset", "INDEX  00000001.idx: entry 3 says 250, the record is at 232"),
        ("missing-middle", "MISSING 00000001: "),
        ("meta-missing", "METASTORE metastore: it is missing"),
        ("cp-past-log", "CHECKPOINT cp.73: subscriber \"s\" at 00000009:00000002: "),
        ("precommit-beyond", "PRE_COMMIT pre_commit bytes 352..1004 (652 B): "),
    ] {
        let run = run(INSPECT, &["check", &golden(case)]);
        assert_eq!(run.code, 4);
        assert!(run.lines().iter().any(|found| found.starts_with(line)), "{case}: {}", run.out);
    }
}

#[test]
fn the_log_may_stand_before_or_behind_the_command_or_be_where_we_are() {
    let log = golden("few");
    let expected = run(INSPECT, &["check", &log]).out;
    assert_eq!(run(INSPECT, &[log.as_str(), "check"]).out, expected);
    assert_eq!(run(INSPECT, &["--utc", &log, "check", "--ascii"]).out, expected);
    let output = Command::new(INSPECT).arg("check").current_dir(&log).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    assert_eq!(run(INSPECT, &[log.as_str(), "check", &log]).code, 16, "two logs are one too many");
}

#[test]
fn one_segment_file_by_itself_is_looked_at() {
    let file = format!("{}/00000001", golden("be-garbage-closed"));
    let seen = run(INSPECT, &["check", "--json", &file]);
    assert_eq!(seen.code, 4);
    assert_eq!(seen.json()["lone_segment"], true);
    assert_eq!(seen.json()["messages"], 8);
    assert_eq!(run(INSPECT, &["dump", &file]).lines().len(), 8);
    assert_eq!(run(INSPECT, &["check", "--endian", "little", &file]).code, 8, "it is big-endian");
}

#[test]
fn wrong_usage_exits_with_16() {
    let log = golden("few");
    for args in [
        vec!["--nope", &log],
        vec!["check", "--units", "stone", &log],
        vec!["dump", "--from", "sometime", &log],
        vec!["dump", "--from", "15m", &log],
        vec!["dump", "--format", "csv", &log],
        vec!["dump", "-n", "-1", &log],
        vec!["dump", "-S", "s", "--from", "begin", &log],
        vec!["show", "0.1", &log],
        vec!["show"],
        vec!["subs", "--max-age", "soon", &log],
        vec!["meta", "--field", "colour", &log],
        vec!["chekc", &log],
        vec!["sumary"],
    ] {
        let run = run(INSPECT, &args);
        assert_eq!(run.code, 16, "{args:?}: {}", run.err);
        assert!(run.out.is_empty() && !run.err.is_empty(), "{args:?}");
    }
    assert!(run(INSPECT, &["chekc", &log]).err.contains("`check`"));
    assert!(run(INSPECT, &["sumary"]).err.contains("`summary`"));
}

#[test]
fn what_is_no_log_exits_with_8_and_says_what_it_is() {
    let scratch = Scratch::empty();
    let (empty, file, text) = (scratch.path("empty"), scratch.path("file"), scratch.path("text"));
    fs::create_dir(&empty).unwrap();
    fs::write(&file, b"").unwrap();
    fs::write(&text, "no log at all, just some text\n".repeat(100)).unwrap();
    for (path, what) in [
        (&scratch.path("nowhere"), "No such file"),
        (&empty, "the directory holds no metastore"),
        (&file, "no record that can be recognised"),
        (&text, "no record that can be recognised"),
        (&"/dev/null".to_owned(), "a log is a directory"),
    ] {
        for command in COMMANDS {
            let mut args = command.to_vec();
            args.push(path);
            let run = run(INSPECT, &args);
            assert_eq!(run.code, 8, "{args:?}: {}", run.err);
            assert!(run.err.contains(what) && run.err.contains(path.as_str()), "{args:?}: {}", run.err);
            assert!(run.out.is_empty(), "{args:?}: {}", run.out);
        }
    }
}

#[test]
fn an_unknown_subscriber_and_a_name_that_is_too_long_are_told_of() {
    let unknown = run(INSPECT, &["dump", "-S", "nobody", &golden("few")]);
    assert_eq!(unknown.code, 8);
    assert!(unknown.err.contains("no subscriber \"nobody\""), "{}", unknown.err);
    let long = run(INSPECT, &["dump", "-S", &"x".repeat(127), &golden("few")]);
    assert_eq!(long.code, 8);
    assert!(long.err.contains("127 bytes"), "{}", long.err);
    assert_eq!(run(INSPECT, &["dump", "-S", "", &golden("names")]).code, 0, "libjlog makes empty names");
}

#[test]
fn a_checkpoint_beyond_the_end_is_a_problem_and_not_an_empty_answer() {
    let run = run(INSPECT, &["dump", "-S", "s", &golden("cp-past-log")]);
    assert_eq!(run.code, 4);
    assert!(run.err.contains("beyond the end of the log"), "{}", run.err);
}

#[test]
fn dump_goes_from_where_to_where() {
    let log = golden("segments");
    let ids = |args: &[&str]| -> Vec<String> {
        let mut all = vec!["dump", &log, "--format", "jsonl"];
        all.extend(args);
        let run = run(INSPECT, &all);
        assert_eq!(run.code, 0, "{}", run.err);
        let id = |line: &str| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned();
        run.out.lines().map(id).collect()
    };
    let all = ids(&[]);
    assert_eq!(all.len(), 140);
    assert_eq!(ids(&["--from", "begin", "--to", "end"]), all);
    assert_eq!(ids(&["-n", "5"]), all[..5]);
    assert_eq!(ids(&["--from", "end-20"]), all[120..]);
    assert_eq!(ids(&["--to", "end-20"]), all[..120]);
    assert_eq!(ids(&["--from", "end-1000"]), all);
    assert_eq!(ids(&["--from", "end"]), all[..0]);
    assert_eq!(ids(&["--from", &all[40], "--to", &all[50]]), all[40..=50]);
    assert_eq!(ids(&["--from", "9:1"]), all[..0]);
    assert_eq!(ids(&["-S", "s"]), all[31..]);
    let later = ids(&["--from", "2020-09-13T18:10:00Z"]);
    assert!(!later.is_empty() && later.len() < all.len());
    assert_eq!(later, all[all.len() - later.len()..]);
    assert_eq!(ids(&["--to", "2020-09-13 18:10:00Z"]).len() + later.len(), all.len());
}

#[test]
fn gaps_are_reported_on_standard_error_and_the_rest_is_dumped() {
    let run = run(INSPECT, &["dump", &golden("missing-middle")]);
    assert_eq!(run.code, 4);
    assert_eq!(run.lines().len(), 21);
    assert!(run.err.contains("gap: segment 00000001 is missing"), "{}", run.err);
}

#[test]
fn raw_is_the_bytes_and_a_newline() {
    let scratch = Scratch::with(&["one", "", "tab\there"]);
    let run = run(INSPECT, &["dump", "--format", "raw", &scratch.log]);
    assert_eq!(run.bytes, b"one\n\ntab\there\n");
}

#[test]
fn control_bytes_in_messages_and_names_are_escaped() {
    let scratch = Scratch::empty();
    run(JLOG, &["create", &scratch.log, "--subscriber", "a\x1b[31m\n"]);
    run_with(JLOG, &["write", &scratch.log, "--null"], b"red \x1b[31m alert\x07\r\n\xff\0");
    for command in COMMANDS {
        let mut args = command.to_vec();
        args.push(&scratch.log);
        let run = run(INSPECT, &args);
        assert!(!run.bytes.iter().any(|b| b"\x1b\x07\r".contains(b)), "{command:?}: {}", run.out);
    }
    let dump = run(INSPECT, &["dump", &scratch.log]).out;
    assert!(dump.ends_with("  red \\x1b[31m alert\\x07\\r\\n\\xff\n"), "{dump}");
}

#[test]
fn show_tells_where_a_message_lies_and_takes_id_and_log_either_way() {
    let log = golden("few");
    let shown = run(INSPECT, &["show", "0:2", &log]);
    assert_eq!(shown.code, 0);
    assert!(shown.out.contains("message   00000000:00000002\n"), "{}", shown.out);
    assert!(shown.out.contains("file 00000000 bytes 17..97"), "{}", shown.out);
    assert_eq!(run(INSPECT, &["show", &log, "0:2"]).out, shown.out);
    assert_eq!(run(INSPECT, &[log.as_str(), "show", "0:2"]).out, shown.out);
    for id in ["0:0", "0:99", "7:1"] {
        let run = run(INSPECT, &["show", id, &log]);
        assert_eq!(run.code, 8, "{id}: {}", run.err);
        assert!(run.err.contains("holds no message"), "{}", run.err);
    }
    assert_eq!(run(INSPECT, &["show", "1:5", &golden("garbage-middle-closed")]).code, 4);
}

#[test]
fn meta_prints_one_field_for_scripts() {
    let log = golden("segments");
    assert_eq!(run(INSPECT, &["meta", "--field", "storage_log", &log]).out, "00000004\n");
    assert_eq!(run(INSPECT, &["meta", "--field", "unit_limit", &log]).out, "4096\n");
    let missing = run(INSPECT, &["meta", &golden("meta-missing")]);
    assert_eq!(missing.code, 4);
    assert!(missing.out.contains("storage_log  00000003\n") && missing.err.contains("it is missing"));
}

#[test]
fn a_subscriber_that_is_too_far_behind_exits_with_4() {
    let log = golden("segments");
    assert_eq!(run(INSPECT, &["subs", &log]).code, 0);
    assert_eq!(run(INSPECT, &["subs", "--max-lag", "140", "--max-age", "1h", &log]).code, 0);
    let lag = run(INSPECT, &["subs", "--max-lag", "139", &log]);
    assert_eq!(lag.code, 4);
    assert!(lag.err.contains("t2 is 140 messages behind"), "{}", lag.err);
    assert_eq!(run(INSPECT, &["subs", "--max-age", "15m", &log]).code, 4);
}

#[test]
fn the_map_shows_what_is_read_wanted_and_damaged() {
    let run = run(INSPECT, &["map", "--ascii", &golden("garbage-middle-closed")]);
    assert!(run.out.is_ascii(), "{}", run.out);
    assert!(run.lines()[2].starts_with("00000001 #######XXX#######  "), "{}", run.out);
    assert!(run.lines()[2].ends_with("8  1 bad"), "{}", run.out);
    assert!(run.lines()[1].ends_with(" 9 <s"), "{}", run.out);
    let json = crate::common::run(INSPECT, &["map", "--json", &golden("garbage-middle-closed")]).json();
    assert_eq!(json["segments"][1]["cells"], "WWWWWWWXXXWWWWWWW");
}

#[test]
fn colour_is_for_terminals_unless_it_is_asked_for() {
    let log = golden("garbage-middle-closed");
    assert!(!run(INSPECT, &["check", &log]).out.contains('\x1b'));
    assert!(run(INSPECT, &["check", "--color", "always", &log]).out.contains("\x1b[31mDAMAGE"));
    assert!(!run(INSPECT, &["check", "--color", "always", "--json", &log]).out.contains('\x1b'));
}

#[test]
fn quiet_prints_only_what_is_wrong() {
    assert_eq!(run(INSPECT, &["-q", &golden("few")]).out, "");
    assert_eq!(run(INSPECT, &["check", "-q", &golden("stray-files")]).out, "");
    assert_eq!(run(INSPECT, &["check", "-q", &golden("missing-middle")]).lines().len(), 1);
}

/// A dump under way, whose output waits to be read.
fn dumping(scratch: &Scratch) -> Child {
    Command::new(INSPECT)
        .args(["dump", &scratch.log])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let scratch = Scratch::with(&["x".repeat(1000).as_str(); 1000]);
    let mut child = dumping(&scratch);
    let mut first = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn an_interrupt_ends_a_dump_with_32() {
    let scratch = Scratch::with(&["x".repeat(1000).as_str(); 3000]);
    let mut child = dumping(&scratch);
    let mut out = child.stdout.take().unwrap();
    let mut first = [0; 10];
    out.read_exact(&mut first).unwrap();
    // It cannot be at its end: the pipe holds a small part of what it prints.
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let mut rest = Vec::new();
    out.read_to_end(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(32));
}

#[test]
fn a_writer_that_has_the_log_locked_is_not_waited_for() {
    let scratch = Scratch::classic(&["one", "two"]);
    let options = jlog::WriterOptions::new().buffer(1000);
    let writer = jlog::Log::open(&scratch.log).unwrap().writer_with(&options).unwrap();
    writer.append(b"three", jlog::Timestamp::new(7, 0)).unwrap();
    let before = snapshot(&scratch.log);
    for command in COMMANDS {
        let mut args = command.to_vec();
        args.push(&scratch.log);
        assert_eq!(run(INSPECT, &args).code, 0, "{args:?}");
    }
    assert_eq!(snapshot(&scratch.log), before);
    let last = run(INSPECT, &["dump", "--format", "jsonl", &scratch.log]);
    assert!(last.lines()[2].ends_with("\"data\":\"three\",\"buffered\":true}"), "{}", last.out);
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = Command::new(INSPECT).args(["check", &golden("few")]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(8));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot write the output"));
}

#[test]
fn every_command_has_help_with_an_example() {
    for command in ["summary", "segments", "subscribers", "dump", "show", "check", "map", "meta", "metrics"] {
        let run = run(INSPECT, &[command, "--help"]);
        assert_eq!(run.code, 0);
        assert!(run.out.contains("Example"), "{command}");
    }
    assert_eq!(run(INSPECT, &["--version"]).code, 0);
}

#[test]
fn any_bytes_in_any_file_end_in_a_finding_or_an_error() {
    // A small deterministic generator: the same bytes in every run.
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut noise = |len: usize| -> Vec<u8> {
        let mut byte = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        (0..len).map(|_| byte()).collect()
    };
    for file in ["00000000", "00000001", "00000001.idx", "metastore", "cp.73", "pre_commit"] {
        for len in [0, 1, 3, 7, 8, 12, 15, 16, 17, 20, 4096] {
            for bytes in [noise(len), vec![0; len], vec![0xff; len]] {
                let scratch = Scratch::of("segments-closed");
                fs::write(format!("{}/{file}", scratch.log), &bytes).unwrap();
                for command in [vec!["check"], vec!["dump"], vec!["map"]] {
                    let mut args = command;
                    args.push(&scratch.log);
                    let run = run(INSPECT, &args);
                    let what = format!("{args:?} with {len} bytes {:02x?}.. in {file}", bytes.first());
                    assert!([0, 4, 8].contains(&run.code), "{what} ended with {}: {}", run.code, run.err);
                    assert!(!run.err.contains("panicked"), "{what}: {}", run.err);
                }
            }
        }
    }
}
