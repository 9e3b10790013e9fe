//! Real PostgreSQL servers.
//!
//! - [`PostgresServer`]: one server, which [`PostgresSetup`] describes;
//! - [`PgBouncer`]: a pooler in front of it.
//!
//! Needs the programs of the Debian packages `postgresql` and `pgbouncer`. As root, the servers run
//! as `postgres` or `nobody`.

pub mod setup;
pub mod server;
pub mod bouncer;
mod cluster;

pub use bouncer::PgBouncer;
pub use server::PostgresServer;
pub use setup::PostgresSetup;
