//! The C interface beside the Rust API: the same work from C and from Rust, way after way, round after round; CPU time a
//! message, medians, and the ratio to the Rust API's first way. Classic logs, `Durability::Process`, libjlog's default.
//!
//! `cargo bench -p jlog-benches --bench capi` builds `libjlog.so` and a C program (with `cc`); `-- --quick` does one small
//! round; `-- --libjlog FILE` runs that C program against the C library's own shared object as well.

use std::fs;
use std::hint::black_box;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use jlog::{CreateOptions, Log, Start, Subscriber, Timestamp, WriterOptions};
use jlog_benches::{Outcome, Shape, cpu_time, log_to_read, median, sum};

const SIZES: [usize; 3] = [100, 1024, 16 * 1024];

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().collect();
    let quick = args.iter().any(|arg| arg == "--quick" || arg == "--test") || args.len() < 2;
    let libjlog = args.iter().position(|arg| arg == "--libjlog").and_then(|at| args.get(at + 1));
    let (rounds, bytes) = if quick { (1, 1 << 20) } else { (9, 48 << 20) };

    let dir = tempfile::tempdir()?;
    let program = build(dir.path())?;
    let mut libraries = vec![("C interface", library(dir.path(), "ours", &engine()?)?)];
    if let Some(file) = libjlog {
        libraries.push(("libjlog", library(dir.path(), "libjlog", Path::new(file))?));
    }

    println!("CPU ns a message, median of {rounds} rounds (ratio to the Rust API's)\n");
    for (what, rust, ways) in [
        ("append", &[("one by one", append as Rust)][..], &["append"][..]),
        ("append, 1 MiB pre_commit", &[("one by one", append_buffered)], &["append-buffered"]),
        (
            "read, a checkpoint behind each segment",
            &[("an interval at a time", read_intervals), ("record by record", read)],
            &["read", "bulk"],
        ),
    ] {
        println!("| {what} | 100 B | 1 KiB | 16 KiB |\n|---|---|---|---|");
        let mut rows: Vec<_> =
            rust.iter().map(|(way, _)| (format!("Rust API, {way}"), vec![Vec::new(); SIZES.len()])).collect();
        for (name, _) in &libraries {
            rows.extend(ways.iter().map(|way| (format!("{name}, {way}"), vec![Vec::new(); SIZES.len()])));
        }
        for _ in 0..rounds {
            for (column, size) in SIZES.into_iter().enumerate() {
                let count = (bytes / size.max(256)) as u64;
                let mut took = Vec::new();
                for (_, way) in rust {
                    took.push(way(&fresh(dir.path(), what, size, count)?, count, size)?);
                }
                for (_, library) in &libraries {
                    for way in ways {
                        took.push(from_c(
                            &program,
                            library,
                            way,
                            &fresh(dir.path(), what, size, count)?,
                            count,
                            size,
                        )?);
                    }
                }
                for ((_, row), took) in rows.iter_mut().zip(took) {
                    row[column].push(took.as_nanos() as f64 / count as f64);
                }
            }
        }
        let medians: Vec<Vec<f64>> =
            rows.iter().map(|(_, row)| row.iter().cloned().map(median).collect()).collect();
        for ((name, _), row) in rows.iter().zip(&medians) {
            let cell = |(ns, rust): (&f64, &f64)| format!("{ns:.0} ({:.2})", ns / rust);
            let cells: Vec<_> = row.iter().zip(&medians[0]).map(cell).collect();
            println!("| {name} | {} |", cells.join(" | "));
        }
        println!();
    }
    Ok(())
}

/// What is measured from Rust: the CPU time it took.
type Rust = fn(log: &Path, count: u64, size: usize) -> Outcome<Duration>;

fn append(log: &Path, count: u64, size: usize) -> Outcome<Duration> {
    append_with(log, count, size, &WriterOptions::new())
}

fn append_buffered(log: &Path, count: u64, size: usize) -> Outcome<Duration> {
    append_with(log, count, size, &WriterOptions::new().buffer(1 << 20).exclusive(false))
}

fn append_with(log: &Path, count: u64, size: usize, options: &WriterOptions) -> Outcome<Duration> {
    let message: Vec<u8> = (0..size).map(|n| b'a' + (n % 23) as u8).collect();
    Log::create_with(log, &CreateOptions::classic())?;
    let start = cpu_time();
    let writer = Log::open(log)?.writer_with(options)?;
    for n in 0..count {
        writer.append(&message, Timestamp::new(1_700_000_000, n as u32 & 0xF_FFFF))?;
    }
    writer.close()?;
    Ok(cpu_time() - start)
}

/// As programs of the C interface read: what there is of a segment is found out, read, and done with.
fn read_intervals(log: &Path, count: u64, _: usize) -> Outcome<Duration> {
    let start = cpu_time();
    let mut reader = Log::open(log)?.reader(&Subscriber::new("bench")?)?;
    let mut read = 0;
    while let Some(interval) = reader.interval()? {
        read += u64::from(reader.read_bulk(interval.first, interval.last, |record| {
            black_box(sum(record.payload));
            Ok(())
        })?);
        reader.checkpoint(interval.last)?;
    }
    require(read == count)?;
    Ok(cpu_time() - start)
}

/// The plainest way there is in Rust, without finding out beforehand what there is.
fn read(log: &Path, count: u64, _: usize) -> Outcome<Duration> {
    let start = cpu_time();
    let mut reader = Log::open(log)?.reader(&Subscriber::new("bench")?)?;
    let (mut read, mut segment) = (0, None);
    while let Some(record) = reader.next_record()? {
        let id = record.id;
        black_box(sum(record.payload));
        read += 1;
        if segment.replace(id.segment).is_some_and(|before| before != id.segment) {
            reader.commit()?;
        }
    }
    reader.commit()?;
    require(read == count)?;
    Ok(cpu_time() - start)
}

fn require(all_were_read: bool) -> Outcome<()> {
    if all_were_read { Ok(()) } else { Err("not every message was read".into()) }
}

/// A log to read, or the place for one to append to.
fn fresh(dir: &Path, what: &str, size: usize, count: u64) -> Outcome<PathBuf> {
    let place = dir.join("log");
    if place.exists() {
        fs::remove_dir_all(&place)?;
    }
    if what.starts_with("read") {
        log_to_read(&place, count, size, Shape::Classic)?;
        // libjlog's readers delete what all have read; who else is to find it?
        Log::open(&place)?.add_subscriber(&Subscriber::new("keeper")?, Start::Begin)?;
    }
    Ok(place)
}

/// The engine's shared library, built now.
fn engine() -> Outcome<PathBuf> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let built = Command::new(cargo).args(["build", "--quiet", "--release", "-p", "jlog-capi"]).status()?;
    if !built.success() {
        return Err("libjlog.so cannot be built".into());
    }
    // A bench lies in target/release/deps.
    let here = std::env::current_exe()?;
    let release = here.ancestors().find(|dir| dir.ends_with("release")).ok_or("no target/release")?;
    Ok(release.join("libjlog.so"))
}

/// A directory in which the loader finds this library under the name that programs ask for.
fn library(dir: &Path, name: &str, file: &Path) -> Outcome<PathBuf> {
    let place = dir.join(name);
    fs::create_dir(&place)?;
    symlink(fs::canonicalize(file)?, place.join("libjlog.so.2"))?;
    Ok(place)
}

/// The C program, linked against the interface: against a name, whichever library bears it.
fn build(dir: &Path) -> Outcome<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = dir.join("ways");
    symlink(engine()?, dir.join("libjlog.so"))?;
    let built = Command::new("cc")
        .args(["-O2", "-D_GNU_SOURCE", "-I"])
        .arg(root.join("../jlog/capi/include"))
        .arg(root.join("capi/ways.c"))
        .arg("-o")
        .arg(&program)
        .arg("-L")
        .arg(dir)
        .arg("-ljlog")
        .status()?;
    if built.success() { Ok(program) } else { Err("the C program cannot be built".into()) }
}

fn from_c(
    program: &Path,
    library: &Path,
    way: &str,
    log: &Path,
    count: u64,
    size: usize,
) -> Outcome<Duration> {
    let (count, size) = (count.to_string(), size.to_string());
    let run = Command::new(program)
        .env("LD_LIBRARY_PATH", library)
        .arg(way)
        .arg(log)
        .args([count, size])
        .output()?;
    if !run.status.success() {
        return Err(format!("{way}: {}", String::from_utf8_lossy(&run.stderr)).into());
    }
    Ok(Duration::from_nanos(String::from_utf8(run.stdout)?.trim().parse()?))
}
