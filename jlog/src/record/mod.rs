//! Records as bytes: no files, locks, clocks or options.
//!
//! - `classic`: the header of a classic record, and the small files of a classic log
//! - `compress`: what a compressed record holds
//! - `scan`: from the bytes of a segment to its records, its damage and its end

pub(crate) mod classic;
pub(crate) mod compress;
pub(crate) mod scan;

pub use compress::Compression;
