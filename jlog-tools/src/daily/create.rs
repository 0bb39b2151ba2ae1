//! `jlog create`: a new log, with its subscribers.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use jlog::{Compression, CreateOptions, Log, Safety, Start, Subscriber, WriterOptions};

use crate::exit::{Exit, Outcome};
use crate::measure::parse_size_32;

pub(super) const EXAMPLES: &str = "\
Examples:
  jlog create /var/spool/events
  jlog create /var/spool/events --segment-size 64MiB --compress lz4 --subscriber billing

Without a subscriber nothing is ever removed: add them before the first message, or with --at begin.";

#[derive(Debug, Args)]
pub(super) struct Create {
    /// The log to make; nothing may be there yet
    #[arg(value_name = "LOG")]
    log: PathBuf,
    /// The size at which a segment is finished (4096, 64k, 4MiB)
    #[arg(long, value_name = "SIZE", default_value = "4MiB", value_parser = parse_size_32)]
    segment_size: u32,
    /// What is synced when
    #[arg(long, value_name = "LEVEL", default_value = "meta")]
    safety: Level,
    /// How messages are stored
    #[arg(long, value_name = "HOW", default_value = "none")]
    compress: How,
    /// The size of the pre_commit buffer, which is made now
    #[arg(long, value_name = "SIZE", value_parser = parse_size_32)]
    precommit: Option<u32>,
    /// A subscriber, from the first message on; may be given several times
    #[arg(long, value_name = "NAME")]
    subscriber: Vec<OsString>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Level {
    /// Finished segments only
    None,
    /// Also names and the metastore, when a segment is finished
    Meta,
    /// Every append and every checkpoint
    Full,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum How {
    /// As they are
    None,
    /// One LZ4 block each
    Lz4,
    /// As they are, with the header of compressed ones
    Null,
}

pub(super) fn run(args: &Create) -> Outcome {
    // A wrong name is found before anything is made.
    let names: Vec<_> =
        args.subscriber.iter().map(|name| Subscriber::new(name.as_bytes())).collect::<jlog::Result<_>>()?;
    let options = CreateOptions::classic()
        .segment_size(args.segment_size)
        .safety(match args.safety {
            Level::None => Safety::Unsafe,
            Level::Meta => Safety::AlmostSafe,
            Level::Full => Safety::Safe,
        })
        .compression(match args.compress {
            How::None => Compression::None,
            How::Lz4 => Compression::Lz4,
            How::Null => Compression::Null,
        });
    let log = Log::create_with(&args.log, &options)?;
    for name in &names {
        log.add_subscriber(name, Start::Begin)?;
    }
    if let Some(bytes) = args.precommit {
        log.writer_with(&WriterOptions::new().buffer(bytes))?.close()?;
    }
    Ok(Exit::Fine)
}
