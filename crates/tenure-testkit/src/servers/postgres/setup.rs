//! What a PostgreSQL server is to be like.

use std::fmt::Write;

use super::server::PostgresServer;

/// What a server is to be like, before it is started.
///
/// Unless told otherwise it trusts everybody on this host, and does not wait for its disk: what
/// it has answered survives the death of all its processes, not that of the machine.
#[derive(Debug, Clone, Default)]
pub struct PostgresSetup {
    settings: Vec<(String, String)>,
    pub(super) environment: Vec<(String, String)>,
    pub(super) password: Option<String>,
    pub(super) tls: bool,
}

impl PostgresSetup {
    /// A server as it comes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A setting of `postgresql.conf`, as in `("max_locks_per_transaction", "256")`. Later ones
    /// win.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Waits for the disk: what is answered survives the death of the machine.
    #[must_use]
    pub fn durable(self) -> Self {
        self.set("fsync", "on")
    }

    /// The password of the user `postgres`, without which nobody gets in by TCP.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// Speaks TLS, with [a certificate of its own](PostgresServer::certificate) for `localhost`.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Its configuration.
    pub(super) fn file(&self, port: u16) -> String {
        let port = port.to_string();
        let mut settings = vec![
            ("listen_addresses", "127.0.0.1"),
            ("port", &port),
            ("unix_socket_directories", ".."),
            ("fsync", "off"),
            // Files in its folder, which is removed, whoever kills it.
            ("dynamic_shared_memory_type", "mmap"),
            ("shared_buffers", "16MB"),
            ("autovacuum", "off"),
            ("lc_messages", "C"),
        ];
        if self.tls {
            settings.push(("ssl", "on"));
        }
        settings.extend(self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let mut file = String::new();
        for (name, value) in settings {
            let _ = writeln!(file, "{name} = '{}'", value.replace('\'', "''"));
        }
        file
    }

    /// Who may come in how.
    pub(super) fn rules(&self) -> String {
        let how = if self.password.is_some() { "scram-sha-256" } else { "trust" };
        let host = if self.tls { "hostssl" } else { "host" };
        // Standbys of ours come in by the socket at first, and by TCP or a proxy from then on.
        format!(
            "local all all trust\n{host} all all 127.0.0.1/32 {how}\n\
             local replication all trust\nhost replication all 127.0.0.1/32 trust\n"
        )
    }

    /// Starts it, and waits until it answers.
    ///
    /// # Panics
    /// If it does not, with what it said; if PostgreSQL is not installed.
    #[must_use]
    pub fn start(self) -> PostgresServer {
        PostgresServer::start_as(self)
    }
}
