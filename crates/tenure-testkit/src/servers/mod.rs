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

/// A server that can be hurt.
pub trait Server {
    /// Ends it at once, with SIGKILL.
    fn kill(&self);
    /// Ends it if it runs, and starts it with the data that it has kept.
    fn restart(&self);
    /// Makes it stand still, with SIGSTOP.
    fn stop(&self);
    /// Lets it go on, with SIGCONT.
    fn cont(&self);
}

/// What the kinds of servers do under these names.
macro_rules! can_be_hurt {
    ($server:ty) => {
        impl Server for $server {
            fn kill(&self) {
                <$server>::kill(self);
            }

            fn restart(&self) {
                <$server>::restart(self);
            }

            fn stop(&self) {
                <$server>::stop(self);
            }

            fn cont(&self) {
                <$server>::cont(self);
            }
        }
    };
}

can_be_hurt!(redis::RedisServer);
can_be_hurt!(postgres::PostgresServer);
