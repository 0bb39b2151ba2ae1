//! Crash states as data: which images a power cut may leave, and of what they are made.

use super::SimDisk;
use super::cut::{Atom, Cut};
use super::dice::Dice;

/// How many images to make of one power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Up to so many atoms, all images are made.
    pub exhaustive_atoms: usize,
    /// But only if there are at most so many combinations of what the atoms may be.
    pub exhaustive_images: u64,
    /// Otherwise this many of them: first the two where nothing and where everything survived, then random ones.
    pub samples: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { exhaustive_atoms: 10, exhaustive_images: 4096, samples: 64 }
    }
}

/// What an image of a power cut is made of: how often each thing happened that a power cut does.
///
/// Only what can be seen is counted: no sector behind the end of its file, and nothing of a file without a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MadeOf {
    /// Written sectors that are as they were before the last write, or before the first one.
    pub torn_sectors: u32,
    /// Written sectors that are zeros.
    pub zero_sectors: u32,
    /// Written sectors that hold garbage.
    pub garbage_sectors: u32,
    /// Name operations that did not happen.
    pub lost_names: u32,
    /// Files whose size is an earlier one.
    pub sizes_behind: u32,
    /// Files that are longer than the data they got.
    pub sizes_ahead: u32,
}

/// The disks that a power cut may leave: an iterator over them. See [`SimDisk::crash_states`].
///
/// What was not durable falls into atoms, which the cut decides one by one: each sector that was written or cut, the
/// size of each file, and each name operation (in a journal, where it ended).
pub struct CrashStates {
    cut: Cut,
    limits: Limits,
    seed: u64,
    is_exhaustive: bool,
    /// The outcome of each atom in the next image of an exhaustive run.
    outcomes: Vec<usize>,
    /// How many images were made, or tried.
    tried: u64,
    at_end: bool,
}

impl CrashStates {
    pub(super) fn new(cut: Cut, limits: Limits, seed: u64) -> CrashStates {
        let outcomes = vec![0; cut.atoms.len()];
        let mut states =
            CrashStates { cut, limits, seed, is_exhaustive: false, outcomes, tried: 0, at_end: false };
        states.is_exhaustive = states.atoms() <= limits.exhaustive_atoms
            && states.combinations().is_some_and(|images| images <= limits.exhaustive_images);
        states
    }

    /// How many things the power cut decides.
    pub fn atoms(&self) -> usize {
        self.cut.atoms.iter().filter(|atom| atom.outcomes > 1).count()
    }

    /// In how many ways it can decide them: at least the number of different images. `None` if a `u64` does not hold it.
    pub fn combinations(&self) -> Option<u64> {
        self.cut.atoms.iter().try_fold(1, |product: u64, atom| product.checked_mul(atom.outcomes as u64))
    }

    /// Whether the iterator makes every image there is rather than a sample. It makes none twice, unless other name
    /// operations leave the same names.
    pub fn is_exhaustive(&self) -> bool {
        self.is_exhaustive
    }

    fn next_of_all(&mut self) -> Option<SimDisk> {
        while !self.at_end {
            let image = self.cut.exact_image(&self.outcomes, &mut Dice::nth(self.seed, self.tried));
            self.tried += 1;
            self.at_end = !count_up(&mut self.outcomes, &self.cut.atoms);
            if image.is_some() {
                return image;
            }
        }
        None
    }

    fn next_sample(&mut self) -> Option<SimDisk> {
        let n = self.tried;
        if n == self.limits.samples {
            return None;
        }
        self.tried += 1;
        let mut dice = Dice::nth(self.seed, n);
        let lean = match n {
            0 => Lean::AllOld,
            1 => Lean::AllNew,
            _ => Lean::any(&mut dice),
        };
        Some(sample(&self.cut, lean, &mut dice, &mut self.outcomes))
    }
}

impl Iterator for CrashStates {
    type Item = SimDisk;

    fn next(&mut self) -> Option<SimDisk> {
        if self.is_exhaustive { self.next_of_all() } else { self.next_sample() }
    }
}

impl std::fmt::Debug for CrashStates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CrashStates").field("atoms", &self.atoms()).finish_non_exhaustive()
    }
}

/// The next combination; false after the last one.
fn count_up(outcomes: &mut [usize], atoms: &[Atom]) -> bool {
    for (outcome, atom) in outcomes.iter_mut().zip(atoms) {
        *outcome += 1;
        if *outcome < atom.outcomes {
            return true;
        }
        *outcome = 0;
    }
    false
}

/// The worst that a cut may do: nothing that was not durable is left.
pub(super) fn worst(cut: &Cut) -> SimDisk {
    sample(cut, Lean::AllOld, &mut Dice::new(0), &mut vec![0; cut.atoms.len()])
}

/// What a cut does, as the seed decides.
pub(super) fn any(cut: &Cut, seed: u64) -> SimDisk {
    let mut dice = Dice::new(seed);
    let lean = Lean::any(&mut dice);
    sample(cut, lean, &mut dice, &mut vec![0; cut.atoms.len()])
}

fn sample(cut: &Cut, lean: Lean, dice: &mut Dice, outcomes: &mut [usize]) -> SimDisk {
    for (outcome, atom) in outcomes.iter_mut().zip(&cut.atoms) {
        *outcome = lean.pick(*atom, dice);
    }
    cut.image(outcomes, dice)
}

/// What a sample prefers. Of many atoms, even odds would almost never leave all but one of them, or one alone.
#[derive(Clone, Copy)]
enum Lean {
    Even,
    Old,
    New,
    AllOld,
    AllNew,
}

impl Lean {
    fn any(dice: &mut Dice) -> Lean {
        [Lean::Even, Lean::Even, Lean::Old, Lean::New][dice.below(4)]
    }

    fn pick(self, atom: Atom, dice: &mut Dice) -> usize {
        match self {
            Lean::AllOld => 0,
            Lean::AllNew => atom.newest,
            Lean::Old if dice.below(8) > 0 => 0,
            Lean::New if dice.below(8) > 0 => atom.newest,
            Lean::Even | Lean::Old | Lean::New => dice.below(atom.outcomes),
        }
    }
}
