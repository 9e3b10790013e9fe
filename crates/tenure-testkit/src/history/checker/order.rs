//! C6: in fair mode, grants follow the order key, arrival minus priority times aging.

use super::{Check, Finding, Violation};
use crate::history::event::Mode;
use crate::history::timeline::{Attempt, Grant, Outcome, Timeline, Window};

/// Finds grants that passed over somebody who surely stood before them.
///
/// Replays the grants in the order of their fences, which is the order of the store, against the attempts
/// that were seen in its queue. When an attempt arrived is known only within bounds: not before it was
/// called, and not after it was seen in the queue. A waiter whose process was stopped, or whose way to the
/// store was disturbed, may have lost its place and is left out from then on.
/// Exercised by each grant that was made while somebody else surely waited.
#[must_use]
pub fn check(timeline: &Timeline, aging: u64) -> Finding {
    let mut finding = Finding::new(Check::Order);
    for (name, attempts) in timeline.attempts_by_name() {
        replay(timeline, name, &attempts, aging, &mut finding);
    }
    finding.measured = format!("{} inversions", finding.violations.len());
    finding
}

/// An attempt that was seen in the queue.
#[derive(Debug)]
struct Waiter<'a> {
    attempt: &'a Attempt,
    arrived_by: u64,
    /// From here on it may have left.
    sure_until: u64,
}

impl Waiter<'_> {
    /// Whether this grant, of a lower fence if both have one, was made before the waiter had the lock or left.
    ///
    /// Without a fence of its own the waiter may have been granted the lock before, and ended while the
    /// answer was under way; unless the two exclude each other.
    fn surely_waits_beside(&self, grant: &Grant) -> bool {
        let was_granted = matches!(self.attempt.outcome, Outcome::Granted(..));
        let exclude = self.attempt.mode == Mode::Exclusive || grant.mode == Mode::Exclusive;
        grant.granted < self.sure_until && (was_granted || exclude)
    }
}

fn replay(
    timeline: &Timeline,
    name: &str,
    attempts: &[&Attempt],
    aging: u64,
    finding: &mut Finding,
) {
    let mut arrivals: Vec<Waiter<'_>> =
        attempts.iter().filter_map(|a| waiter(timeline, name, a)).collect();
    arrivals.sort_by_key(|waiter| waiter.arrived_by);
    let mut arrivals = arrivals.into_iter().peekable();
    let mut queue: Vec<Waiter<'_>> = Vec::new();
    let mut before = Before::default();

    for (attempt, grant) in by_fence(timeline, attempts) {
        let not_before = before.not_before(grant);
        before.add(grant);
        while let Some(waiter) =
            arrivals.next_if(|waiter| waiter.arrived_by <= before.latest_return)
        {
            queue.push(waiter);
        }
        queue.retain(|waiter| {
            waiter.attempt.who != grant.who && before.latest_call < waiter.sure_until
        });

        let mut surely_waiting = queue
            .iter()
            .filter(|waiter| waiter.arrived_by < not_before && waiter.surely_waits_beside(grant))
            .peekable();
        finding.exercised += u64::from(surely_waiting.peek().is_some());
        let earliest = key(attempt.invoked, attempt.priority, aging);
        let passed = surely_waiting
            .map(|waiter| (key(waiter.arrived_by, waiter.attempt.priority, aging), waiter))
            .filter(|(latest, _)| *latest < earliest)
            .min_by_key(|(latest, _)| *latest);
        if let Some((_, waiter)) = passed {
            finding.violations.push(violation(waiter, grant));
        }
    }
}

/// The order key.
fn key(arrival: u64, priority: i32, aging: u64) -> i128 {
    i128::from(arrival) - i128::from(priority) * i128::from(aging)
}

fn waiter<'a>(timeline: &Timeline, name: &str, attempt: &'a Attempt) -> Option<Waiter<'a>> {
    let arrived_by = attempt.queued.filter(|_| attempt.waits())?;
    let end = match attempt.outcome {
        Outcome::Granted(..) => u64::MAX,
        _ => attempt.wanted_until(),
    };
    let pauses = timeline.pauses_of(&attempt.who.proc).iter().copied();
    let disturbed =
        pauses.chain(timeline.faults_of(name)).filter(|window| attempt.invoked < window.to);
    let sure_until = disturbed.map(|window| window.from).fold(end, u64::min);
    Some(Waiter { attempt, arrived_by, sure_until })
}

fn by_fence<'a>(timeline: &'a Timeline, attempts: &[&'a Attempt]) -> Vec<(&'a Attempt, &'a Grant)> {
    let granted = attempts.iter().filter_map(|&attempt| match attempt.outcome {
        Outcome::Granted(_, grant) => Some((attempt, &timeline.grants[grant])),
        _ => None,
    });
    let mut granted: Vec<_> = granted.collect();
    granted.sort_by_key(|(_, grant)| grant.fence);
    granted
}

/// What is known from the grants that came before.
#[derive(Debug, Default)]
struct Before {
    latest_call: u64,
    latest_return: u64,
    end_of_any: u64,
    end_of_exclusive: u64,
}

impl Before {
    /// The earliest time at which the store can have made this grant: after those before it were called,
    /// and after those that left no room for it had ended.
    fn not_before(&self, grant: &Grant) -> u64 {
        let room = match grant.mode {
            Mode::Exclusive => self.end_of_any,
            Mode::Shared { .. } => self.end_of_exclusive,
        };
        self.latest_call.max(grant.invoked).max(room.min(grant.granted))
    }

    fn add(&mut self, grant: &Grant) {
        let end = grant.valid_until();
        self.latest_call = self.latest_call.max(grant.invoked);
        self.latest_return = self.latest_return.max(grant.granted);
        self.end_of_any = self.end_of_any.max(end);
        if grant.mode == Mode::Exclusive {
            self.end_of_exclusive = self.end_of_exclusive.max(end);
        }
    }
}

fn violation(waiter: &Waiter<'_>, grant: &Grant) -> Violation {
    let first = waiter.attempt;
    Violation {
        what: format!(
            "{}: {} (fence {}) was granted before {}, which stood before it",
            grant.name, grant.who, grant.fence, first.who
        ),
        who: vec![first.who.clone(), grant.who.clone()],
        window: Some(Window { from: first.invoked.min(grant.invoked), to: grant.granted + 1 }),
    }
}

#[cfg(test)]
mod tests {
    use crate::history::checker::Check;
    use crate::history::event::{Op, Phase};
    use crate::history::script::{Script, X};

    /// A holder from 201 to 240; nobody waits yet.
    fn held() -> Script {
        Script::good().on("b").take(200, "p1#2", X, 1, 290)
    }

    /// `first` is granted when the holder goes, `second` after it.
    fn then(script: Script, first: &str, second: &str) -> Script {
        script
            .release(240, "p1#2", 290)
            .get(242, first, 2, 330)
            .release(250, first, 330)
            .get(252, second, 3, 340)
            .release(260, second, 340)
    }

    fn two_in_line() -> Script {
        held().ask(205, "p2#2", X).queue(207, "p2#2").ask(210, "p3#2", X).queue(212, "p3#2")
    }

    #[test]
    fn first_come_first_served_holds_it() {
        let script = then(two_in_line(), "p2#2", "p3#2");
        assert_eq!(script.broken(), []);
        assert_eq!(script.exercised(Check::Order), Script::good().exercised(Check::Order) + 1);
    }

    #[test]
    fn overtaking_breaks_it_alone() {
        let script = then(two_in_line(), "p3#2", "p2#2");
        assert_eq!(script.broken(), [Check::Order]);
        assert_eq!(
            script.violations(Check::Order),
            ["b: p3#2 (fence 2) was granted before p2#2, which stood before it"]
        );
    }

    #[test]
    fn arrivals_that_may_have_crossed_may_be_granted_either_way() {
        let script =
            held().ask(205, "p2#2", X).ask(206, "p3#2", X).queue(207, "p2#2").queue(208, "p3#2");
        assert_eq!(then(script.clone(), "p3#2", "p2#2").broken(), []);
        assert_eq!(then(script, "p2#2", "p3#2").broken(), []);
    }

    #[test]
    fn a_point_of_priority_is_worth_the_aging() {
        let script = |ms| {
            held()
                .ask(205, "p2#2", X)
                .queue(206, "p2#2")
                .ask_first(ms, "p3#2", 1)
                .queue(ms + 1, "p3#2")
        };
        assert_eq!(then(script(230), "p3#2", "p2#2").broken(), []);
        assert_eq!(
            then(script(230), "p2#2", "p3#2").broken(),
            [Check::Order],
            "it should have gone first"
        );
    }

    #[test]
    fn priority_does_not_outweigh_any_wait() {
        let late = |first, second| {
            let script = held().ask(202, "p2#2", X).queue(203, "p2#2").until(
                204,
                "p1#2",
                Op::Renew,
                Phase::Ok,
                390,
            );
            let script =
                script.ask_first(260, "p3#2", 1).queue(261, "p3#2").release(270, "p1#2", 390);
            let script = script.get(272, first, 2, 360).release(280, first, 360);
            script.get(282, second, 3, 370).release(290, second, 370).broken()
        };
        assert_eq!(late("p2#2", "p3#2"), []);
        assert_eq!(late("p3#2", "p2#2"), [Check::Order]);
    }

    #[test]
    fn a_grant_before_a_waiter_came_is_no_inversion_whatever_its_priority() {
        let script = held()
            .release(203, "p1#2", 290)
            .take(205, "p2#2", X, 2, 290)
            .ask_first(210, "p3#2", 9)
            .queue(211, "p3#2")
            .release(220, "p2#2", 290)
            .get(222, "p3#2", 3, 310)
            .release(230, "p3#2", 310);
        assert_eq!(script.broken(), []);
    }

    #[test]
    fn a_try_that_gets_past_a_waiter_breaks_it() {
        let script = held()
            .ask(205, "p2#2", X)
            .queue(207, "p2#2")
            .release(220, "p1#2", 290)
            .ask_until(222, "p3#2", 222)
            .get(223, "p3#2", 2, 310)
            .release(225, "p3#2", 310)
            .get(227, "p2#2", 3, 310)
            .release(230, "p2#2", 310);
        assert_eq!(script.broken(), [Check::Order]);
    }

    #[test]
    fn a_waiter_that_left_or_stood_still_may_be_passed_over() {
        let gone = |op, phase| {
            let script = two_in_line().release(240, "p1#2", 290).mark(241, "p2", op, phase);
            script.get(245, "p3#2", 2, 330).release(250, "p3#2", 330)
        };
        assert_eq!(gone(Op::Crash, Phase::Invoke).broken(), []);
        let paused = gone(Op::Pause, Phase::Invoke).mark(252, "p2", Op::Pause, Phase::Ok);
        assert_eq!(paused.get(254, "p2#2", 3, 340).release(260, "p2#2", 340).broken(), []);
        let later = two_in_line()
            .release(240, "p1#2", 290)
            .get(242, "p3#2", 2, 330)
            .release(250, "p3#2", 330);
        let later = later.mark(251, "p2#2", Op::Acquire, Phase::Fail);
        assert_eq!(later.broken(), [Check::Order], "it left only after it was passed over");
    }
}
