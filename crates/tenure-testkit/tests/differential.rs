//! Stores and the pure machine answer the same random commands alike.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::sync::Arc;
use std::time::Duration;

use tenure_backend_memory::MemoryBackend;
use tenure_core::Wakes;
use tenure_core::backend::DynBackend;
use tenure_core::clock::TestClock;
use tenure_testkit::differential::{Pass, Subject, run};
use tenure_testkit::saboteur::{Deed, Saboteur};
use tenure_testkit::scripted_register::{Call, Fault, Judge, ScriptedRegister, Storm};
use tenure_testkit::seed::seed;

const CASES: u32 = 200;

fn passing(clock: TestClock) -> Option<Pass> {
    Some(Box::new(move |time: Duration| {
        clock.advance(time);
        Box::pin(async {})
    }))
}

fn memory(deed: Deed) -> Subject {
    let clock = TestClock::new();
    let honest = Arc::new(MemoryBackend::with_clock(clock.clone()));
    let backend: Arc<dyn DynBackend> = match deed {
        Deed::None => honest,
        deed => Arc::new(Saboteur::new(honest, deed)),
    };
    Subject {
        backends: vec![backend],
        pass: passing(clock),
        remembers_released: false,
        looking_ends: true,
        faulty: false,
    }
}

fn scripted(judge: Judge, storm: Option<Storm>) -> Subject {
    let stormy = storm.is_some();
    let clock = TestClock::new();
    let register = ScriptedRegister::with_clock(judge, Wakes::Push, Arc::new(clock.clone()));
    if let Some(storm) = storm {
        register.faults().storm(storm);
    }
    let process = || Arc::new(register.backend()) as Arc<dyn DynBackend>;
    Subject {
        backends: vec![process(), process(), process()],
        pass: if judge == Judge::StoreClock { passing(clock) } else { None },
        remembers_released: true,
        looking_ends: false,
        faulty: stormy,
    }
}

#[test]
fn the_memory_store_does_as_the_machine() {
    run(seed("memory"), CASES, async || memory(Deed::None));
}

#[test]
fn a_register_with_a_clock_does_as_the_machine() {
    run(seed("store clock"), CASES, async || scripted(Judge::StoreClock, None));
}

#[test]
fn a_register_judged_by_observers_does_as_the_machine() {
    run(seed("observers"), CASES, async || scripted(Judge::Observers, None));
}

/// Storms in which an answer was lost that the same turn, taken again, did not give once more.
const STORMS: [u64; 3] = [
    // A tombstone that was over refused, and was dropped by the turn that it refused in.
    0x0201_fe0a_b097_fb39,
    // An upgrade that was given up left a free seat to the turn after it.
    0x3a75_b624_34e1_d38f,
    0x47f0_5b4f_df98_f4bd,
];

/// Lost and late swaps and conflicts: the adaptor resolves them all to the same answers.
#[test]
fn a_register_in_a_storm_does_as_the_machine() {
    in_a_storm(seed("storm"));
}

#[test]
fn a_register_in_a_storm_of_the_past_does_as_the_machine() {
    STORMS.into_iter().for_each(in_a_storm);
}

fn in_a_storm(seed: u64) {
    for judge in [Judge::StoreClock, Judge::Observers] {
        run(seed, CASES, async || {
            let chances = vec![
                (Call::Swap, Fault::LostReply, 10),
                (Call::Swap, Fault::LostRequest, 10),
                (Call::Swap, Fault::Late, 10),
                (Call::Swap, Fault::Conflict, 10),
            ];
            scripted(judge, Some(Storm { seed, chances }))
        });
    }
}

/// The comparison itself on trial.
#[test]
fn a_store_that_differs_is_found() {
    let seed = seed("saboteurs");
    let deeds = [
        Deed::ForgetsLimits,
        Deed::RepeatsFences,
        Deed::IgnoresPriority,
        Deed::QueuesSecondUpgrade,
        Deed::EvictsWhoeverIsThere,
        Deed::ForgetsWithdrawals,
        Deed::LosesValues,
        Deed::ExpiresEarly,
    ];
    for deed in deeds {
        let compared =
            std::thread::Builder::new().name("a comparison that fails on purpose".into());
        let compared = compared.spawn(move || run(seed, CASES * 8, async || memory(deed))).unwrap();
        assert!(compared.join().is_err(), "{deed:?} was not found");
    }
}
