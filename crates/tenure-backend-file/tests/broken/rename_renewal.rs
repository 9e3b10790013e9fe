//! Renewal by rename: read the lock file, see that it is one's own, rename a new one over it.
//!
//! Everything else is made better here than it could be on a file system: taking over an expired
//! lock is one atomic step, and so is a release of one's own. The renewal alone is enough.

use stateright::{Model, Property};

pub(crate) const ONE_HOLDER: &str = "at most one valid holder";
pub(crate) const HOLDER_IS_LISTED: &str = "a valid holder is the one the file names";

#[derive(Debug, Clone, Copy)]
pub(crate) struct RenameRenewal {
    pub(crate) processes: u8,
    /// The holder heeds its own deadline: a renewal that is through too late does not count.
    pub(crate) loss_is_final: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Pc {
    Idle,
    Held,
    /// Read the file, found itself, about to rename.
    Renewing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Proc {
    pc: Pc,
    lapsed: bool,
}

impl Proc {
    fn is_valid(self) -> bool {
        self.pc != Pc::Idle && !self.lapsed
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    file: Option<u8>,
    procs: Vec<Proc>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    Acquire(u8),
    ReadOwn(u8),
    RenameOver(u8),
    Release(u8),
    Lapse(u8),
}

impl Model for RenameRenewal {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let proc = Proc { pc: Pc::Idle, lapsed: false };
        vec![State { file: None, procs: vec![proc; usize::from(self.processes)] }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let valid = |owner: u8| state.procs[usize::from(owner)].is_valid();
        for p in 0..self.processes {
            let proc = state.procs[usize::from(p)];
            match proc.pc {
                Pc::Idle if !state.file.is_some_and(valid) => actions.push(Action::Acquire(p)),
                Pc::Idle => {}
                Pc::Held => {
                    actions.push(Action::Release(p));
                    if state.file == Some(p) {
                        actions.push(Action::ReadOwn(p));
                    }
                }
                Pc::Renewing => actions.push(Action::RenameOver(p)),
            }
            if proc.is_valid() {
                actions.push(Action::Lapse(p));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Acquire(p) => {
                state.file = Some(p);
                state.procs[usize::from(p)] = Proc { pc: Pc::Held, lapsed: false };
            }
            Action::ReadOwn(p) => state.procs[usize::from(p)].pc = Pc::Renewing,
            Action::RenameOver(p) => {
                state.file = Some(p);
                let proc = &mut state.procs[usize::from(p)];
                proc.pc = Pc::Held;
                proc.lapsed &= self.loss_is_final;
            }
            Action::Release(p) => {
                state.procs[usize::from(p)].pc = Pc::Idle;
                state.file = state.file.filter(|owner| *owner != p);
            }
            Action::Lapse(p) => state.procs[usize::from(p)].lapsed = true,
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE_HOLDER, |_, state: &State| {
                state.procs.iter().filter(|proc| proc.is_valid()).count() <= 1
            }),
            Property::always(HOLDER_IS_LISTED, |_, state: &State| {
                let unlisted = |(p, proc): (u8, &Proc)| proc.is_valid() && state.file != Some(p);
                !(0u8..).zip(&state.procs).any(unlisted)
            }),
        ]
    }
}
