//! What a process runs out of, and what is taken away from it.

use std::fs;
use std::thread;
use std::time::Duration;

use futures_lite::future::{block_on, or};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tenure_core::{ErrorKind, LockGuard, LockManager, LossReason, NotReleased};

use crate::stage::{LONG, PATIENCE, ROLE, Stage, X, acquire, now, this_program, until};

const TTL: Duration = Duration::from_millis(900);
/// How late a busy machine may run the thread that tells of a loss.
const SLACK: Duration = Duration::from_millis(300);

/// Waits for the loss of a lock, and sees that it is told in time.
fn told_lost(manager: &LockManager, guard: &LockGuard) -> LossReason {
    let clock = manager.clock();
    let lost = async { Some(guard.lost().await) };
    let patience = async {
        manager.sleep_until(clock.now().plus(PATIENCE)).await;
        None
    };
    let reason = block_on(or(lost, patience)).expect("it is never told that it is lost");
    let (deadline, _) = guard.deadlines();
    let late = clock.now().since(deadline);
    assert!(late < SLACK, "told {late:?} late");
    guard.check().unwrap_err();
    reason
}

#[test]
fn a_process_out_of_descriptors_keeps_its_lock_or_is_told_in_time_that_it_is_lost() {
    // In a process of its own: the limit is the process's.
    let output = this_program().env(ROLE, "no descriptors").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The part of the other process.
pub(crate) fn run_out_of_descriptors() {
    let stage = Stage::new();
    let manager = stage.manager();
    let guard = acquire(&manager, X, TTL);
    let limit = getrlimit(Resource::Nofile);
    let none = Rlimit { current: Some(0), ..limit };

    // For less than the lease lasts: it is renewed afterwards.
    setrlimit(Resource::Nofile, none).unwrap();
    let error = block_on(manager.try_acquire("y", LONG)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(error.help().is_some_and(|help| help.contains("ulimit -n")), "{error}");
    let since = now();
    until("a renewal was due", || TTL / 3 < since.elapsed());
    setrlimit(Resource::Nofile, limit).unwrap();
    let (deadline, _) = guard.deadlines();
    until("it is renewed", || deadline < guard.deadlines().0);
    guard.check().unwrap();
    drop(acquire(&manager, "y", LONG));

    // For longer.
    setrlimit(Resource::Nofile, none).unwrap();
    told_lost(&manager, &guard);
    let released = block_on(guard.release());
    assert!(matches!(released, Err(NotReleased::AlreadyLost(_))), "{released:?}");
    setrlimit(Resource::Nofile, limit).unwrap();
    drop(acquire(&manager, X, TTL));
}

#[test]
fn a_lock_whose_directory_is_removed_is_lost_and_can_be_had_again_with_a_higher_fence() {
    let stage = Stage::new();
    let manager = stage.manager();
    let guard = acquire(&manager, X, TTL);
    fs::remove_dir_all(stage.directory(X)).unwrap();
    told_lost(&manager, &guard);
    let fence = guard.fencing_token();
    let released = block_on(guard.release());
    assert!(matches!(released, Err(NotReleased::AlreadyLost(_))), "{released:?}");
    let again = acquire(&manager, X, TTL);
    assert!(fence < again.fencing_token());
    block_on(again.release()).unwrap();
}

#[test]
fn when_the_whole_store_is_removed_locks_are_lost_and_calls_fail_until_it_is_opened_again() {
    let stage = Stage::new();
    let manager = stage.manager();
    let guard = acquire(&manager, X, TTL);
    fs::remove_dir_all(stage.root()).unwrap();
    told_lost(&manager, &guard);
    let error = block_on(manager.try_acquire("y", TTL)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    assert!(!block_on(manager.health()).up);
    let fence = guard.fencing_token();
    let released = block_on(guard.release());
    assert!(matches!(released, Err(NotReleased::AlreadyLost(_))), "{released:?}");
    let anew = stage.manager();
    let again = acquire(&anew, X, TTL);
    assert!(fence < again.fencing_token());
    block_on(again.release()).unwrap();
}

#[test]
fn a_release_into_a_removed_directory_says_that_the_lock_was_lost() {
    let stage = Stage::new();
    let manager = stage.manager();
    let guard = acquire(&manager, X, LONG);
    fs::remove_dir_all(stage.directory(X)).unwrap();
    let released = block_on(guard.release());
    assert!(matches!(released, Err(NotReleased::AlreadyLost(_))), "{released:?}");
}

#[test]
#[allow(clippy::disallowed_methods, reason = "user code that blocks its thread is under test")]
fn a_lock_is_kept_while_its_users_only_thread_is_blocked_for_five_ttls() {
    let stage = Stage::new();
    let manager = stage.manager();
    thread::scope(|scope| {
        let rival = scope.spawn(|| {
            let rival = stage.manager();
            let request = rival.lock(X).ttl(TTL).wait_timeout(PATIENCE);
            let guard = block_on(request.acquire()).unwrap();
            block_on(guard.release()).unwrap();
            now()
        });
        let released = block_on(async {
            let guard = manager.lock(X).ttl(TTL).wait_timeout(PATIENCE).acquire().await.unwrap();
            until("somebody waits", || {
                !block_on(manager.inspect(X)).unwrap().waiters.is_empty() || rival.is_finished()
            });
            // No await until then: nothing else of this user's runs.
            thread::sleep(TTL * 5);
            guard.check().unwrap();
            let releasing = now();
            guard.release().await.unwrap();
            releasing
        });
        let rival_was_free = rival.join().unwrap();
        println!(
            "the rival was done {:?} after",
            rival_was_free.saturating_duration_since(released)
        );
    });
}
