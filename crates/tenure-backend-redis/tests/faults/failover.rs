//! What a failover to a replica breaks, how often and for how long: of all promises, exclusion alone.
//!
//! Replication is asynchronous: a replica that is promoted has not seen the last writes, and an old
//! primary that lives on does not know that it is none. Clients find the primary by an address that
//! moves, as behind a load balancer or a virtual address.

use std::time::Duration;

use futures_lite::future::block_on;
use tenure_core::LockManager;
use tenure_testkit::history::{Demand, Phase, Promise, Status};
use tenure_testkit::lock_taker::{Job, Run};
use tenure_testkit::proxy::{Fault, FaultProxy};
use tenure_testkit::seed::seed;
use tenure_testkit::servers::redis::{RedisServer, RedisSetup};

use crate::stage::{
    Ground, LONG, Stage, TTL, X, acquire, assert_held, backend, pass, rounds, rules, until,
};
use tenure_testkit::faults::chaos;

/// For how long the replica has heard nothing when it is promoted.
const LAG: Duration = Duration::from_millis(300);

/// How a deployment is guarded.
#[derive(Clone, Copy, Debug)]
enum Guarded {
    /// Not at all.
    No,
    /// A grant counts when a replica has it: `?min_replicas=1`.
    ByClient,
    /// That, and a primary without a replica takes no writes: `min-replicas-to-write 1`.
    ByBoth,
}

/// A server that does not wait for further replicas before it sends its data.
fn server() -> RedisSetup {
    RedisSetup::new().with(&["--repl-diskless-sync-delay", "0"])
}

/// A primary with one replica, behind an address that moves.
struct Pair {
    /// With the primary, and the address that moves.
    stage: Stage,
    replica: RedisServer,
    /// Between the two.
    link: FaultProxy,
}

impl Pair {
    fn new(guarded: Guarded) -> Self {
        let mut setup = server();
        if matches!(guarded, Guarded::ByBoth) {
            setup = setup.with(&["--min-replicas-to-write", "1", "--min-replicas-max-lag", "1"]);
        }
        let stage = Stage::with(setup);
        let link = FaultProxy::start(stage.server.port());
        let port = link.port().to_string();
        // Alone it would take no writes after its promotion.
        let replica = server().with(&["--replicaof", "127.0.0.1", &port]).start();
        until("the replica has what the primary has", || {
            let info = replica.cli(&["INFO", "replication"]);
            info.contains("master_link_status:up")
        });
        until("the primary has a replica", || {
            let info = stage.server.cli(&["INFO", "replication"]);
            info.contains("state=online") && (info.contains("lag=0") || info.contains("lag=1"))
        });
        let pair = Self { stage, replica, link };
        // Whoever waits and is granted what no replica confirms in time has to stand in line again.
        let asks = format!("{}?min_replicas=1", pair.stage.url());
        let asks = LockManager::new(backend(&asks)).unwrap();
        until("the replica confirms", || {
            let granted = block_on(asks.try_acquire("ready", LONG));
            granted.is_ok_and(|guard| block_on(guard.expect("it is free").release()).is_ok())
        });
        pair
    }

    /// Makes the replica the primary, and moves the address to it.
    fn promote(&self) {
        self.replica.cli(&["REPLICAOF", "NO", "ONE"]);
        self.stage.proxy.redirect(self.replica.port());
        self.stage.proxy.cut();
    }
}

/// How a primary is replaced.
#[derive(Clone, Copy, Debug)]
enum Failover {
    /// It is dead.
    Dead,
    /// It lives on, and half of its clients do not hear of another one for so many ttls.
    Alive(u32),
}

fn run(failover: Failover, guarded: Guarded) -> Run {
    let pair = Pair::new(guarded);
    let mut fleet = pair.stage.fleet(seed(&format!("{failover:?}, guarded {guarded:?}")));
    let query = match guarded {
        Guarded::No => "",
        Guarded::ByClient | Guarded::ByBoth => "?min_replicas=1",
    };
    let job = |store: String| Job {
        store: format!("{store}{query}"),
        rest: Duration::from_millis(20),
        hold: (Duration::ZERO, TTL * 3),
        cancel: 0,
        ..chaos::job(&pair.stage)
    };
    // Those that follow at once, and those that follow late, if the old one lives.
    let late = FaultProxy::start(pair.stage.server.port());
    for _ in 0..2 {
        fleet.start(&job(pair.stage.url())).unwrap();
        fleet.start(&job(pair.stage.server.url_at(late.port()))).unwrap();
    }
    pass(Duration::from_secs(1));
    fleet.fault(Phase::Invoke).unwrap();
    pair.link.set_both(Fault::Stall);
    pass(LAG);
    if let Failover::Dead = failover {
        pair.stage.server.kill();
    }
    pair.promote();
    // With one server left, nobody could ask for a replica any more.
    let alone = !matches!(guarded, Guarded::No);
    let second = alone.then(|| {
        let port = pair.replica.port().to_string();
        server().with(&["--replicaof", "127.0.0.1", &port]).start()
    });
    if let Failover::Alive(ttls) = failover {
        pass(TTL * ttls);
    }
    late.redirect(pair.replica.port());
    late.cut();
    pass(Duration::from_secs(2));
    fleet.fault(Phase::Ok).unwrap();
    pass(Duration::from_secs(1));
    let run = fleet.finish().unwrap();
    drop(second);
    run
}

/// What exclusion suffered in some failovers.
#[derive(Default, Debug)]
struct Damage {
    runs: u32,
    broken: u32,
    overlaps: u32,
    longest_ms: f64,
}

fn measure(failover: Failover, guarded: Guarded, times: u64) -> Damage {
    let mut damage = Damage::default();
    for _ in 0..times {
        let run = run(failover, guarded);
        let rules = rules(TTL)
            .expect(Promise::Exclusion, Demand::Measured)
            .expect(Promise::Orphans, Demand::NotOffered);
        assert_held(&run, &rules, None, &[Promise::Fence, Promise::Release]);
        let verdict = run.judge(None, &rules);
        let exclusion = &verdict.promises[0];
        damage.runs += 1;
        if exclusion.status == Status::Broken {
            damage.broken += 1;
            // "2 overlaps, longest 26.000 ms, 28.000 ms in all"
            let words: Vec<&str> = exclusion.measured.split(' ').collect();
            damage.overlaps += words[0].parse::<u32>().unwrap();
            damage.longest_ms = damage.longest_ms.max(words[3].parse().unwrap());
        }
    }
    println!("MEASURED {failover:?}, guarded {guarded:?}: {damage:?}, ttl {TTL:?}, lag {LAG:?}");
    damage
}

#[test]
fn a_program_without_a_runtime_can_ask_for_replicas_list_and_look() {
    let pair = Pair::new(Guarded::No);
    let manager = LockManager::new(backend(&format!("{}?min_replicas=1", pair.stage.url())));
    let manager = manager.unwrap();
    let guard = acquire(&manager, X, LONG);
    assert!(block_on(manager.health()).up);
    assert_eq!(block_on(manager.list("", 10)).unwrap().len(), 1);
    block_on(guard.release()).unwrap();
    pair.link.set_both(Fault::Stall);
    let error = block_on(manager.try_acquire(X, LONG)).unwrap_err();
    assert!(error.to_string().contains("0 of 1 replicas"), "{error}");
    assert!(block_on(manager.try_acquire("y", LONG)).is_err());
    let other = pair.stage.bystander();
    block_on(acquire(&other, X, LONG).release()).unwrap();
}

#[test]
fn a_failover_to_a_replica_that_lags_behind_may_break_exclusion_and_nothing_else() {
    measure(Failover::Dead, Guarded::No, rounds(1));
}

#[test]
fn a_failover_with_min_replicas_may_break_exclusion_and_nothing_else() {
    measure(Failover::Dead, Guarded::ByClient, rounds(1));
}

#[test]
fn an_old_primary_that_lives_on_may_break_exclusion_and_nothing_else() {
    measure(Failover::Alive(4), Guarded::No, rounds(1));
}

#[test]
fn an_old_primary_that_lives_on_with_min_replicas_may_break_exclusion_and_nothing_else() {
    measure(Failover::Alive(4), Guarded::ByClient, rounds(1));
}

#[test]
fn an_old_primary_that_takes_no_writes_alone_stops_its_holders() {
    measure(Failover::Alive(4), Guarded::ByBoth, rounds(1));
}
