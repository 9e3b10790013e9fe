//! Every recipe on every store that has what it takes: the same functions, each store whole.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod stage;

mod election;
mod multi;
mod rwlock;
mod semaphore;
mod work;

use stage::{Lacks, Rule, Store, rules};

/// What has to hold everywhere, and what a store may lack to be let off.
fn all() -> Vec<Rule> {
    rules![
        rwlock::readers_share_and_a_writer_is_alone,
        rwlock::a_reader_does_not_pass_a_writer_that_waits,
        rwlock::a_reader_becomes_a_writer_when_the_others_have_left; Upgrade,
        rwlock::a_second_upgrader_is_refused_at_once_and_reads_on; Upgrade,
        rwlock::a_writer_that_becomes_a_reader_lets_readers_in_and_no_writer; Upgrade,
        rwlock::an_upgrade_that_is_dropped_gives_everything_back; Upgrade,
        rwlock::who_cannot_upgrade_is_told_where_that_is_possible,
        semaphore::no_more_permits_are_held_than_there_are; Permits,
        semaphore::many_permits_are_taken_at_once_or_not_at_all; Permits,
        semaphore::those_who_count_otherwise_are_refused; Permits,
        semaphore::who_wants_many_is_not_starved; Permits,
        multi::several_locks_are_taken_and_released_as_one,
        multi::equal_names_are_one_lock,
        multi::a_failure_half_way_gives_back_what_was_taken,
        multi::a_dropped_future_gives_back_what_was_taken,
        multi::opposite_orders_never_wait_in_a_circle,
        multi::the_loss_of_one_is_told_with_its_name,
        multi::the_loss_of_one_ends_the_wait_for_the_next,
        election::one_leads_and_the_next_follows_in_a_higher_term,
        election::everybody_sees_who_leads,
        election::observers_see_leader_term_and_value_and_no_value_of_an_earlier_term; Values,
        election::who_cannot_proclaim_is_told_where_that_is_possible,
        election::each_term_is_told_to_begin_and_to_end_once,
        election::a_leader_that_lost_its_term_campaigns_again,
        election::a_lock_that_is_not_the_elections_makes_no_term,
        work::a_second_worker_sees_that_the_checkpoint_is_done; Values,
        work::old_checkpoints_are_handed_out_to_be_removed_until_a_job_succeeds; Values,
        work::a_worker_that_lost_the_lock_makes_no_checkpoint; Values,
        work::a_value_that_is_no_list_of_checkpoints_is_left_alone; Values,
        work::a_partition_is_compacted_by_one_worker_at_a_time,
        work::of_many_workers_each_task_is_done_by_one; Values,
        work::a_task_that_is_done_is_seen_to_be_done; Values,
        work::a_task_that_was_given_up_is_claimed_again_with_a_higher_attempt; Values,
        work::those_who_lack_values_are_told_where_they_are,
    ]
}

fn hold_on(store: &Store) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for rule in all() {
        let lacks = rule.needs.is_some_and(|need| need.lacks(&store.manager()));
        println!("{}: {}{}", store.kind, rule.name, if lacks { " (lacks it)" } else { "" });
        if lacks != store.lacks.contains(&rule.needs.unwrap_or(Lacks::Nothing)) {
            panic!("{} declares what nobody expected: {}", store.kind, rule.name);
        }
        if !lacks {
            runtime.block_on((rule.run)(store));
        }
    }
}

#[test]
fn on_memory() {
    hold_on(&Store::memory());
}

#[test]
fn in_a_directory() {
    hold_on(&Store::file());
}

#[test]
fn on_a_redis_server() {
    hold_on(&Store::redis());
}

#[test]
fn in_a_lease_table() {
    hold_on(&Store::lease_table());
}

#[test]
fn on_advisory_locks() {
    hold_on(&Store::advisory());
}
