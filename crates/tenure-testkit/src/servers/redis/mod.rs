//! Real `redis-server` processes.
//!
//! - [`RedisServer`]: one server, which [`RedisSetup`] describes;
//! - [`RedisCluster`]: primaries that share the slots, and slots that move while they are used;
//! - [`RedisSentinel`]: a primary with replicas, and sentinels that agree on a new primary.
//!
//! Needs the programs of the Debian package `redis-server`.

pub mod setup;
pub mod server;
pub mod cluster;
pub mod sentinel;
mod wire;

pub use cluster::RedisCluster;
pub use sentinel::RedisSentinel;
pub use server::RedisServer;
pub use setup::RedisSetup;
