//! No more than three at a time, however many processes there are.

use std::time::Duration;

use tenure::recipes::Semaphore;

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let locks = tenure::connect(&format!("file://{}", dir.path().display())).await?;
    let uploads = Semaphore::new(&locks, "uploads", 3)?;

    let small = uploads.acquire().await?;
    let large = uploads.acquire_many_within(2, Duration::from_secs(10)).await?;
    assert!(uploads.try_acquire().await?.is_none(), "all three are taken");
    println!("{} of {} are free", uploads.available().await?, uploads.permits());

    large.release().await?;
    drop(small); // gives it back, too
    Ok(())
}
