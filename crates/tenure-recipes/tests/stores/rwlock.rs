//! Readers and writers.

use std::time::Duration;

use futures_lite::future::poll_once;
use tenure_core::ErrorKind;
use tenure_recipes::RwLock;

use crate::stage::{PATIENCE, Store, seen, waiting};

pub(crate) async fn readers_share_and_a_writer_is_alone(store: &Store) {
    let (a, b) = (store.manager(), store.manager());
    let [here, there] = [&a, &b].map(|locks| RwLock::new(locks, "rw/share").unwrap());
    let one = here.read().await.unwrap();
    let two = there.try_read().await.unwrap().expect("readers share");
    assert!(there.try_write().await.unwrap().is_none());
    let late = here.write_within(Duration::from_millis(20)).await.unwrap_err();
    assert!(late.kind().is_not_acquired(), "{late}");
    one.release().await.unwrap();
    two.release().await.unwrap();
    let writer = there.write().await.unwrap();
    assert!(here.try_read().await.unwrap().is_none());
    assert!(here.try_write().await.unwrap().is_none());
    writer.check().unwrap();
    writer.release().await.unwrap();
    here.read_within(PATIENCE).await.unwrap().release().await.unwrap();
}

pub(crate) async fn a_reader_does_not_pass_a_writer_that_waits(store: &Store) {
    let (a, b) = (store.manager(), store.manager());
    let lock = RwLock::new(&a, "rw/pass").unwrap();
    let reader = lock.read().await.unwrap();
    let writer = RwLock::new(&b, "rw/pass").unwrap();
    let writer = waiting(&a, "rw/pass", 1, async move { writer.write().await }).await;
    assert!(lock.try_read().await.unwrap().is_none());
    reader.release().await.unwrap();
    writer.await.unwrap().unwrap().release().await.unwrap();
}

pub(crate) async fn a_reader_becomes_a_writer_when_the_others_have_left(store: &Store) {
    let (a, b) = (store.manager(), store.manager());
    let lock = RwLock::new(&a, "rw/upgrade").unwrap();
    let one = lock.upgradable_read().await.unwrap();
    let other = RwLock::new(&b, "rw/upgrade").unwrap().read().await.unwrap();
    let before = one.fencing_token();

    let one = one.upgrade(Some(Duration::from_millis(20))).await.unwrap_err();
    assert_eq!(one.error().kind(), ErrorKind::WaitTimeout);
    let one = one.into_guard();
    one.check().unwrap();

    let writer = waiting(&a, "rw/upgrade", 1, async move { one.upgrade(None).await }).await;
    other.release().await.unwrap();
    let writer = writer.await.unwrap().unwrap();
    assert!(before < writer.fencing_token());
    assert!(lock.try_read().await.unwrap().is_none());
    writer.release().await.unwrap();
}

pub(crate) async fn a_second_upgrader_is_refused_at_once_and_reads_on(store: &Store) {
    let (a, b) = (store.manager(), store.manager());
    let one = RwLock::new(&a, "rw/second").unwrap().upgradable_read().await.unwrap();
    let two = RwLock::new(&b, "rw/second").unwrap().upgradable_read().await.unwrap();
    let first = waiting(&a, "rw/second", 1, async move { one.upgrade(None).await }).await;
    let two = two.upgrade(None).await.unwrap_err();
    assert!(two.is_deadlock(), "{two}");
    let two = two.into_guard();
    two.check().unwrap();
    two.into_read().release().await.unwrap();
    first.await.unwrap().unwrap().release().await.unwrap();
}

pub(crate) async fn a_writer_that_becomes_a_reader_lets_readers_in_and_no_writer(store: &Store) {
    let (a, b) = (store.manager(), store.manager());
    let (here, there) = (RwLock::new(&a, "rw/down").unwrap(), RwLock::new(&b, "rw/down").unwrap());
    let writer = here.write().await.unwrap();
    let fence = writer.fencing_token();
    let waits = there.clone();
    let reader = waiting(&a, "rw/down", 1, async move { waits.read().await }).await;
    let mine = writer.downgrade_to_upgradable().await.unwrap();
    assert_eq!(mine.fencing_token(), fence);
    let reader = reader.await.unwrap().unwrap();
    assert!(there.try_write().await.unwrap().is_none());
    reader.release().await.unwrap();
    let writer = mine.upgrade(None).await.unwrap();
    writer.downgrade().await.unwrap().release().await.unwrap();
    there.try_write().await.unwrap().expect("nobody is left").release().await.unwrap();
}

pub(crate) async fn an_upgrade_that_is_dropped_gives_everything_back(store: &Store) {
    let (a, b) = (store.manager(), store.manager());
    let one = RwLock::new(&a, "rw/drop").unwrap().upgradable_read().await.unwrap();
    let other = RwLock::new(&b, "rw/drop").unwrap().read().await.unwrap();
    let mut upgrade = Box::pin(one.upgrade(None));
    while seen(&b, "rw/drop", |_| true).await.waiters.is_empty() {
        assert!(poll_once(upgrade.as_mut()).await.is_none());
    }
    drop(upgrade);
    seen(&b, "rw/drop", |view| view.waiters.is_empty() && view.holders.len() == 1).await;
    other.release().await.unwrap();
}

pub(crate) async fn who_cannot_upgrade_is_told_where_that_is_possible(store: &Store) {
    let locks = store.manager();
    let lock = RwLock::new(&locks, "rw/lacks").unwrap();
    if locks.capabilities().upgrade {
        return lock.upgradable_read().await.unwrap().release().await.unwrap();
    }
    let errors = [
        lock.upgradable_read().await.unwrap_err(),
        lock.try_upgradable_read().await.unwrap_err(),
        lock.write().await.unwrap().downgrade().await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.help().unwrap().contains("postgres://"), "{:?}", error.help());
    }
    seen(&locks, "rw/lacks", |view| !view.is_locked()).await;
}
