//! Who holds a lock and who waits for it: by the server, and by the processes that know more.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tenure_core::backend::{Claim, Place};
use tenure_core::{
    Details, Fence, HolderView, LockName, MemberId, Micros, Owner, Result, Seats, View, WaiterView,
};
use tokio_postgres::types::Type;

use super::holder::read;
use super::key::Key;
use super::registry::{Entry, State};
use super::room::Room;

/// What the names of our sessions begin with, before the process's id and a blank.
const OURS: &str = "tenure/";

/// What the server says of one lock.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) list: Vec<Row>,
    pub(crate) now: Option<Micros>,
}

/// A session that holds a lock or waits for it.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) pid: i32,
    pub(crate) shared: bool,
    pub(crate) granted: bool,
    application: String,
    user: String,
    host: String,
    since: Micros,
    changed: Micros,
    idle: bool,
}

/// A holder or waiter, as its own process knows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Seen {
    pid: i32,
    member: MemberId,
    holds: bool,
    shared: bool,
    fence: u64,
    since: u64,
    renewed: u64,
    ttl: Duration,
    quiet: Duration,
    details: Arc<Details>,
}

/// Those who hold and those who wait, in the server's order; with the server's processes.
#[derive(Debug, Default)]
pub(crate) struct Picture {
    pub(crate) holders: Vec<HolderView>,
    /// By whom each of the holders is known.
    sources: Vec<Source>,
    waiters: Vec<(i32, WaiterView)>,
}

/// Where it is known from that somebody holds.
#[derive(Debug)]
struct Source {
    /// The server's process that holds it for him.
    pid: i32,
    /// His own process tells who he is; the server alone tells no two apart that have the lock in turn.
    told: bool,
}

impl Room {
    /// What the server says of a lock.
    pub(crate) async fn rows(self: &Arc<Self>, key: Key) -> Result<Rows> {
        let values = vec![(Box::new(key.0) as Box<_>, Type::INT8)];
        let rows = self.ask_server(include_str!("sql/who.sql"), values).await?;
        let micros = |us: i64| Micros(u64::try_from(us).unwrap_or(0));
        let mut all = Rows::default();
        for row in &rows {
            all.now = Some(micros(read(row, 9)?));
            all.list.push(Row {
                pid: read::<Option<i32>>(row, 0)?.unwrap_or_default(),
                shared: read(row, 1)?,
                granted: read(row, 2)?,
                application: read(row, 3)?,
                user: read(row, 4)?,
                host: read(row, 5)?,
                since: micros(read(row, 6)?),
                changed: micros(read(row, 7)?),
                idle: read(row, 8)?,
            });
        }
        Ok(all)
    }

    /// Where a claim stands that does not hold.
    pub(crate) async fn place(
        self: &Arc<Self>,
        claim: &Claim,
        key: Key,
        ask: bool,
    ) -> Result<Place> {
        let rows = self.rows(key).await?;
        let picture = self.picture(key, &rows, ask).await;
        let waits_on = self.registry.lock().entry(claim.member).and_then(|e| e.waits_on);
        Ok(picture.place(waits_on, rows.now))
    }

    /// Where somebody stands whom this process of the server waits for.
    pub(crate) async fn place_in(self: &Arc<Self>, key: Key, rows: &Rows, pid: i32) -> Place {
        self.picture(key, rows, true).await.place(Some(pid), rows.now)
    }

    /// Where a claim stands that waits; `None` if it does not any more.
    pub(crate) async fn place_of_waiting(
        self: &Arc<Self>,
        claim: &Claim,
        key: Key,
    ) -> Result<Option<Place>> {
        let rows = self.rows(key).await?;
        let picture = self.picture(key, &rows, true).await;
        let waits = || {
            let registry = self.registry.lock();
            let entry = registry.entry(claim.member).filter(|e| e.state == State::Waiting)?;
            Some(entry.waits_on)
        };
        let Some(waits_on) = waits() else { return Ok(None) };
        let granted =
            waits_on.is_some_and(|pid| rows.list.iter().any(|row| row.pid == pid && row.granted));
        if granted {
            // The server has granted it, and its word is on the way.
            self.until(|| waits().is_none().then_some(())).await;
            return Ok(None);
        }
        Ok(Some(picture.place(waits_on, rows.now)))
    }

    pub(crate) async fn picture(self: &Arc<Self>, key: Key, rows: &Rows, ask: bool) -> Picture {
        let mut seen = if ask { self.ask_who(key, &rows.processes()).await } else { Vec::new() };
        seen.extend(self.seen_here(key));
        paint(rows, &seen, &self.client)
    }

    pub(crate) async fn view(self: &Arc<Self>, name: &LockName) -> Result<View> {
        let key = Key::of(name);
        let rows = self.rows(key).await?;
        let picture = self.picture(key, &rows, true).await;
        let mut view = View::empty(name.clone());
        let known = picture.holders.iter().map(|h| h.fence).filter(|f| *f != Fence::ZERO).max();
        view.fence = match known {
            Some(fence) => fence,
            // All locks share one sequence: none was granted with a higher one.
            None => self.last_fence().await?,
        };
        view.holders = picture.holders;
        view.waiters = picture.waiters.into_iter().map(|(_, waiter)| waiter).collect();
        Ok(view)
    }

    /// What this process knows of a lock.
    pub(crate) fn seen_here(&self, key: Key) -> Vec<Seen> {
        let registry = self.registry.lock();
        let now = self.now();
        let seen = |(member, entry): (MemberId, &Entry)| {
            let (pid, holds, fence) = match entry.state {
                State::Held(hold) => (self.session(hold.session)?.pid, true, hold.fence.get()),
                // Who waits here, and tries now and then, waits all the while.
                State::Waiting | State::Trying => (entry.waits_on?, false, 0),
                State::Leaving(_) => return None,
            };
            Some(Seen {
                pid,
                member,
                holds,
                shared: entry.shared,
                fence,
                since: entry.since.0,
                renewed: entry.renewed.0,
                ttl: entry.ttl,
                quiet: now.since(entry.seen),
                details: entry.details.clone(),
            })
        };
        registry.of(key).filter_map(seen).collect()
    }
}

impl Rows {
    /// The processes of ours that hold or wait.
    pub(crate) fn processes(&self) -> Vec<String> {
        let mut all: Vec<String> = self.list.iter().filter_map(Row::process).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

impl Row {
    /// Whether it is of this process of ours.
    pub(crate) fn is_of(&self, client: &str) -> bool {
        self.process().as_deref() == Some(client)
    }

    /// The process of ours that it belongs to.
    fn process(&self) -> Option<String> {
        let rest = self.application.strip_prefix(OURS)?;
        rest.split(' ').next().map(str::to_owned)
    }

    /// What the server alone knows.
    fn details(&self) -> Details {
        let name = match self.application.strip_prefix(OURS).and_then(|rest| rest.split_once(' ')) {
            Some((_, label)) => label.to_owned(),
            None if self.application.is_empty() => self.user.clone(),
            None => self.application.clone(),
        };
        let mut owner = Owner::labelled(&name).unwrap_or_else(|_| {
            let mut nameless = Owner::this_process();
            nameless.label = "(no name)".into();
            nameless
        });
        owner.pid = name.rsplit(':').next().and_then(|pid| pid.parse().ok()).unwrap_or(0);
        owner.host = self.host.as_str().into();
        Details::of(owner)
    }

    fn member(&self) -> MemberId {
        let words = format!("{}/{}/{}", self.pid, self.application, self.shared);
        MemberId::from_bytes(Sha256::digest(words).into())
    }

    fn seats(&self) -> Seats {
        if self.shared { Seats::SHARED } else { Seats::All }
    }
}

impl Seen {
    fn holder(&self) -> HolderView {
        let seats = if self.shared { Seats::SHARED } else { Seats::All };
        let since = Micros(self.since);
        let mut view = HolderView::new(self.member, self.details.clone(), seats, since);
        view.fence = Fence::new(self.fence);
        view.renewed = Micros(self.renewed.max(self.since));
        view.until = view.renewed.plus(self.ttl);
        view.ttl = self.ttl;
        view.quiet_for = self.quiet;
        view
    }

    pub(crate) fn is(&self, member: MemberId) -> bool {
        self.member == member
    }

    pub(crate) fn into_holder(self) -> HolderView {
        self.holder()
    }

    fn waiter(&self) -> WaiterView {
        let seats = if self.shared { Seats::SHARED } else { Seats::All };
        WaiterView::new(self.member.holder(), self.details.clone(), seats, Micros(self.since))
    }
}

impl Picture {
    /// Those who hold, each with the server's process that does it for him.
    pub(crate) fn each_holder(&self) -> impl Iterator<Item = (&HolderView, i32)> {
        self.holders.iter().zip(self.sources.iter().map(|source| source.pid))
    }

    /// Whether somebody who held by this process of the server still does, for all that is known: it may
    /// hold the lock for somebody else by now.
    pub(crate) fn still_holds(&self, member: MemberId, pid: i32) -> bool {
        let there = self.holders.iter().zip(&self.sources);
        there
            .filter(|(_, source)| source.pid == pid)
            .any(|(holder, source)| holder.member == member || !source.told)
    }

    /// Where somebody stands whom this process of the server waits for, or who does not wait there.
    fn place(self, waits_on: Option<i32>, now: Option<Micros>) -> Place {
        let mut place = Place::default();
        let at = self.waiters.iter().position(|(pid, _)| Some(*pid) == waits_on);
        place.ahead = at.unwrap_or(self.waiters.len());
        place.holders = self.holders;
        place.now = now;
        place
    }
}

/// Puts together what the server says and what processes know of themselves.
fn paint(rows: &Rows, seen: &[Seen], here: &str) -> Picture {
    let mut picture = Picture::default();
    for row in &rows.list {
        let mut known: Vec<&Seen> = seen.iter().filter(|s| s.pid == row.pid).collect();
        known.retain(|s| s.shared == row.shared);
        if row.granted {
            // Its process may not know yet that it was granted.
            picture.sources.extend(known.iter().map(|_| Source { pid: row.pid, told: true }));
            picture.holders.extend(known.iter().map(|s| s.holder()));
        } else {
            picture.waiters.extend(known.iter().map(|s| (row.pid, s.waiter())));
        }
        // What is ours and we do not know is just being given back.
        let is_ours = row.is_of(here);
        if known.is_empty() && !(row.granted && is_ours) {
            picture.add_stranger(row, rows.now);
        }
    }
    // Those who wait in their own process, for others of it.
    let elsewhere = seen.iter().filter(|s| !s.holds && s.pid == 0);
    picture.waiters.extend(elsewhere.map(|s| (0, s.waiter())));
    picture
}

impl Picture {
    fn add_stranger(&mut self, row: &Row, now: Option<Micros>) {
        let details = Arc::new(row.details());
        if !row.granted {
            let id = row.member().holder();
            self.waiters.push((row.pid, WaiterView::new(id, details, row.seats(), row.since)));
            return;
        }
        let mut view = HolderView::new(row.member(), details, row.seats(), row.since);
        if let (true, Some(now)) = (row.idle, now) {
            view.quiet_for = now.since(row.changed);
        }
        view.renewed = row.changed.max(row.since);
        view.until = view.renewed;
        self.sources.push(Source { pid: row.pid, told: false });
        self.holders.push(view);
    }
}
