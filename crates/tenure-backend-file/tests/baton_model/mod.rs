//! The baton, the protocol of the file store, at the level of single file-system calls.
//!
//! A directory holds exactly one `cur-<gen>-<tok>`; a transition renames it to the next name, so
//! the old name is consumed and a second taker of the same name gets `ENOENT`. The model follows
//! every process through its calls one at a time, with everything that may fall in between:
//! another process, a crash, a lease that ends, a rename whose reply is lost, a listing that is
//! old when it is used, power loss before an `fsync`.
//!
//! Reading order: [`config`] says what is switched on, [`state`] what there is, [`register`],
//! [`commit`], [`files`] [`prune`] and [`revival`] what a
//! process does, [`environment`] what happens to it, [`model`] which
//! step may come next,
//! [`properties`] what must hold, [`canonical`] and [`garbage`]
//! why the state space is finite, [`run`] how it is
//! searched. Two small models of their own justify what the large one takes for granted:
//! [`heartbeat`], which keeps time, how leases end, and [`over`] that records stay what they are
//! although their files are written into again.

// Two test binaries share these modules and neither uses all of them.
#![allow(dead_code)]

pub(crate) mod canonical;
pub(crate) mod commit;
pub(crate) mod config;
pub(crate) mod environment;
pub(crate) mod files;
pub(crate) mod garbage;
pub(crate) mod heartbeat;
pub(crate) mod model;
pub(crate) mod over;
pub(crate) mod properties;
pub(crate) mod prune;
pub(crate) mod register;
pub(crate) mod revival;
pub(crate) mod run;
pub(crate) mod state;
