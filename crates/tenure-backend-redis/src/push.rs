//! Messages from the scripts to those who wait or hold here.

use redis::{PushInfo, PushKind, Value};
use serde::Deserialize;
use tenure_core::backend::{Event, Grant};
use tenure_core::{Fence, LockName, Micros, Seats};

use crate::reply;
use crate::script;

/// A message as the scripts write it: one of the first three says to whom.
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

/// The event that a message on `channel` tells of; `None` if it is not understood: whoever waits
/// asks in the end.
pub(crate) fn event(push: &PushInfo, channel: &str, prefix: &str) -> Option<Event> {
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
        return Some(Event::Granted { name, member, grant: message.grant() });
    }
    if let Some(member) = &message.look {
        let member = script::member(member.as_bytes())?;
        return Some(Event::Granted { name, member, grant: None });
    }
    let member = script::member(message.gone.as_ref()?.as_bytes())?;
    let departure = reply::departure(&message.how, message.by, message.why).ok()?;
    Some(Event::Gone { name, member, departure })
}

impl Message {
    fn grant(&self) -> Option<Grant> {
        let seats =
            if self.of == 0 { Seats::All } else { Seats::permits(self.take, self.of).ok()? };
        let number = |text: &String| text.parse::<u64>().ok();
        let term = std::time::Duration::from_micros(number(&self.term)?);
        let fence = Fence::new(number(&self.fence)?);
        let mut grant = Grant::new(fence, seats, Micros(number(&self.at)?), term);
        grant.handed_over = true;
        Some(grant)
    }
}
