//! What lies between a process and its server: answers and requests that are lost, and cuts.

use futures_lite::future::block_on;
use tenure_core::{LockManager, NotReleased};
use tenure_testkit::proxy::{Direction, Fault, FaultProxy};

use crate::stage::{AT_ONCE, LONG, PATIENCE, SHORT, Stage, X, acquire, now, until};

/// Two managers, one behind the proxy, both connected.
fn two(stage: &Stage) -> (LockManager, LockManager) {
    let (near, far) = (stage.bystander(), stage.manager());
    for manager in [&near, &far] {
        block_on(acquire(manager, X, LONG).release()).unwrap();
    }
    (near, far)
}

fn loses_one(stage: &Stage, lose: impl Fn(&FaultProxy), act: impl FnOnce()) {
    let before = stage.proxy.counts().lost;
    lose(&stage.proxy);
    act();
    stage.proxy.wait_until(PATIENCE, |counts| counts.lost == before + 1);
}

/// Both ways to lose a turn.
const LOSSES: [fn(&FaultProxy, &[u8]); 2] =
    [FaultProxy::lose_reply_to, FaultProxy::lose_request_with];

#[test]
fn an_acquire_whose_answer_is_lost_leaves_nothing_behind() {
    let stage = Stage::new();
    let (near, far) = two(&stage);
    for lose in LOSSES {
        loses_one(
            &stage,
            |proxy| lose(proxy, b"claim_many"),
            || {
                let error = block_on(far.try_acquire(X, LONG)).unwrap_err();
                assert!(error.kind().is_transient(), "{error}");
            },
        );
        let since = now();
        block_on(acquire(&near, X, LONG).release()).unwrap();
        assert!(since.elapsed() < AT_ONCE * 2, "{:?}", since.elapsed());
        block_on(acquire(&far, X, LONG).release()).unwrap();
    }
}

#[test]
fn a_renewal_whose_answer_is_lost_is_sent_again() {
    let stage = Stage::new();
    let (_near, far) = two(&stage);
    for lose in LOSSES {
        let guard = acquire(&far, X, SHORT * 3);
        let fence = guard.fencing_token();
        loses_one(&stage, |proxy| lose(proxy, b"renew_many"), || ());
        let deadline = guard.deadlines().0;
        until("it is renewed", || deadline < guard.deadlines().0);
        guard.check().unwrap();
        assert_eq!(guard.fencing_token(), fence);
        block_on(guard.release()).unwrap();
    }
}

#[test]
fn a_release_whose_answer_is_lost_frees_the_lock_and_tells_the_truth() {
    let stage = Stage::new();
    let (near, far) = two(&stage);
    for lose in LOSSES {
        let guard = acquire(&far, X, LONG);
        loses_one(
            &stage,
            |proxy| lose(proxy, b"release_many"),
            || {
                let released = block_on(guard.release());
                let truth = matches!(&released, Ok(()) | Err(NotReleased::Unknown { .. }));
                assert!(truth, "{released:?}");
            },
        );
        let since = now();
        block_on(acquire(&near, X, LONG).release()).unwrap();
        assert!(since.elapsed() < AT_ONCE * 2, "{:?}", since.elapsed());
    }
}

#[test]
fn a_hand_over_whose_message_is_lost_is_found_out_by_whoever_it_was_for() {
    let stage = Stage::new();
    let (near, far) = two(&stage);
    let guard = acquire(&near, X, LONG);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| acquire(&far, X, LONG));
        until("it waits", || !block_on(near.inspect(X)).unwrap().waiters.is_empty());
        stage.proxy.set(Direction::ToClient, Fault::Swallow);
        block_on(guard.release()).unwrap();
        let since = now();
        stage.proxy.heal();
        let got = waits.join().unwrap();
        println!("found out after {:?}", since.elapsed());
        assert!(since.elapsed() < AT_ONCE * 2, "{:?}", since.elapsed());
        got.check().unwrap();
        block_on(got.release()).unwrap();
    });
}

#[test]
fn a_guard_that_is_dropped_while_the_way_is_cut_is_released_when_it_is_whole_again() {
    let stage = Stage::new();
    let (near, far) = two(&stage);
    let guard = acquire(&far, X, LONG);
    stage.proxy.refuse();
    stage.proxy.cut();
    drop(guard);
    assert!(block_on(near.is_locked(X)).unwrap());
    stage.proxy.heal();
    let since = now();
    block_on(acquire(&near, X, LONG).release()).unwrap();
    assert!(since.elapsed() < AT_ONCE * 4, "{:?}", since.elapsed());
}
