//! The lock of a file: between threads, between processes, and with libjlog, which takes POSIX locks of whole files.
//!
//! Where another process is needed, the test binary starts itself with the one test [`another_process`], which does
//! what it is told over its standard input and answers over its standard output. Nothing here waits for time to pass:
//! exclusion is shown by locks that are tried, order by what is in the file when a lock that waited is got.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy.toml allows them in tests, but not in what tests share"
)]

use std::cell::LazyCell;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use std::{env, fs, io, thread};

use jlog::io::{File, LockGuard, Open, OsDisk};
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

const FILE_TO_LOCK: &str = "JLOG_TEST_FILE_TO_LOCK";

/// A file to lock, which holds a count of 8 bytes.
struct Scene {
    dir: tempfile::TempDir,
}

impl Scene {
    fn new() -> Scene {
        let scene = Scene { dir: tempfile::tempdir().unwrap() };
        set_count(&File::open(&OsDisk, &scene.path(), Open::CreateNew(0o600)).unwrap(), 0);
        scene
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("file")
    }

    fn open(&self) -> File {
        open(&self.path())
    }

    fn process(&self) -> Process {
        Process::start(&self.path())
    }
}

fn open(path: &Path) -> File {
    File::open(&OsDisk, path, Open::ReadWrite).unwrap()
}

fn count(file: &File) -> u64 {
    let mut bytes = [0; 8];
    file.pread(&mut bytes, 0).unwrap();
    u64::from_le_bytes(bytes)
}

fn set_count(file: &File, count: u64) {
    file.pwrite(&count.to_le_bytes(), 0).unwrap();
}

/// Adds one, in a way that two at once get wrong.
fn count_up(file: &File) {
    let before = count(file);
    thread::yield_now();
    set_count(file, before + 1);
}

fn is_free(file: &File) -> bool {
    file.try_lock().unwrap().is_some()
}

/// libjlog's lock: POSIX, the whole file, belonging to the process.
fn posix(file: impl AsFd, kind: i32, wait: bool) -> io::Result<()> {
    let lock =
        libc::flock { l_type: kind as i16, l_whence: libc::SEEK_SET as i16, l_start: 0, l_len: 0, l_pid: 0 };
    let command = if wait { FcntlArg::F_SETLKW(&lock) } else { FcntlArg::F_SETLK(&lock) };
    fcntl(file, command)?;
    Ok(())
}

// The other process.

struct Process {
    child: Child,
    orders: ChildStdin,
    answers: Receiver<String>,
}

impl Process {
    fn start(path: &Path) -> Process {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "another_process", "--nocapture"])
            .env(FILE_TO_LOCK, path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, answers) = channel();
        thread::spawn(move || {
            // The test harness writes to the same output, and its words may share a line with ours.
            for line in output.lines().map_while(Result::ok) {
                if let Some((_, answer)) = line.split_once('@') {
                    let _ = sender.send(answer.to_string());
                }
            }
        });
        Process { child, orders, answers }
    }

    fn order(&mut self, order: &str) {
        writeln!(self.orders, "{order}").unwrap();
    }

    /// A hang would be the bug, so the wait has an end.
    fn answer(&self) -> String {
        self.answers.recv_timeout(Duration::from_secs(60)).expect("the other process does not answer")
    }

    fn told(&mut self, order: &str) -> String {
        self.order(order);
        self.answer()
    }

    /// Orders a lock that must wait, and returns when the process is about to ask for it.
    fn begin_to_wait(&mut self, order: &str) {
        assert_eq!(self.told(order), "asking");
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Not a test but what [`Process`] runs; alone, it does nothing.
#[test]
fn another_process() {
    let Some(path) = env::var_os(FILE_TO_LOCK) else { return };
    let file = open(Path::new(&path));
    // Opened when it is first asked for: some orders are about who else has the file open.
    let libjlog = LazyCell::new(|| fs::OpenOptions::new().read(true).write(true).open(&path).unwrap());
    let mut guard: Option<LockGuard<'_>> = None;

    for order in io::stdin().lines().map_while(Result::ok) {
        let (order, number) = order.split_once(' ').unwrap_or((&order, "0"));
        let times = 0..number.parse::<u32>().unwrap();
        let answer = match order {
            "try" => {
                guard = file.try_lock().unwrap();
                if guard.is_some() { "locked".to_string() } else { "busy".to_string() }
            }
            "lock" => {
                say("asking");
                guard = Some(file.lock().unwrap());
                format!("locked at {}", count(&file))
            }
            "unlock" => {
                guard = None;
                "unlocked".to_string()
            }
            "count" => {
                times.for_each(|_| {
                    let _guard = file.lock().unwrap();
                    count_up(&file);
                });
                "counted".to_string()
            }
            "libjlog-try" => match posix(&*libjlog, libc::F_WRLCK, false) {
                Ok(()) => "locked".to_string(),
                Err(_) => "busy".to_string(),
            },
            "libjlog-lock" => {
                say("asking");
                posix(&*libjlog, libc::F_WRLCK, true).unwrap();
                format!("locked at {}", count(&file))
            }
            "libjlog-unlock" => {
                posix(&*libjlog, libc::F_UNLCK, false).unwrap();
                "unlocked".to_string()
            }
            "libjlog-count" => {
                times.for_each(|_| {
                    posix(&*libjlog, libc::F_WRLCK, true).unwrap();
                    count_up(&file);
                    posix(&*libjlog, libc::F_UNLCK, false).unwrap();
                });
                "counted".to_string()
            }
            "close" => {
                drop(libjlog.try_clone());
                "closed".to_string()
            }
            "ask-who-has-it-open" => {
                for _ in times {
                    file.opened_elsewhere().unwrap();
                }
                "asked".to_string()
            }
            other => format!("no such order: {other}"),
        };
        say(&answer);
    }
    drop(guard);
}

fn say(answer: &str) {
    let mut out = io::stdout().lock();
    writeln!(out, "@{answer}").unwrap();
    out.flush().unwrap();
}

// Threads.

/// Counts up from many threads, each with the handle that `handle` gives it.
fn count_in_threads<'a>(threads: usize, handle: impl Fn(usize) -> &'a File + Sync) {
    thread::scope(|scope| {
        for number in 0..threads {
            let handle = &handle;
            scope.spawn(move || {
                for _ in 0..500 {
                    let guard = handle(number).lock().unwrap();
                    count_up(handle(number));
                    guard.unlock().unwrap();
                }
            });
        }
    });
}

#[test]
fn threads_with_one_handle_exclude_each_other() {
    let scene = Scene::new();
    let file = scene.open();
    let guard = file.lock().unwrap();
    thread::scope(|scope| scope.spawn(|| assert!(!is_free(&file))).join().unwrap());
    drop(guard);
    assert!(is_free(&file));

    count_in_threads(3, |_| &file);
    assert_eq!(count(&file), 1500);
}

#[test]
fn threads_with_two_handles_exclude_each_other() {
    let scene = Scene::new();
    let files = [scene.open(), scene.open()];
    let guard = files[0].lock().unwrap();
    assert!(!is_free(&files[1]));
    drop(guard);
    assert!(is_free(&files[1]));

    count_in_threads(4, |number| &files[number % 2]);
    assert_eq!(count(&files[0]), 2000);
}

#[test]
fn a_thread_that_panics_leaves_no_lock_behind() {
    let scene = Scene::new();
    let file = scene.open();
    let panicked = thread::scope(|scope| {
        scope
            .spawn(|| {
                let _guard = file.lock().unwrap();
                std::panic::resume_unwind(Box::new("with the lock held"));
            })
            .join()
    });
    assert!(panicked.is_err());
    assert!(is_free(&scene.open()), "through another handle");
    assert!(is_free(&file), "through the same handle");
    drop(file.lock().unwrap());
}

// Processes.

#[test]
fn processes_exclude_each_other() {
    let scene = Scene::new();
    let file = scene.open();
    let mut other = scene.process();

    let guard = file.lock().unwrap();
    assert_eq!(other.told("try"), "busy");
    drop(guard);
    assert_eq!(other.told("try"), "locked");
    assert!(!is_free(&file));
    assert_eq!(other.told("unlock"), "unlocked");
    assert!(is_free(&file));
}

#[test]
fn a_process_that_waits_gets_the_lock_when_it_is_released() {
    let scene = Scene::new();
    let file = scene.open();
    let mut other = scene.process();

    let guard = file.lock().unwrap();
    assert_eq!(other.told("try"), "busy");
    other.begin_to_wait("lock");
    set_count(&file, 77);
    guard.unlock().unwrap();
    assert_eq!(other.answer(), "locked at 77");
    assert!(!is_free(&file));
}

#[test]
fn processes_that_count_lose_nothing() {
    let scene = Scene::new();
    let file = scene.open();
    let (mut ours, mut libjlog) = (scene.process(), scene.process());
    ours.order("count 300");
    libjlog.order("libjlog-count 300");
    count_in_threads(1, |_| &file);
    assert_eq!((ours.answer().as_str(), libjlog.answer().as_str()), ("counted", "counted"));
    assert_eq!(count(&file), 1100);
}

#[test]
fn the_death_of_the_holder_releases_its_lock() {
    for order in ["try", "libjlog-try"] {
        let scene = Scene::new();
        let file = scene.open();
        let (mut holder, mut waiter) = (scene.process(), scene.process());
        assert_eq!(holder.told(order), "locked");
        assert!(!is_free(&file));
        assert_eq!(waiter.told("try"), "busy");
        waiter.begin_to_wait("lock");

        holder.kill();
        assert_eq!(waiter.answer(), "locked at 0");
        assert!(!is_free(&file), "now it is the waiter's");
        waiter.kill();
        assert!(is_free(&file));
    }
}

#[test]
fn closing_another_descriptor_does_not_release_the_lock() {
    // A POSIX lock would be gone: the kernel drops all of a process's when it closes any descriptor of the file.
    let scene = Scene::new();
    let file = scene.open();
    let mut other = scene.process();
    let guard = file.lock().unwrap();

    drop(scene.open());
    drop(fs::File::open(scene.path()).unwrap());
    drop(fs::read(scene.path()).unwrap());
    assert_eq!(other.told("try"), "busy");
    assert_eq!(other.told("libjlog-try"), "busy");
    assert!(!is_free(&scene.open()));

    drop(guard);
    assert_eq!(other.told("try"), "locked");
}

#[test]
fn the_comparison_holds_and_a_posix_lock_is_lost_so() {
    // If this fails, the kernel has changed, and what the test above shows means less than it did.
    let scene = Scene::new();
    let file = scene.open();
    let mut other = scene.process();
    assert_eq!(other.told("libjlog-try"), "locked");
    assert!(!is_free(&file));
    assert_eq!(other.told("close"), "closed");
    assert!(is_free(&file));
}

#[test]
fn closing_the_handle_releases_the_lock() {
    let scene = Scene::new();
    let file = scene.open();
    // A guard that is never dropped: the kernel, not the guard, must do it.
    std::mem::forget(file.lock().unwrap());
    let other = scene.open();
    assert!(!is_free(&other));
    drop(file);
    // Waits, because a test beside this one may have just forked and still hold a copy of the handle, until it execs.
    drop(other.lock().unwrap());
}

// libjlog.

#[test]
fn libjlog_is_kept_out_and_waits() {
    let scene = Scene::new();
    let file = scene.open();
    let mut libjlog = scene.process();

    let guard = file.lock().unwrap();
    assert_eq!(libjlog.told("libjlog-try"), "busy");
    libjlog.begin_to_wait("libjlog-lock");
    set_count(&file, 5);
    drop(guard);
    assert_eq!(libjlog.answer(), "locked at 5");
}

#[test]
fn libjlog_keeps_us_out_and_we_wait() {
    let scene = Scene::new();
    let file = scene.open();
    let (mut libjlog, mut ours) = (scene.process(), scene.process());

    assert_eq!(libjlog.told("libjlog-try"), "locked");
    assert!(!is_free(&file));
    assert_eq!(ours.told("try"), "busy");
    ours.begin_to_wait("lock");
    set_count(&file, 6);
    assert_eq!(libjlog.told("libjlog-unlock"), "unlocked");
    assert_eq!(ours.answer(), "locked at 6");
}

#[test]
fn libjlog_in_the_same_process_is_kept_out_too() {
    // A program may have both linked in. Its POSIX locks and our locks have different owners even there.
    let scene = Scene::new();
    let file = scene.open();
    let libjlog = fs::OpenOptions::new().read(true).write(true).open(scene.path()).unwrap();

    let guard = file.lock().unwrap();
    posix(&libjlog, libc::F_WRLCK, false).unwrap_err();
    drop(guard);
    posix(&libjlog, libc::F_WRLCK, false).unwrap();
    assert!(!is_free(&file));
    posix(&libjlog, libc::F_UNLCK, false).unwrap();
    assert!(is_free(&file));
}

// Who.

#[test]
fn the_holder_is_named_if_it_is_libjlog() {
    let scene = Scene::new();
    let file = scene.open();
    let mut other = scene.process();
    assert_eq!(file.lock_holder().unwrap(), None, "nobody");

    assert_eq!(other.told("libjlog-try"), "locked");
    assert_eq!(file.lock_holder().unwrap(), Some(Some(other.child.id())));
    let reader = File::open(&OsDisk, &scene.path(), Open::Read).unwrap();
    assert_eq!(reader.lock_holder().unwrap(), Some(Some(other.child.id())), "a handle that can take no lock");
    assert_eq!(other.told("libjlog-unlock"), "unlocked");
    assert_eq!(file.lock_holder().unwrap(), None);

    assert_eq!(other.told("try"), "locked");
    assert_eq!(
        file.lock_holder().unwrap(),
        Some(None),
        "somebody, but locks like ours carry no process number"
    );
    assert_eq!(other.told("unlock"), "unlocked");

    let _guard = file.lock().unwrap();
    assert_eq!(file.lock_holder().unwrap(), None, "one's own lock is no conflict");
    assert_eq!(scene.open().lock_holder().unwrap(), Some(None));
}

// The question who has it open.

#[test]
fn another_process_is_noticed_to_have_it_open() {
    let scene = Scene::new();
    let file = scene.open();
    // Where the system cannot tell, there is nothing to claim.
    let Some(elsewhere) = file.opened_elsewhere().unwrap() else { return };
    assert!(!elsewhere);
    let mut other = scene.process();
    assert_eq!(other.told("try"), "locked");
    assert_eq!(file.opened_elsewhere().unwrap(), Some(true));
    other.kill();
    assert_eq!(file.opened_elsewhere().unwrap(), Some(false));
}

#[test]
fn to_ask_who_has_it_open_harms_neither_who_asks_nor_who_opens() {
    // The answer comes from a lease. Who opens the file while it is held breaks it: the kernel sends the holder a
    // signal, SIGIO by default, which ends a process that does not expect it, and refuses an open that will not wait.
    let scene = Scene::new();
    let path = scene.path();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let opener = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                File::open(&OsDisk, &path, Open::ReadWrite)?;
                // As libjlog opens: this one waits for the lease to end.
                drop(fs::File::open(&path).unwrap());
            }
            jlog::Result::Ok(())
        });
        let mut asker = scene.process();
        asker.order("ask-who-has-it-open 20000");
        let answer = asker.answers.recv_timeout(Duration::from_secs(60));
        done.store(true, Ordering::Relaxed);
        opener.join().unwrap().unwrap();
        assert_eq!(answer.as_deref(), Ok("asked"), "it ended: {:?}", asker.child.try_wait());
    });
}
