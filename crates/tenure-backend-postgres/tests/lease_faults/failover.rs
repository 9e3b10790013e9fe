//! What a failover to a standby breaks, how often and for how long, in both rooms.
//!
//! A standby that is promoted has not seen the last writes, unless commits wait for it, and an old server
//! that lives on does not know that it was replaced. Session locks are not copied at all. Clients find
//! the server by an address that moves, as behind a load balancer or a virtual address.

use std::time::Duration;

use tenure_testkit::history::{Demand, Phase, Promise, Status};
use tenure_testkit::lock_taker::{Job, Run};
use tenure_testkit::proxy::{Fault, FaultProxy};
use tenure_testkit::seed::seed;
use tenure_testkit::servers::postgres::PostgresServer;

use crate::stage::{Ground, Stage, TTL, assert_held, pass, rounds, rules, until};
use tenure_testkit::faults::chaos;

/// For how long the standby has heard nothing when it is promoted.
const LAG: Duration = Duration::from_millis(300);
/// The ttl of session locks: the shortest class of sessions.
const CLASS: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Locks {
    /// Leases, and commits that wait for nobody else.
    Leases,
    /// Leases, and commits that wait for the standby.
    LeasesInStep,
    Sessions,
}

impl Locks {
    fn ttl(self) -> Duration {
        if self == Self::Sessions { CLASS } else { TTL }
    }

    fn url(self, url: &str) -> String {
        match self {
            Self::Sessions => url.replace("postgres://", "postgres+advisory://"),
            _ => url.to_owned(),
        }
    }
}

/// How a server is replaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Failover {
    /// It is dead.
    Dead,
    /// It lives on, and half of its clients do not hear of another one for so many ttls.
    Alive(u32),
}

/// A server with one standby, behind an address that moves.
struct Pair {
    /// With the server, and the address that moves.
    stage: Stage,
    standby: PostgresServer,
    /// Between the two.
    link: FaultProxy,
}

impl Pair {
    fn new(locks: Locks) -> Self {
        let stage = Stage::new();
        let link = FaultProxy::start(stage.server.port());
        let standby = stage.server.standby_by(link.port());
        let server = &stage.server;
        if locks == Locks::LeasesInStep {
            server.psql("alter system set synchronous_standby_names = '*'");
            server.psql("select pg_reload_conf()");
        }
        let state = match locks {
            Locks::LeasesInStep => "sync_state = 'sync'",
            _ => "state = 'streaming'",
        };
        let in_step = format!("select count(*) from pg_stat_replication where {state}");
        until("the standby follows", || server.psql(&in_step) == "1");
        Self { stage, standby, link }
    }

    /// Makes the standby take over, and moves the address to it.
    fn promote(&self) {
        self.standby.promote();
        self.stage.proxy.redirect(self.standby.port());
        self.stage.proxy.cut();
    }
}

fn run(failover: Failover, locks: Locks) -> Run {
    let pair = Pair::new(locks);
    let ttl = locks.ttl();
    let mut fleet = pair.stage.fleet(seed(&format!("{failover:?}, {locks:?}")));
    let job = |url: String| Job {
        store: locks.url(&url),
        ttl,
        rest: Duration::from_millis(20),
        hold: (Duration::ZERO, ttl * 3 / 2),
        cancel: 0,
        priority: 0,
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
    if failover == Failover::Dead {
        pair.stage.server.kill();
    }
    pair.promote();
    if let Failover::Alive(ttls) = failover {
        pass(ttl * ttls);
    }
    late.redirect(pair.standby.port());
    late.cut();
    pass(Duration::from_secs(2));
    fleet.fault(Phase::Ok).unwrap();
    pass(Duration::from_secs(1));
    fleet.finish().unwrap()
}

/// What exclusion suffered in some failovers.
#[derive(Default, Debug)]
struct Damage {
    runs: u32,
    broken: u32,
    overlaps: u32,
    longest_ms: f64,
}

fn measure(failover: Failover, locks: Locks, exclusion: Demand) {
    let mut damage = Damage::default();
    for _ in 0..rounds(1) {
        let run = run(failover, locks);
        // Tokens begin with the timeline: what an old server grants after the new one did is below
        // it, and refused by whoever compares.
        let split = locks == Locks::Sessions && failover != Failover::Dead;
        let rules = rules(locks.ttl())
            .expect(Promise::Exclusion, exclusion)
            .expect(Promise::Fence, if split { Demand::Measured } else { Demand::Must })
            .expect(Promise::Order, Demand::Measured)
            .expect(Promise::Orphans, Demand::NotOffered);
        assert_held(&run, &rules, Some(&[]), &[Promise::Release]);
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
    println!("MEASURED {failover:?}, {locks:?}: {damage:?}, ttl {:?}, lag {LAG:?}", locks.ttl());
}

#[test]
fn a_failover_to_a_standby_that_lags_behind_may_break_exclusion_and_nothing_else() {
    measure(Failover::Dead, Locks::Leases, Demand::Measured);
}

#[test]
fn a_failover_to_a_standby_that_commits_wait_for_breaks_nothing() {
    measure(Failover::Dead, Locks::LeasesInStep, Demand::Must);
}

#[test]
fn an_old_server_that_lives_on_may_break_exclusion_and_nothing_else() {
    measure(Failover::Alive(3), Locks::Leases, Demand::Measured);
}

#[test]
fn an_old_server_that_lives_on_and_whose_commits_wait_for_the_new_one_breaks_nothing() {
    measure(Failover::Alive(3), Locks::LeasesInStep, Demand::Must);
}

#[test]
fn a_failover_of_session_locks_may_break_exclusion_and_nothing_else() {
    measure(Failover::Dead, Locks::Sessions, Demand::Measured);
}

#[test]
fn session_locks_of_an_old_server_that_lives_on_may_break_exclusion_and_have_lower_fences() {
    measure(Failover::Alive(2), Locks::Sessions, Demand::Measured);
}
