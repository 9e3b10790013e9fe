//! What a candidate does: campaign, lead, and write down all of it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_lite::future::block_on;
use tenure_core::backend::DynBackend;
use tenure_core::{LockManager, LockWatch, NotReleased};
use tenure_recipes::{Election, Leadership, StoppedLeading};
use tenure_testkit::history::{
    self, Event, FencedRegister, FileRegister, Op, Phase, Recorder, register,
};
use tenure_testkit::lock_taker::Job;
use tenure_testkit::lock_taker::taker::{die_with_parent, stop_when_input_ends};

/// How long a leader goes on between two looks at its term.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// How long the end waits for what was dropped.
const CLOSE: Duration = Duration::from_secs(10);

/// Campaigns again and again, and leads until the term is lost, or until it is told to stop.
pub(crate) fn campaign(job: &Job, backend: Arc<dyn DynBackend>) -> io::Result<()> {
    die_with_parent();
    let stop = stop_when_input_ends();
    let locks = LockManager::new(backend).map_err(io::Error::other)?;
    let recorder = Arc::new(Recorder::create(&job.dir, &job.proc)?);
    let register = FileRegister::open(&job.dir)?;
    while !stop.load(Ordering::Relaxed) {
        let notes = Notes {
            recorder: recorder.clone(),
            attempt: recorder.next_attempt(),
            name: job.names[0].clone(),
            watch: Arc::default(),
        };
        notes.record(Op::Acquire, Phase::Invoke)?;
        match block_on(notes.election(&locks, job.ttl).campaign()) {
            Ok(leadership) => notes.lead(&locks, &register, leadership, &stop)?,
            Err(error) => {
                eprintln!("candidate: {}: {error}", error.kind());
                notes.record(Op::Acquire, Phase::Info)?;
            }
        }
    }
    block_on(locks.close(CLOSE)).map_err(io::Error::other)
}

/// What is noted about one term.
#[derive(Clone)]
struct Notes {
    recorder: Arc<Recorder>,
    attempt: u64,
    name: String,
    watch: Arc<std::sync::OnceLock<LockWatch>>,
}

impl Notes {
    fn event(&self, op: Op, phase: Phase) -> Event {
        let event = Event::new(op, phase).about(self.attempt, &self.name);
        match self.watch.get() {
            // The managers' clock and that of the histories are the same.
            Some(watch) => event.deadline(watch.deadlines().0.as_nanos()),
            None => event,
        }
    }

    fn record(&self, op: Op, phase: Phase) -> io::Result<u64> {
        self.recorder.record(self.event(op, phase))
    }

    /// The election, whose callbacks write down begin and loss of the term.
    fn election(&self, locks: &LockManager, ttl: Duration) -> Election {
        let (begins, ends) = (self.clone(), self.clone());
        Election::new(locks, self.name.as_str())
            .expect("a good name")
            .ttl(ttl)
            .on_started_leading(move |watch| {
                assert!(begins.watch.set(watch.clone()).is_ok(), "one term, one begin");
                let (id, term) = (watch.id().to_string(), watch.fencing_token().get());
                let granted = begins.event(Op::Acquire, Phase::Ok).granted(&id, term);
                begins.recorder.record(granted).expect("the history can be written");
            })
            .on_stopped_leading(move |_, why| {
                if matches!(why, StoppedLeading::Lost(_)) {
                    ends.record(Op::Lost, Phase::Ok).expect("the history can be written");
                }
            })
    }

    /// Adds one to the counter, slowly, and without a last look at the term: what comes too late
    /// is for the register to refuse.
    fn lead(
        &self,
        locks: &LockManager,
        register: &FileRegister,
        leadership: Leadership,
        stop: &AtomicBool,
    ) -> io::Result<()> {
        let term = history::Fence(leadership.term().get());
        let read = register.request(&self.name, term, None)?;
        loop {
            self.record(Op::Check, Phase::Invoke)?;
            if leadership.check().is_err() {
                self.record(Op::Check, Phase::Fail)?;
                break;
            }
            self.record(Op::Check, Phase::Ok)?;
            if stop.load(Ordering::Relaxed) {
                break;
            }
            block_on(locks.sleep_until(locks.clock().now().plus(LOOK_EVERY)));
        }
        if let register::Answer::Accepted(value) = read {
            register.request(&self.name, term, Some(value + 1))?;
        }
        self.record(Op::Release, Phase::Invoke)?;
        let ended = match block_on(leadership.resign()) {
            Ok(()) => Phase::Ok,
            Err(NotReleased::AlreadyLost(_)) => Phase::Fail,
            Err(_) => Phase::Info,
        };
        self.record(Op::Release, ended).map(drop)
    }
}
