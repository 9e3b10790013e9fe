//! Eight at once, and some of them killed.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tenure_testkit::seed;

use crate::common::{Site, done};
use crate::counter::{self, ADD_ONE};

const LOOPS: usize = 8;
const STEPS: usize = 200;

#[test]
fn eight_processes_that_add_one_two_hundred_times_each_lose_no_update() {
    let site = Site::new();
    counter::begin(&site);
    thread::scope(|scope| {
        for _ in 0..LOOPS {
            scope.spawn(|| {
                for _ in 0..STEPS {
                    let done = done(&mut site.command(["run", "x", "--", "sh", "-c", ADD_ONE]));
                    assert_eq!(done.code, 0, "{}", done.stderr);
                }
            });
        }
    });
    let (number, log) = counter::end(&site);
    assert_eq!(number, (LOOPS * STEPS) as u64);
    assert_eq!(log.len(), LOOPS * STEPS);
    counter::assert_rising(&log);
    assert!(site.is_free("x"));
}

const LASTS: Duration = Duration::from_secs(6);

/// One of the loops' programs, while it runs; killed only while it is certain to be that one.
type Slot = Mutex<Option<Child>>;

fn run_to_the_end(site: &Site, slot: &Slot) -> Option<i32> {
    let mut command = counter::run_add_one(site, &["--ttl", "10m", "x"]);
    *slot.lock() = Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    loop {
        let mut running = slot.lock();
        if let Some(status) = running.as_mut().unwrap().try_wait().unwrap() {
            *running = None;
            return match status.signal() {
                Some(9) => None,
                _ => Some(status.code().unwrap()),
            };
        }
        drop(running);
        nap(1);
    }
}

#[allow(clippy::disallowed_methods, reason = "processes are waited for, and killed at random")]
fn nap(millis: u64) {
    thread::sleep(Duration::from_millis(millis));
}

#[test]
#[allow(clippy::disallowed_methods, reason = "the schedule of faults is real time")]
fn eight_processes_that_are_killed_at_random_lose_no_update() {
    let site = Site::new();
    counter::begin(&site);
    let mut rng = StdRng::seed_from_u64(seed::seed("killed programs"));
    let slots: [Slot; LOOPS] = Default::default();
    let end = AtomicBool::new(false);
    let started = Instant::now();
    let (mut kills, mut finished) = (0, 0);
    thread::scope(|scope| {
        let loops: Vec<_> = slots
            .iter()
            .map(|slot| {
                scope.spawn(|| {
                    let mut finished = 0;
                    while !end.load(Ordering::Relaxed) {
                        if let Some(code) = run_to_the_end(&site, slot) {
                            assert_eq!(code, 0);
                            finished += 1;
                        }
                    }
                    finished
                })
            })
            .collect();
        while started.elapsed() < LASTS && loops.iter().all(|l| !l.is_finished()) {
            nap(rng.random_range(0..60));
            if let Some(child) = &mut *slots[rng.random_range(0..LOOPS)].lock() {
                child.kill().unwrap();
                kills += 1;
            }
        }
        end.store(true, Ordering::Relaxed);
        for handle in loops {
            finished += handle.join().unwrap();
        }
    });
    let (number, log) = counter::end(&site);
    println!("{kills} killed, {finished} finished, {} steps logged, counter {number}", log.len());
    counter::assert_rising(&log);
    // Who was killed may have written, and not have logged it or not have ended.
    assert!(finished <= log.len(), "{finished} commands ended, {} steps logged", log.len());
    assert!(log.len() as u64 <= number, "{} steps logged, counter {number}", log.len());
    assert!(0 < kills && 0 < finished, "{kills} killed, {finished} finished");
    // Nothing is held by the dead, and no place in the queue.
    let last = site.tenure(["run", "-n", "x", "--", "true"]);
    assert_eq!(last.code, 0, "{}", last.stderr);
    assert!(site.is_free("x"));
}
