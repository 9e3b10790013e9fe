//! Removing and creating directories where a dead lock may come to life again.
//!
//! Here the dead mark carries a generation and is moved on like any `cur`. Only a pruner that finds
//! nothing else in the directory takes the mark away, after it has told all creators that it will:
//! they chose their first generation before they could know of that directory's fences.

use super::config::Baton;
use super::state::{Dir, Job, Name, Pc, State, Tok, Version};

impl State {
    /// Calls that follow a load look the directory up by its name again.
    pub(crate) fn reopen(&mut self, p: usize, model: &Baton) {
        if model.revives() {
            self.procs[p].handle = self.dir.is_some();
        }
    }

    /// A listing without `cur`. `None`: somebody is at it, or nobody ever will be.
    pub(crate) fn list_revivable(&mut self, p: usize) -> Option<()> {
        let dir = self.opened(p)?;
        let remains = dir.dead.is_none() && is_remains(dir);
        let dead = dir.dead;
        if dead.is_none() && !remains {
            return None;
        }
        let proc = &mut self.procs[p];
        proc.pc = match (proc.job, dead) {
            (Job::Acquire, Some(version)) => {
                proc.view = Some(version);
                Pc::Touch
            }
            (Job::Acquire, None) => Pc::CountBurials { seen: true },
            (Job::Prune, Some(version)) => {
                proc.view = Some(version);
                Pc::Bury
            }
            (Job::Release | Job::Prune | Job::None, _) => Pc::Drop,
        };
        Some(())
    }

    /// Counts before the look that finds nothing, or after one that found useless remains; the
    /// clock is read after both.
    pub(crate) fn count_burials(&mut self, p: usize, seen: bool) {
        let proc = &mut self.procs[p];
        proc.counted = true;
        proc.buried = false;
        proc.pc = if seen { Pc::Build } else { Pc::Open };
    }

    /// The first generation is above all there was: the clock. The directory is dead just below.
    pub(crate) fn build_stillborn(&mut self, p: usize) {
        let tok = self.draw(p);
        let generation = self.highest + 1;
        self.procs[p].pc = Pc::Publish { generation, tok };
    }

    pub(crate) fn publish_stillborn(&mut self, p: usize, generation: u8, tok: Tok) {
        if self.dir.as_ref().is_some_and(|dir| !dir.is_empty()) {
            self.procs[p].pc = Pc::ClearRemains { generation };
            return;
        }
        self.detach();
        self.dir = Some(Dir::stillborn(Version { generation, tok }));
        self.highest = self.highest.max(generation);
        self.procs[p].pc = Pc::CheckBurials { generation, tok };
    }

    /// If another directory of this name was buried meanwhile, the generation is worth nothing:
    /// look like everybody else what the directory says.
    pub(crate) fn check_burials(&mut self, p: usize, generation: u8, tok: Tok, model: &Baton) {
        let proc = &mut self.procs[p];
        proc.counted = false;
        proc.handle = self.dir.is_some();
        proc.pc = Pc::Open;
        if proc.buried && model.rules.counts_burials {
            return;
        }
        proc.view = Some(Version { generation, tok });
        proc.first = Some(generation + 1);
        proc.pc = Pc::Touch;
    }

    /// Something is in the way: a lock, or remains of one.
    pub(crate) fn clear_remains(&mut self, p: usize, generation: u8) {
        let in_the_way = self
            .dir
            .as_ref()
            .is_some_and(|dir| !dir.cur.is_empty() || dir.dead.is_some() || !is_remains(dir));
        let proc = &mut self.procs[p];
        if in_the_way {
            proc.counted = false;
            proc.pc = Pc::Open;
            return;
        }
        proc.handle = self.dir.is_some();
        proc.pc = Pc::RemoveRemains { generation };
    }

    /// Unlinks what was listed and then the directory, if it is empty; tries to publish again.
    ///
    /// All unlinks in one step, as in a dead directory: nothing in it can come to life.
    pub(crate) fn remove_remains(&mut self, p: usize, generation: u8) {
        if let Some(dir) = self.opened_mut(p) {
            dir.records.clear();
            dir.heartbeats.clear();
            dir.format = false;
        }
        if self.dir.as_ref().is_some_and(Dir::is_empty) {
            self.detach();
        }
        let tok = self.draw(p);
        self.procs[p].pc = Pc::Publish { generation, tok };
    }

    /// The lock is dead as of the next generation. Without an answer the pruner leaves it at that.
    pub(crate) fn kill(&mut self, p: usize, answered: bool) {
        let tok = self.draw(p);
        let view = self.procs[p].view.expect("read before prune");
        let generation = view.generation + 1;
        let version = Version { generation, tok };
        let dir = self.opened_mut(p).expect("checked by can_prune");
        dir.cur.retain(|have| *have != view);
        dir.dead = Some(version);
        self.highest = self.highest.max(generation);
        if self.prunes != super::config::FOR_EVER {
            self.prunes -= 1;
        }
        self.procs[p].pc = if answered { Pc::Bury } else { Pc::Drop };
    }

    /// Removes what belongs to nobody: all records, and signs of life that are old.
    ///
    /// In one step: the mark may move on in between, but no attempt that has yet to move it is
    /// spared its record either way. A record written after this is found by the next look.
    pub(crate) fn bury(&mut self, p: usize) {
        self.procs[p].handle = self.dir.is_some();
        self.procs[p].pc = Pc::Drop;
        let Some(dead) = self.opened(p).and_then(|dir| dir.dead) else {
            return;
        };
        let dir = self.opened(p).expect("just listed");
        let records = dir.records.iter().filter(|record| record.prev < dead.generation);
        let records = records.map(|record| Name::Record { prev: record.prev, tok: record.tok });
        let signs = dir.heartbeats.iter().filter(|tok| self.is_evictable(**tok));
        let signs = signs.map(|tok| Name::Heartbeat(*tok));
        let sweep = records.chain(signs).collect();
        let proc = &mut self.procs[p];
        proc.view = Some(dead);
        proc.sweep = sweep;
        proc.pc = Pc::Sweep;
    }

    /// Goes on only if nothing is left but the mark that was seen.
    pub(crate) fn look_bare(&mut self, p: usize) {
        let proc = &mut self.procs[p];
        proc.handle = self.dir.is_some();
        let view = proc.view;
        let bare = self.opened(p).is_some_and(|dir| {
            let others = dir.cur.is_empty() && dir.records.is_empty() && dir.heartbeats.is_empty();
            others && dir.dead.is_some() && dir.dead == view
        });
        self.procs[p].pc = if bare { Pc::MarkBurial } else { Pc::Drop };
    }

    pub(crate) fn mark_burial(&mut self, p: usize, model: &Baton) {
        let first = model.rules.format_first;
        for proc in &mut self.procs {
            proc.buried = true;
        }
        self.procs[p].pc = if first { Pc::CleanFormat } else { Pc::CleanDead };
    }

    /// Takes the mark away: from here on nobody can come back to this directory.
    pub(crate) fn unlink_mark(&mut self, p: usize, model: &Baton) {
        let view = self.procs[p].view;
        self.procs[p].pc = Pc::Drop;
        let Some(dir) = self.opened_mut(p) else {
            return;
        };
        if dir.dead.is_none() || dir.dead != view {
            dir.format |= model.rules.format_returns;
            return;
        }
        dir.dead = None;
        let first = model.rules.format_first;
        self.procs[p].pc = if first { Pc::RemoveDir } else { Pc::CleanFormat };
    }
}

/// Whether what is left without any mark can be thrown away: `FORMAT`, which goes last, or any
/// record is gone.
fn is_remains(dir: &Dir) -> bool {
    !dir.format || dir.records.is_empty()
}
