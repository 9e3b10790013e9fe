//! A pooler that hands sessions of the server from one to the other.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use futures_lite::future::block_on;
use tenure_testkit::servers::postgres::{PgBouncer, PostgresServer};

use crate::stage::{LONG, acquire, manager_at, pass};

/// Many calls at once from a runtime that ends in the midst of them.
fn comes_and_goes(url: &str) {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
    let manager = manager_at(url);
    for n in 0..40 {
        let manager = manager.clone();
        runtime.spawn(async move {
            loop {
                if let Ok(Some(guard)) = manager.try_acquire(format!("brief-{n}"), LONG).await {
                    let _ = guard.release().await;
                }
            }
        });
    }
    pass(Duration::from_millis(40));
    runtime.shutdown_background();
}

#[test]
fn nobody_gets_the_answers_to_what_others_asked_before_they_were_gone() {
    let server = PostgresServer::start();
    let pooler =
        PgBouncer::start(&server, &[("pool_mode", "transaction"), ("default_pool_size", "2")]);
    let url = server.url_at(pooler.port());
    block_on(acquire(&manager_at(&url), "first", LONG).release()).unwrap();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let steady: Vec<_> = (0..2)
            .map(|n| {
                let (url, over) = (&url, &over);
                scope.spawn(move || {
                    let manager = manager_at(url);
                    let name = format!("steady-{n}");
                    let (mut rounds, mut fence) = (0, None);
                    while !over.load(Ordering::Relaxed) {
                        let guard = block_on(manager.try_acquire(&*name, LONG)).unwrap().unwrap();
                        assert!(fence < Some(guard.fencing_token()));
                        fence = Some(guard.fencing_token());
                        block_on(guard.release()).unwrap();
                        rounds += 1;
                    }
                    rounds
                })
            })
            .collect();
        for _ in 0..30 {
            comes_and_goes(&url);
        }
        over.store(true, Ordering::Relaxed);
        for one in steady {
            let rounds = one.join().unwrap();
            assert!(10 < rounds, "{rounds}");
        }
    });
}

#[test]
fn a_pooler_that_resets_its_sessions_after_each_transaction_costs_no_lock() {
    let server = PostgresServer::start();
    for mode in ["transaction", "session"] {
        let settings = [("pool_mode", mode), ("server_reset_query_always", "1")];
        let pooler = PgBouncer::start(&server, &settings);
        let url = server.url_at(pooler.port());
        let (one, two) = (manager_at(&url), manager_at(&url));
        let guard = acquire(&one, mode, LONG);
        assert!(block_on(two.try_acquire(mode, LONG)).unwrap().is_none());
        thread::scope(|scope| {
            let waits = scope.spawn(|| acquire(&two, mode, LONG));
            crate::stage::until_waiting(&one, mode, 1);
            block_on(guard.release()).unwrap();
            block_on(waits.join().unwrap().release()).unwrap();
        });
    }
}
