//! `tenure run`: a lock is held while a command runs.

use std::ffi::OsString;
use std::time::Duration;

use serde::Serialize;
use tenure::clock::Moment;
use tenure::{Actor, Fence, LockGuard, LockManager, LockName, LockWatch, LossReason, NotReleased};

use super::hold::{Acquired, close, signalled};
use crate::app::App;
use crate::args::{OnLost, Run};
use crate::child::{Child, Exit, Signals};
use crate::failure::{Failure, Outcome, code};
use crate::output::text;

/// How long a command has between SIGTERM and SIGKILL, if nothing else is said.
const KILL_AFTER: Duration = Duration::from_secs(5);

/// What `run --json` prints at the end.
#[derive(Serialize)]
struct Report<'a> {
    name: &'a str,
    store: &'a str,
    owner: &'a str,
    fence: Fence,
    waited_ms: u64,
    held_ms: u64,
    command: Ended,
    /// `released`, `lost` or `unknown`.
    release: &'static str,
    lost: Option<LossReason>,
    exit_code: u8,
}

/// How the command ended.
#[derive(Serialize)]
pub(crate) struct Ended {
    exit_code: Option<u8>,
    signal: Option<u8>,
}

impl From<Exit> for Ended {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Code(code) => Self { exit_code: Some(code), signal: None },
            Exit::Signal(signal) => Self { exit_code: None, signal: Some(signal) },
        }
    }
}

pub(crate) async fn run(app: &App, args: Run) -> Outcome {
    let seats = args.hold.seats()?;
    let locks = app.open(args.hold.name.name.as_str(), args.hold.owner(app))?;
    // After the store was opened, which may take its time on a network share: until now a signal
    // simply ends us. Before the lock is asked for: from now on we have to tidy up.
    let mut signals = Signals::new()
        .map_err(|e| Failure::new(code::OS, "system", "signals cannot be caught").cause(e))?;
    let started = locks.clock().now();
    let renew = !args.no_renew;
    let actor = Actor::from_environment().unwrap_or_else(Actor::unique);
    let acquired = args.hold.acquire(app, &locks, seats, Some(&actor), renew, &mut signals).await?;
    let guard = match acquired {
        Acquired::Held(guard) => guard,
        Acquired::Signalled(signal) => return Ok(signalled(signal)),
    };
    let acquired = locks.clock().now();
    let mut child = match spawn(&args.command, &guard, &locks, &actor) {
        Ok(child) => child,
        Err(failure) => {
            let _ = release(app, &locks, guard).await;
            return Err(failure);
        }
    };
    let kill_after = kill_after(app, args.kill_after);
    let (exit, lost) = match args.on_lost {
        OnLost::Ignore => (child.wait(&mut signals, || true).await, None),
        OnLost::Term => supervise(app, kill_after, &locks, &guard, &mut child, &mut signals).await,
    };
    let (fence, owner) = (guard.fencing_token(), guard.owner().label.clone());
    let ended = locks.clock().now();
    let (release, lost) = match release(app, &locks, guard).await {
        Ok(()) => ("released", lost),
        Err(NotReleased::AlreadyLost(reason)) => {
            if lost.is_none() {
                let name = &args.hold.name.name;
                app.output.say(&format!("{name:?} was lost while the command ran: {reason}"));
            }
            ("lost", lost.or(Some(reason)))
        }
        Err(_) => ("unknown", lost),
    };
    let exit_code = if lost.is_some() { code::LOST } else { exit.code() };
    if app.output.json {
        let report = Report {
            name: args.hold.name.name.as_str(),
            store: &locks.store(),
            owner: &owner,
            fence,
            waited_ms: millis(acquired, started),
            held_ms: millis(ended, acquired),
            command: exit.into(),
            release,
            lost,
            exit_code,
        };
        app.output.object("run", &report)?;
    }
    Ok(exit_code)
}

fn millis(later: Moment, earlier: Moment) -> u64 {
    u64::try_from(later.since(earlier).as_millis()).unwrap_or(u64::MAX)
}

/// What the command is told about its lock. Never what could release it.
pub(crate) fn environment(
    lock: &LockWatch,
    locks: &LockManager,
    actor: &Actor,
) -> Vec<(String, OsString)> {
    let pair = |name: &str, value: String| (name.to_owned(), OsString::from(value));
    let mut environment = vec![
        pair("TENURE_LOCK", lock.name().to_string()),
        pair("TENURE_FENCING_TOKEN", lock.fencing_token().to_string()),
        pair("TENURE_OWNER", lock.owner().label.to_string()),
        pair("TENURE_STORE_KIND", locks.capabilities().kind.to_owned()),
    ];
    // A `tenure` inside the command waits in this one's place.
    environment.extend(actor.environment().map(|(name, value)| pair(name, value)));
    environment
}

/// Starts the command under its lock.
pub(crate) fn spawn(
    command: &[OsString],
    lock: &LockWatch,
    locks: &LockManager,
    actor: &Actor,
) -> Outcome<Child> {
    Child::spawn(command, &environment(lock, locks, actor)).map_err(|error| {
        let mut failure = Failure::new(error.code(), "not_run", error.to_string())
            .help("is it installed, executable and in $PATH? the lock is released");
        if let Some(source) = std::error::Error::source(&error) {
            failure = failure.cause(source);
        }
        failure.lock(lock.name().as_str())
    })
}

/// How long a command has between SIGTERM and SIGKILL.
pub(crate) fn kill_after(app: &App, chosen: Option<Duration>) -> Duration {
    chosen.or(app.config.kill_after).unwrap_or(KILL_AFTER)
}

/// Waits for the command's end, and brings it about when the lock is lost.
pub(crate) async fn supervise(
    app: &App,
    kill_after: Duration,
    locks: &LockManager,
    lock: &LockWatch,
    child: &mut Child,
    signals: &mut Signals,
) -> (Exit, Option<LossReason>) {
    let reason = tokio::select! {
        biased;
        exit = child.wait(signals, || lock.is_valid()) => return (exit, None),
        reason = lock.lost() => reason,
    };
    // From the deadline on we may not act, and at the end of the lease somebody else may.
    let (_, end) = lock.deadlines();
    let now = locks.clock().now();
    let kill_at = now.plus(kill_after).min(end);
    app.output.say(&format!(
        "lost {:?}: {reason}; ending the command (SIGTERM now, SIGKILL in {})",
        lock.name(),
        text::duration(kill_at.since(now))
    ));
    let grace = async {
        if now < kill_at {
            locks.sleep_until(kill_at).await;
        }
    };
    (child.end(grace).await, Some(reason))
}

/// Releases the lock, and says so if that was not confirmed.
async fn release(app: &App, locks: &LockManager, guard: LockGuard) -> Result<(), NotReleased> {
    let name = guard.name().clone();
    released(app, locks, &name, guard.release().await).await
}

/// Finishes a release, and says so if it was not confirmed.
pub(crate) async fn released(
    app: &App,
    locks: &LockManager,
    name: &LockName,
    released: Result<(), NotReleased>,
) -> Result<(), NotReleased> {
    if let Err(NotReleased::Unknown { within, error }) = &released {
        app.output.say(&format!(
            "the release of {name:?} was not confirmed: {}; the lock is free after {} at the latest",
            error.message(),
            text::duration(*within)
        ));
    }
    close(app, locks).await;
    released
}
