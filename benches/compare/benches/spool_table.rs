//! The tables of docs/benchmarks.md about the spool, beside other ways to hold messages: accepting durably, loading,
//! removing, opening. Every way once a round, round after round; medians. Ratios are to the raw control of the same run.
//!
//! `cargo bench -p jlog-compare --features peers` prints them; `-- --quick` does one small round, to see that it runs;
//! `-- --only accept` (or `keep`, `open`) prints some; `--rounds N` is how often; `--messages N` is how many messages are
//! there to open; `--dir D` measures on another file system than that of `target/`. Some ten minutes on a quiet disk.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use jlog_benches::durable::Sent;
use jlog_benches::{Outcome, median};
use jlog_compare::{CACHE, META, Plan, Row, measure};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};

const SENDERS: [usize; 3] = [1, 8, 64];
/// How many are removed with one acknowledgement.
const AT_A_TIME: usize = 1000;
/// The first argument of a process that opens what is there, and says what it took.
const OPENER: &str = "--opens";

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().collect();
    if let [_, first, row, dir, messages, ..] = &args[..]
        && first == OPENER
    {
        let plan = Plan { messages: messages.parse()?, body: BODY };
        let opened = measure::open(Row::KEEP[row.parse::<usize>()?], dir.as_ref(), plan)?;
        println!("{} {}", opened.wall.as_nanos(), opened.memory);
        return Ok(());
    }
    let option = |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1));
    // Cargo passes `--bench`; `cargo test --benches` passes nothing, and wants to see it run at all.
    let quick = args.iter().any(|arg| arg == "--quick" || arg == "--test") || args.len() < 2;
    let wanted = |name: &str| option("--only").is_none_or(|only| only == name);

    let place = option("--dir").map_or(PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    std::fs::create_dir_all(&place)?;
    if !quick && statfs(&place)?.filesystem_type() == TMPFS_MAGIC {
        return Err(format!("{} lies in memory, where a sync costs nothing: --dir", place.display()).into());
    }
    let dir = tempfile::tempdir_in(place)?;
    let number = |name: &str, otherwise| option(name).map_or(Ok(otherwise), |n| n.parse::<usize>());
    let rounds = |usual: usize| number("--rounds", if quick { 1 } else { usual });

    if wanted("accept") {
        let [few, more, many] = if quick { [20, 40, 100] } else { [2000, 8000, 16_000] };
        accept(dir.path(), BODY, rounds(5)?, [few, more, many])?;
        accept(dir.path(), 32 << 10, rounds(5)?, [few / 2, more / 2, many / 2])?;
    }
    if wanted("keep") {
        keep(dir.path(), rounds(3)?, if quick { 100 } else { 10_000 })?;
    }
    if wanted("open") {
        let messages = number("--messages", if quick { 100 } else { 100_000 })?;
        open(dir.path(), rounds(3)?, messages as u64)?;
    }
    Ok(())
}

/// The bytes of a body where nothing else is said.
const BODY: usize = 4096;

fn header(first: &str, columns: &[&str]) {
    println!("\n| {first} | {} |\n|{}", columns.join(" | "), "---|".repeat(columns.len() + 1));
}

fn rate(sent: &Sent) -> f64 {
    sent.records as f64 / sent.wall.as_secs_f64()
}

fn cpu(sent: &Sent) -> f64 {
    sent.cpu.as_nanos() as f64 / 1e3 / sent.records as f64
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// One way, with so many senders: its runs, and the bytes on disk a message after each.
#[derive(Default, Clone)]
struct Runs {
    sent: Vec<Sent>,
    disk: Vec<f64>,
}

impl Runs {
    fn of(&self, what: impl Fn(&Sent) -> f64) -> f64 {
        median(self.sent.iter().map(what).collect())
    }

    fn wait(&self, hundredths: usize) -> f64 {
        self.of(|sent| millis(sent.clone().wait(hundredths)))
    }
}

fn accept(dir: &Path, body: usize, rounds: usize, messages: [u64; 3]) -> Outcome<()> {
    let mut all = vec![<[Runs; 3]>::default(); Row::ACCEPT.len()];
    for (column, (senders, messages)) in SENDERS.into_iter().zip(messages).enumerate() {
        for _ in 0..rounds {
            for (row, runs) in Row::ACCEPT.iter().zip(&mut all) {
                measure::settle(dir)?;
                let (plan, place) = (Plan { messages, body }, tempfile::tempdir_in(dir)?);
                let store = row.open(place.path(), plan)?;
                runs[column].sent.push(measure::accept(&*store, plan, senders)?);
                drop(store);
                runs[column].disk.push(measure::disk_usage(place.path())? as f64 / messages as f64);
            }
        }
    }

    println!(
        "\nAccepted, on the disk before the acknowledgement: {body} bytes of body, {META} of metadata; {messages:?} \
         messages from {SENDERS:?} senders, median of {rounds} rounds (ratio to the first line)"
    );
    table("accepts/s", &all, |runs, control| ratio(runs.of(rate), control.of(rate), 0));
    table("wait, ms: median, p99", &all, |runs, _| format!("{:.2}, {:.2}", runs.wait(50), runs.wait(99)));
    table("CPU us a message", &all, |runs, control| ratio(runs.of(cpu), control.of(cpu), 1));
    table("syncs a message", &all, |runs, _| {
        format!("{:.3}", runs.of(|sent| sent.syncs as f64 / sent.records as f64))
    });
    table("bytes on disk a message", &all, |runs, _| format!("{:.0}", median(runs.disk.clone())));
    Ok(())
}

/// A line a way, a column for each number of senders.
fn table(what: &str, all: &[[Runs; 3]], cell: impl Fn(&Runs, &Runs) -> String) {
    header(what, &["1 sender", "8", "64"]);
    for (row, runs) in Row::ACCEPT.iter().zip(all) {
        let cells: Vec<_> = runs.iter().zip(&all[0]).map(|(runs, control)| cell(runs, control)).collect();
        println!("| {} | {} |", row.name(), cells.join(" | "));
    }
}

fn ratio(value: f64, control: f64, digits: usize) -> String {
    format!("{value:.digits$} ({:.2})", value / control)
}

/// Loading by id and removing, after an open, everything in the page cache.
fn keep(dir: &Path, rounds: usize, messages: u64) -> Outcome<()> {
    let plan = Plan { messages, body: BODY };
    let mut all = vec![<[Vec<f64>; 3]>::default(); Row::KEEP.len()];
    for _ in 0..rounds {
        for (row, [one, eight, removed]) in Row::KEEP.iter().zip(&mut all) {
            measure::settle(dir)?;
            let place = tempfile::tempdir_in(dir)?;
            measure::accept(&*row.open(place.path(), plan)?, plan, 64)?;
            let mut store = row.open(place.path(), plan)?;
            store.index()?;
            // What each keeps in memory, it has now.
            measure::load(&*store, plan, 1)?;
            one.push(measure::load(&*store, plan, 1)?);
            eight.push(measure::load(&*store, plan, 8)?);
            removed.push(measure::remove(&*store, plan, AT_A_TIME)?);
        }
    }
    println!(
        "\n{messages} messages, {BODY} bytes of body: loads by id at random, warm; removals, durable every {AT_A_TIME}; \
         median of {rounds} rounds (ratio to the first line)"
    );
    print_ratios(Row::KEEP, &["loads/s, 1 thread", "8 threads", "removals/s"], &all);
    Ok(())
}

/// Opening what is there, each time in a process of its own; made anew every round, because the first open of some tidies
/// up for the next.
fn open(dir: &Path, rounds: usize, messages: u64) -> Outcome<()> {
    let plan = Plan { messages, body: BODY };
    let mut all = vec![<[Vec<f64>; 3]>::default(); Row::KEEP.len()];
    for _ in 0..rounds {
        for (number, (row, [cold, warm, memory])) in Row::KEEP.iter().zip(&mut all).enumerate() {
            let place = tempfile::tempdir_in(dir)?;
            measure::accept(&*row.open(place.path(), plan)?, plan, 64)?;
            measure::drop_caches(place.path())?;
            let (rate, bytes) = opened(number, place.path(), messages)?;
            cold.push(rate);
            memory.push(bytes);
            warm.push(opened(number, place.path(), messages)?.0);
        }
    }
    println!(
        "\n{messages} messages, {BODY} bytes of body: opening until the id and time of each is in memory; cold: no file of \
         it in the page cache, its names and inodes still there; a database's cache at most {CACHE} bytes; median of \
         {rounds} rounds (ratio to the first line)"
    );
    print_ratios(Row::KEEP, &["entries/s, cold", "again", "bytes of memory a message, cold"], &all);
    Ok(())
}

/// Messages a second, and bytes of memory a message.
fn opened(number: usize, dir: &Path, messages: u64) -> Outcome<(f64, f64)> {
    let mut opener = Command::new(std::env::current_exe()?);
    opener.args([OPENER, &number.to_string()]).arg(dir).arg(messages.to_string());
    let output = opener.stderr(Stdio::inherit()).output()?;
    let said = String::from_utf8(output.stdout)?;
    let (nanos, memory) = said.trim().split_once(' ').ok_or("an opening process failed")?;
    Ok((messages as f64 * 1e9 / nanos.parse::<f64>()?, memory.parse::<f64>()? / messages as f64))
}

fn print_ratios(rows: &[Row], columns: &[&str], all: &[[Vec<f64>; 3]]) {
    header("way", columns);
    for (row, runs) in rows.iter().zip(all) {
        let cells: Vec<_> = runs
            .iter()
            .zip(&all[0])
            .map(|(runs, control)| ratio(median(runs.clone()), median(control.clone()), 0))
            .collect();
        println!("| {} | {} |", row.name(), cells.join(" | "));
    }
}
