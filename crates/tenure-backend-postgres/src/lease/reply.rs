//! What the functions say, read back. Nothing is taken on trust: an answer that is not understood is
//! an error, never a grant.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;
use tenure_core::backend::{
    Change, Claim, Departure, Event, Evicted, Grant, Kept, Place, Reason, Refusal, Release,
    Renewal, Verdict,
};
use tenure_core::{
    Details, Error, ErrorKind, Fence, HolderView, LockName, MemberId, Micros, Priority, Result,
    Seats, ValueView, View, WaiterView,
};
use tokio_postgres::Row;

use crate::error::strange;

/// The answer to one turn.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The simplest there is to its kind: the fence and the server's time.
    Plain { fence: i64, at: i64 },
    /// JSON.
    Said(String),
    /// Nothing was done: another transaction has the row, and goes on.
    RowTaken,
}

impl Answer {
    /// Reads the columns behind the number.
    pub(crate) fn of(row: &Row) -> Result<Self> {
        let odd = |_| strange("the columns of an answer");
        if let Some(said) = row.try_get::<_, Option<String>>(3).map_err(odd)? {
            return Ok(Answer::Said(said));
        }
        Ok(Answer::Plain { fence: row.try_get(1).map_err(odd)?, at: row.try_get(2).map_err(odd)? })
    }

    /// Whether the row was locked by somebody else, so that nothing was done.
    pub(crate) fn is_skipped(&self) -> bool {
        matches!(self, Answer::Said(said) if said.starts_with("[\"skipped\""))
    }

    fn reader(self) -> Result<Reader> {
        match self {
            Answer::Said(said) => Reader::parse(&said),
            Answer::Plain { .. } => Err(strange("numbers instead of words")),
            Answer::RowTaken => Err(row_taken()),
        }
    }
}

/// Reads one thing after the other out of an array.
struct Reader(std::vec::IntoIter<Json>);

impl Reader {
    fn parse(said: &str) -> Result<Self> {
        Self::new(serde_json::from_str(said).map_err(|_| strange("it is not JSON"))?)
    }

    fn new(value: Json) -> Result<Self> {
        match value {
            Json::Array(items) => Ok(Self(items.into_iter())),
            _ => Err(strange("something else instead of an array")),
        }
    }

    fn next(&mut self) -> Result<Json> {
        self.0.next().ok_or_else(|| strange("it is too short"))
    }

    fn array(&mut self) -> Result<Reader> {
        Reader::new(self.next()?)
    }

    fn text(&mut self) -> Result<String> {
        match self.next()? {
            Json::String(text) => Ok(text),
            _ => Err(strange("something else instead of text")),
        }
    }

    fn number(&mut self) -> Result<u64> {
        self.next()?.as_u64().ok_or_else(|| strange("something else instead of a number"))
    }

    fn flag(&mut self) -> Result<bool> {
        self.next()?.as_bool().ok_or_else(|| strange("something else instead of yes or no"))
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
        match (self.small()?, self.small()?) {
            (_, 0) => Ok(Seats::All),
            (take, of) => Seats::permits(take, of).map_err(|_| strange("seats that are none")),
        }
    }

    fn bytes(&mut self) -> Result<Vec<u8>> {
        unhex(&self.text()?).ok_or_else(|| strange("bytes that are not hex"))
    }

    fn member(&mut self) -> Result<MemberId> {
        member(&self.text()?).ok_or_else(|| strange("an id that is none"))
    }

    fn grant(&mut self) -> Result<Grant> {
        let (fence, seats) = (self.fence()?, self.seats()?);
        let mut grant = Grant::new(fence, seats, self.micros()?, self.duration()?);
        grant.handed_over = self.flag()?;
        // Nothing in a message, which takes its time.
        grant.now = self.next()?.as_u64().map(Micros);
        Ok(grant)
    }

    fn departure(&mut self) -> Result<Departure> {
        let mut how = self.array()?;
        departure(&how.text()?, how.text()?, how.text()?)
    }

    fn details(&mut self) -> Result<Arc<Details>> {
        serde_json::from_value(self.next()?)
            .map(Arc::new)
            .map_err(|_| strange("what somebody says about itself"))
    }

    fn holders(&mut self, now: Micros) -> Result<Vec<HolderView>> {
        let mut views = Vec::new();
        for view in self.array()?.0 {
            views.push(Reader::new(view)?.holder(now)?);
        }
        Ok(views)
    }

    fn holder(mut self, now: Micros) -> Result<HolderView> {
        let (member, seats) = (self.member()?, self.seats()?);
        let (fence, since) = (self.fence()?, self.micros()?);
        let (renewed, until) = (self.micros()?, self.micros()?);
        let (ttl, detached) = (self.duration()?, self.flag()?);
        let mut view = HolderView::new(member, self.details()?, seats, since);
        view.fence = fence;
        view.renewed = renewed;
        view.until = until;
        view.ttl = ttl;
        view.detached = detached;
        view.quiet_for = now.since(renewed);
        Ok(view)
    }

    fn waiter(mut self) -> Result<WaiterView> {
        let (member, seats) = (self.member()?, self.seats()?);
        let priority = self.next()?.as_i64().and_then(|p| i32::try_from(p).ok());
        let priority = priority.ok_or_else(|| strange("a priority"))?;
        let (since, upgrade) = (self.micros()?, self.flag()?);
        let mut view = WaiterView::new(member.holder(), self.details()?, seats, since);
        view.priority = Priority::new(priority).map_err(|_| strange("a priority"))?;
        view.upgrade = upgrade;
        Ok(view)
    }

    fn place(&mut self) -> Result<Place> {
        let mut at = self.array()?;
        let mut place = Place::default();
        place.ahead = usize::try_from(at.number()?).map_err(|_| strange("a place"))?;
        place.check_in = at.next()?.as_u64().map(Duration::from_micros);
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

fn departure(how: &str, by: String, why: String) -> Result<Departure> {
    let reason = || Reason { by: by.into(), why: why.into() };
    Ok(match how {
        "released" => Departure::Released,
        "withdrawn" => Departure::Withdrawn,
        "expired" => Departure::Expired,
        "evicted" => Departure::Evicted(reason()),
        "stolen" => Departure::Stolen(reason()),
        "answered" => Departure::Answered,
        "forgotten" => Departure::Forgotten,
        _ => return Err(strange("a way to depart")),
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |d: u8| u8::try_from(char::from(d).to_digit(16)?).ok();
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect()
}

fn member(text: &str) -> Option<MemberId> {
    Some(MemberId::from_bytes(unhex(text)?.try_into().ok()?))
}

pub(crate) fn verdict(answer: Answer, claim: &Claim) -> Result<Verdict> {
    if let Answer::Plain { fence, at } = answer {
        // A plain claim of a lock that nobody held or waited for.
        let number = |n: i64| u64::try_from(n).map_err(|_| strange("a time before 1970"));
        let at = Micros(number(at)?);
        let ttl = Duration::from_micros(u64::try_from(claim.ttl.as_micros()).unwrap_or(u64::MAX));
        let mut grant = Grant::new(Fence::new(number(fence)?), claim.seats, at, ttl);
        grant.now = Some(at);
        return Ok(Verdict::Granted(grant));
    }
    let mut reply = answer.reader()?;
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

fn row_taken() -> Error {
    Error::new(ErrorKind::Unreachable, "another transaction has the row of this lock, and goes on")
        .with_help("somebody used the lock's SQL functions in a transaction that is still open")
        .with_nothing_changed()
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
    match answer.reader()?.text()?.as_str() {
        "done" => Ok(()),
        _ => Err(strange("an answer to a withdrawal")),
    }
}

pub(crate) fn renewal(answer: Answer) -> Renewal {
    let read = || {
        let mut reply = answer.reader()?;
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
    let mut reply = answer.reader()?;
    Ok(match reply.text()?.as_str() {
        "done" => Change::Done(reply.array()?.grant()?),
        "not_held" => Change::NotHeld(reply.departure()?),
        "needs_all" => Change::NeedsAllSeats,
        "mismatch" => Change::Mismatch { of: reply.small()? },
        _ => return Err(strange("an answer to a change")),
    })
}

pub(crate) fn release(answer: Answer) -> Result<Release> {
    if let Answer::Plain { .. } = answer {
        return Ok(Release::Released);
    }
    let mut reply = answer.reader()?;
    Ok(match reply.text()?.as_str() {
        "released" => Release::Released,
        "not_held" => Release::NotHeld(reply.departure()?),
        "needs_all" => Release::NeedsAllSeats,
        _ => return Err(strange("an answer to a release")),
    })
}

pub(crate) fn evicted(answer: Answer) -> Result<Evicted> {
    let mut reply = answer.reader()?;
    Ok(match reply.text()?.as_str() {
        "nobody" => Evicted::NobodyThere,
        "evicted" => Evicted::Done(reply.holders(Micros(0))?),
        "moved" => Evicted::FenceMoved(reply.holders(Micros(0))?),
        _ => return Err(strange("an answer to a force release")),
    })
}

pub(crate) fn view(said: &str, name: LockName) -> Result<View> {
    let mut reply = Reader::parse(said)?;
    if reply.text()? != "view" {
        return Err(strange("an answer to a look"));
    }
    let mut view = View::empty(name);
    view.fence = reply.fence()?;
    let holders = reply.array()?;
    for waiter in reply.array()?.0 {
        view.waiters.push(Reader::new(waiter)?.waiter()?);
    }
    view.value = match reply.next()? {
        Json::Null => None,
        value => Some(Reader::new(value)?.value()?),
    };
    let now = reply.micros()?;
    for holder in holders.0 {
        view.holders.push(Reader::new(holder)?.holder(now)?);
    }
    Ok(view)
}

/// The event that a message tells of; `None` if it is not understood: whoever waits asks in the end.
pub(crate) fn event(message: &str) -> Option<Event> {
    let message: Json = serde_json::from_str(message).ok()?;
    let text = |key: &str| message.get(key).and_then(Json::as_str);
    let name = LockName::new(text("name")?).ok()?;
    if let Some(granted) = text("granted") {
        let grant = Reader::new(message.get("grant")?.clone()).and_then(|mut r| r.grant()).ok();
        return Some(Event::Granted { name, member: member(granted)?, grant });
    }
    if let Some(look) = text("look") {
        return Some(Event::Granted { name, member: member(look)?, grant: None });
    }
    let (by, why) = (text("by")?.to_owned(), text("why")?.to_owned());
    let departure = departure(text("how")?, by, why).ok()?;
    Some(Event::Gone { name, member: member(text("gone")?)?, departure })
}
