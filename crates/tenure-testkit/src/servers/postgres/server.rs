//! One PostgreSQL server.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::cluster::{self, program};
use super::setup::PostgresSetup;
use crate::servers::account::Account;
use crate::servers::patience::{look_for, until};
use crate::servers::ports::free_port;
use crate::servers::process::{LOG, ServerProcess, bounded, server_folder};

/// Its superuser, and the database that is there from the start.
pub(super) const SUPERUSER: &str = "postgres";
/// How long a server may take until it answers: it may have to recover.
const STARTS_WITHIN: Duration = Duration::from_secs(30);
/// How long killed processes may take to be gone.
const DIES_WITHIN: Duration = Duration::from_secs(10);
/// How long a statement of `psql` may take.
const PSQL_ENDS_WITHIN: Duration = Duration::from_secs(30);
/// How many ports are tried if others are faster.
const PORTS_TRIED: u32 = 20;

/// A `postgres` of our own on a free port, gone when it is dropped.
///
/// All of it can be called from any thread, and all of it blocks that thread for a bounded time.
#[derive(Debug)]
pub struct PostgresServer {
    // Dropped before its folder is removed.
    process: Mutex<ServerProcess>,
    setup: PostgresSetup,
    account: Option<Account>,
    port: u16,
    folder: TempDir,
}

impl PostgresServer {
    /// Starts a server as it comes, and waits until it answers.
    ///
    /// # Panics
    /// If it does not, with what it said; if PostgreSQL is not installed.
    #[must_use]
    pub fn start() -> Self {
        PostgresSetup::new().start()
    }

    pub(super) fn start_as(setup: PostgresSetup) -> Self {
        let account = Account::for_servers();
        let folder = server_folder();
        if let Some(account) = account {
            account.owns(folder.path()).expect("root can give folders away");
        }
        let data = folder.path().join("data");
        cluster::make(&data, account);
        if setup.tls {
            certify(folder.path(), account);
        }
        let rules = "pg_hba.conf";
        std::fs::write(data.join(rules), setup.rules()).expect("files can be written");
        let server = Self::launched(setup, account, folder);
        if let Some(password) = &server.setup.password {
            let password = password.replace('\'', "''");
            server.psql(&format!("alter user {SUPERUSER} password '{password}'"));
        }
        server
    }

    /// Starts a standby of this server that follows it by way of this port: its own, or that of a
    /// proxy. It answers, and takes no writes until it is [promoted](Self::promote).
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn standby_by(&self, port: u16) -> Self {
        let folder = server_folder();
        if let Some(account) = self.account {
            account.owns(folder.path()).expect("root can give folders away");
        }
        let mut backup = Command::new(program("pg_basebackup"));
        backup.args(["--wal-method=stream", "--checkpoint=fast", "--no-sync", "-U", SUPERUSER]);
        backup.arg("-h").arg(self.folder()).args(["-p", &self.port.to_string(), "-D", "data"]);
        cluster::run(backup, folder.path(), self.account);
        let mut signal = Command::new("touch");
        signal.arg("data/standby.signal");
        cluster::run(signal, folder.path(), self.account);
        let source =
            format!("host=127.0.0.1 port={port} user={SUPERUSER} application_name=standby");
        let setup = self.setup.clone().set("primary_conninfo", &source);
        Self::launched(setup, self.account, folder)
    }

    /// Makes a standby take over, and waits until it takes writes.
    ///
    /// # Panics
    /// If it does not.
    pub fn promote(&self) {
        assert_eq!(self.psql("select pg_promote()"), "t", "{}", self.last_words());
    }

    fn launched(setup: PostgresSetup, account: Option<Account>, folder: TempDir) -> Self {
        let mut last_words = String::new();
        for _ in 0..PORTS_TRIED {
            let port = free_port();
            match launch(&setup, port, folder.path(), account) {
                Ok(process) => {
                    return Self { process: process.into(), setup, account, port, folder };
                }
                Err(words) if port_is_taken(&words) => last_words = words,
                Err(words) => panic!("postgres does not answer: {words}"),
            }
        }
        panic!("postgres found no free port: {last_words}");
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

    /// The same, but by way of another port: that of a proxy or a pooler.
    #[must_use]
    pub fn url_at(&self, port: u16) -> String {
        let password = match &self.setup.password {
            Some(password) => format!(":{password}"),
            None => String::new(),
        };
        format!("postgres://{SUPERUSER}{password}@127.0.0.1:{port}/{SUPERUSER}")
    }

    /// The folder with its socket, its log and its data.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The certificate that it shows, which is that of its own authority, for `localhost`.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("data/server.crt")
    }

    /// Kills all its processes with SIGKILL, and waits for their end. Nothing happens if it was
    /// killed before.
    pub fn kill(&self) {
        kill(&self.process.lock(), self.folder.path());
    }

    /// Stops all its processes with SIGSTOP: connections are open, and nobody answers.
    ///
    /// # Panics
    /// If the system does not let us.
    pub fn stop(&self) {
        let process = self.process.lock();
        process.signal(Signal::STOP).expect("a process of ours can be stopped");
        signal_all(&children(process.id()), Signal::STOP);
    }

    /// Lets them go on, with SIGCONT.
    ///
    /// # Panics
    /// If the system does not let us.
    pub fn cont(&self) {
        let process = self.process.lock();
        signal_all(&children(process.id()), Signal::CONT);
        process.signal(Signal::CONT).expect("a process of ours can go on");
    }

    /// Kills it if it runs, and starts it again at the same port with what is in its folder.
    ///
    /// # Panics
    /// If it does not start.
    pub fn restart(&self) {
        let mut process = self.process.lock();
        kill(&process, self.folder.path());
        let started = look_for(STARTS_WITHIN, || {
            match launch(&self.setup, self.port, self.folder.path(), self.account) {
                Ok(process) => Some(process),
                Err(words) if port_is_taken(&words) => None,
                Err(words) => panic!("postgres does not answer: {words}"),
            }
        });
        *process = started.unwrap_or_else(|| panic!("somebody took port {}", self.port));
    }

    /// The process that starts all others of it.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.lock().id()
    }

    /// Whether it runs, or is stopped.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.process.lock().ended().is_none()
    }

    /// What it said of late.
    #[must_use]
    pub fn last_words(&self) -> String {
        self.process.lock().last_words()
    }

    /// Runs SQL with `psql` as the superuser, and answers the rows, columns between `|`, without
    /// the last line break.
    ///
    /// # Panics
    /// If the server cannot be reached, or refuses.
    pub fn psql(&self, sql: &str) -> String {
        self.try_psql(sql).unwrap_or_else(|error| panic!("psql {sql:?}: {error}"))
    }

    /// Runs SQL, as [`PostgresServer::psql`] does.
    ///
    /// # Errors
    /// When the server cannot be reached, or refuses, with what it said; `TimedOut` if it does not
    /// answer.
    pub fn try_psql(&self, sql: &str) -> io::Result<String> {
        let mut command = self.psql_command(SUPERUSER, SUPERUSER);
        command.args(["-c", sql]);
        let output = bounded(command, PSQL_ENDS_WITHIN)?;
        if output.status.success() {
            let said = String::from_utf8_lossy(&output.stdout);
            return Ok(said.trim_end_matches('\n').to_owned());
        }
        Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
    }

    /// `psql` as a user in a database, by the socket, yet to be told what to run.
    #[must_use]
    pub fn psql_command(&self, user: &str, database: &str) -> Command {
        let mut command = Command::new(program("psql"));
        command.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-h"]);
        command.arg(self.folder.path()).args(["-p", &self.port.to_string()]);
        command.args(["-U", user, "-d", database]).env_remove("PGOPTIONS");
        command
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        kill(self.process.get_mut(), self.folder.path());
    }
}

/// Kills a server with all its processes, and gives back what the system keeps for it.
fn kill(process: &ServerProcess, folder: &Path) {
    if process.ended().is_none() {
        // So that it neither starts others nor is told of their end.
        let _ = process.signal(Signal::STOP);
        let all = children(process.id());
        signal_all(&all, Signal::KILL);
        process.kill();
        until(DIES_WITHIN, "the processes of a killed server are gone", || {
            all.iter().all(|&pid| is_gone(pid))
        });
    }
    let file = folder.join("data/postmaster.pid");
    let Ok(said) = std::fs::read_to_string(&file) else { return };
    if let Some(id) = said.lines().nth(6).and_then(|line| line.split_whitespace().nth(1)) {
        let mut forget = Command::new("ipcrm");
        forget.args(["-m", id]);
        let _ = bounded(forget, DIES_WITHIN);
    }
    let _ = std::fs::remove_file(file);
}

/// Starts a server and waits until it answers; otherwise says its last words.
fn launch(
    setup: &PostgresSetup,
    port: u16,
    folder: &Path,
    account: Option<Account>,
) -> Result<ServerProcess, String> {
    // What an earlier one of this folder said would be taken for what this one says.
    let _ = std::fs::remove_file(folder.join(LOG));
    let data = folder.join("data");
    std::fs::write(data.join("postgresql.conf"), setup.file(port)).expect("files can be written");
    let args = ["-D".to_owned(), data.display().to_string()];
    let process =
        ServerProcess::start_as(account, &program("postgres"), &args, folder, &setup.environment)
            .unwrap_or_else(|error| panic!("postgres cannot be started: {error}"));
    let answer = look_for(STARTS_WITHIN, || {
        if process.ended().is_some() {
            return Some(false);
        }
        is_up(&data, process.id()).then_some(true)
    });
    if answer == Some(true) {
        return Ok(process);
    }
    let words = process.last_words();
    kill(&process, folder);
    Err(words)
}

/// Whether this very process takes connections, as it says in its own file.
fn is_up(data: &Path, pid: u32) -> bool {
    let said = std::fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    let mut lines = said.lines();
    lines.next() == Some(&pid.to_string()) && lines.nth(6).map(str::trim) == Some("ready")
}

fn port_is_taken(last_words: &str) -> bool {
    last_words.contains("Address already in use")
}

/// A certificate for `localhost`, signed by itself.
fn certify(folder: &Path, account: Option<Account>) {
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
    openssl.args(["-nodes", "-days", "2", "-subj", "/CN=localhost"]);
    openssl.args(["-addext", "subjectAltName=DNS:localhost"]);
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    openssl.args(["-keyout", "data/server.key", "-out", "data/server.crt"]);
    cluster::run(openssl, folder, account);
}

/// The processes that a server has started and that live.
fn children(parent: u32) -> Vec<Pid> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|&pid| state_and_parent(pid).is_some_and(|(_, of)| of == parent))
        .filter_map(Pid::from_raw)
        .collect()
}

fn signal_all(processes: &[Pid], signal: Signal) {
    for &pid in processes {
        // It may have ended.
        let _ = kill_process(pid, signal);
    }
}

fn is_gone(pid: Pid) -> bool {
    // Whoever inherited it may take its time to bury it.
    state_and_parent(pid.as_raw_nonzero().get()).is_none_or(|(state, _)| "ZX".contains(state))
}

fn state_and_parent(pid: i32) -> Option<(char, u32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Its name, between brackets, may hold anything.
    let mut words = stat.rsplit_once(')')?.1.split_whitespace();
    Some((words.next()?.chars().next()?, words.next()?.parse().ok()?))
}
