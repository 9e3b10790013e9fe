//! Histories made by hand, for the tests of the checks. All times are in milliseconds.

use std::time::Duration;

use super::checker::Check;
use super::event::{Event, Fence, Mode, Op, Phase};
use super::register::Entry;
use super::timeline::Malformed;
use super::verdict::{Evidence, Rules, Verdict, findings, judge};

pub(crate) const X: Mode = Mode::Exclusive;
const MS: u64 = 1_000_000;

/// A history under way. Attempts are named `p1#4`: process and number.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    name: String,
    pub(crate) events: Vec<Event>,
    pub(crate) log: Vec<Entry>,
    pub(crate) left: Vec<String>,
}

impl Script {
    pub(crate) fn new() -> Self {
        Script { name: "a".into(), events: Vec::new(), log: Vec::new(), left: Vec::new() }
    }

    /// A history that exercises every promise and holds them all: two hand-overs in order, a holder that
    /// lapses and says so, and a grant after that.
    pub(crate) fn good() -> Self {
        Script::new()
            .ask(0, "p1#1", X)
            .get(1, "p1#1", 1, 90)
            .ask(5, "p2#1", X)
            .queue(6, "p2#1")
            .ask(7, "p3#1", X)
            .queue(8, "p3#1")
            .write(1, 1)
            .release(20, "p1#1", 90)
            .get(22, "p2#1", 2, 110)
            .write(2, 2)
            .release(30, "p2#1", 110)
            .get(32, "p3#1", 3, 120)
            .ask(50, "p4#1", X)
            .lost(121, "p3#1", 120)
            .get(140, "p4#1", 4, 230)
            .write(4, 3)
            .release(150, "p4#1", 230)
    }

    /// What follows is about another lock.
    pub(crate) fn on(mut self, name: &str) -> Self {
        self.name = name.to_owned();
        self
    }

    pub(crate) fn at(mut self, ms: u64, who: &str, event: Event) -> Self {
        let (proc, attempt) = who.split_once('#').unwrap_or((who, "0"));
        let mut event = event.about(attempt.parse().unwrap(), &self.name);
        event.t_ns = ms * MS;
        event.proc = proc.to_owned();
        self.events.push(event);
        self
    }

    pub(crate) fn mark(self, ms: u64, who: &str, op: Op, phase: Phase) -> Self {
        self.at(ms, who, Event::new(op, phase))
    }

    pub(crate) fn until(self, ms: u64, who: &str, op: Op, phase: Phase, until: u64) -> Self {
        self.at(ms, who, Event::new(op, phase).deadline(until * MS))
    }

    pub(crate) fn ask(self, ms: u64, who: &str, mode: Mode) -> Self {
        self.at(ms, who, Event::new(Op::Acquire, Phase::Invoke).wanted(mode, 0))
    }

    pub(crate) fn ask_first(self, ms: u64, who: &str, priority: i32) -> Self {
        self.at(ms, who, Event::new(Op::Acquire, Phase::Invoke).wanted(X, priority))
    }

    pub(crate) fn ask_until(self, ms: u64, who: &str, gives_up: u64) -> Self {
        self.until(ms, who, Op::Acquire, Phase::Invoke, gives_up)
    }

    pub(crate) fn queue(self, ms: u64, who: &str) -> Self {
        self.mark(ms, who, Op::Wait, Phase::Ok)
    }

    pub(crate) fn get(self, ms: u64, who: &str, fence: u64, until: u64) -> Self {
        self.at(
            ms,
            who,
            Event::new(Op::Acquire, Phase::Ok).granted(who, fence).deadline(until * MS),
        )
    }

    /// Asks and gets, one millisecond apart.
    pub(crate) fn take(self, ms: u64, who: &str, mode: Mode, fence: u64, until: u64) -> Self {
        self.ask(ms, who, mode).get(ms + 1, who, fence, until)
    }

    pub(crate) fn lost(self, ms: u64, who: &str, deadline: u64) -> Self {
        self.until(ms, who, Op::Lost, Phase::Ok, deadline)
    }

    /// Releases; the answer "released" comes one millisecond later.
    pub(crate) fn release(self, ms: u64, who: &str, until: u64) -> Self {
        self.until(ms, who, Op::Release, Phase::Invoke, until).mark(
            ms + 1,
            who,
            Op::Release,
            Phase::Ok,
        )
    }

    /// A read and a write that the register accepted.
    pub(crate) fn write(self, fence: u64, value: u64) -> Self {
        self.request(fence, None, true).request(fence, Some(value), true)
    }

    pub(crate) fn request(mut self, fence: u64, value: Option<u64>, accepted: bool) -> Self {
        let seq = self.log.len() as u64 + 1;
        self.log.push(Entry { seq, name: self.name.clone(), fence: Fence(fence), value, accepted });
        self
    }

    pub(crate) fn leave(mut self, entry: &str) -> Self {
        self.left.push(entry.to_owned());
        self
    }

    pub(crate) fn evidence(&self) -> Evidence<'_> {
        Evidence {
            events: &self.events,
            register: Some(&self.log),
            left: Some(&self.left),
            seed: 7,
        }
    }

    /// The checks that this history breaks.
    pub(crate) fn broken(&self) -> Vec<Check> {
        let findings = findings(self.evidence(), &rules()).unwrap();
        findings
            .iter()
            .filter(|finding| !finding.violations.is_empty())
            .map(|finding| finding.check)
            .collect()
    }

    pub(crate) fn violations(&self, check: Check) -> Vec<String> {
        let findings = findings(self.evidence(), &rules()).unwrap();
        let of_check = findings.iter().filter(|finding| finding.check == check);
        of_check
            .flat_map(|finding| finding.violations.iter().map(|violation| violation.what.clone()))
            .collect()
    }

    pub(crate) fn exercised(&self, check: Check) -> u64 {
        let findings = findings(self.evidence(), &rules()).unwrap();
        findings.iter().find(|finding| finding.check == check).unwrap().exercised
    }

    pub(crate) fn judge(&self) -> Result<Verdict, Malformed> {
        judge(self.evidence(), &rules())
    }
}

/// A lifetime of 100 ms, 10 ms to recover, 50 ms per point of priority, 20 ms to tell a loss.
pub(crate) fn rules() -> Rules {
    let mut rules = Rules::new(Duration::from_millis(100), Duration::from_millis(10));
    rules.aging = Duration::from_millis(50);
    rules.may_stay = vec!["fence/*".into(), "format".into()];
    rules
}
