//! Lending the terminal to the child's group, and taking it back.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, getpgrp, test_kill_process_group};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr, tcsetpgrp};

use super::pdeathsig::{Foreground, ignoring};
use super::signals::caught;

/// The controlling terminal, if there is one, and to whom it belongs.
///
/// On drop the terminal is taken back.
#[derive(Debug)]
pub(super) struct Terminal {
    tty: Option<OwnedFd>,
    modes: Option<Termios>,
    own: Pid,
    child: Option<Pid>,
    /// Whether the child is to have the terminal whenever we are in the foreground.
    lends: bool,
}

impl Terminal {
    /// Looks at stdin; decides whether a child is to start in the foreground.
    ///
    /// It is if we are, unless stdout is a pipe: then we are probably part of a pipeline whose other
    /// members (a pager) need the foreground, and the child gets it when it first asks.
    pub(super) fn new() -> Self {
        let mut terminal =
            Self { tty: None, modes: None, own: getpgrp(), child: None, lends: false };
        let stdin = io::stdin();
        // Fails unless stdin is our controlling terminal.
        let Ok(foreground) = tcgetpgrp(&stdin) else {
            return terminal;
        };
        terminal.tty = stdin.as_fd().try_clone_to_owned().ok();
        if foreground == terminal.own && !stdout_is_pipe() {
            terminal.lends = true;
            terminal.keep_modes();
        }
        terminal
    }

    /// What a child needs to start in the foreground, if it is to.
    pub(super) fn foreground_for_child(&self) -> Option<Foreground> {
        let tty = self.tty.as_ref().filter(|_| self.lends)?;
        Some(Foreground { tty: tty.as_raw_fd(), caught: caught() })
    }

    /// Names the group that the terminal is lent to.
    pub(super) fn belongs_to(&mut self, child: Pid) {
        self.child = Some(child);
    }

    /// Whether the child's group is the foreground group.
    pub(super) fn is_lent(&self) -> bool {
        self.child.is_some() && self.foreground() == self.child
    }

    /// Whether our own group is the foreground group.
    pub(super) fn is_ours(&self) -> bool {
        self.foreground() == Some(self.own)
    }

    /// Gives the child's group the terminal if it is ours to give; says whether it was.
    ///
    /// A child that asked once is to have it whenever it is ours.
    pub(super) fn lend(&mut self) -> bool {
        self.lends = true;
        if self.tty.is_none() {
            // A child whose stdin is something else may still talk to the terminal by its name.
            let tty = File::options().read(true).write(true).open("/dev/tty");
            self.tty = tty.ok().map(OwnedFd::from);
        }
        let Some(child) = self.child.filter(|_| self.is_ours()) else {
            return false;
        };
        self.keep_modes();
        self.give(child)
    }

    /// Gives the terminal again to a child that had it or asked for it before.
    pub(super) fn lend_again(&mut self) {
        if self.lends {
            self.lend();
        }
    }

    /// Takes the terminal back from the child's group, or from one that is no more.
    ///
    /// Anybody else who has it, has it rightly: a shell that moved us to the background.
    pub(super) fn reclaim(&self) {
        if !self.lends {
            return;
        }
        let Some(foreground) = self.foreground() else {
            return;
        };
        let is_gone = || test_kill_process_group(foreground) == Err(Errno::SRCH);
        if Some(foreground) == self.child || is_gone() {
            self.give(self.own);
        }
    }

    /// Takes the terminal back for good from a child that has ended.
    ///
    /// One that was killed had no time to undo what it did to the terminal (no echo, raw mode).
    pub(super) fn close(&mut self, was_killed: bool) {
        self.reclaim();
        if was_killed && self.lends {
            self.restore_modes();
        }
        // From now on its number may be another group's.
        self.lends = false;
        self.child = None;
    }

    fn restore_modes(&self) {
        let (Some(tty), Some(modes)) = (&self.tty, &self.modes) else {
            return;
        };
        if self.is_ours() {
            let _ = tcsetattr(tty, OptionalActions::Drain, modes);
        }
    }

    fn keep_modes(&mut self) {
        if let (Some(tty), None) = (&self.tty, &self.modes) {
            self.modes = tcgetattr(tty).ok();
        }
    }

    fn foreground(&self) -> Option<Pid> {
        tcgetpgrp(self.tty.as_ref()?).ok()
    }

    fn give(&self, group: Pid) -> bool {
        let Some(tty) = &self.tty else { return false };
        ignoring(Signal::TTOU, || tcsetpgrp(tty, group)).is_ok()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.reclaim();
    }
}

fn stdout_is_pipe() -> bool {
    fstat(io::stdout()).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo)
}
