//! The names of places in a log: segment numbers, markers, record ids, times.

use std::fmt;
use std::str::FromStr;

/// The number of a segment. Its file is named by eight lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SegmentId(pub u32);

impl SegmentId {
    /// The number after this one, or `None` after `ffffffff`.
    ///
    /// libjlog wraps to 0 there, after which its readers stop for ever (classic-format, quirk 22). This engine refuses.
    pub fn next(self) -> Option<SegmentId> {
        self.0.checked_add(1).map(SegmentId)
    }

    /// The number a file name stands for, if it is exactly eight lower-case hex digits.
    pub fn from_file_name(name: &[u8]) -> Option<SegmentId> {
        if name.len() != 8 || !name.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        let digits = std::str::from_utf8(name).ok()?;
        u32::from_str_radix(digits, 16).ok().map(SegmentId)
    }
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// The position of a record in its segment, counted from 1. As a checkpoint, 0 means "none of this segment yet".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Marker(pub u32);

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// The id of a record, and the value of a checkpoint: printed `0000000a:0000002f`, as libjlog's tools print it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RecordId {
    /// The segment the record lies in.
    pub segment: SegmentId,
    /// Its position there, from 1.
    pub marker: Marker,
}

impl RecordId {
    /// The id of the `marker`-th record of segment `segment`.
    pub fn new(segment: u32, marker: u32) -> RecordId {
        RecordId { segment: SegmentId(segment), marker: Marker(marker) }
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.segment, self.marker)
    }
}

/// A text that is not of the form `0000000a:0000002f`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotARecordId(pub String);

impl fmt::Display for NotARecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is no record id: an id is two hex numbers of at most 8 digits, as in 0000000a:0000002f",
            self.0
        )
    }
}

impl std::error::Error for NotARecordId {}

impl FromStr for RecordId {
    type Err = NotARecordId;

    fn from_str(text: &str) -> Result<RecordId, NotARecordId> {
        let number = |part: &str| {
            let hex = (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_hexdigit());
            if hex { u32::from_str_radix(part, 16).ok() } else { None }
        };
        let parts =
            text.split_once(':').and_then(|(segment, marker)| Some((number(segment)?, number(marker)?)));
        let (segment, marker) = parts.ok_or_else(|| NotARecordId(text.to_owned()))?;
        Ok(RecordId::new(segment, marker))
    }
}

/// The time a record carries: seconds and microseconds since 1970 as the writer gave them.
///
/// libjlog neither checks nor normalises the microseconds, and so they may exceed 999,999 in a log it wrote; both
/// numbers are kept as found. The classic format holds 32 bits of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub seconds: u32,
    /// Microseconds on top of them.
    pub micros: u32,
}

impl Timestamp {
    /// The time that is `seconds` and `micros` after 1970.
    pub fn new(seconds: u32, micros: u32) -> Timestamp {
        Timestamp { seconds, micros }
    }

    /// The whole in microseconds since 1970.
    pub fn as_micros(self) -> u64 {
        u64::from(self.seconds) * 1_000_000 + u64::from(self.micros)
    }
}

impl From<std::time::SystemTime> for Timestamp {
    /// Times before 1970 become 0, times after 2106 the last second that 32 bits can hold.
    fn from(time: std::time::SystemTime) -> Timestamp {
        let since = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        match u32::try_from(since.as_secs()) {
            Ok(seconds) => Timestamp { seconds, micros: since.subsec_micros() },
            Err(_) => Timestamp { seconds: u32::MAX, micros: 999_999 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_it_prints() {
        let id = RecordId::new(0x1a, 3);
        assert_eq!(id.to_string(), "0000001a:00000003");
        assert_eq!("0000001a:00000003".parse(), Ok(id));
        assert_eq!("1a:3".parse(), Ok(id));
    }

    #[test]
    fn a_text_that_is_no_id_is_refused() {
        for text in ["", ":", "1", "1:", ":1", "g:1", "1:1:1", "000000001:1", "+1:1", "0x1:1", " 1:1"] {
            assert!(text.parse::<RecordId>().is_err(), "{text:?} was taken for an id");
        }
    }

    #[test]
    fn only_eight_lower_case_hex_digits_name_a_segment() {
        assert_eq!(SegmentId::from_file_name(b"0000001f"), Some(SegmentId(31)));
        for name in [&b"0000001F"[..], b"000001f", b"00000001f", b"fallback", b"00000000.idx", b""] {
            assert_eq!(SegmentId::from_file_name(name), None);
        }
    }
}
