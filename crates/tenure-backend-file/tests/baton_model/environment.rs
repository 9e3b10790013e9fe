//! What happens to processes, without asking them.

use super::config::{Baton, FOR_EVER};
use super::state::State;

impl State {
    /// The process dies, or is killed, between two calls. It starts again knowing nothing.
    pub(crate) fn crash(&mut self, p: usize) {
        if self.procs[p].crashes != FOR_EVER {
            self.procs[p].crashes -= 1;
        }
        self.procs[p].forget();
    }

    /// The deadline of the claim passes on its own clock.
    pub(crate) fn lapse(&mut self, p: usize) {
        self.procs[p].lapsed = true;
    }

    /// The server gets around to a rename whose caller was told of an error long ago.
    pub(crate) fn deliver(&mut self, p: usize, model: &Baton) {
        let Some(attempt) = self.procs[p].late.take() else {
            return;
        };
        if self.can_commit(attempt) {
            self.commit(p, attempt, model);
        }
    }

    /// The journal reaches the disk by itself. With this at any time, a loss of power can leave
    /// any prefix of what was done since the last `fsync`.
    pub(crate) fn write_back(&mut self) {
        self.on_disk.clone_from(&self.dir);
    }

    /// The machine stops and starts: every process is gone, and so is what was not on disk.
    pub(crate) fn lose_power(&mut self) {
        self.power_losses -= 1;
        self.dir.clone_from(&self.on_disk);
        if self.power_losses == 0 {
            self.on_disk = None;
        }
        for proc in &mut self.procs {
            proc.late = None;
            proc.forget();
        }
        // A grant that nobody was told of and that the disk forgot has never been.
        let kept = self
            .dir
            .as_ref()
            .filter(|dir| dir.current().is_some_and(|record| record.holder.is_some()))
            .and_then(|dir| dir.newest());
        let kept = kept.map_or(0, |version| version.generation);
        self.granted = self.reported.max(kept);
    }
}
