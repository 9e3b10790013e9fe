//! The course of a call, model-checked over the machine itself: every order in which a few callers,
//! whose leases end, whose answers are lost and who crash, can do what their courses ask.
//!
//! Runs at a small size with all other tests; `TENURE_MODELS=full` runs the size it is meant for:
//!
//! ```text
//! TENURE_MODELS=full cargo test --release -p tenure-recipes --lib model -- --nocapture --test-threads 1
//! ```

mod world;

use stateright::{Checker, HasDiscoveries, Model, Property};

use super::config::Executions;
use super::course::{Ask, Verdict};
use world::{Menu, World};

fn full() -> bool {
    std::env::var("TENURE_MODELS").is_ok_and(|size| size == "full")
}

impl Model for Menu {
    type State = World;
    type Action = world::Step;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self)]
    }

    fn actions(&self, world: &World, steps: &mut Vec<world::Step>) {
        world.steps(steps);
    }

    fn next_state(&self, world: &World, step: world::Step) -> Option<World> {
        let mut next = world.clone();
        next.take(self, step);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("at most one result is accepted", |menu: &Menu, w: &World| {
                w.accepted.len() <= 1 || menu.forced
            }),
            Property::always("all callers see the same result", |menu: &Menu, w: &World| {
                menu.forced || w.verdicts().filter_map(result).all(|a| w.accepted == [a])
            }),
            Property::always("a result that was told is one that was accepted", |_, w: &World| {
                w.verdicts().filter_map(result).all(|a| w.accepted.contains(&a))
            }),
            Property::always("what may run only once runs once", |menu: &Menu, w: &World| {
                menu.executions == Executions::AtLeastOnce || w.begun.len() <= 1
            }),
            Property::always("attempts rise with their fences", |_, w: &World| {
                // In order of their numbers: a caller may be paused between its mark and its work.
                let mut begun = w.begun.clone();
                begun.sort_unstable();
                begun.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1)
            }),
            Property::always("no more attempts than the maximum", |menu: &Menu, w: &World| {
                menu.forced || w.begun.len() <= menu.max_attempts as usize
            }),
            Property::always("nobody works beside a leader that may", |_, w: &World| {
                w.working_under_the_lock() <= 1
            }),
            Property::always("nobody is stuck", |_, w: &World| {
                let mut steps = Vec::new();
                w.steps(&mut steps);
                !steps.is_empty() || w.workers.iter().all(world::Worker::is_over)
            }),
        ]
    }
}

/// The attempt whose result a verdict tells.
fn result(verdict: Verdict) -> Option<u32> {
    match verdict {
        Verdict::Mine { attempt } | Verdict::Theirs { attempt } => Some(attempt),
        _ => None,
    }
}

/// What has to be seen, or the model does not reach what it is about.
type Landmark = (&'static str, fn(&World) -> bool);

fn ends(world: &World, is: fn(Verdict) -> bool) -> bool {
    world.verdicts().any(is)
}

const TAKEN_OVER: Landmark = ("a leader was taken over", |w| 1 < w.begun.len());
const FOLLOWED: Landmark =
    ("somebody followed", |w| ends(w, |v| matches!(v, Verdict::Theirs { .. })));
const SUPERSEDED: Landmark =
    ("somebody was superseded", |w| ends(w, |v| matches!(v, Verdict::Superseded { .. })));
const KEPT_FAILURE: Landmark =
    ("a failure was kept", |w| ends(w, |v| matches!(v, Verdict::KeptFailure { .. })));
const INDETERMINATE: Landmark =
    ("an operator has to look", |w| ends(w, |v| matches!(v, Verdict::Indeterminate { .. })));
const LATE: Landmark = ("a late end was refused", |w| w.refused);
const NEVER_BEGAN: Landmark =
    ("an attempt never began", |w| ends(w, |v| matches!(v, Verdict::NeverBegan)));
const STILL_RUNNING: Landmark =
    ("a wait was over", |w| ends(w, |v| matches!(v, Verdict::StillRunning)));
const RESCUED: Landmark = ("an end that was not heard of was offered again", |w| w.rescued);
const ALL_ATTEMPTS: Landmark = ("all attempts were used", |w| w.begun.len() == 3);

/// Goes through every state, and past the landmarks.
fn check(menu: Menu, landmarks: &[Landmark]) {
    let what = menu.what;
    let checker = menu.clone().checker().threads(2).spawn_dfs().join();
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
    for landmark in landmarks {
        assert!(world::reaches(&menu, landmark.1), "{what}: never seen that {}", landmark.0);
    }
}

#[test]
fn work_that_may_be_repeated_has_one_result() {
    let small = Menu { lapses: 1, failures: 1, timeouts: 1, looks: 1, ..Menu::new(2) };
    let big = Menu { lapses: 2, ..Menu::new(3) };
    let menu = if full() { big } else { small };
    let size = if full() { [ALL_ATTEMPTS] } else { [STILL_RUNNING] };
    let landmarks = [[TAKEN_OVER, FOLLOWED, SUPERSEDED, LATE].as_slice(), &size].concat();
    check(Menu { what: "at least once", ..menu }, &landmarks);
}

#[test]
fn work_that_fails_again_and_again_is_given_up() {
    let small = Menu { failures: 2, max_attempts: 2, ..Menu::new(3) };
    let big = Menu { failures: 3, lapses: 1, ..Menu::new(3) };
    let menu = if full() { big } else { small };
    check(Menu { what: "failures", ..menu }, &[TAKEN_OVER, FOLLOWED, KEPT_FAILURE]);
}

#[test]
fn work_that_may_run_only_once_runs_once() {
    let small = Menu { lapses: 1, lost_answers: 1, failures: 1, ..Menu::new(2) };
    let big = Menu { lapses: 1, crashes: 1, failures: 1, ..Menu::new(3) };
    let menu = if full() { big } else { small };
    let menu = Menu { executions: Executions::AtMostOnce, what: "at most once", ..menu };
    check(menu, &[FOLLOWED, INDETERMINATE, KEPT_FAILURE, LATE]);
}

#[test]
fn lost_answers_and_crashes_leave_one_result() {
    let small = Menu { lost_answers: 1, crashes: 1, ..Menu::new(2) };
    let big = Menu { lost_answers: 1, lapses: 1, ..Menu::new(3) };
    let menu = if full() { big } else { small };
    check(Menu { what: "lost answers", ..menu }, &[TAKEN_OVER, FOLLOWED, NEVER_BEGAN, RESCUED]);
}

#[test]
fn a_forced_call_among_others_replaces_and_mixes_nothing() {
    let small = Menu { lapses: 1, ..Menu::new(2) };
    let big = Menu { lapses: 1, crashes: 1, ..Menu::new(3) };
    let menu = if full() { big } else { small };
    check(Menu { forced: true, what: "forced", ..menu }, &[TAKEN_OVER, FOLLOWED]);
}

/// Control N14: a leader that writes `done` without asking whether it still leads.
#[test]
fn the_control_with_an_unconditional_done_is_found() {
    let menu = Menu { unconditional_done: true, lapses: 1, ..Menu::new(2) };
    let checker = menu.checker().finish_when(HasDiscoveries::Any).spawn_bfs().join();
    let (promise, path) = checker.discoveries().into_iter().next().expect("it is found");
    println!("{promise}: broken in {} steps", path.into_actions().len());
    assert!(
        ["at most one result is accepted", "all callers see the same result"].contains(&promise)
    );
}

#[test]
fn a_course_that_is_over_asks_for_nothing() {
    let world = World::new(&Menu::new(1));
    assert!(!matches!(world.workers[0].course.ask(), Ask::Over(_)));
}
