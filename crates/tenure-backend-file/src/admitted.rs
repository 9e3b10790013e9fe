//! The members that this process admitted, with their first sign of life.
//!
//! A member is admitted before the swap that lists it, and that swap may make the lock's directory
//! or run into one that was removed and made again. Its sign of life has to be in the directory
//! that the swap works on, or observers would see a member that never lived.

use std::collections::HashMap;

use parking_lot::Mutex;
use tenure_core::{LockName, MemberId, Result};

use crate::heartbeat::{self, Beat};
use crate::platform::DirId;
use crate::room::{LockDir, Room};

#[derive(Debug, Default)]
pub(crate) struct Admitted(Mutex<HashMap<LockName, Vec<One>>>);

#[derive(Debug)]
struct One {
    member: MemberId,
    beat: Beat,
    /// Whether it has begun to give more signs than the first.
    renews: bool,
    /// The directory that the sign is in.
    dir: Option<DirId>,
}

impl Admitted {
    /// Keeps a member in mind whose sign is in the directory `dir`, or in none yet.
    pub(crate) fn note(&self, name: &LockName, member: MemberId, beat: Beat, dir: Option<DirId>) {
        let one = One { member, beat, renews: false, dir };
        let mut all = self.0.lock();
        let of_name = all.entry(name.clone()).or_default();
        of_name.retain(|o| o.member != member);
        of_name.push(one);
    }

    /// Notes that a member is about to give another sign.
    pub(crate) fn renews(&self, name: &LockName, member: MemberId) {
        let mut all = self.0.lock();
        let of_name = all.get_mut(name).into_iter().flatten();
        of_name.filter(|o| o.member == member).for_each(|one| one.renews = true);
    }

    /// Forgets a member that left; answers whether it ever gave another sign than its first, and
    /// `None` if this process did not admit it.
    pub(crate) fn forget(&self, name: &LockName, member: MemberId) -> Option<bool> {
        let mut all = self.0.lock();
        let of_name = all.get_mut(name)?;
        let at = of_name.iter().position(|o| o.member == member)?;
        let one = of_name.swap_remove(at);
        if of_name.is_empty() {
            all.remove(name);
        }
        Some(one.renews)
    }

    /// Puts the signs of all members of `name` into this directory that are not in it. `false` if
    /// the directory was removed.
    pub(crate) fn settle(&self, room: &Room, dir: &LockDir, name: &LockName) -> Result<bool> {
        let missing: Vec<(MemberId, Beat)> = {
            let all = self.0.lock();
            let of_name = all.get(name).into_iter().flatten();
            of_name.filter(|o| o.dir != Some(dir.id)).map(|o| (o.member, o.beat.clone())).collect()
        };
        for (member, beat) in missing {
            if !heartbeat::create(room, dir, member, &beat, None)? {
                return Ok(false);
            }
            let mut all = self.0.lock();
            let of_name = all.get_mut(name).into_iter().flatten();
            for one in of_name.filter(|o| o.member == member) {
                one.dir = Some(dir.id);
            }
        }
        Ok(true)
    }
}
