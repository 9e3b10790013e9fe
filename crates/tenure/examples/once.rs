//! A rebuild that several processes ask for at once: one does it, all get its result.
//!
//! ```text
//! for i in 1 2 3; do cargo run -p tenure --example once -- /tmp/locks math & done; wait
//! ```
//!
//! Kill the one that rebuilds: another takes over at once.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tenure::recipes::once::{Fingerprint, IdempotencyConfig, Key, Once};

#[derive(Debug, Serialize, Deserialize)]
struct Rebuilt {
    questions: u32,
    by: u32,
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let own = tempfile::tempdir()?;
    let mut arguments = std::env::args().skip(1).skip_while(|argument| !argument.starts_with('/'));
    let directory = arguments.next().map_or_else(|| own.path().to_owned(), PathBuf::from);
    let namespace = arguments.next().unwrap_or_else(|| "math".to_owned());
    let locks = tenure::connect(&format!("file://{}", directory.display())).await?;
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
                locks.sleep_until(locks.clock().now().plus(Duration::from_millis(300))).await;
                Ok::<_, std::io::Error>(Rebuilt { questions: 175, by: std::process::id() })
            }
        })
        .await?;
    println!("{:?}: {:?}, attempt {}", outcome.source, outcome.value, outcome.attempt);
    Ok(())
}
