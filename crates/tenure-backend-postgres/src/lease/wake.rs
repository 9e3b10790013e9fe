//! Who hears of grants: one session per backend that listens on a channel of its own.
//!
//! Behind a pooler that hands sessions out by transaction nobody hears anything, and nothing says
//! so. So whoever listens first sends itself a message by another session; if that does not arrive,
//! waiters ask again and again instead, and nothing is sent to them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tenure_core::backend::Event;
use tenure_core::{Result, Token};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio_postgres::Notification;
use tokio_postgres::types::Type;

use super::link::{Store, rows};
use super::reply;
use crate::config::Server;
use crate::error;
use crate::session::{Deaf, Ear, Session};

/// What the session is called at the server.
const SESSION: &str = "tenure listens";
/// How long a message to ourselves may take, at first and at last, before we ask for it.
const ECHO: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(800));
/// How long the first who waits is held up for being heard from the start.
const START: Duration = Duration::from_secs(1);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often a session that is silent is asked whether it is there.
const CHECK: Duration = Duration::from_secs(10);
/// The pauses between attempts to be connected again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// How long nobody tries to listen where it was in vain.
const IN_VAIN: Duration = Duration::from_secs(60);
/// The message to ourselves.
const HALLO: &str = "hallo";

/// Whether messages arrive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Not yet known.
    Starting,
    Hearing,
    /// The connection was lost; it will be heard that it is back.
    Lost,
    /// They do not, and nobody knows when they will.
    Deaf,
}

/// The listener of a backend.
#[derive(Debug)]
pub(crate) struct Wake {
    store: Arc<Store>,
    channel: Arc<str>,
    /// The channel, and which of the server's processes listens there, so that the server can tell
    /// whether anybody does.
    place: Mutex<Arc<str>>,
    nowhere: Arc<str>,
    state: watch::Sender<State>,
    started: Mutex<bool>,
}

/// What the session says.
struct Hears {
    store: Arc<Store>,
    channel: Arc<str>,
    echo: Notify,
    ended: Notify,
    has_ended: AtomicBool,
}

impl Wake {
    pub(crate) fn new(store: Arc<Store>) -> Arc<Self> {
        let number = u128::from_le_bytes(*Token::random().expose());
        let channel: Arc<str> = format!("tenure_{number:032x}").into();
        Arc::new(Self {
            store,
            place: Mutex::new(channel.clone()),
            channel,
            nowhere: "".into(),
            state: watch::Sender::new(State::Starting),
            started: Mutex::new(false),
        })
    }

    /// Whether messages arrive at the moment.
    pub(crate) fn hears(&self) -> bool {
        *self.state.borrow() == State::Hearing
    }

    /// Where claims of this backend are to be told of their grants; sees to it that somebody
    /// listens, if that can be.
    pub(crate) async fn channel(
        self: &Arc<Self>,
        runtime: impl FnOnce() -> Result<Handle>,
    ) -> Arc<str> {
        if !std::mem::replace(&mut *self.started.lock(), true) {
            match runtime() {
                Ok(runtime) => {
                    runtime.spawn(listen(Arc::downgrade(self)));
                    runtime.spawn(do_not_wait(Arc::downgrade(self)));
                }
                Err(_) => self.is(State::Deaf),
            }
        }
        let mut state = self.state.subscribe();
        match state.wait_for(|state| *state != State::Starting).await {
            Ok(state) if *state == State::Deaf => self.nowhere.clone(),
            _ => self.place.lock().clone(),
        }
    }

    /// The same for claims that do not wait, and so need nobody to listen: they hear of being evicted
    /// if somebody listens anyway.
    pub(crate) fn channel_so_far(&self) -> Arc<str> {
        if self.hears() { self.place.lock().clone() } else { self.nowhere.clone() }
    }

    fn server(&self) -> &Server {
        self.store.config.listen.as_ref().unwrap_or(&self.store.config.server)
    }

    fn is(&self, state: State) {
        self.state.send_replace(state);
    }
}

/// Lets whoever waits for the beginning go on without it.
async fn do_not_wait(wake: Weak<Wake>) {
    pause_for(START).await;
    if let Some(wake) = wake.upgrade() {
        wake.state.send_if_modified(|state| {
            let starting = *state == State::Starting;
            if starting {
                *state = State::Lost;
            }
            starting
        });
    }
}

/// Listens for as long as the backend lives.
async fn listen(wake: Weak<Wake>) {
    let mut pause = PAUSES.0;
    loop {
        let Some(here) = wake.upgrade() else { return };
        let again = match begin(&here).await {
            Ok(Some((session, hears))) => {
                let was = here.state.send_replace(State::Hearing);
                if was != State::Starting {
                    here.store.listeners.tell(&Event::Reconnected);
                }
                pause = PAUSES.0;
                drop(here);
                stay(&session, &hears, &wake).await;
                let Some(here) = wake.upgrade() else { return };
                // Nobody listens for now, and is about to: not gone.
                *here.place.lock() = here.channel.clone();
                here.is(State::Lost);
                pause
            }
            Ok(None) => {
                here.is(State::Deaf);
                IN_VAIN
            }
            Err(error) => {
                tracing::debug!(%error, "nobody listens");
                // Whoever waits asks again and again until somebody listens.
                here.is(State::Lost);
                pause = (pause * 2).min(PAUSES.1);
                pause
            }
        };
        pause_for(again).await;
    }
}

/// Begins to listen; `None` if messages do not arrive.
async fn begin(wake: &Wake) -> Result<Option<(Session, Arc<Hears>)>> {
    let hears = Arc::new(Hears {
        store: wake.store.clone(),
        channel: wake.channel.clone(),
        echo: Notify::new(),
        ended: Notify::new(),
        has_ended: AtomicBool::new(false),
    });
    let session = open(wake.server(), hears.clone()).await?;
    let listen = format!("LISTEN {}", wake.channel);
    session.ask(PATIENCE, session.client().batch_execute(&listen)).await?;
    let said = rows(&session, PATIENCE, "SELECT pg_backend_pid()", &[]).await?;
    let Some(Ok(pid)) = said.first().map(|row| row.try_get::<_, i32>(0)) else {
        return Err(error::strange("who listens"));
    };
    let other = open(&wake.store.config.server, Arc::new(Deaf)).await?;
    let say = [(&&*wake.channel as _, Type::TEXT), (&HALLO as _, Type::TEXT)];
    let mut limit = ECHO.0;
    while limit <= ECHO.1 {
        rows(&other, PATIENCE, "SELECT pg_notify($1, $2)", &say).await?;
        // Nothing is asked meanwhile: a pooler could only pass it on with an answer.
        if hears.echo_within(limit).await {
            *wake.place.lock() = format!("{}:{pid}", wake.channel).into();
            return Ok(Some((session, hears)));
        }
        // A server that is merely slow sends it before it says anything else.
        session.ask(PATIENCE, session.client().batch_execute("SELECT 1")).await?;
        if !hears.echo_within(Duration::ZERO).await {
            return Ok(None);
        }
        limit *= 2;
    }
    Ok(None)
}

async fn open(server: &Server, ear: Arc<dyn Ear>) -> Result<Session> {
    let open = Session::open(server, SESSION, ear);
    tokio::time::timeout(PATIENCE, open)
        .await
        .unwrap_or_else(|_| Err(error::no_answer("no connection in time").with_nothing_changed()))
}

/// Until the session ends, or the backend.
async fn stay(session: &Session, hears: &Hears, wake: &Weak<Wake>) {
    loop {
        let _ = tokio::time::timeout(CHECK, hears.ended.notified()).await;
        if hears.has_ended.load(Ordering::Acquire) || wake.strong_count() == 0 {
            return;
        }
        let check = session.client().batch_execute("SELECT 1");
        if session.ask(PATIENCE, check).await.is_err() {
            return;
        }
    }
}

impl Hears {
    async fn echo_within(&self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.echo.notified()).await.is_ok()
    }
}

impl Ear for Hears {
    fn on_notification(&self, said: &Notification) {
        if said.channel() != &*self.channel {
            return;
        }
        if said.payload() == HALLO {
            self.echo.notify_one();
        } else if let Some(event) = reply::event(said.payload()) {
            self.store.listeners.tell(&event);
        }
    }

    fn on_end(&self) {
        self.has_ended.store(true, Ordering::Release);
        self.ended.notify_one();
    }
}

#[allow(clippy::disallowed_methods, reason = "a pause between attempts; nothing is decided by it")]
async fn pause_for(pause: Duration) {
    tokio::time::sleep(pause).await;
}
