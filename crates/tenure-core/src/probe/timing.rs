//! Round trips beside a ttl, and a server's clock beside ours.

use std::time::Duration;

use super::good;
use crate::clock::{Clock, Moment, SystemClock};
use crate::finding::{Finding, Standing};
use crate::values::Micros;

/// How many round trips are measured at most, and how long.
const ROUND_TRIPS: (usize, Duration) = (200, Duration::from_secs(1));
/// A renewal may take this part of a ttl before it is sent again.
const PART_OF_TTL: u32 = 6;
/// From how far on the clocks differ so much that it is told, in microseconds.
const FAR_APART: i64 = 60 * 1_000_000;
/// From how far on one of them is wrong, in microseconds.
const WRONG: i64 = 24 * 3600 * 1_000_000;

/// Round trips that are measured: some, but not for long.
#[derive(Debug)]
pub struct RoundTrips {
    begin: Moment,
    took: Vec<Duration>,
}

impl RoundTrips {
    /// Begins to measure.
    #[allow(clippy::new_without_default, reason = "it looks at the clock")]
    pub fn new() -> Self {
        Self { begin: SystemClock.now(), took: Vec::new() }
    }

    /// Whether another one is to be measured.
    pub fn go_on(&self) -> bool {
        self.took.len() < ROUND_TRIPS.0 && SystemClock.now().since(self.begin) < ROUND_TRIPS.1
    }

    /// One that was sent then was answered just now.
    pub fn answered(&mut self, sent: Moment) {
        self.took.push(SystemClock.now().since(sent));
    }

    /// What they mean for locks of this ttl.
    pub fn judged(mut self, ttl: Duration) -> Finding {
        self.took.sort_unstable();
        round_trips(&self.took, ttl)
    }

    /// What it means that there was no answer.
    pub fn not_answered(error: &dyn std::fmt::Display) -> Finding {
        let detail = format!("the server stopped answering: {error}");
        Finding::new("round_trip", Standing::Bad, detail)
    }
}

fn round_trips(took: &[Duration], ttl: Duration) -> Finding {
    let middle = took.get(took.len() / 2).copied().unwrap_or_default();
    let longest = took.last().copied().unwrap_or_default();
    let ms = |d: Duration| format!("{:.2} ms", d.as_secs_f64() * 1e3);
    let seen = format!(
        "of {} round trips half took less than {}, the longest {}",
        took.len(),
        ms(middle),
        ms(longest)
    );
    let needed = longest * PART_OF_TTL;
    let finding = if ttl < needed {
        Finding::new("round_trip", Standing::Bad, format!("{seen}: too long for a ttl of {ttl:?}"))
            .with_help(format!("a ttl of {:?} or more bears it", round(needed)))
    } else if ttl < needed * 4 {
        Finding::new(
            "round_trip",
            Standing::Note,
            format!("{seen}: a ttl of {ttl:?} bears little more"),
        )
        .with_help(format!("a ttl of {:?} or more is at ease", round(needed * 4)))
    } else {
        good("round_trip", format!("{seen}: a ttl of {ttl:?} bears that"))
    };
    let micros = |d: Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
    finding
        .with_fact("count", took.len())
        .with_fact("p50_us", micros(middle))
        .with_fact("max_us", micros(longest))
        .with_fact("ttl_ms", micros(ttl) / 1000)
}

/// Up to whole tenths of a second.
fn round(d: Duration) -> Duration {
    Duration::from_millis(u64::try_from(d.as_millis().div_ceil(100) * 100).unwrap_or(u64::MAX))
}

/// A server's clock beside ours, in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct ClockSeen {
    server: i64,
    ahead: i64,
    give_or_take: i64,
}

impl ClockSeen {
    /// How far the server's clock is ahead of this host's, in microseconds.
    pub fn ahead(&self) -> i64 {
        self.ahead
    }

    /// The server was asked at `sent`, when our clock showed `wall`, and just now has answered with
    /// its time since 1970, in microseconds.
    pub fn new((sent, wall): (Moment, Micros), server: i64) -> Self {
        let micros = |n: u128| i64::try_from(n).unwrap_or(i64::MAX);
        let half = micros(SystemClock.now().since(sent).as_micros()) / 2;
        let ours = micros(u128::from(wall.0)).saturating_add(half);
        Self { server, ahead: server.saturating_sub(ours), give_or_take: half }
    }

    /// The one of two that is known better.
    #[must_use]
    pub fn or_better(self, other: Option<Self>) -> Self {
        other.filter(|other| other.give_or_take <= self.give_or_take).unwrap_or(self)
    }
}

/// Whether server and client agree on the time: nobody compares, but fences begin at the server's.
/// `right` is what this user lacks if it was not seen.
pub fn clock(seen: Option<ClockSeen>, right: &str) -> Finding {
    let Some(ClockSeen { server, ahead, give_or_take }) = seen else {
        return super::not_known("clock", "the server's clock", right);
    };
    #[allow(clippy::cast_precision_loss, reason = "for people")]
    let seconds = |micros: i64| micros.abs() as f64 / 1e6;
    let side = if ahead < 0 { "behind" } else { "ahead of" };
    let apart = format!(
        "the server's clock is {:.3} s {side} this host's, give or take {:.3} s",
        seconds(ahead),
        seconds(give_or_take)
    );
    let finding = if ahead.abs() < FAR_APART {
        good("clock", format!("{apart}; nobody compares them"))
    } else if ahead.abs() < WRONG {
        Finding::new(
            "clock",
            Standing::Note,
            format!("{apart}; nobody compares them, but one is wrong"),
        )
    } else {
        Finding::new(
            "clock",
            Standing::Bad,
            format!(
                "{apart}: fencing tokens begin at the server's time; where it is wrong and is set \
                 right, they may fall, and leases end too early or too late"
            ),
        )
        .with_help("set the clock that is wrong before locks are in use")
    };
    finding
        .with_fact("server_us", server.to_string())
        .with_fact("ahead_ms", ahead / 1000)
        .with_fact("give_or_take_ms", give_or_take / 1000 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_are_judged_by_the_ttl() {
        let of = |ms: u64, ttl: u64| {
            let took = [Duration::from_millis(1), Duration::from_millis(ms)];
            round_trips(&took, Duration::from_secs(ttl)).standing
        };
        assert_eq!(
            (of(5, 30), of(1500, 30), of(6000, 30)),
            (Standing::Good, Standing::Note, Standing::Bad)
        );
    }

    #[test]
    fn a_clock_that_is_days_away_is_wrong() {
        let at = |ahead| clock(Some(ClockSeen { server: 0, ahead, give_or_take: 0 }), "").standing;
        assert_eq!(
            (at(-1_000_000), at(-2 * FAR_APART), at(2 * WRONG)),
            (Standing::Good, Standing::Note, Standing::Bad)
        );
        assert_eq!(clock(None, "+time").standing, Standing::Unknown);
    }
}
