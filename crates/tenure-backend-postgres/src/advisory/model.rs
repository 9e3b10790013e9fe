//! Sessions, the registry in front of them, cancelled waits, ended sessions and crashes, in every
//! order: the registry as it is, and the server's rules as its source has them.
//!
//! Two processes of two tasks each want one lock. What is modelled of the rest of this room is which
//! statement goes to which session when, and what is done with each answer.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use stateright::{Checker, HasDiscoveries, Model, Property};
use tenure_core::backend::{Claim, Departure};
use tenure_core::clock::Moment;
use tenure_core::{Details, Fence, LockName, MemberId, Micros, Owner, Token};

use super::key::Key;
use super::registry::{Begin, Hold, Landed, Leave, Registry, SessionId, State};

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

/// A task of a process, by numbers.
type Who = (usize, usize);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Request {
    Try(Who),
    /// Of one that waits here.
    TryAgain(Who),
    Wait(Who),
    Unlock(Who),
    UnlockAll(Who),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Reply {
    Tried(Who, Option<u64>),
    TriedAgain(Who, Option<u64>),
    Granted(Who, u64),
    Cancelled(Who),
    Unlocked(Who),
    AllUnlocked(Who),
}

/// A session: what was sent to it and what it sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Session {
    process: usize,
    requests: Vec<Request>,
    replies: Vec<Reply>,
    /// The server has ended it; its process is told after the last reply.
    ended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Task {
    Idle,
    Asking,
    Holding(SessionId),
    /// It gave up, or gives back.
    Leaving,
    Done,
}

#[derive(Clone, Debug)]
struct World {
    registries: [Registry; 2],
    tasks: BTreeMap<Who, Task>,
    sessions: BTreeMap<SessionId, Session>,
    next: SessionId,
    /// Who has the lock and how often, and who waits for it.
    owner: Option<(SessionId, u8)>,
    queue: Vec<(SessionId, Who)>,
    /// Those who wait in their process, without a place at the server.
    here: BTreeSet<Who>,
    sequence: u64,
    /// The highest fence that anybody was told.
    told: u64,
    ends: u8,
    crashes: u8,
    /// A promise was broken on the way here.
    broken: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Step {
    Begin(Who),
    /// One that waits here tries.
    TryAgain(Who),
    /// It finds a place at the server.
    Place(Who),
    Serve(SessionId),
    Deliver(SessionId),
    Release(Who),
    GiveUp(Who),
    /// The server takes a waiting session out of its queue.
    Cancel(SessionId),
    /// A cancel meets a grant: the server says cancelled, and the lock stays.
    CancelTooLate(SessionId),
    End(SessionId),
    Crash {
        lost: u64,
    },
}

impl World {
    fn claim((process, task): Who) -> Claim {
        let mut secret = [0; 16];
        (secret[0], secret[1]) = (process as u8 + 1, task as u8 + 1);
        let details = Arc::new(Details::of(Owner::this_process()));
        let name = LockName::new("key:7").expect("a valid name");
        let token = Token::from_bytes(secret);
        let mut claim = Claim::new(name, token, std::time::Duration::from_secs(30), details);
        claim.wait = true;
        claim
    }

    fn member(who: Who) -> MemberId {
        Self::claim(who).member
    }

    fn session(&mut self, process: usize, rules: Rules) -> SessionId {
        let id = self.next;
        self.next += 1;
        // Whoever is there at the same server leapt before, and no crash has been since.
        let vouches = |s: &Session| s.process == process && (rules.trusts_its_list || !s.ended);
        if !rules.no_leap && !self.sessions.values().any(vouches) {
            self.sequence += if rules.leaps_for_one { LOST } else { LEAP };
        }
        assert!(self.alive() < CONNECTIONS, "the server takes no more");
        self.sessions.insert(id, Session { process, ..Session::default() });
        id
    }

    /// The session that a process's tries go to: its first one that does not wait.
    fn holder(&mut self, process: usize, rules: Rules) -> SessionId {
        let waits = |id: SessionId, s: &Session| {
            let is_wait = |r: &Request| matches!(r, Request::Wait(_) | Request::UnlockAll(_));
            let solo = |r: &Reply| {
                matches!(r, Reply::Granted(..) | Reply::Cancelled(_) | Reply::AllUnlocked(_))
            };
            self.queue.iter().any(|(q, _)| *q == id)
                || s.requests.iter().any(is_wait)
                || s.replies.iter().any(solo)
        };
        let free = self
            .sessions
            .iter()
            .find(|(id, s)| s.process == process && !s.ended && !waits(**id, s))
            .map(|(id, _)| *id);
        free.unwrap_or_else(|| self.session(process, rules))
    }

    fn begin(&mut self, who: Who, tried: bool, rules: Rules) {
        let claim = Self::claim(who);
        let begin = self.registries[who.0].begin(&claim, KEY, TIMES, tried);
        let begin = match begin {
            Begin::Wait if rules.no_registry && !tried => Begin::Try,
            begin => begin,
        };
        match begin {
            Begin::Try => {
                let session = self.holder(who.0, rules);
                self.send(session, Request::Try(who));
            }
            Begin::Wait if self.has_place(who.0, rules) => {
                let session = self.session(who.0, rules);
                self.send(session, Request::Wait(who));
            }
            Begin::Wait => {
                self.here.insert(who);
            }
            // It was withdrawn meanwhile.
            _ => {
                self.tasks.insert(who, Task::Done);
            }
        }
    }

    /// Whether one more of a process may wait at the server.
    fn has_place(&self, process: usize, rules: Rules) -> bool {
        let wait = |r: &&Request| matches!(r, Request::Wait(_) | Request::UnlockAll(_));
        let granted = |r: &&Reply| matches!(r, Reply::Granted(..) | Reply::Cancelled(_));
        let waits = self.queue.iter().filter(|(_, who)| who.0 == process).count();
        let sessions = self.sessions.values().filter(|s| s.process == process);
        let under_way = sessions.map(|s| {
            s.requests.iter().filter(wait).count() + s.replies.iter().filter(granted).count()
        });
        waits + under_way.sum::<usize>() < rules.places
    }

    fn alive(&self) -> u64 {
        self.sessions.values().filter(|s| !s.ended).count() as u64
    }

    /// One that waits here asks a session.
    fn try_again(&mut self, who: Who, rules: Rules) {
        let member = Self::member(who);
        if rules.tries_unasked || self.registries[who.0].may_try(member) == Begin::Try {
            self.here.remove(&who);
            let session = self.holder(who.0, rules);
            self.send(session, Request::TryAgain(who));
        }
    }

    fn send(&mut self, session: SessionId, request: Request) {
        self.sessions.get_mut(&session).expect("it is there").requests.push(request);
    }

    fn reply(&mut self, session: SessionId, reply: Reply) {
        self.sessions.get_mut(&session).expect("it is there").replies.push(reply);
    }

    fn draw(&mut self) -> u64 {
        self.sequence += 1;
        if self.sequence <= self.told {
            self.broken = Some("a fence fell");
        }
        self.sequence
    }

    /// The server's own: a free lock goes to whoever waits first.
    fn hand_over(&mut self) {
        if self.owner.is_none() && !self.queue.is_empty() {
            let (session, who) = self.queue.remove(0);
            self.owner = Some((session, 1));
            let fence = self.draw();
            self.reply(session, Reply::Granted(who, fence));
        }
    }

    fn serve(&mut self, id: SessionId) {
        let request = self.sessions.get_mut(&id).expect("it is there").requests.remove(0);
        let mine = self.owner.is_some_and(|(owner, _)| owner == id);
        match request {
            Request::Try(who) | Request::TryAgain(who) => {
                let free = self.owner.is_none() && self.queue.is_empty();
                let fence = (mine || free).then(|| {
                    self.owner = Some((id, self.owner.map_or(1, |(_, n)| n + 1)));
                    self.draw()
                });
                self.reply(
                    id,
                    match request {
                        Request::Try(_) => Reply::Tried(who, fence),
                        _ => Reply::TriedAgain(who, fence),
                    },
                );
            }
            Request::Wait(who) => {
                self.queue.push((id, who));
                self.hand_over();
            }
            Request::Unlock(who) => {
                if let Some((_, times)) = self.owner.filter(|_| mine) {
                    self.owner = (1 < times).then_some((id, times - 1));
                }
                self.hand_over();
                self.reply(id, Reply::Unlocked(who));
            }
            Request::UnlockAll(who) => {
                self.owner = self.owner.filter(|_| !mine);
                self.hand_over();
                self.reply(id, Reply::AllUnlocked(who));
            }
        }
    }

    fn deliver(&mut self, id: SessionId, rules: Rules) {
        let session = self.sessions.get_mut(&id).expect("it is there");
        if session.replies.is_empty() {
            return self.end_is_told(id);
        }
        let reply = session.replies.remove(0);
        match reply {
            Reply::Tried(who, Some(fence))
            | Reply::TriedAgain(who, Some(fence))
            | Reply::Granted(who, fence) => {
                let hold = Hold { session: id, fence: Fence::new(fence), at: Micros(1) };
                let (registry, member) = (&mut self.registries[who.0], Self::member(who));
                let landed = match rules.takes_twice {
                    true => registry.land(member, hold, TIMES, false),
                    false => registry.landed(member, hold, TIMES),
                };
                match landed {
                    Landed::Held(_) => {
                        self.told = self.told.max(fence);
                        self.tasks.insert(who, Task::Holding(id));
                    }
                    Landed::Unwanted => self.send_to_living(id, Request::Unlock(who)),
                }
            }
            Reply::Tried(who, None) => {
                self.registries[who.0].failed(Self::member(who), TIMES.0);
                if self.tasks[&who] == Task::Asking {
                    self.begin(who, true, rules);
                } else {
                    self.tasks.insert(who, Task::Done);
                }
            }
            Reply::TriedAgain(who, None) => {
                if self.registries[who.0].waits_on_here(Self::member(who)) {
                    self.here.insert(who);
                } else {
                    self.gives_up_here(who);
                }
            }
            Reply::Cancelled(who) if rules.trusts_cancel => {
                self.registries[who.0].failed(Self::member(who), TIMES.0);
                self.tasks.insert(who, Task::Done);
            }
            Reply::Cancelled(who) => self.send_to_living(id, Request::UnlockAll(who)),
            Reply::AllUnlocked(who) => {
                self.registries[who.0].failed(Self::member(who), TIMES.0);
                self.tasks.insert(who, Task::Done);
            }
            Reply::Unlocked(who) => {
                self.registries[who.0].left(Self::member(who), TIMES.0);
                self.tasks.insert(who, Task::Done);
            }
        }
    }

    /// One that waits here is told to stop.
    fn gives_up_here(&mut self, who: Who) {
        self.here.remove(&who);
        self.registries[who.0].failed(Self::member(who), TIMES.0);
        self.tasks.insert(who, Task::Done);
    }

    /// What is sent to a session that has ended is answered by its end.
    fn send_to_living(&mut self, id: SessionId, request: Request) {
        self.send(id, request);
    }

    /// The process learns that a session has ended: its locks are lost, and what was under way
    /// failed.
    fn end_is_told(&mut self, id: SessionId) {
        let session = self.sessions.remove(&id).expect("it is there");
        let process = session.process;
        let registry = &mut self.registries[process];
        let lost = registry.session_ended(id, TIMES.0);
        let tasks: Vec<Who> = self.tasks.keys().copied().filter(|who| who.0 == process).collect();
        for who in tasks {
            if lost.contains(&Self::member(who)) {
                self.tasks.insert(who, Task::Done);
            }
        }
        for request in session.requests {
            let (Request::Try(who)
            | Request::TryAgain(who)
            | Request::Wait(who)
            | Request::Unlock(who)
            | Request::UnlockAll(who)) = request;
            self.registries[process].failed(Self::member(who), TIMES.0);
            self.tasks.insert(who, Task::Done);
        }
    }

    /// The server ends a session: what it had is free, what it waited for and what was sent to it
    /// fails.
    fn end(&mut self, id: SessionId) {
        let waits: Vec<Who> =
            self.queue.iter().filter(|(q, _)| *q == id).map(|(_, who)| *who).collect();
        self.queue.retain(|(q, _)| *q != id);
        let session = self.sessions.get_mut(&id).expect("it is there");
        session.ended = true;
        // The statement that waited fails with the session.
        session.requests.extend(waits.into_iter().map(Request::Wait));
        if self.owner.is_some_and(|(owner, _)| owner == id) {
            self.owner = None;
        }
    }

    fn is_alive(&self, id: SessionId) -> bool {
        self.sessions.get(&id).is_some_and(|session| !session.ended)
    }

    /// Those who work under the lock, and whose sessions the server has.
    fn working(&self) -> usize {
        let works = |task: &&Task| matches!(task, Task::Holding(id) if self.is_alive(*id));
        self.tasks.values().filter(works).count()
    }

    /// Whether whoever has the lock at the server is known, or is about to be.
    fn owner_is_known(&self) -> bool {
        let Some((id, times)) = self.owner else { return true };
        let Some(session) = self.sessions.get(&id) else { return false };
        let on_it = |who: &Who| {
            let entry = self.registries[who.0].entry(Self::member(*who));
            entry.is_some_and(|entry| match entry.state {
                State::Held(hold) => hold.session == id,
                State::Leaving(of) => of == id,
                State::Trying | State::Waiting => false,
            })
        };
        let under_way = !session.requests.is_empty() || !session.replies.is_empty();
        times == 1 && (under_way || self.tasks.keys().any(on_it))
    }
}

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

impl World {
    fn key(&self) -> impl Hash + PartialEq + use<'_> {
        let digests = [self.registries[0].digest(), self.registries[1].digest()];
        let server = (&self.owner, &self.queue, self.sequence, self.told, self.next, &self.here);
        (digests, &self.tasks, &self.sessions, server, (self.ends, self.crashes, self.broken))
    }
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
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
