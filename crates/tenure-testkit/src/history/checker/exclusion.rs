//! C1: no two conflicting grants of one name are valid at the same time.
//!
//! A sweep over the intervals in which grants were valid. A shared counter in the run itself would not do:
//! it tells an overlap of guards from a stale read of the counter only by luck.

use super::{Check, Finding, Violation, ms};
use crate::history::timeline::{Grant, Timeline, Window};

/// Finds every overlap, and reports how many there were and how long.
///
/// Exercised by each grant that was asked for while others left no room for it.
#[must_use]
pub fn check(timeline: &Timeline) -> Finding {
    let mut finding = Finding::new(Check::Exclusion);
    finding.exercised = contended(timeline);
    let (mut longest, mut total) = (0, 0);
    for grants in timeline.grants_by_name().values() {
        for overlap in overlaps(grants, Grant::valid_until) {
            longest = longest.max(overlap.at.len());
            total += overlap.at.len();
            finding.violations.push(overlap.violation("valid at the same time for"));
        }
    }
    let count = finding.violations.len();
    finding.measured = format!("{count} overlaps, longest {}, {} in all", ms(longest), ms(total));
    finding
}

/// Grants of one name that together take up more than there is.
#[derive(Debug)]
pub(super) struct Overlap<'a> {
    /// From the last of the grants to the first end that makes room.
    pub(super) at: Window,
    /// The grants, the one that came last at the end.
    pub(super) grants: Vec<&'a Grant>,
}

impl Overlap<'_> {
    pub(super) fn last(&self) -> &Grant {
        self.grants[self.grants.len() - 1]
    }

    pub(super) fn violation(&self, said: &str) -> Violation {
        let list: Vec<String> = self
            .grants
            .iter()
            .map(|g| format!("{} ({}, fence {})", g.who, g.mode, g.fence))
            .collect();
        let name = &self.last().name;
        let from = self.grants.iter().map(|g| g.invoked).fold(self.at.from, u64::min);
        Violation {
            what: format!("{name}: {} {said} {}", list.join(" and "), ms(self.at.len())),
            who: self.grants.iter().map(|g| g.who.clone()).collect(),
            window: Some(Window { from, to: self.at.to }),
        }
    }
}

/// The overlaps among grants of one name, each taken to last from its grant to `until`.
///
/// One overlap per grant that found no room, however many it collided with.
pub(super) fn overlaps<'a>(
    grants: &[&'a Grant],
    until: impl Fn(&Grant) -> u64,
) -> Vec<Overlap<'a>> {
    let mut found = Vec::new();
    let mut valid: Vec<&Grant> = Vec::new();
    for &grant in grants {
        valid.retain(|other| grant.granted < until(other));
        if until(grant) <= grant.granted {
            continue;
        }
        valid.push(grant);
        if fits(&valid) {
            continue;
        }
        // Room is made by those that end first.
        let mut left = valid.clone();
        left.sort_by_key(|grant| until(grant));
        let crowd = (1..).find(|&ended| fits(&left[ended..])).expect("none at all fit");
        let at = Window { from: grant.granted, to: until(left[crowd - 1]) };
        found.push(Overlap { at, grants: valid.clone() });
    }
    found
}

fn fits(grants: &[&Grant]) -> bool {
    let seats: u64 = grants.iter().map(|grant| grant.mode.seats()).sum();
    grants.iter().all(|grant| seats <= grant.mode.limit())
}

/// Counts the grants that were asked for while valid ones left no room for them.
pub(super) fn contended(timeline: &Timeline) -> u64 {
    let mut count = 0;
    for grants in timeline.grants_by_name().values() {
        let mut begins = grants.clone();
        let mut ends = grants.clone();
        let mut asks = grants.clone();
        ends.sort_by_key(|grant| grant.valid_until().max(grant.granted));
        asks.sort_by_key(|grant| grant.invoked);
        begins.reverse();
        ends.reverse();
        let mut seats = 0;
        for ask in asks {
            while let Some(begun) = begins.pop_if(|grant| grant.granted < ask.invoked) {
                seats += begun.mode.seats();
            }
            while let Some(ended) =
                ends.pop_if(|grant| grant.valid_until().max(grant.granted) < ask.invoked)
            {
                seats -= ended.mode.seats();
            }
            count += u64::from(ask.mode.headroom() < seats);
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use crate::history::checker::Check;
    use crate::history::event::{Event, Mode, Op, Phase};
    use crate::history::script::{Script, X};

    const SEAT: Mode = Mode::Shared { take: 1, of: 2 };

    #[test]
    fn a_hand_over_is_held_and_exercised() {
        assert_eq!(Script::good().broken(), []);
        // The first one found the lock free.
        assert_eq!(Script::good().exercised(Check::Exclusion), 3);
    }

    #[test]
    fn two_exclusive_holders_at_once_break_it_alone() {
        let script = Script::good()
            .on("b")
            .take(200, "p1#2", X, 1, 290)
            .take(203, "p2#2", X, 2, 290)
            .release(210, "p1#2", 290)
            .release(220, "p2#2", 290);
        assert_eq!(script.broken(), [Check::Exclusion]);
        assert_eq!(
            script.violations(Check::Exclusion),
            [
                "b: p1#2 (exclusive, fence 1) and p2#2 (exclusive, fence 2) valid at the same time for 6.000 ms"
            ]
        );
    }

    #[test]
    fn a_reader_beside_a_writer_breaks_it_and_readers_beside_readers_do_not() {
        let readers = Script::good().on("b").take(200, "p1#2", Mode::READER, 1, 290).take(
            203,
            "p2#2",
            Mode::READER,
            2,
            290,
        );
        let readers = readers.release(230, "p1#2", 290).release(230, "p2#2", 290);
        assert_eq!(readers.broken(), []);
        let writer = readers.take(210, "p3#2", X, 3, 290).release(220, "p3#2", 290);
        assert_eq!(writer.broken(), [Check::Exclusion]);
        assert_eq!(writer.violations(Check::Exclusion).len(), 1, "one overlap, whoever is in it");
    }

    #[test]
    fn more_seats_than_there_are_break_it() {
        let full =
            Script::good().on("b").take(200, "p1#2", SEAT, 1, 290).take(203, "p2#2", SEAT, 2, 290);
        let full = full.release(220, "p1#2", 290).release(230, "p2#2", 290);
        assert_eq!(full.broken(), []);
        let crowded = full.clone().take(210, "p3#2", SEAT, 3, 290).release(240, "p3#2", 290);
        assert_eq!(crowded.broken(), [Check::Exclusion]);
        assert!(
            crowded.violations(Check::Exclusion)[0].ends_with("for 9.000 ms"),
            "until the first one goes"
        );
        let in_turn = full.take(220, "p3#2", SEAT, 3, 290).release(240, "p3#2", 290);
        assert_eq!(in_turn.broken(), []);
    }

    #[test]
    fn deadline_loss_death_and_force_release_end_a_grant() {
        let before =
            |script: Script| script.take(230, "p9#1", X, 2, 300).release(250, "p9#1", 300).broken();
        let holder = || Script::good().on("b").take(200, "p5#1", X, 1, 290);
        assert_eq!(before(holder()), [Check::Exclusion]);
        assert_eq!(before(holder().lost(220, "p5#1", 290)), []);
        assert_eq!(before(holder().mark(220, "p5", Op::Crash, Phase::Invoke)), []);
        assert_eq!(
            before(holder().at(
                220,
                "admin#1",
                Event::new(Op::Evict, Phase::Invoke).granted("", 1)
            )),
            []
        );
        assert_eq!(
            before(Script::good().on("b").take(200, "p5#1", X, 1, 220).lost(221, "p5#1", 220)),
            []
        );
    }

    #[test]
    fn a_silent_renewal_is_known_from_the_release() {
        let script = Script::good()
            .on("b")
            .take(200, "p5#1", X, 1, 220)
            .take(250, "p9#1", X, 2, 300)
            .release(260, "p9#1", 300)
            .release(280, "p5#1", 310);
        assert_eq!(script.broken(), [Check::Exclusion]);
    }
}
