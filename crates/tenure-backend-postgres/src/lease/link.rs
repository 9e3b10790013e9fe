//! Calls of one runtime that share a connection.
//!
//! A turn joins those that wait to be sent; whoever flies takes all of a kind, sends them as one
//! statement, waits for the answers and goes on with what has come meanwhile. So turns of many tasks
//! share statements under load, and one alone is sent at once.
//!
//! One statement at a time is under way on a connection. A pooler hands the server's session on when it
//! has seen one answer, and whoever has it next would get the answers to what was sent behind it, should
//! we be gone by then. That nobody takes such an answer for his own is seen to as well: each carries the
//! number of its question.
//!
//! That statement waits for nobody: what another transaction has locked is left out, and sent again
//! alone on a connection of its own, which may wait. Somebody who sits on the row of one lock holds
//! up those who ask for that lock, and nobody else.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tenure_core::{Error, ErrorKind, Listeners, LockName, Result};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::AbortHandle;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::install;
use super::reply::Answer;
use super::turn::{IfLocked, Statements, Turn};
use crate::config::PostgresConfig;
use crate::error::{self, Meaning};
use crate::session::{Deaf, Session};

/// The most connections that wait for rows.
const SIDES: usize = 4;
/// How long connecting may take, installing included.
const CONNECT: Duration = Duration::from_secs(5);
/// What sessions are called at the server.
const SESSION: &str = "tenure";

/// How long a call waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// For an answer, before the connection counts as dead.
    pub(crate) answer: Duration,
    /// For a row that another transaction has.
    pub(crate) row: Duration,
}

/// What all links of a backend share.
pub(crate) struct Store {
    pub(crate) config: PostgresConfig,
    pub(crate) statements: Statements,
    pub(crate) listeners: Listeners,
}

/// Connections of one runtime, made when they are first needed and again when they are lost.
pub(crate) struct Link {
    store: Arc<Store>,
    runtime: Handle,
    state: Mutex<State>,
    main: tokio::sync::Mutex<Option<Arc<Session>>>,
    /// Connections that wait for rows; one is kept.
    sides: Semaphore,
    side: Mutex<Option<Arc<Session>>>,
    /// Lives as long as the runtime does.
    alive: Weak<()>,
    life: AbortHandle,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    flies: bool,
}

struct Waiting {
    turn: Turn,
    patience: Patience,
    answer: oneshot::Sender<Result<Answer>>,
}

impl Link {
    /// A link of this runtime; it is not connected yet.
    pub(crate) fn new(store: Arc<Store>, runtime: Handle) -> Arc<Self> {
        let life = Arc::new(());
        let alive = Arc::downgrade(&life);
        let life = runtime.spawn(async move {
            let _life = life;
            std::future::pending::<()>().await;
        });
        Arc::new(Self {
            store,
            state: Mutex::default(),
            main: tokio::sync::Mutex::default(),
            sides: Semaphore::new(SIDES),
            side: Mutex::default(),
            alive,
            life: life.abort_handle(),
            runtime,
        })
    }

    /// Whether its runtime still runs.
    pub(crate) fn is_alive(&self) -> bool {
        0 < self.alive.strong_count()
    }

    /// Takes a turn. Dropped, it leaves the outcome unknown.
    pub(crate) async fn take(self: &Arc<Self>, turn: Turn, patience: Patience) -> Result<Answer> {
        if let Some(flight) = self.alone() {
            return flight.fly_alone(turn, patience).await;
        }
        let mut answers = self.take_all(vec![turn], patience).await;
        answers.pop().unwrap_or_else(|| Err(error::strange("no answer")))
    }

    /// A flight for whoever has the connection to itself, and so need not wait for a task to be woken.
    fn alone(self: &Arc<Self>) -> Option<Flight> {
        let here = Handle::try_current().ok()?;
        let mut state = self.state.lock();
        if here.id() != self.runtime.id() || state.flies || !state.waiting.is_empty() {
            return None;
        }
        state.flies = true;
        Some(Flight { link: self.clone(), landed: false, alone: true })
    }

    /// Takes turns, and answers each in their order.
    pub(crate) async fn take_all(
        self: &Arc<Self>,
        turns: Vec<Turn>,
        patience: Patience,
    ) -> Vec<Result<Answer>> {
        let mut answered = Vec::with_capacity(turns.len());
        let takes_off = {
            let mut state = self.state.lock();
            for turn in turns {
                let (answer, receiver) = oneshot::channel();
                state.waiting.push_back(Waiting { turn, patience, answer });
                answered.push(receiver);
            }
            !std::mem::replace(&mut state.flies, true)
        };
        if takes_off {
            let flight = Flight { link: self.clone(), landed: false, alone: false };
            self.runtime.spawn(flight.fly());
        }
        let mut answers = Vec::with_capacity(answered.len());
        for answer in answered {
            answers.push(answer.await.unwrap_or_else(|_| Err(runtime_ended())));
        }
        answers
    }

    /// Does something with the session, as the turns do.
    pub(crate) async fn with<T, W>(
        self: &Arc<Self>,
        work: impl FnOnce(Arc<Session>) -> W + Send + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
        W: Future<Output = Result<T>> + Send + 'static,
    {
        let link = self.clone();
        let task = self.runtime.spawn(async move {
            let mut main = link.main.lock().await;
            work(link.connected(&mut main).await?).await
        });
        task.await.unwrap_or_else(|_| Err(runtime_ended()))
    }

    /// Asks whether the server answers; installs nothing.
    pub(crate) async fn ping(self: &Arc<Self>, patience: Duration) -> Result<()> {
        let link = self.clone();
        let task = self.runtime.spawn(async move {
            let main = link.main.lock().await;
            let session = match &*main {
                Some(session) if !session.is_closed() => session.clone(),
                _ => Arc::new(link.open_bare().await?),
            };
            session.rows(patience, "SELECT 1", &[]).await.map(drop)
        });
        task.await.unwrap_or_else(|_| Err(runtime_ended()))
    }

    /// Does something that nobody waits for.
    pub(crate) fn in_the_background(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(work);
    }

    /// What is sent next: of the kind that has waited longest, all there are.
    fn board(&self) -> Vec<Waiting> {
        let mut state = self.state.lock();
        let Some(kind) = state.waiting.front().map(|w| w.turn.kind()) else {
            return Vec::new();
        };
        let mut boarded = Vec::new();
        let mut left = VecDeque::new();
        for waiting in std::mem::take(&mut state.waiting) {
            if waiting.answer.is_closed() {
                // Nobody waits for it any more, and it has not been sent.
                continue;
            }
            if waiting.turn.kind() == kind && boarded.len() < kind.batch() {
                boarded.push(waiting);
            } else {
                left.push_back(waiting);
            }
        }
        state.waiting = left;
        boarded
    }

    async fn send(self: &Arc<Self>, boarded: Vec<Waiting>) {
        let patience = boarded.iter().map(|w| w.patience.answer).min().unwrap_or_default();
        let turns: Vec<&Turn> = boarded.iter().map(|w| &w.turn).collect();
        let sent = self.run_on_main(&turns, patience).await;
        let mut again: HashMap<LockName, Vec<Waiting>> = HashMap::new();
        match sent {
            Ok(answers) => {
                for (waiting, answer) in boarded.into_iter().zip(answers) {
                    if answer.is_skipped() {
                        again.entry(waiting.turn.name.clone()).or_default().push(waiting);
                    } else {
                        let _ = waiting.answer.send(Ok(answer));
                    }
                }
            }
            // One of them may be to blame, or a row that is not to be seen yet.
            Err(error) if is_worth_another_try(&error) => {
                for waiting in boarded {
                    again.entry(waiting.turn.name.clone()).or_default().push(waiting);
                }
            }
            Err(error) => tell_all(boarded, &error),
        }
        for group in again.into_values() {
            self.runtime.spawn(self.clone().send_aside(group));
        }
    }

    /// Sends turns of one lock, and waits for its row.
    async fn send_aside(self: Arc<Self>, group: Vec<Waiting>) {
        let patience = group.iter().map(|w| w.patience.answer).min().unwrap_or_default();
        let for_row = group.iter().map(|w| w.patience.row).min().unwrap_or_default();
        let turns: Vec<&Turn> = group.iter().map(|w| &w.turn).collect();
        let sent = async {
            let permit = tokio::time::timeout(for_row, self.sides.acquire()).await;
            let Ok(Ok(_permit)) = permit else {
                return Ok(turns.iter().map(|_| Answer::RowTaken).collect());
            };
            let kept = self.side.lock().take();
            let session = match kept {
                Some(session) if !session.is_closed() => session,
                _ => Arc::new(self.open(patience).await?),
            };
            let mut answers = Vec::new();
            for chunk in turns.chunks(turns[0].kind().batch()) {
                let limit = for_row + patience;
                match self.run(&session, chunk, IfLocked::Wait(for_row), limit).await {
                    Ok(said) => answers.extend(said),
                    Err(error) if code(&error) == Some("55P03") => {
                        answers.extend(chunk.iter().map(|_| Answer::RowTaken));
                    }
                    Err(error) => return Err(error),
                }
            }
            *self.side.lock() = Some(session);
            Ok::<Vec<Answer>, Error>(answers)
        };
        match sent.await {
            Ok(answers) => {
                for (waiting, answer) in group.into_iter().zip(answers) {
                    let _ = waiting.answer.send(Ok(answer));
                }
            }
            Err(error) => tell_all(group, &error),
        }
    }

    async fn run_on_main(&self, turns: &[&Turn], patience: Duration) -> Result<Vec<Answer>> {
        let mut main = self.main.lock().await;
        let session = self.connected(&mut main).await?;
        let sent = self.run(&session, turns, IfLocked::Skip, patience).await;
        if !sent.as_ref().is_err_and(is_missing) {
            return sent;
        }
        // Somebody dropped the schema: whoever connects next installs it.
        let session = self.connected(&mut main).await?;
        self.run(&session, turns, IfLocked::Skip, patience).await
    }

    async fn run(
        &self,
        session: &Session,
        turns: &[&Turn],
        if_locked: IfLocked,
        patience: Duration,
    ) -> Result<Vec<Answer>> {
        let statement = self.store.statements.take(session.client(), turns, if_locked);
        let answers = session.ask(patience, statement).await;
        if answers.as_ref().is_err_and(is_missing) {
            session.close();
        }
        let answers = answers?;
        if answers.is_err() {
            // What comes next would not be understood either.
            session.close();
        }
        answers
    }

    /// The session that turns share.
    async fn connected(&self, main: &mut Option<Arc<Session>>) -> Result<Arc<Session>> {
        if let Some(session) = main
            && !session.is_closed()
        {
            return Ok(session.clone());
        }
        let open = tokio::time::timeout(CONNECT * 2, self.open(CONNECT));
        let session = Arc::new(open.await.unwrap_or_else(|_| Err(not_in_time()))?);
        *main = Some(session.clone());
        Ok(session)
    }

    async fn open(&self, patience: Duration) -> Result<Session> {
        let session = self.open_bare().await?;
        let schema = &self.store.config.schema;
        install::ensure(&session, schema, &self.store.statements, patience).await?;
        Ok(session)
    }

    async fn open_bare(&self) -> Result<Session> {
        let open = Session::open(&self.store.config.server, SESSION, Arc::new(Deaf));
        tokio::time::timeout(CONNECT, open).await.map_err(|_| not_in_time())?
    }
}

/// What a single statement answers.
pub(crate) async fn rows(
    session: &Session,
    patience: Duration,
    statement: &str,
    params: &[(&(dyn ToSql + Sync), Type)],
) -> Result<Vec<Row>> {
    let answer = session.rows(patience, statement, params).await;
    if answer.as_ref().is_err_and(is_missing) {
        session.close();
    }
    answer
}

/// Whether the schema, or something in it, is not there.
fn is_missing(error: &Error) -> bool {
    code(error).map(error::meaning) == Some(Meaning::Missing)
}

/// Whether the server rolled the statement back for a reason that may lie with one of its turns.
fn is_worth_another_try(error: &Error) -> bool {
    let meaning = code(error).map(error::meaning);
    error.changed_nothing()
        && matches!(
            meaning,
            Some(Meaning::Cancelled | Meaning::Deadlock | Meaning::GaveWay | Meaning::Strange)
        )
}

/// The server's code, if it was the server who said it.
fn code(error: &Error) -> Option<&str> {
    let source = std::error::Error::source(error)?;
    Some(source.downcast_ref::<tokio_postgres::Error>()?.code()?.code())
}

fn tell_all(all: Vec<Waiting>, error: &Error) {
    for waiting in all {
        let _ = waiting.answer.send(Err(error.clone()));
    }
}

fn runtime_ended() -> Error {
    Error::new(ErrorKind::Unknown, "the runtime of this call ended while it was sent")
}

fn not_in_time() -> Error {
    Error::new(ErrorKind::Unreachable, "no connection to the server in time")
        .with_help("is the server running, and its address right?")
        .with_nothing_changed()
}

/// A flight; it ends even if its runtime ends under it.
struct Flight {
    link: Arc<Link>,
    landed: bool,
    /// Flown by whoever asks.
    alone: bool,
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
                state.flies = false;
                drop(state);
                self.landed = true;
                return;
            }
        }
    }

    async fn fly_alone(self, turn: Turn, patience: Patience) -> Result<Answer> {
        let sent = self.link.run_on_main(&[&turn], patience.answer).await;
        let link = self.link.clone();
        drop(self);
        match sent.map(|mut answers| answers.pop()) {
            Ok(Some(answer)) if !answer.is_skipped() => Ok(answer),
            Err(error) if !is_worth_another_try(&error) => Err(error),
            _ => {
                let (answer, answered) = oneshot::channel();
                let group = vec![Waiting { turn, patience, answer }];
                link.runtime.spawn(link.clone().send_aside(group));
                answered.await.unwrap_or_else(|_| Err(runtime_ended()))
            }
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if self.landed {
            return;
        }
        let mut state = self.link.state.lock();
        if !self.alone || state.waiting.is_empty() {
            state.flies = false;
            return;
        }
        drop(state);
        // Those who came meanwhile count on it.
        let flight = Flight { link: self.link.clone(), landed: false, alone: false };
        self.link.runtime.spawn(flight.fly());
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.life.abort();
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("config", &self.config).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("is_alive", &self.is_alive()).finish_non_exhaustive()
    }
}
