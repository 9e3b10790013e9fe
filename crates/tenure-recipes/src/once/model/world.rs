//! What the model consists of: callers, their courses, and one lock.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use stateright::Model;
use tenure_core::backend::{Change, Claim, Release, Value, Verdict as Answer};
use tenure_core::machine::{Cell, Now, Turn};
use tenure_core::{Details, Fence, LockName, MemberId, Micros, Owner, Token};

use crate::once::config::Executions;
use crate::once::course::{Ask, Course, Found, Heard, Rules, Verdict};
use crate::once::record::{Note, Record, Stage};

const WALL: Micros = Micros(1_000_000);
const KEEP: Duration = Duration::from_secs(3600);

static DETAILS: LazyLock<Arc<Details>> =
    LazyLock::new(|| Arc::new(Details::of(Owner::labelled("caller").expect("a label"))));
static NAME: LazyLock<LockName> = LazyLock::new(|| LockName::new("once").expect("a name"));

/// The plain claims of all callers, by the number of the token: hashing takes most of the time.
static CLAIMS: LazyLock<Vec<Vec<Claim>>> = LazyLock::new(|| {
    let token = |caller: u8, number: u8| {
        let mut bytes = [0; 16];
        (bytes[0], bytes[1]) = (caller, number);
        Token::from_bytes(bytes)
    };
    let of = |caller| (0..64).map(|number| new_claim(token(caller, number))).collect();
    (0..4).map(of).collect()
});

/// What may happen, and how often.
#[derive(Clone, Debug)]
pub(super) struct Menu {
    pub(super) what: &'static str,
    pub(super) callers: u8,
    pub(super) executions: Executions,
    pub(super) max_attempts: u32,
    /// The first caller forces.
    pub(super) forced: bool,
    /// Leases of living callers that end.
    pub(super) lapses: u8,
    /// Answers to a write or a release that nobody hears.
    pub(super) lost_answers: u8,
    pub(super) failures: u8,
    pub(super) crashes: u8,
    pub(super) timeouts: u8,
    /// Looks of callers whose result was discarded.
    pub(super) looks: u8,
    /// A result is written whether or not its writer still holds the lock.
    pub(super) unconditional_done: bool,
}

impl Menu {
    pub(super) fn new(callers: u8) -> Self {
        Self {
            what: "a control",
            callers,
            executions: Executions::AtLeastOnce,
            max_attempts: 3,
            forced: false,
            lapses: 0,
            lost_answers: 0,
            failures: 0,
            crashes: 0,
            timeouts: 0,
            looks: 0,
            unconditional_done: false,
        }
    }
}

/// One caller.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Worker {
    number: u8,
    pub(super) course: Course,
    /// How many tokens it has used up.
    tokens: u8,
    /// Its claim was sent, and it waits for the answer to change.
    waits: bool,
    /// Its work runs.
    works: bool,
    /// The fence of what it holds or held last, and that under which it worked.
    fence: Fence,
    worked_under: Option<Fence>,
    left_under: Option<Fence>,
    dead: bool,
}

impl Worker {
    pub(super) fn is_over(&self) -> bool {
        self.dead || matches!(self.course.ask(), Ask::Over(_))
    }

    /// Who it is to the store while it asks, or holds.
    fn member(&self, holds: bool) -> MemberId {
        self.plain_claim(u8::from(holds)).member
    }

    /// What it asks with: the token that is next, or the one `before` that.
    fn plain_claim(&self, before: u8) -> &'static Claim {
        &CLAIMS[usize::from(self.number)][usize::from(self.tokens - before)]
    }
}

/// One step of somebody.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// A caller does what its course asks for, and hears the answer.
    Does(u8),
    /// The same, and the answer is lost: it took place, or not.
    Unheard(u8, bool),
    WorkEnds(u8, bool),
    /// It is told that its lease is lost, while its work runs.
    IsTold(u8),
    TimesOut(u8),
    Crashes(u8),
    LooksAgain(u8),
    /// The holder's lease ends.
    Lapses,
}

/// Everything there is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct World {
    cell: Cell,
    pub(super) workers: Vec<Worker>,
    /// Attempts whose results the store took.
    pub(super) accepted: Vec<u32>,
    /// Attempts whose work ran, with their fences.
    pub(super) begun: Vec<(u32, Fence)>,
    /// Whether an end came too late.
    pub(super) refused: bool,
    /// Whether the end of an attempt was accepted under a later grant than that of its work.
    pub(super) rescued: bool,
    /// Tokens whose release was not answered: the janitor sends it, without a value.
    janitor: Vec<MemberId>,
    lapses: u8,
    lost_answers: u8,
    failures: u8,
    crashes: u8,
    timeouts: u8,
    looks: u8,
}

impl World {
    pub(super) fn new(menu: &Menu) -> Self {
        let workers = (0..menu.callers).map(|number| Worker {
            number,
            course: Course::new(Rules {
                forced: menu.forced && number == 0,
                executions: menu.executions,
                failure_is_final: menu.executions == Executions::AtMostOnce,
                max_attempts: menu.max_attempts,
            }),
            tokens: 0,
            waits: false,
            works: false,
            fence: Fence::ZERO,
            worked_under: None,
            left_under: None,
            dead: false,
        });
        Self {
            cell: Cell::default(),
            workers: workers.collect(),
            accepted: Vec::new(),
            begun: Vec::new(),
            refused: false,
            rescued: false,
            janitor: Vec::new(),
            lapses: menu.lapses,
            lost_answers: menu.lost_answers,
            failures: menu.failures,
            crashes: menu.crashes,
            timeouts: menu.timeouts,
            looks: menu.looks,
        }
    }

    pub(super) fn verdicts(&self) -> impl Iterator<Item = Verdict> + '_ {
        self.workers.iter().filter_map(|w| match w.course.ask() {
            Ask::Over(verdict) => Some(verdict),
            _ => None,
        })
    }

    /// How many work under a lease that the store still knows.
    pub(super) fn working_under_the_lock(&self) -> usize {
        let working = self.workers.iter().filter(|w| w.works && !w.dead);
        working.filter(|w| self.holds(w.member(true))).count()
    }

    fn holds(&self, member: MemberId) -> bool {
        self.cell.holder_ids().any(|m| m == member)
    }

    pub(super) fn steps(&self, steps: &mut Vec<Step>) {
        for worker in &self.workers {
            let n = worker.number;
            let over = worker.course.ask();
            if matches!(over, Ask::Over(Verdict::Superseded { .. }))
                && 0 < self.looks
                && !worker.dead
            {
                steps.push(Step::LooksAgain(n));
            }
            if worker.is_over() {
                continue;
            }
            if 0 < self.crashes {
                steps.push(Step::Crashes(n));
            }
            if worker.works {
                steps.push(Step::WorkEnds(n, true));
                if 0 < self.failures {
                    steps.push(Step::WorkEnds(n, false));
                }
                if !self.holds(worker.member(true)) {
                    steps.push(Step::IsTold(n));
                }
                continue;
            }
            if worker.waits {
                // Until something has become of it, asking again changes nothing.
                if !self.cell.waiter_ids().any(|m| m == worker.member(false)) {
                    steps.push(Step::Does(n));
                }
                if 0 < self.timeouts {
                    steps.push(Step::TimesOut(n));
                }
                continue;
            }
            steps.push(Step::Does(n));
            if 0 < self.lost_answers && matches!(worker.course.ask(), Ask::Write(_) | Ask::Leave(_))
            {
                steps.extend([Step::Unheard(n, true), Step::Unheard(n, false)]);
            }
        }
        let Some(holder) = self.cell.holder_ids().next() else { return };
        // A holder that is gone for good is ended sooner or later.
        let lives =
            self.workers.iter().any(|w| !w.dead && 0 < w.tokens && w.member(true) == holder)
                && !self.janitor.contains(&holder);
        // A waiter that was granted the lock holds under the token that it asks with.
        let asks = self.workers.iter().any(|w| !w.dead && w.waits && w.member(false) == holder);
        if !(lives || asks) || 0 < self.lapses {
            steps.push(Step::Lapses);
        }
    }

    pub(super) fn take(&mut self, menu: &Menu, step: Step) {
        match step {
            Step::Does(n) => {
                if let Some(heard) = self.does(menu, n) {
                    self.hears(n, heard);
                }
            }
            Step::Unheard(n, takes_place) => {
                self.lost_answers -= 1;
                let leaves = matches!(self.worker(n).course.ask(), Ask::Leave(_));
                let member = self.worker(n).member(true);
                if takes_place {
                    self.does(menu, n);
                } else if leaves {
                    let worker = self.worker_mut(n);
                    worker.left_under = worker.worked_under.map(|_| worker.fence);
                    self.janitor.push(member);
                }
                self.hears(n, Heard::Unsure);
            }
            Step::WorkEnds(n, well) => {
                self.failures -= u8::from(!well);
                self.worker_mut(n).works = false;
                self.hears(n, if well { Heard::Worked } else { Heard::WorkFailed });
            }
            Step::IsTold(n) => {
                self.worker_mut(n).works = false;
                self.hears(n, Heard::Gone);
            }
            Step::TimesOut(n) => {
                self.timeouts -= 1;
                let worker = self.worker(n);
                let claim = worker.plain_claim(0);
                self.turn(|turn| turn.withdraw(claim.id, claim.member, KEEP));
                self.asked(n);
                self.hears(n, Heard::TimedOut);
            }
            Step::LooksAgain(n) => {
                self.looks -= 1;
                self.worker_mut(n).course.look_again();
            }
            Step::Crashes(n) => {
                self.crashes -= 1;
                self.worker_mut(n).dead = true;
            }
            Step::Lapses => {
                let holder = self.cell.holder_ids().next().expect("somebody holds it");
                let living = self.workers.iter().any(|w| {
                    !w.dead
                        && (w.member(false) == holder && w.waits
                            || 0 < w.tokens && w.member(true) == holder)
                });
                let by_janitor = self.janitor.contains(&holder);
                self.lapses -= u8::from(living && !by_janitor);
                if by_janitor {
                    self.turn(|turn| turn.release(holder, None));
                } else {
                    let now = Now::Observed { wall: WALL, dead: &[holder] };
                    let _ = Turn::begin(&mut self.cell, now, Fence::ZERO).end();
                }
            }
        }
    }

    /// Does what a caller's course asks for; `None` if it goes on waiting.
    fn does(&mut self, menu: &Menu, n: u8) -> Option<Heard> {
        let worker = self.worker(n).clone();
        match worker.course.ask() {
            Ask::Claim => self.asks(n, true, true),
            Ask::Lock => self.asks(n, false, true),
            Ask::TryLock => self.asks(n, false, false),
            Ask::Read => {
                let view = self.cell.view(NAME.clone(), WALL);
                Some(Heard::Record(view.value.map(|v| self.found(n, &v.bytes, v.fence))))
            }
            Ask::Write(note) => {
                let value = value(note);
                let change = self.turn(|turn| turn.put(worker.member(true), &value));
                Some(if matches!(change, Change::Done(_)) { Heard::Done } else { Heard::Gone })
            }
            Ask::Work(attempt) => {
                self.begun.push((attempt, worker.fence));
                let worker = self.worker_mut(n);
                worker.works = true;
                worker.worked_under = Some(worker.fence);
                None
            }
            Ask::Leave(note) => {
                if worker.worked_under.is_some() && note.is_some() {
                    self.worker_mut(n).left_under = Some(worker.fence);
                }
                let heard = self.leaves(menu, worker.member(true), note);
                let own = note.is_some_and(|note| note.stage == Stage::Done);
                self.rescued |=
                    own && heard == Heard::Done && worker.worked_under < Some(worker.fence);
                Some(heard)
            }
            Ask::Over(_) => None,
        }
    }

    fn leaves(&mut self, menu: &Menu, member: MemberId, note: Option<Note>) -> Heard {
        let value = note.map(value);
        let release = self.turn(|turn| turn.release(member, value.as_ref()));
        let done = note.filter(|note| note.stage == Stage::Done);
        if release == Release::Released {
            self.accepted.extend(done.map(|note| note.attempt));
            return Heard::Done;
        }
        self.refused |= note.is_some();
        if menu.unconditional_done
            && let (Some(note), Some(value)) = (done, value)
        {
            let mut strong = new_claim(Token::from_bytes([0xff; 16]));
            strong.force = Some("it is done".into());
            self.turn(|turn| {
                turn.acquire(&strong);
                turn.release(strong.member, Some(&value))
            });
            self.accepted.push(note.attempt);
            return Heard::Done;
        }
        Heard::Gone
    }

    /// Asks for the lock.
    fn asks(&mut self, n: u8, or_value: bool, wait: bool) -> Option<Heard> {
        let mut claim = self.worker(n).plain_claim(0).clone();
        (claim.or_value, claim.wait) = (or_value, wait);
        let heard = match self.turn(|turn| turn.acquire(&claim)) {
            Answer::Granted(grant) => {
                self.worker_mut(n).fence = grant.fence;
                Heard::Held
            }
            Answer::Value(v) => Heard::Record(Some(self.found(n, &v.bytes, v.fence))),
            Answer::Busy(_) => Heard::Busy,
            Answer::Queued(_) => {
                self.worker_mut(n).waits = true;
                return None;
            }
            // Its place or its lease is over: it asks anew, with another token.
            Answer::Refused(_) => {
                self.asked(n);
                return None;
            }
            other => unreachable!("{other:?}"),
        };
        self.asked(n);
        Some(heard)
    }

    /// The token of a claim is used up.
    fn asked(&mut self, n: u8) {
        let worker = self.worker_mut(n);
        worker.waits = false;
        worker.tokens += 1;
    }

    fn found(&self, n: u8, bytes: &Arc<[u8]>, fence: Fence) -> Found {
        let worker = self.worker(n);
        let mine = [worker.worked_under, worker.left_under].contains(&Some(fence));
        Found { note: note(bytes), same_request: true, mine }
    }

    fn hears(&mut self, n: u8, heard: Heard) {
        self.worker_mut(n).course.hear(heard);
    }

    fn turn<T>(&mut self, verb: impl FnOnce(&mut Turn<'_>) -> T) -> T {
        let now = Now::Observed { wall: WALL, dead: &[] };
        let mut turn = Turn::begin(&mut self.cell, now, Fence::ZERO);
        let answer = verb(&mut turn);
        turn.end();
        answer
    }

    fn worker(&self, n: u8) -> &Worker {
        &self.workers[usize::from(n)]
    }

    fn worker_mut(&mut self, n: u8) -> &mut Worker {
        &mut self.workers[usize::from(n)]
    }
}

fn new_claim(token: Token) -> Claim {
    Claim::new(NAME.clone(), token, Duration::from_secs(30), DETAILS.clone())
}

thread_local! {
    /// The values of all notes, both ways, for the same reason.
    static VALUES: RefCell<HashMap<Note, Arc<[u8]>>> = RefCell::default();
    static NOTES: RefCell<HashMap<Arc<[u8]>, Note>> = RefCell::default();
}

fn value(note: Note) -> Value {
    let bytes = VALUES.with_borrow_mut(|values| {
        let encode = || Record::new(note, "", None).encode(&[]).into();
        values.entry(note).or_insert_with(encode).clone()
    });
    Value { bytes, keep: KEEP }
}

fn note(bytes: &Arc<[u8]>) -> Note {
    NOTES.with_borrow_mut(|notes| {
        let decode = || Record::decode(bytes).expect("the courses wrote it").0.note();
        *notes.entry(bytes.clone()).or_insert_with(decode)
    })
}

/// Whether some state of the model is so.
pub(super) fn reaches(menu: &Menu, is_so: fn(&World) -> bool) -> bool {
    let hasher = RandomState::new();
    let mut seen = HashSet::new();
    let mut open = menu.init_states();
    let mut steps = Vec::new();
    while let Some(world) = open.pop() {
        if is_so(&world) {
            return true;
        }
        world.steps(&mut steps);
        for step in steps.drain(..) {
            let mut next = world.clone();
            next.take(menu, step);
            if seen.insert(hasher.hash_one(&next)) {
                open.push(next);
            }
        }
    }
    false
}
