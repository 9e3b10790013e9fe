//! The lease table keeps every rule, with a backend of its own for each process, also behind a
//! pooler that hands sessions out by transaction.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::sync::Arc;
use std::time::Duration;

use tenure_backend_postgres::LeaseBackend;
use tenure_core::Result;
use tenure_core::backend::DynBackend;
use tenure_testkit::conformance::{BoxFuture, Store, run};
use tenure_testkit::servers::postgres::{PgBouncer, PostgresServer};

struct Table {
    name: &'static str,
    url: String,
}

impl Store for Table {
    fn name(&self) -> &str {
        self.name
    }

    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn DynBackend>>> {
        Box::pin(async { Ok(Arc::new(LeaseBackend::open(&self.url)?) as Arc<dyn DynBackend>) })
    }

    fn short_ttl(&self) -> Duration {
        Duration::from_millis(800)
    }
}

#[test]
fn a_lease_table_keeps_every_rule() {
    let server = PostgresServer::start();
    run(&Table { name: "postgres", url: server.url() }).assert_holds_but_for(&[]);
}

#[test]
fn a_lease_table_behind_a_transaction_pooler_keeps_every_rule() {
    let server = PostgresServer::start();
    let pooler = PgBouncer::by_transaction(&server);
    let url = server.url_at(pooler.port());
    run(&Table { name: "postgres behind pgbouncer", url }).assert_holds_but_for(&[]);
}
