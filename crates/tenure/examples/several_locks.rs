//! All of several locks or none, in one order for everybody.

use tenure::recipes::MultiLock;

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let locks = tenure::connect(&format!("file://{}", dir.path().display())).await?;
    let transfer = MultiLock::new(&locks, ["accounts/7", "accounts/3"])?;

    let both = transfer.acquire().await?;
    println!("moving money under {:?}", both.fencing_token("accounts/3"));
    let moved = async { "moved" };
    tokio::select! {
        biased;
        lost = both.lost() => return Err(lost.into()), // says which, and why
        done = moved => println!("{done}"),
    }
    both.release().await?;
    Ok(())
}
