//! Random numbers that a seed decides.

/// splitmix64: a few lines, and good enough to roll.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Dice(u64);

/// What the state grows by at each roll: odd, so that all 2^64 states come before one comes again.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl Dice {
    pub(super) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// Those of one of many images of the same seed.
    pub(super) fn nth(seed: u64, n: u64) -> Dice {
        Dice(Dice(seed ^ n.wrapping_mul(0xd134_2543_de82_ef95)).roll())
    }

    pub(super) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number less than `sides`, which is not 0.
    pub(super) fn below(&mut self, sides: usize) -> usize {
        (self.roll() % sides as u64) as usize
    }

    pub(super) fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.roll().to_le_bytes()[..chunk.len()]);
        }
    }
}
