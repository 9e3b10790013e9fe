//! What processes leave behind that die at the wrong moment.

use std::fs;
use std::path::PathBuf;

use futures_lite::future::block_on;
use tenure_testkit::lock_taker::{Doing, Fleet};

use crate::stage::{LONG, Stage, X, acquire, names_in, until};

fn signs(stage: &Stage) -> Vec<PathBuf> {
    let lock = stage.directory(X);
    let signs = names_in(&lock).into_iter().filter(|name| name.starts_with("hb-"));
    signs.map(|name| lock.join(name)).collect()
}

#[test]
fn signs_of_life_that_the_dead_left_without_being_members_go_with_the_next_dead_member() {
    let stage = Stage::new();
    let mut fleet = stage.fleet(0);
    let holder = fleet.start(&stage.job(LONG).holding()).unwrap();
    fleet.until(&holder, Doing::Holding).unwrap();
    let waiter = stage.manager();
    let _other = acquire(&waiter, "y", LONG);
    fleet.kill(&holder).unwrap();
    // As of a claim that died between its sign and its first step.
    let sign = signs(&stage).remove(0);
    let stray = sign.with_file_name(format!("hb-{:032x}", 7));
    fs::copy(&sign, &stray).unwrap();
    let guard = acquire(&waiter, X, LONG);
    until("the stray sign is removed", || !stray.exists());
    assert_eq!(signs(&stage).len(), 1, "the holder's own");
    guard.check().unwrap();
    block_on(guard.release()).unwrap();
}

#[test]
fn signs_of_life_of_the_living_stay_whether_or_not_they_are_members() {
    let stage = Stage::new();
    let mut fleet = stage.fleet(0);
    let [living, dying] = [0; 2].map(|_| fleet.start(&stage.job(LONG).holding()).unwrap());
    let holds = |fleet: &Fleet, proc: &str| fleet.doing(proc).unwrap() == Doing::Holding;
    until("one of them holds the lock", || holds(&fleet, &living) || holds(&fleet, &dying));
    until("the other one waits", || signs(&stage).len() == 2);
    let (holder, waiter) =
        if holds(&fleet, &living) { (&living, &dying) } else { (&dying, &living) };
    // Of a process that lives, but no member: it may be about to become one.
    let all = signs(&stage);
    let strays: Vec<_> = (0..)
        .zip(&all)
        .map(|(n, sign)| (sign, sign.with_file_name(format!("hb-{n:032x}"))))
        .collect();
    for (sign, stray) in &strays {
        fs::copy(sign, stray).unwrap();
    }
    fleet.kill(holder).unwrap();
    fleet.until(waiter, Doing::Holding).unwrap();
    until("the sign that the dead one left is removed", || signs(&stage).len() == 2);
    let kept: Vec<_> = strays.iter().filter(|(_, stray)| stray.exists()).collect();
    assert_eq!(kept.len(), 1);
    assert!(kept[0].0.exists(), "that of the living one, beside its real one");
}

#[test]
fn a_process_that_was_killed_leaves_nothing_that_the_next_one_does_not_remove() {
    let stage = Stage::new();
    let mut fleet = stage.fleet(0);
    let holder = fleet.start(&stage.job(LONG).holding()).unwrap();
    fleet.until(&holder, Doing::Holding).unwrap();
    fleet.kill(&holder).unwrap();
    let procs = stage.root().join("procs");
    let dead = names_in(&procs);
    assert_eq!(dead.len(), 2, "its file, and its space for a full disk: {dead:?}");
    let guard = acquire(&stage.manager(), X, LONG);
    let left: Vec<_> = names_in(&procs).into_iter().filter(|name| dead.contains(name)).collect();
    assert_eq!(left, [""; 0]);
    drop(guard);
}
