//! What the rules are written with.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tenure_core::backend::{
    Change, Claim, Departure, DynBackend, Evicted, Eviction, Grant, Kept, LeaseRef, Member, Place,
    Reason, Refusal, Release, Renewal, Value, Verdict,
};
use tenure_core::clock::{Clock, Moment, SystemClock};
use tenure_core::{
    Capabilities, ClaimId, Details, EndsWith, Error, Fence, HolderView, LockManager, LockName,
    Owner, Priority, Result, Seats, Token, ValueView, View,
};

use super::Store;

/// A ttl that no rule waits for.
pub(super) const LONG: Duration = Duration::from_secs(60);

/// Now, on the clock that managers time by.
pub(super) fn now() -> Moment {
    SystemClock.now()
}

/// Waits, on the clock that managers time by.
pub(super) async fn pause(time: Duration) {
    SystemClock.sleep_until(now().plus(time)).await;
}

/// Looks again and again until there is something to see.
pub(super) async fn until<T>(
    store: &dyn Store,
    what: &str,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> T {
    let give_up = now().plus(store.patience());
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(now() < give_up, "never seen: {what}");
        pause(Duration::from_millis(5)).await;
    }
}

/// A name that nobody has used.
pub(super) fn fresh(of: &str) -> LockName {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let (run, n) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    // Stores that outlive the process have names of earlier runs.
    let unique: u32 = rand::random();
    LockName::new(format!("conformance/{of}/{run}-{n}-{unique:08x}")).expect("a valid name")
}

/// A manager in a process of its own.
pub(super) async fn manager(store: &dyn Store) -> LockManager {
    let backend = store.open().await.expect("the store can be opened");
    LockManager::new(backend).expect("a manager starts")
}

/// A claim for all seats that does not wait.
pub(super) fn claim(name: &LockName) -> Claim {
    let details = Arc::new(Details::of(Owner::this_process()));
    Claim::new(name.clone(), Token::random(), LONG, details)
}

/// What a claim can be made to want.
pub(super) trait Wants: Sized {
    fn waiting(self) -> Self;
    fn permits(self, take: u32, of: u32) -> Self;
    fn shared(self) -> Self;
    fn or_value(self) -> Self;
    fn priority(self, points: i32) -> Self;
    fn lasting(self, ttl: Duration) -> Self;
    /// The claim of this claim's holder for all seats.
    fn upgrade(&self) -> Self;
}

impl Wants for Claim {
    fn waiting(mut self) -> Self {
        self.wait = true;
        // Nobody renews between the calls of a rule.
        self.pick_up = self.ttl;
        self
    }

    fn permits(mut self, take: u32, of: u32) -> Self {
        self.seats = Seats::permits(take, of).expect("valid permits");
        self
    }

    fn shared(mut self) -> Self {
        self.seats = Seats::SHARED;
        self
    }

    fn or_value(mut self) -> Self {
        self.or_value = true;
        self
    }

    fn priority(mut self, points: i32) -> Self {
        self.priority = Priority::new(points).expect("a valid priority");
        self
    }

    fn lasting(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self.pick_up = ttl;
        self
    }

    fn upgrade(&self) -> Self {
        let mut upgrade = self.clone();
        upgrade.id = ClaimId::random();
        upgrade.seats = Seats::All;
        upgrade.upgrade = true;
        upgrade
    }
}

/// The sign of life of a holder; of a waiter, if there is no grant.
pub(super) fn member(claim: &Claim, grant: Option<Grant>) -> Member {
    Member::new(claim.name.clone(), claim.token.clone(), claim.ttl, grant.map(|g| g.fence))
}

pub(super) fn value(bytes: &[u8], keep: Duration) -> Value {
    Value { bytes: bytes.into(), keep }
}

pub(super) fn eviction(only_if: Option<Fence>) -> Eviction {
    Eviction { only_if, stolen: false, reason: reason() }
}

pub(super) fn reason() -> Reason {
    Reason::new("an operator".into(), "its rule says so").expect("a valid reason")
}

/// The store as one process has it open, below the manager.
///
/// A call with an unknown outcome is made again: every call but an eviction may be.
pub(super) struct Raw {
    backend: Arc<dyn DynBackend>,
    patience: Duration,
}

pub(super) async fn raw(store: &dyn Store) -> Raw {
    let backend = store.open().await.expect("the store can be opened");
    Raw { backend, patience: store.patience() }
}

/// Another process that knows the tokens of the first one. Where a lock is its session's, nobody
/// does but the process itself.
pub(super) async fn twin(store: &dyn Store, of: &Raw) -> Raw {
    if of.can().ends_with == EndsWith::Session {
        return Raw { backend: of.backend.clone(), patience: of.patience };
    }
    raw(store).await
}

impl Raw {
    pub(super) fn can(&self) -> &Capabilities {
        self.backend.capabilities()
    }

    pub(super) async fn acquire(&self, claim: &Claim) -> Verdict {
        self.again("acquiring", async || self.backend.acquire(claim).await).await
    }

    pub(super) async fn acquire_once(&self, claim: &Claim) -> Result<Verdict> {
        self.backend.acquire(claim).await
    }

    pub(super) async fn granted(&self, claim: &Claim) -> Grant {
        match self.acquire(claim).await {
            Verdict::Granted(grant) => grant,
            other => panic!("it should have been granted, the answer was {other:?}"),
        }
    }

    pub(super) async fn queued(&self, claim: &Claim) -> Place {
        match self.acquire(claim).await {
            Verdict::Queued(place) => place,
            other => panic!("it should have been queued, the answer was {other:?}"),
        }
    }

    pub(super) async fn busy(&self, claim: &Claim) -> Place {
        match self.acquire(claim).await {
            Verdict::Busy(place) => place,
            other => panic!("it should have found it busy, the answer was {other:?}"),
        }
    }

    pub(super) async fn refused(&self, claim: &Claim) -> Refusal {
        match self.acquire(claim).await {
            Verdict::Refused(refusal) => refusal,
            other => panic!("it should have been refused, the answer was {other:?}"),
        }
    }

    pub(super) async fn answered(&self, claim: &Claim) -> ValueView {
        match self.acquire(claim).await {
            Verdict::Value(value) => value,
            other => panic!("it should have been given the value, the answer was {other:?}"),
        }
    }

    pub(super) async fn withdraw(&self, claim: &Claim) {
        self.again("withdrawing", async || self.backend.withdraw(claim).await).await;
    }

    pub(super) async fn renew(&self, member: &Member) -> Result<Kept, Departure> {
        self.renew_all(std::slice::from_ref(member)).await.remove(0)
    }

    pub(super) async fn renew_all(&self, members: &[Member]) -> Vec<Result<Kept, Departure>> {
        let renew = async || {
            let answers = self.backend.renew(members).await;
            assert_eq!(answers.len(), members.len(), "each member has an answer");
            let known = |renewal| match renewal {
                Renewal::Kept(kept) => Ok(Ok(kept)),
                Renewal::Gone(how) => Ok(Err(how)),
                Renewal::Unknown(error) => Err(error),
                _ => panic!("an answer that this suite does not know"),
            };
            answers.into_iter().map(known).collect()
        };
        self.again("renewing", renew).await
    }

    pub(super) async fn release(&self, claim: &Claim, grant: Grant) -> Release {
        self.release_with(claim, grant, None).await
    }

    pub(super) async fn release_with(
        &self,
        claim: &Claim,
        grant: Grant,
        value: Option<&Value>,
    ) -> Release {
        let lease = lease(claim, grant);
        self.again("releasing", async || self.backend.release(&lease, value).await).await
    }

    pub(super) async fn put(&self, claim: &Claim, grant: Grant, value: &Value) -> Change {
        let lease = lease(claim, grant);
        self.again("writing", async || self.backend.put(&lease, value).await).await
    }

    pub(super) async fn downgrade(&self, claim: &Claim, grant: Grant, seats: Seats) -> Change {
        let lease = lease(claim, grant);
        self.again("downgrading", async || self.backend.downgrade(&lease, seats).await).await
    }

    /// Evicts; an unknown outcome is resolved by looking who is gone.
    pub(super) async fn evict(&self, name: &LockName, why: &Eviction) -> Evicted {
        let before = self.view(name).await.holders;
        let aimed_at = |h: &HolderView| why.only_if.is_none_or(|fence| fence == h.fence);
        let victims: Vec<HolderView> = before.into_iter().filter(aimed_at).collect();
        let attempt = async || match self.backend.evict(name, why).await {
            Err(error) if error.kind().is_transient() && !victims.is_empty() => {
                let after = self.view(name).await.holders;
                let gone = |v: &HolderView| after.iter().all(|h| h.fence != v.fence);
                if victims.iter().all(gone) {
                    Ok(Evicted::Done(victims.clone()))
                } else {
                    Err(error)
                }
            }
            answer => answer,
        };
        self.again("evicting", attempt).await
    }

    pub(super) async fn view(&self, name: &LockName) -> View {
        self.again("reading", async || self.backend.inspect(name).await).await
    }

    pub(super) async fn list(&self, prefix: &str, limit: usize) -> Vec<View> {
        self.again("listing", async || self.backend.list(prefix, limit).await).await
    }

    /// Waits until nobody holds `name` and nobody waits for it.
    pub(super) async fn until_free(&self, store: &dyn Store, name: &LockName) {
        until(store, "the lock is free", async || {
            (!self.view(name).await.is_locked()).then_some(())
        })
        .await;
    }

    async fn again<T>(&self, what: &str, call: impl AsyncFn() -> Result<T>) -> T {
        let give_up = now().plus(self.patience);
        loop {
            match call().await {
                Ok(answer) => return answer,
                Err(error) if error.kind().is_transient() && now() < give_up => {
                    pause(Duration::from_millis(2)).await;
                }
                Err(error) => panic!("{what} failed: {error:?}"),
            }
        }
    }
}

fn lease(claim: &Claim, grant: Grant) -> LeaseRef {
    LeaseRef::new(claim.name.clone(), claim.token.clone(), grant.fence)
}

/// The ids of the holders, oldest grant first.
pub(super) fn holders(view: &View) -> Vec<tenure_core::MemberId> {
    view.holders.iter().map(|h| h.member).collect()
}

/// The ids of the waiters, next first.
pub(super) fn waiters(view: &View) -> Vec<tenure_core::HolderId> {
    view.waiters.iter().map(|w| w.id).collect()
}

/// Waits until so many wait for `name`.
pub(super) async fn until_waiting(
    store: &dyn Store,
    locks: &LockManager,
    name: &LockName,
    count: usize,
) {
    until(store, "so many wait", async || {
        let view = look(locks, name).await;
        (count <= view.waiters.len()).then_some(())
    })
    .await;
}

/// The lock, read through a manager; asks again if the store does not answer.
pub(super) async fn look(locks: &LockManager, name: &LockName) -> View {
    loop {
        match locks.inspect(name.clone()).await {
            Ok(view) => return view,
            Err(error) if error.kind().is_transient() => pause(Duration::from_millis(2)).await,
            Err(error) => panic!("reading failed: {error:?}"),
        }
    }
}

/// Force-releases through a manager; an unknown outcome is resolved by looking.
pub(super) async fn force_release(
    store: &dyn Store,
    locks: &LockManager,
    name: &LockName,
    fence: Fence,
    why: &str,
) {
    until(store, "the holder is evicted", async || {
        match locks.force_release(name.clone(), Some(fence), why).await {
            Ok(victims) => {
                assert_eq!(victims.iter().map(|v| v.fence).collect::<Vec<_>>(), [fence]);
                return Some(());
            }
            Err(error) => assert!(store.faulty(), "force release failed: {error:?}"),
        }
        let view = look(locks, name).await;
        view.holders.iter().all(|h| h.fence != fence).then_some(())
    })
    .await;
}

/// Calls until the store has answered; for calls that may be made again.
pub(super) async fn insist<T>(store: &dyn Store, call: impl AsyncFn() -> Result<T>) -> T {
    until(store, "the store answers", async || match call().await {
        Ok(answer) => Some(answer),
        Err(error) => {
            assert!(store.faulty() && error.kind().is_transient(), "{error:?}");
            None
        }
    })
    .await
}

/// Takes a lock and hands it out as a token.
pub(super) async fn handed_out(
    store: &dyn Store,
    locks: &LockManager,
    name: &LockName,
    ttl: Duration,
) -> tenure_core::LockToken {
    insist(store, async || locks.acquire(name.clone(), ttl).await?.into_token().await).await
}

/// The kind of error of an answer that has to be one.
pub(super) fn kind<T>(answer: Result<T, impl Into<Error>>) -> tenure_core::ErrorKind {
    match answer {
        Ok(_) => panic!("it should have been refused"),
        Err(error) => error.into().kind(),
    }
}
