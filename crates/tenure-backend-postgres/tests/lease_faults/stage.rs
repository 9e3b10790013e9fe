//! What the tests share.

use std::time::Duration;

use tempfile::TempDir;
use tenure_core::LockManager;
use tenure_core::backend::Claim;
use tenure_testkit::history::Rules;
use tenure_testkit::lock_taker::{Fleet, Job};
use tenure_testkit::proxy::FaultProxy;
use tenure_testkit::servers::postgres::{PostgresServer, PostgresSetup};
pub(crate) use tenure_testkit::stage::*;

/// A ttl that no test waits for.
pub(crate) const LONG: Duration = Duration::from_secs(30);
/// A ttl that is waited for.
pub(crate) const SHORT: Duration = Duration::from_millis(800);
/// What may take a few messages and no more.
pub(crate) const AT_ONCE: Duration = Duration::from_secs(1);
/// A free lock goes to a live waiter within this, on a machine that has other things to do.
const RECOVERY: Duration = Duration::from_millis(2500);
/// How late a busy machine may run the thread that tells of a loss.
const SLACK: Duration = Duration::from_millis(300);

/// Who holds or waits when every place in the queue is over.
const LEFT: &str = "
    SET search_path = tenure, pg_catalog;
    SELECT c.name FROM cell AS c, LATERAL (
      SELECT (take_up(c, clock_micros() + :wait_ttl, NULL, true)).*) AS t
    WHERE cardinality(t.holders) + cardinality(t.queue) > 0";

/// A server, a proxy before it, and a place for histories; gone with the test.
pub(crate) struct Stage {
    pub(crate) proxy: FaultProxy,
    pub(crate) server: PostgresServer,
    dir: TempDir,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::with(PostgresSetup::new())
    }

    pub(crate) fn with(setup: PostgresSetup) -> Self {
        Self::seeded(setup, 0)
    }

    /// With a seed for what the proxy leaves to chance.
    pub(crate) fn seeded(setup: PostgresSetup, seed: u64) -> Self {
        let server = setup.start();
        server.psql(&tenure_backend_postgres::install_sql("tenure"));
        let proxy = FaultProxy::with_seed(server.port(), seed);
        Self { proxy, server, dir: tempfile::tempdir().unwrap() }
    }

    /// A manager that reaches the server through the proxy.
    pub(crate) fn manager(&self) -> LockManager {
        manager_at(&self.url())
    }

    /// A manager with a way of its own, past the proxy.
    pub(crate) fn bystander(&self) -> LockManager {
        manager_at(&self.server.url())
    }

    /// A fleet with a history of its own.
    pub(crate) fn fleet(&self, seed: u64) -> Fleet {
        fleet_in(self.dir.path(), seed)
    }

    /// The way through the proxy.
    pub(crate) fn url(&self) -> String {
        self.server.url_at(self.proxy.port())
    }

    /// A user of the lock that comes past the proxy.
    pub(crate) fn job(&self, ttl: Duration) -> Job {
        Job { ttl, ..Job::new(&self.server.url(), X) }
    }

    /// What there is on the server when nobody uses it any more, besides what has to be. Leases are
    /// waited for; places in the queue, which last longer, are looked at by a clock that is ahead.
    pub(crate) fn left(&self, ttl: Duration) -> Vec<String> {
        pass(ttl + Duration::from_millis(50));
        let ahead = (Claim::WAIT_TTL + Duration::from_secs(1)).as_micros();
        let left = self.server.psql(&LEFT.replace(":wait_ttl", &ahead.to_string()));
        let sessions =
            "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'tenure%'";
        until("no session is left", || self.server.psql(sessions) == "0");
        left.lines().map(str::to_owned).collect()
    }
}

fn manager_at(url: &str) -> LockManager {
    LockManager::new(tenure_backend_postgres::open(url).unwrap()).unwrap()
}

/// By what runs are judged.
pub(crate) fn rules(ttl: Duration) -> Rules {
    Rules { lost_slack: SLACK, place: Claim::WAIT_TTL, ..Rules::new(ttl, RECOVERY) }
}
