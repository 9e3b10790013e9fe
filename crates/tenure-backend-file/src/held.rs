//! The members of this process that hold, so that the watcher can tell them if others end them.
//!
//! Whoever ends somebody else's lease touches that member's sign of life before it removes it. Most
//! leases are over before anybody could; those that stay are watched, a moment after they began.

use std::collections::HashMap;
use std::time::Duration;

use tenure_core::clock::{Clock, Moment, SystemClock};
use tenure_core::{LockName, MemberId};

/// How long a lease lasts before it is watched: whoever holds for less is not worth the calls.
const AFTER: Duration = Duration::from_millis(200);
/// How many are watched at a time. The system's watches are for all programs of a user; beyond this
/// many, a holder that was ended learns of it by its next renewal.
const MAX_WATCHED: usize = 4096;

/// Who holds, and who of them is watched.
#[derive(Debug, Default)]
pub(crate) struct Held {
    members: HashMap<MemberId, One>,
    watched: usize,
    /// Members to be watched at `due`; those that left meanwhile are among them.
    fresh: Vec<MemberId>,
    pub(crate) due: Option<Moment>,
}

#[derive(Debug)]
struct One {
    name: LockName,
    watch: Option<i32>,
}

impl Held {
    /// Notes a member; `true` if there was nothing to wait for until now.
    pub(crate) fn note(&mut self, name: &LockName, member: MemberId) -> bool {
        if self.members.contains_key(&member) {
            return false;
        }
        self.members.insert(member, One { name: name.clone(), watch: None });
        self.plan(member)
    }

    /// Has a member watched again whose watch was used for something else, if it is one; `true` if
    /// there was nothing to wait for until now.
    pub(crate) fn watch_anew(&mut self, member: MemberId) -> bool {
        if !self.members.contains_key(&member) {
            return false;
        }
        self.unwatch(member);
        self.plan(member)
    }

    fn plan(&mut self, member: MemberId) -> bool {
        self.fresh.push(member);
        let first = self.due.is_none();
        self.due.get_or_insert_with(|| SystemClock.now().plus(AFTER));
        first
    }

    /// Forgets a member; answers its watch.
    pub(crate) fn leave(&mut self, member: MemberId) -> Option<i32> {
        let watch = self.unwatch(member);
        self.members.remove(&member);
        watch
    }

    fn unwatch(&mut self, member: MemberId) -> Option<i32> {
        let watch = self.members.get_mut(&member)?.watch.take()?;
        self.watched -= 1;
        Some(watch)
    }

    /// The members to watch now, if it is time.
    pub(crate) fn take_due(&mut self) -> Vec<(LockName, MemberId)> {
        if self.due.is_none_or(|due| SystemClock.now() < due) {
            return Vec::new();
        }
        self.due = None;
        let room = MAX_WATCHED.saturating_sub(self.watched);
        let fresh = self.fresh.drain(..).filter_map(|member| {
            let one = self.members.get(&member).filter(|one| one.watch.is_none())?;
            Some((one.name.clone(), member))
        });
        fresh.take(room).collect()
    }

    /// Notes that a member is watched; `false` if it has left.
    pub(crate) fn watches(&mut self, member: MemberId, watch: i32) -> bool {
        let Some(one) = self.members.get_mut(&member) else {
            return false;
        };
        if one.watch.replace(watch).is_none() {
            self.watched += 1;
        }
        true
    }

    pub(crate) fn has(&self, member: MemberId) -> bool {
        self.members.contains_key(&member)
    }

    /// Everybody, for when it is not known who is concerned.
    pub(crate) fn all(&self) -> Vec<(LockName, MemberId)> {
        self.members.iter().map(|(member, one)| (one.name.clone(), *member)).collect()
    }
}
