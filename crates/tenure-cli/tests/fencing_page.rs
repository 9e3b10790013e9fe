//! What the guide tells to run at a resource refuses the late write of a holder that stood still.
#![allow(clippy::unwrap_used, reason = "a test that panics says why")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::Site;
use rustix::process::{Pid, Signal, kill_process};
use tenure_testkit::servers::postgres::PostgresServer;
use tenure_testkit::servers::redis::RedisServer;

/// The block of the page that is marked so.
fn block(mark: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide/fencing.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, rest) = page.split_once(&format!("```{mark}\n")).unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

fn saved(site: &Site, name: &str, text: &str) -> PathBuf {
    let path = site.work().join(name);
    fs::write(&path, text).unwrap();
    path
}

/// A holder that writes by `write` is stopped until another one has written, and then goes on, with
/// the `tenure` that could tell it still stopped. Answers what its late write was answered.
fn late_write(site: &Site, write: &dyn Fn(&str) -> String) -> String {
    // Neither the words nor the exit code of a write are lost.
    let script = format!("echo held $$; read go; {} 2>&1; echo ended", write("late"));
    let mut old = site.start(["run", "--ttl", "1s", "report", "--", "sh", "-c", &script]);
    let said = old.line();
    let child = said.strip_prefix("held ").unwrap().parse().unwrap();
    let child = Pid::from_raw(child).unwrap();
    old.signal(Signal::STOP);
    kill_process(child, Signal::STOP).unwrap();
    let new = site.tenure(["run", "report", "--", "sh", "-c", &write("new")]);
    assert_eq!(new.code, 0, "{}{}", new.stdout, new.stderr);
    old.tell("go");
    kill_process(child, Signal::CONT).unwrap();
    let mut answer = String::new();
    loop {
        match old.line().as_str() {
            "ended" => break,
            line => answer += &format!("{line}\n"),
        }
    }
    old.signal(Signal::CONT);
    assert_eq!(old.wait().code, 79, "it was told afterwards");
    answer
}

#[test]
fn the_script_for_redis_refuses_a_late_write() {
    let server = RedisServer::start();
    let site = Site::with(&server.url());
    let script = saved(&site, "write-if-newer.lua", &block("lua run"));
    let answer = late_write(&site, &|body| {
        format!(
            "redis-cli -p {} --eval {} data:report , $TENURE_FENCING_TOKEN {body}",
            server.port(),
            script.display()
        )
    });
    assert!(answer.contains("STALE "), "{answer}");
    assert_eq!(server.cli(&["HGET", "data:report", "body"]).trim(), "new");
}

/// `psql` with a file, as a shell takes it.
fn psql(server: &PostgresServer, file: &Path) -> String {
    let command = server.psql_command("postgres", "postgres");
    let words: Vec<String> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| format!("'{}'", word.to_string_lossy()))
        .collect();
    format!("{} -f {}", words.join(" "), file.display())
}

#[test]
fn the_statement_for_a_row_refuses_a_late_write() {
    let server = PostgresServer::start();
    let site = Site::with(&server.url());
    let text = block("sql run row");
    let (table, statement) = text.split_once("\n\n").unwrap();
    server.psql(table);
    let call = "EXECUTE write_if_newer('2026', :fence, :'body');";
    let file = saved(&site, "row.sql", &format!("{statement}\n{call}\n"));
    let write = |body: &str| {
        format!("{} -v fence=$TENURE_FENCING_TOKEN -v body={body}", psql(&server, &file))
    };
    assert_eq!(late_write(&site, &write), "", "no row came back");
    assert_eq!(server.psql("SELECT body FROM report"), "new");
    // The same holder may write again, an older one not.
    let fence: u64 = server.psql("SELECT fence FROM report").parse().unwrap();
    let again = |fence: u64| {
        server.psql(&format!("{statement}\nEXECUTE write_if_newer('2026', {fence}, 'x')"))
    };
    assert_eq!(again(fence), fence.to_string());
    assert_eq!(again(fence - 1), "");
    assert_eq!(again(fence + 1), (fence + 1).to_string());
}

#[test]
fn the_transaction_for_many_rows_refuses_a_late_write() {
    let server = PostgresServer::start();
    let site = Site::with(&server.url());
    server.psql(&block("sql run name"));
    let file = saved(&site, "lines.sql", &block("sql run lines"));
    let write = |line: &str| {
        format!("{} -v fence=$TENURE_FENCING_TOKEN -v line={line}", psql(&server, &file))
    };
    let answer = late_write(&site, &write);
    assert!(answer.contains("the lock report was lost"), "{answer}");
    assert_eq!(server.psql("SELECT line FROM report_line"), "new");
}
