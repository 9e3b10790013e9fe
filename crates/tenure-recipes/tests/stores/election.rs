//! Leaders, candidates and observers.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use tenure_core::{ErrorKind, LossReason};
use tenure_recipes::{Election, StoppedLeading};

use crate::stage::{LONG, PATIENCE, Store, seen, waiting};

/// Whoever lost a term by force is told with its next renewal at the latest.
const SHORT: Duration = Duration::from_millis(1500);

pub(crate) async fn one_leads_and_the_next_follows_in_a_higher_term(store: &Store) {
    let (a, b) = (store.manager(), store.manager());
    let here = Election::new(&a, "elect/next").unwrap();
    let there = Election::new(&b, "elect/next").unwrap().ttl(LONG);
    let mut last = here.campaign().await.unwrap();
    assert!(there.try_campaign().await.unwrap().is_none());
    let late = there.campaign_within(Duration::from_millis(20)).await.unwrap_err();
    assert!(late.kind().is_not_acquired(), "{late}");
    for n in 0..6 {
        let next = if n % 2 == 0 { there.clone() } else { here.clone() };
        let next = waiting(&a, "elect/next", 1, async move { next.campaign().await }).await;
        let term = last.term();
        last.resign().await.unwrap();
        last = next.await.unwrap().unwrap();
        last.check().unwrap();
        assert!(term < last.term());
    }
    // A leader that is dropped resigns, too.
    drop(last);
    there.campaign_within(PATIENCE).await.unwrap().resign().await.unwrap();
}

pub(crate) async fn everybody_sees_who_leads(store: &Store) {
    let (a, b) = (store.manager(), store.manager());
    let election = Election::new(&a, "elect/who").unwrap().owner("ann");
    let watching = Election::new(&b, "elect/who").unwrap();
    assert_eq!(watching.leader().await.unwrap(), None);
    let leadership = election.campaign().await.unwrap();
    let leader = watching.leader().await.unwrap().expect("ann leads");
    assert_eq!(&*leader.owner.label, "ann");
    assert_eq!((leader.id, leader.term), (leadership.id(), leadership.term()));
    assert_eq!(leader.value, None);
    leadership.resign().await.unwrap();
    seen(&b, "elect/who", |view| !view.is_locked()).await;
    assert_eq!(watching.leader().await.unwrap(), None);
}

pub(crate) async fn observers_see_leader_term_and_value_and_no_value_of_an_earlier_term(
    store: &Store,
) {
    let (a, b) = (store.manager(), store.manager());
    let here = Election::new(&a, "elect/see").unwrap().owner("ann");
    let there = Election::new(&b, "elect/see").unwrap().owner("bob");
    let watch = there.observe().look_every(Duration::from_millis(20));
    let mut watch = Box::pin(watch.into_stream());
    let mut next = async || watch.next().await.expect("it has no end").unwrap();
    assert_eq!(next().await, None);

    let first = here.campaign().await.unwrap();
    first.proclaim("10.0.0.1").await.unwrap();
    let leader = loop {
        let leader = next().await.expect("ann leads");
        assert_eq!((&*leader.owner.label, leader.term), ("ann", first.term()));
        if leader.value.is_some() {
            break leader;
        }
    };
    assert_eq!(leader.value.as_deref(), Some(&b"10.0.0.1"[..]));
    first.proclaim(vec![0, 255]).await.unwrap();
    assert_eq!(next().await.unwrap().value.as_deref(), Some(&[0, 255][..]));

    // Dropped: its value stays at the store, and is not that of the next leader.
    let term = first.term();
    drop(first);
    let second = there.campaign_within(PATIENCE).await.unwrap();
    let leader = loop {
        match next().await {
            Some(leader) if leader.term == second.term() => break leader,
            Some(leader) => assert_eq!(leader.term, term),
            None => {}
        }
    };
    assert_eq!((&*leader.owner.label, leader.value), ("bob", None));
    second.proclaim("10.0.0.2").await.unwrap();
    assert_eq!(next().await.unwrap().value.as_deref(), Some(&b"10.0.0.2"[..]));
    second.resign().await.unwrap();
    assert_eq!(next().await, None);
    assert_eq!(a.inspect("elect/see").await.unwrap().value, None, "it was taken away");
}

pub(crate) async fn who_cannot_proclaim_is_told_where_that_is_possible(store: &Store) {
    let locks = store.manager();
    let leadership = Election::new(&locks, "elect/value").unwrap().campaign().await.unwrap();
    let proclaimed = leadership.proclaim("x").await;
    if locks.capabilities().value_max.is_some() {
        proclaimed.unwrap();
    } else {
        let error = proclaimed.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.help().unwrap().contains("postgres://"), "{:?}", error.help());
        assert_eq!(error.lock().unwrap().as_str(), "elect/value");
    }
    leadership.resign().await.unwrap();
}

pub(crate) async fn each_term_is_told_to_begin_and_to_end_once(store: &Store) {
    let (a, b) = (store.manager(), store.manager());
    let log = Arc::new(Mutex::new(Vec::new()));
    let (begins, ends) = (log.clone(), log.clone());
    let election = Election::new(&a, "elect/told")
        .unwrap()
        .ttl(SHORT)
        .on_started_leading(move |watch| {
            begins.lock().unwrap().push((watch.fencing_token(), "began".to_owned()));
        })
        .on_stopped_leading(move |term, why| {
            ends.lock().unwrap().push((term, why.to_string()));
        });
    let began = |term| (term, "began".to_owned());

    let first = election.campaign().await.unwrap();
    let first_term = first.term();
    let first_told = (first_term, StoppedLeading::Resigned.to_string());
    first.resign().await.unwrap();

    let second = election.try_campaign().await.unwrap().expect("nobody else wants to");
    b.force_release("elect/told", None, "a test").await.unwrap();
    let lost = second.lost().await;
    assert!(matches!(lost, LossReason::Evicted { .. }), "{lost}");
    let second_term = second.term();
    let second_told = (second_term, StoppedLeading::Lost(lost).to_string());
    drop(second);

    let third = election.campaign().await.unwrap();
    let third_told = (third.term(), StoppedLeading::Resigned.to_string());
    drop(third);

    let expected = [
        began(first_term),
        first_told,
        began(second_term),
        second_told,
        began(third_told.0),
        third_told,
    ];
    assert_eq!(*log.lock().unwrap(), expected);
}

pub(crate) async fn a_leader_that_lost_its_term_campaigns_again(store: &Store) {
    let (a, b) = (store.manager(), store.manager());
    let election = Election::new(&a, "elect/again").unwrap().ttl(SHORT);
    let mut terms = Vec::new();
    let output = election
        .run(async |leadership| {
            terms.push(leadership.term());
            if terms.len() < 3 {
                b.force_release("elect/again", None, "a test").await.unwrap();
                // Dropped with the term.
                std::future::pending::<()>().await;
            }
            terms.len()
        })
        .await
        .unwrap();
    assert_eq!(output, 3);
    assert!(terms.is_sorted_by(|a, b| a < b), "{terms:?}");
    seen(&b, "elect/again", |view| !view.is_locked()).await;
}

pub(crate) async fn a_lock_that_is_not_the_elections_makes_no_term(store: &Store) {
    let locks = store.manager();
    let election = Election::new(&locks, "elect/mine").unwrap();
    let other = locks.acquire("elect/other", LONG).await.unwrap();
    assert_eq!(election.lead(other).unwrap_err().kind(), ErrorKind::Invalid);
    let shared = locks.lock("elect/mine").shared().acquire().await.unwrap();
    assert_eq!(election.lead(shared).unwrap_err().kind(), ErrorKind::Invalid);
    let mine = locks.lock("elect/mine").wait_timeout(PATIENCE).acquire().await.unwrap();
    election.lead(mine).unwrap().resign().await.unwrap();
}
