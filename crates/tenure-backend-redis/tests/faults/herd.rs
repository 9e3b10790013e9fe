//! Hundreds of waiters, and a holder that dies.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tenure_core::{Error, LockManager};
use tenure_testkit::lock_taker::Doing;
use tokio::sync::{mpsc, oneshot};

use crate::stage::{Ground, LONG, SHORT, Stage, X, a_holder, now, rounds};

/// How many wait: a thousand where there is time.
const WAITERS: (usize, usize) = (250, 1000);
/// Over how many managers they are spread, as over processes.
const MANAGERS: usize = 10;
/// What all of them together may take.
const ALL: Duration = Duration::from_secs(60);

#[test]
fn a_herd_of_waiters_gets_the_lock_of_a_dead_holder_one_after_the_other_in_their_order() {
    let count = if rounds(1) == 1 { WAITERS.0 } else { WAITERS.1 };
    let stage = Stage::new();
    let mut fleet = stage.fleet(0);
    let holder = a_holder(&mut fleet, stage.direct(SHORT * 8));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut order = runtime.block_on(async {
        let managers: Vec<LockManager> = (0..MANAGERS).map(|_| stage.bystander()).collect();
        let (told, mut order) = mpsc::unbounded_channel();
        for n in 0..count {
            let (queued, is_queued) = oneshot::channel();
            let queued = Arc::new(Mutex::new(Some(queued)));
            let request = managers[n % MANAGERS].lock(X).ttl(LONG).wait_timeout(ALL * 2);
            let request = request.on_wait(move |_, _| {
                queued.lock().take().map(|queued| queued.send(()));
            });
            let told = told.clone();
            runtime.spawn(async move {
                let round = async {
                    let guard = request.acquire().await?;
                    let fence = guard.fencing_token().get();
                    guard.release().await.map_err(Error::from)?;
                    Ok::<_, Error>((n, fence))
                };
                told.send(round.await).unwrap();
            });
            // So that their order is known.
            is_queued.await.unwrap();
        }
        assert_eq!(fleet.doing(&holder).unwrap(), Doing::Holding);
        fleet.kill(&holder).unwrap();
        let killed = now();
        let mut all = Vec::new();
        let mut first = None;
        while all.len() < count {
            let next = tokio::time::timeout(ALL, order.recv()).await;
            all.push(next.expect("nobody is stuck").unwrap().unwrap());
            first.get_or_insert_with(now);
        }
        let first = first.unwrap();
        println!("the first after {:?}, all {count} {:?} later", first - killed, first.elapsed());
        assert!(killed.elapsed() < ALL, "{:?}", killed.elapsed());
        all
    });
    let stats = stage.server.cli(&["--raw", "INFO", "commandstats"]);
    println!("{}", stats.lines().find(|line| line.contains("evalsha")).unwrap());
    order.sort_by_key(|(_, fence)| *fence);
    let granted: Vec<usize> = order.iter().map(|(n, _)| *n).collect();
    assert_eq!(granted, (0..count).collect::<Vec<_>>());
    fleet.finish().unwrap();
}
