//! Who waits in this manager, and how the store's events reach them.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

use crate::backend::{Departure, Event, Grant, Listener};
use crate::name::LockName;
use crate::stripes::Stripes;
use crate::token::MemberId;

type Waits = HashMap<MemberId, Arc<Waiting>, BuildHasherDefault<IdHasher>>;

/// Ids are SHA-256 already: eight of their bytes are a hash.
#[derive(Debug, Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        let first = bytes.first_chunk::<8>().map_or(0, |b| u64::from_ne_bytes(*b));
        self.0 ^= first;
    }

    /// The length of the id, which says nothing.
    fn write_usize(&mut self, _: usize) {}
}

/// The waiting claims of one manager.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    /// By a byte of the id, which is a hash, so that threads seldom meet.
    waiting: Stripes<Mutex<Waits>>,
    /// Told of members that were ended by others; the keeper's leases.
    gone: Mutex<Option<GoneHook>>,
    changes: tokio::sync::Notify,
}

/// Takes the departures of members that do not wait; those who went together in one call.
pub(crate) struct GoneHook(pub(crate) Box<Hook>);

type Hook = dyn Fn(&Members, Departure) + Send + Sync;

pub(crate) type Members = HashSet<MemberId, BuildHasherDefault<IdHasher>>;

impl std::fmt::Debug for GoneHook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GoneHook")
    }
}

/// One claim that waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    name: LockName,
    told: Mutex<Told>,
    waker: AtomicWaker,
}

/// What a waiting claim was told since it last looked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Told {
    /// Something changed: it should ask.
    pub(crate) look: bool,
    /// It was granted this.
    pub(crate) grant: Option<Grant>,
}

/// A claim's entry among the waiters; dropping it takes it out.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    waiters: &'a Waiters,
    member: MemberId,
    waiting: Arc<Waiting>,
}

impl Waiters {
    /// Lists a claim, before it is sent, so that no event is missed.
    pub(crate) fn enter(&self, name: &LockName, member: MemberId) -> Entry<'_> {
        let waiting = Arc::new(Waiting {
            name: name.clone(),
            told: Mutex::new(Told::default()),
            waker: AtomicWaker::new(),
        });
        self.shard(member).lock().insert(member, waiting.clone());
        Entry { waiters: self, member, waiting }
    }

    /// Makes a waiting claim look.
    pub(crate) fn wake(&self, member: MemberId) {
        let waiting = self.shard(member).lock().get(&member).cloned();
        if let Some(waiting) = waiting {
            waiting.tell(None);
        }
    }

    /// Makes a waiting claim look that was ended: what it was granted before is over.
    fn disappoint(&self, member: MemberId) {
        let waiting = self.shard(member).lock().get(&member).cloned();
        if let Some(waiting) = waiting {
            *waiting.told.lock() = Told { look: true, grant: None };
            waiting.waker.wake();
        }
    }

    fn are_gone(&self, who: impl IntoIterator<Item = MemberId>, departure: Departure) {
        let members: Members = who.into_iter().collect();
        members.iter().for_each(|member| self.disappoint(*member));
        if let Some(hook) = &*self.gone.lock() {
            hook.0(&members, departure);
        }
    }

    /// Makes all of them look.
    pub(crate) fn wake_all(&self) {
        self.wake_where(|_| true);
    }

    pub(crate) fn on_gone(&self, hook: GoneHook) {
        *self.gone.lock() = Some(hook);
    }

    /// Resolves when an event has come since the future was made.
    pub(crate) fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.changes.notified()
    }

    fn shard(&self, member: MemberId) -> &Mutex<Waits> {
        self.waiting.at(member.as_bytes()[8])
    }

    fn wake_where(&self, which: impl Fn(&Waiting) -> bool) {
        for shard in self.waiting.iter() {
            let some: Vec<_> = shard.lock().values().filter(|w| which(w)).cloned().collect();
            for waiting in some {
                waiting.tell(None);
            }
        }
    }
}

impl Waiting {
    fn tell(&self, grant: Option<Grant>) {
        {
            let mut told = self.told.lock();
            told.look = true;
            told.grant = grant.or(told.grant);
        }
        self.waker.wake();
    }
}

impl Entry<'_> {
    /// Resolves when there is something new, with what it is.
    pub(crate) async fn told(&self) -> Told {
        std::future::poll_fn(|cx| {
            self.waiting.waker.register(cx.waker());
            let mut told = self.waiting.told.lock();
            if told.look {
                std::task::Poll::Ready(std::mem::take(&mut *told))
            } else {
                std::task::Poll::Pending
            }
        })
        .await
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.waiters.shard(self.member).lock().remove(&self.member);
    }
}

impl Listener for Waiters {
    fn on_event(&self, event: Event) {
        match event {
            Event::Granted { member, grant, .. } => {
                let waiting = self.shard(member).lock().get(&member).cloned();
                if let Some(waiting) = waiting {
                    waiting.tell(grant);
                }
            }
            Event::Gone { member, departure, .. } => self.are_gone([member], departure),
            Event::SessionEnded { members } => {
                self.are_gone(members.iter().copied(), Departure::SessionEnded);
            }
            Event::Changed { name } => self.wake_where(|w| w.name == name),
            Event::Reconnected => self.wake_all(),
        }
        self.changes.notify_waiters();
    }
}
