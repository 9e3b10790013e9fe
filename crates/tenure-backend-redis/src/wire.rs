//! One connection to one server.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::sentinel::{Sentinel, SentinelNodeConnectionInfo};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, Pipeline, PushInfo, RedisError, RedisResult,
    Value,
};

use crate::config::Place;

/// How long it may take to be connected.
pub(crate) const CONNECT: Duration = Duration::from_secs(3);
/// The longest that a call waits for an answer; callers wait less.
const RESPONSE: Duration = Duration::from_secs(30);

/// Takes messages.
pub(crate) type OnPush = Arc<dyn Fn(PushInfo) + Send + Sync>;

/// A connection that many calls share; clones are the same one.
#[derive(Clone)]
pub(crate) struct Wire(MultiplexedConnection);

impl Wire {
    /// Connects to the one server of this place: that of a cluster is a node of it.
    pub(crate) async fn open(place: &Place, on_push: OnPush) -> RedisResult<Self> {
        match place {
            Place::Node(info) => Self::to(Client::open(info.clone())?, on_push).await,
            Place::Sentinel { sentinels, service, node } => {
                let mut sentinel = Sentinel::build(sentinels.clone())?;
                let node = SentinelNodeConnectionInfo::default()
                    .set_redis_connection_info(node.redis_settings().clone())
                    .set_tcp_settings(node.tcp_settings().clone());
                let primary = sentinel.async_master_for(service, Some(&node)).await?;
                Self::to(primary, on_push).await
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
        client.get_multiplexed_async_connection_with_config(&config).await.map(Self)
    }

    /// Sends a command and waits for its answer.
    pub(crate) async fn send(&mut self, cmd: &Cmd) -> RedisResult<Value> {
        self.0.req_packed_command(cmd).await?.extract_error()
    }

    /// Sends commands in one write and waits for all answers; each may be an error.
    pub(crate) async fn send_all(&mut self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        self.0.req_packed_commands(commands, 0, commands.len()).await
    }

    /// Listens on a channel.
    pub(crate) async fn subscribe(&mut self, channel: &str) -> RedisResult<()> {
        self.0.subscribe(channel).await
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
