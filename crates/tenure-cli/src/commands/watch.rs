//! `tenure watch`: locks as they change.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use serde::Serialize;
use tenure::{Error, LockManager, Utc, View};

use super::status::{belongs, open_all};
use crate::app::App;
use crate::args::Watch;
use crate::config::Place;
use crate::failure::Outcome;
use crate::output::text::{count, safe};
use crate::output::{Lock, time};

/// How long to leave a store alone that did not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// One change, as a line of JSON.
#[derive(Serialize)]
struct Change {
    at: Option<String>,
    #[serde(flatten)]
    lock: Lock,
}

struct Seen {
    place: Place,
    locks: LockManager,
    view: Result<View, Error>,
}

/// Goes on until a signal ends the process: nothing is held that would have to be tidied up.
pub(crate) async fn watch(app: &App, args: Watch) -> Outcome {
    let mut watches = Vec::new();
    for (place, locks) in open_all(app, &args.prefix.prefix)? {
        watches.push(changes(place, locks, &args.prefix.prefix)?);
    }
    let mut changes = stream::select_all(watches);
    while let Some(Seen { place, locks, view }) = changes.next().await {
        match view {
            Ok(view) if belongs(app, &place, &view) => show(app, &locks, &view)?,
            Ok(_) => {}
            Err(error) if error.kind().is_transient() => {
                app.output.say(&format!("{error}; still watching"));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(0)
}

/// What changes at one store; after an error it looks again.
fn changes(place: Place, locks: LockManager, prefix: &str) -> Outcome<BoxStream<'static, Seen>> {
    let watch = locks.watch(prefix)?;
    let begin = (place, locks, watch, false);
    let next = |(place, locks, mut watch, failed): (Place, LockManager, tenure::Watch, bool)| async move {
        if failed {
            locks.sleep_until(locks.clock().now().plus(PAUSE)).await;
        }
        let view = watch.next().await;
        let failed = view.is_err();
        let seen = Seen { place: place.clone(), locks: locks.clone(), view };
        Some((seen, (place, locks, watch, failed)))
    };
    Ok(stream::unfold(begin, next).boxed())
}

fn show(app: &App, locks: &LockManager, view: &View) -> Outcome<()> {
    let now = locks.clock().wall();
    let change = Change { at: time(now), lock: Lock::new(view, &locks.store()) };
    app.output.answer("change", &change, || format!("{} {}\n", Utc(now), line(view)))
}

fn line(view: &View) -> String {
    let name = safe(view.name.as_str());
    let waiting = match view.waiters.len() {
        0 => String::new(),
        n => format!(", {n} waiting"),
    };
    match view.holders.as_slice() {
        [] => format!("{name} free, fence {}{waiting}", view.fence),
        [holder] => {
            let owner = safe(&holder.details.owner.label);
            format!("{name} held by {owner} ({}, fence {}){waiting}", holder.seats, holder.fence)
        }
        many => {
            let holders = count(many.len(), "holder");
            format!("{name} held by {holders} ({}, fence {}){waiting}", many[0].seats, view.fence)
        }
    }
}
