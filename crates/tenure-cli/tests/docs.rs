//! The user's pages know everything that the program says.
#![allow(clippy::unwrap_used, reason = "a test that panics says why")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;
use serde_json::Value;

fn page(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(path)).unwrap()
}

fn golden(filter: impl Fn(&str) -> bool) -> String {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let wanted = files.filter(|path| filter(path.file_name().unwrap().to_str().unwrap()));
    wanted.map(|path| fs::read_to_string(path).unwrap()).collect()
}

#[test]
fn every_option_is_explained() {
    let (page, help) = (page("guide/cli.md"), golden(|name| name.starts_with("help")));
    let options = Regex::new(r"--[a-z][a-z-]+|TENURE_[A-Z_]+").unwrap();
    let all: BTreeSet<&str> = options.find_iter(&help).map(|found| found.as_str()).collect();
    assert!(all.len() > 25);
    for option in all {
        let known = ["--help", "--version"].contains(&option) || page.contains(option);
        assert!(known, "{option} is not in docs/guide/cli.md");
    }
}

#[test]
fn every_field_is_explained() {
    let page = page("json.md");
    let seen = golden(|name| name.contains(".json"));
    // Words in the place of numbers are no JSON.
    let seen = Regex::new(r":\[(MS|PID)\]").unwrap().replace_all(&seen, ":0").into_owned();
    let mut fields = BTreeSet::new();
    let objects = seen.lines().filter(|line| line.starts_with('{'));
    for line in objects {
        let object: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let kind = object["kind"].as_str().unwrap();
        assert!(page.contains(&format!("`{kind}`")), "the kind {kind} is not in docs/json.md");
        collect(&object, &mut fields);
    }
    assert!(fields.len() > 40);
    for field in fields {
        assert!(page.contains(&format!("`{field}`")), "the field {field} is not in docs/json.md");
    }
}

fn collect(value: &Value, fields: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (field, value) in object {
                fields.insert(field.clone());
                // What a user told is a user's.
                if field != "metadata" {
                    collect(value, fields);
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, fields)),
        _ => {}
    }
}
