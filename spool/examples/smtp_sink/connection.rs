//! One client: lines in, replies out, and messages into the spool in between.

use std::io::{self, BufRead, BufReader, Read, Write};

use spool::{Message, QueueKey, Result, Scope, SpoolError, unstuff};

use crate::session::{Mail, Reply, Session, Step};
use crate::sink::{Sink, now};

/// The longest command line, in bytes with its end: what the spool keeps of one.
const MAX_LINE: u64 = spool::Envelope::MAX_LINE as u64;

/// Of a line that is longer so many times, and of a message that was refused so many bytes are read away.
const MAX_LINES_DISCARDED: u32 = 256;
const MAX_DISCARDED: u64 = 1 << 30;

/// What a line is.
enum Line {
    Complete,
    TooLong,
    /// The client has gone.
    End,
}

/// Talks to a client until it has gone. What it had not finished saying is forgotten.
///
/// # Errors
/// Those of the connection, a timeout among them.
pub(crate) fn converse(sink: &Sink, input: impl Read, mut output: impl Write, peer: &str) -> io::Result<()> {
    let mut input = BufReader::with_capacity(16 << 10, input);
    let mut replies = Vec::new();
    let mut session = Session::new(sink.max_size);
    let mut line = Vec::new();
    replies.extend_from_slice(b"220 smtp_sink ESMTP\r\n");
    loop {
        // Whoever sends several commands at once gets their replies at once (RFC 2920).
        if input.buffer().is_empty() {
            send(&mut output, &mut replies)?;
        }
        let step = match read_line(&mut input, &mut line) {
            Ok(Line::Complete) if sink.is_stopping() && !line.eq_ignore_ascii_case(b"QUIT\r\n") => closing(),
            Ok(Line::Complete) => session.command(&line),
            Ok(Line::TooLong) => Step::Answer("500 5.5.6 The line is too long\r\n".into()),
            Ok(Line::End) if sink.is_stopping() => closing(),
            Ok(Line::End) => return Ok(()),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                replies.extend_from_slice(b"421 4.4.2 Waited too long\r\n");
                send(&mut output, &mut replies)?;
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        match step {
            Step::Answer(reply) => replies.extend_from_slice(reply.as_bytes()),
            Step::Close(reply) => {
                replies.extend_from_slice(reply.as_bytes());
                return send(&mut output, &mut replies);
            }
            Step::Receive(mail) => {
                replies.extend_from_slice(b"354 Go on, and end with a line of one dot\r\n");
                send(&mut output, &mut replies)?;
                let reply = receive(sink, &mut input, mail, session.helo(), peer)?;
                replies.extend_from_slice(reply.as_bytes());
            }
        }
    }
}

fn closing() -> Step {
    Step::Close("421 4.3.2 Closing down\r\n".into())
}

fn send(output: &mut impl Write, replies: &mut Vec<u8>) -> io::Result<()> {
    output.write_all(replies)?;
    replies.clear();
    output.flush()
}

fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Line> {
    for part in 0..=MAX_LINES_DISCARDED {
        line.clear();
        input.by_ref().take(MAX_LINE).read_until(b'\n', line)?;
        match (line.ends_with(b"\n"), part) {
            (true, 0) => return Ok(Line::Complete),
            (true, _) => return Ok(Line::TooLong),
            (false, _) if (line.len() as u64) < MAX_LINE => return Ok(Line::End),
            (false, _) => {}
        }
    }
    Ok(Line::End)
}

/// Receives a message, and answers for it: 250 is the promise that it is held.
fn receive(sink: &Sink, input: &mut impl BufRead, mail: Mail, helo: &str, peer: &str) -> io::Result<Reply> {
    let mut builder = sink.spool.builder(now(), mail.size);
    let mut body = unstuff(input);
    let mut chunk = [0; 16 << 10];
    let mut refused = None;
    let mut discarded = 0;
    loop {
        // An end before the closing dot is an error: the builder is dropped, and nothing is held.
        let count = body.read(&mut chunk)?;
        if count == 0 {
            break;
        }
        if refused.is_none() {
            refused = builder.push(&chunk[..count]).err();
            continue;
        }
        // Whoever sends a message hears nothing before its end.
        discarded += count as u64;
        if discarded > MAX_DISCARDED {
            return Err(io::Error::other("a message that was refused does not end"));
        }
    }

    let taken = match refused {
        Some(error) => Err(error),
        None => builder.finish().and_then(|message| accept(sink, message, mail, helo, peer)),
    };
    Ok(taken.unwrap_or_else(|error| refusal(sink, &error).into()))
}

/// Hands a message to the spool, for each of its recipients, all or none. When this returns the promise holds.
fn accept(sink: &Sink, first: Message, mail: Mail, helo: &str, peer: &str) -> Result<Reply> {
    first.context_set(Scope::Connection, "helo", helo)?;
    first.context_set(Scope::Connection, "peer", peer)?;
    let time = now();
    let mut messages = Vec::with_capacity(mail.envelopes.len());
    for (n, envelope) in mail.envelopes.into_iter().enumerate() {
        let message = if n == 0 { first.clone() } else { first.share(sink.spool.new_id(time))? };
        let domain = envelope.recipient().map(|to| to.domain().to_ascii_lowercase()).unwrap_or_default();
        message.set_envelope(|own| *own = envelope);
        message.set_queue(QueueKey { domain, ..QueueKey::default() });
        messages.push(message);
    }
    sink.spool.accept_batch(&messages, time)?;
    sink.accepted(&messages);
    Ok(format!("250 2.0.0 {} is held\r\n", first.id()).into())
}

fn refusal(sink: &Sink, error: &SpoolError) -> &'static str {
    match error {
        SpoolError::Full { .. } => "452 4.3.1 The spool is full\r\n",
        SpoolError::TooLarge { .. } => "552 5.3.4 Larger than the limit\r\n",
        SpoolError::Refused { .. } => "550 5.7.1 Refused\r\n",
        _ => {
            // What is on the disk is not known any more: the next start finds out.
            if matches!(error, SpoolError::Unhealthy(_)) {
                sink.stop();
            }
            eprintln!("a message was not accepted: {error}");
            "451 4.3.0 Try again later\r\n"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use proptest::prelude::*;
    use spool::SpoolOptions;

    struct Edge {
        sink: Sink,
        _dir: tempfile::TempDir,
    }

    /// A sink for messages of 300,000 bytes.
    fn edge(options: SpoolOptions) -> Edge {
        let dir = tempfile::tempdir().unwrap();
        let args = crate::Args::parse_from(["smtp_sink", "--spool", "x", "--max-size", "300000"]);
        let options = options.background(false).reserve(0).segment_size(1 << 20);
        let spool = options.max_message_size(args.max_size).open(dir.path().join("spool")).unwrap();
        Edge { sink: Sink::new(spool, &args), _dir: dir }
    }

    impl Edge {
        /// The replies to what a client says: their codes, those of EHLO and the greeting left out.
        fn says(&self, input: &[u8]) -> String {
            let mut output = Vec::new();
            let input = [b"EHLO c\r\n", input].concat();
            let _ = converse(&self.sink, &input[..], &mut output, "peer");
            let output = String::from_utf8(output).unwrap();
            let codes: Vec<&str> = output.lines().skip(6).map(|line| &line[..3]).collect();
            codes.join(" ")
        }

        /// Recipient and body of all that is held.
        fn held(&self) -> Vec<(String, Vec<u8>)> {
            let ids = self.sink.spool.entries().unwrap().map(|entry| entry.id);
            let mut held: Vec<_> = ids
                .map(|id| {
                    let message = self.sink.spool.get(id).unwrap();
                    let mut body = Vec::new();
                    message.body().unwrap().read_to_end(&mut body).unwrap();
                    (message.envelope().recipient().unwrap().to_string(), body)
                })
                .collect();
            held.sort();
            held
        }
    }

    fn mail(to: &[&str], body: &[u8]) -> Vec<u8> {
        let mut lines = b"MAIL FROM:<a@b.example>\r\n".to_vec();
        to.iter().for_each(|to| lines.extend_from_slice(format!("RCPT TO:<{to}>\r\n").as_bytes()));
        [&lines, &b"DATA\r\n"[..], body, b"\r\n.\r\n"].concat()
    }

    #[test]
    fn each_recipient_of_a_message_has_one_and_dots_are_not_doubled() {
        let edge = edge(SpoolOptions::new());
        let said = [mail(&["x@one.example", "y@two.example"], b"1\r\n..2"), b"QUIT\r\n".to_vec()].concat();
        assert_eq!(edge.says(&said), "250 250 250 354 250 221");
        let body = b"1\r\n.2\r\n".to_vec();
        assert_eq!(
            edge.held(),
            [("x@one.example".to_owned(), body.clone()), ("y@two.example".to_owned(), body)]
        );
        let queues = edge.sink.spool.queues().unwrap();
        assert_eq!(
            queues.iter().map(|queue| &queue.key.domain).collect::<Vec<_>>(),
            ["one.example", "two.example"]
        );
    }

    #[test]
    fn a_large_message_for_two_is_held_as_it_was_sent() {
        let edge = edge(SpoolOptions::new());
        let body: Vec<u8> = (0..200_000).map(|n| b'a' + (n % 23) as u8).collect();
        assert_eq!(edge.says(&mail(&["x@one.example", "y@two.example"], &body)), "250 250 250 354 250");
        let body = [&body, &b"\r\n"[..]].concat();
        assert!(edge.held().iter().all(|(_, held)| *held == body));
        assert_eq!(edge.held().len(), 2);
    }

    #[test]
    fn a_message_without_its_end_is_no_message() {
        let edge = edge(SpoolOptions::new());
        let whole = mail(&["x@one.example"], b"text");
        for end in 0..whole.len() {
            assert!(!edge.says(&whole[..end]).ends_with("354 250"), "{end}");
        }
        assert_eq!(edge.held(), []);
        assert_eq!(edge.says(&whole), "250 250 354 250");
    }

    #[test]
    fn refusals_are_told_at_the_end_of_data_and_another_message_may_follow() {
        let large = mail(&["x@one.example"], &vec![b'a'; 300_001]);
        let both = [large, mail(&["x@one.example"], b"small")].concat();
        let limited = edge(SpoolOptions::new());
        assert_eq!(limited.says(&both), "250 250 354 552 250 250 354 250");
        assert_eq!(limited.held().len(), 1);

        let full = edge(SpoolOptions::new().max_messages(1));
        let all = [mail(&["x@a.example", "y@a.example"], b"-"), mail(&["z@a.example"], b"-")].concat();
        assert_eq!(full.says(&all), "250 250 250 354 452 250 250 354 250");
        assert_eq!(full.held().len(), 1);
    }

    #[test]
    fn a_line_that_is_too_long_is_one_error_and_one_without_an_end_is_the_end() {
        let edge = edge(SpoolOptions::new());
        let long = [vec![b'x'; 20_000], b"\r\nNOOP\r\n".to_vec()].concat();
        assert_eq!(edge.says(&long), "500 250");
        assert_eq!(edge.says(&vec![b'x'; 2 << 20]), "");
        let (just, above) = (vec![b'x'; 4095], vec![b'x'; 4096]);
        assert_eq!(edge.says(&[&just, &b"\n"[..], &above, b"\n", b"NOOP\n"].concat()), "500 500 250");
    }

    #[test]
    fn dots_between_other_line_ends_smuggle_nothing() {
        let edge = edge(SpoolOptions::new());
        for end in ["\n.\n", "\n.\r\n", "\r.\r", "\r\n.\n", "\r.\r\n", "\r\n.\r"] {
            let body = ["one", end, "MAIL FROM:<>\r\nRCPT TO:<v@one.example>\r\nDATA\r\ntwo"].concat();
            assert_eq!(edge.says(&mail(&["x@one.example"], body.as_bytes())), "250 250 354 250", "{end:?}");
        }
        assert!(edge.held().iter().all(|(to, _)| to == "x@one.example"));
    }

    #[test]
    fn nothing_new_is_begun_when_it_is_time_to_end() {
        let edge = edge(SpoolOptions::new());
        edge.sink.stop();
        let mut output = Vec::new();
        converse(&edge.sink, &b"NOOP\r\n"[..], &mut output, "peer").unwrap();
        assert_eq!(output, b"220 smtp_sink ESMTP\r\n421 4.3.2 Closing down\r\n");
    }

    /// What sessions are made of.
    const PIECES: [&[u8]; 20] = [
        b"EHLO x\r\n",
        b"MAIL FROM:<a@b>",
        b"RCPT TO:<a@b>",
        b"DATA\r\n",
        b"\r\n",
        b"\r\n.\r\n",
        b"SIZE=",
        b"\"",
        b"\\",
        b"<",
        b">",
        b":",
        b"@",
        b" ",
        b"\r",
        b"\n",
        b"BDAT ",
        b"AUTH ",
        b"HELP",
        b"ATRN a,",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Pieces of a session, and noise, in any order.
        #[test]
        fn whatever_a_client_says_ends(pieces in prop::collection::vec(prop_oneof![
            prop::sample::select(&PIECES[..]).prop_map(<[u8]>::to_vec),
            prop::collection::vec(any::<u8>(), 0..40),
        ], 0..60)) {
            thread_local!(static EDGE: Edge = edge(SpoolOptions::new().durability(spool::Durability::Process)));
            EDGE.with(|edge| edge.says(&pieces.concat()));
        }
    }
}
