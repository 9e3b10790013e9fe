//! Stores that each break one rule, to put the conformance suite itself on trial.
//!
//! A [`Saboteur`] stands before an honest store and passes every call on, but for one [`Deed`].

mod deed;
mod disguise;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tenure_core::backend::{
    Backend, Change, Claim, Departure, DynBackend, Evicted, Eviction, Grant, Kept, LeaseRef,
    Listener, Member, Place, Refusal, Release, Renewal, Value, Verdict,
};
use tenure_core::{
    Capabilities, ClaimId, Details, Fence, LockName, MemberId, Priority, Result, Seats, Token, View,
};

pub use deed::Deed;

/// An honest store, and somebody before it who breaks one of its rules.
pub struct Saboteur {
    inner: Arc<dyn DynBackend>,
    deed: Deed,
    seen: Mutex<Seen>,
    arrivals: AtomicI32,
}

/// What the saboteur has seen pass.
#[derive(Default)]
struct Seen {
    claims: HashMap<MemberId, Claim>,
    grants: HashMap<MemberId, Grant>,
    /// Claims that were told to wait and are not passed on any more.
    stranded: HashSet<ClaimId>,
    /// The fences that stand for those of the store, per name.
    forged: HashMap<LockName, HashMap<Fence, Fence>>,
    highest: HashMap<LockName, Fence>,
}

impl Saboteur {
    /// Puts itself before `inner`.
    pub fn new(inner: Arc<dyn DynBackend>, deed: Deed) -> Self {
        Self { inner, deed, seen: Mutex::default(), arrivals: AtomicI32::new(Priority::MIN) }
    }

    fn does(&self, deed: Deed) -> bool {
        self.deed == deed
    }

    /// The claim as it is passed on.
    fn twisted(&self, claim: &Claim) -> Claim {
        let mut claim = claim.clone();
        claim.name = self.name(&claim.name);
        match self.deed {
            Deed::DoesNotExclude if claim.seats.is_all() && !claim.upgrade => {
                claim.seats = Seats::SHARED;
            }
            Deed::ForgetsLimits if !claim.seats.is_all() => claim.seats = Seats::SHARED,
            Deed::NeverExpires => {
                claim.ttl *= 1000;
                claim.pick_up *= 1000;
            }
            Deed::ExpiresEarly => claim.ttl /= 8,
            Deed::IgnoresPriority => claim.priority = Priority::default(),
            Deed::ServesLastFirst if claim.wait && !self.knows(claim.member) => {
                let next = self.arrivals.fetch_add(1, Ordering::Relaxed);
                claim.priority = Priority::new(next).expect("fewer than 2000 waiters");
            }
            Deed::IgnoresValues => claim.or_value = false,
            Deed::ForgetsDetails => {
                claim.details = Arc::new(Details::of(claim.details.owner.clone()));
            }
            Deed::LosesHandOvers | Deed::Barges => claim.wait = false,
            Deed::GrantsDuplicates if self.knows(claim.member) && !claim.upgrade => {
                claim = disguised(&claim);
            }
            _ => {}
        }
        claim
    }

    fn knows(&self, member: MemberId) -> bool {
        self.seen.lock().claims.contains_key(&member)
    }

    async fn passed_on(&self, claim: &Claim) -> Result<Verdict> {
        let verdict = self.inner.acquire(claim).await?;
        Ok(match (self.deed, verdict) {
            (Deed::ForgetsWithdrawals, Verdict::Refused(Refusal::Withdrawn)) => {
                self.inner.acquire(&disguised(claim)).await?
            }
            (Deed::QueuesSecondUpgrade, Verdict::Refused(Refusal::UpgradePending)) => {
                Verdict::Queued(Place::default())
            }
            (Deed::ForgetsWhy, Verdict::Refused(Refusal::Departed(_))) => {
                Verdict::Refused(Refusal::Departed(Departure::Expired))
            }
            (_, verdict) => verdict,
        })
    }

    fn strand(&self, claim: &Claim, verdict: Verdict) -> Verdict {
        let Verdict::Busy(place) = verdict else { return verdict };
        if !claim.wait {
            return Verdict::Busy(place);
        }
        if self.does(Deed::LosesHandOvers) {
            self.seen.lock().stranded.insert(claim.id);
        }
        Verdict::Queued(place)
    }

    fn grants(&self, claim: &Claim, mut grant: Grant) -> Grant {
        let mut seen = self.seen.lock();
        let highest = seen.highest.entry(claim.name.clone()).or_default();
        *highest = grant.fence.max(*highest);
        grant.fence = seen.forge(self.deed, &claim.name, grant.fence);
        seen.grants.insert(claim.member, grant);
        grant
    }
}

impl Seen {
    fn forge(&mut self, deed: Deed, name: &LockName, fence: Fence) -> Fence {
        match deed {
            Deed::RepeatsFences => Fence::new(7),
            Deed::LowersFences => Fence::new((1 << 62) - fence.get()),
            Deed::BeginsFencesAnew => {
                let forged = self.forged.entry(name.clone()).or_default();
                let next = Fence::new(forged.len() as u64 + 1);
                *forged.entry(fence).or_insert(next)
            }
            _ => fence,
        }
    }
}

/// The same wish under another token.
fn disguised(claim: &Claim) -> Claim {
    let mut alias = claim.clone();
    alias.token = Token::random();
    alias.member = alias.token.member();
    alias.id = alias.member.claim();
    alias
}

impl Backend for Saboteur {
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    fn address(&self) -> Arc<str> {
        self.inner.address()
    }

    async fn acquire(&self, claim: &Claim) -> Result<Verdict> {
        if self.seen.lock().stranded.contains(&claim.id) {
            return Ok(Verdict::Queued(Place::default()));
        }
        let twisted = self.twisted(claim);
        self.seen.lock().claims.insert(claim.member, claim.clone());
        let verdict = self.passed_on(&twisted).await?;
        let verdict = match self.deed {
            Deed::LosesHandOvers | Deed::Barges => self.strand(claim, verdict),
            _ => verdict,
        };
        Ok(match verdict {
            Verdict::Granted(grant) => Verdict::Granted(self.grants(claim, grant)),
            other => other,
        })
    }

    async fn withdraw(&self, claim: &Claim) -> Result<()> {
        if self.does(Deed::WithdrawsNothing) {
            return Ok(());
        }
        if self.does(Deed::LetsGoOfWithdrawnUpgrades) && claim.upgrade {
            let lease = LeaseRef::new(claim.name.clone(), claim.token.clone(), Fence::ZERO);
            self.inner.release(&lease, None).await?;
        }
        let mut claim = claim.clone();
        claim.name = self.name(&claim.name);
        self.inner.withdraw(&claim).await
    }

    async fn renew(&self, members: &[Member]) -> Vec<Renewal> {
        if self.does(Deed::RenewsNothing) {
            let seen = self.seen.lock();
            let kept = |m: &Member| match seen.grants.get(&m.id) {
                Some(grant) => Renewal::Kept(Kept::Holding(*grant)),
                None => Renewal::Gone(Departure::Forgotten),
            };
            return members.iter().map(kept).collect();
        }
        let twisted: Vec<Member> = members.iter().map(|m| self.twisted_member(m)).collect();
        let mut answers = self.inner.renew(&twisted).await;
        for (member, answer) in members.iter().zip(&mut answers) {
            self.twist_renewal(member, answer).await;
        }
        if self.does(Deed::AnswersOutOfOrder) {
            answers.reverse();
        }
        answers
    }

    async fn downgrade(&self, lease: &LeaseRef, seats: Seats) -> Result<Change> {
        if self.does(Deed::KeepsAllOnDowngrade)
            && let Some(grant) = self.seen.lock().grants.get(&lease.id)
        {
            let mut grant = *grant;
            grant.seats = seats;
            return Ok(Change::Done(grant));
        }
        self.inner.downgrade(&self.lease(lease), seats).await
    }

    async fn release(&self, lease: &LeaseRef, value: Option<&Value>) -> Result<Release> {
        if self.does(Deed::ReleasesAnybody) {
            return self.release_anybody(&lease.name).await;
        }
        let value = value.filter(|_| !self.does(Deed::LosesValues));
        let lease = self.lease(lease);
        let released = self.inner.release(&lease, value).await?;
        if self.does(Deed::BeginsFencesAnew) && !self.inner.inspect(&lease.name).await?.is_locked()
        {
            self.seen.lock().forged.remove(&lease.name);
        }
        Ok(match (self.deed, released) {
            (Deed::AlwaysReleased, _) => Release::Released,
            (Deed::LetsReadersWrite, Release::NeedsAllSeats) => {
                self.inner.release(&lease, None).await?
            }
            (Deed::ForgetsWhy, Release::NotHeld(_)) => Release::NotHeld(Departure::Expired),
            (_, released) => released,
        })
    }

    async fn put(&self, lease: &LeaseRef, value: &Value) -> Result<Change> {
        let change = self.inner.put(&self.lease(lease), value).await?;
        let grant = self.seen.lock().grants.get(&lease.id).copied();
        Ok(match (self.deed, change, grant) {
            (Deed::LetsReadersWrite, Change::NeedsAllSeats, Some(grant)) => Change::Done(grant),
            (_, change, _) => change,
        })
    }

    async fn evict(&self, name: &LockName, why: &Eviction) -> Result<Evicted> {
        let mut why = why.clone();
        if self.does(Deed::EvictsWhoeverIsThere) {
            why.only_if = None;
        }
        self.inner.evict(&self.name(name), &why).await
    }

    async fn inspect(&self, name: &LockName) -> Result<View> {
        let mut view = self.inner.inspect(&self.name(name)).await?;
        view.name = name.clone();
        if self.does(Deed::EvictsWithoutRaisingTheFence) {
            view.fence = self.seen.lock().highest.get(name).copied().unwrap_or_default();
        }
        Ok(view)
    }

    async fn list(&self, prefix: &str, limit: usize) -> Result<Vec<View>> {
        let prefix = if self.does(Deed::ListsEverything) { "" } else { prefix };
        self.inner.list(prefix, limit).await
    }

    fn subscribe(&self, listener: Weak<dyn Listener>) {
        if !self.does(Deed::WakesNobody) {
            self.inner.subscribe(listener);
        }
    }

    fn watch(&self, claim: &Claim, waits: bool) -> bool {
        self.inner.watch(claim, waits)
    }

    async fn ping(&self) -> Result<()> {
        self.inner.ping().await
    }

    fn keys(&self, name: &LockName) -> Vec<(&'static str, String)> {
        self.inner.keys(name)
    }
}

impl std::fmt::Debug for Saboteur {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Saboteur").field("deed", &self.deed).finish_non_exhaustive()
    }
}
