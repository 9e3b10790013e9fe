//! A logical task that holds some locks while it waits for others: the party of a deadlock.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use rand::Rng;

use crate::error::{Error, ErrorKind, Result};
use crate::name::LockName;
use crate::owner::Owner;

/// How a path begins whose first part was drawn.
const DRAWN: char = '~';

/// One logical task, whose claims belong together: whoever holds a lock and waits for another one
/// does both as the same actor, so that a deadlock can be found.
///
/// An actor does one thing after the other: while one of its claims waits, nothing that it holds is
/// released. What works for it at the same time, or in another process, is a [`child`](Actor::child):
/// an actor is not done before its children are. Its path says so: `job/1` is a child of `job`.
///
/// Cheap to clone; clones are the same actor.
///
/// ```
/// # use std::time::Duration;
/// # async fn example(locks: tenure_core::LockManager) -> tenure_core::Result<()> {
/// let actor = tenure_core::Actor::unique();
/// let from = locks.lock("account/1").actor(&actor).acquire().await?;
/// // Another task that has account/2 and waits for account/1: one of the two gets `Deadlock`.
/// let to = locks.lock("account/2").actor(&actor).acquire().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Actor(Arc<Inner>);

struct Inner {
    path: Arc<str>,
    above: Option<Actor>,
    held: Mutex<Vec<LockName>>,
}

impl Actor {
    /// The variable that carries an actor's path to another process.
    pub const VARIABLE: &str = "TENURE_ACTOR";
    /// The variable that carries the names of the locks it holds, as a JSON array.
    pub const HOLDS_VARIABLE: &str = "TENURE_ACTOR_HOLDS";
    /// What stands between the parts of a path.
    pub(crate) const PART: char = '/';
    /// The most names of held locks that a waiter tells; of more, those acquired last.
    pub const MAX_HOLDS: usize = 64;
    /// The most bytes of names that a waiter tells.
    pub const MAX_HOLDS_BYTES: usize = 8 * 1024;

    /// An actor of this path, which nobody else uses at the same time.
    ///
    /// # Errors
    /// `Invalid` under the rules of an owner label: 1 to 256 bytes of UTF-8 without control characters.
    pub fn new(path: &str) -> Result<Self> {
        Self::with(path, None, Vec::new())
    }

    /// An actor with a path that nobody else has: `~` and 64 random bits.
    pub fn unique() -> Self {
        let path = format!("{DRAWN}{:016x}", rand::rng().random::<u64>());
        Self::new(&path).expect("17 letters are a path")
    }

    /// An actor that works for this one, beside it or in its place: this one is not done before its
    /// children are.
    ///
    /// # Errors
    /// `Invalid` if its path would be longer than 256 bytes: at about the fifteenth generation.
    pub fn child(&self) -> Result<Self> {
        let part: u64 = rand::rng().random();
        Self::with(
            &format!("{}{}{part:016x}", self.0.path, Self::PART),
            Some(self.clone()),
            Vec::new(),
        )
    }

    /// A child of the actor that started this process, if it told its [`environment`](Actor::environment):
    /// a program under `tenure run` has one.
    pub fn from_environment() -> Option<Self> {
        let path = std::env::var(Self::VARIABLE).ok()?;
        let holds = std::env::var(Self::HOLDS_VARIABLE).unwrap_or_default();
        // What cannot be read is no reason not to lock: it costs the finding of some deadlocks.
        let holds: Vec<String> = serde_json::from_str(&holds).unwrap_or_default();
        // Told from the last to the first.
        let holds = holds.into_iter().rev().filter_map(|name| LockName::new(name).ok()).collect();
        Self::with(&path, None, holds).ok()?.child().ok()
    }

    /// What a process that works for this actor needs in its environment: variables and their values.
    pub fn environment(&self) -> [(&'static str, String); 2] {
        let holds = serde_json::to_string(&self.holds()).expect("names are text");
        [(Self::VARIABLE, self.0.path.to_string()), (Self::HOLDS_VARIABLE, holds)]
    }

    /// Its path, as others see it.
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// Whether the path was drawn by [`Actor::unique`], and says nothing to a person.
    pub fn is_drawn(path: &str) -> bool {
        path.starts_with(DRAWN)
    }

    /// The locks that it or an actor above it holds by guards, those acquired last first, up to
    /// [`Actor::MAX_HOLDS`].
    pub fn holds(&self) -> Vec<LockName> {
        let mut names: Vec<LockName> = Vec::new();
        let mut bytes = 0;
        let mut actor = Some(self);
        while let Some(Self(inner)) = actor {
            for name in inner.held.lock().iter().rev() {
                bytes += name.as_str().len();
                if names.len() == Self::MAX_HOLDS || Self::MAX_HOLDS_BYTES < bytes {
                    return names;
                }
                if !names.contains(name) {
                    names.push(name.clone());
                }
            }
            actor = inner.above.as_ref();
        }
        names
    }

    /// Notes that it holds `name` for as long as the answer lives.
    pub(crate) fn holding(&self, name: &LockName) -> Holding {
        self.0.held.lock().push(name.clone());
        Holding { actor: self.clone(), name: name.clone() }
    }

    fn with(path: &str, above: Option<Actor>, held: Vec<LockName>) -> Result<Self> {
        let Ok(Owner { label: path, .. }) = Owner::labelled(path) else {
            return Err(Error::new(
                ErrorKind::Invalid,
                "an actor's path is 1 to 256 bytes of UTF-8 without control characters",
            ));
        };
        Ok(Self(Arc::new(Inner { path, above, held: Mutex::new(held) })))
    }
}

/// A lock that an actor holds.
pub(crate) struct Holding {
    actor: Actor,
    name: LockName,
}

impl Holding {
    pub(crate) fn actor(&self) -> &Actor {
        &self.actor
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        let mut held = self.actor.0.held.lock();
        if let Some(at) = held.iter().rposition(|name| *name == self.name) {
            held.remove(at);
        }
    }
}

impl fmt::Debug for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Actor").field("path", &self.0.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> LockName {
        LockName::new(text).unwrap()
    }

    #[test]
    fn an_actor_holds_what_its_guards_hold_and_what_those_above_it_hold() {
        let top = Actor::new("job").unwrap();
        let a = top.holding(&name("a"));
        let child = top.child().unwrap();
        assert!(child.path().starts_with("job/"));
        let b = child.holding(&name("b"));
        let again = child.holding(&name("b"));
        assert_eq!(child.holds(), [name("b"), name("a")]);
        drop(b);
        assert_eq!(child.holds(), [name("b"), name("a")], "it is held by another guard, too");
        drop((a, again));
        assert!(child.holds().is_empty() && top.holds().is_empty());
    }

    #[test]
    fn of_very_many_locks_those_acquired_last_are_told() {
        let actor = Actor::unique();
        assert!(Actor::is_drawn(actor.path()));
        let _many: Vec<_> = (0..100).map(|n| actor.holding(&name(&n.to_string()))).collect();
        assert_eq!(actor.holds().len(), Actor::MAX_HOLDS);
        assert_eq!(actor.holds()[0], name("99"));
        let _long: Vec<_> = (0..20).map(|n| actor.holding(&name(&format!("{n:0>500}")))).collect();
        assert_eq!(actor.holds().len(), Actor::MAX_HOLDS_BYTES / 500);
    }

    #[test]
    fn a_path_has_a_bound_and_so_has_the_line_of_descent() {
        assert_eq!(Actor::new("a\nb").unwrap_err().kind(), ErrorKind::Invalid);
        let mut actor = Actor::unique();
        while let Ok(child) = actor.child() {
            actor = child;
        }
        assert!(200 < actor.path().len());
    }
}
