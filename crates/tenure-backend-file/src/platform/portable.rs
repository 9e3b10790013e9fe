//! What other Unixes have instead of it.

use std::path::Path;

use super::{BorrowedFd, DirId, Duration, Errno, FileSystem, Identity, Notice, Watch};

pub(crate) fn list(dir: BorrowedFd<'_>, mut each: impl FnMut(&str)) -> Result<(), Errno> {
    for entry in rustix::fs::Dir::read_from(dir)? {
        match entry?.file_name().to_str() {
            Ok("." | "..") => {}
            Ok(name) => each(name),
            Err(_) => each("\u{fffd}"),
        }
    }
    Ok(())
}

pub(crate) fn revalidate(_dir: BorrowedFd<'_>) -> Result<(), Errno> {
    Ok(())
}

pub(crate) fn dir_id(dir: BorrowedFd<'_>) -> Result<(DirId, u32), Errno> {
    super::plain_dir_id(dir)
}

pub(crate) fn identity() -> Identity {
    Identity { pid: std::process::id(), ..Identity::default() }
}

pub(crate) fn time_space() -> u64 {
    0
}

pub(super) fn up_time() -> Option<Duration> {
    None
}

pub(super) fn started(_pid: u32) -> Option<u64> {
    None
}

pub(super) fn is_zombie(_pid: u32) -> bool {
    false
}

pub(crate) fn file_system(_dir: BorrowedFd<'_>) -> Result<FileSystem, Errno> {
    Ok(FileSystem::Other("of a kind that this system does not tell"))
}

/// Tells of nothing: waiters poll.
#[derive(Debug)]
pub(crate) struct Notifier;

impl Notifier {
    pub(crate) fn new() -> Result<Self, Errno> {
        Err(Errno::NOSYS)
    }

    pub(crate) fn add(&self, _path: &Path, _what: Watch) -> Result<i32, Errno> {
        Err(Errno::NOSYS)
    }

    pub(crate) fn remove(&self, _watch: i32) {}

    pub(crate) fn wake(&self) {}

    pub(crate) fn wait(&self, _limit: Option<Duration>, _notices: &mut Vec<Notice>) {}
}
