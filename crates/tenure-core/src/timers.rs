//! What is due when: a wheel of millisecond ticks, cheap enough to take part in every acquire
//! and release.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::clock::Moment;
use crate::stripes::{self, Stripes};

/// A tick is 2^20 ns, about a millisecond; what is due is up to one tick late, never early.
const TICK_BITS: u32 = 20;
/// `earliest` while the keeper is awake: every new timer has to wake it again.
const AWAKE: u64 = u64::MAX;

/// Timers of `T`, set from any thread, collected by the keeper.
pub(crate) struct Timers<T> {
    shards: Stripes<Mutex<Shard<T>>>,
    /// Until when the keeper sleeps, in ticks.
    earliest: AtomicU64,
    wake: Notify,
}

struct Shard<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    wheel: BTreeMap<u64, Vec<u32>>,
}

struct Slot<T> {
    /// Counts the uses of this slot, so that an old key finds nothing.
    generation: u32,
    item: Option<T>,
    /// The tick it is scheduled for and its place there.
    due: Option<(u64, u32)>,
}

/// A timer that was set; valid until it is removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TimerKey {
    shard: u8,
    slot: u32,
    generation: u32,
}

impl<T: Clone> Timers<T> {
    pub(crate) fn new() -> Self {
        let shard =
            || Mutex::new(Shard { slots: Vec::new(), free: Vec::new(), wheel: BTreeMap::new() });
        Self { shards: Stripes::new(shard), earliest: AtomicU64::new(AWAKE), wake: Notify::new() }
    }

    /// Adds `item`, due at `at`.
    pub(crate) fn insert(&self, item: T, at: Moment) -> TimerKey {
        let shard = stripes::mine();
        let tick = tick_of(at);
        let (slot, generation) = self.shards.at(shard).lock().insert(item, tick);
        self.wake_if_before(tick);
        TimerKey { shard, slot, generation }
    }

    /// Makes a timer due at `at` instead; does nothing if it was removed.
    pub(crate) fn reschedule(&self, key: TimerKey, at: Moment) {
        let tick = tick_of(at);
        if self.shards.at(key.shard).lock().reschedule(key, tick) {
            self.wake_if_before(tick);
        }
    }

    /// Removes a timer.
    pub(crate) fn remove(&self, key: TimerKey) {
        self.shards.at(key.shard).lock().remove(key);
    }

    /// Collects what is due at `now`. It stays known, but is not due again until it is
    /// rescheduled.
    pub(crate) fn take_due(&self, now: Moment) -> Vec<(TimerKey, T)> {
        self.earliest.store(AWAKE, Ordering::SeqCst);
        let tick = now.as_nanos() >> TICK_BITS;
        let mut due = Vec::new();
        for (shard, timers) in self.shards.numbered() {
            timers.lock().take_due(tick, shard, &mut due);
        }
        due
    }

    /// When the next timer is due. From here on only an earlier timer wakes the keeper.
    pub(crate) fn fall_asleep(&self) -> Moment {
        let next = self.shards.iter().filter_map(|s| s.lock().wheel.keys().next().copied()).min();
        let next = next.unwrap_or(AWAKE - 1);
        // A timer set since its shard was looked at saw `AWAKE` and left a wake-up behind.
        self.earliest.store(next, Ordering::SeqCst);
        Moment::from_nanos(next.saturating_mul(1 << TICK_BITS))
    }

    /// Wakes the keeper.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Resolves when the keeper should look again.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// How many timers there are.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|s| s.lock().len()).sum()
    }

    /// Everything that is known.
    pub(crate) fn all(&self) -> Vec<T> {
        let mut all = Vec::new();
        for shard in self.shards.iter() {
            all.extend(shard.lock().slots.iter().filter_map(|s| s.item.clone()));
        }
        all
    }

    fn wake_if_before(&self, tick: u64) {
        if tick < self.earliest.load(Ordering::SeqCst) {
            self.wake();
        }
    }
}

/// The first tick that lies wholly at or after `at`.
fn tick_of(at: Moment) -> u64 {
    (at.as_nanos() >> TICK_BITS) + u64::from(at.as_nanos() & ((1 << TICK_BITS) - 1) != 0)
}

impl<T: Clone> Shard<T> {
    fn insert(&mut self, item: T, tick: u64) -> (u32, u32) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, item: None, due: None });
            u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 timers")
        });
        self.slots[slot as usize].item = Some(item);
        self.schedule(slot, tick);
        (slot, self.slots[slot as usize].generation)
    }

    fn schedule(&mut self, slot: u32, tick: u64) {
        let bucket = self.wheel.entry(tick).or_default();
        bucket.push(slot);
        let at = u32::try_from(bucket.len() - 1).expect("fewer than 2^32 timers");
        self.slots[slot as usize].due = Some((tick, at));
    }

    fn unschedule(&mut self, slot: u32) {
        let Some((tick, at)) = self.slots[slot as usize].due.take() else {
            return;
        };
        let bucket = self.wheel.get_mut(&tick).expect("a scheduled slot is in its bucket");
        bucket.swap_remove(at as usize);
        if let Some(moved) = bucket.get(at as usize) {
            self.slots[*moved as usize].due = Some((tick, at));
        }
        if bucket.is_empty() {
            self.wheel.remove(&tick);
        }
    }

    fn known(&self, key: TimerKey) -> bool {
        let slot = &self.slots[key.slot as usize];
        slot.generation == key.generation && slot.item.is_some()
    }

    fn reschedule(&mut self, key: TimerKey, tick: u64) -> bool {
        if !self.known(key) {
            return false;
        }
        self.unschedule(key.slot);
        self.schedule(key.slot, tick);
        true
    }

    fn remove(&mut self, key: TimerKey) {
        if !self.known(key) {
            return;
        }
        self.unschedule(key.slot);
        let slot = &mut self.slots[key.slot as usize];
        slot.item = None;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(key.slot);
    }

    fn take_due(&mut self, tick: u64, shard: u8, due: &mut Vec<(TimerKey, T)>) {
        while let Some(bucket) = self.wheel.first_entry()
            && *bucket.key() <= tick
        {
            for slot in bucket.remove() {
                let entry = &mut self.slots[slot as usize];
                entry.due = None;
                let item = entry.item.clone().expect("a scheduled slot has an item");
                due.push((TimerKey { shard, slot, generation: entry.generation }, item));
            }
        }
    }

    fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

impl<T: Clone> std::fmt::Debug for Timers<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timers").field("len", &self.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(millis: u64) -> Moment {
        Moment::default().plus(Duration::from_millis(millis))
    }

    fn due(timers: &Timers<u32>, millis: u64) -> Vec<u32> {
        let mut due: Vec<u32> =
            timers.take_due(at(millis)).into_iter().map(|(_, item)| item).collect();
        due.sort_unstable();
        due
    }

    #[test]
    fn timers_are_due_in_time_and_never_early() {
        let timers = Timers::new();
        timers.insert(1, at(10));
        timers.insert(2, at(20));
        assert_eq!(due(&timers, 9), [0; 0]);
        assert_eq!(due(&timers, 12), [1]);
        assert_eq!(due(&timers, 12), [0; 0], "it is not due twice");
        assert_eq!(due(&timers, 1_000), [2]);
    }

    #[test]
    fn a_removed_timer_is_gone_and_its_old_key_finds_nothing() {
        let timers = Timers::new();
        let first = timers.insert(1, at(10));
        timers.remove(first);
        let second = timers.insert(2, at(10));
        timers.remove(first);
        timers.reschedule(first, at(1));
        assert_eq!(due(&timers, 5), [0; 0]);
        assert_eq!(due(&timers, 12), [2]);
        timers.reschedule(second, at(20));
        assert_eq!(due(&timers, 22), [2]);
        timers.remove(second);
        assert_eq!(timers.len(), 0);
    }

    #[test]
    fn removing_from_the_middle_of_a_tick_keeps_the_others() {
        let timers = Timers::new();
        let keys: Vec<_> = (0..10).map(|n| timers.insert(n, at(10))).collect();
        for n in [0, 9, 4] {
            timers.remove(keys[n]);
        }
        assert_eq!(due(&timers, 20), [1, 2, 3, 5, 6, 7, 8]);
    }

    #[tokio::test]
    async fn an_earlier_timer_wakes_the_sleeper_and_a_later_one_does_not() {
        let timers = Timers::new();
        timers.take_due(at(0));
        timers.insert(1, at(100));
        timers.woken().await;
        assert!(at(100) <= timers.fall_asleep());
        timers.insert(2, at(200));
        assert!(futures_lite::future::poll_once(timers.woken()).await.is_none());
        timers.insert(3, at(50));
        timers.woken().await;
    }
}
