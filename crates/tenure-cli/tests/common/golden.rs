//! Golden files: what a user sees, as it was approved.

use std::path::Path;

use regex::Regex;

use super::Site;

/// Compares with `tests/golden/NAME.txt`; with `UPDATE_GOLDEN=1` writes it.
pub(crate) fn golden(name: &str, seen: &str) {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, seen).unwrap();
        return;
    }
    let approved = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        approved == seen,
        "{} is not what was seen; approve it with UPDATE_GOLDEN=1\n--- approved\n{approved}\n--- seen\n{seen}",
        path.display()
    );
}

/// Puts words in the place of what is different every time.
pub(crate) fn normal(text: &str, site: &Site) -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let mut text = text.replace(&site.path().display().to_string(), "[DIR]");
    let patterns = [
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z".to_owned(), "[TIME]"),
        (format!(r"\b{}:\d+\b", regex::escape(&host)), "[HOST]:[PID]"),
        (format!(r"\bhost {}\b", regex::escape(&host)), "host [HOST]"),
        (format!(r#""host":"{}""#, regex::escape(&host)), r#""host":"[HOST]""#),
        (r"\bpid \d+".to_owned(), "pid [PID]"),
        (r#""pid":\d+"#.to_owned(), r#""pid":[PID]"#),
        (r"\b\d{12,20}\b".to_owned(), "[FENCE]"),
        (r"\b[0-9a-f]{16}\b".to_owned(), "[ID]"),
        (r"tenure1\.[0-9a-f]{32}".to_owned(), "tenure1.[SECRET]"),
        (r"\b[0-9a-f]{32}\b".to_owned(), "[HASH]"),
        (r"(last renewed|answers \(in|\bin) \d+(ms|\.\ds|s)".to_owned(), "$1 [AGE]"),
        (r"SIGKILL in [^)]+".to_owned(), "SIGKILL in [AGE]"),
        (r#""(quiet_ms|latency_ms|held_ms|waited_ms|age_ms)":\d+"#.to_owned(), r#""$1":[MS]"#),
    ];
    for (pattern, word) in patterns {
        text = Regex::new(&pattern).unwrap().replace_all(&text, word).into_owned();
    }
    text.lines().map(squeezed).collect()
}

/// The columns of a table are as wide as what stood in them: only that they are aligned is kept.
fn squeezed(line: &str) -> String {
    if !line.contains("[TIME]  ") && !line.starts_with("NAME ") {
        return format!("{line}\n");
    }
    let cells: Vec<&str> =
        line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
    format!("{}\n", cells.join("  "))
}
