//! How a claim ends: withdrawn, released, or by an operator.

use std::sync::Arc;
use std::time::Duration;

use tenure_core::backend::{Claim, Departure, Evicted, Eviction, LeaseRef, Release};
use tenure_core::voter::{Leave, Left, Ouster, Voter};
use tenure_core::{Error, ErrorKind, Fence, LockName, MemberId, Result};

use crate::election::majority;
use crate::house::{House, drain, gather, known, too_few};
use crate::look;
use crate::seat::Need;
use crate::standing::{Farewell, farewell};

/// How long the voters are waited for: whoever ends something wants to know.
pub(crate) const PATIENCE: Duration = Duration::from_millis(1500);

async fn leave<V: Voter>(
    house: &House<V>,
    name: LockName,
    member: MemberId,
    how: Leave,
    enough: impl Fn(&[Option<Left>]) -> bool,
) -> Vec<Option<Result<Left>>> {
    let of = Arc::new((name, member));
    let mut asked = house.ask_all(Need::Each, move |seat| {
        let of = of.clone();
        async move { seat.voter.leave(&of.0, of.1, how).await }
    });
    let enough = |answers: &[Option<Result<Left>>]| enough(&known(answers));
    let answers = gather(&mut asked, house.size(), PATIENCE, enough).await;
    drain(asked);
    answers
}

/// A majority has to remember it: whatever of the claim arrives later gets none.
pub(crate) async fn withdraw<V: Voter>(house: Arc<House<V>>, claim: Claim) -> Result<()> {
    let quorum = majority(house.size());
    let enough = |answers: &[Option<Left>]| quorum <= answers.iter().flatten().count();
    let answers = leave(&house, claim.name, claim.member, Leave::Withdraw, enough).await;
    if enough(&known(&answers)) { Ok(()) } else { Err(too_few(&answers)) }
}

pub(crate) async fn release<V: Voter>(house: Arc<House<V>>, lease: LeaseRef) -> Result<Release> {
    let decided = |answers: &[Option<Left>]| farewell(answers) != Farewell::Unknown;
    let answers = leave(&house, lease.name, lease.id, Leave::Release, decided).await;
    match farewell(&known(&answers)) {
        Farewell::Released => Ok(Release::Released),
        Farewell::NotHeld(how) => Ok(Release::NotHeld(how)),
        Farewell::Unknown => Err(too_few(&answers)),
    }
}

/// Ends whoever has the lock for a majority, and raises the fence above what anybody has seen.
pub(crate) async fn evict<V: Voter>(
    house: Arc<House<V>>,
    name: LockName,
    why: Eviction,
) -> Result<Evicted> {
    let seen = look::seen(&house, &name).await?;
    let view = seen.view(name.clone());
    let Some(victim) = view.holders.first().cloned() else {
        return Ok(Evicted::NobodyThere);
    };
    if why.only_if.is_some_and(|fence| fence != victim.fence) {
        return Ok(Evicted::FenceMoved(view.holders));
    }
    let how = if why.stolen { Departure::Stolen } else { Departure::Evicted };
    let fence = Fence::new(seen.floor().get() + 1);
    let ouster = Arc::new(Ouster::new(name.clone(), victim.member, how(why.reason), fence));
    let mut asked = house.ask_all(Need::Each, move |seat| {
        let ouster = ouster.clone();
        async move { seat.voter.oust(&ouster).await }
    });
    let quorum = majority(house.size());
    let enough = |answers: &[Option<Result<Left>>]| {
        quorum <= answers.iter().flatten().filter(|answer| answer.is_ok()).count()
    };
    let answers = gather(&mut asked, house.size(), PATIENCE, enough).await;
    drain(asked);
    if !enough(&answers) {
        return Err(too_few(&answers));
    }
    let was_there = |answer: &Option<Left>| *answer == Some(Left::Free);
    if known(&answers).iter().any(was_there) {
        return Ok(Evicted::Done(vec![victim]));
    }
    // It was gone before it could be ended.
    let after = look::seen(&house, &name).await?.view(name);
    match after.holders.is_empty() {
        true => Ok(Evicted::NobodyThere),
        false if after.holders[0].member != victim.member => Ok(Evicted::FenceMoved(after.holders)),
        false => Err(Error::new(
            ErrorKind::Unknown,
            "the holder is still there, at nodes that did not answer in time",
        )),
    }
}
