//! What networks do to sessions.

use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::block_on;
use tenure_core::backend::{Claim, Verdict};
use tenure_core::{Details, ErrorKind, LockManager, LockName, LossReason, Owner, Token};
use tenure_testkit::proxy::{Direction, Fault, FaultProxy};

use crate::stage::{LONG, Stage, X, acquire, attempt, look, now, until};

#[test]
fn an_acquire_whose_answer_is_lost_holds_nothing_that_nobody_knows_of() {
    let stage = Stage::new();
    let proxy = FaultProxy::start(stage.server.port());
    let (far, near) = (stage.manager_at(proxy.port()), stage.manager());
    drop(acquire(&far, "warm", LONG));
    block_on(far.close(LONG)).unwrap();
    for _ in 0..3 {
        proxy.lose_reply_to(b"B");
        let got = block_on(far.try_acquire(X, LONG));
        drop(got);
        block_on(far.close(Duration::from_secs(10))).unwrap();
        until("the lock is free", || stage.holding().is_empty());
        drop(attempt(&near, X).unwrap());
        until("the lock is free", || stage.holding().is_empty());
    }
}

#[test]
fn a_session_that_is_cut_off_is_lost_at_once_and_free_at_once() {
    let stage = Stage::new();
    let proxy = FaultProxy::start(stage.server.port());
    let (far, near) = (stage.manager_at(proxy.port()), stage.manager());
    let guard = acquire(&far, X, LONG);
    let start = now();
    proxy.cut();
    assert_eq!(block_on(guard.lost()), LossReason::SessionEnded);
    let next = acquire(&near, X, LONG);
    assert!(start.elapsed() < Duration::from_secs(2));
    assert!(guard.fencing_token() < next.fencing_token());
    drop(next);
    drop(acquire(&far, X, LONG));
}

#[test]
fn a_holder_behind_a_silent_network_is_lost_before_the_server_frees_its_lock() {
    let stage = Stage::new();
    let proxy = FaultProxy::start(stage.server.port());
    let (far, near) = (stage.manager_at(proxy.port()), stage.manager());
    let ttl = Duration::from_secs(2);
    let guard = acquire(&far, X, ttl);
    let start = now();
    proxy.set_both(Fault::Stall);
    let next = acquire(&near, X, LONG);
    let took = start.elapsed();
    assert!(!guard.is_valid(), "two hold at once");
    assert!(took < ttl + Duration::from_millis(1500), "{took:?}");
    assert!(matches!(
        block_on(guard.lost()),
        LossReason::StoreUnreachable | LossReason::Expired | LossReason::SessionEnded
    ));
    proxy.heal();
    drop(next);
    drop(acquire(&far, X, ttl));
}

#[test]
fn a_slow_network_loses_nothing() {
    let stage = Stage::new();
    let proxy = FaultProxy::start(stage.server.port());
    let far = stage.manager_at(proxy.port());
    // A renewal waits an eighth of the ttl for its answer, which takes up to 400 ms.
    let ttl = Duration::from_secs(5);
    let guard = acquire(&far, X, ttl);
    let slow = Fault::Delay { by: Duration::from_millis(100), jitter: Duration::from_millis(100) };
    proxy.set_both(slow);
    let start = now();
    until("more than a ttl passes", || ttl < start.elapsed());
    guard.check().unwrap();
    block_on(guard.release()).unwrap();
}

#[test]
fn what_no_server_says_is_an_error_and_no_lock() {
    let stage = Stage::new();
    let proxy = FaultProxy::start(stage.server.port());
    let far = stage.manager_at(proxy.port());
    let ttl = Duration::from_secs(2);
    for nonsense in [&b"\0\0\0\0\0\0\0\0"[..], b"HTTP/1.1 400 Bad Request\r\n\r\n", &[0xff; 64]] {
        drop(acquire(&far, X, ttl));
        block_on(far.close(LONG)).unwrap();
        proxy.replace_reply_to(b"B", nonsense);
        match block_on(far.lock(X).ttl(ttl).wait_timeout(Duration::from_secs(5)).acquire()) {
            // Another session was asked.
            Ok(guard) => drop(guard),
            Err(error) => assert!(
                matches!(error.kind(), ErrorKind::Unknown | ErrorKind::Unreachable),
                "{error:?}"
            ),
        }
        block_on(far.close(Duration::from_secs(10))).unwrap();
        proxy.set(Direction::ToClient, Fault::Pass);
        until("the lock is free", || stage.holding().is_empty());
    }
}

/// Whoever was not told that it waits gave up after a while, with its place at the server.
#[test]
fn a_wait_is_told_of_also_if_nobody_can_look_for_its_place() {
    let stage = Stage::new();
    let proxy = FaultProxy::start(stage.server.port());
    let backend = tenure_backend_postgres::open(&stage.url_at(proxy.port())).unwrap();
    let (far, near) = (LockManager::new(backend.clone()).unwrap(), stage.manager());
    // It has a session to wait with afterwards, and the one that looks.
    let guard = acquire(&near, X, LONG);
    std::thread::scope(|scope| {
        let next = scope.spawn(|| acquire(&far, X, LONG));
        until("it waits", || !look(&near, X).waiters.is_empty());
        block_on(guard.release()).unwrap();
        block_on(next.join().unwrap().release()).unwrap();
    });
    let guard = acquire(&near, X, LONG);
    proxy.refuse();
    let looked = "from pg_stat_activity where application_name like 'tenure/%' \
                  and query ~ 'pg_stat_activity a|pg_notify|listen'";
    stage.server.psql(&format!("select pg_terminate_backend(pid, 5000) {looked}"));
    let details = Arc::new(Details::of(Owner::this_process()));
    let name = LockName::new(X).unwrap();
    let mut claim = Claim::new(name, Token::random(), LONG, details);
    claim.wait = true;
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| block_on(backend.acquire(&claim)));
        until("it is told that it waits", || waits.is_finished());
        let told = waits.join().unwrap();
        assert!(matches!(told, Ok(Verdict::Queued(_))), "{told:?}");
        proxy.accept();
    });
    block_on(backend.withdraw(&claim)).unwrap();
    block_on(guard.release()).unwrap();
    drop(acquire(&far, X, LONG));
}
