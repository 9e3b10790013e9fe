//! What the tests share.

use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::block_on;
use tempfile::TempDir;
use tenure_backend_redis::{RedisBackend, RedisConfig};
use tenure_core::LockManager;
use tenure_core::backend::{Claim, DynBackend};
use tenure_testkit::history::Rules;
use tenure_testkit::lock_taker::{Fleet, Job};
use tenure_testkit::proxy::FaultProxy;
use tenure_testkit::servers::patience::look_for;
use tenure_testkit::servers::redis::{RedisServer, RedisSetup};
pub(crate) use tenure_testkit::stage::*;

/// A ttl that no test waits for.
pub(crate) const LONG: Duration = Duration::from_secs(30);
/// A ttl that is waited for.
pub(crate) const SHORT: Duration = Duration::from_millis(800);
/// A free lock goes to a live waiter within this, on a machine that has other things to do.
pub(crate) const RECOVERY: Duration = Duration::from_millis(2500);
/// How late a busy machine may run the thread that tells of a loss.
pub(crate) const SLACK: Duration = Duration::from_millis(600);

pub(crate) fn backend(store: &str) -> Arc<dyn DynBackend> {
    Arc::new(RedisBackend::open(store).unwrap())
}

/// A server, a proxy before it, and a place for histories; gone with the test.
pub(crate) struct Stage {
    pub(crate) proxy: FaultProxy,
    pub(crate) server: RedisServer,
    dir: TempDir,
}

impl Stage {
    /// With a server that keeps nothing.
    pub(crate) fn new() -> Self {
        Self::with(RedisSetup::new())
    }

    pub(crate) fn with(setup: RedisSetup) -> Self {
        Self::seeded(setup, 0)
    }

    /// With a seed for what the proxy leaves to chance.
    pub(crate) fn seeded(setup: RedisSetup, seed: u64) -> Self {
        let server = setup.start();
        let proxy = FaultProxy::with_seed(server.port(), seed);
        Self { proxy, server, dir: tempfile::tempdir().unwrap() }
    }

    /// The way through the proxy.
    pub(crate) fn url(&self) -> String {
        self.server.url_at(self.proxy.port())
    }

    /// A manager that reaches the server through the proxy.
    pub(crate) fn manager(&self) -> LockManager {
        LockManager::new(backend(&self.url())).unwrap()
    }

    /// A manager with a way of its own, past the proxy.
    pub(crate) fn bystander(&self) -> LockManager {
        LockManager::new(backend(&self.server.url())).unwrap()
    }

    /// A fleet with a history of its own.
    pub(crate) fn fleet(&self, seed: u64) -> Fleet {
        fleet_in(self.dir.path(), seed)
    }

    /// A user of the lock that comes through the proxy.
    pub(crate) fn job(&self, ttl: Duration) -> Job {
        Job { ttl, ..Job::new(&self.url(), X) }
    }

    /// A user of the lock that comes past the proxy.
    pub(crate) fn direct(&self, ttl: Duration) -> Job {
        Job { ttl, ..Job::new(&self.server.url(), X) }
    }

    /// What there is on the server when nobody uses it any more, besides what has to be.
    ///
    /// Leases are waited for; places in the queue, which last longer, are looked at by a clock that
    /// is as far ahead.
    pub(crate) fn left(&self, ttl: Duration) -> Vec<String> {
        let since = now();
        until("the longest lease is over", || ttl + Duration::from_millis(50) < since.elapsed());
        let mut left = Vec::new();
        let keys = self.server.cli(&["--raw", "KEYS", "*"]);
        for key in keys.lines().filter(|key| !key.is_empty()) {
            match key.strip_prefix("tenure:{").and_then(|rest| rest.strip_suffix('}')) {
                None => left.push(key.to_owned()),
                Some(_) if self.server.cli(&["PTTL", key]).starts_with('-') => {
                    left.push(format!("{key} for ever"));
                }
                Some(name) => left.extend(self.members(name)),
            }
        }
        left.extend(self.channels());
        left
    }

    /// Whoever still listens, after the time that the thread of a manager takes to end.
    fn channels(&self) -> Vec<String> {
        let listed = || self.server.cli(&["--raw", "PUBSUB", "CHANNELS", "tenure:*"]);
        look_for(RECOVERY, || listed().trim().is_empty().then(Vec::new))
            .unwrap_or_else(|| listed().lines().map(str::to_owned).collect())
    }

    /// Who holds a lock or waits for it when every place in the queue is over.
    fn members(&self, name: &str) -> Vec<String> {
        const CLOCK: &str = "a-clock-ahead";
        let time = self.server.cli(&["--raw", "TIME"]);
        let seconds: u64 = time.lines().next().unwrap().parse().unwrap();
        let ahead = seconds + Claim::WAIT_TTL.as_secs() + 1;
        self.server.cli(&["HSET", CLOCK, "s", &ahead.to_string(), "us", "0"]);
        let config = RedisConfig::from_url(&self.server.url()).unwrap().test_clock(CLOCK);
        let backend: Arc<dyn DynBackend> = Arc::new(RedisBackend::new(config));
        let view = block_on(LockManager::new(backend).unwrap().inspect(name)).unwrap();
        self.server.cli(&["DEL", CLOCK]);
        let holders = view.holders.iter().map(|h| format!("{name}: holder {}", h.id));
        let waiters = view.waiters.iter().map(|w| format!("{name}: waiter {}", w.id));
        holders.chain(waiters).collect()
    }
}

/// By what runs are judged.
pub(crate) fn rules(ttl: Duration) -> Rules {
    Rules { lost_slack: SLACK, place: Claim::WAIT_TTL, ..Rules::new(ttl, RECOVERY) }
}
