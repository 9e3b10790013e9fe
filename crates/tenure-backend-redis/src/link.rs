//! Calls of one runtime that share a connection.
//!
//! A turn joins those that wait to be sent; one of a few flights takes up to [`BATCH`] of them and
//! sends them as one script, waits for the answers and goes on with what has come meanwhile. So
//! turns of many tasks share scripts under load, and one alone is sent at once. To the node of a
//! cluster, where a script may touch one slot only, they go as so many scripts in one write.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use redis::{Cmd, ConnectionInfo, Pipeline, PushInfo, PushKind, RedisError, RedisResult, Value};
use tenure_core::backend::Event;
use tenure_core::{Error, ErrorKind, Listeners, Result};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};

use crate::config::{Place, RedisConfig};
use crate::error;
use crate::push;
use crate::reply::Reader;
use crate::script::{Kind, Scripts, Turn};
use crate::sentinel::Sentry;
use crate::slots::{Address, Slots};
use crate::wire::{CONNECT, OnPush, Wire};

/// The most turns in one script: what the server does in well under a millisecond.
const BATCH: usize = 32;
/// The most scripts under way at a time.
const FLIGHTS: usize = 4;
/// The pauses between attempts to be connected again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// What all links of a backend share.
pub(crate) struct Store {
    pub(crate) config: RedisConfig,
    pub(crate) scripts: Scripts,
    pub(crate) listeners: Listeners,
    /// Who has what on a cluster; empty elsewhere.
    pub(crate) slots: Slots,
}

/// A connection of one runtime, made when it is first needed and again when it is lost.
pub(crate) struct Link {
    store: Arc<Store>,
    runtime: Handle,
    /// The node of a cluster that it leads to; `None` if there is one server only.
    node: Option<Node>,
    /// Where this link hears of its waiters and holders; nobody else's business.
    channel: String,
    state: Mutex<State>,
    wire: tokio::sync::Mutex<Connection>,
    /// Whether messages arrive.
    hears: AtomicBool,
    /// Whether somebody has asked for messages, so that they have to arrive again.
    listens: AtomicBool,
    lost: Arc<Notify>,
    /// Waits for replicas.
    side: tokio::sync::Mutex<Option<Wire>>,
    /// Where a Sentinel has said that the primary is.
    primary: Mutex<Option<Address>>,
    sentry: OnceLock<Sentry>,
    /// Lives as long as the runtime does.
    alive: Weak<()>,
}

/// A node of a cluster.
pub(crate) struct Node {
    pub(crate) info: ConnectionInfo,
    /// Told when it cannot be reached.
    pub(crate) trouble: Arc<Notify>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    flights: usize,
}

struct Waiting {
    parcel: Parcel,
    answer: oneshot::Sender<Result<Vec<Value>>>,
}

/// Turns of one kind, and how they are to be sent.
pub(crate) struct Parcel {
    /// On a cluster all of one slot.
    pub(crate) turns: Vec<Turn>,
    /// Whether messages have to arrive before.
    pub(crate) listens: bool,
    /// Whether the node is sent what does not belong to it yet.
    pub(crate) asking: bool,
    pub(crate) patience: Duration,
}

#[derive(Default)]
struct Connection {
    wire: Option<Wire>,
    /// Counts the connections, so that a late failure of an old one does not end its successor.
    count: u64,
    listens: bool,
}

impl Link {
    /// A link of this runtime to the one server, or to a node; it is not connected yet.
    pub(crate) fn new(store: Arc<Store>, runtime: Handle, node: Option<Node>) -> Arc<Self> {
        let alive = Arc::new(());
        let link = Arc::new(Self {
            store,
            alive: Arc::downgrade(&alive),
            channel: format!("tenure:wake:{:032x}", rand_u128()),
            state: Mutex::default(),
            wire: tokio::sync::Mutex::default(),
            hears: AtomicBool::new(false),
            listens: AtomicBool::new(false),
            lost: Arc::new(Notify::new()),
            side: tokio::sync::Mutex::default(),
            primary: Mutex::default(),
            sentry: OnceLock::new(),
            runtime,
            node,
        });
        if let Some(sentry) = Sentry::of(&link, &link.runtime, &link.store.config.place) {
            let _ = link.sentry.set(sentry);
        }
        link.runtime.spawn(comes_back(Arc::downgrade(&link), link.lost.clone(), alive));
        link
    }

    /// Where whoever waits here is to be told.
    pub(crate) fn channel(&self) -> &str {
        &self.channel
    }

    /// Whether its runtime still runs.
    pub(crate) fn is_alive(&self) -> bool {
        0 < self.alive.strong_count()
    }

    /// Whether messages arrive at the moment.
    pub(crate) fn hears(&self) -> bool {
        self.hears.load(Ordering::Acquire)
    }

    /// Takes turns and answers what each says, in their order. Dropped, it leaves the outcome
    /// unknown.
    pub(crate) async fn take(self: &Arc<Self>, parcel: Parcel) -> Result<Vec<Value>> {
        let (answer, answered) = oneshot::channel();
        let takes_off = {
            let mut state = self.state.lock();
            state.waiting.push_back(Waiting { parcel, answer });
            let takes_off = state.flights < FLIGHTS;
            state.flights += usize::from(takes_off);
            takes_off
        };
        if takes_off {
            let flight = Flight { link: self.clone(), landed: false };
            self.runtime.spawn(flight.fly());
        }
        answered.await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Unknown, "the runtime of this call ended while it was sent"))
        })
    }

    /// What is sent next: all of one kind, and as patient as each other, so that nobody's short
    /// patience ends what others wait for.
    fn board(&self) -> Vec<Waiting> {
        let mut state = self.state.lock();
        let mut boarded: Vec<Waiting> = Vec::new();
        let mut turns = 0;
        while let Some(next) = state.waiting.front() {
            let kind = |w: &Waiting| w.parcel.turns.first().map(|t| t.kind);
            let fits = boarded.first().is_none_or(|first| {
                kind(first) == kind(next)
                    && first.parcel.patience == next.parcel.patience
                    && turns + next.parcel.turns.len() <= BATCH
            });
            if !fits {
                break;
            }
            let next = state.waiting.pop_front().expect("it was just there");
            turns += next.parcel.turns.len();
            // Nobody waits for it any more, and it has not been sent.
            if !next.answer.is_closed() {
                boarded.push(next);
            }
        }
        boarded
    }

    async fn send(self: &Arc<Self>, boarded: Vec<Waiting>) {
        let listens = boarded.iter().any(|w| w.parcel.listens);
        let patience = boarded.iter().map(|w| w.parcel.patience).min().unwrap_or_default();
        let (wire, count) = match self.connected(listens, patience).await {
            Ok(connected) => connected,
            Err(error) => {
                // Whoever waits for it may be gone: nobody but this tells of it.
                self.is_in_trouble();
                boarded.into_iter().for_each(|w| drop(w.answer.send(Err(error.clone()))));
                return;
            }
        };
        if self.node.is_some() {
            return self.send_each(boarded, wire, count, patience).await;
        }
        let turns: Vec<Turn> =
            boarded.iter().flat_map(|w| w.parcel.turns.iter().cloned()).collect();
        match self.run(&turns, wire, count, patience).await {
            Ok(answers) => {
                let mut answers = answers.into_iter();
                for waiting in boarded {
                    let mine = answers.by_ref().take(waiting.parcel.turns.len()).collect();
                    let _ = waiting.answer.send(Ok(mine));
                }
            }
            Err(error) => {
                for waiting in boarded {
                    let _ = waiting.answer.send(Err(error.clone()));
                }
            }
        }
    }

    /// All turns as one script.
    async fn run(
        &self,
        turns: &[Turn],
        mut wire: Wire,
        count: u64,
        patience: Duration,
    ) -> Result<Vec<Value>> {
        let Some(kind) = turns.first().map(|t| t.kind) else {
            return Ok(Vec::new());
        };
        let command = |known| self.store.scripts.command(kind, true, turns, known);
        let mut answer = self.ask(&mut wire, count, &command(true), patience).await;
        if answer.as_ref().is_err_and(|e| e.1 == Some("NOSCRIPT")) {
            answer = self.ask(&mut wire, count, &command(false), patience).await;
        }
        Reader::new(answer.map_err(|e| e.0)?)?.all(turns.len())
    }

    /// A script for each, in one write.
    async fn send_each(
        &self,
        mut boarded: Vec<Waiting>,
        mut wire: Wire,
        count: u64,
        patience: Duration,
    ) {
        let mut known = true;
        while !boarded.is_empty() {
            let mut pipeline = Pipeline::with_capacity(boarded.len());
            let mut scripts = Vec::with_capacity(boarded.len());
            for (n, Waiting { parcel, .. }) in boarded.iter().enumerate() {
                if parcel.asking {
                    pipeline.cmd("ASKING");
                }
                // The first one makes the script known to those behind it.
                let known = known || 0 < n;
                let kind = parcel.turns.first().map_or(Kind::Other, |t| t.kind);
                // Whoever is subscribed may be so at another node, which `PUBLISH` does not count.
                pipeline.add_command(self.store.scripts.command(kind, false, &parcel.turns, known));
                scripts.push(pipeline.len() - 1);
            }
            let answers = wire.send_all(&pipeline);
            let answers = match tokio::time::timeout(patience, answers).await {
                Ok(Ok(answers)) => answers,
                Ok(Err(error)) => {
                    if ends_the_connection(&error) {
                        self.hang_up(count).await;
                    }
                    let error = error::failed(&error);
                    boarded.into_iter().for_each(|w| drop(w.answer.send(Err(error.clone()))));
                    return;
                }
                Err(_) => {
                    self.hang_up(count).await;
                    let error = late_answer(patience);
                    boarded.into_iter().for_each(|w| drop(w.answer.send(Err(error.clone()))));
                    return;
                }
            };
            let mut answers: Vec<Option<Value>> = answers.into_iter().map(Some).collect();
            let mut again = Vec::new();
            for (waiting, at) in boarded.into_iter().zip(scripts) {
                let answer = answers.get_mut(at).and_then(Option::take).unwrap_or(Value::Nil);
                let answer: RedisResult<Value> = answer.extract_error();
                if known && answer.as_ref().is_err_and(|e| e.code() == Some("NOSCRIPT")) {
                    again.push(waiting);
                    continue;
                }
                if answer.as_ref().is_err_and(ends_the_connection) {
                    self.hang_up(count).await;
                }
                let answer = answer.map_err(|error| error::failed(&error));
                let turns = waiting.parcel.turns.len();
                let answer = answer.and_then(|value| Reader::new(value)?.all(turns));
                let _ = waiting.answer.send(answer);
            }
            (boarded, known) = (again, false);
        }
    }

    /// Sends one command of any sort.
    pub(crate) async fn command(self: &Arc<Self>, cmd: &Cmd, patience: Duration) -> Result<Value> {
        let (mut wire, count) = self.connected(false, patience).await?;
        self.ask(&mut wire, count, cmd, patience).await.map_err(|e| e.0)
    }

    /// How many replicas have everything that was written so far. On a connection of its own:
    /// waiting blocks it.
    pub(crate) async fn replicate(&self, key: &str, replicas: u32, limit: Duration) -> Result<u32> {
        let mut side = self.side.lock().await;
        let wire = match &mut *side {
            Some(wire) => wire,
            empty => {
                let opened = self.open(Arc::new(|_| {})).await;
                empty.insert(opened.map_err(|e| error::not_sent(&e))?)
            }
        };
        // What this connection waits for is what the server had done when it last asked something.
        let mut mark = redis::cmd("EXISTS");
        mark.arg(key);
        let mut wait = redis::cmd("WAIT");
        wait.arg(replicas).arg(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
        let mut answer = Ok(Value::Nil);
        for cmd in [mark, wait] {
            answer = match tokio::time::timeout(limit * 2, wire.send(&cmd)).await {
                Ok(answer) => answer.map_err(|e| error::failed(&e)),
                Err(_) => Err(Error::new(ErrorKind::Unknown, "the server did not answer in time")),
            };
            if answer.is_err() {
                *side = None;
                break;
            }
        }
        match answer? {
            Value::Int(count) => Ok(u32::try_from(count).unwrap_or(0)),
            _ => Err(error::strange("it is not a number of replicas")),
        }
    }

    /// All keys that fit a pattern, in at most `left` steps, which are counted down.
    pub(crate) async fn scan(
        self: &Arc<Self>,
        pattern: &str,
        step: usize,
        left: &mut usize,
        patience: Duration,
    ) -> Result<Vec<String>> {
        let mut keys = Vec::new();
        let mut cursor = 0_u64;
        loop {
            *left = left.checked_sub(1).ok_or_else(|| {
                Error::new(ErrorKind::Unreachable, "the server has too many keys to find locks")
            })?;
            let mut cmd = redis::cmd("SCAN");
            cmd.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(step);
            let page = self.command(&cmd, patience).await?;
            let (next, some): (u64, Vec<String>) =
                redis::from_redis_value(page).map_err(|e| error::strange(&e.to_string()))?;
            keys.extend(some);
            cursor = next;
            if cursor == 0 {
                return Ok(keys);
            }
        }
    }

    async fn open(&self, on_push: OnPush) -> RedisResult<Wire> {
        match &self.node {
            Some(node) => Wire::open(&Place::Node(node.info.clone()), None, on_push).await,
            None => {
                // Once: what was said then may be wrong later.
                let primary = self.primary.lock().take();
                Wire::open(&self.store.config.place, primary.as_ref(), on_push).await
            }
        }
    }

    /// Goes to another primary, unless it is there.
    pub(crate) async fn go_to(&self, primary: Address) {
        let (is_there, count) = {
            let connection = self.wire.lock().await;
            let wire = connection.wire.as_ref();
            (wire.is_none_or(|wire| wire.at() == Some(&primary)), connection.count)
        };
        if !is_there {
            *self.primary.lock() = Some(primary);
            self.hang_up(count).await;
        }
        *self.side.lock().await = None;
    }

    async fn ask(
        &self,
        wire: &mut Wire,
        count: u64,
        cmd: &Cmd,
        patience: Duration,
    ) -> Result<Value, (Error, Option<&'static str>)> {
        match tokio::time::timeout(patience, wire.send(cmd)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                if ends_the_connection(&error) {
                    self.hang_up(count).await;
                }
                let unknown_script = error.code() == Some("NOSCRIPT");
                Err((error::failed(&error), unknown_script.then_some("NOSCRIPT")))
            }
            Err(_) => {
                // The connection may be dead without anybody saying so.
                self.hang_up(count).await;
                Err((late_answer(patience), None))
            }
        }
    }

    /// The connection, made if there is none. Whoever cannot wait for that any longer leaves the
    /// making of it to the next: otherwise short calls would never be connected.
    async fn connected(self: &Arc<Self>, listens: bool, patience: Duration) -> Result<(Wire, u64)> {
        if listens {
            self.listens.store(true, Ordering::Release);
        }
        let listens = self.listens.load(Ordering::Acquire);
        if let Ok(connection) = self.wire.try_lock()
            && let Some(wire) = &connection.wire
            && (connection.listens || !listens)
        {
            return Ok((wire.clone(), connection.count));
        }
        let (tell, told) = oneshot::channel();
        let link = self.clone();
        self.runtime.spawn(async move {
            let mut connection = link.wire.lock().await;
            if !tell.is_closed() {
                let made = tokio::time::timeout(CONNECT, link.connect(&mut connection, listens));
                let made = made.await.unwrap_or_else(|_| Err(not_connected()));
                let _ = tell.send(made);
            }
        });
        let patience = patience.max(Duration::from_millis(100)).min(CONNECT);
        match tokio::time::timeout(patience, told).await {
            Ok(Ok(made)) => made,
            _ => Err(not_connected()),
        }
    }

    async fn connect(&self, connection: &mut Connection, listens: bool) -> Result<(Wire, u64)> {
        let wire = match &mut connection.wire {
            Some(wire) => wire.clone(),
            None => {
                connection.count += 1;
                connection.listens = false;
                let opened = self.open(self.on_push()).await;
                let wire = opened.map_err(|e| error::not_sent(&e))?;
                connection.wire.insert(wire).clone()
            }
        };
        if listens && !connection.listens {
            let mut listening = wire.clone();
            if let Err(error) = listening.subscribe(&self.channel).await {
                connection.wire = None;
                return Err(error::not_sent(&error));
            }
            connection.listens = true;
            self.hears.store(true, Ordering::Release);
        }
        Ok((wire, connection.count))
    }

    /// Somebody should look whether the node has lost its slots.
    fn is_in_trouble(&self) {
        if let Some(node) = &self.node {
            node.trouble.notify_one();
        }
    }

    async fn hang_up(&self, count: u64) {
        let mut connection = self.wire.lock().await;
        if connection.count == count && connection.wire.take().is_some() {
            self.hears.store(false, Ordering::Release);
            self.lost.notify_one();
            self.is_in_trouble();
        }
    }

    fn on_push(&self) -> OnPush {
        let (store, channel) = (self.store.clone(), self.channel.clone());
        let lost = self.lost.clone();
        Arc::new(move |push: PushInfo| {
            if push.kind == PushKind::Disconnection {
                lost.notify_one();
            } else if let Some(event) = push::event(&push, &channel, &store.config.prefix) {
                store.tell(event);
            }
        })
    }
}

impl Store {
    pub(crate) fn tell(&self, event: Event) {
        let event = match event {
            // Replicas have to have it before it counts: whoever waits asks, and that is checked.
            Event::Granted { name, member, .. } if 0 < self.config.min_replicas => {
                Event::Granted { name, member, grant: None }
            }
            event => event,
        };
        self.listeners.tell(&event);
    }
}

/// A flight; counted even if its runtime ends under it.
struct Flight {
    link: Arc<Link>,
    landed: bool,
}

impl Flight {
    async fn fly(mut self) {
        loop {
            let boarded = self.link.board();
            if !boarded.is_empty() {
                self.link.send(boarded).await;
                continue;
            }
            // Under the lock that those who wait take to see whether anybody flies.
            let mut state = self.link.state.lock();
            if state.waiting.is_empty() {
                state.flights -= 1;
                drop(state);
                self.landed = true;
                return;
            }
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if !self.landed {
            self.link.state.lock().flights -= 1;
        }
    }
}

/// Connects again whenever the connection is lost, for as long as somebody has to be told something.
async fn comes_back(link: Weak<Link>, lost: Arc<Notify>, _alive: Arc<()>) {
    loop {
        lost.notified().await;
        let mut pause = PAUSES.0;
        loop {
            let Some(link) = link.upgrade() else {
                return;
            };
            if !link.listens.load(Ordering::Acquire) {
                break;
            }
            // Whether it is gone indeed, and if so a new one.
            let count = link.wire.lock().await.count;
            let ping = link.command(&redis::cmd("PING"), CONNECT).await;
            let is_new = link.wire.lock().await.count != count;
            if ping.is_ok() {
                if is_new || link.hears() {
                    link.store.tell(Event::Reconnected);
                }
                break;
            }
            link.is_in_trouble();
            drop(link);
            pause_for(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "a pause between attempts; nothing is decided by it")]
pub(crate) async fn pause_for(pause: Duration) {
    tokio::time::sleep(pause).await;
}

fn not_connected() -> Error {
    Error::new(ErrorKind::Unreachable, "no connection to the server in time")
        .with_help("is the server running, and its address right?")
        .with_nothing_changed()
}

fn late_answer(patience: Duration) -> Error {
    Error::new(ErrorKind::Unknown, format!("the server did not answer within {patience:?}"))
}

/// Whether nothing can be expected of the connection any more.
fn ends_the_connection(error: &RedisError) -> bool {
    let sent_away = matches!(error.code(), Some("READONLY" | "LOADING" | "MASTERDOWN"));
    error.is_unrecoverable_error()
        || error.is_connection_dropped()
        || error.is_io_error()
        || sent_away
}

fn rand_u128() -> u128 {
    let bytes = *tenure_core::Token::random().expose();
    u128::from_le_bytes(bytes)
}

impl Drop for Link {
    fn drop(&mut self) {
        self.lost.notify_one();
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("config", &self.config).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("hears", &self.hears()).finish_non_exhaustive()
    }
}
