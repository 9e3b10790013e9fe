//! What the tests share.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tenure_core::backend::{Claim, DynBackend};
pub(crate) use tenure_testkit::faults::{Ground, LONG, SHORT, Setup};
use tenure_testkit::history::{Promise, Rules};
use tenure_testkit::proxy::FaultProxy;
use tenure_testkit::servers::Server;
use tenure_testkit::servers::postgres::{PostgresServer, PostgresSetup};
pub(crate) use tenure_testkit::stage::*;

/// A ttl that session locks can be held to: the shortest class of sessions.
pub(crate) const SHORTEST_CLASS: Duration = Duration::from_secs(2);

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
    pub(crate) fn with(setup: PostgresSetup) -> Self {
        Self::seeded(setup, 0)
    }

    /// With a seed for what the proxy leaves to chance.
    fn seeded(setup: PostgresSetup, seed: u64) -> Self {
        let server = setup.start();
        server.psql(&tenure_backend_postgres::install_sql("tenure"));
        let proxy = FaultProxy::with_seed(server.port(), seed);
        Self { proxy, server, dir: tempfile::tempdir().unwrap() }
    }

    /// The way through the proxy.
    pub(crate) fn url(&self) -> String {
        self.far()
    }
}

/// A server that writes what is committed to disk when it likes.
pub(crate) fn careless() -> PostgresSetup {
    PostgresSetup::new().set("synchronous_commit", "off").set("wal_writer_delay", "10s")
}

impl Ground for Stage {
    const TTL: Duration = Duration::from_millis(800);
    const SLACK: Duration = Duration::from_millis(300);
    const WORDS: [&'static [u8]; 3] = [b"claim_many", b"renew_many", b"release_many"];
    /// A session is made by a process of the server's.
    const AT_ONCE: Duration = Duration::from_secs(2);
    /// Statements come with their text.
    const DRIP: usize = 64;
    /// A server that asks somebody else for each time is too slow for a crowd.
    const DRIFT_TRIES: &'static [Promise] =
        &[Promise::Fence, Promise::Loss, Promise::Release, Promise::Orphans];

    fn start(setup: &Setup) -> Self {
        // What has to be kept is kept also where commits are not waited for.
        let mut server = if setup.keeps { careless() } else { PostgresSetup::new() };
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
        tenure_backend_postgres::open(address).unwrap()
    }

    /// The session locks stand on the same servers.
    fn rooms(&self) -> Vec<(String, Duration)> {
        let leases = self.near();
        let sessions = leases.replace("postgres://", "postgres+advisory://");
        vec![(leases, SHORT), (sessions, SHORTEST_CLASS)]
    }

    fn histories(&self) -> &Path {
        self.dir.path()
    }

    fn clock_ms(&self) -> i64 {
        let now = "select (extract(epoch from clock_timestamp()) * 1e3)::int8";
        self.server.psql(now).parse().unwrap()
    }

    /// What there is on the server when nobody uses it any more, besides what has to be. Leases are
    /// waited for; places in the queue, which last longer, are looked at by a clock that is ahead.
    fn left(&self, ttl: Duration) -> Vec<String> {
        pass(ttl + Duration::from_millis(50));
        let ahead = (Claim::WAIT_TTL + Duration::from_secs(1)).as_micros();
        let left = self.server.psql(&LEFT.replace(":wait_ttl", &ahead.to_string()));
        let sessions =
            "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'tenure%'";
        until("no session is left", || self.server.psql(sessions) == "0");
        left.lines().map(str::to_owned).collect()
    }
}

/// The ttl of leases when everything happens at random.
pub(crate) const TTL: Duration = <Stage as Ground>::TTL;

/// By what runs are judged.
pub(crate) fn rules(ttl: Duration) -> Rules {
    Stage::rules(ttl)
}
