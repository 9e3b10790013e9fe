//! From the arguments to the exit code.

use std::error::Error as _;
use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::args::Cli;
use crate::commands;
use crate::config::Config;
use crate::failure::{Failure, Outcome};
use crate::output::{Output, log};
use crate::store::{self, Stores};

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
    log::start(output);
    let code = commands::run(cli.common, cli.command, output).unwrap_or_else(|failure| {
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
    let failure = usage(error);
    Output { json, quiet: false }.fail(&failure);
    ExitCode::from(failure.code)
}

fn usage(error: &clap::Error) -> Box<Failure> {
    let no_command =
        [ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand, ErrorKind::MissingSubcommand];
    if no_command.contains(&error.kind()) {
        return Failure::usage("there is no command").help("`tenure --help` lists them");
    }
    let argument = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(argument)) => Some(argument),
        _ => None,
    };
    if let (Some(argument), Some(source)) = (argument, error.source()) {
        let argument = argument.split(' ').next().unwrap_or(argument);
        return match source.downcast_ref::<tenure::Error>() {
            Some(typed) => {
                let failure = Failure::usage(format!("{argument}: {}", typed.message()));
                match typed.help() {
                    Some(help) => failure.help(help),
                    None => failure,
                }
            }
            None => Failure::usage(format!("{argument}: {source}")),
        };
    }
    let text = error.render().to_string();
    let mut paragraphs = text.split("\n\n").map(str::trim);
    let message = paragraphs.next().unwrap_or_default();
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let hint = paragraphs.next().unwrap_or("see `tenure --help`");
    Failure::usage(message).help(hint.replace("tip: ", "").replace("Usage: ", "usage: "))
}
