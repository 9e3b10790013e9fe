//! Sessions, the registry in front of them, cancelled waits, ended sessions and crashes, in every
//! order: the registry as it is, and the server's rules as its source has them.
//!
//! Two processes of two tasks each want one lock. What is modelled of the rest of this room is which
//! statement goes to which session when, and what is done with each answer.

mod world;

use std::collections::{BTreeMap, BTreeSet};

use stateright::{Checker, HasDiscoveries, Model, Property};
use tenure_core::Micros;
use tenure_core::backend::Departure;
use tenure_core::clock::Moment;

use self::world::{Reply, Request, Step, Task, Who, World};
use super::key::Key;
use super::registry::{Begin, Leave, Registry, SessionId};

const TIMES: (Moment, Micros) = (Moment::from_nanos(1), Micros(1));
const KEY: Key = Key(7);
/// How many sessions the server takes.
const CONNECTIONS: u64 = 8;
/// What a crash takes back at most for each session: what it drew while it waits for the disk.
const LOST: u64 = 3;
/// How far a new session moves the sequence.
const LEAP: u64 = LOST * CONNECTIONS;

/// Which variant is on trial, and how much may happen.
#[derive(Clone, Copy, Debug)]
struct Rules {
    /// Nobody is looked up before a session is asked.
    no_registry: bool,
    /// What a cancelled wait may hold is not given back.
    trusts_cancel: bool,
    /// A new session draws on where the sequence is.
    no_leap: bool,
    /// Or if its process believes to have another one, which nobody asked the server for.
    trusts_its_list: bool,
    /// It draws past what one session may have lost, however many there are.
    leaps_for_one: bool,
    /// Whoever waits here asks a session without asking the registry.
    tries_unasked: bool,
    /// What a session grants is taken, also if it holds the lock already for another task.
    takes_twice: bool,
    /// How many of a process wait at the server; more wait here, and try.
    places: usize,
    tasks: [usize; 2],
    ends: u8,
    crashes: u8,
}

const SOUND: Rules = Rules {
    no_registry: false,
    trusts_cancel: false,
    no_leap: false,
    trusts_its_list: false,
    leaps_for_one: false,
    tries_unasked: false,
    takes_twice: false,
    places: 2,
    tasks: [2, 1],
    ends: 1,
    crashes: 1,
};

impl Model for Rules {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let tasks = (0..2).flat_map(|p| (0..self.tasks[p]).map(move |t| ((p, t), Task::Idle)));
        vec![World {
            registries: [Registry::default(), Registry::default()],
            tasks: tasks.collect(),
            sessions: BTreeMap::new(),
            next: 0,
            owner: None,
            queue: Vec::new(),
            here: BTreeSet::new(),
            sequence: 0,
            told: 0,
            ends: 0,
            crashes: 0,
            broken: None,
        }]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        for (who, task) in &world.tasks {
            match task {
                Task::Idle => steps.push(Step::Begin(*who)),
                Task::Asking => steps.push(Step::GiveUp(*who)),
                Task::Holding(_) => steps.push(Step::Release(*who)),
                Task::Leaving | Task::Done => {}
            }
        }
        for who in &world.here {
            let may_try = || world.registries[who.0].clone().may_try(World::member(*who));
            if self.tries_unasked || may_try() == Begin::Try {
                steps.push(Step::TryAgain(*who));
            }
            if world.has_place(who.0, *self) {
                steps.push(Step::Place(*who));
            }
        }
        for (id, session) in &world.sessions {
            let waits = world.queue.iter().any(|(q, _)| q == id);
            if !session.ended && !waits && !session.requests.is_empty() {
                steps.push(Step::Serve(*id));
            }
            if !session.replies.is_empty() || session.ended {
                steps.push(Step::Deliver(*id));
            }
            // Whoever gave up a wait had it cancelled.
            let gave_up = |who: &Who| world.tasks[who] == Task::Leaving;
            if world.queue.iter().any(|(q, who)| q == id && gave_up(who)) {
                steps.push(Step::Cancel(*id));
            }
            if let [Reply::Granted(who, _)] = &session.replies[..]
                && gave_up(who)
                && !session.ended
            {
                steps.push(Step::CancelTooLate(*id));
            }
            if !session.ended && world.ends < self.ends {
                steps.push(Step::End(*id));
            }
        }
        if world.crashes < self.crashes && world.told != 0 {
            steps.extend([0, LOST * world.alive()].map(|lost| Step::Crash { lost }));
        }
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut next = world.clone();
        match step {
            Step::Begin(who) => {
                next.tasks.insert(who, Task::Asking);
                next.begin(who, false, *self);
            }
            Step::TryAgain(who) => next.try_again(who, *self),
            Step::Place(who) => {
                next.here.remove(&who);
                let session = next.session(who.0, *self);
                next.send(session, Request::Wait(who));
            }
            Step::Serve(id) => next.serve(id),
            Step::Deliver(id) => next.deliver(id, *self),
            Step::Release(who) => {
                let leave = next.registries[who.0].leave(World::member(who), &Departure::Released);
                let Leave::Unlock(id) = leave else { return None };
                next.tasks.insert(who, Task::Leaving);
                next.send(id, Request::Unlock(who));
            }
            Step::GiveUp(who) => {
                next.registries[who.0].withdraw(&World::claim(who), TIMES.0);
                next.tasks.insert(who, Task::Leaving);
                if next.here.contains(&who) {
                    next.gives_up_here(who);
                }
            }
            Step::Cancel(id) => {
                let at = next.queue.iter().position(|(q, _)| *q == id)?;
                let (_, who) = next.queue.remove(at);
                next.reply(id, Reply::Cancelled(who));
                next.hand_over();
            }
            Step::CancelTooLate(id) => {
                let session = next.sessions.get_mut(&id)?;
                let Some(Reply::Granted(who, _)) = session.replies.pop() else { return None };
                session.replies.push(Reply::Cancelled(who));
            }
            Step::End(id) => {
                next.ends += 1;
                next.end(id);
                next.hand_over();
            }
            Step::Crash { lost } => {
                next.crashes += 1;
                let all: Vec<SessionId> = next.sessions.keys().copied().collect();
                all.into_iter().for_each(|id| next.end(id));
                next.sequence = next.sequence.saturating_sub(lost);
            }
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no two work at once", |_, world: &World| world.working() <= 1),
            Property::always("whoever has the lock is known", |_, world: &World| {
                world.owner_is_known()
            }),
            Property::always("fences only rise", |_, world: &World| world.broken.is_none()),
            Property::always("nobody is left waiting", |_, world: &World| {
                let quiet = world
                    .sessions
                    .values()
                    .all(|s| !s.ended && s.replies.is_empty() && s.requests.is_empty());
                let may_try = |who: &Who| {
                    world.registries[who.0].clone().may_try(World::member(*who)) == Begin::Try
                };
                let waits = !world.queue.is_empty() || world.here.iter().any(|who| !may_try(who));
                !(quiet && world.owner.is_none() && waits)
            }),
            Property::sometimes("a lock is handed over", |_, world: &World| {
                world.queue.is_empty() && world.told > 2 && world.working() == 1
            }),
            Property::sometimes("a crash is survived", |_, world: &World| {
                world.crashes == 1 && world.working() == 1
            }),
        ]
    }
}

fn find_out(rules: Rules, promise: &str) {
    let checker = rules.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let found: Vec<_> = checker.discoveries().into_keys().collect();
    println!("{} states: {found:?}", checker.unique_state_count());
    assert!(found.contains(&promise), "found {found:?}, not {promise:?}");
}

/// Goes through every state.
fn check(rules: Rules) {
    let checker = rules.checker().threads(2).spawn_dfs().join();
    println!("{} states, {} distinct", checker.state_count(), checker.unique_state_count());
    let found = checker.discoveries();
    for promise in rules.properties() {
        let is_found = found.contains_key(promise.name);
        match promise.expectation {
            stateright::Expectation::Sometimes if promise.name.contains("crash") => {
                assert_eq!(is_found, 0 < rules.crashes, "{}", promise.name);
            }
            stateright::Expectation::Sometimes => assert!(is_found, "never: {}", promise.name),
            _ => assert!(!is_found, "it is not so that {}: {found:?}", promise.name),
        }
    }
}

fn full() -> bool {
    std::env::var("TENURE_MODELS").is_ok_and(|size| size == "full")
}

#[test]
fn tasks_and_cancels_keep_every_promise_in_every_order() {
    let ends = u8::from(full());
    check(Rules { ends, crashes: 0, ..SOUND });
}

#[test]
fn ended_sessions_and_crashes_keep_every_promise_in_every_order() {
    let tasks = if full() { [2, 1] } else { [1, 1] };
    check(Rules { tasks, ..SOUND });
}

#[test]
fn without_a_registry_two_tasks_of_a_process_work_at_once() {
    find_out(Rules { no_registry: true, takes_twice: true, ..SOUND }, "no two work at once");
}

#[test]
fn those_who_wait_without_a_place_keep_every_promise_in_every_order() {
    for places in [0, 1] {
        check(Rules { places, tasks: [2, 1], ends: 0, crashes: 0, ..SOUND });
        check(Rules { places, tasks: [2, 0], ends: 1, crashes: 1, ..SOUND });
    }
}

#[test]
fn one_that_waits_here_and_asks_nobody_holds_what_another_task_of_its_process_holds() {
    let rules = Rules { tries_unasked: true, places: 0, ends: 0, crashes: 0, ..SOUND };
    find_out(Rules { takes_twice: true, ..rules }, "no two work at once");
    // The last line of defence: what a session grants twice is given back.
    let checker = rules.checker().spawn_dfs().join();
    assert!(!checker.discoveries().contains_key("no two work at once"));
}

#[test]
fn a_leap_past_what_one_session_may_have_lost_lets_a_fence_fall() {
    find_out(Rules { leaps_for_one: true, ends: 0, ..SOUND }, "fences only rise");
}

#[test]
fn a_cancel_that_is_trusted_leaves_a_lock_that_nobody_knows_of() {
    let rules = Rules { trusts_cancel: true, ends: 0, crashes: 0, ..SOUND };
    find_out(rules, "whoever has the lock is known");
}

#[test]
fn without_the_leap_a_fence_falls_after_a_crash() {
    find_out(Rules { no_leap: true, ends: 0, ..SOUND }, "fences only rise");
}

#[test]
fn a_session_that_is_vouched_for_by_one_that_a_crash_has_ended_lets_a_fence_fall() {
    find_out(Rules { trusts_its_list: true, ends: 0, ..SOUND }, "fences only rise");
}
