//! One server keeps every rule, with a backend of its own for each process.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::sync::Arc;
use std::time::Duration;

use tenure_backend_redis::RedisBackend;
use tenure_core::Result;
use tenure_core::backend::DynBackend;
use tenure_testkit::conformance::{BoxFuture, Store, run};
use tenure_testkit::servers::redis::RedisServer;

struct Node(RedisServer);

impl Store for Node {
    fn name(&self) -> &str {
        "redis"
    }

    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn DynBackend>>> {
        Box::pin(async { Ok(Arc::new(RedisBackend::open(&self.0.url())?) as Arc<dyn DynBackend>) })
    }

    fn short_ttl(&self) -> Duration {
        Duration::from_millis(800)
    }
}

#[test]
fn one_server_keeps_every_rule() {
    run(&Node(RedisServer::start())).assert_holds_but_for(&[]);
}
