//! How long what is kept, and what cannot be.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::config::{Executions, IdempotencyConfig};
use super::record::{Note, Stage};

/// How long a record is kept.
pub(super) fn keep(config: &IdempotencyConfig, note: Note) -> Duration {
    let once = note.executions == Executions::AtMostOnce;
    match note.stage {
        // What may run only once must not be forgotten before somebody has looked.
        Stage::Unknown => IdempotencyConfig::KEEP_MAX,
        Stage::InProgress if once => IdempotencyConfig::KEEP_MAX,
        // It is only there to count attempts.
        Stage::InProgress => config.ttl.max(config.in_progress_ttl.saturating_mul(4)),
        Stage::Done => config.ttl,
        Stage::Failed | Stage::FailedRetry if once => config.fail_ttl.max(config.ttl),
        Stage::Failed | Stage::FailedRetry => config.fail_ttl,
    }
}

/// Why a result cannot be kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unkeepable {
    #[error("the result is {len} bytes of JSON long, at most {max} are kept")]
    TooLong { len: usize, max: usize },
    #[error("the result cannot be read back from JSON: {0}")]
    Unreadable(serde_json::Error),
}

/// A result as JSON that reads back as what it was: whoever follows has to.
pub(super) fn kept_bytes<T>(value: &T, max: usize) -> Result<Vec<u8>, Unkeepable>
where
    T: Serialize + DeserializeOwned,
{
    let bytes = serde_json::to_vec(value).map_err(Unkeepable::Unreadable)?;
    if max < bytes.len() {
        return Err(Unkeepable::TooLong { len: bytes.len(), max });
    }
    serde_json::from_slice::<T>(&bytes).map_err(Unkeepable::Unreadable)?;
    Ok(bytes)
}
