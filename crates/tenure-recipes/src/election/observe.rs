//! Watching who leads.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{Stream, unfold};
use tenure_core::clock::Moment;
use tenure_core::{Fence, HolderId, LockManager, LockName, Micros, Owner, Result, View};

/// A leader, as anybody may see it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Leader {
    /// Who it is.
    pub owner: Owner,
    /// Its public id, another one in every term.
    pub id: HolderId,
    /// Its term; zero if the store does not tell that of others.
    pub term: Fence,
    /// Since when, by the store's time.
    pub since: Micros,
    /// What it has proclaimed in this term, if it has.
    pub value: Option<Arc<[u8]>>,
}

impl Leader {
    pub(super) fn of(view: View) -> Option<Self> {
        let holder = view.holders.into_iter().next()?;
        // What an earlier leader left is nothing that this one says.
        let value = view.value.filter(|value| value.fence == holder.fence);
        Some(Self {
            owner: holder.details.owner.clone(),
            id: holder.id,
            term: holder.fence,
            since: holder.since,
            value: value.map(|value| value.bytes),
        })
    }
}

/// A watch over an election; made by [`Election::observe`](super::Election::observe).
///
/// It shows states, not every step between them: a term that comes and goes between two looks is
/// not seen. What it shows may be over by the time it is read: only a term that is handed along
/// with what a leader does is proof.
#[derive(Debug)]
pub struct Observer {
    locks: LockManager,
    name: LockName,
    every: Duration,
    next_look: Moment,
    /// What was answered last; `None` before the first answer.
    seen: Option<Option<Leader>>,
}

impl Observer {
    /// How often it looks if nothing else is said.
    pub const LOOK_EVERY: Duration = Duration::from_millis(500);
    /// The most often it looks.
    pub const LOOK_AT_MOST_EVERY: Duration = Duration::from_millis(10);

    pub(super) fn new(locks: LockManager, name: LockName) -> Self {
        let next_look = Moment::default();
        Self { locks, name, every: Self::LOOK_EVERY, next_look, seen: None }
    }

    /// Looks so often, 10 ms at the least; a change is seen so late at the latest.
    #[must_use]
    pub fn look_every(mut self, every: Duration) -> Self {
        self.every = every.max(Self::LOOK_AT_MOST_EVERY);
        self
    }

    /// The leader, as soon as leader, term or value is another than the last time; first whatever
    /// there is. `None` is that nobody leads.
    ///
    /// # Errors
    /// As [`LockManager::inspect`]; it can be asked again.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is missed if it is asked again.
    pub async fn next(&mut self) -> Result<Option<Leader>> {
        loop {
            let now = self.locks.clock().now();
            if now < self.next_look {
                self.locks.sleep_until(self.next_look).await;
            }
            self.next_look = self.locks.clock().now().plus(self.every);
            let leader = Leader::of(self.locks.inspect(&self.name).await?);
            if self.seen.as_ref() != Some(&leader) {
                self.seen = Some(leader.clone());
                return Ok(leader);
            }
        }
    }

    /// The same as a stream without end.
    pub fn into_stream(self) -> impl Stream<Item = Result<Option<Leader>>> + Send {
        unfold(self, |mut observer| async move { Some((observer.next().await, observer)) })
    }
}
