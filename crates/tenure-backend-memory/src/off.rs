//! `off:`: grants everything at once and locks nothing, for programs that ship with locking
//! disabled and switch it on later.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use tenure_core::backend::{
    Backend, Change, Claim, Evicted, Eviction, Grant, Kept, LeaseRef, Listener, Member, Release,
    Renewal, Value, Verdict,
};
use tenure_core::clock::{Clock, SystemClock};
use tenure_core::{
    Capabilities, EndsWith, Error, Fence, LockName, Recall, Result, Seats, View, Wakes,
};

/// A store that is switched off. It warns once, when it is made.
///
/// Nobody excludes anybody and nobody waits. All else but values is declared as if it were there,
/// for what is not declared is refused: a program that asks for shares, priorities or metadata,
/// steals or lists goes on when it is switched off. It gets what it asks for, to no effect.
#[derive(Debug)]
pub struct OffBackend {
    capabilities: Capabilities,
    clock: SystemClock,
    fence: AtomicU64,
}

impl OffBackend {
    /// A store that grants everything.
    pub fn new() -> Self {
        tracing::warn!("locking is switched off (store off:): every lock is granted to everybody");
        let mut capabilities = Capabilities::full("off");
        capabilities.exclusive = false;
        capabilities.fifo = false;
        capabilities.deadlocks = false;
        capabilities.wakes = Wakes::Poll;
        capabilities.value_max = None;
        capabilities.ends_with = EndsWith::Nothing;
        capabilities.between_processes = false;
        capabilities.between_hosts = false;
        capabilities.after_restart = Recall::Nothing;
        Self { capabilities, clock: SystemClock, fence: AtomicU64::new(0) }
    }

    /// A fence above the last of this process, and above those of earlier ones unless the wall
    /// clock was set back.
    fn grant(&self, seats: Seats, term: std::time::Duration) -> Grant {
        let now = self.clock.wall();
        let next = |last: u64| Some((last + 1).max(now.0));
        let last = self.fence.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        let last = last.expect("the update never declines");
        Grant::new(Fence::new((last + 1).max(now.0)), seats, now, term)
    }

    fn unsupported(what: &str) -> Error {
        Error::unsupported("off", what)
    }
}

impl Default for OffBackend {
    fn default() -> Self {
        Self::new()
    }
}

impl Backend for OffBackend {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn address(&self) -> Arc<str> {
        "off:".into()
    }

    async fn acquire(&self, claim: &Claim) -> Result<Verdict> {
        Ok(Verdict::Granted(self.grant(claim.seats, claim.ttl)))
    }

    async fn withdraw(&self, _claim: &Claim) -> Result<()> {
        Ok(())
    }

    async fn renew(&self, members: &[Member]) -> Vec<Renewal> {
        let kept = |m: &Member| {
            let mut grant = self.grant(Seats::All, m.ttl);
            grant.fence = m.fence.unwrap_or(grant.fence);
            Renewal::Kept(Kept::Holding(grant))
        };
        members.iter().map(kept).collect()
    }

    async fn downgrade(&self, lease: &LeaseRef, seats: Seats) -> Result<Change> {
        let mut grant = self.grant(seats, std::time::Duration::ZERO);
        grant.fence = lease.fence;
        Ok(Change::Done(grant))
    }

    async fn release(&self, _lease: &LeaseRef, _value: Option<&Value>) -> Result<Release> {
        Ok(Release::Released)
    }

    async fn put(&self, _lease: &LeaseRef, _value: &Value) -> Result<Change> {
        Err(Self::unsupported("values"))
    }

    async fn evict(&self, _name: &LockName, _why: &Eviction) -> Result<Evicted> {
        // Nobody ever holds anything here that could be taken from him.
        Ok(Evicted::NobodyThere)
    }

    async fn inspect(&self, name: &LockName) -> Result<View> {
        Ok(View::empty(name.clone()))
    }

    async fn list(&self, _prefix: &str, _limit: usize) -> Result<Vec<View>> {
        Ok(Vec::new())
    }

    fn subscribe(&self, _listener: Weak<dyn Listener>) {}

    fn watch(&self, _claim: &Claim, _waits: bool) -> bool {
        false
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }

    fn keys(&self, _name: &LockName) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}
