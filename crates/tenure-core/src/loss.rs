//! How a lock is lost.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::backend::{Departure, Reason};
use crate::error::{Error, ErrorKind};

/// Why a guard does not hold its lock any more. Lost is final.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum LossReason {
    /// The lease ended before it was renewed: renewal was off, the process was paused, or the
    /// machine slept.
    Expired,
    /// Somebody force-released it.
    Evicted {
        /// Who.
        by: Arc<str>,
        /// Why, in words.
        reason: Arc<str>,
    },
    /// Somebody took it by a conflict strategy.
    Stolen {
        /// Who.
        by: Arc<str>,
        /// Why, in words.
        reason: Arc<str>,
    },
    /// The session that held it ended.
    SessionEnded,
    /// The store could not be reached until the lease was over.
    StoreUnreachable,
    /// The manager was shut down.
    ShutDown,
    /// This is a forked child: the lock stays with the parent.
    Forked,
}

impl LossReason {
    /// The reason as one word, as metrics and JSON name it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            LossReason::Expired => "expired",
            LossReason::Evicted { .. } => "evicted",
            LossReason::Stolen { .. } => "stolen",
            LossReason::SessionEnded => "session_ended",
            LossReason::StoreUnreachable => "store_unreachable",
            LossReason::ShutDown => "shut_down",
            LossReason::Forked => "forked",
        }
    }
}

impl From<Departure> for LossReason {
    fn from(departure: Departure) -> Self {
        match departure {
            Departure::Evicted(Reason { by, why }) => LossReason::Evicted { by, reason: why },
            Departure::Stolen(Reason { by, why }) => LossReason::Stolen { by, reason: why },
            Departure::SessionEnded => LossReason::SessionEnded,
            // A token that the store does not know has been over for so long that it was
            // forgotten, or the store lost its memory; released and withdrawn by another holder
            // of the same token is over, too.
            Departure::Released
            | Departure::Withdrawn
            | Departure::Expired
            | Departure::Answered
            | Departure::Forgotten => LossReason::Expired,
        }
    }
}

impl fmt::Display for LossReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LossReason::Expired => f.write_str("its lease ended before it was renewed"),
            LossReason::Evicted { by, reason } => write!(f, "{by} force-released it: {reason}"),
            LossReason::Stolen { by, reason } => write!(f, "{by} took it: {reason}"),
            LossReason::SessionEnded => f.write_str("the session that held it ended"),
            LossReason::StoreUnreachable => {
                f.write_str("the store could not be reached until its lease was over")
            }
            LossReason::ShutDown => f.write_str("its manager was shut down"),
            LossReason::Forked => f.write_str("this is a forked child, the parent keeps the lock"),
        }
    }
}

impl std::error::Error for LossReason {}

impl From<LossReason> for Error {
    fn from(reason: LossReason) -> Self {
        Error::new(ErrorKind::Lost, format!("the lock is lost: {reason}"))
            .with_help("stop the protected work; another holder may be at it already")
    }
}
