//! Many that contend for a few locks while something breaks, and what must hold all the same.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tenure_core::clock::{Clock, Moment, SystemClock};
use tenure_core::{Fence, LockManager, LockWatch};
use tokio::task::JoinSet;

use super::{IN_THE_END, manager, until};

/// The ttl of its leases.
pub const TTL: Duration = Duration::from_secs(2);
/// How many processes contend, as it were.
const PROCESSES: usize = 4;
/// How long one of them waits for a lock.
const PATIENCE: Duration = Duration::from_secs(20);

/// A storm that rages until it is calmed.
pub struct Storm {
    workers: JoinSet<()>,
    ledger: Arc<Ledger>,
}

/// What was seen.
#[derive(Default)]
struct Ledger {
    calm: AtomicBool,
    grants: AtomicUsize,
    locks: Mutex<HashMap<String, Seen>>,
    /// When somebody was granted a lock that another one counted on.
    overlaps: Mutex<Vec<Moment>>,
}

#[derive(Default)]
struct Seen {
    /// The highest fence that an acquire has returned.
    highest: Option<Fence>,
    holder: Option<LockWatch>,
}

impl Storm {
    /// Breaks loose on these locks.
    pub fn on(url: &str, names: &[String]) -> Self {
        let ledger = Arc::new(Ledger::default());
        let mut workers = JoinSet::new();
        for process in 0..PROCESSES {
            let (locks, names, ledger) = (manager(url), names.to_vec(), ledger.clone());
            workers.spawn(async move {
                for round in process.. {
                    if ledger.calm.load(Ordering::Relaxed) {
                        break;
                    }
                    ledger.takes(&locks, &names[round % names.len()]).await;
                }
            });
        }
        Self { workers, ledger }
    }

    /// Waits for so many more grants.
    pub async fn rages(&self, grants: usize) {
        let goal = self.ledger.grants.load(Ordering::Relaxed) + grants;
        until(IN_THE_END, "it goes on", async || {
            goal <= self.ledger.grants.load(Ordering::Relaxed)
        })
        .await;
    }

    /// Ends it. Nobody may have held what another one held, but while it was broken.
    pub async fn calm(mut self, broken: (Moment, Moment)) {
        self.ledger.calm.store(true, Ordering::Relaxed);
        let all = async { while self.workers.join_next().await.transpose().unwrap().is_some() {} };
        super::within(IN_THE_END, "all come to an end", all).await;
        let overlaps = self.ledger.overlaps.lock();
        println!(
            "{} grants, {} overlaps",
            self.ledger.grants.load(Ordering::Relaxed),
            overlaps.len()
        );
        let excused = |at: &Moment| broken.0 <= *at && *at <= broken.1;
        assert!(overlaps.iter().all(excused), "two held at once, and nothing was broken");
    }
}

impl Ledger {
    async fn takes(&self, locks: &LockManager, name: &str) {
        let before = self.locks.lock().get(name).and_then(|seen| seen.highest);
        let tried = locks.lock(name).ttl(TTL).wait_timeout(PATIENCE).acquire().await;
        let guard = match tried {
            Ok(guard) => guard,
            Err(error) => return assert!(error.kind().is_transient(), "{error:?}"),
        };
        let fence = guard.fencing_token();
        assert!(before < Some(fence), "the fence of {name} fell from {before:?} to {fence:?}");
        {
            let mut locks = self.locks.lock();
            let seen = locks.entry(name.to_owned()).or_default();
            if guard.is_valid() {
                if seen.holder.as_ref().is_some_and(LockWatch::is_valid) {
                    self.overlaps.lock().push(SystemClock.now());
                }
                seen.holder = Some(guard.watch());
            }
            seen.highest = seen.highest.max(Some(fence));
        }
        self.grants.fetch_add(1, Ordering::Relaxed);
        SystemClock.sleep_until(SystemClock.now().plus(Duration::from_millis(5))).await;
        // While it is broken it may be unknown.
        let _ = guard.release().await;
    }
}
