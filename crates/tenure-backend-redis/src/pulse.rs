//! Whether a connection is alive.
//!
//! A server that stands still, or a network that swallows everything, ends no connection. So calls
//! that wait are counted, and a task looks once a second: after two looks at calls that wait while
//! nobody is answered it asks by itself, and if that is not answered either, the connection is over,
//! and the outcome of all calls that wait is unknown. Calls need no timers of their own, which would
//! cost most of them more than all the rest.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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
    /// How many wait for an answer. A mark that any answer wipes out would not do: whoever is still
    /// not answered then would wait for ever.
    waiting: AtomicUsize,
    /// Somebody has given up waiting since the last answer.
    left: AtomicBool,
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
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let mut waits = Waits { pulse: self, answered: false };
        if self.rests.load(Ordering::SeqCst) {
            self.wakes.notify_one();
        }
        let answered = async {
            let answer = answer.await;
            waits.answered = true;
            self.left.store(false, Ordering::Release);
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

    /// Somebody was not answered yet.
    fn asked(&self) -> bool {
        0 < self.waiting.load(Ordering::SeqCst) || self.left.load(Ordering::SeqCst)
    }

    /// Waits until somebody asks.
    async fn rest(&self) {
        self.rests.store(true, Ordering::SeqCst);
        if !self.asked() && !self.ended.load(Ordering::Acquire) {
            self.wakes.notified().await;
        }
        self.rests.store(false, Ordering::Release);
    }
}

/// A call that waits; counted until it is answered or given up.
struct Waits<'a> {
    pulse: &'a Pulse,
    answered: bool,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.pulse.left.store(true, Ordering::SeqCst);
        }
        self.pulse.waiting.fetch_sub(1, Ordering::SeqCst);
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
        let asked = pulse.asked();
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
            pulse.left.store(false, Ordering::Release);
            silent = 0;
        }
        if REST <= quiet {
            pulse.rest().await;
            quiet = 0;
        }
    }
}
