//! The three programs as their users run them: as processes, on golden logs and on new ones.

#![allow(clippy::unwrap_used, clippy::panic)]

mod checksummed;
mod common;
mod daily;
mod docs;
mod hostile;
mod inspect;
mod repair;
mod spool;
