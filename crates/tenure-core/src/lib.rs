//! One lock for every store: vocabulary, rules, store traits and the manager.
//!
//! Two doors. Users of locks begin at [`LockManager`] and [`LockGuard`]; authors of stores begin
//! at [`backend`], [`register`] and [`voter`]. The modules stand in reading order.

mod name;
mod values;
mod token;
mod actor;
mod owner;
mod error;
mod capability;
mod finding;
mod view;

pub mod machine;

pub mod backend;
pub mod voter;
mod listeners;
pub mod register;
pub mod probe;

pub mod clock;
mod stripes;
mod phase;
mod timers;
mod alarm;
mod loss;
mod lease;
mod janitor;
mod claims;
mod metrics;
mod keeper;

mod conflict;
mod held;
mod poll;
mod deadlock;
mod refusal;
mod attempt;
mod acquire;
mod upgrade;
mod guard;
mod request;
mod manager;
mod watch;
pub mod blocking;

/// The atomics behind [`phase`]; a model checker puts its own in their place.
mod sync {
    pub(crate) use std::sync::atomic::{AtomicU8, Ordering};
}

/// The longest value a lock keeps, in bytes.
pub const VALUE_MAX: usize = 1024 * 1024;

pub use actor::Actor;
pub use capability::{Capabilities, EndsWith, JudgedBy, Recall, Wakes};
pub use conflict::{Conflict, RetryConfig};
pub use deadlock::Wait;
pub use error::{Error, ErrorKind, Result};
pub use finding::{Finding, Standing};
pub use guard::{LockGuard, LockWatch, NotReleased};
pub use held::LockToken;
pub use listeners::Listeners;
pub use loss::LossReason;
pub use manager::{Health, LockManager, LockManagerBuilder};
pub use metrics::MetricsSnapshot;
pub use name::LockName;
pub use owner::{Details, Owner};
pub use request::{Answer, LockRequest};
pub use token::{ClaimId, HolderId, MemberId, Token};
pub use values::{Fence, Micros, Priority, Seats, Ttl};
pub use view::{HolderView, Utc, ValueView, View, WaiterView};
pub use watch::Watch;
