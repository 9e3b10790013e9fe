//! What is promised, and what each rule is for: without it a promise is broken.

use super::world::{Broken, Trial};
use super::{check, find_out, full};
use crate::election::Rules;

fn elections() -> Trial {
    Trial {
        clients: 2,
        asks: 1,
        silences: 0,
        expiries: 1,
        lapses: 0,
        renewals: 0,
        amnesias: 0,
        lapses_of_memory: 0,
        slow: false,
        rules: Rules::default(),
        broken: Broken::Nothing,
    }
}

fn holders() -> Trial {
    Trial { expiries: 0, silences: u8::from(full()), renewals: 2, lapses: 2, ..elections() }
}

#[test]
fn fences_rise_whatever_is_late_or_lost_and_whichever_keys_end_early() {
    check(&Trial { silences: 1, ..elections() });
}

#[test]
fn who_asks_again_keeps_every_promise() {
    // There are too many orders for every day.
    check(&Trial { asks: if full() { 2 } else { 1 }, ..elections() });
}

#[test]
fn without_keys_that_end_early_no_two_work_at_once() {
    check(&Trial { asks: if full() { 2 } else { 1 }, expiries: 0, silences: 1, ..elections() });
}

/// Where there is time for so many.
fn three() -> usize {
    if full() { 3 } else { 2 }
}

#[test]
fn three_who_ask_at_a_time_keep_every_promise() {
    check(&Trial { clients: three(), ..elections() });
}

#[test]
fn three_of_whom_one_is_not_answered_keep_every_promise() {
    check(&Trial { clients: three(), expiries: 0, silences: 1, ..elections() });
}

#[test]
fn answers_that_are_on_their_way_for_long_break_nothing() {
    let more = u8::from(full());
    check(&Trial { slow: true, expiries: more, silences: more, ..elections() });
}

#[test]
fn a_voter_that_forgets_and_gives_no_votes_for_a_while_breaks_nothing() {
    check(&Trial { amnesias: 1, expiries: 0, silences: u8::from(full()), ..elections() });
}

#[test]
fn who_left_may_be_forgotten_without_breaking_anything() {
    let often = if full() { 2 } else { 1 };
    check(&Trial { lapses_of_memory: often, ..elections() });
    check(&Trial { lapses_of_memory: often, silences: 1, expiries: 0, ..elections() });
    check(&Trial { lapses_of_memory: often, silences: 0, ..holders() });
}

#[test]
fn votes_that_are_lost_one_by_one_and_asked_for_again_break_nothing() {
    check(&holders());
}

#[test]
fn without_a_look_at_the_token_a_fence_falls_or_comes_twice() {
    find_out(
        &Trial { broken: Broken::NoTokenCheck, asks: 2, expiries: 2, ..elections() },
        "fences only rise",
    );
}

#[test]
fn where_an_equal_fence_is_confirmed_a_fence_comes_twice() {
    let trial = Trial { broken: Broken::NotStrict, asks: 2, expiries: 2, ..elections() };
    find_out(&trial, "fences only rise");
}

#[test]
fn a_fence_that_is_not_written_back_comes_twice() {
    let rules = Rules { no_write_back: true };
    find_out(&Trial { rules, ..elections() }, "fences only rise");
}

#[test]
fn a_voter_that_forgets_and_votes_at_once_lets_two_work_at_once() {
    let trial = Trial { broken: Broken::NoQuarantine, amnesias: 1, expiries: 0, ..elections() };
    find_out(&trial, "no two work at once");
}

#[test]
fn a_voter_that_forgets_and_votes_at_once_makes_a_fence_fall() {
    let trial = Trial { broken: Broken::NoQuarantine, amnesias: 1, ..elections() };
    find_out(&trial, "fences only rise");
}

#[test]
fn without_asking_again_the_second_lost_vote_lets_two_work_at_once() {
    find_out(&Trial { broken: Broken::NoRepair, ..holders() }, "no two work at once");
}
