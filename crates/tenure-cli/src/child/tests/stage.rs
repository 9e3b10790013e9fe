//! Owner processes, what they report, and what can be seen of any process.

use std::env;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};
use rustix::process::{
    Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open, pidfd_send_signal,
};
use tempfile::TempDir;

use super::super::pdeathsig::with_default_signals;
use super::{COMMAND, MODE, SEPARATOR};

/// No progress for so long is a failure.
pub(super) const DEADLINE: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

/// A pipe with a name: shell scripts write lines to `$REPORT`.
///
/// Scripts open it once, as `exec 3>"$REPORT"`, and everything they start inherits it: so its end
/// of file says that all of them are dead.
pub(super) struct Report {
    pub(super) folder: TempDir,
    pipe: File,
    seen: Vec<u8>,
}

impl Report {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pipe = fifo(folder.path().join("report"));
        Self { folder, pipe, seen: Vec::new() }
    }

    /// Makes another pipe beside the report, for the script to wait on.
    pub(super) fn gate(&self) -> PathBuf {
        let path = self.folder.path().join("gate");
        mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap();
        path
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("report")
    }

    /// The next line.
    pub(super) fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.seen.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.seen.drain(..=end).collect();
                return String::from_utf8(line).unwrap().trim().to_owned();
            }
            assert!(self.fill(), "all writers are gone after {:?}", self.seen);
        }
    }

    /// Waits until no process has the report open any more.
    pub(super) fn closed(&mut self) {
        while self.fill() {}
        assert_eq!(String::from_utf8_lossy(&self.seen), "", "nothing more was to be reported");
    }

    fn fill(&mut self) -> bool {
        await_readable(&self.pipe);
        let mut buffer = [0; 1024];
        let count = self.pipe.read(&mut buffer).unwrap();
        self.seen.extend_from_slice(&buffer[..count]);
        count > 0
    }
}

fn fifo(path: PathBuf) -> File {
    mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap();
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    open(&path, flags, Mode::empty()).unwrap().into()
}

pub(super) fn await_readable(file: impl AsFd) {
    let mut waited = [PollFd::new(&file, PollFlags::IN)];
    assert_eq!(poll(&mut waited, Some(&DEADLINE)), Ok(1), "nothing happened until the deadline");
}

/// A shell script as a command.
pub(super) fn script(text: &str) -> Vec<String> {
    ["sh", "-c", text].map(str::to_owned).to_vec()
}

/// The test program as a command that owns a child running `command`.
pub(super) fn owner(command: &[String], mode: &str, report: &Report) -> Command {
    let mut owner = Command::new(env::current_exe().unwrap());
    owner.args(owner_arguments()).stdin(Stdio::null()).stdout(Stdio::null());
    describe(&mut owner, command, mode, report);
    owner
}

pub(super) fn owner_arguments() -> [String; 3] {
    let module = module_path!().split_once("::").unwrap().1;
    let tests = module.rsplit_once("::").unwrap().0;
    [format!("{tests}::owner"), "--exact".to_owned(), "--nocapture".to_owned()]
}

pub(super) fn describe(owner: &mut Command, command: &[String], mode: &str, report: &Report) {
    owner.env(COMMAND, command.join(&SEPARATOR.to_string())).env(MODE, mode);
    owner.env("REPORT", report.path());
}

/// A process that is killed with its group when the test ends.
pub(super) struct Running(pub(super) Child);

impl Running {
    pub(super) fn start(command: &mut Command) -> Self {
        Self(with_default_signals(command).process_group(0).spawn().unwrap())
    }

    pub(super) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for the end.
    pub(super) fn status(&mut self) -> ExitStatus {
        await_end(self.pid());
        self.0.wait().unwrap()
    }

    /// Waits for the end and for the exit code.
    pub(super) fn code(&mut self) -> i32 {
        self.status().code().expect("the owner exits and is not killed")
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.0.try_wait().unwrap().is_none() {
            let _ = kill_process_group(self.pid(), Signal::KILL);
            let _ = kill_process(self.pid(), Signal::KILL);
            self.0.wait().unwrap();
        }
    }
}

/// Waits until the process has ended, whoever its parent is.
pub(super) fn await_end(pid: Pid) {
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => await_readable(process),
        Err(error) => assert_eq!(error, rustix::io::Errno::SRCH),
    }
}

/// Waits until the process is stopped.
pub(super) fn await_stop(pid: Pid) {
    await_state(pid, || is_stopped(pid));
}

/// Waits until the signal has been sent to a process that cannot take it yet.
pub(super) fn await_pending(pid: Pid, signal: Signal) {
    await_state(pid, || {
        let pending = u64::from_str_radix(&status_of(pid, "ShdPnd:"), 16).unwrap();
        pending & (1 << (signal.as_raw() - 1)) != 0
    });
}

/// Whether the process is stopped now.
pub(super) fn is_stopped(pid: Pid) -> bool {
    status_of(pid, "State:").starts_with('T')
}

fn await_state(pid: Pid, reached: impl Fn() -> bool) {
    let process = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    let pause = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
    for _ in 0..6000 {
        if reached() {
            return;
        }
        let mut ended = [PollFd::new(&process, PollFlags::IN)];
        assert_eq!(poll(&mut ended, Some(&pause)), Ok(0), "it ended instead");
    }
    panic!("it did not come so far until the deadline");
}

fn status_of(pid: Pid, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.unwrap().trim().to_owned()
}

/// A process id that a script reported.
pub(super) fn pid(line: &str) -> Pid {
    Pid::from_raw(line.parse().unwrap()).unwrap()
}

/// Signals a process that is not a child of the test.
pub(super) fn signal(pid: Pid, signal: Signal) {
    let process = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    pidfd_send_signal(process, signal).unwrap();
}
