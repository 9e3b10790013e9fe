//! The whole way, with real threads and files: recorded, read back and judged.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::Duration;

use super::register::increment;
use super::*;

const THREADS: usize = 4;

/// What the threads share.
struct Stage<'a> {
    dir: &'a Path,
    lock: Option<Mutex<()>>,
    fence: AtomicU64,
    asked: AtomicU64,
    all: Barrier,
}

impl Stage<'_> {
    /// Ten holds of one process; without a lock, the first ones of all processes meet.
    fn play(&self, proc: usize) {
        let recorder = Recorder::create(self.dir, &format!("p{proc}")).unwrap();
        let register = FileRegister::open(self.dir).unwrap();
        for turn in 0..10 {
            let attempt = recorder.next_attempt();
            let note = |op, phase| Event::new(op, phase).about(attempt, "a");
            recorder.record(note(Op::Acquire, Phase::Invoke)).unwrap();
            self.asked.fetch_add(1, Ordering::SeqCst);
            let guard = self.lock.as_ref().map(|lock| lock.lock().unwrap());
            let fence = self.fence.fetch_add(1, Ordering::SeqCst);
            recorder.record(note(Op::Acquire, Phase::Ok).granted("h", fence)).unwrap();
            if guard.is_none() && turn == 0 {
                self.all.wait();
            }
            // Not before somebody else has asked, or all have had their turns.
            while self.asked.load(Ordering::SeqCst) < 2 {
                thread::yield_now();
            }
            increment(&register, "a", Fence(fence)).unwrap();
            recorder.record(note(Op::Release, Phase::Invoke)).unwrap();
            drop(guard);
            recorder.record(note(Op::Release, Phase::Ok)).unwrap();
        }
    }
}

fn rehearse(lock: Option<Mutex<()>>) -> Verdict {
    let dir = tempfile::tempdir().unwrap();
    let stage = Stage {
        dir: dir.path(),
        lock,
        fence: AtomicU64::new(1),
        asked: AtomicU64::new(0),
        all: Barrier::new(THREADS),
    };
    thread::scope(|scope| {
        for proc in 0..THREADS {
            let stage = &stage;
            scope.spawn(move || stage.play(proc));
        }
    });
    let events = read_dir(dir.path()).unwrap();
    let log = FileRegister::open(dir.path()).unwrap().log().unwrap();
    let rules = Rules::new(Duration::from_secs(1), Duration::from_secs(5))
        .expect(Promise::Loss, Demand::NotOffered)
        .expect(Promise::Orphans, Demand::NotOffered)
        .expect(Promise::Order, Demand::NotOffered);
    judge(Evidence { events: &events, register: Some(&log), left: None, seed: 0 }, &rules).unwrap()
}

#[test]
fn a_mutex_holds_what_it_promises() {
    let verdict = rehearse(Some(Mutex::new(())));
    assert!(verdict.passed, "{verdict}");
}

#[test]
fn without_a_lock_exclusion_breaks_and_the_fences_still_save_the_resource() {
    let verdict = rehearse(None);
    assert_eq!(verdict.status(Promise::Exclusion), Some(Status::Broken), "{verdict}");
    assert_eq!(verdict.status(Promise::Fence), Some(Status::Held), "{verdict}");
}
