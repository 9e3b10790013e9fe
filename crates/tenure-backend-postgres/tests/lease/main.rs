//! The lease table on a real server: the rules, its SQL users, rows that somebody sits on, who is told
//! of grants, and how it gets there.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod stage;

mod differential;
mod installs;
mod people;
mod pooler;
mod rows;
mod wake;
