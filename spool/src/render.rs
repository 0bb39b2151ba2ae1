//! A message's bytes as they are sent: line ends as SMTP wants them, dots stuffed, a closing dot; and the way back.
//!
//! Everything streams: a body of any size passes through a buffer of fixed size. How the reader cuts it makes no
//! difference to what is written.

use std::io::{self, BufRead, Read, Write};

use crate::context::Context;
use crate::envelope::Envelope;
use crate::id::MessageId;

/// Bytes that are read at once.
const CHUNK: usize = 16 * 1024;

/// What of a message is rendered, and in which form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RenderOptions {
    /// The header alone, up to and with the empty line that ends it (Momentum's `HEADERS_ONLY`).
    pub headers_only: bool,
    /// How its bytes are written.
    pub form: Form,
}

/// How the bytes of a message are written.
///
/// Line ends are made CRLF in all forms but the last: a CR or LF that stands alone is what servers disagree about, to
/// the point of smuggling a second message past one of them (RFC 5321, 2.3.8). A last line without an end gets one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// As after `DATA`: a dot that begins a line doubled, and a line of one dot at the end.
    #[default]
    Stuffed,
    /// The same without the line of one dot (Momentum's `OMIT_DOT`).
    StuffedWithoutDot,
    /// Without anything for dots (Momentum's `UNSTUFFED`).
    Unstuffed,
    /// The bytes as they are stored.
    Verbatim,
}

/// Where in a line the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Start,
    Inside,
    /// A CR has ended the line; an LF that follows belongs to it. Says whether that line was empty.
    AfterCr {
        empty: bool,
    },
}

/// Writes `input` to `output` as `options` say and returns how many bytes that were.
///
/// With `headers_only` it may read on past the header, by less than a buffer.
///
/// # Errors
///
/// Those of the two; an interrupted read is repeated.
pub fn render(input: &mut dyn Read, output: &mut dyn Write, options: &RenderOptions) -> io::Result<u64> {
    let mut written = 0;
    let mut lines = Lines { options: *options, place: Place::Start, done: false };
    let mut chunk = vec![0; CHUNK];
    let mut out = Vec::with_capacity(CHUNK);
    while !lines.done {
        match input.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => lines.put(&chunk[..count], &mut out),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        output.write_all(&out)?;
        written += out.len() as u64;
        out.clear();
    }
    lines.end(&mut out);
    output.write_all(&out)?;
    Ok(written + out.len() as u64)
}

/// How many bytes [`render`] would write (Momentum's `LENGTH_ONLY`).
///
/// # Errors
///
/// Those of the reader.
pub fn rendered_len(input: &mut dyn Read, options: &RenderOptions) -> io::Result<u64> {
    render(input, &mut io::sink(), options)
}

/// The state between two chunks.
struct Lines {
    options: RenderOptions,
    place: Place,
    /// The header has ended, and nothing else is wanted.
    done: bool,
}

impl Lines {
    /// Appends what `bytes` become: at most twice as many.
    fn put(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        let verbatim = self.options.form == Form::Verbatim;
        let stuffs = matches!(self.options.form, Form::Stuffed | Form::StuffedWithoutDot);
        while let (Some(&first), false) = (bytes.first(), self.done) {
            if let Place::AfterCr { empty } = self.place {
                if first == b'\n' {
                    out.extend_from_slice(if verbatim { b"\n" } else { b"" });
                    bytes = &bytes[1..];
                }
                self.next_line(empty);
                continue;
            }
            let run = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(bytes.len());
            if run > 0 {
                if stuffs && first == b'.' && self.place == Place::Start {
                    out.push(b'.');
                }
                out.extend_from_slice(&bytes[..run]);
                bytes = &bytes[run..];
                self.place = Place::Inside;
                continue;
            }
            let empty = self.place == Place::Start;
            out.extend_from_slice(if verbatim { &bytes[..1] } else { b"\r\n" });
            bytes = &bytes[1..];
            match first {
                b'\r' => self.place = Place::AfterCr { empty },
                _ => self.next_line(empty),
            }
        }
    }

    /// Goes on behind a line that has ended; an empty one ends the header.
    fn next_line(&mut self, empty: bool) {
        self.place = Place::Start;
        self.done = empty && self.options.headers_only;
    }

    /// Appends what follows the last byte.
    fn end(&mut self, out: &mut Vec<u8>) {
        if self.place == Place::Inside && self.options.form != Form::Verbatim {
            out.extend_from_slice(b"\r\n");
        }
        if self.options.form == Form::Stuffed {
            out.extend_from_slice(b".\r\n");
        }
    }
}

/// Reads what follows `DATA` as the message that was meant: without the dots that were added, up to the closing one.
///
/// Only CRLF ends a line here. A dot between bare LFs or CRs is text, so nobody can end a message with it and begin
/// another. The reader has been read up to and with the closing dot, and no further, once a read gave 0 bytes. If it
/// ends before, that is an error of kind `UnexpectedEof`: part of a message is no message.
pub fn unstuff<R: BufRead>(reader: R) -> Unstuff<R> {
    Unstuff { reader, dots: Dots::Start }
}

/// What [`unstuff`] gives.
#[derive(Debug)]
pub struct Unstuff<R> {
    reader: R,
    dots: Dots,
}

/// What was read last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dots {
    /// CRLF, or nothing.
    Start,
    /// Anything else.
    Inside,
    /// CR.
    Cr,
    /// A dot that begins a line, which is not passed on.
    Dot,
    /// That dot and CR, which is not passed on yet.
    DotCr,
    /// The closing dot and its CRLF.
    Closed,
}

impl<R> Unstuff<R> {
    /// The reader. What follows the closing dot is still in it, if the message was read to its end.
    pub fn into_inner(self) -> R {
        self.reader
    }
}

impl<R: BufRead> Read for Unstuff<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut given = 0;
        while given == 0 && !out.is_empty() && self.dots != Dots::Closed {
            let bytes = self.reader.fill_buf()?;
            if bytes.is_empty() {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "a message ends before its closing dot",
                ));
            }
            let taken;
            (taken, given) = self.dots.pass(bytes, out);
            self.reader.consume(taken);
        }
        Ok(given)
    }
}

impl Dots {
    /// Passes bytes on until these are used up, `out` is full, or the message has ended. Returns how many were taken,
    /// and how many given.
    fn pass(&mut self, bytes: &[u8], out: &mut [u8]) -> (usize, usize) {
        let (mut taken, mut given) = (0, 0);
        while taken < bytes.len() && given < out.len() && *self != Dots::Closed {
            // A state that takes nothing leaves the byte to the next one.
            let byte = bytes[taken];
            let (next, takes, gives) = match (*self, byte) {
                (Dots::Start, b'.') => (Dots::Dot, true, None),
                (Dots::Start, _) => (Dots::Inside, false, None),
                (Dots::Inside, b'\r') => (Dots::Cr, true, Some(b'\r')),
                (Dots::Inside, _) => {
                    let rest = &bytes[taken..];
                    let run = rest.iter().take(out.len() - given).take_while(|&&byte| byte != b'\r').count();
                    out[given..given + run].copy_from_slice(&rest[..run]);
                    taken += run;
                    given += run;
                    continue;
                }
                (Dots::Cr, b'\n') => (Dots::Start, true, Some(b'\n')),
                (Dots::Cr, _) => (Dots::Inside, false, None),
                (Dots::Dot, b'\r') => (Dots::DotCr, true, None),
                (Dots::Dot, _) => (Dots::Inside, false, None),
                (Dots::DotCr, b'\n') => (Dots::Closed, true, None),
                (Dots::DotCr, _) => (Dots::Cr, false, Some(b'\r')),
                (Dots::Closed, _) => break,
            };
            *self = next;
            taken += usize::from(takes);
            if let Some(byte) = gives {
                out[given] = byte;
                given += 1;
            }
        }
        (taken, given)
    }
}

/// What is known of a message besides its body, as an XML document (Momentum's `XML`).
///
/// ```xml
/// <message id="00/00-02001-C6DD1CA4" created="1254219116">
/// <mail_from>MAIL FROM:&lt;a@example.com&gt;&#13;
/// </mail_from>
/// <rcpt_to>RCPT TO:&lt;b@example.com&gt;&#13;
/// </rcpt_to>
/// <connection_context><pair><key>helo</key><value encoding="hex">FC</value></pair></connection_context>
/// <message_context></message_context>
/// </message>
/// ```
///
/// Bytes that are not text, or that XML has no character for, stand in hex and say so.
pub fn render_meta_xml(
    id: MessageId,
    envelope: &Envelope,
    connection: &Context,
    message: &Context,
) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    out.push_str(&format!("<message id=\"{id}\" created=\"{}\">\n", id.created()));
    put_element(&mut out, "mail_from", &envelope.mail_from_line());
    out.push('\n');
    if let Some(line) = envelope.rcpt_to_line() {
        put_element(&mut out, "rcpt_to", &line);
        out.push('\n');
    }
    for (name, context) in [("connection_context", connection), ("message_context", message)] {
        out.push_str(&format!("<{name}>"));
        for (key, value) in context.iter() {
            out.push_str("<pair>");
            put_element(&mut out, "key", key.as_bytes());
            put_element(&mut out, "value", value);
            out.push_str("</pair>");
        }
        out.push_str(&format!("</{name}>\n"));
    }
    out.push_str("</message>\n");
    out
}

/// Appends an element with this content.
fn put_element(out: &mut String, name: &str, content: &[u8]) {
    match std::str::from_utf8(content).ok().filter(|text| text.chars().all(is_xml)) {
        Some(text) => {
            out.push_str(&format!("<{name}>"));
            for c in text.chars() {
                match c {
                    '&' => out.push_str("&amp;"),
                    '<' => out.push_str("&lt;"),
                    '>' => out.push_str("&gt;"),
                    // A parser would read a bare one as LF.
                    '\r' => out.push_str("&#13;"),
                    c => out.push(c),
                }
            }
        }
        None => {
            out.push_str(&format!("<{name} encoding=\"hex\">"));
            content.iter().for_each(|byte| out.push_str(&format!("{byte:02X}")));
        }
    }
    out.push_str(&format!("</{name}>"));
}

/// Whether XML 1.0 has this character at all (its section 2.2), escaped or not.
fn is_xml(c: char) -> bool {
    !matches!(c, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::BufReader;

    fn rendered(input: &[u8], form: Form) -> Vec<u8> {
        rendered_part(input, form, false)
    }

    fn rendered_part(mut input: &[u8], form: Form, headers_only: bool) -> Vec<u8> {
        let mut out = Vec::new();
        let written = render(&mut input, &mut out, &RenderOptions { headers_only, form }).unwrap();
        assert_eq!(written, out.len() as u64);
        out
    }

    fn unstuffed(input: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        unstuff(input).read_to_end(&mut out)?;
        Ok(out)
    }

    /// Gives as many bytes at once as its list says, and an interruption between any two.
    struct Cut<'a> {
        bytes: &'a [u8],
        counts: std::iter::Cycle<std::slice::Iter<'a, usize>>,
        interrupted: bool,
    }

    impl<'a> Cut<'a> {
        fn new(bytes: &'a [u8], counts: &'a [usize]) -> Cut<'a> {
            Cut { bytes, counts: counts.iter().cycle(), interrupted: false }
        }
    }

    impl Read for Cut<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            self.interrupted = !self.interrupted;
            if self.interrupted {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let count = self.counts.next().copied().unwrap_or(1).clamp(1, out.len()).min(self.bytes.len());
            self.bytes.read(&mut out[..count])
        }
    }

    #[test]
    fn a_message_is_sent_with_dots_stuffed_and_one_to_close_it() {
        let stored = b"a: b\r\n\r\n.\r\n..\r\nx.y\r\n.z";
        assert_eq!(rendered(stored, Form::Stuffed), b"a: b\r\n\r\n..\r\n...\r\nx.y\r\n..z\r\n.\r\n");
        assert_eq!(rendered(stored, Form::StuffedWithoutDot), b"a: b\r\n\r\n..\r\n...\r\nx.y\r\n..z\r\n");
        assert_eq!(rendered(stored, Form::Unstuffed), b"a: b\r\n\r\n.\r\n..\r\nx.y\r\n.z\r\n");
        assert_eq!(rendered(stored, Form::Verbatim), stored);
    }

    #[test]
    fn an_empty_message_is_the_closing_dot() {
        assert_eq!(rendered(b"", Form::Stuffed), b".\r\n");
        assert_eq!(rendered(b"", Form::Unstuffed), b"");
    }

    #[test]
    fn a_cr_or_lf_that_stands_alone_becomes_crlf() {
        assert_eq!(
            rendered(b"a\nb\rc\r\nd\r\r\ne\n\rf\r", Form::Unstuffed),
            b"a\r\nb\r\nc\r\nd\r\n\r\ne\r\n\r\nf\r\n"
        );
    }

    // "Smuggling": a dot between bare line ends, which one server takes for text and the next for the end.
    #[test]
    fn no_line_end_of_a_message_closes_it_early() {
        for end in ["\r\n", "\n", "\r", "\r\r\n", "\n\r"] {
            let sent = rendered(format!("a{end}.{end}MAIL FROM:<b>{end}").as_bytes(), Form::Stuffed);
            let close = sent.windows(5).position(|window| window == b"\r\n.\r\n");
            assert_eq!(close, Some(sent.len() - 5), "{end:?}");
        }
    }

    #[test]
    fn the_header_goes_up_to_and_with_the_empty_line() {
        for (stored, header) in [
            (&b"a: b\r\n c\r\n\r\n.body"[..], &b"a: b\r\n c\r\n\r\n"[..]),
            (b"a: b\n\nbody", b"a: b\n\n"),
            (b"a: b\r\rbody", b"a: b\r\r"),
            (b"\r\nbody", b"\r\n"),
            (b"a: b\r\nno empty line", b"a: b\r\nno empty line"),
            (b"", b""),
        ] {
            assert_eq!(rendered_part(stored, Form::Verbatim, true), header);
            assert_eq!(rendered_part(stored, Form::Unstuffed, true), rendered(header, Form::Unstuffed));
            assert_eq!(rendered_part(stored, Form::Stuffed, true), rendered(header, Form::Stuffed));
        }
    }

    #[test]
    fn a_header_is_read_without_the_body_behind_it() {
        let stored = [&b"a: b\r\n\r\n"[..], &vec![b'x'; 10 * CHUNK]].concat();
        let mut input = &stored[..];
        render(&mut input, &mut io::sink(), &RenderOptions { headers_only: true, form: Form::Stuffed })
            .unwrap();
        assert_eq!(stored.len() - input.len(), CHUNK);
    }

    #[test]
    fn unstuffing_stops_behind_the_closing_dot_and_leaves_the_rest() {
        let mut message = unstuff(&b"a\r\n..b\r\n.c\r\n.\r\nQUIT\r\n"[..]);
        let mut out = Vec::new();
        message.read_to_end(&mut out).unwrap();
        assert_eq!(out, b"a\r\n.b\r\nc\r\n");
        assert_eq!(message.read(&mut [0; 8]).unwrap(), 0);
        assert_eq!(message.into_inner(), b"QUIT\r\n");
    }

    #[test]
    fn only_a_dot_between_crlfs_closes() {
        for (sent, meant) in [
            (&b"a\n.\nb\r\n.\r\n"[..], &b"a\n.\nb\r\n"[..]),
            (b"a\r.\rb\r\n.\r\n", b"a\r.\rb\r\n"),
            (b"a\r\n.\nb\r\n.\r\n", b"a\r\n\nb\r\n"),
            (b"a\r\n.\rb\r\n.\r\n", b"a\r\n\rb\r\n"),
            (b"a\n.\r\nb\r\n.\r\n", b"a\n.\r\nb\r\n"),
            (b"a\r\n.\r\r\n.\r\n", b"a\r\n\r\r\n"),
            (b"a\r\r\n.\r\n", b"a\r\r\n"),
            (b".\r\n", b""),
        ] {
            assert_eq!(unstuffed(sent).unwrap(), meant, "{}", sent.escape_ascii());
        }
    }

    #[test]
    fn a_message_without_its_closing_dot_is_an_error() {
        let sent = b"a\r\n.b\r\n.\r\n";
        for length in 0..sent.len() {
            let error = unstuffed(&sent[..length]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{length} bytes");
        }
        assert!(unstuffed(sent).is_ok());
    }

    #[test]
    fn an_error_of_the_reader_is_passed_on() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::PermissionDenied.into())
            }
        }
        let error = rendered_len(&mut Broken, &RenderOptions::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn metadata_in_xml_is_escaped_and_what_is_no_text_is_in_hex() {
        let mut envelope = Envelope::new();
        envelope.set_mail_from_line(b"MAIL FROM:<a&b@example.com> X=]]>\r\n").unwrap();
        let connection = Context::from_iter([
            ("<k>", &b"m\xfc"[..]),
            ("nul", b"\0"),
            ("tab", b"\t\"'"),
            ("\u{ffff}", b""),
        ]);
        let xml =
            render_meta_xml("00/00-02001-C6DD1CA4".parse().unwrap(), &envelope, &connection, &Context::new());
        assert_eq!(
            xml,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <message id=\"00/00-02001-C6DD1CA4\" created=\"1254219116\">\n\
             <mail_from>MAIL FROM:&lt;a&amp;b@example.com&gt; X=]]&gt;&#13;\n</mail_from>\n\
             <connection_context>\
             <pair><key>&lt;k&gt;</key><value encoding=\"hex\">6DFC</value></pair>\
             <pair><key>nul</key><value encoding=\"hex\">00</value></pair>\
             <pair><key>tab</key><value>\t\"'</value></pair>\
             <pair><key encoding=\"hex\">EFBFBF</key><value></value></pair>\
             </connection_context>\n\
             <message_context></message_context>\n\
             </message>\n"
        );
    }

    /// Bytes in which line ends and dots meet often.
    fn lines() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(
            prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), Just(b'x'), any::<u8>()],
            0..60,
        )
    }

    proptest! {
        #[test]
        fn what_was_stuffed_comes_back_with_its_line_ends_normalised(stored in lines()) {
            let meant = rendered(&stored, Form::Unstuffed);
            prop_assert_eq!(&unstuffed(&rendered(&stored, Form::Stuffed)).unwrap(), &meant);
            prop_assert_eq!(&rendered(&meant, Form::Unstuffed), &meant, "normalising twice is normalising once");
            prop_assert!(meant.is_empty() || meant.ends_with(b"\r\n"));
            let text = |bytes: &[u8]| bytes.iter().copied().filter(|b| !b"\r\n".contains(b)).collect::<Vec<u8>>();
            prop_assert_eq!(text(&meant), text(&stored));
        }

        #[test]
        fn any_cut_of_the_input_gives_the_same(
            stored in lines(),
            counts in proptest::collection::vec(1usize..5, 1..6),
            form in prop_oneof![
                Just(Form::Stuffed), Just(Form::StuffedWithoutDot), Just(Form::Unstuffed), Just(Form::Verbatim)
            ],
            headers_only: bool,
        ) {
            let options = RenderOptions { headers_only, form };
            let whole = rendered_part(&stored, form, headers_only);
            let mut out = Vec::new();
            render(&mut Cut::new(&stored, &counts), &mut out, &options).unwrap();
            prop_assert_eq!(&out, &whole);
            prop_assert_eq!(rendered_len(&mut &stored[..], &options).unwrap(), whole.len() as u64);

            let sent = rendered(&stored, Form::Stuffed);
            let mut message = unstuff(BufReader::with_capacity(counts[0], Cut::new(&sent, &counts)));
            let (mut out, mut few) = (Vec::new(), [0; 3]);
            loop {
                match message.read(&mut few) {
                    Ok(0) => break,
                    Ok(count) => out.extend_from_slice(&few[..count]),
                    Err(error) => prop_assert_eq!(error.kind(), io::ErrorKind::Interrupted),
                }
            }
            prop_assert_eq!(out, unstuffed(&sent).unwrap());
        }
    }
}
