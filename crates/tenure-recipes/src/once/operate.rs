//! What operators do: look, forget, settle.

use std::convert::Infallible;
use std::time::Duration;

use serde::Serialize;
use tenure_core::{LockGuard, LockName, Result};

use super::Once;
use super::config::Executions;
use super::drive::running_attempt;
use super::fingerprint::Fingerprint;
use super::keep::keep;
use super::key::Key;
use super::outcome::{OnceError, Settled, State, Status};
use super::record::{Note, Record, Stage};

impl Once {
    /// What is known about a key. Changes nothing.
    ///
    /// # Errors
    /// `Corrupt` if the key's lock is used for something else; as
    /// [`LockManager::inspect`](tenure_core::LockManager::inspect).
    pub async fn status(&self, key: impl Into<Key>) -> Result<Status> {
        let name = key.into().lock_name(&self.config.scope)?;
        let view = self.locks.inspect(name).await?;
        let running = running_attempt(&view);
        let holder = view.holders.into_iter().next();
        let followers = view.waiters.len();
        let mut status = Status {
            state: if holder.is_some() { State::InProgress } else { State::None },
            attempt: running,
            fingerprint: None,
            followers,
            message: None,
            result: None,
            written: None,
            keep_until: None,
            holder,
        };
        let Some(kept) = view.value else { return Ok(status) };
        let (record, result) = Record::decode(&kept.bytes)?;
        let note = record.note();
        status.fingerprint = Some(record.fp.clone());
        status.written = Some(kept.written);
        if status.holder.is_some() {
            // What is kept is about to be replaced, or is that of the one who runs.
            return Ok(status);
        }
        status.keep_until = Some(kept.keep_until);
        status.attempt = Some(note.attempt);
        status.message = record.message;
        status.state = match (note.stage, note.executions) {
            (Stage::InProgress, Executions::AtMostOnce) | (Stage::Unknown, _) => State::Unknown,
            (Stage::InProgress, Executions::AtLeastOnce) => State::Timeout,
            (Stage::Done, _) => State::Done,
            (Stage::Failed | Stage::FailedRetry, _) => State::Failed,
        };
        if note.stage == Stage::Done {
            status.result = Some(String::from_utf8_lossy(result).into_owned());
        }
        Ok(status)
    }

    /// Forgets what is kept of a key, so that the next call runs; `false` if nothing was kept. Does
    /// not touch a call that somebody is at.
    ///
    /// # Errors
    /// `StillRunning` if somebody is at it; `Store`.
    ///
    /// # Cancel safety
    /// If the future is dropped, the key may or may not be forgotten.
    pub async fn forget(&self, key: impl Into<Key>) -> Result<bool, OnceError<Infallible>> {
        let name = key.into().lock_name(&self.config.scope)?;
        let guard = self.take(&name).await?;
        let kept = self.locks.inspect(name).await?.value.is_some();
        let left = if kept {
            guard.release_with(&b""[..], Duration::ZERO).await
        } else {
            guard.release().await
        };
        left.map_err(tenure_core::Error::from)?;
        Ok(kept)
    }

    /// Writes down what an operator found out about a call: from now on everybody gets that. It
    /// replaces whatever is kept, with the fingerprint that is given, and counts as the attempt that
    /// it settles.
    ///
    /// # Errors
    /// `StillRunning` if somebody is at it; `TooLong`; `Store`.
    ///
    /// # Cancel safety
    /// If the future is dropped, the key may or may not be settled.
    pub async fn settle<T: Serialize + ?Sized>(
        &self,
        key: impl Into<Key>,
        fingerprint: Fingerprint,
        found: Settled<'_, T>,
    ) -> Result<(), OnceError<Infallible>> {
        let name = key.into().lock_name(&self.config.scope)?;
        let (stage, message, result) = match found {
            Settled::Failed(why) => (Stage::Failed, Some(why), Vec::new()),
            Settled::Done(value) => {
                let bytes = serde_json::to_vec(value).map_err(OnceError::Mistyped)?;
                (Stage::Done, None, bytes)
            }
        };
        let max = self.result_max();
        if max < result.len() {
            return Err(OnceError::TooLong { len: result.len(), max });
        }
        let guard = self.take(&name).await?;
        let kept = self.locks.inspect(name).await?.value;
        let before = kept.and_then(|kept| Some(Record::decode(&kept.bytes).ok()?.0.note()));
        let attempt = before.map_or(1, |note| note.attempt);
        let note = Note { stage, attempt, executions: self.config.executions };
        let record = Record::new(note, &fingerprint.to_hex(), message).encode(&result);
        let left = guard.release_with(record, keep(&self.config, note)).await;
        Ok(left.map_err(tenure_core::Error::from)?)
    }

    /// The lock of a call that nobody is at.
    async fn take(&self, name: &LockName) -> Result<LockGuard, OnceError<Infallible>> {
        let lock = self.locks.lock(name.clone()).ttl(self.config.in_progress_ttl);
        match lock.try_acquire().await? {
            Some(guard) => Ok(guard),
            None => Err(self.still_running(name).await),
        }
    }
}
