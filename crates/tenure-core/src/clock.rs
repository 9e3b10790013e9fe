//! Time enters here and nowhere else.
//!
//! Deadlines are counted on a clock that goes on while the machine sleeps (`CLOCK_BOOTTIME`):
//! `CLOCK_MONOTONIC`, and with it `Instant` and tokio's timers, stops in suspend, and a lease
//! that ended during the sleep would look alive. Wall clocks are for reading only.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::values::Micros;

/// A moment on the clock that never stops: nanoseconds since boot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Moment(u64);

impl Moment {
    /// The end of time.
    pub const NEVER: Moment = Moment(u64::MAX);

    /// The moment so many nanoseconds after boot.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since boot.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// This moment plus `d`; stays at the end of time instead of overflowing.
    #[must_use]
    pub fn plus(self, d: Duration) -> Moment {
        Moment(self.0.saturating_add(nanos(d)))
    }

    /// This moment minus `d`; stays at the beginning of time instead of overflowing.
    #[must_use]
    pub fn minus(self, d: Duration) -> Moment {
        Moment(self.0.saturating_sub(nanos(d)))
    }

    /// The last moment up to this one that is a multiple of `step`: so that what may as well happen
    /// together does.
    #[must_use]
    pub(crate) fn on_grid(self, step: Duration) -> Moment {
        Moment(self.0 - self.0 % nanos(step).max(1))
    }

    /// How long it is from `earlier` to this moment; zero if `earlier` is later.
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}

/// The clock that everything is timed by.
pub trait Clock: Send + Sync + fmt::Debug + 'static {
    /// Now, on a clock that goes on in suspend.
    fn now(&self) -> Moment;

    /// The wall clock, for reading and as a floor of fences.
    fn wall(&self) -> Micros;

    /// Resolves when `at` has come. Only the keeper's thread waits on it, in its runtime.
    fn sleep_until(&self, at: Moment) -> BoxFuture<'static, ()>;
}

/// The system's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        platform::boottime()
    }

    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    fn wall(&self) -> Micros {
        let since_1970 =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Micros(crate::values::micros(since_1970))
    }

    fn sleep_until(&self, at: Moment) -> BoxFuture<'static, ()> {
        Box::pin(platform::sleep_until(at))
    }
}

/// A clock that stands still until a test moves it.
///
/// Clones are the same clock.
#[derive(Clone)]
pub struct TestClock {
    now: Arc<watch::Sender<Moment>>,
    wall: Arc<Mutex<Micros>>,
}

impl TestClock {
    /// A clock that stands at one hour after boot, on 2026-01-01.
    pub fn new() -> Self {
        Self {
            now: Arc::new(watch::Sender::new(Moment::from_nanos(3_600_000_000_000))),
            wall: Arc::new(Mutex::new(Micros(1_767_225_600_000_000))),
        }
    }

    /// Moves both clocks on.
    pub fn advance(&self, by: Duration) {
        {
            let mut wall = self.wall.lock();
            *wall = wall.plus(by);
        }
        self.now.send_modify(|now| *now = now.plus(by));
    }

    /// Sets the wall clock alone, as an operator or a bad time server does.
    pub fn set_wall(&self, to: Micros) {
        *self.wall.lock() = to;
    }
}

impl Default for TestClock {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for TestClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestClock").field("now", &*self.now.borrow()).finish_non_exhaustive()
    }
}

impl Clock for TestClock {
    fn now(&self) -> Moment {
        *self.now.borrow()
    }

    fn wall(&self) -> Micros {
        *self.wall.lock()
    }

    fn sleep_until(&self, at: Moment) -> BoxFuture<'static, ()> {
        let mut now = self.now.subscribe();
        Box::pin(async move {
            // The sender lives as long as any clone of the clock; without it time never comes.
            if now.wait_for(|now| at <= *now).await.is_err() {
                std::future::pending().await
            }
        })
    }
}

/// The name of this host.
pub(crate) fn host_name() -> String {
    platform::host_name()
}

/// The system calls behind the clock; the only platform code of the core.
mod platform {
    use super::Moment;

    pub(super) fn host_name() -> String {
        rustix::system::uname().nodename().to_string_lossy().into_owned()
    }

    #[cfg(target_os = "linux")]
    pub(super) fn boottime() -> Moment {
        let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Moment::from_nanos(t.tv_sec.cast_unsigned() * 1_000_000_000 + t.tv_nsec.cast_unsigned())
    }

    /// `CLOCK_MONOTONIC` of macOS goes on in suspend, as `CLOCK_BOOTTIME` does on Linux.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn boottime() -> Moment {
        let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        Moment::from_nanos(t.tv_sec.cast_unsigned() * 1_000_000_000 + t.tv_nsec.cast_unsigned())
    }

    #[cfg(target_os = "linux")]
    pub(super) async fn sleep_until(at: Moment) {
        if at <= boottime() {
            return;
        }
        if at == Moment::NEVER {
            return std::future::pending().await;
        }
        match timer(at) {
            Ok(timer) => {
                // Readable means fired; an error of the reactor means that the runtime is gone.
                drop(timer.readable().await);
            }
            // Out of descriptors: a coarse wait that looks again is late at most by its step.
            Err(_) => {
                while boottime() < at {
                    coarse_sleep(at.since(boottime())).await;
                }
            }
        }
    }

    #[cfg(target_os = "linux")]
    #[allow(
        deprecated,
        reason = "its successor is unsafe for types that may give up their descriptor; `OwnedFd` cannot"
    )]
    fn timer(at: Moment) -> std::io::Result<tokio::io::unix::AsyncFd<rustix::fd::OwnedFd>> {
        use rustix::time::{
            Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
            timerfd_settime,
        };
        let fd = timerfd_create(
            TimerfdClockId::Boottime,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        let nanos = at.as_nanos();
        let value = Timespec {
            tv_sec: i64::try_from(nanos / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(nanos % 1_000_000_000).expect("below a second"),
        };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        timerfd_settime(&fd, TimerfdTimerFlags::ABSTIME, &once)?;
        tokio::io::unix::AsyncFd::with_interest(fd, tokio::io::Interest::READABLE)
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) async fn sleep_until(at: Moment) {
        while boottime() < at {
            coarse_sleep(at.since(boottime())).await;
        }
    }

    /// At most a second of tokio's clock, so that a suspend delays by a second at most.
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    async fn coarse_sleep(left: std::time::Duration) {
        tokio::time::sleep(left.min(std::time::Duration::from_secs(1))).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_do_not_overflow() {
        assert_eq!(Moment::NEVER.plus(Duration::from_secs(1)), Moment::NEVER);
        assert_eq!(Moment::default().minus(Duration::from_secs(1)), Moment::default());
        assert_eq!(Moment::default().since(Moment::NEVER), Duration::ZERO);
    }

    #[tokio::test]
    async fn a_test_clock_wakes_sleepers_when_it_is_moved() {
        let clock = TestClock::new();
        let sleep = clock.sleep_until(clock.now().plus(Duration::from_secs(5)));
        clock.advance(Duration::from_secs(4));
        let mut sleep = still_pending(sleep).await.expect("too early");
        clock.advance(Duration::from_secs(1));
        sleep.as_mut().await;
    }

    /// Polls once; gives the future back if it is pending.
    async fn still_pending(mut f: BoxFuture<'static, ()>) -> Option<BoxFuture<'static, ()>> {
        match futures_lite::future::poll_once(f.as_mut()).await {
            Some(()) => None,
            None => Some(f),
        }
    }

    #[tokio::test]
    async fn the_system_clock_sleeps_on_boottime() {
        let clock = SystemClock;
        let at = clock.now().plus(Duration::from_millis(20));
        clock.sleep_until(at).await;
        assert!(at <= clock.now());
    }
}
