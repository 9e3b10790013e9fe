//! From a store's URL to what a look at its deployment finds.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tenure_core::{Finding, Result};

/// Makes the command of a worker process, for stores that are measured by several processes: one
/// that calls `tenure::file::probe::work` with the same directory, role and number, and ends then.
pub type Worker<'a> = &'a (dyn Fn(&Path, &str, u32) -> Command + Send + Sync);

/// Looks at the store at `url` and measures it, each as its own crate knows how; takes about a
/// second. Nothing is found of stores where there is nothing to measure.
///
/// `ttl` is that of the locks which are to live there. A store of files is measured only with a
/// `worker`; others need none. Needs a tokio runtime with time and I/O, and blocks it on a store of
/// files.
///
/// ```no_run
/// # async fn look() -> tenure::Result<()> {
/// let ttl = std::time::Duration::from_secs(30);
/// for finding in tenure::examine("redis://localhost:6379", ttl, None).await? {
///     println!("{} {:?}: {}", finding.what, finding.standing, finding.detail);
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// As [`open`](crate::open), and what the store fails with when it is looked at. A deployment that
/// does not do what locks need is a [`Finding`], not an error.
pub async fn examine(url: &str, ttl: Duration, worker: Option<Worker<'_>>) -> Result<Vec<Finding>> {
    #[cfg(feature = "postgres")]
    if tenure_backend_postgres::is_connection_string(url) {
        return tenure_backend_postgres::examine(url, ttl).await;
    }
    match url.split(':').next().unwrap_or_default() {
        #[cfg(feature = "file")]
        "file" => {
            let config = tenure_backend_file::FileConfig::from_url(url)?;
            match worker {
                Some(worker) => tenure_backend_file::probe::measure(config.path(), worker),
                None => Ok(Vec::new()),
            }
        }
        #[cfg(feature = "redis")]
        "redis" | "rediss" | "redis+unix" | "redis+sentinel" | "redis+cluster"
        | "rediss+sentinel" | "rediss+cluster" => {
            tenure_backend_redis::RedisBackend::open(url)?.examine(ttl).await
        }
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" | "postgres+advisory" | "postgresql+advisory" => {
            tenure_backend_postgres::examine(url, ttl).await
        }
        #[cfg(feature = "redlock")]
        "redlock" | "redlocks" => {
            use tenure_backend_quorum::QuorumBackend;
            let longest = QuorumBackend::<tenure_backend_redis::RedisVoter>::MAX_TTL;
            tenure_backend_redis::examine_voters(url, longest).await
        }
        _ => {
            let _ = (ttl, worker);
            Ok(Vec::new())
        }
    }
}
