//! The proxy, as tests see it.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::counts::Counts;
use super::fault::{Direction, End, Fault, Scope};
use super::shared::{Shared, Trick, accept_all, listen};
use crate::servers::patience::{look_for, until};
use crate::servers::ports::free_port;

/// How long the proxy's own thread may take to do what it is told.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many ports are tried if others are faster.
const PORTS_TRIED: u32 = 20;

/// A TCP proxy in front of a server of this host, stopped when it is dropped.
///
/// It runs on a thread of its own, so it goes on while a test blocks its runtime. All methods can
/// be called from any thread; what they set holds when they return. Those that block do so for a
/// short, bounded time, or for as long as they are told.
#[derive(Debug)]
pub struct FaultProxy {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl FaultProxy {
    /// Starts a proxy in front of a port of 127.0.0.1, on a free one.
    ///
    /// A client is accepted before the server is asked; if that refuses, the client is reset.
    ///
    /// # Panics
    /// If there is no free port, or no thread.
    #[must_use]
    pub fn start(server_port: u16) -> Self {
        Self::with_seed(server_port, 0)
    }

    /// The same, with a seed for all that is left to chance: jitter and mutations.
    ///
    /// # Panics
    /// If there is no free port, or no thread.
    #[must_use]
    pub fn with_seed(server_port: u16, seed: u64) -> Self {
        let listener = (0..PORTS_TRIED).find_map(|_| listen(free_port()).ok());
        let listener = listener.expect("a port that was free a moment ago");
        let port = listener.local_addr().expect("a listener has an address").port();
        let shared = Arc::new(Shared::new(seed, port, server_port));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime can be made");
        let accepts = accept_all(Arc::clone(&shared), listener);
        let thread = std::thread::Builder::new()
            .name(format!("proxy-{port}"))
            .spawn(move || runtime.block_on(accepts))
            .expect("a thread can be started");
        Self { shared, thread: Some(thread) }
    }

    /// The port at which clients find it, on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.shared.port()
    }

    /// Where it leads to from now on, for new connections.
    pub fn redirect(&self, server_port: u16) {
        self.shared.set_target(server_port);
    }

    /// What happens to bytes of a direction, of all connections.
    pub fn set(&self, direction: Direction, fault: Fault) {
        self.set_for(Scope::All, direction, fault);
    }

    /// What happens to bytes of both directions, of all connections.
    pub fn set_both(&self, fault: Fault) {
        for direction in Direction::BOTH {
            self.set(direction, fault.clone());
        }
    }

    /// What happens to bytes of a direction, of some connections.
    #[allow(clippy::needless_pass_by_value, reason = "faults are written where they are set")]
    pub fn set_for(&self, scope: Scope, direction: Direction, fault: Fault) {
        self.shared.set(scope, direction, &fault);
    }

    /// Everything is well again: all directions pass, new connections are accepted, and no request
    /// is about to be lost. What was held back is delivered. Connections that lost bytes, and those
    /// that are half open, are reset.
    ///
    /// # Panics
    /// If somebody else took the port meanwhile.
    pub fn heal(&self) {
        self.shared.heal();
        self.accept();
    }

    /// Resets all connections, on both sides, and waits until they are gone. New ones are accepted.
    ///
    /// # Panics
    /// If they do not go.
    pub fn cut(&self) {
        self.cut_for(Scope::All);
    }

    /// Resets some connections, on both sides, and waits until they are gone.
    ///
    /// # Panics
    /// If they do not go.
    pub fn cut_for(&self, scope: Scope) {
        let connections = self.shared.in_scope(scope);
        for connection in &connections {
            self.shared.count_fault();
            connection.end(End::Reset);
        }
        until(PATIENCE, "connections that are cut are gone", || {
            connections.iter().all(|connection| !self.shared.is_open(connection.id))
        });
    }

    /// Closes some connections to the server, and leaves those of the clients open and silent.
    ///
    /// # Panics
    /// If they are not closed.
    pub fn half_open(&self, scope: Scope) {
        let connections = self.shared.in_scope(scope);
        for connection in &connections {
            self.shared.count_fault();
            connection.end(End::HalfOpen);
        }
        until(PATIENCE, "connections are half open", || {
            connections.iter().all(|c| c.is_half_open() || !self.shared.is_open(c.id))
        });
    }

    /// Refuses new connections, as if nobody listened. Those that there are stay.
    ///
    /// # Panics
    /// If the port stays open.
    pub fn refuse(&self) {
        self.shared.count_fault();
        self.shared.set_refuses(true);
        until(PATIENCE, "the proxy does not listen", || !self.shared.listens());
    }

    /// Accepts new connections again.
    ///
    /// # Panics
    /// If somebody else took the port meanwhile.
    pub fn accept(&self) {
        self.shared.set_refuses(false);
        until(PATIENCE, "the proxy listens again", || self.shared.listens());
    }

    /// Loses the reply to the next request of any connection: the request reaches the server, and
    /// what the server sends next on that connection disappears; then both sides are reset. To the
    /// client the outcome is unknown; in truth it was done.
    pub fn lose_next_reply(&self) {
        self.lose_reply_to(&[]);
    }

    /// Loses the reply to the next request that contains these bytes, among what is read at once.
    pub fn lose_reply_to(&self, needle: &[u8]) {
        self.shared.arm(needle, Trick::LoseReply);
    }

    /// Loses the next request of any connection, and resets both sides. To the client the outcome
    /// is unknown; in truth it was not done.
    pub fn lose_next_request(&self) {
        self.lose_request_with(&[]);
    }

    /// Loses the next request that contains these bytes, among what is read at once.
    pub fn lose_request_with(&self, needle: &[u8]) {
        self.shared.arm(needle, Trick::LoseRequest);
    }

    /// Puts something else in the place of the reply to the next request of any connection.
    pub fn replace_next_reply(&self, by: &[u8]) {
        self.replace_reply_to(&[], by);
    }

    /// Puts something else in the place of the reply to the next request that contains these bytes.
    pub fn replace_reply_to(&self, needle: &[u8], by: &[u8]) {
        self.shared.arm(needle, Trick::ReplaceReply(by.to_owned()));
    }

    /// What it has seen and done so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        *self.shared.counts.borrow()
    }

    /// How many connections are open.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.counts().open
    }

    /// How many connections were accepted so far; the number of the latest.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.counts().accepted
    }

    /// The numbers of the connections that are open.
    #[must_use]
    pub fn connection_ids(&self) -> Vec<u64> {
        self.shared.in_scope(Scope::Existing).iter().map(|connection| connection.id).collect()
    }

    /// Waits until the counts are like this, and answers them. It blocks its thread.
    ///
    /// # Panics
    /// If they are not within `limit`, with what they are.
    pub fn wait_until(&self, limit: Duration, mut so: impl FnMut(&Counts) -> bool) -> Counts {
        let found = look_for(limit, || Some(self.counts()).filter(&mut so));
        found.unwrap_or_else(|| panic!("not so within {limit:?}: {:?}", self.counts()))
    }

    /// Waits until so many more bytes than now were delivered in a direction. It blocks its thread.
    ///
    /// # Panics
    /// If they are not within `limit`.
    pub fn wait_for_traffic(&self, direction: Direction, more: u64, limit: Duration) -> Counts {
        let before = self.counts().of(direction).delivered;
        self.wait_until(limit, |counts| before + more <= counts.of(direction).delivered)
    }

    /// Waits until the counts are like this, and answers them.
    ///
    /// # Panics
    /// If they are not within `limit`, with what they are; outside of a tokio runtime with timers.
    pub async fn until(&self, limit: Duration, so: impl FnMut(&Counts) -> bool) -> Counts {
        let mut counts = self.shared.counts.subscribe();
        match tokio::time::timeout(limit, counts.wait_for(so)).await {
            Ok(found) => *found.expect("the sender lives as long as the proxy"),
            Err(_) => panic!("not so within {limit:?}: {:?}", self.counts()),
        }
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.shared.stop();
        if let Some(thread) = self.thread.take() {
            // If it panicked, that was printed.
            let _ = thread.join();
        }
    }
}
