//! `tenure run` under faults: many processes at once, killed, stopped and evicted.
//!
//! What a lock is for is judged by a plain file that the commands work on: no update is lost, and
//! the fencing tokens rise in the order of the work.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../common/mod.rs"]
mod common;
mod counter;

mod crowd;
mod takeover;

/// Not a test of its own: what the commands do that run this program again.
#[test]
fn another_process() {
    if std::env::var_os(counter::ROLE).is_some() {
        counter::add_one();
    }
}
