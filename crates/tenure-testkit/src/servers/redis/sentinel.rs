//! A Redis primary with replicas, and sentinels that agree on who it is.

use std::io;
use std::time::Duration;

use super::server::RedisServer;
use super::setup::{Kind, RedisSetup};
use crate::servers::patience::{look_for, until};

/// The name under which sentinels know the primary.
pub const NAME: &str = "tenure";
/// How many sentinels there are.
const SENTINELS: usize = 3;
/// How many of them must agree that the primary is down.
const QUORUM: &str = "2";
/// After how many milliseconds of silence a server is taken for dead.
///
/// A sentinel asks a new primary for the first time after a second. If that were its limit as well,
/// it would now and then find the new one dead at once, and go back to the old one, if that is up
/// again, without its data.
const DOWN_AFTER: &str = "1500";
/// After how many milliseconds a failover that does not succeed is tried again.
const FAILOVER_TIMEOUT: &str = "3000";
/// How long all of them may take to know each other, or to agree.
const AGREES_WITHIN: Duration = Duration::from_secs(30);

/// A primary, its replicas and three sentinels, killed when they are dropped.
///
/// Everything blocks its thread for a bounded time, and panics if a server does not do what it is
/// told.
///
/// Sentinels look at most every ten seconds whether a replica is one: an old primary that comes
/// back takes writes for that long, beside the new one.
#[derive(Debug)]
pub struct RedisSentinel {
    sentinels: Vec<RedisServer>,
    servers: Vec<RedisServer>,
}

impl RedisSentinel {
    /// Starts a primary with one replica and three sentinels, two of which must agree, and waits
    /// until all know each other.
    ///
    /// # Panics
    /// If that fails, with what a server said; if `redis-server` is not installed.
    #[must_use]
    pub fn start() -> Self {
        Self::start_as(1, &RedisSetup::new())
    }

    /// The same, with so many replicas, and servers that are all like this.
    ///
    /// # Panics
    /// If that fails, with what a server said; if `redis-server` is not installed.
    #[must_use]
    pub fn start_as(replicas: usize, setup: &RedisSetup) -> Self {
        // Otherwise a replica would wait whether another one comes.
        let setup = setup.clone().with(&["--repl-diskless-sync-delay", "0"]);
        let primary = setup.clone().start();
        let port = primary.port().to_string();
        let replica = setup.clone().with(&["--replicaof", "127.0.0.1", &port]);
        let mut servers = vec![primary];
        servers.extend((0..replicas).map(|_| replica.clone().start()));
        until(AGREES_WITHIN, "replicas have what the primary has", || {
            servers[1..].iter().all(is_in_sync)
        });
        let sentinel = sentinel_of(&port, setup.password.as_deref());
        let sentinels = (0..SENTINELS).map(|_| sentinel.clone().start()).collect();
        let group = Self { sentinels, servers };
        until(AGREES_WITHIN, "sentinels know each other and the replicas", || {
            group.sentinels.iter().all(|sentinel| group.is_known_to(sentinel))
        });
        group
    }

    fn is_known_to(&self, sentinel: &RedisServer) -> bool {
        let Ok(reply) = sentinel.call(&["SENTINEL", "MASTER", NAME]) else { return false };
        let texts = reply.texts();
        let is = |field: &str, value: &str| texts.chunks(2).any(|pair| pair == [field, value]);
        is("flags", "master")
            && is("num-slaves", &(self.servers.len() - 1).to_string())
            && is("num-other-sentinels", &(SENTINELS - 1).to_string())
    }

    /// The name under which clients ask the sentinels for the primary.
    #[must_use]
    pub fn name(&self) -> &'static str {
        NAME
    }

    /// The sentinels.
    #[must_use]
    pub fn sentinels(&self) -> &[RedisServer] {
        &self.sentinels
    }

    /// Where clients find the sentinels.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.sentinels.iter().map(RedisServer::url).collect()
    }

    /// The servers: first the one that was the primary in the beginning.
    #[must_use]
    pub fn servers(&self) -> &[RedisServer] {
        &self.servers
    }

    /// The primary, once all sentinels that answer agree, and it agrees as well.
    ///
    /// # Panics
    /// If they do not.
    #[must_use]
    pub fn primary(&self) -> &RedisServer {
        look_for(AGREES_WITHIN, || self.agreed()).expect("sentinels agree on a primary")
    }

    /// The primary, once it is another one than this.
    ///
    /// # Panics
    /// If it stays the same, or there is none.
    #[must_use]
    pub fn primary_after(&self, old: &RedisServer) -> &RedisServer {
        look_for(AGREES_WITHIN, || self.agreed().filter(|new| new.port() != old.port()))
            .expect("sentinels agree on a new primary")
    }

    /// The others, which follow it or have to.
    #[must_use]
    pub fn replicas_of(&self, primary: &RedisServer) -> Vec<&RedisServer> {
        self.servers.iter().filter(|server| server.port() != primary.port()).collect()
    }

    fn agreed(&self) -> Option<&RedisServer> {
        let answers = self.sentinels.iter().filter_map(|sentinel| primary_port(sentinel).ok());
        let answers: Vec<u16> = answers.collect();
        let port = *answers.first()?;
        let server = self.servers.iter().find(|server| server.port() == port)?;
        let agreed = answers.iter().all(|&answer| answer == port) && is_primary(server);
        agreed.then_some(server)
    }

    /// Makes the sentinels choose another primary while the old one is well, waits until they have,
    /// and answers the new one. The old one becomes a replica within some ten
    /// seconds.
    ///
    /// # Panics
    /// If they do not.
    pub fn failover(&self) -> &RedisServer {
        let old = self.primary();
        // A sentinel refuses as long as it has not heard enough of the replicas.
        until(AGREES_WITHIN, "a sentinel fails over", || {
            self.sentinels[0].call(&["SENTINEL", "FAILOVER", NAME]).is_ok()
        });
        self.primary_after(old)
    }

    /// Kills the primary, and answers which one that was. The sentinels find out by themselves;
    /// [`RedisSentinel::primary_after`] waits for it.
    ///
    /// # Panics
    /// If there is no primary.
    pub fn kill_primary(&self) -> &RedisServer {
        let primary = self.primary();
        primary.kill();
        primary
    }
}

fn sentinel_of(port: &str, password: Option<&str>) -> RedisSetup {
    let setup = RedisSetup::new().kind(Kind::Sentinel);
    let setup = setup.with(&["--sentinel", "monitor", NAME, "127.0.0.1", port, QUORUM]);
    let setup = setup.with(&["--sentinel", "down-after-milliseconds", NAME, DOWN_AFTER]);
    let setup = setup.with(&["--sentinel", "failover-timeout", NAME, FAILOVER_TIMEOUT]);
    match password {
        Some(password) => setup.with(&["--sentinel", "auth-pass", NAME, password]),
        None => setup,
    }
}

pub(super) fn is_in_sync(replica: &RedisServer) -> bool {
    let info = replica.call(&["INFO", "replication"]);
    info.is_ok_and(|info| info.to_string().contains("master_link_status:up"))
}

fn is_primary(server: &RedisServer) -> bool {
    server.call(&["ROLE"]).is_ok_and(|role| role.texts().first() == Some(&"master"))
}

/// Where a sentinel says that the primary is.
fn primary_port(sentinel: &RedisServer) -> io::Result<u16> {
    let reply = sentinel.call(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME])?;
    let port = reply.texts().get(1).and_then(|port| port.parse().ok());
    port.ok_or_else(|| io::Error::other(format!("no port: {reply}")))
}
