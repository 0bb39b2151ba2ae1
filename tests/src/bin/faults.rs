//! The rows of docs/proof.md that need other processes, root, or file systems of their own: a line for each, with counts.
//!
//! `faults [--long] [--row N] [--seed S] [--threads N]`; `faults --again 'words'` makes one trial again, as a failure has
//! named it. `.ci/faults` builds it and runs it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use jlog_tests::real::parts;
use jlog_tests::real::rows::{Tally, calls_of, trial};
use jlog_tests::real::trouble::{Field, go_apart, has, no_mounts};
use jlog_tests::said;

struct Wanted {
    long: bool,
    row: Option<u32>,
    seed: u64,
    threads: usize,
    again: Option<String>,
}

impl Wanted {
    fn read() -> Wanted {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let mut wanted = Wanted { long: false, row: None, seed: 1, threads, again: None };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            if name == "--long" {
                wanted.long = true;
                continue;
            }
            let value = arguments.next().unwrap_or_default();
            let number = || value.parse::<u64>().unwrap_or_else(|_| panic!("{name} wants a number"));
            match name.as_str() {
                "--row" => wanted.row = Some(number() as u32),
                "--seed" => wanted.seed = number(),
                "--threads" => wanted.threads = (number() as usize).max(1),
                "--again" => wanted.again = Some(value),
                _ => panic!("{name}: not known"),
            }
        }
        wanted
    }
}

/// A row of the matrix, or a part of one: what it is, and its trials, or why there are none.
struct Row {
    number: u32,
    what: &'static str,
    trials: Result<Vec<String>, String>,
}

const KINDS: [&str; 3] = ["checksummed", "classic", "spool"];
const CALLS: &str = "pwrite64,fdatasync,fsync,ftruncate,rename,unlink,openat";

/// Trials for these kinds of work, if this program is installed.
fn with(program: &str, trials: impl Fn(&str) -> Vec<String>) -> Result<Vec<String>, String> {
    if has(program) { Ok(KINDS.into_iter().flat_map(trials).collect()) } else { Err(format!("no {program}")) }
}

/// The same, where file systems can be mounted.
fn mounted(program: &str, trials: impl Fn(&str) -> Vec<String>) -> Result<Vec<String>, String> {
    no_mounts().map_or_else(|| with(program, trials), |why| Err(why.to_owned()))
}

/// Every call of every kind, failing or killed in. In short, all writes and syncs, and some of the others.
fn injected(field: &Field, long: bool, kill: bool) -> Result<Vec<String>, String> {
    if !has("strace") {
        return Err("no strace".to_owned());
    }
    let mut trials = Vec::new();
    for kind in KINDS {
        for (call, made) in calls_of(field, kind, CALLS)? {
            let step = if long || ["pwrite64", "fdatasync"].contains(&&call[..]) { 1 } else { 5 };
            for k in (1..=made.len().min(if long { usize::MAX } else { 120 })).step_by(step) {
                if kill {
                    trials.push(format!("inject {kind} {call} signal=KILL {k}"));
                    continue;
                }
                trials.push(format!("inject {kind} {call} error=EIO {k}"));
                for (n, errno) in
                    ["ENOSPC", "EDQUOT", "EINTR", "EROFS", "EMFILE", "EIO+"].into_iter().enumerate()
                {
                    if long || k % 60 == n * 10 {
                        trials.push(format!("inject {kind} {call} error={errno} {k}"));
                    }
                }
            }
        }
    }
    Ok(trials)
}

fn rows(field: &Field, wanted: &Wanted) -> Vec<Row> {
    let (seed, long) = (wanted.seed, wanted.long);
    let times = |short: u64, more: u64| seed..seed + if long { more } else { short };
    let wants = |number| wanted.row.is_none_or(|row| row == number);
    let none = || Ok(Vec::new());
    let mut rows = Vec::new();
    let mut row = |number, what, trials| rows.push(Row { number, what, trials });

    row(
        5,
        "a system call fails, by strace; quotas (row 10) too",
        if wants(5) { injected(field, long, false) } else { none() },
    );
    row(6, "killed in a system call, by strace", if wants(6) { injected(field, long, true) } else { none() });
    let lies = || {
        with("strace", |kind| match kind {
            "checksummed" => {
                (1..=if long { 150 } else { 20 }).map(|k| format!("lie {kind} {}", 7 * k % 150 + 1)).collect()
            }
            _ => Vec::new(),
        })
    };
    row(7, "a write that is reported done and is not", lies());
    row(
        8,
        "short transfers and interruptions, preloaded",
        with("cc", |kind| times(4, 200).map(|seed| format!("short {kind} {seed}")).collect()),
    );
    row(
        8,
        "short writes at a limit of file sizes",
        with("sh", |kind| {
            (13..if long { 40 } else { 18 })
                .map(|blocks| format!("limit file-size {blocks} {kind}"))
                .collect()
        }),
    );
    row(
        9,
        "a full tmpfs, and room again",
        mounted("sh", |kind| {
            (0..if long { 200 } else { 6 }).map(|n| format!("full tmpfs {kind} {}", 4 * n)).collect()
        }),
    );
    row(
        9,
        "a full ext4, and room again",
        mounted("mkfs.ext4", |kind| {
            (0..if long { 200 } else { 6 }).map(|n| format!("full ext4 {kind} {}", 4 * n)).collect()
        }),
    );
    row(
        11,
        "a device under ext4 that takes no more: syncs fail, and the disk's truth",
        mounted("mkfs.ext4", |kind| {
            times(4, 100).map(|seed| format!("device-full ext4 {kind} {seed}")).collect()
        }),
    );
    row(
        11,
        "the same under xfs",
        if long {
            mounted("mkfs.xfs", |kind| {
                times(1, 30).map(|seed| format!("device-full xfs {kind} {seed}")).collect()
            })
        } else {
            Err("with --long alone".to_owned())
        },
    );
    row(
        12,
        "power cuts on ext4, by FS_IOC_SHUTDOWN",
        mounted("mkfs.ext4", |kind| times(3, 700).map(|seed| format!("cut ext4 {kind} {seed} 5")).collect()),
    );
    row(
        12,
        "an ext4 cut off and mounted again, without a start of the machine",
        mounted("mkfs.ext4", |kind| match kind {
            "spool" => Vec::new(),
            _ => times(2, 100).map(|seed| format!("cut ext4-remounted {kind} {seed} 5")).collect(),
        }),
    );
    row(
        12,
        "power cuts on xfs",
        mounted("mkfs.xfs", |kind| times(1, 150).map(|seed| format!("cut xfs {kind} {seed} 4")).collect()),
    );
    row(
        15,
        "SIGKILL of writers and subscribers that share a log",
        with("sh", |kind| match kind {
            "spool" => Vec::new(),
            _ => times(5, 100).map(|seed| format!("kill {kind} {seed} 50")).collect(),
        }),
    );
    row(
        23,
        "few open files",
        with("sh", |kind| (4..16).map(|n| format!("limit files {n} {kind}")).collect()),
    );
    row(
        23,
        "little memory",
        with("sh", |kind| {
            (0..if long { 60 } else { 4 })
                .map(|n| format!("limit memory {} {kind}", 4000 + 500 * n))
                .collect()
        }),
    );
    row(
        23,
        "lengths of gigabytes in files of kilobytes",
        with("sh", |kind| match kind {
            "spool" => Vec::new(),
            _ => vec![format!("huge {kind}")],
        }),
    );
    row(
        24,
        "read-only mounts, and another user",
        mounted("setpriv", |kind| {
            ["loop", "bind", "user"].into_iter().map(|how| format!("read-only {how} {kind}")).collect()
        }),
    );
    row(25, "a clock that goes back by thirty years", with("faketime", |kind| vec![format!("clock {kind}")]));
    rows.into_iter().filter(|row| wants(row.number)).collect()
}

fn main() -> ExitCode {
    go_apart();
    parts::play_if_told();
    let wanted = Wanted::read();
    let field = Field::in_memory();
    if let Some(words) = &wanted.again {
        let outcome = trial(&field, words);
        println!("{outcome:?}");
        return if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    std::panic::set_hook(Box::new(|_| {}));
    let (mut checks, mut skipped, mut failed) = (0, 0, 0);
    for row in rows(&field, &wanted) {
        let Row { number, what, trials } = row;
        let began = Instant::now();
        match trials {
            Err(why) if why.contains(':') => {
                println!("FAILED: row {number}: {what}: {why}");
                failed += 1;
            }
            Err(why) => {
                println!("SKIPPED: row {number}: {what}: {why}");
                skipped += 1;
            }
            Ok(trials) => {
                let (tally, failures) = all(&field, &trials, wanted.threads);
                let seconds = began.elapsed().as_secs_f32();
                println!(
                    "row {number:>2}  {what}: {} checks, the trouble struck {} times, {seconds:.1} s",
                    tally.checks, tally.struck
                );
                failures.iter().for_each(|failure| println!("FAILED: .ci/faults --again {failure}"));
                // Trouble that never strikes proves nothing.
                if tally.struck == 0 {
                    println!("FAILED: row {number}: it never struck");
                    failed += 1;
                }
                checks += tally.checks;
                failed += failures.len();
            }
        }
    }
    println!("{checks} checks, {skipped} skipped, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Makes these trials, some at a time.
fn all(field: &Field, trials: &[String], threads: usize) -> (Tally, Vec<String>) {
    let next = AtomicUsize::new(0);
    let done: Mutex<(Tally, Vec<String>)> = Mutex::default();
    let work = || {
        while let Some(words) = trials.get(next.fetch_add(1, Ordering::Relaxed)) {
            let outcome = catch_unwind(AssertUnwindSafe(|| trial(field, words)));
            let outcome = outcome.unwrap_or_else(|panic| Err(said(&*panic).replace('\n', " ")));
            let mut done = done.lock().unwrap();
            match outcome {
                Ok(tally) => done.0.add(&tally),
                Err(what) => done.1.push(format!("'{words}' # {what}")),
            }
        }
    };
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    done.into_inner().unwrap()
}
