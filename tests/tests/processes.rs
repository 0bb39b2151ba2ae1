//! Several processes on one log: writers, readers that follow, writers that are killed, and a neighbour that writes
//! as libjlog does.
//!
//! The other processes are this test binary, started again with the one test [`another_process`], which plays the
//! part named in its environment. They tell what they did, line by line, over their standard output; closing their
//! standard input tells them to come to an end. Nothing here waits for time to pass.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{env, fs, thread};

use jlog::inspect::{buffered, inspect};
use jlog::{CreateOptions, Cursor, Durability, Log, Order, Recovery, WriterOptions};
use jlog_tests::{MAGIC, Scratch, Seen, at, plain_record, read_all};
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

const PART: &str = "JLOG_TEST_PART";
const LOG: &str = "JLOG_TEST_LOG";
const NAME: &str = "JLOG_TEST_NAME";
const COUNT: &str = "JLOG_TEST_COUNT";

/// What writer `name` writes as its `n`-th message: told apart by its beginning, and different bytes each time. A
/// heavy writer's are long, so that a kill often strikes in the middle of a write; a light one's are short, all of them.
fn message(name: &str, n: u32) -> Vec<u8> {
    let mut message = format!("{name}:{n}:").into_bytes();
    let mut dice =
        Dice(message.iter().fold(n, |state, byte| state.wrapping_mul(31).wrapping_add(u32::from(*byte))));
    let len = match (name.starts_with("heavy"), name.starts_with("light"), n % 7) {
        (true, ..) => dice.below(60_000) * 8,
        (false, false, 3) => dice.below(20_000),
        (false, ..) => dice.below(100),
    };
    let block: Vec<_> = (0..61).map(|_| dice.below(256) as u8).collect();
    while message.len() < len as usize {
        message.extend_from_slice(&block);
    }
    message
}

/// Numbers that look random and are the same each time.
struct Dice(u32);

impl Dice {
    fn below(&mut self, sides: u32) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 16) % sides
    }
}

/// Who wrote a message, and as which; a message that nobody wrote like this is a failure.
fn author(payload: &[u8]) -> (String, u32) {
    let mut parts = payload.splitn(3, |byte| *byte == b':');
    let mut part = || String::from_utf8(parts.next().unwrap().to_vec()).unwrap();
    let (name, n) = (part(), part().parse().unwrap());
    assert!(payload == message(&name, n), "a message that {name} never wrote");
    (name, n)
}

// The other processes.

struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(part: &str, log: &Path, name: &str, count: u32) -> Process {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "another_process", "--nocapture", "--test-threads=1"])
            .env(PART, part)
            .env(LOG, log)
            .env(NAME, name)
            .env(COUNT, count.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        Process { child, input, output }
    }

    /// The next thing it tells: what it did, and what came of it. The test harness writes to the same output, and its
    /// words may share a line with ours.
    fn told(&mut self) -> Option<(u32, String)> {
        loop {
            let line = self.output.next()?.unwrap();
            let Some((_, told)) = line.split_once('@') else { continue };
            // A killed process may have told half of it.
            let Some(told) = told.strip_suffix(';') else { continue };
            let (n, what) = told.split_once(' ').unwrap();
            return Some((n.parse().unwrap(), what.to_owned()));
        }
    }

    fn all_told(&mut self) -> Vec<(u32, String)> {
        std::iter::from_fn(|| self.told()).collect()
    }

    fn finished(mut self) -> Vec<(u32, String)> {
        drop(self.input.take());
        let told = self.all_told();
        assert!(self.child.wait().unwrap().success());
        told
    }

    /// Kills it, and returns what it had told by then.
    fn killed(mut self) -> Vec<(u32, String)> {
        self.child.kill().unwrap();
        self.all_told()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn another_process() {
    let Ok(part) = env::var(PART) else { return };
    let path = PathBuf::from(env::var(LOG).unwrap());
    let name = env::var(NAME).unwrap();
    let count: u32 = env::var(COUNT).unwrap().parse().unwrap();
    match &part[..] {
        "writer" => write(&path, &WriterOptions::new().exclusive(false), &name, count),
        "owner" => write(&path, &WriterOptions::new().exclusive(true), &name, count),
        "sharing buffered writer" => {
            write(&path, &WriterOptions::new().buffer(30_000).exclusive(false), &name, count);
        }
        "buffered writer" => write(&path, &WriterOptions::new().buffer(30_000), &name, count),
        "burst" => burst(&path, &name, count),
        "keeper" => {
            // Killed long before its time is up.
            let keeps = WriterOptions::new().exclusive(false).linger(Duration::from_secs(3600));
            write(&path, &keeps, &name, count);
        }
        "follower" => follow(&Log::open(path).unwrap()),
        "libjlog" => {
            let mut neighbour = Neighbour::open(&path);
            for n in 0..count {
                neighbour.write(&message(&name, n), n);
                tell(n, "written");
            }
        }
        _ => panic!("{part}?"),
    }
}

fn write(path: &Path, options: &WriterOptions, name: &str, count: u32) {
    let writer = Log::open(path).unwrap().writer_with(options).unwrap();
    for n in 0..count {
        let id = writer.append(&message(name, n), at(n)).unwrap();
        tell(n, &id.to_string());
    }
    writer.close().unwrap();
}

/// Appends as fast as it can: so many, and on until the standard input is closed. Tells only how many they were, and
/// once, that it has begun.
fn burst(path: &Path, name: &str, count: u32) {
    let end = at_the_end_of_input();
    let writer = Log::open(path).unwrap().writer().unwrap();
    let mut n = 0;
    while n < count || !end.load(Ordering::SeqCst) {
        writer.append(&message(name, n), at(n)).unwrap();
        n += 1;
        if n == 100 {
            tell(0, "begun");
        }
    }
    writer.close().unwrap();
    tell(n, "written");
}

/// Becomes true when the standard input is closed.
fn at_the_end_of_input() -> Arc<AtomicBool> {
    let end = Arc::new(AtomicBool::new(false));
    thread::spawn({
        let end = Arc::clone(&end);
        move || {
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            end.store(true, Ordering::SeqCst);
        }
    });
    end
}

/// Tells of every record as it is seen, until there is nothing more and the standard input is closed.
fn follow(log: &Log) {
    let end = at_the_end_of_input();
    let mut cursor = log.cursor().unwrap();
    for n in 0.. {
        let Some(seen) = next(&mut cursor, &end) else { return };
        let (name, which) = author(&seen.payload);
        tell(n, &format!("{} {name} {which}", seen.id));
    }
}

/// The next record; `None` if the end was told of before the cursor was at its own.
fn next(cursor: &mut Cursor, end: &AtomicBool) -> Option<Seen> {
    loop {
        let last = end.load(Ordering::SeqCst);
        if let Some(record) = cursor.next_record().unwrap() {
            return Some(record.into());
        }
        if last {
            return None;
        }
        thread::yield_now();
    }
}

/// One line in one write: a kill leaves all of it or nothing.
fn tell(n: u32, what: &str) {
    std::io::stdout().write_all(format!("@{n} {what};\n").as_bytes()).unwrap();
}

/// A process that writes as libjlog 2.6.0 does: POSIX locks of whole files, the lock let go before the log is moved
/// on to the next segment, no look at how the segment ends.
struct Neighbour {
    dir: PathBuf,
    metastore: fs::File,
    data: Option<(u32, fs::File)>,
}

impl Neighbour {
    fn open(dir: &Path) -> Neighbour {
        let metastore = open_to_write(&dir.join("metastore"), false);
        Neighbour { dir: dir.to_owned(), metastore, data: None }
    }

    fn write(&mut self, message: &[u8], n: u32) {
        let record = plain_record(Order::native(), MAGIC, at(n), message);
        loop {
            let (id, data) = match self.data.take() {
                Some(open) => open,
                None => self.open_active(),
            };
            lock(&data, libc::F_WRLCK);
            let size = data.metadata().unwrap().len();
            let limit = u64::from(self.metastore_word(4));
            if size < limit {
                data.write_all_at(&record, size).unwrap();
            }
            lock(&data, libc::F_UNLCK);
            if size + record.len() as u64 >= limit {
                data.sync_all().unwrap();
                drop(data);
                self.advance(id);
            } else {
                self.data = Some((id, data));
            }
            if size < limit {
                return;
            }
        }
    }

    fn open_active(&self) -> (u32, fs::File) {
        lock(&self.metastore, libc::F_WRLCK);
        let id = self.metastore_word(0);
        let data = open_to_write(&self.dir.join(format!("{id:08x}")), true);
        lock(&self.metastore, libc::F_UNLCK);
        (id, data)
    }

    fn advance(&self, from: u32) {
        lock(&self.metastore, libc::F_WRLCK);
        if self.metastore_word(0) == from {
            open_to_write(&self.dir.join(format!("{:08x}", from + 1)), true);
            self.metastore.write_all_at(&(from + 1).to_ne_bytes(), 0).unwrap();
        }
        lock(&self.metastore, libc::F_UNLCK);
    }

    fn metastore_word(&self, offset: u64) -> u32 {
        let mut word = [0; 4];
        self.metastore.read_exact_at(&mut word, offset).unwrap();
        u32::from_ne_bytes(word)
    }
}

fn open_to_write(path: &Path, create: bool) -> fs::File {
    fs::OpenOptions::new().read(true).write(true).create(create).truncate(false).open(path).unwrap()
}

fn lock(file: &fs::File, kind: i32) {
    let whole =
        libc::flock { l_type: kind as i16, l_whence: libc::SEEK_SET as i16, l_start: 0, l_len: 0, l_pid: 0 };
    fcntl(file, FcntlArg::F_SETLKW(&whole)).unwrap();
}

// What must hold.

fn new_log(segment_size: u32) -> Scratch {
    log_as(CreateOptions::classic(), segment_size)
}

fn log_as(options: CreateOptions, segment_size: u32) -> Scratch {
    let scratch = Scratch::new();
    Log::create_with(scratch.path(), &options.segment_size(segment_size)).unwrap();
    scratch
}

/// A log of each format, and a checksummed one that acknowledges before it syncs.
fn all_kinds() -> [CreateOptions; 3] {
    let new = CreateOptions::new;
    [CreateOptions::classic(), new(), new().durability(Durability::Process)]
}

/// The records of a log, by writer: each writer's must be there once, in the order it wrote them.
fn by_writer(records: &[Seen]) -> BTreeMap<String, Vec<(u32, String)>> {
    let mut writers = BTreeMap::<_, Vec<_>>::new();
    for record in records {
        let (name, n) = author(&record.payload);
        assert_eq!(record.time, at(n));
        let earlier = writers.entry(name.clone()).or_default();
        assert!(
            earlier.last().is_none_or(|(before, _)| *before < n),
            "{name} wrote {n} once, and in its turn"
        );
        earlier.push((n, record.id.to_string()));
    }
    writers
}

fn assert_sound(scratch: &Scratch) {
    let seen = inspect(&scratch.open()).unwrap();
    assert!(seen.problems().next().is_none(), "{:#?}", seen.findings);
}

#[test]
fn writers_at_the_same_time_lose_nothing_and_followers_see_every_record_once_in_order() {
    for kind in all_kinds() {
        writers_at_the_same_time(&log_as(kind, 20_000));
    }
}

fn writers_at_the_same_time(scratch: &Scratch) {
    const WRITERS: [&str; 4] = ["a", "b", "c", "d"];
    const COUNT: u32 = 150;
    let followers: Vec<_> = (0..2).map(|_| Process::start("follower", &scratch.path(), "", 0)).collect();
    let writers = WRITERS.map(|name| (name, Process::start("writer", &scratch.path(), name, COUNT)));
    let acknowledged: BTreeMap<_, _> =
        writers.into_iter().map(|(name, writer)| (name.to_owned(), writer.finished())).collect();

    let records = read_all(&scratch.open()).records;
    assert_eq!(records.len(), WRITERS.len() * COUNT as usize);
    assert!(by_writer(&records) == acknowledged, "each record has the id that its writer was told");
    assert_sound(scratch);

    let log: Vec<_> = records.iter().map(|r| (r.id, author(&r.payload))).collect();
    let log: Vec<_> = log.iter().map(|(id, (name, n))| format!("{id} {name} {n}")).collect();
    for follower in followers {
        let seen: Vec<_> = follower.finished().into_iter().map(|(_, seen)| seen).collect();
        assert!(seen == log, "a follower saw {} of {} records, or in another order", seen.len(), log.len());
    }
}

#[test]
fn a_neighbour_that_writes_as_libjlog_does_loses_nothing_and_costs_nothing() {
    let scratch = new_log(10_000);
    const COUNT: u32 = 150;
    let parts = [("a", "writer"), ("b", "libjlog"), ("c", "writer"), ("d", "libjlog")];
    let follower = Process::start("follower", &scratch.path(), "", 0);
    let running = parts.map(|(name, part)| (name, part, Process::start(part, &scratch.path(), name, COUNT)));
    let told = running.map(|(name, part, process)| (name, part, process.finished()));

    let records = read_all(&scratch.open()).records;
    let written = by_writer(&records);
    for (name, part, told) in told {
        assert_eq!(written[name].len(), COUNT as usize, "{part} {name}");
        assert_eq!(told.len(), COUNT as usize);
        assert!(part == "libjlog" || written[name] == told, "{name}: the ids that it was told");
    }
    assert_eq!(records.len(), parts.len() * COUNT as usize);
    assert_eq!(follower.finished().len(), records.len());
    assert_sound(&scratch);
}

const NO_END: u32 = u32::MAX;

#[test]
fn what_a_killed_writer_had_acknowledged_is_there_and_others_go_on() {
    for kind in all_kinds() {
        killed_writers(&log_as(kind, 3_000_000));
    }
}

fn killed_writers(scratch: &Scratch) {
    let mut dice = Dice(7);
    let mut acknowledged = BTreeMap::new();
    let end = Arc::new(AtomicBool::new(false));
    let follower = thread::spawn({
        let (log, end) = (scratch.open(), Arc::clone(&end));
        move || {
            let mut cursor = log.cursor().unwrap();
            std::iter::from_fn(|| next(&mut cursor, &end)).collect::<Vec<_>>()
        }
    });

    // One is killed while the other writes; that goes on, and is killed in the next round.
    let mut old = (String::from("heavy0"), Process::start("writer", &scratch.path(), "heavy0", NO_END));
    for round in 1..=40 {
        let name = format!("heavy{round}");
        let new = Process::start("writer", &scratch.path(), &name, NO_END);
        let (name_of_old, mut killed) = std::mem::replace(&mut old, (name, new));
        let mut told = Vec::new();
        for _ in 0..=dice.below(20) {
            told.push(killed.told().unwrap());
        }
        told.extend(killed.killed());
        acknowledged.insert(name_of_old, told);
    }
    acknowledged.insert(old.0, old.1.killed());

    let writer = scratch.open().writer().unwrap();
    let last = writer.append(&message("last", 0), at(0)).unwrap();
    writer.close().unwrap();
    acknowledged.insert("last".to_owned(), vec![(0, last.to_string())]);
    end.store(true, Ordering::SeqCst);

    let records = read_all(&scratch.open()).records;
    let written = by_writer(&records);
    for (name, told) in &acknowledged {
        let of_it = written.get(name).map_or(&[][..], Vec::as_slice);
        assert!(of_it.starts_with(told), "writer {name} was told {told:?}, and the log has {of_it:?}");
        // At most one was in the log and not yet acknowledged.
        assert!(of_it.len() <= told.len() + 1, "writer {name}");
    }
    assert_sound(scratch);
    let followed = follower.join().unwrap();
    assert!(followed == records, "the follower saw {} of {} records", followed.len(), records.len());
}

#[test]
fn owners_that_are_killed_one_after_another_leave_what_they_had_acknowledged() {
    for kind in all_kinds() {
        let scratch = log_as(kind, 1_000_000);
        let mut dice = Dice(13);
        let mut acknowledged = BTreeMap::new();
        for round in 0..12 {
            let name = format!("heavy{round}");
            let mut owner = Process::start("owner", &scratch.path(), &name, NO_END);
            let mut told = Vec::new();
            for _ in 0..=dice.below(20) {
                told.push(owner.told().unwrap());
            }
            told.extend(owner.killed());
            acknowledged.insert(name, told);
        }
        scratch.open().writer().unwrap().close().unwrap();
        let records = read_all(&scratch.open()).records;
        let written = by_writer(&records);
        for (name, told) in &acknowledged {
            let of_it = written.get(name).map_or(&[][..], Vec::as_slice);
            assert!(of_it.starts_with(told), "writer {name} was told {told:?}, and the log has {of_it:?}");
            assert!(of_it.len() <= told.len() + 1, "writer {name}");
        }
        assert_sound(&scratch);
    }
}

#[test]
fn beside_a_buffer_that_is_shared_others_append_directly_and_nothing_is_lost_or_comes_twice() {
    const COUNT: u32 = 300;
    let scratch = new_log(50_000);
    let parts = [("a", "writer"), ("b", "sharing buffered writer"), ("c", "libjlog"), ("d", "writer")];
    let running = parts.map(|(name, part)| (name, Process::start(part, &scratch.path(), name, COUNT)));
    for (name, process) in running {
        assert_eq!(process.finished().len(), COUNT as usize, "{name}");
    }
    let records = read_all(&scratch.open()).records;
    let by_writer = by_writer(&records);
    assert!(parts.iter().all(|(name, _)| by_writer[*name].len() == COUNT as usize));
    assert_eq!(records.len(), parts.len() * COUNT as usize);
    assert!(buffered(&scratch.open()).unwrap().is_empty());
    assert_sound(&scratch);
}

#[test]
fn what_is_in_the_buffer_survives_the_death_of_its_writer() {
    for part in ["buffered writer", "sharing buffered writer"] {
        killed_with_a_buffer(part, &new_log(100_000));
    }
}

fn killed_with_a_buffer(part: &str, scratch: &Scratch) {
    let mut dice = Dice(11);
    let mut flushed = 0;
    for round in 0..15 {
        let name = format!("r{round}");
        let mut writer = Process::start(part, &scratch.path(), &name, NO_END);
        let mut told = Vec::new();
        for _ in 0..=dice.below(100) {
            told.push(writer.told().unwrap());
        }
        told.extend(writer.killed());

        let log = scratch.open();
        let waiting = buffered(&log).unwrap();
        let mut there: BTreeSet<_> =
            read_all(&log).records.iter().map(|record| author(&record.payload)).collect();
        there.extend(waiting.iter().map(|record| author(&record.payload)));
        for (n, _) in &told {
            assert!(there.contains(&(name.clone(), *n)), "round {round}: message {n} was acknowledged");
        }

        let Recovery { flushed: moved, .. } = log.writer().unwrap().recovery();
        assert_eq!(moved as usize, waiting.len());
        flushed += moved;
        let records = read_all(&log).records;
        let end = &records[records.len() - waiting.len()..];
        assert!(end.iter().zip(&waiting).all(|(record, waiting)| record.payload == waiting.payload));
        assert!(told.iter().all(|(n, _)| records.iter().any(|r| r.payload == message(&name, *n))));
    }
    assert!(flushed > 0, "no kill left anything in the buffer");
    assert_sound(scratch);
}

#[test]
fn beside_a_burst_that_does_not_end_others_get_their_turns() {
    const COUNT: u32 = 300;
    for part in ["burst", "writer", "libjlog"] {
        let scratch = new_log(1_000_000);
        let mut endless = Process::start("burst", &scratch.path(), "light burst", 0);
        assert_eq!(endless.told().unwrap().1, "begun");
        let mut other = Process::start(part, &scratch.path(), "light other", COUNT);
        drop(other.input.take());
        // Ends though the burst does not.
        let told = other.finished();
        let (written, _) = endless.finished().pop().unwrap();

        let records = read_all(&scratch.open()).records;
        let by_writer = by_writer(&records);
        assert_eq!(by_writer["light other"].len(), COUNT as usize, "{part}");
        assert_eq!(by_writer["light burst"].len(), written as usize, "{part}");
        assert_eq!(records.len(), (COUNT + written) as usize);
        assert!(part != "writer" || by_writer["light other"] == told, "the ids that it was told");
        assert_sound(&scratch);
    }
}

#[test]
fn bursts_of_several_handles_in_one_process_take_turns_too() {
    const COUNT: u32 = 3000;
    let scratch = new_log(100_000);
    let names = ["light a", "light b", "light c"];
    thread::scope(|scope| {
        for name in names {
            let writer = scratch.open().writer().unwrap();
            scope.spawn(move || {
                for n in 0..COUNT {
                    writer.append(&message(name, n), at(n)).unwrap();
                }
            });
        }
    });
    let records = read_all(&scratch.open()).records;
    let by_writer = by_writer(&records);
    assert!(names.iter().all(|name| by_writer[*name].len() == COUNT as usize));
    assert_sound(&scratch);
}

#[test]
fn threads_that_share_a_writer_burst_together() {
    const COUNT: u32 = 2000;
    let scratch = new_log(100_000);
    let writer = scratch.open().writer().unwrap();
    let told: BTreeMap<_, _> = thread::scope(|scope| {
        let threads = ["light a", "light b"].map(|name| {
            let writer = &writer;
            let append = move |n| (n, writer.append(&message(name, n), at(n)).unwrap().to_string());
            (name.to_owned(), scope.spawn(move || (0..COUNT).map(append).collect::<Vec<_>>()))
        });
        threads.into_iter().map(|(name, thread)| (name, thread.join().unwrap())).collect()
    });
    writer.close().unwrap();
    assert!(by_writer(&read_all(&scratch.open()).records) == told);
    assert_sound(&scratch);
}

#[test]
fn a_writer_that_is_killed_in_a_burst_leaves_its_lock_to_others() {
    let scratch = new_log(1_000_000);
    let mut told = Vec::new();
    for round in 0..5 {
        let mut keeper = Process::start("keeper", &scratch.path(), &format!("light {round}"), NO_END);
        for _ in 0..20 {
            told.push(keeper.told().unwrap());
        }
        let file =
            jlog::io::File::open(&jlog::io::OsDisk, &scratch.file("00000000"), jlog::io::Open::ReadWrite);
        assert!(file.unwrap().try_lock().unwrap().is_none(), "the lock is not kept: nothing is tested here");
        told.extend(keeper.killed());
        let last = scratch.open().writer().unwrap().append(&message("light last", round), at(round)).unwrap();
        told.push((round, last.to_string()));
    }
    let there: Vec<_> = read_all(&scratch.open()).records.iter().map(|r| r.id.to_string()).collect();
    assert!(told.iter().all(|(_, id)| there.contains(id)), "each has the id that its writer was told");
    assert_sound(&scratch);
}
