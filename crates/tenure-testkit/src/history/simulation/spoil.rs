//! Ways to spoil a valid history.

use super::{NAMES, Run};
use crate::history::checker::Check;
use crate::history::event::{Event, Mode, Op, Phase};
use crate::history::register::Entry;
use crate::history::timeline::{Attempt, Grant, Outcome, Timeline, Who};

/// A way to spoil a history: the check that must notice, and the deed. It answers `None` where the history
/// has no place for it.
pub(crate) type Spoiler = (&'static str, Check, fn(&mut Run) -> Option<()>);

pub(crate) const SPOILERS: [Spoiler; 12] = [
    ("a holder stays on after the next grant", Check::Exclusion, stay_on),
    ("two grants swap their fences", Check::Fence, swap_fences),
    ("two grants have one fence", Check::Fence, share_a_fence),
    ("an increment is written twice", Check::Resource, lose_an_increment),
    ("a stale write is accepted", Check::Resource, accept_a_stale_write),
    ("a loss is told late", Check::Loss, tell_late),
    ("a lost guard says it is valid", Check::Loss, revive),
    ("a lost guard says it was released", Check::Release, claim_a_release),
    ("a waiter hears nothing", Check::Waiters, forget_a_waiter),
    ("the last grant comes late", Check::Waiters, grant_late),
    ("two waiters swap their grants", Check::Order, overtake),
    ("a key stays", Check::Leak, leak),
];

const SECOND: u64 = 1_000_000_000;

impl Run {
    fn timeline(&self) -> Timeline {
        Timeline::from_events(&self.events).unwrap()
    }

    /// All pairs of grants of one name, the earlier one first.
    fn pairs(&self) -> Vec<(Grant, Grant)> {
        let timeline = self.timeline();
        let mut pairs = Vec::new();
        for grants in timeline.grants_by_name().values() {
            for (at, first) in grants.iter().enumerate() {
                pairs.extend(
                    grants[at + 1..].iter().map(|&second| ((*first).clone(), second.clone())),
                );
            }
        }
        pairs
    }

    /// Whether the process was neither killed nor stopped.
    fn undisturbed(&self, who: &Who) -> bool {
        let disturbs =
            |event: &Event| matches!(event.op, Op::Crash | Op::Pause) && event.proc == *who.proc;
        !self.events.iter().any(disturbs)
    }

    fn event(&mut self, who: &Who, op: Op, phase: Phase) -> &mut Event {
        let mut events = self.events.iter_mut();
        events
            .find(|e| is(e, who) && e.op == op && e.phase == phase)
            .expect("it is in the timeline")
    }
}

fn is(event: &Event, who: &Who) -> bool {
    event.proc == *who.proc && event.attempt == who.attempt
}

fn stay_on(run: &mut Run) -> Option<()> {
    let (first, second) = run.pairs().into_iter().find(|(first, second)| {
        first.release.is_some_and(|release| release.released && release.invoked < second.granted)
            && (first.mode == Mode::Exclusive || second.mode == Mode::Exclusive)
            && second.granted < second.valid_until()
            && run.undisturbed(&first.who)
    })?;
    let release = run.event(&first.who, Op::Release, Phase::Invoke);
    release.t_ns = second.granted + 1;
    release.deadline_ns = Some(second.granted + SECOND);
    run.event(&first.who, Op::Release, Phase::Ok).t_ns = second.granted + 2;
    Some(())
}

fn swap_fences(run: &mut Run) -> Option<()> {
    let (first, second) =
        run.pairs().into_iter().find(|(first, second)| first.granted < second.invoked)?;
    run.event(&first.who, Op::Acquire, Phase::Ok).fence = Some(second.fence);
    run.event(&second.who, Op::Acquire, Phase::Ok).fence = Some(first.fence);
    Some(())
}

fn share_a_fence(run: &mut Run) -> Option<()> {
    let (first, second) = run.pairs().pop()?;
    run.event(&second.who, Op::Acquire, Phase::Ok).fence = Some(first.fence);
    Some(())
}

fn lose_an_increment(run: &mut Run) -> Option<()> {
    let again: Entry =
        run.log.iter().rfind(|entry| entry.accepted && entry.value.is_some())?.clone();
    let at = run.log.iter().rposition(|entry| *entry == again)?;
    run.log.insert(at, again);
    Some(())
}

fn accept_a_stale_write(run: &mut Run) -> Option<()> {
    run.log.iter_mut().rfind(|entry| !entry.accepted)?.accepted = true;
    Some(())
}

fn tell_late(run: &mut Run) -> Option<()> {
    let timeline = run.timeline();
    let grant =
        timeline.grants.iter().find(|grant| grant.lost.is_some() && run.undisturbed(&grant.who))?;
    run.event(&grant.who, Op::Lost, Phase::Ok).t_ns = grant.deadline + 2_000_001;
    Some(())
}

fn revive(run: &mut Run) -> Option<()> {
    let timeline = run.timeline();
    let grant = timeline.grants.iter().find(|grant| grant.lost.is_some())?;
    let mut check = run.event(&grant.who, Op::Lost, Phase::Ok).clone();
    for phase in [Phase::Invoke, Phase::Ok] {
        check.op = Op::Check;
        check.phase = phase;
        check.t_ns += 1;
        run.events.push(check.clone());
    }
    Some(())
}

fn claim_a_release(run: &mut Run) -> Option<()> {
    let (lost, _) = run.pairs().into_iter().find(|(first, second)| {
        first.lost.is_some()
            && first.release.is_some_and(|release| second.granted < release.invoked)
            && second.granted < second.valid_until()
            && (first.mode == Mode::Exclusive || second.mode == Mode::Exclusive)
    })?;
    run.event(&lost.who, Op::Release, Phase::Fail).phase = Phase::Ok;
    Some(())
}

fn forget_a_waiter(run: &mut Run) -> Option<()> {
    let timeline = run.timeline();
    let refused = timeline.attempts.iter().find(|attempt| {
        matches!(attempt.outcome, Outcome::Refused(_)) && run.undisturbed(&attempt.who)
    })?;
    run.events.retain(|event| !(is(event, &refused.who) && event.phase == Phase::Fail));
    Some(())
}

/// Moves the last grant of a lock, and the life of its guard, by ten seconds.
fn grant_late(run: &mut Run) -> Option<()> {
    let timeline = run.timeline();
    let last = NAMES.iter().find_map(|name| {
        let grants = &timeline.grants_by_name();
        let last = grants.get(name)?.last().copied()?;
        let attempt = timeline.attempts.iter().find(|attempt| attempt.who == last.who)?;
        (attempt.gives_up == u64::MAX && run.undisturbed(&last.who)).then(|| last.clone())
    })?;
    for event in
        run.events.iter_mut().filter(|event| is(event, &last.who) && last.granted <= event.t_ns)
    {
        event.t_ns += 10 * SECOND;
        event.deadline_ns = event.deadline_ns.map(|deadline| deadline + 10 * SECOND);
    }
    Some(())
}

/// Gives the grant of one waiter to the next one in line, and the other way round.
fn overtake(run: &mut Run) -> Option<()> {
    let timeline = run.timeline();
    let attempt = |grant: &Grant| -> Attempt {
        timeline
            .attempts
            .iter()
            .find(|attempt| attempt.who == grant.who)
            .expect("every grant has one")
            .clone()
    };
    let (first, second) = run.pairs().into_iter().find(|(first, second)| {
        let (a, b) = (attempt(first), attempt(second));
        let in_line =
            a.queued.is_some_and(|queued| queued < b.invoked) && b.invoked < first.granted;
        in_line
            && first.fence < second.fence
            && (a.mode, a.priority) == (b.mode, b.priority)
            && a.waits()
            && run.undisturbed(&a.who)
            && run.undisturbed(&b.who)
    })?;
    for event in &mut run.events {
        let heir = if is(event, &first.who) && first.granted <= event.t_ns {
            &second.who
        } else if is(event, &second.who) && second.granted <= event.t_ns {
            &first.who
        } else {
            continue;
        };
        event.proc = heir.proc.to_string();
        event.attempt = heir.attempt;
    }
    Some(())
}

fn leak(run: &mut Run) -> Option<()> {
    run.left.push("queue/rw/p1".into());
    Some(())
}
