//! Each partition is compacted by one worker at a time; who comes second goes on to the next.

use tenure::Error;
use tenure::recipes::Compaction;

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let locks = tenure::connect(&format!("file://{}", dir.path().display())).await?;
    let compaction = Compaction::new(&locks);
    for partition in 0..3 {
        let freed = compaction
            .compact_partition(partition, async |lock| {
                println!("compacting {} as {}", lock.name(), lock.fencing_token());
                Ok::<_, Error>(4096 * partition)
            })
            .await?;
        match freed {
            Some(bytes) => println!("{bytes} bytes freed"),
            None => println!("another worker is at it"),
        }
    }
    Ok(())
}
