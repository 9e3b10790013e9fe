//! How long a session may be silent: the ttl of its locks, rounded up to one of a few.

use std::time::Duration;

/// What ttls are rounded up to; sessions of one class share the server's timeout.
const CLASSES: [Duration; 7] = [
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(30),
    Duration::from_secs(60),
    Duration::from_secs(300),
    LONGEST,
];
/// The longest ttl.
pub(crate) const LONGEST: Duration = Duration::from_secs(3600);

/// The class of a ttl.
pub(crate) fn class(ttl: Duration) -> Duration {
    CLASSES.into_iter().find(|class| ttl <= *class).unwrap_or(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_class_is_shorter_than_its_ttl() {
        for (ms, secs) in [(100, 2), (2000, 2), (2001, 5), (30_000, 30), (301_000, 3600)] {
            assert_eq!(class(Duration::from_millis(ms)), Duration::from_secs(secs));
        }
        assert!(CLASSES.is_sorted());
    }
}
