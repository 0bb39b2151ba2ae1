//! What may be settled of a log, when it is made and later: durability, safety, retention, as they are typed.

use std::time::Duration;

use clap::{Args, ValueEnum};
use jlog::{Durability, Format, Retention, Safety, WhenFull};

use crate::exit::Failure;
use crate::measure::parse_size;
use crate::place::parse_duration;

/// The format of a log, as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FormatName {
    /// This engine's own: every byte is covered by a checksum
    Checksummed,
    /// libjlog 2.x's, for logs that C processes write or read
    Classic,
}

impl FormatName {
    pub(crate) fn format(self) -> Format {
        match self {
            FormatName::Checksummed => Format::Checksummed,
            FormatName::Classic => Format::Classic,
        }
    }
}

/// libjlog's safety levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Level {
    /// Finished segments only
    None,
    /// Also names and the metastore, when a segment is finished
    Meta,
    /// Every append and every checkpoint
    Full,
}

impl Level {
    pub(super) fn safety(self) -> Safety {
        match self {
            Level::None => Safety::Unsafe,
            Level::Meta => Safety::AlmostSafe,
            Level::Full => Safety::Safe,
        }
    }
}

/// Reads a durability: `sync`, `group:2ms`, `interval:1s`, `process`.
pub(super) fn parse_durability(text: &str) -> Result<Durability, String> {
    let wrong =
        || format!("{text:?} is no durability; there are sync, group:TIME, interval:TIME and process");
    let (word, time) = match text.split_once([':', ' ']) {
        Some((word, time)) => (word, Some(parse_duration(time.trim())?)),
        None => (text, None),
    };
    match (word, time.map(Duration::from_micros)) {
        ("sync", None) => Ok(Durability::Sync),
        ("process", None) => Ok(Durability::Process),
        ("group" | "interval", None) => Err(format!("say how long, as in {word}:20ms")),
        (_, Some(Duration::ZERO)) => Err(format!("{text:?} waits for no time at all; say sync")),
        ("group", Some(wait)) => Ok(Durability::Group(wait)),
        ("interval", Some(most)) => Ok(Durability::Interval(most)),
        _ => Err(wrong()),
    }
}

/// What may be said of a classic log's durability: it has a place for three words and for no time.
pub(super) fn require_fit(durability: Option<Durability>, format: Format) -> Result<(), Failure> {
    match durability {
        Some(Durability::Group(_) | Durability::Interval(_)) if format == Format::Classic => {
            let what = "a classic log has no place for group and interval; say sync or process, or --safety";
            Err(Failure::Usage(what.to_owned()))
        }
        _ => Ok(()),
    }
}

/// Refuses libjlog's words where they mean nothing.
pub(super) fn refuse_safety(format: Format, given: bool) -> Result<(), Failure> {
    if given && format == Format::Checksummed {
        let what = "--safety is for classic logs; a checksummed log has a --durability";
        return Err(Failure::Usage(what.to_owned()));
    }
    Ok(())
}

/// A limit that is set, or taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit<T> {
    Off,
    At(T),
}

impl<T> Limit<T> {
    fn value(self) -> Option<T> {
        match self {
            Limit::Off => None,
            Limit::At(value) => Some(value),
        }
    }
}

fn size_limit(text: &str) -> Result<Limit<u64>, String> {
    if text == "off" { Ok(Limit::Off) } else { parse_size(text).map(Limit::At) }
}

fn time_limit(text: &str) -> Result<Limit<Duration>, String> {
    match text {
        "off" => Ok(Limit::Off),
        _ => parse_duration(text).map(|micros| Limit::At(Duration::from_micros(micros))),
    }
}

/// What happens when a log is full, as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Full {
    /// The append fails
    Error,
    /// The append waits until subscribers have moved on
    Block,
    /// The oldest segments go, read or not; subscribers that had not read them are told
    DropOldest,
}

/// How long messages are kept, beside what subscribers ask for.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Retention, of checksummed logs (`off` takes a limit away)")]
pub(super) struct Keeping {
    /// The most bytes the log's segments may have; looked at when a new one is made
    #[arg(long, value_name = "SIZE", value_parser = size_limit)]
    quota: Option<Limit<u64>>,
    /// The bytes that must stay free on its file system
    #[arg(long, value_name = "SIZE", value_parser = size_limit)]
    min_free: Option<Limit<u64>>,
    /// What happens when one of these is reached [default: error]
    #[arg(long, value_name = "WHAT")]
    when_full: Option<Full>,
    /// What all have read stays until the log has more bytes than this
    #[arg(long, value_name = "SIZE", value_parser = size_limit)]
    keep_bytes: Option<Limit<u64>>,
    /// What all have read stays until it is so much older than the newest message (90s, 15m, "7 days")
    #[arg(long, value_name = "TIME", value_parser = time_limit)]
    keep_for: Option<Limit<Duration>>,
    /// What is so much older than the newest message goes, whoever has not read it; who comes back is told
    #[arg(long, value_name = "TIME", value_parser = time_limit)]
    expire_after: Option<Limit<Duration>>,
}

impl Keeping {
    pub(super) fn is_given(&self) -> bool {
        self.quota.is_some()
            || self.min_free.is_some()
            || self.when_full.is_some()
            || self.keep_bytes.is_some()
            || self.keep_for.is_some()
            || self.expire_after.is_some()
    }

    /// What becomes of `now`, if it makes sense.
    pub(super) fn applied_to(&self, now: Retention, segment_size: u32) -> Result<Retention, Failure> {
        let then = Retention {
            quota: self.quota.map_or(now.quota, Limit::value),
            min_free: self.min_free.map_or(now.min_free, Limit::value),
            when_full: match self.when_full {
                None => now.when_full,
                Some(Full::Error) => WhenFull::Error,
                Some(Full::Block) => WhenFull::Block,
                Some(Full::DropOldest) => WhenFull::DropOldest,
            },
            keep_bytes: self.keep_bytes.map_or(now.keep_bytes, Limit::value),
            keep_for: self.keep_for.map_or(now.keep_for, Limit::value),
            expire_after: self.expire_after.map_or(now.expire_after, Limit::value),
        };
        let wrong = |what: &str| Err(Failure::Usage(what.to_owned()));
        if self.when_full.is_some() && then.quota.is_none() && then.min_free.is_none() {
            return wrong("--when-full is for a log that can be full: give a --quota or --min-free");
        }
        // The active segment never goes, and the next one needs its whole room.
        if self.quota.is_some() && then.quota.is_some_and(|quota| quota <= 2 * u64::from(segment_size)) {
            return wrong("a quota has to be more than two segments; give more, or make segments smaller");
        }
        if then.quota.zip(then.keep_bytes).is_some_and(|(quota, keep)| keep > quota) {
            return wrong("--keep-bytes is more than the quota, so the log would be full of what is read");
        }
        if then.expire_after == Some(Duration::ZERO) {
            return wrong("--expire-after 0 would keep nothing unread; `off` takes the limit away");
        }
        Ok(then)
    }

    /// Refuses a retention where there is no place for one.
    pub(super) fn refuse(&self, format: Format) -> Result<(), Failure> {
        if self.is_given() && format == Format::Classic {
            let what =
                "a classic log has no place for a retention; it keeps what its subscribers have not read";
            return Err(Failure::Usage(what.to_owned()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_durability_is_read_as_it_is_typed_and_as_it_is_printed() {
        for (text, durability) in [
            ("sync", Durability::Sync),
            ("process", Durability::Process),
            ("group:2ms", Durability::Group(Duration::from_millis(2))),
            ("interval:1s", Durability::Interval(Duration::from_secs(1))),
        ] {
            assert_eq!(parse_durability(text), Ok(durability));
            assert_eq!(parse_durability(&durability.to_string()), Ok(durability), "as it is printed");
        }
        for text in ["", "fsync", "group", "interval", "group:", "group:soon", "interval:0s", "sync:1s"] {
            assert!(parse_durability(text).is_err(), "{text:?} was taken for a durability");
        }
    }
}
