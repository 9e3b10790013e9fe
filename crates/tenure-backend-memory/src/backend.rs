//! The machine behind a mutex.

use std::hash::BuildHasher;
use std::sync::{Arc, Weak};

use hashbrown::DefaultHashBuilder;
use hashbrown::hash_table::{Entry, HashTable};
use parking_lot::Mutex;
use tenure_core::backend::{
    Backend, Change, Claim, Event, Evicted, Eviction, LeaseRef, Listener, Member, Release, Renewal,
    Value, Verdict,
};
use tenure_core::clock::{Clock, Moment, SystemClock};
use tenure_core::machine::{Cell, Effects, Now, Turn};
use tenure_core::{Capabilities, Fence, Listeners, LockName, Micros, Recall, Result, Seats, View};

use crate::failures::{Failure, Failures, Operation};

const SHARDS: usize = 64;
/// After so many turns a shard looks for cells that say nothing any more.
const SWEEP_EVERY: u32 = 4096;

/// Locks in this process.
///
/// Several managers over one backend act like several processes over one store. Times are the
/// clock's, counted from the wall clock at the start, so that fences grow from one run of a
/// process to the next unless the wall clock was set back.
#[derive(Debug)]
pub struct MemoryBackend {
    capabilities: Capabilities,
    shards: Vec<Mutex<Shard>>,
    hasher: DefaultHashBuilder,
    clock: Arc<dyn Clock>,
    started: (Moment, Micros),
    listeners: Listeners,
    failures: Failures,
}

#[derive(Debug, Default)]
struct Shard {
    cells: HashTable<(LockName, Box<Cell>)>,
    /// The highest fence of this shard; cells are forgotten, this is not.
    fence: u64,
    turns: u32,
}

impl MemoryBackend {
    /// An empty store on the system's clock.
    pub fn new() -> Self {
        Self::with_clock(SystemClock)
    }

    /// An empty store on this clock. Give the manager the same one.
    pub fn with_clock(clock: impl Clock) -> Self {
        let mut capabilities = Capabilities::full("memory");
        capabilities.between_processes = false;
        capabilities.between_hosts = false;
        capabilities.after_restart = Recall::Nothing;
        Self {
            capabilities,
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: DefaultHashBuilder::default(),
            started: (clock.now(), clock.wall()),
            clock: Arc::new(clock),
            listeners: Listeners::default(),
            failures: Failures::new(),
        }
    }

    /// The script of failures of this store.
    pub fn failures(&self) -> Failures {
        self.failures.clone()
    }

    fn now(&self) -> Micros {
        let (moment, wall) = self.started;
        wall.plus(self.clock.now().since(moment))
    }

    /// The hash of a name, and the shard it lies in.
    fn place(&self, name: &LockName) -> (u64, &Mutex<Shard>) {
        let hash = self.hasher.hash_one(name);
        // The table uses the low and the topmost bits.
        (hash, &self.shards[usize::try_from(hash >> 40).expect("24 bits") % SHARDS])
    }

    /// One turn over the cell of `name`, and what follows from it.
    fn turn<T>(&self, name: &LockName, verb: impl FnOnce(&mut Turn<'_>) -> T) -> T {
        let (hash, shard) = self.place(name);
        let now = self.now();
        let (answer, effects) = {
            let shard = &mut *shard.lock();
            // A cell that was forgotten may have had a fence of this very microsecond.
            let floor = Fence::new(now.0.max(shard.fence + 1));
            let rehash = |(name, _): &(LockName, Box<Cell>)| self.hasher.hash_one(name);
            let entry = shard.cells.entry(hash, |(known, _)| known == name, rehash);
            let mut entry = match entry {
                Entry::Occupied(entry) => entry,
                Entry::Vacant(entry) => entry.insert((name.clone(), Box::default())),
            };
            let cell = &mut *entry.get_mut().1;
            let mut turn = Turn::begin(cell, Now::Store(now), floor);
            let answer = verb(&mut turn);
            let effects = turn.end();
            shard.fence = shard.fence.max(cell.fence().get());
            if cell.is_forgettable(now) {
                entry.remove();
            }
            shard.turns += 1;
            if SWEEP_EVERY <= shard.turns {
                shard.turns = 0;
                shard.cells.retain(|(_, cell)| !cell.is_forgettable(now));
            }
            (answer, effects)
        };
        self.tell(name, effects);
        answer
    }

    fn tell(&self, name: &LockName, effects: Effects) {
        for (member, grant) in effects.granted {
            let event = Event::Granted { name: name.clone(), member, grant: Some(grant) };
            self.listeners.tell(&event);
        }
        for (member, departure) in effects.gone {
            self.listeners.tell(&Event::Gone { name: name.clone(), member, departure });
        }
    }

    /// Does `call`, or fails as the script says.
    async fn scripted<T>(&self, operation: Operation, call: impl FnOnce() -> T) -> Result<T> {
        match self.failures.next(operation) {
            None => Ok(call()),
            Some(failure @ (Failure::LostRequest | Failure::Denied)) => Err(failure.error()),
            Some(failure @ Failure::LostReply) => {
                call();
                Err(failure.error())
            }
            Some(_) => std::future::pending().await,
        }
    }
}

impl Default for MemoryBackend {
    fn default() -> Self {
        Self::new()
    }
}

impl Backend for MemoryBackend {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn address(&self) -> Arc<str> {
        "memory:".into()
    }

    async fn acquire(&self, claim: &Claim) -> Result<Verdict> {
        let call = || self.turn(&claim.name, |turn| turn.acquire(claim));
        self.scripted(Operation::Acquire, call).await
    }

    async fn withdraw(&self, claim: &Claim) -> Result<()> {
        let keep = claim.tombstone_for();
        let call = || self.turn(&claim.name, |turn| turn.withdraw(claim.id, claim.member, keep));
        self.scripted(Operation::Withdraw, call).await
    }

    async fn renew(&self, members: &[Member]) -> Vec<Renewal> {
        let renew = |member: &Member| match self
            .turn(&member.name, |turn| turn.renew(member.id, member.lasting()))
        {
            Ok(kept) => Renewal::Kept(kept),
            Err(departure) => Renewal::Gone(departure),
        };
        let call = || members.iter().map(renew).collect();
        match self.scripted(Operation::Renew, call).await {
            Ok(renewals) => renewals,
            Err(error) => vec![Renewal::Unknown(error); members.len()],
        }
    }

    async fn downgrade(&self, lease: &LeaseRef, seats: Seats) -> Result<Change> {
        let call = || self.turn(&lease.name, |turn| turn.downgrade(lease.id, lease.fence, seats));
        self.scripted(Operation::Other, call).await
    }

    async fn release(&self, lease: &LeaseRef, value: Option<&Value>) -> Result<Release> {
        let call = || self.turn(&lease.name, |turn| turn.release(lease.id, value));
        self.scripted(Operation::Release, call).await
    }

    async fn put(&self, lease: &LeaseRef, value: &Value) -> Result<Change> {
        let call = || self.turn(&lease.name, |turn| turn.put(lease.id, value));
        self.scripted(Operation::Other, call).await
    }

    async fn evict(&self, name: &LockName, why: &Eviction) -> Result<Evicted> {
        let call = || self.turn(name, |turn| turn.evict(why));
        self.scripted(Operation::Other, call).await
    }

    async fn inspect(&self, name: &LockName) -> Result<View> {
        let call = || {
            // A turn without a verb: what is over is over for whoever looks, too.
            self.turn(name, |_| ());
            let (hash, shard) = self.place(name);
            let shard = shard.lock();
            let cell = shard.cells.find(hash, |(known, _)| known == name);
            let view = cell.map(|(name, cell)| cell.view(name.clone(), self.now()));
            view.unwrap_or_else(|| View::empty(name.clone()))
        };
        self.scripted(Operation::Other, call).await
    }

    async fn list(&self, prefix: &str, limit: usize) -> Result<Vec<View>> {
        let call = || {
            let mut names: Vec<LockName> = Vec::new();
            for shard in &self.shards {
                let shard = shard.lock();
                let all = shard.cells.iter().map(|(name, _)| name);
                names.extend(all.filter(|n| n.as_str().starts_with(prefix)).cloned());
            }
            names.sort_unstable();
            names
        };
        let names = self.scripted(Operation::Other, call).await?;
        let mut views = Vec::new();
        for name in names {
            if limit <= views.len() {
                break;
            }
            let view = self.inspect(&name).await?;
            if view.is_locked() || !view.waiters.is_empty() || view.value.is_some() {
                views.push(view);
            }
        }
        Ok(views)
    }

    fn subscribe(&self, listener: Weak<dyn Listener>) {
        self.listeners.add(listener);
    }

    fn watch(&self, _claim: &Claim, _waits: bool) -> bool {
        true
    }

    async fn ping(&self) -> Result<()> {
        self.scripted(Operation::Other, || ()).await
    }

    fn keys(&self, name: &LockName) -> Vec<(&'static str, String)> {
        vec![("name", name.to_string())]
    }
}
