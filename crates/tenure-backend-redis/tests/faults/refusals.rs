//! A server that answers, and refuses: out of memory, unable to write, read only, loading; and keys
//! that are not what they should be.

use std::thread;
use std::time::Duration;

use futures_lite::future::block_on;
use tenure_core::{ErrorKind, LockManager, NotReleased};
use tenure_testkit::servers::redis::RedisSetup;

use crate::stage::{Ground, LONG, SHORT, Stage, X, acquire, now, pass, until};

/// Sees that an acquire fails as it should, with something to do about it, and leaves nothing.
fn refused(manager: &LockManager, name: &str, kind: ErrorKind, says: &str) {
    let since = now();
    let error = block_on(manager.try_acquire(name, LONG)).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(says), "{error}");
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
}

#[test]
fn a_key_of_another_type_spoils_its_own_lock_and_no_other() {
    let stage = Stage::new();
    let manager = stage.bystander();
    let ttl = SHORT * 2;
    let guards = ["a", "b", "c", "d"].map(|name| acquire(&manager, name, ttl));
    stage.server.cli(&["DEL", "b"]);
    stage.server.cli(&["RPUSH", "b", "a list"]);
    stage.server.cli(&["SET", "tenure:{c}", "not a hash"]);
    pass(ttl * 3 / 2);
    let held: Vec<bool> = guards.iter().map(|guard| guard.is_valid()).collect();
    assert_eq!(held, [true, false, false, true]);
    // Also when they share a script.
    let tried = block_on(async {
        let names = ["e", "b", "f", "c", "g"];
        let all = names.map(|name| manager.try_acquire(name, LONG));
        let mut kinds = Vec::new();
        for one in futures_lite::future::block_on(join_all(all.into())) {
            kinds.push(one.map(|guard| guard.is_some()).map_err(|error| error.kind()));
        }
        kinds
    });
    let spoilt = Err(ErrorKind::Corrupt);
    assert_eq!(tried, [Ok(true), spoilt, Ok(true), spoilt, Ok(true)]);
    for (guard, was_held) in guards.into_iter().zip(held) {
        assert_eq!(block_on(guard.release()).is_ok(), was_held);
    }
    stage.server.cli(&["DEL", "b", "c", "tenure:{b}", "tenure:{c}"]);
    for name in ["b", "c"] {
        block_on(acquire(&manager, name, LONG).release()).unwrap();
    }
}

/// Runs them all at once, and answers in their order.
async fn join_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.into_iter().map(|f| (Some(Box::pin(f)), None)).collect();
    std::future::poll_fn(|cx| {
        let mut open = false;
        for (future, output) in &mut running {
            if let Some(running) = future {
                match running.as_mut().poll(cx) {
                    std::task::Poll::Ready(done) => (*output, *future) = (Some(done), None),
                    std::task::Poll::Pending => open = true,
                }
            }
        }
        if open { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    running.into_iter().map(|(_, output)| output.expect("all of them are done")).collect()
}

#[test]
fn on_a_server_out_of_memory_holders_renew_and_release_and_nobody_else_gets_in() {
    let stage = Stage::new();
    let manager = stage.bystander();
    let ttl = SHORT * 2;
    let guard = acquire(&manager, X, ttl);
    thread::scope(|scope| {
        let waits = scope.spawn(|| acquire(&stage.bystander(), X, ttl));
        until("it waits", || !block_on(manager.inspect(X)).unwrap().waiters.is_empty());
        stage.server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
        refused(&manager, "y", ErrorKind::Unreachable, "memory limit");
        pass(ttl * 3 / 2);
        guard.check().unwrap();
        block_on(guard.release()).unwrap();
        // Who had a place is handed the lock all the same.
        let next = waits.join().unwrap();
        pass(ttl * 3 / 2);
        next.check().unwrap();
        block_on(next.release()).unwrap();
    });
    stage.server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    assert!(!block_on(manager.is_locked("y")).unwrap());
    block_on(acquire(&manager, "y", LONG).release()).unwrap();
    drop(manager);
    assert_eq!(stage.left(Duration::ZERO), [""; 0]);
}

#[test]
fn a_server_that_cannot_write_its_disk_refuses_everybody_and_holders_are_told_in_time() {
    let stage = Stage::with(RedisSetup::new().with(&["--enable-protected-configs", "yes"]));
    let manager = stage.bystander();
    let guard = acquire(&manager, X, SHORT);
    let folder = stage.server.cli(&["--raw", "CONFIG", "GET", "dir"]);
    stage.server.cli(&["CONFIG", "SET", "save", "3600 1"]);
    stage.server.cli(&["CONFIG", "SET", "dir", "/proc"]);
    stage.server.cli(&["BGSAVE"]);
    until("it has failed to save", || {
        stage.server.cli(&["INFO", "persistence"]).contains("rdb_last_bgsave_status:err")
    });
    refused(&manager, "y", ErrorKind::Unreachable, "MISCONF");
    let lost = block_on(guard.lost());
    assert_eq!(lost.as_str(), "store_unreachable");
    assert!(matches!(block_on(guard.release()), Err(NotReleased::AlreadyLost(_))));
    stage.server.cli(&["CONFIG", "SET", "save", ""]);
    stage.server.cli(&["CONFIG", "SET", "dir", folder.lines().last().unwrap()]);
    for name in [X, "y"] {
        block_on(acquire(&manager, name, LONG).release()).unwrap();
    }
}

#[test]
fn a_server_that_becomes_read_only_for_a_moment_costs_nobody_a_lock() {
    let stage = Stage::with(RedisSetup::new().with(&["--repl-diskless-sync-delay", "0"]));
    let manager = stage.bystander();
    let guard = acquire(&manager, X, SHORT * 4);
    stage.server.cli(&["REPLICAOF", "127.0.0.1", "1"]);
    refused(&manager, "y", ErrorKind::Unreachable, "read only");
    pass(SHORT * 2);
    stage.server.cli(&["REPLICAOF", "NO", "ONE"]);
    pass(SHORT * 4);
    guard.check().unwrap();
    block_on(guard.release()).unwrap();
    block_on(acquire(&manager, "y", LONG).release()).unwrap();
}

#[test]
fn a_server_that_is_loading_is_waited_for_by_who_holds_and_refuses_who_asks() {
    // Two to three seconds, in which it answers now and then.
    let slow = ["--key-load-delay", "120", "--aof-use-rdb-preamble", "no"];
    let stage = Stage::with(RedisSetup::new().append_only().with(&slow));
    let manager = stage.bystander();
    stage.server.cli(&["EVAL", "for i = 1, 20000 do redis.call('SET', 'k' .. i, i) end", "0"]);
    let guard = acquire(&manager, X, LONG);
    thread::scope(|scope| {
        let restarts = scope.spawn(|| stage.server.restart());
        let mut seen = false;
        while !restarts.is_finished() {
            if let Err(error) = block_on(manager.try_acquire("y", LONG)) {
                assert!(error.kind().is_transient(), "{error}");
                seen |= error.to_string().contains("oading");
            }
        }
        assert!(seen, "it was never seen to load");
    });
    guard.check().unwrap();
    block_on(guard.release()).unwrap();
}
