//! `tenure once`: a command runs once per key, and everybody gets its output and exit code.

mod answer;
mod capture;
mod lead;

use std::convert::Infallible;
use std::time::Duration;

use rustix::process::Signal;
use tenure::recipes::once::{
    Executions, Failures, Fingerprint, IdempotencyConfig, Key, Once, OnceError,
};
use tenure::{Actor, LockManager};
use tokio::sync::mpsc::unbounded_channel;

use self::lead::Leader;
use super::hold::{close, signalled};
use crate::app::App;
use crate::args;
use crate::child::Signals;
use crate::failure::{Failure, Outcome, code};

/// Everything about one call of the program.
struct Call<'a> {
    app: &'a App,
    args: &'a args::Once,
    locks: LockManager,
    once: Once,
    actor: Actor,
    /// The lock that stands for the key.
    name: tenure::LockName,
}

pub(crate) async fn once(app: &App, args: args::Once) -> Outcome {
    let name = Key::from(&args.key).lock_name(&args.scope)?;
    let owner = args.owner.as_deref().or(app.config.owner.as_deref());
    let locks = app.open(name.as_str(), owner)?;
    let actor = Actor::from_environment().unwrap_or_else(Actor::unique);
    let once = Once::new(locks.clone(), config(app, &args))?.actor(&actor);
    let call = Call { app, args: &args, locks, once, actor, name };
    if args.status {
        return call.status().await;
    }
    let ended = if args.forget { call.forget().await } else { call.run().await };
    close(app, &call.locks).await;
    ended
}

fn config(app: &App, args: &args::Once) -> IdempotencyConfig {
    let wait = if args.no_wait { Some(Duration::ZERO) } else { args.wait.or(app.config.wait) };
    IdempotencyConfig::new(&args.scope)
        .ttl(args.ttl)
        .in_progress_ttl(args.lease)
        .wait_timeout(wait.unwrap_or(Duration::MAX))
        .executions(match args.policy {
            args::Policy::AtLeastOnce => Executions::AtLeastOnce,
            args::Policy::AtMostOnce => Executions::AtMostOnce,
        })
        // Which exit codes are results is decided before the library sees them.
        .failures(Failures::Retry)
        .max_attempts(args.max_attempts)
        .fail_ttl(args.fail_ttl)
}

impl Call<'_> {
    async fn run(&self) -> Outcome {
        let no_signals = |e| Failure::new(code::OS, "system", "signals cannot be caught").cause(e);
        // One for us, and one whose signals are passed on to the command while it runs.
        let mut signals = Signals::new().map_err(no_signals)?;
        let forwarded = Signals::new().map_err(no_signals)?;
        let (give_up, mut given_up) = unbounded_channel();
        let leader = Leader::new(self.app, self.args, &self.locks, &self.actor, give_up);
        let seen = leader.seen();
        let fingerprint = self.fingerprint();
        let key = self.args.key.as_str();
        let call = async {
            let work = |attempt| leader.lead(attempt, forwarded);
            if self.args.force {
                self.once.force(key, fingerprint, work).await
            } else {
                self.once.run(key, fingerprint, work).await
            }
        };
        // A command whose lease was lost is ended while its caller follows the next one.
        let ends =
            lead::end_what_is_given_up(self.app, self.args, &self.locks, &mut given_up, &seen);
        let interrupted = async {
            loop {
                let signal: Signal = signals.next().await;
                // While the command runs it is the command's.
                if !seen.runs() {
                    return signal;
                }
            }
        };
        let both = futures_util::future::join(call, ends);
        let ended = tokio::select! {
            biased;
            (ended, ()) = both => ended,
            signal = interrupted => return Ok(signalled(signal)),
        };
        self.answer(ended, &seen)
    }

    /// What is asked for: the command, unless something else was said.
    fn fingerprint(&self) -> Fingerprint {
        match &self.args.fingerprint {
            Some(text) => Fingerprint::of_parts(["text", text]),
            None => {
                let words = self.args.command.iter().map(|word| word.as_encoded_bytes());
                Fingerprint::of_parts(std::iter::once(&b"command"[..]).chain(words))
            }
        }
    }

    async fn forget(&self) -> Outcome {
        let kept = match self.once.forget(self.args.key.as_str()).await {
            Ok(kept) => kept,
            Err(error) => return Err(self.failure(error)),
        };
        self.told_forgotten(kept)
    }

    /// An end without a result, as this program tells it.
    fn failure(&self, error: OnceError<Infallible>) -> Box<Failure> {
        answer::failure(self.app, self.args, &self.name, &self.locks, error)
    }
}
