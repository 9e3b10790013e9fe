//! The walk along those who wait: which locks are read, in which order, and what follows.
//!
//! It goes backwards, from the locks that the walker's actor holds to those who wait for them, whose
//! details say what their actors hold, and so on: whoever is in a cycle with the walker is met. It
//! reads one lock after the other, so what it saw may never have been at one time. Before it gives
//! a verdict it reads the locks of the cycle once more. A claim waits and a grant holds without a
//! break from its first to its last moment: what both looks show was so at every moment between them.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use super::Wait;
use super::graph::{Knot, knot};
use crate::name::LockName;
use crate::token::HolderId;
use crate::view::{HolderView, View, WaiterView};

/// The most locks that one walk reads.
const MAX_LOCKS: usize = 256;

/// One walk of one waiter.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Walk {
    me: HolderId,
    waits_at: LockName,
    first: BTreeMap<LockName, View>,
    again: Option<BTreeMap<LockName, View>>,
    todo: VecDeque<LockName>,
    known: BTreeSet<LockName>,
}

/// What a walk needs next.
#[derive(Debug)]
pub(super) enum Next {
    /// A look at this lock.
    Read(LockName),
    /// Nothing: the walker goes on waiting.
    Wait,
    /// Nothing: the walker has to give way, because of this.
    GiveWay(Vec<Wait>),
}

impl Walk {
    /// The walk of the claim `me`, which waits for `waits_at`, whose actor holds these.
    pub(super) fn new(me: HolderId, waits_at: &LockName, holds: &[LockName]) -> Self {
        let (first, todo) = (BTreeMap::new(), VecDeque::new());
        let waits_at = waits_at.clone();
        let mut walk = Self { me, waits_at, first, again: None, todo, known: BTreeSet::new() };
        for name in std::iter::once(&walk.waits_at.clone()).chain(holds) {
            walk.also(name);
        }
        walk
    }

    /// What it needs next.
    pub(super) fn next(&mut self) -> Next {
        loop {
            if let Some(name) = self.todo.front() {
                return Next::Read(name.clone());
            }
            if let Some(again) = &self.again {
                let both =
                    again.values().filter_map(|now| Some(common(self.first.get(&now.name)?, now)));
                let both: Vec<View> = both.collect();
                return self.verdict(knot(both.iter(), self.me));
            }
            match knot(self.first.values(), self.me) {
                Some(knot) if knot.victim == self.me => {
                    self.todo = knot.locks.into();
                    self.again = Some(BTreeMap::new());
                }
                other => return self.verdict(other),
            }
        }
    }

    /// Takes the look that was asked for.
    pub(super) fn saw(&mut self, view: View) {
        self.todo.pop_front();
        if let Some(again) = &mut self.again {
            again.insert(view.name.clone(), view);
            return;
        }
        // Where it waits itself, only those behind it wait for it.
        let mine = view.waiters.iter().position(|w| w.id == self.me).unwrap_or_default();
        let skip = if view.name == self.waits_at { mine } else { 0 };
        for waiter in view.waiters.iter().skip(skip) {
            for name in &waiter.details.holds {
                self.also(name);
            }
        }
        self.first.insert(view.name.clone(), view);
    }

    /// As [`Walk::next`], of a walker that trusts its first look.
    #[cfg(test)]
    pub(super) fn without_second_look(&mut self) -> Next {
        match self.next() {
            Next::Read(_) if self.again.is_some() => {
                self.todo.clear();
                self.verdict(knot(self.first.values(), self.me))
            }
            next => next,
        }
    }

    #[cfg(test)]
    pub(super) fn looks_again(&self) -> bool {
        self.again.as_ref().is_some_and(BTreeMap::is_empty)
    }

    fn also(&mut self, name: &LockName) {
        if self.known.len() < MAX_LOCKS && self.known.insert(name.clone()) {
            self.todo.push_back(name.clone());
        }
    }

    fn verdict(&self, knot: Option<Knot>) -> Next {
        match knot {
            Some(knot) if knot.victim == self.me => Next::GiveWay(knot.cycle),
            _ => Next::Wait,
        }
    }
}

/// What was there at both looks.
fn common(first: &View, now: &View) -> View {
    let held = |h: &HolderView| (h.member, h.fence, h.seats);
    let waited = |w: &WaiterView| (w.id, w.since, w.upgrade);
    let first_held: HashSet<_> = first.holders.iter().map(held).collect();
    let first_waited: HashSet<_> = first.waiters.iter().map(waited).collect();
    let held = |h: &&HolderView| first_held.contains(&held(h));
    let waited = |w: &&WaiterView| first_waited.contains(&waited(w));
    View {
        holders: now.holders.iter().filter(held).cloned().collect(),
        waiters: now.waiters.iter().filter(waited).cloned().collect(),
        ..View::empty(now.name.clone())
    }
}
