//! The verbs, each one turn of a script.

use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::Value as Redis;
use tenure_core::backend::{
    Backend, Change, Claim, Evicted, Eviction, LeaseRef, Listener, Member, Release, Renewal, Value,
    Verdict,
};
use tenure_core::{
    Capabilities, Details, Error, ErrorKind, Listeners, LockName, Result, Seats, View,
};

use crate::config::RedisConfig;
use crate::error::strange;
use crate::keys::{self, Keys};
use crate::link::{Link, Store};
use crate::links::Links;
use crate::reply;
use crate::script::{Kind, Scripts, Turn, Words};

/// How long a call waits for an answer before the connection counts as dead.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long replicas are given to take a grant.
const REPLICATE: Duration = Duration::from_millis(500);
/// How many keys a listing asks the server to look at in one step.
const SCAN_STEP: usize = 1000;
/// How many steps a listing takes at most.
const SCAN_STEPS: usize = 100_000;

/// Locks on a Redis server, behind Sentinel or on a cluster. Redis 7.0 or newer, or Valkey.
///
/// Calls need a tokio runtime with time and I/O, or none: then a thread of the backend's own drives
/// the connection. One connection per runtime carries the calls of all its tasks, and messages.
#[derive(Debug)]
pub struct RedisBackend {
    links: Links,
    capabilities: Capabilities,
    address: Arc<str>,
}

impl RedisBackend {
    /// A backend for these servers. Connects when it is first used.
    pub fn new(config: RedisConfig) -> Self {
        let address = config.masked().into();
        let scripts = match &config.test_clock {
            Some(key) => Scripts::with_test_clock(key),
            None => Scripts::new(),
        };
        let store = Store { config, scripts, listeners: Listeners::default() };
        Self {
            links: Links::new(Arc::new(store)),
            capabilities: Capabilities::full("redis"),
            address,
        }
    }

    /// As [`RedisBackend::new`], from an address; see [`RedisConfig::from_url`].
    ///
    /// # Errors
    /// `Invalid` if the address is not understood.
    pub fn open(url: &str) -> Result<Self> {
        Ok(Self::new(RedisConfig::from_url(url)?))
    }

    fn config(&self) -> &RedisConfig {
        &self.links.store().config
    }

    fn keys_of(&self, name: &LockName) -> Result<Keys> {
        Keys::of(&self.config().prefix, name, self.config().is_cluster())
    }

    fn turn(&self, name: &LockName, kind: Kind, words: Words) -> Result<Turn> {
        Ok(Turn { kind, keys: self.keys_of(name)?, what: words.done() })
    }

    /// Takes one turn that is no acquire.
    async fn ask(&self, name: &LockName, words: Words) -> Result<Redis> {
        let turn = self.turn(name, Kind::Other, words)?;
        one(self.links.here()?.take(vec![turn], false, PATIENCE).await?)
    }

    /// Waits until enough replicas have what was just granted.
    ///
    /// # Errors
    /// `Unreachable` if too few have it in time; then the grant must not count.
    async fn replicate(&self, link: &Arc<Link>, name: &LockName) -> Result<()> {
        let wanted = self.config().min_replicas;
        if wanted == 0 {
            return Ok(());
        }
        let have = link.replicate(self.keys_of(name)?.cell, wanted, REPLICATE).await?;
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

fn one(answers: Vec<Redis>) -> Result<Redis> {
    answers.into_iter().next().ok_or_else(|| strange("no answer"))
}

fn details(details: &Details) -> String {
    serde_json::to_string(details).expect("details are JSON")
}

impl Backend for RedisBackend {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn address(&self) -> Arc<str> {
        self.address.clone()
    }

    async fn acquire(&self, claim: &Claim) -> Result<Verdict> {
        let link = self.links.here()?;
        let channel = link.channel();
        let (force, by) = match &claim.force {
            Some(why) => (&**why, &*claim.details.owner.label),
            None => ("", ""),
        };
        // What a holder keeps, as it is stored.
        let part = Words::loose()
            .text(&claim.id.to_string())
            .seats(claim.seats)
            .micros(claim.ttl)
            .flag(claim.detached)
            .text(&details(&claim.details))
            .text(channel);
        let rest = Words::list(8)
            .flag(claim.wait)
            .micros(claim.wait_ttl)
            .micros(claim.pick_up)
            .flag(claim.or_value)
            .flag(claim.upgrade)
            .text(force)
            .text(by)
            .signed(claim.priority.get());
        let is_plain = claim.seats.is_all() && !claim.upgrade && claim.force.is_none();
        // Never before the lease, which begins within the server's millisecond.
        let px = claim.ttl.as_millis() + 2;
        let words = Words::new("acquire", 6)
            .member(claim.member)
            .bytes(&part.done())
            .micros(claim.ttl)
            .text(&px.to_string())
            .flag(is_plain)
            .bytes(&rest.done());
        let turn = self.turn(&claim.name, Kind::Acquire, words)?;
        let answer = one(link.take(vec![turn], true, PATIENCE).await?)?;
        let verdict = reply::verdict(answer, claim)?;
        if let Verdict::Granted(_) = verdict {
            self.replicate(&link, &claim.name).await?;
        }
        Ok(verdict)
    }

    async fn withdraw(&self, claim: &Claim) -> Result<()> {
        let words = Words::new("withdraw", 3)
            .member(claim.member)
            .text(&claim.id.to_string())
            .micros(claim.tombstone_for());
        reply::done(self.ask(&claim.name, words).await?)
    }

    async fn renew(&self, members: &[Member]) -> Vec<Renewal> {
        let turns: Result<Vec<Turn>> = members.iter().map(|m| self.renewal(m)).collect();
        let shortest = members.iter().map(|m| m.ttl).min().unwrap_or(PATIENCE);
        let patience = (shortest / 6).clamp(Duration::from_millis(50), PATIENCE);
        let answers = async {
            let (link, turns) = (self.links.here()?, turns?);
            if !self.config().is_cluster() {
                return link.take(turns, false, patience).await;
            }
            let each = turns.into_iter().map(|turn| link.take(vec![turn], false, patience));
            let answers = futures_util::future::try_join_all(each).await?;
            answers.into_iter().map(one).collect()
        };
        match answers.await {
            Ok(answers) => answers.into_iter().map(reply::renewal).collect(),
            Err(error) => vec![Renewal::Unknown(error); members.len()],
        }
    }

    async fn downgrade(&self, lease: &LeaseRef, seats: Seats) -> Result<Change> {
        let words =
            Words::new("downgrade", 4).member(lease.id).text(&lease.fence.to_string()).seats(seats);
        reply::change(self.ask(&lease.name, words).await?)
    }

    async fn release(&self, lease: &LeaseRef, value: Option<&Value>) -> Result<Release> {
        let words = match value {
            Some(value) => Words::new("release", 4)
                .member(lease.id)
                .flag(true)
                .bytes(&value.bytes)
                .micros(value.keep),
            None => Words::new("release", 2).member(lease.id).flag(false),
        };
        reply::release(self.ask(&lease.name, words).await?)
    }

    async fn put(&self, lease: &LeaseRef, value: &Value) -> Result<Change> {
        let words = Words::new("put", 3).member(lease.id).bytes(&value.bytes).micros(value.keep);
        reply::change(self.ask(&lease.name, words).await?)
    }

    async fn evict(&self, name: &LockName, why: &Eviction) -> Result<Evicted> {
        let only_if = why.only_if.map(|fence| fence.to_string()).unwrap_or_default();
        let words = Words::new("evict", 4)
            .text(&only_if)
            .flag(why.stolen)
            .text(&why.reason.by)
            .text(&why.reason.why);
        reply::evicted(self.ask(name, words).await?)
    }

    async fn inspect(&self, name: &LockName) -> Result<View> {
        reply::view(self.ask(name, Words::new("inspect", 0)).await?, name.clone())
    }

    async fn list(&self, prefix: &str, limit: usize) -> Result<Vec<View>> {
        let link = self.links.here()?;
        let keys = link.scan(keys::ALL_CELLS, SCAN_STEP, SCAN_STEPS, PATIENCE).await?;
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

    fn watch(&self, _claim: &Claim, waits: bool) -> bool {
        // Its claim was sent with the channel of this link, and messages were on before.
        waits && self.links.here().is_ok_and(|link| link.hears())
    }

    async fn ping(&self) -> Result<()> {
        self.links.here()?.command(redis::cmd("PING"), PATIENCE).await.map(drop)
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
        let words = Words::new("renew", 4)
            .member(member.id)
            .flag(member.change)
            .micros(member.ttl)
            .flag(member.detached);
        self.turn(&member.name, Kind::Other, words)
    }
}
