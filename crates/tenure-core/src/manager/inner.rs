//! What a manager, its guards and its attempts share, and what the store is checked for before
//! anything is sent.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::actor::Actor;
use crate::alarm::before;
use crate::backend::{Claim, DynBackend, Value};
use crate::claims::Waiters;
use crate::clock::Clock;
use crate::conflict::Conflict;
use crate::error::{Error, ErrorKind, Result};
use crate::keeper::Keeper;
use crate::metrics::Metrics;
use crate::name::LockName;
use crate::owner::{Details, Owner};
use crate::stripes::Stripes;
use crate::values::Seats;

use super::ASK_TIMEOUT;

/// What a manager, its guards and its attempts share.
pub(crate) struct Inner {
    pub(super) backend: Arc<dyn DynBackend>,
    pub(super) keeper: Arc<Keeper>,
    pub(super) owner: Owner,
    pub(super) address: Arc<str>,
    /// The details of a plain claim, shared between all of the same kind.
    pub(super) plain_details: Stripes<Mutex<Option<Arc<Details>>>>,
    /// After how long a claim with an actor looks for a deadlock.
    pub(super) deadlock_check_after: Option<Duration>,
    pub(super) closed: AtomicBool,
    /// The process that made the manager; a forked child has no keeper.
    pub(super) pid: u32,
}

impl Inner {
    pub(crate) fn backend(&self) -> &dyn DynBackend {
        &*self.backend
    }

    pub(crate) fn keeper(&self) -> &Keeper {
        &self.keeper
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.keeper.clock
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.keeper.metrics
    }

    pub(crate) fn waiters(&self) -> &Arc<Waiters> {
        &self.keeper.waiters
    }

    pub(crate) fn owner(&self) -> &Owner {
        &self.owner
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) fn address(&self) -> Arc<str> {
        self.address.clone()
    }

    pub(crate) fn details(&self, renews_every: Option<Duration>) -> Arc<Details> {
        let mut plain = self.plain_details.mine().lock();
        match &*plain {
            Some(details) if details.renews_every == renews_every => details.clone(),
            _ => plain
                .insert(Arc::new(Details::of(self.owner.clone()).renewing_every(renews_every)))
                .clone(),
        }
    }

    /// Details of a claim of this actor. Without a look-out for deadlocks nobody has to know what it
    /// holds.
    pub(crate) fn acting(&self, details: Details, actor: &Actor) -> Details {
        let holds = self.deadlock_check_after.map(|_| actor.holds());
        details.with_actor(actor).holding(holds.unwrap_or_default())
    }

    pub(crate) fn deadlock_check_after(&self) -> Option<Duration> {
        self.deadlock_check_after
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::ShutDown, "the manager was shut down"));
        }
        Ok(())
    }

    pub(crate) fn check_ttl(&self, ttl: Duration) -> Result<()> {
        crate::values::Ttl::new(ttl)?;
        let capabilities = self.backend.capabilities();
        if ttl < capabilities.ttl_min || capabilities.ttl_max < ttl {
            let error = Error::new(
                ErrorKind::Invalid,
                format!(
                    "the {} store takes a ttl between {:?} and {:?}, this one is {ttl:?}",
                    capabilities.kind, capabilities.ttl_min, capabilities.ttl_max
                ),
            );
            let help = capabilities.ttl_help.filter(|_| capabilities.ttl_max < ttl);
            return Err(error.with_help(match help {
                Some(help) => format!("ask for a shorter ttl, or {help}"),
                None => "ask for a ttl in between".to_owned(),
            }));
        }
        Ok(())
    }

    pub(crate) fn check_value(&self, value: &Value) -> Result<()> {
        let capabilities = self.backend.capabilities();
        let Some(max) = capabilities.value_max else {
            return Err(Error::unsupported(capabilities.kind, "values"));
        };
        if max < value.bytes.len() {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("a value is at most {max} bytes long, this one has {}", value.bytes.len()),
            ));
        }
        Ok(())
    }

    pub(crate) fn check_upgrade(&self) -> Result<()> {
        self.check(self.backend.capabilities().upgrade, "upgrade and downgrade")
    }

    pub(crate) fn check_detached(&self) -> Result<()> {
        self.check(self.backend.capabilities().detached, "leases without a process")
    }

    pub(crate) fn check(&self, can: bool, what: &str) -> Result<()> {
        if can {
            return Ok(());
        }
        Err(Error::unsupported(self.backend.capabilities().kind, what).with_store(&self.address))
    }

    /// What the store cannot do is said before anything is sent.
    pub(crate) fn check_claim(&self, claim: &Claim, conflict: Conflict) -> Result<()> {
        let can = self.backend.capabilities();
        self.check(can.shared || claim.seats == Seats::All, "shared locks")?;
        let plain = matches!(claim.seats, Seats::All | Seats::SHARED);
        self.check(can.permits || plain, "permits")?;
        self.check(can.priority || claim.priority.get() == 0, "priorities")?;
        self.check(can.metadata || claim.details.metadata.is_none(), "metadata")?;
        self.check(can.value_max.is_some() || !claim.or_value, "values")?;
        let steals = matches!(conflict, Conflict::StealStale { .. });
        self.check(can.force_release || !steals, "taking locks from others")?;
        let forces = conflict == Conflict::Force;
        self.check(can.force_acquire || !forces, "taking locks past those who wait")
    }

    pub(crate) async fn limited<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let limit = self.clock().now().plus(ASK_TIMEOUT);
        before(self.keeper.sleep_until(limit), call).await.unwrap_or_else(|| {
            Err(Error::new(ErrorKind::Unreachable, "the store did not answer in time"))
        })
    }

    pub(crate) fn context(
        &self,
        error: Error,
        operation: &'static str,
        name: Option<&LockName>,
    ) -> Error {
        let error = error.with_operation(operation).with_store(&self.address);
        match name {
            Some(name) => error.with_lock(name),
            None => error,
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.keeper.stop();
    }
}
