//! The matrix of docs/proof.md: trials, each one line of words, which makes the same trouble again.
//!
//! A trial that fails says so in one line that names it: `faults --again 'words'`, `soak --again 'words'`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::RwLock;

use jlog::{CreateOptions, Format, Log, Start, Subscriber};

use super::notes::Known;
use super::parts::{GAVE_UP, format};
use super::trouble::{Boot, Field, Mount, Place, make_image, must, no_mounts, shut_down};
use crate::crash::{self, Dice};
use crate::images::{self, Harm};
use crate::{play, said, spool_model};

/// What a trial came to.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// How many checks it made, each of a state that trouble had left.
    pub checks: u64,
    /// In how many of them the trouble struck; the same where it always does.
    pub struck: u64,
    /// Which interesting situations were met, and how often.
    pub met: BTreeMap<&'static str, u64>,
}

impl Tally {
    fn of(checks: u64) -> Tally {
        Tally { checks, struck: checks, met: BTreeMap::new() }
    }

    pub fn add(&mut self, other: &Tally) {
        self.checks += other.checks;
        self.struck += other.struck;
        for (what, count) in &other.met {
            *self.met.entry(what).or_default() += count;
        }
    }
}

static STARTING: RwLock<()> = RwLock::new(());

/// Makes one trial. The failure says what is wrong, in one line.
pub fn trial(field: &Field, words: &str) -> Result<Tally, String> {
    let parts: Vec<&str> = words.split(' ').collect();
    let number = |at: usize| parts.get(at).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    // What a start of the machine looks like to all processes only one trial at a time may pretend.
    let starting =
        if ["cut", "device-full"].contains(&parts[0]) { Err(STARTING.write()) } else { Ok(STARTING.read()) };
    let outcome = match parts[0] {
        // In this process, on the simulated disk.
        "states" => states(&parts, number(1)),
        "spool-states" => spool_states(&parts, number(1)),
        "model" => model(format(parts[1]), number(2)),
        "rot" => images::look(Harm::Rot, number(1), number(2)).map(Tally::of),
        "astray" => images::look(Harm::Astray, number(1), number(2)).map(Tally::of),
        // Other processes.
        "inject" => inject(field, parts[1], parts[2], parts[3], number(4)),
        "lie" => lie(field, parts[1], number(2)),
        "kill" => kill(field, format(parts[1]), number(2), number(3)),
        "cut" => cut(field, parts[1], parts[2], number(3), number(4)),
        "short" => short(field, parts[1], number(2)),
        "limit" => limit(field, parts[1], number(2), parts[3]),
        "huge" => huge(field, format(parts[1])),
        "full" => full(field, parts[1], parts[2], number(3)),
        "device-full" => device_full(field, parts[1], parts[2], number(3)),
        "read-only" => read_only(field, parts[1], parts[2]),
        "clock" => clock(field, parts[1]),
        // It shows that a failure is told of.
        "fail" => Err("it was asked to".to_owned()),
        _ => Err("there is no such trial".to_owned()),
    };
    drop(starting);
    outcome.map_err(|what| what.split_whitespace().collect::<Vec<_>>().join(" "))
}

// In this process.

fn states(parts: &[&str], seed: u64) -> Result<Tally, String> {
    let case = parts[2].parse()?;
    let (totals, outcome) = crash::run(&case, seed, crash::Effort::FULL, None);
    let met = totals.met.all().into_iter().collect();
    outcome.map(|()| Tally { met, ..Tally::of(totals.all_states()) })
}

fn spool_states(parts: &[&str], seed: u64) -> Result<Tally, String> {
    let case = parts[2].parse()?;
    let (met, outcome) = spool_model::run(&case, seed, spool_model::Effort::FULL, true);
    outcome.map(|()| Tally { met: met.all().into_iter().collect(), ..Tally::of(met.states) })
}

fn model(format: Format, seed: u64) -> Result<Tally, String> {
    let outcome = std::panic::catch_unwind(|| play::play_at_random(format, seed));
    outcome.map(|()| Tally::of(1)).map_err(|panic| said(&*panic).to_owned())
}

// System calls refused, and killed in.

/// The calls of a history, counted: of each kind, the most that one thread makes.
pub fn calls_of(field: &Field, kind: &str, calls: &str) -> Result<BTreeMap<String, Vec<u64>>, String> {
    let place = field.place();
    let (log, notes, trace) = (place.path("log"), place.path("notes"), place.path("trace"));
    let traced = format!("trace={calls}");
    let under = ["strace", "-f", "-qq", "-o", trace.to_str().unwrap(), "-e", &traced, "-e", "signal=none"];
    let ended = place.run(&under, &history(kind, &log, &notes));
    if ended.code() != Some(0) {
        return Err(format!("an undisturbed history: {}", ended.said()));
    }
    place.check(kind, &log, &notes)?;
    let mut made: BTreeMap<String, BTreeMap<&str, Vec<u64>>> = BTreeMap::new();
    let text = fs::read_to_string(&trace).unwrap();
    for line in text.lines() {
        // 12 pwrite64(5, "..."..., 124, 0) = 124
        let Some((thread, call)) = line.split_once(' ') else { continue };
        let Some((name, rest)) = call.trim_start().split_once('(') else { continue };
        let result = rest.rsplit_once("= ").and_then(|(_, result)| result.split(' ').next()?.parse().ok());
        made.entry(name.to_owned()).or_default().entry(thread).or_default().push(result.unwrap_or(0));
    }
    let longest = |threads: BTreeMap<&str, Vec<u64>>| threads.into_values().max_by_key(Vec::len).unwrap();
    Ok(made.into_iter().map(|(name, threads)| (name, longest(threads))).collect())
}

/// How many steps the histories under strace have.
const STEPS: &str = "50";

fn history<'a>(kind: &'a str, log: &'a Path, notes: &'a Path) -> [&'a str; 5] {
    [kind, log.to_str().unwrap(), notes.to_str().unwrap(), "0", STEPS]
}

/// The `k`-th call of a kind fails, or the process is killed in it: `error=EIO`, `signal=KILL`; `error=EIO+` from then on.
fn inject(field: &Field, kind: &str, call: &str, what: &str, k: u64) -> Result<Tally, String> {
    let place = field.place();
    let (log, notes, trace) = (place.path("log"), place.path("notes"), place.path("trace"));
    let (what, on) = what.strip_suffix('+').map_or((what, ""), |what| (what, "+"));
    let (traced, inject) = (format!("trace={call}"), format!("inject={call}:{what}:when={k}{on}"));
    let under = ["strace", "-f", "-qq", "-o", trace.to_str().unwrap(), "-e", &traced, "-e", &inject];
    let ended = place.run(&under, &history(kind, &log, &notes));
    let fine = match ended.code() {
        _ if what == "signal=KILL" => ended.was_killed() || ended.code() == Some(0),
        code => code == Some(0) || code == Some(GAVE_UP),
    };
    // A program that is refused its own files before it begins is not ours.
    let began = notes.exists();
    if !fine && began {
        return Err(ended.said());
    }
    let text = fs::read_to_string(&trace).unwrap_or_default();
    let struck = ended.was_killed() || text.contains("(INJECTED)");
    if began {
        place.check(kind, &log, &notes)?;
    }
    Ok(Tally { checks: u64::from(began), struck: u64::from(struck && began), ..Tally::default() })
}

/// The `k`-th write is reported as done, all of it, and is not.
fn lie(field: &Field, kind: &str, k: u64) -> Result<Tally, String> {
    let calls = calls_of(field, kind, "pwrite64")?;
    let Some(len) = calls["pwrite64"].get(k as usize - 1) else { return Ok(Tally::default()) };
    let place = field.place();
    let (log, notes, trace) = (place.path("log"), place.path("notes"), place.path("trace"));
    let inject = format!("inject=pwrite64:retval={len}:when={k}");
    let under = ["strace", "-f", "-qq", "-o", trace.to_str().unwrap(), "-e", "trace=pwrite64", "-e", &inject];
    let ended = place.run(&under, &history(kind, &log, &notes));
    // Its own reader may have met the damage, and said so.
    let told = ended.said().contains("damage") || ended.said().contains("a gap:");
    if ended.code() != Some(0) && ended.code() != Some(GAVE_UP) && !told {
        return Err(ended.said());
    }
    place.check("lied", &log, &notes)?;
    Ok(Tally::of(1))
}

// Processes killed.

/// Writers, subscribers and a repair on one log, killed one after another and started again.
struct Crowd<'a> {
    place: &'a Place,
    log: String,
    running: BTreeMap<String, (Child, u32)>,
    /// How often each was started.
    lives: BTreeMap<String, u32>,
}

/// So many numbers has each life of a writer to itself: more than it can write before it is killed.
const NUMBERS: u32 = 4_000_000;
const WRITERS: [&str; 2] = ["w1", "w2"];
const SUBSCRIBERS: [&str; 3] = ["a", "b", "c"];

impl Crowd<'_> {
    fn notes(&self, name: &str, life: u32) -> std::path::PathBuf {
        self.place.path(&format!("{name}.{life}"))
    }

    fn start(&mut self, name: &str) -> Result<(), String> {
        let life = self.lives.entry(name.to_owned()).or_default();
        *life += 1;
        let life = *life;
        let notes = self.notes(name, life);
        let notes = notes.to_str().unwrap();
        // No two lives write the same numbers.
        let from = (life * 4 + WRITERS.iter().position(|w| *w == name).unwrap_or(2) as u32) * NUMBERS;
        let from = from.to_string();
        let words = match name {
            "mender" => vec!["mender", &self.log],
            name if WRITERS.contains(&name) => vec!["writer", &self.log, notes, &from],
            name => vec!["subscriber", &self.log, notes, name],
        };
        let said = fs::File::create(format!("{notes}.said")).unwrap();
        let child = self.place.part(&[], &words).stdout(Stdio::null()).stderr(said).spawn();
        self.running.insert(name.to_owned(), (child.map_err(|error| error.to_string())?, life));
        Ok(())
    }

    /// Kills it, wherever it is. Who has ended by itself has failed.
    fn kill(&mut self, name: &str) -> Result<(), String> {
        let (mut child, life) = self.running.remove(name).unwrap();
        let ended = child.try_wait().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let Some(status) = ended.filter(|status| !(name == "mender" && status.success())) else {
            return Ok(());
        };
        let said =
            fs::read_to_string(format!("{}.said", self.notes(name, life).display())).unwrap_or_default();
        Err(format!("{name}, life {life}, {status}: {said}"))
    }
}

impl Drop for Crowd<'_> {
    fn drop(&mut self) {
        for (child, _) in self.running.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn kill(field: &Field, format: Format, seed: u64, kills: u64) -> Result<Tally, String> {
    let place = field.place();
    let path = place.path("log");
    let log = Log::create_with(&path, &CreateOptions::new().format(format).segment_size(200_000)).unwrap();
    for name in SUBSCRIBERS {
        log.add_subscriber(&Subscriber::new(name).unwrap(), Start::Begin).unwrap();
    }
    let mut crowd = Crowd {
        place: &place,
        log: path.to_str().unwrap().to_owned(),
        running: BTreeMap::new(),
        lives: BTreeMap::new(),
    };
    let all: Vec<&str> = WRITERS.into_iter().chain(SUBSCRIBERS).chain(["mender"]).collect();
    for name in &all {
        crowd.start(name)?;
    }
    let mut dice = Dice(seed);
    for _ in 0..kills {
        // The moment of a kill is the one thing here that is left to chance: nothing waits for it to be the right one.
        std::thread::sleep(std::time::Duration::from_micros(dice.below(15_000) as u64));
        let name = all[dice.below(all.len())];
        crowd.kill(name)?;
        crowd.start(name)?;
    }
    for name in &all {
        crowd.kill(name)?;
    }
    let writer = log.writer().map_err(|error| format!("a lock is left behind: {error}"))?;
    writer.close().unwrap();
    let mut orders = Vec::new();
    for name in SUBSCRIBERS {
        let life = crowd.lives[name] + 1;
        let notes = crowd.notes(name, life);
        let name_to_the_end = format!("{name}!");
        let ended = place.run(&[], &["subscriber", &crowd.log, notes.to_str().unwrap(), &name_to_the_end]);
        if ended.code() != Some(0) {
            return Err(format!("{name} at the end: {}", ended.said()));
        }
        orders.push(order_seen(&crowd, name, life).map_err(|what| format!("{name}: {what}"))?);
    }
    if orders[0] != orders[1] || orders[1] != orders[2] {
        return Err("the subscribers got different records, or in different orders".to_owned());
    }
    for name in WRITERS {
        for life in 1..=crowd.lives[name] {
            let base = (life * 4 + WRITERS.iter().position(|w| *w == name).unwrap() as u32) * NUMBERS;
            let there: Vec<u32> =
                orders[0].iter().copied().filter(|n| n / NUMBERS == base / NUMBERS).collect();
            let known = Known::read(&crowd.notes(name, life));
            let set: BTreeSet<u32> = there.iter().copied().collect();
            let lost = known.written.iter().find(|n| !set.contains(n));
            // One was under way when it was killed; what was refused may be there or not.
            let under_way = known.written.iter().chain(known.refused.keys()).max().map_or(base, |n| n + 1);
            let may_be =
                |n: &&u32| !known.written.contains(n) && !known.refused.contains_key(n) && **n != under_way;
            let other = there.iter().find(may_be);
            if lost.is_some() || other.is_some() || !there.is_sorted_by(|a, b| a < b) {
                let (first, last, count) = (there.first(), there.last(), there.len());
                return Err(format!(
                    "{name}, life {life}: lost {lost:?}, never written {other:?}, of {count} from {first:?} to {last:?}"
                ));
            }
        }
    }
    let seen = jlog::inspect::inspect(&log).unwrap();
    let problem = seen.problems().next().map(|finding| finding.detail.clone());
    problem.map_or(Ok(Tally::of(kills)), Err)
}

/// The records that a subscriber got in all its lives, each once: each life has to begin behind what the last one has
/// committed, and not behind what it has got.
fn order_seen(crowd: &Crowd<'_>, name: &str, lives: u32) -> Result<Vec<u32>, String> {
    let mut order: Vec<u32> = Vec::new();
    let mut place_of = BTreeMap::new();
    // How many records are committed; or may be.
    let (mut committed, mut perhaps) = (0, 0);
    for life in 1..=lives {
        let text = fs::read_to_string(crowd.notes(name, life)).unwrap_or_default();
        let mut at = None;
        for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            match (line, line.strip_prefix("W ")) {
                (_, Some(n)) => {
                    let n: u32 = n.split(' ').next().unwrap().parse().unwrap();
                    let here = *place_of.entry(n).or_insert_with(|| {
                        order.push(n);
                        order.len() - 1
                    });
                    let right = at.map_or(here == committed || here == perhaps, |at| here == at + 1);
                    if !right {
                        return Err(format!(
                            "life {life} got {n}, number {here}, after {at:?}, {committed} committed"
                        ));
                    }
                    at = Some(here);
                }
                ("M 0", _) => perhaps = at.map_or(committed, |at| at + 1),
                _ => committed = perhaps,
            }
        }
        // What the last commit did is known when the next life begins.
        if let Some(first) = text.lines().next().and_then(|line| line.split(' ').nth(1)?.parse::<u32>().ok())
            && text.starts_with('W')
        {
            let began = place_of[&first];
            if began == perhaps && at.is_some() && life > 1 {
                committed = committed.max(began);
            }
        }
    }
    Ok(order)
}

// Power cuts.

/// A history on a file system of its own, which is cut off from its disk, so many times; and the machine starts again, or
/// runs on and has the file system mounted again.
fn cut(field: &Field, file_system: &str, kind: &str, seed: u64, cuts: u64) -> Result<Tally, String> {
    if let Some(why) = no_mounts() {
        return Err(why.to_owned());
    }
    let place = field.place();
    let mut dice = Dice(seed);
    let (file_system, remounted) =
        file_system.strip_suffix("-remounted").map_or((file_system, false), |name| (name, true));
    let boot = Boot::pretended(&place.path("boot"))?;
    let image = place.path("image");
    make_image(&image, file_system, if file_system == "xfs" { 320 } else { 48 })?;
    let options = match file_system {
        "ext4" => ["data=ordered", "data=writeback", "data=journal", "delalloc"][dice.below(4)],
        _ => "",
    };
    let (dir, notes) = (place.path("mounted"), place.path("notes"));
    let (log, noted) = (dir.join("log"), notes.to_str().unwrap().to_owned());
    let checked = match kind {
        "spool" => "cut-spool",
        _ if remounted => "remounted",
        kind => kind,
    };
    for n in 0..cuts {
        let mounted = Mount::image(&image, dir.clone(), options)?;
        let from = Known::read(&notes).tried.last().map_or(0, |n| n + 1).to_string();
        let before = fs::metadata(&notes).map_or(0, |info| info.len());
        let mut child = place
            .part(&[], &[kind, log.to_str().unwrap(), &noted, &from, "1000000"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| error.to_string())?;
        // Wherever it is when it has noted so much.
        let enough = before + dice.below(3000) as u64;
        while fs::metadata(&notes).map_or(0, |info| info.len()) < enough {
            if let Some(status) = child.try_wait().unwrap() {
                return Err(format!("cut {n}: it ended before the cut: {status}"));
            }
            std::thread::yield_now();
        }
        // What is acknowledged after the cut has begun is no evidence: a sync that races with it may return success.
        let known = fs::read(&notes).unwrap_or_default();
        let outcome = shut_down(&dir);
        let _ = child.kill();
        let _ = child.wait();
        outcome?;
        fs::write(&notes, what_holds(&known, &fs::read(&notes).unwrap_or_default())).unwrap();
        mounted.end()?;
        if !remounted {
            boot.again(dice.roll());
        }
        let mounted = Mount::image(&image, dir.clone(), options)?;
        place.check(checked, &log, &notes).map_err(|what| format!("{options} cut {n}: {what}"))?;
        mounted.end()?;
    }
    Ok(Tally::of(cuts))
}

/// What holds of the notes after a cut: of those made since, only what was about to be done; and of removals from a
/// spool only the durable ones.
fn what_holds(before: &[u8], all: &[u8]) -> Vec<u8> {
    let (before, all) = (String::from_utf8_lossy(before), String::from_utf8_lossy(all));
    // The copy may end within a line.
    let whole = before.rfind('\n').map_or(0, |at| at + 1);
    let durable = before[..whole].rfind("\nY\n").unwrap_or(0);
    let mut holds = before[..durable].to_owned();
    holds.extend(before[durable..whole].split_inclusive('\n').filter(|line| !line.starts_with('X')));
    let about = |line: &&str| line.ends_with('\n') && line.starts_with(['T', 'M', 'G', 'D']);
    holds.extend(all[whole..].split_inclusive('\n').filter(about));
    holds.into_bytes()
}

// Less than was asked for.

/// Writes and reads that do less than they were asked to, and calls that are interrupted: nobody notices.
fn short(field: &Field, kind: &str, seed: u64) -> Result<Tally, String> {
    let place = field.place();
    let (log, notes) = (place.path("log"), place.path("notes"));
    let (source, library) = (place.path("short.c"), place.path("short.so"));
    fs::write(&source, include_str!("short.c")).unwrap();
    must(Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).args([&library, &source]))?;
    let (preload, counted) = (format!("LD_PRELOAD={}", library.display()), place.path("counted"));
    let (seed, counts) = (format!("SHORT_SEED={seed}"), format!("SHORT_COUNTED={}", counted.display()));
    let ended = place.run(&["env", &preload, &seed, &counts], &history(kind, &log, &notes));
    if ended.code() != Some(0) {
        return Err(ended.said());
    }
    let known = Known::read(&notes);
    let noticed = known.refused.values().chain(&known.errors).next();
    // What was not read, and was to be given back, is not there any more: no fault of a call.
    if let Some(what) = noticed.filter(|what| !what.starts_with("reclaim")) {
        return Err(format!("somebody noticed: {what}"));
    }
    place.check(kind, &log, &notes)?;
    let struck = fs::read_to_string(&counted).ok().and_then(|text| text.trim().parse().ok());
    Ok(Tally { checks: 1, struck: struck.unwrap_or(0), ..Tally::default() })
}

/// A limit of the process: the size of files in blocks of 512 bytes, the number of open files, memory in KiB.
fn limit(field: &Field, what: &str, much: u64, kind: &str) -> Result<Tally, String> {
    let place = field.place();
    let (log, notes) = (place.path("log"), place.path("notes"));
    let flag = match what {
        "file-size" => "f",
        "files" => "n",
        _ => "v",
    };
    let script = format!(r#"trap "" XFSZ; ulimit -{flag} {much}; exec "$@""#);
    let ended = place.run(&["sh", "-c", &script, "sh"], &history(kind, &log, &notes));
    // Out of memory a Rust program ends itself; and it may not even begin.
    let out_of_memory = what == "memory" && ended.code() != Some(101);
    if notes.exists() && !out_of_memory && ![Some(0), Some(GAVE_UP)].contains(&ended.code()) {
        return Err(ended.said());
    }
    let known = Known::read(&notes);
    let struck = ended.code() != Some(0) || !known.refused.is_empty() || !known.errors.is_empty();
    if notes.exists() {
        place.check(kind, &log, &notes)?;
    }
    Ok(Tally { checks: 1, struck: u64::from(struck), ..Tally::default() })
}

/// Lengths of gigabytes in files of kilobytes: they are not believed, and no memory is taken for them.
fn huge(field: &Field, format: Format) -> Result<Tally, String> {
    let place = field.place();
    let (log, notes) = (place.path("log"), place.path("notes"));
    let kind = if format == Format::Classic { "classic" } else { "checksummed" };
    let ended = place.run(&[], &history(kind, &log, &notes));
    if ended.code() != Some(0) {
        return Err(ended.said());
    }
    let mut checks = 0;
    let script = r#"ulimit -v 262144; exec "$@""#;
    let names: Vec<_> = crate::names(&log).into_iter().filter(|name| name.len() == 8).collect();
    for name in names {
        let path = log.join(&name);
        let sound = fs::read(&path).unwrap();
        for at in (0..sound.len().saturating_sub(4).min(400)).step_by(4) {
            let mut bytes = sound.clone();
            bytes[at..at + 4].copy_from_slice(&0x7fff_fff0u32.to_ne_bytes());
            fs::write(&path, &bytes).unwrap();
            let ended = place.run(&["sh", "-c", script, "sh"], &["look", kind, log.to_str().unwrap()]);
            if ended.code() != Some(0) && !ended.said().contains("Damaged") {
                return Err(format!("{} at {at}: {}", path.display(), ended.said()));
            }
            checks += 1;
        }
        fs::write(&path, &sound).unwrap();
    }
    Ok(Tally::of(checks))
}

// No room.

/// Fills a file system but for so many KiB.
fn fill(dir: &Path, leave: u64) {
    let mut file = fs::File::create(dir.join("filler")).unwrap();
    let block = [1; 4096];
    while std::io::Write::write_all(&mut file, &block).is_ok() {}
    let _ = file.sync_all();
    let len = file.metadata().unwrap().len();
    let _ = file.set_len(len.saturating_sub(leave << 10));
    let _ = file.sync_all();
}

/// A small file system that is full for a while.
fn full(field: &Field, file_system: &str, kind: &str, leave: u64) -> Result<Tally, String> {
    if let Some(why) = no_mounts() {
        return Err(why.to_owned());
    }
    let place = field.place();
    let notes = place.path("notes");
    let mounted = if file_system == "tmpfs" {
        Mount::new(place.path("mounted"), &["-t", "tmpfs", "-o", "size=1m", "tmpfs"])?
    } else {
        make_image(&place.path("image"), file_system, 8)?;
        Mount::image(&place.path("image"), place.path("mounted"), "")?
    };
    let log = mounted.dir.join("log");
    let goes = |from: &str, fine: &[i32]| {
        let ended = place.run(&[], &[kind, log.to_str().unwrap(), notes.to_str().unwrap(), from, "60"]);
        if ended.code().is_some_and(|code| fine.contains(&code)) { Ok(()) } else { Err(ended.said()) }
    };
    goes("0", &[0])?;
    fill(&mounted.dir, leave);
    goes("1000", &[0, GAVE_UP])?;
    let refused = Known::read(&notes).refused.len();
    // There is room again: all is taken.
    fs::remove_file(mounted.dir.join("filler")).unwrap();
    goes("2000", &[0])?;
    let known = Known::read(&notes);
    if let Some((n, what)) = known.refused.range(2000..).next() {
        return Err(format!("there is room, and {n} is refused: {what}"));
    }
    place.check(kind, &log, &notes)?;
    mounted.end()?;
    Ok(Tally { checks: 1, struck: u64::from(refused > 0), ..Tally::default() })
}

/// The device under a file system takes no more: syncs fail, and the cache shows what the disk has not.
fn device_full(field: &Field, file_system: &str, kind: &str, seed: u64) -> Result<Tally, String> {
    if let Some(why) = no_mounts() {
        return Err(why.to_owned());
    }
    let place = field.place();
    let mut dice = Dice(seed);
    let notes = place.path("notes");
    let boot = Boot::pretended(&place.path("boot"))?;
    let size = if file_system == "xfs" { "size=90m" } else { "size=12m" };
    let below = Mount::new(place.path("below"), &["-t", "tmpfs", "-o", size, "tmpfs"])?;
    let image = below.dir.join("image");
    make_image(&image, file_system, if file_system == "xfs" { 320 } else { 64 })?;
    let mounted = Mount::image(&image, place.path("mounted"), "")?;
    let log = mounted.dir.join("log");
    let mut child = place
        .part(&[], &[kind, log.to_str().unwrap(), notes.to_str().unwrap(), "0", "1000000"])
        .stdout(Stdio::null())
        .stderr(fs::File::create(place.path("said")).unwrap())
        .spawn()
        .map_err(|error| error.to_string())?;
    let enough = 200 + dice.below(3000) as u64;
    while fs::metadata(&notes).map_or(0, |info| info.len()) < enough && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    fill(&below.dir, 0);
    // It goes on until it can open nothing any more, or has failed often, or finds room in blocks that it has.
    let most = fs::metadata(&notes).map_or(0, |info| info.len()) + 20_000;
    while fs::metadata(&notes).map_or(0, |info| info.len()) < most && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    let _ = child.kill();
    let status = child.wait().unwrap();
    if status.code() == Some(101) {
        return Err(fs::read_to_string(place.path("said")).unwrap());
    }
    let known = Known::read(&notes);
    let struck = !known.refused.is_empty() || !known.errors.is_empty();
    let _ = mounted.end();
    // What the disk has, not what the kernel remembers of it.
    boot.again(dice.roll());
    fs::remove_file(below.dir.join("filler")).unwrap();
    let mounted = Mount::image(&image, place.path("mounted"), "")?;
    fs::write(&notes, what_holds(&fs::read(&notes).unwrap(), &fs::read(&notes).unwrap())).unwrap();
    place.check(if kind == "spool" { "cut-spool" } else { kind }, &log, &notes)?;
    mounted.end()?;
    below.end()?;
    Ok(Tally { checks: 1, struck: u64::from(struck), ..Tally::default() })
}

// Nothing may be written, and other times.

/// A log that may not be written: it is read, nothing is created, and a writer is told.
fn read_only(field: &Field, how: &str, kind: &str) -> Result<Tally, String> {
    if let Some(why) = no_mounts() {
        return Err(why.to_owned());
    }
    let place = field.place();
    let (image, dir, notes) = (place.path("image"), place.path("mounted"), place.path("notes"));
    make_image(&image, "ext4", 16)?;
    let mounted = Mount::image(&image, dir.clone(), "")?;
    let log = dir.join("log");
    let ended = place.run(&[], &history(kind, &log, &notes));
    if ended.code() != Some(0) {
        return Err(ended.said());
    }
    let mut under = Vec::new();
    let (_mounted, _bound) = match how {
        "loop" => {
            mounted.end()?;
            (Mount::image(&image, dir.clone(), "ro")?, None)
        }
        "bind" => {
            let path = dir.to_str().unwrap();
            let bound = Mount::new(dir.clone(), &["--bind", path])?;
            must(Command::new("mount").args(["-o", "remount,ro,bind", path]))?;
            (mounted, Some(bound))
        }
        _ => {
            // Root is not held up by the mode of a file: another user is.
            must(Command::new("chmod").args(["-R", "a+rX,a-w"]).arg(&dir))?;
            under = vec!["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
            (mounted, None)
        }
    };
    let before = crate::snapshot(&log);
    let ended = place.run(&under, &["look", kind, log.to_str().unwrap()]);
    if ended.code() != Some(0) {
        return Err(ended.said());
    }
    // Who wants to write is told that it may not: by a note of every attempt.
    let refused = place.path("refused");
    fs::write(&refused, "").unwrap();
    must(Command::new("chmod").arg("a+w").arg(&refused))?;
    let ended = place.run(&under, &[kind, log.to_str().unwrap(), refused.to_str().unwrap(), "5000", "5"]);
    let known = Known::read(&refused);
    if ended.code() != Some(GAVE_UP) || !known.written.is_empty() {
        return Err(format!("writing: {}, {known:?}", ended.said()));
    }
    if let Some(other) = known.errors.iter().find(|error| !error.contains("Permission") && kind != "spool") {
        return Err(format!("not a matter of permission: {other}"));
    }
    if crate::snapshot(&log) != before {
        return Err("something was changed".to_owned());
    }
    Ok(Tally::of(1))
}

/// Half of a history in 2026, the other half in 1999.
fn clock(field: &Field, kind: &str) -> Result<Tally, String> {
    let place = field.place();
    let (log, notes) = (place.path("log"), place.path("notes"));
    for (from, time) in [("0", "2030-01-01 00:00:00"), ("1000", "1999-01-01 00:00:00")] {
        let words = [kind, log.to_str().unwrap(), notes.to_str().unwrap(), from, STEPS];
        let ended = place.run(&["faketime", time], &words);
        if ended.code() != Some(0) {
            return Err(ended.said());
        }
    }
    place.check(kind, &log, &notes)?;
    Ok(Tally::of(1))
}
