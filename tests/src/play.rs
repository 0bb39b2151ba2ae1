//! A log that is used while the disk under it may fail or lose power, and a plain list that says what it has to hold.
//!
//! Records are numbered in the order in which they are appended; each number is appended once. What became of each is
//! known, or becomes known when the log is next opened: what was not there then must never come back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jlog::io::sim::{Profile, SimDisk, Times};
use jlog::{
    CreateOptions, Durability, Error, ErrorKind, Format, Log, OnDamage, RecordId, Result, Start, Subscriber,
    Writer,
};

use nix::libc::{EDQUOT, EIO, ENOSPC};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::crash::message;
use crate::{SIM_LOG, at};

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is on the disk for good.
    Durable,
    /// It was acknowledged, and is in the log for as long as the machine runs and its disk takes what it was given.
    Written,
    /// It may be there or not.
    Unsure,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    n: u32,
    len: usize,
    commit: u32,
    id: Option<RecordId>,
    fate: Fate,
}

/// Something that is done to a log, or that its disk does.
#[derive(Debug, Clone)]
pub enum Action {
    /// A record of so many bytes; whether it is synced.
    Append(usize, bool),
    Batch(Vec<usize>),
    Sync,
    Check,
    Commit(&'static str, usize),
    /// Adds a subscriber, or removes it.
    Subscribe(&'static str),
    SegmentSize(u32),
    Close,
    Die,
    PowerCut(Option<u64>),
    /// So many operations later, one fails.
    Fault(u64, i32),
}

/// A log on a simulated disk, and what it has to hold.
pub struct Play {
    pub disk: SimDisk,
    pub log: Log,
    writer: Option<Writer>,
    format: Format,
    eager: bool,
    entries: Vec<Entry>,
    /// Where each subscriber may be, the newest last.
    subscribers: BTreeMap<String, Vec<RecordId>>,
    /// Those whose removal has failed: they may be there or not.
    half_removed: BTreeSet<String>,
    /// Up to this number all records may be gone: all had read them.
    free: u32,
    next: u32,
    commits: u32,
    /// What was refused so far.
    pub errors: Vec<ErrorKind>,
    /// A sync or a write has failed since the log was last opened: what the kernel shows may not be there.
    doubted: bool,
    /// A sync may have failed that opened the log, and took with it what was never synced.
    troubled: bool,
    /// The power went since then.
    cut: bool,
    seen: Vec<(RecordId, u32)>,
}

impl Play {
    pub fn begin(disk: SimDisk, format: Format, durability: Durability, segment: u32) -> Play {
        let options = CreateOptions::new().format(format).segment_size(segment).durability(durability);
        let log = Log::create_on(Arc::new(disk.clone()), SIM_LOG, &options).unwrap();
        let writer = Some(log.writer_with(&jlog::WriterOptions::new().durability(durability)).unwrap());
        Play {
            disk,
            log,
            writer,
            format,
            eager: format == Format::Classic || !durability.is_synced(),
            entries: Vec::new(),
            subscribers: BTreeMap::new(),
            half_removed: BTreeSet::new(),
            free: 0,
            next: 0,
            commits: 0,
            errors: Vec::new(),
            doubted: false,
            troubled: false,
            cut: false,
            seen: Vec::new(),
        }
    }

    pub fn take(&mut self, action: &Action) {
        match action {
            Action::Append(len, synced) => {
                let durability = if *synced { Durability::Sync } else { Durability::Process };
                self.append(*len, durability);
            }
            Action::Batch(lens) => {
                self.batch(lens);
            }
            Action::Sync => {
                self.sync();
            }
            Action::Check => self.check(),
            Action::Commit(name, count) => self.commit(name, *count),
            Action::Subscribe(name) if self.has(name) => self.remove(name),
            Action::Subscribe(name) => self.add(name),
            Action::SegmentSize(bytes) => self.set_segment_size(*bytes),
            Action::Close => {
                self.close();
            }
            Action::Die => self.die(),
            Action::PowerCut(seed) => self.power_cut(*seed),
            Action::Fault(after, errno) => {
                self.disk.heal();
                self.fail_at(self.disk.operations() + after, *errno, Times::Once);
            }
        }
        // Nobody works with a writer that has failed.
        if self.has_failed() || !self.is_open() {
            assert!(self.open() || self.open(), "{:?}", self.errors);
        }
    }

    /// The disk is sound again: all that has to be there is, and a writer goes on.
    pub fn finish(&mut self) {
        self.disk.heal();
        if self.has_failed() || !self.is_open() {
            assert!(self.open(), "{:?}", self.errors);
        }
        self.check();
        self.check_subscribers();
        assert!(self.append(100, Durability::Sync), "{:?}", self.errors);
        self.check();
    }

    pub fn is_open(&self) -> bool {
        self.writer.is_some()
    }

    /// Whether the writer has met an error that is not for want of space: it is at its end.
    pub fn has_failed(&self) -> bool {
        self.doubted
    }

    /// Operation number `n` of the disk fails.
    pub fn fail_at(&mut self, n: u64, errno: i32, times: Times) {
        self.disk.fail_at(n, errno, times);
        self.troubled = true;
    }

    /// Changes the size of the segments to come.
    pub fn set_segment_size(&mut self, bytes: u32) {
        if let Err(error) = self.log.set_segment_size(bytes) {
            self.errors.push(error.kind());
        }
    }

    /// Appends a record; whether it was acknowledged.
    pub fn append(&mut self, len: usize, durability: Durability) -> bool {
        let Some(writer) = &self.writer else { return false };
        let n = self.next;
        self.next += 1;
        self.commits += 1;
        let outcome = writer.append_as(&message::of(n, len), at(n), durability);
        self.appended(outcome, &[(n, len)], durability)
    }

    /// Appends several at once; whether they were acknowledged.
    pub fn batch(&mut self, lens: &[usize]) -> bool {
        let Some(writer) = &self.writer else { return false };
        let numbers: Vec<_> = (self.next..).zip(lens.iter().copied()).collect();
        self.next += lens.len() as u32;
        self.commits += 1;
        let messages: Vec<_> = numbers.iter().map(|(n, len)| (message::of(*n, *len), at(*n))).collect();
        let last = writer.append_batch(messages.iter().map(|(message, time)| (&message[..], *time)));
        let durability = writer.durability();
        self.appended(last.map(Option::unwrap), &numbers, durability)
    }

    fn appended(
        &mut self,
        outcome: Result<RecordId>,
        numbers: &[(u32, usize)],
        durability: Durability,
    ) -> bool {
        let known = outcome.as_ref().ok().copied();
        // Nothing of what was refused for want of space is there.
        let refused = outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::NoSpace);
        if !refused {
            for (back, (n, len)) in numbers.iter().enumerate() {
                let back = (numbers.len() - 1 - back) as u32;
                let id = known.and_then(|last| Some((last, last.marker.0.checked_sub(back)?)));
                let id = id.map(|(last, marker)| RecordId::new(last.segment.0, marker));
                // A classic batch may lie in two segments.
                let id = id.filter(|_| self.format == Format::Checksummed || back == 0);
                let fate = if known.is_some() { Fate::Written } else { Fate::Unsure };
                self.entries.push(Entry { n: *n, len: *len, commit: self.commits, id, fate });
            }
        }
        if self.done(outcome.map(drop)) {
            if durability.is_synced() && self.format == Format::Checksummed {
                self.all_durable();
            }
            return true;
        }
        false
    }

    fn all_durable(&mut self) {
        for entry in self.entries.iter_mut().filter(|entry| entry.fate == Fate::Written) {
            entry.fate = Fate::Durable;
        }
    }

    /// Notes an error. After one that is not for want of space the writer is at its end.
    fn done(&mut self, outcome: Result<()>) -> bool {
        let Err(error) = outcome else { return true };
        self.note(&error);
        false
    }

    fn note(&mut self, error: &Error) {
        self.errors.push(error.kind());
        self.doubted |= error.kind() != ErrorKind::NoSpace;
    }

    pub fn sync(&mut self) -> bool {
        let Some(writer) = &self.writer else { return false };
        let outcome = writer.sync();
        let done = self.done(outcome);
        if done {
            self.all_durable();
        }
        done
    }

    /// Opens the writer, and learns what is there now.
    pub fn open(&mut self) -> bool {
        self.writer = None;
        match self.log.writer() {
            Ok(writer) => {
                self.writer = Some(writer);
                self.settle();
                true
            }
            Err(error) => {
                self.note(&error);
                false
            }
        }
    }

    pub fn close(&mut self) -> bool {
        let Some(writer) = self.writer.take() else { return false };
        let outcome = writer.close();
        let done = self.done(outcome);
        if done {
            self.all_durable();
        }
        done
    }

    /// The process dies.
    pub fn die(&mut self) {
        self.writer = None;
    }

    /// The power goes. What was under way is lost or not, as the seed says.
    pub fn power_cut(&mut self, seed: Option<u64>) {
        self.writer = None;
        self.disk = match seed {
            Some(seed) => self.disk.torn_power_cut(seed),
            None => self.disk.power_cut(),
        };
        self.log = Log::open_on(Arc::new(self.disk.clone()), SIM_LOG).unwrap();
        (self.doubted, self.cut) = (true, true);
        for entry in self.entries.iter_mut().filter(|entry| entry.fate == Fate::Written) {
            entry.fate = Fate::Unsure;
        }
    }

    /// What was unsure is known from now on: what is there stays, and what is not there never comes back.
    fn settle(&mut self) {
        let found = self.read();
        let there = |n: u32| found.iter().any(|(_, there)| *there == n);
        // What is lost is lost from the end, and a batch is lost as a whole.
        if self.format == Format::Checksummed {
            let last = found.last().map_or(0, |(_, n)| *n + 1);
            let lost = self.entries.iter().find(|entry| entry.n >= self.free && !there(entry.n));
            if let Some(lost) = lost {
                assert!(lost.n >= last, "{} is lost, and later ones are not: {found:?}", lost.n);
                let torn = found.last().and_then(|(_, last)| self.entries.iter().find(|e| e.n == *last));
                assert!(torn.is_none_or(|torn| torn.commit != lost.commit), "part of a batch: {found:?}");
            }
        }
        for entry in &self.entries {
            let may_be_lost = match entry.fate {
                Fate::Durable => false,
                Fate::Written => self.doubted || self.troubled,
                Fate::Unsure => true,
            };
            assert!(
                may_be_lost || there(entry.n) || entry.n < self.free,
                "{entry:?} is lost: {found:?}, {:?}",
                self.errors
            );
        }
        let free = self.free;
        self.entries.retain(|entry| entry.n < free || there(entry.n));
        for entry in &mut self.entries {
            entry.fate = Fate::Durable;
            entry.id = found.iter().find(|(_, n)| *n == entry.n).map(|(id, _)| *id).or(entry.id);
        }
        self.doubted = false;
        for (name, places) in &mut self.subscribers {
            let Ok(now) = self.log.checkpoint(&subscriber(name)) else { continue };
            assert!(places.contains(&now), "{name} is at {now}, and was at {places:?}");
            if self.cut && !self.eager {
                *places = vec![now];
            }
            if self.cut {
                // What was there after this cut, and was never synced, the next one may yet take.
                places.truncate(places.iter().position(|place| *place == now).map_or(0, |n| n + 1));
            }
        }
        self.cut = false;
    }

    /// All that the log holds, each found to be genuine, in order, and under its id.
    fn read(&mut self) -> Vec<(RecordId, u32)> {
        let found = self.try_read().or_else(|_| {
            // It was this reading that the fault was to meet.
            self.disk.heal();
            self.try_read()
        });
        self.seen = found.unwrap_or_else(|error| panic!("{error}"));
        self.seen.clone()
    }

    fn try_read(&self) -> Result<Vec<(RecordId, u32)>> {
        let mut cursor = self.log.cursor()?;
        cursor.on_damage(OnDamage::Stop);
        let mut found: Vec<(RecordId, u32)> = Vec::new();
        while let Some(record) = cursor.next_record()? {
            let n = message::number(record.payload);
            let n = n.unwrap_or_else(|| panic!("a message that nobody wrote: {record:?}"));
            let entry = self.entries.iter().find(|entry| entry.n == n);
            let entry = entry.unwrap_or_else(|| panic!("{n} was refused, or lost: {:?}", self.errors));
            assert_eq!((entry.len, at(n)), (record.payload.len(), record.time));
            assert!(entry.id.is_none_or(|id| id == record.id), "{entry:?} is {}", record.id);
            assert!(found.last().is_none_or(|(id, before)| *id < record.id && *before < n), "{found:?}, {n}");
            found.push((record.id, n));
        }
        Ok(found)
    }

    /// A reader sees all that it has to see at this moment.
    pub fn check(&mut self) {
        let found = self.read();
        for entry in self.entries.iter().filter(|entry| entry.n >= self.free) {
            let visible = match entry.fate {
                Fate::Durable => true,
                Fate::Written => self.eager && !self.doubted,
                Fate::Unsure => false,
            };
            let there = found.iter().any(|(_, n)| *n == entry.n);
            assert!(!visible || there, "{entry:?} is not there: {found:?}, {:?}", self.errors);
        }
    }

    pub fn add(&mut self, name: &str) {
        let outcome = self.log.add_subscriber(&subscriber(name), Start::Begin);
        match outcome {
            Ok(()) => {
                let durable = crate::open_sim(&self.disk.power_cut());
                let at = durable.checkpoint(&subscriber(name)).unwrap();
                assert!(self.subscribers.insert(name.to_owned(), vec![at]).is_none());
            }
            Err(error) if error.kind() == ErrorKind::SubscriberExists => {}
            Err(error) => self.errors.push(error.kind()),
        }
    }

    pub fn remove(&mut self, name: &str) {
        match self.log.remove_subscriber(&subscriber(name)) {
            Ok(there) => {
                let known = self.subscribers.remove(name).is_some();
                assert!(there == known || self.half_removed.remove(name));
            }
            Err(error) => {
                self.errors.push(error.kind());
                self.half_removed.insert(name.to_owned());
            }
        }
    }

    pub fn has(&self, name: &str) -> bool {
        self.subscribers.contains_key(name)
    }

    /// A subscriber reads so many records, and commits.
    pub fn commit(&mut self, name: &str, count: usize) {
        let Some(places) = self.subscribers.get(name).cloned() else { return };
        let mut reader = match self.log.reader(&subscriber(name)) {
            Ok(reader) => reader,
            Err(error) => return self.errors.push(error.kind()),
        };
        self.half_removed.remove(name);
        let mut got = Vec::new();
        for _ in 0..count {
            match reader.next_record() {
                Ok(Some(record)) => got.push((record.id, message::number(record.payload).unwrap())),
                Ok(None) => break,
                Err(error) => {
                    assert!(error.gap_met().is_none(), "{name}, at {places:?}: {error}");
                    return self.errors.push(error.kind());
                }
            }
        }
        assert!(got.iter().is_sorted_by(|(a, n), (b, m)| a < b && n < m), "{got:?}");
        let (Some((last, _)), Some(first)) = (got.last(), got.first()) else { return };
        if let [place] = places[..] {
            let missed = self.entries.iter().find(|entry| {
                entry.fate == Fate::Durable && entry.id.is_some_and(|id| id > place && id < first.0)
            });
            assert!(missed.is_none(), "{name} is at {place} and missed {missed:?}: {got:?}");
        }
        for (id, n) in &got {
            let entry = self.entries.iter_mut().find(|entry| entry.n == *n);
            entry.unwrap_or_else(|| panic!("{n} was refused, or lost")).id = Some(*id);
        }
        self.subscribers.get_mut(name).unwrap().push(*last);
        self.note_free();
        match reader.commit() {
            Ok(_) => {
                // Where it need not be on the disk, an earlier one may come back.
                let synced = !self.eager || places.last().is_some_and(|place| place.segment != last.segment);
                if synced && self.format == Format::Checksummed {
                    self.subscribers.insert(name.to_owned(), vec![*last]);
                }
            }
            Err(error) => self.errors.push(error.kind()),
        }
    }

    fn note_free(&mut self) {
        let sure = self.subscribers.iter().filter(|(name, _)| !self.half_removed.contains(*name));
        let Some(wanted) = sure.filter_map(|(_, places)| places.last()).min() else { return };
        let before = self.entries.iter().filter(|e| e.id.is_some_and(|id| id.segment < wanted.segment));
        self.free = self.free.max(before.map(|entry| entry.n + 1).max().unwrap_or(0));
    }

    /// Every subscriber can read on from where it is, without a gap.
    pub fn check_subscribers(&mut self) {
        for name in self.subscribers.keys() {
            let mut reader = match self.log.reader(&subscriber(name)) {
                Err(error) if error.kind() == ErrorKind::UnknownSubscriber => {
                    assert!(self.half_removed.contains(name), "{name} is lost");
                    continue;
                }
                reader => reader.unwrap(),
            };
            let checkpoint = self.log.checkpoint(&subscriber(name)).unwrap();
            let mut ahead = self.seen.iter().filter(|(id, _)| *id > checkpoint);
            while let Some(record) = reader.next_record().unwrap_or_else(|error| panic!("{name}: {error}")) {
                assert_eq!(ahead.next().map(|(id, _)| *id), Some(record.id), "{name} is at {checkpoint}");
            }
            assert_eq!(ahead.next(), None, "{name} is at {checkpoint}");
        }
    }
}

fn subscriber(name: &str) -> Subscriber {
    Subscriber::new(name).unwrap()
}

// Random histories.

/// What may be done to a log at any time.
pub fn anything() -> impl Strategy<Value = Action> {
    let len = prop_oneof![4 => 4..200usize, 1 => 200..1500usize];
    let name = select(&["a", "b"]);
    prop_oneof![
        8 => (len.clone(), any::<bool>()).prop_map(|(len, synced)| Action::Append(len, synced)),
        3 => vec(len, 1..5).prop_map(Action::Batch),
        1 => Just(Action::Sync),
        2 => Just(Action::Check),
        3 => (name.clone(), 1..20usize).prop_map(|(name, count)| Action::Commit(name, count)),
        2 => name.prop_map(Action::Subscribe),
        1 => (200..3000u32).prop_map(Action::SegmentSize),
        1 => Just(Action::Close),
        1 => Just(Action::Die),
    ]
}

/// What a disk does to a log.
pub fn trouble() -> impl Strategy<Value = Action> {
    prop_oneof![
        2 => any::<u64>().prop_map(|seed| Action::PowerCut(Some(seed))),
        1 => Just(Action::PowerCut(None)),
        2 => (0..30u64, select(&[EIO, ENOSPC, EDQUOT])).prop_map(|(after, errno)| Action::Fault(after, errno)),
    ]
}

/// A random history of a log, against the list of what it has to hold. Panics where it does not.
pub fn play_at_random(format: Format, seed: u64) {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config { failure_persistence: None, ..Config::default() }, rng);
    let mut pick = |from: BoxedStrategy<Vec<Action>>| from.new_tree(&mut runner).unwrap().current();
    let durability = [Durability::Sync, Durability::Process][seed as usize % 2];
    let disk = SimDisk::new(seed);
    disk.keep_trace(false);
    let actions = match format {
        Format::Classic => pick(vec(anything(), 1..60).boxed()),
        Format::Checksummed => {
            let profiles = [Profile::Posix, Profile::Ext4Ordered, Profile::ZeroTail, Profile::GarbageTail];
            disk.profile(profiles[(seed / 2) as usize % 4]);
            pick(vec(prop_oneof![6 => anything().boxed(), 1 => trouble().boxed()], 1..60).boxed())
        }
    };
    let mut play = Play::begin(disk, format, durability, 1024);
    for action in &actions {
        play.take(action);
    }
    play.finish();
    if format == Format::Checksummed {
        play.power_cut(Some(seed));
        play.finish();
    }
}
