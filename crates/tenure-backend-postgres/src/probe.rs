//! Looks at a deployment, and says what it makes of the promises.
//!
//! Everything is asked of the server or tried with a lock of its own. What may not be asked is told as
//! not known, with the right that is missing. Nothing is installed by looking.

mod asked;
mod judged;
mod limits;
mod rights;

use std::sync::Arc;
use std::time::Duration;

use tenure_core::backend::Backend;
use tenure_core::clock::{Clock, SystemClock};
use tenure_core::probe::{RoundTrips, Trial, handed_over};
use tenure_core::{Error, ErrorKind, Finding, Result, Standing};

use self::asked::Asked;
use crate::advisory::AdvisoryBackend;
use crate::config::{PostgresConfig, Room};
use crate::error::no_answer;
use crate::lease::LeaseBackend;
use crate::pooler;
use crate::session::{Deaf, Session};

/// How long all of it may take.
const LIMIT: Duration = Duration::from_secs(30);
/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// What the session is called at the server.
const SESSION: &str = "tenure doctor";

/// The most important first.
const ORDER: [&str; 14] = [
    "server",
    "pooler",
    "rights",
    "lock",
    "messages",
    "restart",
    "failover",
    "head_room",
    "connections",
    "round_trip",
    "clock",
    "timeouts",
    "vacuum",
    "visibility",
];

/// Looks at the deployment that an address names and measures it; takes about a second. Needs a tokio
/// runtime with time and I/O. `ttl` is that of the locks which are to live there. See
/// [`PostgresConfig::from_url`] for addresses.
///
/// The findings are about `server`, `pooler`, `rights`, `lock`, `messages`, `restart`, `failover`,
/// `connections`, `round_trip` and `timeouts`; of a lease table about `clock` and `vacuum`, of
/// advisory locks about `head_room` and `visibility` as well.
///
/// # Errors
/// `Invalid` if the address is not understood; `Unreachable` or `Denied` if there is no connection, or
/// none any more. A deployment that does not do what locks need is a [`Finding`], not an error.
///
/// # Cancel safety
/// A lock that it was trying ends by its ttl of a few seconds; it is in nobody's way.
pub async fn examine(url: &str, ttl: Duration) -> Result<Vec<Finding>> {
    let config = PostgresConfig::from_url(url)?;
    tokio::time::timeout(LIMIT, look(config, ttl)).await.unwrap_or_else(|_| {
        Err(Error::new(ErrorKind::Unreachable, "the server answered too slowly to be examined")
            .with_nothing_changed())
    })
}

async fn look(config: PostgresConfig, ttl: Duration) -> Result<Vec<Finding>> {
    let session = Session::open(&config.server, SESSION, Arc::new(Deaf));
    let session = tokio::time::timeout(PATIENCE, session)
        .await
        .unwrap_or_else(|_| Err(no_answer("no connection in time").with_nothing_changed()))?;
    let asked = Asked::of(&session, &config.schema).await?;
    let pooled = pooler::is_between(&config.server, SESSION, &session, asked.pid).await?;
    let place = Place {
        room: config.room(),
        pooled,
        listens: config.listen.is_some(),
        max_locks: config.max_locks,
        schema: config.schema.to_string(),
    };
    let mut findings = judged::all(&asked, &place);
    findings.extend(limits::all(&asked, &place));
    let rights = rights::rights(&asked, &place);
    findings.push(round_trip(&session, ttl).await);
    drop(session);
    let of_use = judged::is_of_use(&asked, &place);
    findings.extend(if of_use && rights::is_installed(&asked, &place) {
        match place.room {
            Room::Lease => tried(&LeaseBackend::new(config), &place).await,
            Room::Advisory => tried(&AdvisoryBackend::new(config)?, &place).await,
        }
    } else {
        not_tried(of_use && rights.passed())
    });
    findings.push(rights);
    findings.sort_by_key(|finding| ORDER.iter().position(|what| *what == finding.what));
    Ok(findings)
}

/// What is known beforehand.
#[derive(Clone, Debug)]
struct Place {
    room: Room,
    /// A pooler that hands sessions around is in between.
    pooled: bool,
    /// Grants are heard of by another way.
    listens: bool,
    max_locks: Option<usize>,
    schema: String,
}

async fn tried(backend: &impl Backend, place: &Place) -> Vec<Finding> {
    let trial = Trial::new(backend);
    let lock = trial.lock().await;
    if lock.standing == Standing::Bad {
        return vec![lock];
    }
    let messages = match place.pooled && !place.listens {
        false => handed_over(trial.hand_over().await),
        true => Finding::new(
            "messages",
            Standing::Note,
            "no messages come through a pooler: waiters ask again and again, at least once a second",
        )
        .with_help("`?listen=postgres://…` names a way past the pooler, for messages only"),
    };
    vec![lock, messages]
}

/// What is missing is told by others.
fn not_tried(could_be: bool) -> Vec<Finding> {
    let says = match could_be {
        false => "no lock was tried: see what is bad",
        true => "no lock was tried, for that would install something",
    };
    vec![Finding::new("lock", Standing::Unknown, says)]
}

/// How long an answer takes, beside the ttl.
async fn round_trip(session: &Session, ttl: Duration) -> Finding {
    let mut trips = RoundTrips::new();
    while trips.go_on() {
        let sent = SystemClock.now();
        if let Err(error) = session.rows(PATIENCE, "select 1", &[]).await {
            return RoundTrips::not_answered(&error);
        }
        trips.answered(sent);
    }
    trips.judged(ttl)
}
