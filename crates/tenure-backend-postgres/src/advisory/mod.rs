//! Session advisory locks, done safely.
//!
//! In reading order: `key` for which lock a name is, `class` for how long a session may be silent,
//! `registry` for who of this process holds and wants what, `holder` for a session with locks and
//! the wishes that share its statements, `setup` for how one is made, `limits` for how many locks
//! there may be; `room` for what they share and the way to a lock and back, `seats` for
//! the session that a lock goes to, `wait` for the way by
//! the server's queue, `look` for who is there, `bus` for what processes ask each other, `sweep` for
//! what nobody asks for; `backend` for the verbs, `tx` for locks in the user's own transactions.

mod key;
mod class;
mod registry;
mod holder;
mod setup;
mod limits;

mod room;
mod seats;
mod wait;
mod look;
mod bus;
mod sweep;

mod backend;
mod tx;

#[cfg(test)]
mod model;

pub use backend::AdvisoryBackend;
pub(crate) use limits::most_locks;
pub use tx::{lock_in_transaction, transaction_lock_sql};
