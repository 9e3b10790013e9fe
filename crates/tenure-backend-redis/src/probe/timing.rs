//! Round trips, spikes and timeouts.

use std::time::Duration;

use tenure_core::clock::{Clock, SystemClock};
use tenure_core::probe::{RoundTrips, good, not_known};
use tenure_core::{Finding, Standing};

use super::Probe;
use super::asked::Asked;

/// A connection that is idle for so long is alive.
const IDLE: u64 = 60;

impl Probe<'_> {
    /// How long an answer takes, beside the ttl.
    pub(super) async fn round_trip(&mut self, ttl: Duration) -> Finding {
        let mut trips = RoundTrips::new();
        while trips.go_on() {
            let sent = SystemClock.now();
            if let Err(error) = self.ask(&["PING"]).await {
                return RoundTrips::not_answered(&error);
            }
            trips.answered(sent);
        }
        trips.judged(ttl)
    }
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
        good("timeouts", format!("the server ends connections after {idle} s without a word"))
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
