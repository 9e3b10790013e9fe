//! A server process that can be killed, stopped and started again.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::account::Account;
use super::warden::Warden;

/// Where a server writes what it says, in its folder.
pub(super) const LOG: &str = "said.log";

/// A temporary folder of a server, removed when it is dropped, and at the latest when this process
/// ends, in whatever way.
///
/// # Panics
/// If there can be none.
#[must_use]
pub fn server_folder() -> TempDir {
    TempDir::new_in(Warden::get().folder()).expect("temporary folders can be made")
}

/// The path of a program.
///
/// # Panics
/// If it is not installed, with the name of the Debian package that it is in.
#[must_use]
pub fn installed(program: &str, debian_package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/bin"));
    std::env::split_paths(&path)
        .chain(["/usr/bin", "/usr/local/bin", "/usr/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
        .unwrap_or_else(|| {
            panic!("{program} is not installed: apt-get install {debian_package}");
        })
}

/// A server process: killed with SIGKILL when it is dropped, and when this process ends.
#[derive(Debug)]
pub struct ServerProcess {
    folder: PathBuf,
    child: Mutex<Child>,
}

impl ServerProcess {
    /// Starts a server in its folder, where it finds its files and writes its log.
    ///
    /// # Errors
    /// When there is no such program, or it cannot be started.
    pub fn start(program: &Path, args: &[String], folder: &Path) -> io::Result<Self> {
        Self::start_as(None, program, args, folder, &[])
    }

    /// The same, with further variables of its environment.
    ///
    /// # Errors
    /// When there is no such program, or it cannot be started.
    pub fn start_in(
        program: &Path,
        args: &[String],
        folder: &Path,
        environment: &[(String, String)],
    ) -> io::Result<Self> {
        Self::start_as(None, program, args, folder, environment)
    }

    /// The same, as somebody else.
    pub(super) fn start_as(
        account: Option<Account>,
        program: &Path,
        args: &[String],
        folder: &Path,
        environment: &[(String, String)],
    ) -> io::Result<Self> {
        let log = File::options().create(true).append(true).open(folder.join(LOG))?;
        let mut command = Command::new(program);
        command
            .args(args)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .current_dir(folder)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        if let Some(account) = account {
            account.runs(&mut command);
        }
        let child = command.spawn()?;
        Warden::get().born(child.id());
        Ok(Self { folder: folder.to_owned(), child: Mutex::new(child) })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.lock().id()
    }

    /// How it ended, if it did.
    #[must_use]
    pub fn ended(&self) -> Option<ExitStatus> {
        reap(&mut self.child.lock()).ok().flatten()
    }

    /// Kills it with SIGKILL and waits for its end. It may have ended.
    pub fn kill(&self) {
        kill(&mut self.child.lock());
    }

    /// Sends it a signal, unless it has ended.
    ///
    /// # Errors
    /// When the system does not let us.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let mut child = self.child.lock();
        if reap(&mut child)?.is_none() {
            kill_process(Pid::from_child(&child), signal)?;
        }
        Ok(())
    }

    /// The end of what it said, or that it said nothing.
    #[must_use]
    pub fn last_words(&self) -> String {
        const LINES: usize = 20;
        let said = std::fs::read(self.folder.join(LOG)).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<&str> = said.lines().collect();
        match lines[lines.len().saturating_sub(LINES)..].join("\n") {
            words if words.is_empty() => "(it said nothing)".to_owned(),
            words => words,
        }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        kill(self.child.get_mut());
    }
}

/// Runs a command to its end, or kills it after that time.
///
/// # Errors
/// When it cannot be run; `TimedOut` if it was killed.
pub(super) fn bounded(mut command: Command, limit: Duration) -> io::Result<Output> {
    let child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let pid = Pid::from_child(&child);
    let (done, end) = mpsc::channel();
    let reader = std::thread::spawn(move || done.send(child.wait_with_output()));
    let output = end.recv_timeout(limit);
    if output.is_err() {
        // It may just have ended, but nobody else starts so many processes in that moment.
        let _ = kill_process(pid, Signal::KILL);
    }
    let _ = reader.join();
    output.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

fn kill(child: &mut Child) {
    // Before it is waited for: from then on its process id may be somebody else's.
    Warden::get().dead(child.id());
    let _ = child.kill();
    let _ = child.wait();
}

fn reap(child: &mut Child) -> io::Result<Option<ExitStatus>> {
    let status = child.try_wait()?;
    if status.is_some() {
        Warden::get().dead(child.id());
    }
    Ok(status)
}
