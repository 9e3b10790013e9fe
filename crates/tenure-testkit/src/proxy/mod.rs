//! A TCP proxy that does to a connection what networks do, as it is told.
//!
//! A [`FaultProxy`] stands in front of a server of this host. What goes wrong is a [`Fault`] of
//! one direction, for all connections or [some](Scope), until it is replaced or
//! [healed](FaultProxy::heal); or it happens once, to [the next request](FaultProxy::lose_next_reply).
//! A [`Storm`] lets a seed choose. What can be chosen at random comes from the seed of the proxy.
//!
//! ```no_run
//! use tenure_testkit::proxy::{Direction, Fault, FaultProxy};
//!
//! let server_port = 6379;
//! let proxy = FaultProxy::start(server_port);
//! // ... clients connect to 127.0.0.1 and proxy.port() ...
//! proxy.set(Direction::ToClient, Fault::Stall);
//! proxy.heal();
//! ```

pub mod front;
pub mod fault;
pub mod counts;
pub mod storm;
mod shared;
mod connection;
mod lane;
mod bend;

pub use counts::{Counts, Traffic};
pub use fault::{Direction, End, Fault, Mutation, Scope};
pub use front::FaultProxy;
pub use storm::Storm;
