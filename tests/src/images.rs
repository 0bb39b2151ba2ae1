//! What rot, and writes that go astray, leave of a closed log: random logs, random damage, and what has to hold.
//!
//! Nothing is delivered that was not written; whoever does not get all of it is told; segments that were not touched are
//! delivered whole; reading changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use jlog::inspect::inspect;
use jlog::io::Disk;
use jlog::io::sim::SimDisk;
use jlog::{Compression, CreateOptions, ErrorKind, Log, RecordId, SegmentId, Start, Subscriber, Tail};

use crate::crash::{Dice, message};
use crate::{SIM_LOG, at, put, said, sim_files};

type Files = BTreeMap<String, Vec<u8>>;

/// A closed log: its files, what was written to it, and where.
pub struct Original {
    files: Files,
    written: BTreeMap<RecordId, u32>,
    /// Of every record the file, the offset, and the bytes it takes.
    places: Vec<(String, usize, usize)>,
}

impl Original {
    /// A log of some segments, with a subscriber, closed.
    pub fn random(seed: u64) -> Original {
        let mut dice = Dice(seed);
        let disk = SimDisk::new(seed);
        disk.keep_trace(false);
        let compression = [Compression::None, Compression::Lz4][dice.below(2)];
        let segment = 500 + dice.below(3000) as u32;
        let options = CreateOptions::new().segment_size(segment).compression(compression);
        let log = Log::create_on(Arc::new(disk.clone()), SIM_LOG, &options).unwrap();
        let name = Subscriber::new("a").unwrap();
        log.add_subscriber(&name, Start::Begin).unwrap();
        let writer = log.writer().unwrap();
        let mut written = BTreeMap::new();
        let mut n = 0;
        for _ in 0..4 + dice.below(24) {
            let batch: Vec<_> = (0..1 + dice.below(4) as u32)
                .map(|i| (message::of(n + i, 4 + dice.below(300)), at(n + i)))
                .collect();
            let last = writer.append_batch(batch.iter().map(|(m, t)| (&m[..], *t))).unwrap().unwrap();
            for back in 0..batch.len() as u32 {
                let id = RecordId::new(last.segment.0, last.marker.0 - back);
                written.insert(id, n + batch.len() as u32 - 1 - back);
            }
            n += batch.len() as u32;
        }
        writer.close().unwrap();
        // Within the first segment: nothing is pruned.
        let first = written.keys().rfind(|id| id.segment == SegmentId(0)).copied();
        log.set_checkpoint(&name, first.unwrap()).unwrap();

        let mut places = Vec::new();
        let mut cursor = log.cursor().unwrap();
        while let Some(record) = cursor.next_record().unwrap() {
            let file = format!("{:08x}", record.id.segment.0);
            places.push((file, record.offset as usize, record.stored_len as usize));
        }
        drop(cursor);
        Original { files: sim_files(&disk), written, places }
    }
}

/// What is done to the files of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// One bit, one byte, a block of zeros or noise, two blocks changed with each other, a block twice, a file cut or
    /// extended.
    Rot,
    /// A sound record, or a whole commit, in a place that is not its own: of this segment, of another, of another log.
    Astray,
}

/// Harms a copy of the files, and returns what was done and which files were touched.
fn harm(
    original: &Original,
    other: &Original,
    harm: Harm,
    dice: &mut Dice,
    files: &mut Files,
) -> (String, BTreeSet<String>) {
    let mut names: Vec<String> = files.keys().cloned().collect();
    if harm == Harm::Astray {
        // A write to a segment goes to a segment.
        names.retain(|name| name.len() == 8);
        let strange = dice.below(4) == 0;
        let from = if strange { other } else { original };
        let (file, offset, len) = &from.places[dice.below(from.places.len())];
        // With the commit's header in front of it, or not; and now and then with what stands behind it.
        let start = offset.saturating_sub([0, 32, 48, 64][dice.below(4)]);
        let end = (offset + len + [0, 0, 64, 200][dice.below(4)]).min(from.files[file].len());
        let bytes = from.files[file][start..end].to_vec();
        let name = names[dice.below(names.len())].clone();
        let target = files.get_mut(&name).unwrap();
        // Where a record stands, or at a sector, or anywhere.
        let at = match dice.below(3) {
            0 => original.places.iter().rfind(|(file, ..)| *file == name).map(|place| place.1),
            1 => Some(dice.below(target.len().max(1)) / 512 * 512),
            _ => None,
        };
        let at = at.unwrap_or_else(|| dice.below(target.len().max(1)));
        if target.len() < at + bytes.len() {
            target.resize(at + bytes.len(), 0);
        }
        target[at..at + bytes.len()].copy_from_slice(&bytes);
        let what = format!("{file} {start}..{end} written to {name} at {at}, another log's: {strange}");
        return (what, BTreeSet::from([name]));
    }
    let name = names[dice.below(names.len())].clone();
    let bytes = files.get_mut(&name).unwrap();
    let len = bytes.len().max(1);
    let place = dice.below(len);
    let block = place / 512 * 512..(place / 512 * 512 + 512).min(bytes.len());
    let kind = dice.below(9);
    match kind {
        _ if bytes.is_empty() => bytes.push(1),
        0..=2 => bytes[place] ^= 1 << dice.below(8),
        3 => bytes[place] = bytes[place].wrapping_add(1 + dice.below(255) as u8),
        4 => bytes[block].fill(0),
        5 => bytes[block].iter_mut().for_each(|byte| *byte = dice.roll() as u8),
        6 => {
            let to = dice.below(len) / 512 * 512;
            for at in 0..block.len().min(bytes.len() - to) {
                bytes.swap(block.start + at, to + at);
            }
        }
        7 => bytes.truncate(place),
        _ => {
            let twice = bytes[block].to_vec();
            bytes.splice(place..place, twice);
        }
    }
    (format!("{name}: kind {kind} at {place}"), BTreeSet::from([name]))
}

/// Looks at `count` images of a random log. The failure says what was done and what came of it.
pub fn look(kind: Harm, seed: u64, count: u64) -> Result<u64, String> {
    let original = Original::random(seed);
    let other = Original::random(seed ^ 0x5555_5555);
    let mut dice = Dice(seed.wrapping_add(77));
    for image in 0..count {
        let mut files = original.files.clone();
        let (what, touched) = harm(&original, &other, kind, &mut dice, &mut files);
        if files == original.files {
            continue;
        }
        // On the machine that wrote it, or after the next start of that.
        let boot = if dice.below(2) == 0 { seed } else { seed + 1 };
        catch_unwind(AssertUnwindSafe(|| assert_honest(&original, &files, &touched, boot)))
            .map_err(|panic| format!("image {image}, {what}: {}", said(&*panic)))?;
    }
    Ok(count)
}

fn assert_honest(original: &Original, files: &Files, touched: &BTreeSet<String>, boot: u64) {
    let disk = SimDisk::new(boot);
    disk.keep_trace(false);
    disk.create_dir(Path::new(SIM_LOG), 0o750).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    files.iter().for_each(|(name, bytes)| put(&disk, name, bytes));

    let log = match Log::open_on(Arc::new(disk.clone()), SIM_LOG) {
        Ok(log) => log,
        Err(error) => {
            let kinds = [ErrorKind::Damaged, ErrorKind::NotALog];
            return assert!(kinds.contains(&error.kind()), "{error}");
        }
    };
    let mut got = BTreeSet::new();
    let mut gaps = 0;
    let mut stopped = false;
    let mut cursor = log.cursor().unwrap();
    for step in 0.. {
        assert!(step < 10_000, "the cursor does not come to an end");
        match cursor.next_record() {
            Ok(Some(record)) => {
                let n = message::number(record.payload);
                assert_eq!(
                    original.written.get(&record.id).copied(),
                    n,
                    "{} is not what was written",
                    record.id
                );
                assert!(got.insert(record.id) && got.last() == Some(&record.id), "{} twice", record.id);
            }
            Ok(None) => break,
            Err(_) => match cursor.skip_gap() {
                Some(_) => gaps += 1,
                None => {
                    stopped = true;
                    break;
                }
            },
        }
    }
    let tail = cursor.tail();
    drop(cursor);
    let missing: Vec<_> = original.written.keys().filter(|id| !got.contains(id)).collect();
    let seen = inspect(&log).unwrap();
    assert!(missing.is_empty() || seen.problems().count() > 0, "nothing is noticed of {missing:?}");
    // Of what was removed before its first record a cursor knows nothing; but a subscriber does.
    let inside = missing.iter().any(|id| got.first().is_none_or(|first| *id > first));
    let told = gaps > 0 || stopped || tail != Tail::Clean;
    assert!(!inside || told, "a cursor says nothing of {missing:?}");
    if touched.iter().all(|name| name.len() == 8) && !stopped {
        let untouched = |id: &&&RecordId| !touched.contains(&format!("{:08x}", id.segment.0));
        assert_eq!(missing.iter().find(untouched), None, "lost in a segment that nothing befell");
    }
    assert!(sim_files(&disk) == *files, "reading has changed something");
}
