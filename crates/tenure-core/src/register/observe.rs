//! Liveness by observation: a member is dead when its sign of life has not changed for its term
//! and a margin, on the observer's own clock. No two clocks are ever compared.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;

use super::{Observation, Sign};
use crate::clock::Moment;
use crate::machine::Vigil;
use crate::name::LockName;
use crate::token::MemberId;
use crate::values::Fence;

/// How much faster or slower than another's an honest clock may run, in percent.
pub(crate) const DRIFT_PERCENT: u32 = 1;

/// What one observer has seen.
#[derive(Debug, Default)]
pub(super) struct Observer {
    seen: Mutex<HashMap<LockName, Vec<Observation>>>,
}

/// What the observer says of one member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Judgement {
    pub(super) member: MemberId,
    pub(super) dead: bool,
    /// How long it has been silent, as far as this observer saw.
    pub(super) quiet_for: Duration,
    /// How much longer it may be silent.
    pub(super) left: Duration,
    /// What to leave for later observers.
    pub(super) observation: Observation,
}

impl Observer {
    /// Judges one member by its sign, freshly read at `now`. `recalled` is what an earlier
    /// observer left.
    pub(super) fn judge(
        &self,
        name: &LockName,
        vigil: Vigil,
        sign: Sign,
        recalled: Option<Observation>,
        now: Moment,
    ) -> Judgement {
        // A new grant is a new vigil: the silence of a waiter does not count against the holder.
        let fence = vigil.fence.unwrap_or(Fence::ZERO);
        let same =
            |o: &Observation| o.member == sign.member && o.nonce == sign.nonce && o.fence == fence;
        let mut seen = self.seen.lock();
        let mine = seen.get(name).and_then(|all| all.iter().find(|o| same(o))).copied();
        let recalled = recalled.filter(|o| same(o) && o.since <= now);
        let fresh = Observation { member: sign.member, nonce: sign.nonce, fence, since: now };
        let observation =
            [mine, recalled].into_iter().flatten().min_by_key(|o| o.since).unwrap_or(fresh);
        if mine != Some(observation) {
            let all = seen.entry(name.clone()).or_default();
            all.retain(|o| o.member != sign.member);
            all.push(observation);
        }
        let picked_up = !vigil.handed_over || (sign.fence == fence && sign.nonce != 0);
        let term = if picked_up { vigil.ttl } else { vigil.term };
        let quiet_for = now.since(observation.since);
        let allowed = patience(term);
        Judgement {
            member: sign.member,
            dead: sign.dead && !vigil.detached || allowed <= quiet_for,
            quiet_for,
            left: allowed.saturating_sub(quiet_for),
            observation,
        }
    }

    /// Since when this observer has seen the member's present sign; `None` if it never looked.
    pub(super) fn seen_since(&self, name: &LockName, member: MemberId) -> Option<Moment> {
        let seen = self.seen.lock();
        seen.get(name)?.iter().find(|o| o.member == member).map(|o| o.since)
    }

    /// What it saw of the members of `name`.
    pub(super) fn of(&self, name: &LockName) -> Vec<Observation> {
        self.seen.lock().get(name).cloned().unwrap_or_default()
    }

    /// Forgets members of `name` that are members no more.
    pub(super) fn keep_only(&self, name: &LockName, members: &[MemberId]) {
        let mut seen = self.seen.lock();
        if let Some(all) = seen.get_mut(name) {
            all.retain(|o| members.contains(&o.member));
            if all.is_empty() {
                seen.remove(name);
            }
        }
    }
}

/// How long an observer lets a member with this term be silent: the term, the drift of both
/// clocks, and the time that a sign takes to be seen.
fn patience(term: Duration) -> Duration {
    term + term * DRIFT_PERCENT / 100 + Duration::from_millis(20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Token;

    const TTL: Duration = Duration::from_secs(10);

    fn vigil(fence: u64, handed_over: bool) -> Vigil {
        Vigil {
            fence: Some(Fence::new(fence)),
            handed_over,
            term: if handed_over { Duration::from_secs(2) } else { TTL },
            ttl: TTL,
            detached: false,
        }
    }

    fn sign(member: MemberId, nonce: u128, fence: u64) -> Sign {
        Sign { member, nonce, fence: Fence::new(fence), dead: false, at: None }
    }

    fn at(millis: u64) -> Moment {
        Moment::from_nanos(1_000_000_000_000 + millis * 1_000_000)
    }

    #[test]
    fn a_member_is_dead_only_after_its_ttl_and_a_margin_without_a_new_nonce() {
        let (observer, name) = (Observer::default(), LockName::new("x").unwrap());
        let m = Token::random().member();
        let judge =
            |nonce, t| observer.judge(&name, vigil(7, false), sign(m, nonce, 7), None, at(t));
        assert!(!judge(1, 0).dead);
        assert!(!judge(1, 10_100).dead);
        assert!(!judge(2, 10_200).dead, "a new nonce starts anew");
        assert!(!judge(2, 20_300).dead);
        assert!(judge(2, 20_320).dead);
    }

    #[test]
    fn the_silence_of_a_waiter_does_not_count_against_the_holder_it_becomes() {
        let (observer, name) = (Observer::default(), LockName::new("x").unwrap());
        let m = Token::random().member();
        let waits = Vigil { fence: None, handed_over: false, term: TTL, ttl: TTL, detached: false };
        observer.judge(&name, waits, sign(m, 1, 0), None, at(0));
        let held = |t| observer.judge(&name, vigil(7, true), sign(m, 1, 0), None, at(t));
        assert!(!held(9_000).dead);
        assert!(!held(11_000).dead);
        assert!(held(11_040).dead, "it did not pick up its lease within the term");
        let picked_up = observer.judge(&name, vigil(7, true), sign(m, 1, 7), None, at(11_040));
        assert!(!picked_up.dead, "a sign with its fence counts for a whole ttl");
    }

    #[test]
    fn short_lived_observers_continue_what_others_saw() {
        let (observer, name) = (Observer::default(), LockName::new("x").unwrap());
        let m = Token::random().member();
        let left = Observation { member: m, nonce: 1, fence: Fence::new(7), since: at(0) };
        let judge =
            |o| observer.judge(&name, vigil(7, false), sign(m, 1, 7), Some(o), at(10_120)).dead;
        assert!(!judge(Observation { nonce: 2, ..left }), "another nonce says nothing");
        assert!(!judge(Observation { since: at(20_000), ..left }), "the future says nothing");
        assert!(judge(left));
    }

    #[test]
    fn the_kernels_word_counts_unless_no_process_stands_behind_the_lease() {
        let (observer, name) = (Observer::default(), LockName::new("x").unwrap());
        let m = Token::random().member();
        let dead = Sign { dead: true, ..sign(m, 1, 7) };
        assert!(observer.judge(&name, vigil(7, false), dead, None, at(0)).dead);
        let detached = Vigil { detached: true, ..vigil(7, false) };
        assert!(!observer.judge(&name, detached, dead, None, at(0)).dead);
    }
}
