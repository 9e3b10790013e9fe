//! Redis servers that share the slots.

use std::io;
use std::time::Duration;

use super::sentinel::is_in_sync;
use super::server::RedisServer;
use super::setup::{Kind, RedisSetup};
use super::wire::Reply;
use crate::servers::patience::{look_for, until};

/// How many slots there are.
pub const SLOTS: u16 = 16_384;
/// How long the nodes may take to agree.
const AGREES_WITHIN: Duration = Duration::from_secs(30);
/// How many keys are moved at once.
const KEYS_AT_ONCE: u16 = 100;
/// How long moving them may take, in milliseconds.
const MOVES_WITHIN: &str = "5000";
/// After how many milliseconds of silence a node is taken for dead.
const NODE_TIMEOUT: &str = "1000";

/// A cluster, killed when it is dropped: primaries without replicas, or with one each.
///
/// Nodes are numbered from 0. Everything blocks its thread for a bounded time, and panics if a node
/// does not do what it is told.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
    ids: Vec<String>,
    replicas: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts a cluster, and waits until all of its nodes say that it is well. Each has an equal
    /// share of the slots: the first node the lowest.
    ///
    /// # Panics
    /// If that fails, with what a node said; if `redis-server` is not installed.
    #[must_use]
    pub fn start(nodes: usize) -> Self {
        Self::start_as(nodes, &RedisSetup::new())
    }

    /// The same, with nodes that are all like this.
    ///
    /// # Panics
    /// If that fails, with what a node said; if `redis-server` is not installed.
    #[must_use]
    pub fn start_as(nodes: usize, setup: &RedisSetup) -> Self {
        let setup = node_of(setup);
        let nodes: Vec<_> = (0..nodes).map(|_| setup.clone().start()).collect();
        let ids = nodes.iter().map(|node| done(node, &["CLUSTER", "MYID"]).to_string()).collect();
        let cluster = Self { nodes, ids, replicas: Vec::new() };
        cluster.share_slots();
        cluster.introduce();
        cluster.wait_until_ok();
        cluster
    }

    /// The same, with a replica for each node, and waits until each has what its primary has.
    ///
    /// # Panics
    /// If that fails, with what a node said; if `redis-server` is not installed.
    #[must_use]
    pub fn start_replicated(nodes: usize, setup: &RedisSetup) -> Self {
        let mut cluster = Self::start_as(nodes, setup);
        let setup = node_of(setup).with(&["--repl-diskless-sync-delay", "0"]);
        cluster.replicas = cluster.ids.iter().map(|_| setup.clone().start()).collect();
        for replica in &cluster.replicas {
            for node in &cluster.nodes {
                done(node, &["CLUSTER", "MEET", "127.0.0.1", &replica.port().to_string()]);
            }
        }
        cluster.wait_until_ok();
        for (replica, id) in cluster.replicas.iter().zip(&cluster.ids) {
            // Refused as long as it has not heard of its primary.
            until(AGREES_WITHIN, "a node becomes a replica", || {
                replica.call(&["CLUSTER", "REPLICATE", id]).is_ok()
            });
        }
        until(
            AGREES_WITHIN,
            "replicas have what their primaries have, and all know of them",
            || {
                let is_known = |id: &String| {
                    cluster.nodes.iter().all(|node| {
                        let nodes = node.call(&["CLUSTER", "NODES"]).map(|nodes| nodes.to_string());
                        nodes.is_ok_and(|nodes| nodes.contains(&format!("slave {id}")))
                    })
                };
                cluster.replicas.iter().all(is_in_sync) && cluster.ids.iter().all(is_known)
            },
        );
        cluster
    }

    /// The replica that a node had in the beginning.
    ///
    /// # Panics
    /// If there is none of that number.
    #[must_use]
    pub fn replica(&self, index: usize) -> &RedisServer {
        &self.replicas[index]
    }

    fn share_slots(&self) {
        let first = |index: usize| (usize::from(SLOTS) * index / self.nodes.len()).to_string();
        for (index, node) in self.nodes.iter().enumerate() {
            let last = usize::from(SLOTS) * (index + 1) / self.nodes.len() - 1;
            done(node, &["CLUSTER", "ADDSLOTSRANGE", &first(index), &last.to_string()]);
            // Otherwise they would have to find out who of them yields first.
            done(node, &["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]);
        }
    }

    /// Every node to every other: hearsay would take them some seconds.
    fn introduce(&self) {
        for (index, node) in self.nodes.iter().enumerate() {
            for other in &self.nodes[index + 1..] {
                done(node, &["CLUSTER", "MEET", "127.0.0.1", &other.port().to_string()]);
            }
        }
    }

    /// Waits until all nodes say that the cluster is well, and that all nodes belong to it.
    ///
    /// # Panics
    /// If they do not.
    pub fn wait_until_ok(&self) {
        let known = format!("cluster_known_nodes:{}", self.nodes.len() + self.replicas.len());
        let signs = ["cluster_state:ok", "cluster_slots_ok:16384", &known];
        let is_ok = |node: &RedisServer| {
            let info = node.call(&["CLUSTER", "INFO"]).ok();
            let info = info.as_ref().and_then(Reply::text).unwrap_or_default();
            signs.iter().all(|sign| info.lines().any(|line| line == *sign))
        };
        until(AGREES_WITHIN, "all nodes say that the cluster is well", || {
            self.nodes.iter().all(is_ok)
        });
    }

    /// The nodes.
    #[must_use]
    pub fn nodes(&self) -> &[RedisServer] {
        &self.nodes
    }

    /// A node.
    ///
    /// # Panics
    /// If there is none of that number.
    #[must_use]
    pub fn node(&self, index: usize) -> &RedisServer {
        &self.nodes[index]
    }

    /// Where clients find all of them.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(RedisServer::url).collect()
    }

    /// Tells clients, and the other nodes for their clients, that a node is at another port: at
    /// that of a proxy. Waits until all nodes know.
    ///
    /// # Panics
    /// If they do not get to know.
    pub fn announce(&self, index: usize, port: u16) {
        let port = port.to_string();
        done(&self.nodes[index], &["CONFIG", "SET", "cluster-announce-port", &port]);
        let (id, place) = (&self.ids[index], format!("127.0.0.1:{port}@"));
        until(AGREES_WITHIN, "all nodes know where a node is", || {
            self.nodes.iter().all(|node| {
                let nodes = done(node, &["CLUSTER", "NODES"]).to_string();
                nodes.lines().any(|line| line.starts_with(id) && line.contains(&place))
            })
        });
    }

    /// The slot of a key.
    ///
    /// # Panics
    /// If the first node does not answer.
    #[must_use]
    pub fn slot_of(&self, key: &str) -> u16 {
        let slot = done(&self.nodes[0], &["CLUSTER", "KEYSLOT", key]);
        slot.text().and_then(|slot| slot.parse().ok()).expect("a slot is a number")
    }

    /// The node that a slot belongs to, in its own opinion.
    ///
    /// # Panics
    /// If there is none; if a node does not answer.
    #[must_use]
    pub fn owner(&self, slot: u16) -> usize {
        let owns = |index: &usize| {
            let Reply::List(ranges) = done(&self.nodes[*index], &["CLUSTER", "SLOTS"]) else {
                return false;
            };
            ranges.iter().any(|range| owns_range(range, slot, &self.ids[*index]))
        };
        (0..self.nodes.len()).find(owns).unwrap_or_else(|| panic!("nobody owns slot {slot}"))
    }

    /// Moves a slot with its keys, while clients use it. Nothing happens if it is there.
    ///
    /// # Panics
    /// If a node does not do its part.
    pub fn move_slot(&self, slot: u16, to: usize) {
        if self.owner(slot) != to {
            self.begin_move(slot, to);
            self.finish_move(slot, to);
        }
    }

    /// Begins to move a slot, and leaves it like that: its owner answers ASK for keys that it does
    /// not have, or no longer.
    ///
    /// # Panics
    /// If a node does not do its part.
    pub fn begin_move(&self, slot: u16, to: usize) {
        let from = self.owner(slot);
        let slot = slot.to_string();
        let set = ["CLUSTER", "SETSLOT", &slot];
        done(&self.nodes[to], &[&set[..], &["IMPORTING", &self.ids[from]]].concat());
        done(&self.nodes[from], &[&set[..], &["MIGRATING", &self.ids[to]]].concat());
    }

    /// Moves up to so many keys of a slot that has begun to move, and answers how many.
    ///
    /// # Panics
    /// If a node does not do its part.
    pub fn move_keys(&self, slot: u16, to: usize, most: u16) -> usize {
        let source = &self.nodes[self.owner(slot)];
        let (slot, most) = (slot.to_string(), most.to_string());
        let keys = done(source, &["CLUSTER", "GETKEYSINSLOT", &slot, &most]);
        let keys = keys.texts();
        if keys.is_empty() {
            return 0;
        }
        let target = &self.nodes[to];
        let port = target.port().to_string();
        let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", MOVES_WITHIN];
        if let Some(password) = target.password() {
            migrate.extend(["AUTH", password]);
        }
        migrate.push("KEYS");
        migrate.extend(&keys);
        done(source, &migrate);
        keys.len()
    }

    /// Moves what is left of a slot that has begun to move, and tells everybody who owns it now.
    ///
    /// # Panics
    /// If a node does not do its part.
    pub fn finish_move(&self, slot: u16, to: usize) {
        let from = self.owner(slot);
        let text = slot.to_string();
        let set = ["CLUSTER", "SETSLOT", &text, "NODE", &self.ids[to]];
        let source_is_empty = || {
            while 0 < self.move_keys(slot, to, KEYS_AT_ONCE) {}
            // The new owner first: if this ended in the midst, somebody would own the slot.
            done(&self.nodes[to], &set);
            // Refused if a key has come meanwhile.
            self.nodes[from].call(&set).ok()
        };
        let moved = look_for(AGREES_WITHIN, source_is_empty);
        assert!(moved.is_some(), "slot {slot} does not get empty");
        for index in (0..self.nodes.len()).filter(|&index| index != from && index != to) {
            // One that is down hears of it from the others.
            let _ = self.nodes[index].call(&set);
        }
    }

    /// Takes back that a slot has begun to move. Keys that were moved stay where they are: move
    /// none if clients are to find them.
    ///
    /// # Panics
    /// If a node does not do its part.
    pub fn abort_move(&self, slot: u16) {
        let slot = slot.to_string();
        for node in &self.nodes {
            done(node, &["CLUSTER", "SETSLOT", &slot, "STABLE"]);
        }
    }
}

fn node_of(setup: &RedisSetup) -> RedisSetup {
    setup.clone().kind(Kind::Node).with(&[
        "--cluster-enabled",
        "yes",
        "--cluster-announce-ip",
        "127.0.0.1",
        "--cluster-node-timeout",
        NODE_TIMEOUT,
    ])
}

fn owns_range(range: &Reply, slot: u16, id: &str) -> bool {
    let Reply::List(parts) = range else { return false };
    let [first, last, owner, ..] = parts.as_slice() else { return false };
    let number = |reply: &Reply| reply.text().and_then(|text| text.parse::<u16>().ok());
    number(first).is_some_and(|first| first <= slot)
        && number(last).is_some_and(|last| slot <= last)
        && owner.texts().get(2) == Some(&id)
}

/// A command that must succeed.
fn done(node: &RedisServer, words: &[&str]) -> Reply {
    let reply: io::Result<Reply> = node.call(words);
    reply.unwrap_or_else(|error| panic!("node {}: {error}", node.port()))
}
