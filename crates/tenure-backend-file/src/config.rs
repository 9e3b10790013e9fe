//! Where the locks are kept and how.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use tenure_core::{Error, ErrorKind, Result};

const KNOWN: &str = "durable, shared, liveness, unverified_fs";

/// How it is found out that a holder is dead.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Liveness {
    /// At once where the kernel proves that its process is gone, otherwise by its ttl.
    #[default]
    Kernel,
    /// By its ttl alone: for virtual machines that are cloned from one snapshot and share a
    /// directory, which look like one host.
    Ttl,
}

/// Where a [`FileBackend`](crate::FileBackend) keeps its locks, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileConfig {
    pub(crate) path: PathBuf,
    pub(crate) durable: bool,
    pub(crate) shared: bool,
    pub(crate) liveness: Liveness,
    pub(crate) unverified_fs: bool,
}

impl FileConfig {
    /// Locks in the directory `path`, which is made if it is not there; everything else as it is
    /// by default.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            durable: false,
            shared: false,
            liveness: Liveness::default(),
            unverified_fs: false,
        }
    }

    /// Reads `file:///directory?durable=true&shared=true&liveness=ttl&unverified_fs=true`.
    ///
    /// A path relative to the working directory is written `file:directory`. Bytes may be written
    /// as `%2F`.
    ///
    /// # Errors
    /// `Invalid` if it is another scheme, names a host or an unknown parameter, or has no path.
    pub fn from_url(url: &str) -> Result<Self> {
        let rest = url.strip_prefix("file:").ok_or_else(|| invalid("its scheme is not `file:`"))?;
        if rest.contains('#') {
            return Err(invalid("it has a fragment; write `#` in a path as `%23`"));
        }
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, query),
            None => (rest, ""),
        };
        let path = match path.strip_prefix("//") {
            None => path,
            Some(rest) => match rest.find('/') {
                Some(0) => rest,
                Some(at) if &rest[..at] == "localhost" => &rest[at..],
                _ => {
                    return Err(invalid(
                        "it names a host; a path is written `file:///path` or, relative to the \
                         working directory, `file:path`",
                    ));
                }
            },
        };
        if path.is_empty() {
            return Err(invalid("it has no path"));
        }
        let path = unescape(path).ok_or_else(|| invalid("a `%` is not followed by two digits"))?;
        if path.contains(&0) {
            return Err(invalid("its path has a zero byte"));
        }
        let mut config = Self::new(OsString::from_vec(path));
        let mut said = Vec::new();
        for pair in query.split('&').filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, "true"));
            if said.contains(&key) {
                return Err(invalid(format!("it has the parameter {key:?} twice")));
            }
            said.push(key);
            match key {
                "durable" => config.durable = switch(key, value)?,
                "shared" => config.shared = switch(key, value)?,
                "unverified_fs" => config.unverified_fs = switch(key, value)?,
                "liveness" => {
                    config.liveness = match value {
                        "kernel" => Liveness::Kernel,
                        "ttl" => Liveness::Ttl,
                        _ => return Err(invalid("`liveness` is `kernel` or `ttl`")),
                    }
                }
                _ => {
                    return Err(invalid(format!("it has no parameter {key:?}; known are {KNOWN}")));
                }
            }
        }
        Ok(config)
    }

    /// Whether every transition survives a loss of power: costs about ten times the time. Without
    /// it locks exclude each other all the same, and those of the last seconds before a loss of
    /// power may be forgotten.
    #[must_use]
    pub fn durable(mut self, durable: bool) -> Self {
        self.durable = durable;
        self
    }

    /// Whether other users work in the same directory. Whoever can write there can then end and
    /// take every lock in it.
    #[must_use]
    pub fn shared(mut self, shared: bool) -> Self {
        self.shared = shared;
        self
    }

    /// How it is found out that a holder is dead.
    #[must_use]
    pub fn liveness(mut self, liveness: Liveness) -> Self {
        self.liveness = liveness;
        self
    }

    /// Whether to work on a file system that is not known to move names atomically.
    #[must_use]
    pub fn unverified_fs(mut self, unverified: bool) -> Self {
        self.unverified_fs = unverified;
        self
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn switch(key: &str, value: &str) -> Result<bool> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(invalid(format!("`{key}` is `true` or `false`"))),
    }
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            plain.push(byte);
            continue;
        }
        let high = char::from(bytes.next()?).to_digit(16)?;
        let low = char::from(bytes.next()?).to_digit(16)?;
        plain.push(u8::try_from(high << 4 | low).ok()?);
    }
    Some(plain)
}

fn invalid(what: impl AsRef<str>) -> Error {
    Error::new(
        ErrorKind::Invalid,
        format!("the address of a lock directory is not understood: {}", what.as_ref()),
    )
    .with_help("for example `file:///var/lib/my-service/locks?durable=true`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(url: &str) -> PathBuf {
        FileConfig::from_url(url).unwrap().path
    }

    #[test]
    fn paths_are_absolute_relative_and_escaped() {
        assert_eq!(path("file:///var/locks"), Path::new("/var/locks"));
        assert_eq!(path("file:/var/locks"), Path::new("/var/locks"));
        assert_eq!(path("file://localhost/var/locks"), Path::new("/var/locks"));
        assert_eq!(path("file:locks"), Path::new("locks"));
        assert_eq!(path("file:./my%20locks%3F"), Path::new("./my locks?"));
    }

    #[test]
    fn parameters_are_read() {
        let config = FileConfig::from_url(
            "file:///x?durable=true&shared=true&liveness=ttl&unverified_fs=true",
        )
        .unwrap();
        let expected = FileConfig::new("/x")
            .durable(true)
            .shared(true)
            .liveness(Liveness::Ttl)
            .unverified_fs(true);
        assert_eq!(config, expected);
        assert_eq!(FileConfig::from_url("file:///x?durable=false").unwrap(), FileConfig::new("/x"));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for bad in [
            "redis://x",
            "file:",
            "file://",
            "file://locks",
            "file://host/locks",
            "file:///x?durable=1",
            "file:///x?liveness=pid",
            "file:///x?shared=true&shared=false",
            "file:///x#y",
            "file:///%zz",
            "file:///a%00b",
        ] {
            let error = FileConfig::from_url(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{bad}");
        }
        let error = FileConfig::from_url("file:///x?durabel=true").unwrap_err();
        assert!(error.message().contains("durable"), "{error}");
    }
}
