//! Starting the child process.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::process::Pid;

use super::pdeathsig::arm;
use super::terminal::Terminal;

/// Why the child could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum SpawnError {
    /// There was no command at all.
    #[error("no command was given")]
    Empty,
    /// There is no such program.
    #[error("cannot run {command:?}: not found")]
    NotFound {
        /// The program that was looked for.
        command: OsString,
        /// What the operating system said.
        source: io::Error,
    },
    /// The program is there but cannot be executed.
    #[error("cannot execute {command:?}")]
    CannotExecute {
        /// The program that was tried.
        command: OsString,
        /// What the operating system said.
        source: io::Error,
    },
    /// This process cannot watch a child, whatever the program.
    #[error("cannot watch a child process")]
    CannotWatch(#[source] io::Error),
}

impl SpawnError {
    /// The exit code that shells use for the same failure: 127, 126; 64 without a command.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Empty => 64,
            Self::NotFound { .. } => 127,
            Self::CannotExecute { .. } | Self::CannotWatch(_) => 126,
        }
    }
}

/// The ends of the pipes that a child's stdout and stderr go into.
pub(super) type Pipes = Option<(OwnedFd, OwnedFd)>;

/// Starts `command` in a group of its own and returns its pid, which is also the group's.
pub(super) fn spawn(
    command: &[OsString],
    env: &[(String, OsString)],
    terminal: &mut Terminal,
    capture: bool,
) -> Result<(Pid, Pipes), SpawnError> {
    let [program, arguments @ ..] = command else {
        return Err(SpawnError::Empty);
    };
    let mut prepared = Command::new(program);
    prepared.args(arguments);
    prepared.envs(env.iter().map(|(name, value)| (name, value)));
    prepared.process_group(0);
    if capture {
        prepared.stdout(Stdio::piped()).stderr(Stdio::piped());
    }
    arm(&mut prepared, terminal.foreground_for_child());
    match prepared.spawn() {
        Ok(mut child) => {
            let pid = Pid::from_child(&child);
            terminal.belongs_to(pid);
            let pipes = child.stdout.take().zip(child.stderr.take());
            Ok((pid, pipes.map(|(stdout, stderr)| (stdout.into(), stderr.into()))))
        }
        Err(source) => {
            // The child took the foreground before it failed.
            terminal.reclaim();
            let command = program.clone();
            Err(match source.kind() {
                io::ErrorKind::NotFound => SpawnError::NotFound { command, source },
                _ => SpawnError::CannotExecute { command, source },
            })
        }
    }
}
