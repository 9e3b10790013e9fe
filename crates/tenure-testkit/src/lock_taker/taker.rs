//! What a taker does: acquire, work, release, and write down all of it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use futures_lite::future::{block_on, or};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tenure_core::backend::DynBackend;
use tenure_core::{Error, ErrorKind, LockGuard, LockManager, LockRequest, LockWatch, NotReleased};
use tokio::sync::oneshot;

use super::job::Job;
use crate::history::{
    self, Event, FencedRegister, FileRegister, Mode, Op, Phase, Recorder, now_ns,
};

/// How long a holder goes on between two looks at its guard.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// How long the end waits for what was dropped.
const CLOSE: Duration = Duration::from_secs(10);

/// Does the job with locks of this store, to its end.
///
/// It ends early when its standard input is closed, and is killed with the process that started it.
/// An answer of the store that a healthy one does not give is written down as an outcome nobody
/// knows, and told on standard error.
///
/// # Errors
/// When the history or the register could not be written, or the manager not be started.
pub fn take(job: &Job, backend: Arc<dyn DynBackend>) -> io::Result<()> {
    die_with_parent();
    let stop = stop_when_input_ends();
    let mut taker = Taker {
        job,
        manager: LockManager::new(backend).map_err(io::Error::other)?,
        recorder: Arc::new(Recorder::create(&job.dir, &job.proc)?),
        register: FileRegister::open(&job.dir)?,
        rng: StdRng::seed_from_u64(job.seed),
        stop,
    };
    let mut rounds = 0;
    while job.rounds.is_none_or(|all| rounds < all) && !taker.is_told_to_stop() {
        taker.round()?;
        rounds += 1;
        let rest = taker.up_to(job.rest);
        taker.sleep(rest);
    }
    block_on(taker.manager.close(CLOSE)).map_err(io::Error::other)
}

/// Has this process killed together with the one that started it.
#[cfg(target_os = "linux")]
pub fn die_with_parent() {
    use rustix::process::{Signal, set_parent_process_death_signal};
    // A stopped taker would never see that its input ended.
    set_parent_process_death_signal(Some(Signal::KILL)).expect("Linux has it");
}

/// Has this process killed together with the one that started it, where the system can do that.
#[cfg(not(target_os = "linux"))]
pub fn die_with_parent() {}

/// Becomes true when the fleet tells this process to stop, by closing its standard input.
#[must_use]
pub fn stop_when_input_ends() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let told = stop.clone();
    thread::spawn(move || {
        // Whatever comes, its end is the word.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        told.store(true, Ordering::Relaxed);
    });
    stop
}

struct Taker<'a> {
    job: &'a Job,
    manager: LockManager,
    recorder: Arc<Recorder>,
    register: FileRegister,
    rng: StdRng,
    stop: Arc<AtomicBool>,
}

/// What is noted about one attempt.
#[derive(Clone)]
struct Notes {
    recorder: Arc<Recorder>,
    attempt: u64,
    name: String,
}

impl Notes {
    fn event(&self, op: Op, phase: Phase) -> Event {
        Event::new(op, phase).about(self.attempt, &self.name)
    }

    fn record(&self, op: Op, phase: Phase) -> io::Result<u64> {
        self.recorder.record(self.event(op, phase))
    }

    /// Of what a guard does that states its deadline.
    fn record_of(&self, watch: &LockWatch, op: Op, phase: Phase) -> io::Result<u64> {
        self.recorder.record(self.event(op, phase).deadline(deadline(watch)))
    }
}

fn deadline(watch: &LockWatch) -> u64 {
    // The managers' clock and that of the histories are the same.
    watch.deadlines().0.as_nanos()
}

impl Taker<'_> {
    fn round(&mut self) -> io::Result<()> {
        let name = self.job.names[self.rng.random_range(0..self.job.names.len())].clone();
        let mode = if self.one_in_100(self.job.shared) { Mode::READER } else { Mode::Exclusive };
        let priority = self.rng.random_range(0..=self.job.priority);
        let attempt = self.recorder.next_attempt();
        let notes = Notes { recorder: self.recorder.clone(), attempt, name };
        let request = self.request(&notes, mode, priority);
        let patience = self.one_in_100(self.job.cancel).then(|| self.up_to(self.job.ttl));

        let mut asked = notes.event(Op::Acquire, Phase::Invoke).wanted(mode, priority);
        asked.deadline_ns = self.job.wait.map(|wait| now_ns().saturating_add(nanos(wait)));
        self.recorder.record(asked)?;
        let Some(answer) = self.acquire(&notes, request, patience)? else {
            return Ok(());
        };
        match answer {
            Ok(guard) => self.hold(&notes, mode, guard),
            Err(error) if error.kind().is_not_acquired() => {
                notes.record(Op::Acquire, Phase::Fail).map(drop)
            }
            Err(error) => {
                complain(&error);
                notes.record(Op::Acquire, Phase::Info)?;
                if matches!(error.kind(), ErrorKind::Unreachable | ErrorKind::Unknown) {
                    Ok(())
                } else {
                    Err(io::Error::other(error))
                }
            }
        }
    }

    fn request(&self, notes: &Notes, mode: Mode, priority: i32) -> LockRequest {
        let (queued, seen) = (notes.clone(), AtomicBool::new(false));
        let mut request = self
            .manager
            .lock(notes.name.as_str())
            .ttl(self.job.ttl)
            .auto_renew(self.job.auto_renew)
            .priority(priority)
            .on_wait(move |_, _| {
                if !seen.swap(true, Ordering::Relaxed) {
                    queued.record(Op::Wait, Phase::Ok).expect("the history can be written");
                }
            });
        if mode != Mode::Exclusive {
            request = request.shared();
        }
        match self.job.wait {
            Some(wait) => request.wait_timeout(wait),
            None => request,
        }
    }

    /// `None` if it lost its patience.
    fn acquire(
        &self,
        notes: &Notes,
        request: LockRequest,
        patience: Option<Duration>,
    ) -> io::Result<Option<Result<LockGuard, Error>>> {
        let Some(patience) = patience else {
            return Ok(Some(block_on(request.acquire())));
        };
        let mut acquire = Box::pin(request.acquire());
        let give_up = self.manager.clock().now().plus(patience);
        let answer = block_on(or(async { Some(acquire.as_mut().await) }, async {
            self.manager.sleep_until(give_up).await;
            None
        }));
        if answer.is_none() {
            notes.record(Op::Cancel, Phase::Invoke)?;
        }
        // Dropped only after that was written down.
        drop(acquire);
        Ok(answer)
    }

    fn hold(&mut self, notes: &Notes, mode: Mode, guard: LockGuard) -> io::Result<()> {
        let fence = guard.fencing_token().get();
        let holder = guard.id().to_string();
        let got = notes.event(Op::Acquire, Phase::Ok).granted(&holder, fence);
        self.recorder.record(got.deadline(deadline(&guard)))?;
        let loss = Loss::listen(notes, guard.watch());
        let (least, most) = self.job.hold;
        let hold = least.saturating_add(self.up_to(most.saturating_sub(least)));
        if mode == Mode::Exclusive {
            self.work(notes, &guard, hold)?;
        } else {
            self.stay(notes, &guard, hold)?;
        }
        notes.record_of(&guard, Op::Release, Phase::Invoke)?;
        if self.one_in_100(self.job.drop) {
            drop(guard);
            return loss.end();
        }
        let ended = match block_on(guard.release()) {
            Ok(()) => Phase::Ok,
            Err(NotReleased::AlreadyLost(_)) => Phase::Fail,
            Err(NotReleased::Unknown { error, .. }) => {
                complain(&error);
                Phase::Info
            }
            Err(_) => Phase::Info,
        };
        notes.record(Op::Release, ended)?;
        loss.end()
    }

    /// Adds one to the counter, slowly, and without a last look at the guard: a pause could fall
    /// behind that all the same, and what comes too late is for the register to refuse.
    fn work(&self, notes: &Notes, guard: &LockGuard, hold: Duration) -> io::Result<()> {
        let fence = history::Fence(guard.fencing_token().get());
        let read = self.register.request(&notes.name, fence, None)?;
        self.stay(notes, guard, hold)?;
        if let history::register::Answer::Accepted(value) = read {
            self.register.request(&notes.name, fence, Some(value + 1))?;
        }
        Ok(())
    }

    /// Holds the lock for so long, or until it is told to stop or that the lock is lost.
    fn stay(&self, notes: &Notes, guard: &LockGuard, hold: Duration) -> io::Result<()> {
        let until = self.manager.clock().now().plus(hold);
        loop {
            notes.record(Op::Check, Phase::Invoke)?;
            if guard.check().is_err() {
                return notes.record(Op::Check, Phase::Fail).map(drop);
            }
            notes.record_of(guard, Op::Check, Phase::Ok)?;
            let left = until.since(self.manager.clock().now());
            if left.is_zero() || self.is_told_to_stop() {
                return Ok(());
            }
            self.sleep(left.min(LOOK_EVERY));
        }
    }

    fn is_told_to_stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn sleep(&self, time: Duration) {
        block_on(self.manager.sleep_until(self.manager.clock().now().plus(time)));
    }

    fn one_in_100(&mut self, share: u32) -> bool {
        self.rng.random_range(0..100) < share
    }

    fn up_to(&mut self, time: Duration) -> Duration {
        time.mul_f64(self.rng.random())
    }
}

/// Listens for the loss of a guard, on a thread of its own: the one that works may be busy.
struct Loss {
    ended: oneshot::Sender<()>,
    thread: JoinHandle<io::Result<()>>,
}

impl Loss {
    fn listen(notes: &Notes, watch: LockWatch) -> Self {
        let (ended, end) = oneshot::channel();
        let notes = notes.clone();
        let thread = thread::spawn(move || {
            let lost = async {
                watch.lost().await;
                true
            };
            let end = async {
                let _ = end.await;
                false
            };
            if block_on(or(lost, end)) {
                notes.record_of(&watch, Op::Lost, Phase::Ok)?;
            }
            Ok(())
        });
        Self { ended, thread }
    }

    fn end(self) -> io::Result<()> {
        // It may have ended by itself.
        let _ = self.ended.send(());
        self.thread.join().expect("it only listens")
    }
}

fn complain(error: &Error) {
    eprintln!("taker: {}: {error}", error.kind());
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
