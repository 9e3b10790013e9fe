//! What the tests share.

use std::process::Command;
use std::time::{Duration, Instant};

use futures_lite::future::block_on;
use tempfile::TempDir;
use tenure_core::backend::Claim;
use tenure_core::{LockGuard, LockManager};
use tenure_testkit::history::{Demand, Event, Op, Phase, Promise, Rules, Status, Verdict};
use tenure_testkit::lock_taker::{Doing, Fleet, Job, Run};
use tenure_testkit::proxy::FaultProxy;
use tenure_testkit::servers::patience;
use tenure_testkit::servers::postgres::{PostgresServer, PostgresSetup};

/// How long a state is waited for that has to come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// A ttl that no test waits for.
pub(crate) const LONG: Duration = Duration::from_secs(30);
/// A ttl that is waited for.
pub(crate) const SHORT: Duration = Duration::from_millis(800);
/// What may take a few messages and no more.
pub(crate) const AT_ONCE: Duration = Duration::from_secs(1);
/// The lock of most tests.
pub(crate) const X: &str = "x";
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

/// The variable that asks for more rounds of everything that chance decides.
const ROUNDS: &str = "TENURE_FAULT_ROUNDS";

/// How often what chance decides is done.
pub(crate) fn rounds(few: u64) -> u64 {
    std::env::var(ROUNDS).map_or(few, |rounds| rounds.parse().unwrap())
}

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
        let history = tempfile::tempdir_in(self.dir.path()).unwrap().keep();
        Fleet::new(&history, seed, this_program).unwrap()
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

/// This program again, as `another_process`.
fn this_program() -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "another_process", "--nocapture"]);
    command
}

/// By what runs are judged.
pub(crate) fn rules(ttl: Duration) -> Rules {
    Rules { lost_slack: SLACK, place: Claim::WAIT_TTL, ..Rules::new(ttl, RECOVERY) }
}

/// Sees that a run broke nothing, and that it tried these promises.
pub(crate) fn assert_held(run: &Run, rules: &Rules, left: &[String], tried: &[Promise]) {
    let verdict = run.judge(Some(left), rules);
    println!("{}\n{verdict}", run.tally);
    let broken = |v: &Verdict| {
        v.promises.iter().any(|p| p.status == Status::Broken && p.demand == Demand::Must)
    };
    assert!(!broken(&verdict), "{verdict}\n{:#?}", run.complaints);
    for &promise in tried {
        assert_eq!(verdict.status(promise), Some(Status::Held), "{promise}: {verdict}");
    }
}

/// Sees that a run tried and held every promise.
pub(crate) fn assert_all_held(run: &Run, rules: &Rules, left: &[String]) {
    assert_held(run, rules, left, &Promise::ALL);
}

pub(crate) fn a_holder(fleet: &mut Fleet, job: Job) -> String {
    let holder = fleet.start(&job.holding()).unwrap();
    fleet.until(&holder, Doing::Holding).unwrap();
    holder
}

pub(crate) fn a_waiter(fleet: &mut Fleet, job: Job) -> String {
    let waiter = fleet.start(&job.holding()).unwrap();
    until("it has a place in the queue", || {
        fleet.last_event(&waiter).unwrap().is_some_and(|event| event.op == Op::Wait)
    });
    waiter
}

fn events_of<'a>(run: &'a Run, proc: &'a str) -> impl Iterator<Item = &'a Event> + 'a {
    run.events.iter().filter(move |event| event.proc == proc)
}

pub(crate) fn granted_at(run: &Run, proc: &str) -> u64 {
    let is_grant = |event: &&Event| (event.op, event.phase) == (Op::Acquire, Phase::Ok);
    events_of(run, proc).find(is_grant).expect("it was granted the lock").t_ns
}

pub(crate) fn did(run: &Run, proc: &str, op: Op, phase: Phase) -> bool {
    events_of(run, proc).any(|event| (event.op, event.phase) == (op, phase))
}

pub(crate) fn acquire(manager: &LockManager, name: &str, ttl: Duration) -> LockGuard {
    block_on(manager.lock(name).ttl(ttl).wait_timeout(PATIENCE).acquire()).unwrap()
}

#[allow(clippy::disallowed_methods, reason = "tests measure real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Waits until something is seen to be so.
pub(crate) fn until(what: &str, is_so: impl FnMut() -> bool) {
    patience::until(PATIENCE, what, is_so);
}

/// Lets time pass that is part of a fault.
pub(crate) fn pass(time: Duration) {
    let since = now();
    until("the time has passed", || time <= since.elapsed());
}
