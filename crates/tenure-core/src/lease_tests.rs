//! Lease arithmetic on trial: two clocks, each as wrong as it may be.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::clock::TestClock;
use crate::owner::{Details, Owner};
use crate::values::Micros;

/// A clock that runs at `1 + rate` of true time, and the true time it shows.
fn shown(true_nanos: u64, rate_millionths: i64) -> u64 {
    let error = i128::from(true_nanos) * i128::from(rate_millionths) / 1_000_000;
    u64::try_from(i128::from(true_nanos) + error).expect("rates are small")
}

fn lease(ttl: Duration) -> Lease {
    let details = std::sync::Arc::new(Details::of(Owner::this_process()));
    let name = crate::LockName::new("x").unwrap();
    Lease::sent(&Claim::new(name, Token::random(), ttl, details), Some(ttl / 3), std::process::id())
}

fn grant(ttl: Duration) -> Grant {
    Grant::new(Fence::new(1), Seats::All, Micros(0), ttl)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// Whatever half a percent of rate error each clock has, in opposite directions, and however
    /// long the request took: the guard is over before the store ends the lease.
    #[test]
    fn a_guard_never_outlives_its_lease(
        ttl_millis in 100_u64..=30 * 24 * 3_600_000,
        sent_nanos in 0_u64..1 << 50,
        delay_nanos in 0_u64..5_000_000_000,
        mine in -5_000_i64..=5_000,
        stores in -5_000_i64..=5_000,
    ) {
        let ttl = Duration::from_millis(ttl_millis);
        let sent = Moment::from_nanos(shown(sent_nanos, mine));
        let end = earliest_end(sent, ttl);
        // The store sets the lease when the request arrives, and ends it by its own clock.
        let arrives = sent_nanos + delay_nanos;
        let store_end = shown(arrives, stores) + u64::try_from(ttl.as_nanos()).unwrap();
        // The latest true time at which the holder's clock still shows less than `end`.
        let true_at_end = sent_nanos + u64::try_from(
            (i128::from(end.as_nanos()) - i128::from(sent.as_nanos())).max(0) * 1_000_000 / i128::from(1_000_000 + mine)
        ).unwrap();
        prop_assert!(shown(true_at_end, stores) <= store_end, "the guard outlives the lease");
        prop_assert!(deadline(end, ttl) <= end);
    }

    /// The deadline of a fresh lease leaves most of the ttl to work in.
    #[test]
    fn a_fresh_lease_is_valid_for_most_of_its_ttl(ttl_millis in 100_u64..=30 * 24 * 3_600_000) {
        let ttl = Duration::from_millis(ttl_millis);
        let sent = Moment::from_nanos(1 << 40);
        let left = deadline(earliest_end(sent, ttl), ttl).since(sent);
        prop_assert!(ttl * 8 / 10 <= left);
    }

    /// Renewals that are answered in any order never move the deadline back behind an older one
    /// of the same ttl, and never beyond what the newest request allows.
    #[test]
    fn answers_in_any_order_leave_the_newest_deadline(mut sents in proptest::collection::vec(0_u64..8_000, 1..8)) {
        let (clock, ttl) = (TestClock::new(), Duration::from_secs(30));
        let lease = lease(ttl);
        let start = clock.now();
        prop_assert!(lease.hold(&grant(ttl), earliest_end(start, ttl), clock.now()));
        for sent in &sents {
            lease.renewed(start.plus(Duration::from_millis(*sent)), ttl, ttl, clock.now());
        }
        sents.sort_unstable();
        let newest = start.plus(Duration::from_millis(*sents.last().unwrap()));
        prop_assert_eq!(lease.times.lock().end, earliest_end(newest, ttl));
    }
}

#[test]
fn a_renewal_that_is_answered_after_the_deadline_revives_nothing() {
    let (clock, ttl) = (TestClock::new(), Duration::from_secs(30));
    let lease = lease(ttl);
    assert!(lease.hold(&grant(ttl), earliest_end(clock.now(), ttl), clock.now()));
    let sent = clock.now().plus(Duration::from_secs(20));
    clock.advance(Duration::from_secs(27));
    assert!(!lease.renewed(sent, ttl, ttl, clock.now()));
    assert_eq!(lease.loss(&clock), Some(LossReason::Expired));
}

#[test]
fn a_shorter_ttl_counts_from_the_moment_it_is_asked_for() {
    let (clock, ttl) = (TestClock::new(), Duration::from_secs(30));
    let lease = lease(ttl);
    assert!(lease.hold(&grant(ttl), earliest_end(clock.now(), ttl), clock.now()));
    lease.shorten(clock.now(), Duration::from_secs(1));
    clock.advance(Duration::from_millis(900));
    assert_eq!(lease.loss(&clock), Some(LossReason::Expired));
}

#[test]
fn a_clock_before_the_grant_does_not_make_a_lease_immortal() {
    // CLOCK_BOOTTIME going back would be a broken kernel; the lease then ends by its own numbers.
    let clock = TestClock::new();
    let ttl = Duration::from_secs(30);
    let lease = lease(ttl);
    let later = clock.now().plus(Duration::from_secs(3600));
    assert!(lease.hold(&grant(ttl), earliest_end(later, ttl), clock.now()));
    clock.advance(Duration::from_secs(3631));
    assert!(lease.loss(&clock).is_some());
}

#[test]
fn a_lease_that_was_given_back_in_time_is_never_lost_afterwards() {
    let (clock, ttl) = (TestClock::new(), Duration::from_secs(30));
    let lease = lease(ttl);
    assert!(lease.hold(&grant(ttl), earliest_end(clock.now(), ttl), clock.now()));
    assert!(lease.phase.release());
    lease.phase.finish();
    clock.advance(ttl * 2);
    assert_eq!(lease.loss(&clock), None);
    let lost = futures_lite::future::poll_once(
        lease.lost(&clock, |_| unreachable!("nobody waits for the end of what is gone")),
    );
    assert_eq!(futures_lite::future::block_on(lost), None);
}

#[test]
fn a_lease_that_was_handed_over_is_valid_for_most_of_its_pick_up_term() {
    // A tenth of the ttl is longer than the whole term here: the deadline must not count from it.
    let (clock, ttl, term) = (TestClock::new(), Duration::from_secs(30), Duration::from_secs(2));
    let lease = lease(ttl);
    let mut handed = grant(term);
    handed.handed_over = true;
    assert!(lease.hold(&handed, earliest_end(clock.now(), term), clock.now()));
    clock.advance(Duration::from_millis(1700));
    assert_eq!(lease.loss(&clock), None);
    clock.advance(Duration::from_millis(100));
    assert_eq!(lease.loss(&clock), Some(LossReason::Expired));
}

#[test]
fn a_lease_that_is_renewed_no_more_ends_by_itself_whatever_becomes_of_the_last_renewal() {
    let (clock, ttl) = (TestClock::new(), Duration::from_secs(30));
    for answered in [true, false] {
        let lease = lease(ttl);
        let sent = clock.now();
        assert!(lease.hold(&grant(ttl), earliest_end(sent, ttl), sent));
        assert_eq!(lease.stop_renewing(), lease.times.lock().deadline);
        clock.advance(Duration::from_secs(1));
        if answered {
            assert!(lease.renewed(sent.plus(Duration::from_millis(1)), ttl, ttl, clock.now()));
        } else {
            lease.renewal_failed(clock.now(), true);
        }
        let times = lease.times.lock();
        assert_eq!(times.due(), times.deadline, "nothing is due but its end");
    }
}

#[test]
fn a_lease_that_was_heard_of_late_is_renewed_as_early_as_any_other() {
    let (clock, ttl) = (TestClock::new(), Duration::from_secs(30));
    for late in [0, 5, 20].map(Duration::from_secs) {
        let lease = lease(ttl);
        let sent = clock.now();
        clock.advance(late);
        assert!(lease.hold(&grant(ttl), earliest_end(sent, ttl), clock.now()));
        let next = lease.times.lock().next_renewal;
        // A third, with jitter, on the grid.
        assert!(next.since(sent) <= ttl * 38 / 100, "{late:?}: {:?}", next.since(sent));
    }
}
