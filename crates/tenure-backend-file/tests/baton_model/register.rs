//! What a process does up to the rename, and while it holds the lock.

use super::config::{Baton, FOR_EVER, FenceRule, RenewRule, RetryRule};
use super::state::{Attempt, Job, Pc, Record, State, Tok, Version};

impl State {
    pub(crate) fn start_acquire(&mut self, p: usize) {
        let claim = self.draw(p);
        let proc = &mut self.procs[p];
        if proc.acquisitions != FOR_EVER {
            proc.acquisitions -= 1;
        }
        proc.job = Job::Acquire;
        proc.claim = Some(claim);
        proc.pc = Pc::Open;
    }

    /// The guard ends here, before anything is sent.
    pub(crate) fn start_release(&mut self, p: usize) {
        let releasing = self.draw(p);
        let proc = &mut self.procs[p];
        proc.held = false;
        proc.job = Job::Release;
        proc.releasing = Some(releasing);
        proc.committed = false;
        proc.evicts = None;
        proc.attempt = None;
        proc.pc = Pc::List;
    }

    pub(crate) fn start_prune(&mut self, p: usize) {
        self.procs[p].job = Job::Prune;
        self.procs[p].pc = Pc::Open;
    }

    /// The directory at the path, or that there is none.
    pub(crate) fn open(&mut self, p: usize, model: &Baton) {
        let exists = self.dir.is_some();
        let proc = &mut self.procs[p];
        proc.handle = exists;
        proc.view = None;
        proc.pc = match proc.job {
            _ if exists => Pc::List,
            Job::Acquire if model.revives() && !proc.counted => Pc::CountBurials { seen: false },
            Job::Acquire => Pc::Build,
            Job::Release | Job::Prune | Job::None => Pc::Drop,
        };
    }

    /// A fresh listing through the handle. `None`: nothing can be done with what was seen.
    pub(crate) fn list(&mut self, p: usize, model: &Baton) -> Option<()> {
        self.procs[p].evicts = None;
        let Some(dir) = self.opened(p) else {
            self.procs[p].pc = Pc::Open;
            return Some(());
        };
        if model.revives() && dir.newest().is_none() {
            return self.list_revivable(p);
        }
        if dir.dead.is_some() {
            self.procs[p].pc = Pc::CleanFiles;
            return Some(());
        }
        if let Some(version) = dir.newest() {
            self.procs[p].view = Some(version);
            self.procs[p].pc = Pc::Read;
            return Some(());
        }
        // No name ever becomes `cur` again in a directory without one, and `FORMAT` is neither
        // renamed nor made again: both missing is proof that somebody pruned it and was cut short.
        if model.rules.remnant_is_pruned && !dir.format {
            self.procs[p].pc = Pc::CleanFiles;
            return Some(());
        }
        None
    }

    /// Goes on with the version listed earlier, as a cache or a long pause would make it do.
    pub(crate) fn list_stale(&mut self, p: usize) {
        self.procs[p].evicts = None;
        self.procs[p].pc = Pc::Read;
    }

    pub(crate) fn read(&mut self, p: usize) {
        let view = self.procs[p].view.expect("listed before read");
        let record = self.opened(p).and_then(|dir| dir.record(view.tok));
        let proc = &mut self.procs[p];
        let Some(record) = record else {
            proc.view = None;
            proc.pc = Pc::List;
            return;
        };
        proc.pc = match (proc.job, record.holder) {
            (Job::Acquire, None) => Pc::Touch,
            (Job::Acquire, holder) if holder == proc.claim => {
                proc.attempt = None;
                Pc::Resolved
            }
            (Job::Acquire, Some(holder)) => Pc::Watch(holder),
            (Job::Release, holder) if holder == proc.claim => Pc::CreateRecord,
            (Job::Prune, None) => Pc::PruneRename,
            (Job::Release | Job::Prune | Job::None, _) => Pc::Drop,
        };
    }

    pub(crate) fn look_again(&mut self, p: usize) {
        self.procs[p].pc = Pc::List;
    }

    /// The evidence is complete; whether it still holds is for the rename to say.
    pub(crate) fn decide_to_evict(&mut self, p: usize, holder: Tok) {
        self.procs[p].evicts = Some(holder);
        self.procs[p].pc = Pc::Touch;
    }

    /// The lease is counted from here. No rename was ever sent for this token, so nobody can have
    /// watched it yet and the deadline may start anew (the broken retry rule does so regardless).
    pub(crate) fn touch(&mut self, p: usize, model: &Baton) {
        let claim = self.procs[p].claim.expect("acquiring");
        self.reopen(p, model);
        let Some(dir) = self.opened_mut(p) else {
            self.procs[p].pc = Pc::Open;
            return;
        };
        if model.has_files() {
            dir.create_heartbeat(claim);
        }
        let proc = &mut self.procs[p];
        proc.lapsed = false;
        proc.swept = false;
        proc.pc = Pc::CreateRecord;
    }

    pub(crate) fn create_record(&mut self, p: usize, model: &Baton) {
        let proc = &self.procs[p];
        let from = proc.view.expect("read before write");
        let tok = proc.transition_tok().expect("in a transition");
        let (holder, removes) = match proc.job {
            Job::Acquire => (proc.claim, proc.evicts),
            Job::Release | Job::Prune | Job::None => (None, proc.claim),
        };
        let job = proc.job;
        let first = self.procs[p].first.take();
        let dead = self.opened(p).and_then(|dir| dir.dead);
        let generation = match (model.rules.fence, first) {
            // In a directory of one's own making: chosen before it was made.
            (_, Some(first)) => first,
            (FenceRule::ClockFloor, None) if model.revives() && dead != Some(from) => {
                from.generation + 1
            }
            (FenceRule::Successor, None) => from.generation + 1,
            (FenceRule::ClockFloor, None) => (from.generation + 1).max(self.highest + 1),
        };
        if job == Job::Release {
            self.reopen(p, model);
        }
        let Some(dir) = self.opened_mut(p) else {
            self.procs[p].pc = Pc::Open;
            return;
        };
        if model.has_files() {
            dir.create_record(Record {
                prev: from.generation,
                tok,
                prev_tok: Some(from.tok),
                holder,
            });
        }
        self.procs[p].attempt =
            Some(Attempt { from, to: Version { generation, tok }, holder, removes });
        self.procs[p].pc = Pc::Rename;
    }

    /// The next attempt after one that was not won, once the register has moved on.
    pub(crate) fn retry(&mut self, p: usize, model: &Baton) {
        let keeps = model.rules.retry == RetryRule::SameToken || self.procs[p].job == Job::Release;
        let fresh = self.draw(p);
        let proc = &mut self.procs[p];
        proc.attempt = None;
        proc.unsure = false;
        proc.committed = false;
        proc.pc = Pc::List;
        if keeps {
            return;
        }
        proc.claim = Some(fresh);
        proc.lapsed = false;
        proc.swept = false;
    }

    /// Writes the heart-beat through its open descriptor: no name changes. The time at which the
    /// renewal began was read before, so a deadline may pass in between.
    pub(crate) fn beat(&mut self, p: usize, model: &Baton) {
        let claim = self.procs[p].claim.expect("held");
        let swept = self.opened(p).is_none_or(|dir| !dir.has_heartbeat(claim));
        if !swept {
            self.procs[p].pc = Pc::BeatRead;
            return;
        }
        if model.rules.renew == RenewRule::InPlace {
            self.start_release(p);
            return;
        }
        if let Some(dir) = self.opened_mut(p) {
            dir.create_heartbeat(claim);
        }
        self.procs[p].pc = Pc::BeatRead;
    }

    /// A renewal counts only if the register still lists the claim *and* the old deadline has not
    /// passed meanwhile; else the guard is lost, and what may be left of it is released.
    pub(crate) fn beat_read(&mut self, p: usize) {
        let claim = self.procs[p].claim;
        let listed = self
            .opened(p)
            .and_then(|dir| dir.current())
            .is_some_and(|record| record.holder == claim);
        if listed && self.procs[p].is_valid() {
            self.procs[p].pc = Pc::Held;
            return;
        }
        self.start_release(p);
    }
}
