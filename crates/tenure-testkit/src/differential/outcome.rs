//! What is answered, as far as every store has to answer the same.

use std::collections::{BTreeMap, HashMap};

use tenure_core::backend::{
    Change, Departure, DynBackend, Evicted, Kept, Refusal, Release, Renewal, Verdict,
};
use tenure_core::{Fence, HolderId, HolderView, MemberId, Result, Seats, View};

use super::command::{Cast, Command, eviction, value};

/// A holder: who, with what, under which fence.
pub(super) type Holder = (MemberId, Seats, Fence);

/// An answer.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Seen {
    Granted(Seats, Fence),
    Queued(usize, Vec<Holder>),
    Busy(Vec<Holder>),
    Value(Vec<u8>, Fence),
    Refused(Refusal),
    Renewed(Vec<Result<Option<(Seats, Fence)>, Departure>>),
    Released(Release),
    Change(Option<(Seats, Fence)>, Changed),
    Evicted(Vec<Holder>, Aim),
    View(Box<Shown>),
    Done,
    /// An answer that is none of those there are.
    Odd(String),
}

/// How a change ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Changed {
    Done,
    NotHeld(Departure),
    NeedsAllSeats,
    Mismatch(u32),
}

/// How an eviction ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Aim {
    Hit,
    Nobody,
    Elsewhere,
}

/// A lock as it is shown.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Shown {
    holders: Vec<Holder>,
    waiters: Vec<(HolderId, Seats, i32, bool)>,
    value: Option<(Vec<u8>, Fence)>,
}

pub(super) fn holders(views: &[HolderView]) -> Vec<Holder> {
    views.iter().map(|h| (h.member, h.seats, h.fence)).collect()
}

impl Seen {
    /// What `store` answers. Where looking ends nothing, a fence that was shown may be another once
    /// the hand-over it tells of is done: an eviction then looks again, as an operator would.
    pub(super) async fn of(
        store: &dyn DynBackend,
        cast: &Cast,
        command: &Command,
        looking_ends: bool,
        first: bool,
    ) -> Result<Self> {
        use Command as C;
        let fence = async |n: usize, who| {
            let view = store.inspect(cast.name(n)).await?;
            let member = cast.token(who).member();
            Ok::<_, tenure_core::Error>(
                view.holders.iter().find(|h| h.member == member).map(|h| h.fence),
            )
        };
        Ok(match command {
            C::Acquire(n, who, wants) => {
                let mut claim = cast.claim(*n, *who, *wants);
                claim.first = first;
                Seen::verdict(store.acquire(&claim).await?)
            }
            C::Again(n, who) => Seen::verdict(store.acquire(&cast.plain(*n, *who)).await?),
            C::Upgrade(n, who, id, wait) => {
                Seen::verdict(store.acquire(&cast.upgrade(*n, *who, *id, *wait)).await?)
            }
            C::Withdraw(n, who) => {
                store.withdraw(&cast.plain(*n, *who)).await?;
                Seen::Done
            }
            C::WithdrawUpgrade(n, who, id) => {
                store.withdraw(&cast.upgrade(*n, *who, *id, true)).await?;
                Seen::Done
            }
            C::Renew(n, all) => {
                let mut members = Vec::new();
                for who in all {
                    members.push(cast.member(*n, *who, fence(*n, *who).await?));
                }
                Seen::renewals(store.renew(&members).await)?
            }
            C::Change(n, who, long) => {
                let member = cast.change(*n, *who, fence(*n, *who).await?, *long);
                Seen::renewals(store.renew(&[member]).await)?
            }
            C::Downgrade(n, who, seats) => {
                let held = fence(*n, *who).await?.unwrap_or_default();
                Seen::change(store.downgrade(&cast.lease(*n, *who, held), *seats).await?)
            }
            C::Release(n, who, bytes) => {
                let lease = cast.lease(*n, *who, fence(*n, *who).await?.unwrap_or_default());
                let bytes = bytes.map(value);
                Seen::Released(store.release(&lease, bytes.as_ref()).await?)
            }
            C::Put(n, who, byte) => {
                let lease = cast.lease(*n, *who, fence(*n, *who).await?.unwrap_or_default());
                Seen::change(store.put(&lease, &value(*byte)).await?)
            }
            C::Evict(n, holder) => {
                let evict = async || {
                    let holders = store.inspect(cast.name(*n)).await?.holders;
                    let only_if = holder.map(|h| holders.get(h).map_or(Fence::ZERO, |h| h.fence));
                    store.evict(cast.name(*n), &eviction(only_if)).await
                };
                let mut evicted = evict().await?;
                if !looking_ends && matches!(evicted, Evicted::FenceMoved(_)) {
                    evicted = evict().await?;
                }
                Seen::evicted(evicted)
            }
            C::EvictStranger(n) => {
                let stranger = eviction(Some(Fence::new(u64::MAX)));
                Seen::evicted(store.evict(cast.name(*n), &stranger).await?)
            }
            C::Inspect(n) => Seen::view(&store.inspect(cast.name(*n)).await?),
            C::Pass(_) => Seen::Done,
        })
    }

    pub(super) fn verdict(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Granted(grant) => Seen::Granted(grant.seats, grant.fence),
            Verdict::Queued(place) => Seen::Queued(place.ahead, holders(&place.holders)),
            Verdict::Busy(place) => Seen::Busy(holders(&place.holders)),
            Verdict::Value(value) => Seen::Value(value.bytes.to_vec(), value.fence),
            Verdict::Refused(refusal) => Seen::Refused(refusal),
            other => Seen::Odd(format!("{other:?}")),
        }
    }

    fn renewals(answers: Vec<Renewal>) -> Result<Self> {
        let mut seen = Vec::new();
        for answer in answers {
            seen.push(match answer {
                Renewal::Kept(kept) => Ok(Seen::kept(kept)),
                Renewal::Gone(how) => Err(how),
                Renewal::Unknown(error) => return Err(error),
                other => return Ok(Seen::Odd(format!("{other:?}"))),
            });
        }
        Ok(Seen::Renewed(seen))
    }

    pub(super) fn kept(kept: Kept) -> Option<(Seats, Fence)> {
        match kept {
            Kept::Holding(grant) => Some((grant.seats, grant.fence)),
            _ => None,
        }
    }

    pub(super) fn change(change: Change) -> Self {
        match change {
            Change::Done(grant) => Seen::Change(Some((grant.seats, grant.fence)), Changed::Done),
            Change::NotHeld(how) => Seen::Change(None, Changed::NotHeld(how)),
            Change::NeedsAllSeats => Seen::Change(None, Changed::NeedsAllSeats),
            Change::Mismatch { of } => Seen::Change(None, Changed::Mismatch(of)),
            other => Seen::Odd(format!("{other:?}")),
        }
    }

    pub(super) fn evicted(evicted: Evicted) -> Self {
        match evicted {
            Evicted::Done(victims) => Seen::Evicted(holders(&victims), Aim::Hit),
            Evicted::NobodyThere => Seen::Evicted(Vec::new(), Aim::Nobody),
            Evicted::FenceMoved(there) => Seen::Evicted(holders(&there), Aim::Elsewhere),
            other => Seen::Odd(format!("{other:?}")),
        }
    }

    pub(super) fn view(view: &View) -> Self {
        Seen::View(Box::new(Shown {
            holders: holders(&view.holders),
            waiters: view
                .waiters
                .iter()
                .map(|w| (w.id, w.seats, w.priority.get(), w.upgrade))
                .collect(),
            value: view.value.as_ref().map(|v| (v.bytes.to_vec(), v.fence)),
        }))
    }

    /// The answer with its fences taken out.
    fn split(&self) -> (Self, Vec<Fence>) {
        let mut fences = Vec::new();
        let mut take = |fence: &mut Fence| fences.push(std::mem::take(fence));
        let mut bare = self.clone();
        match &mut bare {
            Seen::Granted(_, fence) | Seen::Value(_, fence) | Seen::Change(Some((_, fence)), _) => {
                take(fence)
            }
            Seen::Queued(_, holders) | Seen::Busy(holders) | Seen::Evicted(holders, _) => {
                holders.iter_mut().for_each(|(_, _, fence)| take(fence));
            }
            Seen::Renewed(renewals) => {
                for (_, fence) in renewals.iter_mut().flatten().flatten() {
                    take(fence);
                }
            }
            Seen::View(shown) => {
                shown.holders.iter_mut().for_each(|(_, _, fence)| take(fence));
                if let Some((_, fence)) = &mut shown.value {
                    take(fence);
                }
            }
            _ => {}
        }
        (bare, fences)
    }
}

/// Which fence of the store stands for which of the machine: each for one, in the same order.
#[derive(Debug, Default)]
pub(super) struct Fences(HashMap<usize, BTreeMap<Fence, Fence>>);

impl Fences {
    /// Whether two answers about a name are the same but for the numbers of their fences.
    pub(super) fn same(&mut self, name: usize, expected: &Seen, seen: &Seen) -> bool {
        let ((expected, ours), (seen, theirs)) = (expected.split(), seen.split());
        if expected != seen || ours.len() != theirs.len() {
            return false;
        }
        let known = self.0.entry(name).or_default();
        for (ours, theirs) in ours.into_iter().zip(theirs) {
            if *known.entry(ours).or_insert(theirs) != theirs {
                return false;
            }
        }
        known.values().zip(known.values().skip(1)).all(|(lower, higher)| lower < higher)
    }
}
