//! Searching a model to the end, or until a control is caught.

use std::fmt::Debug;
use std::hash::Hash;
use std::time::{Duration, SystemTime};

use stateright::{Checker, HasDiscoveries, Model};

/// Whether `TENURE_MODELS=full` asks for the sizes that take minutes in a release build.
pub(crate) fn full() -> bool {
    std::env::var_os("TENURE_MODELS").is_some_and(|value| value == "full")
}

/// Searches every state; all promises must hold and everything worth exercising must occur.
pub(crate) fn exhaust<M>(name: &str, model: M)
where
    M: Model + Debug + Send + Sync + 'static,
    M::State: Debug + Hash + Send + Sync + Clone + PartialEq + 'static,
    M::Action: Debug + Clone + PartialEq,
{
    let start = Stopwatch::start();
    let checker = model.checker().threads(threads()).spawn_bfs().join();
    eprintln!(
        "model {name}: {} distinct states, {} transitions, depth {}, {:.1?}",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        start.elapsed(),
    );
    checker.assert_properties();
}

/// Searches until `property` is broken, and insists that it is, within `steps`.
///
/// The checker goes breadth first, but in blocks, and of a block it keeps the last hit. So the
/// search is repeated below the depth of what was found until there is nothing: what was found
/// before is a shortest path.
pub(crate) fn catch<M>(name: &str, model: M, property: &'static str, steps: usize)
where
    M: Model + Debug + Copy + Send + Sync + 'static,
    M::State: Debug + Hash + Send + Sync + Clone + PartialEq + 'static,
    M::Action: Debug + Clone + PartialEq,
{
    let start = Stopwatch::start();
    let mut shortest = None;
    let mut states = 0;
    let mut depth = usize::MAX;
    loop {
        let checker = model
            .checker()
            .target_max_depth(depth)
            .finish_when(HasDiscoveries::AnyOf([property].into()))
            .spawn_bfs()
            .join();
        let Some(path) = checker.discovery(property) else {
            states = states.max(checker.unique_state_count());
            break;
        };
        let actions = path.into_actions();
        // A path of n actions visits n + 1 states, and the limit is one past the deepest visited.
        depth = actions.len() + 1;
        states = checker.unique_state_count();
        shortest = Some(actions);
    }
    let actions = shortest
        .unwrap_or_else(|| panic!("{name}: {states} states and '{property}' was never broken"));
    eprintln!(
        "control {name}: '{property}' broken in {} steps, {states} states, {:.1?}",
        actions.len(),
        start.elapsed(),
    );
    for action in &actions {
        eprintln!("    {action:?}");
    }
    assert!(actions.len() <= steps, "{name}: {} steps, at most {steps} expected", actions.len());
}

/// Searches every state for an example of `property`, and insists that there is none.
pub(crate) fn never<M>(name: &str, model: M, property: &'static str)
where
    M: Model + Debug + Send + Sync + 'static,
    M::State: Debug + Hash + Send + Sync + Clone + PartialEq + 'static,
    M::Action: Debug + Clone + PartialEq,
{
    let checker = model.checker().spawn_bfs().join();
    let states = checker.unique_state_count();
    eprintln!("control {name}: '{property}' never happens, {states} states");
    assert!(checker.discovery(property).is_none(), "{name}: {property}");
}

fn threads() -> usize {
    if !full() {
        return 1;
    }
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Times a run for its report; nothing depends on it.
struct Stopwatch(SystemTime);

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "a figure in a report")]
    fn start() -> Self {
        Self(SystemTime::now())
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed().unwrap_or_default()
    }
}
