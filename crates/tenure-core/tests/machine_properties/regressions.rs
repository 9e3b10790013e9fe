//! Every fault that the models and properties found, once more by its name.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tenure_core::backend::{Change, Claim, Departure, Kept, Refusal, Release, Value, Verdict};
use tenure_core::machine::{Cell, Effects, Lasting, Now, Turn};
use tenure_core::{
    ClaimId, Details, ErrorKind, Fence, LockName, MemberId, Micros, Owner, Seats, Token,
};

const PERMIT: Seats = Seats::Some { take: 1, of: 2 };
const OTHER_PERMIT: Seats = Seats::Some { take: 1, of: 3 };
const KEEP: Duration = Duration::from_secs(600);
const START: Micros = Micros(1_000_000_000);

fn name() -> LockName {
    LockName::new("regression").unwrap()
}

fn claim(who: u8, seats: Seats) -> Claim {
    let details = Arc::new(Details::of(Owner::labelled("client").unwrap()));
    let token = Token::from_bytes([who; 16]);
    let mut claim = Claim::new(name(), token, Duration::from_secs(30), details);
    claim.seats = seats;
    claim.wait = true;
    claim
}

fn upgrade(who: u8) -> Claim {
    let mut claim = claim(who, Seats::All);
    claim.id = ClaimId::new(u128::from(who));
    claim.upgrade = true;
    claim
}

fn turn<T>(cell: &mut Cell, verb: impl FnOnce(&mut Turn<'_>) -> T) -> (T, Effects) {
    turn_at(START, cell, verb)
}

fn turn_at<T>(now: Micros, cell: &mut Cell, verb: impl FnOnce(&mut Turn<'_>) -> T) -> (T, Effects) {
    let mut turn = Turn::begin(cell, Now::Store(now), Fence::ZERO);
    let answer = verb(&mut turn);
    (answer, turn.end())
}

fn acquire(cell: &mut Cell, claim: &Claim) -> Verdict {
    turn(cell, |turn| turn.acquire(claim)).0
}

fn granted(cell: &mut Cell, claim: &Claim) -> Fence {
    match acquire(cell, claim) {
        Verdict::Granted(grant) => grant.fence,
        other => panic!("not granted but {other:?}"),
    }
}

fn queued(cell: &mut Cell, claim: &Claim) {
    let verdict = acquire(cell, claim);
    assert!(matches!(verdict, Verdict::Queued(_)), "not queued but {verdict:?}");
}

fn release(cell: &mut Cell, who: &Claim) {
    assert_eq!(turn(cell, |turn| turn.release(who.member, None)).0, Release::Released);
}

fn holds(cell: &Cell, member: MemberId) -> Option<Seats> {
    let view = cell.view(name(), START);
    view.holders.iter().find(|h| h.member == member).map(|h| h.seats)
}

/// A record that somebody changed by hand.
fn edited(cell: &Cell, change: impl FnOnce(&mut Json)) -> Vec<u8> {
    let mut cell = serde_json::to_value(cell).unwrap();
    change(&mut cell);
    let body = json!({ "name": "regression", "cell": cell }).to_string();
    let sum = crc32c::crc32c(body.as_bytes());
    format!("tenure-record 1 {sum:08x}\n{body}\n").into_bytes()
}

#[test]
fn an_upgrade_withdrawn_twice_keeps_the_share() {
    let mut cell = Cell::default();
    let (a, up) = (claim(1, PERMIT), upgrade(1));
    granted(&mut cell, &a);
    granted(&mut cell, &up);
    for _ in 0..2 {
        turn(&mut cell, |turn| turn.withdraw(up.id, up.member, KEEP));
        assert_eq!(holds(&cell, a.member), Some(PERMIT));
    }
}

#[test]
fn a_late_copy_of_an_upgrade_does_not_undo_a_downgrade() {
    let mut cell = Cell::default();
    let (a, up) = (claim(1, PERMIT), upgrade(1));
    granted(&mut cell, &a);
    let fence = granted(&mut cell, &up);
    turn(&mut cell, |turn| turn.downgrade(a.member, fence, PERMIT));
    let late = acquire(&mut cell, &up);
    assert!(matches!(late, Verdict::Refused(Refusal::Withdrawn)), "{late:?}");
    assert_eq!(holds(&cell, a.member), Some(PERMIT));
    assert_eq!(cell.fence(), fence);
}

#[test]
fn a_late_copy_of_a_downgrade_does_not_undo_an_upgrade() {
    let mut cell = Cell::default();
    let (a, up) = (claim(1, Seats::All), upgrade(1));
    let first = granted(&mut cell, &a);
    turn(&mut cell, |turn| turn.downgrade(a.member, first, PERMIT));
    granted(&mut cell, &up);
    let (late, _) = turn(&mut cell, |turn| turn.downgrade(a.member, first, PERMIT));
    assert!(matches!(late, Change::NotHeld(_)), "{late:?}");
    assert_eq!(holds(&cell, a.member), Some(Seats::All));
}

#[test]
fn an_upgrade_that_lands_after_a_newer_one_takes_nothing_away() {
    let mut cell = Cell::default();
    let (a, old, mut new) = (claim(1, PERMIT), upgrade(1), upgrade(1));
    new.id = ClaimId::new(99);
    granted(&mut cell, &a);
    let fence = granted(&mut cell, &new);
    assert_eq!(granted(&mut cell, &old), fence);
    turn(&mut cell, |turn| turn.withdraw(old.id, old.member, KEEP));
    assert_eq!(holds(&cell, a.member), Some(Seats::All));
    assert_eq!(cell.fence(), fence);
    turn(&mut cell, |turn| turn.withdraw(new.id, new.member, KEEP));
    assert_eq!(holds(&cell, a.member), Some(PERMIT));
}

#[test]
fn an_upgrade_that_is_withdrawn_late_leaves_the_newer_one() {
    let mut cell = Cell::default();
    let (a, old, mut new) = (claim(1, PERMIT), upgrade(1), upgrade(1));
    new.id = ClaimId::new(99);
    granted(&mut cell, &a);
    granted(&mut cell, &old);
    granted(&mut cell, &new);
    turn(&mut cell, |turn| turn.withdraw(old.id, old.member, KEEP));
    assert_eq!(holds(&cell, a.member), Some(Seats::All));
}

#[test]
fn a_late_renewal_does_not_undo_a_longer_ttl() {
    let mut cell = Cell::default();
    let a = claim(1, Seats::All);
    granted(&mut cell, &a);
    let change = Some(Lasting { ttl: Duration::from_secs(300), detached: false });
    turn(&mut cell, |turn| turn.renew(a.member, change)).0.unwrap();
    let until = |cell: &Cell| cell.view(name(), START).holders[0].until;
    let promised = until(&cell);
    turn(&mut cell, |turn| turn.renew(a.member, None)).0.unwrap();
    assert_eq!(until(&cell), promised);
}

#[test]
fn a_lock_that_falls_free_answers_with_its_value_who_would_rather_have_that() {
    let mut cell = Cell::default();
    let (writer, plain, mut asks) =
        (claim(1, Seats::All), claim(2, Seats::All), claim(3, Seats::All));
    asks.or_value = true;
    granted(&mut cell, &writer);
    let value = Value { bytes: Arc::from(&b"done"[..]), keep: KEEP };
    turn(&mut cell, |turn| turn.release(writer.member, Some(&value)));
    granted(&mut cell, &plain);
    queued(&mut cell, &asks);
    release(&mut cell, &plain);
    assert_eq!(holds(&cell, asks.member), None);
    assert!(matches!(acquire(&mut cell, &asks), Verdict::Value(_)));
}

#[test]
fn a_share_that_may_come_back_from_its_upgrade_is_counted_on() {
    let mut cell = Cell::default();
    let (a, up, other) = (claim(1, PERMIT), upgrade(1), claim(2, OTHER_PERMIT));
    granted(&mut cell, &a);
    granted(&mut cell, &up);
    let verdict = acquire(&mut cell, &other);
    assert!(matches!(verdict, Verdict::Refused(Refusal::Mismatch { of: 2 })), "{verdict:?}");
}

#[test]
fn a_lease_that_was_handed_over_and_upgraded_is_not_picked_up_twice() {
    let mut cell = Cell::default();
    let (first, second, up) = (claim(1, Seats::All), claim(2, PERMIT), upgrade(2));
    let observed = Now::Observed { wall: START, dead: &[] };
    let mut take = |claim: &Claim| {
        let mut turn = Turn::begin(&mut cell, observed, Fence::ZERO);
        turn.acquire(claim);
        turn.end();
    };
    take(&first);
    take(&second);
    let mut turn = Turn::begin(&mut cell, observed, Fence::ZERO);
    turn.release(first.member, None);
    turn.end();
    assert!(cell.vigil(second.member).unwrap().handed_over);
    let mut turn = Turn::begin(&mut cell, observed, Fence::ZERO);
    assert!(matches!(turn.renew(second.member, None), Ok(Kept::Holding(_))));
    assert!(matches!(turn.acquire(&up), Verdict::Granted(_)));
    turn.end();
    let vigil = cell.vigil(second.member).unwrap();
    assert!(!vigil.handed_over, "its signs do not carry the new fence yet");
    assert_eq!(vigil.term, up.ttl);
}

#[test]
fn an_upgrade_is_not_answered_with_a_share_that_the_same_turn_handed_over() {
    let mut cell = Cell::default();
    let (all, one, two) = (claim(1, Seats::All), claim(2, PERMIT), claim(3, PERMIT));
    granted(&mut cell, &all);
    for waits in [&one, &two] {
        assert!(matches!(acquire(&mut cell, waits), Verdict::Queued(_)));
    }
    // The lease of the first is over when the upgrade comes, which may be early or strange.
    let later = Now::Store(START.plus(Duration::from_secs(29)));
    for waits in [&one, &two] {
        let mut turn = Turn::begin(&mut cell, later, Fence::ZERO);
        assert_eq!(turn.renew(waits.member, None), Ok(Kept::Waiting));
        turn.end();
    }
    let over = Now::Store(START.plus(Duration::from_secs(31)));
    let mut turn = Turn::begin(&mut cell, over, Fence::ZERO);
    let verdict = turn.acquire(&upgrade(2));
    assert!(matches!(verdict, Verdict::Queued(_)), "{verdict:?}");
    assert_eq!(turn.end().granted.len(), 2, "both shares were handed over");
}

#[test]
fn a_ttl_that_is_finer_than_a_record_is_the_same_after_it_was_stored() {
    let mut cell = Cell::default();
    let (mut a, mut b) = (claim(1, Seats::All), claim(2, Seats::All));
    for claim in [&mut a, &mut b] {
        claim.ttl = Duration::from_nanos(10_000_000_001);
        claim.pick_up = Duration::from_nanos(2_000_000_001);
        claim.wait_ttl = Duration::from_nanos(30_000_000_001);
    }
    granted(&mut cell, &a);
    queued(&mut cell, &b);
    let change = Some(Lasting { ttl: Duration::from_nanos(5_000_000_001), detached: false });
    turn(&mut cell, |turn| turn.renew(a.member, change)).0.unwrap();
    let stored = Cell::decode(&cell.encode(&name()).unwrap()).unwrap().1;
    assert_eq!(stored, cell);
}

#[test]
fn waiters_keep_their_order_at_the_end_of_time() {
    let mut cell = Cell::default();
    let end = Now::Store(Micros(u64::MAX - 1));
    for who in 1..=4 {
        let mut turn = Turn::begin(&mut cell, end, Fence::ZERO);
        turn.acquire(&claim(who, Seats::All));
        turn.end();
    }
    let order: Vec<MemberId> = (2..=4).map(|who| claim(who, Seats::All).member).collect();
    assert_eq!(cell.waiter_ids().collect::<Vec<_>>(), order);
}

#[test]
fn a_record_with_members_that_cannot_be_is_refused() {
    let mut cell = Cell::default();
    granted(&mut cell, &claim(1, PERMIT));
    granted(&mut cell, &claim(2, PERMIT));
    queued(&mut cell, &claim(3, PERMIT));
    queued(&mut cell, &upgrade(1));
    assert!(Cell::decode(&edited(&cell, |_| ())).is_ok());
    type Edit = fn(&mut Json);
    let edits: [(&str, Edit); 8] = [
        ("a waiter that could never be served", |c| {
            c["queue"][1]["seats"]["some"]["take"] = json!(3)
        }),
        ("a waiter for nothing", |c| c["queue"][1]["seats"]["some"]["take"] = json!(0)),
        ("holders that count differently", |c| c["holders"][0]["seats"]["some"]["of"] = json!(5)),
        ("two holders with one fence", |c| {
            c["holders"][0]["fence"] = c["holders"][1]["fence"].clone()
        }),
        ("a member that holds twice", |c| {
            c["holders"][0]["member"] = c["holders"][1]["member"].clone()
        }),
        ("a holder that waits", |c| c["queue"][1]["member"] = c["holders"][1]["member"].clone()),
        ("an upgrade of nothing", |c| c["queue"][1]["upgrade"] = json!(true)),
        ("a fence from the future", |c| c["fence"] = json!("1")),
    ];
    for (what, edit) in edits {
        let record = edited(&cell, edit);
        let error = Cell::decode(&record).expect_err(what);
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}");
    }
}

#[test]
fn a_record_with_a_waiter_beside_free_seats_is_set_right_by_the_next_turn() {
    let mut cell = Cell::default();
    let (a, b) = (claim(1, Seats::All), claim(2, Seats::All));
    granted(&mut cell, &a);
    queued(&mut cell, &b);
    let record = edited(&cell, |cell| cell["holders"] = json!([]));
    let mut cell = Cell::decode(&record).unwrap().1;
    let (_, effects) = turn(&mut cell, |_| ());
    assert!(effects.changed);
    assert_eq!(effects.granted[0].0, b.member);
}

#[test]
fn a_cell_that_could_not_be_read_back_is_not_written() {
    let mut cell = Cell::default();
    let a = claim(1, Seats::All);
    let fence = granted(&mut cell, &a);
    let impossible = Seats::Some { take: 5, of: 2 };
    turn(&mut cell, |turn| turn.downgrade(a.member, fence, impossible));
    assert_eq!(cell.encode(&name()).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn a_value_in_digits_that_are_none_is_refused() {
    let mut cell = Cell::default();
    let a = claim(1, Seats::All);
    granted(&mut cell, &a);
    let value = Value { bytes: Arc::from(&[0xff_u8, 0x00][..]), keep: KEEP };
    turn(&mut cell, |turn| turn.put(a.member, &value));
    assert!(Cell::decode(&edited(&cell, |_| ())).is_ok());
    for bad in ["+f00", "ff0", "fg00"] {
        let record = edited(&cell, |cell| cell["value"]["bytes"]["hex"] = json!(bad));
        assert!(Cell::decode(&record).is_err(), "{bad} is no hex");
    }
}

/// It refused for as long as no turn had dropped it: a claim whose first answer was lost, and with it
/// the turn that dropped it, heard another the second time.
#[test]
fn a_tombstone_that_is_over_refuses_nothing_be_it_dropped_yet_or_not() {
    let mut cell = Cell::default();
    let a = claim(1, Seats::All);
    turn(&mut cell, |turn| turn.withdraw(a.id, a.member, KEEP));
    let last = Micros(START.plus(KEEP).0 - 1);
    let (late, _) = turn_at(last, &mut cell, |turn| turn.acquire(&a));
    assert!(matches!(late, Verdict::Refused(Refusal::Withdrawn)), "{late:?}");
    let (later, _) = turn_at(START.plus(KEEP), &mut cell, |turn| turn.acquire(&a));
    assert!(matches!(later, Verdict::Granted(_)), "{later:?}");
}

/// The same of how somebody departed.
#[test]
fn a_departure_that_is_over_is_not_told_be_it_dropped_yet_or_not() {
    let mut cell = Cell::default();
    let a = claim(1, Seats::All);
    granted(&mut cell, &a);
    release(&mut cell, &a);
    let last = Micros(START.plus(Cell::REMEMBER).0 - 1);
    let release = |turn: &mut Turn<'_>| turn.release(a.member, None);
    assert_eq!(turn_at(last, &mut cell, release).0, Release::Released);
    let over = START.plus(Cell::REMEMBER);
    let forgotten = Release::NotHeld(Departure::Forgotten);
    assert_eq!(turn_at(over, &mut cell, release).0, forgotten);
    let (later, _) = turn_at(over, &mut cell, |turn| turn.acquire(&a));
    assert!(matches!(later, Verdict::Granted(_)), "{later:?}");
}

/// Whoever waited behind it got its free seat only with the next turn, up to ten seconds later.
#[test]
fn an_upgrade_that_is_given_up_for_one_that_does_not_wait_lets_in_those_behind_it() {
    let mut cell = Cell::default();
    let (a, b, behind) =
        (claim(1, Seats::SHARED), claim(2, Seats::SHARED), claim(3, Seats::SHARED));
    granted(&mut cell, &a);
    granted(&mut cell, &b);
    let waits = upgrade(1);
    queued(&mut cell, &waits);
    queued(&mut cell, &behind);
    let mut tries = upgrade(1);
    tries.id = ClaimId::new(77);
    tries.wait = false;
    let (verdict, effects) = turn(&mut cell, |turn| turn.acquire(&tries));
    let Verdict::Busy(place) = verdict else { panic!("{verdict:?}") };
    assert_eq!(place.holders.len(), 3);
    assert_eq!(effects.granted.iter().map(|(m, _)| *m).collect::<Vec<_>>(), [behind.member]);
    assert_eq!(holds(&cell, behind.member), Some(Seats::SHARED));
}
