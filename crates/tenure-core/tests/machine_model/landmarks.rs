//! What the models have to reach.

use tenure_core::backend::{Change, Departure, Evicted, Refusal, Release, Verdict};

use super::rules::{Reply, Request};
use super::snap::Waits;
use super::watch::{Seen, Turned};
use super::world::Lock;

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

impl Lock {
    /// Remembers what this turn reached.
    pub(crate) fn note_landmarks(&self, turned: &Turned<'_>, seen: &[Seen]) {
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
        let left = |w: &Waits| {
            let here = after.waiter(w.slot).is_some() || after.holder(w.slot).is_some();
            !here && turned.request.who() != Some(w.slot)
        };
        let answered = !turned.effects.gone.is_empty();
        self.reach(L::PlaceExpired, !answered && before.waiters.iter().any(left));
        self.reach(L::ValueWritten, after.value.is_some() && before.value != after.value);
        let priority = |w: &Waits| {
            let wish = seen[usize::from(w.slot)].wish.map(usize::from);
            wish.map_or(0, |wish| self.table.wishes[wish].priority)
        };
        for pair in after.waiters.windows(2).filter(|p| !p[0].upgrade) {
            let (first, second) = (&pair[0], &pair[1]);
            let key = |w: &Waits| seen[usize::from(w.slot)].key.map_or(u8::MAX, |k| k.1);
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
