//! Locks in a directory: no server, and they survive crashes.
//!
//! Every lock is a directory with one record; a transition takes place by moving one name, which
//! either happens or does not. Holders give signs of life by rewriting a small file of their own;
//! others judge them by what they see on their own clock, and on one host the kernel proves that a
//! holder is dead.
//!
//! The directory belongs on a file system of this host, or on NFS, and not where something removes
//! files by their age, as many systems do in `/tmp`: a lock whose files were removed is refused.
//!
//! In reading order: `config` and `backend` for users; `register`, `baton` and `creation` for the
//! rules; `layout`, `record`, `heartbeat`, `reserve`, `process`, `observe` and `spare` for what lies in the directory;
//! `watcher`, `held` and `waits` for wake-ups; `prune` and `litter` for what nobody needs any more; `probe` measures a
//! mount.

mod config;

mod backend;
mod register;

mod admitted;
mod baton;
mod creation;
mod heartbeat;
mod held;
mod layout;
mod litter;
mod observe;
mod process;
mod prune;
mod record;
mod reserve;
mod spare;
mod waits;
mod watcher;

pub mod probe;

mod error;
mod platform;
mod room;

pub use backend::FileBackend;
pub use config::{FileConfig, Liveness};
pub use register::FileRegister;
