//! The checks, one file each: a function from a [`Timeline`](super::timeline::Timeline) to a [`Finding`].
//!
//! | file | check | promise |
//! |---|---|---|
//! | `exclusion` | no two conflicting grants are valid at once | G1 |
//! | `fence` | every grant has its own fence, and a later grant a higher one | G2 |
//! | `resource` | the register took no stale write and lost no increment | G2 |
//! | `truth` | a lost guard says so in time and for good; "released" is true | G3, G4 |
//! | `leak` | nothing is left behind | G5 |
//! | `waiters` | every waiter ends, and a free lock does not stay free beside one | G6 |
//! | `order` | grants follow the order key | G7 |

pub mod exclusion;
pub mod fence;
pub mod leak;
pub mod order;
pub mod resource;
pub mod truth;
pub mod waiters;

use serde::Serialize;

use super::timeline::{Who, Window};

/// The checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Check {
    /// [`exclusion::check`].
    Exclusion,
    /// [`fence::check`].
    Fence,
    /// [`resource::check`].
    Resource,
    /// [`truth::loss`].
    Loss,
    /// [`truth::release`].
    Release,
    /// [`leak::check`].
    Leak,
    /// [`waiters::check`].
    Waiters,
    /// [`order::check`].
    Order,
}

/// What a check found.
#[derive(Debug, Clone)]
pub struct Finding {
    /// Which check.
    pub check: Check,
    /// How often the run gave the promise an occasion to be broken.
    pub exercised: u64,
    /// Every time it was broken.
    pub violations: Vec<Violation>,
    /// What was measured, for people.
    pub measured: String,
}

/// One time a promise was broken.
#[derive(Debug, Clone)]
pub struct Violation {
    /// What happened, in a sentence.
    pub what: String,
    /// Whose attempts one has to look at to see it.
    pub who: Vec<Who>,
    /// Where one has to look, if it happened at a time.
    pub window: Option<Window>,
}

impl Finding {
    fn new(check: Check) -> Self {
        Finding { check, exercised: 0, violations: Vec::new(), measured: String::new() }
    }
}

/// Nanoseconds for people: milliseconds with three decimals.
pub(crate) fn ms(ns: u64) -> String {
    format!("{}.{:03} ms", ns / 1_000_000, ns / 1_000 % 1_000)
}
