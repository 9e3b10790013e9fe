//! One distributed lock for every store.
//!
//! Whoever holds a *tenure* holds a name, for a term, with a number: all or some of the seats on
//! a name, for a ttl that is renewed while the holder lives, with a fencing token that only grows.
//!
//! ```
//! # fn main() -> tenure::Result<()> {
//! # let dir = tempfile::tempdir().unwrap();
//! # let url = format!("file://{}", dir.path().display());
//! # let url = if cfg!(feature = "file") { url } else { "memory:".to_owned() };
//! # let runtime = tokio::runtime::Runtime::new().unwrap();
//! # runtime.block_on(async {
//! use std::time::Duration;
//!
//! let locks = tenure::connect(&url).await?; // or "redis://…", "postgres://…", "memory:"
//! let guard = locks.acquire("orders/42", Duration::from_secs(30)).await?;
//! println!("I hold {} with fencing token {}", guard.name(), guard.fencing_token());
//! guard.release().await?; // or drop it
//! # Ok(())
//! # })
//! # }
//! ```
//!
//! A lease cannot stop a process that was paused from acting late. Hand the
//! [fencing token](LockWatch::fencing_token) to whatever the lock protects, and let that refuse
//! what is older than the newest it has seen: that is the other half of safety.

mod connect;
mod examine;
mod global;
mod install;
#[cfg(doctest)]
mod guide;

pub use connect::{connect, default_store, open};
pub use examine::{Worker, examine};
pub use global::{global, set_global};
pub use install::{Installed, install, install_script};
pub use tenure_core::*;
#[cfg(feature = "macros")]
pub use tenure_macros::{idempotent, locked};

#[cfg(feature = "macros")]
#[doc(hidden)]
#[path = "macros.rs"]
pub mod __macros;

/// The memory store: locks in this process, for tests and single processes; and `off:`.
#[cfg(feature = "memory")]
pub mod memory {
    pub use tenure_backend_memory::*;
}

/// The Redis store: locks on a server that other programs may use, too.
#[cfg(feature = "redis")]
pub mod redis {
    pub use tenure_backend_redis::*;
}

/// The quorum store: a majority of independent stores, such as Redis servers, decides.
#[cfg(feature = "redlock")]
pub mod quorum {
    pub use tenure_backend_quorum::*;
}

/// The PostgreSQL store: a lease table, or session advisory locks, on a server.
#[cfg(feature = "postgres")]
pub mod postgres {
    pub use tenure_backend_postgres::*;
}

/// What is built from locks: read/write locks, semaphores, elections, single-flight and more.
#[cfg(feature = "recipes")]
pub mod recipes {
    pub use tenure_recipes::*;
}

/// The file store: locks in a directory.
#[cfg(feature = "file")]
pub mod file {
    pub use tenure_backend_file::*;
}
