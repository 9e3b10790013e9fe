//! What the tests share.

use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::block_on;
use tempfile::TempDir;
use tenure_core::backend::DynBackend;
use tenure_core::{LockGuard, LockManager, View};
use tenure_testkit::lock_taker::{Fleet, Job};
use tenure_testkit::servers::postgres::{PostgresServer, PostgresSetup};
pub(crate) use tenure_testkit::stage::*;

/// A ttl that no test waits for.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// A server, and next to it a place for histories; gone with the test.
pub(crate) struct Stage {
    pub(crate) server: PostgresServer,
    dir: TempDir,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::with(PostgresSetup::new())
    }

    pub(crate) fn with(setup: PostgresSetup) -> Self {
        Self { server: setup.start(), dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn url(&self) -> String {
        self.url_at(self.server.port())
    }

    /// By way of a proxy or a pooler.
    pub(crate) fn url_at(&self, port: u16) -> String {
        self.server.url_at(port).replace("postgres://", "postgres+advisory://")
    }

    pub(crate) fn backend(&self) -> Arc<dyn DynBackend> {
        tenure_backend_postgres::open(&self.url()).unwrap()
    }

    /// As another process would.
    pub(crate) fn manager(&self) -> LockManager {
        LockManager::new(self.backend()).unwrap()
    }

    pub(crate) fn manager_at(&self, port: u16) -> LockManager {
        LockManager::new(tenure_backend_postgres::open(&self.url_at(port)).unwrap()).unwrap()
    }

    /// A fleet with a history of its own.
    pub(crate) fn fleet(&self, seed: u64) -> Fleet {
        fleet_in(self.dir.path(), seed)
    }

    pub(crate) fn job(&self, ttl: Duration) -> Job {
        Job { ttl, ..Job::new(&self.url(), X) }
    }

    /// The server's processes that hold advisory locks, one for each lock.
    pub(crate) fn holding(&self) -> Vec<String> {
        let rows = self
            .server
            .psql("select pid from pg_locks where locktype = 'advisory' and granted order by pid");
        rows.lines().map(str::to_owned).collect()
    }

    /// The processes of sessions of this store.
    pub(crate) fn sessions(&self) -> Vec<String> {
        let rows = self.server.psql(
            "select pid from pg_stat_activity where application_name like 'tenure/%' order by pid",
        );
        rows.lines().map(str::to_owned).collect()
    }
}

pub(crate) fn attempt(manager: &LockManager, name: &str) -> Option<LockGuard> {
    block_on(manager.try_acquire(name, LONG)).unwrap()
}

pub(crate) fn look(manager: &LockManager, name: &str) -> View {
    block_on(manager.inspect(name)).unwrap()
}

pub(crate) fn until_waiting(manager: &LockManager, name: &str, count: usize) {
    until("so many wait", || look(manager, name).waiters.len() == count);
}
