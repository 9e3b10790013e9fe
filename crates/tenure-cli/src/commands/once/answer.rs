//! What `tenure once` tells in the end.

use std::convert::Infallible;

use serde::Serialize;
use tenure::recipes::once::{OnceError, Outcome as Found, Source, Status};
use tenure::{ErrorKind, Fence, LockManager, LockName};

use super::Call;
use super::capture::Stream;
use super::lead::{Failed, Ran, Seen};
use crate::app::App;
use crate::args;
use crate::child::Exit;
use crate::failure::{Failure, Outcome, code};
use crate::output::text::safe;
use crate::output::{Holder, aligned, millis, time};

/// What `once --json` prints behind the command's own output.
#[derive(Serialize)]
struct Report<'a> {
    key: &'a str,
    scope: &'a str,
    name: &'a str,
    store: &'a str,
    /// `executed`, `joined` or `cached`; `failed` if our own run is no result.
    source: &'static str,
    attempt: u32,
    fence: Option<Fence>,
    age_ms: Option<u64>,
    exit_code: u8,
}

/// What `once --status --json` prints.
#[derive(Serialize)]
struct Known<'a> {
    key: &'a str,
    scope: &'a str,
    name: &'a str,
    store: &'a str,
    state: &'static str,
    attempt: Option<u32>,
    fingerprint: Option<String>,
    holder: Option<Holder>,
    followers: usize,
    message: Option<String>,
    written: Option<String>,
    keep_until: Option<String>,
    exit_code: Option<u8>,
}

#[derive(Serialize)]
struct Forgotten<'a> {
    key: &'a str,
    scope: &'a str,
    name: &'a str,
    store: &'a str,
    forgotten: bool,
}

impl Call<'_> {
    pub(super) fn answer(
        &self,
        ended: Result<Found<Ran>, OnceError<Failed>>,
        seen: &Seen,
    ) -> Outcome {
        let (source, attempt, fence, age, exit_code) = match ended {
            Ok(found) => {
                let Ran { exit_code, stdout, stderr } = &found.value;
                printed(Stream::Stderr.print(&stderr.0))?;
                printed(Stream::Stdout.print(&stdout.0))?;
                let source = match found.source {
                    Source::Executed => "executed",
                    Source::Joined => "joined",
                    _ => "cached",
                };
                (source, found.attempt, Some(found.fence), Some(millis(found.age)), *exit_code)
            }
            Err(OnceError::Failed { error: Failed::Ended(exit), attempt, is_final }) => {
                printed(seen.print())?;
                if let (Exit::Signal(_), false) = (exit, is_final) {
                    self.app.output.say(&format!(
                        "{}; the next call of {:?} runs it again",
                        Failed::Ended(exit),
                        self.args.key
                    ));
                }
                ("failed", attempt, None, None, exit.code())
            }
            Err(error) => return Err(self.no_result(error, seen)?),
        };
        if self.app.output.json {
            let report = Report {
                key: &self.args.key,
                scope: &self.args.scope,
                name: self.name.as_str(),
                store: &self.locks.store(),
                source,
                attempt,
                fence,
                age_ms: age,
                exit_code,
            };
            self.app.output.object("once", &report)?;
        }
        Ok(exit_code)
    }

    /// The failure to tell when there is nothing to replay.
    fn no_result(&self, error: OnceError<Failed>, seen: &Seen) -> Outcome<Box<Failure>> {
        let error = match error {
            OnceError::Failed { error: Failed::NotRun(error), .. } => {
                let mut failure = Failure::new(error.code(), "not_run", error.to_string())
                    .help("is it installed, executable and in $PATH?");
                if let Some(source) = std::error::Error::source(&error) {
                    failure = failure.cause(source);
                }
                return Ok(failure);
            }
            OnceError::TooLong { len, max } => {
                printed(seen.print())?;
                let message = format!(
                    "the command ran, and printed more than is kept, {len} bytes as JSON of at most \
                     {max}: nobody gets it again"
                );
                return Ok(Failure::new(code::CANNOT_CREATE, "too_long", message)
                    .help("write large output to a file, and print its name"));
            }
            OnceError::Failed { error: Failed::Ended(exit), attempt, .. } => {
                let message = Failed::Ended(exit).to_string();
                OnceError::KeptFailure { message, attempt }
            }
            OnceError::KeptFailure { message, attempt } => {
                OnceError::KeptFailure { message, attempt }
            }
            OnceError::StillRunning { attempt, holder } => {
                OnceError::StillRunning { attempt, holder }
            }
            OnceError::Superseded { attempt, reason } => OnceError::Superseded { attempt, reason },
            OnceError::Indeterminate { attempt } => OnceError::Indeterminate { attempt },
            OnceError::Mistyped(error) => OnceError::Mistyped(error),
            OnceError::Store(error) => OnceError::Store(error),
            _ => OnceError::Conflict,
        };
        Ok(self.failure(error))
    }

    pub(super) async fn status(&self) -> Outcome {
        let status = self.once.status(self.args.key.as_str()).await?;
        let store = self.locks.store();
        let ran = status.result.as_deref().and_then(|text| serde_json::from_str::<Ran>(text).ok());
        let exit_code = ran.map(|ran| ran.exit_code);
        let known = Known {
            key: &self.args.key,
            scope: &self.args.scope,
            name: self.name.as_str(),
            store: &store,
            state: status.state.as_str(),
            attempt: status.attempt,
            fingerprint: status.fingerprint.clone(),
            holder: status.holder.as_ref().map(Holder::new),
            followers: status.followers,
            message: status.message.clone(),
            written: status.written.and_then(time),
            keep_until: status.keep_until.and_then(time),
            exit_code,
        };
        self.app.output.answer("once_status", &known, || self.table(&status, exit_code))?;
        Ok(0)
    }

    fn table(&self, status: &Status, exit_code: Option<u8>) -> String {
        let mut rows = Vec::new();
        let mut row = |what: &str, text: Option<String>| {
            rows.extend(text.map(|text| vec![what.to_owned(), safe(&text)]));
        };
        row("key", Some(self.args.key.clone()));
        row("lock", Some(self.name.to_string()));
        row("state", Some(status.state.to_string()));
        row("attempt", status.attempt.map(|n| n.to_string()));
        row("exit code", exit_code.map(|n| n.to_string()));
        row("failure", status.message.clone());
        row("run by", status.holder.as_ref().map(ToString::to_string));
        row("followers", (status.followers != 0).then(|| status.followers.to_string()));
        row("written", status.written.map(|at| tenure::Utc(at).to_string()));
        row("kept until", status.keep_until.map(|at| tenure::Utc(at).to_string()));
        aligned(&rows)
    }

    pub(super) fn told_forgotten(&self, forgotten: bool) -> Outcome {
        let body = Forgotten {
            key: &self.args.key,
            scope: &self.args.scope,
            name: self.name.as_str(),
            store: &self.locks.store(),
            forgotten,
        };
        self.app.output.answer("once_forgotten", &body, || {
            let what = if forgotten { "forgotten" } else { "nothing was kept" };
            format!("{}: {what}\n", safe(&self.args.key))
        })?;
        Ok(0)
    }
}

/// An end without a result, as this program tells it.
pub(super) fn failure(
    app: &App,
    args: &args::Once,
    name: &LockName,
    locks: &LockManager,
    error: OnceError<Infallible>,
) -> Box<Failure> {
    let kind = error.as_str();
    let message = error.to_string();
    let (code, help) = match error {
        OnceError::Store(error) => {
            let is_deadlock = error.kind() == ErrorKind::Deadlock;
            let mut failure: Box<Failure> = error.into();
            if is_deadlock {
                failure.code = not_acquired(app, args);
            }
            return failure;
        }
        OnceError::StillRunning { holder, .. } => {
            let help = match args.forget {
                true => {
                    "what it leaves can be forgotten when it is over; `tenure force-release NAME` ends it"
                }
                false => "wait longer, or look: `tenure once --status KEY`",
            };
            let mut failure =
                Failure::new(not_acquired(app, args), kind, "somebody is still at it").help(help);
            failure.holders = holder.into_iter().map(|holder| *holder).collect();
            failure.lock = Some(name.to_string());
            failure.store = Some(locks.store().to_string());
            return failure;
        }
        OnceError::KeptFailure { .. } if args.policy == args::Policy::AtMostOnce => (
            code::NOT_ACQUIRED,
            "look what became of it, then `tenure once --forget KEY`, or run it again with --force",
        ),
        OnceError::KeptFailure { .. } => {
            (code::NOT_ACQUIRED, "wait until --fail-ttl is over, or run it with --force")
        }
        OnceError::Conflict => {
            (code::DATA, "another command or --fingerprint under the same key is another request")
        }
        OnceError::Superseded { .. } => {
            (code::LOST, "whoever calls again runs it again, or gets the result of who took over")
        }
        OnceError::Indeterminate { .. } => {
            (code::INDETERMINATE, "look what became of it, then `tenure once --forget KEY`")
        }
        _ => (code::DATA, "`tenure once --forget KEY` forgets what is kept"),
    };
    let mut failure = Failure::new(code, kind, message).help(help).lock(name.as_str());
    failure.store = Some(locks.store().to_string());
    failure
}

fn not_acquired(app: &App, args: &args::Once) -> u8 {
    let chosen = args.conflict_exit_code.or(app.config.conflict_exit_code);
    chosen.unwrap_or(code::NOT_ACQUIRED)
}

fn printed(written: std::io::Result<()>) -> Outcome<()> {
    written.map_err(|e| Failure::stdout(&e))
}
