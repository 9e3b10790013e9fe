//! What must hold of every turn, whoever took it: each promise is checked against the record
//! before and after, the answer and the effects.

use stateright::Property;
use tenure_core::backend::{Change, Departure, Evicted, Kept, Refusal, Release, Verdict};
use tenure_core::machine::{Cell, Effects, Now, Turn};
use tenure_core::{Fence, Micros, Priority, Seats};

use super::rules::{KEEP, Reply, Request, SHARE, Slot, Table, WAIT_TTL, Wish, reason};
use super::snap::{Held, Snap, Waits, fit_together};
use super::world::{Lock, World};

/// A promise by its name; what breaks it is an `Err`.
pub(crate) type Promise = &'static str;
type Checked = Result<(), Promise>;

macro_rules! promises {
    ($($name:ident = $text:literal;)*) => {
        $(pub(crate) const $name: Promise = $text;)*
        /// A property for every promise about turns.
        pub(crate) fn properties() -> Vec<Property<Lock>> {
            vec![$(Property::always($text, |_, world: &World| world.broken != Some($text))),*]
        }
    };
}
promises! {
    EXCLUSION = "nobody holds beside a holder of all seats, and shares stay within their limit";
    FENCES = "every grant carries a fence above all before it";
    WAKE_UP = "the first waiter does not fit, or it would have been granted";
    ORDER = "waiters are served in the order of arrival less head start, and nobody barges";
    WITHDRAWN = "what was withdrawn is never granted or queued later";
    DEPARTED = "a holder that departed never comes back";
    IDEMPOTENT = "the same claim has the same fence, however often it is asked";
    WRITER = "only a holder of all seats writes the value";
    ONE_UPGRADER = "a second upgrader is refused at once";
    KEEPS_SHARE = "withdrawing an upgrade keeps the seats that were held";
    IS_TOLD = "who was evicted can learn by whom and why";
    NO_LOSS_WITHOUT_CAUSE = "seats and places are lost for a reason only";
    EFFECTS = "the effects name whoever was granted, and say when the record changed";
    ANSWER = "the answer says what the record says";
    ONE_LIMIT = "members of one name count the same number of seats";
    VALUE_FIRST = "who would rather have the value is not granted beside one that is free to take";
}

/// What was seen of one claim so far, beside what the record says.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Seen {
    /// Its place: first the order key, then who came first of equal keys.
    pub(crate) key: Option<(i64, u8)>,
    /// Until when its place is good without a refresh.
    pub(crate) place_until: u64,
    /// The fences of its claim and of its upgrades.
    pub(crate) fence: Option<u64>,
    pub(crate) upgrade_fences: Vec<u64>,
    /// The upgrades that arrived, as bits, and those that were withdrawn.
    pub(crate) upgrades: u8,
    /// The wish it was sent with.
    pub(crate) wish: Option<u8>,
    pub(crate) departed: bool,
    pub(crate) released: bool,
    pub(crate) withdrawn: bool,
    pub(crate) upgrades_withdrawn: u8,
    /// How it was ended by somebody else.
    pub(crate) told: Option<Departure>,
}

/// One turn, seen from outside.
#[derive(Debug)]
pub(crate) struct Turned<'a> {
    pub(crate) table: &'a Table,
    pub(crate) cell_before: &'a Cell,
    pub(crate) cell: &'a Cell,
    pub(crate) before: &'a Snap,
    pub(crate) after: &'a Snap,
    pub(crate) now: Now<'a>,
    pub(crate) at: Micros,
    pub(crate) request: Request,
    pub(crate) reply: &'a Reply,
    pub(crate) effects: &'a Effects,
}

impl Turned<'_> {
    /// Checks every promise and brings up to date what was seen.
    pub(crate) fn check(&self, seen: &mut [Seen]) -> Checked {
        self.note_request(seen);
        self.exclusion()?;
        self.fences()?;
        self.wake_up()?;
        let came = self.note_places(seen)?;
        self.order(seen, came)?;
        self.no_loss_without_cause(seen)?;
        self.note_ends(seen);
        self.withdrawn(seen)?;
        self.departed(seen)?;
        self.idempotent(seen)?;
        self.writer()?;
        self.upgraders()?;
        self.is_told(seen)?;
        self.effects()?;
        self.answer(seen)?;
        self.value_first(seen)?;
        for slot in self.slots() {
            if self.after.holder(slot).is_none() && self.after.waiter(slot).is_none() {
                seen[usize::from(slot)].wish = None;
            }
        }
        Ok(())
    }

    fn wish(&self, seen: &[Seen], slot: Slot) -> Option<&Wish> {
        seen[usize::from(slot)].wish.map(|w| &self.table.wishes[usize::from(w)])
    }

    /// Grants of this turn.
    fn granted(&self) -> impl Iterator<Item = &Held> {
        let same = |h: &Held, b: &Held| h.slot == b.slot && h.fence == b.fence;
        self.after.holders.iter().filter(move |h| !self.before.holders.iter().any(|b| same(h, b)))
    }

    fn note_request(&self, seen: &mut [Seen]) {
        match self.request {
            Request::Acquire { who, wish } => seen[usize::from(who)].wish = Some(wish),
            Request::Withdraw { who } => seen[usize::from(who)].withdrawn = true,
            Request::Upgrade { who, nth } => seen[usize::from(who)].upgrades |= 1 << nth,
            Request::WithdrawUpgrade { who, nth } => {
                seen[usize::from(who)].upgrades_withdrawn |= 1 << nth;
            }
            _ => {}
        }
    }

    fn exclusion(&self) -> Checked {
        let seats = self.after.holders.iter().map(|h| h.seats);
        held(fit_together(seats, None), EXCLUSION)?;
        let members = self.after.holders.iter().map(|h| h.seats);
        let mut limits =
            members.chain(self.after.waiters.iter().map(|w| w.seats)).filter_map(|s| match s {
                Seats::Some { of, .. } => Some(of),
                _ => None,
            });
        let first = limits.next();
        held(limits.all(|of| Some(of) == first), ONE_LIMIT)
    }

    fn fences(&self) -> Checked {
        held(self.before.fence <= self.after.fence, FENCES)?;
        for (n, grant) in self.granted().enumerate() {
            let fresh = self.before.fence < grant.fence && grant.fence <= self.after.fence;
            let alone = self.granted().skip(n + 1).all(|g| g.fence != grant.fence);
            held(fresh && alone, FENCES)?;
        }
        Ok(())
    }

    fn wake_up(&self) -> Checked {
        let Some(head) = self.after.waiters.first() else { return Ok(()) };
        held(!self.after.fits(head.seats, head.slot), WAKE_UP)
    }

    /// Gives new waiters their keys and looks whether old ones left for a reason.
    ///
    /// Answers who came new in this turn.
    fn note_places(&self, seen: &mut [Seen]) -> Result<Option<Slot>, Promise> {
        let mut came = None;
        for slot in self.slots() {
            let s = usize::from(slot);
            let late = match self.now {
                Now::Store(now) => seen[s].place_until <= now.0,
                Now::Observed { .. } => self.is_dead(slot),
            };
            if late {
                // Whoever asks again after its place was over is a new arrival.
                seen[s].key = None;
            }
            let Some(waits) = self.after.waiter(slot) else {
                let caused = self.request.who() == Some(slot) || self.how_it_went(slot).is_some();
                let left = seen[s].key.is_some() && !self.is_granted(slot);
                held(!left || caused, NO_LOSS_WITHOUT_CAUSE)?;
                continue;
            };
            if seen[s].key.is_none() {
                seen[s].key = Some(self.new_key(seen, slot));
                came = Some(slot);
            }
            seen[s].place_until = match self.now {
                _ if waits.upgrade => u64::MAX,
                Now::Store(now) if self.request.who() == Some(slot) => now.plus(WAIT_TTL).0,
                _ => seen[s].place_until,
            };
        }
        Ok(came)
    }

    fn slots(&self) -> std::ops::Range<Slot> {
        0..u8::try_from(self.table.members.len()).expect("few slots")
    }

    fn is_granted(&self, slot: Slot) -> bool {
        self.granted().any(|g| g.slot == slot)
    }

    fn new_key(&self, seen: &[Seen], slot: Slot) -> (i64, u8) {
        let last = seen.iter().filter_map(|s| s.key).map(|k| k.1).max();
        let ticket = last.map_or(0, |t| t + 1);
        if self.after.waiter(slot).is_some_and(|w| w.upgrade) {
            return (i64::MIN, ticket);
        }
        let points = self.wish(seen, slot).map_or(0, |w| w.priority);
        (self.key_of_arrival(points), ticket)
    }

    fn key_of_arrival(&self, points: i32) -> i64 {
        let head_start =
            i64::from(points) * i64::try_from(Priority::AGING.as_micros()).unwrap_or(0);
        i64::try_from(self.at.0).unwrap_or(i64::MAX) - head_start
    }

    fn order(&self, seen: &mut [Seen], came: Option<Slot>) -> Checked {
        let key = |slot: Slot| seen[usize::from(slot)].key.unwrap_or((i64::MAX, u8::MAX));
        let queue = &self.after.waiters;
        held(queue.is_sorted_by_key(|w| key(w.slot)), ORDER)?;
        for grant in self.granted() {
            let by_request = self.request.who() == Some(grant.slot);
            let was_waiting = self.before.waiter(grant.slot).is_some();
            let wish = self.wish(seen, grant.slot);
            let upgraded = self.before.holder(grant.slot).is_some();
            if by_request && (upgraded || wish.is_some_and(|w| w.force)) {
                continue;
            }
            let tries = by_request && !was_waiting && wish.is_some_and(|w| !w.wait);
            held(!tries || queue.is_empty(), ORDER)?;
            let mine = match seen[usize::from(grant.slot)].key {
                Some(key) => key,
                None => (self.key_of_arrival(wish.map_or(0, |w| w.priority)), u8::MAX),
            };
            // Whoever came in this turn was not there when it began.
            let behind = |w: &Waits| mine < key(w.slot) || came == Some(w.slot) && !by_request;
            held(queue.iter().all(behind), ORDER)?;
        }
        self.forget_places(seen);
        Ok(())
    }

    /// Forgets what is said of places and wishes that are no more, and counts tickets from 0, so
    /// that states which differ in nothing else are the same.
    fn forget_places(&self, seen: &mut [Seen]) {
        for slot in self.slots() {
            let s = &mut seen[usize::from(slot)];
            if self.after.waiter(slot).is_none() {
                s.key = None;
                s.place_until = 0;
            }
        }
        let mut tickets: Vec<u8> = seen.iter().filter_map(|s| s.key).map(|k| k.1).collect();
        tickets.sort_unstable();
        for (_, ticket) in seen.iter_mut().filter_map(|s| s.key.as_mut()) {
            let rank = tickets.partition_point(|t| t < ticket);
            *ticket = u8::try_from(rank).expect("few slots");
        }
    }

    fn is_dead(&self, slot: Slot) -> bool {
        match self.now {
            Now::Store(_) => false,
            Now::Observed { dead, .. } => dead.contains(&self.table.member(slot)),
        }
    }

    fn how_it_went(&self, slot: Slot) -> Option<&Departure> {
        let of = self.effects.gone.iter().find(|(m, _)| self.table.slot(*m) == slot);
        of.map(|(_, how)| how)
    }

    fn no_loss_without_cause(&self, seen: &[Seen]) -> Checked {
        for was in &self.before.holders {
            let own = self.request.who() == Some(was.slot);
            let Some(is) = self.after.holder(was.slot) else {
                let caused = match self.how_it_went(was.slot) {
                    None => {
                        own && matches!(
                            self.request,
                            Request::Release { .. } | Request::Withdraw { .. }
                        )
                    }
                    Some(Departure::Expired) => match self.now {
                        Now::Store(now) => was.until <= now,
                        Now::Observed { .. } => self.is_dead(was.slot),
                    },
                    Some(Departure::Evicted(_)) => match self.request {
                        Request::Evict { only_if } => only_if.is_none_or(|f| f == was.fence),
                        _ => false,
                    },
                    Some(Departure::Stolen(_)) => {
                        let thief = self.request.who().and_then(|who| self.wish(seen, who));
                        !own && thief.is_some_and(|w| w.force)
                    }
                    Some(_) => false,
                };
                held(caused, NO_LOSS_WITHOUT_CAUSE)?;
                continue;
            };
            let raised = is.seats.is_all() && !was.seats.is_all();
            let waited = self.before.waiter(was.slot).is_some();
            let upgrades = own && matches!(self.request, Request::Upgrade { .. });
            held(!raised || waited || upgrades, NO_LOSS_WITHOUT_CAUSE)?;
            let lowered = was.seats.is_all() && !is.seats.is_all();
            let asked =
                matches!(self.request, Request::Downgrade { .. } | Request::WithdrawUpgrade { .. });
            held(!lowered || own && asked, NO_LOSS_WITHOUT_CAUSE)?;
            // Nobody's lease is made shorter than it was.
            held(
                matches!(self.now, Now::Observed { .. }) || was.until <= is.until,
                NO_LOSS_WITHOUT_CAUSE,
            )?;
        }
        Ok(())
    }

    fn note_ends(&self, seen: &mut [Seen]) {
        for (member, how) in &self.effects.gone {
            let s = &mut seen[usize::from(self.table.slot(*member))];
            match how {
                Departure::Answered => {}
                Departure::Evicted(_) | Departure::Stolen(_) => {
                    s.departed = true;
                    s.told = Some(how.clone());
                }
                _ => s.departed = true,
            }
        }
        for was in &self.before.holders {
            let s = &mut seen[usize::from(was.slot)];
            if self.after.holder(was.slot).is_some() {
                continue;
            }
            s.departed = true;
            let release = Request::Release { who: was.slot, value: false };
            let with_value = Request::Release { who: was.slot, value: true };
            let own = self.request == release || self.request == with_value;
            s.released |= own && self.how_it_went(was.slot).is_none();
        }
    }

    fn withdrawn(&self, seen: &[Seen]) -> Checked {
        for (slot, s) in (0..).zip(seen) {
            let holder = self.after.holder(slot);
            let waiter = self.after.waiter(slot);
            if s.withdrawn {
                held(holder.is_none() && waiter.is_none(), WITHDRAWN)?;
            }
            if s.upgrades_withdrawn != 0 && s.upgrades & !s.upgrades_withdrawn == 0 {
                held(!holder.is_some_and(|h| h.seats.is_all()) && waiter.is_none(), WITHDRAWN)?;
            }
        }
        let Request::WithdrawUpgrade { who, .. } = self.request else { return Ok(()) };
        let lost = self.before.holder(who).is_some() && self.after.holder(who).is_none();
        held(!lost || self.how_it_went(who).is_some(), KEEPS_SHARE)
    }

    fn departed(&self, seen: &mut [Seen]) -> Checked {
        for (slot, s) in (0..).zip(seen) {
            if s.departed {
                let back = self.after.holder(slot).is_some() || self.after.waiter(slot).is_some();
                held(!back, DEPARTED)?;
                // Forgotten, so that states which differ in nothing else are the same.
                s.fence = None;
                s.upgrade_fences.clear();
            }
        }
        Ok(())
    }

    fn idempotent(&self, seen: &mut [Seen]) -> Checked {
        for holder in &self.after.holders {
            let s = &mut seen[usize::from(holder.slot)];
            if s.fence == Some(holder.fence) || s.upgrade_fences.contains(&holder.fence) {
                continue;
            }
            let upgrades = self.before.holder(holder.slot).is_some();
            let more = s.upgrade_fences.len() < s.upgrades.count_ones() as usize;
            match s.fence {
                None => s.fence = Some(holder.fence),
                Some(_) if upgrades && more => s.upgrade_fences.push(holder.fence),
                _ => return Err(IDEMPOTENT),
            }
        }
        Ok(())
    }

    fn writer(&self) -> Checked {
        if self.after.value == self.before.value {
            return Ok(());
        }
        let Some((slot, fence, written)) = self.after.value else { return Ok(()) };
        let asked = self.request == Request::Put { who: slot }
            || self.request == Request::Release { who: slot, value: true };
        let all = |h: &Held| h.slot == slot && h.fence == fence && h.seats.is_all();
        let mut holders = self.before.holders.iter().chain(&self.after.holders);
        // It may have been granted all seats at the beginning of the turn, and released them.
        let between = self.before.waiter(slot).is_some() && self.before.fence < fence;
        held(asked && (holders.any(all) || between) && written == self.at, WRITER)
    }

    fn upgraders(&self) -> Checked {
        held(self.after.waiters.iter().filter(|w| w.upgrade).count() <= 1, ONE_UPGRADER)?;
        let Request::Upgrade { who, .. } = self.request else { return Ok(()) };
        let rival = self.after.waiters.iter().any(|w| w.upgrade && w.slot != who);
        let holds = self.after.holder(who).is_some_and(|h| !h.seats.is_all());
        let refused = matches!(
            self.reply,
            Reply::Verdict(Verdict::Refused(Refusal::UpgradePending | Refusal::Withdrawn))
        );
        held(!(rival && holds) || refused, ONE_UPGRADER)
    }

    fn is_told(&self, seen: &[Seen]) -> Checked {
        for (slot, s) in (0..).zip(seen) {
            let Some(told) = &s.told else { continue };
            let (Departure::Evicted(why) | Departure::Stolen(why)) = told else {
                return Err(IS_TOLD);
            };
            held(*why == reason() || &*why.by == "model", IS_TOLD)?;
            let mut cell = self.cell.clone();
            let mut turn = Turn::begin(&mut cell, self.now, Fence::ZERO);
            let answer = turn.renew(self.table.member(slot), None);
            held(answer.as_ref() == Err(told), IS_TOLD)?;
        }
        Ok(())
    }

    fn effects(&self) -> Checked {
        held(self.effects.changed || self.cell == self.cell_before, EFFECTS)?;
        for grant in self.granted() {
            let named = |(m, g): &(_, tenure_core::backend::Grant)| {
                self.table.slot(*m) == grant.slot && g.fence.get() == grant.fence
            };
            let asked = self.request.who() == Some(grant.slot);
            held(asked || self.effects.granted.iter().any(named), EFFECTS)?;
        }
        let gone = |slot| self.after.holder(slot).is_none();
        held(self.effects.gone.iter().all(|(m, _)| gone(self.table.slot(*m))), EFFECTS)
    }

    fn answer(&self, seen: &[Seen]) -> Checked {
        let Some(who) = self.request.who() else {
            return match self.reply {
                Reply::Evicted(Evicted::Done(victims)) => {
                    let out = |v| self.after.holder(self.table.slot(v)).is_none();
                    held(victims.iter().all(|v| out(v.member)), ANSWER)?;
                    let above = victims.iter().all(|v| v.fence.get() < self.after.fence);
                    held(above && self.before.fence < self.after.fence, FENCES)
                }
                _ => Ok(()),
            };
        };
        let (holder, waiter) = (self.after.holder(who), self.after.waiter(who));
        let holds = |g: &tenure_core::backend::Grant| {
            holder.is_some_and(|h| {
                let until =
                    matches!(self.now, Now::Observed { .. }) || g.at.plus(g.term) == h.until;
                h.fence == g.fence.get() && h.seats == g.seats && until
            })
        };
        let right = match self.reply {
            Reply::Nothing | Reply::Evicted(_) => true,
            Reply::Verdict(Verdict::Granted(grant)) => {
                let withdrawn = match self.request {
                    Request::Upgrade { nth, .. } => {
                        seen[usize::from(who)].upgrades_withdrawn & (1 << nth) != 0
                    }
                    _ => false,
                };
                holds(grant) && !withdrawn
            }
            Reply::Verdict(Verdict::Queued(place)) => {
                self.after.waiters.iter().position(|w| w.slot == who) == Some(place.ahead)
            }
            Reply::Verdict(Verdict::Refused(Refusal::Withdrawn)) => {
                let s = &seen[usize::from(who)];
                // An upgrade that was taken back by a downgrade is over, too.
                let over = s.upgrades_withdrawn != 0 || !s.upgrade_fences.is_empty();
                s.withdrawn || over || s.departed
            }
            Reply::Verdict(Verdict::Refused(Refusal::Departed(how))) => {
                let s = &seen[usize::from(who)];
                s.departed && s.released == (*how == Departure::Released)
            }
            Reply::Verdict(Verdict::Value(value)) => {
                self.after.value.is_some_and(|v| v.0 == value.bytes[0]) && holder.is_none()
            }
            Reply::Verdict(_) => {
                let upgrade = matches!(self.request, Request::Upgrade { .. });
                waiter.is_none_or(|_| upgrade) && holder.is_none_or(|_| upgrade)
            }
            Reply::Renewal(Ok(Kept::Holding(grant))) => holds(grant),
            Reply::Renewal(Ok(_)) => waiter.is_some() && holder.is_none(),
            Reply::Renewal(Err(how)) => {
                holder.is_none() && waiter.is_none() && self.is_truth(seen, who, how)
            }
            Reply::Change(Change::Done(grant)) => {
                let seats = match self.request {
                    Request::Downgrade { .. } => SHARE,
                    _ => Seats::All,
                };
                holds(grant) && grant.seats == seats
            }
            Reply::Change(Change::NotHeld(how)) => holder.is_none_or(
                |h| matches!(self.request, Request::Downgrade { fence, .. } if fence != h.fence),
            ) && (holder.is_some()
                || self.is_truth(seen, who, how)),
            Reply::Change(_) => holder.is_some(),
            Reply::Release(Release::Released) => {
                holder.is_none() && seen[usize::from(who)].released
            }
            Reply::Release(Release::NotHeld(how)) => {
                holder.is_none() && self.is_truth(seen, who, how)
            }
            Reply::Release(Release::NeedsAllSeats) => holder.is_some_and(|h| !h.seats.is_all()),
            _ => false,
        };
        held(right, ANSWER)
    }

    fn is_truth(&self, seen: &[Seen], who: Slot, how: &Departure) -> bool {
        let s = &seen[usize::from(who)];
        match how {
            Departure::Evicted(_) | Departure::Stolen(_) => s.told.as_ref() == Some(how),
            Departure::Released => s.released,
            Departure::Withdrawn => s.withdrawn,
            Departure::Forgotten | Departure::Answered => !s.departed,
            _ => s.departed && !s.released && s.told.is_none(),
        }
    }

    /// Where a live value lies and nobody holds, who would rather have it gets it.
    fn value_first(&self, seen: &[Seen]) -> Checked {
        let live = |v: &(Slot, u64, Micros)| self.at < v.2.plus(KEEP);
        if !self.before.value.as_ref().is_some_and(live) {
            return Ok(());
        }
        for grant in self.granted() {
            let wants = self.wish(seen, grant.slot).is_some_and(|w| w.or_value);
            let upgraded = self.before.holder(grant.slot).is_some();
            let alone = self.after.holders.iter().all(|h| h.slot == grant.slot);
            held(!wants || upgraded || !alone, VALUE_FIRST)?;
        }
        Ok(())
    }
}

fn held(holds: bool, promise: Promise) -> Checked {
    if holds { Ok(()) } else { Err(promise) }
}
