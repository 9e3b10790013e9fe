//! What the recipes share.

use std::time::Duration;

use tenure_core::{Actor, Error, LockManager, LockName, LockRequest, Result, Ttl};

/// How long a value is kept that is to be there until another replaces it: ten years.
pub(crate) const KEEP: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// Where permits, upgrades and values are to be had, whatever a store in use lacks.
const ABLE: &str = "stores that can: file://, redis:// and postgres:// (the lease table), \
                    and memory: within one process";

/// Says, before anything is sent, that the store of these locks cannot do something.
pub(crate) fn need(locks: &LockManager, can: bool, what: &str) -> Result<()> {
    if can {
        return Ok(());
    }
    let kind = locks.capabilities().kind;
    Err(Error::unsupported(kind, what).with_help(ABLE).with_store(&locks.store()))
}

/// A name on a store, and how long a lease on it lives.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) locks: LockManager,
    pub(crate) name: LockName,
    pub(crate) ttl: Duration,
    pub(crate) actor: Option<Actor>,
}

impl Place {
    pub(crate) fn new<N>(locks: &LockManager, name: N) -> Result<Self>
    where
        N: TryInto<LockName>,
        N::Error: Into<Error>,
    {
        let name = name.try_into().map_err(Into::into)?;
        Ok(Self { locks: locks.clone(), name, ttl: Ttl::DEFAULT.get(), actor: None })
    }

    /// A request that waits so long; `None` waits for ever.
    pub(crate) fn request(&self, wait: Option<Duration>) -> LockRequest {
        let mut request = self.locks.lock(&self.name).ttl(self.ttl);
        if let Some(actor) = &self.actor {
            request = request.actor(actor);
        }
        match wait {
            Some(wait) => request.wait_timeout(wait),
            None => request,
        }
    }
}
