//! Who is told of what, and what becomes of those who are not.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use futures_lite::future::block_on;
use tenure_core::LockManager;
use tenure_core::backend::{Claim, DynBackend};
use tenure_core::{Details, LockName, Owner, Token};
use tenure_testkit::servers::postgres::{PgBouncer, PostgresServer};

use tenure_backend_postgres::LeaseBackend;

use crate::stage::{AT_ONCE, LONG, acquire, manager, manager_at, now, until, until_waiting};

/// Writes down who is told, instead of telling.
const WRITE_DOWN: &str = "
    CREATE TABLE tenure.told (message json);
    CREATE OR REPLACE FUNCTION tenure.tell(t tenure.turn, channel text, message json) RETURNS void
    LANGUAGE plpgsql AS $$ BEGIN
      IF channel <> '' AND NOT t.looks THEN
        INSERT INTO tenure.told VALUES (message);
        PERFORM pg_notify(split_part(channel, ':', 1), message::text);
      END IF;
    END $$;";

fn told(server: &PostgresServer) -> String {
    server.psql("SELECT message ->> 'name', json_object_keys(message) FROM tenure.told")
}

/// A lock that changes hands while somebody waits: how long it takes.
fn hand_over(from: &LockManager, to: &LockManager, name: &str) -> Duration {
    let guard = acquire(from, name, LONG);
    thread::scope(|scope| {
        let waits = scope.spawn(|| {
            let guard = acquire(to, name, LONG);
            (guard, now())
        });
        until_waiting(from, name, 1);
        let since = now();
        block_on(guard.release()).unwrap();
        let (guard, at) = waits.join().unwrap();
        block_on(guard.release()).unwrap();
        at.duration_since(since)
    })
}

#[test]
fn only_whoever_is_granted_the_lock_is_told_and_nobody_if_nobody_waits() {
    let server = PostgresServer::start();
    server.psql(&tenure_backend_postgres::install_sql("tenure"));
    server.psql(WRITE_DOWN);
    let (one, two) = (manager(&server), manager(&server));
    for name in ["a", "b"] {
        for manager in [&one, &two] {
            let guard = acquire(manager, name, LONG);
            assert!(block_on(manager.try_acquire(name, LONG)).unwrap().is_none());
            block_on(guard.release()).unwrap();
        }
    }
    assert_eq!(told(&server), "");
    let guard = acquire(&one, "a", LONG);
    thread::scope(|scope| {
        let first = scope.spawn(|| acquire(&two, "a", LONG));
        until_waiting(&one, "a", 1);
        let second = scope.spawn(|| acquire(&two, "a", LONG));
        until_waiting(&one, "a", 2);
        block_on(guard.release()).unwrap();
        let guard = first.join().unwrap();
        assert_eq!(told(&server), "a|name\na|granted\na|grant");
        block_on(guard.release()).unwrap();
        block_on(second.join().unwrap().release()).unwrap();
    });
    assert_eq!(server.psql("SELECT count(*) FROM tenure.told"), "2");
}

#[test]
fn a_waiter_is_handed_the_lock_within_a_few_messages() {
    let server = PostgresServer::start();
    let (one, two) = (manager(&server), manager(&server));
    hand_over(&one, &two, "x");
    let mut times: Vec<_> = (0..20).map(|_| hand_over(&one, &two, "x")).collect();
    times.sort_unstable();
    println!("hand-over: {:?} in the middle, {:?} at most", times[10], times[19]);
    assert!(times[10] < Duration::from_millis(40), "{times:?}");
}

#[test]
fn a_waiter_whose_listening_session_is_ended_hears_when_it_is_back() {
    let server = PostgresServer::start();
    let (one, two) = (manager(&server), manager(&server));
    hand_over(&one, &two, "x");
    let guard = acquire(&one, "x", LONG);
    thread::scope(|scope| {
        let waits = scope.spawn(|| acquire(&two, "x", LONG));
        until_waiting(&one, "x", 1);
        let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                   WHERE application_name = 'tenure listens'";
        assert_ne!(server.psql(end), "0");
        let since = now();
        block_on(guard.release()).unwrap();
        let guard = waits.join().unwrap();
        assert!(since.elapsed() < AT_ONCE, "{:?}", since.elapsed());
        block_on(guard.release()).unwrap();
    });
    let listens = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tenure listens'";
    until("both listen again", || server.psql(listens) == "2");
    hand_over(&one, &two, "x");
}

/// Whether a claim that waits will be told.
fn hears(url: &str) -> bool {
    let backend: Arc<dyn DynBackend> = Arc::new(LeaseBackend::open(url).unwrap());
    let details = Arc::new(Details::of(Owner::this_process()));
    let name = LockName::new("whoever waits").unwrap();
    let mut claim = Claim::new(name, Token::random(), LONG, details);
    claim.wait = true;
    block_on(backend.acquire(&claim)).unwrap();
    let hears = backend.watch(&claim, true);
    block_on(backend.withdraw(&claim)).unwrap();
    hears
}

#[test]
fn behind_a_transaction_pooler_waiters_ask_unless_there_is_a_direct_way_to_listen() {
    let server = PostgresServer::start();
    let pooler = PgBouncer::by_transaction(&server);
    let pooled = server.url_at(pooler.port());
    let listening = format!("{pooled}?listen={}", server.url());
    assert!(hears(&server.url()));
    assert!(!hears(&pooled));
    assert!(hears(&listening));
    let sessions = PgBouncer::start(&server, &[("pool_mode", "session")]);
    assert!(hears(&server.url_at(sessions.port())));
    // They get it all the same, without anybody being told.
    server.psql(WRITE_DOWN);
    let (one, two) = (manager_at(&pooled), manager_at(&pooled));
    let took = hand_over(&one, &two, "x");
    assert!(took < AT_ONCE * 3, "{took:?}");
    assert_eq!(told(&server), "");
    let (one, two) = (manager_at(&listening), manager_at(&listening));
    hand_over(&one, &two, "x");
    let took = hand_over(&one, &two, "x");
    println!("hand-over behind a pooler, told directly: {took:?}");
    assert!(took < AT_ONCE, "{took:?}");
    assert_ne!(told(&server), "");
}
