//! Real processes that take locks, and a runner that kills and stops them.
//!
//! A test binary runs itself again with a [`Job`] in the environment; that process, a *taker*,
//! acquires a lock, works under it on a fenced register and releases it, round after round, and
//! writes everything into a history. The [`Fleet`] starts takers, sends them SIGKILL, SIGSTOP and
//! SIGCONT by a seeded schedule, and hands over what [`judge`](crate::history::judge) needs.
//!
//! In reading order: [`job`] is what a taker is told, [`taker`] what it does, [`fleet`] who starts
//! and hurts it, [`plan`] how, and [`run`] what is left to be judged.

pub mod job;
pub mod taker;
pub mod fleet;
pub mod plan;
pub mod run;

pub use fleet::{Doing, Fleet};
pub use job::Job;
pub use plan::Plan;
pub use run::{Run, Tally};
pub use taker::take;
