//! `jlog spool`: what an operator does with the messages of a spool that no process owns.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::time::SystemTime;

use ::spool::mailbox::Source;
use ::spool::{
    Address, ExportOptions, ExportTarget, Ids, ImportFailure, ImportOptions, Listed, MessageId, QueueKey,
    SpoolError, SpoolOptions, Timestamp,
};
use clap::{Args, Subcommand};

use crate::console::Console;
use crate::exit::{Exit, Failure, Outcome};
use crate::inspect::spool::{Which, is_one, now, require};
use crate::interrupt;
use crate::measure::{count, things};
use crate::options::{Common, with_console};
use crate::owner;
use crate::place;

pub(super) const EXAMPLES: &str = "\
Examples:
  jlog spool hold /var/spool/mail 18/00-00002-C6DD1CA4
  jlog spool requeue /var/spool/mail --domain example.com          due at once
  jlog spool remove -n /var/spool/mail --sender '<>' --older 3d    what would be removed
  jlog spool export /var/spool/mail --all --maildir /tmp/rescued

  jlog spool import /var/spool/mail old.mbox

Messages are named by their ids, or picked by the filters of `jlog-inspect messages`; --all takes
all there are. A spool that a process owns is refused: that process has it.";

#[derive(Debug, Args)]
pub(super) struct Spool {
    #[command(subcommand)]
    deed: Deed,
}

#[derive(Debug, Subcommand)]
enum Deed {
    /// Keep messages out of the schedule
    Hold(Pick),
    /// Put messages that are held back into the schedule
    Release(Pick),
    /// Make messages due now, or later
    Requeue {
        #[command(flatten)]
        pick: Pick,
        /// So long from now (90s, 15m, "1 day")
        #[arg(long = "in", value_name = "DURATION", value_parser = place::parse_duration)]
        wait: Option<u64>,
    },
    /// Remove messages
    #[command(visible_alias = "purge")]
    Remove(Pick),
    /// Copy messages into mail files
    Export(Export),
    /// Take messages from mail files (mbox, Maildir, .eml), or from another spool
    Import(Import),
}

#[derive(Debug, Args)]
struct Export {
    #[command(flatten)]
    pick: Pick,
    #[command(flatten)]
    to: To,
    /// Remove what is on the disk there
    #[arg(long)]
    remove: bool,
    /// Put Return-Path and Delivered-To in front of each
    #[arg(long)]
    envelope_headers: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct To {
    /// Into this Maildir, which is made where it is not there
    #[arg(long, value_name = "DIR")]
    maildir: Option<PathBuf>,
    /// Onto the end of this mbox
    #[arg(long, value_name = "FILE")]
    mbox: Option<PathBuf>,
    /// Into this folder, a file each
    #[arg(long, value_name = "DIR")]
    eml: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Import {
    /// The spool, which is made where it is not there
    #[arg(value_name = "SPOOL")]
    spool: PathBuf,
    /// An mbox, a Maildir, a folder of .eml files, or a spool
    #[arg(value_name = "FROM")]
    from: PathBuf,
    /// The domain of the queue of all messages [default: their recipients']
    #[arg(long, value_name = "DOMAIN")]
    queue: Option<String>,
    /// Who gets the messages of mail files [default: as their headers say]
    #[arg(long, value_name = "ADDRESS")]
    recipient: Vec<Address>,
    /// Give messages of a spool new ids
    #[arg(long)]
    new_ids: bool,
    /// Remove at the source what is on the disk here
    #[arg(long)]
    remove_source: bool,
    /// Import again what was imported before
    #[arg(long)]
    afresh: bool,
}

/// A spool, and which of its messages are meant.
#[derive(Debug, Args)]
struct Pick {
    /// The spool
    #[arg(value_name = "SPOOL")]
    spool: PathBuf,
    /// The messages, as in 18/00-00002-C6DD1CA4
    #[arg(value_name = "ID")]
    ids: Vec<MessageId>,
    /// All there are
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    /// Change nothing, only say which messages are meant
    #[arg(short = 'n', long)]
    dry_run: bool,
    #[command(flatten)]
    which: Which,
}

pub(super) fn run(args: &Spool) -> Outcome {
    let (pick, did) = match &args.deed {
        Deed::Hold(pick) => (pick, "held"),
        Deed::Release(pick) => (pick, "released"),
        Deed::Requeue { pick, .. } => (pick, "requeued"),
        Deed::Remove(pick) => (pick, "removed"),
        Deed::Export(export) => (&export.pick, "exported"),
        Deed::Import(import) => return import.run(),
    };
    if pick.ids.is_empty() && pick.which.is_any() && !pick.all {
        return Err(Failure::Usage("which messages? Name their ids, filter them, or say --all".to_owned()));
    }
    require(&pick.spool)?;
    if !pick.spool.exists() {
        return Err(Failure::Other(format!("{}: there is no spool", pick.spool.display())));
    }
    let _owner = owner::act_for(&pick.spool)?;
    with_console("jlog", &Common::default(), |console| {
        // An export that removes nothing only looks; it works beside an owner too.
        let looks = pick.dry_run || matches!(args.deed, Deed::Export(Export { remove: false, .. }));
        let options = SpoolOptions::new().background(false);
        let spool = if looks { options.open_read_only(&pick.spool)? } else { options.open(&pick.spool)? };
        let ids = pick.messages(console, &spool)?;
        if pick.dry_run {
            for id in &ids {
                writeln!(console, "{id}")?;
            }
            console.say(format!("would be {did}: {}", things(ids.len() as u64, "message")));
            return Ok(Exit::Fine);
        }
        let done = args.deed.carry_out(console, &spool, &ids)?;
        spool.close()?;
        console.say(format!("{did}: {}", things(done, "message")));
        Ok(if done == ids.len() as u64 && pick.has_all(&ids) { Exit::Fine } else { Exit::Problem })
    })
}

impl Pick {
    /// The messages that are meant and there, by age.
    fn messages(&self, console: &Console, spool: &::spool::Spool) -> Result<Vec<MessageId>, Failure> {
        let now = now();
        let named = |listed: &Listed| self.ids.is_empty() || self.ids.contains(&listed.id);
        let picked = spool.entries()?.filter(|listed| named(listed) && self.which.take(listed, now));
        let mut ids: Vec<MessageId> = picked.map(|listed| listed.id).collect();
        ids.sort_unstable();
        for id in self.ids.iter().filter(|id| self.which.is_any() && !ids.contains(id)) {
            console.say(SpoolError::NotFound(*id));
        }
        if !self.which.reads() {
            return Ok(ids);
        }
        let mut wanted = Vec::new();
        for id in ids {
            interrupt::check()?;
            match spool.get(id) {
                Ok(message) => {
                    let envelope = message.envelope();
                    let ends = (envelope.sender().cloned(), envelope.recipient().cloned());
                    wanted.extend(self.which.take_ends(Some(&ends)).then_some(id));
                }
                // It may be meant or not: it is left alone.
                Err(error @ SpoolError::Corrupt { .. }) => console.say(error),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(wanted)
    }

    /// Whether all that were named are there.
    fn has_all(&self, ids: &[MessageId]) -> bool {
        !self.which.is_any() || self.ids.iter().all(|id| ids.contains(id))
    }
}

impl Deed {
    /// Does it, message by message, and says to how many. A message that cannot be read is told of and passed.
    fn carry_out(
        &self,
        console: &Console,
        spool: &::spool::Spool,
        ids: &[MessageId],
    ) -> Result<u64, Failure> {
        let now = Timestamp::from(SystemTime::now());
        match self {
            Deed::Hold(_) => each(console, ids, |id| Ok(spool.hold(id, now)?)),
            Deed::Release(_) => each(console, ids, |id| Ok(spool.release(id, now)?)),
            Deed::Requeue { wait, .. } => {
                let wait = u32::try_from(wait.unwrap_or(0) / 1_000_000).unwrap_or(u32::MAX);
                each(console, ids, |id| {
                    let message = spool.get(id)?;
                    message.set_next_attempt(now.seconds.saturating_add(wait));
                    Ok(spool.update(&message, now).map(drop)?)
                })
            }
            Deed::Remove(_) => Ok(spool.remove_all(ids)? as u64),
            Deed::Export(export) => export.carry_out(console, spool, ids),
            // It has no messages to pick.
            Deed::Import(_) => Ok(0),
        }
    }
}

impl Export {
    fn carry_out(
        &self,
        console: &Console,
        spool: &::spool::Spool,
        ids: &[MessageId],
    ) -> Result<u64, Failure> {
        let To { maildir, mbox, eml } = &self.to;
        let target = match (maildir, mbox, eml) {
            (Some(dir), ..) => ExportTarget::Maildir(dir.clone()),
            (_, Some(file), _) => ExportTarget::Mbox(file.clone()),
            (_, _, Some(dir)) => ExportTarget::Eml(dir.clone()),
            (None, None, None) => return Err(Failure::Usage("where are they to go?".to_owned())),
        };
        let options = ExportOptions::new().remove(self.remove).envelope_headers(self.envelope_headers);
        let picked: BTreeSet<MessageId> = ids.iter().copied().collect();
        let report = spool.export(&target, |listed| picked.contains(&listed.id), &options, &mut |_| {})?;
        say_failures(console, &report.failures, report.progress.failed);
        if report.progress.skipped > 0 {
            console.say(format!("{} there already", things(report.progress.skipped, "message")));
        }
        Ok(report.progress.done)
    }
}

impl Import {
    fn run(&self) -> Outcome {
        if self.spool.exists() {
            require(&self.spool)?;
        }
        let source = if is_one(&self.from) { None } else { Some(Source::detect(&self.from)?) };
        let _owner = owner::act_for(&self.spool)?;
        let mut options = ImportOptions::new()
            .recipients(self.recipient.iter().cloned())
            .remove_source(self.remove_source)
            .afresh(self.afresh)
            .ids(if self.new_ids { Ids::AlwaysNew } else { Ids::KeepUnlessTaken });
        if let Some(domain) = &self.queue {
            options = options.queue(QueueKey { domain: domain.clone(), ..QueueKey::default() });
        }
        let now = Timestamp::from(SystemTime::now());
        let spool = SpoolOptions::new().background(false).open(&self.spool)?;
        with_console("jlog", &Common::default(), |console| {
            let report = match &source {
                Some(source) => spool.import_mailbox(source, &options, now, &mut |_| {})?,
                None => spool.import_spool(&self.from, &options, now, &mut |_| {})?,
            };
            spool.close()?;
            say_failures(console, &report.failures, report.progress.failed);
            let (done, before) = (report.progress.done, report.progress.skipped);
            let before = if before > 0 { format!(", {} before", count(before)) } else { String::new() };
            let accepted = things(report.accepted, "recipient");
            console.say(format!("imported: {} for {accepted}{before}", things(done, "message")));
            Ok(if report.progress.failed == 0 { Exit::Fine } else { Exit::Problem })
        })
    }
}

fn say_failures(console: &Console, failures: &[ImportFailure], all: u64) {
    for failure in failures {
        console.say(format!("{}: {}", failure.name, failure.reason));
    }
    if all > failures.len() as u64 {
        console.say(format!("and {} more", count(all - failures.len() as u64)));
    }
}

fn each(
    console: &Console,
    ids: &[MessageId],
    mut deed: impl FnMut(MessageId) -> Result<(), Failed>,
) -> Result<u64, Failure> {
    let mut done = 0;
    for id in ids {
        interrupt::check()?;
        match deed(*id) {
            Ok(()) => done += 1,
            Err(Failed::Message(error)) => console.say(error),
            Err(Failed::All(failure)) => return Err(failure),
        }
    }
    Ok(done)
}

/// What keeps one message, or all of them, from being worked on.
enum Failed {
    Message(SpoolError),
    All(Failure),
}

impl From<SpoolError> for Failed {
    fn from(error: SpoolError) -> Failed {
        match error {
            SpoolError::Corrupt { .. } | SpoolError::NotFound(_) => Failed::Message(error),
            other => Failed::All(other.into()),
        }
    }
}
