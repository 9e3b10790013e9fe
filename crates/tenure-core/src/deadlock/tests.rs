//! The rule on locks as they are shown.

use std::sync::Arc;

use super::graph::knot;
use crate::actor::Actor;
use crate::name::LockName;
use crate::owner::{Details, Owner};
use crate::token::{HolderId, Token};
use crate::values::{Micros, Priority, Seats};
use crate::view::{HolderView, View, WaiterView};

/// A lock with those who hold it and those who wait.
struct Scene(View);

fn member(id: u8) -> crate::token::MemberId {
    Token::from_bytes([id; 16]).member()
}

fn id(of: u8) -> HolderId {
    member(of).holder()
}

fn details(actor: &str, holds: &[&str]) -> Arc<Details> {
    let holds = holds.iter().map(|name| LockName::new(name).unwrap()).collect();
    let details = Details::of(Owner::labelled(&format!("owner of {actor}")).unwrap());
    if actor.is_empty() {
        return Arc::new(details);
    }
    Arc::new(details.with_actor(&Actor::new(actor).unwrap()).holding(holds))
}

impl Scene {
    fn of(lock: &str) -> Self {
        Self(View::empty(LockName::new(lock).unwrap()))
    }

    fn held(mut self, by: u8, actor: &str, seats: Seats) -> Self {
        self.0.holders.push(HolderView::new(member(by), details(actor, &[]), seats, Micros(1)));
        self
    }

    fn wanted(mut self, by: u8, actor: &str, holds: &[&str], seats: Seats) -> Self {
        let since = Micros(u64::from(by));
        self.0.waiters.push(WaiterView::new(id(by), details(actor, holds), seats, since));
        self
    }

    fn prior(mut self, points: i32) -> Self {
        self.0.waiters.last_mut().unwrap().priority = Priority::new(points).unwrap();
        self
    }

    fn upgrading(mut self) -> Self {
        self.0.waiters.last_mut().unwrap().upgrade = true;
        self
    }
}

/// The victim for each who looks, all of whom have to say the same, and the cycle of the victim.
fn victim(scenes: &[Scene], all: &[u8]) -> Option<(u8, String)> {
    let seen = |me: u8| knot(scenes.iter().map(|scene| &scene.0), id(me));
    let victims: Vec<_> = all.iter().map(|me| seen(*me).map(|knot| knot.victim)).collect();
    assert!(victims.iter().all(|v| *v == victims[0]), "{victims:?}");
    let victim = victims[0]?;
    let number = (0..=u8::MAX).find(|n| id(*n) == victim).unwrap();
    let cycle = seen(number).unwrap().cycle;
    let cycle: Vec<String> = cycle.iter().map(ToString::to_string).collect();
    Some((number, cycle.join("; ")))
}

const X: Seats = Seats::All;

fn crossing(points: i32) -> [Scene; 2] {
    [
        Scene::of("a").held(1, "left", X).wanted(4, "right", &["b"], X).prior(points),
        Scene::of("b").held(2, "right", X).wanted(3, "left", &["a"], X),
    ]
}

#[test]
fn the_youngest_gives_way_and_is_told_lock_by_lock() {
    let (who, cycle) = victim(&crossing(0), &[3, 4]).unwrap();
    assert_eq!(who, 4);
    assert_eq!(
        cycle,
        "owner of right waits for \"a\", held by owner of left; \
         owner of left waits for \"b\", held by owner of right"
    );
}

#[test]
fn a_lower_priority_gives_way_before_a_younger_claim() {
    assert_eq!(victim(&crossing(1), &[3, 4]).unwrap().0, 3);
    assert_eq!(victim(&crossing(-1), &[3, 4]).unwrap().0, 4);
}

#[test]
fn an_actor_waits_for_those_who_work_for_it() {
    let scenes = [
        Scene::of("a").held(1, "p", X).wanted(4, "q/child", &["b"], X),
        Scene::of("b").held(2, "q", X).wanted(3, "p/child/of/child", &["a"], X),
    ];
    assert_eq!(victim(&scenes, &[3, 4]).unwrap().0, 4);
    // A name that begins alike is another actor.
    let scenes = [
        Scene::of("a").held(1, "p", X).wanted(4, "q/child", &["b"], X),
        Scene::of("b").held(2, "q", X).wanted(3, "pp/child", &["a"], X),
    ];
    assert_eq!(victim(&scenes, &[3, 4]), None);
}

#[test]
fn whoever_waits_for_itself_gives_way() {
    let scenes = [Scene::of("a").held(1, "p", X).wanted(2, "p/child", &["a"], X)];
    let (who, cycle) = victim(&scenes, &[2]).unwrap();
    assert_eq!((who, cycle.as_str()), (2, "owner of p/child waits for \"a\", held by owner of p"));
    let beside = [Scene::of("a").held(1, "p/one", X).wanted(2, "p/other", &["b"], X)];
    assert_eq!(victim(&beside, &[2]), None, "children of one actor work side by side");
}

#[test]
fn whoever_waits_for_a_deadlock_of_others_goes_on_waiting() {
    let [a, b] = crossing(0);
    let scenes = [a.wanted(9, "third", &["c"], X), b];
    assert!(knot(scenes.iter().map(|s| &s.0), id(9)).is_none());
    assert_eq!(victim(&scenes, &[3, 4]).unwrap().0, 4);
}

#[test]
fn a_holder_that_named_no_actor_is_taken_for_one_that_goes_on() {
    let scenes = [
        Scene::of("a").held(1, "", X).wanted(4, "right", &["b"], X),
        Scene::of("b").held(2, "right", X).wanted(3, "left", &["a"], X),
    ];
    assert_eq!(victim(&scenes, &[3, 4]), None);
}

#[test]
fn upgrades_and_claims_for_other_locks_wait_for_each_other() {
    // Both read `a`; one wants it for itself, the other waits for what the first one has.
    let scenes = [
        Scene::of("a")
            .held(1, "left", Seats::SHARED)
            .held(2, "right", Seats::SHARED)
            .wanted(1, "left", &["b", "a"], X)
            .upgrading(),
        Scene::of("b").held(3, "left", X).wanted(5, "right", &["a"], X),
    ];
    assert_eq!(victim(&scenes, &[1, 5]).unwrap().0, 5);
    // Without the other one's wait it is an upgrade like any other.
    assert_eq!(victim(&scenes[..1], &[1]), None);
}

#[test]
fn of_many_seats_all_have_to_be_stuck() {
    let one = |of| Seats::Some { take: 1, of };
    let pool = |third: &str| {
        Scene::of("pool").held(1, "left", one(2)).held(2, third, one(2)).wanted(
            5,
            "right",
            &["b"],
            one(2),
        )
    };
    let b = || {
        Scene::of("b").held(3, "right", X).wanted(4, "left", &["pool"], X).wanted(
            6,
            "also",
            &["pool"],
            X,
        )
    };
    assert_eq!(victim(&[pool("free"), b()], &[4, 5]), None);
    assert_eq!(victim(&[pool("also"), b()], &[4, 5, 6]).unwrap().0, 6);
}

#[test]
fn whoever_only_stands_in_the_queue_does_not_give_way() {
    // `passer` has something that nobody of them waits for, and stands before `right`: without it they
    // would wait for each other all the same.
    let scenes = [
        Scene::of("a").held(1, "left", X).wanted(9, "passer", &["c"], X).prior(-5).wanted(
            4,
            "right",
            &["b"],
            X,
        ),
        Scene::of("b").held(2, "right", X).wanted(3, "left", &["a"], X),
    ];
    assert_eq!(victim(&scenes, &[3, 4, 9]).unwrap().0, 4);
}
