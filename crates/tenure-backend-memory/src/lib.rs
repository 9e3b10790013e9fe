//! Locks in this process: [`MemoryBackend`], the machine behind a mutex, and [`OffBackend`],
//! which grants everything and locks nothing.
//!
//! The memory store is the reference that every other store is compared with. It has every
//! feature, hands over in a single step, and is made for tests of code that takes locks: give it a
//! [`TestClock`](tenure_core::clock::TestClock), and let chosen calls fail with [`Failures`].
//! Its locks are seen by nobody outside the process and end with it.

mod backend;
mod failures;
mod off;

pub use backend::MemoryBackend;
pub use failures::{Failure, Failures, Operation};
pub use off::OffBackend;
