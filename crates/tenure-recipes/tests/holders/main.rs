//! Holders of every recipe that are killed and stopped as real processes: whoever comes next has what
//! they had, alone and under a higher fence, and what they do late counts for nothing.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "helpers of tests are tests, on threads of their own"
)]

mod child;

use std::sync::Arc;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use futures_lite::future::block_on;
use rustix::process::Signal;
use tenure_backend_file::{FileBackend, FileConfig};
use tenure_backend_redis::RedisBackend;
use tenure_core::LockManager;
use tenure_core::backend::DynBackend;
use tenure_core::clock::SystemClock;
use tenure_recipes::{Compaction, Semaphore, TaskQueue};
use tenure_testkit::servers::postgres::PostgresSetup;
use tenure_testkit::servers::redis::RedisSetup;
use tenure_testkit::stage::this_program;

use child::{Job, PERMITS, Process, Recipe, be_another_process, coordinator, until};

/// The ttl of all leases: longer than a busy machine keeps a process from running.
const TTL: Duration = Duration::from_secs(2);
/// How long a state is waited for that has to come.
const PATIENCE: Duration = Duration::from_secs(45);
/// How many scenes of one store go on at the same time.
const AT_ONCE: usize = 4;

/// Not a test of its own: what other processes do that run this program again.
#[test]
fn another_process() {
    be_another_process();
}

fn open(url: &str) -> Arc<dyn DynBackend> {
    if url.starts_with("redis:") {
        return Arc::new(RedisBackend::open(url).unwrap());
    }
    if url.starts_with("postgres") {
        return tenure_backend_postgres::open(url).unwrap();
    }
    let config = FileConfig::from_url(url).unwrap();
    Arc::new(FileBackend::open(&config, Arc::new(SystemClock)).unwrap())
}

#[test]
fn holders_of_all_recipes_are_killed_and_stopped_in_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    all_on(&format!("file://{}", dir.path().display()));
}

#[test]
fn holders_of_all_recipes_are_killed_and_stopped_on_a_redis_server() {
    let server = RedisSetup::new().start();
    all_on(&server.url());
}

#[test]
fn holders_of_all_recipes_are_killed_and_stopped_in_a_lease_table() {
    let server = PostgresSetup::new().start();
    server.psql(&tenure_backend_postgres::install_sql("tenure"));
    all_on(&server.url());
}

/// What is held, and what whoever comes next wants.
const PAIRS: [(Recipe, Recipe); 7] = [
    (Recipe::Read, Recipe::Write),
    (Recipe::Write, Recipe::Read),
    (Recipe::Permits, Recipe::Permits),
    (Recipe::Multi, Recipe::Multi),
    (Recipe::Checkpoint, Recipe::Checkpoint),
    (Recipe::Compaction, Recipe::Compaction),
    (Recipe::Task, Recipe::Task),
];

fn all_on(url: &str) {
    type Scene<'a> = Box<dyn FnOnce() + Send + 'a>;
    let mut scenes: Vec<Scene<'_>> = Vec::new();
    for signal in [Signal::KILL, Signal::STOP] {
        for (held, wanted) in PAIRS {
            scenes.push(Box::new(move || replace(url, held, wanted, signal)));
        }
        scenes.push(Box::new(move || half_way(url, signal)));
    }
    let scenes = Mutex::new(scenes);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(scene) = { scenes.lock().unwrap().pop() } {
                    scene();
                }
            });
        }
    });
}

fn lock_of(recipe: Recipe, name: &str) -> String {
    match recipe {
        Recipe::Compaction => format!("{}{name}", Compaction::PREFIX),
        Recipe::Task => format!("{}{name}", TaskQueue::PREFIX),
        _ => name.to_owned(),
    }
}

/// Somebody who holds something is killed or stopped while somebody else waits for it.
fn replace(url: &str, held: Recipe, wanted: Recipe, signal: Signal) {
    let scene = format!("{held:?} {signal:?}");
    let locks = LockManager::new(open(url)).unwrap();
    let name = format!("{held:?}-{signal:?}").to_lowercase();
    let names = match held {
        Recipe::Multi => vec![format!("{name}/b"), format!("{name}/a")],
        _ => vec![name.clone()],
    };
    let job = |recipe| Job { url: url.to_owned(), recipe, names: names.clone() };
    let mut first = Process::start(&job(held));
    let before = first.holds();
    let mut next = Process::start(&job(wanted));
    if !matches!(wanted, Recipe::Compaction | Recipe::Task) {
        let last = names.iter().min().unwrap();
        let waits = || block_on(locks.inspect(last.as_str())).unwrap().waiters.len() == 1;
        until(&format!("{scene}: the next one waits"), waits);
    }
    assert!(next.has_said_nothing(), "{scene}: the first one holds it");
    first.signal(signal);
    let now = next.holds();
    let after = Duration::from_nanos(now.since.saturating_sub(before.deadline));
    println!("{}: {scene}: the next one holds, {after:?} past the first deadline", locks.store());
    assert!(before.fence < now.fence, "{scene}: {before:?}, {now:?}");
    if signal == Signal::STOP {
        // Every renewal before the stop made that later.
        assert!(before.deadline <= now.since, "{scene}: {before:?}, {now:?}");
        first.signal(Signal::CONT);
        assert_eq!(first.ends(), "lost", "{scene}");
    }
    assert_eq!(next.ends(), "done", "{scene}");
    for name in &names {
        let name = lock_of(held, name);
        until(&format!("{scene}: {name} is free"), || is_free(&locks, &name));
    }
    only_what_the_next_one_did_counts(&locks, held, &name, now.fence);
}

fn only_what_the_next_one_did_counts(locks: &LockManager, held: Recipe, name: &str, fence: u64) {
    match held {
        Recipe::Checkpoint => {
            let finished = block_on(coordinator(locks, name).finished()).unwrap();
            let made: Vec<_> = finished.iter().map(|c| (c.sequence, c.fence.get())).collect();
            assert_eq!(made, [(1, fence)]);
        }
        Recipe::Task => {
            let done = block_on(TaskQueue::new(locks).unwrap().completion(name)).unwrap().unwrap();
            assert_eq!((done.attempt, done.fence.get()), (2, fence));
        }
        Recipe::Permits => {
            let semaphore = Semaphore::new(locks, name, PERMITS).unwrap();
            assert_eq!(block_on(semaphore.available()).unwrap(), PERMITS);
        }
        _ => {}
    }
}

/// Somebody who has one of two locks and waits for the other is killed or stopped.
fn half_way(url: &str, signal: Signal) {
    let scene = format!("half-way {signal:?}");
    let locks = LockManager::new(open(url)).unwrap();
    let [a, b] = ["a", "b"].map(|part| format!("half-way-{signal:?}/{part}").to_lowercase());
    let in_the_way = block_on(locks.acquire(b.as_str(), Duration::from_secs(60))).unwrap();
    let job = |names: &[&String]| Job {
        url: url.to_owned(),
        recipe: Recipe::Multi,
        names: names.iter().map(|name| (*name).clone()).collect(),
    };
    let waiters = |name: &str| block_on(locks.inspect(name)).unwrap().waiters.len();
    let mut first = Process::start(&job(&[&b, &a]));
    until(&format!("{scene}: it waits for the second"), || waiters(&b) == 1);
    let before = block_on(locks.inspect(a.as_str())).unwrap().fence;
    let mut next = Process::start(&job(&[&a]));
    until(&format!("{scene}: the next one waits for the first"), || waiters(&a) == 1);
    first.signal(signal);
    let now = next.holds();
    assert!(before.get() < now.fence, "{scene}: {before} {now:?}");
    if signal == Signal::STOP {
        first.signal(Signal::CONT);
        // It does not wait for the second any more when it has lost the first.
        assert_eq!(first.ends(), "lost", "{scene}");
        until(&format!("{scene}: it left the queue"), || waiters(&b) == 0);
    }
    assert_eq!(next.ends(), "done", "{scene}");
    block_on(in_the_way.release()).unwrap();
    for name in [&a, &b] {
        until(&format!("{scene}: {name} is free"), || is_free(&locks, name));
    }
}

fn is_free(locks: &LockManager, name: &str) -> bool {
    let view = block_on(locks.inspect(name)).unwrap();
    view.holders.is_empty() && view.waiters.is_empty()
}
