//! Messages from the scripts to those who wait or hold here.

use std::time::Duration;

use redis::{PushInfo, PushKind, Value};
use serde::Deserialize;
use tenure_core::backend::{Event, Grant};
use tenure_core::{Fence, LockName, MemberId, Micros, Seats};

use crate::reply;
use crate::script;

/// A message as the scripts write it: one of the first four says to whom.
#[derive(Deserialize)]
struct Message {
    key: String,
    #[serde(default)]
    granted: Option<String>,
    #[serde(default)]
    gone: Option<String>,
    #[serde(default)]
    look: Option<String>,
    #[serde(default)]
    later: Option<String>,
    #[serde(default)]
    take: u32,
    #[serde(default)]
    of: u32,
    #[serde(default)]
    fence: String,
    #[serde(default)]
    at: String,
    #[serde(default)]
    term: String,
    #[serde(default)]
    how: String,
    #[serde(default)]
    by: String,
    #[serde(default)]
    why: String,
}

/// What a message says.
pub(crate) enum Heard {
    /// Something has happened.
    Now(Event),
    /// The lock was handed to somebody else: whether it was picked up is to be seen after so long.
    Later { name: LockName, member: MemberId, after: Duration },
}

/// What a message on `channel` says; `None` if it is not understood: whoever waits asks in the end.
pub(crate) fn heard(push: &PushInfo, channel: &str, prefix: &str) -> Option<Heard> {
    if push.kind != PushKind::Message {
        return None;
    }
    let [Value::BulkString(on), Value::BulkString(payload)] = push.data.as_slice() else {
        return None;
    };
    if on != channel.as_bytes() {
        return None;
    }
    let message: Message = serde_json::from_slice(payload).ok()?;
    let name = LockName::new(message.key.strip_prefix(prefix)?).ok()?;
    if let Some(member) = &message.granted {
        let member = script::member(member.as_bytes())?;
        let grant = message.grant();
        return Some(Heard::Now(Event::Granted { name, member, grant }));
    }
    if let Some(member) = &message.look {
        let member = script::member(member.as_bytes())?;
        return Some(Heard::Now(Event::Granted { name, member, grant: None }));
    }
    if let Some(member) = &message.later {
        let (member, after) = (script::member(member.as_bytes())?, message.term()?);
        return Some(Heard::Later { name, member, after });
    }
    let member = script::member(message.gone.as_ref()?.as_bytes())?;
    let departure = reply::departure(&message.how, message.by, message.why).ok()?;
    Some(Heard::Now(Event::Gone { name, member, departure }))
}

impl Message {
    fn term(&self) -> Option<Duration> {
        Some(Duration::from_micros(self.term.parse().ok()?))
    }

    fn grant(&self) -> Option<Grant> {
        let seats =
            if self.of == 0 { Seats::All } else { Seats::permits(self.take, self.of).ok()? };
        let number = |text: &String| text.parse::<u64>().ok();
        let term = self.term()?;
        let fence = Fence::new(number(&self.fence)?);
        let mut grant = Grant::new(fence, seats, Micros(number(&self.at)?), term);
        grant.handed_over = true;
        Some(grant)
    }
}
