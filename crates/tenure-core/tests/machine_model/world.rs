//! The model: clients, a store that runs the rules, and a network that duplicates, delays and
//! loses what it carries.

use std::sync::atomic::{AtomicU64, Ordering};

use stateright::{Model, Property};
use tenure_core::machine::{Cell, Now};
use tenure_core::{MemberId, Micros};

use super::client::{Client, Guard, Stage, before_sending, end_life, without_answer};
use super::landmarks::Landmark;
use super::menu::{Clock, Menu};
use super::rules::{Reply, Request, Rules, STEP, Slot, Table};
use super::snap::{Held, Snap, fit_together};
use super::watch::{self, Promise, Seen, Turned};

pub(crate) const NO_OVERLAP: Promise = "two guards that are valid at the same time do not conflict";
pub(crate) const VIGIL: Promise =
    "an observer waits a whole ttl for a holder that picked up its lease";
pub(crate) const BACKED: Promise = "a valid guard is in the record, unless it was evicted";

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct World {
    pub(crate) cell: Cell,
    pub(crate) step: u8,
    pub(crate) clients: Vec<Client>,
    /// Copies of requests that may still arrive.
    pub(crate) ghosts: Vec<Request>,
    pub(crate) ghosts_left: u8,
    pub(crate) crashes_left: u8,
    pub(crate) evictions_left: u8,
    pub(crate) lapses_left: u8,
    pub(crate) seen: Vec<Seen>,
    pub(crate) broken: Option<Promise>,
}

/// How a request travels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Route {
    /// It arrives once, and so does the answer.
    Sure,
    /// So it does, and a copy may arrive any time later.
    Copied,
    /// It may arrive any time later; the answer does not.
    Lost,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    /// The store's clock goes on.
    Tick,
    Send {
        client: u8,
        request: Request,
        route: Route,
        sweeps: bool,
    },
    /// A copy arrives.
    Haunt(Request),
    Crash(u8),
    /// The own validity of a guard ends, on a store without a clock.
    Lapse(u8),
    /// A client whose guard is over goes on without a word to the store.
    Walk(u8),
    /// An observer finds these dead.
    Sweep(u8),
    /// An observer takes a waiter for dead that lives: its refresh was late.
    GiveUp(Slot),
    Operator(Request),
}

/// One model.
#[derive(Debug)]
pub(crate) struct Lock {
    pub(crate) menu: Menu,
    pub(crate) table: Table,
    pub(crate) rules: Rules,
    reached: AtomicU64,
}

impl Lock {
    pub(crate) fn new(menu: Menu, rules: Rules) -> Self {
        let table = Table::new(menu.clients * menu.lives, menu.wishes.clone());
        Self { menu, table, rules, reached: AtomicU64::new(0) }
    }

    pub(crate) fn has_reached(&self, landmark: Landmark) -> bool {
        self.reached.load(Ordering::Relaxed) & (1 << landmark as u64) != 0
    }

    pub(crate) fn reach(&self, landmark: Landmark, really: bool) {
        if really && !self.has_reached(landmark) {
            self.reached.fetch_or(1 << landmark as u64, Ordering::Relaxed);
        }
    }

    pub(crate) fn slot(&self, client: usize, life: u8) -> Slot {
        u8::try_from(client).expect("few clients") * self.menu.lives + life
    }

    /// The client of a claim, if it still makes it.
    fn client_of<'w>(&self, world: &'w World, slot: Slot) -> Option<&'w Client> {
        let client = &world.clients[usize::from(slot / self.menu.lives)];
        let same = client.life == slot % self.menu.lives && client.stage != Stage::Over;
        same.then_some(client)
    }

    fn at(&self, world: &World) -> Micros {
        Micros(0).plus(STEP * u32::from(world.step))
    }

    pub(crate) fn observed(&self) -> bool {
        self.menu.clock == Clock::Observed
    }

    /// Whether an observer may find `slot` dead: only if nobody believes to hold by it.
    fn may_be_dead(&self, world: &World, slot: Slot) -> bool {
        let member = self.table.member(slot);
        let client = self.client_of(world, slot);
        if world.cell.holder_ids().any(|m| m == member) {
            return client.is_none_or(|c| c.guard.is_none());
        }
        let waits = world.cell.waiter_ids().any(|m| m == member);
        waits && client.is_none()
    }

    fn all_dead(&self, world: &World) -> u8 {
        (0..self.menu.clients * self.menu.lives)
            .filter(|slot| self.may_be_dead(world, *slot))
            .fold(0, |all, slot| all | 1 << slot)
    }

    /// Lets the store take one turn, and checks it.
    fn turn(&self, world: &mut World, request: Request, dead: u8) -> Reply {
        let dead: Vec<MemberId> = (0..8)
            .filter(|slot| dead & (1 << slot) != 0)
            .map(|slot| self.table.member(slot))
            .collect();
        let at = self.at(world);
        let now = match self.menu.clock {
            Clock::Store { .. } => Now::Store(at),
            Clock::Observed => Now::Observed { wall: at, dead: &dead },
        };
        let mut cell = world.cell.clone();
        let (reply, effects) = (self.rules)(&self.table, &mut cell, now, request);
        let before = Snap::of(&self.table, &world.cell, at);
        let after = Snap::of(&self.table, &cell, at);
        let turned = Turned {
            table: &self.table,
            cell_before: &world.cell,
            cell: &cell,
            before: &before,
            after: &after,
            now,
            at,
            request,
            reply: &reply,
            effects: &effects,
        };
        if let Err(promise) = turned.check(&mut world.seen) {
            world.broken = Some(promise);
        }
        self.note_landmarks(&turned, &world.seen);
        world.cell = cell;
        reply
    }

    fn send(&self, world: &mut World, client: u8, request: Request, route: Route, sweeps: bool) {
        let c = usize::from(client);
        before_sending(&mut world.clients[c], request);
        if route != Route::Sure {
            world.ghosts_left -= 1;
            world.ghosts.push(request);
            world.ghosts.sort_unstable();
        }
        if route == Route::Lost {
            return without_answer(&mut world.clients[c], request);
        }
        let dead = if sweeps { self.all_dead(world) } else { 0 };
        let sent = self.at(world).0;
        let reply = self.turn(world, request, dead);
        self.hear(&mut world.clients[c], request, &reply, sent);
        self.tidy(world);
    }

    /// Ends guards whose time is over.
    fn tidy(&self, world: &mut World) {
        let now = self.at(world).0;
        for client in &mut world.clients {
            if client.guard.is_some_and(|g| g.until <= now) {
                client.guard = None;
                client.stage = Stage::Lost;
            }
        }
        for client in &mut world.clients {
            if client.life == self.menu.lives {
                client.stage = Stage::Over;
            }
        }
    }
}

/// The guards that are valid now, but for those of whoever was evicted and not told yet: force
/// breaks exclusion, and says so.
fn valid_guards(world: &World) -> impl Iterator<Item = (Slot, Guard)> {
    let lives = world.seen.len() / world.clients.len();
    let guards = world.clients.iter().enumerate().filter_map(move |(c, client)| {
        let slot = c * lives + usize::from(client.life);
        client.guard.map(|guard| (slot, guard))
    });
    guards
        .filter(|(slot, _)| world.seen[*slot].told.is_none())
        .map(|(slot, guard)| (u8::try_from(slot).expect("few slots"), guard))
}

impl Model for Lock {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let fresh = Client { life: 0, stage: Stage::Fresh, wish: 0, guard: None, upgrades: 0 };
        let slots = usize::from(self.menu.clients * self.menu.lives);
        vec![World {
            cell: Cell::default(),
            step: 0,
            clients: vec![fresh; usize::from(self.menu.clients)],
            ghosts: Vec::new(),
            ghosts_left: self.menu.ghosts,
            crashes_left: self.menu.crashes,
            evictions_left: self.menu.evictions,
            lapses_left: self.menu.lapses,
            seen: vec![Seen::default(); slots],
            broken: None,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.broken.is_some() {
            return;
        }
        let mut requests = Vec::new();
        for c in 0..world.clients.len() {
            let client = u8::try_from(c).expect("few clients");
            requests.clear();
            self.requests(world, c, &mut requests);
            for request in requests.iter().copied() {
                let mut send = |route, sweeps| {
                    actions.push(Action::Send { client, request, route, sweeps });
                };
                send(Route::Sure, false);
                if self.observed() && matches!(request, Request::Acquire { .. }) {
                    send(Route::Sure, true);
                }
                if 0 < world.ghosts_left {
                    send(Route::Copied, false);
                    send(Route::Lost, false);
                }
            }
            let stage = world.clients[c].stage;
            if stage == Stage::Lost {
                actions.push(Action::Walk(client));
            }
            if self.observed() && world.clients[c].guard.is_some() {
                actions.push(Action::Lapse(client));
            }
            if 0 < world.crashes_left && stage != Stage::Over && stage != Stage::Fresh {
                actions.push(Action::Crash(client));
            }
        }
        actions.extend(world.ghosts.iter().copied().map(Action::Haunt));
        if 0 < world.evictions_left {
            let fence = world.cell.fence().get();
            actions.push(Action::Operator(Request::Evict { only_if: None }));
            actions.push(Action::Operator(Request::Evict { only_if: Some(fence) }));
            actions.push(Action::Operator(Request::Evict { only_if: Some(fence + 7) }));
        }
        match self.menu.clock {
            Clock::Store { steps } if world.step < steps => actions.push(Action::Tick),
            Clock::Store { .. } => {}
            Clock::Observed => {
                let all = self.all_dead(world);
                actions.extend((1..=all).filter(|dead| dead & !all == 0).map(Action::Sweep));
                if 0 < world.lapses_left {
                    // An upgrade waits as its holder, which lives.
                    let waits = |m: &MemberId| world.cell.holder_ids().all(|h| h != *m);
                    let waiters = world.cell.waiter_ids().filter(waits);
                    let slots = waiters.map(|m| self.table.slot(m));
                    actions.extend(slots.filter(|w| all & 1 << w == 0).map(Action::GiveUp));
                }
            }
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        match action {
            Action::Tick => {
                next.step += 1;
                self.tidy(&mut next);
            }
            Action::Send { client, request, route, sweeps } => {
                self.send(&mut next, client, request, route, sweeps);
            }
            Action::Haunt(request) => {
                let at = next.ghosts.iter().position(|g| *g == request)?;
                next.ghosts.remove(at);
                self.turn(&mut next, request, 0);
            }
            Action::Crash(client) => {
                next.crashes_left -= 1;
                let client = &mut next.clients[usize::from(client)];
                end_life(client);
                client.life = self.menu.lives;
            }
            Action::Lapse(client) => {
                let client = &mut next.clients[usize::from(client)];
                client.guard = None;
                client.stage = Stage::Lost;
            }
            Action::Walk(client) => end_life(&mut next.clients[usize::from(client)]),
            Action::Sweep(dead) => {
                self.turn(&mut next, Request::Look, dead);
            }
            Action::GiveUp(slot) => {
                next.lapses_left -= 1;
                self.turn(&mut next, Request::Look, 1 << slot);
            }
            Action::Operator(request) => {
                next.evictions_left -= 1;
                self.turn(&mut next, request, 0);
            }
        }
        self.tidy(&mut next);
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut all = watch::properties();
        all.push(Property::always(NO_OVERLAP, |_, world: &World| {
            let valid = valid_guards(world).map(|(_, guard)| guard.seats);
            fit_together(valid, None)
        }));
        all.push(Property::always(BACKED, |lock: &Lock, world: &World| {
            let snap = Snap::of(&lock.table, &world.cell, lock.at(world));
            valid_guards(world).all(|(slot, guard)| {
                let backed = |h: &Held| h.seats == guard.seats || h.seats.is_all();
                snap.holder(slot).is_some_and(backed)
            })
        }));
        all.push(Property::always(VIGIL, |lock: &Lock, world: &World| {
            !lock.observed()
                || valid_guards(world).all(|(slot, _)| {
                    let vigil = world.cell.vigil(lock.table.member(slot));
                    vigil.is_some_and(|v| !v.handed_over)
                })
        }));
        all
    }
}
