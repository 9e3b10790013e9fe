//! A session that holds locks, and the wishes that wait to be sent to it.
//!
//! One statement is under way at a time; what comes meanwhile goes out together with the next one.
//! So one wish alone is sent at once, and those of many tasks share a statement under load. The next
//! one is sent before anything is done with the answers to the last, and many wishes go in two
//! halves: so the server has something to do while we do ours.
//!
//! A flight, a statement with what is done with its answers, is driven by one of those who wait for
//! it, in its own runtime: the others of that runtime are woken without a switch of threads. If
//! that one stands still or goes away, the thread of the sessions drives it on.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};

use parking_lot::Mutex;
use tenure_core::Result;
use tenure_core::clock::Moment;
use tokio::sync::oneshot;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};

use super::key::Key;
use super::registry::SessionId;
use super::room::Room;
use super::setup::{WITHIN_BITS, numbered};
use crate::error;
use crate::session::{FOR_EVER, Session};

/// How many locks a session holds well: with more, each further statement costs more.
pub(crate) const SHARE: usize = 1000;
/// The most that it holds, while others are being opened: to open one costs more than some thousand
/// locks.
pub(crate) const FULL: usize = 4 * SHARE;
/// How long an answer may take until other sessions are asked instead.
const SLOW: Duration = Duration::from_secs(1);
/// How long a flight is left to whoever drives it.
const HELP: Duration = Duration::from_millis(20);
/// The most wishes in one statement.
const BATCH: usize = 1024;
/// So many wishes go in two halves.
const MANY: usize = 24;
/// How many of them share a number of the sequence.
const NUMBERED: usize = 1 << WITHIN_BITS;

/// What a session is asked to do.
pub(crate) enum Wish {
    /// Take a lock if it is free; answers a fence if it was.
    Lock { key: Key, shared: bool, done: Done<Option<i64>> },
    /// Give a lock back; answers whether it was held.
    Unlock { key: Key, shared: bool, done: Done<bool> },
    /// Show that it lives, and that its locks do.
    Beat { done: Done<()> },
    /// May be silent for so long from now on.
    Class { class: Duration, done: Done<()> },
}

/// Takes the answer, whoever drives the flight; nobody has to wait for it.
pub(crate) type Done<T> = Box<dyn FnOnce(&Arc<Room>, &Arc<Holder>, Result<T>) + Send>;

/// A `Done` that sends the answer on.
pub(crate) fn told<T: Send + 'static>(sender: oneshot::Sender<Result<T>>) -> Done<T> {
    Box::new(move |_, _, answer| {
        let _ = sender.send(answer);
    })
}

/// A statement under way, and what is done with its answers; whoever polls it drives it.
type Flight = Shared<BoxFuture<'static, ()>>;

/// What whoever wishes has to do for it.
#[must_use = "a flight that nobody drives stands still"]
pub(crate) struct Turn {
    /// It is the first: it drives the flight.
    flight: Option<Flight>,
    /// It is told to drive the next one.
    lead: Option<oneshot::Receiver<Flight>>,
}

impl Turn {
    /// Waits for the answer, and drives flights on the way to it.
    pub(crate) async fn answer<T>(
        mut self,
        room: &Arc<Room>,
        answer: oneshot::Receiver<Result<T>>,
    ) -> Result<T> {
        let mut answer = answer;
        loop {
            if let Some(flight) = self.flight.take() {
                Driving { room, flight: Some(flight) }.drive().await;
            }
            let next = std::future::poll_fn(|cx| {
                if let Poll::Ready(answer) = Pin::new(&mut answer).poll(cx) {
                    return Poll::Ready(Ok(answer));
                }
                let Some(lead) = &mut self.lead else { return Poll::Pending };
                let told = std::task::ready!(Pin::new(lead).poll(cx));
                self.lead = None;
                match told {
                    Ok(flight) => Poll::Ready(Err(flight)),
                    // Somebody else drives it.
                    Err(_) => Poll::Pending,
                }
            });
            match next.await {
                Ok(answer) => return answer.unwrap_or_else(|_| Err(super::room::over())),
                Err(flight) => self.flight = Some(flight),
            }
        }
    }

    /// Nobody waits: the thread of the sessions drives it.
    pub(crate) fn leave(self, room: &Arc<Room>) {
        if let Some(flight) = self.flight {
            room.spawn(flight);
        }
    }
}

/// Somebody who drives a flight; if he goes away, the thread of the sessions drives it on.
struct Driving<'a> {
    room: &'a Arc<Room>,
    flight: Option<Flight>,
}

impl Driving<'_> {
    async fn drive(mut self) {
        if let Some(flight) = &mut self.flight {
            flight.await;
        }
        self.flight = None;
    }
}

impl Drop for Driving<'_> {
    fn drop(&mut self) {
        if let Some(flight) = self.flight.take() {
            self.room.spawn(flight);
        }
    }
}

/// Which session it is.
pub(crate) struct Identity {
    pub(crate) id: SessionId,
    /// The server's process, and when that began.
    pub(crate) pid: i32,
    pub(crate) born: i64,
    pub(crate) timeline: i64,
}

/// A session with its locks.
pub(crate) struct Holder {
    pub(crate) id: SessionId,
    pub(crate) session: Session,
    pub(crate) pid: i32,
    pub(crate) born: i64,
    pub(crate) timeline: i64,
    /// Waits for one lock at a time and holds only that.
    pub(crate) solo: bool,
    pub(crate) statements: Statements,
    class_ms: AtomicU64,
    state: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    wishes: VecDeque<(Wish, Option<oneshot::Sender<Flight>>)>,
    /// What is under way, and whether the thread of the sessions drives it.
    flight: Option<(Flight, bool)>,
    /// How many were answered last.
    answered: usize,
    /// Locks that it holds or is asked for.
    seats: usize,
    /// Locks that it holds, and how often, by mode.
    held: HashMap<(Key, bool), usize>,
    /// When it was last asked for something, and when it was last used for a lock.
    asked: Moment,
    used: Moment,
}

/// Prepared once in each session.
pub(crate) struct Statements {
    pub(crate) lock: [Statement; 2],
    pub(crate) unlock: [Statement; 2],
    pub(crate) wait: [Statement; 2],
    pub(crate) many: Statement,
    pub(crate) beat: Statement,
}

impl Statements {
    pub(crate) async fn prepare(
        session: &Session,
        schema: &str,
    ) -> Result<Self, tokio_postgres::Error> {
        let fence = format!("nextval('{schema}.fence')");
        let lock =
            |how: &str| format!("select case when pg_try_advisory_lock{how}($1) then {fence} end");
        let unlock = |how: &str| format!("select pg_advisory_unlock{how}($1)");
        // The case makes the order certain: the number is drawn when the lock is there.
        let wait = |how: &str| {
            format!(
                "select case when pg_advisory_lock{how}($1)::text = '' then {fence} end, \
                 (extract(epoch from clock_timestamp()) * 1e6)::int8"
            )
        };
        let many = include_str!("sql/many.sql").replace("{schema}", schema);
        let client = session.client();
        // All of them are sent at once.
        let texts =
            [lock(""), lock("_shared"), unlock(""), unlock("_shared"), wait(""), wait("_shared")];
        let six = futures_util::future::try_join_all(texts.iter().map(|text| client.prepare(text)));
        let (six, many, beat) = futures_util::future::try_join3(
            six,
            client.prepare(&many),
            client.prepare(include_str!("sql/beat.sql")),
        )
        .await?;
        let [lock, lock_s, unlock, unlock_s, wait, wait_s] =
            <[Statement; 6]>::try_from(six).expect("six were prepared");
        let (lock, unlock, wait) = ([lock, lock_s], [unlock, unlock_s], [wait, wait_s]);
        Ok(Self { lock, unlock, wait, many, beat })
    }
}

impl Holder {
    pub(crate) fn new(
        who: Identity,
        session: Session,
        statements: Statements,
        (class, solo): (Duration, bool),
        now: Moment,
    ) -> Arc<Self> {
        let Identity { id, pid, born, timeline } = who;
        let state = Queue { asked: now, used: now, ..Queue::default() };
        Arc::new(Self {
            id,
            session,
            pid,
            born,
            timeline,
            solo,
            statements,
            class_ms: AtomicU64::new(ms(class)),
            state: Mutex::new(state),
        })
    }

    /// How long it may be silent.
    pub(crate) fn class(&self) -> Duration {
        Duration::from_millis(self.class_ms.load(Ordering::Acquire))
    }

    pub(crate) fn set_class(&self, class: Duration) {
        self.class_ms.store(ms(class), Ordering::Release);
    }

    /// The fencing token of a number that it drew, with the place in its statement.
    pub(crate) fn fence(&self, number: i64) -> Result<tenure_core::Fence> {
        super::setup::fence(self.timeline, number)
    }

    /// Takes a seat for one more lock; `false` if it has so many, or has ended.
    pub(crate) fn take_seat(&self, now: Moment, most: usize) -> bool {
        let mut state = self.state.lock();
        // One whose answer is overdue is not asked for more: another one may be faster.
        let overdue = state.flight.is_some() && SLOW <= now.since(state.asked);
        let free = state.seats < most && !overdue && !self.session.is_closed();
        state.seats += usize::from(free);
        free
    }

    /// Takes the only seat of a session that waits for one lock at a time; `false` if it is taken.
    ///
    /// Or if anything is under way or about to be: it would come after the wait, and be taken for
    /// the silence of a session that does not answer.
    pub(crate) fn take_solo_seat(&self) -> bool {
        let mut state = self.state.lock();
        let idle = state.flight.is_none() && state.wishes.is_empty();
        let free = state.seats == 0 && idle && !self.session.is_closed();
        state.seats += usize::from(free);
        free
    }

    /// Makes an unused session full, so that nobody uses it any more; `false` if it is used.
    pub(crate) fn take_last_seat(&self) -> bool {
        let mut state = self.state.lock();
        let unused = state.seats == 0 && state.wishes.is_empty();
        if unused {
            state.seats = FULL;
        }
        unused
    }

    /// Gives a seat back.
    pub(crate) fn give_seat(&self) {
        let mut state = self.state.lock();
        state.seats = state.seats.saturating_sub(1);
    }

    pub(crate) fn seats(&self) -> usize {
        self.state.lock().seats
    }

    /// A lock was got in another way than by a wish.
    pub(crate) fn has(&self, key: Key, shared: bool) {
        *self.state.lock().held.entry((key, shared)).or_default() += 1;
    }

    /// How long nothing was sent to it, and how long it was not used for a lock.
    pub(crate) fn silent_for(&self, now: Moment) -> (Duration, Duration) {
        let state = self.state.lock();
        (now.since(state.asked), now.since(state.used))
    }

    /// The next statement goes out now: it is no longer silent.
    pub(crate) fn is_asked(&self, now: Moment) {
        self.state.lock().asked = now;
    }

    /// Asks for something.
    pub(crate) fn wish(self: &Arc<Self>, room: &Arc<Room>, wish: Wish) -> Turn {
        let (sender, lead) = oneshot::channel();
        let mut state = self.state.lock();
        let now = room.now();
        if matches!(wish, Wish::Lock { .. } | Wish::Unlock { .. }) {
            state.used = now;
        }
        state.wishes.push_back((wish, Some(sender)));
        let flight = match state.flight {
            Some(_) => None,
            None => Some(self.take_off(room, &mut state, now)),
        };
        Turn { flight, lead: Some(lead) }
    }

    fn take_off(self: &Arc<Self>, room: &Arc<Room>, state: &mut Queue, now: Moment) -> Flight {
        let flight = fly(room.clone(), self.clone()).boxed().shared();
        state.flight = Some((flight.clone(), false));
        state.asked = now;
        flight
    }

    /// A flight has its answers: the next one is sent, and somebody who waits drives it.
    fn pass_on(self: &Arc<Self>, room: &Arc<Room>, answered: usize) {
        let mut state = self.state.lock();
        state.answered = answered;
        let Some((_, lead)) = state.wishes.front_mut() else {
            state.flight = None;
            return;
        };
        let lead = lead.take();
        let flight = self.take_off(room, &mut state, room.now());
        drop(state);
        // Sent before anything is done with the answers. One that has ended answers at once, and so would
        // the next, each inside the one before.
        if !self.session.is_closed() {
            let _ = flight.clone().now_or_never();
        }
        let refused = match lead {
            Some(lead) => lead.send(flight).err(),
            None => Some(flight),
        };
        if let Some(flight) = refused {
            room.spawn(flight);
        }
    }

    /// Nobody asks it any more: what is under way is forgotten, and the session closed.
    pub(crate) fn abandon(&self) {
        self.session.close();
        let mut state = self.state.lock();
        let (flight, wishes) = (state.flight.take(), std::mem::take(&mut state.wishes));
        drop(state);
        drop((flight, wishes));
    }

    /// Helps a flight whose driver may stand still, and closes a session that does not answer for
    /// longer than the server would bear its silence.
    pub(crate) fn look_after(&self, room: &Arc<Room>, now: Moment) {
        let mut state = self.state.lock();
        let under_way = now.since(state.asked);
        let Some((flight, helped)) = &mut state.flight else { return };
        if HELP <= under_way && !std::mem::replace(helped, true) {
            room.spawn(flight.clone());
        }
        if self.class() <= under_way {
            tracing::warn!(pid = self.pid, "a session does not answer: it is closed");
            self.session.close();
        }
    }

    /// What goes out with the next statement: locks and unlocks together, or one of the others.
    fn board(&self) -> Vec<Wish> {
        let mut state = self.state.lock();
        let is_plain = |wish: &Wish| matches!(wish, Wish::Lock { .. } | Wish::Unlock { .. });
        let is_beat = |wish: &Wish| matches!(wish, Wish::Beat { .. });
        // Those who were just answered wish again, for all that is known.
        let all = state.wishes.len() + state.answered;
        let most = if all < MANY { BATCH } else { all.div_ceil(2).min(BATCH) };
        let mut boarded: Vec<Wish> = Vec::new();
        while let Some((next, _)) = state.wishes.front() {
            let fits = boarded.first().is_none_or(|first| {
                (is_plain(first) && is_plain(next) && boarded.len() < most)
                    || (is_beat(first) && is_beat(next))
            });
            if !fits {
                break;
            }
            boarded.extend(state.wishes.pop_front().map(|(wish, _)| wish));
        }
        boarded
    }

    /// Keeps count of what locks and unlocks did.
    fn count(&self, parts: &[(Key, bool, bool)], answers: &[Result<Option<i64>>]) {
        let mut state = self.state.lock();
        for ((key, shared, unlock), answer) in parts.iter().zip(answers) {
            let lock = (*key, *shared);
            match (answer, unlock) {
                (Ok(Some(_)), false) => *state.held.entry(lock).or_default() += 1,
                (Ok(Some(_)), true) => {
                    if let Some(times) = state.held.get_mut(&lock) {
                        *times -= 1;
                        if *times == 0 {
                            state.held.remove(&lock);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// Shows that it lives; closes it if it is not what it was.
    async fn beat(&self, room: &Room) -> Result<()> {
        let statement = self.session.client().query_one(&self.statements.beat, &[]);
        let row = self.session.ask(FOR_EVER, statement).await?;
        let expected = i64::try_from(self.state.lock().held.len()).unwrap_or(i64::MAX);
        let (pid, timeline, mine, all): (i32, i64, i64, i64) = read4(&row)?;
        room.limits.saw(all);
        let wrong = match () {
            () if pid != self.pid => "another session of the server answers: a pooler is between",
            () if timeline != self.timeline => "the server is not the primary that it was",
            () if mine != expected => "the session's locks are not those that it took",
            () => return Ok(()),
        };
        tracing::warn!(pid, timeline, mine, expected, "{wrong}: the session is closed");
        self.session.close();
        Err(error::no_answer(wrong))
    }

    async fn one(&self, key: Key, shared: bool, unlock: bool) -> Result<Option<i64>> {
        let (client, at) = (self.session.client(), usize::from(shared));
        if unlock {
            let key: [&(dyn ToSql + Sync); 1] = [&key.0];
            let statement = client.query_one(&self.statements.unlock[at], &key);
            let row = self.session.ask(FOR_EVER, statement).await?;
            return Ok(read::<bool>(&row, 0)?.then_some(1));
        }
        let key: [&(dyn ToSql + Sync); 1] = [&key.0];
        let statement = client.query_one(&self.statements.lock[at], &key);
        let row = self.session.ask(FOR_EVER, statement).await?;
        Ok(read::<Option<i64>>(&row, 0)?.map(|number| numbered(number, 0)))
    }

    async fn many(&self, keys: &[i64], ops: &[i16]) -> Result<Vec<Option<i64>>> {
        let values: [&(dyn ToSql + Sync); 2] = [&keys, &ops];
        let statement = self.session.client().query_one(&self.statements.many, &values);
        let row = self.session.ask(FOR_EVER, statement).await?;
        let (did, numbers): (Vec<bool>, Vec<i64>) = (read(&row, 0)?, read(&row, 1)?);
        let takes = did.iter().zip(ops).any(|(did, op)| *did && *op < 2);
        if did.len() != keys.len() || (takes && numbers.len() != keys.len().div_ceil(NUMBERED)) {
            self.session.close();
            return Err(error::strange("it has another number of answers"));
        }
        let number = |at: usize| numbers.get(at / NUMBERED).copied().unwrap_or_default();
        let answer = |(at, did): (usize, bool)| did.then(|| numbered(number(at), at % NUMBERED));
        Ok(did.into_iter().enumerate().map(answer).collect())
    }

    /// A statement failed and the session lives: what it did before it failed is undone, for no
    /// rollback gives session locks back.
    async fn undo(&self, wishes: &[(Key, bool, bool)]) -> Result<()> {
        let rows = self.session.rows(FOR_EVER, include_str!("sql/mine.sql"), &[]).await?;
        let mut mine: Vec<(Key, bool)> = Vec::with_capacity(rows.len());
        for row in &rows {
            mine.push((Key(read(row, 0)?), read(row, 1)?));
        }
        let (mut keys, mut ops) = (Vec::new(), Vec::new());
        for (key, shared, unlock) in wishes {
            let before = self.state.lock().held.get(&(*key, *shared)).copied().unwrap_or(0);
            if 1 < before || (!unlock && before == 1) {
                // How often a lock is held cannot be seen.
                self.session.close();
                return Err(error::no_answer("how often a shared lock is held is not known"));
            }
            if mine.contains(&(*key, *shared)) {
                keys.push(key.0);
                ops.push(2 + i16::from(*shared));
            }
        }
        if !keys.is_empty() {
            self.many(&keys, &ops).await.inspect_err(|_| self.session.close())?;
        }
        Ok(())
    }
}

/// Sends what waits, passes the session on, and does with the answers what is to be done.
async fn fly(room: Arc<Room>, holder: Arc<Holder>) {
    let mut boarded = holder.board();
    let count = boarded.len();
    match boarded.first() {
        None => holder.pass_on(&room, 0),
        Some(Wish::Beat { .. }) => {
            let answer = holder.beat(&room).await;
            holder.pass_on(&room, count);
            for wish in boarded {
                if let Wish::Beat { done } = wish {
                    done(&room, &holder, answer.clone());
                }
            }
        }
        Some(Wish::Class { .. }) => {
            if let Some(Wish::Class { class, done }) = boarded.pop() {
                let answer = super::setup::set_class(&holder, class).await;
                holder.pass_on(&room, count);
                done(&room, &holder, answer);
            }
        }
        Some(Wish::Lock { .. } | Wish::Unlock { .. }) => {
            let answers = lock_and_unlock(&holder, boarded.iter().filter_map(part).collect()).await;
            holder.pass_on(&room, count);
            for (wish, answer) in boarded.into_iter().zip(answers) {
                match wish {
                    Wish::Lock { done, .. } => done(&room, &holder, answer),
                    Wish::Unlock { done, .. } => {
                        done(&room, &holder, answer.map(|did| did.is_some()))
                    }
                    Wish::Beat { .. } | Wish::Class { .. } => {}
                }
            }
        }
    }
}

/// The lock of a wish, and whether it is shared, and to be given back.
fn part(wish: &Wish) -> Option<(Key, bool, bool)> {
    match wish {
        Wish::Lock { key, shared, .. } => Some((*key, *shared, false)),
        Wish::Unlock { key, shared, .. } => Some((*key, *shared, true)),
        Wish::Beat { .. } | Wish::Class { .. } => None,
    }
}

async fn lock_and_unlock(
    holder: &Arc<Holder>,
    parts: Vec<(Key, bool, bool)>,
) -> Vec<Result<Option<i64>>> {
    let answers = match parts[..] {
        [(key, shared, unlock)] => holder.one(key, shared, unlock).await.map(|a| vec![a]),
        _ => {
            let keys: Vec<i64> = parts.iter().map(|(key, ..)| key.0).collect();
            let ops: Vec<i16> =
                parts.iter().map(|(_, s, u)| 2 * i16::from(*u) + i16::from(*s)).collect();
            holder.many(&keys, &ops).await
        }
    };
    let answers: Vec<Result<Option<i64>>> = match answers {
        Ok(answers) => answers.into_iter().map(Ok).collect(),
        Err(error) if holder.session.is_closed() => vec![Err(error); parts.len()],
        Err(error) => match holder.undo(&parts).await {
            Ok(()) => {
                let undone = |(_, _, unlock): &(Key, bool, bool)| match unlock {
                    true => Ok(Some(1)),
                    false => Err(error.clone().with_nothing_changed()),
                };
                parts.iter().map(undone).collect()
            }
            Err(unknown) => {
                // What it holds is not known any more: its end gives it back.
                holder.session.close();
                vec![Err(unknown); parts.len()]
            }
        },
    };
    // Before the next statement, which may look what the session holds.
    holder.count(&parts, &answers);
    answers
}

/// One column of a row.
pub(crate) fn read<'a, T: tokio_postgres::types::FromSql<'a>>(
    row: &'a Row,
    at: usize,
) -> Result<T> {
    row.try_get(at).map_err(|_| error::strange("a column is of another type"))
}

fn read4<'a, A, B, C, D>(row: &'a Row) -> Result<(A, B, C, D)>
where
    A: tokio_postgres::types::FromSql<'a>,
    B: tokio_postgres::types::FromSql<'a>,
    C: tokio_postgres::types::FromSql<'a>,
    D: tokio_postgres::types::FromSql<'a>,
{
    Ok((read(row, 0)?, read(row, 1)?, read(row, 2)?, read(row, 3)?))
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl std::fmt::Debug for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Holder")
            .field("id", &self.id)
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}
