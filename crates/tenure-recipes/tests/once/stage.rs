//! What the scenarios are written with.

use std::any::Any;
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tenure_backend_file::{FileBackend, FileConfig};
use tenure_backend_memory::MemoryBackend;
use tenure_backend_redis::RedisBackend;
use tenure_core::LockManager;
use tenure_core::backend::DynBackend;
use tenure_core::clock::{Clock, SystemClock};
use tenure_recipes::once::{
    Attempt, Fingerprint, IdempotencyConfig, Once, OnceError, Outcome, State,
};
use tenure_testkit::servers::postgres::PostgresServer;
use tenure_testkit::servers::redis::RedisServer;
use tokio::task::JoinHandle;

/// Longer than anything takes that happens in the end.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// A wait timeout that no scenario sees the end of.
pub(crate) const LONG: Duration = Duration::from_secs(40);

/// A store, and what keeps it alive.
pub(crate) struct Stage {
    pub(crate) kind: &'static str,
    pub(crate) url: String,
    memory: Option<Arc<dyn DynBackend>>,
    count: AtomicU32,
    _alive: Box<dyn Any>,
}

impl Stage {
    fn new(kind: &'static str, url: String, alive: impl Any) -> Self {
        Self { kind, url, memory: None, count: AtomicU32::new(0), _alive: Box::new(alive) }
    }

    pub(crate) fn memory() -> Self {
        let memory: Arc<dyn DynBackend> = Arc::new(MemoryBackend::new());
        Self { memory: Some(memory), ..Self::new("memory", "memory:".to_owned(), ()) }
    }

    pub(crate) fn file() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("locks");
        std::fs::create_dir(&path).unwrap();
        Self::new("file", format!("file://{}", path.display()), dir)
    }

    pub(crate) fn redis() -> Self {
        let server = RedisServer::start();
        Self::new("redis", server.url(), server)
    }

    pub(crate) fn lease_table() -> Self {
        let server = PostgresServer::start();
        Self::new("postgres", server.url(), server)
    }

    /// A manager as in a process of its own.
    pub(crate) fn manager(&self) -> LockManager {
        let backend = self.memory.clone().unwrap_or_else(|| open(&self.url));
        LockManager::new(backend).unwrap()
    }

    /// A config with a scope of its own, patient waiting, and a lease that nobody waits for.
    pub(crate) fn config(&self) -> IdempotencyConfig {
        let scope = format!("scope-{}", self.count.fetch_add(1, Ordering::Relaxed));
        IdempotencyConfig::new(scope).wait_timeout(LONG)
    }

    pub(crate) fn once(&self, config: &IdempotencyConfig) -> Once {
        Once::new(self.manager(), config.clone()).unwrap()
    }
}

/// A backend of its own for a store between processes.
pub(crate) fn open(url: &str) -> Arc<dyn DynBackend> {
    if let Some(path) = url.strip_prefix("file://") {
        Arc::new(FileBackend::open(&FileConfig::new(path), Arc::new(SystemClock)).unwrap())
    } else if url.starts_with("redis") {
        Arc::new(RedisBackend::open(url).unwrap())
    } else {
        tenure_backend_postgres::open(url).unwrap()
    }
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Whatever it is, it ends.
pub(crate) async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work)
        .await
        .unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
}

/// Looks again and again until something is so.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    within(what, async {
        while !is_so().await {
            SystemClock.sleep_until(SystemClock.now().plus(Duration::from_millis(5))).await;
        }
    })
    .await;
}

/// Waits until so many follow.
pub(crate) async fn until_followers(once: &Once, key: &'static str, count: usize) {
    until("so many follow", async || once.status(key).await.unwrap().followers == count).await;
}

/// Waits for a state.
pub(crate) async fn until_state(once: &Once, key: &'static str, state: State) {
    until("the state", async || once.status(key).await.unwrap().state == state).await;
}

/// A task of the test's own.
#[allow(clippy::disallowed_methods, reason = "a test owns its tasks")]
pub(crate) fn spawn<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    tokio::spawn(work)
}

pub(crate) type Called<T> = Result<Outcome<T>, OnceError<String>>;

/// Makes a call in a task of its own.
pub(crate) fn calls<F, W>(once: &Once, key: &'static str, work: F) -> JoinHandle<Called<String>>
where
    F: FnOnce(Attempt) -> W + Send + 'static,
    W: Future<Output = Result<String, String>> + Send + 'static,
{
    let once = once.clone();
    spawn(async move { once.run(key, Fingerprint::NONE, work).await })
}

/// Makes a call whose work is never done.
pub(crate) fn works_for_ever(once: &Once, key: &'static str) -> JoinHandle<Called<String>> {
    let once = once.clone();
    spawn(async move {
        once.run(key, Fingerprint::NONE, |_| std::future::pending::<Result<String, String>>()).await
    })
}

/// Makes a call whose work says this at once.
pub(crate) fn says(
    once: &Once,
    key: &'static str,
    text: &'static str,
) -> JoinHandle<Called<String>> {
    let once = once.clone();
    spawn(async move {
        once.run(key, Fingerprint::NONE, |_| async move { Ok::<_, String>(text.to_owned()) }).await
    })
}

/// Whatever has to be there already, without any work.
pub(crate) async fn find(once: &Once, key: &'static str) -> Called<String> {
    once.run(key, Fingerprint::NONE, |_| async { Err::<String, _>("nothing was there".to_owned()) })
        .await
}

/// An error that cannot be.
pub(crate) fn never<T>(error: OnceError<Infallible>) -> T {
    panic!("{error}")
}
