//! Removing the directories of locks that nobody uses any more.
//!
//! Moving the current step's name to a dead one is a transition like any other: whoever had
//! another one in mind loses. A dead lock is alive again as soon as somebody moves that name on,
//! so that nothing is lost if the removal is cut off at any point or if somebody comes back
//! meanwhile.

use std::time::Duration;

use parking_lot::Mutex;
use rustix::io::Errno;
use tenure_core::Result;
use tenure_core::machine::Cell;

use crate::baton;
use crate::creation;
use crate::layout::{self, MAX_GENERATION, Step};
use crate::platform;
use crate::record;
use crate::register::lock_dirs;
use crate::room::{LockDir, Room};

/// How long nobody has touched what is removed without being asked for.
const IDLE: Duration = Duration::from_secs(3600);
/// How many directories are looked at in between.
const BATCH: usize = 32;
/// How old litter is when it is removed: whoever left it is not coming back for it.
pub(crate) const LITTER: Duration = Duration::from_secs(60);

/// How long a lock that was just used may be ahead of the wall clock, whose generations begin
/// anew every millisecond.
const CLOCK_STEP: Duration = Duration::from_millis(2);

/// Where the removal stands that goes on in small steps.
#[derive(Debug, Default)]
pub(crate) struct Pruner {
    /// The directories still to be looked at in this round.
    round: Mutex<Vec<String>>,
}

impl Pruner {
    /// Looks at all directories.
    pub(crate) fn all(&self, room: &Room, idle_for: Duration) -> Result<usize> {
        let dirs = lock_dirs(room, "")?;
        let removed = dirs.into_iter().filter(|dir| prune(room, dir, idle_for)).count();
        clear_scrap(room);
        Ok(removed)
    }

    /// Looks at a few.
    pub(crate) fn some(&self, room: &Room) {
        // Whoever is at it already does it for all.
        let Some(mut round) = self.round.try_lock() else {
            return;
        };
        if round.is_empty() {
            *round = lock_dirs(room, "").unwrap_or_default();
            clear_scrap(room);
        }
        let left = round.len().saturating_sub(BATCH);
        for dir in round.split_off(left) {
            prune(room, &dir, IDLE);
        }
    }
}

/// Removes one directory if nobody uses its lock; `false` if it stays.
fn prune(room: &Room, name: &str, idle_for: Duration) -> bool {
    let Ok(Some(dir)) = room.dir(name.to_owned()) else {
        return false;
    };
    let idle = platform::stat(&dir.fd).is_ok_and(|stat| idle_for <= platform::age(&stat));
    idle && kill(room, &dir) && bury(room, name)
}

/// Says that the lock is dead, if nobody needs it.
fn kill(room: &Room, dir: &LockDir) -> bool {
    let Ok(names) = baton::list(room, dir) else {
        return false;
    };
    let Some(step) = names.current else {
        return names.dead.is_some();
    };
    let Some(record) = record::read(room, dir, step).ok().and_then(record::Found::whole) else {
        return false;
    };
    let Ok((_, cell)) = Cell::decode(&record.bytes) else {
        return false;
    };
    if !cell.is_forgettable(room.clock.wall()) {
        return false;
    }
    // Fences go on above all that were ever granted, also if the directory stays.
    let dead = Step::new(step.generation.max(cell.fence().get()) + 1);
    dead.generation < MAX_GENERATION
        && platform::rename(&dir.fd, &step.current(), &dead.dead()).is_ok()
}

/// Removes what is left of a dead lock, its death certificate last.
fn bury(room: &Room, name: &str) -> bool {
    let Some((dir, names)) = look(room, name) else {
        return false;
    };
    let Some(dead) = names.dead.filter(|_| names.current.is_none()) else {
        return false;
    };
    names.sweep(&dir, Step { generation: dead.generation + 1, ..dead }, None);
    for other in &names.others {
        // Somebody may be about to come back, with a new sign of life; all else can be missed.
        let is_needed = layout::entry(other) == layout::Entry::Sign
            && platform::stat_at(&dir.fd, other).is_ok_and(|s| platform::age(&s) < LITTER);
        if !is_needed {
            let _ = platform::unlink(&dir.fd, other);
        }
    }
    let Some((dir, names)) = look(room, name) else {
        return false;
    };
    if !names.are_bare() || names.dead != Some(dead) {
        return false;
    }
    // A later directory of this name begins at the wall clock; where that is behind, only this one
    // keeps fences growing.
    let is_behind = || baton::first_generation(room) <= dead.generation;
    if is_behind() {
        platform::pause(CLOCK_STEP);
    }
    if is_behind() || creation::mark_burial(room).is_err() {
        return false;
    }
    // Before the name that somebody may still move on: whatever is cut off from here, a directory
    // without either is seen to be remains.
    let _ = platform::unlink(&dir.fd, layout::FORMAT_FILE);
    // From here on nobody can come back to this directory, and everybody to its name.
    if platform::unlink(&dir.fd, &dead.dead()).is_err() {
        // Somebody did come back, and may have looked for it before it was removed.
        baton::mark_format(room, &dir);
        return false;
    }
    platform::remove_dir(&room.root, name).is_ok()
}

fn look(room: &Room, name: &str) -> Option<(LockDir, baton::Names)> {
    let dir = room.dir(name.to_owned()).ok()??;
    let names = baton::list(room, &dir).ok()?;
    Some((dir, names))
}

/// Removes what was begun and never moved into place.
fn clear_scrap(room: &Room) {
    use rustix::fd::AsFd;
    let Ok(root) = platform::open(&room.root, ".", platform::Open::Directory) else {
        return;
    };
    let mut old = Vec::new();
    let listed = platform::list(root.as_fd(), |name| {
        if layout::is_scrap(name) {
            old.push(name.to_owned());
        }
    });
    if listed == Err(Errno::STALE) {
        return;
    }
    for name in old {
        let is_old = |stat| LITTER <= platform::age(&stat);
        if !platform::stat_at(&room.root, &name).is_ok_and(is_old) {
            continue;
        }
        match room.dir(name.clone()) {
            Ok(Some(dir)) => creation::discard(room, &dir),
            // A file; of a directory only its content may be left that is not ours.
            _ => drop(platform::unlink(&room.root, &name)),
        }
    }
}
