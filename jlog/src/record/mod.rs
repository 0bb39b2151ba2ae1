//! Records as bytes: no files, locks, clocks or options.
//!
//! - `walk`: from the bytes of a segment, of either format, to its records, its damage and its end
//! - `classic`: the header of a classic record, and the small files of a classic log; `scan`: the walk through them
//! - `checked`: the checksummed format's segments; `checked_walk`: the walk; `slots`: its small files; `index`
//! - `compress`: what a compressed record holds

pub(crate) mod checked;
mod checked_walk;
pub(crate) mod classic;
pub(crate) mod compress;
pub(crate) mod index;
pub(crate) mod scan;
pub(crate) mod slots;
pub(crate) mod walk;

pub(crate) use checked_walk::{CheckedWalk, describe};
pub use compress::Compression;
