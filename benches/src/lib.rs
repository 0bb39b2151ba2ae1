//! What the benches measure, each way beside a raw control that moves the same messages.
//!
//! - `append`: appending without a sync; `read`: reading
//! - `durable`: appending acknowledged after a sync, by several senders
//! - `disk`: the operating system's disk, counting, and slowed if wanted
//!
//! Times are CPU times of the process, user and system together, unless they say otherwise: wall time on a shared machine
//! says more about its neighbours. Every case says how durable its appends are.

mod append;
pub mod disk;
pub mod durable;
mod read;

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

pub use append::{APPENDS, Append, system_calls};
pub use read::{CHECKED_READS, CLASSIC_READS, Read, Shape, log_to_read, sum};

/// A result that a bench may give up on.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The segment size of libjlog's default, and of every case that says nothing else.
pub const SEGMENT: u64 = 4 << 20;

/// The CPU time this process has used.
pub fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}

/// A message of `size` bytes that differs from its neighbours.
fn message(size: usize) -> Vec<u8> {
    (0..size).map(|n| b'a' + (n % 23) as u8).collect()
}

/// The one in the middle.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
