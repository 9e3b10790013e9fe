//! A server that says what it hears, and remembers how much that was.

use std::io::ErrorKind;
use std::thread::JoinHandle;
use std::time::Duration;

use tenure_testkit::servers::patience::until;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

/// How long a connection may take to do what it is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a server has seen.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seen {
    /// Bytes that it heard.
    pub(crate) bytes: u64,
    /// Connections that were ended by their clients.
    pub(crate) fins: u64,
    /// Connections that were reset.
    pub(crate) resets: u64,
}

/// An echo server on a thread of its own, stopped when it is dropped.
pub(crate) struct Echo {
    port: u16,
    seen: watch::Receiver<Seen>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    pub(crate) fn start() -> Self {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, seen) = watch::channel(Seen::default());
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                tokio::select! {
                    () = serve_all(listener, sender) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { port, seen, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn seen(&self) -> Seen {
        *self.seen.borrow()
    }

    pub(crate) fn until(&self, so: impl Fn(&Seen) -> bool) {
        until(PATIENCE, "the server has seen that", || so(&self.seen()));
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

async fn serve_all(listener: std::net::TcpListener, seen: watch::Sender<Seen>) {
    let listener = TcpListener::from_std(listener).unwrap();
    let mut tasks = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        tasks.spawn(serve(client, seen.clone()));
    }
}

async fn serve(mut client: TcpStream, seen: watch::Sender<Seen>) {
    client.set_nodelay(true).unwrap();
    let mut bytes = vec![0; 64 << 10];
    loop {
        match client.read(&mut bytes).await {
            Ok(0) => return seen.send_modify(|seen| seen.fins += 1),
            Ok(count) => {
                seen.send_modify(|seen| seen.bytes += count as u64);
                if client.write_all(&bytes[..count]).await.is_err() {
                    return seen.send_modify(|seen| seen.resets += 1);
                }
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                return seen.send_modify(|seen| seen.resets += 1);
            }
            Err(error) => panic!("{error}"),
        }
    }
}
