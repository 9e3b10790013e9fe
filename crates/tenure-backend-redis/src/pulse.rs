//! Whether a connection is alive.
//!
//! A server that stands still, or a network that swallows everything, ends no connection. So whoever
//! asks leaves a mark, whoever is answered wipes it out, and a task looks once a second: after two
//! looks at a mark that nobody wiped out it asks by itself, and if that is not answered either, the
//! connection is over, and the outcome of all calls that wait is unknown. Calls need no timers of
//! their own, which would cost most of them more than all the rest.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_lite::future::or;
use redis::RedisResult;
use tokio::sync::Notify;

use crate::link::{Link, pause_for};
use crate::wire::Wire;

/// The time between two looks, and how long the last question waits for its answer.
const LOOK: Duration = Duration::from_secs(1);
/// After how many looks at nothing new that question is asked.
const PATIENCE: u32 = 2;
/// After how many looks at nothing at all nobody looks any more, until somebody asks.
const REST: u32 = 10;

/// What calls of one connection and the task that watches it know of each other.
#[derive(Default)]
pub(crate) struct Pulse {
    /// Somebody has asked since the last answer.
    asked: AtomicBool,
    /// Somebody was answered since the last look.
    heard: AtomicBool,
    /// Nobody looks.
    rests: AtomicBool,
    wakes: Notify,
    ended: AtomicBool,
    ends: Notify,
}

impl Pulse {
    /// Waits for an answer, or until the connection is over.
    pub(crate) async fn call<T>(
        &self,
        answer: impl Future<Output = RedisResult<T>>,
    ) -> Option<RedisResult<T>> {
        // In one order with what `rest` does, so that one of the two sees the other.
        self.asked.store(true, Ordering::SeqCst);
        if self.rests.load(Ordering::SeqCst) {
            self.wakes.notify_one();
        }
        let answered = async {
            let answer = answer.await;
            self.asked.store(false, Ordering::Release);
            self.heard.store(true, Ordering::Release);
            Some(answer)
        };
        or(answered, async {
            self.ended().await;
            None
        })
        .await
    }

    /// The connection is over.
    pub(crate) fn ends(&self) {
        self.ended.store(true, Ordering::Release);
        self.ends.notify_waiters();
        self.wakes.notify_one();
    }

    async fn ended(&self) {
        let ends = self.ends.notified();
        if !self.ended.load(Ordering::Acquire) {
            ends.await;
        }
    }

    /// Waits until somebody asks.
    async fn rest(&self) {
        self.rests.store(true, Ordering::SeqCst);
        if !self.asked.load(Ordering::SeqCst) && !self.ended.load(Ordering::Acquire) {
            self.wakes.notified().await;
        }
        self.rests.store(false, Ordering::Release);
    }
}

/// Watches a connection for as long as it lasts, and hangs up if it is dead.
pub(crate) async fn watch(link: Weak<Link>, count: u64, pulse: Arc<Pulse>, mut wire: Wire) {
    let (mut silent, mut quiet) = (0, 0);
    loop {
        pause_for(LOOK).await;
        if pulse.ended.load(Ordering::Acquire) {
            return;
        }
        let heard = pulse.heard.swap(false, Ordering::AcqRel);
        let asked = pulse.asked.load(Ordering::Acquire);
        silent = if asked && !heard { silent + 1 } else { 0 };
        quiet = if asked || heard { 0 } else { quiet + 1 };
        if PATIENCE <= silent {
            // It may be that nobody waits for the answer any more.
            let ping = tokio::time::timeout(LOOK, wire.send(&redis::cmd("PING"))).await;
            let Some(link) = link.upgrade() else {
                return;
            };
            if !matches!(ping, Ok(Ok(_))) {
                return link.hang_up(count).await;
            }
            pulse.asked.store(false, Ordering::Release);
            silent = 0;
        }
        if REST <= quiet {
            pulse.rest().await;
            quiet = 0;
        }
    }
}
