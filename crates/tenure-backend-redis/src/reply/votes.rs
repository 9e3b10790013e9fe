//! What the scripts of a voter say.

use std::sync::Arc;
use std::time::Duration;

use tenure_core::voter::{Keep, Left, Raise, Sight, Vote};
use tenure_core::{Details, HolderView, Micros, Result, Seats};

use super::{Answer, Reader, another_program, strange};

pub(crate) fn vote(answer: Answer) -> Result<Vote> {
    let now = answer.now;
    let mut reply = answer.read()?;
    Ok(match reply.text()?.as_str() {
        "given" => {
            Vote::Given { fence: reply.fence()?, floor: reply.fence()?, own: reply.number()? == 1 }
        }
        "taken" => {
            let (by, ends) = holder(reply.array()?, now)?;
            Vote::Taken { by: Box::new(by), ends }
        }
        "quarantined" => Vote::Quarantined(reply.duration()?),
        "gone" => Vote::Gone(reply.departure()?),
        "late" => Vote::Late,
        "bound" => Vote::Bound(reply.duration()?),
        _ => return Err(strange("an answer to a ballot")),
    })
}

pub(crate) fn raise(answer: Answer) -> Result<Raise> {
    let mut reply = answer.read()?;
    Ok(match reply.text()?.as_str() {
        "done" => Raise::Done,
        "outrun" => Raise::Outrun(reply.fence()?),
        "not_held" => Raise::NotHeld,
        _ => return Err(strange("an answer to a fence")),
    })
}

pub(crate) fn keep(answer: Answer) -> Result<Keep> {
    let mut reply = answer.read()?;
    Ok(match reply.text()?.as_str() {
        "kept" => Keep::Kept { ttl: reply.duration()?, since: reply.micros()? },
        "absent" => Keep::Absent,
        "taken" => Keep::Taken,
        "gone" => Keep::Gone(reply.departure()?),
        _ => return Err(strange("an answer to a sign of life")),
    })
}

pub(crate) fn left(answer: Answer) -> Result<Left> {
    let mut reply = answer.read()?;
    Ok(match reply.text()?.as_str() {
        "free" => Left::Free,
        "not_held" => Left::NotHeld(reply.departure()?),
        _ => return Err(strange("an answer to a leave")),
    })
}

pub(crate) fn sight(answer: Answer) -> Result<Sight> {
    let now = answer.now;
    let mut reply = answer.read()?;
    if reply.text()? != "sight" {
        return Err(strange("an answer to a look"));
    }
    let mut sight = Sight::new(reply.fence()?, reply.fence()?);
    sight.quarantine = reply.duration()?;
    sight.longest = Some(reply.duration()?).filter(|longest| !longest.is_zero());
    let there = reply.array()?;
    if 0 < there.0.len() {
        sight.holder = Some(holder(there, now)?.0);
    }
    Ok(sight)
}

/// Who has the key, and for how long.
fn holder(mut reply: Reader, now: Micros) -> Result<(HolderView, Option<Duration>)> {
    let (member, is_ours) = (reply.member()?, reply.number()? == 1);
    let (fence, since, renewed) = (reply.fence()?, reply.micros()?, reply.micros()?);
    let ends = u64::try_from(reply.signed()?).ok().map(Duration::from_micros);
    let ttl = reply.duration()?;
    let details: Arc<Details> = if is_ours { reply.details()? } else { another_program() };
    let mut view = HolderView::new(member, details, Seats::All, since);
    view.fence = fence;
    view.renewed = renewed;
    view.until = now.plus(ends.unwrap_or_default());
    view.ttl = ttl;
    view.quiet_for = now.since(renewed);
    Ok((view, ends))
}
