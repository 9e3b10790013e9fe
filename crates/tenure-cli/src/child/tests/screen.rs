//! A terminal, and a session on it.

use std::env;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::Command;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::process::Pid;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::super::pdeathsig::with_default_signals;
use super::stage::{DEADLINE, Report, Running, describe, owner_arguments};

/// A pseudo-terminal, seen from the user's side.
pub(super) struct Screen {
    user: File,
    program: OwnedFd,
    text: String,
}

impl Screen {
    pub(super) fn new() -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let user = openpt(flags).unwrap();
        grantpt(&user).unwrap();
        unlockpt(&user).unwrap();
        let name = ptsname(&user, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let program = open(name, flags, Mode::empty()).unwrap();
        Self { user: user.into(), program, text: String::new() }
    }

    /// Starts a script that leads a new session on this terminal; `"$OWNER"` in it starts an owner.
    pub(super) fn session(
        &self,
        shell: &[&str],
        command: &[String],
        mode: &str,
        report: &Report,
    ) -> Running {
        let start = report.folder.path().join("owner");
        let arguments = owner_arguments().join(" ");
        let program = env::current_exe().unwrap();
        // One process, so that `exec` leaves the owner as the job's own member.
        fs::write(&start, format!("#!/bin/sh\nexec {} {arguments}\n", program.display())).unwrap();
        rustix::fs::chmod(&start, Mode::RWXU).unwrap();
        let mut session = Command::new("setsid");
        session.arg("--ctty").args(shell).env("OWNER", start);
        describe(&mut session, command, mode, report);
        session.stdin(self.side()).stdout(self.side()).stderr(self.side());
        // Not a group of its own: a group leader cannot start a session, and would fork.
        Running(with_default_signals(&mut session).spawn().unwrap())
    }

    /// Types on the keyboard.
    pub(super) fn press(&mut self, keys: &str) {
        self.user.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for a text; returns what came before it, and forgets both.
    pub(super) fn shows(&mut self, text: &str) -> String {
        loop {
            if let Some(at) = self.text.find(text) {
                let before = self.text[..at].to_owned();
                self.text.drain(..at + text.len());
                return before;
            }
            self.fill(text);
        }
    }

    /// Whether typed characters are shown.
    pub(super) fn echoes(&self) -> bool {
        let modes = rustix::termios::tcgetattr(&self.program).unwrap();
        modes.local_modes.contains(rustix::termios::LocalModes::ECHO)
    }

    /// The foreground process group.
    pub(super) fn foreground(&self) -> Pid {
        rustix::termios::tcgetpgrp(&self.user).unwrap()
    }

    fn fill(&mut self, text: &str) {
        let mut waited = [PollFd::new(&self.user, PollFlags::IN)];
        let ready = poll(&mut waited, Some(&DEADLINE)).unwrap();
        assert_eq!(ready, 1, "no {text:?} until the deadline, but {:?}", self.text);
        let mut buffer = [0; 1024];
        let count = self.user.read(&mut buffer).unwrap();
        self.text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }

    fn side(&self) -> OwnedFd {
        self.program.try_clone().unwrap()
    }
}
