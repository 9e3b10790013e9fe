//! The program on a store of its own, and what it printed.
#![allow(dead_code, reason = "every test file uses another part")]

pub(crate) mod golden;
pub(crate) mod page;

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// No progress for so long is a failure.
const DEADLINE: Duration = Duration::from_secs(30);

/// A directory with a store and a home in it.
pub(crate) struct Site {
    folder: TempDir,
    url: String,
}

/// What a program left behind.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Site {
    /// With locks in files.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("work")).unwrap();
        let url = format!("file://{}", folder.path().join("locks").display());
        Self { folder, url }
    }

    /// With another store.
    pub(crate) fn with(url: &str) -> Self {
        Self { url: url.to_owned(), ..Self::new() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The working directory of all programs.
    pub(crate) fn work(&self) -> PathBuf {
        self.path().join("work")
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Whether anything was ever written to the store.
    pub(crate) fn is_untouched(&self) -> bool {
        !self.path().join("locks").exists()
    }

    /// The program with these arguments, and nothing of our own environment but the path.
    pub(crate) fn command<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Command {
        let mut command = program();
        command.args(arguments).current_dir(self.work()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.path()).env("TENURE_STORE", &self.url);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs it to the end.
    pub(crate) fn tenure<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Done {
        done(&mut self.command(arguments))
    }

    /// Runs it to the end; it has to succeed and print one JSON object.
    pub(crate) fn json<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Value {
        let done = self.tenure(arguments);
        assert_eq!(done.code, 0, "{}", done.stderr);
        done.json()
    }

    /// Starts it.
    pub(crate) fn start<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Running {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped());
        Running::new(&mut command)
    }

    /// A process that holds `name` with these options of `run`, until it is told to end.
    pub(crate) fn hold(&self, name: &str, options: &[&str]) -> Running {
        let script = ["--", "sh", "-c", "echo held; read line; exit 7"];
        let words = ["run", name].into_iter().chain(options.iter().copied()).chain(script);
        let mut holder = self.start(words);
        assert_eq!(holder.line(), "held");
        holder
    }

    /// Waits until the lock looks as `like` says, and answers how it looks then.
    pub(crate) fn until(&self, name: &str, like: impl Fn(&Value) -> bool) -> Value {
        let mut watch = self.start(["watch", "--json", name]);
        loop {
            let change: Value = serde_json::from_str(&watch.line()).unwrap();
            if change["name"] == name && like(&change) {
                return change;
            }
        }
    }

    pub(crate) fn is_free(&self, name: &str) -> bool {
        let status = self.json(["status", "--json", name]);
        status["locked"] == false && status["waiters"].as_array().unwrap().is_empty()
    }
}

/// The program as an interactive shell starts it, also where the tests run under `nohup` or in a
/// background job, which leave signals ignored.
fn program() -> Command {
    let path = env!("CARGO_BIN_EXE_tenure");
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    let sent = [Signal::HUP, Signal::INT, Signal::TERM, Signal::USR1];
    if sent.iter().all(|signal| ignored & (1 << (signal.as_raw() - 1)) == 0) {
        return Command::new(path);
    }
    let mut command = Command::new("env");
    command.args(["--default-signal", path]);
    command
}

pub(crate) fn done(command: &mut Command) -> Done {
    let output = command.output().unwrap();
    Done {
        code: code(output.status),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Done {
    /// The one JSON object that was printed.
    pub(crate) fn json(&self) -> Value {
        let value: Value =
            serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:?}"));
        assert_eq!(value["version"], 1);
        assert!(value["kind"].is_string());
        value
    }
}

fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| -status.signal().unwrap())
}

/// A program that runs; killed when the test ends.
pub(crate) struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

impl Running {
    pub(crate) fn new(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take();
        let stdout = lines(child.stdout.take().unwrap());
        let stderr = lines(child.stderr.take().unwrap());
        Self { child, stdin, stdout, stderr }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line of stdout.
    pub(crate) fn line(&mut self) -> String {
        self.stdout.recv_timeout(DEADLINE).unwrap_or_else(|e| {
            panic!("no line: {e}; stderr: {:?}", self.stderr.try_iter().collect::<Vec<_>>())
        })
    }

    /// The next line of stderr.
    pub(crate) fn error_line(&mut self) -> String {
        self.stderr.recv_timeout(DEADLINE).expect("a line on stderr")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Writes a line to its stdin.
    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Closes its stdin and waits for its end.
    pub(crate) fn end(mut self) -> Done {
        self.stdin = None;
        self.wait()
    }

    /// Waits for its end; what was read of its output before is not told again.
    pub(crate) fn wait(mut self) -> Done {
        // Both end when the last process that has them open ends.
        let stdout = rest(&self.stdout);
        let stderr = rest(&self.stderr);
        let status = self.child.wait().unwrap();
        Done { code: code(status), stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn rest(lines: &Receiver<String>) -> String {
    let mut text = String::new();
    loop {
        match lines.recv_timeout(DEADLINE) {
            Ok(line) => text += &(line + "\n"),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return text,
            Err(e) => panic!("{e}: the program does not end after {text:?}"),
        }
    }
}

trait Readable: std::io::Read + Send + 'static {}
impl Readable for ChildStdout {}
impl Readable for ChildStderr {}

fn lines(from: impl Readable) -> Receiver<String> {
    let (send, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    lines
}
