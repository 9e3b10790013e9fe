//! One connection of a client, and that to the server that belongs to it.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::fault::{Direction, End, Fault};
use super::lane::{Lane, Step};
use super::shared::{Shared, Trick};

/// How much is read at once.
const PORTION: usize = 64 << 10;

/// What those who set faults share with the task that moves the bytes.
///
/// A byte is written while the lanes are locked, so a fault that was set holds from then on.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: u64,
    lanes: Mutex<Lanes>,
    changed: Notify,
}

#[derive(Debug)]
struct Lanes {
    to_server: Lane,
    to_client: Lane,
    /// How the connection is to be ended at once.
    order: Option<End>,
    half_open: bool,
}

impl Lanes {
    fn of(&mut self, direction: Direction) -> &mut Lane {
        match direction {
            Direction::ToServer => &mut self.to_server,
            Direction::ToClient => &mut self.to_client,
        }
    }
}

impl Connection {
    pub(super) fn new(id: u64, seed: u64, [to_server, to_client]: [Fault; 2]) -> Self {
        let seed = seed.wrapping_add(id << 1);
        let lanes = Lanes {
            to_server: Lane::new(to_server, seed),
            to_client: Lane::new(to_client, seed ^ 1),
            order: None,
            half_open: false,
        };
        Self { id, lanes: Mutex::new(lanes), changed: Notify::new() }
    }

    pub(super) fn set(&self, direction: Direction, fault: Fault) {
        self.lanes.lock().of(direction).set(fault);
        self.changed.notify_one();
    }

    /// Ends it at once.
    pub(super) fn end(&self, end: End) {
        self.lanes.lock().order = Some(end);
        self.changed.notify_one();
    }

    /// Everything passes; but a client that is connected to nothing is told so.
    pub(super) fn heal(&self) {
        let mut lanes = self.lanes.lock();
        for direction in Direction::BOTH {
            lanes.of(direction).set(Fault::Pass);
        }
        if lanes.half_open {
            lanes.order = Some(End::Reset);
        }
        drop(lanes);
        self.changed.notify_one();
    }

    pub(super) fn is_half_open(&self) -> bool {
        self.lanes.lock().half_open
    }
}

/// The task that moves the bytes of a connection, until it has ended.
pub(super) async fn serve(shared: Arc<Shared>, connection: Arc<Connection>, client: TcpStream) {
    let target = (Ipv4Addr::LOCALHOST, shared.target());
    let connected = tokio::select! {
        connected = TcpStream::connect(target) => connected,
        () = connection.cut() => Err(io::ErrorKind::ConnectionReset.into()),
    };
    match connected {
        Ok(server) => {
            let (client, server) = (Side::new(client), Side::new(server));
            Pump { shared: &shared, connection: &connection, client, server }.run().await;
        }
        // A proxy cannot refuse on behalf of a server that it did not ask yet.
        Err(_) => reset(&client),
    }
    shared.ended(connection.id);
}

impl Connection {
    async fn cut(&self) {
        while self.lanes.lock().order != Some(End::Reset) {
            self.changed.notified().await;
        }
    }
}

fn reset(stream: &TcpStream) {
    // It fails if the other side has reset the connection.
    let _ = stream.set_zero_linger();
}

/// One of the two sockets.
struct Side {
    stream: Option<TcpStream>,
    /// Whether something may come from there.
    talks: bool,
}

impl Side {
    fn new(stream: TcpStream) -> Self {
        // Otherwise a slow drip would be collected and sent at once.
        let _ = stream.set_nodelay(true);
        Self { stream: Some(stream), talks: true }
    }

    async fn readable(&self) {
        match &self.stream {
            Some(stream) if self.talks => drop(stream.readable().await),
            _ => std::future::pending().await,
        }
    }

    async fn writable(&self) {
        match &self.stream {
            Some(stream) => drop(stream.writable().await),
            None => std::future::pending().await,
        }
    }

    fn reset(&mut self) {
        if let Some(stream) = self.stream.take() {
            reset(&stream);
        }
    }

    async fn shut(&mut self) {
        if let Some(stream) = &mut self.stream {
            // It fails if the other side is gone.
            let _ = stream.shutdown().await;
        }
    }
}

/// What a lane waits for.
enum Wait {
    Change,
    Until(Instant),
    Writable,
    /// It has come to this step, which takes more than the lane.
    For(Step),
}

struct Pump<'a> {
    shared: &'a Shared,
    connection: &'a Connection,
    client: Side,
    server: Side,
}

impl Pump<'_> {
    async fn run(mut self) {
        loop {
            let order = self.connection.lanes.lock().order.take();
            if let Some(end) = order
                && self.end(end, Direction::ToClient).await
            {
                return;
            }
            let mut waits = [Wait::Change, Wait::Change];
            for (direction, wait) in Direction::BOTH.into_iter().zip(&mut waits) {
                loop {
                    *wait = self.advance(direction);
                    let Wait::For(step) = *wait else { break };
                    if self.take_step(step, direction).await {
                        return;
                    }
                }
            }
            if self.is_over() {
                return;
            }
            self.wait(waits).await;
        }
    }

    /// Moves bytes of a direction as far as they go.
    fn advance(&self, direction: Direction) -> Wait {
        let mut lanes = self.connection.lanes.lock();
        let wait = loop {
            let now = Instant::now();
            let lane = lanes.of(direction);
            match lane.next(now) {
                Step::Idle => break Wait::Change,
                Step::Until(due) => break Wait::Until(due),
                Step::Deliver(limit) => {
                    let Some(receiver) = &self.receiver(direction).stream else {
                        lane.close();
                        continue;
                    };
                    match receiver.try_write(&lane.head()[..limit]) {
                        Ok(count) => {
                            lane.delivered(count, now);
                            self.shared.count(|counts| {
                                counts.of_mut(direction).delivered += count as u64;
                            });
                        }
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                            break Wait::Writable;
                        }
                        Err(_) => {
                            // The receiver has reset the connection, which the sender hears of in
                            // its turn: after what is on its way, and not through a stall.
                            lane.close();
                            lanes.of(direction.opposite()).take_in_rst(now);
                            self.connection.changed.notify_one();
                        }
                    }
                }
                step => break Wait::For(step),
            }
        };
        let (swallowed, faults) = lanes.of(direction).settle();
        if (swallowed, faults) != (0, 0) {
            self.shared.count(|counts| {
                counts.of_mut(direction).swallowed += swallowed;
                counts.faults += faults;
            });
        }
        wait
    }

    fn receiver(&self, direction: Direction) -> &Side {
        match direction {
            Direction::ToServer => &self.server,
            Direction::ToClient => &self.client,
        }
    }

    /// Answers whether the connection has ended.
    async fn take_step(&mut self, step: Step, direction: Direction) -> bool {
        match step {
            Step::End(end) => self.end(end, direction).await,
            Step::Fin => self.end(End::Eof, direction).await,
            Step::Rst => self.end(End::Reset, direction).await,
            Step::Idle | Step::Until(_) | Step::Deliver(_) => false,
        }
    }

    /// Ends it in this way, and answers whether that was all.
    async fn end(&mut self, end: End, direction: Direction) -> bool {
        match end {
            End::Silence => {
                self.connection.set(direction, Fault::Swallow);
                false
            }
            End::Eof => {
                match direction {
                    Direction::ToServer => self.server.shut().await,
                    Direction::ToClient => self.client.shut().await,
                }
                self.connection.lanes.lock().of(direction).close();
                false
            }
            End::HalfOpen => {
                self.server.stream = None;
                let mut lanes = self.connection.lanes.lock();
                lanes.half_open = true;
                for direction in Direction::BOTH {
                    lanes.of(direction).close();
                }
                false
            }
            End::Loss | End::Reset => {
                self.client.reset();
                self.server.reset();
                if end == End::Loss {
                    self.shared.count(|counts| counts.lost += 1);
                }
                true
            }
        }
    }

    fn is_over(&self) -> bool {
        let mut lanes = self.connection.lanes.lock();
        let over = Direction::BOTH.into_iter().all(|direction| lanes.of(direction).is_over());
        // A half-open one is over when its client leaves.
        over && (!lanes.half_open || !self.client.talks)
    }

    async fn wait(&mut self, waits: [Wait; 2]) {
        let has_room = {
            let mut lanes = self.connection.lanes.lock();
            Direction::BOTH.map(|direction| lanes.of(direction).has_room())
        };
        let due = waits.iter().filter_map(|wait| match wait {
            Wait::Until(due) => Some(*due),
            _ => None,
        });
        let due = due.min();
        let [write_to_server, write_to_client] = waits.map(|wait| matches!(wait, Wait::Writable));
        tokio::select! {
            () = self.connection.changed.notified() => {}
            () = self.client.readable(), if has_room[0] => self.read(Direction::ToServer),
            () = self.server.readable(), if has_room[1] => self.read(Direction::ToClient),
            () = self.server.writable(), if write_to_server => {}
            () = self.client.writable(), if write_to_client => {}
            () = at(due) => {}
        }
    }

    fn read(&mut self, direction: Direction) {
        let sender = match direction {
            Direction::ToServer => &mut self.client,
            Direction::ToClient => &mut self.server,
        };
        let Some(stream) = &sender.stream else { return };
        let mut bytes = vec![0; PORTION];
        let now = Instant::now();
        match stream.try_read(&mut bytes) {
            Ok(0) => {
                sender.talks = false;
                self.connection.lanes.lock().of(direction).take_in_fin(now);
            }
            Ok(count) => {
                bytes.truncate(count);
                self.take_in(direction, bytes, now);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => {
                sender.talks = false;
                self.connection.lanes.lock().of(direction).take_in_rst(now);
            }
        }
    }

    fn take_in(&self, direction: Direction, bytes: Vec<u8>, now: Instant) {
        self.shared.count(|counts| counts.of_mut(direction).arrived += bytes.len() as u64);
        let trick = match direction {
            Direction::ToServer => self.shared.trick_for(&bytes),
            Direction::ToClient => None,
        };
        let mut lanes = self.connection.lanes.lock();
        match trick {
            Some(Trick::LoseRequest) => lanes.to_server.lose_next(),
            Some(Trick::LoseReply) => lanes.to_client.lose_next(),
            Some(Trick::ReplaceReply(by)) => lanes.to_client.set(Fault::Replace(by)),
            None => {}
        }
        lanes.of(direction).take_in(bytes, now);
    }
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}
