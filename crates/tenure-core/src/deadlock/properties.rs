//! Who gives way, on locks and actors of every kind that chance makes: each victim undoes something,
//! and when nobody has to give way any more, nobody is stuck.
//!
//! Who is stuck is found out slowly here: everybody who can go on lets go, again and again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::Index;

use super::graph::{Knot, knot};
use crate::actor::Actor;
use crate::name::LockName;
use crate::owner::{Details, Owner};
use crate::token::{MemberId, Token};
use crate::values::{Micros, Priority, Seats};
use crate::view::{HolderView, View, WaiterView};

/// A lock: how many seats it has, who has some, and who waits, by their actors.
#[derive(Clone, Debug)]
struct Lock {
    /// `None` for one that is wanted whole.
    of: Option<u32>,
    held: Vec<Member>,
    queue: Vec<Member>,
}

#[derive(Clone, Debug)]
struct Member {
    actor: usize,
    id: MemberId,
    seats: Seats,
    upgrade: bool,
    priority: i32,
    since: u64,
}

#[derive(Clone, Debug)]
struct Scene {
    /// The actor that each works for.
    above: Vec<Option<usize>>,
    /// Whether each holds something beside all this.
    more: Vec<bool>,
    locks: Vec<Lock>,
}

impl Scene {
    fn line(&self, actor: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(Some(actor), |actor| self.above[*actor])
    }

    fn path(&self, actor: usize) -> String {
        let mut parts: Vec<String> = self.line(actor).map(|actor| actor.to_string()).collect();
        parts.reverse();
        parts.join("/")
    }

    fn details(&self, actor: usize) -> Arc<Details> {
        let mut holds = Vec::new();
        for actor in self.line(actor) {
            let held = |lock: &Lock| lock.held.iter().any(|m| m.actor == actor);
            let names = self.locks.iter().enumerate().filter(|(_, lock)| held(lock));
            holds.extend(names.map(|(at, _)| name(at)));
            holds.extend(self.more[actor].then(|| name(100 + actor)));
        }
        let details = Details::of(Owner::labelled("somebody").unwrap());
        Arc::new(details.with_actor(&Actor::new(&self.path(actor)).unwrap()).holding(holds))
    }

    fn views(&self) -> Vec<View> {
        let view = |(at, lock): (usize, &Lock)| {
            let mut view = View::empty(name(at));
            for m in &lock.held {
                view.holders.push(HolderView::new(m.id, self.details(m.actor), m.seats, Micros(1)));
            }
            for m in &lock.queue {
                let (id, details) = (m.id.holder(), self.details(m.actor));
                let mut waiter = WaiterView::new(id, details, m.seats, Micros(m.since));
                waiter.priority = Priority::new(m.priority).unwrap();
                waiter.upgrade = m.upgrade;
                view.waiters.push(waiter);
            }
            view
        };
        self.locks.iter().enumerate().map(view).collect()
    }

    /// How many of each queue are served when all who can go on have let go; and the actors who cannot.
    fn left(&self) -> (Vec<usize>, BTreeSet<usize>) {
        let mut served = vec![0; self.locks.len()];
        loop {
            let stuck = self.stuck(&served);
            let at = self.locks.iter().enumerate().position(|(at, lock)| {
                let Some(next) = lock.queue.get(served[at]) else { return false };
                let before = lock.held.iter().chain(&lock.queue[..served[at]]);
                // Of an upgrade the later seats count.
                let seats: BTreeMap<_, _> = before.map(|m| (m.id, (m.actor, m.seats))).collect();
                let mut others = seats
                    .into_iter()
                    .filter(|(id, (actor, _))| *id != next.id && stuck.contains(actor))
                    .map(|(_, (_, seats))| seats);
                match next.seats {
                    Seats::All => others.next().is_none(),
                    Seats::Some { take, of } => {
                        let taken = others.map(|seats| match seats {
                            Seats::All => of,
                            Seats::Some { take, .. } => take,
                        });
                        taken.sum::<u32>() + take <= of
                    }
                }
            });
            match at {
                Some(at) => served[at] += 1,
                None => return (served, stuck),
            }
        }
    }

    /// Those of whose claims, or of those who work for them, some were not served.
    fn stuck(&self, served: &[usize]) -> BTreeSet<usize> {
        let left = self.locks.iter().zip(served).flat_map(|(lock, served)| &lock.queue[*served..]);
        left.flat_map(|m| self.line(m.actor)).collect()
    }

    /// Whether a way leads from an actor to what it holds itself: by locks that are held, whoever
    /// stands in between in a queue, and by those who work for others.
    fn is_on_a_cycle(&self, victim: usize) -> bool {
        let (served, stuck) = self.left();
        let mut ways = Vec::new();
        for (lock, served) in self.locks.iter().zip(served) {
            for waiter in &lock.queue[served..] {
                ways.extend(self.line(waiter.actor).skip(1).map(|above| (above, waiter.actor)));
                let others = lock.held.iter().filter(|m| m.id != waiter.id);
                let others = others.filter(|m| stuck.contains(&m.actor));
                ways.extend(others.map(|m| (waiter.actor, m.actor)));
            }
        }
        let mut reached = BTreeSet::new();
        let mut open = vec![victim];
        while let Some(from) = open.pop() {
            let next = ways.iter().filter(|(f, _)| *f == from).map(|(_, to)| *to);
            open.extend(next.filter(|to| reached.insert(*to)));
        }
        reached.contains(&victim)
    }

    /// The victim lets go of all, and so do those it works for.
    fn give_way(&mut self, victim: usize) {
        let line: Vec<usize> = self.line(victim).collect();
        for actor in &line {
            self.more[*actor] = false;
        }
        for lock in &mut self.locks {
            lock.queue.retain(|m| m.actor != victim);
            lock.held.retain(|m| !line.contains(&m.actor));
            // Without its share it has nothing to upgrade.
            let held: Vec<MemberId> = lock.held.iter().map(|m| m.id).collect();
            lock.queue.retain(|m| !m.upgrade || held.contains(&m.id));
        }
    }
}

fn name(lock: usize) -> LockName {
    LockName::new(lock.to_string()).unwrap()
}

type Drawn = (Vec<Option<Index>>, Vec<bool>, Vec<(Option<u32>, Vec<Claim>)>, Vec<Waits>);
type Claim = (Index, u32);
type Waits = (Option<(Index, bool, u32)>, i32, u32);

fn drawn() -> impl Strategy<Value = Drawn> {
    let index = any::<Index>;
    (2_usize..9).prop_flat_map(move |actors| {
        (
            prop::collection::vec(prop::option::weighted(0.2, index()), actors),
            prop::collection::vec(prop::bool::weighted(0.4), actors),
            prop::collection::vec(
                (
                    prop::option::weighted(0.4, 2_u32..4),
                    prop::collection::vec((index(), 1_u32..3), 1..4),
                ),
                2..6,
            ),
            prop::collection::vec(
                (
                    prop::option::weighted(0.9, (index(), prop::bool::weighted(0.2), 1_u32..3)),
                    -1..2_i32,
                    any::<u32>(),
                ),
                actors,
            ),
        )
    })
}

fn scene((above, more, locks, waits): Drawn) -> Scene {
    let actors = above.len();
    let mut next = 0_u8;
    let mut id = || {
        next += 1;
        Token::from_bytes([next; 16]).member()
    };
    let above: Vec<Option<usize>> = above
        .into_iter()
        .enumerate()
        .map(|(actor, above)| (0 < actor).then(|| above.map(|i| i.index(actor))).flatten())
        .collect();
    let mut locks: Vec<Lock> = locks
        .into_iter()
        .map(|(of, claims)| {
            let mut lock = Lock { of, held: Vec::new(), queue: Vec::new() };
            let mut free = of.unwrap_or(1);
            for (actor, take) in claims {
                let take = take.min(of.unwrap_or(1));
                if take <= free {
                    free -= take;
                    let seats = of.map_or(Seats::All, |of| Seats::Some { take, of });
                    let actor = actor.index(actors);
                    let (priority, since) = (0, 0);
                    let upgrade = false;
                    lock.held.push(Member { actor, id: id(), seats, upgrade, priority, since });
                }
            }
            lock
        })
        .collect();
    for (actor, (wants, priority, since)) in waits.into_iter().enumerate() {
        // Whoever others work for does nothing else meanwhile.
        let Some((at, whole, take)) = wants.filter(|_| !above.contains(&Some(actor))) else {
            continue;
        };
        let at = at.index(locks.len());
        let lock = &mut locks[at];
        let own = lock.held.iter().find(|m| m.actor == actor && m.seats != Seats::All);
        let upgrade = whole && own.is_some() && !lock.queue.iter().any(|m| m.upgrade);
        let seats = match lock.of {
            Some(of) if !whole => Seats::Some { take: take.min(of), of },
            _ => Seats::All,
        };
        let id = own.filter(|_| upgrade).map_or_else(&mut id, |own| own.id);
        let since = u64::from(since) + 1;
        // Upgrades stand before all others.
        let at = if upgrade { 0 } else { lock.queue.len() };
        lock.queue.insert(at, Member { actor, id, seats, upgrade, priority, since });
    }
    Scene { above, more, locks }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn each_victim_undoes_a_cycle_and_in_the_end_nobody_is_stuck(drawn in drawn()) {
        let mut scene = scene(drawn);
        loop {
            let views = scene.views();
            let members: Vec<Member> =
                scene.locks.iter().flat_map(|lock| &lock.queue).cloned().collect();
            let seen = |m: &Member| knot(views.iter(), m.id.holder());
            let knots: Vec<(&Member, Knot)> =
                members.iter().filter_map(|m| Some((m, seen(m)?))).collect();
            let Some((_, first)) = knots.first() else { break };
            let (victim, own) = knots
                .iter()
                .find(|(m, _)| m.id.holder() == first.victim)
                .expect("the victim sees the knot, too");
            prop_assert_eq!(own.victim, first.victim);
            prop_assert!(!own.cycle.is_empty());
            prop_assert!(!scene.details(victim.actor).holds.is_empty(), "it looks");
            prop_assert!(scene.is_on_a_cycle(victim.actor), "it frees somebody: {:?}", scene);
            scene.give_way(victim.actor);
        }
        let (_, stuck) = scene.left();
        prop_assert!(stuck.is_empty(), "{:?} wait for ever: {:?}", stuck, scene);
    }
}
