//! Full disks, read-only file systems and processes out of files: typed errors, and a lock that is
//! held can still be released.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::*;
use tempfile::TempDir;
use tenure_core::ErrorKind;
use tenure_core::backend::Verdict;

/// A small file system of its own; only root can have one.
struct Disk(TempDir);

impl Disk {
    fn mount() -> Option<Self> {
        let at = room();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
            .arg(at.path())
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(at)),
            _ => {
                println!("not shown here: this user may not mount a file system");
                None
            }
        }
    }

    /// The same file system in another place, where nothing can be written.
    fn read_only(&self) -> Self {
        let at = room();
        let run = |args: &[&str]| {
            let status = Command::new("mount").args(args).arg(at.path()).status();
            assert!(status.unwrap().success());
        };
        run(&["--bind", self.0.path().to_str().unwrap()]);
        run(&["-o", "remount,bind,ro"]);
        Self(at)
    }

    fn root(&self) -> PathBuf {
        self.0.path().join("locks")
    }

    /// Takes all space there is.
    fn fill(&self) {
        let file = std::fs::File::create(self.0.path().join("ballast")).unwrap();
        let mut len = 0;
        while std::os::unix::fs::FileExt::write_at(&file, &[1; 1024], len).is_ok() {
            len += 1024;
        }
    }

    fn empty(&self) {
        std::fs::remove_file(self.0.path().join("ballast")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn on_a_full_disk_a_held_lock_is_released_and_none_is_acquired() {
    let Some(disk) = Disk::mount() else { return };
    let machine = machine(disk.root());
    let held: Vec<_> = (0..5).map(|n| claim(&name(&format!("x{n}")))).collect();
    let fences: Vec<_> = held.iter().map(|c| granted(&machine, c)).collect();
    disk.fill();
    let error = acquire(&machine, &claim(&name("y"))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(error.message().contains("the disk is full"), "{error}");
    for (claim, fence) in held.iter().zip(fences) {
        release(&machine, claim, fence);
    }
    disk.empty();
    for claim in held {
        granted(&machine, &support::claim(&claim.name));
    }
    granted(&machine, &claim(&name("y")));
}

#[test]
fn on_a_full_disk_nothing_half_made_is_left() {
    let Some(disk) = Disk::mount() else { return };
    let machine = machine(disk.root());
    let held = claim(&name("x"));
    granted(&machine, &held);
    disk.fill();
    let before = all_names(&disk.root());
    for _ in 0..3 {
        acquire(&machine, &claim(&name("y"))).unwrap_err();
        acquire(&machine, &waiting_claim(&name("x"))).unwrap_err();
    }
    assert_eq!(all_names(&disk.root()), before);
}

fn all_names(root: &Path) -> Vec<String> {
    let mut names = names_in(root);
    for name in names.clone() {
        if root.join(&name).is_dir() {
            names.extend(names_in(&root.join(name)));
        }
    }
    names
}

#[test]
fn on_a_read_only_file_system_locks_are_seen_and_not_taken() {
    let Some(disk) = Disk::mount() else { return };
    let writer = machine(disk.root());
    granted(&writer, &claim(&name("x")));
    let view = disk.read_only();
    let reader = machine(view.root());
    let busy = acquire(&reader, &claim(&name("x"))).unwrap();
    assert!(matches!(busy, Verdict::Busy(_)));
    let error = acquire(&reader, &claim(&name("y"))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.message().contains("read-only"), "{error}");
}

const ROLE: &str = "TENURE_TEST_ROLE";

#[test]
fn a_process_out_of_files_is_told_so_and_goes_on_when_it_has_some() {
    // In a process of its own: the limit is the process's.
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_other_process", "--nocapture"])
        .env(ROLE, "files")
        .status()
        .unwrap();
    assert!(status.success());
}

/// Not a test of its own: what the other process does.
#[test]
fn the_other_process() {
    if std::env::var(ROLE).is_err() {
        return;
    }
    let room = room();
    let machine = machine(&room);
    let held = claim(&name("x"));
    let fence = granted(&machine, &held);
    let limit = getrlimit(Resource::Nofile);
    let none = Rlimit { current: Some(0), ..limit };
    setrlimit(Resource::Nofile, none).unwrap();
    let error = acquire(&machine, &claim(&name("y"))).unwrap_err();
    setrlimit(Resource::Nofile, limit).unwrap();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(error.help().unwrap().contains("ulimit -n"), "{error}");
    release(&machine, &held, fence);
    granted(&machine, &claim(&name("y")));
}
