//! Looking into a message: which parts of it are asked for, its header's fields, and its MIME structure.
//!
//! Nothing is looked at that was not asked for: the fields come one by one from the bytes of the header, and the
//! structure (with the feature `mime`) from boundaries and the header of each part, without decoding a body.

use std::borrow::Cow;
use std::ops::{BitOr, Range};

#[cfg(feature = "mime")]
mod structure;

#[cfg(feature = "mime")]
pub use structure::{MAX_DEPTH, MAX_PARTS, Part, structure};

/// Which parts of a message are wanted: `Parts::HEADERS | Parts::BODY`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Parts(u8);

impl Parts {
    /// None.
    pub const NONE: Parts = Parts(0);
    /// The fields of the header.
    pub const HEADERS: Parts = Parts(1);
    /// The tree of MIME parts, without their contents.
    pub const STRUCTURE: Parts = Parts(2);
    /// All bytes.
    pub const BODY: Parts = Parts(4);
    /// Everything.
    pub const ALL: Parts = Parts(7);

    /// Whether all of `parts` are among these.
    pub fn contains(self, parts: Parts) -> bool {
        self.0 & parts.0 == parts.0
    }

    /// Whether none is.
    pub fn is_empty(self) -> bool {
        self == Parts::NONE
    }

    /// These and `parts`.
    pub fn with(self, parts: Parts) -> Parts {
        Parts(self.0 | parts.0)
    }

    /// These without `parts`.
    pub fn without(self, parts: Parts) -> Parts {
        Parts(self.0 & !parts.0)
    }
}

impl BitOr for Parts {
    type Output = Parts;

    fn bitor(self, parts: Parts) -> Parts {
        self.with(parts)
    }
}

/// The fields of a message's header, in order: each name as it stands there, and its value.
///
/// The value is unfolded (the line ends in it are gone) and has no white space around it; nothing in it is decoded. It
/// is borrowed if it was not folded. What is no field, such as a `From ` line of an mbox, is passed over. The header
/// ends at an empty line, or with the bytes: a body need not be there.
pub fn headers(message: &[u8]) -> impl Iterator<Item = (&str, Cow<'_, [u8]>)> {
    let mut rest = &message[..header_end(message).start];
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let (field, after) = rest.split_at(field_length(rest));
            rest = after;
            if let Some(found) = name_and_value(field) {
                return Some(found);
            }
        }
        None
    })
}

/// The bytes of the empty line that ends the header; the body begins where it ends. Nothing at the end without one.
fn header_end(message: &[u8]) -> Range<usize> {
    let mut at = 0;
    for line in message.split_inclusive(|&byte| byte == b'\n') {
        if matches!(line, b"\n" | b"\r\n") {
            return at..at + line.len();
        }
        at += line.len();
    }
    at..at
}

/// The length of a field that these bytes begin with: its line, and those after it that begin with white space.
fn field_length(bytes: &[u8]) -> usize {
    let mut lines = bytes.split_inclusive(|&byte| byte == b'\n');
    let first = lines.next().map_or(0, <[u8]>::len);
    first + lines.take_while(|line| matches!(line[0], b' ' | b'\t')).map(<[u8]>::len).sum::<usize>()
}

fn name_and_value(field: &[u8]) -> Option<(&str, Cow<'_, [u8]>)> {
    let colon = field.iter().position(|&byte| byte == b':')?;
    let name = field[..colon].trim_ascii_end();
    if name.is_empty() || !name.iter().all(u8::is_ascii_graphic) {
        return None;
    }
    let value = field[colon + 1..].trim_ascii();
    Some((std::str::from_utf8(name).ok()?, unfolded(value)))
}

/// The value without the line ends in it.
fn unfolded(value: &[u8]) -> Cow<'_, [u8]> {
    if !value.contains(&b'\n') {
        return Cow::Borrowed(value);
    }
    let mut joined = Vec::with_capacity(value.len());
    for line in value.split(|&byte| byte == b'\n') {
        joined.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
    }
    Cow::Owned(joined)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fields(message: &[u8]) -> Vec<(&str, String)> {
        headers(message).map(|(name, value)| (name, value.escape_ascii().to_string())).collect()
    }

    #[test]
    fn parts_are_a_set() {
        let parts = Parts::HEADERS | Parts::BODY;
        assert!(
            parts.contains(Parts::BODY) && !parts.contains(Parts::STRUCTURE) && !parts.contains(Parts::ALL)
        );
        assert!(parts.contains(Parts::NONE) && parts.without(parts).is_empty());
        assert_eq!(parts | Parts::STRUCTURE, Parts::ALL);
    }

    #[test]
    fn fields_come_in_order_unfolded_and_as_they_are_otherwise() {
        let message = b"Received: one\r\nSubject:  =?utf-8?q?x?=\r\n\t two\r\n  three \r\nreceived:\xff\r\nEmpty:\r\n\r\nNo: field\r\n";
        let expected = [
            ("Received", "one"),
            ("Subject", "=?utf-8?q?x?=\\t two  three"),
            ("received", "\\xff"),
            ("Empty", ""),
        ];
        assert_eq!(fields(message), expected.map(|(name, value)| (name, value.to_owned())));
        let bare: Vec<u8> = message.iter().copied().filter(|&byte| byte != b'\r').collect();
        assert_eq!(fields(&bare), fields(message));
    }

    #[test]
    fn a_value_that_is_not_folded_is_not_copied() {
        assert!(headers(b"a: b\r\n\r\n").all(|(_, value)| matches!(value, Cow::Borrowed(b"b"))));
    }

    #[test]
    fn what_is_no_field_is_passed_over_with_its_continuation() {
        let message = b"From a@b Mon Jan 1\n x: y\nno colon\n: no name\na b: c\n\xff: d\ne : f\n";
        assert_eq!(fields(message), [("e", "f".to_owned())]);
    }

    #[test]
    fn a_header_ends_at_the_first_empty_line() {
        for (message, end) in [
            (&b"a: b\r\n\r\nbody\r\n\r\n"[..], 6..8),
            (b"a: b\n\nbody", 5..6),
            (b"\r\nbody", 0..2),
            (b"a: b\r\n", 6..6),
            (b"a: b", 4..4),
            (b"", 0..0),
            (b"a: b\r\n \r\nc: d\r\n\r\n", 15..17),
        ] {
            assert_eq!(header_end(message), end);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_header(message in proptest::collection::vec(prop_oneof![
            Just(b'\r'), Just(b'\n'), Just(b':'), Just(b' '), Just(b'a'), any::<u8>()], 0..60)
        ) {
            let end = header_end(&message);
            prop_assert!(end.start <= end.end && end.end <= message.len());
            for (name, value) in headers(&message) {
                prop_assert!(!name.is_empty() && !value.contains(&b'\n'));
            }
        }
    }
}
