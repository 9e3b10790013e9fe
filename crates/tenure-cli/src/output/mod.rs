//! What people and programs see. Data goes to stdout, all else to stderr.

mod error;
mod json;
pub(crate) mod log;
mod spinner;
mod table;
pub(crate) mod text;

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::failure::{Failure, Outcome};

pub(crate) use self::json::{Holder, Lock, millis, time};
pub(crate) use self::spinner::Spinner;
pub(crate) use self::table::{Look, aligned, lock, locks};

/// How the program speaks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// One JSON object to stdout.
    pub(crate) json: bool,
    /// Nothing to stderr but errors of usage.
    pub(crate) quiet: bool,
}

impl Output {
    /// Prints text to stdout.
    pub(crate) fn text(self, text: &str) -> Outcome<()> {
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
        written.map_err(|e| Failure::stdout(&e))
    }

    /// Prints one JSON object of this kind to stdout.
    pub(crate) fn object(self, kind: &str, body: &impl Serialize) -> Outcome<()> {
        self.text(&(json::object(kind, body) + "\n"))
    }

    /// Prints the object, or the text if nobody asked for JSON.
    pub(crate) fn answer(
        self,
        kind: &str,
        body: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> Outcome<()> {
        if self.json { self.object(kind, body) } else { self.text(&text()) }
    }

    /// Tells something on stderr, unless nothing is to be told.
    pub(crate) fn say(self, what: &str) {
        if !self.quiet {
            tell(&format!("tenure: {}\n", text::safe(what)));
        }
    }

    /// Tells why a command failed: on stderr, and with `--json` on stdout, too.
    pub(crate) fn fail(self, failure: &Failure) {
        if failure.is_silent() {
            return;
        }
        if self.json {
            // A stdout that takes nothing is told on stderr.
            let _ = self.object("error", &json::error(failure));
        }
        if !self.quiet || failure.kind == "usage" {
            tell(&error::render(failure, has_colors()));
        }
    }

    /// Whether somebody looks on who wants to know how it goes.
    pub(crate) fn is_watched(self) -> bool {
        !self.quiet && io::stderr().is_terminal()
    }
}

fn tell(text: &str) {
    // If stderr takes nothing there is nobody left to tell.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

fn has_colors() -> bool {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    set("NO_COLOR").is_none()
        && set("TERM").is_some_and(|term| term != "dumb")
        && io::stderr().is_terminal()
}
