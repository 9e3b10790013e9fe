//! What the tests share.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::block_on;
use tempfile::TempDir;
use tenure_backend_redis::{RedisBackend, RedisConfig};
use tenure_core::LockManager;
use tenure_core::backend::{Claim, DynBackend};
pub(crate) use tenure_testkit::faults::{Ground, LONG, RECOVERY, SHORT, Setup};
use tenure_testkit::history::Rules;
use tenure_testkit::proxy::FaultProxy;
use tenure_testkit::servers::Server;
use tenure_testkit::servers::patience::look_for;
use tenure_testkit::servers::redis::{RedisServer, RedisSetup};
pub(crate) use tenure_testkit::stage::*;

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
    pub(crate) fn with(setup: RedisSetup) -> Self {
        Self::seeded(setup, 0)
    }

    /// With a seed for what the proxy leaves to chance.
    fn seeded(setup: RedisSetup, seed: u64) -> Self {
        let server = setup.start();
        let proxy = FaultProxy::with_seed(server.port(), seed);
        Self { proxy, server, dir: tempfile::tempdir().unwrap() }
    }

    /// The way through the proxy.
    pub(crate) fn url(&self) -> String {
        self.far()
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

impl Ground for Stage {
    const TTL: Duration = Duration::from_millis(600);
    const SLACK: Duration = Duration::from_millis(600);
    const WORDS: [&'static [u8]; 3] = [b"EVALSHA"; 3];

    fn start(setup: &Setup) -> Self {
        let mut server = RedisSetup::new();
        if setup.keeps {
            server = server.append_only();
        }
        for (name, value) in &setup.env {
            server = server.env(name, value);
        }
        Self::seeded(server, setup.seed)
    }

    fn server(&self) -> &dyn Server {
        &self.server
    }

    fn proxy(&self) -> &FaultProxy {
        &self.proxy
    }

    fn near(&self) -> String {
        self.server.url()
    }

    fn far(&self) -> String {
        self.server.url_at(self.proxy.port())
    }

    fn open(address: &str) -> Arc<dyn DynBackend> {
        backend(address)
    }

    fn histories(&self) -> &Path {
        self.dir.path()
    }

    fn clock_ms(&self) -> i64 {
        let time = self.server.cli(&["--raw", "TIME"]);
        let mut parts = time.lines().map(|part| part.parse::<i64>().unwrap());
        parts.next().unwrap() * 1000 + parts.next().unwrap() / 1000
    }

    /// What there is on the server when nobody uses it any more, besides what has to be.
    ///
    /// Leases are waited for; places in the queue, which last longer, are looked at by a clock that
    /// is as far ahead.
    fn left(&self, ttl: Duration) -> Vec<String> {
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
}

/// The ttl of leases when everything happens at random.
pub(crate) const TTL: Duration = <Stage as Ground>::TTL;

/// By what runs are judged.
pub(crate) fn rules(ttl: Duration) -> Rules {
    Stage::rules(ttl)
}
