//! What the sessions of one backend share, and the way to a lock and back.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tenure_core::backend::{Claim, Departure, Event, Grant, Release, Verdict};
use tenure_core::clock::{Clock, Moment, SystemClock};
use tenure_core::{Error, ErrorKind, Listeners, MemberId, Micros, Owner, Result, Token};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio_postgres::Notification;

use super::bus::Bus;
use super::class::class;
use super::holder::{Holder, Turn, Wish, told};
use super::key::Key;
use super::limits::Limits;
use super::registry::{Begin, Hold, Landed, Leave, Registry, SessionId};
use super::seats::Openings;
use super::wait::Gate;
use crate::config::PostgresConfig;
use crate::session::Ear;

/// The longest name of a session that the server keeps.
const NAME_MAX: usize = 63;

/// A backend's sessions and what they hold.
pub(crate) struct Room {
    pub(crate) config: PostgresConfig,
    pub(crate) limits: Limits,
    pub(crate) listeners: Listeners,
    pub(crate) registry: Mutex<Registry>,
    pub(crate) sessions: Mutex<BTreeMap<SessionId, Arc<Holder>>>,
    pub(crate) bus: Bus,
    /// Where requests of other processes are heard.
    pub(crate) channel: String,
    /// What this process is called there.
    pub(crate) client: String,
    pub(crate) session_name: String,
    pub(crate) gates: Mutex<HashMap<Key, Weak<Gate>>>,
    /// How each of those who wait is told to stop.
    pub(crate) stops: Mutex<HashMap<MemberId, Arc<Notify>>>,
    pub(crate) places: Arc<tokio::sync::Semaphore>,
    runtime: Handle,
    clock: SystemClock,
    sessions_made: AtomicU64,
    pub(crate) openings: Mutex<Openings>,
    /// Something that was under way has landed.
    landed: Notify,
}

impl Room {
    pub(crate) fn new(config: PostgresConfig, runtime: Handle) -> Arc<Self> {
        let id = u64::from_be_bytes(*Token::random().expose().first_chunk().expect("16 bytes"));
        let client = format!("{id:016x}");
        let owner = Owner::this_process();
        let mut session_name = format!("tenure/{client} {}", owner.label);
        session_name.retain(|c| c.is_ascii() && !c.is_ascii_control());
        session_name.truncate(NAME_MAX);
        Arc::new(Self {
            limits: Limits::new(config.max_locks),
            channel: format!("{}_advisory", config.schema),
            config,
            listeners: Listeners::default(),
            registry: Mutex::default(),
            sessions: Mutex::default(),
            bus: Bus::default(),
            client,
            session_name,
            gates: Mutex::default(),
            stops: Mutex::default(),
            places: Arc::new(tokio::sync::Semaphore::new(super::wait::PLACES)),
            runtime,
            clock: SystemClock,
            sessions_made: AtomicU64::new(0),
            openings: Mutex::default(),
            landed: Notify::new(),
        })
    }

    pub(crate) fn now(&self) -> Moment {
        self.clock.now()
    }

    pub(crate) fn wall(&self) -> Micros {
        self.clock.wall()
    }

    pub(crate) fn times(&self) -> (Moment, Micros) {
        (self.now(), self.wall())
    }

    pub(crate) fn next_session(&self) -> SessionId {
        self.sessions_made.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn ear(self: &Arc<Self>, session: SessionId) -> Arc<dyn Ear> {
        Arc::new(HolderEar { room: Arc::downgrade(self), session })
    }

    /// Gives a task to the thread that drives the sessions.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    /// Runs a task there to its end, also if whoever asked for it does not wait.
    pub(crate) async fn on_its_own<T: Send + 'static>(
        &self,
        task: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let (done, answer) = oneshot::channel();
        self.spawn(async move {
            let _ = done.send(task.await);
        });
        answer.await.unwrap_or_else(|_| Err(over()))
    }

    /// Something has landed: whoever waits for that looks.
    pub(crate) fn tell_landed(&self) {
        self.landed.notify_waiters();
    }

    /// Resolves when there is something to see.
    pub(crate) async fn until<T>(&self, mut look: impl FnMut() -> Option<T>) -> T {
        loop {
            let landed = self.landed.notified();
            let mut landed = std::pin::pin!(landed);
            landed.as_mut().enable();
            if let Some(seen) = look() {
                return seen;
            }
            landed.await;
        }
    }

    /// Asks for a lock.
    pub(crate) async fn acquire(self: &Arc<Self>, claim: &Claim) -> Result<Verdict> {
        let key = Key::of(&claim.name);
        let (mut tried, mut failures) = (false, 0);
        loop {
            let begin = self.registry.lock().begin(claim, key, self.times(), tried);
            match begin {
                Begin::Refused(refusal) => return Ok(Verdict::Refused(refusal)),
                Begin::Busy => return self.place(claim, key, true).await.map(Verdict::Busy),
                Begin::Waits => match self.place_of_waiting(claim, key).await? {
                    Some(place) => return Ok(Verdict::Queued(place)),
                    None => continue,
                },
                Begin::Wait => return self.wait(claim, key).await,
                Begin::UnderWay => {
                    self.until(|| {
                        let registry = self.registry.lock();
                        let entry = registry.entry(claim.member);
                        entry.is_none_or(|e| !e.is_under_way()).then_some(())
                    })
                    .await;
                }
                Begin::Holds(hold) => {
                    // Its session may be silent for its whole term only from now on.
                    let sent = self.now();
                    self.beat(hold.session).await?;
                    let renewed = self.registry.lock().renewed(
                        claim.member,
                        hold.session,
                        None,
                        (sent, self.wall()),
                    );
                    if let Ok(grant) = renewed {
                        return Ok(Verdict::Granted(grant));
                    }
                }
                Begin::Try | Begin::Probe => {
                    match self.try_lock(claim, key, begin == Begin::Probe).await {
                        Ok(Some(grant)) => return Ok(Verdict::Granted(grant)),
                        Ok(None) if claim.wait => tried = true,
                        Ok(None) => return self.place(claim, key, true).await.map(Verdict::Busy),
                        // Its session ended, and with it whatever it did: another one may do it.
                        Err(error) if error.kind() == ErrorKind::Unknown && failures == 0 => {
                            failures += 1;
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
        }
    }

    async fn try_lock(
        self: &Arc<Self>,
        claim: &Claim,
        key: Key,
        probe: bool,
    ) -> Result<Option<Grant>> {
        let started = Started::new(self, claim)?;
        if probe && !self.probe(key).await? {
            return Ok(None);
        }
        let holder = self.seat(class(claim.ttl)).await?;
        let (sender, answer) = oneshot::channel();
        let (member, shared) = (claim.member, claim.seats != tenure_core::Seats::All);
        let done = Box::new(move |room: &Arc<Room>, holder: &Arc<Holder>, fence| {
            let landed = room.lock_landed(member, key, shared, holder, fence);
            let _ = sender.send(landed);
        });
        let turn = holder.wish(self, Wish::Lock { key, shared, done });
        started.goes_on();
        turn.answer(self, answer).await
    }

    fn lock_landed(
        self: &Arc<Self>,
        member: MemberId,
        key: Key,
        shared: bool,
        holder: &Arc<Holder>,
        number: Result<Option<i64>>,
    ) -> Result<Option<Grant>> {
        let fence = match number {
            Ok(Some(number)) => holder.fence(number).map(Some),
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
        let landed = match fence {
            Ok(Some(fence)) => {
                let hold = Hold { session: holder.id, fence, at: self.wall() };
                let landed = self.registry.lock().landed(member, hold, self.times());
                match landed {
                    Landed::Held(_) if holder.session.is_closed() => {
                        // It ended before it was known to hold this: nobody else tells.
                        self.session_ended(holder.id);
                        Err(crate::error::no_answer("the session ended with its answer"))
                    }
                    Landed::Held(grant) => Ok(Some(grant)),
                    Landed::Unwanted => {
                        self.unlock(member, key, shared, holder).0.leave(self);
                        Ok(None)
                    }
                }
            }
            nothing => {
                self.registry.lock().failed(member, self.now());
                holder.give_seat();
                self.limits.give();
                nothing.map(|_| None)
            }
        };
        self.tell_landed();
        landed
    }

    pub(crate) fn has_session(self: &Arc<Self>, holder: &Arc<Holder>) {
        self.sessions.lock().insert(holder.id, holder.clone());
        if holder.session.is_closed() {
            // It ended before it was listed, when nobody could take it off the list.
            self.session_ended(holder.id);
        }
    }

    pub(crate) fn session(&self, id: SessionId) -> Option<Arc<Holder>> {
        self.sessions.lock().get(&id).cloned()
    }

    /// A session has ended, and all that it held is free.
    pub(crate) fn session_ended(&self, id: SessionId) {
        let holder = self.sessions.lock().remove(&id);
        let ended = self.registry.lock().session_ended(id, self.now());
        if !ended.is_empty() {
            ended.iter().for_each(|_| self.limits.give());
            self.listeners.tell(&Event::SessionEnded { members: ended.as_slice().into() });
            let why = holder.as_ref().and_then(|h| h.session.why_ended()).unwrap_or("unknown");
            tracing::warn!(locks = ended.len(), why, "a session ended, and its locks are lost");
        }
        self.tell_landed();
    }

    /// Shows that a session lives, and that its locks do.
    pub(crate) async fn beat(self: &Arc<Self>, session: SessionId) -> Result<()> {
        let Some(holder) = self.session(session) else { return Ok(()) };
        let (sender, answer) = oneshot::channel();
        holder.wish(self, Wish::Beat { done: told(sender) }).answer(self, answer).await
    }

    /// Gives a lock back; the answer tells whether it was held until then. It is given back also if
    /// nobody waits for that.
    pub(crate) fn unlock(
        self: &Arc<Self>,
        member: MemberId,
        key: Key,
        shared: bool,
        holder: &Arc<Holder>,
    ) -> (Turn, oneshot::Receiver<Result<bool>>) {
        let (sender, answer) = oneshot::channel();
        let done = Box::new(move |room: &Arc<Room>, holder: &Arc<Holder>, did: Result<bool>| {
            if did.is_ok() {
                room.registry.lock().left(member, room.now());
                holder.give_seat();
                room.limits.give();
                room.tell_landed();
                room.given_back(key);
            }
            let _ = sender.send(did);
        });
        (holder.wish(self, Wish::Unlock { key, shared, done }), answer)
    }

    /// Ends a claim in this way; answers how it has ended.
    pub(crate) async fn end(self: &Arc<Self>, member: MemberId, leave: Leave) -> Result<Departure> {
        match leave {
            Leave::Gone(how) => return Ok(how),
            Leave::Unlock(session) => {
                let lock = self.registry.lock().entry(member).map(|e| (e.key, e.shared));
                if let (Some(holder), Some((key, shared))) = (self.session(session), lock) {
                    let (turn, answer) = self.unlock(member, key, shared, &holder);
                    match turn.answer(self, answer).await {
                        Ok(true) => {}
                        Ok(false) => {
                            tracing::warn!("a session did not hold a lock that it had taken");
                            return Ok(Departure::Forgotten);
                        }
                        // The session ends or has ended, and the lock with it.
                        Err(_) => holder.session.close(),
                    }
                }
            }
            Leave::Cancel => self.stop_waiting(member),
            Leave::Later => {}
        }
        let gone = || {
            let registry = self.registry.lock();
            registry.entry(member).is_none().then(|| registry.how_gone(member))
        };
        Ok(self.until(gone).await)
    }

    pub(crate) async fn release(self: &Arc<Self>, member: MemberId) -> Result<Release> {
        let leave = self.registry.lock().leave(member, &Departure::Released);
        Ok(match self.end(member, leave).await? {
            Departure::Released => Release::Released,
            how => Release::NotHeld(how),
        })
    }

    pub(crate) async fn withdraw(self: &Arc<Self>, claim: &Claim) -> Result<()> {
        let leave = self.registry.lock().withdraw(claim, self.now());
        self.end(claim.member, leave).await.map(drop)
    }
}

/// The thread of the sessions has ended under a call.
pub(crate) fn over() -> Error {
    Error::new(ErrorKind::Unknown, "the backend was closed under this call")
}

/// A claim that was taken up and has asked for nothing yet; dropped, it is no more.
pub(crate) struct Started<'a> {
    room: &'a Arc<Room>,
    member: MemberId,
    counted: bool,
}

impl<'a> Started<'a> {
    pub(crate) fn new(room: &'a Arc<Room>, claim: &Claim) -> Result<Self> {
        let mut started = Self { room, member: claim.member, counted: false };
        room.limits.take()?;
        started.counted = true;
        Ok(started)
    }

    /// From now on whoever does what it asked for looks after it.
    pub(crate) fn goes_on(self) {
        std::mem::forget(self);
    }
}

impl Drop for Started<'_> {
    fn drop(&mut self) {
        self.room.registry.lock().failed(self.member, self.room.now());
        if self.counted {
            self.room.limits.give();
        }
        self.room.tell_landed();
    }
}

/// Hears that a session has ended.
struct HolderEar {
    room: Weak<Room>,
    session: SessionId,
}

impl Ear for HolderEar {
    fn on_notification(&self, _: &Notification) {}

    fn on_end(&self) {
        if let Some(room) = self.room.upgrade() {
            room.session_ended(self.session);
        }
    }
}

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Room").field("config", &self.config).finish_non_exhaustive()
    }
}
