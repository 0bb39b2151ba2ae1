//! What a client says, and what it is answered: the state of one SMTP session, without a socket and without a spool.
//!
//! ```text
//!   ──► connected ──EHLO──► greeted ──MAIL──► sender known ──RCPT──► recipients known ──DATA──► (the message) ──► greeted
//!                              ▲                   │                        │
//!                              └───────────────────┴───── RSET, EHLO ───────┘
//! ```

use std::borrow::Cow;

use smtp_proto::{Error, MAIL_BODY_7BIT, MAIL_BODY_8BITMIME, MailFrom, RcptTo, Request};
use spool::Envelope;

/// Recipients of one message; RFC 5321, 4.5.3.1.8 asks for as many.
pub(crate) const MAX_RECIPIENTS: usize = 100;

/// Commands that were refused, after which the client is sent away.
const MAX_ERRORS: u32 = 20;

/// A reply, with its line ends.
pub(crate) type Reply = Cow<'static, str>;

/// What is to be done after a command.
#[derive(Debug)]
pub(crate) enum Step {
    /// Answer, and read on.
    Answer(Reply),
    /// Answer 354, and receive this message.
    Receive(Mail),
    /// Answer, and close the connection.
    Close(Reply),
}

/// A message that is about to be received: its envelopes, one for each recipient.
#[derive(Debug)]
pub(crate) struct Mail {
    sender: Envelope,
    /// One for each recipient.
    pub(crate) envelopes: Vec<Envelope>,
    /// What `SIZE=` said, in bytes; 0 if it said nothing. At most what is accepted.
    pub(crate) size: usize,
}

/// A session.
#[derive(Debug)]
pub(crate) struct Session {
    max_size: u64,
    /// What the client calls itself, once it has.
    helo: Option<String>,
    mail: Option<Mail>,
    errors: u32,
}

impl Session {
    /// A client that has just come. Messages may have `max_size` bytes.
    pub(crate) fn new(max_size: u64) -> Session {
        Session { max_size, helo: None, mail: None, errors: 0 }
    }

    /// What the client calls itself.
    pub(crate) fn helo(&self) -> &str {
        self.helo.as_deref().unwrap_or_default()
    }

    /// Takes a command line, with its line end.
    pub(crate) fn command(&mut self, line: &[u8]) -> Step {
        let answer = match self.step(line) {
            Ok(step) => return step,
            Err(answer) => answer,
        };
        self.errors += 1;
        if self.errors >= MAX_ERRORS {
            return Step::Close("421 4.7.0 Too many errors\r\n".into());
        }
        Step::Answer(answer.into())
    }

    fn step(&mut self, line: &[u8]) -> Result<Step, &'static str> {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        // Without SMTPUTF8 a command is ASCII; and what other servers might take for a line end is in none.
        if !text.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t')) {
            return Err("500 5.5.2 A command is a line of printable ASCII\r\n");
        }
        let answer: Reply = match Request::parse(&mut line.iter()).map_err(refusal)? {
            Request::Ehlo { host } => self.greet(&host, true),
            Request::Helo { host } => self.greet(&host, false),
            Request::Mail { from } => self.mail(from, line)?,
            Request::Rcpt { to } => self.rcpt(to, line)?,
            Request::Data => return self.data(),
            Request::Rset => {
                self.mail = None;
                "250 2.0.0 Forgotten\r\n".into()
            }
            Request::Noop { .. } => "250 2.0.0 Ok\r\n".into(),
            Request::Vrfy { .. } => "252 2.0.0 Send it, and see\r\n".into(),
            Request::Help { .. } => "214 2.0.0 See RFC 5321\r\n".into(),
            Request::Quit => return Ok(Step::Close("221 2.0.0 Bye\r\n".into())),
            _ => return Err("502 5.5.1 Not implemented\r\n"),
        };
        Ok(Step::Answer(answer))
    }

    fn greet(&mut self, host: &str, extended: bool) -> Reply {
        self.helo = Some(host.to_owned());
        self.mail = None;
        if !extended {
            return "250 smtp_sink\r\n".into();
        }
        let size = self.max_size;
        format!(
            "250-smtp_sink\r\n250-PIPELINING\r\n250-SIZE {size}\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n"
        )
        .into()
    }

    fn mail(&mut self, from: MailFrom<Cow<'_, str>>, line: &[u8]) -> Result<Reply, &'static str> {
        if self.helo.is_none() {
            return Err("503 5.5.1 EHLO first\r\n");
        }
        if self.mail.is_some() {
            return Err("503 5.5.1 There is a sender already\r\n");
        }
        if from.size as u64 > self.max_size {
            return Err("552 5.3.4 Larger than the limit\r\n");
        }
        let size = from.size;
        let flags = from.flags & (MAIL_BODY_7BIT | MAIL_BODY_8BITMIME);
        let offered = MailFrom { address: from.address.clone(), flags, size, ..MailFrom::default() };
        if from != offered {
            return Err("555 5.5.4 A parameter of an extension that was not offered\r\n");
        }
        let mut sender = Envelope::new();
        sender.set_mail_from_line(line).map_err(|_| "501 5.1.7 This is no sender's address\r\n")?;
        self.mail = Some(Mail { sender, envelopes: Vec::new(), size });
        Ok("250 2.1.0 Ok\r\n".into())
    }

    fn rcpt(&mut self, to: RcptTo<Cow<'_, str>>, line: &[u8]) -> Result<Reply, &'static str> {
        let Some(mail) = &mut self.mail else { return Err("503 5.5.1 MAIL first\r\n") };
        if mail.envelopes.len() >= MAX_RECIPIENTS {
            return Err("452 4.5.3 Too many recipients\r\n");
        }
        let offered = RcptTo { address: to.address.clone(), ..RcptTo::default() };
        if to != offered {
            return Err("555 5.5.4 A parameter of an extension that was not offered\r\n");
        }
        let mut envelope = mail.sender.clone();
        let understood = envelope.set_rcpt_to_line(line);
        if understood.is_err() || envelope.recipient().is_none() {
            return Err("501 5.1.3 This is no recipient's address\r\n");
        }
        mail.envelopes.push(envelope);
        Ok("250 2.1.5 Ok\r\n".into())
    }

    fn data(&mut self) -> Result<Step, &'static str> {
        match self.mail.take() {
            None => Err("503 5.5.1 MAIL first\r\n"),
            Some(mail) if mail.envelopes.is_empty() => {
                self.mail = Some(mail);
                Err("554 5.5.1 No valid recipients\r\n")
            }
            Some(mail) => {
                self.errors = 0;
                Ok(Step::Receive(mail))
            }
        }
    }
}

fn refusal(error: Error) -> &'static str {
    match error {
        Error::UnknownCommand => "500 5.5.1 What?\r\n",
        Error::InvalidSenderAddress => "501 5.1.7 This is no sender's address\r\n",
        Error::InvalidRecipientAddress => "501 5.1.3 This is no recipient's address\r\n",
        Error::InvalidParameter { .. } => "501 5.5.4 A parameter is wrong\r\n",
        Error::UnsupportedParameter { .. } => {
            "555 5.5.4 A parameter of an extension that was not offered\r\n"
        }
        _ => "501 5.5.2 Syntax error\r\n",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeted() -> Session {
        let mut session = Session::new(1000);
        assert!(said(&mut session, "EHLO client.example").starts_with("250-"));
        session
    }

    /// What is answered to a line; 354 stands for a message that is to be received.
    fn said(session: &mut Session, line: &str) -> String {
        match session.command(format!("{line}\r\n").as_bytes()) {
            Step::Answer(reply) => reply.trim_end().to_owned(),
            Step::Close(reply) => format!("{} (closed)", reply.trim_end()),
            Step::Receive(mail) => format!("354 to {}", mail.envelopes.len()),
        }
    }

    fn codes(session: &mut Session, lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| said(session, line)[..3].to_owned()).collect()
    }

    #[test]
    fn a_message_has_a_sender_and_recipients_and_then_another_may_come() {
        let mut session = greeted();
        for _ in 0..2 {
            let lines = [
                "MAIL FROM:<a@b.example>",
                "RCPT TO:<c@d.example>",
                "rcpt to:<Postmaster>",
                "NOOP",
                "VRFY c",
            ];
            assert_eq!(codes(&mut session, &lines), ["250", "250", "250", "250", "252"]);
            assert_eq!(said(&mut session, "DATA"), "354 to 2");
        }
        assert_eq!(said(&mut session, "QUIT"), "221 2.0.0 Bye (closed)");
    }

    #[test]
    fn commands_out_of_their_order_are_refused_and_change_nothing() {
        let mut session = Session::new(1000);
        let lines = ["MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>", "DATA"];
        assert_eq!(codes(&mut session, &lines), ["503", "503", "503"]);
        assert_eq!(
            codes(&mut session, &["HELO x", "MAIL FROM:<>", "DATA", "MAIL FROM:<>"]),
            ["250", "250", "554", "503"]
        );
        assert_eq!(codes(&mut session, &["RCPT TO:<c@d.example>", "RSET", "DATA"]), ["250", "250", "503"]);
        assert_eq!(
            codes(&mut session, &["MAIL FROM:<>", "EHLO x", "RCPT TO:<c@d.example>"]),
            ["250", "250", "503"]
        );
    }

    #[test]
    fn what_was_not_offered_is_refused() {
        let lines = [
            ("MAIL FROM:<a@b.example> SIZE=1000 BODY=8BITMIME", "250"),
            ("MAIL FROM:<a@b.example> SIZE=1001", "552"),
            ("MAIL FROM:<a@b.example> SIZE=9999999999999999999", "552"),
            ("MAIL FROM:<a@b.example> SIZE=x", "501"),
            ("MAIL FROM:<a@b.example> BODY=BINARYMIME", "555"),
            ("MAIL FROM:<a@b.example> SMTPUTF8", "555"),
            ("MAIL FROM:<a@b.example> ENVID=1", "555"),
            ("MAIL FROM:<a@b.example> NEW=1", "555"),
            ("MAIL FROM:<ä@b.example>", "500"),
            ("MA\rIL FROM:<a@b.example>", "500"),
            ("MAIL FROM:a@b.example", "501"),
            ("MAIL FROM:<a@b.example", "501"),
            ("STARTTLS", "502"),
            ("BDAT 10 LAST", "502"),
            ("XYZZY", "500"),
            ("", "500"),
        ];
        for (line, code) in lines {
            assert_eq!(&said(&mut greeted(), line)[..3], code, "{line}");
        }
    }

    #[test]
    fn a_recipient_is_an_address_and_there_are_not_too_many() {
        let mut session = greeted();
        let lines = ["MAIL FROM:<>", "RCPT TO:<>", "RCPT TO:<a@>", "RCPT TO:<a@b.example> NOTIFY=NEVER"];
        assert_eq!(codes(&mut session, &lines), ["250", "501", "501", "555"]);
        for _ in 0..MAX_RECIPIENTS {
            assert_eq!(said(&mut session, "RCPT TO:<a@b.example>"), "250 2.1.5 Ok");
        }
        assert_eq!(said(&mut session, "RCPT TO:<a@b.example>"), "452 4.5.3 Too many recipients");
        assert_eq!(said(&mut session, "DATA"), "354 to 100");
    }

    #[test]
    fn a_client_that_only_makes_errors_is_sent_away() {
        let mut session = greeted();
        for _ in 1..MAX_ERRORS {
            assert_eq!(said(&mut session, "XYZZY"), "500 5.5.1 What?");
        }
        assert_eq!(said(&mut session, "XYZZY"), "421 4.7.0 Too many errors (closed)");
    }
}
