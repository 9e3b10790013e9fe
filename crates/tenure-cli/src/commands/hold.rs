//! What `run` and `acquire` have in common: from the options to a held lock.

use std::time::Duration;

use rustix::process::Signal;
use tenure::{
    Actor, Conflict, ErrorKind, LockGuard, LockManager, LockRequest, RetryConfig, Seats, Ttl,
};

use crate::app::App;
use crate::args::Hold;
use crate::child::Signals;
use crate::failure::{Failure, Outcome, code};
use crate::output::{Spinner, text};

/// How long what was not finished at the store may keep this process from ending.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// After so much silence of the store, somebody who looks on is told that we are at it.
const SILENCE: Duration = Duration::from_millis(50);

/// How an acquire ended, if it did not fail.
pub(crate) enum Acquired {
    Held(LockGuard),
    /// The signal came first; nothing is held.
    Signalled(Signal),
}

impl Hold {
    /// Whom the lock is to belong to.
    pub(crate) fn owner<'a>(&'a self, app: &'a App) -> Option<&'a str> {
        self.owner.as_deref().or(app.config.owner.as_deref())
    }

    /// What is left to check once all options are known; before any store is asked.
    pub(crate) fn seats(&self) -> Outcome<Seats> {
        if self.on_conflict == Conflict::Fail && self.wait.is_some() {
            return Err(Failure::usage("--on-conflict fail does not wait, and --wait does")
                .lock(self.name.name.as_str())
                .help("leave one of them out"));
        }
        match self.permits {
            Some(of) => Seats::permits(self.take.unwrap_or(1), of)
                .map_err(|e| Failure::usage(format!("--take: {}", e.message()))),
            None if self.shared => Ok(Seats::SHARED),
            None => Ok(Seats::All),
        }
    }

    fn wait(&self, app: &App) -> Option<Duration> {
        if self.no_wait {
            return Some(Duration::ZERO);
        }
        self.wait.or(app.config.wait)
    }

    fn ttl(&self, app: &App) -> Duration {
        self.ttl.or(app.config.ttl).unwrap_or(Ttl::DEFAULT.get())
    }

    fn request(
        &self,
        app: &App,
        locks: &LockManager,
        seats: Seats,
        actor: Option<&Actor>,
    ) -> LockRequest {
        let mut request = locks
            .lock(&self.name.name)
            .seats(seats)
            .ttl(self.ttl(app))
            .priority(self.priority)
            .on_conflict(self.on_conflict);
        if let Some(wait) = self.wait(app) {
            request = request.wait_timeout(wait);
        }
        if let Some(actor) = actor {
            request = request.actor(actor);
        }
        if let Some(metadata) = &self.metadata {
            request = request.metadata(metadata.clone());
        }
        if let Some(retries) = self.retries {
            // The library counts the first attempt, too.
            request =
                request.retry(RetryConfig { max_attempts: retries + 1, ..RetryConfig::default() });
        }
        request
    }

    /// Acquires the lock, and tells somebody who looks on how the wait is going.
    ///
    /// When a signal comes first nothing is left at the store, as far as it answers.
    pub(crate) async fn acquire(
        &self,
        app: &App,
        locks: &LockManager,
        seats: Seats,
        actor: Option<&Actor>,
        renew: bool,
        signals: &mut Signals,
    ) -> Outcome<Acquired> {
        let mut request = self.request(app, locks, seats, actor).auto_renew(renew);
        let spinner = Spinner::for_somebody(app.output, &self.name.name, locks.clock());
        if let Some(spinner) = &spinner {
            let spinner = spinner.clone();
            request = request.on_wait(move |holders, ahead| spinner.waits(holders, ahead));
        }
        let silence = async {
            if let Some(spinner) = &spinner {
                locks.sleep_until(locks.clock().now().plus(SILENCE)).await;
                spinner.asks();
            }
            std::future::pending::<()>().await;
        };
        let ended = tokio::select! {
            biased;
            answer = request.acquire() => Ok(answer),
            signal = signals.next() => Err(signal),
            () = silence => unreachable!("silence is for ever"),
        };
        if let Some(spinner) = spinner {
            spinner.end();
        }
        match ended {
            Ok(Ok(guard)) => Ok(Acquired::Held(guard)),
            Ok(Err(error)) => {
                let kind = error.kind();
                let mut failure: Box<Failure> = error.into();
                if kind.is_not_acquired() || kind == ErrorKind::Deadlock {
                    failure.code = self.not_acquired(app);
                }
                close(app, locks).await;
                Err(failure)
            }
            Err(signal) => {
                close(app, locks).await;
                Ok(Acquired::Signalled(signal))
            }
        }
    }

    fn not_acquired(&self, app: &App) -> u8 {
        let chosen = self.conflict_exit_code.or(app.config.conflict_exit_code);
        chosen.unwrap_or(code::NOT_ACQUIRED)
    }
}

/// Finishes what is under way at the store, and says if that was not to be had.
pub(crate) async fn close(app: &App, locks: &LockManager) {
    if let Err(error) = locks.close(CLOSE_TIMEOUT).await {
        let waited = text::duration(CLOSE_TIMEOUT);
        app.output.say(&format!(
            "{} within {waited} (store {}); what is left there ends with its ttl",
            error.message(),
            locks.store()
        ));
    }
}

/// What shells say for a process that ended by this signal.
pub(crate) fn signalled(signal: Signal) -> u8 {
    u8::try_from(signal.as_raw()).unwrap_or_default().saturating_add(128)
}
