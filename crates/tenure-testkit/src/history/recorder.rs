//! How events are written down while a run goes on, and read back after it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::event::Event;

/// Extension of the files that [`Recorder`] writes and [`read_dir`] reads.
const EXTENSION: &str = "jsonl";

/// Now, in nanoseconds of the clock that all processes of this host share and that counts while it sleeps.
#[must_use]
pub fn now_ns() -> u64 {
    use rustix::time::{ClockId, clock_gettime};
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let clock = ClockId::Boottime;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let clock = ClockId::Monotonic;
    let now = clock_gettime(clock);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Appends the events of one process to its own file.
///
/// Every line is one `write` to a file opened for appending, so threads need no lock among themselves and
/// a killed process leaves at most its last line torn.
#[derive(Debug)]
pub struct Recorder {
    proc: String,
    file: File,
    attempts: AtomicU64,
}

impl Recorder {
    /// Starts the file `<dir>/<proc>.jsonl`.
    ///
    /// # Errors
    /// `AlreadyExists` if there is one: two lives of a process must not share a name, because their
    /// attempts would be taken for each other's.
    pub fn create(dir: &Path, proc: &str) -> io::Result<Self> {
        let path = dir.join(format!("{proc}.{EXTENSION}"));
        let file = OpenOptions::new().append(true).create_new(true).open(path)?;
        Ok(Recorder { proc: proc.to_owned(), file, attempts: AtomicU64::new(0) })
    }

    /// Hands out the number of the next attempt; the first is 1.
    pub fn next_attempt(&self) -> u64 {
        self.attempts.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Writes down an event of this process with the time of now, and returns that time.
    ///
    /// Call it before an operation for its `invoke` and after it for its end.
    ///
    /// # Errors
    /// When the line could not be written whole; the history is then of no use.
    pub fn record(&self, event: Event) -> io::Result<u64> {
        self.record_of(&self.proc, event)
    }

    /// As [`record`](Self::record), about another process: how a runner notes whom it kills or stops.
    ///
    /// # Errors
    /// As [`record`](Self::record).
    pub fn record_of(&self, proc: &str, mut event: Event) -> io::Result<u64> {
        proc.clone_into(&mut event.proc);
        event.t_ns = now_ns();
        let mut line = serde_json::to_vec(&event)?;
        line.push(b'\n');
        if (&self.file).write(&line)? < line.len() {
            return Err(io::Error::new(
                io::ErrorKind::WriteZero,
                "only a part of the event was written",
            ));
        }
        Ok(event.t_ns)
    }
}

/// Why a history could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A file or the folder could not be read.
    #[error("reading the history {path}")]
    Io {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A whole line is no event. A torn one, the last of a killed process, is no error.
    #[error("{path}:{line} is not an event")]
    Line {
        /// In which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
}

/// Reads every history in a folder, ordered by time, and leaves out a torn last line.
///
/// # Errors
/// When a file cannot be read, or holds a whole line that is no event.
pub fn read_dir(dir: &Path) -> Result<Vec<Event>, ReadError> {
    let failed = |path: &Path, source| ReadError::Io { path: path.to_owned(), source };
    let mut paths = fs::read_dir(dir)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>())
        .map_err(|e| failed(dir, e))?;
    paths.retain(|path| path.extension().is_some_and(|ext| ext == EXTENSION));
    paths.sort();

    let mut events = Vec::new();
    for path in paths {
        let bytes = fs::read(&path).map_err(|e| failed(&path, e))?;
        parse(&bytes, &path, &mut events)?;
    }
    // Stable: events of one process with one time stay in the order in which they were written.
    events.sort_by_key(|event| event.t_ns);
    Ok(events)
}

fn parse(bytes: &[u8], path: &Path, events: &mut Vec<Event>) -> Result<(), ReadError> {
    for (index, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
        match serde_json::from_slice(line) {
            Ok(event) => events.push(event),
            Err(_) if !line.ends_with(b"\n") => {}
            Err(source) => {
                return Err(ReadError::Line { path: path.to_owned(), line: index + 1, source });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::event::{Op, Phase};

    fn lost(attempt: u64) -> Event {
        Event::new(Op::Lost, Phase::Ok).about(attempt, "a")
    }

    #[test]
    fn events_of_many_threads_and_processes_come_back_in_order_of_time() {
        let dir = tempfile::tempdir().unwrap();
        let recorders = ["p1", "p2"].map(|proc| Recorder::create(dir.path(), proc).unwrap());
        std::thread::scope(|scope| {
            for recorder in &recorders {
                for _ in 0..4 {
                    scope.spawn(|| {
                        for _ in 0..50 {
                            recorder.record(lost(recorder.next_attempt())).unwrap();
                        }
                    });
                }
            }
        });
        let events = read_dir(dir.path()).unwrap();
        assert!(events.is_sorted_by_key(|event| event.t_ns));
        for proc in ["p1", "p2"] {
            let mut numbers: Vec<u64> =
                events.iter().filter(|e| e.proc == proc).map(|e| e.attempt).collect();
            numbers.sort_unstable();
            assert_eq!(numbers, (1..=200).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_torn_last_line_of_a_killed_process_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let recorder = Recorder::create(dir.path(), "p1").unwrap();
        recorder.record(lost(1)).unwrap();
        (&recorder.file).write_all(br#"{"t_ns":12,"pro"#).unwrap();
        Recorder::create(dir.path(), "p2").unwrap().record(lost(1)).unwrap();
        assert_eq!(read_dir(dir.path()).unwrap().len(), 2);
    }

    #[test]
    fn a_whole_line_that_is_no_event_is_an_error_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let recorder = Recorder::create(dir.path(), "p1").unwrap();
        recorder.record(lost(1)).unwrap();
        (&recorder.file).write_all(b"nonsense\n").unwrap();
        recorder.record(lost(2)).unwrap();
        let error = read_dir(dir.path()).unwrap_err();
        assert!(matches!(error, ReadError::Line { line: 2, .. }), "{error}");
    }

    #[test]
    fn a_restarted_process_needs_a_new_name() {
        let dir = tempfile::tempdir().unwrap();
        let _first = Recorder::create(dir.path(), "p1").unwrap();
        let error = Recorder::create(dir.path(), "p1").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn a_runner_notes_whom_it_kills() {
        let dir = tempfile::tempdir().unwrap();
        let runner = Recorder::create(dir.path(), "runner").unwrap();
        let t_ns = runner.record_of("p7", Event::new(Op::Crash, Phase::Invoke)).unwrap();
        let events = read_dir(dir.path()).unwrap();
        assert_eq!((events[0].proc.as_str(), events[0].t_ns), ("p7", t_ns));
    }
}
