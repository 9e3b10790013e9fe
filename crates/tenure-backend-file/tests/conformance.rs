//! Locks in a directory keep every rule, with several backends on one directory as processes.

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tenure_backend_file::{FileBackend, FileConfig};
use tenure_core::Result;
use tenure_core::backend::DynBackend;
use tenure_core::clock::SystemClock;
use tenure_testkit::conformance::{BoxFuture, Store, run};

struct Directory {
    dir: TempDir,
    durable: bool,
}

impl Store for Directory {
    fn name(&self) -> &str {
        if self.durable { "file, durable" } else { "file" }
    }

    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn DynBackend>>> {
        Box::pin(async {
            let config = FileConfig::new(self.dir.path()).durable(self.durable);
            let backend = FileBackend::open(&config, Arc::new(SystemClock))?;
            Ok(Arc::new(backend) as Arc<dyn DynBackend>)
        })
    }

    fn short_ttl(&self) -> Duration {
        Duration::from_millis(600)
    }
}

fn every_rule_holds(durable: bool) {
    let dir = tempfile::tempdir().expect("a directory");
    run(&Directory { dir, durable }).assert_holds_but_for(&[]);
}

#[test]
fn locks_in_a_directory_keep_every_rule() {
    every_rule_holds(false);
}

#[test]
fn durable_locks_in_a_directory_keep_every_rule() {
    every_rule_holds(true);
}
