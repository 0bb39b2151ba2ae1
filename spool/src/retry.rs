//! When a message that was not delivered is tried again, and when it no longer is.
//!
//! Momentum's rule: waits that double from an interval up to a longest one, until the message is too old or was tried
//! too often. With the defaults, 20 minutes and 12 hours, for a day:
//!
//! ```text
//! failure          1      2      3      4      5      6       7   8
//! wait          1200   2400   4800   9600  19200  38400   43200   expired
//! next attempt  1200   3600   8400  18000  37200  75600  118800   seconds after the first
//! ```
//!
//! Times are seconds since the Unix epoch, and arguments: nothing here knows the clock.

use std::fmt;

/// How long a message of some queue is tried, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Seconds to wait after the first failure.
    pub retry_interval: u32,
    /// Seconds that a wait grows to at most. It does not shorten a fixed one.
    pub max_retry_interval: u32,
    /// Whether every wait is `retry_interval`.
    pub fixed: bool,
    /// Seconds after its creation from which on a message is given up.
    pub message_expiration: u32,
    /// How often a message is tried again.
    pub max_retries: MaxRetries,
    /// Gives a message up at its first failure.
    pub never_retry: bool,
}

/// How often a message is tried again. Its first attempt does not count; one that was forced by hand does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MaxRetries {
    /// As often as waits fit in the time until it expires: [`RetryPolicy::auto_retries`].
    #[default]
    Auto,
    /// Without a limit but the message's age.
    None,
    /// This often.
    Number(u32),
}

/// What becomes of a message after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextAttempt {
    /// It is tried again at this time.
    At(u32),
    /// It has failed for good.
    Expired(Reason),
}

/// Why a message is given up. Prints as the reply that Momentum logs for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Its queue retries nothing.
    NeverRetried,
    /// It is `message_expiration` seconds old.
    TooOld,
    /// It was tried again as often as `max_retries` says.
    TooManyRetries,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::NeverRetried | Reason::TooManyRetries => {
                "554 5.4.7 [internal] exceeded max retries without delivery"
            }
            Reason::TooOld => "554 5.4.7 [internal] exceeded max time without delivery",
        })
    }
}

impl Default for RetryPolicy {
    /// Momentum's defaults: 20 minutes doubling up to 12 hours, for one day.
    fn default() -> RetryPolicy {
        RetryPolicy {
            retry_interval: 1200,
            max_retry_interval: 43_200,
            fixed: false,
            message_expiration: 86_400,
            max_retries: MaxRetries::Auto,
            never_retry: false,
        }
    }
}

impl RetryPolicy {
    /// What becomes of a message that was created at `created` and failed at `now` for the `attempts`th time, this
    /// time included. All its attempts but the first were retries.
    ///
    /// `spread` seconds are added to the wait, so that what failed together is not tried together: see [`Jitter`].
    /// A time past the last one of 32 bits is that one. A message created after `now` (a clock went back) is new.
    pub fn next(&self, created: u32, attempts: u32, now: u32, spread: u32) -> NextAttempt {
        if self.never_retry {
            return NextAttempt::Expired(Reason::NeverRetried);
        }
        if now.saturating_sub(created) >= self.message_expiration {
            return NextAttempt::Expired(Reason::TooOld);
        }
        let most = match self.max_retries {
            MaxRetries::Auto => Some(self.auto_retries()),
            MaxRetries::None => None,
            MaxRetries::Number(number) => Some(number),
        };
        let retries = attempts.saturating_sub(1);
        if most.is_some_and(|most| retries >= most) {
            return NextAttempt::Expired(Reason::TooManyRetries);
        }
        NextAttempt::At(now.saturating_add(self.wait(attempts)).saturating_add(spread))
    }

    /// Seconds to wait after failure number `attempts`, the first of which is 1; no attempt counts as the first.
    pub fn wait(&self, attempts: u32) -> u32 {
        if self.fixed {
            return self.retry_interval;
        }
        let doublings = attempts.saturating_sub(1);
        let factor = 1u32.checked_shl(doublings).unwrap_or(u32::MAX);
        self.retry_interval.saturating_mul(factor).min(self.max_retry_interval)
    }

    /// What [`MaxRetries::Auto`] stands for: the smallest number of waits that together are no shorter than
    /// `message_expiration`. Tried at its times, a message is too old no earlier and no later than it was tried too
    /// often. `u32::MAX` if the waits are 0 seconds long.
    ///
    /// Momentum does not say how it rounds; this is our choice.
    pub fn auto_retries(&self) -> u32 {
        let mut left = self.message_expiration;
        let mut retries = 0;
        while left > 0 {
            let wait = self.wait(retries + 1);
            if wait == self.wait(retries + 2) {
                // From here on every wait is this long.
                let rest = if wait == 0 { u32::MAX } else { left.div_ceil(wait) };
                return rest.saturating_add(retries);
            }
            left = left.saturating_sub(wait);
            retries += 1;
        }
        retries
    }
}

/// Spreads what failed together: the same offset for the same seed, queue and turn, and another for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Jitter {
    seed: u64,
    ceiling: u32,
}

impl Jitter {
    /// Offsets from 0 up to but without `ceiling` seconds; 0 gives none but 0.
    pub fn new(seed: u64, ceiling: u32) -> Jitter {
        Jitter { seed, ceiling }
    }

    /// The offset in seconds for the `turn`th message that a queue puts off; the queue is named by its key's bytes.
    pub fn spread(&self, queue: &[u8], turn: u64) -> u32 {
        // FNV-1a makes one number of the key, and the finish of SplitMix64 makes each of its bits count everywhere.
        let key = queue.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let mixed = mix(mix(self.seed ^ key).wrapping_add(turn));
        // The high bits of the product are `mixed` scaled to the ceiling, and below it.
        ((u128::from(mixed) * u128::from(self.ceiling)) >> 64) as u32
    }
}

fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use NextAttempt::{At, Expired};
    use proptest::prelude::*;
    use std::collections::HashSet;

    const CREATED: u32 = 1_000_000;

    fn unlimited() -> RetryPolicy {
        RetryPolicy { max_retries: MaxRetries::None, ..RetryPolicy::default() }
    }

    #[test]
    fn five_doublings_of_1200_seconds_are_37200() {
        let waits: Vec<u32> = (1..=5).map(|attempt| RetryPolicy::default().wait(attempt)).collect();
        assert_eq!(waits, [1200, 2400, 4800, 9600, 19200]);
        assert_eq!(waits.iter().sum::<u32>(), 37_200);
    }

    #[test]
    fn a_message_tried_at_its_times_is_tried_as_the_table_says_and_expires_with_its_age() {
        let policy = RetryPolicy::default();
        let (mut now, mut times) = (CREATED, Vec::new());
        for attempts in 1.. {
            match policy.next(CREATED, attempts, now, 0) {
                At(next) => now = next,
                Expired(reason) => {
                    assert_eq!((reason, attempts), (Reason::TooOld, 8));
                    break;
                }
            }
            times.push(now - CREATED);
        }
        assert_eq!(times, [1200, 3600, 8400, 18_000, 37_200, 75_600, 118_800]);
    }

    #[test]
    fn a_wait_grows_to_the_longest_one_and_no_further() {
        let policy = RetryPolicy { max_retry_interval: 4800, ..RetryPolicy::default() };
        assert_eq!(
            [2, 3, 4, 33, 34, u32::MAX].map(|attempt| policy.wait(attempt)),
            [2400, 4800, 4800, 4800, 4800, 4800]
        );
        let between = RetryPolicy { max_retry_interval: 4799, ..policy };
        assert_eq!([2, 3].map(|attempt| between.wait(attempt)), [2400, 4799]);
        assert_eq!(RetryPolicy::default().wait(0), 1200);
    }

    #[test]
    fn a_fixed_wait_does_not_grow() {
        let policy = RetryPolicy { fixed: true, max_retry_interval: 60, ..RetryPolicy::default() };
        assert_eq!([1, 2, 40].map(|attempt| policy.wait(attempt)), [1200; 3]);
        assert_eq!(policy.auto_retries(), 72);
    }

    #[test]
    fn a_message_expires_in_the_second_in_which_it_is_old_enough() {
        let policy = unlimited();
        assert_eq!(policy.next(CREATED, 1, CREATED + 86_399, 0), At(CREATED + 86_399 + 1200));
        assert_eq!(policy.next(CREATED, 1, CREATED + 86_400, 0), Expired(Reason::TooOld));
        let at_once = RetryPolicy { message_expiration: 0, ..policy };
        assert_eq!(at_once.next(CREATED, 1, CREATED, 0), Expired(Reason::TooOld));
    }

    #[test]
    fn a_message_from_the_future_is_new() {
        assert_eq!(unlimited().next(CREATED, 1, CREATED - 1, 0), At(CREATED - 1 + 1200));
    }

    #[test]
    fn the_last_retry_is_the_one_before_the_limit() {
        let policy = RetryPolicy { max_retries: MaxRetries::Number(3), ..RetryPolicy::default() };
        assert_eq!(policy.next(CREATED, 3, CREATED, 0), At(CREATED + 4800));
        assert_eq!(policy.next(CREATED, 4, CREATED, 0), Expired(Reason::TooManyRetries));
        let none = RetryPolicy { max_retries: MaxRetries::Number(0), ..policy };
        assert_eq!(none.next(CREATED, 1, CREATED, 0), Expired(Reason::TooManyRetries));
        assert_eq!(unlimited().next(CREATED, u32::MAX, CREATED, 0), At(CREATED + 43_200));
    }

    #[test]
    fn retries_forced_by_hand_expire_a_young_message() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.next(CREATED, 7, CREATED + 60, 0), At(CREATED + 60 + 43_200));
        assert_eq!(policy.next(CREATED, 8, CREATED + 60, 0), Expired(Reason::TooManyRetries));
    }

    #[test]
    fn what_is_never_retried_has_failed_at_once_and_says_so() {
        let policy = RetryPolicy { never_retry: true, ..RetryPolicy::default() };
        let reason = Reason::NeverRetried;
        assert_eq!(policy.next(CREATED, 1, CREATED, 0), Expired(reason));
        assert_eq!(reason.to_string(), "554 5.4.7 [internal] exceeded max retries without delivery");
        assert_eq!(Reason::TooOld.to_string(), "554 5.4.7 [internal] exceeded max time without delivery");
    }

    #[test]
    fn times_end_where_32_bits_do() {
        let policy = unlimited();
        assert_eq!(policy.next(u32::MAX - 1200, 1, u32::MAX - 1200, 0), At(u32::MAX));
        assert_eq!(policy.next(u32::MAX - 1, 1, u32::MAX - 1, u32::MAX), At(u32::MAX));
        let long = RetryPolicy { retry_interval: u32::MAX, max_retry_interval: u32::MAX, ..policy };
        assert_eq!(long.next(CREATED, 2, CREATED, 0), At(u32::MAX));
    }

    #[test]
    fn the_spread_comes_on_top_of_the_wait() {
        assert_eq!(unlimited().next(CREATED, 2, CREATED, 17), At(CREATED + 2400 + 17));
    }

    #[test]
    fn auto_is_the_first_number_of_waits_that_reach_the_expiration() {
        let retries =
            |message_expiration| RetryPolicy { message_expiration, ..RetryPolicy::default() }.auto_retries();
        assert_eq!([0, 1, 1200, 1201, 3600, 3601, 37_200, 37_201].map(retries), [0, 1, 1, 2, 2, 3, 5, 6]);
        assert_eq!([86_400, 118_800, 118_801, 162_000, 162_001].map(retries), [7, 7, 8, 8, 9]);
        assert_eq!(retries(604_800), 19); // the expiration in the file that Momentum ships
        let no_wait = RetryPolicy { retry_interval: 0, ..RetryPolicy::default() };
        assert_eq!(no_wait.auto_retries(), u32::MAX);
    }

    #[test]
    fn an_offset_is_below_the_ceiling_and_depends_on_seed_queue_and_turn() {
        let jitter = Jitter::new(1, 1 << 30);
        let offsets = [
            jitter.spread(b"example.com", 0),
            jitter.spread(b"example.com", 1),
            jitter.spread(b"example.org", 0),
            Jitter::new(2, 1 << 30).spread(b"example.com", 0),
        ];
        assert_eq!(HashSet::from(offsets).len(), 4);
        assert_eq!(jitter.spread(b"example.com", 0), offsets[0]);
        assert_eq!(Jitter::new(1, 0).spread(b"example.com", 0), 0);
    }

    #[test]
    fn the_offsets_of_one_queue_fill_the_range() {
        let jitter = Jitter::new(7, 10);
        let seen: HashSet<u32> = (0..1000).map(|turn| jitter.spread(b"example.com", turn)).collect();
        assert_eq!(seen, (0..10).collect());
    }

    proptest! {
        #[test]
        fn auto_is_what_adding_the_waits_up_gives(
            retry_interval in 1u32..5000, max_retry_interval in 1u32..50_000, message_expiration in 0u32..1_000_000, fixed: bool
        ) {
            let policy = RetryPolicy { retry_interval, max_retry_interval, message_expiration, fixed, ..RetryPolicy::default() };
            let auto = policy.auto_retries();
            let sum = |retries: u32| (1..=retries).map(|n| u64::from(policy.wait(n))).sum::<u64>();
            prop_assert!(sum(auto) >= u64::from(message_expiration));
            prop_assert!(auto == 0 || sum(auto - 1) < u64::from(message_expiration));
        }

        #[test]
        fn no_numbers_overflow(
            numbers: [u32; 3], created: u32, attempts: u32, now: u32, spread: u32, fixed: bool
        ) {
            let [retry_interval, max_retry_interval, message_expiration] = numbers;
            let policy = RetryPolicy { retry_interval, max_retry_interval, message_expiration, fixed, ..RetryPolicy::default() };
            if let At(next) = policy.next(created, attempts, now, spread) {
                prop_assert!(next >= now);
            }
        }
    }
}
