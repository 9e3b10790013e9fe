//! One connection to one server.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, ErrorKind, Pipeline, PushInfo, RedisError,
    RedisResult, Value,
};

use crate::config::Place;
use crate::link::pause_for;
use crate::slots::Address;

/// How long it may take to be connected.
pub(crate) const CONNECT: Duration = Duration::from_secs(3);

/// How long a Sentinel has before another one is asked.
const MOMENT: Duration = Duration::from_millis(50);

/// Takes messages.
pub(crate) type OnPush = Arc<dyn Fn(PushInfo) + Send + Sync>;

/// A connection that many calls share; clones are the same one.
#[derive(Clone)]
pub(crate) struct Wire {
    connection: MultiplexedConnection,
    /// Where it leads.
    at: Option<Address>,
}

impl Wire {
    /// Connects to the one server of this place: that of a cluster is a node of it. Where Sentinels
    /// are asked, one of them may have said already where the primary is.
    pub(crate) async fn open(
        place: &Place,
        primary: Option<&Address>,
        on_push: OnPush,
    ) -> RedisResult<Self> {
        match place {
            Place::Node(info) => Self::to(Client::open(info.clone())?, on_push).await,
            Place::Sentinel { sentinels, service, node } => {
                if let Some(primary) = primary
                    && let Ok(wire) = Self::primary(primary, node, on_push.clone()).await
                {
                    return Ok(wire);
                }
                let primary = ask(sentinels, service).await?;
                Self::primary(&primary, node, on_push).await
            }
            Place::Cluster(_) => {
                Err(RedisError::from((ErrorKind::Client, "a cluster is reached node by node")))
            }
        }
    }

    async fn to(client: Client, on_push: OnPush) -> RedisResult<Self> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(None)
            .set_push_sender(sender(on_push));
        let at = Address::of_info(client.get_connection_info());
        let connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        Ok(Self { connection, at })
    }

    /// Where it leads, if that is a port.
    pub(crate) fn at(&self) -> Option<&Address> {
        self.at.as_ref()
    }

    /// Connects to the server there, if it finds as well that it is a primary.
    async fn primary(at: &Address, like: &ConnectionInfo, on_push: OnPush) -> RedisResult<Self> {
        let mut wire = Self::to(Client::open(at.beside(like))?, on_push).await?;
        match wire.send(&redis::cmd("ROLE")).await? {
            Value::Array(role) if role.first() == Some(&Value::BulkString(b"master".to_vec())) => {
                Ok(wire)
            }
            _ => Err(RedisError::from((ErrorKind::Client, "the primary is about to be another"))),
        }
    }

    /// Sends a command and waits for its answer.
    pub(crate) async fn send(&mut self, cmd: &Cmd) -> RedisResult<Value> {
        match self.connection.req_packed_command(cmd).await? {
            // Those of single turns, further in, are for whoever took the turn.
            Value::ServerError(error) => Err(error.into()),
            answer => Ok(answer),
        }
    }

    /// Sends commands in one write and waits for all answers; each may be an error.
    pub(crate) async fn send_all(&mut self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        self.connection.req_packed_commands(commands, 0, commands.len()).await
    }

    /// Listens on a channel.
    pub(crate) async fn subscribe(&mut self, channel: &str) -> RedisResult<()> {
        self.connection.subscribe(channel).await
    }
}

/// Asks Sentinels for the primary. Each has a moment before the next one is asked, too: one that
/// stands still may not hold up a short lease.
async fn ask(sentinels: &[ConnectionInfo], service: &str) -> RedisResult<Address> {
    let mut answers: FuturesUnordered<_> = sentinels
        .iter()
        .zip(0..)
        .map(async |(sentinel, place)| {
            pause_for(MOMENT * place).await;
            let mut wire = Wire::to(Client::open(sentinel.clone())?, Arc::new(|_| {})).await?;
            let mut cmd = redis::cmd("SENTINEL");
            named(wire.send(cmd.arg("MASTER").arg(service)).await?)
        })
        .collect();
    let mut error = RedisError::from((ErrorKind::Client, "no Sentinel is named"));
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(primary) => return Ok(primary),
            Err(failed) => error = failed,
        }
    }
    Err(error)
}

/// The primary that a Sentinel names, if it finds that it is up.
fn named(answer: Value) -> RedisResult<Address> {
    let answer: HashMap<String, String> = redis::from_redis_value(answer)?;
    let word = |name: &str| answer.get(name).map(String::as_str).unwrap_or_default();
    if word("flags").split(',').any(|flag| matches!(flag, "s_down" | "o_down" | "disconnected")) {
        return Err(RedisError::from((ErrorKind::Client, "the primary is down")));
    }
    match word("port").parse() {
        Ok(port) => Ok(Address { host: word("ip").into(), port }),
        Err(_) => Err(RedisError::from((ErrorKind::Client, "a Sentinel names no primary"))),
    }
}

/// As the library takes it: what is told is never refused.
fn sender(
    on_push: OnPush,
) -> impl Fn(PushInfo) -> Result<(), std::convert::Infallible> + Send + Sync + 'static {
    move |push| {
        on_push(push);
        Ok(())
    }
}
