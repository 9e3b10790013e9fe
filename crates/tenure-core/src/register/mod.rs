//! The other door for authors of stores: a versioned register per name, and the adaptor that
//! turns any such register into a full backend.
//!
//! A store that can only load a record, replace it on condition of its version, and keep a sign
//! of life per member gets every feature this way: the adaptor runs the machine over the record.

mod adaptor;
mod memo;
mod observe;

use std::future::Future;
use std::sync::{Arc, Weak};

use crate::backend::{Claim, Listener, Member};
use crate::capability::Capabilities;
use crate::clock::Moment;
use crate::error::{Error, Result};
use crate::name::LockName;
use crate::token::MemberId;
use crate::values::{Fence, Micros};

pub(crate) use observe::DRIFT_PERCENT;

pub use adaptor::{RegisterBackend, swap_pause};

/// The version of a record, opaque to the adaptor.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Version(pub Box<str>);

/// A record as loaded.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Its version; a name without a record has one, too.
    pub version: Version,
    /// Its bytes; `None` if the name has no record.
    pub bytes: Option<Vec<u8>>,
    /// The store's time, if it has a clock; without one expiry is judged by observation.
    pub now: Option<Micros>,
    /// The least fence of a grant that the next record may hold.
    pub floor: Fence,
}

/// What became of a swap.
#[derive(Debug)]
pub enum Swap {
    /// The record is the new one.
    Won,
    /// Somebody else was first; nothing was changed.
    Lost,
    /// Nobody knows; the store was asked and could not be reached to resolve it.
    Unknown(Error),
    /// Nothing was changed, for this reason.
    Failed(Error),
}

/// A member's sign of life as it stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sign {
    /// Whose it is.
    pub member: MemberId,
    /// Changes with every sign of life; 0 if there is none to be found.
    pub nonce: u128,
    /// The fence that the member said it holds; zero while it waited or did not know yet.
    pub fence: Fence,
    /// Whether the kernel proves that the member's process is dead.
    pub dead: bool,
    /// When the sign was given, on the writer's wall clock, for reading only.
    pub at: Option<Micros>,
}

/// What an observer saw of a member, and since when it saw nothing else.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Observation {
    /// Who was observed.
    pub member: MemberId,
    /// The nonce that was seen.
    pub nonce: u128,
    /// The fence that the record said it held then; zero while it waited.
    pub fence: Fence,
    /// Since when, on this boot's clock.
    pub since: Moment,
}

/// A store that offers a versioned register per name.
///
/// Calls that change something report an outcome they cannot know as [`Swap::Unknown`], after
/// they tried to resolve it by looking for the attempt's own version.
pub trait Register: Send + Sync + 'static {
    /// What the store can do with the adaptor on top.
    fn capabilities(&self) -> &Capabilities;

    /// The store's address for people, credentials masked.
    fn address(&self) -> Arc<str>;

    /// The newest record.
    fn load(&self, name: &LockName) -> impl Future<Output = Result<Loaded>> + Send;

    /// Replaces the record if its version is still `at`, and as soon as that is won, before it tidies
    /// up, wakes these members as [`wake`](Self::wake) does.
    fn swap(
        &self,
        name: &LockName,
        at: &Version,
        to: &[u8],
        wakes: &[MemberId],
    ) -> impl Future<Output = Swap> + Send;

    /// Keeps a first sign of life of a member, before the swap that admits it.
    fn admit(&self, member: &Member) -> impl Future<Output = Result<()>> + Send;

    /// Drops the sign of life of a member that left. A failure only leaves litter.
    fn dismiss(&self, name: &LockName, member: MemberId) -> impl Future<Output = ()> + Send;

    /// Renews the sign of life of an admitted member; never makes a new one: `NotHeld` if there
    /// is none.
    fn beat(&self, member: &Member) -> impl Future<Output = Result<()>> + Send;

    /// The signs of life of these members, in their order, freshly read.
    fn signs(
        &self,
        name: &LockName,
        members: &[MemberId],
    ) -> impl Future<Output = Result<Vec<Sign>>> + Send;

    /// What earlier, short-lived observers of this boot left of these members.
    fn recall(
        &self,
        name: &LockName,
        members: &[MemberId],
    ) -> impl Future<Output = Vec<Observation>> + Send;

    /// Leaves observations for later observers of this boot; replaces what was left before of
    /// the same members, and drops what was left of others.
    fn remember(&self, name: &LockName, seen: &[Observation]) -> impl Future<Output = ()> + Send;

    /// The names with a record that begin with `prefix`, in order, `limit` at most.
    fn names(
        &self,
        prefix: &str,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<LockName>>> + Send;

    /// Wakes these members, which were just granted the lock or ended by others.
    fn wake(&self, name: &LockName, members: &[MemberId]) -> impl Future<Output = ()> + Send;

    /// Adds somebody who is told of events.
    fn subscribe(&self, listener: Weak<dyn Listener>);

    /// Tells that a claim waits or stopped waiting in this process; see
    /// [`Backend::watch`](crate::backend::Backend::watch).
    fn watch(&self, claim: &Claim, waits: bool) -> bool;

    /// Pauses before a swap is tried again that others won, for about
    /// [`swap_pause`]`(attempt)`; not at all before the first time.
    fn pause(&self, attempt: u32) -> impl Future<Output = ()> + Send;

    /// Asks the store whether it is there.
    fn ping(&self) -> impl Future<Output = Result<()>> + Send;

    /// The store-level keys of a name.
    fn keys(&self, name: &LockName) -> Vec<(&'static str, String)>;
}
