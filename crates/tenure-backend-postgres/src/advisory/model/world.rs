//! What there is in the model, and what a step does to it.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use tenure_core::backend::Claim;
use tenure_core::{Details, Fence, LockName, MemberId, Micros, Owner, Token};

use super::super::registry::{Begin, Hold, Landed, Registry, SessionId, State};
use super::{CONNECTIONS, KEY, LEAP, LOST, Rules, TIMES};

/// A task of a process, by numbers.
pub(super) type Who = (usize, usize);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Request {
    Try(Who),
    /// Of one that waits here.
    TryAgain(Who),
    Wait(Who),
    Unlock(Who),
    UnlockAll(Who),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Reply {
    Tried(Who, Option<u64>),
    TriedAgain(Who, Option<u64>),
    Granted(Who, u64),
    Cancelled(Who),
    Unlocked(Who),
    AllUnlocked(Who),
}

/// A session: what was sent to it and what it sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Session {
    pub(super) process: usize,
    pub(super) requests: Vec<Request>,
    pub(super) replies: Vec<Reply>,
    /// The server has ended it; its process is told after the last reply.
    pub(super) ended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Task {
    Idle,
    Asking,
    Holding(SessionId),
    /// It gave up, or gives back.
    Leaving,
    Done,
}

#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) registries: [Registry; 2],
    pub(super) tasks: BTreeMap<Who, Task>,
    pub(super) sessions: BTreeMap<SessionId, Session>,
    pub(super) next: SessionId,
    /// Who has the lock and how often, and who waits for it.
    pub(super) owner: Option<(SessionId, u8)>,
    pub(super) queue: Vec<(SessionId, Who)>,
    /// Those who wait in their process, without a place at the server.
    pub(super) here: BTreeSet<Who>,
    pub(super) sequence: u64,
    /// The highest fence that anybody was told.
    pub(super) told: u64,
    pub(super) ends: u8,
    pub(super) crashes: u8,
    /// A promise was broken on the way here.
    pub(super) broken: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Step {
    Begin(Who),
    /// One that waits here tries.
    TryAgain(Who),
    /// It finds a place at the server.
    Place(Who),
    Serve(SessionId),
    Deliver(SessionId),
    Release(Who),
    GiveUp(Who),
    /// The server takes a waiting session out of its queue.
    Cancel(SessionId),
    /// A cancel meets a grant: the server says cancelled, and the lock stays.
    CancelTooLate(SessionId),
    End(SessionId),
    Crash {
        lost: u64,
    },
}

impl World {
    pub(super) fn claim((process, task): Who) -> Claim {
        let mut secret = [0; 16];
        (secret[0], secret[1]) = (process as u8 + 1, task as u8 + 1);
        let details = Arc::new(Details::of(Owner::this_process()));
        let name = LockName::new("key:7").expect("a valid name");
        let token = Token::from_bytes(secret);
        let mut claim = Claim::new(name, token, std::time::Duration::from_secs(30), details);
        claim.wait = true;
        claim
    }

    pub(super) fn member(who: Who) -> MemberId {
        Self::claim(who).member
    }

    pub(super) fn session(&mut self, process: usize, rules: Rules) -> SessionId {
        let id = self.next;
        self.next += 1;
        // Whoever is there at the same server leapt before, and no crash has been since.
        let vouches = |s: &Session| s.process == process && (rules.trusts_its_list || !s.ended);
        if !rules.no_leap && !self.sessions.values().any(vouches) {
            self.sequence += if rules.leaps_for_one { LOST } else { LEAP };
        }
        assert!(self.alive() < CONNECTIONS, "the server takes no more");
        self.sessions.insert(id, Session { process, ..Session::default() });
        id
    }

    /// The session that a process's tries go to: its first one that does not wait.
    pub(super) fn holder(&mut self, process: usize, rules: Rules) -> SessionId {
        let waits = |id: SessionId, s: &Session| {
            let is_wait = |r: &Request| matches!(r, Request::Wait(_) | Request::UnlockAll(_));
            let solo = |r: &Reply| {
                matches!(r, Reply::Granted(..) | Reply::Cancelled(_) | Reply::AllUnlocked(_))
            };
            self.queue.iter().any(|(q, _)| *q == id)
                || s.requests.iter().any(is_wait)
                || s.replies.iter().any(solo)
        };
        let free = self
            .sessions
            .iter()
            .find(|(id, s)| s.process == process && !s.ended && !waits(**id, s))
            .map(|(id, _)| *id);
        free.unwrap_or_else(|| self.session(process, rules))
    }

    pub(super) fn begin(&mut self, who: Who, tried: bool, rules: Rules) {
        let claim = Self::claim(who);
        let begin = self.registries[who.0].begin(&claim, KEY, TIMES, tried);
        let begin = match begin {
            Begin::Wait if rules.no_registry && !tried => Begin::Try,
            begin => begin,
        };
        match begin {
            Begin::Try => {
                let session = self.holder(who.0, rules);
                self.send(session, Request::Try(who));
            }
            Begin::Wait if self.has_place(who.0, rules) => {
                let session = self.session(who.0, rules);
                self.send(session, Request::Wait(who));
            }
            Begin::Wait => {
                self.here.insert(who);
            }
            // It was withdrawn meanwhile.
            _ => {
                self.tasks.insert(who, Task::Done);
            }
        }
    }

    /// Whether one more of a process may wait at the server.
    pub(super) fn has_place(&self, process: usize, rules: Rules) -> bool {
        let wait = |r: &&Request| matches!(r, Request::Wait(_) | Request::UnlockAll(_));
        let granted = |r: &&Reply| matches!(r, Reply::Granted(..) | Reply::Cancelled(_));
        let waits = self.queue.iter().filter(|(_, who)| who.0 == process).count();
        let sessions = self.sessions.values().filter(|s| s.process == process);
        let under_way = sessions.map(|s| {
            s.requests.iter().filter(wait).count() + s.replies.iter().filter(granted).count()
        });
        waits + under_way.sum::<usize>() < rules.places
    }

    pub(super) fn alive(&self) -> u64 {
        self.sessions.values().filter(|s| !s.ended).count() as u64
    }

    /// One that waits here asks a session.
    pub(super) fn try_again(&mut self, who: Who, rules: Rules) {
        let member = Self::member(who);
        if rules.tries_unasked || self.registries[who.0].may_try(member) == Begin::Try {
            self.here.remove(&who);
            let session = self.holder(who.0, rules);
            self.send(session, Request::TryAgain(who));
        }
    }

    pub(super) fn send(&mut self, session: SessionId, request: Request) {
        self.sessions.get_mut(&session).expect("it is there").requests.push(request);
    }

    pub(super) fn reply(&mut self, session: SessionId, reply: Reply) {
        self.sessions.get_mut(&session).expect("it is there").replies.push(reply);
    }

    pub(super) fn draw(&mut self) -> u64 {
        self.sequence += 1;
        if self.sequence <= self.told {
            self.broken = Some("a fence fell");
        }
        self.sequence
    }

    /// The server's own: a free lock goes to whoever waits first.
    pub(super) fn hand_over(&mut self) {
        if self.owner.is_none() && !self.queue.is_empty() {
            let (session, who) = self.queue.remove(0);
            self.owner = Some((session, 1));
            let fence = self.draw();
            self.reply(session, Reply::Granted(who, fence));
        }
    }

    pub(super) fn serve(&mut self, id: SessionId) {
        let request = self.sessions.get_mut(&id).expect("it is there").requests.remove(0);
        let mine = self.owner.is_some_and(|(owner, _)| owner == id);
        match request {
            Request::Try(who) | Request::TryAgain(who) => {
                let free = self.owner.is_none() && self.queue.is_empty();
                let fence = (mine || free).then(|| {
                    self.owner = Some((id, self.owner.map_or(1, |(_, n)| n + 1)));
                    self.draw()
                });
                self.reply(
                    id,
                    match request {
                        Request::Try(_) => Reply::Tried(who, fence),
                        _ => Reply::TriedAgain(who, fence),
                    },
                );
            }
            Request::Wait(who) => {
                self.queue.push((id, who));
                self.hand_over();
            }
            Request::Unlock(who) => {
                if let Some((_, times)) = self.owner.filter(|_| mine) {
                    self.owner = (1 < times).then_some((id, times - 1));
                }
                self.hand_over();
                self.reply(id, Reply::Unlocked(who));
            }
            Request::UnlockAll(who) => {
                self.owner = self.owner.filter(|_| !mine);
                self.hand_over();
                self.reply(id, Reply::AllUnlocked(who));
            }
        }
    }

    pub(super) fn deliver(&mut self, id: SessionId, rules: Rules) {
        let session = self.sessions.get_mut(&id).expect("it is there");
        if session.replies.is_empty() {
            return self.end_is_told(id);
        }
        let reply = session.replies.remove(0);
        match reply {
            Reply::Tried(who, Some(fence))
            | Reply::TriedAgain(who, Some(fence))
            | Reply::Granted(who, fence) => {
                let hold = Hold { session: id, fence: Fence::new(fence), at: Micros(1) };
                let (registry, member) = (&mut self.registries[who.0], Self::member(who));
                let landed = match rules.takes_twice {
                    true => registry.land(member, hold, TIMES, false),
                    false => registry.landed(member, hold, TIMES),
                };
                match landed {
                    Landed::Held(_) => {
                        self.told = self.told.max(fence);
                        self.tasks.insert(who, Task::Holding(id));
                    }
                    Landed::Unwanted => self.send_to_living(id, Request::Unlock(who)),
                }
            }
            Reply::Tried(who, None) => {
                self.registries[who.0].failed(Self::member(who), TIMES.0);
                if self.tasks[&who] == Task::Asking {
                    self.begin(who, true, rules);
                } else {
                    self.tasks.insert(who, Task::Done);
                }
            }
            Reply::TriedAgain(who, None) => {
                if self.registries[who.0].waits_on_here(Self::member(who)) {
                    self.here.insert(who);
                } else {
                    self.gives_up_here(who);
                }
            }
            Reply::Cancelled(who) if rules.trusts_cancel => {
                self.registries[who.0].failed(Self::member(who), TIMES.0);
                self.tasks.insert(who, Task::Done);
            }
            Reply::Cancelled(who) => self.send_to_living(id, Request::UnlockAll(who)),
            Reply::AllUnlocked(who) => {
                self.registries[who.0].failed(Self::member(who), TIMES.0);
                self.tasks.insert(who, Task::Done);
            }
            Reply::Unlocked(who) => {
                self.registries[who.0].left(Self::member(who), TIMES.0);
                self.tasks.insert(who, Task::Done);
            }
        }
    }

    /// One that waits here is told to stop.
    pub(super) fn gives_up_here(&mut self, who: Who) {
        self.here.remove(&who);
        self.registries[who.0].failed(Self::member(who), TIMES.0);
        self.tasks.insert(who, Task::Done);
    }

    /// What is sent to a session that has ended is answered by its end.
    pub(super) fn send_to_living(&mut self, id: SessionId, request: Request) {
        self.send(id, request);
    }

    /// The process learns that a session has ended: its locks are lost, and what was under way
    /// failed.
    pub(super) fn end_is_told(&mut self, id: SessionId) {
        let session = self.sessions.remove(&id).expect("it is there");
        let process = session.process;
        let registry = &mut self.registries[process];
        let lost = registry.session_ended(id, TIMES.0);
        let tasks: Vec<Who> = self.tasks.keys().copied().filter(|who| who.0 == process).collect();
        for who in tasks {
            if lost.contains(&Self::member(who)) {
                self.tasks.insert(who, Task::Done);
            }
        }
        for request in session.requests {
            let (Request::Try(who)
            | Request::TryAgain(who)
            | Request::Wait(who)
            | Request::Unlock(who)
            | Request::UnlockAll(who)) = request;
            self.registries[process].failed(Self::member(who), TIMES.0);
            self.tasks.insert(who, Task::Done);
        }
    }

    /// The server ends a session: what it had is free, what it waited for and what was sent to it
    /// fails.
    pub(super) fn end(&mut self, id: SessionId) {
        let waits: Vec<Who> =
            self.queue.iter().filter(|(q, _)| *q == id).map(|(_, who)| *who).collect();
        self.queue.retain(|(q, _)| *q != id);
        let session = self.sessions.get_mut(&id).expect("it is there");
        session.ended = true;
        // The statement that waited fails with the session.
        session.requests.extend(waits.into_iter().map(Request::Wait));
        if self.owner.is_some_and(|(owner, _)| owner == id) {
            self.owner = None;
        }
    }

    pub(super) fn is_alive(&self, id: SessionId) -> bool {
        self.sessions.get(&id).is_some_and(|session| !session.ended)
    }

    /// Those who work under the lock, and whose sessions the server has.
    pub(super) fn working(&self) -> usize {
        let works = |task: &&Task| matches!(task, Task::Holding(id) if self.is_alive(*id));
        self.tasks.values().filter(works).count()
    }

    /// Whether whoever has the lock at the server is known, or is about to be.
    pub(super) fn owner_is_known(&self) -> bool {
        let Some((id, times)) = self.owner else { return true };
        let Some(session) = self.sessions.get(&id) else { return false };
        let on_it = |who: &Who| {
            let entry = self.registries[who.0].entry(Self::member(*who));
            entry.is_some_and(|entry| match entry.state {
                State::Held(hold) => hold.session == id,
                State::Leaving(of) => of == id,
                State::Trying | State::Waiting => false,
            })
        };
        let under_way = !session.requests.is_empty() || !session.replies.is_empty();
        times == 1 && (under_way || self.tasks.keys().any(on_it))
    }
}

impl World {
    pub(super) fn key(&self) -> impl Hash + PartialEq + use<'_> {
        let digests = [self.registries[0].digest(), self.registries[1].digest()];
        let server = (&self.owner, &self.queue, self.sequence, self.told, self.next, &self.here);
        (digests, &self.tasks, &self.sessions, server, (self.ends, self.crashes, self.broken))
    }
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}
