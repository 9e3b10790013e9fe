//! One representative for all states that differ only in names: why the state space is finite.
//!
//! Three renamings leave every behaviour and every property as they are:
//!
//! - *processes* run the same program and no property singles one out, so they may change places;
//! - *tokens* are compared for equality only (and belong to a process), so the tokens of a process
//!   may be numbered from 0, and a number that appears nowhere may be given out again: nothing in
//!   the whole state could tell it from a new one;
//! - *generations* are compared by order only, and with the clock floor each new one is above all
//!   that were ever made, so the ones that appear may be replaced by their ranks. (Where dead locks
//!   revive, a live one goes on with the next number; that this, too, is above all that were ever
//!   made is checked at every step, which is what makes the ranks right there.)
//!
//! The order that the processes are put in looks at their tokens only as "mine" and "not mine";
//! processes that look alike keep their places. That may leave two representatives where one would
//! do, which costs time and hides nothing.

use super::state::{Attempt, Dir, Gen, Name, Pc, Proc, State, Tok};

/// A part of the state that contains tokens and generations.
trait Names {
    fn rename(&mut self, names: &mut impl Renaming);
}

/// What to put in the place of each token and each generation.
trait Renaming {
    fn tok(&mut self, tok: &mut Tok);
    fn generation(&mut self, generation: &mut Gen);
}

/// The numbers that the tokens of `owner` use, as a set of bits.
pub(crate) fn used_numbers(state: &State, owner: u8) -> u32 {
    let mut used = Used::default();
    state.clone().rename(&mut used);
    used.toks[usize::from(owner)]
}

/// The representative of `state`.
pub(crate) fn canonical(mut state: State, ranks: bool) -> State {
    sort_processes(&mut state);
    let mut used = Used::default();
    state.rename(&mut used);
    state.rename(&mut Ranks { used, ranks });
    sort_sets(&mut state);
    state
}

fn sort_processes(state: &mut State) {
    let mut order: Vec<(Proc, u8)> = state
        .procs
        .iter()
        .zip(0u8..)
        .map(|(proc, index)| {
            let mut masked = proc.clone();
            masked.rename(&mut Mask { owner: index });
            masked.sweep.sort_unstable();
            (masked, index)
        })
        .collect();
    if order.is_sorted() {
        return;
    }
    order.sort();
    let old = std::mem::take(&mut state.procs);
    let mut place = [0u8; MAX_PROCESSES];
    for ((_, from), to) in order.iter().zip(0u8..) {
        state.procs.push(old[usize::from(*from)].clone());
        place[usize::from(*from)] = to;
    }
    state.rename(&mut Places { place });
}

fn sort_sets(state: &mut State) {
    for dir in [&mut state.dir, &mut state.on_disk].into_iter().flatten() {
        dir.cur.sort_unstable();
        dir.records.sort_unstable();
        dir.heartbeats.sort_unstable();
    }
    for proc in &mut state.procs {
        proc.sweep.sort_unstable();
    }
}

const MAX_PROCESSES: usize = 4;

#[derive(Default)]
struct Used {
    toks: [u32; MAX_PROCESSES],
    generations: u64,
}

impl Renaming for Used {
    fn tok(&mut self, tok: &mut Tok) {
        self.toks[usize::from(tok.owner)] |= 1 << tok.number;
    }

    fn generation(&mut self, generation: &mut Gen) {
        self.generations |= 1 << *generation;
    }
}

struct Ranks {
    used: Used,
    ranks: bool,
}

impl Renaming for Ranks {
    fn tok(&mut self, tok: &mut Tok) {
        let below = self.used.toks[usize::from(tok.owner)] & ((1 << tok.number) - 1);
        tok.number = u8::try_from(below.count_ones()).expect("at most 32");
    }

    fn generation(&mut self, generation: &mut Gen) {
        if !self.ranks {
            return;
        }
        // Generation 0 is that of the record a directory is born with, in use or not.
        let below = (self.used.generations | 1) & ((1 << *generation) - 1);
        *generation = u8::try_from(below.count_ones()).expect("at most 64");
    }
}

struct Mask {
    owner: u8,
}

impl Renaming for Mask {
    fn tok(&mut self, tok: &mut Tok) {
        tok.owner = u8::from(tok.owner != self.owner);
        tok.number = 0;
    }

    fn generation(&mut self, _: &mut Gen) {}
}

struct Places {
    place: [u8; MAX_PROCESSES],
}

impl Renaming for Places {
    fn tok(&mut self, tok: &mut Tok) {
        tok.owner = self.place[usize::from(tok.owner)];
    }

    fn generation(&mut self, _: &mut Gen) {}
}

impl Names for State {
    fn rename(&mut self, names: &mut impl Renaming) {
        for dir in [&mut self.dir, &mut self.on_disk].into_iter().flatten() {
            dir.rename(names);
        }
        for proc in &mut self.procs {
            proc.rename(names);
        }
        names.generation(&mut self.highest);
        names.generation(&mut self.granted);
        names.generation(&mut self.reported);
    }
}

impl Names for Dir {
    fn rename(&mut self, names: &mut impl Renaming) {
        for version in &mut self.cur {
            names.generation(&mut version.generation);
            names.tok(&mut version.tok);
        }
        if let Some(version) = &mut self.dead {
            names.generation(&mut version.generation);
            names.tok(&mut version.tok);
        }
        for record in &mut self.records {
            names.generation(&mut record.prev);
            names.tok(&mut record.tok);
            let others = [&mut record.prev_tok, &mut record.holder];
            others.into_iter().flatten().for_each(|tok| names.tok(tok));
        }
        self.heartbeats.iter_mut().for_each(|tok| names.tok(tok));
    }
}

impl Names for Attempt {
    fn rename(&mut self, names: &mut impl Renaming) {
        for version in [&mut self.from, &mut self.to] {
            names.generation(&mut version.generation);
            names.tok(&mut version.tok);
        }
        let others = [&mut self.holder, &mut self.removes];
        others.into_iter().flatten().for_each(|tok| names.tok(tok));
    }
}

impl Names for Proc {
    fn rename(&mut self, names: &mut impl Renaming) {
        match &mut self.pc {
            Pc::Publish { generation, tok } | Pc::CheckBurials { generation, tok } => {
                names.generation(generation);
                names.tok(tok);
            }
            Pc::ClearRemains { generation } | Pc::RemoveRemains { generation } => {
                names.generation(generation);
            }
            Pc::RecheckRead(version) => {
                names.generation(&mut version.generation);
                names.tok(&mut version.tok);
            }
            Pc::Watch(tok) => names.tok(tok),
            _ => {}
        }
        self.first.iter_mut().for_each(|generation| names.generation(generation));
        let toks = [&mut self.claim, &mut self.releasing, &mut self.evicts];
        toks.into_iter().flatten().for_each(|tok| names.tok(tok));
        if let Some(version) = &mut self.view {
            names.generation(&mut version.generation);
            names.tok(&mut version.tok);
        }
        for name in &mut self.sweep {
            match name {
                Name::Record { prev, tok } => {
                    names.generation(prev);
                    names.tok(tok);
                }
                Name::Heartbeat(tok) => names.tok(tok),
            }
        }
        let attempts = [&mut self.attempt, &mut self.late];
        attempts.into_iter().flatten().for_each(|attempt| attempt.rename(names));
    }
}
