//! Creating the directory, and removing it when the lock is idle.
//!
//! The order of removal is records and heart-beats, `FORMAT`, the `dead` mark, the directory. At
//! every point in between somebody else can see that it is pruned and finish the work.

use super::config::{Baton, FOR_EVER};
use super::state::{Dir, Job, Pc, State, Version};

impl State {
    /// Builds the temporary directory. It is private until it is renamed, so building it is one
    /// step; what matters is that its generation is the time of *now*.
    pub(crate) fn build(&mut self, p: usize) {
        let tok = self.draw(p);
        let generation = self.highest + 1;
        self.procs[p].pc = Pc::Publish { generation, tok };
    }

    /// Renames it to the path: works where nothing is, or an empty directory.
    pub(crate) fn publish(&mut self, p: usize, generation: u8, tok: super::state::Tok) {
        self.procs[p].pc = Pc::Open;
        if self.dir.as_ref().is_some_and(|dir| !dir.is_empty()) {
            return;
        }
        self.detach();
        self.dir = Some(Dir::fresh(generation, tok));
        self.highest = self.highest.max(generation);
    }

    pub(crate) fn can_prune(&self, p: usize) -> bool {
        let view = self.procs[p].view.expect("read before prune");
        0 < self.prunes && self.opened(p).is_some_and(|dir| dir.cur.contains(&view))
    }

    /// `cur` becomes `dead`: the same compare-and-set as any transition, and the last one.
    pub(crate) fn mark_dead(&mut self, p: usize, answered: bool) {
        let view = self.procs[p].view.expect("read before prune");
        let tok = self.draw(p);
        let dir = self.opened_mut(p).expect("checked by can_prune");
        dir.cur.retain(|version| *version != view);
        dir.dead = Some(Version { tok, ..view });
        if self.prunes != FOR_EVER {
            self.prunes -= 1;
        }
        self.procs[p].pc = if answered { Pc::CleanFiles } else { Pc::PruneRecheck };
    }

    pub(crate) fn prune_recheck(&mut self, p: usize) {
        let dead = self.opened(p).is_some_and(|dir| dir.dead.is_some());
        self.procs[p].pc = if dead { Pc::CleanFiles } else { Pc::Drop };
    }

    /// Unlinks every record and heart-beat that a listing shows, as one step: in a directory
    /// without `cur` a reader can only stumble over the one record it was about to read, and for
    /// that one it makes no difference when the others go.
    pub(crate) fn clean_files(&mut self, p: usize) {
        if let Some(dir) = self.opened_mut(p) {
            dir.records.clear();
            dir.heartbeats.clear();
        }
        self.procs[p].pc = Pc::CleanFormat;
    }

    pub(crate) fn clean_format(&mut self, p: usize, model: &Baton) {
        let dir = if model.rules.prune_by_handle {
            self.opened_mut(p)
        } else {
            // The other names contain tokens and cannot exist in a later directory; this one can.
            self.dir.as_mut()
        };
        if let Some(dir) = dir {
            dir.format = false;
        }
        let last = model.revives() && !model.rules.format_first;
        self.procs[p].pc = if last { Pc::RemoveDir } else { Pc::CleanDead };
    }

    pub(crate) fn clean_dead(&mut self, p: usize) {
        if let Some(dir) = self.opened_mut(p) {
            dir.dead = None;
        }
        self.procs[p].pc = Pc::RemoveDir;
    }

    /// `rmdir` of the path, whatever is there by now: it removes nothing that is not empty.
    pub(crate) fn remove_dir(&mut self, p: usize) {
        if self.dir.as_ref().is_some_and(Dir::is_empty) {
            self.detach();
        }
        self.procs[p].pc = match self.procs[p].job {
            Job::Acquire => Pc::Open,
            Job::Release | Job::Prune | Job::None => Pc::Drop,
        };
    }
}
