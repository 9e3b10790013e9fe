//! What each room has on the server: shown, or installed, for people who do that themselves.

use std::sync::Arc;
use std::time::Duration;

use tenure_core::{ErrorKind, Result};

use crate::config::{PostgresConfig, Room};
use crate::error::{no_answer, strange};
use crate::lease;
use crate::session::{Deaf, Session};

/// How long one step may take: others may be installing, too.
const PATIENCE: Duration = Duration::from_secs(10);
/// What the session is called at the server.
const SESSION: &str = "tenure install";

/// What is on the server, after installing.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Installed {
    /// In which schema.
    pub schema: String,
    /// Its version. A sequence of fences for advisory locks has always been the first.
    pub version: i32,
    /// The version that was there before, if there was one.
    pub before: Option<i32>,
}

/// The SQL that installs what the store at an address needs, or brings it up to date, and lets `roles`
/// use it; see [`install_sql`](crate::install_sql). For whoever may, by `psql`.
///
/// # Errors
/// `Invalid` if the address is not understood.
pub fn install_sql_for(url: &str, roles: &[String]) -> Result<String> {
    Ok(sql(&PostgresConfig::from_url(url)?, roles))
}

fn sql(config: &PostgresConfig, roles: &[String]) -> String {
    let schema = &*config.schema;
    let mut sql = match config.room() {
        Room::Lease => lease::install_sql(schema),
        Room::Advisory => include_str!("../sql/fence.sql").replace(":schema", schema),
    };
    for role in roles {
        for right in rights(config.room(), schema) {
            sql.push_str(&format!("GRANT {right} TO {};\n", quoted(role)));
        }
    }
    sql
}

/// What a user of locks needs.
pub(crate) fn rights(room: Room, schema: &str) -> Vec<String> {
    let usage = format!("USAGE ON SCHEMA {schema}");
    match room {
        Room::Lease => vec![usage],
        Room::Advisory => vec![usage, format!("USAGE ON SEQUENCE {schema}.fence")],
    }
}

/// A name as SQL takes it.
pub(crate) fn quoted(name: &str) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(plain) {
        return name.to_owned();
    }
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Installs what the store at an address needs, or brings it up to date, and lets `roles` use it; it may
/// be done as often as one likes. Needs a tokio runtime with time and I/O.
///
/// # Errors
/// `Invalid` if the address is not understood; `Denied` if this user may not install it, and nothing
/// was changed; `Unsupported` if the server is too old, or what is installed is of a newer version;
/// `Unreachable` or `Unknown` if the server is not there, or has not answered.
///
/// # Cancel safety
/// It is done or not; it can be called again.
pub async fn install(url: &str, roles: &[String]) -> Result<Installed> {
    let config = PostgresConfig::from_url(url)?;
    let open = Session::open(&config.server, SESSION, Arc::new(Deaf));
    let session = tokio::time::timeout(PATIENCE, open)
        .await
        .unwrap_or_else(|_| Err(no_answer("no connection in time").with_nothing_changed()))?;
    let before = version(&session, &config).await?;
    let newest = match config.room() {
        Room::Lease => lease::VERSION,
        Room::Advisory => 1,
    };
    lease::refuse_newer(before, &config.schema)?;
    let done = lease::run(&session, &config.schema, &sql(&config, roles)).await;
    match done {
        // Somebody else has installed it, and nobody asked for more.
        Err(error)
            if error.kind() == ErrorKind::Denied && before == Some(newest) && roles.is_empty() => {}
        done => done?,
    }
    Ok(Installed { schema: config.schema.to_string(), version: newest, before })
}

async fn version(session: &Session, config: &PostgresConfig) -> Result<Option<i32>> {
    let schema = &*config.schema;
    let ask = match config.room() {
        Room::Lease => format!("select {schema}.schema_version()"),
        Room::Advisory => format!("select 1 from {schema}.fence"),
    };
    // In a transaction of its own, for it fails if nothing is there.
    match session.rows(PATIENCE, &ask, &[]).await {
        Ok(rows) => match rows.first().map(|row| row.try_get(0)) {
            Some(Ok(version)) => Ok(Some(version)),
            _ => Err(strange("the version of the schema")),
        },
        Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Denied) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_where_they_have_to_be() {
        assert_eq!(quoted("app_1"), "app_1");
        assert_eq!(quoted("My \"App\""), "\"My \"\"App\"\"\"");
        assert_eq!(quoted("1app"), "\"1app\"");
    }

    #[test]
    fn what_is_printed_grants_what_users_of_the_room_need() {
        let roles = ["app".to_owned()];
        let sql = install_sql_for("postgres+advisory://h/d?schema=locks", &roles).unwrap();
        assert!(sql.contains("CREATE SEQUENCE locks.fence"), "{sql}");
        assert!(sql.ends_with(
            "GRANT USAGE ON SCHEMA locks TO app;\nGRANT USAGE ON SEQUENCE locks.fence TO app;\n"
        ));
        let sql = install_sql_for("host=h dbname=d", &roles).unwrap();
        assert!(sql.contains("CREATE TABLE cell"), "{sql}");
        assert!(sql.ends_with("COMMIT;\nGRANT USAGE ON SCHEMA tenure TO app;\n"), "{sql}");
    }
}
