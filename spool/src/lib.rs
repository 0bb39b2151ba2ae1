//! The message spool: messages held durably between "accepted" and "delivered".
//!
//! Nothing is here yet. The spool stands on the log engine's public API (`jlog`) and is built after it; this
//! crate exists so that the workspace has its final shape.

#![deny(missing_docs)]

mod context;
mod decode;
mod envelope;
mod id;
mod retry;

pub use context::{Context, ContextFilter};
pub use decode::DecodeError;
pub use envelope::{Address, AddressError, Envelope, EnvelopeEnd};
pub use id::{IdGenerator, MessageId, ParseIdError, SpoolName, ThreadId, Window, node_name};
pub use retry::{Jitter, MaxRetries, NextAttempt, Reason, RetryPolicy};
