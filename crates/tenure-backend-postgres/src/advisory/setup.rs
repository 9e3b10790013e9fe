//! How a session is made: what it has to be, and what it has to have before it holds a lock.

use std::sync::Arc;
use std::time::Duration;

use tenure_core::{Error, ErrorKind, Result};
use tokio_postgres::types::{ToSql, Type};

use super::holder::{Holder, Identity, Statements, read};
use super::room::Room;
use crate::session::{Ear, FOR_EVER, Session};
use crate::{error, pooler};

/// The oldest server, as it says its version: 14.
const OLDEST: i32 = 140_000;
/// How far a new session moves the sequence of the fences. The server logs it 32 numbers ahead, and only the
/// process that writes such a record waits for the disk: for each that hangs in that, a crash
/// may take back 33 numbers that others drew in its wake.
const LEAP: &str = "greatest(1024, 40 * current_setting('max_connections')::int)";
/// How long making a session may take, beyond the connection.
const SETUP: Duration = Duration::from_secs(10);
/// How many bits of a fence the sequence has; above them is the timeline.
const SEQUENCE_BITS: u32 = 44;
/// Below them is the place among the locks that one statement took.
pub(crate) const WITHIN_BITS: u32 = 6;

/// Makes a session that can hold locks.
///
/// # Errors
/// Nothing was changed. `Unsupported` behind a pooler, on an old server, or without the rights;
/// `Unreachable`, `Denied`.
pub(crate) async fn open(room: &Arc<Room>, class: Duration, solo: bool) -> Result<Arc<Holder>> {
    let made = tokio::time::timeout(SETUP, make(room, class, solo)).await;
    made.unwrap_or_else(|_| Err(late())).map_err(Error::with_nothing_changed)
}

async fn make(room: &Arc<Room>, class: Duration, solo: bool) -> Result<Arc<Holder>> {
    let id = room.next_session();
    let session = Session::open(&room.config.server, &room.session_name, room.ear(id)).await?;
    let others: Vec<Arc<Holder>> = room.sessions.lock().values().cloned().collect();
    let here = check_server(room, &session, &others, others.is_empty()).await?;
    if others.is_empty() {
        let (server, name) = (&room.config.server, &room.session_name);
        if pooler::is_between(server, name, &session, here.pid).await? {
            return Err(pooled());
        }
    } else if is_shared(others.iter().map(|other| (other.pid, other.born)), &here) {
        return Err(pooled());
    }
    let schema = &room.config.schema;
    settings(&session, class, SETUP).await?;
    let vouches = here.vouched_by.and_then(|at| others.get(usize::try_from(at - 1).ok()?));
    let timeline = match vouches {
        Some(other) => other.timeline,
        None => {
            ready_fence(&session, schema).await?;
            leap(&session, schema).await?
        }
    };
    let prepared = Statements::prepare(&session, schema).await;
    let statements = prepared.map_err(|e| fence_error(e, room))?;
    let who = Identity { id, pid: here.pid, born: here.born, timeline };
    Ok(Holder::new(who, session, statements, (class, solo), room.now()))
}

/// Moves the sequence of the fences past what a crash may have lost, and answers the timeline. Nobody
/// has to who has started while another session of this process was there that has done so: a crash
/// would have ended that one.
async fn leap(session: &Session, schema: &str) -> Result<i64> {
    let leap = format!(
        "select max(nextval('{schema}.fence')), ('x' || left(pg_walfile_name(pg_current_wal_lsn()), \
         8))::bit(32)::int8 from generate_series(1, {LEAP})"
    );
    let row = session.row(SETUP, &leap, &[]).await?;
    let (reached, timeline): (i64, i64) = (read(&row, 0)?, read(&row, 1)?);
    fence(timeline, numbered(reached, 0))?;
    Ok(timeline)
}

/// A session that holds no locks: it looks, asks and listens.
pub(crate) async fn open_control(room: &Arc<Room>, ear: Arc<dyn Ear>) -> Result<Session> {
    let make = async {
        let session = Session::open(&room.config.server, &room.session_name, ear).await?;
        check_server(room, &session, &[], true).await?;
        // It holds nothing, and may be silent for ever.
        settings(&session, Duration::ZERO, SETUP).await?;
        let listen = format!("listen {}", room.channel);
        session.ask(SETUP, session.client().batch_execute(&listen)).await?;
        Ok(session)
    };
    let made = tokio::time::timeout(SETUP, make).await;
    made.unwrap_or_else(|_| Err(late())).map_err(Error::with_nothing_changed)
}

fn late() -> Error {
    Error::new(ErrorKind::Unreachable, "no session with the server in time")
        .with_help("is the server very busy?")
}

/// What the server says when a session begins.
struct Here {
    pid: i32,
    /// When its process there began.
    born: i64,
    /// Another session that is there as well, and has been since it was made: its place in the list, from 1 on.
    vouched_by: Option<i64>,
}

/// Whether a process of the server that has sessions of ours is the new one's, too: only a pooler gives it to
/// two. After a restart of the server its number may come again, but not with its time.
fn is_shared(mut known: impl Iterator<Item = (i32, i64)>, here: &Here) -> bool {
    known.any(|process| process == (here.pid, here.born))
}

/// Sees that the server is one to lock on, and says who is there. How many locks there are is counted for
/// the first session only: each look goes through all of them.
async fn check_server(
    room: &Room,
    session: &Session,
    others: &[Arc<Holder>],
    counts: bool,
) -> Result<Here> {
    // A number of a process comes again, but not with its time.
    let (pids, born): (Vec<i32>, Vec<i64>) = others.iter().map(|o| (o.pid, o.born)).unzip();
    let values: [(&(dyn ToSql + Sync), Type); 3] =
        [(&counts, Type::BOOL), (&pids, Type::INT4_ARRAY), (&born, Type::INT8_ARRAY)];
    let row = session.row(SETUP, include_str!("sql/server.sql"), &values).await?;
    let (version, standby): (i32, bool) = (read(&row, 0)?, read(&row, 1)?);
    if version < OLDEST {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("PostgreSQL 14 or newer is needed, this server is {}", version / 10_000),
        ));
    }
    if standby {
        return Err(Error::new(
            ErrorKind::Unreachable,
            "the server is a standby: its locks are not those of the primary",
        )
        .with_help("name the primary; with several hosts, `target_session_attrs=read-write`"));
    }
    if counts {
        room.limits.learn(read(&row, 3)?, read(&row, 4)?);
    }
    let born: Option<i64> = read(&row, 5)?;
    Ok(Here { pid: read(&row, 2)?, born: born.unwrap_or_default(), vouched_by: read(&row, 6)? })
}

/// Sessions are not ours.
pub(crate) fn pooled() -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "a pooler that gives sessions out for one transaction at a time (as PgBouncer with \
         pool_mode=transaction) is between here and the server: session locks would stay behind \
         with strangers",
    )
    .with_help("name the server itself or a pool by session, or use `postgres://`: a lease table")
}

async fn settings(session: &Session, class: Duration, patience: Duration) -> Result<()> {
    let class = class.as_millis().to_string();
    let values: [(&(dyn ToSql + Sync), Type); 1] = [(&class, Type::TEXT)];
    session.row(patience, include_str!("sql/settings.sql"), &values).await.map(drop)
}

/// Changes how long a session may be silent.
pub(crate) async fn set_class(holder: &Holder, class: Duration) -> Result<()> {
    settings(&holder.session, class, FOR_EVER).await?;
    holder.set_class(class);
    Ok(())
}

/// Makes the sequence of the fences unless it is there, and checks that it never goes back.
async fn ready_fence(session: &Session, schema: &str) -> Result<()> {
    let sound = format!(
        "select seqcache = 1 and 0 < seqincrement and not seqcycle from pg_sequence \
         where seqrelid = to_regclass('{schema}.fence')"
    );
    // Without a right to the schema, there seems to be nothing, or that is the answer.
    let look = async || session.rows(SETUP, &sound, &[]).await.map_err(|e| missing(schema, e));
    let mut rows = look().await?;
    if rows.is_empty() {
        let make = format!(
            "create schema if not exists {schema}; create sequence if not exists {schema}.fence"
        );
        match session.ask(SETUP, session.client().batch_execute(&make)).await {
            // Somebody else may have been faster in the same moment.
            Err(error) if error.kind() == ErrorKind::Corrupt => {}
            Err(error) => return Err(missing(schema, error)),
            Ok(()) => {}
        }
        rows = look().await?;
    }
    let row = rows.first().ok_or_else(|| error::strange("the sequence of the fences is gone"))?;
    if read(row, 0)? {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Corrupt,
        format!("the sequence {schema}.fence was altered: its numbers may not rise in their order"),
    )
    .with_help(format!("alter sequence {schema}.fence cache 1 increment 1 no cycle")))
}

fn fence_error(error: tokio_postgres::Error, room: &Room) -> Error {
    missing(&room.config.schema, error::failed(error))
}

/// The one right that is missing.
fn missing(schema: &str, error: Error) -> Error {
    if error.kind() != ErrorKind::Denied {
        return error;
    }
    let words = error.message().to_owned();
    Error::new(
        ErrorKind::Unsupported,
        format!("this user can draw no fencing tokens from the sequence {schema}.fence: {words}"),
    )
    .with_help(format!(
        "once, as the database's owner: create schema if not exists {schema}; create sequence if \
         not exists {schema}.fence; grant usage on schema {schema} to USER; grant usage, select on \
         sequence {schema}.fence to USER"
    ))
    .with_source(error)
}

/// A number of the sequence with a place in the statement that drew it.
pub(crate) fn numbered(number: i64, within: usize) -> i64 {
    // What does not fit in is refused when a fence is made of it.
    let within = i64::try_from(within).unwrap_or(i64::MAX) & ((1 << WITHIN_BITS) - 1);
    number.checked_mul(1 << WITHIN_BITS).map_or(i64::MAX, |number| number | within)
}

/// A fence of a timeline and a number with its place.
pub(crate) fn fence(timeline: i64, number: i64) -> Result<tenure_core::Fence> {
    const BITS: u32 = SEQUENCE_BITS + WITHIN_BITS;
    let fits = (0..1 << (63 - BITS)).contains(&timeline) && (0..1 << BITS).contains(&number);
    if !fits {
        return Err(Error::new(
            ErrorKind::Corrupt,
            "the sequence of the fences has run out of numbers, or the timeline has",
        ));
    }
    let fence = (timeline << BITS) | number;
    Ok(tenure_core::Fence::new(u64::try_from(fence).expect("neither of its parts is negative")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_number_that_comes_again_after_a_restart_is_no_pooler() {
        let here = Here { pid: 77, born: 2_000, vouched_by: None };
        assert!(!is_shared([(76, 1_000), (77, 1_000)].into_iter(), &here));
        assert!(is_shared([(76, 1_000), (77, 2_000)].into_iter(), &here));
    }
}
