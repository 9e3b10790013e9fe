//! Small JSON records as values of locks: written by the holder alone, read by anybody.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tenure_core::{Error, ErrorKind, LockGuard, LockManager, Result, RetryConfig, View};

/// The record that a lock keeps, if it keeps one.
pub(crate) fn read<T: DeserializeOwned>(view: &View, what: &'static str) -> Result<Option<T>> {
    let Some(value) = &view.value else {
        return Ok(None);
    };
    serde_json::from_slice(&value.bytes).map(Some).map_err(|e| {
        Error::new(ErrorKind::Corrupt, format!("the value of the lock is not {what}"))
            .with_help("another program uses the name, or a newer version of this one wrote it")
            .with_lock(&view.name)
            .with_source(e)
    })
}

/// Writes the record, and asks again while nobody knows whether it is written: for as long as the
/// lock is held, for writing the same twice changes nothing.
pub(crate) async fn write(
    locks: &LockManager,
    guard: &LockGuard,
    record: &impl Serialize,
    keep: Duration,
) -> Result<()> {
    let bytes = serde_json::to_vec(record).map_err(|e| {
        Error::new(ErrorKind::Invalid, "the record cannot be written as JSON")
            .with_lock(guard.name())
            .with_source(e)
    })?;
    let pauses = RetryConfig::default();
    let mut attempt = 1;
    loop {
        match guard.set_value(bytes.clone(), keep).await {
            Err(error) if error.kind().is_transient() && guard.is_valid() => {
                let again = locks.clock().now().plus(pauses.delay(attempt));
                // Nobody may write after the deadline.
                locks.sleep_until(again.min(guard.deadlines().0)).await;
                attempt += 1;
            }
            answer => return answer,
        }
    }
}
