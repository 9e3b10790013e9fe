//! Calls of one runtime that share a connection.
//!
//! A turn joins those that wait to be sent; one of a few flights takes up to [`BATCH`] of them and
//! sends them as one script, waits for the answers and goes on with what has come meanwhile. So
//! turns of many tasks share scripts under load, and one alone is sent at once.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use redis::{Cmd, PushInfo, PushKind, RedisError, Value};
use tenure_core::backend::Event;
use tenure_core::{Error, ErrorKind, Listeners, Result};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};

use crate::config::RedisConfig;
use crate::error;
use crate::push;
use crate::reply::Reader;
use crate::script::{Scripts, Turn};
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
}

/// A connection of one runtime, made when it is first needed and again when it is lost.
pub(crate) struct Link {
    store: Arc<Store>,
    runtime: Handle,
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
    /// Lives as long as the runtime does.
    alive: Weak<()>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    flights: usize,
}

struct Waiting {
    turns: Vec<Turn>,
    listens: bool,
    patience: Duration,
    answer: oneshot::Sender<Result<Vec<Value>>>,
}

#[derive(Default)]
struct Connection {
    wire: Option<Wire>,
    /// Counts the connections, so that a late failure of an old one does not end its successor.
    count: u64,
    listens: bool,
}

impl Link {
    /// A link of the runtime that this is called in, if any; it is not connected yet.
    pub(crate) fn new(store: Arc<Store>, runtime: Handle) -> Arc<Self> {
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
            runtime,
        });
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

    /// Takes turns of one kind and answers what each says, in their order. Dropped, it leaves the
    /// outcome unknown. `listens` makes sure before that messages arrive.
    pub(crate) async fn take(
        self: &Arc<Self>,
        turns: Vec<Turn>,
        listens: bool,
        patience: Duration,
    ) -> Result<Vec<Value>> {
        let (answer, answered) = oneshot::channel();
        let takes_off = {
            let mut state = self.state.lock();
            state.waiting.push_back(Waiting { turns, listens, patience, answer });
            let takes_off = state.flights < FLIGHTS;
            state.flights += usize::from(takes_off);
            takes_off
        };
        if takes_off {
            let flight = Flight { link: self.clone(), landed: false };
            self.runtime.spawn(flight.fly());
        }
        answered.await.unwrap_or_else(|_| Err(abandoned()))
    }

    /// What is sent next: all of one kind, and on a cluster for one lock each.
    fn board(&self) -> Vec<Waiting> {
        let mut state = self.state.lock();
        let mut boarded: Vec<Waiting> = Vec::new();
        let mut turns = 0;
        while let Some(next) = state.waiting.front() {
            let kind = |w: &Waiting| w.turns.first().map(|t| t.kind);
            let fits = boarded.first().is_none_or(|first| {
                !self.store.config.is_cluster()
                    && kind(first) == kind(next)
                    && turns + next.turns.len() <= BATCH
            });
            if !fits {
                break;
            }
            let next = state.waiting.pop_front().expect("it was just there");
            turns += next.turns.len();
            // Nobody waits for it any more, and it has not been sent.
            if !next.answer.is_closed() {
                boarded.push(next);
            }
        }
        boarded
    }

    async fn send(&self, boarded: Vec<Waiting>) {
        let listens = boarded.iter().any(|w| w.listens);
        let patience = boarded.iter().map(|w| w.patience).min().unwrap_or_default();
        let turns: Vec<Turn> = boarded.iter().flat_map(|w| w.turns.iter().cloned()).collect();
        match self.run(&turns, listens, patience).await {
            Ok(answers) => {
                let mut answers = answers.into_iter();
                for waiting in boarded {
                    let mine = answers.by_ref().take(waiting.turns.len()).collect();
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

    async fn run(&self, turns: &[Turn], listens: bool, patience: Duration) -> Result<Vec<Value>> {
        let Some(kind) = turns.first().map(|t| t.kind) else {
            return Ok(Vec::new());
        };
        let heard_only = !self.store.config.is_cluster();
        let (mut wire, count) = self.connected(listens, patience).await?;
        let command = |known| self.store.scripts.command(kind, heard_only, turns, known);
        let mut answer = self.ask(&mut wire, count, &command(true), patience).await;
        if answer.as_ref().is_err_and(|e| e.1 == Some("NOSCRIPT")) {
            answer = self.ask(&mut wire, count, &command(false), patience).await;
        }
        Reader::new(answer.map_err(|e| e.0)?)?.all(turns.len())
    }

    /// Does something in the runtime of this link, wherever it is asked for: connections and timers
    /// need one, and callers may have none.
    async fn at_home<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.runtime.spawn(work).await.unwrap_or_else(|_| Err(abandoned()))
    }

    /// Sends one command of any sort.
    pub(crate) async fn command(self: &Arc<Self>, cmd: Cmd, patience: Duration) -> Result<Value> {
        let link = self.clone();
        self.at_home(async move {
            let (mut wire, count) = link.connected(false, patience).await?;
            link.ask(&mut wire, count, &cmd, patience).await.map_err(|e| e.0)
        })
        .await
    }

    /// How many replicas have everything that was written so far. On a connection of its own:
    /// waiting blocks it.
    pub(crate) async fn replicate(
        self: &Arc<Self>,
        key: String,
        replicas: u32,
        limit: Duration,
    ) -> Result<u32> {
        let link = self.clone();
        self.at_home(async move { link.waits(&key, replicas, limit).await }).await
    }

    async fn waits(&self, key: &str, replicas: u32, limit: Duration) -> Result<u32> {
        let mut side = self.side.lock().await;
        let wire = match &mut *side {
            Some(wire) => wire,
            empty => {
                let opened = Wire::open(&self.store.config, Arc::new(|_| {})).await;
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

    /// All keys that fit a pattern, on all servers, in a bounded number of steps.
    pub(crate) async fn scan(
        self: &Arc<Self>,
        pattern: &'static str,
        step: usize,
        steps: usize,
        patience: Duration,
    ) -> Result<Vec<String>> {
        let link = self.clone();
        self.at_home(async move {
            let (wire, _) = link.connected(false, patience).await?;
            wire.scan(pattern, step, steps).await
        })
        .await
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
                let late = format!("the server did not answer within {patience:?}");
                Err((Error::new(ErrorKind::Unknown, late), None))
            }
        }
    }

    async fn connected(&self, listens: bool, patience: Duration) -> Result<(Wire, u64)> {
        let late = || {
            Error::new(ErrorKind::Unreachable, "no connection to the server in time")
                .with_help("is the server running, and its address right?")
                .with_nothing_changed()
        };
        let connect = async {
            let mut connection = self.wire.lock().await;
            if listens {
                self.listens.store(true, Ordering::Release);
            }
            let listens = self.listens.load(Ordering::Acquire);
            let wire = match &mut connection.wire {
                Some(wire) => wire.clone(),
                None => {
                    connection.count += 1;
                    connection.listens = false;
                    let opened = Wire::open(&self.store.config, self.on_push()).await;
                    connection.wire = Some(opened.map_err(|e| error::not_sent(&e))?);
                    connection.wire.clone().expect("just put there")
                }
            };
            if listens && !connection.listens {
                let mut listening = wire.clone();
                let subscribed = listening.subscribe(&self.channel).await;
                if let Err(error) = subscribed {
                    connection.wire = None;
                    return Err(error::not_sent(&error));
                }
                connection.listens = true;
                self.hears.store(true, Ordering::Release);
            }
            Ok((wire, connection.count))
        };
        tokio::time::timeout(patience.max(Duration::from_millis(100)).min(CONNECT), connect)
            .await
            .unwrap_or_else(|_| Err(late()))
    }

    async fn hang_up(&self, count: u64) {
        let mut connection = self.wire.lock().await;
        if connection.count == count && connection.wire.take().is_some() {
            self.hears.store(false, Ordering::Release);
            self.lost.notify_one();
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
    fn tell(&self, event: Event) {
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
            let ping = link.command(redis::cmd("PING"), CONNECT).await;
            let is_new = link.wire.lock().await.count != count;
            if ping.is_ok() {
                if is_new || link.hears() {
                    link.store.tell(Event::Reconnected);
                }
                break;
            }
            drop(link);
            pause_for(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "a pause between attempts; nothing is decided by it")]
async fn pause_for(pause: Duration) {
    tokio::time::sleep(pause).await;
}

/// Whether nothing can be expected of the connection any more.
fn ends_the_connection(error: &RedisError) -> bool {
    let sent_away = matches!(error.code(), Some("READONLY" | "LOADING" | "MASTERDOWN"));
    error.is_unrecoverable_error()
        || error.is_connection_dropped()
        || error.is_io_error()
        || sent_away
}

fn abandoned() -> Error {
    Error::new(ErrorKind::Unknown, "the runtime of this call ended while it was sent")
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
