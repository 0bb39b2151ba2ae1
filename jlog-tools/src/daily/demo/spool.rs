//! The spool at work: mail is accepted, its process killed, some of it delivered, some damaged, and the rest kept.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Instant, SystemTime};

use ::spool::mailbox::{Maildir, MboxReader};
use ::spool::{
    Address, Form, Message, MessageId, QueueKey, RenderOptions, RetryPolicy, Spool, SpoolOptions, Timestamp,
    headers,
};
use jlog::repair::Options;

use super::{Killed, Show, Victim, message_text};
use crate::console::{Console, Tone};
use crate::exit::{Exit, Failure, Outcome};
use crate::inspect::spool::{
    LOGS, Standing, check, now, print_check, print_messages, print_queues, print_summary,
};
use crate::interrupt;
use crate::measure::{count, lasting, things};
use crate::options;
use crate::repair::{Consent, one_spool};

/// The mail that comes in.
const MAILBOX: &[u8] = include_bytes!("../../../../spool/examples/data/example.mbox");
/// How long ago the first of it came, and how far apart, in seconds.
const FIRST: u32 = 7_000;
const APART: u32 = 571;
/// The queue of the process that is killed.
const KILLED: &str = "killed.example";
/// A byte of a message's body that is damaged.
const BEHIND: u64 = 20;
/// One body is stored by itself, as it is.
const VERBATIM: RenderOptions = RenderOptions { headers_only: false, form: Form::Verbatim };

impl Show<'_> {
    pub(super) fn spool(&mut self) -> Outcome {
        let spool = self.accept()?;
        let spool = self.close_and_open(spool)?;
        let spool = self.kill_a_receiver(spool)?;
        let victim = self.deliver_half(&spool)?;
        self.damage_one(spool, &victim)?;
        self.repair_the_spool()?;
        self.deliver_the_rest()?;
        self.act("On a spool of your own")?;
        self.hints(&[
            "inspect YOUR-SPOOL",
            "inspect messages YOUR-SPOOL --older 1h",
            "repair -n YOUR-SPOOL",
            "demo --log                  the log below: subscribers, a writer killed, damage, repair",
        ])
    }

    fn open(&self) -> Result<Spool, Failure> {
        // Small segments: a spool's own are 64 MiB.
        Ok(SpoolOptions::new().segment_size(64 << 10).reserve(1 << 20).open(&self.path)?)
    }

    fn accept(&mut self) -> Result<Spool, Failure> {
        self.act("1. Mail comes in: when it is acknowledged it is on the disk")?;
        let spool = self.open()?;
        let mut mailbox = MboxReader::new(MAILBOX);
        let (mut mails, mut messages, mut bytes) = (0u32, 0, 0);
        while let Some(mut mail) = mailbox.next_message()? {
            let mut body = Vec::new();
            mail.read_to_end(&mut body).map_err(|error| self.broken("read the mailbox", &error))?;
            let came = Timestamp::new(now().saturating_sub(FIRST.saturating_sub(mails * APART)), 0);
            let batch = batch(&spool, mail.sender(), body, came)?;
            spool.accept_batch(&batch, came)?;
            mails += 1;
            messages += batch.len() as u64;
            bytes += batch.first().map_or(0, Message::size);
        }
        let size = self.console.units.size(bytes);
        self.line(format!(
            "{} of {size} accepted for {}: each body is stored once",
            things(u64::from(mails), "mail"),
            things(messages, "recipient")
        ))?;
        self.command("jlog inspect queues")?;
        print_queues(self.console, &self.path.clone())?;
        Ok(spool)
    }

    fn close_and_open(&mut self, spool: Spool) -> Result<Spool, Failure> {
        self.act("2. Bodies leave memory, the spool is closed, and opened again")?;
        let ids: Vec<MessageId> = spool.entries()?.map(|listed| listed.id).collect();
        let mut before = Vec::new();
        for id in &ids {
            before.push(body(&spool.get(*id)?)?);
        }
        let from = self.console.units.size(resident(&spool, &ids)?);
        for id in &ids {
            spool.get(*id)?.release_body();
        }
        let to = self.console.units.size(resident(&spool, &ids)?);
        self.line(format!("bodies in memory: {from}, and {to} once they are released"))?;
        spool.close()?;
        let began = Instant::now();
        let spool = self.open()?;
        let held = spool.len()?;
        let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.line(format!("closed and opened in {}: {} held", lasting(took), things(held, "message")))?;
        let mut same = 0;
        for (id, before) in ids.iter().zip(&before) {
            same += u64::from(body(&spool.get(*id)?)? == *before);
        }
        let line = format!("{} of {} bodies are what they were, byte for byte", count(same), count(held));
        let line = self.console.paint(if same == held { Tone::Healthy } else { Tone::Lost }, line);
        self.line(line)?;
        Ok(spool)
    }

    fn kill_a_receiver(&mut self, spool: Spool) -> Result<Spool, Failure> {
        self.act("3. Another process takes over, accepts, and is killed with SIGKILL in the middle of it")?;
        spool.close()?;
        let program = std::env::current_exe().map_err(|error| self.broken("find the program", &error))?;
        let child = Command::new(program)
            .args(["demo-writer", "--spool"])
            .arg(&self.path)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| self.broken("start the receiver", &error))?;
        let mut child = Killed(child);
        let told: Vec<MessageId> =
            child.acknowledgements().map_err(|error| self.broken("hear the receiver", &error))?;
        let spool = self.open()?;
        let mut there = 0;
        for (n, id) in told.iter().enumerate() {
            there += u64::from(spool.contains(*id)? && body(&spool.get(*id)?)? == message_text(n).as_bytes());
        }
        let promised = told.len() as u64;
        let line =
            format!("{} of {} acknowledged messages are there, byte for byte", count(there), count(promised));
        let line = self.console.paint(if there == promised { Tone::Healthy } else { Tone::Lost }, line);
        self.line(line)?;
        let purged = spool.purge(&queue(KILLED), |_| true)? as u64;
        self.line(format!("their queue is purged: {} removed with one record", count(purged)))?;
        Ok(spool)
    }

    /// Delivers half of what is held, and returns the body of a message that stays.
    fn deliver_half(&mut self, spool: &Spool) -> Result<Vec<u8>, Failure> {
        self.act("4. Half of it is delivered; one is told to come later")?;
        let half = usize::try_from(spool.len()? / 2).unwrap_or(0);
        let now = Timestamp::from(SystemTime::now());
        let mut due = spool.due(now, half + 1)?;
        if let Some(last) = due.pop() {
            let message = spool.get(last)?;
            spool.retry(
                &message,
                b"451 4.7.1 greylisted, come again\r\n",
                &RetryPolicy::default(),
                0,
                now,
            )?;
        }
        let delivered = self.to_maildir(spool, &due)?;
        self.line(format!("{} delivered to a Maildir and removed, 1 put off", things(delivered, "message")))?;
        self.command("jlog inspect messages")?;
        print_messages(self.console, &self.path.clone())?;
        self.wait()?;
        self.command("jlog inspect")?;
        print_summary(self.console, &Standing::of(&self.path)?)?;

        // A body that is one message's alone: damage to it is the loss of one.
        let mut alone =
            spool.entries()?.filter(|listed| !listed.in_pieces && u64::from(listed.size) > 2 * BEHIND);
        let alone = alone.next().map(|listed| listed.id);
        alone.map_or(Ok(Vec::new()), |id| body(&spool.get(id)?))
    }

    fn to_maildir(&self, spool: &Spool, ids: &[MessageId]) -> Result<u64, Failure> {
        let mut maildir = Maildir::create(self.path.with_file_name("maildir"))?;
        for id in ids {
            // Delivered now or before: there it is.
            let _ = maildir.deliver(&mut spool.get(*id)?.body()?, id.spool_name().as_ref())?;
            spool.remove(*id)?;
        }
        // What others see is what is on the disk.
        spool.sync()?;
        Ok(ids.len() as u64)
    }

    fn damage_one(&mut self, spool: Spool, victim: &[u8]) -> Result<(), Failure> {
        self.act("5. The disk goes bad: one bit of one message flips")?;
        spool.close()?;
        // Where reclaim has moved it, the newest copy is the one that counts.
        for path in self.segment_files()? {
            let bytes = fs::read(&path).map_err(|error| Failure::io("read", &path, &error))?;
            let Some(at) = bytes.windows(victim.len().max(1)).position(|window| window == victim) else {
                continue;
            };
            let at = at as u64 + BEHIND;
            let bit = [bytes.get(usize::try_from(at).unwrap_or(0)).copied().unwrap_or(0) ^ 1];
            let file = OpenOptions::new().write(true).open(&path);
            let written = file.and_then(|file| file.write_all_at(&bit, at));
            written.map_err(|error| Failure::io("damage", &path, &error))?;
            let name = path.strip_prefix(&self.path).unwrap_or(&path).display().to_string();
            self.line(format!("{name}: one bit of byte {at} flipped"))?;
            break;
        }
        self.command("jlog inspect check")?;
        let checked = check(self.console, &self.path)?;
        print_check(self.console, &checked)
    }

    /// The files of both logs, what is newer first.
    fn segment_files(&self) -> Result<Vec<PathBuf>, Failure> {
        let mut all = Vec::new();
        for log in LOGS.iter().rev() {
            let dir = self.path.join(log);
            let names = fs::read_dir(&dir).map_err(|error| Failure::io("list", &dir, &error))?;
            let mut files: Vec<_> =
                names.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
            files.sort_unstable_by(|a, b| b.cmp(a));
            all.append(&mut files);
        }
        Ok(all)
    }

    fn repair_the_spool(&mut self) -> Result<(), Failure> {
        self.act("6. Repair keeps every message whose records are sound")?;
        self.command("jlog repair -y -q")?;
        let quiet = std::mem::replace(&mut self.console.quiet, true);
        let done =
            one_spool(self.console, &self.path, &Options::default(), Consent::Given { wait: 0 }, false);
        self.console.quiet = quiet;
        done.map(drop)
    }

    fn deliver_the_rest(&mut self) -> Result<(), Failure> {
        self.act("7. The rest is delivered")?;
        let spool = self.open()?;
        let left: Vec<MessageId> = spool.entries()?.map(|listed| listed.id).collect();
        let delivered = self.to_maildir(&spool, &left)?;
        let there = Maildir::open(self.path.with_file_name("maildir"))?.messages()?.count() as u64;
        let held = spool.len()?;
        spool.close()?;
        self.line(format!(
            "{} delivered; the Maildir has {}, the spool holds {}",
            things(delivered, "message"),
            count(there),
            count(held)
        ))
    }
}

/// One message for each recipient of a mail; they share its body.
fn batch(spool: &Spool, sender: &str, body: Vec<u8>, came: Timestamp) -> Result<Vec<Message>, Failure> {
    let to = headers(&body).find(|(name, _)| name.eq_ignore_ascii_case("to"));
    let to = to.map(|(_, value)| String::from_utf8_lossy(&value).into_owned()).unwrap_or_default();
    let recipients: BTreeSet<Address> = to.split(',').filter_map(address).collect();
    let first = Message::from_bytes(spool.new_id(came), body);
    first.set_sender(sender.parse().ok());
    let mut batch: Vec<Message> = Vec::new();
    for recipient in recipients {
        let message = if batch.is_empty() { first.clone() } else { first.share(spool.new_id(came))? };
        message.set_queue(queue(recipient.domain()));
        message.set_recipient(Some(recipient));
        batch.push(message);
    }
    Ok(batch)
}

/// The address of `Anna <anna@example.com>`, or of the same without the name.
fn address(text: &str) -> Option<Address> {
    let bare = text.rsplit_once('<').map_or(text, |(_, rest)| rest.trim_end_matches([' ', '>']));
    bare.trim().parse().ok()
}

fn queue(domain: &str) -> QueueKey {
    QueueKey { domain: domain.to_owned(), ..QueueKey::default() }
}

/// The bytes of those bodies that are in memory, each message's counted.
fn resident(spool: &Spool, ids: &[MessageId]) -> Result<u64, Failure> {
    let mut bytes = 0;
    for id in ids {
        let message = spool.get(*id)?;
        bytes += if message.is_resident() { message.size() } else { 0 };
    }
    Ok(bytes)
}

fn body(message: &Message) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    message.render(&mut bytes, &VERBATIM)?;
    Ok(bytes)
}

/// Accepts as fast as it can, and says the id of each message once it is on the disk.
pub(super) fn accept_until_killed(args: &Victim) -> Outcome {
    let spool = SpoolOptions::new().segment_size(64 << 10).reserve(1 << 20).open(&args.log)?;
    let mut console = Console::new("jlog", &options::Common::default());
    for n in 0.. {
        let now = Timestamp::from(SystemTime::now());
        let message = Message::from_bytes(spool.new_id(now), message_text(n).into_bytes());
        message.set_queue(queue(KILLED));
        spool.accept(&message, now)?;
        writeln!(console, "{}", message.id())?;
        console.flush()?;
        interrupt::check()?;
    }
    Ok(Exit::Fine)
}
