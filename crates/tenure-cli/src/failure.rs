//! What went wrong, with the exit code that tells a script, and the help that tells a person.

use std::error::Error as _;
use std::fmt;
use std::io;

use tenure::{Error, ErrorKind, HolderView, Wait};

/// The exit codes, those of `sysexits.h` where one fits.
pub(crate) mod code {
    /// A wrong argument (EX_USAGE).
    pub(crate) const USAGE: u8 = 64;
    /// What the store holds cannot be understood (EX_DATAERR).
    pub(crate) const DATA: u8 = 65;
    /// An input file cannot be read (EX_NOINPUT).
    pub(crate) const NO_INPUT: u8 = 66;
    /// The store did not answer (EX_UNAVAILABLE).
    pub(crate) const UNAVAILABLE: u8 = 69;
    /// A mistake in this program (EX_SOFTWARE).
    pub(crate) const SOFTWARE: u8 = 70;
    /// The system does not do what locks need (EX_OSERR).
    pub(crate) const OS: u8 = 71;
    /// An output file cannot be made (EX_CANTCREAT).
    pub(crate) const CANNOT_CREATE: u8 = 73;
    /// Writing failed (EX_IOERR).
    pub(crate) const IO: u8 = 74;
    /// Not acquired (EX_TEMPFAIL).
    pub(crate) const NOT_ACQUIRED: u8 = 75;
    /// What became of a command that may run only once is for a person to find out.
    pub(crate) const INDETERMINATE: u8 = 76;
    /// The store refused this user (EX_NOPERM).
    pub(crate) const DENIED: u8 = 77;
    /// `tenure.toml` is wrong (EX_CONFIG).
    pub(crate) const CONFIG: u8 = 78;
    /// The lock was lost, or is not held.
    pub(crate) const LOST: u8 = 79;
    /// What shells say for a program that ended because nobody read its output.
    pub(crate) const BROKEN_PIPE: u8 = 128 + 13;
}

/// What a command ends with: an exit code, or a failure to tell.
pub(crate) type Outcome<T = u8> = Result<T, Box<Failure>>;

/// Why a command did not do what it was asked to.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    /// One word to branch on.
    pub(crate) kind: &'static str,
    /// What happened, to which lock.
    pub(crate) message: String,
    /// The errors underneath, outermost first.
    pub(crate) causes: Vec<String>,
    pub(crate) lock: Option<String>,
    pub(crate) store: Option<String>,
    pub(crate) help: Option<String>,
    pub(crate) holders: Vec<HolderView>,
    /// Who waits for whom in a deadlock.
    pub(crate) cycle: Vec<Wait>,
}

impl Failure {
    pub(crate) fn new(code: u8, kind: &'static str, message: impl Into<String>) -> Box<Self> {
        Box::new(Self {
            code,
            kind,
            message: message.into(),
            causes: Vec::new(),
            lock: None,
            store: None,
            help: None,
            holders: Vec::new(),
            cycle: Vec::new(),
        })
    }

    /// A wrong argument, or one that is missing. Without other help it is that of the command.
    pub(crate) fn usage(message: impl Into<String>) -> Box<Self> {
        Self::new(code::USAGE, "usage", message)
    }

    /// Says what to do next.
    pub(crate) fn help(mut self: Box<Self>, help: impl Into<String>) -> Box<Self> {
        self.help = Some(help.into());
        self
    }

    /// Keeps the error underneath.
    pub(crate) fn cause(mut self: Box<Self>, cause: impl fmt::Display) -> Box<Self> {
        self.causes.push(cause.to_string());
        self
    }

    /// Names the lock.
    pub(crate) fn lock(mut self: Box<Self>, lock: &str) -> Box<Self> {
        self.lock = Some(lock.to_owned());
        self
    }

    /// Writing to stdout failed.
    pub(crate) fn stdout(error: &io::Error) -> Box<Self> {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::new(code::BROKEN_PIPE, "broken_pipe", "nobody reads the output");
        }
        Self::new(code::IO, "io", "cannot write to stdout")
            .cause(error)
            .help("is the disk full that it is written to?")
    }

    /// Whether it may pass by itself: the store did not answer.
    pub(crate) fn is_outage(&self) -> bool {
        self.code == code::UNAVAILABLE
    }

    /// Whether there is anything to tell, and anybody who would read it.
    pub(crate) fn is_silent(&self) -> bool {
        self.code == code::BROKEN_PIPE
    }

    /// What to do next with this lock: its name in place of `NAME`, if a shell takes it as it is.
    pub(crate) fn help_with_name(&self) -> Option<String> {
        let help = self.help.as_deref()?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "_./:@%+-".contains(c);
        let lock =
            self.lock.as_deref().filter(|name| name.chars().all(plain) && !name.starts_with('-'));
        Some(lock.map_or_else(|| help.to_owned(), |name| help.replace("NAME", name)))
    }
}

/// What to do next when a lock is not held.
pub(crate) const WHO_HOLDS_IT: &str = "`tenure status NAME` shows who holds it now, if anybody";

/// What to do next, where the error itself does not say.
fn usual_help(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::Unsupported => Some("`tenure doctor` tells what this store can do"),
        ErrorKind::NotHeld | ErrorKind::Lost => Some(WHO_HOLDS_IT),
        ErrorKind::Unreachable => Some("`tenure doctor` tells whether the store answers"),
        ErrorKind::Denied => Some("use the store as a user whom it lets in, or name another store"),
        ErrorKind::Corrupt => Some("nothing was changed; is this the right place for a store?"),
        ErrorKind::Unknown => Some("`tenure status NAME` shows whether it was done"),
        _ => None,
    }
}

/// The exit code of an error of the library.
fn code_of(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::WaitTimeout | ErrorKind::Busy | ErrorKind::Deadlock => code::NOT_ACQUIRED,
        ErrorKind::Lost | ErrorKind::NotHeld => code::LOST,
        ErrorKind::Unreachable | ErrorKind::Unknown => code::UNAVAILABLE,
        ErrorKind::Denied => code::DENIED,
        ErrorKind::Unsupported | ErrorKind::Invalid | ErrorKind::Mismatch => code::USAGE,
        ErrorKind::Corrupt => code::DATA,
        _ => code::SOFTWARE,
    }
}

impl From<Error> for Box<Failure> {
    fn from(error: Error) -> Self {
        let lock = error.lock().map(ToString::to_string);
        let message = match (error.operation(), error.lock()) {
            (Some(operation), Some(lock)) => format!("{operation} {lock:?}: {}", error.message()),
            (Some(operation), None) => format!("{operation} failed: {}", error.message()),
            (None, Some(lock)) => format!("{lock:?}: {}", error.message()),
            (None, None) => error.message().to_owned(),
        };
        let mut causes = Vec::new();
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            // What was said already is not said again.
            if !message.ends_with(&text) && !causes.contains(&text) {
                causes.push(text);
            }
            source = cause.source();
        }
        Box::new(Failure {
            code: code_of(error.kind()),
            kind: error.kind().as_str(),
            message,
            causes,
            store: error.store().map(str::to_owned),
            help: error.help().or(usual_help(error.kind())).map(str::to_owned),
            holders: error.holders().to_vec(),
            cycle: error.cycle().to_vec(),
            lock,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_names_the_lock_only_where_a_shell_would_take_it() {
        let help = "look who holds it: `tenure status NAME`";
        let named = |lock| Failure::usage("").help(help).lock(lock).help_with_name().unwrap();
        assert!(named("orders/42").ends_with("`tenure status orders/42`"));
        for odd in ["a b", "$(rm)", "-x", "a'b", "é"] {
            assert!(named(odd).ends_with("`tenure status NAME`"), "{odd}");
        }
    }
}
