//! Watching locks change.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::alarm::before;
use crate::error::Result;
use crate::manager::LockManager;
use crate::name::LockName;
use crate::view::View;

/// How often to look when no event comes.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The most locks that are watched.
const LIMIT: usize = 100_000;

/// A watch over the locks under a prefix; made by [`LockManager::watch`].
///
/// It shows states, not every step between them: what comes and goes between two looks is not
/// seen.
#[derive(Debug)]
pub struct Watch {
    manager: LockManager,
    prefix: String,
    seen: BTreeMap<LockName, View>,
    pending: Vec<View>,
    first: bool,
}

impl Watch {
    pub(crate) fn new(manager: LockManager, prefix: String) -> Self {
        Self { manager, prefix, seen: BTreeMap::new(), pending: Vec::new(), first: true }
    }

    /// The next lock that is another than before: first all that there are, then each that
    /// changes. One that became free is shown without holders, waiters and value.
    ///
    /// # Errors
    /// What listing fails with; the watch can be asked again.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is missed if it is asked again.
    pub async fn next(&mut self) -> Result<View> {
        loop {
            if let Some(view) = self.pending.pop() {
                return Ok(view);
            }
            let waiters = self.manager.waiters().clone();
            let changed = waiters.changed();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            if !std::mem::take(&mut self.first) {
                let look = self.manager.clock().now().plus(LOOK_EVERY);
                let look = crate::alarm::Sleep::until(self.manager.timers(), look);
                before(look, changed).await;
            }
            self.look().await?;
        }
    }

    async fn look(&mut self) -> Result<()> {
        let now: BTreeMap<LockName, View> = self
            .manager
            .list(&self.prefix, LIMIT)
            .await?
            .into_iter()
            .map(|view| (view.name.clone(), view))
            .collect();
        for (name, old) in &self.seen {
            if !now.contains_key(name) {
                let mut free = View::empty(name.clone());
                free.fence = old.fence;
                self.pending.push(free);
            }
        }
        for (name, view) in &now {
            if self.seen.get(name).is_none_or(|old| differs(old, view)) {
                self.pending.push(view.clone());
            }
        }
        self.pending.reverse();
        self.seen = now;
        Ok(())
    }
}

/// Whether anything but the signs of life is different.
fn differs(a: &View, b: &View) -> bool {
    let holders = |v: &View| v.holders.iter().map(|h| (h.id, h.fence, h.seats)).collect::<Vec<_>>();
    a.fence != b.fence || holders(a) != holders(b) || a.waiters != b.waiters || a.value != b.value
}
