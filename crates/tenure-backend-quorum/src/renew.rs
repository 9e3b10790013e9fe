//! Signs of life, and the votes of those that have lost one.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::StreamExt;
use tenure_core::backend::{Grant, Kept, Member, Renewal, time_to_renew};
use tenure_core::clock::{Clock, SystemClock};
use tenure_core::voter::{Ballot, Keep, Sign, Vote, Voter};
use tenure_core::{Details, Fence, Owner, Result, Seats};

use crate::election::majority;
use crate::house::{Asked, House, afterwards, known, too_few};
use crate::seat::Need;
use crate::standing::{Standing, standing};

/// What one voter says to all signs.
type Said = Vec<Result<Keep>>;

pub(crate) async fn renew<V: Voter>(house: Arc<House<V>>, members: Vec<Member>) -> Vec<Renewal> {
    let sign = |m: &Member| Sign::new(m.name.clone(), m.id, m.change.then_some(m.ttl));
    let signs: Arc<[Sign]> = members.iter().map(sign).collect();
    // A majority that answers need not be the one that keeps these.
    let asked = house.ask_all(Need::Keep, move |seat| {
        let signs = signs.clone();
        async move { answered(seat.voter.renew(&signs).await) }
    });
    let mut round = Round { house, members, asked, answers: Vec::new() };
    round.answers = round.members.iter().map(|_| vec![None; round.house.size()]).collect();
    let limit = time_to_renew(&round.members);
    let _ = tokio::time::timeout(limit, round.listen()).await;
    let renewals = (0..round.members.len()).map(|member| round.renewal(member)).collect();
    round.go_on();
    renewals
}

/// A voter that answers nothing to any of the signs has not answered.
fn answered(said: Said) -> Result<Said> {
    let is_none = |keep: &Result<Keep>| keep.as_ref().is_err_and(|e| e.kind().is_transient());
    match said.first() {
        Some(Err(error)) if said.iter().all(is_none) => Err(error.clone()),
        _ => Ok(said),
    }
}

/// One call that renews, and what each voter says to each member.
struct Round<V> {
    house: Arc<House<V>>,
    members: Vec<Member>,
    asked: Asked<Said>,
    answers: Vec<Vec<Option<Result<Keep>>>>,
}

impl<V: Voter> Round<V> {
    /// Until it is known of everybody whether a majority keeps it.
    async fn listen(&mut self) {
        while let Some((voter, said)) = self.asked.next().await {
            self.hear(voter, said);
            let is_known = |member: usize| self.standing(member) != Standing::Unknown;
            if (0..self.members.len()).all(is_known) {
                break;
            }
        }
    }

    fn hear(&mut self, voter: usize, said: Result<Said>) {
        let mut said = match said {
            Ok(said) => said,
            Err(error) => vec![Err(error); self.members.len()],
        };
        for member in (0..self.members.len()).rev() {
            self.answers[member][voter] = said.pop();
        }
    }

    fn standing(&self, member: usize) -> Standing {
        standing(&known(&self.answers[member]))
    }

    fn renewal(&self, member: usize) -> Renewal {
        match self.standing(member) {
            Standing::Kept { .. } => {
                let fence = self.members[member].fence.unwrap_or(Fence::ZERO);
                let (ttl, since) = self.kept(member);
                let at = if since == tenure_core::Micros(0) { SystemClock.wall() } else { since };
                let mut grant = Grant::new(fence, Seats::All, at, ttl);
                grant.handed_over = false;
                Renewal::Kept(Kept::Holding(grant))
            }
            Standing::Gone(how) => Renewal::Gone(how),
            Standing::Unknown => Renewal::Unknown(too_few(&self.answers[member])),
        }
    }

    /// For how long a majority keeps it, and since when.
    fn kept(&self, member: usize) -> (Duration, tenure_core::Micros) {
        let mut all: Vec<(Duration, tenure_core::Micros)> = known(&self.answers[member])
            .into_iter()
            .flatten()
            .filter_map(|keep| match keep {
                Keep::Kept { ttl, since } => Some((ttl, since)),
                _ => None,
            })
            .collect();
        all.sort_by_key(|(ttl, _)| std::cmp::Reverse(*ttl));
        all.get(majority(self.house.size()) - 1).copied().unwrap_or_default()
    }

    /// Asks those again that have lost a holder whom a majority keeps, and hears the others: one that is
    /// silent keeps nobody from being asked.
    fn go_on(mut self) {
        let is_complete = self.asked.is_empty();
        let is_whole = |member| self.standing(member) == Standing::Kept { absent: Vec::new() };
        if is_complete && (0..self.members.len()).all(is_whole) {
            return;
        }
        afterwards(async move {
            loop {
                for member in 0..self.members.len() {
                    let Standing::Kept { absent } = self.standing(member) else { continue };
                    for voter in absent {
                        self.repair(member, voter).await;
                        // Once is enough.
                        self.answers[member][voter] = None;
                    }
                }
                let Some((voter, said)) = self.asked.next().await else { return };
                self.hear(voter, said);
            }
        });
    }

    /// Asks a voter again that has lost a holder. What comes of it is seen at the next renewal.
    async fn repair(&mut self, member: usize, voter: usize) {
        let Member { name, id, ttl, fence, .. } = self.members[member].clone();
        let Some(fence) = fence else { return };
        let mut ballot = Ballot::new(name, id, ttl, self.details(member).await);
        ballot.round = self.house.next_round();
        ballot.longest = self.house.longest;
        ballot.repair = true;
        let asked = self.house.ask(voter, Need::Majority, move |seat| async move {
            let vote = seat.voter.vote(&ballot).await?;
            if let Vote::Given { .. } = vote {
                seat.voter.raise(&ballot.name, ballot.member, fence).await?;
            }
            Ok(vote)
        });
        let (_, vote) = asked.await;
        let lock = self.members[member].name.as_str();
        tracing::debug!(lock, voter, ?vote, "asked again for a vote that was lost");
    }

    /// Who it is, as those know who keep it.
    async fn details(&mut self, member: usize) -> Arc<Details> {
        let keeps =
            |voter: &usize| matches!(self.answers[member][*voter], Some(Ok(Keep::Kept { .. })));
        let (name, longest) = (self.members[member].name.clone(), self.house.longest);
        if let Some(voter) = (0..self.house.size()).find(keeps) {
            let looked = self.house.ask(voter, Need::Majority, move |seat| async move {
                seat.voter.look(&name, longest).await
            });
            if let (_, Ok(sight)) = looked.await
                && let Some(holder) = sight.holder
                && holder.member == self.members[member].id
            {
                return holder.details;
            }
        }
        Arc::new(Details::of(Owner::this_process()))
    }
}
