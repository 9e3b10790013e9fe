//! What every turn does before and after what was asked: end what is over, serve the queue,
//! forget what is old.

use super::state::{Cell, Departed, Now, stands};
use super::turn::Turn;
use crate::backend::Departure;
use crate::token::MemberId;

impl Turn<'_> {
    /// Ends leases and places that are over, and hands on what they free.
    pub(super) fn end_what_is_over(&mut self) {
        let over: Vec<MemberId> = match self.now {
            Now::Store(now) => {
                self.cell.holders.iter().filter(|h| h.until() <= now).map(|h| h.member).collect()
            }
            Now::Observed { dead, .. } => {
                self.cell.holder_ids().filter(|m| dead.contains(m)).collect()
            }
        };
        for member in &over {
            self.end_member(*member, Departure::Expired);
        }
        let waiting = self.cell.queue.len();
        match self.now {
            // An upgrade waits as long as its holder lives; `end_member` has seen to that.
            Now::Store(now) => self.cell.queue.retain(|w| w.upgrade || now < w.until),
            Now::Observed { dead, .. } => {
                self.cell.queue.retain(|w| w.upgrade || !dead.contains(&w.member));
            }
        }
        self.effects.changed |= self.cell.queue.len() != waiting;
        // Also if nothing was over: the record may come from elsewhere.
        self.serve();
    }

    /// Hands free seats to the waiters in their order, up to the first that does not fit. Nobody
    /// behind it may pass, or a writer would starve behind readers.
    /// A lock that falls free with a live value answers those first who would rather have that.
    pub(super) fn serve(&mut self) {
        if self.cell.holders.is_empty() && self.cell.live_value(self.now.stamp()).is_some() {
            self.answer_with_value();
        }
        while let Some(head) = self.cell.queue.first()
            && self.fits(head.seats, head.member)
        {
            let waiter = self.cell.queue.remove(0);
            let member = waiter.member;
            let grant = self.seat_waiter(waiter);
            self.effects.changed = true;
            self.effects.granted.push((member, grant));
        }
    }

    /// Ends a member that did not ask for it, so that it is told.
    pub(super) fn end_member(&mut self, member: MemberId, how: Departure) {
        self.effects.gone.push((member, how.clone()));
        self.depart(member, how);
    }

    /// Removes a holder, with the upgrade it may be waiting for, and remembers how it went.
    pub(super) fn depart(&mut self, member: MemberId, how: Departure) {
        let until = self.now.stamp().plus(Cell::REMEMBER);
        self.cell.holders.retain(|h| h.member != member);
        self.cell.queue.retain(|w| w.member != member);
        self.cell.departed.push(Departed { member, how, until });
        self.effects.changed = true;
    }

    /// How `member` departed, as far as that is remembered.
    pub(super) fn departure(&self, member: MemberId) -> Departure {
        let now = self.now.stamp();
        let known = |d: &&Departed| d.member == member && stands(d.until, now);
        let departed = self.cell.departed.iter().rev().find(known);
        departed.map_or(Departure::Forgotten, |d| d.how.clone())
    }

    /// A waiter has shown a sign of life. Without a clock that sign stands outside the record.
    pub(super) fn refresh_place(&mut self, member: MemberId) {
        let Now::Store(now) = self.now else { return };
        for waiter in self.cell.queue.iter_mut().filter(|w| w.member == member) {
            waiter.until = now.plus(waiter.wait_ttl);
            self.effects.changed = true;
        }
    }

    /// Keeps the record small: old tombstones, departures and values go, and the oldest beyond
    /// their bounds.
    pub(super) fn forget_what_is_old(&mut self) {
        let now = self.now.stamp();
        let cell = &mut *self.cell;
        cell.withdrawn.retain(|t| stands(t.until, now));
        cell.departed.retain(|d| stands(d.until, now));
        let excess = cell.withdrawn.len().saturating_sub(Cell::MAX_TOMBSTONES);
        cell.withdrawn.drain(..excess);
        // Most departures are releases, and on a busy lock they would make most of the record.
        let released = |d: &Departed| d.how == Departure::Released;
        let count = cell.departed.iter().filter(|d| released(d)).count();
        let mut excess = count.saturating_sub(Cell::MAX_RELEASED);
        cell.departed.retain(|d| {
            let goes = 0 < excess && released(d);
            excess -= usize::from(goes);
            !goes
        });
        let excess = cell.departed.len().saturating_sub(Cell::MAX_DEPARTED);
        cell.departed.drain(..excess);
        if cell.value.as_ref().is_some_and(|v| v.keep_until <= now) {
            cell.value = None;
        }
    }
}
