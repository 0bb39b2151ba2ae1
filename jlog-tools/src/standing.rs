//! How a log stands, beside what lies in it: what it promises, how long it keeps messages, how far it is known to be on
//! the disk, and who writes to it.

use std::time::Duration;

use jlog::{Durability, Format, Log, RecordId, Retention, WhenFull};
use serde::Serialize;

use crate::exit::Failure;
use crate::holder::{self, Holder};
use crate::measure::{Units, lasting};

/// How a log stands at this moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standing {
    /// What acknowledgements promise; of a lone segment it is not known.
    pub(crate) durability: Option<Durability>,
    /// Up to here it is known to be on the disk, where somebody has told since the machine was started.
    pub(crate) durable: Option<RecordId>,
    pub(crate) retention: Retention,
    /// Who has the log to write to it alone.
    pub(crate) owner: Option<Holder>,
}

impl Standing {
    /// `lone` is for one segment file by itself, which says nothing of all this.
    pub(crate) fn of(log: &Log, lone: bool) -> Result<Standing, Failure> {
        if lone {
            return Ok(Standing::default());
        }
        let durability = Some(log.durability()?);
        if log.format() == Format::Classic {
            return Ok(Standing { durability, ..Standing::default() });
        }
        Ok(Standing {
            durability,
            durable: log.durable_id()?,
            retention: log.retention()?,
            owner: holder::of_log(log),
        })
    }
}

/// A retention in JSON: sizes in bytes, times in seconds, `null` where there is no limit.
#[derive(Debug, Serialize)]
pub(crate) struct RetentionReport {
    quota: Option<u64>,
    min_free: Option<u64>,
    when_full: &'static str,
    keep_bytes: Option<u64>,
    keep_seconds: Option<f64>,
    expire_seconds: Option<f64>,
}

impl RetentionReport {
    pub(crate) fn of(retention: &Retention) -> RetentionReport {
        RetentionReport {
            quota: retention.quota,
            min_free: retention.min_free,
            when_full: when_full(retention.when_full),
            keep_bytes: retention.keep_bytes,
            keep_seconds: retention.keep_for.map(|time| time.as_secs_f64()),
            expire_seconds: retention.expire_after.map(|time| time.as_secs_f64()),
        }
    }
}

/// As it is typed behind `--when-full`.
pub(crate) fn when_full(what: WhenFull) -> &'static str {
    match what {
        WhenFull::Error => "error",
        WhenFull::Block => "block",
        WhenFull::DropOldest => "drop-oldest",
    }
}

/// A length of time as it is typed and read: `2ms`, `1h`.
pub(crate) fn time(time: Duration) -> String {
    lasting(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
}

/// How long messages are kept, in a line; `None` where nothing but the subscribers decides.
pub(crate) fn retention_line(retention: &Retention, units: Units) -> Option<String> {
    let full = match retention.when_full {
        WhenFull::Error => "appends fail then",
        WhenFull::Block => "appends wait then",
        WhenFull::DropOldest => "the oldest segments go then, read or not",
    };
    let limited = retention.quota.is_some() || retention.min_free.is_some();
    let parts = [
        retention.quota.map(|bytes| format!("at most {}", units.size(bytes))),
        retention.min_free.map(|bytes| format!("{} stay free on the disk", units.size(bytes))),
        limited.then(|| full.to_owned()),
        retention.keep_bytes.map(|bytes| format!("what is read stays up to {}", units.size(bytes))),
        retention.keep_for.map(|limit| format!("what is read stays for {}", time(limit))),
        retention.expire_after.map(|limit| format!("what is {} old goes unread", time(limit))),
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}
