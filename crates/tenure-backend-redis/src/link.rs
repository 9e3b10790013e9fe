//! A connection of one runtime, made when it is first needed and again when it is lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use redis::{Cmd, ConnectionInfo, Pipeline, PushInfo, PushKind, RedisError, RedisResult, Value};
use tenure_core::backend::Event;
use tenure_core::clock::{Clock, Moment, SystemClock};
use tenure_core::{Error, ErrorKind, Listeners, Result};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};

use crate::config::{Place, RedisConfig};
use crate::error;
use crate::flight::Flights;
use crate::looks::Looks;
use crate::pulse::{self, Pulse};
use crate::push::{self, Heard};
use crate::script::Scripts;
use crate::sentinel::Sentry;
use crate::slots::{Address, Slots};
use crate::wire::{CONNECT, OnPush, Wire};

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
    pub(crate) store: Arc<Store>,
    pub(crate) runtime: Handle,
    /// The node of a cluster that it leads to; `None` if there is one server only.
    pub(crate) node: Option<Node>,
    /// Where this link hears of its waiters and holders; nobody else's business.
    channel: String,
    pub(crate) flights: Flights,
    wire: tokio::sync::Mutex<Connection>,
    /// Whether messages arrive.
    hears: AtomicBool,
    /// Whether somebody has asked for messages, so that they have to arrive again.
    listens: AtomicBool,
    lost: Arc<Notify>,
    looks: Arc<Looks>,
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
struct Connection {
    wire: Option<Connected>,
    /// Counts the connections, so that a late failure of an old one does not end its successor.
    count: u64,
    listens: bool,
}

/// A connection as calls use it; clones are the same one.
#[derive(Clone)]
pub(crate) struct Connected {
    wire: Wire,
    pulse: Arc<Pulse>,
    count: u64,
    since: Moment,
}

impl Connected {
    /// How long it has been there.
    pub(crate) fn age(&self) -> Duration {
        SystemClock.now().since(self.since)
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }
}

impl Link {
    /// A link of this runtime to the one server, or to a node; it is not connected yet.
    pub(crate) fn new(store: Arc<Store>, runtime: Handle, node: Option<Node>) -> Arc<Self> {
        let alive = Arc::new(());
        let looks = Looks::new(&store, &runtime);
        let link = Arc::new(Self {
            store,
            alive: Arc::downgrade(&alive),
            channel: format!("tenure:wake:{:032x}", rand_u128()),
            flights: Flights::default(),
            wire: tokio::sync::Mutex::default(),
            hears: AtomicBool::new(false),
            listens: AtomicBool::new(false),
            lost: Arc::new(Notify::new()),
            looks,
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
            let asked = async {
                let mut connected = link.connected(false).await?;
                link.ask(&mut connected, &cmd).await.map_err(|e| e.0)
            };
            let late = || Error::new(ErrorKind::Unknown, "the server did not answer in time");
            tokio::time::timeout(patience, asked).await.unwrap_or_else(|_| Err(late()))
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
            let page = self.command(cmd, patience).await?;
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
            (wire.is_none_or(|it| it.wire.at() == Some(&primary)), connection.count)
        };
        if !is_there {
            *self.primary.lock() = Some(primary);
            self.hang_up(count).await;
        }
        *self.side.lock().await = None;
    }

    /// Sends a command and waits for its answer, or until the connection is dead; the word is the
    /// server's, if it does not know the script.
    pub(crate) async fn ask(
        &self,
        connected: &mut Connected,
        cmd: &Cmd,
    ) -> Result<Value, (Error, Option<&'static str>)> {
        let Connected { wire, pulse, count, .. } = connected;
        match pulse.call(wire.send(cmd)).await {
            Some(Ok(value)) => Ok(value),
            Some(Err(error)) => {
                self.look_at(&error, *count).await;
                let unknown_script = error.code() == Some("NOSCRIPT");
                Err((error::failed(&error), unknown_script.then_some("NOSCRIPT")))
            }
            None => Err((silent(), None)),
        }
    }

    /// Sends commands in one write and waits for all answers; each may be an error.
    pub(crate) async fn ask_all(
        &self,
        connected: &mut Connected,
        commands: &Pipeline,
    ) -> Result<Vec<Value>> {
        let Connected { wire, pulse, count, .. } = connected;
        match pulse.call(wire.send_all(commands)).await {
            Some(Ok(values)) => Ok(values),
            Some(Err(error)) => {
                self.look_at(&error, *count).await;
                Err(error::failed(&error))
            }
            None => Err(silent()),
        }
    }

    /// Hangs up after an error that leaves nothing to be expected of the connection.
    pub(crate) async fn look_at(&self, error: &RedisError, count: u64) {
        if ends_the_connection(error) {
            self.hang_up(count).await;
        }
    }

    /// The connection, made if there is none. Whoever does not wait for that any longer leaves the
    /// making of it to the next: otherwise short calls would never be connected.
    pub(crate) async fn connected(self: &Arc<Self>, listens: bool) -> Result<Connected> {
        if listens {
            self.listens.store(true, Ordering::Release);
        }
        let listens = self.listens.load(Ordering::Acquire);
        if let Ok(connection) = self.wire.try_lock()
            && let Some(connected) = &connection.wire
            && (connection.listens || !listens)
        {
            return Ok(connected.clone());
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
        match tokio::time::timeout(CONNECT, told).await {
            Ok(Ok(made)) => made,
            _ => Err(not_connected()),
        }
    }

    async fn connect(
        self: &Arc<Self>,
        connection: &mut Connection,
        listens: bool,
    ) -> Result<Connected> {
        let connected = match &mut connection.wire {
            Some(connected) => connected.clone(),
            None => {
                connection.count += 1;
                connection.listens = false;
                let opened = self.open(self.on_push()).await;
                let wire = opened.map_err(|e| error::not_sent(&e))?;
                let (pulse, count) = (Arc::new(Pulse::default()), connection.count);
                let watch = pulse::watch(Arc::downgrade(self), count, pulse.clone(), wire.clone());
                self.runtime.spawn(watch);
                let since = SystemClock.now();
                connection.wire.insert(Connected { wire, pulse, count, since }).clone()
            }
        };
        if listens && !connection.listens {
            let mut listening = connected.wire.clone();
            if let Err(error) = listening.subscribe(&self.channel).await {
                // A connection that is merely refused this goes on for all others; and whoever
                // watches one that is given up holds it open until it hears of that.
                if ends_the_connection(&error) {
                    connection.wire = None;
                    connected.pulse.ends();
                }
                return Err(error::not_sent(&error));
            }
            connection.listens = true;
            self.hears.store(true, Ordering::Release);
        }
        Ok(connected)
    }

    /// Somebody should look whether the node has lost its slots.
    pub(crate) fn is_in_trouble(&self) {
        if let Some(node) = &self.node {
            node.trouble.notify_one();
        }
    }

    /// Ends a connection, and the calls that wait for its answers.
    pub(crate) async fn hang_up(&self, count: u64) {
        let mut connection = self.wire.lock().await;
        if connection.count == count
            && let Some(connected) = connection.wire.take()
        {
            connected.pulse.ends();
            self.hears.store(false, Ordering::Release);
            self.lost.notify_one();
            self.is_in_trouble();
        }
    }

    fn on_push(&self) -> OnPush {
        let (store, channel) = (self.store.clone(), self.channel.clone());
        let (lost, looks) = (self.lost.clone(), self.looks.clone());
        Arc::new(move |push: PushInfo| {
            if push.kind == PushKind::Disconnection {
                lost.notify_one();
                return;
            }
            match push::heard(&push, &channel, &store.config.prefix) {
                Some(Heard::Now(event)) => store.tell(event),
                Some(Heard::Later { name, member, after }) => looks.add(name, member, after),
                None => {}
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

fn silent() -> Error {
    Error::new(ErrorKind::Unknown, "the connection ended before the server answered")
}

pub(crate) fn abandoned() -> Error {
    Error::new(ErrorKind::Unknown, "the runtime of this call ended while it was sent")
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
        if let Some(connected) = self.wire.get_mut().wire.take() {
            connected.pulse.ends();
        }
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
