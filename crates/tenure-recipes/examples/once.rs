//! A slow rebuild that several processes ask for: start this a few times at once.
//!
//! ```text
//! for i in 1 2 3; do cargo run -p tenure-recipes --example once -- /tmp/locks math & done; wait
//! ```
//!
//! One process rebuilds, all print the same result. Kill the one that rebuilds: another takes over at once.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tenure_backend_file::{FileBackend, FileConfig};
use tenure_core::LockManager;
use tenure_core::clock::SystemClock;
use tenure_recipes::once::{Fingerprint, IdempotencyConfig, Key, Once};

#[derive(Debug, Serialize, Deserialize)]
struct Rebuilt {
    questions: u32,
    by: u32,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().unwrap_or_else(|| "/tmp/tenure-example".to_owned());
    let namespace = arguments.next().unwrap_or_else(|| "math".to_owned());
    let store = FileBackend::open(&FileConfig::new(directory), Arc::new(SystemClock))?;
    let locks = LockManager::new(Arc::new(store))?;
    let config = IdempotencyConfig::new("vector_rebuild")
        .ttl(Duration::from_secs(30))
        .wait_timeout(Duration::from_secs(60));
    let once = Once::new(locks.clone(), config)?;
    let outcome = once
        .run(Key::new("rebuild").part(&namespace), Fingerprint::NONE, |attempt| {
            let locks = locks.clone();
            async move {
                let (number, fence) = (attempt.number(), attempt.fencing_token());
                println!("attempt {number} rebuilds, under fencing token {fence}");
                locks.sleep_until(locks.clock().now().plus(Duration::from_secs(3))).await;
                Ok::<_, std::io::Error>(Rebuilt { questions: 175, by: std::process::id() })
            }
        })
        .await?;
    println!("{:?}: {:?}, attempt {}", outcome.source, outcome.value, outcome.attempt);
    Ok(())
}
