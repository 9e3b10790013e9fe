//! What has to be looked after without anybody asking: owners that fell silent, sessions that are
//! not used.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tenure_core::backend::Departure;

use super::holder::{Done, Wish};
use super::room::Room;

/// How often it looks. A silent owner's lock may live that much longer than its ttl.
const EVERY: Duration = Duration::from_millis(50);
/// How long a session without locks is kept.
const KEEP: Duration = Duration::from_secs(60);

/// Looks after a room for as long as it lives.
#[allow(
    clippy::disallowed_methods,
    reason = "how often it looks; what is due is said by the clock"
)]
pub(crate) async fn sweep(room: Weak<Room>) {
    loop {
        tokio::time::sleep(EVERY).await;
        let Some(room) = room.upgrade() else { return };
        end_the_silent(&room);
        look_after_sessions(&room);
        let listens = 0 < room.registry.lock().len();
        if listens && let Err(error) = room.control().await {
            tracing::debug!(%error, "requests of other processes are not heard at the moment");
        }
    }
}

/// Locks whose owners do not renew them are given back one by one: others live on the session.
fn end_the_silent(room: &Arc<Room>) {
    let silent = room.registry.lock().silent(room.now());
    for member in silent {
        let leave = room.registry.lock().leave(member, &Departure::Expired);
        let of = room.clone();
        room.spawn(async move {
            let _ = of.end(member, leave).await;
        });
    }
}

/// A session without locks shows that it lives, or the server would end it; unused for long, it is
/// closed. One with locks lives by their renewals alone.
fn look_after_sessions(room: &Arc<Room>) {
    let all: Vec<_> = room.sessions.lock().values().cloned().collect();
    let now = room.now();
    for holder in &all {
        holder.look_after(room, now);
    }
    for holder in all.into_iter().filter(|holder| holder.seats() == 0) {
        let (silent, unused) = holder.silent_for(now);
        if KEEP <= unused {
            if holder.take_last_seat() {
                holder.session.close();
            }
        } else if holder.class() / 3 <= silent && (!holder.solo || holder.take_solo_seat()) {
            // Nobody waits with it meanwhile.
            let done: Done<()> = Box::new(|_, holder, _| {
                if holder.solo {
                    holder.give_seat();
                }
            });
            holder.wish(room, Wish::Beat { done }).leave(room);
        }
    }
}
