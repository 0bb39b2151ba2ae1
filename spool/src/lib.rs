//! The message spool: messages held durably between "accepted" and "delivered".
//!
//! A mail server hands a message over, tells its sender "250", and tries to deliver it for as long as it takes. In between the
//! message is here: on the disk before the sender is told, out of memory when memory is short, back when its turn comes,
//! and gone when it is done. Nothing is a file of its own: all is records in two logs of [`jlog`], with an index of some 62
//! bytes a message in memory.
//!
//! ```
//! use spool::{Message, RetryPolicy, Spool, Timestamp};
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("spool");
//! # fn deliver(_: &Message) -> Result<(), Vec<u8>> { Ok(()) }
//!
//! let spool = Spool::open(&path)?;
//! let now = Timestamp::from(std::time::SystemTime::now());
//! let message = Message::from_bytes(spool.new_id(now), *b"Subject: hello\r\n\r\nHello.\r\n");
//! message.set_recipient(Some("b@example.com".parse()?));
//! spool.accept(&message, now)?; // on the disk: its sender may be told
//!
//! for id in spool.due(now, 100)? {
//!     let message = spool.get(id)?;
//!     match deliver(&message) {
//!         Ok(()) => spool.remove(id)?,
//!         Err(reply) => drop(spool.retry(&message, &reply, &RetryPolicy::default(), 0, now)?),
//!     }
//! }
//! # assert!(spool.is_empty()?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Spool`] is where to start; [`Message`] is what it holds; [`SpoolOptions`] says how it is kept, and [`Durability`] what an
//! acknowledgement promises. [`MessageBuilder`] takes messages of any size as they come. [`RetryPolicy`] says when a
//! message is tried again, [`SpoolHooks`] who may have a say. [`mailbox`] reads and writes mbox, Maildir and `.eml`;
//! [`Spool::import_spool`], [`Spool::import_mailbox`] and [`Spool::export`] take messages in and out. [`repair`] mends what is
//! not the logs.
//!
//! `docs/spool.md` says what is promised and how it lies on the disk, `docs/momentum-api.md` what stands for each call of
//! Momentum's spool, `docs/durability.md` what happens when things fail, `docs/glossary.md` the words;
//! `examples/queue.rs` is a mail queue in one file, `examples/smtp_sink` the edge of a mail server. Feature: `mime` (the structure of a message). Linux only, as the log below.

#![deny(missing_docs)]

mod body;
mod books;
mod builder;
mod context;
mod decode;
mod envelope;
mod error;
mod export;
mod flight;
mod hooks;
mod id;
mod import;
mod index;
mod keep;
mod load;
pub mod mailbox;
mod message;
mod mime;
mod note;
mod open;
mod options;
mod pool;
mod quarantine;
mod reclaim;
mod record;
mod render;
pub mod repair;
mod reserve;
mod residency;
mod retry;
mod settings;
mod spool;
mod store;
mod summary;
mod wire;

pub use body::BodyReader;
pub use builder::MessageBuilder;
pub use context::{Context, ContextFilter};
pub use decode::DecodeError;
pub use envelope::{Address, AddressError, Envelope, EnvelopeEnd};
pub use error::{Resource, Result, SpoolError};
pub use export::{ExportOptions, ExportProgress, ExportReport, ExportTarget};
pub use hooks::{ImportEvent, LoadOutcome, MetaEdit, SpoolHooks};
pub use id::{IdGenerator, MessageId, ParseIdError, SpoolName, ThreadId, Window, node_name};
pub use import::{Ids, ImportFailure, ImportOptions, ImportProgress, ImportReport, Imported};
pub use index::QueueKey;
pub use jlog::Timestamp;
pub use load::{Finding, Report};
pub use message::{Loaded, Message, MessageSnapshot, ResourceState, Scope};
#[cfg(feature = "mime")]
pub use mime::{MAX_DEPTH, MAX_PARTS, Part, structure};
pub use mime::{Parts, headers};
pub use options::{Durability, OnCorrupt, SpoolOptions};
pub use pool::{Completion, Drain, Full, JobEnded, Pool, PoolOptions, PoolStats};
pub use quarantine::{Quarantined, quarantined};
pub use reclaim::Maintained;
pub use render::{Form, RenderOptions, Unstuff, render, render_meta_xml, rendered_len, unstuff};
pub use retry::{Jitter, MaxRetries, NextAttempt, Reason, RetryPolicy};
pub use spool::{Entries, Listed, ListedState, Location, QueueInfo, RecoveryProgress, Spool, SpoolStats};
pub use store::Written;

/// Whether this mistake is put in on purpose: see `.ci/planted`.
#[cfg(planted_bugs)]
pub(crate) fn planted(bug: &str) -> bool {
    std::env::var("JLOG_PLANTED_BUG").as_deref() == Ok(bug)
}

#[cfg(not(planted_bugs))]
pub(crate) const fn planted(_bug: &str) -> bool {
    false
}

/// The examples of the page run as tests.
#[cfg(doctest)]
#[doc = include_str!("../../docs/momentum-api.md")]
struct MomentumApi;
