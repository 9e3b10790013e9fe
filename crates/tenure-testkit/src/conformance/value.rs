//! The value: written by a holder of all seats, read by anybody.

use std::time::Duration;

use futures_util::future::join;
use tenure_core::backend::{Change, Release};
use tenure_core::{Answer, ErrorKind, NotReleased};

use super::Store;
use super::kit::{
    LONG, Wants, claim, fresh, holders, kind, look, manager, raw, until, until_waiting, value,
    waiters,
};

/// Whoever looks sees it, with the fence of its writer, until its retention is over.
pub async fn a_value_is_seen_by_anybody_until_it_is_over(store: &dyn Store) {
    let (a, b) = (raw(store).await, raw(store).await);
    let name = fresh("value");
    let writer = claim(&name);
    let grant = a.granted(&writer).await;
    let change = a.put(&writer, grant, &value(b"one", LONG)).await;
    assert!(matches!(change, Change::Done(_)), "{change:?}");
    let seen = b.view(&name).await.value.expect("it is kept");
    assert_eq!((&*seen.bytes, seen.fence), (&b"one"[..], grant.fence));
    a.release(&writer, grant).await;
    assert!(b.view(&name).await.value.is_some(), "a value outlives its writer's hold");
    let writer = claim(&name);
    let grant = b.granted(&writer).await;
    let short = value(b"two", store.short_ttl());
    assert_eq!(b.release_with(&writer, grant, Some(&short)).await, Release::Released);
    let seen = a.view(&name).await.value;
    assert!(seen.is_none_or(|v| &*v.bytes == b"two" && v.fence == grant.fence));
    until(store, "the value is over", async || a.view(&name).await.value.is_none().then_some(()))
        .await;
    b.granted(&claim(&name).or_value()).await;
}

/// Readers and strangers do not write.
pub async fn only_a_holder_of_all_seats_writes_the_value(store: &dyn Store) {
    let a = raw(store).await;
    let name = fresh("value-reader");
    let reader = claim(&name).shared();
    let grant = a.granted(&reader).await;
    let bytes = value(b"mine", LONG);
    assert_eq!(a.put(&reader, grant, &bytes).await, Change::NeedsAllSeats);
    assert_eq!(a.release_with(&reader, grant, Some(&bytes)).await, Release::NeedsAllSeats);
    let view = a.view(&name).await;
    assert_eq!((holders(&view), view.value), (vec![reader.member], None), "nothing was changed");
    a.release(&reader, grant).await;
    assert_eq!(a.view(&name).await.value, None);
}

/// Nor does somebody who held once.
pub async fn a_value_of_somebody_who_lost_the_lock_is_refused(store: &dyn Store) {
    let (a, b) = (raw(store).await, raw(store).await);
    let name = fresh("value-late");
    let (first, second) = (claim(&name), claim(&name));
    let old = a.granted(&first).await;
    a.release(&first, old).await;
    let grant = b.granted(&second).await;
    b.put(&second, grant, &value(b"new", LONG)).await;
    let late = a.put(&first, old, &value(b"old", LONG)).await;
    assert!(matches!(late, Change::NotHeld(_)), "{late:?}");
    a.release_with(&first, old, Some(&value(b"old", LONG))).await;
    let view = b.view(&name).await;
    assert_eq!(holders(&view), [second.member]);
    assert_eq!(&*view.value.expect("it is kept").bytes, b"new");
}

/// A release with a value answers those who would rather have that, and hands over to the rest.
pub async fn a_release_with_a_value_answers_those_who_want_it(store: &dyn Store) {
    let (a, b) = (raw(store).await, raw(store).await);
    let name = fresh("value-answers");
    let leader = claim(&name);
    let grant = a.granted(&leader).await;
    let followers = [claim(&name).or_value().waiting(), claim(&name).or_value().waiting()];
    let worker = claim(&name).waiting();
    b.queued(&followers[0]).await;
    b.queued(&worker).await;
    b.queued(&followers[1]).await;
    let result = value(b"result", LONG);
    assert_eq!(a.release_with(&leader, grant, Some(&result)).await, Release::Released);
    let view = b.view(&name).await;
    assert_eq!((holders(&view), view.waiters.len()), (vec![worker.member], 0));
    for follower in &followers {
        let seen = b.answered(follower).await;
        assert_eq!((&*seen.bytes, seen.fence), (&b"result"[..], grant.fence));
    }
    assert_eq!(holders(&b.view(&name).await), [worker.member]);
}

/// A live value on a free lock answers at once; on a held one it is waited for.
pub async fn a_live_value_answers_once_the_lock_is_free(store: &dyn Store) {
    let a = raw(store).await;
    let name = fresh("value-live");
    let leader = claim(&name);
    let grant = a.granted(&leader).await;
    a.put(&leader, grant, &value(b"so far", LONG)).await;
    let follower = claim(&name).or_value();
    a.busy(&follower).await;
    a.release(&leader, grant).await;
    assert_eq!(&*a.answered(&follower).await.bytes, b"so far");
    assert!(!a.view(&name).await.is_locked(), "a value takes no seats");
    a.granted(&claim(&name)).await;
}

/// A lock that falls free with a live value answers those who wait for either.
pub async fn a_lock_that_falls_free_with_a_value_answers_its_waiters(store: &dyn Store) {
    let a = raw(store).await;
    let name = fresh("value-falls-free");
    let leader = claim(&name);
    let grant = a.granted(&leader).await;
    a.put(&leader, grant, &value(b"so far", LONG)).await;
    let follower = claim(&name).or_value().waiting();
    a.queued(&follower).await;
    a.release(&leader, grant).await;
    let view = a.view(&name).await;
    assert!(!view.is_locked() && view.waiters.is_empty(), "it was granted: {view:?}");
    assert_eq!(&*a.answered(&follower).await.bytes, b"so far");
}

/// Without a value the lock itself is the answer.
pub async fn without_a_value_the_lock_is_the_answer(store: &dyn Store) {
    let a = raw(store).await;
    let name = fresh("value-none");
    let leader = claim(&name);
    let grant = a.granted(&leader).await;
    let followers = [claim(&name).or_value().waiting(), claim(&name).or_value().waiting()];
    a.queued(&followers[0]).await;
    a.queued(&followers[1]).await;
    a.release(&leader, grant).await;
    a.granted(&followers[0]).await;
    assert_eq!(waiters(&a.view(&name).await), [followers[1].member.holder()]);
}

/// The longest value, and bytes of every kind, come back as they were.
pub async fn the_longest_value_comes_back_byte_by_byte(store: &dyn Store) {
    let (a, b) = (manager(store).await, manager(store).await);
    let name = fresh("value-long");
    let max = a.capabilities().value_max.expect("the rule asks for values");
    let every: Vec<u8> = (0..=255).collect();
    let quotes = "\"\\\n\u{1F512}é".repeat(100).into_bytes();
    let long: Vec<u8> = every.iter().copied().cycle().take(max).collect();
    for bytes in [Vec::new(), every, quotes, long] {
        let guard = a.acquire(name.clone(), LONG).await.unwrap();
        let length = bytes.len();
        guard.set_value(bytes.clone(), LONG).await.unwrap();
        guard.release().await.unwrap();
        let seen = look(&b, &name).await.value.expect("it is kept");
        assert!(*seen.bytes == *bytes, "{length} bytes came back as others");
    }
}

/// A value that is too long is refused before anything is sent.
pub async fn a_value_that_is_too_long_is_refused(store: &dyn Store) {
    let a = manager(store).await;
    let name = fresh("value-too-long");
    let max = a.capabilities().value_max.expect("the rule asks for values");
    let guard = a.acquire(name.clone(), LONG).await.unwrap();
    guard.set_value(&b"small"[..], LONG).await.unwrap();
    assert_eq!(kind(guard.set_value(vec![0; max + 1], LONG).await), ErrorKind::Invalid);
    assert!(guard.is_valid());
    let released = guard.release_with(vec![0; max + 1], LONG).await;
    let told = matches!(&released, Err(NotReleased::Unknown { error, .. }) if error.kind() == ErrorKind::Invalid);
    assert!(told, "{released:?}");
    a.close(store.patience()).await.unwrap();
    let view = look(&a, &name).await;
    assert!(!view.is_locked());
    assert_eq!(&*view.value.expect("the old one stays").bytes, b"small");
}

/// Through managers: one works, the others get what it found.
pub async fn one_works_and_the_others_get_the_value(store: &dyn Store) {
    let (a, b) = (manager(store).await, manager(store).await);
    let name = fresh("single-flight");
    let answer = a.lock(name.clone()).ttl(LONG).acquire_or_value().await.unwrap();
    let Answer::Held(guard) = answer else { panic!("{answer:?}") };
    let work = async {
        until_waiting(store, &a, &name, 1).await;
        guard.release_with(&b"found"[..], Duration::from_secs(60)).await.unwrap();
    };
    let follow = async { b.lock(name.clone()).ttl(LONG).acquire_or_value().await.unwrap() };
    let ((), answer) = join(work, follow).await;
    let Answer::Value(seen) = answer else { panic!("{answer:?}") };
    assert_eq!(&*seen.bytes, b"found");
    let again = a.lock(name.clone()).ttl(LONG).acquire_or_value().await.unwrap();
    assert!(matches!(again, Answer::Value(v) if &*v.bytes == b"found"));
    assert!(!look(&b, &name).await.is_locked());
}
