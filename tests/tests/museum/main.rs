//! Bugs that libjlog, other logs and other spools shipped, each as a test that this engine passes.
//!
//! `docs/museum.md` is the catalogue: what went wrong, where, and which test here or elsewhere shows that it does not
//! happen. The numbers `E..` are those of the experiments in which libjlog 2.6.0 did it.

#![allow(clippy::unwrap_used, clippy::panic)]

mod catalogue;
mod libjlog;
mod logs;
mod spools;
