//! The rules that every store keeps, each a plain async function.
//!
//! A store's test implements [`Store`] and hands it to [`run`]; what it cannot do is read from
//! its [`Capabilities`](tenure_core::Capabilities), never decided by the test. Rules stand at two
//! levels: through a [`LockManager`](tenure_core::LockManager), as users see a store, and directly
//! on [`DynBackend`], where the same claim can be sent twice, late, or by the wrong process.
//!
//! A rule that does not hold panics, like a test. The table of all rules is [`RULES`].

mod kit;
mod report;
mod rules;
mod run;

pub mod bad_input;
pub mod cancel;
pub mod deadlock;
pub mod detached;
pub mod evict;
pub mod exclusion;
pub mod fence;
pub mod inspect;
pub mod lease;
pub mod loss;
pub mod queue;
pub mod release;
pub mod seats;
pub mod shutdown;
pub mod upgrade;
pub mod value;
pub mod withdraw;

use std::sync::Arc;
use std::time::Duration;

use tenure_core::backend::DynBackend;
use tenure_core::{LockName, Result};

pub use futures_util::future::BoxFuture;
pub use report::{Outcome, Report};
pub use rules::{Need, RULES, Rule, rule};
pub use run::{run, run_rules};

/// A store on trial, as its own test hands it in.
pub trait Store: Send + Sync {
    /// What it is called in reports.
    fn name(&self) -> &str;

    /// Opens the store as another process would: nothing but what lies in the store is shared
    /// with what was opened before.
    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn DynBackend>>>;

    /// The shortest ttl that a busy machine renews in time here. Rules that wait for the end of a
    /// lease take as long as a few of these.
    fn short_ttl(&self) -> Duration;

    /// How long to wait for something that must come, beyond the ttl that it may take.
    fn patience(&self) -> Duration {
        Duration::from_secs(10)
    }

    /// Whether a holder can fall silent while its process lives, and loses its lease by that.
    fn silent_holders(&self) -> bool {
        true
    }

    /// Whether a request can land after its caller has gone on, as on any network: only then does
    /// a store have to remember those who have released.
    fn late_requests(&self) -> bool {
        true
    }

    /// Whether this store can have a lock of this name; if not, it has to refuse it as `Invalid`.
    fn takes(&self, _name: &LockName) -> bool {
        true
    }

    /// Whether the test makes calls fail: what cannot be known may then be answered `Unknown`.
    fn faulty(&self) -> bool {
        false
    }

    /// How many rules run at a time.
    fn parallel(&self) -> usize {
        8
    }
}
