//! From a store's URL to a manager.

use std::path::PathBuf;
use std::sync::Arc;

use tenure_core::backend::DynBackend;
use tenure_core::{Error, ErrorKind, LockManager, Result};

/// Connects to the store at `url` and makes a manager of its locks.
///
/// - `file:///dir`: a directory; `?durable=true`, `?shared=true`, `?liveness=ttl`
/// - `redis://…`, `rediss://…`, `redis+unix://…`, `redis+sentinel://…`, `redis+cluster://…`,
///   `rediss+sentinel://…`, `rediss+cluster://…`: Redis
/// - `redlock://a,b,c`, `redlocks://a,b,c`: a majority of independent Redis servers; `?max_ttl=60s`
/// - `postgres://…`, `postgresql://…`, `host=… dbname=…`: a lease table on a PostgreSQL server;
///   `postgres+advisory://…`: its session advisory locks
/// - `memory:`: this process
/// - `off:`: grants everything, locks nothing
///
/// # Errors
/// `Invalid` for a URL that names no store this build knows; what the store fails with.
pub async fn connect(url: &str) -> Result<LockManager> {
    LockManager::new(open(url)?)
}

/// Opens the store at `url`, for a manager with options: [`LockManager::builder`].
///
/// # Errors
/// As [`connect`].
pub fn open(url: &str) -> Result<Arc<dyn DynBackend>> {
    #[cfg(feature = "postgres")]
    if tenure_backend_postgres::is_connection_string(url) {
        return tenure_backend_postgres::open(url);
    }
    let scheme = url.split(':').next().unwrap_or_default();
    match scheme {
        #[cfg(feature = "memory")]
        "memory" => bare(url, "memory:")
            .map(|()| Arc::new(tenure_backend_memory::MemoryBackend::new()) as _),
        #[cfg(feature = "memory")]
        "off" => {
            bare(url, "off:").map(|()| Arc::new(tenure_backend_memory::OffBackend::new()) as _)
        }
        #[cfg(feature = "file")]
        "file" => {
            let config = tenure_backend_file::FileConfig::from_url(url)?;
            let clock = Arc::new(tenure_core::clock::SystemClock);
            Ok(Arc::new(tenure_backend_file::FileBackend::open(&config, clock)?))
        }
        #[cfg(feature = "redis")]
        "redis" | "rediss" | "redis+unix" | "redis+sentinel" | "redis+cluster"
        | "rediss+sentinel" | "rediss+cluster" => {
            Ok(Arc::new(tenure_backend_redis::RedisBackend::open(url)?))
        }
        #[cfg(feature = "redlock")]
        "redlock" | "redlocks" => {
            use tenure_backend_quorum::QuorumBackend;
            let (voters, longest) = tenure_backend_redis::RedisVoter::all_of(url)?;
            let longest =
                longest.unwrap_or(QuorumBackend::<tenure_backend_redis::RedisVoter>::MAX_TTL);
            Ok(Arc::new(QuorumBackend::new("redlock", voters, longest)?))
        }
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" | "postgres+advisory" | "postgresql+advisory" => {
            tenure_backend_postgres::open(url)
        }
        _ => Err(Error::new(ErrorKind::Invalid, "this URL names no store that this build knows")
            .with_help(format!("known are {}", known().join(", ")))),
    }
}

/// What the URLs of this build look like.
fn known() -> Vec<&'static str> {
    [
        (cfg!(feature = "file"), &["file:///dir"][..]),
        (
            cfg!(feature = "redis"),
            &["redis://host", "redis+sentinel://host/service", "redis+cluster://host"],
        ),
        (cfg!(feature = "redlock"), &["redlock://a,b,c"]),
        (cfg!(feature = "redis-tls"), &["rediss://host and the like"]),
        (cfg!(feature = "postgres"), &["postgres://host/db", "postgres+advisory://host/db"]),
        (cfg!(feature = "memory"), &["memory:", "off:"]),
    ]
    .into_iter()
    .filter(|(built, _)| *built)
    .flat_map(|(_, urls)| urls.iter().copied())
    .collect()
}

/// The URL of the store that is used when none is named: a directory of this user's.
///
/// `$XDG_STATE_HOME/tenure/locks`, or `~/.local/state/tenure/locks`; for root
/// `/var/lib/tenure/locks`.
///
/// # Errors
/// `Invalid` if the environment names no home directory.
pub fn default_store() -> Result<String> {
    let dir = default_dir().ok_or_else(|| {
        Error::new(ErrorKind::Invalid, "there is no home directory to keep locks in")
            .with_help("set HOME, or name a store with --store or TENURE_STORE")
    })?;
    Ok(format!("file://{}", dir.display()))
}

fn default_dir() -> Option<PathBuf> {
    let absolute =
        |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(state) = absolute("XDG_STATE_HOME") {
        return Some(state.join("tenure/locks"));
    }
    if is_root() {
        return Some(PathBuf::from("/var/lib/tenure/locks"));
    }
    absolute("HOME").map(|home| home.join(".local/state/tenure/locks"))
}

#[cfg(unix)]
fn is_root() -> bool {
    // The owner of this process, as its own entry in /proc says; without /proc nobody is root.
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0)
}

#[cfg(not(unix))]
fn is_root() -> bool {
    false
}

#[cfg(feature = "memory")]
fn bare(url: &str, whole: &str) -> Result<()> {
    if url == whole {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Invalid, format!("`{whole}` takes nothing behind the colon")))
}
