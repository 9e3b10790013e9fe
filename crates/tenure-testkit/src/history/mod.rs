//! Records what lock users did, and judges it afterwards.
//!
//! Nothing here knows any lock: the lock under test is whatever the processes of a run used, and the
//! judge sees only what they wrote down. In reading order:
//!
//! 1. [`event`]: what is written down, one JSON line per event.
//! 2. [`recorder`]: how it is written down, and read back after the run.
//! 3. [`register`]: the resource the lock protects, which compares fences and keeps a log.
//! 4. [`timeline`]: the events put together to attempts and grants.
//! 5. [`checker`]: one file per check, each a function from a timeline to a [`Finding`].
//! 6. [`verdict`]: the findings, promise by promise: held, broken, or not exercised.
//!
//! # What the checks stand on
//!
//! All clocks are one: every process of a run lives on one host and stamps its events with
//! [`now_ns`]. An `invoke` is stamped *before* the call and its end *after* it, so an
//! operation took effect somewhere between its two stamps. Each check counts only what is certain under
//! that uncertainty: a violation it reports did happen, however late a thread was scheduled.

pub mod checker;
pub mod event;
pub mod recorder;
pub mod register;
pub mod timeline;
pub mod verdict;

#[cfg(test)]
mod rehearsal;
#[cfg(test)]
mod script;
#[cfg(test)]
mod simulation;

pub use checker::{Check, Finding, Violation};
pub use event::{Event, Fence, Mode, Op, Phase};
pub use recorder::{Recorder, now_ns, read_dir};
pub use register::{FencedRegister, FileRegister, MemoryRegister};
pub use timeline::Timeline;
pub use verdict::{Demand, Evidence, Promise, Rules, Status, Verdict, judge};
