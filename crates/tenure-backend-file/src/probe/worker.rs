//! What the worker processes of a probe do.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use super::{Clocks, PATIENCE, ROUNDS};
use crate::platform;

/// The length of a record, in lines.
const LINES: usize = 64;
const BEAT_EVERY: Duration = Duration::from_millis(2);

/// Does the work of the worker `number` in `role`; returns when it is done.
///
/// # Errors
/// Those of the file system; `InvalidInput` for a role that there is not.
pub fn work(directory: &Path, role: &str, number: u32) -> io::Result<()> {
    match role {
        "create" => race(directory, role, number, create),
        "rename" => race(directory, role, number, rename),
        "reader" => reader(directory, number),
        "keeper" => keeper(directory, number),
        "beater" => beater(directory, number),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "there is no such role")),
    }
}

/// Tries every round and writes down which it won.
fn race(
    directory: &Path,
    role: &str,
    number: u32,
    attempt: fn(&Path, u32, u32) -> io::Result<bool>,
) -> io::Result<()> {
    ready(directory, role, number)?;
    wait_for(&directory.join(format!("go-{role}")))?;
    let mut won = String::new();
    for round in 0..ROUNDS {
        if attempt(directory, round, number)? {
            writeln!(won, "{round}").expect("a string takes everything");
            // The others catch up, so that the next round is a race again.
            platform::pause(Duration::from_micros(20));
        }
    }
    fs::write(directory.join(format!("won-{role}-{number}")), won)
}

fn create(directory: &Path, round: u32, _: u32) -> io::Result<bool> {
    let path = directory.join(format!("new-{round}"));
    match fs::File::create_new(path) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(e),
    }
}

fn rename(directory: &Path, round: u32, number: u32) -> io::Result<bool> {
    let from = directory.join(format!("here-{round}"));
    let to = directory.join(format!("there-{round}-{number}"));
    match fs::rename(from, to) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// Reads the record over and over, and counts what must not be seen.
fn reader(directory: &Path, number: u32) -> io::Result<()> {
    let (path, stop) = (directory.join("record"), directory.join("stop"));
    let (mut reads, mut missing, mut torn, mut backwards, mut newest) = (0u64, 0u64, 0u64, 0u64, 0);
    ready(directory, "reader", number)?;
    let begin = Clocks::now();
    while begin.elapsed() < PATIENCE && !stop.exists() {
        reads += 1;
        match fs::read(&path) {
            Ok(bytes) => match number_of(&bytes) {
                Some(number) if number < newest => backwards += 1,
                Some(number) => newest = number,
                None => torn += 1,
            },
            Err(e) if e.kind() == io::ErrorKind::NotFound => missing += 1,
            Err(e) => return Err(e),
        }
    }
    let seen = format!("{reads} {missing} {torn} {backwards}");
    fs::write(directory.join("seen"), seen)
}

/// A record that shows if two of them are mixed.
pub(super) fn record(number: u64) -> Vec<u8> {
    format!("{number:020}\n").repeat(LINES).into_bytes()
}

fn number_of(bytes: &[u8]) -> Option<u64> {
    let number = std::str::from_utf8(bytes.get(..20)?).ok()?.parse().ok()?;
    (record(number) == bytes).then_some(number)
}

/// Keeps a file locked until it is killed.
fn keeper(directory: &Path, number: u32) -> io::Result<()> {
    let file = fs::File::options().write(true).open(directory.join("held"))?;
    platform::lock(&file)?;
    ready(directory, "keeper", number)?;
    platform::pause(PATIENCE);
    Ok(())
}

/// Rewrites a small file as holders do.
fn beater(directory: &Path, number: u32) -> io::Result<()> {
    let file = fs::File::options().write(true).open(directory.join("beat"))?;
    let stop = directory.join("stop-beater");
    ready(directory, "beater", number)?;
    let begin = Clocks::now();
    while begin.elapsed() < PATIENCE && !stop.exists() {
        file.write_all_at(&stamp(now()), 0)?;
        platform::pause(BEAT_EVERY);
    }
    Ok(())
}

/// A moment as the bytes of a sign of life.
pub(super) fn stamp(nanos: u64) -> [u8; 8] {
    nanos.to_be_bytes()
}

pub(super) fn read_stamp(path: &Path) -> io::Result<u64> {
    let bytes = fs::read(path)?;
    let bytes = bytes.try_into().map_err(|_| io::Error::other("a sign of life has 8 bytes"))?;
    Ok(u64::from_be_bytes(bytes))
}

/// Nanoseconds since boot: the same on all clocks of one host.
pub(super) fn now() -> u64 {
    u64::try_from(Clocks::now().boot).unwrap_or(0)
}

fn ready(directory: &Path, role: &str, number: u32) -> io::Result<()> {
    fs::write(directory.join(format!("ready-{role}-{number}")), b"")
}

/// Waits until the file is there.
pub(super) fn wait_for(path: &Path) -> io::Result<()> {
    let begin = Clocks::now();
    while !path.exists() {
        if PATIENCE < begin.elapsed() {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "a process of the probe did not come",
            ));
        }
        platform::pause(Duration::from_micros(200));
    }
    Ok(())
}
