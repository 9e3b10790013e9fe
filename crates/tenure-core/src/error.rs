//! One error for the whole workspace: a kind to branch on, the rest to read.

use std::fmt;
use std::sync::Arc;

use crate::deadlock::Wait;
use crate::name::LockName;
use crate::view::HolderView;

/// What every fallible call of the workspace returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, to branch on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The lock was not free within the wait timeout.
    WaitTimeout,
    /// The lock was not free, and the caller chose not to wait in the queue.
    Busy,
    /// The lock was held and is lost.
    Lost,
    /// The lock is not held by this token.
    NotHeld,
    /// The store did not answer.
    Unreachable,
    /// The store refused this user.
    Denied,
    /// This store cannot do that; nothing was sent.
    Unsupported,
    /// An argument is out of its range; nothing was sent.
    Invalid,
    /// The claim names another number of seats than the live members of the name.
    Mismatch,
    /// Waiting would never end, because the waiters wait for each other.
    Deadlock,
    /// What the store holds cannot be understood; nothing was changed.
    Corrupt,
    /// The request may or may not have taken effect.
    Unknown,
    /// The manager was shut down.
    ShutDown,
}

impl ErrorKind {
    /// The kind as one word, as metrics and JSON name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            ErrorKind::WaitTimeout => "wait_timeout",
            ErrorKind::Busy => "busy",
            ErrorKind::Lost => "lost",
            ErrorKind::NotHeld => "not_held",
            ErrorKind::Unreachable => "unreachable",
            ErrorKind::Denied => "denied",
            ErrorKind::Unsupported => "unsupported",
            ErrorKind::Invalid => "invalid",
            ErrorKind::Mismatch => "mismatch",
            ErrorKind::Deadlock => "deadlock",
            ErrorKind::Corrupt => "corrupt",
            ErrorKind::Unknown => "unknown",
            ErrorKind::ShutDown => "shut_down",
        }
    }

    /// Whether the lock was simply not to be had: somebody else holds it.
    pub const fn is_not_acquired(self) -> bool {
        matches!(self, ErrorKind::WaitTimeout | ErrorKind::Busy)
    }

    /// Whether the same call may succeed later without anything else changing.
    pub const fn is_transient(self) -> bool {
        matches!(
            self,
            ErrorKind::WaitTimeout | ErrorKind::Busy | ErrorKind::Unreachable | ErrorKind::Unknown
        )
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What failed, on which lock and store, and what to do next.
///
/// Never contains a lock token or a store's credentials.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: String,
    operation: Option<&'static str>,
    lock: Option<LockName>,
    store: Option<Arc<str>>,
    help: Option<String>,
    holders: Vec<HolderView>,
    cycle: Vec<Wait>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
    unchanged: bool,
}

impl Error {
    /// An error of this kind; `message` says what happened in a sentence without a full stop.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            operation: None,
            lock: None,
            store: None,
            help: None,
            holders: Vec::new(),
            cycle: Vec::new(),
            source: None,
            unchanged: false,
        }))
    }

    /// The answer to something that this store cannot do, before any I/O.
    pub fn unsupported(store: &str, what: &str) -> Self {
        Self::new(ErrorKind::Unsupported, format!("the {store} store does not support {what}"))
    }

    /// Names the step that failed, as a participle: `acquiring`, `renewing`.
    #[must_use]
    pub fn with_operation(mut self, operation: &'static str) -> Self {
        self.0.operation.get_or_insert(operation);
        self
    }

    /// Names the lock.
    #[must_use]
    pub fn with_lock(mut self, lock: &LockName) -> Self {
        self.0.lock.get_or_insert_with(|| lock.clone());
        self
    }

    /// Names the store, credentials masked.
    #[must_use]
    pub fn with_store(mut self, store: &Arc<str>) -> Self {
        self.0.store.get_or_insert_with(|| store.clone());
        self
    }

    /// Says what to do next.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.0.help = Some(help.into());
        self
    }

    /// Adds who stood in the way.
    #[must_use]
    pub fn with_holders(mut self, holders: Vec<HolderView>) -> Self {
        self.0.holders = holders;
        self
    }

    /// Adds who waits for whom.
    #[must_use]
    pub fn with_cycle(mut self, cycle: Vec<Wait>) -> Self {
        self.0.cycle = cycle;
        self
    }

    /// Keeps the error underneath.
    #[must_use]
    pub fn with_source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(Arc::new(source));
        self
    }

    /// Says that the store is for certain as if the failed call had not been made, and that no part
    /// of it is still on its way.
    #[must_use]
    pub fn with_nothing_changed(mut self) -> Self {
        self.0.unchanged = true;
        self
    }

    /// The kind, to branch on.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What happened, without lock, store and source.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The step that failed.
    pub fn operation(&self) -> Option<&'static str> {
        self.0.operation
    }

    /// The lock.
    pub fn lock(&self) -> Option<&LockName> {
        self.0.lock.as_ref()
    }

    /// The store, credentials masked.
    pub fn store(&self) -> Option<&str> {
        self.0.store.as_deref()
    }

    /// What to do next.
    pub fn help(&self) -> Option<&str> {
        self.0.help.as_deref()
    }

    /// Whether the store is for certain as if the failed call had not been made. `false` says
    /// nothing.
    pub fn changed_nothing(&self) -> bool {
        self.0.unchanged
    }

    /// Who waits for whom in a `Deadlock`, lock by lock, beginning with whoever got this error; each
    /// step's `for_whom`, or an actor that works for it, is the next one's waiter, the last one's the
    /// first one's. Empty if the store itself found it.
    pub fn cycle(&self) -> &[Wait] {
        &self.0.cycle
    }

    /// Who stood in the way of a `WaitTimeout` or `Busy`, if the store told.
    pub fn holders(&self) -> &[HolderView] {
        &self.0.holders
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        if let Some(operation) = inner.operation {
            write!(f, "{operation} ")?;
            match &inner.lock {
                Some(lock) => write!(f, "{lock:?}: ")?,
                None => f.write_str("failed: ")?,
            }
        } else if let Some(lock) = &inner.lock {
            write!(f, "{lock:?}: ")?;
        }
        f.write_str(&inner.message)?;
        if let Some(holder) = inner.holders.first() {
            write!(f, "; held by {holder}")?;
            if 1 < inner.holders.len() {
                write!(f, " and {} more", inner.holders.len() - 1)?;
            }
        }
        if let Some(store) = &inner.store {
            write!(f, " (store {store})")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        f.debug_struct("Error")
            .field("kind", &inner.kind)
            .field("message", &inner.message)
            .field("help", &inner.help)
            .field("operation", &inner.operation)
            .field("lock", &inner.lock)
            .field("store", &inner.store)
            .field("source", &inner.source)
            .finish_non_exhaustive()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|s| s.as_ref() as &(dyn std::error::Error + 'static))
    }
}

impl From<std::convert::Infallible> for Error {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}
