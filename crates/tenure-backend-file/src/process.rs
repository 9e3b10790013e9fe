//! One file per backend and process, kept locked as long as it lives: the kernel frees the lock
//! when the process ends, however it ends, and that is a proof.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use tenure_core::Result;

use crate::error;
use crate::heartbeat::Beat;
use crate::layout;
use crate::platform::{self, Open};
use crate::room::{LockDir, Room};

/// The files of this very process, which it need not ask the kernel about.
static MINE: Mutex<BTreeSet<u64>> = Mutex::new(BTreeSet::new());

/// How many files of dead processes a new one removes.
const SWEEPS: usize = 64;
/// How often a name that is taken, or was swept before it was locked, is made anew.
const ATTEMPTS: usize = 8;

/// This process's file. Dropping it says that the process is gone, as far as this backend goes.
#[derive(Debug)]
pub(crate) struct ProcessFile {
    room: Arc<Room>,
    id: u64,
    /// Open for writing, so that its end is told to those who watch for that.
    _fd: OwnedFd,
}

impl ProcessFile {
    /// Makes the file and locks it, before anybody can see it under its name. `None` on a file
    /// system without such locks.
    pub(crate) fn create(room: &Arc<Room>) -> Result<Option<Self>> {
        let path = || room.path.join(layout::PROCS);
        let fail = |errno| error::io(errno, "make a file in", &path());
        let dir = match room.dir(layout::PROCS.to_owned())? {
            Some(dir) => dir,
            None => match room.make_dir(layout::PROCS.to_owned()) {
                Ok(dir) => dir,
                Err(Errno::EXIST) => {
                    room.dir(layout::PROCS.to_owned())?.ok_or_else(|| fail(Errno::NOENT))?
                }
                Err(errno) => return Err(fail(errno)),
            },
        };
        sweep(room, &dir);
        let mut last = Errno::NOENT;
        for _ in 0..ATTEMPTS {
            let id = rand::random::<u64>().max(1);
            match Self::create_one(room, &dir, id) {
                Ok(file) => {
                    if file.is_some() {
                        room.spare.keep(room, id);
                    }
                    return Ok(file);
                }
                // Somebody swept it between its making and its locking, or looks at it.
                Err(errno @ (Errno::NOENT | Errno::WOULDBLOCK | Errno::EXIST)) => last = errno,
                Err(errno) => return Err(fail(errno)),
            }
        }
        Err(fail(last))
    }

    fn create_one(room: &Arc<Room>, dir: &LockDir, id: u64) -> Result<Option<Self>, Errno> {
        let (scrap, name) = (layout::scrap(), layout::process(id));
        let fd = room.create_read_write(&dir.fd, &scrap)?;
        let placed = platform::lock(&fd).and_then(|()| {
            MINE.lock().insert(id);
            platform::rename(&dir.fd, &scrap, &name)
        });
        match placed {
            Ok(()) => Ok(Some(Self { room: room.clone(), id, _fd: fd })),
            Err(errno) => {
                MINE.lock().remove(&id);
                let _ = platform::unlink(&dir.fd, &scrap);
                match errno {
                    Errno::NOSYS | Errno::OPNOTSUPP | Errno::NOLCK | Errno::INVAL => Ok(None),
                    other => Err(other),
                }
            }
        }
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }
}

impl Drop for ProcessFile {
    fn drop(&mut self) {
        MINE.lock().remove(&self.id);
        self.room.spare.drop_it(&self.room);
        if let Ok(Some(dir)) = self.room.dir(layout::PROCS.to_owned()) {
            let _ = platform::unlink(&dir.fd, &layout::process(self.id));
        }
    }
}

/// Removes what dead processes left.
fn sweep(room: &Room, dir: &LockDir) {
    let mut old = Vec::new();
    let listed = platform::list(dir.fd.as_fd(), |name| {
        let is_ours = layout::process_id(name).is_some()
            || layout::spare_id(name).is_some()
            || layout::is_scrap(name);
        if old.len() < SWEEPS && is_ours {
            old.push(name.to_owned());
        }
    });
    if listed.is_err() {
        return;
    }
    for name in old {
        if let Some(process) = layout::spare_id(&name) {
            // It comes after the file of its process, and goes before it.
            if platform::stat_at(&dir.fd, &layout::process(process)).err() == Some(Errno::NOENT) {
                let _ = platform::unlink(&dir.fd, &name);
            }
        } else if let Ok(fd) = platform::open(&dir.fd, &name, Open::Read)
            && room.check_file(&fd, || dir.path(room, &name)).is_ok()
            && platform::is_unlocked(&fd) == Ok(true)
        {
            if let Some(process) = layout::process_id(&name) {
                // Listed before the file of its process, it was left alone until here.
                let _ = platform::unlink(&dir.fd, &layout::spare(process));
            }
            let _ = platform::unlink(&dir.fd, &name);
        }
    }
}

/// What the kernel says of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Life {
    /// It lives, for all that is known.
    Alive,
    /// It is about to end: its files are closed already. What it started may still be at work.
    Dying,
    /// It is proven to be dead, and what was to end with it was told so.
    Dead,
}

/// Whether the kernel proves that whoever gave this sign of life is dead. Whatever is not clear is
/// no proof: it lives until its ttl is over.
pub(crate) fn is_dead(room: &Room, beat: &Beat) -> bool {
    life(room, beat) == Life::Dead
}

/// What the kernel says of whoever gave this sign of life.
pub(crate) fn life(room: &Room, beat: &Beat) -> Life {
    let dead_if = |dead| if dead { Life::Dead } else { Life::Alive };
    if !room.proves_death || beat.detached || !beat.owner.shares_kernel(&room.me) {
        return Life::Alive;
    }
    if beat.owner == room.me {
        return dead_if(beat.process != 0 && !MINE.lock().contains(&beat.process));
    }
    match (beat.process != 0).then(|| is_unlocked(room, beat.process)) {
        // Files are closed first, and only then the children told that were to die with it.
        Some(Ok(true)) if beat.owner.has_ended() => Life::Dead,
        Some(Ok(true)) => Life::Dying,
        // Without the file the process table decides: a file may have been cleaned up by somebody
        // who did not know what it was for.
        Some(Err(Errno::NOENT)) | None => dead_if(beat.owner.is_gone()),
        Some(Ok(false) | Err(_)) => Life::Alive,
    }
}

fn is_unlocked(room: &Room, process: u64) -> Result<bool, Errno> {
    // Open for reading only: closing it tells nobody anything.
    let dir = platform::open(&room.root, layout::PROCS, Open::Directory)?;
    let fd = platform::open(dir, &layout::process(process), Open::Read)?;
    let path = || room.path.join(layout::PROCS).join(layout::process(process));
    // Somebody else's file proves nothing.
    room.check_file(&fd, path).map_err(|_| Errno::ACCESS)?;
    platform::is_unlocked(fd)
}
