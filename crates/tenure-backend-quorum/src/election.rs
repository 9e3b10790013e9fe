//! One attempt to be granted a lock by a majority of voters: what their answers amount to. Pure: the
//! backend runs it, and so do the models.
//!
//! 1. Votes: whoever votes is bound for the ttl, and says the highest fence that it has confirmed.
//! 2. With the votes of a majority, the fence is one more than the highest of these.
//! 3. It is raised at those who voted. It counts once a majority has confirmed the same number, each
//!    of them still bound, and each strictly above what it had. Whoever was outrun begins again at 2.
//!
//! Two majorities share a voter. If A's raise there came before B's vote, B's fence is above A's. If
//! B's vote came first, the voter was bound to B, and would not have confirmed A's raise; if it was bound
//! to A again by then, the two raises are in some order there, and the later one is strictly higher or refused.

use tenure_core::voter::Raise;

/// How often somebody may be outrun before an attempt is given up.
const OUTRUNS: u8 = 8;

/// What a voter said to a ballot, as far as it counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Said {
    /// It is bound to us. It has confirmed `fence`, for us if it is our `own`; a new one has to be above
    /// `floor`.
    Given {
        /// The highest fence that it has confirmed.
        fence: u64,
        /// At least that.
        floor: u64,
        /// Whether it was ours, and it has been bound to us ever since.
        own: bool,
    },
    /// It is not.
    Refused,
}

/// What to do next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Next {
    /// Wait for more answers.
    Wait,
    /// Ask these voters to raise their fences.
    Raise {
        /// To this.
        fence: u64,
        /// Which.
        at: Vec<usize>,
    },
    /// Granted, with this fence.
    Won(u64),
    /// There will be no majority.
    Lost,
}

/// Where a voter stands in an election.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Stand {
    Asked,
    /// It did not answer in time; it may yet.
    Silent,
    Refused,
    Given {
        fence: u64,
        floor: u64,
        own: bool,
        raise: Raising,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Raising {
    ToBeAsked,
    Asked,
    Silent,
    Done,
    /// It is not bound to us any more.
    Unbound,
}

/// An election; see the module.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Election {
    stands: Vec<Stand>,
    goal: Option<u64>,
    outruns: u8,
    rules: Rules,
}

/// What an election rests on; models break it to see what for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Rules {
    /// The fence counts without having been raised anywhere.
    #[cfg(test)]
    pub(crate) no_write_back: bool,
}

impl Rules {
    fn writes_back(self) -> bool {
        #[cfg(test)]
        return !self.no_write_back;
        #[cfg(not(test))]
        true
    }
}

/// How many of `voters` are a majority.
#[must_use]
pub const fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

impl Election {
    /// An election in which so many voters were asked.
    #[must_use]
    pub fn new(voters: usize) -> Self {
        let rules = Rules::default();
        Self { stands: vec![Stand::Asked; voters], goal: None, outruns: 0, rules }
    }

    #[cfg(test)]
    pub(crate) fn with(voters: usize, rules: Rules) -> Self {
        Self { rules, ..Self::new(voters) }
    }

    #[cfg(test)]
    pub(crate) fn stand(&self, voter: usize) -> Stand {
        self.stands[voter]
    }

    /// The same, with its voters in another order.
    #[cfg(test)]
    pub(crate) fn in_order(&self, order: &[usize]) -> Self {
        let stands = order.iter().map(|voter| self.stands[*voter]).collect();
        Self { stands, ..self.clone() }
    }

    fn quorum(&self) -> usize {
        majority(self.stands.len())
    }

    /// A voter has answered, in time or late.
    pub fn said(&mut self, voter: usize, said: Said) {
        self.stands[voter] = match said {
            Said::Given { fence, floor, own } => {
                Stand::Given { fence, floor, own, raise: Raising::ToBeAsked }
            }
            Said::Refused => Stand::Refused,
        };
    }

    /// A voter has answered whether it raised its fence to this.
    pub fn raised(&mut self, voter: usize, to: u64, answer: Raise) {
        let is_goal = self.goal == Some(to);
        let Stand::Given { fence, floor, own, raise } = &mut self.stands[voter] else { return };
        match answer {
            Raise::Done if is_goal => *raise = Raising::Done,
            Raise::NotHeld => *raise = Raising::Unbound,
            Raise::Outrun(by) => {
                *fence = by.get().max(*fence);
                *floor = by.get().max(*floor);
                *own = false;
                if is_goal {
                    self.goal = None;
                    self.outruns += 1;
                    self.ask_all_again();
                }
            }
            // Of an earlier goal.
            _ => {}
        }
    }

    /// A voter has not answered in time what it was asked last.
    pub fn silent(&mut self, voter: usize) {
        match &mut self.stands[voter] {
            stand @ Stand::Asked => *stand = Stand::Silent,
            Stand::Given { raise: raise @ Raising::Asked, .. } => *raise = Raising::Silent,
            _ => {}
        }
    }

    /// Whether a voter's answer is awaited.
    #[must_use]
    pub fn awaits(&self, voter: usize) -> bool {
        matches!(self.stands[voter], Stand::Asked | Stand::Given { raise: Raising::Asked, .. })
    }

    /// Whether a voter is bound to us, as far as is known.
    #[must_use]
    pub fn has_vote_of(&self, voter: usize) -> bool {
        matches!(self.stands[voter], Stand::Given { raise, .. } if raise != Raising::Unbound)
    }

    /// Whether a ballot may still be on its way to a voter.
    #[must_use]
    pub fn is_open(&self, voter: usize) -> bool {
        matches!(self.stands[voter], Stand::Asked | Stand::Silent)
    }

    /// What to do next. What is to be asked counts as asked from then on.
    pub fn step(&mut self) -> Next {
        let quorum = self.quorum();
        let asked = self.count(|stand| matches!(stand, Stand::Asked));
        let given = self.count(|stand| {
            let lost = |raise| matches!(raise, Raising::Silent | Raising::Unbound);
            matches!(stand, Stand::Given { raise, .. } if !lost(*raise))
        });
        if given + asked < quorum || OUTRUNS < self.outruns {
            return Next::Lost;
        }
        if self.goal.is_none() && given < quorum {
            return Next::Wait;
        }
        let fence = self.goal.unwrap_or_else(|| self.aim());
        self.goal = Some(fence);
        let done = self.count(|s| matches!(s, Stand::Given { raise: Raising::Done, .. }));
        if quorum <= done || !self.rules.writes_back() {
            return Next::Won(fence);
        }
        let mut at = Vec::new();
        for (voter, stand) in self.stands.iter_mut().enumerate() {
            if let Stand::Given { raise: raise @ Raising::ToBeAsked, .. } = stand {
                *raise = Raising::Asked;
                at.push(voter);
            }
        }
        if at.is_empty() { Next::Wait } else { Next::Raise { fence, at } }
    }

    /// The fence to raise to: our own if it is the highest, for it may have been granted already and
    /// the answer lost; otherwise a new one.
    fn aim(&self) -> u64 {
        let given = || {
            self.stands.iter().filter_map(|stand| match stand {
                Stand::Given { fence, floor, own, .. } => Some((*fence, *floor, *own)),
                _ => None,
            })
        };
        let highest = given().map(|(fence, ..)| fence).max().unwrap_or(0);
        if given().any(|(fence, _, own)| own && fence == highest) {
            return highest;
        }
        given().map(|(_, floor, _)| floor).max().unwrap_or(0) + 1
    }

    fn ask_all_again(&mut self) {
        for stand in &mut self.stands {
            if let Stand::Given { raise, .. } = stand
                && *raise != Raising::Unbound
            {
                *raise = Raising::ToBeAsked;
            }
        }
    }

    fn count(&self, which: impl Fn(&Stand) -> bool) -> usize {
        self.stands.iter().filter(|stand| which(stand)).count()
    }
}
