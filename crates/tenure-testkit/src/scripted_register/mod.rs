//! A register in memory that loses, delays and refuses as it is told: by a script, call by call,
//! or by a storm from a seed.
//!
//! Clones are processes over one store. With [`RegisterBackend`] on top it is a whole backend,
//! with a clock of the store's own or judged by observation.

mod faults;

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tenure_core::backend::{Claim, Event, Listener, Member};
use tenure_core::clock::{Clock, Moment, SystemClock};
use tenure_core::register::{Loaded, Observation, Register, RegisterBackend, Sign, Swap, Version};
use tenure_core::{
    Capabilities, Error, ErrorKind, Fence, JudgedBy, Listeners, LockName, MemberId, Micros, Result,
    Wakes,
};

pub use faults::{Call, Fault, Faults, Storm};

/// Who tells when a lease is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Judge {
    /// The store, by a clock of its own.
    StoreClock,
    /// Observers, by signs of life.
    Observers,
}

/// A register with faults. Clones are processes over one store.
#[derive(Clone, Debug)]
pub struct ScriptedRegister(Arc<World>);

#[derive(Debug)]
struct World {
    capabilities: Capabilities,
    clock: Arc<dyn Clock>,
    started: (Moment, Micros),
    rooms: Mutex<HashMap<LockName, Room>>,
    listeners: Listeners,
    faults: Faults,
}

/// What is kept of one name.
#[derive(Debug, Default)]
struct Room {
    version: u64,
    bytes: Option<Vec<u8>>,
    /// What stale readers see.
    before: Option<(u64, Option<Vec<u8>>)>,
    /// A swap that is still under way, although its caller was told that nobody knows.
    late: Option<(u64, Vec<u8>)>,
    signs: HashMap<MemberId, Sign>,
    recalled: Vec<Observation>,
}

impl ScriptedRegister {
    /// A store without faults on the system's clock, which wakes whoever waits.
    pub fn new(judge: Judge) -> Self {
        Self::with_clock(judge, Wakes::Push, Arc::new(SystemClock))
    }

    /// The same store, whose waiters have to ask.
    pub fn polled(judge: Judge) -> Self {
        Self::with_clock(judge, Wakes::Poll, Arc::new(SystemClock))
    }

    /// A store on this clock. Give the adaptor and the managers the same one.
    pub fn with_clock(judge: Judge, wakes: Wakes, clock: Arc<dyn Clock>) -> Self {
        let mut capabilities = Capabilities::full("scripted");
        capabilities.wakes = wakes;
        capabilities.judged_by = match judge {
            Judge::StoreClock => JudgedBy::StoreClock,
            Judge::Observers => JudgedBy::Observation,
        };
        Self(Arc::new(World {
            capabilities,
            started: (clock.now(), clock.wall()),
            clock,
            rooms: Mutex::default(),
            listeners: Listeners::default(),
            faults: Faults::default(),
        }))
    }

    /// What goes wrong in this store.
    pub fn faults(&self) -> &Faults {
        &self.0.faults
    }

    /// Opens the store as another process: a backend with eyes of its own.
    pub fn backend(&self) -> RegisterBackend<ScriptedRegister> {
        RegisterBackend::new(self.clone(), self.0.clock.clone())
    }

    /// Ends the signs of life of a member's process, as a kernel that proves its death would say.
    pub fn kill(&self, name: &LockName, member: MemberId) {
        if let Some(sign) =
            self.0.rooms.lock().entry(name.clone()).or_default().signs.get_mut(&member)
        {
            sign.dead = true;
        }
    }

    /// The record of a name, as its bytes lie in the store.
    pub fn record(&self, name: &LockName) -> Option<Vec<u8>> {
        self.0.rooms.lock().get(name).and_then(|room| room.bytes.clone())
    }

    fn now(&self) -> Micros {
        let (moment, wall) = self.0.started;
        wall.plus(self.0.clock.now().since(moment))
    }

    fn observed(&self) -> bool {
        self.0.capabilities.judged_by == JudgedBy::Observation
    }

    /// Looks into a room, after whatever was under way there has landed or come too late.
    fn room<T>(&self, name: &LockName, look: impl FnOnce(&mut Room) -> T) -> T {
        let mut rooms = self.0.rooms.lock();
        let room = rooms.entry(name.clone()).or_default();
        if let Some((at, bytes)) = room.late.take() {
            if at != room.version {
                // Too late: the version it was conditional on is gone.
            } else if self.0.faults.coin() {
                room.replace(bytes);
            } else {
                room.late = Some((at, bytes));
            }
        }
        look(room)
    }

    async fn fault(&self, call: Call) -> Option<Fault> {
        let fault = self.0.faults.next(call)?;
        if let Fault::Slow(time) = fault {
            self.0.clock.sleep_until(self.0.clock.now().plus(time)).await;
            return None;
        }
        Some(fault)
    }
}

impl Room {
    fn replace(&mut self, bytes: Vec<u8>) {
        self.before = Some((self.version, self.bytes.take()));
        self.version += 1;
        self.bytes = Some(bytes);
    }
}

fn unreachable() -> Error {
    Error::new(ErrorKind::Unreachable, "the store did not answer (scripted)")
}

fn unknown() -> Error {
    Error::new(ErrorKind::Unknown, "the answer was lost (scripted)")
}

impl Register for ScriptedRegister {
    fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    fn address(&self) -> Arc<str> {
        "scripted:".into()
    }

    async fn load(&self, name: &LockName) -> Result<Loaded> {
        let fault = self.fault(Call::Load).await;
        if matches!(fault, Some(Fault::Unreachable)) {
            return Err(unreachable());
        }
        let (version, bytes) = self.room(name, |room| match (&fault, &room.before) {
            (Some(Fault::Stale), Some(before)) => before.clone(),
            _ => (room.version, room.bytes.clone()),
        });
        let now = (!self.observed()).then(|| self.now());
        let floor = now.map_or(version + 1, |now| now.0);
        Ok(Loaded {
            version: Version(version.to_string().into()),
            bytes,
            now,
            floor: Fence::new(floor),
        })
    }

    async fn swap(&self, name: &LockName, at: &Version, to: &[u8], wakes: &[MemberId]) -> Swap {
        let fault = self.fault(Call::Swap).await;
        let at: u64 = at.0.parse().expect("a version of this register");
        let swapped = self.room(name, |room| match fault {
            Some(Fault::Unreachable) => Swap::Failed(unreachable()),
            Some(Fault::Conflict) => Swap::Lost,
            Some(Fault::LostRequest) => Swap::Unknown(unknown()),
            Some(Fault::Late) => {
                room.late = Some((at, to.to_vec()));
                Swap::Unknown(unknown())
            }
            _ if at != room.version => Swap::Lost,
            Some(Fault::LostReply) => {
                room.replace(to.to_vec());
                Swap::Unknown(unknown())
            }
            _ => {
                room.replace(to.to_vec());
                Swap::Won
            }
        });
        if matches!(swapped, Swap::Won) && !wakes.is_empty() {
            self.wake(name, wakes).await;
        }
        swapped
    }

    async fn admit(&self, member: &Member) -> Result<()> {
        if self.fault(Call::Admit).await.is_some() {
            return Err(unreachable());
        }
        self.room(&member.name, |room| {
            room.signs.entry(member.id).or_insert(sign(member, self.now()));
        });
        Ok(())
    }

    async fn dismiss(&self, name: &LockName, member: MemberId) {
        self.room(name, |room| room.signs.remove(&member));
    }

    async fn beat(&self, member: &Member) -> Result<()> {
        let fault = self.fault(Call::Beat).await;
        if matches!(fault, Some(Fault::Unreachable | Fault::LostRequest)) {
            return Err(unreachable());
        }
        self.room(&member.name, |room| match room.signs.get_mut(&member.id) {
            None => Err(Error::new(ErrorKind::NotHeld, "there is no sign of life to renew")),
            Some(known) => {
                *known = sign(member, self.now());
                if fault.is_some() { Err(unknown()) } else { Ok(()) }
            }
        })
    }

    async fn signs(&self, name: &LockName, members: &[MemberId]) -> Result<Vec<Sign>> {
        if self.fault(Call::Signs).await.is_some() {
            return Err(unreachable());
        }
        let none = |member| Sign { member, nonce: 0, fence: Fence::ZERO, dead: false, at: None };
        let read = |room: &mut Room| {
            members.iter().map(|m| room.signs.get(m).copied().unwrap_or(none(*m))).collect()
        };
        Ok(self.room(name, read))
    }

    async fn recall(&self, name: &LockName, members: &[MemberId]) -> Vec<Observation> {
        self.room(name, |room| {
            room.recalled.iter().filter(|o| members.contains(&o.member)).copied().collect()
        })
    }

    async fn remember(&self, name: &LockName, seen: &[Observation]) {
        self.room(name, |room| room.recalled = seen.to_vec());
    }

    async fn names(&self, prefix: &str, limit: usize) -> Result<Vec<LockName>> {
        let rooms = self.0.rooms.lock();
        let kept = rooms.iter().filter(|(_, room)| room.bytes.is_some()).map(|(name, _)| name);
        let mut names: Vec<_> = kept.filter(|n| n.as_str().starts_with(prefix)).cloned().collect();
        names.sort_unstable();
        names.truncate(limit);
        Ok(names)
    }

    async fn wake(&self, name: &LockName, members: &[MemberId]) {
        if self.0.capabilities.wakes == Wakes::Poll || self.fault(Call::Wake).await.is_some() {
            return;
        }
        for member in members {
            let (name, member) = (name.clone(), *member);
            self.0.listeners.tell(&Event::Granted { name, member, grant: None });
        }
    }

    fn subscribe(&self, listener: Weak<dyn Listener>) {
        self.0.listeners.add(listener);
    }

    fn watch(&self, _claim: &Claim, _waits: bool) -> bool {
        self.0.capabilities.wakes == Wakes::Push
    }

    async fn pause(&self, _attempt: u32) {
        futures_lite::future::yield_now().await;
    }

    async fn ping(&self) -> Result<()> {
        if self.fault(Call::Load).await == Some(Fault::Unreachable) {
            return Err(unreachable());
        }
        Ok(())
    }

    fn keys(&self, name: &LockName) -> Vec<(&'static str, String)> {
        vec![("name", name.to_string())]
    }
}

fn sign(member: &Member, at: Micros) -> Sign {
    Sign {
        member: member.id,
        nonce: rand::random::<u128>() | 1,
        fence: member.fence.unwrap_or(Fence::ZERO),
        dead: false,
        at: Some(at),
    }
}
