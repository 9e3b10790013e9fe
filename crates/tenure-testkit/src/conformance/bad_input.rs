//! What is out of its range is refused by kind, and nothing is changed by it.

use std::time::Duration;

use serde_json::json;
use tenure_core::{Actor, ErrorKind, LockName, LockToken, RetryConfig, Seats, Ttl};

use super::Store;
use super::kit::{LONG, fresh, handed_out, kind, look, manager};

/// Names that break the rule are refused by every call that takes one.
pub async fn bad_names_are_refused(store: &dyn Store) {
    let locks = manager(store).await;
    let long = "x".repeat(LockName::MAX_LEN + 1);
    let huge = "x".repeat(1 << 20);
    let bad = ["", "a\0b", "a\nb", "a\rb", "a\tb", "\u{7f}", "\u{1b}[31m", "\u{85}", &long, &huge];
    for name in bad {
        assert_eq!(kind(locks.acquire(name, LONG).await), ErrorKind::Invalid);
        assert_eq!(kind(locks.try_acquire(name, LONG).await), ErrorKind::Invalid);
        assert_eq!(kind(locks.inspect(name).await), ErrorKind::Invalid);
        assert_eq!(kind(locks.is_locked(name).await), ErrorKind::Invalid);
        assert_eq!(kind(locks.force_release(name, None, "bad").await), ErrorKind::Invalid);
        assert_eq!(kind(locks.keys(name)), ErrorKind::Invalid);
        let error = locks.acquire(name, LONG).await.expect_err("it is refused");
        assert!(error.to_string().len() < 2048, "an error does not repeat what is too long");
    }
}

/// A ttl out of range is refused, and one that the store cannot keep.
pub async fn bad_ttls_are_refused(store: &dyn Store) {
    let locks = manager(store).await;
    let name = fresh("bad-ttl");
    let can = locks.capabilities().clone();
    let mut guard = locks.acquire(name.clone(), LONG).await.unwrap();
    let bad = [
        Duration::ZERO,
        Duration::from_nanos(1),
        Ttl::MIN - Duration::from_nanos(1),
        Ttl::MAX + Duration::from_nanos(1),
        can.ttl_min - Duration::from_nanos(1),
        can.ttl_max + Duration::from_nanos(1),
        Duration::from_secs(50 * 24 * 60 * 60),
        Duration::MAX,
    ];
    for ttl in bad {
        assert_eq!(kind(locks.acquire(fresh("bad-ttl"), ttl).await), ErrorKind::Invalid);
        assert_eq!(kind(guard.extend(ttl).await), ErrorKind::Invalid);
    }
    for every in [Duration::ZERO, LONG / 2 + Duration::from_nanos(1), Duration::MAX] {
        let request = locks.lock(fresh("bad-renewal")).ttl(LONG).renew_every(every);
        assert_eq!(kind(request.acquire().await), ErrorKind::Invalid);
    }
    assert!(guard.is_valid());
    assert_eq!(guard.ttl(), LONG);
    guard.release().await.unwrap();
    let longest = locks.acquire(name.clone(), can.ttl_max).await.unwrap();
    longest.release().await.unwrap();
}

/// Seats that nobody can hold are refused, however they were put together.
pub async fn bad_seats_are_refused(store: &dyn Store) {
    let locks = manager(store).await;
    let name = fresh("bad-seats");
    for (take, of) in [(0, 3), (4, 3), (0, 0), (1, 0), (u32::MAX, 1)] {
        let request = locks.lock(name.clone()).permits(take, of);
        assert_eq!(kind(request.acquire().await), ErrorKind::Invalid, "{take} of {of}");
        let request = locks.lock(name.clone()).seats(Seats::Some { take, of });
        let wait = request.wait_timeout(Duration::from_millis(50)).acquire().await;
        assert_eq!(kind(wait), ErrorKind::Invalid, "{take} of {of}");
    }
    let view = look(&locks, &name).await;
    assert!(!view.is_locked() && view.waiters.is_empty());
    locks.lock(name).permits(u32::MAX, u32::MAX).acquire().await.unwrap().release().await.unwrap();
}

/// Nor can a guard be turned into such seats.
pub async fn bad_downgrades_are_refused(store: &dyn Store) {
    let locks = manager(store).await;
    let name = fresh("bad-downgrade");
    let mut guard = locks.acquire(name.clone(), LONG).await.unwrap();
    for seats in [Seats::All, Seats::Some { take: 0, of: 3 }, Seats::Some { take: 4, of: 3 }] {
        assert_eq!(kind(guard.downgrade(seats).await), ErrorKind::Invalid, "{seats:?}");
    }
    assert_eq!(look(&locks, &name).await.holders[0].seats, Seats::All);
    guard.release().await.unwrap();
}

/// A priority out of range is refused; the ends of the range are not.
pub async fn bad_priorities_are_refused(store: &dyn Store) {
    let locks = manager(store).await;
    let name = fresh("bad-priority");
    for points in [-1001, 1001, i32::MIN, i32::MAX] {
        let request = locks.lock(name.clone()).priority(points);
        assert_eq!(kind(request.acquire().await), ErrorKind::Invalid);
    }
    for points in [-1000, 1000] {
        let guard = locks.lock(name.clone()).priority(points).acquire().await.unwrap();
        guard.release().await.unwrap();
    }
}

/// Metadata up to its limit is kept, deep or flat; beyond it is refused.
pub async fn metadata_is_kept_up_to_its_limit(store: &dyn Store) {
    let locks = manager(store).await;
    let name = fresh("bad-metadata");
    // Two quotes belong to the JSON.
    let at_limit = json!("x".repeat(16 * 1024 - 2));
    let beyond = json!("x".repeat(16 * 1024 - 1));
    let escapes = json!("\u{1}".repeat(16 * 1024 / 6 - 1));
    let refused = locks.lock(name.clone()).metadata(beyond).acquire().await;
    assert_eq!(kind(refused), ErrorKind::Invalid);
    assert!(!look(&locks, &name).await.is_locked());
    let nested = (0..127).fold(json!(null), |inner, _| json!([inner]));
    for metadata in [at_limit, escapes, nested, json!(1e308), json!({}), json!("é\u{0}")] {
        let request = locks.lock(name.clone()).ttl(LONG).metadata(metadata.clone());
        let guard = request.acquire().await.unwrap();
        let seen = locks.get_lock_info(name.clone()).await.unwrap().expect("it is held");
        let text = seen.details.metadata.as_deref().expect("it has metadata").to_owned();
        assert_eq!(text, metadata.to_string());
        guard.release().await.unwrap();
    }
}

/// Labels, actors and reasons are short text without control characters.
pub async fn bad_words_are_refused(store: &dyn Store) {
    let locks = manager(store).await;
    let name = fresh("bad-words");
    let long = "x".repeat(257);
    for bad in ["", "a\nb", "\u{1b}[0m", &long] {
        let request = locks.lock(name.clone()).owner(bad);
        assert_eq!(kind(request.acquire().await), ErrorKind::Invalid);
        assert_eq!(kind(Actor::new(bad)), ErrorKind::Invalid);
    }
    let guard = locks.acquire(name.clone(), LONG).await.unwrap();
    let long = "x".repeat(1025);
    for bad in ["", "  ", "a\nb", &long] {
        let evicted = locks.force_release(name.clone(), None, bad).await;
        assert_eq!(kind(evicted), ErrorKind::Invalid);
    }
    assert!(guard.is_valid());
    assert!(look(&locks, &name).await.is_locked());
    guard.release().await.unwrap();
}

/// A way to retry that never ends or never begins is refused.
pub async fn bad_retries_are_refused(store: &dyn Store) {
    let locks = manager(store).await;
    let name = fresh("bad-retry");
    let none = RetryConfig { max_attempts: 0, ..RetryConfig::default() };
    let shrinks = RetryConfig { backoff_multiplier: 0.5, ..RetryConfig::default() };
    let nan = RetryConfig { backoff_multiplier: f64::NAN, ..RetryConfig::default() };
    let infinite = RetryConfig { backoff_multiplier: f64::INFINITY, ..RetryConfig::default() };
    for retry in [none, shrinks, nan, infinite] {
        let request = locks.lock(name.clone()).retry(retry);
        assert_eq!(kind(request.acquire().await), ErrorKind::Invalid);
    }
    assert!(!look(&locks, &name).await.is_locked());
}

/// Text that is not a lock token is refused, and a token says nothing about its secret.
pub async fn bad_lock_tokens_are_refused(store: &dyn Store) {
    let locks = manager(store).await;
    let name = fresh("bad-token");
    let token = handed_out(store, &locks, &name, LONG).await;
    let good = token.expose();
    let secret = good.split('.').nth(1).expect("its second part").to_owned();
    assert!(!format!("{token:?}").contains(&secret));
    for bad in [
        String::new(),
        good[..good.len() - 1].to_owned(),
        format!("{good}x"),
        format!("{good}."),
        good.replace("tenure1", "tenure9"),
        good.replace(&secret, &secret[1..]),
        good.replace(&secret, "é"),
        "x".repeat(1 << 20),
    ] {
        assert_eq!(kind(bad.parse::<LockToken>()), ErrorKind::Invalid);
    }
    locks.release_token(&good.parse().unwrap()).await.unwrap();
}

/// What a store cannot do is refused before anything is sent.
pub async fn what_a_store_cannot_do_is_refused(store: &dyn Store) {
    let locks = manager(store).await;
    let can = locks.capabilities().clone();
    let name = fresh("unsupported");
    let unsupported = ErrorKind::Unsupported;
    if !can.shared {
        assert_eq!(kind(locks.lock(name.clone()).shared().try_acquire().await), unsupported);
    }
    if !can.permits {
        let request = locks.lock(name.clone()).permits(1, 2);
        assert_eq!(kind(request.try_acquire().await), unsupported);
    }
    if !can.priority {
        assert_eq!(kind(locks.lock(name.clone()).priority(1).try_acquire().await), unsupported);
    }
    if !can.metadata {
        let request = locks.lock(name.clone()).metadata(json!(1));
        assert_eq!(kind(request.try_acquire().await), unsupported);
    }
    if !can.force_release {
        assert_eq!(kind(locks.force_release(name.clone(), None, "no").await), unsupported);
    }
    if !can.force_acquire {
        let request = locks.lock(name.clone()).on_conflict(tenure_core::Conflict::Force);
        assert_eq!(kind(request.acquire().await), unsupported);
    }
    if !can.list {
        assert_eq!(kind(locks.list("", 1).await), unsupported);
        assert_eq!(kind(locks.watch("")), unsupported);
    }
    let mut guard = locks.acquire(name.clone(), LONG.max(can.ttl_min)).await.unwrap();
    if can.value_max.is_none() {
        assert_eq!(kind(guard.set_value(&b"x"[..], LONG).await), unsupported);
        assert_eq!(kind(locks.lock(name.clone()).acquire_or_value().await), unsupported);
    }
    if !can.upgrade {
        assert_eq!(kind(guard.downgrade(Seats::SHARED).await), unsupported);
    }
    assert!(guard.is_valid());
    if can.detached {
        return guard.release().await.unwrap();
    }
    assert_eq!(kind(guard.into_token().await), unsupported);
}
