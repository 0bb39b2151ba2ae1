//! Crash states of spools: a history of a few steps, a power cut at any moment of it, every disk that this may leave, and
//! what has to hold of each of them.
//!
//! While the steps are taken a [`Model`] keeps what was promised. Of each image left:
//!
//! - a message whose acceptance had returned is there, whole: body, envelope, context, how it stands, resources; all of
//!   it at least as new as the last change that was acknowledged
//! - a batch on its way is there, whole, or nothing of it is
//! - a message whose removal is durable is not there, and does not come back: not after reclaiming, not after more crashes
//! - nothing adds up to a finding, opening again finds the same, the schedule holds what is there, ids are new
//!
//! Of some images the opening is cut short, and some are worked on, and cut again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use jlog::io::sim::{CrashStates, Limits, Profile, SimDisk, Times};
use nix::libc::EIO;
use spool::{
    MaxRetries, Message, MessageId, NextAttempt, QueueKey, RetryPolicy, Scope, Spool, SpoolError,
    SpoolOptions, Timestamp,
};

use crate::coverage::counters;
use crate::crash::{Dice, message};
use crate::said;

/// Where the spool is.
pub const PATH: &str = "/spool";

/// What is done to a spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A small message.
    Accept,
    /// One of its own, and three that share a body.
    Batch,
    /// A message that is written while it comes.
    Large,
    /// One that is, and is never accepted.
    Discard,
    /// Changes a context.
    Context,
    /// Notes an attempt.
    Retry,
    /// Holds a message, or releases it.
    Hold,
    /// Puts it into another queue.
    Assign,
    /// Writes a resource.
    Resource,
    /// Removes a resource.
    Unresource,
    /// Removes a message, not durably.
    Remove,
    /// Removes half of all messages.
    RemoveMany,
    Sync,
    /// A little reclaiming.
    Maintain,
    /// All of it.
    MaintainAll,
    /// Closes the spool, and opens it again.
    Reopen,
    /// The process dies, and another one opens the spool.
    Die,
}

impl Step {
    pub const ALL: [(Step, char); 17] = [
        (Step::Accept, 'a'),
        (Step::Batch, 'b'),
        (Step::Large, 'l'),
        (Step::Discard, 'd'),
        (Step::Context, 'c'),
        (Step::Retry, 't'),
        (Step::Hold, 'h'),
        (Step::Assign, 'q'),
        (Step::Resource, 'p'),
        (Step::Unresource, 'x'),
        (Step::Remove, 'r'),
        (Step::RemoveMany, 'R'),
        (Step::Sync, 'S'),
        (Step::Maintain, 'm'),
        (Step::MaintainAll, 'M'),
        (Step::Reopen, 'O'),
        (Step::Die, 'D'),
    ];
}

/// What the spool was like before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// Just made.
    Fresh,
    /// With segments of which some is needed, and changes of messages that lie elsewhere.
    Used,
    /// With a segment half moved.
    Moving,
}

impl Begun {
    pub const ALL: [Begun; 3] = [Begun::Fresh, Begun::Used, Begun::Moving];

    fn past(self) -> &'static str {
        match self {
            Begun::Fresh => "",
            Begun::Used => "abplapctRxaltR",
            Begun::Moving => "abaplbcaRtablRmam",
        }
    }
}

/// The disks on which nothing durable is lost.
pub const PROFILES: [(Profile, &str); 4] = [
    (Profile::Posix, "posix"),
    (Profile::Ext4Ordered, "ext4"),
    (Profile::ZeroTail, "zero"),
    (Profile::GarbageTail, "garbage"),
];

/// A history to cut. Prints as, and is read from, `used:posix:arM`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    pub begun: Begun,
    pub profile: Profile,
    pub steps: Vec<Step>,
}

fn steps(text: &str) -> Option<Vec<Step>> {
    text.chars().map(|c| Step::ALL.iter().find(|(_, other)| *other == c).map(|(step, _)| *step)).collect()
}

fn profile_name(profile: Profile) -> &'static str {
    PROFILES.iter().find(|(other, _)| *other == profile).map_or("?", |(_, name)| name)
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let begun = format!("{:?}", self.begun).to_lowercase();
        write!(f, "{begun}:{}:", profile_name(self.profile))?;
        let letter = |step: &Step| Step::ALL.iter().find(|(other, _)| other == step).unwrap().1;
        self.steps.iter().try_for_each(|step| write!(f, "{}", letter(step)))
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Case, String> {
        let mut parts = text.split(':');
        let mut part = || parts.next().unwrap_or_default();
        let begun = part();
        let begun = Begun::ALL.into_iter().find(|one| format!("{one:?}").to_lowercase() == begun);
        let profile = part();
        let profile = PROFILES.into_iter().find(|(_, name)| *name == profile);
        let (Some(begun), Some((profile, _)), Some(steps)) = (begun, profile, steps(part())) else {
            return Err(format!("{text}: not begun:profile:steps"));
        };
        Ok(Case { begun, profile, steps })
    }
}

/// Every history of so many steps, each behind every beginning and on every disk.
pub fn cases_of(count: usize) -> Vec<Case> {
    let mut sequences = vec![Vec::new()];
    for _ in 0..count {
        let longer = |before: &Vec<Step>| Step::ALL.map(|(step, _)| [&before[..], &[step]].concat());
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

/// A history of 4 to 15 steps.
pub fn random_case(dice: &mut Dice) -> Case {
    let count = 4 + dice.below(12);
    Case {
        begun: Begun::ALL[dice.below(Begun::ALL.len())],
        profile: PROFILES[dice.below(PROFILES.len())].0,
        steps: (0..count).map(|_| Step::ALL[dice.below(Step::ALL.len())].0).collect(),
    }
}

/// What of a message may change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stand {
    pub attempts: u32,
    pub next_attempt: u32,
    pub held: bool,
    pub queue: u32,
    pub context: u32,
    pub resources: BTreeMap<String, u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Its acceptance has not returned.
    Coming,
    There,
    /// Its removal was asked for, and is not known to be durable.
    Going,
    Gone,
    /// Something of it failed: it may be there or not, until the spool is opened again.
    Unsure,
}

/// A message that was made.
#[derive(Debug, Clone)]
pub struct Expected {
    pub id: MessageId,
    /// The number of its body, and its length.
    pub body: (u32, usize),
    pub phase: Phase,
    /// What it may be like: the last is the newest.
    pub versions: Vec<Stand>,
    /// Which call accepted it.
    pub call: usize,
}

/// What was done and promised so far.
#[derive(Debug, Clone, Default)]
pub struct Model {
    pub messages: Vec<Expected>,
    /// The ids that were given out.
    pub ids: BTreeSet<u64>,
    calls: usize,
    now: u32,
}

/// A message as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub stand: Stand,
    pub body: (u32, usize),
    pub recipient: String,
}

/// What a message is like that may change.
fn stand_of(message: &Message) -> Result<Stand, SpoolError> {
    let mut resources = BTreeMap::new();
    for name in message.resources()? {
        let bytes = message.resource(&name)?.expect("it was listed");
        resources.insert(name, message::number(&bytes).expect("a genuine resource"));
    }
    let context = message.context_get(Scope::Message, "n")?;
    Ok(Stand {
        attempts: message.attempts(),
        next_attempt: message.next_attempt(),
        held: message.is_held(),
        queue: message.queue().domain.parse().expect("one of ours"),
        context: std::str::from_utf8(&context).unwrap().parse().unwrap_or(0),
        resources,
    })
}

/// One message, all of it.
pub fn found_one(spool: &Spool, id: MessageId) -> Result<Found, SpoolError> {
    let message = spool.get(id)?;
    let stand = stand_of(&message)?;
    let mut body = Vec::new();
    let read = message.body()?.read_to_end(&mut body);
    read.map_err(|error| SpoolError::Invalid(error.to_string()))?;
    let recipient = message.envelope().recipient().map(ToString::to_string).unwrap_or_default();
    let number = message::number(&body).expect("a genuine body");
    Ok(Found { stand, body: (number, body.len()), recipient })
}

/// All that a spool holds.
pub fn found(spool: &Spool) -> Result<BTreeMap<u64, Found>, SpoolError> {
    let mut all = BTreeMap::new();
    for listed in spool.entries()? {
        let one = found_one(spool, listed.id)?;
        assert_eq!(u32::from(listed.attempts), one.stand.attempts);
        assert_eq!(listed.next_attempt, one.stand.next_attempt);
        assert_eq!(listed.queue, queue(one.stand.queue));
        all.insert(listed.id.to_u64(), one);
    }
    Ok(all)
}

impl Model {
    pub fn now(&self) -> Timestamp {
        Timestamp::new(1_700_000_000 + self.now, 0)
    }

    /// Time goes on, now and then into the next hour.
    fn tick(&mut self) {
        self.now += 500;
    }

    fn all_durable(&mut self) {
        for one in &mut self.messages {
            if one.phase == Phase::Going {
                one.phase = Phase::Gone;
            }
        }
    }

    pub fn there(&self) -> Vec<usize> {
        (0..self.messages.len()).filter(|n| self.messages[*n].phase == Phase::There).collect()
    }

    pub fn name(n: usize) -> String {
        format!("r{n}@there.example")
    }

    /// What is wrong with what was found.
    pub fn differs(&self, found: &BTreeMap<u64, Found>) -> Option<String> {
        let mut calls: BTreeMap<usize, BTreeSet<bool>> = BTreeMap::new();
        for (n, one) in self.messages.iter().enumerate() {
            let it = found.get(&one.id.to_u64());
            match (one.phase, it) {
                (Phase::Gone, Some(it)) => return Some(format!("message {n} is back: {it:?}")),
                (Phase::There, None) => return Some(format!("message {n} is lost")),
                (Phase::Coming, it) => {
                    calls.entry(one.call).or_default().insert(it.is_some());
                }
                _ => {}
            }
            let Some(it) = it else { continue };
            if it.body != one.body || it.recipient != Model::name(n) {
                return Some(format!("message {n} is another one: {it:?}"));
            }
            if !one.versions.contains(&it.stand) {
                return Some(format!("message {n} is {:?}, not one of {:?}", it.stand, one.versions));
            }
        }
        if calls.values().any(|there| there.len() > 1) {
            return Some("a part of a batch is there".to_owned());
        }
        let known: BTreeSet<u64> = self.messages.iter().map(|one| one.id.to_u64()).collect();
        found.keys().find(|id| !known.contains(id)).map(|id| format!("{id:x} was never accepted"))
    }

    /// What holds from now on of a spool that was found like this.
    pub fn settle(&mut self, found: &BTreeMap<u64, Found>) {
        for one in &mut self.messages {
            match found.get(&one.id.to_u64()) {
                Some(it) => {
                    one.phase = Phase::There;
                    one.versions = vec![it.stand.clone()];
                }
                None => one.phase = Phase::Gone,
            }
        }
    }
}

/// How the spools of these tests are opened: with segments that a few messages fill.
pub fn options() -> SpoolOptions {
    SpoolOptions::new()
        .background(false)
        .segment_size(4096)
        .large_message_threshold(2500)
        .reserve(0)
        .reclaim_below(0.95)
        .max_resident_messages(2)
}

/// Opens the spool of a disk.
pub fn open(disk: &SimDisk) -> Spool {
    options().open_on(Arc::new(disk.clone()), PATH).unwrap()
}

/// Drops what is open on a disk, which does nothing any more: nothing is tidied up.
pub fn die<T>(disk: &SimDisk, open: T) {
    disk.fail_at(disk.operations(), EIO, Times::Sticky);
    drop(open);
}

/// A spool at work, and what it has promised.
#[derive(Debug)]
pub struct World {
    pub disk: SimDisk,
    pub spool: Option<Spool>,
    pub model: Arc<Mutex<Model>>,
    pub dice: Dice,
}

impl World {
    pub fn on(disk: &SimDisk, model: Model, salt: u64) -> World {
        let spool = Some(open(disk));
        World { disk: disk.clone(), spool, model: Arc::new(Mutex::new(model)), dice: Dice(salt) }
    }

    fn begin(begun: Begun) -> World {
        let disk = SimDisk::new(7);
        disk.keep_trace(false);
        let mut world = World::on(&disk, Model::default(), 1);
        steps(begun.past()).unwrap().into_iter().for_each(|step| world.take(step).unwrap());
        world
    }

    pub fn spool(&self) -> &Spool {
        self.spool.as_ref().unwrap()
    }

    pub fn told<T>(&self, what: impl FnOnce(&mut Model) -> T) -> T {
        what(&mut self.model.lock().unwrap())
    }

    fn fresh(&self, now: Timestamp) -> MessageId {
        let id = self.spool().new_id(now);
        self.noted(id)
    }

    fn noted(&self, id: MessageId) -> MessageId {
        assert!(self.told(|model| model.ids.insert(id.to_u64())), "{id} was given out before");
        id
    }

    /// One of the messages that are there.
    fn any(&mut self) -> Option<usize> {
        let there = self.told(|model| model.there());
        let n = self.dice.below(there.len().max(1));
        there.get(n).copied()
    }

    pub fn take(&mut self, step: Step) -> Result<(), SpoolError> {
        self.told(Model::tick);
        match step {
            Step::Accept => self.accept(),
            Step::Batch => self.batch(),
            Step::Large => self.large(true),
            Step::Discard => self.large(false),
            Step::Context => self.change(|stand, n| stand.context = n),
            Step::Retry => self.change(|stand, n| {
                stand.attempts += 1;
                stand.next_attempt = 1_700_000_000 + n + 100;
            }),
            Step::Hold => self.change(|stand, _| stand.held = !stand.held),
            Step::Assign => self.change(|stand, n| stand.queue = n % 3),
            Step::Resource => self.change(|stand, n| {
                stand.resources.insert(format!("x{}", n / 500 % 2), n);
            }),
            Step::Unresource => self.change(|stand, _| {
                stand.resources.pop_first();
            }),
            Step::Remove => {
                let one: Vec<usize> = self.any().into_iter().collect();
                self.remove(&one)
            }
            Step::RemoveMany => {
                let there = self.told(|model| model.there());
                let half: Vec<usize> = there.into_iter().filter(|_| self.dice.below(2) == 0).collect();
                self.remove(&half)
            }
            Step::Sync => {
                self.spool().sync()?;
                self.told(Model::all_durable);
                Ok(())
            }
            Step::Maintain => self.spool().maintain(1).map(drop),
            Step::MaintainAll => {
                for _ in 0..200 {
                    if !self.spool().maintain(2000)?.more {
                        return Ok(());
                    }
                }
                panic!("reclaiming does not come to an end");
            }
            Step::Reopen => {
                self.spool.take().unwrap().close()?;
                self.reopen()
            }
            Step::Die => {
                // What the kernel has is there; what the process would have tidied up is not.
                let all = Limits { exhaustive_atoms: 0, exhaustive_images: 0, samples: 2 };
                let left = self.disk.crash_states(all, 1).nth(1).unwrap();
                die(&self.disk, self.spool.take());
                self.disk = left;
                self.reopen()
            }
        }
    }

    pub fn reopen(&mut self) -> Result<(), SpoolError> {
        self.spool = Some(options().open_on(Arc::new(self.disk.clone()), PATH)?);
        assert_eq!(self.spool().wait_recovered()?.findings, []);
        let there = found(self.spool())?;
        self.told(|model| {
            assert_eq!(model.differs(&there), None);
            model.settle(&there);
        });
        Ok(())
    }

    fn expect(&self, message: &Message, body: (u32, usize), call: usize) {
        let (n, next) = self.told(|model| (model.messages.len(), message.created()));
        message.set_recipient(Some(Model::name(n).parse().unwrap()));
        let mut stand = Stand { next_attempt: next, queue: n as u32 % 3, ..Stand::default() };
        message.set_queue(queue(stand.queue));
        if n.is_multiple_of(4) {
            message.put_resource("x0", message::of(n as u32, 60)).unwrap();
            stand.resources.insert("x0".to_owned(), n as u32);
        }
        let id = message.id();
        let one = Expected { id, body, phase: Phase::Coming, versions: vec![stand], call };
        self.told(|model| model.messages.push(one));
    }

    fn accepted(&self, batch: &[Message]) -> Result<(), SpoolError> {
        let now = self.told(|model| model.now());
        self.spool().accept_batch(batch, now).inspect_err(|error| {
            if matches!(error, SpoolError::Full { .. }) {
                self.told(|model| {
                    let call = model.calls - 1;
                    model
                        .messages
                        .iter_mut()
                        .filter(|one| one.call == call)
                        .for_each(|one| one.phase = Phase::Gone);
                });
            }
        })?;
        self.told(|model| {
            let call = model.calls - 1;
            model.messages.iter_mut().filter(|one| one.call == call).for_each(|one| one.phase = Phase::There);
            model.all_durable();
        });
        Ok(())
    }

    /// A call that accepts, and the number of its first message.
    fn call(&self) -> (Timestamp, usize, u32) {
        self.told(|model| {
            model.calls += 1;
            (model.now(), model.calls - 1, model.messages.len() as u32)
        })
    }

    fn accept(&mut self) -> Result<(), SpoolError> {
        let (now, call, n) = self.call();
        let len = [300, 1200, 40, 2000][n as usize % 4];
        let one = Message::from_bytes(self.fresh(now), message::of(n, len));
        self.expect(&one, (n, len), call);
        self.accepted(&[one])
    }

    fn batch(&mut self) -> Result<(), SpoolError> {
        let (now, call, n) = self.call();
        let mut batch = vec![Message::from_bytes(self.fresh(now), message::of(n, 900))];
        for _ in 0..2 {
            batch.push(batch[0].share(self.fresh(now)).unwrap());
        }
        batch.iter().for_each(|one| self.expect(one, (n, 900), call));
        let own = Message::from_bytes(self.fresh(now), message::of(n + 3, 100));
        self.expect(&own, (n + 3, 100), call);
        batch.push(own);
        self.accepted(&batch)
    }

    fn large(&mut self, accept: bool) -> Result<(), SpoolError> {
        let (now, call, n) = self.call();
        let mut builder = self.spool().builder(now, 0);
        self.noted(builder.id());
        for part in message::of(n, 3000).chunks(700) {
            builder.write_all(part).map_err(|error| SpoolError::Invalid(error.to_string()))?;
        }
        let one = builder.finish()?;
        if !accept {
            return Ok(());
        }
        self.expect(&one, (n, 3000), call);
        self.accepted(&[one])
    }

    fn change(&mut self, how: impl FnOnce(&mut Stand, u32)) -> Result<(), SpoolError> {
        let Some(n) = self.any() else { return Ok(()) };
        let (number, now, id) = self.told(|model| (model.now, model.now(), model.messages[n].id));
        let message = self.spool().get(id)?;
        // A change that failed may be in memory still.
        let mut stand = stand_of(&message)?;
        let before = stand.clone();
        how(&mut stand, number);
        self.told(|model| model.messages[n].versions.push(stand.clone()));
        if stand.held != before.held {
            if stand.held { self.spool().hold(id, now)? } else { self.spool().release(id, now)? }
        }
        if stand.context != before.context {
            message.context_set(Scope::Message, "n", stand.context.to_string())?;
        }
        for name in before.resources.keys().filter(|name| !stand.resources.contains_key(*name)) {
            message.remove_resource(name);
        }
        for (name, number) in
            stand.resources.iter().filter(|(name, to)| before.resources.get(*name) != Some(to))
        {
            message.put_resource(name, message::of(*number, 80))?;
        }
        message.set_queue(queue(stand.queue));
        if stand.attempts != before.attempts {
            let policy = RetryPolicy {
                retry_interval: 100,
                fixed: true,
                message_expiration: u32::MAX,
                max_retries: MaxRetries::None,
                ..RetryPolicy::default()
            };
            let told = self.spool().retry(&message, b"451 later\r\n", &policy, 0, now)?;
            assert_eq!(told, NextAttempt::At(stand.next_attempt));
        }
        self.spool().update(&message, now)?;
        self.told(|model| {
            // What was not changed was not written, and nothing was synced.
            if stand != before {
                model.all_durable();
            }
            model.messages[n].versions = vec![stand];
        });
        Ok(())
    }

    pub fn remove(&mut self, which: &[usize]) -> Result<(), SpoolError> {
        let ids: Vec<MessageId> = self.told(|model| {
            which.iter().for_each(|n| model.messages[*n].phase = Phase::Going);
            which.iter().map(|n| model.messages[*n].id).collect()
        });
        let removed = self.spool().remove_all(&ids).inspect_err(|_| {
            self.told(|model| which.iter().for_each(|n| model.messages[*n].phase = Phase::Unsure));
        })?;
        assert_eq!(removed, ids.len());
        Ok(())
    }
}

pub fn queue(n: u32) -> QueueKey {
    QueueKey { domain: n.to_string(), ..QueueKey::default() }
}

/// How closely to look.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    pub limits: Limits,
    /// Of so many images one is worked on, and cut again.
    pub deeper: usize,
    /// Of so many images the opening of one is cut short.
    pub nested: usize,
}

impl Effort {
    pub const SHORT: Effort = Effort {
        limits: Limits { exhaustive_atoms: 3, exhaustive_images: 6, samples: 3 },
        deeper: 24,
        nested: 96,
    };
    /// For histories without number.
    pub const SCANT: Effort = Effort {
        limits: Limits { exhaustive_atoms: 2, exhaustive_images: 2, samples: 1 },
        deeper: 48,
        nested: 192,
    };
    pub const FULL: Effort = Effort {
        limits: Limits { exhaustive_atoms: 6, exhaustive_images: 48, samples: 12 },
        deeper: 24,
        nested: 96,
    };
}

counters! {
    states: "crash states",
    moments: "moments",
    deeper: "images that were worked on, and cut again",
    nested: "openings that were cut short",
    lost_names: "a name operation was lost",
    torn: "written sectors were as before",
    sizes_ahead: "a file was longer than its data",
    half_moved: "a segment was found half moved",
    early: "a change was met before its message",
    kept_out: "a removal among the survivors, or of a later life, kept a message out",
    incomplete: "a body without a message was dropped",
    coming_there: "a message was there whose acceptance had not returned",
    coming_lost: "a message was not there whose acceptance had not returned",
    going_there: "a removal was lost that was not durable",
    going_gone: "a removal was there that was not durable",
    newer: "a change was there that had not returned",
    older: "a change was not there that had not returned",
    freed: "segments were given back after a crash",
    summaries: "a spool was opened with summaries and read few records",
}

/// A moment at which the power may go.
struct Moment {
    states: CrashStates,
    model: Model,
}

fn moments_in(
    world: &mut World,
    limits: Limits,
    salt: u64,
    what: impl FnOnce(&mut World) -> Result<(), SpoolError>,
) -> Vec<Moment> {
    let moments = Arc::new(Mutex::new(Vec::new()));
    let (noted, model) = (Arc::clone(&moments), Arc::clone(&world.model));
    let disk = world.disk.clone();
    let mut seen = 0u64;
    disk.observe(move |disk, _| {
        let mut noted = noted.lock().unwrap();
        let salt = salt.wrapping_add(seen);
        seen += 1;
        // Of a long step, some: each moment is a copy of the disk.
        if seen > 60 && !Dice(salt).roll().is_multiple_of(1 + seen / 20) {
            return;
        }
        let model = model.lock().unwrap().clone();
        noted.push(Moment { states: disk.crash_states(limits, salt), model });
    });
    let outcome = what(world);
    disk.unobserve();
    outcome.unwrap();
    let mut moments = std::mem::take(&mut *moments.lock().unwrap());
    let model = world.told(|model| model.clone());
    moments.push(Moment { states: world.disk.crash_states(limits, salt.wrapping_sub(1)), model });
    moments
}

struct Watchman {
    effort: Effort,
    met: Coverage,
    dice: Dice,
    /// Where it looks: named when something is wrong.
    trail: Vec<String>,
}

/// Runs a case, and looks at what a power cut may leave in each of its steps (of short ones, in the last alone).
pub fn run(case: &Case, seed: u64, effort: Effort, all_steps: bool) -> (Coverage, Result<(), String>) {
    let salt = case.to_string().bytes().fold(seed, |salt, byte| Dice(salt ^ u64::from(byte)).roll());
    let mut watchman = Watchman { effort, met: Coverage::default(), dice: Dice(salt), trail: Vec::new() };
    let outcome = catch_unwind(AssertUnwindSafe(|| watchman.run(case, salt, all_steps)));
    let outcome = outcome.map_err(|panic| {
        let what = said(&*panic);
        format!("{what}\nat {:?}\ncase {case} seed {seed} all steps {all_steps}", watchman.trail)
    });
    (watchman.met, outcome)
}

/// Runs cases on all processors: what was met, and the first failure.
pub fn run_all(cases: &[Case], seed: u64, effort: Effort, all_steps: bool) -> (Coverage, Result<(), String>) {
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let total = Mutex::new((Coverage::default(), Ok(())));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed)
                    && let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let (met, outcome) = run(case, seed, effort, all_steps);
                    let mut total = total.lock().unwrap();
                    total.0.add(&met);
                    if outcome.is_err() && !failed.swap(true, Ordering::Relaxed) {
                        total.1 = outcome;
                    }
                }
            });
        }
    });
    total.into_inner().unwrap()
}

impl Watchman {
    fn run(&mut self, case: &Case, salt: u64, all_steps: bool) {
        let mut world = World::begin(case.begun);
        world.disk.profile(case.profile);
        world.dice = Dice(salt ^ 5);
        for (n, step) in case.steps.iter().enumerate() {
            if !all_steps && n + 1 < case.steps.len() {
                world.take(*step).unwrap();
                continue;
            }
            let moments = moments_in(&mut world, self.effort.limits, salt + ((n as u64) << 16), |world| {
                world.take(*step)
            });
            self.trail = vec![format!("step {n}")];
            self.look_all(moments, 1);
        }
    }

    fn look_all(&mut self, moments: Vec<Moment>, left: u32) {
        for (n, moment) in moments.into_iter().enumerate() {
            self.met.moments += 1;
            for (i, image) in moment.states.enumerate() {
                self.trail.push(format!("moment {n} image {i}"));
                if self.dice.below(self.effort.nested) == 0 {
                    self.cut_opening_short(&image, &moment.model, left);
                }
                self.look(&image, &moment.model, left);
                self.trail.pop();
            }
        }
    }

    /// Looks at what a power cut has left.
    fn look(&mut self, image: &SimDisk, model: &Model, left: u32) {
        self.met.states += 1;
        let made_of = image.made_of();
        self.met.lost_names += u64::from(made_of.lost_names > 0);
        self.met.torn += u64::from(made_of.torn_sectors > 0);
        self.met.sizes_ahead += u64::from(made_of.sizes_ahead > 0);

        let spool = open(image);
        let there = self.check(&spool, model);
        if left > 0 && self.dice.below(self.effort.deeper) == 0 {
            let mut model = model.clone();
            model.settle(&there);
            spool.close().unwrap();
            let again = open(image);
            assert_eq!(found(&again).unwrap(), there, "opened twice");
            drop(again);
            self.go_on(image, model, left - 1);
        } else {
            die(image, spool);
        }
    }

    fn check(&mut self, spool: &Spool, model: &Model) -> BTreeMap<u64, Found> {
        let report = spool.wait_recovered().unwrap();
        assert_eq!(report.findings, [], "a power cut is no damage");
        let there = found(spool).unwrap();
        if let Some(what) = model.differs(&there) {
            panic!("{what}");
        }
        assert_eq!(report.messages, there.len() as u64);
        assert_eq!(spool.len().unwrap(), there.len() as u64);
        let mut due: Vec<(u32, u64)> = there
            .iter()
            .filter(|(_, it)| !it.stand.held)
            .map(|(id, it)| (it.stand.next_attempt, *id))
            .collect();
        due.sort_unstable();
        let handed = spool.due(Timestamp::new(u32::MAX, 0), usize::MAX).unwrap();
        let times: Vec<u32> = handed.iter().map(|id| there[&id.to_u64()].stand.next_attempt).collect();
        assert!(times.is_sorted(), "{times:?}");
        assert_eq!(
            handed.iter().map(|id| id.to_u64()).collect::<BTreeSet<_>>(),
            due.iter().map(|(_, id)| *id).collect::<BTreeSet<_>>(),
        );
        for _ in 0..2 {
            let id = spool.new_id(model.now()).to_u64();
            assert!(!model.ids.contains(&id), "{id:x} was given out before");
        }

        self.met.half_moved += u64::from(report.half_moved > 0);
        self.met.early += u64::from(report.early_changes > 0);
        self.met.kept_out += u64::from(report.kept_out > 0);
        self.met.incomplete += u64::from(report.bodies_without_message > 0);
        self.met.summaries += u64::from(report.messages > 2 && report.scanned < report.messages);
        for one in &model.messages {
            let it = there.get(&one.id.to_u64());
            match (one.phase, it) {
                (Phase::Coming, Some(_)) => self.met.coming_there += 1,
                (Phase::Coming, None) => self.met.coming_lost += 1,
                (Phase::Going, Some(_)) => self.met.going_there += 1,
                (Phase::Going, None) => self.met.going_gone += 1,
                (Phase::There, Some(it)) if one.versions.len() > 1 => {
                    let newer = one.versions.last() == Some(&it.stand);
                    self.met.newer += u64::from(newer);
                    self.met.older += u64::from(!newer);
                }
                _ => {}
            }
        }
        there
    }

    /// Works on what a power cut has left, and cuts that again.
    fn go_on(&mut self, image: &SimDisk, model: Model, left: u32) {
        self.met.deeper += 1;
        let depth = self.trail.len();
        let salt = self.dice.roll();
        let mut world = World::on(image, model, salt);
        for _ in 0..2 + self.dice.below(3) {
            let picked = ['M', 'M', 'm', 'm', 'r', 'R', 'a', 'b', 'l', 'x', 'p', 't', 'c', 'S', 'O', 'D'];
            let step = steps(&picked[self.dice.below(picked.len())].to_string()).unwrap()[0];
            let limits = Limits { exhaustive_atoms: 2, exhaustive_images: 4, samples: 2 };
            let mut moments = moments_in(&mut world, limits, salt, |world| world.take(step));
            while moments.len() > 4 {
                moments.swap_remove(self.dice.below(moments.len()));
            }
            self.trail.push(format!("{step:?}"));
            self.look_all(moments, left);
        }
        world.take(Step::MaintainAll).unwrap();
        world.take(Step::Sync).unwrap();
        self.met.freed += u64::from(world.spool().stats().reclaimed_segments > 0);
        let model = world.told(|model| model.clone());
        self.trail.push("all reclaimed".to_owned());
        let left = world.disk.power_cut();
        die(&world.disk, world.spool.take());
        self.look(&left, &model, 0);
        self.trail.truncate(depth);
    }

    fn cut_opening_short(&mut self, image: &SimDisk, model: &Model, left: u32) {
        self.met.nested += 1;
        let copy = image.power_cut();
        let mut world =
            World { disk: copy, spool: None, model: Arc::new(Mutex::new(model.clone())), dice: Dice(0) };
        let limits = Limits { exhaustive_atoms: 2, exhaustive_images: 4, samples: 2 };
        let salt = self.dice.roll();
        let moments = moments_in(&mut world, limits, salt, |world| {
            world.spool = Some(open(&world.disk));
            Ok(())
        });
        die(&world.disk, world.spool.take());
        let depth = self.trail.len();
        self.trail.push("opening cut short".to_owned());
        for moment in moments {
            for image in moment.states {
                self.look(&image, &moment.model, left.saturating_sub(1));
            }
        }
        self.trail.truncate(depth);
    }
}
