//! Puts events together, one after the other.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::{Attempt, Grant, NEVER, Outcome, Release, Timeline, Who, Window};
use crate::history::event::{Event, Fence, Mode, Op, Phase};

/// A force release under way.
#[derive(Debug)]
struct Eviction {
    name: Arc<str>,
    fence: Option<Fence>,
    invoked: u64,
    ended: Option<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Builder {
    timeline: Timeline,
    attempts: HashMap<Who, usize>,
    /// Per grant: when the renewals and checks that have no answer yet were asked for.
    asked: HashMap<(usize, Op), VecDeque<u64>>,
    evictions: HashMap<Who, Eviction>,
    crashes: HashMap<Arc<str>, u64>,
    texts: HashMap<String, Arc<str>>,
}

impl Builder {
    /// Takes the next event, or says what is wrong with it.
    pub(super) fn take(&mut self, event: &Event) -> Result<(), &'static str> {
        let t = event.t_ns;
        let who = Who { proc: self.text(&event.proc), attempt: event.attempt };
        self.timeline.end = t;
        match event.op {
            Op::Crash => {
                self.crashes.entry(who.proc).or_insert(t);
                return Ok(());
            }
            Op::Pause => {
                let pauses = self.timeline.pauses.entry(who.proc).or_default();
                return window(pauses, t, event.phase);
            }
            Op::Fault => return self.fault(event),
            _ => {}
        }
        self.timeline.last_seen.insert(who.proc.clone(), t);
        match event.op {
            Op::Acquire => self.acquire(who, event),
            Op::Evict => self.evict(who, event),
            _ => self.later(&who, event),
        }
    }

    fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return known.clone();
        }
        self.texts.entry(text.to_owned()).or_insert_with(|| text.into()).clone()
    }

    fn fault(&mut self, event: &Event) -> Result<(), &'static str> {
        let name = self.text(&event.name);
        let faults = &mut self.timeline.faults;
        if event.phase == Phase::Invoke {
            faults.push((name, Window { from: event.t_ns, to: NEVER }));
            return Ok(());
        }
        let open = faults.iter_mut().find(|(at, window)| *at == name && window.to == NEVER);
        open.ok_or("a fault ends that never started")?.1.to = event.t_ns;
        Ok(())
    }

    fn acquire(&mut self, who: Who, event: &Event) -> Result<(), &'static str> {
        let t = event.t_ns;
        if event.phase == Phase::Invoke {
            if matches!(event.mode, Mode::Shared { take: 0, .. }) {
                return Err("a holder takes at least one seat");
            }
            let attempt = Attempt {
                who: who.clone(),
                name: self.text(&event.name),
                mode: event.mode,
                priority: event.priority,
                invoked: t,
                gives_up: event.deadline_ns.unwrap_or(NEVER),
                queued: None,
                outcome: Outcome::Open,
            };
            let index = self.timeline.attempts.len();
            self.timeline.attempts.push(attempt);
            return match self.attempts.insert(who, index) {
                None => Ok(()),
                Some(_) => Err("two attempts have one number"),
            };
        }
        let index = *self.attempts.get(&who).ok_or("an acquire ends that never started")?;
        let attempt = &mut self.timeline.attempts[index];
        if attempt.outcome != Outcome::Open {
            return Err("an acquire ends twice");
        }
        attempt.outcome = match event.phase {
            Phase::Ok => {
                self.timeline.grants.push(Grant {
                    who,
                    name: attempt.name.clone(),
                    mode: attempt.mode,
                    fence: event.fence.ok_or("a grant has no fence")?,
                    invoked: attempt.invoked,
                    granted: t,
                    deadline: event.deadline_ns.unwrap_or(NEVER),
                    lost: None,
                    revived: None,
                    release: None,
                    crashed: None,
                    evicted: None,
                    freed: None,
                    over: false,
                });
                Outcome::Granted(t, self.timeline.grants.len() - 1)
            }
            Phase::Fail => Outcome::Refused(t),
            Phase::Info | Phase::Invoke => Outcome::Unknown(t),
        };
        Ok(())
    }

    fn evict(&mut self, who: Who, event: &Event) -> Result<(), &'static str> {
        if event.phase == Phase::Invoke {
            let name = self.text(&event.name);
            let eviction = Eviction { name, fence: event.fence, invoked: event.t_ns, ended: None };
            self.evictions.insert(who, eviction);
            return Ok(());
        }
        let eviction = self.evictions.get_mut(&who).ok_or("an evict ends that never started")?;
        match event.phase {
            Phase::Ok => eviction.ended = Some(event.t_ns),
            Phase::Fail => drop(self.evictions.remove(&who)),
            Phase::Info | Phase::Invoke => {}
        }
        Ok(())
    }

    /// What follows an acquire: the life of a waiter or of a guard.
    fn later(&mut self, who: &Who, event: &Event) -> Result<(), &'static str> {
        let t = event.t_ns;
        let index = *self.attempts.get(who).ok_or("nothing was acquired here")?;
        let attempt = &mut self.timeline.attempts[index];
        match (event.op, attempt.outcome) {
            // Seen in the queue by somebody who looked late: true, but of no use any more.
            (Op::Wait, Outcome::Open) => attempt.queued = attempt.queued.or(Some(t)),
            (Op::Wait, _) => {}
            (Op::Cancel, Outcome::Open) => attempt.outcome = Outcome::Unknown(t),
            (Op::Cancel, _) => {}
            (_, Outcome::Granted(_, grant)) => return self.guard(grant, event),
            _ => return Err("a guard acts that was never granted"),
        }
        Ok(())
    }

    fn guard(&mut self, index: usize, event: &Event) -> Result<(), &'static str> {
        let t = event.t_ns;
        let grant = &mut self.timeline.grants[index];
        let states_deadline = matches!(
            (event.op, event.phase),
            (Op::Renew | Op::Release, Phase::Invoke)
                | (Op::Renew | Op::Check, Phase::Ok)
                | (Op::Lost, _)
        );
        if states_deadline && grant.deadline != NEVER && event.deadline_ns.is_none() {
            return Err("a guard acts without stating its deadline");
        }
        let stated = event.deadline_ns.unwrap_or(grant.deadline);
        match (event.op, event.phase) {
            (Op::Renew | Op::Check, Phase::Invoke) => {
                if event.deadline_ns.is_some() {
                    state(grant, t, stated);
                }
                self.asked.entry((index, event.op)).or_default().push_back(t);
            }
            (Op::Renew | Op::Check, phase) => {
                // The oldest question is taken for this answer: no guard is accused by a wrong pairing.
                let asked = self
                    .asked
                    .get_mut(&(index, event.op))
                    .and_then(VecDeque::pop_front)
                    .unwrap_or(t);
                if phase == Phase::Ok && state(grant, asked, stated) {
                    grant.revived = grant.revived.or(Some(asked));
                }
            }
            (Op::Lost, _) => {
                state(grant, t, stated);
                grant.lost = grant.lost.or(Some(t));
            }
            (Op::Release, Phase::Invoke) => {
                if grant.release.is_some() {
                    return Err("a guard is released twice");
                }
                state(grant, t, stated);
                grant.release = Some(Release { invoked: t, released: false });
            }
            (Op::Release, phase) => {
                let release = grant.release.as_mut().ok_or("a release ends that never started")?;
                release.released = phase == Phase::Ok;
                grant.freed = release.released.then_some(t);
            }
            _ => return Err("not an act of a guard"),
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Timeline {
        for attempt in &mut self.timeline.attempts {
            if let (Outcome::Open, Some(&at)) =
                (attempt.outcome, self.crashes.get(&attempt.who.proc))
            {
                attempt.outcome = Outcome::Unknown(at);
            }
        }
        for grant in &mut self.timeline.grants {
            grant.crashed = self.crashes.get(&grant.who.proc).copied();
        }
        for eviction in self.evictions.values() {
            let meant = |grant: &&mut Grant| {
                grant.name == eviction.name
                    && eviction.fence.is_none_or(|fence| fence == grant.fence)
                    && grant.invoked < eviction.ended.unwrap_or(NEVER)
            };
            for grant in self.timeline.grants.iter_mut().filter(meant) {
                grant.evicted =
                    Some(grant.evicted.map_or(eviction.invoked, |t| t.min(eviction.invoked)));
                grant.freed = grant.freed.into_iter().chain(eviction.ended).min();
            }
        }
        self.timeline
    }
}

/// Notes the deadline that a guard stated as of `t`, and returns whether the guard was over by then.
///
/// Loss is final: once a guard was over, a later deadline is not believed.
fn state(grant: &mut Grant, t: u64, deadline: u64) -> bool {
    if !grant.over {
        grant.deadline = deadline;
    }
    let over = grant.deadline < t || grant.lost.is_some_and(|lost| lost < t);
    grant.over |= over;
    over
}

fn window(windows: &mut Vec<Window>, t: u64, phase: Phase) -> Result<(), &'static str> {
    match (phase, windows.last_mut()) {
        (Phase::Invoke, _) => windows.push(Window { from: t, to: NEVER }),
        (_, Some(open)) if open.to == NEVER => open.to = t,
        _ => return Err("a pause ends that never started"),
    }
    Ok(())
}
