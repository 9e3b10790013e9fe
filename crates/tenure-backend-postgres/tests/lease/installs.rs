//! How the table gets to the server, and how it is brought up to date.

use std::process::Stdio;
use std::thread;

use futures_lite::future::block_on;
use tenure_backend_postgres::{LeaseBackend, install_sql};
use tenure_core::ErrorKind;
use tenure_testkit::servers::postgres::PostgresServer;

use crate::stage::{LONG, acquire, manager, manager_at};

#[test]
fn the_first_who_need_it_install_it_even_all_at_once() {
    let server = PostgresServer::start();
    thread::scope(|scope| {
        for n in 0..8 {
            let server = &server;
            scope.spawn(move || {
                let guard = acquire(&manager(server), &format!("{}", n % 2), LONG);
                block_on(guard.release()).unwrap();
            });
        }
    });
    assert_eq!(server.psql("SELECT tenure.schema_version()"), "1");
}

#[test]
fn what_is_printed_can_be_run_with_psql_again_and_again_and_in_any_schema() {
    let server = PostgresServer::start();
    for _ in 0..2 {
        let mut psql = server.psql_command("postgres", "postgres");
        let mut psql = psql.stdin(Stdio::piped()).spawn().unwrap();
        let sql = install_sql("locks_of_ours");
        std::io::Write::write_all(&mut psql.stdin.take().unwrap(), sql.as_bytes()).unwrap();
        assert!(psql.wait().unwrap().success());
    }
    let manager = manager_at(&format!("{}?schema=locks_of_ours", server.url()));
    let guard = acquire(&manager, "x", LONG);
    assert_eq!(server.psql("SELECT lock FROM locks_of_ours.inspect()"), "x");
    assert_eq!(server.psql("SELECT to_regnamespace('tenure') IS NULL"), "t");
    block_on(guard.release()).unwrap();
}

#[test]
fn a_schema_that_somebody_made_and_left_empty_is_used() {
    let server = PostgresServer::start();
    server.psql("CREATE USER app; CREATE SCHEMA tenure AUTHORIZATION app");
    let app = manager_at(&server.url().replace("postgres@", "app@"));
    block_on(acquire(&app, "x", LONG).release()).unwrap();
    assert_eq!(server.psql("SELECT tenure.schema_version()"), "1");
}

#[test]
fn a_newer_one_is_used_and_not_taken_back() {
    let server = PostgresServer::start();
    server.psql(&install_sql("tenure"));
    server.psql(
        "CREATE OR REPLACE FUNCTION tenure.schema_version() RETURNS integer LANGUAGE sql \
         IMMUTABLE AS 'SELECT 99'",
    );
    let guard = acquire(&manager(&server), "x", LONG);
    block_on(guard.release()).unwrap();
    let backend = LeaseBackend::open(&server.url()).unwrap();
    let error = block_on(backend.install()).unwrap_err();
    assert!(error.to_string().contains("version 99"), "{error}");
    assert_eq!(server.psql("SELECT tenure.schema_version()"), "99");
}

#[test]
fn whoever_may_not_install_is_told_what_to_do() {
    let server = PostgresServer::start();
    server.psql("CREATE USER app");
    let app = manager_at(&server.url().replace("postgres@", "app@"));
    let error = block_on(app.try_acquire("x", LONG)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(error.help().is_some_and(|help| help.contains("tenure install")), "{error:?}");
    server.psql(&install_sql("tenure"));
    server.psql("GRANT USAGE ON SCHEMA tenure TO app");
    block_on(acquire(&app, "x", LONG).release()).unwrap();
}

#[test]
fn a_schema_that_is_dropped_while_it_is_used_is_installed_again() {
    let server = PostgresServer::start();
    let manager = manager(&server);
    let guard = acquire(&manager, "x", LONG);
    let fence = guard.fencing_token();
    server.psql("DROP SCHEMA tenure CASCADE");
    let again = acquire(&manager, "y", LONG);
    assert!(fence < again.fencing_token());
    assert!(block_on(guard.release()).is_err());
    block_on(again.release()).unwrap();
}

#[test]
fn rows_of_locks_that_nobody_used_for_a_day_are_removed_and_their_fences_are_not_given_again() {
    let server = PostgresServer::start();
    let manager = manager(&server);
    let held = acquire(&manager, "held", LONG);
    block_on(acquire(&manager, "idle", LONG).release()).unwrap();
    block_on(acquire(&manager, "used", LONG).release()).unwrap();
    // As if its clock had been an hour ahead.
    let ahead: u64 = server
        .psql(
            "UPDATE tenure.cell SET fence = fence + 3600000000 WHERE name = 'idle' RETURNING fence",
        )
        .parse()
        .unwrap();
    assert_eq!(server.psql("SELECT tenure.prune(1000)"), "0");
    server.psql("UPDATE tenure.cell SET used = used - 90000000000 WHERE name IN ('idle', 'held')");
    assert_eq!(server.psql("SELECT tenure.prune(1000)"), "1");
    assert_eq!(
        server.psql("SELECT string_agg(name, ' ' ORDER BY name) FROM tenure.cell"),
        "held used"
    );
    let guard = acquire(&manager, "idle", LONG);
    assert!(ahead < guard.fencing_token().get());
    block_on(guard.release()).unwrap();
    block_on(held.release()).unwrap();
}
