//! A server that dies and comes back, stands still, and ends sessions.

use std::thread;
use std::time::Duration;

use futures_lite::future::block_on;
use tenure_core::{LockManager, Owner};
use tenure_testkit::history::{Demand, Op, Phase, Promise};
use tenure_testkit::lock_taker::{Doing, Job};
use tenure_testkit::seed::seed;
use tenure_testkit::servers::postgres::PostgresSetup;

use crate::chaos::{self, TTL};
use crate::stage::{
    LONG, SHORT, Stage, X, a_holder, a_waiter, acquire, assert_held, did, pass, rules, until,
};

/// A server that writes what is committed to disk when it likes, and holders renewed at their ttl.
fn careless() -> Stage {
    let setup = PostgresSetup::new().set("synchronous_commit", "off");
    Stage::with(setup.set("wal_writer_delay", "10s"))
}

#[test]
fn a_grant_survives_a_crash_also_where_commits_are_not_waited_for() {
    let stage = careless();
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
    let stage = careless();
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

#[test]
fn a_lease_and_a_place_outlive_a_server_that_is_killed_and_comes_back() {
    let stage = Stage::new();
    let mut fleet = stage.fleet(0);
    let ttl = SHORT * 4;
    let holder = a_holder(&mut fleet, stage.job(ttl));
    let waiter = a_waiter(&mut fleet, stage.job(ttl));
    fleet.fault(Phase::Invoke).unwrap();
    stage.server.restart();
    fleet.fault(Phase::Ok).unwrap();
    pass(ttl);
    assert_eq!(fleet.doing(&holder).unwrap(), Doing::Holding);
    assert_eq!(fleet.doing(&waiter).unwrap(), Doing::Waiting);
    // A restart is not an end: the one that holds is killed, and the other gets in.
    fleet.kill(&holder).unwrap();
    fleet.until(&waiter, Doing::Holding).unwrap();
    let run = fleet.finish().unwrap();
    assert!(!did(&run, &holder, Op::Lost, Phase::Ok));
    let tried = [Promise::Exclusion, Promise::Recovery];
    assert_held(&run, &rules(ttl), Some(&stage.left(ttl)), &tried);
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

/// Takers on a server to which something is done again and again, between two calm times.
pub(crate) fn troubled(of: &str, stage: &Stage, exclusion: Demand, trouble: impl Fn(u32)) {
    let mut fleet = stage.fleet(seed(of));
    let job = Job { rest: Duration::from_millis(20), ..chaos::job(stage) };
    for _ in 0..5 {
        fleet.start(&job).unwrap();
    }
    pass(Duration::from_secs(1));
    for round in 0..3 {
        fleet.fault(Phase::Invoke).unwrap();
        trouble(round);
        // Connected again.
        pass(Duration::from_millis(700));
        fleet.fault(Phase::Ok).unwrap();
        pass(Duration::from_millis(700));
    }
    chaos::outlive(&mut fleet, &job);
    let run = fleet.finish().unwrap();
    let rules = rules(TTL).expect(Promise::Exclusion, exclusion);
    let mut tried = Promise::ALL.to_vec();
    tried.retain(|promise| *promise != Promise::Exclusion || exclusion == Demand::Must);
    assert_held(&run, &rules, Some(&stage.left(TTL)), &tried);
}

#[test]
fn a_server_that_is_killed_and_restarted_breaks_no_promise() {
    let stage = careless();
    troubled("leases, restarts", &stage, Demand::Must, |round| {
        stage.server.kill();
        pass(TTL.mul_f64([0.0, 0.3, 1.5][round as usize]));
        stage.server.restart();
    });
}

#[test]
fn a_server_that_is_stopped_and_goes_on_breaks_no_promise() {
    let stage = Stage::new();
    troubled("leases, stops of the server", &stage, Demand::Must, |round| {
        stage.server.stop();
        pass(TTL.mul_f64([0.5, 3.0, 1.1][round as usize]));
        stage.server.cont();
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
