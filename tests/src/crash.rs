//! Crash states of checksummed logs: a short history, a power cut at any moment of it, every disk that this may leave,
//! and what has to hold on each of them.
//!
//! A [`Case`] is a log that has begun in some way, a kind of disk, and a few [`Step`]s. While the steps are taken, a
//! [`Model`] keeps what was promised so far, and the disk is cut before each change it makes. Of each image left:
//!
//! - every record promised to be durable is there, under its id; what was only written may be lost from the end alone
//! - nothing else is there: no half record, no part of a batch, nothing twice, nothing out of order
//! - a segment that is given back is whole or a stub, a stub once that has returned, and all others have what they had
//! - nothing is reported as damaged, by reading, by recovering or by inspecting
//! - subscribers are there as added and removed, each where it committed, and all that it has not read is there
//! - recovering changes nothing that a reader sees, once or twice, and may be cut short itself at any moment
//! - records appended behind it survive the next power cut
//!
//! A disk that lies, or that destroys what lies beside a write, may lose records: there, what is delivered is still
//! genuine and in order, and what is missing between two records is reported.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use jlog::io::Disk;
use jlog::io::sim::{CrashStates, Limits, Profile, SimDisk};
use jlog::{
    CreateOptions, Durability, Gap, GapKind, Log, OnDamage, Reader, RecordId, SegmentId, Start, Subscriber,
    Tail, Writer, inspect,
};

use crate::coverage::counters;
use crate::{SIM_LOG, at, get, said, sim_files};

/// Something that is done to a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    AppendSync,
    AppendProcess,
    /// Three records at once, as durable as the log is.
    Batch,
    Sync,
    /// Fills the segment, and begins the next one.
    Rotate,
    /// Every subscriber reads all there is, and commits.
    Commit,
    /// Adds a second subscriber, or removes it.
    Subscribe,
    /// Gives back the newest finished segment that was not given back yet.
    Reclaim,
    /// Closes the writer and opens another.
    Reopen,
    /// The writing process dies, and another takes over.
    Die,
}

impl Step {
    /// Those of which all short histories are made.
    pub const ALL: [Step; 9] = [
        Step::AppendSync,
        Step::AppendProcess,
        Step::Batch,
        Step::Sync,
        Step::Rotate,
        Step::Commit,
        Step::Subscribe,
        Step::Reclaim,
        Step::Reopen,
    ];

    pub const LETTERS: [(Step, char); 10] = [
        (Step::AppendSync, 'A'),
        (Step::AppendProcess, 'p'),
        (Step::Batch, 'B'),
        (Step::Sync, 'S'),
        (Step::Rotate, 'R'),
        (Step::Commit, 'C'),
        (Step::Subscribe, 'U'),
        (Step::Reclaim, 'G'),
        (Step::Reopen, 'O'),
        (Step::Die, 'D'),
    ];
}

/// What the log was like before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// Just made, with one subscriber.
    Fresh,
    /// With several segments behind it, one of them put aside to be used again, and unread records.
    Used,
    /// A log that does not sync before it acknowledges.
    Eager,
}

impl Begun {
    pub const ALL: [Begun; 3] = [Begun::Fresh, Begun::Used, Begun::Eager];
}

pub const PROFILES: [(Profile, &str); 6] = [
    (Profile::Posix, "posix"),
    (Profile::Ext4Ordered, "ext4"),
    (Profile::ZeroTail, "zero"),
    (Profile::GarbageTail, "garbage"),
    (Profile::PsowOff, "psow"),
    (Profile::Lying, "lying"),
];

/// A history to cut. Prints as, and is read from, `fresh:posix:ApS`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    pub begun: Begun,
    pub profile: Profile,
    pub steps: Vec<Step>,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let begun = format!("{:?}", self.begun).to_lowercase();
        write!(f, "{begun}:{}:", profile_name(self.profile))?;
        for step in &self.steps {
            let (_, letter) = Step::LETTERS.iter().find(|(other, _)| other == step).unwrap();
            write!(f, "{letter}")?;
        }
        Ok(())
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Case, String> {
        let mut parts = text.split(':');
        let mut part = || parts.next().ok_or_else(|| format!("{text}: not begun:profile:steps"));
        let begun = part()?;
        let begun = Begun::ALL.into_iter().find(|one| format!("{one:?}").to_lowercase() == begun);
        let profile = part()?;
        let profile = PROFILES.into_iter().find(|(_, name)| *name == profile);
        let letter = |c| Step::LETTERS.iter().find(|(_, letter)| *letter == c).map(|(step, _)| *step);
        let steps = part()?.chars().map(letter).collect::<Option<_>>();
        let (Some(begun), Some((profile, _)), Some(steps)) = (begun, profile, steps) else {
            return Err(format!("{text}: no such case"));
        };
        Ok(Case { begun, profile, steps })
    }
}

fn profile_name(profile: Profile) -> &'static str {
    PROFILES.iter().find(|(other, _)| *other == profile).map_or("?", |(_, name)| name)
}

/// Every case of so many steps.
pub fn cases_of(count: usize) -> Vec<Case> {
    let mut sequences = vec![Vec::new()];
    for _ in 0..count {
        let longer =
            |before: &Vec<Step>| Step::ALL.map(|step| before.iter().copied().chain([step]).collect());
        sequences = sequences.iter().flat_map(longer).collect();
    }
    let mut cases = Vec::new();
    for steps in &sequences {
        for begun in Begun::ALL {
            for (profile, _) in PROFILES {
                cases.push(Case { begun, profile, steps: steps.clone() });
            }
        }
    }
    cases
}

/// A case of 5 to 9 steps, the death of a process among them.
pub fn random_case(dice: &mut Dice) -> Case {
    let count = 5 + dice.below(5);
    let steps = (0..count).map(|_| Step::LETTERS[dice.below(Step::LETTERS.len())].0).collect();
    Case {
        begun: Begun::ALL[dice.below(Begun::ALL.len())],
        profile: PROFILES[dice.below(PROFILES.len())].0,
        steps,
    }
}

/// splitmix64.
#[derive(Debug, Clone)]
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, sides: usize) -> usize {
        (self.roll() % sides as u64) as usize
    }
}

/// The messages: each tells its number, and the rest of its bytes follow from that.
pub mod message {
    /// A byte that is different from record to record and from place to place, and never zero.
    fn byte(n: u32, at: usize) -> u8 {
        (n.wrapping_mul(151).wrapping_add(at as u32 * 7) % 255) as u8 + 1
    }

    pub fn of(n: u32, len: usize) -> Vec<u8> {
        let rest = (4..len).map(|at| byte(n, at));
        n.to_le_bytes().into_iter().chain(rest).collect()
    }

    /// The number of a message of this many bytes, if it is one.
    pub fn number(payload: &[u8]) -> Option<u32> {
        let n = u32::from_le_bytes(payload.get(..4)?.try_into().ok()?);
        let genuine = payload.iter().enumerate().skip(4).all(|(at, b)| *b == byte(n, at));
        genuine.then_some(n)
    }
}

/// A record that was appended, or is being appended.
#[derive(Debug, Clone, Copy)]
pub struct Appended {
    len: usize,
    /// Which commit it is in: a batch is one.
    commit: u32,
    /// Unless it is still being appended.
    id: Option<RecordId>,
}

/// What was done and promised so far: record number `n` is element `n`.
#[derive(Debug, Clone, Default)]
pub struct Model {
    records: Vec<Appended>,
    /// So many records are promised to be durable.
    durable: usize,
    /// So many records lie in segments that nothing is written to any more.
    finished: usize,
    /// So many records all had read, and their segments may be gone.
    free: usize,
    /// The segments that were given back, and whether that has returned.
    reclaimed: BTreeMap<SegmentId, bool>,
    /// The subscribers that may be there, by name.
    subscribers: BTreeMap<&'static str, Following>,
    commits: u32,
}

/// A subscriber.
#[derive(Debug, Clone, Default)]
struct Following {
    /// It may not be there: it is being added or removed.
    unsure: bool,
    /// Where it may be: from its last durable commit on, the newest last.
    checkpoints: Vec<RecordId>,
}

impl Model {
    fn begin(&mut self, len: usize) -> u32 {
        self.records.push(Appended { len, commit: self.commits, id: None });
        self.records.len() as u32 - 1
    }

    fn acknowledged(&mut self, last: RecordId) {
        let pending = self.records.iter_mut().rev().take_while(|record| record.id.is_none());
        for (record, marker) in pending.zip((0..=last.marker.0).rev()) {
            record.id = Some(RecordId::new(last.segment.0, marker));
        }
        self.commits += 1;
        let before = self.records.iter().rposition(|record| record.id.unwrap().segment < last.segment);
        self.finished = before.map_or(0, |n| n + 1);
        self.durable = self.durable.max(self.finished);
    }

    fn all_durable(&mut self) {
        self.durable = self.records.len();
    }

    /// All subscribers are done with what lies before the first segment that one of them is in.
    fn free_what_all_have_read(&mut self) {
        let wanted = self.subscribers.values().filter_map(|one| one.checkpoints.last()).min();
        let Some(wanted) = wanted else { return };
        let is_before = |record: &Appended| record.id.is_some_and(|id| id.segment < wanted.segment);
        self.free = self.free.max(self.records.iter().rposition(is_before).map_or(0, |n| n + 1));
    }

    /// Whether a record lies in a segment that was, or is being, given back.
    fn is_reclaimed(&self, n: usize) -> bool {
        let id = self.records.get(n).and_then(|record| record.id);
        id.is_some_and(|id| self.reclaimed.contains_key(&id.segment))
    }

    /// Whether a crash may leave exactly the first `count` records.
    fn may_end_with(&self, count: usize) -> bool {
        let whole = |count: usize| {
            count == 0
                || count == self.records.len()
                || self.records[count - 1].commit != self.records[count].commit
        };
        (self.durable..=self.records.len()).contains(&count) && whole(count)
    }
}

/// A log on a simulated disk, with a writer, and what was promised of it.
struct World {
    log: Log,
    writer: Option<Writer>,
    model: Arc<Mutex<Model>>,
    eager: bool,
}

const SEGMENT: u32 = 1024;

impl World {
    fn begin(disk: &SimDisk, begun: Begun) -> World {
        let durability = if begun == Begun::Eager { Durability::Process } else { Durability::Sync };
        let options = CreateOptions::new().segment_size(SEGMENT).durability(durability);
        let log = Log::create_on(Arc::new(disk.clone()), SIM_LOG, &options).unwrap();
        log.add_subscriber(&subscriber("s"), Start::Begin).unwrap();
        let following = Following { unsure: false, checkpoints: vec![RecordId::new(0, 0)] };
        let model = Model { subscribers: BTreeMap::from([("s", following)]), ..Model::default() };
        let writer = Some(log.writer().unwrap());
        let model = Arc::new(Mutex::new(model));
        let mut world = World { log, writer, model, eager: begun == Begun::Eager };
        let past: &[Step] = match begun {
            Begun::Fresh => &[],
            Begun::Used => &[Step::Rotate, Step::Batch, Step::Commit, Step::AppendSync],
            Begun::Eager => &[Step::Batch, Step::Sync],
        };
        past.iter().for_each(|step| world.take(*step));
        world.take(Step::Sync);
        world
    }

    /// A log as a power cut has left it, which is about to be opened for writing.
    fn left(log: Log, model: Model, eager: bool) -> World {
        World { log, writer: None, model: Arc::new(Mutex::new(model)), eager }
    }

    fn writer(&self) -> &Writer {
        self.writer.as_ref().unwrap()
    }

    fn told<T>(&self, what: impl FnOnce(&mut Model) -> T) -> T {
        what(&mut self.model.lock().unwrap())
    }

    fn take(&mut self, step: Step) {
        let len = |n: u32| [40, 180, 91, 300][n as usize % 4];
        match step {
            Step::AppendSync => self.append(len(self.next()), Durability::Sync),
            Step::AppendProcess => self.append(len(self.next()), Durability::Process),
            Step::Batch => self.batch(&[100, 300, 201]),
            Step::Sync => {
                self.writer().sync().unwrap();
                self.told(Model::all_durable);
            }
            Step::Rotate => {
                self.append(900, Durability::Process);
                self.append(30, Durability::Process);
            }
            Step::Commit => {
                let names: Vec<_> = self.told(|model| model.subscribers.keys().copied().collect());
                names.into_iter().for_each(|name| self.commit(name));
            }
            Step::Subscribe => self.subscribe("t"),
            Step::Reclaim => self.reclaim(),
            Step::Reopen => {
                self.writer.take().unwrap().close().unwrap();
                self.open();
            }
            Step::Die => {
                drop(self.writer.take());
                self.open();
            }
        }
    }

    fn next(&self) -> u32 {
        self.told(|model| model.records.len() as u32)
    }

    /// Whoever opens the log makes durable what is there.
    fn open(&mut self) {
        self.writer = Some(self.log.writer().unwrap());
        self.told(Model::all_durable);
    }

    fn append(&mut self, len: usize, durability: Durability) {
        let n = self.told(|model| model.begin(len));
        let id = self.writer().append_as(&message::of(n, len), at(n), durability).unwrap();
        self.told(|model| {
            model.acknowledged(id);
            if durability.is_synced() {
                model.all_durable();
            }
        });
    }

    fn batch(&mut self, lens: &[usize]) {
        let numbers: Vec<u32> = self.told(|model| lens.iter().map(|len| model.begin(*len)).collect());
        let messages: Vec<_> =
            numbers.iter().zip(lens).map(|(n, len)| (message::of(*n, *len), at(*n))).collect();
        let last = self.writer().append_batch(messages.iter().map(|(message, time)| (&message[..], *time)));
        let last = last.unwrap().unwrap();
        self.told(|model| {
            model.acknowledged(last);
            if !self.eager {
                model.all_durable();
            }
        });
    }

    fn commit(&mut self, name: &'static str) {
        let mut reader = self.log.reader(&subscriber(name)).unwrap();
        self.told(|model| Found::unread(&mut reader, model));
        let Some(last) = reader.last_id() else { return };
        let before = self.told(|model| {
            let before = *model.subscribers[name].checkpoints.last().unwrap();
            model.subscribers.get_mut(name).unwrap().checkpoints.push(last);
            model.free_what_all_have_read();
            before
        });
        reader.commit().unwrap();
        if !self.eager || before.segment != last.segment {
            self.told(|model| model.subscribers.get_mut(name).unwrap().checkpoints = vec![last]);
        }
    }

    fn reclaim(&mut self) {
        let active = self.log.active_segment().unwrap();
        let known = |id: &SegmentId| *id < active && !self.log.is_reclaimed(*id).unwrap();
        let Some(id) = self.log.segments().unwrap().into_iter().rev().find(known) else { return };
        self.told(|model| model.reclaimed.insert(id, false));
        self.log.reclaim(id).unwrap();
        self.told(|model| model.reclaimed.insert(id, true));
    }

    fn subscribe(&mut self, name: &'static str) {
        if self.told(|model| model.subscribers.contains_key(name)) {
            self.told(|model| model.subscribers.get_mut(name).unwrap().unsure = true);
            assert!(self.log.remove_subscriber(&subscriber(name)).unwrap());
            self.told(|model| model.subscribers.remove(name));
        } else {
            let start = self.log.last_id().unwrap();
            let following = Following { unsure: true, checkpoints: vec![start] };
            self.told(|model| model.subscribers.insert(name, following));
            self.log.add_subscriber(&subscriber(name), Start::End).unwrap();
            self.told(|model| model.subscribers.get_mut(name).unwrap().unsure = false);
        }
    }
}

fn subscriber(name: &str) -> Subscriber {
    Subscriber::new(name).unwrap()
}

/// A moment at which the power may go: what the disk may leave then, and what has to hold of it.
struct Moment {
    states: CrashStates,
    model: Model,
}

/// What to look at, and how closely.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    pub name: &'static str,
    limits: Limits,
    /// Of so many images one is looked at with all that costs more.
    thorough: u64,
    /// Of so many images one has its recovery cut short at every point.
    nested: u64,
}

impl Effort {
    /// Every image of most moments.
    pub const FULL: Effort = Effort {
        name: "full",
        limits: Limits { exhaustive_atoms: 10, exhaustive_images: 1024, samples: 24 },
        thorough: 16,
        nested: 256,
    };
    /// For histories of which there are tens of thousands.
    pub const BRIEF: Effort = Effort {
        name: "brief",
        limits: Limits { exhaustive_atoms: 10, exhaustive_images: 8, samples: 2 },
        thorough: 16,
        nested: 1024,
    };
    /// For hundreds of thousands.
    pub const SCANT: Effort = Effort {
        name: "scant",
        limits: Limits { exhaustive_atoms: 10, exhaustive_images: 4, samples: 2 },
        thorough: 32,
        nested: 4096,
    };
    /// For builds that are not optimised.
    pub const SHORT: Effort = Effort {
        name: "short",
        limits: Limits { exhaustive_atoms: 5, exhaustive_images: 12, samples: 4 },
        thorough: 8,
        nested: 64,
    };

    /// The one of this name.
    pub fn named(name: &str) -> Option<Effort> {
        [Effort::FULL, Effort::BRIEF, Effort::SCANT, Effort::SHORT]
            .into_iter()
            .find(|effort| effort.name == name)
    }
}

counters! {
    torn: "a torn end was cut",
    zero_tail: "a lost record left zeros",
    reordered: "a later commit was there and an earlier one was not",
    lost_names: "a name operation was lost",
    lost_segment: "a segment was on its way and had no name yet",
    sizes_behind: "a file was shorter than it had been",
    sizes_ahead: "a file was longer than its data",
    garbage: "a sector held garbage",
    kept: "torn bytes were kept aside",
    recycled: "a segment in use had been another one",
    closed: "a closed segment had no successor",
    went_on: "writing went on in a new segment",
    batch_torn: "a batch was written and not whole",
    unacknowledged: "a record was there that was not acknowledged",
    process_lost: "a record acknowledged before it was durable was lost",
    checkpoint_back: "a checkpoint that was not durable was lost",
    checkpoint_ahead: "a subscriber had read what was lost",
    subscriber_back: "a subscriber that was being removed was there",
    subscriber_missing: "a subscriber that was being added was not there",
    pruned: "segments were gone that all had read",
    reclaimed: "a segment was a stub before that had returned",
    unreclaimed: "a segment that was being given back was whole",
    damage_told: "damage was told of, on disks that destroy what is durable",
    in_recovery: "a recovery was cut short",
    twice_in_recovery: "the recovery after that was cut short",
}

/// What was done so far.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// Images looked at, by profile.
    pub states: BTreeMap<&'static str, u64>,
    pub cases: u64,
    pub moments: u64,
    pub exhaustive: u64,
    pub met: Coverage,
}

impl Totals {
    pub fn all_states(&self) -> u64 {
        self.states.values().sum()
    }

    /// A simulator that has quietly stopped to reach the interesting states would prove nothing.
    pub fn met_everything(&self) -> Result<(), String> {
        match self.met.all().iter().find(|(_, count)| *count == 0) {
            Some((what, _)) => Err(format!("never met: {what}")),
            None => Ok(()),
        }
    }

    pub fn add(&mut self, other: &Totals) {
        for (name, count) in &other.states {
            *self.states.entry(name).or_default() += count;
        }
        self.cases += other.cases;
        self.moments += other.moments;
        self.exhaustive += other.exhaustive;
        self.met.add(&other.met);
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, count) in &self.states {
            writeln!(f, "{count:>10}  {name}")?;
        }
        for (what, count) in self.met.all() {
            writeln!(f, "{count:>10}  {what}")?;
        }
        let Totals { cases, moments, exhaustive, .. } = self;
        writeln!(f, "{cases} histories, {moments} moments, {exhaustive} of them with every image there is")?;
        write!(f, "crash states: {}", self.all_states())
    }
}

/// Which image of a run: the moment, and the number of the image.
pub type Chosen = Option<(u64, u64)>;

/// Looks at images, and counts.
struct Watchman {
    effort: Effort,
    profile: Profile,
    eager: bool,
    totals: Totals,
    dice: Dice,
    /// The image that is being looked at.
    at: (u64, u64),
}

/// Runs a case, and looks at what a power cut may leave in its last step: earlier ones are other cases' last.
///
/// A failure is returned as what went wrong, and the place to name to see it again.
pub fn run(case: &Case, seed: u64, effort: Effort, chosen: Chosen) -> (Totals, Result<(), String>) {
    let salt = case.to_string().bytes().fold(seed, |salt, byte| Dice(salt ^ u64::from(byte)).roll());
    let mut watchman = Watchman {
        effort,
        profile: case.profile,
        eager: case.begun == Begun::Eager,
        totals: Totals { cases: 1, ..Totals::default() },
        dice: Dice(salt),
        at: (0, 0),
    };
    let outcome = catch_unwind(AssertUnwindSafe(|| watchman.run(case, salt, chosen)));
    let (moment, image) = watchman.at;
    let outcome = outcome.map_err(|panic| {
        let what = said(&*panic);
        let effort = effort.name;
        format!(
            "{what}\nagain: crash-states --seed {seed} --effort {effort} --replay {case}:{moment}:{image}"
        )
    });
    (watchman.totals, outcome)
}

impl Watchman {
    fn run(&mut self, case: &Case, salt: u64, chosen: Chosen) {
        let disk = SimDisk::new(7);
        disk.keep_trace(false);
        let mut world = World::begin(&disk, case.begun);
        disk.profile(case.profile);
        let (last, before) = case.steps.split_last().unwrap();
        before.iter().for_each(|step| world.take(*step));
        let moments = moments_in(&disk, &mut world, self.effort.limits, salt, |world| world.take(*last));
        // Before its first change a step has left everything as the one before it has, which was looked at then.
        for (number, moment) in (0u64..).zip(moments).skip(1) {
            if chosen.is_some_and(|(only, _)| only != number) {
                continue;
            }
            self.totals.moments += 1;
            self.totals.exhaustive += u64::from(moment.states.is_exhaustive());
            for (n, image) in (0..).zip(moment.states) {
                self.at = (number, n);
                // A chosen one is looked at with all there is.
                let hit = chosen.is_none_or(|(_, only)| only == n);
                let often = |k: u64| Dice(salt ^ (number << 32) ^ n).roll().is_multiple_of(k);
                let depth = if often(self.effort.nested) { Depth::Nested(2) } else { Depth::Plain };
                let thorough = often(self.effort.thorough);
                if hit {
                    self.dice = Dice(salt ^ (number << 32) ^ n);
                    self.look(&image, &moment.model, depth, thorough);
                }
            }
        }
    }

    /// Looks at what a power cut has left.
    fn look(&mut self, image: &SimDisk, model: &Model, depth: Depth, thorough: bool) {
        *self.totals.states.entry(profile_name(self.profile)).or_default() += 1;
        let made_of = image.made_of();
        self.totals.met.lost_names += u64::from(made_of.lost_names > 0);
        self.totals.met.sizes_behind += u64::from(made_of.sizes_behind > 0);
        self.totals.met.sizes_ahead += u64::from(made_of.sizes_ahead > 0);
        self.totals.met.garbage += u64::from(made_of.garbage_sectors > 0);
        let weak =
            self.profile == Profile::Lying || self.profile == Profile::PsowOff && made_of.garbage_sectors > 0;
        if weak {
            return self.look_weakly(image, model);
        }

        let log = Log::open_on(Arc::new(image.clone()), SIM_LOG).unwrap();
        let before = Found::in_log(&log, model);
        assert_eq!(before.gaps, [], "a power cut is no damage");
        if thorough {
            self.inspect(&log);
        }
        let segments = log.segments().unwrap();
        self.note_segments(image, &segments);
        if let Depth::Nested(left) = depth {
            self.cut_the_recovery(image, model, &before, left);
        }

        let writer = log.writer().unwrap();
        let recovery = writer.recovery();
        assert_eq!(recovery.damaged, None, "a power cut is no damage");
        let after = Found::in_log(&log, model);
        assert!(before.same(&after), "a recovery changes nothing that a reader sees: {before:?} {after:?}");
        self.check_records(&after, model);
        self.check_reclaimed(&log, &after, model);
        self.check_subscribers(&log, &after, model);
        self.note_recovery(image, &log, &segments, &recovery, &after, model);

        if thorough {
            drop(writer);
            self.open_again(image, &log, &after, model);
            self.append_and_cut(image, &after, model);
        }
    }

    /// What holds on disks that destroy what is durable: what is delivered is genuine, and what is missing in between
    /// is told of.
    fn look_weakly(&mut self, image: &SimDisk, model: &Model) {
        let Ok(log) = Log::open_on(Arc::new(image.clone()), SIM_LOG) else {
            assert_eq!(self.profile, Profile::Lying, "the log is there");
            return;
        };
        let found = Found::in_log(&log, model);
        self.totals.met.damage_told += u64::from(!found.gaps.is_empty());
        assert!(found.records.is_sorted_by(|(a, n), (b, m)| a < b && n < m), "{found:?}");
        if found.gaps.is_empty() {
            assert!(found.is_dense(model), "what is missing in between is told of: {found:?}");
        }
        if self.profile == Profile::PsowOff {
            let there = |n: u32| found.records.iter().any(|(_, there)| *there == n);
            let lost = (model.free..model.finished).find(|n| !there(*n as u32) && !model.is_reclaimed(*n));
            assert_eq!(lost, None, "lost from a finished segment: {found:?}");
        }
        match log.writer() {
            Ok(writer) => {
                let after = Found::in_log(&log, model);
                // Where names that were synced are lost, two of them may be one file.
                let told = self.profile == Profile::Lying && !after.gaps.is_empty();
                // And it knows more than readers do: what subscribers have read was durable.
                let kept = found.records.iter().all(|record| after.records.contains(record));
                assert!(told || kept, "a recovery takes no record away: {found:?} {after:?}");
                drop(writer);
            }
            Err(error) => assert_eq!(self.profile, Profile::Lying, "{error}"),
        }
    }

    fn inspect(&self, log: &Log) {
        let seen = inspect::inspect(log).unwrap();
        let bad = |finding: &&inspect::Finding| finding.is_damage();
        let bad: Vec<_> = seen.findings.iter().filter(bad).collect();
        assert!(bad.is_empty(), "a power cut is no damage: {bad:?}");
    }

    fn check_records(&mut self, found: &Found, model: &Model) {
        let end = found.end(model);
        assert!(found.is_dense(model), "{found:?}");
        assert!(found.first(model) <= model.free, "{} may be gone: {found:?}", model.free);
        assert!(
            model.may_end_with(end),
            "{} of {} records are durable, and {end} are there: {found:?}",
            model.durable,
            model.records.len()
        );
        for (id, n) in &found.records {
            let given = model.records[*n as usize].id;
            assert!(given.is_none_or(|given| given == *id), "{n} was given {given:?}: {found:?}");
        }
        let met = &mut self.totals.met;
        met.pruned += u64::from(found.first(model) > 0);
        let acknowledged = model.records.iter().filter(|record| record.id.is_some()).count();
        met.unacknowledged += u64::from(end > acknowledged);
        met.process_lost += u64::from(end < acknowledged);
    }

    /// A segment that is given back is whole or a stub, and stays one once it is known to be.
    fn check_reclaimed(&mut self, log: &Log, found: &Found, model: &Model) {
        for (id, is_sure) in &model.reclaimed {
            let Ok(is_stub) = log.is_reclaimed(*id) else { continue };
            let had = |record: &&Appended| record.id.is_some_and(|given| given.segment == *id);
            let had = model.records.iter().filter(had).count();
            let there = found.records.iter().filter(|(there, _)| there.segment == *id).count();
            assert!(is_stub || !is_sure, "{id} was given back, and is whole: {found:?}");
            assert_eq!(there, if is_stub { 0 } else { had }, "of {id}: {found:?}");
            self.totals.met.reclaimed += u64::from(is_stub && !is_sure);
            self.totals.met.unreclaimed += u64::from(!is_stub);
        }
    }

    fn check_subscribers(&mut self, log: &Log, found: &Found, model: &Model) {
        let there = log.subscribers().unwrap();
        for name in &there {
            let known = model.subscribers.keys().any(|known| subscriber(known) == *name);
            assert!(known, "a subscriber that was removed, or never added: {name}");
        }
        for (name, following) in &model.subscribers {
            if !there.contains(&subscriber(name)) {
                assert!(following.unsure, "a subscriber is lost");
                self.totals.met.subscriber_missing += 1;
                continue;
            }
            self.totals.met.subscriber_back += u64::from(following.unsure);
            let checkpoint = log.checkpoint(&subscriber(name)).unwrap();
            assert!(following.checkpoints.contains(&checkpoint), "{checkpoint}: {following:?}");
            let is_newest = following.checkpoints.last() == Some(&checkpoint);
            self.totals.met.checkpoint_back += u64::from(!is_newest);
            let last = found.records.last().map(|(id, _)| *id).unwrap_or_default();
            self.totals.met.checkpoint_ahead += u64::from(checkpoint.marker.0 > 0 && checkpoint > last);

            let mut reader = log.reader(&subscriber(name)).unwrap();
            let unread = Found::unread(&mut reader, model);
            let ahead = found.records.iter().filter(|(id, _)| *id > checkpoint);
            assert!(ahead.eq(&unread.records), "{name} is at {checkpoint}: {found:?}, {unread:?}");
        }
    }

    fn note_segments(&mut self, image: &SimDisk, segments: &[SegmentId]) {
        let met = &mut self.totals.met;
        let new = image.info(&Path::new(SIM_LOG).join(".new"), false).is_ok();
        met.lost_segment += u64::from(new);
        if let Some(last) = segments.last() {
            // Byte 80 of a segment's header says that its file was used before: docs/format-checksummed.md.
            let bytes = get(image, &format!("{:08x}", last.0)).unwrap();
            met.recycled += u64::from(bytes.get(80).is_some_and(|byte| *byte != 0));
        }
    }

    fn note_recovery(
        &mut self,
        image: &SimDisk,
        log: &Log,
        before: &[SegmentId],
        recovery: &jlog::Recovery,
        found: &Found,
        model: &Model,
    ) {
        let met = &mut self.totals.met;
        let end = found.end(model);
        let made_of = image.made_of();
        let went_on = !before.is_empty() && log.active_segment().unwrap() > *before.last().unwrap();
        met.went_on += u64::from(went_on);
        met.closed += u64::from(went_on && recovery.torn.is_none() && end == model.records.len());
        let lost = model.records.get(end);
        if lost.is_some() && recovery.torn.is_none() {
            met.zero_tail += u64::from(made_of.zero_sectors > 0 || made_of.sizes_ahead > 0);
        }
        let Some((_, torn)) = recovery.torn else { return };
        met.torn += 1;
        let kept = image.info(&Path::new(SIM_LOG).join(".repair/torn"), false).is_ok();
        met.kept += u64::from(kept);
        let Some(lost) = lost else { return };
        let commit = model.records.iter().filter(|record| record.commit == lost.commit);
        let span: usize = commit.clone().map(|record| (24 + record.len).next_multiple_of(8)).sum();
        met.reordered += u64::from(torn > 32 + span as u64);
        met.batch_torn += u64::from(commit.count() > 1);
    }

    /// A recovery that is begun again, after the death of the process, finds what it has made, and leaves it alone.
    fn open_again(&mut self, image: &SimDisk, log: &Log, found: &Found, model: &Model) {
        let files = |disk: &SimDisk| {
            let mut files = sim_files(disk);
            files.remove("control");
            files
        };
        let before = files(image);
        let writer = log.writer().unwrap();
        assert_eq!(writer.recovery(), jlog::Recovery::default(), "it was put right already");
        assert!(before == files(image), "a second recovery changes nothing");
        assert!(found.same(&Found::in_log(log, model)));
        writer.close().unwrap();
        self.inspect(log);
        // What a reader has seen stays.
        let cut = crate::open_sim(&image.power_cut());
        assert!(found.same(&Found::in_log(&cut, model)), "a second power cut takes what was seen");
    }

    /// Appends where the torn end was, records as long as the lost ones, and loses power again.
    fn append_and_cut(&mut self, image: &SimDisk, found: &Found, model: &Model) {
        let end = found.end(model);
        let log = crate::open_sim(image);
        let lens: Vec<usize> = match model.records.get(end) {
            Some(lost) => vec![lost.len, 180],
            None => vec![40, 180],
        };
        let mut model = model.found(found, &log);
        let writer = log.writer().unwrap();
        let mut wanted = found.records.clone();
        for len in lens {
            let n = model.begin(len);
            let id = writer.append_as(&message::of(n, len), at(n), Durability::Sync).unwrap();
            model.acknowledged(id);
            wanted.push((id, n));
            let cuts = [image.power_cut(), image.torn_power_cut(self.dice.roll())];
            for cut in cuts.iter().filter(|cut| cut.made_of().garbage_sectors == 0 || !self.destroys()) {
                let cut_log = crate::open_sim(cut);
                let after = Found::in_log(&cut_log, &model);
                assert_eq!((&after.gaps, &after.records), (&Vec::new(), &wanted), "after an append");
                cut_log.writer().unwrap();
                let after = Found::in_log(&cut_log, &model);
                assert_eq!((&after.gaps, &after.records), (&Vec::new(), &wanted), "after the next recovery");
            }
        }
    }

    fn destroys(&self) -> bool {
        self.profile == Profile::PsowOff
    }

    /// Cuts the power at every point of the recovery, and of an append behind it.
    fn cut_the_recovery(&mut self, image: &SimDisk, model: &Model, found: &Found, left: u32) {
        if left == 2 {
            self.totals.met.in_recovery += 1;
        } else {
            self.totals.met.twice_in_recovery += 1;
        }
        let disk = image.power_cut();
        let log = crate::open_sim(&disk);
        let len = model.records.get(found.end(model)).map_or(40, |lost| lost.len);
        let mut world = World::left(log, model.found(found, &crate::open_sim(image)), self.eager);
        let limits = Limits { exhaustive_atoms: 3, exhaustive_images: 8, samples: 4 };
        let salt = self.dice.roll();
        let moments = moments_in(&disk, &mut world, limits, salt, |world| {
            world.open();
            world.append(len, Durability::Sync);
        });
        for moment in moments {
            for image in moment.states {
                let deeper = left > 1 && self.dice.below(24) == 0;
                let depth = if deeper { Depth::Nested(left - 1) } else { Depth::Plain };
                let thorough = self.dice.below(8) == 0;
                self.look(&image, &moment.model, depth, thorough);
            }
        }
    }
}

/// How far to go.
#[derive(Debug, Clone, Copy)]
enum Depth {
    Plain,
    /// The recovery is cut short, and so may be the one after it, so many times.
    Nested(u32),
}

/// The moments of something that is done, and the one behind it.
fn moments_in(
    disk: &SimDisk,
    world: &mut World,
    limits: Limits,
    salt: u64,
    what: impl FnOnce(&mut World),
) -> Vec<Moment> {
    let moments = Arc::new(Mutex::new(Vec::new()));
    let (noted, model) = (Arc::clone(&moments), Arc::clone(&world.model));
    disk.observe(move |disk, _| {
        let mut noted = noted.lock().unwrap();
        let salt = salt.wrapping_add(noted.len() as u64);
        let model = model.lock().unwrap().clone();
        noted.push(Moment { states: disk.crash_states(limits, salt), model });
    });
    what(world);
    disk.unobserve();
    let mut moments = std::mem::take(&mut *moments.lock().unwrap());
    let model = world.model.lock().unwrap().clone();
    moments.push(Moment { states: disk.crash_states(limits, salt.wrapping_sub(1)), model });
    moments
}

impl Model {
    /// What has to hold from now on of a log that was found like this.
    fn found(&self, found: &Found, log: &Log) -> Model {
        let end = found.end(self);
        let mut model = self.clone();
        model.records.truncate(end);
        for (id, n) in &found.records {
            model.records[*n as usize].id = Some(*id);
        }
        for record in &mut model.records {
            record.id.get_or_insert_default();
        }
        model.free = found.first(self);
        model.durable = end;
        model.commits += 1;
        let last = found.records.last().map(|(id, _)| id.segment);
        let finished = model.records.iter().rposition(|record| record.id.map(|id| id.segment) < last);
        model.finished = finished.map_or(0, |n| n + 1);
        let there = log.subscribers().unwrap();
        model.subscribers.retain(|name, _| there.contains(&subscriber(name)));
        for (name, following) in &mut model.subscribers {
            *following =
                Following { unsure: false, checkpoints: vec![log.checkpoint(&subscriber(name)).unwrap()] };
        }
        model
    }
}

/// What a log holds: ids and numbers of its records, each found to be genuine.
#[derive(Debug, PartialEq)]
struct Found {
    records: Vec<(RecordId, u32)>,
    gaps: Vec<Gap>,
    tail: Tail,
}

impl Found {
    fn in_log(log: &Log, model: &Model) -> Found {
        let mut cursor = log.cursor().unwrap();
        let mut found = Found { records: Vec::new(), gaps: Vec::new(), tail: Tail::Clean };
        loop {
            let error = match cursor.next_record() {
                Ok(Some(record)) => {
                    found.records.push((record.id, model.number(&record)));
                    continue;
                }
                Ok(None) => break,
                Err(error) => error,
            };
            let gap = cursor.skip_gap();
            found.gaps.push(gap.unwrap_or_else(|| panic!("{error}")));
            assert!(found.gaps.len() < 1000, "no end of gaps: {error}");
        }
        found.tail = cursor.tail();
        found
    }

    fn unread(reader: &mut Reader, model: &Model) -> Found {
        reader.on_damage(OnDamage::Stop);
        let mut found = Found { records: Vec::new(), gaps: Vec::new(), tail: Tail::Clean };
        loop {
            let error = match reader.next_record() {
                Ok(Some(record)) => {
                    found.records.push((record.id, model.number(&record)));
                    continue;
                }
                Ok(None) => return found,
                Err(error) => error,
            };
            let gap = error.gap_met().cloned().unwrap_or_else(|| panic!("{error}"));
            assert_eq!(gap.kind, GapKind::Reclaimed, "{gap}");
            assert!(model.reclaimed.contains_key(&gap.segment), "{gap}");
            reader.skip_gap();
        }
    }

    /// Whether a reader sees the same: what lies behind the end does not matter.
    fn same(&self, other: &Found) -> bool {
        self.records == other.records && self.gaps == other.gaps
    }

    /// Whether nothing is missing between two of its records but what was given back.
    fn is_dense(&self, model: &Model) -> bool {
        let follow = |n: u32, m: u32| (n + 1..m).all(|between| model.is_reclaimed(between as usize));
        self.records.is_sorted_by(|(a, n), (b, m)| a < b && n < m && follow(*n, *m))
    }

    /// The number of the first record, or of the one that would come next: what was given back is not missing.
    fn first(&self, model: &Model) -> usize {
        let mut first = self.records.first().map_or(self.end(model), |(_, n)| *n as usize);
        while first > 0 && model.is_reclaimed(first - 1) {
            first -= 1;
        }
        first
    }

    /// How many records there are, those included that are gone or were given back; where none is, as many as may be gone.
    fn end(&self, model: &Model) -> usize {
        let mut end = self.records.last().map_or(model.free, |(_, n)| *n as usize + 1);
        while model.is_reclaimed(end) {
            end += 1;
        }
        end
    }
}

impl Model {
    fn number(&self, record: &jlog::Record<'_>) -> u32 {
        let n = message::number(record.payload);
        let n = n.unwrap_or_else(|| panic!("a message that nobody wrote: {record:?}"));
        let known = self.records.get(n as usize);
        assert!(
            known.is_some_and(|known| known.len == record.payload.len()),
            "a message that nobody wrote to this log: {record:?}"
        );
        assert_eq!(record.time, at(n), "the time of {n}");
        n
    }
}

/// Runs these cases, on all processors, until there are none left or one fails.
pub fn run_all(cases: &[Case], seed: u64, effort: Effort) -> (Totals, Result<(), String>) {
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let work = || {
        let mut totals = Totals::default();
        while !failed.load(Ordering::Relaxed) {
            let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
            let (more, outcome) = run(case, seed, effort, None);
            totals.add(&more);
            if let Err(failure) = outcome {
                failed.store(true, Ordering::Relaxed);
                return (totals, Err(failure));
            }
        }
        (totals, Ok(()))
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let results: Vec<_> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        handles.into_iter().map(|handle| handle.join().unwrap()).collect()
    });
    let mut totals = Totals::default();
    let mut outcome = Ok(());
    for (more, result) in results {
        totals.add(&more);
        outcome = outcome.and(result);
    }
    (totals, outcome)
}
