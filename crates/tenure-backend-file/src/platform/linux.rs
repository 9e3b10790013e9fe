//! What only Linux has.

use std::mem::MaybeUninit;
use std::path::Path;

use rustix::event::{EventfdFlags, PollFd, PollFlags};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::fs::{AtFlags, RawDir, StatxFlags};
use sha2::{Digest, Sha256};

use super::{
    AsFd, BorrowedFd, DirId, Duration, Errno, FileSystem, Identity, Notice, OwnedFd, Watch,
};

/// Calls `each` with every name in a directory that was just opened.
pub(crate) fn list(dir: BorrowedFd<'_>, mut each: impl FnMut(&str)) -> Result<(), Errno> {
    let mut buffer = [MaybeUninit::uninit(); 8192];
    let mut entries = RawDir::new(dir, &mut buffer);
    while let Some(entry) = entries.next() {
        match entry {
            // A name that is not text is not one of ours; it counts as a foreign one.
            Ok(entry) => match entry.file_name().to_str() {
                Ok("." | "..") => {}
                Ok(name) => each(name),
                Err(_) => each("\u{fffd}"),
            },
            // The directory was removed.
            Err(Errno::NOENT) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Has the attributes of a directory fetched from the server, so that an old listing is not
/// taken for the present one.
pub(crate) fn revalidate(dir: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC;
    match rustix::fs::statx(dir, "", flags, StatxFlags::BASIC_STATS) {
        Ok(_) | Err(Errno::NOSYS) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Which directory this is, and who owns it.
pub(crate) fn dir_id(dir: BorrowedFd<'_>) -> Result<(DirId, u32), Errno> {
    let wanted = StatxFlags::INO | StatxFlags::UID | StatxFlags::BTIME;
    match rustix::fs::statx(dir, "", AtFlags::EMPTY_PATH, wanted) {
        Ok(stat) => {
            let known = StatxFlags::from_bits_retain(stat.stx_mask);
            let born = if known.contains(StatxFlags::BTIME) {
                (stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec)
            } else {
                (0, 0)
            };
            let inode = stat.stx_ino;
            Ok((DirId { inode, born }, stat.stx_uid))
        }
        Err(Errno::NOSYS) => super::plain_dir_id(dir),
        Err(errno) => Err(errno),
    }
}

pub(crate) fn identity() -> Identity {
    let pid = std::process::id();
    let boot = std::fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Identity {
        pid,
        started: started(pid).unwrap_or(0),
        boot: if boot.is_empty() { 0 } else { hash(&boot) },
        pid_space: space("/proc/self/ns/pid"),
    }
}

/// What tells clocks since boot apart that containers may have shifted.
pub(crate) fn time_space() -> u64 {
    space("/proc/self/ns/time")
}

fn space(path: &str) -> u64 {
    rustix::fs::stat(path).map_or(0, |stat| stat.st_ino)
}

fn hash(bytes: &[u8]) -> u64 {
    let hash = Sha256::digest(bytes);
    let (first, _) = hash.split_first_chunk().expect("8 of 32 bytes");
    u64::from_le_bytes(*first).max(1)
}

/// How long the machine is up, asleep or not.
pub(super) fn up_time() -> Option<Duration> {
    let up = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    u64::try_from(up.tv_sec).ok().map(Duration::from_secs)
}

/// When a process started, in ticks since boot.
pub(super) fn started(pid: u32) -> Option<u64> {
    stat(pid, |fields| fields.nth(19)?.parse().ok())
}

/// Whether a process has ended and its parent has not taken notice.
pub(super) fn is_zombie(pid: u32) -> bool {
    stat(pid, |fields| Some(matches!(fields.next()?, "Z" | "X" | "x"))).unwrap_or(false)
}

fn stat<T>(
    pid: u32,
    take: impl FnOnce(&mut std::str::SplitAsciiWhitespace<'_>) -> Option<T>,
) -> Option<T> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    take(&mut rest.split_ascii_whitespace())
}

/// The kind of file system under an open directory. NFS that does not look at the server when
/// a file is opened is of no use.
pub(crate) fn file_system(dir: BorrowedFd<'_>) -> Result<FileSystem, Errno> {
    let magic = rustix::fs::fstatfs(dir)?.f_type;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the numbers have 32 bits; the field's type differs between architectures"
    )]
    let magic = magic as u32;
    Ok(match magic {
        // ext2, ext3, ext4; xfs; btrfs; f2fs; zfs; bcachefs; jfs; nilfs2
        0xEF53 | 0x5846_5342 | 0x9123_683E | 0xF2F5_2010 | 0x2FC1_2FC1 | 0xCA45_1A4E
        | 0x3153_464A | 0x3434 => FileSystem::Local,
        // tmpfs; ramfs; overlayfs; ecryptfs
        0x0102_1994 | 0x8584_58F6 | 0x794C_7630 | 0xF15F => FileSystem::Local,
        0x6969 if mounted_with(dir, "nocto") => FileSystem::Other("NFS mounted with `nocto`"),
        0x6969 => FileSystem::Nfs,
        0x517B | 0xFF53_4D42 | 0xFE53_4D42 => FileSystem::Other("SMB"),
        0x6573_5546 => FileSystem::Other("FUSE"),
        0x0102_1997 => FileSystem::Other("9p"),
        0x4D44 | 0x2011_BAB0 => FileSystem::Other("FAT"),
        0x00C3_6400 => FileSystem::Other("Ceph"),
        0x5346_414F => FileSystem::Other("AFS"),
        _ => FileSystem::Other("of an unknown kind"),
    })
}

fn mounted_with(dir: BorrowedFd<'_>, option: &str) -> bool {
    let Ok(stat) = rustix::fs::fstat(dir) else {
        return false;
    };
    let (major, minor) = (rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev));
    let device = format!("{major}:{minor}");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    has_mount_option(&mounts, &device, option)
}

/// Whether the mount of a device has an option, in the form of `/proc/self/mountinfo`.
fn has_mount_option(mounts: &str, device: &str, option: &str) -> bool {
    mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .filter(|fields| fields.get(2) == Some(&device))
        .any(|fields| {
            let last = fields.last().copied().unwrap_or_default();
            let own = fields.get(5).copied().unwrap_or_default();
            own.split(',').chain(last.split(',')).any(|o| o == option)
        })
}

/// Tells of changes in a directory, and can be woken itself.
#[derive(Debug)]
pub(crate) struct Notifier {
    inotify: OwnedFd,
    alarm: OwnedFd,
}

impl Notifier {
    pub(crate) fn new() -> Result<Self, Errno> {
        Ok(Self {
            inotify: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?,
            alarm: rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        })
    }

    pub(crate) fn add(&self, path: &Path, what: Watch) -> Result<i32, Errno> {
        let flags = match what {
            Watch::Attributes => WatchFlags::ATTRIB,
            Watch::Close => WatchFlags::CLOSE_WRITE,
            Watch::Move => WatchFlags::MOVED_TO | WatchFlags::ONESHOT | WatchFlags::ONLYDIR,
        };
        inotify::add_watch(&self.inotify, path, flags | WatchFlags::DONT_FOLLOW)
    }

    pub(crate) fn remove(&self, watch: i32) {
        // It may have ended by itself.
        let _ = inotify::remove_watch(&self.inotify, watch);
    }

    /// Ends the present or next wait.
    pub(crate) fn wake(&self) {
        // Full means that it was woken already.
        let _ = rustix::io::write(&self.alarm, &1_u64.to_ne_bytes());
    }

    /// Waits until something happens, for `limit` at most, and appends it to `notices`.
    pub(crate) fn wait(&self, limit: Option<Duration>, notices: &mut Vec<Notice>) {
        let limit = limit.map(|d| rustix::event::Timespec {
            tv_sec: i64::try_from(d.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: d.subsec_nanos().into(),
        });
        let mut fds =
            [PollFd::new(&self.inotify, PollFlags::IN), PollFd::new(&self.alarm, PollFlags::IN)];
        if rustix::event::poll(&mut fds, limit.as_ref()).is_err() {
            return;
        }
        if !fds[1].revents().is_empty() {
            let _ = rustix::io::read(self.alarm.as_fd(), &mut [0_u8; 8]);
        }
        let mut buffer = [MaybeUninit::uninit(); 8192];
        let mut events = inotify::Reader::new(&self.inotify, &mut buffer);
        while let Ok(event) = events.next() {
            let flags = event.events();
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                notices.push(Notice::Overflow);
            } else if flags.contains(ReadFlags::IGNORED) {
                notices.push(Notice::Ended(event.wd()));
            } else {
                notices.push(Notice::Changed(event.wd()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_known_and_not_gone() {
        let me = identity();
        assert!(me.started != 0 && me.boot != 0 && me.pid_space != 0);
        assert!(!me.is_gone());
        assert!(Identity { started: 1, ..me }.is_gone());
        assert!(me.shares_kernel(&identity()));
        assert!(!me.shares_kernel(&Identity { boot: 0, ..me }));
        assert!(!Identity { pid: 0, ..me }.is_gone());
    }

    #[test]
    fn a_process_that_ended_is_gone() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        let started = started(pid).unwrap();
        let ended = Identity { pid, started, ..identity() };
        while !ended.has_ended() {
            std::thread::yield_now();
        }
        assert!(!ended.is_gone(), "its parent has not taken notice yet");
        child.wait().unwrap();
        let gone = Identity { pid, started: 1, ..identity() };
        assert!(gone.is_gone());
    }

    #[test]
    fn mount_options_are_found_by_device() {
        let mounts = "36 35 98:0 / /mnt rw,noatime master:1 - ext4 /dev/root rw,errors=x\n\
                      40 35 0:51 / /nfs rw,relatime - nfs4 host:/x rw,vers=4.2,nocto,hard\n";
        assert!(has_mount_option(mounts, "0:51", "nocto"));
        assert!(!has_mount_option(mounts, "98:0", "nocto"));
        assert!(!has_mount_option(mounts, "0:5", "nocto"));
    }
}
