//! Who stands behind a claim, as people see it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::actor::Actor;
use crate::error::{Error, ErrorKind};
use crate::name::LockName;

/// Who holds or waits: a label, the host and the process.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Owner {
    /// What the owner calls itself; `host:pid` unless it was named.
    pub label: Arc<str>,
    /// The host's name.
    pub host: Arc<str>,
    /// The process id on that host.
    pub pid: u32,
}

impl Owner {
    /// The longest label, in bytes.
    pub const MAX_LABEL: usize = 256;

    /// This process on this host, labelled `host:pid`.
    pub fn this_process() -> Self {
        let host = crate::clock::host_name();
        let pid = std::process::id();
        Self { label: format!("{host}:{pid}").into(), host: host.into(), pid }
    }

    /// This process under another label.
    ///
    /// # Errors
    /// `Invalid` if the label is empty, longer than [`Owner::MAX_LABEL`] bytes or holds control
    /// characters.
    pub fn labelled(label: &str) -> Result<Self, Error> {
        if label.is_empty() || Self::MAX_LABEL < label.len() || label.chars().any(char::is_control)
        {
            return Err(Error::new(
                ErrorKind::Invalid,
                "an owner label is 1 to 256 bytes of UTF-8 without control characters",
            ));
        }
        Ok(Self { label: label.into(), ..Self::this_process() })
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)
    }
}

/// What a holder or waiter tells about itself.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Details {
    /// Who it is.
    pub owner: Owner,
    /// Free JSON text of at most [`Details::MAX_METADATA`] bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Arc<str>>,
    /// The logical task it belongs to, for deadlock detection; without it there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<Arc<str>>,
    /// The locks that the actor held when it began to wait: where to look for those who wait for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<LockName>,
    /// How often a healthy holder renews; `None` if it does not renew by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renews_every: Option<Duration>,
}

impl Details {
    /// The longest metadata, in bytes of JSON.
    pub const MAX_METADATA: usize = 16 * 1024;

    /// Details of an owner without metadata or actor.
    pub fn of(owner: Owner) -> Self {
        Self { owner, metadata: None, actor: None, holds: Vec::new(), renews_every: None }
    }

    /// Adds metadata.
    ///
    /// # Errors
    /// `Invalid` if it is longer than [`Details::MAX_METADATA`] bytes as JSON.
    pub fn with_metadata(mut self, metadata: &serde_json::Value) -> Result<Self, Error> {
        let text = metadata.to_string();
        if Self::MAX_METADATA < text.len() {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("metadata is at most 16 KiB of JSON, this is {} bytes", text.len()),
            ));
        }
        self.metadata = Some(text.into());
        Ok(self)
    }

    /// Adds the actor.
    #[must_use]
    pub fn with_actor(mut self, actor: &Actor) -> Self {
        self.actor = Some(actor.path().into());
        self
    }

    /// Adds what the actor holds.
    #[must_use]
    pub fn holding(mut self, holds: Vec<LockName>) -> Self {
        self.holds = holds;
        self
    }

    /// Says how often the holder renews.
    pub fn renewing_every(mut self, every: Option<Duration>) -> Self {
        self.renews_every = every;
        self
    }
}
