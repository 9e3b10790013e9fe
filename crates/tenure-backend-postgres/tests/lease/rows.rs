//! Somebody with `psql` who sits on the row of a lock, in a transaction that goes on.

use std::time::Duration;

use futures_lite::future::block_on;
use futures_util::future::join_all;
use tenure_core::{ErrorKind, LockManager};
use tenure_testkit::servers::postgres::PostgresServer;

use crate::stage::{AT_ONCE, LONG, PATIENCE, Psql, acquire, manager, now, pass, until};

/// How long whoever asks for that very lock is kept.
const KEPT: Duration = Duration::from_secs(10);

/// Takes and gives back many other locks at once, which holds nobody up.
fn nobody_is_held_up(manager: &LockManager) {
    let since = now();
    let cycle = async |n: usize| {
        let guard = manager.acquire(format!("other-{n:02}"), LONG).await.unwrap();
        guard.release().await.unwrap();
    };
    block_on(join_all((0..40).map(cycle)));
    assert!(since.elapsed() < AT_ONCE, "{:?}", since.elapsed());
}

fn is_kept_waiting(manager: &LockManager, name: &str) {
    let since = now();
    let error = block_on(manager.try_acquire(name, LONG)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    assert!(error.to_string().contains("another transaction"), "{error}");
    assert!(error.help().is_some());
    assert!(since.elapsed() < KEPT, "{:?}", since.elapsed());
}

#[test]
fn a_transaction_that_sits_on_the_row_of_a_lock_holds_up_nobody_who_asks_for_another() {
    let server = PostgresServer::start();
    let (manager, mut psql) = (manager(&server), Psql::start(&server));
    nobody_is_held_up(&manager);
    block_on(acquire(&manager, "stuck", LONG).release()).unwrap();
    psql.run("BEGIN; SELECT FROM tenure.acquire('stuck');");
    // All of them at once, so that they share statements with the one that cannot be.
    let stuck = std::thread::scope(|scope| {
        let stuck = scope.spawn(|| is_kept_waiting(&manager, "stuck"));
        while !stuck.is_finished() {
            nobody_is_held_up(&manager);
        }
        stuck.join()
    });
    stuck.unwrap();
    psql.run("ROLLBACK;");
    let guard = block_on(manager.try_acquire("stuck", LONG)).unwrap().expect("it was rolled back");
    block_on(guard.release()).unwrap();
}

#[test]
fn a_transaction_that_makes_a_row_holds_up_nobody_who_asks_for_another() {
    let server = PostgresServer::start();
    let (manager, mut psql) = (manager(&server), Psql::start(&server));
    nobody_is_held_up(&manager);
    psql.run("BEGIN; SELECT FROM tenure.acquire('new');");
    std::thread::scope(|scope| {
        let stuck = scope.spawn(|| is_kept_waiting(&manager, "new"));
        while !stuck.is_finished() {
            nobody_is_held_up(&manager);
        }
        stuck.join().unwrap();
    });
    psql.run("COMMIT;");
    assert!(block_on(manager.try_acquire("new", LONG)).unwrap().is_none());
}

#[test]
fn whoever_waits_for_a_lock_gets_it_when_the_transaction_that_sits_on_it_is_over() {
    let server = PostgresServer::start();
    let (manager, mut psql) = (manager(&server), Psql::start(&server));
    block_on(acquire(&manager, "stuck", LONG).release()).unwrap();
    psql.run("BEGIN; SELECT FROM tenure.acquire('stuck');");
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| acquire(&manager, "stuck", LONG));
        // Longer than any statement waits for a row.
        pass(Duration::from_secs(2));
        psql.run("ROLLBACK;");
        block_on(waits.join().unwrap().release()).unwrap();
    });
}

#[test]
fn a_lease_on_whose_row_somebody_sits_is_renewed_when_that_is_over_and_others_all_the_while() {
    let server = PostgresServer::start();
    let (manager, mut psql) = (manager(&server), Psql::start(&server));
    let ttl = Duration::from_secs(6);
    let guards: Vec<_> =
        ["a", "b", "c", "stuck", "x", "y"].map(|name| acquire(&manager, name, ttl)).into();
    psql.run("BEGIN; SELECT FROM tenure.cell WHERE name = 'stuck' FOR UPDATE;");
    let before: Vec<_> = guards.iter().map(|guard| guard.deadlines().0).collect();
    let is_renewed = |n: usize| before[n] < guards[n].deadlines().0;
    until("all others are renewed", || [0, 1, 2, 4, 5].into_iter().all(is_renewed));
    assert!(!is_renewed(3));
    psql.run("ROLLBACK;");
    until("it is renewed", || is_renewed(3));
    for guard in guards {
        block_on(guard.release()).unwrap();
    }
}

#[test]
fn a_lease_on_whose_row_somebody_sits_for_longer_than_its_ttl_is_lost_in_time() {
    let server = PostgresServer::start();
    let (manager, mut psql) = (manager(&server), Psql::start(&server));
    let ttl = Duration::from_secs(2);
    let guards = ["a", "stuck"].map(|name| acquire(&manager, name, ttl));
    psql.run("BEGIN; SELECT FROM tenure.cell WHERE name = 'stuck' FOR UPDATE;");
    let since = now();
    let lost = block_on(guards[1].lost());
    assert!(since.elapsed() < ttl + AT_ONCE, "{:?}", since.elapsed());
    assert_eq!(lost.as_str(), "store_unreachable");
    guards[0].check().unwrap();
    psql.run("ROLLBACK;");
    let again = block_on(manager.lock("stuck").ttl(LONG).wait_timeout(PATIENCE).acquire()).unwrap();
    block_on(again.release()).unwrap();
}
