//! What a run says about each promise.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::time::Duration;

use serde::Serialize;

use super::checker::{
    Check, Finding, Violation, exclusion, fence, leak, order, resource, truth, waiters,
};
use super::event::{Event, Op, Phase};
use super::register::Entry;
use super::timeline::{Malformed, Timeline};

/// What a lock promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[non_exhaustive]
pub enum Promise {
    /// G1: no two conflicting guards are valid at the same time.
    #[serde(rename = "G1")]
    Exclusion,
    /// G2: fences are unique and rise, so that a resource which compares them is safe.
    #[serde(rename = "G2")]
    Fence,
    /// G3: a lost guard says so by its deadline, and stays lost.
    #[serde(rename = "G3")]
    Loss,
    /// G4: what a release answers is true.
    #[serde(rename = "G4")]
    Release,
    /// G5: an attempt that nobody ended in order leaves nothing behind.
    #[serde(rename = "G5")]
    Orphans,
    /// G6: a free lock goes to a live waiter within a bound.
    #[serde(rename = "G6")]
    Recovery,
    /// G7: grants follow the order key.
    #[serde(rename = "G7")]
    Order,
}

impl Promise {
    /// All of them.
    pub const ALL: [Promise; 7] = [
        Promise::Exclusion,
        Promise::Fence,
        Promise::Loss,
        Promise::Release,
        Promise::Orphans,
        Promise::Recovery,
        Promise::Order,
    ];
}

impl Check {
    /// The promise that this check tries.
    #[must_use]
    pub fn promise(self) -> Promise {
        match self {
            Check::Exclusion => Promise::Exclusion,
            Check::Fence | Check::Resource => Promise::Fence,
            Check::Loss => Promise::Loss,
            Check::Release => Promise::Release,
            Check::Leak => Promise::Orphans,
            Check::Waiters => Promise::Recovery,
            Check::Order => Promise::Order,
        }
    }
}

/// What a run expects of a promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Demand {
    /// It must be exercised and held.
    #[default]
    Must,
    /// It is weakened here: how often and how long it is broken is reported, and fails nothing.
    Measured,
    /// The backend does not make it, or this run does not try it.
    NotOffered,
}

/// The numbers by which a run is judged.
#[derive(Debug, Clone)]
pub struct Rules {
    /// How long a store believes in a holder that is silent.
    pub ttl: Duration,
    /// How long a store keeps the queue place of a waiter that is silent.
    pub place: Duration,
    /// How long a free lock may stay free beside a live waiter.
    pub recovery: Duration,
    /// How much earlier a waiter counts as arrived per point of priority.
    pub aging: Duration,
    /// How much later than the deadline a loss may be told.
    pub lost_slack: Duration,
    /// What leftovers are allowed; `*` stands for any characters.
    pub may_stay: Vec<String>,
    /// What is expected; a promise not named must be held.
    pub demands: BTreeMap<Promise, Demand>,
}

impl Rules {
    /// Rules that demand every promise, with places as long-lived as leases, aging of 30 s, and 20 ms to tell a loss.
    #[must_use]
    pub fn new(ttl: Duration, recovery: Duration) -> Self {
        Rules {
            ttl,
            place: ttl,
            recovery,
            aging: Duration::from_secs(30),
            lost_slack: Duration::from_millis(20),
            may_stay: Vec::new(),
            demands: BTreeMap::new(),
        }
    }

    /// Sets what is expected of one promise.
    #[must_use]
    pub fn expect(mut self, promise: Promise, demand: Demand) -> Self {
        self.demands.insert(promise, demand);
        self
    }
}

/// What a run left to judge it by.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// Everything all processes recorded, in any order.
    pub events: &'a [Event],
    /// The log of the register, if the run wrote to one.
    pub register: Option<&'a [Entry]>,
    /// What was found in the store and the processes after quiescence, if somebody looked.
    pub left: Option<&'a [String]>,
    /// The seed from which the run can be repeated.
    pub seed: u64,
}

/// How a promise fared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It had occasion to be broken, and was not.
    Held,
    /// It was broken.
    Broken,
    /// It had no occasion to be broken.
    NotExercised,
}

/// What a run says about one promise.
#[derive(Debug, Clone, Serialize)]
pub struct PromiseVerdict {
    /// Which promise.
    pub promise: Promise,
    /// What was expected.
    pub demand: Demand,
    /// How it fared.
    pub status: Status,
    /// The occasions it had, the fewest of its checks.
    pub exercised: u64,
    /// How often it was broken.
    pub broken: usize,
    /// What its checks measured.
    pub measured: String,
    /// The shortest stretch of the run in which one can see it broken.
    pub window: Option<String>,
}

/// What a run says about every promise that was asked of it.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// The seed from which the run can be repeated.
    pub seed: u64,
    /// Whether every promise that must be held was exercised and held.
    pub passed: bool,
    /// Promise by promise.
    pub promises: Vec<PromiseVerdict>,
}

impl Verdict {
    /// How a promise fared; nothing if it was not asked for.
    #[must_use]
    pub fn status(&self, promise: Promise) -> Option<Status> {
        self.promises
            .iter()
            .find(|verdict| verdict.promise == promise)
            .map(|verdict| verdict.status)
    }
}

/// Judges a run.
///
/// # Errors
/// When the history contradicts itself, see [`Timeline::from_events`].
pub fn judge(evidence: Evidence<'_>, rules: &Rules) -> Result<Verdict, Malformed> {
    let findings = findings(evidence, rules)?;
    let promises: Vec<PromiseVerdict> = Promise::ALL
        .into_iter()
        .filter_map(|promise| {
            let demand = rules.demands.get(&promise).copied().unwrap_or_default();
            let of_promise: Vec<&Finding> =
                findings.iter().filter(|f| f.check.promise() == promise).collect();
            (demand != Demand::NotOffered)
                .then(|| conclude(promise, demand, &of_promise, evidence.events))
        })
        .collect();
    let passed = promises.iter().all(|v| v.demand != Demand::Must || v.status == Status::Held);
    Ok(Verdict { seed: evidence.seed, passed, promises })
}

/// Runs every check there is evidence for.
pub(crate) fn findings(evidence: Evidence<'_>, rules: &Rules) -> Result<Vec<Finding>, Malformed> {
    let timeline = Timeline::from_events(evidence.events)?;
    let bounds = waiters::Bounds {
        recovery: ns(rules.recovery),
        ttl: ns(rules.ttl),
        place: ns(rules.place),
    };
    let mut findings = vec![
        exclusion::check(&timeline),
        fence::check(&timeline),
        truth::loss(&timeline, ns(rules.lost_slack)),
        truth::release(&timeline),
        waiters::check(&timeline, &bounds),
        order::check(&timeline, ns(rules.aging)),
    ];
    findings.extend(evidence.register.map(|log| resource::check(&timeline, log)));
    findings.extend(evidence.left.map(|left| leak::check(&timeline, left, &rules.may_stay)));
    Ok(findings)
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn conclude(
    promise: Promise,
    demand: Demand,
    findings: &[&Finding],
    events: &[Event],
) -> PromiseVerdict {
    let violations: Vec<&Violation> =
        findings.iter().flat_map(|finding| &finding.violations).collect();
    let exercised = findings.iter().map(|finding| finding.exercised).min().unwrap_or(0);
    let status = match (violations.is_empty(), exercised) {
        (false, _) => Status::Broken,
        (true, 0) => Status::NotExercised,
        (true, _) => Status::Held,
    };
    let measured: Vec<&str> = findings.iter().map(|finding| finding.measured.as_str()).collect();
    let shortest =
        violations.iter().min_by_key(|v| v.window.map_or(u64::MAX, |window| window.len()));
    PromiseVerdict {
        promise,
        demand,
        status,
        exercised,
        broken: violations.len(),
        measured: measured.join("; "),
        window: shortest.map(|violation| show(violation, events)),
    }
}

/// A violation and the events one has to look at, with times from the start of its window.
fn show(violation: &Violation, events: &[Event]) -> String {
    let mut text = violation.what.clone();
    let Some(window) = violation.window else {
        return text;
    };
    let concerns = |event: &Event| {
        let of_proc = matches!(event.op, Op::Crash | Op::Pause);
        let same = |attempt| of_proc || attempt == event.attempt;
        matches!(event.op, Op::Fault | Op::Evict)
            || violation.who.iter().any(|who| *who.proc == event.proc && same(who.attempt))
    };
    let mut lines: Vec<&Event> = events
        .iter()
        .filter(|event| window.from <= event.t_ns && event.t_ns <= window.to && concerns(event))
        .collect();
    lines.sort_by_key(|event| event.t_ns);
    for event in lines {
        let at = (event.t_ns - window.from) as f64 / 1e6;
        let _ = write!(text, "\n    {at:+11.3} ms  {event}");
        // On an invoked acquire the field says how long the caller waits.
        let of_guard = !(event.op == Op::Acquire && event.phase == Phase::Invoke);
        if let Some(deadline) = event.deadline_ns.filter(|_| of_guard) {
            let _ = write!(text, "  until {:+.3} ms", (deadline as f64 - window.from as f64) / 1e6);
        }
    }
    text
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Promise::Exclusion => "G1 exclusion",
            Promise::Fence => "G2 fence",
            Promise::Loss => "G3 loss is told",
            Promise::Release => "G4 truthful release",
            Promise::Orphans => "G5 no orphan",
            Promise::Recovery => "G6 bounded recovery",
            Promise::Order => "G7 order",
        })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Status::Held => "held",
            Status::Broken => "BROKEN",
            Status::NotExercised => "NOT EXERCISED",
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, seed {}", if self.passed { "passed" } else { "FAILED" }, self.seed)?;
        for verdict in &self.promises {
            let PromiseVerdict { promise, status, exercised, broken, measured, .. } = verdict;
            let demand = if verdict.demand == Demand::Measured { " (measured only)" } else { "" };
            write!(f, "{promise:<20} {status}{demand}, ")?;
            match status {
                Status::Broken => write!(f, "{broken} times on {exercised} occasions")?,
                _ => write!(f, "{exercised} occasions")?,
            }
            writeln!(f, "; {measured}")?;
            if let Some(window) = &verdict.window {
                writeln!(f, "  {window}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::script::{Script, X, rules};

    #[test]
    fn a_good_run_that_tried_everything_passes() {
        let verdict = Script::good().judge().unwrap();
        assert!(verdict.passed, "{verdict}");
        assert!(
            Promise::ALL.iter().all(|&promise| verdict.status(promise) == Some(Status::Held)),
            "{verdict}"
        );
        assert_eq!(verdict.seed, 7);
    }

    #[test]
    fn a_promise_nobody_exercised_fails_the_run() {
        let verdict = Script::new().judge().unwrap();
        assert!(!verdict.passed);
        assert!(verdict.promises.iter().all(|v| v.status == Status::NotExercised));
        let mut evidence = Script::good();
        evidence.log.clear();
        let verdict = evidence.judge().unwrap();
        assert_eq!(
            verdict.status(Promise::Fence),
            Some(Status::NotExercised),
            "a register without a write"
        );
    }

    #[test]
    fn evidence_nobody_gathered_is_not_held_against_the_lock_but_leaks_go_untried() {
        let good = Script::good();
        let evidence = Evidence { register: None, left: None, ..good.evidence() };
        let verdict = judge(evidence, &rules()).unwrap();
        assert_eq!(verdict.status(Promise::Fence), Some(Status::Held));
        assert_eq!(verdict.status(Promise::Orphans), Some(Status::NotExercised));
        assert!(!verdict.passed);
        assert!(
            judge(evidence, &rules().expect(Promise::Orphans, Demand::NotOffered)).unwrap().passed
        );
    }

    fn overlapping() -> Script {
        let long = Script::good().on("b").take(200, "p1#2", X, 1, 290).take(203, "p2#2", X, 2, 290);
        let long = long.release(230, "p1#2", 290).release(240, "p2#2", 290);
        let short = long.on("orders/42").take(300, "p1#3", X, 1, 390).take(303, "p2#3", X, 2, 390);
        short.release(306, "p1#3", 390).release(310, "p2#3", 390)
    }

    #[test]
    fn a_weakened_promise_is_measured_and_fails_nothing() {
        let script = overlapping();
        assert!(!script.judge().unwrap().passed);
        let rules = rules().expect(Promise::Exclusion, Demand::Measured);
        let verdict = judge(script.evidence(), &rules).unwrap();
        assert!(verdict.passed);
        assert_eq!(verdict.promises[0].measured, "2 overlaps, longest 26.000 ms, 28.000 ms in all");
    }

    #[test]
    fn the_shortest_offending_window_is_shown_for_people() {
        let verdict = overlapping().judge().unwrap();
        let expected = "\
orders/42: p1#3 (exclusive, fence 1) and p2#3 (exclusive, fence 2) valid at the same time for 2.000 ms
         +0.000 ms  p1#3     acquire invoke orders/42
         +1.000 ms  p1#3     acquire ok     orders/42  fence 1  until +90.000 ms
         +3.000 ms  p2#3     acquire invoke orders/42
         +4.000 ms  p2#3     acquire ok     orders/42  fence 2  until +90.000 ms
         +6.000 ms  p1#3     release invoke orders/42  until +90.000 ms";
        assert_eq!(verdict.promises[0].window.as_deref(), Some(expected));
    }

    #[test]
    fn a_verdict_reads_as_text_and_as_json() {
        let verdict = overlapping().judge().unwrap();
        let text = verdict.to_string();
        assert!(
            text.starts_with(
                "FAILED, seed 7\nG1 exclusion         BROKEN, 2 times on 5 occasions; 2 overlaps"
            ),
            "{text}"
        );
        assert!(text.contains("\nG2 fence             held, 2 occasions; "), "{text}");
        let json = serde_json::to_value(&verdict).unwrap();
        assert_eq!(json["seed"], 7);
        assert_eq!(json["promises"][0]["promise"], "G1");
        assert_eq!(json["promises"][0]["status"], "broken");
    }
}
