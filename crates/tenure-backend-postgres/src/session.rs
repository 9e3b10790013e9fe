//! One connection: made, driven, heard, and closed when nobody knows what it did.

#![cfg_attr(
    not(feature = "tls"),
    allow(clippy::clone_on_copy, reason = "the connector of a build with TLS is no copy")
)]

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tenure_core::{Error, Result};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, Client, Connection, NoTls, Notification, Row, Socket};

use crate::config::Server;
use crate::error;
use crate::tls::{Connector, Tls};
use crate::wire::Wire;

/// A patience that needs no timer, and so no runtime: somebody else sees to it that the session
/// is closed in time.
pub(crate) const FOR_EVER: Duration = Duration::MAX;

/// Who hears what a session has to say; must not block.
pub(crate) trait Ear: Send + Sync + 'static {
    /// A notification.
    fn on_notification(&self, notification: &Notification);
    /// The session has ended, or was closed by us; told once.
    fn on_end(&self);
}

/// Hears nothing.
#[derive(Debug)]
pub(crate) struct Deaf;

impl Ear for Deaf {
    fn on_notification(&self, _: &Notification) {}
    fn on_end(&self) {}
}

/// A session at the server. Dropped, it is closed: its locks are free then.
#[derive(Debug)]
pub(crate) struct Session {
    client: Client,
    wire: Arc<Wire>,
    driver: AbortHandle,
    closing: AtomicBool,
    end: Arc<End>,
}

/// How a session has ended, if it has.
struct End {
    ear: Arc<dyn Ear>,
    told: AtomicBool,
    why: OnceLock<String>,
}

impl Session {
    /// Connects. The connection is driven by the runtime that this is called in.
    ///
    /// # Errors
    /// Of [`error::not_connected`].
    pub(crate) async fn open(server: &Server, name: &str, ear: Arc<dyn Ear>) -> Result<Self> {
        let mut driver = server.driver.clone();
        driver.application_name(name);
        // It sets TCP_NODELAY itself.
        match &server.tls {
            Tls::Off => {
                let (client, connection) =
                    driver.connect(NoTls).await.map_err(error::not_connected)?;
                Ok(Self::driven(client, connection, ear))
            }
            Tls::Preferred(tls) | Tls::Required(tls) => {
                let (client, connection) =
                    driver.connect(Connector::clone(tls)).await.map_err(error::not_connected)?;
                Ok(Self::driven(client, connection, ear))
            }
        }
    }

    fn driven<S>(client: Client, connection: Connection<Socket, S>, ear: Arc<dyn Ear>) -> Self
    where
        S: tokio_postgres::tls::TlsStream + Unpin + Send + 'static,
    {
        let end = Arc::new(End { ear, told: AtomicBool::new(false), why: OnceLock::new() });
        let wire = Wire::new(connection);
        let guard = Ended { end: end.clone(), wire: wire.clone() };
        let drive = async move {
            loop {
                match poll_fn(|cx| guard.wire.poll_message(cx)).await {
                    Some(Ok(AsyncMessage::Notification(said))) => {
                        guard.end.ear.on_notification(&said)
                    }
                    Some(Ok(_)) => {}
                    Some(Err(error)) => {
                        let _ = guard.end.why.set(error::failed(error).message().to_owned());
                        return;
                    }
                    None => return,
                }
            }
        };
        let driver = Handle::current().spawn(drive).abort_handle();
        Self { client, wire, driver, closing: AtomicBool::new(false), end }
    }

    /// The client, for statements whose outcome is looked after by the caller.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Whether nothing can be expected of it any more.
    pub(crate) fn is_closed(&self) -> bool {
        // Whoever asks after the end was told sees it: what lands after that is over already.
        self.closing.load(Ordering::Acquire)
            || self.end.told.load(Ordering::Acquire)
            || self.client.is_closed()
    }

    /// Ends it from our side, at once.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.driver.abort();
    }

    /// Why it ended, if that is known.
    pub(crate) fn why_ended(&self) -> Option<&str> {
        self.end.why.get().map(String::as_str)
    }

    /// Asks the server to cancel what the session is doing; answers whether it was asked in time.
    pub(crate) async fn cancel(&self, server: &Server, limit: Duration) -> bool {
        let token = self.client.cancel_token();
        let cancel = async {
            match &server.tls {
                Tls::Off => token.cancel_query(NoTls).await,
                Tls::Preferred(tls) | Tls::Required(tls) => {
                    token.cancel_query(Connector::clone(tls)).await
                }
            }
        };
        matches!(tokio::time::timeout(limit, cancel).await, Ok(Ok(())))
    }

    /// Runs one statement; whatever leaves its outcome unknown, being dropped included, closes the
    /// session.
    ///
    /// # Errors
    /// Of [`error::failed`]; `Unknown` if no answer comes within `patience`.
    pub(crate) async fn ask<T>(
        &self,
        patience: Duration,
        statement: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T> {
        let unknown = CloseUnlessKnown { session: self, known: false };
        let statement = self.sent(statement);
        let answer = if patience == FOR_EVER {
            Ok(statement.await)
        } else {
            tokio::time::timeout(patience, statement).await
        };
        let answer = match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.explained(error)),
            Err(_) => Err(error::no_answer(&format!("the server was silent for {patience:?}"))),
        };
        let mut unknown = unknown;
        unknown.known = answer.as_ref().err().is_none_or(Error::changed_nothing);
        answer
    }

    /// Does something with the client. What it begins with is on its way when it is first polled,
    /// without waiting for whoever drives the connection.
    pub(crate) async fn sent<T>(&self, statement: impl Future<Output = T>) -> T {
        let mut statement = pin!(statement);
        let mut first = true;
        poll_fn(|cx| {
            if std::mem::take(&mut first) {
                self.wire.send(|| statement.as_mut().poll(cx))
            } else {
                statement.as_mut().poll(cx)
            }
        })
        .await
    }

    /// Runs one unnamed statement, in one round trip, and answers its rows; otherwise as
    /// [`Session::ask`].
    pub(crate) async fn rows(
        &self,
        patience: Duration,
        text: &str,
        values: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>> {
        self.ask(patience, self.client.query_typed(text, values)).await
    }

    /// The same for a statement with one row.
    pub(crate) async fn row(
        &self,
        patience: Duration,
        text: &str,
        values: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Row> {
        let one = self.rows(patience, text, values).await?.pop();
        one.ok_or_else(|| error::strange("it has no rows"))
    }

    /// What a failed statement means, with why the session ended if that is why.
    fn explained(&self, error: tokio_postgres::Error) -> Error {
        match self.why_ended() {
            Some(why) if error.as_db_error().is_none() => {
                error::no_answer(&format!("the session ended: {why}")).with_source(error)
            }
            _ => error::failed(error),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.close();
    }
}

struct CloseUnlessKnown<'a> {
    session: &'a Session,
    known: bool,
}

impl Drop for CloseUnlessKnown<'_> {
    fn drop(&mut self) {
        if !self.known {
            self.session.close();
        }
    }
}

/// Tells that the session has ended, and ends the connection, when whoever drives it ends, in whatever
/// way.
struct Ended {
    end: Arc<End>,
    wire: Arc<Wire>,
}

impl Drop for Ended {
    fn drop(&mut self) {
        // Told first: what the session holds is free when the server sees its end.
        if !self.end.told.swap(true, Ordering::AcqRel) {
            let tell = std::panic::AssertUnwindSafe(|| self.end.ear.on_end());
            // An ear that panics must not take the runtime with it.
            let _ = std::panic::catch_unwind(tell);
        }
        self.wire.cut();
    }
}

impl std::fmt::Debug for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("End").field("why", &self.why).finish_non_exhaustive()
    }
}
