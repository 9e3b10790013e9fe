//! Wakes claims that wait in this process: when they are granted, and when a process dies that is
//! in their way. Tells holders in this process that others ended them.
//!
//! One inotify descriptor and one thread per backend, started when the first claim waits or holds. A
//! granted claim's own sign of life is touched by whoever grants it, so that nobody else wakes up.
//! Of the others, a look at each lock every [`LOOK_EVERY`] at most, and only while the lock moves,
//! finds the processes whose end would be news.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::io::Errno;
use tenure_core::backend::{Departure, Event};
use tenure_core::clock::{Clock, Moment, SystemClock};
use tenure_core::{Listeners, LockName, MemberId};

use crate::heartbeat::{self, Found};
use crate::held::Held;
use crate::layout;
use crate::platform::{self, Notice, Notifier, Watch};
use crate::process::{self, Life};
use crate::register::cell_of;
use crate::room::Room;

/// How often it is looked whose death would be news for those who wait for a lock that moves.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often it is looked whether a process has ended that has closed its files.
const LAST_LOOKS: u32 = 64;
/// The longest pause between two of these looks.
const LAST_PAUSE: Duration = Duration::from_millis(20);
/// How many members of a lock are looked at: holders first, then the next waiters.
const MAX_MEMBERS: usize = 32;

/// What wakes the waiters of one backend.
#[derive(Debug)]
pub(crate) struct Watcher {
    room: Arc<Room>,
    listeners: Arc<Listeners>,
    /// `None` if the system has no more of what it takes.
    started: OnceLock<Option<Arc<Shared>>>,
}

#[derive(Debug)]
struct Shared {
    room: Arc<Room>,
    listeners: Arc<Listeners>,
    notifier: Notifier,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    stopped: bool,
    claims: HashMap<MemberId, Waiting>,
    locks: HashMap<LockName, Lock>,
    watches: HashMap<i32, Target>,
    /// The watch on each process that is known.
    processes: HashMap<u64, i32>,
    /// Claims that may have been granted before they were watched.
    missed: Vec<(LockName, MemberId)>,
    held: Held,
}

/// A claim that waits.
#[derive(Debug)]
struct Waiting {
    name: LockName,
    watch: Option<i32>,
}

/// A lock that somebody here waits for.
#[derive(Debug, Default)]
struct Lock {
    waiting: usize,
    watch: Option<i32>,
    processes: HashSet<u64>,
    looked: Moment,
    /// When to look next, if there is a reason to.
    due: Option<Moment>,
    /// How often it was looked since a process has closed its files and is about to end.
    dying: Option<u32>,
}

impl Lock {
    /// Makes sure that it is looked at `at` or before.
    fn look_by(&mut self, at: Moment) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// Plans the next look at a process that is about to end; `false` if there were enough.
    fn look_again(&mut self) -> bool {
        let looks = self.dying.unwrap_or(0);
        self.dying = (looks < LAST_LOOKS).then_some(looks + 1);
        if self.dying.is_some() {
            // A process takes some 100 us for the rest of its end, if nothing comes in between.
            let pause = Duration::from_micros(100 << looks.min(8)).min(LAST_PAUSE);
            self.look_by(SystemClock.now().plus(pause));
        }
        self.dying.is_some()
    }
}

#[derive(Clone, Debug)]
enum Target {
    Claim(LockName, MemberId),
    Held(LockName, MemberId),
    Lock(LockName),
    Process(u64),
}

impl Watcher {
    pub(crate) fn new(room: Arc<Room>, listeners: Arc<Listeners>) -> Self {
        Self { room, listeners, started: OnceLock::new() }
    }

    /// Tells of what happens to this claim from now on. `false` if that cannot be.
    pub(crate) fn watch(&self, name: &LockName, member: MemberId) -> bool {
        if !self.room.local {
            return false;
        }
        match self.started.get_or_init(|| self.start()) {
            Some(shared) => shared.watch(name, member),
            None => false,
        }
    }

    pub(crate) fn forget(&self, member: MemberId) {
        if let Some(Some(shared)) = self.started.get() {
            shared.forget(member);
        }
    }

    /// Tells of it if others end this member, once it has lasted for a moment.
    pub(crate) fn hold(&self, name: &LockName, member: MemberId) {
        // Who tells nobody need not watch.
        if !self.room.local || self.listeners.is_empty() {
            return;
        }
        if let Some(shared) = self.started.get_or_init(|| self.start())
            && shared.state.lock().held.note(name, member)
        {
            shared.notifier.wake();
        }
    }

    /// A member has left, or is about to, by itself; answers whether its sign of life is watched
    /// until the file is removed.
    pub(crate) fn leave(&self, member: MemberId) -> bool {
        self.started.get().and_then(Option::as_ref).is_some_and(|shared| shared.leave(member))
    }

    /// A sign of life was made: if its claim waits here already, it can be watched now.
    pub(crate) fn signed(&self, name: &LockName, member: MemberId) {
        if let Some(Some(shared)) = self.started.get()
            && shared.state.lock().claims.contains_key(&member)
        {
            shared.watch(name, member);
        }
    }

    /// Ends the thread, without waiting for it.
    pub(crate) fn stop(&self) {
        if let Some(Some(shared)) = self.started.get() {
            shared.state.lock().stopped = true;
            shared.notifier.wake();
        }
    }

    fn start(&self) -> Option<Arc<Shared>> {
        let notifier = match Notifier::new() {
            Ok(notifier) => notifier,
            Err(errno) => {
                tracing::warn!(%errno, "no notifications of the file system; waiters poll");
                return None;
            }
        };
        let shared = Arc::new(Shared {
            room: self.room.clone(),
            listeners: self.listeners.clone(),
            notifier,
            state: Mutex::default(),
        });
        let runs = shared.clone();
        std::thread::Builder::new()
            .name("tenure-file-watch".to_owned())
            .spawn(move || runs.run())
            .inspect_err(|error| tracing::warn!(%error, "no thread to watch; waiters poll"))
            .ok()?;
        Some(shared)
    }
}

impl Shared {
    fn watch(&self, name: &LockName, member: MemberId) -> bool {
        let mut state = self.state.lock();
        match state.claims.get(&member) {
            Some(waiting) if waiting.watch.is_some() => return true,
            Some(_) => {}
            None => {
                let waiting = Waiting { name: name.clone(), watch: None };
                state.claims.insert(member, waiting);
                let lock = state.locks.entry(name.clone()).or_default();
                lock.waiting += 1;
                if lock.waiting == 1 {
                    lock.due = Some(Moment::default());
                    self.notifier.wake();
                }
            }
        }
        let dir = self.room.path.join(layout::directory(name));
        let sign = layout::sign(member);
        match self.notifier.add(&dir.join(&sign), Watch::Attributes) {
            Ok(watch) => {
                state.claims.entry(member).and_modify(|w| w.watch = Some(watch));
                let target = Target::Claim(name.clone(), member);
                state.watches.insert(watch, target);
            }
            // It is there when the claim is admitted; until then nobody can grant it.
            Err(Errno::NOENT) => {}
            Err(_) => return false,
        }
        drop(state);
        // It may have been granted before it was watched.
        let missed = match self.room.lock_dir(name) {
            Ok(Some(dir)) => {
                platform::stat_at(&dir.fd, &sign).map_or(true, |stat| platform::is_touched(&stat))
            }
            Ok(None) | Err(_) => true,
        };
        if missed {
            // By the thread, because whoever is told may work on files.
            self.state.lock().missed.push((name.clone(), member));
            self.notifier.wake();
        }
        true
    }

    fn forget(&self, member: MemberId) {
        let mut state = self.state.lock();
        let Some(waiting) = state.claims.remove(&member) else {
            return;
        };
        if let Some(watch) = waiting.watch {
            state.watches.remove(&watch);
            self.notifier.remove(watch);
        }
        // It may hold now. There is one watch on a file, whatever it is for.
        if state.held.watch_anew(member) {
            self.notifier.wake();
        }
        let Some(lock) = state.locks.get_mut(&waiting.name) else {
            return;
        };
        lock.waiting -= 1;
        if 0 < lock.waiting {
            return;
        }
        let lock = state.locks.remove(&waiting.name).expect("it was just there");
        if let Some(watch) = lock.watch {
            state.watches.remove(&watch);
            self.notifier.remove(watch);
        }
        for process in lock.processes {
            self.leave_process(&mut state, process);
        }
    }

    fn leave(&self, member: MemberId) -> bool {
        let mut state = self.state.lock();
        let watch = state.held.leave(member);
        if state.claims.contains_key(&member) {
            return true;
        }
        // With the file that is removed now the watch ends by itself.
        watch.is_some_and(|watch| state.watches.remove(&watch).is_some())
    }

    /// Watches a holder's sign of life, and looks what happened to it before.
    fn watch_held(&self, name: &LockName, member: MemberId) {
        let dir = self.room.path.join(layout::directory(name));
        let sign = layout::sign(member);
        {
            let mut state = self.state.lock();
            if state.claims.contains_key(&member) || !state.held.has(member) {
                return;
            }
            match self.notifier.add(&dir.join(&sign), Watch::Attributes) {
                Ok(watch) => {
                    state.held.watches(member, watch);
                    state.watches.insert(watch, Target::Held(name.clone(), member));
                }
                Err(Errno::NOENT) => {}
                // Out of watches: the next renewal finds out.
                Err(_) => return,
            }
        }
        let stat = self.room.lock_dir(name).ok().flatten();
        let stat = stat.and_then(|dir| platform::stat_at(&dir.fd, &sign).ok());
        if stat.is_none_or(|stat| platform::is_touched(&stat)) {
            self.look_whether_gone(name, member);
        }
    }

    /// Tells a holder that others ended it, if the record says so.
    fn look_whether_gone(&self, name: &LockName, member: MemberId) {
        let Some(cell) = cell_of(&self.room, name) else {
            return;
        };
        let Some(departure) = cell.departure(member).filter(is_news) else {
            return;
        };
        if cell.has(member) || !self.state.lock().held.has(member) {
            return;
        }
        self.leave(member);
        self.listeners.tell(&Event::Gone { name: name.clone(), member, departure });
    }

    /// Stops watching a process that no lock is interested in any more.
    fn leave_process(&self, state: &mut State, process: u64) {
        if state.locks.values().any(|l| l.processes.contains(&process)) {
            return;
        }
        if let Some(watch) = state.processes.remove(&process) {
            state.watches.remove(&watch);
            self.notifier.remove(watch);
        }
    }

    fn tell_granted(&self, name: &LockName, member: MemberId) {
        self.listeners.tell(&Event::Granted { name: name.clone(), member, grant: None });
    }

    fn tell_changed(&self, name: &LockName) {
        self.listeners.tell(&Event::Changed { name: name.clone() });
    }

    fn run(&self) {
        let mut notices = Vec::new();
        loop {
            let (stopped, missed, limit) = {
                let mut state = self.state.lock();
                let due = state.locks.values().filter_map(|l| l.due).chain(state.held.due).min();
                let missed = std::mem::take(&mut state.missed);
                (state.stopped, missed, due.map(|due| due.since(SystemClock.now())))
            };
            if stopped {
                return;
            }
            for (name, member) in missed {
                self.tell_granted(&name, member);
            }
            self.notifier.wait(limit, &mut notices);
            for notice in notices.drain(..) {
                self.take(notice);
            }
            for name in self.due() {
                self.look(&name);
            }
            let held = self.state.lock().held.take_due();
            for (name, member) in held {
                self.watch_held(&name, member);
            }
        }
    }

    fn take(&self, notice: Notice) {
        let mut state = self.state.lock();
        let watch = match notice {
            Notice::Changed(watch) => watch,
            Notice::Ended(watch) => {
                state.ended(watch);
                return;
            }
            Notice::Overflow => {
                let names: Vec<LockName> = state.locks.keys().cloned().collect();
                let held = state.held.all();
                drop(state);
                names.iter().for_each(|name| self.tell_changed(name));
                held.iter().for_each(|(name, member)| self.look_whether_gone(name, *member));
                return;
            }
        };
        match state.watches.get(&watch).cloned() {
            Some(Target::Claim(name, member)) => {
                drop(state);
                self.tell_granted(&name, member);
            }
            Some(Target::Held(name, member)) => {
                drop(state);
                self.look_whether_gone(&name, member);
            }
            Some(Target::Lock(name)) => {
                if let Some(lock) = state.locks.get_mut(&name) {
                    lock.look_by(lock.looked.plus(LOOK_EVERY));
                }
            }
            Some(Target::Process(process)) => {
                let concerned = |lock: &&mut Lock| lock.processes.contains(&process);
                for lock in state.locks.values_mut().filter(concerned) {
                    lock.dying = Some(0);
                    lock.look_by(Moment::default());
                }
            }
            None => {}
        }
    }

    /// The locks that are to be looked at now.
    fn due(&self) -> Vec<LockName> {
        let now = SystemClock.now();
        let mut state = self.state.lock();
        let due = state.locks.iter_mut().filter_map(|(name, lock)| {
            lock.due.filter(|due| *due <= now)?;
            lock.due = None;
            lock.looked = now;
            Some(name.clone())
        });
        due.collect()
    }

    /// Finds the processes whose end would be news for those who wait for `name`, and watches
    /// them.
    fn look(&self, name: &LockName) {
        // First the watch, then the look: what changes in between is seen by one of them.
        let path = self.room.path.join(layout::directory(name));
        let watch = self.notifier.add(&path, Watch::Move);
        {
            let mut state = self.state.lock();
            let Some(lock) = state.locks.get_mut(name) else {
                if let Ok(watch) = watch {
                    self.notifier.remove(watch);
                }
                return;
            };
            lock.watch = watch.ok();
            match watch {
                Ok(watch) => {
                    state.watches.insert(watch, Target::Lock(name.clone()));
                }
                // Out of watches, or the directory is gone: look again in the ordinary way.
                Err(_) => lock.due = Some(lock.looked.plus(LOOK_EVERY)),
            }
        }
        if !self.room.proves_death {
            return;
        }
        let beats = self.beats_in_the_way(name);
        let wanted = beats.iter().map(|beat| beat.process).collect();
        if !self.watch_processes(name, wanted) {
            let mut state = self.state.lock();
            if let Some(lock) = state.locks.get_mut(name) {
                lock.due = Some(lock.looked.plus(LOOK_EVERY));
            }
        }
        let lives: Vec<Life> = beats.iter().map(|beat| process::life(&self.room, beat)).collect();
        let mut state = self.state.lock();
        let Some(lock) = state.locks.get_mut(name) else {
            return;
        };
        if lives.contains(&Life::Dead) {
            lock.dying = None;
        } else if (lock.dying.is_none() && !lives.contains(&Life::Dying)) || lock.look_again() {
            return;
        }
        drop(state);
        self.tell_changed(name);
    }

    fn beats_in_the_way(&self, name: &LockName) -> Vec<heartbeat::Beat> {
        let (Some(cell), Ok(Some(dir))) = (cell_of(&self.room, name), self.room.lock_dir(name))
        else {
            return Vec::new();
        };
        cell.holder_ids()
            .chain(cell.waiter_ids())
            .take(MAX_MEMBERS)
            .filter_map(|member| match heartbeat::read(&self.room, &dir, member) {
                Ok(Found::Whole(beat)) => Some(*beat),
                _ => None,
            })
            .filter(|beat| !beat.detached)
            .filter(|beat| beat.owner.shares_kernel(&self.room.me) && beat.owner != self.room.me)
            .collect()
    }

    /// Watches these processes for `name`, and others no more. `false` if one of them cannot be
    /// watched: then somebody has to look again.
    fn watch_processes(&self, name: &LockName, wanted: HashSet<u64>) -> bool {
        let mut state = self.state.lock();
        let Some(lock) = state.locks.get_mut(name) else {
            return true;
        };
        let before = std::mem::replace(&mut lock.processes, wanted.clone());
        for process in before.difference(&wanted) {
            self.leave_process(&mut state, *process);
        }
        let procs = self.room.path.join(layout::PROCS);
        let mut watched = true;
        for process in wanted {
            if state.processes.contains_key(&process) {
                continue;
            }
            match self.notifier.add(&procs.join(layout::process(process)), Watch::Close) {
                Ok(watch) => {
                    state.processes.insert(process, watch);
                    state.watches.insert(watch, Target::Process(process));
                }
                Err(_) => watched = false,
            }
        }
        watched
    }
}

/// Whether a departure is none that the member brought about itself.
fn is_news(how: &Departure) -> bool {
    !matches!(how, Departure::Released | Departure::Withdrawn | Departure::Answered)
}

impl State {
    /// A watch ended by itself: what it was on is gone, or it was for one time.
    fn ended(&mut self, watch: i32) {
        match self.watches.remove(&watch) {
            Some(Target::Claim(_, member)) => {
                if let Some(waiting) = self.claims.get_mut(&member) {
                    waiting.watch = None;
                }
            }
            // Its sign of life is gone; who ended it has touched that before.
            Some(Target::Held(_, member)) => drop(self.held.leave(member)),
            Some(Target::Lock(name)) => {
                if let Some(lock) = self.locks.get_mut(&name)
                    && lock.watch == Some(watch)
                {
                    lock.watch = None;
                    lock.due = Some(lock.looked.plus(LOOK_EVERY));
                }
            }
            Some(Target::Process(process)) => {
                self.processes.remove(&process);
            }
            None => {}
        }
    }
}
