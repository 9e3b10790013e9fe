//! What stores are put on trial with.

pub mod history;
