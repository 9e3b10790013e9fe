//! `tenure elect`: a command runs only while this process leads, and again when it leads again.

use std::ffi::OsString;

use serde::Serialize;
use tenure::recipes::Election;
use tenure::{
    Actor, Conflict, Error, ErrorKind, Fence, LockManager, LossReason, NotReleased, RetryConfig,
    Seats,
};

use super::hold::{Acquired, close, signalled};
use super::run::{Ended, kill_after, released, spawn, supervise};
use crate::app::App;
use crate::args::{Elect, Hold};
use crate::child::Signals;
use crate::failure::{Failure, Outcome, code};

/// What `elect --json` prints at the end.
#[derive(Serialize)]
struct Report<'a> {
    name: &'a str,
    store: &'a str,
    owner: &'a str,
    /// How often this process led.
    terms: u64,
    /// The last term.
    fence: Fence,
    command: Ended,
    /// `released`, `lost` or `unknown`.
    release: &'static str,
    lost: Option<LossReason>,
    exit_code: u8,
}

impl Elect {
    /// How a term is acquired; what is proclaimed in it, and what is run.
    fn into_parts(self) -> (Hold, Option<String>, Vec<OsString>) {
        let hold = Hold {
            name: self.name,
            no_wait: self.no_wait,
            wait: self.wait,
            shared: false,
            permits: None,
            take: None,
            ttl: self.ttl,
            priority: self.priority,
            owner: self.owner,
            metadata: None,
            on_conflict: Conflict::Wait,
            retries: None,
            conflict_exit_code: self.conflict_exit_code,
        };
        (hold, self.proclaim, self.command)
    }
}

pub(crate) async fn elect(app: &App, args: Elect) -> Outcome {
    let kill_after = kill_after(app, args.kill_after);
    let (hold, proclaim, command) = args.into_parts();
    let locks = app.open(hold.name.name.as_str(), hold.owner(app))?;
    let name = hold.name.name.clone();
    let election = Election::new(&locks, &name)?;
    if proclaim.is_some() {
        election.can_proclaim()?;
    }
    let mut signals = Signals::new()
        .map_err(|e| Failure::new(code::OS, "system", "signals cannot be caught").cause(e))?;
    // A store that is not there to begin with is a mistake. One that goes away later comes back.
    let health = locks.health().await;
    if let Some(error) = health.error.filter(|_| !health.up) {
        return Err(Error::new(ErrorKind::Unreachable, error).with_store(&locks.store()).into());
    }
    let actor = Actor::from_environment().unwrap_or_else(Actor::unique);
    let mut terms = 0;
    loop {
        let guard = match campaign(app, &hold, &locks, &actor, &mut signals).await? {
            Acquired::Held(guard) => guard,
            Acquired::Signalled(signal) => return Ok(signalled(signal)),
        };
        let leadership = election.lead(guard)?;
        terms += 1;
        let (fence, owner) = (leadership.term(), leadership.owner().label.clone());
        if let Some(value) = &proclaim
            && let Err(error) = leadership.proclaim(value.as_str()).await
        {
            if !error.kind().is_transient() && error.kind() != ErrorKind::Lost {
                let _ = released(app, &locks, &name, leadership.resign().await).await;
                return Err(error.into());
            }
            app.output.say(&format!("term {fence} of {name:?} was not proclaimed: {error}"));
        }
        let mut child = match spawn(&command, &leadership, &locks, &actor) {
            Ok(child) => child,
            Err(failure) => {
                let _ = released(app, &locks, &name, leadership.resign().await).await;
                return Err(failure);
            }
        };
        let (exit, lost) =
            supervise(app, kill_after, &locks, &leadership, &mut child, &mut signals).await;
        if lost.is_some() {
            // The command has been ended. It begins anew with the next term.
            continue;
        }
        let release = leadership.resign().await;
        let (release, lost) = match released(app, &locks, &name, release).await {
            Ok(()) => ("released", None),
            Err(NotReleased::AlreadyLost(reason)) => {
                app.output.say(&format!("{name:?} was lost while the command ran: {reason}"));
                ("lost", Some(reason))
            }
            Err(_) => ("unknown", None),
        };
        let exit_code = if lost.is_some() { code::LOST } else { exit.code() };
        if app.output.json {
            let report = Report {
                name: name.as_str(),
                store: &locks.store(),
                owner: &owner,
                terms,
                fence,
                command: exit.into(),
                release,
                lost,
                exit_code,
            };
            app.output.object("elect", &report)?;
        }
        return Ok(exit_code);
    }
}

/// Campaigns until it leads, also past times without a store.
async fn campaign(
    app: &App,
    hold: &Hold,
    locks: &LockManager,
    actor: &Actor,
    signals: &mut Signals,
) -> Outcome<Acquired> {
    let pauses = RetryConfig::default();
    let mut failures = 0;
    loop {
        let failure = match hold.acquire(app, locks, Seats::All, Some(actor), true, signals).await {
            Err(failure) if failure.is_outage() => failure,
            ended => return ended,
        };
        failures += 1;
        let pause = pauses.delay(failures);
        app.output.say(&format!("{}; campaigning again", failure.message));
        let again = locks.sleep_until(locks.clock().now().plus(pause));
        tokio::select! {
            biased;
            signal = signals.next() => {
                close(app, locks).await;
                return Ok(Acquired::Signalled(signal));
            }
            () = again => {}
        }
    }
}
