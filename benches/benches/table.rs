//! The tables of docs/benchmarks.md: every way once a round, round after round, so that a busy moment hits all alike;
//! medians, and their ratio to the raw control of the same run.
//!
//! `cargo bench -p jlog-benches --bench table` prints it; `-- --quick` does one small round, to see that it runs,
//! `-- --reads` leaves out appending.

use std::time::Duration;

use jlog::{CreateOptions, Durability, WriterOptions};
use jlog_benches::{
    APPENDS, CHECKED_READS, CLASSIC_READS, Outcome, Shape, log_to_read, median, system_calls,
};

const SIZES: [usize; 3] = [100, 1024, 16 * 1024];

fn main() -> Outcome<()> {
    // Cargo passes `--bench`; `cargo test --benches` passes nothing, and wants to see it run at all.
    let quick = std::env::args().any(|arg| arg == "--quick" || arg == "--test") || std::env::args().len() < 2;
    let (rounds, bytes) = if quick { (1, 1 << 20) } else { (7, 192 << 20) };
    let dir = tempfile::tempdir()?;

    let appends = !std::env::args().any(|arg| arg == "--reads");
    println!("CPU ns a message, median of {rounds} rounds (ratio to the first line)\n");
    if appends {
        header("append");
        let ways: Vec<_> =
            APPENDS.iter().map(|(name, durability, way)| (format!("{name} [{durability}]"), *way)).collect();
        rows(&ways, rounds, |way, size| {
            let count = count(size, bytes);
            Ok((way(dir.path(), count, size)?, count))
        })?;
        println!();
    }

    let logs = [
        ("read: classic", Shape::Classic, CLASSIC_READS),
        ("read: checksummed, appended one by one", Shape::Single, CHECKED_READS),
        ("read: checksummed, appended in batches of 64 KiB", Shape::Batches, CHECKED_READS),
    ];
    for (name, shape, ways) in logs {
        header(name);
        let place = tempfile::tempdir_in(dir.path())?;
        let logs = SIZES.map(|size| place.path().join(size.to_string()));
        for (log, size) in logs.iter().zip(SIZES) {
            log_to_read(log, count(size, bytes / 4), size, shape)?;
        }
        let ways: Vec<_> = ways.iter().map(|(name, way)| ((*name).to_owned(), *way)).collect();
        rows(&ways, rounds, |way, size| {
            let count = count(size, bytes / 4);
            Ok((way(&place.path().join(size.to_string()), count)?, count))
        })?;
        println!();
    }

    let messages = 16 * 1024;
    println!(
        "system calls a message, {messages} messages of 1 KiB, segments of 4 MiB, acknowledged: process\n"
    );
    println!("| way | calls a message | syncs |\n|---|---|---|");
    let (classic, owner) = (CreateOptions::classic(), WriterOptions::new().exclusive(true));
    let checksummed = CreateOptions::new().durability(Durability::Process);
    let shared = WriterOptions::new().exclusive(false);
    for (name, format, options) in [
        ("checksummed, owner", &checksummed, &owner),
        ("checksummed, shared", &checksummed, &shared),
        ("classic, exclusive", &classic, &owner),
        ("classic, shared", &classic, &shared),
        ("classic, exclusive, 1 MiB pre_commit", &classic, &WriterOptions::new().buffer(1 << 20)),
    ] {
        let (calls, syncs) = system_calls(dir.path(), messages, 1024, format, options)?;
        println!("| {name} | {:.3} | {syncs} |", calls as f64 / messages as f64);
    }
    Ok(())
}

fn count(size: usize, bytes: usize) -> u64 {
    // The time of small messages goes with their number, not with their bytes.
    (bytes / size.max(256)) as u64
}

fn header(what: &str) {
    println!("| {what} | 100 B | 1 KiB | 16 KiB |\n|---|---|---|---|");
}

fn rows<W: Copy>(
    ways: &[(String, W)],
    rounds: usize,
    run: impl Fn(W, usize) -> Outcome<(Duration, u64)>,
) -> Outcome<()> {
    let mut times = vec![vec![Vec::new(); SIZES.len()]; ways.len()];
    for _ in 0..rounds {
        for (row, (_, way)) in times.iter_mut().zip(ways) {
            for (cell, size) in row.iter_mut().zip(SIZES) {
                let (spent, count) = run(*way, size)?;
                cell.push(spent.as_nanos() as f64 / count as f64);
            }
        }
    }
    let medians: Vec<Vec<f64>> = times.into_iter().map(|row| row.into_iter().map(median).collect()).collect();
    for ((name, _), row) in ways.iter().zip(&medians) {
        let cells = row.iter().zip(&medians[0]).map(|(ns, control)| format!("{ns:.0} ({:.2})", ns / control));
        println!("| {name} | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
    Ok(())
}
