//! The verbs, as far as session locks have them.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use tenure_core::backend::{
    Backend, Change, Claim, Evicted, Eviction, Kept, LeaseRef, Listener, Member, Release, Renewal,
    Value, Verdict, time_to_renew,
};
use tenure_core::{Capabilities, EndsWith, Error, LockName, Recall, Result, Seats, View, Wakes};

use super::class::{LONGEST, class};
use super::holder::{Wish, told};
use super::key::{self, Key};
use super::registry::{SessionId, State};
use super::room::Room;
use crate::config::PostgresConfig;
use crate::runtime::OwnRuntime;

/// What the store is called.
const KIND: &str = "postgres+advisory";

/// Session advisory locks of a PostgreSQL server, 14 or newer, done safely.
///
/// Sessions of its own, driven by a thread of its own, hold the locks; `psql` and other programs
/// can take the same ones. A lock ends with its session, at once. There are shared locks and an
/// order of the queue; no permits, priorities, values, upgrades or leases without a process.
#[derive(Debug)]
pub struct AdvisoryBackend {
    room: Arc<Room>,
    capabilities: Capabilities,
    address: Arc<str>,
    /// Its end closes all sessions.
    _runtime: OwnRuntime,
}

impl AdvisoryBackend {
    /// A backend for this server. Connects when it is first used.
    ///
    /// # Errors
    /// `Unreachable` if the system gives no thread.
    pub fn new(config: PostgresConfig) -> Result<Self> {
        let runtime = OwnRuntime::start()?;
        let address = config.masked().into();
        let room = Room::new(config, runtime.handle().clone());
        room.spawn(super::sweep::sweep(Arc::downgrade(&room)));
        Ok(Self { room, capabilities: capabilities(), address, _runtime: runtime })
    }

    /// As [`AdvisoryBackend::new`], from an address; see [`PostgresConfig::from_url`].
    ///
    /// # Errors
    /// `Invalid` if the address is not understood.
    pub fn open(url: &str) -> Result<Self> {
        Self::new(PostgresConfig::from_url(url)?)
    }

    /// Which of these are still held, by the sessions that hold them.
    async fn renew_held(
        &self,
        session: SessionId,
        members: &[(usize, &Member)],
        patience: Duration,
    ) -> Vec<(usize, Renewal)> {
        let (sent, wall) = self.room.times();
        let longest = members.iter().filter(|(_, m)| m.change).map(|(_, m)| class(m.ttl)).max();
        let room = self.room.clone();
        // In the runtime of the sessions: the caller's may have no timers.
        let asked = self.room.on_its_own(async move {
            let ask = async {
                if let Some(longest) = longest {
                    lengthen(&room, session, longest).await?;
                }
                room.beat(session).await
            };
            tokio::time::timeout(patience, ask).await.unwrap_or_else(|_| {
                Err(crate::error::no_answer(&format!("the server was silent for {patience:?}")))
            })
        });
        let asked = asked.await;
        let mut registry = self.room.registry.lock();
        let mut answer = |member: &Member| {
            let is_there = registry.entry(member.id).is_some();
            match &asked {
                Err(error) if is_there => Renewal::Unknown(error.clone()),
                _ => {
                    let ttl = member.change.then_some(member.ttl);
                    match registry.renewed(member.id, session, ttl, (sent, wall)) {
                        Ok(grant) => Renewal::Kept(Kept::Holding(grant)),
                        Err(how) => Renewal::Gone(how),
                    }
                }
            }
        };
        members.iter().map(|(at, member)| (*at, answer(member))).collect()
    }
}

impl Drop for AdvisoryBackend {
    fn drop(&mut self) {
        let sessions = std::mem::take(&mut *self.room.sessions.lock());
        sessions.values().for_each(|session| session.abandon());
    }
}

/// Lets a session be silent for longer, if a lock of it is to live for longer.
async fn lengthen(room: &Arc<Room>, session: SessionId, class: Duration) -> Result<()> {
    let Some(holder) = room.session(session) else { return Ok(()) };
    if class <= holder.class() {
        return Ok(());
    }
    let (sender, answer) = tokio::sync::oneshot::channel();
    holder.wish(room, Wish::Class { class, done: told(sender) }).answer(room, answer).await
}

fn capabilities() -> Capabilities {
    let mut can = Capabilities::full(KIND);
    can.permits = false;
    can.priority = false;
    can.value_max = None;
    can.ttl_max = LONGEST;
    can.detached = false;
    can.upgrade = false;
    can.force_acquire = false;
    // Those who wait are seen by their sessions alone, in no order.
    can.deadlocks = false;
    can.list = false;
    can.ends_with = EndsWith::Session;
    can.wakes = Wakes::Push;
    // Session locks are neither written down nor copied.
    can.after_restart = Recall::Nothing;
    can.after_failover = Some(Recall::Nothing);
    can
}

fn unsupported(what: &str) -> Error {
    Error::unsupported(KIND, what)
        .with_help("`postgres://` keeps leases in a table, with every feature")
        .with_nothing_changed()
}

/// What session locks cannot do is said before anything is sent.
fn check(claim: &Claim) -> Result<()> {
    match () {
        () if !matches!(claim.seats, Seats::All | Seats::SHARED) => Err(unsupported("permits")),
        () if claim.upgrade => Err(unsupported("upgrades")),
        () if claim.or_value => Err(unsupported("values")),
        () if claim.priority.get() != 0 => Err(unsupported("priorities")),
        () if claim.detached => Err(unsupported("leases without a process")),
        () if claim.force.is_some() => Err(unsupported("taking locks past those who wait")),
        () => Ok(()),
    }
}

impl Backend for AdvisoryBackend {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn address(&self) -> Arc<str> {
        self.address.clone()
    }

    async fn acquire(&self, claim: &Claim) -> Result<Verdict> {
        check(claim)?;
        self.room.acquire(claim).await
    }

    async fn withdraw(&self, claim: &Claim) -> Result<()> {
        self.room.withdraw(claim).await
    }

    async fn renew(&self, members: &[Member]) -> Vec<Renewal> {
        let patience = time_to_renew(members);
        let mut answers: Vec<Option<Renewal>> = vec![None; members.len()];
        let mut held: BTreeMap<SessionId, Vec<(usize, &Member)>> = BTreeMap::new();
        {
            let mut registry = self.room.registry.lock();
            for (at, member) in members.iter().enumerate() {
                match registry.entry(member.id).map(|entry| entry.state) {
                    Some(State::Held(hold)) => {
                        held.entry(hold.session).or_default().push((at, member))
                    }
                    Some(State::Trying | State::Waiting) => {
                        registry.still_waits(member.id, self.room.now());
                        answers[at] = Some(Renewal::Kept(Kept::Waiting));
                    }
                    Some(State::Leaving(_)) | None => {
                        answers[at] = Some(Renewal::Gone(registry.how_gone(member.id)));
                    }
                }
            }
        }
        let asked = held.iter().map(|(session, of)| self.renew_held(*session, of, patience));
        for (at, answer) in join_all(asked).await.into_iter().flatten() {
            answers[at] = Some(answer);
        }
        answers.into_iter().map(|answer| answer.expect("each was looked up")).collect()
    }

    async fn downgrade(&self, _lease: &LeaseRef, _seats: Seats) -> Result<Change> {
        Err(unsupported("upgrade and downgrade"))
    }

    async fn release(&self, lease: &LeaseRef, value: Option<&Value>) -> Result<Release> {
        if value.is_some() {
            return Err(unsupported("values"));
        }
        self.room.release(lease.id).await
    }

    async fn put(&self, _lease: &LeaseRef, _value: &Value) -> Result<Change> {
        Err(unsupported("values"))
    }

    async fn evict(&self, name: &LockName, why: &Eviction) -> Result<Evicted> {
        self.room.evict(name, why).await
    }

    async fn inspect(&self, name: &LockName) -> Result<View> {
        self.room.view(name).await
    }

    async fn list(&self, _prefix: &str, _limit: usize) -> Result<Vec<View>> {
        // The server knows numbers, no names.
        Err(unsupported("listing locks"))
    }

    fn subscribe(&self, listener: Weak<dyn Listener>) {
        self.room.listeners.add(listener);
    }

    fn watch(&self, _claim: &Claim, waits: bool) -> bool {
        // Whoever waits does so in this process's own session, or behind another one of it.
        waits
    }

    async fn ping(&self) -> Result<()> {
        self.room.ping().await
    }

    fn keys(&self, name: &LockName) -> Vec<(&'static str, String)> {
        vec![
            ("advisory key", Key::of(name).0.to_string()),
            ("sql", format!("select pg_try_advisory_lock({})", key::sql(name))),
        ]
    }
}
