//! C2: behind its fences, the resource is as if the lock were perfect.

use std::collections::{HashMap, HashSet};

use super::{Check, Finding, Violation};
use crate::history::event::Fence;
use crate::history::register::Entry;
use crate::history::timeline::Timeline;

/// Judges the log of a register whose counters only exclusive holders incremented.
///
/// Accepted fences never fall, each belongs to a grant, and each accepted write is one more than the write
/// before it, so that no increment was lost. Exercised by each accepted write under another fence than the
/// one before it.
#[must_use]
pub fn check(timeline: &Timeline, log: &[Entry]) -> Finding {
    let mut finding = Finding::new(Check::Resource);
    let granted: HashSet<(&str, Fence)> =
        timeline.grants.iter().map(|g| (&*g.name, g.fence)).collect();
    let mut last: HashMap<&str, &Entry> = HashMap::new();
    let mut written: HashMap<&str, &Entry> = HashMap::new();
    let mut accuse =
        |what: String| finding.violations.push(Violation { what, who: Vec::new(), window: None });

    for entry in log.iter().filter(|entry| entry.accepted) {
        let Entry { seq, name, fence, .. } = entry;
        if !granted.contains(&(name, *fence)) {
            accuse(format!(
                "{name}: request {seq} was accepted with fence {fence}, which no grant has"
            ));
        }
        let before = last.insert(name, entry);
        if let Some(before) = before.filter(|before| entry.fence < before.fence) {
            let (b, highest) = (before.seq, before.fence);
            accuse(format!(
                "{name}: request {seq} was accepted with fence {fence} after request {b} with {highest}"
            ));
        }
        let Some(value) = entry.value else { continue };
        let before = written.insert(name, entry);
        let old = before.and_then(|before| before.value).unwrap_or(0);
        if value != old + 1 {
            accuse(format!("{name}: request {seq} wrote {value} over {old}: an increment is lost"));
        }
        finding.exercised += u64::from(before.is_some_and(|before| before.fence != entry.fence));
    }
    let refused = log.iter().filter(|entry| !entry.accepted).count();
    finding.measured = format!("{} requests, {refused} refused as stale", log.len());
    finding
}

#[cfg(test)]
mod tests {
    use crate::history::checker::Check;
    use crate::history::script::Script;

    #[test]
    fn refused_stale_requests_and_reads_hold_it() {
        let script = Script::good().request(3, Some(9), false).request(4, None, true);
        assert_eq!(script.broken(), []);
        assert_eq!(script.exercised(Check::Resource), 2);
    }

    #[test]
    fn an_accepted_stale_write_breaks_it_alone() {
        let script = Script::good().request(3, Some(4), true);
        assert_eq!(script.broken(), [Check::Resource]);
        assert_eq!(
            script.violations(Check::Resource),
            ["a: request 7 was accepted with fence 3 after request 6 with 4"]
        );
    }

    #[test]
    fn a_fence_that_no_grant_has_breaks_it_alone() {
        assert_eq!(Script::good().write(5, 4).broken(), [Check::Resource]);
        assert_eq!(
            Script::good().on("b").write(1, 1).broken(),
            [Check::Resource],
            "nor one of another name"
        );
    }

    #[test]
    fn a_lost_increment_breaks_it_alone() {
        let script = Script::good().request(4, Some(3), true);
        assert_eq!(script.broken(), [Check::Resource]);
        assert_eq!(
            script.violations(Check::Resource),
            ["a: request 7 wrote 3 over 3: an increment is lost"]
        );
    }
}
