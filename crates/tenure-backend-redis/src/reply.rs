//! What the scripts say, read back. Nothing is taken on trust: a reply that is not understood is an
//! error, never a grant.

pub(crate) mod votes;

use std::sync::Arc;
use std::time::Duration;

use redis::Value as Redis;
use tenure_core::backend::{
    Change, Claim, Departure, Evicted, Grant, Kept, Member, Place, Reason, Refusal, Release,
    Renewal, Verdict,
};
use tenure_core::{
    Details, Error, ErrorKind, Fence, HolderView, LockName, MemberId, Micros, Owner, Priority,
    Result, Seats, ValueView, View, WaiterView,
};

use crate::error::{self, strange};
use crate::script;

/// What a turn was answered, and what time it was at the server.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    value: Redis,
    now: Micros,
}

impl Answer {
    /// The answers to exactly so many turns.
    pub(crate) fn all(reply: Redis, count: usize) -> Result<Vec<Self>> {
        if let (Redis::Int(now), 1) = (&reply, count) {
            let now = Micros(u64::try_from(*now).map_err(|_| strange("a negative time"))?);
            return Ok(vec![Self { value: Redis::Int(1), now }]);
        }
        let mut reply = Reader::new(reply)?;
        let now = reply.micros()?;
        if reply.0.len() != count {
            return Err(strange(&format!("{} answers to {count} turns", reply.0.len())));
        }
        Ok(reply.0.map(|value| Self { value, now }).collect())
    }

    /// The same, if none of them is an error.
    pub(crate) fn all_sound(reply: Redis, count: usize) -> Result<Vec<Self>> {
        let answers = Self::all(reply, count)?;
        let error = answers.iter().find_map(|answer| match &answer.value {
            Redis::ServerError(error) => Some(error.clone()),
            _ => None,
        });
        error.map_or(Ok(answers), |error| Err(error::failed(&error.into())))
    }

    /// A lease of all seats that begins now.
    fn lease(&self, fence: Fence, ttl: Duration) -> Grant {
        let ttl = Duration::from_micros(script::micros(ttl));
        let mut grant = Grant::new(fence, Seats::All, self.now, ttl);
        grant.now = Some(self.now);
        grant
    }

    fn read(self) -> Result<Reader> {
        Reader::new(self.value)
    }
}

/// Reads one thing after the other out of an array.
pub(crate) struct Reader(std::vec::IntoIter<Redis>);

impl Reader {
    pub(crate) fn new(value: Redis) -> Result<Self> {
        match value {
            Redis::Array(items) => Ok(Self(items.into_iter())),
            // This turn failed, and no other.
            Redis::ServerError(error) => Err(error::failed(&error.into())),
            other => Err(strange(&format!("{} instead of an array", kind(&other)))),
        }
    }

    /// Whatever is left.
    pub(crate) fn rest(self) -> impl Iterator<Item = Redis> {
        self.0
    }

    fn next(&mut self) -> Result<Redis> {
        self.0.next().ok_or_else(|| strange("it is too short"))
    }

    pub(crate) fn array(&mut self) -> Result<Reader> {
        Reader::new(self.next()?)
    }

    fn bytes(&mut self) -> Result<Vec<u8>> {
        match self.next()? {
            Redis::BulkString(bytes) => Ok(bytes),
            Redis::SimpleString(text) => Ok(text.into_bytes()),
            other => Err(strange(&format!("{} instead of bytes", kind(&other)))),
        }
    }

    pub(crate) fn text(&mut self) -> Result<String> {
        String::from_utf8(self.bytes()?).map_err(|_| strange("text that is not UTF-8"))
    }

    pub(crate) fn text_or_nothing(&mut self) -> Result<Option<String>> {
        match self.0.as_slice().first() {
            Some(Redis::Nil) => Ok(self.0.next().and(None)),
            _ => self.text().map(Some),
        }
    }

    fn signed(&mut self) -> Result<i64> {
        match self.next()? {
            Redis::Int(number) => Ok(number),
            other => Err(strange(&format!("{} instead of a number", kind(&other)))),
        }
    }

    pub(crate) fn number(&mut self) -> Result<u64> {
        u64::try_from(self.signed()?).map_err(|_| strange("a negative number"))
    }

    fn small(&mut self) -> Result<u32> {
        u32::try_from(self.number()?).map_err(|_| strange("a number out of range"))
    }

    fn micros(&mut self) -> Result<Micros> {
        self.number().map(Micros)
    }

    fn duration(&mut self) -> Result<Duration> {
        self.number().map(Duration::from_micros)
    }

    fn fence(&mut self) -> Result<Fence> {
        self.number().map(Fence::new)
    }

    fn seats(&mut self) -> Result<Seats> {
        seats(self.small()?, self.small()?)
    }

    fn member(&mut self) -> Result<MemberId> {
        script::member(&self.bytes()?).ok_or_else(|| strange("an id that is none"))
    }

    fn grant(&mut self) -> Result<Grant> {
        let (fence, seats) = (self.fence()?, self.seats()?);
        let mut grant = Grant::new(fence, seats, self.micros()?, self.duration()?);
        grant.handed_over = self.number()? == 1;
        grant.now = Some(self.micros()?);
        Ok(grant)
    }

    fn departure(&mut self) -> Result<Departure> {
        let mut how = self.array()?;
        departure(&how.text()?, how.text()?, how.text()?)
    }

    fn details(&mut self) -> Result<Arc<Details>> {
        let json = self.bytes()?;
        serde_json::from_slice(&json).map_err(|_| strange("details of a holder"))
    }

    fn holders(&mut self, now: Micros) -> Result<Vec<HolderView>> {
        let mut views = Vec::new();
        for view in self.array()?.0 {
            views.push(Reader::new(view)?.holder(now)?);
        }
        Ok(views)
    }

    fn holder(mut self, now: Micros) -> Result<HolderView> {
        let member = self.bytes()?;
        let seats = self.seats()?;
        let (fence, since) = (self.fence()?, self.micros()?);
        let (renewed, until) = (self.micros()?, self.micros()?);
        let (ttl, detached) = (self.duration()?, self.number()? == 1);
        let mut view = if member.is_empty() {
            HolderView::new(MemberId::from_bytes([0; 32]), another_program(), seats, since)
        } else {
            let member = script::member(&member).ok_or_else(|| strange("an id that is none"))?;
            HolderView::new(member, self.details()?, seats, since)
        };
        view.fence = fence;
        view.renewed = renewed;
        view.until = until;
        view.ttl = ttl;
        view.detached = detached;
        view.quiet_for = now.since(renewed);
        Ok(view)
    }

    fn place(&mut self) -> Result<Place> {
        let mut at = self.array()?;
        let mut place = Place::default();
        place.ahead = usize::try_from(at.number()?).map_err(|_| strange("a place"))?;
        place.check_in = u64::try_from(at.signed()?).ok().map(Duration::from_micros);
        let now = at.micros()?;
        place.now = Some(now);
        place.holders = at.holders(now)?;
        Ok(place)
    }

    fn value(mut self) -> Result<ValueView> {
        let bytes = self.bytes()?;
        let fence = self.fence()?;
        Ok(ValueView::new(bytes.into(), fence, self.micros()?, self.micros()?))
    }
}

fn seats(take: u32, of: u32) -> Result<Seats> {
    if of == 0 { Ok(Seats::All) } else { Seats::permits(take, of) }
}

/// A foreign program's lock: nothing is known of whoever holds it.
fn another_program() -> Arc<Details> {
    let mut owner = Owner::this_process();
    owner.label = "another program".into();
    owner.host = "unknown".into();
    owner.pid = 0;
    Arc::new(Details::of(owner))
}

pub(crate) fn departure(how: &str, by: String, why: String) -> Result<Departure> {
    let reason = || Reason { by: by.into(), why: why.into() };
    Ok(match how {
        "released" => Departure::Released,
        "withdrawn" => Departure::Withdrawn,
        "expired" => Departure::Expired,
        "evicted" => Departure::Evicted(reason()),
        "stolen" => Departure::Stolen(reason()),
        "answered" => Departure::Answered,
        "session_ended" => Departure::SessionEnded,
        "forgotten" => Departure::Forgotten,
        _ => return Err(strange("a way to depart")),
    })
}

fn kind(value: &Redis) -> &'static str {
    match value {
        Redis::Nil => "nothing",
        Redis::Int(_) => "a number",
        Redis::BulkString(_) | Redis::SimpleString(_) | Redis::Okay => "text",
        Redis::Array(_) => "an array",
        Redis::ServerError(_) => "an error",
        _ => "something else",
    }
}

pub(crate) fn verdict(answer: Answer, claim: &Claim) -> Result<Verdict> {
    if let Redis::Int(_) = answer.value {
        // A plain claim of a lock that nobody held or waited for.
        return Ok(Verdict::Granted(answer.lease(Fence::new(answer.now.0), claim.ttl)));
    }
    let mut reply = answer.read()?;
    let word = reply.text()?;
    Ok(match word.as_str() {
        "granted" => Verdict::Granted(reply.array()?.grant()?),
        "queued" => Verdict::Queued(reply.place()?),
        "busy" => Verdict::Busy(reply.place()?),
        "value" => Verdict::Value(reply.array()?.value()?),
        "withdrawn" => Verdict::Refused(Refusal::Withdrawn),
        "departed" => Verdict::Refused(Refusal::Departed(reply.departure()?)),
        "mismatch" => Verdict::Refused(Refusal::Mismatch { of: reply.small()? }),
        "upgrade_pending" => Verdict::Refused(Refusal::UpgradePending),
        "not_held" => Verdict::Refused(Refusal::NotHeld),
        "too_large" => return Err(too_large()),
        _ => return Err(strange("an answer to a claim")),
    })
}

fn too_large() -> Error {
    Error::new(
        ErrorKind::Invalid,
        "the holders or waiters of this lock say too much about themselves",
    )
    .with_help("together they may have 2 MiB: give each less metadata")
    .with_nothing_changed()
}

pub(crate) fn done(answer: Answer) -> Result<()> {
    match answer.read()?.text()?.as_str() {
        "done" => Ok(()),
        _ => Err(strange("an answer to a withdrawal")),
    }
}

pub(crate) fn renewal(answer: Answer, member: &Member) -> Renewal {
    let read = || {
        if let Redis::Int(fence) = answer.value {
            // A plain renewal of a single holder.
            let fence = u64::try_from(fence).map_err(|_| strange("a negative fence"))?;
            let grant = answer.lease(Fence::new(fence), member.ttl);
            return Ok(Renewal::Kept(Kept::Holding(grant)));
        }
        let mut reply = answer.read()?;
        Ok(match reply.text()?.as_str() {
            "holding" => Renewal::Kept(Kept::Holding(reply.array()?.grant()?)),
            "waiting" => Renewal::Kept(Kept::Waiting),
            "gone" => Renewal::Gone(reply.departure()?),
            _ => return Err(strange("an answer to a renewal")),
        })
    };
    read().unwrap_or_else(Renewal::Unknown)
}

pub(crate) fn change(answer: Answer) -> Result<Change> {
    let mut reply = answer.read()?;
    Ok(match reply.text()?.as_str() {
        "done" => Change::Done(reply.array()?.grant()?),
        "not_held" => Change::NotHeld(reply.departure()?),
        "needs_all" => Change::NeedsAllSeats,
        "mismatch" => Change::Mismatch { of: reply.small()? },
        _ => return Err(strange("an answer to a change")),
    })
}

pub(crate) fn release(answer: Answer) -> Result<Release> {
    if answer.value == Redis::Int(1) {
        return Ok(Release::Released);
    }
    let mut reply = answer.read()?;
    Ok(match reply.text()?.as_str() {
        "released" => Release::Released,
        "not_held" => Release::NotHeld(reply.departure()?),
        "needs_all" => Release::NeedsAllSeats,
        _ => return Err(strange("an answer to a release")),
    })
}

pub(crate) fn evicted(answer: Answer) -> Result<Evicted> {
    let mut reply = answer.read()?;
    let word = reply.text()?;
    Ok(match word.as_str() {
        "nobody" => Evicted::NobodyThere,
        "evicted" => Evicted::Done(reply.holders(Micros(0))?),
        "moved" => Evicted::FenceMoved(reply.holders(Micros(0))?),
        _ => return Err(strange("an answer to a force release")),
    })
}

pub(crate) fn view(answer: Answer, name: LockName) -> Result<View> {
    let mut reply = answer.read()?;
    if reply.text()? != "view" {
        return Err(strange("an answer to a look"));
    }
    let mut view = View::empty(name);
    view.fence = reply.fence()?;
    let holders = reply.next()?;
    for waiter in reply.array()?.0 {
        let mut waiter = Reader::new(waiter)?;
        let (member, seats) = (waiter.member()?, waiter.seats()?);
        let priority = i32::try_from(waiter.signed()?).map_err(|_| strange("a priority"))?;
        let (since, upgrade) = (waiter.micros()?, waiter.number()? == 1);
        let mut shown = WaiterView::new(member.holder(), waiter.details()?, seats, since);
        shown.priority = Priority::new(priority)?;
        shown.upgrade = upgrade;
        view.waiters.push(shown);
    }
    let value = reply.array()?;
    if 0 < value.0.len() {
        view.value = Some(value.value()?);
    }
    let now = reply.micros()?;
    for holder in Reader::new(holders)?.0 {
        view.holders.push(Reader::new(holder)?.holder(now)?);
    }
    Ok(view)
}
