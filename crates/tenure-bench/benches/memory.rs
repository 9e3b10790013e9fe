//! The memory store: what the core itself costs.

use std::sync::Arc;
use std::time::Duration;

use tenure::LockManager;
use tenure::memory::MemoryBackend;
use tenure_bench::{Times, now, resident};

const TTL: Duration = Duration::from_secs(30);

fn main() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    uncontended(&runtime);
    distinct_names(&runtime);
    hand_over(&runtime);
    many_leases(&runtime);
}

fn manager() -> LockManager {
    LockManager::new(Arc::new(MemoryBackend::new())).expect("a manager")
}

fn uncontended(runtime: &tokio::runtime::Runtime) {
    let locks = manager();
    let mutex = tokio::sync::Mutex::new(());
    runtime.block_on(async {
        let mut floor = Times::new("floor: tokio::sync::Mutex");
        let mut ours = Times::new("memory: acquire + release, one task");
        for _ in 0..200_000 {
            let before = now();
            drop(mutex.lock().await);
            floor.add(before.elapsed());
            let before = now();
            locks.acquire("x", TTL).await.expect("free").release().await.expect("held");
            ours.add(before.elapsed());
        }
        println!("{floor}\n{}", ours.beside(&floor));
    });
}

fn distinct_names(runtime: &tokio::runtime::Runtime) {
    const CYCLES: u32 = 500_000;
    let locks = manager();
    let before = now();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..2)
            .map(|task| {
                let locks = locks.clone();
                runtime.spawn(async move {
                    let name = tenure::LockName::new(format!("task {task}")).expect("a name");
                    for _ in 0..CYCLES {
                        locks
                            .acquire(&name, TTL)
                            .await
                            .expect("free")
                            .release()
                            .await
                            .expect("held");
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("it ends");
        }
    });
    let rate = f64::from(2 * CYCLES) / before.elapsed().as_secs_f64();
    println!(
        "{:<52} {:.2} M cycles/s on 2 threads",
        "memory: acquire + release, distinct names",
        rate / 1e6
    );
}

fn hand_over(runtime: &tokio::runtime::Runtime) {
    let locks = manager();
    let mut times = Times::new("memory: hand-over to a waiter in the same process");
    runtime.block_on(async {
        for _ in 0..20_000 {
            let guard = locks.acquire("x", TTL).await.expect("free");
            let waiter = {
                let locks = locks.clone();
                runtime.spawn(async move {
                    let guard = locks.acquire("x", TTL).await.expect("handed over");
                    let at = now();
                    guard.release().await.expect("held");
                    at
                })
            };
            while locks.inspect("x").await.expect("there").waiters.is_empty() {
                tokio::task::yield_now().await;
            }
            let before = now();
            guard.release().await.expect("held");
            let at = waiter.await.expect("it ends");
            times.add(at.saturating_duration_since(before));
        }
    });
    println!("{times}");
}

fn many_leases(runtime: &tokio::runtime::Runtime) {
    const LEASES: u64 = 100_000;
    let locks = manager();
    let names: Vec<_> =
        (0..LEASES).map(|n| tenure::LockName::new(format!("lease {n}")).expect("a name")).collect();
    let before = resident();
    let guards = runtime.block_on(async {
        let mut guards = Vec::with_capacity(names.len());
        for name in &names {
            guards.push(locks.acquire(name, TTL).await.expect("free"));
        }
        guards
    });
    let each = (resident() - before) / LEASES;
    println!("{:<52} {each} bytes each", "memory: 100,000 leases held, resident");
    drop(guards);
}
