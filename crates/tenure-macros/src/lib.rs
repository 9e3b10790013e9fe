//! The attributes of `tenure`; use them as `tenure::locked` and `tenure::idempotent`.
//!
//! An attribute is read (`options`, `template`, `duration`), checked against the function it
//! stands on (`function`), and answered with the same function whose body is handed to the
//! runtime half in `tenure::__macros`. What an attribute does is decided there, in code that can be
//! read and tested; the expansion only carries it the key, the options and the body.

mod duration;
mod function;
#[cfg(test)]
mod golden;
mod idempotent;
mod locked;
mod options;
mod template;

use proc_macro::TokenStream;

/// Runs an async function under a lock.
///
/// The lock is acquired before the body begins and released after it ended; when it is lost, the
/// body is dropped where it stands and the function answers with the loss. The function returns a
/// `Result` whose error can be made from `tenure::Error`.
///
/// ```
/// use tenure::{LockManager, locked};
///
/// #[locked(key = "vector:upsert:{table}:{namespace}")]
/// async fn upsert(locks: &LockManager, table: &str, namespace: &str) -> tenure::Result<usize> {
///     Ok(table.len() + namespace.len())
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> tenure::Result<()> {
/// let locks = tenure::connect("memory:").await?;
/// assert_eq!(12, upsert(&locks, "questions", "en0").await?);
/// # Ok(())
/// # }
/// ```
///
/// # Options
/// | option | meaning | if not said |
/// |---|---|---|
/// | `key` | the lock's name: a template whose `{…}` are expressions over arguments and `self`, or any expression that is a name | must be said |
/// | `ttl` | how long the lease lives without renewal: `"60s"`, `"500ms"`, `"5m"`, `"1h"`, `"1d"`, or a `Duration` | 60 s |
/// | `wait` | how long to wait for the lock: as `ttl`, or `"forever"`; `"0s"` tries once | 30 s |
/// | `manager` | an expression that is, or points to, a `LockManager`: an argument, `self.locks` | the argument of type `LockManager`, else the one of `tenure::set_global` |
/// | `watch` | a name under which the body finds the `LockWatch`, with the fencing token | none |
/// | `shared` | one of many readers, instead of the only one | exclusive |
/// | `priority` | the head start in the queue, in points of 30 s | 0 |
///
/// A function that cannot say that it failed is refused, and so is one whose error cannot be made
/// from ours:
///
/// ```compile_fail,E0277
/// #[tenure::locked(key = "x")]
/// async fn count(locks: &tenure::LockManager) -> u32 {
///     3
/// }
/// ```
///
/// ```compile_fail,E0277
/// struct Mine;
///
/// #[tenure::locked(key = "x")]
/// async fn count(locks: &tenure::LockManager) -> Result<u32, Mine> {
///     Ok(3)
/// }
/// ```
///
/// # Errors
/// The function answers with what an acquire fails with, before the body has begun; with `Lost`
/// when the lock was lost under it; with `Unknown` when its release was not confirmed.
///
/// # Cancel safety
/// If the function's future is dropped, the body is dropped and the lock released.
#[proc_macro_attribute]
pub fn locked(options: TokenStream, function: TokenStream) -> TokenStream {
    locked::expand(options.into(), function.into()).into()
}

/// Runs an async function once per key, and answers every call of it with the one result.
///
/// Whoever calls while it runs waits for its result; whoever calls later gets the kept one; a process
/// that dies over it is replaced by one that waits. What is promised, and what a caller is told
/// instead of a result, stands with `tenure::recipes::once`. The function returns
/// `Result<T, OnceError<E>>`; its body fails with `E`, and `T` is kept as JSON.
///
/// ```
/// use tenure::recipes::once::OnceError;
/// use tenure::{LockManager, idempotent};
///
/// #[idempotent(scope = "vector_rebuild", key = "{namespace}", ttl = "1h")]
/// async fn rebuild(locks: &LockManager, namespace: &str) -> Result<u64, OnceError<std::io::Error>> {
///     println!("rebuilding {namespace}"); // once, however many processes call it
///     Ok(175)
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let locks = tenure::connect("memory:").await?;
/// assert_eq!(175, rebuild(&locks, "math").await?);
/// assert_eq!(175, rebuild(&locks, "math").await?); // from before
/// # Ok(())
/// # }
/// ```
///
/// # Options
/// | option | meaning | if not said |
/// |---|---|---|
/// | `key` | what the call is known by: a template whose `{…}` are expressions over arguments and `self`, kept apart from the text between them, so that no two calls share a key by chance; or any expression that is a `Key` | must be said |
/// | `scope` | what kind of call it is; keys of two scopes never meet | must be said, or `config` |
/// | `config` | an `IdempotencyConfig`; the options below change it | |
/// | `ttl` | how long a result is kept: `"1h"`, `"60s"`, `"500ms"`, or a `Duration` | 1 h |
/// | `in_progress_ttl` | how long whoever runs it may be silent before it is replaced | 5 min |
/// | `wait_timeout` | how long to wait for somebody else's result | 5 s |
/// | `executions` | `"at_least_once"` or `"at_most_once"` | at least once |
/// | `failures` | `"retry"` or `"keep"` | retry |
/// | `max_attempts` | how often it is tried | 5 |
/// | `fail_ttl` | how long a failure is kept | 1 min |
/// | `fingerprint` | what was asked for, as an expression that is kept as JSON: the same key with another one is refused | nothing |
/// | `force` | an expression that says whether to run it whatever is kept | false |
/// | `manager` | an expression that is, or points to, a `LockManager` | the argument of that type, else the one of `tenure::set_global` |
/// | `attempt` | a name under which the body finds the `Attempt`, with its fencing token | none |
///
/// ```compile_fail,E0277
/// #[tenure::idempotent(scope = "count", key = "x")]
/// async fn count(locks: &tenure::LockManager) -> tenure::Result<u32> {
///     Ok(3)
/// }
/// ```
///
/// # Errors
/// Every kind of `OnceError`.
///
/// # Cancel safety
/// If the function's future is dropped while its body runs, the body is dropped and whoever waits
/// takes over; or is told that nobody knows, where it may run only once.
#[proc_macro_attribute]
pub fn idempotent(options: TokenStream, function: TokenStream) -> TokenStream {
    idempotent::expand(options.into(), function.into()).into()
}
