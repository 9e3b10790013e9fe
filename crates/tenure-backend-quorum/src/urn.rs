//! One voter's rules for one lock, pure: no I/O, no clock.
//!
//! Voters run them natively, as the scripts of a Redis node do, and are compared with these. The
//! models run these themselves. A key is what other programs see and take; it ends by itself, whatever
//! the record beside it says.

use std::collections::BTreeMap;

use tenure_core::backend::Departure;
use tenure_core::voter::{Keep, Leave, Left, Raise};
use tenure_core::{Fence, Micros};

use crate::election::Said;

/// What a voter has of one lock; `M` is who may hold it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Urn<M: Ord> {
    /// Whom the key is for.
    pub key: Option<M>,
    /// Whose the key was set for, and the last round it was asked in.
    pub record: Option<(M, u64)>,
    /// The highest fence that was confirmed here.
    pub fence: u64,
    /// Whoever had it raised to that, if it has held the key ever since.
    pub raiser: Option<M>,
    /// Members whose time is over.
    pub gone: BTreeMap<M, Departure>,
    /// The last round of a member of which a ballot may still be on its way, and is too late.
    pub late: BTreeMap<M, u64>,
}

impl<M: Ord> Default for Urn<M> {
    fn default() -> Self {
        let (gone, late) = (BTreeMap::new(), BTreeMap::new());
        Self { key: None, record: None, fence: 0, raiser: None, gone, late }
    }
}

/// What is said to a ballot.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Answer<M> {
    /// As in an election.
    Said(Said),
    /// Somebody else has it.
    Taken(M),
    /// Its time is over.
    Gone(Departure),
    /// The round was given up.
    Late,
}

impl<M: Copy + Ord> Urn<M> {
    /// Whether there is any trace of this member.
    pub fn knows(&self, member: M) -> bool {
        self.holds(member)
            || self.record.is_some_and(|(m, _)| m == member)
            || self.gone.contains_key(&member)
            || self.late.contains_key(&member)
    }

    /// Whether the key is for this member.
    fn holds(&self, member: M) -> bool {
        self.key == Some(member)
    }

    /// A ballot arrives; `time` is the voter's own, below which no new fence may lie.
    pub fn vote(&mut self, member: M, round: u64, repair: bool, time: u64) -> Answer<M> {
        match self.gone.get(&member) {
            // Its vote was lost here, and a majority says that its time is not over.
            Some(Departure::Expired) if repair => {}
            Some(how) => return Answer::Gone(how.clone()),
            None => {}
        }
        if self.late.get(&member).is_some_and(|late| round <= *late) {
            return Answer::Late;
        }
        let held = self.holds(member);
        match self.key {
            Some(other) if other != member => return Answer::Taken(other),
            None if self.record.is_some_and(|(m, _)| m == member) && !repair => {
                self.gone.insert(member, Departure::Expired);
                self.record = None;
                return Answer::Gone(Departure::Expired);
            }
            _ => {}
        }
        if let Some((old, _)) = self.record.filter(|(old, _)| *old != member) {
            self.gone.insert(old, Departure::Expired);
        }
        self.key = Some(member);
        self.gone.remove(&member);
        let last = self.record.filter(|(old, _)| *old == member).map_or(round, |(_, last)| last);
        self.record = Some((member, last.max(round)));
        let own = held && self.raiser == Some(member);
        Answer::Said(Said::Given { fence: self.fence, floor: self.fence.max(time), own })
    }

    /// A fence is to be raised.
    pub fn raise(&mut self, member: M, to: u64) -> Raise {
        if !self.holds(member) {
            return Raise::NotHeld;
        }
        if self.fence < to || (self.fence == to && self.raiser == Some(member)) {
            self.fence = to;
            self.raiser = Some(member);
            return Raise::Done;
        }
        Raise::Outrun(Fence::new(self.fence))
    }

    /// A sign of life.
    pub fn keep(&self, member: M) -> Keep {
        match (self.key, self.gone.get(&member)) {
            (Some(key), _) if key == member => {
                Keep::Kept { ttl: std::time::Duration::ZERO, since: Micros(0) }
            }
            (None, Some(Departure::Expired) | None) => Keep::Absent,
            (_, Some(how)) => Keep::Gone(how.clone()),
            (Some(_), None) => Keep::Taken,
        }
    }

    /// A member leaves.
    pub fn leave(&mut self, member: M, how: Leave) -> Left {
        let held = self.holds(member);
        let round = self.record.filter(|(m, _)| *m == member).map_or(0, |(_, round)| round);
        let how = match how {
            Leave::Abandon { round: given_up, late } => {
                if late {
                    let last = self.late.entry(member).or_default();
                    *last = given_up.max(*last);
                }
                if !held || given_up < round {
                    return Left::NotHeld(self.departure(member));
                }
                self.free(member);
                return Left::Free;
            }
            Leave::Withdraw => Departure::Withdrawn,
            Leave::Release => Departure::Released,
            _ => return Left::NotHeld(Departure::Forgotten),
        };
        if held {
            self.free(member);
            self.gone.insert(member, how);
            return Left::Free;
        }
        let known = self.departure(member);
        // A ballot of it that is still on its way has to be refused.
        let is_withdrawn = how == Departure::Withdrawn && known == Departure::Forgotten;
        self.gone.insert(member, if is_withdrawn { how } else { known.clone() });
        if known == Departure::Expired {
            // What asks again for a vote that was lost is late, too.
            self.late.insert(member, u64::MAX);
        }
        if self.record.is_some_and(|(m, _)| m == member) {
            self.record = None;
        }
        Left::NotHeld(known)
    }

    /// An operator ends somebody's lease, and raises the fence.
    pub fn oust(&mut self, victim: M, how: Departure, fence: u64) -> Left {
        if self.fence < fence {
            self.fence = fence;
            self.raiser = None;
        }
        if self.holds(victim) {
            self.free(victim);
            self.gone.insert(victim, how);
            return Left::Free;
        }
        let known = self.departure(victim);
        if matches!(known, Departure::Expired | Departure::Forgotten) {
            self.gone.insert(victim, how);
        }
        self.record = self.record.filter(|(member, _)| *member != victim);
        Left::NotHeld(known)
    }

    /// The key ends by itself, or somebody deletes it.
    pub fn expire(&mut self) {
        self.key = None;
    }

    fn free(&mut self, member: M) {
        self.key = None;
        self.record = None;
        if self.raiser == Some(member) {
            self.raiser = None;
        }
    }

    fn departure(&self, member: M) -> Departure {
        match (self.gone.get(&member), self.record) {
            (Some(how), _) => how.clone(),
            (None, Some((record, _))) if record == member => Departure::Expired,
            _ => Departure::Forgotten,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_left_gets_no_vote_by_asking_again_for_one_that_it_had_lost() {
        let mut urn = Urn::default();
        assert!(matches!(urn.vote('a', 1, false, 0), Answer::Said(_)));
        urn.expire();
        assert_eq!(urn.leave('a', Leave::Release), Left::NotHeld(Departure::Expired));
        assert_eq!(urn.vote('a', 2, true, 0), Answer::Late);
        // And is told the same as before.
        assert_eq!(urn.leave('a', Leave::Release), Left::NotHeld(Departure::Expired));
        assert_eq!(urn.key, None);
    }
}
