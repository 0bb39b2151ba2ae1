//! Looking at a spool: how it stands, its queues, its messages one by one. Beside its owner, without a lock or a change.

pub(super) mod check;
pub(super) mod messages;
pub(super) mod quarantine;
pub(super) mod queues;
pub(super) mod show;
pub(super) mod summary;

use std::path::Path;
use std::time::SystemTime;

use ::spool::{Finding, ListedState, MessageId, QueueKey, Spool, SpoolError, SpoolOptions, Timestamp};
use jlog::Log;
use serde::Serialize;

use crate::console::Console;
use crate::exit::Failure;
use crate::gap;
use crate::holder::{self, Holder};
use crate::measure::{lasting, rfc3339};
use crate::message;

pub(crate) use check::{Checked, check, print as print_check};
pub(crate) use messages::{Which, print_all as print_messages};
pub(crate) use queues::print_all as print_queues;
pub(crate) use summary::{Standing, print as print_summary};

/// The name of the schema of what the commands print of a spool.
pub(crate) const SCHEMA: &str = "spool-inspect/1";
/// The directories of a spool's two logs.
pub(crate) const LOGS: [&str; 2] = ["arrivals", "survivors"];
/// The directory of what was set aside.
const QUARANTINE: &str = "quarantine";
/// A log that changes while it is opened is tried again so often.
const TRIES: usize = 4;

/// Whether a directory is a spool, or was one before its file `spool` was lost.
pub(crate) fn is_one(dir: &Path) -> bool {
    LOGS.iter().all(|log| dir.join(log).is_dir())
}

/// Refuses what is no spool, for the commands that only a spool has.
pub(crate) fn require(dir: &Path) -> Result<(), Failure> {
    if is_one(dir) || !dir.exists() {
        return Ok(());
    }
    Err(Failure::Usage(format!("{} is no spool; this command is for spools", dir.display())))
}

/// Reads a spool in, to look at it.
pub(crate) fn open(dir: &Path) -> Result<Spool, Failure> {
    Ok(reopen(dir)?)
}

/// As [`open`], with the spool's own error.
fn reopen(dir: &Path) -> Result<Spool, SpoolError> {
    let mut tries = 1;
    loop {
        // What the commands read they read once.
        match SpoolOptions::new().max_resident_messages(16).open_read_only(dir) {
            // The owner has given a segment back that was about to be read.
            Err(SpoolError::Log(_) | SpoolError::Io { .. }) if tries < TRIES && is_one(dir) => tries += 1,
            outcome => return outcome,
        }
    }
}

/// The process that owns a spool now, if one does.
pub(crate) fn owner(dir: &Path) -> Option<Holder> {
    holder::of_log(&Log::open(dir.join(LOGS[0])).ok()?)
}

/// The time now, in seconds since 1970.
pub(crate) fn now() -> u32 {
    Timestamp::from(SystemTime::now()).seconds
}

/// Something about a message, a log or a file that does not add up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Remark {
    pub(crate) kind: &'static str,
    /// Something is lost, or will be: not what a repair has settled, or what does no harm.
    pub(crate) problem: bool,
    pub(crate) message: Option<String>,
    pub(crate) detail: String,
}

/// What was found while a spool was read in.
pub(crate) fn remarks(spool: &Spool) -> Result<Vec<Remark>, Failure> {
    let report = spool.wait_recovered()?;
    let mut gaps = report.findings.iter().filter_map(|finding| match finding {
        Finding::Gap { gap, .. } => Some(gap),
        _ => None,
    });
    // A message of which only changes are left was lost in a gap; once all gaps are settled, so is that.
    let settled = gaps.all(|gap| gap::is_settled(gap));
    Ok(report.findings.iter().map(|finding| remark(finding, settled)).collect())
}

fn remark(finding: &Finding, settled: bool) -> Remark {
    let (kind, problem, message) = match finding {
        Finding::Gap { gap, .. } if gap::is_settled(gap) => ("repaired", false, None),
        Finding::Gap { .. } => ("damage", true, None),
        Finding::MetadataWithoutBody { id, .. } => ("lost", !settled, Some(id)),
        Finding::BodyIncomplete { id } => ("incomplete", true, Some(id)),
        Finding::UnknownRecord { .. } => ("unknown", true, None),
        Finding::SettingsLost => ("settings", true, None),
        Finding::DuplicateId { id } => ("duplicate", true, Some(id)),
        _ => ("other", true, None),
    };
    Remark {
        kind,
        problem,
        message: message.map(|id: &MessageId| id.to_string()),
        detail: finding.to_string(),
    }
}

/// A queue as it is typed and printed: its domain alone, where that is all.
pub(crate) fn queue_name(key: &QueueKey) -> String {
    if key.binding.is_empty() && key.group.is_empty() { key.domain.clone() } else { key.to_string() }
}

/// The word for what a message is doing.
pub(crate) fn state_name(state: ListedState) -> &'static str {
    match state {
        ListedState::Delayed => "delayed",
        ListedState::Active => "active",
        ListedState::Held => "held",
        ListedState::Corrupt => "corrupt",
        ListedState::Idle => "idle",
    }
}

/// A number of seconds as it is read: `2 hours`.
pub(crate) fn seconds(seconds: u32) -> String {
    lasting(u64::from(seconds) * 1_000_000)
}

/// When a turn comes, as seen from now.
pub(crate) fn due(at: u32, now: u32) -> String {
    match at.checked_sub(now) {
        None | Some(0) => "now".to_owned(),
        Some(wait) => format!("in {}", seconds(wait)),
    }
}

/// A second in JSON.
pub(crate) fn time(second: u32) -> String {
    rfc3339(Timestamp::new(second, 0))
}

/// Bytes from a message on one line of the screen, cut where they are long. Nothing in them drives the terminal.
pub(crate) fn cell(bytes: &[u8], longest: usize) -> String {
    let mut safe = Vec::new();
    // Into memory nothing fails.
    let _ = message::escape(bytes, &mut safe);
    let safe = String::from_utf8_lossy(&safe);
    if safe.chars().count() <= longest {
        return safe.into_owned();
    }
    let cut: String = safe.chars().take(longest.saturating_sub(3)).collect();
    format!("{cut}...")
}

/// Says that a message went away while it was looked at, which is nobody's mistake.
pub(super) fn say_gone(console: &Console, id: MessageId) {
    if console.verbose {
        console.say(format!("message {id} was removed meanwhile"));
    }
}
