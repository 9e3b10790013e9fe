//! Waiting for an observed state, for a bounded time.

use std::time::Duration;

use crate::history::now_ns;

/// How long to wait between two looks.
const GLANCE: Duration = Duration::from_millis(2);

/// Waits until `look` finds something, and answers that; `None` if it does not within `limit`.
///
/// It looks at least once. It blocks its thread.
pub fn look_for<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let give_up = now_ns().saturating_add(u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX));
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if give_up <= now_ns() {
            return None;
        }
        nap(GLANCE);
    }
}

/// Waits until something is so. It blocks its thread.
///
/// # Panics
/// If it is not so within `limit`, with `what`.
pub fn until(limit: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let found = look_for(limit, || is_so().then_some(()));
    assert!(found.is_some(), "not within {limit:?}: {what}");
}

#[allow(clippy::disallowed_methods, reason = "other processes are looked at again and again")]
fn nap(time: Duration) {
    std::thread::sleep(time);
}
