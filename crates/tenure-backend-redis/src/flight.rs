//! Turns that share a connection.
//!
//! A turn joins those that wait to be sent; one of a few flights takes up to [`BATCH`] of them and
//! sends them as one script, waits for the answers and goes on with what has come meanwhile. So
//! turns of many tasks share scripts under load, and one alone is sent at once, by its caller. To
//! the node of a cluster, where a script may touch one slot only, they go as so many scripts in one
//! write.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_lite::future::poll_once;
use parking_lot::Mutex;
use redis::{Pipeline, RedisResult, Value};
use tenure_core::Result;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::error;
use crate::link::{Connected, Link, abandoned};
use crate::reply::Answer;
use crate::script::{Kind, Turn};

/// The most turns in one script: what the server does in well under a millisecond.
const BATCH: usize = 32;
/// The most scripts under way at a time.
const FLIGHTS: usize = 4;

/// What waits to be sent over a link, and who sends it.
#[derive(Default)]
pub(crate) struct Flights {
    state: Mutex<State>,
    /// Whoever brings answers has this until what they lead to is sent, so that the server works on
    /// that while the next answers are brought. Otherwise all would be sent and answered together,
    /// and client and server would wait for each other in turn.
    delivers: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    /// How many take from them.
    flights: usize,
}

struct Waiting {
    parcel: Parcel,
    answer: oneshot::Sender<Result<Vec<Answer>>>,
}

/// Turns of one kind, and how they are to be sent.
pub(crate) struct Parcel {
    /// On a cluster all of one slot.
    pub(crate) turns: Vec<Turn>,
    /// Whether messages have to arrive before.
    pub(crate) listens: bool,
    /// Whether the node is sent what does not belong to it yet.
    pub(crate) asking: bool,
}

impl Parcel {
    fn kind(&self) -> Kind {
        self.turns.first().map_or(Kind::Other, |turn| turn.kind)
    }
}

impl Link {
    /// Takes turns and answers what each says, in their order. Dropped, it leaves the outcome
    /// unknown.
    pub(crate) async fn take(self: &Arc<Self>, parcel: Parcel) -> Result<Vec<Answer>> {
        if self.fly_alone() {
            let _alone = Alone { link: self.clone() };
            return self.send_one(&parcel).await;
        }
        let (answer, answered) = oneshot::channel();
        let takes_off = {
            let mut state = self.flights.state.lock();
            state.waiting.push_back(Waiting { parcel, answer });
            let takes_off = state.flights < FLIGHTS;
            state.flights += usize::from(takes_off);
            takes_off
        };
        if takes_off {
            self.runtime.spawn(Flight { link: self.clone(), landed: false }.fly());
        }
        answered.await.unwrap_or_else(|_| Err(abandoned()))
    }

    /// Whether a caller of this runtime may send its turns itself, because nobody else sends any: that
    /// spares two tasks and a message.
    fn fly_alone(&self) -> bool {
        if self.node.is_some()
            || !Handle::try_current().is_ok_and(|here| here.id() == self.runtime.id())
        {
            return false;
        }
        let mut state = self.flights.state.lock();
        let alone = state.flights == 0;
        state.flights += usize::from(alone);
        alone
    }

    /// What is sent next: all of one kind.
    fn board(&self) -> Vec<Waiting> {
        let mut state = self.flights.state.lock();
        let mut boarded: Vec<Waiting> = Vec::new();
        let mut turns = 0;
        while let Some(next) = state.waiting.front() {
            let fits = boarded.first().is_none_or(|first| {
                first.parcel.kind() == next.parcel.kind()
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

    async fn send_one(self: &Arc<Self>, parcel: &Parcel) -> Result<Vec<Answer>> {
        let connected = self.connected(parcel.listens).await?;
        let turns: Vec<&Turn> = parcel.turns.iter().collect();
        self.run(&turns, connected).await
    }

    /// Answers one by one what those on board asked, in their order.
    async fn send(self: &Arc<Self>, boarded: &[Waiting]) -> Vec<Result<Vec<Answer>>> {
        let listens = boarded.iter().any(|w| w.parcel.listens);
        let connected = match self.connected(listens).await {
            Ok(connected) => connected,
            Err(error) => {
                // Whoever waits for it may be gone: nobody but this tells of it.
                self.is_in_trouble();
                return vec![Err(error); boarded.len()];
            }
        };
        if self.node.is_some() {
            return self.run_each(boarded, connected).await;
        }
        let turns: Vec<&Turn> = boarded.iter().flat_map(|w| &w.parcel.turns).collect();
        match self.run(&turns, connected).await {
            Ok(answers) => {
                let mut answers = answers.into_iter();
                let mut mine = |w: &Waiting| answers.by_ref().take(w.parcel.turns.len()).collect();
                boarded.iter().map(|waiting| Ok(mine(waiting))).collect()
            }
            Err(error) => vec![Err(error); boarded.len()],
        }
    }

    /// All turns as one script.
    async fn run(&self, turns: &[&Turn], mut connected: Connected) -> Result<Vec<Answer>> {
        let Some(kind) = turns.first().map(|t| t.kind) else {
            return Ok(Vec::new());
        };
        let age = connected.age();
        let command = |known| self.store.scripts.command(kind, Some(age), turns, known);
        let mut answer = self.ask(&mut connected, &command(true)).await;
        if answer.as_ref().is_err_and(|e| e.1 == Some("NOSCRIPT")) {
            answer = self.ask(&mut connected, &command(false)).await;
        }
        Answer::all(answer.map_err(|e| e.0)?, turns.len())
    }

    /// A script for each, in one write.
    async fn run_each(
        &self,
        boarded: &[Waiting],
        mut connected: Connected,
    ) -> Vec<Result<Vec<Answer>>> {
        let mut answers: Vec<Option<Result<Vec<Answer>>>> = Vec::new();
        answers.resize_with(boarded.len(), || None);
        let mut texts = Texts::None;
        loop {
            let open: Vec<usize> = (0..boarded.len()).filter(|&n| answers[n].is_none()).collect();
            if open.is_empty() {
                return answers.into_iter().flatten().collect();
            }
            let mut pipeline = Pipeline::with_capacity(open.len());
            let mut scripts = Vec::with_capacity(open.len());
            for &n in &open {
                let parcel = &boarded[n].parcel;
                if parcel.asking {
                    pipeline.cmd("ASKING");
                }
                let known = match texts {
                    Texts::None => true,
                    Texts::First => !scripts.is_empty(),
                    Texts::All => false,
                };
                let turns: Vec<&Turn> = parcel.turns.iter().collect();
                // Whoever is subscribed may be so at another node, which `PUBLISH` does not count.
                let script = self.store.scripts.command(parcel.kind(), None, &turns, known);
                pipeline.add_command(script);
                scripts.push((pipeline.len() - 1, known));
            }
            let said = match self.ask_all(&mut connected, &pipeline).await {
                Ok(said) => said,
                Err(error) => {
                    let or_failed = |a: Option<_>| a.unwrap_or_else(|| Err(error.clone()));
                    return answers.into_iter().map(or_failed).collect();
                }
            };
            let mut said: Vec<Option<Value>> = said.into_iter().map(Some).collect();
            for (n, (at, known)) in open.into_iter().zip(scripts) {
                let said = said.get_mut(at).and_then(Option::take).unwrap_or(Value::Nil);
                let said: RedisResult<Value> = match said {
                    Value::ServerError(error) => Err(error.into()),
                    said => Ok(said),
                };
                if known && said.as_ref().is_err_and(|e| e.code() == Some("NOSCRIPT")) {
                    continue;
                }
                if let Err(error) = &said {
                    self.look_at(error, connected.count()).await;
                }
                let said = said.map_err(|error| error::failed(&error));
                let turns = boarded[n].parcel.turns.len();
                // One that failed is sent to another node, perhaps, and the others with it.
                answers[n] = Some(said.and_then(|value| Answer::all_sound(value, turns)));
            }
            texts = if texts == Texts::None { Texts::First } else { Texts::All };
        }
    }
}

/// Which scripts of one write are sent with their text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Texts {
    None,
    /// It makes the script known to those behind it.
    First,
    /// The first was sent away with it.
    All,
}

/// A flight; counted even if its runtime ends under it.
struct Flight {
    link: Arc<Link>,
    landed: bool,
}

impl Flight {
    async fn fly(mut self) {
        let link = self.link.clone();
        let mut delivers = None;
        loop {
            let boarded = link.board();
            if boarded.is_empty() {
                // Under the lock that those who wait take to see whether anybody flies.
                let mut state = link.flights.state.lock();
                if state.waiting.is_empty() {
                    state.flights -= 1;
                    self.landed = true;
                    return;
                }
                continue;
            }
            let answers = {
                let mut sent = std::pin::pin!(link.send(&boarded));
                let answers = poll_once(sent.as_mut()).await;
                drop(delivers.take());
                match answers {
                    Some(answers) => answers,
                    None => sent.await,
                }
            };
            delivers = Some(link.flights.delivers.lock().await);
            for (waiting, answers) in boarded.into_iter().zip(answers) {
                let _ = waiting.answer.send(answers);
            }
            // Those who were answered ask anew.
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if !self.landed {
            // Its runtime has ended: nobody sends what waits.
            let mut state = self.link.flights.state.lock();
            state.flights -= 1;
            state.waiting.clear();
        }
    }
}

/// A caller that sends its turns itself. Those who come meanwhile may have found enough flights.
struct Alone {
    link: Arc<Link>,
}

impl Drop for Alone {
    fn drop(&mut self) {
        let mut state = self.link.flights.state.lock();
        if state.waiting.is_empty() {
            state.flights -= 1;
            return;
        }
        drop(state);
        self.link.runtime.spawn(Flight { link: self.link.clone(), landed: false }.fly());
    }
}
