//! A server that dies and comes back, stands still, and ends sessions.

use std::thread;
use std::time::Duration;

use futures_lite::future::block_on;
use tenure_core::{LockManager, Owner};
use tenure_testkit::faults::server::troubled;
use tenure_testkit::history::Demand;

use crate::stage::{Ground, LONG, Stage, X, acquire, careless, pass, until};

#[test]
fn a_grant_survives_a_crash_also_where_commits_are_not_waited_for() {
    let stage = Stage::with(careless());
    let manager = stage.bystander();
    let guard = acquire(&manager, X, LONG);
    let fence = guard.fencing_token();
    stage.server.kill();
    stage.server.restart();
    let other = stage.bystander();
    let holder = block_on(other.get_lock_info(X)).unwrap().expect("it is held");
    assert_eq!(holder.fence, fence);
    assert!(block_on(other.try_acquire(X, LONG)).unwrap().is_none());
    block_on(guard.release()).unwrap();
    let next = acquire(&other, X, LONG);
    assert!(fence < next.fencing_token());
    block_on(next.release()).unwrap();
}

/// The control: what the test before would find if the functions did not see to it.
#[test]
fn without_waiting_for_its_commit_a_grant_is_lost_in_a_crash() {
    let stage = Stage::with(careless());
    stage.server.psql(
        "CREATE OR REPLACE FUNCTION tenure.make_durable() RETURNS void LANGUAGE plpgsql \
         AS 'BEGIN END'; CHECKPOINT",
    );
    let manager = stage.bystander();
    let guard = acquire(&manager, X, LONG);
    stage.server.kill();
    stage.server.restart();
    assert!(!block_on(stage.bystander().is_locked(X)).unwrap());
    assert!(block_on(guard.release()).is_err());
}

/// Found by the checker: one who waited was passed over, for the session that listened for it had died
/// with the server, and somebody who came later got the lock before it.
#[test]
fn after_a_restart_of_the_server_nobody_in_the_queue_counts_as_gone() {
    let stage = Stage::new();
    let labelled = |label: &str, url: &str| {
        let owner = Owner::labelled(label).unwrap();
        let backend = tenure_backend_postgres::open(url).unwrap();
        LockManager::builder(backend).owner(owner).build().unwrap()
    };
    let (holder, first) = (stage.bystander(), labelled("first", &stage.url()));
    let later = labelled("later", &stage.server.url());
    let guard = acquire(&holder, X, LONG);
    let waiters = || block_on(holder.inspect(X)).map_or(0, |view| view.waiters.len());
    thread::scope(|scope| {
        scope.spawn(|| block_on(acquire(&first, X, LONG).release()));
        until("it waits", || waiters() == 1);
        // It does not come back before the lock is handed over.
        stage.proxy.refuse();
        stage.proxy.cut();
        stage.server.restart();
        scope.spawn(|| block_on(acquire(&later, X, LONG).release()));
        until("both wait", || waiters() == 2);
        block_on(guard.release()).unwrap();
        let view = block_on(holder.inspect(X)).unwrap();
        assert_eq!(&*view.holders[0].details.owner.label, "first");
        stage.proxy.heal();
    });
}

#[test]
fn a_release_for_nobody_does_not_wait_for_its_commit_and_one_that_hands_over_does() {
    let stage = Stage::new();
    let (manager, other) = (stage.bystander(), stage.bystander());
    let (x, y) = (acquire(&manager, X, LONG), acquire(&manager, "y", LONG));
    thread::scope(|scope| {
        let waits = scope.spawn(|| acquire(&other, "y", LONG));
        until("it waits", || block_on(manager.inspect("y")).unwrap().waiters.len() == 1);
        // From now on whoever waits for a commit waits for a standby that is not there.
        stage.server.psql("alter system set synchronous_standby_names = 'nobody'");
        stage.server.psql("select pg_reload_conf()");
        until("commits wait", || stage.server.psql("show synchronous_standby_names") == "nobody");
        let held = manager.clone();
        block_on(x.release()).unwrap();
        let handing = scope.spawn(move || (block_on(y.release()), held));
        let waits_for_it = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'";
        until("the hand-over waits", || stage.server.psql(waits_for_it) != "0");
        assert!(!waits.is_finished() && !handing.is_finished());
        stage.server.psql("alter system reset synchronous_standby_names");
        stage.server.psql("select pg_reload_conf()");
        let _ = handing.join().unwrap();
        block_on(waits.join().unwrap().release()).unwrap();
    });
}

#[test]
fn sessions_that_are_ended_again_and_again_break_no_promise() {
    const END: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                       WHERE application_name LIKE 'tenure%'";
    const CANCEL: &str = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity \
                          WHERE application_name LIKE 'tenure%'";
    let stage = Stage::new();
    troubled("leases, sessions that are ended", &stage, Demand::Must, |_| {
        for _ in 0..10 {
            stage.server.psql(END);
            stage.server.psql(CANCEL);
            pass(Duration::from_millis(30));
        }
    });
}
