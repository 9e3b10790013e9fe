//! Records that are written over: a model of its own, of files behind names.
//!
//! The large model takes it that a record stays what it is as long as it has its name. Here a name
//! leads to a file, files can be open under a name that is gone, and are written in two steps. It
//! justifies that assumption for records whose files are used again: a step's record is whole and
//! its own for as long as the step is the current one, and nobody takes another record for it.

use std::collections::BTreeMap;

use stateright::{Model, Property};

/// A step: its generation, and the attempt that made it.
type Step = (u8, u8);

/// Which file an attempt writes its record into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// That of the step before the current one, as the current record says.
    Before,
    /// Broken: that of anything older than the current step, so that of an attempt that came to
    /// nothing, too.
    AnyOlder,
}

/// One configuration of the model.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Over {
    pub(crate) processes: u8,
    /// How many attempts are made in all.
    pub(crate) attempts: u8,
    pub(crate) takes: Takes,
    /// Broken if not: a file is taken by moving its name before anything is written.
    pub(crate) moves_first: bool,
    /// Broken if not: whoever reads a record looks which step it is of.
    pub(crate) compares: bool,
}

impl Over {
    pub(crate) const fn baton(processes: u8, attempts: u8) -> Self {
        Self { processes, attempts, takes: Takes::Before, moves_first: true, compares: true }
    }
}

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Content {
    Half,
    Whole { of: Step, before: Option<Step> },
}

/// The next call of a process; what is open stays open until it is done with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Pc {
    List,
    Open {
        at: Step,
    },
    Read {
        at: Step,
        file: u8,
    },
    Take {
        at: Step,
        before: Option<Step>,
    },
    /// Has taken a file, and is about to open it.
    OpenTaken {
        at: Step,
        mine: Step,
        by: Step,
    },
    Write {
        at: Step,
        mine: Step,
        file: u8,
        by: Step,
    },
    Finish {
        at: Step,
        mine: Step,
        file: u8,
        by: Step,
    },
    /// Gives the file that it has written its own name, where that comes last.
    Name {
        at: Step,
        mine: Step,
        by: Step,
    },
    Move {
        at: Step,
        mine: Step,
    },
    Withdraw {
        mine: Step,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    current: Step,
    names: BTreeMap<Step, u8>,
    files: BTreeMap<u8, Content>,
    procs: Vec<Pc>,
    attempts: u8,
    /// Ghost: a file was written into again.
    again: bool,
    /// Ghost: somebody found another record than the one that was looked for.
    surprised: bool,
    /// Ghost: somebody took a record for that of a step which it was not of.
    misled: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    Next(u8),
    /// A process that has taken this step for the current one removes a record older than it.
    Sweep(u8, Step),
    /// It is killed and starts again.
    Crash(u8),
}

impl Model for Over {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let first = (1, 0);
        vec![State {
            current: first,
            names: [(first, 0)].into(),
            files: [(0, Content::Whole { of: first, before: None })].into(),
            procs: vec![Pc::List; usize::from(self.processes)],
            attempts: 0,
            again: false,
            surprised: false,
            misled: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (p, pc) in (0u8..).zip(&state.procs) {
            if !matches!(pc, Pc::Take { .. }) || state.attempts < self.attempts {
                actions.push(Action::Next(p));
            }
            if let Pc::Take { at, before } = pc {
                let older = state.names.keys().filter(|n| n.0 < at.0 && Some(**n) != *before);
                actions.extend(older.map(|name| Action::Sweep(p, *name)));
            }
            if *pc != Pc::List {
                actions.push(Action::Crash(p));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Next(p) => {
                let pc = state.procs[usize::from(p)];
                state.procs[usize::from(p)] = self.step(&mut state, pc);
            }
            Action::Sweep(_, name) => drop(state.names.remove(&name)),
            Action::Crash(p) => state.procs[usize::from(p)] = Pc::List,
        }
        state.drop_unreachable();
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(RECORD, |_, state: &State| {
                let file = state.names.get(&state.current).and_then(|file| state.files.get(file));
                matches!(file, Some(Content::Whole { of, .. }) if *of == state.current)
            }),
            Property::always(READER, |_, state: &State| !state.misled),
            Property::sometimes("a file is written into again", |_, state: &State| state.again),
            Property::sometimes("a reader looks again", |model: &Over, state: &State| {
                state.surprised || !model.compares
            }),
        ]
    }
}

pub(crate) const RECORD: &str = "the current step's record is whole and its own";
pub(crate) const READER: &str = "nobody takes another record for the current step's";

impl Over {
    fn step(&self, state: &mut State, pc: Pc) -> Pc {
        match pc {
            Pc::List => Pc::Open { at: state.current },
            Pc::Open { at } => match state.names.get(&at) {
                Some(file) => Pc::Read { at, file: *file },
                None => Pc::List,
            },
            Pc::Read { at, file } => match state.files[&file] {
                Content::Whole { of, before } if of == at || !self.compares => {
                    state.misled |= of != at;
                    Pc::Take { at, before }
                }
                Content::Whole { .. } | Content::Half => {
                    state.surprised = true;
                    Pc::List
                }
            },
            Pc::Take { at, before } => {
                state.attempts += 1;
                let mine = (at.0 + 1, state.attempts);
                let found = match self.takes {
                    Takes::Before => before.filter(|name| state.names.contains_key(name)),
                    Takes::AnyOlder => state.names.keys().find(|name| name.0 < at.0).copied(),
                };
                match found {
                    Some(by) if self.moves_first => {
                        let file = state.names.remove(&by).expect("found");
                        state.names.insert(mine, file);
                        Pc::OpenTaken { at, mine, by: mine }
                    }
                    Some(by) => Pc::OpenTaken { at, mine, by },
                    None => {
                        let file = (0..).find(|file| !state.files.contains_key(file));
                        let file = file.expect("a handful of files");
                        state.files.insert(file, Content::Half);
                        state.names.insert(mine, file);
                        Pc::Finish { at, mine, file, by: mine }
                    }
                }
            }
            Pc::OpenTaken { at, mine, by } => match state.names.get(&by) {
                Some(file) => Pc::Write { at, mine, file: *file, by },
                None => Pc::List,
            },
            Pc::Write { at, mine, file, by } => {
                state.again = true;
                state.files.insert(file, Content::Half);
                Pc::Finish { at, mine, file, by }
            }
            Pc::Finish { at, mine, file, by } => {
                state.files.insert(file, Content::Whole { of: mine, before: Some(at) });
                if by == mine { Pc::Move { at, mine } } else { Pc::Name { at, mine, by } }
            }
            Pc::Name { at, mine, by } => match state.names.remove(&by) {
                Some(file) => {
                    state.names.insert(mine, file);
                    Pc::Move { at, mine }
                }
                None => Pc::List,
            },
            Pc::Move { at, mine } if state.current == at => {
                state.current = mine;
                Pc::List
            }
            Pc::Move { mine, .. } => Pc::Withdraw { mine },
            Pc::Withdraw { mine } => {
                state.names.remove(&mine);
                Pc::List
            }
        }
    }
}

impl State {
    /// A file without a name that nobody has open is gone.
    fn drop_unreachable(&mut self) {
        let open = |file: u8| {
            self.procs.iter().any(|pc| match *pc {
                Pc::Read { file: f, .. }
                | Pc::Write { file: f, .. }
                | Pc::Finish { file: f, .. } => f == file,
                _ => false,
            })
        };
        let named = |file: u8| self.names.values().any(|f| *f == file);
        self.files.retain(|file, _| open(*file) || named(*file));
    }
}
