//! The adaptor: a machine over a register is a backend.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::memo::Memo;
use super::observe::{Judgement, Observer};
use super::{Loaded, Register, Sign, Swap};
use crate::backend::{
    Backend, Change, Claim, Departure, Event, Evicted, Eviction, Grant, Kept, LeaseRef, Listener,
    Member, Release, Renewal, Value, Verdict,
};
use crate::capability::Capabilities;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::listeners::Listeners;
use crate::machine::{Cell, Effects, Now, Turn};
use crate::name::LockName;
use crate::token::MemberId;
use crate::values::{Fence, Seats};
use crate::view::{HolderView, View};

/// How often a transition is tried again when others were first.
const SWAP_ATTEMPTS: u32 = 200;
/// How often a record is read again that is older than what its reader holds.
const STALE_READS: u32 = 8;
/// How many members one turn looks at.
const MAX_LOOKS: usize = 32;

/// A full backend over a [`Register`].
///
/// Every verb is one loop: load the record, take a turn of the machine over it, swap it in. A
/// swap with an unknown outcome is resolved by taking the turn again over what is there then: all
/// verbs are idempotent per token.
pub struct RegisterBackend<R> {
    register: R,
    clock: Arc<dyn Clock>,
    observer: Observer,
    memo: Memo,
    listeners: Listeners,
}

impl<R: Register> RegisterBackend<R> {
    /// A backend over `register` that observes by `clock`.
    pub fn new(register: R, clock: Arc<dyn Clock>) -> Self {
        Self {
            register,
            clock,
            observer: Observer::default(),
            memo: Memo::default(),
            listeners: Listeners::default(),
        }
    }

    /// The register underneath.
    pub fn register(&self) -> &R {
        &self.register
    }

    /// Takes one turn over the record of `name` and stores what follows from it.
    ///
    /// `verb` is run as often as it takes, always over a fresh copy. `admits` is the member that
    /// it may bring in, whose sign of life has to be there first. `known` is a fence that was
    /// granted: a record below it is older than what its reader holds, and read again.
    async fn transact<T>(
        &self,
        name: &LockName,
        known: Fence,
        admits: Option<&Member>,
        verb: impl Fn(&mut Turn<'_>) -> T + Send,
        blocked: impl Fn(&T) -> bool + Send,
    ) -> Result<Done<T>>
    where
        T: Send,
    {
        self.transact_with(name, known, admits, verb, blocked, How::default()).await
    }

    /// As [`Self::transact`], in a particular way.
    async fn transact_with<T>(
        &self,
        name: &LockName,
        known: Fence,
        admits: Option<&Member>,
        verb: impl Fn(&mut Turn<'_>) -> T + Send,
        blocked: impl Fn(&T) -> bool + Send,
        mut how: How,
    ) -> Result<Done<T>>
    where
        T: Send,
    {
        let mut unknown = None;
        let mut admitted = false;
        // What follows from swaps that nobody knows the outcome of.
        let mut doubtful: Vec<Effects> = Vec::new();
        for attempt in 0..SWAP_ATTEMPTS {
            let certain = unknown.is_none();
            let failed = |error: Error| if certain { error.with_nothing_changed() } else { error };
            let (loaded, before) = match how.seen.take() {
                Some(seen) => seen,
                None => self.look(name).await.map_err(failed)?,
            };
            if before.fence() < known && attempt < STALE_READS {
                self.register.pause(attempt).await;
                continue;
            }
            let turned = self.take_turn(name, &before, &loaded, &verb, &blocked).await;
            let turned = turned.map_err(failed)?;
            let Turned { answer, after, effects, looks } = turned;
            if !effects.changed {
                if admitted
                    && let Some(member) = admits
                    && !after.has(member.id)
                {
                    self.register.dismiss(name, member.id).await;
                }
                self.tell_what_came_true(name, &doubtful, &after).await;
                let unchanged = Some((loaded, before));
                return Ok(Done { answer, unknown, looks, after, unchanged });
            }
            if let Some(member) = admits
                && !admitted
                && after.has(member.id)
                && !before.has(member.id)
            {
                self.register.admit(member).await.map_err(failed)?;
                admitted = true;
            }
            let record = after.encode(name).map_err(failed)?;
            let wakes = told(&effects);
            match self.register.swap(name, &loaded.version, &record, &wakes).await {
                Swap::Won => {
                    self.tell(name, &effects);
                    self.tell_what_came_true(name, &doubtful, &after).await;
                    self.drop_signs(name, &before, &after, admits.filter(|_| admitted)).await;
                    self.memo.note(name, record, &after);
                    return Ok(Done { answer, unknown, looks, after, unchanged: None });
                }
                Swap::Lost => {}
                Swap::Unknown(error) if how.once => return Err(error),
                Swap::Unknown(error) => {
                    doubtful.push(effects);
                    unknown = Some(error);
                }
                Swap::Failed(error) => {
                    if admitted && let Some(member) = admits {
                        self.register.dismiss(name, member.id).await;
                    }
                    return Err(failed(error));
                }
            }
            self.register.pause(attempt).await;
        }
        Err(unknown.unwrap_or_else(|| {
            Error::new(
                ErrorKind::Unreachable,
                format!("{SWAP_ATTEMPTS} attempts were overtaken by other processes"),
            )
            .with_help("very many processes work on this name at once; try again")
        }))
    }

    /// Takes the turn, and again as long as it runs into members that are seen to be dead.
    async fn take_turn<T>(
        &self,
        name: &LockName,
        before: &Cell,
        loaded: &Loaded,
        verb: &(impl Fn(&mut Turn<'_>) -> T + Send),
        blocked: &(impl Fn(&T) -> bool + Send),
    ) -> Result<Turned<T>> {
        let mut dead: Vec<MemberId> = Vec::new();
        let mut looks: Vec<Judgement> = Vec::new();
        loop {
            let mut after = before.clone();
            let now = match loaded.now {
                Some(now) => Now::Store(now),
                None => Now::Observed { wall: self.clock.wall(), dead: &dead },
            };
            let mut turn = Turn::begin(&mut after, now, loaded.floor);
            let answer = verb(&mut turn);
            let effects = turn.end();
            let mut suspects: Vec<MemberId> = Vec::new();
            if loaded.now.is_none() {
                suspects.extend(effects.granted.iter().map(|(member, _)| *member));
                if blocked(&answer) {
                    let mut in_the_way: Vec<MemberId> = before.holder_ids().collect();
                    if MAX_LOOKS < in_the_way.len() {
                        // Everybody's turn comes: first who was never looked at, then who was
                        // last seen alive the longest time ago.
                        in_the_way.sort_by_key(|m| self.observer.seen_since(name, *m));
                    }
                    suspects.extend(before.waiter_ids().next());
                    suspects.extend(in_the_way);
                }
                suspects.retain(|m| {
                    before.has(*m) && looks.iter().all(|l| l.member != *m) && !dead.contains(m)
                });
                suspects.truncate(MAX_LOOKS);
            }
            let judged = self.judge(name, before, &suspects).await?;
            let died = judged.iter().filter(|j| j.dead).map(|j| j.member);
            let any_died = dead.len();
            dead.extend(died);
            looks.extend(judged);
            if any_died == dead.len() {
                return Ok(Turned { answer, after, effects, looks });
            }
        }
    }

    async fn judge(
        &self,
        name: &LockName,
        cell: &Cell,
        members: &[MemberId],
    ) -> Result<Vec<Judgement>> {
        if members.is_empty() {
            return Ok(Vec::new());
        }
        let signs = self.register.signs(name, members).await?;
        let unseen: Vec<MemberId> = members
            .iter()
            .copied()
            .filter(|m| self.observer.seen_since(name, *m).is_none())
            .collect();
        let recalled =
            if unseen.is_empty() { Vec::new() } else { self.register.recall(name, &unseen).await };
        let now = self.clock.now();
        Ok(signs
            .into_iter()
            .filter_map(|sign| {
                let vigil = cell.vigil(sign.member)?;
                let recalled = recalled.iter().find(|o| o.member == sign.member).copied();
                Some(self.observer.judge(name, vigil, sign, recalled, now))
            })
            .collect())
    }

    /// The record as it stands, and what it says.
    async fn look(&self, name: &LockName) -> Result<(Loaded, Cell)> {
        let loaded = self.register.load(name).await?;
        let Some(bytes) = &loaded.bytes else {
            return Ok((loaded, Cell::default()));
        };
        if let Some(cell) = self.memo.recall(name, bytes) {
            return Ok((loaded, cell));
        }
        let (of, cell) = Cell::decode(bytes)?;
        if of != *name {
            return Err(Error::new(
                ErrorKind::Corrupt,
                format!("the record found under this name is that of {of:?}"),
            ));
        }
        self.memo.note(name, bytes.clone(), &cell);
        Ok((loaded, cell))
    }

    /// Tells those here who were granted or ended.
    fn tell(&self, name: &LockName, effects: &Effects) {
        for (member, _) in &effects.granted {
            // Without the grant: the lease begins with the new holder's own sign of life.
            let (name, member) = (name.clone(), *member);
            self.listeners.tell(&Event::Granted { name, member, grant: None });
        }
        for (member, departure) in &effects.gone {
            let (name, member, departure) = (name.clone(), *member, departure.clone());
            self.listeners.tell(&Event::Gone { name, member, departure });
        }
    }

    /// Tells of what an earlier swap of the same call did after all: whoever holds now that it
    /// would have granted, and whoever is gone that it would have ended.
    async fn tell_what_came_true(&self, name: &LockName, doubtful: &[Effects], now: &Cell) {
        for effects in doubtful {
            let holds = |member: MemberId| now.holder_ids().any(|m| m == member);
            let came_true = Effects {
                changed: true,
                granted: effects.granted.iter().filter(|(m, _)| holds(*m)).cloned().collect(),
                gone: effects.gone.iter().filter(|(m, _)| !now.has(*m)).cloned().collect(),
            };
            let wakes = told(&came_true);
            if !wakes.is_empty() {
                self.register.wake(name, &wakes).await;
                self.tell(name, &came_true);
            }
        }
    }

    async fn drop_signs(
        &self,
        name: &LockName,
        before: &Cell,
        after: &Cell,
        admitted: Option<&Member>,
    ) {
        let left = before.holder_ids().chain(before.waiter_ids()).chain(admitted.map(|m| m.id));
        for member in left.filter(|m| !after.has(*m)) {
            self.register.dismiss(name, member).await;
        }
        let members: Vec<MemberId> = after.holder_ids().chain(after.waiter_ids()).collect();
        self.observer.keep_only(name, &members);
    }

    /// Shows what was seen outside the record: when a holder last gave a sign, and when observers
    /// will give it up.
    fn complete(&self, holders: &mut [HolderView], signs: &[Sign], looks: &[Judgement]) {
        for holder in holders {
            if let Some(at) = signs.iter().find(|s| s.member == holder.member).and_then(|s| s.at) {
                holder.renewed = holder.renewed.max(at);
                holder.until = holder.renewed.plus(holder.ttl);
            }
            if let Some(look) = looks.iter().find(|l| l.member == holder.member) {
                holder.quiet_for = look.quiet_for;
            }
        }
    }

    async fn complete_holders(
        &self,
        name: &LockName,
        holders: &mut [HolderView],
        looks: &[Judgement],
    ) {
        let members: Vec<MemberId> = holders.iter().map(|h| h.member).take(MAX_LOOKS).collect();
        // Reading only: what cannot be read is shown as it stands in the record.
        let signs = self.register.signs(name, &members).await.unwrap_or_default();
        self.complete(holders, &signs, looks);
    }

    fn observed(&self) -> bool {
        self.register.capabilities().judged_by == crate::capability::JudgedBy::Observation
    }
}

/// In which way a turn is taken and stored.
#[derive(Default)]
struct How {
    /// A swap that nobody knows the outcome of is not tried again: the verb must not be done
    /// twice.
    once: bool,
    /// The record as it was just seen. If it changed since, the swap finds out.
    seen: Option<(Loaded, Cell)>,
}

struct Turned<T> {
    answer: T,
    after: Cell,
    effects: Effects,
    looks: Vec<Judgement>,
}

struct Done<T> {
    answer: T,
    /// An earlier swap of this call with an outcome that nobody knows.
    unknown: Option<Error>,
    looks: Vec<Judgement>,
    after: Cell,
    /// The record, if there was nothing to store.
    unchanged: Option<(Loaded, Cell)>,
}

/// Whom the transition concerns who did not ask for it.
fn told(effects: &Effects) -> Vec<MemberId> {
    let granted = effects.granted.iter().map(|(member, _)| *member);
    granted.chain(effects.gone.iter().map(|(member, _)| *member)).collect()
}

impl<R: Register> Backend for RegisterBackend<R> {
    fn capabilities(&self) -> &Capabilities {
        self.register.capabilities()
    }

    fn address(&self) -> Arc<str> {
        self.register.address()
    }

    async fn acquire(&self, claim: &Claim) -> Result<Verdict> {
        let mut member = Member::new(claim.name.clone(), claim.token.clone(), claim.ttl, None);
        member.detached = claim.detached;
        let blocked = |v: &Verdict| matches!(v, Verdict::Queued(_) | Verdict::Busy(_));
        let done = self
            .transact(&claim.name, Fence::ZERO, Some(&member), |turn| turn.acquire(claim), blocked)
            .await?;
        let mut verdict = done.answer;
        if let Verdict::Granted(grant) = &verdict
            && grant.handed_over
            && self.observed()
            && !claim.upgrade
            && let Some(begun) = self.begin_lease(member, grant.fence, done.unchanged).await
        {
            return Ok(Verdict::Granted(begun));
        }
        if let Verdict::Queued(place) | Verdict::Busy(place) = &mut verdict
            && self.observed()
        {
            self.complete_holders(&claim.name, &mut place.holders, &done.looks).await;
            place.check_in = done.looks.iter().map(|l| l.left).min();
        }
        if matches!(verdict, Verdict::Busy(_)) && self.observed() {
            // This process may be gone before the ttl is over; the next one goes on observing.
            let seen: Vec<_> = done.looks.iter().map(|l| l.observation).collect();
            self.register.remember(&claim.name, &seen).await;
        }
        Ok(verdict)
    }

    async fn withdraw(&self, claim: &Claim) -> Result<()> {
        let keep = claim.tombstone_for();
        let done = self
            .transact(
                &claim.name,
                Fence::ZERO,
                None,
                |turn| turn.withdraw(claim.id, claim.member, keep),
                |()| false,
            )
            .await?;
        if !done.after.has(claim.member) {
            self.register.dismiss(&claim.name, claim.member).await;
        }
        let seen = self.observer.of(&claim.name);
        if !seen.is_empty() {
            self.register.remember(&claim.name, &seen).await;
        }
        Ok(())
    }

    async fn renew(&self, members: &[Member]) -> Vec<Renewal> {
        let mut renewals = Vec::with_capacity(members.len());
        for member in members {
            renewals.push(self.renew_one(member).await);
        }
        renewals
    }

    async fn downgrade(&self, lease: &LeaseRef, seats: Seats) -> Result<Change> {
        let done = self
            .transact(
                &lease.name,
                lease.fence,
                None,
                |turn| turn.downgrade(lease.id, lease.fence, seats),
                |_| false,
            )
            .await?;
        Ok(done.answer)
    }

    async fn release(&self, lease: &LeaseRef, value: Option<&Value>) -> Result<Release> {
        let done = self
            .transact(
                &lease.name,
                lease.fence,
                None,
                |turn| turn.release(lease.id, value),
                |_| false,
            )
            .await?;
        match (done.answer, done.unknown) {
            // An earlier swap of this call may have released it, and the record forgot since.
            (Release::NotHeld(Departure::Forgotten), Some(error)) => Err(error),
            (answer, _) => Ok(answer),
        }
    }

    async fn put(&self, lease: &LeaseRef, value: &Value) -> Result<Change> {
        let done = self
            .transact(&lease.name, lease.fence, None, |turn| turn.put(lease.id, value), |_| false)
            .await?;
        Ok(done.answer)
    }

    async fn evict(&self, name: &LockName, why: &Eviction) -> Result<Evicted> {
        // Without a fence a second turn would end whoever was granted by the first.
        let how = How { once: why.only_if.is_none(), seen: None };
        let done = self
            .transact_with(name, Fence::ZERO, None, |turn| turn.evict(why), |_| false, how)
            .await?;
        match (done.answer, done.unknown) {
            (Evicted::NobodyThere | Evicted::FenceMoved(_), Some(error)) => Err(error),
            (answer, _) => Ok(answer),
        }
    }

    async fn inspect(&self, name: &LockName) -> Result<View> {
        let (loaded, before) = self.look(name).await?;
        // A turn that is not stored: dead holders are left out, as anybody who asks would find.
        let turned = self.take_turn(name, &before, &loaded, &|_| (), &|()| true).await?;
        let now = loaded.now.unwrap_or_else(|| self.clock.wall());
        let mut view = turned.after.view(name.clone(), now);
        if self.observed() {
            self.complete_holders(name, &mut view.holders, &turned.looks).await;
        }
        Ok(view)
    }

    async fn list(&self, prefix: &str, limit: usize) -> Result<Vec<View>> {
        let mut views = Vec::new();
        for name in self.register.names(prefix, usize::MAX).await? {
            if limit <= views.len() {
                break;
            }
            let view = self.inspect(&name).await?;
            if !view.holders.is_empty() || !view.waiters.is_empty() || view.value.is_some() {
                views.push(view);
            }
        }
        Ok(views)
    }

    fn subscribe(&self, listener: Weak<dyn Listener>) {
        self.listeners.add(listener.clone());
        self.register.subscribe(listener);
    }

    fn watch(&self, claim: &Claim, waits: bool) -> bool {
        self.register.watch(claim, waits)
    }

    async fn ping(&self) -> Result<()> {
        self.register.ping().await
    }

    fn keys(&self, name: &LockName) -> Vec<(&'static str, String)> {
        self.register.keys(name)
    }
}

impl<R: Register> RegisterBackend<R> {
    /// Begins the lease of a waiter that was granted the lock, and answers its grant; `None` if it
    /// was not, or somebody else began it, or it did not come about: then whoever waits asks. Never
    /// brings anybody in: it may land long after the waiter has gone on.
    ///
    /// # Cancel safety
    /// Dropped, the lease may have begun all the same.
    pub async fn pick_up(&self, member: &Member) -> Option<Grant> {
        let seen = self.look(&member.name).await.ok()?;
        let vigil = seen.1.vigil(member.id)?;
        let fence = vigil.fence.filter(|_| vigil.handed_over)?;
        self.begin_lease(member.clone(), fence, Some(seen)).await
    }

    /// A sign of life and then a transition, which whoever is just about to end this lease, because
    /// nobody came for it, has to find out about.
    async fn begin_lease(
        &self,
        mut member: Member,
        fence: Fence,
        seen: Option<(Loaded, Cell)>,
    ) -> Option<Grant> {
        member.fence = Some(fence);
        let began = self.clock.now();
        self.register.beat(&member).await.ok()?;
        let verb = |turn: &mut Turn<'_>| turn.pick_up(member.id, fence);
        let how = How { once: false, seen };
        let done =
            self.transact_with(&member.name, fence, None, verb, |_| false, how).await.ok()?;
        match done.answer {
            // Unchanged, it was begun by somebody else, nobody here knows when.
            Ok(Kept::Holding(mut grant)) if done.unchanged.is_none() => {
                grant.began = Some(began);
                Some(grant)
            }
            _ => None,
        }
    }

    /// A sign of life, then a look whether the record still lists the member: in this order, so
    /// that whoever is listed afterwards has been seen alive since.
    async fn renew_one(&self, member: &Member) -> Renewal {
        let beat = if self.observed() { self.register.beat(member).await } else { Ok(()) };
        // A sign that is not there may have been dropped with its member: the record tells.
        if let Err(error) = &beat
            && error.kind() != ErrorKind::NotHeld
        {
            return Renewal::Unknown(error.clone());
        }
        let known = member.fence.unwrap_or(Fence::ZERO);
        let verb = |turn: &mut Turn<'_>| turn.renew(member.id, member.lasting());
        match self.transact(&member.name, known, None, verb, |_| false).await {
            Ok(Done { answer: Ok(kept), .. }) => match beat {
                Ok(()) => Renewal::Kept(kept),
                Err(error) => Renewal::Unknown(error),
            },
            Ok(Done { answer: Err(departure), .. }) => {
                self.register.dismiss(&member.name, member.id).await;
                Renewal::Gone(departure)
            }
            Err(error) => Renewal::Unknown(error),
        }
    }
}

impl<R> fmt::Debug for RegisterBackend<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegisterBackend").finish_non_exhaustive()
    }
}

/// How long to pause before attempt `attempt` of a swap that others keep winning: not at all before
/// the first, for losing once is no crowd; then full jitter below a bound that doubles from 100 us to
/// 10 ms.
pub fn swap_pause(attempt: u32) -> Duration {
    if attempt == 0 {
        return Duration::ZERO;
    }
    let bound = Duration::from_micros(50 << attempt.min(8)).min(Duration::from_millis(10));
    bound.mul_f64(rand::random::<f64>())
}
