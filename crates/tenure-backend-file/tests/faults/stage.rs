//! What the tests share.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::block_on;
use tempfile::TempDir;
use tenure_backend_file::{FileBackend, FileConfig};
use tenure_core::LockManager;
use tenure_core::backend::DynBackend;
use tenure_core::clock::SystemClock;
use tenure_testkit::lock_taker::{Doing, Fleet, Job};
pub(crate) use tenure_testkit::stage::*;

/// The variable that says what another process does, if it is not a taker.
pub(crate) const ROLE: &str = "TENURE_TEST_ROLE";
/// The variable that says where.
pub(crate) const STORE: &str = "TENURE_TEST_STORE";
/// A ttl that no test waits for.
pub(crate) const LONG: Duration = Duration::from_secs(30);

pub(crate) fn backend(store: &str) -> Arc<dyn DynBackend> {
    let config = FileConfig::from_url(store).unwrap();
    Arc::new(FileBackend::open(&config, Arc::new(SystemClock)).unwrap())
}

/// A store, and next to it a place for histories; gone with the test.
pub(crate) struct Stage {
    dir: TempDir,
    query: &'static str,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::with("")
    }

    /// With parameters of the store's URL.
    pub(crate) fn with(query: &'static str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir, query }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("locks")
    }

    /// The directory of a lock.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        PathBuf::from(&self.manager().keys(name).unwrap()[0].1)
    }

    pub(crate) fn url(&self) -> String {
        format!("file://{}{}", self.root().display(), self.query)
    }

    pub(crate) fn manager(&self) -> LockManager {
        LockManager::new(backend(&self.url())).unwrap()
    }

    /// A fleet with a history of its own.
    pub(crate) fn fleet(&self, seed: u64) -> Fleet {
        fleet_in(self.dir.path(), seed)
    }

    pub(crate) fn job(&self, ttl: Duration) -> Job {
        Job { ttl, ..Job::new(&self.url(), X) }
    }

    /// What there is in the store when nobody uses it any more, besides what has to be.
    pub(crate) fn left(&self, names: &[&str]) -> Vec<String> {
        for name in names {
            // Nobody evicts the dead until somebody asks, and with the last of them goes what all
            // of them left.
            let mut fleet = self.fleet(0);
            let job = Job { names: vec![(*name).to_owned()], ..self.job(LONG).holding() };
            let last = fleet.start(&job).unwrap();
            fleet.until(&last, Doing::Holding).unwrap();
            fleet.kill(&last).unwrap();
            let guard = acquire(&self.manager(), name, LONG);
            block_on(guard.release()).unwrap();
        }
        until("the last manager's thread has ended", || proc_files(&self.root()).is_empty());
        let mut left = Vec::new();
        for name in names_in(&self.root()) {
            let path = self.root().join(&name);
            if !name.ends_with(".lock") {
                left.extend(names_in(&path).into_iter().map(|file| format!("{name}/{file}")));
                continue;
            }
            // The step, its record, the one before, and what kind of directory it is.
            let mut needed = vec!["cur-", "rec-", "rec-", "FORMAT"];
            for file in names_in(&path) {
                match needed.iter().position(|kind| file.starts_with(kind)) {
                    Some(index) => drop(needed.remove(index)),
                    None => left.push(format!("{name}/{file}")),
                }
            }
        }
        left
    }
}

fn proc_files(root: &Path) -> Vec<String> {
    names_in(&root.join("procs")).into_iter().filter(|n| n.starts_with("proc-")).collect()
}

/// The names in a directory, in order; none if there is no directory.
pub(crate) fn names_in(path: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(path) else {
        return Vec::new();
    };
    let mut names: Vec<String> =
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
