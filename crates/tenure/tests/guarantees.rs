//! The table in the README says what the stores declare.

use std::sync::Arc;
use std::time::Duration;

use tenure::backend::DynBackend;
use tenure::{Capabilities, EndsWith, JudgedBy, Recall, Wakes};

const BEGIN: &str = "<!-- guarantees -->\n";
const END: &str = "<!-- /guarantees -->";

/// With `TENURE_UPDATE=1` the README is rewritten instead of compared.
#[test]
fn the_readme_shows_what_the_stores_declare() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
    let readme = std::fs::read_to_string(path).unwrap();
    let (before, rest) = readme.split_once(BEGIN).expect("the table's first marker");
    let (_, after) = rest.split_once(END).expect("the table's second marker");
    let fresh = format!("{before}{BEGIN}{}{END}{after}", table());
    let update = std::env::var_os("TENURE_UPDATE").is_some();
    if update {
        std::fs::write(path, &fresh).unwrap();
    }
    assert!(update || readme == fresh, "the table is out of date: run with TENURE_UPDATE=1");
}

fn table() -> String {
    let dir = tempfile::tempdir().expect("a directory");
    let file = format!("file://{}", dir.path().display());
    // Nothing is sent: what a store declares is known before it is reached.
    let urls = [
        &file,
        "redis://127.0.0.1",
        "redlock://127.0.0.1:1,127.0.0.1:2,127.0.0.1:3",
        "postgres://user@127.0.0.1/db",
        "postgres+advisory://user@127.0.0.1/db",
        "memory:",
        "off:",
    ];
    let stores: Vec<Arc<dyn DynBackend>> =
        urls.iter().map(|url| tenure::open(url).expect("it opens")).collect();
    let all: Vec<&Capabilities> = stores.iter().map(|s| s.capabilities()).collect();
    let mut table = String::from("| ");
    for c in &all {
        table += &format!(" | {}", c.kind);
    }
    table += " |\n|---";
    table += &"|---".repeat(all.len());
    table += "|\n";
    let mut row = |label: &str, say: &dyn Fn(&Capabilities) -> String| {
        table += &format!("| {label}");
        for c in &all {
            // A store that excludes nobody takes every option and gives it no meaning.
            let means = c.exclusive || label.starts_with("excludes") || label == "ttl";
            table += &format!(" | {}", if means { say(c) } else { "–".to_owned() });
        }
        table += " |\n";
    };
    row("excludes", &|c| yes(c.exclusive));
    row("between processes / hosts", &|c| {
        format!("{} / {}", yes(c.between_processes), yes(c.between_hosts))
    });
    row("a silent holder's lock ends", &|c| {
        match (c.ends_with, c.judged_by) {
            (EndsWith::Lease, JudgedBy::StoreClock) => "after its ttl, by the store's clock",
            (EndsWith::Lease, JudgedBy::Observation) => "after its ttl, by observation",
            (EndsWith::Session, _) => "with its session",
            _ => "never",
        }
        .to_owned()
    });
    row("a dead holder's lock, same host", &|c| {
        if c.proves_death { "at once, proven by the kernel" } else { "as a silent one's" }
            .to_owned()
    });
    row("after a restart of the store", &|c| remembers(c.after_restart).to_owned());
    row("after a fail-over of the store", &|c| {
        c.after_failover.map_or("there is none", remembers).to_owned()
    });
    row("waiters are woken by", &|c| {
        match c.wakes {
            Wakes::Push => "a message",
            _ => "asking again",
        }
        .to_owned()
    });
    row("served in order, with priorities", &|c| format!("{}, {}", yes(c.fifo), yes(c.priority)));
    row("shared seats, upgrade", &|c| format!("{}, {}", yes(c.shared), yes(c.upgrade)));
    row("deadlocks between actors", &|c| {
        if c.deadlocks { "one gives way" } else { "not found" }.to_owned()
    });
    row("value", &|c| c.value_max.map_or("no".to_owned(), |m| format!("up to {} KiB", m / 1024)));
    row("leases without a process", &|c| yes(c.detached));
    row("force release", &|c| yes(c.force_release));
    row("list, watch", &|c| yes(c.list));
    row("ttl", &|c| format!("{:?} – {}", c.ttl_min, longest(c.ttl_max)));
    table
}

fn longest(ttl: Duration) -> String {
    match ttl.as_secs() / 3600 {
        0 => format!("{} s, or as is said", ttl.as_secs()),
        hours if hours < 24 => format!("{hours} h"),
        hours => format!("{} d", hours / 24),
    }
}

fn remembers(recall: Recall) -> &'static str {
    match recall {
        Recall::All => "every lock is known",
        Recall::Nothing => "no lock is known",
        _ => "the latest grants may be forgotten",
    }
}

fn yes(can: bool) -> String {
    if can { "yes" } else { "no" }.to_owned()
}
