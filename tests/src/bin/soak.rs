//! For as long as it is told: crash states, histories against a model, images with flipped bits and misdirected writes,
//! processes that are killed, system calls that are refused, power cuts on real file systems; round after round, each
//! with seeds of its own.
//!
//! `soak [--hours N | --minutes N] [--seed S] [--threads N] [--report FILE]`. A failure ends it, with one line that makes
//! the same trial again: `soak --again 'words'`. Ctrl-C ends it with the totals so far. They go to `docs/soak.md`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jlog_tests::crash::{self, Dice};
use jlog_tests::real::parts;
use jlog_tests::real::rows::{Tally, trial};
use jlog_tests::real::trouble::{Field, go_apart, has, no_mounts};
use jlog_tests::{said, spool_model};

struct Wanted {
    time: Duration,
    seed: u64,
    threads: usize,
    report: PathBuf,
    again: Option<String>,
}

impl Wanted {
    fn read() -> Wanted {
        let report = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/soak.md");
        let mut wanted = Wanted { time: Duration::from_secs(3600), seed: 1, threads: 1, report, again: None };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let value = arguments.next().unwrap_or_default();
            let number = || value.parse::<f64>().unwrap_or_else(|_| panic!("{name} wants a number"));
            match name.as_str() {
                "--hours" => wanted.time = Duration::from_secs_f64(number() * 3600.0),
                "--minutes" => wanted.time = Duration::from_secs_f64(number() * 60.0),
                "--seed" => wanted.seed = number() as u64,
                "--threads" => wanted.threads = (number() as usize).max(1),
                "--report" => wanted.report = value.into(),
                "--again" => wanted.again = Some(value),
                _ => panic!("{name}: not known"),
            }
        }
        wanted
    }
}

/// The kinds of trials, and what they count.
const KINDS: [(&str, &str); 9] = [
    (
        "states",
        "crash states of a log: every profile of disk, samples of random histories, recovery cut short",
    ),
    ("spool-states", "crash states of a spool"),
    ("model", "random histories of a log against a list, with failing calls and power cuts"),
    ("rot", "images of a closed log with flipped bits, lost, swapped or doubled blocks"),
    ("astray", "images with a sound record or commit in a place that is not its own"),
    ("kill", "SIGKILLs of writers, subscribers and a repair that share a log"),
    ("inject", "histories with one system call refused, or killed in it, by strace"),
    ("lie", "histories with one write that is reported done and is not"),
    ("cut", "power cuts (FS_IOC_SHUTDOWN) on ext4 and xfs"),
];

/// What is skipped here, and why.
fn skipped() -> Vec<(&'static str, &'static str)> {
    let mut skipped = Vec::new();
    if !has("strace") {
        skipped.extend([("inject", "no strace"), ("lie", "no strace")]);
    }
    if let Some(why) = no_mounts() {
        skipped.push(("cut", why));
    }
    skipped
}

/// The trials of one round.
fn round(seed: u64) -> Vec<String> {
    let mut dice = Dice(seed);
    let mut trials = Vec::new();
    for _ in 0..40 {
        trials.push(format!("states {seed} {}", crash::random_case(&mut dice)));
    }
    for _ in 0..8 {
        trials.push(format!("spool-states {seed} {}", spool_model::random_case(&mut dice)));
    }
    for n in 0..100 {
        let kind = if n % 4 == 0 { "classic" } else { "checksummed" };
        trials.push(format!("model {kind} {}", seed * 1000 + n));
    }
    for n in 0..10 {
        trials.push(format!("rot {} 2000", seed * 1000 + n));
        trials.push(format!("astray {} 1000", seed * 1000 + n));
    }
    let kind = |dice: &mut Dice| ["checksummed", "classic", "spool"][dice.below(3)];
    for _ in 0..24 {
        let call = ["pwrite64", "fdatasync", "pwrite64", "fsync", "ftruncate", "openat", "rename", "unlink"];
        let errors = ["EIO", "EIO", "ENOSPC", "EDQUOT", "EINTR", "EROFS", "EMFILE"];
        let call = call[dice.below(call.len())];
        let what = match dice.below(2) {
            0 => "signal=KILL".to_owned(),
            _ => format!("error={}", errors[dice.below(errors.len())]),
        };
        trials.push(format!("inject {} {call} {what} {}", kind(&mut dice), 1 + dice.below(120)));
    }
    trials.push(format!("lie checksummed {}", 1 + dice.below(100)));
    let shared = ["checksummed", "classic"][dice.below(2)];
    trials.push(format!("kill {shared} {seed} 40"));
    for _ in 0..2 {
        trials.push(format!("cut ext4 {} {seed} 4", kind(&mut dice)));
    }
    if dice.below(4) == 0 && has("mkfs.xfs") {
        trials.push(format!("cut xfs {} {seed} 4", kind(&mut dice)));
    }
    trials
}

/// What was done so far.
#[derive(Default)]
struct Totals {
    kinds: BTreeMap<String, (Tally, Duration)>,
    rounds: u64,
    failure: Option<String>,
}

fn main() -> ExitCode {
    go_apart();
    parts::play_if_told();
    let wanted = Wanted::read();
    let field = Field::in_memory();
    if let Some(words) = &wanted.again {
        return match trial(&field, words) {
            Ok(tally) => {
                println!("{} checks, nothing wrong", tally.checks);
                ExitCode::SUCCESS
            }
            Err(what) => failed(words, &what),
        };
    }
    // A failure is told of once, in one line.
    std::panic::set_hook(Box::new(|_| {}));
    let start = Instant::now();
    let totals = soak(&wanted, &field, start);
    let took = start.elapsed();
    fs::write(&wanted.report, report(&wanted, &totals, took)).unwrap();
    println!("{}", table(&totals));
    match totals.failure {
        Some(failure) => {
            println!("{failure}");
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}

fn failed(words: &str, what: &str) -> ExitCode {
    println!("{}", line_of(words, what));
    ExitCode::FAILURE
}

/// The one line.
fn line_of(words: &str, what: &str) -> String {
    format!("FAILED: cargo run --release -p jlog-tests --bin soak -- --again '{words}' # {what}")
}

fn soak(wanted: &Wanted, field: &Field, start: Instant) -> Totals {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).unwrap();
    }
    let skipped = skipped();
    for (kind, why) in &skipped {
        println!("SKIPPED: {kind}: {why}");
    }
    let totals = Mutex::new(Totals::default());
    // The trials of the round that is under way, the next one last.
    let waiting: Mutex<Vec<String>> = Mutex::default();
    let next = || {
        let mut waiting = waiting.lock().unwrap();
        while waiting.is_empty() {
            let mut totals = totals.lock().unwrap();
            if totals.rounds > 0 && totals.rounds.is_multiple_of(10) {
                println!("{} rounds, {}", totals.rounds, in_a_line(&totals));
            }
            totals.rounds += 1;
            *waiting = round(wanted.seed * 1_000_000 + totals.rounds);
            waiting.retain(|words| !skipped.iter().any(|(kind, _)| words.starts_with(&format!("{kind} "))));
            waiting.reverse();
        }
        waiting.pop().unwrap()
    };
    let work = || {
        while !stop.load(Ordering::Relaxed) && start.elapsed() < wanted.time {
            let words = next();
            let began = Instant::now();
            let outcome = catch_unwind(AssertUnwindSafe(|| trial(field, &words)));
            let outcome = outcome.unwrap_or_else(|panic| Err(said(&*panic).replace('\n', " ")));
            let mut totals = totals.lock().unwrap();
            match outcome {
                Ok(tally) => {
                    let kind = words.split(' ').next().unwrap().to_owned();
                    let of_kind = totals.kinds.entry(kind).or_default();
                    of_kind.0.add(&tally);
                    of_kind.1 += began.elapsed();
                }
                Err(what) => {
                    totals.failure.get_or_insert(line_of(&words, &what));
                    stop.store(true, Ordering::Relaxed);
                }
            }
        }
    };
    std::thread::scope(|scope| (0..wanted.threads).for_each(|_| drop(scope.spawn(work))));
    totals.into_inner().unwrap()
}

fn in_a_line(totals: &Totals) -> String {
    let counts = KINDS.iter().filter_map(|(kind, _)| Some((kind, totals.kinds.get(*kind)?)));
    let counts: Vec<_> = counts.map(|(kind, (tally, _))| format!("{} {kind}", tally.checks)).collect();
    format!("{}; {} MiB", counts.join(", "), resident())
}

/// The memory of this process, in MiB.
fn resident() -> u64 {
    let text = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4 / 1024
}

fn table(totals: &Totals) -> String {
    let mut text = String::from(
        "| kind | checks | the trouble struck in | seconds | what |\n|---|---:|---:|---:|---|\n",
    );
    for (kind, what) in KINDS {
        let Some((tally, took)) = totals.kinds.get(kind) else { continue };
        let Tally { checks, struck, .. } = tally;
        writeln!(text, "| {kind} | {checks} | {struck} | {} | {what} |", took.as_secs()).unwrap();
    }
    text
}

fn told(command: &str, arguments: &[&str]) -> String {
    let output = Command::new(command).args(arguments).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

/// Every run in a row of its own, and the last one in full.
fn report(wanted: &Wanted, totals: &Totals, took: Duration) -> String {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let mut commit = told("git", &["-C", root, "rev-parse", "--short=12", "HEAD"]);
    if !told("git", &["-C", root, "status", "--porcelain", "--", ".", ":!docs/soak.md"]).is_empty() {
        commit.push_str(" and changes");
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu =
        cpu.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split(": ").nth(1));
    let kernel = told("uname", &["-sr"]);
    let temporary = std::env::temp_dir();
    let disk = told("stat", &["-f", "-c", "%T", temporary.to_str().unwrap()]);
    let seconds = took.as_secs();
    let outcome = totals.failure.as_deref().unwrap_or("nothing failed");
    let checks: Vec<_> = KINDS
        .iter()
        .filter_map(|(kind, _)| Some(format!("{} {kind}", totals.kinds.get(*kind)?.0.checks)))
        .collect();
    let first = wanted.seed * 1_000_000 + 1;
    let seeds = format!("{first}..={}", wanted.seed * 1_000_000 + totals.rounds);

    let mut text = String::from(
        "# Soak\n\nWhat `cargo run --release -p jlog-tests --bin soak -- --hours N --seed S` has looked at; it writes this page. \
         What the\nkinds are is in the last table; where they stand in the matrix, in [proof.md](proof.md).\n\n## Runs\n\n\
         | date | commit | seeds | minutes | threads | checks | outcome |\n|---|---|---|---:|---:|---|---|\n",
    );
    writeln!(
        text,
        "| {} | {commit} | {seeds} | {} | {} | {} | {outcome} |",
        told("date", &["-u", "+%F"]),
        seconds / 60,
        wanted.threads,
        checks.join(", ")
    )
    .unwrap();
    let before = fs::read_to_string(&wanted.report).unwrap_or_default();
    // Rows that begin with a date.
    let is_run = |line: &&str| line.starts_with("| 20") && line.as_bytes().get(6) == Some(&b'-');
    before.lines().filter(is_run).for_each(|line| writeln!(text, "{line}").unwrap());
    write!(text, "\n## The last run\n\n").unwrap();
    let hardware = cpu.unwrap_or("an unknown processor");
    writeln!(text, "{cores} cores ({hardware}), {kernel}, other processes' files in memory and on {disk};")
        .unwrap();
    writeln!(text, "{seconds} seconds, {} rounds, {} MiB of memory at the end.", totals.rounds, resident())
        .unwrap();
    for (kind, why) in skipped() {
        writeln!(text, "\nSKIPPED: {kind}: {why}").unwrap();
    }
    write!(text, "\n{}", table(totals)).unwrap();
    let total: u64 = totals.kinds.values().map(|(tally, _)| tally.checks).sum();
    writeln!(
        text,
        "\n{total} checks in all. None failing in n independent ones bounds the rate at 3/n (95 %)."
    )
    .unwrap();
    write!(text, "\nWhat the crash states have met:\n\n| times | in a | what |\n|---:|---|---|\n").unwrap();
    for kind in ["states", "spool-states"] {
        for (what, count) in totals.kinds.get(kind).into_iter().flat_map(|(tally, _)| &tally.met) {
            if !["crash states", "moments"].contains(what) {
                let log = kind.strip_suffix("-states").unwrap_or("log");
                writeln!(text, "| {count} | {log} | {what} |").unwrap();
            }
        }
    }
    text
}
