//! `tenure status` and `tenure list`.

use serde::Serialize;
use tenure::{LockManager, View};

use crate::app::App;
use crate::args::{List, Status};
use crate::config::Place;
use crate::failure::{Failure, Outcome};
use crate::output::{self, Lock, Look};
use crate::store;

pub(crate) async fn status(app: &App, args: Status) -> Outcome {
    let name = args.name.name;
    let locks = app.open(name.as_str(), None)?;
    let view = locks.inspect(&name).await?;
    let store = locks.store();
    app.output.answer("status", &Lock::new(&view, &store), || {
        output::lock(&view, &store, Look::of(&locks))
    })?;
    Ok(0)
}

pub(crate) async fn list(app: &App, args: List) -> Outcome {
    #[derive(Serialize)]
    struct Locks {
        locks: Vec<Lock>,
        truncated: bool,
    }
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let mut found: Vec<(View, std::sync::Arc<str>, Look)> = Vec::new();
    for (place, locks) in open_all(app, &args.prefix.prefix)? {
        // One more than is shown tells whether there are more.
        let views = locks.list(&args.prefix.prefix, limit.saturating_add(1)).await?;
        let own = views.into_iter().filter(|view| belongs(app, &place, view));
        found.extend(own.map(|view| (view, locks.store(), Look::of(&locks))));
    }
    found.sort_by(|(a, ..), (b, ..)| a.name.cmp(&b.name));
    let truncated = limit < found.len();
    found.truncate(limit);
    let locks = found.iter().map(|(view, store, _)| Lock::new(view, store)).collect();
    app.output.answer("list", &Locks { locks, truncated }, || {
        let seen: Vec<(View, Look)> =
            found.into_iter().map(|(view, _, look)| (view, look)).collect();
        output::locks(&seen)
    })?;
    if truncated {
        app.output.say(&format!("there are more than {limit}: see --limit"));
    }
    Ok(0)
}

/// Every store that keeps locks under `prefix`.
pub(crate) fn open_all(app: &App, prefix: &str) -> Outcome<Vec<(Place, LockManager)>> {
    let places = app.stores.under(prefix, &app.config)?;
    let open = |place: Place| store::open(&place, None).map(|locks| (place, locks));
    places.into_iter().map(open).collect()
}

/// Whether the lock is to be found in this store: another may keep a stale one of the same name.
pub(crate) fn belongs(app: &App, place: &Place, view: &View) -> bool {
    app.stores
        .of(view.name.as_str(), &app.config)
        .map_err(|_: Box<Failure>| ())
        .is_ok_and(|of| of.url == place.url)
}
