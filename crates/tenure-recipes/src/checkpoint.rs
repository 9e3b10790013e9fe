//! Checkpoints of a system that many workers run: one at a time, and none too soon after another.
//!
//! After the stream processor's checkpoint coordination: the lock is `global:checkpoint`, its ttl
//! 60 s. The list of finished checkpoints is the value of that lock, so that only the worker that
//! still holds it can add to the list, and every other sees what is done already.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::or;
use serde::{Deserialize, Serialize};
use tenure_core::{
    Error, ErrorKind, Fence, LockGuard, LockManager, LockName, LockWatch, Result, View,
};

use crate::record;
use crate::support::{KEEP, Place, need};

/// A finished checkpoint.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Checkpoint {
    /// Its number, counted from 1.
    pub sequence: u64,
    /// Where it lies: below the coordinator's path, in a place of its own.
    pub path: String,
    /// The fencing token of the worker that made it.
    pub fence: Fence,
    /// The owner that made it.
    pub by: Arc<str>,
}

/// What the lock's value is: finished checkpoints, oldest first.
#[derive(Default, Serialize, Deserialize)]
struct Ledger {
    finished: Vec<Checkpoint>,
}

/// What became of a call for a checkpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Checkpointed {
    /// It was made now, by this worker.
    Made(Checkpoint),
    /// There is one that is younger than the interval; nothing was done.
    Recent(Checkpoint),
}

impl Checkpointed {
    /// The newest checkpoint, whoever made it.
    pub fn checkpoint(&self) -> &Checkpoint {
        match self {
            Checkpointed::Made(checkpoint) | Checkpointed::Recent(checkpoint) => checkpoint,
        }
    }
}

/// Makes checkpoints together with the coordinators of other workers; cheap to clone.
///
/// ```
/// # use std::sync::Arc;
/// # use std::time::Duration;
/// # use tenure_core::{Error, LockManager};
/// # use tenure_recipes::{CheckpointCoordinator, Checkpointed};
/// # fn main() -> tenure_core::Result<()> {
/// # let locks = LockManager::new(Arc::new(tenure_backend_memory::MemoryBackend::new()))?;
/// # futures_lite::future::block_on(async {
/// let minute = Duration::from_secs(60);
/// let coordinator = CheckpointCoordinator::new(&locks, minute, "/var/lib/app/checkpoints")?;
/// let made = coordinator
///     .create_checkpoint(async |job| {
///         println!("writing {}", job.path());
///         Ok::<_, Error>(())
///     })
///     .await?;
/// // Whoever comes next sees that it is done.
/// let next = coordinator.create_checkpoint(async |_| -> Result<(), Error> { unreachable!() });
/// assert_eq!(next.await?, Checkpointed::Recent(made.checkpoint().clone()));
/// # Ok(())
/// # })
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct CheckpointCoordinator {
    place: Place,
    interval: Duration,
    path: Arc<str>,
    retain: usize,
}

impl CheckpointCoordinator {
    /// The lock, if nothing else is said.
    pub const NAME: &str = "global:checkpoint";
    /// Its ttl, if nothing else is said.
    pub const TTL: Duration = Duration::from_secs(60);
    /// How many checkpoints are retained, if nothing else is said.
    pub const RETAIN: usize = 3;
    /// The most that are retained.
    pub const RETAIN_MAX: usize = 1000;

    /// Checkpoints below `path`, an `interval` apart; zero makes one whenever it is asked for.
    ///
    /// # Errors
    /// `Unsupported` on stores without values. Asks nobody.
    pub fn new(locks: &LockManager, interval: Duration, path: impl Into<Arc<str>>) -> Result<Self> {
        need(locks, locks.capabilities().value_max.is_some(), "checkpoint coordination")?;
        let mut place = Place::new(locks, Self::NAME)?;
        place.ttl = Self::TTL;
        Ok(Self { place, interval, path: path.into(), retain: Self::RETAIN })
    }

    /// Another lock than [`CheckpointCoordinator::NAME`]: one for each system on the store.
    ///
    /// # Errors
    /// `Invalid` for a bad name.
    pub fn name<N>(mut self, name: N) -> Result<Self>
    where
        N: TryInto<LockName>,
        N::Error: Into<Error>,
    {
        self.place.name = name.try_into().map_err(Into::into)?;
        Ok(self)
    }

    /// How long the lock outlives the last renewal of a worker, 100 ms to 30 days.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.place.ttl = ttl;
        self
    }

    /// Retains so many of the newest checkpoints, 1 to 1000; see [`CheckpointJob::obsolete`].
    #[must_use]
    pub fn retain(mut self, count: usize) -> Self {
        self.retain = count.clamp(1, Self::RETAIN_MAX);
        self
    }

    /// Makes a checkpoint with `write` if the newest is older than the interval; waits while
    /// another worker makes one, and sees then that it is done.
    ///
    /// It counts once `write` has ended well and its place in the list is written, which the store
    /// accepts from the present holder of the lock alone. A worker that dies half-way, or is
    /// paused for too long, has made none: the next one makes it in a place of its own.
    ///
    /// How old the newest one is, is judged by the store's times; on stores without a clock (`file:`)
    /// by the wall clocks of those who wrote them, which may make a checkpoint early or late.
    ///
    /// # Errors
    /// What `write` says; as an `E`, what acquiring and reading fail with, `Lost` if the lock was
    /// lost before the end, `Unreachable` or `Unknown` if the list could not be written.
    ///
    /// # Cancel safety
    /// If the future is dropped, so is `write`, and no checkpoint was made unless the list was
    /// just being written.
    pub async fn create_checkpoint<E: From<Error>>(
        &self,
        write: impl AsyncFnOnce(&CheckpointJob) -> Result<(), E>,
    ) -> Result<Checkpointed, E> {
        let guard = self.place.request(None).acquire().await?;
        let view = self.place.locks.inspect(&self.place.name).await?;
        let mut ledger = ledger(&view)?;
        let newest = ledger.finished.last();
        if let Some(recent) = newest.filter(|_| self.is_recent(&view, &guard)) {
            let recent = recent.clone();
            // What is not confirmed the janitor goes on with.
            let _ = guard.release().await;
            return Ok(Checkpointed::Recent(recent));
        }
        let job = self.job(guard, &ledger)?;
        let lost = async { Err(Error::from(job.lost().await).with_lock(job.name()).into()) };
        or(lost, write(&job)).await?;
        ledger.finished.drain(..job.obsolete.len());
        ledger.finished.push(job.checkpoint.clone());
        record::write(&self.place.locks, &job.guard, &ledger, KEEP).await?;
        let _ = job.guard.release().await;
        Ok(Checkpointed::Made(job.checkpoint))
    }

    /// The newest checkpoint; `None` if none was made yet. The one to start again from.
    ///
    /// # Errors
    /// As [`LockManager::inspect`]; `Corrupt` if the lock's value is something else.
    pub async fn latest(&self) -> Result<Option<Checkpoint>> {
        Ok(self.finished().await?.pop())
    }

    /// All checkpoints that count, oldest first: the retained ones, and those that the next job is
    /// told to remove.
    ///
    /// # Errors
    /// As [`CheckpointCoordinator::latest`].
    pub async fn finished(&self) -> Result<Vec<Checkpoint>> {
        let view = self.place.locks.inspect(&self.place.name).await?;
        Ok(ledger(&view)?.finished)
    }

    fn is_recent(&self, view: &View, guard: &LockGuard) -> bool {
        let me = view.holders.iter().find(|holder| holder.id == guard.id());
        match (me, &view.value) {
            // Both are the store's times, and that of the grant is as good as now.
            (Some(me), Some(value)) => me.since.since(value.written) < self.interval,
            _ => false,
        }
    }

    fn job(&self, guard: LockGuard, ledger: &Ledger) -> Result<CheckpointJob> {
        let (fence, by) = (guard.fencing_token(), guard.owner().label.clone());
        let sequence = ledger.finished.last().map_or(0, |last| last.sequence) + 1;
        if u64::MAX / 2 < sequence {
            return Err(Error::new(ErrorKind::Corrupt, "the checkpoints are numbered too high")
                .with_lock(guard.name()));
        }
        let path = format!("{}/{sequence:010}-{fence}", self.path.trim_end_matches('/'));
        let excess = ledger.finished.len().saturating_sub(self.retain);
        let obsolete = ledger.finished[..excess].to_vec();
        Ok(CheckpointJob { guard, checkpoint: Checkpoint { sequence, path, fence, by }, obsolete })
    }
}

fn ledger(view: &View) -> Result<Ledger> {
    Ok(record::read(view, "a list of checkpoints")?.unwrap_or_default())
}

/// A checkpoint that is being made, under the coordinators' lock.
///
/// It is a [`LockWatch`], too: fencing token, loss, deadlines.
#[derive(Debug)]
pub struct CheckpointJob {
    guard: LockGuard,
    checkpoint: Checkpoint,
    obsolete: Vec<Checkpoint>,
}

impl CheckpointJob {
    /// Its number, counted from 1.
    pub fn sequence(&self) -> u64 {
        self.checkpoint.sequence
    }

    /// Where to write it: a place that no other worker writes to, not even one that was taken
    /// for dead and writes on. What lies below the coordinator's path and is not among
    /// [`CheckpointCoordinator::finished`], nor being made, was never finished.
    pub fn path(&self) -> &str {
        &self.checkpoint.path
    }

    /// Checkpoints beyond those that are retained, oldest first: remove them in this job. They are
    /// forgotten with its success, and told to the next job if it fails; so one may be gone already.
    pub fn obsolete(&self) -> &[Checkpoint] {
        &self.obsolete
    }
}

impl Deref for CheckpointJob {
    type Target = LockWatch;
    fn deref(&self) -> &LockWatch {
        &self.guard
    }
}
