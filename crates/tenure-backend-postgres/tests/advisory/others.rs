//! Other programs take the same locks.

use std::io::Write;
use std::process::{Child, Stdio};

use futures_lite::future::block_on;
use tenure_backend_postgres::{PostgresConfig, lock_in_transaction, transaction_lock_sql};
use tenure_core::{ErrorKind, LockName};

use crate::stage::{LONG, Stage, X, acquire, attempt, look, until};

/// A `psql` that goes on until its input ends.
fn psql(stage: &Stage, name: &str, first: &str) -> Child {
    let mut command = stage.server.psql_command("postgres", "postgres");
    let mut child =
        command.env("PGAPPNAME", name).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    writeln!(child.stdin.as_mut().unwrap(), "{first};").unwrap();
    child
}

#[test]
fn psql_takes_the_same_lock_by_the_statement_that_is_printed() {
    let stage = Stage::new();
    let locks = stage.manager();
    for name in [X, "it's \\ ünï", "key:42"] {
        let keys = locks.keys(name).unwrap();
        let statement = &keys.iter().find(|(what, _)| *what == "sql").unwrap().1;
        let guard = acquire(&locks, name, LONG);
        assert_eq!(stage.server.psql(statement), "f", "{name}");
        block_on(guard.release()).unwrap();
        assert_eq!(stage.server.psql(statement), "t", "{name}");
    }
    assert_eq!(locks.keys("key:42").unwrap()[0].1, "42");
}

#[test]
fn a_lock_of_psql_is_shown_waited_for_and_taken_from_it() {
    let stage = Stage::new();
    let locks = stage.manager();
    let mut other = psql(&stage, "a person", "select pg_advisory_lock(42)");
    until("psql has it", || stage.holding().len() == 1);
    assert!(attempt(&locks, "key:42").is_none());
    let view = look(&locks, "key:42");
    assert_eq!(&*view.holders[0].details.owner.label, "a person");
    std::thread::scope(|scope| {
        let next = scope.spawn(|| acquire(&locks, "key:42", LONG));
        crate::stage::until_waiting(&locks, "key:42", 1);
        drop(other.stdin.take());
        other.wait().unwrap();
        drop(next.join().unwrap());
    });
    block_on(locks.close(LONG)).unwrap();

    let mut other = psql(&stage, "a person", "select pg_advisory_lock(42)");
    until("psql has it", || stage.holding().len() == 1);
    let wrong = block_on(locks.force_release("key:42", Some(tenure_core::Fence::new(7)), "no"));
    assert_eq!(wrong.unwrap_err().kind(), ErrorKind::NotHeld);
    block_on(locks.force_release("key:42", None, "it is in the way")).unwrap();
    drop(attempt(&locks, "key:42").unwrap());
    drop(other.stdin.take());
    other.wait().unwrap();
}

#[test]
fn a_session_with_other_locks_is_not_ended_for_one_of_them() {
    let stage = Stage::new();
    let locks = stage.manager();
    let both = "select pg_advisory_lock(42), pg_advisory_lock(43)";
    let mut other = psql(&stage, "a person", both);
    until("psql has them", || stage.holding().len() == 2);
    let refused = block_on(locks.force_release("key:42", None, "it is in the way")).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unreachable);
    assert!(refused.help().unwrap().contains("pg_terminate_backend"), "{refused:?}");
    assert_eq!(stage.holding().len(), 2);
    drop(other.stdin.take());
    other.wait().unwrap();
}

#[test]
fn a_lock_in_a_transaction_excludes_guards_and_ends_with_it() {
    let stage = Stage::new();
    let locks = stage.manager();
    let first = acquire(&locks, X, LONG);
    let fence = first.fencing_token();
    block_on(first.release()).unwrap();
    let config = PostgresConfig::from_url(&stage.url()).unwrap();
    let name = LockName::new(X).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let url = stage.server.url();
        let connect = tokio_postgres::connect(&url, tokio_postgres::NoTls);
        let (mut client, connection) = connect.await.unwrap();
        let driver = tokio::runtime::Handle::current().spawn(connection);
        let transaction = client.transaction().await.unwrap();
        let inside = lock_in_transaction(&transaction, &config, &name).await.unwrap();
        assert!(fence < inside);
        assert!(locks.try_acquire(X, LONG).await.unwrap().is_none());
        transaction.commit().await.unwrap();
        let guard = locks.try_acquire(X, LONG).await.unwrap().expect("it ended with it");
        assert!(inside < guard.fencing_token());
        let try_it = transaction_lock_sql(&name).replace("_xact_lock", "_xact_lock_shared");
        let blocked = format!("set lock_timeout = 50; {try_it}");
        assert!(client.batch_execute(&blocked).await.is_err());
        guard.release().await.unwrap();
        client.batch_execute(&transaction_lock_sql(&name)).await.unwrap();
        drop(client);
        driver.await.unwrap().unwrap();
    });
}
