//! Who waits for whom, and who of them waits for ever.
//!
//! Semaphores make this more than a search for a cycle: a waiter may wait for one of many holders.
//! So those who can go on are let go first, as often as that frees somebody else, by the rules by
//! which queues are served; whoever is left is stuck.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::Wait;
use crate::actor::Actor;
use crate::name::LockName;
use crate::owner::Details;
use crate::token::HolderId;
use crate::values::Seats;
use crate::view::{HolderView, View, WaiterView};

/// Somebody who holds and waits: an actor, or a claim that named none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Party<'a> {
    Actor(&'a str),
    Claim(HolderId),
}

impl<'a> Party<'a> {
    fn of(details: &'a Details, id: HolderId) -> Self {
        details.actor.as_deref().map_or(Self::Claim(id), Self::Actor)
    }

    /// The actors that it works for, which are not done before it is.
    fn above(self) -> impl Iterator<Item = Self> {
        let path = match self {
            Self::Actor(path) => path,
            Self::Claim(_) => "",
        };
        path.match_indices(Actor::PART).map(move |(end, _)| Self::Actor(&path[..end]))
    }
}

/// A set of which each waits for another one of it, and for nobody who can go on.
#[derive(Debug)]
pub(super) struct Knot {
    /// Who has to give way: the lowest priority, then whoever came last. Everybody who looks says the
    /// same.
    pub(super) victim: HolderId,
    /// How whoever asked waits for itself.
    pub(super) cycle: Vec<Wait>,
    /// Where those of the set wait.
    pub(super) locks: Vec<LockName>,
}

/// The knot that the waiter `me` is in, by what these locks show. Locks that are not shown do not
/// count: whoever waits there is taken for somebody who can go on.
pub(super) fn knot<'a>(views: impl Iterator<Item = &'a View>, me: HolderId) -> Option<Knot> {
    let views: Vec<&View> = views.collect();
    Waits::left_in(&views).knot(&views, me)
}

/// Which claims are stuck, and who stands behind them.
struct Waits<'a> {
    /// Of how many claims that are stuck a party has to wait for the end: its own, and those of actors
    /// that work for it.
    stuck: HashMap<Party<'a>, usize>,
    /// How many of each queue were served, from its head.
    served: Vec<usize>,
}

/// One who waits for another one.
struct Edge<'a> {
    from: Party<'a>,
    to: Party<'a>,
    /// For what; an actor waits for those who work for it without a lock.
    wait: Option<Wait>,
}

/// Somebody whose seats stay taken.
struct Seated<'a> {
    id: HolderId,
    party: Party<'a>,
    seats: Seats,
    details: &'a Arc<Details>,
}

impl<'a> Seated<'a> {
    fn holder(holder: &'a HolderView) -> Self {
        let party = Party::of(&holder.details, holder.id);
        Self { id: holder.id, party, seats: holder.seats, details: &holder.details }
    }

    fn waiter(waiter: &'a WaiterView) -> Self {
        let party = Party::of(&waiter.details, waiter.id);
        Self { id: waiter.id, party, seats: waiter.seats, details: &waiter.details }
    }
}

impl<'a> Waits<'a> {
    /// Lets everybody go who can.
    fn left_in(views: &[&'a View]) -> Self {
        let mut waits = Self { stuck: HashMap::new(), served: vec![0; views.len()] };
        for waiter in views.iter().flat_map(|view| &view.waiters) {
            waits.stuck.insert(Party::of(&waiter.details, waiter.id), 0);
        }
        // An actor that only holds is stuck with those who work for it.
        for holder in views.iter().flat_map(|view| &view.holders) {
            waits.stuck.entry(Party::of(&holder.details, holder.id)).or_default();
        }
        for waiter in views.iter().flat_map(|view| &view.waiters) {
            waits.count(Party::of(&waiter.details, waiter.id), |count| count + 1);
        }
        loop {
            let before = waits.served.clone();
            for (at, view) in views.iter().enumerate() {
                waits.serve(at, view);
            }
            if waits.served == before {
                return waits;
            }
        }
    }

    fn count(&mut self, party: Party<'a>, change: impl Fn(usize) -> usize) {
        for party in std::iter::once(party).chain(party.above()) {
            if let Some(count) = self.stuck.get_mut(&party) {
                *count = change(*count);
            }
        }
    }

    fn is_stuck(&self, party: Party<'a>) -> bool {
        self.stuck.get(&party).is_some_and(|count| 0 < *count)
    }

    /// Serves one queue as far as its seats go, once those have left who are not stuck.
    fn serve(&mut self, at: usize, view: &'a View) {
        loop {
            let seated = self.seated(at, view);
            let Some(next) = view.waiters.get(self.served[at]) else { return };
            if !fits(&seated, next) {
                return;
            }
            self.served[at] += 1;
            self.count(Party::of(&next.details, next.id), |count| count - 1);
        }
    }

    /// Who has seats of this lock and does not leave.
    fn seated(&self, at: usize, view: &'a View) -> Vec<Seated<'a>> {
        let mut seated: Vec<_> = view
            .holders
            .iter()
            .map(Seated::holder)
            .filter(|holder| self.is_stuck(holder.party))
            .collect();
        for waiter in &view.waiters[..self.served[at]] {
            let waiter = Seated::waiter(waiter);
            if self.is_stuck(waiter.party) {
                // An upgrade has the seats in place of those before.
                seated.retain(|other| other.id != waiter.id);
                seated.push(waiter);
            }
        }
        seated
    }

    /// Who waits for whom, of those who are stuck. In a queue for the one before: by that for all
    /// who are before.
    fn edges(&self, views: &[&'a View]) -> Vec<Edge<'a>> {
        let mut edges = Vec::new();
        for (at, view) in views.iter().enumerate() {
            let seated = self.seated(at, view);
            let mut before: Option<&WaiterView> = None;
            for waiter in &view.waiters[self.served[at]..] {
                let from = Party::of(&waiter.details, waiter.id);
                let wait = |for_whom: &Arc<Details>, holds| {
                    let waiter = waiter.details.clone();
                    Some(Wait {
                        lock: view.name.clone(),
                        waiter,
                        for_whom: for_whom.clone(),
                        holds,
                    })
                };
                match before {
                    Some(next) => {
                        let to = Party::of(&next.details, next.id);
                        edges.push(Edge { from, to, wait: wait(&next.details, false) });
                    }
                    None => {
                        for other in
                            seated.iter().filter(|o| !(waiter.upgrade && o.id == waiter.id))
                        {
                            let wait = wait(other.details, true);
                            edges.push(Edge { from, to: other.party, wait });
                        }
                    }
                }
                let above = from.above().filter(|party| self.is_stuck(*party));
                edges.extend(above.map(|above| Edge { from: above, to: from, wait: None }));
                before = Some(waiter);
            }
        }
        edges
    }

    fn knot(&self, views: &[&'a View], me: HolderId) -> Option<Knot> {
        let stuck = || {
            views.iter().enumerate().flat_map(|(at, view)| {
                view.waiters[self.served[at]..].iter().map(move |waiter| (&view.name, waiter))
            })
        };
        let (_, mine) = stuck().find(|(_, waiter)| waiter.id == me)?;
        let my_party = Party::of(&mine.details, me);
        let edges = self.edges(views);
        let out = adjacent(&edges, |edge| (edge.from, edge.to));
        let back = adjacent(&edges, |edge| (edge.to, edge.from));
        let (ahead, behind) = (reached(&out, my_party), reached(&back, my_party));
        // If one of them does not wait for me, it is stuck without me, and so am I with it: that knot
        // is undone by those who are in it.
        if !ahead.contains_key(&my_party) || ahead.keys().any(|p| !behind.contains_key(p)) {
            return None;
        }
        let inside = || stuck().filter(|(_, w)| ahead.contains_key(&Party::of(&w.details, w.id)));
        // Whoever holds nothing frees nothing.
        let victim = inside()
            .map(|(_, waiter)| waiter)
            .filter(|waiter| !waiter.details.holds.is_empty())
            .min_by_key(|w| (w.priority.get(), Reverse(w.since), w.id))?;
        let mut locks: Vec<LockName> = inside().map(|(name, _)| name.clone()).collect();
        locks.sort();
        locks.dedup();
        Some(Knot { victim: victim.id, cycle: cycle(&edges, my_party), locks })
    }
}

/// Whether the seats that a waiter wants are free beside all others: the machine's rule.
fn fits(seated: &[Seated<'_>], waiter: &WaiterView) -> bool {
    let mut others = seated.iter().filter(|other| other.id != waiter.id);
    let Seats::Some { take, of } = waiter.seats else {
        return others.next().is_none();
    };
    let taken = others.try_fold(0_u64, |sum, other| match other.seats {
        Seats::All => None,
        Seats::Some { take, .. } => Some(sum + u64::from(take)),
    });
    taken.is_some_and(|taken| taken + u64::from(take) <= u64::from(of))
}

type Adjacent<'a> = HashMap<Party<'a>, Vec<Party<'a>>>;

fn adjacent<'a>(
    edges: &[Edge<'a>],
    ends: impl Fn(&Edge<'a>) -> (Party<'a>, Party<'a>),
) -> Adjacent<'a> {
    let mut adjacent = Adjacent::new();
    for (from, to) in edges.iter().map(ends) {
        adjacent.entry(from).or_default().push(to);
    }
    adjacent
}

/// Who is reached from `from` by one step or more, each with the one before it.
fn reached<'a>(by: &Adjacent<'a>, from: Party<'a>) -> HashMap<Party<'a>, Party<'a>> {
    let mut reached = HashMap::new();
    let mut open = VecDeque::from([from]);
    while let Some(party) = open.pop_front() {
        for next in by.get(&party).into_iter().flatten() {
            reached.entry(*next).or_insert_with(|| {
                open.push_back(*next);
                party
            });
        }
    }
    reached
}

/// A shortest way back to `me`, as waits for locks.
fn cycle<'a>(edges: &[Edge<'a>], me: Party<'a>) -> Vec<Wait> {
    let before = reached(&adjacent(edges, |edge| (edge.from, edge.to)), me);
    let mut waits = Vec::new();
    let mut to = me;
    loop {
        let from = before[&to];
        let edge = edges.iter().find(|edge| edge.from == from && edge.to == to);
        waits.extend(edge.and_then(|edge| edge.wait.clone()));
        to = from;
        if to == me {
            break;
        }
    }
    waits.reverse();
    waits
}
