//! What looks at a deployment have in common, for the crates of stores: a lock that is tried, round
//! trips and clocks that are judged. What else there is to look at, each store knows by itself.

mod timing;
mod trial;

pub use timing::{ClockSeen, RoundTrips, clock};
pub use trial::{Trial, handed_over};

use crate::finding::{Finding, Standing};

/// Something that is as locks need it.
pub fn good(what: &'static str, says: impl Into<String>) -> Finding {
    Finding::new(what, Standing::Good, says)
}

/// Something that this user may not ask; `right` is what it lacks, as the store calls it.
pub fn not_known(what: &'static str, of: &str, right: &str) -> Finding {
    Finding::new(what, Standing::Unknown, format!("{of} is not known: this user may not ask"))
        .with_help(format!("give it the right {right}, or ask whoever runs the server"))
        .with_fact("missing", right)
}
