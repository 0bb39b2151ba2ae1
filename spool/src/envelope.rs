//! Who sent a message and who is to get it: addresses, and the protocol lines that brought them.
//!
//! A line is kept as it came, because it says more than its address: `MAIL FROM:<a@example.com> BODY=8BITMIME SIZE=17`.
//! Its address is read out of it each time that it is decoded, so the two cannot disagree.
//!
//! On disk, first the sender, then the recipient, each: a byte that says what follows (0 nothing, 1 an address, 2 a
//! line), then local part and domain, or the line, as length-prefixed fields.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::decode::{DecodeError, Input};
use crate::wire::put_sized;

/// An address as SMTP knows it, undecorated: `"john smith"@example.com` has the local part `john smith`.
///
/// Kept as given: no case is folded, no UTF-8 changed to anything else, and dots in odd places are left alone, since
/// mail is sent to such addresses. What could not be written on one line again is refused: control characters, and
/// in a domain also spaces and the characters that delimit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    local: String,
    domain: String,
}

impl Address {
    /// The longest local part, in bytes as written: with quotes if it needs them (RFC 5321, 4.5.3.1.1).
    pub const MAX_LOCAL: usize = 64;
    /// The longest domain, in bytes (RFC 5321, 4.5.3.1.2).
    pub const MAX_DOMAIN: usize = 255;
    /// The longest address, in bytes as written: a path of 256 without its angle brackets (RFC 5321, 4.5.3.1.3).
    pub const MAX: usize = 254;

    /// The address of a local part without quotes and a domain. An empty domain means this host, as in `postmaster`.
    ///
    /// # Errors
    ///
    /// When a part has characters that cannot be written in an address, or is too long, or both are empty.
    pub fn new(local: impl Into<String>, domain: impl Into<String>) -> Result<Address, AddressError> {
        let address = Address { local: local.into(), domain: domain.into() };
        match address.objection() {
            None => Ok(address),
            Some(why) => Err(AddressError::new(address.to_string().as_bytes(), why)),
        }
    }

    /// The part before the `@`, without quotes.
    pub fn local(&self) -> &str {
        &self.local
    }

    /// The part after the `@`; empty if there is none.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    fn objection(&self) -> Option<&'static str> {
        let Address { local, domain } = self;
        let written = Written(local).to_string().len();
        if local.is_empty() && domain.is_empty() {
            return Some("an address has a local part");
        }
        if local.chars().any(char::is_control) {
            return Some("a local part has no control characters");
        }
        if !domain.is_empty() && !is_domain(domain) {
            return Some("this is no domain");
        }
        if written > Address::MAX_LOCAL {
            return Some("a local part has at most 64 bytes");
        }
        if domain.len() > Address::MAX_DOMAIN {
            return Some("a domain has at most 255 bytes");
        }
        (written + 1 + domain.len() > Address::MAX).then_some("an address has at most 254 bytes")
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.domain.as_str() {
            "" => write!(f, "{}", Written(&self.local)),
            domain => write!(f, "{}@{domain}", Written(&self.local)),
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        let refuse = |why| AddressError::new(text.as_bytes(), why);
        let (local, rest) = match text.strip_prefix('"') {
            Some(quoted) => unquote(quoted).ok_or_else(|| refuse("a quoted local part ends with a quote"))?,
            None => {
                let (local, rest) = text.split_at(text.find('@').unwrap_or(text.len()));
                if local.is_empty() || local.contains(needs_quotes) {
                    return Err(refuse("this local part needs quotes"));
                }
                (local.to_owned(), rest)
            }
        };
        match rest.strip_prefix('@') {
            None if rest.is_empty() => Address::new(local, ""),
            None => Err(refuse("a quoted local part ends before the @")),
            Some("") => Err(refuse("there is no domain after the @")),
            Some(domain) => Address::new(local, domain),
        }
    }
}

/// A local part as it is written: in quotes if it needs them.
struct Written<'a>(&'a str);

impl fmt::Display for Written<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.is_empty() && !self.0.contains(needs_quotes) {
            return f.write_str(self.0);
        }
        f.write_str("\"")?;
        for c in self.0.chars() {
            if matches!(c, '"' | '\\') {
                f.write_str("\\")?;
            }
            write!(f, "{c}")?;
        }
        f.write_str("\"")
    }
}

/// The text up to the closing quote, without its backslashes, and what follows the quote.
fn unquote(quoted: &str) -> Option<(String, &str)> {
    let mut local = String::new();
    let mut chars = quoted.chars();
    loop {
        match chars.next()? {
            '"' => return Some((local, chars.as_str())),
            '\\' => local.push(chars.next()?),
            c => local.push(c),
        }
    }
}

fn needs_quotes(c: char) -> bool {
    c.is_whitespace() || c.is_control() || "()<>[]:;@\\,\"".contains(c)
}

/// Whether this can stand after an `@`: a name, or an address literal in square brackets.
fn is_domain(text: &str) -> bool {
    let literal = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match literal {
        Some(inside) => !inside.is_empty() && !inside.contains(|c| c != ':' && needs_quotes(c)),
        None => !text.contains(needs_quotes),
    }
}

/// Which address of an envelope: Momentum's `EC_MSG_ENV_FROM` and `EC_MSG_ENV_TO`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EnvelopeEnd {
    /// Who sent the message.
    Sender,
    /// Who is to get it.
    Recipient,
}

/// The sender and the recipient of one message, and the SMTP lines they came in, if they came in lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Envelope {
    sender: End,
    recipient: End,
}

/// One end. If there is a line, then `address` is the one in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct End {
    address: Option<Address>,
    line: Option<Arc<[u8]>>,
}

impl Envelope {
    /// The longest line that is kept, in bytes: 512 (RFC 5321, 4.5.3.1.4) and ample room for what extensions add.
    pub const MAX_LINE: usize = 4096;

    /// An envelope from the null sender to nobody.
    pub fn new() -> Envelope {
        Envelope::default()
    }

    /// The sender; `None` is the null sender, `<>`, of bounces.
    pub fn sender(&self) -> Option<&Address> {
        self.sender.address.as_ref()
    }

    /// The recipient; `None` until there is one.
    pub fn recipient(&self) -> Option<&Address> {
        self.recipient.address.as_ref()
    }

    /// Makes `sender` the sender, `None` the null one. A line with another address is dropped, its parameters with it.
    pub fn set_sender(&mut self, sender: Option<Address>) {
        self.sender.set(sender);
    }

    /// Makes `recipient` the recipient. A line with another address is dropped, its parameters with it.
    pub fn set_recipient(&mut self, recipient: Option<Address>) {
        self.recipient.set(recipient);
    }

    /// Takes the sender from a whole line, `MAIL FROM:<a@example.com> SIZE=17\r\n`, and keeps the line as it is.
    ///
    /// # Errors
    ///
    /// When the line is not understood; then nothing has changed. It must end in the only CRLF it has, hold its
    /// address in angle brackets, and be at most [`MAX_LINE`](Self::MAX_LINE) bytes long.
    pub fn set_mail_from_line(&mut self, line: &[u8]) -> Result<(), AddressError> {
        self.sender = End::of_line(EnvelopeEnd::Sender, line)?;
        Ok(())
    }

    /// Takes the recipient from a whole line, `RCPT TO:<b@example.com> NOTIFY=NEVER\r\n`, and keeps the line as it is.
    ///
    /// # Errors
    ///
    /// As for [`set_mail_from_line`](Self::set_mail_from_line), and for `<>`, which is nobody.
    pub fn set_rcpt_to_line(&mut self, line: &[u8]) -> Result<(), AddressError> {
        self.recipient = End::of_line(EnvelopeEnd::Recipient, line)?;
        Ok(())
    }

    /// The line the sender came in, or one without parameters made of the address. With CRLF.
    pub fn mail_from_line(&self) -> Cow<'_, [u8]> {
        match &self.sender.line {
            Some(line) => Cow::Borrowed(line),
            None => {
                Cow::Owned(format!("MAIL FROM:<{}>\r\n", self.complete(EnvelopeEnd::Sender)).into_bytes())
            }
        }
    }

    /// The line the recipient came in, or one without parameters made of the address. With CRLF. `None` without a
    /// recipient.
    pub fn rcpt_to_line(&self) -> Option<Cow<'_, [u8]>> {
        match (&self.recipient.line, self.recipient()) {
            (Some(line), _) => Some(Cow::Borrowed(line)),
            (None, Some(address)) => Some(Cow::Owned(format!("RCPT TO:<{address}>\r\n").into_bytes())),
            (None, None) => None,
        }
    }

    /// The whole address of one end without brackets or keyword, as Momentum's `EC_MSG_ENV_COMPLETE` asks for it: empty
    /// for the null sender and for no recipient.
    pub fn complete(&self, end: EnvelopeEnd) -> String {
        let address = match end {
            EnvelopeEnd::Sender => self.sender(),
            EnvelopeEnd::Recipient => self.recipient(),
        };
        address.map(Address::to_string).unwrap_or_default()
    }

    /// Appends the envelope as bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.sender.encode(out);
        self.recipient.encode(out);
    }

    /// The envelope that [`encode`](Self::encode) made these bytes of.
    ///
    /// # Errors
    ///
    /// When the bytes are fewer or more than they say, or an address or a line among them is not one.
    pub fn decode(bytes: &[u8]) -> Result<Envelope, DecodeError> {
        let mut input = Input::new(bytes);
        let sender = End::decode(EnvelopeEnd::Sender, &mut input)?;
        let recipient = End::decode(EnvelopeEnd::Recipient, &mut input)?;
        input.end()?;
        Ok(Envelope { sender, recipient })
    }
}

const NOTHING: u8 = 0;
const ADDRESS: u8 = 1;
const LINE: u8 = 2;

impl End {
    fn set(&mut self, address: Option<Address>) {
        if self.address != address {
            *self = End { address, line: None };
        }
    }

    fn of_line(end: EnvelopeEnd, line: &[u8]) -> Result<End, AddressError> {
        let address = address_in(end, line).map_err(|why| AddressError::new(line, why))?;
        Ok(End { address, line: Some(Arc::from(line)) })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match (&self.line, &self.address) {
            (Some(line), _) => {
                out.push(LINE);
                put_sized(out, line);
            }
            (None, Some(address)) => {
                out.push(ADDRESS);
                put_sized(out, address.local.as_bytes());
                put_sized(out, address.domain.as_bytes());
            }
            (None, None) => out.push(NOTHING),
        }
    }

    fn decode(end: EnvelopeEnd, input: &mut Input<'_>) -> Result<End, DecodeError> {
        let no_address = input.refuse("an address that is none");
        let no_line = input.refuse("an envelope line that is none");
        let no_tag = input.refuse("neither an address nor a line");
        match input.u8()? {
            NOTHING => Ok(End::default()),
            ADDRESS => {
                let (local, domain) = (input.text()?, input.text()?);
                let address = Address::new(local, domain).map_err(|_| no_address)?;
                Ok(End { address: Some(address), line: None })
            }
            LINE => End::of_line(end, input.field()?).map_err(|_| no_line),
            _ => Err(no_tag),
        }
    }
}

/// The address in an SMTP line; `None` for `<>`.
fn address_in(end: EnvelopeEnd, line: &[u8]) -> Result<Option<Address>, &'static str> {
    let keyword = match end {
        EnvelopeEnd::Sender => &b"MAIL FROM:"[..],
        EnvelopeEnd::Recipient => &b"RCPT TO:"[..],
    };
    if line.len() > Envelope::MAX_LINE {
        return Err("an envelope line has at most 4096 bytes");
    }
    let line = line.strip_suffix(b"\r\n").ok_or("an envelope line ends in CRLF")?;
    if line.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
        return Err("an envelope line is one line");
    }
    let (start, rest) = line.split_at_checked(keyword.len()).ok_or("the keyword is missing")?;
    if !start.eq_ignore_ascii_case(keyword) {
        return Err("the keyword is missing");
    }
    let path = rest.trim_ascii_start().strip_prefix(b"<").ok_or("there is no address in angle brackets")?;
    let close = closing_bracket(path).ok_or("there is no address in angle brackets")?;
    if !matches!(path.get(close + 1), None | Some(b' ')) {
        return Err("the address is not followed by a space");
    }
    let path = std::str::from_utf8(&path[..close]).map_err(|_| "the address is not UTF-8")?;
    match (without_route(path), end) {
        ("", EnvelopeEnd::Sender) => Ok(None),
        ("", EnvelopeEnd::Recipient) => Err("a recipient is somebody"),
        (address, _) => address.parse().map(Some).map_err(|error: AddressError| error.why),
    }
}

/// Where the `>` is that ends this path: not one in a quoted local part.
fn closing_bracket(path: &[u8]) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    path.iter().position(|&byte| {
        let closes = byte == b'>' && !quoted;
        quoted ^= byte == b'"' && !escaped;
        escaped = byte == b'\\' && quoted && !escaped;
        closes
    })
}

/// The path without the hosts of a source route, `@one,@two:`, which RFC 5321 (4.1.1.3) says to accept and ignore.
fn without_route(path: &str) -> &str {
    match (path.starts_with('@'), path.split_once(':')) {
        (true, Some((_, address))) => address,
        _ => path,
    }
}

/// A text that is no address, or no line of an envelope, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressError {
    /// The beginning of the text.
    text: String,
    why: &'static str,
}

impl AddressError {
    /// As much of a refused text as an error quotes, in bytes.
    const QUOTED: usize = 80;

    fn new(text: &[u8], why: &'static str) -> AddressError {
        AddressError { text: text[..text.len().min(AddressError::QUOTED)].escape_ascii().to_string(), why }
    }
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" is refused: {}", self.text, self.why)
    }
}

impl std::error::Error for AddressError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    fn bytes_of(envelope: &Envelope) -> Vec<u8> {
        let mut bytes = Vec::new();
        envelope.encode(&mut bytes);
        bytes
    }

    #[test]
    fn an_address_has_a_local_part_and_a_domain() {
        for (text, local, domain) in [
            ("a@example.com", "a", "example.com"),
            ("postmaster", "postmaster", ""),
            ("a+b=c@[192.0.2.1]", "a+b=c", "[192.0.2.1]"),
            ("a@[IPv6:2001:db8::1]", "a", "[IPv6:2001:db8::1]"),
            ("j\u{f6}rg@b\u{fc}cher.example", "j\u{f6}rg", "b\u{fc}cher.example"),
            (".odd..dots.@example.com", ".odd..dots.", "example.com"),
            (r#""john smith"@example.com"#, "john smith", "example.com"),
            (r#""a@b\"c\\d"@example.com"#, r#"a@b"c\d"#, "example.com"),
            (r#"""@example.com"#, "", "example.com"),
        ] {
            let parsed = address(text);
            assert_eq!((parsed.local(), parsed.domain()), (local, domain));
            assert_eq!(parsed.to_string(), text);
        }
    }

    #[test]
    fn quotes_that_are_not_needed_are_not_written_again() {
        assert_eq!(address(r#""a\b"@example.com"#).to_string(), "ab@example.com");
    }

    #[test]
    fn a_neighbour_of_an_address_is_refused() {
        for text in [
            "",
            "@",
            "a@",
            "@b",
            "a@b@c",
            "a b@c",
            "a@b c",
            "a@b\n",
            "a\u{0}@b",
            "a@b\u{85}",
            "<a@b>",
            "a@[",
            "a@[]",
            "a@[b]c",
            "a@]",
            "a@b:c",
            r#""a@b"#,
            r#""a"b@c"#,
            r#""a\"#,
            r#""a"b"#,
            "\"a\r\nb\"@c",
            r#""""#,
            "a,b@c",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn lengths_end_where_rfc_5321_ends_them() {
        let text = |local: usize, domain: usize| format!("{}@{}", "l".repeat(local), "d".repeat(domain));
        assert!(text(64, 189).parse::<Address>().is_ok());
        assert!(text(65, 1).parse::<Address>().is_err());
        assert!(text(64, 190).parse::<Address>().is_err());
        assert!(text(1, 252).parse::<Address>().is_ok());
        assert!(text(1, 256).parse::<Address>().is_err());
        // Quotes and backslashes count: 62 characters with quotes are 64 bytes, and one more is too many.
        assert!(Address::new(" ".repeat(62), "d").is_ok());
        assert!(Address::new(" ".repeat(63), "d").is_err());
        assert!(Address::new("\"".repeat(32), "d").is_err());
        assert!(Address::new("\u{f6}".repeat(33), "d").is_err());
    }

    #[test]
    fn a_line_is_kept_as_it_came_and_gives_its_address() {
        let mut envelope = Envelope::new();
        for (line, sender) in [
            (&b"MAIL FROM:<a@example.com> SIZE=17 BODY=8BITMIME\r\n"[..], Some("a@example.com")),
            (b"mail from: <a@example.com>\r\n", Some("a@example.com")),
            (b"MAIL FROM:<>\r\n", None),
            (b"MAIL FROM:<> X=\xff\r\n", None),
            (b"MAIL FROM:<@one,@two:a@example.com>\r\n", Some("a@example.com")),
            (b"MAIL FROM:<\"a>\\\">b\"@example.com>\r\n", Some(r#""a>\">b"@example.com"#)),
            ("MAIL FROM:<j\u{f6}rg@example.com> SMTPUTF8\r\n".as_bytes(), Some("j\u{f6}rg@example.com")),
        ] {
            envelope.set_mail_from_line(line).unwrap();
            assert_eq!(envelope.sender(), sender.map(address).as_ref());
            assert_eq!(&*envelope.mail_from_line(), line);
        }
        envelope.set_rcpt_to_line(b"RCPT TO:<Postmaster> NOTIFY=NEVER\r\n").unwrap();
        assert_eq!(envelope.complete(EnvelopeEnd::Recipient), "Postmaster");
        assert_eq!(envelope.rcpt_to_line().as_deref(), Some(&b"RCPT TO:<Postmaster> NOTIFY=NEVER\r\n"[..]));
    }

    #[test]
    fn a_line_that_is_not_understood_changes_nothing() {
        let mut envelope = Envelope::new();
        envelope.set_sender(Some(address("a@example.com")));
        envelope.set_recipient(Some(address("b@example.com")));
        let before = envelope.clone();
        let long = [&b"MAIL FROM:<a@b> X="[..], &[b'x'; Envelope::MAX_LINE], b"\r\n"].concat();
        for line in [
            &b""[..],
            b"\r\n",
            b"MAIL FROM:<c@d>",
            b"MAIL FROM:<c@d>\n",
            b"MAIL FROM:<c@d>\r\nRCPT TO:<e@f>\r\n",
            b"MAIL FROM:<c@d\r\n",
            b"MAIL FROM:c@d\r\n",
            b"MAIL FROM:<c@d>SIZE=1\r\n",
            b"MAIL FROM:<c d>\r\n",
            b"MAIL FROM:<\xff@d>\r\n",
            b"MAIL FROM:<\"c>\r\n",
            b"MAIL TO:<c@d>\r\n",
            b"RCPT TO:<>\r\n",
            &long,
        ] {
            assert!(envelope.set_mail_from_line(line).is_err(), "{}", line.escape_ascii());
            assert!(envelope.set_rcpt_to_line(line).is_err(), "{}", line.escape_ascii());
        }
        assert_eq!(envelope, before);
    }

    #[test]
    fn a_line_is_made_where_none_was_given() {
        let mut envelope = Envelope::new();
        assert_eq!(&*envelope.mail_from_line(), b"MAIL FROM:<>\r\n");
        assert_eq!(envelope.rcpt_to_line(), None);
        envelope.set_sender(Some(address("\"a b\"@example.com")));
        envelope.set_recipient(Some(address("postmaster")));
        assert_eq!(&*envelope.mail_from_line(), b"MAIL FROM:<\"a b\"@example.com>\r\n");
        assert_eq!(envelope.rcpt_to_line().as_deref(), Some(&b"RCPT TO:<postmaster>\r\n"[..]));
    }

    #[test]
    fn the_complete_address_is_without_decoration_and_empty_for_the_null_sender() {
        let mut envelope = Envelope::new();
        envelope.set_mail_from_line(b"MAIL FROM:<test@example.com> SIZE=1\r\n").unwrap();
        assert_eq!(envelope.complete(EnvelopeEnd::Sender), "test@example.com");
        envelope.set_sender(None);
        assert_eq!(envelope.complete(EnvelopeEnd::Sender), "");
        assert_eq!(envelope.complete(EnvelopeEnd::Recipient), "");
    }

    #[test]
    fn another_address_drops_the_line_and_the_same_one_keeps_it() {
        let mut envelope = Envelope::new();
        envelope.set_mail_from_line(b"MAIL FROM:<a@example.com> SIZE=1\r\n").unwrap();
        envelope.set_sender(Some(address("a@example.com")));
        assert_eq!(&*envelope.mail_from_line(), b"MAIL FROM:<a@example.com> SIZE=1\r\n");
        envelope.set_sender(Some(address("b@example.com")));
        assert_eq!(&*envelope.mail_from_line(), b"MAIL FROM:<b@example.com>\r\n");
    }

    #[test]
    fn every_kind_of_envelope_round_trips_and_no_part_of_its_bytes_is_one() {
        let ends: [&dyn Fn(&mut Envelope); 5] = [
            &|_| (),
            &|envelope| envelope.set_sender(Some(address("a@example.com"))),
            &|envelope| envelope.set_mail_from_line(b"MAIL FROM:<> RET=HDRS\r\n").unwrap(),
            &|envelope| envelope.set_recipient(Some(address("postmaster"))),
            &|envelope| envelope.set_rcpt_to_line(b"RCPT TO:<b@example.com> X=\xff\r\n").unwrap(),
        ];
        for first in ends {
            for second in ends {
                let mut envelope = Envelope::new();
                first(&mut envelope);
                second(&mut envelope);
                let mut bytes = bytes_of(&envelope);
                assert_eq!(Envelope::decode(&bytes).as_ref(), Ok(&envelope));
                for length in 0..bytes.len() {
                    assert!(Envelope::decode(&bytes[..length]).is_err());
                }
                bytes.push(0);
                assert!(Envelope::decode(&bytes).is_err());
            }
        }
    }

    #[test]
    fn bytes_that_hold_no_address_or_line_are_refused_by_place() {
        assert_eq!(
            Envelope::decode(&[3, 0]).unwrap_err().to_string(),
            "neither an address nor a line at byte 0"
        );
        let with_newline = [&[0, 1, 1, 0, 0, 0][..], b"\n", &[0, 0, 0, 0]].concat();
        assert_eq!(
            Envelope::decode(&with_newline).unwrap_err().to_string(),
            "an address that is none at byte 1"
        );
        assert!(Envelope::decode(&[2, 2, 0, 0, 0, 13, 10, 0]).is_err());
    }

    proptest! {
        #[test]
        fn an_address_round_trips_through_text_and_bytes(local in "[a-z .@\"\\\\<>\u{f6}]{1,20}", domain in "[a-z.\u{f6}-]{0,20}") {
            let address = Address::new(local, domain).unwrap();
            prop_assert_eq!(address.to_string().parse(), Ok(address.clone()));
            let line = format!("RCPT TO:<{address}>\r\n");
            let mut envelope = Envelope::new();
            envelope.set_rcpt_to_line(line.as_bytes()).unwrap();
            prop_assert_eq!(envelope.recipient(), Some(&address));
            envelope.set_sender(Some(address));
            prop_assert_eq!(Envelope::decode(&bytes_of(&envelope)), Ok(envelope));
        }

        #[test]
        fn any_text_is_refused_or_parses_as_what_it_prints(text in "[a-c .@\"\\\\<>\\[\\]:\r\n\u{f6}]{0,12}") {
            if let Ok(address) = text.parse::<Address>() {
                prop_assert!(!address.to_string().contains(char::is_control));
                prop_assert_eq!(address.to_string().parse(), Ok(address));
            }
        }
    }
}
