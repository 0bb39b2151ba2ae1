//! The bodies of the fuzz targets: any bytes in, and what has to hold of what comes of them.
//!
//! `fuzz/fuzz_targets/` hands them what libFuzzer thinks of; `tests/corpus.rs` hands them the inputs that are kept in
//! `fuzz/corpus/` and `fuzz/regressions/`. So there is one copy of each. None of them looks at a clock: what must come to an
//! end has so many steps, or so many operations of its disk, as follow from the size of its input.
//!
//! - [`segment`]: one segment file by itself
//! - [`small_files`]: an index, a checkpoint, a metastore, a pre_commit, in a log that is sound otherwise
//! - [`blocks`]: what stands behind the header of a compressed record
//! - [`directories`]: whole directories, looked at and repaired
//! - [`classic_harm`], [`checked_harm`]: sound logs that harm comes to
//! - [`histories`]: operations on a simulated disk that fails and loses power
//! - [`spools`]: records in the logs of a spool, and spools that harm comes to
//! - [`names`]: ids, names and addresses
//! - [`c_calls`]: the C interface
//!
//! What they stand on: [`base`] (sound logs, and logs as one input), [`harm`] (what happens to files), [`seal`] (checksums
//! made to hold, so that what is behind them is reached), [`seeds`] (the inputs to begin with).

pub mod base;
pub mod blocks;
pub mod c_calls;
pub mod checked_harm;
pub mod classic_harm;
pub mod directories;
pub mod harm;
pub mod histories;
pub mod names;
pub mod seal;
pub mod seeds;
pub mod segment;
pub mod small_files;
pub mod spools;

use jlog::io::sim::SimDisk;

/// A fuzz target: its name, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 18] = [
    ("segment", segment::segment),
    ("index", small_files::index),
    ("checkpoint", small_files::checkpoint),
    ("metastore", small_files::metastore),
    ("pre_commit", small_files::pre_commit),
    ("blocks", blocks::blocks),
    ("inspect", directories::inspect),
    ("repair", directories::repair),
    ("directory", classic_harm::directory),
    ("checked", checked_harm::checked),
    ("operations", histories::operations),
    ("crash", histories::crash),
    ("spool_records", spools::records),
    ("spool_recovery", spools::recovery),
    ("spool_history", histories::spool),
    ("names", names::names),
    ("mail_names", names::mail),
    ("c_calls", c_calls::c_calls),
];

/// So many operations of a disk are enough to look at, or to mend, so many bytes.
fn assert_bounded(disk: &SimDisk, since: u64, bytes: usize) {
    let operations = disk.operations() - since;
    let most = 5000 + 200 * (bytes as u64 / 16);
    assert!(operations < most, "{operations} operations of the disk for {bytes} bytes");
}
