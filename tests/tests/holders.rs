//! Processes that hold a log and stop, are killed, or start others; and a segment that is cut under an open reader.
//!
//! The other process is this test binary, started again with the one test [`a_holder`]. It tells of each record that it has
//! appended; nothing here waits for time to pass.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::{env, fs};

use jlog::{CreateOptions, ErrorKind, Format, Log, WriterOptions};
use jlog_tests::crash::message;
use jlog_tests::{Scratch, at, names, read_all};

const LOG: &str = "JLOG_TEST_HOLDS";
const SHARED: &str = "JLOG_TEST_SHARES";

struct Holder {
    child: Child,
    told: Lines<BufReader<ChildStdout>>,
}

impl Holder {
    fn start(log: &Path, shared: bool) -> Holder {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "a_holder", "--nocapture", "--test-threads=1"])
            .env(LOG, log)
            .env(SHARED, shared.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let told = BufReader::new(child.stdout.take().unwrap()).lines();
        Holder { child, told }
    }

    /// The next thing that it tells: a record's number, or the number of a process that it has started.
    fn told(&mut self) -> Option<u32> {
        loop {
            let line = self.told.next()?.unwrap();
            if let Some(told) = line.split_once('@').and_then(|(_, told)| told.strip_suffix(';')) {
                return Some(told.parse().unwrap());
            }
        }
    }

    fn signal(&self, signal: &str) {
        send(signal, self.child.id());
    }

    /// Stops it, and waits until it has stopped.
    fn stop(&self) {
        self.signal("STOP");
        let stat = format!("/proc/{}/stat", self.child.id());
        while !fs::read_to_string(&stat).unwrap().rsplit_once(") ").unwrap().1.starts_with('T') {
            std::thread::yield_now();
        }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn send(signal: &str, process: u32) {
    let line = format!("kill -{signal} {process}");
    assert!(Command::new("sh").args(["-c", &line]).status().unwrap().success());
}

#[test]
#[allow(clippy::zombie_processes, reason = "it outlives the one that starts it, and is ended by number")]
fn a_holder() {
    let Ok(path) = env::var(LOG) else { return };
    let shared = env::var(SHARED).unwrap() == "true";
    let log = Log::open(path).unwrap();
    let writer = log.writer_with(&WriterOptions::new().exclusive(!shared)).unwrap();
    // A process of its own, which outlives it and has a copy of everything that is not closed on exec.
    let other = Command::new("sleep").arg("600").stdout(Stdio::null()).stdin(Stdio::null()).spawn().unwrap();
    tell(other.id());
    for n in 0.. {
        writer.append(&message::of(n, 40), at(n)).unwrap();
        tell(n);
    }
}

fn tell(n: u32) {
    // Nobody listens any more.
    if std::io::stdout().write_all(format!("@{n};\n").as_bytes()).is_err() {
        std::process::exit(0);
    }
}

fn log_of(options: CreateOptions) -> (Scratch, Log) {
    let scratch = Scratch::new();
    let log = Log::create_with(scratch.path(), &options).unwrap();
    (scratch, log)
}

#[test]
fn a_stopped_owner_is_named_at_once_and_a_killed_one_is_in_nobodys_way() {
    let (scratch, log) = log_of(CreateOptions::new());
    let mut holder = Holder::start(&scratch.path(), false);
    let started = holder.told().unwrap();
    let last = (0..20).map(|_| holder.told().unwrap()).last().unwrap();
    holder.stop();

    // Nothing waits for it: a second owner is refused, and told who has it; readers read.
    let refused = log.writer().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Busy, "{refused}");
    assert!(refused.to_string().contains(&holder.child.id().to_string()), "{refused}");
    assert!(read_all(&log).records.len() > last as usize);

    // It dies without ever going on. What it has started lives, and holds nothing.
    holder.kill();
    assert!(Path::new(&format!("/proc/{started}")).exists());
    let writer = log.writer().unwrap();
    send("KILL", started);
    writer.append(&message::of(7, 40), at(7)).unwrap();
    writer.close().unwrap();
    let there = read_all(&log).records.len();
    assert!(there > last as usize + 1, "{there} of {last}");
}

#[test]
fn a_sharer_that_is_stopped_and_goes_on_loses_nothing_and_costs_nothing() {
    for options in [CreateOptions::new(), CreateOptions::classic()] {
        let (scratch, log) = log_of(options);
        let mut holder = Holder::start(&scratch.path(), true);
        let started = holder.told().unwrap();
        (0..20).for_each(|_| assert!(holder.told().is_some()));
        holder.stop();
        // Wherever it was stopped, it may hold a lock: so somebody else appends while it goes on.
        let mine = std::thread::spawn({
            let log = log.clone();
            move || {
                let writer = log.writer_with(&WriterOptions::new().exclusive(false)).unwrap();
                for n in 0..20 {
                    writer.append(&message::of(1_000_000 + n, 40), at(n)).unwrap();
                }
                writer.close().unwrap();
            }
        });
        assert!(read_all(&log).gaps.is_empty());
        holder.signal("CONT");
        mine.join().unwrap();
        let mut last = 0;
        (0..20).for_each(|_| last = holder.told().unwrap());
        holder.kill();
        send("KILL", started);
        log.writer().unwrap().close().unwrap();
        let numbers: Vec<u32> =
            read_all(&log).payloads().into_iter().map(|payload| message::number(payload).unwrap()).collect();
        let (mine, its): (Vec<u32>, Vec<u32>) = numbers.iter().partition(|n| **n >= 1_000_000);
        assert_eq!(mine, (1_000_000..1_000_020).collect::<Vec<_>>());
        assert!(its.iter().copied().eq(0..its.len() as u32) && its.len() as u32 > last, "{its:?}");
    }
}

/// POSIX locks would be gone with the first handle that is closed.
#[test]
fn closing_another_handle_of_the_same_process_lets_go_of_nothing() {
    for options in [CreateOptions::new(), CreateOptions::classic()] {
        let (scratch, log) = log_of(options);
        let writer = log.writer_with(&WriterOptions::new().exclusive(true)).unwrap();
        writer.append(&message::of(0, 40), at(0)).unwrap();
        {
            let again = scratch.open();
            assert_eq!(read_all(&again).records.len(), 1);
            let refused = again.writer_with(&WriterOptions::new().exclusive(true)).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Busy);
        }
        let refused = log.writer_with(&WriterOptions::new().exclusive(true)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Busy, "{refused}");
        writer.append(&message::of(1, 40), at(1)).unwrap();
        writer.close().unwrap();
        assert_eq!(read_all(&log).records.len(), 2);
    }
}

/// A mapping of the file would be the end of the process here (SIGBUS).
#[test]
fn a_segment_that_is_cut_under_an_open_reader_is_an_error_or_an_end_and_the_process_lives() {
    for options in [CreateOptions::new(), CreateOptions::classic()] {
        for cut in [0, 1, 100, 5_000, 60_000] {
            let (scratch, log) = log_of(options.clone());
            let writer = log.writer().unwrap();
            for n in 0..40 {
                writer.append(&message::of(n, 4000), at(n)).unwrap();
            }
            writer.close().unwrap();
            let mut cursor = log.cursor().unwrap();
            let first = cursor.next_record().unwrap().unwrap().payload.to_vec();
            assert_eq!(message::number(&first), Some(0));

            let segment = names(&scratch.path()).into_iter().find(|name| name == "00000000").unwrap();
            let file = fs::OpenOptions::new().write(true).open(scratch.path().join(segment)).unwrap();
            file.set_len(cut).unwrap();
            let mut rest = 0;
            loop {
                match cursor.next_record() {
                    Ok(Some(record)) => {
                        let n = message::number(record.payload);
                        assert!(n.is_some_and(|n| n > 0 && n < 40), "a record that nobody wrote");
                        rest += 1;
                    }
                    Ok(None) => break,
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
                        if cursor.skip_gap().is_none() {
                            break;
                        }
                    }
                }
            }
            assert!(rest < 39, "what was cut off cannot be there");
            // It is told of; but nothing in a classic log says how much of its only segment there was.
            let problems = jlog::inspect::inspect(&log).unwrap().problems().count();
            assert!(problems > 0 || log.format() == Format::Classic, "cut to {cut}");
        }
    }
}
