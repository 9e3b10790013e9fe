//! `tenure.toml`: where locks are kept, and what is meant if nothing is said.
//!
//! Nearer files win, value by value: `./tenure.toml`, then the user's, then the machine's. Flags
//! and `TENURE_*` variables stand above all of them.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::failure::{Failure, Outcome, code};
use crate::values;

const WAIT: &str = "TENURE_WAIT";

/// What a `tenure.toml` may say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Config {
    /// The store of all locks that no route covers.
    pub(crate) store: Option<String>,
    #[serde(default, deserialize_with = "ttl")]
    pub(crate) ttl: Option<Duration>,
    #[serde(default, deserialize_with = "duration")]
    pub(crate) wait: Option<Duration>,
    #[serde(default, deserialize_with = "duration")]
    pub(crate) kill_after: Option<Duration>,
    pub(crate) conflict_exit_code: Option<u8>,
    #[serde(default, deserialize_with = "owner")]
    pub(crate) owner: Option<String>,
    #[serde(default, rename = "route")]
    routes: Vec<Route>,
}

/// The store of all locks whose names begin with `prefix`.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Route {
    pub(crate) prefix: String,
    pub(crate) store: String,
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
            return Self::read(path)?.ok_or_else(|| wrong(path, "there is no such file"));
        }
        let mut config = Self::default();
        for path in usual_files() {
            if let Some(layer) = Self::read(&path)? {
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

    fn read(path: &Path) -> Outcome<Option<Self>> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) if e.kind() == io::ErrorKind::NotADirectory => return Ok(None),
            Err(e) => return Err(wrong(path, &e.to_string())),
        };
        Self::parse(&text).map(Some).map_err(|e| {
            let line = e.span().map(|span| 1 + text[..span.start].matches('\n').count());
            let place = line.map_or(String::new(), |line| format!("line {line}: "));
            wrong(path, &format!("{place}{}", e.message()))
        })
    }

    fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
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

fn usual_files() -> impl Iterator<Item = PathBuf> {
    let absolute =
        |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let user = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")));
    [
        Some(PathBuf::from("tenure.toml")),
        user.map(|dir| dir.join("tenure/tenure.toml")),
        Some(PathBuf::from("/etc/tenure/tenure.toml")),
    ]
    .into_iter()
    .flatten()
}

fn wrong(path: &Path, what: &str) -> Box<Failure> {
    Failure::new(code::CONFIG, "config", format!("{}: {what}", path.display()))
        .help("known are store, ttl, wait, kill-after, conflict-exit-code, owner and [[route]] with prefix and store")
}

fn duration<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Duration>, D::Error> {
    checked(d, values::duration)
}

fn ttl<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Duration>, D::Error> {
    checked(d, values::ttl)
}

fn owner<'de, D: Deserializer<'de>>(d: D) -> Result<Option<String>, D::Error> {
    checked(d, values::owner)
}

fn checked<'de, D, T>(d: D, check: fn(&str) -> tenure::Result<T>) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
{
    let text = String::deserialize(d)?;
    check(&text).map(Some).map_err(|e| serde::de::Error::custom(e.message()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Config {
        Config::parse(text).unwrap()
    }

    #[test]
    fn nearer_files_win_value_by_value() {
        let near = parse("ttl = '10s'\n[[route]]\nprefix = 'a/'\nstore = 'memory:'");
        let far = parse("ttl = '1h'\nstore = 'off:'\n[[route]]\nprefix = 'a/'\nstore = 'off:'");
        let config = near.over(far);
        assert_eq!(config.ttl, Some(Duration::from_secs(10)));
        assert_eq!(config.store.as_deref(), Some("off:"));
        assert_eq!(config.route("a/b").unwrap().store, "memory:");
    }

    #[test]
    fn the_longest_fitting_prefix_wins() {
        let config = parse(
            "[[route]]\nprefix = ''\nstore = 'x'\n\
             [[route]]\nprefix = 'a/'\nstore = 'y'\n\
             [[route]]\nprefix = 'a/b/'\nstore = 'z'",
        );
        let store = |name| config.route(name).unwrap().store.as_str();
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
            assert!(Config::parse(bad).is_err(), "{bad}");
        }
    }
}
