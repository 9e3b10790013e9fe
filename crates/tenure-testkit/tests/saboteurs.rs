//! The suite on trial: each store that breaks a rule is caught by the rules named beside it, and
//! the honest one is not.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::sync::Arc;
use std::time::Duration;

use tenure_backend_memory::MemoryBackend;
use tenure_core::Result;
use tenure_core::backend::DynBackend;
use tenure_testkit::conformance::{BoxFuture, Need, Outcome, Store, rule, run, run_rules};
use tenure_testkit::saboteur::{Deed, Saboteur};

struct Sabotaged(Arc<Saboteur>);

impl Sabotaged {
    fn by(deed: Deed) -> Self {
        Self(Arc::new(Saboteur::new(Arc::new(MemoryBackend::new()), deed)))
    }
}

impl Store for Sabotaged {
    fn name(&self) -> &str {
        "sabotaged"
    }

    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn DynBackend>>> {
        let saboteur = self.0.clone();
        Box::pin(async move { Ok(saboteur as Arc<dyn DynBackend>) })
    }

    fn short_ttl(&self) -> Duration {
        Duration::from_millis(400)
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(3)
    }

    fn late_requests(&self) -> bool {
        false
    }
}

#[test]
fn an_honest_store_is_not_caught() {
    run(&Sabotaged::by(Deed::None)).assert_holds_but_for(&[Need::LateRequests]);
}

/// Each deed, and the rules that catch it.
macro_rules! caught {
    ($($test:ident: $deed:ident by $($rule:ident),+;)*) => {$(
        #[test]
        fn $test() {
            let rules = [$(rule(stringify!($rule))),+];
            let report = run_rules(&Sabotaged::by(Deed::$deed), &rules);
            for rule in rules {
                let outcome = report.outcome(rule.name).unwrap();
                let caught = matches!(outcome, Outcome::Broken(_) | Outcome::Hung);
                assert!(caught, "{:?} was not caught by {}: {outcome:?}", Deed::$deed, rule.name);
            }
        }
    )*};
}

caught! {
    a_store_that_does_not_exclude_is_caught: DoesNotExclude
        by an_exclusive_lock_has_one_holder, a_try_on_a_taken_lock_answers_none, contending_processes_never_overlap;
    a_store_that_folds_names_is_caught: FoldsNames by names_are_compared_byte_by_byte;
    a_store_that_forgets_limits_is_caught: ForgetsLimits
        by shared_seats_are_granted_up_to_their_limit, another_limit_is_refused, a_semaphore_of_managers;
    a_fence_that_repeats_is_caught: RepeatsFences
        by fences_rise_from_grant_to_grant, shared_grants_have_fences_of_their_own;
    a_fence_that_falls_is_caught: LowersFences
        by fences_rise_from_grant_to_grant, contending_processes_never_overlap;
    a_fence_that_begins_anew_is_caught: BeginsFencesAnew by a_name_made_anew_continues_its_fences;
    an_eviction_that_leaves_the_fence_is_caught: EvictsWithoutRaisingTheFence
        by an_eviction_raises_the_fence;
    a_claim_granted_twice_is_caught: GrantsDuplicates
        by a_duplicate_acquire_gets_the_same_grant, a_duplicate_shared_acquire_takes_its_seats_once;
    a_lease_that_never_ends_is_caught: NeverExpires
        by an_expired_lease_is_free_and_not_before_its_time, an_expired_lease_is_handed_to_the_waiter;
    a_lease_that_ends_early_is_caught: ExpiresEarly
        by an_expired_lease_is_free_and_not_before_its_time;
    a_renewal_that_does_nothing_is_caught: RenewsNothing by renewing_keeps_a_lease_beyond_its_ttl;
    a_renewal_that_recreates_is_caught: RecreatesOnRenewal
        by renewing_never_brings_an_expired_lease_back;
    a_renewal_that_undoes_a_change_is_caught: UndoesChanges
        by a_late_plain_renewal_does_not_undo_a_change_of_ttl;
    renewals_out_of_order_are_caught: AnswersOutOfOrder by renewals_are_answered_in_their_order;
    a_release_by_name_is_caught: ReleasesAnybody by a_release_never_ends_another_grant;
    a_release_that_lies_is_caught: AlwaysReleased
        by a_release_after_expiry_says_so, a_token_that_never_held_releases_nothing;
    a_lost_hand_over_is_caught: LosesHandOvers by a_release_grants_to_the_next_in_the_same_step;
    a_try_that_barges_is_caught: Barges
        by a_try_never_overtakes_a_waiter, waiters_are_served_in_the_order_they_came;
    priorities_that_are_ignored_are_caught: IgnoresPriority by a_priority_point_is_a_head_start;
    a_queue_that_serves_the_last_first_is_caught: ServesLastFirst
        by waiters_are_served_in_the_order_they_came, waiting_managers_are_served_in_their_order;
    a_store_that_wakes_nobody_is_caught: WakesNobody by a_waiter_is_woken_soon;
    a_second_upgrader_that_waits_is_caught: QueuesSecondUpgrade
        by a_second_upgrader_is_refused_at_once;
    a_withdrawn_upgrade_that_lets_go_is_caught: LetsGoOfWithdrawnUpgrades
        by a_withdrawn_upgrade_keeps_the_seats_held;
    a_downgrade_that_does_nothing_is_caught: KeepsAllOnDowngrade
        by a_downgrade_lets_readers_in_and_keeps_its_fence;
    readers_that_write_are_caught: LetsReadersWrite by only_a_holder_of_all_seats_writes_the_value;
    a_value_that_is_lost_is_caught: LosesValues
        by a_release_with_a_value_answers_those_who_want_it, one_works_and_the_others_get_the_value;
    a_value_that_answers_nobody_is_caught: IgnoresValues
        by a_live_value_answers_once_the_lock_is_free;
    an_eviction_that_ignores_the_fence_is_caught: EvictsWhoeverIsThere
        by an_eviction_with_an_old_fence_changes_nothing, an_eviction_ends_only_the_holder_with_that_fence;
    a_departure_without_its_reason_is_caught: ForgetsWhy
        by an_evicted_holder_is_told_who_did_it_and_why;
    a_store_without_tombstones_is_caught: ForgetsWithdrawals
        by a_withdrawn_claim_is_never_granted_later;
    a_withdrawal_that_does_nothing_is_caught: WithdrawsNothing
        by withdrawing_leaves_the_queue, a_dropped_wait_leaves_no_place;
    details_that_are_dropped_are_caught: ForgetsDetails by owner_and_metadata_are_seen_by_others;
    a_list_without_a_prefix_is_caught: ListsEverything by a_list_shows_what_is_there_by_name;
}
