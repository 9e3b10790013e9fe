//! What the tests share.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::future::block_on;
use tempfile::TempDir;
use tenure_core::backend::DynBackend;
use tenure_core::{LockGuard, LockManager, View};
use tenure_testkit::lock_taker::{Fleet, Job};
use tenure_testkit::servers::postgres::{PostgresServer, PostgresSetup};

/// How long a state is waited for that has to come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// A ttl that no test waits for.
pub(crate) const LONG: Duration = Duration::from_secs(60);
/// The lock of most tests.
pub(crate) const X: &str = "x";

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
        let history = tempfile::tempdir_in(self.dir.path()).unwrap().keep();
        Fleet::new(&history, seed, this_program).unwrap()
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

/// This program again, as `another_process`.
fn this_program() -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "another_process", "--nocapture"]);
    command
}

pub(crate) fn acquire(manager: &LockManager, name: &str, ttl: Duration) -> LockGuard {
    block_on(manager.lock(name).ttl(ttl).wait_timeout(PATIENCE).acquire()).unwrap()
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

#[allow(clippy::disallowed_methods, reason = "tests measure real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Waits until something is seen to be so.
pub(crate) fn until(what: &str, is_so: impl FnMut() -> bool) {
    tenure_testkit::servers::patience::until(PATIENCE, what, is_so);
}
