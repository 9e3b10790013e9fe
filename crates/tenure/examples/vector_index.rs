//! A vector index that many workers write: a lock per namespace, and a rebuild that happens once
//! however many ask for it.

use std::error::Error;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tenure::recipes::once::OnceError;
use tenure::{LockManager, idempotent, locked};

#[derive(Clone)]
struct VectorIndex {
    locks: LockManager,
}

#[derive(PartialEq, Debug, Serialize, Deserialize)]
struct Rebuilt {
    namespace: String,
    vectors: u64,
}

impl VectorIndex {
    /// Protected by the lock of its table and namespace: 60 s, renewed; waits 30 s for it.
    #[locked(
        key = "vector:upsert:{table}:{namespace.unwrap_or(\"default\")}",
        manager = self.locks,
        watch = lock
    )]
    async fn batch_upsert(
        &self,
        items: &[f32],
        table: &str,
        namespace: Option<&str>,
    ) -> tenure::Result<usize> {
        // What the lock protects refuses whoever comes with an older number.
        println!(
            "{} vectors into {table} under fencing token {}",
            items.len(),
            lock.fencing_token()
        );
        Ok(items.len())
    }

    /// One execution per namespace; others wait for its result, or get the kept one.
    #[idempotent(
        scope = "vector_rebuild",
        key = "{namespace}",
        ttl = "1h",
        in_progress_ttl = "10m",
        manager = self.locks
    )]
    async fn rebuild(&self, namespace: &str) -> Result<Rebuilt, OnceError<std::io::Error>> {
        println!("rebuilding {namespace}");
        tokio::task::yield_now().await; // the expensive work
        Ok(Rebuilt { namespace: namespace.to_owned(), vectors: 175 })
    }
}

#[tokio::main]
#[allow(clippy::disallowed_methods, reason = "a program owns its tasks")]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let locks = tenure::connect(&format!("file://{}", dir.path().display())).await?;
    let index = VectorIndex { locks: locks.clone() };
    assert_eq!(3, index.batch_upsert(&[0.1, 0.2, 0.3], "questions", None).await?);

    let calls: Vec<_> = (0..4)
        .map(|_| {
            let index = index.clone();
            tokio::spawn(async move { index.rebuild("math").await.map_err(|e| e.to_string()) })
        })
        .collect();
    for call in calls {
        let rebuilt = call.await??;
        assert_eq!(Rebuilt { namespace: "math".to_owned(), vectors: 175 }, rebuilt);
    }

    // By hand, for a part of a function.
    {
        let _lock = locks.acquire("vector:rebuild:math", Duration::from_secs(60)).await?;
        println!("rebuilding by hand");
    }

    // What an operator asks, and does.
    let stuck = locks.acquire("vector:create_indexes", Duration::from_secs(60)).await?;
    let info = locks.get_lock_info("vector:create_indexes").await?.ok_or("it is held")?;
    println!("held by {info}");
    locks.force_release("vector:create_indexes", None, "its worker is gone").await?;
    assert!(!locks.is_locked("vector:create_indexes").await?);
    drop(stuck);
    println!("{:?}", locks.health().await);
    Ok(())
}
