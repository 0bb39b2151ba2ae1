//! `jlog alter`: changes what may be changed of a log that is there.

use std::path::PathBuf;

use clap::Args;
use jlog::{Durability, Format, Log};

use super::settings::{Keeping, Level, parse_durability, refuse_safety, require_fit};
use crate::exit::{Exit, Failure, Outcome};
use crate::measure::parse_size_32;
use crate::owner;

pub(super) const EXAMPLES: &str = "\
Examples:
  jlog alter /var/spool/events --durability group:2ms
  jlog alter /var/spool/events --quota 10GiB --when-full drop-oldest
  jlog alter /var/spool/events --quota off --segment-size 16MiB

Writers that are running take the segment size with their next segment, and the durability when they are
started again. How things stand: jlog-inspect meta LOG.";

#[derive(Debug, Args)]
pub(super) struct Alter {
    /// The log
    #[arg(value_name = "LOG")]
    log: PathBuf,
    /// The size at which later segments are finished (4096, 64k, 4MiB)
    #[arg(long, value_name = "SIZE", value_parser = parse_size_32)]
    segment_size: Option<u32>,
    /// What an acknowledgement promises: sync, group:2ms, interval:1s, process
    #[arg(long, value_name = "WHAT", value_parser = parse_durability, conflicts_with = "safety")]
    durability: Option<Durability>,
    /// What is synced when, in libjlog's words (classic logs)
    #[arg(long, value_name = "LEVEL")]
    safety: Option<Level>,
    #[command(flatten)]
    keeping: Keeping,
}

/// All that is asked for is looked at before anything is changed.
pub(super) fn run(args: &Alter) -> Outcome {
    let _owner = owner::act_for(&args.log)?;
    let log = Log::open(&args.log)?;
    let format = log.format();
    require_fit(args.durability, format)?;
    refuse_safety(format, args.safety.is_some())?;
    args.keeping.refuse(format)?;
    let retention = match format {
        Format::Checksummed if args.keeping.is_given() => {
            let size = args.segment_size.map_or_else(|| log.metastore().map(|meta| meta.unit_limit), Ok)?;
            Some(args.keeping.applied_to(log.retention()?, size)?)
        }
        _ => None,
    };
    if args.segment_size.is_none()
        && args.durability.is_none()
        && args.safety.is_none()
        && retention.is_none()
    {
        return Err(Failure::Usage("there is nothing to change: say what".to_owned()));
    }

    if let Some(size) = args.segment_size {
        log.set_segment_size(size)?;
    }
    if let Some(durability) = args.durability {
        log.set_durability(durability)?;
    }
    if let Some(level) = args.safety {
        log.set_safety(level.safety())?;
    }
    if let Some(retention) = retention {
        log.set_retention(retention)?;
    }
    Ok(Exit::Fine)
}
