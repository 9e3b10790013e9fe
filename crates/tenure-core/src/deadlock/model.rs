//! Every order in which a few tasks take locks, look, give up and give way.
//!
//! The tasks run on the machine's own cells, the looks are the walk itself. What is true is found
//! out by another way than the walk's: everybody who does not wait releases, on a copy, until
//! nothing changes; who waits then would wait for ever.

use std::sync::Arc;
use std::time::Duration;

use stateright::{Checker, HasDiscoveries, Model, Property};

use super::walk::{Next, Walk};
use crate::actor::Actor;
use crate::backend::{Claim, Verdict};
use crate::machine::{Cell, Now, Turn};
use crate::name::LockName;
use crate::owner::{Details, Owner};
use crate::token::Token;
use crate::values::{Fence, Micros, Priority, Seats};

/// Locks and what a task wants of them, in its order.
#[derive(Clone, Copy, Debug)]
struct Errand {
    wants: &'static [(&'static str, Seats)],
    priority: i32,
    /// Whether it may lose its patience.
    gives_up: bool,
}

const fn errand(wants: &'static [(&'static str, Seats)]) -> Errand {
    Errand { wants, priority: 0, gives_up: false }
}

const X: Seats = Seats::All;
const SHARED: Seats = Seats::SHARED;
const ONE_OF_TWO: Seats = Seats::Some { take: 1, of: 2 };
const NOW: Now<'_> = Now::Store(Micros(1));
const LOCKS: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
struct Tasks {
    errands: Vec<Errand>,
    /// How many cycles they can be in at most.
    cycles: usize,
    /// Whether walkers look again before they give way.
    careful: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Task {
    /// How much of its errand it asked for.
    asked: usize,
    doing: Doing,
    walk: Option<Walk>,
    /// Whether anything changed since its last walk began: another one would see the same.
    looks: bool,
    /// Whether it was stuck when its walk began to look again.
    was_stuck: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Doing {
    Working,
    Waiting,
    /// It has to give way, and stands in the queue for as long as saying so takes.
    GivingWay,
    /// It lets go of everything, for this reason.
    LeavingDone,
    LeavingGivenUp,
    LeavingVictim,
    Gone,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct World {
    cells: [Cell; 3],
    tasks: Vec<Task>,
    victims: usize,
    broken: Option<&'static str>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Step {
    Ask(usize),
    LetGo(usize),
    Look(usize),
    GiveUp(usize),
    GiveWay(usize),
}

fn at(name: &str) -> usize {
    LOCKS.iter().position(|lock| *lock == name).expect("one of them")
}

fn lock(name: &str) -> LockName {
    LockName::new(name).expect("a name")
}

impl Task {
    /// Whether it stands in a queue.
    fn waits(&self) -> bool {
        matches!(self.doing, Doing::Waiting | Doing::GivingWay)
    }
}

impl Tasks {
    fn of(errands: &[Errand]) -> Self {
        Self { errands: errands.to_vec(), cycles: 1, careful: true }
    }

    /// The claim by which a task asks for the `nth` lock of its errand, holding those before.
    fn claim(&self, task: usize, nth: usize) -> Claim {
        let errand = &self.errands[task];
        let mut secret = [0; 16];
        (secret[0], secret[1]) = (task as u8 + 1, nth as u8);
        let actor = Actor::new(&format!("task-{task}")).expect("a path");
        let owner = Owner { label: "model".into(), host: "host".into(), pid: 1 };
        let holds = errand.wants[..nth].iter().map(|(name, _)| lock(name)).collect();
        let details = Details::of(owner).with_actor(&actor).holding(holds);
        let (name, seats) = errand.wants[nth];
        let token = Token::from_bytes(secret);
        let hour = Duration::from_secs(3600);
        let mut claim = Claim::new(lock(name), token, hour, Arc::new(details));
        (claim.seats, claim.wait, claim.wait_ttl, claim.pick_up) = (seats, true, hour, hour);
        claim.priority = Priority::new(errand.priority).expect("in range");
        claim
    }

    /// Who does not wait lets go; then those who waited for that, and so on. Whoever waits then, would
    /// for ever.
    fn stuck(&self, world: &World) -> Vec<bool> {
        let mut world = world.clone();
        loop {
            let mut changed = false;
            for task in 0..world.tasks.len() {
                self.notice(&mut world, task);
                if !world.tasks[task].waits() {
                    for nth in 0..world.tasks[task].asked {
                        changed |= self.release(&mut world, task, nth);
                    }
                }
            }
            if !changed {
                return world.tasks.iter().map(Task::waits).collect();
            }
        }
    }

    fn release(&self, world: &mut World, task: usize, nth: usize) -> bool {
        let claim = self.claim(task, nth);
        let cell = &mut world.cells[at(claim.name.as_str())];
        let held = cell.holder_ids().any(|id| id == claim.member);
        let mut turn = Turn::begin(cell, NOW, Fence::ZERO);
        turn.release(claim.member, None);
        turn.end();
        held
    }

    /// A task that waits may have been granted what it waits for.
    fn notice(&self, world: &mut World, task: usize) {
        if world.tasks[task].doing == Doing::Waiting {
            let claim = self.claim(task, world.tasks[task].asked - 1);
            let cell = &world.cells[at(claim.name.as_str())];
            if cell.holder_ids().any(|id| id == claim.member) {
                world.tasks[task].doing = Doing::Working;
                world.tasks[task].walk = None;
            }
        }
    }

    fn changed(&self, world: &mut World) {
        for task in 0..world.tasks.len() {
            self.notice(world, task);
            world.tasks[task].looks = true;
        }
    }

    fn withdraw(&self, world: &mut World, task: usize, then: Doing) {
        let claim = self.claim(task, world.tasks[task].asked - 1);
        let cell = &mut world.cells[at(claim.name.as_str())];
        let mut turn = Turn::begin(cell, NOW, Fence::ZERO);
        turn.withdraw(claim.id, claim.member, Duration::from_secs(60));
        turn.end();
        let task = &mut world.tasks[task];
        (task.asked, task.doing, task.walk) = (task.asked - 1, then, None);
        self.changed(world);
    }

    fn look(&self, world: &mut World, task: usize) {
        let nth = world.tasks[task].asked - 1;
        let claim = self.claim(task, nth);
        let mut walk = world.tasks[task].walk.take().unwrap_or_else(|| {
            world.tasks[task].looks = false;
            Walk::new(claim.member.holder(), &claim.name, &claim.details.holds)
        });
        let next = |walk: &mut Walk| match self.careful {
            true => walk.next(),
            false => walk.without_second_look(),
        };
        if let Next::Read(name) = next(&mut walk) {
            if walk.looks_again() {
                world.tasks[task].was_stuck = self.stuck(world)[task];
            }
            walk.saw(world.cells[at(name.as_str())].view(name, Micros(1)));
        }
        match next(&mut walk) {
            Next::Read(_) => world.tasks[task].walk = Some(walk),
            Next::Wait => {}
            Next::GiveWay(cycle) => {
                let stuck = self.stuck(world)[task];
                world.tasks[task].walk = None;
                // What was so between the looks may have been undone since: by one that lost its
                // patience, or gives way itself in another cycle.
                let was_stuck = self.careful && world.tasks[task].was_stuck;
                if !stuck && !was_stuck {
                    world.broken = Some("a victim was stuck");
                }
                if cycle.is_empty() {
                    world.broken = Some("a victim is told of the cycle");
                }
                world.tasks[task].doing = Doing::GivingWay;
                world.victims += 1;
            }
        }
    }
}

impl Model for Tasks {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let task =
            Task { asked: 0, doing: Doing::Working, walk: None, looks: true, was_stuck: false };
        let tasks = vec![task; self.errands.len()];
        vec![World { cells: Default::default(), tasks, victims: 0, broken: None }]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        if world.broken.is_some() {
            return;
        }
        for (task, now) in world.tasks.iter().enumerate() {
            match now.doing {
                Doing::Working if now.asked < self.errands[task].wants.len() => {
                    steps.push(Step::Ask(task));
                }
                Doing::Working
                | Doing::LeavingDone
                | Doing::LeavingGivenUp
                | Doing::LeavingVictim => steps.push(Step::LetGo(task)),
                Doing::Waiting => {
                    if 1 < now.asked && (now.looks || now.walk.is_some()) {
                        steps.push(Step::Look(task));
                    }
                    if self.errands[task].gives_up {
                        steps.push(Step::GiveUp(task));
                    }
                }
                Doing::GivingWay => steps.push(Step::GiveWay(task)),
                Doing::Gone => {}
            }
        }
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut world = world.clone();
        match step {
            Step::Ask(task) => {
                let claim = self.claim(task, world.tasks[task].asked);
                let cell = &mut world.cells[at(claim.name.as_str())];
                let mut turn = Turn::begin(cell, NOW, Fence::ZERO);
                let verdict = turn.acquire(&claim);
                turn.end();
                world.tasks[task].asked += 1;
                if matches!(verdict, Verdict::Queued(_)) {
                    world.tasks[task].doing = Doing::Waiting;
                }
                self.changed(&mut world);
            }
            Step::LetGo(task) => {
                // One lock at a time, the last first.
                let nth = world.tasks[task].asked - 1;
                self.release(&mut world, task, nth);
                let now = &mut world.tasks[task];
                now.asked = nth;
                now.doing = match now.doing {
                    _ if nth == 0 => Doing::Gone,
                    Doing::Working => Doing::LeavingDone,
                    leaving => leaving,
                };
                self.changed(&mut world);
            }
            Step::Look(task) => self.look(&mut world, task),
            Step::GiveWay(task) => self.withdraw(&mut world, task, Doing::LeavingVictim),
            Step::GiveUp(task) => {
                let holds = 1 < world.tasks[task].asked;
                let then = if holds { Doing::LeavingGivenUp } else { Doing::Gone };
                self.withdraw(&mut world, task, then);
            }
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("whoever gives way was stuck, and is told why", |_, world: &World| {
                world.broken.is_none()
            }),
            Property::always("one gives way for each cycle", |tasks: &Tasks, world: &World| {
                world.victims <= tasks.cycles
            }),
            Property::always("no cycle stays", |tasks: &Tasks, world: &World| {
                let mut steps = Vec::new();
                tasks.actions(world, &mut steps);
                let waits = world.tasks.iter().any(|task| task.doing == Doing::Waiting);
                world.broken.is_some() || !steps.is_empty() || !waits
            }),
            Property::sometimes("somebody gives way", |_, world: &World| {
                world.tasks.iter().any(|task| task.doing == Doing::LeavingVictim)
            }),
        ]
    }
}

/// Goes through every state; answers whether anybody had to give way.
fn check(what: &str, tasks: Tasks) -> bool {
    let checker = tasks.checker().threads(2).spawn_dfs().join();
    println!("{what}: {} states, {} distinct", checker.state_count(), checker.unique_state_count());
    let found = checker.discoveries();
    for (promise, path) in &found {
        if *promise != "somebody gives way" {
            let steps: Vec<String> =
                path.clone().into_actions().iter().map(|step| format!("{step:?}")).collect();
            panic!("{what}: it is not so that {promise}:\n{}", steps.join("\n"));
        }
    }
    found.contains_key("somebody gives way")
}

#[test]
fn two_tasks_that_cross_lose_one_of_them() {
    let (ab, ba) = (errand(&[("a", X), ("b", X)]), errand(&[("b", X), ("a", X)]));
    assert!(check("crossing", Tasks::of(&[ab, ba])));
    assert!(check("a third one waits behind", Tasks::of(&[ab, ba, errand(&[("a", X)])])));
    let important = Errand { priority: 1, ..ba };
    assert!(check("with a priority", Tasks::of(&[ab, important])));
}

#[test]
fn three_tasks_in_a_ring_lose_one_of_them() {
    let ring = [
        errand(&[("a", X), ("b", X)]),
        errand(&[("b", X), ("c", X)]),
        errand(&[("c", X), ("a", X)]),
    ];
    assert!(check("a ring", Tasks::of(&ring)));
}

#[test]
fn those_who_take_locks_in_one_order_never_give_way() {
    let (ab, bc, ac) = (
        errand(&[("a", X), ("b", X)]),
        errand(&[("b", X), ("c", X)]),
        errand(&[("a", X), ("c", X)]),
    );
    assert!(!check("in order", Tasks::of(&[ab, bc, ac])));
}

#[test]
fn a_seat_that_becomes_free_is_enough() {
    // Two of the three can hold `a`; only if both of them wait for `b`, nobody can go on.
    let (ab, ba) = (errand(&[("a", ONE_OF_TWO), ("b", X)]), errand(&[("b", X), ("a", ONE_OF_TWO)]));
    let a = errand(&[("a", ONE_OF_TWO)]);
    assert!(!check("a semaphore with room", Tasks::of(&[ab, ba, a])));
    assert!(check("a semaphore without", Tasks::of(&[ab, ab, ba])));
}

#[test]
fn a_writer_in_the_queue_is_in_the_way_of_readers() {
    let tasks = [
        errand(&[("a", SHARED), ("b", X)]),
        errand(&[("a", X)]),
        errand(&[("b", X), ("a", SHARED)]),
    ];
    assert!(check("a writer between readers", Tasks::of(&tasks)));
}

#[test]
fn those_who_lose_their_patience_make_no_victim_of_others() {
    let (ab, ba) = (errand(&[("a", X), ("b", X)]), errand(&[("b", X), ("a", X)]));
    let impatient = |errand| Errand { gives_up: true, ..errand };
    assert!(check("impatient", Tasks::of(&[impatient(ab), ba])));
    let ring = [
        errand(&[("a", X), ("b", X)]),
        impatient(errand(&[("b", X), ("c", X)])),
        errand(&[("c", X), ("a", X)]),
    ];
    assert!(check("an impatient ring", Tasks::of(&ring)));
    assert!(check("all of a ring are impatient", Tasks::of(&ring.map(impatient))));
}

#[test]
fn cycles_that_share_a_task_are_both_undone() {
    let two = |errands: &[Errand]| Tasks { cycles: 2, ..Tasks::of(errands) };
    // The first one crosses both others.
    let tasks = [
        errand(&[("a", X), ("b", X), ("c", X)]),
        errand(&[("b", X), ("a", X)]),
        errand(&[("c", X), ("a", X)]),
    ];
    assert!(check("two cycles", two(&tasks)));
    let late = [tasks[0], tasks[1], Errand { priority: 1, ..tasks[2] }];
    assert!(check("two cycles, one of them more urgent", two(&late)));
    let readers = [
        errand(&[("a", SHARED), ("b", X)]),
        errand(&[("a", SHARED), ("c", X)]),
        errand(&[("b", X), ("c", SHARED), ("a", X)]),
    ];
    assert!(check("a writer behind two readers", two(&readers)));
}

/// The model finds out what the second look is for.
#[test]
fn whoever_trusts_one_look_gives_way_without_need() {
    let impatient = |errand| Errand { gives_up: true, ..errand };
    let tasks = [
        impatient(errand(&[("a", X), ("b", X)])),
        impatient(errand(&[("b", X), ("c", X)])),
        impatient(errand(&[("c", X), ("a", X)])),
    ];
    let model = Tasks { careful: false, ..Tasks::of(&tasks) };
    let checker = model.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let found: Vec<_> = checker.discoveries().into_keys().collect();
    assert!(found.contains(&"whoever gives way was stuck, and is told why"), "{found:?}");
}
