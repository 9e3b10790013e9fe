//! What to do when somebody else holds the lock.

use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};

/// What an acquire does when the seats are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Conflict {
    /// Waits in the queue.
    #[default]
    Wait,
    /// Ends at once with `Busy`.
    Fail,
    /// Takes the lock from a holder that has given no sign of life for `after`, then waits in the
    /// queue behind whoever waits already.
    ///
    /// A holder that renews is never stale before two of its renewals are missing, however short
    /// `after` is.
    StealStale {
        /// How long a holder may be silent.
        after: Duration,
    },
    /// Takes the lock from whoever holds it, past the queue. For operators.
    Force,
}

impl Conflict {
    /// After how much silence a holder counts as stale, when nothing else is said.
    pub const STALE_AFTER: Duration = Duration::from_secs(300);
}

/// How often and how fast an acquire tries instead of waiting in the queue.
///
/// With it an acquire does not queue: it tries `max_attempts` times and ends `Busy`. The delays
/// grow by `backoff_multiplier` from `initial_delay` to `max_delay`; each is shortened at random
/// by up to a half, so that those who collided do not collide again.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RetryConfig {
    /// How often it tries, the first time included; at least 1.
    pub max_attempts: u32,
    /// The delay after the first attempt.
    pub initial_delay: Duration,
    /// The longest delay.
    pub max_delay: Duration,
    /// By what the delay grows; at least 1.0.
    pub backoff_multiplier: f64,
}

impl Default for RetryConfig {
    /// 10 attempts, 100 ms doubling to 3.2 s.
    fn default() -> Self {
        Self {
            max_attempts: 10,
            initial_delay: Duration::from_millis(100),
            max_delay: Duration::from_millis(3200),
            backoff_multiplier: 2.0,
        }
    }
}

impl RetryConfig {
    /// One attempt.
    pub fn no_retry() -> Self {
        Self { max_attempts: 1, ..Self::default() }
    }

    /// 50 attempts, 10 ms growing by half to 500 ms.
    pub fn aggressive() -> Self {
        Self {
            max_attempts: 50,
            initial_delay: Duration::from_millis(10),
            max_delay: Duration::from_millis(500),
            backoff_multiplier: 1.5,
        }
    }

    /// 5 attempts, 1 s doubling to 16 s.
    pub fn patient() -> Self {
        Self {
            max_attempts: 5,
            initial_delay: Duration::from_secs(1),
            max_delay: Duration::from_secs(16),
            backoff_multiplier: 2.0,
        }
    }

    /// Checks the fields.
    ///
    /// # Errors
    /// `Invalid` if there are no attempts or the multiplier is below 1 or not a number.
    pub fn check(&self) -> Result<()> {
        let grows = self.backoff_multiplier.is_finite() && 1.0 <= self.backoff_multiplier;
        if self.max_attempts == 0 || !grows {
            return Err(Error::new(
                ErrorKind::Invalid,
                "a RetryConfig has at least 1 attempt and a multiplier of at least 1.0",
            ));
        }
        Ok(())
    }

    /// The delay after attempt number `attempt`, counted from 1, before the jitter.
    pub fn delay(&self, attempt: u32) -> Duration {
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let factor = self.backoff_multiplier.powi(exponent);
        let delay = self.initial_delay.as_secs_f64() * factor;
        Duration::try_from_secs_f64(delay).unwrap_or(self.max_delay).min(self.max_delay)
    }

    pub(crate) fn jittered(&self, attempt: u32) -> Duration {
        self.delay(attempt).mul_f64(0.5 + rand::random::<f64>() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_their_bound_and_never_overflow() {
        let retry = RetryConfig::default();
        let millis: Vec<_> = (1..=8).map(|n| retry.delay(n).as_millis()).collect();
        assert_eq!(millis, [100, 200, 400, 800, 1600, 3200, 3200, 3200]);
        assert_eq!(RetryConfig::patient().delay(u32::MAX), Duration::from_secs(16));
        assert!(RetryConfig { max_attempts: 0, ..retry }.check().is_err());
        assert!(RetryConfig { backoff_multiplier: f64::NAN, ..retry }.check().is_err());
        assert_eq!(
            RetryConfig { initial_delay: Duration::ZERO, ..retry }.jittered(3),
            Duration::ZERO
        );
    }
}
