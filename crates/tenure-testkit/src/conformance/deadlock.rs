//! Those who wait for each other are found, and one of them gives way.

use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, join, select};
use tenure_core::{Actor, ErrorKind, LockGuard, LockManager, LockName, Result, Seats};

use super::Store;
use super::kit::{LONG, fresh, insist, look, until_waiting};

/// After how long a waiter looks: not at once, so that the test sees who came first.
const AFTER: Duration = Duration::from_millis(300);

async fn alert(store: &dyn Store) -> LockManager {
    let backend = store.open().await.expect("the store can be opened");
    LockManager::builder(backend).deadlock_check_after(Some(AFTER)).build().expect("it starts")
}

/// A task in a process of its own that holds a lock and is to ask for another one.
struct Task {
    locks: LockManager,
    actor: Actor,
    priority: i32,
    held: LockGuard,
}

impl Task {
    async fn holding(store: &dyn Store, name: &LockName) -> Self {
        let (locks, actor) = (alert(store).await, Actor::unique());
        let held =
            insist(store, async || locks.lock(name).actor(&actor).ttl(LONG).acquire().await).await;
        Self { locks, actor, priority: 0, held }
    }

    /// Waits for the other lock, and lets go of its own at the end, however that is.
    async fn wants(self, name: &LockName) -> Result<()> {
        let request = self.locks.lock(name).actor(&self.actor).ttl(LONG).priority(self.priority);
        let other = request.acquire().await;
        drop(self.held);
        self.locks.close(LONG).await?;
        other.map(drop)
    }
}

fn names(result: &Result<()>) -> Vec<&str> {
    let error = result.as_ref().expect_err("one that gives way");
    assert_eq!(error.kind(), ErrorKind::Deadlock, "{error}");
    error.cycle().iter().map(|wait| wait.lock.as_str()).collect()
}

/// Of two that want what the other one has the one gives way that asked last, and is told of both
/// locks; the other one goes on.
pub async fn of_two_that_cross_the_last_gives_way(store: &dyn Store) {
    let (a, b) = (fresh("deadlock-a"), fresh("deadlock-b"));
    let (left, right) = (Task::holding(store, &a).await, Task::holding(store, &b).await);
    let eye = alert(store).await;
    let (first, second) = join(left.wants(&b), async {
        until_waiting(store, &eye, &b, 1).await;
        right.wants(&a).await
    })
    .await;
    assert!(first.is_ok(), "{first:?}");
    assert_eq!(names(&second), [a.as_str(), b.as_str()]);
    let text = second.expect_err("it gave way").to_string();
    assert!(text.contains(a.as_str()) && text.contains(b.as_str()), "{text}");
}

/// A lower priority gives way to a higher one that asked later.
pub async fn of_two_that_cross_the_less_urgent_gives_way(store: &dyn Store) {
    let (a, b) = (fresh("deadlock-a"), fresh("deadlock-b"));
    let (left, mut right) = (Task::holding(store, &a).await, Task::holding(store, &b).await);
    right.priority = 1;
    let eye = alert(store).await;
    let (first, second) = join(left.wants(&b), async {
        until_waiting(store, &eye, &b, 1).await;
        right.wants(&a).await
    })
    .await;
    assert!(second.is_ok(), "{second:?}");
    assert_eq!(names(&first), [b.as_str(), a.as_str()]);
}

/// Of three in a ring one gives way, told of all three locks.
pub async fn of_three_in_a_ring_one_gives_way(store: &dyn Store) {
    let ring = [fresh("deadlock-a"), fresh("deadlock-b"), fresh("deadlock-c")];
    let [one, two, three] = [0, 1, 2].map(|at| Task::holding(store, &ring[at]));
    let (one, two, three) = (one.await, two.await, three.await);
    let eye = alert(store).await;
    let (first, (second, third)) = join(one.wants(&ring[1]), async {
        until_waiting(store, &eye, &ring[1], 1).await;
        join(two.wants(&ring[2]), async {
            until_waiting(store, &eye, &ring[2], 1).await;
            three.wants(&ring[0]).await
        })
        .await
    })
    .await;
    assert!(first.is_ok() && second.is_ok(), "{first:?} {second:?}");
    assert_eq!(names(&third), [ring[0].as_str(), ring[1].as_str(), ring[2].as_str()]);
}

/// Whoever waits for a seat that somebody else can free is in no deadlock.
pub async fn whoever_waits_for_one_of_many_seats_goes_on(store: &dyn Store) {
    let (pool, b) = (fresh("deadlock-pool"), fresh("deadlock-b"));
    let permit = async |locks: &LockManager, actor: &Actor| {
        let request = || locks.lock(&pool).actor(actor).ttl(LONG).permits(1, 2);
        insist(store, async || request().acquire().await).await
    };
    let (locks, actor) = (alert(store).await, Actor::unique());
    let held = permit(&locks, &actor).await;
    let left = Task { locks, actor, priority: 0, held };
    let (free, alone) = (alert(store).await, Actor::unique());
    let second = permit(&free, &alone).await;
    let right = Task::holding(store, &b).await;
    let waits = async {
        let seat = right.locks.lock(&pool).actor(&right.actor).ttl(LONG).permits(1, 2);
        seat.acquire().await.map(drop)?;
        right.held.release().await.map_err(Into::into)
    };
    let eye = alert(store).await;
    let both = pin!(join(left.wants(&b), waits));
    // Both look several times meanwhile.
    let time = pin!(async {
        until_waiting(store, &eye, &pool, 1).await;
        until_waiting(store, &eye, &b, 1).await;
        super::kit::pause(AFTER * 8).await;
    });
    let both = match select(both, time).await {
        Either::Left((ended, _)) => panic!("nobody can have ended: {ended:?}"),
        Either::Right(((), both)) => both,
    };
    drop(second);
    let (left, right): (Result<()>, Result<()>) = both.await;
    assert!(left.is_ok() && right.is_ok(), "{left:?} {right:?}");
}

/// Whoever wants what it holds itself would wait for ever.
pub async fn whoever_waits_for_itself_gives_way(store: &dyn Store) {
    let a = fresh("deadlock-own");
    let task = Task::holding(store, &a).await;
    let child = task.actor.child().expect("a short path");
    let again = task.locks.lock(&a).actor(&child).ttl(LONG).acquire().await.map(drop);
    assert_eq!(names(&again), [a.as_str()]);
    assert!(look(&task.locks, &a).await.waiters.is_empty(), "it left the queue");
    assert!(task.held.is_valid());
}

/// An upgrade waits, too.
pub async fn an_upgrade_that_crosses_another_wait_is_found(store: &dyn Store) {
    let (a, b) = (fresh("deadlock-a"), fresh("deadlock-b"));
    let (left, mut right) = (Task::holding(store, &b).await, Task::holding(store, &a).await);
    right.held.downgrade(Seats::SHARED).await.expect("it holds all seats");
    let request = || left.locks.lock(&a).actor(&left.actor).ttl(LONG).shared();
    let mut share = insist(store, async || request().acquire().await).await;
    let eye = alert(store).await;
    let (upgraded, other) = join(share.upgrade(None), async {
        until_waiting(store, &eye, &a, 1).await;
        right.wants(&b).await
    })
    .await;
    assert!(upgraded.is_ok(), "{upgraded:?}");
    assert_eq!(names(&other), [b.as_str(), a.as_str()]);
}
