//! The MIME structure of a message: a tree of its parts, where each lies, and what its header calls it.
//!
//! What a field of the header says is read by `mail-parser`; the walk is ours, because its depth and its work must be
//! bounded for any message. A part is looked for in the bytes of its parent only.

use std::ops::Range;

use mail_parser::parsers::MessageStream;
use mail_parser::{ContentType, HeaderValue};

use super::{header_end, headers};

/// How deep parts are looked for, the message itself being at depth 0.
pub const MAX_DEPTH: usize = 32;

/// How many parts of a message are looked for, the message itself included.
pub const MAX_PARTS: usize = 1000;

/// As much of a field as is looked at, in bytes unfolded.
const MAX_FIELD: usize = 8 * 1024;

/// A message, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its type in lower case, `text/plain`: what its header says, or what MIME presumes without that.
    pub content_type: String,
    /// Its disposition in lower case, such as `attachment` or `inline`, if it has one.
    pub disposition: Option<String>,
    /// The name it has as a file, decoded. It may be any text: it is no path to be trusted.
    pub name: Option<String>,
    /// Where its header lies in the message, without the empty line that ends it, in bytes.
    pub header: Range<usize>,
    /// Where its content lies in the message, still encoded for transfer, in bytes.
    pub body: Range<usize>,
    /// The parts of a `multipart`, or the one message in a `message/rfc822` that is not encoded.
    pub children: Vec<Part>,
    /// Whether there may be parts in it that were not looked for, because of [`MAX_DEPTH`] or [`MAX_PARTS`].
    pub cut_off: bool,
}

impl Part {
    /// The size of its content as it is stored, in bytes.
    pub fn size(&self) -> usize {
        self.body.len()
    }
}

/// The tree of parts of a message. Any bytes have one: what is no MIME is one part, `text/plain`.
///
/// The work is at most a few passes over the message for each of [`MAX_DEPTH`] levels, the memory what [`MAX_PARTS`]
/// parts and their names take.
pub fn structure(message: &[u8]) -> Part {
    Walk { message, parts_left: MAX_PARTS - 1 }.part(0..message.len(), 0, "text/plain")
}

struct Walk<'a> {
    message: &'a [u8],
    parts_left: usize,
}

impl Walk<'_> {
    /// The part that lies at `range`, of the type `presumed` unless its header says another.
    fn part(&mut self, range: Range<usize>, depth: usize, presumed: &str) -> Part {
        let bytes = &self.message[range.clone()];
        let empty_line = header_end(bytes);
        let fields = Fields::of(bytes);
        let mut part = Part {
            content_type: fields.content_type().unwrap_or_else(|| presumed.to_owned()),
            disposition: fields.disposition.as_ref().map(|field| field.ctype().to_ascii_lowercase()),
            name: fields.name(),
            header: range.start..range.start + empty_line.start,
            body: range.start + empty_line.end..range.end,
            children: Vec::new(),
            cut_off: false,
        };

        let (kind, subtype) = part.content_type.split_once('/').unwrap_or((&part.content_type, ""));
        let presumed =
            if (kind, subtype) == ("multipart", "digest") { "message/rfc822" } else { "text/plain" };
        let contents = match (kind, subtype, fields.boundary()) {
            ("multipart", _, Some(boundary)) => self.between(boundary, &part.body),
            ("message", "rfc822" | "global", _) if !fields.is_encoded() => vec![part.body.clone()],
            _ => Vec::new(),
        };
        for content in contents {
            if depth == MAX_DEPTH || self.parts_left == 0 {
                part.cut_off = true;
                break;
            }
            self.parts_left -= 1;
            part.children.push(self.part(content, depth + 1, presumed));
        }
        part
    }

    /// What lies between the lines of a boundary, up to one more than may still be looked at. The line end before such
    /// a line belongs to it. Without a last line, the last part goes up to the end.
    fn between(&self, boundary: &str, range: &Range<usize>) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        let mut start = None;
        let mut at = range.start;
        for line in self.message[range.clone()].split_inclusive(|&byte| byte == b'\n') {
            if let Some(after) =
                line.strip_prefix(b"--").and_then(|rest| rest.strip_prefix(boundary.as_bytes()))
            {
                let after = after.trim_ascii_end();
                if matches!(after, b"" | b"--") {
                    found.extend(start.map(|start| start..self.without_line_end(start, at)));
                    start = after.is_empty().then_some(at + line.len());
                    if after == b"--" || found.len() > self.parts_left {
                        return found;
                    }
                }
            }
            at += line.len();
        }
        found.extend(start.map(|start| start..at));
        found
    }

    /// Where the content that begins at `start` and is followed by a boundary's line at `end` ends.
    fn without_line_end(&self, start: usize, end: usize) -> usize {
        let content = &self.message[start..end];
        let content = content.strip_suffix(b"\n").unwrap_or(content);
        let content = content.strip_suffix(b"\r").unwrap_or(content);
        start + content.len()
    }
}

/// The fields of a part's header that its place in the tree depends on: the first of each name.
#[derive(Default)]
struct Fields {
    content_type: Option<ContentType<'static>>,
    disposition: Option<ContentType<'static>>,
    encoding: Option<Vec<u8>>,
}

impl Fields {
    fn of(part: &[u8]) -> Fields {
        let mut fields = Fields::default();
        for (name, value) in headers(part) {
            let value = &value[..value.len().min(MAX_FIELD)];
            if name.eq_ignore_ascii_case("content-type") && fields.content_type.is_none() {
                fields.content_type = parsed(value);
            } else if name.eq_ignore_ascii_case("content-disposition") && fields.disposition.is_none() {
                fields.disposition = parsed(value);
            } else if name.eq_ignore_ascii_case("content-transfer-encoding") && fields.encoding.is_none() {
                fields.encoding = Some(value.to_ascii_lowercase());
            }
        }
        fields
    }

    fn content_type(&self) -> Option<String> {
        let field = self.content_type.as_ref()?;
        Some(format!("{}/{}", field.ctype(), field.subtype()?).to_ascii_lowercase())
    }

    fn boundary(&self) -> Option<&str> {
        self.content_type
            .as_ref()?
            .attribute("boundary")
            .map(str::trim_end)
            .filter(|boundary| !boundary.is_empty())
    }

    fn name(&self) -> Option<String> {
        let filename = self.disposition.as_ref().and_then(|field| field.attribute("filename"));
        let name = || self.content_type.as_ref().and_then(|field| field.attribute("name"));
        filename.or_else(name).map(str::to_owned)
    }

    /// Whether the content must be decoded to be read, which is not done here.
    fn is_encoded(&self) -> bool {
        !matches!(self.encoding.as_deref(), None | Some(b"" | b"7bit" | b"8bit" | b"binary"))
    }
}

/// What the value of a Content-Type or Content-Disposition says.
fn parsed(value: &[u8]) -> Option<ContentType<'static>> {
    let line = [value, b"\r\n"].concat();
    match MessageStream::new(&line).parse_content_type().into_owned() {
        HeaderValue::ContentType(field) => Some(field),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The types of a tree: `multipart/mixed(text/plain text/html)`.
    fn types(part: &Part) -> String {
        let children: Vec<String> = part.children.iter().map(types).collect();
        if children.is_empty() {
            part.content_type.clone()
        } else {
            format!("{}({})", part.content_type, children.join(" "))
        }
    }

    fn body<'a>(message: &'a [u8], part: &Part) -> &'a str {
        std::str::from_utf8(&message[part.body.clone()]).unwrap()
    }

    const MIXED: &[u8] = b"From: a@example.com\r\n\
        Content-Type: Multipart/Mixed;\r\n boundary=\"b 1\"\r\n\
        \r\n\
        preamble\r\n\
        --b 1\r\n\
        \r\n\
        no header\r\n\
        \r\n\
        --b 1  \r\n\
        Content-Type: multipart/alternative; boundary=b\r\n\
        \r\n\
        --b\r\n\
        Content-Type: text/html; charset=utf-8\r\n\
        \r\n\
        <p>\r\n\
        --b--\r\n\
        --b 1\r\n\
        Content-Type: application/pdf; name=other\r\n\
        Content-Disposition: ATTACHMENT; filename*=utf-8''m%C3%BCller.pdf\r\n\
        Content-Transfer-Encoding: base64\r\n\
        \r\n\
        AAAA\r\n\
        --b 1--\r\n\
        epilogue\r\n\
        --b 1\r\n";

    #[test]
    fn a_tree_has_types_names_and_places() {
        let tree = structure(MIXED);
        assert_eq!(
            types(&tree),
            "multipart/mixed(text/plain multipart/alternative(text/html) application/pdf)"
        );
        let [plain, alternative, pdf] = &tree.children[..] else { panic!("three parts") };
        assert_eq!((body(MIXED, plain), plain.size(), plain.header.len()), ("no header\r\n", 11, 0));
        assert_eq!(body(MIXED, &alternative.children[0]), "<p>");
        assert_eq!(
            (pdf.disposition.as_deref(), pdf.name.as_deref()),
            (Some("attachment"), Some("m\u{fc}ller.pdf"))
        );
        assert_eq!(body(MIXED, pdf), "AAAA");
        assert!(MIXED[pdf.header.clone()].starts_with(b"Content-Type: application/pdf"));
        assert!(MIXED[pdf.header.clone()].ends_with(b"base64\r\n"));
        assert!(body(MIXED, &tree).starts_with("preamble") && tree.body.end == MIXED.len());
    }

    #[test]
    fn bare_line_ends_give_the_same_tree() {
        let bare: Vec<u8> = MIXED.iter().copied().filter(|&byte| byte != b'\r').collect();
        let tree = structure(&bare);
        assert_eq!(types(&tree), types(&structure(MIXED)));
        assert_eq!((body(&bare, &tree.children[0]), body(&bare, &tree.children[2])), ("no header\n", "AAAA"));
    }

    #[test]
    fn what_is_no_mime_is_one_text() {
        for (message, size) in
            [(&b""[..], 0), (b"Subject: x\r\n\r\nhello", 5), (b"Content-Type: ;;;\r\n\r\nx", 1)]
        {
            let tree = structure(message);
            assert_eq!((types(&tree).as_str(), tree.size()), ("text/plain", size));
        }
    }

    #[test]
    fn a_multipart_without_its_boundary_has_no_parts() {
        for message in [
            &b"Content-Type: multipart/mixed\r\n\r\n--\r\n\r\nx\r\n"[..],
            b"Content-Type: multipart/mixed; boundary=\"\"\r\n\r\n--\r\n\r\nx\r\n",
            b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--c\r\n\r\nx\r\n",
            b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b--\r\n--b\r\n\r\nx",
        ] {
            assert_eq!(types(&structure(message)), "multipart/mixed");
        }
    }

    #[test]
    fn a_part_that_is_not_closed_goes_up_to_the_end() {
        let message =
            b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\none\r\n--b\r\n\r\ntwo\r\n";
        let tree = structure(message);
        assert_eq!((body(message, &tree.children[0]), body(message, &tree.children[1])), ("one", "two\r\n"));
    }

    #[test]
    fn a_message_in_a_message_is_looked_into_unless_it_is_encoded() {
        let inner = "Content-Type: text/html\r\n\r\n<p>";
        let forward = format!("Content-Type: message/rfc822\r\n\r\n{inner}");
        assert_eq!(types(&structure(forward.as_bytes())), "message/rfc822(text/html)");
        let encoded = format!("Content-Transfer-Encoding: base64\r\n{forward}");
        assert_eq!(types(&structure(encoded.as_bytes())), "message/rfc822");
        let digest =
            format!("Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\n{inner}\r\n--b--\r\n");
        assert_eq!(types(&structure(digest.as_bytes())), "multipart/digest(message/rfc822(text/html))");
    }

    // Ten thousand messages in one another: a parser that goes down to the last overflows the stack.
    #[test]
    fn depth_is_bounded_and_says_that_it_was_cut_off() {
        let message = "Content-Type: message/rfc822\r\n\r\n".repeat(10_000);
        let tree = structure(message.as_bytes());
        let mut deepest = (&tree, 0);
        while let [child] = &deepest.0.children[..] {
            assert!(!deepest.0.cut_off);
            deepest = (child, deepest.1 + 1);
        }
        assert_eq!((deepest.1, deepest.0.cut_off), (MAX_DEPTH, true));
        let fits = structure("Content-Type: message/rfc822\r\n\r\n".repeat(MAX_DEPTH).as_bytes());
        assert!(!types(&fits).is_empty() && !format!("{fits:?}").contains("cut_off: true"));
    }

    #[test]
    fn the_number_of_parts_is_bounded_and_says_that_it_was_cut_off() {
        let message = |parts: usize| {
            format!("Content-Type: multipart/mixed; boundary=b\n\n{}--b--\n", "--b\n\nx\n".repeat(parts))
        };
        let fits = structure(message(MAX_PARTS - 1).as_bytes());
        assert_eq!((fits.children.len(), fits.cut_off), (MAX_PARTS - 1, false));
        let more = structure(message(MAX_PARTS).as_bytes());
        assert_eq!((more.children.len(), more.cut_off), (MAX_PARTS - 1, true));
    }

    fn check(part: &Part, within: &Range<usize>) {
        assert!(
            within.start <= part.header.start
                && part.header.end <= part.body.start
                && part.body.end <= within.end
        );
        assert!(part.header.start <= part.header.end && part.body.start <= part.body.end);
        part.children.iter().for_each(|child| check(child, &part.body));
    }

    const LINES: [&[u8]; 11] = [
        b"Content-Type: multipart/mixed; boundary=b\r\n",
        b"Content-Type: multipart/digest; boundary=\"b c\"\n",
        b"Content-Type: message/rfc822\r\n",
        b"Content-Disposition: inline; filename*0*=utf-8''%; filename*1=\"\\\"x\r\n",
        b"--b\r\n",
        b"--b--\r\n",
        b"--b c\n",
        b"\r\n",
        b"\n",
        b"text",
        b"\xff;=",
    ];

    proptest! {
        #[test]
        fn any_lines_give_a_tree_whose_parts_lie_in_their_parents(
            lines in proptest::collection::vec(proptest::sample::select(&LINES[..]), 0..40)
        ) {
            let message = lines.concat();
            check(&structure(&message), &(0..message.len()));
        }

        #[test]
        fn any_value_of_a_field_is_read(value: Vec<u8>, attribute in "[ ;=\"'*%a-z0-9\\\\()<>?/\u{f6}-]{0,80}") {
            let lines = [&b"Content-Type: "[..], &value, b"\r\nContent-Disposition: x; ", attribute.as_bytes(), b"\r\n\r\n"];
            let message = lines.concat();
            check(&structure(&message), &(0..message.len()));
        }
    }
}
