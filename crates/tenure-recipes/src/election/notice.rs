//! Telling of the begin and the end of a term, each once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use futures_lite::future::{block_on, or};
use futures_util::FutureExt;
use tenure_core::{Error, ErrorKind, Fence, LockWatch, Result};
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

/// A term that was told to have begun; dropping it tells that it has ended.
pub(super) struct Notice {
    end: Option<Arc<End>>,
    /// Its drop ends the thread that waits for the loss.
    _over: Option<oneshot::Sender<()>>,
}

struct End {
    call: Arc<Stopped>,
    watch: LockWatch,
    told: AtomicBool,
}

impl End {
    fn tell(&self, why: &StoppedLeading) {
        if !self.told.swap(true, Ordering::AcqRel) {
            (self.call)(self.watch.fencing_token(), why);
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
        let end = Arc::new(End { call, watch: watch.clone(), told: AtomicBool::new(false) });
        // From here on the end is told, also if there is no thread to be had.
        let mut notice = Self { end: Some(end.clone()), _over: None };
        let (over, is_over) = oneshot::channel();
        // The loss has to be told while every task of the user's runtime is busy.
        thread::Builder::new()
            .name("tenure-leader".into())
            .spawn(move || {
                let lost = async { Some(end.watch.lost().await) };
                let over = async {
                    let _ = is_over.await;
                    None
                };
                if let Some(reason) = block_on(or(lost, over)) {
                    end.tell(&StoppedLeading::Lost(reason));
                }
            })
            .map_err(|e| {
                Error::new(ErrorKind::Unreachable, "a term needs a thread that tells of its end")
                    .with_help("the process is out of threads: see `ulimit -u`")
                    .with_lock(watch.name())
                    .with_source(e)
            })?;
        notice._over = Some(over);
        Ok(notice)
    }
}

impl Drop for Notice {
    fn drop(&mut self) {
        if let Some(end) = &self.end {
            let why = match end.watch.lost().now_or_never() {
                Some(reason) => StoppedLeading::Lost(reason),
                None => StoppedLeading::Resigned,
            };
            end.tell(&why);
        }
    }
}
