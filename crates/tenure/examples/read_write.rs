//! Readers together, a writer alone; and from one to the other without letting go in between.

use tenure::recipes::RwLock;

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let locks = tenure::connect(&format!("file://{}", dir.path().display())).await?;
    let table = RwLock::new(&locks, "tables/orders")?;

    let reader = table.read().await?;
    let other = table.upgradable_read().await?;
    assert!(table.try_write().await?.is_none(), "somebody reads");
    reader.release().await?;

    // Everybody else has left: the reader becomes the writer.
    let writer = other.upgrade(None).await?;
    println!("I write with fencing token {}", writer.fencing_token());

    // And a reader again, together with others.
    let reader = writer.downgrade().await?;
    table.read().await?.release().await?;
    reader.release().await?;
    Ok(())
}
