//! The message spool: messages held durably between "accepted" and "delivered".
//!
//! Nothing is here yet but its parts. The spool stands on the log engine's public API (`jlog`) and is built after it.

#![deny(missing_docs)]

mod context;
mod decode;
mod envelope;
mod id;
#[allow(dead_code, reason = "the store that uses it is not here yet")]
mod index;
pub mod mailbox;
mod mime;
mod pool;
mod render;
mod retry;

pub use context::{Context, ContextFilter};
pub use decode::DecodeError;
pub use envelope::{Address, AddressError, Envelope, EnvelopeEnd};
pub use id::{IdGenerator, MessageId, ParseIdError, SpoolName, ThreadId, Window, node_name};
pub use index::QueueKey;
#[cfg(feature = "mime")]
pub use mime::{MAX_DEPTH, MAX_PARTS, Part, structure};
pub use mime::{Parts, headers};
pub use pool::{Completion, Drain, Full, JobEnded, Pool, PoolOptions, PoolStats};
pub use render::{Form, RenderOptions, Unstuff, render, render_meta_xml, rendered_len, unstuff};
pub use retry::{Jitter, MaxRetries, NextAttempt, Reason, RetryPolicy};
