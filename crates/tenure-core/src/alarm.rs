//! Waiting for a moment, on the keeper's timers: works on every runtime and in suspend.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

use crate::clock::Moment;
use crate::lease::Timed;
use crate::timers::{TimerKey, Timers};

/// Somebody to wake at a moment.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    rung: AtomicBool,
    waker: AtomicWaker,
}

impl Alarm {
    pub(crate) fn ring(&self) {
        self.rung.store(true, Ordering::Release);
        self.waker.wake();
    }
}

/// Resolves at a moment. Dropping it takes the timer back.
#[derive(Debug)]
pub(crate) struct Sleep {
    alarm: Arc<Alarm>,
    timers: Arc<Timers<Timed>>,
    key: Option<TimerKey>,
}

impl Sleep {
    pub(crate) fn until(timers: &Arc<Timers<Timed>>, at: Moment) -> Self {
        let alarm = Arc::new(Alarm::default());
        let key = (at < Moment::NEVER).then(|| timers.insert(Timed::Alarm(alarm.clone()), at));
        Self { alarm, timers: timers.clone(), key }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.alarm.waker.register(cx.waker());
        if self.alarm.rung.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.timers.remove(key);
        }
    }
}

/// Runs `future` for as long as `limit` lets it; `None` if the limit came first.
pub(crate) async fn before<F: Future>(limit: Sleep, future: F) -> Option<F::Output> {
    futures_lite::future::or(async { Some(future.await) }, async {
        limit.await;
        None
    })
    .await
}
