//! A file that refuses whoever comes late: the other half of safety, at what the lock protects.

use std::error::Error;
use std::time::Duration;

use tenure::ErrorKind;
use tenure::recipes::fenced_file::FencedFile;

const TTL: Duration = Duration::from_secs(30);

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let store = format!("file://{}", dir.path().join("locks").display());
    let locks = tenure::connect(&store).await?;
    let report = FencedFile::new(dir.path().join("report.txt"));

    // A holder that somebody takes for dead. It is only slow, and still believes in its lock.
    let old = locks.acquire("report", TTL).await?;
    let its_number = old.fencing_token();
    locks.force_release("report", Some(its_number), "it seems to hang").await?;

    let new = locks.acquire("report", TTL).await?;
    report.write(new.fencing_token(), b"by the new holder")?;

    let late = report.write(its_number, b"by the old holder").expect_err("it comes too late");
    assert_eq!(ErrorKind::Lost, late.kind());
    println!("refused: {late}");
    assert_eq!(b"by the new holder", std::fs::read(report.path())?.as_slice());
    new.release().await?;
    Ok(())
}
