//! What the tests share.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::future::block_on;
use tenure_backend_postgres::LeaseBackend;
use tenure_core::{LockGuard, LockManager};
use tenure_testkit::servers::patience;
use tenure_testkit::servers::postgres::PostgresServer;

/// How long a state is waited for that has to come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// A ttl that no test waits for.
pub(crate) const LONG: Duration = Duration::from_secs(30);
/// What may take a few messages and no more, on a machine that has other things to do.
pub(crate) const AT_ONCE: Duration = Duration::from_secs(1);

/// A manager as another process has it.
pub(crate) fn manager_at(url: &str) -> LockManager {
    LockManager::new(Arc::new(LeaseBackend::open(url).unwrap())).unwrap()
}

pub(crate) fn manager(server: &PostgresServer) -> LockManager {
    manager_at(&server.url())
}

pub(crate) fn acquire(manager: &LockManager, name: &str, ttl: Duration) -> LockGuard {
    block_on(manager.lock(name).ttl(ttl).wait_timeout(PATIENCE).acquire()).unwrap()
}

/// Waits until so many wait for a lock.
pub(crate) fn until_waiting(manager: &LockManager, name: &str, count: usize) {
    until("they wait", || block_on(manager.inspect(name)).unwrap().waiters.len() == count);
}

#[allow(clippy::disallowed_methods, reason = "tests measure real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Waits until something is seen to be so.
pub(crate) fn until(what: &str, is_so: impl FnMut() -> bool) {
    patience::until(PATIENCE, what, is_so);
}

/// Lets time pass that is part of what is tested.
pub(crate) fn pass(time: Duration) {
    let since = now();
    until("the time has passed", || time <= since.elapsed());
}

/// A `psql` that is told one thing after the other, in one session.
pub(crate) struct Psql {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Psql {
    pub(crate) fn start(server: &PostgresServer) -> Self {
        let mut command = server.psql_command("postgres", "postgres");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let input = process.stdin.take().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        Self { process, input, output }
    }

    /// Runs SQL, and answers its rows when it is done.
    pub(crate) fn run(&mut self, sql: &str) -> Vec<String> {
        const DONE: &str = "that was it";
        writeln!(self.input, "{sql}\n\\echo {DONE}").unwrap();
        self.input.flush().unwrap();
        let mut rows = Vec::new();
        loop {
            let mut line = String::new();
            assert!(0 < self.output.read_line(&mut line).unwrap(), "psql ended: {sql}");
            match line.trim_end() {
                DONE => return rows,
                row => rows.push(row.to_owned()),
            }
        }
    }
}

impl Drop for Psql {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
