//! What is left of locks that nobody uses any more.

use futures_lite::future::block_on;

use crate::stage::{Ground, LONG, Stage, X, acquire};

#[test]
fn the_state_of_a_lock_that_was_used_once_is_forgotten_some_day() {
    let stage = Stage::new();
    let manager = stage.bystander();
    block_on(acquire(&manager, X, LONG).release()).unwrap();
    let [_, (_, cell)] = &manager.keys(X).unwrap()[..] else { panic!("a lock has two keys") };
    let left: i64 = stage.server.cli(&["PTTL", cell]).parse().unwrap();
    let day = 86_400_000;
    assert!((day..=3 * day).contains(&left), "{left}");
}
