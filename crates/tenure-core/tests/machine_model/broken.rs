//! Rules that are wrong on purpose, each in one way: what watches the machine must find them.

use std::mem;

use serde_json::Value as Json;
use tenure_core::machine::{Cell, Effects, Now};

use super::rules::{Reply, Request, SHARE, STEP, Slot, Table, the_machine};

/// Anybody's release ends whatever is held.
pub(crate) fn release_ignores_the_token(
    table: &Table,
    cell: &mut Cell,
    now: Now<'_>,
    request: Request,
) -> (Reply, Effects) {
    let Request::Release { who, value } = request else {
        return the_machine(table, cell, now, request);
    };
    let holder = cell.holder_ids().next().map(|m| table.slot(m));
    let who = if holds(table, cell, who) { who } else { holder.unwrap_or(who) };
    the_machine(table, cell, now, Request::Release { who, value })
}

/// A renewal that finds nothing makes the lease anew.
pub(crate) fn renewal_re_creates(
    table: &Table,
    cell: &mut Cell,
    now: Now<'_>,
    request: Request,
) -> (Reply, Effects) {
    let (reply, effects) = the_machine(table, cell, now, request);
    let (Request::Renew { who }, Reply::Renewal(Err(_))) = (request, &reply) else {
        return (reply, effects);
    };
    forget(cell, "departed");
    let (_, mut acquired) = the_machine(table, cell, now, Request::Acquire { who, wish: 0 });
    acquired.gone.extend(effects.gone);
    (the_machine(table, cell, now, request).0, acquired)
}

/// A reader comes in beside readers, whoever waits.
pub(crate) fn readers_pass_writers(
    table: &Table,
    cell: &mut Cell,
    now: Now<'_>,
    request: Request,
) -> (Reply, Effects) {
    match request {
        Request::Acquire { who, wish } if table.claim(who, wish).seats == SHARE => {
            without_queue(table, cell, now, request)
        }
        _ => the_machine(table, cell, now, request),
    }
}

/// A claim that does not want to wait overtakes those who do.
pub(crate) fn trying_barges(
    table: &Table,
    cell: &mut Cell,
    now: Now<'_>,
    request: Request,
) -> (Reply, Effects) {
    match request {
        Request::Acquire { who, wish } if !table.claim(who, wish).wait => {
            without_queue(table, cell, now, request)
        }
        _ => the_machine(table, cell, now, request),
    }
}

/// A release leaves the seats free and the waiters waiting.
pub(crate) fn release_does_not_hand_over(
    table: &Table,
    cell: &mut Cell,
    now: Now<'_>,
    request: Request,
) -> (Reply, Effects) {
    match request {
        Request::Release { .. } => without_queue(table, cell, now, request),
        _ => the_machine(table, cell, now, request),
    }
}

/// Withdrawals are not remembered.
pub(crate) fn no_tombstones(
    table: &Table,
    cell: &mut Cell,
    now: Now<'_>,
    request: Request,
) -> (Reply, Effects) {
    let turn = the_machine(table, cell, now, request);
    if let Request::Withdraw { .. } = request {
        forget(cell, "withdrawn");
    }
    turn
}

/// Departures are not remembered.
pub(crate) fn no_departures(
    table: &Table,
    cell: &mut Cell,
    now: Now<'_>,
    request: Request,
) -> (Reply, Effects) {
    let turn = the_machine(table, cell, now, request);
    if turn.1.changed {
        forget(cell, "departed");
    }
    turn
}

/// Only evictions are not remembered.
pub(crate) fn evicts_in_silence(
    table: &Table,
    cell: &mut Cell,
    now: Now<'_>,
    request: Request,
) -> (Reply, Effects) {
    let turn = the_machine(table, cell, now, request);
    if let Request::Evict { .. } = request {
        forget(cell, "departed");
    }
    turn
}

/// The fence goes back when a lock is released.
pub(crate) fn fence_goes_back(
    table: &Table,
    cell: &mut Cell,
    now: Now<'_>,
    request: Request,
) -> (Reply, Effects) {
    let turn = the_machine(table, cell, now, request);
    if let Request::Release { .. } = request
        && cell.holder_ids().next().is_none()
    {
        edit(cell, |json| json["fence"] = "0".into());
    }
    turn
}

/// Leases are judged by a clock that runs ahead.
pub(crate) fn judges_by_another_clock(
    table: &Table,
    cell: &mut Cell,
    now: Now<'_>,
    request: Request,
) -> (Reply, Effects) {
    let ahead = match now {
        Now::Store(now) => Now::Store(now.plus(STEP)),
        other => other,
    };
    the_machine(table, cell, ahead, request)
}

/// An observer takes whoever is in the way for dead.
pub(crate) fn takes_the_living_for_dead(
    table: &Table,
    cell: &mut Cell,
    now: Now<'_>,
    request: Request,
) -> (Reply, Effects) {
    let (Now::Observed { wall, .. }, Request::Acquire { .. }) = (now, request) else {
        return the_machine(table, cell, now, request);
    };
    let all: Vec<_> = cell.holder_ids().collect();
    the_machine(table, cell, Now::Observed { wall, dead: &all }, request)
}

/// Who withdraws an upgrade loses everything.
pub(crate) fn withdrawn_upgrade_drops_the_share(
    table: &Table,
    cell: &mut Cell,
    now: Now<'_>,
    request: Request,
) -> (Reply, Effects) {
    match request {
        Request::WithdrawUpgrade { who, .. } => {
            let release = Request::Release { who, value: false };
            let (_, effects) = the_machine(table, cell, now, release);
            (Reply::Nothing, effects)
        }
        _ => the_machine(table, cell, now, request),
    }
}

/// A second upgrader waits, for ever, beside the first.
pub(crate) fn upgraders_wait_for_each_other(
    table: &Table,
    cell: &mut Cell,
    now: Now<'_>,
    request: Request,
) -> (Reply, Effects) {
    match request {
        Request::Upgrade { .. } => without_queue(table, cell, now, request),
        _ => the_machine(table, cell, now, request),
    }
}

/// An upgrade that was taken back by a downgrade is not remembered.
pub(crate) fn late_upgrades_count(
    table: &Table,
    cell: &mut Cell,
    now: Now<'_>,
    request: Request,
) -> (Reply, Effects) {
    let turn = the_machine(table, cell, now, request);
    if let Request::Downgrade { .. } = request {
        forget(cell, "withdrawn");
    }
    turn
}

/// A downgrade does not look at the fence.
pub(crate) fn late_downgrades_count(
    table: &Table,
    cell: &mut Cell,
    now: Now<'_>,
    request: Request,
) -> (Reply, Effects) {
    let Request::Downgrade { who, fence } = request else {
        return the_machine(table, cell, now, request);
    };
    let member = table.member(who);
    let fence = cell.vigil(member).and_then(|v| v.fence).map_or(fence, |f| f.get());
    the_machine(table, cell, now, Request::Downgrade { who, fence })
}

/// Any holder writes the value.
pub(crate) fn every_holder_writes(
    table: &Table,
    cell: &mut Cell,
    now: Now<'_>,
    request: Request,
) -> (Reply, Effects) {
    let Request::Put { who } = request else {
        return the_machine(table, cell, now, request);
    };
    let mut held = Json::Null;
    edit(cell, |json| {
        let member = table.member(who).to_string();
        for holder in list_of(json, "holders") {
            if holder["member"] == member.as_str() {
                held = mem::replace(&mut holder["seats"], "all".into());
            }
        }
    });
    let turn = the_machine(table, cell, now, request);
    if !held.is_null() {
        edit(cell, |json| {
            for holder in list_of(json, "holders") {
                if holder["member"] == table.member(who).to_string().as_str() {
                    holder["seats"] = held.clone();
                }
            }
        });
    }
    turn
}

/// Whoever came last is served first.
pub(crate) fn last_come_first_served(
    table: &Table,
    cell: &mut Cell,
    now: Now<'_>,
    request: Request,
) -> (Reply, Effects) {
    let turn = the_machine(table, cell, now, request);
    if let Request::Acquire { .. } = request {
        edit(cell, |json| {
            list_of(json, "queue").reverse();
        });
    }
    turn
}

/// A change that is not said to be one is never stored.
pub(crate) fn changes_in_silence(
    table: &Table,
    cell: &mut Cell,
    now: Now<'_>,
    request: Request,
) -> (Reply, Effects) {
    let (reply, mut effects) = the_machine(table, cell, now, request);
    if let Request::Put { .. } | Request::Renew { .. } = request {
        effects.changed = false;
    }
    (reply, effects)
}

fn holds(table: &Table, cell: &Cell, who: Slot) -> bool {
    cell.holder_ids().any(|m| m == table.member(who))
}

/// Takes a turn that does not see who waits.
fn without_queue(
    table: &Table,
    cell: &mut Cell,
    now: Now<'_>,
    request: Request,
) -> (Reply, Effects) {
    // Ended first, so that what is hidden is what really waits.
    let (_, begun) = the_machine(table, cell, now, Request::Look);
    let mut hidden = Vec::new();
    edit(cell, |json| {
        let own = |w: &Json| {
            let who = request.who().map(|who| table.member(who).to_string());
            who.is_some_and(|who| w["member"] == who.as_str())
        };
        let queue = list_of(json, "queue");
        let (own, others) = mem::take(queue).into_iter().partition(own);
        *queue = own;
        hidden = others;
    });
    let (reply, mut effects) = the_machine(table, cell, now, request);
    if !hidden.is_empty() {
        edit(cell, |json| {
            let queue = list_of(json, "queue");
            hidden.append(queue);
            *queue = hidden;
        });
    }
    effects.changed |= begun.changed;
    effects.granted.extend(begun.granted);
    effects.gone.extend(begun.gone);
    (reply, effects)
}

/// Empties one list of the record.
fn forget(cell: &mut Cell, list: &str) {
    edit(cell, |json| list_of(json, list).clear());
}

/// A list of the record, which leaves out empty ones.
fn list_of<'a>(json: &'a mut Json, list: &str) -> &'a mut Vec<Json> {
    let list = &mut json[list];
    if list.is_null() {
        *list = Json::Array(Vec::new());
    }
    list.as_array_mut().expect("a list")
}

/// Changes a cell as only somebody with an editor could.
fn edit(cell: &mut Cell, change: impl FnOnce(&mut Json)) {
    let mut json = serde_json::to_value(&*cell).expect("a cell is JSON");
    change(&mut json);
    *cell = serde_json::from_value(json).expect("still a cell");
}
