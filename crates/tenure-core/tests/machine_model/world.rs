//! The model: clients, a store that runs the rules, and a network that duplicates, delays and
//! loses what it carries.

use std::sync::atomic::{AtomicU64, Ordering};

use stateright::{Model, Property};
use tenure_core::backend::{Change, Departure, Evicted, Grant, Kept, Refusal, Release, Verdict};
use tenure_core::machine::{Cell, Now, Vigil};
use tenure_core::{Fence, MemberId, Micros, Seats};

use super::menu::{Clock, Menu};
use super::rules::{Reply, Request, Rules, SHARE, STEP, Slot, Table};
use super::watch::{self, Promise, Seen, Snap, Turned, fit_together};

pub(crate) const NO_OVERLAP: Promise = "two guards that are valid at the same time do not conflict";
pub(crate) const VIGIL: Promise =
    "an observer waits a whole ttl for a holder that picked up its lease";
pub(crate) const BACKED: Promise = "a valid guard is in the record, unless it was evicted";

/// What a client believes to hold.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Guard {
    pub(crate) seats: Seats,
    pub(crate) fence: u64,
    /// Valid before this time. Counted without the margins that a client subtracts for drift and
    /// delay, so that the model is harder on the rules than the world is.
    pub(crate) until: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Stage {
    Fresh,
    /// It asked and does not know what became of it.
    Unsure,
    Waiting,
    /// It was granted on a store without a clock and has to show a sign of life first.
    PickingUp,
    Holding,
    /// It holds a share and asked for all.
    Upgrading,
    /// It asked to step down and does not know what became of it.
    Downgrading,
    /// Its guard is over; the application may not have noticed.
    Lost,
    /// It makes no more claims, or crashed.
    Over,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Client {
    pub(crate) life: u8,
    pub(crate) stage: Stage,
    pub(crate) wish: u8,
    pub(crate) guard: Option<Guard>,
    /// Whether this life has asked for its upgrade.
    pub(crate) upgraded: bool,
}

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

macro_rules! landmarks {
    ($($name:ident),* $(,)?) => {
        /// Something that a model has to reach, or it proves nothing about it.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(crate) enum Landmark { $($name),* }
    };
}

landmarks! {
    HandedOver, NotPickedUp, LeaseExpired, PlaceExpired, Busy, HeadStart, AgedPastHeadStart,
    SharedByTwo, MismatchRefused, Upgraded, UpgradeQueued, SecondUpgraderRefused,
    UpgradeWithdrawnInQueue, UpgradeWithdrawnAfterGrant, Downgraded, LateDowngrade, Stolen,
    Evicted, FenceMoved, ToldWhy, ValueWritten, Answered, AnsweredAtOnce, WriteRefused,
    WithdrawnRefused, DepartedRefused, GrantedAgain, ReleasedAgain, Extended,
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

    fn reach(&self, landmark: Landmark, really: bool) {
        if really && !self.has_reached(landmark) {
            self.reached.fetch_or(1 << landmark as u64, Ordering::Relaxed);
        }
    }

    fn slot(&self, client: usize, life: u8) -> Slot {
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

    fn observed(&self) -> bool {
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

    /// What a client makes of an answer.
    fn hear(&self, client: &mut Client, request: Request, reply: &Reply, sent: u64) {
        let guard = |grant: &Grant| Guard {
            seats: grant.seats,
            fence: grant.fence.get(),
            until: self.until(grant, sent),
        };
        match (request, reply) {
            (Request::Acquire { .. }, Reply::Verdict(verdict)) => match verdict {
                Verdict::Granted(grant) if self.observed() && grant.handed_over => {
                    client.stage = Stage::PickingUp;
                }
                Verdict::Granted(grant) => {
                    client.stage = Stage::Holding;
                    client.guard = Some(guard(grant));
                }
                Verdict::Queued(_) => client.stage = Stage::Waiting,
                _ => end_life(client),
            },
            (Request::Upgrade { .. }, Reply::Verdict(verdict)) => match verdict {
                Verdict::Granted(grant) => {
                    client.stage = Stage::Holding;
                    client.guard = Some(guard(grant));
                }
                Verdict::Queued(_) => client.stage = Stage::Upgrading,
                Verdict::Busy(_) | Verdict::Refused(Refusal::UpgradePending) => {
                    client.stage = Stage::Holding;
                }
                _ => end_life(client),
            },
            (_, Reply::Renewal(Ok(Kept::Holding(grant)))) => {
                let upgraded = client.stage == Stage::Upgrading && grant.seats.is_all();
                if client.stage != Stage::Upgrading || upgraded {
                    client.stage = Stage::Holding;
                }
                let seats = client.guard.map_or(grant.seats, |g| g.seats);
                let seats = if upgraded { grant.seats } else { seats };
                client.guard = Some(Guard { seats, ..guard(grant) });
            }
            (_, Reply::Renewal(Ok(_))) => {}
            (_, Reply::Renewal(Err(_))) => end_life(client),
            (Request::Downgrade { .. }, Reply::Change(change)) => match change {
                Change::Done(grant) => {
                    client.stage = Stage::Holding;
                    client.guard = Some(guard(grant));
                }
                // Nothing was changed, but a copy of the request may still arrive: it goes on
                // with the share and asks again.
                Change::Mismatch { .. } => client.stage = Stage::Downgrading,
                _ => end_life(client),
            },
            (_, Reply::Change(Change::NotHeld(_))) => end_life(client),
            _ => {}
        }
    }

    /// Until when the lease of a reply is good, by the reply and the time the request was sent.
    fn until(&self, grant: &Grant, sent: u64) -> u64 {
        match grant.now {
            Some(now) => (Micros(sent).plus(grant.term).0).saturating_sub(now.0 - grant.at.0),
            None => u64::MAX,
        }
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

    fn requests(&self, world: &World, c: usize, to: &mut Vec<Request>) {
        let (client, menu) = (&world.clients[c], &self.menu);
        let who = self.slot(c, client.life);
        let mut add = |open: bool, request| {
            if open {
                to.push(request);
            }
        };
        let acquire = Request::Acquire { who, wish: client.wish };
        let release = Request::Release { who, value: false };
        let with_value = Request::Release { who, value: true };
        match client.stage {
            Stage::Fresh => {
                for wish in &menu.open[c] {
                    add(true, Request::Acquire { who, wish: *wish });
                }
            }
            Stage::Unsure | Stage::Waiting => {
                add(true, acquire);
                add(menu.withdraw, Request::Withdraw { who });
                add(menu.renew && client.stage == Stage::Waiting, Request::Renew { who });
            }
            Stage::PickingUp => {
                add(true, Request::Renew { who });
                add(menu.withdraw, Request::Withdraw { who });
            }
            Stage::Holding => {
                let all = client.guard.is_some_and(|g| g.seats.is_all());
                let fence = client.guard.map_or(0, |g| g.fence);
                add(true, release);
                add(menu.renew, Request::Renew { who });
                add(menu.extend, Request::Extend { who });
                add(menu.release_with_value, with_value);
                add(menu.put, Request::Put { who });
                add(menu.downgrade && all, Request::Downgrade { who, fence });
                add(menu.upgrade && !all && !client.upgraded, Request::Upgrade { who });
            }
            Stage::Upgrading => {
                add(true, Request::Upgrade { who });
                add(menu.withdraw, Request::WithdrawUpgrade { who });
                add(true, release);
                add(menu.renew, Request::Renew { who });
            }
            Stage::Downgrading => {
                let fence = client.guard.map_or(0, |g| g.fence);
                add(true, Request::Downgrade { who, fence });
                add(true, release);
            }
            Stage::Lost => {
                add(true, release);
                add(menu.release_with_value, with_value);
                add(menu.put, Request::Put { who });
            }
            Stage::Over => {}
        }
    }

    fn note_landmarks(&self, turned: &Turned<'_>, seen: &[Seen]) {
        use Landmark as L;
        let (before, after) = (turned.before, turned.after);
        self.reach(L::HandedOver, after.holders.iter().any(|h| !h.picked_up));
        self.reach(L::SharedByTwo, 1 < after.holders.len());
        for (member, how) in &turned.effects.gone {
            let was = before.holder(self.table.slot(*member));
            match how {
                Departure::Expired => {
                    let picked_up = was.is_some_and(|h| h.picked_up);
                    self.reach(if picked_up { L::LeaseExpired } else { L::NotPickedUp }, true);
                }
                Departure::Stolen(_) => self.reach(L::Stolen, true),
                Departure::Evicted(_) => self.reach(L::Evicted, true),
                Departure::Answered => self.reach(L::Answered, true),
                _ => {}
            }
        }
        let left = |w: &watch::Waits| {
            let here = after.waiter(w.slot).is_some() || after.holder(w.slot).is_some();
            !here && turned.request.who() != Some(w.slot)
        };
        let answered = !turned.effects.gone.is_empty();
        self.reach(L::PlaceExpired, !answered && before.waiters.iter().any(left));
        self.reach(L::ValueWritten, after.value.is_some() && before.value != after.value);
        let priority = |w: &watch::Waits| {
            let wish = seen[usize::from(w.slot)].wish.map(usize::from);
            wish.map_or(0, |wish| self.table.wishes[wish].priority)
        };
        for pair in after.waiters.windows(2).filter(|p| !p[0].upgrade) {
            let (first, second) = (&pair[0], &pair[1]);
            let key = |w: &watch::Waits| seen[usize::from(w.slot)].key.map_or(u8::MAX, |k| k.1);
            let urgent = priority(second) < priority(first);
            self.reach(L::HeadStart, urgent && key(second) < key(first));
            let aged = priority(first) < priority(second);
            self.reach(L::AgedPastHeadStart, aged && key(first) < key(second));
        }
        let Some(who) = turned.request.who() else {
            let moved = matches!(turned.reply, Reply::Evicted(Evicted::FenceMoved(_)));
            return self.reach(L::FenceMoved, moved);
        };
        let (was, is) = (before.holder(who), after.holder(who));
        match (turned.request, turned.reply) {
            (Request::Acquire { .. }, Reply::Verdict(verdict)) => match verdict {
                Verdict::Granted(_) => self.reach(L::GrantedAgain, was.is_some()),
                Verdict::Busy(_) => self.reach(L::Busy, true),
                Verdict::Value(_) => self.reach(L::AnsweredAtOnce, true),
                Verdict::Refused(Refusal::Withdrawn) => self.reach(L::WithdrawnRefused, true),
                Verdict::Refused(Refusal::Departed(_)) => self.reach(L::DepartedRefused, true),
                Verdict::Refused(Refusal::Mismatch { .. }) => self.reach(L::MismatchRefused, true),
                _ => {}
            },
            (Request::Upgrade { .. }, Reply::Verdict(verdict)) => match verdict {
                Verdict::Granted(_) => self.reach(L::Upgraded, true),
                Verdict::Queued(_) => self.reach(L::UpgradeQueued, true),
                Verdict::Refused(Refusal::UpgradePending) => {
                    self.reach(L::SecondUpgraderRefused, true);
                }
                _ => {}
            },
            (Request::WithdrawUpgrade { .. }, _) => {
                let queued = before.waiter(who).is_some();
                self.reach(L::UpgradeWithdrawnInQueue, queued && is.is_some());
                let raised = was.is_some_and(|h| h.seats.is_all());
                self.reach(L::UpgradeWithdrawnAfterGrant, raised && is.is_some());
            }
            (Request::Downgrade { fence, .. }, Reply::Change(change)) => {
                self.reach(L::Downgraded, matches!(change, Change::Done(_)));
                self.reach(L::LateDowngrade, is.is_some_and(|h| h.fence != fence));
            }
            (Request::Extend { .. }, Reply::Renewal(Ok(_))) => self.reach(L::Extended, true),
            (_, Reply::Renewal(Err(Departure::Evicted(_) | Departure::Stolen(_)))) => {
                self.reach(L::ToldWhy, true);
            }
            (Request::Release { .. }, Reply::Release(Release::Released)) => {
                self.reach(L::ReleasedAgain, was.is_none());
            }
            (_, Reply::Change(Change::NotHeld(_))) => self.reach(L::WriteRefused, true),
            _ => {}
        }
    }
}

/// What a client gives up before it asks, whatever the answer will be.
fn before_sending(client: &mut Client, request: Request) {
    match request {
        Request::Acquire { wish, .. } => client.wish = wish,
        Request::Upgrade { .. } => client.upgraded = true,
        Request::WithdrawUpgrade { .. } => client.stage = Stage::Holding,
        Request::Downgrade { .. } => {
            client.guard = client.guard.map(|g| Guard { seats: SHARE, ..g });
        }
        Request::Withdraw { .. } | Request::Release { .. } => end_life(client),
        _ => {}
    }
}

/// What a client makes of silence.
fn without_answer(client: &mut Client, request: Request) {
    match request {
        Request::Acquire { .. } if client.stage == Stage::Fresh => client.stage = Stage::Unsure,
        Request::Upgrade { .. } => client.stage = Stage::Upgrading,
        Request::Downgrade { .. } => client.stage = Stage::Downgrading,
        _ => {}
    }
}

fn end_life(client: &mut Client) {
    *client = Client {
        life: client.life + 1,
        stage: Stage::Fresh,
        wish: 0,
        guard: None,
        upgraded: false,
    };
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
        let fresh = Client { life: 0, stage: Stage::Fresh, wish: 0, guard: None, upgraded: false };
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
                let backed = |h: &watch::Held| h.seats == guard.seats || h.seats.is_all();
                snap.holder(slot).is_some_and(backed)
            })
        }));
        all.push(Property::always(VIGIL, |lock: &Lock, world: &World| {
            !lock.observed()
                || valid_guards(world).all(|(slot, guard)| {
                    let vigil = world.cell.vigil(lock.table.member(slot));
                    let carried = |v: Vigil| v.fence == Some(Fence::new(guard.fence));
                    vigil.is_some_and(|v| !v.handed_over || carried(v))
                })
        }));
        all
    }
}
