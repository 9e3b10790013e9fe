//! The pure machine, asked the same.

use std::collections::HashMap;
use std::time::Duration;

use tenure_core::backend::Departure;
use tenure_core::machine::{Cell, Now, Turn};
use tenure_core::{Fence, LockName, MemberId, Micros, Seats, View};

use super::command::{Cast, Command, Who, eviction, value};
use super::outcome::Seen;

/// A cell per name, on a clock that stands still but for what passes.
#[derive(Debug, Default)]
pub(super) struct Model {
    looking_ends: bool,
    now: Micros,
    cells: HashMap<usize, Cell>,
}

impl Model {
    pub(super) fn new(looking_ends: bool) -> Self {
        Self { looking_ends, ..Self::default() }
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now = self.now.plus(time);
    }

    /// Whether a token of `command` has released.
    pub(super) fn has_released(&self, cast: &Cast, command: &Command) -> bool {
        use Command as C;
        let released = |n: usize, who: Who| {
            // A turn that is thrown away: asking is a sign of life.
            let mut cell = self.cells.get(&n).cloned().unwrap_or_default();
            let mut turn = Turn::begin(&mut cell, Now::Store(self.now), Fence::new(1));
            turn.renew(cast.token(who).member(), None) == Err(Departure::Released)
        };
        match command {
            C::Acquire(n, who, _)
            | C::Again(n, who)
            | C::Upgrade(n, who, ..)
            | C::Change(n, who, _)
            | C::Downgrade(n, who, _)
            | C::Release(n, who, _)
            | C::Put(n, who, _) => released(*n, *who),
            C::Renew(n, all) => all.iter().any(|who| released(*n, *who)),
            _ => false,
        }
    }

    pub(super) fn run(&mut self, cast: &Cast, command: &Command) -> Seen {
        use Command as C;
        let member = |who: Who| cast.token(who).member();
        match command {
            C::Acquire(n, who, wants) => {
                let claim = cast.claim(*n, *who, *wants);
                Seen::verdict(self.turn(*n, |turn| turn.acquire(&claim)))
            }
            C::Again(n, who) => {
                Seen::verdict(self.turn(*n, |turn| turn.acquire(&cast.plain(*n, *who))))
            }
            C::Upgrade(n, who, id, wait) => {
                let claim = cast.upgrade(*n, *who, *id, *wait);
                Seen::verdict(self.turn(*n, |turn| turn.acquire(&claim)))
            }
            C::Withdraw(n, who) => {
                let claim = cast.plain(*n, *who);
                let keep = claim.tombstone_for();
                self.turn(*n, |turn| turn.withdraw(claim.id, claim.member, keep));
                Seen::Done
            }
            C::WithdrawUpgrade(n, who, id) => {
                let claim = cast.upgrade(*n, *who, *id, true);
                let keep = claim.tombstone_for();
                self.turn(*n, |turn| turn.withdraw(claim.id, claim.member, keep));
                Seen::Done
            }
            C::Renew(n, all) => {
                let renew = |who: &Who| {
                    self.turn(*n, |turn| turn.renew(member(*who), None)).map(Seen::kept)
                };
                Seen::Renewed(all.iter().map(renew).collect())
            }
            C::Change(n, who, long) => {
                let change = cast.change(*n, *who, None, *long).lasting();
                let kept = self.turn(*n, |turn| turn.renew(member(*who), change));
                Seen::Renewed(vec![kept.map(Seen::kept)])
            }
            C::Downgrade(n, who, seats) => {
                let fence = self.fence_of(*n, member(*who));
                let seats: Seats = *seats;
                Seen::change(self.turn(*n, |turn| turn.downgrade(member(*who), fence, seats)))
            }
            C::Release(n, who, bytes) => {
                let bytes = bytes.map(value);
                Seen::Released(self.turn(*n, |turn| turn.release(member(*who), bytes.as_ref())))
            }
            C::Put(n, who, byte) => {
                Seen::change(self.turn(*n, |turn| turn.put(member(*who), &value(*byte))))
            }
            C::Evict(n, holder) => {
                let holders = self.view(cast, *n).holders;
                let only_if = holder.map(|h| holders.get(h).map_or(Fence::ZERO, |h| h.fence));
                Seen::evicted(self.turn(*n, |turn| turn.evict(&eviction(only_if))))
            }
            C::EvictStranger(n) => {
                let stranger = eviction(Some(Fence::new(u64::MAX)));
                Seen::evicted(self.turn(*n, |turn| turn.evict(&stranger)))
            }
            C::Inspect(n) => Seen::view(&self.view(cast, *n)),
            C::Pass(_) => Seen::Done,
        }
    }

    fn turn<T>(&mut self, n: usize, verb: impl FnOnce(&mut Turn<'_>) -> T) -> T {
        let cell = self.cells.entry(n).or_default();
        let mut turn = Turn::begin(cell, Now::Store(self.now), Fence::new(1));
        let answer = verb(&mut turn);
        turn.end();
        answer
    }

    fn view(&mut self, cast: &Cast, n: usize) -> View {
        self.look(cast.name(n).clone(), n)
    }

    fn look(&mut self, name: LockName, n: usize) -> View {
        if self.looking_ends {
            self.turn(n, |_| ());
            return self.cells[&n].view(name, self.now);
        }
        let mut cell = self.cells.get(&n).cloned().unwrap_or_default();
        Turn::begin(&mut cell, Now::Store(self.now), Fence::new(1)).end();
        cell.view(name, self.now)
    }

    fn fence_of(&mut self, n: usize, member: MemberId) -> Fence {
        let view = self.look(LockName::new("any").expect("a valid name"), n);
        view.holders.iter().find(|h| h.member == member).map_or(Fence::ZERO, |h| h.fence)
    }
}
