//! `show` of a spool: one message, with all that is kept of it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ::spool::{
    Context, Form, Listed, Message, MessageId, RenderOptions, Scope, Spool, SpoolError, headers,
    render_meta_xml,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;
use serde_json::{Map, Value};

use super::messages::address;
use super::{SCHEMA, due, is_one, now, queue_name, reopen, seconds, state_name, time};
use crate::console::{Console, Tone};
use crate::exit::{Exit, Failure, Outcome};
use crate::inspect::{Look, ShowArgs};
use crate::measure::{count, things};
use crate::message::escape;
use crate::options::one_log;

pub(in crate::inspect) const EXAMPLES: &str = "\
Examples:
  jlog-inspect show 0000001a:00000003 /var/spool/events
  jlog-inspect show 18/00-00002-C6DD1CA4 /var/spool/mail           a message of a spool
  jlog-inspect show 18/00-00002-C6DD1CA4 /var/spool/mail --body > message.eml";

/// So much of a header is shown at most.
const HEADER: usize = 64 << 10;

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    spool: String,
    id: String,
    created: String,
    size: u64,
    sender: Option<String>,
    recipient: Option<String>,
    mail_from: Value,
    rcpt_to: Value,
    attempts: u32,
    next_attempt: String,
    last_reply: Value,
    priority: u8,
    queue: String,
    domain: String,
    binding: String,
    group: String,
    state: &'static str,
    connection_context: Map<String, Value>,
    message_context: Map<String, Value>,
    resources: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<Vec<(String, Value)>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// The id and the directory of a spool, given either way round; none where it is no spool that is named.
pub(in crate::inspect) fn named(
    before: Option<&PathBuf>,
    args: &ShowArgs,
) -> Result<Option<(MessageId, PathBuf)>, Failure> {
    let (id, spool) = match (args.id.parse::<MessageId>(), &args.at.log) {
        (Ok(id), behind) => (id, behind.clone()),
        (Err(_), Some(second)) => match second.to_str().and_then(|text| text.parse().ok()) {
            Some(id) => (id, Some(PathBuf::from(&args.id))),
            None => return not_an_id(before, args).map(|()| None),
        },
        (Err(_), None) => return not_an_id(before, args).map(|()| None),
    };
    Ok(Some((id, one_log(before.cloned(), spool)?)))
}

/// An id of a log's record says nothing in a spool.
fn not_an_id(before: Option<&PathBuf>, args: &ShowArgs) -> Result<(), Failure> {
    let here = PathBuf::from(".");
    if !is_one(before.or(args.at.log.as_ref()).unwrap_or(&here)) {
        return Ok(());
    }
    let id = &args.id;
    Err(Failure::Usage(format!("{id:?} is no message of a spool; their ids are as in 18/00-00002-C6DD1CA4")))
}

pub(in crate::inspect) fn run(look: &mut Look<'_>, path: &Path, id: MessageId, args: &ShowArgs) -> Outcome {
    let mut found = Found::look(path, id, args);
    if !matches!(found, Ok(Found { problem: None, .. }) | Err(SpoolError::NotFound(_))) {
        // The owner may have moved it while it was read: once more, as it is now.
        found = Found::look(path, id, args);
    }
    let found = match found {
        Err(error @ SpoolError::Corrupt { .. }) => {
            look.console.say(error);
            return Ok(Exit::Problem);
        }
        found => found?,
    };
    let message = &found.message;
    match &found.problem {
        Some(problem) if args.body && !look.json => {
            look.console.say(format!("the body of message {id} cannot be read: {problem}"));
            return Ok(Exit::Problem);
        }
        _ if args.body && !look.json => {
            message.render(&mut *look.console, &VERBATIM)?;
        }
        _ if args.xml => {
            let [connection, own] = contexts(message)?;
            let text = render_meta_xml(id, &message.envelope(), &connection, &own);
            write!(look.console, "{text}")?;
        }
        _ => {
            let report = Report::of(path, &found, args)?;
            if look.json { look.console.json(&report)? } else { print(look.console, &found, args, &report)? }
        }
    }
    Ok(if found.problem.is_some() { Exit::Problem } else { Exit::Fine })
}

const VERBATIM: RenderOptions = RenderOptions { headers_only: false, form: Form::Verbatim };

/// A message that the spool holds.
struct Found {
    message: Message,
    listed: Listed,
    header: Vec<u8>,
    /// Why its body cannot be read.
    problem: Option<String>,
    /// What it is read from. Last: the message goes first.
    _spool: Spool,
}

impl Found {
    fn look(path: &Path, id: MessageId, args: &ShowArgs) -> Result<Found, SpoolError> {
        let spool = reopen(path)?;
        let (listed, message) = (spool.entry(id)?, spool.get(id)?);
        let mut found = Found { message, listed, header: Vec::new(), problem: None, _spool: spool };
        if args.meta || args.xml {
            return Ok(found);
        }
        match header(&found.message) {
            Ok(header) => found.header = header,
            Err(error) => found.problem = Some(error.to_string()),
        }
        if args.body
            && let Err(error) = found.message.rendered_len(&VERBATIM)
        {
            // All of it is read before any of it is printed.
            found.problem = Some(error.to_string());
        }
        Ok(found)
    }
}

fn contexts(message: &Message) -> Result<[Context; 2], SpoolError> {
    let copy = |scope| message.context(scope, |context| context.clone());
    Ok([copy(Scope::Connection)?, copy(Scope::Message)?])
}

impl Report {
    fn of(path: &Path, found: &Found, args: &ShowArgs) -> Result<Report, SpoolError> {
        let (message, listed) = (&found.message, &found.listed);
        let [connection, own] = contexts(message)?;
        let envelope = message.envelope();
        let queue = message.queue();
        let mut report = Report {
            schema: SCHEMA,
            spool: path.to_string_lossy().into_owned(),
            id: message.id().to_string(),
            created: time(message.created()),
            size: message.size(),
            sender: envelope.sender().map(ToString::to_string),
            recipient: envelope.recipient().map(ToString::to_string),
            mail_from: value(&envelope.mail_from_line()),
            rcpt_to: envelope.rcpt_to_line().map_or(Value::Null, |line| value(&line)),
            attempts: message.attempts(),
            next_attempt: time(message.next_attempt()),
            last_reply: value(&message.last_reply()),
            priority: message.priority(),
            queue: queue_name(&queue),
            domain: queue.domain,
            binding: queue.binding,
            group: queue.group,
            state: state_name(listed.state),
            connection_context: pairs(&connection),
            message_context: pairs(&own),
            resources: message.resources()?,
            headers: None,
            body: None,
            problem: found.problem.clone(),
        };
        if !args.meta && found.problem.is_none() {
            let fields = headers(&found.header).map(|(name, field)| (name.to_owned(), value(&field)));
            report.headers = Some(fields.collect());
        }
        if args.body && found.problem.is_none() {
            let mut bytes = Vec::new();
            message.render(&mut bytes, &VERBATIM)?;
            report.body = Some(value(&bytes));
        }
        Ok(report)
    }
}

/// The beginning of a message, up to the end of its header where that is not too far.
fn header(message: &Message) -> Result<Vec<u8>, SpoolError> {
    use io::Read as _;
    let mut bytes = Vec::new();
    let body = message.body()?;
    let read = body.take(HEADER as u64).read_to_end(&mut bytes);
    read.map_err(|error| SpoolError::Invalid(error.to_string()))?;
    Ok(bytes)
}

/// Bytes in JSON: text where they are, an object with the member `b64` where not.
fn value(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::String(text.to_owned()),
        Err(_) => Value::Object(Map::from_iter([("b64".to_owned(), BASE64.encode(bytes).into())])),
    }
}

fn pairs(context: &Context) -> Map<String, Value> {
    context.iter().map(|(key, bytes)| (key.to_owned(), value(bytes))).collect()
}

fn print(console: &mut Console, found: &Found, args: &ShowArgs, report: &Report) -> Result<(), Failure> {
    let (message, listed) = (&found.message, &found.listed);
    let now = now();
    let envelope = message.envelope();
    let next = match listed.state {
        ::spool::ListedState::Delayed => due(message.next_attempt(), now),
        other => state_name(other).to_owned(),
    };
    let created = console.clock.second(::spool::Timestamp::new(message.created(), 0));
    let age = seconds(now.saturating_sub(message.created()));
    field(console, "message", message.id().to_string().as_bytes())?;
    field(console, "created", format!("{created}   {age} ago").as_bytes())?;
    field(console, "size", things(message.size(), "byte").as_bytes())?;
    field(console, "sender", address(envelope.sender()).as_bytes())?;
    field(console, "recipient", address(envelope.recipient()).as_bytes())?;
    field(console, "mail from", line_of(&envelope.mail_from_line()))?;
    if let Some(line) = envelope.rcpt_to_line() {
        field(console, "rcpt to", line_of(&line))?;
    }
    field(console, "queue", report.queue.as_bytes())?;
    field(console, "priority", count(u64::from(message.priority())).as_bytes())?;
    field(console, "attempts", count(u64::from(message.attempts())).as_bytes())?;
    field(console, "next", next.as_bytes())?;
    let reply = message.last_reply();
    if !reply.is_empty() {
        field(console, "last reply", line_of(&reply))?;
    }
    for (label, all) in ["connection", "context"].into_iter().zip(contexts(message)?) {
        for (key, bytes) in all.iter() {
            let pair = [key.as_bytes(), b" = ", bytes].concat();
            field(console, label, &pair)?;
        }
    }
    for name in &report.resources {
        field(console, "resource", name.as_bytes())?;
    }
    if args.meta {
        return Ok(());
    }
    if let Some(problem) = &report.problem {
        let line = console.paint(Tone::Lost, format!("the body cannot be read: {problem}"));
        writeln!(console, "{line}")?;
        return Ok(());
    }
    writeln!(console)?;
    for (name, field) in headers(&found.header) {
        write!(console, "  ")?;
        escape(name.as_bytes(), console)?;
        write!(console, ": ")?;
        escape(&field, console)?;
        writeln!(console)?;
    }
    Ok(())
}

fn field(console: &mut Console, label: &str, text: &[u8]) -> io::Result<()> {
    write!(console, "{label:<10}  ")?;
    escape(text, console)?;
    writeln!(console)
}

/// A protocol line without its end.
fn line_of(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r\n").or(line.strip_suffix(b"\n")).unwrap_or(line)
}
