//! The tables of docs/tables.md: what the same damage, and the same I/O errors, come to, and what a record costs.
//!
//! ```sh
//! cargo run --release -p jlog-tests --bin tables -- damage [--libjlog DRIVER] [--jlogctl JLOGCTL]
//! cargo run --release -p jlog-tests --bin tables -- errors [--libjlog DRIVER]
//! cargo run --release -p jlog-tests --bin tables -- cost [--libjlog DRIVER]
//! ```
//!
//! `cost`, and libjlog's errors, need strace. `JLOGCTL` is libjlog's tool, for its repair.
//!
//! `DRIVER` is a program over libjlog: `DRIVER drain DIR SUBSCRIBER 0` reads all that is unread and prints for each
//! message a line `msg SEGMENT:MARKER SECONDS MICROS LENGTH CRC32 ...`; `DRIVER write DIR COUNT SIZE FIRST` writes
//! messages and, with `CDRV_ACK=1`, prints `ack N` behind each; a fifth argument is the size of a pre_commit buffer.
//! `CDRV_SINGLE=1` tells it that nobody else has the log open, `CDRV_PREAD=1` not to map segments. It ends with 2 where
//! libjlog reports an error.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a measuring tool: what does not hold ends it")]

#[path = "tables/cost.rs"]
mod cost;

use std::collections::BTreeMap;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jlog::inspect::inspect;
use jlog::io::sim::{Op, SimDisk, Times};
use jlog::repair;
use jlog::{CreateOptions, Durability, ErrorKind, Format, Log, OnDamage, Start, Subscriber, WriterOptions};
use jlog_tests::{Scratch, at, copy_dir};
use nix::libc::{EACCES, EDQUOT, EFBIG, EINTR, EIO, EMFILE, ENOLCK, ENOSPC};

const LOGS: u64 = 500;
const MESSAGES: u32 = 60;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| {
        let at = args.iter().position(|arg| arg == name);
        at.and_then(|n| args.get(n + 1)).map(String::as_str)
    };
    let driver = option("--libjlog");
    let words: Vec<_> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["damage", ..] => damage(driver, option("--jlogctl")),
        ["errors", ..] => errors(driver),
        ["cost", ..] => cost::table(driver),
        // What `cost` looks at, in a process of its own.
        ["work", way, dir, count] => cost::work(way, Path::new(dir), count.parse().unwrap()),
        _ => {
            eprintln!("tables damage|errors|cost [--libjlog DRIVER] [--jlogctl JLOGCTL]");
            std::process::exit(2);
        }
    }
}

/// A number less than `sides`, from a state that moves on: splitmix64.
fn dice(state: &mut u64, sides: u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) % sides
}

fn message(n: u32) -> Vec<u8> {
    let mut message = format!("{n}:").into_bytes();
    let mut state = u64::from(n);
    let len = 20 + dice(&mut state, 150) as usize;
    while message.len() < len {
        message.push(b'a' + dice(&mut state, 26) as u8);
    }
    message
}

fn subscriber() -> Subscriber {
    Subscriber::new("s").unwrap()
}

fn build(path: &Path, format: Format) {
    let log = Log::create_with(path, &CreateOptions::new().format(format).segment_size(1200)).unwrap();
    log.add_subscriber(&subscriber(), Start::Begin).unwrap();
    let writer = log.writer().unwrap();
    for n in 0..MESSAGES {
        writer.append(&message(n), at(n)).unwrap();
    }
    writer.close().unwrap();
    if format == Format::Classic {
        // As libjlog's own readers leave it.
        for segment in log.segments().unwrap() {
            log.build_index(segment).unwrap();
        }
    }
}

/// One harm, the same for the same seed, to one of the log's segments or small files.
fn harm(dir: &Path, seed: u64) -> &'static str {
    let mut state = seed;
    let mut names: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    let segments: Vec<_> = names.iter().filter(|name| name.len() == 8 && *name != "metastore").collect();
    // Most of a log are its segments; one harm in five goes to the other files.
    let small = dice(&mut state, 5) == 0;
    let pick = |state: &mut u64| {
        if small {
            names[dice(state, names.len() as u64) as usize].clone()
        } else {
            segments[dice(state, segments.len() as u64) as usize].clone()
        }
    };
    let path = dir.join(pick(&mut state));
    let mut bytes = std::fs::read(&path).unwrap();
    // What is preallocated and empty is not worth harming.
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    if used == 0 {
        return "nothing";
    }
    let place = dice(&mut state, used as u64) as usize;
    let what = match dice(&mut state, 6) {
        0 | 1 => {
            bytes[place] ^= 1 << dice(&mut state, 8);
            "a flipped bit"
        }
        2 => {
            let end = (place + 1 + dice(&mut state, 64) as usize).min(used);
            for byte in &mut bytes[place..end] {
                *byte = dice(&mut state, 256) as u8;
            }
            "random bytes"
        }
        3 => {
            let from = place / 512 * 512;
            let end = (from + 512).min(used);
            bytes[from..end].fill(0);
            "a sector of zeros"
        }
        4 => {
            bytes.truncate(place);
            "cut short"
        }
        _ => {
            std::fs::remove_file(&path).unwrap();
            return "a file gone";
        }
    };
    std::fs::write(&path, bytes).unwrap();
    what
}

/// What a reader made of a damaged log.
#[derive(Default)]
struct Outcome {
    right: u32,
    wrong: u32,
    told: bool,
    hang: bool,
    crash: bool,
}

#[derive(Default)]
struct Row {
    logs: u32,
    right: u64,
    wrong: u64,
    logs_with_wrong: u32,
    silent: u32,
    hangs: u32,
    crashes: u32,
}

impl Row {
    fn add(&mut self, outcome: &Outcome) {
        self.logs += 1;
        self.right += u64::from(outcome.right);
        self.wrong += u64::from(outcome.wrong);
        self.logs_with_wrong += u32::from(outcome.wrong > 0);
        let short = outcome.right < MESSAGES && outcome.wrong == 0;
        self.silent += u32::from(short && !outcome.told && !outcome.hang && !outcome.crash);
        self.hangs += u32::from(outcome.hang);
        self.crashes += u32::from(outcome.crash);
    }

    fn print(&self, name: &str) {
        let all = u64::from(self.logs) * u64::from(MESSAGES);
        println!(
            "| {name} | {} | {} ({:.2} %) | {} in {} logs | {} | {} | {} |",
            self.logs,
            self.right,
            self.right as f64 * 100.0 / all as f64,
            self.wrong,
            self.logs_with_wrong,
            self.silent,
            self.hangs,
            self.crashes,
        );
    }
}

fn damage(driver: Option<&str>, jlogctl: Option<&str>) {
    std::panic::set_hook(Box::new(|_| {}));
    println!(
        "| engine and format | logs | messages delivered right | delivered wrong | lost without a word | hangs | crashes |"
    );
    println!("|---|---|---|---|---|---|---|");
    for format in [Format::Checksummed, Format::Classic] {
        let sound = Scratch::new();
        build(&sound.path(), format);
        let [mut ours, mut theirs, mut mended, mut theirs_mended] = [(); 4].map(|()| Row::default());
        let mut kinds = BTreeMap::<_, u32>::new();
        for seed in 0..LOGS {
            let scratch = Scratch::new();
            copy_dir(&sound.path(), &scratch.path());
            *kinds.entry(harm(&scratch.path(), seed)).or_default() += 1;
            if let Some(driver) = driver.filter(|_| format == Format::Classic) {
                let copy = Scratch::new();
                copy_dir(&scratch.path(), &copy.path());
                theirs.add(&read_by_libjlog(driver, &copy.path()));
                if let Some(jlogctl) = jlogctl {
                    let copy = Scratch::new();
                    copy_dir(&scratch.path(), &copy.path());
                    theirs_mended.add(&mend_by_libjlog(jlogctl, driver, &copy.path()));
                }
            }
            ours.add(&read_by_us(&scratch.path()));
            mended.add(&mend_by_us(&scratch.path()));
        }
        ours.print(&format!("this engine, {format}"));
        mended.print(&format!("this engine, {format}, repaired first"));
        if driver.is_some() && format == Format::Classic {
            theirs.print("libjlog, classic");
            if jlogctl.is_some() {
                theirs_mended.print("libjlog, classic, after `jlogctl repair -f`");
            }
        }
        eprintln!("{format}: {kinds:?}");
    }
}

fn read_by_us(path: &Path) -> Outcome {
    let mut outcome = Outcome::default();
    let read = catch_unwind(AssertUnwindSafe(|| read_on(path, &mut outcome)));
    match read {
        Err(_) => outcome.crash = true,
        Ok(Err(_)) => outcome.told = true,
        Ok(Ok(())) => {}
    }
    outcome
}

/// Reads what `jlog-repair -y` leaves. That it had something to do is told.
fn mend_by_us(path: &Path) -> Outcome {
    let repair = || -> jlog::Result<bool> {
        let log = Log::open(path)?;
        let plan = repair::plan(&log, &inspect(&log)?, &repair::Options::default())?;
        let told = !plan.is_empty() || !plan.left.is_empty();
        drop(repair::apply(&log, &plan, "repair")?);
        Ok(told)
    };
    match catch_unwind(AssertUnwindSafe(repair)) {
        Err(_) => Outcome { crash: true, ..Outcome::default() },
        Ok(repaired) => {
            let mut outcome = read_by_us(path);
            outcome.told |= repaired.unwrap_or(true);
            outcome
        }
    }
}

/// Reads what `jlogctl repair -f` leaves. Its exit code says nothing; what it prints of errors does.
fn mend_by_libjlog(jlogctl: &str, driver: &str, path: &Path) -> Outcome {
    let command = "exec \"$0\" repair -j \"$1\" -f 2>&1";
    let (text, code, hang) = run(Command::new("sh").args(["-c", command, jlogctl]).arg(path));
    let mut outcome = read_by_libjlog(driver, path);
    outcome.hang |= hang;
    outcome.crash |= !hang && code.is_none_or(|code| code > 128);
    outcome.told |= text.contains("error") || text.contains("REPAIR");
    outcome
}

fn read_on(path: &Path, outcome: &mut Outcome) -> jlog::Result<()> {
    let log = Log::open(path)?;
    let mut seen = vec![false; MESSAGES as usize];
    outcome.told |= log.metastore_problem().is_some();
    match log.reader(&subscriber()) {
        Ok(mut reader) => {
            reader.on_damage(OnDamage::Skip);
            for _ in 0..10 * MESSAGES {
                let Some(record) = reader.next_record()? else {
                    outcome.told |= reader.gaps() > 0;
                    return Ok(());
                };
                outcome.told |= record.doubtful;
                tell_apart(outcome, &mut seen, record.payload);
            }
        }
        Err(_) => {
            // The checkpoint is lost, and that is told: what can be read is read all the same.
            outcome.told = true;
            let mut cursor = log.cursor()?;
            cursor.on_damage(OnDamage::Skip);
            for _ in 0..10 * MESSAGES {
                let Some(record) = cursor.next_record()? else { return Ok(()) };
                tell_apart(outcome, &mut seen, record.payload);
            }
        }
    }
    outcome.hang = true;
    Ok(())
}

fn tell_apart(outcome: &mut Outcome, seen: &mut [bool], payload: &[u8]) {
    let digits = payload.split(|byte| *byte == b':').next().unwrap_or_default();
    let n = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u32>().ok());
    match n.filter(|n| *n < MESSAGES && message(*n) == payload) {
        Some(n) if !seen[n as usize] => {
            seen[n as usize] = true;
            outcome.right += 1;
        }
        _ => outcome.wrong += 1,
    }
}

/// Runs a driver of libjlog, which is ended after five seconds: it may wait for ever.
fn run(command: &mut Command) -> (String, Option<i32>, bool) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut output = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // A reader that never ends may print for ever.
        let _ = output.by_ref().take(16 << 20).read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if start.elapsed() > Duration::from_secs(5) {
            child.kill().unwrap();
            child.wait().unwrap();
            break None;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let text = reader.join().unwrap();
    (text, status.and_then(|status| status.code()), status.is_none())
}

fn read_by_libjlog(driver: &str, path: &Path) -> Outcome {
    let (text, code, hang) = run(Command::new(driver).arg("drain").arg(path).args(["s", "0"]));
    let mut outcome = Outcome { hang, ..Outcome::default() };
    outcome.crash = !hang && code.is_none();
    outcome.told = code.is_some_and(|code| code != 0);
    let sums: BTreeMap<(usize, u32), u32> = (0..MESSAGES)
        .map(|n| (message(n), n))
        .map(|(message, n)| ((message.len(), crc32fast::hash(&message)), n))
        .collect();
    let mut seen = vec![false; MESSAGES as usize];
    for line in text.lines().filter(|line| line.starts_with("msg ")) {
        let words: Vec<_> = line.split(' ').collect();
        let len = words.get(4).and_then(|word| word.parse().ok());
        let sum = words.get(5).and_then(|word| u32::from_str_radix(word, 16).ok());
        match len.zip(sum).and_then(|key| sums.get(&key)) {
            Some(n) if !seen[*n as usize] => {
                seen[*n as usize] = true;
                outcome.right += 1;
            }
            _ => outcome.wrong += 1,
        }
    }
    outcome
}

/// What one failing call of the disk, at each place of a run, came to.
#[derive(Default)]
struct Errors {
    runs: u32,
    told: u32,
    /// What the first call that told of it said.
    as_what: BTreeMap<String, u32>,
    lost: u32,
    wrong: u32,
    acknowledged_after_failed_sync: u32,
    stuck: u32,
    crashes: u32,
}

impl Errors {
    fn print(&self, name: &str, fault: &str) {
        let as_what: Vec<_> = self.as_what.iter().map(|(what, runs)| format!("{what} {runs}")).collect();
        println!(
            "| {name} | {fault} | {} | {} | {} | {} | {} | {} | {} | {} |",
            self.runs,
            self.told,
            as_what.join(", "),
            self.lost,
            self.wrong,
            self.acknowledged_after_failed_sync,
            self.stuck,
            self.crashes
        );
    }
}

fn errors(driver: Option<&str>) {
    std::panic::set_hook(Box::new(|_| {}));
    println!(
        "| engine and format | one fault | runs | runs in which a call told of it | as what | acknowledged and lost | delivered wrong | acknowledged after a failed sync | hangs | crashes |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for format in [Format::Checksummed, Format::Classic] {
        for (fault, ops, errno) in [
            ("EIO of a write", &[Op::Pwrite, Op::Pwritev][..], EIO),
            ("ENOSPC of a write", &[Op::Pwrite, Op::Pwritev], ENOSPC),
            ("EDQUOT of a write", &[Op::Pwrite, Op::Pwritev], EDQUOT),
            ("EFBIG of a write", &[Op::Pwrite, Op::Pwritev], EFBIG),
            ("EINTR of a write", &[Op::Pwrite, Op::Pwritev], EINTR),
            ("EIO of a sync", &[Op::Sync], EIO),
            ("ENOSPC of a sync", &[Op::Sync], ENOSPC),
            ("EINTR of a sync", &[Op::Sync], EINTR),
            ("EIO of a directory's sync", &[Op::SyncDir], EIO),
            ("EIO of a truncation", &[Op::Truncate], EIO),
            ("EIO of a read", &[Op::Pread], EIO),
            ("EINTR of a read", &[Op::Pread], EINTR),
            ("ENOSPC of an open", &[Op::Open], ENOSPC),
            ("EMFILE of an open", &[Op::Open], EMFILE),
            ("EACCES of an open", &[Op::Open], EACCES),
            ("ENOLCK of a lock", &[Op::Lock], ENOLCK),
            ("EIO of a rename", &[Op::Rename], EIO),
            ("EIO of a removal", &[Op::Remove], EIO),
        ] {
            let row = one_fault_each(format, ops, errno);
            if row.runs > 0 {
                row.print(&format!("this engine, {format}"), fault);
            }
        }
    }
    if let Some(driver) = driver {
        for (fault, call, errno) in [
            ("EIO of a write", "pwrite64,pwritev", "EIO"),
            ("ENOSPC of a write", "pwrite64,pwritev", "ENOSPC"),
            ("EIO of a sync", "fsync,fdatasync", "EIO"),
        ] {
            libjlog_faults(driver, call, errno).print("libjlog, classic, safe", fault);
        }
    }
}

/// Eight messages, synced, then a power cut; one call of a kind fails, each in turn.
fn one_fault_each(format: Format, ops: &[Op], errno: i32) -> Errors {
    let mut row = Errors::default();
    let calm = SimDisk::new(1);
    scenario(&calm, format);
    for (op, n) in ops.iter().flat_map(|op| (0..calm.calls(*op)).map(|n| (*op, n))) {
        let disk = SimDisk::new(1);
        disk.fail_call(op, n, errno, Times::Once);
        row.runs += 1;
        let Ok((acknowledged, told, late)) = catch_unwind(AssertUnwindSafe(|| scenario(&disk, format)))
        else {
            row.crashes += 1;
            continue;
        };
        row.told += u32::from(told.is_some());
        if let Some(kind) = told {
            *row.as_what.entry(format!("{kind:?}")).or_default() += 1;
        }
        row.acknowledged_after_failed_sync +=
            u32::from(late && op == Op::Sync && errno != EINTR && format == Format::Checksummed);
        let cut = Arc::new(disk.power_cut());
        let found = catch_unwind(AssertUnwindSafe(|| after_cut(&cut)));
        let Ok(found) = found else {
            row.crashes += 1;
            continue;
        };
        row.wrong += found.iter().filter(|(n, payload)| message(**n) != **payload).count() as u32;
        row.lost += acknowledged.iter().filter(|n| !found.contains_key(n)).count() as u32;
    }
    row
}

/// Returns which messages were acknowledged, what the first call that failed said, and whether the same writer acknowledged anything
/// after one of its syncs had failed.
fn scenario(disk: &SimDisk, format: Format) -> (Vec<u32>, Option<ErrorKind>, bool) {
    let options = CreateOptions::new().format(format).segment_size(400);
    let (mut acknowledged, mut told, mut late) = (Vec::new(), None, false);
    let log = match Log::create_on(Arc::new(disk.clone()), "/log", &options) {
        Ok(log) => log,
        Err(error) => return (acknowledged, Some(error.kind()), late),
    };
    let synced = WriterOptions::new().durability(Durability::Sync);
    for round in 0..2 {
        let writer = match log.writer_with(&synced) {
            Ok(writer) => writer,
            Err(error) => {
                told = told.or(Some(error.kind()));
                continue;
            }
        };
        let mut failed = false;
        for n in 4 * round..4 * round + 4 {
            match writer.append(&message(n), at(n)) {
                Ok(_) => {
                    late |= failed;
                    acknowledged.push(n);
                }
                Err(error) => {
                    told = told.or(Some(error.kind()));
                    // Want of space is no failed sync: appending goes on when it has passed.
                    failed |= error.kind() != ErrorKind::NoSpace;
                }
            }
        }
        told = told.or(writer.close().err().map(|error| error.kind()));
    }
    (acknowledged, told, late)
}

fn after_cut(disk: &Arc<SimDisk>) -> BTreeMap<u32, Vec<u8>> {
    let mut found = BTreeMap::new();
    let Ok(log) = Log::open_on(Arc::<SimDisk>::clone(disk), "/log") else { return found };
    let _ = log.writer().map(jlog::Writer::close);
    let Ok(mut cursor) = log.cursor() else { return found };
    cursor.on_damage(OnDamage::Skip);
    while let Ok(Some(record)) = cursor.next_record() {
        let digits = String::from_utf8_lossy(record.payload).split(':').next().unwrap_or_default().to_owned();
        found.insert(digits.parse().unwrap_or(u32::MAX), record.payload.to_vec());
    }
    found
}

/// libjlog's writer under strace, each write (or sync) failing in turn; then its reader. Needs strace.
fn libjlog_faults(driver: &str, call: &str, errno: &str) -> Errors {
    let mut row = Errors::default();
    for k in 1..=40 {
        let scratch = Scratch::new();
        let options = CreateOptions::classic().segment_size(400).safety(jlog::Safety::Safe);
        let log = Log::create_with(scratch.path(), &options).unwrap();
        log.add_subscriber(&subscriber(), Start::Begin).unwrap();
        let inject = format!("inject={call}:error={errno}:when={k}");
        let mut traced = Command::new("strace");
        traced
            .args(["-f", "-qq", "-o", "/dev/null", "-e"])
            .arg(format!("trace={call}"))
            .args(["-e", &inject]);
        traced.arg(driver).arg("write").arg(scratch.path()).args(["12", "100", "0"]).env("CDRV_ACK", "1");
        let (text, code, hang) = run(&mut traced);
        row.runs += 1;
        row.stuck += u32::from(hang);
        row.crashes += u32::from(!hang && code.is_none());
        row.told += u32::from(code.is_some_and(|code| code != 0));
        // `error CALL NUMBER NAME errno=N`
        if let Some(name) = text.lines().find_map(|line| line.strip_prefix("error ")?.split(' ').nth(2)) {
            *row.as_what.entry(name.to_owned()).or_default() += 1;
        }
        let acknowledged = text.lines().filter(|line| line.starts_with("ack ")).count() as u32;
        let (text, _, hang) = run(Command::new(driver).arg("drain").arg(scratch.path()).args(["s", "0"]));
        row.stuck += u32::from(hang);
        let messages: Vec<_> = text.lines().filter(|line| line.starts_with("msg ")).collect();
        let whole = messages.iter().filter(|line| line.split(' ').nth(4) == Some("100")).count() as u32;
        row.wrong += messages.len() as u32 - whole;
        row.lost += acknowledged.saturating_sub(whole);
    }
    row
}
