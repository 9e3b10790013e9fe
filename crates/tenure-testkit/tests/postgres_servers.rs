//! Real PostgreSQL servers start, answer, and can be hurt.

use std::time::Duration;

use tenure_testkit::servers::patience::until;
use tenure_testkit::servers::postgres::{PgBouncer, PostgresServer, PostgresSetup};

/// How long servers may take to find something out.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_server_answers_and_is_gone_when_it_is_dropped() {
    let server = PostgresServer::start();
    let port = server.port();
    assert_eq!(server.url(), format!("postgres://postgres@127.0.0.1:{port}/postgres"));
    assert_eq!(server.psql("select 1, 'two' union all select 2, null"), "1|two\n2|");
    let refused = server.try_psql("select nonsense").unwrap_err().to_string();
    assert!(refused.contains("nonsense"), "{refused}");
    let folder = server.folder().to_owned();
    drop(server);
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
    assert!(!folder.exists());
}

#[test]
fn what_a_killed_server_has_answered_is_there_after_its_restart() {
    let server = PostgresSetup::new().durable().set("max_locks_per_transaction", "256").start();
    assert_eq!(server.psql("show max_locks_per_transaction"), "256");
    server.psql("create table t as select 7 as n");
    server.kill();
    assert!(!server.is_alive());
    assert!(server.try_psql("select 1").is_err());
    server.restart();
    assert_eq!(server.psql("select n from t"), "7");
}

#[test]
fn a_stopped_server_answers_nobody_until_it_goes_on() {
    let server = PostgresServer::start();
    let mut asked = server.psql_command("postgres", "postgres");
    server.stop();
    let mut asked = asked.args(["-c", "select 1"]).spawn().unwrap();
    assert!(server.is_alive());
    assert_eq!(asked.try_wait().unwrap(), None);
    server.cont();
    assert!(asked.wait().unwrap().success());
}

#[test]
fn a_password_is_asked_for() {
    let server = PostgresSetup::new().password("secret").start();
    let by_tcp = |password: &str| {
        let mut psql = server.psql_command("postgres", "postgres");
        psql.args(["-h", "127.0.0.1", "-c", "select 1"]).env("PGPASSWORD", password);
        psql.output().unwrap().status.success()
    };
    assert!(by_tcp("secret"));
    assert!(!by_tcp("wrong"));
    assert!(server.url().contains(":secret@"));
}

#[test]
fn tls_shows_a_certificate_of_its_own() {
    let server = PostgresSetup::new().tls().start();
    let url = format!(
        "host=localhost hostaddr=127.0.0.1 port={} user=postgres sslmode=verify-full sslrootcert={}",
        server.port(),
        server.certificate().display()
    );
    let mut psql = std::process::Command::new("psql");
    let said = psql.args(["-X", "-A", "-t", &url, "-c", "select 1"]).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
}

#[test]
fn a_pooler_gives_a_session_for_one_transaction() {
    let server = PostgresServer::start();
    let pooler = PgBouncer::by_transaction(&server);
    let mut psql = server.psql_command("postgres", "postgres");
    let port = pooler.port().to_string();
    psql.args(["-h", "127.0.0.1", "-p", &port, "-c", "select pg_advisory_lock(1)"]);
    assert!(psql.output().unwrap().status.success());
    // Its client is gone, and its session is not.
    let held = "select count(*) from pg_locks where locktype = 'advisory'";
    until(PATIENCE, "the lock stays behind", || server.psql(held) == "1");
}
