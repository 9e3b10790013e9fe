//! The register's calls: plain file operations that never wait for anybody.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tenure_core::backend::{Claim, Listener, Member};
use tenure_core::clock::Clock;
use tenure_core::machine::Cell;
use tenure_core::register::{Loaded, Observation, Register, Sign, Swap, Version, swap_pause};
use tenure_core::{
    Capabilities, Error, ErrorKind, Fence, JudgedBy, Listeners, LockName, MemberId, Result, Wakes,
};

use crate::admitted::Admitted;
use crate::baton::{self, At, Next};
use crate::config::FileConfig;
use crate::error;
use crate::heartbeat::{self, Beat, Found};
use crate::layout;
use crate::litter;
use crate::observe;
use crate::platform;
use crate::process::{self, ProcessFile};
use crate::prune::Pruner;
use crate::record;
use crate::reserve::Reserve;
use crate::room::Room;
use crate::watcher::Watcher;

/// A versioned register per name in a directory.
///
/// Its calls block for as long as the file system takes, and never pend;
/// [`FileBackend`](crate::FileBackend) keeps them off the caller's thread.
pub struct FileRegister {
    room: Arc<Room>,
    admitted: Admitted,
    reserve: Reserve,
    process: Mutex<Process>,
    listeners: Arc<Listeners>,
    watcher: Watcher,
    pruner: Pruner,
    creations: AtomicU64,
    capabilities: Capabilities,
    address: Arc<str>,
}

#[derive(Debug)]
enum Process {
    /// Nothing was admitted yet.
    NotYet,
    /// The kernel's word does not count, or it cannot give it.
    Without,
    With(ProcessFile),
}

impl FileRegister {
    /// Opens the directory, and makes it if it is not there.
    ///
    /// # Errors
    /// `Denied` if it, or the right to it, is somebody else's; `Unsupported` on a file system that
    /// is not known to be fit; `Unreachable` if it cannot be reached.
    pub fn open(config: &FileConfig, clock: Arc<dyn Clock>) -> Result<Self> {
        let room = Arc::new(Room::open(config, clock)?);
        let mut capabilities = Capabilities::full("file");
        capabilities.judged_by = JudgedBy::Observation;
        capabilities.proves_death = room.proves_death;
        capabilities.between_hosts = !room.local;
        capabilities.wakes =
            if room.local && cfg!(target_os = "linux") { Wakes::Push } else { Wakes::Poll };
        let address = format!("file://{}", room.path.display()).into();
        let listeners = Arc::new(Listeners::default());
        Ok(Self {
            watcher: Watcher::new(room.clone(), listeners.clone()),
            admitted: Admitted::default(),
            reserve: Reserve::default(),
            process: Mutex::new(Process::NotYet),
            pruner: Pruner::default(),
            creations: AtomicU64::new(0),
            room,
            listeners,
            capabilities,
            address,
        })
    }

    /// Removes the directories of locks that nobody used for `idle_for`, that hold and queue
    /// nobody, and keep no value; answers how many. Nothing but this backend's own files is ever
    /// touched.
    ///
    /// # Errors
    /// `Unreachable` or `Denied` if the directory cannot be listed.
    pub fn prune(&self, idle_for: Duration) -> Result<usize> {
        self.pruner.all(&self.room, idle_for)
    }

    /// The id of this process's file, made when it is first needed; 0 if it has none.
    fn process(&self) -> Result<u64> {
        let mut process = self.process.lock();
        if matches!(*process, Process::NotYet) {
            let file = if self.room.proves_death { ProcessFile::create(&self.room)? } else { None };
            *process = file.map_or(Process::Without, Process::With);
        }
        match &*process {
            Process::With(file) => Ok(file.id()),
            Process::NotYet | Process::Without => Ok(0),
        }
    }

    fn beat_of(&self, member: &Member) -> Result<Beat> {
        Ok(Beat::new(&self.room, member, self.process()?))
    }

    /// Now and then, when locks are made, some that nobody uses go.
    fn count_creation(&self) {
        const EVERY: u64 = 256;
        if self.creations.fetch_add(1, Ordering::Relaxed) % EVERY == EVERY - 1 {
            self.pruner.some(&self.room);
        }
    }
}

impl Register for FileRegister {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn address(&self) -> Arc<str> {
        self.address.clone()
    }

    async fn load(&self, name: &LockName) -> Result<Loaded> {
        let found = baton::load(&self.room, name)?;
        Ok(Loaded {
            version: found.at.version(),
            bytes: found.bytes,
            now: None,
            floor: Fence::new(found.floor),
        })
    }

    async fn swap(&self, name: &LockName, at: &Version, to: &[u8], wakes: &[MemberId]) -> Swap {
        let swapped = baton::swap(&self.room, &self.admitted, name, at, Next { to, wakes });
        if matches!(swapped, Swap::Won) && at.0.starts_with("absent") {
            self.count_creation();
        }
        swapped
    }

    async fn admit(&self, member: &Member) -> Result<()> {
        let beat = self.beat_of(member)?;
        // Without a directory the swap that makes it brings the sign along.
        let mut place = None;
        let kept = self.reserve.take(&member.name);
        if let Some(dir) = self.room.lock_dir(&member.name)?
            && heartbeat::create(&self.room, &dir, member.id, &beat, kept.as_deref())?
        {
            self.watcher.signed(&member.name, member.id);
            place = Some(dir.id);
        }
        self.admitted.note(&member.name, member.id, beat, place);
        self.watcher.hold(&member.name, member.id);
        Ok(())
    }

    async fn dismiss(&self, name: &LockName, member: MemberId) {
        let renewed = self.admitted.forget(name, member);
        let watched = self.watcher.leave(member);
        let Ok(Some(dir)) = self.room.lock_dir(name) else {
            return;
        };
        let is_over = renewed == Some(false) && !watched;
        if is_over && self.room.writes_over && self.reserve.keep(&self.room, &dir, name, member) {
            return;
        }
        // What stays is litter: no record lists it.
        let _ = platform::unlink(&dir.fd, &layout::sign(member));
        if renewed.is_none() {
            // Somebody else's is dismissed after a death, and others may have left something.
            litter::clear(&self.room, &dir);
        }
    }

    async fn beat(&self, member: &Member) -> Result<()> {
        let beat = self.beat_of(member)?;
        self.admitted.renews(&member.name, member.id);
        let rewritten = match self.room.lock_dir(&member.name)? {
            Some(dir) => heartbeat::rewrite(&self.room, &dir, member.id, &beat)?,
            None => false,
        };
        if rewritten {
            // A lease may come from another process, as a token.
            self.watcher.hold(&member.name, member.id);
            return Ok(());
        }
        Err(Error::new(ErrorKind::NotHeld, "its sign of life was removed"))
    }

    async fn signs(&self, name: &LockName, members: &[MemberId]) -> Result<Vec<Sign>> {
        let dir = self.room.lock_dir(name)?;
        let mut signs = Vec::with_capacity(members.len());
        for member in members {
            let found = match &dir {
                Some(dir) => heartbeat::read(&self.room, dir, *member)?,
                None => Found::Missing,
            };
            let dead = matches!(&found, Found::Whole(beat) if process::is_dead(&self.room, beat));
            signs.push(found.sign(*member, dead));
        }
        Ok(signs)
    }

    async fn recall(&self, name: &LockName, members: &[MemberId]) -> Vec<Observation> {
        let Ok(Some(dir)) = self.room.lock_dir(name) else {
            return Vec::new();
        };
        members.iter().filter_map(|m| observe::recall(&self.room, &dir, *m)).collect()
    }

    async fn remember(&self, name: &LockName, seen: &[Observation]) {
        if let Ok(Some(dir)) = self.room.lock_dir(name) {
            observe::remember(&self.room, &dir, seen);
        }
    }

    async fn names(&self, prefix: &str, limit: usize) -> Result<Vec<LockName>> {
        let mut names = Vec::new();
        for dir in lock_dirs(&self.room, prefix)? {
            // What cannot be read now is shown by those who ask for it by name.
            let Ok(Some(dir)) = self.room.dir(dir) else {
                continue;
            };
            if let Some((name, _)) = cell_in(&self.room, &dir)
                && name.as_str().starts_with(prefix)
                && layout::directory(&name) == dir.name
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        names.truncate(limit);
        Ok(names)
    }

    async fn wake(&self, name: &LockName, members: &[MemberId]) {
        if let Ok(Some(dir)) = self.room.lock_dir(name) {
            baton::wake(&dir, members);
        }
    }

    fn subscribe(&self, listener: Weak<dyn Listener>) {
        self.listeners.add(listener);
    }

    fn watch(&self, claim: &Claim, waits: bool) -> bool {
        if waits {
            self.watcher.watch(&claim.name, claim.member)
        } else {
            self.watcher.forget(claim.member);
            false
        }
    }

    async fn pause(&self, attempt: u32) {
        platform::pause(swap_pause(attempt));
    }

    async fn ping(&self) -> Result<()> {
        let fail = |errno| error::io(errno, "reach", &self.room.path);
        let stat = platform::stat(&self.room.root).map_err(fail)?;
        // A directory that was removed can still be looked at.
        if stat.st_nlink == 0 {
            return Err(fail(rustix::io::Errno::NOENT));
        }
        Ok(())
    }

    fn keys(&self, name: &LockName) -> Vec<(&'static str, String)> {
        let path = self.room.path.join(layout::directory(name));
        vec![("directory", path.to_string_lossy().into_owned())]
    }
}

/// The directories of locks whose names can begin with `prefix`.
pub(crate) fn lock_dirs(room: &Room, prefix: &str) -> Result<Vec<String>> {
    use rustix::fd::AsFd;
    let fail = |errno| error::io(errno, "list", &room.path);
    // A descriptor of its own: the position in the listing belongs to the descriptor.
    let root = platform::open(&room.root, ".", platform::Open::Directory).map_err(fail)?;
    let mut dirs = Vec::new();
    platform::list(root.as_fd(), |entry| {
        if layout::is_directory(entry, prefix) {
            dirs.push(entry.to_owned());
        }
    })
    .map_err(fail)?;
    Ok(dirs)
}

/// What the record in a directory says, if there is one that can be read.
pub(crate) fn cell_in(room: &Room, dir: &crate::room::LockDir) -> Option<(LockName, Cell)> {
    let step = baton::list(room, dir).ok()?.current?;
    let record = record::read(room, dir, step).ok()?.whole()?;
    Cell::decode(&record.bytes).ok()
}

/// The lock's cell as it stands, for the watcher.
pub(crate) fn cell_of(room: &Room, name: &LockName) -> Option<Cell> {
    let found = baton::load(room, name).ok()?;
    let (At::Live { .. }, Some(bytes)) = (found.at, found.bytes) else {
        return None;
    };
    Cell::decode(&bytes).ok().map(|(_, cell)| cell)
}

impl Drop for FileRegister {
    fn drop(&mut self) {
        self.watcher.stop();
        self.reserve.clear(&self.room);
    }
}

impl fmt::Debug for FileRegister {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileRegister").field("path", &self.room.path).finish_non_exhaustive()
    }
}
