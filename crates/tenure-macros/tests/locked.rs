//! What a function under `#[locked]` does.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::sync::Arc;
use std::time::Duration;

use tenure::{ErrorKind, Fence, LockManager, locked};

const TTL: Duration = Duration::from_secs(30);

async fn locks() -> LockManager {
    tenure::connect("memory:").await.unwrap()
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Lock(#[from] tenure::Error),
    #[error("no such table: {0}")]
    NoTable(String),
}

/// Says whether the lock was held while it ran.
#[locked(key = "upsert:{table}:{items.len()}", watch = lock)]
async fn upsert(
    manager: &LockManager,
    table: &str,
    items: Vec<u32>,
) -> Result<(bool, Fence), Failed> {
    if table.is_empty() {
        return Err(Failed::NoTable(table.to_owned()));
    }
    let held = manager.is_locked(format!("upsert:{table}:2")).await?;
    assert_eq!(2, items.len());
    Ok((held, lock.fencing_token()))
}

#[tokio::test]
async fn the_body_runs_under_the_lock_of_its_arguments() {
    let locks = locks().await;
    let (held, first) = upsert(&locks, "questions", vec![1, 2]).await.unwrap();
    assert!(held);
    assert!(!locks.is_locked("upsert:questions:2").await.unwrap());
    let (_, second) = upsert(&locks, "questions", vec![3, 4]).await.unwrap();
    assert!(first < second);
}

#[tokio::test]
async fn an_early_return_and_an_error_release_the_lock() {
    let locks = locks().await;
    let error = upsert(&locks, "", vec![]).await.unwrap_err();
    assert!(matches!(error, Failed::NoTable(_)), "{error:?}");
    assert!(!locks.is_locked("upsert::0").await.unwrap());
}

struct Index {
    locks: Arc<LockManager>,
    namespace: String,
    rebuilds: u32,
}

impl Index {
    #[locked(key = "rebuild:{self.namespace}", manager = self.locks, wait = "0s")]
    async fn rebuild(&mut self) -> tenure::Result<u32> {
        assert!(self.locks.is_locked("rebuild:en").await?);
        self.rebuilds += 1;
        Ok(self.rebuilds)
    }

    #[locked(key = self.name(), manager = self.locks, shared, ttl = TTL, wait = "forever")]
    async fn read<'a, T: AsRef<str> + ?Sized>(&'a self, what: &'a T) -> tenure::Result<&'a str> {
        let view = self.locks.inspect(self.name()).await?;
        assert_eq!(2, view.holders.len(), "another reader is in, too");
        Ok(what.as_ref())
    }

    fn name(&self) -> String {
        format!("read:{}", self.namespace)
    }
}

#[tokio::test]
async fn methods_find_the_manager_in_a_field() {
    let locks = Arc::new(locks().await);
    let mut index = Index { locks: locks.clone(), namespace: "en".to_owned(), rebuilds: 0 };
    assert_eq!(1, index.rebuild().await.unwrap());
    assert_eq!(2, index.rebuild().await.unwrap());
    let guard = locks.lock("read:en").shared().acquire().await.unwrap();
    assert_eq!("x", index.read("x").await.unwrap());
    guard.release().await.unwrap();
}

#[tokio::test]
async fn who_does_not_wait_is_told_who_holds_the_lock() {
    let locks = Arc::new(locks().await);
    let mut index = Index { locks: locks.clone(), namespace: "en".to_owned(), rebuilds: 0 };
    let guard = locks.acquire("rebuild:en", TTL).await.unwrap();
    let error = index.rebuild().await.unwrap_err();
    assert!(error.kind().is_not_acquired(), "{error:?}");
    assert_eq!(0, index.rebuilds);
    guard.release().await.unwrap();
    assert_eq!(1, index.rebuild().await.unwrap());
}

#[locked(key = "long")]
async fn until_it_is_lost(locks: LockManager) -> tenure::Result<()> {
    locks.force_release("long", None, "to see").await?;
    std::future::pending().await
}

#[tokio::test]
async fn the_body_is_dropped_when_the_lock_is_lost() {
    let error = until_it_is_lost(locks().await).await.unwrap_err();
    assert_eq!(ErrorKind::Lost, error.kind(), "{error:?}");
}

#[locked(key = "nightly", priority = 3)]
async fn nightly() -> tenure::Result<()> {
    Ok(())
}

#[tokio::test]
async fn without_a_manager_at_hand_the_global_one_is_used() {
    let error = nightly().await.unwrap_err();
    assert_eq!(ErrorKind::Invalid, error.kind());
    assert!(error.to_string().contains("no global manager"), "{error}");
    tenure::set_global(locks().await).unwrap();
    nightly().await.unwrap();
    let again = tenure::set_global(locks().await).unwrap_err();
    assert_eq!(ErrorKind::Invalid, again.kind());
}

#[locked(key = "{key}")]
async fn named(locks: &LockManager, key: &str) -> tenure::Result<()> {
    Ok(())
}

#[tokio::test]
async fn a_key_that_is_no_name_is_refused_before_anything_runs() {
    let error = named(&locks().await, "").await.unwrap_err();
    assert_eq!(ErrorKind::Invalid, error.kind(), "{error:?}");
}

#[tokio::test]
async fn its_future_can_be_spawned() {
    fn spawned<T: Send + 'static>(_: impl Future<Output = T> + Send) {}
    let locks = locks().await;
    spawned(async move { upsert(&locks, "x", vec![1, 2]).await.map_err(|e| e.to_string()) });
}
