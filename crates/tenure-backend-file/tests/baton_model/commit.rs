//! The rename and what is made of its reply.

use super::config::{Baton, RetryRule, WithdrawRule};
use super::state::{Attempt, Dir, Fault, Job, Pc, Record, State, Version};

impl State {
    /// Whether the source of the rename is there to be renamed.
    pub(crate) fn can_commit(&self, attempt: Attempt) -> bool {
        self.dir
            .as_ref()
            .is_some_and(|dir| dir.cur.contains(&attempt.from) || dir.dead == Some(attempt.from))
    }

    /// The server executes the rename: the only place where the register changes.
    pub(crate) fn commit(&mut self, p: usize, attempt: Attempt, model: &Baton) {
        let before = self.dir.as_ref().and_then(|dir| dir.current());
        let dir = self.dir.as_mut().expect("checked by can_commit");
        dir.cur.retain(|version| *version != attempt.from);
        if dir.dead == Some(attempt.from) {
            dir.dead = None;
            dir.format |= model.rules.format_returns;
        }
        dir.cur.push(attempt.to);
        dir.cur.sort_unstable();
        if !model.has_files() {
            dir.records = vec![Record {
                prev: attempt.from.generation,
                tok: attempt.to.tok,
                prev_tok: Some(attempt.from.tok),
                holder: attempt.holder,
            }];
        }
        // Where dead locks revive, every single step is above all there ever was.
        if model.revives() && attempt.to.generation <= self.highest {
            self.fail(Fault::FenceNotRising);
        }
        self.highest = self.highest.max(attempt.to.generation);

        let grant = attempt.holder.is_some();
        if grant && attempt.to.generation <= self.granted {
            self.fail(Fault::FenceNotRising);
        }
        if grant {
            self.granted = self.granted.max(attempt.to.generation);
        }
        let proc = &mut self.procs[p];
        if proc.transition_tok() == Some(attempt.to.tok) {
            proc.committed = true;
        }
        let removed = before.and_then(|record| record.holder);
        if removed.is_some() && removed != attempt.removes {
            self.fail(Fault::ForeignRemoval);
        }
    }

    /// Executed and answered.
    pub(crate) fn rename_answered(&mut self, p: usize, model: &Baton) {
        let attempt = self.procs[p].attempt.expect("an attempt to commit");
        self.commit(p, attempt, model);
        self.procs[p].pc = Pc::Won;
    }

    /// Executed, but the caller gets an error.
    pub(crate) fn rename_unanswered(&mut self, p: usize, model: &Baton) {
        let attempt = self.procs[p].attempt.expect("an attempt to commit");
        self.commit(p, attempt, model);
        self.procs[p].pc = Pc::Recheck;
    }

    /// Not executed: the source is gone, the handle is stale, or the call failed on its way.
    pub(crate) fn rename_refused(&mut self, p: usize) {
        self.procs[p].pc = Pc::Recheck;
    }

    /// The caller gets an error; the request is still on its way.
    pub(crate) fn rename_delayed(&mut self, p: usize) {
        self.procs[p].late = self.procs[p].attempt;
        self.procs[p].pc = Pc::Recheck;
    }

    /// Lists again after an error, revalidated.
    pub(crate) fn recheck(&mut self, p: usize, model: &Baton) {
        let attempt = self.procs[p].attempt.expect("an attempt to resolve");
        let dead = |dir: &Dir| if model.revives() { dir.dead } else { None };
        let current = self.opened(p).and_then(|dir| dir.newest().or(dead(dir)));
        self.procs[p].pc = match current {
            Some(version) if version == attempt.to => Pc::Resolved,
            Some(version) if version == attempt.from => return self.not_yet(p, model),
            Some(version) => Pc::RecheckRead(version),
            // Pruned: whatever the transition did, nothing of it is left.
            None => Pc::Withdraw,
        };
    }

    /// Sees the directory as it was before the attempt, the revalidation notwithstanding.
    pub(crate) fn recheck_stale(&mut self, p: usize, model: &Baton) {
        self.not_yet(p, model);
    }

    /// The register still is as it was when the attempt began.
    ///
    /// The rename may execute at any later time, so its record must stay and its token must not
    /// be taken for another attempt. The same rename is sent again, and the lease counts from the
    /// first time it was sent.
    fn not_yet(&mut self, p: usize, model: &Baton) {
        self.procs[p].unsure = true;
        let again = match model.rules.retry {
            RetryRule::FreshToken => Pc::Rename,
            RetryRule::SameToken => Pc::List,
        };
        self.procs[p].pc = match model.rules.withdraw {
            WithdrawRule::SourceGone => again,
            WithdrawRule::NotWon => Pc::Withdraw,
        };
    }

    /// Reads the record that is current now: does it, or the step before it, name the attempt?
    pub(crate) fn recheck_read(&mut self, p: usize, version: Version) {
        let record = self.opened(p).and_then(|dir| dir.record(version.tok));
        let proc = &mut self.procs[p];
        let attempt = proc.attempt.expect("an attempt to resolve");
        let Some(record) = record else {
            proc.pc = Pc::Recheck;
            return;
        };
        let won = match proc.job {
            // Admitted and removed again is as good as never admitted.
            Job::Acquire => record.holder == proc.claim,
            Job::Release | Job::Prune | Job::None => record.prev_tok == Some(attempt.to.tok),
        };
        proc.pc = if won { Pc::Resolved } else { Pc::Withdraw };
    }

    /// Removes what the attempt left and goes on: a release looks whether it is still needed.
    ///
    /// Two unlinks in one step: nobody reads a record that no `cur` names, nor a heart-beat whose
    /// token no record lists, and both calls tolerate that a sweeper was first.
    pub(crate) fn withdraw(&mut self, p: usize, model: &Baton) {
        let attempt = self.procs[p].attempt.expect("an attempt to withdraw");
        let claim = self.procs[p].claim;
        self.unlink_record(p, attempt.from.generation, attempt.to.tok);
        let acquiring = self.procs[p].job == Job::Acquire;
        if acquiring && let Some(dir) = self.opened_mut(p) {
            dir.heartbeats.retain(|tok| Some(*tok) != claim);
        }
        self.retry(p, model);
    }

    /// The caller has no patience for an attempt whose outcome stays open: it forgets the token
    /// and leaves the rest to the sweepers.
    pub(crate) fn give_up(&mut self, p: usize) {
        self.procs[p].forget();
    }
}
