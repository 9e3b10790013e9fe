//! Deadlocks between actors: found by whoever waits, undone by the one who has to give way.
//!
//! In reading order: `graph` is the rule, `walk` what is read for it, and here is when.

mod graph;
mod walk;

#[cfg(test)]
mod model;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::Claim;
use crate::clock::Moment;
use crate::error::{Error, ErrorKind};
use crate::manager::Inner;
use crate::name::LockName;
use crate::owner::Details;
use walk::{Next, Walk};

/// How long a claim waits before it looks for a deadlock, if nothing else is said.
pub(crate) const CHECK_AFTER: Duration = Duration::from_secs(1);
/// How many times longer it waits between later looks.
const CHECK_EVERY: u32 = 5;
/// How long one look may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);

/// One step of a deadlock: somebody waits for a lock that another one of it has, or is to have first.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct Wait {
    /// The lock.
    pub lock: LockName,
    /// Who waits for it.
    pub waiter: Arc<Details>,
    /// Who is in the way.
    pub for_whom: Arc<Details>,
    /// Whether it holds the lock; if not, it stands before the waiter in the queue.
    pub holds: bool,
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (waiter, other) = (&self.waiter.owner.label, &self.for_whom.owner.label);
        let how = if self.holds { "held by" } else { "wanted before it by" };
        write!(f, "{waiter} waits for {:?}, {how} {other}", self.lock)
    }
}

/// When a waiting claim looks next.
#[derive(Debug)]
pub(crate) struct Lookout {
    every: Option<Duration>,
    next: Moment,
}

impl Lookout {
    /// The lookout of a claim. Whoever holds nothing while it waits is in no cycle that could not be
    /// undone by somebody else in it, and never looks.
    pub(crate) fn new(inner: &Inner, claim: &Claim) -> Self {
        let after = inner.deadlock_check_after().filter(|_| !claim.details.holds.is_empty());
        Self {
            every: after.map(|after| after * CHECK_EVERY),
            next: after.map_or(Moment::NEVER, |after| inner.clock().now().plus(after)),
        }
    }

    /// When it is time to look.
    pub(crate) fn next(&self) -> Moment {
        self.next
    }

    /// Looks, if it is time. A look that fails says nothing: the next one may do better.
    pub(crate) async fn look(&mut self, inner: &Inner, claim: &Claim) -> Result<(), Error> {
        let now = inner.clock().now();
        let Some(every) = self.every.filter(|_| self.next <= now) else {
            return Ok(());
        };
        self.next = now.plus(every);
        let limit = inner.keeper().sleep_until(now.plus(LOOK_TIMEOUT.min(every)));
        let cycle = crate::alarm::before(limit, walk(inner, claim)).await;
        match cycle {
            Some(Ok(Some(cycle))) => Err(found(cycle)),
            Some(Err(error)) => {
                tracing::debug!(lock = %claim.name, %error, "looking for a deadlock failed");
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

async fn walk(inner: &Inner, claim: &Claim) -> Result<Option<Vec<Wait>>, Error> {
    let mut walk = Walk::new(claim.member.holder(), &claim.name, &claim.details.holds);
    loop {
        match walk.next() {
            Next::Read(name) => walk.saw(inner.backend().inspect(&name).await?),
            Next::Wait => return Ok(None),
            Next::GiveWay(cycle) => return Ok(Some(cycle)),
        }
    }
}

fn found(cycle: Vec<Wait>) -> Error {
    let steps: Vec<String> = cycle.iter().map(ToString::to_string).collect();
    let (message, help) = match steps.as_slice() {
        [own] => (
            format!("a deadlock with itself: {own}, which waits until this is done"),
            "it is held already: do the work under that, without another lock",
        ),
        steps => (
            format!("a deadlock, and this one has to give way: {}", steps.join("; ")),
            "release what is held and begin again; take locks in one order everywhere",
        ),
    };
    Error::new(ErrorKind::Deadlock, message).with_help(help).with_cycle(cycle)
}
