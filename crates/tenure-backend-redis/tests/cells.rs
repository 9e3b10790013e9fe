//! What is left on the server, and for how long.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::sync::Arc;
use std::time::Duration;

use tenure_backend_redis::{RedisBackend, RedisConfig};
use tenure_core::backend::{Backend, Claim, Kept, LeaseRef, Member, Renewal, Verdict};
use tenure_core::{Details, LockManager, LockName, LockRequest, Owner, Priority, Token};
use tenure_testkit::servers::redis::RedisServer;

/// A lock that nobody uses is forgotten after a day or two and what it was held for.
const DAY: Duration = Duration::from_secs(86_400);
const TTL: Duration = Duration::from_secs(20);

fn milliseconds_left(server: &RedisServer, key: &str) -> u128 {
    let left: i64 = server.cli(&["PTTL", key]).parse().unwrap();
    assert!(0 < left, "{key} has no end: {left}");
    u128::try_from(left).unwrap()
}

async fn hold_once(server: &RedisServer, name: &str, how: fn(LockRequest) -> LockRequest) {
    let locks = LockManager::new(Arc::new(RedisBackend::open(&server.url()).unwrap())).unwrap();
    let guard = how(locks.lock(name).ttl(TTL)).acquire().await.unwrap();
    let cell = format!("tenure:{{{name}}}");
    for key in [name, &cell] {
        assert!(milliseconds_left(server, key) < (3 * DAY).as_millis());
    }
    guard.release().await.unwrap();
    let left = milliseconds_left(server, &cell);
    assert!((DAY - TTL).as_millis() < left && left < (3 * DAY).as_millis(), "{left}");
    assert_eq!(server.cli(&["EXISTS", name]), "0");
}

fn bytes(server: &RedisServer, keys: &[&str]) -> u64 {
    let of =
        |key: &&str| server.cli(&["MEMORY", "USAGE", key, "SAMPLES", "0"]).parse::<u64>().unwrap();
    keys.iter().map(of).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_takes_little_of_the_servers_memory() {
    let server = RedisServer::start();
    let locks = LockManager::new(Arc::new(RedisBackend::open(&server.url()).unwrap())).unwrap();
    for _ in 0..20 {
        let guard = locks.acquire("x", TTL).await.unwrap();
        let held = bytes(&server, &["x", "tenure:{x}"]);
        assert!(held < 2_500, "{held} bytes while it is held");
        guard.release().await.unwrap();
        let free = bytes(&server, &["tenure:{x}"]);
        assert!(free < 2_000, "{free} bytes while it is free");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_of_a_lock_that_nobody_uses_ends() {
    let server = RedisServer::start();
    hold_once(&server, "plain", |request| request).await;
    hold_once(&server, "shared", LockRequest::shared).await;
    hold_once(&server, "permits", |request| request.permits(1, 3)).await;
    // A second time it is there already.
    hold_once(&server, "plain", |request| request).await;
}

/// Where the scripts read the time, instead of the server's clock.
const CLOCK: &str = "tenure-test-clock";

#[tokio::test(flavor = "multi_thread")]
async fn the_state_of_a_lock_lasts_for_as_long_as_it_is_renewed() {
    let server = RedisServer::start();
    let time = server.cli(&["--raw", "TIME"]);
    server.cli(&["HSET", CLOCK, "s", time.lines().next().unwrap(), "us", "0"]);
    let config = RedisConfig::from_url(&server.url()).unwrap().test_clock(CLOCK);
    let backend = RedisBackend::new(config);
    let details = Arc::new(Details::of(Owner::this_process()));
    let ttl = DAY / 2;
    let mut claim = Claim::new(LockName::new("x").unwrap(), Token::random(), ttl, details);
    claim.first = true;
    let Verdict::Granted(grant) = backend.acquire(&claim).await.unwrap() else {
        panic!("it is free");
    };
    let member = Member::new(claim.name.clone(), claim.token.clone(), ttl, Some(grant.fence));
    for quarter in 1..=12 {
        server.cli(&["HINCRBY", CLOCK, "s", &(DAY / 4).as_secs().to_string()]);
        let renewed = backend.renew(std::slice::from_ref(&member)).await;
        assert!(matches!(&renewed[..], [Renewal::Kept(Kept::Holding(_))]), "{renewed:?}");
        let ends = |key| server.cli(&["PEXPIRETIME", key]).parse::<i64>().unwrap();
        let (key, cell) = (ends("x"), ends("tenure:{x}"));
        assert!(key + 3_600_000 < cell, "after {quarter} quarters of a day: {key}, {cell}");
    }
}

fn waiting(details: &Arc<Details>, priority: i32) -> Claim {
    let name = LockName::new("x").unwrap();
    let mut claim = Claim::new(name, Token::random(), DAY / 2, details.clone());
    claim.wait = true;
    claim.first = true;
    claim.priority = Priority::new(priority).unwrap();
    claim
}

async fn in_line(backend: &RedisBackend, claims: &[Claim]) {
    let view = backend.inspect(&claims[0].name).await.unwrap();
    let found: Vec<_> = view.waiters.iter().map(|waiter| waiter.id).collect();
    assert_eq!(found, claims.iter().map(|claim| claim.member.holder()).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_of_a_lock_with_hundreds_of_waiters_reads_and_writes_some_of_them_only() {
    const WAITERS: i32 = 300;
    let server = RedisServer::start();
    let backend = RedisBackend::open(&server.url()).unwrap();
    let details = Arc::new(Details::of(Owner::this_process()));
    let held = waiting(&details, 0);
    let Verdict::Granted(grant) = backend.acquire(&held).await.unwrap() else {
        panic!("it is free");
    };
    let mut claims = Vec::new();
    for n in 0..WAITERS {
        let claim = waiting(&details, (n * 7 % 5) - 2);
        let Verdict::Queued(place) = backend.acquire(&claim).await.unwrap() else {
            panic!("it is held");
        };
        // Half a minute's head start for each point.
        let at = claims.partition_point(|c: &Claim| claim.priority <= c.priority);
        assert_eq!(place.ahead, at);
        claims.insert(at, claim);
    }
    in_line(&backend, &claims).await;
    let bytes = |field: &str| server.cli(&["HSTRLEN", "tenure:{x}", field]).parse::<usize>();
    let one = serde_json::to_string(&*details).unwrap().len() + 300;
    assert!(bytes("q").unwrap() <= 32 * one, "{:?}", bytes("q"));
    assert!(bytes("i").unwrap() <= 64 * WAITERS as usize, "{:?}", bytes("i"));
    // Some go, from everywhere.
    let (gone, stay): (Vec<_>, Vec<_>) =
        claims.into_iter().enumerate().partition(|(n, _)| n % 3 == 0 || (100..150).contains(n));
    for (_, claim) in gone {
        backend.withdraw(&claim).await.unwrap();
    }
    let mut claims: Vec<_> = stay.into_iter().map(|(_, claim)| claim).collect();
    in_line(&backend, &claims).await;
    // Some are refreshed, and some ask again.
    for claim in claims.iter().step_by(7) {
        let member = Member::new(claim.name.clone(), claim.token.clone(), claim.ttl, None);
        let renewed = backend.renew(std::slice::from_ref(&member)).await;
        assert!(matches!(&renewed[..], [Renewal::Kept(Kept::Waiting)]), "{renewed:?}");
        let Verdict::Queued(place) = backend.acquire(claim).await.unwrap() else {
            panic!("it is held");
        };
        assert_eq!(claims[place.ahead].id, claim.id);
    }
    // All others get it, one after the other.
    let mut lease = LeaseRef::new(held.name.clone(), held.token.clone(), grant.fence);
    while !claims.is_empty() {
        let next = claims.remove(0);
        backend.release(&lease, None).await.unwrap();
        let Verdict::Granted(grant) = backend.acquire(&next).await.unwrap() else {
            panic!("it is next");
        };
        lease = LeaseRef::new(next.name.clone(), next.token.clone(), grant.fence);
    }
    backend.release(&lease, None).await.unwrap();
    // A queue that nobody stands in leaves nothing behind.
    let fields = server.cli(&["--raw", "HKEYS", "tenure:{x}"]);
    let pages = fields.lines().filter(|field| field.starts_with('q') && field.len() > 1);
    assert_eq!(pages.count(), 0, "{fields}");
    assert_eq!(server.cli(&["HSTRLEN", "tenure:{x}", "i"]), "0");
}
