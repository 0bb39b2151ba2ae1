//! Real processes on real file systems: killed, refused, starved of space, cut off from their disk.
//!
//! ```text
//!   program   faults, soak: starts parts of itself as other processes, under whatever makes trouble
//!   parts     what the other processes do: histories of a log and of a spool, writers, subscribers
//!   notes     what they note of it, line by line, in a file that the trouble does not reach
//!   check     what has to hold then; a part too, so that a hang or a crash in it is noticed as well
//!   trouble   strace, short writes, limits, file systems of our own, disks that fail
//!   rows      the matrix of docs/proof.md, row by row
//! ```

pub mod check;
pub mod notes;
pub mod parts;
pub mod rows;
pub mod trouble;
