//! The lock file that exists or not: look, delete if expired, create exclusively.

use stateright::{Model, Property};

pub(crate) const ONE_HOLDER: &str = "at most one valid holder";
pub(crate) const RELEASES_OWN: &str = "a release deletes no other holder's file";
pub(crate) const TAKEN_OVER: &str = "an expired lock is taken over";

/// Who does it, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LockFile {
    pub(crate) processes: u8,
    /// Whether an expired file is deleted before the new one is created. Without, nobody ever
    /// takes over: creating exclusively over the expired file fails for ever.
    pub(crate) deletes_expired: bool,
    /// Whether a release looks whose file it deletes (and then deletes it: two calls).
    pub(crate) checks_owner: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Pc {
    Idle,
    Look,
    Delete,
    Create,
    Held,
    CheckOwner,
    Unlink,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Proc {
    pc: Pc,
    /// The lease written into the file has run out.
    expired: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// The process whose file it is.
    file: Option<u8>,
    procs: Vec<Proc>,
    foreign: bool,
    taken_over: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    Next(u8),
    Expire(u8),
}

impl State {
    fn is_valid(&self, p: u8) -> bool {
        let proc = self.procs[usize::from(p)];
        proc.pc == Pc::Held && !proc.expired
    }

    fn unlink(&mut self, p: u8) {
        if self.file.is_some_and(|owner| owner != p) {
            self.foreign = true;
        }
        self.file = None;
    }
}

impl LockFile {
    fn step(&self, state: &mut State, p: u8) {
        let index = usize::from(p);
        state.procs[index].pc = match state.procs[index].pc {
            Pc::Idle => Pc::Look,
            Pc::Look => match state.file {
                None => Pc::Create,
                Some(owner) if state.is_valid(owner) => Pc::Look,
                Some(_) if self.deletes_expired => Pc::Delete,
                Some(_) => Pc::Create,
            },
            Pc::Delete => {
                state.file = None;
                Pc::Create
            }
            Pc::Create if state.file.is_some() => Pc::Look,
            Pc::Create => {
                state.file = Some(p);
                state.procs[index].expired = false;
                let stale = state.procs.iter().any(|other| other.pc == Pc::Held);
                state.taken_over |= stale;
                Pc::Held
            }
            Pc::Held if self.checks_owner => Pc::CheckOwner,
            Pc::Held => Pc::Unlink,
            Pc::CheckOwner if state.file == Some(p) => Pc::Unlink,
            Pc::CheckOwner => Pc::Idle,
            Pc::Unlink => {
                state.unlink(p);
                Pc::Idle
            }
        };
    }
}

impl Model for LockFile {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let proc = Proc { pc: Pc::Idle, expired: false };
        vec![State {
            file: None,
            procs: vec![proc; usize::from(self.processes)],
            foreign: false,
            taken_over: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for p in 0..self.processes {
            actions.push(Action::Next(p));
            let proc = state.procs[usize::from(p)];
            if proc.pc == Pc::Held && !proc.expired {
                actions.push(Action::Expire(p));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Next(p) => self.step(&mut state, p),
            Action::Expire(p) => state.procs[usize::from(p)].expired = true,
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE_HOLDER, |model: &Self, state: &State| {
                let valid = |p: &u8| state.is_valid(*p);
                (0..model.processes).filter(valid).count() <= 1
            }),
            Property::always(RELEASES_OWN, |_, state: &State| !state.foreign),
            Property::sometimes(TAKEN_OVER, |_, state: &State| state.taken_over),
        ]
    }
}
