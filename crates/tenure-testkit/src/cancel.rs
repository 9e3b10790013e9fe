//! Futures that are dropped at every point at which they can be.
//!
//! A [`Yielding`] store gives way before and after each call, so that a future of the manager can
//! be dropped with its request not yet sent, and with its answer not yet read. [`polled`] polls a
//! future a number of times and drops it; trying every number until the future ends by itself
//! has tried every point.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tenure_core::backend::{
    Backend, Change, Claim, DynBackend, Evicted, Eviction, LeaseRef, Listener, Member, Release,
    Renewal, Value, Verdict,
};
use tenure_core::{Capabilities, Error, ErrorKind, LockName, Result, Seats, View};

/// How long a future that is not woken is waited for before it is dropped where it stands.
const UNWOKEN: Duration = Duration::from_millis(40);

/// What became of a future that was polled a number of times.
#[derive(Debug)]
pub enum Polled<T> {
    /// It ended by itself.
    Ended(T),
    /// It was dropped after so many polls.
    Dropped,
    /// Nobody woke it any more, and it was dropped in its wait: further polls change nothing.
    DroppedInItsWait,
}

/// Polls `future` at most `times` times, each time it is woken, and drops it.
pub fn polled<F: Future>(future: F, times: usize) -> Polled<F::Output> {
    let alarm = Arc::new(Alarm::default());
    let waker = Waker::from(alarm.clone());
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    for _ in 0..times {
        let seen = alarm.rung.load(Ordering::Acquire);
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Polled::Ended(output);
        }
        if !alarm.wait_beyond(seen) {
            return Polled::DroppedInItsWait;
        }
    }
    Polled::Dropped
}

/// Counts how often it was rung, and lets a thread wait for that.
#[derive(Default)]
struct Alarm {
    rung: AtomicUsize,
    lock: Mutex<()>,
    told: Condvar,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        let _lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.rung.fetch_add(1, Ordering::AcqRel);
        self.told.notify_all();
    }
}

impl Alarm {
    fn wait_beyond(&self, seen: usize) -> bool {
        let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let quiet = |_: &mut ()| self.rung.load(Ordering::Acquire) == seen;
        let waited = self.told.wait_timeout_while(lock, UNWOKEN, quiet);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

/// A store that gives way before and after each of its calls.
pub struct Yielding {
    inner: Arc<dyn DynBackend>,
    late: Mutex<Late>,
}

/// A downgrade that is still under way when its caller has given it up.
#[derive(Default)]
struct Late {
    next: bool,
    held_up: Option<(LeaseRef, Seats)>,
}

impl Yielding {
    /// Puts itself before `inner`.
    pub fn new(inner: Arc<dyn DynBackend>) -> Self {
        Self { inner, late: Mutex::default() }
    }

    /// Holds the next downgrade up; its caller is told that nobody knows.
    pub fn hold_up_the_next_downgrade(&self) {
        self.late().next = true;
    }

    /// Lets the downgrade land that was held up.
    ///
    /// # Panics
    /// If there is none.
    pub async fn let_it_land(&self) -> Result<Change> {
        let (lease, seats) = self.late().held_up.take().expect("a downgrade was held up");
        self.inner.downgrade(&lease, seats).await
    }

    fn late(&self) -> std::sync::MutexGuard<'_, Late> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held_up(&self, lease: &LeaseRef, seats: Seats) -> bool {
        let mut late = self.late();
        let now = std::mem::take(&mut late.next);
        if now {
            late.held_up = Some((lease.clone(), seats));
        }
        now
    }
}

async fn between<T>(call: impl Future<Output = T>) -> T {
    futures_lite::future::yield_now().await;
    let answer = call.await;
    futures_lite::future::yield_now().await;
    answer
}

impl Backend for Yielding {
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    fn address(&self) -> Arc<str> {
        self.inner.address()
    }

    async fn acquire(&self, claim: &Claim) -> Result<Verdict> {
        between(self.inner.acquire(claim)).await
    }

    async fn withdraw(&self, claim: &Claim) -> Result<()> {
        between(self.inner.withdraw(claim)).await
    }

    async fn renew(&self, members: &[Member]) -> Vec<Renewal> {
        between(self.inner.renew(members)).await
    }

    async fn downgrade(&self, lease: &LeaseRef, seats: Seats) -> Result<Change> {
        if self.held_up(lease, seats) {
            return Err(Error::new(ErrorKind::Unknown, "it is held up (scripted)"));
        }
        between(self.inner.downgrade(lease, seats)).await
    }

    async fn release(&self, lease: &LeaseRef, value: Option<&Value>) -> Result<Release> {
        between(self.inner.release(lease, value)).await
    }

    async fn put(&self, lease: &LeaseRef, value: &Value) -> Result<Change> {
        between(self.inner.put(lease, value)).await
    }

    async fn evict(&self, name: &LockName, why: &Eviction) -> Result<Evicted> {
        between(self.inner.evict(name, why)).await
    }

    async fn inspect(&self, name: &LockName) -> Result<View> {
        between(self.inner.inspect(name)).await
    }

    async fn list(&self, prefix: &str, limit: usize) -> Result<Vec<View>> {
        between(self.inner.list(prefix, limit)).await
    }

    fn subscribe(&self, listener: Weak<dyn Listener>) {
        self.inner.subscribe(listener);
    }

    fn watch(&self, claim: &Claim, waits: bool) -> bool {
        self.inner.watch(claim, waits)
    }

    async fn ping(&self) -> Result<()> {
        between(self.inner.ping()).await
    }

    fn keys(&self, name: &LockName) -> Vec<(&'static str, String)> {
        self.inner.keys(name)
    }
}

impl std::fmt::Debug for Yielding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Yielding")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_future_is_dropped_at_each_of_its_points() {
        let steps = || async {
            futures_lite::future::yield_now().await;
            futures_lite::future::yield_now().await;
            7
        };
        assert!(matches!(polled(steps(), 0), Polled::Dropped));
        assert!(matches!(polled(steps(), 2), Polled::Dropped));
        assert!(matches!(polled(steps(), 3), Polled::Ended(7)));
        let stuck = std::future::pending::<()>();
        assert!(matches!(polled(stuck, 3), Polled::DroppedInItsWait));
    }
}
