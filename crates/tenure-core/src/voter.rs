//! The door for authors of stores of which several together make one: what each has to do.
//!
//! A lock of a quorum is held by whoever has the votes of a majority of independent voters, and has
//! raised its fence at a majority. What the answers of all of them amount to is decided in
//! `tenure-backend-quorum`, where the rules of a single voter stand as a pure twin as well.

use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::backend::{Departure, Listener};
use crate::error::Result;
use crate::name::LockName;
use crate::owner::Details;
use crate::token::MemberId;
use crate::values::{Fence, Micros};
use crate::view::HolderView;

/// A wish for one voter's vote.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Ballot {
    /// The lock.
    pub name: LockName,
    /// Who wants it.
    pub member: MemberId,
    /// The attempt; a later one of the same member has a higher number.
    pub round: u64,
    /// How long the vote binds the voter unless it is renewed.
    pub ttl: Duration,
    /// The longest ttl that anybody may have: for so long a voter gives no vote that may have
    /// forgotten what it knew. A voter is told by the first who asks; it can be made longer until
    /// it gives votes, and then no more, also not where it knows it still when it starts again.
    pub longest: Duration,
    /// A holder that has been confirmed by a majority asks for the vote of one that has lost it.
    pub repair: bool,
    /// Whether whoever asks would like to be told when the lock may be free.
    pub waits: bool,
    /// Who claims.
    pub details: Arc<Details>,
}

impl Ballot {
    /// A ballot of a first attempt.
    pub fn new(name: LockName, member: MemberId, ttl: Duration, details: Arc<Details>) -> Self {
        let (round, longest, repair, waits) = (0, ttl, false, false);
        Self { name, member, round, ttl, longest, repair, waits, details }
    }
}

/// What a voter says to a ballot.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Vote {
    /// The voter is bound to this member for the ttl, counted from now.
    Given {
        /// The highest fence it has ever confirmed.
        fence: Fence,
        /// That fence, or the voter's time in microseconds if it is higher: the next fence has to be above.
        floor: Fence,
        /// Whether it was this member that had it raised so far.
        own: bool,
    },
    /// It is bound to somebody else.
    Taken {
        /// To whom.
        by: Box<HolderView>,
        /// For how long, if it knows.
        ends: Option<Duration>,
    },
    /// It may have forgotten what it knew, and gives no votes for so long.
    Quarantined(Duration),
    /// It knows how this member's time ended.
    Gone(Departure),
    /// This round was given up before the ballot came.
    Late,
    /// All who use it have to agree on how long a lease may live, and the first said this.
    Bound(Duration),
}

/// What a voter says when a fence is to be raised.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Raise {
    /// It is raised to this fence, by this member, which it is bound to.
    Done,
    /// It has confirmed this one, which is as high or higher.
    Outrun(Fence),
    /// It is not bound to this member any more.
    NotHeld,
}

/// A sign of life of a holder, for one voter.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Sign {
    /// The lock.
    pub name: LockName,
    /// The holder.
    pub member: MemberId,
    /// A new ttl, if it is to be changed.
    pub ttl: Option<Duration>,
}

impl Sign {
    /// A sign of life.
    pub fn new(name: LockName, member: MemberId, ttl: Option<Duration>) -> Self {
        Self { name, member, ttl }
    }
}

/// What a voter says to a sign of life.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Keep {
    /// It is bound to this member for the ttl, counted from now.
    Kept {
        /// The ttl, as it has it.
        ttl: Duration,
        /// Since when.
        since: Micros,
    },
    /// It is bound to nobody: it forgot, or its clock was fast.
    Absent,
    /// It is bound to somebody else.
    Taken,
    /// It knows how this member's time ended.
    Gone(Departure),
}

/// How a member leaves a voter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Leave {
    /// It did not get a majority in this round.
    Abandon {
        /// The round; votes of later ones stay.
        round: u64,
        /// Whether a ballot of the round may still be on its way, and has to be refused then.
        late: bool,
    },
    /// Its claim was withdrawn, and must never be granted.
    Withdraw,
    /// It gives the lock back.
    Release,
}

/// What became of a leave at a voter.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Left {
    /// It was bound to this member until now.
    Free,
    /// It was not, and this is how its time ended.
    NotHeld(Departure),
}

/// A force release at one voter.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Ouster {
    /// The lock.
    pub name: LockName,
    /// Who is to go.
    pub victim: MemberId,
    /// What it is told.
    pub how: Departure,
    /// What the voter's fence is raised to, if it is below.
    pub fence: Fence,
}

impl Ouster {
    /// An ouster.
    pub fn new(name: LockName, victim: MemberId, how: Departure, fence: Fence) -> Self {
        Self { name, victim, how, fence }
    }
}

/// What a voter has of a lock.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct Sight {
    /// The highest fence it has confirmed.
    pub fence: Fence,
    /// That fence, or its time in microseconds if it is higher.
    pub floor: Fence,
    /// Whom it is bound to; another program's lock has the fence zero.
    pub holder: Option<HolderView>,
    /// Whether it gives votes, or for how long it does not.
    pub quarantine: Duration,
    /// How long a lease may live, as those say who ask for its votes; `None` if nobody has asked.
    pub longest: Option<Duration>,
}

impl Sight {
    /// A voter that is bound to nobody.
    pub fn new(fence: Fence, floor: Fence) -> Self {
        Self { fence, floor, holder: None, quarantine: Duration::ZERO, longest: None }
    }
}

/// One of several independent stores that decide by majority.
///
/// Looking and doing are one step in each call. Calls may be made from any runtime or none, and
/// their outcome is unknown if they fail or are dropped. Calls of one process that are made one after
/// the other about one member reach the voter in that order, unless the connection was lost between
/// them.
pub trait Voter: Send + Sync + 'static {
    /// Its address for people, credentials masked.
    fn address(&self) -> Arc<str>;

    /// Asks for its vote; idempotent per member and round.
    fn vote(&self, ballot: &Ballot) -> impl Future<Output = Result<Vote>> + Send;

    /// Raises its fence, only for the member that it is bound to and only strictly: an equal fence
    /// is confirmed only to the member that raised it.
    fn raise(
        &self,
        name: &LockName,
        member: MemberId,
        to: Fence,
    ) -> impl Future<Output = Result<Raise>> + Send;

    /// Takes signs of life; the answers are in their order. Never binds it anew.
    fn renew(&self, signs: &[Sign]) -> impl Future<Output = Vec<Result<Keep>>> + Send;

    /// Frees it from a member, and remembers that.
    fn leave(
        &self,
        name: &LockName,
        member: MemberId,
        how: Leave,
    ) -> impl Future<Output = Result<Left>> + Send;

    /// Frees it from a member whose lease an operator ends, and raises its fence.
    fn oust(&self, ouster: &Ouster) -> impl Future<Output = Result<Left>> + Send;

    /// What it has of a lock. Asks for nothing: nobody is bound by the longest ttl that is named.
    fn look(
        &self,
        name: &LockName,
        longest: Duration,
    ) -> impl Future<Output = Result<Sight>> + Send;

    /// Asks whether it is there.
    fn ping(&self) -> impl Future<Output = Result<()>> + Send;

    /// Adds somebody who is told of changes for as long as the weak reference lives.
    fn subscribe(&self, listener: Weak<dyn Listener>);

    /// Its keys of a name, for people who join in with other tools.
    fn keys(&self, name: &LockName) -> Vec<(&'static str, String)>;
}
