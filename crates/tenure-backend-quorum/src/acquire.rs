//! An acquire: elections, until one is won, or it is clear that somebody else holds the lock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tenure_core::backend::{Claim, Departure, Grant, Place, Refusal, Verdict};
use tenure_core::clock::{Clock, SystemClock};
use tenure_core::voter::{Ballot, Leave, Raise, Vote, Voter};
use tenure_core::{Error, ErrorKind, Fence, MemberId, Result, Seats};

use crate::election::{Election, Next, Said, majority};
use crate::house::{Asked, House, afterwards, drain, gather, patience, too_few};
use crate::seat::{Need, pause};
use crate::standing::plainest;

/// How often votes that were split among several are asked for again at once.
const AGAIN: u32 = 3;
/// The longest pause before that, the first time.
const PAUSE: Duration = Duration::from_millis(8);

/// How long voters that neither answer nor fail are asked again: longer than a moment of the network.
const SILENCE: Duration = Duration::from_secs(2);

/// What a voter answered in an election.
enum Heard {
    Voted(Vote),
    Raised(Fence, Raise),
}

pub(crate) async fn acquire<V: Voter>(house: Arc<House<V>>, claim: Claim) -> Result<Verdict> {
    let began = SystemClock.now();
    let mut again = 0;
    loop {
        // Whoever does not ask again has to know: the lead may not have heard of a release yet.
        let contended = claim.asks_again && (0 < again || !claim.first);
        let mut canvass = Canvass::new(&house, &claim, contended);
        if let Some(fence) = canvass.run().await {
            canvass.won(fence);
            let grant = Grant::new(fence, Seats::All, SystemClock.wall(), claim.ttl);
            return Ok(Verdict::Granted(grant));
        }
        let silent = canvass.is_silent() && SystemClock.now().since(began) < SILENCE;
        let again_at_once = canvass.is_split() || canvass.is_cut();
        let split = canvass.lead.is_none() && (silent || again_at_once && again < AGAIN);
        let verdict = canvass.verdict();
        let leaving = canvass.lost();
        if !split {
            drain(leaving);
            return verdict;
        }
        let (mut leaving, limit) = (leaving, patience(claim.ttl));
        gather(&mut leaving, house.size(), limit, |_| false).await;
        drain(leaving);
        pause((PAUSE * 2_u32.pow(again.min(AGAIN))).mul_f64(rand::random())).await;
        again += 1;
    }
}

/// One election under way.
struct Canvass<'a, V> {
    house: &'a Arc<House<V>>,
    ballot: Arc<Ballot>,
    election: Election,
    asked: Asked<Heard>,
    votes: Vec<Option<Result<Vote>>>,
    /// The voter that is asked before the others, if several may ask at the same time: whoever finds it
    /// taken splits nobody else's votes.
    lead: Option<usize>,
}

impl<'a, V: Voter> Canvass<'a, V> {
    fn new(house: &'a Arc<House<V>>, claim: &Claim, contended: bool) -> Self {
        let details = claim.details.clone();
        let mut ballot = Ballot::new(claim.name.clone(), claim.member, claim.ttl, details);
        ballot.round = house.next_round();
        ballot.longest = house.longest;
        ballot.waits = claim.asks_again;
        let ballot = Arc::new(ballot);
        let votes = (0..house.size()).map(|_| None).collect();
        let (election, asked) = (Election::new(house.size()), Asked::new());
        let lead = contended.then(|| house.lead());
        Self { house, ballot, election, asked, votes, lead }
    }

    fn ask(&self, voter: usize) {
        let ballot = self.ballot.clone();
        self.asked.push(self.house.ask(voter, Need::Majority, move |seat| async move {
            seat.voter.vote(&ballot).await.map(Heard::Voted)
        }));
    }

    /// Asks the lead, and then the others unless it is taken; `false` if it is.
    async fn begin(&mut self, limit: Duration) -> bool {
        let lead = self.lead;
        if let Some(lead) = lead {
            self.ask(lead);
            self.hears(limit).await;
            if let Some(Ok(Vote::Taken { .. })) = &self.votes[lead] {
                return false;
            }
        }
        self.lead = None;
        (0..self.house.size()).filter(|voter| lead != Some(*voter)).for_each(|v| self.ask(v));
        true
    }

    /// Until it is won, with the fence, or lost.
    async fn run(&mut self) -> Option<Fence> {
        let limit = patience(self.ballot.ttl);
        if !self.begin(limit).await {
            return None;
        }
        loop {
            match self.election.step() {
                Next::Won(fence) => return Some(Fence::new(fence)),
                Next::Lost => return None,
                Next::Raise { fence, at } => {
                    for voter in at {
                        self.asked.push(raise(self.house, &self.ballot, voter, Fence::new(fence)));
                    }
                }
                Next::Wait => {}
            }
            if !self.hears(limit).await {
                for voter in 0..self.house.size() {
                    self.election.silent(voter);
                }
            }
        }
    }

    /// Takes one answer; `false` if none came in time.
    async fn hears(&mut self, limit: Duration) -> bool {
        match tokio::time::timeout(limit, self.asked.next()).await {
            Ok(Some((voter, Ok(Heard::Raised(to, answer))))) => {
                self.election.raised(voter, to.get(), answer);
            }
            Ok(Some((voter, Ok(Heard::Voted(vote))))) => {
                self.election.said(voter, said(&vote));
                self.votes[voter] = Some(Ok(vote));
            }
            Ok(Some((voter, Err(error)))) => {
                self.election.silent(voter);
                if !self.election.has_vote_of(voter) {
                    self.votes[voter] = Some(Err(error));
                }
            }
            Ok(None) | Err(_) => return false,
        }
        true
    }

    /// Votes that come late count as well: whoever has more of them outlives more failures.
    fn won(mut self, fence: Fence) {
        if self.asked.is_empty() {
            return;
        }
        let (house, ballot) = (self.house.clone(), self.ballot.clone());
        afterwards(async move {
            while let Some((voter, heard)) = self.asked.next().await {
                if let Ok(Heard::Voted(Vote::Given { .. })) = heard {
                    self.asked.push(raise(&house, &ballot, voter, fence));
                }
            }
        });
    }

    /// Gives back the votes that there are, and those that may come.
    fn lost(self) -> Asked<()> {
        let asked = FuturesUnordered::new();
        if self.lead.is_some() {
            // It gave no vote, and the others were not asked.
            return asked;
        }
        for voter in 0..self.house.size() {
            let late = self.election.is_open(voter);
            if !late && !self.election.has_vote_of(voter) {
                continue;
            }
            // That it was not sent is not worth remembering.
            if late && matches!(&self.votes[voter], Some(Err(e)) if e.changed_nothing()) {
                continue;
            }
            let (ballot, how) =
                (self.ballot.clone(), Leave::Abandon { round: self.ballot.round, late });
            asked.push(self.house.ask(voter, Need::Each, move |seat| async move {
                seat.voter.leave(&ballot.name, ballot.member, how).await.map(drop)
            }));
        }
        asked
    }

    /// Whether it was lost only because too many have not answered in time.
    fn is_silent(&self) -> bool {
        let silent = self.votes.iter().filter(|vote| vote.is_none()).count();
        let failed = self.votes.iter().flatten().filter(|vote| vote.is_err()).count();
        let quorum = majority(self.votes.len());
        self.votes.len() - silent - failed < quorum && quorum <= self.votes.len() - failed
    }

    /// Whether it was lost because too many failed in a way that may be over: a connection that was lost
    /// is noticed by whoever uses it next.
    fn is_cut(&self) -> bool {
        let may_be_over = |vote: &Option<Result<Vote>>| {
            vote.as_ref().is_none_or(|vote| match vote {
                Ok(_) => false,
                Err(error) => error.kind().is_transient(),
            })
        };
        let failed = self.votes.iter().filter(|vote| may_be_over(vote)).count();
        let answered = self.votes.iter().flatten().filter(|vote| vote.is_ok()).count();
        answered < majority(self.votes.len()) && majority(self.votes.len()) <= answered + failed
    }

    /// Whether no other holder can have a majority: several asked at the same time.
    fn is_split(&self) -> bool {
        let mut others: BTreeMap<MemberId, usize> = BTreeMap::new();
        let mut open = 0;
        for vote in &self.votes {
            match vote {
                Some(Ok(Vote::Taken { by, .. })) => *others.entry(by.member).or_default() += 1,
                // None that anybody else has, or gets at this time.
                Some(Ok(
                    Vote::Given { .. } | Vote::Late | Vote::Quarantined(_) | Vote::Bound(_),
                )) => {}
                _ => open += 1,
            }
        }
        let most = others.values().copied().max().unwrap_or(0);
        open == 0 && most < majority(self.votes.len())
    }

    /// Why it was not won.
    fn verdict(&self) -> Result<Verdict> {
        let quorum = majority(self.votes.len());
        let votes = || self.votes.iter().flatten().flatten();
        let bounds = || {
            votes().filter_map(|vote| match vote {
                Vote::Bound(longest) => Some(*longest),
                _ => None,
            })
        };
        // Those who can do without the others are not troubled by what somebody told these.
        if self.votes.len() - quorum < bounds().count() {
            return Err(other_ttl(bounds().max().unwrap_or_default(), self.ballot.longest));
        }
        let gone = || {
            votes().filter_map(|vote| match vote {
                Vote::Gone(how) => Some(how.clone()),
                _ => None,
            })
        };
        if self.votes.len() - quorum < gone().count() {
            return Ok(Verdict::Refused(match plainest(gone()) {
                Some(Departure::Withdrawn) | None => Refusal::Withdrawn,
                Some(how) => Refusal::Departed(how),
            }));
        }
        let quarantined: Vec<Duration> = votes()
            .filter_map(|vote| match vote {
                Vote::Quarantined(left) => Some(*left),
                _ => None,
            })
            .collect();
        let answered = if self.lead.is_some() { quorum } else { votes().count() };
        if answered < quorum {
            return Err(too_few(&self.votes));
        }
        if answered - quarantined.len() < quorum {
            return self.quarantine(&quarantined);
        }
        let mut place = Place::default();
        let mut shown: Vec<MemberId> = Vec::new();
        for vote in votes() {
            if let Vote::Taken { by, ends } = vote {
                place.check_in = place.check_in.into_iter().chain(*ends).min();
                if !shown.contains(&by.member) {
                    shown.push(by.member);
                    place.holders.push((**by).clone());
                }
            }
        }
        let votes_of = |member: MemberId| {
            votes().filter(|v| matches!(v, Vote::Taken { by, .. } if by.member == member)).count()
        };
        let most = shown.iter().map(|member| votes_of(*member)).max().unwrap_or(0);
        place.holders.retain(|holder| votes_of(holder.member) == most);
        Ok(Verdict::Busy(place))
    }

    /// Too many voters may have forgotten what they knew.
    fn quarantine(&self, left: &[Duration]) -> Result<Verdict> {
        if self.ballot.waits {
            let mut place = Place::default();
            place.check_in = left.iter().min().copied();
            return Ok(Verdict::Busy(place));
        }
        let longest = left.iter().max().copied().unwrap_or_default();
        Err(Error::new(
            ErrorKind::Unreachable,
            format!(
                "{} of {} nodes were restarted or are new, and give no votes for {:.1} s more",
                left.len(),
                self.votes.len(),
                longest.as_secs_f64()
            ),
        )
        .with_help(
            "wait that long: leases that they may have forgotten live for `max_ttl` at most",
        ))
    }
}

fn raise<V: Voter>(
    house: &House<V>,
    ballot: &Arc<Ballot>,
    voter: usize,
    to: Fence,
) -> futures_util::future::BoxFuture<'static, crate::house::Heard<Heard>> {
    let ballot = ballot.clone();
    house.ask(voter, Need::Majority, move |seat| async move {
        let raised = seat.voter.raise(&ballot.name, ballot.member, to).await;
        raised.map(|answer| Heard::Raised(to, answer))
    })
}

fn said(vote: &Vote) -> Said {
    match vote {
        Vote::Given { fence, floor, own } => {
            Said::Given { fence: fence.get(), floor: floor.get(), own: *own }
        }
        _ => Said::Refused,
    }
}

fn other_ttl(theirs: Duration, ours: Duration) -> Error {
    Error::new(
        ErrorKind::Invalid,
        format!("others of these nodes let leases live for {theirs:?}, this store for {ours:?}"),
    )
    .with_help(format!(
        "all who use the same nodes have to name the same `?max_ttl=`: here {theirs:?}, until nobody uses \
         them and `tenure:run` is deleted on each"
    ))
}
