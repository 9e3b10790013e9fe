//! What is written down: one [`Event`] per thing that a lock user, or the runner of the test, did.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// One line of a history.
///
/// Events of one attempt to get a lock, and of the guard it may yield, share `proc` and `attempt`. An
/// upgrade is an attempt of its own: record the release of the seats it replaces around it.
///
/// **The deadline rule.** If the grant stated a deadline `D`, then everything its guard is recorded to do
/// afterwards states the `D` of that moment as well (`renew` and `release` at `invoke`, `renew` and `check`
/// at `ok`, `lost`). So renewals nobody saw are known at the next event, and a guard is never taken for
/// lapsed only because it was renewed in silence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, in nanoseconds of the clock all processes of the run share ([`now_ns`](super::now_ns)).
    pub t_ns: u64,
    /// Which process; a restarted process has a new name.
    pub proc: String,
    /// Which attempt of the process; 0 where the event is about a whole process or the whole run.
    #[serde(default, skip_serializing_if = "is_default")]
    pub attempt: u64,
    /// What was done.
    pub op: Op,
    /// How far it had come.
    pub phase: Phase,
    /// Name of the lock; empty where the event is about all of them.
    #[serde(default, skip_serializing_if = "is_default")]
    pub name: String,
    /// How the lock is wanted or held. Read from `acquire` alone.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mode: Mode,
    /// Priority of the attempt. Read from `acquire` alone.
    #[serde(default, skip_serializing_if = "is_default")]
    pub priority: i32,
    /// The public id of the holder; never the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
    /// The fence of the grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<Fence>,
    /// On `acquire invoke`: when the caller gives up (absent: never; not after `t_ns`: it does not wait at
    /// all). Elsewhere: the deadline `D` of the guard, from which it is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ns: Option<u64>,
}

/// What was done. The phases that mean something are named with each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Op {
    /// `invoke`; then `ok` granted, `fail` surely not granted (busy, timed out, refused), `info` unknown.
    Acquire,
    /// `ok`: the store has the attempt in its queue, as somebody observed.
    Wait,
    /// `invoke`: the caller drops its attempt and will not hear how it ended.
    Cancel,
    /// `invoke`; then `ok`, `fail`, `info`. A bare `ok` says that the deadline was seen to have moved.
    Renew,
    /// The guard is asked whether it is valid: `invoke`; then `ok` yes, `fail` lost.
    Check,
    /// `ok`: the guard told its user that it is lost.
    Lost,
    /// `invoke`; then `ok` released, `fail` already lost, `info` unknown. `invoke` alone: the guard was dropped.
    Release,
    /// Force release of the grant with this fence, or of all grants of the name: `invoke`; then `ok`, `fail`, `info`.
    Evict,
    /// By the runner, just before it kills `proc`: `invoke`.
    Crash,
    /// By the runner: `invoke` just before it stops `proc`, `ok` just after it lets it go on.
    Pause,
    /// By the runner: from `invoke` to `ok` the way to the store of this name is disturbed.
    Fault,
}

/// How far an operation had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It is about to start.
    Invoke,
    /// It has happened.
    Ok,
    /// It has not happened.
    Fail,
    /// It may or may not have happened, now or later.
    Info,
}

/// How a lock is wanted or held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Alone.
    #[default]
    Exclusive,
    /// On some of the seats.
    Shared {
        /// Seats taken, at least 1.
        take: u32,
        /// Seats there are.
        of: u32,
    },
}

impl Mode {
    /// A reader of a read/write lock: one of more seats than anybody counts.
    pub const READER: Mode = Mode::Shared { take: 1, of: u32::MAX };

    /// More seats than any lock has, so that an exclusive holder leaves room for nobody.
    const WHOLE: u64 = 1 << 32;

    /// Seats a holder takes up.
    pub(crate) fn seats(self) -> u64 {
        match self {
            Mode::Exclusive => Self::WHOLE,
            Mode::Shared { take, .. } => u64::from(take),
        }
    }

    /// Seats that all holders together may take up while one of this mode is among them.
    pub(crate) fn limit(self) -> u64 {
        match self {
            Mode::Exclusive => Self::WHOLE,
            Mode::Shared { of, .. } => u64::from(of),
        }
    }

    /// Seats that others may take up while this mode still fits in.
    pub(crate) fn headroom(self) -> u64 {
        self.limit().saturating_sub(self.seats())
    }
}

/// A fencing token; a string in JSON, because many readers of JSON round numbers above 2^53.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence(pub u64);

impl Event {
    /// An event without time, process or attempt; the recorder or the caller adds them.
    #[must_use]
    pub fn new(op: Op, phase: Phase) -> Self {
        Event {
            t_ns: 0,
            proc: String::new(),
            attempt: 0,
            op,
            phase,
            name: String::new(),
            mode: Mode::Exclusive,
            priority: 0,
            holder: None,
            fence: None,
            deadline_ns: None,
        }
    }

    /// Sets the attempt and the name of the lock it is about.
    #[must_use]
    pub fn about(mut self, attempt: u64, name: &str) -> Self {
        self.attempt = attempt;
        self.name = name.to_owned();
        self
    }

    /// Sets how the lock is wanted.
    #[must_use]
    pub fn wanted(mut self, mode: Mode, priority: i32) -> Self {
        self.mode = mode;
        self.priority = priority;
        self
    }

    /// Sets the public id of the holder and the fence.
    #[must_use]
    pub fn granted(mut self, holder: &str, fence: u64) -> Self {
        self.holder = Some(holder.to_owned());
        self.fence = Some(Fence(fence));
        self
    }

    /// Sets the deadline, in nanoseconds of the shared clock.
    #[must_use]
    pub fn deadline(mut self, deadline_ns: u64) -> Self {
        self.deadline_ns = Some(deadline_ns);
        self
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = match self.attempt {
            0 => self.proc.clone(),
            n => format!("{}#{n}", self.proc),
        };
        write!(f, "{who:<8} {:<7} {:<6} {}", self.op, self.phase, self.name)?;
        if let Some(fence) = self.fence {
            write!(f, "  fence {fence}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Op::Acquire => "acquire",
            Op::Wait => "wait",
            Op::Cancel => "cancel",
            Op::Renew => "renew",
            Op::Check => "check",
            Op::Lost => "lost",
            Op::Release => "release",
            Op::Evict => "evict",
            Op::Crash => "crash",
            Op::Pause => "pause",
            Op::Fault => "fault",
        })
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Phase::Invoke => "invoke",
            Phase::Ok => "ok",
            Phase::Fail => "fail",
            Phase::Info => "info",
        })
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mode::Exclusive => f.write_str("exclusive"),
            Mode::Shared { take: 1, of: u32::MAX } => f.write_str("reader"),
            Mode::Shared { take, of } => write!(f, "{take} of {of} seats"),
        }
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Fence {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Fence {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map(Fence)
            .map_err(|_| de::Error::custom("a fence is a decimal number in a string"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_keeps_its_line() {
        let event = Event::new(Op::Acquire, Phase::Ok)
            .about(4, "orders/42")
            .wanted(Mode::Shared { take: 1, of: 3 }, -2)
            .granted("9f86d081", u64::MAX)
            .deadline(9_007_199_254_740_993);
        let line = serde_json::to_string(&event).unwrap();
        assert_eq!(
            line,
            r#"{"t_ns":0,"proc":"","attempt":4,"op":"acquire","phase":"ok","name":"orders/42","mode":{"shared":{"take":1,"of":3}},"priority":-2,"holder":"9f86d081","fence":"18446744073709551615","deadline_ns":9007199254740993}"#
        );
        assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event);
    }

    #[test]
    fn a_plain_event_is_a_short_line() {
        let line = serde_json::to_string(&Event::new(Op::Lost, Phase::Ok)).unwrap();
        assert_eq!(line, r#"{"t_ns":0,"proc":"","op":"lost","phase":"ok"}"#);
    }

    #[test]
    fn a_fence_is_a_string_and_nothing_else() {
        assert!(serde_json::from_str::<Fence>("7").is_err());
        assert!(serde_json::from_str::<Fence>(r#""-7""#).is_err());
        assert_eq!(serde_json::from_str::<Fence>(r#""7""#).unwrap(), Fence(7));
    }

    #[test]
    fn an_exclusive_holder_fits_only_alone_and_a_reader_beside_readers() {
        assert!(Mode::READER.seats() <= Mode::READER.headroom());
        assert!(Mode::READER.headroom() < Mode::Exclusive.seats());
        assert_eq!(Mode::Exclusive.headroom(), 0);
    }
}
