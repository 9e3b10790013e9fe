//! A kept result beside the cheapest question that its store answers, and a leader beside that; and
//! how soon those who follow have the result, beside a lock that is handed over.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, join_all};
use tenure::LockManager;
use tenure::file::{FileBackend, FileConfig};
use tenure::redis::RedisBackend;
use tenure_bench::{Times, now};
use tenure_recipes::once::{Fingerprint, IdempotencyConfig, Once, Source};
use tenure_testkit::servers::postgres::PostgresServer;
use tenure_testkit::servers::redis::RedisServer;

const ROUNDS: u32 = 5_000;
/// How often a result is waited for, and by how many.
const HAND_OFFS: u32 = 400;
const FOLLOWERS: usize = 8;
/// The ttl of a lock that nobody waits out.
const TTL: Duration = Duration::from_secs(30);

fn main() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    // As in `cargo bench --bench once -- redis`.
    let named: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let wanted = |name: &str| named.is_empty() || named.iter().any(|n| n == name);
    runtime.block_on(async {
        if wanted("redis") {
            redis().await;
        }
        if wanted("postgres") {
            postgres().await;
        }
        if wanted("file") {
            file().await;
        }
    });
}

async fn redis() {
    let server = RedisServer::start();
    let client = redis::Client::open(server.url()).expect("an address");
    let mut raw = client.get_multiplexed_async_connection().await.expect("a connection");
    let open = || {
        let backend = RedisBackend::open(&server.url()).expect("an address");
        LockManager::new(Arc::new(backend)).expect("a manager")
    };
    let once = once(open());
    let floor = times("floor: GET on one connection", async || {
        let none: Option<String> =
            redis::cmd("GET").arg("nothing").query_async(&mut raw).await.expect("an answer");
        assert!(none.is_none());
    })
    .await;
    compare("redis", &once, &floor).await;
    follow("redis", &open(), &open()).await;
}

async fn postgres() {
    let server = PostgresServer::start();
    let (raw, connection) =
        tokio_postgres::connect(&server.url(), tokio_postgres::NoTls).await.expect("a session");
    let session = drive(connection);
    let question = raw.prepare("SELECT 1").await.expect("a statement");
    let open = || {
        let backend = tenure::postgres::open(&server.url()).expect("an address");
        LockManager::new(backend).expect("a manager")
    };
    let once = once(open());
    let floor = times("floor: a prepared SELECT 1", async || {
        raw.query_one(&question, &[]).await.expect("a row");
    })
    .await;
    compare("postgres", &once, &floor).await;
    follow("postgres", &open(), &open()).await;
    session.abort();
}

#[allow(clippy::disallowed_methods, reason = "the task of a benchmark's own session")]
fn drive<S, T>(connection: tokio_postgres::Connection<S, T>) -> tokio::task::JoinHandle<()>
where
    tokio_postgres::Connection<S, T>: Future + Send + 'static,
{
    tokio::spawn(async move { drop(connection.await) })
}

async fn file() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("locks");
    std::fs::create_dir(&path).expect("a folder");
    let note = dir.path().join("note");
    std::fs::write(&note, [b'x'; 400]).expect("a file");
    let open = || {
        let clock = Arc::new(tenure::clock::SystemClock);
        let config = FileConfig::new(path.clone());
        let backend = FileBackend::open(&config, clock).expect("a directory");
        LockManager::new(Arc::new(backend)).expect("a manager")
    };
    let once = once(open());
    let floor = times("floor: a file of 400 bytes is read", async || {
        assert_eq!(std::fs::read(&note).expect("a file").len(), 400);
    })
    .await;
    compare("file", &once, &floor).await;
    follow("file", &open(), &open()).await;
}

fn once(locks: LockManager) -> Once {
    Once::new(locks, IdempotencyConfig::new("bench")).expect("a store with values")
}

async fn compare(store: &str, once: &Once, floor: &Times) {
    println!("{floor}");
    let call = async |key: String| {
        once.run(key, Fingerprint::NONE, |_| async { Ok::<_, String>(175_u32) })
            .await
            .expect("nothing fails here")
    };
    call("kept".to_owned()).await;
    let kept = times(&format!("{store}: a kept result"), async || {
        assert_eq!(call("kept".to_owned()).await.source, Source::Cached);
    })
    .await;
    println!("{}", kept.beside(floor));
    let mut n = 0;
    let leads = times(&format!("{store}: a leader with nothing to do"), async || {
        n += 1;
        assert_eq!(call(format!("new {n}")).await.source, Source::Executed);
    })
    .await;
    println!("{}", leads.beside(floor));
}

async fn times(label: &str, mut round: impl AsyncFnMut()) -> Times {
    let mut times = Times::new(label);
    for n in 0..ROUNDS + ROUNDS / 10 {
        let before = now();
        round().await;
        if ROUNDS / 10 <= n {
            times.add(before.elapsed());
        }
    }
    times
}

/// From the end of the work to each of those who follow in another process, as it were, beside a plain
/// lock from its release to whoever waits.
async fn follow(store: &str, here: &LockManager, there: &LockManager) {
    let ended = Cell::new(now());
    let mut hand_over = Times::new(format!("floor: {store}, a lock is handed over"));
    for n in 0..HAND_OFFS + HAND_OFFS / 10 {
        let name = format!("handed over {}", n % 16);
        let guard = here.acquire(name.as_str(), TTL).await.expect("it is free");
        let waits = async {
            let guard = there.acquire(name.as_str(), TTL).await.expect("it is handed over");
            if HAND_OFFS / 10 <= n {
                hand_over.add(ended.get().elapsed());
            }
            guard.release().await.expect("it is held");
        };
        let releases = async {
            waited_for(here, &name, 1).await;
            ended.set(now());
            guard.release().await.expect("it is held");
        };
        join(waits, releases).await;
    }
    println!("{hand_over}");
    let (leader, followers) = (once(here.clone()), once(there.clone()));
    let mut each = Times::new(format!("{store}: each of {FOLLOWERS} followers has the result"));
    let mut last = Times::new(format!("{store}: the last of {FOLLOWERS} has it"));
    for n in 0..HAND_OFFS + HAND_OFFS / 10 {
        let key = format!("followed {n}");
        let name = tenure_recipes::once::Key::from(key.as_str()).lock_name("bench").expect("a key");
        let leads = leader.run(key.as_str(), Fingerprint::NONE, |_| async {
            waited_for(here, name.as_str(), FOLLOWERS).await;
            ended.set(now());
            Ok::<_, String>(175_u32)
        });
        let follows = async || {
            until_somebody_leads(there, name.as_str()).await;
            let work = |_| async { Err("it leads".to_owned()) };
            let outcome = followers.run::<u32, _, _, _>(key.as_str(), Fingerprint::NONE, work);
            assert_eq!(outcome.await.expect("a result").value, 175);
            ended.get().elapsed()
        };
        let (led, times) = join(leads, join_all((0..FOLLOWERS).map(|_| follows()))).await;
        led.expect("a result");
        if HAND_OFFS / 10 <= n {
            last.add(times.iter().copied().max().expect("some follow"));
            times.into_iter().for_each(|time| each.add(time));
        }
    }
    println!("{}", each.beside(&hand_over));
    println!("{}", last.beside(&hand_over));
}

async fn waited_for(locks: &LockManager, name: &str, waiters: usize) {
    while locks.inspect(name).await.expect("a look").waiters.len() < waiters {
        locks.sleep_until(locks.clock().now().plus(Duration::from_millis(1))).await;
    }
}

async fn until_somebody_leads(locks: &LockManager, name: &str) {
    while !locks.is_locked(name).await.expect("a look") {
        locks.sleep_until(locks.clock().now().plus(Duration::from_millis(1))).await;
    }
}
