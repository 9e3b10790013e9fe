//! What is built from locks, on every store whose capabilities allow it.
//!
//! Recipes know the core only: the same code runs on every store, and what a store cannot do is
//! answered by [`tenure_core::ErrorKind::Unsupported`] before any I/O, with the name of one that can.

mod record;
mod support;

pub mod blocking;
pub mod election;
pub mod fenced_file;
pub mod multi;
pub mod once;
pub mod rwlock;
pub mod semaphore;
pub mod checkpoint;
pub mod compaction;
pub mod task;

pub use checkpoint::{Checkpoint, CheckpointCoordinator, CheckpointJob, Checkpointed};
pub use compaction::Compaction;
pub use election::{Election, Leader, Leadership, Observer, StoppedLeading};
pub use multi::{LostLock, MultiGuard, MultiLock, MultiWatch, NotAllReleased};
pub use rwlock::{NotUpgraded, ReadGuard, RwGuard, RwLock, UpgradableGuard, WriteGuard};
pub use semaphore::{Permits, Semaphore};
pub use task::{ClaimedTask, Completion, RanTask, Task, TaskQueue};
