//! What the processes are: each holds something by a recipe until it is told to end.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use futures_lite::future::block_on;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use tenure_core::{Error, LockManager, LockWatch};
use tenure_recipes::{
    CheckpointCoordinator, ClaimedTask, Compaction, MultiLock, RwLock, Semaphore, TaskQueue,
};
use tenure_testkit::lock_taker::taker::die_with_parent;
use tenure_testkit::servers::patience;

use crate::{PATIENCE, TTL, open, this_program};

/// The variable that makes a process one of these.
const JOB: &str = "TENURE_TEST_HOLDER";
/// What begins a line that is meant for the test, between those of its harness.
const SAYS: &str = "holder: ";

/// By which recipe something is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Recipe {
    Read,
    Write,
    /// Two permits of three.
    Permits,
    Multi,
    Checkpoint,
    Compaction,
    Task,
}

/// What a process is to hold.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) url: String,
    pub(crate) recipe: Recipe,
    /// The names of several locks; of all else the first one counts.
    pub(crate) names: Vec<String>,
}

/// What it says when it holds that.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Holds {
    pub(crate) fence: u64,
    /// When it had it, and from when on it would be lost without renewal, on the clock of this host.
    pub(crate) since: u64,
    pub(crate) deadline: u64,
}

pub(crate) const PERMITS: u32 = 3;

pub(crate) fn coordinator(locks: &LockManager, name: &str) -> CheckpointCoordinator {
    let every = std::time::Duration::ZERO;
    let coordinator = CheckpointCoordinator::new(locks, every, "/checkpoints").unwrap();
    coordinator.name(name).unwrap().ttl(TTL)
}

/// Does the job of this process, if it has one.
pub(crate) fn be_another_process() {
    let Some(job) = std::env::var_os(JOB) else { return };
    die_with_parent();
    let job: Job = serde_json::from_str(job.to_str().unwrap()).unwrap();
    let locks = LockManager::new(open(&job.url)).unwrap();
    let end =
        block_on(hold(&job, &locks)).map_or_else(|e| e.kind().to_string(), |()| "done".into());
    say(&end);
    block_on(locks.close(PATIENCE)).unwrap();
}

async fn hold(job: &Job, locks: &LockManager) -> Result<(), Error> {
    let name = job.names[0].as_str();
    match job.recipe {
        Recipe::Read => {
            let guard = RwLock::new(locks, name)?.ttl(TTL).read().await?;
            until_told(locks, &guard);
            Ok(guard.release().await?)
        }
        Recipe::Write => {
            let guard = RwLock::new(locks, name)?.ttl(TTL).write().await?;
            until_told(locks, &guard);
            Ok(guard.release().await?)
        }
        Recipe::Permits => {
            let guard = Semaphore::new(locks, name, PERMITS)?.ttl(TTL).acquire_many(2).await?;
            until_told(locks, &guard);
            Ok(guard.release().await?)
        }
        Recipe::Multi => {
            let guard = MultiLock::new(locks, job.names.iter())?.ttl(TTL).acquire().await?;
            until_told(locks, &guard.locks()[0]);
            Ok(guard.release().await?)
        }
        Recipe::Checkpoint => {
            let coordinator = coordinator(locks, name);
            let made = coordinator.create_checkpoint(async |job| {
                until_told(locks, job);
                Ok::<_, Error>(())
            });
            made.await.map(drop)
        }
        Recipe::Compaction => {
            let compaction = Compaction::new(locks).ttl(TTL);
            loop {
                let ran = compaction.compact_partition(name, async |lock| {
                    until_told(locks, lock);
                    Ok::<_, Error>(())
                });
                if ran.await?.is_some() {
                    return Ok(());
                }
                pause(locks).await;
            }
        }
        Recipe::Task => {
            let tasks = TaskQueue::new(locks)?.ttl(TTL);
            loop {
                if let ClaimedTask::Mine(task) = tasks.claim_task(name).await? {
                    until_told(locks, &task);
                    return task.complete(&"done").await;
                }
                pause(locks).await;
            }
        }
    }
}

async fn pause(locks: &LockManager) {
    let soon = locks.clock().now().plus(std::time::Duration::from_millis(20));
    locks.sleep_until(soon).await;
}

/// Says what is held, and blocks, as busy work does, until the test says that it may end.
fn until_told(locks: &LockManager, watch: &LockWatch) {
    let holds = Holds {
        fence: watch.fencing_token().get(),
        since: locks.clock().now().as_nanos(),
        deadline: watch.deadlines().0.as_nanos(),
    };
    say(&serde_json::to_string(&holds).unwrap());
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

fn say(word: &str) {
    println!("\n{SAYS}{word}");
    std::io::stdout().flush().unwrap();
}

/// Such a process, as the test sees it; killed with this.
pub(crate) struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    words: Receiver<String>,
}

impl Process {
    pub(crate) fn start(job: &Job) -> Self {
        let mut command = this_program();
        command.env(JOB, serde_json::to_string(job).unwrap());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (tell, words) = mpsc::channel();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some(word) = line.strip_prefix(SAYS) {
                    let _ = tell.send(word.to_owned());
                }
            }
        });
        Self { stdin: child.stdin.take(), child, words }
    }

    fn hears(&self) -> String {
        self.words.recv_timeout(PATIENCE).expect("it says something")
    }

    pub(crate) fn holds(&self) -> Holds {
        let word = self.hears();
        serde_json::from_str(&word).unwrap_or_else(|_| panic!("it holds nothing: {word}"))
    }

    pub(crate) fn has_said_nothing(&self) -> bool {
        self.words.try_recv().is_err()
    }

    /// Lets it end, and answers how that went.
    pub(crate) fn ends(&mut self) -> String {
        drop(self.stdin.take());
        self.hears()
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        if signal == Signal::KILL {
            self.child.wait().unwrap();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for what has to come.
pub(crate) fn until(what: &str, is_so: impl FnMut() -> bool) {
    patience::until(PATIENCE, what, is_so);
}
