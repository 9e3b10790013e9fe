//! One Redis server.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::Signal;
use tempfile::TempDir;

use super::setup::{Kind, RedisSetup};
use super::wire::{Reply, Wire};
use crate::servers::patience::look_for;
use crate::servers::ports::free_port_with;
use crate::servers::process::{LOG, ServerProcess, bounded, installed, server_folder};

/// The Debian package of everything here.
const PACKAGE: &str = "redis-server";
/// Its configuration, in its folder. A file, and not arguments, so that what is rewritten at run
/// time, as when a replica is promoted, is still so after a restart.
const CONFIGURATION: &str = "redis.conf";
/// How long a server may take until it answers.
const STARTS_WITHIN: Duration = Duration::from_secs(10);
/// How long a command of `redis-cli` may take.
const CLI_ENDS_WITHIN: Duration = Duration::from_secs(10);
/// How many ports are tried if others are faster.
const PORTS_TRIED: u32 = 20;
/// How far the port at which a node of a cluster talks to the others is from that of its clients.
const BUS_OFFSET: u16 = 10_000;

/// A `redis-server` of our own on a free port, killed when it is dropped.
///
/// All of it can be called from any thread, and all of it blocks that thread for a bounded time.
#[derive(Debug)]
pub struct RedisServer {
    // Dropped before its folder is removed.
    process: Mutex<ServerProcess>,
    setup: RedisSetup,
    port: u16,
    folder: TempDir,
}

impl RedisServer {
    /// Starts a server that keeps nothing, and waits until it answers.
    ///
    /// # Panics
    /// If it does not, with what it said; if `redis-server` is not installed.
    #[must_use]
    pub fn start() -> Self {
        RedisSetup::new().start()
    }

    /// A server with further arguments, as in `["--maxmemory", "2mb"]`, yet to be started.
    #[must_use]
    pub fn with(args: &[&str]) -> RedisSetup {
        RedisSetup::new().with(args)
    }

    pub(super) fn start_as(setup: RedisSetup) -> Self {
        let mut last_words = String::new();
        for _ in 0..PORTS_TRIED {
            let port = free_port_with(if setup.kind == Kind::Node { BUS_OFFSET } else { 0 });
            let folder = server_folder();
            match launch(&setup, port, folder.path()) {
                Ok(process) => return Self { process: process.into(), setup, port, folder },
                Err(failed) if failed.port_is_taken() => last_words = failed.last_words,
                Err(failed) => panic!("redis-server {}: {}", failed.why, failed.last_words),
            }
        }
        panic!("redis-server found no free port: {last_words}");
    }

    /// The port at which it listens, on 127.0.0.1. It stays the same through restarts.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where a client finds it, with its password.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_at(self.port)
    }

    /// The same, but by way of another port: that of a proxy.
    #[must_use]
    pub fn url_at(&self, port: u16) -> String {
        match &self.setup.password {
            Some(password) => format!("redis://:{password}@127.0.0.1:{port}/"),
            None => format!("redis://127.0.0.1:{port}/"),
        }
    }

    /// The folder with its data.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Kills it with SIGKILL, and waits for its end. Nothing happens if it was killed before.
    pub fn kill(&self) {
        self.process.lock().kill();
    }

    /// Stops it with SIGSTOP: connections are open, and nobody answers.
    ///
    /// # Panics
    /// If the system does not let us.
    pub fn stop(&self) {
        self.process.lock().signal(Signal::STOP).expect("a process of ours can be stopped");
    }

    /// Lets it go on, with SIGCONT.
    ///
    /// # Panics
    /// If the system does not let us.
    pub fn cont(&self) {
        self.process.lock().signal(Signal::CONT).expect("a process of ours can go on");
    }

    /// Kills it if it runs, and starts it again at the same port with what it wrote to its disk:
    /// nothing, unless it [was told to](RedisSetup::append_only).
    ///
    /// # Panics
    /// If it does not start.
    pub fn restart(&self) {
        self.restart_after(|_| Ok(()));
    }

    /// Kills it if it runs, and starts it again at the same port without any data.
    ///
    /// # Panics
    /// If it does not start.
    pub fn restart_empty(&self) {
        self.restart_after(empty);
    }

    fn restart_after(&self, prepare: impl FnOnce(&Path) -> io::Result<()>) {
        let mut process = self.process.lock();
        process.kill();
        prepare(self.folder.path()).expect("the folder of a server can be emptied");
        let started =
            look_for(STARTS_WITHIN, || match launch(&self.setup, self.port, self.folder.path()) {
                Ok(process) => Some(process),
                Err(failed) if failed.port_is_taken() => None,
                Err(failed) => panic!("redis-server {}: {}", failed.why, failed.last_words),
            });
        *process = started.unwrap_or_else(|| panic!("somebody took port {}", self.port));
    }

    /// Whether its process runs, or is stopped.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.process.lock().ended().is_none()
    }

    /// What it said of late.
    #[must_use]
    pub fn last_words(&self) -> String {
        self.process.lock().last_words()
    }

    /// Runs a command with `redis-cli`, and answers what that prints, without the last line break.
    /// An error of the server is an answer as well.
    ///
    /// # Panics
    /// If the server cannot be reached, or does not answer; if `redis-cli` is not installed.
    pub fn cli(&self, args: &[&str]) -> String {
        self.try_cli(args).unwrap_or_else(|error| panic!("redis-cli {args:?}: {error}"))
    }

    /// Runs a command with `redis-cli`, as [`RedisServer::cli`] does.
    ///
    /// # Errors
    /// When the server cannot be reached; `TimedOut` if it does not answer.
    ///
    /// # Panics
    /// If `redis-cli` is not installed.
    pub fn try_cli(&self, args: &[&str]) -> io::Result<String> {
        let mut command = Command::new(installed("redis-cli", PACKAGE));
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]).args(args);
        if let Some(password) = &self.setup.password {
            command.env("REDISCLI_AUTH", password);
        }
        let output = bounded(command, CLI_ENDS_WITHIN)?;
        let said = String::from_utf8_lossy(&output.stdout);
        if output.status.success() {
            return Ok(said.trim_end_matches('\n').to_owned());
        }
        Err(io::Error::other(format!("{said}{}", String::from_utf8_lossy(&output.stderr))))
    }

    pub(super) fn password(&self) -> Option<&str> {
        self.setup.password.as_deref()
    }

    /// A connection for ourselves.
    fn wire(&self) -> io::Result<Wire> {
        Wire::connect(self.port, self.password())
    }

    /// One command, over a connection for ourselves. An error of the server is an error.
    pub(super) fn call(&self, words: &[&str]) -> io::Result<Reply> {
        match self.wire()?.call(words)? {
            Reply::Error(error) => Err(io::Error::other(format!("{words:?}: {error}"))),
            reply => Ok(reply),
        }
    }
}

/// A server that did not start.
struct Failed {
    why: &'static str,
    last_words: String,
}

impl Failed {
    fn port_is_taken(&self) -> bool {
        self.last_words.contains("Address already in use")
    }
}

/// Starts a server and waits until it answers.
fn launch(setup: &RedisSetup, port: u16, folder: &Path) -> Result<ServerProcess, Failed> {
    // What an earlier one of this folder said would be taken for what this one says.
    let _ = std::fs::remove_file(folder.join(LOG));
    let configuration = folder.join(CONFIGURATION);
    if !configuration.exists() {
        std::fs::write(configuration, setup.file(port)).expect("files can be written");
    }
    let program = installed("redis-server", PACKAGE);
    let mut args = vec![CONFIGURATION.to_owned()];
    if setup.kind == Kind::Sentinel {
        args.push("--sentinel".to_owned());
    }
    let process = ServerProcess::start_in(&program, &args, folder, &setup.environment)
        .unwrap_or_else(|error| panic!("{} cannot be started: {error}", program.display()));
    let answer = look_for(STARTS_WITHIN, || {
        if process.ended().is_some() {
            return Some(Err("ended"));
        }
        is_up(setup, port, process.id()).then_some(Ok(()))
    });
    match answer.unwrap_or(Err("does not answer")) {
        Ok(()) => Ok(process),
        Err(why) => Err(Failed { why, last_words: process.last_words() }),
    }
}

/// Whether this very process answers: another one may have been faster to take the port.
fn is_up(setup: &RedisSetup, port: u16, pid: u32) -> bool {
    let ask = || -> io::Result<bool> {
        let mut wire = Wire::connect(port, setup.password.as_deref())?;
        match wire.call(&["PING"])? {
            Reply::Error(error) if error.starts_with("LOADING") => return Ok(false),
            // Its arguments set a password that we do not know.
            Reply::Error(error) if error.starts_with("NOAUTH") => return Ok(true),
            _ => {}
        }
        let info = wire.call(&["INFO", "server"])?;
        let id = format!("process_id:{pid}");
        Ok(info.text().is_some_and(|info| info.lines().any(|line| line == id)))
    };
    ask().unwrap_or(false)
}

fn empty(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path: PathBuf = entry?.path();
        if path.is_dir() {
            std::fs::remove_dir_all(path)?;
        } else {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}
