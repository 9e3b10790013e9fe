//! Whether a pooler between here and the server hands its sessions around.
//!
//! Two connections to a server never have the same session, and none changes it. So a transaction is
//! opened beside a session, which takes a session of the pool away if there is one: a pooler has to
//! give another one, or none, to whoever asks meanwhile.

use std::sync::Arc;
use std::time::Duration;

use tenure_core::{Error, ErrorKind, Result};

use crate::config::Server;
use crate::error;
use crate::session::{Deaf, Session};

/// How long the server may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a session is given to answer beside another one's transaction.
const BESIDE: Duration = Duration::from_secs(2);

/// Whether this session, which is called `name` and had the server's process `pid`, is handed around.
///
/// # Errors
/// Of the connection; nothing was changed.
pub(crate) async fn is_between(
    server: &Server,
    name: &str,
    session: &Session,
    pid: i32,
) -> Result<bool> {
    match look(server, name, session, pid).await {
        Err(error) if is_a_poolers(&error) => Ok(true),
        answer => answer,
    }
}

async fn look(server: &Server, name: &str, session: &Session, pid: i32) -> Result<bool> {
    let other = Session::open(server, name, Arc::new(Deaf)).await?;
    other.ask(ANSWER, other.client().batch_execute("begin")).await?;
    let beside = pid_of(&other).await?;
    let mut during = std::pin::pin!(pid_of(session));
    // Without an answer, it waits for the other one's session, or the server is slow.
    let waited = tokio::time::timeout(BESIDE, &mut during).await.ok();
    other.ask(ANSWER, other.client().batch_execute("rollback")).await?;
    drop(other);
    let during = match waited {
        Some(pid) => pid?,
        // No session of a server waits for what another one has not even asked for.
        None if tokio::time::timeout(BESIDE, during).await.is_ok() => return Ok(true),
        None => {
            return Err(Error::new(ErrorKind::Unreachable, "no session with the server in time")
                .with_help("is the server very busy?"));
        }
    };
    let after = pid_of(session).await?;
    Ok(pid != during || pid != after || pid == beside)
}

async fn pid_of(session: &Session) -> Result<i32> {
    let row = session.row(ANSWER, "select pg_backend_pid()", &[]).await?;
    row.try_get(0).map_err(|_| error::strange("who it is"))
}

/// A breach of the protocol that no server sees in a plain transaction is a pooler's word: it gave
/// no session, or does not let transactions be.
fn is_a_poolers(error: &Error) -> bool {
    error::code(error) == Some("08P01")
}
