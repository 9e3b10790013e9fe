//! The examples are run as they stand.

#![allow(
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "examples are programs of their own"
)]

#[path = "../examples/issue_workers.rs"]
mod issue_workers;
#[path = "../examples/path_locks.rs"]
mod path_locks;
#[path = "../examples/search_index.rs"]
mod search_index;
#[path = "../examples/vector_index.rs"]
mod vector_index;

#[test]
fn the_workers_of_one_task_list_meet_in_every_way() {
    issue_workers::main().unwrap();
}

#[test]
fn a_file_has_one_lock_by_all_its_spellings() {
    path_locks::main().unwrap();
}

#[test]
fn the_writers_of_one_index_lose_nothing() {
    search_index::main().unwrap();
}

#[test]
fn a_namespace_is_rebuilt_once() {
    vector_index::main().unwrap();
}
