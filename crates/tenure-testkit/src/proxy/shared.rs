//! What the proxy, its thread and its connections share; and that thread.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::connection::{Connection, serve};
use super::counts::Counts;
use super::fault::{Direction, Fault, Scope};

/// How long to wait if a port, or a file descriptor, cannot be had.
const PAUSE: Duration = Duration::from_millis(5);

/// What happens to a single request.
#[derive(Debug)]
pub(super) enum Trick {
    LoseRequest,
    LoseReply,
    ReplaceReply(Vec<u8>),
}

/// A trick that waits for a request that contains this.
#[derive(Debug)]
struct Armed {
    needle: Vec<u8>,
    trick: Trick,
}

#[derive(Debug)]
pub(super) struct Shared {
    seed: u64,
    port: u16,
    target: AtomicU16,
    state: Mutex<State>,
    changed: Notify,
    pub(super) counts: watch::Sender<Counts>,
}

#[derive(Debug)]
struct State {
    /// What connections to come begin with.
    to_server: Fault,
    to_client: Fault,
    connections: BTreeMap<u64, Arc<Connection>>,
    armed: VecDeque<Armed>,
    refuses: bool,
    listens: bool,
    stopped: bool,
}

impl Shared {
    pub(super) fn new(seed: u64, port: u16, target: u16) -> Self {
        let state = State {
            to_server: Fault::Pass,
            to_client: Fault::Pass,
            connections: BTreeMap::new(),
            armed: VecDeque::new(),
            refuses: false,
            listens: true,
            stopped: false,
        };
        Self {
            seed,
            port,
            target: target.into(),
            state: state.into(),
            changed: Notify::new(),
            counts: watch::Sender::default(),
        }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn target(&self) -> u16 {
        self.target.load(Ordering::SeqCst)
    }

    pub(super) fn set_target(&self, port: u16) {
        self.target.store(port, Ordering::SeqCst);
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Counts)) {
        self.counts.send_modify(change);
    }

    pub(super) fn count_fault(&self) {
        self.count(|counts| counts.faults += 1);
    }

    pub(super) fn set(&self, scope: Scope, direction: Direction, fault: &Fault) {
        // Under one lock, so that no connection comes between those that are and those to come.
        let mut state = self.state.lock();
        if matches!(scope, Scope::All | Scope::New) {
            match direction {
                Direction::ToServer => state.to_server = fault.clone(),
                Direction::ToClient => state.to_client = fault.clone(),
            }
        }
        for connection in state.in_scope(scope) {
            connection.set(direction, fault.clone());
        }
    }

    pub(super) fn in_scope(&self, scope: Scope) -> Vec<Arc<Connection>> {
        self.state.lock().in_scope(scope).cloned().collect()
    }

    pub(super) fn is_open(&self, id: u64) -> bool {
        self.state.lock().connections.contains_key(&id)
    }

    pub(super) fn heal(&self) {
        let mut state = self.state.lock();
        (state.to_server, state.to_client) = (Fault::Pass, Fault::Pass);
        state.armed.clear();
        for connection in state.connections.values() {
            connection.heal();
        }
    }

    pub(super) fn arm(&self, needle: &[u8], trick: Trick) {
        self.state.lock().armed.push_back(Armed { needle: needle.to_owned(), trick });
    }

    /// What happens to this request, or its reply.
    pub(super) fn trick_for(&self, request: &[u8]) -> Option<Trick> {
        let mut state = self.state.lock();
        let fits = |armed: &Armed| contains(request, &armed.needle);
        let index = state.armed.iter().position(fits)?;
        state.armed.remove(index).map(|armed| armed.trick)
    }

    pub(super) fn set_refuses(&self, refuses: bool) {
        self.state.lock().refuses = refuses;
        self.changed.notify_one();
    }

    pub(super) fn listens(&self) -> bool {
        self.state.lock().listens
    }

    pub(super) fn stop(&self) {
        self.state.lock().stopped = true;
        self.changed.notify_one();
    }

    fn begin(&self) -> Arc<Connection> {
        let mut state = self.state.lock();
        let id = self.counts.borrow().accepted + 1;
        let faults = [state.to_server.clone(), state.to_client.clone()];
        let connection = Arc::new(Connection::new(id, self.seed, faults));
        state.connections.insert(id, Arc::clone(&connection));
        self.count(|counts| {
            counts.accepted = id;
            counts.open += 1;
        });
        connection
    }

    pub(super) fn ended(&self, id: u64) {
        let mut state = self.state.lock();
        state.connections.remove(&id);
        self.count(|counts| counts.open -= 1);
    }
}

impl State {
    fn in_scope(&self, scope: Scope) -> impl Iterator<Item = &Arc<Connection>> {
        self.connections.values().filter(move |connection| match scope {
            Scope::All | Scope::Existing => true,
            Scope::New => false,
            Scope::Only(id) => connection.id == id,
        })
    }
}

fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    needle.is_empty() || bytes.windows(needle.len()).any(|part| part == needle)
}

/// Accepts connections and serves them, until it is stopped. Those that are left are dropped then.
pub(super) async fn accept_all(shared: Arc<Shared>, listener: std::net::TcpListener) {
    let mut listener = TcpListener::from_std(listener).ok();
    let mut tasks = JoinSet::new();
    loop {
        let (refuses, stopped) = {
            let state = shared.state.lock();
            (state.refuses, state.stopped)
        };
        if stopped {
            return;
        }
        if refuses {
            listener = None;
        } else if listener.is_none() {
            listener = listen(shared.port).and_then(TcpListener::from_std).ok();
        }
        shared.state.lock().listens = listener.is_some();
        tokio::select! {
            () = shared.changed.notified() => {}
            client = accept(listener.as_ref(), refuses) => if let Some(client) = client {
                let connection = shared.begin();
                tasks.spawn(serve(Arc::clone(&shared), connection, client));
            },
            Some(_) = tasks.join_next() => {}
        }
    }
}

/// Nothing, after a while, if it is not possible to listen or to accept at the moment.
async fn accept(listener: Option<&TcpListener>, refuses: bool) -> Option<TcpStream> {
    match listener {
        Some(listener) => match listener.accept().await {
            Ok((client, _)) => return Some(client),
            Err(_) => pause().await,
        },
        None if refuses => std::future::pending().await,
        None => pause().await,
    }
    None
}

#[allow(clippy::disallowed_methods, reason = "the proxy is part of a test, and no lock user")]
async fn pause() {
    tokio::time::sleep(PAUSE).await;
}

/// A listener that tokio can take over.
pub(super) fn listen(port: u16) -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
