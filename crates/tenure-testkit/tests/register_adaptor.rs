//! The adaptor makes a full backend of a register, whatever that loses, delays and refuses.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tenure_core::backend::DynBackend;
use tenure_core::{Fence, LockManager, Result};
use tenure_testkit::conformance::{BoxFuture, Store, run};
use tenure_testkit::scripted_register::{Call, Fault, Judge, ScriptedRegister, Storm};
use tenure_testkit::seed::seed;

struct Scripted {
    name: &'static str,
    register: ScriptedRegister,
    stormy: bool,
}

impl Store for Scripted {
    fn name(&self) -> &str {
        self.name
    }

    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn DynBackend>>> {
        Box::pin(async { Ok(Arc::new(self.register.backend()) as Arc<dyn DynBackend>) })
    }

    fn short_ttl(&self) -> Duration {
        Duration::from_millis(if self.stormy { 700 } else { 400 })
    }

    fn faulty(&self) -> bool {
        self.stormy
    }
}

fn every_rule_holds(name: &'static str, register: ScriptedRegister, storm: Option<Storm>) {
    let stormy = storm.is_some();
    if let Some(storm) = storm {
        register.faults().storm(storm);
    }
    let store = Scripted { name, register: register.clone(), stormy };
    run(&store).assert_holds_but_for(&[]);
    println!("{name}: {} faults", register.faults().happened());
    assert_eq!(0 < register.faults().happened(), stormy);
}

#[test]
fn a_register_with_a_clock_keeps_every_rule() {
    every_rule_holds("store clock", ScriptedRegister::new(Judge::StoreClock), None);
}

#[test]
fn a_register_judged_by_observers_keeps_every_rule() {
    every_rule_holds("observers", ScriptedRegister::new(Judge::Observers), None);
}

#[test]
fn a_register_that_wakes_nobody_keeps_every_rule() {
    every_rule_holds("polled, store clock", ScriptedRegister::polled(Judge::StoreClock), None);
    every_rule_holds("polled, observers", ScriptedRegister::polled(Judge::Observers), None);
}

#[test]
fn a_register_with_a_clock_keeps_every_rule_in_a_storm() {
    let storm = Storm::of_everything(seed("storm, store clock"));
    every_rule_holds("storm, store clock", ScriptedRegister::new(Judge::StoreClock), Some(storm));
}

#[test]
fn a_register_judged_by_observers_keeps_every_rule_in_a_storm() {
    let storm = Storm::of_everything(seed("storm, observers"));
    every_rule_holds("storm, observers", ScriptedRegister::new(Judge::Observers), Some(storm));
}

/// Readers that see what was there before are found out by the swap: no two hold at once, and no
/// fence falls, however stale a process's view is.
#[test]
fn stale_reads_neither_break_exclusion_nor_the_order_of_fences() {
    const PROCESSES: usize = 4;
    const ROUNDS: usize = 60;
    let seed = seed("stale reads");
    for judge in [Judge::StoreClock, Judge::Observers] {
        let register = ScriptedRegister::new(judge);
        let chances = vec![
            (Call::Load, Fault::Stale, 25),
            (Call::Swap, Fault::LostReply, 5),
            (Call::Swap, Fault::Late, 5),
        ];
        register.faults().storm(Storm { seed, chances });
        let inside = Mutex::new((false, Fence::ZERO));
        std::thread::scope(|threads| {
            for _ in 0..PROCESSES {
                threads.spawn(|| {
                    let runtime =
                        tokio::runtime::Builder::new_current_thread().enable_all().build();
                    runtime.unwrap().block_on(contend(&register, &inside, ROUNDS));
                });
            }
        });
        assert!(0 < register.faults().happened());
    }
}

async fn contend(register: &ScriptedRegister, inside: &Mutex<(bool, Fence)>, rounds: usize) {
    let locks = LockManager::new(Arc::new(register.backend())).unwrap();
    for _ in 0..rounds {
        let guard = locks.acquire("x", Duration::from_secs(60)).await.unwrap();
        {
            let mut inside = inside.lock().unwrap();
            assert!(!inside.0, "two hold at once");
            assert!(inside.1 < guard.fencing_token(), "a fence fell");
            *inside = (true, guard.fencing_token());
        }
        tokio::task::yield_now().await;
        inside.lock().unwrap().0 = false;
        guard.release().await.unwrap();
    }
}
