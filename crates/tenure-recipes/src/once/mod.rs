//! Once: a call runs once per key, and everybody who makes it gets the one result.
//!
//! The first caller of a key leads: it holds the key's lock, renewed, while its work runs, and writes
//! the result as the lock's value in the same step in which it releases. Whoever makes the same call
//! meanwhile follows: it is answered by that step, all followers at once, without asking again and
//! again. Whoever comes later gets the kept result. A leader that vanishes is replaced by one of its
//! followers, or, where work may run only once, by nobody; one that was given up cannot write any more.
//!
//! What is promised: at most one *accepted* result for a key until it is forgotten; all callers of it
//! see the same result; the work runs at most once under
//! [`Executions::AtMostOnce`], and under [`Executions::AtLeastOnce`] normally once, and again after a
//! leader was lost. That the *effects* of the work happen exactly once is not in any lock's power: hand
//! [`Attempt::fencing_token`] to what the work changes.
//!
//! ```
//! use std::sync::Arc;
//! use tenure_core::LockManager;
//! use tenure_recipes::once::{Fingerprint, IdempotencyConfig, Once, Source};
//!
//! # futures_lite::future::block_on(async {
//! let locks = LockManager::new(Arc::new(tenure_backend_memory::MemoryBackend::new()))?;
//! let once = Once::new(locks, IdempotencyConfig::new("vector_rebuild"))?;
//! for expected in [Source::Executed, Source::Cached] {
//!     let outcome = once
//!         .run("math", Fingerprint::NONE, |attempt| async move {
//!             println!("rebuilding under fencing token {}", attempt.fencing_token());
//!             Ok::<_, std::io::Error>(175_u32)
//!         })
//!         .await
//!         .expect("nothing fails here");
//!     assert_eq!((outcome.value, outcome.source), (175, expected));
//! }
//! # Ok::<(), tenure_core::Error>(())
//! # }).unwrap();
//! ```
//!
//! The state table is idempotency in the sense of Stripe's `Idempotency-Key` and
//! draft-ietf-httpapi-idempotency-key-header; waiting for somebody else's result is Go's
//! `singleflight`, between processes and fenced.

mod config;
mod course;
mod drive;
mod fingerprint;
mod keep;
mod key;
mod metrics;
#[cfg(test)]
mod model;
mod operate;
mod outcome;
mod record;

use std::fmt::Display;
use std::future::Future;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tenure_core::{Actor, LockManager, Result};

pub use self::config::{Executions, Failures, IdempotencyConfig};
pub use self::fingerprint::Fingerprint;
pub use self::key::Key;
pub use self::metrics::OnceSnapshot;
pub use self::outcome::{Attempt, OnceError, Outcome, Settled, Source, State, Status};

use self::drive::Call;
use self::metrics::Metrics;

/// The longest result, in bytes of JSON: a lock's longest value, less what is written beside it.
pub const RESULT_MAX: usize = tenure_core::VALUE_MAX - record::HEADER_MAX;

/// Calls of one scope, each run once per key. Cheap to clone; clones count together.
#[derive(Clone, Debug)]
pub struct Once {
    locks: LockManager,
    config: IdempotencyConfig,
    metrics: Arc<Metrics>,
    actor: Option<Actor>,
}

impl Once {
    /// Calls of the scope that `config` names, kept where `locks` are kept.
    ///
    /// # Errors
    /// `Unsupported` on a store that keeps no values (the error names one that does); `Invalid` for
    /// a config out of its ranges. Nothing is sent.
    pub fn new(locks: LockManager, config: IdempotencyConfig) -> Result<Self> {
        let can = locks.capabilities();
        if can.value_max.is_none_or(|max| max <= record::HEADER_MAX) || !can.exclusive {
            return Err(outcome::no_values(can.kind).with_store(&locks.store()));
        }
        config.check(can)?;
        let metrics = Arc::new(Metrics::new(can.kind));
        Ok(Self { locks, config, metrics, actor: None })
    }

    /// Who makes these calls, for finding deadlocks: an [`Actor`] that other locks are held by, too. It
    /// makes one call after the other; whoever makes several at once has a clone with a child for each.
    ///
    /// A call that would wait for ever because of that ends in [`OnceError::Store`] of the kind
    /// [`Deadlock`](tenure_core::ErrorKind::Deadlock).
    #[must_use]
    pub fn actor(mut self, actor: &Actor) -> Self {
        self.actor = Some(actor.clone());
        self
    }

    /// The result of the call `key`: kept, or of somebody who is at it, or else of `work`.
    ///
    /// `work` runs at most once, in this task, under a lease that is renewed for as long as it runs;
    /// it is dropped when the lease is lost. `fingerprint` says what is asked for; the same key with
    /// another one is refused. A result is kept as JSON, and has to read back as what it was.
    ///
    /// # Errors
    /// Every kind of [`OnceError`]. `StillRunning`, `Conflict`, `KeptFailure` and `Indeterminate` say
    /// that `work` was not run by this call; `Failed`, `TooLong`, `Superseded` that it was.
    ///
    /// # Cancel safety
    /// If the future is dropped before `work` runs, nothing has happened. While it runs, that is the
    /// leader vanishing: it is dropped, and a follower takes over at once (or, where work may run only
    /// once, everybody is told `Indeterminate`). The same goes for a panic of `work`.
    pub async fn run<T, E, F, W>(
        &self,
        key: impl Into<Key>,
        fingerprint: Fingerprint,
        work: F,
    ) -> Result<Outcome<T>, OnceError<E>>
    where
        T: Serialize + DeserializeOwned,
        E: Display,
        F: FnOnce(Attempt) -> W,
        W: Future<Output = Result<T, E>>,
    {
        self.call(key.into(), fingerprint, false, work).await
    }

    /// As [`Once::run`], but runs `work` whatever is known: a kept result or failure is replaced, with
    /// its fingerprint, and what an operator had to look at is run again. Waits for somebody who is at
    /// it, up to the wait timeout; callers that come meanwhile follow this one.
    ///
    /// # Errors
    /// As [`Once::run`], without `Conflict` and `KeptFailure`.
    ///
    /// # Cancel safety
    /// As [`Once::run`]. The old result is gone once `work` runs.
    pub async fn force<T, E, F, W>(
        &self,
        key: impl Into<Key>,
        fingerprint: Fingerprint,
        work: F,
    ) -> Result<Outcome<T>, OnceError<E>>
    where
        T: Serialize + DeserializeOwned,
        E: Display,
        F: FnOnce(Attempt) -> W,
        W: Future<Output = Result<T, E>>,
    {
        self.call(key.into(), fingerprint, true, work).await
    }

    async fn call<T, E, F, W>(
        &self,
        key: Key,
        fingerprint: Fingerprint,
        forced: bool,
        work: F,
    ) -> Result<Outcome<T>, OnceError<E>>
    where
        T: Serialize + DeserializeOwned,
        E: Display,
        F: FnOnce(Attempt) -> W,
        W: Future<Output = Result<T, E>>,
    {
        let ended = match key.lock_name(&self.config.scope) {
            Ok(name) => self.drive(Call { name, fingerprint, forced }, work).await,
            Err(error) => Err(error.into()),
        };
        self.metrics.ended(&ended);
        ended
    }

    /// The numbers since this was made.
    pub fn metrics(&self) -> OnceSnapshot {
        self.metrics.snapshot()
    }

    /// What callers agree on.
    pub fn config(&self) -> &IdempotencyConfig {
        &self.config
    }

    /// The locks underneath.
    pub fn locks(&self) -> &LockManager {
        &self.locks
    }

    /// The longest result that this store keeps.
    fn result_max(&self) -> usize {
        let max = self.locks.capabilities().value_max.unwrap_or_default();
        max.min(tenure_core::VALUE_MAX).saturating_sub(record::HEADER_MAX)
    }
}
