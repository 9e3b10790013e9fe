//! What a store can do, as data. Tests, the guarantees table, `doctor` and the program read it.

use std::time::Duration;

use serde::Serialize;

use crate::values::Ttl;

/// What ends a lock when its holder goes silent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EndsWith {
    /// A lease with a ttl.
    Lease,
    /// The session of the holder. Tokens and places in the queue are then known to the process that
    /// made them, and to nobody else.
    Session,
    /// Nothing: the store only pretends.
    Nothing,
}

/// How a waiter learns that it is its turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Wakes {
    /// The store tells it.
    Push,
    /// It asks again and again.
    Poll,
}

/// Who judges whether a lease has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum JudgedBy {
    /// The store's own clock.
    StoreClock,
    /// Observers that see no sign of life for longer than the ttl, each on its own clock.
    Observation,
}

/// What a store still knows of its locks after it was down.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Recall {
    /// Everything that it answered.
    All,
    /// What it had written down or copied by then: a lock that it forgot may be granted again.
    Some,
    /// Nothing: all locks are free.
    Nothing,
}

/// What a store can do.
///
/// What is `false` here is answered with `Unsupported` before anything is sent; the conformance
/// suite shows everything that is `true`.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Capabilities {
    /// The store's kind: `memory`, `file`, …
    pub kind: &'static str,
    /// Whether holders exclude each other at all; `off:` does not.
    pub exclusive: bool,
    /// Shared locks: readers.
    pub shared: bool,
    /// Some seats of a number: semaphores.
    pub permits: bool,
    /// Waiters are served in order.
    pub fifo: bool,
    /// Priority as a head start in that order.
    pub priority: bool,
    /// The longest value in bytes; `None` if the store keeps none.
    pub value_max: Option<usize>,
    /// The shortest ttl.
    pub ttl_min: Duration,
    /// The longest ttl.
    pub ttl_max: Duration,
    /// What to do for a longer ttl, if something can be done.
    #[serde(skip)]
    pub ttl_help: Option<&'static str>,
    /// Leases that live without a process.
    pub detached: bool,
    /// Upgrade from shared to exclusive, and downgrade.
    pub upgrade: bool,
    /// Force release, also on condition of a fence.
    pub force_release: bool,
    /// A claim can take the lock from whoever holds it, past those who wait.
    pub force_acquire: bool,
    /// Deadlocks between actors are found: a view shows who waits, in order, with what they tell about
    /// themselves.
    pub deadlocks: bool,
    /// Listing the locks.
    pub list: bool,
    /// Metadata and owners of holders are visible.
    pub metadata: bool,
    /// What ends a silent holder's lock.
    pub ends_with: EndsWith,
    /// How waiters are woken.
    pub wakes: Wakes,
    /// Who judges expiry.
    pub judged_by: JudgedBy,
    /// The kernel proves the death of a holder on the same host, so that its lock is free at once.
    pub proves_death: bool,
    /// The locks are seen by other processes.
    pub between_processes: bool,
    /// The locks are seen by other hosts.
    pub between_hosts: bool,
    /// What it knows after it was started anew.
    pub after_restart: Recall,
    /// What it knows after another server took over; `None` if there is no other.
    pub after_failover: Option<Recall>,
}

impl Capabilities {
    /// A store of this kind that can do everything a machine behind a mutex can; backends take
    /// away what they cannot.
    pub const fn full(kind: &'static str) -> Self {
        Self {
            kind,
            exclusive: true,
            shared: true,
            permits: true,
            fifo: true,
            priority: true,
            value_max: Some(crate::VALUE_MAX),
            ttl_min: Ttl::MIN,
            ttl_max: Ttl::MAX,
            ttl_help: None,
            detached: true,
            upgrade: true,
            force_release: true,
            force_acquire: true,
            deadlocks: true,
            list: true,
            metadata: true,
            ends_with: EndsWith::Lease,
            wakes: Wakes::Push,
            judged_by: JudgedBy::StoreClock,
            proves_death: false,
            between_processes: true,
            between_hosts: true,
            after_restart: Recall::All,
            after_failover: None,
        }
    }
}
