//! From the arguments to the exit code.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::args::Cli;
use crate::commands;
use crate::config::Config;
use crate::failure::{Outcome, code};
use crate::output::{Output, log};
use crate::store::{self, Stores};
use crate::usage;

/// What all commands share.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) stores: Stores,
    pub(crate) output: Output,
}

impl App {
    /// Opens the store that keeps the lock `name`.
    pub(crate) fn open(&self, name: &str, owner: Option<&str>) -> Outcome<tenure::LockManager> {
        store::open(&self.stores.of(name, &self.config)?, owner)
    }
}

/// The whole program.
pub(crate) fn main(args: Vec<OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => return not_understood(&args, &error),
    };
    let output = Output { json: cli.common.json, quiet: cli.common.quiet };
    let ended = log::start(output).and_then(|()| commands::run(cli.common, cli.command, output));
    let code = ended.unwrap_or_else(|mut failure| {
        if failure.code == code::USAGE {
            failure.help.get_or_insert_with(|| usage::see(&args));
        }
        failure.help = failure.help.map(|help| usage::on_the_same_store(&args, &help));
        output.fail(&failure);
        failure.code
    });
    ExitCode::from(code)
}

fn not_understood(args: &[OsString], error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // Nobody reads it, if this fails.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let json = args.iter().take_while(|arg| *arg != "--").any(|arg| arg == "--json");
    let failure = usage::complaint(args, error);
    Output { json, quiet: false }.fail(&failure);
    ExitCode::from(failure.code)
}
