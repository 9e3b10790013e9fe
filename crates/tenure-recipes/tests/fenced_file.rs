//! A fenced file between processes that stand still and are killed.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::block_on;
use rustix::process::{Pid, Signal, kill_process};
use tenure_backend_file::{FileBackend, FileConfig};
use tenure_core::clock::SystemClock;
use tenure_core::{ErrorKind, Fence, LockGuard, LockManager};
use tenure_recipes::fenced_file::FencedFile;

const ROLE: &str = "TENURE_TEST_ROLE";
const DIR: &str = "TENURE_TEST_DIR";
const TTL: Duration = Duration::from_secs(1);

/// Not a test of its own: what other processes do that run this program again.
#[test]
fn another_process() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let dir = Path::new(&dir);
    match std::env::var(ROLE).as_deref() {
        Ok("late") => write_late(dir),
        Ok("busy") => write_without_end(dir),
        other => panic!("{other:?} is nothing to do"),
    }
}

/// Another process; killed when the test ends.
struct Other {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Other {
    fn start(role: &str, dir: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "another_process", "--nocapture"])
            .env(ROLE, role)
            .env(DIR, dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// The first line that begins so, without its beginning.
    fn said(&mut self, begin: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(0 < self.lines.read_line(&mut line).unwrap(), "it ended without {begin:?}");
            if let Some(rest) = line.trim_end().strip_prefix(begin) {
                return rest.to_owned();
            }
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn report(dir: &Path) -> FencedFile {
    FencedFile::new(dir.join("report"))
}

fn acquire(dir: &Path) -> LockGuard {
    let config = FileConfig::from_url(&format!("file://{}/locks", dir.display())).unwrap();
    let backend = FileBackend::open(&config, Arc::new(SystemClock)).unwrap();
    let locks = LockManager::new(Arc::new(backend)).unwrap();
    block_on(locks.acquire("report", TTL)).unwrap()
}

fn write_late(dir: &Path) {
    let guard = acquire(dir);
    println!("\nheld {}", guard.fencing_token());
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    // As after a look at the guard that said "valid".
    let outcome = report(dir).write(guard.fencing_token(), b"by the old holder");
    println!("\nwrote {}", outcome.map_or_else(|e| e.kind().to_string(), |()| "it".to_owned()));
}

#[test]
fn the_late_write_of_a_holder_that_stood_still_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut old = Other::start("late", dir.path());
    let fence: Fence = old.said("held ").parse().unwrap();
    old.signal(Signal::STOP);
    let guard = acquire(dir.path());
    assert!(fence < guard.fencing_token());
    report(dir.path()).write(guard.fencing_token(), b"by the new holder").unwrap();
    writeln!(old.child.stdin.as_mut().unwrap(), "go").unwrap();
    old.signal(Signal::CONT);
    assert_eq!(old.said("wrote "), ErrorKind::Lost.as_str());
    assert_eq!(std::fs::read(dir.path().join("report")).unwrap(), b"by the new holder");
}

/// Writes under tokens about the newest, older ones among them.
fn write_without_end(dir: &Path) {
    let file = report(dir);
    println!("\nbegins");
    for n in 0.. {
        let fence = Fence::new((file.newest().unwrap().get() + 1).saturating_sub(n % 4));
        let content = format!("{fence} {} {fence}", "x".repeat(10_000));
        match file.write(fence, content.as_bytes()) {
            Ok(()) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::Lost, "{error}"),
        }
    }
}

#[test]
fn writers_that_are_killed_leave_a_whole_file_and_never_an_older_one() {
    let dir = tempfile::tempdir().unwrap();
    let file = report(dir.path());
    let mut seen = Fence::ZERO;
    let mut look = |path: PathBuf| {
        let Ok(text) = std::fs::read_to_string(path) else { return };
        let (first, last) = (text.split(' ').next().unwrap(), text.rsplit(' ').next().unwrap());
        assert_eq!(first, last, "half of a file");
        let fence: Fence = first.parse().unwrap();
        assert!(seen <= fence, "{fence} came after {seen}");
        seen = fence;
    };
    let mut writers: Vec<_> = (0..3).map(|_| Other::start("busy", dir.path())).collect();
    for _ in 0..12 {
        let mut writer = writers.remove(0);
        writer.said("begins");
        for _ in 0..50 {
            look(file.path().to_owned());
        }
        // Whatever it is doing: the kernel frees what it has locked.
        drop(writer);
        file.newest().unwrap();
        writers.push(Other::start("busy", dir.path()));
    }
    drop(writers);
    look(file.path().to_owned());
    let newest = file.newest().unwrap();
    assert!(Fence::ZERO < seen && seen <= newest, "{seen}, {newest}");
    file.write(newest, b"and it goes on").unwrap();
}
