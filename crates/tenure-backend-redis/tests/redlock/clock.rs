//! Servers whose clocks are wrong: one of them, or all.

use std::path::PathBuf;
use std::time::Duration;

use futures_lite::future::block_on;
use tempfile::TempDir;
use tenure_testkit::servers::redis::RedisSetup;

use crate::stage::{LONGEST, SHORT, Set, X, acquire, now, until};

/// Clocks that are set by files, one for each server.
struct Clocks {
    folder: TempDir,
}

impl Clocks {
    fn new() -> (Self, Set) {
        let clocks = Self { folder: tempfile::tempdir().unwrap() };
        let next = std::cell::Cell::new(0);
        let setup = || {
            let at = next.replace(next.get() + 1);
            clocks.set(at, 0);
            RedisSetup::new()
                // The server's own allocator asks for the time before the library can tell it.
                .env("LD_PRELOAD", &format!("{}:libc.so.6", library()))
                .env("FAKETIME_TIMESTAMP_FILE", clocks.file(at).to_str().unwrap())
                .env("FAKETIME_NO_CACHE", "1")
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        };
        let set = Set::with(3, "6s", setup);
        (clocks, set)
    }

    fn file(&self, at: usize) -> PathBuf {
        self.folder.path().join(format!("clock{at}"))
    }

    /// Sets one so far from the right time.
    fn set(&self, at: usize, seconds: i64) {
        // At once: a file that is half written is another time.
        let new = self.file(at).with_extension("new");
        std::fs::write(&new, format!("{seconds:+}.000 x1.0\n")).unwrap();
        std::fs::rename(new, self.file(at)).unwrap();
    }
}

/// Where Debian puts it.
fn library() -> String {
    let roots = ["/usr/lib", "/usr/lib64", "/usr/local/lib"].map(PathBuf::from);
    let below = roots.iter().filter_map(|root| std::fs::read_dir(root).ok()).flatten();
    let folders = below.filter_map(|entry| Some(entry.ok()?.path())).chain(roots.clone());
    let mut files = folders.map(|folder| folder.join("faketime/libfaketime.so.1"));
    let file = files.find(|file| file.is_file());
    file.expect("it is not installed: apt-get install libfaketime").to_str().unwrap().to_owned()
}

#[test]
fn fences_rise_whatever_the_clocks_of_the_servers_do() {
    let (clocks, set) = Clocks::new();
    let locks = set.bystander();
    let mut last = 0;
    for (round, seconds) in [0, 3600, -3600, 7200, -7200, 0].into_iter().enumerate() {
        clocks.set(round % 3, seconds);
        if seconds % 7200 == 0 {
            (0..3).for_each(|at| clocks.set(at, seconds));
        }
        let guard = acquire(&locks, X, SHORT);
        let fence = guard.fencing_token().get();
        assert!(last < fence, "{last}, then {fence}");
        last = fence;
        block_on(guard.release()).unwrap();
        until("nothing is left", || set.bound(X) == 0);
    }
}

#[test]
fn a_holder_outlives_one_clock_that_is_set_forward_by_an_hour_and_gets_the_vote_again() {
    let (clocks, set) = Clocks::new();
    let locks = set.bystander();
    let guard = acquire(&locks, X, LONGEST * 3);
    until("all are bound", || set.bound(X) == 3);
    let round = || set.servers[1].cli(&["HGET", "tenure:vote:x", "n"]);
    let before = round();
    clocks.set(1, 3600);
    assert!(block_on(set.bystander().try_acquire(X, SHORT)).unwrap().is_none());
    until("it was asked again", || before != round() && set.bound(X) == 3);
    guard.check().unwrap();
}

#[test]
fn two_of_three_clocks_that_are_set_forward_end_a_lease_early_and_the_fence_tells_it_apart() {
    let (clocks, set) = Clocks::new();
    let locks = set.bystander();
    let ttl = LONGEST * 3;
    let guard = acquire(&locks, X, ttl);
    until("all are bound", || set.bound(X) == 3);
    (0..2).for_each(|at| clocks.set(at, 3600));
    let since = now();
    // More than a minority: this is what is not promised.
    let next = acquire(&set.bystander(), X, ttl);
    assert!(guard.fencing_token() < next.fencing_token());
    let told = block_on(guard.lost());
    let overlap = since.elapsed();
    println!("two held for {overlap:?}, of a ttl of {ttl:?}; told {told:?}");
    // The next renewal finds it out, which is due after a third of the ttl.
    assert!(overlap < ttl / 2 + Duration::from_secs(1), "{overlap:?}");
    next.check().unwrap();
}
