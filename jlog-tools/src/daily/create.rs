//! `jlog create`: a new log, with its subscribers.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::SystemTime;

use clap::{Args, ValueEnum};
use jlog::{
    Compression, CreateOptions, Durability, Format, Log, Retention, Start, Subscriber, Timestamp,
    WriterOptions,
};

use super::settings::{FormatName, Keeping, Level, parse_durability, refuse_safety, require_fit};
use crate::exit::{Exit, Failure, Outcome};
use crate::measure::parse_size_32;

pub(super) const EXAMPLES: &str = "\
Examples:
  jlog create /var/spool/events
  jlog create /var/spool/events --segment-size 64MiB --compress lz4 --subscriber billing
  jlog create /var/spool/events --durability group:2ms --quota 10GiB --when-full block
  jlog create /var/spool/jlog --format classic --safety meta      for libjlog's processes

Without a subscriber nothing is ever removed: add them before the first message, or with --at begin.
What can be changed later: jlog alter LOG.";

#[derive(Debug, Args)]
pub(super) struct Create {
    /// The log to make; nothing may be there yet
    #[arg(value_name = "LOG")]
    log: PathBuf,
    /// The format of its files, for its whole life
    #[arg(long, value_name = "FORMAT", default_value = "checksummed")]
    format: FormatName,
    /// The size at which a segment is finished (4096, 64k, 4MiB)
    #[arg(long, value_name = "SIZE", default_value = "4MiB", value_parser = parse_size_32)]
    segment_size: u32,
    /// What an acknowledgement promises: sync (it is on the disk), group:2ms (so too, and a writer waits so long
    /// for others to share the sync), interval:1s (it is on the disk within that time), process (it survives
    /// the process, not the machine) [default: sync; of a classic log, --safety]
    #[arg(long, value_name = "WHAT", value_parser = parse_durability, conflicts_with = "safety")]
    durability: Option<Durability>,
    /// What is synced when, in libjlog's words (classic logs) [default: meta]
    #[arg(long, value_name = "LEVEL")]
    safety: Option<Level>,
    /// How messages are stored
    #[arg(long, value_name = "HOW", default_value = "none")]
    compress: How,
    /// The size of the pre_commit buffer, which is made now (classic logs)
    #[arg(long, value_name = "SIZE", value_parser = parse_size_32)]
    precommit: Option<u32>,
    /// A subscriber, from the first message on; may be given several times
    #[arg(long, value_name = "NAME")]
    subscriber: Vec<OsString>,
    #[command(flatten)]
    keeping: Keeping,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum How {
    /// As they are
    None,
    /// One LZ4 block each
    Lz4,
    /// As they are, with the header of compressed ones (classic logs)
    Null,
}

pub(super) fn run(args: &Create) -> Outcome {
    let options = options(args)?;
    // A wrong name is found before anything is made.
    let names: Vec<_> =
        args.subscriber.iter().map(|name| Subscriber::new(name.as_bytes())).collect::<jlog::Result<_>>()?;
    let log = Log::create_with(&args.log, &options)?;
    for name in &names {
        log.add_subscriber(name, Start::Begin)?;
    }
    if let Some(bytes) = args.precommit {
        log.writer_with(&WriterOptions::new().buffer(bytes))?.close()?;
    }
    Ok(Exit::Fine)
}

/// What was asked for, if it makes sense together.
fn options(args: &Create) -> Result<CreateOptions, Failure> {
    let format = args.format.format();
    require_fit(args.durability, format)?;
    refuse_safety(format, args.safety.is_some())?;
    args.keeping.refuse(format)?;
    if format == Format::Checksummed && args.precommit.is_some() {
        let what = "a checksummed log has no pre_commit buffer: its writers share syncs instead; \
                    --precommit is for --format classic";
        return Err(Failure::Usage(what.to_owned()));
    }
    if format == Format::Checksummed && args.compress == How::Null {
        let what = "--compress null is libjlog's, for --format classic; here it would be none";
        return Err(Failure::Usage(what.to_owned()));
    }
    let options = match format {
        Format::Checksummed => CreateOptions::new()
            .retention(args.keeping.applied_to(Retention::default(), args.segment_size)?)
            .created(Timestamp::from(SystemTime::now())),
        Format::Classic => CreateOptions::classic(),
    };
    let options = options.segment_size(args.segment_size).compression(match args.compress {
        How::None => Compression::None,
        How::Lz4 => Compression::Lz4,
        How::Null => Compression::Null,
    });
    Ok(match (args.durability, args.safety) {
        (Some(durability), _) => options.durability(durability),
        (None, Some(level)) => options.safety(level.safety()),
        (None, None) => options,
    })
}
