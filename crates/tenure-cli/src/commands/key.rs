//! `tenure key`: the store's own key of a lock.

use serde::Serialize;

use crate::app::App;
use crate::args;
use crate::failure::{Failure, Outcome, code};
use crate::output::aligned;
use crate::output::text::safe;

#[derive(Serialize)]
struct Keys<'a> {
    name: &'a str,
    store: &'a str,
    /// The first of `keys`.
    key: &'a str,
    keys: Vec<Key<'a>>,
}

#[derive(Serialize)]
struct Key<'a> {
    what: &'a str,
    key: &'a str,
}

pub(crate) fn key(app: &App, args: args::Key) -> Outcome {
    let name = args.name.name;
    let locks = app.open(name.as_str(), None)?;
    let keys = locks.keys(&name)?;
    let Some((_, first)) = keys.first() else {
        let kind = locks.capabilities().kind;
        let message = format!("the {kind} store has no keys that another program could use");
        return Err(Failure::new(code::USAGE, "unsupported", message)
            .lock(name.as_str())
            .help("a store that others can look into has them, for example file:///dir"));
    };
    let body = Keys {
        name: name.as_str(),
        store: &locks.store(),
        key: first,
        keys: keys.iter().map(|(what, key)| Key { what, key }).collect(),
    };
    app.output.answer("key", &body, || {
        let rows: Vec<_> =
            keys.iter().map(|(what, key)| vec![(*what).to_owned(), safe(key)]).collect();
        aligned(&rows)
    })?;
    Ok(0)
}
