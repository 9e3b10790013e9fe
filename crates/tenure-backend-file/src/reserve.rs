//! Signs of life that are over, kept for those to come.
//!
//! To make a file and to remove one takes several times as long as to write one, so a process that
//! comes back to a lock gives its next sign in the file of its last. Meanwhile that file has a name
//! of something unfinished, under which nobody gives signs any more, and which others remove when it
//! is old. Only a sign that was never renewed is kept: nobody can be about to write into it.

use std::collections::HashMap;

use parking_lot::Mutex;
use tenure_core::{LockName, MemberId};

use crate::layout;
use crate::platform;
use crate::room::{LockDir, Room};

/// How many locks are kept in mind.
const MAX: usize = 64;

/// The locks that this process has left, with the name of the file that it keeps there.
#[derive(Debug, Default)]
pub(crate) struct Reserve(Mutex<HashMap<LockName, Option<String>>>);

impl Reserve {
    /// Keeps the file of a member that left; `false` if it is not worth while: whoever leaves for the
    /// first time may not come back, and one file is enough.
    pub(crate) fn keep(&self, room: &Room, dir: &LockDir, name: &LockName, left: MemberId) -> bool {
        let (seen, other) = {
            let mut kept = self.0.lock();
            match kept.get(name) {
                Some(Some(_)) => return false,
                Some(None) => (true, None),
                None => {
                    let other = kept.keys().next().filter(|_| MAX <= kept.len()).cloned();
                    let other = other.and_then(|name| kept.remove(&name).map(|file| (name, file)));
                    kept.insert(name.clone(), None);
                    (false, other)
                }
            }
        };
        if let Some((name, Some(file))) = other {
            drop_one(room, &name, &file);
        }
        let file = layout::scrap();
        if !seen || platform::rename(&dir.fd, &layout::sign(left), &file).is_err() {
            return false;
        }
        let before = self.0.lock().insert(name.clone(), Some(file));
        if let Some(Some(other)) = before {
            // Somebody else left at the same time.
            let _ = platform::unlink(&dir.fd, &other);
        }
        true
    }

    /// The file that is kept, for somebody who joins.
    pub(crate) fn take(&self, name: &LockName) -> Option<String> {
        self.0.lock().get_mut(name)?.take()
    }

    /// Removes what is kept.
    pub(crate) fn clear(&self, room: &Room) {
        for (name, file) in self.0.lock().drain() {
            if let Some(file) = file {
                drop_one(room, &name, &file);
            }
        }
    }
}

fn drop_one(room: &Room, name: &LockName, file: &str) {
    if let Ok(Some(dir)) = room.lock_dir(name) {
        let _ = platform::unlink(&dir.fd, file);
    }
}
