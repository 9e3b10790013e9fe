//! Plain connections to the servers of a deployment, one each: what is asked here is asked of a
//! certain server.

use std::io;
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, RedisError, RedisResult,
    Value,
};

use super::asked::text;
use crate::config::Place;

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// How many times a cluster may say that the lock is elsewhere.
const MOVES: usize = 3;

/// All primaries, and which of them has the lock that is tried.
pub(super) struct Servers {
    all: Vec<Server>,
    home: usize,
}

pub(super) struct Server {
    info: ConnectionInfo,
    connection: MultiplexedConnection,
}

impl Servers {
    /// Connects to the server, to the primary that Sentinels name, or to all primaries of a cluster.
    pub(super) async fn open(place: &Place) -> RedisResult<Self> {
        let all = match place {
            Place::Node(info) => vec![Server::open(info.clone()).await?],
            Place::Sentinel { sentinels, service, node } => {
                let (host, port) = Self::named_by(sentinels, service).await?;
                vec![Server::open(beside(node, host, port)).await?]
            }
            Place::Cluster(nodes) => Self::of_cluster(nodes).await?,
        };
        Ok(Self { all, home: 0 })
    }

    /// Where the first Sentinel that answers says that the primary is.
    async fn named_by(sentinels: &[ConnectionInfo], service: &str) -> RedisResult<(String, u16)> {
        let mut failed = None;
        for sentinel in sentinels {
            let question = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", service];
            let answer = match Server::open(sentinel.clone()).await {
                Ok(mut sentinel) => sentinel.ask(&question).await,
                Err(error) => Err(error),
            };
            match answer.and_then(|answer| Ok(redis::from_redis_value(answer)?)) {
                Ok(address) => return Ok(address),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| io::Error::from(io::ErrorKind::NotFound).into()))
    }

    async fn of_cluster(nodes: &[ConnectionInfo]) -> RedisResult<Vec<Server>> {
        let mut failed = None;
        for node in nodes {
            match Server::open(node.clone()).await {
                Ok(mut server) => return server.primaries().await,
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| io::Error::from(io::ErrorKind::NotFound).into()))
    }

    pub(super) fn all(&mut self) -> &mut [Server] {
        &mut self.all
    }

    /// One answer of whoever has the lock that is tried, or what it said instead.
    pub(super) async fn ask(&mut self, words: &[&str]) -> RedisResult<Value> {
        for _ in 0..MOVES {
            let answer = self.all[self.home].ask(words).await;
            let Some(home) = answer.as_ref().err().and_then(|error| self.elsewhere(error)) else {
                return answer;
            };
            self.home = home;
        }
        self.all[self.home].ask(words).await
    }

    fn elsewhere(&self, error: &RedisError) -> Option<usize> {
        let (address, _) = error.redirect_node()?;
        self.all.iter().position(|server| server.address() == address)
    }

    /// Listens on a channel for a moment, on a connection of its own.
    pub(super) async fn listen(&self, channel: &str) -> RedisResult<()> {
        let mut server = Server::open(self.all[self.home].info.clone()).await?;
        bounded(server.connection.subscribe(channel)).await
    }
}

impl Server {
    async fn open(info: ConnectionInfo) -> RedisResult<Self> {
        let (messages, _) = tokio::sync::mpsc::unbounded_channel();
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE))
            .set_push_sender(messages);
        let client = Client::open(info.clone())?;
        let connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        Ok(Self { info, connection })
    }

    /// `host:port`, or a path.
    pub(super) fn address(&self) -> String {
        self.info.addr().to_string()
    }

    pub(super) async fn ask(&mut self, words: &[&str]) -> RedisResult<Value> {
        let mut cmd = Cmd::new();
        for word in words {
            cmd.arg(word);
        }
        bounded(self.connection.req_packed_command(&cmd)).await?.extract_error()
    }

    /// Connections to all primaries that it knows of.
    async fn primaries(&mut self) -> RedisResult<Vec<Server>> {
        let Value::Array(ranges) = self.ask(&["CLUSTER", "SLOTS"]).await? else {
            return Err(io::Error::from(io::ErrorKind::InvalidData).into());
        };
        let mut addresses: Vec<(String, u16)> = Vec::new();
        for range in ranges {
            let Value::Array(parts) = range else { continue };
            let Some(Value::Array(primary)) = parts.get(2) else { continue };
            let port = primary.get(1).and_then(text).and_then(|port| port.parse().ok());
            let Some(port) = port else { continue };
            // It may not know how it is called.
            let host = primary.first().and_then(text).filter(|host| !host.is_empty());
            let address = (host.unwrap_or_else(|| self.host()), port);
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        let mut servers = Vec::new();
        for (host, port) in addresses {
            servers.push(Self::open(beside(&self.info, host, port)).await?);
        }
        match servers.is_empty() {
            true => Err(io::Error::from(io::ErrorKind::NotFound).into()),
            false => Ok(servers),
        }
    }

    fn host(&self) -> String {
        match self.info.addr() {
            ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => host.clone(),
            _ => "127.0.0.1".to_owned(),
        }
    }
}

/// How to connect to another server that is like this one.
fn beside(info: &ConnectionInfo, host: String, port: u16) -> ConnectionInfo {
    let address = match info.addr() {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
            let (insecure, tls_params) = (*insecure, tls_params.clone());
            ConnectionAddr::TcpTls { host, port, insecure, tls_params }
        }
        _ => ConnectionAddr::Tcp(host, port),
    };
    info.clone().set_addr(address)
}

async fn bounded<T>(answer: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    tokio::time::timeout(PATIENCE, answer)
        .await
        .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
}
