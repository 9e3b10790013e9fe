//! When a waiting claim asks again.

use std::time::Duration;

use crate::backend::Claim;
use crate::capability::JudgedBy;
use crate::manager::Inner;

/// When to ask again without having been told anything.
pub(crate) struct Poll {
    bound: Duration,
    first: Duration,
    longest: Duration,
    /// The longest between two looks at signs of life where an event tells of all else.
    look: Duration,
    observed: bool,
}

impl Poll {
    const FIRST: Duration = Duration::from_millis(50);
    const LONGEST: Duration = Duration::from_secs(1);
    /// The longest between two looks at whether a holder died, where the kernel can tell.
    const DEATH: Duration = Duration::from_millis(200);

    pub(crate) fn new(inner: &Inner, claim: &Claim) -> Self {
        let capabilities = inner.backend().capabilities();
        let longest = if capabilities.proves_death { Self::DEATH } else { Self::LONGEST };
        // A lock that was handed over has to be picked up in time.
        let in_time = (claim.pick_up / 3).max(Duration::from_millis(1));
        Self {
            bound: Self::FIRST.min(in_time),
            first: Self::FIRST.min(in_time),
            longest: longest.min(in_time),
            look: Self::LONGEST.min(in_time),
            observed: capabilities.judged_by == JudgedBy::Observation,
        }
    }

    pub(crate) fn reset(&mut self) {
        self.bound = self.first;
    }

    /// 50 ms doubling to the longest pause, with full jitter.
    pub(crate) fn next_pause(&mut self) -> Duration {
        let pause = self.bound.mul_f64(rand::random::<f64>()).max(Duration::from_millis(1));
        self.bound = (self.bound * 2).min(self.longest);
        pause
    }

    pub(crate) fn pause(&mut self, pushed: bool, check_in: Option<Duration>) -> Duration {
        let due = check_in.map(|d| d + Duration::from_millis(1));
        if !pushed {
            return due.unwrap_or(Duration::MAX).min(self.next_pause());
        }
        if self.observed {
            // Somebody has to look for signs of life, even if nothing happens.
            let look = self.look.mul_f64(0.75 + rand::random::<f64>() / 4.0);
            return due.unwrap_or(look).min(look);
        }
        due.unwrap_or(Self::LONGEST * 10)
    }
}
