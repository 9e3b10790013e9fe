//! Small values with invariants: ttl, seats, fence, priority, times.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, ErrorKind};

/// How long a lease lives without renewal: 100 ms to 30 days.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ttl(Duration);

impl Ttl {
    /// The shortest ttl.
    pub const MIN: Duration = Duration::from_millis(100);
    /// The longest ttl.
    pub const MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);
    /// The ttl when none is named: 30 s.
    pub const DEFAULT: Ttl = Ttl(Duration::from_secs(30));

    /// Checks a ttl.
    ///
    /// # Errors
    /// `Invalid` below [`Ttl::MIN`] or above [`Ttl::MAX`].
    pub fn new(ttl: Duration) -> Result<Self, Error> {
        if ttl < Self::MIN || Self::MAX < ttl {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("a ttl lies between 100 ms and 30 days, this one is {ttl:?}"),
            ));
        }
        Ok(Self(ttl))
    }

    /// The ttl as a duration.
    pub fn get(self) -> Duration {
        self.0
    }
}

/// How many seats of a name a claim takes.
///
/// *All* excludes everybody, whatever the limit of others is: a mutex, a writer. *Some* takes
/// `take` of `of`: one permit of a semaphore is 1 of n, a reader is 1 of [`Seats::MANY`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Seats {
    /// Every seat: nobody else may hold the name.
    All,
    /// `take` seats of `of`.
    Some {
        /// Seats taken, at least 1 and at most `of`.
        take: u32,
        /// Seats there are.
        of: u32,
    },
}

impl Seats {
    /// The limit that readers name: as good as unlimited.
    pub const MANY: u32 = u32::MAX;

    /// One reader among many.
    pub const SHARED: Seats = Seats::Some { take: 1, of: Seats::MANY };

    /// `take` permits of `of`.
    ///
    /// # Errors
    /// `Invalid` if `take` is 0 or above `of`.
    pub fn permits(take: u32, of: u32) -> Result<Self, Error> {
        if take == 0 || of < take {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "a claim takes at least 1 and at most all {of} permits, this one takes {take}"
                ),
            ));
        }
        Ok(Seats::Some { take, of })
    }

    /// Checks seats that were put together by hand.
    ///
    /// # Errors
    /// As [`Seats::permits`].
    pub fn check(self) -> Result<Self, Error> {
        match self {
            Seats::All => Ok(self),
            Seats::Some { take, of } => Self::permits(take, of),
        }
    }

    /// Whether these are all seats.
    pub fn is_all(self) -> bool {
        self == Seats::All
    }
}

impl fmt::Display for Seats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Seats::All => f.write_str("exclusive"),
            Seats::Some { take: 1, of: Seats::MANY } => f.write_str("shared"),
            Seats::Some { take, of } => write!(f, "{take} of {of}"),
        }
    }
}

/// A fencing token: a number that only grows from grant to grant of one name.
///
/// Hand it to the resource that the lock protects and let the resource refuse what is older than
/// the newest it has seen. In JSON it is a string, because many readers of JSON lose bits above
/// 2^53.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Fence(u64);

impl Fence {
    /// Below every fence that was ever granted.
    pub const ZERO: Fence = Fence(0);
    /// The highest fence a store may carry; a record above it is corrupt, so that `next` never
    /// overflows.
    pub const MAX: Fence = Fence(1 << 63);

    /// A fence of this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The fence of the next grant: one more than the last, and never below what the store's
    /// clock or generation demands.
    pub(crate) fn next(self, floor: Fence) -> Fence {
        Fence((self.0 + 1).max(floor.0))
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Fence {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self, Error> {
        s.parse().map(Fence).map_err(|_| {
            Error::new(ErrorKind::Invalid, "a fencing token is a whole number below 2^64")
        })
    }
}

impl Serialize for Fence {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Fence {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A head start in the queue: every point counts as 30 s of waiting ([`Priority::AGING`]).
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(try_from = "i32", into = "i32")]
pub struct Priority(i32);

impl Priority {
    /// What one point is worth.
    pub const AGING: Duration = Duration::from_secs(30);
    /// The lowest priority.
    pub const MIN: i32 = -1000;
    /// The highest priority.
    pub const MAX: i32 = 1000;

    /// Checks a priority.
    ///
    /// # Errors
    /// `Invalid` outside [`Priority::MIN`] ..= [`Priority::MAX`].
    pub fn new(points: i32) -> Result<Self, Error> {
        if !(Self::MIN..=Self::MAX).contains(&points) {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("a priority lies between -1000 and 1000, this one is {points}"),
            ));
        }
        Ok(Self(points))
    }

    /// The points.
    pub fn get(self) -> i32 {
        self.0
    }
}

impl TryFrom<i32> for Priority {
    type Error = Error;
    fn try_from(points: i32) -> Result<Self, Error> {
        Self::new(points)
    }
}

impl From<Priority> for i32 {
    fn from(p: Priority) -> i32 {
        p.0
    }
}

/// A store's time: microseconds since 1970, or since whatever the store counts from.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Micros(pub u64);

impl Micros {
    /// This time plus `d`; stays at the end of time instead of overflowing.
    pub fn plus(self, d: Duration) -> Micros {
        Micros(self.0.saturating_add(micros(d)))
    }

    /// How long it is from `earlier` to this time; zero if `earlier` is later.
    pub fn since(self, earlier: Micros) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// A duration in whole microseconds.
pub(crate) fn micros(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}

/// Durations as whole microseconds in records and JSON.
pub(crate) mod duration_micros {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(d: &Duration, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u64(micros(*d))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        u64::deserialize(d).map(Duration::from_micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ttl_outside_its_range_is_refused() {
        for bad in [
            Duration::ZERO,
            Duration::from_nanos(1),
            Duration::from_millis(99),
            Duration::from_secs(49 * 24 * 60 * 60),
            Duration::MAX,
        ] {
            assert_eq!(Ttl::new(bad).unwrap_err().kind(), ErrorKind::Invalid);
        }
        assert!(Ttl::new(Ttl::MIN).is_ok() && Ttl::new(Ttl::MAX).is_ok());
    }

    #[test]
    fn permits_outside_their_range_are_refused() {
        assert!(Seats::permits(0, 3).is_err());
        assert!(Seats::permits(4, 3).is_err());
        assert!(Seats::permits(0, 0).is_err());
        assert!(Seats::permits(3, 3).is_ok());
    }

    #[test]
    fn a_fence_is_a_string_in_json_and_never_falls() {
        assert_eq!(
            serde_json::to_string(&Fence::new(u64::MAX)).unwrap(),
            "\"18446744073709551615\""
        );
        assert!(serde_json::from_str::<Fence>("7").is_err());
        assert_eq!("9007199254740993".parse::<Fence>().unwrap().get(), 9_007_199_254_740_993);
        assert!("x".parse::<Fence>().is_err());
        assert_eq!(Fence::new(7).next(Fence::new(3)), Fence::new(8));
        assert_eq!(Fence::new(7).next(Fence::new(30)), Fence::new(30));
    }
}
