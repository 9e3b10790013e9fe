//! What one server says of itself, as far as it lets us ask.

use std::collections::HashMap;
use std::time::Duration;

use redis::Value;
use tenure_core::clock::{Clock, SystemClock};
use tenure_core::probe::ClockSeen;

use super::servers::Server;

/// How often a server is asked for the time; the fastest answer counts.
const LOOKS_AT_THE_CLOCK: u32 = 5;

/// The settings that are asked for.
const SETTINGS: [&str; 8] = [
    "maxmemory",
    "maxmemory-policy",
    "appendonly",
    "appendfsync",
    "save",
    "timeout",
    "tcp-keepalive",
    "latency-monitor-threshold",
];

/// What a server said; `None` where it did not let us ask.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    pub(super) hello: HashMap<String, String>,
    pub(super) info: Option<HashMap<String, String>>,
    pub(super) settings: Option<HashMap<String, String>>,
    /// The worst spikes that it recorded: of what, and how long.
    pub(super) spikes: Option<Vec<(String, Duration)>>,
    pub(super) clock: Option<ClockSeen>,
}

impl Asked {
    pub(super) fn info(&self, field: &str) -> Option<&str> {
        self.info.as_ref()?.get(field).map(String::as_str)
    }

    pub(super) fn setting(&self, name: &str) -> Option<&str> {
        self.settings.as_ref()?.get(name).map(String::as_str)
    }

    pub(super) fn hello(&self, field: &str) -> Option<&str> {
        self.hello.get(field).map(String::as_str)
    }
}

impl Asked {
    /// Asks for everything.
    pub(super) async fn of(server: &mut Server) -> Self {
        let hello = server.ask(&["HELLO"]).await;
        let info = server.ask(&["INFO"]).await;
        let mut question = vec!["CONFIG", "GET"];
        question.extend(SETTINGS);
        let settings = server.ask(&question).await;
        let spikes = server.ask(&["LATENCY", "LATEST"]).await;
        Self {
            hello: hello.map(pairs).unwrap_or_default(),
            info: info.ok().and_then(|info| text(&info)).map(|info| lines(&info)),
            settings: settings.ok().map(pairs),
            spikes: spikes.ok().map(events),
            clock: clock(server).await,
        }
    }
}

async fn clock(server: &mut Server) -> Option<ClockSeen> {
    let mut best: Option<ClockSeen> = None;
    for _ in 0..LOOKS_AT_THE_CLOCK {
        let asked = (SystemClock.now(), SystemClock.wall());
        let answer = server.ask(&["TIME"]).await.ok()?;
        let (seconds, micros) = redis::from_redis_value::<(i64, i64)>(answer).ok()?;
        best = Some(ClockSeen::new(asked, seconds * 1_000_000 + micros).or_better(best));
    }
    best
}

/// The lines `name:value` of an answer to `INFO`.
pub(super) fn lines(info: &str) -> HashMap<String, String> {
    let pairs = info.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

/// Names and values, one after the other or as a map.
fn pairs(value: Value) -> HashMap<String, String> {
    match value {
        Value::Map(pairs) => {
            pairs.iter().filter_map(|(name, value)| Some((text(name)?, text(value)?))).collect()
        }
        Value::Array(items) => items
            .chunks_exact(2)
            .filter_map(|pair| Some((text(&pair[0])?, text(&pair[1])?)))
            .collect(),
        _ => HashMap::new(),
    }
}

/// What `LATENCY LATEST` lists: name, time, latest and worst in milliseconds.
fn events(value: Value) -> Vec<(String, Duration)> {
    let Value::Array(events) = value else { return Vec::new() };
    let event = |event: Value| {
        let Value::Array(fields) = event else { return None };
        let worst = text(fields.get(3)?)?.parse().ok()?;
        Some((text(fields.first()?)?, Duration::from_millis(worst)))
    };
    events.into_iter().filter_map(event).collect()
}

pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text.clone()),
        Value::Int(number) => Some(number.to_string()),
        _ => None,
    }
}
