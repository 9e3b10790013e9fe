//! Looks at a deployment, and says what it makes of the promises.
//!
//! Everything is asked of the servers or tried with a lock of its own, which is removed. What may
//! not be asked is told as not known, with the right that is missing.

mod asked;
mod judged;
mod rights;
mod servers;
mod timing;
mod list;
mod voters;

use std::time::Duration;

use redis::{RedisResult, Value};
use tenure_core::probe::{Trial, handed_over};
use tenure_core::{Error, ErrorKind, Finding, Result};

use crate::backend::RedisBackend;
use crate::config::Place;
use crate::error;
use crate::keys::Keys;

pub use self::voters::examine_voters;

use self::asked::Asked;
use self::servers::Servers;

/// How long all of it may take.
const LIMIT: Duration = Duration::from_secs(30);

impl RedisBackend {
    /// Looks at the deployment and measures it; takes about a second. Needs a tokio runtime with
    /// time and I/O. `ttl` is that of the locks which are to live there.
    ///
    /// The findings are about `server`, `cluster`, `rights`, `lock`, `messages`, `list`, `memory`,
    /// `restart`, `failover`, `round_trip`, `spikes`, `clock` and `timeouts`.
    ///
    /// # Errors
    /// `Unreachable` or `Denied` if there is no connection, or none any more. A deployment that does
    /// not do what locks need is a [`Finding`], not an error.
    ///
    /// # Cancel safety
    /// A lock that it was trying ends by its ttl of a few seconds; it is in nobody's way.
    pub async fn examine(&self, ttl: Duration) -> Result<Vec<Finding>> {
        tokio::time::timeout(LIMIT, self.look(ttl)).await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Unreachable, "the server answered too slowly to be examined")
                .with_nothing_changed())
        })
    }

    async fn look(&self, ttl: Duration) -> Result<Vec<Finding>> {
        let mut probe = Probe::open(self).await?;
        let mut findings = probe.of_servers().await;
        findings.extend([probe.rights().await, probe.trial.lock().await]);
        findings.push(handed_over(probe.trial.hand_over().await));
        findings.extend([probe.list().await, probe.round_trip(ttl).await]);
        probe.clean_up().await;
        findings.sort_by_key(|finding| ORDER.iter().position(|what| *what == finding.what));
        Ok(findings)
    }
}

/// The most important first.
const ORDER: [&str; 13] = [
    "server",
    "cluster",
    "rights",
    "lock",
    "messages",
    "list",
    "memory",
    "restart",
    "failover",
    "round_trip",
    "spikes",
    "clock",
    "timeouts",
];

/// Connections of its own, and a lock that nobody else uses.
struct Probe<'a> {
    backend: &'a RedisBackend,
    servers: Servers,
    trial: Trial<'a, RedisBackend>,
    keys: Keys,
}

impl<'a> Probe<'a> {
    async fn open(backend: &'a RedisBackend) -> Result<Self> {
        let config = backend.config();
        let servers = Servers::open(&config.place).await.map_err(|e| error::not_sent(&e))?;
        let trial = Trial::new(backend);
        let keys = Keys::of(&config.prefix, trial.name(), config.is_cluster())?;
        Ok(Self { backend, servers, trial, keys })
    }

    /// One answer of whoever has the lock, or what it said instead.
    async fn ask(&mut self, words: &[&str]) -> RedisResult<Value> {
        self.servers.ask(words).await
    }

    /// What the servers say of themselves.
    async fn of_servers(&mut self) -> Vec<Finding> {
        let config = self.backend.config();
        let (is_cluster, wanted) = (config.is_cluster(), config.min_replicas);
        let sentinels = match &config.place {
            Place::Sentinel { sentinels, .. } => Some(sentinels.len()),
            _ => None,
        };
        let mut all = Vec::new();
        for server in self.servers.all() {
            let asked = Asked::of(server).await;
            let place = judged::Place { is_cluster, sentinels, min_replicas: wanted };
            all.push((server.address(), judged::all(&asked, &place)));
        }
        let mut findings = merged(all);
        if is_cluster {
            findings.push(judged::cluster(self.ask(&["CLUSTER", "INFO"]).await.ok().as_ref()));
        }
        findings
    }

    /// Leaves nothing behind. What cannot be removed ends by itself within a day.
    async fn clean_up(&mut self) {
        let (lock, cell) = (self.keys.lock.clone(), self.keys.cell.clone());
        let _ = self.ask(&["DEL", &lock]).await;
        let _ = self.ask(&["DEL", &cell]).await;
    }
}

/// One finding of several servers' about the same: once if they agree, else with the servers' names.
fn merged(all: Vec<(String, Vec<Finding>)>) -> Vec<Finding> {
    let count = all.len();
    let mut findings: Vec<(Vec<String>, Finding)> = Vec::new();
    for (address, one) in all {
        for finding in one {
            let same = |f: &Finding| {
                f.what == finding.what
                    && f.standing == finding.standing
                    && f.detail == finding.detail
            };
            match findings.iter_mut().find(|(_, f)| same(f)) {
                Some((addresses, _)) => addresses.push(address.clone()),
                None => findings.push((vec![address.clone()], finding)),
            }
        }
    }
    let told = |(addresses, mut finding): (Vec<String>, Finding)| {
        if count == 1 {
            return finding;
        }
        let which = match addresses.len() == count {
            true => format!("all {count} primaries"),
            false => addresses.join(", "),
        };
        finding.detail = format!("{which}: {}", finding.detail);
        finding.with_fact("nodes", addresses)
    };
    findings.into_iter().map(told).collect()
}
