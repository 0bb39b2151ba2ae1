//! The faults of a simulated disk that still runs.

use nix::libc;

use super::op::Op;

/// How often a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// Only then.
    Once,
    /// Then and ever after, until [`SimDisk::heal`](super::SimDisk::heal).
    Sticky,
}

/// Every fault that is set.
#[derive(Default)]
pub(super) struct Faults {
    pub(super) scheduled: Vec<Fault>,
    pub(super) short: bool,
    pub(super) interrupt_every: Option<u64>,
    pub(super) empty_writes: bool,
    /// The file, by number, and the offset where the next write lands instead.
    pub(super) misdirected: Option<(usize, u64)>,
}

impl Faults {
    /// The error that operation `number` of the disk meets, which is the `nth` of its kind.
    pub(super) fn strike(&self, op: Op, number: u64, nth: u64) -> Option<i32> {
        if let Some(fault) = self.scheduled.iter().find(|fault| fault.strikes(op, number, nth)) {
            return Some(fault.errno);
        }
        let stormy = self.interrupt_every.is_some_and(|k| (number + 1).is_multiple_of(k));
        (stormy && op.is_interruptible()).then_some(libc::EINTR)
    }
}

/// A fault that waits for its operation.
pub(super) struct Fault {
    /// Which operations are counted: `None`, all.
    pub(super) op: Option<Op>,
    pub(super) n: u64,
    pub(super) errno: i32,
    pub(super) times: Times,
}

impl Fault {
    fn strikes(&self, op: Op, number: u64, nth: u64) -> bool {
        let now = match self.op {
            None => number,
            Some(mine) if mine == op => nth,
            Some(_) => return false,
        };
        match self.times {
            Times::Once => now == self.n,
            Times::Sticky => now >= self.n,
        }
    }
}
