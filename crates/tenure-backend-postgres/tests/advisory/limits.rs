//! Nobody fills the server's table of locks, and whoever lacks a right is told which.

use futures_lite::future::block_on;
use tenure_core::{ErrorKind, LockManager};

use crate::stage::{LONG, Stage, X, acquire};

#[test]
fn a_default_server_is_never_filled_by_one_process() {
    let stage = Stage::new();
    let locks = stage.manager();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // 64 locks for each of 100 connections, and half of them are for others.
    let guards = runtime.block_on(async {
        let mut guards = Vec::new();
        loop {
            let more = (0..250).map(|n| {
                let name = format!("limit/{}/{n}", guards.len());
                let locks = &locks;
                async move { locks.acquire(name, LONG).await }
            });
            let more = futures_util::future::join_all(more).await;
            let refused = more.iter().find_map(|one| one.as_ref().err().cloned());
            guards.extend(more.into_iter().flatten());
            if let Some(refused) = refused {
                assert_eq!(refused.kind(), ErrorKind::Unreachable);
                assert!(refused.changed_nothing());
                assert!(refused.help().unwrap().contains("max_locks_per_transaction"), "{refused}");
                return guards;
            }
            assert!(guards.len() < 6400, "it takes them all");
        }
    });
    assert!((2500..=3200).contains(&guards.len()), "{}", guards.len());
    // Others are served, and so is this one when it has given something back.
    assert_eq!(stage.server.psql("select count(*) from pg_class where relname = 'pg_class'"), "1");
    drop(acquire(&stage.manager(), X, LONG));
    runtime.block_on(async {
        let mut guards = guards;
        guards.pop().unwrap().release().await.unwrap();
        drop(locks.acquire(X, LONG).await.unwrap());
        futures_util::future::try_join_all(guards.into_iter().map(|g| g.release())).await.unwrap();
    });
}

#[test]
fn the_limit_can_be_said() {
    let stage = Stage::new();
    let url = format!("{}?max_locks=2", stage.url());
    let locks = LockManager::new(tenure_backend_postgres::open(&url).unwrap()).unwrap();
    let held = [acquire(&locks, "a", LONG), acquire(&locks, "b", LONG)];
    let refused = block_on(locks.try_acquire("c", LONG)).expect_err("it is one too many");
    assert!(refused.help().unwrap().contains("max_locks"), "{refused:?}");
    drop(held);
}

#[test]
fn a_user_without_the_right_to_fences_is_told_the_grant() {
    let stage = Stage::new();
    stage.server.psql("create role bob login");
    let as_bob = stage.url().replace("//postgres@", "//bob@");
    assert!(as_bob.contains("bob"));
    let locks = || LockManager::new(tenure_backend_postgres::open(&as_bob).unwrap()).unwrap();
    let refused = block_on(locks().try_acquire(X, LONG)).expect_err("there is no sequence");
    assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused:?}");
    assert!(refused.help().unwrap().contains("create sequence"), "{refused:?}");
    // Somebody makes it; bob may not use it yet.
    drop(acquire(&stage.manager(), X, LONG));
    let refused = block_on(locks().try_acquire("y", LONG)).expect_err("it is not bob's");
    assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused:?}");
    assert!(refused.help().unwrap().contains("grant usage"), "{refused:?}");
    stage.server.psql(
        "grant usage on schema tenure to bob; grant usage, select on sequence tenure.fence to bob",
    );
    drop(acquire(&locks(), "y", LONG));
}

/// Timeouts that an operator gave the role are for statements of other programs.
#[test]
fn timeouts_of_the_role_end_no_wait() {
    let stage = Stage::new();
    stage.server.psql(
        "alter role postgres set statement_timeout = '100ms'; \
         alter role postgres set lock_timeout = '50ms'; \
         alter role postgres set idle_session_timeout = '300ms'; \
         alter role postgres set synchronous_commit = off",
    );
    let (a, b) = (stage.manager(), stage.manager());
    let guard = acquire(&a, X, LONG);
    std::thread::scope(|scope| {
        let next = scope.spawn(|| acquire(&b, X, LONG));
        crate::stage::until_waiting(&a, X, 1);
        let (waits, start) = (stage.sessions(), crate::stage::now());
        crate::stage::until("longer than all of them", || {
            std::time::Duration::from_secs(1) < start.elapsed()
        });
        assert_eq!(stage.sessions(), waits, "no session was ended");
        block_on(guard.release()).unwrap();
        block_on(next.join().unwrap().release()).unwrap();
    });
}

#[test]
fn a_sequence_that_may_go_back_is_refused() {
    let stage = Stage::new();
    stage.server.psql("create schema tenure; create sequence tenure.fence cache 50");
    let refused = block_on(stage.manager().try_acquire(X, LONG)).expect_err("it is not in order");
    assert_eq!(refused.kind(), ErrorKind::Corrupt, "{refused:?}");
}
