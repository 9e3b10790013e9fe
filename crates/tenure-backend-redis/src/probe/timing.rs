//! Round trips, clocks and timeouts.

use std::time::Duration;

use tenure_core::clock::{Clock, SystemClock};
use tenure_core::{Finding, Standing};

use super::asked::{Asked, ClockSeen};
use super::judged::good;
use super::{Probe, not_known};

/// How many round trips are measured at most, and how long.
const ROUND_TRIPS: (usize, Duration) = (200, Duration::from_secs(1));
/// A renewal may take this part of a ttl before it is sent again.
const PART_OF_TTL: u32 = 6;
/// From how far on the clocks differ so much that it is told.
const FAR_APART: i64 = 60 * 1_000_000;
/// From how far on one of them is wrong.
const WRONG: i64 = 24 * 3600 * 1_000_000;
/// A connection that is idle for so long is alive.
const IDLE: u64 = 60;

impl Probe<'_> {
    /// How long an answer takes, beside the ttl.
    pub(super) async fn round_trip(&mut self, ttl: Duration) -> Finding {
        let begin = SystemClock.now();
        let mut took = Vec::new();
        while took.len() < ROUND_TRIPS.0 && SystemClock.now().since(begin) < ROUND_TRIPS.1 {
            let sent = SystemClock.now();
            if let Err(error) = self.ask(&["PING"]).await {
                let detail = format!("the server stopped answering: {error}");
                return Finding::new("round_trip", Standing::Bad, detail);
            }
            took.push(SystemClock.now().since(sent));
        }
        took.sort_unstable();
        round_trips(&took, ttl)
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
        good("round_trip", &format!("{seen}: a ttl of {ttl:?} bears that"))
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

/// Whether server and client agree on the time: nobody compares, but fences begin at the server's.
pub(super) fn clock(seen: Option<ClockSeen>) -> Finding {
    let Some(ClockSeen { server, ahead, give_or_take }) = seen else {
        return not_known("clock", "the server's clock", "+time");
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
        good("clock", &format!("{apart}; nobody compares them"))
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

/// Whether the server itself saw that it stood still.
pub(super) fn spikes(asked: &Asked) -> Finding {
    let threshold = asked.setting("latency-monitor-threshold");
    let (Some(spikes), threshold) = (&asked.spikes, threshold) else {
        return not_known("spikes", "whether the server stood still of late", "+latency|latest");
    };
    let worst = spikes.iter().max_by_key(|(_, took)| *took);
    match (worst, threshold) {
        (Some((of, took)), _) => {
            let standing =
                if *took < Duration::from_secs(1) { Standing::Good } else { Standing::Note };
            let detail = format!("the longest that the server noted of itself: {took:?} ({of})");
            Finding::new("spikes", standing, detail)
                .with_fact("event", of.clone())
                .with_fact("worst_ms", u64::try_from(took.as_millis()).unwrap_or(u64::MAX))
        }
        (None, Some("0")) => Finding::new(
            "spikes",
            Standing::Unknown,
            "whether the server stood still of late is not known: it does not note it",
        )
        .with_help("`CONFIG SET latency-monitor-threshold 100` makes it note what takes 100 ms"),
        (None, _) => good("spikes", "the server noted none of itself"),
    }
}

/// When the server ends connections by itself.
pub(super) fn timeouts(asked: &Asked) -> Finding {
    let number = |name: &str| asked.setting(name).and_then(|text| text.parse::<u64>().ok());
    let (Some(idle), keepalive) = (number("timeout"), number("tcp-keepalive")) else {
        return not_known("timeouts", "when the server ends idle connections", "+config|get");
    };
    let finding = if idle == 0 {
        good("timeouts", "the server ends no idle connection")
    } else if IDLE <= idle {
        good("timeouts", &format!("the server ends connections after {idle} s without a word"))
    } else {
        Finding::new(
            "timeouts",
            Standing::Note,
            format!(
                "the server ends connections after {idle} s without a word: they come back by \
                 themselves, and cost a moment each time"
            ),
        )
        .with_help("set timeout to 0, or to more than a minute")
    };
    finding.with_fact("idle_s", idle).with_fact("tcp_keepalive_s", keepalive)
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
        let at = |ahead| clock(Some(ClockSeen { server: 0, ahead, give_or_take: 0 })).standing;
        assert_eq!(
            (at(-1_000_000), at(-2 * FAR_APART), at(2 * WRONG)),
            (Standing::Good, Standing::Note, Standing::Bad)
        );
        assert_eq!(clock(None).standing, Standing::Unknown);
    }
}
