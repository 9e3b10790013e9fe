//! Who holds and who wants what in this process.
//!
//! Session locks do not exclude the tasks of one process: a session that holds a lock gets it
//! again. So whoever asks is looked up here first, and only one of this process ever asks a session
//! for a lock that it may hold. No I/O and no clock: what is decided here is decided at once.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tenure_core::backend::{Claim, Departure, Grant, Refusal};
use tenure_core::clock::Moment;
use tenure_core::{ClaimId, Details, Fence, LockName, MemberId, Micros, Seats};

use super::key::Key;

/// How many of those that are gone are remembered at most.
const REMEMBERED: usize = 1 << 16;

/// A session's number in this process.
pub(crate) type SessionId = u64;

/// A claim that is held or under way.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) name: LockName,
    pub(crate) key: Key,
    pub(crate) shared: bool,
    pub(crate) ttl: Duration,
    pub(crate) wait_ttl: Duration,
    pub(crate) details: Arc<Details>,
    pub(crate) state: State,
    /// Its last sign of life.
    pub(crate) seen: Moment,
    /// The same, and since when it holds or waits, by the wall clock, for reading.
    pub(crate) renewed: Micros,
    pub(crate) since: Micros,
    /// The server's process that waits for it; 0 if it waits here, behind others of this process;
    /// `None` as long as it is on its way.
    pub(crate) waits_on: Option<i32>,
    /// How it ends as soon as what is under way has landed.
    ends: Option<Departure>,
    keep: Duration,
    claim: ClaimId,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// It asks a session for the lock.
    Trying,
    /// It waits in the server's queue, or for a session to wait there.
    Waiting,
    /// This session holds it.
    Held(Hold),
    /// This session gives it back.
    Leaving(SessionId),
}

/// What is held, and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Hold {
    pub(crate) session: SessionId,
    pub(crate) fence: Fence,
    /// The server's time of the grant; the wall clock's if it was not asked.
    pub(crate) at: Micros,
}

/// What a claim has to do first.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Begin {
    /// Ask a session for the lock.
    Try,
    /// Ask as well, but look first whether a writer of another process waits: the session may hold
    /// it already, and is not asked to wait its turn.
    Probe,
    /// Wait in the server's queue.
    Wait,
    /// Somebody of this process is in the way.
    Busy,
    /// It does so already.
    Waits,
    /// It has the lock already.
    Holds(Hold),
    /// What it asked before is under way.
    UnderWay,
    Refused(Refusal),
}

/// What a claim has to do to leave.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Leave {
    /// Give the lock back.
    Unlock(SessionId),
    /// Stop waiting.
    Cancel,
    /// Nothing: whoever has something under way for it gives it back.
    Later,
    /// It is gone.
    Gone(Departure),
}

/// What became of an answer from the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Landed {
    /// It holds.
    Held(Grant),
    /// It does not want it any more: it has to be given back.
    Unwanted,
}

#[cfg_attr(test, derive(Clone))]
#[derive(Debug, Default)]
pub(crate) struct Registry {
    slots: HashMap<Key, Vec<MemberId>>,
    entries: HashMap<MemberId, Entry>,
    gone: HashMap<MemberId, (Departure, Moment)>,
    withdrawn: HashMap<ClaimId, Moment>,
    /// In the order in which they went.
    order: VecDeque<(MemberId, ClaimId)>,
}

impl Registry {
    /// Looks at a claim, and takes it up if it is new. `tried` says that it has just asked a
    /// session and the lock was taken.
    pub(crate) fn begin(
        &mut self,
        claim: &Claim,
        key: Key,
        (now, wall): (Moment, Micros),
        tried: bool,
    ) -> Begin {
        if self.withdrawn.get(&claim.id).is_some_and(|until| now < *until) {
            return Begin::Refused(Refusal::Withdrawn);
        }
        if let Some((how, until)) = self.gone.get(&claim.member)
            && now < *until
        {
            return Begin::Refused(Refusal::Departed(how.clone()));
        }
        if let Some(entry) = self.entries.get_mut(&claim.member) {
            entry.seen = entry.seen.max(now);
            return match entry.state {
                State::Held(hold) => Begin::Holds(hold),
                State::Waiting => Begin::Waits,
                State::Trying | State::Leaving(_) => Begin::UnderWay,
            };
        }
        let shared = claim.seats != Seats::All;
        let begin = self.way_in(key, shared, claim.wait, tried);
        if begin == Begin::Busy {
            return begin;
        }
        let state = if begin == Begin::Wait { State::Waiting } else { State::Trying };
        self.slots.entry(key).or_default().push(claim.member);
        self.entries.insert(
            claim.member,
            Entry {
                name: claim.name.clone(),
                key,
                shared,
                ttl: claim.ttl,
                wait_ttl: claim.wait_ttl,
                details: claim.details.clone(),
                state,
                seen: now,
                renewed: wall,
                since: wall,
                waits_on: None,
                ends: None,
                keep: claim.tombstone_for(),
                claim: claim.id,
            },
        );
        begin
    }

    fn way_in(&self, key: Key, shared: bool, wait: bool, tried: bool) -> Begin {
        let others = self.slots.get(&key).map_or(&[][..], Vec::as_slice);
        let readers_only = || {
            others.iter().all(|other| {
                let other = &self.entries[other];
                other.shared && matches!(other.state, State::Held(_))
            })
        };
        match () {
            () if tried => {}
            () if others.is_empty() => return Begin::Try,
            () if shared && readers_only() => return Begin::Probe,
            () => {}
        }
        if wait { Begin::Wait } else { Begin::Busy }
    }

    /// Whoever waits here, with nobody at the server for it, wants to ask a session now. Only if nobody of
    /// this process may hold the lock: a session that does gives it to anybody who asks. It is one
    /// look, so that of those who are woken together one asks.
    pub(crate) fn may_try(&mut self, member: MemberId) -> Begin {
        let Some(me) = self.entries.get(&member) else { return Begin::Wait };
        if me.state != State::Waiting || me.ends.is_some() {
            return Begin::Wait;
        }
        let (shared, mut comes_later, mut begin) = (me.shared, false, Begin::Try);
        for (other, entry) in self.of(me.key) {
            match entry.state {
                _ if other == member => comes_later = true,
                State::Waiting if entry.shared || !shared || comes_later => {}
                // Readers who are there let no more pass a writer who came before them.
                State::Waiting => return Begin::Wait,
                State::Held(_) if shared && entry.shared => begin = Begin::Probe,
                State::Held(_) | State::Trying | State::Leaving(_) => return Begin::Wait,
            }
        }
        if let Some(me) = self.entries.get_mut(&member) {
            me.state = State::Trying;
        }
        begin
    }

    /// It asked, and the lock was taken: it waits on; `false` if it is to end.
    pub(crate) fn waits_on_here(&mut self, member: MemberId) -> bool {
        let Some(entry) = self.entries.get_mut(&member) else { return false };
        entry.state = State::Waiting;
        entry.ends.is_none()
    }

    /// A session was asked for a lock, or a wait has ended, and it has it.
    pub(crate) fn landed(
        &mut self,
        member: MemberId,
        hold: Hold,
        (now, wall): (Moment, Micros),
    ) -> Landed {
        let again = self.holds_by(hold.session, member);
        self.land(member, hold, (now, wall), again)
    }

    /// The same, `again` if the session holds the lock already for another one.
    pub(super) fn land(
        &mut self,
        member: MemberId,
        hold: Hold,
        (now, wall): (Moment, Micros),
        again: bool,
    ) -> Landed {
        let Some(entry) = self.entries.get_mut(&member) else {
            return Landed::Unwanted;
        };
        if entry.ends.is_some() || again {
            entry.state = State::Leaving(hold.session);
            return Landed::Unwanted;
        }
        entry.state = State::Held(hold);
        (entry.seen, entry.renewed, entry.since) = (entry.seen.max(now), wall, wall);
        Landed::Held(entry.grant(hold))
    }

    /// Whether this session holds the lock already for somebody with whom this one does not share it.
    /// Nobody asks it then; if somebody did, it would grant all the same.
    fn holds_by(&self, session: SessionId, member: MemberId) -> bool {
        let Some(me) = self.entries.get(&member) else { return false };
        self.of(me.key).any(|(other, entry)| {
            let holds = matches!(entry.state, State::Held(hold) if hold.session == session);
            other != member && holds && !(me.shared && entry.shared)
        })
    }

    /// What it asked for it did not get, or it stopped waiting: it is no more.
    pub(crate) fn failed(&mut self, member: MemberId, now: Moment) {
        let ends = self.entries.get_mut(&member).and_then(|entry| entry.ends.take());
        self.remove(member, ends, now);
    }

    /// It is to end, in this way.
    pub(crate) fn leave(&mut self, member: MemberId, how: &Departure) -> Leave {
        let Some(entry) = self.entries.get_mut(&member) else {
            return Leave::Gone(self.how_gone(member));
        };
        match entry.state {
            State::Held(hold) => {
                entry.ends = Some(how.clone());
                entry.state = State::Leaving(hold.session);
                Leave::Unlock(hold.session)
            }
            State::Waiting => {
                entry.ends.get_or_insert_with(|| how.clone());
                Leave::Cancel
            }
            State::Trying | State::Leaving(_) => {
                entry.ends.get_or_insert_with(|| how.clone());
                Leave::Later
            }
        }
    }

    /// A claim is withdrawn: should it land later, it is refused.
    pub(crate) fn withdraw(&mut self, claim: &Claim, now: Moment) -> Leave {
        self.withdrawn.insert(claim.id, now.plus(claim.tombstone_for()));
        self.order.push_back((claim.member, claim.id));
        self.forget();
        self.leave(claim.member, &Departure::Withdrawn)
    }

    /// It has been given back.
    pub(crate) fn left(&mut self, member: MemberId, now: Moment) -> Option<Departure> {
        let how = self.entries.get(&member)?.ends.clone();
        self.remove(member, how.clone(), now);
        how
    }

    /// A session has ended: so have these.
    pub(crate) fn session_ended(&mut self, session: SessionId, now: Moment) -> Vec<MemberId> {
        let on_it = |entry: &Entry| match entry.state {
            State::Held(hold) => hold.session == session,
            State::Leaving(of) => of == session,
            State::Trying | State::Waiting => false,
        };
        let ended: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| on_it(entry))
            .map(|(member, _)| *member)
            .collect();
        for member in &ended {
            self.remove(*member, Some(Departure::SessionEnded), now);
        }
        ended
    }

    /// Those whose owners give no sign of life any more.
    pub(crate) fn silent(&self, now: Moment) -> Vec<MemberId> {
        let is_silent = |entry: &Entry| match entry.state {
            State::Held(_) => entry.seen.plus(entry.ttl) <= now,
            State::Waiting => entry.ends.is_none() && entry.seen.plus(entry.wait_ttl) <= now,
            State::Trying | State::Leaving(_) => false,
        };
        self.entries.iter().filter(|(_, e)| is_silent(e)).map(|(member, _)| *member).collect()
    }

    /// A sign of life that was sent at `sent`, and perhaps another ttl; the grant if it holds.
    pub(crate) fn renewed(
        &mut self,
        member: MemberId,
        session: SessionId,
        ttl: Option<Duration>,
        (sent, wall): (Moment, Micros),
    ) -> Result<Grant, Departure> {
        let held = self.entries.get_mut(&member).and_then(|entry| match entry.state {
            State::Held(hold) if hold.session == session => Some((entry, hold)),
            _ => None,
        });
        let Some((entry, hold)) = held else {
            return Err(self.how_gone(member));
        };
        entry.ttl = ttl.unwrap_or(entry.ttl);
        (entry.seen, entry.renewed) = (entry.seen.max(sent), wall);
        Ok(entry.grant(hold))
    }

    /// A sign of life of one that waits.
    pub(crate) fn still_waits(&mut self, member: MemberId, now: Moment) {
        if let Some(entry) = self.entries.get_mut(&member) {
            entry.seen = entry.seen.max(now);
        }
    }

    /// This process of the server waits for it.
    pub(crate) fn waits_on(&mut self, member: MemberId, pid: i32) {
        if let Some(entry) = self.entries.get_mut(&member) {
            entry.waits_on = Some(pid);
        }
    }

    pub(crate) fn entry(&self, member: MemberId) -> Option<&Entry> {
        self.entries.get(&member)
    }

    /// Those of one lock, in the order in which they came.
    pub(crate) fn of(&self, key: Key) -> impl Iterator<Item = (MemberId, &Entry)> {
        let members = self.slots.get(&key).map_or(&[][..], Vec::as_slice);
        members.iter().map(|member| (*member, &self.entries[member]))
    }

    /// How many hold or want something.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How a member is gone that is not here.
    pub(crate) fn how_gone(&self, member: MemberId) -> Departure {
        self.gone.get(&member).map_or(Departure::Forgotten, |(how, _)| how.clone())
    }

    fn remove(&mut self, member: MemberId, how: Option<Departure>, now: Moment) {
        let Some(entry) = self.entries.remove(&member) else { return };
        if let Some(slot) = self.slots.get_mut(&entry.key) {
            slot.retain(|other| *other != member);
            if slot.is_empty() {
                self.slots.remove(&entry.key);
            }
        }
        if let Some(how) = how {
            self.gone.insert(member, (how, now.plus(entry.keep)));
            self.order.push_back((member, entry.claim));
            self.forget();
        }
    }

    /// Forgets the oldest beyond the bound. A claim that lands after that was under way for longer
    /// than so many others took.
    fn forget(&mut self) {
        while REMEMBERED < self.order.len() {
            if let Some((member, claim)) = self.order.pop_front() {
                self.gone.remove(&member);
                self.withdrawn.remove(&claim);
            }
        }
    }
}

impl Entry {
    pub(crate) fn grant(&self, hold: Hold) -> Grant {
        Grant::new(hold.fence, self.seats(), hold.at, self.ttl)
    }

    /// Whether an answer of the server will tell what becomes of it.
    pub(crate) fn is_under_way(&self) -> bool {
        matches!(self.state, State::Trying | State::Leaving(_))
    }

    pub(crate) fn seats(&self) -> Seats {
        if self.shared { Seats::SHARED } else { Seats::All }
    }
}

#[cfg(test)]
impl Registry {
    /// Everything that decides what comes next, in an order of its own.
    pub(super) fn digest(&self) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for (member, entry) in &self.entries {
            let Entry { state, ends, .. } = entry;
            all.push(format!("{member} {state:?} {ends:?}"));
        }
        all.extend(self.gone.iter().map(|(member, (how, _))| format!("{member} {how:?}")));
        all.extend(self.withdrawn.keys().map(|claim| format!("{claim:?}")));
        all.sort_unstable();
        all
    }
}
