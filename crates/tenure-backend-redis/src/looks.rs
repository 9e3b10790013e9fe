//! When whoever waits here is to look, although nothing may happen until then.
//!
//! A lock that was handed to a waiter is free again after its term to pick it up, if that waiter is dead.
//! The next one is told of that beforehand, for nobody else will tell it then.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_lite::future::or;
use parking_lot::Mutex;
use tenure_core::backend::Event;
use tenure_core::clock::{Clock, Moment, SystemClock};
use tenure_core::{LockName, MemberId};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::link::{Store, pause_for};

/// For how many locks at most; whoever waits for another one looks when its place is refreshed.
const MAX_LOCKS: usize = 16 * 1024;

/// The looks of one link that are to come, at most one for each lock.
pub(crate) struct Looks {
    store: Weak<Store>,
    runtime: Handle,
    state: Mutex<State>,
    sooner: Notify,
}

#[derive(Default)]
struct State {
    by_lock: HashMap<LockName, (Moment, MemberId)>,
    /// When the task wakes that does them, if there is one.
    wakes: Option<Moment>,
}

impl Looks {
    pub(crate) fn new(store: &Arc<Store>, runtime: &Handle) -> Arc<Self> {
        Arc::new(Self {
            store: Arc::downgrade(store),
            runtime: runtime.clone(),
            state: Mutex::default(),
            sooner: Notify::new(),
        })
    }

    /// Lets a waiter look after some time, instead of whoever else was to look at this lock.
    pub(crate) fn add(self: &Arc<Self>, name: LockName, member: MemberId, after: Duration) {
        let at = SystemClock.now().plus(after);
        let mut state = self.state.lock();
        if MAX_LOCKS <= state.by_lock.len() && !state.by_lock.contains_key(&name) {
            return;
        }
        state.by_lock.insert(name, (at, member));
        match state.wakes {
            None => {
                state.wakes = Some(at);
                drop(state);
                self.runtime.spawn(look(self.clone()));
            }
            Some(wakes) if at < wakes => self.sooner.notify_one(),
            Some(_) => {}
        }
    }

    /// Takes those whose time has come, and says how long it is until the next; `None` if there is
    /// none, and then nobody waits for it.
    fn due(&self) -> (Vec<Event>, Option<Duration>) {
        let now = SystemClock.now();
        let mut state = self.state.lock();
        let due = state.by_lock.extract_if(|_, (at, _)| *at <= now);
        let due = due.map(|(name, (_, member))| Event::Granted { name, member, grant: None });
        let due = due.collect();
        state.wakes = state.by_lock.values().map(|(at, _)| *at).min();
        (due, state.wakes.map(|at| at.since(now)))
    }
}

async fn look(looks: Arc<Looks>) {
    loop {
        let (due, next) = looks.due();
        if let Some(store) = looks.store.upgrade() {
            due.into_iter().for_each(|event| store.tell(event));
        }
        let Some(pause) = next else {
            return;
        };
        or(pause_for(pause), looks.sooner.notified()).await;
    }
}
