//! What threads share locks by, wait with, and measure time with: the standard library's.
//!
//! Builds that try out how threads may interleave (`.ci/interleavings`) put a checker's in their place: loom's or
//! shuttle's, which decide at each of them who goes on. There, time stands still, and whoever waits for a limited time
//! lets the others go on for a moment.

#[cfg(not(all(test, any(loom, shuttle))))]
pub(crate) use std::{
    sync::{Condvar, Mutex, MutexGuard},
    thread,
    time::Instant,
};

#[cfg(all(test, any(loom, shuttle)))]
pub(crate) use self::interleaved::{Condvar, Instant, Mutex, MutexGuard, thread};

#[cfg(all(test, any(loom, shuttle)))]
mod interleaved {
    use std::ops::{Deref, DerefMut};
    use std::sync::{LockResult, PoisonError, TryLockError, TryLockResult};
    use std::time::Duration;

    #[cfg(loom)]
    use loom as checker;
    #[cfg(not(loom))]
    use shuttle as checker;

    pub(crate) mod thread {
        pub(crate) use super::checker::thread::*;

        #[cfg(loom)]
        pub(crate) fn sleep(_: std::time::Duration) {
            yield_now();
        }
    }

    // Wrapped, because the checkers' own never stop waiting, and their guards do not tell what they guard.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(checker::sync::Mutex<T>);

    #[derive(Debug)]
    pub(crate) struct MutexGuard<'a, T> {
        of: &'a Mutex<T>,
        guard: checker::sync::MutexGuard<'a, T>,
    }

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Mutex<T> {
            Mutex(checker::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
            Ok(MutexGuard { of: self, guard: self.0.lock().unwrap_or_else(PoisonError::into_inner) })
        }

        pub(crate) fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
            match self.0.try_lock() {
                Ok(guard) => Ok(MutexGuard { of: self, guard }),
                Err(_) => Err(TryLockError::WouldBlock),
            }
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.guard
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            &mut self.guard
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct Condvar(checker::sync::Condvar);

    /// The time is always over.
    pub(crate) struct TimedOut;

    impl TimedOut {
        pub(crate) fn timed_out(&self) -> bool {
            true
        }
    }

    impl Condvar {
        pub(crate) fn new() -> Condvar {
            Condvar::default()
        }

        pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
            let MutexGuard { of, guard } = guard;
            Ok(MutexGuard { of, guard: self.0.wait(guard).unwrap_or_else(PoisonError::into_inner) })
        }

        pub(crate) fn wait_timeout<'a, T>(
            &self,
            guard: MutexGuard<'a, T>,
            _: Duration,
        ) -> LockResult<(MutexGuard<'a, T>, TimedOut)> {
            let of = guard.of;
            drop(guard);
            thread::yield_now();
            Ok((of.lock().unwrap_or_else(PoisonError::into_inner), TimedOut))
        }

        pub(crate) fn wait_timeout_while<'a, T>(
            &self,
            mut guard: MutexGuard<'a, T>,
            at_most: Duration,
            mut while_true: impl FnMut(&mut T) -> bool,
        ) -> LockResult<(MutexGuard<'a, T>, TimedOut)> {
            if while_true(&mut guard) { self.wait_timeout(guard, at_most) } else { Ok((guard, TimedOut)) }
        }

        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }
    }

    /// A time: always the same.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Instant;

    impl Instant {
        pub(crate) fn now() -> Instant {
            Instant
        }

        pub(crate) fn elapsed(self) -> Duration {
            Duration::ZERO
        }
    }
}
