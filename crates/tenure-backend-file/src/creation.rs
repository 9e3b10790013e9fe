//! Making the directory of a lock, and what is in the way of it.

use std::path::Path;

use rustix::fd::AsFd;
use rustix::io::Errno;
use tenure_core::register::{Swap, swap_pause};
use tenure_core::{LockName, Result};

use crate::admitted::Admitted;
use crate::baton::{Leaves, Next, REMAINS, list, pass_on};
use crate::error;
use crate::layout::{self, Entry, Step};
use crate::platform::{self, Open};
use crate::room::{LockDir, Room};

/// How often a directory is made where remains of an old one are in the way.
const CREATIONS: u32 = 3;

/// Makes the directory of a lock that has none, and takes the first step in it.
///
/// It is made dead, and only then stepped on: `first` is good only as long as no directory of this
/// name was removed since it was chosen, with higher fences than that, and whether one was is only
/// certain once there is one again.
pub(crate) fn begin(
    room: &Room,
    admitted: &Admitted,
    name: &LockName,
    first: u64,
    burials: u64,
    leads: Next<'_>,
) -> Result<Swap> {
    let dead = Step::new(first - 1);
    match create(room, admitted, name, dead)? {
        Swap::Won if self::burials(room)? == burials => {
            let old = Leaves { step: dead, spent: None, dead: true };
            pass_on(room, admitted, name, old, first, leads)
        }
        // Whoever looks now sees what to do.
        Swap::Won => Ok(Swap::Lost),
        other => Ok(other),
    }
}

/// What the last removal of a directory left; 0 if there was none.
pub(crate) fn burials(room: &Room) -> Result<u64> {
    let path = || room.path.join(layout::BURIALS);
    let fd = match platform::open(&room.root, layout::BURIALS, Open::Read) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Ok(0),
        Err(errno) => return Err(error::io(errno, "open", &path())),
    };
    room.check_file(&fd, path)?;
    let mut mark = [0; 8];
    let len = platform::read(&fd, &mut mark).map_err(|e| error::io(e, "read", &path()))?;
    if len < mark.len() {
        return Err(error::corrupt(&path(), "is too short"));
    }
    Ok(u64::from_le_bytes(mark))
}

/// Says that a directory is about to be removed.
pub(crate) fn mark_burial(room: &Room) -> Result<(), Errno> {
    let scrap = layout::scrap();
    let mark = rand::random::<u64>().max(1).to_le_bytes();
    room.create_with(&room.root, &scrap, &mark)?;
    platform::rename(&room.root, &scrap, layout::BURIALS)
        .and_then(|()| room.sync_dir(&room.root))
        .inspect_err(|_| {
            let _ = platform::unlink(&room.root, &scrap);
        })
}

/// Makes the directory, dead at `dead`, and moves it into place as a whole.
fn create(room: &Room, admitted: &Admitted, name: &LockName, dead: Step) -> Result<Swap> {
    let target = layout::directory(name);
    let path = room.path.join(&target);
    for _ in 0..CREATIONS {
        let dir = build(room, admitted, name, dead)?;
        match platform::rename(&room.root, &dir.name, &target) {
            Ok(()) => return Ok(created(room, &path)),
            Err(Errno::EXIST | Errno::NOTEMPTY) => {
                discard(room, &dir);
                if !clear_remains(room, &target)? {
                    return Ok(Swap::Lost);
                }
            }
            Err(errno) if !room.local && error::is_ambiguous(errno) => {
                let there = room.dir(target.clone())?;
                if there.is_some_and(|there| there.id == dir.id) {
                    return Ok(created(room, &path));
                }
                let failed = error::io(errno, "move into place", &path);
                if room.dir(dir.name.clone())?.is_none() {
                    return Ok(Swap::Unknown(failed));
                }
                discard(room, &dir);
                return Err(failed);
            }
            Err(errno) => {
                discard(room, &dir);
                return Err(error::io(errno, "move into place", &path));
            }
        }
    }
    Ok(Swap::Lost)
}

fn created(room: &Room, path: &Path) -> Swap {
    match room.sync_dir(&room.root) {
        Ok(()) => Swap::Won,
        Err(errno) => Swap::Unknown(error::io(errno, "sync", path)),
    }
}

fn build(room: &Room, admitted: &Admitted, name: &LockName, dead: Step) -> Result<LockDir> {
    let scrap = layout::scrap();
    let path = room.path.join(&scrap);
    let fail = |errno| error::io(errno, "make a lock directory", &path);
    let dir = room.make_dir(scrap.clone()).map_err(fail)?;
    let filled = room
        .create_with(&dir.fd, layout::FORMAT_FILE, layout::FORMAT)
        .and_then(|()| room.create(&dir.fd, &dead.dead()).map(drop))
        .map_err(fail)
        .and_then(|()| admitted.settle(room, &dir, name))
        .and_then(|_| room.sync_dir(&dir.fd).map_err(fail));
    match filled {
        Ok(()) => Ok(dir),
        Err(error) => {
            discard(room, &dir);
            Err(error)
        }
    }
}

/// Removes a directory that is not in place.
pub(crate) fn discard(room: &Room, dir: &LockDir) {
    let mut names = Vec::new();
    // Opened anew: the listing of this descriptor may be at its end.
    let Ok(Some(fresh)) = room.dir(dir.name.clone()) else {
        return;
    };
    if platform::list(fresh.fd.as_fd(), |name| names.push(name.to_owned())).is_ok() {
        for name in names {
            if layout::entry(&name) != Entry::Foreign {
                let _ = platform::unlink(&fresh.fd, &name);
            }
        }
        let _ = platform::remove_dir(&room.root, &dir.name);
    }
}

/// Removes what a removal left that was cut off. `false` if there is a lock.
fn clear_remains(room: &Room, target: &str) -> Result<bool> {
    for look in 0..REMAINS {
        if 0 < look {
            platform::pause(swap_pause(look));
        }
        let Some(dir) = room.dir(target.to_owned())? else {
            return Ok(true);
        };
        let names = list(room, &dir)?;
        if !names.are_remains() {
            return Ok(false);
        }
        if look + 1 < REMAINS {
            continue;
        }
        if names.has_foreign {
            return Err(error::corrupt(
                &room.path.join(target),
                "holds files that do not belong there, and no lock",
            )
            .with_help("move them away; the directory is for this lock alone"));
        }
        for name in names.litter() {
            let _ = platform::unlink(&dir.fd, name);
        }
        // It goes only if it is empty.
        let _ = platform::remove_dir(&room.root, target);
    }
    Ok(true)
}
