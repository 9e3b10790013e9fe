//! One transition of a lock: what is asked, and what follows from it in the same step.

use std::time::Duration;

use super::state::{
    Cell, Departed, Holder, Now, StoredValue, Tombstone, Upgraded, Waiter, stands, whole_micros,
};
use crate::backend::tombstone_for;
use crate::backend::{
    Change, Claim, Departure, Evicted, Eviction, Grant, Kept, Place, Reason, Refusal, Release,
    Value, Verdict,
};
use crate::token::{ClaimId, MemberId};
use crate::values::{Fence, Seats};
use crate::view::HolderView;

/// What a transition did besides its answer: whom to wake, whom to tell, whether to write.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Effects {
    /// Whether the cell is another than before and has to be stored.
    pub changed: bool,
    /// Waiters that hold now, each with its grant.
    pub granted: Vec<(MemberId, Grant)>,
    /// Members that were ended by this transition and did not ask for it.
    pub gone: Vec<(MemberId, Departure)>,
}

/// How long a lease lasts without a sign of life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lasting {
    /// Its ttl.
    pub ttl: Duration,
    /// Whether no process has to stand behind it.
    pub detached: bool,
}

/// One transition of a [`Cell`].
///
/// Made by [`Turn::begin`], which first ends what is over; then at most one verb; then
/// [`Turn::end`]. A turn that is dropped leaves a half-made cell behind: throw that away, too.
#[derive(Debug)]
pub struct Turn<'a> {
    pub(super) cell: &'a mut Cell,
    pub(super) now: Now<'a>,
    floor: Fence,
    pub(super) effects: Effects,
}

impl<'a> Turn<'a> {
    /// Begins a turn: ends what is over and hands on what that frees. `floor` is the least fence
    /// of a grant in this turn: the store's time in microseconds, or its new generation.
    pub fn begin(cell: &'a mut Cell, now: Now<'a>, floor: Fence) -> Self {
        let mut turn = Self { cell, now, floor, effects: Effects::default() };
        turn.end_what_is_over();
        turn
    }

    /// Ends the turn.
    pub fn end(mut self) -> Effects {
        if self.effects.changed {
            self.forget_what_is_old();
        }
        self.effects
    }

    /// Asks for seats.
    pub fn acquire(&mut self, claim: &Claim) -> Verdict {
        if self.cell.is_withdrawn(claim.id, self.now.stamp()) {
            return Verdict::Refused(Refusal::Withdrawn);
        }
        if let Some(holder) = self.holder(claim.member) {
            if !claim.upgrade {
                return Verdict::Granted(holder.grant(self.now));
            }
            return self.upgrade(claim);
        }
        if let Some(verdict) = self.verdict_of_the_departed(claim) {
            return verdict;
        }
        if claim.upgrade {
            return Verdict::Refused(Refusal::NotHeld);
        }
        if let Some(of) = self.other_limit(claim.seats, claim.member) {
            return Verdict::Refused(Refusal::Mismatch { of });
        }
        if self.waiting(claim.id).is_some() {
            self.refresh_place(claim.member);
            return Verdict::Queued(self.place(claim.id));
        }
        if claim.or_value
            && self.cell.holders.is_empty()
            && let Some(value) = self.cell.live_value(self.now.stamp())
        {
            return Verdict::Value(value.view());
        }
        if let Some(why) = &claim.force {
            let reason = Reason { by: claim.details.owner.label.clone(), why: why.clone() };
            self.clear_the_way(claim.seats, &reason);
        }
        let first = claim.force.is_some() || self.cell.queue.is_empty();
        if first && self.fits(claim.seats, claim.member) {
            let grant = self.seat(claim);
            // A forced share may have cleared seats that those who wait can have, too.
            self.serve();
            return Verdict::Granted(grant);
        }
        if !claim.wait {
            return Verdict::Busy(self.place(claim.id));
        }
        self.enqueue(claim)
    }

    /// Gives back whatever the claim has and remembers that it must never be granted. The
    /// tombstone is kept for `keep`.
    pub fn withdraw(&mut self, claim: ClaimId, member: MemberId, keep: Duration) {
        self.bury(claim, keep);
        self.cell.queue.retain(|w| w.claim != claim);
        if self.holder(member).is_some_and(|h| h.claim == claim) {
            self.depart(member, Departure::Withdrawn);
        } else if let Some(holder) = self.holder_mut(member)
            && let Some(upgrade) = &mut holder.upgrade
        {
            upgrade.claims.retain(|c| *c != claim);
            if upgrade.claims.is_empty() {
                holder.seats = upgrade.before;
                holder.upgrade = None;
            }
        }
        self.serve();
    }

    /// Takes a sign of life of a holder or waiter. Only `change` touches how long the lease lasts
    /// and whether it outlives its process: a renewal that lands late must not undo a change.
    pub fn renew(&mut self, member: MemberId, change: Option<Lasting>) -> Result<Kept, Departure> {
        let now = self.now;
        if let Some(holder) = self.cell.holders.iter_mut().find(|h| h.member == member) {
            let until = holder.until();
            if let Some(change) = change {
                holder.ttl = whole_micros(change.ttl);
                holder.detached = change.detached;
            }
            // Without a clock the sign of life stands outside the record. A change does not, even
            // to what was there before: whoever is about to end the lease must find that out.
            if matches!(now, Now::Store(_)) || change.is_some() {
                // Never earlier than was promised before.
                holder.begin_anew(now, until);
                self.effects.changed = true;
            }
            let grant = holder.grant(now);
            self.refresh_place(member);
            return Ok(Kept::Holding(grant));
        }
        if self.cell.queue.iter().any(|w| w.member == member) {
            self.refresh_place(member);
            return Ok(Kept::Waiting);
        }
        Err(self.departure(member))
    }

    /// Begins the lease that was handed over under `fence`. Whoever has it already keeps what it
    /// has: a pick-up that lands late changes nothing.
    pub fn pick_up(&mut self, member: MemberId, fence: Fence) -> Result<Kept, Departure> {
        let now = self.now;
        if let Some(holder) = self.holder_mut(member)
            && holder.fence == fence
            && holder.handed_over
        {
            let until = holder.until();
            holder.begin_anew(now, until);
            self.effects.changed = true;
        }
        self.renew(member, None)
    }

    /// Turns all seats that were granted under `fence` into some; the fence stays.
    pub fn downgrade(&mut self, member: MemberId, fence: Fence, seats: Seats) -> Change {
        // A downgrade that lands late must not undo an upgrade that was granted since.
        if self.holder(member).is_none_or(|h| h.fence != fence) {
            return Change::NotHeld(self.departure(member));
        }
        if let Some(of) = self.other_limit(seats, member) {
            return Change::Mismatch { of };
        }
        let now = self.now;
        let holder = self.holder_mut(member).expect("looked up above");
        if holder.seats != seats {
            if !holder.seats.is_all() {
                return Change::NeedsAllSeats;
            }
            holder.seats = seats;
            let (upgrade, ttl) = (holder.upgrade.take(), holder.ttl);
            self.effects.changed = true;
            for claim in upgrade.into_iter().flat_map(|u| u.claims) {
                // A copy of it that lands late must not be granted again.
                self.bury(claim, tombstone_for(ttl));
            }
        }
        let grant = self.holder(member).expect("looked up above").grant(now);
        self.serve();
        Change::Done(grant)
    }

    /// Gives the seats back, with a value if one is given, and hands over.
    pub fn release(&mut self, member: MemberId, value: Option<&Value>) -> Release {
        let Some(holder) = self.holder(member) else {
            return match self.departure(member) {
                Departure::Released => Release::Released,
                how => Release::NotHeld(how),
            };
        };
        if let Some(value) = value {
            if !holder.seats.is_all() {
                return Release::NeedsAllSeats;
            }
            let fence = holder.fence;
            self.write(value, fence);
        }
        self.depart(member, Departure::Released);
        self.serve();
        Release::Released
    }

    /// Writes the value; only a holder of all seats may.
    pub fn put(&mut self, member: MemberId, value: &Value) -> Change {
        let Some(holder) = self.holder(member) else {
            return Change::NotHeld(self.departure(member));
        };
        if !holder.seats.is_all() {
            return Change::NeedsAllSeats;
        }
        let (fence, grant) = (holder.fence, holder.grant(self.now));
        self.write(value, fence);
        Change::Done(grant)
    }

    /// Ends somebody else's lease and raises the fence above it.
    pub fn evict(&mut self, why: &Eviction) -> Evicted {
        let now = self.now.stamp();
        let victims: Vec<HolderView> = self
            .cell
            .holders
            .iter()
            .filter(|h| why.only_if.is_none_or(|f| h.fence == f))
            .map(|h| h.view(now))
            .collect();
        if victims.is_empty() {
            let holders: Vec<_> = self.cell.holders.iter().map(|h| h.view(now)).collect();
            return if holders.is_empty() {
                Evicted::NobodyThere
            } else {
                Evicted::FenceMoved(holders)
            };
        }
        for victim in &victims {
            let how = if why.stolen {
                Departure::Stolen(why.reason.clone())
            } else {
                Departure::Evicted(why.reason.clone())
            };
            self.end_member(victim.member, how);
        }
        self.cell.fence = self.cell.fence.next(self.floor);
        self.serve();
        Evicted::Done(victims)
    }

    // Below: the parts of the verbs.

    fn upgrade(&mut self, claim: &Claim) -> Verdict {
        if self.cell.queue.iter().any(|w| w.upgrade && w.member != claim.member) {
            return Verdict::Refused(Refusal::UpgradePending);
        }
        let now = self.now;
        if let Some(holder) = self.holder_mut(claim.member)
            && let Some(upgrade) = &mut holder.upgrade
        {
            let known = upgrade.claims.contains(&claim.id);
            if !known {
                upgrade.claims.push(claim.id);
            }
            let grant = holder.grant(now);
            self.effects.changed |= !known;
            return Verdict::Granted(grant);
        }
        // An earlier upgrade of the same holder was given up, or nobody would ask anew.
        let queued = self.cell.queue.len();
        self.cell.queue.retain(|w| w.member != claim.member || w.claim == claim.id);
        self.effects.changed |= self.cell.queue.len() != queued;
        if self.fits(Seats::All, claim.member) {
            self.cell.queue.retain(|w| w.claim != claim.id);
            return Verdict::Granted(self.raise_to_all(claim.member, claim.id));
        }
        if self.waiting(claim.id).is_some() {
            self.refresh_place(claim.member);
            return Verdict::Queued(self.place(claim.id));
        }
        if !claim.wait {
            // An upgrade that was given up stood before others, and they may have been waiting for it.
            self.serve();
            return Verdict::Busy(self.place(claim.id));
        }
        self.enqueue(claim)
    }

    /// What a token hears that is a member no more; `None` if it never was one.
    fn verdict_of_the_departed(&mut self, claim: &Claim) -> Option<Verdict> {
        let now = self.now.stamp();
        let known = |d: &Departed| d.member == claim.member && stands(d.until, now);
        let at = self.cell.departed.iter().position(known)?;
        let how = self.cell.departed[at].how.clone();
        if how != Departure::Answered {
            return Some(Verdict::Refused(Refusal::Departed(how)));
        }
        match self.cell.live_value(now) {
            Some(value) => Some(Verdict::Value(value.view())),
            // The value that answered it is gone: it asks anew.
            None => {
                self.cell.departed.remove(at);
                self.effects.changed = true;
                None
            }
        }
    }

    /// The limit that live members name, if it is another than that of `seats`.
    fn other_limit(&self, seats: Seats, except: MemberId) -> Option<u32> {
        let Seats::Some { of, .. } = seats else {
            return None;
        };
        // Whoever upgraded may go back to what it held.
        let counted = |h: &Holder| h.upgrade.as_ref().map_or(h.seats, |u| u.before);
        let holders = self.cell.holders.iter().map(|h| (h.member, counted(h)));
        let waiters = self.cell.queue.iter().map(|w| (w.member, w.seats));
        holders.chain(waiters).find_map(|(member, seats)| match seats {
            Seats::Some { of: other, .. } if other != of && member != except => Some(other),
            _ => None,
        })
    }

    /// Whether `seats` are free for `member` beside everybody else.
    pub(super) fn fits(&self, seats: Seats, member: MemberId) -> bool {
        let mut others = self.cell.holders.iter().filter(|h| h.member != member);
        let Seats::Some { take, of } = seats else {
            return others.next().is_none();
        };
        if Cell::MAX_HOLDERS <= self.cell.holders.len() {
            return false;
        }
        let taken = others.try_fold(0_u64, |sum, h| match h.seats {
            Seats::All => None,
            Seats::Some { take, .. } => Some(sum + u64::from(take)),
        });
        taken.is_some_and(|taken| taken + u64::from(take) <= u64::from(of))
    }

    fn enqueue(&mut self, claim: &Claim) -> Verdict {
        if Cell::MAX_WAITERS <= self.cell.queue.len() {
            return Verdict::Busy(self.place(claim.id));
        }
        let now = self.now.stamp();
        let arrival = now.max(self.cell.last_arrival.plus(Duration::from_micros(1)));
        self.cell.last_arrival = arrival;
        let waiter = Waiter {
            member: claim.member,
            claim: claim.id,
            seats: if claim.upgrade { Seats::All } else { claim.seats },
            upgrade: claim.upgrade,
            or_value: claim.or_value,
            priority: claim.priority,
            arrival,
            until: now.plus(claim.wait_ttl),
            wait_ttl: whole_micros(claim.wait_ttl),
            ttl: whole_micros(claim.ttl),
            pick_up: whole_micros(claim.pick_up),
            detached: claim.detached,
            details: claim.details.clone(),
        };
        let at = self.cell.queue.partition_point(|w| w.order() <= waiter.order());
        self.cell.queue.insert(at, waiter);
        self.effects.changed = true;
        // A head start may put it first, and what the one behind it could not take may suit it.
        // What this turn had granted before was not this claim.
        let before = self.effects.granted.len();
        self.serve();
        let mine = self.effects.granted[before..].iter().position(|(m, _)| *m == claim.member);
        if let Some(mine) = mine {
            self.effects.granted.remove(before + mine);
            let now = self.now;
            let holder = self.holder_mut(claim.member).expect("it was just served");
            holder.term = holder.ttl;
            holder.handed_over = false;
            return Verdict::Granted(holder.grant(now));
        }
        Verdict::Queued(self.place(claim.id))
    }

    /// Seats a claim that asks itself: a full ttl from the start.
    fn seat(&mut self, claim: &Claim) -> Grant {
        let now = self.now.stamp();
        let ttl = whole_micros(claim.ttl);
        self.cell.fence = self.cell.fence.next(self.floor);
        let holder = Holder {
            member: claim.member,
            claim: claim.id,
            seats: claim.seats,
            upgrade: None,
            fence: self.cell.fence,
            since: now,
            renewed: now,
            ttl,
            term: ttl,
            handed_over: false,
            detached: claim.detached,
            details: claim.details.clone(),
        };
        let grant = holder.grant(self.now);
        self.add_holder(holder);
        self.effects.changed = true;
        grant
    }

    /// Seats a waiter that is not there to ask: its lease lives for the pick-up term.
    pub(super) fn seat_waiter(&mut self, waiter: Waiter) -> Grant {
        if waiter.upgrade {
            return self.raise_to_all(waiter.member, waiter.claim);
        }
        let now = self.now.stamp();
        self.cell.fence = self.cell.fence.next(self.floor);
        let holder = Holder {
            member: waiter.member,
            claim: waiter.claim,
            seats: waiter.seats,
            upgrade: None,
            fence: self.cell.fence,
            since: now,
            renewed: now,
            ttl: waiter.ttl,
            term: waiter.pick_up,
            handed_over: true,
            detached: waiter.detached,
            details: waiter.details,
        };
        let grant = holder.grant(self.now);
        self.add_holder(holder);
        grant
    }

    fn add_holder(&mut self, holder: Holder) {
        if self.cell.holders.is_empty() {
            // Most locks only ever have one, and a store may keep very many locks.
            self.cell.holders.reserve_exact(1);
        }
        self.cell.holders.push(holder);
    }

    fn raise_to_all(&mut self, member: MemberId, claim: ClaimId) -> Grant {
        self.cell.fence = self.cell.fence.next(self.floor);
        let (fence, now) = (self.cell.fence, self.now);
        self.effects.changed = true;
        let holder = self.holder_mut(member).expect("only a holder upgrades");
        holder.upgrade = Some(Upgraded { claims: vec![claim], before: holder.seats });
        holder.seats = Seats::All;
        holder.fence = fence;
        // Only who picked up its lease asks for more. Were it to be picked up once more, observers
        // would give up a holder that has just renewed after a few seconds of silence.
        holder.handed_over = false;
        holder.grant(now)
    }

    /// Evicts, oldest grant first, until `seats` are free.
    fn clear_the_way(&mut self, seats: Seats, reason: &Reason) {
        let nobody = MemberId::from_bytes([0; 32]);
        while !self.fits(seats, nobody)
            && let Some(oldest) = self.cell.holders.first().map(|h| h.member)
        {
            self.end_member(oldest, Departure::Stolen(reason.clone()));
        }
    }

    /// Leaves a tombstone.
    fn bury(&mut self, claim: ClaimId, keep: Duration) {
        let until = self.now.stamp().plus(keep);
        self.cell.withdrawn.retain(|t| t.claim != claim);
        self.cell.withdrawn.push(Tombstone { claim, until });
        self.effects.changed = true;
    }

    fn write(&mut self, value: &Value, fence: Fence) {
        let written = self.now.stamp();
        self.cell.value = Some(StoredValue {
            bytes: value.bytes.clone(),
            fence,
            written,
            keep_until: written.plus(value.keep),
        });
        self.effects.changed = true;
    }

    /// Takes everybody out of the queue who would rather have the value.
    pub(super) fn answer_with_value(&mut self) {
        let until = self.now.stamp().plus(Cell::REMEMBER);
        let (answered, rest) =
            std::mem::take(&mut self.cell.queue).into_iter().partition(|w| w.or_value);
        self.cell.queue = rest;
        let answered: Vec<Waiter> = answered;
        self.effects.changed |= !answered.is_empty();
        for waiter in answered {
            let how = Departure::Answered;
            self.effects.gone.push((waiter.member, how.clone()));
            self.cell.departed.push(Departed { member: waiter.member, how, until });
        }
    }

    fn place(&self, claim: ClaimId) -> Place {
        let now = self.now.stamp();
        let ahead = self.cell.queue.iter().take_while(|w| w.claim != claim).count();
        let check_in = match self.now {
            Now::Store(now) => {
                self.cell.holders.iter().map(Holder::until).min().map(|u| u.since(now))
            }
            Now::Observed { .. } => None,
        };
        let holders = self.cell.holders.iter().map(|h| h.view(now)).collect();
        let now = match self.now {
            Now::Store(now) => Some(now),
            Now::Observed { .. } => None,
        };
        Place { ahead, holders, check_in, now }
    }

    fn waiting(&self, claim: ClaimId) -> Option<&Waiter> {
        self.cell.queue.iter().find(|w| w.claim == claim)
    }

    pub(super) fn holder(&self, member: MemberId) -> Option<&Holder> {
        self.cell.holders.iter().find(|h| h.member == member)
    }

    fn holder_mut(&mut self, member: MemberId) -> Option<&mut Holder> {
        self.cell.holders.iter_mut().find(|h| h.member == member)
    }
}
