//! The resource that a lock protects in a run: counters that compare fences and keep a log.
//!
//! A read carries a fence as well and raises the highest one seen. Otherwise two holders could read the
//! same value before either writes, and the older write, which comes first, would be accepted and lost.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::event::Fence;

/// One request to a register, in the order in which it took them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Place in the log, from 1.
    pub seq: u64,
    /// Which counter: the name of the lock that protects it.
    pub name: String,
    /// The fence the request carried.
    pub fence: Fence,
    /// The value to write; absent for a read.
    pub value: Option<u64>,
    /// Whether the fence was at least the highest one seen.
    pub accepted: bool,
}

/// What a register answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Done; this is the value now. A counter nobody wrote is 0.
    Accepted(u64),
    /// The register has seen this higher fence: the caller's lock is no longer its own.
    Refused(Fence),
}

/// Counters that accept a request if, and only if, its fence is at least the highest one seen.
pub trait FencedRegister: Send + Sync {
    /// Reads (`None`) or writes the counter of this name.
    ///
    /// # Errors
    /// When the register cannot be reached. The request may have been taken nevertheless.
    fn request(&self, name: &str, fence: Fence, value: Option<u64>) -> io::Result<Answer>;

    /// Everything that was asked of the register, by anybody.
    ///
    /// # Errors
    /// When the register cannot be reached.
    fn log(&self) -> io::Result<Vec<Entry>>;
}

/// Adds one to a counter by a read and a write, the way a user of a lock does it.
///
/// A pause may fall between the two; that is the point.
///
/// # Errors
/// As [`FencedRegister::request`].
pub fn increment(register: &dyn FencedRegister, name: &str, fence: Fence) -> io::Result<Answer> {
    match register.request(name, fence, None)? {
        Answer::Accepted(value) => register.request(name, fence, Some(value + 1)),
        refused @ Answer::Refused(_) => Ok(refused),
    }
}

/// The rule itself, without any storage.
#[derive(Debug, Default)]
struct Cells {
    seq: u64,
    cells: HashMap<String, Cell>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Cell {
    highest: Option<Fence>,
    value: u64,
}

impl Cells {
    /// What the log says about the next request.
    fn next(&self, name: &str, fence: Fence, value: Option<u64>) -> Entry {
        let cell = self.cells.get(name).copied().unwrap_or_default();
        let accepted = cell.highest <= Some(fence);
        Entry { seq: self.seq + 1, name: name.to_owned(), fence, value, accepted }
    }

    fn apply(&mut self, entry: &Entry) -> Answer {
        self.seq = entry.seq;
        let cell = self.cells.entry(entry.name.clone()).or_default();
        if let (false, Some(highest)) = (entry.accepted, cell.highest) {
            return Answer::Refused(highest);
        }
        cell.highest = Some(entry.fence);
        cell.value = entry.value.unwrap_or(cell.value);
        Answer::Accepted(cell.value)
    }
}

/// A register in the memory of one process.
#[derive(Debug, Default)]
pub struct MemoryRegister {
    inner: Mutex<(Cells, Vec<Entry>)>,
}

impl MemoryRegister {
    /// A register in which every counter is 0 and no fence was seen.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl FencedRegister for MemoryRegister {
    fn request(&self, name: &str, fence: Fence, value: Option<u64>) -> io::Result<Answer> {
        let (cells, log) = &mut *locked(&self.inner);
        let entry = cells.next(name, fence, value);
        let answer = cells.apply(&entry);
        log.push(entry);
        Ok(answer)
    }

    fn log(&self) -> io::Result<Vec<Entry>> {
        Ok(locked(&self.inner).1.clone())
    }
}

/// A register that many processes share: a log file, and a lock file of its own around every request.
///
/// The log is all there is; each process keeps what it has read of it. So a process that is killed at any
/// point leaves a register that is right, at worst with a torn last line that the next request cuts off.
#[derive(Debug)]
pub struct FileRegister {
    lock: File,
    inner: Mutex<FileInner>,
}

#[derive(Debug)]
struct FileInner {
    file: File,
    read_to: u64,
    cells: Cells,
    log: Vec<Entry>,
}

impl FileRegister {
    /// Opens the register in a folder, or starts it there.
    ///
    /// # Errors
    /// When its two files cannot be opened.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(dir.join("register.lock"))?;
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(dir.join("register.log"))?;
        let inner = FileInner { file, read_to: 0, cells: Cells::default(), log: Vec::new() };
        Ok(FileRegister { lock, inner: Mutex::new(inner) })
    }

    /// Runs `f` on all that was logged so far, with every other process and thread shut out.
    fn alone<T>(&self, f: impl FnOnce(&mut FileInner) -> io::Result<T>) -> io::Result<T> {
        let mut inner = locked(&self.inner);
        self.lock.lock()?;
        let result = inner.catch_up().and_then(|()| f(&mut inner));
        self.lock.unlock()?;
        result
    }
}

impl FileInner {
    fn catch_up(&mut self) -> io::Result<()> {
        let mut news = Vec::new();
        self.file.seek(SeekFrom::Start(self.read_to))?;
        self.file.read_to_end(&mut news)?;
        let whole = news.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
        if whole < news.len() {
            self.file.set_len(self.read_to + whole as u64)?;
        }
        for line in news[..whole].split_inclusive(|&byte| byte == b'\n') {
            let entry: Entry = serde_json::from_slice(line)?;
            self.cells.apply(&entry);
            self.log.push(entry);
            self.read_to += line.len() as u64;
        }
        Ok(())
    }
}

impl FencedRegister for FileRegister {
    fn request(&self, name: &str, fence: Fence, value: Option<u64>) -> io::Result<Answer> {
        self.alone(|inner| {
            let entry = inner.cells.next(name, fence, value);
            let mut line = serde_json::to_vec(&entry)?;
            line.push(b'\n');
            inner.file.write_all(&line)?;
            let answer = inner.cells.apply(&entry);
            inner.log.push(entry);
            inner.read_to += line.len() as u64;
            Ok(answer)
        })
    }

    fn log(&self) -> io::Result<Vec<Entry>> {
        self.alone(|inner| Ok(inner.log.clone()))
    }
}

/// A poisoned mutex is entered: the state changes only after everything that could panic.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn obeys_the_rule(register: &dyn FencedRegister) {
        let request = |fence, value| register.request("a", Fence(fence), value).unwrap();
        assert_eq!(request(3, None), Answer::Accepted(0));
        assert_eq!(request(3, Some(1)), Answer::Accepted(1));
        assert_eq!(request(2, Some(9)), Answer::Refused(Fence(3)));
        assert_eq!(request(5, None), Answer::Accepted(1));
        assert_eq!(request(3, Some(2)), Answer::Refused(Fence(5)), "a read raises the fence");
        assert_eq!(increment(register, "a", Fence(5)).unwrap(), Answer::Accepted(2));
        assert_eq!(increment(register, "a", Fence(4)).unwrap(), Answer::Refused(Fence(5)));
        assert_eq!(
            increment(register, "b", Fence(1)).unwrap(),
            Answer::Accepted(1),
            "names are apart"
        );

        let log = register.log().unwrap();
        let seqs: Vec<u64> = log.iter().map(|entry| entry.seq).collect();
        assert_eq!(seqs, (1..=10).collect::<Vec<_>>());
        assert_eq!(log.iter().filter(|entry| !entry.accepted).count(), 3);
    }

    #[test]
    fn a_register_in_memory_obeys_the_rule() {
        obeys_the_rule(&MemoryRegister::new());
    }

    #[test]
    fn a_register_on_a_file_obeys_the_rule() {
        let dir = tempfile::tempdir().unwrap();
        obeys_the_rule(&FileRegister::open(dir.path()).unwrap());
    }

    #[test]
    fn registers_on_one_file_are_one_register() {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    // A handle of its own stands for a process: locks of files are between handles.
                    let register = FileRegister::open(dir.path()).unwrap();
                    for fence in 0..50 {
                        register.request("a", Fence(fence), None).unwrap();
                    }
                });
            }
        });
        let log = FileRegister::open(dir.path()).unwrap().log().unwrap();
        assert_eq!(
            log.iter().map(|entry| entry.seq).collect::<Vec<_>>(),
            (1..=200).collect::<Vec<_>>()
        );
        let accepted: Vec<Fence> = log.iter().filter(|e| e.accepted).map(|e| e.fence).collect();
        assert!(accepted.is_sorted());
    }

    #[test]
    fn a_torn_line_of_a_killed_writer_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let register = FileRegister::open(dir.path()).unwrap();
        increment(&register, "a", Fence(1)).unwrap();
        let mut log =
            OpenOptions::new().append(true).open(dir.path().join("register.log")).unwrap();
        log.write_all(br#"{"seq":3,"name":"a","fen"#).unwrap();
        assert_eq!(increment(&register, "a", Fence(2)).unwrap(), Answer::Accepted(2));
        assert_eq!(FileRegister::open(dir.path()).unwrap().log().unwrap().len(), 4);
    }
}
