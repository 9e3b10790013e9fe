//! The JSON that `docs/json.md` describes.

use serde::Serialize;
use serde_json::Value as Json;
use tenure::{
    Details, Fence, HolderId, HolderView, Micros, Seats, Utc, ValueView, View, Wait, WaiterView,
};

use crate::failure::Failure;

/// The version of all objects; a reader that knows it finds every field that it knows.
const VERSION: u32 = 1;

/// One object of this kind as one line.
pub(crate) fn object(kind: &str, body: &impl Serialize) -> String {
    #[derive(Serialize)]
    struct Envelope<'a, T> {
        version: u32,
        kind: &'a str,
        #[serde(flatten)]
        body: &'a T,
    }
    let envelope = Envelope { version: VERSION, kind, body };
    serde_json::to_string(&envelope).expect("these are structs with text keys")
}

/// A lock as it stands.
#[derive(Debug, Serialize)]
pub(crate) struct Lock {
    name: String,
    store: String,
    locked: bool,
    fence: Fence,
    holders: Vec<Holder>,
    waiters: Vec<Waiter>,
    value: Option<Value>,
}

impl Lock {
    pub(crate) fn new(view: &View, store: &str) -> Self {
        let waiters = view.waiters.iter().zip(1..);
        Self {
            name: view.name.to_string(),
            store: store.to_owned(),
            locked: view.is_locked(),
            fence: view.fence,
            holders: view.holders.iter().map(Holder::new).collect(),
            waiters: waiters.map(|(waiter, position)| Waiter::new(waiter, position)).collect(),
            value: view.value.as_ref().map(Value::new),
        }
    }
}

/// Who somebody is.
#[derive(Debug, Serialize)]
struct Who {
    id: HolderId,
    owner: String,
    host: String,
    pid: u32,
    actor: Option<String>,
    metadata: Option<Json>,
}

impl Who {
    fn new(id: HolderId, details: &Details) -> Self {
        let metadata = details.metadata.as_deref();
        Self {
            id,
            owner: details.owner.label.to_string(),
            host: details.owner.host.to_string(),
            pid: details.owner.pid,
            actor: details.actor.as_deref().map(str::to_owned),
            // Written by others: what is not JSON is shown as text.
            metadata: metadata
                .map(|text| serde_json::from_str(text).unwrap_or_else(|_| text.into())),
        }
    }
}

/// What somebody holds or wants.
#[derive(Debug, Serialize)]
struct Mode {
    mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    take: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    of: Option<u32>,
}

impl From<Seats> for Mode {
    fn from(seats: Seats) -> Self {
        match seats {
            Seats::Some { .. } if seats == Seats::SHARED => {
                Self { mode: "shared", take: None, of: None }
            }
            Seats::Some { take, of } => Self { mode: "permits", take: Some(take), of: Some(of) },
            _ => Self { mode: "exclusive", take: None, of: None },
        }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct Holder {
    #[serde(flatten)]
    who: Who,
    #[serde(flatten)]
    mode: Mode,
    fence: Fence,
    since: Option<String>,
    renewed: Option<String>,
    until: Option<String>,
    ttl_ms: u64,
    quiet_ms: u64,
    detached: bool,
}

impl Holder {
    pub(crate) fn new(holder: &HolderView) -> Self {
        Self {
            who: Who::new(holder.id, &holder.details),
            mode: holder.seats.into(),
            fence: holder.fence,
            since: time(holder.since),
            renewed: time(holder.renewed),
            until: time(holder.until),
            ttl_ms: millis(holder.ttl),
            quiet_ms: millis(holder.quiet_for),
            detached: holder.detached,
        }
    }
}

#[derive(Debug, Serialize)]
struct Waiter {
    position: u32,
    #[serde(flatten)]
    who: Who,
    #[serde(flatten)]
    mode: Mode,
    priority: i32,
    since: Option<String>,
    upgrade: bool,
}

impl Waiter {
    fn new(waiter: &WaiterView, position: u32) -> Self {
        Self {
            position,
            who: Who::new(waiter.id, &waiter.details),
            mode: waiter.seats.into(),
            priority: waiter.priority.get(),
            since: time(waiter.since),
            upgrade: waiter.upgrade,
        }
    }
}

/// A value: as text if it is UTF-8, else as hex digits.
#[derive(Debug, Serialize)]
struct Value {
    bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hex: Option<String>,
    fence: Fence,
    written: Option<String>,
    keep_until: Option<String>,
}

impl Value {
    fn new(value: &ValueView) -> Self {
        let (text, hex) = match std::str::from_utf8(&value.bytes) {
            Ok(text) => (Some(text.to_owned()), None),
            Err(_) => (None, Some(value.bytes.iter().map(|b| format!("{b:02x}")).collect())),
        };
        Self {
            bytes: value.bytes.len(),
            text,
            hex,
            fence: value.fence,
            written: time(value.written),
            keep_until: time(value.keep_until),
        }
    }
}

/// One step of a deadlock.
#[derive(Debug, Serialize)]
struct Step {
    lock: String,
    waiter: String,
    waits_for: String,
    holds: bool,
}

impl Step {
    fn new(wait: &Wait) -> Self {
        Self {
            lock: wait.lock.to_string(),
            waiter: wait.waiter.owner.label.to_string(),
            waits_for: wait.for_whom.owner.label.to_string(),
            holds: wait.holds,
        }
    }
}

/// A failure, for programs.
pub(crate) fn error(failure: &Failure) -> impl Serialize {
    #[derive(Serialize)]
    struct Error<'a> {
        error: &'a str,
        message: &'a str,
        causes: &'a [String],
        name: Option<&'a str>,
        store: Option<&'a str>,
        help: Option<String>,
        holders: Vec<Holder>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        cycle: Vec<Step>,
        exit_code: u8,
    }
    Error {
        error: failure.kind,
        message: &failure.message,
        causes: &failure.causes,
        name: failure.lock.as_deref(),
        store: failure.store.as_deref(),
        help: failure.help_with_name(),
        holders: failure.holders.iter().map(Holder::new).collect(),
        cycle: failure.cycle.iter().map(Step::new).collect(),
        exit_code: failure.code,
    }
}

/// A time of the store; `None` if it lies beyond all calendars.
pub(crate) fn time(at: Micros) -> Option<String> {
    let text = Utc(at).to_string();
    text.ends_with('Z').then_some(text)
}

/// Whole milliseconds.
pub(crate) fn millis(d: std::time::Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}
