//! What looks simpler and is wrong, shown to be caught: locks that are taken without a registry, and
//! fences that are transaction ids.

use std::time::Duration;

use tenure_testkit::servers::postgres::{PostgresServer, PostgresSetup};
use tokio_postgres::{Client, NoTls};

async fn connect(server: &PostgresServer) -> Client {
    let (client, connection) = tokio_postgres::connect(&server.url(), NoTls).await.unwrap();
    tokio::runtime::Handle::current().spawn(async move {
        let _ = connection.await;
    });
    client
}

/// Without a registry in front, two tasks that share a session both get the lock.
#[test]
fn a_shared_session_without_a_registry_lets_two_tasks_in() {
    let server = PostgresServer::start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let both = runtime.block_on(async {
        let client = connect(&server).await;
        let task = async || {
            let row = client.query_one("select pg_try_advisory_lock(1)", &[]).await.unwrap();
            row.get::<_, bool>(0)
        };
        futures_util::future::join(task(), task()).await
    });
    assert_eq!(both, (true, true), "the control is broken: the server excludes its own session");
}

/// A transaction id is given before anything of it is on the disk: after a crash it is given again.
#[test]
fn a_transaction_id_as_a_fence_falls_when_the_server_crashes() {
    let server = PostgresSetup::new().durable().set("wal_writer_delay", "10s").start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let draw = || {
        runtime.block_on(async {
            let client = connect(&server).await;
            let mut last = 0;
            for _ in 0..500 {
                let text = "select case when pg_try_advisory_lock(1) \
                            then pg_current_xact_id()::text::int8 end, pg_advisory_unlock(1)";
                last = client.query_one(text, &[]).await.unwrap().get::<_, i64>(0);
            }
            last
        })
    };
    let before = draw();
    server.kill();
    server.restart();
    let first_after = runtime.block_on(async {
        let client = connect(&server).await;
        let row = client.query_one("select pg_current_xact_id()::text::int8", &[]).await.unwrap();
        row.get::<_, i64>(0)
    });
    assert!(first_after <= before, "the control is broken: {first_after} is above {before}");
    runtime.shutdown_timeout(Duration::from_millis(100));
}
