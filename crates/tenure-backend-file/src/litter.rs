//! What processes leave in a lock's directory that die at the wrong moment.
//!
//! A sign of life is made before the record lists its member, and removed after the record does not
//! any more: whoever dies in between leaves it behind. Nobody is misled by it, but a lock that is
//! always in use would gather them for ever.

use std::collections::BTreeSet;

use crate::baton;
use crate::heartbeat;
use crate::layout::{self, Entry};
use crate::platform;
use crate::process;
use crate::prune::LITTER;
use crate::register::cell_in;
use crate::room::{LockDir, Room};

/// Removes what no record lists and nobody alive is about to need.
pub(crate) fn clear(room: &Room, dir: &LockDir) {
    let Ok(Some(listed)) = room.dir(dir.name.clone()) else {
        return;
    };
    let Ok(names) = baton::list(room, &listed) else {
        return;
    };
    // Looked at after the listing: who has joined meanwhile is in it.
    let Ok(Some(fresh)) = room.dir(dir.name.clone()) else {
        return;
    };
    let Some((_, cell)) = cell_in(room, &fresh) else {
        return;
    };
    let members: BTreeSet<String> =
        cell.holder_ids().chain(cell.waiter_ids()).map(layout::sign).collect();
    for name in names.others.iter().filter(|name| !members.contains(*name)) {
        let is_litter = match layout::entry(name) {
            Entry::Sign => is_old(&fresh, name) || is_of_the_dead(room, &fresh, name),
            Entry::Scrap => is_old(&fresh, name),
            _ => false,
        };
        if is_litter {
            let _ = platform::unlink(&fresh.fd, name);
        }
    }
}

fn is_old(dir: &LockDir, name: &str) -> bool {
    platform::stat_at(&dir.fd, name).is_ok_and(|stat| LITTER <= platform::age(&stat))
}

fn is_of_the_dead(room: &Room, dir: &LockDir, sign: &str) -> bool {
    heartbeat::look_at(room, dir, sign).is_some_and(|beat| process::is_dead(room, &beat))
}
