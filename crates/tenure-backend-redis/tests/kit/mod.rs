//! What the tests of the topologies are written with.

#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]

pub mod storm;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tenure_backend_redis::RedisBackend;
use tenure_core::backend::DynBackend;
use tenure_core::clock::{Clock, SystemClock};
use tenure_core::{LockGuard, LockManager, Result};
use tenure_testkit::servers::redis::{RedisCluster, RedisSentinel};
use tokio::task::JoinHandle;

/// A ttl that no test waits for.
pub const LONG: Duration = Duration::from_secs(60);
/// Longer than anything takes that is to happen soon.
pub const SOON: Duration = Duration::from_secs(5);
/// Longer than anything takes that happens in the end.
pub const IN_THE_END: Duration = Duration::from_secs(30);

/// A manager in a process of its own.
pub fn manager(url: &str) -> LockManager {
    LockManager::new(backend(url)).unwrap()
}

pub fn backend(url: &str) -> Arc<dyn DynBackend> {
    Arc::new(RedisBackend::open(url).unwrap())
}

pub fn cluster_url(cluster: &RedisCluster) -> String {
    let hosts: Vec<_> = cluster.nodes().iter().map(|n| format!("127.0.0.1:{}", n.port())).collect();
    format!("redis+cluster://{}", hosts.join(","))
}

pub fn sentinel_url(group: &RedisSentinel) -> String {
    let hosts: Vec<_> =
        group.sentinels().iter().map(|s| format!("127.0.0.1:{}", s.port())).collect();
    format!("redis+sentinel://{}/{}", hosts.join(","), group.name())
}

/// Whatever it is, it ends.
pub async fn within<T>(limit: Duration, what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(limit, work)
        .await
        .unwrap_or_else(|_| panic!("not within {limit:?}: {what}"))
}

/// Looks again and again until something is so.
pub async fn until(limit: Duration, what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    within(limit, what, async {
        while !is_so().await {
            SystemClock.sleep_until(SystemClock.now().plus(Duration::from_millis(5))).await;
        }
    })
    .await;
}

/// Begins to wait for a lock.
#[allow(clippy::disallowed_methods, reason = "a test owns its tasks")]
pub fn waits(locks: &LockManager, name: &str, ttl: Duration) -> JoinHandle<Result<LockGuard>> {
    let (locks, name) = (locks.clone(), name.to_owned());
    tokio::spawn(async move { locks.acquire(name, ttl).await })
}

/// Waits until so many wait.
pub async fn until_waiting(locks: &LockManager, name: &str, count: usize) {
    until(IN_THE_END, "so many wait", async || {
        locks.inspect(name).await.is_ok_and(|view| view.waiters.len() == count)
    })
    .await;
}

/// Waits until a guard was renewed for so long beyond its first deadline; it never falls.
pub async fn lives_on(guard: &LockGuard, time: Duration) {
    let goal = guard.deadlines().0.plus(time);
    until(IN_THE_END, "it is renewed", async || {
        assert!(guard.is_valid(), "{:?}", guard.check());
        goal <= guard.deadlines().0
    })
    .await;
}
