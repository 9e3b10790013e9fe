//! What lies between a process and its server: cuts, lost replies, delays, and connections that end
//! in the midst of a word.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use futures_lite::future::block_on;
use tenure_core::{ErrorKind, LockGuard, LockManager, LockName};
use tenure_testkit::faults::network::two;
use tenure_testkit::proxy::{Direction, End, Fault};

use crate::stage::{Ground, LONG, PATIENCE, SHORT, Stage, X, acquire, backend, now, pass, until};

/// Acquires the lock, and says when it was heard that it has a place in the queue.
fn acquire_telling(manager: &LockManager, ttl: Duration, queued: &Arc<AtomicBool>) -> LockGuard {
    let queued = queued.clone();
    let request = manager.lock(X).ttl(ttl).wait_timeout(PATIENCE);
    block_on(request.on_wait(move |_, _| queued.store(true, Ordering::Relaxed)).acquire()).unwrap()
}

#[test]
fn a_hand_over_whose_message_is_late_is_held_for_as_long_as_it_lasts_at_the_server() {
    let stage = Stage::new();
    let (near, far) = two(&stage);
    let queued = Arc::default();
    // Longer than a waiter has to pick up what it was handed.
    for late in [SHORT / 2, SHORT * 2] {
        let guard = acquire(&near, X, LONG);
        thread::scope(|scope| {
            let waits = scope.spawn(|| acquire_telling(&far, SHORT, &queued));
            until("it waits", || queued.swap(false, Ordering::Relaxed));
            stage.proxy.set(Direction::ToClient, Fault::Stall);
            block_on(guard.release()).unwrap();
            pass(late);
            stage.proxy.heal();
            let got = waits.join().unwrap();
            got.check().unwrap();
            let holder = block_on(near.get_lock_info(X)).unwrap().expect("somebody holds it");
            assert_eq!(holder.fence, got.fencing_token());
            block_on(got.release()).unwrap();
        });
    }
}

#[test]
fn a_server_that_nobody_listens_for_is_an_error_within_seconds() {
    let stage = Stage::new();
    stage.proxy.refuse();
    let manager = stage.manager();
    let since = now();
    let error = block_on(manager.try_acquire(X, LONG)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    assert!(error.help().is_some(), "{error}");
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
}

#[test]
fn a_call_does_not_wait_for_ever_whose_answer_is_lost_behind_that_of_another() {
    let stage = Stage::new();
    let backend = backend(&stage.url());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let name = LockName::new(X).unwrap();
        let received = || stage.proxy.counts().of(Direction::ToClient).arrived;
        backend.inspect(&name).await.unwrap();
        let before = received();
        backend.inspect(&name).await.unwrap();
        // From now on one answer arrives, and nothing after it.
        let bytes = received() - before;
        let fault = Fault::After { bytes, end: End::Silence };
        stage.proxy.set(Direction::ToClient, fault);
        let both = async { tokio::join!(backend.inspect(&name), backend.inspect(&name)) };
        let (first, second) = tokio::time::timeout(PATIENCE, both).await.expect("both end");
        first.unwrap();
        assert_eq!(second.unwrap_err().kind(), ErrorKind::Unknown);
    });
}
