//! How messages are printed: as text, as hex, raw, and as JSON lines.

use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::ValueEnum;
use jlog::inspect::Buffered;
use jlog::{Kind, Record, RecordId, Timestamp};
use serde::Serialize;

use crate::console::{is_unsafe, printable_json};
use crate::measure::{Clock, rfc3339, things};

/// How messages are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Id, time and message, a line each; control characters escaped
    Text,
    /// Id, time and message in hex
    Hex,
    /// The bytes of the message and a newline
    Raw,
    /// A JSON object a line
    Jsonl,
}

/// A message, of a segment or of the pre_commit buffer, where it has no id yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'a> {
    pub(crate) id: Option<RecordId>,
    pub(crate) time: Timestamp,
    pub(crate) payload: &'a [u8],
    pub(crate) doubtful: bool,
    pub(crate) kind: Kind,
}

impl<'a> From<&Record<'a>> for Message<'a> {
    fn from(record: &Record<'a>) -> Message<'a> {
        let Record { id, time, payload, doubtful, kind, .. } = *record;
        Message { id: Some(id), time, payload, doubtful, kind }
    }
}

impl<'a> From<&'a Buffered> for Message<'a> {
    fn from(buffered: &'a Buffered) -> Message<'a> {
        Message {
            id: None,
            time: buffered.time,
            payload: &buffered.payload,
            doubtful: false,
            kind: Kind::MESSAGE,
        }
    }
}

/// A message in JSON.
#[derive(Debug, Serialize)]
pub(crate) struct Json<'a> {
    pub(crate) id: Option<String>,
    pub(crate) time: String,
    pub(crate) len: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data_b64: Option<String>,
    /// Of a record that is no message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<u8>,
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) doubtful: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) buffered: bool,
}

fn is_false(flag: &bool) -> bool {
    !*flag
}

impl<'a> Message<'a> {
    pub(crate) fn json(&self) -> Json<'a> {
        let text = std::str::from_utf8(self.payload).ok();
        Json {
            id: self.id.map(|id| id.to_string()),
            time: rfc3339(self.time),
            len: self.payload.len(),
            data: text,
            data_b64: text.is_none().then(|| BASE64.encode(self.payload)),
            kind: (self.kind != Kind::MESSAGE).then_some(self.kind.number()),
            doubtful: self.doubtful,
            buffered: self.id.is_none(),
        }
    }

    /// Prints the message, and ends the line.
    pub(crate) fn print(&self, out: &mut impl Write, format: Format, clock: &Clock) -> io::Result<()> {
        match format {
            Format::Raw => out.write_all(self.payload)?,
            Format::Jsonl => {
                out.write_all(printable_json(serde_json::to_string(&self.json())?).as_bytes())?;
            }
            Format::Text => {
                self.place(out, clock)?;
                out.write_all(b"  ")?;
                escape(self.payload, out)?;
            }
            Format::Hex => {
                self.place(out, clock)?;
                write!(out, "  {}", things(self.payload.len() as u64, "byte"))?;
                hex(self.payload, out)?;
            }
        }
        out.write_all(b"\n")
    }

    fn place(&self, out: &mut impl Write, clock: &Clock) -> io::Result<()> {
        match self.id {
            Some(id) => write!(out, "{id}")?,
            None => write!(out, "{:<17}", "(buffered)")?,
        }
        write!(out, "  {}", clock.micro(self.time))?;
        if self.doubtful { out.write_all(b"  (doubtful)") } else { Ok(()) }
    }
}

/// Writes bytes as text that a terminal only shows. A backslash becomes two, so that what was escaped can be told.
pub(crate) fn escape(bytes: &[u8], out: &mut impl Write) -> io::Result<()> {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\0'..='\x7f' if c == '\\' || c.is_control() => match c {
                    '\n' => out.write_all(b"\\n")?,
                    '\r' => out.write_all(b"\\r")?,
                    '\t' => out.write_all(b"\\t")?,
                    '\\' => out.write_all(b"\\\\")?,
                    _ => write!(out, "\\x{:02x}", u32::from(c))?,
                },
                _ if is_unsafe(c) => write!(out, "{}", c.escape_unicode())?,
                _ => write!(out, "{c}")?,
            }
        }
        for byte in chunk.invalid() {
            write!(out, "\\x{byte:02x}")?;
        }
    }
    Ok(())
}

/// Writes bytes sixteen a line, each line behind a newline: offset, hex, and what is printable ASCII.
pub(crate) fn hex(bytes: &[u8], out: &mut impl Write) -> io::Result<()> {
    for (row, line) in bytes.chunks(16).enumerate() {
        write!(out, "\n  {:08x} ", row * 16)?;
        for at in 0..16 {
            let gap = if at == 8 { "  " } else { " " };
            match line.get(at) {
                Some(byte) => write!(out, "{gap}{byte:02x}")?,
                None => write!(out, "{gap}  ")?,
            }
        }
        let shown: String = line
            .iter()
            .map(|b| if b.is_ascii_graphic() || *b == b' ' { char::from(*b) } else { '.' })
            .collect();
        write!(out, "  |{shown}|")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(payload: &[u8], format: Format) -> String {
        printed_as(Kind::MESSAGE, payload, format)
    }

    fn printed_as(kind: Kind, payload: &[u8], format: Format) -> String {
        let message = Message {
            id: Some(RecordId::new(26, 3)),
            time: Timestamp::new(1_600_000_000, 5),
            payload,
            doubtful: false,
            kind,
        };
        let mut out = Vec::new();
        message.print(&mut out, format, &Clock::new(true)).unwrap();
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn what_is_no_message_says_in_json_what_kind_it_is() {
        let kind = Kind::application(16).unwrap();
        assert!(printed_as(kind, b"x", Format::Jsonl).contains(r#""data":"x","kind":16}"#));
        assert!(!printed(b"x", Format::Jsonl).contains("kind"));
    }

    #[test]
    fn text_shows_control_bytes_and_never_sends_them() {
        assert_eq!(
            printed(b"a\x1b[2J\n\\ \xff\xc2\x9b", Format::Text),
            "0000001a:00000003  2020-09-13 12:26:40.000005Z  a\\x1b[2J\\n\\\\ \\xff\\u{9b}\n"
        );
    }

    #[test]
    fn json_lines_carry_text_as_text_and_bytes_in_base64() {
        assert_eq!(
            printed("grün\n".as_bytes(), Format::Jsonl),
            "{\"id\":\"0000001a:00000003\",\"time\":\"2020-09-13T12:26:40.000005Z\",\"len\":6,\"data\":\"grün\\n\"}\n"
        );
        assert_eq!(
            printed(b"\xff\x00", Format::Jsonl),
            "{\"id\":\"0000001a:00000003\",\"time\":\"2020-09-13T12:26:40.000005Z\",\"len\":2,\"data_b64\":\"/wA=\"}\n"
        );
    }

    #[test]
    fn hex_shows_sixteen_bytes_a_line() {
        let lines = printed(b"0123456789abcdefX\n", Format::Hex);
        assert_eq!(
            lines.lines().nth(1).unwrap(),
            "  00000000  30 31 32 33 34 35 36 37  38 39 61 62 63 64 65 66  |0123456789abcdef|"
        );
        assert!(lines.lines().nth(2).unwrap().ends_with("|X.|"));
    }
}
