//! What a record costs: system calls and bytes, counted by strace, and CPU time without it.
//!
//! Each way of appending or reading is run twice, with so many messages and with twice as many, each in a process of its
//! own; the difference is what the messages cost, without opening and closing.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use jlog::{CreateOptions, Durability, Format, Log, Safety, Start, WriterOptions};
use jlog_tests::{Scratch, at};
use nix::sys::resource::{UsageWho, getrusage};

use super::subscriber;

const SIZE: usize = 1024;
/// So many messages fill a segment, so that each figure has its share of making and finishing one.
const COUNT: u64 = 4096;
/// Of those that are synced one by one.
const SYNCED: u64 = 512;

/// What is set in the environment of a process.
type Set = &'static [(&'static str, &'static str)];

/// When a record is acknowledged.
const AFTER_SYNC: &str = "survives a power cut";

pub(crate) fn table(driver: Option<&str>) {
    println!(
        "| a message of 1 KiB, one by one | acknowledged | system calls | of them writes | locks | syncs | bytes written | CPU, µs |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for (way, what, acknowledged) in [
        ("checksummed sync", "checksummed, owner", AFTER_SYNC),
        ("checksummed sync shared", "checksummed, shared", AFTER_SYNC),
        ("checksummed process", "checksummed, owner", "survives the process"),
        ("checksummed process shared", "checksummed, shared", "survives the process"),
        ("checksummed process batch", "checksummed, owner, batches of 64", "survives the process"),
        ("classic sync", "classic, shared", AFTER_SYNC),
        ("classic process", "classic, shared", "survives the process"),
        ("classic process exclusive", "classic, exclusive", "survives the process"),
        ("classic process buffer", "classic, 64 KiB pre_commit", "survives the process"),
    ] {
        let count = if way.contains("sync") { SYNCED } else { COUNT };
        print(&format!("append: {what}"), acknowledged, count, &|count| ours(way, count));
    }
    if let Some(driver) = driver {
        let all: [(&str, Safety, Set, &[&str]); 4] = [
            ("libjlog, default", Safety::AlmostSafe, &[], &[]),
            ("libjlog, its highest safety level", Safety::Safe, &[], &[]),
            ("libjlog, multi_process 0", Safety::AlmostSafe, &[("CDRV_SINGLE", "1")], &[]),
            ("libjlog, 64 KiB pre_commit", Safety::AlmostSafe, &[], &["65536"]),
        ];
        for (what, safety, set, more) in all {
            print(&format!("append: {what}"), "survives the process", COUNT, &|count| {
                let scratch = new_log(Format::Classic, safety);
                let mut command = Command::new(driver);
                command.arg("write").arg(scratch.path()).args([&count.to_string(), "1024", "0"]);
                command.args(more).envs(set.iter().copied());
                (scratch, command)
            });
        }
    }
    for (way, what) in [("checksummed read", "checksummed"), ("classic read", "classic")] {
        print(&format!("read: {what}"), "", COUNT, &|count| {
            let scratch =
                filled(if way.starts_with("classic") { Format::Classic } else { Format::Checksummed }, count);
            let command = own(way, &scratch, count);
            (scratch, command)
        });
    }
    if let Some(driver) = driver {
        let all: [(&str, Set); 2] = [("libjlog, mapping", &[]), ("libjlog, reading", &[("CDRV_PREAD", "1")])];
        for (what, set) in all {
            print(&format!("read: {what}"), "", COUNT, &|count| {
                let scratch = filled(Format::Classic, count);
                let mut command = Command::new(driver);
                command.arg("drain").arg(scratch.path()).args(["s", "0"]).envs(set.iter().copied());
                (scratch, command)
            });
        }
    }
}

fn new_log(format: Format, safety: Safety) -> Scratch {
    let scratch = Scratch::new();
    let options = CreateOptions::new().format(format).segment_size(4 << 20);
    let options = if format == Format::Classic { options.safety(safety) } else { options };
    let log = Log::create_with(scratch.path(), &options).unwrap();
    log.add_subscriber(&subscriber(), Start::Begin).unwrap();
    scratch
}

fn filled(format: Format, count: u64) -> Scratch {
    let scratch = new_log(format, Safety::AlmostSafe);
    append(&format!("{format} process batch"), &scratch.path(), count);
    scratch
}

fn ours(way: &str, count: u64) -> (Scratch, Command) {
    let format = if way.starts_with("classic") { Format::Classic } else { Format::Checksummed };
    let scratch = new_log(format, Safety::AlmostSafe);
    let command = own(way, &scratch, count);
    (scratch, command)
}

fn own(way: &str, scratch: &Scratch, count: u64) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["work", way]).arg(scratch.path()).arg(count.to_string());
    command
}

/// What the process does that is looked at.
pub(crate) fn work(way: &str, dir: &Path, count: u64) {
    if !way.ends_with("read") {
        return append(way, dir, count);
    }
    let log = Log::open(dir).unwrap();
    let mut reader = log.reader(&subscriber()).unwrap();
    let mut read = 0;
    while let Some(record) = reader.next_record().unwrap() {
        assert_eq!(record.payload.len(), SIZE);
        read += 1;
    }
    assert_eq!(read, count);
    reader.commit().unwrap();
}

fn append(way: &str, dir: &Path, count: u64) {
    let log = Log::open(dir).unwrap();
    let durability = if way.contains("sync") { Durability::Sync } else { Durability::Process };
    let mut options = WriterOptions::new().durability(durability);
    if way.contains("shared") || way.contains("exclusive") {
        options = options.exclusive(way.contains("exclusive"));
    }
    if way.contains("buffer") {
        options = options.buffer(65536);
    }
    let writer = log.writer_with(&options).unwrap();
    let message = vec![b'x'; SIZE];
    if way.contains("batch") {
        for first in (0..count).step_by(64) {
            let batch = (first..count.min(first + 64)).map(|n| (&message[..], at(n as u32)));
            let _ = writer.append_batch(batch).unwrap();
        }
    } else {
        for n in 0..count {
            let _ = writer.append(&message, at(n as u32)).unwrap();
        }
    }
    writer.close().unwrap();
}

/// What strace has seen of a process.
#[derive(Default, Clone, Copy)]
struct Calls {
    all: u64,
    writes: u64,
    locks: u64,
    syncs: u64,
    bytes: u64,
}

fn print(what: &str, acknowledged: &str, count: u64, make: &dyn Fn(u64) -> (Scratch, Command)) {
    let (one, two) = (traced(make(count)), traced(make(2 * count)));
    let cpu = |count| {
        let (_scratch, mut command) = make(count);
        let before = children();
        assert!(command.stdout(Stdio::null()).status().unwrap().success());
        children() - before
    };
    // The least of five: whatever else runs on the machine only adds to it. What a sync takes is the file system's, and
    // differs from run to run by more than all the rest.
    let least = |count| (0..5).map(|_| cpu(count)).min().unwrap();
    let cpu_each = match acknowledged {
        AFTER_SYNC => "-".to_owned(),
        _ => {
            let more = least(2 * count).saturating_sub(least(count));
            format!("{:.1}", more.as_secs_f64() * 1e6 / count as f64)
        }
    };
    let each = |one: u64, two: u64| two.saturating_sub(one) as f64 / count as f64;
    println!(
        "| {what} | {acknowledged} | {:.2} | {:.2} | {:.2} | {:.3} | {:.0} | {cpu_each} |",
        each(one.all, two.all),
        each(one.writes, two.writes),
        each(one.locks, two.locks),
        each(one.syncs, two.syncs),
        each(one.bytes, two.bytes),
    );
}

fn children() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let micros = |time: nix::sys::time::TimeVal| time.tv_sec() as u64 * 1_000_000 + time.tv_usec() as u64;
    Duration::from_micros(micros(usage.user_time()) + micros(usage.system_time()))
}

fn traced((scratch, command): (Scratch, Command)) -> Calls {
    let trace = scratch.path().with_extension("trace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-s", "0", "-e", "trace=all", "-e", "signal=none", "-o"]).arg(&trace);
    strace.arg(command.get_program()).args(command.get_args());
    strace.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
    assert!(strace.stdout(Stdio::null()).status().unwrap().success(), "strace");
    let mut calls = Calls::default();
    for line in fs::read_to_string(&trace).unwrap().lines() {
        // `PID name(...) = result`; what it says to its standard output is none of the log's.
        let Some((name, rest)) = line.split_once(' ').and_then(|(_, call)| call.trim().split_once('('))
        else {
            continue;
        };
        if name == "write" && rest.starts_with("1,") {
            continue;
        }
        calls.all += 1;
        calls.locks += u64::from(name == "fcntl" && rest.contains("LK"));
        calls.syncs += u64::from(["fsync", "fdatasync", "msync"].contains(&name));
        if ["write", "writev", "pwrite64", "pwritev", "pwritev2"].contains(&name) {
            calls.writes += 1;
            let result = rest.rsplit_once("= ").and_then(|(_, result)| result.parse::<u64>().ok());
            calls.bytes += result.unwrap_or(0);
        }
    }
    calls
}
