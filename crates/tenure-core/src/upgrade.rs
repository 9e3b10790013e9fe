//! From shared seats to all of them without letting go in between.

use std::sync::Arc;
use std::time::Duration;

use crate::alarm::before;
use crate::attempt::{WITHDRAW_TIMEOUT, call_limit};
use crate::backend::{Claim, Departure, Refusal, Verdict};
use crate::clock::Moment;
use crate::deadlock::Lookout;
use crate::error::{Error, ErrorKind, Result};
use crate::janitor::Job;
use crate::lease::Lease;
use crate::manager::Inner;
use crate::refusal::{late, refused};
use crate::values::Fence;

/// Waits for all seats with a lease that holds some: the upgrade of a guard. Ends when the lease
/// is lost, whatever the store does.
pub(crate) async fn upgrade(
    inner: &Arc<Inner>,
    lease: &Arc<Lease>,
    claim: Claim,
    wait_timeout: Option<Duration>,
) -> Result<Fence> {
    let lost = async {
        Err(lease.lost(&**inner.clock(), |at| inner.keeper().sleep_until(at)).await.into())
    };
    futures_lite::future::or(lost, upgrade_held(inner, lease, claim, wait_timeout)).await
}

async fn upgrade_held(
    inner: &Arc<Inner>,
    lease: &Arc<Lease>,
    claim: Claim,
    wait_timeout: Option<Duration>,
) -> Result<Fence> {
    let clock = inner.clock().clone();
    let until = wait_timeout.map_or(Moment::NEVER, |wait| clock.now().plus(wait));
    let mut lookout = Lookout::new(inner, &claim);
    let entry = inner.waiters().enter(&claim.name, claim.member);
    let mut undo = Upgrade { inner, claim: Arc::new(claim), sent: false, watched: false };
    loop {
        inner.check_open()?;
        undo.sent = true;
        match undo.ask(until).await? {
            Verdict::Granted(grant) => {
                undo.sent = false;
                lease.upgraded(grant.fence);
                return Ok(grant.fence);
            }
            Verdict::Refused(Refusal::Departed(how)) => {
                undo.sent = false;
                inner.keeper().lose(lease, how.clone().into());
                return Err(crate::loss::LossReason::from(how).into());
            }
            Verdict::Refused(refusal) => {
                undo.sent = false;
                if refusal == Refusal::NotHeld {
                    inner.keeper().lose(lease, Departure::Forgotten.into());
                }
                return Err(refused(&refusal));
            }
            Verdict::Busy(place) | Verdict::Queued(place) => {
                if until <= clock.now() {
                    undo.withdraw().await;
                    return Err(Error::new(
                        ErrorKind::WaitTimeout,
                        "the other holders did not leave within the wait timeout",
                    )
                    .with_holders(place.holders));
                }
                undo.watched = true;
                let pushed = inner.backend().watch(&undo.claim, true);
                let look = Duration::from_millis(if pushed { 1000 } else { 100 });
                let check = clock.now().plus(place.check_in.unwrap_or(look).min(look));
                let alarm = inner.keeper().sleep_until(check.min(until).min(lookout.next()));
                if before(alarm, entry.told()).await.is_none() {
                    let news = async {
                        entry.told().await;
                        Ok(())
                    };
                    let look = lookout.look(inner, &undo.claim);
                    let seen = futures_lite::future::or(news, look).await;
                    if let Err(deadlock) = seen {
                        undo.withdraw().await;
                        return Err(deadlock);
                    }
                }
            }
            Verdict::Value(_) => {
                return Err(Error::new(
                    ErrorKind::Corrupt,
                    "the store answered an upgrade with a value",
                ));
            }
        }
    }
}

/// An upgrade under way; dropping it withdraws it and keeps the seats held.
struct Upgrade<'a> {
    inner: &'a Arc<Inner>,
    claim: Arc<Claim>,
    sent: bool,
    watched: bool,
}

impl Upgrade<'_> {
    async fn ask(&self, until: Moment) -> Result<Verdict> {
        let limit = call_limit(self.inner, until);
        let call = self.inner.backend().acquire(&self.claim);
        before(self.inner.keeper().sleep_until(limit), call).await.unwrap_or_else(|| Err(late()))
    }

    async fn withdraw(&mut self) {
        let limit = self.inner.clock().now().plus(WITHDRAW_TIMEOUT);
        let call = self.inner.backend().withdraw(&self.claim);
        if matches!(before(self.inner.keeper().sleep_until(limit), call).await, Some(Ok(()))) {
            self.sent = false;
        }
    }
}

impl Drop for Upgrade<'_> {
    fn drop(&mut self) {
        if self.watched {
            self.inner.backend().watch(&self.claim, false);
        }
        if self.sent {
            let until = self.inner.clock().now().plus(self.claim.ttl);
            self.inner.keeper().clean_up(Job::Withdraw { claim: self.claim.clone(), until });
        }
    }
}
