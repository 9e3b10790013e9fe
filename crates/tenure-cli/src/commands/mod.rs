//! What the commands do, one file each.

mod doctor;
mod elect;
mod force;
mod hold;
mod install;
mod key;
mod once;
mod run;
mod shell;
mod status;
mod token;
mod watch;

use crate::app::App;
use crate::args::{Command, Common};
use crate::config::Config;
use crate::failure::{Failure, Outcome, code};
use crate::output::Output;
use crate::store::Stores;

/// Runs one command; answers the exit code.
pub(crate) fn run(common: Common, command: Command, output: Output) -> Outcome {
    match &command {
        Command::Completions(args) => return shell::completions(output, args),
        Command::Man(args) => return shell::man(output, args),
        Command::Help(args) => return shell::help(args),
        #[cfg(feature = "file")]
        Command::ProbeWorker(args) => return doctor::worker(args),
        _ => {}
    }
    let config = Config::load(common.config.as_deref())?;
    let app = App { config, stores: Stores::new(common.store)?, output };
    // One thread: the command that runs under a lock must be started by the main thread, for the
    // kernel ends it together with the thread that started it.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(code::OS, "system", "no event loop can be made").cause(e))?;
    runtime.block_on(async {
        match command {
            Command::Run(args) => run::run(&app, args).await,
            Command::Elect(args) => elect::elect(&app, args).await,
            Command::Once(args) => once::once(&app, args).await,
            Command::Acquire(args) => token::acquire(&app, args).await,
            Command::Renew(args) => token::renew(&app, args).await,
            Command::Release(args) => token::release(&app, args).await,
            Command::Status(args) => status::status(&app, args).await,
            Command::List(args) => status::list(&app, args).await,
            Command::Watch(args) => watch::watch(&app, args).await,
            Command::ForceRelease(args) => force::force_release(&app, args).await,
            Command::Doctor(args) => doctor::doctor(&app, args).await,
            Command::Install(args) => install::install(&app, args).await,
            Command::Key(args) => key::key(&app, args),
            Command::Completions(_) | Command::Man(_) | Command::Help(_) => {
                unreachable!("done above")
            }
            #[cfg(feature = "file")]
            Command::ProbeWorker(_) => unreachable!("done above"),
        }
    })
}
