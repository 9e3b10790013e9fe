//! C5: every waiter ends, and no lock stays free beside somebody who waits for it.

use std::collections::BTreeMap;

use super::exclusion::contended;
use super::{Check, Finding, Violation, ms};
use crate::history::timeline::{Attempt, Outcome, Timeline, Window};

/// How long what may last, in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// A lock that is free beside somebody who waits.
    pub recovery: u64,
    /// A lease whose holder is silent.
    pub ttl: u64,
    /// A place in the queue whose waiter is silent.
    pub place: u64,
}

/// Finds attempts that never ended, and stretches longer than the bound in which a lock had room for all
/// who waited for it and granted nobody.
///
/// - A store that was not told of an end may believe in the grant for another `ttl`: the lock counts as
///   held until then.
/// - A waiter that was killed, cancelled, stopped or cut off is a *ghost*: while its place lasts, others may
///   have to wait behind it, and the lock may be handed to it, and nobody picks it up for a `ttl`. So a lock
///   without room for a ghost is not free, and each ghost lengthens the bound by one `ttl`.
/// - While the way to the store is disturbed nothing is promised: the bound runs from the end of that.
///
/// Exercised by each grant that was asked for while others left no room for it.
#[must_use]
pub fn check(timeline: &Timeline, bounds: &Bounds) -> Finding {
    let mut finding = Finding::new(Check::Waiters);
    finding.exercised = contended(timeline);
    for attempt in timeline.attempts.iter().filter(|attempt| attempt.outcome == Outcome::Open) {
        finding.violations.push(Violation {
            what: format!("{}: {} never ended", attempt.name, attempt.who),
            who: vec![attempt.who.clone()],
            window: Some(Window { from: attempt.invoked, to: timeline.end + 1 }),
        });
    }
    let mut recoveries = Vec::new();
    for (name, attempts) in timeline.attempts_by_name() {
        for stretch in stretches(timeline, name, &attempts, bounds) {
            let bound = bounds.recovery.saturating_add(bounds.ttl.saturating_mul(stretch.ghosts));
            if bound < stretch.at.len() {
                finding.violations.push(violation(name, &attempts, stretch.at));
            }
            if stretch.after_end && stretch.ended_by_grant {
                recoveries.push(stretch.at.len());
            }
        }
    }
    recoveries.sort_unstable();
    let of_100 =
        |n: usize| recoveries.get((recoveries.len() * n).div_ceil(100).saturating_sub(1)).copied();
    let [p50, p99, max] = [50, 99, 100].map(|n| ms(of_100(n).unwrap_or(0)));
    finding.measured = format!("{} recoveries: p50 {p50}, p99 {p99}, max {max}", recoveries.len());
    finding
}

/// A time in which a lock was free, and wanted.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    at: Window,
    /// How many ghosts there were at most.
    ghosts: u64,
    /// Whether it began because room was made, not because the first waiter came.
    after_end: bool,
    ended_by_grant: bool,
}

/// What changes at a point in time.
#[derive(Debug, Clone, Copy)]
enum Change {
    Granted(u64),
    Freed(u64),
    /// Somebody has a place in the queue who fits in beside this many seats.
    Place(u64),
    NoPlace(u64),
    /// Somebody waits who can take it.
    Waits,
    WaitsNoMore,
    GhostCame,
    GhostGone,
    Disturbed,
    Calm,
}

/// Sweeps over all changes of one lock.
fn stretches(
    timeline: &Timeline,
    name: &str,
    attempts: &[&Attempt],
    bounds: &Bounds,
) -> Vec<Stretch> {
    let mut seats = 0;
    let mut waiting: u64 = 0;
    let mut ghosts: u64 = 0;
    let mut disturbances: u64 = 0;
    let mut places: BTreeMap<u64, u32> = BTreeMap::new();
    let mut open: Option<Stretch> = None;
    let mut found = Vec::new();

    let changes = changes(timeline, name, attempts, bounds);
    for now in changes.chunk_by(|(t, _), (u, _)| t == u) {
        let t = now[0].0;
        let (mut granted, mut room_made) = (false, false);
        for (_, change) in now {
            match *change {
                Change::Granted(n) => (seats, granted) = (seats + n, true),
                Change::Freed(n) => (seats, room_made) = (seats - n, true),
                Change::Place(headroom) => *places.entry(headroom).or_default() += 1,
                Change::NoPlace(headroom) => leave(&mut places, headroom),
                Change::Waits => waiting += 1,
                Change::WaitsNoMore => waiting -= 1,
                Change::GhostCame => ghosts += 1,
                Change::GhostGone => ghosts -= 1,
                Change::Disturbed => disturbances += 1,
                Change::Calm => (disturbances, room_made) = (disturbances - 1, true),
            }
        }
        let all_fit = places.first_key_value().is_some_and(|(&headroom, _)| seats <= headroom);
        let idle = all_fit && waiting != 0 && disturbances == 0;
        if let Some(mut stretch) = open.take_if(|_| granted || !idle) {
            stretch.at.to = t;
            stretch.ended_by_grant = granted;
            found.push(stretch);
        }
        match &mut open {
            Some(stretch) => stretch.ghosts = stretch.ghosts.max(ghosts),
            None if idle => {
                let at = Window { from: t, to: t };
                open = Some(Stretch { at, ghosts, after_end: room_made, ended_by_grant: false });
            }
            None => {}
        }
    }
    found
}

fn leave(places: &mut BTreeMap<u64, u32>, headroom: u64) {
    let count = places.get_mut(&headroom).expect("who leaves has come");
    *count -= 1;
    if *count == 0 {
        places.remove(&headroom);
    }
}

/// All changes of one lock, in order.
fn changes(
    timeline: &Timeline,
    name: &str,
    attempts: &[&Attempt],
    bounds: &Bounds,
) -> Vec<(u64, Change)> {
    let mut changes = Vec::new();
    let mut during =
        |from: u64, to: u64, begin, end| changes.extend([(from, begin), (to.max(from), end)]);
    for attempt in attempts {
        let waits_until = attempt.wanted_until().min(timeline.end);
        if attempt.waits() {
            during(attempt.invoked, waits_until, Change::Waits, Change::WaitsNoMore);
        }
        let place_until = match attempt.outcome {
            Outcome::Granted(at, _) | Outcome::Refused(at) => at,
            Outcome::Unknown(at) => at.saturating_add(bounds.place),
            Outcome::Open => timeline.end,
        };
        let headroom = attempt.mode.headroom();
        during(attempt.invoked, place_until, Change::Place(headroom), Change::NoPlace(headroom));
        match attempt.outcome {
            Outcome::Granted(at, grant) => {
                let grant = &timeline.grants[grant];
                let forgotten = grant.renewed_until().saturating_add(bounds.ttl);
                let freed = grant.freed.unwrap_or(forgotten).min(forgotten);
                let seats = attempt.mode.seats();
                during(at, freed, Change::Granted(seats), Change::Freed(seats));
            }
            // Nobody knows when its answer was lost.
            Outcome::Unknown(at) => {
                let gone = at.saturating_add(bounds.place).saturating_add(bounds.ttl);
                during(attempt.invoked, gone, Change::GhostCame, Change::GhostGone);
            }
            Outcome::Refused(_) | Outcome::Open => {}
        }
        for pause in timeline.pauses_of(&attempt.who.proc) {
            // Also one that has given up, and was stopped before it could leave.
            if pause.from < place_until && attempt.invoked < pause.to {
                let gone = pause.to.saturating_add(bounds.ttl);
                during(pause.from, gone, Change::GhostCame, Change::GhostGone);
            }
        }
    }
    for fault in timeline.faults_of(name) {
        during(fault.from, fault.to, Change::Disturbed, Change::Calm);
    }
    // Stable, and every pair was pushed in its order: nothing is undone before it is done.
    changes.sort_by_key(|(t, _)| *t);
    changes
}

fn violation(name: &str, attempts: &[&Attempt], at: Window) -> Violation {
    let waiting =
        attempts.iter().filter(|a| a.waits() && a.invoked <= at.from && at.to <= a.wanted_until());
    let who: Vec<_> = waiting.map(|attempt| attempt.who.clone()).collect();
    let first = who.first().map_or_else(|| "somebody".to_owned(), ToString::to_string);
    Violation {
        what: format!("{name}: free for {} while {first} waited", ms(at.len())),
        who,
        window: Some(Window { from: at.from, to: at.to + 1 }),
    }
}

#[cfg(test)]
mod tests {
    use crate::history::checker::Check;
    use crate::history::event::{Mode, Op, Phase};
    use crate::history::script::{Script, X};

    /// A holder who releases at 220, and a waiter.
    fn waiter() -> Script {
        Script::good()
            .on("b")
            .take(200, "p1#2", X, 1, 290)
            .ask(205, "p2#2", X)
            .release(220, "p1#2", 290)
    }

    fn granted_at(ms: u64, script: Script) -> Vec<Check> {
        script.get(ms, "p2#2", 9, ms + 90).release(ms + 10, "p2#2", ms + 90).broken()
    }

    #[test]
    fn a_grant_within_the_bound_holds_it() {
        assert_eq!(granted_at(231, waiter()), []);
    }

    #[test]
    fn a_free_lock_beside_a_waiter_breaks_it_alone() {
        assert_eq!(granted_at(232, waiter()), [Check::Waiters]);
        let script = waiter().get(240, "p2#2", 9, 390).release(250, "p2#2", 390);
        assert_eq!(script.violations(Check::Waiters), ["b: free for 19.000 ms while p2#2 waited"]);
    }

    #[test]
    fn a_waiter_that_never_ends_breaks_it_alone() {
        let script = Script::good().on("b").ask(200, "p2#2", X);
        assert_eq!(script.broken(), [Check::Waiters]);
        assert_eq!(script.clone().mark(205, "p2#2", Op::Cancel, Phase::Invoke).broken(), []);
        assert_eq!(script.clone().mark(205, "p2#2", Op::Acquire, Phase::Fail).broken(), []);
        assert_eq!(script.mark(205, "p2", Op::Crash, Phase::Invoke).broken(), []);
    }

    #[test]
    fn a_store_may_believe_in_a_dead_holder_for_a_lifetime() {
        let dead = || {
            Script::good().on("b").take(200, "p5#1", X, 1, 290).ask(205, "p2#2", X).mark(
                220,
                "p5",
                Op::Crash,
                Phase::Invoke,
            )
        };
        assert_eq!(granted_at(330, dead()), []);
        assert_eq!(granted_at(331, dead()), [Check::Waiters]);

        let renewed_unseen = Script::good()
            .on("b")
            .take(200, "p5#1", X, 1, 290)
            .ask(205, "p2#2", X)
            .mark(500, "p5", Op::Crash, Phase::Invoke);
        assert_eq!(granted_at(610, renewed_unseen.clone()), []);
        assert_eq!(granted_at(611, renewed_unseen), [Check::Waiters]);
    }

    #[test]
    fn a_lock_may_be_handed_to_a_ghost_and_costs_one_lifetime() {
        let beside = |op, phase| waiter().ask(206, "p6#1", X).mark(215, "p6", op, phase);
        assert_eq!(granted_at(331, beside(Op::Crash, Phase::Invoke)), []);
        assert_eq!(granted_at(332, beside(Op::Crash, Phase::Invoke)), [Check::Waiters]);
        let stopped = || {
            let script = beside(Op::Pause, Phase::Invoke).mark(300, "p6", Op::Pause, Phase::Ok);
            script.mark(302, "p6#1", Op::Acquire, Phase::Fail)
        };
        assert_eq!(granted_at(331, stopped()), []);
        assert_eq!(granted_at(332, stopped()), [Check::Waiters]);
    }

    #[test]
    fn a_waiter_that_gave_up_and_was_stopped_before_it_left_is_a_ghost() {
        let stopped = || {
            let script = waiter().ask_until(206, "p6#1", 214);
            let script = script.mark(215, "p6", Op::Pause, Phase::Invoke);
            let script = script.mark(300, "p6", Op::Pause, Phase::Ok);
            script.mark(302, "p6#1", Op::Acquire, Phase::Fail)
        };
        assert_eq!(granted_at(331, stopped()), []);
        assert_eq!(granted_at(332, stopped()), [Check::Waiters]);
    }

    #[test]
    fn a_ghost_is_gone_when_its_place_is() {
        let script = Script::good()
            .on("b")
            .ask(200, "p6#1", X)
            .mark(205, "p6#1", Op::Cancel, Phase::Invoke)
            .take(401, "p1#2", X, 1, 490)
            .ask(402, "p2#2", X)
            .release(406, "p1#2", 490);
        assert_eq!(granted_at(417, script.clone()), []);
        assert_eq!(granted_at(418, script), [Check::Waiters]);
    }

    #[test]
    fn the_bound_runs_from_the_end_of_a_disturbance() {
        let disturbed = || {
            waiter().mark(210, "runner", Op::Fault, Phase::Invoke).mark(
                240,
                "runner",
                Op::Fault,
                Phase::Ok,
            )
        };
        assert_eq!(granted_at(250, disturbed()), []);
        assert_eq!(granted_at(251, disturbed()), [Check::Waiters]);
    }

    #[test]
    fn only_a_lock_with_room_for_all_who_wait_is_free() {
        let seat = |take| Mode::Shared { take, of: 3 };
        let script = Script::good()
            .on("b")
            .take(200, "p1#2", seat(2), 1, 400)
            .ask(205, "p2#2", seat(2))
            .ask(206, "p3#2", seat(1))
            .release(260, "p1#2", 400)
            .get(265, "p2#2", 2, 400)
            .get(272, "p3#2", 3, 400)
            .release(280, "p2#2", 400)
            .release(280, "p3#2", 400);
        assert_eq!(
            script.broken(),
            [],
            "the one behind waits in line, and each grant starts the bound anew"
        );
    }

    #[test]
    fn who_does_not_wait_or_has_given_up_does_not_count() {
        let script = Script::good()
            .on("b")
            .ask_until(200, "p1#2", 200)
            .mark(230, "p1#2", Op::Acquire, Phase::Fail)
            .ask_until(240, "p1#3", 245)
            .mark(270, "p1#3", Op::Acquire, Phase::Fail);
        assert_eq!(script.broken(), []);
    }
}
