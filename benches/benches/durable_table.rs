//! The tables of docs/benchmarks.md about records that are acknowledged after a sync, 1 KiB each: how many share a sync,
//! how fast they are, how long one waits. Every way once a round, round after round; medians.
//!
//! `cargo bench -p jlog-benches --bench durable_table` prints them; `-- --quick` does one small round, to see that it runs;
//! `-- --only slow` (or `fast`, `single`, `processes`) prints one.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jlog::{CreateOptions, Log, WriterOptions};
use jlog_benches::disk::BenchDisk;
use jlog_benches::durable::{LogWriter, MESSAGE, Sent, Way, send};
use jlog_benches::{Outcome, median};

const SENDERS: [usize; 5] = [1, 2, 8, 32, 64];
/// What a slowed sync takes.
const SLOW: Duration = Duration::from_millis(2);
/// The first argument of a process that appends to the log of another.
const APPENDER: &str = "--append-to";

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().collect();
    if let [_, first, path, each, slow, ..] = &args[..]
        && first == APPENDER
    {
        return append_to(path.as_ref(), each.parse()?, slow == "slow");
    }
    // Cargo passes `--bench`; `cargo test --benches` passes nothing, and wants to see it run at all.
    let quick = args.iter().any(|arg| arg == "--quick" || arg == "--test") || args.len() < 2;
    let only = args.iter().position(|arg| arg == "--only").and_then(|at| args.get(at + 1));
    let wanted = |name: &str| only.is_none_or(|only| only == name);
    let rounds = if quick { 1 } else { 7 };
    let dir = tempfile::tempdir()?;

    if wanted("slow") {
        slow(dir.path(), rounds, if quick { 20 } else { 150 })?;
    }
    if wanted("fast") {
        fast(dir.path(), rounds, if quick { 200 } else { 4000 })?;
    }
    if wanted("single") {
        single(dir.path(), if quick { 200 } else { 6000 })?;
    }
    if wanted("processes") {
        processes(dir.path(), rounds, if quick { 20 } else { 300 })?;
    }
    Ok(())
}

fn header(first: &str, columns: &[&str]) {
    println!("\n| {first} | {} |\n|{}", columns.join(" | "), "---|".repeat(columns.len() + 1));
}

fn of(runs: &[Sent], what: impl Fn(&Sent) -> f64) -> f64 {
    median(runs.iter().map(what).collect())
}

/// Every way once a round.
fn runs(
    ways: &[Way],
    rounds: usize,
    mut run: impl FnMut(Way) -> Outcome<Sent>,
) -> Outcome<Vec<(Way, Vec<Sent>)>> {
    let mut all: Vec<_> = ways.iter().map(|way| (*way, Vec::new())).collect();
    for _ in 0..rounds {
        for (way, sent) in &mut all {
            sent.push(run(*way)?);
        }
    }
    Ok(all)
}

/// Records a sync, and how long a sender waits, where a sync takes 2 ms.
fn slow(dir: &Path, rounds: usize, each: u64) -> Outcome<()> {
    let ways = [Way::GroupOnZeros, Way::OneSegment];
    println!(
        "\nEvery sync takes 2 ms (and does nothing); {each} records a sender, median of {rounds} rounds"
    );
    header("senders", &["way", "records a sync", "x senders", "wait: median, p99", "records/s"]);
    for senders in SENDERS {
        for (way, mut sent) in runs(&ways, rounds, |way| way.run(dir, senders, each, Some(SLOW)))? {
            let share = of(&sent, |sent| sent.records as f64 / sent.syncs as f64);
            let waits: Vec<[f64; 2]> =
                sent.iter_mut().map(|sent| [50, 99].map(|n| millis(sent.wait(n)))).collect();
            println!(
                "| {senders} | {} | {share:.1} | {:.2} | {:.2}, {:.2} ms | {:.0} |",
                way.name(),
                share / senders as f64,
                median(waits.iter().map(|w| w[0]).collect()),
                median(waits.iter().map(|w| w[1]).collect()),
                of(&sent, |sent| sent.records as f64 / sent.wall.as_secs_f64()),
            );
        }
    }
    Ok(())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Rates on the disk as it is.
fn fast(dir: &Path, rounds: usize, each: u64) -> Outcome<()> {
    println!(
        "\nThe disk's own syncs, median of {rounds} rounds; the ratio is to the first line of so many senders"
    );
    let columns = ["way", "records/s (ratio)", "records a sync", "CPU ns a record", "wait: median, p99"];
    header("senders", &columns);
    for senders in SENDERS {
        // As many as take about as long, whatever the number of senders.
        let each = (each * 2 / (senders as u64 + 1)).max(each / 4);
        let mut ways = vec![Way::GroupOnZeros, Way::GroupGrowing, Way::Checksummed, Way::OneSegment];
        if senders <= 8 {
            ways.push(Way::Classic);
        }
        let mut control = None;
        for (way, mut sent) in runs(&ways, rounds, |way| way.run(dir, senders, each, None))? {
            let rate = of(&sent, |sent| sent.records as f64 / sent.wall.as_secs_f64());
            let waits: Vec<[f64; 2]> =
                sent.iter_mut().map(|sent| [50, 99].map(|n| millis(sent.wait(n)))).collect();
            println!(
                "| {senders} | {} | {rate:.0} ({:.2}) | {:.1} | {:.0} | {:.2}, {:.2} ms |",
                way.name(),
                rate / *control.get_or_insert(rate),
                of(&sent, |sent| sent.records as f64 / sent.syncs as f64),
                of(&sent, |sent| sent.cpu.as_nanos() as f64 / sent.records as f64),
                median(waits.iter().map(|w| w[0]).collect()),
                median(waits.iter().map(|w| w[1]).collect()),
            );
        }
    }
    Ok(())
}

/// How long one durable append takes beside a write and a sync of as many bytes: turn by turn, so that what the disk
/// does at a moment hits both.
fn single(dir: &Path, times: u64) -> Outcome<()> {
    let ways = [Way::WriteAndSync, Way::Checksummed, Way::OneSegment];
    println!(
        "\nOne sender, each way in turn, {times} times: wait for the acknowledgement (ratio to the first line)"
    );
    header("way", &["median", "p90", "p99", "mean"]);
    let place = tempfile::tempdir_in(dir)?;
    let disk = Arc::new(BenchDisk::default());
    let message = vec![b'm'; MESSAGE];
    let mut ready = Vec::new();
    for (number, way) in ways.into_iter().enumerate() {
        let place = place.path().join(number.to_string());
        std::fs::create_dir(&place)?;
        ready.push((way, way.prepare(&disk, &place, times)?, Vec::new()));
    }
    for turn in 0..times as usize {
        // None has always the same one before it.
        ready.rotate_left(1);
        if turn % 2 == 0 {
            ready.reverse();
        }
        for (_, to, waits) in &mut ready {
            let start = Instant::now();
            to.append(&message)?;
            waits.push(start.elapsed());
        }
    }
    ready.sort_by_key(|(way, ..)| ways.iter().position(|w| w == way));
    let mut control: Option<[f64; 4]> = None;
    for (way, _, waits) in ready {
        let mean = waits.iter().sum::<Duration>().as_secs_f64() * 1e6 / waits.len() as f64;
        let mut sent = Sent { records: times, wall: Duration::ZERO, cpu: Duration::ZERO, syncs: 0, waits };
        let now =
            [millis(sent.wait(50)) * 1e3, millis(sent.wait(90)) * 1e3, millis(sent.wait(99)) * 1e3, mean];
        let control = control.get_or_insert(now);
        let cells: Vec<_> =
            now.iter().zip(control).map(|(us, raw)| format!("{us:.0} us ({:.2})", us / *raw)).collect();
        println!("| {} | {} |", way.name(), cells.join(" | "));
    }
    Ok(())
}

/// Several processes, one sender each.
fn processes(dir: &Path, rounds: usize, each: u64) -> Outcome<()> {
    println!("\nShared writers, one sender a process, {each} records each, median of {rounds} rounds");
    header("processes", &["syncs", "records/s", "records a sync", "CPU ns a record"]);
    for (name, slow) in [("the disk's own", false), ("2 ms", true)] {
        for count in [1, 2, 4] {
            let mut seen = Vec::new();
            for _ in 0..rounds {
                seen.push(together(dir, count, each, slow)?);
            }
            println!(
                "| {count} | {name} | {:.0} | {:.2} | {:.0} |",
                of(&seen, |sent| sent.records as f64 / sent.wall.as_secs_f64()),
                of(&seen, |sent| sent.records as f64 / sent.syncs as f64),
                of(&seen, |sent| sent.cpu.as_nanos() as f64 / sent.records as f64),
            );
        }
    }
    Ok(())
}

/// `count` processes append to one log at the same time.
fn together(dir: &Path, count: usize, each: u64, slow: bool) -> Outcome<Sent> {
    let place = tempfile::tempdir_in(dir)?;
    let path = place.path().join("log");
    Log::create_with(&path, &CreateOptions::new())?;
    let mut others = Vec::new();
    for _ in 0..count {
        let mut other = Command::new(std::env::current_exe()?)
            .arg(APPENDER)
            .arg(&path)
            .arg(each.to_string())
            .arg(if slow { "slow" } else { "fast" })
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = other.stdin.take().ok_or("its input is piped")?;
        let output = BufReader::new(other.stdout.take().ok_or("its output is piped")?);
        others.push((other, input, output.lines()));
    }
    for (_, _, lines) in &mut others {
        lines.next().ok_or("a process ended before it was ready")??;
    }
    let start = Instant::now();
    for (_, input, _) in &mut others {
        input.write_all(b"go\n")?;
    }
    let (mut cpu, mut syncs) = (Duration::ZERO, 0);
    for (_, _, lines) in &mut others {
        let line = lines.next().ok_or("a process ended before it was done")??;
        let (nanos, made) = line.split_once(' ').ok_or("CPU time and syncs")?;
        cpu += Duration::from_nanos(nanos.parse()?);
        syncs += made.parse::<u64>()?;
    }
    let wall = start.elapsed();
    for (mut other, input, _) in others {
        drop(input);
        if !other.wait()?.success() {
            return Err("an appending process failed".into());
        }
    }
    Ok(Sent { records: count as u64 * each, wall, cpu, syncs, waits: Vec::new() })
}

/// What such a process does: says that it is ready, waits to be told to begin, and says what it took.
fn append_to(path: &Path, each: u64, slow: bool) -> Outcome<()> {
    let disk = Arc::new(if slow { BenchDisk::with_syncs_of(SLOW) } else { BenchDisk::default() });
    let writer = LogWriter::open(&disk, path, &WriterOptions::new().exclusive(false))?;
    println!("ready");
    std::io::stdin().read_line(&mut String::new())?;
    let sent = send(&writer, &disk, 1, each)?;
    println!("{} {}", sent.cpu.as_nanos(), sent.syncs);
    Ok(())
}
