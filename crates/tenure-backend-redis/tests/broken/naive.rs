//! A lock as it is often written, and what is often wrong with it.

use std::io;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::{Connection, Script, cmd};
use tenure_testkit::history::register::Answer;
use tenure_testkit::history::{
    Event, Fence, FencedRegister, FileRegister, Op, Phase, Recorder, now_ns,
};
use tenure_testkit::lock_taker::Job;

/// The variable that says what is wrong.
const FLAW: &str = "TENURE_TEST_FLAW";
/// How often whoever waits tries, and whoever holds looks.
const LOOK: Duration = Duration::from_millis(10);
/// How long a command may take on its way where two of them are needed.
const ON_ITS_WAY: Duration = Duration::from_millis(40);

/// What is wrong with a lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flaw {
    /// Nothing.
    None,
    /// A release deletes the key, whoever has it by then.
    ReleaseWithoutToken,
    /// SETNX, and then EXPIRE.
    TwoCommands,
    /// A renewal sets the key, whether or not it is there, and whoever has it.
    RenewalSets,
    /// A renewal that comes after the deadline counts all the same.
    RenewalAfterDeadline,
}

impl Flaw {
    const ALL: [Self; 5] = [
        Self::None,
        Self::ReleaseWithoutToken,
        Self::TwoCommands,
        Self::RenewalSets,
        Self::RenewalAfterDeadline,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "no flaw",
            Self::ReleaseWithoutToken => "release without token",
            Self::TwoCommands => "SETNX and EXPIRE",
            Self::RenewalSets => "renewal by SET",
            Self::RenewalAfterDeadline => "renewal after the deadline",
        }
    }

    pub(crate) fn give_to(self, command: &mut Command) {
        command.env(FLAW, self.name());
    }
}

pub(crate) fn flaw_of_this_process() -> Flaw {
    let name = std::env::var(FLAW).unwrap();
    Flaw::ALL.into_iter().find(|flaw| flaw.name() == name).unwrap()
}

/// Does the job until it is told to stop.
pub(crate) fn take(job: &Job, flaw: Flaw) {
    let stop = Arc::new(AtomicBool::new(false));
    let told = stop.clone();
    std::thread::spawn(move || {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        told.store(true, Ordering::Relaxed);
    });
    let mut taker = Taker {
        server: redis::Client::open(&*job.store).unwrap().get_connection().unwrap(),
        recorder: Recorder::create(&job.dir, &job.proc).unwrap(),
        register: FileRegister::open(&job.dir).unwrap(),
        job,
        flaw,
        stop,
        attempt: 0,
        token: String::new(),
        deadline: 0,
    };
    while !taker.is_told_to_stop() {
        taker.round();
        nap(LOOK);
    }
}

struct Taker<'a> {
    server: Connection,
    recorder: Recorder,
    register: FileRegister,
    job: &'a Job,
    flaw: Flaw,
    stop: Arc<AtomicBool>,
    attempt: u64,
    token: String,
    deadline: u64,
}

impl Taker<'_> {
    fn is_told_to_stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn event(&self, op: Op, phase: Phase) -> Event {
        Event::new(op, phase).about(self.attempt, &self.job.names[0])
    }

    fn record(&self, op: Op, phase: Phase) {
        self.recorder.record(self.event(op, phase)).unwrap();
    }

    /// Of what a guard does that states its deadline.
    fn record_of_guard(&self, op: Op, phase: Phase) {
        self.recorder.record(self.event(op, phase).deadline(self.deadline)).unwrap();
    }

    fn round(&mut self) {
        self.attempt = self.recorder.next_attempt();
        self.token = format!("{}#{}", self.job.proc, self.attempt);
        self.record(Op::Acquire, Phase::Invoke);
        let Some(fence) = self.acquire() else {
            return self.record(Op::Acquire, Phase::Fail);
        };
        let got = self.event(Op::Acquire, Phase::Ok).granted(&self.token, fence.0);
        self.recorder.record(got.deadline(self.deadline)).unwrap();
        let read = self.register.request(&self.job.names[0], fence, None).unwrap();
        let valid = self.hold();
        if let (true, Answer::Accepted(value)) = (valid, read) {
            self.register.request(&self.job.names[0], fence, Some(value + 1)).unwrap();
        }
        self.record_of_guard(Op::Release, Phase::Invoke);
        let released = self.release();
        self.record(Op::Release, if valid && released { Phase::Ok } else { Phase::Fail });
    }

    /// `None` if it is told to stop before.
    fn acquire(&mut self) -> Option<Fence> {
        while !self.is_told_to_stop() {
            let sent = now_ns();
            if self.set() {
                self.deadline = self.deadline_after(sent);
                let fence = cmd("INCR").arg("fence").query::<u64>(&mut self.server).unwrap();
                return Some(Fence(fence));
            }
            nap(LOOK);
        }
        None
    }

    fn set(&mut self) -> bool {
        let (key, ttl) = (&self.job.names[0], self.ttl());
        if self.flaw == Flaw::TwoCommands {
            let is_new = cmd("SETNX").arg(key).arg(&self.token).query::<bool>(&mut self.server);
            let is_new = is_new.unwrap();
            if is_new {
                nap(ON_ITS_WAY);
                let _: () = cmd("PEXPIRE").arg(key).arg(ttl).query(&mut self.server).unwrap();
            }
            return is_new;
        }
        let mut set = cmd("SET");
        set.arg(key).arg(&self.token).arg("NX").arg("PX").arg(ttl);
        set.query::<Option<String>>(&mut self.server).unwrap().is_some()
    }

    fn ttl(&self) -> u64 {
        u64::try_from(self.job.ttl.as_millis()).unwrap()
    }

    fn deadline_after(&self, sent: u64) -> u64 {
        sent + self.ttl() * 1_000_000 * 89 / 100
    }

    /// Answers whether it still holds the lock when its work is done.
    fn hold(&mut self) -> bool {
        let begun = now_ns();
        let mut renewed = begun;
        let every = self.ttl() * 1_000_000 / 3;
        // A number that differs from round to round is random enough.
        let part = self.attempt * 37 % 100;
        let hold = u64::try_from(self.job.hold.1.as_nanos()).unwrap() * part / 100;
        loop {
            // A thread of its own would not wait for the look at the guard.
            if self.flaw == Flaw::RenewalSets && renewed + every <= now_ns() {
                renewed = now_ns();
                self.renew();
            }
            self.record(Op::Check, Phase::Invoke);
            if self.deadline <= now_ns() {
                self.record(Op::Check, Phase::Fail);
                self.record_of_guard(Op::Lost, Phase::Ok);
                if self.flaw != Flaw::RenewalAfterDeadline || !self.renew() {
                    return false;
                }
                continue;
            }
            self.record_of_guard(Op::Check, Phase::Ok);
            if begun + hold <= now_ns() || self.is_told_to_stop() {
                return true;
            }
            if renewed + every <= now_ns() {
                renewed = now_ns();
                self.renew();
            }
            nap(LOOK);
        }
    }

    /// Answers whether the server says that it is kept.
    fn renew(&mut self) -> bool {
        let sent = now_ns();
        let (key, ttl) = (&self.job.names[0], self.ttl());
        let heeds = !matches!(self.flaw, Flaw::RenewalSets | Flaw::RenewalAfterDeadline);
        if heeds && self.deadline <= sent {
            return false;
        }
        let kept = if self.flaw == Flaw::RenewalSets {
            let mut set = cmd("SET");
            set.arg(key).arg(&self.token).arg("PX").arg(ttl);
            set.query::<Option<String>>(&mut self.server).unwrap().is_some()
        } else {
            self.if_mine("return redis.call('PEXPIRE', KEYS[1], ARGV[2])")
        };
        if kept && (!heeds || now_ns() < self.deadline) {
            self.deadline = self.deadline_after(sent);
        }
        kept
    }

    fn release(&mut self) -> bool {
        if self.flaw == Flaw::ReleaseWithoutToken {
            return cmd("DEL").arg(&self.job.names[0]).query(&mut self.server).unwrap();
        }
        self.if_mine("return redis.call('DEL', KEYS[1])")
    }

    fn if_mine(&mut self, then: &str) -> bool {
        let script = format!("if redis.call('GET', KEYS[1]) == ARGV[1] then {then} end return 0");
        let (key, ttl) = (&self.job.names[0], self.ttl());
        Script::new(&script).key(key).arg(&self.token).arg(ttl).invoke(&mut self.server).unwrap()
    }
}

#[allow(clippy::disallowed_methods, reason = "a lock as it is often written")]
fn nap(time: Duration) {
    std::thread::sleep(time);
}
