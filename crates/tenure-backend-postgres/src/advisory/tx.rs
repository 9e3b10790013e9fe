//! A lock inside a transaction of the user's own: it ends with the transaction, and what the
//! transaction wrote is there exactly if it held the lock until the end.

use tenure_core::{Fence, LockName, Result};
use tokio_postgres::Transaction;

use super::holder::read;
use super::key::{self, Key};
use crate::config::PostgresConfig;
use crate::error;

/// Waits for the lock inside a transaction, and answers a fencing token.
///
/// It excludes whoever holds the lock by a session, and is excluded by them; so a task that holds a
/// guard of the same lock waits for itself. Released when the transaction ends, in whatever way. Safe
/// behind any pooler.
///
/// The sequence of the tokens has to be there: it is made when a lock of this store is first taken.
///
/// # Errors
/// Of the server: `Deadlock`, `Unsupported` without the sequence or a right to it, `Unknown`.
///
/// # Cancel safety
/// If the future is dropped, the transaction may hold the lock until it ends.
pub async fn lock_in_transaction(
    transaction: &Transaction<'_>,
    config: &PostgresConfig,
    name: &LockName,
) -> Result<Fence> {
    let schema = &config.schema;
    let text = format!(
        "select ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int8, \
         case when pg_advisory_xact_lock($1)::text = '' then nextval('{schema}.fence') end"
    );
    let row = transaction.query_one(&text, &[&Key::of(name).0]).await.map_err(error::failed)?;
    super::setup::fence(read(&row, 0)?, super::setup::numbered(read(&row, 1)?, 0))
}

/// The same lock as a statement, for programs with other drivers: run it inside a transaction.
pub fn transaction_lock_sql(name: &LockName) -> String {
    format!("select pg_advisory_xact_lock({})", key::sql(name))
}
