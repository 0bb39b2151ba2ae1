//! The options that all commands share, and how a command line becomes a run.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, CommandFactory, Parser, ValueEnum};
use jlog::io::OsDisk;
use jlog::{Format, Log, Order};

use crate::console::{Console, When, say};
use crate::exit::{Exit, Failure, Outcome};
use crate::measure::Units;

/// The looks of the output.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct Common {
    /// Print JSON for programs
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Colours (NO_COLOR is obeyed)
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: When,
    /// A progress bar on standard error, after half a second
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) progress: When,
    /// Draw with ASCII characters only
    #[arg(long, global = true)]
    pub(crate) ascii: bool,
    /// How sizes are printed
    #[arg(long, global = true, default_value = "iec")]
    pub(crate) units: Units,
    /// Times in UTC instead of local time
    #[arg(long, global = true)]
    pub(crate) utc: bool,
    /// Print only what is wrong
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Print more
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
}

/// The byte order a log is read in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Endian {
    /// As the log says
    #[default]
    Auto,
    /// x86_64, most of arm
    Little,
    /// s390x, SPARC, older POWER
    Big,
}

impl Endian {
    fn order(self) -> Option<Order> {
        match self {
            Endian::Auto => None,
            Endian::Little => Some(Order::Little),
            Endian::Big => Some(Order::Big),
        }
    }
}

/// Opens a log, or one lone segment file, to look at it.
pub(crate) fn open(path: &Path, endian: Endian) -> Result<Log, Failure> {
    let disk = Arc::new(OsDisk);
    if path.is_file() {
        return Ok(Log::open_segment(disk, path, endian.order())?);
    }
    Ok(Log::open_with(disk, path, endian.order())?)
}

/// Messages are appended in batches of about so many bytes. A batch is never split in a checksummed log: larger ones
/// would make its segments larger than they are to be.
pub(crate) fn batch_bytes(log: &Log) -> Result<usize, Failure> {
    const MOST: usize = 1 << 20;
    if log.format() == Format::Classic {
        return Ok(MOST);
    }
    let quarter = log.metastore()?.unit_limit / 4;
    Ok(usize::try_from(quarter).unwrap_or(MOST).min(MOST))
}

/// The LOG of a command that takes it before or behind its name; the current directory without any.
pub(crate) fn one_log(before: Option<PathBuf>, behind: Option<PathBuf>) -> Result<PathBuf, Failure> {
    match (before, behind) {
        (Some(before), Some(behind)) => Err(Failure::Usage(format!(
            "two logs are named, {} and {}; this command takes one",
            before.display(),
            behind.display()
        ))),
        (before, behind) => Ok(before.or(behind).unwrap_or_else(|| PathBuf::from("."))),
    }
}

/// Reads the command line, runs it, and says what went wrong.
pub(crate) fn run<C: Parser>(tool: &'static str, run: impl FnOnce(C) -> Outcome) -> ExitCode {
    let command = match C::try_parse() {
        Ok(command) => command,
        Err(error) => return usage::<C>(tool, &error),
    };
    let exit = run(command).unwrap_or_else(|failure| {
        if !matches!(failure, Failure::ClosedPipe) {
            say(tool, &failure);
        }
        if matches!(failure, Failure::Usage(_)) {
            say(tool, format!("try `{tool} --help`"));
        }
        failure.exit()
    });
    exit.into()
}

/// Runs a command on its console, and brings all that it printed out.
pub(crate) fn with_console(
    tool: &'static str,
    common: &Common,
    run: impl FnOnce(&mut Console) -> Outcome,
) -> Outcome {
    let mut console = Console::new(tool, common);
    let outcome = run(&mut console);
    // A failure of the command is worth more than one of the output behind it.
    match console.flush() {
        Err(error) if outcome.is_ok() => Err(error.into()),
        _ => outcome,
    }
}

/// Help and version are asked for, and no error; anything else clap objects to is.
fn usage<C: CommandFactory>(tool: &str, error: &clap::Error) -> ExitCode {
    let _ = error.print();
    if !error.use_stderr() {
        return Exit::Fine.into();
    }
    let first = std::env::args_os().skip(1).find(|arg| !arg.as_encoded_bytes().starts_with(b"-"));
    if let Some(hint) = first.and_then(|first| mistyped::<C>(Path::new(&first))) {
        say(tool, hint);
    }
    Exit::Usage.into()
}

/// A hint for who mistyped a command: it was taken for the name of a log that is not there.
pub(crate) fn mistyped<C: CommandFactory>(log: &Path) -> Option<String> {
    let name = log.to_str()?;
    if name.is_empty() || name.contains('/') || log.exists() {
        return None;
    }
    let command = C::command();
    let near = command
        .get_subcommands()
        .flat_map(|known| std::iter::once(known.get_name()).chain(known.get_all_aliases()))
        .map(|known| (distance(name, known), known))
        .min()?;
    // A command itself is at distance 0: what is wrong then is something else.
    (1..=2)
        .contains(&near.0)
        .then(|| format!("there is no log {name:?} here; did you mean the command `{}`?", near.1))
}

/// How many letters must be changed, added or left out to make one word of another.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.chars().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}

/// The name of a subscriber as the operating system passed it.
pub(crate) fn subscriber(name: &OsString) -> Result<jlog::Subscriber, Failure> {
    use std::os::unix::ffi::OsStrExt;
    Ok(jlog::Subscriber::existing(name.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_near() {
        assert_eq!(distance("chekc", "check"), 2);
        assert_eq!(distance("sumary", "summary"), 1);
        assert_eq!(distance("", "map"), 3);
    }
}
