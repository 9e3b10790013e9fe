//! Reporting a transition, and removing the files it left behind.

use super::config::{Baton, SweepRule};
use super::state::{Fault, Job, Name, Pc, State};

impl State {
    pub(crate) fn won(&mut self, p: usize, model: &Baton) {
        if model.rules.durable {
            self.procs[p].pc = Pc::Sync;
            return;
        }
        self.report(p);
    }

    /// `fsync` of the directory: what it holds now survives a loss of power.
    pub(crate) fn sync(&mut self, p: usize) {
        if self.on_disk.is_some() {
            self.on_disk.clone_from(&self.dir);
        }
        self.report(p);
    }

    /// Tells the user. A claim whose deadline passed on the way is not a guard.
    fn report(&mut self, p: usize) {
        if !self.procs[p].committed {
            self.fail(Fault::FalseReport);
        }
        let proc = &mut self.procs[p];
        let version = proc.attempt.map(|attempt| attempt.to).or(proc.view);
        proc.view = version;
        proc.attempt = None;
        proc.unsure = false;
        proc.committed = false;
        proc.pc = Pc::SweepList;
        if proc.job == Job::Acquire && !proc.lapsed {
            proc.held = true;
            let fence = version.map_or(0, |version| version.generation);
            self.reported = self.reported.max(fence);
        }
    }

    /// Lists what may be deleted. The deletions come one by one and any time later, so the list
    /// may be arbitrarily old when it is used.
    ///
    /// Heart-beats: the one the own transition removed; and, while the own version is current,
    /// those of tokens that are not listed and whose claim has ended by the same evidence that
    /// evicts. A claimant that is merely slow keeps its own.
    pub(crate) fn sweep_list(&mut self, p: usize, model: &Baton) {
        let proc = &self.procs[p];
        let mut names = Vec::new();
        if let Some(dir) = self.opened(p)
            && let Some(current) = dir.newest()
        {
            let own = proc.view == Some(current);
            let listed = dir.record(current.tok).and_then(|record| record.holder);
            names.extend(dir.records.iter().filter_map(|record| {
                let old = match model.rules.sweep {
                    SweepRule::PreviousGeneration => record.prev < current.generation,
                    SweepRule::Unreferenced => true,
                };
                (old && record.tok != current.tok)
                    .then_some(Name::Record { prev: record.prev, tok: record.tok })
            }));
            names.extend(dir.heartbeats.iter().filter_map(|tok| {
                let removed = proc.evicts == Some(*tok)
                    || (proc.job == Job::Release && proc.claim == Some(*tok));
                let stray = own && listed != Some(*tok) && self.is_evictable(*tok);
                (removed || stray).then_some(Name::Heartbeat(*tok))
            }));
        }
        names.sort_unstable();
        self.procs[p].sweep = names;
        self.procs[p].pc = Pc::Sweep;
    }

    /// Deletes one name of the list, in any order.
    pub(crate) fn sweep_one(&mut self, p: usize, index: usize) {
        match self.procs[p].sweep.remove(index) {
            Name::Record { prev, tok } => self.unlink_record(p, prev, tok),
            Name::Heartbeat(tok) => self.unlink_heartbeat(p, tok),
        }
    }

    pub(crate) fn swept(&mut self, p: usize) {
        let proc = &mut self.procs[p];
        match proc.job {
            Job::Acquire => {
                proc.evicts = None;
                proc.pc = Pc::Held;
            }
            Job::Prune => proc.pc = Pc::LookBare,
            Job::Release | Job::None => proc.forget(),
        }
    }

    /// The job is done or moot: the own heart-beat goes, and with it the claim.
    pub(crate) fn drop_claim(&mut self, p: usize) {
        let claim = self.procs[p].claim;
        if let Some(dir) = self.opened_mut(p) {
            dir.heartbeats.retain(|tok| Some(*tok) != claim);
        }
        self.procs[p].forget();
    }

    pub(crate) fn unlink_record(&mut self, p: usize, prev: u8, tok: super::state::Tok) {
        let Some(dir) = self.opened_mut(p) else {
            return;
        };
        let live = dir.current().is_some_and(|record| record.prev == prev && record.tok == tok);
        dir.records.retain(|record| record.prev != prev || record.tok != tok);
        if live {
            self.fail(Fault::LiveRecordRemoved);
        }
    }

    fn unlink_heartbeat(&mut self, p: usize, tok: super::state::Tok) {
        let Some(dir) = self.opened_mut(p) else {
            return;
        };
        dir.heartbeats.retain(|have| *have != tok);
        let owner = usize::from(tok.owner);
        if owner != p && self.procs[owner].claim == Some(tok) {
            self.procs[owner].swept = true;
        }
    }
}
