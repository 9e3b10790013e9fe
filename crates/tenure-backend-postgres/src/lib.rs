//! Locks on a PostgreSQL server, in two rooms that promise different things.
//!
//! `postgres://…` keeps leases in a table: they survive reconnects, work behind any pooler, and
//! have every feature. `postgres+advisory://…` takes session advisory locks, which programs with
//! `psql` take as well: freed at once when their session dies, and no table is needed.
//!
//! The tree: `address` and `config` for where it is, `tls` for who it has to be, `wire` and `session`
//! for one connection and `runtime` for who drives it, `error` for what errors mean, `pooler` for what may be
//! in between; then the rooms, `lease` and `advisory`; `install` and `probe` are for
//! those who run it: what is to be on the server, and how a deployment stands.

mod address;
mod config;
mod tls;

mod wire;
mod session;
mod runtime;
mod error;
mod pooler;

mod lease;
mod advisory;

mod install;
mod probe;

use std::sync::Arc;

pub use advisory::{AdvisoryBackend, lock_in_transaction, transaction_lock_sql};
pub use config::{PostgresConfig, Room};
pub use install::{Installed, install, install_sql_for};
pub use lease::{LeaseBackend, install_sql};
pub use probe::examine;
use tenure_core::Result;
use tenure_core::backend::DynBackend;

/// Opens the room that an address names; see [`PostgresConfig::from_url`]. Connects when it is first
/// used.
///
/// # Errors
/// `Invalid` if the address is not understood.
pub fn open(url: &str) -> Result<Arc<dyn DynBackend>> {
    let config = PostgresConfig::from_url(url)?;
    match config.room() {
        Room::Lease => Ok(Arc::new(LeaseBackend::new(config))),
        Room::Advisory => Ok(Arc::new(AdvisoryBackend::new(config)?)),
    }
}

/// Whether this looks like a connection string of keys and values, as in `host=… dbname=…`.
pub fn is_connection_string(text: &str) -> bool {
    address::is_pairs(text)
}
