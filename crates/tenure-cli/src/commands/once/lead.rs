//! The part of whoever runs the command.

use std::cell::{Cell, RefCell};
use std::ffi::OsString;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tenure::recipes::once::Attempt;
use tenure::{Actor, LockManager, LockWatch};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::capture::{Bytes, Captured, Pipe, Stream};
use crate::app::App;
use crate::args::{self, OnFailure};
use crate::child::{Child, Exit, Signals, SpawnError};
use crate::commands::run;
use crate::output::text;

/// How long a command has between SIGTERM and SIGKILL, if nothing else is said.
const KILL_AFTER: Duration = Duration::from_secs(5);

/// A command that ran to its end: what is kept, and replayed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Ran {
    pub(super) exit_code: u8,
    pub(super) stdout: Bytes,
    pub(super) stderr: Bytes,
}

/// Why there is no result.
#[derive(Debug)]
pub(super) enum Failed {
    /// It ended, and that counts as a failure. What it printed is in [`Seen`].
    Ended(Exit),
    /// It could not be started.
    NotRun(SpawnError),
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failed::Ended(Exit::Code(code)) => write!(f, "the command ended with exit code {code}"),
            Failed::Ended(Exit::Signal(number)) => {
                write!(f, "the command was ended by signal {number}")
            }
            Failed::NotRun(error) => error.fmt(f),
        }
    }
}

/// What is seen of a command from outside of the call that runs it.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    runs: Rc<Cell<bool>>,
    captured: Rc<RefCell<Captured>>,
}

impl Seen {
    /// Whether a command of ours is alive.
    pub(super) fn runs(&self) -> bool {
        self.runs.get()
    }

    /// Prints what our own command printed, unless that was printed as it came.
    pub(super) fn print(&self) -> std::io::Result<()> {
        let captured = self.captured.borrow();
        if captured.passes_through {
            return Ok(());
        }
        Stream::Stderr.print(&captured.stderr)?;
        Stream::Stdout.print(&captured.stdout)
    }
}

/// A command under a lease that was lost, to be ended.
pub(super) struct GivenUp {
    running: Running,
    watch: LockWatch,
}

/// A command that runs, with the pipes that it prints into.
struct Running {
    child: Child,
    stdout: Pipe,
    stderr: Pipe,
}

impl Running {
    /// Ends it. Its pipes stay open, or its last words would end it first.
    async fn end(&mut self, grace: impl Future<Output = ()>) {
        let Self { child, stdout, stderr } = self;
        let mut end = std::pin::pin!(child.end(grace));
        let mut nothing = Captured::nothing();
        loop {
            tokio::select! {
                _ = &mut end => return,
                () = stdout.read_ready() => stdout.take_in(&mut nothing),
                () = stderr.read_ready() => stderr.take_in(&mut nothing),
            }
        }
    }
}

/// Runs the command if this call leads.
pub(super) struct Leader<'a> {
    app: &'a App,
    args: &'a args::Once,
    locks: &'a LockManager,
    actor: &'a Actor,
    give_up: UnboundedSender<GivenUp>,
    seen: Seen,
}

impl<'a> Leader<'a> {
    pub(super) fn new(
        app: &'a App,
        args: &'a args::Once,
        locks: &'a LockManager,
        actor: &'a Actor,
        give_up: UnboundedSender<GivenUp>,
    ) -> Self {
        Self { app, args, locks, actor, give_up, seen: Seen::default() }
    }

    pub(super) fn seen(&self) -> Seen {
        self.seen.clone()
    }

    /// Runs the command to its end. Dropped before that, it gives the command up.
    pub(super) async fn lead(self, attempt: Attempt, mut signals: Signals) -> Result<Ran, Failed> {
        let watch = attempt.watch().clone();
        let environment = self.environment(&attempt);
        let (child, stdout, stderr) =
            Child::spawn_captured(&self.args.command, &environment).map_err(Failed::NotRun)?;
        self.seen.runs.set(true);
        let cannot_watch = |e| Failed::NotRun(SpawnError::CannotWatch(e));
        let stdout = Pipe::new(Stream::Stdout, stdout).map_err(cannot_watch)?;
        let stderr = Pipe::new(Stream::Stderr, stderr).map_err(cannot_watch)?;
        let mut held = Held {
            running: Some(Running { child, stdout, stderr }),
            watch,
            seen: &self.seen,
            give_up: &self.give_up,
        };
        let mut captured = Captured::default();
        let exit = held.wait(&mut signals, &mut captured).await;
        let ran = |captured: &Captured, exit_code| Ran {
            exit_code,
            stdout: Bytes(captured.stdout.clone()),
            stderr: Bytes(captured.stderr.clone()),
        };
        let result = match exit {
            Exit::Code(0) => Ok(ran(&captured, 0)),
            Exit::Code(code) if self.args.on_failure == OnFailure::Keep => Ok(ran(&captured, code)),
            exit => Err(Failed::Ended(exit)),
        };
        *self.seen.captured.borrow_mut() = captured;
        result
    }

    /// What the command is told. Never what could release the lease.
    fn environment(&self, attempt: &Attempt) -> Vec<(String, OsString)> {
        tracing::debug!(quiet = self.app.output.quiet, attempt = attempt.number(), "leading");
        let mut environment = run::environment(attempt.watch(), self.locks, self.actor);
        environment.push(("TENURE_ATTEMPT".to_owned(), attempt.number().to_string().into()));
        environment
    }
}

/// A command that is given up when this is dropped before its end.
struct Held<'a> {
    running: Option<Running>,
    watch: LockWatch,
    seen: &'a Seen,
    give_up: &'a UnboundedSender<GivenUp>,
}

impl Held<'_> {
    async fn wait(&mut self, signals: &mut Signals, captured: &mut Captured) -> Exit {
        let watch = &self.watch;
        let running = self.running.as_mut().expect("it is ours until it is given up");
        let Running { child, stdout, stderr } = running;
        let exit = loop {
            tokio::select! {
                exit = child.wait(signals, || watch.is_valid()) => break exit,
                () = stdout.read_ready() => stdout.take_in(captured),
                () = stderr.read_ready() => stderr.take_in(captured),
            }
        };
        // What it printed is in the pipes by now; what its own children print later is theirs.
        stdout.drain(captured);
        stderr.drain(captured);
        self.running = None;
        self.seen.runs.set(false);
        exit
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let Some(running) = self.running.take() else { return };
        // Nobody listens only when the whole program ends, and the command with it.
        let _ = self.give_up.send(GivenUp { running, watch: self.watch.clone() });
    }
}

/// Ends commands whose lease was lost, before it can end at the store, until no more can come.
pub(super) async fn end_what_is_given_up(
    app: &App,
    args: &args::Once,
    locks: &LockManager,
    given_up: &mut UnboundedReceiver<GivenUp>,
    seen: &Seen,
) {
    while let Some(GivenUp { mut running, watch }) = given_up.recv().await {
        let (_, end) = watch.deadlines();
        let now = locks.clock().now();
        let kill_after = args.kill_after.or(app.config.kill_after).unwrap_or(KILL_AFTER);
        let kill_at = now.plus(kill_after).min(end);
        app.output.say(&format!(
            "lost the lease of {:?}; ending the command (SIGTERM now, SIGKILL in {})",
            args.key,
            text::duration(kill_at.since(now))
        ));
        let grace = async {
            if now < kill_at {
                locks.sleep_until(kill_at).await;
            }
        };
        running.end(grace).await;
        seen.runs.set(false);
    }
}
