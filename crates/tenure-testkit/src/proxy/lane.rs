//! One direction of a connection: what is on its way, and what becomes of it.
//!
//! A lane touches no socket and no clock. It is given what was read and the time, and says what is
//! to be done [next](Lane::next).

use std::collections::VecDeque;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

use super::bend::bend;
use super::fault::{End, Fault};

/// How many bytes may be on their way before no more are read, so that senders feel it when nobody
/// reads.
const ROOM: usize = 1 << 20;

/// What is on its way.
#[derive(Debug)]
enum Freight {
    Bytes {
        bytes: Vec<u8>,
        sent: usize,
    },
    /// The sender has ended the stream.
    Fin,
    /// The sender has reset the connection.
    Rst,
}

#[derive(Debug)]
struct Item {
    freight: Freight,
    due: Instant,
    /// Whether a fault that it met was counted.
    counted: bool,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing, until something comes or a fault is set.
    Idle,
    /// Nothing, until then.
    Until(Instant),
    /// Up to so many bytes of [`Lane::head`] are to be written, and reported as
    /// [delivered](Lane::delivered).
    Deliver(usize),
    /// The connection is to be ended like this.
    End(End),
    /// The receiver is to be told that the stream has ended.
    Fin,
    /// The receiver is to be reset.
    Rst,
}

#[derive(Debug)]
pub(super) struct Lane {
    fault: Fault,
    /// How many bytes still pass, if only so many do.
    left: u64,
    queue: VecDeque<Item>,
    queued: usize,
    next_drip: Option<Instant>,
    /// Bytes disappeared: what comes later must never follow what came before.
    hole: bool,
    /// The receiver was told that the stream has ended, or cannot be reached.
    ended: bool,
    rng: StdRng,
    /// Bytes that were thrown away, and faults that happened, since they were last asked for.
    swallowed: u64,
    faults: u64,
}

impl Lane {
    pub(super) fn new(fault: Fault, seed: u64) -> Self {
        let mut lane = Self {
            fault: Fault::Pass,
            left: 0,
            queue: VecDeque::new(),
            queued: 0,
            next_drip: None,
            hole: false,
            ended: false,
            rng: StdRng::seed_from_u64(seed),
            swallowed: 0,
            faults: 0,
        };
        lane.set(fault);
        lane
    }

    /// What happens from now on, to what is on its way as well.
    pub(super) fn set(&mut self, fault: Fault) {
        if let Fault::After { bytes, .. } = fault {
            self.left = bytes;
        }
        self.fault = fault;
    }

    /// Lets everything pass that was read so far, and loses what is read next.
    pub(super) fn lose_next(&mut self) {
        self.set(Fault::After { bytes: self.queued as u64, end: End::Loss });
    }

    /// Whether more may be read.
    pub(super) fn has_room(&self) -> bool {
        self.queued < ROOM
    }

    /// Whether nothing will be delivered any more.
    pub(super) fn is_over(&self) -> bool {
        self.ended
    }

    /// What was read from the sender.
    pub(super) fn take_in(&mut self, mut bytes: Vec<u8>, now: Instant) {
        match &mut self.fault {
            Fault::Mutate { how, one_in } => {
                self.faults += u64::from(bend(&mut bytes, *how, *one_in, &mut self.rng));
            }
            Fault::Replace(by) => {
                bytes = std::mem::take(by);
                self.faults += 1;
                self.fault = Fault::Pass;
            }
            _ => {}
        }
        // A mutation may have left none; an empty write would be taken for a broken connection.
        if !bytes.is_empty() {
            self.queued += bytes.len();
            self.push(Freight::Bytes { bytes, sent: 0 }, now);
        }
    }

    /// The sender has ended the stream.
    pub(super) fn take_in_fin(&mut self, now: Instant) {
        self.push(Freight::Fin, now);
    }

    /// The sender has reset the connection.
    pub(super) fn take_in_rst(&mut self, now: Instant) {
        self.push(Freight::Rst, now);
    }

    fn push(&mut self, freight: Freight, now: Instant) {
        let mut due = now;
        if let Fault::Delay { by, jitter } = self.fault {
            due += by + jitter.mul_f64(self.rng.random());
        }
        // One that is due before those in front of it waits for them: nothing overtakes.
        self.queue.push_back(Item { freight, due, counted: false });
    }

    /// What is to be done now.
    pub(super) fn next(&mut self, now: Instant) -> Step {
        if self.ended {
            self.discard();
            return Step::Idle;
        }
        if self.hole && !self.swallows() {
            return Step::End(End::Reset);
        }
        match self.fault {
            Fault::Pass | Fault::Mutate { .. } | Fault::Replace(_) => self.forward(usize::MAX),
            Fault::Delay { .. } => match self.queue.front().map(|item| item.due) {
                Some(due) if now < due => self.hold_until(due),
                _ => self.forward(usize::MAX),
            },
            Fault::Drip { bytes, .. } => match self.next_drip {
                Some(due) if now < due && !self.queue.is_empty() => self.hold_until(due),
                _ => self.forward(bytes.max(1)),
            },
            Fault::Stall => {
                self.count_head();
                Step::Idle
            }
            Fault::Swallow => self.swallow(),
            Fault::After { end, .. } => match usize::try_from(self.left).unwrap_or(usize::MAX) {
                0 => self.end(end),
                left => self.forward(left),
            },
        }
    }

    fn swallows(&self) -> bool {
        match self.fault {
            Fault::Swallow => true,
            Fault::After { end: End::Silence, .. } => self.left == 0,
            _ => false,
        }
    }

    fn hold_until(&mut self, due: Instant) -> Step {
        self.count_head();
        Step::Until(due)
    }

    fn count_head(&mut self) {
        if let Some(item) = self.queue.front_mut().filter(|item| !item.counted) {
            item.counted = true;
            self.faults += 1;
        }
    }

    fn forward(&self, limit: usize) -> Step {
        match self.queue.front().map(|item| &item.freight) {
            None => Step::Idle,
            Some(Freight::Bytes { bytes, sent }) => Step::Deliver(limit.min(bytes.len() - sent)),
            Some(Freight::Fin) => Step::Fin,
            Some(Freight::Rst) => Step::Rst,
        }
    }

    fn swallow(&mut self) -> Step {
        if !self.queue.is_empty() {
            self.hole = true;
            self.faults += 1;
            self.discard();
        }
        Step::Idle
    }

    fn end(&mut self, end: End) -> Step {
        match (end, self.queue.front().map(|item| &item.freight)) {
            (End::Silence, _) => self.swallow(),
            (End::Loss, Some(Freight::Bytes { .. })) => {
                self.faults += 1;
                self.discard();
                Step::End(End::Loss)
            }
            (End::Loss, _) => self.forward(usize::MAX),
            (End::Reset | End::Eof | End::HalfOpen, _) => {
                self.faults += 1;
                Step::End(end)
            }
        }
    }

    fn discard(&mut self) {
        self.swallowed += self.queued as u64;
        self.queued = 0;
        self.queue.clear();
    }

    /// The bytes that come next.
    pub(super) fn head(&self) -> &[u8] {
        match self.queue.front().map(|item| &item.freight) {
            Some(Freight::Bytes { bytes, sent }) => &bytes[*sent..],
            _ => &[],
        }
    }

    /// So many bytes were written.
    pub(super) fn delivered(&mut self, count: usize, now: Instant) {
        if let Fault::Drip { every, .. } = self.fault {
            // At least a tick of the timer, or it would not be slow.
            self.next_drip = Some(now + every.max(Duration::from_millis(1)));
        }
        self.left = self.left.saturating_sub(count as u64);
        self.queued -= count;
        let Some(item) = self.queue.front_mut() else { return };
        let Freight::Bytes { bytes, sent } = &mut item.freight else { return };
        *sent += count;
        if *sent == bytes.len() {
            self.queue.pop_front();
        }
    }

    /// The receiver will get nothing more.
    pub(super) fn close(&mut self) {
        self.ended = true;
        self.discard();
    }

    /// How many bytes were thrown away, and how many faults happened, since this was last asked.
    pub(super) fn settle(&mut self) -> (u64, u64) {
        (std::mem::take(&mut self.swallowed), std::mem::take(&mut self.faults))
    }
}
