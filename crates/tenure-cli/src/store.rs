//! Which store keeps a lock, and how it is opened.

use tenure::{Error, ErrorKind, LockManager, Owner};

use crate::config::Config;
use crate::failure::{Failure, Outcome};

/// The stores that this machine knows of, by `--store`, environment and `tenure.toml`.
#[derive(Debug)]
pub(crate) struct Stores {
    /// Said by flag or environment: stands above all routes.
    explicit: Option<String>,
}

/// What a store's URL begins with, and whether this build has it.
const SCHEMES: [(&str, bool); 15] = [
    ("file", cfg!(feature = "file")),
    ("memory", cfg!(feature = "memory")),
    ("off", cfg!(feature = "memory")),
    ("redis", false),
    ("rediss", false),
    ("redis+sentinel", false),
    ("redis+cluster", false),
    ("redlock", false),
    ("postgres", false),
    ("postgresql", false),
    ("postgres+advisory", false),
    ("etcd", false),
    ("github", false),
    ("http", false),
    ("https", false),
];

impl Stores {
    /// An empty variable says nothing, as in a shell.
    pub(crate) fn new(explicit: Option<String>) -> Self {
        Self { explicit: explicit.filter(|url| !url.is_empty()) }
    }

    /// The URL of the store that keeps the lock `name`.
    pub(crate) fn of(&self, name: &str, config: &Config) -> Outcome<String> {
        if let Some(url) = &self.explicit {
            return Ok(url.clone());
        }
        if let Some(route) = config.route(name) {
            return Ok(route.store.clone());
        }
        self.unrouted(config)
    }

    /// The URLs of all stores that keep locks whose names begin with `prefix`.
    pub(crate) fn under(&self, prefix: &str, config: &Config) -> Outcome<Vec<String>> {
        let mut urls = vec![self.of(prefix, config)?];
        if self.explicit.is_some() {
            return Ok(urls);
        }
        let longer = config.routes().iter().filter(|route| route.prefix.starts_with(prefix));
        for route in longer {
            if !urls.contains(&route.store) {
                urls.push(route.store.clone());
            }
        }
        Ok(urls)
    }

    fn unrouted(&self, config: &Config) -> Outcome<String> {
        match &config.store {
            Some(url) => Ok(url.clone()),
            None => Ok(tenure::default_store()?),
        }
    }
}

/// Opens the store at `url`; what is held through it is owned by `owner`.
pub(crate) fn open(url: &str, owner: Option<&str>) -> Outcome<LockManager> {
    check_scheme(url)?;
    let mut builder = LockManager::builder(tenure::open(url)?);
    if let Some(owner) = owner {
        builder = builder.owner(Owner::labelled(owner)?);
    }
    Ok(builder.build()?)
}

/// Refuses what this build does not know, without showing the rest of a URL that may hold a
/// password.
fn check_scheme(url: &str) -> Outcome<()> {
    let built: Vec<_> = SCHEMES.iter().filter(|(_, built)| *built).map(|(name, _)| *name).collect();
    let known = format!("this build has {}", list(&built));
    let scheme = url.split_once(':').map(|(scheme, _)| scheme);
    match SCHEMES.iter().find(|(name, _)| Some(*name) == scheme) {
        Some((_, true)) => Ok(()),
        Some((name, false)) => {
            let message = format!("this build of tenure does not know {name}: stores");
            Err(Failure::from_store(message).help(known))
        }
        None => Err(Failure::from_store("this is not the URL of a store").help(known)),
    }
}

fn list(schemes: &[&str]) -> String {
    let urls: Vec<_> = schemes.iter().map(|scheme| format!("{scheme}:")).collect();
    match urls.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => "no stores".to_owned(),
    }
}

impl Failure {
    fn from_store(message: impl Into<String>) -> Box<Self> {
        Error::new(ErrorKind::Invalid, message.into()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::code;

    #[test]
    fn other_stores_are_refused_without_showing_their_passwords() {
        for url in
            ["redis://u:hunter2@host", "postgres://u:hunter2@h/d", "host=h password=hunter2", ""]
        {
            let failure = open(url, None).unwrap_err();
            assert_eq!(failure.code, code::USAGE, "{url}");
            assert!(!format!("{failure:?}").contains("hunter2"));
        }
        let failure = open("redis://host", None).unwrap_err();
        assert_eq!(failure.message, "this build of tenure does not know redis: stores");
    }
}
