//! Seats in sessions, one for each lock, and the sessions that are opened for those who find none.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tenure_core::clock::Moment;
use tenure_core::{Error, Result};
use tokio::sync::oneshot;

use super::holder::{FULL, Holder, SHARE};
use super::room::{Room, over};
use crate::error::no_answer;

/// How many sessions are opened at a time.
const OPENINGS: usize = 8;
/// How long none is opened that nobody waits for, after one could not be.
const IN_VAIN: Duration = Duration::from_secs(1);

/// A seat on its way to whoever asked for it; given back if he is gone.
struct Seat(Option<Arc<Holder>>);

impl Seat {
    fn take(mut self) -> Arc<Holder> {
        self.0.take().expect("it is taken once")
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(holder) = &self.0 {
            holder.give_seat();
        }
    }
}

/// Who waits for a seat, and how many sessions are being opened for them, by class.
#[derive(Default)]
pub(crate) struct Openings(BTreeMap<Duration, Opening>);

#[derive(Default)]
struct Opening {
    under_way: usize,
    /// All sessions have their share: one more is opened, though nobody waits for it.
    more: bool,
    not_before: Moment,
    waiting: VecDeque<oneshot::Sender<Result<Seat>>>,
}

impl Openings {
    /// The class for which one more is to be opened, if there is one.
    fn begin(&mut self, now: Moment) -> Option<Duration> {
        if OPENINGS <= self.0.values().map(|of| of.under_way).sum() {
            return None;
        }
        let is_short = |of: &Opening| {
            let more = of.more && of.under_way == 0 && of.not_before <= now;
            more || of.under_way * FULL < of.waiting.len()
        };
        let mut short = self.0.iter_mut().filter(|(_, of)| is_short(of));
        let (class, of) = short.next()?;
        of.under_way += 1;
        Some(*class)
    }

    /// The next one of a class who still waits.
    fn next(&mut self, class: Duration) -> Option<oneshot::Sender<Result<Seat>>> {
        let waiting = &mut self.0.get_mut(&class)?.waiting;
        std::iter::from_fn(|| waiting.pop_front()).find(|waiter| !waiter.is_closed())
    }
}

impl Room {
    /// A session with a seat for a lock of this class; a new one if all are full.
    pub(crate) async fn seat(self: &Arc<Self>, class: Duration) -> Result<Arc<Holder>> {
        if let Some(holder) = self.free_seat(class, SHARE) {
            return Ok(holder);
        }
        if let Some(holder) = self.free_seat(class, FULL) {
            self.openings.lock().0.entry(class).or_default().more = true;
            self.open_more();
            return Ok(holder);
        }
        let (sender, seat) = oneshot::channel();
        self.openings.lock().0.entry(class).or_default().waiting.push_back(sender);
        self.open_more();
        seat.await.unwrap_or_else(|_| Err(over())).map(Seat::take)
    }

    fn free_seat(&self, class: Duration, most: usize) -> Option<Arc<Holder>> {
        let sessions = self.sessions.lock();
        let mut fitting = sessions.values().filter(|s| !s.solo && s.class() == class);
        fitting.find(|session| session.take_seat(self.now(), most)).cloned()
    }

    /// Opens as many sessions as those who wait need.
    fn open_more(self: &Arc<Self>) {
        loop {
            let Some(class) = self.openings.lock().begin(self.now()) else { return };
            self.spawn(UnderWay { room: self.clone(), class, made: Err(over()) }.open());
        }
    }

    /// Gives the seats of a session that was opened to those who wait, or tells as many of them that it
    /// could not be.
    fn opened(self: &Arc<Self>, class: Duration, made: &Result<Arc<Holder>>) {
        let mut failed = made.as_ref().err().cloned();
        if let Ok(holder) = made {
            self.has_session(holder);
        }
        for passenger in 0..FULL {
            let Some(waiter) = self.openings.lock().next(class) else { return };
            let seat = match &failed {
                Some(error) => Err(error.clone()),
                None => match self.free_seat(class, FULL) {
                    Some(holder) => Ok(Seat(Some(holder))),
                    None if passenger == 0 => Err(failed.insert(ended()).clone()),
                    None => {
                        // Others took seats of it meanwhile.
                        let mut openings = self.openings.lock();
                        openings.0.entry(class).or_default().waiting.push_front(waiter);
                        return;
                    }
                },
            };
            // A seat that nobody waits for any more goes back by itself.
            let _ = waiter.send(seat);
        }
    }
}

fn ended() -> Error {
    no_answer("the session ended as soon as it was made").with_nothing_changed()
}

/// A session that is being opened; over when this is dropped, whatever has come of it.
struct UnderWay {
    room: Arc<Room>,
    class: Duration,
    made: Result<Arc<Holder>>,
}

impl UnderWay {
    async fn open(mut self) {
        let made = async {
            self.room.control().await?;
            super::setup::open(&self.room, self.class, false).await
        };
        let made = made.await;
        self.made = made;
        drop(self);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        {
            let mut openings = self.room.openings.lock();
            if let Some(of) = openings.0.get_mut(&self.class) {
                of.under_way = of.under_way.saturating_sub(1);
                of.more = false;
                if self.made.is_err() {
                    of.not_before = self.room.now().plus(IN_VAIN);
                }
            }
        }
        self.room.opened(self.class, &self.made);
        self.room.open_more();
    }
}
