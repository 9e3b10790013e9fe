//! `tenure install`: what a store needs before it can be used, by whoever may install it.

use serde::Serialize;
use tenure::Installed;

use crate::app::App;
use crate::args;
use crate::failure::{Failure, Outcome, code};
use crate::output::text::safe;
use crate::store;

#[derive(Serialize)]
struct Done<'a> {
    store: &'a str,
    schema: &'a str,
    installed: i32,
    before: Option<i32>,
}

#[derive(Serialize)]
struct Shown<'a> {
    store: &'a str,
    sql: &'a str,
}

pub(crate) async fn install(app: &App, args: args::Install) -> Outcome {
    let place = app.stores.of("", &app.config)?;
    // What is wrong with the URL is said as everywhere.
    let locks = store::open(&place, None)?;
    let address = locks.store();
    if args.print {
        let script = tenure::install_script(&place.url, &args.grant)?;
        let sql = script.ok_or_else(|| needs_nothing(locks.capabilities().kind))?;
        let shown = Shown { store: &address, sql: &sql };
        app.output.answer("install_script", &shown, || sql.clone())?;
        return Ok(0);
    }
    let done = tenure::install(&place.url, &args.grant).await;
    let done =
        done.map_err(|error| Failure { store: Some(address.to_string()), ..*Box::from(error) })?;
    let Installed { place: schema, version, before, .. } =
        done.ok_or_else(|| needs_nothing(locks.capabilities().kind))?;
    let body = Done { store: &address, schema: &schema, installed: version, before };
    app.output.answer("install", &body, || {
        let said = match before {
            None => format!("installed version {version}"),
            Some(before) if before == version => format!("version {version} is there"),
            Some(before) => format!("brought version {before} to version {version}"),
        };
        let grants: Vec<_> = args.grant.iter().map(|role| safe(role)).collect();
        let may = match grants.is_empty() {
            true => String::new(),
            false => format!("; it may be used by {}", grants.join(", ")),
        };
        format!("{}: {said} in the schema {}{may}\n", safe(&address), safe(&schema))
    })?;
    Ok(0)
}

fn needs_nothing(kind: &str) -> Box<Failure> {
    let message = format!("the {kind} store needs nothing to be installed");
    Failure::new(code::USAGE, "unsupported", message)
}
