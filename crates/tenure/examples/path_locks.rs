//! A SQL server's files, one writer each: paths as lock names, a ttl, an owner.
//!
//! `cargo run -p tenure --example path_locks -- postgres+advisory://` does the same by PostgreSQL's
//! advisory locks, with the connection from `TENURE_LOCK_POSTGRES_CONNECTION`, `PGCONNECTION` or
//! the `PG*` variables.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use tenure::{LockGuard, LockManager, LockName};

/// The lock of a file, if nobody else has it.
async fn try_acquire(
    locks: &LockManager,
    target: &Path,
    ttl: Duration,
    owner: &str,
) -> Result<Option<LockGuard>, tenure::Error> {
    locks.lock(LockName::from_path(target)?).ttl(ttl).owner(owner).try_acquire().await
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let here = format!("file://{}", dir.path().display());
    let store = std::env::args().nth(1).filter(|arg| arg.contains(':')).unwrap_or(here);
    let locks = tenure::connect(&store).await?;
    let target = dir.path().join("my-resource.db");
    std::fs::write(&target, b"")?;
    let ttl = Duration::from_secs(600);

    let Some(mut lock) = try_acquire(&locks, &target, ttl, "worker-1").await? else {
        println!("the lock is held by another process");
        return Ok(());
    };
    println!("{} is ours, fencing token {}", lock.name(), lock.fencing_token());

    // The same file by another spelling is the same lock.
    let other = dir.path().join(".").join("my-resource.db");
    assert!(try_acquire(&locks, &other, ttl, "worker-2").await?.is_none());

    // Leases renew themselves. Whoever wants to know can ask, and whoever wants to, can refresh.
    lock.check()?;
    lock.extend(ttl).await?;

    drop(lock);
    let lock = locks.acquire(LockName::from_path(&other)?, ttl).await?;
    lock.release().await?;
    Ok(())
}
