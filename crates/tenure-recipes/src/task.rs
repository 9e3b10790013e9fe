//! Tasks that many workers claim, each done once.
//!
//! After the stream processor's distributed task queue: the lock of a task is `task:{id}`, its ttl
//! 60 s. That a task is done is the value of its lock: only the worker that still holds it can say
//! so, and whoever comes later sees it instead of doing the task again.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::or;
use serde::{Deserialize, Serialize};
use tenure_core::{
    Error, ErrorKind, Fence, LockGuard, LockManager, LockName, LockWatch, NotReleased, Result, View,
};

use crate::record;
use crate::support::need;

/// Tasks of one store that workers claim; cheap to clone.
///
/// ```
/// # use std::sync::Arc;
/// # use tenure_core::LockManager;
/// # use tenure_recipes::{ClaimedTask, TaskQueue};
/// # fn main() -> tenure_core::Result<()> {
/// # let locks = LockManager::new(Arc::new(tenure_backend_memory::MemoryBackend::new()))?;
/// # futures_lite::future::block_on(async {
/// let tasks = TaskQueue::new(&locks)?;
/// match tasks.claim_task("invoice-42").await? {
///     ClaimedTask::Mine(task) => {
///         println!("attempt {}", task.attempt());
///         task.complete(&"sent").await?;
///     }
///     ClaimedTask::Done(done) => println!("done before: {}", done.result),
///     _ => println!("another worker is at it"),
/// }
/// # Ok(())
/// # })
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct TaskQueue {
    locks: LockManager,
    ttl: Duration,
    keep: Duration,
    max_attempts: u32,
}

/// What a claim found.
#[derive(Debug)]
#[non_exhaustive]
pub enum ClaimedTask {
    /// This worker has the task.
    Mine(Task),
    /// The task is done.
    Done(Completion),
    /// Another worker has it, or is about to.
    Busy,
    /// So many attempts have not done it that nobody is to try again.
    GivenUp {
        /// How many.
        attempts: u32,
    },
}

/// How [`TaskQueue::run_task`] ended.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum RanTask<T> {
    /// This worker did the task.
    Ran(T),
    /// The task had been done.
    Done(Completion),
    /// Another worker has it, or is about to.
    Busy,
    /// So many attempts have not done it that nobody is to try again.
    GivenUp {
        /// How many.
        attempts: u32,
    },
}

/// A task that is done.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Completion {
    /// Which attempt did it, counted from 1.
    pub attempt: u32,
    /// The owner that did it.
    pub by: Arc<str>,
    /// The fencing token that it did it with.
    pub fence: Fence,
    /// What it left behind.
    pub result: serde_json::Value,
}

/// What the lock's value is.
#[derive(Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
enum Record {
    /// This attempt was begun.
    Begun { attempt: u32 },
    /// The task is done.
    Done(Completion),
}

impl TaskQueue {
    /// What the names of the locks begin with; the task's id follows.
    pub const PREFIX: &str = "task:";
    /// Their ttl, if nothing else is said.
    pub const TTL: Duration = Duration::from_secs(60);
    /// How long it is kept that a task is done, if nothing else is said: a day.
    pub const KEEP: Duration = Duration::from_secs(24 * 60 * 60);
    /// How long attempts are counted at least: 30 days.
    const COUNT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

    /// Tasks under locks of this store.
    ///
    /// # Errors
    /// `Unsupported` on stores without values. Asks nobody.
    pub fn new(locks: &LockManager) -> Result<Self> {
        need(locks, locks.capabilities().value_max.is_some(), "task claims")?;
        let locks = locks.clone();
        Ok(Self { locks, ttl: Self::TTL, keep: Self::KEEP, max_attempts: u32::MAX })
    }

    /// How long a claim outlives the last renewal of its worker, 100 ms to 30 days; renewal is
    /// automatic, so that a task may take longer.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// How long it is kept that a task is done. Who claims it later does it again.
    #[must_use]
    pub fn keep(mut self, keep: Duration) -> Self {
        self.keep = keep;
        self
    }

    /// Gives a task up after so many attempts, at least 1; without it, never.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts.max(1);
        self
    }

    /// Claims a task if nobody has it and it is not done.
    ///
    /// The claim is renewed until the [`Task`] is completed, given up or dropped. A worker that
    /// dies loses it with the end of its lease; who claims it then has a higher attempt number.
    ///
    /// # Errors
    /// `Invalid` for an id that makes no name; what acquiring, reading and writing fail with;
    /// `Corrupt` if the lock's value is something else.
    ///
    /// # Cancel safety
    /// If the future is dropped, nothing is claimed; the attempt may have been counted.
    pub async fn claim_task(&self, id: impl fmt::Display) -> Result<ClaimedTask> {
        let name = LockName::new(format!("{}{id}", Self::PREFIX))?;
        // Most workers find a task done, and need no lock for that.
        if let Some(Record::Done(done)) = record(&self.locks.inspect(&name).await?)? {
            return Ok(ClaimedTask::Done(done));
        }
        let Some(guard) = self.locks.lock(&name).ttl(self.ttl).try_acquire().await? else {
            return Ok(ClaimedTask::Busy);
        };
        // Somebody may have done it in between; from here on only we can.
        let attempt = match record(&self.locks.inspect(&name).await?)? {
            Some(Record::Done(done)) => {
                let _ = guard.release().await;
                return Ok(ClaimedTask::Done(done));
            }
            Some(Record::Begun { attempt }) if self.max_attempts <= attempt => {
                let _ = guard.release().await;
                return Ok(ClaimedTask::GivenUp { attempts: attempt });
            }
            Some(Record::Begun { attempt }) => attempt.saturating_add(1),
            None => 1,
        };
        let count = Self::COUNT.max(self.keep);
        record::write(&self.locks, &guard, &Record::Begun { attempt }, count).await?;
        Ok(ClaimedTask::Mine(Task { guard, locks: self.locks.clone(), attempt, keep: self.keep }))
    }

    /// Claims a task, does it with `work` and completes it with what `work` answers.
    ///
    /// When the claim is lost, `work` is dropped. A task whose `work` fails is free for another
    /// attempt at once.
    ///
    /// # Errors
    /// What `work` says; as an `E`, what [`TaskQueue::claim_task`] and [`Task::complete`] fail
    /// with.
    ///
    /// # Cancel safety
    /// If the future is dropped, `work` is dropped and the task is free for another attempt, unless
    /// its completion was just being written.
    pub async fn run_task<T: Serialize, E: From<Error>>(
        &self,
        id: impl fmt::Display,
        work: impl AsyncFnOnce(&Task) -> Result<T, E>,
    ) -> Result<RanTask<T>, E> {
        let task = match self.claim_task(id).await? {
            ClaimedTask::Mine(task) => task,
            ClaimedTask::Done(done) => return Ok(RanTask::Done(done)),
            ClaimedTask::Busy => return Ok(RanTask::Busy),
            ClaimedTask::GivenUp { attempts } => return Ok(RanTask::GivenUp { attempts }),
        };
        let lost = async { Err(Error::from(task.lost().await).with_lock(task.name()).into()) };
        let output = or(lost, work(&task)).await?;
        task.complete(&output).await?;
        Ok(RanTask::Ran(output))
    }

    /// How a task was done; `None` if it was not, or that is not kept any more.
    ///
    /// # Errors
    /// As [`TaskQueue::claim_task`].
    pub async fn completion(&self, id: impl fmt::Display) -> Result<Option<Completion>> {
        let name = LockName::new(format!("{}{id}", Self::PREFIX))?;
        match record(&self.locks.inspect(&name).await?)? {
            Some(Record::Done(done)) => Ok(Some(done)),
            _ => Ok(None),
        }
    }
}

fn record(view: &View) -> Result<Option<Record>> {
    record::read(view, "the record of a task")
}

/// A task that this worker has; dropping it frees it for another attempt.
///
/// It is a [`LockWatch`], too: fencing token, loss, deadlines.
#[derive(Debug)]
#[must_use = "dropping it gives the task up"]
pub struct Task {
    guard: LockGuard,
    locks: LockManager,
    attempt: u32,
    keep: Duration,
}

impl Task {
    /// Which attempt this is, counted from 1. Above that an earlier one was given up, or its worker
    /// died: what it did half-way may be there.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Says that the task is done, and leaves a result for those who come later.
    ///
    /// The store accepts that from the present holder of the claim alone, so that of all attempts
    /// one is accepted.
    ///
    /// # Errors
    /// `Invalid` if the result is no JSON or too long for the store: the task is then free for
    /// another attempt; `Lost`: another worker may have it; `Unreachable`, `Unknown` if the store
    /// did not say until the claim was over.
    ///
    /// # Cancel safety
    /// If the future is dropped, the task is done or free for another attempt.
    pub async fn complete(self, result: &impl Serialize) -> Result<()> {
        let result = serde_json::to_value(result).map_err(|e| {
            Error::new(ErrorKind::Invalid, "the result cannot be written as JSON")
                .with_lock(self.name())
                .with_source(e)
        })?;
        let done = Record::Done(Completion {
            attempt: self.attempt,
            by: self.owner().label.clone(),
            fence: self.fencing_token(),
            result,
        });
        record::write(&self.locks, &self.guard, &done, self.keep).await?;
        // It is done; what of the release is not confirmed the janitor goes on with.
        let _ = self.guard.release().await;
        Ok(())
    }

    /// Frees the task for another attempt, of a higher number.
    ///
    /// # Errors
    /// As [`LockGuard::release`].
    ///
    /// # Cancel safety
    /// Cancel safe: if the future is dropped, the task is freed all the same.
    pub async fn give_up(self) -> Result<(), NotReleased> {
        self.guard.release().await
    }
}

impl Deref for Task {
    type Target = LockWatch;
    fn deref(&self) -> &LockWatch {
        &self.guard
    }
}
