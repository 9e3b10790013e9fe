//! The one room with `unsafe`: what runs between fork and exec, and three calls into the C library.
//!
//! The parent-death signal can only be set by the child itself before exec, and code there must be
//! async-signal-safe, which the compiler cannot check: [`arm`] holds all of it. Job control needs
//! signal dispositions, for which there is no safe interface: [`ignoring`] and [`stop_own_group`]
//! are the only uses, and what the tests start their processes with.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;

use rustix::process::{Signal, getpid, kill_current_process_group};
use rustix::termios::tcsetpgrp;

/// `SIG_DFL`, the same on every Unix.
const DEFAULT: usize = 0;
/// `SIG_IGN`, the same on every Unix.
const IGNORE: usize = 1;

// ISO C and POSIX fix these signatures, and std already links the library that has them.
unsafe extern "C" {
    safe fn raise(signal: c_int) -> c_int;
    fn signal(signal: c_int, action: usize) -> usize;
    fn sigaction(signal: c_int, new: *const SavedAction, old: *mut SavedAction) -> c_int;
}

/// A C `struct sigaction` that is only kept and handed back, never looked into.
///
/// Larger and more strictly aligned than the real one is anywhere (152 bytes, 8), so that its
/// layout, which differs between platforms, need not be known here.
#[repr(C, align(16))]
struct SavedAction([MaybeUninit<u8>; 512]);

/// Where the child starts on a terminal: the terminal, and the signals whose handlers it must not
/// run.
pub(super) struct Foreground {
    /// A descriptor of the terminal that stays open until the child has started.
    pub(super) tty: RawFd,
    /// The signals that this process catches.
    pub(super) caught: Vec<Signal>,
}

/// Makes the child die with the calling thread and, if asked, start in the foreground.
///
/// The command must have been given a process group of its own: the group is set before this code
/// runs in the child.
pub(super) fn arm(command: &mut Command, foreground: Option<Foreground>) {
    let parent = getpid();
    let before_exec = move || {
        #[cfg(target_os = "linux")]
        die_with(parent)?;
        if let Some(foreground) = &foreground {
            enter(foreground);
        }
        Ok(())
    };
    // SAFETY: after fork only async-signal-safe calls are allowed. `before_exec` makes system calls
    // (prctl, getppid, getpid, kill, sigaction, signal, ioctl) on data captured before the fork; it
    // neither allocates nor frees nor locks.
    unsafe { command.pre_exec(before_exec) };
}

/// Makes a test's process start as if from an interactive shell, whatever the tests were started by:
/// `nohup` and background jobs leave signals ignored, and no shell script could trap those.
#[cfg(test)]
pub(super) fn with_default_signals(command: &mut Command) -> &mut Command {
    const STANDARD: std::ops::RangeInclusive<c_int> = 1..=31;
    let before_exec = || {
        for number in STANDARD {
            // SAFETY: setting a disposition to its default touches no memory of ours; KILL and STOP
            // refuse, and have no other.
            unsafe { signal(number, DEFAULT) };
        }
        Ok(())
    };
    // SAFETY: after fork only async-signal-safe calls are allowed, and `signal` is one.
    unsafe { command.pre_exec(before_exec) }
}

/// Asks the kernel for SIGKILL when the parent is gone, and does not outlive one that already is.
#[cfg(target_os = "linux")]
fn die_with(parent: rustix::process::Pid) -> std::io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // Nobody signals a death before the call above. No parent at all means that it lives outside
    // our pid namespace, where its death cannot be judged.
    if rustix::process::getppid().is_some_and(|now| now != parent) {
        rustix::process::kill_process(getpid(), Signal::KILL)?;
    }
    Ok(())
}

/// Moves the child's new group to the foreground before it can touch the terminal.
fn enter(foreground: &Foreground) {
    // Until exec resets them the parent's handlers would swallow a Ctrl-C that only we receive.
    for caught in &foreground.caught {
        // SAFETY: setting a disposition to its default touches no memory of ours.
        unsafe { signal(caught.as_raw(), DEFAULT) };
    }
    // SAFETY: the caller keeps the descriptor open across the fork.
    let tty = unsafe { BorrowedFd::borrow_raw(foreground.tty) };
    // A terminal that has gone away is no reason not to run: the child will notice by itself.
    let _ = ignoring(Signal::TTOU, || tcsetpgrp(tty, getpid()));
}

/// Runs `act` while `ignored` is ignored by the whole process.
///
/// With SIGTTOU ignored a background process may choose the foreground group without being stopped.
pub(super) fn ignoring<T>(ignored: Signal, act: impl FnOnce() -> T) -> T {
    let number = ignored.as_raw();
    let mut saved = MaybeUninit::<SavedAction>::uninit();
    // SAFETY: the buffer is at least as large and as aligned as the C struct; a null `new` only reads.
    let known = unsafe { sigaction(number, ptr::null(), saved.as_mut_ptr()) } == 0;
    // SAFETY: SIG_IGN is a valid action for every signal that callers pass.
    unsafe { signal(number, IGNORE) };
    let result = act();
    if known {
        // SAFETY: `saved` was filled above and is handed back unchanged.
        unsafe { sigaction(number, saved.as_ptr(), ptr::null_mut()) };
    }
    result
}

/// Stops this process and the rest of its group, as Ctrl-Z would, and returns once continued.
///
/// In an orphaned group, where no shell could ever continue us, the kernel drops the signal and
/// this returns at once.
pub(super) fn stop_own_group() {
    ignoring(Signal::TSTP, || {
        // The others first; a signal to the group may be taken by any thread of ours, so we ignore
        // it there and take our own by `raise`, which has stopped us by the time it returns.
        let _ = kill_current_process_group(Signal::TSTP);
        // SAFETY: SIG_DFL is a valid action; `ignoring` restores the one before.
        unsafe { signal(Signal::TSTP.as_raw(), DEFAULT) };
        raise(Signal::TSTP.as_raw());
    });
}
