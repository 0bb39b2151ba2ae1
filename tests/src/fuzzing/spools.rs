//! Spools whose logs hold records of any bytes, and spools that harm comes to.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use arbitrary::{Arbitrary, Unstructured};
use jlog::io::sim::SimDisk;
use jlog::io::{Disk, File, Open, PathKind};
use jlog::{Durability, Entry, Kind, Log, repair as log_repair};
use spool::{Message, Spool, SpoolError};

use super::harm::Harm;
use crate::at;
use crate::spool_harm::{files, look, small};
use crate::spool_model::{Expected, Model, PATH, found_one, options};

/// The files of a spool by their paths, and what it holds.
type Held = (BTreeMap<PathBuf, Vec<u8>>, Model);

/// The small spool, closed, and as a killed process leaves it.
fn spools() -> &'static [Held; 2] {
    static SPOOLS: OnceLock<[Held; 2]> = OnceLock::new();
    SPOOLS.get_or_init(|| {
        [true, false].map(|close| {
            let (disk, model) = small(close);
            let read = |(path, len): (PathBuf, u64)| {
                let mut bytes = vec![0; len as usize];
                File::open(&disk, &path, Open::Read).unwrap().pread(&mut bytes, 0).unwrap();
                (path, bytes)
            };
            (files(&disk).into_iter().map(read).collect(), model)
        })
    })
}

fn disk_of(files: &BTreeMap<PathBuf, Vec<u8>>) -> SimDisk {
    let disk = SimDisk::new(1);
    disk.keep_trace(false);
    for (path, bytes) in files {
        let mut parents: Vec<&Path> = path.ancestors().skip(1).collect();
        parents.pop();
        for dir in parents.into_iter().rev() {
            if disk.info(dir, false).is_err() {
                disk.create_dir(dir, 0o750).unwrap();
            }
        }
        File::open(&disk, path, Open::Create(0o640)).unwrap().pwrite(bytes, 0).unwrap();
    }
    disk
}

/// Records: of each a byte that says into which log it goes, a byte for its kind, the length of its bytes (two bytes, least
/// significant first), and its bytes.
fn told(mut rest: &[u8]) -> Vec<(usize, u8, &[u8])> {
    let mut records = Vec::new();
    while let [log, kind, low, high, behind @ ..] = rest {
        let len = usize::from(u16::from_le_bytes([*low, *high])).min(behind.len());
        let (payload, behind) = behind.split_at(len);
        records.push((usize::from(log & 1), *kind, payload));
        rest = behind;
    }
    records
}

pub const LOGS: [&str; 2] = ["arrivals", "survivors"];

/// Records of any bytes, each with checksums that hold, behind those of a sound spool: reading in comes to an end, and finds the
/// same again; messages whose ids, and whose bodies' numbers, stand in none of them are as they were; what is listed can be read, or says why not.
pub fn records(data: &[u8]) {
    let (files, model) = &spools()[0];
    let disk = disk_of(files);
    let records = told(data);
    for (number, name) in LOGS.iter().enumerate() {
        let log = Log::open_on(Arc::new(disk.clone()), Path::new(PATH).join(name)).unwrap();
        let writer = log.writer().unwrap();
        for (_, kind, payload) in records.iter().filter(|(log, ..)| *log == number) {
            // Half of all kinds are the spool's.
            let kind = if kind & 0x80 == 0 { 16 + kind % 7 } else { *kind };
            let entry =
                Entry { kind: Kind::application(kind).unwrap_or(Kind::MESSAGE), time: at(1), payload };
            writer.append_entries(&[entry], Durability::Sync).unwrap();
        }
        writer.close().unwrap();
    }
    let Some((spool, there)) = opened(&disk) else { return };
    let named = |id: u64| data.windows(8).any(|window| window == id.to_le_bytes());
    // The pieces of a body are found by its number, which a record may have as well: these have pieces.
    let has_pieces = |one: &Expected| matches!(one.body.1, 900 | 3000);
    let is_spared = |one: &Expected| !named(one.id.to_u64()) && !has_pieces(one);
    for (n, one) in model.messages.iter().enumerate().filter(|(_, one)| is_spared(one)) {
        let untouched = model.there().contains(&n);
        assert_eq!(spool.contains(one.id).unwrap(), untouched, "message {n}");
        if untouched {
            let it = found_one(&spool, one.id).unwrap();
            assert_eq!((it.body, &it.recipient), (one.body, &Model::name(n)), "message {n}");
            assert!(
                one.versions.contains(&it.stand),
                "message {n} is {:?}, not {:?}",
                it.stand,
                one.versions
            );
        }
    }
    let spared: BTreeSet<u64> =
        model.messages.iter().filter(|one| is_spared(one)).map(|one| one.id.to_u64()).collect();
    goes_on(&disk, spool, &there, &|id| spared.contains(&id));
}

/// What a spool lists, and what of each message can be read.
type There = BTreeMap<u64, Option<Vec<u8>>>;

/// Opens a spool that may be refused, and reads all of it.
fn opened(disk: &SimDisk) -> Option<(Spool, There)> {
    let spool = options().open_on(Arc::new(disk.clone()), PATH);
    let spool = spool.and_then(|spool| spool.wait_recovered().map(|_| spool));
    match spool {
        Ok(spool) => {
            let there = there(&spool);
            Some((spool, there))
        }
        Err(error) => {
            assert!(!matches!(error, SpoolError::Locked { .. } | SpoolError::Full { .. }), "{error}");
            None
        }
    }
}

fn there(spool: &Spool) -> There {
    let mut there = BTreeMap::new();
    for listed in spool.entries().unwrap() {
        let body = spool.get(listed.id).ok().and_then(|message| {
            let mut body = Vec::new();
            message.resources().ok()?;
            message.body().ok()?.read_to_end(&mut body).ok()?;
            assert_eq!(body.len() as u64, message.size(), "{}", listed.id);
            Some(body)
        });
        assert!(there.insert(listed.id.to_u64(), body).is_none(), "{} is listed twice", listed.id);
    }
    assert_eq!(spool.len().unwrap(), there.len() as u64);
    there
}

/// Opened again it holds the same. Once all was given back that can be, it holds those of these ids still. It takes another
/// message, and gives its id once.
fn goes_on(disk: &SimDisk, spool: Spool, before: &There, kept: &dyn Fn(u64) -> bool) {
    drop(spool);
    let (spool, again) = opened(disk).expect("it was opened before");
    assert!(again == *before, "opened again it holds something else");
    let mut rounds = 0;
    while spool.maintain(1 << 16).is_ok_and(|done| done.more) {
        rounds += 1;
        assert!(rounds < 300, "reclaiming does not come to an end");
    }
    let now = at(1_000_000);
    let id = spool.new_id(now);
    assert!(!before.contains_key(&id.to_u64()), "{id} was given out before");
    let accepted = spool.accept(&Message::from_bytes(id, *b"one more"), now).is_ok();
    drop(spool);
    let (_, last) = opened(disk).expect("it was opened before");
    assert_eq!(last.contains_key(&id.to_u64()), accepted);
    let is_kept = |there: &There| -> There {
        let kept = there.iter().filter(|(other, _)| **other != id.to_u64() && kept(**other));
        kept.map(|(id, body)| (*id, body.clone())).collect()
    };
    assert!(is_kept(&last) == is_kept(before), "reclaimed and opened again it holds something else");
}

#[derive(Debug, Arbitrary)]
struct Input {
    closed: bool,
    harm: Vec<Harm>,
}

/// Harm comes to the files of a spool: no message is delivered that is not what was accepted; opening again finds the same; no
/// summary is in the way; what could be read, with the summaries or without them, can be read when the logs and the spool are
/// repaired.
pub fn recovery(data: &[u8]) {
    let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(data)) else { return };
    let (files, model) = &spools()[usize::from(!input.closed)];
    let disk = disk_of(files);
    let paths: Vec<PathBuf> = files.keys().cloned().collect();
    for harm in &input.harm {
        harm.inflict(&disk, &paths);
    }
    // It asserts itself that what it finds is genuine.
    let first = look(&copy_of(&disk), model);
    if first.is_ok() {
        let copy = copy_of(&disk);
        if let Some((spool, there)) = opened(&copy) {
            goes_on(&copy, spool, &there, &|_| true);
        }
    }
    let without = copy_of(&disk);
    for (path, _) in self::files(&disk) {
        if path.starts_with("/spool/summaries") {
            without.remove(&path).unwrap();
        }
    }
    let (before, without) = (readable(&disk, model), readable(&without, model));
    assert!(before.is_some() || without.is_none(), "a summary keeps the spool from being opened");
    let Some(is_whole) = repaired_logs(&disk) else { return };
    // As long as damage is left, a summary tells of changes that cannot be read, and their messages are not given as they were before.
    let told_by_logs = without.filter(|_| is_whole);
    // Where a repair of the logs has put a note, a record may have stood that a summary alone could tell from damage.
    let told_by_all = readable(&disk, model);
    if repaired(&disk, is_whole).is_none() {
        return;
    }
    if before.is_some() {
        let after = readable(&disk, model).expect("a spool that could be opened can be after its repair");
        for id in [told_by_logs, told_by_all].into_iter().flatten().flatten() {
            assert!(after.contains(&id), "{id:x} could be read before the repair");
        }
    }
}

/// The ids of the messages that a spool lists, that were accepted, and that can be read as they were, without a change to it.
fn readable(disk: &SimDisk, model: &Model) -> Option<Vec<u64>> {
    let spool = options().open_read_only_on(Arc::new(disk.clone()), PATH).ok()?;
    spool.wait_recovered().ok()?;
    let there = model.there().into_iter().map(|n| (n, &model.messages[n]));
    let same = there.filter(|(n, one)| {
        spool.contains(one.id).unwrap_or(false)
            && found_one(&spool, one.id)
                .is_ok_and(|it| it.body == one.body && it.recipient == Model::name(*n))
    });
    Some(same.map(|(_, one)| one.id.to_u64()).collect())
}

/// Repairs the logs of a spool, as `jlog-repair` does; `None` if that is refused. Whether no damage is left.
fn repaired_logs(disk: &SimDisk) -> Option<bool> {
    let mut is_whole = true;
    for name in LOGS {
        let path = Path::new(PATH).join(name);
        for _ in 0..4 {
            let log = Log::open_on(Arc::new(disk.clone()), &path).ok()?;
            log.identity()?;
            let seen = jlog::inspect::inspect(&log).ok()?;
            let steps = log_repair::plan(&log, &seen, &log_repair::Options::default()).unwrap();
            if steps.is_empty() {
                is_whole &= steps.left.is_empty();
                break;
            }
            log_repair::apply(&log, &steps, "now").unwrap();
        }
    }
    Some(is_whole)
}

/// Then repairs the spool.
fn repaired(disk: &SimDisk, is_whole: bool) -> Option<()> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut steps = spool::repair::plan_on(Arc::clone(&disk), Path::new(PATH)).ok()?;
    if !is_whole {
        steps.keep_unreadable();
    }
    spool::repair::apply_on(disk, &steps).ok()
}

/// The same files on another disk.
fn copy_of(disk: &SimDisk) -> SimDisk {
    let mut copied = BTreeMap::new();
    for (path, len) in files(disk) {
        assert_eq!(disk.info(&path, false).unwrap().kind, PathKind::File);
        let mut bytes = vec![0; len as usize];
        File::open(disk, &path, Open::Read).unwrap().pread(&mut bytes, 0).unwrap();
        copied.insert(path, bytes);
    }
    disk_of(&copied)
}

/// The records of the small spool's logs, as an input of [`records`].
pub fn seeds() -> Vec<Vec<u8>> {
    let (files, _) = &spools()[0];
    let disk = disk_of(files);
    let mut seeds: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
    for (number, name) in LOGS.iter().enumerate() {
        let log = Log::open_on(Arc::new(disk.clone()), Path::new(PATH).join(name)).unwrap();
        for record in crate::read_all(&log).records {
            let kind = record.kind.number();
            let len = u16::try_from(record.payload.len()).unwrap().to_le_bytes();
            let all = seeds.entry(kind).or_default();
            if all.len() + record.payload.len() < 3000 {
                all.extend_from_slice(&[number as u8, (kind - 16) % 7, len[0], len[1]]);
                all.extend_from_slice(&record.payload);
            }
        }
    }
    seeds.into_values().filter(|seed| !seed.is_empty()).collect()
}
