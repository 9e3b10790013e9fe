//! Every future of the manager, dropped at every point at which it can be, leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::sync::Arc;
use std::time::Duration;

use tenure_backend_memory::{Failure, MemoryBackend, Operation};
use tenure_core::backend::DynBackend;
use tenure_core::{ErrorKind, LockGuard, LockManager, Seats, View};
use tenure_testkit::cancel::{Polled, Yielding, polled};
use tenure_testkit::scripted_register::{Judge, ScriptedRegister};

const TTL: Duration = Duration::from_secs(60);
/// More points than any future here has; reaching it means that one never ends.
const MOST_POINTS: usize = 200;

/// Two processes over one store: one whose futures are dropped, one that looks.
struct Scene {
    mine: LockManager,
    other: LockManager,
}

impl Scene {
    fn block<T>(future: impl Future<Output = T>) -> T {
        futures_lite::future::block_on(future)
    }

    /// What is left when the janitor has nothing more to do.
    fn look(&self) -> View {
        Self::block(async {
            self.mine.close(Duration::from_secs(10)).await.unwrap();
            self.other.inspect("x").await.unwrap()
        })
    }

    fn assert_nothing_left(&self, point: usize) {
        let view = self.look();
        assert!(!view.is_locked() && view.waiters.is_empty(), "dropped at {point}: {view:?}");
        let free = Self::block(self.other.try_acquire("x", TTL)).unwrap();
        Self::block(free.expect("it is free").release()).unwrap();
    }

    fn mine(&self) -> LockGuard {
        Self::block(self.mine.acquire("x", TTL)).unwrap()
    }
}

type MakeScene = Box<dyn Fn() -> Scene>;

fn scenes() -> Vec<(&'static str, MakeScene)> {
    fn scene(backends: [Arc<dyn DynBackend>; 2]) -> Scene {
        let [mine, other] = backends.map(|backend| {
            LockManager::new(Arc::new(Yielding::new(backend))).expect("a manager starts")
        });
        Scene { mine, other }
    }
    fn scripted(register: &ScriptedRegister) -> Scene {
        scene([Arc::new(register.backend()), Arc::new(register.backend())])
    }
    vec![
        (
            "memory",
            Box::new(|| {
                let backend = Arc::new(MemoryBackend::new());
                scene([backend.clone(), backend])
            }),
        ),
        (
            "memory that loses the answer of a withdrawal",
            Box::new(|| {
                let backend = Arc::new(MemoryBackend::new());
                backend.failures().once(Operation::Withdraw, Failure::LostReply);
                scene([backend.clone(), backend])
            }),
        ),
        ("store clock", Box::new(|| scripted(&ScriptedRegister::new(Judge::StoreClock)))),
        ("observers", Box::new(|| scripted(&ScriptedRegister::new(Judge::Observers)))),
        ("polled", Box::new(|| scripted(&ScriptedRegister::polled(Judge::Observers)))),
    ]
}

/// Tries `attempt` with 0, 1, 2 … polls until it says that it ended, in each scene.
fn at_every_point(what: &str, attempt: impl Fn(&Scene, usize) -> bool) {
    for (store, scene) in scenes() {
        let mut points = 0;
        while !attempt(&scene(), points) {
            points += 1;
            assert!(points < MOST_POINTS, "{what} over {store} never ends");
        }
        println!("{what} over {store}: {points} points");
        assert!(0 < points);
    }
}

/// Whether there are no further points to try.
fn over<T>(outcome: &Polled<T>) -> bool {
    !matches!(outcome, Polled::Dropped)
}

#[test]
fn an_acquire_of_a_free_lock() {
    at_every_point("acquire", |scene, point| {
        let outcome = polled(scene.mine.acquire("x", TTL), point);
        let over = over(&outcome);
        drop(outcome);
        scene.assert_nothing_left(point);
        over
    });
}

#[test]
fn a_try() {
    at_every_point("try_acquire", |scene, point| {
        let outcome = polled(scene.mine.try_acquire("x", TTL), point);
        let over = over(&outcome);
        drop(outcome);
        scene.assert_nothing_left(point);
        over
    });
}

#[test]
fn a_try_on_a_taken_lock() {
    at_every_point("try_acquire, taken", |scene, point| {
        let holder = Scene::block(scene.other.acquire("x", TTL)).unwrap();
        let outcome = polled(scene.mine.try_acquire("x", TTL), point);
        if let Polled::Ended(answer) = &outcome {
            assert!(answer.as_ref().unwrap().is_none());
        }
        let view = scene.look();
        assert_eq!((view.holders.len(), view.waiters.len()), (1, 0), "dropped at {point}");
        Scene::block(holder.release()).unwrap();
        scene.assert_nothing_left(point);
        over(&outcome)
    });
}

#[test]
fn an_acquire_that_waits() {
    at_every_point("acquire, waiting", |scene, point| {
        let holder = Scene::block(scene.other.acquire("x", TTL)).unwrap();
        let outcome = polled(scene.mine.acquire("x", TTL), point);
        let view = scene.look();
        assert_eq!((view.holders.len(), view.waiters.len()), (1, 0), "dropped at {point}");
        Scene::block(holder.release()).unwrap();
        scene.assert_nothing_left(point);
        over(&outcome)
    });
}

#[test]
fn an_acquire_that_is_handed_the_lock() {
    at_every_point("acquire, handed over", |scene, point| {
        let holder = Scene::block(scene.other.acquire("x", TTL)).unwrap();
        let outcome = std::thread::scope(|threads| {
            threads.spawn(|| {
                // Released as soon as somebody waits, or not waited for any more.
                for _ in 0..2000 {
                    if !Scene::block(scene.other.inspect("x")).unwrap().waiters.is_empty() {
                        break;
                    }
                    std::thread::yield_now();
                }
                Scene::block(holder.release()).unwrap();
            });
            polled(scene.mine.acquire("x", TTL), point)
        });
        let over = matches!(outcome, Polled::Ended(_));
        drop(outcome);
        scene.assert_nothing_left(point);
        over
    });
}

#[test]
fn an_acquire_with_a_wait_timeout() {
    at_every_point("acquire, wait timeout", |scene, point| {
        let holder = Scene::block(scene.other.acquire("x", TTL)).unwrap();
        let request = scene.mine.lock("x").ttl(TTL).wait_timeout(Duration::from_millis(5));
        let outcome = polled(request.acquire(), point);
        let view = scene.look();
        assert_eq!((view.holders.len(), view.waiters.len()), (1, 0), "dropped at {point}");
        Scene::block(holder.release()).unwrap();
        scene.assert_nothing_left(point);
        matches!(outcome, Polled::Ended(Err(_)))
    });
}

#[test]
fn an_acquire_that_accepts_a_value() {
    at_every_point("acquire_or_value", |scene, point| {
        let outcome = polled(scene.mine.lock("x").ttl(TTL).acquire_or_value(), point);
        let over = over(&outcome);
        drop(outcome);
        scene.assert_nothing_left(point);
        over
    });
}

#[test]
fn a_release() {
    at_every_point("release", |scene, point| {
        let guard = scene.mine();
        let outcome = polled(guard.release(), point);
        if let Polled::Ended(answer) = &outcome {
            answer.as_ref().unwrap();
        }
        scene.assert_nothing_left(point);
        over(&outcome)
    });
}

#[test]
fn a_release_with_a_value() {
    at_every_point("release_with", |scene, point| {
        let guard = scene.mine();
        let outcome = polled(guard.release_with(&b"v"[..], TTL), point);
        let view = scene.look();
        assert!(!view.is_locked() && view.waiters.is_empty(), "dropped at {point}");
        over(&outcome)
    });
}

#[test]
fn an_extension() {
    for ttl in [TTL / 2, TTL * 2] {
        at_every_point("extend", |scene, point| {
            let mut guard = scene.mine();
            let outcome = polled(guard.extend(ttl), point);
            let over = over(&outcome);
            drop(outcome);
            guard.check().unwrap();
            assert!(guard.remaining() <= TTL.max(ttl));
            let view = scene.look();
            assert_eq!(view.holders.len(), 1);
            Scene::block(guard.release()).unwrap();
            scene.assert_nothing_left(point);
            over
        });
    }
}

#[test]
fn a_hand_out() {
    at_every_point("into_token", |scene, point| {
        let guard = scene.mine();
        match polled(guard.into_token(), point) {
            Polled::Ended(token) => {
                let token = token.unwrap();
                assert!(scene.look().is_locked(), "handed out, it is held");
                Scene::block(scene.other.release_token(&token)).unwrap();
                scene.assert_nothing_left(point);
                true
            }
            dropped => {
                scene.assert_nothing_left(point);
                over(&dropped)
            }
        }
    });
}

#[test]
fn a_value_that_is_written() {
    at_every_point("set_value", |scene, point| {
        let guard = scene.mine();
        let outcome = polled(guard.set_value(&b"v"[..], TTL), point);
        let over = over(&outcome);
        drop(outcome);
        guard.check().unwrap();
        Scene::block(guard.release()).unwrap();
        let view = scene.look();
        assert!(!view.is_locked() && view.waiters.is_empty(), "dropped at {point}");
        over
    });
}

/// A guard never believes in more than the store knows of.
fn assert_believes_no_more_than_is_true(guard: &LockGuard, view: &View, point: usize) {
    let held = &view.holders[0];
    assert_eq!(held.id, guard.id());
    if guard.seats().is_all() {
        assert_eq!(held.seats, Seats::All, "dropped at {point}");
        assert_eq!(held.fence, guard.fencing_token(), "dropped at {point}");
    }
}

#[test]
fn an_upgrade_of_the_only_reader() {
    at_every_point("upgrade", |scene, point| {
        let mut guard = Scene::block(scene.mine.lock("x").ttl(TTL).shared().acquire()).unwrap();
        let ended = matches!(polled(guard.upgrade(None), point), Polled::Ended(_));
        let view = scene.look();
        assert_eq!((view.holders.len(), view.waiters.len()), (1, 0), "dropped at {point}");
        assert_believes_no_more_than_is_true(&guard, &view, point);
        assert_eq!(guard.seats().is_all(), ended);
        if !ended {
            // Withdrawn: the share is held as before, and others come in.
            assert_eq!(view.holders[0].seats, Seats::SHARED, "dropped at {point}");
            let request = scene.other.lock("x").ttl(TTL).shared();
            let reader = Scene::block(request.try_acquire()).unwrap();
            Scene::block(reader.expect("readers share").release()).unwrap();
        }
        guard.check().unwrap();
        Scene::block(guard.release()).unwrap();
        scene.assert_nothing_left(point);
        ended
    });
}

#[test]
fn an_upgrade_that_waits() {
    at_every_point("upgrade, waiting", |scene, point| {
        let mut guard = Scene::block(scene.mine.lock("x").ttl(TTL).shared().acquire()).unwrap();
        let reader = Scene::block(scene.other.lock("x").ttl(TTL).shared().acquire()).unwrap();
        let over = over(&polled(guard.upgrade(None), point));
        let view = scene.look();
        assert_eq!((view.holders.len(), view.waiters.len()), (2, 0), "dropped at {point}");
        guard.check().unwrap();
        assert!(!guard.seats().is_all());
        Scene::block(reader.release()).unwrap();
        // What was given up does not stand in the way of another try.
        Scene::block(guard.upgrade(Some(Duration::from_secs(5)))).unwrap();
        Scene::block(guard.release()).unwrap();
        scene.assert_nothing_left(point);
        over
    });
}

#[test]
fn an_upgrade_right_after_one_that_was_dropped() {
    at_every_point("upgrade, twice", |scene, point| {
        let mut guard = Scene::block(scene.mine.lock("x").ttl(TTL).shared().acquire()).unwrap();
        let over = over(&polled(guard.upgrade(None), point));
        // The janitor has not withdrawn the first, or is just about to.
        Scene::block(guard.upgrade(Some(Duration::from_secs(5)))).unwrap();
        let view = scene.look();
        assert_believes_no_more_than_is_true(&guard, &view, point);
        assert!(guard.seats().is_all());
        Scene::block(guard.release()).unwrap();
        scene.assert_nothing_left(point);
        over
    });
}

#[test]
fn a_downgrade() {
    at_every_point("downgrade", |scene, point| {
        let mut guard = scene.mine();
        let outcome = polled(guard.downgrade(Seats::SHARED), point);
        let over = over(&outcome);
        drop(outcome);
        let view = scene.look();
        assert_believes_no_more_than_is_true(&guard, &view, point);
        if 0 < point {
            assert!(!guard.seats().is_all(), "others may be in already");
            // Whatever became of it, an upgrade makes it exclusive for certain.
            Scene::block(guard.upgrade(Some(Duration::from_secs(5)))).unwrap();
        }
        let view = scene.look();
        assert_believes_no_more_than_is_true(&guard, &view, point);
        Scene::block(guard.release()).unwrap();
        scene.assert_nothing_left(point);
        over
    });
}

#[test]
fn work_under_a_lock() {
    at_every_point("with_lock", |scene, point| {
        let work = scene.mine.with_lock("x", TTL, |watch| async move {
            futures_lite::future::yield_now().await;
            watch.is_valid()
        });
        let outcome = polled(work, point);
        if let Polled::Ended(valid) = &outcome {
            assert!(valid.as_ref().unwrap());
        }
        scene.assert_nothing_left(point);
        over(&outcome)
    });
}

/// A shutdown that comes at any point of an acquire: no guard outlives it.
#[test]
fn a_shutdown_while_a_lock_is_acquired() {
    at_every_point("acquire, shut down", |scene, point| {
        let mut acquire = std::pin::pin!(scene.mine.acquire("x", TTL));
        let ended = matches!(polled(acquire.as_mut(), point), Polled::Ended(_));
        if ended {
            return true;
        }
        Scene::block(scene.mine.shutdown(Duration::from_secs(10))).unwrap();
        let error = Scene::block(acquire).expect_err("the manager is shut down");
        assert_eq!(error.kind(), ErrorKind::ShutDown, "shut down at {point}");
        scene.assert_nothing_left(point);
        false
    });
}
