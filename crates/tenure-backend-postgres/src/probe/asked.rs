//! What the server says of itself, as far as it lets us ask.

use std::collections::HashMap;

use serde::Deserialize;
use tenure_core::Result;
use tenure_core::clock::{Clock, SystemClock};
use tenure_core::probe::ClockSeen;
use tokio_postgres::types::Type;

use super::PATIENCE;
use crate::error::strange;
use crate::session::Session;

/// How often a server is asked for the time; the fastest answer counts.
const LOOKS_AT_THE_CLOCK: u32 = 5;

/// The settings that are asked for.
const SETTINGS: [&str; 17] = [
    "autovacuum",
    "fsync",
    "full_page_writes",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "lock_timeout",
    "max_connections",
    "max_locks_per_transaction",
    "max_prepared_transactions",
    "reserved_connections",
    "statement_timeout",
    "superuser_reserved_connections",
    "synchronous_commit",
    "synchronous_standby_names",
    "track_counts",
    "transaction_timeout",
    "wal_level",
];

/// What a server said.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    pub(super) version: String,
    pub(super) version_num: i32,
    pub(super) standby: bool,
    pub(super) pid: i32,
    pub(super) user: String,
    pub(super) superuser: bool,
    /// Whether it may see what others' sessions do.
    pub(super) sees_all: bool,
    pub(super) database: String,
    /// Whether it may make a schema.
    pub(super) may_create: bool,
    pub(super) settings: HashMap<String, String>,
    /// How many locks of any kind are in the server's table.
    pub(super) locks: i64,
    pub(super) sessions: i64,
    pub(super) standbys: i64,
    /// Standbys that commits wait for; only seen with the right to.
    pub(super) in_step: i64,
    /// How long the oldest transaction is open that keeps dead rows.
    pub(super) oldest_s: Option<i64>,
    pub(super) schema: Option<Schema>,
    #[serde(skip)]
    pub(super) clock: Option<ClockSeen>,
    /// The version of the lease table, if it is installed and may be used.
    #[serde(skip)]
    pub(super) installed: Option<i32>,
}

/// The schema that is ours.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Schema {
    /// Whether this user may use it.
    pub(super) usage: bool,
    pub(super) owner: String,
    /// Whether this user has all rights of its owner.
    pub(super) owned: bool,
    /// Whether there is a lease table in it, of whatever version.
    pub(super) version: bool,
    /// Functions that this user may not call.
    pub(super) refused: Vec<String>,
    /// Whether this user may draw from the sequence of the fences; `None` if there is none.
    pub(super) fence: Option<bool>,
}

impl Asked {
    /// Asks for everything.
    pub(super) async fn of(session: &Session, schema: &str) -> Result<Self> {
        let names: Vec<&str> = SETTINGS.to_vec();
        let values = [(&names as _, Type::TEXT_ARRAY), (&schema as _, Type::TEXT)];
        let row = session.row(PATIENCE, include_str!("sql/asked.sql"), &values).await?;
        let said: &str = row.try_get(0).map_err(|_| strange("what it says of itself"))?;
        let mut asked: Self =
            serde_json::from_str(said).map_err(|_| strange("what it says of itself"))?;
        if asked.schema.as_ref().is_some_and(|s| s.usage && s.version && s.refused.is_empty()) {
            let version = format!("select {schema}.schema_version()");
            let row = session.row(PATIENCE, &version, &[]).await?;
            asked.installed = row.try_get(0).ok();
        }
        asked.clock = clock(session).await?;
        Ok(asked)
    }

    pub(super) fn setting(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(String::as_str)
    }

    /// A setting that is a number, in its own unit.
    pub(super) fn number(&self, name: &str) -> Option<i64> {
        self.setting(name)?.parse().ok()
    }

    pub(super) fn is_off(&self, name: &str) -> bool {
        self.setting(name) == Some("off")
    }
}

async fn clock(session: &Session) -> Result<Option<ClockSeen>> {
    const NOW: &str = "select (extract(epoch from clock_timestamp()) * 1e6)::int8";
    let mut best: Option<ClockSeen> = None;
    for _ in 0..LOOKS_AT_THE_CLOCK {
        let asked = (SystemClock.now(), SystemClock.wall());
        let row = session.row(PATIENCE, NOW, &[]).await?;
        let server = row.try_get(0).map_err(|_| strange("its time"))?;
        best = Some(ClockSeen::new(asked, server).or_better(best));
    }
    Ok(best)
}
