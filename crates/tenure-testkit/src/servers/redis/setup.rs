//! What a Redis server is to be like.

use super::server::RedisServer;

/// What a server is to be like, before it is started.
///
/// Unless told otherwise it keeps nothing: neither snapshots nor an append-only file.
#[derive(Debug, Clone, Default)]
pub struct RedisSetup {
    pub(super) args: Vec<String>,
    pub(super) password: Option<String>,
    pub(super) kind: Kind,
    pub(super) environment: Vec<(String, String)>,
}

/// What kind of server it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Kind {
    /// One that stands for itself, or has replicas.
    #[default]
    Single,
    /// A node of a cluster.
    Node,
    /// A sentinel: it watches others.
    Sentinel,
}

impl RedisSetup {
    /// A server as it comes, that keeps nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Further arguments of `redis-server`, as in `["--maxmemory", "2mb"]`. Later ones win.
    #[must_use]
    pub fn with(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|&arg| arg.to_owned()));
        self
    }

    /// The password of the default user.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// A further user with its rules, as in `("alice", "on >secret ~lock:* +@all")`.
    #[must_use]
    pub fn user(mut self, name: &str, rules: &str) -> Self {
        self.args.extend(["--user", name].map(str::to_owned));
        self.args.extend(rules.split_whitespace().map(str::to_owned));
        self
    }

    /// Keeps an append-only file, written to the disk with every command. For once a second, add
    /// `with(&["--appendfsync", "everysec"])`.
    #[must_use]
    pub fn append_only(self) -> Self {
        self.with(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// A variable of the server's environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(super) fn kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// The configuration file of such a server.
    pub(super) fn file(&self, port: u16) -> String {
        let port = port.to_string();
        let mut args = vec!["--port", &port, "--bind", "127.0.0.1"];
        if self.kind != Kind::Sentinel {
            args.extend(["--save", "", "--appendonly", "no"]);
        }
        if let Some(password) = &self.password {
            args.extend(["--requirepass", password, "--masterauth", password]);
        }
        args.extend(self.args.iter().map(String::as_str));
        let mut file = String::new();
        for arg in args {
            match arg.strip_prefix("--") {
                Some(option) => file.push_str(&format!("\n{option}")),
                None => file.push_str(&format!(" {}", quoted(arg))),
            }
        }
        file.push('\n');
        file
    }

    /// Starts it, and waits until it answers.
    ///
    /// # Panics
    /// If it does not, with what it said; if `redis-server` is not installed.
    #[must_use]
    pub fn start(self) -> RedisServer {
        RedisServer::start_as(self)
    }
}

fn quoted(arg: &str) -> String {
    format!("\"{}\"", arg.replace('\\', "\\\\").replace('"', "\\\""))
}
