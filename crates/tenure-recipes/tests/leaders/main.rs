//! Leaders that are killed and stopped as real processes: whoever leads next does so alone.
//!
//! `another_process` is what the candidates are; what they write down is judged by the history checker,
//! the deadline of a term and the word of its end included.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod candidate;

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tenure_backend_file::{FileBackend, FileConfig};
use tenure_backend_redis::RedisBackend;
use tenure_core::backend::{Claim, DynBackend};
use tenure_core::clock::SystemClock;
use tenure_testkit::history::{Demand, Event, Op, Phase, Promise, Rules};
use tenure_testkit::lock_taker::{Doing, Fleet, Job, Run};
use tenure_testkit::servers::patience;
use tenure_testkit::servers::postgres::PostgresSetup;
use tenure_testkit::servers::redis::RedisSetup;
use tenure_testkit::stage::{PATIENCE, assert_held, rounds, this_program};

/// The ttl of a term.
const TTL: Duration = Duration::from_millis(500);
/// A term that is over goes to a live candidate within this, on a machine that has other things to do.
const RECOVERY: Duration = Duration::from_millis(2500);
/// How late a busy machine may run the thread that tells of a loss.
const SLACK: Duration = Duration::from_millis(600);
/// How leaders are ended by force, where a killed one has to be waited out.
const FORCE: Force = Force { changes: 34, stop_one_in: 2, ttl: TTL };

/// How leaders are ended by force.
#[derive(Clone, Copy)]
struct Force {
    changes: u32,
    /// The others are killed.
    stop_one_in: u32,
    ttl: Duration,
}

/// Not a test of its own: what other processes do that run this program again.
#[test]
fn another_process() {
    if let Some(job) = Job::of_this_process() {
        candidate::campaign(&job, open(&job.store)).unwrap();
    }
}

fn open(url: &str) -> Arc<dyn DynBackend> {
    if url.starts_with("redis:") {
        return Arc::new(RedisBackend::open(url).unwrap());
    }
    if url.starts_with("postgres") {
        return tenure_backend_postgres::open(url).unwrap();
    }
    let config = FileConfig::from_url(url).unwrap();
    Arc::new(FileBackend::open(&config, Arc::new(SystemClock)).unwrap())
}

#[test]
fn forced_changes_never_let_two_lead_in_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    // A killed leader is proven to be dead.
    let force = Force { changes: 104, stop_one_in: 4, ttl: TTL };
    change_leaders(&format!("file://{}", dir.path().display()), force);
}

#[test]
fn forced_changes_never_let_two_lead_on_a_redis_server() {
    let server = RedisSetup::new().start();
    change_leaders(&server.url(), FORCE);
}

#[test]
fn forced_changes_never_let_two_lead_in_a_lease_table() {
    let server = PostgresSetup::new().start();
    server.psql(&tenure_backend_postgres::install_sql("tenure"));
    change_leaders(&server.url(), FORCE);
}

#[test]
fn forced_changes_never_let_two_lead_on_advisory_locks() {
    let server = PostgresSetup::new().start();
    // A session that is silent is ended after 2 s at the least.
    let url = server.url().replace("postgres://", "postgres+advisory://");
    change_leaders(&url, Force { changes: 8, stop_one_in: 2, ttl: Duration::from_secs(2) });
}

/// Kills and stops one leader after the other; then judges what all of them wrote down.
fn change_leaders(url: &str, mut force: Force) {
    let history = tempfile::tempdir().unwrap();
    force.changes *= u32::try_from(rounds(1)).unwrap();
    let mut crowd = Crowd::new(url, force.ttl, &history);
    let mut stopped: Option<String> = None;
    for change in 0..force.changes {
        let leader = crowd.leader(stopped.as_deref());
        // The one that was stopped goes on while the next one leads, and finds itself lost. Until it
        // has, it looks like a leader that could be ended once more.
        if let Some(last) = stopped.take() {
            crowd.fleet.go_on(&last).unwrap();
            crowd.wait_until_not(&last, Doing::Holding);
        }
        if (change + 1) % force.stop_one_in != 0 {
            crowd.fleet.kill(&leader).unwrap();
            crowd.candidates.retain(|candidate| *candidate != leader);
            crowd.enter();
        } else {
            crowd.fleet.stop(&leader).unwrap();
            stopped = Some(leader);
        }
    }
    crowd.leader(stopped.as_deref());
    judge(&crowd.fleet.finish().unwrap(), force);
}

/// Candidates of one election.
struct Crowd {
    fleet: Fleet,
    job: Job,
    candidates: Vec<String>,
}

impl Crowd {
    fn new(url: &str, ttl: Duration, history: &TempDir) -> Self {
        let fleet = Fleet::new(history.path(), 0, this_program).unwrap();
        let job = Job { ttl, ..Job::new(url, "leader") };
        let mut crowd = Self { fleet, job, candidates: Vec::new() };
        crowd.enter();
        let first = crowd.leader(None);
        // These ask for what is held, for certain: that is the occasion to let two lead.
        crowd.enter();
        crowd.enter();
        for candidate in crowd.candidates.iter().filter(|candidate| **candidate != first) {
            crowd.wait_until(candidate, Doing::Waiting);
        }
        crowd
    }

    fn wait_until(&self, candidate: &str, doing: Doing) {
        let is = || (self.fleet.doing(candidate).unwrap() == doing).then_some(());
        patience::look_for(PATIENCE, is).expect("a candidate does what it is to do");
    }

    fn wait_until_not(&self, candidate: &str, doing: Doing) {
        let is_not = || (self.fleet.doing(candidate).unwrap() != doing).then_some(());
        patience::look_for(PATIENCE, is_not).expect("a candidate finds out what became of it");
    }

    fn enter(&mut self) {
        self.candidates.push(self.fleet.start(&self.job).unwrap());
    }

    /// Waits until somebody leads, the one that is stopped aside: that one does not know better.
    fn leader(&self, stopped: Option<&str>) -> String {
        let leads = |candidate: &&String| {
            stopped != Some(candidate.as_str())
                && self.fleet.doing(candidate).unwrap() == Doing::Holding
        };
        patience::look_for(PATIENCE, || self.candidates.iter().find(leads).cloned())
            .expect("somebody leads")
    }
}

fn judge(run: &Run, force: Force) {
    let Force { changes, stop_one_in, ttl } = force;
    let rules = Rules { lost_slack: SLACK, place: Claim::WAIT_TTL, ..Rules::new(ttl, RECOVERY) }
        .expect(Promise::Orphans, Demand::NotOffered)
        .expect(Promise::Order, Demand::NotOffered);
    let tried = [Promise::Exclusion, Promise::Fence, Promise::Loss, Promise::Recovery];
    assert_held(run, &rules, None, &tried);
    let is = |op, phase| move |event: &&Event| (event.op, event.phase) == (op, phase);
    let terms = run.events.iter().filter(is(Op::Acquire, Phase::Ok)).count();
    assert!(usize::try_from(changes).unwrap() < terms, "{terms} terms, {changes} changes");
    // Every leader that was stopped for longer than its term was told so, by the callback.
    let lost = run.events.iter().filter(is(Op::Lost, Phase::Ok)).count();
    let stops = changes / stop_one_in;
    assert!(usize::try_from(stops - 1).unwrap() <= lost, "{lost} of {stops} were told");
}
