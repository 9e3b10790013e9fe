//! No two conflicting holders.

use std::cell::Cell;

use futures_util::future::join_all;
use tenure_core::backend::Release;
use tenure_core::{ErrorKind, Fence, LockName};

use super::Store;
use super::kit::{LONG, claim, fresh, holders, manager, raw};

/// Who holds all seats holds alone, and who asks is told who that is.
pub async fn an_exclusive_lock_has_one_holder(store: &dyn Store) {
    let (a, b) = (raw(store).await, raw(store).await);
    let name = fresh("exclusion");
    let (first, second) = (claim(&name), claim(&name));
    let grant = a.granted(&first).await;
    let place = b.busy(&second).await;
    assert_eq!(place.holders.iter().map(|h| h.member).collect::<Vec<_>>(), [first.member]);
    assert_eq!(holders(&b.view(&name).await), [first.member]);
    assert_eq!(a.release(&first, grant).await, Release::Released);
    b.granted(&second).await;
    assert_eq!(holders(&a.view(&name).await), [second.member]);
}

/// A try answers `None` while somebody else holds, and changes nothing by that.
pub async fn a_try_on_a_taken_lock_answers_none(store: &dyn Store) {
    let (a, b) = (manager(store).await, manager(store).await);
    let name = fresh("try");
    let guard = a.acquire(name.clone(), LONG).await.unwrap();
    for _ in 0..3 {
        assert!(b.try_acquire(name.clone(), LONG).await.unwrap().is_none());
    }
    assert!(guard.is_valid());
    guard.release().await.unwrap();
    let guard = b.try_acquire(name.clone(), LONG).await.unwrap().expect("it is free");
    assert!(a.try_acquire(name.clone(), LONG).await.unwrap().is_none());
    guard.release().await.unwrap();
}

/// Names are the same lock exactly when their bytes are the same, whatever a store makes of them.
pub async fn names_are_compared_byte_by_byte(store: &dyn Store) {
    let a = raw(store).await;
    let unique = fresh("names");
    let mut tails: Vec<String> = [
        "x",
        "X",
        "x ",
        "x.",
        "x/",
        "x//",
        "x/.",
        "x/..",
        "x\\",
        "x:",
        "x:y",
        "x_y",
        "x%3Ay",
        "x%",
        "{x}",
        "{x",
        "x}",
        "{}",
        "{a}{b}",
        "x*",
        "x?",
        "[x]",
        "x\"",
        "x'",
        "x;--",
        "$x",
        "`x`",
        "#x",
        "é",
        "e\u{301}",
        "\u{202e}x",
        "x\u{200b}",
        "🔒",
        "CON",
        "nul",
        "~",
        "-x",
        "x\u{fffd}",
        "%00",
    ]
    .map(str::to_owned)
    .to_vec();
    tails.push("y".repeat(LockName::MAX_LEN - unique.as_str().len() - 1));
    tails.push("y".repeat(LockName::MAX_LEN - unique.as_str().len() - 2));
    let mut held = Vec::new();
    for tail in &tails {
        let name = LockName::new(format!("{unique}{tail}")).expect("a valid name");
        let claim = claim(&name);
        if !store.takes(&name) {
            let refused = a.acquire_once(&claim).await.expect_err("it cannot be told from others");
            assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused:?}");
            assert!(refused.changed_nothing());
            continue;
        }
        let grant = a.granted(&claim).await;
        held.push((claim, grant));
    }
    for (claim, grant) in held {
        assert_eq!(holders(&a.view(&claim.name).await), [claim.member], "{:?}", claim.name);
        assert_eq!(a.release(&claim, grant).await, Release::Released);
    }
}

/// Under contention of several processes there is one holder at a time, and each has a higher
/// fence than the one before.
pub async fn contending_processes_never_overlap(store: &dyn Store) {
    const PROCESSES: usize = 3;
    const ROUNDS: usize = 8;
    let name = fresh("contention");
    let (inside, last, grants) = (Cell::new(false), Cell::new(Fence::ZERO), Cell::new(0));
    let worker = || async {
        let locks = manager(store).await;
        for _ in 0..ROUNDS {
            let guard = locks.acquire(name.clone(), LONG).await.unwrap();
            assert!(!inside.replace(true), "two hold at once");
            assert!(last.replace(guard.fencing_token()) < guard.fencing_token(), "a fence fell");
            grants.set(grants.get() + 1);
            futures_lite::future::yield_now().await;
            assert!(guard.is_valid());
            inside.set(false);
            guard.release().await.unwrap();
        }
    };
    join_all((0..PROCESSES).map(|_| worker())).await;
    assert_eq!(grants.get(), PROCESSES * ROUNDS);
}
