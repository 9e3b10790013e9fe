//! What the attributes expand to calls of this; not for use by hand.

use std::time::Duration;

use tenure_core::{Error, LockManager, LockName, LockRequest, LockWatch, Result};

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
