//! Logs and spools that somebody else has prepared for whoever looks at them, root among them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;

use crate::common::{INSPECT, JLOG, REPAIR, Scratch, golden, run, run_with};
use crate::repair::owners;

const LOOKS: [&[&str]; 9] =
    [&[], &["--json"], &["summary"], &["segments"], &["subs"], &["dump"], &["check"], &["map"], &["metrics"]];

/// What a terminal would obey.
const EVIL: &str = "\x1b]0;owned\x07\x1b[2J\u{9b}31m\u{202e}";

#[test]
fn no_name_and_no_manifest_in_a_directory_drives_the_terminal() {
    for scratch in [Scratch::of("garbage-middle-closed"), Scratch::with(&["one", "two"])] {
        let log = Path::new(&scratch.log);
        for name in [EVIL, &format!("cp.{EVIL}"), &format!("00000000{EVIL}")] {
            std::fs::write(log.join(name), EVIL).unwrap();
        }
        std::fs::write(log.join(OsStr::from_bytes(b"\xff\x1b[1m")), EVIL).unwrap();
        let repair = log.join(".repair").join(format!("2026{EVIL}"));
        std::fs::create_dir_all(&repair).unwrap();
        let manifest = format!("jlog-repair 1\n# {EVIL}\nfile\t{EVIL}\t-\t-\n{EVIL}\n");
        std::fs::write(repair.join("manifest"), manifest).unwrap();

        let mut runs: Vec<_> =
            LOOKS.iter().map(|look| run(INSPECT, &[look, &[scratch.log.as_str()][..]].concat())).collect();
        for args in [&["history"][..], &["undo"], &["-n"], &["-y"]] {
            runs.push(run(REPAIR, &[args, &[scratch.log.as_str()]].concat()));
        }
        runs.push(run(REPAIR, &["history", "--json", &scratch.log]));
        runs.push(run(JLOG, &["subs", &scratch.log]));
        for run in &runs {
            for text in [&run.out, &run.err] {
                assert!(!text.contains(['\x1b', '\x07', '\u{9b}', '\u{202e}']), "{text:?}");
            }
        }
        assert!(runs.iter().any(|run| run.out.contains("owned")), "the names are not shown at all");
    }
}

#[test]
fn no_command_waits_for_a_fifo_or_follows_a_link_in_a_files_place() {
    for name in ["metastore", "00000000", "cp.73", ".repair"] {
        for link in [false, true] {
            let scratch = Scratch::with(&["one", "two"]);
            let (file, secret) = (Path::new(&scratch.log).join(name), scratch.path("secret"));
            std::fs::write(&secret, "secret\n").unwrap();
            let _ = std::fs::remove_file(&file);
            if link {
                symlink(&secret, &file).unwrap();
            } else {
                assert!(Command::new("mkfifo").arg(&file).status().unwrap().success());
            }
            let looks = LOOKS.iter().map(|look| (INSPECT, look.to_vec()));
            let changes = [
                (REPAIR, vec!["-y"]),
                (REPAIR, vec!["undo"]),
                (JLOG, vec!["write"]),
                (JLOG, vec!["read", "-S", "s"]),
                (JLOG, vec!["subs"]),
                (JLOG, vec!["clean"]),
            ];
            for (program, args) in looks.chain(changes) {
                // One that waits for a writer of the FIFO would wait for ever.
                let all = [&["60", program], &args[..], &[scratch.log.as_str()]].concat();
                let run = run_with("timeout", &all, b"three\n");
                assert!(run.code != 124, "{args:?} hangs at a FIFO as {name}");
                assert!(!(run.out + &run.err).contains("secret\n"), "{args:?} shows what is behind {name}");
            }
            assert_eq!(std::fs::read_to_string(&secret).unwrap(), "secret\n", "{name}");
        }
    }
}

/// The name of the temporary file is known beforehand to who knows the process: `exec` keeps its number.
#[test]
fn metrics_are_not_written_through_a_link_in_the_place_of_their_temporary_file() {
    let scratch = Scratch::empty();
    let (target, victim) = (scratch.path("log.prom"), scratch.path("victim"));
    std::fs::write(&victim, "theirs").unwrap();
    let command = "ln -s \"$0\" \"$1.$$.tmp\"; exec \"$2\" metrics \"$3\" --textfile \"$1\"";
    let run = run("sh", &["-c", command, &victim, &target, INSPECT, &golden("few")]);
    assert_eq!(run.code, 0, "{}", run.err);
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "theirs");
    assert!(std::fs::read_to_string(&target).unwrap().contains("# TYPE jlog_"));
    assert!(!std::fs::symlink_metadata(&target).unwrap().is_symlink());
}

/// Only root can tell: for everybody else the files are their own anyway.
#[test]
fn what_root_does_to_the_spool_of_another_user_leaves_no_file_of_roots_behind() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: not root");
        return;
    }
    let scratch = Scratch::empty();
    std::fs::set_permissions(scratch.dir(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mbox = scratch.path("mbox");
    let mail = "From a@example.com Thu Jan  1 00:00:00 2026\nTo: b@example.com\nSubject: x\n\nx\n\n";
    std::fs::write(&mbox, mail.repeat(20)).unwrap();
    let import = ["spool", "import", &scratch.log, &mbox, "--recipient", "b@example.com"];
    assert_eq!(run(JLOG, &import).code, 0);
    let dir = Path::new(&scratch.log);
    for (path, _) in owners(dir) {
        chown(path, Some(65534), Some(65534)).unwrap();
    }
    for args in [
        &["hold", &scratch.log, "--all"][..],
        &["release", &scratch.log, "--all"],
        &["remove", &scratch.log, "--all"],
    ] {
        let run = run(JLOG, &[&["spool"], args].concat());
        assert_eq!(run.code, 0, "{args:?}: {}", run.err);
    }
    // Another mbox, by its path: its journal is made now.
    let again = scratch.path("again");
    std::fs::copy(&mbox, &again).unwrap();
    let import = run(JLOG, &["spool", "import", &scratch.log, &again, "--recipient", "b@example.com"]);
    assert_eq!(import.code, 0, "{}", import.err);
    std::fs::write(dir.join("spool"), "nothing").unwrap();
    assert_eq!(run(REPAIR, &["-y", &scratch.log]).code, 1);
    assert_eq!(run(INSPECT, &["check", &scratch.log]).code, 0);
    let all = owners(dir);
    assert!(all.len() > 10, "{all:?}");
    for (path, user) in all {
        assert_eq!(user, 65534, "{} is root's now", path.display());
    }
}
