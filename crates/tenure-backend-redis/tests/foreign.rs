//! Other programs take the same keys: whoever has one excludes the other, and nobody waits for a
//! message that will not come.
//!
//! The commands have the shape of those that the other libraries send.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod kit;

use std::time::Duration;

use kit::{IN_THE_END, LONG, SOON, lives_on, manager, until, until_waiting, waits, within};
use tenure_core::{Error, ErrorKind, LossReason, NotReleased};
use tenure_testkit::servers::redis::RedisServer;

/// How another program gives a lock back.
struct Foreign {
    who: &'static str,
    /// After `EVAL`: the script, and the number of keys.
    release: &'static str,
    extend: &'static str,
}

/// Python's `redis.lock.Lock`.
const REDIS_PY: Foreign = Foreign {
    who: "redis-py",
    release: "local token = redis.call('get', KEYS[1]) \
              if not token or token ~= ARGV[1] then return 0 end \
              redis.call('del', KEYS[1]) return 1",
    extend: "local token = redis.call('get', KEYS[1]) \
             if not token or token ~= ARGV[1] then return 0 end \
             local expiration = redis.call('pttl', KEYS[1]) \
             if not expiration then expiration = 0 end \
             if expiration < 0 then return 0 end \
             local newttl = ARGV[2] \
             if ARGV[3] == '0' then newttl = ARGV[2] + expiration end \
             redis.call('pexpire', KEYS[1], newttl) return 1",
};

/// Go's redsync and the page on distributed locks with Redis.
const REDSYNC: Foreign = Foreign {
    who: "redsync",
    release: "local val = redis.call('GET', KEYS[1]) \
              if val == ARGV[1] then return redis.call('DEL', KEYS[1]) \
              elseif val == false then return -1 else return 0 end",
    extend: "if redis.call('GET', KEYS[1]) == ARGV[1] then \
             return redis.call('PEXPIRE', KEYS[1], ARGV[2]) else return 0 end",
};

/// JavaScript's node-redlock, which acquires in a script as well.
const REDLOCK_JS: Foreign = Foreign {
    who: "node-redlock",
    release: "local count = 0 for i, key in ipairs(KEYS) do \
              if redis.call('get', key) == ARGV[1] then redis.pcall('del', key) \
              count = count + 1 end end return count",
    extend: "for i, key in ipairs(KEYS) do if redis.call('get', key) ~= ARGV[1] then return 0 end end \
             for i, key in ipairs(KEYS) do redis.call('set', key, ARGV[1], 'PX', ARGV[2]) end \
             return #KEYS",
};
const REDLOCK_JS_ACQUIRE: &str = "for i, key in ipairs(KEYS) do \
                                  if redis.call('exists', key) == 1 then return 0 end end \
                                  for i, key in ipairs(KEYS) do \
                                  redis.call('set', key, ARGV[1], 'PX', ARGV[2]) end return #KEYS";

const TOKEN: &str = "0123456789abcdef0123";

impl Foreign {
    fn takes(&self, server: &RedisServer, name: &str, ms: &str) -> bool {
        if self.who == REDLOCK_JS.who {
            return server.cli(&["EVAL", REDLOCK_JS_ACQUIRE, "1", name, TOKEN, ms]) == "1";
        }
        server.cli(&["SET", name, TOKEN, "NX", "PX", ms]) == "OK"
    }

    fn extends(&self, server: &RedisServer, name: &str, ms: &str) -> bool {
        server.cli(&["EVAL", self.extend, "1", name, TOKEN, ms, "1"]) == "1"
    }

    fn releases(&self, server: &RedisServer, name: &str) -> bool {
        server.cli(&["EVAL", self.release, "1", name, TOKEN]) == "1"
    }
}

fn kind<T: std::fmt::Debug>(answer: Result<T, impl Into<Error>>) -> ErrorKind {
    answer.map_err(Into::into).unwrap_err().kind()
}

#[tokio::test(flavor = "multi_thread")]
async fn other_programs_and_we_exclude_each_other() {
    let server = RedisServer::start();
    let locks = manager(&server.url());
    for other in [REDIS_PY, REDSYNC, REDLOCK_JS] {
        let name = other.who;
        // We hold: they cannot take it, prolong it or give it back.
        let held = locks.acquire(name, LONG).await.unwrap();
        assert!(!other.takes(&server, name, "60000"), "{name} takes ours");
        assert!(!other.extends(&server, name, "1"), "{name} prolongs ours");
        assert!(!other.releases(&server, name), "{name} gives ours back");
        assert!(held.is_valid());
        held.release().await.unwrap();
        // They hold: we see that somebody does, and cannot take it.
        assert!(other.takes(&server, name, "60000"), "{name} takes what is free");
        assert!(locks.try_acquire(name, LONG).await.unwrap().is_none());
        let holder = locks.get_lock_info(name).await.unwrap().unwrap();
        assert_eq!(&*holder.details.owner.label, "another program");
        assert!(other.extends(&server, name, "90000"), "{name} prolongs its own");
        assert_eq!(server.cli(&["GET", name]), TOKEN, "nothing of it was touched");
        // Nor share it with them.
        assert!(locks.lock(name).shared().try_acquire().await.unwrap().is_none());
        assert!(other.releases(&server, name), "{name} gives its own back");
        // We share it: for them it is taken.
        let shares = locks.lock(name).ttl(LONG).shared().acquire().await.unwrap();
        assert!(!other.takes(&server, name, "60000"), "{name} takes what is shared");
        shares.release().await.unwrap();
        assert!(other.takes(&server, name, "60000"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_another_program_gets_the_lock_when_its_key_expires() {
    let server = RedisServer::start();
    let locks = manager(&server.url());
    assert!(REDIS_PY.takes(&server, "lock", "1000"));
    let waits = waits(&locks, "lock", LONG);
    let next = within(SOON, "the lock that expires", waits).await.unwrap().unwrap();
    assert_eq!(server.cli(&["EXISTS", "lock"]), "1");
    next.release().await.unwrap();
}

/// Nobody tells of it: the first in the queue looks, and the others are handed it as ever.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_another_program_gets_the_lock_soon_after_it_is_given_back() {
    let server = RedisServer::start();
    let (locks, other) = (manager(&server.url()), manager(&server.url()));
    for held in [&["SET", "lock", TOKEN, "NX", "PX", "3600000"][..], &["SET", "lock", TOKEN]] {
        server.cli(held);
        let first = waits(&locks, "lock", LONG);
        until_waiting(&locks, "lock", 1).await;
        let second = waits(&other, "lock", LONG);
        until_waiting(&locks, "lock", 2).await;
        assert!(REDSYNC.releases(&server, "lock"));
        for next in [first, second] {
            let next = within(SOON, "the one that is next", next).await.unwrap().unwrap();
            next.release().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_without_an_end_is_held_until_somebody_ends_it() {
    let server = RedisServer::start();
    let locks = manager(&server.url());
    server.cli(&["SET", "lock", "a person", "NX"]);
    assert!(locks.try_acquire("lock", LONG).await.unwrap().is_none());
    let wait = Duration::from_secs(1);
    let tried = within(SOON, "an answer", locks.lock("lock").wait_timeout(wait).acquire()).await;
    assert_eq!(kind(tried), ErrorKind::WaitTimeout);
    assert_eq!(server.cli(&["GET", "lock"]), "a person");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_program_is_force_released_and_the_next_waiter_has_it() {
    let server = RedisServer::start();
    let locks = manager(&server.url());
    let fence = {
        let guard = locks.acquire("lock", LONG).await.unwrap();
        let fence = guard.fencing_token();
        guard.release().await.unwrap();
        fence
    };
    assert!(REDLOCK_JS.takes(&server, "lock", "3600000"));
    let waits = waits(&manager(&server.url()), "lock", LONG);
    until_waiting(&locks, "lock", 1).await;
    let victims = locks.force_release("lock", None, "it hangs").await.unwrap();
    assert_eq!(victims.len(), 1);
    let next = within(SOON, "the waiter", waits).await.unwrap().unwrap();
    assert!(fence < next.fencing_token());
    assert!(!REDLOCK_JS.releases(&server, "lock"), "it gives back what is not its own any more");
    next.release().await.unwrap();
    // With nobody waiting the key is gone, and others can have it.
    assert!(REDSYNC.takes(&server, "lock", "60000"));
    locks.force_release("lock", None, "it hangs").await.unwrap();
    assert!(REDIS_PY.takes(&server, "lock", "60000"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_another_type_is_an_error_that_changes_nothing() {
    let server = RedisServer::start();
    let locks = manager(&server.url());
    for (name, make) in [
        ("list", &["RPUSH", "list", "a", "b"][..]),
        ("hash", &["HSET", "hash", "a", "b"]),
        ("set", &["SADD", "set", "a"]),
        ("stream", &["XADD", "stream", "1-1", "a", "b"]),
    ] {
        server.cli(make);
        let before = server.cli(&["DUMP", name]);
        assert_eq!(kind(locks.acquire(name, LONG).await), ErrorKind::Corrupt, "{name}");
        let error = locks.try_acquire(name, LONG).await.unwrap_err();
        assert!(error.to_string().contains("another type"), "{error}");
        assert_eq!(kind(locks.inspect(name).await), ErrorKind::Corrupt, "{name}");
        assert_eq!(kind(locks.force_release(name, None, "no").await), ErrorKind::Corrupt, "{name}");
        assert_eq!(server.cli(&["DUMP", name]), before, "{name} is as it was");
    }
    // So is that of the state.
    server.cli(&["RPUSH", "tenure:{state}", "a"]);
    assert_eq!(kind(locks.acquire("state", LONG).await), ErrorKind::Corrupt);
    assert_eq!(server.cli(&["EXISTS", "state"]), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_deleted_while_it_is_held_is_a_loss_that_is_told() {
    let server = RedisServer::start();
    let (locks, other) = (manager(&server.url()), manager(&server.url()));
    let ttl = Duration::from_secs(3);
    let bystander = locks.acquire("bystander", ttl).await.unwrap();
    let held = locks.acquire("lock", ttl).await.unwrap();
    let (fence, deadline) = (held.fencing_token(), held.deadlines().0);
    server.cli(&["DEL", "lock"]);
    let told = within(SOON, "the holder is told", held.lost()).await;
    assert!(
        matches!(&told, LossReason::Evicted { by, .. } if &**by == "another program"),
        "{told:?}"
    );
    // At its next renewal, and not only when its time is up.
    assert!(held.deadlines().0 == deadline, "it was not renewed");
    assert!(matches!(held.release().await, Err(NotReleased::AlreadyLost(_))));
    let next = other.acquire("lock", ttl).await.unwrap();
    assert!(fence < next.fencing_token());
    lives_on(&bystander, ttl).await;
    lives_on(&next, ttl).await;

    // Deleted and taken by another program at once: that one keeps it.
    server.cli(&["DEL", "lock"]);
    assert!(REDSYNC.takes(&server, "lock", "60000"));
    within(SOON, "the holder is told", next.lost()).await;
    drop(next);
    assert_eq!(server.cli(&["GET", "lock"]), TOKEN);
    // Overwritten, as by somebody who forgot NX.
    let last = other.acquire("other", ttl).await.unwrap();
    server.cli(&["SET", "other", TOKEN, "PX", "60000"]);
    within(SOON, "the holder is told", last.lost()).await;
    assert!(last.release().await.is_err());
    assert_eq!(server.cli(&["GET", "other"]), TOKEN);
    bystander.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_flushed_loses_locks_and_tells_and_goes_on() {
    let server = RedisServer::start();
    let (locks, other) = (manager(&server.url()), manager(&server.url()));
    let ttl = Duration::from_secs(3);
    let held = locks.acquire("lock", ttl).await.unwrap();
    let fence = held.fencing_token();
    let waits = waits(&other, "lock", ttl);
    until_waiting(&locks, "lock", 1).await;
    server.cli(&["FLUSHALL"]);
    server.cli(&["SCRIPT", "FLUSH"]);
    within(SOON, "the holder is told", held.lost()).await;
    // Nobody tells whoever waits, whose place is gone as well: it looks when the lease would have
    // ended.
    let next = within(SOON, "the waiter", waits).await.unwrap().unwrap();
    assert!(fence < next.fencing_token());
    lives_on(&next, ttl).await;
    next.release().await.unwrap();
    until(IN_THE_END, "nothing is left behind", async || server.cli(&["EXISTS", "lock"]) == "0")
        .await;
}
