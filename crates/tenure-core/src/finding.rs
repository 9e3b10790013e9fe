//! What a look at a deployment found, as data.
//!
//! Capabilities say what a kind of store can do. Findings say how the one at hand stands to that:
//! each backend's crate looks at its own store and answers with these, and `doctor` only shows them.

use serde::Serialize;
use serde_json::{Map, Value};

/// How one thing of a deployment stands to what locks need of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Standing {
    /// As locks need it.
    Good,
    /// It narrows what is promised, and may be meant so.
    Note,
    /// It could not be seen.
    Unknown,
    /// Locks do not work as promised.
    Bad,
}

/// One thing that was looked at or measured.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct Finding {
    /// What was looked at, in one word.
    pub what: &'static str,
    /// How it stands.
    pub standing: Standing,
    /// What was seen and what it means, in plain words.
    pub detail: String,
    /// What to do about it.
    pub help: Option<String>,
    /// What was seen, for programs.
    pub facts: Map<String, Value>,
}

impl Finding {
    /// A finding, for backends.
    pub fn new(what: &'static str, standing: Standing, detail: impl Into<String>) -> Self {
        Self { what, standing, detail: detail.into(), help: None, facts: Map::new() }
    }

    /// With what to do about it.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// With something that was seen.
    #[must_use]
    pub fn with_fact(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.facts.insert(name.to_owned(), value.into());
        self
    }

    /// Whether nothing of it keeps locks from working as promised.
    pub fn passed(&self) -> bool {
        self.standing != Standing::Bad
    }
}
