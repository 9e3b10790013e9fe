//! The machine, model-checked: every order in which a few clients, a clock and a network that
//! loses, delays and repeats messages can do a few things, and what must hold in all of them.
//!
//! The models run at a small size with all other tests. `TENURE_MODELS=full` runs them at the
//! size they are meant for, which takes minutes in a release build:
//!
//! ```text
//! TENURE_MODELS=full cargo test --release -p tenure-core --test machine_model -- --nocapture --test-threads 1
//! ```

#[path = "machine_model/broken.rs"]
mod broken;
#[path = "machine_model/client.rs"]
mod client;
#[path = "machine_model/landmarks.rs"]
mod landmarks;
#[path = "machine_model/menu.rs"]
mod menu;
#[path = "machine_model/rules.rs"]
mod rules;
#[path = "machine_model/snap.rs"]
mod snap;
#[path = "machine_model/watch.rs"]
mod watch;
#[path = "machine_model/world.rs"]
mod world;

use landmarks::Landmark;
use menu::{
    Clock, Menu, PERMIT, THREE_UPGRADERS, THREE_WITH_FORCE, THREE_WITH_VALUES, TWO_UPGRADERS,
    TWO_WITH_FORCE, TWO_WITH_VALUES, store,
};
use rules::Rules;
use stateright::{Checker, HasDiscoveries, Model};
use watch::Promise;
use world::Lock;

fn full() -> bool {
    std::env::var("TENURE_MODELS").is_ok_and(|size| size == "full")
}

/// Goes through every state of the model, at the size asked for.
fn check(small: Menu, at_full_size: Menu) {
    let menu = if full() { at_full_size } else { small };
    let reaches = menu.reaches.clone();
    let what = format!("{} on {:?}", menu.name, menu.clock);
    let checker = Lock::new(menu, rules::the_machine).checker().threads(2).spawn_dfs().join();
    println!(
        "{what}: {} states, {} distinct, depth {}",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth()
    );
    if let Some((promise, path)) = checker.discoveries().into_iter().next() {
        let end = path.last_state().clone();
        let steps: Vec<String> =
            path.into_actions().iter().map(|step| format!("{step:?}")).collect();
        panic!("{what}: it is not so that {promise}:\n{}\n{end:#?}", steps.join("\n"));
    }
    for landmark in reaches {
        assert!(checker.model().has_reached(landmark), "{what} never reached {landmark:?}");
    }
}

/// Goes through the model until rules that are wrong are found out, by one of `promises`.
fn find_out(rules: Rules, menu: Menu, promises: &[Promise]) {
    let checker = Lock::new(menu, rules)
        .checker()
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let found: Vec<Promise> = checker.discoveries().into_keys().collect();
    println!("found after {} states: {found:?}", checker.unique_state_count());
    assert!(found.iter().any(|f| promises.contains(f)), "found {found:?}, not {promises:?}");
}

/// Without what only the full size reaches.
fn without(mut menu: Menu, unreached: &[Landmark]) -> Menu {
    menu.reaches.retain(|l| !unreached.contains(l));
    menu
}

fn one_life(mut menu: Menu) -> Menu {
    menu.lives = 1;
    menu
}

#[test]
fn a_mutex_keeps_its_promises_on_a_bad_network() {
    for (small, full) in [(store(2), store(3)), (Clock::Observed, Clock::Observed)] {
        check(one_life(menu::bad_network(small)), menu::bad_network(full));
    }
}

#[test]
fn a_crowd_takes_turns() {
    for (small, full) in [(store(2), store(3)), (Clock::Observed, Clock::Observed)] {
        check(one_life(menu::crowd(small)), menu::crowd(full));
    }
}

#[test]
fn waiters_are_served_in_order_with_their_head_start() {
    for (small, full) in [(store(2), store(4)), (Clock::Observed, Clock::Observed)] {
        let mut small = menu::priorities(small);
        small.crashes = 0;
        small.withdraw = false;
        small.extend = false;
        check(without(small, &[Landmark::Extended]), menu::priorities(full));
    }
}

#[test]
fn permits_and_writers_exclude_each_other() {
    for (small, full) in [(store(1), store(3)), (Clock::Observed, Clock::Observed)] {
        let mut small = menu::permits(small, 1);
        small.crashes = 0;
        small.withdraw = false;
        check(small, menu::permits(full, 1));
    }
    if full() {
        let twice = |clock| menu::permits(clock, 2);
        check(twice(store(3)), twice(store(3)));
        check(twice(Clock::Observed), twice(Clock::Observed));
    }
}

#[test]
fn an_upgrade_goes_up_and_down_without_letting_go() {
    let two = |clock, ghosts| menu::upgrades(clock, &TWO_UPGRADERS, ghosts);
    check(two(store(1), 1), two(store(4), 2));
    check(two(Clock::Observed, 0), two(Clock::Observed, 2));
    if full() {
        let three = |clock| menu::upgrades(clock, &THREE_UPGRADERS, 0);
        check(three(store(3)), three(store(3)));
        check(three(Clock::Observed), three(Clock::Observed));
    }
}

#[test]
fn an_upgrade_may_be_asked_for_anew_before_the_last_one_is_known_to_be_withdrawn() {
    let anew = |clock, ghosts| {
        let mut menu = menu::upgrades(clock, &[&[PERMIT], &[PERMIT]], ghosts);
        menu.upgrades = 2;
        without(menu, &[Landmark::LateDowngrade, Landmark::UpgradeWithdrawnAfterGrant])
    };
    let mut small = anew(store(0), 1);
    small.downgrade = false;
    check(without(small, &[Landmark::Downgraded]), anew(store(1), 2));
    if full() {
        check(anew(Clock::Observed, 2), anew(Clock::Observed, 2));
    }
}

#[test]
fn force_is_told_and_raises_the_fence() {
    let two = |clock| menu::force(clock, &TWO_WITH_FORCE);
    let three = |clock| menu::force(clock, &THREE_WITH_FORCE);
    check(two(store(1)), three(store(2)));
    check(two(Clock::Observed), three(Clock::Observed));
}

#[test]
fn values_are_written_by_holders_and_answer_who_would_rather_have_them() {
    let two = |clock| menu::values(clock, &TWO_WITH_VALUES);
    let three = |clock| menu::values(clock, &THREE_WITH_VALUES);
    check(two(store(2)), three(store(4)));
    check(two(Clock::Observed), three(Clock::Observed));
}

#[test]
fn everything_goes_together() {
    for (small, full) in [(store(1), store(2)), (Clock::Observed, Clock::Observed)] {
        let mut small = menu::everything(small);
        small.crashes = 0;
        small.evictions = 0;
        small.lapses = 0;
        small.extend = false;
        small.put = false;
        check(small, menu::everything(full));
    }
}

#[test]
fn rules_that_forget_who_holds_are_found_out() {
    let mutex = || one_life(menu::bad_network(store(2)));
    find_out(broken::release_ignores_the_token, mutex(), &[watch::NO_LOSS_WITHOUT_CAUSE]);
    find_out(broken::renewal_re_creates, mutex(), &[watch::DEPARTED, watch::WITHDRAWN]);
    find_out(broken::no_tombstones, mutex(), &[watch::WITHDRAWN]);
    find_out(broken::no_departures, mutex(), &[watch::DEPARTED, watch::ANSWER]);
    find_out(broken::changes_in_silence, mutex(), &[watch::EFFECTS]);
    let force = menu::force(store(1), &TWO_WITH_FORCE);
    find_out(broken::evicts_in_silence, force, &[watch::IS_TOLD]);
    let two = menu::bad_network(store(2));
    find_out(broken::fence_goes_back, two, &[watch::FENCES]);
}

#[test]
fn rules_that_count_time_wrong_are_found_out() {
    let mutex = one_life(menu::bad_network(store(2)));
    let early = [watch::NO_LOSS_WITHOUT_CAUSE, watch::ANSWER, world::BACKED, world::NO_OVERLAP];
    find_out(broken::judges_by_another_clock, mutex, &early);
    let mutex = one_life(menu::bad_network(Clock::Observed));
    find_out(broken::takes_the_living_for_dead, mutex, &[world::BACKED, world::NO_OVERLAP]);
}

#[test]
fn rules_that_serve_out_of_turn_are_found_out() {
    let permits = || menu::permits(store(1), 1);
    find_out(broken::readers_pass_writers, permits(), &[watch::ORDER]);
    find_out(broken::trying_barges, permits(), &[watch::ORDER]);
    find_out(broken::release_does_not_hand_over, permits(), &[watch::WAKE_UP]);
    find_out(broken::last_come_first_served, menu::crowd(store(1)), &[watch::ORDER, watch::ANSWER]);
}

#[test]
fn rules_that_get_upgrades_wrong_are_found_out() {
    let upgrades = || menu::upgrades(store(1), &TWO_UPGRADERS, 1);
    let drops = [watch::NO_LOSS_WITHOUT_CAUSE, watch::KEEPS_SHARE];
    find_out(broken::withdrawn_upgrade_drops_the_share, upgrades(), &drops);
    find_out(broken::upgraders_wait_for_each_other, upgrades(), &[watch::ONE_UPGRADER]);
    find_out(broken::late_upgrades_count, upgrades(), &[watch::IDEMPOTENT]);
    let late = [watch::NO_LOSS_WITHOUT_CAUSE, world::BACKED, world::NO_OVERLAP];
    find_out(broken::late_downgrades_count, upgrades(), &late);
}

#[test]
fn rules_that_let_anybody_write_are_found_out() {
    let values = menu::values(store(1), &THREE_WITH_VALUES);
    find_out(broken::every_holder_writes, values, &[watch::WRITER]);
}
