//! A durable journaled log: a directory of segment files that many processes append to and many named subscribers
//! consume, each at its own pace, with durable checkpoints.
//!
//! ```
//! use jlog::{Log, Subscriber, Start, Timestamp};
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("events");
//!
//! let log = Log::create(&path)?;
//! let billing = Subscriber::new("billing")?;
//! log.add_subscriber(&billing, Start::Begin)?;
//!
//! let writer = log.writer()?;
//! writer.append(b"order 17 paid", Timestamp::from(std::time::SystemTime::now()))?; // on disk from here on
//!
//! let mut reader = log.reader(&billing)?;
//! while let Some(record) = reader.next_record()? {
//!     println!("{} {}", record.id, String::from_utf8_lossy(record.payload));
//! }
//! reader.commit()?; // the next reader of this name goes on from here
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! There are two formats, and one API. New logs are checksummed: every record is proved on every read, acknowledged
//! once it is on the disk ([`Durability`]), and damage is told from what a crash has torn. [`CreateOptions::classic`]
//! makes libjlog 2.x's directories, bit for bit, in either byte order; C processes may write and read beside this crate.
//! [`Log::open`] tells which one it is.
//!
//! See [`Log`] for where to start, [`inspect`] for looking at a log without touching it, and [`repair`] for mending a
//! damaged one. The formats are described in `docs/format-checksummed.md` and `docs/format-classic.md`, what holds when
//! in `docs/durability.md`, the words in `docs/glossary.md`. Features: `async` (futures), `sim` (the simulated disk).
//!
//! Linux only: the locks that exclude libjlog's (open-file-description locks) are Linux's.

#![deny(missing_docs)]

mod error;
mod id;
pub mod io;
mod log;
mod order;
mod record;
mod segment;
mod sync;

pub use error::{Error, ErrorKind, Result};
pub use id::{Marker, NotARecordId, RecordId, SegmentId, Timestamp};
#[cfg(feature = "async")]
pub use log::{Append, Ready};
pub use log::{
    Checkpoint, Counts, CreateOptions, Cursor, Durability, Entry, Format, Gap, GapKind, Index, Interval, Lag,
    Log, OnDamage, Pending, Place, Reader, Record, Recovery, Retention, Start, Subscriber, Tail, WhenFull,
    Writer, WriterOptions,
};
pub use log::{inspect, repair};
pub use order::Order;
pub use record::Compression;
pub use record::checked::{Kind, LogIdentity};
pub use record::classic::{Metastore, Safety};
pub use record::compress::MAX_MESSAGE;
pub use segment::{IndexDetails, IndexState};

/// Whether this mistake is put in on purpose: named by the environment, in builds made for that alone, to show that the
/// tests find it.
#[cfg(planted_bugs)]
pub(crate) fn planted(bug: &str) -> bool {
    static PLANTED: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    PLANTED.get_or_init(|| std::env::var("JLOG_PLANTED_BUG").ok()).as_deref() == Some(bug)
}

#[cfg(not(planted_bugs))]
pub(crate) const fn planted(_bug: &str) -> bool {
    false
}
