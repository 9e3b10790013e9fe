//! The stores, and what the recipes' tests share.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tenure_backend_file::{FileBackend, FileConfig};
use tenure_backend_memory::MemoryBackend;
use tenure_backend_redis::RedisBackend;
use tenure_core::backend::DynBackend;
use tenure_core::clock::SystemClock;
use tenure_core::{LockManager, View};
use tenure_testkit::servers::postgres::PostgresSetup;
use tenure_testkit::servers::redis::RedisSetup;

/// How long a state is waited for that has to come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// A ttl that no test waits for.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// What a store may lack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lacks {
    Nothing,
    Permits,
    Upgrade,
    Values,
}

impl Lacks {
    /// Whether the store declares that it lacks this.
    pub(crate) fn lacks(self, locks: &LockManager) -> bool {
        let can = locks.capabilities();
        match self {
            Lacks::Nothing => false,
            Lacks::Permits => !can.permits,
            Lacks::Upgrade => !can.upgrade,
            Lacks::Values => can.value_max.is_none(),
        }
    }
}

pub(crate) type Run = for<'a> fn(&'a Store) -> Pin<Box<dyn Future<Output = ()> + 'a>>;

/// One test of a recipe.
pub(crate) struct Rule {
    pub(crate) name: &'static str,
    pub(crate) needs: Option<Lacks>,
    pub(crate) run: Run,
}

/// Rules by the names of their functions, each with what it needs.
macro_rules! rules {
    ($($module:ident::$name:ident $(; $needs:ident)?),* $(,)?) => {
        vec![$(Rule {
            name: concat!(stringify!($module), "::", stringify!($name)),
            needs: [$(Lacks::$needs)?].first().copied(),
            run: |store| Box::pin($module::$name(store)),
        }),*]
    };
}
pub(crate) use rules;

/// A store, with its server if it has one; gone with the test.
pub(crate) struct Store {
    pub(crate) kind: &'static str,
    pub(crate) lacks: &'static [Lacks],
    open: Box<dyn Fn() -> Arc<dyn DynBackend>>,
    _server: Box<dyn Any>,
}

impl Store {
    pub(crate) fn memory() -> Self {
        let backend: Arc<dyn DynBackend> = Arc::new(MemoryBackend::new());
        Self::new("memory", (), move || backend.clone())
    }

    pub(crate) fn file() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("file://{}", dir.path().display());
        Self::new("file", dir, move || {
            let config = FileConfig::from_url(&url).unwrap();
            Arc::new(FileBackend::open(&config, Arc::new(SystemClock)).unwrap())
        })
    }

    pub(crate) fn redis() -> Self {
        let server = RedisSetup::new().start();
        let url = server.url();
        Self::new("redis", server, move || Arc::new(RedisBackend::open(&url).unwrap()))
    }

    pub(crate) fn lease_table() -> Self {
        let server = PostgresSetup::new().start();
        let url = server.url();
        Self::new("postgres", server, move || tenure_backend_postgres::open(&url).unwrap())
    }

    pub(crate) fn advisory() -> Self {
        let server = PostgresSetup::new().set("max_connections", "200").start();
        let url = server.url().replace("postgres://", "postgres+advisory://");
        let open = move || tenure_backend_postgres::open(&url).unwrap();
        let lacks = &[Lacks::Permits, Lacks::Upgrade, Lacks::Values];
        Self { lacks, ..Self::new("postgres+advisory", server, open) }
    }

    fn new(
        kind: &'static str,
        server: impl Any,
        open: impl Fn() -> Arc<dyn DynBackend> + 'static,
    ) -> Self {
        Self { kind, lacks: &[], open: Box::new(open), _server: Box::new(server) }
    }

    /// A manager of its own, as another process would have one.
    pub(crate) fn manager(&self) -> LockManager {
        LockManager::new((self.open)()).unwrap()
    }
}

/// Waits until a lock is seen to be so.
pub(crate) async fn seen(locks: &LockManager, name: &str, is_so: impl Fn(&View) -> bool) -> View {
    let give_up = locks.clock().now().plus(PATIENCE);
    loop {
        let view = locks.inspect(name).await.unwrap();
        if is_so(&view) {
            return view;
        }
        assert!(locks.clock().now() < give_up, "never seen: {view:?}");
        locks.sleep_until(locks.clock().now().plus(Duration::from_millis(2))).await;
    }
}

/// Starts a task and waits until it is the n-th that waits for the lock.
#[allow(clippy::disallowed_methods, reason = "a test, on a runtime of its own")]
pub(crate) async fn waiting<T: Send + 'static>(
    locks: &LockManager,
    name: &str,
    waiters: usize,
    task: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    let task = tokio::task::spawn(task);
    seen(locks, name, |view| view.waiters.len() == waiters).await;
    task
}
