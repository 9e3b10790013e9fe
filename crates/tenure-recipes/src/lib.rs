//! What is built from locks, on every store whose capabilities allow it.
//!
//! Recipes know the core only: the same code runs on every store, and what a store cannot do is
//! answered by [`tenure_core::ErrorKind::Unsupported`] before any I/O, with the name of one that can.

pub mod fenced_file;
