//! Which store keeps a lock, and how it is opened.

use tenure::{Error, ErrorKind, LockManager, Owner};

use crate::config::{Config, Place};
use crate::failure::{Failure, Outcome, code};
use crate::output::text::shortened;

/// The stores that this machine knows of, by `--store`, environment and `tenure.toml`.
#[derive(Debug)]
pub(crate) struct Stores {
    /// Said by flag or environment: stands above all routes.
    explicit: Option<String>,
}

/// What a store's URL begins with, and whether this build has it.
const SCHEMES: [(&str, bool); 20] = [
    ("file", cfg!(feature = "file")),
    ("memory", cfg!(feature = "memory")),
    ("off", cfg!(feature = "memory")),
    ("redis", cfg!(feature = "redis")),
    ("rediss", cfg!(feature = "redis-tls")),
    ("redis+unix", cfg!(feature = "redis")),
    ("redis+sentinel", cfg!(feature = "redis")),
    ("redis+cluster", cfg!(feature = "redis")),
    ("rediss+sentinel", cfg!(feature = "redis-tls")),
    ("rediss+cluster", cfg!(feature = "redis-tls")),
    ("redlock", cfg!(feature = "redlock")),
    ("redlocks", cfg!(all(feature = "redlock", feature = "redis-tls"))),
    ("postgres", cfg!(feature = "postgres")),
    ("postgresql", cfg!(feature = "postgres")),
    ("postgres+advisory", cfg!(feature = "postgres")),
    ("postgresql+advisory", cfg!(feature = "postgres")),
    ("etcd", false),
    ("github", false),
    ("http", false),
    ("https", false),
];

impl Stores {
    /// An empty address is refused: where it stands for a variable that is not set, every host would
    /// have the lock in a directory of its own.
    pub(crate) fn new(explicit: Option<String>) -> Outcome<Self> {
        if explicit.as_ref().is_some_and(String::is_empty) {
            return Err(Failure::usage("the store's address is empty").help(
                "is a variable of your own not set? For the configured store, or the default \
                 directory, leave `--store` and TENURE_STORE out",
            ));
        }
        Ok(Self { explicit })
    }

    /// The store that keeps the lock `name`.
    pub(crate) fn of(&self, name: &str, config: &Config) -> Outcome<Place> {
        if let Some(url) = &self.explicit {
            return Ok(Place { url: url.clone(), said_at: None });
        }
        if let Some(route) = config.route(name) {
            return Ok(route.store.clone());
        }
        match &config.store {
            Some(place) => Ok(place.clone()),
            None => Ok(Place { url: tenure::default_store()?, said_at: None }),
        }
    }

    /// All stores that keep locks whose names begin with `prefix`.
    pub(crate) fn under(&self, prefix: &str, config: &Config) -> Outcome<Vec<Place>> {
        let mut places = vec![self.of(prefix, config)?];
        if self.explicit.is_some() {
            return Ok(places);
        }
        let longer = config.routes().iter().filter(|route| route.prefix.starts_with(prefix));
        for route in longer {
            if places.iter().all(|known| known.url != route.store.url) {
                places.push(route.store.clone());
            }
        }
        Ok(places)
    }
}

/// Opens the store at `place`; what is held through it is owned by `owner`.
pub(crate) fn open(place: &Place, owner: Option<&str>) -> Outcome<LockManager> {
    open_url(&place.url, owner).map_err(|mut failure| {
        if failure.store.is_none() {
            failure.store = shown(&place.url);
        }
        if let Some(said_at) = &place.said_at
            && failure.kind == ErrorKind::Invalid.as_str()
        {
            failure.code = code::CONFIG;
            failure.kind = "config";
            failure.message = format!("{said_at}: {}", failure.message);
        }
        failure
    })
}

fn open_url(url: &str, owner: Option<&str>) -> Outcome<LockManager> {
    check_scheme(url)?;
    if url == "memory:" {
        tracing::warn!(
            "the locks of this store (memory:) end with this process, and no other sees them"
        );
    }
    let mut builder = LockManager::builder(tenure::open(url)?);
    if let Some(owner) = owner {
        builder = builder.owner(Owner::labelled(owner)?);
    }
    Ok(builder.build()?)
}

/// As much of a URL as holds no password; `None` if that is nothing.
pub(crate) fn shown(url: &str) -> Option<String> {
    const SHOWN: usize = 200;
    let plain = |text: &str| text.chars().all(|c| c.is_alphanumeric() || "+-._/~".contains(c));
    match url.split_once(':') {
        Some(("file" | "memory" | "off", _)) => Some(shortened(url, SHOWN)),
        Some((scheme, _)) if plain(scheme) => Some(shortened(&format!("{scheme}:…"), SHOWN)),
        None if plain(url) => Some(shortened(url, SHOWN)),
        _ => None,
    }
    .filter(|shown| !shown.is_empty())
}

/// Refuses what this build does not know, without showing the rest of a URL that may hold a
/// password.
fn check_scheme(url: &str) -> Outcome<()> {
    let built: Vec<_> = SCHEMES.iter().filter(|(_, built)| *built).map(|(name, _)| *name).collect();
    let known = format!("this build has {}", list(&built));
    #[cfg(feature = "postgres")]
    if tenure::postgres::is_connection_string(url) {
        return Ok(());
    }
    let scheme = url.split_once(':').map(|(scheme, _)| scheme);
    match SCHEMES.iter().find(|(name, _)| Some(*name) == scheme) {
        Some((_, true)) => Ok(()),
        Some((name, false)) => {
            let message = format!("this build of tenure does not know {name}: stores");
            Err(Failure::from_store(message).help(known))
        }
        None => {
            let path =
                shown(url).filter(|path| *path == url && url.contains('/') && scheme.is_none());
            let help = match path {
                Some(path) if path.starts_with('/') => format!("write `file://{path}`; {known}"),
                Some(path) if !path.starts_with('~') => format!("write `file:{path}`; {known}"),
                _ => known,
            };
            Err(Failure::from_store("this is not the URL of a store").help(help))
        }
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

    fn refused(url: &str) -> Box<Failure> {
        open(&Place { url: url.to_owned(), said_at: None }, None).unwrap_err()
    }

    #[test]
    fn other_stores_are_refused_without_showing_their_passwords() {
        for url in
            ["etcd://u:hunter2@host", "github://u:hunter2@h/d", "hostess=h password=hunter2", ""]
        {
            let failure = refused(url);
            assert_eq!(failure.code, code::USAGE, "{url}");
            assert!(!format!("{failure:?}").contains("hunter2"));
        }
        let failure = refused("etcd://host");
        assert_eq!(failure.message, "this build of tenure does not know etcd: stores");
        assert_eq!(failure.store.as_deref(), Some("etcd:…"));
    }

    #[test]
    fn a_path_is_told_how_to_become_a_url() {
        for (path, url) in [("/tmp/foo", "`file:///tmp/foo`"), ("./foo/a", "`file:./foo/a`")] {
            assert!(refused(path).help.unwrap().contains(url), "{path}");
        }
        assert!(!refused("hostess=h password=hunter2/a").help.unwrap().contains("write"));
    }

    #[test]
    fn a_bad_store_in_a_file_is_a_mistake_of_that_file() {
        let place = Place { url: "/tmp/foo".into(), said_at: Some("tenure.toml: line 3".into()) };
        let failure = open(&place, None).unwrap_err();
        assert_eq!((failure.code, failure.kind), (code::CONFIG, "config"));
        assert_eq!(failure.message, "tenure.toml: line 3: this is not the URL of a store");
        assert_eq!(failure.store.as_deref(), Some("/tmp/foo"));
    }
}
