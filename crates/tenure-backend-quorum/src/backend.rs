//! The verbs, each put to all voters and decided by a majority.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tenure_core::backend::{
    Backend, Change, Claim, Evicted, Eviction, LeaseRef, Listener, Member, Release, Renewal, Value,
    Verdict,
};
use tenure_core::voter::Voter;
use tenure_core::{Capabilities, Error, ErrorKind, LockName, Recall, Result, Seats, View, Wakes};

use crate::house::House;
use crate::{acquire, end, look, renew};

/// The numbers of voters that make sense: one more than an odd number outlives no more of them.
const SIZES: [usize; 3] = [3, 5, 7];

/// What to do for a lease that is longer.
const LONGER: &str =
    "name the longest ttl in the address of the store, for all who use it: `?max_ttl=`";

/// Locks that a majority of independent voters decide on.
///
/// Exclusive locks with fences, force release and looking; no shared locks, queue, priorities, values,
/// or leases without a process. Fewer than half of the voters may be dead, silent or without memory at a
/// time. Calls need a tokio runtime with time and I/O, or none: then a thread of the backend's own
/// makes them.
pub struct QuorumBackend<V> {
    house: Arc<House<V>>,
    capabilities: Capabilities,
    address: Arc<str>,
}

impl<V: Voter> QuorumBackend<V> {
    /// The default of the longest ttl.
    pub const MAX_TTL: Duration = Duration::from_secs(60);

    /// Locks of the store kind `kind`, of which these are the voters. No lease is longer than
    /// `max_ttl`, and a voter that may have forgotten something gives no votes for so long: all who use
    /// the same locks have to name the same.
    ///
    /// # Errors
    /// `Invalid` unless there are 3, 5 or 7 voters at different addresses.
    pub fn new(kind: &'static str, voters: Vec<V>, max_ttl: Duration) -> Result<Self> {
        let mut addresses: Vec<Arc<str>> = voters.iter().map(Voter::address).collect();
        let host = |address: &Arc<str>| match address.split_once("://") {
            Some((_, host)) => host.to_owned(),
            None => address.to_string(),
        };
        let hosts: Vec<String> = addresses.iter().map(host).collect();
        let address = format!("{kind}://{}", hosts.join(",")).into();
        addresses.sort_unstable();
        addresses.dedup();
        if !SIZES.contains(&voters.len()) || addresses.len() < voters.len() {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("a quorum has 3, 5 or 7 different nodes, not {}", addresses.len()),
            )
            .with_help("one node that fails is outlived by 3, two by 5, three by 7")
            .with_nothing_changed());
        }
        let house = Arc::new(House::new(voters, max_ttl));
        Ok(Self { house, capabilities: capabilities(kind, max_ttl), address })
    }

    fn unsupported(&self, what: &str) -> Error {
        Error::unsupported(self.capabilities.kind, what)
            .with_help("one server has it: a quorum of them keeps exclusive locks only")
            .with_nothing_changed()
    }

    /// What cannot be done is said before anything is sent.
    fn check(&self, claim: &Claim) -> Result<()> {
        match () {
            () if !claim.seats.is_all() => Err(self.unsupported("shared locks and permits")),
            () if claim.upgrade => Err(self.unsupported("upgrades")),
            () if claim.or_value => Err(self.unsupported("values")),
            () if claim.priority.get() != 0 => Err(self.unsupported("priorities")),
            () if claim.detached => Err(self.unsupported("leases without a process")),
            () if claim.force.is_some() => {
                Err(self.unsupported("taking locks past those who wait"))
            }
            () => self.check_ttl(claim.ttl),
        }
    }

    fn check_ttl(&self, ttl: Duration) -> Result<()> {
        let longest = self.house.longest;
        if ttl <= longest {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Invalid,
            format!("a lease lives for {longest:?} at most here, this one is to live for {ttl:?}"),
        )
        .with_help(LONGER)
        .with_nothing_changed())
    }
}

fn capabilities(kind: &'static str, longest: Duration) -> Capabilities {
    let mut can = Capabilities::full(kind);
    can.shared = false;
    can.permits = false;
    can.fifo = false;
    can.priority = false;
    can.value_max = None;
    can.ttl_max = longest.min(can.ttl_max);
    can.ttl_help = Some(LONGER);
    can.detached = false;
    can.upgrade = false;
    can.force_acquire = false;
    can.list = false;
    can.wakes = Wakes::Poll;
    // As long as a majority knows; with all of them gone, what they wrote down.
    can.after_restart = Recall::Some;
    can
}

impl<V: Voter> Backend for QuorumBackend<V> {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn address(&self) -> Arc<str> {
        self.address.clone()
    }

    async fn acquire(&self, claim: &Claim) -> Result<Verdict> {
        self.check(claim)?;
        let (house, claim) = (self.house.clone(), claim.clone());
        self.house.at_home(acquire::acquire(house, claim)).await?
    }

    async fn withdraw(&self, claim: &Claim) -> Result<()> {
        let (house, claim) = (self.house.clone(), claim.clone());
        self.house.at_home(end::withdraw(house, claim)).await?
    }

    async fn renew(&self, members: &[Member]) -> Vec<Renewal> {
        let (house, mine) = (self.house.clone(), members.to_vec());
        match self.house.at_home(renew::renew(house, mine)).await {
            Ok(renewals) => renewals,
            Err(error) => vec![Renewal::Unknown(error); members.len()],
        }
    }

    async fn downgrade(&self, _lease: &LeaseRef, _seats: Seats) -> Result<Change> {
        Err(self.unsupported("upgrade and downgrade"))
    }

    async fn release(&self, lease: &LeaseRef, value: Option<&Value>) -> Result<Release> {
        if value.is_some() {
            return Err(self.unsupported("values"));
        }
        let (house, mine) = (self.house.clone(), lease.clone());
        self.house.at_home(end::release(house, mine)).await?
    }

    async fn put(&self, _lease: &LeaseRef, _value: &Value) -> Result<Change> {
        Err(self.unsupported("values"))
    }

    async fn evict(&self, name: &LockName, why: &Eviction) -> Result<Evicted> {
        let (house, name, why) = (self.house.clone(), name.clone(), why.clone());
        self.house.at_home(end::evict(house, name, why)).await?
    }

    async fn inspect(&self, name: &LockName) -> Result<View> {
        let (house, name) = (self.house.clone(), name.clone());
        self.house.at_home(look::view(house, name)).await?
    }

    async fn list(&self, _prefix: &str, _limit: usize) -> Result<Vec<View>> {
        Err(self.unsupported("listing locks"))
    }

    fn subscribe(&self, listener: Weak<dyn Listener>) {
        for voter in self.house.all() {
            voter.subscribe(listener.clone());
        }
    }

    fn watch(&self, _claim: &Claim, _waits: bool) -> bool {
        // Hints come, but nobody may count on them.
        false
    }

    async fn ping(&self) -> Result<()> {
        self.house.at_home(look::ping(self.house.clone())).await?
    }

    fn keys(&self, name: &LockName) -> Vec<(&'static str, String)> {
        self.house.all().next().map(|voter| voter.keys(name)).unwrap_or_default()
    }
}

impl<V> std::fmt::Debug for QuorumBackend<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QuorumBackend").field("address", &self.address).finish_non_exhaustive()
    }
}
