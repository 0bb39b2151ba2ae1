//! Ctrl-C: asked for once, a command stops where it does no harm; asked for twice, it ends at once.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::exit::{Exit, Failure};

static ASKED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From here on an interrupt is a question: see [`asked`].
pub(crate) fn watch() {
    let asked = ASKED.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM] {
        // In this order: the second signal finds the flag set by the first. Without handlers a signal just ends us.
        let _ = flag::register_conditional_shutdown(signal, Exit::Interrupted as i32, Arc::clone(asked));
        let _ = flag::register(signal, Arc::clone(asked));
    }
}

/// Whether the user wants an end.
pub(crate) fn asked() -> bool {
    ASKED.get().is_some_and(|asked| asked.load(Ordering::Relaxed))
}

/// An end, if the user wants one.
pub(crate) fn check() -> Result<(), Failure> {
    if asked() { Err(Failure::Interrupted) } else { Ok(()) }
}

/// How long an interrupt may go unnoticed where we wait.
const GLANCE: Duration = Duration::from_millis(100);

/// Whether a read would not wait: there is something, or the end.
pub(crate) fn has_input(input: BorrowedFd<'_>) -> bool {
    let mut inputs = [PollFd::new(input, PollFlags::POLLIN)];
    poll(&mut inputs, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Waits until there is something to read, or the input has ended.
pub(crate) fn wait_for_input(input: BorrowedFd<'_>) -> Result<(), Failure> {
    let glance = PollTimeout::try_from(GLANCE).unwrap_or(PollTimeout::ZERO);
    loop {
        check()?;
        let mut inputs = [PollFd::new(input, PollFlags::POLLIN)];
        match poll(&mut inputs, glance) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            // What is wrong with it, the read will tell.
            Ok(_) | Err(_) => return Ok(()),
        }
    }
}

/// Sleeps, and notices an interrupt.
pub(crate) fn sleep(time: Duration) -> Result<(), Failure> {
    let end = Instant::now() + time;
    loop {
        check()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(GLANCE));
    }
}
