//! One server keeps every rule that session locks can keep, with a backend of its own for each
//! process.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::sync::Arc;
use std::time::Duration;

use tenure_backend_postgres::open;
use tenure_core::Result;
use tenure_core::backend::DynBackend;
use tenure_testkit::conformance::{BoxFuture, Need, Store, run};
use tenure_testkit::servers::postgres::{PostgresServer, PostgresSetup};

struct Node(PostgresServer);

impl Store for Node {
    fn name(&self) -> &str {
        "postgres+advisory"
    }

    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn DynBackend>>> {
        let url = self.0.url().replace("postgres://", "postgres+advisory://");
        Box::pin(async move { open(&url) })
    }

    fn short_ttl(&self) -> Duration {
        // A process begins with a few sessions, and a busy machine takes its time for them.
        Duration::from_millis(1500)
    }
}

#[test]
fn one_server_keeps_every_rule() {
    let server = PostgresSetup::new().set("max_connections", "200").start();
    run(&Node(server)).assert_holds_but_for(&[
        Need::Permits,
        Need::Priority,
        Need::Values,
        Need::Detached,
        Need::Upgrade,
        Need::ForceAcquire,
        Need::Deadlocks,
        Need::List,
        Need::Lease,
    ]);
}
