//! Locks that a majority of independent stores decide on, with a fence that is proven.
//!
//! This is Redlock (Redis, "Distributed Locks with Redis") with what it lacks: a fencing token that only
//! rises, votes that are refused by nodes that may have forgotten, and holders that ask again for the votes
//! that they lost. The voters are any stores that do what `tenure_core::voter` says.
//!
//! The tree: `election` and `standing` for what the answers of all voters amount to, `urn` for the rules
//! of one of them, all pure, and model-checked as they are; `seat` and `house` for asking them, `acquire`, `renew`,
//! `end` and `look` for what is asked, `backend` for the verbs.

mod election;
mod standing;
pub mod urn;

mod seat;
mod house;
mod acquire;
mod renew;
mod end;
mod look;
mod backend;

#[cfg(test)]
mod model;

pub use backend::QuorumBackend;
pub use election::{Election, Next, Said, majority};
pub use standing::{Farewell, Standing, farewell, standing};
