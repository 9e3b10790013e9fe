//! A cluster, node by node: each has a link of its own, so that one that hangs holds up nobody but
//! the locks it has.
//!
//! Which node that is, is looked up in a table and corrected by what the nodes answer. What a node
//! sends away, or cannot do at the moment, was not done: the same turns with the same tokens are
//! sent again, for as long as the caller is patient.

use std::collections::HashMap;
use std::error::Error as _;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};
use parking_lot::Mutex;
use redis::{ConnectionInfo, ErrorKind as Kind, RedisError, ServerErrorKind as Server, Value};
use tenure_core::backend::Event;
use tenure_core::{Error, ErrorKind, Result};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::config::Place;
use crate::flight::Parcel;
use crate::line::{SCAN_STEP, each};
use crate::link::{Link, Node, Store, pause_for};
use crate::reply::Answer;
use crate::script::Turn;
use crate::slots::Address;

/// The most redirections that one call follows without a pause.
const REDIRECTIONS: u32 = 16;
/// The pauses between attempts while a node cannot do it at the moment.
const PAUSES: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(100));
/// How long a node may take to say who has which slot.
const LEARN: Duration = Duration::from_secs(1);
/// The shortest time between two looks at who has which slot.
const LEARN_EVERY: Duration = Duration::from_millis(100);

/// The links of one runtime to the nodes of a cluster.
pub(crate) struct Cluster {
    store: Arc<Store>,
    runtime: Handle,
    links: Mutex<HashMap<Address, Arc<Link>>>,
    /// One at a time finds out who has what.
    learning: tokio::sync::Mutex<()>,
    trouble: Arc<Notify>,
    /// Lives as long as the runtime does.
    alive: Weak<()>,
}

impl Cluster {
    pub(crate) fn new(store: Arc<Store>, runtime: Handle) -> Arc<Self> {
        let alive = Arc::new(());
        let trouble = Arc::new(Notify::new());
        let cluster = Arc::new(Self {
            store,
            links: Mutex::default(),
            learning: tokio::sync::Mutex::default(),
            trouble: trouble.clone(),
            alive: Arc::downgrade(&alive),
            runtime,
        });
        cluster.runtime.spawn(learns(Arc::downgrade(&cluster), trouble, alive));
        cluster
    }

    /// Whether its runtime still runs.
    pub(crate) fn is_alive(&self) -> bool {
        0 < self.alive.strong_count()
    }

    /// Does something that needs timers, for whoever asks outside of any runtime, too.
    pub(crate) async fn at_home<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        std::future::poll_fn(|cx| {
            let _here = Handle::try_current().is_err().then(|| self.runtime.enter());
            work.as_mut().poll(cx)
        })
        .await
    }

    /// Whether messages about the locks of this slot arrive at the moment.
    pub(crate) fn hears(&self, slot: u16) -> bool {
        let owner = self.store.slots.owner(slot);
        owner.is_some_and(|owner| self.links.lock().get(&owner).is_some_and(|link| link.hears()))
    }

    /// Takes turns of one slot, wherever it is; they are told the channel of whoever sends them.
    pub(crate) async fn take(
        &self,
        slot: u16,
        turns: impl Fn(&str) -> Vec<Turn>,
        listens: bool,
        patience: Duration,
    ) -> Result<Vec<Answer>> {
        let end = Instant::now() + patience;
        let (mut pause, mut redirections) = (PAUSES.0, 0);
        let mut asking: Option<Address> = None;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let answer = async {
                let (to, is_asking) = match asking.take() {
                    Some(to) => (to, true),
                    None => (self.owner(slot, left).await?, false),
                };
                let link = self.link(&to);
                let turns = turns(link.channel());
                let parcel = Parcel { turns, listens, asking: is_asking };
                // Whoever gives it up may have found a node that stands still.
                let gives_up = Troubled(Some(&self.trouble));
                let taken = tokio::time::timeout(patience, link.take(parcel)).await;
                gives_up.not_now();
                let taken = taken.unwrap_or_else(|_| Err(late()));
                taken.map_err(|error| (next(&error, &to), error))
            };
            let (next, error) = match answer.await {
                Ok(answers) => return Ok(answers),
                Err(failed) => failed,
            };
            if end <= Instant::now() + pause {
                self.trouble.notify_one();
                return Err(error);
            }
            match next {
                Next::Moved(to) => {
                    self.store.slots.moved(slot, &to);
                    self.trouble.notify_one();
                    redirections += 1;
                }
                Next::Ask(to) => {
                    asking = Some(to);
                    redirections += 1;
                }
                Next::Wait | Next::Learn => {
                    if matches!(next, Next::Learn) {
                        self.trouble.notify_one();
                    }
                    pause_for(pause).await;
                    (pause, redirections) = ((pause * 2).min(PAUSES.1), 0);
                }
                Next::GiveUp => {
                    if error.kind() == ErrorKind::Unknown {
                        self.trouble.notify_one();
                    }
                    return Err(error);
                }
            }
            if REDIRECTIONS < redirections {
                return Err(Error::new(
                    ErrorKind::Unreachable,
                    format!("the nodes sent it away {REDIRECTIONS} times"),
                )
                .with_help("do the nodes agree who has which slot? `redis-cli --cluster check`")
                .with_source(error)
                .with_nothing_changed());
            }
        }
    }

    /// Takes turns of any slots; the answers are in their order.
    pub(crate) async fn take_all(
        &self,
        turns: Vec<Turn>,
        patience: Duration,
    ) -> Vec<Result<Answer>> {
        let mut by_slot: HashMap<u16, Vec<usize>> = HashMap::new();
        for (at, turn) in turns.iter().enumerate() {
            by_slot.entry(turn.keys.slot()).or_default().push(at);
        }
        let groups = by_slot.into_iter().map(|(slot, places)| {
            let turns: Vec<Turn> = places.iter().map(|&at| turns[at].clone()).collect();
            async move {
                let answers = self.take(slot, |_| turns.clone(), false, patience).await;
                places.iter().copied().zip(each(answers, places.len())).collect::<Vec<_>>()
            }
        });
        let mut answers: Vec<_> = join_all(groups).await.into_iter().flatten().collect();
        answers.sort_unstable_by_key(|(at, _)| *at);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }

    /// The link to the node that has a slot.
    pub(crate) async fn link_of(&self, slot: u16, patience: Duration) -> Result<Arc<Link>> {
        let owner = self.owner(slot, patience).await.map_err(|(_, error)| error)?;
        Ok(self.link(&owner))
    }

    /// All keys that fit a pattern, on all primaries.
    ///
    /// While slots move, a key may go from a node that was not looked at yet to one that was: then
    /// all are looked at once more, in the same order, which finds whatever has moved once.
    pub(crate) async fn scan(
        &self,
        pattern: &str,
        left: &mut usize,
        patience: Duration,
    ) -> Result<Vec<String>> {
        self.learn(patience).await?;
        let mut keys = Vec::new();
        let before = self.layout(patience).await?;
        for pass in 0..2 {
            for node in self.store.slots.nodes() {
                keys.extend(self.link(&node).scan(pattern, SCAN_STEP, left, patience).await?);
            }
            if 0 < pass {
                break;
            }
            self.learn(patience).await?;
            if before == self.layout(patience).await? && !before.iter().any(|n| n.contains('[')) {
                break;
            }
        }
        Ok(keys)
    }

    /// What each primary says that it has and moves.
    async fn layout(&self, patience: Duration) -> Result<Vec<String>> {
        let mut layout = Vec::new();
        for node in self.store.slots.nodes() {
            let mut cmd = redis::cmd("CLUSTER");
            cmd.arg("NODES");
            let answer = self.link(&node).command(cmd, patience).await?;
            let nodes: String = redis::from_redis_value(answer)
                .map_err(|e| crate::error::strange(&e.to_string()))?;
            let myself = nodes.lines().find(|line| line.contains("myself")).unwrap_or_default();
            // Its id; its epoch and its slots. What is between is the state of its connections.
            let words: Vec<&str> = myself.split(' ').collect();
            let slots = words.iter().skip(8).chain(words.get(6)).chain(words.first());
            layout.push(slots.copied().collect::<Vec<_>>().join(" "));
        }
        Ok(layout)
    }

    async fn owner(&self, slot: u16, patience: Duration) -> Result<Address, (Next, Error)> {
        if let Some(owner) = self.store.slots.owner(slot) {
            return Ok(owner);
        }
        self.learn(patience).await.map_err(|error| (Next::Learn, error))?;
        self.store.slots.owner(slot).ok_or_else(|| {
            let error = Error::new(ErrorKind::Unreachable, "no node of the cluster has this slot")
                .with_help("look at `redis-cli --cluster check`");
            (Next::Learn, error.with_nothing_changed())
        })
    }

    fn link(&self, to: &Address) -> Arc<Link> {
        let mut links = self.links.lock();
        if let Some(link) = links.get(to) {
            return link.clone();
        }
        let seed = self.seeds().first().expect("the address of a cluster names a node");
        let node = Node { info: to.beside(seed), trouble: self.trouble.clone() };
        let link = Link::new(self.store.clone(), self.runtime.clone(), Some(node));
        links.insert(to.clone(), link.clone());
        link
    }

    fn seeds(&self) -> &[ConnectionInfo] {
        match &self.store.config.place {
            Place::Cluster(seeds) => seeds,
            _ => &[],
        }
    }

    /// Finds out who has which slot.
    ///
    /// # Errors
    /// `Unreachable` if no node answers in time.
    pub(crate) async fn learn(&self, patience: Duration) -> Result<()> {
        let _one_at_a_time = self.learning.lock().await;
        let known = self.store.slots.nodes();
        let seeds = self.seeds().iter().filter_map(Address::of_info);
        let seeds: Vec<Address> = seeds.filter(|seed| !known.contains(seed)).collect();
        let mut error = None;
        for nodes in [known, seeds] {
            match self.learn_from(&nodes, patience.min(LEARN)).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(failed) => error = Some(failed),
            }
        }
        Err(error
            .unwrap_or_else(|| Error::new(ErrorKind::Unreachable, "no node answers"))
            .with_nothing_changed())
    }

    /// Believes the first node that says that all is well; if none does, any.
    async fn learn_from(&self, nodes: &[Address], patience: Duration) -> Result<bool> {
        let mut answers: FuturesUnordered<_> =
            nodes.iter().map(|node| self.opinion(node, patience)).collect();
        let (mut second_best, mut error) = (None, None);
        while let Some(answer) = answers.next().await {
            match answer {
                Ok((true, slots, node)) => {
                    second_best = Some((slots, node));
                    break;
                }
                Ok((false, slots, node)) => second_best = Some((slots, node)),
                Err(failed) => error = Some(failed),
            }
        }
        drop(answers);
        let Some((slots, node)) = second_best else {
            return error.map_or(Ok(false), Err);
        };
        if self.store.slots.learn(slots, node)? {
            // Whoever counted on a message by way of a node that is gone has to look.
            self.store.tell(Event::Reconnected);
        }
        let nodes = self.store.slots.nodes();
        self.links.lock().retain(|node, _| nodes.contains(node));
        Ok(true)
    }

    /// Whether a node finds that the cluster is well, and who has what.
    async fn opinion<'a>(
        &self,
        node: &'a Address,
        patience: Duration,
    ) -> Result<(bool, Value, &'a Address)> {
        let link = self.link(node);
        let mut cmd = redis::cmd("CLUSTER");
        cmd.arg("INFO");
        let info = link.command(cmd, patience).await?;
        let info: String =
            redis::from_redis_value(info).map_err(|e| crate::error::strange(&e.to_string()))?;
        let mut cmd = redis::cmd("CLUSTER");
        cmd.arg("SLOTS");
        let slots = link.command(cmd, patience).await?;
        Ok((info.contains("cluster_state:ok"), slots, node))
    }
}

fn late() -> Error {
    Error::new(ErrorKind::Unknown, "the node did not answer in time")
}

/// Tells of trouble when it is dropped.
struct Troubled<'a>(Option<&'a Notify>);

impl Troubled<'_> {
    fn not_now(mut self) {
        self.0 = None;
    }
}

impl Drop for Troubled<'_> {
    fn drop(&mut self) {
        if let Some(trouble) = self.0 {
            trouble.notify_one();
        }
    }
}

/// What to do after an error.
enum Next {
    Moved(Address),
    Ask(Address),
    /// It cannot be done at the moment.
    Wait,
    /// It cannot be done by this node at the moment.
    Learn,
    GiveUp,
}

fn next(error: &Error, asked: &Address) -> Next {
    let Some(cause) = error.source().and_then(|source| source.downcast_ref::<RedisError>()) else {
        return if error.changed_nothing() && error.kind() == ErrorKind::Unreachable {
            Next::Learn
        } else {
            Next::GiveUp
        };
    };
    let to = || Address::parse(cause.redirect_node()?.0, asked);
    match cause.kind() {
        Kind::Server(Server::Moved) => to().map_or(Next::GiveUp, Next::Moved),
        Kind::Server(Server::Ask) => to().map_or(Next::GiveUp, Next::Ask),
        Kind::Server(Server::TryAgain) => Next::Wait,
        Kind::Server(
            Server::ClusterDown | Server::MasterDown | Server::ReadOnly | Server::BusyLoading,
        ) => Next::Learn,
        Kind::Server(_) if crate::error::is_moving(cause) => Next::Wait,
        _ if error.changed_nothing() && error.kind() == ErrorKind::Unreachable => Next::Learn,
        _ => Next::GiveUp,
    }
}

/// Looks who has what whenever there was trouble.
async fn learns(cluster: Weak<Cluster>, trouble: Arc<Notify>, _alive: Arc<()>) {
    loop {
        trouble.notified().await;
        let Some(cluster) = cluster.upgrade() else {
            return;
        };
        if let Err(error) = cluster.learn(LEARN).await {
            tracing::debug!(%error, "who has which slot is not known");
        }
        drop(cluster);
        pause_for(LEARN_EVERY).await;
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.trouble.notify_one();
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("nodes", &self.store.slots.nodes()).finish_non_exhaustive()
    }
}
