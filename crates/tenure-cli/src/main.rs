//! `tenure`: hold a lock while a command runs, and see who holds what.
//!
//! In reading order: `args`, `values` and `usage` are what people type, `config` and `store` where locks
//! are kept, `commands` what happens, `child` the command that runs under a lock, `output` and
//! `failure` what people see.

mod args;
mod usage;
mod values;

mod config;
mod store;

mod app;
mod commands;

mod child;

mod failure;
mod output;

use std::process::ExitCode;

fn main() -> ExitCode {
    app::main(std::env::args_os().collect())
}
