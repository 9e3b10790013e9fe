//! Locks on a Redis server: one script per turn, hand-off in one message, exact order, fences.
//!
//! Native, because it has to be fast and because other programs take the same keys: an exclusive
//! lock is the plain key that `SET key token NX PX ttl` would make, so that redis-py, redsync,
//! rslock, node-redlock or a person with redis-cli and this store exclude each other. Everything
//! else stands in one hash beside it. The rules are those of `tenure_core::machine`, in Lua, and
//! compared with it command by command.
//!
//! The tree: `config` and `tls` for addresses, `keys` for what is stored where, `script` and `reply`
//! for what is sent and said, `wire` for a connection, `link` for keeping one and `pulse` for whether
//! it is alive, `flight` for calls that share it, `sentinel` for where it leads, `cluster` and `slots`
//! for one link per node, `line` for either, `links` for one line per runtime, `backend` for the verbs, `voter` for
//! one of the servers of a Redlock,
//! `probe` for what a deployment makes of the promises.

pub mod acl;

mod config;
mod tls;
mod keys;

mod backend;
mod voter;
mod details;
mod script;
mod reply;

mod links;
mod flight;
mod pulse;
mod line;
mod cluster;
mod slots;
mod sentinel;
mod link;
mod wire;
mod push;
mod looks;

mod probe;

mod error;

pub use backend::RedisBackend;
pub use config::RedisConfig;
pub use probe::examine_voters;
pub use voter::RedisVoter;
