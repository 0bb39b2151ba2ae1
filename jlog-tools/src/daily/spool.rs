//! `jlog spool`: what an operator does with the messages of a spool that no process owns.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ::spool::mailbox::{Delivered, Maildir, MboxWriter};
use ::spool::{Listed, MessageId, SpoolError, SpoolOptions, Timestamp};
use clap::{Args, Subcommand};

use crate::console::Console;
use crate::exit::{Exit, Failure, Outcome};
use crate::inspect::spool::{Which, now, require};
use crate::interrupt;
use crate::measure::things;
use crate::options::{Common, with_console};
use crate::owner;
use crate::place;

pub(super) const EXAMPLES: &str = "\
Examples:
  jlog spool hold /var/spool/mail 18/00-00002-C6DD1CA4
  jlog spool requeue /var/spool/mail --domain example.com          due at once
  jlog spool remove -n /var/spool/mail --sender '<>' --older 3d    what would be removed
  jlog spool export /var/spool/mail --all --maildir /tmp/rescued

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
    /// Copy messages into a mailbox; the spool keeps them
    Export {
        #[command(flatten)]
        pick: Pick,
        /// Into this Maildir, which is made where it is not there
        #[arg(long, value_name = "DIR", required_unless_present = "mbox", conflicts_with = "mbox")]
        maildir: Option<PathBuf>,
        /// Onto the end of this mbox
        #[arg(long, value_name = "FILE")]
        mbox: Option<PathBuf>,
    },
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
        Deed::Export { pick, .. } => (pick, "exported"),
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
        // An export only looks; it works beside an owner too.
        let looks = pick.dry_run || matches!(args.deed, Deed::Export { .. });
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
            Deed::Export { maildir: Some(dir), .. } => to_maildir(console, spool, ids, dir),
            Deed::Export { mbox, .. } => {
                let mut mbox = MboxWriter::open(mbox.as_deref().unwrap_or(Path::new("mbox")))?;
                let done = each(console, ids, |id| {
                    let message = spool.get(id)?;
                    let sender = message.envelope().sender().map(ToString::to_string).unwrap_or_default();
                    mbox.append(&sender, message.created(), &mut message.body()?)?;
                    Ok(())
                })?;
                mbox.sync()?;
                Ok(done)
            }
        }
    }
}

fn to_maildir(
    console: &Console,
    spool: &::spool::Spool,
    ids: &[MessageId],
    dir: &Path,
) -> Result<u64, Failure> {
    let mut maildir = Maildir::create(dir)?;
    each(console, ids, |id| {
        let delivered = maildir.deliver(&mut spool.get(id)?.body()?, &id.to_string())?;
        if matches!(delivered, Delivered::AlreadyThere) {
            console.say(format!("message {id} is in the Maildir already"));
        }
        Ok(())
    })
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

impl From<::spool::mailbox::Error> for Failed {
    fn from(error: ::spool::mailbox::Error) -> Failed {
        Failed::All(error.into())
    }
}
