//! The message spool: messages held durably between "accepted" and "delivered".

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
mod options;
mod pool;
mod quarantine;
mod reclaim;
mod record;
mod render;
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
pub use reclaim::Maintained;
pub use render::{Form, RenderOptions, Unstuff, render, render_meta_xml, rendered_len, unstuff};
pub use retry::{Jitter, MaxRetries, NextAttempt, Reason, RetryPolicy};
pub use spool::{Entries, Listed, ListedState, Location, QueueInfo, RecoveryProgress, Spool, SpoolStats};
pub use store::Written;
