//! Claims that wait in this process, whose leases are begun by the thread that hears of their grant.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use futures_lite::future::block_on;
use parking_lot::Mutex;
use tenure_core::backend::{Claim, Event, Grant, Listener, Member};
use tenure_core::{Listeners, MemberId};

use crate::backend::Inner;

/// Stands between the store's events and whoever listens to the backend.
///
/// Events come from threads that may block: the watcher's, and those that calls run on.
#[derive(Debug)]
pub(crate) struct Waits {
    inner: Weak<Inner>,
    claims: Mutex<HashMap<MemberId, Waiting>>,
    pub(crate) listeners: Listeners,
}

#[derive(Debug)]
struct Waiting {
    claim: Arc<Claim>,
    /// Whether a thread is beginning its lease; another that hears of it leaves that alone.
    under_way: bool,
}

impl Waits {
    pub(crate) fn new(inner: &Arc<Inner>) -> Self {
        let inner = Arc::downgrade(inner);
        Self { inner, claims: Mutex::default(), listeners: Listeners::default() }
    }

    /// Notes that a claim waits, or that it does not wait any more.
    pub(crate) fn note(&self, claim: &Claim, waits: bool) {
        let mut claims = self.claims.lock();
        // An upgrade waits under the seats it has, which live.
        if waits && !claim.upgrade {
            let noted = || Waiting { claim: Arc::new(claim.clone()), under_way: false };
            claims.entry(claim.member).or_insert_with(noted);
        } else {
            claims.remove(&claim.member);
        }
    }

    /// Begins the lease of a claim that was granted, if it still waits; `None` leaves that to it.
    fn pick_up(&self, member: MemberId) -> Option<Grant> {
        let inner = self.inner.upgrade()?;
        let claim = {
            let mut claims = self.claims.lock();
            let waiting = claims.get_mut(&member).filter(|w| !w.under_way)?;
            waiting.under_way = true;
            waiting.claim.clone()
        };
        let mut member = Member::new(claim.name.clone(), claim.token.clone(), claim.ttl, None);
        member.detached = claim.detached;
        let grant = block_on(inner.pick_up(&member));
        if let Some(waiting) = self.claims.lock().get_mut(&member.id) {
            waiting.under_way = false;
        }
        grant
    }
}

impl Listener for Waits {
    fn on_event(&self, mut event: Event) {
        if let Event::Granted { member, grant, .. } = &mut event
            && grant.is_none()
        {
            *grant = self.pick_up(*member);
        }
        self.listeners.tell(&event);
    }
}
