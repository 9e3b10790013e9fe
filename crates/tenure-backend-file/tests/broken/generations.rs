//! Generations: the highest `gen-<n>` is current, and a transition creates the next exclusively.
//!
//! It needs no rename, which is why it tempts; but old generations must be deleted some day, and
//! a name that was deleted can be created again by whoever listed before. What a creator checks
//! afterwards decides. That the predecessor it had read is still there, by its token, is enough:
//! generations are deleted from the lowest up, so while `gen-<n>` with that token exists,
//! `gen-<n+1>` has never been deleted. That it exists at all, or that one is now the highest in a
//! listing that may be old, is not.

use stateright::{Model, Property};

pub(crate) const ONE_HOLDER: &str = "at most one valid holder";
pub(crate) const FENCES_RISE: &str = "every grant has a higher fence than all before";

/// What a creator checks before it believes that it made the next generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verification {
    None,
    PredecessorExists,
    HighestInListing,
    PredecessorToken,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Generations {
    /// How often each process acquires.
    pub(crate) acquisitions: &'static [u8],
    pub(crate) verification: Verification,
    /// A listing may be as old as the process's last one.
    pub(crate) stale_listings: bool,
    /// What follows a verification happens in the same step, and one lease may lapse: enough to
    /// find what is broken.
    pub(crate) coarse: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct File {
    generation: u8,
    /// Its token: the process that made it, the number of its claim, and whether to give it up.
    author: u8,
    claim: u8,
    releases: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Pc {
    Idle,
    List,
    Create,
    Verify,
    /// Created in vain: remove the own file again.
    Withdraw,
    /// Remove the old generations, from the lowest up.
    Sweep,
    Held,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Proc {
    pc: Pc,
    /// Acquisitions to go, and one; also the number of the present claim.
    acquisitions: u8,
    releasing: bool,
    lapsed: bool,
    held: bool,
    view: Option<File>,
    made: Option<File>,
}

impl Proc {
    fn list_again(&mut self) {
        self.view = None;
        self.pc = Pc::List;
    }

    fn finish(&mut self) {
        self.view = None;
        self.releasing = false;
        self.lapsed = true;
        self.pc = Pc::Idle;
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// Sorted by generation.
    files: Vec<File>,
    procs: Vec<Proc>,
    granted: u8,
    fence_fell: bool,
    /// A lease has lapsed, where that is counted.
    lapsed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    Next(u8),
    StaleVerify(u8),
    Release(u8),
    Lapse(u8),
}

impl State {
    fn proc(&mut self, p: u8) -> &mut Proc {
        &mut self.procs[usize::from(p)]
    }

    fn is_taken(&self, file: File) -> bool {
        let author = self.procs.get(usize::from(file.author));
        let active = |proc: &Proc| proc.acquisitions == file.claim && !proc.lapsed;
        !file.releases && author.is_some_and(active)
    }
}

impl Generations {
    fn step(&self, state: &mut State, p: u8) {
        match state.proc(p).pc {
            Pc::Idle => {
                self.start(state, p);
                self.list(state, p);
            }
            Pc::List => self.list(state, p),
            Pc::Create => self.create(state, p),
            Pc::Verify => self.verify(state, p),
            Pc::Withdraw => {
                let made = state.proc(p).made.take();
                state.files.retain(|file| Some(*file) != made);
                state.proc(p).list_again();
            }
            Pc::Sweep => self.sweep(state, p),
            Pc::Held => {}
        }
    }

    fn start(&self, state: &mut State, p: u8) {
        let proc = state.proc(p);
        proc.acquisitions -= 1;
        proc.pc = Pc::List;
    }

    fn list(&self, state: &mut State, p: u8) {
        let highest = *state.files.last().expect("the current one is never deleted");
        let taken = state.is_taken(highest);
        let proc = state.proc(p);
        let own = !highest.releases && highest.author == p && highest.claim == proc.acquisitions;
        if proc.releasing && !own {
            proc.finish();
            return;
        }
        if !proc.releasing && taken {
            return;
        }
        proc.view = Some(highest);
        if !proc.releasing {
            proc.lapsed = false;
        }
        proc.pc = Pc::Create;
    }

    fn create(&self, state: &mut State, p: u8) {
        let view = state.proc(p).view.expect("listed before");
        let generation = view.generation + 1;
        if state.files.iter().any(|file| file.generation == generation) {
            state.proc(p).list_again();
            return;
        }
        let proc = *state.proc(p);
        let file =
            File { generation, author: p, claim: proc.acquisitions, releases: proc.releasing };
        state.files.push(file);
        state.files.sort_unstable();
        state.proc(p).made = Some(file);
        state.proc(p).pc = Pc::Verify;
        if self.verification == Verification::None {
            self.believe(state, p);
        }
    }

    fn verify(&self, state: &mut State, p: u8) {
        let view = state.proc(p).view.expect("listed before");
        let made = state.proc(p).made;
        let confirmed = match self.verification {
            Verification::None => true,
            Verification::PredecessorExists => {
                state.files.iter().any(|file| file.generation == view.generation)
            }
            Verification::HighestInListing => state.files.last().copied() == made,
            Verification::PredecessorToken => state.files.contains(&view),
        };
        if confirmed {
            self.believe(state, p);
        } else {
            state.proc(p).pc = Pc::Withdraw;
        }
    }

    fn believe(&self, state: &mut State, p: u8) {
        let granted = state.granted;
        let proc = state.proc(p);
        let fence = proc.made.map_or(0, |file| file.generation);
        proc.pc = Pc::Sweep;
        if proc.releasing {
            return;
        }
        proc.held = true;
        if !proc.lapsed {
            state.fence_fell |= fence <= granted;
            state.granted = granted.max(fence);
        }
    }

    /// The newest but one stays, for creators that have yet to verify against it. One step for
    /// all: seen one by one from below, each shows creators less than the one before.
    fn sweep(&self, state: &mut State, p: u8) {
        let made = state.proc(p).made.expect("created before").generation;
        let spared = match self.verification {
            Verification::None => made,
            _ => made - 1,
        };
        state.files.retain(|file| spared <= file.generation);
        let proc = state.proc(p);
        proc.view = None;
        proc.made = None;
        proc.pc = Pc::Held;
        if proc.releasing {
            proc.finish();
        }
    }
}

impl Model for Generations {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let proc = |acquisitions: &u8| Proc {
            pc: Pc::Idle,
            acquisitions: *acquisitions + 1,
            releasing: false,
            lapsed: true,
            held: false,
            view: None,
            made: None,
        };
        vec![State {
            files: vec![File { generation: 1, author: u8::MAX, claim: 0, releases: true }],
            procs: self.acquisitions.iter().map(proc).collect(),
            granted: 0,
            fence_fell: false,
            lapsed: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (p, proc) in (0u8..).zip(&state.procs) {
            match proc.pc {
                Pc::Idle if proc.acquisitions == 1 => {}
                Pc::Held => actions.push(Action::Release(p)),
                Pc::Verify if self.stale_listings => {
                    actions.extend([Action::Next(p), Action::StaleVerify(p)]);
                }
                _ => actions.push(Action::Next(p)),
            }
            // The lease is counted from the listing; before that there is none.
            if !proc.lapsed && !state.lapsed && !matches!(proc.pc, Pc::Idle | Pc::List) {
                actions.push(Action::Lapse(p));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Next(p) => {
                self.step(&mut state, p);
                let fused = |pc| matches!(pc, Pc::Withdraw | Pc::Sweep);
                while self.coarse && fused(state.proc(p).pc) {
                    self.step(&mut state, p);
                }
            }
            // The listing is the one from before the creation, with the own file added.
            Action::StaleVerify(p) => self.believe(&mut state, p),
            Action::Release(p) => {
                let proc = state.proc(p);
                proc.held = false;
                proc.releasing = true;
                proc.pc = Pc::List;
            }
            Action::Lapse(p) => {
                state.proc(p).lapsed = true;
                state.lapsed = self.coarse;
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE_HOLDER, |_, state: &State| {
                let valid = |proc: &&Proc| proc.held && !proc.lapsed;
                state.procs.iter().filter(valid).count() <= 1
            }),
            Property::always(FENCES_RISE, |_, state: &State| !state.fence_fell),
        ]
    }
}
