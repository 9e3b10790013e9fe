//! What is remembered of a lock.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::backend::{Departure, Grant};
use crate::name::LockName;
use crate::owner::Details;
use crate::token::{ClaimId, MemberId};
use crate::values::{Fence, Micros, Priority, Seats, duration_micros, micros};
use crate::view::{HolderView, ValueView, View, WaiterView};

/// How a turn tells the time.
#[derive(Clone, Copy, Debug)]
pub enum Now<'a> {
    /// The store has a clock: leases end when it says so.
    Store(Micros),
    /// The store has none: these members were observed to be dead, all others live. `wall`, the
    /// observer's wall clock, orders arrivals and ages values; it never ends a lease.
    Observed {
        /// The observer's wall clock.
        wall: Micros,
        /// Members seen dead.
        dead: &'a [MemberId],
    },
}

impl Now<'_> {
    /// The time to write down.
    pub(super) fn stamp(self) -> Micros {
        match self {
            Now::Store(now) => now,
            Now::Observed { wall, .. } => wall,
        }
    }
}

/// A lock: who holds it, who waits, the highest fence, a small value.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Cell {
    pub(super) fence: Fence,
    /// The latest arrival in the queue; arrivals are told apart by being later than it.
    pub(super) last_arrival: Micros,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) holders: Vec<Holder>,
    /// In the order of service: a pending upgrade, then by order key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) queue: Vec<Waiter>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) value: Option<StoredValue>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) withdrawn: Vec<Tombstone>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) departed: Vec<Departed>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(super) struct Holder {
    pub(super) member: MemberId,
    pub(super) claim: ClaimId,
    pub(super) seats: Seats,
    /// The upgrade by which it holds all seats, if it does by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) upgrade: Option<Upgraded>,
    pub(super) fence: Fence,
    pub(super) since: Micros,
    pub(super) renewed: Micros,
    #[serde(with = "duration_micros")]
    pub(super) ttl: Duration,
    /// How long this lease lives from `renewed` on: the ttl, or the pick-up term.
    #[serde(with = "duration_micros")]
    pub(super) term: Duration,
    pub(super) handed_over: bool,
    #[serde(default)]
    pub(super) detached: bool,
    pub(super) details: Arc<Details>,
}

/// An upgrade that was granted: it can be withdrawn without the claim that it stands on.
///
/// Who gives an upgrade up and asks anew has two claims under way, which may land in any order.
/// The seats are all its own for as long as one of them was not withdrawn.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(super) struct Upgraded {
    /// At least one.
    pub(super) claims: Vec<ClaimId>,
    /// What was held before, and is again when the upgrade is withdrawn.
    pub(super) before: Seats,
}

impl Holder {
    pub(super) fn until(&self) -> Micros {
        self.renewed.plus(self.term)
    }

    /// Begins a whole term, which never ends before `until`.
    pub(super) fn begin_anew(&mut self, now: Now<'_>, until: Micros) {
        self.renewed = now.stamp();
        self.term = self.ttl.max(until.since(self.renewed));
        self.handed_over = false;
    }

    pub(super) fn grant(&self, now: Now<'_>) -> Grant {
        // Without a clock a sign of life that carries the fence stands for the whole ttl.
        let term = match now {
            Now::Store(_) => self.term,
            Now::Observed { .. } => self.ttl,
        };
        let mut grant = Grant::new(self.fence, self.seats, self.renewed, term);
        grant.handed_over = self.handed_over;
        if let Now::Store(now) = now {
            grant.now = Some(now);
        }
        grant
    }

    pub(super) fn view(&self, now: Micros) -> HolderView {
        HolderView {
            id: self.member.holder(),
            member: self.member,
            details: self.details.clone(),
            seats: self.seats,
            fence: self.fence,
            since: self.since,
            renewed: self.renewed,
            until: self.until(),
            ttl: self.ttl,
            quiet_for: now.since(self.renewed),
            detached: self.detached,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(super) struct Waiter {
    pub(super) member: MemberId,
    pub(super) claim: ClaimId,
    pub(super) seats: Seats,
    pub(super) upgrade: bool,
    pub(super) or_value: bool,
    pub(super) priority: Priority,
    pub(super) arrival: Micros,
    /// Refreshed before this time or given up.
    pub(super) until: Micros,
    #[serde(with = "duration_micros")]
    pub(super) wait_ttl: Duration,
    #[serde(with = "duration_micros")]
    pub(super) ttl: Duration,
    #[serde(with = "duration_micros")]
    pub(super) pick_up: Duration,
    #[serde(default)]
    pub(super) detached: bool,
    pub(super) details: Arc<Details>,
}

impl Waiter {
    /// The order of service: upgrades first, then arrival less the head start. Static, so that
    /// nobody who waits is overtaken for ever.
    pub(super) fn order(&self) -> (bool, i64, Micros) {
        let aging = i64::try_from(Priority::AGING.as_micros()).expect("30 s");
        let arrival = i64::try_from(self.arrival.0).unwrap_or(i64::MAX);
        let head_start = i64::from(self.priority.get()).saturating_mul(aging);
        (!self.upgrade, arrival.saturating_sub(head_start), self.arrival)
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(super) struct StoredValue {
    #[serde(with = "value_text")]
    pub(super) bytes: Arc<[u8]>,
    pub(super) fence: Fence,
    pub(super) written: Micros,
    pub(super) keep_until: Micros,
}

/// Value bytes in JSON: as text where they are UTF-8, which most values are, else as hex.
mod value_text {
    use super::Arc;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Bytes<'a> {
        Text(std::borrow::Cow<'a, str>),
        Hex(std::borrow::Cow<'a, str>),
    }

    pub(super) fn serialize<S: Serializer>(bytes: &Arc<[u8]>, s: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(bytes) {
            // Control characters would be written six bytes long each.
            Ok(text) if !text.contains(|c: char| c.is_control() && c != '\n') => {
                Bytes::Text(text.into())
            }
            _ => Bytes::Hex(crate::name::hex(bytes).into()),
        }
        .serialize(s)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Arc<[u8]>, D::Error> {
        match Bytes::deserialize(d)? {
            Bytes::Text(text) => Ok(text.as_bytes().into()),
            Bytes::Hex(digits) => digits
                .as_bytes()
                .chunks(2)
                .map(|pair| {
                    let [high, low] = *pair else { return None };
                    let digit = |d| u8::try_from(char::from(d).to_digit(16)?).ok();
                    Some(digit(high)? << 4 | digit(low)?)
                })
                .collect::<Option<Vec<u8>>>()
                .map(Into::into)
                .ok_or_else(|| serde::de::Error::custom("a value that is not hex")),
        }
    }
}

/// `d` as a record keeps it: a cell that was stored has to be the same as one that was not.
pub(super) fn whole_micros(d: Duration) -> Duration {
    Duration::from_micros(micros(d))
}

/// Whether what is remembered until `until` counts at `now`. What is over counts no more, be it dropped
/// yet or not: a turn that is taken again, because the answer to the first was lost, has to answer
/// alike, and the first may have dropped it. At the end of time nothing is over.
pub(super) fn stands(until: Micros, now: Micros) -> bool {
    now < until || until == Micros(u64::MAX)
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(super) struct Tombstone {
    pub(super) claim: ClaimId,
    pub(super) until: Micros,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(super) struct Departed {
    pub(super) member: MemberId,
    pub(super) how: Departure,
    pub(super) until: Micros,
}

impl Cell {
    /// The most waiters a name takes.
    pub const MAX_WAITERS: usize = 4096;
    /// The most holders a name takes.
    pub const MAX_HOLDERS: usize = 4096;
    /// How many departures are remembered, so that whoever departed can be told how.
    pub const MAX_DEPARTED: usize = 64;
    /// How many of them may be ordinary releases, which are remembered for the moment in which an
    /// answer is lost.
    pub const MAX_RELEASED: usize = 16;
    /// How many tombstones are kept.
    pub const MAX_TOMBSTONES: usize = 1024;
    /// How long a departure is remembered.
    pub const REMEMBER: Duration = Duration::from_secs(600);

    /// The highest fence that was granted or raised.
    pub fn fence(&self) -> Fence {
        self.fence
    }

    /// Whether nobody holds, waits, and no value is kept at `now`.
    pub fn is_idle(&self, now: Micros) -> bool {
        self.holders.is_empty() && self.queue.is_empty() && self.live_value(now).is_none()
    }

    /// Whether the cell says no more than its fence: idle, and nobody has to be told anything
    /// but that it released.
    pub fn is_forgettable(&self, now: Micros) -> bool {
        self.is_idle(now)
            && self.withdrawn.iter().all(|t| t.until <= now)
            && self.departed.iter().all(|d| d.how == Departure::Released || d.until <= now)
    }

    /// The ids of the holders.
    pub fn holder_ids(&self) -> impl Iterator<Item = MemberId> + '_ {
        self.holders.iter().map(|h| h.member)
    }

    /// The ids of the waiters, next first.
    pub fn waiter_ids(&self) -> impl Iterator<Item = MemberId> + '_ {
        self.queue.iter().map(|w| w.member)
    }

    /// Whether `member` holds or waits.
    pub fn has(&self, member: MemberId) -> bool {
        self.holder_ids().chain(self.waiter_ids()).any(|m| m == member)
    }

    /// How `member` departed, as far as that is remembered.
    pub fn departure(&self, member: MemberId) -> Option<Departure> {
        self.departed.iter().rev().find(|d| d.member == member).map(|d| d.how.clone())
    }

    /// How an observer judges `member`: the fence it must have shown a sign of life with to have
    /// picked up its lease (`None` while it waits, or when nothing needs picking up), and how
    /// long it may be silent.
    pub fn vigil(&self, member: MemberId) -> Option<Vigil> {
        if let Some(h) = self.holders.iter().find(|h| h.member == member) {
            return Some(Vigil {
                fence: Some(h.fence),
                handed_over: h.handed_over,
                term: if h.handed_over { h.term } else { h.ttl },
                ttl: h.ttl,
                detached: h.detached,
            });
        }
        self.queue.iter().find(|w| w.member == member).map(|w| Vigil {
            fence: None,
            handed_over: false,
            term: w.wait_ttl,
            ttl: w.wait_ttl,
            detached: w.detached,
        })
    }

    /// Whether a tombstone of `claim` stands.
    pub(super) fn is_withdrawn(&self, claim: ClaimId, now: Micros) -> bool {
        self.withdrawn.iter().any(|t| t.claim == claim && stands(t.until, now))
    }

    pub(super) fn live_value(&self, now: Micros) -> Option<&StoredValue> {
        self.value.as_ref().filter(|v| now < v.keep_until)
    }

    /// The lock as anybody may see it.
    pub fn view(&self, name: LockName, now: Micros) -> View {
        View {
            name,
            fence: self.fence,
            holders: self.holders.iter().map(|h| h.view(now)).collect(),
            waiters: self
                .queue
                .iter()
                .map(|w| WaiterView {
                    id: w.member.holder(),
                    details: w.details.clone(),
                    seats: w.seats,
                    priority: w.priority,
                    since: w.arrival,
                    upgrade: w.upgrade,
                })
                .collect(),
            value: self.live_value(now).map(StoredValue::view),
        }
    }
}

impl StoredValue {
    pub(super) fn view(&self) -> ValueView {
        ValueView {
            bytes: self.bytes.clone(),
            fence: self.fence,
            written: self.written,
            keep_until: self.keep_until,
        }
    }
}

/// How long an observer lets a member be silent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Vigil {
    /// The fence it holds; `None` while it waits.
    pub fence: Option<Fence>,
    /// Whether the lease was handed over and has to be picked up by a sign of life that carries
    /// its fence.
    pub handed_over: bool,
    /// How long it may be silent before it is picked up.
    pub term: Duration,
    /// How long it may be silent once it is picked up.
    pub ttl: Duration,
    /// Whether no process stands behind it.
    pub detached: bool,
}
