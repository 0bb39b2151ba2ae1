//! How threads may interleave: group commit in every order of two or three threads (loom), and the whole writer, beside
//! readers and other writers, in many orders of more (shuttle). `.ci/interleavings` runs them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[cfg(loom)]
mod every;
#[cfg(shuttle)]
mod many;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Runs a model, and says in how many orders, or in which one of them it has failed.
fn counted(check: impl FnOnce(Arc<AtomicU32>)) {
    let orders = Arc::new(AtomicU32::new(0));
    let outcome = catch_unwind(AssertUnwindSafe(|| check(Arc::clone(&orders))));
    let orders = orders.load(Ordering::Relaxed);
    match outcome {
        Ok(()) => println!("{orders} orders"),
        Err(panic) => {
            println!("failed in order {orders}");
            resume_unwind(panic);
        }
    }
}
