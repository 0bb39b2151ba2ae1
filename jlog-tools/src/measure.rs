//! Numbers as people read them: counts, sizes, times, and how long something lasted.

use std::time::Duration;

use clap::ValueEnum;
use indicatif::{BinaryBytes, DecimalBytes, HumanCount, HumanDuration};
use jiff::tz::TimeZone;
use jlog::Timestamp;

/// How sizes are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Units {
    /// KiB, MiB: powers of 1024
    #[default]
    Iec,
    /// kB, MB: powers of 1000
    Si,
    /// Plain bytes
    Bytes,
}

impl Units {
    /// A size: `4.06 MiB`.
    pub(crate) fn size(self, bytes: u64) -> String {
        match self {
            Units::Iec => BinaryBytes(bytes).to_string(),
            Units::Si => DecimalBytes(bytes).to_string(),
            Units::Bytes => format!("{} B", count(bytes)),
        }
    }
}

/// A count: `11,375`.
pub(crate) fn count(n: u64) -> String {
    HumanCount(n).to_string()
}

/// So many of something: `1 message`, `2,000 messages`.
pub(crate) fn things(n: u64, thing: &str) -> String {
    format!("{} {thing}{}", count(n), if n == 1 { "" } else { "s" })
}

/// How long something lasted: `38 minutes`.
pub(crate) fn lasting(micros: u64) -> String {
    if micros > 0 && micros < 1_000_000 {
        return format!("{} ms", micros.div_ceil(1000));
    }
    HumanDuration(Duration::from_micros(micros)).to_string()
}

/// A record's time as jiff's. Both 32-bit numbers at their largest are in the year 2106.
fn moment(time: Timestamp) -> jiff::Timestamp {
    let micros = i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_microsecond(micros).unwrap_or(jiff::Timestamp::MAX)
}

/// A record's time in JSON: RFC 3339, microseconds, UTC.
pub(crate) fn rfc3339(time: Timestamp) -> String {
    format!("{:.6}", moment(time))
}

/// The time of day, in one time zone.
#[derive(Debug, Clone)]
pub(crate) struct Clock(TimeZone);

impl Clock {
    pub(crate) fn new(utc: bool) -> Clock {
        Clock(if utc { TimeZone::UTC } else { TimeZone::system() })
    }

    /// To the second: `2026-11-18 11:08:47Z`.
    pub(crate) fn second(&self, time: Timestamp) -> String {
        self.format(time, "%Y-%m-%d %H:%M:%S")
    }

    /// To the microsecond.
    pub(crate) fn micro(&self, time: Timestamp) -> String {
        self.format(time, "%Y-%m-%d %H:%M:%S%.6f")
    }

    fn format(&self, time: Timestamp, format: &str) -> String {
        let zoned = moment(time).to_zoned(self.0.clone());
        if zoned.offset().is_zero() {
            return format!("{}Z", zoned.strftime(format));
        }
        format!("{}{}", zoned.strftime(format), zoned.strftime("%:z"))
    }
}

/// A size as it is typed: `4096`, `4MiB`, `64k`, `1 GB`.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no size: give bytes, or KiB, MiB, GiB (1024), kB, MB, GB (1000)");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(factor).ok_or_else(wrong)
}

/// As [`parse_size`], for sizes that the format holds in 32 bits.
pub(crate) fn parse_size_32(text: &str) -> Result<u32, String> {
    u32::try_from(parse_size(text)?)
        .map_err(|_| format!("{text} is too large: the most is 4 GiB less 1 byte"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_they_are_typed() {
        for (text, size) in
            [("0", 0), ("4096", 4096), ("4MiB", 4 << 20), ("64k", 65536), ("1 GB", 1_000_000_000)]
        {
            assert_eq!(parse_size(text), Ok(size), "{text}");
        }
        for text in ["", "MiB", "-1", "1.5M", "1 XB", "99999999999GiB"] {
            assert!(parse_size(text).is_err(), "{text:?} was taken for a size");
        }
    }

    #[test]
    fn times_of_records_have_six_digits_behind_the_second_and_carry_over() {
        assert_eq!(rfc3339(Timestamp::new(1_600_000_000, 7)), "2020-09-13T12:26:40.000007Z");
        assert_eq!(rfc3339(Timestamp::new(0, 1_500_000)), "1970-01-01T00:00:01.500000Z");
        assert_eq!(rfc3339(Timestamp::new(u32::MAX, u32::MAX)), "2106-02-07T07:39:49.967295Z");
        assert_eq!(Clock::new(true).second(Timestamp::new(0, 0)), "1970-01-01 00:00:00Z");
    }

    #[test]
    fn one_is_not_many() {
        assert_eq!(things(1, "message"), "1 message");
        assert_eq!(things(12_000, "message"), "12,000 messages");
    }
}
