//! Servers that are new, die, come back without what they knew, or lose a key.

use std::time::Duration;

use futures_lite::future::block_on;
use tenure_core::{ErrorKind, LossReason};
use tenure_testkit::proxy::{Direction, Fault};
use tenure_testkit::servers::redis::{RedisServer, RedisSetup};

use crate::stage::{LONGEST, SHORT, Set, X, acquire, now, pass, until};

#[test]
fn new_servers_give_no_votes_for_the_longest_ttl_and_whoever_waits_gets_the_lock_then() {
    let set = Set::new(3, "2s", RedisSetup::new);
    let locks = set.bystander();
    let since = now();
    let error = block_on(locks.try_acquire(X, SHORT)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(error.to_string().contains("restarted or are new"), "{error}");
    let guard = acquire(&locks, X, SHORT);
    assert!(LONGEST <= since.elapsed(), "{:?}", since.elapsed());
    block_on(guard.release()).unwrap();
}

#[test]
fn a_dead_server_is_not_missed_and_with_two_of_three_nobody_is_granted_anything() {
    let set = Set::old(3, "2s");
    let locks = set.bystander();
    set.servers[0].kill();
    let mut guard = acquire(&locks, X, SHORT);
    let before = guard.fencing_token();
    block_on(guard.release()).unwrap();
    guard = acquire(&locks, X, SHORT);
    assert!(before < guard.fencing_token());
    set.servers[1].kill();
    let error = block_on(locks.try_acquire("y", SHORT)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
    let since = now();
    let lost = block_on(guard.lost());
    assert!(matches!(lost, LossReason::StoreUnreachable | LossReason::Expired), "{lost:?}");
    assert!(since.elapsed() < SHORT + Duration::from_secs(1));
}

#[test]
fn a_server_that_forgot_a_lock_gives_its_vote_to_the_holder_again_and_to_nobody_before() {
    let set = Set::old(3, "4s");
    let (locks, longest) = (set.bystander(), LONGEST * 2);
    let guard = acquire(&locks, X, longest);
    until("all are bound", || set.bound(X) == 3);
    let since = now();
    set.servers[0].restart_empty();
    // Any majority needs one of these two.
    until("it is bound again", || set.bound(X) == 3);
    println!("bound again after {:?}", since.elapsed());
    assert!(longest - Duration::from_millis(50) <= since.elapsed(), "{:?}", since.elapsed());
    guard.check().unwrap();
    // Now another one may forget.
    set.servers[1].restart_empty();
    until("it is bound again", || set.bound(X) == 3);
    guard.check().unwrap();
    assert!(block_on(set.bystander().try_acquire(X, SHORT)).unwrap().is_none());
    block_on(guard.release()).unwrap();
}

#[test]
fn a_key_that_somebody_deletes_at_one_server_is_there_again_after_a_renewal() {
    let set = Set::old(3, "4s");
    let locks = set.bystander();
    let metadata = serde_json::json!({ "build": 42 });
    let guard = block_on(locks.lock(X).ttl(LONGEST * 2).metadata(metadata).acquire()).unwrap();
    for server in &set.servers {
        until("all are bound", || set.bound(X) == 3);
        server.cli(&["DEL", X]);
        until("it is bound again", || set.bound(X) == 3);
        guard.check().unwrap();
    }
    let seen = block_on(set.bystander().get_lock_info(X)).unwrap().unwrap();
    assert_eq!((seen.fence, seen.id), (guard.fencing_token(), guard.id()));
    assert!(seen.details.metadata.is_some());
    block_on(guard.release()).unwrap();
    until("nothing is left", || set.bound(X) == 0);
}

#[test]
fn a_key_that_is_deleted_at_two_of_three_is_lost_and_does_not_come_back() {
    let set = Set::old(3, "4s");
    let locks = set.bystander();
    let guard = acquire(&locks, X, LONGEST * 2);
    until("all are bound", || set.bound(X) == 3);
    for server in &set.servers[..2] {
        server.cli(&["DEL", X]);
    }
    let lost = block_on(guard.lost());
    assert!(matches!(lost, LossReason::Expired), "{lost:?}");
    let next = acquire(&locks, X, SHORT);
    assert!(guard.fencing_token() < next.fencing_token());
}

#[test]
fn scripts_connections_and_data_that_are_thrown_away_at_one_server_are_made_again() {
    let set = Set::old(3, "2s");
    let locks = set.bystander();
    let guard = acquire(&locks, X, LONGEST);
    for words in [
        &["SCRIPT", "FLUSH"][..],
        &["CLIENT", "KILL", "TYPE", "normal"],
        &["FLUSHALL"],
        &["CONFIG", "SET", "maxmemory", "1"],
        &["CONFIG", "SET", "min-replicas-to-write", "1"],
        &["REPLICAOF", "127.0.0.1", "1"],
    ] {
        set.servers[1].cli(words);
        let mut last = 0;
        for _ in 0..3 {
            let other = acquire(&locks, "y", SHORT);
            assert!(last < other.fencing_token().get());
            last = other.fencing_token().get();
            block_on(other.release()).unwrap();
        }
        guard.check().unwrap();
    }
    block_on(guard.release()).unwrap();
}

#[test]
fn a_vote_that_comes_late_counts_and_is_told_the_fence() {
    let set = Set::old(3, "2s");
    let locks = set.manager();
    block_on(acquire(&locks, X, SHORT).release()).unwrap();
    let (by, jitter) = (Duration::from_millis(400), Duration::ZERO);
    set.proxies[2].set(Direction::ToServer, Fault::Delay { by, jitter });
    let since = now();
    let guard = acquire(&locks, X, LONGEST);
    assert!(since.elapsed() < by, "nobody waits for it: {:?}", since.elapsed());
    let fence = guard.fencing_token().to_string();
    let has_it = |server: &RedisServer| server.cli(&["HGET", "tenure:vote:x", "f"]) == fence;
    until("all have confirmed the fence", || set.servers.iter().all(has_it));
    assert_eq!(set.bound(X), 3);
    block_on(guard.release()).unwrap();
    until("nothing is left", || set.bound(X) == 0);
}

#[test]
fn a_vote_that_comes_after_its_acquire_was_given_up_is_not_kept() {
    let set = Set::old(3, "2s");
    let (near, far) = (set.bystander(), set.manager());
    block_on(acquire(&far, X, SHORT).release()).unwrap();
    // Two have nothing for it; the third hears of it later.
    for server in &set.servers[..2] {
        server.cli(&["SET", X, "theirs", "PX", "60000"]);
    }
    let (by, jitter) = (Duration::from_millis(400), Duration::ZERO);
    set.proxies[2].set(Direction::ToServer, Fault::Delay { by, jitter });
    assert!(block_on(far.try_acquire(X, LONGEST)).unwrap().is_none());
    for server in &set.servers[..2] {
        server.cli(&["DEL", X]);
    }
    pass(by * 2);
    until("nothing is left", || set.bound(X) == 0);
    block_on(acquire(&near, X, SHORT).release()).unwrap();
}
