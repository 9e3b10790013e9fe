//! What holds of every cell, read from what is stored and not with the machine's own eyes.

use std::collections::HashSet;

use serde_json::{Value as Json, json};
use tenure_core::machine::Cell;

pub(crate) fn list_of<'a>(cell: &'a Json, list: &str) -> impl Iterator<Item = &'a Json> {
    cell.get(list).and_then(Json::as_array).into_iter().flatten()
}

/// `take` and `of`, or nothing for all seats.
pub(crate) fn some_seats(seats: &Json) -> Option<(u64, u64)> {
    let some = seats.get("some")?;
    Some((some["take"].as_u64()?, some["of"].as_u64()?))
}

/// What holds after every turn.
pub(crate) fn rules_hold(cell: &Cell) {
    safety_holds(cell);
    let json = serde_json::to_value(cell).unwrap();
    let keys: Vec<(bool, i128, u64)> = list_of(&json, "queue")
        .map(|w| {
            let arrival = w["arrival"].as_u64().unwrap();
            let from_zero = i128::from(arrival.min(i64::MAX as u64));
            let head_start = i128::from(w["priority"].as_i64().unwrap()) * 30_000_000;
            let key = (from_zero - head_start).clamp(i64::MIN.into(), i64::MAX.into());
            (!w["upgrade"].as_bool().unwrap(), key, arrival)
        })
        .collect();
    assert!(keys.is_sorted(), "the queue is out of order: {keys:?}");
    let Some(head) = list_of(&json, "queue").next() else { return };
    let mut others = list_of(&json, "holders").filter(|h| h["member"] != head["member"]);
    let fits = match some_seats(&head["seats"]) {
        None => others.next().is_none(),
        Some((take, of)) => others
            .try_fold(take, |sum, h| some_seats(&h["seats"]).map(|(take, _)| sum + take))
            .is_some_and(|sum| sum <= of),
    };
    assert!(!fits, "the first waiter fits and waits");
}

/// What holds of every cell that is read, wherever it comes from.
pub(crate) fn safety_holds(cell: &Cell) {
    let json = serde_json::to_value(cell).unwrap();
    let holders: Vec<&Json> = list_of(&json, "holders").collect();
    let queue: Vec<&Json> = list_of(&json, "queue").collect();
    let seats: Vec<_> = holders.iter().map(|h| some_seats(&h["seats"])).collect();
    if 1 < seats.len() {
        assert!(seats.iter().all(Option::is_some), "somebody holds beside a holder of all seats");
    }
    let waited_for = queue.iter().map(|w| some_seats(&w["seats"]));
    let all: Vec<(u64, u64)> = seats.iter().copied().chain(waited_for).flatten().collect();
    assert!(all.iter().all(|(take, of)| 1 <= *take && take <= of), "impossible seats");
    let limits: HashSet<u64> = all.iter().map(|(_, of)| *of).collect();
    assert!(limits.len() <= 1, "members count different numbers of seats: {limits:?}");
    let taken: u64 = seats.iter().flatten().map(|(take, _)| take).sum();
    assert!(limits.iter().all(|of| taken <= *of), "more seats are taken than there are");
    let of = |list: &[&Json], field: &str| -> HashSet<String> {
        list.iter().map(|m| m[field].to_string()).collect()
    };
    assert_eq!(of(&holders, "fence").len(), holders.len(), "two holders have one fence");
    assert_eq!(of(&holders, "member").len(), holders.len(), "a member holds twice");
    assert_eq!(of(&queue, "member").len(), queue.len(), "a member waits twice");
    let fence = |m: &Json| m["fence"].as_str().unwrap().parse::<u64>().unwrap();
    assert!(holders.iter().all(|h| fence(h) <= cell.fence().get()), "a fence above the highest");
    let upgrades = queue.iter().filter(|w| w["upgrade"] == json!(true));
    assert!(upgrades.count() <= 1, "two wait to upgrade");
    for waiter in &queue {
        let holds = holders.iter().any(|h| h["member"] == waiter["member"]);
        assert_eq!(holds, waiter["upgrade"] == json!(true), "who holds waits only to upgrade");
    }
}
