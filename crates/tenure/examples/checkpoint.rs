//! A checkpoint at most once a minute, by whichever worker comes first.

use std::io;
use std::time::Duration;

use tenure::recipes::{CheckpointCoordinator, Checkpointed};

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let locks = tenure::connect(&format!("file://{}", dir.path().join("locks").display())).await?;
    let (minute, path) = (Duration::from_secs(60), dir.path().join("checkpoints"));
    let coordinator =
        CheckpointCoordinator::new(&locks, minute, path.display().to_string())?.retain(3);

    for worker in 1..=2 {
        let checkpointed = coordinator
            .create_checkpoint(async |job| {
                std::fs::create_dir_all(job.path())?;
                std::fs::write(format!("{}/state", job.path()), "the state")?;
                for old in job.obsolete() {
                    match std::fs::remove_dir_all(&old.path) {
                        Err(error) if error.kind() != io::ErrorKind::NotFound => {
                            return Err(error.into());
                        }
                        _ => {}
                    }
                }
                Ok::<_, Box<dyn std::error::Error>>(())
            })
            .await?;
        match checkpointed {
            Checkpointed::Made(made) => println!("worker {worker} made {}", made.path),
            recent => println!("worker {worker} found {}", recent.checkpoint().path),
        }
    }
    Ok(())
}
