//! The child process of `tenure run`: started, watched, signalled, ended.
//!
//! The child leads a process group of its own, so that a signal reaches everything it started and
//! nothing else. On a terminal that group is the foreground group for as long as the child runs.
//!
//! The pieces: [`Signals`] first, before the lock; then [`Child::spawn`]; then [`Child::wait`]
//! until the child ends by itself, or [`Child::end`] when the lock is lost.

mod exit;
mod pdeathsig;
mod signals;
mod spawn;
mod terminal;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::task::Poll;

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process_group, waitid,
};

pub(crate) use self::exit::Exit;
pub(crate) use self::signals::Signals;
pub(crate) use self::spawn::SpawnError;

use self::signals::{Event, JobSignals};
use self::terminal::Terminal;

/// A running child process and its process group.
///
/// Dropping it leaves the child running, without the terminal.
#[derive(Debug)]
pub(crate) struct Child {
    /// The child's pid, which is also its group's.
    pid: Pid,
    exit: Option<Exit>,
    job: JobSignals,
    terminal: Terminal,
}

impl Child {
    /// Starts `command` with `env` added to our own environment; stdin, stdout and stderr are ours.
    ///
    /// Call it **on the main thread**, inside a tokio runtime with I/O enabled: on Linux the child
    /// is killed when the *thread* that started it ends, and only the main thread lives as long as
    /// the process. That covers a `tenure` killed by SIGKILL. It does not cover grandchildren, nor a
    /// program that changes its privileges when it starts (set-user-ID, file capabilities): for
    /// those the kernel clears the request.
    ///
    /// # Errors
    /// [`SpawnError`], whose [`code`](SpawnError::code) tells "not found" from "cannot execute".
    pub(crate) fn spawn(
        command: &[OsString],
        env: &[(String, OsString)],
    ) -> Result<Self, SpawnError> {
        Ok(Self::start(command, env, false)?.0)
    }

    /// As [`spawn`](Self::spawn), with stdout and stderr going into pipes whose ends are given back.
    pub(crate) fn spawn_captured(
        command: &[OsString],
        env: &[(String, OsString)],
    ) -> Result<(Self, OwnedFd, OwnedFd), SpawnError> {
        let (child, pipes) = Self::start(command, env, true)?;
        let (stdout, stderr) = pipes.expect("both were asked for");
        Ok((child, stdout, stderr))
    }

    fn start(
        command: &[OsString],
        env: &[(String, OsString)],
        capture: bool,
    ) -> Result<(Self, spawn::Pipes), SpawnError> {
        // Before the child, so that no news of it is missed.
        let job = JobSignals::new().map_err(SpawnError::CannotWatch)?;
        let mut terminal = Terminal::new();
        let (pid, pipes) = spawn::spawn(command, env, &mut terminal, capture)?;
        Ok((Self { pid, exit: None, job, terminal }, pipes))
    }

    /// Waits until the child ends by itself, and passes `signals` on to its group meanwhile.
    ///
    /// When the child is stopped by the terminal (Ctrl-Z, or reading it in the background) we stop
    /// as well, so that the shell sees one job, and the child goes on after we were continued. As
    /// no lease is renewed while we are stopped, `may_resume` is asked first: with `false` the child
    /// stays stopped, for a holder whose lease has ended meanwhile must not run on; [`end`] it then.
    /// A child that somebody else froze with SIGSTOP stays so, and we stay awake.
    ///
    /// Other members of the group, if any are left when the child ends, are left alone.
    ///
    /// # Cancel safety
    /// Cancel safe: call it again to go on waiting. After the end it returns the same answer.
    ///
    /// [`end`]: Self::end
    pub(crate) async fn wait(
        &mut self,
        signals: &mut Signals,
        mut may_resume: impl FnMut() -> bool,
    ) -> Exit {
        loop {
            if let Some(exit) = self.look(&mut may_resume) {
                return exit;
            }
            match poll_fn(|cx| self.job.poll_event(signals, cx)).await {
                Event::ChildChanged => {}
                Event::Continued => self.resume(&mut may_resume),
                Event::Suspend => self.tell(Signal::TSTP),
                Event::Forward(signal) => self.tell(signal),
            }
        }
    }

    /// Ends the child and its group: SIGTERM now, SIGKILL when `grace` resolves.
    ///
    /// Stopped processes are continued, so that they can end; if `grace` has resolved already they
    /// are killed as they are and never run again. As soon as the child is dead the rest of its
    /// group is killed. Returns when the child is reaped; for a child that had already been reaped
    /// at once, without touching the group.
    ///
    /// The clock is the caller's. Processes that we may not signal (they became another user) are
    /// waited for without end.
    ///
    /// # Cancel safety
    /// SIGTERM has been sent, SIGKILL may not have been. Call it again to go on; that sends
    /// SIGTERM again.
    pub(crate) async fn end(&mut self, grace: impl Future<Output = ()>) -> Exit {
        let mut grace = pin!(grace);
        let mut graceful = false;
        let mut killed = false;
        poll_fn(|cx| {
            if !killed && grace.as_mut().poll(cx).is_ready() {
                killed = true;
                self.tell(Signal::KILL);
            }
            if !killed && !graceful {
                graceful = true;
                self.terminate();
            }
            // Polled until it is pending, so that the next change wakes us.
            while self.job.poll_child(cx).is_ready() {}
            self.reap_with_group().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Sends `signal` to every process of the child's group.
    ///
    /// Does nothing once the child has been reaped: its number may by then be another group's.
    ///
    /// # Errors
    /// The operating system's, if no process of the group may be signalled.
    pub(crate) fn signal_group(&self, signal: Signal) -> io::Result<()> {
        if self.exit.is_some() {
            return Ok(());
        }
        Ok(kill_process_group(self.pid, signal)?)
    }

    /// Signals a group that may not let us: one that became another user's is left to itself.
    fn tell(&self, signal: Signal) {
        let _ = self.signal_group(signal);
    }

    /// Takes in what happened to the child since the last look.
    fn look(&mut self, may_resume: &mut impl FnMut() -> bool) -> Option<Exit> {
        while self.exit.is_none() {
            let status = self.status(WaitIdOptions::EXITED | WaitIdOptions::STOPPED)?;
            match status.stopping_signal() {
                Some(signal) => self.stopped(signal, may_resume),
                None => self.ended(&status),
            }
        }
        self.exit
    }

    /// Does what a shell and the terminal expect when the child was stopped by `signal`.
    fn stopped(&mut self, signal: i32, may_resume: &mut impl FnMut() -> bool) {
        let wants_terminal = signal == Signal::TTIN.as_raw() || signal == Signal::TTOU.as_raw();
        if wants_terminal && self.terminal.lend() {
            self.tell(Signal::CONT);
            return;
        }
        if signal == Signal::STOP.as_raw() && !self.terminal.is_lent() {
            return;
        }
        self.terminal.reclaim();
        pdeathsig::stop_own_group();
        // Continued in the background, or never stopped for lack of a shell, we cannot give it the
        // terminal: it would only stop again. Then it waits until we are continued.
        if !wants_terminal || self.terminal.is_ours() {
            self.resume(may_resume);
        }
    }

    fn resume(&mut self, may_resume: &mut impl FnMut() -> bool) {
        if !may_resume() {
            return;
        }
        self.terminal.lend_again();
        self.tell(Signal::CONT);
    }

    fn terminate(&mut self) {
        // A full-screen program that is told to end wants to tidy up the screen.
        self.terminal.lend_again();
        self.tell(Signal::TERM);
        // After TERM: what is stopped wakes up to it and to nothing else.
        self.tell(Signal::CONT);
    }

    /// Kills what is left of the group of a child that is dead, then reaps the child.
    ///
    /// In this order: while the child is not reaped its number cannot be another group's.
    fn reap_with_group(&mut self) -> Option<Exit> {
        if self.exit.is_none() {
            let status = self.status(WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)?;
            self.tell(Signal::KILL);
            self.status(WaitIdOptions::EXITED);
            self.ended(&status);
        }
        self.exit
    }

    fn ended(&mut self, status: &WaitIdStatus) {
        let exit = Exit::from_status(status);
        self.exit = Some(exit);
        self.terminal.close(matches!(exit, Exit::Signal(_)));
    }

    fn status(&self, what: WaitIdOptions) -> Option<WaitIdStatus> {
        waitid(WaitId::Pid(self.pid), what | WaitIdOptions::NOHANG)
            .expect("the child is ours and nobody else reaps it")
    }
}
