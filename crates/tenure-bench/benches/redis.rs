//! The Redis store beside the cheapest thing that could be called a lock there: SET NX PX, and a
//! script that compares and deletes. No fence, no queue, nobody told. And beside `rslock`, which is the same
//! as a library.
//!
//! The server has one core and this program the other, where `taskset` can do that.

mod redis_processes;

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, Script};
use tenure::LockManager;
use tenure::redis::RedisBackend;
use tenure_bench::{Times, now, resident, status};
use tenure_testkit::servers::redis::RedisServer;

const TTL: Duration = Duration::from_secs(30);

fn main() {
    if redis_processes::is_one() {
        return;
    }
    let server = RedisServer::start();
    pin(id(&server), 0);
    pin(std::process::id(), 1);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    // As in `cargo bench --bench redis -- uncontended`.
    let named: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let wanted = |name: &str| named.is_empty() || named.iter().any(|n| n == name);
    if wanted("processes") {
        for waiters in [2, 16] {
            redis_processes::hand_over(&server, waiters);
        }
    }
    runtime.block_on(async {
        if wanted("uncontended") {
            uncontended(&server).await;
        }
        if wanted("distinct") {
            distinct(&server).await;
        }
        if wanted("hand-over") {
            for waiters in [2, 16] {
                hand_over(&server, waiters).await;
            }
        }
        if wanted("waiters") {
            many_waiters(&server).await;
        }
        if wanted("leases") {
            many_leases(&server).await;
        }
        if std::env::var_os("TENURE_STATS").is_some() {
            println!("{}", server.cli(&["INFO", "commandstats"]));
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

/// The server's process, as it says itself.
fn id(server: &RedisServer) -> u32 {
    let info = server.cli(&["INFO", "server"]);
    let line = info.lines().find_map(|l| l.strip_prefix("process_id:"));
    line.and_then(|n| n.trim().parse().ok()).expect("a number")
}

fn manager(server: &RedisServer) -> LockManager {
    let backend = RedisBackend::open(&server.url()).expect("an address");
    LockManager::new(Arc::new(backend)).expect("a manager")
}

/// What a program without tenure would write.
#[derive(Clone)]
struct Floor {
    connection: MultiplexedConnection,
    release: Arc<Script>,
}

impl Floor {
    async fn new(server: &RedisServer) -> Self {
        let tcp = redis::io::tcp::TcpSettings::default().set_nodelay(true);
        let info = server.url().into_connection_info().expect("an address");
        let client = Client::open(info.set_tcp_settings(tcp)).expect("a client");
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let connection = client.get_multiplexed_async_connection_with_config(&config).await;
        let release = Script::new(
            "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end",
        );
        Self { connection: connection.expect("a connection"), release: Arc::new(release) }
    }

    async fn cycle(&mut self, key: &str, token: &str) {
        let mut set = redis::cmd("SET");
        set.arg(key).arg(token).arg("NX").arg("PX").arg(30_000);
        let taken: bool = set.query_async(&mut self.connection).await.expect("an answer");
        assert!(taken, "nobody else takes it");
        let mut release = self.release.key(key);
        let freed: i64 = release.arg(token).invoke_async(&mut self.connection).await.expect("one");
        assert_eq!(freed, 1);
    }
}

async fn cycle(locks: &LockManager, name: &str) {
    locks.acquire(name, TTL).await.expect("free").release().await.expect("held");
}

async fn uncontended(server: &RedisServer) {
    let (locks, mut plain) = (manager(server), Floor::new(server).await);
    let peers = rslock::LockManager::new(vec![server.url()]);
    let mut floor = Times::new("floor: SET NX PX + compare and delete");
    let mut peer = Times::new("rslock, one server");
    let mut ours = Times::new("redis: acquire + release, fence and queue checked");
    for n in 0..11_000 {
        let before = now();
        plain.cycle("floor", "token").await;
        if 1_000 <= n {
            floor.add(before.elapsed());
        }
        let before = now();
        cycle(&locks, "cycle").await;
        if 1_000 <= n {
            ours.add(before.elapsed());
        }
        let before = now();
        let lock = peers.lock("peer".as_bytes(), TTL).await.expect("free");
        peers.unlock(&lock).await;
        if 1_000 <= n {
            peer.add(before.elapsed());
        }
    }
    println!("{floor}\n{}\n{}", peer.beside(&floor), ours.beside(&floor));
}

const TASKS: usize = 64;
const CYCLES: usize = 2_000;

async fn distinct(server: &RedisServer) {
    let (locks, plain) = (manager(server), Floor::new(server).await);
    for _ in 0..2 {
        let before = now();
        let all = (0..TASKS).map(|task| {
            let mut plain = plain.clone();
            async move {
                let (key, token) = (format!("floor {task}"), format!("token {task}"));
                for _ in 0..CYCLES {
                    plain.cycle(&key, &token).await;
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
        println!(
            "{TASKS} tasks, distinct keys, one connection: floor {floor:.0} cycles/s, redis {ours:.0} \
             = {:.2} x the floor's",
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
async fn hand_over(server: &RedisServer, waiters: usize) {
    let locks = manager(server);
    let label = format!("redis: hand-over with {waiters} waiters, one manager");
    let mut times = Times::new(label);
    let mut in_order = true;
    for _ in 0..(2_000 / waiters) {
        let first = locks.acquire("hand-over", TTL).await.expect("free");
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        for waiter in 0..waiters {
            let (mine, tell) = (locks.clone(), tell.clone());
            tokio::spawn(async move {
                let guard = mine.acquire("hand-over", TTL).await.expect("handed over");
                let got = now();
                let release = now();
                guard.release().await.expect("held");
                let _ = tell.send((waiter, got, release));
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

/// What waiting costs the server.
#[allow(clippy::disallowed_methods, reason = "tasks of a benchmark")]
async fn many_waiters(server: &RedisServer) {
    let locks = manager(server);
    let guard = locks.acquire("long", TTL).await.expect("free");
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let locks = locks.clone();
            tokio::spawn(async move { drop(locks.acquire("long", TTL).await) })
        })
        .collect();
    while locks.inspect("long").await.expect("there").waiters.len() < TASKS {
        tokio::task::yield_now().await;
    }
    let before = commands(server);
    tokio::time::sleep(Duration::from_secs(8)).await;
    let sent = commands(server) - before;
    println!("{TASKS} waiters on a long lease: {:.2} commands/s on the server", sent as f64 / 8.0);
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    guard.release().await.expect("held");
}

/// How many scripts the clients have sent; the server counts what runs inside them, too.
fn commands(server: &RedisServer) -> u64 {
    let info = server.cli(&["INFO", "commandstats"]);
    let line = info.lines().find_map(|l| l.strip_prefix("cmdstat_evalsha:calls="));
    line.and_then(|l| l.split(',').next()?.parse().ok()).expect("a number")
}

#[allow(clippy::disallowed_methods, reason = "a benchmark looks for a while")]
async fn many_leases(server: &RedisServer) {
    const LEASES: usize = 50_000;
    let locks = manager(server);
    let ttl = Duration::from_secs(10);
    let before = resident();
    let taken = now();
    let mut guards = Vec::with_capacity(LEASES);
    for hundred in 0..LEASES / 100 {
        let some = (0..100).map(|n| locks.acquire(format!("lease {}", hundred * 100 + n), ttl));
        guards.extend(futures_util::future::join_all(some).await);
    }
    let guards: Vec<_> = guards.into_iter().map(|g| g.expect("free")).collect();
    let taken = taken.elapsed();
    let (sent, busy) = (commands(server), cpu());
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (sent, busy) = (commands(server) - sent, cpu() - busy);
    let connections = server.cli(&["CLIENT", "LIST"]).lines().count().saturating_sub(1);
    println!(
        "{LEASES} leases of 10 s: {:.2} s to take, {:.1} commands/s, {:.2} % of a core, {} MB \
         ({} MB for them), {connections} connections of the whole run, {} threads",
        taken.as_secs_f64(),
        sent as f64 / 10.0,
        busy.as_secs_f64() * 10.0,
        resident() / 1_000_000,
        resident().saturating_sub(before) / 1_000_000,
        status("Threads"),
    );
    drop(guards);
    locks.close(Duration::from_secs(30)).await.expect("released");
}

/// Processor time of this process.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("procfs");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|t| t.parse::<u64>().expect("ticks")).sum();
    Duration::from_millis(ticks * 10)
}
