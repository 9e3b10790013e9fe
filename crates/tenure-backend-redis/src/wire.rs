//! One connection, to one server or to a cluster.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{Sentinel, SentinelNodeConnectionInfo};
use redis::{AsyncConnectionConfig, Client, Cmd, ProtocolVersion, PushInfo, RedisResult, Value};

use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use tenure_core::{Error, ErrorKind, Result};

use crate::config::{Place, RedisConfig};
use crate::error;
use crate::reply::Reader;

/// How long it may take to be connected.
pub(crate) const CONNECT: Duration = Duration::from_secs(3);
/// The longest that a call waits for an answer; callers wait less.
const RESPONSE: Duration = Duration::from_secs(30);

/// Takes messages.
pub(crate) type OnPush = Arc<dyn Fn(PushInfo) + Send + Sync>;

/// A connection that many calls share; clones are the same one.
#[derive(Clone)]
pub(crate) enum Wire {
    Node(MultiplexedConnection),
    Cluster(Box<ClusterConnection>),
}

impl Wire {
    /// Connects.
    pub(crate) async fn open(config: &RedisConfig, on_push: OnPush) -> RedisResult<Self> {
        match &config.place {
            Place::Node(info) => Self::node(Client::open(info.clone())?, on_push).await,
            Place::Sentinel { sentinels, service, node } => {
                let mut sentinel = Sentinel::build(sentinels.clone())?;
                let node = SentinelNodeConnectionInfo::default()
                    .set_redis_connection_info(node.redis_settings().clone())
                    .set_tcp_settings(node.tcp_settings().clone());
                let primary = sentinel.async_master_for(service, Some(&node)).await?;
                Self::node(primary, on_push).await
            }
            Place::Cluster(nodes) => {
                let connection = ClusterClientBuilder::new(nodes.clone())
                    .use_protocol(ProtocolVersion::RESP3)
                    .connection_timeout(CONNECT)
                    .response_timeout(RESPONSE)
                    .push_sender(sender(on_push))
                    .build()?
                    .get_async_connection()
                    .await?;
                Ok(Self::Cluster(Box::new(connection)))
            }
        }
    }

    async fn node(client: Client, on_push: OnPush) -> RedisResult<Self> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(RESPONSE))
            .set_push_sender(sender(on_push));
        client.get_multiplexed_async_connection_with_config(&config).await.map(Self::Node)
    }

    /// Sends a command and waits for its answer.
    pub(crate) async fn send(&mut self, cmd: &Cmd) -> RedisResult<Value> {
        let answer = match self {
            Self::Node(connection) => connection.req_packed_command(cmd).await?,
            Self::Cluster(connection) => connection.req_packed_command(cmd).await?,
        };
        match answer {
            // Those of single turns, further in, are for whoever took the turn.
            Value::ServerError(error) => Err(error.into()),
            answer => Ok(answer),
        }
    }

    /// All keys that fit a pattern, on all servers, in at most `steps` steps of `step` keys each.
    pub(crate) async fn scan(
        mut self,
        pattern: &str,
        step: usize,
        steps: usize,
    ) -> Result<Vec<String>> {
        let mut keys = Vec::new();
        let mut left = steps;
        for node in self.primaries().await? {
            let mut cursor = 0_u64;
            loop {
                left = left.checked_sub(1).ok_or_else(|| {
                    Error::new(ErrorKind::Unreachable, "the server has too many keys to find locks")
                })?;
                let mut cmd = redis::cmd("SCAN");
                cmd.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(step);
                let page = self.send_to(&node, cmd).await.map_err(|e| error::failed(&e))?;
                let (next, some): (u64, Vec<String>) =
                    redis::from_redis_value(page).map_err(|e| error::strange(&e.to_string()))?;
                keys.extend(some);
                cursor = next;
                if cursor == 0 {
                    break;
                }
            }
        }
        Ok(keys)
    }

    /// The primaries of a cluster; of one server itself.
    async fn primaries(&mut self) -> Result<Vec<Option<(String, u16)>>> {
        let Self::Cluster(_) = self else {
            return Ok(vec![None]);
        };
        let mut cmd = redis::cmd("CLUSTER");
        cmd.arg("SLOTS");
        let slots = self.send(&cmd).await.map_err(|e| error::failed(&e))?;
        let mut primaries = Vec::new();
        for range in Reader::new(slots)?.rest() {
            let mut range = Reader::new(range)?;
            let (_, _) = (range.number()?, range.number()?);
            let mut primary = range.array()?;
            let host = primary.text()?;
            let port = u16::try_from(primary.number()?).map_err(|_| error::strange("a port"))?;
            let node = Some((host, port));
            if !primaries.contains(&node) {
                primaries.push(node);
            }
        }
        Ok(primaries)
    }

    async fn send_to(&mut self, node: &Option<(String, u16)>, cmd: Cmd) -> RedisResult<Value> {
        match (self, node) {
            (Self::Cluster(connection), Some((host, port))) => {
                let node = SingleNodeRoutingInfo::ByAddress { host: host.clone(), port: *port };
                connection.route_command(cmd, RoutingInfo::SingleNode(node)).await
            }
            (wire, _) => wire.send(&cmd).await,
        }
    }

    /// Listens on a channel.
    pub(crate) async fn subscribe(&mut self, channel: &str) -> RedisResult<()> {
        match self {
            Self::Node(connection) => connection.subscribe(channel).await,
            Self::Cluster(connection) => connection.subscribe(channel).await,
        }
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
