//! `tenure doctor`: what this deployment guarantees, in plain words and measured.

mod guarantees;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value as Json};
use tenure::{Capabilities, Finding, LockManager, Standing, Ttl};

use self::guarantees::{Guarantee, guarantees};
use crate::app::App;
use crate::args::Doctor;
use crate::config::Place;
use crate::failure::{Failure, Outcome, code};
use crate::output::text::{duration, safe};
use crate::output::{aligned, millis};
use crate::store;

#[derive(Serialize)]
struct Report {
    stores: Vec<Store>,
    ok: bool,
}

#[derive(Default, Serialize)]
struct Store {
    store: Option<String>,
    up: bool,
    latency_ms: u64,
    #[serde(skip)]
    latency: Duration,
    error: Option<String>,
    #[serde(skip)]
    help: Option<String>,
    /// What the program ends with, if this is the first store with something wrong.
    #[serde(skip)]
    code: u8,
    capabilities: Json,
    guarantees: Vec<Guarantee>,
    measurements: Vec<Measurement>,
}

#[derive(Serialize)]
struct Measurement {
    what: &'static str,
    passed: bool,
    standing: Standing,
    detail: String,
    help: Option<String>,
    facts: Map<String, Json>,
}

impl From<Finding> for Measurement {
    fn from(finding: Finding) -> Self {
        let passed = finding.passed();
        let Finding { what, standing, detail, help, facts, .. } = finding;
        Self { what, passed, standing, detail, help, facts }
    }
}

pub(crate) async fn doctor(app: &App, args: Doctor) -> Outcome {
    let ttl = args.ttl.or(app.config.ttl).unwrap_or(Ttl::DEFAULT.get());
    let measures = (!args.no_measure).then_some(ttl);
    let mut stores = Vec::new();
    // A store with something wrong keeps nobody from looking at the others.
    for place in app.stores.under("", &app.config)? {
        stores.push(match store::open(&place, None) {
            Ok(locks) => examined(&locks, &place, measures).await,
            Err(failure) => Store::default().failed(*failure),
        });
    }
    let code = stores.iter().map(|store| store.code).find(|code| *code != 0).unwrap_or_default();
    let report = Report { stores, ok: code == 0 };
    app.output.answer("doctor", &report, || {
        let stores: Vec<String> = report.stores.iter().map(shown).collect();
        stores.join("\n")
    })?;
    Ok(code)
}

async fn examined(locks: &LockManager, place: &Place, measures: Option<Duration>) -> Store {
    let health = locks.health().await;
    let can = locks.capabilities();
    let store = Store {
        store: Some(health.store.to_string()),
        up: health.up,
        latency_ms: millis(health.latency),
        latency: health.latency,
        capabilities: as_json(can),
        guarantees: guarantees(can),
        ..Store::default()
    };
    if let Some(cause) = health.cause {
        return store.failed(*Box::<Failure>::from(cause));
    }
    let Some(ttl) = measures.filter(|_| store.up) else {
        return store;
    };
    match findings(&place.url, ttl).await {
        Ok(findings) => {
            let measurements: Vec<Measurement> = findings.into_iter().map(Into::into).collect();
            let code = if measurements.iter().all(|m| m.passed) { 0 } else { code::OS };
            Store { measurements, code, ..store }
        }
        Err(failure) => store.failed(*failure),
    }
}

impl Store {
    fn failed(self, failure: Failure) -> Self {
        let whole: Vec<String> = [failure.message].into_iter().chain(failure.causes).collect();
        Self {
            store: self.store.or(failure.store),
            error: Some(whole.join(": ")),
            help: failure.help,
            code: failure.code,
            ..self
        }
    }
}

fn as_json(can: &Capabilities) -> Json {
    let mut capabilities = serde_json::to_value(can).expect("it is a struct with text keys");
    for (field, ttl) in [("ttl_min", can.ttl_min), ("ttl_max", can.ttl_max)] {
        if let Some(fields) = capabilities.as_object_mut() {
            fields.remove(field);
            fields.insert(format!("{field}_ms"), millis(ttl).into());
        }
    }
    capabilities
}

fn shown(store: &Store) -> String {
    let answers = match (&store.error, store.up) {
        (None, _) => format!("answers (in {})", duration(store.latency)),
        (Some(error), false) if store.code == code::UNAVAILABLE => {
            format!("does not answer: {}", safe(error))
        }
        (Some(error), false) => format!("cannot be used: {}", safe(error)),
        (Some(error), true) => format!("cannot be measured: {}", safe(error)),
    };
    let address = store.store.as_deref().unwrap_or("a store");
    let mut text = format!("{} {answers}\n", safe(address));
    if let Some(help) = &store.help {
        text += &format!("  help: {}\n", safe(help));
    }
    // What a store promises is of no use to anybody who cannot use it.
    if !store.up || store.guarantees.is_empty() {
        return text;
    }
    text += "\n";
    // What was looked at is not told twice: once of all stores of this kind, and once of this one.
    let seen = |m: &Measurement, topic| {
        matches!(topic, "restart" | "failover")
            && m.what == topic
            && m.standing != Standing::Unknown
    };
    let promised =
        store.guarantees.iter().filter(|g| !store.measurements.iter().any(|m| seen(m, g.topic)));
    let mark = |given: bool| if given { "yes" } else { "no" };
    let rows =
        |g: &Guarantee| vec![format!("  {}", mark(g.given)), g.topic.to_owned(), g.says.clone()];
    text += &aligned(&promised.map(rows).collect::<Vec<_>>());
    if !store.measurements.is_empty() {
        let mark = |standing| match standing {
            Standing::Good => "ok",
            Standing::Note => "note",
            Standing::Bad => "BAD",
            _ => "?",
        };
        let rows = |m: &Measurement| {
            let what = m.what.replace('_', " ");
            let row = vec![format!("  {}", mark(m.standing)), what, safe(&m.detail)];
            let help = m.help.as_ref().map(|help| format!("→ {}", safe(help)));
            [row].into_iter().chain(help.map(|help| vec![String::new(), String::new(), help]))
        };
        text += "\nmeasured from this host:\n";
        text += &aligned(&store.measurements.iter().flat_map(rows).collect::<Vec<_>>());
    }
    text
}

/// Looks at the deployment and measures it, as its store knows how.
async fn findings(url: &str, ttl: Duration) -> Outcome<Vec<Finding>> {
    let program = std::env::current_exe().map_err(|e| {
        Failure::new(code::OS, "system", "this program does not find itself").cause(e)
    })?;
    let worker = |directory: &Path, role: &str, number: u32| {
        let mut command = Command::new(&program);
        command.arg("probe-worker").arg(directory).arg(role).arg(number.to_string());
        command
    };
    Ok(tenure::examine(url, ttl, Some(&worker)).await?)
}

/// One of the processes that the measuring is done with.
#[cfg(feature = "file")]
pub(crate) fn worker(args: &crate::args::ProbeWorker) -> Outcome {
    tenure::file::probe::work(&args.directory, &args.role, args.number)
        .map_err(|e| Failure::new(code::IO, "io", "a probe's worker failed").cause(e))?;
    Ok(0)
}
