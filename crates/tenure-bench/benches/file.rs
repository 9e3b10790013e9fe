//! The file store beside the cheapest thing that could be called a lock file.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tenure::LockManager;
use tenure_bench::{Times, now, resident, status};

const TTL: Duration = Duration::from_secs(30);
const WAITER: &str = "TENURE_BENCH_WAITER";

fn main() {
    if let Ok(dir) = std::env::var(WAITER) {
        return waiter(&dir);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let dir = tempfile::tempdir().expect("a directory");
    println!("directory {}", dir.path().display());
    cycle(&runtime, dir.path());
    hand_over(&runtime, dir.path());
    many_leases(&runtime, dir.path());
}

fn manager(dir: &Path) -> LockManager {
    let url = format!("file://{}", dir.display());
    LockManager::new(tenure::open(&url).expect("it opens")).expect("a manager")
}

fn cycle(runtime: &tokio::runtime::Runtime, dir: &Path) {
    let locks = manager(dir);
    let path = dir.join("floor");
    let mut floor = Times::new("floor: O_EXCL create + unlink");
    let mut ours = Times::new("file: acquire + release");
    for n in 0..1_100 {
        let before = now();
        drop(OpenOptions::new().write(true).create_new(true).open(&path).expect("free"));
        std::fs::remove_file(&path).expect("there");
        if 100 <= n {
            floor.add(before.elapsed());
        }
        let before = now();
        runtime.block_on(async {
            locks.acquire("cycle", TTL).await.expect("free").release().await.expect("held");
        });
        if 100 <= n {
            ours.add(before.elapsed());
        }
    }
    println!("{floor}\n{}", ours.beside(&floor));
}

/// The other process of the hand-over: takes turns with the first, and says when it got each.
fn waiter(dir: &str) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let locks = manager(Path::new(dir));
    runtime.block_on(async {
        for _ in 0..ROUNDS {
            let guard = locks.acquire("hand-over", TTL).await.expect("handed over");
            let at = boottime();
            println!("{at}");
            // The first process has to be waiting before this one lets go.
            until_somebody_waits(&locks).await;
            guard.release().await.expect("held");
        }
    });
}

/// Looks now and then, and leaves the processor to the other process meanwhile.
async fn until_somebody_waits(locks: &LockManager) {
    let pause = Duration::from_millis(1);
    while locks.inspect("hand-over").await.expect("there").waiters.is_empty() {
        locks.clock().sleep_until(locks.clock().now().plus(pause)).await;
    }
    // Whoever waits gets to sleep first.
    locks.clock().sleep_until(locks.clock().now().plus(pause)).await;
}

const ROUNDS: u32 = 300;

fn hand_over(runtime: &tokio::runtime::Runtime, dir: &Path) {
    let locks = manager(dir);
    let mut times = Times::new("file: hand-over between two processes");
    let child = runtime.block_on(async {
        let mut guard = locks.acquire("hand-over", TTL).await.expect("free");
        let child = Command::new(std::env::current_exe().expect("this program"))
            .env(WAITER, dir)
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let mut released = Vec::new();
        for round in 0..ROUNDS {
            until_somebody_waits(&locks).await;
            released.push(boottime());
            guard.release().await.expect("held");
            if round + 1 < ROUNDS {
                guard = locks.acquire("hand-over", TTL).await.expect("handed back");
            } else {
                // Lets the last turn of the other process end.
                guard = locks.acquire("hand-over", TTL).await.expect("handed back");
                drop(guard);
                break;
            }
        }
        (child, released)
    });
    let (child, released) = child;
    let output = child.wait_with_output().expect("it ends");
    let text = String::from_utf8(output.stdout).expect("numbers");
    let got: Vec<u64> = text.lines().map(|l| l.parse().expect("a number")).collect();
    for (released, got) in released.iter().zip(&got) {
        times.add(Duration::from_nanos(got.saturating_sub(*released)));
    }
    println!("{times}");
}

fn boottime() -> u64 {
    use tenure::clock::{Clock, SystemClock};
    SystemClock.now().as_nanos()
}

fn many_leases(runtime: &tokio::runtime::Runtime, dir: &Path) {
    const LEASES: usize = 10_000;
    let locks = manager(dir);
    let before = now();
    let guards = runtime.block_on(async {
        let mut guards = Vec::with_capacity(LEASES);
        for n in 0..LEASES {
            guards.push(locks.acquire(format!("lease {n}"), TTL).await.expect("free"));
        }
        guards
    });
    let took = before.elapsed();
    let descriptors = std::fs::read_dir("/proc/self/fd").expect("procfs").count();
    println!(
        "file: {LEASES} leases held: {:.1} s to take, {} MB resident, {} threads, {descriptors} descriptors",
        took.as_secs_f64(),
        resident() / 1_000_000,
        status("Threads"),
    );
    drop(guards);
    runtime.block_on(async { locks.close(Duration::from_secs(60)).await }).expect("released");
}
