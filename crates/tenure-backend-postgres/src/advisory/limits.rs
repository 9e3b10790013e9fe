//! How many locks this process may take without filling the server's table of locks.
//!
//! A full table fails everybody: other sessions' plain reads, and those who want to connect.

use std::sync::atomic::{AtomicI64, Ordering};

use tenure_core::{Error, ErrorKind, Result};

/// What is known of the server's table of locks.
#[derive(Debug)]
pub(crate) struct Limits {
    /// Said by the user.
    said: Option<usize>,
    /// How many the server promises to hold; 0 if it was not asked.
    capacity: AtomicI64,
    /// How many all sessions held when it was last looked at.
    all: AtomicI64,
    /// How many this process held then.
    ours: AtomicI64,
    now: AtomicI64,
}

impl Limits {
    pub(crate) fn new(said: Option<usize>) -> Self {
        let zero = || AtomicI64::new(0);
        Self { said, capacity: zero(), all: zero(), ours: zero(), now: zero() }
    }

    /// The server was asked.
    pub(crate) fn learn(&self, capacity: i64, all: i64) {
        self.capacity.store(capacity, Ordering::Release);
        self.saw(all);
    }

    /// So many locks are held in all.
    pub(crate) fn saw(&self, all: i64) {
        self.all.store(all, Ordering::Release);
        self.ours.store(self.now.load(Ordering::Acquire), Ordering::Release);
    }

    /// Makes room for one more lock.
    ///
    /// # Errors
    /// `Unreachable` if there is none; nothing was changed.
    pub(crate) fn take(&self) -> Result<()> {
        let most = self.most();
        let taken = self.now.fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| {
            (now < most).then_some(now + 1)
        });
        if taken.is_ok() {
            return Ok(());
        }
        let capacity = self.capacity.load(Ordering::Acquire);
        Err(Error::new(
            ErrorKind::Unreachable,
            format!(
                "this process holds {most} advisory locks and takes no more: the server has room \
                 for {capacity} locks of all sessions, and half of it is left to others"
            ),
        )
        .with_help(
            "raise max_locks_per_transaction at the server, hold fewer locks, or set `max_locks`",
        )
        .with_nothing_changed())
    }

    /// One lock less.
    pub(crate) fn give(&self) {
        self.now.fetch_sub(1, Ordering::AcqRel);
    }

    /// The most that this process may hold.
    pub(crate) fn most(&self) -> i64 {
        let said = self.said.map_or(i64::MAX, |most| i64::try_from(most).unwrap_or(i64::MAX));
        let capacity = self.capacity.load(Ordering::Acquire);
        if capacity == 0 {
            return said;
        }
        let others = self.all.load(Ordering::Acquire) - self.ours.load(Ordering::Acquire);
        said.min((capacity / 2 - others.max(0)).max(1))
    }
}

/// The most that a process may hold that has none yet, at a server with room for so many and `all` of
/// them taken.
pub(crate) fn most_locks(said: Option<usize>, capacity: i64, all: i64) -> i64 {
    let limits = Limits::new(said);
    limits.learn(capacity, all);
    limits.most()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_table_is_left_to_others() {
        let limits = Limits::new(None);
        assert_eq!(limits.most(), i64::MAX);
        limits.learn(20, 4);
        assert_eq!(limits.most(), 6);
        for _ in 0..6 {
            limits.take().expect("there is room");
        }
        let error = limits.take().expect_err("there is none");
        assert_eq!(error.kind(), ErrorKind::Unreachable);
        assert!(error.changed_nothing());
        limits.saw(10);
        assert_eq!(limits.most(), 6, "its own locks do not count against it");
        limits.give();
        limits.take().expect("there is room again");
    }
}
