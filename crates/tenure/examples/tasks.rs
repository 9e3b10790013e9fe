//! Each task is done once, whoever claims it; a worker that dies is replaced.

use tenure::Error;
use tenure::recipes::{RanTask, TaskQueue};

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let locks = tenure::connect(&format!("file://{}", dir.path().display())).await?;
    let tasks = TaskQueue::new(&locks)?.max_attempts(3);
    for worker in 1..=2 {
        let ran = tasks
            .run_task("invoice-42", async |task| {
                println!("attempt {} under {}", task.attempt(), task.fencing_token());
                Ok::<_, Error>("sent")
            })
            .await?;
        match ran {
            RanTask::Ran(result) => println!("worker {worker}: {result}"),
            RanTask::Done(done) => println!("worker {worker}: done by {}", done.by),
            RanTask::GivenUp { attempts } => println!("given up after {attempts} attempts"),
            _ => println!("worker {worker}: another one is at it"),
        }
    }
    Ok(())
}
