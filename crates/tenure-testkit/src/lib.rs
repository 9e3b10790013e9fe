//! What stores are put on trial with.
//!
//! - [`conformance`]: the rules that every store keeps, each a plain async function;
//! - [`differential`]: the same random commands to a store and to the pure machine;
//! - [`cancel`]: futures that are dropped at every point at which they can be;
//! - [`saboteur`]: stores that each break one rule, to put the suite itself on trial;
//! - [`scripted_register`]: a register that loses, delays and refuses as it is told;
//! - [`history`]: the judge of what lock users wrote down;
//! - [`lock_taker`]: real processes that take locks, and are killed and stopped;
//! - [`proxy`]: what networks do to a connection, as it is told;
//! - [`faults`]: what is done to every store that is a server;
//! - [`stage`]: what fault tests of every store share;
//! - [`servers`]: real servers that tests own, to be killed, stopped and restarted.

#![allow(clippy::unwrap_used, reason = "a rule that does not hold panics; the suite reports it")]

pub mod cancel;
pub mod conformance;
pub mod differential;
pub mod history;
pub mod lock_taker;
pub mod saboteur;
pub mod scripted_register;
pub mod proxy;
pub mod seed;
pub mod servers;
pub mod stage;
pub mod faults;
