//! Three servers, and five, keep every rule but those that a quorum declares not to.

use std::sync::Arc;
use std::time::Duration;

use tenure_core::Result;
use tenure_core::backend::DynBackend;
use tenure_testkit::conformance::{BoxFuture, Need, Store, run};

use crate::stage::{Set, backend};

struct Quorum(Set);

impl Store for Quorum {
    fn name(&self) -> &str {
        "redlock"
    }

    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn DynBackend>>> {
        Box::pin(async { Ok(backend(&self.0.url())) })
    }

    fn short_ttl(&self) -> Duration {
        Duration::from_millis(1500)
    }
}

const LACKS: [Need; 10] = [
    Need::Shared,
    Need::Permits,
    Need::Fifo,
    Need::Priority,
    Need::Values,
    Need::Detached,
    Need::Upgrade,
    Need::ForceAcquire,
    Need::Deadlocks,
    Need::List,
];

#[test]
fn three_servers_keep_every_rule_that_a_quorum_can_keep() {
    run(&Quorum(Set::old(3, "60s"))).assert_holds_but_for(&LACKS);
}

#[test]
fn five_servers_keep_every_rule_that_a_quorum_can_keep() {
    run(&Quorum(Set::old(5, "60s"))).assert_holds_but_for(&LACKS);
}
