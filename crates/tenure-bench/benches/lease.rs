//! PostgreSQL's lease table beside its own two statements, sent by hand on one connection: what the
//! library adds to what the server does.
//!
//! Once with a server that waits for its disk, as servers do, and once without, where what both cost
//! is easier to see. The server has one core and this program the other, where `taskset` can do that.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use tenure::LockManager;
use tenure::postgres::{LeaseBackend, install_sql};
use tenure_bench::{Times, now};
use tenure_testkit::servers::postgres::{PostgresServer, PostgresSetup};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, NoTls};

const TTL: Duration = Duration::from_secs(30);

fn main() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    pin(std::process::id(), 1);
    for (label, setup) in [
        ("waits for its disk", PostgresSetup::new().durable()),
        ("does not wait for its disk", PostgresSetup::new()),
    ] {
        println!("-- a server that {label}");
        let server = setup.set("autovacuum", "on").start();
        server.psql(&install_sql("tenure"));
        pin(server.id(), 0);
        runtime.block_on(async {
            uncontended(&server).await;
            distinct(&server).await;
            for waiters in [2, 16] {
                hand_over(&server, waiters).await;
            }
        });
    }
}

fn pin(process: u32, core: u32) {
    let (core, process) = (core.to_string(), process.to_string());
    let pinned = Command::new("taskset").args(["-acp", &core, &process]).output();
    if !pinned.is_ok_and(|output| output.status.success()) {
        println!("process {process} could not be pinned to core {core}");
    }
}

fn manager(server: &PostgresServer) -> LockManager {
    let backend = LeaseBackend::open(&server.url()).expect("an address");
    LockManager::new(Arc::new(backend)).expect("a manager")
}

/// The statements that the store sends, by hand.
struct Floor(Client);

impl Floor {
    async fn new(server: &PostgresServer) -> Self {
        let (client, connection) =
            tokio_postgres::connect(&server.url(), NoTls).await.expect("a connection");
        tokio::runtime::Handle::current().spawn(async move {
            let _ = connection.await;
        });
        Self(client)
    }

    /// Claims and releases locks, all with one statement each.
    async fn cycle(&self, names: &[String], round: u64) {
        const CLAIM: &str = "SELECT nr, fence, at, answer FROM \
             tenure.claim_many($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0)";
        const RELEASE: &str = "SELECT nr, fence, at, answer FROM tenure.release_many($1, $2, 0)";
        let all = |one: &str| vec![one.to_owned(); names.len()];
        let member = |n: usize| {
            let mut member = vec![0; 32];
            member[..8].copy_from_slice(&round.to_be_bytes());
            member[8..12].copy_from_slice(&u32::try_from(n).expect("few").to_be_bytes());
            member
        };
        let members: Vec<Vec<u8>> = (0..names.len()).map(member).collect();
        let claims: Vec<String> = (0..names.len()).map(|n| format!("{round}-{n}")).collect();
        let (zeros, ttls) = (vec![0_i64; names.len()], vec![30_000_000_i64; names.len()]);
        let details = all(r#"{"owner":{"label":"floor","host":"h","pid":1}}"#);
        let wants = all(r#"[false,30000000,2000000,false,false,"","",0,false]"#);
        let (plain, channels) = (vec![true; names.len()], all(""));
        let values: [(&(dyn ToSql + Sync), Type); 10] = [
            (&names, Type::TEXT_ARRAY),
            (&members, Type::BYTEA_ARRAY),
            (&claims, Type::TEXT_ARRAY),
            (&zeros, Type::INT8_ARRAY),
            (&zeros, Type::INT8_ARRAY),
            (&ttls, Type::INT8_ARRAY),
            (&details, Type::TEXT_ARRAY),
            (&plain, Type::BOOL_ARRAY),
            (&wants, Type::TEXT_ARRAY),
            (&channels, Type::TEXT_ARRAY),
        ];
        let rows = self.0.query_typed(CLAIM, &values).await.expect("an answer");
        granted(&rows, names.len());
        let release: [(&(dyn ToSql + Sync), Type); 2] =
            [(&names, Type::TEXT_ARRAY), (&members, Type::BYTEA_ARRAY)];
        let rows = self.0.query_typed(RELEASE, &release).await.expect("an answer");
        granted(&rows, names.len());
    }
}

fn granted(rows: &[tokio_postgres::Row], count: usize) {
    assert_eq!(rows.len(), count);
    assert!(rows.iter().all(|row| row.get::<_, Option<i64>>(1).is_some()), "nobody else takes it");
}

async fn cycle(locks: &LockManager, name: &str) {
    locks.acquire(name, TTL).await.expect("free").release().await.expect("held");
}

async fn uncontended(server: &PostgresServer) {
    let (locks, plain) = (manager(server), Floor::new(server).await);
    let mut floor = Times::new("floor: the two statements by hand");
    let mut ours = Times::new("lease table: acquire + release");
    let names = ["floor".to_owned()];
    for n in 0..3_300 {
        let before = now();
        plain.cycle(&names, n).await;
        if 300 <= n {
            floor.add(before.elapsed());
        }
        let before = now();
        cycle(&locks, "cycle").await;
        if 300 <= n {
            ours.add(before.elapsed());
        }
    }
    println!("{floor}\n{}", ours.beside(&floor));
}

const TASKS: usize = 64;
const CYCLES: usize = 150;

async fn distinct(server: &PostgresServer) {
    let (locks, plain) = (manager(server), Floor::new(server).await);
    let names: Vec<String> = (0..TASKS).map(|task| format!("floor {task}")).collect();
    for _ in 0..2 {
        let before = now();
        for round in 0..CYCLES {
            plain.cycle(&names, 1_000_000 + round as u64).await;
        }
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
        println!(
            "{TASKS} tasks, distinct names: floor, all in one statement {floor:.0} cycles/s, lease \
             table {ours:.0} = {:.2} x the floor's",
            ours / floor
        );
    }
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

/// Waiters that each hand over to the next, in the order in which they came.
#[allow(clippy::disallowed_methods, reason = "tasks of a benchmark")]
async fn hand_over(server: &PostgresServer, waiters: usize) {
    let locks = manager(server);
    let mut times = Times::new(format!("lease table: hand-over with {waiters} waiters"));
    let mut in_order = true;
    for _ in 0..(400 / waiters) {
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
    println!("{times}  {}", if in_order { "exactly in order" } else { "NOT in order" });
}
