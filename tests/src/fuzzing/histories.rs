//! Operations on a simulated disk: what `play`, `crash` and `spool_model` know to hold, of histories that an input tells.

use arbitrary::{Arbitrary, Result, Unstructured};
use jlog::io::sim::{Profile, SimDisk};
use jlog::{Durability, Format};
use nix::libc::{EDQUOT, EIO, ENOSPC};

use crate::play::{Action, Play};
use crate::{crash as log_crash, spool_model};

/// The longest histories that are looked at.
const MOST_ACTIONS: usize = 60;
const MOST_STEPS: usize = 8;
const MOST_SPOOL_STEPS: usize = 10;

/// A log is a list, whatever is done to it; a checksummed one, whatever the disk does.
pub fn operations(data: &[u8]) {
    let mut told = Unstructured::new(data);
    let Ok((mut play, faults)) = begin(&mut told) else { return };
    for _ in 0..MOST_ACTIONS {
        let Ok(action) = action(&mut told, faults) else { break };
        play.take(&action);
        if told.is_empty() {
            break;
        }
    }
    play.finish();
    if faults {
        let seed = told.arbitrary().unwrap_or(1);
        play.power_cut(Some(seed));
        play.finish();
    } else {
        assert_eq!(play.errors, []);
    }
}

fn begin(told: &mut Unstructured<'_>) -> Result<(Play, bool)> {
    let checked = bool::arbitrary(told)?;
    let durability = *told.choose(&[Durability::Sync, Durability::Process])?;
    let profiles = [Profile::Posix, Profile::Ext4Ordered, Profile::ZeroTail, Profile::GarbageTail];
    let disk = SimDisk::new(u64::from(u16::arbitrary(told)?));
    disk.keep_trace(false);
    disk.profile(*told.choose(&profiles)?);
    let format = if checked { Format::Checksummed } else { Format::Classic };
    Ok((Play::begin(disk, format, durability, 1024), checked))
}

fn action(told: &mut Unstructured<'_>, faults: bool) -> Result<Action> {
    let len = |told: &mut Unstructured<'_>| -> Result<usize> {
        Ok(if told.ratio(1, 5)? { told.int_in_range(200..=1499)? } else { told.int_in_range(4..=199)? })
    };
    let name = |told: &mut Unstructured<'_>| told.choose(&["a", "b"]).copied();
    Ok(match told.int_in_range(0..=if faults { 11u8 } else { 8 })? {
        0 => Action::Append(len(told)?, bool::arbitrary(told)?),
        1 => {
            let count = told.int_in_range(1..=4u8)?;
            Action::Batch((0..count).map(|_| len(told)).collect::<Result<_>>()?)
        }
        2 => Action::Sync,
        3 => Action::Check,
        4 => Action::Commit(name(told)?, told.int_in_range(1..=19)?),
        5 => Action::Subscribe(name(told)?),
        6 => Action::SegmentSize(told.int_in_range(200..=2999)?),
        7 => Action::Close,
        8 => Action::Die,
        9 => Action::PowerCut(None),
        10 => Action::PowerCut(Some(u64::from(u16::arbitrary(told)?))),
        _ => Action::Fault(told.int_in_range(0..=29)?, *told.choose(&[EIO, ENOSPC, EDQUOT])?),
    })
}

/// The power goes at every moment of a history of a checksummed log.
pub fn crash(data: &[u8]) {
    let [begun, profile, seed, steps @ ..] = data else { return };
    if steps.is_empty() {
        return;
    }
    let steps = steps.iter().take(MOST_STEPS);
    let case = log_crash::Case {
        begun: one_of(&log_crash::Begun::ALL, *begun),
        profile: one_of(&log_crash::PROFILES, *profile).0,
        steps: steps.map(|step| one_of(&log_crash::Step::LETTERS, *step).0).collect(),
    };
    let (_, outcome) = log_crash::run(&case, u64::from(*seed), log_crash::Effort::SCANT, None);
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

/// The power goes at every moment of a history of a spool.
pub fn spool(data: &[u8]) {
    let [begun, profile, seed, steps @ ..] = data else { return };
    if steps.is_empty() {
        return;
    }
    let steps = steps.iter().take(MOST_SPOOL_STEPS);
    let case = spool_model::Case {
        begun: one_of(&spool_model::Begun::ALL, *begun),
        profile: one_of(&spool_model::PROFILES, *profile).0,
        steps: steps.map(|step| one_of(&spool_model::Step::ALL, *step).0).collect(),
    };
    // Of a long one the last step alone: those before it are the ends of shorter ones.
    let (_, outcome) = spool_model::run(&case, u64::from(*seed), spool_model::Effort::SCANT, false);
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

fn one_of<T: Copy>(all: &[T], which: u8) -> T {
    all[usize::from(which) % all.len()]
}
