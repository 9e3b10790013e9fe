//! C3: fences are unique, and rise with the order of grants that anybody could see.

use std::collections::HashMap;

use super::{Check, Finding, Violation};
use crate::history::event::Fence;
use crate::history::timeline::{Grant, Timeline, Window};

/// Finds grants that share a fence, and grants that came later with a lower one.
///
/// "Later" means that one acquire had returned before the other was called; grants whose acquires overlap
/// may have their fences either way. Exercised by each grant that came later than another of its name.
#[must_use]
pub fn check(timeline: &Timeline) -> Finding {
    let mut finding = Finding::new(Check::Fence);
    for grants in timeline.grants_by_name().values() {
        duplicates(grants, &mut finding);
        falls(grants, &mut finding);
    }
    finding.measured = format!("{} grants", timeline.grants.len());
    finding
}

fn duplicates(grants: &[&Grant], finding: &mut Finding) {
    let mut owners: HashMap<Fence, &Grant> = HashMap::new();
    for grant in grants {
        if let Some(first) = owners.insert(grant.fence, grant) {
            finding.violations.push(violation("has the same fence as", first, grant));
        }
    }
}

/// Walks through the grants by the time they were asked for; beside them runs the highest fence of those
/// that had been returned by then.
fn falls(by_return: &[&Grant], finding: &mut Finding) {
    let mut by_call = by_return.to_vec();
    by_call.sort_by_key(|grant| grant.invoked);
    let mut returned = by_return.iter().peekable();
    let mut highest: Option<&Grant> = None;
    for grant in by_call {
        while let Some(earlier) = returned.next_if(|earlier| earlier.granted < grant.invoked) {
            if highest.is_none_or(|h| h.fence < earlier.fence) {
                highest = Some(earlier);
            }
        }
        let Some(highest) = highest else { continue };
        finding.exercised += 1;
        if grant.fence < highest.fence {
            finding.violations.push(violation(
                "came later with a lower fence than",
                highest,
                grant,
            ));
        }
    }
}

fn violation(how: &str, first: &Grant, second: &Grant) -> Violation {
    Violation {
        what: format!(
            "{}: {} (fence {}) {how} {} (fence {})",
            second.name, second.who, second.fence, first.who, first.fence
        ),
        who: vec![first.who.clone(), second.who.clone()],
        window: Some(Window {
            from: first.invoked.min(second.invoked),
            to: first.granted.max(second.granted) + 1,
        }),
    }
}

#[cfg(test)]
mod tests {
    use crate::history::checker::Check;
    use crate::history::script::{Script, X};

    fn two(first: u64, second: u64) -> Script {
        Script::good()
            .on("b")
            .take(200, "p1#2", X, first, 290)
            .release(210, "p1#2", 290)
            .take(220, "p2#2", X, second, 290)
            .release(230, "p2#2", 290)
    }

    #[test]
    fn rising_fences_hold_it_whatever_the_gaps() {
        assert_eq!(two(7, 1_000_000).broken(), []);
        assert_eq!(two(1, 2).exercised(Check::Fence), Script::good().exercised(Check::Fence) + 1);
    }

    #[test]
    fn a_later_grant_with_a_lower_fence_breaks_it_alone() {
        assert_eq!(two(8, 7).broken(), [Check::Fence]);
        assert_eq!(
            two(8, 7).violations(Check::Fence),
            ["b: p2#2 (fence 7) came later with a lower fence than p1#2 (fence 8)"]
        );
    }

    #[test]
    fn one_fence_on_two_grants_breaks_it_alone() {
        assert_eq!(two(8, 8).broken(), [Check::Fence]);
        assert_eq!(two(8, 8).violations(Check::Fence).len(), 1);
    }

    #[test]
    fn acquires_that_overlap_may_return_their_fences_either_way() {
        let script = Script::good()
            .on("b")
            .ask(200, "p1#2", X)
            .ask(201, "p2#2", X)
            .get(202, "p1#2", 8, 290)
            .release(210, "p1#2", 290)
            .get(212, "p2#2", 7, 290)
            .release(220, "p2#2", 290);
        assert_eq!(script.broken(), []);
    }

    #[test]
    fn each_name_has_its_own_fences() {
        assert_eq!(
            two(3, 4).on("c").take(300, "p1#3", X, 1, 390).release(310, "p1#3", 390).broken(),
            []
        );
    }
}
