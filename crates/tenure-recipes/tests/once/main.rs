//! Once, on every store that can: what callers get, and what becomes of leaders that fail, vanish, are
//! given up, are killed or stopped.
//!
//! The scenarios are plain functions; each store runs all of them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod stage;

mod interruptions;
mod leaders;
mod operators;
mod processes;
mod results;
mod seeds;

use stage::Stage;

/// Not a test of its own: what other processes do that run this program again.
#[test]
fn another_process() {
    processes::be_another_process();
}

macro_rules! scenarios {
    ($($module:ident :: $name:ident),* $(,)?) => {
        /// Every scenario in turn, in managers of its own.
        async fn every_scenario(stage: &Stage) {
            $(
                println!("{}: {}", stage.kind, stringify!($name));
                stage::within(stringify!($name), $module::$name(stage)).await;
            )*
        }
    };
}

scenarios![
    results::a_result_is_kept_and_replayed,
    results::nothing_is_a_result,
    results::all_who_wait_get_the_one_result_at_once,
    results::many_callers_at_once_are_one_execution,
    results::another_request_under_the_same_key_is_refused,
    results::a_wait_that_is_over_changes_nothing,
    results::a_result_that_cannot_be_kept_is_refused_and_not_run_again,
    results::a_result_is_forgotten_when_its_ttl_is_over,
    results::a_value_of_somebody_else_is_corrupt,
    leaders::a_failure_is_tried_again_up_to_the_maximum,
    leaders::a_final_failure_is_everybodys_answer,
    leaders::those_who_wait_take_over_from_a_leader_that_fails_one_at_a_time,
    leaders::a_leader_that_is_cancelled_is_followed_at_once,
    leaders::a_leader_that_panics_is_followed_at_once,
    leaders::leaders_that_vanish_are_counted,
    leaders::what_may_run_only_once_does_not_run_again,
    leaders::a_failure_of_what_may_run_only_once_is_final,
    leaders::a_leader_that_was_given_up_gets_the_winners_result,
    leaders::a_result_without_a_lease_is_discarded_once_another_has_begun,
    leaders::a_result_without_a_lease_counts_if_nobody_has_begun,
    operators::a_forced_call_replaces_the_result,
    operators::a_forced_call_waits_for_whoever_is_at_it,
    operators::an_operator_settles_what_is_indeterminate,
    operators::what_is_forgotten_runs_again,
    operators::the_status_tells_every_state,
    operators::every_end_is_counted,
    seeds::a_late_done_is_refused,
];

macro_rules! stores {
    ($($test:ident: $stage:expr),* $(,)?) => {
        $(
            #[test]
            fn $test() {
                let stage = $stage;
                stage::runtime().block_on(every_scenario(&stage));
            }
        )*
    };
}

stores![
    in_memory_every_scenario_holds: Stage::memory(),
    in_a_directory_every_scenario_holds: Stage::file(),
    on_redis_every_scenario_holds: Stage::redis(),
    in_a_lease_table_every_scenario_holds: Stage::lease_table(),
];
