//! What the tests of the commands share: golden logs, copies of them, runs of the programs.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

pub(crate) const INSPECT: &str = env!("CARGO_BIN_EXE_jlog-inspect");
pub(crate) const REPAIR: &str = env!("CARGO_BIN_EXE_jlog-repair");
pub(crate) const JLOG: &str = env!("CARGO_BIN_EXE_jlog");

/// What a program printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) bytes: Vec<u8>,
}

impl Run {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error} in {:?}", self.out))
    }

    pub(crate) fn lines(&self) -> Vec<&str> {
        self.out.lines().collect()
    }
}

pub(crate) fn run(program: &str, args: &[impl AsRef<OsStr>]) -> Run {
    run_with(program, args, b"")
}

/// Runs a program with input, in UTC, without a terminal.
pub(crate) fn run_with(program: &str, args: &[impl AsRef<OsStr>], input: &[u8]) -> Run {
    let mut child = Command::new(program)
        .args(args)
        .env("TZ", "UTC")
        .env_remove("CLICOLOR_FORCE")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || {
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    Run {
        code: output.status.code().unwrap_or_else(|| panic!("{program} was ended by {}", output.status)),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
        bytes: output.stdout,
    }
}

pub(crate) fn golden_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden")
}

pub(crate) fn golden(case: &str) -> String {
    golden_dir().join(case).to_str().unwrap().to_owned()
}

/// A golden log that may be written to; gone when it is dropped.
pub(crate) struct Scratch {
    dir: TempDir,
    pub(crate) log: String,
}

impl Scratch {
    /// A copy of a golden log.
    pub(crate) fn of(case: &str) -> Scratch {
        let scratch = Scratch::empty();
        copy(&golden_dir().join(case), Path::new(&scratch.log));
        scratch
    }

    /// Nothing yet.
    pub(crate) fn empty() -> Scratch {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log").to_str().unwrap().to_owned();
        Scratch { dir, log }
    }

    /// A checksummed log with these messages and one subscriber, s.
    pub(crate) fn with(messages: &[&str]) -> Scratch {
        Scratch::made("checksummed", messages)
    }

    /// A classic one.
    pub(crate) fn classic(messages: &[&str]) -> Scratch {
        Scratch::made("classic", messages)
    }

    fn made(format: &str, messages: &[&str]) -> Scratch {
        let scratch = Scratch::empty();
        let options = ["--format", format, "--segment-size", "4k", "--subscriber", "s"];
        let made = run(JLOG, &[&["create", scratch.log.as_str()][..], &options].concat());
        assert_eq!(made.code, 0, "{}", made.err);
        let lines: String = messages.iter().map(|message| format!("{message}\n")).collect();
        assert_eq!(run_with(JLOG, &["write", &scratch.log], lines.as_bytes()).code, 0);
        scratch
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::write(to.join(entry.file_name()), fs::read(entry.path()).unwrap()).unwrap();
    }
}

/// Copies a program to where every user can run it. Another process does it: were the file open for writing here
/// while some other test starts a program, it could not be run ("text file busy").
pub(crate) fn publish(program: &str, to: &str) {
    assert!(Command::new("cp").args([program, to]).status().unwrap().success());
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Bytes, mode, and the times of the last change of contents and of anything.
type Trace = (Vec<u8>, u32, (i64, i64), (i64, i64));

/// Everything about the files of a directory that a write would change: bytes, sizes, modes, times.
pub(crate) fn snapshot(dir: &str) -> BTreeMap<String, Trace> {
    let mut all = BTreeMap::new();
    let mut add = |path: &Path| {
        let info = fs::symlink_metadata(path).unwrap();
        let bytes = if info.is_file() { fs::read(path).unwrap() } else { Vec::new() };
        let changed = (info.ctime(), info.ctime_nsec());
        let modified = (info.mtime(), info.mtime_nsec());
        all.insert(path.to_str().unwrap().to_owned(), (bytes, info.mode(), modified, changed));
    };
    add(Path::new(dir));
    for entry in fs::read_dir(dir).unwrap() {
        add(&entry.unwrap().path());
    }
    all
}

/// The bytes of the files of a directory, without its subdirectories.
pub(crate) fn files(dir: &str) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    let files = entries.filter(|entry| entry.path().is_file());
    files.map(|e| (e.file_name().to_string_lossy().into_owned(), fs::read(e.path()).unwrap())).collect()
}

/// What is known of the golden logs.
pub(crate) fn manifest() -> Vec<Value> {
    let text = fs::read_to_string(golden_dir().join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_str(&text).unwrap();
    manifest["cases"].as_array().unwrap().clone()
}

/// A message as it is compared: time and contents.
pub(crate) type Mark = (u64, String);

/// The messages of a log, as `dump --format jsonl` prints them; those of the pre_commit buffer apart.
pub(crate) fn dumped(log: &str) -> (Vec<Mark>, Vec<Mark>) {
    let run = run(INSPECT, &["dump", log, "--format", "jsonl"]);
    let (mut records, mut buffered) = (Vec::new(), Vec::new());
    for line in run.out.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let payload = match (line["data"].as_str(), line["data_b64"].as_str()) {
            (Some(text), None) => text.as_bytes().to_vec(),
            (None, Some(coded)) => {
                base64::Engine::decode(&base64::engine::general_purpose::STANDARD, coded).unwrap()
            }
            both => panic!("{both:?}"),
        };
        assert_eq!(line["len"].as_u64(), Some(payload.len() as u64));
        let time: jiff::Timestamp = line["time"].as_str().unwrap().parse().unwrap();
        let mark = (time.as_microsecond() as u64, format!("{:x}", Sha256::digest(&payload)));
        if line["buffered"].as_bool() == Some(true) {
            assert!(line["id"].is_null(), "a buffered message has no id yet");
            buffered.push(mark);
        } else {
            records.push(mark);
        }
    }
    (records, buffered)
}

pub(crate) fn mark(record: &Value) -> Mark {
    let time = record["tv_sec"].as_u64().unwrap() * 1_000_000 + record["tv_usec"].as_u64().unwrap();
    (time, record["payload_sha256"].as_str().unwrap().to_owned())
}

/// The records of a golden log that the damage has left whole.
pub(crate) fn intact(case: &Value) -> Vec<Mark> {
    let lost = case["records_not_intact"].as_array().unwrap();
    let is_lost = |record: &Value| {
        lost.iter().any(|lost| lost["log"] == record["log"] && lost["marker"] == record["marker"])
    };
    let written = case["records_written"].as_array().unwrap().iter().filter(|record| !is_lost(record));
    written.chain(case["records_appended"].as_array().unwrap()).map(mark).collect()
}
