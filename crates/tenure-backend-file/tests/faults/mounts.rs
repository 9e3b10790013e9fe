//! Disks that are full or read-only: small file systems, each mounted in a namespace of its own,
//! which needs no rights beyond those of any user.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use futures_lite::future::{block_on, or};
use tempfile::TempDir;
use tenure_core::{ErrorKind, LockManager, NotReleased};

use crate::stage::{LONG, PATIENCE, X, acquire, backend, now, until};

const INSIDE: &str = "TENURE_TEST_IN_NAMESPACE";
const TTL: Duration = Duration::from_millis(600);
const SLACK: Duration = Duration::from_millis(300);

/// Runs the test `name` again in a namespace of its own, where it goes on with a small disk.
fn with_disk(name: &str, size: &str, test: impl FnOnce(&Disk)) {
    if std::env::var_os(INSIDE).is_some() {
        return test(&Disk::mount(size));
    }
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "yes")
        .output()
        .unwrap_or_else(|error| panic!("this test needs `unshare` of util-linux: {error}"));
    let [said, complained] = [&output.stdout, &output.stderr].map(|s| String::from_utf8_lossy(s));
    assert!(
        said.contains("running 1 test"),
        "this test mounts a small file system in a user and mount namespace of its own, and \
         `unshare --user --map-root-user --mount` is not permitted here ({}). Allow user \
         namespaces (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone=1, \
         kernel.apparmor_restrict_unprivileged_userns=0), or run the tests as root",
        complained.trim()
    );
    assert!(output.status.success(), "{said}\n{complained}");
    print!("{said}");
}

/// A small file system.
struct Disk(TempDir);

impl Disk {
    fn mount(size: &str) -> Self {
        let at = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(at.path())
            .output()
            .unwrap_or_else(|error| panic!("this test needs `mount`: {error}"));
        assert!(
            output.status.success(),
            "this test needs to mount a tmpfs in a namespace of its own: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Self(at)
    }

    fn remount(&self, how: &str) {
        let output = Command::new("mount")
            .args(["-o", &format!("remount,{how}")])
            .arg(self.0.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn root(&self) -> PathBuf {
        self.0.path().join("locks")
    }

    fn manager(&self, query: &str) -> LockManager {
        LockManager::new(backend(&format!("file://{}{query}", self.root().display()))).unwrap()
    }

    /// Takes all space there is.
    fn fill(&self) {
        let file = fs::File::create(self.0.path().join("ballast")).unwrap();
        let mut len = 0;
        while std::os::unix::fs::FileExt::write_at(&file, &[1; 512], len).is_ok() {
            len += 512;
        }
    }

    fn empty(&self) {
        fs::remove_file(self.0.path().join("ballast")).unwrap();
    }

    /// All files of the store and what is in them, but for signs of life, which go on.
    fn content(&self) -> BTreeMap<PathBuf, String> {
        let mut files = BTreeMap::new();
        read_into(&mut files, &self.root());
        files
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The namespace goes with the process, but the directory below has to be empty.
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

fn read_into(files: &mut BTreeMap<PathBuf, String>, dir: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_into(files, &path);
            continue;
        }
        let is_sign = path.file_name().unwrap().to_string_lossy().starts_with("hb-");
        let bytes = if is_sign { Vec::new() } else { fs::read(&path).unwrap() };
        let text = String::from_utf8_lossy(&bytes).trim_matches('\0').to_owned();
        files.insert(path, text);
    }
}

fn pass(time: Duration) {
    let since = now();
    until("time passes", || time < since.elapsed());
}

#[test]
fn on_a_full_disk_nothing_is_acquired_and_nothing_changes() {
    let name = "mounts::on_a_full_disk_nothing_is_acquired_and_nothing_changes";
    with_disk(name, "128k", |disk| {
        let (holder, other) = (disk.manager(""), disk.manager(""));
        let guard = acquire(&holder, X, LONG);
        // It has a process file, and space that it keeps, like everybody else. Held, because what
        // a release removes is not free for some moments.
        let _z = acquire(&other, "z", LONG);
        disk.fill();
        let before = disk.content();
        for manager in [&holder, &other] {
            let free = block_on(manager.try_acquire("y", LONG)).unwrap_err();
            let wait = manager.lock(X).ttl(LONG).wait_timeout(Duration::from_millis(100));
            let taken = block_on(wait.acquire()).unwrap_err();
            for error in [free, taken] {
                assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
                assert!(error.message().contains("the disk is full"), "{error}");
            }
        }
        // What changed nothing needs no withdrawal, which could not be written either.
        block_on(other.close(Duration::ZERO)).unwrap();
        let after = disk.content();
        let changed: Vec<_> =
            before.iter().filter(|(file, bytes)| after.get(*file) != Some(bytes)).collect();
        let new: Vec<_> = after.keys().filter(|file| !before.contains_key(*file)).collect();
        assert!(changed.is_empty() && new.is_empty(), "changed {changed:?}, new {new:?}");
        guard.check().unwrap();
        disk.empty();
        drop(acquire(&other, "y", LONG));
    });
}

#[test]
fn on_a_full_disk_held_locks_are_renewed_and_released_and_handed_over() {
    let name = "mounts::on_a_full_disk_held_locks_are_renewed_and_released_and_handed_over";
    with_disk(name, "256k", |disk| {
        let (holder, other) = (disk.manager(""), disk.manager(""));
        let guards = ["a", "b", "c", X].map(|name| acquire(&holder, name, TTL));
        thread::scope(|scope| {
            let waiter = scope.spawn(|| acquire(&other, X, TTL));
            until("it waits", || !block_on(holder.inspect(X)).unwrap().waiters.is_empty());
            disk.fill();
            pass(TTL * 3);
            for guard in guards {
                guard.check().unwrap();
                block_on(guard.release()).unwrap();
            }
            let next = waiter.join().unwrap();
            pass(TTL * 2);
            next.check().unwrap();
            block_on(next.release()).unwrap();
        });
        disk.empty();
        for name in ["a", "b", "c", X] {
            drop(acquire(&other, name, TTL));
        }
    });
}

#[test]
fn a_release_for_which_there_is_no_space_is_told_as_unknown_and_done_later() {
    let name = "mounts::a_release_for_which_there_is_no_space_is_told_as_unknown_and_done_later";
    with_disk(name, "256k", |disk| {
        let (holder, other) = (disk.manager(""), disk.manager(""));
        let guard = acquire(&holder, X, LONG);
        thread::scope(|scope| {
            // Whoever comes next is more to write down than the space that is kept for releases.
            let waiter = scope.spawn(|| {
                let metadata = serde_json::Value::from("m".repeat(12_000));
                let request = other.lock(X).ttl(LONG).wait_timeout(PATIENCE).metadata(metadata);
                block_on(request.acquire()).unwrap()
            });
            until("it waits", || !block_on(holder.inspect(X)).unwrap().waiters.is_empty());
            disk.fill();
            let released = block_on(guard.release());
            let Err(NotReleased::Unknown { error, .. }) = released else {
                panic!("not told: {released:?}");
            };
            assert!(error.message().contains("the disk is full"), "{error}");
            let view = block_on(holder.inspect(X)).unwrap();
            assert_eq!((view.holders.len(), view.waiters.len()), (1, 1));
            disk.empty();
            let next = waiter.join().unwrap();
            next.check().unwrap();
            block_on(next.release()).unwrap();
        });
    });
}

#[test]
fn on_a_disk_that_became_read_only_a_lock_is_lost_in_time_and_says_so() {
    let name = "mounts::on_a_disk_that_became_read_only_a_lock_is_lost_in_time_and_says_so";
    with_disk(name, "256k", |disk| {
        // A process file that is open for writing would keep the disk from becoming read-only.
        let manager = disk.manager("?liveness=ttl");
        let guard = acquire(&manager, X, TTL);
        disk.remount("ro");
        let error = block_on(manager.try_acquire("y", TTL)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        assert!(error.message().contains("read-only"), "{error}");
        let clock = manager.clock().clone();
        let lost = async { Some(guard.lost().await) };
        let patience = async {
            manager.sleep_until(clock.now().plus(PATIENCE)).await;
            None
        };
        block_on(or(lost, patience)).expect("it is never told that it is lost");
        let late = clock.now().since(guard.deadlines().0);
        assert!(late < SLACK, "told {late:?} late");
        let fence = guard.fencing_token();
        let released = block_on(guard.release());
        assert!(matches!(released, Err(NotReleased::AlreadyLost(_))), "{released:?}");
        disk.remount("rw");
        let again = acquire(&manager, X, TTL);
        assert!(fence < again.fencing_token());
        block_on(again.release()).unwrap();
    });
}

#[test]
fn a_release_on_a_read_only_disk_is_told_as_unknown_and_done_later() {
    let name = "mounts::a_release_on_a_read_only_disk_is_told_as_unknown_and_done_later";
    with_disk(name, "256k", |disk| {
        let manager = disk.manager("?liveness=ttl");
        let guard = acquire(&manager, X, LONG);
        disk.remount("ro");
        let released = block_on(guard.release());
        assert!(matches!(released, Err(NotReleased::Unknown { .. })), "{released:?}");
        assert!(block_on(manager.is_locked(X)).unwrap());
        disk.remount("rw");
        until("it is released after all", || !block_on(manager.is_locked(X)).unwrap());
    });
}
