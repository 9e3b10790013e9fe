//! Measures what a mount really does: whether names move atomically between processes, whether
//! writes are seen soon, and whether the kernel tells that a process is dead.
//!
//! Everything happens in a directory of its own beside the locks, `probe-` and a random number,
//! with plain file operations; it is removed afterwards. All processes run on this host, so what
//! another host sees of the directory is not measured.

mod check;
mod worker;

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::time::ClockId;
use tenure_core::{Error, Finding, Result};

use crate::error;
use crate::platform;

pub use worker::work;

/// What the names of probe directories begin with.
const PREFIX: &str = "probe-";
/// How many processes race.
const RACERS: u32 = 4;
/// For how many files they race.
const ROUNDS: u32 = 200;
/// How often the record is replaced while it is read.
const REPLACEMENTS: u64 = 500;
/// How long the signs of life are watched.
const SIGNS_FOR: Duration = Duration::from_millis(300);
/// Nothing takes longer on a mount that works; workers end themselves by then.
const PATIENCE: Duration = Duration::from_secs(20);
/// How old what an interrupted probe left behind must be to be swept away.
const LITTER: Duration = Duration::from_secs(300);

/// Measures the directory of a file store; takes about a second. The findings are about `create`,
/// `rename`, `replace`, `flock`, `staleness` and `clock`.
///
/// `worker` makes the command of one worker process: a program that calls [`work`] with the same
/// directory, role and number, and ends then.
///
/// # Errors
/// Those of making files in the directory, and of starting processes. A mount that does not do
/// what locks need is a [`Finding`], not an error.
pub fn measure(
    directory: &Path,
    worker: impl Fn(&Path, &str, u32) -> Command,
) -> Result<Vec<Finding>> {
    sweep(directory);
    let probe = Probe::new(directory, &worker).map_err(|e| failed(&e, directory))?;
    probe.findings().map_err(|e| failed(&e, directory))
}

fn failed(error: &io::Error, directory: &Path) -> Error {
    match rustix::io::Errno::from_io_error(error) {
        Some(errno) => error::io(errno, "measure", directory),
        None => Error::new(
            tenure_core::ErrorKind::Unknown,
            format!("cannot measure {}: {error}", directory.display()),
        ),
    }
}

/// A directory to measure in, removed on drop.
struct Probe<'a> {
    directory: PathBuf,
    worker: &'a dyn Fn(&Path, &str, u32) -> Command,
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        // Left behind it does no harm, and the next probe sweeps it away.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl<'a> Probe<'a> {
    fn new(parent: &Path, worker: &'a dyn Fn(&Path, &str, u32) -> Command) -> io::Result<Self> {
        let directory = parent.join(format!("{PREFIX}{:016x}", rand::random::<u64>()));
        fs::DirBuilder::new().mode(0o700).create(&directory)?;
        Ok(Self { directory, worker })
    }

    fn findings(&self) -> io::Result<Vec<Finding>> {
        let begin = Clocks::now();
        let mut findings = vec![self.create()?, self.rename()?, self.replace()?];
        findings.extend([self.flock()?, self.staleness()?, self.clock(begin)?]);
        Ok(findings)
    }

    /// Of several processes that make one file, exactly one does.
    fn create(&self) -> io::Result<Finding> {
        self.race("create")?;
        Ok(check::race("create", &self.wins("create")?, ROUNDS, "made"))
    }

    /// Of several processes that move one name, exactly one does.
    fn rename(&self) -> io::Result<Finding> {
        for round in 0..ROUNDS {
            fs::write(self.directory.join(format!("here-{round}")), b"")?;
        }
        self.race("rename")?;
        Ok(check::race("rename", &self.wins("rename")?, ROUNDS, "moved"))
    }

    /// A file that is replaced is there, and whole, at every moment.
    fn replace(&self) -> io::Result<Finding> {
        let record = self.directory.join("record");
        fs::write(&record, worker::record(0))?;
        let mut reader = self.start("reader", 0)?;
        self.wait_for("ready-reader-0")?;
        let next = self.directory.join("record-next");
        for number in 1..=REPLACEMENTS {
            fs::write(&next, worker::record(number))?;
            fs::rename(&next, &record)?;
        }
        fs::write(self.directory.join("stop"), b"")?;
        self.end(&mut reader)?;
        let seen = fs::read_to_string(self.directory.join("seen"))?;
        Ok(check::replaced(&seen, REPLACEMENTS))
    }

    /// A file that another process has locked reads as locked until that process is dead.
    fn flock(&self) -> io::Result<Finding> {
        let path = self.directory.join("held");
        fs::write(&path, b"")?;
        let mut keeper = self.start("keeper", 0)?;
        self.wait_for("ready-keeper-0")?;
        let file = fs::File::open(&path)?;
        let seen = !platform::is_unlocked(&file)?;
        keeper.kill()?;
        let died = Clocks::now();
        keeper.wait()?;
        let mut freed = platform::is_unlocked(&file)?;
        while !freed && died.elapsed() < Duration::from_secs(1) {
            platform::pause(Duration::from_millis(1));
            freed = platform::is_unlocked(&file)?;
        }
        Ok(check::flock(seen, freed.then(|| died.elapsed())))
    }

    /// How soon what one process writes is read by another.
    fn staleness(&self) -> io::Result<Finding> {
        fs::write(self.directory.join("beat"), worker::stamp(0))?;
        let mut beater = self.start("beater", 0)?;
        self.wait_for("ready-beater-0")?;
        let begin = Clocks::now();
        let (mut newest, mut beats, mut longest) = (0, 0, Duration::ZERO);
        while begin.elapsed() < SIGNS_FOR {
            // Opened anew each time, as observers of a holder do.
            let written = worker::read_stamp(&self.directory.join("beat"))?;
            if newest < written {
                newest = written;
                beats += 1;
                longest = longest.max(Duration::from_nanos(worker::now().saturating_sub(written)));
            }
            platform::pause(Duration::from_micros(200));
        }
        fs::write(self.directory.join("stop-beater"), b"")?;
        self.end(&mut beater)?;
        Ok(check::staleness(beats, longest))
    }

    /// Whether this host's clock runs evenly, and how far the mount's clock is from it.
    fn clock(&self, begin: Clocks) -> io::Result<Finding> {
        let path = self.directory.join("clock");
        let before = wall();
        fs::write(&path, b"x")?;
        let stamped = fs::metadata(&path)?;
        let stamped =
            i128::from(stamped.mtime()) * 1_000_000_000 + i128::from(stamped.mtime_nsec());
        Ok(check::clock(begin, Clocks::now(), stamped - before))
    }

    /// Runs the racers of a kind to the end; they begin together.
    fn race(&self, role: &str) -> io::Result<()> {
        let start = |number| self.start(role, number);
        let mut racers = (0..RACERS).map(start).collect::<io::Result<Vec<_>>>()?;
        for number in 0..RACERS {
            self.wait_for(&format!("ready-{role}-{number}"))?;
        }
        fs::write(self.directory.join(format!("go-{role}")), b"")?;
        racers.iter_mut().try_for_each(|racer| self.end(racer))
    }

    /// Who won which rounds.
    fn wins(&self, role: &str) -> io::Result<Vec<Vec<u32>>> {
        let read = |number| {
            let text = fs::read_to_string(self.directory.join(format!("won-{role}-{number}")))?;
            Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
        };
        (0..RACERS).map(read).collect()
    }

    fn start(&self, role: &str, number: u32) -> io::Result<Running> {
        let mut command = (self.worker)(&self.directory, role, number);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().map(Running)
    }

    fn wait_for(&self, name: &str) -> io::Result<()> {
        worker::wait_for(&self.directory.join(name))
    }

    fn end(&self, worker: &mut Running) -> io::Result<()> {
        let status = worker.0.wait()?;
        if status.success() {
            return Ok(());
        }
        Err(io::Error::other(format!("a worker process failed: {status}")))
    }
}

/// A worker process; killed when nobody waits for it any more.
struct Running(Child);

impl Running {
    fn kill(&mut self) -> io::Result<()> {
        self.0.kill()
    }

    fn wait(&mut self) -> io::Result<()> {
        self.0.wait().map(drop)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail if it has ended and was waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Several clocks at one moment, in nanoseconds.
#[derive(Clone, Copy)]
struct Clocks {
    boot: i128,
    raw: i128,
}

impl Clocks {
    fn now() -> Self {
        #[cfg(target_os = "linux")]
        let (boot, raw) = (nanos(ClockId::Boottime), nanos(ClockId::MonotonicRaw));
        #[cfg(not(target_os = "linux"))]
        let (boot, raw) = (nanos(ClockId::Monotonic), nanos(ClockId::Monotonic));
        Self { boot, raw }
    }

    fn elapsed(self) -> Duration {
        Self::now().since(self)
    }

    fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.boot - earlier.boot).unwrap_or(0))
    }
}

fn wall() -> i128 {
    nanos(ClockId::Realtime)
}

fn nanos(clock: ClockId) -> i128 {
    let now = rustix::time::clock_gettime(clock);
    i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec)
}

/// Removes what probes left behind that were interrupted.
fn sweep(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let is_probe = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        let age = wall() - i128::from(metadata.mtime()) * 1_000_000_000;
        let litter = i128::try_from(LITTER.as_nanos()).unwrap_or(i128::MAX);
        if is_probe && metadata.is_dir() && litter < age && metadata.uid() == platform::user() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
