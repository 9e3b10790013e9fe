//! Votes, raises and renewals in every order, with messages that are late or lost, keys that end early,
//! and voters that forget: the elections and the voters' rules as they are.
//!
//! Three voters; two clients, or three. Keys may end at any time, so the fences rest on no clock. The
//! models run at a small size with all other tests. `TENURE_MODELS=full` runs them at the size they
//! are meant for, in a release build.

mod variants;
mod world;

use stateright::{Checker, HasDiscoveries, Model, Property};

use world::{Phase, Step, Trial, World};

impl Model for Trial {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self)]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        world.steps(self, steps);
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        if world.broken.is_some() {
            return None;
        }
        let mut next = world.clone();
        next.take(self, step);
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("fences only rise", |_, w: &World| w.broken != Some("a fence")),
            Property::always("no two work at once", |trial: &Trial, w: &World| {
                let works = w.clients.iter().filter(|c| c.phase == Phase::Holding).count();
                !trial.excludes() || works <= 1
            }),
            Property::always("what is gone stays gone", |_, w: &World| w.broken != Some("revived")),
            Property::sometimes("a lock goes from one to another", |_, w: &World| 1 < w.told.len()),
        ]
    }
}

fn find_out(trial: &Trial, promise: &str) {
    let checker = trial.clone().checker();
    let checker = checker.finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let found = checker.discoveries();
    let failures: Vec<_> = found.keys().copied().collect();
    println!("{} states: {failures:?}", checker.unique_state_count());
    let path = found.get(promise).unwrap_or_else(|| panic!("found {failures:?}, not {promise:?}"));
    println!("{} steps: {:?}", path.clone().into_actions().len(), path.clone().into_actions());
}

/// Goes through every state.
fn check(trial: &Trial) {
    let checker = trial.clone().checker().symmetry_fn(World::in_order).spawn_dfs().join();
    println!("{} states, {} distinct", checker.state_count(), checker.unique_state_count());
    let found = checker.discoveries();
    for promise in trial.properties() {
        let is_found = found.get(promise.name);
        match promise.expectation {
            stateright::Expectation::Sometimes => {
                assert!(is_found.is_some(), "never: {}", promise.name)
            }
            _ => assert!(is_found.is_none(), "it is not so that {}: {is_found:?}", promise.name),
        }
    }
}

fn full() -> bool {
    std::env::var("TENURE_MODELS").is_ok_and(|size| size == "full")
}
