//! Leaders that are real processes, killed and stopped half-way.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tenure_core::LockManager;
use tenure_core::clock::{Clock, SystemClock};
use tenure_recipes::once::{Executions, Fingerprint, IdempotencyConfig, Once, State};

use crate::stage::{LONG, Stage, open, runtime, until, until_followers, until_state};

const JOB: &str = "TENURE_TEST_ONCE_JOB";
/// How long a silent leader keeps its lease.
const LEASE: Duration = Duration::from_secs(3);

/// What another process is told.
#[derive(Serialize, Deserialize)]
struct Job {
    url: String,
    scope: String,
    dir: PathBuf,
    name: String,
    executions: Executions,
}

/// What it tells in the end.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
enum Told {
    Result { value: String, attempt: u32, fence: u64, own: bool },
    Error(String),
}

fn config(scope: &str, executions: Executions) -> IdempotencyConfig {
    IdempotencyConfig::new(scope).in_progress_ttl(LEASE).wait_timeout(LONG).executions(executions)
}

/// Makes one call, whose work writes itself into the ledger and ends when it may.
pub(crate) fn be_another_process() {
    let Some(job) = std::env::var_os(JOB) else { return };
    let job: Job = serde_json::from_str(job.to_str().unwrap()).unwrap();
    let locks = LockManager::new(open(&job.url)).unwrap();
    let once = Once::new(locks, config(&job.scope, job.executions)).unwrap();
    let work = async |attempt: tenure_recipes::once::Attempt| {
        let mut ledger =
            OpenOptions::new().create(true).append(true).open(job.dir.join("ledger")).unwrap();
        writeln!(ledger, "{} {}", job.name, attempt.number()).unwrap();
        until("it may end", async || job.dir.join("go").exists()).await;
        Ok::<_, String>(job.name.clone())
    };
    let told = runtime().block_on(async {
        match once.run("key", Fingerprint::of("request"), work).await {
            Ok(outcome) => Told::Result {
                own: outcome.source == tenure_recipes::once::Source::Executed,
                value: outcome.value,
                attempt: outcome.attempt,
                fence: outcome.fence.get(),
            },
            Err(error) => Told::Error(error.as_str().to_owned()),
        }
    });
    let whole = job.dir.join(format!("{}.part", job.name));
    fs::write(&whole, serde_json::to_vec(&told).unwrap()).unwrap();
    fs::rename(whole, job.dir.join(format!("{}.told", job.name))).unwrap();
}

/// Processes that make the same call.
struct Callers<'a> {
    stage: &'a Stage,
    scope: &'static str,
    executions: Executions,
    dir: TempDir,
    children: Vec<(String, Child)>,
}

impl<'a> Callers<'a> {
    fn new(stage: &'a Stage, scope: &'static str, executions: Executions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { stage, scope, executions, dir, children: Vec::new() }
    }

    /// The same calls, seen from here.
    fn once(&self) -> Once {
        self.stage.once(&config(self.scope, self.executions))
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn start(&mut self, name: &str) {
        let job = Job {
            url: self.stage.url.clone(),
            scope: self.scope.to_owned(),
            dir: self.path().to_owned(),
            name: name.to_owned(),
            executions: self.executions,
        };
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["another_process", "--exact", "--nocapture"])
            .env(JOB, serde_json::to_string(&job).unwrap())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.children.push((name.to_owned(), child));
    }

    fn signal(&self, name: &str, signal: Signal) {
        let (_, child) = self.children.iter().find(|(n, _)| n == name).unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    fn may_end(&self) {
        fs::write(self.path().join("go"), "").unwrap();
    }

    /// Who ran the work, in order, with the number of the attempt.
    fn ledger(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path().join("ledger")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    async fn until_begun(&self, count: usize) {
        until("so many began", async || self.ledger().len() == count).await;
    }

    async fn told(&self, name: &str) -> Told {
        let path = self.path().join(format!("{name}.told"));
        until("it ended", async || path.exists()).await;
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }
}

impl Drop for Callers<'_> {
    fn drop(&mut self) {
        for (_, child) in &mut self.children {
            // It has ended, or it is to.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

const FOLLOWERS: [&str; 3] = ["second", "third", "fourth"];

async fn a_killed_leader_is_followed_by_exactly_one(stage: &Stage) {
    let mut callers = Callers::new(stage, "killed", Executions::AtLeastOnce);
    let once = callers.once();
    callers.start("first");
    callers.until_begun(1).await;
    for name in FOLLOWERS {
        callers.start(name);
    }
    until_followers(&once, "key", FOLLOWERS.len()).await;
    let killed = SystemClock.now();
    callers.signal("first", Signal::KILL);
    callers.until_begun(2).await;
    println!("{}: taken over {:?} after the kill", stage.kind, SystemClock.now().since(killed));
    // The others follow the new leader; none of them began.
    until_followers(&once, "key", FOLLOWERS.len() - 1).await;
    callers.may_end();
    let mut owners = 0;
    let mut values = Vec::new();
    for name in FOLLOWERS {
        let Told::Result { value, attempt, fence, own } = callers.told(name).await else {
            panic!("{name}: {:?}", callers.told(name).await);
        };
        assert_eq!(attempt, 2);
        owners += u32::from(own);
        values.push((value, fence));
    }
    assert!(values.iter().all(|v| *v == values[0]), "{values:?}");
    assert_eq!(owners, 1);
    assert_eq!(callers.ledger(), ["first 1".to_owned(), format!("{} 2", values[0].0)]);
}

async fn a_stopped_leader_gets_the_result_of_its_successor(stage: &Stage) {
    let mut callers = Callers::new(stage, "stopped", Executions::AtLeastOnce);
    let once = callers.once();
    callers.start("first");
    callers.until_begun(1).await;
    callers.start("second");
    until_followers(&once, "key", 1).await;
    callers.signal("first", Signal::STOP);
    callers.until_begun(2).await;
    callers.may_end();
    let second = callers.told("second").await;
    callers.signal("first", Signal::CONT);
    let first = callers.told("first").await;
    let Told::Result { value, attempt, fence, own: true } = second else { panic!("{second:?}") };
    assert_eq!((value.as_str(), attempt), ("second", 2));
    assert_eq!(first, Told::Result { value, attempt, fence, own: false });
    assert_eq!(callers.ledger(), ["first 1", "second 2"]);
}

async fn a_killed_leader_of_what_may_run_only_once_is_followed_by_nobody(stage: &Stage) {
    let mut callers = Callers::new(stage, "only once", Executions::AtMostOnce);
    let once = callers.once();
    callers.start("first");
    callers.until_begun(1).await;
    for name in FOLLOWERS {
        callers.start(name);
    }
    until_followers(&once, "key", FOLLOWERS.len()).await;
    callers.signal("first", Signal::KILL);
    for name in FOLLOWERS {
        assert_eq!(callers.told(name).await, Told::Error("indeterminate".to_owned()));
    }
    until_state(&once, "key", State::Unknown).await;
    assert_eq!(callers.ledger(), ["first 1"]);
}

macro_rules! on_stores {
    ($($store:ident: $stage:expr),* $(,)?) => {
        $(
            mod $store {
                use super::*;

                #[test]
                fn leaders_that_are_killed_and_stopped_are_followed() {
                    let stage = $stage;
                    runtime().block_on(async {
                        a_killed_leader_is_followed_by_exactly_one(&stage).await;
                        a_stopped_leader_gets_the_result_of_its_successor(&stage).await;
                        a_killed_leader_of_what_may_run_only_once_is_followed_by_nobody(&stage).await;
                    });
                }
            }
        )*
    };
}

on_stores![
    in_a_directory: Stage::file(),
    on_redis: Stage::redis(),
    in_a_lease_table: Stage::lease_table(),
];
