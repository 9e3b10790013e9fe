//! The door for authors of stores: the trait a native backend implements, and its words.
//!
//! A backend is only its few store calls. Waiting, renewal, release on drop, loss, retry and
//! cancellation belong to the manager. A store that only offers a versioned register per name
//! implements [`Register`](crate::register::Register) instead.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::capability::Capabilities;
use crate::clock::Moment;
use crate::error::{Error, Result};
use crate::name::LockName;
use crate::owner::Details;
use crate::token::{ClaimId, MemberId, Token};
use crate::values::{Fence, Micros, Priority, Seats};
use crate::view::{HolderView, ValueView, View};

/// One wish for seats on a name, sent to the store as often as it takes; idempotent per token.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Claim {
    /// The lock.
    pub name: LockName,
    /// The claim's own id; a withdrawn id is refused for as long as its tombstone lives.
    pub id: ClaimId,
    /// The ownership secret.
    pub token: Token,
    /// The token's public identity.
    pub member: MemberId,
    /// Whether no copy of this claim can have reached the store before. A store may be told so and
    /// save the question what became of an earlier one; `false` is always right.
    pub first: bool,
    /// What is wanted.
    pub seats: Seats,
    /// How long the lease lives without renewal.
    pub ttl: Duration,
    /// Whether to queue when the seats are taken.
    pub wait: bool,
    /// Whether whoever claims asks again when the seats are taken, because the store has no queue.
    pub asks_again: bool,
    /// How long a place in the queue lives without refresh.
    pub wait_ttl: Duration,
    /// How long a lease handed over lives until its first renewal.
    pub pick_up: Duration,
    /// Take a live value instead of the seats, if there is one and nobody holds the name.
    pub or_value: bool,
    /// The token already holds some seats and wants all of them.
    pub upgrade: bool,
    /// Evict whoever is in the way, for this reason, and jump the queue.
    pub force: Option<Arc<str>>,
    /// Head start in the queue.
    pub priority: Priority,
    /// Whether the lease outlives this process.
    pub detached: bool,
    /// Who claims.
    pub details: Arc<Details>,
}

impl Claim {
    /// How long a place in the queue lives without refresh.
    pub const WAIT_TTL: Duration = Duration::from_secs(30);
    /// The shortest pick-up term, unless the ttl is shorter.
    pub const PICK_UP: Duration = Duration::from_secs(2);

    /// A plain exclusive claim that does not wait.
    pub fn new(name: LockName, token: Token, ttl: Duration, details: Arc<Details>) -> Self {
        let member = token.member();
        Self {
            name,
            id: member.claim(),
            token,
            member,
            first: false,
            seats: Seats::All,
            ttl,
            wait: false,
            asks_again: false,
            wait_ttl: Self::WAIT_TTL,
            pick_up: ttl.min(Self::PICK_UP),
            or_value: false,
            upgrade: false,
            force: None,
            priority: Priority::default(),
            detached: false,
            details,
        }
    }

    /// How long a tombstone for this claim has to live: no request of it can be under way longer.
    pub fn tombstone_for(&self) -> Duration {
        tombstone_for(self.ttl)
    }
}

/// How long a tombstone for a claim of this ttl has to live.
pub(crate) fn tombstone_for(ttl: Duration) -> Duration {
    ttl.max(Duration::from_secs(60))
}

/// A store's answer to a claim. "Busy" is an answer, not an error.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Verdict {
    /// The seats are taken by this claim.
    Granted(Grant),
    /// The claim has a place in the queue.
    Queued(Place),
    /// The seats are taken and the claim did not want to wait.
    Busy(Place),
    /// A live value answers the claim; it holds nothing and does not wait.
    Value(ValueView),
    /// The claim can never be granted.
    Refused(Refusal),
}

/// Why a claim can never be granted.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Refusal {
    /// It was withdrawn before it landed.
    Withdrawn,
    /// Its token has held the lock and holds it no more.
    Departed(Departure),
    /// Live members of the name count another number of seats.
    Mismatch {
        /// Their number of seats.
        of: u32,
    },
    /// Another holder already waits to upgrade; both would wait for ever.
    UpgradePending,
    /// An upgrade of a token that holds nothing.
    NotHeld,
}

/// Seats granted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Grant {
    /// The fencing token.
    pub fence: Fence,
    /// What was granted.
    pub seats: Seats,
    /// Store time of the grant.
    pub at: Micros,
    /// How long the lease lives without renewal from `at` on: the ttl, or the pick-up term.
    pub term: Duration,
    /// Whether it was handed over by somebody else's transition and not yet renewed.
    pub handed_over: bool,
    /// Store time of this reply, on stores with a clock.
    pub now: Option<Micros>,
    /// A moment of the manager's clock before which the lease did not begin, if the backend saw it
    /// begin, on stores without a clock.
    pub began: Option<Moment>,
}

impl Grant {
    /// A grant, for backends.
    pub fn new(fence: Fence, seats: Seats, at: Micros, term: Duration) -> Self {
        Self { fence, seats, at, term, handed_over: false, now: None, began: None }
    }
}

/// Where a claim stands when it is not granted.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Place {
    /// How many waiters are ahead.
    pub ahead: usize,
    /// Who holds the name.
    pub holders: Vec<HolderView>,
    /// When the earliest lease in the way can end without any message being sent; the claim
    /// should be sent again then. `None` if only a message can end it.
    pub check_in: Option<Duration>,
    /// Store time of this reply, on stores with a clock.
    pub now: Option<Micros>,
}

/// How long a store may wait for the answers of one call that renews these.
///
/// A part of a store may be silent while the rest answers: whoever has no answer by then is
/// reported as [`Renewal::Unknown`], so that the others' answers count. The keeper gives the call
/// up a third later, and all its answers with it.
pub fn time_to_renew(members: &[Member]) -> Duration {
    let shortest = members.iter().map(|member| member.ttl).min().unwrap_or_default();
    (shortest / 8).clamp(Duration::from_millis(10), Duration::from_secs(3))
}

/// A holder or waiter whose sign of life is due.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Member {
    /// The lock.
    pub name: LockName,
    /// The ownership secret.
    pub token: Token,
    /// The token's public identity.
    pub id: MemberId,
    /// The ttl of its lease.
    pub ttl: Duration,
    /// The fence it holds; `None` while it only waits.
    pub fence: Option<Fence>,
    /// Whether the lease outlives this process.
    pub detached: bool,
    /// Whether `ttl` and `detached` are to be changed to what they are here. A plain renewal
    /// leaves them, so that one that lands late undoes nothing.
    pub change: bool,
}

impl Member {
    /// A member, for backends' tests.
    pub fn new(name: LockName, token: Token, ttl: Duration, fence: Option<Fence>) -> Self {
        let id = token.member();
        Self { name, token, id, ttl, fence, detached: false, change: false }
    }

    /// The same member with its ttl and `detached` to be changed.
    #[must_use]
    pub fn changed(mut self, ttl: Duration, detached: bool) -> Self {
        self.ttl = ttl;
        self.detached = detached;
        self.change = true;
        self
    }

    /// The change that is asked for.
    pub fn lasting(&self) -> Option<crate::machine::Lasting> {
        let Self { ttl, detached, .. } = *self;
        self.change.then_some(crate::machine::Lasting { ttl, detached })
    }
}

/// What became of one renewal.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Renewal {
    /// Still there, for a whole ttl counted from before the call.
    Kept(Kept),
    /// No longer there.
    Gone(Departure),
    /// Nobody knows; ask again.
    Unknown(Error),
}

/// What a renewal that was kept says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Kept {
    /// It holds.
    Holding(Grant),
    /// It waits.
    Waiting,
}

/// How a holder stopped being one.
#[derive(Clone, PartialEq, Eq, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Departure {
    /// It released.
    Released,
    /// Its claim was withdrawn.
    Withdrawn,
    /// Its lease ended.
    Expired,
    /// Somebody force-released it.
    Evicted(Reason),
    /// Somebody took the lock from it.
    Stolen(Reason),
    /// A value answered it while it waited.
    Answered,
    /// The session that held it ended.
    SessionEnded,
    /// The store does not know it, or not any more.
    Forgotten,
}

/// Who ended somebody else's lease, and why.
#[derive(Clone, PartialEq, Eq, Hash, Debug, serde::Serialize, serde::Deserialize)]
pub struct Reason {
    /// The owner label of whoever did it.
    pub by: Arc<str>,
    /// Why, in words.
    pub why: Arc<str>,
}

impl Reason {
    /// The longest reason, in bytes.
    pub const MAX: usize = 1024;

    /// A reason.
    ///
    /// # Errors
    /// `Invalid` if `why` is empty, longer than [`Reason::MAX`] bytes or holds control characters.
    pub fn new(by: Arc<str>, why: &str) -> Result<Self> {
        if why.trim().is_empty() || Self::MAX < why.len() || why.chars().any(char::is_control) {
            return Err(Error::new(
                crate::error::ErrorKind::Invalid,
                "a reason is 1 to 1024 bytes of UTF-8 without control characters",
            ));
        }
        Ok(Self { by, why: why.into() })
    }
}

impl fmt::Display for Departure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Departure::Released => f.write_str("it was released"),
            Departure::Withdrawn => f.write_str("its claim was withdrawn"),
            Departure::Expired => f.write_str("its lease ended"),
            Departure::Evicted(r) => write!(f, "{} force-released it: {}", r.by, r.why),
            Departure::Stolen(r) => write!(f, "{} took it: {}", r.by, r.why),
            Departure::Answered => f.write_str("a value answered it"),
            Departure::SessionEnded => f.write_str("the session that held it ended"),
            Departure::Forgotten => f.write_str("the store does not know it"),
        }
    }
}

/// A lease that is held, as backends are asked about it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LeaseRef {
    /// The lock.
    pub name: LockName,
    /// The ownership secret.
    pub token: Token,
    /// The token's public identity.
    pub id: MemberId,
    /// The fence it was granted.
    pub fence: Fence,
}

impl LeaseRef {
    /// A reference to a lease, for backends' tests.
    pub fn new(name: LockName, token: Token, fence: Fence) -> Self {
        let id = token.member();
        Self { name, token, id, fence }
    }
}

/// A value to keep, with its retention.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Value {
    /// The bytes, at most [`VALUE_MAX`](crate::VALUE_MAX).
    pub bytes: Arc<[u8]>,
    /// How long to keep it after it was written.
    pub keep: Duration,
}

/// What became of a release.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Release {
    /// It was held until now and is free.
    Released,
    /// It was not held any more; nothing was changed.
    NotHeld(Departure),
    /// A value was given by somebody who does not hold all seats; nothing was changed.
    NeedsAllSeats,
}

/// What became of a change to a held lease.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Change {
    /// Done; this is what it holds now.
    Done(Grant),
    /// It is not held any more; nothing was changed.
    NotHeld(Departure),
    /// It needs all seats and has some; nothing was changed.
    NeedsAllSeats,
    /// Live waiters count another number of seats; nothing was changed.
    Mismatch {
        /// Their number of seats.
        of: u32,
    },
}

/// What became of a force release.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Evicted {
    /// These were evicted; the fence is above theirs now.
    Done(Vec<HolderView>),
    /// Nobody held the name.
    NobodyThere,
    /// The holder with that fence is gone; these hold it now.
    FenceMoved(Vec<HolderView>),
}

/// Why and on what condition somebody is evicted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Eviction {
    /// Only the holder with this fence; `None` evicts all.
    pub only_if: Option<Fence>,
    /// Whether the evicted is told that its lock was stolen (a conflict strategy) instead of
    /// force-released (an operator).
    pub stolen: bool,
    /// Who and why.
    pub reason: Reason,
}

/// A hint from the store. Silence stays correct: every waiter has a timer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A waiter was granted the lock; with the grant, if the store sends it along.
    Granted {
        /// The lock.
        name: LockName,
        /// Who.
        member: MemberId,
        /// The grant.
        grant: Option<Grant>,
    },
    /// A holder or waiter was ended by somebody else.
    Gone {
        /// The lock.
        name: LockName,
        /// Who.
        member: MemberId,
        /// How.
        departure: Departure,
    },
    /// A session of the store has ended, and these with it: [`Departure::SessionEnded`]. They are told
    /// together, as there may be thousands.
    SessionEnded {
        /// Who.
        members: Arc<[MemberId]>,
    },
    /// Something about the lock changed; whoever waits for it should look.
    Changed {
        /// The lock.
        name: LockName,
    },
    /// The store was out of reach and is back; everybody should look.
    Reconnected,
}

/// Who is told of events; must not block.
pub trait Listener: Send + Sync + 'static {
    /// Takes one event.
    fn on_event(&self, event: Event);
}

/// A native store.
///
/// No default bodies: a wrapper cannot forget a method. All calls may be made from any runtime
/// or none; a future that is dropped leaves its outcome unknown, and the manager resolves that by
/// [`Backend::withdraw`].
pub trait Backend: Send + Sync + 'static {
    /// What this store can do.
    fn capabilities(&self) -> &Capabilities;

    /// The store's address for people, credentials masked.
    fn address(&self) -> Arc<str>;

    /// Asks for seats; idempotent per token: the same claim sent again gets the same grant.
    fn acquire(&self, claim: &Claim) -> impl Future<Output = Result<Verdict>> + Send;

    /// Gives back whatever the claim has, seats or place, and keeps a tombstone, so that a copy
    /// of it that lands later is refused: for [`Claim::tombstone_for`], and no longer.
    fn withdraw(&self, claim: &Claim) -> impl Future<Output = Result<()>> + Send;

    /// Renews leases and queue places; the answers are in the order of `members`. Takes no longer
    /// than [`time_to_renew`] where a part of the store may be silent.
    fn renew(&self, members: &[Member]) -> impl Future<Output = Vec<Renewal>> + Send;

    /// Turns all seats into some; the fence stays. Only for the grant with the lease's fence: one
    /// that lands late changes nothing about a later upgrade.
    fn downgrade(
        &self,
        lease: &LeaseRef,
        seats: Seats,
    ) -> impl Future<Output = Result<Change>> + Send;

    /// Gives the seats back, writes a value in the same transition if one is given, and hands
    /// over to the next waiter.
    fn release(
        &self,
        lease: &LeaseRef,
        value: Option<&Value>,
    ) -> impl Future<Output = Result<Release>> + Send;

    /// Writes the value; only a holder of all seats may.
    fn put(&self, lease: &LeaseRef, value: &Value) -> impl Future<Output = Result<Change>> + Send;

    /// Ends somebody else's lease and raises the fence.
    fn evict(
        &self,
        name: &LockName,
        why: &Eviction,
    ) -> impl Future<Output = Result<Evicted>> + Send;

    /// The lock as it stands.
    fn inspect(&self, name: &LockName) -> impl Future<Output = Result<View>> + Send;

    /// The locks whose names begin with `prefix` and that hold, queue or keep something, in
    /// order of name, `limit` at most.
    fn list(&self, prefix: &str, limit: usize) -> impl Future<Output = Result<Vec<View>>> + Send;

    /// Adds somebody who is told of events for as long as the weak reference lives.
    fn subscribe(&self, listener: std::sync::Weak<dyn Listener>);

    /// Tells the backend that this claim waits (`true`) or stopped waiting in this process, so
    /// that it may watch for it. Answers whether an event will tell of its grant; if not, the
    /// waiter polls.
    fn watch(&self, claim: &Claim, waits: bool) -> bool;

    /// Asks the store whether it is there.
    fn ping(&self) -> impl Future<Output = Result<()>> + Send;

    /// The store-level key or keys of a name, for people who join in with other tools.
    fn keys(&self, name: &LockName) -> Vec<(&'static str, String)>;
}

/// [`Backend`] behind a pointer: the same calls with boxed futures. Every backend is one.
#[allow(missing_docs, reason = "each method is documented at its twin in `Backend`")]
pub trait DynBackend: Send + Sync + 'static {
    fn capabilities(&self) -> &Capabilities;
    fn address(&self) -> Arc<str>;
    fn acquire<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<Verdict>>;
    fn withdraw<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<()>>;
    fn renew<'a>(&'a self, members: &'a [Member]) -> BoxFuture<'a, Vec<Renewal>>;
    fn downgrade<'a>(&'a self, lease: &'a LeaseRef, seats: Seats) -> BoxFuture<'a, Result<Change>>;
    fn release<'a>(
        &'a self,
        lease: &'a LeaseRef,
        value: Option<&'a Value>,
    ) -> BoxFuture<'a, Result<Release>>;
    fn put<'a>(&'a self, lease: &'a LeaseRef, value: &'a Value) -> BoxFuture<'a, Result<Change>>;
    fn evict<'a>(&'a self, name: &'a LockName, why: &'a Eviction)
    -> BoxFuture<'a, Result<Evicted>>;
    fn inspect<'a>(&'a self, name: &'a LockName) -> BoxFuture<'a, Result<View>>;
    fn list<'a>(&'a self, prefix: &'a str, limit: usize) -> BoxFuture<'a, Result<Vec<View>>>;
    fn ping<'a>(&'a self) -> BoxFuture<'a, Result<()>>;
    fn subscribe(&self, listener: std::sync::Weak<dyn Listener>);
    fn watch(&self, claim: &Claim, waits: bool) -> bool;
    fn keys(&self, name: &LockName) -> Vec<(&'static str, String)>;
}

impl<B: Backend> DynBackend for B {
    fn capabilities(&self) -> &Capabilities {
        Backend::capabilities(self)
    }
    fn address(&self) -> Arc<str> {
        Backend::address(self)
    }
    fn acquire<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<Verdict>> {
        Box::pin(Backend::acquire(self, claim))
    }
    fn withdraw<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<()>> {
        Box::pin(Backend::withdraw(self, claim))
    }
    fn renew<'a>(&'a self, members: &'a [Member]) -> BoxFuture<'a, Vec<Renewal>> {
        Box::pin(Backend::renew(self, members))
    }
    fn downgrade<'a>(&'a self, lease: &'a LeaseRef, seats: Seats) -> BoxFuture<'a, Result<Change>> {
        Box::pin(Backend::downgrade(self, lease, seats))
    }
    fn release<'a>(
        &'a self,
        lease: &'a LeaseRef,
        value: Option<&'a Value>,
    ) -> BoxFuture<'a, Result<Release>> {
        Box::pin(Backend::release(self, lease, value))
    }
    fn put<'a>(&'a self, lease: &'a LeaseRef, value: &'a Value) -> BoxFuture<'a, Result<Change>> {
        Box::pin(Backend::put(self, lease, value))
    }
    fn evict<'a>(
        &'a self,
        name: &'a LockName,
        why: &'a Eviction,
    ) -> BoxFuture<'a, Result<Evicted>> {
        Box::pin(Backend::evict(self, name, why))
    }
    fn inspect<'a>(&'a self, name: &'a LockName) -> BoxFuture<'a, Result<View>> {
        Box::pin(Backend::inspect(self, name))
    }
    fn list<'a>(&'a self, prefix: &'a str, limit: usize) -> BoxFuture<'a, Result<Vec<View>>> {
        Box::pin(Backend::list(self, prefix, limit))
    }
    fn ping<'a>(&'a self) -> BoxFuture<'a, Result<()>> {
        Box::pin(Backend::ping(self))
    }
    fn subscribe(&self, listener: std::sync::Weak<dyn Listener>) {
        Backend::subscribe(self, listener);
    }
    fn watch(&self, claim: &Claim, waits: bool) -> bool {
        Backend::watch(self, claim, waits)
    }
    fn keys(&self, name: &LockName) -> Vec<(&'static str, String)> {
        Backend::keys(self, name)
    }
}
