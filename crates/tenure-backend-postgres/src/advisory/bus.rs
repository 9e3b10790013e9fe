//! The session that looks, asks and listens; and what processes ask each other by it.
//!
//! Only a holder's own process knows its fence, its owner's words, and how to end it without
//! ending its session. It is asked by NOTIFY, which is rare: a commit with one waits for others.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tenure_core::backend::{Departure, Event, Evicted, Eviction, Reason};
use tenure_core::clock::Moment;
use tenure_core::{Error, ErrorKind, Fence, LockName, MemberId, Result};
use tokio::sync::oneshot;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Notification, Row};

use super::holder::read;
use super::key::Key;
use super::look::{Rows, Seen};
use super::registry::State;
use super::room::Room;
use super::setup::{WITHIN_BITS, numbered};
use crate::session::{Ear, Session};

/// How long a statement of this session may take.
const ASK: Duration = Duration::from_secs(5);
/// How long processes are waited for that are asked what they know, and that are to let go.
const ANSWER: Duration = Duration::from_millis(300);
const LET_GO: Duration = Duration::from_secs(2);
/// How many bytes of an answer go into one message: the server takes 8000, quoting may double them.
const PART: usize = 3500;
/// How long a wish to be told of a lock counts, and how many there may be.
pub(crate) const WANTS: Duration = Duration::from_secs(10);
const WANTED: usize = 10_000;
/// How many parts an answer has at most.
const PARTS: usize = 1000;

/// What a statement is given.
pub(crate) type Values = Vec<(Box<dyn ToSql + Sync + Send>, Type)>;

/// The session, and the questions that are open.
#[derive(Default)]
pub(crate) struct Bus {
    control: tokio::sync::Mutex<Option<Arc<Session>>>,
    asked: Mutex<HashMap<u64, Asked>>,
    next: AtomicU64,
    /// Locks that somebody wants to be told of, and until when.
    wanted: Mutex<HashMap<Key, Moment>>,
}

struct Asked {
    waits_for: HashSet<String>,
    parts: HashMap<String, Vec<Option<String>>>,
    seen: Vec<Seen>,
    done: Option<oneshot::Sender<()>>,
}

/// A message between processes.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    from: String,
    ask: u64,
    #[serde(flatten)]
    what: What,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
enum What {
    /// What do you know of this lock?
    Who { key: i64 },
    /// Let go of this lock.
    Evict { key: i64, only_if: Option<u64>, stolen: bool, reason: Reason },
    /// Say when you give this lock back: somebody waits for it whom the server does not know.
    Want { key: i64 },
    /// It was given back.
    Free { key: i64 },
    /// A part of an answer.
    Answer { to: String, part: usize, of: usize, text: String },
}

impl Room {
    /// The session that holds no locks.
    pub(crate) async fn control(self: &Arc<Self>) -> Result<Arc<Session>> {
        let mut control = self.bus.control.lock().await;
        if let Some(session) = control.as_ref().filter(|session| !session.is_closed()) {
            return Ok(session.clone());
        }
        let room = self.clone();
        let session = self
            .on_its_own(async move {
                let ear = Arc::new(BusEar(Arc::downgrade(&room)));
                super::setup::open_control(&room, ear).await
            })
            .await?;
        let session = Arc::new(session);
        *control = Some(session.clone());
        Ok(session)
    }

    /// Asks the server something by the session that holds no locks, to the end of it also if
    /// nobody waits for the answer any more: the session would be closed for want of knowing.
    pub(crate) async fn ask_server(
        self: &Arc<Self>,
        text: impl Into<Cow<'static, str>>,
        values: Values,
    ) -> Result<Vec<Row>> {
        let (room, text) = (self.clone(), text.into());
        self.on_its_own(async move {
            let control = room.control().await?;
            let values: Vec<(&(dyn ToSql + Sync), Type)> = values
                .iter()
                .map(|(value, of)| (&**value as &(dyn ToSql + Sync), of.clone()))
                .collect();
            control.rows(ASK, &text, &values).await
        })
        .await
    }

    async fn ask_for_one(
        self: &Arc<Self>,
        text: impl Into<Cow<'static, str>>,
        values: Values,
    ) -> Result<Row> {
        let row = self.ask_server(text, values).await?.pop();
        row.ok_or_else(|| crate::error::strange("it has no rows"))
    }

    /// Whether a reader would be let in by the server: no writer holds or waits.
    pub(crate) async fn probe(self: &Arc<Self>, key: Key) -> Result<bool> {
        let text = "select case when pg_try_advisory_lock_shared($1) \
                    then pg_advisory_unlock_shared($1) else false end";
        read(&self.ask_for_one(text, vec![(Box::new(key.0), Type::INT8)]).await?, 0)
    }

    /// The last fence that was drawn, for whatever lock.
    pub(crate) async fn last_fence(self: &Arc<Self>) -> Result<Fence> {
        let schema = &self.config.schema;
        let text = format!(
            "select ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int8, \
             (select last_value from {schema}.fence)"
        );
        // Its place in its statement is not known here: the last one there can be.
        self.a_fence(text, (1 << WITHIN_BITS) - 1).await
    }

    /// Draws a fence: above all that were granted.
    async fn draw_fence(self: &Arc<Self>) -> Result<Fence> {
        let schema = &self.config.schema;
        let text = format!(
            "select ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int8, \
             nextval('{schema}.fence')"
        );
        self.a_fence(text, 0).await
    }

    async fn a_fence(self: &Arc<Self>, text: String, within: usize) -> Result<Fence> {
        match self.ask_for_one(text, Vec::new()).await {
            Ok(row) => super::setup::fence(read(&row, 0)?, numbered(read(&row, 1)?, within)),
            // Nothing was ever granted here, or this user may not look.
            Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Denied) => {
                Ok(Fence::ZERO)
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn ping(self: &Arc<Self>) -> Result<()> {
        self.ask_for_one("select 1", Vec::new()).await.map(drop)
    }

    async fn notify(self: &Arc<Self>, ask: u64, what: What) -> Result<()> {
        let note = Note { from: self.client.clone(), ask, what };
        let text = serde_json::to_string(&note).expect("notes are JSON");
        let values: Values =
            vec![(Box::new(self.channel.clone()), Type::TEXT), (Box::new(text), Type::TEXT)];
        self.ask_for_one("select pg_notify($1, $2)", values).await.map(drop)
    }

    /// Asks processes what they know of a lock.
    pub(crate) async fn ask_who(self: &Arc<Self>, key: Key, processes: &[String]) -> Vec<Seen> {
        let (seen, _) = self.ask(processes, What::Who { key: key.0 }, ANSWER).await;
        seen
    }

    /// Asks, and waits for all answers; answers who was silent as well.
    async fn ask(
        self: &Arc<Self>,
        processes: &[String],
        what: What,
        patience: Duration,
    ) -> (Vec<Seen>, HashSet<String>) {
        let waits_for: HashSet<String> =
            processes.iter().filter(|p| **p != self.client).cloned().collect();
        if waits_for.is_empty() {
            return (Vec::new(), waits_for);
        }
        let ask = self.bus.next.fetch_add(1, Ordering::Relaxed);
        let (done, answered) = oneshot::channel();
        let asked = Asked { waits_for, parts: HashMap::new(), seen: Vec::new(), done: Some(done) };
        self.bus.asked.lock().insert(ask, asked);
        let open = Open { room: self, ask };
        if self.notify(ask, what).await.is_ok() {
            let room = self.clone();
            // In the runtime of the sessions: the caller's may have no timers.
            let _ = self
                .on_its_own(async move {
                    let _ = tokio::time::timeout(patience, answered).await;
                    drop(room);
                    Ok(())
                })
                .await;
        }
        open.close()
    }

    fn on_note(self: &Arc<Self>, note: Note) {
        let Note { from, ask, what } = note;
        let room = self.clone();
        match what {
            What::Answer { to, part, of, text } if to == self.client => {
                self.take_answer(ask, &from, (part, of), text);
            }
            What::Answer { .. } => {}
            What::Want { key } => self.is_wanted(Key(key)),
            What::Free { key } => self.is_free(Key(key)),
            What::Who { key } => self.spawn(async move {
                let seen = room.seen_here(Key(key));
                room.answer(from, ask, &seen).await;
            }),
            What::Evict { key, only_if, stolen, reason } => self.spawn(async move {
                let how = departure(stolen, reason);
                let seen = room.evict_here(Key(key), only_if.map(Fence::new), &how).await;
                room.answer(from, ask, &seen).await;
            }),
        }
    }

    /// Tells all processes that this one waits for a lock without a place at the server.
    pub(crate) async fn want(self: &Arc<Self>, key: Key) {
        self.is_wanted(key);
        if let Err(error) = self.notify(0, What::Want { key: key.0 }).await {
            // It tries now and then all the same.
            tracing::debug!(%error, "others were not told that a lock is wanted");
        }
    }

    fn is_wanted(&self, key: Key) {
        let mut wanted = self.bus.wanted.lock();
        let now = self.now();
        wanted.retain(|_, until| now < *until);
        if wanted.len() < WANTED {
            wanted.insert(key, now.plus(WANTS));
        }
    }

    /// A lock was given back: whoever waits for it without a place at the server is told.
    pub(crate) fn given_back(self: &Arc<Self>, key: Key) {
        let until = self.bus.wanted.lock().get(&key).copied();
        if until.is_some_and(|until| self.now() < until) {
            self.is_free(key);
            let room = self.clone();
            self.spawn(async move {
                let _ = room.notify(0, What::Free { key: key.0 }).await;
            });
        }
    }

    async fn answer(self: &Arc<Self>, to: String, ask: u64, seen: &[Seen]) {
        let text = serde_json::to_string(seen).expect("what is seen is JSON");
        let mut parts: Vec<&str> = Vec::new();
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let end = rest.floor_char_boundary_at(PART);
            let (part, after) = rest.split_at(end);
            parts.push(part);
            rest = after;
        }
        for (part, text) in parts.iter().enumerate() {
            let (to, of, text) = (to.clone(), parts.len(), (*text).to_owned());
            if let Err(error) = self.notify(ask, What::Answer { to, part, of, text }).await {
                tracing::debug!(%error, "another process was not answered");
                return;
            }
        }
    }

    fn take_answer(&self, ask: u64, from: &str, (part, of): (usize, usize), text: String) {
        let mut all = self.bus.asked.lock();
        let Some(asked) = all.get_mut(&ask) else { return };
        if PARTS < of || of <= part || !asked.waits_for.contains(from) {
            return;
        }
        let parts = asked.parts.entry(from.to_owned()).or_insert_with(|| vec![None; of]);
        let Some(place) = parts.get_mut(part) else { return };
        *place = Some(text);
        if parts.iter().any(Option::is_none) {
            return;
        }
        let whole: String = parts.iter().flatten().map(String::as_str).collect();
        if let Ok(seen) = serde_json::from_str::<Vec<Seen>>(&whole) {
            asked.seen.extend(seen);
        }
        asked.waits_for.remove(from);
        if asked.waits_for.is_empty()
            && let Some(done) = asked.done.take()
        {
            let _ = done.send(());
        }
    }

    /// Ends holders of this process.
    async fn evict_here(
        self: &Arc<Self>,
        key: Key,
        only_if: Option<Fence>,
        how: &Departure,
    ) -> Vec<Seen> {
        let seen = self.seen_here(key);
        let victims: Vec<(MemberId, LockName)> = {
            let registry = self.registry.lock();
            let is_meant = |fence| only_if.is_none_or(|only| only == fence);
            registry
                .of(key)
                .filter(|(_, e)| matches!(e.state, State::Held(hold) if is_meant(hold.fence)))
                .map(|(member, entry)| (member, entry.name.clone()))
                .collect()
        };
        let mut ended = Vec::new();
        for (member, name) in victims {
            let leave = self.registry.lock().leave(member, how);
            let departure = how.clone();
            self.listeners.tell(&Event::Gone { name, member, departure });
            if self.end(member, leave).await.is_ok_and(|ended| ended == *how) {
                ended.extend(seen.iter().filter(|s| s.is(member)).cloned());
            }
        }
        ended
    }

    pub(crate) async fn evict(
        self: &Arc<Self>,
        name: &LockName,
        why: &Eviction,
    ) -> Result<Evicted> {
        let key = Key::of(name);
        let how = departure(why.stolen, why.reason.clone());
        let rows = self.rows(key).await?;
        let before = self.picture(key, &rows, true).await;
        if before.holders.is_empty() {
            return Ok(Evicted::NobodyThere);
        }
        if let Some(fence) = why.only_if
            && before.holders.iter().all(|h| h.fence != fence)
        {
            return Ok(Evicted::FenceMoved(before.holders));
        }
        let mut victims = self.evict_here(key, why.only_if, &how).await;
        let only_if = why.only_if.map(Fence::get);
        let (stolen, reason) = (why.stolen, why.reason.clone());
        let what = What::Evict { key: key.0, only_if, stolen, reason };
        let (others, _silent) = self.ask(&rows.processes(), what, LET_GO).await;
        victims.extend(others);
        let mut gone: Vec<_> = victims.into_iter().map(Seen::into_holder).collect();
        let is_meant = |fence| why.only_if.is_none_or(|only| only == fence);
        let left: Vec<_> = before
            .each_holder()
            .filter(|(h, _)| is_meant(h.fence) && gone.iter().all(|g| g.member != h.member))
            .collect();
        if !left.is_empty() {
            match self.rows(key).await {
                Ok(there) => {
                    // Its session may hold it again, for somebody who came later.
                    let after = self.picture(key, &there, true).await;
                    for (holder, pid) in left {
                        // A process that has nothing else to do ends when it is told, before it can
                        // answer. Those who did not let go are other programs, and processes that do
                        // not answer.
                        let holds = after.still_holds(holder.member, pid)
                            || self.has_not_let_go(&there, holder.member, pid);
                        let ended =
                            !holds || (why.only_if.is_none() && self.end_session(pid, key).await?);
                        gone.extend(ended.then(|| holder.clone()));
                    }
                }
                // Those who let go are gone, whatever becomes of the others.
                Err(error) if gone.is_empty() => return Err(error),
                Err(error) => tracing::debug!(%error, "not known who else let go of a lock"),
            }
        }
        if gone.is_empty() {
            return Err(Error::new(
                ErrorKind::Unreachable,
                "the holder's process does not answer; its lock ends with its session",
            )
            .with_help("wait for its ttl, or evict whoever holds the lock: `--any`"));
        }
        // Only for those who look: whoever is granted the lock next draws a higher one anyway.
        if let Err(error) = self.draw_fence().await {
            tracing::debug!(%error, "no fence was drawn for those who were evicted");
        }
        Ok(Evicted::Done(gone))
    }

    /// Whether the server has a lock still of one of this process that holds it no more here: it is being given back,
    /// or its session was closed, and the server has not seen that yet.
    fn has_not_let_go(&self, there: &Rows, member: MemberId, pid: i32) -> bool {
        let is_leaving = || {
            let registry = self.registry.lock();
            let entry = registry.entry(member);
            entry.is_some_and(|entry| matches!(entry.state, State::Leaving(_)))
        };
        let has_ended = || {
            let sessions = self.sessions.lock();
            sessions.values().all(|session| session.pid != pid || session.session.is_closed())
        };
        let has_it =
            |row: &super::look::Row| row.granted && row.pid == pid && row.is_of(&self.client);
        there.list.iter().any(has_it) && (is_leaving() || has_ended())
    }

    /// Ends a session that holds this lock and no other; answers whether it holds it no more.
    async fn end_session(self: &Arc<Self>, pid: i32, key: Key) -> Result<bool> {
        let values: Values = vec![(Box::new(pid), Type::INT4), (Box::new(key.0), Type::INT8)];
        let row = self.ask_for_one(include_str!("sql/end.sql"), values).await?;
        let (others, ended): (i64, bool) = (read(&row, 0)?, read(&row, 1)?);
        if 0 < others {
            return Err(Error::new(
                ErrorKind::Unreachable,
                format!("the holder's process does not answer, and its session holds {others} other locks"),
            )
            .with_help(format!("end them all: select pg_terminate_backend({pid})")));
        }
        Ok(ended)
    }
}

fn departure(stolen: bool, reason: Reason) -> Departure {
    if stolen { Departure::Stolen(reason) } else { Departure::Evicted(reason) }
}

/// An open question; it is closed also if nobody waits for its answer any more.
struct Open<'a> {
    room: &'a Room,
    ask: u64,
}

impl Open<'_> {
    fn close(self) -> (Vec<Seen>, HashSet<String>) {
        let asked = self.room.bus.asked.lock().remove(&self.ask);
        asked.map(|asked| (asked.seen, asked.waits_for)).unwrap_or_default()
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.room.bus.asked.lock().remove(&self.ask);
    }
}

/// Where to cut a text.
trait Cut {
    fn floor_char_boundary_at(&self, at: usize) -> usize;
}

impl Cut for str {
    fn floor_char_boundary_at(&self, at: usize) -> usize {
        if self.len() <= at {
            return self.len();
        }
        (0..=at).rev().find(|at| self.is_char_boundary(*at)).unwrap_or(0)
    }
}

/// Hears what other processes ask.
struct BusEar(Weak<Room>);

impl Ear for BusEar {
    fn on_notification(&self, said: &Notification) {
        let Some(room) = self.0.upgrade() else { return };
        if said.channel() != room.channel {
            return;
        }
        // Whatever else is said on the channel is nobody's business here.
        if let Ok(note) = serde_json::from_str::<Note>(said.payload())
            && note.from != room.client
        {
            room.on_note(note);
        }
    }

    fn on_end(&self) {}
}
