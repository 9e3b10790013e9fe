//! Servers that cannot be reached or do not answer: in nobody's way, and used again when they are back.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_lite::future::block_on;
use tenure_core::LockManager;
use tenure_testkit::proxy::{Direction, Fault};

use crate::stage::{LONGEST, SHORT, Set, X, acquire, backend, now, pass, until};

/// A port where whoever comes is counted and sent away, as by a host whose server is down.
fn nobody() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let came = Arc::new(AtomicUsize::new(0));
    let counted = came.clone();
    std::thread::spawn(move || {
        while listener.accept().is_ok() {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    (port, came)
}

#[test]
fn a_server_that_is_down_is_tried_now_and_then_and_not_for_each_lock() {
    let set = Set::old(3, "2s");
    let (port, came) = nobody();
    let hosts = [port, set.servers[1].port(), set.servers[2].port()];
    let hosts = hosts.map(|port| format!("127.0.0.1:{port}")).join(",");
    let locks = LockManager::new(backend(&format!("redlock://{hosts}?max_ttl=2s"))).unwrap();
    let since = now();
    for _ in 0..300 {
        block_on(acquire(&locks, X, SHORT).release()).unwrap();
    }
    // One look after the other: eight in the first two seconds, and one or two in each from then on.
    let looks = 10 + 2 * usize::try_from(since.elapsed().as_secs()).unwrap();
    let came = came.load(Ordering::Relaxed);
    assert!((1..2 * looks).contains(&came), "{came} in {:?}", since.elapsed());
}

/// Locks until a server that was left out gives a vote for one, and for how long.
fn used_again(set: &Set, locks: &LockManager, at: usize) -> Duration {
    let since = now();
    until("it is used again", || {
        let guard = acquire(locks, X, SHORT);
        pass(Duration::from_millis(20));
        let is_used = set.servers[at].cli(&["EXISTS", X]) == "1";
        block_on(guard.release()).unwrap();
        is_used
    });
    since.elapsed()
}

fn cycles_for(locks: &LockManager, time: Duration) {
    let since = now();
    while since.elapsed() < time {
        block_on(acquire(locks, X, SHORT).release()).unwrap();
    }
}

/// What a busy machine adds.
const BUSY: Duration = Duration::from_secs(2);

#[test]
fn a_server_that_could_not_be_reached_is_used_again_within_a_second() {
    let set = Set::old(3, "2s");
    let locks = set.manager();
    block_on(acquire(&locks, X, SHORT).release()).unwrap();
    set.proxies[0].refuse();
    set.proxies[0].cut();
    cycles_for(&locks, LONGEST);
    set.proxies[0].accept();
    let after = used_again(&set, &locks, 0);
    println!("used again after {after:?}");
    assert!(after < Duration::from_secs(1) + BUSY, "{after:?}");
}

#[test]
fn a_server_whose_network_swallowed_everything_is_used_again_within_five_seconds() {
    let set = Set::old(3, "2s");
    let locks = set.manager();
    block_on(acquire(&locks, X, SHORT).release()).unwrap();
    set.proxies[0].set_both(Fault::Swallow);
    cycles_for(&locks, LONGEST);
    set.proxies[0].heal();
    let after = used_again(&set, &locks, 0);
    println!("used again after {after:?}");
    assert!(after < Duration::from_secs(5) + BUSY, "{after:?}");
}

#[test]
fn a_server_that_stood_still_is_told_of_what_was_released_meanwhile() {
    let set = Set::old(3, "60s");
    let locks = set.bystander();
    let guard = acquire(&locks, X, SHORT * 60);
    until("all are bound", || set.bound(X) == 3);
    set.servers[0].stop();
    block_on(guard.release()).unwrap();
    cycles_for(&locks, LONGEST);
    set.servers[0].cont();
    // Long before the lease would have ended.
    until("nothing is left", || set.bound(X) == 0);
}

#[test]
fn where_two_of_three_are_back_nobody_waits_for_a_look_at_them() {
    let set = Set::old(3, "2s");
    let locks = set.manager();
    block_on(acquire(&locks, X, SHORT).release()).unwrap();
    for proxy in &set.proxies[..2] {
        proxy.refuse();
        proxy.cut();
    }
    // They are out for long, so that the pauses are.
    let since = now();
    while since.elapsed() < LONGEST {
        block_on(locks.try_acquire(X, SHORT)).unwrap_err();
        pass(Duration::from_millis(50));
    }
    for proxy in &set.proxies[..2] {
        proxy.accept();
    }
    let guard = block_on(locks.try_acquire(X, SHORT)).unwrap().expect("it is free");
    block_on(guard.release()).unwrap();
}

#[test]
fn a_renewal_that_failed_marks_no_dead_server_as_back() {
    let set = Set::old(3, "2s");
    let locks = set.manager();
    // Each has a time of its own to be renewed.
    let guards: Vec<_> = (0..40)
        .map(|n| {
            pass(Duration::from_millis(8));
            acquire(&locks, &format!("{X}{n}"), SHORT)
        })
        .collect();
    let (port, came) = nobody();
    set.proxies[2].redirect(port);
    set.proxies[2].cut();
    let since = now();
    pass(LONGEST * 2);
    // From here on nothing but renewals has been sent.
    let looks = 10 + 2 * usize::try_from(since.elapsed().as_secs()).unwrap();
    let came = came.load(Ordering::Relaxed);
    println!("{came} came");
    assert!((1..2 * looks).contains(&came), "{came} in {:?}", since.elapsed());
    for guard in guards {
        guard.check().unwrap();
        block_on(guard.release()).unwrap();
    }
}

#[test]
fn a_silent_server_whose_vote_a_holder_needs_is_sent_its_renewals() {
    let set = Set::old(3, "6s");
    let locks = set.manager();
    let ttl = SHORT * 6;
    let guard = acquire(&locks, X, ttl);
    until("all are bound", || set.bound(X) == 3);
    // Whatever renews is connected.
    let deadline = guard.deadlines().0;
    until("it is renewed", || deadline < guard.deadlines().0);
    // One that answers has somebody else, and the third hears, but is not heard.
    set.servers[1].cli(&["SET", X, "theirs", "PX", "60000"]);
    set.proxies[2].set(Direction::ToClient, Fault::Stall);
    let left = || set.servers[2].cli(&["PTTL", X]).parse::<i64>().unwrap();
    // It is out before the first renewal is due.
    let since = now();
    while since.elapsed() < SHORT * 17 / 10 {
        block_on(acquire(&locks, "y", SHORT).release()).unwrap();
    }
    let mut last = left();
    until("it is renewed there", || {
        let before = std::mem::replace(&mut last, left());
        before < last
    });
    set.proxies[2].heal();
    pass(ttl + Duration::from_millis(500));
    guard.check().unwrap();
    block_on(guard.release()).unwrap();
}

#[test]
fn a_server_whose_answers_nobody_listened_to_is_not_taken_for_silent() {
    let set = Set::old(3, "6s");
    let locks = set.manager();
    // Runs nothing between two calls: the last answer to each is heard in the next.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // All are connected.
    runtime.block_on(async {
        let guard = locks.acquire(X, LONGEST * 3).await.unwrap();
        while set.bound(X) < 3 {
            tokio::task::yield_now().await;
        }
        guard.release().await.unwrap();
    });
    let mut votes = 0;
    for _ in 0..8 {
        let guard = runtime.block_on(locks.acquire(X, LONGEST * 3)).unwrap();
        pass(Duration::from_millis(700));
        // Long before a renewal asks again.
        votes += set.bound(X);
        runtime.block_on(guard.release()).unwrap();
        until("nothing is left", || set.bound(X) == 0);
        pass(Duration::from_millis(700));
    }
    assert_eq!(votes, 24);
}
