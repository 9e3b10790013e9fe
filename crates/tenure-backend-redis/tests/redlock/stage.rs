//! What the tests share.

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tenure_backend_quorum::QuorumBackend;
use tenure_backend_redis::RedisVoter;
use tenure_core::LockManager;
use tenure_core::backend::DynBackend;
use tenure_testkit::history::{Demand, Promise, Rules};
use tenure_testkit::lock_taker::{Doing, Fleet, Job};
use tenure_testkit::proxy::FaultProxy;
use tenure_testkit::servers::redis::{RedisServer, RedisSetup};
pub(crate) use tenure_testkit::stage::*;

/// The longest ttl of most sets, and so how long a new or restarted server gives no votes.
pub(crate) const LONGEST: Duration = Duration::from_secs(2);
/// A ttl that is waited for.
pub(crate) const SHORT: Duration = Duration::from_millis(1000);
/// A free lock goes to somebody who polls within this, on a machine that has other things to do.
pub(crate) const RECOVERY: Duration = Duration::from_secs(4);
/// How late a busy machine may run the thread that tells of a loss.
pub(crate) const SLACK: Duration = Duration::from_millis(600);

pub(crate) fn backend(url: &str) -> Arc<dyn DynBackend> {
    let (voters, longest) = RedisVoter::all_of(url).unwrap();
    Arc::new(QuorumBackend::new("redlock", voters, longest.unwrap()).unwrap())
}

/// Servers that vote, a proxy before each, and a place for histories; gone with the test.
pub(crate) struct Set {
    pub(crate) servers: Vec<RedisServer>,
    pub(crate) proxies: Vec<FaultProxy>,
    longest: String,
    dir: TempDir,
}

impl Set {
    /// Servers that keep nothing, and have been voting for long.
    pub(crate) fn old(count: usize, longest: &str) -> Self {
        Self::with(count, longest, RedisSetup::new)
    }

    pub(crate) fn with(count: usize, longest: &str, setup: impl Fn() -> RedisSetup) -> Self {
        let set = Self::new(count, longest, setup);
        set.servers.iter().for_each(|server| introduce(server, longest));
        set
    }

    /// Servers that nobody has asked for a vote yet.
    pub(crate) fn new(count: usize, longest: &str, setup: impl Fn() -> RedisSetup) -> Self {
        let servers: Vec<_> = (0..count).map(|_| setup().start()).collect();
        let proxies = servers.iter().map(|s| FaultProxy::start(s.port())).collect();
        let dir = tempfile::tempdir().unwrap();
        Self { servers, proxies, longest: longest.to_owned(), dir }
    }

    fn url_of(&self, ports: impl Iterator<Item = u16>) -> String {
        let hosts: Vec<_> = ports.map(|port| format!("127.0.0.1:{port}")).collect();
        format!("redlock://{}?max_ttl={}", hosts.join(","), self.longest)
    }

    /// The way past the proxies.
    pub(crate) fn url(&self) -> String {
        self.url_of(self.servers.iter().map(RedisServer::port))
    }

    /// The way through the proxies.
    pub(crate) fn url_by_proxies(&self) -> String {
        self.url_of(self.proxies.iter().map(FaultProxy::port))
    }

    pub(crate) fn manager(&self) -> LockManager {
        LockManager::new(backend(&self.url_by_proxies())).unwrap()
    }

    /// A manager with a way of its own.
    pub(crate) fn bystander(&self) -> LockManager {
        LockManager::new(backend(&self.url())).unwrap()
    }

    pub(crate) fn fleet(&self, seed: u64) -> Fleet {
        fleet_in(self.dir.path(), seed)
    }

    /// A user of the lock that comes through the proxies.
    pub(crate) fn job(&self, ttl: Duration) -> Job {
        Job { ttl, ..Job::new(&self.url_by_proxies(), X) }
    }

    /// A user of the lock that comes past them.
    pub(crate) fn direct(&self, ttl: Duration) -> Job {
        Job { ttl, ..Job::new(&self.url(), X) }
    }

    /// What there is on the servers when nobody uses them any more, besides what has to be.
    pub(crate) fn left(&self, ttl: Duration) -> Vec<String> {
        pass(ttl + Duration::from_millis(50));
        let mut left = Vec::new();
        for (at, server) in self.servers.iter().enumerate() {
            let keys = server.cli(&["--raw", "KEYS", "*"]);
            for key in keys.lines().filter(|key| !key.is_empty() && *key != "tenure:run") {
                let is_state = key.starts_with("tenure:vote:");
                if !is_state || server.cli(&["PTTL", key]).starts_with('-') {
                    left.push(format!("{key} at {at}"));
                }
            }
        }
        left
    }

    /// How many servers have the key of a lock.
    pub(crate) fn bound(&self, name: &str) -> usize {
        let is_bound = |server: &&RedisServer| server.cli(&["EXISTS", name]) == "1";
        self.servers.iter().filter(is_bound).count()
    }
}

/// What a server calls itself since it was started.
pub(crate) fn run_id(server: &RedisServer) -> String {
    let info = server.cli(&["INFO", "server"]);
    info.lines().find_map(|line| line.strip_prefix("run_id:")).unwrap().trim().to_owned()
}

/// Makes a server one that has been voting for long.
pub(crate) fn introduce(server: &RedisServer, longest: &str) {
    let id = run_id(server);
    let seconds: u64 = longest.trim_end_matches('s').parse().unwrap();
    let longest = (seconds * 1_000_000).to_string();
    server.cli(&["HSET", "tenure:run", "id", &id, "since", "1", "longest", &longest]);
}

/// By what runs are judged. Whoever polls is served in no order.
pub(crate) fn rules(ttl: Duration) -> Rules {
    Rules { lost_slack: SLACK, ..Rules::new(ttl, RECOVERY) }
        .expect(Promise::Order, Demand::Measured)
}

/// Somebody who asks again and again.
pub(crate) fn a_waiter(fleet: &mut Fleet, job: Job) -> String {
    let waiter = fleet.start(&job.holding()).unwrap();
    fleet.until(&waiter, Doing::Waiting).unwrap();
    waiter
}
