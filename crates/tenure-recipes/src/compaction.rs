//! Compaction by partition: each partition by one worker at a time, and nobody waits.
//!
//! After the stream processor's state compaction: the lock of a partition is
//! `compaction:partition:{id}`, its ttl 300 s.

use std::fmt;
use std::time::Duration;

use tenure_core::{Error, LockManager, LockName, LockWatch, NotReleased, Result};

use futures_lite::future::or;

/// Compacts partitions together with other workers; needs nothing of a store but a lock.
///
/// ```
/// # use std::sync::Arc;
/// # use tenure_core::{Error, LockManager};
/// # use tenure_recipes::Compaction;
/// # fn main() -> tenure_core::Result<()> {
/// # let locks = LockManager::new(Arc::new(tenure_backend_memory::MemoryBackend::new()))?;
/// # futures_lite::future::block_on(async {
/// let compaction = Compaction::new(&locks);
/// for partition in 0..4 {
///     let freed = compaction
///         .compact_partition(partition, async |lock| {
///             println!("compacting as {}", lock.fencing_token());
///             Ok::<_, Error>(4096)
///         })
///         .await?;
///     assert_eq!(freed, Some(4096)); // `None`: another worker is at it
/// }
/// # Ok(())
/// # })
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Compaction {
    locks: LockManager,
    ttl: Duration,
}

impl Compaction {
    /// What the names of the locks begin with; the partition's id follows.
    pub const PREFIX: &str = "compaction:partition:";
    /// Their ttl, if nothing else is said.
    pub const TTL: Duration = Duration::from_secs(300);

    /// Compaction under locks of this store.
    pub fn new(locks: &LockManager) -> Self {
        Self { locks: locks.clone(), ttl: Self::TTL }
    }

    /// How long a partition's lock outlives the last renewal of a worker, 100 ms to 30 days;
    /// renewal is automatic, so that compaction may take longer.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Compacts a partition with `work`, unless another worker is at it: `None` then.
    ///
    /// When the lock is lost, `work` is dropped. Hand the fencing token to what `work` writes.
    ///
    /// # Errors
    /// What `work` says; as an `E`, `Invalid` for an id that makes no name, what acquiring fails
    /// with, and `Lost` if the lock was lost before `work` was done.
    ///
    /// # Cancel safety
    /// If the future is dropped, `work` is dropped and the lock released.
    pub async fn compact_partition<T, E: From<Error>>(
        &self,
        partition: impl fmt::Display,
        work: impl AsyncFnOnce(&LockWatch) -> Result<T, E>,
    ) -> Result<Option<T>, E> {
        let name = LockName::new(format!("{}{partition}", Self::PREFIX))?;
        let Some(guard) = self.locks.lock(&name).ttl(self.ttl).try_acquire().await? else {
            return Ok(None);
        };
        let lost = async { Err(Error::from(guard.lost().await).with_lock(&name).into()) };
        let output = or(lost, work(&guard)).await?;
        match guard.release().await {
            // The janitor goes on with what was not confirmed.
            Ok(()) | Err(NotReleased::Unknown { .. }) => Ok(Some(output)),
            Err(not) => Err(Error::from(not).with_lock(&name).into()),
        }
    }
}
