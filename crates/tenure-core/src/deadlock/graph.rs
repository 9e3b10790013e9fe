//! Who waits for whom, and who of them waits for ever.
//!
//! Semaphores make this more than a search for a cycle: a waiter may wait for one of many holders.
//! So those who can go on are let go first, as often as that frees somebody else, by the rules by
//! which queues are served; whoever is left is stuck.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::Wait;
use crate::actor::Actor;
use crate::name::LockName;
use crate::owner::Details;
use crate::token::HolderId;
use crate::values::Seats;
use crate::view::{View, WaiterView};

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
    /// Who has to give way: of those who hold what others of the set wait for, the one of the lowest
    /// priority, then whoever came last. Everybody who looks says the same.
    pub(super) victim: HolderId,
    /// How whoever asked waits for itself.
    pub(super) cycle: Vec<Wait>,
    /// Where those of the set wait.
    pub(super) locks: Vec<LockName>,
}

/// The knot that the waiter `me` is in, by what these locks show. Locks that are not shown do not
/// count: whoever waits there is taken for somebody who can go on.
pub(super) fn knot<'a>(views: impl Iterator<Item = &'a View>, me: HolderId) -> Option<Knot> {
    Waits::left_in(views).knot(me)
}

/// Which claims are stuck, and who stands behind them.
struct Waits<'a> {
    /// Of how many claims that are stuck a party has to wait for the end: its own, and those of actors
    /// that work for it.
    stuck: HashMap<Party<'a>, usize>,
    /// The seats that a party gives back when it can go on, each at one of the locks.
    seats: HashMap<Party<'a>, Vec<(usize, HolderId)>>,
    locks: Vec<Lock<'a>>,
}

/// A lock, as far as its queue was served.
struct Lock<'a> {
    view: &'a View,
    /// How many of the queue were served, from its head.
    served: usize,
    taken: Taken,
}

/// The seats of a lock that stay taken.
#[derive(Default)]
struct Taken {
    by: HashMap<HolderId, Seats>,
    /// How many have all of them.
    all: usize,
    some: u64,
}

/// One who waits for another one.
struct Edge<'a> {
    from: Party<'a>,
    to: Party<'a>,
    /// For what; an actor waits for those who work for it without a lock.
    wait: Option<For<'a>>,
}

/// What somebody waits for.
#[derive(Clone, Copy)]
struct For<'a> {
    lock: &'a LockName,
    waiter: &'a Arc<Details>,
    whom: &'a Arc<Details>,
    holds: bool,
}

/// Somebody whose seats stay taken.
struct Seated<'a> {
    id: HolderId,
    party: Party<'a>,
    details: &'a Arc<Details>,
    /// Whether it has them already; if not, it stands before all who were not served.
    holds: bool,
}

impl Taken {
    fn take(&mut self, id: HolderId, seats: Seats) {
        // An upgrade has the seats in place of those before.
        self.give_back(id);
        self.by.insert(id, seats);
        match seats {
            Seats::All => self.all += 1,
            Seats::Some { take, .. } => self.some += u64::from(take),
        }
    }

    fn give_back(&mut self, id: HolderId) {
        match self.by.remove(&id) {
            Some(Seats::All) => self.all -= 1,
            Some(Seats::Some { take, .. }) => self.some -= u64::from(take),
            None => {}
        }
    }

    /// Whether the seats that a waiter wants are free beside all others: the machine's rule.
    fn leaves_room_for(&self, waiter: &WaiterView) -> bool {
        let own = self.by.get(&waiter.id);
        let Seats::Some { take, of } = waiter.seats else {
            return self.by.len() == usize::from(own.is_some());
        };
        let (all, some) = match own {
            Some(Seats::All) => (1, 0),
            Some(Seats::Some { take, .. }) => (0, u64::from(*take)),
            None => (0, 0),
        };
        self.all == all && self.some - some + u64::from(take) <= u64::from(of)
    }
}

impl<'a> Lock<'a> {
    /// Those who wait and were not served.
    fn left(&self) -> &'a [WaiterView] {
        &self.view.waiters[self.served..]
    }
}

impl<'a> Waits<'a> {
    /// Lets everybody go who can.
    fn left_in(views: impl Iterator<Item = &'a View>) -> Self {
        let lock = |view| Lock { view, served: 0, taken: Taken::default() };
        let locks: Vec<_> = views.map(lock).collect();
        let mut waits = Self { stuck: HashMap::new(), seats: HashMap::new(), locks };
        for waiter in waits.locks.iter().flat_map(|lock| &lock.view.waiters) {
            waits.stuck.insert(Party::of(&waiter.details, waiter.id), 0);
        }
        // An actor that only holds is stuck with those who work for it.
        for holder in waits.locks.iter().flat_map(|lock| &lock.view.holders) {
            waits.stuck.entry(Party::of(&holder.details, holder.id)).or_default();
        }
        for waiter in waits.locks.iter().flat_map(|lock| &lock.view.waiters) {
            let party = Party::of(&waiter.details, waiter.id);
            for party in std::iter::once(party).chain(party.above()) {
                waits.stuck.entry(party).and_modify(|claims| *claims += 1);
            }
        }
        for at in 0..waits.locks.len() {
            for holder in &waits.locks[at].view.holders {
                waits.seat(at, Party::of(&holder.details, holder.id), holder.id, holder.seats);
            }
        }
        let mut to_serve: Vec<usize> = (0..waits.locks.len()).collect();
        while let Some(at) = to_serve.pop() {
            waits.serve(at, &mut to_serve);
        }
        waits
    }

    fn is_stuck(&self, party: Party<'a>) -> bool {
        self.stuck.get(&party).is_some_and(|claims| 0 < *claims)
    }

    /// Notes seats that stay taken for as long as their party is stuck.
    fn seat(&mut self, at: usize, party: Party<'a>, id: HolderId, seats: Seats) {
        if self.is_stuck(party) {
            self.locks[at].taken.take(id, seats);
            self.seats.entry(party).or_default().push((at, id));
        } else {
            self.locks[at].taken.give_back(id);
        }
    }

    /// Serves one queue as far as its seats go; whoever can go on by that gives back what it has
    /// anywhere, and those locks are to be served again.
    fn serve(&mut self, at: usize, to_serve: &mut Vec<usize>) {
        while let Some(next) = self.locks[at].left().first()
            && self.locks[at].taken.leaves_room_for(next)
        {
            self.locks[at].served += 1;
            let me = Party::of(&next.details, next.id);
            for party in std::iter::once(me).chain(me.above()) {
                let Some(claims) = self.stuck.get_mut(&party) else { continue };
                *claims -= 1;
                if *claims == 0 {
                    for (lock, id) in self.seats.remove(&party).unwrap_or_default() {
                        self.locks[lock].taken.give_back(id);
                        to_serve.push(lock);
                    }
                }
            }
            self.seat(at, me, next.id, next.seats);
        }
    }

    /// Who has seats of this lock and does not leave.
    fn seated(&self, lock: &Lock<'a>) -> Vec<Seated<'a>> {
        let served = &lock.view.waiters[..lock.served];
        let holders = lock.view.holders.iter().map(|holder| Seated {
            id: holder.id,
            party: Party::of(&holder.details, holder.id),
            details: &holder.details,
            holds: true,
        });
        // An upgrade that was served is a holder already.
        let is_shown = |w: &WaiterView| w.upgrade && lock.view.holders.iter().any(|h| h.id == w.id);
        let waiters = served.iter().filter(|w| !is_shown(w)).map(|waiter| Seated {
            id: waiter.id,
            party: Party::of(&waiter.details, waiter.id),
            details: &waiter.details,
            holds: false,
        });
        holders.chain(waiters).filter(|seated| self.is_stuck(seated.party)).collect()
    }

    /// Who waits for whom, of those who are stuck. In a queue for the one before: by that for all
    /// who are before.
    fn edges(&self) -> Vec<Edge<'a>> {
        let mut edges = Vec::new();
        for lock in &self.locks {
            let mut before: Option<&WaiterView> = None;
            for waiter in lock.left() {
                let from = Party::of(&waiter.details, waiter.id);
                let wait = |whom, holds| {
                    Some(For { lock: &lock.view.name, waiter: &waiter.details, whom, holds })
                };
                match before {
                    Some(next) => {
                        let to = Party::of(&next.details, next.id);
                        edges.push(Edge { from, to, wait: wait(&next.details, false) });
                    }
                    None => {
                        let others = self.seated(lock).into_iter();
                        edges.extend(
                            others.filter(|other| !(waiter.upgrade && other.id == waiter.id)).map(
                                |other| {
                                    let wait = wait(other.details, other.holds);
                                    Edge { from, to: other.party, wait }
                                },
                            ),
                        );
                    }
                }
                let above = from.above().filter(|party| self.is_stuck(*party));
                edges.extend(above.map(|above| Edge { from: above, to: from, wait: None }));
                before = Some(waiter);
            }
        }
        edges
    }

    fn knot(&self, me: HolderId) -> Option<Knot> {
        let stuck = || {
            self.locks
                .iter()
                .flat_map(|lock| lock.left().iter().map(move |waiter| (&lock.view.name, waiter)))
        };
        let (_, mine) = stuck().find(|(_, waiter)| waiter.id == me)?;
        let my_party = Party::of(&mine.details, me);
        let edges = self.edges();
        let out = adjacent(&edges, |edge| (edge.from, edge.to));
        let back = adjacent(&edges, |edge| (edge.to, edge.from));
        let (ahead, behind) = (reached(&out, my_party), reached(&back, my_party));
        // If one of them does not wait for me, it is stuck without me, and so am I with it: that knot
        // is undone by those who are in it.
        if !ahead.contains_key(&my_party) || ahead.keys().any(|p| !behind.contains_key(p)) {
            return None;
        }
        let inside = || stuck().filter(|(_, w)| ahead.contains_key(&Party::of(&w.details, w.id)));
        // Whose seats somebody inside waits for. Every way around leads through one of them, and whoever
        // merely stands in a queue there frees nobody by leaving: those behind it wait for the same seats.
        let in_the_way: HashSet<Party<'_>> = edges
            .iter()
            .filter(|edge| edge.wait.is_some_and(|wait| wait.holds))
            .filter(|edge| ahead.contains_key(&edge.from))
            .map(|edge| edge.to)
            .collect();
        let frees = |waiter: &WaiterView| {
            let party = Party::of(&waiter.details, waiter.id);
            let mut parties = std::iter::once(party).chain(party.above());
            // Whoever tells of nothing that it holds does not look.
            !waiter.details.holds.is_empty() && parties.any(|party| in_the_way.contains(&party))
        };
        let victim = inside()
            .map(|(_, waiter)| waiter)
            .filter(|waiter| frees(waiter))
            .min_by_key(|w| (w.priority.get(), Reverse(w.since), w.id))?;
        let mut locks: Vec<LockName> = inside().map(|(name, _)| name.clone()).collect();
        locks.sort();
        locks.dedup();
        Some(Knot { victim: victim.id, cycle: cycle(&edges, &ahead, my_party), locks })
    }
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

/// A shortest way back to `me`, as waits for locks. `ahead` is who is reached from there.
fn cycle<'a>(
    edges: &[Edge<'a>],
    ahead: &HashMap<Party<'a>, Party<'a>>,
    me: Party<'a>,
) -> Vec<Wait> {
    let mut steps = Vec::new();
    let mut to = me;
    loop {
        let from = ahead[&to];
        steps.push((from, to));
        to = from;
        if to == me {
            break;
        }
    }
    let mut by_ends: HashMap<_, &Edge<'a>> = HashMap::new();
    for edge in edges {
        by_ends.entry((edge.from, edge.to)).or_insert(edge);
    }
    let waits = steps.iter().rev().filter_map(|ends| by_ends[ends].wait);
    waits
        .map(|wait| Wait {
            lock: wait.lock.clone(),
            waiter: wait.waiter.clone(),
            for_whom: wait.whom.clone(),
            holds: wait.holds,
        })
        .collect()
}
