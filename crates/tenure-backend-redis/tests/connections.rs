//! Every way to a server: passwords, users with the least rights, databases, sockets, TLS, and the
//! environment.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod kit;

use std::process::Command;
use std::time::Duration;

use kit::{
    IN_THE_END, LONG, SOON, cluster_url, manager, sentinel_url, until_waiting, waits, within,
};
use tenure_backend_redis::{RedisBackend, acl};
use tenure_core::{ErrorKind, LockManager, Result};
use tenure_testkit::servers::redis::{RedisCluster, RedisSentinel, RedisServer, RedisSetup};

/// Everything that a store is asked: locks, waiters, values, other programs, lists.
async fn scenario(url: &str, server: &RedisServer) -> Result<()> {
    let (locks, other) = (manager(url), manager(url));
    let all = async {
        let backend = kit::backend(url);
        backend.ping().await?;
        let held = locks.acquire("locks:a", LONG).await?;
        let waits = waits(&other, "locks:a", LONG);
        until_waiting(&locks, "locks:a", 1).await;
        held.set_value(*b"value", LONG).await?;
        held.release().await?;
        let next = within(SOON, "the waiter", waits).await.unwrap()?;
        next.release().await?;
        locks.lock("locks:a").acquire_or_value().await?;
        server.cli(&["SET", "locks:b", "another program", "PX", "60000"]);
        assert!(locks.try_acquire("locks:b", LONG).await?.is_none());
        locks.force_release("locks:b", None, "the test says so").await?;
        let short = locks.lock("locks:c").ttl(Duration::from_millis(300)).shared();
        let short = short.auto_renew(false).acquire().await?;
        short.lost().await;
        locks.acquire("locks:c", LONG).await?.release().await?;
        assert!(!locks.list("", 10).await?.is_empty());
        Ok(())
    };
    let done = tokio::time::timeout(SOON, all).await;
    // Whoever waits in vain was denied a message.
    done.unwrap_or_else(|_| Err(tenure_core::Error::new(ErrorKind::WaitTimeout, "nobody is told")))
}

fn rules(commands: &str) -> String {
    format!("on >secret ~locks:* {} {commands}", acl::KEYS)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_needs_the_rights_that_are_written_down_and_every_one_of_them() {
    let all: Vec<&str> = acl::COMMANDS.split(' ').chain([acl::LIST]).collect();
    let mut setup = RedisSetup::new().user("all", &rules(&all.join(" ")));
    for missing in &all {
        let rest: Vec<&str> = all.iter().copied().filter(|command| command != missing).collect();
        setup = setup.user(&missing[1..], &rules(&rest.join(" ")));
    }
    let server = setup.start();
    let url = |user: &str| format!("redis://{user}:secret@127.0.0.1:{}", server.port());
    scenario(&url("all"), &server).await.unwrap();
    for missing in &all {
        server.cli(&["FLUSHALL"]);
        server.cli(&["SCRIPT", "FLUSH"]);
        let error = scenario(&url(&missing[1..]), &server).await.err();
        let error = error.unwrap_or_else(|| panic!("it goes without {missing}"));
        let is_told = error.to_string().contains("refused this user");
        assert!(is_told || error.kind() == ErrorKind::WaitTimeout, "without {missing}: {error:?}");
        assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rights_that_are_written_down_suffice_on_a_cluster_and_behind_sentinel() {
    let rights = |more: &str| rules(&format!("{} {} {more}", acl::COMMANDS, acl::LIST));
    let user = |url: &str, scheme: &str| url.replacen(scheme, &format!("{scheme}me:secret@"), 1);
    let cluster = RedisCluster::start_as(3, &RedisSetup::new().user("me", &rights(acl::CLUSTER)));
    let locks = manager(&user(&cluster_url(&cluster), "redis+cluster://"));
    let guard = locks.acquire("locks:a", LONG).await.unwrap();
    let slot = cluster.slot_of("locks:a");
    let (from, to) = (cluster.owner(slot), (cluster.owner(slot) + 1) % 3);
    cluster.begin_move(slot, to);
    while 0 < cluster.move_keys(slot, to, 1) {}
    assert_eq!(cluster.owner(slot), from, "it has to be asked for at the other node");
    assert_eq!(locks.list("", 10).await.unwrap().len(), 1);
    guard.release().await.unwrap();

    let more = format!("{} {}", acl::SENTINEL, acl::MIN_REPLICAS);
    let group = RedisSentinel::start_as(1, &RedisSetup::new().user("me", &rights(&more)));
    let url = format!("{}?min_replicas=1", sentinel_url(&group));
    let locks = manager(&user(&url, "redis+sentinel://"));
    locks.acquire("locks:a", LONG).await.unwrap().release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_denied_at_once_and_not_repeated() {
    let server = RedisSetup::new().password("canary-1").start();
    takes(&manager(&server.url())).await;
    for url in [
        format!("redis://:canary-2@127.0.0.1:{}", server.port()),
        format!("redis://127.0.0.1:{}", server.port()),
        format!("redis://nobody:canary-2@127.0.0.1:{}", server.port()),
    ] {
        let refused = within(SOON, "an answer", manager(&url).acquire("lock", LONG)).await;
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
        assert!(error.changed_nothing());
        assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
    }
}

async fn takes(locks: &LockManager) {
    let guard = within(SOON, "a lock", locks.acquire("lock", LONG)).await.unwrap();
    guard.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_lies_in_its_database() {
    let server = RedisServer::start();
    let locks = manager(&format!("{}3", server.url()));
    let guard = locks.acquire("lock", LONG).await.unwrap();
    assert_eq!(server.cli(&["-n", "3", "EXISTS", "lock"]), "1");
    assert_eq!(server.cli(&["EXISTS", "lock"]), "0");
    takes(&manager(&server.url())).await;
    guard.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_reached_by_its_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("redis.sock");
    let socket = path.to_str().unwrap();
    let server = RedisSetup::new()
        .with(&["--unixsocket", socket])
        .user("me", "on >secret ~* &* +@all")
        .start();
    takes(&manager(&format!("redis+unix://{socket}"))).await;
    let locks = manager(&format!("redis+unix://me:secret@{socket}?db=2&prefix=p:"));
    let guard = locks.acquire("lock", LONG).await.unwrap();
    assert_eq!(server.cli(&["-n", "2", "EXISTS", "p:lock"]), "1");
    guard.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_the_driver_is_taken_for_its_servers() {
    let server = RedisSetup::new().password("secret").start();
    let client = redis::Client::open(format!("{}5", server.url())).unwrap();
    let locks = LockManager::new(std::sync::Arc::new(RedisBackend::from_client(&client))).unwrap();
    let guard = locks.acquire("lock", LONG).await.unwrap();
    assert_eq!(server.cli(&["-n", "5", "EXISTS", "lock"]), "1");
    guard.release().await.unwrap();
}

/// Set for the process that is to look at its environment.
const CHILD: &str = "TENURE_TEST_LOCK";

#[test]
fn the_environment_says_where_the_server_is() {
    let child = || {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "a_child_takes_a_lock_where_its_environment_says"]);
        child.env_clear();
        child
    };
    let server = RedisSetup::new().password("secret").start();
    let host = format!("redis://127.0.0.1:{}", server.port());
    let cases = [
        (server.url(), None, None, "0"),
        (host.clone(), Some("secret"), None, "0"),
        (host.clone(), Some("secret"), Some("4"), "4"),
        (format!("{host}/1?prefix=p:"), Some("secret"), None, "1"),
    ];
    for (n, (url, password, db, lies_in)) in cases.into_iter().enumerate() {
        let lock = format!("lock-{n}");
        let mut child = child();
        child.env(CHILD, &lock).env("REDIS_URL", &url);
        password.map(|password| child.env("REDIS_PASSWORD", password));
        db.map(|db| child.env("REDIS_DB", db));
        let output = child.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        let prefix = if url.contains("prefix") { "p:" } else { "" };
        let cell = format!("tenure:{{{prefix}{lock}}}");
        assert_eq!(server.cli(&["-n", lies_in, "EXISTS", &cell]), "1", "{url} {db:?}");
    }
    let mut wrong = child();
    wrong.env(CHILD, "lock").env("REDIS_URL", &host).env("REDIS_PASSWORD", "canary");
    let output = wrong.output().unwrap();
    assert!(!output.status.success());
    let said = [output.stdout, output.stderr].concat();
    assert!(!String::from_utf8_lossy(&said).contains("canary"));
}

#[test]
fn a_child_takes_a_lock_where_its_environment_says() {
    let Ok(lock) = std::env::var(CHILD) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let locks = manager("redis://");
        let guard = within(IN_THE_END, "a lock", locks.acquire(lock, LONG)).await.unwrap();
        guard.release().await.unwrap();
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_that_may_not_listen_leaves_no_connections_behind() {
    let server = RedisSetup::new().user("deaf", "on >secret ~* +@all").start();
    let locks = manager(&format!("redis://deaf:secret@127.0.0.1:{}", server.port()));
    for _ in 0..10 {
        let refused = locks.try_acquire("x", LONG).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Denied, "{refused}");
    }
    kit::until(SOON, "all but the last one are closed", async || {
        server.cli(&["CLIENT", "LIST"]).matches("user=deaf").count() <= 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_that_may_not_tell_anybody_leaves_nobody_both_holding_and_waiting() {
    let rules = "on >secret ~* &* +@all -publish";
    let server = RedisSetup::new().user("mute", rules).start();
    let mute = manager(&format!("redis://mute:secret@127.0.0.1:{}", server.port()));
    let (other, third) = (manager(&server.url()), manager(&server.url()));
    let held = mute.acquire("x", LONG).await.unwrap();
    let waits = waits(&other, "x", Duration::from_secs(2));
    until_waiting(&third, "x", 1).await;
    held.release().await.unwrap_err();
    let view = third.inspect("x").await.unwrap();
    assert_eq!(view.holders.len() + view.waiters.len(), 1, "{view:?}");
    let next = within(SOON, "the waiter", waits).await.unwrap().unwrap();
    kit::lives_on(&next, Duration::from_secs(6)).await;
    assert_eq!(third.inspect("x").await.unwrap().holders.len(), 1);
    next.release().await.unwrap();
}
