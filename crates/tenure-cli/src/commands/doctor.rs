//! `tenure doctor`: what this deployment guarantees, in plain words and measured.

mod guarantees;

use serde::Serialize;
use serde_json::Value as Json;
use tenure::{Capabilities, Health};

use self::guarantees::{Guarantee, guarantees};
use super::status::open_all;
use crate::app::App;
use crate::args::Doctor;
use crate::failure::{Failure, Outcome, code};
use crate::output::text::{duration, safe};
use crate::output::{aligned, millis};

#[derive(Serialize)]
struct Report {
    stores: Vec<Store>,
    ok: bool,
}

#[derive(Serialize)]
struct Store {
    store: String,
    up: bool,
    latency_ms: u64,
    #[serde(skip)]
    latency: std::time::Duration,
    error: Option<String>,
    capabilities: Json,
    guarantees: Vec<Guarantee>,
    measurements: Vec<Measurement>,
}

#[derive(Serialize)]
struct Measurement {
    what: &'static str,
    passed: bool,
    detail: String,
}

pub(crate) async fn doctor(app: &App, args: Doctor) -> Outcome {
    let mut stores = Vec::new();
    for (url, locks) in open_all(app, "")? {
        let health = locks.health().await;
        let measurements = match health.up && !args.no_measure {
            true => measure(&url)?,
            false => Vec::new(),
        };
        stores.push(store(health, locks.capabilities(), measurements));
    }
    let up = stores.iter().all(|store| store.up);
    let passed = stores.iter().flat_map(|store| &store.measurements).all(|m| m.passed);
    let report = Report { stores, ok: up && passed };
    app.output.answer("doctor", &report, || {
        let stores: Vec<String> = report.stores.iter().map(shown).collect();
        stores.join("\n")
    })?;
    Ok(match (up, passed) {
        (false, _) => code::UNAVAILABLE,
        (true, false) => code::OS,
        (true, true) => 0,
    })
}

fn store(health: Health, can: &Capabilities, measurements: Vec<Measurement>) -> Store {
    let mut capabilities = serde_json::to_value(can).expect("it is a struct with text keys");
    for (field, ttl) in [("ttl_min", can.ttl_min), ("ttl_max", can.ttl_max)] {
        if let Some(fields) = capabilities.as_object_mut() {
            fields.remove(field);
            fields.insert(format!("{field}_ms"), millis(ttl).into());
        }
    }
    Store {
        store: health.store.to_string(),
        up: health.up,
        latency_ms: millis(health.latency),
        latency: health.latency,
        error: health.error,
        capabilities,
        guarantees: guarantees(can),
        measurements,
    }
}

fn shown(store: &Store) -> String {
    let answers = match &store.error {
        None => format!("answers (in {})", duration(store.latency)),
        Some(error) => format!("does not answer: {}", safe(error)),
    };
    let mut text = format!("{} {answers}\n\n", safe(&store.store));
    let mark = |given: bool| if given { "yes" } else { "no" };
    let rows =
        |g: &Guarantee| vec![format!("  {}", mark(g.given)), g.topic.to_owned(), g.says.clone()];
    text += &aligned(&store.guarantees.iter().map(rows).collect::<Vec<_>>());
    if !store.measurements.is_empty() {
        let mark = |passed: bool| if passed { "ok" } else { "BAD" };
        let rows = |m: &Measurement| {
            vec![format!("  {}", mark(m.passed)), m.what.to_owned(), safe(&m.detail)]
        };
        text += "\nmeasured on this host:\n";
        text += &aligned(&store.measurements.iter().map(rows).collect::<Vec<_>>());
    }
    text
}

/// Measures the directory of a file store; other stores have nothing to measure here.
#[cfg(feature = "file")]
fn measure(url: &str) -> Outcome<Vec<Measurement>> {
    use tenure::file::{FileConfig, probe};
    if !url.starts_with("file:") {
        return Ok(Vec::new());
    }
    let config = FileConfig::from_url(url)?;
    let program = std::env::current_exe().map_err(|e| {
        Failure::new(code::OS, "system", "this program does not find itself").cause(e)
    })?;
    let findings = probe::measure(config.path(), |directory, role, number| {
        let mut command = std::process::Command::new(&program);
        command.arg("probe-worker").arg(directory).arg(role).arg(number.to_string());
        command
    })?;
    let measurement = |finding: probe::Finding| Measurement {
        what: finding.what,
        passed: finding.passed,
        detail: finding.detail,
    };
    Ok(findings.into_iter().map(measurement).collect())
}

#[cfg(not(feature = "file"))]
fn measure(_: &str) -> Outcome<Vec<Measurement>> {
    Ok(Vec::new())
}

/// One of the processes that the measuring is done with.
#[cfg(feature = "file")]
pub(crate) fn worker(args: &crate::args::ProbeWorker) -> Outcome {
    tenure::file::probe::work(&args.directory, &args.role, args.number)
        .map_err(|e| Failure::new(code::IO, "io", "a probe's worker failed").cause(e))?;
    Ok(0)
}
