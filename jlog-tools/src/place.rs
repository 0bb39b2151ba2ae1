//! WHERE: a place in a log as people name it, by id, by time, or from one of its ends.

use jiff::{SpanRelativeTo, Timestamp as Moment, Zoned, civil};
use jlog::{Cursor, Log, Marker, RecordId, SegmentId, Timestamp};

use crate::exit::Failure;
use crate::interrupt;

/// A place in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Where {
    /// The oldest message.
    Begin,
    /// So many messages before the end; 0 is behind the newest.
    FromEnd(u64),
    /// A message.
    Id(RecordId),
    /// Microseconds since 1970.
    Time(u64),
}

/// What may be typed for a place, for error messages and help.
pub(crate) const FORMS: &str =
    "0000001a:00000003, begin, end, end-100, 2026-11-22T10:00, \"2 hours ago\", -15m";

/// Reads a place as it is typed.
pub(crate) fn parse(text: &str) -> Result<Where, String> {
    parse_at(text, &Zoned::now())
}

fn parse_at(text: &str, now: &Zoned) -> Result<Where, String> {
    match text {
        "begin" => return Ok(Where::Begin),
        "end" => return Ok(Where::FromEnd(0)),
        _ => {}
    }
    if let Some(n) = text.strip_prefix("end-") {
        return n.parse().map(Where::FromEnd).map_err(|_| no_place(text));
    }
    if let Ok(id) = text.parse() {
        return Ok(Where::Id(id));
    }
    // With an offset first: a civil time would silently drop it.
    if let Ok(moment) = text.parse::<Moment>() {
        return micros(moment).map(Where::Time);
    }
    if let Ok(local) = text.parse::<civil::DateTime>() {
        let zoned = local.to_zoned(now.time_zone().clone()).map_err(|error| format!("{text:?}: {error}"))?;
        return micros(zoned.timestamp()).map(Where::Time);
    }
    let span = text.parse::<jiff::Span>().map_err(|_| no_place(text))?;
    if !span.is_negative() {
        return Err(format!("{text:?} lies in the future; say \"{text} ago\" or -{text}"));
    }
    let moment = now.checked_add(span).map_err(|error| format!("{text:?}: {error}"))?;
    micros(moment.timestamp()).map(Where::Time)
}

fn no_place(text: &str) -> String {
    format!("{text:?} is no place in a log; places are {FORMS}")
}

/// Times before 1970 come before every message.
fn micros(moment: Moment) -> Result<u64, String> {
    Ok(u64::try_from(moment.as_microsecond()).unwrap_or(0))
}

/// Microseconds since 1970 as a record's time; what is later than a record can be is the latest.
pub(crate) fn timestamp(micros: u64) -> Timestamp {
    match u32::try_from(micros / 1_000_000) {
        Ok(seconds) => Timestamp::new(seconds, (micros % 1_000_000) as u32),
        Err(_) => Timestamp::new(u32::MAX, 999_999),
    }
}

/// How long something may last, as it is typed: `15m`, `2h30m`, `1 day`. In microseconds.
pub(crate) fn parse_duration(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no duration; durations are 90s, 15m, 2h30m, \"1 day\"");
    let span = text.parse::<jiff::Span>().map_err(|_| wrong())?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    u64::try_from(duration.as_micros()).map_err(|_| wrong())
}

/// A range of messages, from and to WHERE, both included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Range {
    /// Nothing is in it.
    pub(crate) empty: bool,
    /// Messages behind this one.
    pub(crate) after: RecordId,
    /// Messages up to this one.
    pub(crate) last: Option<RecordId>,
    /// Messages of this time or later, in microseconds since 1970.
    pub(crate) not_before: Option<u64>,
    /// Messages of this time or earlier.
    pub(crate) not_after: Option<u64>,
}

impl Range {
    /// What lies between two places of a log.
    pub(crate) fn of(log: &Log, from: Option<Where>, to: Option<Where>) -> Result<Range, Failure> {
        let first = log.first_id()?;
        let mut range = Range { after: first, ..Range::default() };
        match from {
            None | Some(Where::Begin) => {}
            Some(Where::Time(time)) => range.not_before = Some(time),
            Some(Where::Id(id)) => {
                range.empty = id > log.last_id()?;
                range.after = before(id).max(first);
            }
            Some(Where::FromEnd(n)) => match nth_from_end(log, n)? {
                Nth::At(id) => range.after = before(id),
                Nth::BehindAll => range.empty = true,
                Nth::BeforeAll => {}
            },
        }
        match to {
            None | Some(Where::FromEnd(0)) => {}
            Some(Where::Begin) => range.last = Some(first),
            Some(Where::Time(time)) => range.not_after = Some(time),
            Some(Where::Id(id)) => range.last = Some(id),
            Some(Where::FromEnd(n)) => match nth_from_end(log, n.saturating_add(1))? {
                Nth::At(id) => range.last = Some(id),
                Nth::BehindAll => {}
                Nth::BeforeAll => range.empty = true,
            },
        }
        Ok(range)
    }

    /// A cursor at its beginning.
    pub(crate) fn cursor(&self, log: &Log) -> Result<Cursor, Failure> {
        match self.not_before {
            Some(time) => Ok(log.cursor_from(timestamp(time))?),
            None => Ok(log.cursor_after(self.after)),
        }
    }

    /// Whether a message of this time, in microseconds, is in it.
    pub(crate) fn has_time(&self, time: u64) -> bool {
        self.not_before.is_none_or(|from| time >= from) && self.not_after.is_none_or(|to| time <= to)
    }
}

/// The place right before a message.
pub(crate) fn before(id: RecordId) -> RecordId {
    RecordId { marker: Marker(id.marker.0.saturating_sub(1)), ..id }
}

enum Nth {
    At(RecordId),
    BehindAll,
    BeforeAll,
}

/// The n-th message from the end; segments are read from the last one backwards.
fn nth_from_end(log: &Log, n: u64) -> Result<Nth, Failure> {
    if n == 0 {
        return Ok(Nth::BehindAll);
    }
    let mut missing = n;
    for segment in log.segments()?.into_iter().rev() {
        let ids = ids_of(log, segment)?;
        let there = ids.len() as u64;
        if there < missing {
            missing -= there;
            continue;
        }
        let at = usize::try_from(there - missing).unwrap_or(0);
        return Ok(ids.get(at).map_or(Nth::BeforeAll, |id| Nth::At(*id)));
    }
    Ok(Nth::BeforeAll)
}

fn ids_of(log: &Log, segment: SegmentId) -> Result<Vec<RecordId>, Failure> {
    let mut cursor: Cursor = log.cursor_after(RecordId { segment, marker: Marker(0) });
    cursor.on_damage(jlog::OnDamage::Skip);
    let mut ids = Vec::new();
    while let Some(record) = cursor.next_record()? {
        interrupt::check()?;
        if record.id.segment != segment {
            break;
        }
        ids.push(record.id);
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Zoned {
        // An hour east of UTC, whatever the machine's own zone is.
        let moment: Moment = "2026-11-22T11:00:00Z".parse().unwrap();
        moment.to_zoned(jiff::tz::TimeZone::fixed(jiff::tz::offset(1)))
    }

    fn at(text: &str) -> u64 {
        u64::try_from(text.parse::<Moment>().unwrap().as_microsecond()).unwrap()
    }

    #[test]
    fn a_place_is_an_id_an_end_or_a_time() {
        for (text, place) in [
            ("begin", Where::Begin),
            ("end", Where::FromEnd(0)),
            ("end-100", Where::FromEnd(100)),
            ("0000001a:00000003", Where::Id(RecordId::new(26, 3))),
            ("2026-11-22T10:00:00Z", Where::Time(at("2026-11-22T10:00:00Z"))),
            ("2026-11-22T10:00:00.5+02:00", Where::Time(at("2026-11-22T08:00:00.5Z"))),
            ("2026-11-22T10:00", Where::Time(at("2026-11-22T09:00:00Z"))),
            ("2026-11-22 10:00", Where::Time(at("2026-11-22T09:00:00Z"))),
            ("2026-11-22", Where::Time(at("2026-11-21T23:00:00Z"))),
            ("2 hours ago", Where::Time(at("2026-11-22T09:00:00Z"))),
            ("-15m", Where::Time(at("2026-11-22T10:45:00Z"))),
            ("1 day ago", Where::Time(at("2026-11-21T11:00:00Z"))),
        ] {
            assert_eq!(parse_at(text, &now()), Ok(place), "{text}");
        }
    }

    #[test]
    fn what_is_no_place_is_refused_with_the_forms_there_are() {
        for text in ["", "middle", "end-", "end-x", "0:1:2:3", "yesterday-ish", "2026-13-01"] {
            assert!(parse_at(text, &now()).unwrap_err().contains("end-100"), "{text:?}");
        }
        assert!(parse_at("15m", &now()).unwrap_err().contains("15m ago"));
    }

    #[test]
    fn durations_are_read_as_they_are_typed() {
        assert_eq!(parse_duration("15m"), Ok(900_000_000));
        assert_eq!(parse_duration("1 day"), Ok(86_400_000_000));
        assert!(parse_duration("-15m").is_err());
        assert!(parse_duration("soon").is_err());
    }
}
