//! PostgreSQL's advisory locks beside the cheapest thing that could be called a lock there: two
//! prepared statements on one connection. No fence, no registry, no queue, nobody told.
//!
//! The server has one core and this program the other, where `taskset` can do that.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use tenure::LockManager;
use tenure::postgres::AdvisoryBackend;
use tenure_bench::{Times, now};
use tenure_testkit::servers::postgres::{PostgresServer, PostgresSetup};
use tokio_postgres::{Client, NoTls, Statement};

const TTL: Duration = Duration::from_secs(30);

fn main() {
    let server = PostgresSetup::new().durable().set("max_locks_per_transaction", "256").start();
    pin(server.id(), 0);
    pin(std::process::id(), 1);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        // One of them alone, for a look at where its time goes.
        let only = std::env::var("ONLY").unwrap_or_default();
        let wanted = |part: &str| only.is_empty() || only == part;
        if wanted("cycle") {
            uncontended(&server).await;
        }
        if wanted("distinct") {
            distinct(&server).await;
        }
        if wanted("hand-over") {
            let floor = hand_over_by_hand(&server).await;
            for waiters in [2, 16] {
                hand_over(&server, waiters, &floor).await;
            }
        }
        if wanted("many") {
            many_locks(&server).await;
        }
    });
}

fn pin(process: u32, core: u32) {
    let (core, process) = (core.to_string(), process.to_string());
    let pinned = Command::new("taskset").args(["-acp", &core, &process]).output();
    if !pinned.is_ok_and(|output| output.status.success()) {
        println!("process {process} could not be pinned to core {core}");
    }
}

fn manager(server: &PostgresServer) -> LockManager {
    let url = server.url().replace("postgres://", "postgres+advisory://");
    let backend = AdvisoryBackend::open(&url).expect("an address");
    LockManager::new(Arc::new(backend)).expect("a manager")
}

/// What a program without tenure would write.
struct Floor {
    client: Client,
    lock: Statement,
    unlock: Statement,
}

impl Floor {
    async fn new(server: &PostgresServer) -> Self {
        let (client, connection) =
            tokio_postgres::connect(&server.url(), NoTls).await.expect("a connection");
        tokio::runtime::Handle::current().spawn(async move {
            let _ = connection.await;
        });
        let lock = client.prepare("select pg_try_advisory_lock($1)").await.expect("prepared");
        let unlock = client.prepare("select pg_advisory_unlock($1)").await.expect("prepared");
        Self { client, lock, unlock }
    }

    async fn cycle(&self, key: i64) {
        for statement in [&self.lock, &self.unlock] {
            let row = self.client.query_one(statement, &[&key]).await.expect("an answer");
            assert!(row.get::<_, bool>(0), "nobody else takes it");
        }
    }
}

async fn cycle(locks: &LockManager, name: &str) {
    locks.acquire(name, TTL).await.expect("free").release().await.expect("held");
}

async fn uncontended(server: &PostgresServer) {
    let (locks, plain) = (manager(server), Floor::new(server).await);
    let mut floor = Times::new("floor: two prepared statements");
    let mut ours = Times::new("advisory: acquire + release, with fence");
    for n in 0..11_000 {
        let before = now();
        plain.cycle(1).await;
        if 1_000 <= n {
            floor.add(before.elapsed());
        }
        let before = now();
        cycle(&locks, "cycle").await;
        if 1_000 <= n {
            ours.add(before.elapsed());
        }
    }
    println!("{floor}\n{}", ours.beside(&floor));
}

const TASKS: usize = 64;
const CYCLES: usize = 1_000;

async fn distinct(server: &PostgresServer) {
    let (locks, plain) = (manager(server), Arc::new(Floor::new(server).await));
    for _ in 0..2 {
        let before = now();
        let all = (0..TASKS).map(|task| {
            let plain = plain.clone();
            async move {
                for _ in 0..CYCLES {
                    plain.cycle(i64::try_from(task).expect("small")).await;
                }
            }
        });
        together(all).await;
        let floor = rate(before.elapsed());
        let before = now();
        let all = (0..TASKS).map(|task| {
            let locks = locks.clone();
            async move {
                let name = format!("task {task}");
                for _ in 0..CYCLES {
                    cycle(&locks, &name).await;
                }
            }
        });
        together(all).await;
        let ours = rate(before.elapsed());
        let connections = connections(server);
        println!(
            "{TASKS} tasks, distinct names: floor, pipelined on one connection {floor:.0} cycles/s, \
             advisory {ours:.0} = {:.2} x the floor's, {connections} connections",
            ours / floor
        );
    }
}

/// Those of this store.
fn connections(server: &PostgresServer) -> String {
    server.psql("select count(*) from pg_stat_activity where application_name like 'tenure/%'")
}

fn rate(took: Duration) -> f64 {
    (TASKS * CYCLES) as f64 / took.as_secs_f64()
}

#[allow(clippy::disallowed_methods, reason = "tasks of a benchmark")]
async fn together<F: Future<Output = ()> + Send + 'static>(all: impl Iterator<Item = F>) {
    let tasks: Vec<_> = all.map(tokio::spawn).collect();
    for task in tasks {
        task.await.expect("it ends");
    }
}

/// A connection that waits in the server's queue while another one unlocks.
async fn hand_over_by_hand(server: &PostgresServer) -> Times {
    let (a, b, look) =
        (Floor::new(server).await, Arc::new(Floor::new(server).await), Floor::new(server).await);
    let wait = b.client.prepare("select pg_advisory_lock($1)::text").await.expect("prepared");
    let mut times = Times::new("floor: from an unlock to the grant of a session");
    for _ in 0..800 {
        a.client.query_one(&a.lock, &[&1_i64]).await.expect("an answer");
        let waits = {
            let (b, wait) = (b.clone(), wait.clone());
            async move {
                b.client.query_one(&wait, &[&1_i64]).await.expect("granted");
                now()
            }
        };
        #[allow(clippy::disallowed_methods, reason = "a task of a benchmark")]
        let waits = tokio::spawn(waits);
        let waiting = "select 1 from pg_locks where locktype = 'advisory' and not granted";
        while look.client.query(waiting, &[]).await.expect("an answer").is_empty() {}
        let before = now();
        a.client.query_one(&a.unlock, &[&1_i64]).await.expect("an answer");
        times.add(waits.await.expect("it ends").saturating_duration_since(before));
        b.client.query_one(&b.unlock, &[&1_i64]).await.expect("an answer");
    }
    println!("{times}");
    times
}

/// Waiters that each hand over to the next, in the order in which they came.
#[allow(clippy::disallowed_methods, reason = "tasks of a benchmark")]
async fn hand_over(server: &PostgresServer, waiters: usize, floor: &Times) {
    let locks = manager(server);
    let mut times = Times::new(format!("advisory: hand-over with {waiters} waiters, one manager"));
    let mut in_order = true;
    for _ in 0..(800 / waiters) {
        let first = locks.acquire("hand-over", TTL).await.expect("free");
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        for waiter in 0..waiters {
            let (mine, tell) = (locks.clone(), tell.clone());
            tokio::spawn(async move {
                let guard = mine.acquire("hand-over", TTL).await.expect("handed over");
                let got = now();
                // Before it: the next one may be granted before its answer is there.
                let _ = tell.send((waiter, got, now()));
                guard.release().await.expect("held");
            });
            while locks.inspect("hand-over").await.expect("there").waiters.len() <= waiter {
                tokio::task::yield_now().await;
            }
        }
        let mut released = now();
        first.release().await.expect("held");
        for expected in 0..waiters {
            let (waiter, got, release) = told.recv().await.expect("it tells");
            in_order &= waiter == expected;
            times.add(got.saturating_duration_since(released));
            released = release;
        }
    }
    let order = if in_order { "exactly in order" } else { "NOT in order" };
    println!("{}  {order}", times.beside(floor));
}

/// Many locks of one process at once, and one more beside them.
async fn many_locks(server: &PostgresServer) {
    const LOCKS: usize = 10_000;
    let locks = manager(server);
    let mut empty = Times::new("advisory: one more cycle with no lock held");
    let mut full = Times::new("advisory: one more cycle with 10,000 locks held");
    for _ in 0..2_000 {
        let before = now();
        cycle(&locks, "one more").await;
        empty.add(before.elapsed());
    }
    let before = now();
    let all = (0..LOCKS).map(|n| locks.acquire(format!("many {n}"), TTL));
    let guards = futures_util::future::try_join_all(all).await.expect("there is room");
    let took = before.elapsed();
    let connections = connections(server);
    for _ in 0..2_000 {
        let before = now();
        cycle(&locks, "one more").await;
        full.add(before.elapsed());
    }
    println!("{LOCKS} locks at once: {took:?}, {connections} connections of the whole run");
    println!("{empty}\n{}", full.beside(&empty));
    drop(guards);
    locks.close(Duration::from_secs(30)).await.expect("released");
}
