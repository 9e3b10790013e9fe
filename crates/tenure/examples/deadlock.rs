//! Two tasks take two locks in opposite order: one of them gives way, told who waits for whom, and
//! begins again.

use std::error::Error;
use std::time::Duration;

use tenure::{Actor, ErrorKind, LockManager};

/// Holds one lock and wants another. Whoever has to give way lets go of everything, and begins again.
async fn task(locks: &LockManager, first: &str, then: &str) -> tenure::Result<u32> {
    let mut given_way = 0;
    loop {
        let actor = Actor::unique();
        let held = locks.lock(first).actor(&actor).acquire().await?;
        locks.sleep_until(locks.clock().now().plus(Duration::from_millis(50))).await;
        match locks.lock(then).actor(&actor).acquire().await {
            Ok(both) => {
                both.release().await?;
                held.release().await?;
                return Ok(given_way);
            }
            Err(error) if error.kind() == ErrorKind::Deadlock => {
                for wait in error.cycle() {
                    println!("{wait}");
                }
                held.release().await?;
                given_way += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let store = tenure::open(&format!("file://{}", dir.path().display()))?;
    let soon = Some(Duration::from_millis(200)); // a second, if not said
    let locks = LockManager::builder(store).deadlock_check_after(soon).build()?;
    let (left, right) = tokio::join!(task(&locks, "a", "b"), task(&locks, "b", "a"));
    assert!(1 <= left? + right?, "one of them gave way");
    Ok(())
}
