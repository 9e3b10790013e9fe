//! The memory store keeps every rule, with several managers over one backend as its processes.

use std::sync::Arc;
use std::time::Duration;

use tenure_backend_memory::MemoryBackend;
use tenure_core::Result;
use tenure_core::backend::DynBackend;
use tenure_testkit::conformance::{BoxFuture, Need, Store, run};

struct Memory(Arc<MemoryBackend>);

impl Store for Memory {
    fn name(&self) -> &str {
        "memory"
    }

    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn DynBackend>>> {
        let backend = self.0.clone();
        Box::pin(async move { Ok(backend as Arc<dyn DynBackend>) })
    }

    fn short_ttl(&self) -> Duration {
        Duration::from_millis(400)
    }

    /// A call is over when it returns, and nothing of it lands later.
    fn late_requests(&self) -> bool {
        false
    }
}

#[test]
fn the_memory_store_keeps_every_rule() {
    run(&Memory(Arc::new(MemoryBackend::new()))).assert_holds_but_for(&[Need::LateRequests]);
}
