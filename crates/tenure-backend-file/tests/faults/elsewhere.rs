//! Holders whose death nobody can prove, because they lived on another host.

use std::path::Path;
use std::time::Duration;

use futures_lite::future::block_on;
use tenure_core::LockManager;
use tenure_testkit::lock_taker::Doing;

use crate::stage::{LONG, ROLE, STORE, Stage, X, backend, names_in, now, this_program, until};

const TTL: Duration = Duration::from_millis(800);

/// What each of a series of short-lived processes does: it tries once, and ends.
pub(crate) fn try_once() {
    let manager = LockManager::new(backend(&std::env::var(STORE).unwrap())).unwrap();
    match block_on(manager.try_acquire(X, LONG)).unwrap() {
        Some(guard) => {
            println!("\ngot it: {}", guard.fencing_token());
            block_on(guard.release()).unwrap();
        }
        None => println!("\nbusy"),
    }
}

/// The answer of a process that tries once: the fence, if it got the lock.
fn another_try(stage: &Stage) -> Option<u64> {
    let output = this_program().env(ROLE, "try once").env(STORE, stage.url()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    let fence = said.lines().find_map(|line| line.strip_prefix("got it: "));
    assert!(fence.is_some() || said.contains("busy"), "{said}");
    fence.map(|fence| fence.parse().unwrap())
}

/// Makes the sign of life in this directory one that was given on another boot.
fn move_to_another_host(lock: &Path) {
    let signs: Vec<_> = names_in(lock).into_iter().filter(|n| n.starts_with("hb-")).collect();
    assert_eq!(signs.len(), 1, "{signs:?}");
    let file = lock.join(&signs[0]);
    let mut sign = std::fs::read(&file).unwrap();
    let (boot, sum) = (56..64, 124..128);
    sign[boot].iter_mut().for_each(|byte| *byte ^= 0x55);
    let crc = crc32c::crc32c(&sign[..sum.start]);
    sign[sum].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(&file, &sign).unwrap();
}

#[test]
fn short_lived_processes_take_over_from_a_dead_holder_elsewhere_when_they_have_seen_its_ttl_pass() {
    let stage = Stage::new();
    let mut fleet = stage.fleet(0);
    let holder = fleet.start(&stage.job(TTL).holding()).unwrap();
    fleet.until(&holder, Doing::Holding).unwrap();
    fleet.kill(&holder).unwrap();
    let run = fleet.finish().unwrap();
    let fence = run.events.iter().find_map(|event| event.fence).unwrap().0;
    move_to_another_host(&stage.directory(X));

    let first_look = now();
    let mut tries = 0;
    let mut got = None;
    until("one of them gets the lock", || {
        tries += 1;
        got = another_try(&stage);
        got.is_some()
    });
    let took = first_look.elapsed();
    println!("{tries} processes, {took:?} with a ttl of {TTL:?}");
    assert!(1 < tries, "the first one can have seen nothing pass");
    assert!(TTL < took, "{took:?}");
    assert!(took < TTL + Duration::from_secs(3), "{took:?}");
    assert!(fence < got.unwrap());
}
