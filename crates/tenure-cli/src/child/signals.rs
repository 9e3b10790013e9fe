//! The signals that tenure takes: those it passes on, and those that job control is made of.

use std::fs::File;
use std::future::poll_fn;
use std::io::{self, Read};
use std::sync::OnceLock;
use std::task::{Context, Poll};

use rustix::process::Signal;
use tokio::signal::unix::{self, SignalKind};

/// What is passed on to the child's group, in the order in which simultaneous arrivals are told.
const FORWARDED: [Signal; 6] =
    [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::USR2];

/// INT, TERM, HUP, QUIT, USR1 and USR2, caught from the moment this value exists.
///
/// Create it before the lock is acquired: a signal that arrives while waiting for the lock is then
/// an event for the caller, and not the end of the process. A signal that was ignored when the
/// process started (`nohup`, a shell's background job) stays ignored, for the child as well.
///
/// Signals of one kind that arrive faster than they are taken are told once.
#[derive(Debug)]
pub(crate) struct Signals {
    streams: Vec<(Signal, unix::Signal)>,
}

impl Signals {
    /// Starts to catch the signals; call it inside a tokio runtime with I/O enabled.
    ///
    /// They stay caught after the value is dropped: nothing else ends the process by them then.
    ///
    /// # Errors
    /// The operating system's, if a handler cannot be installed.
    pub(crate) fn new() -> io::Result<Self> {
        let mut streams = Vec::with_capacity(FORWARDED.len());
        for signal in FORWARDED {
            if let Some(stream) = catch(signal)? {
                streams.push((signal, stream));
            }
        }
        Ok(Self { streams })
    }

    /// Waits for the next signal.
    ///
    /// # Cancel safety
    /// Cancel safe: a signal is taken only when it is returned.
    pub(crate) async fn next(&mut self) -> Signal {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Signal> {
        for (signal, stream) in &mut self.streams {
            if stream.poll_recv(cx).is_ready() {
                return Poll::Ready(*signal);
            }
        }
        Poll::Pending
    }
}

/// Something that the owner of a child reacts to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    /// A child of this process stopped or died.
    ChildChanged,
    /// This process itself was asked to stop.
    Suspend,
    /// This process itself was continued.
    Continued,
    /// A signal for the child's group.
    Forward(Signal),
}

/// The signals about children and about being stopped, caught while there is a child.
#[derive(Debug)]
pub(super) struct JobSignals {
    child: unix::Signal,
    suspend: Option<unix::Signal>,
    continued: Option<unix::Signal>,
}

impl JobSignals {
    /// Starts to catch SIGCHLD, SIGTSTP and SIGCONT.
    pub(super) fn new() -> io::Result<Self> {
        // SIGCHLD in any case: where it was ignored the kernel would throw the exit status away.
        let child = unix::signal(SignalKind::child())?;
        let suspend = catch(Signal::TSTP)?;
        let continued = catch(Signal::CONT)?;
        Ok(Self { child, suspend, continued })
    }

    /// The next event, the child's first.
    pub(super) fn poll_event(
        &mut self,
        signals: &mut Signals,
        cx: &mut Context<'_>,
    ) -> Poll<Event> {
        if self.poll_child(cx).is_ready() {
            return Poll::Ready(Event::ChildChanged);
        }
        if arrived(&mut self.continued, cx) {
            return Poll::Ready(Event::Continued);
        }
        if arrived(&mut self.suspend, cx) {
            return Poll::Ready(Event::Suspend);
        }
        signals.poll_next(cx).map(Event::Forward)
    }

    /// Ready when a child may have changed.
    pub(super) fn poll_child(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.child.poll_recv(cx).map(|_| ())
    }
}

/// All that a child may have to un-catch before exec does.
pub(super) fn caught() -> Vec<Signal> {
    let all = FORWARDED.into_iter().chain([Signal::TSTP, Signal::CONT]);
    all.filter(|signal| !was_ignored(*signal)).collect()
}

fn arrived(stream: &mut Option<unix::Signal>, cx: &mut Context<'_>) -> bool {
    stream.as_mut().is_some_and(|stream| stream.poll_recv(cx).is_ready())
}

fn catch(signal: Signal) -> io::Result<Option<unix::Signal>> {
    if was_ignored(signal) {
        return Ok(None);
    }
    unix::signal(SignalKind::from_raw(signal.as_raw())).map(Some)
}

/// Whether the process was started with the signal ignored, as whoever started it wished.
fn was_ignored(signal: Signal) -> bool {
    // Read once: catching changes it. Without /proc nothing counts as ignored.
    static IGNORED: OnceLock<u64> = OnceLock::new();
    let ignored = *IGNORED.get_or_init(|| read_ignored().unwrap_or(0));
    ignored & (1 << (signal.as_raw() - 1)) != 0
}

fn read_ignored() -> Option<u64> {
    // One read fetches it all; the process name on the first line need not be UTF-8.
    let mut status = Vec::with_capacity(4096);
    File::open("/proc/self/status").ok()?.read_to_end(&mut status).ok()?;
    let status = String::from_utf8_lossy(&status);
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}
