//! Runs rules: each on a thread and a runtime of its own, so that a rule that computes or blocks
//! holds no other one up, and several at a time, because most of them wait.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_lite::future::or;
use parking_lot::Mutex;
use tenure_core::Capabilities;
use tenure_core::clock::{Clock, SystemClock};

use super::kit::pause;
use super::report::{Outcome, Report};
use super::rules::{RULES, Rule};
use super::{Need, Store};

/// Runs every rule whose needs the store meets.
///
/// # Panics
/// If the store cannot be opened or there is no thread to run a rule on.
pub fn run(store: &dyn Store) -> Report {
    run_rules(store, &RULES.iter().collect::<Vec<_>>())
}

/// Runs these rules, as far as the store meets their needs.
///
/// # Panics
/// As [`run`].
pub fn run_rules(store: &dyn Store, rules: &[&'static Rule]) -> Report {
    let began = SystemClock.now();
    let capabilities = capabilities(store);
    let outcomes = Mutex::new(vec![None; rules.len()]);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..store.parallel().max(1) {
            scope.spawn(|| {
                while let Some((at, rule)) = take(rules, &next) {
                    let outcome = try_rule(store, &capabilities, rule);
                    outcomes.lock()[at] = Some((rule.name, outcome));
                }
            });
        }
    });
    let outcomes = outcomes.into_inner().into_iter().flatten().collect();
    Report { store: store.name().to_owned(), outcomes, took: SystemClock.now().since(began) }
}

fn take<'a>(rules: &[&'a Rule], next: &AtomicUsize) -> Option<(usize, &'a Rule)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    rules.get(at).map(|rule| (at, *rule))
}

fn capabilities(store: &dyn Store) -> Capabilities {
    let runtime = runtime();
    let backend = runtime.block_on(store.open()).expect("the store on trial can be opened");
    backend.capabilities().clone()
}

fn try_rule(store: &dyn Store, capabilities: &Capabilities, rule: &Rule) -> Outcome {
    let lacks: Vec<Need> =
        rule.needs.iter().copied().filter(|need| !need.is_met(store, capabilities)).collect();
    if !lacks.is_empty() {
        return Outcome::Skipped(lacks);
    }
    // A thread of the rule's name, so that its panic says which one it is.
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name(rule.name.to_owned());
        let trial = thread.spawn_scoped(scope, || on_trial(store, rule));
        let trial = trial.expect("a thread to run a rule on").join();
        trial.unwrap_or_else(|_| Outcome::Broken("it panicked outside of the rule".to_owned()))
    })
}

fn on_trial(store: &dyn Store, rule: &Rule) -> Outcome {
    let runtime = runtime();
    let limit = store.short_ttl() * 12 + store.patience() * 3;
    let trial = or(
        async {
            (rule.run)(store).await;
            Outcome::Held
        },
        async {
            pause(limit).await;
            Outcome::Hung
        },
    );
    let outcome = catch_unwind(AssertUnwindSafe(|| runtime.block_on(trial)))
        .unwrap_or_else(|panic| Outcome::Broken(said(&*panic)));
    // What the rule left behind may hang on a store that hangs.
    runtime.shutdown_timeout(Duration::from_millis(100));
    outcome
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "it panicked".to_owned())
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime to run a rule in")
}
