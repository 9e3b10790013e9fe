//! Real servers that tests own: each on free loopback ports, in a temporary folder, gone when it
//! is dropped.
//!
//! Because a test owns its server, it may kill, pause and restart it. Whatever goes wrong while a
//! server is started panics, with what the server said.
//!
//! - [`redis`]: a single server, a cluster, and a primary with its sentinels;
//! - [`postgres`]: a PostgreSQL server, and a pooler in front of it;
//! - [`process`]: what all kinds of servers have in common;
//! - [`ports`]: where they listen;
//! - [`patience`]: how they are waited for.

pub mod redis;
pub mod postgres;
pub mod process;
pub mod ports;
pub mod patience;
mod account;
mod warden;
