//! A kept result beside the cheapest question that its store answers, and a leader beside that.

use std::sync::Arc;

use tenure::LockManager;
use tenure::file::{FileBackend, FileConfig};
use tenure::redis::RedisBackend;
use tenure_bench::{Times, now};
use tenure_recipes::once::{Fingerprint, IdempotencyConfig, Once, Source};
use tenure_testkit::servers::postgres::PostgresServer;
use tenure_testkit::servers::redis::RedisServer;

const ROUNDS: u32 = 5_000;

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
    let backend = RedisBackend::open(&server.url()).expect("an address");
    let once = once(LockManager::new(Arc::new(backend)).expect("a manager"));
    let floor = times("floor: GET on one connection", async || {
        let none: Option<String> =
            redis::cmd("GET").arg("nothing").query_async(&mut raw).await.expect("an answer");
        assert!(none.is_none());
    })
    .await;
    compare("redis", &once, &floor).await;
}

async fn postgres() {
    let server = PostgresServer::start();
    let (raw, connection) =
        tokio_postgres::connect(&server.url(), tokio_postgres::NoTls).await.expect("a session");
    let session = drive(connection);
    let question = raw.prepare("SELECT 1").await.expect("a statement");
    let backend = tenure::postgres::open(&server.url()).expect("an address");
    let once = once(LockManager::new(backend).expect("a manager"));
    let floor = times("floor: a prepared SELECT 1", async || {
        raw.query_one(&question, &[]).await.expect("a row");
    })
    .await;
    compare("postgres", &once, &floor).await;
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
    let clock = Arc::new(tenure::clock::SystemClock);
    let backend = FileBackend::open(&FileConfig::new(path), clock).expect("a directory");
    let once = once(LockManager::new(Arc::new(backend)).expect("a manager"));
    let floor = times("floor: a file of 400 bytes is read", async || {
        assert_eq!(std::fs::read(&note).expect("a file").len(), 400);
    })
    .await;
    compare("file", &once, &floor).await;
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
