//! Those who are told of events.

use std::fmt;
use std::sync::Weak;

use parking_lot::RwLock;

use crate::backend::{Event, Listener};

/// A list of listeners, each told as long as it lives. Backends keep one.
#[derive(Default)]
pub struct Listeners(RwLock<Vec<Weak<dyn Listener>>>);

impl Listeners {
    /// Adds one, and drops those that are gone.
    pub fn add(&self, listener: Weak<dyn Listener>) {
        let mut all = self.0.write();
        all.retain(|l| 0 < l.strong_count());
        all.push(listener);
    }

    /// Whether nobody was added who still lives.
    pub fn is_empty(&self) -> bool {
        self.0.read().iter().all(|l| l.strong_count() == 0)
    }

    /// Tells all of them.
    pub fn tell(&self, event: &Event) {
        for listener in &*self.0.read() {
            if let Some(listener) = listener.upgrade() {
                listener.on_event(event.clone());
            }
        }
    }
}

impl fmt::Debug for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listeners").field("len", &self.0.read().len()).finish()
    }
}
