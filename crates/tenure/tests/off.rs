//! A program that is switched to `off:` goes on without a call that fails.
#![cfg(feature = "memory")]
#![allow(clippy::unwrap_used, reason = "a test that panics says why")]

use std::time::Duration;

use tenure::Conflict;

const TTL: Duration = Duration::from_secs(30);

#[tokio::test]
async fn whatever_a_program_asks_for_is_granted() {
    let locks = tenure::connect("off:").await.unwrap();
    let plain = locks.acquire("x", TTL).await.unwrap();
    let again = locks.try_acquire("x", TTL).await.unwrap().expect("everybody gets it");
    assert!(plain.fencing_token() < again.fencing_token());
    for conflict in [Conflict::Fail, Conflict::Force, Conflict::StealStale { after: TTL }] {
        locks.lock("x").on_conflict(conflict).acquire().await.unwrap().release().await.unwrap();
    }
    let claim = locks.lock("x").permits(2, 3).priority(5).metadata(serde_json::json!({ "a": 1 }));
    claim.acquire().await.unwrap().release().await.unwrap();
    let mut shared = locks.lock("x").shared().acquire().await.unwrap();
    shared.upgrade(None).await.unwrap();
    shared.downgrade(tenure::Seats::SHARED).await.unwrap();
    shared.release().await.unwrap();
    let token = plain.into_token().await.unwrap();
    locks.renew_token(&token, TTL).await.unwrap();
    locks.release_token(&token).await.unwrap();
    again.release().await.unwrap();
    assert!(!locks.is_locked("x").await.unwrap());
    assert!(locks.list("", 10).await.unwrap().is_empty());
    locks.watch("").unwrap();
}
