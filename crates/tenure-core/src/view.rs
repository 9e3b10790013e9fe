//! What anybody may see of a lock. Never a token.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::name::LockName;
use crate::owner::Details;
use crate::token::{HolderId, MemberId};
use crate::values::{Fence, Micros, Priority, Seats};

/// A lock as it stands: holders, waiters, fence and value.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct View {
    /// The lock.
    pub name: LockName,
    /// The highest fence that was granted or raised by an eviction.
    pub fence: Fence,
    /// Who holds it, oldest grant first.
    pub holders: Vec<HolderView>,
    /// Who waits, next first.
    pub waiters: Vec<WaiterView>,
    /// The value, if one is kept.
    pub value: Option<ValueView>,
}

impl View {
    /// A lock that nobody has touched.
    pub fn empty(name: LockName) -> Self {
        Self { name, fence: Fence::ZERO, holders: Vec::new(), waiters: Vec::new(), value: None }
    }

    /// Whether anybody holds it.
    pub fn is_locked(&self) -> bool {
        !self.holders.is_empty()
    }
}

/// A holder, as anybody may see it. Times are the store's; on stores without a clock of their
/// own they are the wall clock of whoever wrote them, for reading only.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct HolderView {
    /// Its public id.
    pub id: HolderId,
    /// Its full public identity, for observation.
    pub member: MemberId,
    /// Owner, metadata and actor.
    pub details: Arc<Details>,
    /// What it holds.
    pub seats: Seats,
    /// Its fencing token.
    pub fence: Fence,
    /// Since when.
    pub since: Micros,
    /// When it last renewed, as far as the store knows.
    pub renewed: Micros,
    /// Until when, if it does not renew.
    pub until: Micros,
    /// The ttl of its lease.
    pub ttl: Duration,
    /// How long it has shown no sign of life, judged without comparing clocks.
    pub quiet_for: Duration,
    /// Whether its lease lives without a process.
    pub detached: bool,
}

impl HolderView {
    /// A holder since `since`, for backends; they fill in what else they know.
    pub fn new(member: MemberId, details: Arc<Details>, seats: Seats, since: Micros) -> Self {
        Self {
            id: member.holder(),
            member,
            details,
            seats,
            fence: Fence::ZERO,
            since,
            renewed: since,
            until: since,
            ttl: Duration::ZERO,
            quiet_for: Duration::ZERO,
            detached: false,
        }
    }
}

impl fmt::Display for HolderView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owner = &self.details.owner;
        write!(
            f,
            "{} (host {}, pid {}, since {}, last renewed {}, until {}, fence {})",
            owner.label,
            owner.host,
            owner.pid,
            Utc(self.since),
            Utc(self.renewed),
            Utc(self.until),
            self.fence
        )
    }
}

/// A waiter, as anybody may see it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct WaiterView {
    /// Its public id.
    pub id: HolderId,
    /// Owner, metadata and actor.
    pub details: Arc<Details>,
    /// What it wants.
    pub seats: Seats,
    /// Its head start.
    pub priority: Priority,
    /// Since when it waits.
    pub since: Micros,
    /// Whether it holds a share and waits to upgrade it.
    pub upgrade: bool,
}

impl WaiterView {
    /// A waiter since `since`, for backends; they fill in what else they know.
    pub fn new(id: HolderId, details: Arc<Details>, seats: Seats, since: Micros) -> Self {
        Self { id, details, seats, priority: Priority::default(), since, upgrade: false }
    }
}

/// A value that a holder of all seats left behind.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
#[non_exhaustive]
pub struct ValueView {
    /// The bytes.
    pub bytes: Arc<[u8]>,
    /// The fence of the holder that wrote them.
    pub fence: Fence,
    /// When it was written.
    pub written: Micros,
    /// Until when it is kept.
    pub keep_until: Micros,
}

impl ValueView {
    /// A value, for backends.
    pub fn new(bytes: Arc<[u8]>, fence: Fence, written: Micros, keep_until: Micros) -> Self {
        Self { bytes, fence, written, keep_until }
    }
}

/// A store time as RFC 3339 text in UTC with milliseconds; zero is a time that nobody knows.
#[derive(Clone, Copy, Debug)]
pub struct Utc(pub Micros);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == Micros(0) {
            // Of a holder that is another program, say.
            return f.write_str("unknown");
        }
        let time =
            i64::try_from(self.0.0).ok().and_then(|us| jiff::Timestamp::from_microsecond(us).ok());
        match time {
            Some(time) => write!(f, "{time:.3}"),
            None => f.write_str("the end of time"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_utc() {
        assert_eq!(Utc(Micros(1)).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Utc(Micros(0)).to_string(), "unknown");
        assert_eq!(Utc(Micros(1_709_210_096_789_000)).to_string(), "2024-02-29T12:34:56.789Z");
        assert_eq!(Utc(Micros(4_102_444_799_999_999)).to_string(), "2099-12-31T23:59:59.999Z");
    }
}
