//! Waiting in the server's own queue: one session for each who waits there, up to a bound.
//!
//! The server hands a lock over within the unlock, in the order in which they came. A wait that
//! blocked a session with locks would block all of them, so each has one to itself; granted, that
//! session holds the lock.

use std::collections::hash_map::Entry as Slot;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use tenure_core::backend::{Claim, Event, Grant, Place, Verdict};
use tenure_core::clock::Moment;
use tenure_core::{Error, MemberId, Micros, Result, Seats};
use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot};
use tokio_postgres::types::ToSql;

use super::bus::WANTS;
use super::class::class;
use super::holder::{Holder, Wish, read};
use super::key::Key;
use super::registry::{Begin, Hold, Landed};
use super::room::{Room, Started, over};
use super::setup::numbered;
use crate::error;

/// How many sessions of a process wait at a time.
pub(crate) const PLACES: usize = 32;
/// How many of them for one lock; whoever comes later waits here for one of these places.
const PLACES_OF_ONE: usize = 8;
/// How long whoever has no place waits until it tries again, at first and at last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// How long it is waited until a place at the server is looked for again, at first and at last. Looking
/// without a pause keeps the server from doing what is looked for.
const LOOKS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));
/// How long a statement that was cancelled may take to end.
const CANCEL: Duration = Duration::from_secs(1);
/// How often it is cancelled in that time.
const CANCELS: u32 = 10;

/// Those of this process who wait for one lock.
pub(crate) struct Gate {
    /// One after another goes to the server, in the order in which they came.
    order: tokio::sync::Mutex<()>,
    places: tokio::sync::Semaphore,
    /// The lock was given back, by whomever: whoever has no place at the server tries.
    free: Notify,
}

/// What whoever began to wait is told first.
type First = oneshot::Sender<Result<Verdict>>;

struct Wait {
    room: Arc<Room>,
    claim: Claim,
    key: Key,
    shared: bool,
    stop: Arc<Notify>,
    first: Option<First>,
}

/// How a wait at the server has ended.
enum Ended {
    Granted(Arc<Holder>, i64, Micros),
    /// By a try that was sent then.
    Tried(Arc<Holder>, i64, Moment),
    Stopped,
    Failed(Error),
}

impl Room {
    /// Begins to wait for a lock; answers when the server has it in its queue, or has granted it.
    pub(crate) async fn wait(self: &Arc<Self>, claim: &Claim, key: Key) -> Result<Verdict> {
        let started = Started::new(self, claim)?;
        let (first, answer) = oneshot::channel();
        let stop = Arc::new(Notify::new());
        self.stops.lock().insert(claim.member, stop.clone());
        let shared = claim.seats != Seats::All;
        let first = Some(first);
        let wait = Wait { room: self.clone(), claim: claim.clone(), key, shared, stop, first };
        self.spawn(wait.run());
        started.goes_on();
        answer.await.unwrap_or_else(|_| Err(over()))
    }

    /// Tells somebody who waits to stop.
    pub(crate) fn stop_waiting(&self, member: MemberId) {
        if let Some(stop) = self.stops.lock().get(&member) {
            stop.notify_one();
        }
    }

    fn gate(&self, key: Key) -> Arc<Gate> {
        let mut gates = self.gates.lock();
        let new = || {
            let places = tokio::sync::Semaphore::new(PLACES_OF_ONE);
            Arc::new(Gate { order: tokio::sync::Mutex::default(), places, free: Notify::new() })
        };
        match gates.entry(key) {
            Slot::Occupied(mut slot) => match slot.get().upgrade() {
                Some(gate) => gate,
                None => {
                    let gate = new();
                    slot.insert(Arc::downgrade(&gate));
                    gate
                }
            },
            Slot::Vacant(slot) => {
                let gate = new();
                slot.insert(Arc::downgrade(&gate));
                gate
            }
        }
    }

    /// A lock was given back: whoever of this process has no place at the server tries.
    pub(crate) fn is_free(&self, key: Key) {
        if let Some(gate) = self.gates.lock().get(&key).and_then(Weak::upgrade) {
            gate.free.notify_waiters();
        }
    }

    /// A session to wait with.
    async fn solo(self: &Arc<Self>, class: Duration) -> Result<Arc<Holder>> {
        let idle = {
            let sessions = self.sessions.lock();
            let mut solos = sessions.values().filter(|s| s.solo && s.seats() == 0);
            solos.find(|session| session.take_solo_seat()).cloned()
        };
        if let Some(holder) = idle {
            if holder.class() == class || super::setup::set_class(&holder, class).await.is_ok() {
                return Ok(holder);
            }
            holder.session.close();
        }
        self.control().await?;
        let holder = super::setup::open(self, class, true).await?;
        holder.take_seat(self.now(), 1);
        self.has_session(&holder);
        Ok(holder)
    }
}

impl Wait {
    async fn run(mut self) {
        let (room, gate) = (self.room.clone(), self.room.gate(self.key));
        let ended = self.wait(&gate).await;
        room.stops.lock().remove(&self.claim.member);
        match ended {
            Ended::Granted(holder, number, at) => {
                holder.has(self.key, self.shared);
                self.granted(&holder, number, at, None);
            }
            Ended::Tried(holder, number, sent) => {
                self.granted(&holder, number, room.wall(), Some(sent));
            }
            Ended::Stopped => self.over(Err(error::no_answer("the wait was given up"))),
            Ended::Failed(error) => self.over(Err(error)),
        }
        room.tell_landed();
        drop(gate);
        room.gates.lock().retain(|_, gate| 0 < gate.strong_count());
    }

    async fn wait(&mut self, gate: &Gate) -> Ended {
        // Behind the others of this process, if those who wait at the server are many.
        let mut place = pin!(gate.places.acquire());
        // Asked for before it is told that it waits, so that whoever comes later stands behind it.
        let place = match std::future::poll_fn(|cx| Poll::Ready(place.as_mut().poll(cx))).await {
            Poll::Ready(place) => place,
            Poll::Pending => {
                self.tell_place().await;
                tokio::select! {
                    place = &mut place => place,
                    () = self.stop.notified() => return Ended::Stopped,
                }
            }
        };
        let place = place.expect("it is never closed");
        let room = self.room.clone();
        let place_of_all = match room.places.clone().try_acquire_owned() {
            Ok(place) => place,
            Err(_) => {
                self.tell_place().await;
                match self.try_until_there_is_a_place(gate).await {
                    Ok(place) => place,
                    Err(ended) => return ended,
                }
            }
        };
        let ended = self.wait_at_the_server(gate).await;
        drop((place, place_of_all));
        ended
    }

    /// All sessions that may wait do: tries when it is told, and now and then, until one is free.
    async fn try_until_there_is_a_place(
        &mut self,
        gate: &Gate,
    ) -> Result<OwnedSemaphorePermit, Ended> {
        let mut place = pin!(self.room.places.clone().acquire_owned());
        let stop = self.stop.clone();
        let mut pause = PAUSES.0;
        let mut told_all = None;
        loop {
            let mut free = pin!(gate.free.notified());
            free.as_mut().enable();
            let now = self.room.now();
            if told_all.is_none_or(|at| WANTS / 2 <= now.since(at)) {
                told_all = Some(now);
                self.room.want(self.key).await;
            }
            tokio::select! {
                place = &mut place => return Ok(place.expect("it is never closed")),
                () = stop.notified() => return Err(Ended::Stopped),
                () = free => pause = PAUSES.0,
                () = pause_for(pause.mul_f64(0.5 + rand_half())) => {}
            }
            pause = (pause * 2).min(PAUSES.1);
            let (room, member) = (self.room.clone(), self.claim.member);
            let begin = room.registry.lock().may_try(member);
            if begin == Begin::Wait {
                continue;
            }
            let sent = room.now();
            match self.try_now(begin == Begin::Probe).await {
                Ok(Some((holder, number))) => return Err(Ended::Tried(holder, number, sent)),
                Ok(None) => {}
                Err(error) => return Err(Ended::Failed(error)),
            }
            let waits_on = room.registry.lock().waits_on_here(member);
            room.tell_landed();
            if !waits_on {
                return Err(Ended::Stopped);
            }
        }
    }

    async fn try_now(&self, probe: bool) -> Result<Option<(Arc<Holder>, i64)>> {
        if probe && !self.room.probe(self.key).await? {
            return Ok(None);
        }
        let holder = self.room.seat(class(self.claim.ttl)).await?;
        let (sender, answer) = oneshot::channel();
        let done = Box::new(move |_: &Arc<Room>, holder: &Arc<Holder>, number: Result<_>| {
            if !matches!(number, Ok(Some(_))) {
                holder.give_seat();
            }
            let _ = sender.send(number);
        });
        let turn = holder.wish(&self.room, Wish::Lock { key: self.key, shared: self.shared, done });
        let number = turn.answer(&self.room, answer).await?;
        Ok(number.map(|number| (holder, number)))
    }

    async fn wait_at_the_server(&mut self, gate: &Gate) -> Ended {
        let stop = self.stop.clone();
        let mut order = pin!(gate.order.lock());
        let order = loop {
            tokio::select! {
                order = &mut order => break order,
                () = stop.notified() => return Ended::Stopped,
                // Whoever is before it takes long; that it waits is certain.
                () = pause_for(PAUSES.1), if self.first.is_some() => self.tell_no_place(),
            }
        };
        let holder = match self.room.solo(class(self.claim.ttl)).await {
            Ok(holder) => holder,
            Err(error) => return Ended::Failed(error),
        };
        let room = self.room.clone();
        holder.is_asked(room.now());
        room.registry.lock().waits_on(self.claim.member, holder.pid);
        let statement = &holder.statements.wait[usize::from(self.shared)];
        let key = self.key.0;
        let values: [&(dyn ToSql + Sync); 1] = [&key];
        let statement = holder.session.client().query_one(statement, &values);
        let mut statement = pin!(holder.session.sent(statement));
        let ended = {
            let enqueued = self.until_enqueued(holder.pid);
            let mut enqueued = pin!(enqueued);
            tokio::select! {
                biased;
                row = &mut statement => Some(row),
                () = stop.notified() => None,
                () = &mut enqueued => {
                    drop(order);
                    tokio::select! {
                        row = &mut statement => Some(row),
                        () = stop.notified() => None,
                    }
                }
            }
        };
        match ended {
            Some(Ok(row)) => match (read::<i64>(&row, 0), read::<i64>(&row, 1)) {
                (Ok(number), Ok(at)) => {
                    let number = numbered(number, 0);
                    Ended::Granted(holder.clone(), number, Micros(u64::try_from(at).unwrap_or(0)))
                }
                _ => {
                    holder.session.close();
                    Ended::Failed(error::strange("a grant is not understood"))
                }
            },
            Some(Err(error)) => {
                // A lock that came with an error cannot be told from none: both end here.
                holder.session.close();
                Ended::Failed(error::failed(error))
            }
            None => {
                // A cancel that comes before its statement is nothing to the server: again.
                let mut known = false;
                for _ in 0..CANCELS {
                    holder.session.cancel(&room.config.server, CANCEL).await;
                    let ended = tokio::time::timeout(CANCEL / CANCELS, &mut statement).await;
                    if let Ok(ended) = ended {
                        let code = ended.as_ref().err().and_then(tokio_postgres::Error::code);
                        known = code.is_some_and(|code| code.code() == "57014");
                        break;
                    }
                }
                if known && room.has_nothing(&holder).await {
                    holder.give_seat();
                } else {
                    holder.session.close();
                }
                Ended::Stopped
            }
        }
    }

    /// Looks until the server has it in its queue, and tells.
    async fn until_enqueued(&mut self, pid: i32) {
        let mut pause = LOOKS.0;
        loop {
            match self.room.rows(self.key).await {
                Ok(rows) if rows.list.iter().any(|row| row.pid == pid && !row.granted) => {
                    let place = self.room.place_in(self.key, &rows, pid).await;
                    self.tell(Ok(Verdict::Queued(place)));
                    return;
                }
                Ok(_) => {}
                // It waits all the same, and is told so, if not where: whoever is told nothing gives up.
                Err(_) => {
                    self.tell(Ok(Verdict::Queued(Place::default())));
                }
            }
            pause_for(pause).await;
            pause = (pause * 2).min(LOOKS.1);
        }
    }

    /// Tells that it waits, behind others of this process.
    async fn tell_place(&mut self) {
        self.room.registry.lock().waits_on(self.claim.member, 0);
        let place = self.room.place(&self.claim, self.key, true).await;
        self.tell(Ok(Verdict::Queued(place.unwrap_or_else(|_| Place::default()))));
    }

    /// Tells that it waits, nobody knows where.
    fn tell_no_place(&mut self) {
        self.room.registry.lock().waits_on(self.claim.member, 0);
        self.tell(Ok(Verdict::Queued(Place::default())));
    }

    fn tell(&mut self, verdict: Result<Verdict>) -> bool {
        self.first.take().is_some_and(|first| first.send(verdict).is_ok())
    }

    fn granted(&mut self, holder: &Arc<Holder>, number: i64, at: Micros, began: Option<Moment>) {
        let (room, member) = (self.room.clone(), self.claim.member);
        let fence = match holder.fence(number) {
            Ok(fence) => fence,
            Err(error) => {
                holder.session.close();
                return self.over(Err(error));
            }
        };
        let hold = Hold { session: holder.id, fence, at };
        let landed = room.registry.lock().landed(member, hold, room.times());
        match landed {
            Landed::Unwanted => {
                room.unlock(member, self.key, self.shared, holder).0.leave(&room);
                // Should it want the lock all the same, it asks again.
                room.listeners.tell(&Event::Changed { name: self.claim.name.clone() });
            }
            Landed::Held(grant) => {
                if holder.session.is_closed() {
                    // It ended before it was known to hold: nobody else tells.
                    return room.session_ended(holder.id);
                }
                let mut grant = grant;
                grant.began = began;
                self.tell_grant(grant);
            }
        }
    }

    fn tell_grant(&mut self, grant: Grant) {
        if !self.tell(Ok(Verdict::Granted(grant))) {
            let (name, member) = (self.claim.name.clone(), self.claim.member);
            self.room.listeners.tell(&Event::Granted { name, member, grant: Some(grant) });
        }
    }

    /// The wait is over, and nothing is held.
    fn over(&mut self, how: Result<Verdict>) {
        let room = self.room.clone();
        room.registry.lock().failed(self.claim.member, room.now());
        room.limits.give();
        if !self.tell(how) {
            // It asks again, and waits anew.
            room.listeners.tell(&Event::Changed { name: self.claim.name.clone() });
        }
    }
}

impl Room {
    /// A cancelled wait may have been granted all the same: whatever the session holds is given back.
    async fn has_nothing(&self, holder: &Holder) -> bool {
        let all = holder.session.client().batch_execute("select pg_advisory_unlock_all()");
        holder.session.ask(CANCEL, all).await.is_ok()
    }
}

#[allow(clippy::disallowed_methods, reason = "a pause between tries; nothing is decided by it")]
async fn pause_for(pause: Duration) {
    tokio::time::sleep(pause).await;
}

/// Between 0 and a half, so that processes do not try in step.
fn rand_half() -> f64 {
    f64::from(tenure_core::Token::random().expose()[0]) / 512.0
}
