//! C10: what a guard says is true.

use super::exclusion::overlaps;
use super::{Check, Finding, Violation, ms};
use crate::history::timeline::{Grant, Timeline, Window};

/// Finds guards that were lost and said so too late, not at all, or not for good.
///
/// A loss must be told no later than `slack` after the deadline; a process that was stopped then has until
/// `slack` after it goes on. Exercised by each guard that was lost or outlived its deadline.
#[must_use]
pub fn loss(timeline: &Timeline, slack: u64) -> Finding {
    let mut finding = Finding::new(Check::Loss);
    let mut latest = 0;
    for grant in &timeline.grants {
        let due = due(grant.deadline, timeline.pauses_of(&grant.who.proc), slack);
        let late_from = due.saturating_add(slack);
        if let Some(asked) = grant.revived {
            finding.violations.push(violation(
                grant,
                asked,
                "said it was valid when it was asked after its end",
            ));
        }
        let untold = grant.lost.is_none() && outlives(timeline, grant, late_from);
        if untold {
            finding.violations.push(violation(
                grant,
                late_from,
                "outlived its deadline and never told its loss",
            ));
        }
        if let Some(told) = grant.lost {
            latest = latest.max(told.saturating_sub(due));
            if late_from < told {
                let what =
                    format!("told its loss {} after its deadline", ms(told - grant.deadline));
                finding.violations.push(violation(grant, told, &what));
            }
        }
        finding.exercised += u64::from(untold || grant.lost.is_some() || grant.revived.is_some());
    }
    finding.measured = format!("latest loss told {} after it was due", ms(latest));
    finding
}

/// When the loss is due: at the deadline, or when the process goes on that was stopped then.
fn due(deadline: u64, pauses: &[Window], slack: u64) -> u64 {
    pauses.iter().fold(deadline, |due, pause| {
        let stands_still = pause.from <= due.saturating_add(slack) && due < pause.to;
        if stands_still { pause.to } else { due }
    })
}

/// Whether a guard ended by its deadline, and nobody had released it when its process was seen after `t`.
///
/// One whose process was killed later may have been renewed unseen.
fn outlives(timeline: &Timeline, grant: &Grant, t: u64) -> bool {
    let last_seen = timeline.last_seen.get(&grant.who.proc).copied().unwrap_or(0);
    let released = grant.release.is_some_and(|release| release.invoked <= t);
    grant.renewed_until() == grant.deadline && t < last_seen && !released
}

/// Finds guards that said "released" although their lock had been another's in between.
///
/// "Released" says that the lock was the holder's until then, whatever its deadline was. Overlaps of valid
/// grants are not repeated here. Exercised by each "released".
#[must_use]
pub fn release(timeline: &Timeline) -> Finding {
    let mut finding = Finding::new(Check::Release);
    let as_said = |grant: &Grant| match grant.release {
        Some(release) if release.released => release.invoked,
        _ => grant.valid_until(),
    };
    for grants in timeline.grants_by_name().values() {
        finding.exercised +=
            grants.iter().filter(|g| g.release.is_some_and(|r| r.released)).count() as u64;
        let real = overlaps(grants, Grant::valid_until);
        for said in overlaps(grants, as_said) {
            if real.iter().all(|overlap| overlap.last().who != said.last().who) {
                finding.violations.push(said.violation("both theirs, as \"released\" says, for"));
            }
        }
    }
    finding.measured = format!("{} releases", finding.exercised);
    finding
}

fn violation(grant: &Grant, at: u64, what: &str) -> Violation {
    Violation {
        what: format!("{}: {} (fence {}) {what}", grant.name, grant.who, grant.fence),
        who: vec![grant.who.clone()],
        window: Some(Window { from: grant.granted, to: at + 1 }),
    }
}

#[cfg(test)]
mod tests {
    use crate::history::checker::Check;
    use crate::history::event::{Event, Op, Phase};
    use crate::history::script::{Script, X};

    /// A guard with a deadline at 250, and a sign of life of its process later.
    fn guard() -> Script {
        Script::good().on("b").take(200, "p5#1", X, 1, 250).ask_until(400, "p5#2", 400).mark(
            401,
            "p5#2",
            Op::Acquire,
            Phase::Fail,
        )
    }

    #[test]
    fn a_loss_told_within_the_slack_holds_it() {
        assert_eq!(guard().lost(270, "p5#1", 250).broken(), []);
        assert_eq!(guard().lost(210, "p5#1", 250).broken(), [], "sooner is fine");
    }

    #[test]
    fn a_loss_told_late_breaks_it_alone() {
        let script = guard().lost(271, "p5#1", 250);
        assert_eq!(script.broken(), [Check::Loss]);
        assert_eq!(
            script.violations(Check::Loss),
            ["b: p5#1 (fence 1) told its loss 21.000 ms after its deadline"]
        );
    }

    #[test]
    fn a_loss_never_told_breaks_it_alone() {
        assert_eq!(guard().broken(), [Check::Loss]);
        assert_eq!(
            guard().mark(240, "p5", Op::Crash, Phase::Invoke).broken(),
            [],
            "the dead need not"
        );
        let renewed_unseen = guard().mark(410, "p5", Op::Crash, Phase::Invoke);
        assert_eq!(renewed_unseen.broken(), [], "for all that is known");
        let released = guard().until(260, "p5#1", Op::Release, Phase::Invoke, 250);
        assert_eq!(released.broken(), [], "nor one that was released first");
    }

    #[test]
    fn a_stopped_process_tells_its_loss_when_it_goes_on() {
        let paused = || {
            guard().mark(220, "p5", Op::Pause, Phase::Invoke).mark(380, "p5", Op::Pause, Phase::Ok)
        };
        assert_eq!(paused().lost(390, "p5#1", 250).broken(), []);
        assert_eq!(paused().lost(401, "p5#1", 250).broken(), [Check::Loss]);
    }

    #[test]
    fn a_guard_that_says_yes_after_its_deadline_breaks_it_alone() {
        let asked = |ms, op| {
            let script = guard().lost(260, "p5#1", 250).until(ms, "p5#1", op, Phase::Invoke, 250);
            script
                .until(ms + 2, "p5#1", op, Phase::Ok, if op == Op::Renew { 340 } else { 250 })
                .broken()
        };
        assert_eq!(asked(240, Op::Check), []);
        assert_eq!(asked(249, Op::Check), [], "the answer was true when it was given");
        assert_eq!(asked(251, Op::Check), [Check::Loss]);
        assert_eq!(asked(251, Op::Renew), [Check::Loss], "a renewal after the deadline");
        assert_eq!(asked(300, Op::Renew), [Check::Loss], "a renewal after the loss was told");
    }

    #[test]
    fn a_revived_guard_is_not_valid_again() {
        let script = guard()
            .lost(251, "p5#1", 250)
            .take(260, "p6#1", X, 2, 350)
            .until(270, "p5#1", Op::Renew, Phase::Invoke, 250)
            .until(271, "p5#1", Op::Renew, Phase::Ok, 360)
            .release(280, "p6#1", 350);
        assert_eq!(script.broken(), [Check::Loss], "and so no overlap is counted");
    }

    #[test]
    fn a_release_after_the_lock_was_anothers_breaks_it_alone() {
        let lapsed =
            || guard().lost(251, "p5#1", 250).until(300, "p5#1", Op::Release, Phase::Invoke, 250);
        let said = |phase| lapsed().mark(301, "p5#1", Op::Release, phase);
        let other = |script: Script| script.take(260, "p6#1", X, 2, 350).release(280, "p6#1", 350);
        assert_eq!(other(said(Phase::Ok)).broken(), [Check::Release]);
        assert_eq!(other(said(Phase::Fail)).broken(), []);
        assert_eq!(other(said(Phase::Info)).broken(), []);
        assert_eq!(said(Phase::Ok).broken(), [], "true if nobody else had it");
    }

    #[test]
    fn a_release_after_a_force_release_and_another_grant_breaks_it_alone() {
        let script = Script::good()
            .on("b")
            .take(200, "p5#1", X, 1, 290)
            .at(210, "admin#1", Event::new(Op::Evict, Phase::Invoke).granted("", 1))
            .mark(211, "admin#1", Op::Evict, Phase::Ok)
            .take(220, "p6#1", X, 2, 310)
            .release(240, "p5#1", 290)
            .release(250, "p6#1", 310);
        assert_eq!(script.broken(), [Check::Release]);
    }
}
