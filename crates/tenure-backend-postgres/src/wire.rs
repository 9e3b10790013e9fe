//! A connection that whoever sends something drives for a moment himself.
//!
//! Somebody has to drive a connection all the time, to hear what the server says: a task in the runtime
//! it was made in. That one would be woken for each statement that is to be sent, mostly in another
//! thread. So whoever sends does it himself, if nobody else is just at it; and the bell by which
//! the driver is woken is held meanwhile, as what it would be rung for is being done.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio_postgres::{AsyncMessage, Connection, Error, Socket};

#[cfg(test)]
mod model;

/// What a connection has to say; `None` when it has ended in order.
type Said = Option<Result<AsyncMessage, Error>>;

trait Drive: Send {
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Said>;
}

impl<S> Drive for Connection<Socket, S>
where
    S: tokio_postgres::tls::TlsStream + Unpin + Send,
{
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Said> {
        Connection::poll_message(self, cx)
    }
}

pub(crate) struct Wire {
    line: Mutex<Line>,
    bell: Arc<Bell>,
    /// The bell, as the connection has it.
    waker: Waker,
}

struct Line {
    /// `None` when it is cut. One that has ended is kept until then: what failed may be known on this side only,
    /// and those who hold locks are told before the server is.
    connection: Option<Box<dyn Drive>>,
    /// It has ended, and must not be asked again.
    over: bool,
    /// What was said while somebody else than the driver drove.
    said: VecDeque<Said>,
}

/// Wakes the driver, unless it is held.
struct Bell {
    driver: AtomicWaker,
    state: AtomicU8,
}

const FREE: u8 = 0;
/// Bits of the state: it is held, and it was rung. Each change is a swap of some kind: whatever was done before
/// a ring is seen by whoever takes note of that ring, and by whoever forgets it.
const HELD: u8 = 1;
const RUNG: u8 = 2;

impl Wire {
    pub(crate) fn new<S>(connection: Connection<Socket, S>) -> Arc<Self>
    where
        S: tokio_postgres::tls::TlsStream + Unpin + Send + 'static,
    {
        let connection: Option<Box<dyn Drive>> = Some(Box::new(connection));
        let bell = Arc::new(Bell { driver: AtomicWaker::new(), state: AtomicU8::new(FREE) });
        let waker = bell.clone().into();
        let line = Mutex::new(Line { connection, over: false, said: VecDeque::new() });
        Arc::new(Self { line, bell, waker })
    }

    /// Drives it, and answers what it has to say: for the one who does so all the time.
    pub(crate) fn poll_message(&self, cx: &mut Context<'_>) -> Poll<Said> {
        // Before it is looked at: what comes later rings.
        self.bell.driver.register(cx.waker());
        let mut line = self.line.lock();
        match line.said.pop_front() {
            Some(said) => Poll::Ready(said),
            None => line.poll(&self.waker),
        }
    }

    /// Puts something into the connection's queue, and sends it if nobody drives just now.
    pub(crate) fn send<T>(&self, put: impl FnOnce() -> T) -> T {
        // Whoever drives sees it, or is rung for.
        let Some(mut line) = self.line.try_lock() else { return put() };
        // Let go before the line is: one at a time may hold it.
        let held = self.bell.hold();
        let put = put();
        // What it was rung for until now is done by looking.
        held.forget_rings();
        if let Poll::Ready(said) = line.poll(&self.waker) {
            line.said.push_back(said);
            self.waker.wake_by_ref();
        }
        drop(held);
        put
    }

    /// Ends the connection.
    pub(crate) fn cut(&self) {
        let connection = self.line.lock().connection.take();
        drop(connection);
    }
}

impl Line {
    fn poll(&mut self, waker: &Waker) -> Poll<Said> {
        let Some(connection) = self.connection.as_mut().filter(|_| !self.over) else {
            return Poll::Pending;
        };
        let polled = connection.poll_message(&mut Context::from_waker(waker));
        self.over = matches!(polled, Poll::Ready(None | Some(Err(_))));
        polled
    }
}

impl Bell {
    fn hold(&self) -> Held<'_> {
        // Rung before, it has woken the driver.
        self.state.swap(HELD, Ordering::AcqRel);
        Held(self)
    }
}

/// A bell that is held; let go also if whoever holds it panics.
struct Held<'a>(&'a Bell);

impl Held<'_> {
    fn forget_rings(&self) {
        self.0.state.swap(HELD, Ordering::AcqRel);
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let rung = self.0.state.swap(FREE, Ordering::AcqRel) & RUNG != 0;
        // In a panic nobody has looked.
        if rung || std::thread::panicking() {
            self.0.driver.wake();
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // If it is held, that is seen when it is let go.
        if self.state.fetch_or(RUNG, Ordering::AcqRel) & HELD == 0 {
            self.driver.wake();
        }
    }
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").finish_non_exhaustive()
    }
}
