//! What has to be on the server, and how it gets there.

use std::time::Duration;

use tenure_core::{Error, ErrorKind, Result};

use super::turn::Statements;
use crate::error;
use crate::session::Session;

/// The version of the schema that this program needs, as `sql/version.sql` says it.
pub(crate) const VERSION: i32 = 1;
/// How long installing may take: others may be installing, too.
const PATIENCE: Duration = Duration::from_secs(10);

/// What brings a schema from one version to the next: tables and types. Functions are replaced.
const STEPS: &[&str] = &[include_str!("../../sql/schema.sql")];
const FUNCTIONS: &[&str] = &[
    include_str!("../../sql/machine.sql"),
    include_str!("../../sql/verbs.sql"),
    include_str!("../../sql/calls.sql"),
    include_str!("../../sql/people.sql"),
    include_str!("../../sql/version.sql"),
];

/// The SQL that installs the lease table in `schema`, or brings an older one up to date, in one
/// transaction. It may be run as often as one likes, by several at once, and never takes a newer
/// schema back. Whoever runs it owns the schema.
pub fn install_sql(schema: &str) -> String {
    sql_of(schema, VERSION, STEPS, FUNCTIONS)
}

fn sql_of(schema: &str, version: i32, steps: &[&str], functions: &[&str]) -> String {
    let mut sql = include_str!("../../sql/begin.sql").to_owned();
    for (at, step) in steps.iter().enumerate() {
        sql.push_str(&format!(
            "\nDO $step$ BEGIN IF installed_version() < {} THEN EXECUTE $sql$\n\
             {step}\n$sql$; END IF; END $step$;\n",
            at + 1,
        ));
    }
    for functions in functions {
        sql.push('\n');
        sql.push_str(functions);
    }
    sql.push_str(include_str!("../../sql/end.sql"));
    sql.replace(":schema", schema).replace(":version", &version.to_string())
}

/// Installs, or brings up to date.
///
/// # Errors
/// `Denied` if this user may not; the session has to be closed then.
pub(crate) async fn install(session: &Session, schema: &str) -> Result<()> {
    run(session, schema, &install_sql(schema)).await
}

/// Runs SQL that installs something in a schema.
///
/// # Errors
/// As [`install`].
pub(crate) async fn run(session: &Session, schema: &str, sql: &str) -> Result<()> {
    session.ask(PATIENCE, session.client().batch_execute(sql)).await.map_err(|error| {
        let message = format!("the schema {schema} could not be installed: {}", error.message());
        let help = match error.kind() {
            ErrorKind::Denied => {
                "let `tenure install` be run by a user who may create schemas in this database, or \
                 owns this one; `tenure install --print` shows what it does"
            }
            _ => "`tenure install --print` shows what it does",
        };
        Error::new(error.kind(), message).with_help(help).with_source(error).with_nothing_changed()
    })
}

/// Refuses to take a newer version back.
///
/// # Errors
/// `Unsupported`; nothing was changed.
pub(crate) fn refuse_newer(before: Option<i32>, schema: &str) -> Result<()> {
    match before {
        Some(version) if VERSION < version => Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "version {version} of the schema {schema} is installed, this is version {VERSION}"
            ),
        )
        .with_help("it does for this program as it is; a newer one can install it again")
        .with_nothing_changed()),
        _ => Ok(()),
    }
}

/// Sees to it that the server has what this program needs; installs it if it does not.
///
/// # Errors
/// `Denied` if it is missing and this user may not install it; `Unsupported` if the server is too
/// old.
pub(crate) async fn ensure(
    session: &Session,
    schema: &str,
    statements: &Statements,
    patience: Duration,
) -> Result<()> {
    match version(session, statements, patience).await? {
        Some(version) if VERSION <= version => Ok(()),
        _ => install(session, schema).await,
    }
}

async fn version(
    session: &Session,
    statements: &Statements,
    patience: Duration,
) -> Result<Option<i32>> {
    let ask = session.client().query_typed(&statements.version, &[]);
    match session.ask(patience, ask).await {
        Ok(rows) => match rows.first().map(|row| row.try_get(0)) {
            Some(Ok(version)) => Ok(Some(version)),
            _ => Err(error::strange("the version of the schema")),
        },
        // It is not there: error::Meaning::Missing.
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use tenure_testkit::servers::postgres::PostgresServer;

    use super::*;

    #[test]
    fn a_newer_version_takes_the_steps_that_are_missing_once_and_replaces_the_functions() {
        let server = PostgresServer::start();
        server.psql(&install_sql("tenure"));
        server.psql("SELECT tenure.acquire('x')");
        let steps = [STEPS[0], "ALTER TABLE cell ADD COLUMN note text DEFAULT 'new';"];
        let functions = [
            FUNCTIONS,
            &[
                "CREATE OR REPLACE FUNCTION schema_version() RETURNS integer LANGUAGE sql IMMUTABLE \
               AS $$ SELECT 2 $$;",
            ],
        ];
        for _ in 0..2 {
            server.psql(&sql_of("tenure", 2, &steps, &functions.concat()));
            assert_eq!(server.psql("SELECT tenure.schema_version()"), "2");
            assert_eq!(server.psql("SELECT name, note FROM tenure.cell"), "x|new");
        }
        let error = server.try_psql(&install_sql("tenure")).unwrap_err().to_string();
        assert!(error.contains("version 2 of the schema is installed"), "{error}");
    }
}
