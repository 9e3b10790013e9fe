//! A thousand waiters, and a holder that dies.

use std::sync::Arc;
use std::time::Duration;

use tenure_core::LockManager;
use tenure_testkit::lock_taker::Doing;
use tokio::sync::{mpsc, oneshot};

use crate::stage::{LONG, SHORT, Stage, X, a_holder, now};

const WAITERS: usize = 1000;
/// Over how many managers they are spread, as over processes.
const MANAGERS: usize = 10;
/// What all of them together may take.
const ALL: Duration = Duration::from_secs(60);

#[test]
fn a_thousand_waiters_get_the_lock_of_a_dead_holder_one_after_the_other_in_their_order() {
    let stage = Stage::new();
    let mut fleet = stage.fleet(0);
    let holder = a_holder(&mut fleet, stage.direct(SHORT * 4));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let order = runtime.block_on(async {
        let managers: Vec<LockManager> = (0..MANAGERS).map(|_| stage.bystander()).collect();
        let (told, mut order) = mpsc::unbounded_channel();
        for n in 0..WAITERS {
            let (queued, is_queued) = oneshot::channel();
            let queued = Arc::new(std::sync::Mutex::new(Some(queued)));
            let request = managers[n % MANAGERS].lock(X).ttl(LONG).wait_timeout(ALL * 2);
            let request = request.on_wait(move |_, _| {
                queued.lock().unwrap().take().map(|queued| queued.send(()));
            });
            let told = told.clone();
            runtime.spawn(async move {
                let guard = request.acquire().await.unwrap();
                told.send((n, guard.fencing_token().get())).unwrap();
                guard.release().await.unwrap();
            });
            // So that their order is known.
            is_queued.await.unwrap();
        }
        assert_eq!(fleet.doing(&holder).unwrap(), Doing::Holding);
        fleet.kill(&holder).unwrap();
        let killed = now();
        let mut all = Vec::new();
        let mut first = None;
        while all.len() < WAITERS {
            let next = tokio::time::timeout(ALL, order.recv()).await;
            all.push(next.expect("nobody is stuck").unwrap());
            first.get_or_insert_with(now);
        }
        let first = first.unwrap();
        println!("the first after {:?}, all {WAITERS} {:?} later", first - killed, first.elapsed());
        assert!(killed.elapsed() < ALL, "{:?}", killed.elapsed());
        all
    });
    let numbers: Vec<usize> = order.iter().map(|(n, _)| *n).collect();
    assert_eq!(numbers, (0..WAITERS).collect::<Vec<_>>());
    assert!(order.is_sorted_by(|(_, a), (_, b)| a < b), "fences rise");
    fleet.finish().unwrap();
}
