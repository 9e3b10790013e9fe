//! A simulated lock, right by construction, whose histories every check must pass; and ways to spoil such
//! a history, each of which one check must notice.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::event::{Event, Fence, Mode, Op, Phase};
use super::register::{Entry, FencedRegister, MemoryRegister, increment};
use super::verdict::{Evidence, Rules};

/// Microseconds; the clock of the simulation.
type Micros = u64;
const TTL: Micros = 20_000;
const AGING: Micros = 5_000;

/// What one process does, one job after the other.
pub(crate) type Jobs = Vec<Job>;

#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) lock: usize,
    pub(crate) mode: Mode,
    pub(crate) priority: i32,
    pub(crate) think: Micros,
    pub(crate) hold: Micros,
    /// How long it waits; 0: it only tries.
    pub(crate) patience: Option<Micros>,
    pub(crate) fate: Fate,
}

/// How a job ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Release,
    Drop,
    /// Is not renewed.
    Lapse,
    /// Is stopped for longer than a lease.
    Stall,
    /// Is killed while it holds.
    Crash,
    /// Is killed while it waits.
    CrashWaiting,
    /// Is cancelled while it waits.
    Cancel,
}

/// What a simulated run left behind.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) events: Vec<Event>,
    pub(crate) log: Vec<Entry>,
    pub(crate) left: Vec<String>,
}

impl Run {
    pub(crate) fn evidence(&self) -> Evidence<'_> {
        Evidence {
            events: &self.events,
            register: Some(&self.log),
            left: Some(&self.left),
            seed: 0,
        }
    }
}

/// The rules that the simulated lock keeps.
pub(crate) fn rules() -> Rules {
    let mut rules = Rules::new(Duration::from_micros(TTL), Duration::from_millis(3));
    rules.aging = Duration::from_micros(AGING);
    rules.lost_slack = Duration::from_millis(2);
    rules
}

/// Runs the jobs of all processes; the seed decides how long each message takes.
pub(crate) fn simulate(procs: &[Jobs], seed: u64) -> Run {
    let mut world = World {
        jobs: procs.to_vec(),
        rng: seed,
        now: 0,
        steps: BinaryHeap::new(),
        stores: [Store::default(), Store::default()],
        clients: vec![Process::default(); procs.len()],
        events: Vec::new(),
        register: MemoryRegister::new(),
    };
    for proc in 0..procs.len() {
        world.next_job(proc);
    }
    while let Some(Reverse((now, _, id, step))) = world.steps.pop() {
        world.now = now;
        world.step(id, step);
    }
    let log = world.register.log().unwrap();
    Run { events: world.events, log, left: Vec::new() }
}

/// A job, by process and number from 1.
type Id = (usize, usize);

/// What happens to a job at its process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Client {
    Ask,
    SeenInQueue,
    Granted,
    Refused,
    GiveUp,
    Leave,
    Renew,
    Renewed(Micros),
    End,
    ToldLost,
    GoOn,
    Released,
}

/// What happens to a job at the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum AtStore {
    Arrive,
    Withdraw,
    PlaceEnds,
    Renew(Micros),
    Expire,
    Release,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Client(Client),
    Store(AtStore),
}

#[derive(Debug, Default)]
struct Store {
    fence: u64,
    tickets: u64,
    queue: Vec<(i64, u64, Id)>,
    holders: Vec<Holder>,
    /// Tombstones: a withdrawal may come before what it withdraws.
    withdrawn: Vec<Id>,
}

#[derive(Debug, Clone, Copy)]
struct Holder {
    id: Id,
    mode: Mode,
    until: Micros,
}

/// What a process knows of its present job.
#[derive(Debug, Clone, Default)]
struct Process {
    job: usize,
    waiting: bool,
    fence: u64,
    deadline: Micros,
    ends: Micros,
    dead: bool,
}

impl Store {
    fn leave(&mut self, id: Id) {
        self.queue.retain(|(_, _, other)| *other != id);
    }
}

struct World {
    jobs: Vec<Jobs>,
    rng: u64,
    now: Micros,
    steps: BinaryHeap<Reverse<(Micros, u64, Id, Step)>>,
    stores: [Store; 2],
    clients: Vec<Process>,
    events: Vec<Event>,
    register: MemoryRegister,
}

const NAMES: [&str; 2] = ["rw", "seats"];

impl World {
    /// A message takes 50 to 550 microseconds.
    fn latency(&mut self) -> Micros {
        50 + self.random() % 500
    }

    fn random(&mut self) -> u64 {
        // SplitMix64.
        self.rng = self.rng.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.rng;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn at(&mut self, time: Micros, id: Id, step: Step) {
        let tie = self.random();
        self.steps.push(Reverse((time, tie, id, step)));
    }

    fn send(&mut self, id: Id, step: Step) {
        let time = self.now + self.latency();
        self.at(time, id, step);
    }

    fn job(&self, (proc, n): Id) -> Job {
        self.jobs[proc][n - 1].clone()
    }

    /// Writes an event down with the time of now, in nanoseconds.
    fn note(&mut self, (proc, n): Id, event: Event) {
        let name = NAMES[self.job((proc, n)).lock];
        let mut event = event.about(n as u64, name);
        event.proc = format!("p{proc}");
        event.t_ns = self.now * 1000;
        self.events.push(event);
    }

    fn note_with_deadline(&mut self, id: Id, op: Op, phase: Phase) {
        let deadline = self.clients[id.0].deadline;
        self.note(id, Event::new(op, phase).deadline(deadline * 1000));
    }

    fn next_job(&mut self, proc: usize) {
        let client = &mut self.clients[proc];
        client.job += 1;
        let id = (proc, client.job);
        if client.job <= self.jobs[proc].len() {
            let time = self.now + 1 + self.job(id).think;
            self.at(time, id, Step::Client(Client::Ask));
        }
    }

    fn kill(&mut self, id: Id) {
        self.clients[id.0].dead = true;
        self.note(id, Event::new(Op::Crash, Phase::Invoke));
    }

    fn step(&mut self, id: Id, step: Step) {
        let process = &self.clients[id.0];
        match step {
            Step::Client(_) if process.dead || process.job != id.1 => {}
            Step::Client(step) => self.at_client(id, step),
            Step::Store(step) => self.at_store(id, step),
        }
    }

    fn at_client(&mut self, id: Id, step: Client) {
        let (waiting, job) = (self.clients[id.0].waiting, self.job(id));
        match step {
            Client::Ask => self.ask(id, &job),
            Client::SeenInQueue => self.note(id, Event::new(Op::Wait, Phase::Ok)),
            Client::GiveUp if waiting => {
                self.clients[id.0].waiting = false;
                self.send(id, Step::Store(AtStore::Withdraw));
            }
            Client::Leave if waiting && job.fate == Fate::Cancel => {
                self.clients[id.0].waiting = false;
                self.note(id, Event::new(Op::Cancel, Phase::Invoke));
                self.send(id, Step::Store(AtStore::Withdraw));
                self.next_job(id.0);
            }
            Client::Leave if waiting => {
                self.kill(id);
                self.at(self.now + TTL, id, Step::Store(AtStore::PlaceEnds));
            }
            Client::Granted if waiting => self.granted(id, &job),
            Client::GiveUp | Client::Leave | Client::Granted => {}
            Client::Refused => {
                self.clients[id.0].waiting = false;
                self.note(id, Event::new(Op::Acquire, Phase::Fail));
                self.next_job(id.0);
            }
            Client::Renew => {
                self.note_with_deadline(id, Op::Renew, Phase::Invoke);
                self.send(id, Step::Store(AtStore::Renew(self.now)));
            }
            Client::Renewed(asked) => {
                self.clients[id.0].deadline = asked + TTL * 89 / 100;
                self.note_with_deadline(id, Op::Renew, Phase::Ok);
                self.go_on(id);
            }
            Client::End => self.end(id, &job),
            Client::ToldLost => {
                self.note_with_deadline(id, Op::Lost, Phase::Ok);
                self.release(id);
            }
            Client::GoOn => {
                self.note(id, Event::new(Op::Pause, Phase::Ok));
                self.send(id, Step::Client(Client::ToldLost));
            }
            Client::Released => {
                let lost = matches!(job.fate, Fate::Lapse | Fate::Stall);
                self.note(id, Event::new(Op::Release, if lost { Phase::Fail } else { Phase::Ok }));
                self.next_job(id.0);
            }
        }
    }

    fn ask(&mut self, id: Id, job: &Job) {
        let mut event = Event::new(Op::Acquire, Phase::Invoke).wanted(job.mode, job.priority);
        if let Some(patience) = job.patience {
            event = event.deadline((self.now + patience) * 1000);
            if patience != 0 {
                self.at(self.now + patience, id, Step::Client(Client::GiveUp));
            }
        }
        self.note(id, event);
        self.clients[id.0].waiting = true;
        if matches!(job.fate, Fate::CrashWaiting | Fate::Cancel) {
            self.at(self.now + job.hold, id, Step::Client(Client::Leave));
        }
        self.send(id, Step::Store(AtStore::Arrive));
    }

    fn granted(&mut self, id: Id, job: &Job) {
        let now = self.now;
        let client = &mut self.clients[id.0];
        client.waiting = false;
        client.ends = now + job.hold;
        let event = Event::new(Op::Acquire, Phase::Ok)
            .granted(&format!("h{}-{}", id.0, id.1), client.fence);
        let (fence, deadline) = (Fence(client.fence), client.deadline);
        self.note(id, event.deadline(deadline * 1000));
        if job.mode == Mode::Exclusive {
            increment(&self.register, NAMES[job.lock], fence).unwrap();
        }
        match job.fate {
            Fate::Lapse => {
                let late = self.random() % 1000;
                self.at(deadline.max(now) + late, id, Step::Client(Client::ToldLost));
            }
            Fate::Stall => {
                self.note(id, Event::new(Op::Pause, Phase::Invoke));
                self.at(now + TTL + job.hold, id, Step::Client(Client::GoOn));
            }
            _ => self.go_on(id),
        }
    }

    /// Renews every third of a lease until the job is done.
    fn go_on(&mut self, id: Id) {
        let ends = self.clients[id.0].ends;
        let renew = self.now + TTL / 3;
        if renew < ends {
            self.at(renew, id, Step::Client(Client::Renew))
        } else {
            self.at(ends.max(self.now), id, Step::Client(Client::End))
        }
    }

    fn end(&mut self, id: Id, job: &Job) {
        match job.fate {
            Fate::Crash => self.kill(id),
            Fate::Drop => {
                self.release(id);
                self.next_job(id.0);
            }
            _ => self.release(id),
        }
    }

    /// A holder writes a last time, too late perhaps, and releases.
    fn release(&mut self, id: Id) {
        let job = self.job(id);
        if job.mode == Mode::Exclusive {
            increment(&self.register, NAMES[job.lock], Fence(self.clients[id.0].fence)).unwrap();
        }
        self.note_with_deadline(id, Op::Release, Phase::Invoke);
        self.send(id, Step::Store(AtStore::Release));
    }

    fn at_store(&mut self, id: Id, step: AtStore) {
        let (now, job) = (self.now, self.job(id));
        let store = &mut self.stores[job.lock];
        match step {
            AtStore::Arrive if store.withdrawn.contains(&id) => {}
            AtStore::Arrive => {
                store.tickets += 1;
                let key = now as i64 - i64::from(job.priority) * AGING as i64;
                store.queue.push((key, store.tickets, id));
            }
            AtStore::Withdraw => {
                store.leave(id);
                store.withdrawn.push(id);
                store.holders.retain(|holder| holder.id != id);
                self.send(id, Step::Client(Client::Refused));
            }
            AtStore::PlaceEnds => store.leave(id),
            AtStore::Renew(asked) => {
                let holder = store
                    .holders
                    .iter_mut()
                    .find(|holder| holder.id == id)
                    .expect("renewed in time");
                holder.until = now + TTL;
                self.at(now + TTL, id, Step::Store(AtStore::Expire));
                self.send(id, Step::Client(Client::Renewed(asked)));
            }
            AtStore::Expire => store.holders.retain(|holder| holder.id != id || now < holder.until),
            AtStore::Release => {
                store.holders.retain(|holder| holder.id != id);
                self.send(id, Step::Client(Client::Released));
            }
        }
        self.hand_over(job.lock);

        let store = &mut self.stores[job.lock];
        let queued = store.queue.iter().any(|(_, _, other)| *other == id);
        if step == AtStore::Arrive && queued && job.patience == Some(0) {
            store.leave(id);
            self.send(id, Step::Client(Client::Refused));
        } else if step == AtStore::Arrive && queued {
            self.send(id, Step::Client(Client::SeenInQueue));
        }
    }

    /// Grants to the head of the queue for as long as it fits in.
    fn hand_over(&mut self, lock: usize) {
        loop {
            let store = &mut self.stores[lock];
            let Some((place, &(_, _, id))) =
                store.queue.iter().enumerate().min_by_key(|(_, entry)| **entry)
            else {
                return;
            };
            let mode = self.jobs[id.0][id.1 - 1].mode;
            let taken: u64 = store.holders.iter().map(|holder| holder.mode.seats()).sum();
            let whole = store.holders.iter().any(|holder| holder.mode == Mode::Exclusive);
            if whole || mode.headroom() < taken {
                return;
            }
            store.queue.remove(place);
            let gap = self.random() % 3;
            let (now, store) = (self.now, &mut self.stores[lock]);
            store.fence += 1 + gap;
            store.holders.push(Holder { id, mode, until: now + TTL });
            let fence = store.fence;
            let client = &mut self.clients[id.0];
            if client.job == id.1 {
                client.fence = fence;
                client.deadline = now + TTL * 89 / 100;
            }
            self.at(now + TTL, id, Step::Store(AtStore::Expire));
            self.send(id, Step::Client(Client::Granted));
        }
    }
}

mod spoil;
mod tests;
