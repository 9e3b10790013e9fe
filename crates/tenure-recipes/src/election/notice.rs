//! Telling of the begin and the end of a term, each once.
//!
//! Whoever tells of the end is the loss's own thread or whoever ends the term, whichever comes first.
//! The lock is given back when the telling has ended, and not before: until then the old leader may
//! be putting things in order. Nobody renews the lease meanwhile, so that a telling without end costs
//! the others no more than that lease.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, ThreadId};

use futures_lite::future::{block_on, or};
use futures_util::FutureExt;
use parking_lot::Mutex;
use tenure_core::{Error, ErrorKind, Fence, LockGuard, LockWatch, Result};
use tokio::sync::oneshot;

use super::StoppedLeading;

type Started = dyn Fn(&LockWatch) + Send + Sync;
type Stopped = dyn Fn(Fence, &StoppedLeading) + Send + Sync;

/// Whom to tell.
#[derive(Clone, Default)]
pub(super) struct Callbacks {
    pub(super) started: Option<Arc<Started>>,
    pub(super) stopped: Option<Arc<Stopped>>,
}

/// A term that was told to have begun.
pub(super) struct Notice {
    end: Option<Arc<End>>,
    /// Its drop ends the thread that waits for the loss.
    _over: Option<oneshot::Sender<()>>,
}

/// What is to be done with the lock of a term that is over.
pub(super) enum Ended {
    /// Nobody needs it any more.
    Told(LockGuard),
    /// The end is being told by somebody else, who gives the lock back then; and drops the other end
    /// of this.
    Telling(oneshot::Receiver<()>),
    /// The same, and it is told by this very thread: nobody may wait for it.
    Within,
}

struct End {
    call: Arc<Stopped>,
    watch: LockWatch,
    telling: Mutex<Telling>,
}

enum Telling {
    NotYet,
    Now {
        by: ThreadId,
        /// The lock and whoever waits for it to be given back; dropped in this order.
        then: Option<(LockGuard, oneshot::Sender<()>)>,
    },
    Done,
}

impl End {
    /// Tells, unless that was begun before.
    fn tell(&self, why: &StoppedLeading) {
        {
            let mut telling = self.telling.lock();
            if !matches!(*telling, Telling::NotYet) {
                return;
            }
            *telling = Telling::Now { by: thread::current().id(), then: None };
        }
        let call = || (self.call)(self.watch.fencing_token(), why);
        if catch_unwind(AssertUnwindSafe(call)).is_err() {
            tracing::error!(election = %self.watch.name(), "`on_stopped_leading` panicked");
        }
        let told = std::mem::replace(&mut *self.telling.lock(), Telling::Done);
        // Gives the lock back, if the leadership was dropped meanwhile; without our own lock on.
        drop(told);
    }

    /// Leaves the lock to whoever is telling; gives it back to be released if nobody is.
    fn leave(&self, guard: LockGuard) -> Ended {
        match &mut *self.telling.lock() {
            Telling::Now { by, then } => {
                let (sender, receiver) = oneshot::channel();
                *then = Some((guard, sender));
                if *by == thread::current().id() { Ended::Within } else { Ended::Telling(receiver) }
            }
            Telling::NotYet | Telling::Done => Ended::Told(guard),
        }
    }
}

impl Notice {
    pub(super) fn begin(watch: &LockWatch, callbacks: &Callbacks) -> Result<Self> {
        if let Some(started) = &callbacks.started {
            started(watch);
        }
        let Some(call) = callbacks.stopped.clone() else {
            return Ok(Self { end: None, _over: None });
        };
        let (watch, telling) = (watch.clone(), Mutex::new(Telling::NotYet));
        let end = Arc::new(End { call, watch, telling });
        let (over, is_over) = oneshot::channel();
        let loss = end.clone();
        // The loss has to be told while every task of the user's runtime is busy.
        let thread = thread::Builder::new().name("tenure-leader".into()).spawn(move || {
            let lost = async { Some(loss.watch.lost().await) };
            let over = async {
                let _ = is_over.await;
                None
            };
            if let Some(reason) = block_on(or(lost, over)) {
                loss.tell(&StoppedLeading::Lost(reason));
            }
        });
        if let Err(e) = thread {
            // It was told to begin.
            end.tell(&StoppedLeading::Resigned);
            return Err(Error::new(
                ErrorKind::Unreachable,
                "a term needs a thread that tells of its end",
            )
            .with_help("the process is out of threads: see `ulimit -u`")
            .with_lock(end.watch.name())
            .with_source(e));
        }
        Ok(Self { end: Some(end), _over: Some(over) })
    }

    /// Tells of the end, unless that was begun before, and says what is to be done with the lock.
    pub(super) fn end(&self, guard: LockGuard) -> Ended {
        let Some(end) = &self.end else {
            return Ended::Told(guard);
        };
        guard.stop_renewing();
        let why = match end.watch.lost().now_or_never() {
            Some(reason) => StoppedLeading::Lost(reason),
            None => StoppedLeading::Resigned,
        };
        end.tell(&why);
        end.leave(guard)
    }
}
