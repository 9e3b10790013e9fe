//! The opened directory: what was found out about it once, and how everything in it is opened.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FileType, RawMode, Stat};
use rustix::io::Errno;
use tenure_core::clock::Clock;
use tenure_core::{Error, ErrorKind, LockName, Result};

use crate::config::{FileConfig, Liveness};
use crate::error;
use crate::layout;
use crate::platform::{self, DirId, FileSystem, Identity, Open};
use crate::spare::Spare;

const STICKY: RawMode = 0o1000;
const SET_GROUP: RawMode = 0o2000;
const OTHERS_WRITE: RawMode = 0o022;

/// An opened root directory.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) root: OwnedFd,
    pub(crate) path: PathBuf,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) me: Identity,
    /// What observations are good for: this boot, and one way to count time in it.
    pub(crate) epoch: u64,
    pub(crate) durable: bool,
    /// Whether one kernel sees all that happens here.
    pub(crate) local: bool,
    /// Whether the kernel's word on a holder's death counts.
    pub(crate) proves_death: bool,
    pub(crate) spare: Spare,
    /// Whether the file of a step that is over may be written into: not where others may have put
    /// theirs, nor where what was written may reach the disk before the step that allows it, nor
    /// where a server may show the file as it was.
    pub(crate) writes_over: bool,
    shared: bool,
    user: u32,
    dir_mode: RawMode,
    file_mode: RawMode,
}

/// An opened lock directory.
#[derive(Debug)]
pub(crate) struct LockDir {
    pub(crate) fd: OwnedFd,
    pub(crate) name: String,
    /// Tells it from a later directory of the same name.
    pub(crate) id: DirId,
}

impl LockDir {
    /// The path of a file in it, for messages.
    pub(crate) fn path(&self, room: &Room, file: &str) -> PathBuf {
        room.path.join(&self.name).join(file)
    }
}

impl Room {
    pub(crate) fn open(config: &FileConfig, clock: Arc<dyn Clock>) -> Result<Self> {
        make_root(config)?;
        let fail = |errno, doing: &str| error::io(errno, doing, &config.path);
        let root = platform::open_root(&config.path).map_err(|e| fail(e, "open"))?;
        let stat = platform::stat(&root).map_err(|e| fail(e, "look at"))?;
        let path = std::fs::canonicalize(&config.path).map_err(|e| {
            let errno = Errno::from_io_error(&e).unwrap_or(Errno::IO);
            fail(errno, "resolve")
        })?;
        let user = platform::user();
        check_root(config, &path, &stat, user)?;
        let system = platform::file_system(root.as_fd()).map_err(|e| fail(e, "look at"))?;
        if let FileSystem::Other(what) = system
            && !config.unverified_fs
        {
            return Err(unfit(&path, what));
        }
        let local = system == FileSystem::Local;
        let (dir_mode, file_mode) = if config.shared {
            let granted = platform::mode_of(&stat) & 0o777;
            (SET_GROUP | 0o700 | granted, 0o600 | granted & 0o666)
        } else {
            (0o700, 0o600)
        };
        let me = platform::identity();
        Ok(Self {
            root,
            path,
            clock,
            me,
            epoch: me.boot ^ platform::time_space().rotate_left(32),
            durable: config.durable,
            local,
            proves_death: local && config.liveness == Liveness::Kernel && me.shares_kernel(&me),
            spare: Spare::default(),
            writes_over: local && !config.shared && !config.durable,
            shared: config.shared,
            user,
            dir_mode,
            file_mode,
        })
    }

    /// Opens the directory of a lock; `None` if there is none.
    pub(crate) fn lock_dir(&self, name: &LockName) -> Result<Option<LockDir>> {
        self.dir(layout::directory(name))
    }

    /// Opens a directory in the root.
    pub(crate) fn dir(&self, name: String) -> Result<Option<LockDir>> {
        let path = || self.path.join(&name);
        let fd = match platform::open(&self.root, &name, Open::Directory) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(error::io(errno, "open", &path())),
        };
        if !self.local {
            platform::revalidate(fd.as_fd()).map_err(|e| error::io(e, "look at", &path()))?;
        }
        let (id, owner) =
            platform::dir_id(fd.as_fd()).map_err(|e| error::io(e, "look at", &path()))?;
        self.check_owner(owner, path)?;
        Ok(Some(LockDir { fd, name, id }))
    }

    /// Makes a directory in the root, for this backend alone.
    pub(crate) fn make_dir(&self, name: String) -> Result<LockDir, Errno> {
        platform::make_dir(&self.root, &name, self.dir_mode)?;
        let fd = platform::open(&self.root, &name, Open::Directory)?;
        if self.shared {
            platform::set_mode(&fd, self.dir_mode)?;
        }
        let (id, _) = platform::dir_id(fd.as_fd())?;
        Ok(LockDir { fd, name, id })
    }

    /// Makes a file; fails if its name is taken.
    pub(crate) fn create(&self, dir: impl AsFd, name: &str) -> Result<OwnedFd, Errno> {
        self.created(platform::open(dir, name, Open::New(self.file_mode)))
    }

    /// Makes a file for reading and writing; fails if its name is taken.
    pub(crate) fn create_read_write(&self, dir: impl AsFd, name: &str) -> Result<OwnedFd, Errno> {
        self.created(platform::open(dir, name, Open::NewReadWrite(self.file_mode)))
    }

    fn created(&self, made: Result<OwnedFd, Errno>) -> Result<OwnedFd, Errno> {
        let fd = made?;
        if self.shared {
            // What others may do here does not depend on this process's umask.
            platform::set_mode(&fd, self.file_mode)?;
        }
        Ok(fd)
    }

    /// Makes a file that holds `bytes`, whole or not at all.
    pub(crate) fn create_with(
        &self,
        dir: impl AsFd,
        name: &str,
        bytes: &[u8],
    ) -> Result<(), Errno> {
        let fd = self.create(&dir, name)?;
        let written = platform::write(&fd, bytes)
            .and_then(|()| if self.durable { platform::sync(&fd) } else { Ok(()) });
        if written.is_err() {
            let _ = platform::unlink(&dir, name);
        }
        written
    }

    /// Makes what was done to the names in a directory survive a loss of power, if that was asked
    /// for.
    pub(crate) fn sync_dir(&self, dir: impl AsFd) -> Result<(), Errno> {
        if self.durable {
            platform::sync(dir)?;
        }
        Ok(())
    }

    /// Checks that what was opened is a file, and of somebody who is trusted here.
    pub(crate) fn check_file(&self, fd: impl AsFd, path: impl Fn() -> PathBuf) -> Result<Stat> {
        let stat = platform::stat(fd).map_err(|e| error::io(e, "look at", &path()))?;
        if FileType::from_raw_mode(platform::mode_of(&stat)) != FileType::RegularFile {
            return Err(error::corrupt(&path(), "is not a file"));
        }
        self.check_owner(stat.st_uid, path)?;
        Ok(stat)
    }

    fn check_owner(&self, owner: u32, path: impl Fn() -> PathBuf) -> Result<()> {
        if self.shared || is_trusted(owner, self.user) {
            return Ok(());
        }
        Err(error::foreign(&path(), owner))
    }
}

fn is_trusted(owner: u32, user: u32) -> bool {
    owner == user || owner == 0
}

/// Makes the root if it is not there.
fn make_root(config: &FileConfig) -> Result<()> {
    let fail = |e: &std::io::Error| {
        let errno = Errno::from_io_error(e).unwrap_or(Errno::IO);
        error::io(errno, "make the lock directory", &config.path)
    };
    if let Some(parent) = config.path.parent().filter(|p| !p.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent).map_err(|e| fail(&e))?;
    }
    let mode = if config.shared { SET_GROUP | 0o770 } else { 0o700 };
    match std::fs::DirBuilder::new().mode(mode).create(&config.path) {
        Ok(()) if config.shared => {
            let root = platform::open_root(&config.path);
            root.and_then(|root| platform::set_mode(root, mode))
                .map_err(|e| error::io(e, "open up", &config.path))
        }
        Ok(()) => Ok(()),
        // It is looked at when it is open.
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(fail(&e)),
    }
}

fn check_root(config: &FileConfig, path: &Path, stat: &Stat, user: u32) -> Result<()> {
    if config.shared {
        return Ok(());
    }
    if !is_trusted(stat.st_uid, user) {
        return Err(error::foreign(path, stat.st_uid));
    }
    let mode = platform::mode_of(stat);
    if mode & OTHERS_WRITE != 0 && mode & STICKY == 0 {
        return Err(Error::new(
            ErrorKind::Denied,
            format!(
                "the lock directory {} can be written by other users (mode {:o}), who could take \
                 every lock in it",
                path.display(),
                mode & 0o7777
            ),
        )
        .with_help("`chmod go-w` it, or open it with `?shared=true` if that is wanted"));
    }
    Ok(())
}

fn unfit(path: &Path, what: &str) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!(
            "the lock directory {} is on a file system that is {what}, where moving a name is not \
             known to be atomic for everybody at once",
            path.display()
        ),
    )
    .with_help(
        "open it with `?unverified_fs=true` and let `tenure doctor` measure it before you trust it, \
         or use a directory on a local file system or another store",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_that_is_not_fit_is_named_with_the_way_out() {
        let error = unfit(Path::new("/mnt"), "SMB");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.message().contains("SMB"));
        let help = error.help().unwrap();
        assert!(help.contains("unverified_fs") && help.contains("doctor"));
    }
}
