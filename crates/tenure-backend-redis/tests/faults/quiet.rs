//! What waiting costs the server: nothing, beyond the refresh of the places.

use std::time::Duration;

use futures_lite::future::block_on;
use tenure_core::backend::Claim;

use crate::stage::{Ground, Stage, X, acquire, pass, until};

const WAITERS: usize = 64;
/// A lease that is not renewed while anybody looks.
const LEASE: Duration = Duration::from_secs(300);

/// How many commands the server has been asked for so far.
fn commands(stage: &Stage) -> u64 {
    let stats = stage.server.cli(&["--raw", "INFO", "stats"]);
    let line = stats.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
    line.unwrap().trim().parse().unwrap()
}

#[test]
fn waiters_on_a_long_lease_ask_the_server_nothing_beyond_the_refresh_of_their_places() {
    let stage = Stage::new();
    let holder = stage.bystander();
    let guard = acquire(&holder, X, LEASE);
    // As four processes with sixteen waiters each.
    let managers: Vec<_> = (0..4).map(|_| stage.bystander()).collect();
    let waiting: Vec<_> = (0..WAITERS)
        .map(|n| {
            let manager = managers[n % managers.len()].clone();
            std::thread::spawn(move || {
                let guard = acquire(&manager, X, LEASE);
                block_on(guard.release()).unwrap();
            })
        })
        .collect();
    until("all of them wait", || block_on(holder.inspect(X)).unwrap().waiters.len() == WAITERS);
    let (before, asked_before) = (scripts(&stage), commands(&stage));
    // Each place is refreshed once meanwhile, and its next refresh is far away.
    let looking = Claim::WAIT_TTL / 3 + Duration::from_secs(2);
    pass(looking);
    let refreshes = scripts(&stage) - before;
    let (quiet, quiet_for) = (commands(&stage), Duration::from_secs(3));
    pass(quiet_for);
    // The look itself is one.
    let idle = commands(&stage) - quiet - 1;
    println!(
        "{WAITERS} waiters: {refreshes} scripts in {looking:?}, with {} commands in them; \
         then {idle} commands in {quiet_for:?}",
        quiet - asked_before
    );
    // Those that came in the same tick of the timers share one.
    assert!(refreshes <= 2 * WAITERS as u64, "{refreshes}");
    assert_eq!(idle, 0);
    block_on(guard.release()).unwrap();
    for thread in waiting {
        thread.join().unwrap();
    }
}

fn scripts(stage: &Stage) -> u64 {
    let stats = stage.server.cli(&["--raw", "INFO", "commandstats"]);
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}
