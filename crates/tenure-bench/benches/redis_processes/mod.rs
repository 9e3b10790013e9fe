//! Hand-overs between processes: each takes the lock, gives it back and asks anew, and writes down when.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tenure::clock::{Clock, SystemClock};
use tenure_bench::Times;
use tenure_testkit::servers::redis::RedisServer;

const TTL: Duration = Duration::from_secs(30);
const NAME: &str = "between processes";
/// How many hand-overs there are in all.
const HAND_OVERS: usize = 4_000;
/// What makes this program one of the processes: the store's address.
const STORE: &str = "TENURE_BENCH_PROCESS_OF";
/// How often it takes the lock.
const ROUNDS: &str = "TENURE_BENCH_ROUNDS";

/// One grant: its fence, whose it is, when it was there and when it was given back, in nanoseconds.
type Grant = (u64, usize, u64, u64);

/// Does what a process of the benchmark does, if this is one.
pub(crate) fn is_one() -> bool {
    let (Ok(store), Ok(rounds)) = (std::env::var(STORE), std::env::var(ROUNDS)) else {
        return false;
    };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let locks = tenure::connect(&store).await.expect("an address");
        let mut grants = Vec::new();
        for _ in 0..rounds.parse().expect("a number") {
            let guard = locks.acquire(NAME, TTL).await.expect("handed over");
            let got = SystemClock.now().as_nanos();
            let fence = guard.fencing_token();
            let released = SystemClock.now().as_nanos();
            guard.release().await.expect("held");
            grants.push((fence, got, released));
        }
        for (fence, got, released) in grants {
            println!("{fence} {got} {released}");
        }
    });
    true
}

/// So many processes wait for one that holds.
pub(crate) fn hand_over(server: &RedisServer, waiters: usize) {
    let rounds = (HAND_OVERS / (waiters + 1)).to_string();
    let this = std::env::current_exe().expect("this program");
    let start = |_| {
        let mut command = Command::new(&this);
        command.env(STORE, server.url()).env(ROUNDS, &rounds).stdout(Stdio::piped());
        command.spawn().expect("it starts")
    };
    let children: Vec<Child> = (0..=waiters).map(start).collect();
    let of_each: Vec<Vec<Grant>> = children.into_iter().enumerate().map(grants_of).collect();
    // While all of them took part.
    let first = of_each.iter().map(|grants| grants[0].0).max().expect("some");
    let last = of_each.iter().map(|grants| grants[grants.len() - 1].0).min().expect("some");
    let mut all: Vec<Grant> = of_each.concat();
    all.sort_unstable();
    all.retain(|grant| first <= grant.0 && grant.0 <= last);
    let mut times = Times::new(format!("redis: hand-over, {waiters} waiters in other processes"));
    for pair in all.windows(2) {
        times.add(Duration::from_nanos(pair[1].2.saturating_sub(pair[0].3)));
    }
    let count = waiters + 1;
    // Each asks anew when it has given the lock back: in order is, one after the other.
    let in_order = all.windows(count + 1).all(|turn| turn[0].1 == turn[count].1);
    println!("{times}  {}", if in_order { "exactly in order" } else { "NOT in order" });
}

fn grants_of((process, child): (usize, Child)) -> Vec<Grant> {
    let mut child = child;
    let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let grants = lines.map(|line| {
        let line = line.expect("text");
        let numbers: Vec<u64> = line.split(' ').map(|n| n.parse().expect("a number")).collect();
        (numbers[0], process, numbers[1], numbers[2])
    });
    let grants = grants.collect();
    assert!(child.wait().expect("it ends").success());
    grants
}
