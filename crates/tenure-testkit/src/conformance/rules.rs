//! The table of rules: what each is called and what it needs.

use futures_util::future::LocalBoxFuture;
use tenure_core::{Capabilities, EndsWith};

use super::{
    Store, bad_input, cancel, deadlock, detached, evict, exclusion, fence, inspect, lease, loss,
    queue, release, seats, shutdown, upgrade, value, withdraw,
};

/// What a rule needs of a store.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Need {
    /// Holders exclude each other.
    Exclusive,
    /// Shared locks.
    Shared,
    /// Some seats of a number.
    Permits,
    /// Waiters in order.
    Fifo,
    /// Priority as a head start.
    Priority,
    /// Values.
    Values,
    /// Leases without a process.
    Detached,
    /// Upgrade and downgrade.
    Upgrade,
    /// Force release.
    ForceRelease,
    /// Claims that take the lock past those who wait.
    ForceAcquire,
    /// A list of locks.
    List,
    /// Deadlocks are found.
    Deadlocks,
    /// Metadata and owners.
    Metadata,
    /// Locks end with a lease, not with a session.
    Lease,
    /// Holders that fall silent while their process lives.
    SilentHolders,
    /// Requests that land after their caller has gone on.
    LateRequests,
}

impl Need {
    pub(super) fn is_met(self, store: &dyn Store, can: &Capabilities) -> bool {
        match self {
            Need::Exclusive => can.exclusive,
            Need::Shared => can.shared,
            Need::Permits => can.permits,
            Need::Fifo => can.fifo,
            Need::Priority => can.priority,
            Need::Values => can.value_max.is_some(),
            Need::Detached => can.detached,
            Need::Upgrade => can.upgrade,
            Need::ForceRelease => can.force_release,
            Need::ForceAcquire => can.force_acquire,
            Need::List => can.list,
            Need::Deadlocks => can.deadlocks && can.fifo,
            Need::Metadata => can.metadata,
            Need::Lease => can.ends_with == EndsWith::Lease,
            Need::SilentHolders => store.silent_holders(),
            Need::LateRequests => store.late_requests(),
        }
    }
}

/// A rule, as data.
#[derive(Debug)]
pub struct Rule {
    /// The file it stands in.
    pub topic: &'static str,
    /// Its name: a sentence.
    pub name: &'static str,
    /// What a store has to be able to do for it.
    pub needs: &'static [Need],
    /// The rule itself; panics if it does not hold.
    pub run: for<'a> fn(&'a dyn Store) -> LocalBoxFuture<'a, ()>,
}

/// The rule of this name.
///
/// # Panics
/// If there is none.
pub fn rule(name: &str) -> &'static Rule {
    let found = RULES.iter().find(|rule| rule.name == name);
    found.unwrap_or_else(|| panic!("there is no rule {name:?}"))
}

macro_rules! rules {
    ($($topic:ident { $($name:ident [$($need:ident),*])* })*) => {
        /// Every rule.
        pub const RULES: &[Rule] = &[$($(Rule {
            topic: stringify!($topic),
            name: stringify!($name),
            needs: &[$(Need::$need),*],
            run: |store| Box::pin($topic::$name(store)),
        },)*)*];
    };
}

rules! {
    exclusion {
        an_exclusive_lock_has_one_holder [Exclusive]
        a_try_on_a_taken_lock_answers_none [Exclusive]
        names_are_compared_byte_by_byte [Exclusive]
        contending_processes_never_overlap [Exclusive]
    }
    fence {
        fences_rise_from_grant_to_grant [Exclusive]
        a_name_made_anew_continues_its_fences [Exclusive]
        a_fence_rises_across_expiry [Exclusive, Lease, SilentHolders]
        an_eviction_raises_the_fence [Exclusive, ForceRelease]
        a_duplicate_acquire_gets_the_same_grant [Exclusive]
        a_duplicate_shared_acquire_takes_its_seats_once [Exclusive, Permits]
        shared_grants_have_fences_of_their_own [Exclusive, Shared]
        a_handed_over_grant_has_a_higher_fence [Exclusive, Fifo]
    }
    lease {
        an_expired_lease_is_free_and_not_before_its_time [Exclusive, Lease, SilentHolders]
        renewing_keeps_a_lease_beyond_its_ttl [Exclusive, Lease]
        renewing_never_brings_an_expired_lease_back [Exclusive, Lease, SilentHolders]
        an_expired_token_is_never_granted_again [Exclusive, Lease, SilentHolders]
        renewals_are_answered_in_their_order [Exclusive, Fifo]
        a_late_plain_renewal_does_not_undo_a_change_of_ttl [Exclusive, Lease]
        a_guard_is_renewed_while_it_lives [Exclusive]
        a_guard_without_renewal_ends_after_its_ttl [Exclusive, Lease, SilentHolders]
        an_extended_guard_lives_longer [Exclusive, Lease, SilentHolders]
    }
    loss {
        a_lost_guard_says_so_by_its_deadline [Exclusive, Lease, SilentHolders]
        a_guard_is_lost_before_the_next_is_granted [Exclusive, Lease, SilentHolders]
        loss_is_final [Exclusive, Lease, SilentHolders]
        work_under_a_lock_is_dropped_when_it_is_lost [Exclusive, ForceRelease]
        work_under_a_lock_ends_with_its_output [Exclusive]
    }
    release {
        a_released_lock_is_free_at_once [Exclusive]
        a_release_sent_twice_is_released_twice [Exclusive, LateRequests]
        a_release_never_ends_another_grant [Exclusive]
        a_token_that_never_held_releases_nothing [Exclusive]
        a_release_after_expiry_says_so [Exclusive, Lease, SilentHolders]
        a_released_token_is_never_granted_again [Exclusive, LateRequests]
        a_dropped_guard_is_released [Exclusive]
        a_guard_dropped_outside_a_runtime_is_released [Exclusive]
        a_guard_dropped_with_its_manager_is_released [Exclusive]
        a_panicking_holder_releases [Exclusive]
        a_release_after_an_eviction_says_so [Exclusive, ForceRelease]
    }
    queue {
        a_release_grants_to_the_next_in_the_same_step [Exclusive, Fifo]
        waiters_are_served_in_the_order_they_came [Exclusive, Fifo]
        asking_again_keeps_the_place [Exclusive, Fifo]
        a_try_never_overtakes_a_waiter [Exclusive, Fifo]
        a_try_for_free_seats_does_not_pass_a_waiter [Exclusive, Fifo, Shared]
        a_priority_point_is_a_head_start [Exclusive, Fifo, Priority]
        a_place_that_is_not_refreshed_is_given_up [Exclusive, Fifo, SilentHolders]
        a_place_that_is_refreshed_stays [Exclusive, Fifo]
        a_hand_over_that_nobody_picks_up_goes_on [Exclusive, Fifo, Lease, SilentHolders]
        an_expired_lease_is_handed_to_the_waiter [Exclusive, Fifo, Lease, SilentHolders]
        waiting_managers_are_served_in_their_order [Exclusive, Fifo]
        a_waiter_is_woken_soon [Exclusive, Fifo]
        a_wait_timeout_leaves_nothing [Exclusive]
        a_retry_ends_busy_and_leaves_nothing [Exclusive]
    }
    seats {
        shared_seats_are_granted_up_to_their_limit [Exclusive, Permits]
        several_seats_of_one_claim_count [Exclusive, Permits]
        readers_share_and_a_writer_is_alone [Exclusive, Shared]
        a_waiting_writer_is_not_starved [Exclusive, Shared, Fifo]
        freed_seats_serve_as_many_as_fit_in_order [Exclusive, Permits, Fifo]
        another_limit_is_refused [Exclusive, Permits]
        another_limit_than_that_of_a_waiter_is_refused [Exclusive, Permits, Fifo]
        a_semaphore_of_managers [Exclusive, Permits]
    }
    upgrade {
        an_upgrade_waits_for_the_others_and_gets_a_new_fence [Exclusive, Upgrade]
        a_second_upgrader_is_refused_at_once [Exclusive, Upgrade]
        an_upgrade_goes_before_everybody_who_waits [Exclusive, Upgrade, Fifo]
        a_withdrawn_upgrade_keeps_the_seats_held [Exclusive, Upgrade]
        a_late_withdrawal_leaves_a_later_upgrade_alone [Exclusive, Upgrade]
        an_upgrade_without_seats_is_refused [Exclusive, Upgrade]
        a_late_downgrade_leaves_a_later_upgrade_alone [Exclusive, Upgrade]
        a_cancelled_upgrade_does_not_stand_in_the_way_of_the_next [Exclusive, Upgrade]
        a_try_in_place_of_an_upgrade_lets_in_those_behind_it [Exclusive, Upgrade, Fifo]
        a_late_upgrade_after_a_downgrade_is_refused [Exclusive, Upgrade]
        a_downgrade_lets_readers_in_and_keeps_its_fence [Exclusive, Upgrade, Fifo]
        a_downgrade_that_does_not_fit_changes_nothing [Exclusive, Upgrade, Fifo]
        a_guard_upgrades_and_downgrades [Exclusive, Upgrade]
    }
    value {
        a_value_is_seen_by_anybody_until_it_is_over [Exclusive, Values]
        only_a_holder_of_all_seats_writes_the_value [Exclusive, Values, Shared]
        a_value_of_somebody_who_lost_the_lock_is_refused [Exclusive, Values]
        a_release_with_a_value_answers_those_who_want_it [Exclusive, Values, Fifo]
        a_live_value_answers_once_the_lock_is_free [Exclusive, Values]
        a_lock_that_falls_free_with_a_value_answers_its_waiters [Exclusive, Values, Fifo]
        without_a_value_the_lock_is_the_answer [Exclusive, Values, Fifo]
        the_longest_value_comes_back_byte_by_byte [Exclusive, Values]
        a_value_that_is_too_long_is_refused [Exclusive, Values]
        one_works_and_the_others_get_the_value [Exclusive, Values, Fifo]
    }
    evict {
        an_eviction_ends_only_the_holder_with_that_fence [Exclusive, ForceRelease, Shared]
        an_eviction_with_an_old_fence_changes_nothing [Exclusive, ForceRelease]
        an_eviction_of_nobody_says_so [Exclusive, ForceRelease]
        an_eviction_without_a_fence_ends_all_holders [Exclusive, ForceRelease, Shared]
        an_evicted_holder_is_told_who_did_it_and_why [Exclusive, ForceRelease]
        an_eviction_hands_over_to_the_waiter [Exclusive, ForceRelease, Fifo]
        an_evicted_guard_says_who_and_why [Exclusive, ForceRelease]
        a_stale_holder_is_taken_from_and_a_live_one_is_not [Exclusive, ForceRelease, SilentHolders]
        a_forced_claim_takes_the_lock_past_the_queue [Exclusive, ForceAcquire, Fifo]
    }
    detached {
        a_token_moves_a_lock_to_another_process [Exclusive, Detached]
        a_detached_lease_lives_for_its_ttl_without_a_process [Exclusive, Detached]
        a_token_is_renewed_by_whoever_has_it [Exclusive, Detached]
        a_released_token_is_good_for_nothing [Exclusive, Detached]
    }
    withdraw {
        a_withdrawn_claim_is_never_granted_later [Exclusive]
        withdrawing_gives_back_what_was_granted [Exclusive, Fifo]
        withdrawing_leaves_the_queue [Exclusive, Fifo]
        withdrawing_serves_those_who_were_held_up [Exclusive, Fifo, Shared]
        withdrawing_touches_nobody_else [Exclusive, Fifo]
    }
    inspect {
        a_free_lock_is_shown_empty []
        a_view_shows_holders_and_waiters [Exclusive, Fifo]
        owner_and_metadata_are_seen_by_others [Exclusive, Metadata]
        a_list_shows_what_is_there_by_name [Exclusive, List]
        a_list_shows_values [Exclusive, List, Values]
        a_watch_shows_changes [Exclusive, List]
        a_store_that_is_there_is_healthy []
        the_metrics_count_what_happened [Exclusive, Lease, SilentHolders]
    }
    bad_input {
        bad_names_are_refused []
        bad_ttls_are_refused []
        bad_seats_are_refused [Permits]
        bad_downgrades_are_refused [Exclusive, Upgrade]
        bad_priorities_are_refused [Priority]
        metadata_is_kept_up_to_its_limit [Exclusive, Metadata]
        bad_words_are_refused [Exclusive, ForceRelease]
        bad_retries_are_refused []
        bad_lock_tokens_are_refused [Detached]
        what_a_store_cannot_do_is_refused []
    }
    cancel {
        a_dropped_wait_leaves_no_place [Exclusive, Fifo]
        a_wait_dropped_at_its_grant_holds_nothing [Exclusive, Fifo]
        a_dropped_acquire_holds_nothing [Exclusive]
    }
    deadlock {
        of_two_that_cross_the_last_gives_way [Exclusive, Deadlocks]
        of_two_that_cross_the_less_urgent_gives_way [Exclusive, Deadlocks, Priority]
        of_three_in_a_ring_one_gives_way [Exclusive, Deadlocks]
        whoever_waits_for_one_of_many_seats_goes_on [Exclusive, Deadlocks, Permits]
        whoever_waits_for_itself_gives_way [Exclusive, Deadlocks]
        an_upgrade_that_crosses_another_wait_is_found [Exclusive, Deadlocks, Upgrade]
    }
    shutdown {
        a_shutdown_ends_waiting_and_holding [Exclusive]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The files of rules, as they stand.
    const FILES: [(&str, &str); 17] = [
        ("bad_input", include_str!("bad_input.rs")),
        ("cancel", include_str!("cancel.rs")),
        ("deadlock", include_str!("deadlock.rs")),
        ("detached", include_str!("detached.rs")),
        ("evict", include_str!("evict.rs")),
        ("exclusion", include_str!("exclusion.rs")),
        ("fence", include_str!("fence.rs")),
        ("inspect", include_str!("inspect.rs")),
        ("lease", include_str!("lease.rs")),
        ("loss", include_str!("loss.rs")),
        ("queue", include_str!("queue.rs")),
        ("release", include_str!("release.rs")),
        ("seats", include_str!("seats.rs")),
        ("shutdown", include_str!("shutdown.rs")),
        ("upgrade", include_str!("upgrade.rs")),
        ("value", include_str!("value.rs")),
        ("withdraw", include_str!("withdraw.rs")),
    ];

    #[test]
    fn every_rule_that_is_written_stands_in_the_table() {
        for (topic, text) in FILES {
            let written = text.lines().filter_map(|line| line.strip_prefix("pub async fn "));
            for line in written {
                let name = line.split('(').next().unwrap();
                let listed = RULES.iter().any(|rule| rule.topic == topic && rule.name == name);
                assert!(listed, "{topic}::{name} is in no table");
            }
        }
    }

    #[test]
    fn no_two_rules_have_the_same_name() {
        let mut names: Vec<_> = RULES.iter().map(|rule| rule.name).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
