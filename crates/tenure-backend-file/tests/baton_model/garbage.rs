//! Forgetting what nobody can look at any more.
//!
//! A file that no process can come to read, and whose name no process can come to use, changes
//! nothing but the length of a sweeper's list. With such garbage and without it the processes do
//! the same things, so the model drops it at once: otherwise every state would exist once for
//! each subset of the garbage. While the directory has a `cur` nobody asks whether it is empty,
//! and when it has none, everything is kept.
//!
//! The dangerous deletions are those of files that are *not* garbage: these stay, and so do the
//! entries for them on the lists of sweepers.

use super::config::{Baton, Detail, FenceRule, RetryRule};
use super::state::{Dir, Job, Name, Pc, Proc, State, Tok, Version};

impl State {
    pub(crate) fn drop_garbage(&mut self, model: &Baton) {
        let skips = match model.detail {
            Detail::EveryCall => false,
            // An old listing used again leads to nothing but another doomed attempt.
            Detail::VisibleCalls => true,
            Detail::Register => !model.old_listings,
        };
        if skips {
            self.skip_doomed_attempts(model);
        }
        self.drop_old_views(model);
        self.drop_old_counts();
        self.drop_late_renames();
        self.drop_files(model);
        self.drop_list_entries(model);
        self.settle_leases(model);
        self.settle_ghosts(model);
    }

    /// Takes a process whose attempt cannot succeed any more to where it will list again.
    ///
    /// What it does until then (read a record that is superseded, wait for its holder, write a
    /// record and a heart-beat that are garbage, be refused, check, withdraw) is seen by nobody
    /// and ends in the same place whatever others do. It would only be there to be interleaved.
    fn skip_doomed_attempts(&mut self, model: &Baton) {
        let current = self.dir.as_ref().and_then(Dir::newest);
        for p in 0..self.procs.len() {
            let proc = &self.procs[p];
            if proc.committed || !matches!(proc.job, Job::Acquire | Job::Release) {
                continue;
            }
            let doomed = match proc.pc {
                Pc::Read | Pc::Watch(_) => proc.view != current,
                Pc::Rename | Pc::Recheck | Pc::RecheckRead(_) | Pc::Withdraw => {
                    proc.attempt.map(|attempt| attempt.from) != current
                }
                _ => false,
            };
            if doomed {
                self.retry(p, model);
                self.procs[p].view = None;
            }
        }
    }

    /// A version listed for an attempt that is over is used again by nobody.
    fn drop_old_views(&mut self, model: &Baton) {
        for proc in &mut self.procs {
            if proc.pc == Pc::List && !model.old_listings {
                proc.view = None;
            }
        }
    }

    /// Only who is about to publish a directory asks for burials.
    fn drop_old_counts(&mut self) {
        for proc in &mut self.procs {
            proc.counted &= proc.job == Job::Acquire && proc.pc != Pc::List;
            proc.buried &= proc.counted;
            if !matches!(proc.pc, Pc::Touch | Pc::CreateRecord) {
                proc.first = None;
            }
        }
    }

    /// A rename whose source is gone will fail whenever it is executed.
    fn drop_late_renames(&mut self) {
        for p in 0..self.procs.len() {
            let late = self.procs[p].late;
            self.procs[p].late = late.filter(|late| self.can_commit(*late));
        }
    }

    fn drop_files(&mut self, model: &Baton) {
        let procs = &self.procs;
        if let Some(dir) = self.dir.as_mut()
            && let Some(current) = dir.newest()
        {
            dir.records.retain(|record| {
                let named = record.tok == current.tok;
                named || procs.iter().any(|proc| may_read(proc, record.tok, current))
            });
            dir.heartbeats
                .retain(|tok| needs_heartbeat(&procs[usize::from(tok.owner)], *tok, model));
            // Only the author of a transition compares its token with that of a predecessor.
            for record in &mut dir.records {
                record.prev_tok = record.prev_tok.filter(|tok| {
                    let attempt = procs[usize::from(tok.owner)].attempt;
                    attempt.is_some_and(|attempt| attempt.to.tok == *tok)
                });
            }
        }
        // All that power loss leaves to be read is the current record: it ends all processes.
        if let Some(dir) = self.on_disk.as_mut() {
            let current = dir.current();
            dir.records = current.into_iter().collect();
            dir.records.iter_mut().for_each(|record| record.prev_tok = None);
            dir.heartbeats.clear();
        }
    }

    /// Names without a file are not worth a call, if the file would be garbage when it came.
    fn drop_list_entries(&mut self, model: &Baton) {
        for p in 0..self.procs.len() {
            let mut sweep = std::mem::take(&mut self.procs[p].sweep);
            let dir = self.opened(p);
            sweep.retain(|name| match *name {
                Name::Record { prev, tok } => dir.is_some_and(|dir| {
                    let exists =
                        dir.records.iter().any(|record| record.prev == prev && record.tok == tok);
                    let owner = &self.procs[usize::from(tok.owner)];
                    let superseded = dir.newest().is_some_and(|cur| prev < cur.generation);
                    exists || (!superseded && owner.transition_tok() == Some(tok))
                }),
                Name::Heartbeat(tok) => {
                    let owner = &self.procs[usize::from(tok.owner)];
                    dir.is_some() && needs_heartbeat(owner, tok, model)
                }
            });
            self.procs[p].sweep = sweep;
        }
    }

    /// A releaser is no valid holder, and once its claim is off the register nobody asks whether
    /// it may be evicted. Taking its lease for ended only widens what a sweeper may do.
    fn settle_leases(&mut self, model: &Baton) {
        let current = self.dir.as_ref().and_then(Dir::current);
        let listed = current.and_then(|record| record.holder);
        for proc in &mut self.procs {
            if proc.job == Job::Release && proc.claim != listed {
                proc.lapsed = true;
            }
            if proc.claim.is_some_and(|claim| !needs_heartbeat(proc, claim, model)) {
                proc.swept = false;
            }
        }
    }

    /// The highest fence granted is compared with those of attempts under way, and with new ones,
    /// which are higher in any case while the clock is their floor.
    fn settle_ghosts(&mut self, model: &Baton) {
        if self.power_losses == 0 {
            self.reported = 0;
        }
        if model.rules.fence == FenceRule::Successor || self.fault.is_some() {
            return;
        }
        let granted = self.granted;
        let pending = self.procs.iter().flat_map(|proc| {
            let both = [proc.attempt, proc.late].into_iter().flatten();
            both.map(|attempt| attempt.to.generation)
        });
        let reached = pending.filter(|generation| *generation <= granted).max();
        self.granted = reached.unwrap_or(0);
    }
}

/// Whether `proc` can come to read the record of `tok`, or to make it current.
fn may_read(proc: &Proc, tok: Tok, current: Version) -> bool {
    let listed = proc.view.is_some_and(|view| view.tok == tok);
    let checking = matches!(proc.pc, Pc::RecheckRead(version) if version.tok == tok);
    let made = [proc.attempt, proc.late]
        .into_iter()
        .flatten()
        .any(|attempt| attempt.to.tok == tok && attempt.from == current);
    listed || checking || made
}

/// Whether it matters that the heart-beat of `tok` is there: only a claim that is or may become a
/// guard needs one, and a claim whose deadline has passed cannot (unless a broken rule lets it).
/// Where holders renew, those that lapsed are followed up to the renewal that tells them.
fn needs_heartbeat(owner: &Proc, tok: Tok, model: &Baton) -> bool {
    let hopeless = owner.lapsed && !model.renewals && model.rules.retry == RetryRule::FreshToken;
    owner.claim == Some(tok) && !hopeless
}
