//! Where calls of one runtime go: to the one server, or to the node of a cluster that has the lock.

use std::sync::Arc;
use std::time::Duration;

use tenure_core::{Error, Result};
use tokio::runtime::Handle;

use crate::cluster::Cluster;
use crate::error::strange;
use crate::flight::Parcel;
use crate::keys::Keys;
use crate::link::{Link, Store};
use crate::reply::Answer;
use crate::script::Turn;

/// How many keys a listing asks a server to look at in one step.
pub(crate) const SCAN_STEP: usize = 1000;
/// How many steps a listing takes at most.
pub(crate) const SCAN_STEPS: usize = 100_000;

/// The way from one runtime to the servers; clones are the same one.
#[derive(Clone, Debug)]
pub(crate) enum Line {
    One(Arc<Link>),
    Many(Arc<Cluster>),
}

impl Line {
    pub(crate) fn new(store: Arc<Store>, runtime: Handle) -> Self {
        if store.config.is_cluster() {
            Self::Many(Cluster::new(store, runtime))
        } else {
            Self::One(Link::new(store, runtime, None))
        }
    }

    /// Whether its runtime still runs.
    pub(crate) fn is_alive(&self) -> bool {
        match self {
            Self::One(link) => link.is_alive(),
            Self::Many(cluster) => cluster.is_alive(),
        }
    }

    /// Takes an acquire, which is told the channel of whoever sends it; messages arrive there
    /// before it is sent.
    pub(crate) async fn claim(
        &self,
        turn: impl Fn(&str) -> Turn,
        keys: &Keys,
        patience: Duration,
    ) -> Result<Answer> {
        match self {
            Self::One(link) => {
                let turns = vec![turn(link.channel())];
                one(link.take(Parcel { turns, listens: true, asking: false }).await?)
            }
            Self::Many(cluster) => {
                let turns = |channel: &str| vec![turn(channel)];
                one(cluster.at_home(cluster.take(keys.slot(), turns, true, patience)).await?)
            }
        }
    }

    /// Takes one turn that is no acquire.
    pub(crate) async fn ask(&self, turn: Turn, patience: Duration) -> Result<Answer> {
        match self {
            Self::One(link) => {
                let turns = vec![turn];
                one(link.take(Parcel { turns, listens: false, asking: false }).await?)
            }
            Self::Many(cluster) => {
                let turns = |_: &str| vec![turn.clone()];
                one(cluster.at_home(cluster.take(turn.keys.slot(), turns, false, patience)).await?)
            }
        }
    }

    /// Takes turns that are no acquires; the answers are in their order.
    pub(crate) async fn take(&self, turns: Vec<Turn>, patience: Duration) -> Vec<Result<Answer>> {
        match self {
            Self::One(link) => {
                let count = turns.len();
                let parcel = Parcel { turns, listens: false, asking: false };
                each(link.take(parcel).await, count)
            }
            Self::Many(cluster) => cluster.at_home(cluster.take_all(turns, patience)).await,
        }
    }

    /// Whether messages about this lock arrive at the moment.
    pub(crate) fn hears(&self, keys: &Keys) -> bool {
        match self {
            Self::One(link) => link.hears(),
            Self::Many(cluster) => cluster.hears(keys.slot()),
        }
    }

    /// How many replicas have everything that was written to this lock so far.
    pub(crate) async fn replicate(&self, keys: &Keys, wanted: u32, limit: Duration) -> Result<u32> {
        match self {
            Self::One(link) => link.replicate(keys.cell.clone(), wanted, limit).await,
            Self::Many(cluster) => {
                cluster
                    .at_home(cluster.link_of(keys.slot(), limit))
                    .await?
                    .replicate(keys.cell.clone(), wanted, limit)
                    .await
            }
        }
    }

    /// All keys that fit a pattern, on all servers, in a bounded number of steps.
    pub(crate) async fn scan(&self, pattern: &str, patience: Duration) -> Result<Vec<String>> {
        let mut left = SCAN_STEPS;
        match self {
            Self::One(link) => link.scan(pattern, SCAN_STEP, &mut left, patience).await,
            Self::Many(cluster) => {
                cluster.at_home(cluster.scan(pattern, &mut left, patience)).await
            }
        }
    }

    /// Whether a server answers.
    pub(crate) async fn ping(&self, patience: Duration) -> Result<()> {
        match self {
            Self::One(link) => link.command(redis::cmd("PING"), patience).await.map(drop),
            Self::Many(cluster) => cluster.at_home(cluster.learn(patience)).await,
        }
    }
}

fn one(answers: Vec<Answer>) -> Result<Answer> {
    answers.into_iter().next().ok_or_else(|| strange("no answer"))
}

/// The answers one by one, or the same error for all of them.
pub(crate) fn each(answers: Result<Vec<Answer>, Error>, count: usize) -> Vec<Result<Answer>> {
    match answers {
        Ok(answers) => answers.into_iter().map(Ok).collect(),
        Err(error) => vec![Err(error); count],
    }
}
