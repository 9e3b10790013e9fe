//! A lock that is taken from its holder by force while others wait for it.

use std::time::Duration;

use futures_lite::future::block_on;
use tenure_core::{ErrorKind, Fence};
use tenure_testkit::history::{Op, Phase, Promise};
use tenure_testkit::lock_taker::{Doing, Job};
use tenure_testkit::proxy::Fault;

use crate::stage::{
    Ground, LONG, SHORT, Stage, X, a_holder, a_waiter, assert_held, did, events_of, granted_at,
    pass, rules, until,
};

/// What a hand-over may take.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Ends the holder by force while another process waits. `cut_off` says whether the holder can hear
/// of it.
fn forced(cut_off: bool) {
    let stage = Stage::new();
    let operator = stage.bystander();
    let mut fleet = stage.fleet(0);
    let ttl = if cut_off { SHORT * 3 } else { LONG };
    let holder = a_holder(&mut fleet, stage.job(ttl));
    let waiter = a_waiter(&mut fleet, Job { ..stage.direct(ttl) });
    let view = block_on(operator.get_lock_info(X)).unwrap().unwrap();
    let wrong = Fence::new(view.fence.get() - 1);
    let refused = block_on(operator.force_release(X, Some(wrong), "an old fence")).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotHeld);
    assert_eq!(refused.holders()[0].fence, view.fence);
    if cut_off {
        stage.proxy.set_both(Fault::Stall);
    }
    let fence = view.fence.get();
    let invoked = fleet.eviction(X, fence, Phase::Invoke).unwrap();
    let ended = block_on(operator.force_release(X, Some(view.fence), "an operator's wish"));
    fleet.eviction(X, fence, Phase::Ok).unwrap();
    assert_eq!(ended.unwrap().len(), 1);
    fleet.until(&waiter, Doing::Holding).unwrap();
    if !cut_off {
        until("the old holder knows", || fleet.doing(&holder).unwrap() == Doing::Idle);
    }
    // Once more with the fence of before: it is another's lock now.
    let refused = block_on(operator.force_release(X, Some(view.fence), "too late")).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotHeld);
    pass(Duration::from_millis(200));
    assert_eq!(fleet.doing(&waiter).unwrap(), Doing::Holding);
    if cut_off {
        until("the old holder knows", || fleet.doing(&holder).unwrap() == Doing::Idle);
        stage.proxy.heal();
    }
    fleet.join(&holder).unwrap();
    let run = fleet.finish().unwrap();
    let handed = Duration::from_nanos(granted_at(&run, &waiter) - invoked);
    println!("handed over in {handed:?}, cut off: {cut_off}");
    assert!(handed < AT_ONCE, "{handed:?}");
    assert!(did(&run, &holder, Op::Lost, Phase::Ok));
    assert!(!did(&run, &waiter, Op::Lost, Phase::Ok));
    let fence_of = |proc| events_of(&run, proc).find_map(|event| event.fence).unwrap();
    assert!(fence_of(&holder) < fence_of(&waiter));
    drop(operator);
    let tried = [Promise::Loss, Promise::Release, Promise::Recovery];
    assert_held(&run, &rules(ttl), Some(&stage.left(Duration::ZERO)), &tried);
}

#[test]
fn a_holder_that_is_ended_by_force_is_told_and_the_next_in_line_gets_the_lock() {
    forced(false);
}

#[test]
fn a_holder_that_is_ended_by_force_and_hears_nothing_is_lost_at_its_deadline() {
    forced(true);
}
