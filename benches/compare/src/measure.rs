//! What is measured, the same way for every store: accepting, loading, removing, opening.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use jlog::io::{Disk, Open, OsDisk};
use jlog_benches::Outcome;
use jlog_benches::durable::{Sent, together};

use crate::{META, Plan, Row, Store};

/// Bodies that nothing can compress and no two of which are alike: pieces of a pool of noise, its size not a multiple of
/// the step from one to the next.
#[derive(Debug)]
pub struct Pool {
    noise: Vec<u8>,
    body: usize,
}

impl Pool {
    /// For bodies of so many bytes.
    pub fn new(body: usize) -> Pool {
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
        Pool { noise: (0..body + (1 << 20) + 7).map(|_| dice.roll() as u8).collect(), body }
    }

    /// The metadata of a message.
    pub fn meta(&self, id: u64) -> [u8; META] {
        let mut meta = [0; META];
        meta.copy_from_slice(&self.noise[..META]);
        meta[..8].copy_from_slice(&id.to_le_bytes());
        meta
    }

    /// The body of a message.
    pub fn body(&self, id: u64) -> &[u8] {
        let at = (id * 4097) as usize % (self.noise.len() - self.body);
        &self.noise[at..at + self.body]
    }
}

/// Xorshift: the same numbers in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }
}

/// All messages of the plan, in the order of their ids, each by the next of `senders` threads that has nothing on the way.
pub fn accept(store: &dyn Store, plan: Plan, senders: usize) -> Outcome<Sent> {
    let pool = Pool::new(plan.body);
    let next = AtomicU64::new(0);
    let one = || {
        let mut waits = Vec::with_capacity((plan.messages as usize / senders) * 2);
        loop {
            let id = next.fetch_add(1, Relaxed);
            if id >= plan.messages {
                return Ok(waits);
            }
            let start = Instant::now();
            store.accept(id, &pool.meta(id), pool.body(id))?;
            waits.push(start.elapsed());
        }
    };
    together(senders, || store.syncs(), one)
}

/// Loads a second, of messages chosen at random, by so many threads; the length and both ends of each are looked at, so
/// that nobody answers with something else.
pub fn load(store: &dyn Store, plan: Plan, threads: usize) -> Outcome<f64> {
    let each = plan.messages;
    let pool = Pool::new(plan.body);
    let start = Instant::now();
    std::thread::scope(|scope| {
        let pool = &pool;
        let one = |seed: u64| {
            move || -> Outcome<()> {
                let mut dice = Dice(seed);
                for _ in 0..each {
                    let id = dice.roll() % plan.messages;
                    let message = store.load(id)?;
                    let end = pool.body(id).split_at(plan.body - 8).1;
                    if message.len() != META + plan.body
                        || message[..8] != id.to_le_bytes()
                        || !message.ends_with(end)
                    {
                        return Err("not the message that was accepted".into());
                    }
                }
                Ok(())
            }
        };
        let threads: Vec<_> = (1..=threads as u64).map(|seed| scope.spawn(one(seed << 20))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a reader panicked")?)
    })?;
    Ok((each * threads as u64) as f64 / start.elapsed().as_secs_f64())
}

/// Removals a second, of all messages, so many at a time; durable after each time.
pub fn remove(store: &dyn Store, plan: Plan, at_a_time: usize) -> Outcome<f64> {
    let ids: Vec<u64> = (0..plan.messages).collect();
    let start = Instant::now();
    ids.chunks(at_a_time).try_for_each(|ids| store.remove(ids))?;
    Ok(plan.messages as f64 / start.elapsed().as_secs_f64())
}

/// What opening a store took.
#[derive(Debug, Clone, Copy)]
pub struct Opened {
    /// Until every message was in the index.
    pub wall: Duration,
    /// By how much the process grew, in bytes, not counting what it shares with files.
    pub memory: u64,
}

/// Opens what is there, in a process that has done nothing else.
pub fn open(row: Row, dir: &Path, plan: Plan) -> Outcome<Opened> {
    let (before, start) = (resident()?, Instant::now());
    let mut store = row.open(dir, plan)?;
    let seen = store.index()?;
    let wall = start.elapsed();
    if seen as u64 != plan.messages {
        return Err(format!("{}: {seen} of {} messages", row.name(), plan.messages).into());
    }
    Ok(Opened { wall, memory: resident()?.saturating_sub(before) })
}

/// The memory of this process that is its own, in bytes: resident, and not a file's.
fn resident() -> Outcome<u64> {
    let statm = fs::read_to_string("/proc/self/statm")?;
    let mut pages = statm.split_whitespace().skip(1).map(str::parse::<u64>);
    let (resident, shared) = (pages.next().ok_or("resident")??, pages.next().ok_or("shared")??);
    Ok((resident - shared) * 4096)
}

/// What lies below a directory, in bytes that the disk has given to it.
pub fn disk_usage(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    each_file(dir, &mut |path| {
        bytes += fs::metadata(path)?.blocks() * 512;
        Ok(())
    })?;
    Ok(bytes)
}

/// Waits until the disk has what was written and removed before, so that the next run does not pay for the last one.
pub fn settle(dir: &Path) -> io::Result<()> {
    Ok(nix::unistd::syncfs(fs::File::open(dir)?)?)
}

/// Takes a directory's files out of the page cache. Names and inodes stay: only root could drop those, and everybody's.
pub fn drop_caches(dir: &Path) -> io::Result<()> {
    settle(dir)?;
    each_file(dir, &mut |path| OsDisk.open(path, Open::Read)?.drop_cache())
}

fn each_file(dir: &Path, with: &mut dyn FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            each_file(&entry.path(), with)?;
        } else {
            with(&entry.path())?;
        }
    }
    Ok(())
}
