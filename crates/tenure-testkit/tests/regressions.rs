//! Bugs that were found once, each with the test that shows it gone. Those that a store can show
//! by itself are rules of the conformance suite.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::{block_on, poll_once, yield_now};
use futures_util::future::join;
use tenure_backend_memory::{Failure, MemoryBackend, Operation};
use tenure_core::backend::{
    Backend, Claim, Evicted, Eviction, Grant, Kept, LeaseRef, Member, Reason, Release, Renewal,
    Verdict,
};
use tenure_core::clock::{Clock, SystemClock, TestClock};
use tenure_core::register::RegisterBackend;
use tenure_core::{
    ClaimId, Details, ErrorKind, LockManager, LockName, LossReason, NotReleased, Owner, Seats,
    Token, Wakes,
};
use tenure_testkit::cancel::Yielding;
use tenure_testkit::scripted_register::{Call, Fault, Judge, ScriptedRegister};

const TTL: Duration = Duration::from_secs(30);

fn name() -> LockName {
    LockName::new("x").unwrap()
}

fn claim(seats: Seats) -> Claim {
    let details = Arc::new(Details::of(Owner::this_process()));
    let mut claim = Claim::new(name(), Token::random(), TTL, details);
    claim.seats = seats;
    claim
}

fn waiting(mut claim: Claim) -> Claim {
    claim.wait = true;
    claim
}

fn member(claim: &Claim, grant: Grant) -> Member {
    Member::new(claim.name.clone(), claim.token.clone(), claim.ttl, Some(grant.fence))
}

fn lease(claim: &Claim, grant: Grant) -> LeaseRef {
    LeaseRef::new(claim.name.clone(), claim.token.clone(), grant.fence)
}

async fn granted(backend: &impl Backend, claim: &Claim) -> Grant {
    match backend.acquire(claim).await.unwrap() {
        Verdict::Granted(grant) => grant,
        other => panic!("{other:?}"),
    }
}

/// A manager on a clock that stands still, its clock and its store.
fn still() -> (LockManager, TestClock, Arc<MemoryBackend>) {
    let clock = TestClock::new();
    let backend = Arc::new(MemoryBackend::with_clock(clock.clone()));
    let manager = LockManager::builder(backend.clone()).clock(clock.clone()).build().unwrap();
    (manager, clock, backend)
}

/// A store judged by observers whose clock stands still.
fn observed() -> (ScriptedRegister, TestClock) {
    let clock = TestClock::new();
    let register =
        ScriptedRegister::with_clock(Judge::Observers, Wakes::Push, Arc::new(clock.clone()));
    (register, clock)
}

/// Lets a still clock tick until `future` ends.
async fn ticking<T>(clock: &TestClock, tick: Duration, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    for _ in 0..20_000 {
        if let Some(output) = poll_once(future.as_mut()).await {
            return output;
        }
        // Real time, for the keeper's thread to do what is due.
        SystemClock.sleep_until(SystemClock.now().plus(Duration::from_millis(1))).await;
        clock.advance(tick);
    }
    panic!("it never ends");
}

/// It said "free after 0.0 s" of a lease that had never been renewed.
#[tokio::test]
async fn an_unknown_release_before_the_first_renewal_says_how_long_the_lease_can_last() {
    let (locks, clock, backend) = still();
    let guard = locks.acquire("x", TTL).await.unwrap();
    clock.advance(Duration::from_secs(1));
    backend.failures().once(Operation::Release, Failure::LostRequest);
    let released = guard.release().await;
    let Err(NotReleased::Unknown { within, .. }) = released else { panic!("{released:?}") };
    assert!(TTL - Duration::from_secs(1) <= within, "{within:?}");
}

/// A renewal whose answer was lost may have arrived, and the lease lasts from then.
#[tokio::test]
async fn an_unknown_release_counts_renewals_whose_answers_were_lost() {
    let (locks, clock, backend) = still();
    let mut guard = locks.lock("x").ttl(TTL).auto_renew(false).acquire().await.unwrap();
    clock.advance(Duration::from_secs(20));
    backend.failures().once(Operation::Renew, Failure::LostReply);
    assert_eq!(guard.extend(TTL).await.unwrap_err().kind(), ErrorKind::Unknown);
    backend.failures().once(Operation::Release, Failure::LostRequest);
    let Err(NotReleased::Unknown { within, .. }) = guard.release().await else { panic!() };
    assert!(TTL <= within, "{within:?}");
}

/// An upgrade on a store that hangs never came back, whatever its wait timeout was.
#[tokio::test]
async fn an_upgrade_on_a_store_that_hangs_ends() {
    let (locks, clock, backend) = still();
    let mut guard = locks.lock("x").ttl(TTL).shared().acquire().await.unwrap();
    backend.failures().always(Operation::Acquire, Failure::Hang);
    let upgrade = guard.upgrade(Some(Duration::from_secs(1)));
    let upgraded = ticking(&clock, Duration::from_millis(10), upgrade).await;
    assert_eq!(upgraded.unwrap_err().kind(), ErrorKind::Unreachable);
    assert!(guard.is_valid() && !guard.seats().is_all());
}

/// Nor did it notice that the lock was lost meanwhile.
#[tokio::test]
async fn an_upgrade_ends_when_its_lock_is_lost() {
    let (locks, clock, backend) = still();
    let request = locks.lock("x").ttl(Duration::from_secs(5)).shared().auto_renew(false);
    let mut guard = request.acquire().await.unwrap();
    backend.failures().always(Operation::Acquire, Failure::Hang);
    let upgraded = ticking(&clock, Duration::from_millis(10), guard.upgrade(None)).await;
    assert_eq!(upgraded.unwrap_err().kind(), ErrorKind::Lost);
}

/// The keeper looked again only when the longer ttl was due.
#[tokio::test]
async fn a_ttl_that_was_shortened_with_a_lost_answer_is_told_in_time() {
    let (locks, clock, backend) = still();
    let mut guard = locks.lock("x").ttl(TTL).auto_renew(false).acquire().await.unwrap();
    backend.failures().once(Operation::Renew, Failure::LostReply);
    let shortened = guard.extend(Duration::from_secs(1)).await;
    assert_eq!(shortened.unwrap_err().kind(), ErrorKind::Unknown);
    let (deadline, _) = guard.deadlines();
    let lost = ticking(&clock, Duration::from_millis(10), guard.lost()).await;
    assert_eq!(lost, LossReason::Expired);
    assert!(clock.now().since(deadline) < Duration::from_millis(500));
}

/// And a lease that renews itself went by the longer ttl, and was lost for no other reason.
#[tokio::test]
async fn a_ttl_that_was_shortened_with_a_lost_answer_is_renewed_in_time() {
    let (register, clock) = observed();
    let backend = Arc::new(register.backend());
    let locks = LockManager::builder(backend).clock(clock.clone()).build().unwrap();
    let mut guard = locks.acquire("x", TTL).await.unwrap();
    register.faults().once(Call::Beat, Fault::LostReply);
    let shortened = guard.extend(Duration::from_secs(2)).await;
    assert_eq!(shortened.unwrap_err().kind(), ErrorKind::Unknown);
    let several = async {
        while locks.metrics().renewals < 3 && guard.is_valid() {
            yield_now().await;
        }
    };
    ticking(&clock, Duration::from_millis(5), several).await;
    guard.check().unwrap();
    guard.release().await.unwrap();
}

/// A second turn after an unknown swap ended the waiter that the first had granted the lock to.
#[test]
fn an_unknown_eviction_of_all_does_not_end_the_next_holder() {
    block_on(async {
        let register = ScriptedRegister::new(Judge::StoreClock);
        let backend = register.backend();
        let (holder, waiter) = (claim(Seats::All), waiting(claim(Seats::All)));
        granted(&backend, &holder).await;
        assert!(matches!(backend.acquire(&waiter).await.unwrap(), Verdict::Queued(_)));
        register.faults().once(Call::Swap, Fault::LostReply);
        let reason = Reason::new("an operator".into(), "why not").unwrap();
        let all = Eviction { only_if: None, stolen: false, reason };
        match backend.evict(&name(), &all).await {
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unknown),
            Ok(Evicted::Done(victims)) => assert_eq!(victims[0].member, holder.member),
            Ok(other) => panic!("{other:?}"),
        }
        let view = backend.inspect(&name()).await.unwrap();
        assert_eq!(view.holders.iter().map(|h| h.member).collect::<Vec<_>>(), [waiter.member]);
    });
}

/// Nobody told the waiter, which had to find out at its next refresh.
#[tokio::test]
async fn a_release_whose_answer_was_lost_wakes_the_waiter_all_the_same() {
    for judge in [Judge::StoreClock, Judge::Observers] {
        let register = ScriptedRegister::new(judge);
        let process = || LockManager::new(Arc::new(register.backend())).unwrap();
        let (a, b) = (process(), process());
        let guard = a.acquire("x", TTL).await.unwrap();
        let release = async {
            while a.inspect("x").await.unwrap().waiters.is_empty() {
                yield_now().await;
            }
            register.faults().once(Call::Swap, Fault::LostReply);
            guard.release().await.unwrap();
            SystemClock.now()
        };
        let wait = async {
            let guard = b.acquire("x", TTL).await.unwrap();
            (guard, SystemClock.now())
        };
        let (released, (guard, granted)) = join(release, wait).await;
        assert!(granted.since(released) < Duration::from_millis(600));
        guard.release().await.unwrap();
    }
}

/// Only the first 32 holders were looked at: a dead one behind them held its seats for ever.
#[test]
fn a_dead_holder_among_many_is_found() {
    block_on(async {
        let (register, clock) = observed();
        let (holders, observer) = (register.backend(), register.backend());
        let seats = Seats::permits(1, 50).unwrap();
        let claims: Vec<_> = (0..50).map(|_| claim(seats)).collect();
        let mut grants = Vec::new();
        for claim in &claims {
            grants.push(granted(&holders, claim).await);
        }
        let dead = 45;
        let next = waiting(claim(seats));
        for _ in 0..20 {
            clock.advance(Duration::from_secs(6));
            for (n, (claim, grant)) in claims.iter().zip(&grants).enumerate() {
                if n != dead {
                    let renewed = holders.renew(&[member(claim, *grant)]).await.remove(0);
                    assert!(matches!(renewed, Renewal::Kept(_)), "{renewed:?}");
                }
            }
            // No sign but that of the waiter itself, or its own end would be a reason to look on.
            let waits = Member::new(name(), next.token.clone(), TTL, None);
            observer.renew(&[waits]).await;
            if let Verdict::Granted(_) = observer.acquire(&next).await.unwrap() {
                return;
            }
        }
        panic!("the dead holder was not found in {:?}", TTL * 4);
    });
}

/// The renewal that picks a lease up looked whether it was still listed, and an observer that had
/// just found it dead took it away afterwards: both held.
#[test]
fn a_lease_is_not_picked_up_while_an_observer_is_ending_it() {
    block_on(async {
        let (register, clock) = observed();
        let (process, observer) = (register.backend(), register.backend());
        let (first, late) = (claim(Seats::All), waiting(claim(Seats::All)));
        let grant = granted(&process, &first).await;
        assert!(matches!(process.acquire(&late).await.unwrap(), Verdict::Queued(_)));
        process.release(&lease(&first, grant), None).await.unwrap();
        let other = waiting(claim(Seats::All));
        assert!(matches!(observer.acquire(&other).await.unwrap(), Verdict::Queued(_)));
        clock.advance(late.pick_up * 2);
        // The observer has read the old sign of life, and is about to swap.
        register.faults().once(Call::Swap, Fault::Slow(Duration::from_secs(1)));
        let mut ending = pin!(observer.acquire(&other));
        assert!(poll_once(ending.as_mut()).await.is_none());
        let grant = granted(&process, &late).await;
        // As the manager picks a lease up.
        let pick_up = member(&late, grant).changed(late.ttl, false);
        let picked_up = process.renew(&[pick_up]).await.remove(0);
        clock.advance(Duration::from_secs(1));
        let verdict = ending.await.unwrap();
        let kept = matches!(picked_up, Renewal::Kept(Kept::Holding(_)));
        let taken = matches!(verdict, Verdict::Granted(_));
        assert!(kept != taken, "picked up: {picked_up:?}, and taken: {verdict:?}");
    });
}

/// After an upgrade the record went on saying "handed over": the holder was judged by the short
/// term until a sign of life carried its new fence.
#[test]
fn an_upgrade_of_a_lock_that_was_handed_over_lives_for_its_ttl() {
    block_on(async {
        let (register, clock) = observed();
        let (process, observer) = (register.backend(), register.backend());
        let (writer, reader) = (claim(Seats::All), waiting(claim(Seats::SHARED)));
        let grant = granted(&process, &writer).await;
        assert!(matches!(process.acquire(&reader).await.unwrap(), Verdict::Queued(_)));
        process.release(&lease(&writer, grant), None).await.unwrap();
        let grant = granted(&process, &reader).await;
        let renewed = process.renew(&[member(&reader, grant)]).await.remove(0);
        assert!(matches!(renewed, Renewal::Kept(Kept::Holding(_))), "{renewed:?}");
        let mut upgrade = reader.clone();
        upgrade.id = ClaimId::random();
        upgrade.upgrade = true;
        granted(&process, &upgrade).await;
        let other = waiting(claim(Seats::All));
        for _ in 0..9 {
            let verdict = observer.acquire(&other).await.unwrap();
            assert!(matches!(verdict, Verdict::Queued(_)), "{verdict:?}");
            clock.advance(Duration::from_secs(1));
        }
    });
}

/// The grant that was pushed before an eviction made a guard of what was over already.
#[tokio::test]
async fn a_waiter_that_was_granted_and_evicted_asks_anew() {
    let backend = Arc::new(MemoryBackend::new());
    let process = || LockManager::new(backend.clone()).unwrap();
    let (a, b) = (process(), process());
    let guard = a.acquire("x", TTL).await.unwrap();
    let mut wait = pin!(b.acquire("x", TTL));
    assert!(poll_once(wait.as_mut()).await.is_none());
    guard.release().await.unwrap();
    let evicted = a.force_release("x", None, "it is in the way").await.unwrap();
    let guard = wait.await.unwrap();
    assert!(evicted[0].fence < guard.fencing_token());
    assert!(guard.is_valid());
    guard.release().await.unwrap();
}

/// Waiters that poll slept longer than the term in which they had to pick the lock up, and lost
/// it to those behind them.
#[tokio::test]
async fn waiters_with_short_leases_that_poll_are_served_in_their_order() {
    let register = ScriptedRegister::polled(Judge::StoreClock);
    let process = || LockManager::new(Arc::new(register.backend())).unwrap();
    let look = process();
    let short = Duration::from_millis(500);
    let guard = look.acquire("x", TTL).await.unwrap();
    let served = std::cell::RefCell::new(Vec::new());
    let waiter = |n: usize| {
        let (locks, look, served) = (process(), &look, &served);
        async move {
            while look.inspect("x").await.unwrap().waiters.len() < n {
                yield_now().await;
            }
            let guard = locks.acquire("x", short).await.unwrap();
            served.borrow_mut().push(n);
            guard.release().await.unwrap();
        }
    };
    let release = async {
        while look.inspect("x").await.unwrap().waiters.len() < 5 {
            yield_now().await;
        }
        // By now they poll as seldom as they ever do.
        SystemClock.sleep_until(SystemClock.now().plus(Duration::from_secs(2))).await;
        guard.release().await.unwrap();
    };
    join(futures_util::future::join_all((0..5).map(waiter)), release).await;
    assert_eq!(*served.borrow(), [0, 1, 2, 3, 4]);
}

/// Seats put together by hand made a record that nobody could read any more.
#[tokio::test]
async fn seats_that_nobody_can_hold_do_not_spoil_the_record() {
    let register = ScriptedRegister::new(Judge::StoreClock);
    let locks = LockManager::new(Arc::new(register.backend())).unwrap();
    let nothing = locks.lock("x").seats(Seats::Some { take: 0, of: 3 }).acquire().await;
    assert_eq!(nothing.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(register.record(&name()), None, "nothing was sent");
    locks.acquire("x", TTL).await.unwrap().release().await.unwrap();
}

/// A downgrade that nobody knew the outcome of landed after the next upgrade, and let others in
/// beside a guard that said "exclusive".
#[tokio::test]
async fn a_downgrade_that_lands_late_does_not_undo_the_next_upgrade() {
    for upgraded_before in [false, true] {
        let yielding = Arc::new(Yielding::new(Arc::new(MemoryBackend::new())));
        let locks = LockManager::new(yielding.clone()).unwrap();
        let request = locks.lock("x").ttl(TTL);
        let request = if upgraded_before { request.shared() } else { request };
        let mut guard = request.acquire().await.unwrap();
        guard.upgrade(None).await.unwrap();
        yielding.hold_up_the_next_downgrade();
        let downgraded = guard.downgrade(Seats::SHARED).await;
        assert_eq!(downgraded.unwrap_err().kind(), ErrorKind::Unknown);
        assert!(!guard.seats().is_all(), "others may be in already");
        guard.upgrade(None).await.unwrap();
        let _late = yielding.let_it_land().await.unwrap();
        let view = locks.inspect("x").await.unwrap();
        assert!(guard.is_valid() && guard.seats().is_all());
        assert_eq!(view.holders[0].seats, Seats::All);
        assert_eq!(view.holders[0].fence, guard.fencing_token());
        guard.release().await.unwrap();
    }
}

/// The same release from another process, after the answer of the first was lost.
#[test]
fn a_release_is_the_same_whoever_sends_it_again() {
    block_on(async {
        let register = ScriptedRegister::new(Judge::Observers);
        let (a, b): (RegisterBackend<_>, _) = (register.backend(), register.backend());
        let claim = claim(Seats::All);
        let grant = granted(&a, &claim).await;
        register.faults().once(Call::Swap, Fault::LostReply);
        assert_eq!(a.release(&lease(&claim, grant), None).await.unwrap(), Release::Released);
        assert_eq!(b.release(&lease(&claim, grant), None).await.unwrap(), Release::Released);
    });
}

/// A tombstone that was over still refused, but not the second time: the turn whose answer was lost had
/// dropped it.
#[tokio::test]
async fn a_lost_answer_changes_nothing_about_a_claim_that_was_withdrawn_long_ago() {
    for lost in [false, true] {
        let clock = TestClock::new();
        let register =
            ScriptedRegister::with_clock(Judge::StoreClock, Wakes::Push, Arc::new(clock.clone()));
        let (store, withdrawn) = (register.backend(), claim(Seats::All));
        Backend::withdraw(&store, &withdrawn).await.unwrap();
        granted(&store, &claim(Seats::All)).await;
        clock.advance(withdrawn.tombstone_for());
        if lost {
            register.faults().once(Call::Swap, Fault::LostReply);
        }
        granted(&store, &withdrawn).await;
    }
}

/// What an upgrade had kept from those behind it was left to the next turn.
#[tokio::test]
async fn a_lost_answer_changes_nothing_about_who_waited_behind_an_upgrade_that_was_given_up() {
    for lost in [false, true] {
        let (register, _) = observed();
        let store = register.backend();
        let upgrades = claim(Seats::SHARED);
        granted(&store, &upgrades).await;
        granted(&store, &claim(Seats::SHARED)).await;
        let mut upgrade = upgrades.clone();
        upgrade.seats = Seats::All;
        upgrade.upgrade = true;
        upgrade.id = ClaimId::random();
        let verdict = Backend::acquire(&store, &waiting(upgrade.clone())).await.unwrap();
        assert!(matches!(verdict, Verdict::Queued(_)), "{verdict:?}");
        let behind = waiting(claim(Seats::SHARED));
        let verdict = Backend::acquire(&store, &behind).await.unwrap();
        assert!(matches!(verdict, Verdict::Queued(_)), "{verdict:?}");
        if lost {
            register.faults().once(Call::Swap, Fault::LostReply);
        }
        upgrade.id = ClaimId::random();
        match Backend::acquire(&store, &upgrade).await.unwrap() {
            Verdict::Busy(place) => assert_eq!(place.holders.len(), 3),
            other => panic!("{other:?}"),
        }
    }
}
