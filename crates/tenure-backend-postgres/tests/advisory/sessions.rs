//! What sessions do to locks, and locks to sessions.

use std::sync::{Arc, Weak, mpsc};
use std::thread;
use std::time::Duration;

use futures_lite::future::block_on;
use tenure_core::backend::{Event, Listener};
use tenure_core::{LockManager, LossReason, NotReleased};

use crate::stage::{LONG, Stage, X, acquire, attempt, look, now, until, until_waiting};

/// What takes no more than a message.
const AT_ONCE: Duration = Duration::from_secs(1);

/// A session that holds a lock gets it again: two tasks of one process would both have it.
#[test]
fn two_tasks_of_one_process_exclude_each_other() {
    let stage = Stage::new();
    let locks = stage.manager();
    let guard = acquire(&locks, X, LONG);
    assert!(attempt(&locks, X).is_none());
    assert!(block_on(locks.lock(X).shared().try_acquire()).unwrap().is_none());
    // Another lock, on the same session.
    let other = acquire(&locks, "y", LONG);
    assert_eq!(stage.holding().len(), 2);
    block_on(guard.release()).unwrap();
    let again = attempt(&locks, X).unwrap();
    assert!(other.fencing_token() < again.fencing_token());
    drop((again, other));
}

#[test]
fn a_session_that_is_ended_loses_its_locks_at_once_and_they_are_told() {
    let stage = Stage::new();
    let (a, b) = (stage.manager(), stage.manager());
    let guards = [acquire(&a, X, LONG), acquire(&a, "y", LONG)];
    thread::scope(|scope| {
        let next = scope.spawn(|| (acquire(&b, X, LONG), now()));
        until_waiting(&b, X, 1);
        let ended = now();
        stage.server.psql(&format!("select pg_terminate_backend({})", stage.holding()[0]));
        for guard in &guards {
            assert_eq!(block_on(guard.lost()), LossReason::SessionEnded);
        }
        assert!(ended.elapsed() < AT_ONCE, "told after {:?}", ended.elapsed());
        let (next, granted) = next.join().unwrap();
        assert!(granted - ended < AT_ONCE);
        assert!(guards[1].fencing_token() < next.fencing_token());
    });
    let [first, _] = guards;
    let released = block_on(first.release());
    assert!(matches!(released, Err(NotReleased::AlreadyLost(LossReason::SessionEnded))));
    // The next one has a session of its own again.
    drop(acquire(&a, X, LONG));
}

#[test]
fn a_waiting_session_that_is_ended_waits_anew() {
    let stage = Stage::new();
    let (a, b) = (stage.manager(), stage.manager());
    let guard = acquire(&a, X, LONG);
    thread::scope(|scope| {
        let next = scope.spawn(|| acquire(&b, X, LONG));
        // And its process has been told that it does.
        until("it waits", || b.metrics().waiting == 1);
        let ended = stage.server.psql(
            "select pid, pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' \
             and not granted",
        );
        let pid = ended.split('|').next().unwrap().to_owned();
        until("another session waits", || {
            let waits = "select pid from pg_locks where locktype = 'advisory' and not granted";
            let waits = stage.server.psql(waits);
            !waits.is_empty() && waits != pid
        });
        block_on(guard.release()).unwrap();
        drop(next.join().unwrap());
    });
}

/// Does something when a session has ended, within being told.
struct AtTheEnd<F>(F);

impl<F: Fn(usize) + Send + Sync + 'static> Listener for AtTheEnd<F> {
    fn on_event(&self, event: Event) {
        if let Event::SessionEnded { members } = event {
            (self.0)(members.len());
        }
    }
}

/// The session was cut before the holders were told, and the next one could hold before they knew.
#[test]
fn a_session_that_is_closed_from_here_has_its_locks_until_their_holders_are_told() {
    let stage = Arc::new(Stage::new());
    let backend = stage.backend();
    let locks = LockManager::new(backend.clone()).unwrap();
    let reader = || block_on(locks.lock(X).ttl(LONG).shared().try_acquire());
    let (first, other) = (reader().unwrap().unwrap(), acquire(&locks, "y", LONG));
    let pid = stage.holding()[0].clone();
    let its_locks = {
        let stage = stage.clone();
        move || stage.holding().iter().filter(|holds| **holds == pid).count()
    };
    let (tell, told) = mpsc::channel();
    let at_the_end = Arc::new(AtTheEnd({
        let its_locks = its_locks.clone();
        move |_| tell.send(its_locks()).unwrap()
    }));
    let weak: Weak<AtTheEnd<_>> = Arc::downgrade(&at_the_end);
    backend.subscribe(weak);
    // A second reader that gets the lock, but no number: how often its session has it is not known.
    stage.server.psql("drop sequence tenure.fence");
    let another_session = reader();
    assert_eq!(told.recv().unwrap(), 2);
    for guard in [first, other] {
        assert_eq!(block_on(guard.lost()), LossReason::SessionEnded);
    }
    until("they are free then", || its_locks() == 0);
    drop(another_session);
}

/// Each of them was looked for among all, in the one thread that drives all sessions.
#[test]
fn the_locks_of_a_session_that_has_ended_are_told_at_once() {
    const MANY: usize = 200;
    let stage = Stage::new();
    let backend = stage.backend();
    let locks = LockManager::new(backend.clone()).unwrap();
    let guards: Vec<_> = (0..MANY).map(|n| acquire(&locks, &format!("many/{n}"), LONG)).collect();
    let (tell, told) = mpsc::channel();
    let at_the_end = Arc::new(AtTheEnd(move |count| tell.send(count).unwrap()));
    let weak: Weak<AtTheEnd<_>> = Arc::downgrade(&at_the_end);
    backend.subscribe(weak);
    stage.server.psql(&format!("select pg_terminate_backend({})", stage.holding()[0]));
    assert_eq!(told.recv().unwrap(), MANY);
    for guard in guards {
        assert_eq!(block_on(guard.lost()), LossReason::SessionEnded);
    }
    assert!(told.try_recv().is_err());
}

/// A sign of life that comes behind a wait is answered when the wait is: its session is not silent.
#[test]
fn a_wait_that_is_longer_than_its_class_keeps_its_place() {
    let stage = Stage::new();
    let (a, b) = (stage.manager(), stage.manager());
    let ttl = Duration::from_secs(1);
    let waiting = "select pid from pg_locks where locktype = 'advisory' and not granted";
    // The second time with a session that was shown to live while nobody used it.
    for unused in [Duration::ZERO, Duration::from_millis(700)] {
        let start = now();
        until("the session is unused for a while", || unused <= start.elapsed());
        let guard = acquire(&a, X, LONG);
        thread::scope(|scope| {
            let next = scope.spawn(|| acquire(&b, X, ttl));
            until("it waits", || !stage.server.psql(waiting).is_empty());
            let (pid, start) = (stage.server.psql(waiting), now());
            until("more than its class passes", || Duration::from_secs(3) < start.elapsed());
            assert_eq!(stage.server.psql(waiting), pid);
            block_on(guard.release()).unwrap();
            block_on(next.join().unwrap().release()).unwrap();
        });
    }
}

/// Looking again and again without a pause kept the server from doing what was looked for: with
/// real-time scheduling, for as long as a process may run at a stretch.
#[test]
fn a_place_at_the_server_is_looked_for_with_pauses() {
    let stage = Stage::new();
    let (a, b) = (stage.manager(), stage.manager());
    let waiting = "select pid from pg_locks where locktype = 'advisory' and not granted";
    let statements = || {
        let count = "select xact_commit from pg_stat_database where datname = current_database()";
        stage.server.psql(count).parse::<u64>().unwrap()
    };
    let signal = |name: &str, pid: &str| {
        assert!(std::process::Command::new("kill").args([name, pid]).status().unwrap().success());
    };
    let mut session = String::new();
    for stopped in [false, true] {
        let guard = acquire(&a, X, LONG);
        if stopped {
            signal("-STOP", &session);
        }
        thread::scope(|scope| {
            let next = scope.spawn(|| acquire(&b, X, LONG));
            if stopped {
                let (before, start) = (statements(), now());
                until("it is looked for", || Duration::from_millis(2500) < start.elapsed());
                signal("-CONT", &session);
                let after = statements();
                assert!(after - before < 500, "looked {} times", after - before);
            }
            until("it waits", || !stage.server.psql(waiting).is_empty());
            session = stage.server.psql(waiting);
            block_on(guard.release()).unwrap();
            block_on(next.join().unwrap().release()).unwrap();
        });
    }
}

/// More than have a session to wait with: those stand in their own process, and in order.
#[test]
fn a_crowd_of_one_process_is_served_in_its_order() {
    const CROWD: usize = 40;
    let stage = Stage::new();
    let locks = stage.manager();
    let guard = acquire(&locks, X, LONG);
    let (tell, told) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        for n in 0..CROWD {
            let (locks, tell) = (&locks, tell.clone());
            scope.spawn(move || {
                let guard = acquire(locks, X, LONG);
                tell.send((n, guard.fencing_token())).unwrap();
                block_on(guard.release()).unwrap();
            });
            until_waiting(locks, X, n + 1);
        }
        assert!(stage.sessions().len() < 16, "{}", stage.sessions().len());
        block_on(guard.release()).unwrap();
    });
    drop(tell);
    let served: Vec<_> = told.iter().collect();
    assert_eq!(served.iter().map(|(n, _)| *n).collect::<Vec<_>>(), (0..CROWD).collect::<Vec<_>>());
    assert!(served.is_sorted_by_key(|(_, fence)| *fence));
}

/// Whoever has no session to wait with is told when the lock is given back, and tries then.
#[test]
fn waits_for_more_locks_than_may_wait_at_the_server_all_end() {
    const LOCKS: usize = 44;
    let stage = Stage::new();
    let (a, b) = (stage.manager(), stage.manager());
    let name = |n: usize| format!("many waits/{n}");
    let mut held: Vec<_> = (0..LOCKS).map(|n| acquire(&a, &name(n), LONG)).collect();
    let waits = "select count(*) from pg_locks where locktype = 'advisory' and not granted";
    thread::scope(|scope| {
        for n in 0..LOCKS {
            scope.spawn({
                let b = &b;
                move || drop(acquire(b, &name(n), LONG))
            });
            until_waiting(&a, &name(n), usize::from(n < 32));
        }
        assert_eq!(stage.server.psql(waits), "32");
        until("the rest waits in its own process", || {
            look(&b, &name(LOCKS - 1)).waiters.len() == 1
        });
        // Those without a place at the server come first.
        while let Some(guard) = held.pop() {
            block_on(guard.release()).unwrap();
        }
    });
    block_on(b.close(LONG)).unwrap();
    assert!(stage.holding().is_empty());
}

#[test]
fn many_locks_share_few_sessions() {
    let stage = Stage::with(
        tenure_testkit::servers::postgres::PostgresSetup::new()
            .set("max_locks_per_transaction", "128"),
    );
    let locks = stage.manager();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let guards = runtime.block_on(async {
        let all = (0..2500).map(|n| locks.acquire(format!("many/{n}"), LONG));
        futures_util::future::try_join_all(all).await.unwrap()
    });
    let holding = stage.holding();
    assert_eq!(holding.len(), 2500);
    let mut sessions = holding.clone();
    sessions.dedup();
    assert!(sessions.len() <= 3, "{sessions:?}");
    // Those who come later find one that holds few.
    until("one more lock is on a session with few", || {
        let one_more = acquire(&locks, "one more", LONG);
        let mut now_holding = stage.holding();
        block_on(one_more.release()).unwrap();
        for pid in &holding {
            now_holding.remove(now_holding.iter().position(|p| p == pid).unwrap());
        }
        let beside = holding.iter().filter(|pid| **pid == now_holding[0]).count();
        beside < 1000
    });
    let mut fences: Vec<_> = guards.iter().map(|g| g.fencing_token()).collect();
    fences.sort_unstable();
    fences.dedup();
    assert_eq!(fences.len(), 2500);
    runtime.block_on(async {
        let all = guards.into_iter().map(|guard| guard.release());
        futures_util::future::try_join_all(all).await.unwrap();
    });
    assert!(stage.holding().is_empty());
}

#[test]
fn readers_of_one_process_share_and_do_not_pass_a_waiting_writer() {
    let stage = Stage::new();
    let (a, b) = (stage.manager(), stage.manager());
    let reader = || block_on(a.lock(X).ttl(LONG).shared().try_acquire()).unwrap();
    let first = reader().unwrap();
    let second = reader().unwrap();
    assert_ne!(first.fencing_token(), second.fencing_token());
    assert_eq!(look(&b, X).holders.len(), 2);
    thread::scope(|scope| {
        let writer = scope.spawn(|| acquire(&b, X, LONG));
        until_waiting(&a, X, 1);
        // The session has the lock already, and would be given it again.
        assert!(reader().is_none());
        block_on(first.release()).unwrap();
        assert!(reader().is_none());
        block_on(second.release()).unwrap();
        let writer = writer.join().unwrap();
        assert!(reader().is_none());
        block_on(writer.release()).unwrap();
    });
    drop(reader().unwrap());
}

#[test]
fn a_lock_lives_while_it_is_renewed_and_ends_when_its_owner_does_not_renew_it() {
    let stage = Stage::new();
    let (a, b) = (stage.manager(), stage.manager());
    let ttl = Duration::from_millis(700);
    let renewed = acquire(&a, "renewed", ttl);
    let silent = block_on(a.lock("silent").ttl(ttl).auto_renew(false).acquire()).unwrap();
    let next = acquire(&b, "silent", LONG);
    assert!(!silent.is_valid(), "two hold at once");
    assert_eq!(block_on(silent.lost()), LossReason::Expired);
    // Beyond the class of its session as well.
    let start = now();
    until("time passes", || Duration::from_secs(3) < start.elapsed());
    assert!(renewed.is_valid());
    assert!(attempt(&b, "renewed").is_none());
    drop((next, renewed));
}

#[test]
fn a_session_may_be_silent_for_as_long_as_its_longest_lock() {
    let stage = Stage::new();
    let locks = stage.manager();
    let mut guard =
        block_on(locks.lock(X).ttl(Duration::from_secs(1)).auto_renew(false).acquire()).unwrap();
    block_on(guard.extend(LONG)).unwrap();
    let start = now();
    until("the class it had is over", || Duration::from_secs(3) < start.elapsed());
    guard.check().unwrap();
    assert_eq!(stage.holding().len(), 1);
    block_on(guard.release()).unwrap();
}

/// Flights are driven by whoever waits for them; one that is not polled must not hold up the rest.
#[test]
fn a_task_that_stands_still_in_its_acquire_holds_up_nobody() {
    let stage = Stage::new();
    let locks = stage.manager();
    drop(acquire(&locks, "warm", LONG));
    block_on(locks.close(LONG)).unwrap();
    let still = loop {
        let mut still = Box::pin(locks.acquire("still", LONG));
        match block_on(futures_lite::future::poll_once(still.as_mut())) {
            None => break still,
            // The answer was faster than the look.
            Some(guard) => block_on(guard.unwrap().release()).unwrap(),
        }
    };
    let start = now();
    for _ in 0..3 {
        block_on(acquire(&locks, X, LONG).release()).unwrap();
    }
    // And not for as long as its session may be silent.
    assert!(start.elapsed() < LONG / 6, "{:?}", start.elapsed());
    block_on(block_on(still).unwrap().release()).unwrap();
}

#[test]
fn a_backend_that_is_dropped_closes_its_sessions() {
    let stage = Stage::new();
    let locks = stage.manager();
    let guard = acquire(&locks, X, LONG);
    assert!(!stage.sessions().is_empty());
    drop((guard, locks));
    until("no session is left", || stage.sessions().is_empty());
}
