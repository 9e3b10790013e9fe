//! A worker that is killed, and one that is stopped, while they have a task.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::sync::Arc;

use futures_lite::future::block_on;
use rustix::process::{Pid, Signal, kill_process};
use tenure_core::LockManager;
use tenure_core::backend::DynBackend;
use tenure_recipes::{ClaimedTask, Task, TaskQueue};
use tenure_testkit::lock_taker::taker::die_with_parent;
use tenure_testkit::servers::patience;

use crate::{PATIENCE, TTL, open, this_program};

/// The variable that makes a process a worker, and says where.
pub(crate) const STORE: &str = "TENURE_TEST_STORE";
const TASK: &str = "crash";

/// Claims the task and says so; says it is done when it is told to, if it still may.
pub(crate) fn work(backend: Arc<dyn DynBackend>) {
    die_with_parent();
    let task = claim(backend);
    say(format!("attempt {}", task.attempt()));
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let how = block_on(task.complete(&"late"));
    say(how.map_or_else(|error| error.kind().to_string(), |()| "completed".to_owned()));
}

/// Waits until the task is free, and claims it.
fn claim(backend: Arc<dyn DynBackend>) -> Task {
    let tasks = TaskQueue::new(&LockManager::new(backend).unwrap()).unwrap().ttl(TTL);
    let claimed =
        patience::look_for(PATIENCE, || match block_on(tasks.claim_task(TASK)).unwrap() {
            ClaimedTask::Mine(task) => Some(task),
            _ => None,
        });
    claimed.expect("the task is free after the ttl of its worker")
}

/// In lines of their own, between those of the test harness.
fn say(word: impl AsRef<str>) {
    println!("\nworker: {}", word.as_ref());
    std::io::stdout().flush().unwrap();
}

struct Worker {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Worker {
    fn start(url: &str) -> Self {
        let mut command = this_program();
        command.env(STORE, url).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn hear(&mut self) -> String {
        let words = self.lines.by_ref().map(Result::unwrap);
        let mut said = words.filter_map(|line| line.strip_prefix("worker: ").map(str::to_owned));
        said.next().expect("it says something before it ends")
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn crash(url: &str) {
    let mut killed = Worker::start(url);
    assert_eq!(killed.hear(), "attempt 1");
    killed.signal(Signal::KILL);

    let mut stopped = Worker::start(url);
    assert_eq!(stopped.hear(), "attempt 2");
    stopped.signal(Signal::STOP);

    let last = claim(open(url));
    assert_eq!(last.attempt(), 3);
    // The one that was stopped goes on, and cannot say that the task is done.
    stopped.signal(Signal::CONT);
    writeln!(stopped.child.stdin.as_mut().unwrap()).unwrap();
    assert_eq!(stopped.hear(), "lost");
    block_on(last.complete(&"third")).unwrap();

    let tasks = TaskQueue::new(&LockManager::new(open(url)).unwrap()).unwrap();
    let done = block_on(tasks.completion(TASK)).unwrap().expect("it is done");
    assert_eq!((done.attempt, done.result), (3, "third".into()));
}
