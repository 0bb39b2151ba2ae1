//! A spool with all sorts of records in it, and what is left of it when harm came to its files.

use std::path::PathBuf;
use std::sync::Arc;

use jlog::io::sim::{Limits, SimDisk};
use jlog::io::{Disk, PathKind};
use spool::SpoolError;

use crate::spool_model::{Model, PATH, Phase, Step, World, found, found_one, options};

const HISTORY: [Step; 16] = [
    Step::Accept,
    Step::Batch,
    Step::Large,
    Step::Resource,
    Step::Accept,
    Step::RemoveMany,
    Step::Context,
    Step::Retry,
    Step::Accept,
    Step::Large,
    Step::Maintain,
    Step::Remove,
    Step::MaintainAll,
    Step::Reopen,
    Step::Batch,
    Step::Sync,
];

/// Takes the steps; a step that fails is left. How each of them failed, by its number.
pub fn play(world: &mut World, from: usize) -> Vec<(usize, SpoolError)> {
    let mut errors = Vec::new();
    for (n, step) in HISTORY.iter().enumerate().skip(from) {
        if world.spool.is_none() {
            let again = world.reopen();
            if let Err(error) = again.or_else(|_| world.reopen()) {
                errors.push((n, error));
                continue;
            }
        }
        if let Err(error) = world.take(*step) {
            errors.push((n, error));
        }
    }
    errors
}

pub fn begin(disk: &SimDisk) -> World {
    disk.keep_trace(true);
    World::on(disk, Model::default(), 3)
}

/// All files of a disk, and their sizes.
pub fn files(disk: &SimDisk) -> Vec<(PathBuf, u64)> {
    let mut files = Vec::new();
    let mut dirs = vec![PathBuf::from(PATH)];
    while let Some(dir) = dirs.pop() {
        for name in disk.names(&dir).unwrap() {
            let path = dir.join(name);
            let info = disk.info(&path, false).unwrap();
            match info.kind {
                PathKind::Directory => dirs.push(path),
                _ => files.push((path, info.len)),
            }
        }
    }
    files.sort();
    files
}

/// The same disk, everything on it durable.
pub fn copy(disk: &SimDisk) -> SimDisk {
    let all = Limits { exhaustive_atoms: 0, exhaustive_images: 0, samples: 2 };
    disk.crash_states(all, 1).nth(1).unwrap()
}

/// A spool with all sorts of records, closed; and what it holds.
pub fn small(close: bool) -> (SimDisk, Model) {
    let disk = SimDisk::new(1);
    let mut world = begin(&disk);
    disk.keep_trace(false);
    assert!(play(&mut world, 0).is_empty());
    for step in [
        Step::Accept,
        Step::Resource,
        Step::Hold,
        Step::Context,
        Step::Remove,
        Step::Large,
        Step::Accept,
        Step::Sync,
    ] {
        world.take(step).unwrap();
    }
    let there = found(world.spool()).unwrap();
    let model = world.told(|model| {
        model.settle(&there);
        model.clone()
    });
    if close {
        world.spool.take().unwrap().close().unwrap();
    }
    (copy(&disk), model)
}

/// What became of a damaged spool's messages.
#[derive(Debug, Default)]
pub struct Outcome {
    pub right: usize,
    pub told: usize,
    pub lost: usize,
    pub back: usize,
    pub old: usize,
    pub findings: usize,
}

pub fn look(disk: &SimDisk, model: &Model) -> Result<Outcome, SpoolError> {
    let spool = options().open_on(Arc::new(disk.clone()), PATH)?;
    let report = spool.wait_recovered()?;
    let mut outcome = Outcome { findings: report.findings.len(), ..Outcome::default() };
    for (n, one) in model.messages.iter().enumerate() {
        if !spool.contains(one.id)? {
            outcome.lost += usize::from(one.phase == Phase::There);
            continue;
        }
        match found_one(&spool, one.id) {
            Ok(_) if one.phase == Phase::Gone => outcome.back += 1,
            Ok(it) => {
                assert_eq!((it.body, it.recipient), (one.body, Model::name(n)), "a wrong message");
                if one.versions.contains(&it.stand) { outcome.right += 1 } else { outcome.old += 1 }
            }
            Err(_) => outcome.told += 1,
        }
    }
    Ok(outcome)
}
