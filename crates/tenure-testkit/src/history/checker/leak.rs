//! C7: when everybody has gone, nothing is left.

use super::{Check, Finding, Violation};
use crate::history::timeline::{Outcome, Timeline};

/// Finds whatever is listed and not allowed to stay.
///
/// `left` is what the caller found after quiescence and a lifetime: keys, files, sessions, tasks. An entry
/// is allowed if it matches one of the patterns, in which `*` stands for any characters.
/// Exercised, where there is a listing, by each attempt or guard that nobody ended in order: refused after
/// a wait, unknown, cancelled, dropped, crashed or lost.
#[must_use]
pub fn check(timeline: &Timeline, left: &[String], allowed: &[String]) -> Finding {
    let mut finding = Finding::new(Check::Leak);
    let disorderly = timeline.attempts.iter().filter(|attempt| match attempt.outcome {
        Outcome::Granted(_, grant) => timeline.grants[grant].freed.is_none(),
        Outcome::Refused(_) => attempt.waits(),
        Outcome::Unknown(_) | Outcome::Open => true,
    });
    finding.exercised = disorderly.count() as u64;
    finding.measured = format!("{} entries left", left.len());
    let leaks = left.iter().filter(|entry| !allowed.iter().any(|pattern| matches(pattern, entry)));
    finding.violations = leaks
        .map(|entry| Violation {
            what: format!("left behind: {entry}"),
            who: Vec::new(),
            window: None,
        })
        .collect();
    finding
}

fn matches(pattern: &str, text: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(rest) = text.strip_prefix(head) else {
        return false;
    };
    let mut starts = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
    starts.any(|at| matches(tail, &rest[at..]))
}

#[cfg(test)]
mod tests {
    use super::matches;
    use crate::history::checker::Check;
    use crate::history::script::Script;

    #[test]
    fn what_is_allowed_may_stay() {
        let script = Script::good().leave("fence/a").leave("format");
        assert_eq!(script.broken(), []);
        assert_eq!(script.exercised(Check::Leak), 1, "one holder was lost");
    }

    #[test]
    fn a_key_left_behind_breaks_it_alone() {
        let script = Script::good().leave("queue/a/p3");
        assert_eq!(script.broken(), [Check::Leak]);
        assert_eq!(script.violations(Check::Leak), ["left behind: queue/a/p3"]);
    }

    #[test]
    fn a_star_stands_for_any_characters_and_nothing_else_does() {
        for (pattern, text) in
            [("a", "a"), ("*", ""), ("a*", "abc"), ("*c", "abc"), ("a*c*", "abcd"), ("é*ü", "éaü")]
        {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("a", "ab"), ("a?", "ab"), ("*c", "abcd"), ("a*a", "a"), ("", "a")]
        {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }
}
