//! Hears from a Sentinel that another server is the primary now.
//!
//! The old one may stand still, or take writes until it is made a replica, which Sentinels see to
//! every ten seconds only. Whoever goes on talking to it until then has locks that nobody else
//! respects. Missing the message costs that time, and nothing else hangs on it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::{AsyncConnectionConfig, Client, ConnectionInfo, PushInfo, PushKind, Value};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::config::Place;
use crate::link::{Link, pause_for};
use crate::slots::Address;

/// What Sentinels call it.
const SWITCH: &str = "+switch-master";
/// How long a Sentinel may take to be connected.
const CONNECT: Duration = Duration::from_secs(1);
/// The pause before Sentinels are tried again of whom none answers.
const PAUSE: Duration = Duration::from_secs(1);
/// How many messages may wait to be read; whatever comes in between says the same.
const BACKLOG: usize = 16;

/// Listens until it is dropped.
#[derive(Debug)]
pub(crate) struct Sentry(JoinHandle<()>);

impl Sentry {
    /// Tells a link to go to the new primary, if it leads to one that Sentinels name.
    pub(crate) fn of(link: &Arc<Link>, runtime: &Handle, place: &Place) -> Option<Self> {
        let Place::Sentinel { sentinels, service, .. } = place else {
            return None;
        };
        let listens = listen(Arc::downgrade(link), sentinels.clone(), service.clone());
        Some(Self(runtime.spawn(listens)))
    }
}

impl Drop for Sentry {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn listen(link: Weak<Link>, sentinels: Vec<ConnectionInfo>, service: String) {
    loop {
        for sentinel in &sentinels {
            let (tell, mut told) = mpsc::channel::<PushInfo>(BACKLOG);
            let tell = move |push| tell.try_send(push);
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(CONNECT))
                .set_response_timeout(Some(CONNECT))
                .set_push_sender(tell);
            let connected = async {
                let client = Client::open(sentinel.clone())?;
                let mut at = client.get_multiplexed_async_connection_with_config(&config).await?;
                at.subscribe(SWITCH).await?;
                redis::RedisResult::Ok(at)
            };
            let Ok(_connection) = connected.await else {
                continue;
            };
            while let Some(push) = told.recv().await {
                if push.kind == PushKind::Disconnection {
                    break;
                }
                let Some(primary) = new_primary(&push, &service) else {
                    continue;
                };
                let Some(link) = link.upgrade() else {
                    return;
                };
                link.go_to(primary).await;
            }
        }
        pause_for(PAUSE).await;
    }
}

/// The new primary of this service, if that is what the message says: its name, where it was and
/// where it is.
fn new_primary(push: &PushInfo, service: &str) -> Option<Address> {
    if push.kind != PushKind::Message {
        return None;
    }
    let [_, Value::BulkString(message)] = push.data.as_slice() else {
        return None;
    };
    let message = std::str::from_utf8(message).ok()?;
    match message.split(' ').collect::<Vec<_>>().as_slice() {
        [name, _, _, host, port] if *name == service => {
            Some(Address { host: (*host).into(), port: port.parse().ok()? })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_switch_of_this_service_is_heeded() {
        let push = |kind, text: &str| PushInfo {
            kind,
            data: vec![Value::BulkString(SWITCH.into()), Value::BulkString(text.into())],
        };
        let message = push(PushKind::Message, "main 10.0.0.1 6379 10.0.0.2 6380");
        let new = new_primary(&message, "main").expect("it is for us");
        assert_eq!((&*new.host, new.port), ("10.0.0.2", 6380));
        assert!(new_primary(&message, "other").is_none());
        assert!(new_primary(&push(PushKind::Message, "main a 1 b x"), "main").is_none());
        assert!(new_primary(&push(PushKind::Subscribe, "main a 1 b 2"), "main").is_none());
    }
}
