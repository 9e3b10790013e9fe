//! How a child ended.

use rustix::process::WaitIdStatus;

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It exited with this code.
    Code(u8),
    /// It died of the signal with this number.
    Signal(u8),
}

impl Exit {
    /// The exit code to pass on: the child's own, or 128 + n for signal n.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(number) => number.saturating_add(128),
        }
    }

    /// Reads the status of a child that has ended.
    pub(super) fn from_status(status: &WaitIdStatus) -> Self {
        // The kernel hands over eight bits of exit code, and signals end at 64.
        let small = |number: i32| u8::try_from(number & 0xff).expect("masked to eight bits");
        match status.exit_status() {
            Some(code) => Self::Code(small(code)),
            None => Self::Signal(small(status.terminating_signal().unwrap_or_default())),
        }
    }
}
