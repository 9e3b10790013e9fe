//! Faults that a seed chooses.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::fault::{Direction, End, Fault, Mutation, Scope};
use super::front::FaultProxy;
use crate::history::now_ns;

/// The shortest time for which something is wrong.
const SHORTEST: Duration = Duration::from_millis(2);
/// How many bytes pass at most before a connection ends in the midst of them.
const MOST_BYTES: u64 = 512;

/// A time in which faults come and go, as a seed has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Storm {
    seed: u64,
    lasts: Duration,
    intensity: f64,
    longest: Duration,
    lies: bool,
}

/// Something that goes wrong for a while.
#[derive(Debug, Clone, PartialEq)]
pub struct Gust {
    /// How long all is well before it.
    pub after: Duration,
    /// What goes wrong.
    pub deed: Deed,
    /// For how long.
    pub lasts: Duration,
}

/// What a gust does.
#[derive(Debug, Clone, PartialEq)]
pub enum Deed {
    /// A fault of one direction.
    OneWay(Direction, Fault),
    /// A fault of both directions.
    BothWays(Fault),
    /// All connections are reset.
    Cut,
    /// All connections are half open.
    HalfOpen,
    /// All connections are reset, and new ones refused.
    Refuse,
    /// A request is lost.
    LoseRequest,
    /// A reply is lost.
    LoseReply,
}

impl Storm {
    /// A storm of this length. `intensity` is the share of the time in which something is wrong,
    /// from 0 to 1.
    ///
    /// Bytes arrive as they were sent, or not at all.
    #[must_use]
    pub fn new(seed: u64, lasts: Duration, intensity: f64) -> Self {
        let intensity = intensity.clamp(0.0, 1.0);
        Self { seed, lasts, intensity, longest: Duration::from_millis(300), lies: false }
    }

    /// The longest time for which the same thing is wrong, 300 ms unless this says otherwise: take
    /// that of the test's TTL, and somewhat more.
    #[must_use]
    pub fn longest(mut self, longest: Duration) -> Self {
        self.longest = longest.max(SHORTEST);
        self
    }

    /// Replies are mutated as well. No lock is safe with a store that lies; but its users shall
    /// neither hang nor crash.
    #[must_use]
    pub fn with_lies(mut self) -> Self {
        self.lies = true;
        self
    }

    /// Runs a storm with this seed, length and intensity; heals in between, and in the end. It
    /// blocks its thread.
    ///
    /// # Panics
    /// If the proxy does not do what it is told.
    pub fn run(proxy: &FaultProxy, seed: u64, lasts: Duration, intensity: f64) -> Vec<Gust> {
        Self::new(seed, lasts, intensity).run_on(proxy)
    }

    /// Runs it, and answers what happened; heals in between, and in the end, also if it panics. It
    /// blocks its thread.
    ///
    /// # Panics
    /// If the proxy does not do what it is told.
    pub fn run_on(&self, proxy: &FaultProxy) -> Vec<Gust> {
        let _healed = Healed(proxy);
        let plan = self.plan();
        let mut now = now_ns();
        for gust in &plan {
            now += nanos(gust.after);
            wait_until(now);
            gust.deed.begin(proxy);
            now += nanos(gust.lasts);
            wait_until(now);
            proxy.heal();
        }
        plan
    }

    /// What will happen: it comes from the seed alone.
    #[must_use]
    pub fn plan(&self) -> Vec<Gust> {
        let mut rng = StdRng::seed_from_u64(self.seed);
        let mut plan = Vec::new();
        let mut left = self.lasts;
        while self.intensity > 0.0 && SHORTEST < left {
            let lasts = SHORTEST + self.longest.saturating_sub(SHORTEST).mul_f64(rng.random());
            let after = lasts.mul_f64((1.0 / self.intensity - 1.0).min(1e6));
            // Less regular, with the same mean.
            let after = after.mul_f64(2.0 * rng.random::<f64>()).min(left);
            let lasts = lasts.min(left - after);
            plan.push(Gust { after, deed: self.deed(&mut rng), lasts });
            left -= after + lasts;
        }
        plan
    }

    fn deed(&self, rng: &mut StdRng) -> Deed {
        let direction = Direction::BOTH[usize::from(rng.random::<bool>())];
        let up_to = |rng: &mut StdRng| self.longest.mul_f64(rng.random());
        let after =
            |end, rng: &mut StdRng| Fault::After { bytes: rng.random_range(0..MOST_BYTES), end };
        match rng.random_range(0..if self.lies { 16 } else { 14 }) {
            0 => Deed::OneWay(direction, Fault::Stall),
            1 => Deed::BothWays(Fault::Stall),
            2 => Deed::OneWay(direction, Fault::Swallow),
            3 => Deed::BothWays(Fault::Swallow),
            4 => Deed::BothWays(Fault::Delay { by: up_to(rng), jitter: up_to(rng) }),
            5 => Deed::OneWay(direction, Fault::Delay { by: up_to(rng), jitter: up_to(rng) }),
            6 => Deed::BothWays(Fault::Drip { bytes: 1, every: Duration::from_millis(1) }),
            7 => Deed::OneWay(direction, after(End::Silence, rng)),
            8 => Deed::OneWay(direction, after(End::Reset, rng)),
            9 => Deed::OneWay(direction, after(End::Eof, rng)),
            10 => [Deed::Cut, Deed::HalfOpen][usize::from(rng.random::<bool>())].clone(),
            11 => Deed::Refuse,
            12 => Deed::LoseRequest,
            13 => Deed::LoseReply,
            _ => {
                let all = [Mutation::Flip, Mutation::Insert, Mutation::Delete];
                let how = all[rng.random_range(0..all.len())];
                let one_in = rng.random_range(1..100);
                Deed::OneWay(Direction::ToClient, Fault::Mutate { how, one_in })
            }
        }
    }
}

impl Deed {
    fn begin(&self, proxy: &FaultProxy) {
        match self {
            Self::OneWay(direction, fault) => proxy.set(*direction, fault.clone()),
            Self::BothWays(fault) => proxy.set_both(fault.clone()),
            Self::Cut => proxy.cut(),
            Self::HalfOpen => proxy.half_open(Scope::All),
            Self::Refuse => {
                proxy.refuse();
                proxy.cut();
            }
            Self::LoseRequest => proxy.lose_next_request(),
            Self::LoseReply => proxy.lose_next_reply(),
        }
    }
}

/// Heals when it is dropped.
struct Healed<'a>(&'a FaultProxy);

impl Drop for Healed<'_> {
    fn drop(&mut self) {
        self.0.heal();
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[allow(clippy::disallowed_methods, reason = "the schedule of faults is real time")]
fn wait_until(then: u64) {
    std::thread::sleep(Duration::from_nanos(then.saturating_sub(now_ns())));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn storm(seed: u64, intensity: f64) -> Vec<Gust> {
        Storm::new(seed, Duration::from_secs(60), intensity).plan()
    }

    #[test]
    fn the_seed_decides() {
        assert_eq!(storm(1, 0.5), storm(1, 0.5));
        assert_ne!(storm(1, 0.5), storm(2, 0.5));
    }

    #[test]
    fn the_intensity_is_the_share_of_bad_times() {
        for (intensity, range) in [(0.2, 9.0..15.0), (0.8, 45.0..51.0), (1.0, 59.9..60.1)] {
            let bad: Duration = storm(1, intensity).iter().map(|gust| gust.lasts).sum();
            assert!(range.contains(&bad.as_secs_f64()), "{intensity}: {bad:?}");
        }
        assert_eq!(storm(1, 0.0), []);
    }

    #[test]
    fn a_storm_lasts_as_long_as_it_shall() {
        let all: Duration = storm(1, 0.5).iter().map(|gust| gust.after + gust.lasts).sum();
        assert!((59.9..60.1).contains(&all.as_secs_f64()), "{all:?}");
    }

    #[test]
    fn nothing_is_mutated_unless_that_is_asked_for() {
        let lie = |gust: &Gust| matches!(gust.deed, Deed::OneWay(_, Fault::Mutate { .. }));
        let storm = Storm::new(1, Duration::from_secs(600), 1.0);
        assert!(!storm.plan().iter().any(lie));
        assert!(storm.with_lies().plan().iter().any(lie));
    }
}
