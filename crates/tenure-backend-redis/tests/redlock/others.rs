//! Other users of the same keys: a person with `redis-cli`, and other clients of Redlock, which all do
//! `SET key token NX PX ttl` on each server, and delete by comparison.

use std::time::Duration;

use futures_lite::future::block_on;
use tenure_core::{ErrorKind, Fence, Standing};
use tenure_testkit::servers::redis::{RedisServer, RedisSetup};

use crate::stage::{SHORT, Set, X, acquire, run_id, until};

/// What another client of Redlock does: how many servers gave it the key.
fn takes(set: &Set, token: &str, ms: &str) -> usize {
    let set_nx = |s: &&_| -> bool {
        let server: &tenure_testkit::servers::redis::RedisServer = s;
        server.cli(&["SET", X, token, "NX", "PX", ms]) == "OK"
    };
    set.servers.iter().filter(set_nx).count()
}

#[test]
fn whoever_has_the_key_on_a_majority_excludes_us_until_it_ends() {
    let set = Set::old(3, "2s");
    let locks = set.bystander();
    assert_eq!(takes(&set, "their-secret-token", "1500"), 3);
    assert!(block_on(locks.try_acquire(X, SHORT)).unwrap().is_none());
    let seen = block_on(locks.get_lock_info(X)).unwrap().unwrap();
    assert_eq!((&*seen.details.owner.label, seen.fence), ("another program", Fence::ZERO));
    assert!(!format!("{seen:?}").contains("their-secret-token"));
    let guard = acquire(&locks, X, SHORT);
    until("all are bound", || set.bound(X) == 3);
    assert_eq!(takes(&set, "their-secret-token", "1500"), 0);
    block_on(guard.release()).unwrap();
    until("nothing is left", || set.bound(X) == 0);
    assert_eq!(takes(&set, "their-secret-token", "1500"), 3);
}

#[test]
fn whoever_has_the_key_on_a_minority_is_in_nobodys_way() {
    let set = Set::old(3, "2s");
    let locks = set.bystander();
    assert_eq!(set.servers[0].cli(&["SET", X, "theirs", "NX", "PX", "60000"]), "OK");
    let guard = acquire(&locks, X, SHORT);
    assert!(takes(&set, "others", "1500") < 2, "we have the other two");
    block_on(guard.release()).unwrap();
    assert_eq!(set.servers[0].cli(&["GET", X]), "theirs", "it is not ours to give back");
}

#[test]
fn another_programs_lock_can_be_force_released() {
    let set = Set::old(3, "2s");
    let locks = set.bystander();
    assert_eq!(takes(&set, "theirs", "60000"), 3);
    let victims = block_on(locks.force_release(X, None, "it hangs")).unwrap();
    assert_eq!(victims.len(), 1);
    block_on(acquire(&locks, X, SHORT).release()).unwrap();
}

#[test]
fn a_key_of_another_type_is_told_and_nothing_is_done_to_it() {
    let set = Set::old(3, "2s");
    for server in &set.servers {
        server.cli(&["LPUSH", X, "theirs"]);
    }
    let error = block_on(set.bystander().try_acquire(X, SHORT)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    assert!(set.servers.iter().all(|server| server.cli(&["LLEN", X]) == "1"));
}

#[test]
fn a_ttl_beyond_the_longest_is_refused_with_the_name_of_what_would_allow_it() {
    let set = Set::old(3, "2s");
    let locks = set.bystander();
    let error = block_on(locks.acquire(X, Duration::from_secs(3))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let told = format!("{error} {}", error.help().unwrap_or_default());
    assert!(told.contains("max_ttl"), "{told}");
}

/// A store that names another longest ttl than the set.
fn naming(set: &Set, max_ttl: &str) -> (tenure_core::LockManager, String) {
    let url = set.url();
    let url = format!("{}?max_ttl={max_ttl}", url.split('?').next().unwrap());
    (tenure_core::LockManager::new(crate::stage::backend(&url)).unwrap(), url)
}

#[test]
fn whoever_names_another_longest_ttl_is_refused_and_nobody_else() {
    let set = Set::old(3, "6s");
    let locks = set.bystander();
    for other in ["2s", "60s"] {
        let (others, _) = naming(&set, other);
        let error = block_on(others.acquire(X, SHORT)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
        assert!(error.help().unwrap().contains("max_ttl"), "{error:?}");
        block_on(acquire(&locks, X, SHORT).release()).unwrap();
    }
}

#[test]
fn one_server_that_was_told_another_longest_ttl_is_in_nobodys_way() {
    let set = Set::old(3, "6s");
    crate::stage::introduce(&set.servers[0], "60s");
    let locks = set.bystander();
    let guard = acquire(&locks, X, SHORT * 5);
    // Neither is one who finds the lock taken told anything else.
    assert!(block_on(locks.try_acquire(X, SHORT)).unwrap().is_none());
    block_on(guard.release()).unwrap();
}

#[test]
fn a_doctor_that_names_another_longest_ttl_says_so_and_changes_nothing() {
    let set = Set::old(3, "6s");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let examine = |url: &str| {
        let all = runtime.block_on(tenure_backend_redis::examine_voters(url, SHORT)).unwrap();
        all.into_iter().find(|finding| finding.what == "max_ttl").unwrap()
    };
    let run = || set.servers.iter().map(|s| s.cli(&["HGETALL", "tenure:run"])).collect::<Vec<_>>();
    let before = run();
    for other in ["2s", "60s"] {
        let (_, url) = naming(&set, other);
        let found = examine(&url);
        assert_eq!(found.standing, Standing::Bad, "{found:?}");
        assert!(found.help.as_deref().unwrap().contains("`?max_ttl=6000ms`"), "{found:?}");
    }
    assert_eq!(before, run());
    assert_eq!(examine(&set.url()).standing, Standing::Good);
    // Where one server was told something else, it is that one which has to be mended.
    crate::stage::introduce(&set.servers[1], "60s");
    let found = examine(&set.url());
    assert_eq!(found.standing, Standing::Bad, "{found:?}");
    assert!(found.help.as_deref().unwrap().contains("`tenure:run` on those servers"), "{found:?}");
}

#[test]
fn a_new_server_that_a_doctor_looked_at_first_is_bound_by_whoever_asks_for_votes() {
    let set = Set::new(3, "2s", RedisSetup::new);
    let (_, url) = naming(&set, "60s");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(tenure_backend_redis::examine_voters(&url, SHORT)).unwrap();
    // The time without votes runs from then on, and is that of those who take locks.
    block_on(acquire(&set.bystander(), X, SHORT).release()).unwrap();
}

#[test]
fn a_rolling_restart_hands_no_server_to_a_program_that_was_refused_for_a_longer_ttl() {
    let set = Set::with(3, "2s", || RedisSetup::new().append_only());
    let locks = set.bystander();
    block_on(acquire(&locks, X, SHORT).release()).unwrap();
    let (stray, _) = naming(&set, "3s");
    // Its supervisor starts it again and again.
    let comes_back = || block_on(stray.try_acquire(X, SHORT)).unwrap_err();
    comes_back();
    for server in &set.servers {
        server.restart();
        // Connections that were lost are made again.
        let is_asked = || server.cli(&["HGET", "tenure:run", "id"]) == run_id(server);
        until("it is asked for a vote", || comes_back().kind() == ErrorKind::Invalid && is_asked());
    }
    for server in &set.servers {
        assert_eq!(server.cli(&["HGET", "tenure:run", "longest"]), "2000000");
    }
    block_on(acquire(&locks, X, SHORT).release()).unwrap();
    assert_eq!(comes_back().kind(), ErrorKind::Invalid);
}

#[test]
fn until_it_gives_votes_a_new_server_is_bound_to_the_longest_ttl_that_is_named() {
    let set = Set::new(3, "20s", RedisSetup::new);
    let bound = |server: &RedisServer| server.cli(&["HGET", "tenure:run", "longest"]);
    for (named, micros) in [("20s", "20000000"), ("60s", "60000000")] {
        let (locks, _) = naming(&set, named);
        block_on(locks.try_acquire(X, SHORT)).unwrap_err();
        until("all are told", || set.servers.iter().all(|server| bound(server) == micros));
    }
}
