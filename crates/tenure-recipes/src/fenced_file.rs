//! A file that refuses the late write of whoever lost its lock.

use std::collections::hash_map::RandomState;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use tenure_core::clock::{Clock, SystemClock};
use tenure_core::{Error, ErrorKind, Fence, Result};

/// How long a slot is: a fence twice, so that one that was written by half is told from a whole one.
const SLOT: usize = 42;
/// How long a write waits between two looks whether others are done.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A file that takes a write only under a fencing token that is not older than the newest that was
/// shown to it: the other half of a lock's safety, for files.
///
/// The newest token stands in a file beside it, `NAME.fence`, which belongs to it: move, copy and
/// remove them together. The file itself has nothing in it but what was written. It is replaced as a
/// whole, by way of `NAME.new`, so readers see an old content or a new one, never a part, and need
/// nothing of this crate.
///
/// Comparing and writing are one step between all processes that use the file in this way: under a
/// kernel lock (`flock`) on the fence's file, held for as long as the write takes and freed when its
/// process ends. The token is on disk before the file is touched. So after a crash or a power failure
/// at any moment the file is whole, and no older token is taken than one that it was written under.
///
/// On network file systems it holds where `flock` counts between hosts and `rename` is atomic, as on
/// NFS 4. Whoever writes to the file by other means is not refused.
///
/// ```
/// # use std::time::Duration;
/// # use tenure_core::Fence;
/// use tenure_recipes::fenced_file::FencedFile;
///
/// # fn main() -> tenure_core::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("report");
/// # let (old, new) = (Fence::new(7), Fence::new(8));
/// let report = FencedFile::new(path);
/// report.write(new, b"by the new holder")?;
/// assert!(report.write(old, b"by the old holder, late").is_err());
/// # assert_eq!(std::fs::read(report.path()).unwrap(), b"by the new holder");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FencedFile {
    path: PathBuf,
    patience: Duration,
}

impl FencedFile {
    /// How long a write waits for another one, if nothing else is said.
    pub const PATIENCE: Duration = Duration::from_secs(10);

    /// The file at `path`. Nothing is read or written yet; the directory has to be there.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), patience: Self::PATIENCE }
    }

    /// Waits so long for a process that is just writing, instead of 10 s. Only one that stands still in
    /// the middle of it takes longer than its write does.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces the content, unless a newer token than `fence` was shown before. The same token may
    /// write as often as it likes. Blocks for as long as the disk takes; the permissions of a file that
    /// is there are kept.
    ///
    /// # Errors
    /// `Lost` if a newer token was here: whoever writes has lost its lock, and nothing was changed.
    /// `Corrupt` if the fence's file is not one. `Unreachable` if another process stands still in the
    /// middle of a write, or the disk is full or broken; `Denied`. After those the content is the old
    /// one, or, if only the last `fsync` failed, the new one.
    pub fn write(&self, fence: Fence, content: &[u8]) -> Result<()> {
        let mut newest = self.lock()?;
        newest.admit(fence, self)?;
        self.replace(content).map_err(|e| self.failed("write", &self.path, e))
    }

    /// Shuts older tokens out without writing: from now on they are refused.
    ///
    /// For a holder that reads before it writes: once it has raised the fence, nothing that it has read
    /// can be replaced by somebody before it.
    ///
    /// # Errors
    /// As [`FencedFile::write`].
    pub fn raise(&self, fence: Fence) -> Result<()> {
        self.lock()?.admit(fence, self)
    }

    /// The newest token that was shown to the file; [`Fence::ZERO`] if none was.
    ///
    /// # Errors
    /// `Corrupt`, `Unreachable`, `Denied`, as [`FencedFile::write`].
    pub fn newest(&self) -> Result<Fence> {
        Ok(self.lock()?.fence)
    }

    /// Locks the file of the fence, and reads it.
    fn lock(&self) -> Result<Newest> {
        let path = self.beside(".fence");
        let file = self.open(&path).map_err(|e| self.failed("open", &path, e))?;
        let give_up = SystemClock.now().plus(self.patience);
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(e)) => return Err(self.failed("lock", &path, e)),
                Err(TryLockError::WouldBlock) if give_up <= SystemClock.now() => {
                    let message = format!(
                        "another process has been writing to {} for {:?}",
                        self.path.display(),
                        self.patience
                    );
                    return Err(Error::new(ErrorKind::Unreachable, message)
                        .with_help("is it stopped? end it; nothing was changed"));
                }
                Err(TryLockError::WouldBlock) => thread::park_timeout(LOOK_EVERY),
            }
        }
        Newest::read(file).map_err(|e| match e.kind() {
            io::ErrorKind::InvalidData => {
                let message = format!("{} holds no fencing token", path.display());
                Error::new(ErrorKind::Corrupt, message)
                    .with_help("was it written by others? nothing was changed")
            }
            _ => self.failed("read", &path, e),
        })
    }

    /// The file of the fence, which always has a fence in it: one that is made is whole before it has
    /// its name.
    fn open(&self, path: &Path) -> io::Result<File> {
        let open = || OpenOptions::new().read(true).write(true).open(path);
        match open() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            answer => return answer,
        }
        // Not by the number of the process: containers that share a volume have the same ones.
        let number = RandomState::new().build_hasher().finish();
        let fresh = self.beside(&format!(".fence-{number:016x}"));
        let made = (|| {
            let mut file = OpenOptions::new().write(true).create_new(true).open(&fresh)?;
            file.write_all(&[slot(Fence::ZERO), slot(Fence::ZERO)].concat())?;
            file.sync_all()?;
            match fs::hard_link(&fresh, path) {
                // Another one was first.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                linked => linked.and_then(|()| self.sync_directory()),
            }
        })();
        let _ = fs::remove_file(&fresh);
        made.and_then(|()| open())
    }

    /// Replaces the content. Only one process at a time does, so that what a crash leaves is removed by
    /// the next one, whatever mode it has.
    fn replace(&self, content: &[u8]) -> io::Result<()> {
        let fresh = self.beside(".new");
        match fs::remove_file(&fresh) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).open(&fresh)?;
        if let Ok(there) = fs::metadata(&self.path) {
            file.set_permissions(there.permissions())?;
        }
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&fresh, &self.path)?;
        self.sync_directory()
    }

    fn sync_directory(&self) -> io::Result<()> {
        match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
            _ => File::open(".")?.sync_all(),
        }
    }

    fn beside(&self, tail: &str) -> PathBuf {
        let mut name: OsString = self.path.clone().into_os_string();
        name.push(tail);
        name.into()
    }

    fn failed(&self, what: &str, path: &Path, error: io::Error) -> Error {
        let kind = match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                ErrorKind::Denied
            }
            _ => ErrorKind::Unreachable,
        };
        let message = format!("cannot {what} {}: {error}", path.display());
        Error::new(kind, message).with_source(error)
    }
}

/// The file of the fence, locked for as long as it is open.
///
/// Two slots in turn: the one with the newest token is never overwritten, so that a write that a crash
/// cut off leaves the token before it.
struct Newest {
    file: File,
    fence: Fence,
    /// The slot that does not have it.
    other: u64,
}

impl Newest {
    fn read(mut file: File) -> io::Result<Self> {
        let mut text = Vec::new();
        Read::by_ref(&mut file).take(2 * SLOT as u64).read_to_end(&mut text)?;
        let slots = [0, SLOT].map(|at| text.get(at..at + SLOT).and_then(parse));
        let fence = slots.iter().flatten().max().copied();
        let fence = fence.ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { file, fence, other: u64::from(slots[0] == Some(fence)) })
    }

    /// Takes the token in, if none is newer.
    fn admit(&mut self, fence: Fence, of: &FencedFile) -> Result<()> {
        if fence < self.fence {
            let message = format!(
                "{} was written under fencing token {}, which is newer than {fence}",
                of.path.display(),
                self.fence
            );
            return Err(Error::new(ErrorKind::Lost, message)
                .with_help("the lock was lost: stop, and do not write again under this token"));
        }
        if self.fence < fence {
            self.write(fence).map_err(|e| of.failed("write", &of.beside(".fence"), e))?;
        }
        Ok(())
    }

    fn write(&mut self, fence: Fence) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.other * SLOT as u64))?;
        self.file.write_all(&slot(fence))?;
        self.file.sync_data()
    }
}

fn slot(fence: Fence) -> Vec<u8> {
    format!("{0:020} {0:020}\n", fence.get()).into_bytes()
}

fn parse(slot: &[u8]) -> Option<Fence> {
    let (one, two) = std::str::from_utf8(slot).ok()?.strip_suffix('\n')?.split_once(' ')?;
    (one == two).then(|| one.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> (tempfile::TempDir, FencedFile) {
        let dir = tempfile::tempdir().unwrap();
        let file = FencedFile::new(dir.path().join("report"));
        (dir, file)
    }

    fn kind(result: Result<()>) -> ErrorKind {
        result.unwrap_err().kind()
    }

    #[test]
    fn an_older_token_than_the_newest_is_refused_and_changes_nothing() {
        let (_dir, file) = file();
        assert_eq!(file.newest().unwrap(), Fence::ZERO);
        file.write(Fence::new(7), b"seven").unwrap();
        file.write(Fence::new(7), b"seven again").unwrap();
        assert_eq!(kind(file.write(Fence::new(6), b"six")), ErrorKind::Lost);
        file.raise(Fence::new(u64::MAX)).unwrap();
        assert_eq!(kind(file.write(Fence::new(7), b"late")), ErrorKind::Lost);
        assert_eq!(kind(file.raise(Fence::new(7))), ErrorKind::Lost);
        assert_eq!(fs::read(file.path()).unwrap(), b"seven again");
        assert_eq!(file.newest().unwrap(), Fence::new(u64::MAX));
    }

    #[test]
    fn a_token_that_was_written_by_half_leaves_the_one_before() {
        let (_dir, file) = file();
        for fence in 1..20 {
            file.raise(Fence::new(fence)).unwrap();
            let path = file.beside(".fence");
            let whole = fs::read(&path).unwrap();
            let newest = if parse(&whole[..SLOT]) == Some(Fence::new(fence)) { 0 } else { SLOT };
            for cut in 0..SLOT - 1 {
                let mut torn = whole.clone();
                let next = slot(Fence::new(123_456_789_012 + fence));
                let other = SLOT - newest;
                torn[other..other + cut].copy_from_slice(&next[..cut]);
                fs::write(&path, torn).unwrap();
                assert_eq!(file.newest().unwrap(), Fence::new(fence), "after {cut} bytes");
            }
            fs::write(&path, whole).unwrap();
        }
    }

    #[test]
    fn what_is_no_token_is_never_taken_for_an_old_one() {
        let (_dir, file) = file();
        for bad in ["", "7\n", "x", &"0".repeat(200)] {
            fs::write(file.beside(".fence"), bad).unwrap();
            assert_eq!(kind(file.write(Fence::new(7), b"x")), ErrorKind::Corrupt, "{bad}");
            assert!(!file.path().exists());
        }
    }

    #[test]
    fn a_writer_that_stands_still_is_told_of() {
        let (_dir, file) = file();
        let held = file.lock().unwrap();
        let hasty = file.clone().patience(Duration::from_millis(30));
        assert_eq!(kind(hasty.write(Fence::new(1), b"x")), ErrorKind::Unreachable);
        drop(held);
        hasty.write(Fence::new(1), b"x").unwrap();
    }

    #[test]
    fn permissions_stay_and_nothing_else_is_left_behind() {
        use std::os::unix::fs::PermissionsExt;
        let (dir, file) = file();
        file.write(Fence::new(1), b"x").unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o640)).unwrap();
        file.write(Fence::new(2), b"y").unwrap();
        assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o640);
        let mut names: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["report", "report.fence"]);
    }

    #[test]
    fn what_cannot_be_written_is_told_with_its_path() {
        let nowhere = FencedFile::new("/no/such/directory/report");
        let error = nowhere.write(Fence::new(1), b"x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreachable);
        assert!(error.message().contains("/no/such/directory/report.fence"), "{error}");
    }
}
