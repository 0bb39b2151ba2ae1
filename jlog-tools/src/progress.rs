//! A progress bar on standard error, for what takes longer than half a second.

use std::io::{self, IsTerminal};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use jlog::inspect::Progress;

use crate::console::{Console, When, say};
use crate::interrupt;

/// What takes less is not worth a bar.
const PATIENCE: Duration = Duration::from_millis(500);

/// The bar of one piece of work. Gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Bar {
    started: Instant,
    shown: Shown,
    /// Percents told of where there is no terminal to draw on.
    told: u64,
}

#[derive(Debug)]
enum Shown {
    Never,
    NotYet,
    Drawn(ProgressBar),
    /// Without a terminal: a line every ten percent.
    Lines,
}

impl Bar {
    pub(crate) fn new(console: &Console) -> Bar {
        let shown = match console.progress {
            When::Never => Shown::Never,
            When::Auto if !io::stderr().is_terminal() => Shown::Never,
            When::Auto => Shown::NotYet,
            When::Always if io::stderr().is_terminal() => Shown::NotYet,
            When::Always => Shown::Lines,
        };
        Bar { started: Instant::now(), shown, told: 0 }
    }

    /// So much of so much is done. Breaks the work off if the user wants an end.
    pub(crate) fn tell(&mut self, progress: Progress) -> ControlFlow<()> {
        let Progress { done, total } = progress;
        match &self.shown {
            Shown::NotYet if self.started.elapsed() >= PATIENCE => {
                let bar = ProgressBar::new(total);
                if let Ok(style) = ProgressStyle::with_template(
                    "{bar:40} {percent:>3} %  {binary_bytes} of {binary_total_bytes}  {eta} left",
                ) {
                    bar.set_style(style);
                }
                bar.set_position(done);
                self.shown = Shown::Drawn(bar);
            }
            Shown::Drawn(bar) => {
                bar.set_length(total);
                bar.set_position(done);
            }
            Shown::Lines => {
                let percent = done.saturating_mul(100) / total.max(1);
                if percent >= self.told + 10 {
                    self.told = percent;
                    say("progress", format!("{percent} %"));
                }
            }
            Shown::Never | Shown::NotYet => {}
        }
        if interrupt::asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Shown::Drawn(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}
