//! The verbs, each one turn at the server.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use serde_json::json;
use tenure_core::backend::{
    Backend, Change, Claim, Evicted, Eviction, LeaseRef, Listener, Member, Release, Renewal, Value,
    Verdict, time_to_renew,
};
use tenure_core::{
    Capabilities, Listeners, LockName, MemberId, Recall, Result, Seats, Token, View,
};
use tokio_postgres::types::Type;

use super::install;
use super::link::{Link, Patience, Store, rows};
use super::links::Links;
use super::reply;
use super::turn::{Asked, Statements, Turn, What, micros, seats};
use super::wake::Wake;
use crate::config::PostgresConfig;
use crate::error::strange;
use crate::session::Session;

/// How long a call waits for an answer before the connection counts as dead.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long calls wait: one that waits for a row keeps others that ask for that row from nothing.
const CALM: Patience = Patience { answer: PATIENCE, row: Duration::from_secs(1) };
/// How often a claim that waits asks for a row that somebody sits on; each time takes a second.
const WAITS_FOR_ROW: u32 = 30;
/// How often a process looks for rows that nobody uses: once in so many claims.
const PRUNE_EVERY: u32 = 256;
/// How many rows it looks at then: more than those claims can have made.
const PRUNE_AT_MOST: i64 = 1024;

/// Leases in a table of a PostgreSQL server, 14 or newer.
///
/// The table is installed when it is first used, by whoever may; see
/// [`install_sql`](crate::install_sql). Calls need a tokio runtime with time and I/O, or none: then a
/// thread of the backend's own drives the connection. One connection per runtime carries the calls of
/// all its tasks, and one per backend hears of grants.
#[derive(Debug)]
pub struct LeaseBackend {
    links: Links,
    wake: Arc<Wake>,
    capabilities: Capabilities,
    address: Arc<str>,
    claims: AtomicU32,
}

impl LeaseBackend {
    /// A backend for this server. Connects when it is first used.
    pub fn new(config: PostgresConfig) -> Self {
        let address = config.masked().into();
        let statements = Statements::of(&config.schema);
        let mut capabilities = Capabilities::full("postgres");
        // A replica that lags behind may be chosen.
        capabilities.after_failover = Some(Recall::Some);
        let store = Arc::new(Store { config, statements, listeners: Listeners::default() });
        Self {
            wake: Wake::new(store.clone()),
            links: Links::new(store),
            capabilities,
            address,
            // Programs that take one lock and end look as often.
            claims: AtomicU32::new(u32::from(Token::random().expose()[0])),
        }
    }

    /// As [`LeaseBackend::new`], from an address; see [`PostgresConfig::from_url`].
    ///
    /// # Errors
    /// `Invalid` if the address is not understood.
    pub fn open(url: &str) -> Result<Self> {
        Ok(Self::new(PostgresConfig::from_url(url)?))
    }

    /// Installs the table, or brings it up to date, which the first use does as well.
    ///
    /// # Errors
    /// `Denied` if this user may not; `Unreachable` or `Unknown` if the server is not there.
    ///
    /// # Cancel safety
    /// It is done or not; it can be called again.
    pub async fn install(&self) -> Result<()> {
        let store = self.links.store().clone();
        self.links
            .here()?
            .with(|session| async move { install::install(&session, &store.config.schema).await })
            .await
    }

    async fn other(
        &self,
        name: &LockName,
        verb: &'static str,
        member: Option<MemberId>,
        args: serde_json::Value,
        bytes: Option<&Arc<[u8]>>,
    ) -> Result<reply::Answer> {
        let what = What::Other { verb, member, args: args.to_string(), bytes: bytes.cloned() };
        self.links.here()?.take(Turn { name: name.clone(), what }, CALM).await
    }

    /// Now and then removes what nobody uses.
    fn prune(&self, link: &Arc<Link>) {
        if !self.claims.fetch_add(1, Ordering::Relaxed).is_multiple_of(PRUNE_EVERY) {
            return;
        }
        let (link, store) = (link.clone(), self.links.store().clone());
        link.clone().in_the_background(async move {
            let pruned = link.with(|session| async move {
                let at_most = [(&PRUNE_AT_MOST as _, Type::INT8)];
                rows(&session, PATIENCE, &store.statements.prune, &at_most).await.map(drop)
            });
            if let Err(error) = pruned.await {
                tracing::debug!(%error, "rows that nobody uses stay for now");
            }
        });
    }
}

impl Backend for LeaseBackend {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn address(&self) -> Arc<str> {
        self.address.clone()
    }

    async fn acquire(&self, claim: &Claim) -> Result<Verdict> {
        let link = self.links.here()?;
        self.prune(&link);
        let channel = if claim.wait {
            self.wake.channel(|| self.links.own()).await
        } else {
            self.wake.channel_so_far()
        };
        for _ in 0..WAITS_FOR_ROW {
            let what = What::Claim(Asked::new(claim, channel.clone()));
            let answer = link.take(Turn { name: claim.name.clone(), what }, CALM).await?;
            if !claim.wait || !matches!(answer, reply::Answer::RowTaken) {
                return reply::verdict(answer, claim);
            }
            // It would have waited for its turn, too.
        }
        reply::verdict(reply::Answer::RowTaken, claim)
    }

    async fn withdraw(&self, claim: &Claim) -> Result<()> {
        let args = json!([claim.id.to_string(), micros(claim.tombstone_for())]);
        reply::done(self.other(&claim.name, "withdraw", Some(claim.member), args, None).await?)
    }

    async fn renew(&self, members: &[Member]) -> Vec<Renewal> {
        let turns = members.iter().map(Turn::renew).collect();
        let answer = time_to_renew(members);
        // Those of others are not to be late for the one on whose row somebody sits.
        let row = if members.len() == 1 { answer / 2 } else { answer / 8 };
        let patience = Patience { answer, row };
        match self.links.here() {
            Ok(link) => {
                let answers = link.take_all(turns, patience).await.into_iter();
                answers.map(|a| a.map_or_else(Renewal::Unknown, reply::renewal)).collect()
            }
            Err(error) => vec![Renewal::Unknown(error); members.len()],
        }
    }

    async fn downgrade(&self, lease: &LeaseRef, to: Seats) -> Result<Change> {
        let (take, out_of) = seats(to);
        let args = json!([lease.fence.get(), take, out_of]);
        reply::change(self.other(&lease.name, "downgrade", Some(lease.id), args, None).await?)
    }

    async fn release(&self, lease: &LeaseRef, value: Option<&Value>) -> Result<Release> {
        let Some(value) = value else {
            let turn = Turn { name: lease.name.clone(), what: What::Release { member: lease.id } };
            return reply::release(self.links.here()?.take(turn, CALM).await?);
        };
        let args = json!([micros(value.keep)]);
        let bytes = Some(&value.bytes);
        reply::release(self.other(&lease.name, "release", Some(lease.id), args, bytes).await?)
    }

    async fn put(&self, lease: &LeaseRef, value: &Value) -> Result<Change> {
        let args = json!([micros(value.keep)]);
        let bytes = Some(&value.bytes);
        reply::change(self.other(&lease.name, "put", Some(lease.id), args, bytes).await?)
    }

    async fn evict(&self, name: &LockName, why: &Eviction) -> Result<Evicted> {
        let only_if = why.only_if.map(|fence| fence.get());
        let args = json!([only_if, why.stolen, why.reason.by, why.reason.why]);
        reply::evicted(self.other(name, "evict", None, args, None).await?)
    }

    async fn inspect(&self, name: &LockName) -> Result<View> {
        let (store, of) = (self.links.store().clone(), name.clone());
        let look = move |session: Arc<Session>| async move {
            let name = of.as_str();
            let said =
                rows(&session, PATIENCE, &store.statements.look, &[(&name, Type::TEXT)]).await?;
            match said.first().map(|row| row.try_get(0)) {
                Some(Ok(said)) => Ok::<String, _>(said),
                _ => Err(strange("no answer to a look")),
            }
        };
        reply::view(&self.links.here()?.with(look).await?, name.clone())
    }

    async fn list(&self, prefix: &str, limit: usize) -> Result<Vec<View>> {
        let (store, prefix) = (self.links.store().clone(), prefix.to_owned());
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let look = move |session: Arc<Session>| async move {
            let params = [(&prefix as _, Type::TEXT), (&limit as _, Type::INT8)];
            rows(&session, PATIENCE, &store.statements.look_around, &params).await
        };
        let mut views = Vec::new();
        for row in self.links.here()?.with(look).await? {
            let (Ok(name), Ok(said)) = (row.try_get(0), row.try_get(1)) else {
                return Err(strange("a line of a list"));
            };
            let name: &str = name;
            let Ok(name) = LockName::new(name) else { continue };
            views.push(reply::view(said, name)?);
        }
        Ok(views)
    }

    fn subscribe(&self, listener: Weak<dyn Listener>) {
        self.links.store().listeners.add(listener);
    }

    fn watch(&self, _claim: &Claim, waits: bool) -> bool {
        // Its claim was sent with the channel of this backend, if somebody listened there.
        waits && self.wake.hears()
    }

    async fn ping(&self) -> Result<()> {
        self.links.here()?.ping(PATIENCE).await
    }

    fn keys(&self, name: &LockName) -> Vec<(&'static str, String)> {
        let schema = &self.links.store().config.schema;
        vec![("table", format!("{schema}.cell")), ("name", name.to_string())]
    }
}
