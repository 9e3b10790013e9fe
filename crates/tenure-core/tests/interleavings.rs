//! Every interleaving of those who race for a lease: caller, keeper, janitor, shutdown.
//!
//! The phase word is the very code of the crate, compiled here against the model checker's
//! atomics. The store is a word of its own that is changed as stores do it: conditional on the
//! token.

use loom::sync::Arc;
use loom::sync::atomic::AtomicUsize;
use loom::thread;

/// The atomics behind the phase: the model checker's.
mod sync {
    pub(crate) use loom::sync::atomic::{AtomicU8, Ordering};
}

#[allow(dead_code, unreachable_pub, reason = "not every phase is stepped through here")]
#[path = "../src/phase.rs"]
mod phase;

use phase::{Phase, PhaseWord};
use sync::Ordering;

/// A store with one lock: 0 free, else the token that holds it. Renewals never take it.
struct Store {
    holder: AtomicUsize,
    renewals: AtomicUsize,
    releases: AtomicUsize,
}

const ME: usize = 7;

impl Store {
    fn held() -> Arc<Self> {
        Arc::new(Self {
            holder: AtomicUsize::new(ME),
            renewals: AtomicUsize::new(0),
            releases: AtomicUsize::new(0),
        })
    }

    fn renew(&self) -> bool {
        if self.holder.load(Ordering::SeqCst) == ME {
            self.renewals.fetch_add(1, Ordering::SeqCst);
            return true;
        }
        false
    }

    fn release(&self) -> bool {
        self.releases.fetch_add(1, Ordering::SeqCst);
        self.holder.compare_exchange(ME, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

/// What the keeper does when a renewal is due.
fn keeper_round(phase: &PhaseWord, store: &Store) {
    if phase.get() == Phase::Held && !store.renew() {
        phase.lose();
    }
}

#[test]
fn a_renewal_never_outlives_the_release() {
    loom::model(|| {
        let (phase, store) = (Arc::new(PhaseWord::new(Phase::Held)), Store::held());
        let keeper = {
            let (phase, store) = (phase.clone(), store.clone());
            thread::spawn(move || {
                keeper_round(&phase, &store);
                keeper_round(&phase, &store);
            })
        };
        assert!(phase.release());
        assert!(store.release());
        phase.finish();
        keeper.join().expect("the keeper ends");
        assert_eq!(store.holder.load(Ordering::SeqCst), 0, "a late renewal took it again");
        assert_eq!(phase.get(), Phase::Gone);
        keeper_round(&phase, &store);
        assert_eq!(phase.get(), Phase::Gone, "nothing brings it back");
    });
}

#[test]
fn of_release_drop_and_loss_exactly_one_wins() {
    loom::model(|| {
        let phase = Arc::new(PhaseWord::new(Phase::Held));
        let wins = Arc::new(AtomicUsize::new(0));
        let racers: Vec<_> = [PhaseWord::release as fn(&PhaseWord) -> bool, PhaseWord::lose]
            .into_iter()
            .map(|race| {
                let (phase, wins) = (phase.clone(), wins.clone());
                thread::spawn(move || {
                    if race(&phase) {
                        wins.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        if phase.release() {
            wins.fetch_add(1, Ordering::SeqCst);
        }
        for racer in racers {
            racer.join().expect("the racer ends");
        }
        assert_eq!(wins.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn a_grant_that_meets_a_dropped_attempt_is_withdrawn_by_exactly_one() {
    loom::model(|| {
        let phase = Arc::new(PhaseWord::new(Phase::Sent));
        let dropped = {
            let phase = phase.clone();
            thread::spawn(move || phase.give_up())
        };
        let held = phase.hold();
        let given_up = dropped.join().expect("the caller ends");
        assert!(held != given_up, "either a guard holds it or somebody withdraws it");
    });
}

#[test]
fn a_shutdown_and_a_drop_release_once_and_leave_nothing() {
    loom::model(|| {
        let (phase, store) = (Arc::new(PhaseWord::new(Phase::Held)), Store::held());
        let shutdown = {
            let (phase, store) = (phase.clone(), store.clone());
            thread::spawn(move || {
                // A lease that is lost by shutdown is still given back.
                if phase.lose() {
                    store.release();
                }
            })
        };
        if phase.release() {
            store.release();
            phase.finish();
        }
        shutdown.join().expect("the shutdown ends");
        assert_eq!(store.releases.load(Ordering::SeqCst), 1);
        assert_eq!(store.holder.load(Ordering::SeqCst), 0);
    });
}
