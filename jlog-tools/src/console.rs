//! Where a command prints: data on standard output, talk on standard error, with the looks that were asked for.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use jlog::Subscriber;

use crate::exit::Failure;
use crate::measure::{Clock, Units};
use crate::options::Common;

/// When to do something that fits a terminal and not a pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum When {
    /// On a terminal
    #[default]
    Auto,
    /// Everywhere
    Always,
    /// Nowhere
    Never,
}

/// What a colour says. The words beside it say it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Something is lost.
    Lost,
    /// Wrong, but nothing is lost by mending it.
    Mendable,
    /// As it should be.
    Healthy,
    /// Of no more interest.
    Dim,
    /// A heading.
    Strong,
}

/// The output of one run of one command.
#[derive(Debug)]
pub(crate) struct Console {
    out: BufWriter<Stdout>,
    tool: &'static str,
    colour: bool,
    /// The looks that were asked for.
    pub(crate) ascii: bool,
    pub(crate) units: Units,
    pub(crate) clock: Clock,
    pub(crate) progress: When,
    pub(crate) quiet: bool,
    pub(crate) verbose: bool,
}

impl Console {
    /// `tool` is the name that stands before everything that is said on standard error.
    pub(crate) fn new(tool: &'static str, common: &Common) -> Console {
        let colour = match common.color {
            When::Always => true,
            When::Never => false,
            When::Auto => anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never,
        };
        Console {
            out: BufWriter::with_capacity(64 * 1024, io::stdout()),
            tool,
            colour: colour && !common.json,
            ascii: common.ascii,
            units: common.units,
            clock: Clock::new(common.utc),
            progress: common.progress,
            quiet: common.quiet,
            verbose: common.verbose,
        }
    }

    /// Whether standard output is a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        io::stdout().is_terminal()
    }

    /// A remark on standard error. Nothing is done about an error there: there is nowhere left to say it.
    pub(crate) fn say(&self, text: impl std::fmt::Display) {
        say(self.tool, text);
    }

    /// The text in a tone, where colours are wanted.
    pub(crate) fn paint(&self, tone: Tone, text: impl std::fmt::Display) -> String {
        if !self.colour {
            return text.to_string();
        }
        let style = match tone {
            Tone::Lost => Style::new().fg_color(Some(AnsiColor::Red.into())),
            Tone::Mendable => Style::new().fg_color(Some(AnsiColor::Yellow.into())),
            Tone::Healthy => Style::new().fg_color(Some(AnsiColor::Green.into())),
            Tone::Dim => Style::new().dimmed(),
            Tone::Strong => Style::new().bold(),
        };
        format!("{style}{text}{style:#}")
    }

    /// One of two ways to draw the same thing.
    pub(crate) fn glyph(&self, fine: &'static str, ascii: &'static str) -> &'static str {
        if self.ascii { ascii } else { fine }
    }

    /// A JSON object, on a line of its own in a pipe, spread out on a terminal.
    pub(crate) fn json(&mut self, value: &impl serde::Serialize) -> Result<(), Failure> {
        let text = if self.is_terminal() {
            serde_json::to_string_pretty(value)?
        } else {
            serde_json::to_string(value)?
        };
        writeln!(self, "{}", printable_json(text))?;
        Ok(())
    }
}

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A remark on standard error, behind the name of the tool.
pub(crate) fn say(tool: &str, text: impl std::fmt::Display) {
    let text = printable(&text.to_string());
    let _ = writeln!(io::stderr(), "{tool}: {text}");
}

/// The text without characters that move a terminal's cursor, switch its colours or turn its writing around.
pub(crate) fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\n' || !is_unsafe(c) { printable.push(c) } else { printable.extend(c.escape_default()) }
    }
    printable
}

/// JSON in which no string holds a character that drives a terminal: all of them have an escape of four digits, and JSON
/// itself asks for it below 0x20 only.
pub(crate) fn printable_json(text: String) -> String {
    if text.bytes().all(|byte| byte < 0x7f) {
        return text;
    }
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\n' || !is_unsafe(c) {
            printable.push(c);
        } else {
            printable.push_str(&format!("\\u{:04x}", u32::from(c)));
        }
    }
    printable
}

/// The name of a subscriber on a line with other things: the empty one can be seen, a long one is cut.
pub(crate) fn name(subscriber: &Subscriber, longest: usize) -> String {
    let name = printable(&subscriber.to_string());
    if name.is_empty() {
        return "(empty name)".to_owned();
    }
    if name.chars().count() <= longest {
        return name;
    }
    let mut cut: String = name.chars().take(longest.saturating_sub(3)).collect();
    cut.push_str("...");
    cut
}

/// Control characters, and the invisible ones that change the direction of what follows.
pub(crate) fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_said_can_drive_the_terminal() {
        assert_eq!(printable_json("\"a\u{9b}\u{7f}\u{202e}\"\n".to_owned()), "\"a\\u009b\\u007f\\u202e\"\n");
        assert_eq!(printable("a\x1b[2Jb\u{9b}c\u{202e}d\ne"), "a\\u{1b}[2Jb\\u{9b}c\\u{202e}d\ne");
    }
}
