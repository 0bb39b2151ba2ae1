//! The command lines of the jlog engine and the spool on it: `jlog-inspect`, `jlog-repair` and `jlog`.
//!
//! The commands read arguments, call the engine, print what it answers, and end with an exit code. They know no
//! format: what a log's bytes mean, only the engine knows.
//!
//! - [`inspect`], [`repair`], [`daily`]: the three programs
//! - `options`, `exit`, `console`, `interrupt`, `progress`, `owner`: how a command starts, ends, prints and is stopped,
//!   and as whom it writes
//! - `measure`, `place`, `message`, `gap`, `report`: numbers, places, messages, what is missing of them, and
//!   inspections, as people and programs read them
//! - `standing`, `holder`: how a log stands, and who has it to write to it

#![deny(missing_docs)]

mod console;
pub mod daily;
mod exit;
mod gap;
mod holder;
pub mod inspect;
mod interrupt;
mod measure;
mod message;
mod options;
mod owner;
mod place;
mod progress;
pub mod repair;
mod report;
mod standing;
