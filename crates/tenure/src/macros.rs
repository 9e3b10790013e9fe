//! What the attributes expand to calls of this; not for use by hand.

use std::fmt::Display;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tenure_core::{Error, LockManager, LockName, LockRequest, LockWatch, Result};
use tenure_recipes::once::{Once, OnceError, Outcome};

pub use tenure_recipes::once::{
    Attempt, Executions, Failures, Fingerprint, IdempotencyConfig, Key,
};

/// What a function under an attribute returns.
#[diagnostic::on_unimplemented(
    message = "a function under a lock returns a `Result`, not `{Self}`",
    note = "the lock may not be had, or be lost: return a `Result` whose error can be made from `tenure::Error`"
)]
pub trait Fallible {
    /// What the body's `?` fails with.
    type Error;

    /// The function's answer when the body did not end.
    fn failed(error: Error) -> Self
    where
        Self::Error: From<Error>;
}

impl<T, E> Fallible for std::result::Result<T, E> {
    type Error = E;

    fn failed(error: Error) -> Self
    where
        E: From<Error>,
    {
        Err(error.into())
    }
}

/// A manager that was named or found; whatever points to one is taken for it.
pub fn named(locks: &LockManager) -> Result<&LockManager> {
    Ok(locks)
}

/// What an attribute asks for.
pub fn request<N>(
    locks: Result<&LockManager>,
    name: N,
    ttl: Duration,
    wait: Option<Duration>,
    more: impl FnOnce(LockRequest) -> LockRequest,
) -> Result<LockRequest>
where
    N: TryInto<LockName>,
    N::Error: Into<Error>,
{
    let request = more(locks?.lock(name).ttl(ttl));
    Ok(match wait {
        Some(wait) => request.wait_timeout(wait),
        None => request,
    })
}

/// Runs a function's body under the lock.
pub async fn locked<T, W>(request: Result<LockRequest>, body: impl FnOnce(LockWatch) -> W) -> T
where
    T: Fallible<Error: From<Error>>,
    W: Future<Output = T>,
{
    let held = match request {
        Ok(request) => request.with_lock(body).await,
        Err(error) => Err(error),
    };
    held.unwrap_or_else(T::failed)
}

/// What a function that runs once per key returns.
#[diagnostic::on_unimplemented(
    message = "an idempotent function returns `Result<T, OnceError<E>>`, not `{Self}`",
    note = "its body fails with `E`; `OnceError` is `tenure::recipes::once::OnceError`"
)]
pub trait Kept {
    /// What is kept.
    type Value;
    /// What the body fails with.
    type Failure;
    /// What the body returns.
    type Body;

    /// The function's answer.
    fn ended(call: std::result::Result<Outcome<Self::Value>, OnceError<Self::Failure>>) -> Self;
}

impl<T, E> Kept for std::result::Result<T, OnceError<E>> {
    type Value = T;
    type Failure = E;
    type Body = std::result::Result<T, E>;

    fn ended(call: std::result::Result<Outcome<T>, OnceError<E>>) -> Self {
        call.map(Outcome::into_value)
    }
}

/// A call that runs once per key.
#[derive(Debug)]
pub struct Call {
    once: Once,
    key: Key,
    fingerprint: Fingerprint,
    force: bool,
}

/// What an attribute asks for.
pub fn call(
    locks: Result<&LockManager>,
    config: IdempotencyConfig,
    key: impl Into<Key>,
    fingerprint: Result<Fingerprint>,
    force: bool,
) -> Result<Call> {
    let once = Once::new(locks?.clone(), config)?;
    Ok(Call { once, key: key.into(), fingerprint: fingerprint?, force })
}

/// Runs a function's body, or answers with what it answered before.
pub async fn idempotent<R, W>(call: Result<Call>, body: impl FnOnce(Attempt) -> W) -> R
where
    R: Kept<Value: Serialize + DeserializeOwned, Failure: Display>,
    W: Future<Output = std::result::Result<R::Value, R::Failure>>,
{
    R::ended(match call {
        Ok(Call { once, key, fingerprint, force: false }) => once.run(key, fingerprint, body).await,
        Ok(Call { once, key, fingerprint, force: true }) => {
            once.force(key, fingerprint, body).await
        }
        Err(error) => Err(error.into()),
    })
}
