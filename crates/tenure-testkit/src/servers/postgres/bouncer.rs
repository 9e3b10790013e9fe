//! PgBouncer: a pooler that hands the sessions of a server to many clients in turn.

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use super::server::{PostgresServer, SUPERUSER};
use crate::servers::account::Account;
use crate::servers::patience::look_for;
use crate::servers::ports::free_port;
use crate::servers::process::{LOG, ServerProcess, installed, server_folder};

/// How long it may take until it listens.
const STARTS_WITHIN: Duration = Duration::from_secs(10);
/// How many ports are tried if others are faster.
const PORTS_TRIED: u32 = 20;

/// A `pgbouncer` of our own on a free port in front of a server, killed when it is dropped.
#[derive(Debug)]
pub struct PgBouncer {
    // Dropped before its folder is removed.
    _process: ServerProcess,
    _folder: TempDir,
    port: u16,
}

impl PgBouncer {
    /// Starts one that gives a session of the server for one transaction at a time.
    ///
    /// # Panics
    /// If it does not listen, with what it said; if it is not installed.
    #[must_use]
    pub fn by_transaction(server: &PostgresServer) -> Self {
        Self::start(server, &[("pool_mode", "transaction")])
    }

    /// Starts one with settings of `pgbouncer.ini`. Later ones win.
    ///
    /// # Panics
    /// If it does not listen, with what it said; if it is not installed.
    #[must_use]
    pub fn start(server: &PostgresServer, settings: &[(&str, &str)]) -> Self {
        let account = Account::for_servers();
        let folder = server_folder();
        if let Some(account) = account {
            account.owns(folder.path()).expect("root can give folders away");
        }
        let mut last_words = String::new();
        for _ in 0..PORTS_TRIED {
            let port = free_port();
            match launch(&file(server, port, settings), folder.path(), account) {
                Ok(process) => return Self { _process: process, _folder: folder, port },
                Err(words) if words.contains("in use") => last_words = words,
                Err(words) => panic!("pgbouncer does not listen: {words}"),
            }
        }
        panic!("pgbouncer found no free port: {last_words}");
    }

    /// The port at which it listens, on 127.0.0.1: for [`PostgresServer::url_at`].
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

fn file(server: &PostgresServer, port: u16, settings: &[(&str, &str)]) -> String {
    let mut file = format!(
        "[databases]\n* = host={} port={} user={SUPERUSER}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
         listen_port = {port}\nunix_socket_dir =\nauth_type = any\ndefault_pool_size = 4\n",
        server.folder().display(),
        server.port(),
    );
    for (name, value) in settings {
        file.push_str(&format!("{name} = {value}\n"));
    }
    file
}

fn launch(file: &str, folder: &Path, account: Option<Account>) -> Result<ServerProcess, String> {
    let _ = std::fs::remove_file(folder.join(LOG));
    std::fs::write(folder.join("pgbouncer.ini"), file).expect("files can be written");
    let program = installed("pgbouncer", "pgbouncer");
    let process =
        ServerProcess::start_as(account, &program, &["pgbouncer.ini".to_owned()], folder, &[])
            .unwrap_or_else(|error| panic!("{} cannot be started: {error}", program.display()));
    let up = look_for(STARTS_WITHIN, || {
        if process.ended().is_some() {
            return Some(false);
        }
        process.last_words().contains("process up").then_some(true)
    });
    if up == Some(true) { Ok(process) } else { Err(process.last_words()) }
}
