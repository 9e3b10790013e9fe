//! `tenure status` and `tenure list`.

use serde::Serialize;
use tenure::{LockManager, View};

use crate::app::App;
use crate::args::{List, Status};
use crate::failure::{Failure, Outcome};
use crate::output::{self, Lock};
use crate::store;

pub(crate) async fn status(app: &App, args: Status) -> Outcome {
    let name = args.name.name;
    let locks = app.open(name.as_str(), None)?;
    let view = locks.inspect(&name).await?;
    let store = locks.store();
    app.output.answer("status", &Lock::new(&view, &store), || output::lock(&view, &store))?;
    Ok(0)
}

pub(crate) async fn list(app: &App, args: List) -> Outcome {
    #[derive(Serialize)]
    struct Locks {
        locks: Vec<Lock>,
        truncated: bool,
    }
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let mut found: Vec<(View, std::sync::Arc<str>)> = Vec::new();
    for (url, locks) in open_all(app, &args.prefix.prefix)? {
        // One more than is shown tells whether there are more.
        let views = locks.list(&args.prefix.prefix, limit.saturating_add(1)).await?;
        let own = views.into_iter().filter(|view| belongs(app, &url, view));
        found.extend(own.map(|view| (view, locks.store())));
    }
    found.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    let truncated = limit < found.len();
    found.truncate(limit);
    let locks = found.iter().map(|(view, store)| Lock::new(view, store)).collect();
    app.output.answer("list", &Locks { locks, truncated }, || {
        let views: Vec<View> = found.into_iter().map(|(view, _)| view).collect();
        output::locks(&views)
    })?;
    if truncated {
        app.output.say(&format!("there are more than {limit}: see --limit"));
    }
    Ok(0)
}

/// Every store that keeps locks under `prefix`.
pub(crate) fn open_all(app: &App, prefix: &str) -> Outcome<Vec<(String, LockManager)>> {
    let urls = app.stores.under(prefix, &app.config)?;
    let open = |url: String| store::open(&url, None).map(|locks| (url, locks));
    urls.into_iter().map(open).collect()
}

/// Whether the lock is to be found in this store: another may keep a stale one of the same name.
pub(crate) fn belongs(app: &App, url: &str, view: &View) -> bool {
    app.stores
        .of(view.name.as_str(), &app.config)
        .map_err(|_: Box<Failure>| ())
        .is_ok_and(|of| of == url)
}
