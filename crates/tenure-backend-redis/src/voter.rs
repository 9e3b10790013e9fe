//! One of several independent servers that decide by majority: Redlock.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tenure_core::backend::{Departure, Listener};
use tenure_core::voter::{Ballot, Keep, Leave, Left, Ouster, Raise, Sight, Sign, Vote, Voter};
use tenure_core::{Error, ErrorKind, Fence, Listeners, LockName, MemberId, Result};

use crate::config::RedisConfig;
use crate::details::Written;
use crate::keys::Keys;
use crate::link::Store;
use crate::links::Links;
use crate::reply::{Answer, votes};
use crate::script::{Kind, Scripts, Turn, Words};
use crate::slots::Slots;

/// How long the server may take to answer what only it is asked.
const PATIENCE: Duration = Duration::from_secs(3);
/// How the keys begin that remember what a lock's own key does not say.
const CELLS: &str = "tenure:vote:";
/// What the server was when somebody last looked.
const RUN: &str = "tenure:run";

/// One of the servers of a Redlock, as `tenure-backend-quorum` asks it.
///
/// The key of a lock is what `SET key token NX PX ttl` makes on each of them, so that other clients of
/// the same algorithm, and people with `redis-cli`, are excluded and exclude.
#[derive(Debug)]
pub struct RedisVoter {
    links: Links,
    address: Arc<str>,
    details: Written,
}

impl RedisVoter {
    /// A voter on this server. Connects when it is first asked.
    ///
    /// # Errors
    /// `Invalid` for Sentinels or a cluster: these decide who is the primary, and a voter has to be the
    /// same server always.
    pub fn new(config: RedisConfig) -> Result<Self> {
        if !config.is_one_server() {
            return Err(Error::new(
                ErrorKind::Invalid,
                "a voter is one server, not a group of servers with replicas",
            )
            .with_nothing_changed());
        }
        let address = config.masked().into();
        let scripts = Scripts::of_voter();
        let store =
            Store { config, scripts, listeners: Listeners::default(), slots: Slots::default() };
        Ok(Self { links: Links::new(Arc::new(store)), address, details: Written::default() })
    }

    /// The voters of an address, and the longest ttl of a lease if it is named; see
    /// [`RedisConfig::of_voters`].
    ///
    /// # Errors
    /// `Invalid` if it is not understood.
    pub fn all_of(url: &str) -> Result<(Vec<Self>, Option<Duration>)> {
        let (configs, longest) = RedisConfig::of_voters(url)?;
        Ok((configs.into_iter().map(Self::new).collect::<Result<_>>()?, longest))
    }

    fn keys_of(&self, name: &LockName) -> Result<Keys> {
        let lock = format!("{}{name}", self.links.store().config.prefix);
        if lock.starts_with(CELLS) || lock == RUN {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("the key {lock:?} is one of those that keep the state of locks"),
            )
            .with_help("name the lock otherwise, or put a prefix before all keys: `?prefix=locks:`")
            .with_nothing_changed());
        }
        Ok(Keys { cell: format!("{CELLS}{lock}"), lock })
    }

    async fn ask(&self, name: &LockName, words: Words) -> Result<Answer> {
        let turn = Turn { kind: Kind::Other, keys: self.keys_of(name)?, words };
        self.links.here()?.ask(turn, PATIENCE).await
    }
}

impl Voter for RedisVoter {
    fn address(&self) -> Arc<str> {
        self.address.clone()
    }

    async fn vote(&self, ballot: &Ballot) -> Result<Vote> {
        let (line, keys) = (self.links.here()?, self.keys_of(&ballot.name)?);
        let details = self.details.json(&ballot.details);
        let words = Words::new("vote", ballot.member)
            .list(5)
            .number(ballot.round.min(1 << 52))
            .micros(ballot.ttl)
            .micros(ballot.longest)
            .flag(ballot.repair)
            .flag(ballot.waits);
        let turn = |channel: &str| Turn {
            kind: Kind::Acquire,
            keys: keys.clone(),
            words: words.clone().from(&details, channel),
        };
        votes::vote(if ballot.waits {
            line.claim(turn, &keys, PATIENCE).await?
        } else {
            line.ask(turn(""), PATIENCE).await?
        })
    }

    async fn raise(&self, name: &LockName, member: MemberId, to: Fence) -> Result<Raise> {
        let words = Words::new("raise", member).list(1).text(&to.to_string());
        votes::raise(self.ask(name, words).await?)
    }

    async fn renew(&self, signs: &[Sign]) -> Vec<Result<Keep>> {
        let turn = |sign: &Sign| {
            let ttl = sign.ttl.unwrap_or_default();
            let words = Words::new("keep", sign.member).list(2);
            let words = words.flag(sign.ttl.is_some()).micros(ttl);
            Ok(Turn { kind: Kind::Other, keys: self.keys_of(&sign.name)?, words })
        };
        let turns: Result<Vec<Turn>> = signs.iter().map(turn).collect();
        let sent = async { Ok(self.links.here()?.take(turns?, PATIENCE).await) };
        match sent.await {
            Ok(answers) => answers.into_iter().map(|a| a.and_then(votes::keep)).collect(),
            Err(error) => vec![Err(error); signs.len()],
        }
    }

    async fn leave(&self, name: &LockName, member: MemberId, how: Leave) -> Result<Left> {
        let words = match how {
            Leave::Abandon { round, late } => {
                Words::new("abandon", member).list(2).number(round.min(1 << 52)).flag(late)
            }
            Leave::Withdraw => Words::new("withdraw", member),
            _ => Words::new("release", member),
        };
        votes::left(self.ask(name, words).await?)
    }

    async fn oust(&self, ouster: &Ouster) -> Result<Left> {
        let (how, reason) = match &ouster.how {
            Departure::Stolen(reason) => ("stolen", Some(reason)),
            Departure::Evicted(reason) => ("evicted", Some(reason)),
            _ => ("forgotten", None),
        };
        let words = Words::new("oust", ouster.victim)
            .list(4)
            .text(how)
            .text(reason.map_or("", |reason| &reason.by))
            .text(reason.map_or("", |reason| &reason.why))
            .text(&ouster.fence.to_string());
        votes::left(self.ask(&ouster.name, words).await?)
    }

    async fn look(&self, name: &LockName, longest: Duration) -> Result<Sight> {
        let words = Words::of_nobody("look").list(1).micros(longest);
        votes::sight(self.ask(name, words).await?)
    }

    async fn ping(&self) -> Result<()> {
        self.links.here()?.ping(PATIENCE).await
    }

    fn subscribe(&self, listener: Weak<dyn Listener>) {
        self.links.store().listeners.add(listener);
    }

    fn keys(&self, name: &LockName) -> Vec<(&'static str, String)> {
        match self.keys_of(name) {
            Ok(keys) => vec![("key", keys.lock), ("state", keys.cell)],
            Err(_) => Vec::new(),
        }
    }
}
