//! One connection to one server.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::sentinel::{Sentinel, SentinelNodeConnectionInfo};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, ErrorKind, Pipeline, PushInfo, RedisError,
    RedisResult, Value,
};

use crate::config::Place;
use crate::link::pause_for;
use crate::slots::Address;

/// How long it may take to be connected.
pub(crate) const CONNECT: Duration = Duration::from_secs(3);
/// The longest that a call waits for an answer; callers wait less.
const RESPONSE: Duration = Duration::from_secs(30);

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
                if let Some(primary) = primary {
                    let at = primary.beside(node);
                    if let Ok(mut wire) = Self::to(Client::open(at)?, on_push.clone()).await
                        && wire.is_primary().await
                    {
                        return Ok(wire);
                    }
                }
                Self::to(ask(sentinels, service, node).await?, on_push).await
            }
            Place::Cluster(_) => {
                Err(RedisError::from((ErrorKind::Client, "a cluster is reached node by node")))
            }
        }
    }

    async fn to(client: Client, on_push: OnPush) -> RedisResult<Self> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(RESPONSE))
            .set_push_sender(sender(on_push));
        let at = Address::of_info(client.get_connection_info());
        let connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        Ok(Self { connection, at })
    }

    /// Where it leads, if that is a port.
    pub(crate) fn at(&self) -> Option<&Address> {
        self.at.as_ref()
    }

    async fn is_primary(&mut self) -> bool {
        let role = self.send(&redis::cmd("ROLE")).await;
        let Ok(Value::Array(role)) = role else { return false };
        role.first() == Some(&Value::BulkString(b"master".to_vec()))
    }

    /// Sends a command and waits for its answer.
    pub(crate) async fn send(&mut self, cmd: &Cmd) -> RedisResult<Value> {
        self.connection.req_packed_command(cmd).await?.extract_error()
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
async fn ask(
    sentinels: &[ConnectionInfo],
    service: &str,
    node: &ConnectionInfo,
) -> RedisResult<Client> {
    let node = SentinelNodeConnectionInfo::default()
        .set_redis_connection_info(node.redis_settings().clone())
        .set_tcp_settings(node.tcp_settings().clone());
    let mut answers: FuturesUnordered<_> = sentinels
        .iter()
        .zip(0..)
        .map(async |(sentinel, place)| {
            pause_for(MOMENT * place).await;
            let mut sentinel = Sentinel::build(vec![sentinel.clone()])?;
            sentinel.async_master_for(service, Some(&node)).await
        })
        .collect();
    let mut error = RedisError::from((ErrorKind::EmptySentinelList, "no Sentinel is named"));
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(primary) => return Ok(primary),
            Err(failed) => error = failed,
        }
    }
    Err(error)
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
