//! `tenure.toml`: where locks are kept, and what is meant if nothing is said.
//!
//! Nearer files win, value by value: `./tenure.toml`, then the user's, then the machine's. Flags
//! and `TENURE_*` variables stand above all of them.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use crate::failure::{Failure, Outcome, code};
use crate::values;

const WAIT: &str = "TENURE_WAIT";

/// What the `tenure.toml` files say.
#[derive(Debug, Default)]
pub(crate) struct Config {
    /// The store of all locks that no route covers.
    pub(crate) store: Option<Place>,
    pub(crate) ttl: Option<Duration>,
    pub(crate) wait: Option<Duration>,
    pub(crate) kill_after: Option<Duration>,
    pub(crate) conflict_exit_code: Option<u8>,
    pub(crate) owner: Option<String>,
    routes: Vec<Route>,
}

/// The store of all locks whose names begin with `prefix`.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) prefix: String,
    pub(crate) store: Place,
}

/// A store's URL, and who said it.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) url: String,
    /// The file and line that say it; `None` if no file does.
    pub(crate) said_at: Option<String>,
}

impl Config {
    /// Reads `only`, or else all the usual files that are there; and what only the environment
    /// says.
    pub(crate) fn load(only: Option<&Path>) -> Outcome<Self> {
        Ok(Self::from_environment()?.over(Self::from_files(only)?))
    }

    fn from_environment() -> Outcome<Self> {
        let Some(wait) = std::env::var_os(WAIT).filter(|value| !value.is_empty()) else {
            return Ok(Self::default());
        };
        let wait = values::duration(&wait.to_string_lossy()).map_err(|e| {
            Failure::usage(format!("{WAIT}: {}", e.message())).help(e.help().unwrap_or_default())
        })?;
        Ok(Self { wait: Some(wait), ..Self::default() })
    }

    fn from_files(only: Option<&Path>) -> Outcome<Self> {
        if let Some(path) = only {
            let help = "name a file that is there and may be read, or leave --config and \
                        TENURE_CONFIG out";
            return Self::read(path, help)?
                .ok_or_else(|| wrong(path, "there is no such file", help));
        }
        let mut config = Self::default();
        for (path, help) in usual_files() {
            if let Some(layer) = Self::read(&path, help)? {
                config = config.over(layer);
            }
        }
        Ok(config)
    }

    /// The route with the longest prefix that `name` begins with; the nearest file's of several.
    pub(crate) fn route(&self, name: &str) -> Option<&Route> {
        let fitting = self.routes.iter().filter(|route| name.starts_with(&route.prefix));
        // `max_by_key` prefers the last of equals, and the nearest file's routes come first.
        fitting.rev().max_by_key(|route| route.prefix.len())
    }

    /// All routes.
    pub(crate) fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// Reads the file, if it is there; `help` is for those who may not read it.
    fn read(path: &Path, help: &str) -> Outcome<Option<Self>> {
        match std::fs::read_to_string(path) {
            Ok(text) => File { path, text: &text }.parse().map(Some),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) if e.kind() == io::ErrorKind::NotADirectory => Ok(None),
            Err(e) => Err(wrong(path, &format!("it cannot be read: {e}"), help)),
        }
    }

    fn over(self, under: Self) -> Self {
        let mut routes = self.routes;
        routes.extend(under.routes);
        Self {
            store: self.store.or(under.store),
            ttl: self.ttl.or(under.ttl),
            wait: self.wait.or(under.wait),
            kill_after: self.kill_after.or(under.kill_after),
            conflict_exit_code: self.conflict_exit_code.or(under.conflict_exit_code),
            owner: self.owner.or(under.owner),
            routes,
        }
    }
}

/// The files that are read if none is named, the nearest first, and what helps if one of them may
/// not be read.
fn usual_files() -> impl Iterator<Item = (PathBuf, &'static str)> {
    let absolute =
        |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let user = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")));
    // A HOME that was inherited from another user is the usual reason.
    let of_user =
        "set HOME or XDG_CONFIG_HOME to a directory of this user's, or pass --config FILE";
    let of_all = "let this user read it, or pass --config FILE";
    [
        Some((PathBuf::from("tenure.toml"), of_all)),
        user.map(|dir| (dir.join("tenure/tenure.toml"), of_user)),
        Some((PathBuf::from("/etc/tenure/tenure.toml"), of_all)),
    ]
    .into_iter()
    .flatten()
}

fn wrong(path: &Path, what: &str, help: &str) -> Box<Failure> {
    Failure::new(code::CONFIG, "config", format!("{}: {what}", path.display())).help(help)
}

/// What a `tenure.toml` may say.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Fields {
    store: Option<Spanned<String>>,
    ttl: Option<Spanned<String>>,
    wait: Option<Spanned<String>>,
    kill_after: Option<Spanned<String>>,
    conflict_exit_code: Option<u8>,
    owner: Option<Spanned<String>>,
    #[serde(default, rename = "route")]
    routes: Vec<RouteFields>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RouteFields {
    prefix: String,
    store: Spanned<String>,
}

/// A `tenure.toml` that was read.
struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

impl File<'_> {
    fn parse(&self) -> Outcome<Config> {
        let fields: Fields = toml::from_str(self.text).map_err(|e| match e.span() {
            Some(span) => self.wrong(span.start, e.message(), self.help(span.start, e.message())),
            None => wrong(self.path, e.message(), FIELDS),
        })?;
        let route =
            |route: RouteFields| Route { prefix: route.prefix, store: self.place(route.store) };
        Ok(Config {
            store: fields.store.map(|url| self.place(url)),
            ttl: self.checked(fields.ttl, values::ttl)?,
            wait: self.checked(fields.wait, values::duration)?,
            kill_after: self.checked(fields.kill_after, values::duration)?,
            conflict_exit_code: fields.conflict_exit_code,
            owner: self.checked(fields.owner, values::owner)?,
            routes: fields.routes.into_iter().map(route).collect(),
        })
    }

    fn checked<T>(
        &self,
        value: Option<Spanned<String>>,
        check: fn(&str) -> tenure::Result<T>,
    ) -> Outcome<Option<T>> {
        let Some(value) = value else { return Ok(None) };
        let at = value.span().start;
        check(value.get_ref()).map(Some).map_err(|e| {
            self.wrong(at, e.message(), e.help().unwrap_or_else(|| self.help(at, e.message())))
        })
    }

    /// A URL is looked at when its store is opened.
    fn place(&self, url: Spanned<String>) -> Place {
        let line = self.line(url.span().start);
        let said_at = Some(format!("{}: line {line}", self.path.display()));
        Place { url: url.into_inner(), said_at }
    }

    fn wrong(&self, at: usize, what: &str, help: &str) -> Box<Failure> {
        wrong(self.path, &format!("line {}: {what}", self.line(at)), help)
    }

    fn line(&self, at: usize) -> usize {
        1 + self.text[..at].matches('\n').count()
    }

    /// What may stand where something else does.
    fn help(&self, at: usize, what: &str) -> &'static str {
        if what.starts_with("unknown field") {
            return FIELDS;
        }
        let line = self.text.lines().nth(self.line(at) - 1).unwrap_or_default();
        match line.split('=').next().unwrap_or_default().trim() {
            "ttl" => "a duration from 100ms to 30d in quotes, for example ttl = \"30s\"",
            "wait" | "kill-after" => "a duration in quotes, for example wait = \"1m30s\"",
            "conflict-exit-code" => "a whole number from 0 to 255, without quotes",
            "owner" => "1 to 256 bytes of text in quotes, without control characters",
            "store" => "a URL in quotes, for example store = \"file:///var/lib/my-service/locks\"",
            "prefix" => "the beginning of names in quotes, for example prefix = \"scratch/\"",
            "[[route]]" | "[route]" => {
                "a [[route]], in two pairs of brackets, has prefix and store"
            }
            _ => FIELDS,
        }
    }
}

const FIELDS: &str = "known are store, ttl, wait, kill-after, conflict-exit-code, owner and \
                      [[route]] with prefix and store; text is in quotes";

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Outcome<Config> {
        File { path: Path::new("tenure.toml"), text }.parse()
    }

    fn parse(text: &str) -> Config {
        parsed(text).unwrap()
    }

    #[test]
    fn nearer_files_win_value_by_value() {
        let near = parse("ttl = '10s'\n[[route]]\nprefix = 'a/'\nstore = 'memory:'");
        let far = parse("ttl = '1h'\nstore = 'off:'\n[[route]]\nprefix = 'a/'\nstore = 'off:'");
        let config = near.over(far);
        assert_eq!(config.ttl, Some(Duration::from_secs(10)));
        assert_eq!(config.store.as_ref().unwrap().url, "off:");
        assert_eq!(config.route("a/b").unwrap().store.url, "memory:");
    }

    #[test]
    fn the_longest_fitting_prefix_wins() {
        let config = parse(
            "[[route]]\nprefix = ''\nstore = 'x'\n\
             [[route]]\nprefix = 'a/'\nstore = 'y'\n\
             [[route]]\nprefix = 'a/b/'\nstore = 'z'",
        );
        let store = |name| config.route(name).unwrap().store.url.as_str();
        assert_eq!((store("q"), store("a/c"), store("a/b/c")), ("x", "y", "z"));
        assert!(parse("").route("q").is_none());
    }

    #[test]
    fn unknown_keys_and_bad_values_are_errors() {
        for bad in [
            "stroe = 'off:'",
            "ttl = 5",
            "ttl = '5'",
            "ttl = '1ms'",
            "conflict-exit-code = 256",
            "owner = ''",
            "[[route]]\nprefix = 'a/'",
            "[[route]]\nprefix = 'a/'\nstore = 'off:'\nttl = '5s'",
            "[route]\nprefix = 'a/'\nstore = 'off:'",
        ] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn help_fits_what_is_wrong() {
        for (text, help) in [
            ("stroe = 'off:'", "known are store"),
            ("ttl = 5", "ttl = \"30s\""),
            ("ttl = '1ms'", "100ms to 30d"),
            ("\nwait = '5'", "with its unit"),
            ("conflict-exit-code = 256", "0 to 255"),
            ("store = 5", "a URL in quotes"),
            ("[[route]]\nprefix = 'a/'", "two pairs of brackets"),
            ("not toml", "known are store"),
        ] {
            let failure = parsed(text).unwrap_err();
            assert!(failure.help.as_deref().unwrap().contains(help), "{text}: {failure:?}");
        }
    }

    #[test]
    fn a_store_knows_its_line() {
        let config = parse("\nstore = 'off:'\n[[route]]\nprefix = ''\nstore = 'memory:'");
        assert_eq!(config.store.unwrap().said_at.unwrap(), "tenure.toml: line 2");
        assert_eq!(config.routes[0].store.said_at.as_deref(), Some("tenure.toml: line 5"));
    }
}
