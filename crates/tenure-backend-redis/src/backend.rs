//! The verbs, each one turn of a script.

use std::borrow::Cow;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tenure_core::backend::{
    Backend, Change, Claim, Evicted, Eviction, LeaseRef, Listener, Member, Release, Renewal, Value,
    Verdict, time_to_renew,
};
use tenure_core::{
    Capabilities, Error, ErrorKind, Listeners, LockName, Recall, Result, Seats, View,
};

use crate::config::RedisConfig;
use crate::details::Written;
use crate::keys::{self, Keys};
use crate::line::Line;
use crate::link::Store;
use crate::links::Links;
use crate::reply::{self, Answer};
use crate::script::{Kind, Scripts, Turn, Words};
use crate::slots::Slots;

/// How long a call waits for an answer before the connection counts as dead.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long replicas are given to take a grant: a part of its lease, but not for ever.
fn replication(ttl: Duration) -> Duration {
    (ttl / 4).min(Duration::from_secs(2))
}

/// Locks on a Redis server, behind Sentinel or on a cluster. Redis 7.0 or newer, or Valkey.
///
/// Calls need a tokio runtime with time and I/O, or none: then a thread of the backend's own drives
/// the connection. One connection per runtime carries the calls of all its tasks, and messages.
#[derive(Debug)]
pub struct RedisBackend {
    links: Links,
    capabilities: Capabilities,
    address: Arc<str>,
    details: Written,
}

impl RedisBackend {
    /// A backend for these servers. Connects when it is first used.
    pub fn new(config: RedisConfig) -> Self {
        let address = config.masked().into();
        let scripts = match &config.test_clock {
            Some(key) => Scripts::with_test_clock(key),
            None => Scripts::new(),
        };
        let store =
            Store { config, scripts, listeners: Listeners::default(), slots: Slots::default() };
        let mut capabilities = Capabilities::full("redis");
        // As it writes to its disk, and as its replicas follow: `examine` looks at both.
        capabilities.after_restart = Recall::Some;
        capabilities.after_failover = Some(Recall::Some);
        Self {
            links: Links::new(Arc::new(store)),
            capabilities,
            address,
            details: Written::default(),
        }
    }

    /// As [`RedisBackend::new`], from an address; see [`RedisConfig::from_url`].
    ///
    /// # Errors
    /// `Invalid` if the address is not understood.
    pub fn open(url: &str) -> Result<Self> {
        Ok(Self::new(RedisConfig::from_url(url)?))
    }

    /// As [`RedisBackend::new`], for the servers of a client of the driver's version 1; see
    /// [`RedisConfig::from_client`].
    ///
    /// ```
    /// let client = redis::Client::open("redis://127.0.0.1/").unwrap();
    /// let locks = tenure_backend_redis::RedisBackend::from_client(&client);
    /// ```
    #[cfg(feature = "redis-1")]
    #[must_use]
    pub fn from_client(client: &redis::Client) -> Self {
        Self::new(RedisConfig::from_client(client))
    }

    pub(crate) fn config(&self) -> &RedisConfig {
        &self.links.store().config
    }

    fn keys_of(&self, name: &LockName) -> Result<Keys> {
        Keys::of(&self.config().prefix, name, self.config().is_cluster())
    }

    fn turn(&self, name: &LockName, kind: Kind, words: Words) -> Result<Turn> {
        Ok(Turn { kind, keys: self.keys_of(name)?, words })
    }

    /// Takes one turn that is no acquire.
    async fn ask(&self, name: &LockName, words: Words) -> Result<Answer> {
        let turn = self.turn(name, Kind::Other, words)?;
        self.links.here()?.ask(turn, PATIENCE).await
    }

    /// Waits until enough replicas have what was just granted.
    ///
    /// # Errors
    /// `Unreachable` if too few have it in time; then the grant must not count.
    async fn replicate(&self, line: &Line, keys: &Keys, ttl: Duration) -> Result<()> {
        let wanted = self.config().min_replicas;
        if wanted == 0 {
            return Ok(());
        }
        let have = line.replicate(keys, wanted, replication(ttl)).await?;
        if wanted <= have {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Unreachable,
            format!("{have} of {wanted} replicas have the grant; it does not count"),
        )
        .with_help("are the replicas up? `min_replicas` is how many have to be"))
    }
}

impl Backend for RedisBackend {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn address(&self) -> Arc<str> {
        self.address.clone()
    }

    async fn acquire(&self, claim: &Claim) -> Result<Verdict> {
        let (line, keys) = (self.links.here()?, self.keys_of(&claim.name)?);
        let (force, by) = match &claim.force {
            Some(why) => (&**why, &*claim.details.owner.label),
            None => ("", ""),
        };
        // On a cluster it may be sent again, whatever became of it before.
        let is_plain = claim.first
            && claim.seats.is_all()
            && claim.id == claim.member.claim()
            && !claim.upgrade
            && claim.force.is_none()
            && !self.config().is_cluster();
        let id = if is_plain { "plain".into() } else { Cow::from(claim.id.to_string()) };
        let details = self.details.json(&claim.details);
        let words = Words::new(id, claim.member)
            .double(claim.ttl)
            .byte(claim.detached)
            .list(10)
            .flag(claim.wait)
            .micros(claim.wait_ttl)
            .micros(claim.pick_up)
            .flag(claim.or_value)
            .flag(claim.upgrade)
            .text(force)
            .text(by)
            .signed(claim.priority.get())
            .seats(claim.seats);
        let turn = |channel: &str| Turn {
            kind: Kind::Acquire,
            keys: keys.clone(),
            words: words.clone().from(&details, channel),
        };
        let answer = line.claim(turn, &keys, PATIENCE).await?;
        let verdict = reply::verdict(answer, claim)?;
        if let Verdict::Granted(_) = verdict {
            self.replicate(&line, &keys, claim.ttl).await?;
        }
        Ok(verdict)
    }

    async fn withdraw(&self, claim: &Claim) -> Result<()> {
        let words = Words::new("withdraw", claim.member)
            .list(2)
            .text(&claim.id.to_string())
            .micros(claim.tombstone_for());
        reply::done(self.ask(&claim.name, words).await?)
    }

    async fn renew(&self, members: &[Member]) -> Vec<Renewal> {
        let turns: Result<Vec<Turn>> = members.iter().map(|m| self.renewal(m)).collect();
        let patience = time_to_renew(members);
        let sent = async {
            let (line, turns) = (self.links.here()?, turns?);
            Ok(line.take(turns, patience).await)
        };
        match sent.await {
            Ok(answers) => {
                let read = |(answer, member): (Result<Answer>, &Member)| {
                    answer.map_or_else(Renewal::Unknown, |answer| reply::renewal(answer, member))
                };
                answers.into_iter().zip(members).map(read).collect()
            }
            Err(error) => vec![Renewal::Unknown(error); members.len()],
        }
    }

    async fn downgrade(&self, lease: &LeaseRef, seats: Seats) -> Result<Change> {
        let words =
            Words::new("downgrade", lease.id).list(3).text(&lease.fence.to_string()).seats(seats);
        reply::change(self.ask(&lease.name, words).await?)
    }

    async fn release(&self, lease: &LeaseRef, value: Option<&Value>) -> Result<Release> {
        let words = match value {
            Some(value) => {
                Words::new("release", lease.id).list(2).packed(&value.bytes).micros(value.keep)
            }
            None => Words::new("release", lease.id),
        };
        reply::release(self.ask(&lease.name, words).await?)
    }

    async fn put(&self, lease: &LeaseRef, value: &Value) -> Result<Change> {
        let words = Words::new("put", lease.id).list(2).packed(&value.bytes).micros(value.keep);
        reply::change(self.ask(&lease.name, words).await?)
    }

    async fn evict(&self, name: &LockName, why: &Eviction) -> Result<Evicted> {
        let only_if = why.only_if.map(|fence| fence.to_string()).unwrap_or_default();
        let words = Words::of_nobody("evict")
            .list(4)
            .text(&only_if)
            .flag(why.stolen)
            .text(&why.reason.by)
            .text(&why.reason.why);
        reply::evicted(self.ask(name, words).await?)
    }

    async fn inspect(&self, name: &LockName) -> Result<View> {
        reply::view(self.ask(name, Words::of_nobody("inspect")).await?, name.clone())
    }

    async fn list(&self, prefix: &str, limit: usize) -> Result<Vec<View>> {
        let keys = self.links.here()?.scan(keys::ALL_CELLS, PATIENCE).await?;
        let mut names: Vec<LockName> = keys
            .iter()
            .filter_map(|cell| keys::lock_of(cell)?.strip_prefix(&self.config().prefix))
            .filter(|name| name.starts_with(prefix))
            .filter_map(|name| LockName::new(name).ok())
            .collect();
        names.sort_unstable();
        names.dedup();
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
        self.links.store().listeners.add(listener);
    }

    fn watch(&self, claim: &Claim, waits: bool) -> bool {
        // Its claim was sent with the channel of this line, and messages were on before.
        let Ok(keys) = self.keys_of(&claim.name) else { return false };
        waits && self.links.here().is_ok_and(|line| line.hears(&keys))
    }

    async fn ping(&self) -> Result<()> {
        self.links.here()?.ping(PATIENCE).await
    }

    fn keys(&self, name: &LockName) -> Vec<(&'static str, String)> {
        match self.keys_of(name) {
            Ok(keys) => vec![("key", keys.lock), ("state", keys.cell)],
            Err(_) => Vec::new(),
        }
    }
}

impl RedisBackend {
    fn renewal(&self, member: &Member) -> Result<Turn> {
        let words = if member.change {
            let change = Words::new("change", member.id).list(2);
            change.micros(member.ttl).flag(member.detached)
        } else {
            Words::new("renew", member.id).double(member.ttl)
        };
        self.turn(&member.name, Kind::Other, words)
    }
}
