//! The system calls: the only room with code for one operating system.
//!
//! Linux has everything. Other Unixes have the part that correctness rests on; there waiters poll
//! and a dead holder is found by its ttl.

#[cfg(target_os = "linux")]
#[path = "platform/linux.rs"]
mod os;
#[cfg(not(target_os = "linux"))]
#[path = "platform/portable.rs"]
mod os;

use std::time::Duration;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, RawMode, Stat, Timespec, Timestamps};
use rustix::io::Errno;

pub(crate) use os::{Notifier, dir_id, file_system, identity, list, revalidate, time_space};

/// What a file is opened for. Links are never followed, and nothing that is not a file makes the
/// call wait.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Open {
    Read,
    Write,
    Directory,
    /// A new file for writing, with these permissions; fails if the name is taken.
    New(RawMode),
    /// The same, for reading, too.
    NewReadWrite(RawMode),
}

pub(crate) fn open(dir: impl AsFd, name: &str, how: Open) -> Result<OwnedFd, Errno> {
    let (flags, mode) = match how {
        Open::Read => (OFlags::RDONLY | OFlags::NONBLOCK, 0),
        Open::Write => (OFlags::WRONLY | OFlags::NONBLOCK, 0),
        Open::Directory => (OFlags::RDONLY | OFlags::DIRECTORY, 0),
        Open::New(mode) => (OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, mode),
        Open::NewReadWrite(mode) => (OFlags::RDWR | OFlags::CREATE | OFlags::EXCL, mode),
    };
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    retry(|| rustix::fs::openat(&dir, name, flags, Mode::from_raw_mode(mode)))
}

/// Opens the root itself: its path is the user's, links in it are followed.
pub(crate) fn open_root(path: &std::path::Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    retry(|| rustix::fs::open(path, flags, Mode::empty()))
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

pub(crate) fn mode_of(stat: &Stat) -> RawMode {
    stat.st_mode as RawMode
}

pub(crate) fn stat(fd: impl AsFd) -> Result<Stat, Errno> {
    rustix::fs::fstat(fd)
}

pub(crate) fn stat_at(dir: impl AsFd, name: &str) -> Result<Stat, Errno> {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
}

pub(crate) fn set_mode(fd: impl AsFd, mode: RawMode) -> Result<(), Errno> {
    rustix::fs::fchmod(fd, Mode::from_raw_mode(mode))
}

pub(crate) fn make_dir(dir: impl AsFd, name: &str, mode: RawMode) -> Result<(), Errno> {
    rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(mode))
}

pub(crate) fn remove_dir(dir: impl AsFd, name: &str) -> Result<(), Errno> {
    rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)
}

pub(crate) fn unlink(dir: impl AsFd, name: &str) -> Result<(), Errno> {
    rustix::fs::unlinkat(dir, name, AtFlags::empty())
}

pub(crate) fn rename(dir: impl AsFd, from: &str, to: &str) -> Result<(), Errno> {
    rustix::fs::renameat(&dir, from, &dir, to)
}

/// Moves a file from one directory to another.
pub(crate) fn rename_into(
    from: impl AsFd,
    name: &str,
    to: impl AsFd,
    new_name: &str,
) -> Result<(), Errno> {
    rustix::fs::renameat(from, name, to, new_name)
}

/// Reads until `buffer` is full or the file ends.
pub(crate) fn read(fd: impl AsFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    let mut len = 0;
    while len < buffer.len() {
        match retry(|| rustix::io::read(&fd, &mut buffer[len..]))? {
            0 => break,
            more => len += more,
        }
    }
    Ok(len)
}

pub(crate) fn write(fd: impl AsFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let written = retry(|| rustix::io::write(&fd, bytes))?;
        bytes = &bytes[written..];
    }
    Ok(())
}

/// Writes at the start of the file, in one call as far as the file system goes along.
pub(crate) fn write_at_start(fd: impl AsFd, bytes: &[u8]) -> Result<(), Errno> {
    let mut at = 0;
    while at < bytes.len() {
        at += retry(|| rustix::io::pwrite(&fd, &bytes[at..], at as u64))?;
    }
    Ok(())
}

pub(crate) fn truncate(fd: impl AsFd, len: u64) -> Result<(), Errno> {
    retry(|| rustix::fs::ftruncate(&fd, len))
}

pub(crate) fn sync(fd: impl AsFd) -> Result<(), Errno> {
    retry(|| rustix::fs::fsync(&fd))
}

/// Keeps a file locked until its descriptor is closed; `WOULDBLOCK` if somebody else has it.
pub(crate) fn lock(fd: impl AsFd) -> Result<(), Errno> {
    retry(|| rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive))
}

/// Whether the lock on a file is free; its owner keeps it exclusively as long as it lives.
pub(crate) fn is_unlocked(fd: impl AsFd) -> Result<bool, Errno> {
    match retry(|| rustix::fs::flock(&fd, FlockOperation::NonBlockingLockShared)) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Marks a file by times that no write leaves behind, and so wakes who watches its attributes.
/// Both times, because setting one alone is told as a read or a write.
pub(crate) fn touch(dir: impl AsFd, name: &str) -> Result<(), Errno> {
    let both = |tv_sec, tv_nsec| Timestamps {
        last_access: Timespec { tv_sec, tv_nsec },
        last_modification: Timespec { tv_sec, tv_nsec },
    };
    match rustix::fs::utimensat(&dir, name, &both(MARK, 0), AtFlags::SYMLINK_NOFOLLOW) {
        // Only its owner may set any time; who may write it may still set the present one.
        Err(Errno::PERM | Errno::ACCESS) => {
            let now = both(0, rustix::fs::UTIME_NOW);
            rustix::fs::utimensat(&dir, name, &now, AtFlags::SYMLINK_NOFOLLOW)
        }
        other => other,
    }
}

/// Whether [`touch`] was there since the file was written.
#[allow(clippy::unnecessary_cast, reason = "the field's type differs between architectures")]
pub(crate) fn is_touched(stat: &Stat) -> bool {
    stat.st_mtime as i64 == MARK
}

const MARK: i64 = 1;

/// How long ago something about the file changed, on the clock that the kernel stamps files by.
/// Only for deciding what is litter.
#[allow(clippy::unnecessary_cast, reason = "the field's type differs between architectures")]
pub(crate) fn age(stat: &Stat) -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let seconds = now.tv_sec.saturating_sub(stat.st_ctime as i64);
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// Whether the file has not changed since before this machine started, with a margin for a wall
/// clock that was set in between.
pub(crate) fn is_from_an_earlier_boot(stat: &Stat) -> bool {
    const MARGIN: Duration = Duration::from_secs(60);
    os::up_time().is_some_and(|up| up + MARGIN < age(stat))
}

/// Waits for about this long.
pub(crate) fn pause(time: Duration) {
    let request = rustix::thread::Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    };
    // A signal that cuts it short does no harm.
    let _ = rustix::thread::nanosleep(&request);
}

pub(crate) fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Tells a directory from every other, also from one that gets its inode after it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct DirId {
    inode: u64,
    born: (i64, u32),
}

fn plain_dir_id(dir: BorrowedFd<'_>) -> Result<(DirId, u32), Errno> {
    let stat = stat(dir)?;
    let (inode, born) = (stat.st_ino, (0, 0));
    Ok((DirId { inode, born }, stat.st_uid))
}

/// Which process gives a sign of life. Zero means unknown and equals nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Identity {
    pub(crate) pid: u32,
    /// When it started, in ticks since boot: tells apart processes with the same number.
    pub(crate) started: u64,
    /// The boot it runs in.
    pub(crate) boot: u64,
    /// The space that its process id belongs to.
    pub(crate) pid_space: u64,
}

impl Identity {
    /// Whether both run under one kernel and count processes alike.
    pub(crate) fn shares_kernel(&self, other: &Identity) -> bool {
        self.boot != 0
            && self.pid_space != 0
            && self.boot == other.boot
            && self.pid_space == other.pid_space
    }

    /// Whether the process is proven to be gone. Whatever is not clear is no proof.
    pub(crate) fn is_gone(&self) -> bool {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw)
        else {
            return false;
        };
        if rustix::process::test_kill_process(pid) == Err(Errno::SRCH) {
            return true;
        }
        // The number may belong to somebody else by now.
        os::started(self.pid).is_some_and(|started| self.started != 0 && started != self.started)
    }

    /// Whether the process has ended, whether or not whoever started it has taken notice.
    pub(crate) fn has_ended(&self) -> bool {
        self.is_gone() || os::is_zombie(self.pid)
    }
}

/// What kind of file system a directory is on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FileSystem {
    /// One kernel sees all of it, and moves names atomically.
    Local,
    /// A server moves names atomically; this host may see old states.
    Nfs,
    /// Known not to be fit, or not known at all.
    Other(&'static str),
}

/// What happened to something that is watched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Notice {
    /// It changed in the way that was asked for.
    Changed(i32),
    /// It is not watched any more.
    Ended(i32),
    /// Notices were lost.
    Overflow,
}

/// What to watch for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Watch {
    /// A file's attributes change.
    Attributes,
    /// A file that was open for writing is closed.
    Close,
    /// A name moves within a directory, once.
    Move,
}
