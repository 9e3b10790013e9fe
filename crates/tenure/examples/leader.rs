//! One leader among candidates, and everybody who asks knows where it is.

use tenure::recipes::Election;

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let locks = tenure::connect(&format!("file://{}", dir.path().display())).await?;
    let election = Election::new(&locks, "scheduler")?
        .owner("host-7")
        .on_started_leading(|lock| println!("term {} begins", lock.fencing_token()))
        .on_stopped_leading(|term, why| println!("term {term} is over: {why}"));

    // Campaigns again whenever the term is lost; the work is dropped then.
    let jobs = election
        .run(async |leadership| {
            leadership.proclaim("10.0.0.7:9000").await?;
            let leader = election.leader().await?.expect("we lead");
            assert_eq!(leader.term, leadership.term());
            let at = leader.value.as_deref().map(String::from_utf8_lossy);
            println!("{} leads at {at:?}", leader.owner);
            Ok::<_, tenure::Error>(42) // ends the term
        })
        .await??;
    println!("{jobs} jobs scheduled");
    Ok(())
}
