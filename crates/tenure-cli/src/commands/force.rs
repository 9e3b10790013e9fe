//! `tenure force-release`: a lock is taken away from its holder.

use std::io::{self, BufRead, IsTerminal};

use serde::Serialize;
use tenure::{Error, ErrorKind, Fence, HolderView, LockName};

use crate::app::App;
use crate::args::ForceRelease;
use crate::failure::{Failure, Outcome};
use crate::output::text::{count, safe};
use crate::output::{self, Holder, Look};

#[derive(Serialize)]
struct Report<'a> {
    name: &'a str,
    store: &'a str,
    reason: &'a str,
    /// Who held it and holds it no more.
    released: Vec<Holder>,
}

pub(crate) async fn force_release(app: &App, args: ForceRelease) -> Outcome {
    let name = &args.name.name;
    let asks = !args.yes;
    if asks && !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Err(Failure::usage("there is no terminal to ask on")
            .lock(name.as_str())
            .help("say --yes if you are sure; `tenure status NAME` shows the holder"));
    }
    let owner = args.owner.as_deref().or(app.config.owner.as_deref());
    let locks = app.open(name.as_str(), owner)?;
    let view = locks.inspect(name).await?;
    let only_if = chosen(&args, name, &view.holders)?;
    if asks {
        eprint!("{}", output::lock(&view, &locks.store(), Look::of(&locks)));
        let whom = match only_if {
            Some(fence) => format!("the holder with fence {fence}"),
            None => format!("all holders ({} now)", view.holders.len()),
        };
        eprintln!("This ends the lock of {whom}, who may still be at work.");
        eprint!("Type the name of the lock to go on: ");
        let mut typed = String::new();
        let read = io::stdin().lock().read_line(&mut typed);
        if read.is_err() || typed.trim_end_matches(['\n', '\r']) != name.as_str() {
            return Err(
                Failure::usage("that is not its name; nothing was changed").lock(name.as_str())
            );
        }
    }
    // Between the look above and this call the holder may have changed: only the one that was
    // shown is ended, unless all were meant.
    let victims = locks.force_release(name, only_if, &args.reason).await?;
    let report = Report {
        name: name.as_str(),
        store: &locks.store(),
        reason: &args.reason,
        released: victims.iter().map(Holder::new).collect(),
    };
    app.output.answer("force_release", &report, || {
        let whom = match victims.as_slice() {
            [one] => format!("{} (fence {})", safe(&one.details.owner.label), one.fence),
            many => count(many.len(), "holder"),
        };
        format!("{}: released from {whom}\n", safe(name.as_str()))
    })?;
    Ok(0)
}

/// Whom to end: one by its fence, or all.
fn chosen(args: &ForceRelease, name: &LockName, holders: &[HolderView]) -> Outcome<Option<Fence>> {
    if args.any {
        return Ok(None);
    }
    if args.fence.is_some() {
        return Ok(args.fence);
    }
    match holders {
        [] => Err(Error::new(ErrorKind::NotHeld, "nobody holds it")
            .with_operation("force-releasing")
            .with_lock(name)
            .into()),
        [only] => Ok(Some(only.fence)),
        many => {
            let mut failure =
                Failure::usage(format!("{name:?} has {}", count(many.len(), "holder")))
                    .lock(name.as_str())
                    .help("name one by --fence, or all by --any");
            failure.holders = many.to_vec();
            Err(failure)
        }
    }
}
