//! The runner: starts takers, and kills and stops them.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rustix::process::{Pid, Signal, kill_process};

use super::job::Job;
use super::plan::Plan;
use super::run::{Run, Tally};
use crate::history::{Event, FencedRegister, FileRegister, Op, Phase, Recorder, now_ns, read_dir};

/// How long a taker may take to do what it was told.
const PATIENCE: Duration = Duration::from_secs(30);
/// How much of the end of a history is read to see what its process is doing.
const TAIL: u64 = 4096;

/// Whom faults hit, one after the other.
const WANTED: [Doing; 5] =
    [Doing::Holding, Doing::Waiting, Doing::Holding, Doing::Waiting, Doing::Idle];

/// What a taker was last seen to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// Nothing with a lock.
    Idle,
    /// It has asked for one.
    Waiting,
    /// It holds one.
    Holding,
}

/// Takers, and whoever kills and stops them.
///
/// Dropping it kills all that are left.
pub struct Fleet {
    dir: PathBuf,
    start: Box<dyn Fn() -> Command>,
    recorder: Recorder,
    takers: Vec<Taker>,
    rng: StdRng,
    seed: u64,
    tally: Tally,
}

#[derive(Debug)]
struct Taker {
    proc: String,
    child: Child,
    /// When it goes on, if it is stopped.
    stopped_until: Option<u64>,
}

impl Fleet {
    /// A fleet that writes into `dir`, which is empty. `start` is the command that becomes a taker
    /// when it is given a job.
    ///
    /// # Errors
    /// When its own history cannot be begun.
    pub fn new(dir: &Path, seed: u64, start: impl Fn() -> Command + 'static) -> io::Result<Self> {
        Ok(Self {
            dir: dir.to_owned(),
            start: Box::new(start),
            recorder: Recorder::create(dir, "runner")?,
            takers: Vec::new(),
            rng: StdRng::seed_from_u64(seed),
            seed,
            tally: Tally::default(),
        })
    }

    /// Starts a taker, and answers its name.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn start(&mut self, job: &Job) -> io::Result<String> {
        let proc = format!("p{}", self.tally.started);
        let (dir, seed) = (self.dir.clone(), self.rng.random());
        let job = Job { proc: proc.clone(), dir, seed, ..job.clone() };
        let mut command = (self.start)();
        job.give_to(&mut command);
        let stderr = File::create_new(self.complaints_of(&proc))?;
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(stderr).spawn()?;
        self.tally.started += 1;
        self.takers.push(Taker { proc: proc.clone(), child, stopped_until: None });
        Ok(proc)
    }

    fn complaints_of(&self, proc: &str) -> PathBuf {
        self.dir.join(format!("{proc}.stderr"))
    }

    /// Kills a taker with SIGKILL.
    ///
    /// # Errors
    /// When it is none of the fleet, or the history cannot be written.
    pub fn kill(&mut self, proc: &str) -> io::Result<()> {
        let index = self.index(proc)?;
        match self.doing(proc)? {
            Doing::Holding => self.tally.killed_holding += 1,
            Doing::Waiting => self.tally.killed_waiting += 1,
            Doing::Idle => self.tally.killed_idle += 1,
        }
        let mut taker = self.takers.swap_remove(index);
        self.recorder.record_of(proc, Event::new(Op::Crash, Phase::Invoke))?;
        taker.child.kill()?;
        let status = taker.child.wait()?;
        if taker.stopped_until.is_some() {
            self.recorder.record_of(proc, Event::new(Op::Pause, Phase::Ok))?;
        }
        if status.code().is_some_and(|code| code != 0) {
            return Err(self.failed(proc, status));
        }
        Ok(())
    }

    /// Stops a taker with SIGSTOP.
    ///
    /// # Errors
    /// When it is none of the fleet, or the history cannot be written.
    pub fn stop(&mut self, proc: &str) -> io::Result<()> {
        self.stop_for(proc, Duration::MAX)
    }

    fn stop_for(&mut self, proc: &str, time: Duration) -> io::Result<()> {
        let index = self.index(proc)?;
        match self.doing(proc)? {
            Doing::Holding => self.tally.stopped_holding += 1,
            Doing::Waiting => self.tally.stopped_waiting += 1,
            Doing::Idle => self.tally.stopped_idle += 1,
        }
        let now = self.recorder.record_of(proc, Event::new(Op::Pause, Phase::Invoke))?;
        let taker = &mut self.takers[index];
        kill_process(taker.pid(), Signal::STOP)?;
        taker.stopped_until = Some(now.saturating_add(nanos(time)));
        Ok(())
    }

    /// Lets a stopped taker go on, with SIGCONT.
    ///
    /// # Errors
    /// When it is none of the fleet, or the history cannot be written.
    pub fn go_on(&mut self, proc: &str) -> io::Result<()> {
        let index = self.index(proc)?;
        let taker = &mut self.takers[index];
        kill_process(taker.pid(), Signal::CONT)?;
        taker.stopped_until = None;
        self.recorder.record_of(proc, Event::new(Op::Pause, Phase::Ok))?;
        Ok(())
    }

    /// Notes that the way to the store is disturbed from now on (`Phase::Invoke`), or calm again
    /// (`Phase::Ok`).
    ///
    /// # Errors
    /// When the history cannot be written.
    pub fn fault(&self, phase: Phase) -> io::Result<u64> {
        self.recorder.record(Event::new(Op::Fault, phase))
    }

    fn index(&self, proc: &str) -> io::Result<usize> {
        self.takers.iter().position(|taker| taker.proc == proc).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("{proc} is no taker of this fleet"))
        })
    }

    /// What a taker was last seen to do.
    ///
    /// # Errors
    /// When its history cannot be read.
    pub fn doing(&self, proc: &str) -> io::Result<Doing> {
        Ok(match self.last_event(proc)?.map(|event| (event.op, event.phase)) {
            Some((Op::Acquire, Phase::Invoke) | (Op::Wait, _)) => Doing::Waiting,
            Some((Op::Acquire, Phase::Ok) | (Op::Check, Phase::Invoke | Phase::Ok)) => {
                Doing::Holding
            }
            _ => Doing::Idle,
        })
    }

    /// The last thing that a taker wrote down.
    ///
    /// # Errors
    /// When its history cannot be read.
    pub fn last_event(&self, proc: &str) -> io::Result<Option<Event>> {
        let mut file = match File::open(self.dir.join(format!("{proc}.jsonl"))) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(TAIL)))?;
        let mut tail = Vec::new();
        file.read_to_end(&mut tail)?;
        let whole = tail.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
        let last = tail[..whole].split_inclusive(|&byte| byte == b'\n').next_back();
        Ok(last.and_then(|line| serde_json::from_slice(line).ok()))
    }

    /// Everything that was written down so far.
    ///
    /// # Errors
    /// When a history cannot be read.
    pub fn events(&self) -> io::Result<Vec<Event>> {
        read_dir(&self.dir).map_err(io::Error::other)
    }

    /// Waits until a taker is seen to do this.
    ///
    /// # Errors
    /// `TimedOut` if it never does; when the taker ends.
    pub fn until(&mut self, proc: &str, doing: Doing) -> io::Result<()> {
        let give_up = now_ns() + nanos(PATIENCE);
        while self.doing(proc)? != doing {
            let index = self.index(proc)?;
            if let Some(status) = self.takers[index].child.try_wait()? {
                return Err(self.failed(proc, status));
            }
            if give_up < now_ns() {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("{proc} was never {doing:?}, seed {:#x}", self.seed),
                ));
            }
            nap(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Waits until a taker has done its job.
    ///
    /// # Errors
    /// `TimedOut` if it never ends; when it fails.
    pub fn join(&mut self, proc: &str) -> io::Result<()> {
        let index = self.index(proc)?;
        let give_up = now_ns() + nanos(PATIENCE);
        let status = loop {
            match self.takers[index].child.try_wait()? {
                Some(status) => break status,
                None if give_up < now_ns() => {
                    let (seed, last) = (self.seed, self.last_event(proc));
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        format!("{proc} does not end, seed {seed:#x}; its last word is {last:?}"),
                    ));
                }
                None => nap(Duration::from_millis(2)),
            }
        };
        if !status.success() {
            return Err(self.failed(proc, status));
        }
        self.takers.swap_remove(index);
        Ok(())
    }

    /// Runs takers with this job and hurts them as planned; longer than planned, but not four times as
    /// long, if chance has not yet hit a holder and a waiter in every planned way.
    ///
    /// # Errors
    /// When a taker fails, cannot be started, or the history cannot be written.
    pub fn disturb(&mut self, plan: &Plan, job: &Job) -> io::Result<()> {
        for _ in 0..plan.takers {
            self.start(job)?;
        }
        let begin = now_ns();
        let (end, at_last) = (begin + nanos(plan.lasts), begin + nanos(plan.lasts * 4));
        for round in 0.. {
            let now = now_ns();
            if at_last <= now || end <= now && self.tally.has_all(plan) {
                break;
            }
            let pause = plan.every.mul_f64(self.rng.random());
            self.wait_until(now + nanos(pause))?;
            self.check_alive()?;
            let kill = plan.kill_one_in != 0 && self.rng.random_range(0..plan.kill_one_in) == 0;
            let wanted = WANTED[round % WANTED.len()];
            let Some(victim) = self.victim(wanted, kill, plan.every)? else { continue };
            if kill {
                self.kill(&victim)?;
                self.start(job)?;
            } else if let Some(&ttls) = plan.stops.choose(&mut self.rng) {
                self.stop_for(&victim, job.ttl.mul_f64(ttls))?;
            }
        }
        Ok(())
    }

    /// Whom to hit: one that does what is wanted, or anybody if nobody is seen to do that for so
    /// long. One that is stopped can be killed, but not be stopped.
    fn victim(
        &mut self,
        wanted: Doing,
        kill: bool,
        patience: Duration,
    ) -> io::Result<Option<String>> {
        let give_up = now_ns() + nanos(patience);
        loop {
            let mut all = Vec::new();
            let mut fitting = Vec::new();
            for taker in self.takers.iter().filter(|t| kill || t.stopped_until.is_none()) {
                all.push(taker.proc.clone());
                if self.doing(&taker.proc)? == wanted {
                    fitting.push(taker.proc.clone());
                }
            }
            if !fitting.is_empty() {
                return Ok(fitting.choose(&mut self.rng).cloned());
            }
            if give_up < now_ns() {
                return Ok(all.choose(&mut self.rng).cloned());
            }
            self.wait_until(now_ns() + 1_000_000)?;
        }
    }

    /// Waits until then, and lets those go on meanwhile whose time has come.
    fn wait_until(&mut self, until: u64) -> io::Result<()> {
        loop {
            let now = now_ns();
            let due = |taker: &&Taker| taker.stopped_until.is_some_and(|at| at <= now);
            let due: Vec<String> = self.takers.iter().filter(due).map(|t| t.proc.clone()).collect();
            for proc in due {
                self.go_on(&proc)?;
            }
            if until <= now {
                return Ok(());
            }
            let next = self.takers.iter().filter_map(|t| t.stopped_until).fold(until, u64::min);
            nap(Duration::from_nanos(next.saturating_sub(now)));
        }
    }

    fn check_alive(&mut self) -> io::Result<()> {
        for index in 0..self.takers.len() {
            if let Some(status) = self.takers[index].child.try_wait()? {
                return Err(self.failed(&self.takers[index].proc, status));
            }
        }
        Ok(())
    }

    fn failed(&self, proc: &str, status: ExitStatus) -> io::Error {
        let said = std::fs::read_to_string(self.complaints_of(proc)).unwrap_or_default();
        io::Error::other(format!("{proc} ended, {status}, seed {:#x}: {said}", self.seed))
    }

    /// Lets all go on and tells them to stop, waits for their end, and gathers what they left.
    ///
    /// # Errors
    /// When one fails, or does not end.
    pub fn finish(mut self) -> io::Result<Run> {
        let stopped = |taker: &&Taker| taker.stopped_until.is_some();
        let stopped: Vec<String> =
            self.takers.iter().filter(stopped).map(|t| t.proc.clone()).collect();
        for proc in stopped {
            self.go_on(&proc)?;
        }
        for taker in &mut self.takers {
            drop(taker.child.stdin.take());
        }
        let left: Vec<String> = self.takers.iter().map(|taker| taker.proc.clone()).collect();
        for proc in left {
            self.join(&proc)?;
        }
        let mut complaints = Vec::new();
        for number in 0..self.tally.started {
            let proc = format!("p{number}");
            let said = std::fs::read_to_string(self.complaints_of(&proc))?;
            complaints.extend(said.lines().map(|line| format!("{proc}: {line}")));
        }
        Ok(Run {
            events: self.events()?,
            register: FileRegister::open(&self.dir)?.log()?,
            complaints,
            tally: self.tally,
            seed: self.seed,
        })
    }
}

impl Taker {
    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for taker in &mut self.takers {
            // It may have ended.
            let _ = taker.child.kill();
            let _ = taker.child.wait();
        }
    }
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet")
            .field("takers", &self.takers)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

#[allow(clippy::disallowed_methods, reason = "the schedule of faults is real time")]
fn nap(time: Duration) {
    std::thread::sleep(time);
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
